"""Serves the example site of docs/django over WSGI, with eight threads, until its standard input is closed. Argument: the port.

What the site logged as an error is told at /tracebacks: how many there were, and the first.
"""

import json
import logging
import os
import sys
import threading
import wsgiref.simple_server
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "docs/django"))
sys.dont_write_bytecode = True
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.management import call_command  # noqa: E402
from shop.wsgi import application  # noqa: E402


class Tracebacks(logging.Handler):
    """Errors with a traceback, as whoever runs the site would have to read them."""

    told = []

    def emit(self, record):
        if record.exc_info:
            self.told.append(logging.Formatter().format(record))


def site(environ, start_response):
    if environ["PATH_INFO"] != "/tracebacks":
        return application(environ, start_response)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([len(Tracebacks.told), *Tracebacks.told[:1]]).encode()]


class Server(wsgiref.simple_server.WSGIServer):
    """Its threads stay, and with them the clients that Django keeps for each thread."""

    request_queue_size = 128
    pool = ThreadPoolExecutor(8)

    def process_request(self, request, client_address):
        self.pool.submit(self.serve, request, client_address)

    def serve(self, request, client_address):
        try:
            self.finish_request(request, client_address)
        except ConnectionError:
            pass  # the visitor has left
        finally:
            self.shutdown_request(request)


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return self.client_address[0]


def main():
    logging.getLogger("django").addHandler(Tracebacks(logging.ERROR))
    call_command("migrate", verbosity=0)
    server = wsgiref.simple_server.make_server("127.0.0.1", int(sys.argv[1]), site, Server, Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


main()

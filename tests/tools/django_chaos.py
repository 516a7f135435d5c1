#!/usr/bin/env python3
"""The same Django site, the same load and the same faults, through softmiss and through nutcracker (twemproxy).

    target/venv/bin/python tests/tools/django_chaos.py PROGRAM [SECONDS [BACKEND ...]]

PROGRAM is a release build of softmiss; memcached, redis-server and nutcracker must be installed, and tests/setup.sh have been
run. The site is that of docs/django, with sessions in `cached_db`, eight threads and twelve visitors (tests/it/django). A
BACKEND is pymemcache, pylibmc, redis or django-redis; all of them if none is said. Each fault lasts SECONDS (6), and so does
the time between two: one node of three killed, one hung (SIGSTOP), all killed, each then brought back.

Both proxies have the same three nodes, ketama, `timeout: 400`, `auto_eject_hosts: true`, `server_retry_timeout: 2000`;
twemproxy once with `server_failure_limit: 3` and once with 1, as it recommends, softmiss with the file of docs/django. Pages
that one of them cannot serve while all nodes are well are left out for all, and named: twemproxy knows no flush_all, no MULTI
and no FLUSHDB. For its sake the Redis clients speak RESP2 and do not tell their name.

`exceptions` are tracebacks in the site's log, those behind an error page and those that Django only writes down.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from processes import free_port, start

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/it/django"))
import visitors  # noqa: E402

BACKENDS = ["pymemcache", "pylibmc", "redis", "django-redis"]
VISITORS = 12
PROXIES = ["softmiss", "twemproxy, limit 3", "twemproxy, limit 1"]

SETTINGS = """from shop.settings import *
if CACHE == "redis":
    CACHES["default"]["OPTIONS"] |= {"protocol": 2, "lib_name": None, "lib_version": None}
if CACHE == "django-redis":
    CACHES["default"]["OPTIONS"]["CONNECTION_POOL_KWARGS"] = {"protocol": 2, "lib_name": None, "lib_version": None}
"""


class Node:
    def __init__(self, is_redis, folder):
        self.port = free_port()
        if is_redis:
            self.command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        else:
            self.command = ["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-t", "1", "-u", "nobody"]
        self.run()

    def run(self):
        self.process = start(self.command, self.port)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Stage:
    """Three nodes, a proxy, and the site, for as long as a `with` lasts."""

    def __init__(self, backend, proxy, program):
        self.ends = contextlib.ExitStack()
        is_redis = "redis" in backend
        folder = self.ends.enter_context(tempfile.TemporaryDirectory())
        self.nodes = [Node(is_redis, folder) for _ in range(3)]
        for node in self.nodes:
            self.ends.callback(node.kill)
        listen, stats, site = free_port(), free_port(), free_port()
        file = os.path.join(folder, "proxy.yml")
        if proxy == "softmiss":
            first, second = (ROOT / "docs/django/softmiss.yml").read_text().split("\nredis-cache:\n")
            pool = "redis-cache:\n" + second if is_redis else first
            for name, port in zip((21211, 21221, 21222, 21223), (listen, *(node.port for node in self.nodes))):
                pool = pool.replace(f"127.0.0.1:{name}", f"127.0.0.1:{port}")
            for name, port in zip((16379, 16381, 16382, 16383), (listen, *(node.port for node in self.nodes))):
                pool = pool.replace(f"127.0.0.1:{name}", f"127.0.0.1:{port}")
            command = [program, "-c", file, "-s", str(stats), "--admin", "none"]
        else:
            servers = "".join(f"    - 127.0.0.1:{node.port}:1 node-{name}\n" for name, node in zip("abc", self.nodes))
            pool = (
                f"cache:\n  listen: 127.0.0.1:{listen}\n  hash: fnv1a_64\n  distribution: ketama\n  timeout: 400\n"
                f"  redis: {str(is_redis).lower()}\n  auto_eject_hosts: true\n  server_retry_timeout: 2000\n"
                f"  server_failure_limit: {proxy[-1]}\n  servers:\n{servers}"
            )
            command = ["nutcracker", "-c", file, "-s", str(stats), "-a", "127.0.0.1", "-o", os.path.join(folder, "log")]
        Path(file).write_text(pool)
        self.ends.callback(start(command, listen).kill)
        Path(folder, "with_either.py").write_text(SETTINGS)
        environment = os.environ | {
            "CACHE": backend,
            "CACHE_AT": f"127.0.0.1:{listen}",
            "SESSIONS": "cached_db",
            "DATABASE": os.path.join(folder, "db.sqlite3"),
            "DJANGO_SETTINGS_MODULE": "with_either",
            "PYTHONPATH": folder,
        }
        command = [sys.executable, str(ROOT / "tests/it/django/serve.py"), str(site)]
        serve = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ends.callback(serve.kill)
        while True:
            try:
                socket.create_connection(("127.0.0.1", site), 1).close()
                break
            except OSError:
                if serve.poll() is not None:
                    raise
                time.sleep(0.1)
        self.base = f"http://127.0.0.1:{site}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.close()

    def tracebacks(self):
        with urllib.request.urlopen(self.base + "/tracebacks", timeout=60) as answer:
            return json.load(answer)


def served(backend, proxy, program):
    """The pages that are served while all nodes are well, and without a traceback."""
    with Stage(backend, proxy, program) as stage:
        fine = []
        for page in visitors.PAGES:
            ledger = visitors.Ledger()
            before = stage.tracebacks()[0]
            for number in range(6):
                visitor = visitors.Visitor(stage.base, number, ledger, "restarting")
                visitor.visit("home")
                visitor.visit(page)
            if set(ledger.statuses) == {200} and not ledger.wrong and stage.tracebacks()[0] == before:
                fine.append(page)
        return fine


def faults(nodes, seconds, at):
    """Lets the nodes fail, and notes when what began."""
    first, second, _ = nodes

    def phase(name):
        at.append((time.monotonic(), name))
        time.sleep(seconds)

    phase("well")
    first.kill()
    phase("one killed")
    first.run()
    phase("back")
    second.process.send_signal(signal.SIGSTOP)
    phase("one hung")
    second.process.send_signal(signal.SIGCONT)
    phase("back")
    for node in nodes:
        node.kill()
    phase("all killed")
    for node in nodes:
        node.run()
    phase("back")


def play(backend, proxy, program, seconds, pages):
    with Stage(backend, proxy, program) as stage:
        ledger, ended, at = visitors.Ledger(), threading.Event(), []
        # Whose counter may have gone back (a hung node comes back as it was) is no failure here; whose session it is, is.
        threads = [
            threading.Thread(target=visitors.Visitor(stage.base, number, ledger, "lossy", pages).go_on, args=[ended])
            for number in range(VISITORS)
        ]
        for thread in threads:
            thread.start()
        faults(stage.nodes, seconds, at)
        ended.set()
        for thread in threads:
            thread.join()
        found = ledger.report() | {"exceptions": stage.tracebacks(), "by_fault": {}}
        for when, status in ledger.log:
            name = next((name for since, name in reversed(at) if since <= when), "well")
            counts = found["by_fault"].setdefault(name, [0, 0])
            counts[0] += 1
            counts[1] += status != 200
        return found


def main():
    if len(sys.argv) < 2 or "--help" in sys.argv:
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 6
    rows = []
    head = ["backend", "through", "requests", "other than 200", "exceptions", "unanswered", "wrong", "slowest ms", "p99 ms"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for backend in sys.argv[3:] or BACKENDS:
        fine = [served(backend, proxy, program) for proxy in PROXIES[:2]]
        pages = {page: weight for page, weight in visitors.PAGES.items() if all(page in one for one in fine)}
        left_out = {proxy: [page for page in visitors.PAGES if page not in one] for proxy, one in zip(PROXIES, fine)}
        for proxy in PROXIES:
            found = play(backend, proxy, program, seconds, pages)
            figures = [found["requests"], found["other_than_200"], found["exceptions"][0], found["unanswered"]]
            figures += [found["wrong"], found["slowest_ms"], found["p99_ms"]]
            print("| " + " | ".join([backend, proxy, *map(str, figures)]) + " |", flush=True)
            rows.append((backend, proxy, found, left_out))
    print()
    for backend, proxy, found, left_out in rows:
        if proxy == PROXIES[0]:
            print(f"{backend}: left out, as not served with all nodes well: {left_out}")
        by_fault = ", ".join(f"{name} {bad} of {all_of}" for name, (all_of, bad) in found["by_fault"].items())
        print(f"{backend}, {proxy}: other than 200 by fault: {by_fault}; statuses {dict(found['statuses'])}")
        if found["exceptions"][0]:
            print("    " + found["exceptions"][1].strip().splitlines()[-1])
        if found["wrong"]:
            print("    " + "\n    ".join(found["wrongs"]))


main()

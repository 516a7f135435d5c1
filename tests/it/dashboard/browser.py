"""A headless Chromium that does what it is told, line by line: the eyes of tests/it/dashboard.rs.

usage: browser.py URL

Each line of stdin is a JSON array, each answer a line of JSON on stdout:

    ["ask", EXPRESSION]        the value of a JavaScript expression
    ["size", WIDTH, HEIGHT]    sets the window's size, as a phone's when it is narrow
    ["scheme", "dark"]         sets prefers-color-scheme
    ["shot", FILE]             a picture of the whole page
    ["complaints"]             console errors, warnings and uncaught exceptions so far

The browser is ended when stdin is closed.
"""

import base64
import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

from websockets.sync.client import connect

# It may run as root, where the sandbox does not, and must not talk to the world.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]


class Page:
    def __init__(self, profile, stack):
        self.stack = stack
        port_file = pathlib.Path(profile, "DevToolsActivePort")
        limit = time.monotonic() + 15
        while not port_file.exists() or not port_file.read_text().strip():
            if time.monotonic() > limit:
                sys.exit("chromium does not start")
            time.sleep(0.02)
        port = port_file.read_text().split()[0]
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10))
        page = next(page for page in pages if page["type"] == "page")
        self.socket = self.stack.enter_context(connect(page["webSocketDebuggerUrl"], max_size=None))
        self.next = 0
        self.complaints = []

    def call(self, method, **params):
        self.next += 1
        self.socket.send(json.dumps({"id": self.next, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=10))
            if message.get("id") == self.next:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.note(message)

    def note(self, message):
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(part.get("value", part.get("description"))) for part in params["args"]))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])

    def do(self, command, *arguments):
        if command == "ask":
            result = self.call("Runtime.evaluate", expression=arguments[0], returnByValue=True, awaitPromise=True)
            if "exceptionDetails" in result:
                raise RuntimeError(f"{arguments[0]}: {result['exceptionDetails']}")
            return result["result"].get("value")
        if command == "size":
            width, height = arguments
            self.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
            )
        elif command == "scheme":
            features = [{"name": "prefers-color-scheme", "value": arguments[0]}]
            self.call("Emulation.setEmulatedMedia", features=features)
        elif command == "shot":
            picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
            pathlib.Path(arguments[0]).write_bytes(base64.b64decode(picture["data"]))
        elif command == "complaints":
            self.call("Runtime.evaluate", expression="0")
            return self.complaints
        else:
            raise RuntimeError(f"no such command: {command}")
        return None


def main():
    profile = tempfile.mkdtemp(prefix="softmiss-browser-")
    command = ["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with contextlib.ExitStack() as stack:
            page = Page(profile, stack)
            for domain in ("Runtime", "Log", "Page"):
                page.call(f"{domain}.enable")
            page.do("size", 1280, 900)
            page.call("Page.navigate", url=sys.argv[1])
            print(json.dumps("ready"), flush=True)
            for line in sys.stdin:
                print(json.dumps(page.do(*json.loads(line))), flush=True)
    finally:
        browser.terminate()
        browser.wait()
        shutil.rmtree(profile, ignore_errors=True)


main()

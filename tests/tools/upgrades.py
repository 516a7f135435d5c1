#!/usr/bin/env python3
"""What clients notice of upgrades: real clients ask all the time while one process after the other takes over.

    upgrades.py PROGRAM [UPGRADES [SECONDS]]

PROGRAM is softmiss; memcached, redis-server, and the Python packages pymemcache, pylibmc and redis must be there. UPGRADES
(20) are spread over SECONDS (60), and each changes the number of workers. Clients ask over TCP and over unix sockets; each
answer is compared with what its key must have, others connect again and again, and connections that have set something up
(HELLO 3, SELECT, CLIENT SETNAME) are asked for it after each upgrade. It ends with 1 if there was anything to tell.
"""

import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time

from reloads import CLIENTS, Load, Stage

WORKERS = [1, 4, 2]


class Succeeded(Stage):
    """The stage of reloads, with unix sockets, and a proxy that other processes take over from."""

    def __init__(self, program, folder):
        self.number = 0
        super().__init__(program, folder)
        self.pid = self.proxy.pid

    def local(self, name):
        return os.path.join(self.folder, name + ".socket")

    def write(self, first=False):
        text = f"softmiss:\n  admin: 127.0.0.1:{self.admin}\n  stats: none\n  workers: {WORKERS[self.number % len(WORKERS)]}\n"
        for name, port in self.pools.items():
            for listen in (f"127.0.0.1:{port}", self.local(name)):
                text += f"{name}{'u' * listen.startswith('/')}:\n  listen: {listen}\n  auto_eject_hosts: true\n  timeout: 2000\n"
                text += "  redis: true\n" if name == "r" else ""
                text += "  servers:\n"
                text += "".join(f"  - 127.0.0.1:{place}:1 s{index}\n" for index, place in enumerate(self.servers[name]))
        self.number += 1
        with open(self.file, "w", encoding="ascii") as out:
            out.write(text)

    def upgrade(self):
        """Has another process take over. For how long the one before it was there beside it, in seconds."""
        self.write()
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=30)
        connection.request("POST", "/upgrade")
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"no upgrade: {body}")
        before, self.pid, began = self.pid, json.loads(body)["pid"], time.monotonic()
        while runs(before):
            if time.monotonic() > began + 10:
                raise RuntimeError(f"process {before} does not end")
            time.sleep(0.005)
        return time.monotonic() - began

    def figures(self):
        """Resident kilobytes, descriptors, and threads of the process that serves."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as lines:
            told = dict(line.split(":", 1) for line in lines)
        return int(told["VmRSS"].split()[0]), len(os.listdir(f"/proc/{self.pid}/fd")), int(told["Threads"])

    def end(self):
        if self.pid != self.proxy.pid:
            os.kill(self.pid, signal.SIGKILL)
        super().end()


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return ") Z " not in stat.read()
    except OSError:
        return False


def opened(place):
    if isinstance(place, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(place)
    else:
        connection = socket.create_connection(("127.0.0.1", place), 10)
    return connection


def asked(connection, request, end=b"\r\n"):
    connection.sendall(request)
    answer = b""
    while not answer.endswith(end):
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError("closed")
        answer += more
    return answer


class Comer(threading.Thread):
    """Connects, asks, and leaves, again and again."""

    def __init__(self, places):
        super().__init__(daemon=True)
        self.places, self.stopped, self.came, self.troubles, self.longest = places, False, 0, [], 0

    def run(self):
        while not self.stopped:
            place, request, answer = self.places[self.came % len(self.places)]
            self.came += 1
            since = time.perf_counter()
            try:
                with opened(place) as connection:
                    if not asked(connection, request).startswith(answer):
                        self.troubles.append(f"new connection to {place}: another answer")
            except Exception as error:  # every kind is a trouble
                self.troubles.append(f"new connection to {place}: {error!r}")
            self.longest = max(self.longest, time.perf_counter() - since)
            time.sleep(0.002)


class SetUp:
    """A client of Redis that has set something up."""

    def __init__(self, place):
        self.connection = opened(place)
        asked(self.connection, b"HELLO 3\r\n", b"modules\r\n*0\r\n")
        for request in (b"SELECT 3\r\n", b"CLIENT SETNAME bob\r\n", b"SET where three\r\n"):
            assert asked(self.connection, request) == b"+OK\r\n", request
        self.number = asked(self.connection, b"CLIENT ID\r\n")

    def troubles(self):
        """What is not as it was set up."""
        expected = [
            (b"GET where\r\n", b"three\r\n", b"$5\r\nthree\r\n"),
            (b"CLIENT GETNAME\r\n", b"bob\r\n", b"$3\r\nbob\r\n"),
            (b"GET nothing\r\n", b"\r\n", b"_\r\n"),
            (b"CLIENT ID\r\n", b"\r\n", self.number),
        ]
        try:
            got = [(request, asked(self.connection, request, end), answer) for request, end, answer in expected]
        except OSError as error:
            return [f"set up: {error!r}"]
        return [f"set up: {request}: {found}" for request, found, answer in got if found != answer]


def shares(loads):
    spans = sorted(1000 * span for load in loads for span in load.spans)
    middle, late = spans[len(spans) // 2], spans[len(spans) * 99 // 100]
    return f"p50 {middle:.2f} p99 {late:.2f} max {spans[-1]:.1f} ms"


def round_of(stage, seconds, upgrades):
    kinds = ["pymemcache", "pylibmc", "redis-py"]
    loads = []
    for number in range(CLIENTS):
        kind = kinds[number % 3]
        name = "r" if kind == "redis-py" else "m"
        loads.append(Load(kind, stage.local(name) if number >= CLIENTS // 2 else stage.pools[name], number, seconds))
    for load in loads:
        load.start()
    began, figures, beside = time.monotonic(), [], []
    clients = [SetUp(stage.pools["r"]), SetUp(stage.local("r"))]
    memcached, of_redis = (b"version\r\n", b"VERSION"), (b"PING\r\n", b"+PONG")
    comer = Comer(
        [(place, *told) for name, told in (("m", memcached), ("r", of_redis)) for place in (stage.pools[name], stage.local(name))]
    )
    comer.start()
    troubles = []
    for number in range(upgrades):
        time.sleep(max(0, began + seconds * (number + 0.5) / upgrades - time.monotonic()))
        beside.append(stage.upgrade())
        for client in clients:
            troubles += client.troubles()
        figures.append(stage.figures())
    for load in loads:
        load.join()
    comer.stopped = True
    comer.join()
    return loads, comer, troubles, figures, beside


def main():
    program = sys.argv[1]
    upgrades, seconds = (int(text) for text in (sys.argv[2:] + ["20", "60"][len(sys.argv) - 2 :]))
    with tempfile.TemporaryDirectory() as folder:
        stage = Succeeded(program, folder)
        try:
            quiet, *_ = round_of(stage, max(5, seconds // 6), 0)
            loads, comer, set_up, figures, beside = round_of(stage, seconds, upgrades)
            with open(os.path.join(folder, "proxy.log"), encoding="utf-8") as log:
                lines = log.readlines()
        finally:
            stage.end()
    troubles = [trouble for load in quiet + loads for trouble in load.troubles]
    count = lambda what: sum(what in trouble for trouble in troubles)
    wrong, anew = count("WRONG VALUE"), count(" connections")
    refused = sum("refused" in trouble.lower() for trouble in comer.troubles)
    print(
        f"{sum(load.asked for load in loads)} requests in {seconds} s, {len(figures)} upgrades: "
        f"{len(troubles) - wrong - anew} failed, {wrong} wrong values, {anew} clients connected anew, "
        f"{sum(load.hits for load in loads)} hits\n"
        f"{comer.came} new connections: {refused} refused, {len(comer.troubles) - refused} failed, "
        f"longest {1000 * comer.longest:.1f} ms\n"
        f"HELLO 3, SELECT, CLIENT SETNAME, CLIENT ID: {len(set_up)} lost\n"
        f"latency before: {shares(quiet)}; during: {shares(loads)}\n"
        f"two processes for {1000 * max(beside, default=0):.0f} ms at most; "
        f"first: {figures[0]}, last: {figures[-1]} (resident KB, descriptors, threads)"
    )
    troubles += comer.troubles + set_up
    for trouble in troubles[:20]:
        print("  " + trouble)
    for line in [line for line in lines if " WARN " in line or " ERROR " in line][:20]:
        print("  log: " + line.rstrip())
    if troubles:
        sys.exit(1)


if __name__ == "__main__":
    main()

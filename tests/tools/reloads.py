#!/usr/bin/env python3
"""What clients notice of reloads: real clients ask all the time while the configuration changes again and again.

    reloads.py PROGRAM [RELOADS [SECONDS]]

PROGRAM is softmiss; memcached, redis-server, and the Python packages pymemcache, pylibmc and redis must be there. RELOADS
(100) are spread over SECONDS (60). Servers come, go, change their weight and their address, options change; now and
then the file is broken, which has to be refused. Each answer is compared with what its key must have, misses count as
answers, and every exception and every new connection is told. It ends with 1 if there was anything to tell.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pylibmc
import redis
from pymemcache.client.base import Client

from processes import free_port, start

RATE = 2000
CLIENTS = 10


class Stage:
    """Six memcached, six Redis servers and a proxy."""

    def __init__(self, program, folder):
        self.processes = []
        self.folder, self.file = folder, os.path.join(folder, "softmiss.yml")
        self.pools = {"m": free_port(), "r": free_port()}
        self.admin = free_port()
        self.servers = {"m": [], "r": []}
        for _ in range(6):
            port = free_port()
            self.processes.append(start(["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody"], port))
            self.servers["m"].append(port)
            port = free_port()
            self.processes.append(
                start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder], port)
            )
            self.servers["r"].append(port)
        self.random = random.Random(7)
        self.write(first=True)
        self.log = open(os.path.join(folder, "log"), "wb")
        self.proxy = subprocess.Popen([program, "-c", self.file, "-o", os.path.join(folder, "proxy.log")], stderr=self.log)
        self.processes.append(self.proxy)
        for port in self.pools.values():
            until = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.02)

    def write(self, first=False):
        dice = self.random
        text = f"softmiss:\n  admin: 127.0.0.1:{self.admin}\n  stats: none\n"
        if not first:
            text += f"  memory_limit: {dice.choice([64, 128, 512])}mb\n  slow_request: {dice.choice([1, 2, 5])}s\n"
        for name, port in self.pools.items():
            text += f"{name}:\n  listen: 127.0.0.1:{port}\n  auto_eject_hosts: true\n"
            text += f"  timeout: {1000 if first else dice.choice([800, 1000, 2000])}\n"
            if name == "r":
                text += "  redis: true\n  on_failure: miss\n"
            if not first:
                text += f"  server_failure_limit: {dice.choice([2, 3, 5])}\n  backlog: {dice.choice([128, 512])}\n"
                text += f"  on_eject: {dice.choice(['rehash', 'hold'])}\n  rise: {dice.choice([1, 2])}\n"
            # Names stay while addresses change.
            places = list(self.servers[name])
            if not first:
                dice.shuffle(places)
            count = 4 if first else dice.randint(2, 6)
            text += "  servers:\n"
            for index in range(count):
                weight = 1 if first else dice.choice([1, 1, 2, 5])
                text += f"  - 127.0.0.1:{places[index]}:{weight} s{index}\n"
        if not first and dice.random() < 0.1:
            text = text.replace("timeout", "timout", 1)
        with open(self.file + ".new", "w", encoding="ascii") as out:
            out.write(text)
        os.replace(self.file + ".new", self.file)

    def resident(self):
        with open(f"/proc/{self.proxy.pid}/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


class Load(threading.Thread):
    """One client that asks for what it stores."""

    def __init__(self, kind, port, number, seconds):
        super().__init__(daemon=True)
        self.kind, self.port, self.number, self.until = kind, port, number, time.monotonic() + seconds
        self.troubles, self.asked, self.hits, self.spans = [], 0, 0, []

    def connect(self):
        """`port` is a port of this host, or the path of a unix socket."""
        local = isinstance(self.port, str)
        if self.kind == "pymemcache":
            place = self.port if local else ("127.0.0.1", self.port)
            client = Client(place, connect_timeout=5, timeout=5, no_delay=not local)
            return client.get, lambda key, value: client.set(key, value, noreply=False), client
        if self.kind == "pylibmc":
            place = self.port if local else f"127.0.0.1:{self.port}"
            client = pylibmc.Client([place], behaviors={"tcp_nodelay": True})
            return client.get, client.set, client
        place = {"unix_socket_path": self.port} if local else {"port": self.port}
        client = redis.Redis(**place, retry=None, single_connection_client=True)
        return client.get, client.set, client

    def run(self):
        get, put, client = self.connect()
        dice, pause = random.Random(self.number), CLIENTS / RATE
        next_at, sockets = time.monotonic(), set()
        while time.monotonic() < self.until:
            key = f"k:{self.number}:{dice.randrange(200)}"
            since = time.perf_counter()
            try:
                if dice.random() < 0.3:
                    if not put(key, key):
                        self.troubles.append(f"set of {key} said no")
                else:
                    found = get(key)
                    if isinstance(found, bytes):
                        found = found.decode()
                    if found is not None and found != key:
                        self.troubles.append(f"WRONG VALUE: {key}: {found}")
                    self.hits += found is not None
            except Exception as error:  # every kind is a trouble
                self.troubles.append(f"{self.kind}: {error!r}")
            self.spans.append(time.perf_counter() - since)
            self.asked += 1
            if self.kind == "pymemcache" and client.sock:
                sockets.add(client.sock)
            elif self.kind == "redis-py" and client.connection and client.connection._sock:
                sockets.add(client.connection._sock)
            next_at += pause
            time.sleep(max(0, next_at - time.monotonic()))
        if len(sockets) > 1:
            self.troubles.append(f"{self.kind}: {len(sockets)} connections")


def p99(loads):
    spans = sorted(span for load in loads for span in load.spans)
    return 1000 * spans[len(spans) * 99 // 100]


def round_of(stage, seconds, reloads):
    kinds = ["pymemcache", "pylibmc", "redis-py"]
    loads = []
    for number in range(CLIENTS):
        kind = kinds[number % 3]
        loads.append(Load(kind, stage.pools["r" if kind == "redis-py" else "m"], number, seconds))
    for load in loads:
        load.start()
    began, sizes = time.monotonic(), []
    for number in range(reloads):
        time.sleep(max(0, began + seconds * (number + 0.5) / reloads - time.monotonic()))
        stage.write()
        stage.proxy.send_signal(signal.SIGHUP)
        if number in (9, reloads - 1):
            time.sleep(0.2)
            sizes.append(stage.resident())
    for load in loads:
        load.join()
    return loads, sizes


def main():
    program = sys.argv[1]
    reloads, seconds = (int(text) for text in (sys.argv[2:] + ["100", "60"][len(sys.argv) - 2 :]))
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(program, folder)
        try:
            quiet, _ = round_of(stage, max(5, seconds // 6), 0)
            loads, sizes = round_of(stage, seconds, reloads)
            with open(os.path.join(folder, "proxy.log"), encoding="utf-8") as log:
                lines = log.readlines()
        finally:
            stage.end()
    done = sum("configuration reloaded" in line for line in lines)
    refused = sum("configuration refused" in line for line in lines)
    troubles = [trouble for load in quiet + loads for trouble in load.troubles]
    print(
        f"{sum(load.asked for load in loads)} requests in {seconds} s, {done} reloads, {refused} refused; "
        f"{len(troubles)} troubles; hits {sum(load.hits for load in loads)}; "
        f"p99 {p99(quiet):.2f} ms before, {p99(loads):.2f} ms during; "
        f"resident {' then '.join(str(size) for size in sizes)} KB"
    )
    for trouble in troubles[:20]:
        print("  " + trouble)
    loud = [line for line in lines if " WARN " in line or (" ERROR " in line and "timout" not in line and "refused" not in line)]
    for line in loud[:20]:
        print("  log: " + line.rstrip())
    if troubles or done + refused < reloads * 9 // 10:
        sys.exit(1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""How old what the near cache gives out is, while another host writes.

    near_cache.py PROGRAM [READS]

PROGRAM is softmiss; memcached and redis-server must be installed. READS (1,000,000) are made through one proxy with two
workers, sixteen at a time, of twenty keys that another proxy writes, each twice in a second. Each value says which writing it is of. A value that has been
replaced is as old as the time from when its replacement was acknowledged to when it was asked for. Besides, one client writes through the first proxy
and another one reads there: what it reads must never be older than what was acknowledged before it asked. Done with memcached (`ttl: 500ms`), with Redis (`ttl: 1h`), whose
servers tell of changes, and with Redis once more while the connection on which it tells is cut every second.
"""

import collections
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time

from processes import free_port, start

KEYS = [b"key:%d" % number for number in range(20)]
BATCH = 16


class Client:
    def __init__(self, port, redis):
        self.redis = redis
        self.stream = socket.create_connection(("127.0.0.1", port), 10)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = self.stream.makefile("rb", 1 << 16)

    def set(self, key, value):
        form = b"SET %s %s\r\n" % (key, value) if self.redis else b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)
        self.stream.sendall(form)
        said = self.rest.readline()
        if said not in (b"+OK\r\n", b"STORED\r\n"):
            raise SystemExit(f"a write was answered {said}")

    def get(self, keys):
        self.stream.sendall(b"".join(b"get %s\r\n" % key for key in keys))
        return [self.value() for _ in keys]

    def value(self):
        line = self.rest.readline()
        if line in (b"END\r\n", b"$-1\r\n"):
            return None
        if not line.startswith((b"VALUE", b"$")):
            raise SystemExit(f"a read was answered {line}")
        value = self.rest.readline().strip()
        if not self.redis:
            self.rest.readline()
        return value


class Stage:
    def __init__(self, program, redis, option):
        self.folder = tempfile.TemporaryDirectory()
        self.redis, self.server = redis, free_port()
        command = (
            ["redis-server", "--port", str(self.server), "--save", "", "--appendonly", "no"]
            if redis
            else ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(self.server)]
        )
        self.processes = [start(command, self.server)]
        self.ports = [self.proxy(program, number, option) for number in (1, 0)][::-1]
        # For each key, when each of its writings was acknowledged.
        self.acknowledged = {key: [] for key in KEYS}
        self.over = False

    def proxy(self, program, number, option):
        port = free_port()
        path = f"{self.folder.name}/{number}.yml"
        with open(path, "w") as file:
            file.write(
                f"softmiss: {{workers: 2, admin: none}}\n"
                f"pool:\n  listen: 127.0.0.1:{port}\n  redis: {str(self.redis).lower()}\n  timeout: 2000\n"
                f"  on_failure: error\n  {option if number == 0 else 'rise: 1'}\n"
                f"  servers: ['127.0.0.1:{self.server}:1 one']\n"
            )
        self.figures = free_port()
        command = [program, "-c", path, "-s", str(self.figures), "-o", f"{self.folder.name}/{number}.log"]
        self.processes.append(start(command, port))
        return port

    def write(self):
        """Another host: writes one key after the other, each of them twice in a second."""
        client = Client(self.ports[1], self.redis)
        number = 0
        while not self.over:
            for key in KEYS:
                client.set(key, b"%d" % number)
                self.acknowledged[key].append(time.monotonic())
                time.sleep(0.025)
            number += 1

    def own(self, missed):
        """A client of this proxy writes, and another one reads."""
        writer, reader = Client(self.ports[0], self.redis), Client(self.ports[0], self.redis)
        number = 0
        while not self.over:
            number += 1
            writer.set(b"own", b"%d" % number)
            for value in reader.get([b"own"] * 4):
                missed[value != b"%d" % number] += 1

    def cut(self):
        """Cuts the connections on which the server tells of changes."""
        direct = Client(self.server, True)
        cuts = 0
        while not self.over:
            time.sleep(1)
            direct.stream.sendall(b"CLIENT LIST\r\n")
            size = int(direct.rest.readline()[1:])
            text = direct.rest.read(size + 2).decode()
            for line in text.splitlines():
                fields = dict(field.split("=", 1) for field in line.split() if "=" in field)
                if "t" in fields.get("flags", ""):
                    direct.stream.sendall(b"CLIENT KILL ID %s\r\n" % fields["id"].encode())
                    direct.rest.readline()
                    cuts += 1
        self.cuts = cuts

    def read(self, reads):
        client = Client(self.ports[0], self.redis)
        ages = collections.deque()
        for number in range(reads // BATCH):
            keys = [KEYS[(number + place * 7) % len(KEYS)] for place in range(BATCH)]
            asked = time.monotonic()
            for key, value in zip(keys, client.get(keys)):
                known = self.acknowledged[key]
                replaced = known[int(value) + 1] if value is not None and int(value) + 1 < len(known) else asked
                ages.append(max(0.0, asked - replaced))
        return sorted(ages)


    def hits(self):
        """Keys that the first proxy has answered with what it keeps."""
        with socket.create_connection(("127.0.0.1", self.figures), 10) as stream:
            return json.loads(stream.makefile().read())["pool"]["near_hits"]

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        self.folder.cleanup()


def run(name, program, redis, option, reads, cuts=False):
    stage = Stage(program, redis, option)
    missed = {True: 0, False: 0}
    workers = [threading.Thread(target=stage.write), threading.Thread(target=stage.own, args=(missed,))]
    if cuts:
        workers.append(threading.Thread(target=stage.cut))
    for worker in workers:
        worker.start()
    time.sleep(1)
    begun, before = time.monotonic(), stage.hits()
    ages = stage.read(reads)
    took, hits = time.monotonic() - begun, stage.hits() - before
    stage.over = True
    for worker in workers:
        worker.join()
    stage.end()
    at = lambda part: 1000 * ages[min(len(ages) - 1, int(part * len(ages)))]
    old = sum(age > 0 for age in ages)
    print(
        f"{name}: {len(ages):,} reads in {took:.0f} s, {hits:,} keys answered here, {old:,} of a value that had been replaced; "
        f"older than p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, p99.9 {at(0.999):.1f} ms, at most {at(1):.1f} ms; "
        f"own writes read {missed[False]:,}, missed {missed[True]:,}"
        + (f"; connections cut {stage.cuts}" if cuts else ""),
        flush=True,
    )
    return at(1), at(0.99), missed[True]


def main():
    program = sys.argv[1]
    reads = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    sys.setswitchinterval(0.0005)
    oldest, _, missed = run("memcached, ttl 500 ms", program, False, "near_cache: {ttl: 500ms}", reads)
    bad = oldest > 500 or missed > 0
    _, late, missed = run("Redis, ttl 1 h", program, True, "near_cache: {ttl: 1h}", reads)
    bad |= late > 20 or missed > 0
    _, late, missed = run("Redis, cut every second", program, True, "near_cache: {ttl: 1h}", reads, True)
    bad |= late > 20 or missed > 0
    sys.exit(bad)


main()

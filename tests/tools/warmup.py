#!/usr/bin/env python3
"""What is missed when a server is added to four, and whether anything that is removed meanwhile comes back.

    warmup.py PROGRAM [KEYS [REMOVED [PROXIES]]]

PROGRAM is softmiss; memcached must be installed. KEYS (20,000) are asked for all the time by two clients of each of
PROXIES (1) proxies, REMOVED others (100,000) are removed one after the other, through one proxy after the other, while two clients
ask for the very same ones. Told are the hit rate before the change and the least one of a quarter of a second behind it, first
with `warmup` and then without, and how many of the removed keys were found again.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

from processes import free_port

NAMES = "abcde"


def wait_for(port):
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"nobody listens at {port}")


class Client:
    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), 10)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = self.stream.makefile("rb")

    def ask(self, request):
        self.stream.sendall(request)
        return self.rest.readline()

    def get(self, key):
        line = self.ask(b"get %s\r\n" % key)
        if not line.startswith(b"VALUE"):
            return None
        value = self.rest.readline()
        self.rest.readline()
        return value.strip()


class Stage:
    def __init__(self, program, warmup, proxies):
        self.folder = tempfile.TemporaryDirectory()
        self.program, self.warmup = program, warmup
        self.servers = [free_port() for _ in NAMES]
        self.processes = [
            subprocess.Popen(["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-m", "256"])
            for port in self.servers
        ]
        for port in self.servers:
            wait_for(port)
        self.proxies = [(free_port(), os.path.join(self.folder.name, f"{number}.yml")) for number in range(proxies)]
        self.admins = [free_port() for _ in self.proxies]
        self.write(4)
        self.started = [
            subprocess.Popen([program, "-c", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _, file in self.proxies
        ]
        for port, _ in self.proxies:
            wait_for(port)

    def write(self, count):
        for (port, file), admin in zip(self.proxies, self.admins):
            with open(file, "w", encoding="utf-8") as out:
                out.write(f"softmiss:\n  admin: 127.0.0.1:{admin}\n  stats: none\n  workers: 2\n")
                out.write(f"p:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  warmup: {self.warmup}\n  servers:\n")
                for name, server in list(zip(NAMES, self.servers))[:count]:
                    out.write(f"  - 127.0.0.1:{server}:1 {name}\n")

    def add_one(self):
        self.write(5)
        for _, file in self.proxies:
            subprocess.run([self.program, "reload", "-c", file], check=True, stdout=subprocess.DEVNULL)

    def end(self):
        for process in self.started + self.processes:
            process.terminate()
        for process in self.started + self.processes:
            process.wait()


def run(program, keys, removed, proxies, warmup):
    stage = Stage(program, warmup, proxies)
    ports = [port for port, _ in stage.proxies]
    names = [b"key:%d" % number for number in range(keys)]
    others = [b"gone:%d" % number for number in range(removed)]
    filler = Client(ports[0])
    for name in names + others:
        assert filler.ask(b"set %s 0 0 3\r\nold\r\n" % name) == b"STORED\r\n"
    windows, lock, stop, at, wrong = {}, threading.Lock(), threading.Event(), [0], []

    def load(port, seed):
        client, place = Client(port), seed
        while not stop.is_set():
            place = (place * 1103515245 + 12345) % 2**31
            found = client.get(names[place % keys]) is not None
            with lock:
                window = windows.setdefault(int(time.monotonic() * 4), [0, 0])
                window[0] += found
                window[1] += 1
            time.sleep(0.0005)

    def follow(port):
        client = Client(port)
        while not stop.is_set():
            client.get(others[min(at[0], removed - 1)])

    threads = [threading.Thread(target=load, args=(port, 17 + number)) for number, port in enumerate(ports * 2)]
    threads += [threading.Thread(target=follow, args=(port,)) for port in (ports * 2)[:2]] if warmup != "0" else []
    for thread in threads:
        thread.start()
    time.sleep(2)
    stage.add_one()
    changed = time.monotonic()
    if warmup == "0":
        time.sleep(3)
    else:
        clients, readers = [Client(port) for port in ports], [Client(port) for port in ports]
        for number, name in enumerate(others):
            at[0] = number
            clients[number % proxies].ask(b"delete %s\r\n" % name)
            if readers[(number + 1) % proxies].get(name) is not None:
                wrong.append(name)
        wrong += [name for name in others if readers[0].get(name) is not None]
    stop.set()
    for thread in threads:
        thread.join()
    stage.end()
    first = int(changed * 4)
    # The first and the last window of each part are not whole.
    rates = {when: found / asked for when, (found, asked) in sorted(windows.items())[1:-1] if asked > 50}
    before = [rate for when, rate in rates.items() if when < first - 1]
    after = [rate for when, rate in rates.items() if when >= first - 1]
    print(
        f"warmup {warmup}: {sum(asked for _, asked in windows.values())} gets; hit rate {min(before):.2%} at least before, "
        f"{min(after):.2%} in the worst quarter of a second behind the change"
        + (f"; {removed} removed, {len(wrong)} of them found again" if warmup != "0" else "")
    )
    return wrong


def main():
    program = os.path.abspath(sys.argv[1])
    keys, removed, proxies = (int(word) for word in (sys.argv[2:5] + ["20000", "100000", "1"][len(sys.argv) - 2 :]))
    wrong = run(program, keys, removed, proxies, "10m")
    run(program, keys, removed, proxies, "0")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

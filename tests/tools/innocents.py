#!/usr/bin/env python3
"""What innocents notice of a hog: latency of small requests alone, beside each hog, and beside it on another proxy.

    innocents.py PROGRAM [REQUESTS [HOG ...]]

PROGRAM is a release build of softmiss; redis-server and memcached must be installed. For each hog (those of
tests/it/hogs.rs, and floods of requests that need no server) REQUESTS gets, 2000 if not said, go one at a time to a
memcached pool and to a Redis pool. A HOG is told by a part of its name; without one all are tried.

The last pair of latencies is that of a second proxy that nobody else uses, while the hog is at work on the first: what
is slow there as well is the machine's doing, not the proxy's. `peak` is the most resident memory of the first proxy
without the pages of its program.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

GET = {"m": (b"get nothing\r\n", b"END\r\n"), "r": (b"*2\r\n$3\r\nGET\r\n$7\r\nnothing\r\n", b"$-1\r\n")}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(port):
    stream = socket.create_connection(("127.0.0.1", port), 10)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def wait_for(process, *ports):
    for port in ports:
        until = time.monotonic() + 10
        while True:
            try:
                connect(port).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise EndedError(process.args[0])
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
    # Somebody else may listen there.
    time.sleep(0.02)
    if process.poll() is not None:
        raise EndedError(process.args[0])


# How often a stage is set up anew.
TRIES = 5


class EndedError(Exception):
    """A server has ended at once: another program has taken its port since that was found to be free."""


class Stage:
    """A proxy with so many megabytes for a memcached and a Redis server, for as long as a `with` lasts."""

    def __init__(self, program, megabytes, folder):
        self.program, self.megabytes, self.folder, self.processes = program, megabytes, folder, []

    def find_places(self):
        program, megabytes, folder = self.program, self.megabytes, self.folder
        self.m, self.r, self.memcached, self.redis = (free_port() for _ in range(4))
        file = os.path.join(folder, f"{self.m}.yml")
        with open(file, "w", encoding="ascii") as out:
            out.write(
                f"softmiss:\n  memory_limit: {megabytes}mb\n"
                f"m:\n  listen: 127.0.0.1:{self.m}\n  timeout: 3000\n  servers: ['127.0.0.1:{self.memcached}:1']\n"
                f"r:\n  listen: 127.0.0.1:{self.r}\n  redis: true\n  on_failure: miss\n  timeout: 3000\n"
                f"  value_limit: 1gb\n  servers: ['127.0.0.1:{self.redis}:1']\n"
            )
        listen = ["-l", "127.0.0.1", "-p", str(self.memcached), "-U", "0", "-t", "1", "-u", "nobody"]
        save = ["--port", str(self.redis), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        pubsub = ["--client-output-buffer-limit", "pubsub 0 0 0"]
        self.commands = [
            (["memcached", *listen], self.memcached),
            (["redis-server", *save, *pubsub], self.redis),
            ([program, "-c", file, "-s", str(free_port())], self.m, self.r),
        ]

    def __enter__(self):
        for tries in range(TRIES):
            self.find_places()
            try:
                for command, *ports in self.commands:
                    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    self.processes.append(process)
                    wait_for(process, *ports)
                return self
            except EndedError:
                self.end()
                if tries + 1 == TRIES:
                    raise
            except BaseException:
                self.end()
                raise

    def __exit__(self, *_):
        self.end()

    def peak(self):
        sizes = {}
        with open(f"/proc/{self.processes[-1].pid}/status", encoding="ascii") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                sizes[name] = value.split()[0] if value.split() else ""
        return (int(sizes["VmHWM"]) - int(sizes["RssFile"])) >> 10

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []


def latency(stage, requests):
    """The median and the 99th percentile of a get, in milliseconds, in each pool."""
    found = []
    for name, (request, answer) in GET.items():
        stream, spans = connect(getattr(stage, name)), []
        for _ in range(requests):
            since, got = time.perf_counter(), b""
            stream.sendall(request)
            while len(got) < len(answer):
                more = stream.recv(1 << 16)
                if not more:
                    raise EOFError("an innocent was cut off")
                got += more
            if got != answer:
                raise ValueError(got)
            spans.append((time.perf_counter() - since) * 1000)
        spans.sort()
        found.append((spans[len(spans) // 2], spans[len(spans) * 99 // 100]))
        stream.close()
    return found


def endless(port, head, block):
    streams = [connect(port) for _ in range(20)]
    for stream in streams:
        stream.sendall(head)
        stream.setblocking(False)
    part = block * (100_000 // len(block))
    while True:
        for stream in streams[:]:
            try:
                stream.send(part)
            except BlockingIOError:
                pass
            except OSError:
                streams.remove(stream)
        time.sleep(0.02)


def readers(stage):
    stream = connect(stage.m)
    stream.sendall(b"set big 0 0 500000\r\n" + b"v" * 500_000 + b"\r\n")
    stream.recv(100)
    streams = [connect(stage.m) for _ in range(40)]
    for stream in streams:
        stream.sendall(b"get big\r\n" * 50)
    time.sleep(3600)


def subscribers(stage):
    streams = [connect(stage.r) for _ in range(12)]
    for stream in streams:
        stream.sendall(b"SUBSCRIBE news\r\n")
        stream.recv(100)
    publisher = connect(stage.redis)
    while True:
        publisher.sendall(b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$20000\r\n" + b"p" * 20_000 + b"\r\n")
        publisher.recv(100)
        time.sleep(0.003)


def flood(port, requests, before=b""):
    """Sends the same for ever, and reads what comes of it."""
    stream = connect(port)
    stream.sendall(before)

    def read():
        while stream.recv(1 << 16):
            pass

    threading.Thread(target=read, daemon=True).start()
    while True:
        stream.sendall(requests)


def names(stage):
    streams = [connect(stage.r) for _ in range(30)]
    for stream in streams:
        stream.sendall(b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1048576\r\n" + b"n" * (1 << 20) + b"\r\n")
    time.sleep(3600)


HOGS = [
    ("get lines without end", 16, lambda stage: endless(stage.m, b"get k", b" kkkkkkkk")),
    ("arrays without end", 16, lambda stage: endless(stage.r, b"*100000000\r\n$3\r\nDEL\r\n", b"$4\r\nabcd\r\n")),
    ("values without end", 16, lambda stage: endless(stage.m, b"set k 0 0 12000000\r\n", b"x" * 16)),
    ("names of 1 MB", 16, names),
    ("readers that do not read", 64, readers),
    ("subscribers that do not read", 32, subscribers),
    ("MULTI without end", 32, lambda stage: flood(stage.r, b"GET a\r\n" * 1000, b"MULTI\r\n")),
    ("a flood of stats proxy", 64, lambda stage: flood(stage.m, b"stats proxy\r\n" * 2000)),
    ("a flood of PING", 64, lambda stage: flood(stage.r, b"PING\r\n" * 20_000)),
]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    wanted = sys.argv[3:]
    multiprocessing.set_start_method("fork")
    written = lambda found: "  ".join(f"{half:5.2f} {most:5.1f}" for half, most in found)
    print(f"{'p50 and p99 of memcached and Redis, ms':<38}{'alone':<26}{'beside':<26}{'other proxy':<26}p99 x      peak")
    with tempfile.TemporaryDirectory() as folder, Stage(program, 64, folder) as other:
        for name, megabytes, hog in HOGS:
            if wanted and not any(word in name for word in wanted):
                continue
            with Stage(program, megabytes, folder) as stage:
                alone = latency(stage, requests)
                at_work = multiprocessing.Process(target=hog, args=(stage,), daemon=True)
                at_work.start()
                try:
                    time.sleep(0.5)
                    beside, elsewhere = latency(stage, requests), latency(other, requests)
                finally:
                    at_work.kill()
                    at_work.join()
                ratios = "/".join(f"{most / before:.1f}" for (_, before), (_, most) in zip(alone, beside))
                print(
                    f"{name:<38}{written(alone):<26}{written(beside):<26}{written(elsewhere):<26}{ratios:<10} "
                    f"{stage.peak()} MB of {megabytes}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

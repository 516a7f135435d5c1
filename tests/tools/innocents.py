#!/usr/bin/env python3
"""What innocents notice of a hog: latency of small requests with and without each hog, beside it and elsewhere.

    innocents.py PROGRAM [REQUESTS [HOG ...]]

PROGRAM is a release build of softmiss; redis-server and memcached must be installed. For each hog (those of
tests/it/hogs.rs, and floods of requests that need no server) REQUESTS gets, 1500 if not said, go one at a time to a
memcached pool and to a Redis pool, in five rounds without the hog and five with it, by turns; the figures are medians
of the rounds. A HOG is told by a part of its name; without one all are tried.

Each get is followed by the same one to a second proxy that has servers of its own and nobody else to serve, and by one
straight to the first proxy's server: what is slower there as well while the hog is at work is the machine's doing, or
the server's, not the proxy's. `x` is how many times its p99 without the hog a get's p99 is with it, on the proxy / on
the second one / at the server. Where x of the proxy is larger than 2, and than that of both others, it hurts innocents.
`peak` is the most resident memory of the first proxy without the pages of its program.

All of it runs with the scheduler's real-time priority where that is allowed (as root), the hog's own work behind the
rest: otherwise what else the machine does is most of what is measured.
"""

import multiprocessing
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from processes import free_port

GET = {"m": (b"get nothing\r\n", b"END\r\n"), "r": (b"*2\r\n$3\r\nGET\r\n$7\r\nnothing\r\n", b"$-1\r\n")}


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


def ask(stream, request, answer):
    """How long a request takes, in milliseconds."""
    since, got = time.perf_counter(), b""
    stream.sendall(request)
    while len(got) < len(answer):
        more = stream.recv(1 << 16)
        if not more:
            raise EOFError("an innocent was cut off")
        got += more
    if got != answer:
        raise ValueError(got)
    return (time.perf_counter() - since) * 1000


def latency(stage, other, requests):
    """The median and the 99th percentile of a get in each pool: on the proxy, on the other, and at the server."""
    found = []
    for name, (request, answer) in GET.items():
        server = {"m": stage.memcached, "r": stage.redis}[name]
        streams = [connect(port) for port in (getattr(stage, name), getattr(other, name), server)]
        spans = [[] for _ in streams]
        for _ in range(requests):
            for stream, to in zip(streams, spans):
                to.append(ask(stream, request, answer))
        for stream, to in zip(streams, spans):
            stream.close()
            to.sort()
            found.append((to[len(to) // 2], to[len(to) * 99 // 100]))
    return found


def medians(rounds):
    """Of each figure, the median over some rounds of [`latency`]."""
    return [tuple(statistics.median(figures) for figures in zip(*place)) for place in zip(*rounds)]


def be_first():
    """Has the machine do what this process and those that it starts have to do before anything else."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    except PermissionError:
        print("not allowed to have real-time priority: what else this machine does is measured as well", flush=True)


def be_a_hog(hog, stage):
    if os.sched_getscheduler(0) == os.SCHED_RR:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    hog(stage)


def again(deed):
    """Does something for ever; who is cut off comes back."""
    while True:
        try:
            deed()
        except OSError:
            time.sleep(0.01)


def endless(port, head, block):
    def open_stream():
        stream = connect(port)
        stream.sendall(head)
        stream.setblocking(False)
        return stream

    streams = [open_stream() for _ in range(20)]
    part = block * (100_000 // len(block))
    while True:
        for at, stream in enumerate(streams):
            try:
                stream.send(part)
            except BlockingIOError:
                pass
            except OSError:
                stream.close()
                streams[at] = open_stream()
        time.sleep(0.02)


def readers(stage):
    stream = connect(stage.m)
    stream.sendall(b"set big 0 0 500000\r\n" + b"v" * 500_000 + b"\r\n")
    stream.recv(100)

    def read_nothing():
        stream = connect(stage.m)
        stream.sendall(b"get big\r\n" * 50)
        is_over(stream, 3600)
        stream.close()

    for _ in range(39):
        threading.Thread(target=again, args=(read_nothing,), daemon=True).start()
    again(read_nothing)


def is_over(stream, seconds):
    """Whether a connection is ended by its peer within a time, without reading of it."""
    poll = select.poll()
    poll.register(stream, select.POLLRDHUP)
    return bool(poll.poll(seconds * 1000))


def subscribers(stage):
    def subscribe():
        stream = connect(stage.r)
        stream.sendall(b"SUBSCRIBE news\r\n")
        stream.recv(100)
        return stream

    streams = [subscribe() for _ in range(12)]
    publisher = connect(stage.redis)
    while True:
        publisher.sendall(b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$20000\r\n" + b"p" * 20_000 + b"\r\n")
        publisher.recv(100)
        for at, stream in enumerate(streams):
            if is_over(stream, 0):
                stream.close()
                streams[at] = subscribe()
        time.sleep(0.003)


def flood(port, requests, before=b""):
    """Sends the same for ever, and reads what comes of it."""

    def send():
        stream = connect(port)
        stream.sendall(before)

        def read():
            try:
                while stream.recv(1 << 16):
                    pass
            except OSError:
                pass

        threading.Thread(target=read, daemon=True).start()
        try:
            while True:
                stream.sendall(requests)
        finally:
            stream.close()

    again(send)


def names(stage):
    def tell_name():
        stream = connect(stage.r)
        stream.sendall(b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1048576\r\n" + b"n" * (1 << 20) + b"\r\n")
        is_over(stream, 3600)
        stream.close()

    for _ in range(29):
        threading.Thread(target=again, args=(tell_name,), daemon=True).start()
    again(tell_name)


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


ROUNDS = 5


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    wanted = sys.argv[3:]
    multiprocessing.set_start_method("fork")
    be_first()
    head = f"{'p50 and p99 of a get, ms':<30}{'pool':<11}{'without':<13}{'with it':<13}{'other proxy':<13}{'server':<13}"
    print(f"{head}x")
    with tempfile.TemporaryDirectory() as folder, Stage(program, 64, folder) as other:
        for name, megabytes, hog in HOGS:
            if wanted and not any(word in name for word in wanted):
                continue
            with Stage(program, megabytes, folder) as stage:
                without, beside = [], []
                for _ in range(ROUNDS):
                    without.append(latency(stage, other, requests))
                    at_work = multiprocessing.Process(target=be_a_hog, args=(hog, stage), daemon=True)
                    at_work.start()
                    try:
                        time.sleep(0.5)
                        beside.append(latency(stage, other, requests))
                        if not at_work.is_alive():
                            sys.exit(f"{name}: the hog has given up")
                    finally:
                        at_work.kill()
                        at_work.join()
                before, during = medians(without), medians(beside)
                peak = f"{stage.peak()} MB of {megabytes}"
            for pool, at in (("memcached", 0), ("Redis", 3)):
                figures = "".join(f"{half:5.2f} {most:5.2f}  " for half, most in (before[at], *during[at : at + 3]))
                times = " / ".join(f"{during[place][1] / before[place][1]:.1f}" for place in range(at, at + 3))
                end = f"peak {peak}" if at else ""
                print(f"{'' if at else name:<30}{pool:<11}{figures}{times:<17} {end}".rstrip(), flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""How often a popular key is computed by forty workers of two hosts, with and without `stampede`, and with what clients do about it.

    stampede.py [--redis] PROGRAM [SECONDS [WORKERS]]

PROGRAM is softmiss; memcached and the Python package pymemcache must be there, or redis-server and redis. WORKERS (40), half of them on each of
two proxies before three servers, ask for one key all the time, for SECONDS (12). It lives 2 s and takes 0.5 s to compute. Five ways:

    plain     whoever misses the key computes it
    mint      as MintCache: values live longer than they are good for; who finds one that is over stores it again for a while, and computes
    herd      as HerdClient: the same, but who may compute is decided by `add`
    stampede  plain, through a pool with `stampede: {wait: 2s, lease: 5s}`
    stale     plain, through a pool with `stampede: {wait: 2s, lease: 5s, stale: 30s}`

For each: how often the cold key was computed, how often in the whole time, how many did so at the same time, how long the slowest took
of those who did not compute it themselves, after the first of each worker, and that of the 99th percent, and how old the oldest value was that anybody was given. With
`--picture FILE`, how many computed at each tenth of a second is drawn there, as SVG.

At the end, what becomes of WORKERS with `stampede: {wait: 10s, lease: 3s}` of which the first that computes is killed: after how long the next one was
told to, how many were, and after how long the last one had the value.
"""

import importlib.util
import os
import sys
import tempfile
import threading
import time

from processes import free_port, start

LIFETIME, TAKES = 2, 0.5
KEY = "popular"


class Memcached:
    """A worker's client of memcached."""

    pool = ""

    def __init__(self, port):
        from pymemcache.client.base import Client

        self.client = Client(("127.0.0.1", port), timeout=20)
        self.get, self.delete, self.close = self.client.get, self.client.delete, self.client.close

    @staticmethod
    def server(port):
        return ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody"]

    def set(self, key, text, seconds):
        self.client.set(key, text, seconds)

    def add(self, key, text, seconds):
        return self.client.add(key, text, seconds, noreply=False)


class Redis:
    """The same of Redis."""

    pool = "  redis: true\n"

    def __init__(self, port):
        import redis

        self.client = redis.Redis(port=port, socket_timeout=20)
        self.get, self.delete, self.close = self.client.get, self.client.delete, self.client.close

    @staticmethod
    def server(port):
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]

    def set(self, key, text, seconds):
        self.client.set(key, text, ex=seconds)

    def add(self, key, text, seconds):
        return self.client.set(key, text, ex=seconds, nx=True)


class Stage:
    """Three servers, and two hosts that share them."""

    def __init__(self, kind, program, folder, stampede):
        self.processes = []
        servers = [free_port() for _ in range(3)]
        for port in servers:
            self.processes.append(start(kind.server(port), port))
        lines = "".join(f"    - 127.0.0.1:{port}:1\n" for port in servers)
        option = kind.pool + (f"  stampede: {stampede}\n" if stampede else "")
        self.ports = [free_port() for _ in range(2)]
        for port in self.ports:
            file = os.path.join(folder, f"{port}.yml")
            with open(file, "w", encoding="ascii") as out:
                out.write(f"pool:\n  listen: 127.0.0.1:{port}\n  timeout: 1000\n{option}  servers:\n{lines}")
            command = [program, "-c", file, "-s", str(free_port()), "--admin", "none"]
            self.processes.append(start(command, port))

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


class Database:
    """What takes long, and how many ask it at the same time."""

    def __init__(self):
        self.by = threading.local()
        self.lock, self.begun, self.now, self.most, self.log = threading.Lock(), 0, 0, 0, []

    def compute(self):
        self.by.mine = True
        with self.lock:
            self.begun += 1
            self.now += 1
            self.most = max(self.most, self.now)
            self.log.append((time.monotonic(), 1))
        time.sleep(TAKES)
        with self.lock:
            self.now -= 1
            self.log.append((time.monotonic(), -1))
        return time.monotonic()


def plain(client, database):
    found = client.get(KEY)
    if found is None:
        found = database.compute()
        client.set(KEY, repr(found), LIFETIME)
    return float(found)


def mint(client, database):
    found = client.get(KEY)
    if found is not None:
        made, good_until, _ = found.decode().split()
        if time.monotonic() < float(good_until):
            return float(made)
        # Whoever finds it over gives itself some time, in which the others are given the old value.
        client.set(KEY, f"{made} {time.monotonic() + 2 * TAKES} again", 60)
    made = database.compute()
    client.set(KEY, f"{made!r} {made + LIFETIME!r} new", 60)
    return made


def herd(client, database):
    found = client.get(KEY)
    if found is not None:
        made, good_until = found.decode().split()
        if time.monotonic() < float(good_until) or not client.add(KEY + ":herd", "1", 5):
            return float(made)
    made = database.compute()
    client.set(KEY, f"{made!r} {made + LIFETIME!r}", 60)
    client.delete(KEY + ":herd")
    return made


def run(kind, program, way, seconds, workers):
    with tempfile.TemporaryDirectory() as folder:
        options = {"stampede": "{wait: 2s, lease: 5s}", "stale": "{wait: 2s, lease: 5s, stale: 30s}"}
        stage = Stage(kind, program, folder, options.get(way, ""))
        database, ages, times = Database(), [], []
        ask = {"mint": mint, "herd": herd}.get(way, plain)
        together = threading.Barrier(workers + 1)
        until = []

        def work(number):
            client = kind(stage.ports[number % 2])
            together.wait()
            is_first = True
            while time.monotonic() < until[0]:
                start = time.monotonic()
                database.by.mine = False
                made = ask(client, database)
                took = time.monotonic() - start
                ages.append(time.monotonic() - made)
                if not is_first and not database.by.mine:
                    times.append(took)
                is_first = False
                time.sleep(0.02)

        threads = [threading.Thread(target=work, args=[number]) for number in range(workers)]
        for thread in threads:
            thread.start()
        until.append(time.monotonic() + seconds)
        began = time.monotonic()
        together.wait()
        time.sleep(TAKES * 0.9)
        cold = database.begun
        for thread in threads:
            thread.join()
        stage.end()
        times.sort()
        load = [0] * int(seconds * 10)
        for at in range(len(load)):
            load[at] = sum(change for when, change in database.log if when - began <= at / 10)
        return cold, database.begun, database.most, times[-1], times[len(times) * 99 // 100], max(ages), load


def killed(kind, program, workers):
    """The first that is told the miss of a key is never heard of again: the times after which the others were, and when the last had the value."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(kind, program, folder, "{wait: 10s, lease: 3s}")
        first = kind(stage.ports[0])
        assert first.get(KEY) is None
        began, database, ends = time.monotonic(), Database(), []
        first.close()

        def work(number):
            plain(kind(stage.ports[number % 2]), database)
            ends.append(time.monotonic() - began)

        threads = [threading.Thread(target=work, args=[number]) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stage.end()
        return [when - began for when, change in database.log if change > 0], max(ends)


def picture(loads, seconds, workers):
    """For each way a band with a step for each tenth of a second, the highest of all workers."""
    width, height, left, gap = 640, 56, 80, 14
    parts = []
    for band, (way, load) in enumerate(loads.items()):
        bottom = (band + 1) * (height + gap)
        step = (width - left) / len(load)
        path = f"M{left} {bottom}"
        for at, many in enumerate(load):
            level = bottom - height * many / workers
            path += f"L{left + at * step:.1f} {level:.1f}L{left + (at + 1) * step:.1f} {level:.1f}"
        path += f"L{width} {bottom}Z"
        parts.append(f'<path d="{path}" fill="#c0392b"/><path d="M{left} {bottom}H{width}" stroke="#888"/>')
        parts.append(f'<text x="0" y="{bottom - 4}">{way}</text><text x="{left - 6}" y="{bottom - height + 10}" text-anchor="end">{workers}</text>')
    end = len(loads) * (height + gap) + 18
    parts.append(f'<text x="{left}" y="{end - 2}">0 s</text><text x="{width}" y="{end - 2}" text-anchor="end">{seconds:.0f} s</text>')
    style = 'font-family="sans-serif" font-size="12" fill="#888"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {end}" width="{width}" role="img" aria-label="How many workers compute at the same time, in each way" {style}><rect width="{width}" height="{end}" fill="#fff"/>{"".join(parts)}</svg>\n'


def main():
    args = sys.argv[1:]
    if not args or "--help" in args:
        sys.exit(__doc__)
    kind, file = Memcached, None
    if "--redis" in args:
        args.remove("--redis")
        kind = Redis
    if "--picture" in args:
        place = args.index("--picture")
        file = args[place + 1]
        del args[place : place + 2]
    package = "redis" if kind is Redis else "pymemcache"
    if importlib.util.find_spec(package) is None:
        sys.exit(f"stampede.py: {package} is not there; `tests/setup.sh` puts it where target/venv/bin/python3 finds it")
    program = args[0]
    seconds, workers = float(args[1]) if len(args) > 1 else 12, int(args[2]) if len(args) > 2 else 40
    print("way        cold  computed  together  slowest get     p99  oldest value")
    loads = {}
    for way in ["plain", "mint", "herd", "stampede", "stale"]:
        cold, computed, most, slowest, p99, oldest, loads[way] = run(kind, program, way, seconds, workers)
        print(f"{way:9} {cold:5} {computed:9} {most:9} {1000 * slowest:9.0f} ms {1000 * p99:4.0f} ms {oldest:11.2f} s", flush=True)
    times, last = killed(kind, program, workers)
    print(f"killed: the next one computes after {times[0]:.2f} s, {len(times)} do, and the last one has the value after {last:.2f} s")
    if file:
        with open(file, "w", encoding="ascii") as out:
            out.write(picture(loads, seconds, workers))


main()

"""What clients for several languages do when something fails, and what of it softmiss keeps from them.

    target/venv/bin/python tests/tools/client_faults.py target/release/softmiss

By hand: it needs what tests/tools/other_clients.sh installs, and takes half an hour; names of clients behind the program are those
that are asked for alone. Each client asks for thirty keys in turn (before one memcached for one key), a hundred times a second at most, and stores what it
misses:

- killed, hung: through softmiss before three nodes, of which one is killed or stopped for 3 s
- told: the same with one node killed, `on_failure: error` and no ejection: a third of the keys is answered with an error line
- away: before one bare memcached that is killed, and back after 1 s
- silent: before one bare memcached that is stopped for 3 s
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/tools/client_faults"
PROGRAM = pathlib.Path(sys.argv[1]).resolve()
LIMIT = 40


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def memcached(port):
    started = subprocess.Popen(["memcached", "-l", "127.0.0.1", "-p", str(port), "-t", "1", "-u", "nobody"])
    wait_for(port)
    return started


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"nobody listens on {port}")


class Stage:
    """Servers, and the port that clients ask."""

    def __init__(self, folder, scenario):
        self.started = []
        self.nodes = [free_port() for _ in range(3)]
        self.is_bare = scenario in ("away", "silent")
        for port in self.nodes[: 1 if self.is_bare else 3]:
            self.started.append(memcached(port))
        self.port = self.nodes[0]
        if not self.is_bare:
            self.port = free_port()
            policy = "on_failure: error" if scenario == "told" else "auto_eject_hosts: true\n  server_retry_timeout: 1000"
            servers = ", ".join(f'"127.0.0.1:{port}:1 node-{n}"' for n, port in enumerate(self.nodes))
            file = folder / "softmiss.yml"
            file.write_text(
                "softmiss: {stats: none, admin: none}\n"
                f"cache:\n  listen: 127.0.0.1:{self.port}\n  timeout: 400\n  hash: md5\n  {policy}\n  servers: [{servers}]\n"
            )
            self.proxy = subprocess.Popen([PROGRAM, "-c", file], stderr=subprocess.DEVNULL)
            self.started.append(self.proxy)
            wait_for(self.port)

    def kill(self):
        self.started[0].kill()
        self.started[0].wait()

    def end(self):
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def call(line):
    start, took, said = line.rstrip("\n").split(" ", 2)
    return float(start), float(took), said


def play(command, scenario, folder):
    """When something was done, and the calls: their beginning, how long each took, and what it gave."""
    stage = Stage(folder, scenario)
    seconds = LIMIT + 5 if scenario in ("away", "silent") else 6
    keys = "1" if stage.is_bare else "30"
    environment = dict(os.environ, MODULES=str(ROOT / "target/node/node_modules"), KEYS=keys)
    asking = subprocess.Popen(
        [*command(stage.port, seconds)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        first = asking.stdout.readline()
        time.sleep(1.5)
        if scenario in ("hung", "silent"):
            stage.started[0].send_signal(signal.SIGSTOP)
        else:
            stage.kill()
        fault = time.time()
        time.sleep(1 if scenario == "away" else 3)
        if scenario in ("hung", "silent"):
            stage.started[0].send_signal(signal.SIGCONT)
        elif scenario != "told":
            stage.started[0] = memcached(stage.nodes[0])
        back = time.time()
        calls = [call(first)]
        well_since = None
        for line in asking.stdout:
            calls.append(call(line))
            start, _, said = calls[-1]
            well_since = (well_since or start) if start > back and said == "hit" else None
            # Nothing more is to be learned.
            if scenario in ("away", "silent") and well_since and start - well_since > 2:
                break
        return fault, back, calls
    finally:
        if asking.poll() is None:
            asking.kill()
            asking.wait()
        stage.end()


def tell(scenario, fault, back, calls):
    after = [call for call in calls if call[0] + call[1] / 1000 >= fault - 0.05]
    errors = [call for call in after if call[2].startswith("error")]
    kinds = sorted({said[6:] for _, _, said in errors})
    slowest = max((took for _, took, _ in after), default=0)
    hits = sum(said == "hit" for _, _, said in after)
    text = f"{len(after)} calls, {hits} hits, {len(errors)} errors, slowest {slowest:.0f} ms"
    if scenario in ("away", "silent"):
        # Well again: the first hit behind which no error comes.
        last = max((start for start, _, said in after if said != "hit" and start > back), default=back)
        well = [start + took / 1000 for start, took, said in after if said == "hit" and start >= last]
        text += f", well {min(well) - back:.1f} s after it was back" if well else f", not well within {LIMIT} s"
    return text + (f" ({'; '.join(kinds)[:160]})" if kinds else "")


def main():
    folder = pathlib.Path(tempfile.mkdtemp())
    subprocess.run(
        ["go", "build", "-o", folder / "ask", "ask.go"],
        cwd=HERE, check=True,
        env=dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOCACHE=str(folder / "go")),
    )  # fmt: skip
    jar = "/usr/share/java/spymemcached.jar"
    subprocess.run(["javac", "-cp", jar, "-d", folder, HERE / "Ask.java"], check=True)

    def script(*start, what=None):
        return lambda port, seconds: [*map(str, start), "127.0.0.1", str(port), str(seconds), *([what] if what else [])]

    clients = {
        "php-memcached": script("php", HERE / "ask.php", what="memcached"),
        "php-memcached, anew for each call": script("php", HERE / "ask.php", what="requests"),
        "Laravel": script("php", HERE / "ask.php", what="laravel"),
        "Laravel, as the book has it": script("php", HERE / "ask.php", what="tuned"),
        "dalli": script("ruby", HERE / "ask.rb", what="dalli"),
        "Rails": script("ruby", HERE / "ask.rb", what="rails"),
        "Rails, as the book has it": script("ruby", HERE / "ask.rb", what="tuned"),
        "gomemcache": script(folder / "ask"),
        "spymemcached": script("java", "-cp", f"{folder}:{jar}", "Ask"),
        "memcached for Node": script("node", HERE / "ask.js", what="memcached"),
        "memcached for Node, as the book has it": script("node", HERE / "ask.js", what="tuned"),
        "memjs": script("node", HERE / "ask.js", what="memjs"),
        "pymemcache": script(ROOT / "target/venv/bin/python", HERE / "ask.py", what="pymemcache"),
        "pylibmc": script(ROOT / "target/venv/bin/python", HERE / "ask.py", what="pylibmc"),
    }
    wanted = sys.argv[2:] or list(clients)
    for name in wanted:
        for scenario in ("killed", "hung", "told", "away", "silent"):
            print(f"{name:40} {scenario:7} {tell(scenario, *play(clients[name], scenario, folder))}", flush=True)


main()

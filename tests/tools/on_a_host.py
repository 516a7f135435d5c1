#!/usr/bin/env python3
"""What the package does to a host that runs its service: installed, reloaded, upgraded and back while a client stays, removed,
purged. To be run in a root, a network and a process namespace of its own, with systemctl.py in the place of systemctl, by
tests/package.sh:

    on_a_host.py FOLDER         with softmiss.deb and next.deb in it
"""

import os
import pwd
import socket
import stat
import subprocess
import sys
import threading
import time

FOLDER = sys.argv[1]
FILE = "/etc/softmiss/softmiss.yml"
PORT = 11211


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


def install(name):
    return run("dpkg", "--no-triggers", "--force-unsafe-io,depends,confold", "-i", f"{FOLDER}/{name}.deb")


def known(name):
    with open(f"/run/stand-in/{name}") as file:
        return int(file.read())


def wait_until(what, is_so):
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end, f"not within 10 s: {what}"
        time.sleep(0.02)


def serve(listener):
    """A server that has a value for every key."""

    def attend(stream):
        for line in stream.makefile("rb"):
            words = line.split()
            if words[:1] == [b"get"]:
                stream.sendall(b"VALUE %s 0 1\r\nv\r\nEND\r\n" % words[1])
            elif words:
                stream.sendall(b"VERSION 1\r\n" if words == [b"version"] else b"ERROR\r\n")

    while True:
        threading.Thread(target=attend, args=[listener.accept()[0]], daemon=True).start()


# Serves, as it says, and ends as soon as clients are to come to it; started as a service it is the real program.
FALSE = """#!/usr/bin/env python3
import json, os, socket, struct, sys, time
if "SOFTMISS_UPGRADE" not in os.environ:
    os.execv("/usr/bin/softmiss.real", ["/usr/bin/softmiss", *sys.argv[1:]])
line = socket.socket(fileno=0)
def frame():
    head = b""
    while len(head) < 5:
        head += socket.recv_fds(line, 5 - len(head), 1)[0] or sys.exit()
    length = struct.unpack("<I", head[1:])[0]
    while length:
        length -= len(line.recv(length))
    return head[:1]
while frame() != b"s":
    pass
body = json.dumps({"version": "another"}).encode()
line.sendall(b"r" + struct.pack("<I", len(body)) + body)
while frame() != b"g":
    pass
time.sleep(1)
"""


def make_false():
    """A package whose program does not take over in the end."""
    folder = f"{FOLDER}/false"
    run("dpkg-deb", "-R", f"{FOLDER}/next.deb", folder)
    os.rename(f"{folder}/usr/bin/softmiss", f"{folder}/usr/bin/softmiss.real")
    with open(f"{folder}/usr/bin/softmiss", "w") as file:
        file.write(FALSE)
    os.chmod(f"{folder}/usr/bin/softmiss", 0o755)
    run("dpkg-deb", "-Znone", "-b", folder, f"{FOLDER}/false.deb")


class Client:
    def __init__(self):
        self.stream = socket.create_connection(("127.0.0.1", PORT), timeout=10)

    def is_served(self):
        try:
            self.stream.sendall(b"get k\r\n")
            answer = b""
            while not answer.endswith(b"END\r\n"):
                more = self.stream.recv(100)
                if not more:
                    return False
                answer += more
        except ConnectionError:
            return False
        return answer == b"VALUE k 0 1\r\nv\r\nEND\r\n"


def write(pool):
    with open(FILE, "w") as file:
        file.write(pool)


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=[listener], daemon=True).start()
    pool = f"cache:\n  listen: 127.0.0.1:{PORT}\n  timeout: 4000\n  servers: ['127.0.0.1:{listener.getsockname()[1]}:1 a']\n"

    said = install("softmiss")
    assert "the service is not started" in said, said
    assert not os.path.exists("/run/stand-in/main"), "nothing is started without a pool"
    user, told = pwd.getpwnam("softmiss"), os.stat(FILE)
    assert (stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid) == (0o640, 0, user.pw_gid), told

    write(pool)
    run("systemctl", "start", "softmiss")
    before = known("main")
    assert os.stat(f"/proc/{before}").st_uid == user.pw_uid, "it runs as its own user"
    client = Client()
    assert client.is_served()
    assert "nothing has changed" in run("softmiss", "reload", "-c", FILE)

    # To the next version and back, twice: the client stays, and it is the new file that runs.
    for name in ["next", "softmiss", "next", "softmiss"]:
        said = install(name)
        assert "not started" not in said, said
        now = known("main")
        assert now != before, f"{name}: the predecessor runs on"
        wait_until("the end of the process before", lambda: not os.path.exists(f"/proc/{before}"))
        assert client.is_served(), f"{name}: the client stays"
        assert Client().is_served(), f"{name}: another one comes"
        assert os.readlink(f"/proc/{now}/exe") == "/usr/bin/softmiss", os.readlink(f"/proc/{now}/exe")
        assert os.stat(f"/proc/{now}").st_uid == user.pw_uid
        before = now
    assert known("starts") == 1, "nobody has restarted it"
    assert run("softmiss", "health") == "ok\n"

    # A file that cannot be served is no reason to end what is served.
    write(pool.replace("timeout", "tmeout"))
    said = install("next")
    assert "the service is not started, or not restarted" in said, said
    assert known("main") == before and client.is_served()
    write(pool)

    # Where nobody can take over it is restarted, which clients notice, and what was stopped is started.
    open("/run/stand-in/refuse", "w").close()
    install("softmiss")
    assert known("starts") == 2 and not client.is_served() and Client().is_served()
    os.remove("/run/stand-in/refuse")
    # Nor is it left to the predecessor where another one takes over, and ends while there are clients to come.
    before, stays = known("main"), Client()
    assert stays.is_served()
    make_false()
    install("false")
    wait_until("another process", lambda: known("main") not in (0, before))
    assert known("starts") > 2 and Client().is_served(), known("starts")
    before = known("starts")
    run("systemctl", "stop", "softmiss")
    install("next")
    assert known("starts") == before + 1 and Client().is_served()

    before = known("main")
    run("dpkg", "--no-triggers", "-r", "softmiss")
    assert known("main") == 0 and not os.path.exists(f"/proc/{before}"), "it is stopped"
    assert os.path.exists(FILE)
    os.makedirs("/var/lib/softmiss")
    run("dpkg", "--no-triggers", "-P", "softmiss")
    for path in ["/etc/softmiss", "/var/lib/softmiss", "/usr/bin/softmiss", "/usr/share/doc/softmiss"]:
        assert not os.path.exists(path), path
    assert "softmiss:" not in open("/etc/passwd").read()


main()

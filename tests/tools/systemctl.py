#!/usr/bin/env python3
"""A stand-in for systemd and its systemctl, with as much of both as the package asks for, where no systemd runs.

The service is started as the unit says: the command, the user, who may notify. What its process notifies is heeded, and the
process is started again when it ends. /run/stand-in has what is known: `main`, the main process, and `starts`, how often there
was one that was started here. While there is a file `refuse` there, signals are refused.
"""

import os
import pwd
import signal
import socket
import struct
import sys
import time

PLACE = "/run/stand-in"
UNIT = "/lib/systemd/system/softmiss.service"


def kept(name):
    try:
        with open(f"{PLACE}/{name}") as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0


def keep(name, value):
    with open(f"{PLACE}/{name}.new", "w") as file:
        file.write(str(value))
    os.rename(f"{PLACE}/{name}.new", f"{PLACE}/{name}")


def unit(key):
    with open(UNIT) as file:
        said = [line.split("=", 1)[1].strip() for line in file if line.startswith(key + "=")]
    return said[-1] if said else ""


def start(notify):
    user, command = pwd.getpwnam(unit("User")), unit("ExecStart").split()
    pid = os.fork()
    if pid == 0:
        notify.close()
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os.umask(0o007)
        watchdog = {"WATCHDOG_PID": str(os.getpid()), "WATCHDOG_USEC": unit("WatchdogSec") + "000000"}
        os.execve(command[0], command, {"PATH": "/usr/bin", "NOTIFY_SOCKET": f"{PLACE}/notify", **watchdog})
    keep("starts", kept("starts") + 1)
    return pid


def manage():
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    notify.bind(f"{PLACE}/notify")
    os.chmod(f"{PLACE}/notify", 0o666)
    notify.settimeout(0.02)
    main = start(notify)
    while True:
        try:
            text, control, _, _ = notify.recvmsg(4096, 128)
            sender = struct.unpack("3i", control[0][2])[0]
            said = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
            if sender == main or unit("NotifyAccess") == "all":
                main = int(said.get("MAINPID", main))
                if said.get("READY") or said.get("MAINPID"):
                    keep("main", main)
        except TimeoutError:
            pass
        if not os.path.exists(f"/proc/{main}"):
            keep("main", 0)
            if os.path.exists(f"{PLACE}/stop"):
                return
            time.sleep(0.2)
            main = start(notify)


def stop():
    if not kept("main"):
        return
    keep("stop", 1)
    os.kill(kept("main"), signal.SIGTERM)
    while kept("main") or os.path.exists(f"{PLACE}/notify"):
        time.sleep(0.02)
    os.remove(f"{PLACE}/stop")


def begin():
    if kept("main"):
        return
    if os.fork() == 0:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open(f"{PLACE}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for place, descriptor in ((0, null), (1, log), (2, log)):
            os.dup2(descriptor, place)
        # Its children are not waited for: they are gone when they end.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            manage()
        finally:
            os.remove(f"{PLACE}/notify")
        os._exit(0)
    end = time.monotonic() + 10
    while not kept("main"):
        if time.monotonic() > end:
            sys.exit("it does not say that it is ready")
        time.sleep(0.02)


def main():
    os.makedirs(PLACE, exist_ok=True)
    action = next(word for word in sys.argv[1:] if not word.startswith("-"))
    if action == "is-enabled":
        print("enabled")
    elif action == "is-active":
        sys.exit(0 if kept("main") else 3)
    elif action == "show":
        print(kept("main"))
    elif action == "kill":
        if os.path.exists(f"{PLACE}/refuse") or "--kill-who=main" not in sys.argv:
            sys.exit("refused")
        name = next(word.split("=")[1] for word in sys.argv if word.startswith("--signal="))
        os.kill(kept("main"), signal.Signals[f"SIG{name}"])
    elif action == "stop":
        stop()
    elif action == "start":
        begin()
    elif action == "restart":
        stop()
        begin()
    elif action != "daemon-reload":
        sys.exit(f"this is not known: {sys.argv[1:]}")


main()

#!/usr/bin/env python3
"""Writes the table of Redis commands from what servers say of themselves.

    command_table.py HOST:PORT [HOST:PORT ...] >src/proto/resp/command/table.rs

Asks each server for `COMMAND`. Where servers know the same command, the first one's word counts; later ones only add
the commands and subcommands that it does not know. The order is that of the names, so the same servers give the same file.
"""

import socket
import sys

FLAGS = [
    "write", "readonly", "denyoom", "admin", "pubsub", "noscript", "blocking", "loading", "stale", "fast",
    "no_auth", "movablekeys", "no_multi", "allow_busy", "skip_monitor", "no_async_loading", "no_mandatory_keys",
    "asking", "skip_slowlog", "may_replicate", "sentinel", "only_sentinel", "module", "touches_arbitrary_keys", "internal",
]


class Server:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.stream = socket.create_connection((host, int(port))).makefile("rwb")

    def ask(self, *words):
        request = b"*%d\r\n" % len(words)
        for word in words:
            request += b"$%d\r\n%s\r\n" % (len(word), word.encode())
        self.stream.write(request)
        self.stream.flush()
        return self.reply()

    def reply(self):
        line = self.stream.readline().rstrip(b"\r\n")
        mark, rest = line[:1], line[1:]
        if mark == b"+":
            return rest.decode()
        if mark == b":":
            return int(rest)
        if mark == b"$":
            return None if rest == b"-1" else self.stream.read(int(rest) + 2)[:-2].decode()
        if mark == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        raise SystemExit(f"the server says {line!r}")


def pairs(items):
    return dict(zip(items[::2], items[1::2]))


def spec(one):
    one = pairs(one)
    begin, find = pairs(one["begin_search"]), pairs(one["find_keys"])
    at, keys = pairs(begin["spec"]), pairs(find["spec"])
    where = {
        "index": lambda: f"Begin::Index({at['index']})",
        "keyword": lambda: f'Begin::Keyword("{at["keyword"].lower()}", {at["startfrom"]})',
        "unknown": lambda: "Begin::Unknown",
    }[begin["type"]]()
    which = {
        "range": lambda: f"Find::Range {{ last: {keys['lastkey']}, step: {keys['keystep']}, limit: {keys['limit']} }}",
        "keynum": lambda: f"Find::Count {{ at: {keys['keynumidx']}, first: {keys['firstkey']}, step: {keys['keystep']} }}",
        "unknown": lambda: "Find::Unknown",
    }[find["type"]]()
    incomplete = str("incomplete" in one["flags"]).lower()
    not_key = str("not_key" in one["flags"]).lower()
    return f"KeySpec {{ begin: {where}, find: {which}, incomplete: {incomplete}, not_key: {not_key} }}"


def entry(command, number, indent):
    name, arity, flags, specs, subcommands = command[0], command[1], command[2], command[8], command[9]
    bits = 0
    for flag in flags:
        if flag not in FLAGS:
            raise SystemExit(f"{name}: flag {flag} is not known here")
        bits |= 1 << FLAGS.index(flag)
    pad = " " * indent
    keys = "".join(f"\n{pad}        {spec(one)}," for one in specs)
    keys = f"&[{keys}\n{pad}    ]" if specs else "&[]"
    own = next(number)
    inner = "".join(entry(one, number, indent + 8) for one in sorted(subcommands))
    inner = f"&[\n{inner}{pad}    ]" if subcommands else "&[]"
    return (
        f"{pad}Command {{\n{pad}    id: {own},\n{pad}    name: \"{name.lower()}\",\n{pad}    arity: {arity},\n"
        f"{pad}    flags: Flags({bits:#x}),\n{pad}    keys: {keys},\n{pad}    subcommands: {inner},\n{pad}}},\n"
    )


def main():
    commands, versions = {}, []
    for address in sys.argv[1:]:
        server = Server(address)
        info = dict(line.split(":", 1) for line in server.ask("INFO", "server").splitlines() if ":" in line)
        versions.append(info.get("valkey_version") and f"Valkey {info['valkey_version']}" or f"Redis {info['redis_version']}")
        for command in server.ask("COMMAND"):
            known = commands.setdefault(command[0].lower(), command)
            names = {one[0].lower() for one in known[9]}
            known[9].extend(one for one in command[9] if one[0].lower() not in names)
    if not commands:
        raise SystemExit(__doc__)
    number = iter(range(1 << 16))
    body = "".join(entry(commands[name], number, 4) for name in sorted(commands))
    print(f"//! The commands of {', '.join(versions)}, as these servers describe them.")
    print("//!\n//! Written by `tests/tools/command_table.py`: change that, not this.\n")
    print("use super::{Begin, Command, Find, Flags, KeySpec};\n")
    print(f"/// How many there are, subcommands included.\npub(super) const COUNT: usize = {next(number)};\n")
    print("/// All commands, ordered by name.")
    print(f"#[rustfmt::skip]\npub(super) static COMMANDS: [Command; {len(commands)}] = [\n{body}];")


main()

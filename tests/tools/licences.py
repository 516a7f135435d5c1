#!/usr/bin/env python3
"""The licences of what the program is made of besides itself, each crate with its own text.

    licences.py > FILE
"""

import json
import os
import subprocess

FILES = ("license", "licence", "copying", "notice", "unlicense", "copyright")


def main():
    host = next(
        line.split()[1] for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if line.startswith("host")
    )
    command = ["cargo", "metadata", "--format-version", "1", "--filter-platform", host]
    found = json.loads(subprocess.check_output(command, text=True))
    packages = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    root = found["resolve"]["root"]
    # What only tests and builds need is not in the program.
    seen, waiting = set(), [root]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for dependency in nodes[one]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    print("softmiss is made of these besides itself. Each has its own licence, whose text follows where it comes with it.\n")
    for one in sorted(seen - {root}, key=lambda one: (packages[one]["name"], packages[one]["version"])):
        package = packages[one]
        print("=" * 80)
        print(f"{package['name']} {package['version']}: {package['license'] or 'see below'}")
        print(f"{package['repository'] or ''}\n")
        folder = os.path.dirname(package["manifest_path"])
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name.lower().startswith(FILES) and os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as text:
                    print(text.read().rstrip() + "\n")


if __name__ == "__main__":
    main()

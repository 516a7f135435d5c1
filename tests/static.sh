#!/usr/bin/env bash
# Builds the program with the C library in it, and tries it in a root where there is nothing else but its file, /etc/hosts and
# /etc/resolv.conf, before memcached on a name of /etc/hosts. By hand: a release build takes minutes.
#
#     tests/static.sh             the program is target/HOST/release/softmiss
#
# Needs a glibc of 2.34 or later with its static part (libc6-dev has it), memcached, and root for the root.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --quiet --target "$target"
program="$PWD/target/$target/release/softmiss"

check() { "$@" || { echo "static.sh: not so: $*"; exit 1; }; }
check grep -q "statically linked" <<< "$(ldd "$program" 2>&1)"

root=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; rm -rf "$root"' EXIT
strip -o "$root/softmiss" "$program"
mkdir "$root/etc"
: > "$root/etc/resolv.conf"
echo "127.0.0.1 cache-a.example" > "$root/etc/hosts"
free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
server=$(free) listen=$(free) admin=$(free)
cat > "$root/softmiss.yml" <<END
softmiss: {stats: none, admin: "127.0.0.1:$admin"}
cache:
  listen: 127.0.0.1:$listen
  timeout: 2000
  on_failure: error
  servers: ["cache-a.example:$server:1 a"]
END
chmod -R a+rX "$root"
memcached -l 127.0.0.1 -p "$server" -u nobody & started+=($!)
inside() { chroot --userspec=65534:65534 "$root" "$@"; }
check inside /softmiss check /softmiss.yml
# Not through a function, so that its id is that of the program.
chroot --userspec=65534:65534 "$root" /softmiss -c /softmiss.yml 2> "$root/log" & started+=($!)
for _ in $(seq 100); do inside /softmiss health "127.0.0.1:$admin" >/dev/null 2>&1 && break; sleep 0.1; done
check test "$(inside /softmiss health "127.0.0.1:$admin")" = ok

ask() {
    exec 3<> "/dev/tcp/127.0.0.1/$listen"
    printf '%b' "$1" >&3
    timeout 5 head -c "$2" <&3
    exec 3>&-
}
check test "$(ask 'set k 0 0 5\r\nvalue\r\n' 8)" = $'STORED\r'
check test "$(ask 'get k\r\n' 25 | tr -d '\r')" = $'VALUE k 0 5\nvalue\nEND'
check test "$(printf 'get k\r\nquit\r\n' | timeout 5 bash -c "cat >&3; cat <&3" 3<> "/dev/tcp/127.0.0.1/$server" | tr -d '\r' | sed -n 2p)" = value
kill "${started[1]}" && wait "${started[1]}"
check test "$(inside /softmiss health "127.0.0.1:$admin" 2>&1)" = \
    "softmiss: nobody answers at 127.0.0.1:$admin (connection refused)"
echo "static.sh: $program ($(du -h "$root/softmiss" | cut -f1) stripped) runs where there is nothing else"

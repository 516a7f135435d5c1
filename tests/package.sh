#!/usr/bin/env bash
# Builds the Debian package, and tries it: in a root where there is nothing else, and on a copy of this host with a service that
# is served; installed, changed by hand, upgraded while a client stays, removed, purged.
#
#     tests/package.sh            the package is target/package/softmiss.deb
#     tests/package.sh PROGRAM    the same, of a release build that is there
#
# Needs dpkg; cargo-deb is built to target/tools if it is not there, which takes some minutes once.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH:/usr/sbin:/sbin"
for tool in dpkg-deb nm strip; do
    command -v $tool >/dev/null || { echo "package.sh: there is no $tool here (dpkg, binutils)"; exit 1; }
done
if ! cargo deb --version >/dev/null 2>&1; then
    echo "package.sh: cargo-deb is built first, to target/tools"
    cargo install --quiet --locked cargo-deb --root target/tools
fi

folder=target/package
rm -rf "$folder" && mkdir -p "$folder"
program=${1:-target/release/softmiss}
[ $# -gt 0 ] || cargo build --release --quiet
mkdir "$folder/bin" && strip -o "$folder/bin/softmiss" "$program"
"$program" man > "$folder/softmiss.1"
"$program" completions bash > "$folder/softmiss"
"$program" completions zsh > "$folder/_softmiss"
"$program" completions fish > "$folder/softmiss.fish"
python3 tests/tools/licences.py > "$folder/third-party-licences.txt"
version=$(cargo deb --no-build --no-strip --quiet --output "$folder/softmiss.deb" >/dev/null && dpkg-deb -f "$folder/softmiss.deb" Version)
next="$version+next"
# The next version has the same in it.
dpkg-deb -R "$folder/softmiss.deb" "$folder/next" && sed -i "s/^Version: .*/Version: $next/" "$folder/next/DEBIAN/control"
dpkg-deb -Znone -b "$folder/next" "$folder/next.deb" >/dev/null

check() { "$@" || { echo "package.sh: not so: $*"; exit 1; }; }
root=$(mktemp -d)
host=$(mktemp -d)
trap 'rm -rf "$root" "$host"' EXIT
mkdir -p "$root"/var/lib/dpkg/{updates,info} && : > "$root/var/lib/dpkg/status"
# Scripts run outside of the root, with DPKG_ROOT: there is nothing else in it.
dpkg_in() { dpkg --root="$root" --log=/dev/null --force-script-chrootless --force-depends --force-confold "$@" 2>&1; }
state() { dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Status} ${Version}' softmiss 2>/dev/null || true; }

said=$(dpkg_in -i "$folder/softmiss.deb") || { echo "$said"; exit 1; }
check test "$(state)" = "installed $version"
check grep -q "the service is not started" <<< "$said"
for file in usr/bin/softmiss etc/softmiss/softmiss.yml lib/systemd/system/softmiss.service usr/share/man/man1/softmiss.1.gz \
    usr/share/bash-completion/completions/softmiss usr/share/doc/softmiss/LICENSE \
    usr/share/doc/softmiss/third-party-licences.txt usr/share/doc/softmiss/grafana.json; do
    check test -e "$root/$file"
done
check test "$("$root/usr/bin/softmiss" --version)" = "This is softmiss-${version%%-*}"
check test -z "$(nm "$root/usr/bin/softmiss" 2>/dev/null | head -1)"

wanted="$root/etc/systemd/system/multi-user.target.wants/softmiss.service"
check test -L "$wanted"
# What the scripts do where systemd and a user are to be told cannot be done here; that it is in them can be seen.
scripts=$(dpkg-deb --ctrl-tarfile "$folder/softmiss.deb" | tar -xO ./postinst ./prerm ./postrm)
for word in daemon-reload "invoke start softmiss" "invoke restart softmiss" "invoke stop softmiss" useradd userdel take_over; do
    check grep -q "$word" <<< "$scripts"
done

# A file of the operator's stays what it is over an upgrade, and a good one is said nothing about.
printf 'cache:\n  listen: 127.0.0.1:11999\n  timeout: 400\n  servers: ["127.0.0.1:11998:1 a"]\n' > "$root/etc/softmiss/softmiss.yml"
said=$(dpkg_in -i "$folder/next.deb") || { echo "$said"; exit 1; }
check test "$(state)" = "installed $next"
check grep -q 11999 "$root/etc/softmiss/softmiss.yml"
check test -z "$(grep "not started" <<< "$said")"

# As the unit starts it: without root's rights, told to read its file again, ended.
if command -v setpriv >/dev/null && [ "$(id -u)" = 0 ]; then
    chmod 755 "$root" && chmod 644 "$root/etc/softmiss/softmiss.yml"
    check grep -q '^ExecStart=/usr/bin/softmiss -c /etc/softmiss/softmiss.yml$' "$root/lib/systemd/system/softmiss.service"
    setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all \
        "$root/usr/bin/softmiss" -c "$root/etc/softmiss/softmiss.yml" --admin none -s 11997 2> "$root/log" &
    pid=$!
    for _ in $(seq 100); do grep -q "pool is served" "$root/log" && break; sleep 0.1; done
    kill -HUP $pid
    for _ in $(seq 100); do grep -q "nothing has changed" "$root/log" && break; sleep 0.1; done
    kill -TERM $pid && wait $pid
    check grep -q "nothing has changed" "$root/log"
else
    echo "package.sh: not run without root's rights, as that needs root and setpriv"
fi

dpkg_in -r softmiss >/dev/null
check test ! -e "$root/usr/bin/softmiss"
check test -e "$root/etc/softmiss/softmiss.yml"
dpkg_in -P softmiss >/dev/null
check test -z "$(state)"
check test ! -e "$root/etc/softmiss"
check test ! -L "$wanted"

# As on a host: what is changed lies above this host's files, in memory, and is gone with the namespace.
above() {
    mount -t tmpfs softmiss "$1" && mkdir "$1"/{above,work,root} &&
        mount -t overlay softmiss -o "lowerdir=/,upperdir=$1/above,workdir=$1/work" "$1/root" &&
        mount -t proc softmiss "$1/root/proc"
}
host() {
    above "$2" && cd "$2/root"
    mount --rbind /dev dev && mount -t tmpfs softmiss run && mount -t tmpfs softmiss tmp
    mkdir -p tmp/package run/systemd/system && rm -f usr/sbin/policy-rc.d
    cp "$OLDPWD/$1"/{softmiss,next}.deb "$OLDPWD/tests/tools/on_a_host.py" tmp/package
    install -m 755 "$OLDPWD/tests/tools/systemctl.py" usr/bin/systemctl
    ip link set lo up
    LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot . python3 /tmp/package/on_a_host.py /tmp/package
}
if [ "$(id -u)" = 0 ] && unshare --mount --net --pid --fork true 2>/dev/null \
    && command -v ip >/dev/null && command -v deb-systemd-invoke >/dev/null; then
    export -f above host
    if said=$(unshare --mount --net --pid --fork --kill-child bash -c 'above "$1"' above "$host" 2>&1); then
        check unshare --mount --net --pid --fork --kill-child bash -euo pipefail -c 'host "$@"' host "$folder" "$host"
    else
        echo "package.sh: not tried on a copy of this host, as nothing can be laid above its files: $said"
    fi
else
    echo "package.sh: not tried on a copy of this host, as that needs root, namespaces, ip and deb-systemd-invoke"
fi

if command -v systemd-analyze >/dev/null; then
    unit=conf/systemd/softmiss.service
    # The binary is not where the unit has it, and there may be no man.
    told=$(systemd-analyze verify $unit conf/systemd/softmiss.socket 2>&1 | grep -v "is not executable\|'man softmiss\|notify-reload" || true)
    check test -z "$told"
    check systemd-analyze security --offline=true --threshold=15 --no-pager $unit > "$folder/exposure.txt"
    tail -1 "$folder/exposure.txt"
else
    echo "package.sh: the units are not looked at, as there is no systemd-analyze"
fi
echo "package.sh: $folder/softmiss.deb ($(du -h "$folder/softmiss.deb" | cut -f1)) can be installed, upgraded, removed and purged"

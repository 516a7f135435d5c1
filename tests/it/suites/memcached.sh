#!/usr/bin/env bash
# Stands where memcached's own tests look for memcached: starts one at a socket beside, and the proxy in front of it at the
# address that they ask for. The environment says which proxy (SOFTMISS); without it memcached itself is started.
set -u
case " $* " in *" -h "*) exec memcached -h ;; esac
if [ "${1-}" = --detached ]; then shift; else
    case " $* " in *" -d "*)
        setsid "$0" --detached "$@" </dev/null >/dev/null 2>&1 &
        exit 0
        ;;
    esac
fi
args=() socket="" port="" host=127.0.0.1 pid_file=""
while [ $# -gt 0 ]; do
    case "$1" in
        -d) ;;
        -P) pid_file=$2; shift ;;
        -o) [ "$2" = relaxed_privileges ] || args+=(-o "$2"); shift ;; # Debian's is built without
        -s) socket=$2; shift ;;
        -p) port=$2; shift ;;
        -l) host=$2; shift ;;
        -U) shift ;;
        *) args+=("$1") ;;
    esac
    shift
done
while [ "$port" = -1 ]; do
    port=$((20000 + RANDOM % 10000))
    if (: <>"/dev/tcp/$host/$port") 2>/dev/null; then port=-1; fi # somebody listens there
done
place=$(mktemp -d)
if [ -z "${SOFTMISS-}" ]; then
    if [ -n "$socket" ]; then args+=(-s "$socket"); else args+=(-l "$host" -p "$port"); fi
    memcached "${args[@]}" &
    memcached=$! proxy=""
else
    memcached "${args[@]}" -s "$place/behind" &
    memcached=$!
    until [ -S "$place/behind" ]; do
        kill -0 $memcached 2>/dev/null || { wait $memcached; exit $?; }
        sleep 0.02
    done
    {
        echo "softmiss: {stats: none, admin: none}"
        echo "pool:"
        echo "  listen: ${socket:-$host:$port}"
        echo "  timeout: 20000"
        echo "  on_failure: error"
        echo "  servers: [\"$place/behind:1\"]"
    } >"$place/softmiss.yml"
    "$SOFTMISS" -c "$place/softmiss.yml" -o "$place/log" &
    proxy=$!
fi
end() { kill "-$1" $memcached $proxy 2>/dev/null; }
trap 'end INT' INT
trap 'end TERM' TERM
trap '' HUP
# Who waits for a file reads it as soon as it is there: it is never there without what it says.
tell() { echo "$2" >"$1.new" && mv "$1.new" "$1"; }
if [ -n "${MEMCACHED_PORT_FILENAME-}" ]; then
    until (: <>"/dev/tcp/$host/$port") 2>/dev/null; do sleep 0.02; done
    tell "$MEMCACHED_PORT_FILENAME" "TCP INET: $port"
fi
[ -z "$pid_file" ] || tell "$pid_file" $$
wait -n $memcached $proxy
kill $memcached $proxy 2>/dev/null
wait $memcached
code=$?
[ -z "$proxy" ] || wait $proxy
rm -rf "$place"
exit $code

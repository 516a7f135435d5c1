#!/usr/bin/env bash
# libmemcached's tools, as somebody at a shell uses them. Argument: the port. What they say and how they end goes to
# standard output, so that a server and the proxy in front of one can be compared.
set -u
cd "$(mktemp -d)" || exit 1
trap 'rm -rf "$PWD"' EXIT
printf 'hello world\n' >one
head -c 300000 /dev/zero | tr '\0' x >two
: >empty
port=$1
for protocol in "" --binary; do
    use() {
        echo "\$ $*"
        local tool=$1
        shift
        # shellcheck disable=SC2086
        timeout 60 "$tool" "--servers=127.0.0.1:$port" $protocol "$@" 2>&1
        echo "= $?"
    }
    use memcping
    use memcflush
    use memccp one two empty
    use memccp --add one
    use memccp --replace --expire=1000 one
    use memccat one empty
    use memccat two | cksum
    use memccat never
    use memcexist one
    use memcexist never
    use memctouch --expire=500 one
    use memctouch never
    use memcdump | grep '^= ' # what is listed depends on what memcached has tidied meanwhile
    use memcrm one
    use memcrm one
    use memccat one
    use memcstat --server-version
    use memcstat | sed -nE 's/^\s*([a-z_]+): .*/\1/p'
    for test in get set mget; do
        use memcslap --test=$test --concurrency=4 --execute-number=100 | grep -v seconds
    done
    use memcflush
    use memccat two
done | sed "s/:$port/:PORT/g"
echo "\$ memcerror 5"
memcerror 5

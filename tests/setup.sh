#!/usr/bin/env bash
# Installs what the tests need, once: memcached, redis-server, nutcracker, chromium, promtool, valgrind and their
# friends from Debian, memcached's own tests from its source there in target/memcached-suite, a Python environment with the
# clients in target/venv, older versions of redis-py and queue systems beside it, Django's own tests, and the clients for Node
# in target/node. Says first what it is going to install, and nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "tests/setup.sh: $*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@"; else
        fail "root is needed to install packages: run '$*' yourself"
    fi
}

missing=()
need() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2"); }
need memcached memcached
need redis-server redis-server
need nutcracker nutcracker
need ip iproute2
need iptables iptables
need promtool prometheus
need valgrind valgrind
need gcc gcc
need node nodejs
need npm npm
need chromium chromium
need memccapable libmemcached-tools
need prove perl
need xz xz-utils
[ -e /usr/include/libmemcached/memcached.h ] || missing+=(libmemcached-dev)
[ -e /usr/include/zlib.h ] || missing+=(zlib1g-dev)
compgen -G '/usr/lib/*/sasl2/libplain.so' >/dev/null || missing+=(libsasl2-modules)
command -v python3 >/dev/null || missing+=(python3 python3-dev)
if ! python3 -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv python3-dev); fi

stamp=target/venv/requirements.txt
django=$(sed -n 's/^Django==//p' tests/requirements.txt)
versions=(5.2.1 7.4.0)
# With all that they bring along: what is built today is built tomorrow.
queues="celery[redis]==5.7.0 rq==3.0.0 redis==8.1.0 kombu==5.7.0 billiard==4.3.2 amqp==5.4.2 click==8.5.1 croniter==7.0.0"
suite=$(cksum <tests/it/suites/fetch.sh)
plan=()
if [ "${#missing[@]}" -gt 0 ]; then
    plan+=("packages of the system, as root, with apt-get: ${missing[*]}")
fi
if [ "$(cat target/memcached-suite/done 2>/dev/null)" != "$suite" ]; then
    plan+=("the source of memcached from where its package comes from, with apt-get: its own tests into target/memcached-suite")
fi
if ! cmp -s tests/requirements.txt "$stamp"; then
    plan+=("from PyPI into target/venv: $(grep -v '^#' tests/requirements.txt | tr '\n' ' ')")
fi
for version in "${versions[@]}"; do
    if [ ! -e "target/redis-py-$version/done" ]; then plan+=("from PyPI into target/redis-py-$version: redis==$version"); fi
done
if [ "$(cat target/queues/done 2>/dev/null)" != "$queues" ]; then
    plan+=("from PyPI into target/queues: $queues")
fi
if [ ! -e "target/django-$django/done" ]; then
    plan+=("from PyPI into target/django-$django: the source of Django==$django, for its tests")
fi
if ! cmp -s tests/node/package-lock.json target/node/installed-lock.json; then
    plan+=("from npm into target/node: $(grep -oE '"[a-z-]+": "[0-9][^"]*"' tests/node/package.json | tr -d '":' | tr '\n' ' ')")
fi
if [ "${#plan[@]}" -gt 0 ]; then
    echo "tests/setup.sh installs what the tests need (once; a few minutes):"
    printf '  %s\n' "${plan[@]}"
fi

if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || fail "install these by hand: ${missing[*]}"
    mkdir -p target
    # Debian starts the services it installs; the tests use processes and ports of their own, so it is told not to.
    install() {
        as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"
    }
    { install || { as_root apt-get update -qq && install; }; } >target/setup.log 2>&1 </dev/null ||
        fail "could not install ${missing[*]}; see target/setup.log"
fi

if [ "$(cat target/memcached-suite/done 2>/dev/null)" != "$suite" ]; then
    fetch() {
        rm -rf target/memcached-suite
        mkdir -p target/memcached-suite
        bash tests/it/suites/fetch.sh target/memcached-suite
    }
    { fetch || { as_root apt-get update -qq && fetch; }; } >target/setup-suite.log 2>&1 </dev/null ||
        fail "could not fetch memcached's own tests; see target/setup-suite.log"
    echo "$suite" >target/memcached-suite/done
fi

if ! cmp -s tests/requirements.txt "$stamp"; then
    mkdir -p target
    rm -rf target/venv
    { python3 -m venv target/venv &&
        target/venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt; } \
        >target/setup-venv.log 2>&1 </dev/null || fail "could not set up the Python clients; see target/setup-venv.log"
    cp tests/requirements.txt "$stamp"
fi

for version in "${versions[@]}"; do
    place=target/redis-py-$version
    if [ ! -e "$place/done" ]; then
        rm -rf "$place"
        target/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --target "$place" \
            "redis==$version" async-timeout PyJWT >"target/setup-redis-py-$version.log" 2>&1 </dev/null ||
            fail "could not install redis-py $version; see target/setup-redis-py-$version.log"
        touch "$place/done"
    fi
done

if [ "$(cat target/queues/done 2>/dev/null)" != "$queues" ]; then
    rm -rf target/queues
    # shellcheck disable=SC2086
    target/venv/bin/pip install --quiet --disable-pip-version-check --target target/queues $queues \
        >target/setup-queues.log 2>&1 </dev/null || fail "could not install queue systems; see target/setup-queues.log"
    echo "$queues" >target/queues/done
fi

# What pip installs has no tests in it.
if [ ! -e "target/django-$django/done" ]; then
    place=target/django-$django
    rm -rf "$place"
    { target/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary django --dest "$place" \
        "Django==$django" &&
        tar -xzf "$place"/*.tar.gz -C "$place" --strip-components=1 --wildcards '*/tests' && rm "$place"/*.tar.gz; } \
        >target/setup-django.log 2>&1 </dev/null || fail "could not fetch Django's tests; see target/setup-django.log"
    touch "$place/done"
fi

if ! cmp -s tests/node/package-lock.json target/node/installed-lock.json; then
    rm -rf target/node
    mkdir -p target/node
    cp tests/node/package.json tests/node/package-lock.json target/node/
    (cd target/node && npm ci --silent --no-audit --no-fund >../setup-node.log 2>&1 </dev/null) ||
        fail "could not set up the Node clients; see target/setup-node.log"
    cp tests/node/package-lock.json target/node/installed-lock.json
fi

#!/usr/bin/env bash
# Fetches memcached's source from where its package comes from, and makes its own tests ready in a folder: the scripts in
# t/, and the program for the binary protocol. They find as memcached what tests/it/suites/memcached.sh starts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
mkdir lists source
apt-cache policy memcached |
    sed -nE 's|^ +-?[0-9]+ ([a-z+]+:[^ ]+) ([^ /]+)/([^ ]+) [^ ]+ Packages$|deb-src \1 \2 \3|p' | sort -u >sources.list
[ -s sources.list ] || { echo "apt-get does not know where memcached comes from: run apt-get update"; exit 1; }
apt=(apt-get -q -o "Dir::Etc::SourceList=$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$PWD/lists"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=)
"${apt[@]}" update
"${apt[@]}" source --download-only memcached
tar -xf memcached_*.orig.tar.* -C source --strip-components=1
rm -rf lists sources.list memcached_*
cp -r source/t source/doc source/scripts .

# Debian's is not built for debugging, so the clock is not moved but waited for; and it is there before a second is over.
perl -0pi -e 's/print \$sock "debugtime \$move\\r\\n";\n\s*<\$sock>;/select undef, undef, undef, \$move + 1;/ or die;
    s/for \(1\.\.20\) \{\n\s*sleep 1;/for (1..400) {\n        select undef, undef, undef, 0.05;/ or die;
    s/(is_running\(\$childpid\);\n)\s*sleep 1;/$1/ or die' t/lib/MemcachedTest.pm
# Without what memcached closes a connection for and this proxy does not (a line without an end), and without an order to end,
# which is about one server.
sed -i '/"issue_102"/d; /"shutdown", /d' source/testapp.c
printf '%s\n' '#define _GNU_SOURCE 1' '#define HAVE_GCC_ATOMICS 1' '#include <stdbool.h>' '#include <inttypes.h>' \
    '#include <unistd.h>' '#define ENDIAN_LITTLE 1' >source/config.h
# memcached's own header is about its event loop too, of which nothing is used here.
mkdir source/stand-ins
printf '%s\n' '#include <stdarg.h>' '#include <stdint.h>' '#include <stdio.h>' '#include <stdlib.h>' '#include <string.h>' \
    '#include <sys/time.h>' 'struct event { int unused; };' 'struct event_base;' >source/stand-ins/event.h
gcc -O1 -w -o timedrun source/timedrun.c
(cd source && gcc -O1 -w -DHAVE_CONFIG_H -I. -Istand-ins -o ../testapp testapp.c util.c stats_prefix.c jenkins_hash.c murmur3_hash.c \
    cache.c crc32c.c -lpthread)
rm -rf source
ln -s "$(realpath --relative-to=. "$here/memcached.sh")" memcached-debug

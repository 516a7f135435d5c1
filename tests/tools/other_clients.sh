#!/usr/bin/env bash
# Ordinary use of clients for languages that the tests have no other need of: PHP, Ruby, Perl, Go, Java, nginx. By hand, as
# they take 500 MB: installs them from Debian, runs the same script against a memcached and through the proxy in front of
# three, and prints a table. Argument: the proxy's program.
set -euo pipefail
program=$(realpath "${1:-target/release/softmiss}")
cd "$(dirname "$0")/other_clients"
packages=(php-cli php-memcached ruby ruby-dalli libcache-memcached-perl libcache-memcached-fast-perl golang-go
    golang-github-bradfitz-gomemcache-dev default-jdk-headless libspymemcached-java nginx-light curl memcached
    ruby-activesupport php-illuminate-cache)
missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if command -v javac >/dev/null; then missing=("${missing[@]/default-jdk-headless/}"); fi
# shellcheck disable=SC2206
missing=(${missing[*]})
if [ "${#missing[@]}" -gt 0 ]; then
    echo "installs, as root: ${missing[*]}" >&2
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 </dev/null
fi

place=$(mktemp -d)
started=()
trap 'kill "${started[@]}"; rm -rf "$place"' EXIT
bare=21311 proxy=21312 web=21313
for port in $bare 21314 21315 21316; do
    memcached -l 127.0.0.1 -p "$port" -t 1 -u nobody &
    started+=($!)
done
printf '%s\n' 'softmiss: {stats: none, admin: none}' 'pool:' "  listen: 127.0.0.1:$proxy" '  timeout: 5000' \
    '  servers: ["127.0.0.1:21314:1", "127.0.0.1:21315:1", "127.0.0.1:21316:1"]' >"$place/softmiss.yml"
"$program" -c "$place/softmiss.yml" -o "$place/log" &
started+=($!)
# What is in folders of nobody else's.
mkdir "$place/nginx"
{
    echo "daemon off; pid $place/nginx.pid; error_log $place/nginx.log; events {} http { access_log off;"
    for what in client_body proxy fastcgi uwsgi scgi; do echo "${what}_temp_path $place/nginx/$what;"; done
    echo "server { listen 127.0.0.1:$web; set \$memcached_key \$arg_key;"
    for port in $bare $proxy; do echo "location /$port/ { memcached_pass 127.0.0.1:$port; }"; done
    echo "} }"
} >"$place/nginx.conf"
nginx -p "$place" -c "$place/nginx.conf" 2>/dev/null &
started+=($!)
GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$place/go go build -o "$place/use" use.go
javac -cp /usr/share/java/spymemcached.jar -d "$place" Use.java

in_nginx() { # host port
    printf 'set page 0 0 5 noreply\r\nhello\r\nset empty 0 0 0\r\n\r\nquit\r\n' | send "$1" "$2"
    [ "$(curl -s "http://127.0.0.1:$web/$2/?key=page")" = hello ] || return 1
    [ "$(curl -s -o /dev/null -w '%{http_code} %{size_download}' "http://127.0.0.1:$web/$2/?key=empty")" = "200 0" ] || return 1
    [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$web/$2/?key=never")" = 404 ] || return 1
    echo "fine 3"
}
send() { # host port: sends what comes, and waits for the end
    exec 3<>"/dev/tcp/$1/$2"
    cat >&3
    cat <&3 >/dev/null
    exec 3>&-
}
version() { dpkg-query -W -f '${Version}' "$1"; }
row() { # what, version, command...
    local what=$1 version=$2 said=()
    shift 2
    for port in $bare $proxy; do
        local told
        if told=$("${@//PORT/$port}" 2>"$place/said") && [[ $told == *fine* ]]; then said+=("passed, ${told##*fine } checks"); else
            said+=("failed: $(grep -v INFO "$place/said" | tail -1)")
        fi
    done
    printf '%-34s %-22s memcached: %-26s proxy: %s\n' "$what" "$version" "${said[@]}"
}
sleep 1
for what in text binary sessions; do
    row "php-memcached, $what" "$(version php-memcached)" timeout 60 php use.php 127.0.0.1 PORT $what
done
row "dalli, binary" "$(version ruby-dalli)" timeout 60 ruby use.rb 127.0.0.1 PORT
row "Cache::Memcached" "$(version libcache-memcached-perl)" timeout 60 perl use.pl 127.0.0.1 PORT Cache::Memcached
row "Cache::Memcached::Fast" "$(version libcache-memcached-fast-perl)" timeout 60 perl use.pl 127.0.0.1 PORT Cache::Memcached::Fast
row "gomemcache" "$(version golang-github-bradfitz-gomemcache-dev)" timeout 60 "$place/use" 127.0.0.1:PORT
for what in text binary; do
    row "spymemcached, $what" "$(version libspymemcached-java)" \
        timeout 120 java -cp "$place:/usr/share/java/spymemcached.jar" Use 127.0.0.1 PORT $what
done
row "nginx, memcached_pass" "$(version nginx-light)" in_nginx 127.0.0.1 PORT

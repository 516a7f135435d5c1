#!/usr/bin/env bash
# Does the simulation find bugs? Each patch beside this script plants one in a copy of the tree; the simulation must fail
# on every copy: that of memcached pools, or that of Redis pools, which is run where the first finds nothing, or that of pools that grow, with
# more seeds than usual. By hand: it builds the tests once for each patch. Names of patches, without `.patch`, are those to plant; without names all are. `SOFTMISS_SIM_SEEDS` sets how many
# seeds are tried.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

cp -r "$root/Cargo.toml" "$root/Cargo.lock" "$root/src" "$root/tests" "$root/benches" "$copy"
for extra in conf docs README.md; do
    [ -e "$root/$extra" ] && cp -r "$root/$extra" "$copy"
done
# What was built before is built on: only the package itself changes.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$copy/target}"
export RUST_BACKTRACE=0

simulate() {
    (cd "$copy" && cargo test --quiet --test it sim:: -- --skip redis:: >"$copy/output" 2>&1 &&
        cargo test --quiet --test it redis::sim:: >"$copy/output" 2>&1 &&
        SOFTMISS_SIM_SEEDS=1200 cargo test --quiet --test it sim::servers_that_are_added >"$copy/output" 2>&1)
}

(cd "$copy" && cargo test --quiet --test it --no-run)
if ! simulate; then
    cat "$copy/output"
    echo "the simulation fails with no bug planted" >&2
    exit 2
fi
missed=0
if [ $# -eq 0 ]; then
    for patch in "$here"/*.patch; do set -- "$@" "$(basename "$patch" .patch)"; done
fi
for name in "$@"; do
    patch=$here/$name.patch
    patch --quiet -d "$copy" -p1 <"$patch"
    if ! (cd "$copy" && cargo test --quiet --test it --no-run >"$copy/output" 2>&1); then
        cat "$copy/output"
        echo "$name: does not build any more" >&2
        exit 2
    fi
    if simulate; then
        echo "$name: NOT FOUND"
        missed=1
    else
        echo "$name: found"
        grep -E '^seed [0-9]+:|panicked at src' -A1 "$copy/output" | cut -c1-400 | head -6 || true
    fi
    patch --quiet --reverse -d "$copy" -p1 <"$patch"
done
exit $missed

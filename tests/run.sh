#!/usr/bin/env bash
# The tests: installs what they need (tests/setup.sh), then runs them, but for those that `.config/nextest.toml` leaves out:
# `--profile whole` runs these too. Arguments go to the test runner.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin"

bash tests/setup.sh
cargo test --doc --quiet
# As the linker has left it, the program lies in memory in small pages: on some machines whatever it does for the first time
# then takes so long that the tests measure that. Written once more, with the same date, it does not. (What `cargo build`
# makes is another one: tests have other features of what is depended on.)
cargo test --no-run --quiet
program="${CARGO_TARGET_DIR:-target}/debug/softmiss"
cp -p "$program" "$program.copy"
# Cargo links the program to what it has built: that is what has to be replaced. One that runs goes on with the old one.
find "$(dirname "$program")/deps" -samefile "$program" -exec cp -p "$program.copy" {}.copy \; -exec mv {}.copy {} \; -exec ln -f {} "$program" \;
rm "$program.copy"
if cargo nextest --version >/dev/null 2>&1; then
    if [[ " $* " != *" --profile whole "* ]]; then
        echo "Left out, as they take six minutes more: most rows of Redis's faults, memcached's own tests, Django's with some of"
        echo "its backends. tests/run.sh --profile whole runs them too."
    fi
    cargo nextest run --no-fail-fast "$@"
else
    # One at a time: tests that measure time would measure each other.
    cargo test --lib --bins --tests --no-fail-fast "$@" -- --test-threads=1
fi

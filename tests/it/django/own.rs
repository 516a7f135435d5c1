//! Django's own tests of its cache backends and of sessions in a cache, against a bare server and through the proxy: what a
//! bare server passes passes through the proxy as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::super::support::process::{Process, Proxy, free_port};
use super::{python, root};

/// A backend, as the settings beside this file name it, and the tests that use it. Those of sessions use the default cache.
const BACKENDS: [(&str, &[&str]); 3] = [
    ("pymemcache", &["cache.tests.PyMemcacheCacheTests", SESSIONS[0], SESSIONS[1]]),
    ("pylibmc", &["cache.tests.PyLibMCCacheTests", SESSIONS[0], SESSIONS[1]]),
    ("redis", &["cache.tests.RedisCacheTests", SESSIONS[0], SESSIONS[1]]),
];

const SESSIONS: [&str; 2] = ["sessions_tests.tests.CacheSessionTests", "sessions_tests.tests.CacheDBSessionTests"];

/// Where tests/setup.sh has put the tests of the version that is installed.
fn tests() -> PathBuf {
    let pinned = std::fs::read_to_string(root().join("tests/requirements.txt")).expect("what is installed");
    let version = pinned.lines().find_map(|line| line.strip_prefix("Django==")).expect("a version of Django");
    let place = root().join(format!("target/django-{version}/tests"));
    assert!(place.exists(), "Django's tests are not there: run tests/setup.sh");
    place
}

/// Starts the tests of a backend at this address.
fn start(tests: &Path, backend: &str, labels: &[&str], at: &str) -> Child {
    let mut command = python();
    command.args(["runtests.py", "--settings=django_settings", "--parallel", "1"]).args(labels).current_dir(tests);
    command.env("PYTHONPATH", root().join("tests/it/django")).env("BACKEND", backend).env("AT", at);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python")
}

/// The tests that passed, and all that was said.
fn passed(child: Child) -> (BTreeSet<String>, String) {
    let output = child.wait_with_output().expect("python");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said.lines().filter_map(|line| line.strip_prefix("passed ")).map(str::to_owned).collect();
    (passed, format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn what_passes_with_a_bare_server_passes_through_the_proxy() {
    let tests = tests();
    // All at the same time, as they wait for lifetimes to be over; so each has servers of its own, which it empties.
    let started = BACKENDS.map(|(backend, labels)| {
        let is_redis = backend == "redis";
        let server = || if is_redis { Process::redis() } else { Process::memcached() };
        let (bare, servers) = (server(), [server(), server(), server()]);
        let (listen, kind) = (free_port(), if is_redis { "  redis: true\n  on_failure: miss\n" } else { "" });
        let list: String = servers.iter().map(|server| format!("    - {}:1\n", server.address)).collect();
        let text = format!("pool:\n  listen: 127.0.0.1:{listen}\n{kind}  timeout: 10000\n  servers:\n{list}");
        let proxy = Proxy::with_file(&text, listen);
        let runs = [bare.address, proxy.address].map(|at| start(&tests, backend, labels, &at.to_string()));
        (backend, runs, (bare, servers, proxy))
    });
    for (backend, [bare, through], _servers) in started {
        let ((bare, bare_said), (through, through_said)) = (passed(bare), passed(through));
        println!("{backend}: {} tests pass with a bare server, {} through the proxy", bare.len(), through.len());
        assert!(bare.len() >= 80, "{bare:?}: {bare_said}");
        let lost: Vec<_> = bare.difference(&through).collect();
        assert!(lost.is_empty(), "{backend}: {lost:#?}: {through_said}");
        let gained: Vec<_> = through.difference(&bare).collect();
        assert!(gained.is_empty(), "{backend}: not with a bare server: {gained:#?}: {bare_said}");
    }
}

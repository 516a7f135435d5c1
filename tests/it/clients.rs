//! Real clients, as applications use them: with all servers well, and while one dies.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::process::{Process, Proxy, free_port, scratch_dir};

pub(crate) fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = root.join("target/venv/bin/python");
    assert!(interpreter.exists(), "the Python clients are not there: run tests/setup.sh");
    let mut command = Command::new(interpreter);
    command.arg(root.join("tests/it/clients").join(script)).stdin(Stdio::null());
    command
}

pub(crate) fn node_program() -> PathBuf {
    let name = if Path::new("/usr/local/bin/node").exists() { "/usr/local/bin/node" } else { "/usr/bin/node" };
    name.into()
}

fn ordinary_use(what: &str) {
    ordinary_use_of(python("ordinary.py"), what, None);
}

/// A client for Node, ordinary use.
fn node(what: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("target/node").to_string_lossy().into_owned();
    let mut command = Command::new(node_program());
    command.arg(root.join("tests/it/clients/memcached_node.mjs")).stdin(Stdio::null());
    ordinary_use_of(command, what, Some(&modules));
}

/// Three servers, the proxy, and a script that uses it with this client.
fn ordinary_use_of(mut command: Command, what: &str, modules: Option<&str>) {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 2000"]);
    command.args(["127.0.0.1", &proxy.address.port().to_string(), what]).args(modules);
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("fine\n"), "{what}: {text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn pymemcache_works() {
    ordinary_use("pymemcache");
}

#[test]
fn pylibmc_works() {
    ordinary_use("pylibmc");
}

#[test]
fn pylibmc_works_with_the_binary_protocol() {
    ordinary_use("pylibmc-binary");
}

#[test]
fn python_memcached_works() {
    ordinary_use("python-memcached");
}

#[test]
fn aiomcache_works() {
    ordinary_use("aiomcache");
}

#[test]
fn emcache_works() {
    ordinary_use("emcache");
}

#[test]
fn memcached_for_node_works() {
    node("memcached");
}

#[test]
fn memjs_works() {
    node("memjs");
}

#[test]
fn django_with_pymemcache_works() {
    ordinary_use("django-pymemcache");
}

#[test]
fn django_with_pylibmc_works() {
    ordinary_use("django-pylibmc");
}

#[test]
fn django_with_pylibmc_works_with_the_binary_protocol() {
    ordinary_use("django-pylibmc-binary");
}

/// Django sees neither an exception nor a wrong value nor a slow call while a server dies and comes back.
/// As docs/performance.md advises: the application reaches its sidecar without TCP.
#[test]
fn django_works_over_a_unix_socket() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let (port, directory) = (free_port(), scratch_dir());
    let socket = directory.join("cache.sock");
    let list: String = servers.iter().map(|server| format!("    - {}:1\n", server.address)).collect();
    let pool = |name: &str, listen: &str| format!("{name}:\n  listen: {listen}\n  timeout: 2000\n  servers:\n{list}");
    let near = pool("near", &format!("{} 0660", socket.display()));
    let _proxy = Proxy::with_file(&format!("{near}{}", pool("far", &format!("127.0.0.1:{port}"))), port);
    for backend in ["django-pymemcache", "django-pylibmc"] {
        let place = format!("unix:{}", socket.display());
        let output = python("ordinary.py").args([&place, "0", backend]).output().expect("python");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == b"fine\n", "{backend}: {said}");
    }
    let _ = std::fs::remove_dir_all(directory);
}

fn outage(backend: &str, signal: &str) {
    let mut servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let settings = ["timeout: 400", "auto_eject_hosts: true", "server_failure_limit: 3", "server_retry_timeout: 2000"];
    let proxy = Proxy::start(&addresses, &settings).expect_log("server ejected");
    let mut child = python("outage.py")
        .args(["127.0.0.1", &proxy.address.port().to_string(), backend, "7"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("python");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line, "started\n");
    std::thread::sleep(Duration::from_millis(500));
    if signal == "KILL" {
        servers[0].kill()
    } else {
        servers[0].signal("STOP")
    }
    proxy.wait_for_log("server ejected", Duration::from_secs(4));
    if signal == "KILL" {
        servers[0] = Process::memcached_on(addresses[0].port());
    } else {
        servers[0].signal("CONT");
    }
    proxy.wait_for_log("server restored", Duration::from_secs(4));
    let mut report = String::new();
    lines.read_to_string(&mut report).expect("a report");
    child.wait().expect("python");
    println!("{backend}, {signal}: {report}");
    let figure = |name: &str| -> u64 {
        let mut words = report.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {report:?}"))
    };
    assert!(figure("calls") > 1000 && figure("hits") > 300, "{report}");
    assert_eq!((figure("exceptions"), figure("wrong")), (0, 0), "{report}");
    // `set` can be two requests: Django deletes a key that it could not set.
    assert!(figure("slowest_ms") <= 450 && figure("slowest_set_ms") <= 2 * 450, "{report}");
}

#[test]
fn django_notices_nothing_when_a_server_is_killed() {
    outage("PyMemcacheCache", "KILL");
    outage("PyLibMCCache", "KILL");
}

#[test]
fn django_notices_nothing_when_a_server_hangs() {
    outage("PyMemcacheCache", "STOP");
    outage("PyLibMCCache", "STOP");
}

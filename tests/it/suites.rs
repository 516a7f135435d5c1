//! Test programs that others have written for memcached, in front of the proxy: what a bare memcached passes, the proxy passes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::process::{Process, Proxy};

/// memcached's own tests that are not about what a client sees of a server, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("00-startup", "options that memcached refuses"),
    ("binary-extstore", "orders to one server (`extstore`)"),
    ("chunked-extstore", "orders to one server (`extstore`)"),
    ("conn-limits", "memory of memcached's own connections"),
    ("daemonize", "where memcached goes as a daemon"),
    ("dyn-maxbytes", "orders to one server (`cache_memlimit`)"),
    ("error-extstore", "orders to one server (`extstore`)"),
    ("extstore", "orders to one server (`extstore`)"),
    ("extstore-buckets", "orders to one server (`extstore`)"),
    ("extstore-jbod", "half a minute, of storage alone"),
    ("idle-timeout", "how long memcached keeps its own connections"),
    ("issue_50", "a memcached of the binary protocol alone"),
    ("issue_67", "where memcached listens"),
    ("lru-crawler", "orders to one server (`lru_crawler`)"),
    ("maxconns", "how many connections memcached takes"),
    ("restart", "what memcached finds of itself in a file"),
    ("shutdown", "orders to one server (`shutdown`)"),
    ("slabs-reassign-chunked", "orders to one server (`slabs`)"),
    ("slabs-reassign2", "orders to one server (`slabs`)"),
    ("slabs_reassign", "orders to one server (`slabs`)"),
    ("stats-conns", "who is connected to memcached: the proxy is"),
    ("strtol-testing", "orders to one server (`slabs`)"),
    ("udp", "UDP"),
    ("watcher", "orders to one server (`watch`)"),
    ("watcher_connid", "orders to one server (`watch`)"),
];

fn suite() -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/memcached-suite");
    assert!(place.join("done").exists(), "memcached's own tests are not there: run tests/setup.sh");
    place
}

/// Runs one of memcached's own programs, which starts the servers it wants: proxies, each in front of a memcached of its own.
fn of_its_own(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("timeout");
    command.args(["150", program]).args(arguments).current_dir(suite()).env("SOFTMISS", env!("CARGO_BIN_EXE_softmiss"));
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("timeout: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = told.lines().filter(|line| line.starts_with("not ok")).take(10).collect();
    if output.status.success() && failed.is_empty() && told.lines().any(|line| line.starts_with("1..")) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said.lines().filter(|line| !line.starts_with("slab class")).take(40).collect();
    Err(format!("{program} {arguments:?}: {}: {failed:#?}\n{}", output.status, said.join("\n")))
}

/// All from `first` to before `end`, in the alphabet.
fn own_tests(first: &str, end: &str) {
    let files = suite().join("t").read_dir().expect("t").map(|entry| entry.expect("an entry").path());
    let files: BTreeSet<_> = files.filter(|file| file.extension().is_some_and(|end| end == "t")).collect();
    let name = |file: &Path| file.file_stem().expect("a name").to_string_lossy().into_owned();
    let names: Vec<_> = files.iter().map(|file| name(file)).filter(|name| &**name >= first && &**name < end).collect();
    let names: Vec<_> = names.iter().filter(|name| LEFT_OUT.iter().all(|(left_out, _)| left_out != name)).collect();
    assert!(names.len() > 5, "{names:?}");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = of_its_own("perl", &[&format!("t/{name}.t")]) {
                        failed.lock().expect("no panic").push(why);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn memcacheds_own_tests_pass_from_a_to_g() {
    own_tests("0", "h");
}

#[test]
fn memcacheds_own_tests_pass_from_h_to_l() {
    own_tests("h", "m");
}

#[test]
fn memcacheds_own_tests_pass_from_m_to_z() {
    own_tests("m", "~");
}

#[test]
fn memcacheds_own_program_for_the_binary_protocol_passes() {
    of_its_own("./testapp", &[]).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn memcapable_passes_in_both_protocols() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    for protocol in ["-a", "-b"] {
        for address in [server.address, proxy.address] {
            let port = address.port().to_string();
            let mut command = Command::new("memccapable"); // as Debian calls it
            let output = command.args([protocol, "-h", "127.0.0.1", "-p", &port]).stdin(Stdio::null()).output();
            let output = output.unwrap_or_else(|error| panic!("memccapable: {error} (run tests/setup.sh)"));
            let told = String::from_utf8_lossy(&output.stdout);
            let passed = told.matches("[pass]").count();
            assert!(output.status.success() && passed > 25 && !told.contains("FAIL"), "{protocol} {address}: {told}");
        }
    }
}

#[test]
fn the_tools_of_libmemcached_say_the_same() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/suites/libmemcached.sh");
    let said = [server.address, proxy.address].map(|address| {
        let mut command = Command::new("bash");
        let output = command.arg(&script).arg(address.port().to_string()).stdin(Stdio::null()).output().expect("bash");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    let expected = ["hello world", "= 0", "= 1", "NOT STORED", "127.0.0.1:PORT 1.6", "curr_items"];
    assert!(expected.iter().all(|what| said[0].contains(what)), "{}", said[0]);
    assert_eq!(said[0], said[1]);
}

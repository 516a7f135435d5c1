//! Side by side with the real twemproxy: error texts, statistics, files and flags. What it says, this program says.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::bad::Scripted;
use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port, scratch_dir};

/// A pool for both programs: they differ in where they listen, and in what only one of them knows.
fn pool(port: u16, servers: &[String], more: &[&str]) -> String {
    let mut text = format!("pool:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n");
    for line in more {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("  servers:\n");
    for server in servers {
        let _ = writeln!(text, "   - {server}");
    }
    text
}

#[test]
fn errors_have_twemproxys_texts() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let silent = Scripted::silent();
    let closing = Scripted::hanging_up();
    let junk = Scripted::answering(|_| b"WHAT?\r\n".to_vec());
    let resetting = Scripted::resetting();
    let directory = scratch_dir();
    for (name, server) in [
        ("refused", format!("{nobody}:1")),
        ("silent", format!("{}:1", silent.address)),
        ("closes on a request", format!("{}:1", closing.address)),
        ("resets on a request", format!("{}:1", resetting.address)),
        ("talks nonsense", format!("{}:1", junk.address)),
        ("a unix socket that is not there", format!("{}/nothing:1 nothing", directory.display())),
        ("a host that does not resolve", "no-such-host.invalid:11211:1".to_owned()),
    ] {
        let (theirs, ours) = (free_port(), free_port());
        let file = directory.join("nutcracker.yml");
        std::fs::write(&file, pool(theirs, std::slice::from_ref(&server), &["timeout: 200"])).expect("write");
        let nutcracker = Process::nutcracker(&file, theirs);
        let proxy = Proxy::with_file(&pool(ours, &[server], &["timeout: 200", "on_failure: error"]), ours)
            .expect_log("server broke the protocol")
            .expect_log("does not resolve")
            .expect_log("servers cannot be looked up");
        // A write, because a read is tried twice here, on a new connection.
        for request in ["set a 0 0 1\r\nx\r\n", "delete a\r\n", "incr a 1\r\n", "get a\r\n"] {
            let mut expected = nutcracker.client().ask(request);
            if expected == "SERVER_ERROR unknown" {
                // Words that say nothing are not taken over.
                "SERVER_ERROR Connection closed by server".clone_into(&mut expected);
            }
            assert!(expected.starts_with("SERVER_ERROR "), "{name}: {expected}");
            assert_eq!(proxy.client().ask(request), expected, "{name}: {request:?}");
        }
    }
    let _ = std::fs::remove_dir_all(directory);
}

/// The names in a statistics document: of the process, of a pool, of a server.
fn field_names(statistics: &serde_json::Value, server: &str) -> [Vec<String>; 3] {
    let names = |value: &serde_json::Value| {
        let object = value.as_object().unwrap_or_else(|| panic!("no object in {statistics}"));
        object.iter().filter(|(_, value)| !value.is_object()).map(|(name, _)| name.clone()).collect()
    };
    [names(statistics), names(&statistics["pool"]), names(&statistics["pool"][server])]
}

#[test]
fn statistics_have_every_field_of_twemproxys_and_of_the_same_type() {
    let server = Process::memcached();
    let (theirs, ours, stats) = (free_port(), free_port(), free_port());
    let directory = scratch_dir();
    let file = directory.join("nutcracker.yml");
    let servers = [format!("{}:1", server.address)];
    std::fs::write(&file, pool(theirs, &servers, &["timeout: 2000"])).expect("write");
    let nutcracker = Process::nutcracker_with(&file, theirs, stats);
    assert_eq!(nutcracker.client().ask("set a 0 0 1\r\nx\r\n"), "STORED");
    let proxy = Proxy::with_file(&pool(ours, &servers, &["timeout: 2000"]), ours);
    assert_eq!(proxy.client().ask("set a 0 0 1\r\nx\r\n"), "STORED");
    let mut text = String::new();
    TcpStream::connect(("127.0.0.1", stats)).expect("connect").read_to_string(&mut text).expect("read");
    let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let found = proxy.statistics();
    let name = server.address.to_string();
    let mut compared = 0;
    for (expected_names, found_names) in field_names(&expected, &name).iter().zip(field_names(&found, &name)) {
        for name in expected_names {
            assert!(found_names.contains(name), "{name} is missing: {found}");
            compared += 1;
        }
    }
    assert!(compared >= 7 + 6 + 13, "{compared}");
    for name in ["service", "source", "version"] {
        assert_eq!(found[name].is_string(), expected[name].is_string(), "{name}");
    }
    assert_eq!(found["source"], expected["source"], "the host's name");
    let _ = std::fs::remove_dir_all(directory);
}

/// Exit status and stdout plus stderr.
fn run(program: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect(program);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

fn accepts(program: &str, file: &Path) -> (bool, String) {
    let (code, text) = run(program, &["-t", "-c", &file.display().to_string()]);
    (code == 0, text)
}

const OURS: &str = env!("CARGO_BIN_EXE_softmiss");

/// Pools as people write them. The real program takes each of them, and so must this one.
const GOOD_FILES: &[(&str, &str)] = &[
    ("the least", "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:1\n"),
    (
        "every key",
        "alpha:\n  listen: 127.0.0.1:22121\n  hash: fnv1a_64\n  hash_tag: \"{}\"\n  distribution: ketama\n  timeout: 400\n  backlog: 1024\n  preconnect: true\n  redis: false\n  tcpkeepalive: true\n  server_connections: 2\n  client_connections: 100\n  auto_eject_hosts: true\n  server_retry_timeout: 2000\n  server_failure_limit: 1\n  servers:\n   - 127.0.0.1:11211:1\n   - 127.0.0.1:11212:2\n",
    ),
    ("names", "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:1 a\n   - 127.0.0.1:11211:1 b\n"),
    ("unix sockets", "p:\n  listen: /tmp/none.sock 0666\n  servers:\n   - /tmp/m.sock:1\n   - /tmp/n.sock:10 n\n"),
    ("IPv6", "p:\n  listen: ::1:22121\n  servers:\n   - ::1:11211:1\n"),
    ("quotes", "p:\n  listen: '127.0.0.1:22121'\n  hash: \"md5\"\n  servers:\n   - \"127.0.0.1:11211:1\"\n"),
    ("a timeout of 0", "p:\n  listen: 127.0.0.1:22121\n  timeout: 0\n  servers:\n   - 127.0.0.1:11211:1\n"),
    (
        "a failure limit of 0",
        "p:\n  listen: 127.0.0.1:22121\n  server_failure_limit: 0\n  servers:\n   - 127.0.0.1:11211:1\n",
    ),
    (
        "keys behind the servers, comments, blank lines",
        "# pools\np:\n\n  servers: # all of them\n   - 127.0.0.1:11211:1 # the first\n\n  listen: 127.0.0.1:22121\n  hash: hsieh\n",
    ),
    (
        "servers at the margin of their key",
        "p:\n  listen: 127.0.0.1:22121\n  servers:\n  - 127.0.0.1:11211:1\n  - 127.0.0.1:11212:1\n",
    ),
    (
        "two pools",
        "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:1\nq:\n  listen: 127.0.0.1:22122\n  distribution: random\n  servers:\n   - 127.0.0.1:11211:1\n",
    ),
    ("a host by name", "p:\n  listen: localhost:22121\n  servers:\n   - cache.invalid:11211:1\n"),
    (
        "a heavy server",
        "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:100000\n   - 127.0.0.1:11212:1\n",
    ),
];

/// Files with a mistake that the real program refuses, and so must this one.
const BAD_FILES: &[(&str, &str)] = &[
    ("nothing", ""),
    ("no listen", "p:\n  servers:\n   - 127.0.0.1:11211:1\n"),
    ("no servers", "p:\n  listen: 127.0.0.1:22121\n"),
    ("an unknown key", "p:\n  listen: 127.0.0.1:22121\n  tiemout: 4\n  servers:\n   - 127.0.0.1:11211:1\n"),
    ("an unknown hash", "p:\n  listen: 127.0.0.1:22121\n  hash: fnv\n  servers:\n   - 127.0.0.1:11211:1\n"),
    (
        "an unknown distribution",
        "p:\n  listen: 127.0.0.1:22121\n  distribution: Ketama\n  servers:\n   - 127.0.0.1:11211:1\n",
    ),
    (
        "a tag of one character",
        "p:\n  listen: 127.0.0.1:22121\n  hash_tag: \"{\"\n  servers:\n   - 127.0.0.1:11211:1\n",
    ),
    ("a word for a number", "p:\n  listen: 127.0.0.1:22121\n  timeout: soon\n  servers:\n   - 127.0.0.1:11211:1\n"),
    ("yes for true", "p:\n  listen: 127.0.0.1:22121\n  preconnect: yes\n  servers:\n   - 127.0.0.1:11211:1\n"),
    ("no connections", "p:\n  listen: 127.0.0.1:22121\n  server_connections: 0\n  servers:\n   - 127.0.0.1:11211:1\n"),
    ("a server without a weight", "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211\n"),
    ("a weight of 0", "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:0\n"),
    ("a port out of range", "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:70000:1\n"),
    ("a server twice", "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:1\n   - 127.0.0.1:11211:1\n"),
    ("a key twice", "p:\n  listen: 127.0.0.1:22121\n  hash: md5\n  hash: md5\n  servers:\n   - 127.0.0.1:11211:1\n"),
    (
        "two pools on one address",
        "p:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:1\nq:\n  listen: 127.0.0.1:22121\n  servers:\n   - 127.0.0.1:11211:1\n",
    ),
    (
        "a password without redis",
        "p:\n  listen: 127.0.0.1:22121\n  redis_auth: x\n  servers:\n   - 127.0.0.1:11211:1\n",
    ),
];

#[test]
fn files_are_taken_or_refused_as_twemproxy_does() {
    let directory = scratch_dir();
    let file = directory.join("file.yml");
    let mut wrong = Vec::new();
    for (files, good) in [(GOOD_FILES, true), (BAD_FILES, false)] {
        for (name, text) in files {
            std::fs::write(&file, text).expect("write");
            let (theirs, said) = accepts("nutcracker", &file);
            assert_eq!(theirs, good, "{name}: nutcracker says {said}");
            let (ours, said) = accepts(OURS, &file);
            if ours != good {
                wrong.push(format!("{name}: {}: {said}", if good { "refused" } else { "taken" }));
            } else if !good && !said.contains("file.yml") {
                wrong.push(format!("{name}: the message does not name the file: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn flags_end_with_twemproxys_exit_status() {
    let directory = scratch_dir();
    let good = directory.join("good.yml");
    std::fs::write(&good, GOOD_FILES[0].1).expect("write");
    let bad = directory.join("bad.yml");
    std::fs::write(&bad, BAD_FILES[1].1).expect("write");
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let mut wrong = Vec::new();
    for arguments in [
        &["-h"][..],
        &["--help"],
        &["-V"],
        &["--version"],
        &["-D"],
        &["--describe-stats"],
        &["-t", "-c", &good],
        &["--test-conf", &format!("--conf-file={good}")],
        &["-t", "-c", &bad],
        &["-t", "-c", "no-such-file.yml"],
        &["-z"],
        &["-c"],
        &["-c", &good, "-s", "0"],
        &["-c", &good, "-s", "70000"],
        &["-c", &good, "-s", "x"],
        &["-c", &good, "-m", "511"],
        &["-c", &good, "-m", "16777217"],
        &["-c", &good, "-i", "x"],
        &["-c", &good, "-v", "x"],
        &["-t", "-c", &good, "-v", "11", "-s", "22222", "-a", "127.0.0.1", "-i", "30000", "-m", "16384", "-d"],
        &["-c", &bad],
        &["-c", "no-such-file.yml"],
    ] {
        // Debian's build logs to a file of its own unless told otherwise.
        let log = directory.join("log").display().to_string();
        let with_log = [arguments, &["-o", &log]].concat();
        let (theirs, said) = run("nutcracker", if arguments == ["-c"] { arguments } else { &with_log });
        let (ours, we_said) = run(OURS, arguments);
        if theirs != ours {
            wrong.push(format!("{arguments:?}: {theirs} ({said}), here {ours} ({we_said})"));
        }
        if ours != 0 && we_said.trim().is_empty() {
            wrong.push(format!("{arguments:?} fails without a word"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn what_one_program_stores_the_other_finds_around_a_dead_server() {
    // Both have ejected the same server, so both must have the same ring of the rest.
    let mut servers: Vec<_> = (0..4).map(|_| Process::memcached()).collect();
    let lines: Vec<_> = (1..).zip(&servers).map(|(weight, server)| format!("{}:{weight}", server.address)).collect();
    let (theirs, ours) = (free_port(), free_port());
    let more = ["timeout: 1000", "auto_eject_hosts: true", "server_failure_limit: 1", "server_retry_timeout: 60000"];
    let directory = scratch_dir();
    let file = directory.join("nutcracker.yml");
    std::fs::write(&file, pool(theirs, &lines, &more)).expect("write");
    let nutcracker = Process::nutcracker(&file, theirs);
    let proxy = Proxy::with_file(&pool(ours, &lines, &more), ours).expect_log("server ejected");
    servers[2].kill();
    let keys: Vec<_> = (0..400_u64).map(|number| format!("page:{:x}", number * 2_654_435_761)).collect();
    let store = |client: &mut Client, value: &str| {
        keys.iter().filter(|key| client.ask(format!("set {key} 0 0 1\r\n{value}\r\n")) != "STORED").count()
    };
    let (mut through_theirs, mut through_ours) = (nutcracker.client(), proxy.client());
    assert!(store(&mut through_theirs, "t") >= 1, "the failure that ejects it there");
    store(&mut through_ours, "o");
    proxy.wait_for_log("server ejected", std::time::Duration::from_secs(2));
    assert_eq!(store(&mut through_theirs, "t"), 0);
    assert_eq!(store(&mut through_ours, "o"), 0);
    for key in &keys {
        through_theirs.send(format!("get {key}\r\n"));
        let found = String::from_utf8(through_theirs.read_through(b"END\r\n")).expect("text");
        assert_eq!(found, format!("VALUE {key} 0 1\r\no\r\nEND\r\n"), "stored through this program");
    }
    let _ = std::fs::remove_dir_all(directory);
}

/// A Redis pool of twemproxy's works from its old file: the same keys on the same servers, the same answers and errors.
#[test]
fn redis_pools_work_from_their_old_file() {
    let mut servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let lines: Vec<_> =
        servers.iter().zip(["a", "b", "c"]).map(|(server, name)| format!("{}:1 {name}", server.address)).collect();
    let (theirs, ours) = (free_port(), free_port());
    let directory = scratch_dir();
    let file = directory.join("nutcracker.yml");
    let settings = ["redis: true", "timeout: 1000", "preconnect: true"];
    std::fs::write(&file, pool(theirs, &lines, &settings)).expect("write");
    let nutcracker = Process::nutcracker(&file, theirs);
    let proxy = Proxy::with_file(&pool(ours, &lines, &settings), ours);
    let (mut old, mut new) = (nutcracker.client(), proxy.client());
    let command = |words: &[&str]| {
        let mut out = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| out.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        out
    };
    let keys: Vec<_> = (0..300).map(crate::support::scattered_key).collect();
    for (number, key) in keys.iter().enumerate() {
        let (writer, reader) = if number % 2 == 0 { (&mut old, &mut new) } else { (&mut new, &mut old) };
        assert_eq!(writer.ask(command(&["SET", key, "value"])), "+OK");
        assert_eq!(reader.ask(command(&["STRLEN", key])), ":5", "{key} is on another server");
    }
    let some: Vec<&str> = keys[..20].iter().map(String::as_str).collect();
    let with = |verb: &str| command(&[&[verb], &some[..]].concat());
    for request in [with("MGET"), with("TOUCH")] {
        let mark = command(&["GET", "no such key"]);
        old.send(format!("{request}{mark}"));
        new.send(format!("{request}{mark}"));
        let expected = old.read_through(b"$-1\r\n");
        assert_eq!(new.read_through(b"$-1\r\n"), expected, "{request:?}");
    }
    assert_eq!(old.ask(with("DEL")), ":20");
    assert_eq!(new.ask(with("DEL")), ":0");
    servers.iter_mut().for_each(Process::kill);
    std::thread::sleep(std::time::Duration::from_millis(100));
    // The first request of each meets the closed connection.
    old = nutcracker.client();
    let _ = (old.ask(command(&["SET", "k", "v"])), new.ask(command(&["SET", "k", "v"])));
    let expected = old.ask(command(&["SET", "k", "v"]));
    assert_eq!(expected, "-ERR Connection refused");
    assert_eq!(new.ask(command(&["SET", "k", "v"])), expected);
    let _ = std::fs::remove_dir_all(directory);
}

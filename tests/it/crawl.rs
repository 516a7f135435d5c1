//! `lru_crawler metadump` and `mgdump`: the keys of all servers as one list, whoever else asks the servers meanwhile.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::bad::{Scripted, read_line};
use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

fn memcacheds(count: usize) -> Vec<Process> {
    // Nothing moves from one of its lists to another in the background, which may go past what walks through them.
    let start = || Process::memcached_with(free_port(), &["-o", "no_modern,lru_crawler"], Stdio::null());
    (0..count).map(|_| start()).collect()
}

fn addresses(servers: &[Process]) -> Vec<std::net::SocketAddr> {
    servers.iter().map(|server| server.address).collect()
}

/// Stores so many keys, whose names begin with `start`.
fn fill(client: &mut Client, start: &str, count: usize) -> BTreeSet<String> {
    let keys: BTreeSet<String> = (0..count).map(|number| format!("{start}{number}")).collect();
    let keys_in_order: Vec<_> = keys.iter().collect();
    for some in keys_in_order.chunks(2000) {
        let text: String = some.iter().map(|key| format!("set {key} 0 0 1 noreply\r\nx\r\n")).collect();
        // What was sent with no answer is done when each server has answered something behind it.
        client.send(format!("{text}stats\r\n"));
        client.read_through(b"END\r\n");
    }
    client.send("stats\r\n");
    let said = String::from_utf8_lossy(&client.read_through(b"END\r\n")).into_owned();
    assert!(said.contains(&format!("STAT curr_items {count}\r\n")), "all are stored: {said}");
    keys
}

/// The keys of a list in `metadump`'s form; no line of it is anything else.
fn keys(list: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(list).expect("text").strip_suffix("END\r\n").expect("an end");
    let key = |line: &str| {
        let key = line.strip_prefix("key=").and_then(|rest| rest.split(' ').next());
        key.unwrap_or_else(|| panic!("{line:?} in a list")).to_owned()
    };
    text.split_terminator("\r\n").flat_map(|line| line.split_terminator('\n')).map(key).collect()
}

fn list(client: &mut Client, request: &str) -> Vec<u8> {
    client.send(format!("{request}\r\n"));
    client.read_through(b"END\r\n")
}

#[test]
fn every_key_of_every_server_is_listed_once() {
    let servers = memcacheds(3);
    let proxy = Proxy::start(&addresses(&servers), &["timeout: 5000"]);
    let mut client = proxy.client();
    for request in ["lru_crawler metadump all", "lru_crawler metadump hash", "lru_crawler metadump 1,2"] {
        assert_eq!(list(&mut client, request), b"END\r\n", "nothing is there: {request}");
    }
    let stored = fill(&mut client, "k", 3000);
    for request in ["lru_crawler metadump all", "lru_crawler metadump hash", "lru_crawler metadump 1,2"] {
        let listed = keys(&list(&mut client, request));
        assert_eq!(listed.len(), stored.len(), "{request}");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), stored, "{request}");
    }
    // What comes before and behind it in one write is answered in its place.
    client.send("get k1\r\nlru_crawler metadump all\r\nget k2\r\nmn\r\n");
    assert_eq!(client.read_through(b"END\r\n"), b"VALUE k1 0 1\r\nx\r\nEND\r\n");
    assert_eq!(keys(&client.read_through(b"END\r\n")).len(), stored.len());
    assert_eq!(client.read_through(b"MN\r\n"), b"VALUE k2 0 1\r\nx\r\nEND\r\nMN\r\n");
    // Who has sent all that they will gets it as well.
    let mut half = TcpStream::connect(proxy.address).unwrap();
    half.write_all(b"lru_crawler metadump all\r\n").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!(keys(&Client::of(half).read_through(b"END\r\n")).len(), stored.len());
    // What no server lists is said once, as by one server.
    assert_eq!(client.ask("lru_crawler metadump x\r\n"), "BADCLASS invalid class id");
    for line in ["crawl all", "sleep 1", "tocrawl 1", "enable", "disable"] {
        let refused = client.ask(format!("lru_crawler {line}\r\n"));
        assert_eq!(refused, "CLIENT_ERROR not allowed through a proxy, ask the server itself", "{line}");
    }
    // It knows no `noreply`, as memcached's does not.
    let mut bare = servers[0].client();
    for line in [
        "",
        " metadump",
        " metadump all x",
        " metadump all noreply",
        " foo",
        " foo x",
        " Metadump all",
        " noreply",
        " metadump noreply",
        " metadump 0",
        " metadump 1,0",
        " metadump 64",
        " crawl all noreply",
        " mgdump x",
    ] {
        let said = bare.ask(format!("lru_crawler{line}\r\n"));
        assert_eq!(client.ask(format!("lru_crawler{line}\r\n")), said, "{line}");
    }
    // A server on which it is switched off says so.
    let off = Process::memcached_with(free_port(), &["-o", "no_lru_crawler"], Stdio::null());
    let said = off.client().ask("lru_crawler metadump all\r\n");
    assert_eq!(said, "CLIENT_ERROR lru crawler disabled");
    let alone = Proxy::start(&[off.address], &["timeout: 5000"]);
    assert_eq!(alone.client().ask("lru_crawler metadump all\r\n"), said);
    let count =
        |proxy: &Proxy| proxy.statistics()["pool"][servers[0].address.to_string()]["server_connections"].clone();
    wait_until("its connections to be closed", Duration::from_secs(5), || count(&proxy) == 1);
}

/// What is said by Debian's `memcached-tool`.
fn tool(address: std::net::SocketAddr, mode: &str) -> String {
    let path = "/usr/share/memcached/scripts/memcached-tool";
    let output = Command::new("perl").args([path, &address.to_string(), mode]).output().expect("memcached-tool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn memcached_tool_lists_the_keys_and_values_of_a_pool() {
    let servers = memcacheds(3);
    let proxy = Proxy::start(&addresses(&servers), &["timeout: 5000"]);
    let stored = fill(&mut proxy.client(), "k%\u{1}", 100);
    let sorted = |address, mode| tool(address, mode).lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let of_servers = |mode| servers.iter().flat_map(|server| sorted(server.address, mode)).collect::<BTreeSet<_>>();
    assert_eq!(sorted(proxy.address, "keys"), of_servers("keys"));
    let dump = sorted(proxy.address, "dump");
    assert_eq!(dump, of_servers("dump"));
    assert_eq!(dump.iter().filter(|line| line.starts_with("add ")).count(), stored.len());
}

/// A server that lists so, and is asked for it so often.
fn lists(words: &'static [&'static str]) -> (Scripted, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Scripted::answering(move |line| {
        if !line.starts_with(b"lru_crawler m") {
            return b"END\r\n".to_vec();
        }
        let time = count.fetch_add(1, Ordering::Relaxed);
        words[time.min(words.len() - 1)].as_bytes().to_vec()
    });
    (server, asked)
}

#[test]
fn mgdump_is_told_in_its_own_form_and_a_server_that_is_busy_is_asked_again() {
    const BUSY: &str = "BUSY currently processing crawler request\r\n";
    let first = lists(&["mg a\r\nmg EN\r\nEN\r\n", "EN\r\n", BUSY]);
    // The order of the servers is that of their names.
    let second = std::iter::repeat_with(|| lists(&[BUSY, BUSY, "mg b\r\nEN\r\n", "NOTSTARTED no items to crawl\r\n"]))
        .find(|second| second.0.address.to_string() > first.0.address.to_string())
        .expect("one");
    let proxy = Proxy::start(&[first.0.address, second.0.address], &["timeout: 5000"]);
    let mut client = proxy.client();
    client.send("lru_crawler mgdump all\r\n");
    assert_eq!(client.read_through(b"\nEN\r\n"), b"mg a\r\nmg EN\r\nmg b\r\nEN\r\n");
    assert_eq!(second.1.load(Ordering::Relaxed), 3);
    assert_eq!(client.ask("lru_crawler mgdump hash\r\n"), "EN");
    assert_eq!(client.ask("lru_crawler mgdump all\r\n"), BUSY.trim_end());
    assert_eq!(
        (first.1.load(Ordering::Relaxed), second.1.load(Ordering::Relaxed)),
        (3, 4),
        "nothing is told by halves"
    );
    assert_eq!(client.ask("get x\r\n"), "END");
}

#[test]
fn a_server_that_fails_in_the_middle_ends_its_part_only() {
    let breaks = |hangs: bool| {
        Scripted::start(move |mut stream| {
            let mut buffer = Vec::new();
            while let Some(line) = read_line(&mut stream, &mut buffer) {
                let is_list = line.starts_with(b"lru_crawler");
                let answer: &[u8] = if is_list { b"key=a exp=-1\r\nkey=half" } else { b"END\r\n" };
                if stream.write_all(answer).is_err() || (is_list && !hangs) {
                    return;
                }
            }
        })
    };
    let out = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let servers = memcacheds(1);
    let (closes, hangs) = (breaks(false), breaks(true));
    let all = [out, closes.address, hangs.address, servers[0].address];
    fill(&mut servers[0].client(), "k", 10);
    for policy in ["on_failure: miss", "on_failure: error"] {
        let proxy = Proxy::start(&all, &["timeout: 500", policy]);
        let mut client = proxy.client();
        let listed = keys(&list(&mut client, "lru_crawler metadump all"));
        assert_eq!(listed.iter().filter(|key| *key == "a").count(), 2, "{policy}: {listed:?}");
        assert_eq!(listed.len(), 12, "{policy}");
        let proxy = Proxy::start(&[out], &[policy]);
        let answer = proxy.client().ask("lru_crawler metadump all\r\n");
        let expected = if policy.ends_with("error") { "SERVER_ERROR Connection refused" } else { "END" };
        assert_eq!(answer, expected, "{policy}");
    }
}

#[test]
fn a_long_list_that_is_not_read_holds_nobody_up_and_is_not_collected() {
    let servers = memcacheds(2);
    let port = free_port();
    let server = |server: &Process| format!("    - {}:1\n", server.address);
    // On a busy machine a server may be silent for so long that it is answered for; here nobody is to be but for its list.
    let text = format!(
        "softmiss:\n  workers: 2\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 1000\n  auto_eject_hosts: true\n  \
         server_failure_limit: 1\n  stall_detection: false\n  servers:\n{}{}",
        server(&servers[0]),
        server(&servers[1])
    );
    let proxy = Proxy::with_file(&text, port);
    let mut client = proxy.client();
    let start = "x".repeat(150);
    let patient = Proxy::start(&addresses(&servers), &["timeout: 60000", "stall_detection: false"]);
    let stored = fill(&mut patient.client(), &start, 100_000);
    let before = proxy.resident();
    let slow = TcpStream::connect(proxy.address).unwrap();
    let mut slow = Client::of(slow);
    slow.send("lru_crawler metadump hash\r\n");
    // It begins, and is not read on: by now the server waits, and so do others that want its list.
    let begun = slow.read(1);
    let lasts = Instant::now() + Duration::from_millis(1300);
    let mut longest = Duration::ZERO;
    while Instant::now() < lasts {
        for number in 0..50 {
            let (answer, time) = client.ask_timed(format!("get {start}{number}\r\n"));
            assert!(answer.starts_with("VALUE "), "{answer}");
            client.read_through(b"END\r\n");
            longest = longest.max(time);
        }
    }
    assert!(longest < Duration::from_millis(900), "a get took {longest:?}");
    let more = proxy.resident().saturating_sub(before);
    assert!(more < 8 << 20, "{more} bytes are kept of what is not read");
    let rest = [begun, slow.read_through(b"END\r\n")].concat();
    let listed = keys(&rest);
    let count = listed.len();
    let listed = listed.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(listed.len(), count, "none is there twice");
    // A server passes over an item whose lock is held at that moment: those few that were read while the list began.
    let missing = stored.difference(&listed).count();
    assert!(missing < 50 && listed.is_subset(&stored), "{missing} are missing");
    let statistics = proxy.statistics();
    assert_eq!(statistics["pool"]["server_ejects"], 0);
    for server in &servers {
        assert_eq!(statistics["pool"][server.address.to_string()]["server_timedout"], 0);
    }
    // One that leaves in the middle, and one before anything has come, leave no connection behind, and no server busy.
    let connections = || {
        let statistics = proxy.statistics();
        let count = |server: &Process| statistics["pool"][server.address.to_string()]["server_connections"].as_u64();
        servers.iter().map(|server| count(server).expect("a count")).sum::<u64>()
    };
    let usual = connections();
    let mut leaves = Client::of(TcpStream::connect(proxy.address).unwrap());
    leaves.send("lru_crawler metadump hash\r\n");
    leaves.read(1);
    assert!(connections() > usual);
    drop(leaves);
    Client::of(TcpStream::connect(proxy.address).unwrap()).send("lru_crawler metadump hash\r\n");
    wait_until("their connections to be closed", Duration::from_secs(5), || connections() == usual);
    wait_until("the servers to list for others", Duration::from_secs(5), || {
        client.send("lru_crawler metadump hash\r\nmn\r\n");
        client.read_through(b"MN\r\n").starts_with(b"key=")
    });
}

/// Also of what has not been read while the list was told.
#[test]
fn what_stands_behind_a_list_is_carried_out_for_who_sends_no_more() {
    const BEHIND: usize = 1_100;
    let servers = memcacheds(1);
    let proxy = Proxy::start(&addresses(&servers), &["timeout: 60000", "stall_detection: false"]);
    fill(&mut proxy.client(), &"x".repeat(150), 60_000);
    let mut half = TcpStream::connect(proxy.address).unwrap();
    let behind = format!("set behind 0 0 1000\r\n{}\r\n", "x".repeat(1000)).repeat(BEHIND);
    half.write_all(format!("lru_crawler metadump hash\r\n{behind}").as_bytes()).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(500)); // as much is read of it as is read at all, and its end has come
    let mut client = Client::of(half);
    client.read_through(b"END\r\n");
    for number in 0..BEHIND {
        assert_eq!(client.line(), "STORED", "{number}");
    }
    assert!(client.is_closed());
}

//! Pools of memcached.

use std::thread::sleep;

use super::super::support::scattered_key;
use super::{Client, Duration, Fleet, LONG, Process, Proxy, ask, free_port, wait_until};

const MISS: &[u8] = b"END\r\n";

fn value(key: &str, value: &str) -> Vec<u8> {
    [block(key, value), MISS.to_vec()].concat()
}

fn block(key: &str, value: &str) -> Vec<u8> {
    format!("VALUE {key} 5 {}\r\n{value}\r\n", value.len()).into_bytes()
}

fn set(key: &str, value: &str) -> String {
    format!("set {key} 5 0 {}\r\n{value}\r\n", value.len())
}

/// A change, and what it is answered if that is known.
type Way = fn(u32) -> (String, &'static [u8]);

#[test]
fn what_is_asked_for_often_needs_no_server() {
    let fleet = Fleet::of_memcached(1, 1, &[LONG]);
    let mut client = fleet.client(0);
    ask(&mut client, &set("k", "a\0b\r\nc"), b"STORED\r\n");
    fleet.warm(&mut client, "get k\r\n", &value("k", "a\0b\r\nc"));
    let before = fleet.asked();
    fleet.servers[0].signal("STOP");
    for _ in 0..100 {
        ask(&mut client, "get k\r\n", &value("k", "a\0b\r\nc"));
    }
    ask(&mut client, &"get k\r\n".repeat(50), &value("k", "a\0b\r\nc").repeat(50));
    ask(&mut fleet.client(0), "get k k\r\n", &[block("k", "a\0b\r\nc"), value("k", "a\0b\r\nc")].concat());
    fleet.servers[0].signal("CONT");
    assert!(fleet.asked() <= before + 4, "fetched anew at the most, by each worker");
}

#[test]
fn keys_that_are_kept_and_others_come_in_their_order() {
    let fleet = Fleet::of_memcached(3, 1, &[LONG]);
    let mut client = fleet.client(0);
    let keys: Vec<String> = (0..12).map(|number| format!("key:{number}")).collect();
    keys.iter().for_each(|key| ask(&mut client, &set(key, key), b"STORED\r\n"));
    for key in keys.iter().step_by(3) {
        fleet.warm(&mut client, &format!("get {key}\r\n"), &value(key, key));
    }
    let hits = fleet.count("near_hits");
    let blocks: Vec<Vec<u8>> = keys.iter().map(|key| block(key, key)).collect();
    ask(
        &mut client,
        &format!("get nothing {} nor:this\r\n", keys.join(" ")),
        &[blocks.concat(), MISS.to_vec()].concat(),
    );
    assert_eq!(fleet.count("near_hits"), hits + 4);
}

#[test]
fn values_live_no_longer_than_was_said() {
    let fleet = Fleet::of_memcached(1, 1, &[LONG]);
    let mut client = fleet.client(0);
    ask(&mut client, "set k 5 4 1\r\nv\r\n", b"STORED\r\n");
    fleet.warm(&mut client, "get k\r\n", &value("k", "v"));
    wait_until("over", Duration::from_secs(8), || {
        client.send("get k\r\n");
        client.read_through(b"END\r\n") == MISS
    });
    let direct = fleet.servers[0].client().ask("get k\r\n");
    assert_eq!(direct, "END", "nor any shorter: it would have been asked for");
}

#[test]
fn every_client_reads_what_another_one_has_written() {
    let fleet = Fleet::of_memcached(1, 1, &[LONG, "server_connections: 2"]);
    let mut clients: Vec<_> = (0..8).map(|_| fleet.client(0)).collect();
    ask(&mut clients[0], &set("n", "0"), b"STORED\r\n");
    let ways: [Way; 7] = [
        |number| (set("n", &number.to_string()), b"STORED\r\n"),
        |_| ("incr n 1\r\n".to_owned(), b""),
        |number| (format!("replace n 5 0 {}\r\n{number}\r\n", number.to_string().len()), b"STORED\r\n"),
        |number| {
            (format!("delete n\r\nadd n 5 0 {}\r\n{number}\r\n", number.to_string().len()), b"DELETED\r\nSTORED\r\n")
        },
        |number| (format!("ms n {} F5 T0\r\n{number}\r\n", number.to_string().len()), b"HD\r\n"),
        |_| ("ma n v\r\n".to_owned(), b""),
        |number| (format!("ms bg== {} F5 T0 b\r\n{number}\r\n", number.to_string().len()), b"HD\r\n"),
    ];
    let mut newest: u64 = 0;
    for number in 0..3000_u32 {
        let (writer, reader) = (number as usize % 8, (number as usize / 8) % 8);
        let (request, answer) = ways[number as usize % ways.len()](number + 1_000_000);
        clients[writer].send(&request);
        if request.starts_with("incr") {
            newest = clients[writer].line().trim_end().parse().expect("a number");
        } else if request.starts_with("ma") {
            clients[writer].line();
            newest = clients[writer].line().trim_end().parse().expect("a number");
        } else {
            assert_eq!(clients[writer].read(answer.len()), answer, "{request}");
            newest = u64::from(number) + 1_000_000;
        }
        for reader in [reader, (reader + 3) % 8] {
            ask(&mut clients[reader], "get n\r\nget n\r\n", &value("n", &newest.to_string()).repeat(2));
        }
    }
    assert!(newest > 0 && fleet.count("near_hits") > 0, "some were kept in between");
}

#[test]
fn who_has_not_been_answered_yet_reads_what_they_have_sent() {
    let fleet = Fleet::of_memcached(1, 1, &[LONG, "server_connections: 2"]);
    let (mut client, mut other) = (fleet.client(0), fleet.client(0));
    for number in 0..2000 {
        let (text, noreply) = (format!("v{number}"), number % 2 == 0);
        let size = text.len();
        let write = format!("set k 5 0 {size}{}\r\n{text}\r\n", if noreply { " noreply" } else { "" });
        client.send(format!("{write}get k\r\nget k\r\n"));
        other.send("get k\r\nget k\r\n");
        if !noreply {
            assert_eq!(client.line(), "STORED");
        }
        let expected = value("k", &text).repeat(2);
        assert_eq!(client.read(expected.len()), expected);
        other.read_through(b"END\r\n");
        other.read_through(b"END\r\n");
    }
}

#[test]
fn a_flush_leaves_nothing() {
    let fleet = Fleet::of_memcached(2, 1, &[LONG]);
    let mut client = fleet.client(0);
    for round in 0..20 {
        ask(&mut client, &set("k", "v"), b"STORED\r\n");
        fleet.warm(&mut client, "get k\r\n", &value("k", "v"));
        ask(&mut client, "flush_all\r\n", b"OK\r\n");
        for _ in 0..4 {
            client.send("get k\r\n");
            assert_eq!(client.read_through(MISS), MISS, "round {round}");
        }
    }
}

#[test]
fn what_another_host_writes_is_seen_when_its_time_is_over() {
    let fleet = Fleet::of_memcached(1, 2, &["near_cache: {ttl: 200ms}"]);
    let (mut here, mut there) = (fleet.client(0), fleet.client(1));
    for round in 0..10 {
        let text = format!("v{round}");
        ask(&mut there, &set("k", &text), b"STORED\r\n");
        sleep(Duration::from_millis(200));
        for _ in 0..20 {
            ask(&mut here, "get k\r\n", &value("k", &text));
        }
    }
    assert!(fleet.count("near_hits") > 20, "{}", fleet.count("near_hits"));
}

#[test]
fn what_is_kept_stands_in_for_a_server_that_is_out() {
    for policy in ["on_eject: hold", "on_eject: rehash"] {
        let option = "near_cache: {ttl: 100ms, stale_on_error: 5m}";
        let more = [option, policy, "auto_eject_hosts: true", "server_failure_limit: 1", "server_retry_timeout: 60000"];
        let mut fleet = Fleet::of_memcached(2, 1, &more);
        fleet.proxies = fleet.proxies.into_iter().map(|proxy| proxy.expect_log("server ejected")).collect();
        let mut client = fleet.client(0);
        let keys: Vec<String> = (0..16).map(scattered_key).collect();
        for key in &keys {
            ask(&mut client, &set(key, key), b"STORED\r\n");
            fleet.warm(&mut client, &format!("get {key}\r\n"), &value(key, key));
        }
        sleep(Duration::from_millis(150));
        fleet.servers[0].kill();
        wait_until("out of the ring", Duration::from_secs(10), || {
            for key in &keys {
                client.send(format!("gets {key}\r\n")); // which is always asked of the server
                client.read_through(b"END\r\n");
            }
            fleet.proxies[0].log().iter().any(|line| line.contains("server ejected"))
        });
        for key in &keys {
            ask(&mut client, &format!("get {key}\r\n"), &value(key, key));
        }
        let blocks: Vec<Vec<u8>> = keys.iter().map(|key| block(key, key)).collect();
        ask(&mut client, &format!("get {}\r\n", keys.join(" ")), &[blocks.concat(), MISS.to_vec()].concat());
        assert!(fleet.count("near_stale") > 0, "{policy}");
        for key in &keys {
            client.send(format!("delete {key}\r\n"));
            client.line();
            client.send(format!("get {key}\r\n"));
            assert_eq!(client.read_through(MISS), MISS, "{policy}: what was deleted is not given any more");
        }
    }
}

#[test]
fn a_flush_by_the_operator_leaves_nothing() {
    let (server, port, admin) = (Process::memcached(), free_port(), free_port());
    let address = server.address;
    let pool = format!("listen: 127.0.0.1:{port}\n  timeout: 2000\n  {LONG}\n  servers: ['{address}:1']\n");
    let text = format!("softmiss:\n  admin: 127.0.0.1:{admin}\npool:\n  {pool}");
    let proxy = Proxy::with_file(&text, port).expect_log("servers flushed by the operator");
    let fleet = Fleet { servers: vec![server], proxies: vec![proxy] };
    let mut client = fleet.client(0);
    ask(&mut client, &set("k", "v"), b"STORED\r\n");
    fleet.warm(&mut client, "get k\r\n", &value("k", "v"));
    let mut operator = Client::connect(format!("127.0.0.1:{admin}").parse().expect("an address"));
    operator.send("POST /flush_all?pool=pool HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(operator.line().contains("200"));
    ask(&mut client, "get k\r\n", MISS);
}

#[test]
fn who_does_not_read_what_is_kept_pays_for_it_alone() {
    let (server, port) =
        (Process::memcached_with(free_port(), &["-I", "2m"], std::process::Stdio::null()), free_port());
    let address = server.address;
    let pool =
        format!("listen: 127.0.0.1:{port}\n  timeout: 1000\n  near_cache: {{ttl: 1h}}\n  servers: ['{address}:1']\n");
    let text = format!("softmiss:\n  memory_limit: 64mb\npool:\n  {pool}");
    let proxy = Proxy::with_file(&text, port).expect_log("memory").expect_log("server fails, and stays in the ring");
    let fleet = Fleet { servers: vec![server], proxies: vec![proxy] };
    let mut client = fleet.client(0);
    let large = "x".repeat(1 << 20);
    ask(&mut client, &set("large", &large), b"STORED\r\n");
    ask(&mut client, &set("small", "v"), b"STORED\r\n");
    fleet.warm(&mut client, "get large\r\n", &value("large", &large));
    let hogs: Vec<_> = (0..20)
        .map(|_| {
            let mut hog = fleet.client(0);
            hog.send(format!("get{}\r\n", " large".repeat(40)));
            hog
        })
        .collect();
    for _ in 0..10 {
        client.send("gets small\r\n");
        client.read_through(b"END\r\n"); // the value or a miss, in time: it would be waited for no longer than ten seconds
        sleep(Duration::from_millis(50));
    }
    let resident = fleet.proxies[0].resident();
    assert!(resident < (64 + 32 + 4) << 20, "{} MB", resident >> 20);
    drop(hogs);
}

#[test]
fn keys_that_are_not_meant_are_not_kept() {
    let fleet = Fleet::of_memcached(1, 1, &["near_cache: {ttl: 1h, keys: [\"page:\"]}"]);
    let mut client = fleet.client(0);
    ask(&mut client, &set("user:1", "v"), b"STORED\r\n");
    for _ in 0..100 {
        ask(&mut client, "get user:1\r\n", &value("user:1", "v"));
    }
    ask(&mut client, &set("page:1", "v"), b"STORED\r\n");
    fleet.warm(&mut client, "get page:1\r\n", &value("page:1", "v"));
    fleet.servers[0].client().ask(set("user:1", "w"));
    ask(&mut client, "get user:1\r\n", &value("user:1", "w"));
}

#[test]
fn versions_are_always_those_of_the_server() {
    let fleet = Fleet::of_memcached(1, 1, &[LONG]);
    let mut client = fleet.client(0);
    ask(&mut client, &set("k", "v"), b"STORED\r\n");
    fleet.warm(&mut client, "get k\r\n", &value("k", "v"));
    fleet.servers[0].client().ask(set("k", "w"));
    client.send("gets k\r\n");
    let answer = client.read_through(MISS);
    assert!(answer.windows(3).any(|bytes| bytes == b"\nw\r"), "{}", answer.escape_ascii());
}

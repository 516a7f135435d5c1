//! Pools of Redis, whose servers tell of changes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Client, Duration, Fleet, LONG, Process, Proxy, ask, free_port, wait_until};
use crate::support::scattered_key;

const MISS: &[u8] = b"$-1\r\n";
const OK: &[u8] = b"+OK\r\n";

fn value(value: &str) -> Vec<u8> {
    format!("${}\r\n{value}\r\n", value.len()).into_bytes()
}

/// Asks until the answer is this one.
fn becomes(client: &mut Client, request: &str, answer: &[u8]) {
    wait_until("told", Duration::from_secs(10), || {
        client.send(request);
        let begin = client.line();
        let found = match begin.strip_prefix('$').map(str::parse::<i64>) {
            Some(Ok(len)) if len >= 0 => value(&client.line()),
            _ => format!("{begin}\r\n").into_bytes(),
        };
        found == answer
    });
}

/// A change, and what it is answered.
type Way = fn(u32) -> (String, Vec<u8>);

#[test]
fn what_is_asked_for_often_needs_no_server() {
    let fleet = Fleet::of_redis(2, 1, &[LONG]);
    let mut client = fleet.client(0);
    for key in ["a", "b", "c", "d"] {
        ask(&mut client, &format!("SET {key} {key}1\r\n"), OK);
        fleet.warm(&mut client, &format!("GET {key}\r\n"), &value(&format!("{key}1")));
    }
    fleet.servers.iter().for_each(|server| server.signal("STOP"));
    ask(&mut client, &"GET a\r\n".repeat(50), &value("a1").repeat(50));
    let all = ["a1", "b1", "c1", "d1"].map(value).concat();
    ask(&mut client, "MGET a b c d\r\n", &[b"*4\r\n", &all[..]].concat());
    client.send("HELLO 3\r\n");
    client.read_through(b"modules\r\n*0\r\n");
    ask(&mut client, "GET d\r\n", &value("d1"));
    fleet.servers.iter().for_each(|server| server.signal("CONT"));
    ask(&mut client, "SELECT 1\r\nGET a\r\n", b"+OK\r\n_\r\n");
}

#[test]
fn what_another_host_changes_is_told() {
    let fleet = Fleet::of_redis(2, 2, &[LONG]);
    let (mut here, mut there) = (fleet.client(0), fleet.client(1));
    let mut direct: Vec<Client> = fleet.servers.iter().map(|server| server.client()).collect();
    ask(&mut there, "SET k 0\r\n", OK);
    let ways = ["SET k 1\r\n", "INCR k\r\n", "APPEND k 5\r\n", "SETRANGE k 0 9\r\n", "GETSET k 7\r\n"];
    for (round, way) in ways.iter().enumerate() {
        there.send("GET k\r\n");
        there.line();
        let before = there.line();
        fleet.warm(&mut here, "GET k\r\n", &value(&before));
        there.send(way);
        if there.line().starts_with('$') {
            there.line();
        }
        let after = ["1", "2", "25", "95", "7"][round];
        becomes(&mut here, "GET k\r\n", &value(after));
    }
    fleet.warm(&mut here, "GET k\r\n", &value("7"));
    ask(&mut there, "PEXPIRE k 1\r\n", b":1\r\n");
    becomes(&mut here, "GET k\r\n", MISS);
    ask(&mut there, "SET k 8\r\n", OK);
    becomes(&mut here, "GET k\r\n", &value("8"));
    fleet.warm(&mut here, "GET k\r\n", &value("8"));
    direct.iter_mut().for_each(|server| assert_eq!(server.ask("FLUSHALL\r\n"), "+OK"));
    becomes(&mut here, "GET k\r\n", MISS);
    assert!(fleet.count("near_told") >= 6, "{}", fleet.count("near_told"));
}

#[test]
fn what_a_lost_connection_would_have_told_is_not_given_out() {
    let fleet = Fleet::of_redis(1, 1, &[LONG, "server_failure_limit: 1000"]);
    let mut client = fleet.client(0);
    let mut direct = fleet.servers[0].client();
    for round in 0..10 {
        let text = format!("v{round}");
        assert_eq!(direct.ask(format!("SET k {text}\r\n")), "+OK");
        becomes(&mut client, "GET k\r\n", &value(&text));
        wait_until("kept", Duration::from_secs(10), || {
            let hits = fleet.count("near_hits");
            ask(&mut client, "GET k\r\n", &value(&text));
            fleet.count("near_hits") > hits
        });
        direct.send("CLIENT KILL TYPE normal SKIPME yes\r\n");
        direct.line();
        // Until there is another one, nothing is kept that nobody would tell of.
        for _ in 0..200 {
            ask(&mut client, "GET k\r\n", &value(&text));
        }
    }
}

#[test]
fn every_client_reads_what_another_one_has_written() {
    let fleet = Fleet::of_redis(2, 1, &[LONG, "hash_tag: \"{}\""]);
    let mut clients: Vec<_> = (0..8).map(|_| fleet.client(0)).collect();
    ask(&mut clients[0], "SET {n} 0\r\n", OK);
    let ways: [Way; 6] = [
        |number| (format!("SET {{n}} {number}\r\n"), OK.to_vec()),
        |number| (format!("MSET other 1 {{n}} {number}\r\n"), OK.to_vec()),
        |number| {
            let queued = b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n".to_vec();
            (format!("MULTI\r\nSET {{n}} {number}\r\nEXEC\r\n"), queued)
        },
        |number| (format!("EVAL \"return redis.call('set', KEYS[1], ARGV[1])\" 1 {{n}} {number}\r\n"), OK.to_vec()),
        |number| (format!("DEL {{n}}\r\nSETNX {{n}} {number}\r\n"), b":1\r\n:1\r\n".to_vec()),
        |number| (format!("SET {{n}}s {number}\r\nRENAME {{n}}s {{n}}\r\n"), OK.repeat(2)),
    ];
    for number in 0..2000_u32 {
        let (writer, reader) = (number as usize % 8, (number as usize / 8) % 8);
        let (request, answer) = ways[number as usize % ways.len()](number);
        ask(&mut clients[writer], &request, &answer);
        for reader in [reader, (reader + 3) % 8] {
            ask(&mut clients[reader], "GET {n}\r\nGET {n}\r\n", &value(&number.to_string()).repeat(2));
        }
    }
    assert!(fleet.count("near_hits") > 0, "some were kept in between");
}

#[test]
fn databases_that_are_swapped_are_read_as_they_are() {
    let fleet = Fleet::of_redis(1, 1, &[LONG]);
    let (mut zero, mut one) = (fleet.client(0), fleet.client(0));
    ask(&mut one, "SELECT 1\r\nSET k 1\r\n", &OK.repeat(2));
    ask(&mut zero, "SET k 0\r\n", OK);
    let swaps = ["SWAPDB 0 1\r\n", "MULTI\r\nSWAPDB 0 1\r\nEXEC\r\n"];
    let answers = [OK, b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"];
    for round in 0..6 {
        let (here, there) = if round % 2 == 0 { ("0", "1") } else { ("1", "0") };
        fleet.warm(&mut zero, "GET k\r\n", &value(here));
        fleet.warm(&mut one, "GET k\r\n", &value(there));
        ask(&mut zero, swaps[round % 2], answers[round % 2]);
        ask(&mut zero, "GET k\r\n", &value(there));
        ask(&mut one, "GET k\r\n", &value(here));
    }
}

#[test]
fn a_connection_that_falls_silent_is_noticed() {
    let server = Process::redis();
    let relay = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = relay.local_addr().expect("an address");
    let is_silent = Arc::new(AtomicBool::new(false));
    let (drops, home) = (Arc::clone(&is_silent), server.address);
    std::thread::spawn(move || {
        for near_end in relay.incoming().map_while(Result::ok) {
            let far_end = TcpStream::connect(home).expect("the server");
            let tracks = Arc::new(AtomicBool::new(false));
            for (mut from, mut to) in
                [(near_end.try_clone().expect("a copy"), far_end.try_clone().expect("a copy")), (far_end, near_end)]
            {
                let (drops, tracks) = (Arc::clone(&drops), Arc::clone(&tracks));
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        if memchr::memmem::find(&buffer[..count], b"TRACKING").is_some() {
                            tracks.store(true, Ordering::SeqCst);
                        }
                        // Those on which nothing is told go on.
                        if !(drops.load(Ordering::SeqCst) && tracks.load(Ordering::SeqCst)) {
                            to.write_all(&buffer[..count]).ok();
                        }
                    }
                });
            }
        }
    });
    let port = free_port();
    let pool = format!("listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 400\n  {LONG}\n  servers: ['{at}:1']\n");
    let proxy = Proxy::with_file(&format!("pool:\n  {pool}"), port).expect_log("server fails, and stays in the ring");
    let fleet = Fleet { servers: vec![server], proxies: vec![proxy] };
    let mut client = fleet.client(0);
    ask(&mut client, "SET k 1\r\n", OK);
    fleet.warm(&mut client, "GET k\r\n", &value("1"));
    is_silent.store(true, Ordering::SeqCst);
    assert_eq!(fleet.servers[0].client().ask("SET k 2\r\n"), "+OK");
    becomes(&mut client, "GET k\r\n", &value("2"));
}

#[test]
fn who_watches_a_key_reads_what_they_watch() {
    let fleet = Fleet::of_redis(1, 2, &["near_cache: {ttl: 1h}"]);
    let (mut here, mut there) = (fleet.client(0), fleet.client(1));
    ask(&mut there, "SET k 0\r\n", OK);
    for round in 0..200_u32 {
        fleet.proxies[0].client().send("GET k\r\n");
        ask(&mut there, "INCR k\r\n", format!(":{}\r\n", 2 * round + 1).as_bytes());
        here.send("WATCH k\r\nGET k\r\n");
        assert_eq!(here.line(), "+OK");
        here.line();
        let read: u32 = here.line().parse().expect("a number");
        here.send(format!("MULTI\r\nSET k {}\r\nEXEC\r\n", read + 1));
        assert_eq!((here.line(), here.line(), here.line()), ("+OK".into(), "+QUEUED".into(), "*1".into()));
        assert_eq!(here.line(), "+OK");
        assert_eq!(read, 2 * round + 1, "an old value was changed, and no guard saw it");
    }
}

#[test]
fn who_watches_a_key_whose_server_is_out_reads_what_they_watch() {
    let option = "near_cache: {ttl: 1m, stale_on_error: 5m}";
    let eject =
        ["auto_eject_hosts: true", "server_failure_limit: 1", "server_retry_timeout: 60000", "on_failure: miss"];
    let mut fleet = Fleet::of_redis(2, 1, &[&[option][..], &eject].concat());
    fleet.proxies = fleet.proxies.into_iter().map(|proxy| proxy.expect_log("server ejected")).collect();
    let (mut watcher, mut reader) = (fleet.client(0), fleet.client(0));
    let mut homes = [fleet.servers[0].client(), fleet.servers[1].client()];
    let keys = (0..).map(scattered_key);
    let keys: Vec<String> = keys
        .filter(|key| {
            ask(&mut reader, &format!("SET {key} old\r\n"), OK);
            homes[0].ask(format!("EXISTS {key}\r\n")) == ":1"
        })
        .take(2)
        .collect();
    for key in &keys {
        fleet.warm(&mut reader, &format!("GET {key}\r\n"), &value("old"));
    }
    fleet.servers[0].kill();
    wait_until("out of the ring", Duration::from_secs(10), || {
        reader.send(format!("STRLEN {}\r\n", keys[0])); // which is always asked of the server
        reader.line();
        fleet.proxies[0].log().iter().any(|line| line.contains("server ejected"))
    });
    for key in &keys {
        ask(&mut reader, &format!("GET {key}\r\n"), &value("old"));
        ask(&mut watcher, &format!("WATCH {key}\r\nGET {key}\r\n"), &[OK, MISS].concat());
        ask(&mut watcher, &format!("MULTI\r\nSET {key} new\r\nEXEC\r\n"), b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    }
}

#[test]
fn a_watch_leaves_what_is_kept() {
    let fleet = Fleet::of_redis(1, 1, &[LONG]);
    let (mut watcher, mut reader) = (fleet.client(0), fleet.client(0));
    ask(&mut watcher, "SET k v\r\n", OK);
    fleet.warm(&mut reader, "GET k\r\n", &value("v"));
    let hits = fleet.count("near_hits");
    for _ in 0..10 {
        ask(&mut watcher, "WATCH k\r\nUNWATCH\r\n", b"+OK\r\n+OK\r\n");
        ask(&mut reader, "GET k\r\n", &value("v"));
    }
    assert_eq!(fleet.count("near_hits"), hits + 10);
}

#[test]
fn values_live_no_longer_than_was_said() {
    let fleet = Fleet::of_redis(1, 1, &[LONG]);
    let mut client = fleet.client(0);
    ask(&mut client, "SET k v PX 3000\r\n", OK);
    fleet.warm(&mut client, "GET k\r\n", &value("v"));
    becomes(&mut client, "GET k\r\n", MISS);
}

#[test]
fn a_server_that_tells_nothing_has_its_values_kept_for_their_time() {
    let mut fleet = Fleet::of_redis(1, 1, &["near_cache: {ttl: 300ms}", "redis_auth: p", "redis_user: u"]);
    fleet.proxies = fleet.proxies.into_iter().map(|proxy| proxy.expect_log("refused=\"tracking\"")).collect();
    let mut direct = fleet.servers[0].client();
    assert_eq!(direct.ask("ACL SETUSER u on >p ~* +@all -client|tracking\r\n"), "+OK");
    let mut client = fleet.client(0);
    ask(&mut client, "AUTH u p\r\nSET k 1\r\n", b"+OK\r\n+OK\r\n");
    fleet.warm(&mut client, "GET k\r\n", &value("1"));
    assert_eq!(direct.ask("SET k 2\r\n"), "+OK");
    becomes(&mut client, "GET k\r\n", &value("2"));
    fleet.proxies[0].wait_for_log("tracking", Duration::from_secs(5));
    assert_eq!(fleet.count("near_told"), 0);
}

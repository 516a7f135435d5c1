//! A server that has as many connections as it takes: it says so on the next one, and closes it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::support::bad::Scripted;
use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};

const REDIS: &str = "-ERR max number of clients reached\r\n";
const MEMCACHED: &str = "ERROR Too many open connections\r\n";

/// Requests, and the first lines that they get in miss mode.
const OF_REDIS: [(&str, &str); 5] = [
    ("GET a\r\n", "$-1"),
    ("SET a 1\r\n", "$-1"),
    ("MGET a b\r\n", "*2"),
    ("DBSIZE\r\n", ":0"),
    ("BLPOP a 1\r\n", "*-1"),
];
const OF_MEMCACHED: [(&str, &str); 4] =
    [("get a\r\n", "END"), ("set a 0 0 1\r\nx\r\n", "NOT_STORED"), ("mg a v\r\n", "EN"), ("delete a\r\n", "NOT_FOUND")];

/// A server that turns connections away, whatever is asked on them.
fn full(line: &'static str) -> Scripted {
    Scripted::answering(move |_| line.into())
}

fn asks(address: SocketAddr, settings: &[&str], cases: &[(&str, &str)]) -> Proxy {
    let proxy = Proxy::start(&[address], settings);
    for (request, expected) in cases {
        assert_eq!(proxy.client().ask(request), *expected, "{request:?} with {settings:?}");
    }
    proxy
}

#[test]
fn what_is_said_of_a_connection_is_no_answer() {
    let count = |proxy: &Proxy| proxy.statistics()["pool"]["degraded_server_full"].as_u64();
    let proxy = asks(full(REDIS).address, &["redis: true", "on_failure: miss"], &OF_REDIS);
    assert!(count(&proxy).is_some_and(|count| count >= 1), "{}", proxy.statistics());
    let proxy = asks(full(MEMCACHED).address, &["on_failure: miss"], &OF_MEMCACHED);
    assert!(count(&proxy).is_some_and(|count| count >= 1), "{}", proxy.statistics());
    // With a handshake.
    asks(full(REDIS).address, &["redis: true", "redis_db: 1", "on_failure: miss"], &OF_REDIS[..1]);
}

#[test]
fn an_error_says_whose_connections_are_meant() {
    for (line, settings, request) in [
        (REDIS, &["redis: true", "on_failure: error"][..], "GET a\r\n"),
        (REDIS, &["redis: true", "redis_db: 1", "on_failure: error"], "SET a 1\r\n"),
        (MEMCACHED, &["on_failure: error"], "get a\r\n"),
    ] {
        let told = Proxy::start(&[full(line).address], settings).client().ask(request);
        assert!(told.contains("no more connections"), "{told}");
    }
}

#[test]
fn it_counts_against_the_server() {
    for (line, settings, (request, expected)) in [
        (REDIS, &["redis: true", "on_failure: miss"][..], OF_REDIS[0]),
        (MEMCACHED, &["on_failure: miss"], OF_MEMCACHED[0]),
    ] {
        let settings = [settings, &["auto_eject_hosts: true", "server_failure_limit: 2"]].concat();
        let proxy = Proxy::start(&[full(line).address], &settings).expect_log("server ejected");
        let since = Instant::now();
        while !proxy.log().iter().any(|line| line.contains("server ejected")) {
            assert_eq!(proxy.client().ask(request), expected);
            assert!(since.elapsed() < Duration::from_secs(5), "{:?}", proxy.log());
        }
    }
}

/// Takes all of a server's connections, and asks on another through a proxy.
fn taken(server: &Process, request: &str, settings: &[&str], cases: &[(&str, &str)]) {
    let held: Vec<Client> = (0..64)
        .map(|_| {
            let mut client = server.client();
            client.send(request);
            client
        })
        .map_while(|mut client| {
            client.try_line().filter(|line| !line.contains("max") && !line.contains("many")).map(|_| client)
        })
        .collect();
    assert!(held.len() < 64, "the server is not full");
    for _ in 0..5 {
        asks(server.address, settings, cases);
    }
}

#[test]
fn real_servers_that_are_full_are_not_there() {
    let redis = Process::redis_with(free_port(), &["--maxclients", "8"]);
    taken(&redis, "PING\r\n", &["redis: true", "on_failure: miss"], &OF_REDIS);
    let memcached = Process::memcached_with(free_port(), &["-c", "32"], Stdio::null());
    taken(&memcached, "version\r\n", &["on_failure: miss"], &OF_MEMCACHED);
}

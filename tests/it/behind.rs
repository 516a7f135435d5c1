//! A server that is flushed before it is back: behind all that it was asked before, and when a flush is due.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

/// A memcached of one connection at a time, each in the test's hand.
struct Hand {
    listener: std::net::TcpListener,
}

impl Hand {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        Self { listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("address")
    }

    /// The next connection, as the client of a plain conversation.
    fn accept(&self) -> Client {
        let mut stream = None;
        wait_until("a connection", Duration::from_secs(10), || {
            stream = self.listener.accept().ok();
            stream.is_some()
        });
        let (stream, _) = stream.expect("a connection");
        stream.set_nonblocking(false).expect("blocking");
        Client::of(stream)
    }
}

/// Takes a server out that was asked to store something and has not looked at it; the connection, and the probe's, which
/// has been answered.
fn out_with_a_write_in_flight(proxy: &Proxy, server: &Hand) -> (Client, Client) {
    let mut client = proxy.client();
    client.send("set key 0 0 3\r\nold\r\n");
    let old = server.accept();
    assert_eq!(client.line(), "NOT_STORED");
    proxy.wait_for_log("server ejected", Duration::from_secs(5));
    let mut probe = server.accept();
    loop {
        match probe.try_line().as_deref() {
            Some("version") => break,
            Some(_) => {}
            None => probe = server.accept(), // a connection of before the ejection
        }
    }
    probe.send("VERSION 1.6.18\r\n");
    (old, probe)
}

const HUNG: [&str; 6] = [
    "timeout: 100",
    "auto_eject_hosts: true",
    "server_failure_limit: 1",
    "server_retry_timeout: 300",
    "rejoin: flush",
    "stall_detection: false",
];

#[test]
fn a_server_is_flushed_behind_all_that_it_was_asked_before() {
    let server = Hand::start();
    let proxy = Proxy::start(&[server.address()], &HUNG).expect_log("server ejected");
    let (mut old, mut probe) = out_with_a_write_in_flight(&proxy, &server);
    // It reads on, and comes to the end: only then the flush may come.
    probe.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("read timeout");
    assert!(probe.try_line().is_none(), "flushed before the server had come to the end of the old connection");
    assert_eq!(old.line(), "set key 0 0 3");
    assert_eq!(old.line(), "old");
    old.send("STORED\r\n");
    assert!(old.is_closed());
    drop(old);
    probe.stream.set_read_timeout(Some(Duration::from_secs(5))).expect("read timeout");
    assert_eq!(probe.line(), "flush_all");
    probe.send("OK\r\n");
    proxy.wait_for_log("server restored", Duration::from_secs(5));
}

#[test]
fn a_server_that_never_comes_to_the_end_of_a_connection_is_not_waited_for_without_limit() {
    let server = Hand::start();
    let proxy = Proxy::start(&[server.address()], &HUNG).expect_log("server ejected").expect_log("leaves connections");
    let (mut old, mut probe) = out_with_a_write_in_flight(&proxy, &server);
    let answered = Instant::now();
    assert_eq!(probe.line(), "flush_all");
    assert!(answered.elapsed() > Duration::from_millis(500));
    probe.send("OK\r\n");
    proxy.wait_for_log("server restored", Duration::from_secs(5));
    assert!(proxy.log().iter().any(|line| line.contains("leaves connections open")));
    assert!(old.is_closed(), "it is reset");
}

/// What the registry has had sent stays pending if it is not confirmed, whatever the pool's policy.
#[test]
fn a_flush_outlives_a_probe_that_dies_of_it_or_a_server_that_is_not_ready() {
    for (end, redis) in [("", "true"), ("-LOADING it is\r\n", "true"), ("-BUSY it is\r\n", "true"), ("", "false")] {
        let server = Hand::start();
        let redis_line = format!("redis: {redis}");
        let more = [&HUNG[..], &["on_failure: error", &redis_line]].concat();
        let proxy = Proxy::start(&[server.address()], &more).expect_log("server ejected");
        let mut client = proxy.client();
        client.send(if redis == "true" { "GET key\r\n" } else { "get key\r\n" });
        let _silent = server.accept();
        proxy.wait_for_log("server ejected", Duration::from_secs(5));
        let mut flushes = 0;
        while flushes < 2 {
            let mut probe = server.accept();
            while let Some(line) = probe.try_line() {
                match line.as_str() {
                    "version" => probe.send("VERSION 1.6.18\r\n"),
                    "PING" => probe.send("+PONG\r\n"),
                    "FLUSHALL" | "flush_all" => {
                        flushes += 1;
                        match flushes {
                            1 if end.is_empty() => break,
                            1 => probe.send(end),
                            _ => probe.send(if redis == "true" { "+OK\r\n" } else { "OK\r\n" }),
                        }
                    }
                    _ => {}
                }
                if flushes == 2 {
                    break;
                }
            }
            assert!(
                flushes == 2 || !proxy.log().iter().any(|line| line.contains("server restored")),
                "back without a flush: {end:?}"
            );
        }
        proxy.wait_for_log("server restored", Duration::from_secs(5));
    }
}

#[test]
fn a_flush_that_was_to_take_effect_later_is_made_up_for_then() {
    std::thread::scope(|scope| {
        scope.spawn(|| late_flush("flush_all 2\r\n", "OK"));
        scope.spawn(|| late_flush("flush_all 2 noreply\r\nmn\r\n", "MN"));
    });
}

/// A server is away when a flush is asked for, and back before it is due.
fn late_flush(request: &str, answer: &str) {
    let port = free_port();
    let settings = ["timeout: 200", "server_retry_timeout: 210", "auto_eject_hosts: true", "server_failure_limit: 1"];
    let proxy = Proxy::start(&[([127, 0, 0, 1], port).into()], &settings).expect_log("server ejected");
    let mut client = proxy.client();
    let asked = Instant::now();
    assert_eq!(client.ask(request), answer);
    // Until then it may still be sent to whoever comes to listen there, and memcached is up to a second early.
    proxy.wait_for_log("server ejected", Duration::from_secs(5));
    let server = Process::memcached_on(port);
    let mut direct = server.client();
    assert_eq!(direct.ask("set a 0 0 1\r\nx\r\n"), "STORED");
    let is_there = |client: &mut Client| client.exchange(b"get a\r\n").starts_with(b"VALUE a");
    let is_due = || asked.elapsed() > Duration::from_millis(1900); // what is seen then may be after it
    wait_until("the server to be back", Duration::from_secs(5), || is_there(&mut client) || is_due());
    assert!(is_there(&mut direct) || is_due(), "flushed after {:?}", asked.elapsed());
    wait_until("the flush", Duration::from_secs(5), || !is_there(&mut direct));
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(client.ask("set a 0 0 1\r\nx\r\n"), "STORED");
    assert!(is_there(&mut client), "once");
}

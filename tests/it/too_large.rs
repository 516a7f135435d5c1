//! Responses that are larger than the proxy takes: a matter of its own limits, and no failure of the server.

use super::support::process::{Process, Proxy, free_port};
use super::support::script::show;
use std::process::Stdio;

const HUGE: usize = 3_000_000;

/// A memcached that takes items of 8 MB, with a huge item and small ones.
fn server() -> Process {
    let server = Process::memcached_with(free_port(), &["-I", "8m"], Stdio::null());
    let mut direct = server.client();
    for key in ["huge", "vast"] {
        assert_eq!(direct.ask(format!("set {key} 0 0 {HUGE}\r\n{}\r\n", "x".repeat(HUGE))), "STORED");
    }
    for key in ["a", "b"] {
        assert_eq!(direct.ask(format!("set {key} 0 0 1\r\n{key}\r\n")), "STORED");
    }
    server
}

fn pool(server: &Process, policy: &str) -> Proxy {
    let settings = [
        "value_limit: 1mb",
        "timeout: 10000",
        "auto_eject_hosts: true",
        "server_failure_limit: 1",
        &format!("on_failure: {policy}"),
    ];
    Proxy::start(&[server.address], &settings)
}

fn is_blameless(proxy: &Proxy, server: &Process) {
    let statistics = proxy.statistics();
    let figures = &statistics["pool"][server.address.to_string()];
    for counter in ["server_eof", "server_err", "server_timedout", "ejections", "resends"] {
        assert_eq!(figures[counter], 0, "{counter}: {figures}");
    }
    assert_eq!(figures["server_connections"], 1, "{figures}");
}

#[test]
fn an_item_above_value_limit_is_a_miss_and_costs_nobody_anything() {
    let server = server();
    let proxy = pool(&server, "miss");
    let (mut client, mut neighbour) = (proxy.client(), proxy.client());
    let a = "VALUE a 0 1\r\na\r\n";
    for _ in 0..3 {
        for (ask, expected) in [
            ("get huge\r\n", "END\r\n".to_owned()),
            ("gets huge\r\n", "END\r\n".to_owned()),
            ("gat 0 huge\r\n", "END\r\n".to_owned()),
            ("get huge\r\nget a\r\n", format!("END\r\n{a}END\r\n")),
            ("get a huge b\r\n", format!("{a}VALUE b 0 1\r\nb\r\nEND\r\n")),
            ("get huge vast a\r\n", format!("{a}END\r\n")),
            ("get a huge\r\nget none\r\n", format!("{a}END\r\nEND\r\n")),
            ("gat 0 huge a\r\n", format!("{a}END\r\n")),
            ("mg huge v\r\nmg a v k\r\n", "EN\r\nVA 1 ka\r\na\r\n".to_owned()),
            ("mg huge v k O1 q\r\nmn\r\n", "MN\r\n".to_owned()),
            ("mg huge v k O1\r\nmg huge s\r\n", format!("EN khuge O1\r\nHD s{HUGE}\r\n")),
            ("get huge\r\nget vast\r\nget huge\r\nget a\r\n", format!("END\r\nEND\r\nEND\r\n{a}END\r\n")),
        ] {
            let found = client.exchange(ask.as_bytes());
            assert_eq!(show(&found), show(expected.as_bytes()), "{ask}");
            assert_eq!(neighbour.ask("get a\r\n"), "VALUE a 0 1");
            neighbour.read_through(b"END\r\n");
        }
    }
    // Gets of many clients share a line.
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(if (number + round) % 3 == 0 { "get huge\r\n" } else { "get a\r\n" });
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let found = client.read_through(b"END\r\n");
            let expected = if (number + round) % 3 == 0 { "END\r\n".to_owned() } else { format!("{a}END\r\n") };
            assert_eq!(show(&found), show(expected.as_bytes()), "client {number}");
        }
    }
    is_blameless(&proxy, &server);
    let degraded = proxy.statistics()["pool"]["degraded_value_limit"].as_u64();
    assert!(degraded.is_some_and(|count| count > 30), "{degraded:?}");
}

#[test]
fn where_failures_are_told_the_limit_is_named() {
    let server = server();
    let proxy = pool(&server, "error");
    let mut client = proxy.client();
    let told = "SERVER_ERROR response above the proxy's value_limit\r\n";
    for (ask, expected) in [
        ("get huge\r\n", told.to_owned()),
        ("mg huge v\r\n", told.to_owned()),
        ("get a huge\r\n", format!("VALUE a 0 1\r\na\r\n{told}")),
        ("get a\r\n", "VALUE a 0 1\r\na\r\nEND\r\n".to_owned()),
    ] {
        let found = client.exchange(ask.as_bytes());
        assert_eq!(show(&found), show(expected.as_bytes()), "{ask}");
    }
    is_blameless(&proxy, &server);
}

#[test]
fn a_listing_that_is_too_long_is_no_failure() {
    let server = Process::memcached_with(free_port(), &["-D", ":"], Stdio::null());
    let mut direct = server.client();
    assert_eq!(direct.ask("stats detail on\r\n"), "OK");
    let prefix = "p".repeat(200);
    let gets: String = (0..10_000).map(|number| format!("get {prefix}{number}:k\r\n")).collect();
    direct.exchange(gets.as_bytes());
    let proxy = pool(&server, "miss");
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("stats detail dump\r\nget a\r\nmn\r\n");
        let found = client.read_through(b"MN\r\n");
        assert!(found.len() < 1000, "{}", show(&found));
    }
    is_blameless(&proxy, &server);
}

#[test]
fn a_line_that_a_script_makes_is_passed_on_however_long() {
    let server = Process::redis();
    let settings = ["redis: true", "timeout: 10000", "auto_eject_hosts: true", "server_failure_limit: 1"];
    let proxy = Proxy::start(&[server.address], &settings);
    let (mut client, mut neighbour) = (proxy.client(), proxy.client());
    assert_eq!(neighbour.ask("SET k v\r\n"), "+OK");
    for (reply, mark) in [("status_reply", "+"), ("error_reply", "-")] {
        for length in [1 << 20, 1_100_000, 5_000_000] {
            let text = format!("return redis.{reply}(string.rep('x', {length}))");
            let line = client.ask(format!("EVAL \"{text}\" 1 k\r\n"));
            let expected = if mark == "-" { length + "-ERR ".len() } else { length + 1 };
            assert!(line.starts_with(mark) && line.len() == expected, "{} of {expected}", line.len());
            assert_eq!(neighbour.ask("EXISTS k\r\n"), ":1");
        }
    }
    // A number of any length, in the protocol that has such.
    client.send("HELLO 3\r\n");
    client.read_through(b"modules\r\n*0\r\n");
    let text = "redis.setresp(3); return {big_number=string.rep('1', 2000000)}";
    assert_eq!(client.ask(format!("EVAL \"{text}\" 1 k\r\n")).len(), 2_000_001);
    is_unharmed(&proxy, &server);
}

fn is_unharmed(proxy: &Proxy, server: &Process) {
    let statistics = proxy.statistics();
    let figures = &statistics["pool"][server.address.to_string()];
    for counter in ["server_eof", "server_err", "server_timedout", "ejections", "resends"] {
        assert_eq!(figures[counter], 0, "{counter}: {figures}");
    }
}

/// As with memcached: who goes on after the error must not read what was there before.
#[test]
fn a_value_above_value_limit_leaves_nothing_of_what_it_was_to_replace() {
    let server = server();
    for policy in ["miss", "error"] {
        let proxy = pool(&server, policy);
        let mut client = proxy.client();
        let huge = "x".repeat(HUGE);
        let refusal = "SERVER_ERROR object too large for cache";
        for (ask, is_left) in [
            (format!("set k 0 0 {HUGE}\r\n{huge}\r\n"), false),
            (format!("ms k {HUGE} T0 c\r\n{huge}\r\n"), false),
            (format!("ms k {HUGE} MS\r\n{huge}\r\n"), false),
            (format!("add k 0 0 {HUGE}\r\n{huge}\r\n"), true),
            (format!("replace k 0 0 {HUGE}\r\n{huge}\r\n"), true),
            (format!("append k 0 0 {HUGE}\r\n{huge}\r\n"), true),
            (format!("ms k {HUGE} ME\r\n{huge}\r\n"), true),
        ] {
            assert_eq!(client.ask("set k 0 0 3\r\nold\r\n"), "STORED");
            let head = ask.lines().next().expect("a line").to_owned();
            assert_eq!(client.ask(ask), refusal, "{head}");
            let found = if is_left { "VALUE k 0 3\r\nold\r\nEND\r\n" } else { "END\r\n" };
            assert_eq!(show(&client.exchange(b"get k\r\n")), show(found.as_bytes()), "{policy}: {head}");
        }
        // Without an answer as well.
        client.ask("set k 0 0 3\r\nold\r\n");
        client.send(format!("set k 0 0 {HUGE} noreply\r\n{huge}\r\n"));
        assert_eq!(client.ask("get k\r\n"), "END", "{policy}");
        is_blameless(&proxy, &server);
    }
}

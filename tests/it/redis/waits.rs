//! What waits, and what ends a script: nobody else is held up by it, and it reaches those that it is for.

use std::time::{Duration, Instant};

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};
use super::super::support::{scattered_key, wait_until};

fn pool(servers: &[&Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&["redis: true"], more].concat())
}

/// A server that says after 100 ms that it is busy.
fn impatient() -> Process {
    Process::redis_with(free_port(), &["--busy-reply-threshold", "100"])
}

fn is_busy(server: &Process) -> bool {
    server.client().ask("PING\r\n").starts_with("-BUSY")
}

#[test]
fn wait_counts_the_replicas_that_have_what_its_client_wrote() {
    let primary = Process::redis();
    let port = primary.address.port().to_string();
    let replica = Process::redis_with(free_port(), &["--replicaof", "127.0.0.1", &port]);
    let synced = || {
        let mut client = replica.client();
        client.send("INFO replication\r\nPING\r\n");
        String::from_utf8_lossy(&client.read_through(b"+PONG\r\n")).contains("master_link_status:up")
    };
    wait_until("the replica is in step", Duration::from_secs(20), synced);
    let proxy = pool(&[&primary], &["timeout: 2000"]);
    let (mut client, mut neighbour) = (proxy.client(), proxy.client());
    assert_eq!(client.ask("WAIT 1 5000\r\n"), ":1");
    replica.signal("STOP");
    for round in 0..3 {
        assert_eq!(client.ask(format!("SET key {round}\r\n")), "+OK");
        let asked = Instant::now();
        client.send("WAIT 1 300\r\n");
        assert_eq!(neighbour.ask("EXISTS key\r\n"), ":1");
        assert_eq!(client.line(), ":0", "the replica stands still");
        assert!(asked.elapsed() >= Duration::from_millis(300));
    }
    replica.signal("CONT");
    assert_eq!(client.ask("WAIT 1 10000\r\n"), ":1");
    // What is written by another client, and no replica that could have it.
    assert_eq!(client.ask("WAIT 2 50\r\n"), ":1");
    assert!(client.ask("WAIT x y\r\n").starts_with("-ERR"));
    assert_eq!(client.ask("GETRANGE key 0 -1\r\n"), "$1");
}

#[test]
fn a_wait_ends_with_its_client_and_holds_up_nobody() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&servers.each_ref(), &["timeout: 2000"]);
    let mut waiting: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut waiting {
        client.send("WAIT 1 0\r\nECHO behind\r\n");
    }
    let blocked = |server: &Process| {
        let mut client = server.client();
        client.send("INFO clients\r\nPING\r\n");
        let text = String::from_utf8_lossy(&client.read_through(b"+PONG\r\n")).into_owned();
        text.lines().find_map(|line| line.strip_prefix("blocked_clients:")?.parse::<usize>().ok())
    };
    wait_until("all wait", Duration::from_secs(5), || servers.iter().all(|server| blocked(server) == Some(5)));
    let mut neighbour = proxy.client();
    for number in 0..50 {
        let key = scattered_key(number);
        assert_eq!(neighbour.ask(format!("SET {key} 1\r\n")), "+OK");
        assert_eq!(neighbour.ask(format!("EXISTS {key}\r\n")), ":1");
    }
    drop(waiting);
    wait_until("nobody waits", Duration::from_secs(5), || servers.iter().all(|server| blocked(server) == Some(0)));
}

#[test]
fn a_wait_for_a_server_that_is_gone_counts_nobody() {
    let (mut gone, there) = (Process::redis(), Process::redis());
    let settings = ["timeout: 1000", "auto_eject_hosts: true", "server_failure_limit: 1", "on_failure: miss"];
    let proxy = pool(&[&gone, &there], &settings).expect_log("server ejected");
    gone.kill();
    assert_eq!(proxy.client().ask("WAIT 0 100\r\n"), ":0");
}

#[test]
fn a_busy_server_is_reached_by_what_ends_its_script() {
    let (busy, idle) = (impatient(), Process::redis());
    let settings = [
        "timeout: 400",
        "auto_eject_hosts: true",
        "server_failure_limit: 2",
        "server_retry_timeout: 500",
        "on_eject: hold",
        "on_failure: miss",
    ];
    let proxy = pool(&[&busy, &idle], &settings).expect_log("server ejected").expect_log("silent");
    let mut other = proxy.client();
    assert_eq!(other.ask("SCRIPT KILL\r\n"), "-NOTBUSY No scripts in execution right now.");
    // A key of each server.
    let mut keys = (0..).map(scattered_key);
    let mut direct = busy.client();
    let key = keys
        .find(|key| {
            assert_eq!(other.ask(format!("SET {key} 1\r\n")), "+OK");
            direct.ask(format!("EXISTS {key}\r\n")) == ":1"
        })
        .expect("a key of the server");
    assert_eq!(other.ask("FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('endless', function() while true do end end)\"\r\n"), "$3");
    other.line();
    for (script, kill) in [("EVAL \"while true do end\"", "SCRIPT KILL"), ("FCALL endless", "FUNCTION KILL")] {
        for away in [false, true] {
            let mut client = proxy.client();
            client.send(format!("{script} 1 {key}\r\n"));
            wait_until("the server is busy", Duration::from_secs(5), || is_busy(&busy));
            if away {
                let mut reader = proxy.client();
                let figures = || proxy.statistics()["pool"][busy.address.to_string()]["ejections"].as_u64();
                let before = figures();
                wait_until("the server is ejected", Duration::from_secs(10), || {
                    reader.send(format!("GET {key}\r\n"));
                    reader.line() == "$-1" && figures() > before
                });
            }
            let mut killer = proxy.client();
            assert_eq!(killer.ask(format!("{kill}\r\n")), "+OK", "{script}, ejected: {away}");
            wait_until("the server is idle", Duration::from_secs(5), || !is_busy(&busy));
            wait_until("the server is back", Duration::from_secs(60), || {
                killer.ask(format!("EXISTS {key}\r\n")) == ":1"
            });
        }
    }
}

fn a_script_is_ended_that_is_not_called_busy_yet(arguments: &[&str], more: &[&str]) {
    let server = Process::redis_with(free_port(), &[&["--busy-reply-threshold", "1500"], arguments].concat());
    let settings = ["timeout: 300", "auto_eject_hosts: true", "server_failure_limit: 2", "on_failure: miss"];
    let proxy = pool(&[&server], &[&settings, more].concat()).expect_log("server ejected").expect_log("silent");
    let (mut client, mut killer, mut neighbour) = (proxy.client(), proxy.client(), proxy.client());
    for client in [&mut client, &mut killer, &mut neighbour].into_iter().filter(|_| !more.is_empty()) {
        assert_eq!(client.ask("AUTH secret\r\n"), "+OK");
    }
    client.send("EVAL \"while true do end\" 1 key\r\n");
    client.line();
    killer.send("SCRIPT KILL\r\n");
    for _ in 0..3 {
        neighbour.ask("GET key\r\n"); // until the server is out of the ring
    }
    assert_eq!(killer.line(), "+OK");
}

#[test]
fn a_script_is_ended_that_has_not_run_for_long_enough_to_be_called_busy() {
    a_script_is_ended_that_is_not_called_busy_yet(&[], &[]);
}

/// The password is given first, and the server hears that no sooner than the rest.
#[test]
fn a_script_is_ended_by_who_has_to_give_a_password_first() {
    a_script_is_ended_that_is_not_called_busy_yet(&["--requirepass", "secret"], &["redis_auth: secret"]);
}

#[test]
fn a_script_that_has_written_is_said_to_be_unkillable() {
    let (busy, idle) = (impatient(), Process::redis());
    let proxy = pool(&[&idle, &busy], &["timeout: 400", "on_failure: miss"]).expect_log("silent");
    let mut direct = busy.client();
    direct.send("EVAL \"redis.call('set', KEYS[1], 1) while true do end\" 1 key\r\n");
    wait_until("the server is busy", Duration::from_secs(5), || is_busy(&busy));
    assert!(proxy.client().ask("SCRIPT KILL\r\n").starts_with("-UNKILLABLE"));
}

//! Connections of clients' own: how many there are, what is said beyond the limit, and when they are given back.

use std::time::Duration;

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy};
use super::super::support::{scattered_key, wait_until};

const REDIS: &str = "redis: true";

fn pool(servers: &[&Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&[REDIS, "timeout: 1000"], more].concat())
}

/// Has a client that is subscribed to a channel, and so has a connection of its own.
fn subscriber(proxy: &Proxy, channel: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("SUBSCRIBE {channel}\r\n"));
    client.read_through(b":1\r\n");
    client
}

/// Connections that a server has taken so far.
fn taken(server: &Process) -> u32 {
    let mut client = server.client();
    client.send("INFO stats\r\nPING\r\n");
    let text = String::from_utf8(client.read_through(b"+PONG\r\n")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    line.parse::<u32>().unwrap() - 1
}

#[test]
fn what_waits_or_listens_beyond_the_limit_is_refused_in_every_policy() {
    for policy in ["miss", "absorb", "error"] {
        let server = Process::redis();
        assert_eq!(server.client().ask("RPUSH list job\r\n"), ":1");
        let policy = format!("on_failure: {policy}");
        let proxy =
            pool(&[&server], &["dedicated_connections: 1", &policy]).expect_log("dedicated_connections reached");
        let mut hears = subscriber(&proxy, "channel");
        let mut client = proxy.client();
        for request in [
            "BLPOP list 1",
            "BRPOP list 0",
            "BLMOVE list list LEFT LEFT 1",
            "BLMPOP 1 1 list LEFT",
            "XREAD BLOCK 1 STREAMS s 0",
            "SUBSCRIBE other",
            "PSUBSCRIBE other*",
            "SSUBSCRIBE other",
            "MONITOR",
            "WAIT 0 10",
            "SCRIPT KILL",
        ] {
            let told = client.ask(format!("{request}\r\n"));
            assert!(told.starts_with("-ERR dedicated_connections (1) of pool pool is reached"), "{request}: {told}");
        }
        assert_eq!(client.ask("XREAD STREAMS s 0\r\n"), "*-1", "it does not wait");
        assert_eq!(client.ask("LLEN list\r\n"), ":1");
        proxy.wait_for_log("dedicated_connections reached", Duration::from_secs(2));
        assert_eq!(proxy.statistics()["pool"]["degraded_dedicated_connections"], 11);
        // Who was confirmed hears, and what it gives back is another's.
        assert_eq!(client.ask("PUBLISH channel message\r\n"), ":1");
        hears.read_through(b"message\r\n");
        hears.send("UNSUBSCRIBE\r\n");
        hears.read_through(b":0\r\n");
        client.send("BLPOP list 1\r\n");
        client.read_through(b"job\r\n");
    }
}

/// All of a pattern's servers are heard, or none.
#[test]
fn a_pattern_needs_a_connection_to_every_server() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&[&servers[0], &servers[1]], &["dedicated_connections: 2", "on_failure: miss"])
        .expect_log("dedicated_connections reached");
    let one = subscriber(&proxy, "channel");
    let mut client = proxy.client();
    for request in ["PSUBSCRIBE p*", "MONITOR"] {
        assert!(client.ask(format!("{request}\r\n")).starts_with("-ERR dedicated_connections"), "{request}");
    }
    let mut two = proxy.client();
    assert_eq!(ask_all(&mut two, &["WATCH k", "MULTI", "SET k 1", "EXEC"]), "*1", "nothing is held");
    drop(one);
    wait_until("the pattern heard", Duration::from_secs(2), || {
        client.send("PSUBSCRIBE p*\r\n");
        client.line() == "*3"
    });
    client.read_through(b":1\r\n");
    for number in 0..10 {
        assert_eq!(proxy.client().ask(format!("PUBLISH p{number} m\r\n")), ":1");
        client.read_through(b"\r\nm\r\n");
    }
}

fn ask_all(client: &mut Client, requests: &[&str]) -> String {
    requests.iter().map(|request| client.ask(format!("{request}\r\n"))).last().unwrap()
}

/// One connection does for many clients that need one for a moment each, and stay.
#[test]
fn what_is_not_needed_any_more_is_given_back() {
    let server = Process::redis();
    assert_eq!(server.client().ask("RPUSH list 1 2 3 4 5 6 7 8 9\r\n"), ":9");
    let proxy = pool(&[&server], &["dedicated_connections: 1"]);
    assert_eq!(proxy.client().ask("PING\r\n"), "+PONG");
    let mut clients: Vec<_> = (0..9).map(|_| proxy.client()).collect();
    let (mut connected, mut after_first) = (0, 0);
    for (number, client) in clients.iter_mut().enumerate() {
        // What another has changed since somebody watched it there is none of the next one's business.
        assert_eq!(ask_all(client, &["WATCH a", "SET a 1", "UNWATCH"]), "+OK");
        assert_eq!(ask_all(client, &["WATCH b", "MULTI", "SET b 1", "DISCARD"]), "+OK");
        assert_eq!(ask_all(client, &["WATCH b", "MULTI", "SET b 1", "EXEC"]), "*1");
        assert_eq!(client.line(), "+OK");
        assert_eq!(ask_all(client, &["WATCH b", "MULTI", "EXEC"]), "*0");
        assert_eq!(ask_all(client, &["WATCH b", "SET b 2", "MULTI", "EXEC"]), "*-1");
        client.send("BLPOP list 1\r\n");
        client.read_through(format!("\r\n{}\r\n", number + 1).as_bytes());
        assert_eq!(client.ask("BLPOP nothing 0.01\r\n"), "*-1");
        connected = taken(&server);
        after_first = if number == 0 { connected } else { after_first };
    }
    // Each look has a connection of its own.
    for client in &mut clients {
        assert_eq!(client.ask("WAIT 0 10\r\n"), ":0");
        assert!(client.ask("SCRIPT KILL\r\n").starts_with("-NOTBUSY"));
    }
    assert_eq!(connected - after_first, 8, "no new connection for the others");
}

#[test]
fn who_leaves_with_a_watch_leaves_nothing_of_it() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["dedicated_connections: 1"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("WATCH a\r\n"), "+OK");
    drop(client);
    let mut other = proxy.client();
    wait_until("the connection free", Duration::from_secs(2), || {
        other.ask("WATCH b\r\n") == "+OK" || {
            other.ask("UNWATCH\r\n");
            false
        }
    });
    assert_eq!(server.client().ask("SET a 1\r\n"), "+OK");
    assert_eq!(ask_all(&mut other, &["MULTI", "SET b 1", "EXEC"]), "*1");
}

/// A connection that was given back is set to a database, and in the way of nobody who needs another.
#[test]
fn what_was_given_back_makes_room() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&[&servers[0], &servers[1]], &["dedicated_connections: 1"]);
    let mut clients = [proxy.client(), proxy.client()];
    assert_eq!(clients[1].ask("SELECT 1\r\n"), "+OK");
    for number in 0..20 {
        let key = scattered_key(number);
        for (database, client) in clients.iter_mut().enumerate() {
            assert_eq!(ask_all(client, &[&format!("WATCH {key}"), "MULTI"]), "+OK");
            assert_eq!(ask_all(client, &[&format!("SET {key} {database}"), "EXEC"]), "*1");
            assert_eq!(client.line(), "+OK");
        }
        for (database, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.ask(format!("GET {key}\r\n")), "$1");
            assert_eq!(client.line(), database.to_string());
        }
    }
}

/// The server closes what idles; nobody is to be given that.
#[test]
fn what_was_given_back_and_closed_is_given_to_nobody() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["dedicated_connections: 1"]);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(ask_all(&mut client, &["WATCH a", "MULTI", "SET a 1", "EXEC"]), "*1");
        assert_eq!(client.line(), "+OK");
        assert!(server.client().ask("CLIENT KILL TYPE normal SKIPME yes\r\n").starts_with(':'));
        wait_until("the connections gone", Duration::from_secs(2), || {
            proxy.statistics()["pool"][server.address.to_string()]["server_connections"] == 0
        });
    }
    assert_eq!(ask_all(&mut client, &["WATCH a", "MULTI", "SET a 1", "EXEC"]), "*1");
}

/// Who is subscribed and loses its connection is subscribed again when there is one.
#[test]
fn a_subscriber_that_comes_too_late_gets_the_next_connection() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["dedicated_connections: 1"]).expect_log("dedicated_connections reached");
    let mut hears = subscriber(&proxy, "channel");
    let mut client = proxy.client();
    assert!(server.client().ask("CLIENT KILL TYPE pubsub\r\n").starts_with(":1"));
    wait_until("its connection another's", Duration::from_secs(2), || {
        client.ask("WATCH a\r\n") == "+OK" || {
            client.ask("UNWATCH\r\n");
            false
        }
    });
    assert_eq!(client.ask("PUBLISH channel unheard\r\n"), ":0");
    hears.send("SUBSCRIBE channel\r\n");
    hears.read_through(b"$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n");
    drop(client);
    wait_until("the channel heard", Duration::from_secs(3), || proxy.client().ask("PUBLISH channel m\r\n") == ":1");
    hears.read_through(b"\r\nm\r\n");
}

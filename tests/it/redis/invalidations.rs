//! What was answered in a server's place is not read later as it was before: the server forgets it first.

use std::time::{Duration, Instant};

use super::connections::pool;
use crate::support::client::Client;
use crate::support::process::{Process, Proxy, free_port};
use crate::support::script::Mock;
use crate::support::{scattered_key, wait_until};

fn request(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

/// A whole answer, in one line.
fn ask(client: &mut Client, words: &[&str]) -> String {
    client.send(request(words));
    answer(client)
}

fn answer(client: &mut Client) -> String {
    let head = client.line();
    match (head.as_bytes()[0], head[1..].parse::<i64>()) {
        (b'$', Ok(len)) if len >= 0 => client.line(),
        (b'*' | b'~' | b'%', Ok(len)) if len >= 0 => {
            let count = if head.starts_with('%') { 2 * len } else { len };
            (0..count).map(|_| answer(client)).collect::<Vec<_>>().join(" ")
        }
        _ => head,
    }
}

/// A write, what it is told in a server's place, and what asks for what it was to change.
struct Change {
    write: &'static [&'static str],
    told: &'static str,
    read: &'static [&'static str],
    /// What is read if nothing has been done.
    old: &'static str,
    /// That is right: nothing was said to be done, or gone.
    stays: bool,
}

const fn gone(
    write: &'static [&'static str],
    told: &'static str,
    read: &'static [&'static str],
    old: &'static str,
) -> Change {
    Change { write, told, read, old, stays: false }
}

const fn stays(
    write: &'static [&'static str],
    told: &'static str,
    read: &'static [&'static str],
    old: &'static str,
) -> Change {
    Change { write, told, read, old, stays: true }
}

const CHANGES: &[Change] = &[
    gone(&["SET", "a", "new"], "$-1", &["GET", "a"], "old"),
    gone(&["DEL", "b"], ":0", &["GET", "b"], "old"),
    gone(&["UNLINK", "c", "c2", "c3", "c4"], ":0", &["MGET", "c", "c2", "c3", "c4"], "old"),
    gone(&["MSET", "d", "new", "d2", "new", "d3", "new"], "$-1", &["MGET", "d", "d2", "d3"], "old"),
    gone(&["EXPIRE", "e", "1000"], ":0", &["TTL", "e"], ":-1"),
    gone(&["GETDEL", "f"], "$-1", &["GET", "f"], "old"),
    gone(&["SETEX", "g", "1000", "new"], "$-1", &["GET", "g"], "old"),
    gone(&["HDEL", "hash", "f"], ":0", &["HGET", "hash", "f"], "old"),
    gone(&["SREM", "set", "m"], ":0", &["SISMEMBER", "set", "m"], ":1"),
    stays(&["SET", "lock", "mine", "NX"], "$-1", &["GET", "lock"], "old"),
    stays(&["SETNX", "lock2", "mine"], ":0", &["GET", "lock2"], "old"),
    stays(&["LPOP", "list"], "$-1", &["LRANGE", "list", "0", "-1"], "old"),
    stays(&["INCR", "counter"], "-ERR", &["GET", "counter"], "4"),
];

/// Stores what is there before.
fn fill(client: &mut Client) {
    for words in [
        &["MSET", "a", "old", "b", "old", "c", "old", "c2", "old", "c3", "old", "c4", "old"][..],
        &["MSET", "d", "old", "d2", "old", "d3", "old", "e", "old", "f", "old", "g", "old"],
        &["MSET", "lock", "old", "lock2", "old", "counter", "41", "calm", "old"],
    ] {
        assert_eq!(ask(client, words), "+OK");
    }
    assert_eq!(ask(client, &["HSET", "hash", "f", "old"]), ":1");
    assert_eq!(ask(client, &["SADD", "set", "m"]), ":1");
    assert_eq!(ask(client, &["RPUSH", "list", "old", "old"]), ":2");
}

/// A client in a database, with a version of the protocol.
fn client_in(proxy: &Proxy, database: &str) -> Client {
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &["SELECT", database]), "+OK");
    client
}

/// A server that is stopped in the middle of a large message: what was changed meanwhile is not read as it was when it goes
/// on.
fn what_was_refused_is_not_read_later(settings: &str, more: &[&str]) {
    let server = Process::redis();
    let port = free_port();
    let mut file = format!(
        "{settings}pool:\n  listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 400\n  on_failure: miss\n  servers: ['{}:1']\n",
        server.address
    );
    more.iter().for_each(|line| file.push_str(&format!("  {line}\n")));
    let proxy = Proxy::with_file(&file, port).expect_log("too much is queued").expect_log("server is silent");
    let mut direct = server.client();
    for database in ["0", "3"] {
        assert_eq!(ask(&mut direct, &["SELECT", database]), "+OK");
        fill(&mut direct);
    }
    let mut others: Vec<_> =
        CHANGES.iter().flat_map(|change| ["0", "3"].map(|database| (change, client_in(&proxy, database)))).collect();
    let mut readers: Vec<_> = (0..6).map(|number| client_in(&proxy, ["0", "3"][number % 2])).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        assert_eq!(ask(reader, &["GET", "calm"]), "old", "reader {number}");
    }
    server.signal("STOP");
    for database in ["0", "3"] {
        client_in(&proxy, database).send(request(&["SET", "large", &"v".repeat(24 << 20)]));
    }
    wait_until("the large ones are on their way", Duration::from_secs(5), || {
        let servers = &proxy.statistics()["pool"];
        servers.as_object().unwrap().values().any(|server| server["in_queue_bytes"].as_u64().unwrap_or(0) > 5 << 20)
    });
    others.iter_mut().for_each(|(change, client)| client.send(request(change.write)));
    for (change, client) in &mut others {
        let told = answer(client);
        assert!(told.starts_with(change.told), "{:?} is told {told}", change.write);
    }
    server.signal("CONT");
    let end = Instant::now() + Duration::from_millis(500);
    let mut hits = 0;
    while Instant::now() < end || hits < 3 {
        assert!(Instant::now() < end + Duration::from_secs(10), "the server is not read again");
        for reader in &mut readers {
            for change in CHANGES.iter().filter(|change| !change.stays) {
                let found = ask(reader, change.read);
                assert!(!found.contains(change.old), "{:?}: {found}", change.write);
            }
            hits += usize::from(ask(reader, &["GET", "calm"]) == "old");
        }
    }
    for reader in &mut readers {
        for change in CHANGES.iter().filter(|change| change.stays) {
            // Those that were queued, and not refused, may have been carried out since.
            let found = ask(reader, change.read);
            assert!(found.starts_with(change.old), "{:?}: {found}", change.write);
        }
    }
}

#[test]
fn what_a_full_queue_refused_is_not_read_later() {
    what_was_refused_is_not_read_later("", &["stall_detection: false"]);
}

#[test]
fn nor_what_was_refused_because_the_server_is_silent() {
    what_was_refused_is_not_read_later("", &[]);
}

#[test]
fn nor_with_more_connections_and_workers() {
    what_was_refused_is_not_read_later(
        "softmiss:\n  workers: 2\n",
        &["server_connections: 2", "stall_detection: false"],
    );
}

fn mock_pool(servers: &[&Mock], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address()).collect();
    Proxy::start(&addresses, &[&["redis: true", "timeout: 20000", "on_failure: miss"], more].concat())
}

/// The invalidations of a database are sent on connections that are in it for certain, and before anything else is.
#[test]
fn a_key_is_forgotten_in_its_own_database() {
    let mut server = Mock::start();
    let proxy = mock_pool(&[&server], &["auto_eject_hosts: true", "server_failure_limit: 1"])
        .expect_log("server refuses what a connection needs");
    let mut client = proxy.client();
    let get = request(&["GET", "k"]);
    client.send(&get);
    server.receive(&get);
    server.answer("$-1\r\n");
    assert_eq!(answer(&mut client), "$-1");
    let mut other = client_in(&proxy, "3");
    // It refuses the database, so what is asked there never leaves.
    other.send(request(&["DEL", "k"]));
    let mut second = server.twin();
    second.receive(request(&["SELECT", "3"]));
    second.answer("-ERR not now\r\n");
    assert_eq!(answer(&mut other), ":0");
    second.close();
    let mut second = server.twin();
    second.receive(request(&["SELECT", "3"])); // nobody need ask
    client.send(&get);
    server.receive(&get);
    server.answer("$1\r\nv\r\n");
    assert_eq!(answer(&mut client), "v", "it is another database");
    second.answer("+OK\r\n");
    second.receive(request(&["DEL", "k"]));
    other.send(&get);
    second.receive(&get);
    second.answer(":1\r\n$-1\r\n");
    assert_eq!(answer(&mut other), "$-1");
}

/// A server that does not have a database, or does not let it be selected, loses nothing of another one, and is as well as
/// before.
#[test]
fn what_is_pending_in_a_database_that_cannot_be_selected_costs_no_other() {
    for (arguments, refusal) in [(&["--databases", "4"][..], "out of range"), (&[], "NOPERM")] {
        let server = Process::redis_with(free_port(), arguments);
        if refusal == "NOPERM" {
            assert_eq!(server.client().ask("ACL SETUSER default -select\r\n"), "+OK");
        }
        let settings = ["timeout: 2000", "on_failure: miss", "auto_eject_hosts: true", "server_failure_limit: 1"];
        let proxy = pool(&[&server], &settings).expect_log("server refuses what a connection needs");
        let mut client = proxy.client();
        assert_eq!(ask(&mut client, &["MSET", "k", "v", "l", "v"]), "+OK");
        let mut other = client_in(&proxy, "9");
        assert_eq!(ask(&mut other, &["FLUSHDB"]), "+OK");
        assert_eq!(ask(&mut other, &["DEL", "k"]), ":0");
        wait_until("it has been refused for what is pending as well", Duration::from_secs(5), || {
            let told = proxy.statistics()["pool"].clone();
            let connects = |server: &serde_json::Value| server["server_err"].as_u64().unwrap_or(0);
            told.as_object().unwrap().values().any(|server| connects(server) >= 2)
        });
        assert_eq!(ask(&mut client, &["MGET", "k", "l"]), "v v", "{refusal}");
        assert_eq!(ask(&mut other, &["GET", "k"]), "$-1");
        assert_eq!(ask(&mut client, &["SET", "k", "w"]), "+OK");
        assert_eq!(ask(&mut server.client(), &["MGET", "k", "l"]), "w v");
        let told = proxy.statistics()["pool"].to_string();
        assert!(told.contains("\"server_ejects\":0"), "{told}");
    }
}

/// A server that was out of the ring is flushed of what it missed of another database, and of nothing else.
#[test]
fn a_server_that_is_back_forgets_one_database_and_no_other() {
    let server = Process::redis();
    let settings = [
        "timeout: 200",
        "on_failure: miss",
        "auto_eject_hosts: true",
        "server_failure_limit: 1",
        "server_retry_timeout: 300",
    ];
    let proxy = pool(&[&server], &settings).expect_log("server is silent").expect_log("server ejected");
    let mut direct = server.client();
    for database in ["0", "3"] {
        assert_eq!(ask(&mut direct, &["SELECT", database]), "+OK");
        assert_eq!(ask(&mut direct, &["SET", "k", "old"]), "+OK");
    }
    let (mut client, mut other) = (proxy.client(), client_in(&proxy, "3"));
    assert_eq!([ask(&mut client, &["GET", "k"]), ask(&mut other, &["GET", "k"])], ["old"; 2]);
    server.signal("STOP");
    assert_eq!(ask(&mut other, &["FLUSHDB"]), "+OK");
    server.signal("CONT");
    let mut read = String::new();
    wait_until("the server is back", Duration::from_secs(10), || {
        assert_ne!(ask(&mut other, &["GET", "k"]), "old");
        read = ask(&mut client, &["GET", "k"]);
        read == "old"
    });
    wait_until("it is forgotten though nobody asks", Duration::from_secs(10), || {
        ask(&mut direct, &["GET", "k"]) == "$-1"
    });
}

/// Where a transaction selects a database, the connection goes back to its own; if it cannot, nothing more is read there.
#[test]
fn a_connection_that_cannot_leave_the_database_of_a_transaction_is_given_up() {
    let mut server = Mock::start();
    let proxy = mock_pool(&[&server], &[]);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    for words in [&["MULTI"][..], &["SELECT", "3"], &["GET", "k"]] {
        ask(&mut client, words);
    }
    client.send(request(&["EXEC"]));
    let parts = [&["MULTI"][..], &["SELECT", "3"], &["GET", "k"], &["EXEC"], &["SELECT", "0"]];
    server.receive(parts.iter().map(|words| request(words)).collect::<String>());
    other.send(request(&["GET", "k"]));
    server.receive(request(&["GET", "k"]));
    server.answer("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\nv\r\n-NOPERM not any more\r\n$5\r\nthird\r\n");
    assert_eq!(answer(&mut client), "+OK v");
    assert_eq!(answer(&mut other), "$-1", "what is read there is of the other database");
}

/// What a transaction was to change, and its answer in the server's place.
#[test]
fn what_a_transaction_was_to_change_is_forgotten() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 300", "on_failure: miss"])
        .expect_log("server is silent")
        .expect_log("too much is queued");
    let mut client = proxy.client();
    fill(&mut client);
    server.signal("STOP");
    let mut hog = proxy.client();
    hog.send(request(&["SET", "large", &"v".repeat(24 << 20)]));
    wait_until("the server is silent", Duration::from_secs(5), || {
        let stats = &proxy.statistics()["pool"];
        stats.as_object().unwrap().values().any(|server| server["stalls"].as_u64().unwrap_or(0) > 0)
    });
    for words in [&["MULTI"][..], &["SET", "a", "new"], &["DEL", "b", "c"], &["INCR", "counter"], &["GET", "calm"]] {
        ask(&mut client, words);
    }
    client.send(request(&["EXEC"]));
    assert_eq!(client.line(), "*4");
    let told: Vec<_> = (0..4).map(|_| answer(&mut client)).collect();
    assert_eq!((&told[0][..], &told[1][..], &told[3][..]), ("$-1", ":0", "$-1"));
    assert!(told[2].starts_with("-ERR"), "{}", told[2]);
    server.signal("CONT");
    wait_until("the server is read again", Duration::from_secs(10), || {
        for key in ["a", "b", "c"] {
            assert_eq!(ask(&mut client, &["GET", key]), "$-1");
        }
        ask(&mut client, &["GET", "calm"]) == "old"
    });
    assert_eq!(ask(&mut client, &["GET", "counter"]), "41");
}

/// `on_failure: error` tells everybody what was not done: nothing is to be made up for.
#[test]
fn where_clients_are_told_nothing_is_pending() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 300"]).expect_log("server is silent");
    let mut client = proxy.client();
    fill(&mut client);
    server.signal("STOP");
    assert!(ask(&mut client, &["GET", "calm"]).starts_with("-ERR"));
    assert!(ask(&mut client, &["DEL", "b"]).starts_with("-ERR"));
    server.signal("CONT");
    wait_until("the server is read again", Duration::from_secs(10), || ask(&mut client, &["GET", "calm"]) == "old");
    assert_eq!(ask(&mut client, &["GET", "b"]), "old");
}

/// A write that its server refused, for want of memory, is told to be not done; nor is what it was to replace read later.
#[test]
fn what_a_server_refused_to_replace_is_forgotten() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 2000", "on_failure: miss"]);
    let mut client = proxy.client();
    fill(&mut client);
    assert_eq!(server.client().ask("CONFIG SET maxmemory 1\r\n"), "+OK");
    assert_eq!(ask(&mut client, &["SET", "a", "new"]), "$-1");
    assert_eq!(ask(&mut client, &["GET", "a"]), "$-1");
    assert_eq!(ask(&mut client, &["SET", "lock", "new", "NX"]), "$-1");
    assert_eq!(ask(&mut client, &["GET", "lock"]), "old");
}

/// One that takes no writes at all, for now, does not forget either: until it does, nothing is read there that somebody was told to
/// be gone.
#[test]
fn what_a_server_was_to_forget_that_takes_no_writes_is_not_read_there() {
    for (policy, stored) in [("miss", "$-1"), ("absorb", "+OK")] {
        let server = Process::redis();
        let policy = format!("on_failure: {policy}");
        let proxy = pool(&[&server], &["timeout: 2000", &policy]).expect_log("server fails");
        let (mut client, mut direct) = (proxy.client(), server.client());
        let takes_writes = |client: &mut Client, are: bool| {
            let replicas = if are { "0" } else { "1" };
            assert_eq!(ask(client, &["CONFIG", "SET", "min-replicas-to-write", replicas]), "+OK");
        };
        fill(&mut client);
        takes_writes(&mut direct, false);
        assert_eq!(ask(&mut client, &["DEL", "a"]), ":0");
        assert_eq!(ask(&mut client, &["SET", "b", "new"]), stored);
        for key in ["a", "b"] {
            assert_eq!(ask(&mut direct, &["GET", key]), "old");
            assert_eq!(ask(&mut client, &["GET", key]), "$-1");
            assert_eq!(ask(&mut proxy.client(), &["GET", key]), "$-1");
        }
        takes_writes(&mut direct, true);
        for key in ["a", "b"] {
            assert_eq!(ask(&mut client, &["GET", key]), "$-1");
        }
        wait_until("what nobody has touched is read again", Duration::from_secs(10), || {
            ask(&mut client, &["GET", "lock"]) == "old"
        });
        takes_writes(&mut direct, false);
        assert_eq!(ask(&mut client, &["FLUSHDB"]), "+OK");
        assert_eq!(ask(&mut client, &["GET", "lock"]), "$-1");
        takes_writes(&mut direct, true);
        wait_until("the server has been flushed", Duration::from_secs(10), || {
            assert_eq!(ask(&mut client, &["GET", "lock"]), "$-1");
            ask(&mut direct, &["DBSIZE"]) == ":0"
        });
    }
}

/// Where not even a key can be forgotten for now, nothing of what it was is read before it can.
#[test]
fn a_server_that_cannot_forget_for_now_is_told_again() {
    let mut server = Mock::start();
    let proxy = mock_pool(&[&server], &[]);
    let mut client = proxy.client();
    client.send(request(&["DEL", "k"]));
    server.receive(request(&["DEL", "k"]));
    server.answer("-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(answer(&mut client), ":0");
    server.receive(request(&["DEL", "k"]));
    client.send(request(&["GET", "k"]));
    server.receive(request(&["GET", "k"]));
    server.answer("-LOADING Redis is loading the dataset in memory\r\n$3\r\nold\r\n");
    assert_eq!(answer(&mut client), "$-1", "it was asked behind an invalidation that was refused");
    server.receive(request(&["DEL", "k"])); // in a while, also if nobody asks
    server.answer(":1\r\n");
    client.send(request(&["GET", "k"]));
    server.receive(request(&["GET", "k"]));
    server.answer("$-1\r\n");
    assert_eq!(answer(&mut client), "$-1");
}

#[test]
fn scattered_parts_of_a_delete_are_forgotten_by_the_server_that_did_not_get_them() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&[&servers[0], &servers[1]], &["timeout: 300", "on_failure: miss"]).expect_log("server is silent");
    let mut client = proxy.client();
    let names: Vec<String> = (0..12).map(scattered_key).collect();
    let all = |word: &'static str| std::iter::once(word).chain(names.iter().map(String::as_str)).collect::<Vec<_>>();
    names.iter().for_each(|name| assert_eq!(ask(&mut client, &["SET", name, "old"]), "+OK"));
    let there = ask(&mut servers[0].client(), &all("EXISTS"));
    assert!(there != ":0" && there != ":12");
    servers[0].signal("STOP");
    ask(&mut client, &all("MGET"));
    wait_until("the server is silent", Duration::from_secs(5), || {
        proxy.statistics()["pool"]
            .as_object()
            .unwrap()
            .values()
            .any(|server| server["stalls"].as_u64().unwrap_or(0) > 0)
    });
    ask(&mut client, &all("DEL"));
    servers[0].signal("CONT");
    wait_until("all are gone", Duration::from_secs(5), || ask(&mut servers[0].client(), &all("EXISTS")) == ":0");
    assert!(!ask(&mut client, &all("MGET")).contains("old"));
}

/// A flush behind a `SELECT` in the same packet is of that database, also if it is lost.
#[test]
fn a_flush_that_ran_out_of_time_is_pending_in_the_database_that_its_client_was_in() {
    let server = Mock::start();
    let proxy = Proxy::start(&[server.address()], &["redis: true", "timeout: 400", "on_failure: miss"]);
    let mut client = client_in(&proxy, "3");
    let get = request(&["GET", "k"]);
    client.send(&get);
    let mut link = server.twin();
    link.receive(request(&["SELECT", "3"]));
    link.answer("+OK\r\n");
    link.receive(&get);
    link.answer("$-1\r\n");
    assert_eq!(answer(&mut client), "$-1");
    client.send([request(&["FLUSHDB"]), request(&["SELECT", "0"])].concat());
    link.receive(request(&["FLUSHDB"]));
    // It says nothing for longer than it may.
    assert_eq!([answer(&mut client), answer(&mut client)], ["+OK"; 2]);
    link.close();
    let mut link = server.twin();
    client.send([request(&["SELECT", "3"]), get.clone()].concat());
    assert_eq!(answer(&mut client), "+OK");
    link.receive(request(&["SELECT", "3"]));
    link.answer("+OK\r\n");
    link.receive(request(&["FLUSHDB"]));
    link.answer("+OK\r\n");
    link.receive(&get);
    link.answer("$-1\r\n");
    assert_eq!(answer(&mut client), "$-1");
}

#[test]
fn a_flush_is_pending_in_the_database_that_was_selected_in_front_of_it() {
    let server = Mock::start();
    let proxy = mock_pool(&[&server], &[]);
    let mut client = proxy.client();
    for (select, flush) in [("3", "FLUSHDB"), ("7", "FLUSHDB")] {
        let get = request(&["GET", "k"]);
        let mut link = server.twin();
        let mut warm = client_in(&proxy, select);
        warm.send(&get);
        link.receive(request(&["SELECT", select]));
        link.answer("+OK\r\n");
        link.receive(&get);
        link.answer("$-1\r\n");
        assert_eq!(answer(&mut warm), "$-1");
        client.send([request(&["SELECT", select]), request(&[flush]), request(&["SELECT", "0"])].concat());
        link.receive(request(&[flush]));
        link.close();
        assert_eq!([answer(&mut client), answer(&mut client), answer(&mut client)], ["+OK"; 3]);
        link.receive(request(&["SELECT", select]));
        link.answer("+OK\r\n");
        link.receive(request(&["FLUSHDB"]));
        link.answer("+OK\r\n");
        client.send([request(&["SELECT", select]), request(&["GET", "k"]), request(&["SELECT", "0"])].concat());
        link.receive(request(&["GET", "k"]));
        link.answer("$-1\r\n");
        assert_eq!([answer(&mut client), answer(&mut client), answer(&mut client)], ["+OK", "$-1", "+OK"]);
    }
}

//! Tests of requests that are looked at while keys are brought along.

use std::sync::Arc;
use std::time::Duration;

use super::waits::{Step, Until, Wait, WaitId};
use super::*;
use crate::config::{
    self,
    model::{Config, PoolId, ServerId},
};
use crate::engine::{Effect, Engine, Scripts, Setup};
use crate::health::pending::{ConnectionName, Invalidated, StaleKey};
use crate::time::Instant;
use crate::topology::Published;

const POOL: PoolId = PoolId(0);
const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn config(protocol: &str, servers: &str) -> Config {
    lasting("1m", protocol, servers)
}

fn lasting(warmup: &str, protocol: &str, servers: &str) -> Config {
    let pool = format!(
        "p:\n  listen: 127.0.0.1:1\n  timeout: 400\n  warmup: {warmup}\n  {protocol}\n  servers: [{servers}]\n"
    );
    config::parse("file", &format!("softmiss:\n  memory_limit: 16mb\n{pool}")).expect("a good file").config
}

/// An engine whose pool has had one server, and has had another one in its place from this moment on, so that each key has
/// moved.
fn moving(protocol: &str) -> Engine {
    let published = Arc::new(Published::new(config(protocol, "'10.0.0.1:1:1 a'"), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    // Of two servers the heavier one has nearly all the keys.
    published.publish(&config(protocol, "'10.0.0.1:1:1 a', '10.0.0.2:1:1000000 b'"), NOW).expect("there are ids");
    engine.handle_timeout(NOW);
    assert!(engine.pools[POOL.index()].warm.is_some());
    engine
}

#[test]
fn a_large_value_that_there_is_no_memory_for_is_answered_at_once_and_its_key_forgotten_where_it_was() {
    let value = "x".repeat(60_000);
    for (protocol, request, answer) in [
        ("hash: fnv1a_64", format!("set k 0 0 60000\r\n{value}\r\n"), "NOT_STORED\r\n"),
        ("hash: fnv1a_64", format!("ms k 60000\r\n{value}\r\n"), "NS\r\n"),
        ("{redis: true, on_failure: miss}", format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000\r\n{value}\r\n"), "$-1\r\n"),
    ] {
        let protocol = protocol.trim_matches(['{', '}']).replace(", ", "\n  ");
        let mut engine = moving(&protocol);
        let client = engine.client_connected(POOL);
        let (begun, rest) = request.as_bytes().split_at(40_000);
        engine.client_data(client, begun, NOW);
        assert!(engine.refuse_large(client, NOW), "{protocol}");
        engine.client_data(client, rest, NOW);
        assert_eq!(String::from_utf8_lossy(engine.client_output(client)), answer, "{protocol}");
        let name = ConnectionName { worker: 9, place: 9, section: 0 };
        let of = if protocol.contains("redis") { Some(0) } else { None };
        for server in [ServerId(0), ServerId(1)] {
            let pending = engine.registry.next_batch(POOL, server, Invalidated::default(), (of, name), 9).keys;
            let pending: Vec<_> = pending.iter().map(|stale| &stale.key[..]).collect();
            assert_eq!(pending, [b"k"], "{protocol}, server {}", server.0);
        }
        engine.client_data(client, if of.is_some() { b"PING\r\n" } else { b"version\r\n" }, NOW);
        assert!(engine.client_output(client).len() > answer.len(), "the connection goes on");
        engine.check_invariants().expect("all is in order");
    }
}

#[test]
fn what_a_server_has_forgotten_counts_for_the_database_where_it_has() {
    let mut engine = moving("redis: true");
    let client = engine.client_connected(POOL);
    let of = |database| (POOL, ServerId(0), Some(database));
    let waits = &mut engine.warmup;
    waits.tell(waits.next_wait(client), of(3), 7);
    waits.begin_wait(client, Wait::new(NOW, 0).waits(Until::Forgotten(1), NOW, Step::Told));
    assert_eq!(waits.forgotten(of(0), 9), [], "another database");
    assert_eq!(waits.forgotten(of(3), 6), [], "what came before");
    assert_eq!(waits.forgotten(of(3), 7), [client]);
}

#[test]
fn who_waits_once_more_is_not_told_of_what_it_waited_for_before() {
    let mut engine = moving("hash: fnv1a_64");
    let client = engine.client_connected(POOL);
    let waits = &mut engine.warmup;
    let first = waits.next_wait(client);
    let copied = Wait::new(NOW, 0).waits(Until::Copied(1), NOW, Step::Looked);
    waits.begin_wait(client, copied);
    waits.begin_wait(client, copied);
    assert!(!waits.copied(first), "a copy that was waited for before");
    let second = WaitId { number: first.number + 1, ..first };
    assert!(waits.copied(second));
}

#[test]
fn a_key_is_the_same_however_it_is_written() {
    let key = |wire: &'static [u8], base64| Key { routed: b"key", wire, base64, database: None };
    let (plain, encoded) = (key(b"key", false), key(b"a2V5", true));
    assert_eq!(plain.hash(POOL), encoded.hash(POOL));
    assert_eq!(plain.sign(), encoded.sign());
    let other = Key { database: Some(3), ..plain };
    assert_ne!(plain.hash(POOL), other.hash(POOL));
    assert_ne!(plain.hash(POOL), plain.hash(PoolId(1)));
}

#[test]
fn another_time_holds_for_what_is_being_brought_along() {
    let published = Arc::new(Published::new(config("hash: fnv1a_64", "'10.0.0.1:1:1 a'"), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    let mut goes_over = |warmup, at| {
        let next = lasting(warmup, "hash: fnv1a_64", "'10.0.0.1:1:1 a', '10.0.0.2:1:1 b'");
        published.publish(&next, at).expect("there are ids");
        engine.handle_timeout(at);
        engine.check_invariants().expect("all is in order");
        engine.pools[POOL.index()].warm.as_ref().map(|warm| (warm.shared.until(), warm.told_until))
    };
    let minutes = |count: u64| Duration::from_secs(60 * count);
    assert_eq!(goes_over("1m", NOW), Some((NOW + minutes(1), NOW + minutes(2))));
    let later = NOW + Duration::from_secs(10);
    assert_eq!(goes_over("10m", later), Some((NOW + minutes(10), NOW + minutes(20))));
    // Others that have not read it yet still look at former homes.
    assert_eq!(goes_over("2m", later), Some((NOW + minutes(2), NOW + minutes(20))));
    // What is over is not begun again.
    assert_eq!(goes_over("1m", NOW + minutes(3)), Some((NOW + minutes(2), NOW + minutes(20))));
    assert_eq!(goes_over("0", NOW + minutes(4)), None);
    assert_eq!(goes_over("1m", NOW + minutes(5)), None);
}

#[test]
fn who_waits_for_a_key_with_no_timeout_has_one_that_is_new() {
    let untimed = |servers: &str| {
        let mut config = config("hash: fnv1a_64", servers);
        config.pools[0].timeout = None;
        config
    };
    let both = "'10.0.0.1:1:1 a', '10.0.0.2:1:1000000 b'";
    let published = Arc::new(Published::new(untimed("'10.0.0.1:1:1 a'"), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    published.publish(&untimed(both), NOW).expect("there are ids");
    engine.handle_timeout(NOW);
    let client = engine.client_connected(POOL);
    engine.client_data(client, b"add k 0 0 1\r\nx\r\n", NOW);
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Connect { link, epoch } = effect {
            engine.link_connected(link, epoch, NOW); // and says nothing
        }
    }
    assert!(engine.warmup.wait_of(client).is_some());
    let heard_at = NOW + Duration::from_millis(300);
    published.publish(&config("hash: fnv1a_64", both), heard_at).expect("there are ids");
    engine.handle_timeout(heard_at);
    let end = NOW + Duration::from_millis(450);
    while let Some(next) = engine.next_timeout().filter(|next| *next <= end) {
        engine.handle_timeout(next);
    }
    assert!(!engine.client_output(client).is_empty(), "{:?}", engine.warmup.wait_of(client));
    engine.check_invariants().expect("all is in order");
}

/// A server that is there and says nothing has so much to forget that with twice as much it would be flushed: there is not
/// much memory.
#[test]
fn who_writes_waits_for_a_former_home_that_has_much_to_forget_and_not_for_one_that_hangs() {
    let mut engine = moving("hash: fnv1a_64");
    let client = engine.client_connected(POOL);
    engine.client_data(client, b"get nothing\r\n", NOW);
    let stale =
        |number: usize| StaleKey { database: None, key: format!("k{number}").into_bytes().into(), base64: false };
    engine.invalidate_key((POOL, ServerId(0)), stale(0), None, NOW);
    engine.remind(POOL, ServerId(0), NOW);
    engine.handle_timeout(NOW + Duration::from_millis(100));
    let opened = NOW + Duration::from_millis(100);
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Connect { link, epoch } = effect {
            engine.link_connected(link, epoch, opened);
        }
    }
    (1..=10_000).for_each(|number| engine.invalidate_key((POOL, ServerId(0)), stale(number), None, opened));
    let writer = engine.client_connected(POOL);
    engine.client_data(writer, b"set k 0 0 1\r\nx\r\n", opened);
    let told = |engine: &Engine| {
        let (name, most) = (ConnectionName { worker: 9, place: 9, section: 0 }, 20_000);
        let batch = engine.registry.next_batch(POOL, ServerId(0), Invalidated::default(), (None, name), most);
        assert!(!batch.flush);
        batch.keys.iter().any(|stale| *stale.key == *b"k")
    };
    assert!(engine.warmup.wait_of(writer).is_some() && !told(&engine));
    let end = opened + Duration::from_millis(300);
    while let Some(next) = engine.next_timeout().filter(|next| *next <= end) {
        engine.handle_timeout(next);
    }
    assert!(engine.warmup.wait_of(writer).is_none() && told(&engine));
    engine.check_invariants().expect("all is in order");
}

/// What a server says that has nothing, and is well.
fn answer(command: &[u8]) -> &'static [u8] {
    match command {
        b"EXISTS" | b"DEL" | b"SCARD" => b":0\r\n",
        b"MULTI" => b"+OK\r\n",
        b"SADD" | b"EXPIRE" => b"+QUEUED\r\n",
        b"EXEC" => b"*2\r\n:1\r\n:1\r\n",
        b"SREM" => b":1\r\n",
        b"PTTL" => b":-2\r\n",
        b"GET" => b"$-1\r\n",
        _ => panic!("{}", command.escape_ascii()),
    }
}

#[test]
fn a_former_home_that_is_well_is_not_flushed_however_many_keys_it_has_to_forget() {
    let mut engine = moving("redis: true");
    let client = engine.client_connected(POOL);
    let keys: String = (10_000..30_000).map(|number| format!("$6\r\nk{number}\r\n")).collect();
    engine.client_data(client, format!("*20001\r\n$3\r\nDEL\r\n{keys}").as_bytes(), NOW);
    let (mut links, mut deleted, mut now) = (Vec::new(), 0, NOW);
    while engine.client_output(client).is_empty() {
        now = now + Duration::from_micros(100);
        assert!(now < NOW + Duration::from_millis(400), "{deleted} were deleted");
        engine.handle_timeout(now);
        while let Some(effect) = engine.poll_effect() {
            if let Effect::Connect { link, epoch } = effect {
                engine.link_connected(link, epoch, now);
                links.push((link, epoch));
            }
        }
        for (link, epoch) in links.iter().copied() {
            let asked = engine.link_output(link, epoch).to_vec();
            engine.link_wrote(link, epoch, asked.len(), now);
            let mut said = Vec::new();
            for request in asked.split(|byte| *byte == b'*').skip(1) {
                let words: Vec<_> = request.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
                said.extend_from_slice(answer(words[2]));
                deleted += usize::from(words[2] == b"DEL") * (words.len() / 2 - 2);
            }
            engine.link_data(link, epoch, &said, now, &mut ());
        }
    }
    assert_eq!(engine.client_output(client), b":0\r\n");
    // At home as well.
    assert_eq!(deleted, 40_000);
    engine.check_invariants().expect("all is in order");
}

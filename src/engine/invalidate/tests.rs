//! Tests of invalidations that cannot be sent at once.

use std::sync::Arc;

use super::*;
use crate::config;
use crate::config::discovery::{Answer, Found, Source, expand, server};
use crate::engine::{Scripts, Setup};
use crate::health::pending::BatchRange;
use crate::topology::Published;

const POOL: PoolId = PoolId(0);
const SERVER: ServerId = ServerId(0);
const NOW: Instant = Instant::from_nanos(1_000_000_000);
const OTHER: ConnectionName = ConnectionName { worker: 1, place: 0, section: 0 };

/// An engine for one server with two connections.
fn engine(protocol: &str) -> Engine {
    let more = "on_failure: miss\n  server_connections: 2\n  timeout: 400";
    let file = format!("pool:\n  listen: 127.0.0.1:1\n  {protocol}\n  {more}\n  servers: ['10.0.0.1:1:1']\n");
    let published = Arc::new(Published::new(config::parse("file", &file).expect("a good file").config, 1));
    let scripts = Scripts::default();
    Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts })
}

fn links(engine: &Engine) -> Vec<LinkId> {
    engine.pools[0].shared_links()
}

/// A connection of another worker sends the invalidations of a database, and they are confirmed.
fn confirm_all(engine: &Engine, database: Option<u32>) -> BatchRange {
    let batch = engine.registry.next_batch(POOL, SERVER, Invalidated::default(), (database, OTHER), usize::MAX);
    engine.registry.confirm(POOL, SERVER, batch.range, Some(OTHER));
    batch.range
}

/// A question that was to tell when something is over is lost with what waited on its connection.
#[test]
fn what_is_given_up_before_it_was_sent_is_over() {
    let mut engine = engine("redis: true");
    let link = links(&engine)[0];
    engine.start_connect(link, NOW);
    engine.ask(link, Verb::Command, Marks::NONE, NOW, |out| resp::encode::words(out, &[b"PING"]));
    let key = StaleKey { database: Some(3), key: (*b"k").into(), base64: false };
    let from = OlderWrites { name: engine.connection_name(link), is_foreign: true };
    engine.invalidate_key((POOL, SERVER), key, Some(from), NOW);
    engine.send_invalidations(link, 9, NOW);
    assert!(engine.servers[link].is_fenced());
    engine.abandon(link, Failure::Stalled, NOW);
    assert!(!engine.servers[link].is_fenced());
    confirm_all(&engine, Some(3));
    assert!(!engine.registry.has_pending(POOL, SERVER));
}

fn open(engine: &mut Engine, link: LinkId) {
    engine.start_connect(link, NOW);
    let epoch = engine.servers[link].epoch();
    engine.link_connected(link, epoch, NOW);
    assert!(engine.servers[link].is_up());
}

/// What waits to be written on a connection.
fn written(engine: &mut Engine, link: LinkId) -> String {
    let epoch = engine.servers[link].epoch();
    String::from_utf8_lossy(engine.link_output(link, epoch)).into_owned()
}

/// A server answers on a connection.
fn answer(engine: &mut Engine, link: LinkId, bytes: &[u8], now: Instant) {
    let epoch = engine.servers[link].epoch();
    engine.link_data(link, epoch, bytes, now, &mut ());
}

/// What another worker has made pending is sent on the connections of this one as well.
#[test]
fn idle_connections_send_what_another_worker_made_pending() {
    let mut engine = engine("redis: true");
    for link in links(&engine) {
        open(&mut engine, link);
    }
    let second = links(&engine)[1];
    let later = NOW + Duration::from_secs(2);
    engine.handle_timeout(later); // nothing else is to be looked at
    let key = StaleKey { database: Some(0), key: (*b"k").into(), base64: false };
    let from = OlderWrites { name: engine.connection_name(second), is_foreign: false };
    engine.registry.invalidate_key(POOL, SERVER, key, Some(from), later);
    engine.registry.invalidate_all(POOL, SERVER, later);
    engine.handle_timeout(later);
    engine.handle_timeout(later + REMINDER);
    for link in links(&engine) {
        let told = written(&mut engine, link);
        assert!(told.contains("FLUSHALL"), "{told}");
        answer(&mut engine, link, b"+OK\r\n", later + REMINDER);
    }
    assert!(!engine.registry.has_pending(POOL, SERVER));
}

/// A client wrote something on one connection, was told that it had run out of time, and then that all is forgotten. What
/// comes by another connection is carried out sooner.
#[test]
fn a_flush_that_was_not_delivered_is_sent_behind_what_was_asked_before() {
    for (protocol, verb, flush) in [
        ("redis: true", Verb::FlushAll, "FLUSHALL"),
        ("redis: true", Verb::FlushDatabase, "FLUSHDB"),
        ("hash: md5", Verb::FlushAll, "flush_all"),
    ] {
        let mut engine = engine(protocol);
        let database = engine.link_database(links(&engine)[0]);
        for link in links(&engine) {
            open(&mut engine, link);
        }
        let client = engine.client_connected(POOL);
        let set = if database.is_some() { "SET k old\r\n" } else { "set k 0 0 3\r\nold\r\n" };
        engine.client_data(client, set.as_bytes(), NOW);
        let used = links(&engine).into_iter().find(|link| !engine.servers[*link].queue().is_empty()).unwrap();
        engine.undelivered(POOL, SERVER, verb, 0, None, NOW);
        confirm_all(&engine, database);
        assert!(engine.registry.has_pending(POOL, SERVER), "{flush} was confirmed in front of it");
        engine.handle_timeout(NOW + REMINDER);
        let told = written(&mut engine, used);
        let (write, flush) = (told.find("old").unwrap(), told.find(flush));
        assert!(flush.is_some_and(|flush| flush > write), "{told}");
    }
}

/// Another worker may give up a connection while a probe sends invalidations: what the server was asked there may come late.
#[test]
fn a_probe_sends_none_before_the_end_of_what_was_given_up() {
    let mut engine = engine("redis: true");
    let probe = engine.pools[0].members[0].probe();
    engine.start_connect(probe, NOW);
    engine.servers[probe].open(NOW);
    let key = StaleKey { database: Some(0), key: (*b"k").into(), base64: false };
    engine.invalidate_key((POOL, SERVER), key, None, NOW);
    engine.registry.lingers(POOL, SERVER);
    assert!(!engine.send_invalidations(probe, 9, NOW));
    engine.registry.ended(POOL, SERVER);
    assert!(engine.send_invalidations(probe, 9, NOW + Duration::from_secs(1)));
}

/// What is stored behind a flush stays, and what waits in front of it for the connection to be opened does not.
#[test]
fn a_flush_is_sent_between_what_was_asked_before_it_and_after() {
    for (verb, flush) in [(Verb::FlushAll, "FLUSHALL"), (Verb::FlushDatabase, "FLUSHDB")] {
        let mut engine = engine("redis: true");
        let client = engine.client_connected(POOL);
        let set = |engine: &mut Engine, value| engine.client_data(client, format!("SET {value} 1\r\n").as_bytes(), NOW);
        set(&mut engine, "old");
        let link = links(&engine).into_iter().find(|link| !engine.servers[*link].queue().is_empty()).unwrap();
        engine.undelivered(POOL, SERVER, verb, 0, None, NOW);
        set(&mut engine, "new");
        let epoch = engine.servers[link].epoch();
        engine.link_connected(link, epoch, NOW);
        let told = written(&mut engine, link);
        let last = told.rfind(flush).unwrap();
        assert!(told.find("old").unwrap() < last && last < told.find("new").unwrap(), "{told}");
        let answers = "+OK\r\n".repeat(told.matches("*").count());
        answer(&mut engine, link, answers.as_bytes(), NOW);
        assert!(!engine.registry.has_pending(POOL, SERVER));
    }
}

/// Nothing that is asked after a flush has become pending is forgotten with it, however much waits for the connection.
#[test]
fn a_connection_begins_with_a_flush_once() {
    for (protocol, verb, flush) in [
        ("redis: true", Verb::FlushAll, "FLUSHALL"),
        ("redis: true", Verb::FlushDatabase, "FLUSHDB"),
        ("hash: md5", Verb::FlushAll, "flush_all"),
    ] {
        let mut engine = engine(protocol);
        engine.undelivered(POOL, SERVER, verb, 0, None, NOW);
        let client = engine.client_connected(POOL);
        let requests = if protocol == "hash: md5" { "set k 0 0 1\r\n1\r\nget k\r\n" } else { "SET k 1\r\nGET k\r\n" };
        engine.client_data(client, requests.as_bytes(), NOW);
        let link = links(&engine).into_iter().find(|link| !engine.servers[*link].queue().is_empty()).unwrap();
        let epoch = engine.servers[link].epoch();
        engine.link_connected(link, epoch, NOW);
        let told = written(&mut engine, link);
        assert_eq!((told.find(flush).is_some(), told.matches(flush).count()), (true, 1), "{told}");
        assert!(told.find(flush) < told.find('k'), "{told}");
    }
}

/// A server may have confirmed the flush that a connection was to begin with before that is open, and has still to forget
/// there what came behind the flush.
#[test]
fn a_connection_begins_with_what_is_left_when_its_flush_was_confirmed() {
    for (protocol, verb, database, delete) in [
        ("redis: true", Verb::FlushAll, 0, "DEL"),
        ("redis: true", Verb::FlushDatabase, 0, "DEL"),
        ("redis: true", Verb::FlushAll, 3, "DEL"),
        ("redis: true", Verb::FlushDatabase, 3, "DEL"),
        ("hash: md5", Verb::FlushAll, 0, "delete"),
    ] {
        for later in [false, true] {
            let mut engine = engine(protocol);
            let of = engine.link_database(links(&engine)[0]).map(|_| database);
            engine.undelivered(POOL, SERVER, verb, database, None, NOW);
            let sent = engine.registry.next_batch(POOL, SERVER, Invalidated::default(), (of, OTHER), usize::MAX);
            let forget = |engine: &mut Engine, key: &[u8]| {
                let key = StaleKey { database: of, key: key.into(), base64: false };
                engine.invalidate_key((POOL, SERVER), key, None, NOW);
            };
            forget(&mut engine, b"old");
            let client = engine.client_connected(POOL);
            if database > 0 {
                engine.client_data(client, format!("SELECT {database}\r\n").as_bytes(), NOW);
            }
            engine.client_data(client, b"get old\r\n", NOW);
            if later {
                forget(&mut engine, b"new");
                engine.client_data(client, b"get new\r\n", NOW);
            }
            let all = engine.servers.iter().map(|(id, _)| id).collect::<Vec<_>>();
            let asked = |link: &LinkId| engine.servers[*link].queue().tickets().any(|ticket| !ticket.is_own());
            let link = all.into_iter().find(asked).unwrap();
            assert!(engine.servers[link].is_opening());
            engine.registry.confirm(POOL, SERVER, sent.range, Some(OTHER));
            engine.servers[link].open(NOW); // without a word of a password or a database
            engine.invalidate_first(link, NOW);
            let told = written(&mut engine, link);
            for key in ["old", "new"].into_iter().take(1 + usize::from(later)) {
                let deleted = told.match_indices(key).next().unwrap().0;
                let asked = told.to_lowercase().find("get").unwrap();
                assert!(deleted < asked && told[..asked].contains(delete), "{verb:?} {database} {key}: {told}");
            }
        }
    }
}

/// A connection that cannot send an invalidation behind its writes finds out when that is over, and not before.
#[test]
fn the_end_is_asked_for_behind_what_waits_for_a_connection() {
    let mut engine = engine("redis: true");
    let client = engine.client_connected(POOL);
    engine.client_data(client, b"MULTI\r\nSELECT 3\r\nSET k old\r\nEXEC\r\n", NOW);
    let link = links(&engine).into_iter().find(|link| !engine.servers[*link].queue().is_empty()).unwrap();
    let key = StaleKey { database: Some(3), key: (*b"k").into(), base64: false };
    let from = OlderWrites { name: engine.connection_name(link), is_foreign: true };
    engine.invalidate_key((POOL, SERVER), key, Some(from), NOW);
    let epoch = engine.servers[link].epoch();
    engine.link_connected(link, epoch, NOW);
    let told = written(&mut engine, link);
    assert!(told.find("old").unwrap() < told.find("PING").unwrap(), "{told}");
}

/// Who was held back from a queue goes on when it is given up, and nobody is held back from it any more.
#[test]
fn a_queue_that_is_given_up_is_full_no_more() {
    let mut engine = engine("redis: true");
    let link = links(&engine)[0];
    engine.start_connect(link, NOW);
    let client = engine.client_connected(POOL);
    engine.stall(client, link);
    assert_eq!(engine.servers.crowded(), 1);
    engine.abandon(link, Failure::Stalled, NOW);
    assert_eq!((engine.servers.crowded(), engine.clients.resumable()), (0, &[client][..]));
}

/// What a probe has asked is charged to nobody when it is over.
#[test]
fn a_probe_that_is_over_holds_nothing() {
    let mut engine = engine("redis: true");
    let probe = engine.pools[0].members[0].probe();
    open(&mut engine, probe);
    engine.servers[probe].pop();
    engine.servers[probe].step_to(ProbeStep::Invalidate);
    engine.charge_link(probe);
    assert!(engine.servers[probe].charged() > 0);
    engine.settle_probe(probe, NOW);
    assert!(engine.servers[probe].is_down());
    assert_eq!(engine.servers[probe].charged(), 0);
}

/// A flush with a delay that was answered while nobody knew the servers takes effect when it is due, and not before.
#[test]
fn a_delayed_flush_that_nobody_known_missed_is_sent_to_who_is_found_when_it_is_due() {
    let file = "p: {listen: /p.sock, timeout: 400, on_failure: miss, servers_file: /s}\n";
    let mut config = config::parse("file", file).expect("a good file").config;
    expand(&mut config.pools[0], &Found::new());
    let published = Arc::new(Published::new(config.clone(), 1));
    let (scripts, of) = (Scripts::default(), Arc::clone(&published));
    let mut engine = Engine::new(Setup { published: of, worker: 0, seed: 1, started_at: Duration::ZERO, scripts });
    let due = NOW + Duration::from_secs(5);
    engine.undelivered(POOL, SERVER, Verb::FlushAll, 0, Some(due), NOW);
    let found = Answer::Servers(vec![server("a".to_owned(), "10.0.0.1".to_owned(), 1)]);
    expand(&mut config.pools[0], &Found::from([(Source::File("/s".into()), found)]));
    published.publish(&config, NOW).expect("there are ids");
    engine.handle_timeout(NOW);
    let link = engine.pools[0].members[1].links()[0];
    open(&mut engine, link);
    engine.handle_timeout(due.before(Duration::from_millis(1)));
    assert_eq!(written(&mut engine, link), "");
    engine.handle_timeout(due);
    engine.handle_timeout(due + REMINDER);
    assert_eq!(written(&mut engine, link), "flush_all\r\n");
}

/// What a server refuses it is asked for again now and then, however much is pending and however often somebody asks.
#[test]
fn a_server_that_refuses_to_forget_is_asked_for_one_thing_at_a_time() {
    let mut engine = engine("redis: true");
    let link = links(&engine)[0];
    open(&mut engine, link);
    for number in 0..100 {
        let key = StaleKey { database: Some(0), key: format!("k{number}").into_bytes().into(), base64: false };
        engine.invalidate_key((POOL, SERVER), key, None, NOW);
    }
    engine.send_invalidations(link, BATCH, NOW);
    let sent = |engine: &mut Engine| {
        let text = written(engine, link);
        let epoch = engine.servers[link].epoch();
        engine.link_wrote(link, epoch, text.len(), NOW);
        text.matches("DEL").count()
    };
    assert_eq!(sent(&mut engine), 100);
    let refusal = b"-READONLY You can't write against a read only replica.\r\n";
    answer(&mut engine, link, &refusal.repeat(100), NOW);
    let client = engine.client_connected(POOL);
    for _ in 0..100 {
        engine.client_data(client, b"*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n", NOW);
    }
    assert_eq!((sent(&mut engine), engine.client_output(client)), (0, &b"$-1\r\n".repeat(100)[..]));
    let later = NOW + REMINDER;
    engine.handle_timeout(later);
    assert_eq!(sent(&mut engine), 1);
    answer(&mut engine, link, refusal, later);
    let last = later + REMINDER;
    engine.handle_timeout(last);
    assert_eq!(sent(&mut engine), 1);
    answer(&mut engine, link, b":1\r\n", last);
    assert_eq!(sent(&mut engine), 99, "it forgets again");
    answer(&mut engine, link, &b":1\r\n".repeat(99), last);
    assert!(!engine.registry.has_pending(POOL, SERVER));
}

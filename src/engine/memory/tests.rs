//! Tests of who is asked to give memory back, and who is not.

use std::sync::Arc;

use super::*;
use crate::config::{
    self,
    model::{PoolId, ServerId},
};
use crate::engine::ids::SessionId;
use crate::engine::{Effect, Scripts, Setup};
use crate::health::pending::{ConnectionName, Invalidated};
use crate::topology::Published;

/// An engine for one server, with so many megabytes.
fn engine(megabytes: usize) -> Engine {
    engine_with(megabytes, "hash: md5")
}

/// As [`engine`], with a further line of its pool.
fn engine_with(megabytes: usize, line: &str) -> Engine {
    let pool = format!("pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  {line}\n  servers: ['10.0.0.1:1:1']\n");
    let file = format!("softmiss:\n  memory_limit: {megabytes}mb\n{pool}");
    let published = Arc::new(Published::new(config::parse("file", &file).expect("a good file").config, 1));
    let scripts = Scripts::default();
    Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts })
}

#[test]
fn who_holds_little_is_served_while_others_are_above_the_limit() {
    let mut engine = engine(16);
    let (small, hoarder) = (engine.client_connected(PoolId(0)), engine.client_connected(PoolId(0)));
    let now = Instant::from_nanos(1_000_000_000);
    engine.session(hoarder).expect("a client").holding.add(17 << 20);
    let mut asks = |held: usize, id| {
        engine.memory.recharge(engine.memory.held(), held);
        engine.link_to(PoolId(0), id, ServerId(0), now).map(|_| ()).err()
    };
    assert_eq!(asks(16 << 20, hoarder), None, "below the limit");
    assert_eq!(asks(17 << 20, hoarder), Some(Failure::NoMemory));
    assert_eq!(asks(17 << 20, small), None);
    assert_eq!(asks(21 << 20, small), Some(Failure::NoMemory), "there is an end");
}

#[test]
fn a_message_gets_room_to_double_but_no_more_than_it_may_have() {
    let mut message = vec![0; 1 << 20];
    for megabytes in [2, 4, 8] {
        grow_to(&mut message, &[0; 64], 8 << 20);
        assert_eq!(message.capacity(), megabytes << 20);
        message.resize(message.capacity(), 0);
    }
    for from in [3 << 20, 7 << 19] {
        let mut message = vec![0; from];
        grow_to(&mut message, &[0; 64], 8 << 20);
        assert_eq!(message.capacity(), 4 << 20, "half of it first");
    }
}

/// Where room is made anew, all that has come is copied: done for each word, that takes a time which grows with the square of
/// what a client sends.
#[test]
fn room_for_a_request_of_very_many_words_is_made_a_few_times() {
    let words: String = (0..150_000).map(|number| format!("$7\r\n{number:07}\r\n")).collect();
    let lines: String = (0..150_000).map(|number| format!("key:{number:07} ")).collect();
    for (line, request) in [
        ("redis: true", format!("*150002\r\n$4\r\nSADD\r\n$1\r\nk\r\n{words}")),
        ("redis: true", format!("*150001\r\n$4\r\nMGET\r\n{words}")),
        ("hash: md5", format!("get {lines}\r\n")),
        ("hash: md5", format!("set k 0 0 2000000\r\n{}\r\n", "x".repeat(2_000_000))),
    ] {
        for piece in [100, 8 << 10] {
            let mut engine = engine_with(64, line);
            let client = engine.client_connected(PoolId(0));
            let (mut now, mut changes, mut room) = (Instant::from_nanos(1_000_000_000), 0, 0);
            for piece in request.as_bytes()[..request.len() - 10].chunks(piece) {
                engine.client_data(client, piece, now);
                // Until its turns are over.
                while let Some(at) = engine.next_timeout().filter(|at| *at <= now + Duration::from_micros(1)) {
                    now = now.max(at);
                    engine.handle_timeout(now);
                }
                let held = engine.session(client).expect("a client").input.capacity();
                changes += usize::from(std::mem::replace(&mut room, held) != held);
            }
            assert!(changes < 100, "room is made {changes} times: {line}, {}", &request[..20]);
        }
    }
}

#[test]
fn a_large_argument_without_memory_is_answered_by_policy_and_dropped() {
    let value = "x".repeat(60_000);
    let bulk = |word: &str| format!("${}\r\n{word}\r\n", word.len());
    let request =
        |words: &[&str]| format!("*{}\r\n{}", words.len(), words.iter().map(|word| bulk(word)).collect::<String>());
    let key = "y".repeat(70_000);
    let short = "-ERR memory_limit of this proxy reached\r\n";
    let too_large = "-ERR an argument of the request is larger than this proxy takes\r\n";
    let cases: [(&str, &[&str], &str, &[&str]); 11] = [
        ("miss", &["SET", "k", &value], "$-1\r\n", &["k"]),
        ("miss", &["SET", "k", &value, "EX", "10"], "$-1\r\n", &["k"]),
        ("miss", &["PUBLISH", "c", &value], ":0\r\n", &[]),
        ("miss", &["MSET", "k", &value, "l", "1"], "$-1\r\n", &["k", "l"]),
        ("miss", &["MSET", "j", "1", "k", &value, "l", &value, "m", "1"], "$-1\r\n", &["j", "k", "l", "m"]),
        ("miss", &["MSET", "k", &value, &key, "1"], short, &[]),
        ("miss", &["DEL", "k", &value], too_large, &[]),
        ("absorb", &["SET", "k", &value], "+OK\r\n", &["k"]),
        ("absorb", &["SET", "k", &value, "NX"], "$-1\r\n", &[]),
        ("absorb", &["SET", "k", &value, "EX", "10"], "+OK\r\n", &["k"]),
        ("miss", &["GETEX", &value], "$-1\r\n", &[]),
    ];
    for (policy, words, answer, forgotten) in cases {
        let mut engine = engine_with(16, &format!("redis: true\n  on_failure: {policy}"));
        let client = engine.client_connected(PoolId(0));
        let now = Instant::from_nanos(1_000_000_000);
        let request = request(words);
        let (begun, rest) = request.as_bytes().split_at(40_000);
        engine.client_data(client, begun, now);
        assert!(engine.refuse_large(client, now), "{policy} {}", words[0]);
        // Where more is behind the argument, that is waited for: keys, conditions.
        engine.client_data(client, rest, now);
        assert_eq!(String::from_utf8_lossy(engine.client_output(client)), answer, "{policy} {}", words[0]);
        let name = ConnectionName { worker: 9, place: 9, section: 0 };
        let missed =
            engine.registry.next_batch(PoolId(0), ServerId(0), Invalidated::default(), (Some(0), name), 9).keys;
        let missed: Vec<_> = missed.iter().map(|missed| String::from_utf8_lossy(&missed.key)).collect();
        assert_eq!(missed, forgotten, "{policy} {}", words[0]);
        engine.client_data(client, b"PING\r\n", now);
        let told = String::from_utf8_lossy(engine.client_output(client)).into_owned();
        assert_eq!(told, format!("{answer}+PONG\r\n"), "the connection goes on");
        assert_eq!(engine.check_invariants(), Ok(()));
    }
}

#[test]
fn clients_that_hold_little_each_are_cut_off_some_at_a_time() {
    let mut engine = engine(16);
    let now = Instant::from_nanos(1_000_000_000);
    let clients: Vec<_> = (0..5000).map(|_| engine.client_connected(PoolId(0))).collect();
    for client in &clients {
        let session = engine.session(*client).expect("a client");
        session.output.append(&[0; 6000]);
        engine.charge_session(*client);
    }
    let is_above = |engine: &Engine| engine.memory.held() > engine.memory.limits().all + engine.memory.limits().margin;
    assert!(is_above(&engine) && engine.memory.hoarders.is_empty());
    let cut_off = |engine: &Engine| engine.counters.pool(PoolId(0)).clients_cut_off.value();
    let mut events = 0;
    while is_above(&engine) {
        let before = cut_off(&engine);
        engine.relieve_memory(now);
        assert!(cut_off(&engine) - before <= cut_off::CUTS as u64);
        events += 1;
        assert!(events < 1000, "it comes to an end");
    }
    assert!(events > 1 && cut_off(&engine) > 0);
    assert!(cut_off(&engine) < 1000, "only as many as need be: {}", cut_off(&engine));
}

/// Clients that hold so many bytes each that they have not read.
fn hoarders(engine: &mut Engine, count: usize, bytes: usize) -> Vec<SessionId> {
    let clients: Vec<_> = (0..count).map(|_| engine.client_connected(PoolId(0))).collect();
    for client in &clients {
        engine.session(*client).expect("a client").output.append(&vec![0; bytes]);
        engine.charge_session(*client);
    }
    clients
}

/// Clients of which each has sent a part of a small value, while others hold `bytes` each that they do not read.
fn senders(engine: &mut Engine, count: usize, bytes: usize, now: Instant) -> (Vec<SessionId>, Vec<SessionId>) {
    let hoarders = hoarders(engine, count, bytes);
    let senders: Vec<_> = (0..2).map(|_| engine.client_connected(PoolId(0))).collect();
    for id in &senders {
        engine.client_data(*id, format!("set k 0 0 4000\r\n{}", "v".repeat(3000)).as_bytes(), now);
        assert!(!engine.client_status(*id).reads, "memory is full");
    }
    (hoarders, senders)
}

#[test]
fn who_sends_little_goes_on_when_memory_is_not_full_any_more() {
    let mut engine = engine(16);
    let now = Instant::from_nanos(1_000_000_000);
    let (hoarders, senders) = senders(&mut engine, 7, 3 << 20, now);
    hoarders[..2].iter().for_each(|id| engine.client_gone(*id, false));
    assert!(engine.memory.held() > engine.memory.limits().input && !engine.memory.is_full());
    engine.handle_timeout(now + TICK);
    assert!(senders.iter().all(|id| engine.client_status(*id).reads));
    assert!(hoarders[2..].iter().all(|id| !engine.session_ref(*id).expect("a client").is_closing()));
}

#[test]
fn who_sends_little_does_not_wait_for_longer_than_its_time() {
    let mut engine = engine(16);
    let now = Instant::from_nanos(1_000_000_000);
    let (hoarders, senders) = senders(&mut engine, 7, 3 << 20, now);
    engine.handle_timeout(now + TICK);
    assert!(!engine.client_status(senders[0]).reads, "it may still be given back");
    engine.handle_timeout(now + 2 * TICK);
    assert!(senders.iter().all(|id| engine.client_status(*id).reads));
    let gone = hoarders.iter().filter(|id| engine.session_ref(**id).expect("a client").is_closing()).count();
    assert_eq!(gone, 1, "one is enough");
}

#[test]
fn nobody_goes_for_the_subscriptions_of_who_would_hold_more() {
    let mut engine = engine_with(16, "redis: true");
    let now = Instant::from_nanos(1_000_000_000);
    let others = hoarders(&mut engine, 50, 290 << 10);
    let subscriber = engine.client_connected(PoolId(0));
    let name = "n".repeat(200 << 10);
    let request = format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{name}\r\n", name.len());
    assert!(!engine.has_memory(0, 3 * name.len()) && engine.memory.held() < engine.memory.limits().all);
    engine.client_data(subscriber, request.as_bytes(), now);
    let gone = others.iter().filter(|id| engine.session_ref(**id).expect("a client").is_closing()).count();
    assert_eq!(gone, 0, "each of them holds less");
    assert!(engine.session_ref(subscriber).expect("a client").is_closing());
    // One that holds more than that goes first.
    others[..6].iter().for_each(|id| engine.client_gone(*id, false));
    let large = hoarders(&mut engine, 1, 2 << 20)[0];
    let subscriber = engine.client_connected(PoolId(0));
    engine.client_data(subscriber, request.as_bytes(), now);
    assert!(engine.session_ref(large).expect("a client").is_closing());
    assert!(!engine.session_ref(subscriber).expect("a client").is_closing());
}

#[test]
fn an_answer_that_nobody_hears_needs_no_memory() {
    let mut engine = engine_with(16, "redis: true");
    let now = Instant::from_nanos(1_000_000_000);
    let client = engine.client_connected(PoolId(0));
    engine.client_data(client, b"CLIENT REPLY OFF\r\nGET k\r\n", now);
    let connects = std::iter::from_fn(|| engine.poll_effect());
    let connect = connects
        .filter_map(|effect| if let Effect::Connect { link, epoch } = effect { Some((link, epoch)) } else { None });
    let (link, epoch) = connect.last().expect("a connection");
    engine.link_connected(link, epoch, now);
    let written = engine.link_output(link, epoch).len();
    engine.link_wrote(link, epoch, written, now);
    let overdue = hoarders(&mut engine, 1, 17 << 20)[0];
    let later = now + READERS_PATIENCE;
    let value = "v".repeat(8 << 10);
    let answer = format!("${}\r\n{value}\r\n", value.len());
    engine.memory.recharge(0, 4 << 20); // and others more
    engine.link_data(link, epoch, answer.as_bytes(), later, &mut ());
    assert!(!engine.session_ref(overdue).expect("a client").is_closing(), "nobody goes for it");
    assert_eq!(engine.counters.pool(PoolId(0)).degraded[Failure::NoMemory as usize].value(), 0);
    assert_eq!(engine.client_output(client), b"");
    assert!(engine.session_ref(client).expect("a client").requests.is_empty());
}

/// Requests that want no answer are not waited for beyond their time, and a client that does not read its answers goes on
/// when it has read them: until then it needs no timer.
#[test]
fn who_does_not_read_goes_on_when_it_has_whatever_became_of_what_wants_no_answer() {
    let mut engine = engine_with(16, "stall_detection: false");
    let now = Instant::from_nanos(1_000_000_000);
    let client = engine.client_connected(PoolId(0));
    let unheard = "set k 0 0 1 noreply\r\nv\r\n".repeat(1024);
    let requests = format!("get large\r\n{unheard}get behind\r\n");
    engine.client_data(client, requests.as_bytes(), now);
    let Some(Effect::Connect { link, epoch }) = engine.poll_effect() else { panic!("no connection is opened") };
    engine.link_connected(link, epoch, now);
    let written = engine.link_output(link, epoch);
    assert!(written.ends_with(b"set k 0 0 1\r\nv\r\n"), "no more of them may be in flight");
    let count = written.len();
    engine.link_wrote(link, epoch, count, now);
    let value = "v".repeat(100_000);
    let answer = format!("VALUE large 0 100000\r\n{value}\r\nEND\r\n");
    engine.link_data(link, epoch, answer.as_bytes(), now, &mut ());
    assert!(engine.session_ref(client).expect("a client").is_choked());
    let late = now + Duration::from_millis(401);
    engine.handle_timeout(late);
    assert_eq!(engine.check_invariants(), Ok(()));
    assert_eq!(engine.link_output(link, epoch), b"");
    engine.client_wrote(client, answer.len(), late + Duration::from_millis(1));
    assert_eq!(engine.link_output(link, epoch), b"get behind\r\n");
    assert_eq!(engine.check_invariants(), Ok(()));
}

const TIMEOUT: Duration = Duration::from_millis(400);

const ALMOST: Duration = Duration::from_millis(390);

/// A client of two servers. One of them has been asked for something at `now`; the other's answer, of 100 KB, waits behind
/// that, and `behind` is asked for half a `TIMEOUT` later. The first answers at the very end of its time.
fn who_asks_behind_a_large_answer_that_waited(now: Instant) -> (Engine, SessionId) {
    let pool = "pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  stall_detection: false\n  servers:\n";
    let file = format!("softmiss:\n  memory_limit: 16mb\n{pool}  - 10.0.0.1:1:1\n  - 10.0.0.2:1:1\n");
    let published = Arc::new(Published::new(config::parse("file", &file).expect("a good file").config, 1));
    let scripts = Scripts::default();
    let mut engine = Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts });
    let client = engine.client_connected(PoolId(0));
    let mut connections = Vec::new();
    for key in 0.. {
        engine.client_data(client, format!("get key:{key}\r\n").as_bytes(), now);
        while let Some(effect) = engine.poll_effect() {
            let Effect::Connect { link, epoch } = effect else { continue };
            engine.link_connected(link, epoch, now);
            connections.push((key, link, epoch));
        }
        if connections.len() == 2 {
            break;
        }
    }
    let [(_, first, first_epoch), (key, other, epoch)] = connections[..] else { unreachable!("two of them") };
    for (link, epoch) in [(first, first_epoch), (other, epoch)] {
        let written = engine.link_output(link, epoch).len();
        engine.link_wrote(link, epoch, written, now);
    }
    let answer = format!("VALUE key:{key} 0 100000\r\n{}\r\nEND\r\n", "v".repeat(100_000));
    engine.link_data(other, epoch, answer.as_bytes(), now, &mut ());
    assert!(engine.session_ref(client).expect("a client").is_choked());
    engine.client_data(client, b"get behind\r\n", now + TIMEOUT / 2);
    let misses = b"END\r\n".repeat(key);
    engine.link_data(first, first_epoch, &misses, now + ALMOST, &mut ());
    assert!(engine.session_ref(client).expect("a client").is_choked(), "by what it has to read");
    (engine, client)
}

/// What is asked behind large answers that wait for one that is missing has no more time for that.
#[test]
fn the_time_of_what_is_held_back_goes_on_while_others_are_waited_for() {
    let now = Instant::from_nanos(1_000_000_000);
    let (mut engine, client) = who_asks_behind_a_large_answer_that_waited(now);
    let told = now + ALMOST;
    while !engine.client_output(client).is_empty() {
        let count = engine.client_output(client).len();
        engine.client_wrote(client, count, told);
    }
    engine.handle_timeout(now + TIMEOUT + TIMEOUT / 2);
    assert_eq!(engine.client_output(client), b"END\r\n", "its time is over");
}

/// The time in which a client reads what it asked for before is its own.
#[test]
fn the_time_of_what_is_held_back_stands_still_while_its_client_reads() {
    let now = Instant::from_nanos(1_000_000_000);
    let (mut engine, client) = who_asks_behind_a_large_answer_that_waited(now);
    let mut told = now + ALMOST;
    engine.client_wrote(client, 10, told);
    told = told + TIMEOUT * 3;
    while !engine.client_output(client).is_empty() {
        let count = engine.client_output(client).len();
        engine.client_wrote(client, count, told);
    }
    engine.handle_timeout(told + TIMEOUT / 4);
    assert_eq!(engine.client_output(client), b"", "it has time yet");
    engine.handle_timeout(told + TIMEOUT);
    assert_eq!(engine.client_output(client), b"END\r\n", "its time is over");
}

//! Large requests go on to their servers in the buffers that they came in: no event copies one.

use std::collections::BTreeMap;

use softmiss::config::model::ServerId;
use softmiss::engine::ids::{LinkId, SessionId};
use softmiss::failure::Failure;

use super::events::command;
use super::rig::{POOL, Rig};

/// So large that there is room for all of it at once.
const LARGE: usize = 3 << 20;

fn redis(servers: usize) -> Rig {
    Rig::new(servers, &["redis: true", "timeout: 400", "on_failure: miss", "hash_tag: \"{}\""])
}

fn words(words: &[&str]) -> Vec<u8> {
    command(words.iter().map(|word| (*word).to_owned()))
}

fn large(first: &[&str], behind: &[&str]) -> Vec<u8> {
    let first = first.iter().map(|word| (*word).to_owned());
    command(first.chain([large_word()]).chain(behind.iter().map(|word| (*word).to_owned())))
}

fn large_word() -> String {
    "x".repeat(LARGE)
}

/// What goes to one server as it came.
fn requests() -> Vec<Vec<u8>> {
    vec![
        large(&["SET", "key"], &[]),
        large(&["HSET", "key", "field"], &[]),
        large(&["GET"], &[]),
        large(&["PUBLISH", "channel"], &[]),
        large(&["EVAL", "return 1", "1", "key"], &[]),
        large(&["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "1", "key"], &[]),
        large(&["EVAL"], &["1", "key"]),
    ]
}

/// What is written, as the shell sees it: piece by piece.
fn pieces(rig: &mut Rig) -> BTreeMap<LinkId, Vec<Vec<u8>>> {
    let mut sent = BTreeMap::<LinkId, Vec<Vec<u8>>>::new();
    rig.settle_with(&mut |link, bytes| sent.entry(link).or_default().push(bytes.to_vec()));
    sent
}

fn only(sent: BTreeMap<LinkId, Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    assert!(sent.len() <= 1, "one server has all");
    sent.into_values().next().unwrap_or_default()
}

/// A client of a pool of one server, which has asked for something before that is under way, or is to be written still.
fn asked_before(rig: &mut Rig, is_written: bool) -> SessionId {
    let client = rig.client();
    rig.send(client, &words(&["GET", "before"]), 100);
    if is_written {
        assert_eq!(only(pieces(rig)), [words(&["GET", "before"])]);
    }
    client
}

#[test]
fn a_large_request_is_kept_once_and_goes_on_in_order() {
    for request in requests() {
        for is_written in [false, true] {
            let mut rig = redis(1);
            let client = asked_before(&mut rig, is_written);
            let before = rig.engine.memory();
            rig.send_as_the_shell(client, &request);
            rig.send(client, &words(&["GET", "behind"]), 100);
            let mut sent = only(pieces(&mut rig));
            let held = rig.engine.memory() - before;
            assert!((LARGE..LARGE + LARGE / 4).contains(&held), "{held} bytes are held for {} bytes", request.len());
            rig.engine.check_invariants().unwrap();
            if !is_written {
                assert_eq!(sent.remove(0), words(&["GET", "before"]));
            }
            // A script that is not known may be asked about first; nothing else comes between.
            let place = sent.iter().position(|piece| *piece == request).expect("in one piece");
            assert_eq!(sent[place..], [request.clone(), words(&["GET", "behind"])]);
            rig.say(b"$6\r\nbefore\r\n+OK\r\n$6\r\nbehind\r\n", 7);
            rig.settle();
            assert_eq!(rig.read(client), b"$6\r\nbefore\r\n+OK\r\n$6\r\nbehind\r\n");
            let left = rig.engine.memory().saturating_sub(before);
            assert!(
                left < LARGE + LARGE / 4,
                "{left} bytes are kept of what has been answered, for the next large one"
            );
            rig.engine.check_invariants().unwrap();
        }
    }
}

#[test]
fn a_large_request_that_has_not_left_is_sent_again_in_its_buffer() {
    for request in requests() {
        let mut rig = redis(1);
        let client = asked_before(&mut rig, true);
        rig.send_as_the_shell(client, &request);
        let (link, epoch) = rig.links.iter().next().map(|(link, epoch)| (*link, *epoch)).unwrap();
        rig.engine.link_failed(link, epoch, Failure::Closed, rig.now);
        let sent = only(pieces(&mut rig)).concat();
        assert!(sent.ends_with(&request), "{} bytes", sent.len());
        let held = rig.engine.memory();
        assert!((LARGE..LARGE + LARGE / 4).contains(&held), "no copy of it is made: {held} bytes are held");
        rig.engine.check_invariants().unwrap();
        rig.say(b"$-1\r\n+OK\r\n", 100);
        rig.settle();
        assert_eq!(rig.read(client), b"$-1\r\n+OK\r\n");
    }
}

#[test]
fn a_large_request_goes_behind_what_its_server_has_to_forget() {
    let mut rig = redis(1);
    let client = rig.client();
    let request = large(&["SET", "key"], &[]);
    // On a connection that is not open yet.
    let (link, epoch) = rig.links.iter().next().map(|(link, epoch)| (*link, *epoch)).unwrap();
    rig.engine.link_failed(link, epoch, Failure::Closed, rig.now);
    rig.send_as_the_shell(client, &request);
    rig.registry.invalidate_all(POOL, ServerId(0), rig.now);
    let sent = only(pieces(&mut rig));
    assert_eq!(sent, [words(&["FLUSHALL"]), request]);
    let held = rig.engine.memory();
    assert!((LARGE..LARGE + LARGE / 4).contains(&held), "no copy of it is made: {held} bytes are held");
    rig.engine.check_invariants().unwrap();
}

#[test]
fn what_is_refused_before_it_has_left_is_written_to_its_end() {
    let mut rig = redis(1);
    let client = rig.client();
    let request = large(&["SET", "key"], &[]);
    rig.send_as_the_shell(client, &request);
    rig.send(client, &words(&["GET", "behind"]), 100);
    let (link, epoch) = rig.links.iter().next().map(|(link, epoch)| (*link, *epoch)).unwrap();
    assert_eq!(rig.engine.link_output(link, epoch), request);
    rig.engine.link_wrote(link, epoch, 1000, rig.now);
    rig.say(b"-ERR no\r\n", 100);
    assert_eq!(String::from_utf8_lossy(&rig.read(client)), "-ERR no\r\n");
    assert_eq!(only(pieces(&mut rig)), [request[1000..].to_vec(), words(&["GET", "behind"])]);
    rig.say(b"$-1\r\n", 100);
    assert_eq!(rig.read(client), b"$-1\r\n");
    rig.engine.check_invariants().unwrap();
}

#[test]
fn in_a_transaction_a_large_request_is_copied_in_portions_once() {
    for servers in [1, 3] {
        let mut rig = redis(servers);
        let client = rig.client();
        let (first, last) = (words(&["SET", "{a}", "1"]), words(&["GET", "{a}"]));
        let all: Vec<Vec<u8>> = (0..4).map(|number| large(&["SET", &format!("{{a}}{number}")], &[])).collect();
        rig.send(client, &[words(&["MULTI"]), first.clone()].concat(), 100);
        for request in &all {
            let before = rig.engine.memory();
            rig.send_as_the_shell(client, request);
            rig.settle();
            let held = rig.engine.memory() - before;
            // It is reckoned twice: it will be in its server's stream as well.
            assert!((2 * LARGE..2 * LARGE + LARGE / 4).contains(&held), "{held} bytes");
        }
        rig.send(client, &[last.clone(), words(&["EXEC"]), words(&["GET", "{a}"])].concat(), 1000);
        let mut moments = 0;
        let mut sent = BTreeMap::<LinkId, Vec<Vec<u8>>>::new();
        loop {
            rig.turn_with(&mut |link, bytes| sent.entry(link).or_default().push(bytes.to_vec()));
            if !rig.is_busy() {
                break;
            }
            assert!(sent.is_empty(), "what is not ready is not sent");
            rig.tick();
            moments += 1;
        }
        assert!(moments >= 2, "{moments} moments for 12 MB");
        let begin = [words(&["MULTI"]), first].concat();
        let transaction = [begin, all.concat(), last, words(&["EXEC"])].concat();
        assert_eq!(only(sent), [transaction, words(&["GET", "{a}"])]);
        rig.engine.check_invariants().unwrap();
    }
}

#[test]
fn pieces_that_are_large_stand_in_buffers_of_their_own() {
    let mut rig = redis(3);
    let client = rig.client();
    let requests = [
        command(["MSET", "key"].map(str::to_owned).into_iter().chain([large_word()])),
        command(
            ["MSET", "a", "1", "b", "2", "c", "3", "d", "4", "e"].map(str::to_owned).into_iter().chain([large_word()]),
        ),
        large(&["SCRIPT", "LOAD"], &[]),
    ];
    for request in requests {
        rig.send(client, &words(&["MGET", "a", "b", "c", "d", "e", "f", "g"]), 100);
        rig.send_as_the_shell(client, &request);
        rig.send(client, &words(&["MGET", "a", "b", "c", "d", "e", "f", "g"]), 100);
        let sent = pieces(&mut rig);
        let large: Vec<_> = sent.values().flatten().filter(|piece| piece.len() > LARGE / 2).collect();
        assert!(!large.is_empty());
        assert!(
            large.iter().all(|piece| piece.starts_with(b"*3\r\n$4\r\nMSET") || **piece == request),
            "nothing else is there"
        );
        rig.engine.check_invariants().unwrap();
    }
}

#[test]
fn a_large_word_is_told_again_out_of_the_buffer_that_it_came_in() {
    let mut rig = redis(1);
    let client = rig.client();
    let bulk = |word: &str| format!("${}\r\n{word}\r\n", word.len());
    for _ in 0..2 {
        let said = [large(&["ECHO"], &[]), words(&["PING"]), words(&["ECHO", "word"]), large(&["PING"], &[])];
        let told = [bulk(&large_word()), "+PONG\r\n".to_owned(), bulk("word"), bulk(&large_word())].concat();
        let before = rig.engine.memory();
        rig.send_as_the_shell(client, &said[0]);
        let held = rig.engine.memory() - before;
        assert!(held < LARGE + LARGE / 2, "{held} bytes are held of {LARGE}");
        rig.send_as_the_shell(client, &said[1..].concat());
        rig.settle();
        assert!(rig.read(client) == told.as_bytes(), "something else is told");
    }
    rig.engine.check_invariants().unwrap();
}

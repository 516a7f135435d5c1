//! Single requests for very many keys: made ready in portions, and then sent as if they had been looked at in one go.

use std::collections::BTreeMap;

use softmiss::config::model::ServerId;
use softmiss::engine::ids::LinkId;
use softmiss::engine::ids::SessionId;
use softmiss::health::maintenance::{Maintenance, MaintenanceOutcome};

use super::events::command;
use super::rig::{POOL, Rig};

/// Keys, and bytes of them, that are dealt with in one moment at most.
const MOST_KEYS: usize = 15_000;
const MOST_BYTES: usize = 1 << 20;

const KEYS: usize = 60_000;

type Sent = BTreeMap<LinkId, Vec<u8>>;

fn redis(more: &[&str]) -> Rig {
    Rig::new(3, &[&["redis: true", "timeout: 400", "on_failure: miss"], more].concat())
}

fn key(number: usize, length: usize) -> String {
    format!("{number:06}{}", "x".repeat(length - 6))
}

fn request(name: &str, keys: usize, length: usize) -> Vec<u8> {
    let key = |number| key(number, length);
    if name == "MSET" {
        return command(
            std::iter::once(name.to_owned()).chain((0..keys).flat_map(|number| [key(number), key(number)])),
        );
    }
    command(std::iter::once(name.to_owned()).chain((0..keys).map(key)))
}

fn written(rig: &mut Rig, sent: &mut Sent) -> usize {
    rig.turn_with(&mut |link, bytes| sent.entry(link).or_default().extend_from_slice(bytes))
}

/// Goes on until nothing is due any more: how many moments that takes, and what is written.
fn moments(rig: &mut Rig) -> (usize, Sent) {
    let (mut moments, mut sent) = (1, Sent::new());
    written(rig, &mut sent);
    while rig.is_busy() {
        assert!(sent.is_empty(), "what is not ready is not sent");
        rig.tick();
        written(rig, &mut sent);
        moments += 1;
    }
    (moments, sent)
}

/// The words of the requests in some bytes.
fn words(mut bytes: &[u8]) -> Vec<Vec<String>> {
    let line = |bytes: &mut &[u8]| {
        let end = memchr::memchr(b'\n', bytes).expect("a line");
        let number: usize = std::str::from_utf8(&bytes[1..end - 1]).unwrap().parse().unwrap();
        *bytes = &bytes[end + 1..];
        number
    };
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let count = line(&mut bytes);
        let mut request = Vec::new();
        for _ in 0..count {
            let length = line(&mut bytes);
            request.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
            bytes = &bytes[length + 2..];
        }
        requests.push(request);
    }
    requests
}

/// Every server answers what it got; each value is its key.
fn answer(rig: &mut Rig, sent: &Sent) {
    for (link, bytes) in sent {
        let (mut reply, mut queued) = (String::new(), None);
        for request in words(bytes) {
            let keys = &request[1..];
            // In a transaction, what is said of a command now is said later.
            if request[0] == "EXEC"
                && let Some((before, count)) = queued.take()
            {
                let said: String = reply.split_off(before);
                reply += &"+QUEUED\r\n".repeat(count);
                reply += &format!("*{count}\r\n{said}");
                continue;
            }
            if let Some((_, count)) = &mut queued {
                *count += 1;
            }
            match &*request[0] {
                "MGET" => {
                    reply += &format!("*{}\r\n", keys.len());
                    keys.iter().for_each(|key| reply += &format!("${}\r\n{key}\r\n", key.len()));
                }
                "MULTI" => {
                    reply += "+OK\r\n";
                    queued = Some((reply.len(), 0));
                }
                "MSET" => reply += "+OK\r\n",
                "GET" => reply += &format!("${}\r\n{}\r\n", keys[0].len(), keys[0]),
                _ => reply += &format!(":{}\r\n", keys.len()),
            }
        }
        let epoch = rig.links[link];
        reply.as_bytes().chunks(64 << 10).for_each(|part| rig.engine.link_data(*link, epoch, part, rig.now, &mut ()));
    }
    rig.engine.check_invariants().unwrap();
}

/// What a client is answered that asks for so many keys.
fn right_answer(name: &str, keys: usize, length: usize) -> Vec<u8> {
    let mut right = match name {
        "MGET" => format!("*{keys}\r\n"),
        "MSET" => return b"+OK\r\n".to_vec(),
        _ => return format!(":{keys}\r\n").into_bytes(),
    };
    (0..keys).for_each(|number| right += &format!("${length}\r\n{}\r\n", key(number, length)));
    right.into_bytes()
}

fn start(rig: &mut Rig, request: &[u8]) -> SessionId {
    let client = rig.client();
    rig.send(client, request, 64 << 10);
    rig.engine.check_invariants().unwrap();
    client
}

#[test]
fn many_keys_are_looked_up_in_portions() {
    let mut rig = redis(&[]);
    let before = rig.engine.memory();
    for name in ["MGET", "DEL", "UNLINK", "EXISTS", "TOUCH", "MSET"] {
        for (keys, length) in [(KEYS, 6), (40, 50_000)] {
            let request = [&request(name, keys, length)[..], b"*2\r\n$3\r\nGET\r\n$4\r\nlast\r\n"].concat();
            let client = start(&mut rig, &request);
            let (count, sent) = moments(&mut rig);
            let least = (keys / MOST_KEYS).max(keys * length / MOST_BYTES);
            assert!(count > least, "{name} of {keys} keys takes {count} moments");
            assert_eq!(sent.len(), 3, "all servers have keys");
            answer(&mut rig, &sent);
            let right = [&right_answer(name, keys, length)[..], b"$4\r\nlast\r\n"].concat();
            assert!(rig.read(client) == right, "{name} of {keys} keys");
            rig.engine.client_gone(client, false);
            assert!(rig.engine.memory() <= before + (5 << 20), "{} bytes are kept", rig.engine.memory());
        }
    }
}

#[test]
fn keys_of_one_server_are_sent_as_they_came() {
    let mut rig = redis(&["hash_tag: \"{}\""]);
    let request = command(std::iter::once("MGET".to_owned()).chain((0..KEYS).map(|key| format!("{{a}}{key}"))));
    let client = start(&mut rig, &request);
    let (count, sent) = moments(&mut rig);
    assert!(count > KEYS / MOST_KEYS, "{count}");
    assert!(sent.values().eq([&request]));
    answer(&mut rig, &sent);
    assert!(rig.read(client).len() > request.len() - 20);
}

/// How many moments it takes to find the words of a request, of which no further key is looked up.
fn moments_of_words(rig: &mut Rig, words: usize, queued: bool) -> usize {
    let request = command(std::iter::once("SADD".to_owned()).chain((1..words).map(|word| format!("{{a}}{word}"))));
    let client = rig.client();
    if queued {
        rig.send(client, b"MULTI\r\n", 100);
        rig.read(client);
    }
    rig.send(client, &request, 64 << 10);
    let (count, _) = moments(rig);
    rig.engine.client_gone(client, false);
    rig.settle();
    count
}

/// Requests that go to one server as a whole are looked through in portions for a key that is another's.
#[test]
fn keys_that_have_to_be_of_one_server_are_looked_up_in_portions() {
    for (first, queued) in [
        (&["SINTER"][..], false),
        (&["EVAL", "return 1", "60000"], false),
        (&["WATCH"], false),
        (&["BLPOP"], false),
        (&["XREADGROUP", "GROUP", "g", "c", "STREAMS"], false),
        (&["SINTER"], true),
        (&["MGET"], true),
    ] {
        for is_apart in [false, true] {
            let mut rig = redis(&["hash_tag: \"{}\"", "transactions: single"]);
            let keys =
                (0..KEYS).map(|key| if is_apart && key == KEYS - 1 { key.to_string() } else { format!("{{a}}{key}") });
            let ends = match first[0] {
                "BLPOP" => 1,
                "XREADGROUP" => KEYS,
                _ => 0,
            };
            let end = std::iter::repeat_n("0".to_owned(), ends);
            let request = command(first.iter().map(|word| (*word).to_owned()).chain(keys).chain(end));
            let least = moments_of_words(&mut rig, first.len() + KEYS + ends, queued) + KEYS / MOST_KEYS;
            let client = rig.client();
            if queued {
                rig.send(client, b"MULTI\r\n", 100);
                rig.read(client);
            }
            rig.send(client, &request, 64 << 10);
            let (count, sent) = moments(&mut rig);
            assert!(count > least, "{first:?} takes {count} moments of {least}");
            let said = rig.read(client);
            if is_apart {
                assert!(said.starts_with(b"-CROSSSLOT"), "{first:?}: {}", String::from_utf8_lossy(&said));
                assert!(sent.is_empty(), "{first:?}");
            } else if queued {
                assert_eq!(said, b"+QUEUED\r\n", "{first:?}");
            } else {
                // Behind what is asked first on a connection of its own.
                assert!(sent.values().any(|sent| sent.ends_with(&request)), "{first:?}");
            }
            rig.engine.client_gone(client, false);
            rig.settle();
            rig.engine.check_invariants().unwrap();
        }
    }
}

/// A request is made ready for so many moments, and is not ready then.
fn go_on(rig: &mut Rig, moments: usize) {
    for _ in 0..moments {
        rig.tick();
        assert!(rig.turn() == 0 && rig.is_busy());
    }
}

#[test]
fn the_ring_changes_while_keys_are_looked_up() {
    let mut rig = redis(&["hash_tag: \"{}\""]);
    let request = command(["SINTER".to_owned()].into_iter().chain((0..KEYS).map(|key| format!("{{a}}{key}"))));
    let (_, home) = {
        let client = start(&mut rig, &request);
        let found = moments(&mut rig);
        rig.engine.client_gone(client, false);
        found
    };
    let home = *home.keys().next().expect("a server");
    let place = rig.links.keys().position(|link| *link == home).expect("a connection");
    let begun = moments_of_words(&mut rig, 1 + KEYS, false) + 2;
    start(&mut rig, &request);
    go_on(&mut rig, begun);
    rig.lose(u16::try_from(place).unwrap());
    let (_, sent) = moments(&mut rig);
    let to: Vec<_> = sent.keys().copied().collect();
    assert!(to.len() == 1 && to != [home], "{to:?} in place of {home:?}");
    assert!(sent.values().all(|sent| *sent == request));
}

/// What was found to be one server's is not any more when another one comes back: nobody may think that it is watched.
#[test]
fn a_server_comes_back_while_keys_are_looked_up() {
    let mut rig = Rig::new(2, &["redis: true", "timeout: 400", "hash_tag: \"{}\""]);
    let home = |rig: &mut Rig, tag: usize| {
        let client = start(rig, &command(["GET".to_owned(), format!("{{{tag}}}")].into_iter()));
        let (_, sent) = moments(rig);
        rig.engine.client_gone(client, false);
        *sent.keys().next().expect("a server")
    };
    let first = home(&mut rig, 0);
    let other = (1..).find(|tag| home(&mut rig, *tag) != first).expect("not all are one server's");
    let away = rig.links.keys().position(|link| *link != first).expect("a connection");
    let away = ServerId(u16::try_from(away).unwrap());
    let tag = |key| if key > 0 && key < 100 { other } else { 0 };
    let keys = (0..KEYS).map(|key| format!("{{{}}}{key}", tag(key)));
    let request = command(std::iter::once("WATCH".to_owned()).chain(keys));
    for comes_back in [false, true] {
        let begun = rig.registry.begin_maintenance(POOL, away, Maintenance::Eject, false, rig.now);
        assert_eq!(begun, MaintenanceOutcome::Done);
        rig.engine.refresh(rig.now);
        let begun = moments_of_words(&mut rig, 1 + KEYS, false) + 2;
        let client = start(&mut rig, &request);
        go_on(&mut rig, begun);
        if comes_back {
            rig.take_back(away);
        }
        let (_, sent) = moments(&mut rig);
        let said = rig.read(client);
        assert_eq!(said.starts_with(b"-CROSSSLOT"), comes_back, "{}", String::from_utf8_lossy(&said));
        assert_eq!(sent.values().any(|sent| sent.ends_with(&request)), !comes_back);
        rig.engine.client_gone(client, false);
        rig.settle();
        if !comes_back {
            rig.take_back(away);
        }
    }
}

#[test]
fn others_are_served_and_order_is_kept() {
    let mut rig = redis(&[]);
    let other = rig.client();
    let set = b"*3\r\n$3\r\nSET\r\n$6\r\n000007\r\n$1\r\nx\r\n*2\r\n$4\r\nECHO\r\n$1\r\na\r\n";
    let client = start(&mut rig, &[&set[..], &request("MGET", KEYS, 6)].concat());
    let mut sent = Sent::new();
    written(&mut rig, &mut sent);
    assert!(sent.values().eq([&set[..set.len() - 21]]), "what is in front of it is not held up");
    rig.tick();
    rig.send(other, b"PING\r\n", 10);
    rig.turn();
    assert_eq!(rig.read(other), b"+PONG\r\n");
    assert!(rig.is_busy());
    let (_, rest) = moments(&mut rig);
    let behind: Vec<_> = rest.values().flat_map(|bytes| words(bytes)).map(|words| words[0].clone()).collect();
    assert_eq!(behind, ["MGET"; 3]);
    sent.into_keys().for_each(|link| {
        let epoch = rig.links[&link];
        rig.engine.link_data(link, epoch, b"+OK\r\n", rig.now, &mut ());
    });
    answer(&mut rig, &rest);
    let right = [&b"+OK\r\n$1\r\na\r\n"[..], &right_answer("MGET", KEYS, 6)].concat();
    assert!(rig.read(client) == right);
}

#[test]
fn no_answer_is_wanted_of_the_request_that_follows_a_skip() {
    let mut rig = redis(&[]);
    let skip = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n";
    let client = start(&mut rig, &[&skip[..], &request("DEL", KEYS, 6), b"PING\r\n"].concat());
    let (count, sent) = moments(&mut rig);
    assert!(count > KEYS / MOST_KEYS, "{count}");
    answer(&mut rig, &sent);
    assert_eq!(rig.read(client), b"+PONG\r\n");
}

#[test]
fn in_a_transaction_it_is_queued() {
    let mut rig = redis(&[]);
    let client = start(&mut rig, &[b"MULTI\r\n", &request("DEL", KEYS, 6)[..], b"DISCARD\r\nPING\r\n"].concat());
    let (_, sent) = moments(&mut rig);
    assert!(sent.is_empty());
    assert_eq!(rig.read(client), b"+OK\r\n+QUEUED\r\n+OK\r\n+PONG\r\n");
}

/// What a transaction is to do is found out when its `EXEC` comes, as its servers may be others by then.
#[test]
fn a_transaction_is_made_ready_in_portions() {
    let gets = |number: usize| command(["GET".to_owned(), key(number, 6)].into_iter());
    let many: Vec<u8> = (0..KEYS / 2).flat_map(gets).collect();
    for (commands, count) in [(many, KEYS / 2), (request("MGET", KEYS, 6), 1)] {
        for lost in [false, true] {
            let mut rig = redis(&[]);
            let client = start(&mut rig, &[b"MULTI\r\n", &commands[..]].concat());
            moments(&mut rig);
            let queued = rig.read(client).len();
            assert_eq!(queued, "+OK\r\n".len() + count * "+QUEUED\r\n".len());
            rig.send(client, b"EXEC\r\nPING\r\n", 100);
            rig.engine.check_invariants().unwrap();
            if lost {
                rig.tick();
                assert!(rig.turn() == 0 && rig.is_busy());
                rig.lose(1);
            }
            let (moments, sent) = moments(&mut rig);
            assert!(moments > KEYS / MOST_KEYS, "{count} commands take {moments} moments");
            assert_eq!(sent.len(), if lost { 2 } else { 3 });
            answer(&mut rig, &sent);
            let values = right_answer("MGET", if count == 1 { KEYS } else { count }, 6);
            let right = if count == 1 { [b"*1\r\n", &values[..]].concat() } else { values };
            assert!(rig.read(client) == [&right[..], b"+PONG\r\n"].concat(), "{count} commands");
            // One that leaves while it waits takes it along.
            let client = start(&mut rig, &[b"MULTI\r\n", &commands[..], b"EXEC\r\n"].concat());
            rig.tick();
            rig.engine.client_gone(client, false);
            rig.settle();
            assert!(rig.engine.memory() <= 5 << 20, "{} bytes are kept", rig.engine.memory());
            rig.engine.check_invariants().unwrap();
        }
    }
}

#[test]
fn a_server_that_is_lost_meanwhile_gets_nothing() {
    for ticks in [1, 3, 5] {
        let mut rig = redis(&[]);
        let client = start(&mut rig, &request("MGET", KEYS, 6));
        for _ in 0..ticks {
            rig.tick();
            assert!(rig.turn() == 0 && rig.is_busy(), "it is ready after {ticks} moments");
        }
        rig.lose(1);
        let (_, sent) = moments(&mut rig);
        assert_eq!(sent.len(), 2, "two are left");
        answer(&mut rig, &sent);
        assert!(rig.read(client) == right_answer("MGET", KEYS, 6), "its keys are the others'");
    }
}

#[test]
fn a_client_that_leaves_takes_it_along() {
    for ticks in [0, 1, 2, 3, 4, 5] {
        let mut rig = redis(&[]);
        let before = rig.engine.memory();
        let client = start(&mut rig, &request("DEL", KEYS, 6));
        for _ in 0..ticks {
            rig.tick();
            rig.turn();
            rig.engine.check_invariants().unwrap();
        }
        assert!(rig.engine.memory() > before + KEYS * 12, "it is charged");
        rig.engine.client_gone(client, false);
        let (_, sent) = moments(&mut rig);
        assert!(sent.is_empty());
        assert_eq!(rig.engine.memory(), before);
        rig.engine.check_invariants().unwrap();
    }
}

#[test]
fn one_that_sends_no_more_is_answered() {
    let mut rig = redis(&[]);
    let client = start(&mut rig, &request("EXISTS", KEYS, 6));
    rig.engine.client_ended(client, rig.now);
    assert!(!rig.engine.client_status(client).finished);
    let (_, sent) = moments(&mut rig);
    answer(&mut rig, &sent);
    assert_eq!(rig.read(client), right_answer("EXISTS", KEYS, 6));
    assert!(rig.engine.client_status(client).finished);
}

#[test]
fn requests_for_all_servers_are_copied_in_portions() {
    let exists = ["SCRIPT", "EXISTS"].map(str::to_owned).into_iter();
    let exists = command(exists.chain((0..KEYS).map(|key| format!("{key:040x}"))));
    let load = command(["SCRIPT".to_owned(), "LOAD".to_owned(), "x".repeat(3 << 20)].into_iter());
    let all = format!("*{KEYS}\r\n{}", ":1\r\n".repeat(KEYS));
    let digest = format!("$40\r\n{}\r\n", "0".repeat(40));
    for (request, answer) in [(exists, all), (load, digest)] {
        let mut rig = redis(&[]);
        let before = rig.engine.memory();
        let client = start(&mut rig, &request);
        let (count, sent) = moments(&mut rig);
        assert!(count > 3 * request.len() / MOST_BYTES, "{count} moments");
        assert!(sent.len() == 3 && sent.values().all(|bytes| *bytes == request), "all servers get it as it is");
        for link in sent.into_keys() {
            let epoch = rig.links[&link];
            rig.engine.link_data(link, epoch, answer.as_bytes(), rig.now, &mut ());
        }
        assert!(rig.read(client) == answer.as_bytes());
        // One that leaves meanwhile takes it along.
        let client = start(&mut rig, &request);
        for _ in 0..20 {
            rig.tick();
            assert!(rig.turn() == 0 && rig.is_busy());
        }
        assert!(rig.engine.memory() > before + 2 * request.len(), "the copies are counted");
        rig.engine.client_gone(client, false);
        let (_, sent) = moments(&mut rig);
        assert!(sent.is_empty() && rig.engine.memory() <= before + (5 << 20));
        rig.engine.check_invariants().unwrap();
    }
}

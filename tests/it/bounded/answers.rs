//! Long answers: put together a little at a time, as they are written.

use std::cell::RefCell;
use std::collections::BTreeMap;

use softmiss::engine::ids::{LinkId, SessionId};
use softmiss::failure::Failure;

use super::events::command;
use super::rig::Rig;

/// Bytes that are put together at a time, at most.
pub(super) const MOST: usize = 160 << 10;

pub(super) fn words(words: &[&str]) -> Vec<u8> {
    command(words.iter().map(|word| (*word).to_owned()))
}

pub(super) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

pub(super) fn array(elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    format!("*{}\r\n{}", elements.len(), elements.concat())
}

pub(super) fn redis(servers: usize) -> Rig {
    Rig::new(servers, &["redis: true", "timeout: 400", "on_failure: miss"])
}

/// A client asks something, each server answers what it gets as `answer` has it; one that has nothing to say breaks off.
pub(super) fn ask(rig: &mut Rig, request: &[u8], answer: &dyn Fn(usize, &[u8]) -> String) -> SessionId {
    let client = rig.client();
    rig.send(client, request, 64 << 10);
    let mut sent: BTreeMap<LinkId, Vec<u8>> = BTreeMap::new();
    rig.settle_with(&mut |link, bytes| sent.entry(link).or_default().extend_from_slice(bytes));
    let order: Vec<LinkId> = rig.links.keys().copied().collect();
    for (link, request) in sent {
        let server = order.iter().position(|other| *other == link).expect("a connection");
        let epoch = rig.links[&link];
        let said = answer(server, &request);
        for part in said.as_bytes().chunks(64 << 10) {
            rig.engine.link_data(link, epoch, part, rig.now, &mut ());
        }
        if said.is_empty() {
            rig.engine.link_failed(link, epoch, Failure::Reset, rig.now);
        }
    }
    rig.engine.check_invariants().unwrap();
    client
}

/// What a client gets, of which no more is ever ready than is put together at a time.
pub(super) fn read(rig: &mut Rig, client: SessionId, what: &str) -> String {
    read_some(rig, client, what, usize::MAX)
}

/// The first bytes of that.
fn read_some(rig: &mut Rig, client: SessionId, what: &str, most: usize) -> String {
    let (mut all, mut written) = (Vec::new(), 1);
    while all.len() < most {
        let ready = rig.engine.client_output(client);
        assert!(ready.len() <= MOST, "{what}: {} bytes are put together at once", ready.len());
        if ready.is_empty() {
            break;
        }
        // However much of it the connection takes.
        written = (written * 7 + 1) % 100_000;
        let part = &ready[..ready.len().min(written + 1).min(most - all.len())];
        all.extend_from_slice(part);
        let count = part.len();
        rig.engine.client_wrote(client, count, rig.now);
        rig.engine.check_invariants().unwrap();
    }
    String::from_utf8(all).unwrap()
}

fn keys_of(request: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(request).into_owned();
    text.split(|end: char| end.is_ascii_whitespace())
        .filter(|word| word.starts_with("key"))
        .map(str::to_owned)
        .collect()
}

fn value(key: &str, length: usize) -> String {
    format!("{key}{}", "v".repeat(length))
}

fn check(what: &str, rig: &mut Rig, request: &[u8], answer: &dyn Fn(usize, &[u8]) -> String, right: &str) {
    // What follows stays behind it.
    let client = ask(rig, request, answer);
    let free = rig.client();
    rig.send(client, &words(&["ECHO", "behind"]), 100);
    rig.send(client, &words(&["ECHO", "that"]), 100);
    rig.send(free, &words(&["PING"]), 100);
    let said = read(rig, client, what);
    assert!(said.len() > 2 * MOST, "{what}: {} bytes", said.len());
    // One that is choked goes on with what it has sent when it has read.
    let mut rest = String::new();
    while rig.is_busy() {
        rig.tick();
        rest += &read(rig, client, what);
    }
    let all = format!("{right}$6\r\nbehind\r\n$4\r\nthat\r\n");
    assert!(said + &rest == all, "{what} is not answered as it should be");
    rig.engine.client_gone(client, false);
    leave(what, rig, request, answer, right.len() - 1, MOST);
    leave(what, rig, request, answer, MOST, usize::MAX);
}

/// A client leaves when it has read so many bytes of an answer, and held so many at most for what it had not.
fn leave(what: &str, rig: &mut Rig, request: &[u8], answer: &dyn Fn(usize, &[u8]) -> String, read: usize, held: usize) {
    let before = rig.engine.memory();
    let client = ask(rig, request, answer);
    rig.engine.client_status(client);
    assert!(rig.engine.memory() > before + MOST, "{what} is not counted");
    read_some(rig, client, what, read);
    let all = rig.engine.memory();
    rig.engine.client_gone(client, false);
    let holds = all - rig.engine.memory();
    assert!(holds > 0 && holds <= held, "{holds} bytes of {what} are held when {read} are read");
    rig.turn();
    rig.engine.check_invariants().unwrap();
}

#[test]
fn values_of_redis() {
    for (keys, length) in [(20_000, 100), (40, 60_000), (8, 300_000)] {
        let keys: Vec<String> = (0..keys).map(|key: usize| format!("key{}", key * 7_368_787)).collect();
        let of = |keys: &[String]| array(keys.iter().map(|key| bulk(&value(key, length))));
        let request = command(std::iter::once("MGET".to_owned()).chain(keys.iter().cloned()));
        check("MGET", &mut redis(3), &request, &|_, request| of(&keys_of(request)), &of(&keys));
        // Within a transaction, beside others.
        let all = [&words(&["MULTI"])[..], &words(&["GET", &keys[0]]), &request, &words(&["EXEC"])].concat();
        let answers = |request: &[u8]| {
            let asked = keys_of(request);
            let (first, rest) = asked.split_at(usize::from(asked.first() == Some(&keys[0])));
            let get = first.iter().map(|key| bulk(&value(key, length)));
            let mget = (!rest.is_empty()).then(|| of(rest));
            let answers: Vec<String> = get.chain(mget).collect();
            format!("+OK\r\n{}{}", "+QUEUED\r\n".repeat(answers.len()), array(answers.into_iter()))
        };
        let right =
            format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n{}", array([bulk(&value(&keys[0], length)), of(&keys)].into_iter()));
        check("EXEC", &mut redis(3), &all, &|_, request| answers(request), &right);
    }
}

/// What one server of three refuses, did not carry out or never says is told in its places of a long answer.
#[test]
fn a_transaction_of_which_a_part_is_missing() {
    const LENGTH: usize = 30_000;
    let keys: Vec<String> = (0..40).map(|key: usize| format!("key{}", key * 7_368_787)).collect();
    let (got, many) = keys.split_at(8);
    let mut all = words(&["MULTI"]);
    got.iter().for_each(|key| all.extend(words(&["GET", key])));
    all.extend(command(std::iter::once("MGET".to_owned()).chain(many.iter().cloned())));
    all.extend(words(&["EXEC"]));
    let present = |key: &String| bulk(&value(key, LENGTH));
    for case in ["error", "refused", "aborted", "lost"] {
        let homes = RefCell::new(BTreeMap::new());
        let answer = |server: usize, request: &[u8]| {
            let asked = keys_of(request);
            homes.borrow_mut().extend(asked.iter().map(|key| (key.clone(), server)));
            let (alone, together): (Vec<_>, Vec<_>) = asked.into_iter().partition(|key| got.contains(key));
            let mut answers: Vec<String> = alone.iter().map(present).collect();
            answers.push(array(together.iter().map(present)));
            let (is_missing, count) = (server == 1, answers.len());
            match case {
                "refused" if is_missing => {
                    format!("+OK\r\n-ERR no\r\n{}-EXECABORT of that\r\n", "+QUEUED\r\n".repeat(count - 1))
                }
                "aborted" if is_missing => format!("+OK\r\n{}*-1\r\n", "+QUEUED\r\n".repeat(count)),
                "lost" if is_missing => String::new(),
                _ => {
                    if case == "error" && is_missing {
                        "-ERR no\r\n".clone_into(&mut answers[count - 1]);
                    }
                    format!("+OK\r\n{}{}", "+QUEUED\r\n".repeat(count), array(answers.into_iter()))
                }
            }
        };
        let mut rig = redis(3);
        let client = ask(&mut rig, &all, &answer);
        let said = read(&mut rig, client, case);
        let homes = homes.into_inner();
        let is_missing = |key: &String| homes[key] == 1;
        assert!(
            [got, many].iter().all(|keys| (1..keys.len()).contains(&keys.iter().filter(|key| is_missing(key)).count()))
        );
        let one = |key: &String| match case {
            "refused" if is_missing(key) => "-ERR no\r\n".to_owned(),
            "aborted" | "lost" if is_missing(key) => "$-1\r\n".to_owned(),
            _ => present(key),
        };
        let last = match case {
            "error" | "refused" => "-ERR no\r\n".to_owned(),
            _ => array(many.iter().map(one)),
        };
        let right = array(got.iter().map(one).chain([last]));
        let right = format!("+OK\r\n{}{right}", "+QUEUED\r\n".repeat(got.len() + 1));
        assert!(said == right, "{case}: {} bytes, and not those", said.len());
    }
}

#[test]
fn lists_of_all_servers() {
    const COUNT: usize = 40_000;
    let element = |server: usize, number: usize| bulk(&format!("element {number} of {server}"));
    let list = |server: usize| array((0..COUNT).map(|number| element(server, number)));
    let right =
        array((0..3).flat_map(|server| (0..COUNT).map(move |number| (server, number))).map(|(s, n)| element(s, n)));
    check("KEYS", &mut redis(3), &words(&["KEYS", "*"]), &|server, _| list(server), &right);
    // Those that have nothing to tell are passed over.
    let right = array((0..COUNT).map(|number| element(2, number)));
    let only = |server: usize, _: &[u8]| if server == 2 { list(2) } else { "*0\r\n".to_owned() };
    check("KEYS of one", &mut redis(3), &words(&["KEYS", "*"]), &only, &right);
}

#[test]
fn logs_of_all_servers() {
    const COUNT: usize = 10_000;
    // Some are as old as those of others.
    let time = |server: usize, number: usize| 1_700_000_000 - number * (server + 1);
    let entry = |server: usize, number: usize| {
        let of = format!("of {server}");
        format!("*4\r\n:{number}\r\n:{}\r\n:12\r\n*2\r\n$3\r\nGET\r\n{}", time(server, number), bulk(&of))
    };
    let mut all: Vec<_> = (0..3).flat_map(|server| (0..COUNT).map(move |number| (server, number))).collect();
    all.sort_by_key(|(server, number)| std::cmp::Reverse(time(*server, *number)));
    let answer = |server: usize, _: &[u8]| array((0..COUNT).map(|number| entry(server, number)));
    for (count, most) in [("-1", 3 * COUNT), ("9000", 9000), ("90000", 3 * COUNT)] {
        let right = array(all[..most].iter().map(|(server, number)| entry(*server, *number)));
        check("SLOWLOG", &mut redis(3), &words(&["SLOWLOG", "GET", count]), &answer, &right);
    }
}

#[test]
fn numbers_of_all_servers() {
    const COUNT: usize = 96_000;
    let digests = (0..COUNT).map(|number| format!("{number:04}"));
    let request = command(["SCRIPT".to_owned(), "EXISTS".to_owned()].into_iter().chain(digests));
    let has = |server: usize, number: usize| u8::from(!(number + server).is_multiple_of(5));
    let answer = |server: usize, _: &[u8]| array((0..COUNT).map(|number| format!(":{}\r\n", has(server, number))));
    let all = |number: usize| (0..3).map(|server| has(server, number)).min().unwrap();
    let right = array((0..COUNT).map(|number| format!(":{}\r\n", all(number))));
    check("SCRIPT EXISTS", &mut redis(3), &request, &answer, &right);
    let channels = (0..COUNT / 6).map(|number| format!("channel{number}"));
    let request = command(["PUBSUB".to_owned(), "NUMSUB".to_owned()].into_iter().chain(channels));
    let pairs = |count: &dyn Fn(usize) -> usize| {
        let pairs =
            (0..COUNT / 6).flat_map(|number| [bulk(&format!("channel{number}")), format!(":{}\r\n", count(number))]);
        array(pairs)
    };
    let answer = |server: usize, _: &[u8]| pairs(&|number| number % (server + 2));
    let right = pairs(&|number| (0..3).map(|server| number % (server + 2)).sum());
    check("PUBSUB NUMSUB", &mut redis(3), &request, &answer, &right);
}

#[test]
fn values_of_memcached() {
    let keys: Vec<String> = (0..40).map(|key| format!("key{key}")).collect();
    let of = |keys: &[String]| {
        let block = |key: &String| format!("VALUE {key} 0 {}\r\n{}\r\n", 60_000 + key.len(), value(key, 60_000));
        keys.iter().map(block).collect::<String>() + "END\r\n"
    };
    let mut rig = Rig::new(3, &["timeout: 400"]);
    let request = format!("get {}\r\n", keys.join(" "));
    let client = ask(&mut rig, request.as_bytes(), &|_, request| of(&keys_of(request)));
    rig.send(client, b"mn\r\nmn\r\n", 100);
    let said = read(&mut rig, client, "get");
    assert!(said == of(&keys) + "MN\r\nMN\r\n", "{} bytes, and not those", said.len());
    rig.engine.check_invariants().unwrap();
    leave("get", &mut rig, request.as_bytes(), &|_, request| of(&keys_of(request)), of(&keys).len() - 1, MOST);
}

#[test]
fn small_elements_count_as_what_it_takes_to_put_them_together() {
    const ELEMENTS: usize = 50_000;
    // The least that each costs, in bytes that could have been written.
    let exists =
        command(["SCRIPT", "EXISTS"].map(str::to_owned).into_iter().chain((0..ELEMENTS).map(|sha| sha.to_string())));
    let gets: Vec<u8> = (0..ELEMENTS).flat_map(|key| words(&["GET", &format!("key{}", key * 7_368_787)])).collect();
    let transaction = [&words(&["MULTI"])[..], &gets, &words(&["EXEC"])].concat();
    let answer = |_: usize, request: &[u8]| {
        let gets = memchr::memmem::find_iter(request, b"GET").count();
        match gets {
            0 => array((0..ELEMENTS).map(|_| ":0\r\n".to_owned())),
            _ => format!("+OK\r\n{}{}", "+QUEUED\r\n".repeat(gets), array((0..gets).map(|_| "$-1\r\n".to_owned()))),
        }
    };
    for request in [&exists, &transaction] {
        let mut rig = redis(3);
        let client = ask(&mut rig, request, &answer);
        let (mut written, mut counted) = (0, 0);
        loop {
            let ready = rig.engine.client_output(client).len();
            if ready == 0 && !rig.is_busy() {
                break;
            }
            written += ready;
            counted += ready + rig.engine.client_wrote(client, ready, rig.now);
            rig.tick();
        }
        assert!(written >= 4 * ELEMENTS, "{written} bytes of {ELEMENTS} elements");
        assert!(counted >= 64 * ELEMENTS, "{ELEMENTS} elements of {written} bytes count as {counted}");
    }
}

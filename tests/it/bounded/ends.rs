//! The last bytes of large answers.

use std::collections::BTreeMap;

use softmiss::engine::ids::LinkId;

use super::Event;
use super::events::command;
use super::rig::Rig;

/// Bytes that are kept back of what each server says.
const LAST: usize = 100;

/// A client asks something, and each server answers what it gets; the last bytes of each are what is counted.
fn ends(mut rig: Rig, ask: &[u8], answer: &dyn Fn(&[u8]) -> Vec<u8>, count: &mut dyn FnMut(&mut dyn FnMut())) {
    let client = rig.client();
    rig.send(client, ask, 64 << 10);
    let mut sent: BTreeMap<LinkId, Vec<u8>> = BTreeMap::new();
    rig.settle_with(&mut |link, bytes| sent.entry(link).or_default().extend_from_slice(bytes));
    let answers: Vec<_> = sent.iter().map(|(link, request)| (*link, rig.links[link], answer(request))).collect();
    assert_eq!(answers.len(), rig.links.len(), "all are asked");
    for (link, epoch, answer) in &answers {
        let first = &answer[..answer.len().saturating_sub(LAST)];
        first.chunks(64 << 10).for_each(|part| rig.engine.link_data(*link, *epoch, part, rig.now, &mut ()));
    }
    rig.read(client); // what a transaction says of its commands
    count(&mut || {
        for (link, epoch, answer) in &answers {
            let last = &answer[answer.len().saturating_sub(LAST)..];
            rig.engine.link_data(*link, *epoch, last, rig.now, &mut ());
        }
    });
    assert!(!rig.engine.client_output(client).is_empty());
    rig.engine.check_invariants().unwrap();
}

// Which of its keys are hot is looked at of a large request for certain, and of small ones seldom.
const SETTINGS: &str = "softmiss:\n  hot_keys: none\n";

fn redis(servers: usize) -> Rig {
    Rig::of_process(SETTINGS, servers, &["redis: true", "timeout: 400"])
}

/// What a server of memcached's has for what is asked of it.
fn found(request: &[u8], value: &str) -> Vec<u8> {
    let request = String::from_utf8_lossy(request);
    let block = |key: &str| format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len());
    (request.trim_end().split(' ').skip(1).map(block).collect::<String>() + "END\r\n").into_bytes()
}

pub(super) const ENDS: &[Event] = &[
    ("get of large values", 100_000, |size, count| {
        let value = "v".repeat(size);
        let keys: Vec<_> = (0..12).map(|key| format!("key{}", key * 7_368_787)).collect();
        let ask = format!("get {}\r\n", keys.join(" "));
        let memcached = Rig::of_process(SETTINGS, 3, &["timeout: 400"]);
        ends(memcached, ask.as_bytes(), &|request| found(request, &value), count);
    }),
    ("MGET of large values", 100_000, |size, count| {
        let value = format!("${size}\r\n{}\r\n", "v".repeat(size));
        let answer = |request: &[u8]| {
            let keys = memchr::memmem::find_iter(request, b"key").count();
            format!("*{keys}\r\n{}", value.repeat(keys)).into_bytes()
        };
        let keys = (0..12).map(|key| format!("key{}", key * 7_368_787));
        ends(redis(3), &command(std::iter::once("MGET".to_owned()).chain(keys)), &answer, count);
    }),
    ("EXEC of many commands", 1_500, |size, count| {
        let get = |key: usize| command(["GET".to_owned(), format!("key{}", key * 7_368_787)].into_iter());
        let gets: Vec<u8> = (0..size).flat_map(get).collect();
        let answer = |request: &[u8]| {
            let gets = memchr::memmem::find_iter(request, b"GET").count();
            let (queued, values) =
                ("+QUEUED\r\n".repeat(gets), format!("$100\r\n{}\r\n", "v".repeat(100)).repeat(gets));
            format!("+OK\r\n{queued}*{gets}\r\n{values}").into_bytes()
        };
        ends(redis(3), &[b"MULTI\r\n", &gets[..], b"EXEC\r\n"].concat(), &answer, count);
    }),
    ("LPUSH of very many elements, of which note is taken", 60_000, |size, count| noted("LPUSH", size, count)),
    ("SINTER of very many sets, of which note is taken", 60_000, |size, count| noted("SINTER", size, count)),
];

/// The end of a command with so many arguments, of which the hot keys are looked for.
fn noted(word: &str, size: usize, count: &mut dyn FnMut(&mut dyn FnMut())) {
    let words = std::iter::once(word.to_owned()).chain((0..size).map(|key| format!("key{key}")));
    let rig = Rig::of_process("softmiss:\n  hot_keys: 1\n", 1, &["redis: true", "timeout: 400"]);
    ends(rig, &command(words), &|_| b":1\r\n".to_vec(), count);
}

#[test]
fn what_there_is_of_an_answer_is_moved_seldom_while_more_comes() {
    // Lists in a list: how much is missing is known of the inner one only, and is little again and again.
    let inner = format!("*200\r\n{}", ":12345\r\n".repeat(200));
    let answer = format!("*1000\r\n{}", inner.repeat(1000));
    let mut rig = redis(2);
    let client = rig.client();
    rig.send(client, b"SLOWLOG GET\r\n", 64 << 10);
    rig.settle();
    let (mut held, mut moved) = (rig.engine.memory(), 0);
    for part in answer.as_bytes()[..answer.len() - LAST].chunks(2_000) {
        rig.say(part, part.len());
        moved += usize::from(std::mem::replace(&mut held, rig.engine.memory()) != held);
    }
    assert!(held > answer.len(), "it is kept");
    assert!(moved <= 40, "moved {moved} times");
}

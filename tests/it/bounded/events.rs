//! The events that are measured.

use super::Event;
use super::rig::Rig;

fn key(number: usize) -> String {
    format!("key:{}", number.wrapping_mul(2_654_435_761) % 1_000_000_007)
}

pub(super) fn command(words: impl Iterator<Item = String>) -> Vec<u8> {
    let words: Vec<String> = words.collect();
    let mut out = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| out.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    out.into_bytes()
}

fn word_and_keys(word: &str, count: usize) -> Vec<u8> {
    command(std::iter::once(word.to_owned()).chain((0..count).map(key)))
}

pub(super) fn subscribe(count: usize) -> Vec<u8> {
    word_and_keys("SUBSCRIBE", count)
}

fn memcached(servers: usize) -> Rig {
    Rig::new(servers, &["timeout: 400"])
}

fn redis(servers: usize) -> Rig {
    Rig::new(servers, &["redis: true", "timeout: 400", "on_failure: miss", "dedicated_connections: 1000"])
}

/// A client asks this about so many others.
fn among_clients(others: usize, request: &[u8], count: &mut dyn FnMut(&mut dyn FnMut())) {
    let mut rig = redis(3);
    (0..others).for_each(|_| {
        rig.client();
    });
    sent(rig, request, usize::MAX, count);
}

/// A client sends so much of `text`, in pieces.
fn sent(mut rig: Rig, text: &[u8], piece: usize, count: &mut dyn FnMut(&mut dyn FnMut())) {
    let client = rig.client();
    count(&mut || {
        rig.send(client, text, piece);
        rig.settle();
    });
    rig.engine.check_invariants().unwrap();
}

/// A client asks something, and the only server answers it in pieces.
fn answered(mut rig: Rig, ask: &[u8], answer: &[u8], piece: usize, count: &mut dyn FnMut(&mut dyn FnMut())) {
    let client = rig.client();
    rig.send(client, ask, ask.len());
    rig.turn();
    let mut said = Vec::new();
    count(&mut || {
        rig.say(answer, piece);
        rig.settle(); // what has to be looked through first is
        said = rig.read(client);
    });
    assert!(!said.is_empty(), "{:?}", String::from_utf8_lossy(&answer[..answer.len().min(100)]));
    rig.engine.check_invariants().unwrap();
}

pub(super) const MEMCACHED: &[Event] = &[
    ("a get line, byte by byte", 8_000, |size, count| {
        let text = format!("get {}\r\n", (0..size / 14).map(key).collect::<Vec<_>>().join(" "));
        sent(memcached(3), text.as_bytes(), 1, count);
    }),
    ("a get line of one server in large pieces", 100_000, |size, count| {
        let text = format!("get {}\r\n", (0..size / 14).map(key).collect::<Vec<_>>().join(" "));
        sent(memcached(1), text.as_bytes(), 1000, count);
    }),
    ("a line without end, byte by byte", 8_000, |size, count| {
        sent(memcached(3), &vec![b'x'; size], 1, count);
    }),
    ("a get line without end, in pieces", 100_000, |size, count| {
        sent(memcached(3), &[b"get ", &vec![b'x'; size][..]].concat(), 100, count);
    }),
    ("a get of many keys on 500 servers at once", 4_000, |size, count| {
        let text = format!("get {}\r\n", (0..size).map(key).collect::<Vec<_>>().join(" "));
        sent(memcached(500), text.as_bytes(), usize::MAX, count);
    }),
    ("tiny requests in one piece", 1_000, |size, count| {
        sent(memcached(3), "version\r\n".repeat(size).as_bytes(), usize::MAX, count);
    }),
    ("tiny refusals in one piece", 1_000, |size, count| {
        sent(memcached(3), "x\r\n".repeat(size).as_bytes(), usize::MAX, count);
    }),
    ("sets without answers, in one piece", 1_000, |size, count| {
        sent(memcached(3), "set a 0 0 1 noreply\r\nx\r\n".repeat(size).as_bytes(), usize::MAX, count);
    }),
    ("a value, byte by byte", 8_000, |size, count| {
        let answer = format!("VALUE a 0 {size}\r\n{}\r\nEND\r\n", "v".repeat(size));
        answered(memcached(1), b"get a\r\n", answer.as_bytes(), 1, count);
    }),
    ("the values of a get of two keys, byte by byte", 8_000, |size, count| {
        let value = |key: &str| format!("VALUE {key} 0 {}\r\n{}\r\n", size / 2, "v".repeat(size / 2));
        let answer = format!("{}{}END\r\n", value("a"), value("b"));
        answered(memcached(1), b"get a b\r\n", answer.as_bytes(), 1, count);
    }),
    ("a listing, in pieces", 8_000, |size, count| {
        let lines: String = (0..size / 20).map(|line| format!("STAT item{line:06} {line:06}\r\n")).collect();
        answered(memcached(1), b"stats\r\n", format!("{lines}END\r\n").as_bytes(), 16, count);
    }),
    ("servers lost one after the other, of twice as many", 50, |size, count| {
        let mut rig = Rig::new(size * 2, &["rejoin: safe", "timeout: 400"]);
        count(&mut || (0..size as u16).for_each(|server| rig.lose(server)));
    }),
];

pub(super) const REDIS: &[Event] = &[
    ("an inline request, byte by byte", 2_000, |size, count| {
        let text = format!("MGET {}\r\n", (0..size / 14).map(key).collect::<Vec<_>>().join(" "));
        sent(redis(3), text.as_bytes(), 1, count);
    }),
    ("an array, byte by byte", 400, |size, count| sent(redis(3), &word_and_keys("DEL", size), 1, count)),
    ("an array of empty words, in pieces", 2_000, |size, count| {
        sent(redis(3), format!("*{}\r\n$3\r\nDEL\r\n{}", size + 1, "$0\r\n\r\n".repeat(size)).as_bytes(), 64, count);
    }),
    ("an array in large pieces", 20_000, |size, count| {
        sent(redis(3), &word_and_keys("DEL", size), 16 << 10, count);
    }),
    ("CLIENT LIST of many clients", 500, |size, count| among_clients(size, b"CLIENT LIST\r\n", count)),
    ("CLIENT LIST of many numbers", 500, |size, count| {
        let numbers = (0..size).map(|number| number.to_string());
        let words = ["CLIENT", "LIST", "ID"].map(str::to_owned).into_iter().chain(numbers);
        among_clients(size, &command(words), count);
    }),
    ("CLIENT KILL of many clients", 500, |size, count| {
        among_clients(size, b"CLIENT KILL TYPE normal\r\n", count);
    }),
    ("MGET of many keys on 500 servers", 4_000, |size, count| {
        sent(redis(500), &word_and_keys("MGET", size), usize::MAX, count);
    }),
    ("DEL of many keys on 500 servers", 4_000, |size, count| {
        sent(redis(500), &word_and_keys("DEL", size), usize::MAX, count);
    }),
    ("MSET of many keys on 500 servers", 4_000, |size, count| {
        sent(redis(500), &word_and_keys("MSET", size), usize::MAX, count);
    }),
    ("SUBSCRIBE to many channels", 4_000, |size, count| sent(redis(3), &subscribe(size), usize::MAX, count)),
    ("the end of many subscriptions", 2_000, |size, count| {
        let mut rig = redis(3);
        let client = rig.client();
        rig.send(client, &subscribe(size), 64 << 10);
        rig.settle();
        (0..3).for_each(|server| rig.lose(server));
        rig.settle();
        count(&mut || {
            rig.engine.client_gone(client, false);
            rig.settle();
        });
    }),
    ("many subscriptions that move", 2_000, |size, count| {
        let mut rig = redis(3);
        let client = rig.client();
        rig.send(client, &subscribe(size), 64 << 10);
        rig.settle();
        count(&mut || {
            rig.lose(0);
            rig.settle();
        });
    }),
    ("a transaction of many commands on 100 servers", 500, |size, count| {
        let mut text = b"MULTI\r\n".to_vec();
        (0..size).for_each(|number| text.extend(command(["SET".to_owned(), key(number), "x".to_owned()].into_iter())));
        text.extend_from_slice(b"EXEC\r\n");
        sent(redis(100), &text, 64 << 10, count);
    }),
    ("tiny requests in one piece", 500, |size, count| {
        sent(redis(3), "PING\r\n".repeat(size).as_bytes(), usize::MAX, count);
    }),
    ("an array of a server, byte by byte", 500, |size, count| {
        let answer = format!("*{size}\r\n{}", "$1\r\nx\r\n".repeat(size));
        answered(redis(1), b"LRANGE a 0 -1\r\n", answer.as_bytes(), 1, count);
    }),
    ("arrays within arrays of a server, byte by byte", 200, |size, count| {
        let answer = format!("*{size}\r\n{}", "*2\r\n*1\r\n:1\r\n+x\r\n".repeat(size));
        answered(redis(1), b"LRANGE a 0 -1\r\n", answer.as_bytes(), 1, count);
    }),
    ("a value of a server, byte by byte", 2_000, |size, count| {
        let answer = format!("${size}\r\n{}\r\n", "v".repeat(size));
        answered(redis(1), b"GET a\r\n", answer.as_bytes(), 1, count);
    }),
];

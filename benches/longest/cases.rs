//! The largest that clients ask and servers answer.

use std::io::Write as _;

const MEGABYTE: usize = 1 << 20;
/// The largest argument, and the largest answer.
const LARGE: usize = 16 * MEGABYTE;
/// Many arguments, and very many.
const MANY: usize = 100_000;
const MILLION: usize = 1_000_000;

/// What happens.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Clients that are there besides.
    pub(crate) clients: usize,
    pub(crate) makes: fn() -> Said,
}

/// What is said in a case.
pub(crate) struct Said {
    /// What another client has asked before, that is not answered at once.
    pub(crate) first: Vec<u8>,
    /// What the client asks, one when the other is answered.
    pub(crate) requests: Vec<Vec<u8>>,
    /// What a server answers to the bytes that it got.
    pub(crate) answers: fn(&[u8]) -> Vec<u8>,
    /// Bytes that the client is told at least.
    pub(crate) told: usize,
}

const fn case(name: &'static str, makes: fn() -> Said) -> Case {
    Case { name, clients: 0, makes }
}

pub(crate) const CASES: &[Case] = &[
    case("SET 16 MB", || one(command(&[b"SET", b"key", &large()]), 5)),
    case("SET 16 MB behind a GET", || {
        let mut said = one(command(&[b"SET", b"{a}key", &large()]), 5);
        said.first = command(&[b"GET", b"{a}other"]);
        said
    }),
    case("SET 16 MB, GET", || {
        let mut request = command(&[b"SET", b"{a}key", &large()]);
        request.extend(command(&[b"GET", b"{a}other"]));
        one(request, 10)
    }),
    case("SET 16 MB, GET later", || {
        let mut said = one(command(&[b"GET", b"{a}other"]), 5);
        said.first = command(&[b"SET", b"{a}key", &large()]);
        said
    }),
    case("SET 48 MB", || one(command(&[b"SET", b"key", &vec![b'x'; 3 * LARGE]]), 5)),
    case("SET 16 MB in MULTI", || {
        let mut said = one(command(&[b"MULTI"]), 5);
        said.requests.push(command(&[b"SET", b"key", &large()]));
        said.requests.push(command(&[b"EXEC"]));
        said
    }),
    case("GET of a 16 MB key", || one(command(&[b"GET", &large()]), 5)),
    case("PUBLISH 16 MB", || one(command(&[b"PUBLISH", b"key", &large()]), 5)),
    case("EVAL 16 MB", || one(command(&[b"EVAL", &large(), b"1", b"key"]), 5)),
    case("EVAL 1 MB", || one(command(&[b"EVAL", &large()[..MEGABYTE], b"1", b"key"]), 5)),
    case("EVAL 16 MB argument", || one(command(&[b"EVAL", b"return 1", b"1", b"key", &large()]), 5)),
    case("EVALSHA 16 MB argument", || one(command(&[b"EVALSHA", &[b'a'; 40], b"1", b"key", &large()]), 5)),
    case("SCRIPT LOAD 1 MB", || one(command(&[b"SCRIPT", b"LOAD", &large()[..MEGABYTE]]), 5)),
    case("SCRIPT LOAD 16 MB", || one(command(&[b"SCRIPT", b"LOAD", &large()]), 5)),
    case("ECHO 16 MB", || one(command(&[b"ECHO", &large()]), LARGE)),
    case("PING 16 MB", || one(command(&[b"PING", &large()]), LARGE)),
    case("MSET 16 MB", || one(command(&[b"MSET", b"key", &large(), b"other", b"x"]), 5)),
    case("DEL of a 16 MB key", || one(command(&[b"DEL", &large(), b"b"]), 4)),
    case("HSET 16 MB", || one(command(&[b"HSET", b"key", b"field", &large()]), 5)),
    case("unknown 16 MB", || one(command(&[b"NOSUCH", &large()]), 5)),
    case("named 16 MB", || one(command(&[&large(), b"x"]), 5)),
    case("GET 16 MB answer", || Said { answers: large_value, ..one(command(&[b"GET", b"key"]), LARGE) }),
    case("EVAL 16 MB answer", || Said {
        answers: large_value,
        ..one(command(&[b"EVAL", b"return 1", b"1", b"key"]), LARGE)
    }),
    case("MGET 16 MB answers", || Said {
        answers: large_values,
        ..one(command(&[&b"MGET"[..], b"a", b"b", b"c", b"d", b"e", b"f"]), LARGE)
    }),
    case("HGETALL 100,000", || Said { answers: long_list, ..one(command(&[b"HGETALL", b"key"]), MANY) }),
    case("KEYS * 100,000", || Said { answers: long_list, ..one(command(&[b"KEYS", b"*"]), MANY) }),
    case("SCAN 100,000", || Said { answers: long_scan, ..one(command(&[b"SCAN", b"0"]), MANY) }),
    case("SCAN 16 MB", || one(command(&[b"SCAN", b"0", b"MATCH", &large()]), 5)),
    case("KEYS 16 MB", || one(command(&[b"KEYS", &large()]), 5)),
    case("INFO @ 16 MB", || one(command(&[b"INFO", b"@node-0", &large()]), 5)),
    case("INFO 16 MB", || one(command(&[b"INFO", &large()]), 5)),
    case("CONFIG GET 16 MB", || one(command(&[b"CONFIG", b"GET", &large()]), 5)),
    case("COMMAND GETKEYS 16 MB", || one(command(&[b"COMMAND", b"GETKEYS", b"SET", b"key", &large()]), 5)),
    case("COMMAND GETKEYS million", || {
        one(words(&["COMMAND", "GETKEYS", "MGET"], MILLION, |number| format!("{number}")), 5)
    }),
    case("COMMAND DOCS million", || one(words(&["COMMAND", "DOCS"], MILLION, |number| format!("{number}")), 5)),
    case("CLIENT SETNAME 16 MB", || one(command(&[b"CLIENT", b"SETNAME", &large()]), 5)),
    case("CLIENT LIST ID million", || one(words(&["CLIENT", "LIST", "ID"], MILLION, |number| format!("{number}")), 5)),
    case("CLIENT LIST ID 10,000", || one(words(&["CLIENT", "LIST", "ID"], 9_997, |number| format!("{number}")), 5)),
    case("CLIENT KILL ID million", || {
        one(words(&["CLIENT", "KILL"], MILLION, |number| if number % 2 == 0 { "ID".into() } else { "99".into() }), 4)
    }),
    Case { name: "CLIENT LIST 10,000", clients: 10_000, makes: || one(command(&[b"CLIENT", b"LIST"]), MANY) },
    case("AUTH 16 MB", || one(command(&[b"AUTH", &large()]), 5)),
    case("HELLO 16 MB", || one(command(&[b"HELLO", b"3", b"SETNAME", &large()]), 5)),
    case("HELLO option 16 MB", || one(command(&[b"HELLO", b"3", &large()]), 5)),
    case("SELECT 16 MB", || one(command(&[b"SELECT", &large()]), 5)),
    case("OBJECT 16 MB", || one(command(&[b"OBJECT", &large()]), 5)),
    case("SUBSCRIBE 100,000", || one(words(&["SUBSCRIBE"], MANY, |number| format!("{number}")), 5)),
    case("SUBSCRIBE 3 MB name", || one(command(&[b"SUBSCRIBE", &large()[..3 * MEGABYTE]]), 5)),
    case("PUBSUB NUMSUB 100,000", || Said {
        answers: numsub,
        ..one(words(&["PUBSUB", "NUMSUB"], MANY, |number| format!("{number}")), MANY)
    }),
    case("PUBSUB CHANNELS 100,000", || Said { answers: long_list, ..one(command(&[b"PUBSUB", b"CHANNELS"]), MANY) }),
    case("SCRIPT EXISTS 100,000", || Said {
        answers: zeros,
        ..one(words(&["SCRIPT", "EXISTS"], MANY, |number| format!("{number:040}")), MANY)
    }),
    case("SCRIPT EXISTS million", || Said {
        answers: zeros,
        ..one(words(&["SCRIPT", "EXISTS"], MILLION, |number| format!("{number:040}")), MILLION)
    }),
    case("MGET 100,000", || Said { answers: nulls, ..one(words(&["MGET"], MANY, |number| format!("{number}")), MANY) }),
    case("DEL million", || one(words(&["DEL"], MILLION, |number| format!("{number}")), 4)),
    case("SADD million", || one(words(&["SADD"], MILLION, |number| format!("{number}")), 4)),
    case("SINTER million", || one(words(&["SINTER"], MILLION, |number| format!("{{a}}{number}")), 4)),
    case("SORT 100,000 GET", || {
        one(words(&["SORT", "{a}"], MANY, |n| if n % 2 == 0 { "GET".into() } else { format!("{{a}}*{n}") }), 4)
    }),
    case("XREAD 50,000", || one(words(&["XREAD", "STREAMS"], MANY, |number| format!("{{a}}{number}")), 4)),
    case("BLPOP 100,000", || {
        let mut request = words(&["BLPOP"], MANY, |number| format!("{{a}}{number}"));
        request.truncate(request.len() - 5);
        let _ = write!(request, "$1\r\n0\r\n");
        one(request, 0)
    }),
    case("WATCH 100,000", || one(words(&["WATCH"], MANY, |number| format!("{{a}}{number}")), 4)),
    case("EXEC of 100,000", || exec(|number| format!("{number}"))),
    case("EXEC of 100,000, 1 server", || exec(|number| format!("{{a}}{number}"))),
    case("EXEC, 16 MB answer", || Said {
        answers: exec_large,
        ..one([command(&[b"MULTI"]), command(&[b"GET", b"key"]), command(&[b"EXEC"])].concat(), LARGE)
    }),
    case("DISCARD of 100,000", || {
        let mut said = exec(|number| format!("{number}"));
        let last = said.requests.len() - 1;
        said.requests[last] = command(&[b"DISCARD"]);
        said.told = 5;
        said
    }),
    case("100,000 GETs", || Said {
        answers: nulls_for_all,
        ..one((0..MANY).flat_map(|number| command(&[b"GET", number.to_string().as_bytes()])).collect(), MANY)
    }),
];

/// A large argument.
fn large() -> Vec<u8> {
    vec![b'x'; LARGE]
}

fn one(request: Vec<u8>, told: usize) -> Said {
    Said { first: Vec::new(), requests: vec![request], answers: ok, told }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let _ = write!(request, "${}\r\n", word.len());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// A request of some words and so many others.
fn words(first: &[&str], count: usize, word: impl Fn(usize) -> String) -> Vec<u8> {
    let mut request = format!("*{}\r\n", first.len() + count).into_bytes();
    let rest = (0..count).map(word);
    for word in first.iter().map(|word| (*word).to_owned()).chain(rest) {
        let _ = write!(request, "${}\r\n{word}\r\n", word.len());
    }
    request
}

fn exec(key: impl Fn(usize) -> String) -> Said {
    let mut requests = vec![command(&[b"MULTI"])];
    let sets = (0..MANY).flat_map(|number| command(&[b"SET", key(number).as_bytes(), b"value"]));
    requests.push(sets.collect());
    requests.push(command(&[b"EXEC"]));
    Said { first: Vec::new(), requests, answers: exec_ok, told: MANY * 14 }
}

/// How many requests some bytes are, and the words of the last of them.
fn requests(asked: &[u8]) -> (usize, usize) {
    let (mut at, mut count, mut words) = (0, 0, 0);
    let number = |at: &mut usize| {
        let rest = &asked[*at + 1..];
        let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
        *at += end + 3;
        std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0)
    };
    while at < asked.len() {
        words = number(&mut at);
        count += 1;
        for _ in 0..words {
            let len = number(&mut at);
            at += len + 2;
        }
    }
    (count, words)
}

fn ok(asked: &[u8]) -> Vec<u8> {
    let is_sum = asked.windows(9).take(20).any(|part| part.ends_with(b"DEL\r\n"));
    if is_sum { b":1\r\n".to_vec() } else { b"+OK\r\n".repeat(requests(asked).0) }
}

fn nulls_for_all(asked: &[u8]) -> Vec<u8> {
    b"$-1\r\n".repeat(requests(asked).0)
}

fn list(element: &[u8], count: usize) -> Vec<u8> {
    let mut reply = format!("*{count}\r\n").into_bytes();
    (0..count).for_each(|_| reply.extend_from_slice(element));
    reply
}

fn nulls(asked: &[u8]) -> Vec<u8> {
    list(b"$-1\r\n", requests(asked).1 - 1)
}

fn zeros(asked: &[u8]) -> Vec<u8> {
    list(b":0\r\n", requests(asked).1 - 2)
}

fn numsub(asked: &[u8]) -> Vec<u8> {
    let mut reply = format!("*{}\r\n", 2 * (requests(asked).1 - 2)).into_bytes();
    (0..requests(asked).1 - 2).for_each(|number| {
        let number = number.to_string();
        let _ = write!(reply, "${}\r\n{number}\r\n:1\r\n", number.len());
    });
    reply
}

fn large_value(asked: &[u8]) -> Vec<u8> {
    let mut reply = format!("${LARGE}\r\n").into_bytes();
    reply.resize(reply.len() + LARGE, b'x');
    reply.extend_from_slice(b"\r\n");
    reply.repeat(requests(asked).0)
}

fn large_values(asked: &[u8]) -> Vec<u8> {
    list(&large_value(b"*1\r\n$1\r\nx\r\n"), requests(asked).1 - 1)
}

fn long_list(asked: &[u8]) -> Vec<u8> {
    let _ = asked;
    let mut reply = format!("*{MANY}\r\n").into_bytes();
    for number in 0..MANY {
        let number = format!("{number:08}");
        let _ = write!(reply, "$8\r\n{number}\r\n");
    }
    reply
}

fn long_scan(asked: &[u8]) -> Vec<u8> {
    [b"*2\r\n$1\r\n0\r\n", &long_list(asked)[..]].concat()
}

fn exec_ok(asked: &[u8]) -> Vec<u8> {
    let count = requests(asked).0 - 2;
    [&b"+OK\r\n"[..], &b"+QUEUED\r\n".repeat(count), &list(b"+OK\r\n", count)].concat()
}

fn exec_large(asked: &[u8]) -> Vec<u8> {
    let count = requests(asked).0 - 2;
    let value = large_value(b"*1\r\n$1\r\nx\r\n");
    [&b"+OK\r\n"[..], &b"+QUEUED\r\n".repeat(count), &list(&value, count)].concat()
}

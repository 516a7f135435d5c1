//! The fuzz targets' bodies over the committed corpus, and over random bytes made of the protocol's own words.

mod bodies;

use std::path::Path;

use super::support::Random;

/// Words that mean something.
const MEMCACHED: &[&[u8]] = &[
    b"get ",
    b"gets ",
    b"gat 5 ",
    b"set a 0 0 1",
    b"ms a 1 ",
    b"mg ",
    b"md ",
    b"ma ",
    b"me ",
    b"mn",
    b"\r\n",
    b"\r\n",
    b"\n",
    b" ",
    b"a",
    b"key:1 ",
    b"VALUE a 0 1",
    b"VALUE a 0 1 7",
    b"END",
    b"STORED",
    b"NOT_FOUND",
    b"HD",
    b"VA 1 ",
    b"EN",
    b"ka ",
    b"O1 ",
    b"q ",
    b"b ",
    b"x",
    b"noreply",
    b"STAT a 1",
    b"ERROR",
    b"SERVER_ERROR x",
    b"-1",
    b"\0",
    b"\x80",
    b"\x00\x10",
    b"\x03\x08",
    b"\x06\x40",
    b"\x05\x01",
];

/// The same for memcached's binary protocol: whole requests, and parts of headers.
const BINARY: &[&[u8]] = &[
    b"\x80\x0d\x00\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0k",
    b"\x80\x0c\x00\x03\0\0\0\0\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0\0a b",
    b"\x80\x01\x00\x01\x08\0\0\0\0\0\0\x0b\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05kv\n",
    b"\x80\x0e\x00\x01\0\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0\0\0\0\0\0k\r\n",
    b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0",
    b"\x80\x1c\x00\x01\x04\0\0\0\0\0\0\x05\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x09k",
    b"\x80\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0",
    b"\x80\x66\0\0\0\0\0\0\0\0\0\x03\0\0\0\x08\0\0\0\0\0\0\0\0abc",
    b"\x80\x05\0\x01",
    b"\x14\0\0\0",
    b"\0\0\0\x15",
    b"k",
    b"\0",
    b"\x07",
    b"\xff\xff\xff\xff",
];

/// The same for Redis.
const REDIS: &[&[u8]] = &[
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n",
    b"*4\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
    b"*3\r\n$3\r\nDEL\r\n$1\r\na\r\n$4\r\nkey7\r\n",
    b"*1\r\n$5\r\nMULTI\r\n",
    b"*1\r\n$4\r\nEXEC\r\n",
    b"*2\r\n$5\r\nWATCH\r\n$1\r\na\r\n",
    b"*3\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\n1\r\n",
    b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n",
    b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    b"*4\r\n$7\r\nEVALSHA\r\n$2\r\nff\r\n$1\r\n1\r\n$1\r\na\r\n",
    b"SCAN 0\r\n",
    b"INFO\r\n",
    b"FLUSHALL\r\n",
    b"RESET\r\n",
    b"QUIT\r\n",
    b"UNSUBSCRIBE\r\n",
    b"DISCARD\r\n",
    b"+OK\r\n",
    b"+PONG\r\n",
    b"+QUEUED\r\n",
    b":1\r\n",
    b"$1\r\n1\r\n",
    b"$-1\r\n",
    b"_\r\n",
    b"*2\r\n",
    b"*-1\r\n",
    b"%1\r\n",
    b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
    b"-ERR no\r\n",
    b"-NOSCRIPT no\r\n",
    b"-LOADING\r\n",
    b"|1\r\n",
    b"$5\r\n",
    b"\r\n",
    b"*3\r\n",
    b"$99999999999\r\n",
    b"\x00\x30",
    b"\x03\x18",
    b"\x43\x10",
    b"\x06\x40",
    b"\x05\x01",
    b"\x01\xff",
];

fn replay(target: &str, words: &[&[u8]], body: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).expect("a corpus") {
        let path = entry.expect("an entry").path();
        body(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= 5, "{target} has a corpus of {count}");
    // Words that mean something, in an order that does not.
    let mut random = Random(target.len() as u64);
    for _ in 0..20_000 {
        let mut bytes = vec![random.below(256) as u8];
        for _ in 0..random.below(14) {
            bytes.extend_from_slice(words[random.below(words.len() as u64) as usize]);
        }
        body(&bytes);
        body(&bytes[1..]);
    }
}

#[test]
fn requests() {
    replay("request", MEMCACHED, bodies::request);
}

#[test]
fn binary_requests() {
    replay("binary", BINARY, bodies::binary);
}

#[test]
fn responses() {
    replay("response", MEMCACHED, bodies::response);
}

#[test]
fn configurations() {
    replay("config", MEMCACHED, bodies::config);
}

#[test]
fn the_engine() {
    replay("engine", MEMCACHED, bodies::engine);
}

#[test]
fn redis_requests() {
    replay("redis_request", REDIS, bodies::redis_request);
}

#[test]
fn redis_replies() {
    replay("redis_reply", REDIS, bodies::redis_reply);
}

#[test]
fn redis_engines() {
    replay("redis_engine", REDIS, bodies::redis_engine);
}

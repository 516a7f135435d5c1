//! The fuzz targets' bodies over the committed corpus, and over random bytes made of the protocol's own words.

mod bodies;

use std::path::Path;

use super::support::Random;

fn replay(target: &str, body: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).expect("a corpus") {
        let path = entry.expect("an entry").path();
        body(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= 5, "{target} has a corpus of {count}");
    // Words that mean something, in an order that does not.
    let words: [&[u8]; 40] = [
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
    replay("request", bodies::request);
}

#[test]
fn responses() {
    replay("response", bodies::response);
}

#[test]
fn configurations() {
    replay("config", bodies::config);
}

#[test]
fn the_engine() {
    replay("engine", bodies::engine);
}

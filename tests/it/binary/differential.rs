//! The same requests to a memcached directly and to another through the proxy must be answered the same, unique values included.

use std::collections::HashMap;

use super::packet::{Ask, FLUSH, Told, VERSION, all_told, asked};
use crate::support::Random;
use crate::support::process::{Process, Proxy};

/// Requests of an ordinary run; `SOFTMISS_DIFFERENTIAL=n` sets another number, `SOFTMISS_DIFFERENTIAL_SEED=n` the seed.
const REQUESTS: u64 = 30_000;

const GETS: &[u8] = &[0x00, 0x09, 0x0c, 0x0d];
const STORES: &[u8] = &[0x01, 0x11, 0x02, 0x12, 0x03, 0x13];
const COUNTERS: &[u8] = &[0x05, 0x15, 0x06, 0x16];
const TOUCHES: &[u8] = &[0x1c, 0x1d, 0x1e, 0x23, 0x24];
const APPENDS: &[u8] = &[0x0e, 0x19, 0x0f, 0x1a];
/// Deletes, no-ops, and some that nobody knows.
const OTHERS: &[u8] = &[0x04, 0x14, 0x04, 0x14, 0x0a, 0x99, 0x20];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The unique value that a request is to be about.
#[derive(Clone, Copy)]
enum Unique {
    Any,
    Last,
    Wrong,
}

/// Counters stay below 2^63: of those above, memcached 1.6.18 looks for a minus sign in whatever lies behind them.
fn number(random: &mut Random) -> [u8; 8] {
    [0, 1, 5, 1 << 40, 1u64 << 33][random.below(5) as usize].to_be_bytes()
}

fn lifetime(random: &mut Random) -> [u8; 4] {
    [0, 0, 100, 3000, 3_000_000_000u32][random.below(5) as usize].to_be_bytes()
}

fn key(random: &mut Random) -> Vec<u8> {
    match random.below(14) {
        0 => b"a b".to_vec(),
        1 => b"\x01\r\nEND\r\n".to_vec(),
        2 => vec![b'x'; 250],
        3 => b"sp ace".repeat(30),
        4 => vec![0xff, 0xfe, 0x7f],
        other => format!("k{other}").into_bytes(),
    }
}

fn counter(random: &mut Random) -> Vec<u8> {
    let number = random.below(4);
    if random.one_in(3) { format!("n {number}") } else { format!("n{number}") }.into_bytes()
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => Vec::new(),
        1 => b"1".to_vec(),
        2 => (1u64 << 62).to_string().into_bytes(),
        3 => b"\r\nEND\r\n".to_vec(),
        4 => vec![b'y'; 40_000],
        _ => vec![b'v'; 10],
    }
}

/// A request, without its unique value.
fn drawn(random: &mut Random) -> (Ask, Unique) {
    let unique = match random.below(8) {
        0 => Unique::Last,
        1 => Unique::Wrong,
        _ => Unique::Any,
    };
    let kinds = [GETS, GETS, STORES, STORES, COUNTERS, TOUCHES, APPENDS, OTHERS];
    let kind = kinds[random.below(8) as usize];
    let opcode = kind[random.below(kind.len() as u64) as usize];
    // What is appended to is no counter: its blanks, which depend on a moment in memcached, would not stay at the end.
    let is_counter = kind == COUNTERS || (kind != APPENDS && random.one_in(3));
    let key = if is_counter { counter(random) } else { key(random) };
    let ask = Ask::new(opcode, key);
    if kind == GETS {
        return (ask, Unique::Any);
    }
    match () {
        () if kind == STORES => {
            let flags = [0, 5, u32::MAX][random.below(3) as usize].to_be_bytes();
            let extras = [flags, lifetime(random)].concat();
            let is_add = matches!(opcode, 0x02 | 0x12);
            (Ask { extras, value: value(random), ..ask }, if is_add { Unique::Any } else { unique })
        }
        () if kind == COUNTERS => {
            let lifetime = if random.one_in(3) { [0xff; 4] } else { lifetime(random) };
            (Ask { extras: [&number(random)[..], &number(random), &lifetime].concat(), ..ask }, unique)
        }
        () if kind == TOUCHES => (Ask { extras: lifetime(random).to_vec(), ..ask }, Unique::Any),
        () if kind == APPENDS => (Ask { value: value(random).into_iter().take(40).collect(), ..ask }, unique),
        () if matches!(opcode, 0x04 | 0x14) => (ask, unique),
        () if random.one_in(40) => (Ask { extras: vec![0; 4], ..Ask::new(FLUSH, "") }, Unique::Any),
        () => (Ask::new(opcode, ""), Unique::Any),
    }
}

/// One of the two: what it was told of each key's unique value last.
struct Side {
    client: crate::support::client::Client,
    uniques: HashMap<Vec<u8>, u64>,
}

impl Side {
    fn told(&mut self, batch: &[(Ask, Unique)]) -> Vec<Told> {
        let unique = |ask: &Ask, unique: &Unique| match unique {
            Unique::Any => 0,
            Unique::Last => self.uniques.get(&ask.key).copied().unwrap_or(0),
            Unique::Wrong => 999_999_999,
        };
        let asks: Vec<_> = batch.iter().map(|(ask, one)| Ask { cas: unique(ask, one), ..ask.clone() }).collect();
        let mut all = all_told(&mut self.client, &asks);
        // A counter that memcached holds on to at the moment is replaced and not changed in place: then it has no blanks.
        for told in &mut all {
            told.value.truncate(told.value.trim_ascii_end().len());
        }
        for told in all.iter().filter(|told| told.cas > 0) {
            let ask = asks.iter().find(|ask| ask.opaque == told.opaque).expect("an answer to something");
            self.uniques.insert(ask.key.clone(), told.cas);
        }
        all
    }
}

#[test]
fn the_binary_protocol_is_answered_as_memcached_answers_it() {
    let (alone, behind) = (Process::memcached(), Process::memcached());
    let proxy = Proxy::start(&[behind.address], &["timeout: 4000"]);
    let side = |client| Side { client, uniques: HashMap::new() };
    let (mut direct, mut proxied) = (side(alone.client()), side(proxy.client()));
    let seed = setting("SOFTMISS_DIFFERENTIAL_SEED", 1);
    let mut random = Random(seed);
    let mut count = 0;
    while count < setting("SOFTMISS_DIFFERENTIAL", REQUESTS) {
        let size = [1, 1, 3, 10, 40][random.below(5) as usize];
        let batch: Vec<_> = (1..=size)
            .map(|opaque| {
                // What memcached is still sending may be a counter that is changed: what changes one stands alone.
                let fits = |ask: &Ask| size == 1 || !COUNTERS.contains(&ask.opcode);
                let mut draw = std::iter::repeat_with(|| drawn(&mut random));
                let (ask, unique) = draw.find(|(ask, _)| fits(ask)).expect("one that fits");
                (ask.opaque(opaque), unique)
            })
            .collect();
        count += u64::from(size);
        let (wanted, got) = (direct.told(&batch), proxied.told(&batch));
        if wanted != got {
            let at = wanted
                .iter()
                .zip(&got)
                .position(|(one, other)| one != other)
                .unwrap_or_else(|| got.len().min(wanted.len()));
            let (one, other) = (wanted.get(at), got.get(at));
            let opaque = one.or(other).map(|told| told.opaque);
            let ask = batch.iter().find(|(ask, _)| Some(ask.opaque) == opaque).map(|(ask, _)| ask);
            panic!("seed {seed}, after {count} requests:\n{ask:?}\nmemcached: {one:?}\nproxy:     {other:?}");
        }
    }
    let version = Ask::new(VERSION, "");
    assert!(asked(&mut proxied.client, &version).value.starts_with(b"1.6."));
}

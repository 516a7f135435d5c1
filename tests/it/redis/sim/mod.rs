//! A Redis pool in a pretend world: real engine, pretend servers, network and clock, everything drawn from a seed.
//!
//! Values say which key they belong to, messages which channel, jobs which queue and that they are the only one of their
//! kind. So whatever a client is told can be judged: it is the answer to its own request, of the right shape, about the
//! right key; nothing is told twice; and it comes in time, whatever servers and network do.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

mod client;
mod judge;
mod network;
mod servers;
mod world;

use std::collections::BTreeMap;

use softmiss::proto::resp::args::Args;
use softmiss::proto::resp::reply::{self, Reply};
use softmiss::proto::resp::request::{self, Limits, Parsed, Progress};

use world::World;

fn text(value: &[u8]) -> Vec<u8> {
    match reply::read(value) {
        Reply::Bulk(text) | Reply::Simple(text) => text.to_vec(),
        _ => Vec::new(),
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

fn first_request(bytes: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    if bytes.is_empty() {
        return None;
    }
    let mut spans = Vec::new();
    let limits = Limits { value: 1 << 30, trusted: true };
    match request::parse(bytes, &mut Progress::default(), limits, &mut spans) {
        Parsed::Complete { len } => Some((len, Args::new(bytes, &spans).iter().map(<[u8]>::to_vec).collect())),
        _ => None,
    }
}

#[test]
fn whatever_happens_every_client_gets_its_own_answers() {
    let seeds = std::env::var("SOFTMISS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..3000).for_each(|_| world.step());
            world.tally
        });
        match outcome {
            Ok(found) => found.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count),
            Err(_) => panic!("seed {seed}"),
        }
    }
    println!("{tally:?}");
    for what in ["hits", "misses", "transactions", "jobs", "messages", "errors", "hung", "killed", "closed", "junk"] {
        assert!(tally.get(what).is_some_and(|count| *count > seeds / 2), "too few {what}: {tally:?}");
    }
}

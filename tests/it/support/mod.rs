//! What the black-box tests stand on: real processes, scripted bad servers, a plain client.

pub(crate) mod bad;
pub(crate) mod client;
mod hiccups;
pub(crate) mod http;
pub(crate) mod logfmt;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod scratch;
pub(crate) mod script;

use std::time::{Duration, Instant};

pub(crate) use hiccups::{Hiccups, Waits};

/// Repeatable numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A key that belongs anywhere: short ones in sequence would all belong to one server of a ring over fnv1a_64.
pub(crate) fn scattered_key(number: u64) -> String {
    format!("key:{:016x}", Random(number).next())
}

/// Waits until something outside this process has come true.
pub(crate) fn wait_until(what: &str, limit: Duration, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

//! What a load writes down of its requests, and what can be read from it.

use std::time::{Duration, Instant};

use crate::support::Waits;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything that was asked for.
    Hit,
    /// Not everything.
    Miss,
    Stored,
    NotStored,
    Deleted,
    NotFound,
    /// An error line.
    Error,
    /// The connection ended, or nothing came for ten seconds.
    Disconnect,
    /// A miss, a refusal or an old version where the server is well and has better.
    Lapse,
    /// Something that cannot be right.
    Wrong,
}

/// A request: when, how long, for which servers (bits, by the homes of its keys), and how it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) start: Instant,
    pub(super) took: Duration,
    pub(super) homes: u8,
    pub(super) outcome: Outcome,
}

/// What came of a load.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) samples: Vec<Sample>,
    /// What was wrong, in words.
    pub(super) problems: Vec<String>,
}

impl Ledger {
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.samples.iter().filter(|sample| sample.outcome == outcome).count()
    }

    pub(super) fn slowest(&self) -> Sample {
        *self.samples.iter().max_by_key(|sample| sample.took).expect("a request")
    }

    /// The 99th percentile of the requests that started in a time and wanted none of these servers, without the time that
    /// the machine stood still.
    pub(super) fn p99(&self, from: Instant, to: Instant, without: u8, machine: &Waits) -> Duration {
        let wanted = |sample: &&Sample| sample.homes & without == 0 && (from..to).contains(&sample.start);
        let took =
            |sample: &Sample| sample.took.saturating_sub(machine.stood_still(sample.start, sample.start + sample.took));
        let mut times: Vec<_> = self.samples.iter().filter(wanted).map(took).collect();
        times.sort_unstable();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }
}

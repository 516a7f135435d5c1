//! What the history is made of: sums and states at one moment.

use std::time::Duration;

use super::super::recent::Sample;
use super::PoolPoint;
use crate::config::model::{PoolId, ServerId};
use crate::health::tracker::State;
use crate::stats::counters::Cell;
use crate::stats::histogram::Snapshot;
use crate::stats::prometheus::Sources;

/// What is counted of a pool.
pub(super) const COUNTS: usize = 8;

/// By these names it is told.
pub(super) const COUNT_NAMES: [&str; COUNTS] =
    ["requests", "hits", "misses", "gets", "whole_gets", "degraded", "forward_errors", "server_errors"];

/// Quantiles that are kept.
pub(super) const LATENCIES: usize = 3;

/// By these names they are told, in microseconds.
pub(super) const LATENCY_NAMES: [&str; LATENCIES] = ["p50_us", "p99_us", "p999_us"];

const QUANTILES: [f64; LATENCIES] = [0.5, 0.99, 0.999];

/// How a server was, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Condition {
    /// In the ring.
    Up,
    /// In the ring, and it has failed since its last answer.
    Failing,
    /// The operator keeps it out of the ring.
    Held,
    /// Out of the ring because it failed.
    Out,
}

impl Condition {
    /// The letter that stands for it.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Up => '.',
            Self::Failing => 'f',
            Self::Held => 'h',
            Self::Out => 'o',
        }
    }

    const fn of(state: State, failures: u32) -> Self {
        match state {
            State::Up { .. } if failures > 0 => Self::Failing,
            State::Up { .. } => Self::Up,
            State::Maintenance { .. } => Self::Held,
            State::Ejected { .. } | State::Probing { .. } => Self::Out,
        }
    }
}

/// Everything at one moment, sums since the start of the process.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Reading {
    pub(super) at: Duration,
    /// In the order of the file.
    pub(super) pools: Vec<PoolReading>,
}

/// A pool at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct PoolReading {
    pub(super) counts: [u64; COUNTS],
    pub(super) latency: Snapshot,
    pub(super) servers: Vec<ServerReading>,
}

/// A server at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerReading {
    pub(super) condition: Condition,
    pub(super) ejections: u64,
}

impl Reading {
    /// Reads the states, and what the sample does not have.
    pub(in super::super) fn take(sources: &Sources<'_>, sample: &Sample) -> Self {
        let pools = sources.pools().zip(&sample.pools).map(|((id, of), (pool, _))| {
            let sum =
                |cell: fn(&crate::stats::counters::PoolCounters) -> &Cell| sources.sum(|worker| cell(worker.pool(id)));
            let errors = (sum(|pool| &pool.forward_error), sum(|pool| &pool.server_errors));
            PoolReading {
                counts: [
                    pool.requests,
                    pool.hits,
                    pool.misses,
                    pool.gets,
                    pool.whole_gets,
                    pool.degraded,
                    errors.0,
                    errors.1,
                ],
                latency: pool.latency.clone(),
                servers: of.servers.iter().map(|server| ServerReading::take(sources, id, server.id)).collect(),
            }
        });
        Self { at: sample.at, pools: pools.collect() }
    }

    /// How the servers are, those of the first pool first.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> {
        self.pools.iter().flat_map(|pool| &pool.servers).map(|server| server.condition)
    }

    /// A server that left the ring since the last reading and is back is one that was out. `ejections` are those of the
    /// last reading, and become those of this one.
    pub(super) fn mark_short_outages(&mut self, ejections: &mut Vec<u64>) {
        let servers = self.pools.iter_mut().flat_map(|pool| &mut pool.servers);
        for (index, server) in servers.enumerate() {
            let before = match ejections.get_mut(index) {
                Some(before) => std::mem::replace(before, server.ejections),
                None => {
                    ejections.push(server.ejections);
                    0
                }
            };
            if server.ejections > before && server.condition < Condition::Held {
                server.condition = Condition::Out;
            }
        }
    }

    /// What happened since `base`.
    pub(super) fn pools_since(&self, base: &Self) -> Box<[PoolPoint]> {
        let nothing = PoolReading::default();
        let pools = self.pools.iter().enumerate();
        pools.map(|(index, pool)| pool.since(base.pools.get(index).unwrap_or(&nothing))).collect()
    }
}

impl PoolReading {
    fn since(&self, base: &Self) -> PoolPoint {
        let count = |index: usize| self.counts[index].saturating_sub(base.counts[index]);
        let latency = self.latency.since(&base.latency);
        let micros = |quantile| {
            let latency = latency.quantile(quantile)?;
            // The value that means none is more than an hour.
            Some(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX - 1))
        };
        PoolPoint {
            counts: std::array::from_fn(|index| u32::try_from(count(index)).unwrap_or(u32::MAX)),
            latencies: QUANTILES.map(|quantile| micros(quantile).unwrap_or(u32::MAX)),
        }
    }
}

impl ServerReading {
    fn take(sources: &Sources<'_>, pool: PoolId, server: ServerId) -> Self {
        Self {
            condition: Condition::of(sources.registry.state(pool, server), sources.registry.failures(pool, server)),
            ejections: sources.sum(|worker| &worker.server(pool, server).ejections),
        }
    }
}

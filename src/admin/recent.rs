//! The last seconds: figures are kept once a second, so that rates and quantiles are those of the moment and not of the
//! whole life of the process.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::model::{PoolId, ServerId};
use crate::outcome::{Class, Outcome};
use crate::stats::histogram::Snapshot;
use crate::stats::prometheus::Sources;

/// Seconds that rates and quantiles are taken over.
const WINDOW: usize = 5;

/// The figures of one pool or server at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) requests: u64,
    pub(super) degraded: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Gets, and those of them that got all they asked for.
    pub(super) gets: u64,
    pub(super) whole_gets: u64,
    pub(super) bytes: u64,
    pub(super) latency: Snapshot,
}

impl Figures {
    /// What has come since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.wrapping_sub(earlier.requests),
            degraded: self.degraded.wrapping_sub(earlier.degraded),
            hits: self.hits.wrapping_sub(earlier.hits),
            misses: self.misses.wrapping_sub(earlier.misses),
            gets: self.gets.wrapping_sub(earlier.gets),
            whole_gets: self.whole_gets.wrapping_sub(earlier.whole_gets),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
            latency: self.latency.since(&earlier.latency),
        }
    }

    fn of_pool(sources: &Sources<'_>, pool: PoolId) -> Self {
        let gets =
            |outcome: Outcome| sources.sum(|worker| &worker.pool(pool).outcomes[Class::Get as usize][outcome as usize]);
        Self {
            requests: sources.sum(|worker| &worker.pool(pool).requests),
            degraded: sources.sum(|worker| worker.pool(pool).all_degraded()),
            hits: sources.sum(|worker| worker.pool(pool).hits()),
            misses: sources.sum(|worker| worker.pool(pool).misses()),
            gets: Outcome::OF_REQUESTS.into_iter().map(gets).sum(),
            whole_gets: gets(Outcome::Hit),
            bytes: 0,
            latency: sources.pool_latency(pool),
        }
    }

    fn of_server(sources: &Sources<'_>, pool: PoolId, server: ServerId) -> Self {
        let cell = |cell: fn(&crate::stats::counters::ServerCounters) -> &crate::stats::counters::Cell| {
            sources.sum(|worker| cell(worker.server(pool, server)))
        };
        Self {
            requests: cell(|server| &server.requests),
            degraded: 0,
            hits: cell(|server| &server.hits),
            misses: cell(|server| &server.misses),
            gets: 0,
            whole_gets: 0,
            bytes: cell(|server| &server.request_bytes) + cell(|server| &server.response_bytes),
            latency: sources.server_latency(pool, server),
        }
    }
}

/// The figures of everything at one moment: pools in the order of the file, each with its servers.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) pools: Vec<(Figures, Vec<Figures>)>,
}

impl Sample {
    pub(super) fn take(sources: &Sources<'_>, at: Duration) -> Self {
        let pools = sources.pools().map(|(id, pool)| {
            let servers = pool.servers.iter().map(|server| Figures::of_server(sources, id, server.id));
            (Figures::of_pool(sources, id), servers.collect())
        });
        Self { at, pools: pools.collect() }
    }
}

/// The samples of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Recent {
    samples: VecDeque<Sample>,
}

impl Recent {
    /// Keeps one more.
    pub(super) fn push(&mut self, sample: Sample) {
        if self.samples.len() == WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The oldest one kept.
    pub(super) fn oldest(&self) -> Option<&Sample> {
        self.samples.front()
    }
}

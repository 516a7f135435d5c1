//! The cells that workers count in.
//!
//! Each worker has its own set, so every cell has one writer and counting is a plain load, add and store; readers sum
//! over the workers. Nothing here has a name or a format: that is for whoever renders them.

use std::ops::Deref;
use std::sync::Arc;

pub use super::cell::{Cell, Gauge};
use super::histogram::{Histogram, Snapshot};
use super::hot::HotKeys;
use crate::config::model::{Config, PoolId, ServerId};
use crate::config::roster::Roster;
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};

/// Everything that one worker counts, by the ids of pools and servers. The cells are shared with the counters of the
/// topologies before and after ([`Counters::follow`]).
#[derive(Debug, Default)]
pub struct Counters {
    process: Arc<ProcessCounters>,
    pools: Vec<PoolCounters>,
}

/// What is counted for the worker itself.
#[derive(Debug, Default)]
pub struct ProcessCounters {
    /// Connections of any kind that were opened, and that are open: clients, servers.
    pub total_connections: Cell,
    /// Connections that are open.
    pub current_connections: Gauge,
    /// Bytes held in buffers.
    pub buffered_bytes: Gauge,
    /// Lines of the log that were not written. Only the first worker's set has any, and the log counts there.
    pub log_lines_dropped: Cell,
    /// Configurations that were taken up while the process ran, those that were refused, and whether the last one was. Only
    /// the first worker's set has any, and whoever reloads counts there.
    pub reloads: Cell,
    /// Configurations that were refused.
    pub reloads_refused: Cell,
    /// Whether the last one was.
    pub reload_refused: Gauge,
    /// Answers that changed which servers there are, times that nothing was learned of who is asked for them, and how many of
    /// those there are at present. Only the first worker's set has any, and the thread that asks counts there.
    pub discovery_changes: Cell,
    /// Times that nothing was learned.
    pub discovery_failures: Cell,
    /// Who is asked, and said nothing of use the last time.
    pub discovery_failing: Gauge,
}

/// What is counted for a pool and its servers.
#[derive(Debug, Default)]
pub struct PoolCounters {
    pool: Arc<PoolCells>,
    /// By their ids; those of one name are the same.
    servers: Vec<Arc<ServerCounters>>,
    /// Each once.
    names: Vec<Arc<ServerCounters>>,
}

/// What is counted for a pool itself.
#[derive(Debug, Default)]
pub struct PoolCells {
    /// Client connections closed by the client.
    pub client_eof: Cell,
    /// Client connections closed for an error.
    pub client_err: Cell,
    /// Client connections open.
    pub client_connections: Gauge,
    /// Client connections that are over.
    pub clients_gone: Cell,
    /// Client connections refused because of `client_connections`.
    pub client_rejected: Cell,
    /// Servers put out of the ring.
    pub server_ejects: Cell,
    /// Requests, and passwords, of clients that were refused because they have not said who they are.
    pub auth_failures: Cell,
    /// Clients cut off because they held too much memory.
    pub clients_cut_off: Cell,
    /// Error lines told to clients because a server failed.
    pub forward_error: Cell,
    /// Parts into which requests were split.
    pub fragments: Cell,
    /// Keys that had moved to another server and were looked for where they had been.
    pub warmup_asked: Cell,
    /// Those of them that were found there, and stored where they belong.
    pub warmup_brought: Cell,
    /// Those of them of which that is not known.
    pub warmup_failed: Cell,
    /// Keys of gets that were answered with what is kept of them here.
    pub near_hits: Cell,
    /// Values that servers were asked for to be kept.
    pub near_fetches: Cell,
    /// Keys of gets that were answered with what is kept of them, as there was no server that could be asked.
    pub near_stale: Cell,
    /// Keys of which a server has told that they have changed.
    pub near_told: Cell,
    /// Misses that were told with the lease for the key: who was told computes it.
    pub stampede_leases: Cell,
    /// Requests that waited for what somebody else computed.
    pub stampede_waits: Cell,
    /// How long they did.
    pub stampede_wait_microseconds: Cell,
    /// Requests that were told a miss without the lease.
    pub stampede_unleased: Cell,
    /// Former values given while somebody computed the next one.
    pub stampede_stale: Cell,
    /// Requests of clients that were carried out.
    pub requests: Cell,
    /// Requests refused as malformed.
    pub refused_requests: Cell,
    /// Error lines of servers that were passed on.
    pub server_errors: Cell,
    /// Requests answered without a server because it failed, by cause.
    pub degraded: [Cell; Failure::ALL.len()],
    /// Requests, by what they asked for and how they ended. When none is under way, they add up to `requests`.
    pub outcomes: [[Cell; Outcome::COUNT]; Class::ALL.len()],
    /// Requests that took longer than `slow_request`, or ran out of time.
    pub slow_requests: Cell,
    /// How long requests took that went to several servers.
    pub split_latency: Histogram,
    /// Keys that are asked for most.
    pub hot_keys: HotKeys,
}

impl Deref for Counters {
    type Target = ProcessCounters;

    #[inline]
    fn deref(&self) -> &ProcessCounters {
        &self.process
    }
}

impl Deref for PoolCounters {
    type Target = PoolCells;

    #[inline]
    fn deref(&self) -> &PoolCells {
        &self.pool
    }
}

/// What is counted for a server.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// Connections closed by the server in order.
    pub server_eof: Cell,
    /// Connections closed for another error.
    pub server_err: Cell,
    /// Connections closed, or requests given up, because the deadline passed.
    pub server_timedout: Cell,
    /// Connections open.
    pub server_connections: Gauge,
    /// Requests forwarded.
    pub requests: Cell,
    /// Bytes of them.
    pub request_bytes: Cell,
    /// Gets that went on with the line of another.
    pub joined: Cell,
    /// Bytes of them.
    pub response_bytes: Cell,
    /// Requests not yet written.
    pub in_queue: Gauge,
    /// Bytes of them.
    pub in_queue_bytes: Gauge,
    /// Requests written and not yet answered.
    pub out_queue: Gauge,
    /// Bytes of them.
    pub out_queue_bytes: Gauge,
    /// Keys of gets whose value was there.
    pub hits: Cell,
    /// Keys of gets that were not there.
    pub misses: Cell,
    /// Error lines that it answered.
    pub errors: Cell,
    /// Requests sent again on a new connection.
    pub resends: Cell,
    /// Times that it was silent for so long that requests were answered in its place.
    pub stalls: Cell,
    /// Connects put off because of `server_reconnect_limit`.
    pub reconnects_limited: Cell,
    /// Probes sent.
    pub probes: Cell,
    /// Times that it was put out of the ring.
    pub ejections: Cell,
    /// Returns to the ring.
    pub restores: Cell,
    /// Requests, by how they ended. When none is under way, they add up to `requests`.
    pub outcomes: [Cell; Outcome::COUNT],
    /// Requests of clients, or parts of them, that were answered in its place, by cause.
    pub degraded: [Cell; Failure::ALL.len()],
    /// How long its responses took that were all that their requests waited for.
    pub latency: Histogram,
    /// How long its other responses took.
    pub part_latency: Histogram,
}

impl Counters {
    /// A set of zeros for every pool and server.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::default().follow(&Roster::follow(&[], config).unwrap_or_default())
    }

    /// The counters of the topology that follows this one's: what was counted for a server goes with its name.
    #[must_use]
    pub fn follow(&self, rosters: &[Roster]) -> Self {
        let pools = rosters.iter().enumerate().map(|(index, roster)| {
            let (mut servers, mut names) = (Vec::with_capacity(roster.places.len()), Vec::new());
            let old = self.pools.get(index);
            for (index, place) in roster.places.iter().enumerate() {
                let known = old.and_then(|old| old.servers.get(index)).or_else(|| servers.get(place.first.index()));
                servers.push(known.map(Arc::clone).unwrap_or_default());
                if place.first.index() == index {
                    names.push(Arc::clone(&servers[index]));
                }
            }
            PoolCounters { pool: old.map(|old| Arc::clone(&old.pool)).unwrap_or_default(), servers, names }
        });
        Self { process: Arc::clone(&self.process), pools: pools.collect() }
    }

    /// The counters of a pool.
    #[must_use]
    pub fn pool(&self, pool: PoolId) -> &PoolCounters {
        &self.pools[pool.index()]
    }

    /// A request of a client, or a part of one, was answered without a server because that failed.
    pub fn count_degraded(&self, pool: PoolId, server: Option<ServerId>, failure: Failure) {
        self.pool(pool).degraded[failure as usize].add(1);
        if let Some(server) = server {
            self.server(pool, server).degraded[failure as usize].add(1);
        }
    }

    /// The counters of a server.
    #[must_use]
    pub fn server(&self, pool: PoolId, server: ServerId) -> &ServerCounters {
        &self.pools[pool.index()].servers[server.index()]
    }
}

/// A value that can be added up over workers.
pub trait Figure {
    /// The value.
    fn figure(self) -> u64;
}

impl Figure for u64 {
    fn figure(self) -> u64 {
        self
    }
}

impl Figure for &Cell {
    fn figure(self) -> u64 {
        self.value()
    }
}

impl Figure for &Gauge {
    fn figure(self) -> u64 {
        self.value()
    }
}

// What follows from other cells is not counted once more.
impl PoolCounters {
    /// Keys of gets whose value was there.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.names.iter().map(|server| server.hits.value()).fold(0, u64::wrapping_add)
    }

    /// Keys of gets that their server did not have.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.names.iter().map(|server| server.misses.value()).fold(0, u64::wrapping_add)
    }

    /// Requests answered without a server because it failed, whatever the cause.
    #[must_use]
    pub fn all_degraded(&self) -> u64 {
        self.degraded.iter().map(Cell::value).fold(0, u64::wrapping_add)
    }

    /// Adds how long requests took, whole, to a snapshot.
    pub fn add_latency_to(&self, snapshot: &mut Snapshot) {
        self.split_latency.add_to(snapshot);
        self.names.iter().for_each(|server| server.latency.add_to(snapshot));
    }

    /// A request has ended.
    #[inline]
    pub fn ended(&self, class: Class, outcome: Outcome) {
        self.outcomes[class as usize][outcome as usize].add(1);
    }
}

impl ServerCounters {
    /// Responses received.
    #[must_use]
    pub fn responses(&self) -> u64 {
        let answered = Outcome::OF_SERVERS.into_iter().filter(|outcome| *outcome != Outcome::Lost);
        answered.map(|outcome| self.outcomes[outcome as usize].value()).fold(0, u64::wrapping_add)
    }

    /// Adds how long its responses took to a snapshot.
    pub fn add_latency_to(&self, snapshot: &mut Snapshot) {
        self.latency.add_to(snapshot);
        self.part_latency.add_to(snapshot);
    }
}

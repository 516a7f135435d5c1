//! The answer to `/servers`, as it is read: what [`crate::admin`] writes, and nothing else of the program.

use serde::Deserialize;

/// The process and all of its pools.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Overview {
    pub(super) version: String,
    pub(super) host: String,
    pub(super) uptime_s: f64,
    pub(super) workers: usize,
    pub(super) buffered_bytes: u64,
    pub(super) memory_limit_bytes: u64,
    pub(super) pools: Vec<Pool>,
    /// The newest first.
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Event {
    pub(super) ago_ms: u64,
    pub(super) pool: String,
    pub(super) server: String,
    pub(super) trouble: bool,
    pub(super) text: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) listen: String,
    pub(super) on_failure: String,
    pub(super) clients: u64,
    pub(super) requests_per_s: f64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) hit_rate: Option<f64>,
    pub(super) server_errors: u64,
    pub(super) forward_errors: u64,
    /// Requests answered in a server's place since the start, by cause.
    pub(super) degraded: Vec<(String, u64)>,
    pub(super) degraded_per_s: f64,
    /// Only with `stampede`.
    #[serde(default)]
    pub(super) stampede: Option<Stampede>,
    /// Only with `near_cache`.
    #[serde(default)]
    pub(super) near_cache: Option<NearCache>,
    pub(super) latency: Latency,
    pub(super) servers: Vec<Server>,
    /// Only where the proxy watches for them.
    pub(super) hot_keys: Option<Vec<HotKey>>,
}

/// What was made of values that are kept.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NearCache {
    /// Keys of gets that were answered with them.
    pub(super) hits: u64,
}

/// What became of keys that were missed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stampede {
    /// Misses told to who computes.
    pub(super) leases: u64,
    /// Requests that waited for them.
    pub(super) waits: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Server {
    pub(super) name: String,
    /// `up`, `ejected`, `probing` or `draining`.
    pub(super) state: String,
    /// The operator keeps it out.
    #[serde(default)]
    pub(super) held: bool,
    /// Requests that it was sent and has not answered.
    #[serde(default)]
    pub(super) in_flight: u64,
    pub(super) out_for_ms: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) next_probe_ms: Option<u64>,
    pub(super) failures_in_a_row: u32,
    pub(super) share: f64,
    pub(super) connections: u64,
    pub(super) requests_per_s: f64,
    pub(super) hit_rate: Option<f64>,
    pub(super) ejections: u64,
    pub(super) latency: Latency,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Latency {
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct HotKey {
    pub(super) key: String,
    /// Where it goes.
    #[serde(default)]
    pub(super) server: String,
    pub(super) per_s: f64,
    pub(super) bytes_per_s: f64,
}

/// How a server is, from worst to best. An ejected server and one whose probe is under way are the same to whoever
/// looks: the two alternate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    Out,
    Failing,
    /// Out as well, but because the operator wants it so.
    Held,
    Up,
}

impl Server {
    pub(super) fn condition(&self) -> Condition {
        match self.state.as_str() {
            _ if self.held => Condition::Held,
            "up" if self.failures_in_a_row > 0 => Condition::Failing,
            "up" => Condition::Up,
            _ => Condition::Out,
        }
    }
}

impl Pool {
    /// Servers that are in the ring.
    pub(super) fn in_ring(&self) -> usize {
        let is_out = |server: &&Server| matches!(server.condition(), Condition::Out | Condition::Held);
        self.servers.len() - self.servers.iter().filter(is_out).count()
    }

    /// The names of its servers in this condition.
    pub(super) fn names_of(&self, condition: Condition) -> impl Iterator<Item = &str> {
        self.servers.iter().filter(move |server| server.condition() == condition).map(|server| server.name.as_str())
    }

    /// Whether none is.
    pub(super) fn is_down(&self) -> bool {
        self.in_ring() == 0
    }

    /// The condition of the worst server; failing as well when requests are answered in a server's place.
    pub(super) fn condition(&self) -> Condition {
        let worst = self.servers.iter().map(Server::condition).min().unwrap_or(Condition::Up);
        if self.degraded_per_s > 0.0 { worst.min(Condition::Failing) } else { worst }
    }
}

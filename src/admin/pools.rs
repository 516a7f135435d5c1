//! The pools, as data: the answer to `/pools`. What is in force, what was counted in all, who is in the ring.

use serde::Serialize;

use crate::config::model::{Pool, PoolId};
use crate::stats::counters::PoolCounters;
use crate::stats::prometheus::Sources;

/// One pool.
#[derive(Debug, Serialize)]
pub(super) struct PoolSummary {
    name: String,
    protocol: &'static str,
    listen: String,
    settings: Settings,
    sums: Sums,
    ring: RingState,
    /// By name, in the order of the file.
    servers: Vec<String>,
}

/// The settings that decide what happens to a request, and to a server that fails.
#[derive(Debug, Serialize)]
struct Settings {
    hash: &'static str,
    hash_tag: Option<String>,
    distribution: &'static str,
    timeout_ms: Option<u128>,
    on_failure: &'static str,
    on_eject: &'static str,
    rejoin: &'static str,
    failover_ttl_s: Option<u32>,
    auto_eject_hosts: bool,
    server_failure_limit: u32,
    server_retry_timeout_ms: u128,
    rise: u32,
    max_ejected_percent: u32,
    flap_limit: Option<u32>,
    stall_detection: bool,
    server_connections: usize,
    client_connections: Option<usize>,
}

/// Since the start.
#[derive(Debug, Serialize)]
struct Sums {
    clients: u64,
    requests: u64,
    hits: u64,
    misses: u64,
    /// Requests answered in a server's place.
    degraded: u64,
    /// Error lines that clients were told because a server failed.
    forward_errors: u64,
    /// Error lines of servers that were passed on.
    server_errors: u64,
    ejections: u64,
}

#[derive(Debug, Serialize)]
struct RingState {
    servers: usize,
    up: usize,
    /// By name.
    out: Vec<String>,
    /// There is one that takes requests.
    ready: bool,
}

/// All of them, in the order of the file.
pub(super) fn summaries(sources: &Sources<'_>) -> Vec<PoolSummary> {
    sources.pools().map(|(id, pool)| summary(sources, id, pool)).collect()
}

fn summary(sources: &Sources<'_>, id: PoolId, pool: &Pool) -> PoolSummary {
    let sum = |value: fn(&PoolCounters) -> u64| sources.sum(|worker| value(worker.pool(id)));
    let live = sources.registry.live(id);
    let out = pool.servers.iter().filter(|server| !live[server.id.index()]).map(|server| server.name.clone());
    let up = live.iter().filter(|live| **live).count();
    let mut servers: Vec<_> = pool.servers.iter().collect();
    servers.sort_by_key(|server| server.position);
    PoolSummary {
        name: pool.name.clone(),
        protocol: pool.protocol.name(),
        listen: pool.listen.to_string(),
        settings: Settings {
            hash: pool.hash.name(),
            hash_tag: pool.hash_tag.map(|tag| String::from_utf8_lossy(&tag).into_owned()),
            distribution: pool.distribution.name(),
            timeout_ms: pool.timeout.map(|timeout| timeout.as_millis()),
            on_failure: pool.on_failure.name(),
            on_eject: pool.on_eject.name(),
            rejoin: pool.rejoin.name(),
            failover_ttl_s: pool.failover_ttl,
            auto_eject_hosts: pool.auto_eject_hosts,
            server_failure_limit: pool.server_failure_limit,
            server_retry_timeout_ms: pool.server_retry_timeout.as_millis(),
            rise: pool.rise,
            max_ejected_percent: pool.max_ejected_percent,
            flap_limit: pool.flap_limit,
            stall_detection: pool.stall.is_some(),
            server_connections: pool.server_connections,
            client_connections: pool.client_connections,
        },
        sums: Sums {
            clients: sum(|pool| pool.client_connections.value()),
            requests: sum(|pool| pool.requests.value()),
            hits: sources.sum(|worker| worker.pool(id).hits()),
            misses: sources.sum(|worker| worker.pool(id).misses()),
            degraded: sources.sum(|worker| worker.pool(id).all_degraded()),
            forward_errors: sum(|pool| pool.forward_error.value()),
            server_errors: sum(|pool| pool.server_errors.value()),
            ejections: sum(|pool| pool.server_ejects.value()),
        },
        ring: RingState { servers: pool.servers.len(), up, out: out.collect(), ready: up > 0 },
        servers: servers.into_iter().map(|server| server.name.clone()).collect(),
    }
}

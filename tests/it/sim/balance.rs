//! What the engine counts must add up, and what it holds must stay bounded.
//!
//! At the end of a run, summed over the workers:
//!
//! - `requests + refused_requests` = requests that clients have given whole, unless a client died: what it had sent last
//!   may never have been looked at.
//! - for a server that no fault ever touched, `requests = responses`: each is answered, in time or late.
//! - in plain runs (each request has one key, nobody dies, memory suffices, no value stands in for a server that is out),
//!   `requests = answered here, or with a value that is kept + degraded - degraded[server_memory, value_limit] + sum over servers of (responses - late_responses -
//!   own_responses)`. A request that is degraded has no response that counts; if one comes, it is late. What a server refuses
//!   for want of memory, or sends though it is too large, is a response and counts as degraded as well.
//! - `forward_error` is 0 with `on_failure: miss`, and never more than `degraded`.
//! - requests are the sum of their outcomes, per server and in total; [`Engine::check_invariants`] asserts that after
//!   each step, with those that are under way.
//! - gauges of connections name the connections that are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use softmiss::config::model::{OnFailure, PoolId, ServerId};
use softmiss::engine::Engine;
use softmiss::failure::Failure;
use softmiss::outcome::Outcome;
use softmiss::stats::counters::{Counters, PoolCounters};

use super::plan::Plan;
use super::servers::Connection;
use super::world::World;

/// Sums over workers and servers.
#[derive(Debug, Default)]
pub(super) struct Sums {
    requests: u64,
    refused: u64,
    pub(super) degraded: u64,
    server_memory: u64,
    too_large: u64,
    pub(super) no_memory: u64,
    forward_error: u64,
    responses: u64,
    pub(super) late: u64,
    own: u64,
    pub(super) joined: u64,
}

impl World {
    /// One has the lease of a key at a time: nobody is told a miss with it to whom no server has given it.
    pub(super) fn judge_leases(&self) -> Result<(), String> {
        if self.plan.stampede.is_none() {
            return Ok(());
        }
        let (told, given) = (self.pool_sum(|pool| pool.stampede_leases.value()), self.given);
        if told <= given { Ok(()) } else { Err(format!("{told} leases were told, of {given} that were given")) }
    }

    pub(super) fn pool_sum(&self, cell: impl Fn(&PoolCounters) -> u64) -> u64 {
        let pools = || (0u16..).map(PoolId).take(self.topology.pools.len());
        let of = |worker: &Arc<Counters>| pools().map(|pool| cell(worker.pool(pool))).fold(0, u64::wrapping_add);
        self.topology.counters.iter().map(of).fold(0, u64::wrapping_add)
    }

    /// Every name that a server of a pool has or had, with one of its ids: what is counted for all of them is the same.
    fn names(&self) -> Vec<(PoolId, ServerId, String)> {
        let mut names = BTreeMap::new();
        for (pool, of) in (0u16..).map(PoolId).zip(&self.topology.pools) {
            for id in (0..of.ids()).map(ServerId::at) {
                names.insert((pool, of.server(id).name.clone()), id);
            }
        }
        names.into_iter().map(|((pool, name), id)| (pool, id, name)).collect()
    }

    pub(super) fn sums(&self) -> Sums {
        let degraded = |failure: Failure| self.pool_sum(|pool| pool.degraded[failure as usize].value());
        let mut sums = Sums {
            requests: self.pool_sum(|pool| pool.requests.value()),
            refused: self.pool_sum(|pool| pool.refused_requests.value()),
            degraded: Failure::ALL.iter().map(|failure| degraded(*failure)).sum(),
            server_memory: degraded(Failure::ServerMemory),
            too_large: degraded(Failure::TooLarge),
            no_memory: degraded(Failure::NoMemory),
            forward_error: self.pool_sum(|pool| pool.forward_error.value()),
            ..Sums::default()
        };
        for worker in self.topology.counters.iter() {
            for (pool, id, _) in self.names() {
                let server = worker.server(pool, id);
                sums.responses += server.responses();
                sums.late += server.outcomes[Outcome::Late as usize].value();
                sums.joined += server.joined.value();
                sums.own += server.outcomes[Outcome::Own as usize].value();
            }
        }
        sums
    }

    /// With everything answered, the gauges of the servers' queues are back at zero.
    pub(super) fn check_queues(&self) -> Result<(), String> {
        for (pool, id, name) in self.names() {
            for worker in self.topology.counters.iter() {
                let server = worker.server(pool, id);
                let queues = [&server.in_queue, &server.in_queue_bytes, &server.out_queue, &server.out_queue_bytes];
                let queues = queues.map(softmiss::stats::counters::Gauge::value);
                if queues != [0; 4] {
                    return Err(format!("server {name} of {pool:?}: the gauges of its queues stand at {queues:?}"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_balance(&self) -> Result<(), String> {
        let sums = self.sums();
        let totals = self.totals;
        let fail = |what: &str| Err(format!("the counters do not add up: {what}: {sums:?}, {totals:?}"));
        if !self.bereft && sums.requests + sums.refused != totals.given {
            return fail("requests + refused = given");
        }
        let miss = self.plan.on_failure == OnFailure::Miss;
        if sums.forward_error > if miss { 0 } else { sums.degraded } {
            return fail("forward_error");
        }
        if self.plan.plain
            && !self.bereft
            && self.plan.memory_limit.is_none()
            && self.plan.faults
            && self.pool_sum(|pool| pool.near_stale.value()) == 0
        {
            let by_servers = sums.responses - sums.late - sums.own;
            let near = self.pool_sum(|pool| pool.near_hits.value());
            let accounted = totals.here + near + sums.degraded + by_servers;
            if sums.requests + sums.too_large + if miss { sums.server_memory } else { 0 } != accounted {
                return fail("requests = answered here + degraded + answered by servers");
            }
        }
        for (pool, id, index) in self.names() {
            let (mut requests, mut responses, mut connections) = (0u64, 0u64, 0u64);
            for worker in self.topology.counters.iter() {
                let counters = worker.server(pool, id);
                requests += counters.requests.value();
                responses += counters.responses();
                connections = connections.wrapping_add(counters.server_connections.value());
            }
            if self.servers.iter().all(|server| server.name != index || server.untouched) && requests != responses {
                return fail(&format!("server {index}: {requests} requests and {responses} responses"));
            }
            if responses > requests {
                return fail(&format!("server {index}: {requests} requests, yet {responses} responses"));
            }
            let is_its = |one: &&Connection| {
                let (worker, link, _) = one.id;
                self.engines[worker].link_server(link).0 == pool && self.servers[one.server].name == index
            };
            let open = self.connections.iter().filter(is_its).count() as u64;
            if open != connections {
                return fail(&format!("server {index} has {open} connections, and {connections} are counted"));
            }
        }
        if self.pool_sum(|pool| pool.client_connections.value()) != 0 {
            return fail("clients that are gone are counted");
        }
        Ok(())
    }
}

/// What an engine may hold over its limit: requests that it had accepted below the limit, answers too small to be worth
/// refusing, and the spare capacity of buffers, which grow by doubling.
pub(super) fn check_memory(engine: &Engine, plan: &Plan, clients: usize) -> Result<(), String> {
    if plan.memory_limit.is_none() {
        return Ok(());
    }
    // One that has not heard of another limit yet keeps to the one before.
    let limit = engine.topology().config.settings.memory_limit / plan.workers;
    let slack = limit + clients * (64 << 10);
    if engine.memory() > limit + slack {
        return Err(format!("{} bytes are held, the limit being {limit}", engine.memory()));
    }
    Ok(())
}

//! Settings that change while clients are served.
//!
//! Most are looked up in the topology whenever they are needed, so they hold from the moment at which a worker goes over
//! to it. Here is what was made of a setting once, and has to be made anew: limits, samples, timers.

use super::Engine;
use super::deadline::Timer;
use super::servers::Connection;
use crate::config::model::{PoolId, Settings};
use crate::time::Instant;
use crate::topology::Pool;

impl Engine {
    /// The process has other settings.
    #[cold]
    pub(super) fn apply_process_settings(&mut self, settings: &Settings) {
        self.memory.set_limit(settings.memory_limit);
        self.telemetry.hot.set_rate(settings.hot_keys);
        self.telemetry.slow.set_threshold(settings.slow_request);
    }

    /// A pool has other settings. Whether its keys may belong elsewhere by them.
    #[cold]
    pub(super) fn apply_pool_settings(&mut self, pool: PoolId, old: &Pool, next: &Pool, now: Instant) -> bool {
        if old.timeout != next.timeout || old.stall != next.stall {
            self.time_anew(pool, now);
        }
        let shares = |pool: &Pool| pool.servers.iter().map(|server| (server.id, server.weight)).collect::<Vec<_>>();
        let way = |pool: &Pool| (pool.hash, pool.hash_tag, pool.distribution);
        if shares(old) != shares(next) || way(old) != way(next) {
            self.pools[pool.index()].circle = next.circle.clone();
            return true;
        }
        if old.rejoin != next.rejoin {
            self.prepare_failover(pool, now);
        }
        old.on_eject != next.on_eject
    }

    /// Timers that were set by another `timeout`, or for want of one not at all, are set anew.
    fn time_anew(&mut self, pool: PoolId, now: Instant) {
        let clients: Vec<_> = self.clients.iter().filter(|(_, one)| one.pool() == pool).map(|(id, _)| id).collect();
        // Each looks what is due, and sets the next.
        clients.into_iter().for_each(|id| self.timers.set(now, Timer::Session(id)));
        let waits = |one: &Connection| one.pool == pool && (one.is_opening() || !one.queue.in_flight.is_empty());
        let waiting: Vec<_> = self.servers.iter().filter(|(_, one)| waits(one)).map(|(id, _)| id).collect();
        waiting.into_iter().for_each(|id| self.arm_link(id, now));
    }
}

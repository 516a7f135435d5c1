//! Settings that change while clients are served.
//!
//! Most are looked up in the topology whenever they are needed, so they hold from the moment at which a worker goes over
//! to it. Here is what was made of a setting once, and has to be made anew: limits, samples, timers.

use super::Engine;
use super::chore::Chore;
use super::clients::session::Session;
use super::servers::Connection;
use crate::config::model::{PoolId, Settings};
use crate::ring;
use crate::time::Instant;
use crate::topology::Pool;

impl Engine {
    /// The process has other settings.
    #[cold]
    pub(super) fn apply_process_settings(&mut self, settings: &Settings, now: Instant) {
        if self.memory.set_limit(settings.memory_limit) {
            self.put_off(Chore::Weigh(0), now);
        }
        self.telemetry.hot.set_rate(settings.hot_keys);
        self.telemetry.slow.set_threshold(settings.slow_request);
    }

    /// A pool has other settings. Whether its keys may belong elsewhere by them.
    #[cold]
    pub(super) fn apply_pool_settings(&mut self, pool: PoolId, old: &Pool, next: &Pool, now: Instant) -> bool {
        if old.timeout != next.timeout || old.stall != next.stall {
            self.put_off(Chore::Retime(pool, 0), now);
            self.retime_links(pool, now);
        }
        self.begin_warmup(pool, next, now);
        let ids = |pool: &Pool| pool.members().collect::<Vec<_>>();
        if ids(old) != ids(next) || !ring::is_alike(old, next) {
            self.pools[pool.index()].circle = next.circle.clone();
            return true;
        }
        if old.rejoin != next.rejoin {
            self.prepare_failover(pool, now);
        }
        old.on_eject != next.on_eject
    }

    /// Sets anew the timers of a pool's clients, from a place on: they were set by another `timeout`, or for want of one not at
    /// all. Says how many steps that took.
    pub(super) fn retime_on(&mut self, pool: PoolId, from: usize, budget: usize, now: Instant) -> usize {
        let end = self.clients.places().min(from.saturating_add(budget));
        for place in from..end {
            let is_timed = |session: &Session| session.pool() == pool && session.requests.is_timed();
            if let Some((id, _)) = self.clients.at(place).filter(|(_, session)| is_timed(session)) {
                self.wake_session(id, now); // it looks what is due, and sets the next
            }
        }
        if end < self.clients.places() {
            self.put_off(Chore::Retime(pool, end), now);
        }
        end.saturating_sub(from)
    }

    /// As [`Engine::retime_on`], for the connections of a pool.
    fn retime_links(&mut self, pool: PoolId, now: Instant) {
        let waits = |one: &Connection| one.is_opening() || one.listens() || !one.queue().is_empty();
        let waiting = self.servers.iter().filter(|(_, one)| one.pool() == pool && waits(one));
        let waiting: Vec<_> = waiting.map(|(id, _)| id).collect();
        waiting.into_iter().for_each(|id| self.arm_link(id, now));
    }

    /// Holds clients to another `memory_limit`, from a place on. Says how many steps that took.
    pub(super) fn weigh_on(&mut self, from: usize, budget: usize, now: Instant) -> usize {
        let end = self.clients.places().min(from.saturating_add(budget));
        let limits = *self.memory.limits();
        for place in from..end {
            let Some(id) = self.clients.at(place).map(|(id, _)| id) else { continue };
            let Some(session) = self.session(id) else { continue };
            session.set_output_limit(limits.output);
            if (session.holding.charged() > limits.fair) != session.holding.is_hoarder() {
                self.note_hoard(id);
            }
        }
        if end < self.clients.places() || !self.cut_off_to_fit() {
            self.put_off(Chore::Weigh(end), now);
        }
        end.saturating_sub(from).max(1) // to look who has to go is a step as well
    }
}

#[cfg(test)]
mod tests;

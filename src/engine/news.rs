//! News of servers: what one worker finds out goes to the registry, and what the registry says decides who is asked.

use super::chore::Chore;
use super::servers::ticket::Marks;
use super::{Effect, Engine, Notice, pool_id, server_id};
use crate::config::model::{OnEject, PoolId, ServerId};
use crate::failure::Failure;
use crate::health::Verdict;
use crate::health::maintenance::RoutingState;
use crate::time::Instant;

/// Which of a server's connections are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    All,
    /// Those on which it is asked nothing: the server is drained or leaves, and what it was asked it may answer, also where
    /// the connection for that is still being opened.
    Unasked,
    /// Those that are not open.
    Unopened,
}

impl Engine {
    /// Tells the registry of a failure at `at`, and the operator if it was the last straw, or one of many in a row.
    pub(super) fn report(&mut self, pool: PoolId, server: ServerId, failure: Failure, at: Instant) {
        if self.registry.is_doubted(pool, server) {
            self.condemn(pool, server, at);
        }
        let verdict = self.registry.failed(pool, server, self.worker, failure, at);
        if let Verdict::Failing { failures, lasts, suppressed } = verdict {
            let notice = Notice::Failing { pool, server, failure, failures, lasts, suppressed };
            self.outputs.tell(notice);
        } else if let Verdict::Ejected { failures } = verdict {
            self.counters.pool(pool).server_ejects.add(1);
            self.counters.server(pool, server).ejections.add(1);
            self.outputs.tell(Notice::Ejected { pool, server, failure, failures });
            self.outputs.push(Effect::News);
        }
    }

    /// A server could not be reached at first, so it is to be flushed before anything of it is believed, what it may
    /// still answer on connections that are open included.
    #[cold]
    fn condemn(&mut self, pool: PoolId, server: ServerId, at: Instant) {
        for link in self.member(pool, server).links().to_vec() {
            if let Some(stream) = self.servers[link].stream_mut() {
                stream.condemn();
                self.arm_link(link, at);
            }
        }
    }

    /// The process ends: what is in flight is lost, and invalidations that were not confirmed stay pending.
    pub fn close(&mut self, now: Instant) {
        for pool in 0..self.pools.len() {
            for link in self.pools[pool].links() {
                self.fail_link(link, Failure::Ejected, now);
                self.abandon(link, Failure::Ejected, now);
            }
        }
    }

    /// Brings the rings up to date with the registry; nobody waits any longer for a server that is out.
    #[cold]
    pub(super) fn apply_news(&mut self, now: Instant) {
        self.version = self.registry.version();
        let is_new = self.published.version() != self.topology.version;
        let known = self.pools.len();
        let changed = if is_new { self.apply_topology(now) } else { Vec::new() };
        for index in 0..self.pools.len() {
            let pool = pool_id(index);
            let is_changed = changed.binary_search(&pool).is_ok();
            let routing = match self.is_over(pool) {
                true => vec![RoutingState::Left; self.pools[index].routing.len()],
                false => self.registry.routing(pool),
            };
            // Also of one that was out before: the operator may have set an earlier date for its probe. And one that was
            // restored here may have been ejected by another worker since, which looks like nothing at all.
            for (place, _) in routing.iter().enumerate().filter(|(_, routing)| **routing == RoutingState::Out) {
                self.schedule_probe(pool, server_id(place));
            }
            // Those that turned, with how they were routed and whether they were open; and those that something is pending on.
            let (mut turned, mut waiting) = (Vec::new(), Vec::new());
            let Self { registry, pools, outputs, .. } = &mut *self;
            let state = &mut pools[index];
            for (place, (((member, routing), before), flags)) in
                state.members.iter_mut().zip(&routing).zip(&state.routing).zip(registry.flags(pool)).enumerate()
            {
                if flags.ends_lingering {
                    outputs.push(Effect::EndLingering { pool, server: server_id(place) });
                }
                if routing != before {
                    turned.push((server_id(place), *before, member.is_open()));
                }
                member.set_open(*routing == RoutingState::Up && !flags.has_pending);
                if *routing == RoutingState::Up && flags.has_pending {
                    waiting.push(server_id(place));
                }
            }
            waiting.iter().for_each(|server| self.arm_invalidators(pool, *server, now));
            if turned.is_empty() && !is_changed && index < known {
                continue;
            }
            let live: Vec<bool> = routing.iter().map(|routing| *routing == RoutingState::Up).collect();
            let config = &self.topology.pools[index];
            let state = &mut self.pools[index];
            if config.on_eject == OnEject::Rehash || is_changed {
                let rehashes = config.on_eject == OnEject::Rehash;
                state.ring = if rehashes { state.circle.ring(config, &live) } else { config.home.clone() };
                state.ring_version = state.ring_version.wrapping_add(1);
            }
            state.live = live;
            state.routing = routing;
            self.prepare_failover(pool, now);
            let mut left = vec![false; self.pools[index].routing.len()];
            for (server, before, was_open) in turned {
                let routing = self.pools[index].routing[server.index()];
                if before == RoutingState::Left {
                    self.come_back(pool, server);
                }
                if routing == RoutingState::Up {
                    self.near_changes_all(pool); // what was read of it is from before it was away
                }
                // What waits for a connection that was to begin with what is pending does not go without that: of one that was
                // drained before, that was seen to then. And without a `timeout`, whoever takes a dead server away has those
                // go on who wait for it.
                let may_wait = was_open || before == RoutingState::Draining;
                let cut = match may_wait && self.timeout(pool).is_some() {
                    true => Cut::Unasked,
                    false => Cut::Unopened,
                };
                match (before, routing) {
                    (_, RoutingState::Left) => {
                        self.cut_off(pool, server, cut, now);
                        self.leave(pool, server, now);
                        left[server.index()] = true;
                    }
                    (RoutingState::Up, RoutingState::Draining) => self.cut_off(pool, server, cut, now),
                    (
                        RoutingState::Up | RoutingState::Draining | RoutingState::Left,
                        RoutingState::Out | RoutingState::Maintenance,
                    ) => {
                        self.cut_off(pool, server, Cut::All, now);
                        left[server.index()] = true;
                    }
                    _ => {}
                }
            }
            for server in waiting {
                // What its probe did not have to send.
                if self.probes && self.registry.has_pending(pool, server) {
                    self.remind(pool, server, now);
                }
            }
            if self.pools[index].redis {
                for server in (0..left.len()).map(server_id) {
                    if !self.pools[index].live[server.index()] {
                        self.close_spares(pool, server);
                    }
                }
            }
            for link in self.dedicated_to(pool, |server| left[server.index()]) {
                if !self.servers.has(link) {
                    continue; // its client has been cut off meanwhile
                }
                let connection = &self.servers[link];
                let stays = connection.queue().front().is_some_and(|ticket| ticket.is(Marks::STAYS));
                let comes_to_its_end = match self.pools[index].routing[connection.server().index()] {
                    RoutingState::Maintenance => self.can_end(link),
                    RoutingState::Left => self.may_finish(link),
                    RoutingState::Up | RoutingState::Draining | RoutingState::Out => false,
                };
                if stays || comes_to_its_end {
                    continue;
                }
                self.fail_link(link, Failure::Ejected, now);
            }
            if self.pools[index].redis && !std::mem::replace(&mut self.pools[index].moves, true) {
                self.put_off(Chore::Move(pool), now);
            }
        }
    }

    /// A server is out of the ring: those of its shared connections are given up, and what waits on them is answered by
    /// policy.
    fn cut_off(&mut self, pool: PoolId, server: ServerId, cut: Cut, now: Instant) {
        for link in self.member(pool, server).links().to_vec() {
            let connection = &self.servers[link];
            let stays = match cut {
                Cut::All => false,
                Cut::Unopened => connection.is_up(),
                Cut::Unasked => connection.is_up() || !connection.queue().is_empty() && connection.is_opening(),
            };
            if stays {
                continue;
            }
            self.fail_link(link, Failure::Ejected, now);
            self.abandon(link, Failure::Ejected, now);
            self.servers[link].silence.excuse(); // the probes are its test
        }
    }
}

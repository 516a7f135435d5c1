//! Servers that come and go: how a worker goes over from one topology to the next.
//!
//! Whoever stays keeps its place, and with it its connections. One that comes gets a place. From one that leaves, which one
//! that moves to another address does as well, everything goes elsewhere at once but for what is in flight on the
//! connections that all share: that is waited for, and each of them is closed when it has come. What clients have for
//! themselves there is lost or goes elsewhere as at an ejection. A pool that is served no longer answers what it has read
//! of its clients and hangs up; when the last of them has left, so have all its servers.

use std::sync::Arc;

use super::chore::Chore;
use super::ids::LinkId;
use super::memcache::Known;
use super::pool::Member;
use super::servers::{Connection, Probe, Purpose};
use super::{Engine, PoolState, pool_id, redis, server_id};
use crate::config::discovery::has_nobody;
use crate::config::model::{Address, PoolId, ServerId};
use crate::failure::Failure;
use crate::health::maintenance::RoutingState;
use crate::time::Instant;
use crate::topology::Topology;

/// What it costs to let go of a client, next to looking at it.
const DISMISSAL: usize = 20;

impl Engine {
    /// The pools and servers as this worker has them.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Where a link connects to. Of a link that is no more, where the next one at its place does.
    #[must_use]
    pub fn link_address(&self, link: LinkId) -> &Address {
        let (pool, server) = self.link_server(link);
        &self.topology.pool(pool).server(server).address
    }

    /// Whether the name of a link's server is followed: it is looked up in the background, and not for each connection.
    #[must_use]
    pub fn link_is_followed(&self, link: LinkId) -> bool {
        let (pool, _) = self.link_server(link);
        self.topology.pool(pool).discovery.interval.is_some()
    }

    /// Gives each pool and server that has none a place, and its connections.
    pub(super) fn add_servers(&mut self) {
        let topology = Arc::clone(&self.topology);
        self.stampede.switch(topology.pools.iter().filter_map(|pool| pool.stampede.as_ref()));
        self.near.switch(topology.pools.iter().map(|pool| pool.near.as_ref()));
        self.telemetry.hot.meet_all(self.stampede.is_on() || self.near.is_on());
        self.look_first();
        for (index, pool) in topology.pools.iter().enumerate() {
            let is_new = self.pools.len() == index;
            if is_new {
                self.pools.push(PoolState::new(pool));
            }
            let profile = redis::Profile { database: pool.redis.db, ..redis::Profile::default() };
            for server in (self.pools[index].members.len()..pool.ids()).map(server_id) {
                let mut add = |purpose| self.servers.add((pool_id(index), server), purpose, profile);
                let links = (0..pool.server_connections).map(|_| add(Purpose::Traffic)).collect();
                let probe = add(Purpose::Probe(Probe::default()));
                // Until it is seen what the registry says, the ring is what it was.
                let routing = if is_new { RoutingState::Up } else { RoutingState::Left };
                self.pools[index].add(Member::new(links, probe), routing);
            }
        }
    }

    /// Requests are looked at before they are carried out where that has a use.
    pub(super) fn look_first(&mut self) {
        self.looks_first = self.warmup.is_on() || self.stampede.is_on() || self.near.is_on();
    }

    /// Goes over to the newest topology. Returns the pools, in their order, whose keys belong elsewhere; what follows for those who have left
    /// or come is seen by what the registry says of them.
    #[cold]
    #[inline(never)]
    pub(super) fn apply_topology(&mut self, now: Instant) -> Vec<PoolId> {
        let next = self.published.current();
        let before = std::mem::replace(&mut self.topology, Arc::clone(&next));
        self.registry = Arc::clone(&next.registry);
        self.counters = Arc::clone(&next.counters[self.worker]);
        self.add_servers();
        if before.config.settings != next.config.settings {
            self.apply_process_settings(&next.config.settings, now);
        }
        let mut changed = Vec::new();
        for (index, (pool, old)) in next.pools.iter().zip(&before.pools).enumerate() {
            if self.apply_pool_settings(pool_id(index), old, pool, now) {
                changed.push(pool_id(index));
            }
            if has_nobody(old) && !has_nobody(pool) {
                self.registry.hand_on(pool, old.servers[0].id, now);
                for server in pool.members() {
                    if let Some(due) = self.registry.next_later(pool_id(index), server) {
                        self.time_flush(pool_id(index), server, due);
                    }
                }
            }
            for server in old.members().filter(|server| !pool.has(*server)) {
                // Whoever has its name now may be probed by another connection.
                self.fail_link(self.member(pool_id(index), server).probe(), Failure::NoResources, now);
            }
            if old.is_served() && !pool.is_served() {
                self.put_off(Chore::Dismiss(pool_id(index), 0), now);
            }
        }
        changed
    }

    /// Hears no more of a pool's clients, from one place on. Says how many steps that took.
    #[cold]
    pub(super) fn dismiss_on(&mut self, pool: PoolId, from: usize, budget: usize, now: Instant) -> usize {
        let (mut place, mut steps) = (from, 0);
        while steps < budget && place < self.clients.places() {
            steps += 1;
            if let Some((id, _)) =
                self.clients.at(place).filter(|(_, session)| session.pool() == pool && !session.input.has_ended())
            {
                steps += DISMISSAL;
                self.hear_no_more(id);
            }
            place += 1;
        }
        if place < self.clients.places() {
            self.put_off(Chore::Dismiss(pool, place), now);
        }
        steps
    }

    /// Whether a pool is served no longer, and has no clients left.
    pub(super) fn is_over(&self, pool: PoolId) -> bool {
        !self.topology.pool(pool).is_served() && self.counters.pool(pool).client_connections.value() == 0
    }

    /// The last client of a pool has left that is served no longer: so have its servers.
    #[cold]
    #[inline(never)]
    pub(super) fn left_with(&mut self) {
        self.apply_news(self.now);
        self.settle(self.now);
    }

    /// A server has left: its shared connections are closed as soon as nothing is in flight on them.
    pub(super) fn leave(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        self.member_mut(pool, server).version = Known::default();
        self.fail_link(self.member(pool, server).probe(), Failure::NoResources, now);
        for id in self.member(pool, server).links().to_vec() {
            let link = &mut self.servers[id];
            link.retire();
            self.close_left(id, now);
        }
    }

    /// Closes a connection to a server that has left, if nothing is in flight on it.
    #[cold]
    pub(super) fn close_left(&mut self, id: LinkId, now: Instant) {
        let link = &self.servers[id];
        if link.queue().is_empty() && link.is_up() {
            self.fail_link(id, Failure::Ejected, now);
        }
    }

    /// A server that had left is back.
    pub(super) fn come_back(&mut self, pool: PoolId, server: ServerId) {
        for link in self.pools[pool.index()].members[server.index()].links() {
            self.servers[*link].reinstate();
        }
    }

    /// Whether a link leads to a server that is there, or has something in flight to one that is not. For the checks.
    pub(super) fn is_in_place(&self, link: &Connection) -> bool {
        let has_left = self.pools[link.pool().index()].routing[link.server().index()] == RoutingState::Left;
        !has_left || link.may_be_left()
    }
}

#[cfg(test)]
mod tests;

//! Servers that come and go: how a worker goes over from one topology to the next.
//!
//! Whoever stays keeps its place, and with it its connections. One that comes gets a place. From one that leaves, which one
//! that moves to another address does as well, everything goes elsewhere at once but for what is in flight on the
//! connections that all share: that is waited for, and each of them is closed when it has come. What clients have for
//! themselves there is lost or goes elsewhere as at an ejection. A pool that is served no longer answers what it has read
//! of its clients and hangs up; when the last of them has left, so have all its servers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::failover::Failover;
use super::ids::LinkId;
use super::link::{Link, LinkState, Probe, Purpose};
use super::{Engine, Language, PoolState, pool_id, redis, server_id, session_id, stall, version};
use crate::config::model::{Address, PoolId, Protocol, ServerId};
use crate::failure::Failure;
use crate::health::maintenance::RoutingState;
use crate::time::Instant;
use crate::topology::{Pool, Topology};

impl PoolState {
    /// A pool of which no server has a place yet.
    fn new(pool: &Pool) -> Self {
        let redis = pool.protocol == Protocol::Redis;
        let single = pool.server_connections == 1;
        Self {
            redis,
            single,
            plain: single && !redis,
            ring: pool.home.clone(),
            circle: pool.circle.clone(),
            is_over: false,
            failover: Failover::None,
            ring_version: 0,
            live: Vec::new(),
            open: Vec::new(),
            routing: Vec::new(),
            all_live: true,
            links: Vec::new(),
            probes: Vec::new(),
            probe_timers: Vec::new(),
            flush_timers: Vec::new(),
            dedicated: 0,
            spares: Vec::new(),
            errands: Vec::new(),
            versions: Vec::new(),
            moves: false,
            follows: false,
            rate_limits: Vec::new(),
            strangers: [stall::RateLimit::default(); Language::COUNT],
            limits: [(None, 0); stall::TOLD.len()],
            cut_off: (None, 0),
        }
    }
}

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

    /// Gives each pool and server that has none a place, and its connections.
    pub(super) fn add_servers(&mut self) {
        let topology = Arc::clone(&self.topology);
        for (index, pool) in topology.pools.iter().enumerate() {
            let is_new = self.pools.len() == index;
            if is_new {
                self.pools.push(PoolState::new(pool));
            }
            let profile = redis::Profile { database: pool.redis.db, ..redis::Profile::default() };
            for server in (self.pools[index].live.len()..pool.ids()).map(server_id) {
                let mut add = |purpose| {
                    let id = LinkId::first(self.links.len());
                    self.links.push(Link { profile, ..Link::new(pool_id(index), server, purpose) });
                    id
                };
                let links = (0..pool.server_connections).map(|_| add(Purpose::Traffic)).collect();
                let probe = add(Purpose::Probe(Probe::default()));
                let state = &mut self.pools[index];
                state.links.push(links);
                state.probes.push(probe);
                // Until it is seen what the registry says, the ring is what it was.
                state.routing.push(if is_new { RoutingState::Up } else { RoutingState::Left });
                state.live.push(is_new);
                state.open.push(is_new);
                state.probe_timers.push(None);
                state.flush_timers.push(None);
                state.spares.push(VecDeque::new());
                state.errands.push(None);
                state.versions.push(version::Known::default());
                state.rate_limits.push([stall::RateLimit::default(); stall::Frequent::COUNT]);
            }
        }
    }

    /// Goes over to the newest topology. Returns the pools whose keys belong elsewhere; what follows for those who have left
    /// or come is seen by what the registry says of them.
    #[cold]
    #[inline(never)]
    pub(super) fn apply_topology(&mut self, now: Instant) -> Vec<PoolId> {
        let next = self.published.current();
        let before = std::mem::replace(&mut self.topology, Arc::clone(&next));
        self.registry = Arc::clone(&next.registry);
        self.counters = Arc::clone(&next.counters[self.worker]);
        self.add_servers();
        let mut changed = Vec::new();
        for (index, (pool, old)) in next.pools.iter().zip(&before.pools).enumerate() {
            let shares = |pool: &Pool| pool.servers.iter().map(|server| (server.id, server.weight)).collect::<Vec<_>>();
            if shares(pool) != shares(old) {
                self.pools[index].circle = pool.circle.clone();
                changed.push(pool_id(index));
            }
            for server in old.members().filter(|server| !pool.has(*server)) {
                // Whoever has its name now may be probed by another connection.
                self.fail_link(self.pools[index].probes[server.index()], Failure::NoResources, now);
            }
            if old.is_served() && !pool.is_served() {
                self.drain_pool(pool_id(index));
            }
        }
        changed
    }

    /// A pool is served no longer: its clients send no more, what has been read of them is answered.
    fn drain_pool(&mut self, pool: PoolId) {
        let clients = self.sessions.iter().filter(|(_, session)| session.pool == pool);
        for id in clients.map(|(index, session)| session_id(index, session)).collect::<Vec<_>>() {
            self.give_up_asking(id);
            self.hear_no_more(id);
        }
        self.pools[pool.index()].is_over = self.counters.pool(pool).client_connections.value() == 0;
    }

    /// A client of a pool that is served no longer has left. The servers have when the last one has.
    #[cold]
    #[inline(never)]
    pub(super) fn left_with(&mut self, pool: PoolId) {
        if self.counters.pool(pool).client_connections.value() == 0 {
            self.pools[pool.index()].is_over = true;
            self.apply_news(self.now);
        }
    }

    /// A server has left: its shared connections are closed as soon as nothing is in flight on them.
    pub(super) fn leave(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        self.pools[pool.index()].versions[server.index()] = version::Known::default();
        self.fail_link(self.pools[pool.index()].probes[server.index()], Failure::NoResources, now);
        for id in self.pools[pool.index()].links[server.index()].clone() {
            let link = &mut self.links[id.index()];
            link.leaves = true;
            // What it was to forget it is to forget if it is back.
            link.queue.unconfirmed.put_off();
            self.close_left(id, now);
        }
    }

    /// Closes a connection to a server that has left, if nothing is in flight on it.
    #[cold]
    pub(super) fn close_left(&mut self, id: LinkId, now: Instant) {
        let link = &self.links[id.index()];
        if link.queue.in_flight.is_empty() && matches!(link.state, LinkState::Up(_)) {
            self.fail_link(id, Failure::Ejected, now);
        }
    }

    /// A server that had left is back.
    pub(super) fn come_back(&mut self, pool: PoolId, server: ServerId) {
        for link in &self.pools[pool.index()].links[server.index()] {
            self.links[link.index()].leaves = false;
        }
    }

    /// Whether a link leads to a server that is there, or has something in flight to one that is not. For the checks.
    pub(super) fn is_in_place(&self, link: &Link) -> bool {
        let has_left = self.pools[link.pool.index()].routing[link.server.index()] == RoutingState::Left;
        match link.purpose {
            _ if !has_left || matches!(link.state, LinkState::Down { .. }) => true,
            Purpose::Traffic => link.is_up() && link.leaves && !link.queue.in_flight.is_empty(),
            Purpose::Free => true,
            Purpose::Probe(_) | Purpose::Spare(_) => false,
            Purpose::Dedicated(_) => !link.queue.in_flight.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{self, model::Config};
    use crate::engine::{Effect, Scripts, Setup};
    use crate::topology::Published;

    fn config(servers: &[u16]) -> Config {
        let lines: String = servers.iter().map(|port| format!("  - 10.0.0.1:{port}:1\n")).collect();
        let file = format!("pool:\n  listen: 127.0.0.1:1\n  redis: true\n  timeout: 400\n  servers:\n{lines}");
        config::parse("file", &file).expect("a good file").config
    }

    /// Carries out what is due up to a moment. The addresses that are connected to, and how many connections are closed.
    fn turn(engine: &mut Engine, now: Instant) -> (Vec<String>, usize) {
        let (mut opened, mut closed) = (Vec::new(), 0);
        engine.handle_timeout(now);
        while engine.next_timeout().is_some_and(|next| next <= now) || engine.has_effects() {
            engine.handle_timeout(now);
            while let Some(effect) = engine.poll_effect() {
                if let Effect::Connect { link, epoch } = effect {
                    opened.push(engine.link_address(link).to_string());
                    engine.link_connected(link, epoch, now);
                } else if let Effect::Disconnect { .. } = effect {
                    closed += 1;
                }
            }
        }
        engine.check_invariants().expect("all is in order");
        (opened, closed)
    }

    #[test]
    fn subscriptions_go_to_who_is_left_when_their_server_leaves() {
        let published = Arc::new(Published::new(config(&[1, 2]), 1));
        let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
        let setup = Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts };
        let mut engine = Engine::new(setup);
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let client = engine.client_connected(PoolId(0));
        engine.client_data(client, b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n", at(1));
        let (opened, _) = turn(&mut engine, at(2));
        let port = match opened.first().map(String::as_str) {
            Some("10.0.0.1:1") => 2,
            Some("10.0.0.1:2") => 1,
            other => panic!("{other:?}"),
        };
        published.publish(&config(&[port]), at(3)).expect("there are ids");
        assert_eq!(turn(&mut engine, at(4)), (Vec::new(), 1), "its connection is closed");
        assert_eq!(turn(&mut engine, at(300)), (vec![format!("10.0.0.1:{port}")], 0));
        // Nobody is left to serve: the client is let go of, and then the servers.
        published.publish(&Config { pools: Vec::new(), ..config(&[port]) }, at(301)).expect("there are ids");
        turn(&mut engine, at(302));
        let told = engine.client_output(client).len();
        engine.client_wrote(client, told, at(302));
        assert!(engine.client_status(client).finished);
        engine.client_gone(client, false);
        assert_eq!(turn(&mut engine, at(303)), (Vec::new(), 1));
    }
}

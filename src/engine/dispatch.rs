//! Which connection a request goes through: the key's server, and one of that server's links.

use super::Engine;
use super::degrade::Asked;
use super::link::{IN_FLIGHT_LIMIT, Link, LinkId, LinkState, Purpose, QUEUE_HARD_LIMIT, Ticket};
use super::redis::Flavor;
use super::session::{Route, Session, SessionId};
use crate::config::model::{PoolId, Protocol, ServerId};
use crate::failure::Failure;
use crate::proto::memcache::lifetime::Cap;
use crate::time::Instant;

impl Engine {
    /// The server that a key belongs to, and the bound on the lifetime of what is written there.
    ///
    /// A write that goes elsewhere than it would with all servers in the ring is noted with those that miss it.
    pub(super) fn target(
        &mut self,
        pool: PoolId,
        asked: Asked<'_>,
        marks: u8,
        key: &[u8],
        now: Instant,
    ) -> Result<(ServerId, Option<Cap>), Failure> {
        let random = self.next_random();
        loop {
            let state = &self.pools[pool.index()];
            let server = state.ring.route(key, random).ok_or(Failure::Ejected)?;
            if state.all_live {
                return Ok((server, None));
            }
            if !asked.verb.is_write() || self.note_absent(pool, server, asked, marks, key, now) {
                let away = self.pools[pool.index()].home.route(key, random) != Some(server);
                return Ok((server, if away { self.failover_cap(pool, now) } else { None }));
            }
            self.refresh(now); // one of them has come back in this very moment
        }
    }

    /// The link that a key's requests of a client go through, opened if need be.
    pub(super) fn link_for(
        &mut self,
        pool: PoolId,
        id: SessionId,
        key: &[u8],
        now: Instant,
    ) -> Result<(LinkId, ServerId), Failure> {
        let random = self.next_random();
        let server = self.pools[pool.index()].ring.route(key, random).ok_or(Failure::Ejected)?;
        Ok((self.link_to(pool, id, server, now)?, server))
    }

    /// The link to a server that a client's requests go through, opened if need be.
    ///
    /// All requests of one client for one server use the same link: on two, they could overtake each other.
    pub(super) fn link_to(
        &mut self,
        pool: PoolId,
        id: SessionId,
        server: ServerId,
        now: Instant,
    ) -> Result<LinkId, Failure> {
        if self.memory > self.memory_limit {
            return Err(Failure::NoMemory);
        }
        if !self.pools[pool.index()].live[server.index()] {
            return Err(Failure::Ejected); // with `on_eject: hold` its keys are still its own
        }
        let id = self.pick_link(pool, id, server, now);
        let link = &self.links[id.index()];
        if link.suspect {
            if matches!(link.state, LinkState::Down { not_before, .. } if not_before <= now) {
                self.start_connect(id, now); // it must have a test
            }
            return Err(Failure::Stalled);
        }
        if link.outbox.unwritten().len() > QUEUE_HARD_LIMIT || link.in_flight.len() >= IN_FLIGHT_LIMIT {
            return Err(Failure::QueueFull);
        }
        match link.state {
            LinkState::Up | LinkState::Connecting => {}
            LinkState::Down { not_before, failure } if now < not_before => return Err(failure),
            LinkState::Down { failure, .. } => {
                if !self.start_connect(id, now) {
                    return Err(failure);
                }
            }
        }
        Ok(id)
    }

    /// The link of a client for a server: the one that it uses, or the least busy.
    fn pick_link(&mut self, pool: PoolId, id: SessionId, server: ServerId, now: Instant) -> LinkId {
        let links = &self.pools[pool.index()].links[server.index()];
        if self.config.pools[pool.index()].protocol == Protocol::Redis {
            let flavor = self.session_ref(id).map(Session::flavor).unwrap_or_default();
            if !links.iter().any(|link| self.links[link.index()].flavor == flavor) {
                self.add_links(pool, server, flavor);
            }
        }
        let Some(session) = self.sessions.get_mut(id.index()) else {
            return self.pools[pool.index()].links[server.index()][0];
        };
        let flavor = session.flavor();
        let is_fit = |link: &&LinkId| session.redis.is_none() || self.links[link.index()].flavor == flavor;
        let links = &self.pools[pool.index()].links[server.index()];
        let first = links.iter().find(is_fit).copied().unwrap_or(links[0]);
        if self.config.pools[pool.index()].server_connections == 1 {
            return first;
        }
        let known = session.routes.iter().position(|route| route.server == server);
        if let Some(known) = known
            && session.routes[known].in_flight > 0
        {
            return session.routes[known].link;
        }
        let cost = |id: LinkId| {
            let link = &self.links[id.index()];
            match link.state {
                _ if link.suspect => usize::MAX - 1,
                LinkState::Up => link.in_flight.len(),
                LinkState::Connecting => link.in_flight.len() + 1,
                // A further connection is worth it when the others are busy.
                LinkState::Down { not_before, .. } if not_before <= now => 2,
                LinkState::Down { .. } => usize::MAX,
            }
        };
        let link = links.iter().filter(is_fit).copied().min_by_key(|link| cost(*link)).unwrap_or(first);
        let route = Route { server, link, in_flight: 0 };
        match known {
            Some(known) => session.routes[known] = route,
            None => session.routes.push(route),
        }
        link
    }

    /// Adds connections that are set to something else than those that there are, for the clients that need them.
    fn add_links(&mut self, pool: PoolId, server: ServerId, flavor: Flavor) {
        for _ in 0..self.config.pools[pool.index()].server_connections {
            let id = LinkId(u32::try_from(self.links.len()).unwrap_or(u32::MAX));
            self.links.push(Link { flavor, ..Link::new(pool, server, Purpose::Traffic) });
            self.pools[pool.index()].links[server.index()].push(id);
        }
    }

    /// What a ticket's session has in flight on a link, where a server has several.
    fn route_mut(&mut self, link: LinkId, ticket: Ticket) -> Option<&mut Route> {
        let id = SessionId { index: ticket.session, generation: ticket.generation };
        self.session(id)?.routes.iter_mut().find(|route| route.link == link)
    }

    /// A ticket goes out on a link.
    pub(super) fn enter_link(&mut self, link: LinkId, ticket: Ticket) {
        let pool = self.links[link.index()].pool;
        if self.config.pools[pool.index()].server_connections > 1
            && let Some(route) = self.route_mut(link, ticket)
        {
            route.in_flight += 1;
        }
    }

    /// A ticket has left its link.
    pub(super) fn leave_link(&mut self, link: LinkId, ticket: Ticket) {
        let pool = self.links[link.index()].pool;
        if self.config.pools[pool.index()].server_connections > 1
            && let Some(route) = self.route_mut(link, ticket)
        {
            route.in_flight = route.in_flight.saturating_sub(1);
        }
    }
}

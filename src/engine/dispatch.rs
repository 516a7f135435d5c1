//! Which connection a request goes through: the key's server, and one of that server's links.

use super::clients::routes::Routes;
use super::ids::{LinkId, SessionId};
use super::redis::Profile;
use super::request::Asked;
use super::servers::ticket::{Asker, Marks, Ticket};
use super::servers::{ConnectionState, IN_FLIGHT_LIMIT, Purpose, QUEUE_HARD_LIMIT};
use super::{Course, Engine, next_random};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::proto::memcache::lifetime::Cap;
use crate::time::Instant;

/// Why a request is not sent to the server of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// There is none.
    Failed(Failure),
    /// It waits until its key has been brought along from where it was.
    Waits,
}

impl Engine {
    /// The server that a key belongs to, and the bound on the lifetime of what is written there.
    ///
    /// A write that goes elsewhere than it would with all servers in the ring is noted with those that miss it.
    pub(super) fn target(
        &mut self,
        (pool, id): (PoolId, SessionId),
        asked: Asked<'_>,
        marks: Marks,
        key: &[u8],
        now: Instant,
    ) -> Result<(ServerId, Option<Cap>), Aside> {
        let state = &self.pools[pool.index()];
        let random = if state.ring.is_random() { next_random(&mut self.random) } else { 0 };
        match state.ring.route(key, random) {
            Some(server) if state.is_steady => Ok((server, None)),
            _ => self.target_among((pool, id), asked, marks, key, random, now),
        }
    }

    /// As [`Engine::target`], while servers are out.
    #[cold]
    fn target_among(
        &mut self,
        (pool, id): (PoolId, SessionId),
        asked: Asked<'_>,
        marks: Marks,
        key: &[u8],
        random: u32,
        now: Instant,
    ) -> Result<(ServerId, Option<Cap>), Aside> {
        if self.pools[pool.index()].warm.is_some() && !self.is_warm_key(id, asked, marks, key, now) {
            return Err(Aside::Waits);
        }
        loop {
            let state = &self.pools[pool.index()];
            let server = state.ring.route(key, random);
            if state.all_live {
                return server.map(|server| (server, None)).ok_or(Aside::Failed(Failure::Ejected));
            }
            if !asked.request.verb.is_write() || self.note_absent(pool, server, asked, marks, key, now) {
                let server = server.ok_or(Aside::Failed(Failure::Ejected))?;
                let away = self.topology.pools[pool.index()].home.route(key, random) != Some(server);
                return Ok((server, if away { self.failover_cap(pool, now) } else { None }));
            }
            self.refresh(now); // one of them has come back in this very moment
        }
    }

    /// The link to a server that a client's requests go through, opened if need be.
    ///
    /// All requests of one client for one server use the same link: on two, they could overtake each other.
    #[inline(always)]
    pub(super) fn link_to(
        &mut self,
        pool: PoolId,
        id: SessionId,
        server: ServerId,
        now: Instant,
    ) -> Result<LinkId, Failure> {
        if (self.memory.held() > self.memory.limits().all || self.memory.refuses) && self.is_short(id) {
            return Err(Failure::NoMemory);
        }
        let is_open = self.member(pool, server).is_open();
        if !is_open && !self.pools[pool.index()].live[server.index()] {
            return Err(Failure::Ejected); // with `on_eject: hold` its keys are still its own
        }
        let link = self.link_of(pool, id, server, now);
        let link = self.ready_link(link, now)?;
        if is_open { Ok(link) } else { self.put_behind_invalidations(link, now) }
    }

    /// A link that is to be used, opened if need be.
    #[inline(always)]
    pub(super) fn ready_link(&mut self, id: LinkId, now: Instant) -> Result<LinkId, Failure> {
        let link = &self.servers[id];
        let long = link.queue().unwritten() > QUEUE_HARD_LIMIT || link.queue().len() >= IN_FLIGHT_LIMIT;
        if link.is_up() && !link.silence.is_suspect() && !long {
            return Ok(id);
        }
        self.unready_link(id, long, now)
    }

    /// The link to a server that a client's requests go through.
    #[inline(always)]
    pub(super) fn link_of(&mut self, pool: PoolId, id: SessionId, server: ServerId, now: Instant) -> LinkId {
        let state = &self.pools[pool.index()];
        if state.plain { state.members[server.index()].first() } else { self.pick_link(pool, id, server, now) }
    }

    /// What can be done with a link that is not simply to be used.
    #[cold]
    fn unready_link(&mut self, id: LinkId, long: bool, now: Instant) -> Result<LinkId, Failure> {
        let link = &self.servers[id];
        if link.silence.is_suspect() {
            if matches!(*link.state(), ConnectionState::Down { not_before, .. } if not_before <= now) {
                self.start_connect(id, now); // it must have a test
            }
            return Err(Failure::Stalled);
        }
        if long && link.is_full() {
            return Err(Failure::QueueFull);
        }
        match *link.state() {
            ConnectionState::Up(_) => {}
            // Nothing is written yet, which is when it would be counted.
            ConnectionState::Connecting | ConnectionState::Handshaking(_) => self.charge_link(id),
            ConnectionState::Down { not_before, failure } if now < not_before => return Err(failure),
            ConnectionState::Down { failure, .. } => {
                if !self.start_connect(id, now) {
                    return Err(failure);
                }
            }
        }
        Ok(id)
    }

    /// The link of a client for a server: the one that it uses, or the least busy.
    fn pick_link(&mut self, pool: PoolId, id: SessionId, server: ServerId, now: Instant) -> LinkId {
        let Some(profile) = self.clients.get(id).map(|session| session.redis().map(|it| it.profile())) else {
            return self.member(pool, server).first();
        };
        let first = match self.fit_link(pool, server, profile) {
            Some(first) => first,
            None => {
                self.add_links(pool, server, profile.unwrap_or_default());
                let link = self.fit_link(pool, server, profile);
                link.unwrap_or_else(|| self.member(pool, server).first())
            }
        };
        if self.pools[pool.index()].single { first } else { self.least_busy(pool, id, server, profile, first, now) }
    }

    /// A server's first link that is set as needed; any is where it does not matter.
    #[inline]
    pub(super) fn fit_link(&self, pool: PoolId, server: ServerId, profile: Option<Profile>) -> Option<LinkId> {
        let links = self.member(pool, server).links();
        links.iter().copied().find(|link| profile.is_none_or(|profile| self.servers[*link].profile() == profile))
    }

    /// The link set as needed that a client uses for a server while it has something in flight there, else the least busy.
    fn least_busy(
        &mut self,
        pool: PoolId,
        id: SessionId,
        server: ServerId,
        profile: Option<Profile>,
        first: LinkId,
        now: Instant,
    ) -> LinkId {
        let Some(session) = self.clients.get_mut(id) else { return first };
        let is_fit = |link: LinkId| profile.is_none_or(|profile| self.servers[link].profile() == profile);
        if let Some(used) = session.routes.in_use(server, is_fit) {
            return used;
        }
        let cost = |id: LinkId| {
            let link = &self.servers[id];
            match *link.state() {
                _ if link.silence.is_suspect() => usize::MAX - 1,
                ConnectionState::Up(_) if link.is_long() => link.queue().len().max(IN_FLIGHT_LIMIT),
                ConnectionState::Up(_) => link.queue().len(),
                ConnectionState::Connecting | ConnectionState::Handshaking(_) => link.queue().len() + 1,
                // A further connection is worth it when the others are busy.
                ConnectionState::Down { not_before, .. } if not_before <= now => 2,
                ConnectionState::Down { .. } => usize::MAX,
            }
        };
        let links = self.pools[pool.index()].members[server.index()].links().iter().copied();
        let link = links.filter(|link| is_fit(*link)).min_by_key(|link| cost(*link)).unwrap_or(first);
        session.routes.choose(server, link, is_fit);
        link
    }

    /// Adds connections that are set to something else than those that there are, for the clients that need them.
    pub(super) fn add_links(&mut self, pool: PoolId, server: ServerId, profile: Profile) {
        for _ in 0..self.topology.pools[pool.index()].server_connections {
            let id = self.servers.add((pool, server), Purpose::Traffic, profile);
            self.member_mut(pool, server).add_link(id);
        }
    }

    /// What a ticket's client has in flight where, if servers have several links.
    #[inline]
    fn routes_of(&mut self, link: LinkId, ticket: Ticket) -> Option<&mut Routes> {
        if self.pools[self.servers[link].pool().index()].single {
            return None;
        }
        Some(&mut self.session(ticket.session()?)?.routes)
    }

    /// A ticket goes out on a link.
    #[inline]
    pub(super) fn enter_link(&mut self, link: LinkId, ticket: Ticket) {
        if let Some(routes) = self.routes_of(link, ticket) {
            routes.enter(link);
        }
        if let Asker::Unheard(id) = ticket.asker {
            self.enter_unheard(id);
        }
    }

    #[inline(never)]
    fn enter_unheard(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.requests.enter_unheard();
        }
    }

    /// A ticket has left its link.
    #[inline(always)]
    pub(super) fn leave_link(&mut self, link: LinkId, ticket: Ticket) {
        if let Some(routes) = self.routes_of(link, ticket) {
            routes.leave(link);
        }
        if let Asker::Unheard(id) = ticket.asker {
            self.leave_unheard(id);
        }
    }

    #[inline(never)]
    fn leave_unheard(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let (goes_on, is_last) = (session.requests.leave_unheard(), !session.requests.may_have_unheard());
        if goes_on {
            self.clients.resume_soon(id);
        }
        if is_last && self.course == Course::HandsOver {
            self.touch_session(id); // it may leave
        }
    }
}

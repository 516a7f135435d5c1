//! Ending what waits on a connection to a server: the server is told on another one (`CLIENT UNBLOCK`), by the number that
//! it has for the connection, which it is asked for before anything waits there.

use std::time::Duration;

use super::Profile;
use super::dedicated::Use;
use super::follow::waiting_request;
use super::waiting::{Name, Unblocked};
use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::pool::Member;
use crate::engine::servers::Dedicated;
use crate::engine::servers::ticket::{Asker, Intent, Marks, Ticket};
use crate::engine::{Engine, server_id};
use crate::failure::Failure;
use crate::health::maintenance::RoutingState;
use crate::proto::resp::encode;
use crate::proto::resp::reply::{self, Reply};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// How long a server that is out of the ring may take to end what waits there, in a pool without a `timeout`.
const PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Something is about to wait on a connection: sees to it that the server can be told to end it. It is asked once what
    /// it calls the connection.
    pub(super) fn learn_name(&mut self, id: LinkId, now: Instant) {
        let Some(own) = self.servers[id].dedicated_mut() else { return };
        if own.waiting.name == Name::Unasked {
            own.waiting.name = Name::Asked;
            let name = (Intent::Name, Verb::Query, Marks::NONE);
            self.go(id, name, now, |out| encode::words(out, &[b"CLIENT", b"ID"]));
        }
    }

    /// A server has said what it calls a connection.
    #[cold]
    pub(in crate::engine) fn heard_name(&mut self, id: LinkId, response: &[u8]) {
        let name = number(response).map_or(Name::Withheld, Name::Told);
        if self.servers[id].is_called(name) {
            self.end_waiting(id, self.servers[id].silence.since());
        }
    }

    /// A server has said what became of the request to end what waits on a connection.
    #[cold]
    pub(in crate::engine) fn heard_of_waiting(&mut self, of: LinkId, response: &[u8]) {
        if self.servers.has(of)
            && let Some(own) = self.servers[of].dedicated_mut()
        {
            own.waiting.ending = false;
            if number(response).is_none() {
                own.waiting.name = Name::Withheld;
            }
        }
    }

    /// What became of the request to end what waits on a connection will not be heard: it is made again.
    #[cold]
    pub(in crate::engine) fn unheard_of_waiting(&mut self, of: LinkId) {
        if self.servers.has(of)
            && let Some(own) = self.servers[of].dedicated_mut()
        {
            own.waiting.ending = false;
        }
    }

    /// Has the server end what waits on a connection to it, and looks later whether it has.
    pub(super) fn end_waiting(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        let Some(own) = link.dedicated_mut() else { return };
        let live = self.pools[pool.index()].live[server.index()];
        if own.waiting.name == Name::Withheld {
            if matches!(
                self.pools[pool.index()].routing[server.index()],
                RoutingState::Maintenance | RoutingState::Left
            ) {
                self.fail_link(id, Failure::Ejected, now);
            }
            return;
        }
        let since = *own.waiting.since.get_or_insert(now);
        let (owner, waiting) = (own.owner, own.waiting);
        self.follow_later(pool, now);
        let patience = self.timeout(pool).unwrap_or(PATIENCE);
        if !live && now >= since + patience {
            return self.fail_link(id, Failure::Ejected, now); // a server that says nothing to that hangs
        }
        let Name::Told(number) = waiting.name else { return };
        if !waiting.ending
            && let Some(way) = self.way_to_end(owner, (pool, server), now)
        {
            let reason: &[u8] = if waiting.unblocked == Some(Unblocked::Refused) { b"ERROR" } else { b"TIMEOUT" };
            self.order_end(id, number, way, reason, now);
        }
    }

    /// Asks a server to end what waits on a connection that it calls by this number.
    pub(super) fn order_end(&mut self, id: LinkId, number: u64, way: LinkId, reason: &[u8], now: Instant) {
        if let Some(own) = self.servers[id].dedicated_mut() {
            (own.waiting.leaves, own.waiting.ending) = (true, true);
        }
        let number = number.to_string();
        self.go(way, (Intent::End(id), Verb::Query, Marks::NONE), now, |out| {
            encode::words(out, &[b"CLIENT", b"UNBLOCK", number.as_bytes(), reason]);
        });
    }

    /// Has the server end what a client waits for, as if its time were over or with an error: the client gets what the server
    /// says, which may be what had just come. That is seen to until it is so: what the server has not read yet cannot be
    /// ended, and its key may move meanwhile. `false` if the client does not wait (any
    /// more), or its server ends nothing.
    #[cold]
    pub(super) fn unblock(&mut self, id: SessionId, how: Unblocked, now: Instant) -> bool {
        let own = self.redis(id).map(|client| client.dedicated.clone()).unwrap_or_default();
        for link in own {
            let waits = self.own_link(id, link).is_some_and(|own| waiting_request(own).is_some());
            let Some(Dedicated { waiting, .. }) = self.servers[link].dedicated_mut() else { continue };
            if !waits || waiting.unblocked.is_some() || matches!(waiting.name, Name::Unasked | Name::Withheld) {
                continue;
            }
            (waiting.leaves, waiting.unblocked) = (true, Some(how));
            self.end_waiting(link, now);
            return true;
        }
        false
    }

    /// A connection on which a server can be told something now: one that all share, or else one of the client's own.
    pub(super) fn way_to_end(&mut self, owner: SessionId, to: (PoolId, ServerId), now: Instant) -> Option<LinkId> {
        let (pool, server) = to;
        let links = self.member(pool, server).links();
        let is_open = |id: &LinkId| {
            let link = &self.servers[*id];
            link.is_up() && !link.silence.is_suspect()
        };
        if let Some(open) = links.iter().copied().find(is_open) {
            return Some(open);
        }
        if self.pools[pool.index()].live[server.index()] {
            let first = links[0];
            return self.ready_link(first, now).ok();
        }
        // One for all that wait there, beyond the limit if that is reached: it ends what is counted.
        let errand = self.member(pool, server).errand;
        if let Some(open) = errand.filter(|id| self.is_errand(*id, to)) {
            return Some(open);
        }
        let own = self.usable_own(owner, server, Profile::default(), Use::Ask);
        let way = own.unwrap_or_else(|| {
            let way = self.open_dedicated(owner, to, Profile::default(), now);
            if let Some(client) = self.redis(owner) {
                client.dedicated.push(way);
            }
            way
        });
        self.member_mut(pool, server).errand = Some(way);
        Some(way)
    }

    /// Whether a connection to a server that is out of the ring is still the one on which it is told to end what waits there.
    pub(super) fn is_errand(&self, id: LinkId, (pool, server): (PoolId, ServerId)) -> bool {
        let Some(link) = self.servers.get(id) else { return false };
        let carries = |ticket: Ticket| matches!(ticket.asker, Asker::Proxy(Intent::End(_)));
        (link.pool(), link.server()) == (pool, server) && !link.is_down() && link.queue().back().is_some_and(carries)
    }

    /// How many of a pool's connections are beyond the limit, because they end what waits on others.
    pub(super) fn errands(&self, pool: PoolId) -> usize {
        let members = &self.pools[pool.index()].members;
        let is_open = |(server, member): &(usize, &Member)| {
            member.errand.is_some_and(|id| self.is_errand(id, (pool, server_id(*server))))
        };
        members.iter().enumerate().filter(is_open).count()
    }
}

/// The number that a server answers with.
fn number(response: &[u8]) -> Option<u64> {
    if let Reply::Integer(number) = reply::read(response) { u64::try_from(number).ok() } else { None }
}

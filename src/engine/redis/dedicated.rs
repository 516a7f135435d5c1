//! Server connections of one client's own, for requests that would hold up everybody else's on a shared one: those that
//! wait for something to happen, watches, and subscriptions.
//!
//! They are opened when they are needed, given back when nothing more is to come there ([`spare`](super::spare)), and closed
//! with a client that leaves before, so that nothing is ever popped from a list for a client that has gone. The request's
//! own waiting time is added to its deadline.

use super::Profile;
use super::call::{Call, Performed};
use super::keyed::CROSS_SLOT;
use crate::config::model::{PoolId, ServerId};
use crate::engine::fault::told_of;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::servers::Connection;
use crate::engine::servers::queue::Queue;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::engine::{Effect, Engine};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::plan::Blocking;
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

/// What a client wants a connection of its own for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Requests, and the answers to them.
    Ask,
    /// To hear messages.
    Listen,
}

/// How long a request says that it may wait.
pub(super) fn patience(blocking: Blocking, args: Args<'_>) -> Patience {
    let seconds = |text: &[u8]| match std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()) {
        Some(0.0) => Patience::Endless,
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_or(Patience::None, Patience::Bounded),
        None => Patience::None,
    };
    let millis = |text: &[u8]| match Engine::number(text) {
        Some(0) => Patience::Endless,
        Some(millis) => u64::try_from(millis).map_or(Patience::None, |ms| Patience::Bounded(Duration::from_millis(ms))),
        None => Patience::None,
    };
    match blocking {
        Blocking::Last => seconds(args.get(args.len() - 1)),
        Blocking::First => seconds(args.get(1)),
        Blocking::LastMillis => millis(args.get(args.len() - 1)),
        Blocking::Option => block_place(args).map_or(Patience::Absent, |place| millis(args.get(place))),
    }
}

/// The place behind the word `BLOCK` of `XREAD` or `XREADGROUP`, if it is there as an option: groups, consumers and streams
/// may have that name as well.
pub(super) fn block_place(args: Args<'_>) -> Option<usize> {
    let mut place = 1;
    while place < args.len() {
        let is = |option: &[u8]| args.get(place).eq_ignore_ascii_case(option);
        if is(b"streams") {
            return None;
        }
        if is(b"block") {
            return Some(place + 1);
        }
        place += match () {
            () if is(b"group") => 3,
            () if is(b"count") || is(b"claim") => 2,
            () => 1,
        };
    }
    None
}

/// How long a request may wait for what it asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Patience {
    /// It does not wait at all.
    Absent,
    /// It says something that the server will refuse.
    None,
    Bounded(Duration),
    Endless,
}

impl Patience {
    /// From when on the time of a request counts that may wait so long.
    pub(super) fn start(self, now: Instant) -> Instant {
        match self {
            Self::Absent | Self::None => now,
            Self::Bounded(span) => now + span,
            Self::Endless => Instant::NEVER,
        }
    }
}

impl Engine {
    /// Carries out a request that may wait; nothing else of the client is in flight.
    pub(super) fn blocking(&mut self, id: SessionId, call: Call<'_>, blocking: Blocking, now: Instant) -> Performed {
        let patience = patience(blocking, call.args);
        if patience == Patience::Absent {
            return self.keyed(id, call, now);
        }
        let pool = call.pool;
        let mut list = KeyList::default();
        let found = keys::keys(call.command, call.args, &mut list);
        let mut keys = list.iter().take_while(|_| found.is_ok()).map(|place| call.args.get(place));
        let server = match keys.next() {
            Some(key) => {
                if !self.are_of_one_server(id, call, key, keys) {
                    self.refuse_request(id, CROSS_SLOT);
                    return Performed::Done;
                }
                self.pools[pool.index()].ring.route(key, 0)
            }
            None => self.any_server(pool), // it contradicts itself: let a server say how
        };
        let (mut asked, marks) = self.asked(id, call);
        asked.request.started = patience.start(now);
        match server.ok_or(Failure::Ejected).and_then(|server| self.dedicate(id, pool, server, Use::Ask, now)) {
            Ok(link) => {
                self.learn_name(link, now);
                self.enqueue_raw(id, asked, marks | Marks::ONCE | Marks::WAITS, link, call.raw, now);
                self.wait_alone(id);
            }
            Err(Failure::NoDedicated) => self.refuse_connection(id),
            Err(failure) => {
                asked.request.started = call.started;
                if self.ends_waiting(id, failure) {
                    self.hang_up_waiting(id, server, failure);
                } else {
                    self.answer_degraded(id, asked, server, failure);
                }
            }
        }
        Performed::Done
    }

    /// A connection to a server that is the client's own: one that it has and does not use, or another. The one that
    /// watches for it can carry its other requests, but never hears messages: then nothing else is understood on it.
    pub(super) fn dedicate(
        &mut self,
        id: SessionId,
        pool: PoolId,
        server: ServerId,
        wanted: Use,
        now: Instant,
    ) -> Result<LinkId, Failure> {
        if !self.pools[pool.index()].live[server.index()] {
            return Err(Failure::Ejected);
        }
        let Some(profile) = self.session_ref(id).map(|session| session.profile()) else { return Err(Failure::Closed) };
        // It could show what somebody was told that it has forgotten.
        let awaits_flush = || self.registry.awaits_flush(pool, server, Some(profile.database));
        if wanted == Use::Ask && (awaits_flush() || self.refuses_to_forget((pool, server), now)) {
            return Err(Failure::Stalled);
        }
        let link = self.dedicate_as(id, (pool, server), profile, wanted, now)?;
        if wanted == Use::Ask
            && self.registry.has_pending(pool, server)
            && let Err(failure) = self.catch_up(link, now)
        {
            self.close_dedicated(id, link);
            return Err(failure);
        }
        Ok(link)
    }

    /// As [`Engine::dedicate`], of a connection that is set up like this, be the server in the ring or not.
    pub(super) fn dedicate_as(
        &mut self,
        id: SessionId,
        (pool, server): (PoolId, ServerId),
        profile: Profile,
        wanted: Use,
        now: Instant,
    ) -> Result<LinkId, Failure> {
        if self.memory.held() > self.memory.limits().all && self.is_short(id) {
            return Err(Failure::NoMemory);
        }
        if let Some(link) = self.usable_own(id, server, profile, wanted) {
            return Ok(link);
        }
        if let Some(link) = self.take_spare(id, (pool, server), profile) {
            if let Some(client) = self.redis(id) {
                client.dedicated.push(link);
            }
            return Ok(link);
        }
        let limit = self.topology.pools[pool.index()].redis.dedicated_connections;
        let taken = self.pools[pool.index()].dedicated;
        if taken >= limit
            && taken.saturating_sub(self.leaving(id) + self.errands(pool)) >= limit
            && !self.close_a_spare(pool)
        {
            return Err(Failure::NoDedicated);
        }
        let link = self.open_dedicated(id, (pool, server), profile, now);
        if let Some(client) = self.redis(id) {
            client.dedicated.push(link);
        }
        Ok(link)
    }

    /// Opens a connection to a server for one client.
    pub(in crate::engine) fn open_dedicated(
        &mut self,
        id: SessionId,
        (pool, server): (PoolId, ServerId),
        profile: Profile,
        now: Instant,
    ) -> LinkId {
        let link = self.servers.add_dedicated(id, (pool, server), profile, now);
        self.pools[pool.index()].dedicated += 1;
        self.start_connect(link, now);
        link
    }

    /// How many of a client's own connections are about to be closed.
    #[cold]
    fn leaving(&self, id: SessionId) -> usize {
        let own = self.client(id).map(|client| &client.dedicated);
        let leaves = |link: &&LinkId| {
            let link = &self.servers[**link];
            link.leaves() && link.queue().is_free()
        };
        own.map_or(0, |own| own.iter().filter(leaves).count())
    }

    /// A connection to a server that a client has and does not use at the moment.
    pub(super) fn usable_own(&self, id: SessionId, server: ServerId, profile: Profile, wanted: Use) -> Option<LinkId> {
        let client = self.client(id)?;
        let watches = client.watch.as_ref().and_then(|watch| watch.link());
        client.dedicated.iter().copied().find(|own| {
            let Some(link) = self.own_link(id, *own) else { return false };
            let is_open = !link.is_down();
            let is_taken = link.listens() || link.leaves() || (wanted == Use::Listen && watches == Some(*own));
            let is_free = link.queue().is_free() && !is_taken;
            is_open && link.server() == server && link.profile() == profile && is_free
        })
    }

    /// Whether a client cannot have a connection of its own to each of these servers: it is refused before any is opened.
    pub(super) fn lacks_any(
        &self,
        id: SessionId,
        servers: impl Iterator<Item = ServerId>,
        profile: Profile,
        wanted: Use,
    ) -> bool {
        let Some(session) = self.session_ref(id) else { return false };
        let missing = servers.filter(|server| self.usable_own(id, *server, profile, wanted).is_none()).count();
        self.lacks_connections(session.pool(), missing)
    }

    /// A client has left that waits for something to happen: nothing is to happen for it any more.
    pub(in crate::engine) fn give_up_waiting(&mut self, id: SessionId) {
        self.release_dedicated(id);
        let counters = Arc::clone(&self.counters);
        let Some(session) = self.session(id) else { return };
        session.abandon(counters.pool(session.pool()));
        session.close();
        if let Some(client) = session.redis_mut() {
            client.drop_long();
        }
        self.charge_session(id);
    }

    /// Closes all of a client's own connections.
    pub(in crate::engine) fn release_dedicated(&mut self, id: SessionId) {
        let links = self.redis(id).map(|client| std::mem::take(&mut client.dedicated)).unwrap_or_default();
        links.into_iter().for_each(|link| self.close_dedicated(id, link));
        self.end_crawl(id);
    }

    /// Closes those on which an answer is awaited; it is not wanted any more, and what a server might give is not to be
    /// given to nobody.
    pub(in crate::engine) fn release_waiting(&mut self, id: SessionId) {
        let links = self.redis(id).map(|client| client.dedicated.clone()).unwrap_or_default();
        for link in links {
            if self.own_link(id, link).is_some_and(|link| !link.listens() && !link.queue().is_empty()) {
                self.close_dedicated(id, link);
            }
        }
    }

    /// A link that a client has kept the id of, if it still is that client's own.
    pub(in crate::engine) fn own_link(&self, owner: SessionId, id: LinkId) -> Option<&Connection> {
        self.servers.get(id).filter(|link| link.owner() == Some(owner))
    }

    /// Closes one of them.
    pub(in crate::engine) fn close_dedicated(&mut self, owner: SessionId, id: LinkId) {
        if self.own_link(owner, id).is_none() {
            return;
        }
        self.disown(owner, id);
        self.close_own(id);
    }

    /// Closes what was a client's own and is nobody's any more.
    pub(super) fn close_own(&mut self, id: LinkId) {
        let link = &self.servers[id];
        if link.is_down() {
            return self.recycle(id);
        }
        let (pool, server, was_up) = (link.pool(), link.server(), link.is_up());
        let reset = !link.is_spare();
        self.outputs.push(Effect::Disconnect { link: id, reset, lingers: None });
        self.count_closed(pool, server, Failure::Ejected, was_up);
        self.recycle(id);
    }

    /// A client has lost one of its own connections. What was watched there is not watched any more.
    fn disown(&mut self, owner: SessionId, id: LinkId) {
        let Some(client) = self.redis(owner) else { return };
        client.dedicated.retain(|link| *link != id);
        Self::unwatched(client, id);
    }

    /// Makes the place of a client's own connection free for another. The id is over.
    pub(super) fn recycle(&mut self, id: LinkId) {
        let link = &self.servers[id];
        let pool = link.pool();
        self.counters.server(pool, link.server()).outcomes[Outcome::Lost as usize].add(link.queue().len() as u64);
        self.pools[pool.index()].dedicated -= 1;
        let next = self.servers.release(id);
        self.charge_link(next);
    }

    /// A client's own connection has failed; `lost` is what was in flight on it, and `waiting` is what of that can be asked
    /// elsewhere.
    pub(in crate::engine) fn dedicated_failed(
        &mut self,
        id: LinkId,
        owner: SessionId,
        lost: &Queue,
        waiting: Option<(Ticket, Vec<u8>)>,
        failure: Failure,
        now: Instant,
    ) {
        let link = &self.servers[id];
        let (pool, server, listens) = (link.pool(), link.server(), link.listens());
        let database = link.profile().database;
        self.disown(owner, id);
        if listens {
            self.lost_subscriptions(owner, id, now);
        }
        self.recycle(id);
        for ticket in lost.tickets() {
            match &waiting {
                Some((waits, request)) if waits.asker == ticket.asker => {
                    self.ask_at_home((pool, server), *waits, request, now);
                }
                _ => {
                    let failure = told_of(failure, lost.is_unwritten(*ticket));
                    self.fail_ticket((pool, server, database), *ticket, b"", failure, now);
                }
            }
        }
        self.crawl_lost(owner, id, failure, now);
    }

    /// Each client's own connections are its own, and all of them are counted. For the checks.
    pub(in crate::engine) fn check_dedicated(&self) -> Result<(), String> {
        let mut owned = vec![0; self.pools.len()];
        for (id, session) in self.clients.iter() {
            let index = id.index();
            let crawls = session.crawl().and_then(|crawl| crawl.link());
            owned[session.pool().index()] += usize::from(crawls.is_some());
            if crawls.is_some_and(|link| self.own_link(id, link).is_none()) {
                return Err(format!("session {index}: lists keys on a connection of somebody else's"));
            }
            let Some(client) = session.redis() else { continue };
            owned[session.pool().index()] += client.dedicated.len();
            if !client.dedicated.iter().all(|link| self.own_link(id, *link).is_some()) {
                return Err(format!("session {index}: has a connection of somebody else's"));
            }
            let watches = client.watch.as_ref().and_then(|watch| watch.link());
            if watches.is_some_and(|link| !client.dedicated.contains(&link)) {
                return Err(format!("session {index}: watches on a connection that it does not have"));
            }
        }
        for (index, (pool, owned)) in self.pools.iter().zip(owned).enumerate() {
            let spares = self.check_spares(crate::engine::pool_id(index))?;
            if pool.dedicated != owned + spares {
                let counted = pool.dedicated;
                return Err(format!(
                    "pool {index}: {counted} connections are counted, clients have {owned}, {spares} nobody"
                ));
            }
        }
        Ok(())
    }

    /// The clients' own connections to servers of a pool that `are` says.
    pub(in crate::engine) fn dedicated_to(&self, pool: PoolId, are: impl Fn(ServerId) -> bool) -> Vec<LinkId> {
        if self.pools[pool.index()].dedicated == 0 {
            return Vec::new();
        }
        let is_own = |link: &Connection| link.dedicated().is_some() && link.pool() == pool && are(link.server());
        self.servers.iter().filter(|(_, link)| is_own(link)).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::resp::request;

    #[test]
    fn what_a_request_says_of_waiting() {
        let of = |blocking, line: &[u8]| {
            let mut out = Vec::new();
            crate::proto::resp::encode::command(
                &mut out,
                line.split(|byte| *byte == b' ').collect::<Vec<_>>().into_iter(),
            );
            patience(blocking, request::args(&out, &mut Vec::new()))
        };
        let millis = |ms| Patience::Bounded(Duration::from_millis(ms));
        assert_eq!(of(Blocking::Last, b"BLPOP k 1.5"), millis(1500));
        assert_eq!(of(Blocking::Last, b"BLPOP k 0"), Patience::Endless);
        assert_eq!(of(Blocking::Last, b"BLPOP k -1"), Patience::None);
        assert_eq!(of(Blocking::First, b"BLMPOP 2 1 k LEFT"), millis(2000));
        assert_eq!(of(Blocking::Option, b"XREAD COUNT 1 block 20 STREAMS k 0"), millis(20));
        assert_eq!(of(Blocking::Option, b"XREAD STREAMS block 0"), Patience::Absent);
        assert_eq!(of(Blocking::Option, b"XREADGROUP GROUP streams c BLOCK 0 STREAMS s >"), Patience::Endless);
        assert_eq!(of(Blocking::Option, b"XREADGROUP GROUP block c BLOCK 7 STREAMS s >"), millis(7));
        assert_eq!(of(Blocking::Option, b"XREADGROUP COUNT 1 GROUP g block STREAMS s >"), Patience::Absent);
        assert_eq!(of(Blocking::LastMillis, b"WAIT 1 20"), millis(20));
        assert_eq!(of(Blocking::LastMillis, b"WAIT 1 0"), Patience::Endless);
        assert_eq!(of(Blocking::LastMillis, b"WAIT 1 -1"), Patience::None);
    }
}

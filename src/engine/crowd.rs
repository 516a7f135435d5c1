//! Full queues to servers: clients are held back, and nothing is refused before its time is over.
//!
//! A message may be as large as `value_limit`, so what counts is what waits behind the one that is being written. Who has
//! something for a server whose queue is full is not read on, and goes on when the queue has drained; or is answered by
//! the pool's policy at its deadline. Others, and servers with room, are not concerned.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::chore::Chore;
use super::clients::requests::USUAL;
use super::ids::{LinkId, SessionId};
use super::servers::{Connection, IN_FLIGHT_LIMIT, QUEUE_HARD_LIMIT, QUEUE_LIMIT};
use crate::config::model::{PoolId, ServerId};
use crate::proto::memcache::request::Words;
use crate::time::Instant;

/// How long clients that come are taken to ask for what is large, as others have.
const LARGE_FOR: Duration = Duration::from_secs(60);

/// Clients that go on in one event when a queue has drained; the others do in the next ones.
const RELIEVED: usize = 200;

impl Connection {
    /// Whether its queue may be full: what is worth a closer look.
    #[inline]
    pub(super) fn is_long(&self) -> bool {
        self.queue().unwritten() > QUEUE_LIMIT || self.queue().len() >= IN_FLIGHT_LIMIT
    }

    /// Whether what asks for little has to wait until its queue has drained.
    #[cold]
    #[inline(never)]
    pub(super) fn is_full(&self) -> bool {
        self.queue().len() >= IN_FLIGHT_LIMIT || self.queue().behind_first() > QUEUE_HARD_LIMIT
    }

    /// Whether its queue has drained so far that clients may go on.
    fn has_room(&self) -> bool {
        self.queue().unwritten() <= QUEUE_LIMIT / 2 && self.queue().len() <= IN_FLIGHT_LIMIT / 2
    }
}

impl Engine {
    /// Takes note of a queue that has become long.
    #[cold]
    #[inline(never)]
    pub(super) fn note_crowd(&mut self, id: LinkId) {
        self.servers.note_crowd(id);
    }

    /// A queue is short again, or gone.
    pub(super) fn end_crowd(&mut self, id: LinkId) {
        self.servers.end_crowd(id);
    }

    /// Has a client wait until a link's queue has drained.
    #[cold]
    pub(super) fn stall(&mut self, id: SessionId, link: LinkId) {
        self.note_crowd(link);
        self.servers[link].hold_client(id);
        if let Some(session) = self.session(id) {
            session.input.hold_back();
        }
    }

    /// Holds a client back if the queue to one of the servers that it has something for is full, unless its time is over.
    /// A queue is full earlier for what brings much (`small` is false).
    #[cold]
    pub(super) fn hold_back_for(
        &mut self,
        id: SessionId,
        pool: PoolId,
        servers: impl Iterator<Item = ServerId>,
        small: bool,
        (started, now): (Instant, Instant),
    ) -> bool {
        if self.deadline(pool, started) <= now {
            return false;
        }
        for server in servers {
            if !self.pools[pool.index()].live[server.index()] {
                continue;
            }
            let link = self.link_of(pool, id, server, now);
            let of = &self.servers[link];
            if of.is_long() && !of.silence.is_suspect() && !of.is_down() && (!small || of.is_full()) {
                self.stall(id, link);
                return true;
            }
        }
        false
    }

    /// As [`Engine::hold_back_for`], of something small for all servers.
    #[cold]
    pub(super) fn holds_back_all(&mut self, id: SessionId, started: Instant, now: Instant) -> bool {
        let Some(pool) = self.pool_of(id) else { return false };
        let topology = Arc::clone(&self.topology);
        self.hold_back_for(id, pool, topology.pool(pool).members(), true, (started, now))
    }

    /// As [`Engine::hold_back_for`], of the first keys of a get.
    #[cold]
    pub(super) fn holds_back_get(
        &mut self,
        id: SessionId,
        words: Words<'_>,
        count: usize,
        started: Instant,
        now: Instant,
    ) -> bool {
        let Some(pool) = self.pool_of(id) else { return false };
        let ring = &self.pools[pool.index()].ring;
        let mut servers: Vec<_> = words.take(count).filter_map(|key| ring.route(key, 0)).collect();
        servers.sort_unstable();
        servers.dedup();
        self.hold_back_for(id, pool, servers.into_iter(), true, (started, now))
    }

    /// As [`Engine::hold_back_for`], of a request for the server of its key for which there was no room.
    #[cold]
    pub(super) fn hold_back_from(&mut self, id: SessionId, pool: PoolId, server: ServerId, now: Instant) {
        let link = self.link_of(pool, id, server, now);
        self.stall(id, link);
    }

    /// Whether a server is taking what is too much for it to take at once: what is not written yet waits for that, which
    /// says nothing against the server.
    #[cold]
    pub(super) fn is_taking(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        let Some(timeout) = self.timeout(pool) else { return false };
        let mut links = self.member(pool, server).links().iter().map(|link| &self.servers[*link]);
        links.any(|link| {
            link.is_traffic()
                && link.stream().is_some_and(|stream| stream.is_blocked())
                && now - link.silence.since() < timeout / 2
        })
    }

    /// So many bytes came of a large response.
    #[cold]
    #[inline(never)]
    pub(super) fn note_bulk(&mut self, id: LinkId, count: usize, now: Instant) {
        let Some(stream) = self.servers.stream(id) else { return };
        stream.note_bulk(count, now);
        if stream.need() > USUAL {
            self.pools[self.servers[id].pool().index()].large_until = now + LARGE_FOR;
        }
    }

    /// Whether large responses of a server come without a pause: what waits behind them on the same connection says nothing
    /// against the server.
    #[cold]
    pub(super) fn is_taken_up(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        let Some(timeout) = self.timeout(pool) else { return false };
        let mut links = self.member(pool, server).links().iter().map(|link| &self.servers[*link]);
        links.any(|link| link.is_traffic() && link.stream().is_some_and(|stream| stream.is_taken_up(now, timeout / 2)))
    }

    /// Lets clients go on, in the order in which they came, as far as a link's queue has drained.
    #[cold]
    #[inline(never)]
    pub(super) fn relieve(&mut self, id: LinkId, now: Instant) {
        for _ in 0..RELIEVED {
            let link = &self.servers[id];
            if !link.has_room() {
                return;
            }
            if link.queue().holds_nobody_back() {
                return self.end_crowd(id);
            }
            self.invalidate_open(id, now); // what was refused meanwhile comes before what is not
            if let Some(session) = self.servers[id].let_client_go() {
                self.clients.resume_soon(session);
                self.settle(now);
            }
        }
        self.put_off(Chore::Relieve(id), now);
    }
}

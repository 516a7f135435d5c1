//! The contract with the shell: what happens on the connections of clients.

use super::chore::Chore;
use super::clients::output::{PORTION, Spared};
use super::clients::session::{Departure, Session};
use super::ids::SessionId;
use super::{ClientStatus, Course, Engine};
use crate::config::model::PoolId;
use crate::time::Instant;

/// Bytes that are read of a client while what it asked before waits for as long as it likes.
const LISTEN_LIMIT: usize = 1 << 20;

impl Engine {
    /// A client has connected.
    pub fn client_connected(&mut self, pool: PoolId) -> SessionId {
        self.refresh(self.now); // the pool may be a new one
        let redis = self.pools[pool.index()].redis.then(|| self.redis_connected(pool));
        let id = self.clients.insert(pool, self.memory.limits().output, redis);
        self.counters.total_connections.add(1);
        self.counters.current_connections.add(1);
        self.counters.pool(pool).client_connections.add(1);
        if self.now < self.pools[pool.index()].large_until
            && let Some(session) = self.session(id)
        {
            session.requests.expect_large();
        }
        if !self.topology.pool(pool).is_served() {
            self.hear_no_more(id); // it was on its way when the pool ended
        }
        self.settle(self.now);
        id
    }

    /// Bytes were read from a client.
    pub fn client_data(&mut self, id: SessionId, data: &[u8], now: Instant) {
        self.refresh(now);
        self.feed(id, data, now);
        self.client_read(id, data.len());
        self.settle(now);
    }

    /// The client sends no more; what it has sent is still answered.
    pub fn client_ended(&mut self, id: SessionId, now: Instant) {
        if let Some(session) = self.session(id) {
            let pool = session.pool();
            self.counters.pool(pool).client_eof.add(1);
            self.hear_no_more(id);
        }
        self.settle(now);
    }

    /// A client that is not read sends no more behind what it has sent: one that waits for what may never happen does so for
    /// nobody, as if all of that had been read. Says whether it has ended so.
    pub fn client_stops(&mut self, id: SessionId, now: Instant) -> bool {
        let stops =
            self.session_ref(id).is_some_and(|session| may_wait_for_ever(session) && !session.input.has_ended());
        if stops {
            self.client_ended(id, now);
        }
        stops
    }

    /// A client sends no more.
    pub(super) fn hear_no_more(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.input.end();
            self.stop_waiting(id);
            if self.stampede.is_on() && self.stampede.holds_some(id) {
                self.tell_misses(id, self.now); // it may have left, and would compute nothing
            }
            self.touch_session(id);
        }
    }

    /// What a client has asked last is alone in flight, for as long as it likes.
    #[cold]
    pub(super) fn wait_alone(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.requests.stay_alone();
            self.stop_waiting(id);
        }
    }

    /// One that sends no more does not wait for what may never happen, whatever of it has come first.
    fn stop_waiting(&mut self, id: SessionId) {
        let waits = |session: &Session| session.input.has_ended() && may_wait_for_ever(session);
        if self.session_ref(id).is_some_and(waits) {
            self.give_up_waiting(id);
        }
    }

    /// The client's connection is gone, by its end or by an error. Its requests go on, their responses are dropped.
    pub fn client_gone(&mut self, id: SessionId, failed: bool) {
        self.release_dedicated(id);
        self.warmup.forget(id);
        if self.stampede.is_on() {
            self.forget_wait(id);
        }
        let Some(mut session) = self.clients.remove(id) else { return };
        if let Some(subscriptions) = session.redis_mut().and_then(|client| client.subscriptions.take()) {
            self.let_go(subscriptions);
        }
        session.abandon(self.counters.pool(session.pool()));
        self.memory.recharge(session.holding.charged(), 0);
        self.counters.current_connections.sub(1);
        let pool = self.counters.pool(session.pool());
        pool.client_connections.sub(1);
        pool.clients_gone.add(1);
        if failed {
            pool.client_err.add(1);
        }
        if self.is_over(session.pool()) {
            self.left_with();
        }
    }

    /// What is to be written to a client.
    #[must_use]
    pub fn client_output(&self, id: SessionId) -> &[u8] {
        self.session_ref(id).map_or(&[], |session| session.output.front())
    }

    /// `count` bytes of [`Engine::client_output`] were written. Says as how many more it counts that what follows them was put
    /// together: an answer of many small elements takes longer to make than to write.
    pub fn client_wrote(&mut self, id: SessionId, count: usize, now: Instant) -> usize {
        let Some(session) = self.session(id) else { return 0 };
        let (is_paused, is_hoarder) = (session.input.is_paused(), session.holding.is_hoarder());
        let crawls = session.crawl().is_some();
        let choked = is_paused && session.is_choked();
        let spared = session.output.wrote(count);
        let is_changed = session.pending_output() == 0 && !session.is_charged();
        if is_hoarder {
            self.now = now;
            self.turn_over(id, count);
        }
        if is_changed || !matches!(spared, Spared::Nothing) {
            self.recharge_session(id);
        }
        if is_paused {
            self.wrote_to_paused(id, choked, now);
        }
        let made = match spared {
            Spared::Nothing => 0,
            Spared::Memory => self.wrote_what_was_ready(id, now),
            Spared::Buffer(buffer) => {
                self.keep_buffer(buffer);
                0
            }
        };
        if crawls {
            self.crawl_was_read(id, now);
        }
        made
    }

    /// All that was ready of a client's long answers was written: the next one may have to be looked through first. What is
    /// ready by now took as long as a portion, whatever it is.
    #[cold]
    #[inline(never)]
    fn wrote_what_was_ready(&mut self, id: SessionId, now: Instant) -> usize {
        let Some(session) = self.session_ref(id) else { return 0 };
        let made = PORTION.saturating_sub(session.output.ready());
        if session.output.is_unready() {
            self.put_off(Chore::Prepare(id), now);
        }
        made
    }

    /// Something was written to a client of which not all input was carried out.
    #[inline(never)]
    fn wrote_to_paused(&mut self, id: SessionId, choked: bool, now: Instant) {
        let Some(session) = self.session(id) else { return };
        let is_unread = session.pending_output() > 0;
        session.input.was_written(choked, is_unread, now);
        self.clients.resume_soon(id);
        self.settle(now);
    }

    /// What may be done with a client connection now. Asking clears the client's mark for [`Engine::poll_client`].
    pub fn client_status(&mut self, id: SessionId) -> ClientStatus {
        let course = self.course;
        let Some(session) = self.session(id) else {
            return ClientStatus { reads: false, finished: true };
        };
        let over = session.is_over() || course == Course::Drains;
        // One that can go over to another process asks the next thing there.
        let departs = session.departure() == Departure::Soon && !session.is_bound();
        // One that waits on and on is listened to all the same, so that its end is noticed.
        let listens = session.requests.was_alone() && session.input.len() < LISTEN_LIMIT;
        let reads = (!session.input.is_paused() || listens) && !over && !departs && !session.holding.is_starved();
        let has_begun = !session.input.is_empty();
        let status = ClientStatus { reads, finished: over && session.is_idle() };
        // What it holds has changed only if something came for it, or it waits for something.
        if (session.unmark() || session.input.is_paused()) && !session.is_charged() {
            self.recharge_session(id);
        }
        ClientStatus { reads: status.reads && (!has_begun || self.may_grow(id)), ..status }
    }

    /// The pool of a client.
    #[must_use]
    pub fn client_pool(&self, id: SessionId) -> Option<PoolId> {
        self.session_ref(id).map(Session::pool)
    }

    /// Whether a client is one of a memcached pool.
    #[must_use]
    pub fn client_is_of_memcached(&self, id: SessionId) -> bool {
        self.session_ref(id).is_some_and(|session| session.redis().is_none())
    }

    /// Whether the requests of a client may wait for a silent server without end.
    #[must_use]
    pub fn client_waits_for_ever(&self, id: SessionId) -> bool {
        self.session_ref(id).is_some_and(|session| self.topology.pools[session.pool().index()].timeout.is_none())
    }

    /// Whether requests of a client that were read have not been carried out yet.
    #[must_use]
    pub fn client_has_more(&self, id: SessionId) -> bool {
        self.session_ref(id).is_some_and(|session| session.input.is_paused())
    }

    /// A number that changes when requests of a client are carried out or answered.
    #[must_use]
    pub fn client_progress(&self, id: SessionId) -> usize {
        let number = |session: &Session| {
            session.requests.first_number() as usize + session.next_number() as usize + session.input.len()
        };
        self.session_ref(id).map_or(0, number)
    }

    /// Whether something has come for the client since [`Engine::client_status`] was asked.
    #[must_use]
    pub fn client_is_marked(&self, id: SessionId) -> bool {
        self.session_ref(id).is_none_or(Session::is_marked)
    }

    /// A client that has something to write or is to be looked at again.
    pub fn poll_client(&mut self) -> Option<SessionId> {
        self.outputs.next_client()
    }
}

/// Whether what a client has asked last is alone in flight, and may never happen.
fn may_wait_for_ever(session: &Session) -> bool {
    session.requests.is_alone() && session.crawl().is_none() // a list comes to its end
}

//! What happens when a timer fires: requests have run out of time, servers have gone silent, connections may be opened.

use super::deadline::Timer;
use super::ids::{LinkId, SessionId};
use super::request::{Answer, Request};
use super::scattered::Merge;
use super::servers::ConnectionState;
use super::servers::ticket::Marks;
use super::{Course, Engine};
use crate::config::model::PoolId;
use crate::failure::Failure;
use crate::time::Instant;

impl Engine {
    /// A client's timer has fired: its oldest requests may have run out of time.
    pub(super) fn session_timer(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session(id) else { return };
        if !session.requests.timer().is_due(now) {
            return;
        }
        if session.requests.is_empty() {
            session.rest(); // the next response can wait for a buffer
        }
        let pool = session.pool();
        let timeout = self.timeout(pool);
        while let Some(session) = self.session(id)
            && let Some(slot) = session.requests.front()
        {
            let (started, number) = (slot.started(), session.requests.first_number());
            let Some(timeout) = timeout.filter(|timeout| started + *timeout <= now) else { break };
            if let Some(later) = session.time_of_large(timeout, now) {
                // What is asked meanwhile sets no timer of its own, and is not to wait longer than its time.
                self.wake_session(id, later.min(now + timeout));
                break;
            }
            let held_until = if self.stampede.is_on() { self.stampede.held_until(id, number) } else { None };
            self.expire(id, number, pool, now);
            match held_until {
                Some(until) if until > now => {
                    self.wake_session(id, until);
                    break;
                }
                Some(_) => self.tell_misses(id, now),
                None => {}
            }
        }
        self.arm_session(id);
        if let Some(session) = self.session(id)
            && let Some(since) = session.input.held_back_since()
        {
            if self.deadline(pool, since) > now {
                self.time_session(id, since);
            } else {
                self.clients.resume_soon(id); // it is carried out or fails, and sets a timer if it needs one
            }
        }
        if let Some(session) = self.session(id)
            && let Some(since) = session.requests.waits_for_unheard_since()
        {
            if self.deadline(pool, since) > now {
                self.time_session(id, since);
            } else if let Some(session) = self.session(id) {
                // One that has much to read goes on when it has read that, and is not waited for with a timer.
                if session.requests.give_up_unheard() {
                    session.input.restart(now);
                }
                self.clients.resume_soon(id);
            }
        }
    }

    /// Answers, by the pool's policy, a request whose time is up. Its tickets stay behind for the late responses.
    fn expire(&mut self, id: SessionId, number: u32, pool: PoolId, now: Instant) {
        let Some(slot) = self.session(id).and_then(|session| session.slot_mut(number)) else { return };
        let due = slot.merge().and_then(Merge::due);
        // As it was asked: the client may have gone on to another database since.
        let database = slot.merge().map_or(0, Merge::database);
        let (Request { verb, started, .. }, mut late): (_, Vec<_>) = match &slot.answer {
            Answer::Ready(_) | Answer::Crawled => return,
            Answer::Of { request, server, .. } => (*request, vec![(0, *server)]),
            Answer::Merged { request, scattered } => (*request, scattered.awaited().collect()),
        };
        if self.stampede.is_on() {
            late.retain(|(fragment, _)| !self.stampede.holds(id, number, *fragment)); // these were answered in time
            if late.is_empty() {
                return;
            }
        }
        self.slow_expired(id, number, &late, now);
        let deadline = self.deadline(pool, started);
        for (fragment, server) in late {
            self.undelivered(pool, server, verb, database, due, now);
            self.counters.server(pool, server).server_timedout.add(1);
            let is_busy_taking = || self.servers.crowded() > 0 && self.is_taking(pool, server, now);
            if !is_busy_taking() && !self.is_taken_up(pool, server, now) {
                self.report(pool, server, Failure::TimedOut, deadline);
            }
            if self.near.is_on() && !verb.is_repeatable() {
                self.near_unanswered((id, number), fragment, server);
            }
            self.fail_part(id, server, number, fragment, Failure::TimedOut);
        }
        // What still waits on a connection of the client's own is not wanted any more.
        if self.session_ref(id).is_some_and(|session| session.requests.has_bar()) {
            self.release_waiting(id);
        }
    }

    /// A link's timer has fired: it may be time to connect, or the server may have gone silent.
    pub(super) fn link_timer(&mut self, id: LinkId, now: Instant) {
        if !self.servers.has(id) {
            return; // another's, by now
        }
        let link = &mut self.servers[id];
        if !link.timer().is_due(now) {
            return;
        }
        if link.is_spare() {
            return self.spare_timer(id, now);
        }
        if link.stream().is_some_and(|stream| stream.is_condemned()) {
            return self.fail_link(id, Failure::TimedOut, now);
        }
        let (pool, server) = (link.pool(), link.server());
        self.invalidate_open(id, now);
        let link = &self.servers[id];
        let silent_since = link.silence.since(); // it has its time from now on to answer what is sent
        if !link.is_opening() && link.dedicated().is_some() {
            self.crawl_timer(id, now);
            return; // what else is asked there takes as long as it takes, and nobody else needs it
        }
        if link.is_greeting() && link.queue().front().is_some_and(|ticket| ticket.is(Marks::STAYS)) {
            return; // what is to get through to a busy server has its own time, and so has the password before it
        }
        let waits = link.is_opening() || (link.is_up() && !link.queue().is_empty());
        if waits && self.look(id, now) {
            return;
        }
        let link = &self.servers[id];
        match *link.state() {
            ConnectionState::Down { not_before, .. } => {
                let live = self.pools[pool.index()].live[server.index()];
                let wanted =
                    link.silence.is_suspect() || self.registry.failures(pool, server) > 0 || self.has_to_invalidate(id);
                if live && wanted && self.course != Course::Drains {
                    if now >= not_before {
                        self.start_connect(id, now);
                    } else {
                        self.arm_link(id, not_before);
                    }
                }
            }
            ConnectionState::Connecting | ConnectionState::Handshaking(_) => {
                let at = self.deadline(pool, silent_since);
                if at <= now {
                    self.fail_link(id, Failure::TimedOut, now);
                } else {
                    self.arm_link(id, at);
                }
            }
            ConnectionState::Up(_) if !waits && self.servers[id].profile().tracks => self.see_if_it_tells(id, now),
            ConnectionState::Up(_) if !waits => self.settle_probe(id, now),
            ConnectionState::Up(_) => {
                let mut first = self.deadline(pool, silent_since);
                if first <= now {
                    first = first.max(self.busy_until(id).unwrap_or(first));
                }
                let Some(timeout) = self.timeout(pool) else { return self.arm_link(id, first) };
                let last = first + timeout;
                let is_probe = self.servers[id].is_probe();
                if last <= now || (is_probe && first <= now) {
                    self.fail_link(id, Failure::TimedOut, now);
                } else if first <= now {
                    // Silent for a whole timeout with requests waiting. The connection gets one more: the requests have
                    // been answered, and if the server wakes up its responses are dropped one by one.
                    self.report(pool, server, Failure::TimedOut, first);
                    self.registry.forget_pause(pool, server);
                    self.arm_link(id, last);
                } else {
                    self.arm_link(id, first);
                }
            }
        }
    }

    pub(super) fn arm_link(&mut self, id: LinkId, at: Instant) {
        if self.servers[id].timer().set(at) {
            self.timers.set(at, Timer::Link(id));
        }
    }
}

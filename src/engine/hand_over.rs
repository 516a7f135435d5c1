//! Responses go to the clients that wait for them: each into its slot, and from the front of a client's slots into its output.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::account::outcome_of;
use super::chore::Chore;
use super::deliver::{Delivery, SMALL, Step};
use super::ids::{LinkId, SessionId};
use super::memcache;
use super::policy::Policy;
use super::redis::gather::Gather;
use super::request::Answer;
use super::scattered::Came;
use super::servers::outbox::Offset;
use super::servers::ticket::{Asker, Ticket};
use super::{Course, Engine, Outlet};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::memcache::response::{Status, Violation};
use crate::time::Instant;
use std::time::Duration;

/// Multi-gets whose buffers are kept for the next ones.
const SPARE_VALUES: usize = 64;

/// What became of a response that somebody waited for.
struct Handed {
    /// When its request was read.
    started: Instant,
    /// It is one of several that its request waits for, and the last of them.
    is_part: bool,
    is_last: bool,
    /// Its client has nothing else to get, and has not been given it yet.
    is_due: bool,
}

/// A response, as far as it is counted.
struct Counted {
    status: Status,
    /// Keys of a get that were there, and that were not.
    found: (u64, u64),
    latency: Duration,
    is_part: bool,
    is_last: bool,
}

impl Engine {
    /// Gives a whole response, in two pieces that belong together, to whoever waits for it, and takes the ticket.
    pub(super) fn finish(&mut self, id: LinkId, response: [&[u8]; 2], status: Status, to: &mut Delivery<'_>) -> Step {
        let link = &mut self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        let found = link.front_found(status, response[0]);
        let Some((ticket, end)) = link.pop() else { return Step::Broken(Violation::Unsolicited) };
        // The request is in the outbox until it is released, for those who want to look at it.
        let len = response[0].len() + response[1].len();
        if self.telemetry.hot.meets(end.since(ticket.start) + len)
            && self.looks_closer(id, (ticket, end), response, (status, found), to)
        {
            return Step::Used(len);
        }
        self.leave_link(id, ticket);
        let mut outcome = outcome_of(ticket.class, status, found.1);
        let mut due = None;
        match ticket.asker {
            Asker::Unheard(_) => {
                to.succeeded = true;
                outcome = Outcome::Unheard;
            }
            Asker::Proxy(intent) => {
                self.release(id, end);
                self.own_response(id, (ticket.verb, intent), response[0], status);
                self.counters.server(pool, server).outcomes[Outcome::Own as usize].add(1);
                return Step::Used(len);
            }
            Asker::Client { id: client, number } => {
                match self.hand_over(pool, client, (number, ticket.fragment), response, status, outcome) {
                    Some(Handed { started, is_part, is_last, is_due }) => {
                        due = is_due.then_some(client);
                        let link = &mut self.servers[id];
                        let latency = link.silence.since() - started;
                        link.silence.observe_latency(latency);
                        to.succeeded = true;
                        if is_last && self.telemetry.slow.is_slow(started, link.silence.since()) {
                            self.slow_answer(id, ticket, end, started);
                        }
                        self.count_answer(pool, server, Counted { status, found, latency, is_part, is_last });
                    }
                    None => outcome = Outcome::Late,
                }
            }
        }
        if let Status::Unwilling(failure) = status
            && !ticket.only_reads()
        {
            self.invalidate_refused(id, ticket, end, failure);
        }
        self.counters.server(pool, server).outcomes[outcome as usize].add(1);
        self.release(id, end);
        if let Some(client) = due {
            // Last of all: the client may have the CPU at once, and what comes after that finds cold caches.
            self.hand_out(client, response, to.outlet);
        }
        Step::Used(len)
    }

    /// Looks at a response that is in the sample, or at each where gets wait for keys. Whether nothing is passed on of it: keys of
    /// its request are not there, and are waited for.
    #[cold]
    #[inline(never)]
    fn looks_closer(
        &mut self,
        id: LinkId,
        (ticket, end): (Ticket, Offset),
        response: [&[u8]; 2],
        (status, found): (Status, (u64, u64)),
        to: &mut Delivery<'_>,
    ) -> bool {
        self.sample(id, ticket, end, response);
        if self.near.is_on() && !ticket.only_reads() {
            self.near_changed_by(id, ticket, end);
        }
        if self.stampede.copies() && !ticket.only_reads() && !ticket.is_own() {
            self.copies_behind(id, ticket, end, status);
        }
        let Some((client, number)) = ticket.client().filter(|_| self.stampede.is_on()) else { return false };
        if found.1 == 0 || !self.holds(id, ticket, end, response) {
            self.passes_on(client, (number, ticket.fragment));
            return false;
        }
        self.leave_link(id, ticket);
        to.succeeded = true;
        self.note_held(id, (client, number), found, status);
        self.release(id, end);
        self.wait_for_keys(client, self.now);
        true
    }

    /// Copies go with what has been changed.
    fn copies_behind(&mut self, id: LinkId, ticket: Ticket, end: Offset, status: Status) {
        if self.is_redis(id) {
            self.copy_behind_call(id, ticket, end, status, self.now);
        } else {
            self.copy_behind(id, ticket, end, status, self.now);
        }
    }

    /// Counts a response that is not passed on yet, but for how its request has ended.
    fn note_held(&mut self, id: LinkId, (client, number): (SessionId, u32), found: (u64, u64), status: Status) {
        let slot = self.clients.get(client).and_then(|session| session.slot(number));
        let Some((started, is_part)) = slot.map(|slot| (slot.started(), slot.merge().is_some())) else { return };
        let link = &mut self.servers[id];
        let (pool, server, latency) = (link.pool(), link.server(), link.silence.since() - started);
        link.silence.observe_latency(latency);
        self.count_answer(pool, server, Counted { status, found, latency, is_part, is_last: false });
    }

    /// The response to the front ticket is larger than is taken: whoever waits for it is answered by the pool's policy.
    /// The server has answered all the same, so nothing is held against it.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse_response(&mut self, id: LinkId, to: &mut Delivery<'_>) -> Step {
        let link = &mut self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        let failure = link.dropped().unwrap_or(Failure::TooLarge);
        let Some((ticket, end)) = link.pop() else { return Step::Broken(Violation::Unsolicited) };
        link.scripts().drop_doubt(ticket);
        if self.near.is_on() && !ticket.only_reads() {
            self.near_changed_by(id, ticket, end);
        }
        if self.stampede.copies() && !ticket.only_reads() && !ticket.is_own() {
            self.copies_behind(id, ticket, end, Status::Error);
        }
        self.leave_link(id, ticket);
        to.succeeded = true;
        let outcome = match ticket.asker {
            Asker::Proxy(intent) => {
                self.own_response(id, (ticket.verb, intent), b"", Status::Error);
                Outcome::Own
            }
            Asker::Unheard(_) => Outcome::Unheard,
            Asker::Client { .. } if !self.is_awaited(ticket) => Outcome::Late,
            Asker::Client { id: client, number } => {
                self.fail_part(client, server, number, ticket.fragment, failure);
                Outcome::Error
            }
        };
        self.counters.server(pool, server).outcomes[outcome as usize].add(1);
        self.release(id, end);
        Step::Used(0)
    }

    /// A link's requests up to `end` have been answered, and are not looked at any more.
    #[inline]
    pub(super) fn release(&mut self, id: LinkId, end: Offset) {
        let Some(link) = self.servers.get_mut(id) else { return }; // its client is gone
        if link.release(end) {
            self.restock_spent(id);
        }
    }

    #[cold]
    #[inline(never)]
    fn restock_spent(&mut self, id: LinkId) {
        let spent = self.servers[id].take_spent();
        self.keep_buffer(spent);
    }

    /// Counts a response that somebody waited for.
    #[inline(always)]
    fn count_answer(&self, pool: PoolId, server: ServerId, answer: Counted) {
        let nanos = u64::try_from(answer.latency.as_nanos()).unwrap_or(u64::MAX);
        let (of_pool, of_server) = (self.counters.pool(pool), self.counters.server(pool, server));
        if answer.is_part {
            of_server.part_latency.record(nanos);
            if answer.is_last {
                of_pool.split_latency.record(nanos);
            }
        } else {
            of_server.latency.record(nanos);
        }
        let (hits, misses) = answer.found;
        of_server.hits.add(hits);
        of_server.misses.add(misses);
        if matches!(answer.status, Status::Error | Status::OutOfMemory | Status::Unwilling(_)) {
            of_server.errors.add(1);
            if answer.status == Status::Error || !self.forgives(pool) {
                of_pool.server_errors.add(1);
            }
        }
    }

    /// Puts a response into its slot. `None` when nobody waits for it any more.
    fn hand_over(
        &mut self,
        pool: PoolId,
        id: SessionId,
        (number, fragment): (u32, u16),
        response: [&[u8]; 2],
        status: Status,
        mut outcome: Outcome,
    ) -> Option<Handed> {
        let len = response[0].len() + response[1].len();
        let forgiven = match status {
            Status::OutOfMemory => Some(Failure::ServerMemory),
            Status::Unwilling(failure) => Some(failure),
            _ => None,
        };
        let forgiven = forgiven.filter(|_| self.forgives(pool));
        // What is small is kept all the same: the answer in its place would not be smaller. What nobody hears is not kept.
        let takes_room = len > SMALL && !self.is_unheard(id, number);
        let (fits, fits_twice) = if takes_room { self.has_room(id, len) } else { (true, true) };
        let Self { clients, counters, topology, memory, .. } = &mut *self;
        let session = clients.get_mut(id)?;
        let front = number == session.requests.first_number();
        let slot = session.slot_mut(number).filter(|slot| slot.waiting() > 0)?;
        let started = slot.started();
        if let Answer::Merged { scattered, .. } = &mut slot.answer {
            if forgiven.is_some() {
                outcome = Outcome::Degraded; // a pool that tells failures forgives none
            }
            let server = scattered.settle(fragment)?;
            let done = scattered.waiting() == 0;
            let forgiven = forgiven.or_else(|| (!fits_twice).then_some(Failure::NoMemory));
            // Values are held from when they come, piece by piece.
            let came = match forgiven {
                None => scattered.merge_mut().came(fragment, response[0], memory.whole.as_ref(), status),
                Some(failure) => {
                    let tells = Policy::of(&topology.pools[pool.index()]).tells();
                    counters.count_degraded(pool, Some(server), failure);
                    scattered.merge_mut().refused(fragment, failure, tells);
                    Came::NOTHING
                }
            };
            slot.note(outcome);
            session.requests.hold(came.grown);
            if done && session.requests.may_overtake() {
                session.requests.overtake(number);
            }
            if forgiven.is_some() {
                self.doubt_watch(id);
            }
            if let Some(version) = came.version {
                self.learn_version(pool, server, version);
            }
            if done {
                self.advance(id);
            }
            return Some(Handed { started, is_part: true, is_last: done, is_due: false });
        }
        let Answer::Of { request, .. } = &slot.answer else { return None };
        let (is_read, hidden) = (request.verb.is_read(), request.may_be_hidden() && request.hides(response[0]));
        slot.outcome = outcome;
        if is_read && status == Status::Done {
            session.requests.observe_response(len);
        }
        // What is passed on at once may stay in the buffer that it came in; the rest is copied.
        let overflows = !(if front { fits } else { fits_twice });
        let handed = Handed { started, is_part: false, is_last: true, is_due: false };
        if let Some(failure) = forgiven.or_else(|| overflows.then_some(Failure::NoMemory)) {
            self.hand_over_degraded(pool, id, number, failure);
            return Some(handed);
        }
        if front {
            let alone = session.requests.is_one() && session.output.len() == 0;
            session.requests.leave(counters.pool(pool));
            if !hidden {
                if alone {
                    return Some(Handed { is_due: true, ..handed });
                }
                session.output.append(response[0]);
                session.output.append(response[1]);
            }
            if len > SMALL {
                self.charge_session(id);
            }
            self.advance(id);
        } else {
            let mut body = Vec::new();
            if !hidden {
                body.reserve_exact(len);
                body.extend_from_slice(response[0]);
                body.extend_from_slice(response[1]);
            }
            let held = session.requests.keep(number, body);
            let goes_on = session.requests.may_overtake() && session.may_go_on();
            if session.holding.is_hoarder() || session.holding.charged() + held > memory.limits().fair {
                self.recharge_session(id);
            } else {
                session.holding.add(held);
                memory.recharge(0, held);
            }
            if goes_on {
                self.clients.resume_soon(id);
            }
        }
        Some(handed)
    }

    /// What came from one server is not passed on: its client is answered by the pool's policy.
    #[cold]
    #[inline(never)]
    fn hand_over_degraded(&mut self, pool: PoolId, id: SessionId, number: u32, failure: Failure) {
        self.degrade_slot(pool, id, number, failure);
        self.doubt_watch(id);
        self.advance_if_answered(id);
    }

    /// Whether the one response that a request waits for is not passed on, whatever it is.
    #[cold]
    fn is_unheard(&self, id: SessionId, number: u32) -> bool {
        let slot = self.session_ref(id).and_then(|session| session.slot(number));
        slot.is_some_and(|slot| matches!(&slot.answer, Answer::Of { request, .. } if request.noreply))
    }

    /// Gives a client the only response that it waits for: there is nothing to share a write with, so straight to its
    /// connection, with no copy in between.
    fn hand_out(&mut self, id: SessionId, response: [&[u8]; 2], outlet: &mut dyn Outlet) {
        let written = outlet.offer(id, response);
        let (head, tail) = (written.min(response[0].len()), written.saturating_sub(response[0].len()));
        let rest = [&response[0][head..], &response[1][tail..]];
        let serves = self.course == Course::Serves;
        let Some(session) = self.session(id) else { return };
        if rest[0].is_empty() && rest[1].is_empty() && session.is_content() && serves {
            return;
        }
        session.output.append(rest[0]);
        session.output.append(rest[1]);
        if response[0].len() + response[1].len() > SMALL {
            self.charge_session(id);
        }
        self.advance(id);
    }

    /// Moves the finished responses at the front of a session to its output.
    pub(super) fn advance(&mut self, id: SessionId) {
        let Self { clients, memcache, counters, .. } = self;
        let Some(session) = clients.get_mut(id) else {
            return;
        };
        while let Some(slot) = session.requests.pop_answered() {
            slot.count(counters.pool(session.pool()));
            let is_heard;
            let scattered = match slot.answer {
                Answer::Ready(body) => {
                    session.output.push(body);
                    continue;
                }
                Answer::Merged { request, scattered } => {
                    is_heard = !request.noreply;
                    scattered
                }
                Answer::Of { .. } | Answer::Crawled => continue,
            };
            if is_heard && !scattered.merge().is_long() {
                scattered.merge().write(&mut session.output);
            }
            if let Some(database) = scattered.merge().redis().and_then(Gather::selected)
                && let Some(client) = session.redis_mut()
            {
                client.database = database;
            }
            if is_heard && scattered.merge().is_long() {
                let waits = session.output.is_unready();
                scattered.into_merge().write_on(&mut session.output);
                if !waits && session.output.is_unready() {
                    return self.advance_behind(id);
                }
                continue;
            }
            if memcache.spare_values.len() < SPARE_VALUES
                && scattered.merge().memcache().is_some_and(memcache::Merge::is_worth_keeping)
            {
                memcache.spare_values.push(scattered);
            }
        }
        if session.input.is_paused() && session.has_room_again() {
            self.clients.resume_soon(id);
        }
        self.touch_session(id);
    }

    /// As [`Engine::advance`], behind an answer that has to be prepared.
    #[cold]
    #[inline(never)]
    fn advance_behind(&mut self, id: SessionId) {
        self.put_off(Chore::Prepare(id), self.now);
        self.advance(id);
    }

    /// Goes on with preparing the next answer to a client; says how many steps that took.
    pub(super) fn prepare_on(&mut self, id: SessionId, budget: usize, now: Instant) -> usize {
        let Some(session) = self.session(id) else { return 0 };
        let steps = session.output.prepare(budget);
        if session.output.is_unready() {
            self.put_off(Chore::Prepare(id), now);
        }
        self.charge_session(id);
        self.touch_session(id);
        steps
    }
}

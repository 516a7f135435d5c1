//! A server's bytes become responses, and responses go to the clients that wait for them.

#![expect(clippy::wildcard_enum_match_arm, reason = "responses to all other verbs are read alike")]

use super::account::outcome_of;
use super::buffers::{BEHIND, HUGE, LARGE};
use super::ids::{LinkId, SessionId};
use super::memory;
use super::merge::Merge;
use super::outbox::Offset;
use super::policy::Policy;
use super::rate_limit::Frequent;
use super::request::Answer;
use super::ticket::{Asker, Marks, Ticket};
use super::{Engine, Notice, Outlet};
use crate::config::model::{PoolId, Protocol, ServerId};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::{self, MetaAsked, Response, Status, Violation};
use crate::proto::memcache::version::Version;
use crate::proto::memcache::{Verb, reply, stats};
use crate::stats::counters::Counters;
use crate::time::Instant;
use crate::topology::Topology;
use std::time::Duration;

/// Responses of up to this many bytes are passed on even when the memory limit is reached.
pub(super) const SMALL: usize = 1 << 10;

/// Bytes that are taken at a time of a response of which it is not known how many are missing.
pub(super) const STEP: usize = 64;

/// Multi-gets whose buffers are kept for the next ones.
const SPARE_VALUES: usize = 64;

/// Capacity that a link keeps for the beginning of a response.
const KEPT_PARTIAL: usize = 64 << 10;

/// What looking at a server's bytes led to.
pub(super) enum Step {
    /// So many bytes are used; look again. If they are more than there are, the others are dropped as they come.
    Used(usize),
    /// Nothing more can be done with fewer bytes than these.
    Need(usize),
    /// The server broke the protocol.
    Broken(Violation),
}

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

/// What comes of the responses in the bytes of one read.
pub(super) struct Delivery<'a> {
    /// Somebody got the response that they waited for.
    succeeded: bool,
    outlet: &'a mut dyn Outlet,
}

/// A part of a response has come that is no part of a gathered one, or that a failure takes the place of. Returns the version
/// that a server has said.
#[cold]
#[inline(never)]
fn part_came(
    merge: &mut Merge,
    topology: &Topology,
    counters: &Counters,
    pool: PoolId,
    fragment: u16,
    (response, status): (&[u8], Status),
    forgiven: Option<Failure>,
) -> Option<(ServerId, Option<Version>)> {
    match (merge, status) {
        (Merge::Gather(gather), _) => match forgiven {
            Some(failure) => {
                let server = gather.servers.get(usize::from(fragment)).map(|part| part.server);
                counters.count_degraded(pool, server, failure);
                let error = gather_error(topology, pool, failure);
                gather.lost(fragment, error);
            }
            None => gather.came(fragment, response),
        },
        (merge, _) if let Some(failure) = forgiven => {
            let server = merge.fragments().get(usize::from(fragment)).map(|part| part.server);
            counters.count_degraded(pool, server, failure);
            merge.failed(failure, false);
        }
        (Merge::Listing(listing), Status::Done) => {
            listing.summed.add(response);
            listing.answered = true;
        }
        (Merge::Version(lowest), Status::Done) => {
            let version = Version::find(response);
            lowest.version = Version::lower(version.clone(), lowest.version.take());
            return lowest.servers.get(usize::from(fragment)).map(|part| (part.server, version));
        }
        (merge, Status::Error | Status::OutOfMemory) => merge.error(response),
        _ => {}
    }
    None
}

/// Whether a server says that it takes no more connections, before it closes this one: Redis at `maxclients`, memcached at
/// `-c`. Nothing that was asked on it has been looked at.
#[cold]
#[inline(never)]
pub(super) fn is_turned_away(said: &[u8]) -> bool {
    said.starts_with(b"-ERR max number of clients") || said.starts_with(b"ERROR Too many open connections")
}

impl Engine {
    /// Takes bytes from a server and passes on the responses in them.
    pub(super) fn deliver(&mut self, id: LinkId, data: &[u8], now: Instant, outlet: &mut dyn Outlet) {
        self.hear(id, data.len(), now);
        let is_partial = self.links[id.index()].stream().is_some_and(|stream| !stream.partial.is_empty());
        let used = if is_partial { self.consume_partial(id, data, outlet) } else { Ok(0) };
        let outcome = used.and_then(|used| {
            // The usual case: whole responses are passed on from where they were read.
            let rest = &data[used..];
            let used = self.consume(id, rest, outlet)?;
            if let Some(stream) = self.links[id.index()].stream_mut() {
                memory::grow(&mut stream.partial, &rest[used..]);
                stream.huge &= data.len() < BEHIND || (!stream.partial.is_empty() && stream.need >= HUGE);
            }
            Ok(())
        });
        self.judge(id, outcome, now);
    }

    /// So many bytes came from a server.
    #[inline]
    pub(super) fn hear(&mut self, id: LinkId, count: usize, now: Instant) {
        let link = &mut self.links[id.index()];
        let since = std::mem::replace(&mut link.heard, now);
        let (pool, server) = (link.pool, link.server);
        if std::mem::take(&mut link.suspect) {
            self.spoke_again(id, since, now);
        }
        self.counters.server(pool, server).response_bytes.add(count as u64);
    }

    /// A server's bytes have been used, or it broke the protocol.
    #[inline(always)]
    pub(super) fn judge(&mut self, id: LinkId, outcome: Result<(), Violation>, now: Instant) {
        match outcome {
            Ok(()) => {
                self.charge_link(id);
                if let Some(owner) = self.links[id.index()].owner() {
                    self.give_back_if_free(id, owner, now);
                }
            }
            Err(violation) => self.broken(id, violation, now),
        }
    }

    /// A server broke the protocol.
    #[cold]
    fn broken(&mut self, id: LinkId, violation: Violation, now: Instant) {
        if violation == Violation::Full {
            return self.fail_link(id, Failure::Full, now);
        }
        let link = &self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        let notice = |suppressed| Notice::Violation { pool, server, violation, suppressed };
        self.notify_rate_limited(Frequent::Violation, (pool, server), now, notice);
        self.fail_link(id, Failure::Protocol, now);
    }

    /// Completes the response of which the beginning is kept, with no more of `data` than it needs; returns how much of
    /// `data` that was. When something is still kept afterwards, all of `data` has been used.
    #[inline(never)]
    fn consume_partial(&mut self, id: LinkId, data: &[u8], outlet: &mut dyn Outlet) -> Result<usize, Violation> {
        let mut used = 0;
        loop {
            let Some(stream) = self.links[id.index()].stream().filter(|stream| !stream.partial.is_empty()) else {
                return Ok(used);
            };
            if used == data.len() {
                return Ok(used);
            }
            // While a length is not known yet, a little more than is needed: a line at a time, not a byte.
            let len = stream.partial.len();
            let wanted = stream.need.saturating_sub(len).max(STEP).min(data.len() - used);
            let most = if len > LARGE { self.reply_room(&self.links[id.index()]) } else { usize::MAX };
            let Some(stream) = self.links[id.index()].stream_mut() else { return Ok(used) };
            memory::grow_to(&mut stream.partial, &data[used..used + wanted], most);
            used += wanted;
            if stream.partial.len() < stream.need {
                return Ok(used);
            }
            let buffer = std::mem::take(&mut stream.partial);
            if buffer.len() > LARGE {
                let mut buffer = buffer;
                let behind = buffer.split_off(self.response_end(id, &buffer));
                let rest = self.consume_large(id, buffer, behind, outlet)?;
                self.keep_partial(id, rest);
                continue;
            }
            let mut buffer = buffer;
            let consumed = self.consume(id, &buffer, outlet)?;
            buffer.drain(..consumed);
            if buffer.capacity() <= KEPT_PARTIAL || !buffer.is_empty() {
                self.keep_partial(id, buffer);
            } else {
                self.keep_buffer(buffer);
            }
        }
    }

    /// How many of so many bytes of a server are to be dropped.
    #[cold]
    #[inline(never)]
    fn drop_unwanted(&mut self, id: LinkId, len: usize) -> usize {
        let Some(stream) = self.links[id.index()].stream_mut() else { return 0 };
        let dropped = stream.unwanted.min(len);
        stream.unwanted -= dropped;
        dropped
    }

    /// Passes on the responses at the front of `input`; returns the number of bytes used.
    pub(super) fn consume(&mut self, id: LinkId, input: &[u8], outlet: &mut dyn Outlet) -> Result<usize, Violation> {
        let Some(stream) = self.links[id.index()].stream() else { return Ok(input.len()) }; // given up meanwhile
        if !stream.answered && is_turned_away(input) {
            return Err(Violation::Full);
        }
        let mut at = if stream.unwanted > 0 { self.drop_unwanted(id, input.len()) } else { 0 };
        let mut to = Delivery { succeeded: false, outlet };
        let mut outcome = Ok(());
        while at < input.len() {
            let rest = &input[at..];
            let link = &self.links[id.index()];
            let front = link.queue.in_flight.front().copied();
            let step = match front {
                _ if link.listens() => self.take_message(id, rest, &mut to),
                None if rest.first() == Some(&b'>') && self.is_redis(id) => self.take_push(id, rest),
                None if !link.is_up() => Step::Used(rest.len()), // given up meanwhile
                None => Step::Broken(Violation::Unsolicited),
                Some(ticket) => self.take(id, ticket, rest, &mut to),
            };
            match step {
                Step::Used(used) => at += used,
                Step::Need(need) => {
                    if let Some(stream) = self.links[id.index()].stream_mut() {
                        stream.need = need;
                    }
                    break;
                }
                Step::Broken(violation) => {
                    outcome = Err(violation);
                    break;
                }
            }
        }
        if to.succeeded {
            let link = &mut self.links[id.index()];
            let (pool, server, heard) = (link.pool, link.server, link.heard);
            if let Some(stream) = link.stream_mut() {
                stream.answered = true;
            }
            if let Some(failed_for) = self.registry.succeeded(pool, server, self.worker, heard) {
                self.outputs.tell(Notice::Well { pool, server, failed_for });
            }
        }
        if at > input.len() {
            if let Some(stream) = self.links[id.index()].stream_mut() {
                stream.unwanted = at - input.len();
            }
            at = input.len();
        }
        outcome.map(|()| at)
    }

    pub(super) fn is_redis(&self, id: LinkId) -> bool {
        self.topology.pools[self.links[id.index()].pool.index()].protocol == Protocol::Redis
    }

    /// What can be used of the response to the front ticket.
    fn take(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        match ticket.verb {
            Verb::Query | Verb::Command | Verb::FlushDatabase | Verb::Subscribe => {
                self.take_reply(id, ticket, input, to)
            }
            Verb::Watch => self.take_watched(id, ticket, input, to),
            Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => self.take_get(id, ticket, input, to),
            Verb::FlushAll | Verb::Version | Verb::Delete if self.is_redis(id) => {
                self.take_reply(id, ticket, input, to)
            }
            _ => self.take_response(id, ticket, input, to),
        }
    }

    /// The whole response to anything else.
    #[inline(never)]
    fn take_response(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let link = &self.links[id.index()];
        let response = match ticket.verb {
            Verb::MetaGet | Verb::MetaSet | Verb::MetaDelete | Verb::MetaArith | Verb::MetaDebug => {
                let line = link.queue.outbox.between(ticket.start, link.queue.front_end());
                let value_limit = self.response_limit(link);
                response::meta(input, meta_asked(line, ticket), value_limit)
            }
            Verb::Stats if link.dropped().is_some() => stats::rest_of_listing(input),
            Verb::Stats if ticket.is(Marks::LISTING) => {
                let Some(stream) = self.links[id.index()].stream_mut() else { return Step::Used(input.len()) };
                stats::listing(input, &mut stream.cursor.line_at)
            }
            verb => response::classic(input, verb),
        };
        match response {
            Response::Incomplete { need } => Step::Need(need),
            Response::Broken(violation) => Step::Broken(violation),
            Response::TooLarge { len, whole } => {
                match ticket.verb {
                    Verb::Stats => self.links[id.index()].drop_some(Failure::TooLarge),
                    _ => self.drop_response(id, len),
                }
                if whole { self.refuse_response(id, to).using(len) } else { Step::Used(len) }
            }
            Response::Complete { len, status, strip } if strip.is_empty() => {
                self.finish(id, [&input[..len], b""], status, to).using(len)
            }
            Response::Complete { len, status, strip } => {
                self.finish(id, [&input[..strip.start], &input[strip.end..len]], status, to).using(len)
            }
        }
    }

    /// Gives a whole response, in two pieces that belong together, to whoever waits for it, and takes the ticket.
    pub(super) fn finish(&mut self, id: LinkId, response: [&[u8]; 2], status: Status, to: &mut Delivery<'_>) -> Step {
        let link = &mut self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        let found = link.front_found(status, response[0]);
        let Some((ticket, end)) = link.pop() else { return Step::Broken(Violation::Unsolicited) };
        // The request is in the outbox until it is released, for those who want to look at it.
        let len = response[0].len() + response[1].len();
        if self.telemetry.hot.meets(end.since(ticket.start) + len) {
            self.sample(id, ticket, end, response);
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
                        let link = &mut self.links[id.index()];
                        let latency = link.heard - started;
                        link.observe_latency(latency);
                        to.succeeded = true;
                        if is_last && self.telemetry.slow.is_slow(started, link.heard) {
                            self.slow_answer(id, ticket, end, started);
                        }
                        self.count_answer(pool, server, Counted { status, found, latency, is_part, is_last });
                    }
                    None => outcome = Outcome::Late,
                }
            }
        }
        if matches!(status, Status::Unwilling(_)) && ticket.verb == Verb::Command {
            self.invalidate_refused(id, ticket, end, status);
        }
        self.counters.server(pool, server).outcomes[outcome as usize].add(1);
        self.release(id, end);
        if let Some(client) = due {
            // Last of all: the client may have the CPU at once, and what comes after that finds cold caches.
            self.hand_out(client, response, to.outlet);
        }
        Step::Used(len)
    }

    /// The response to the front ticket is larger than is taken: whoever waits for it is answered by the pool's policy.
    /// The server has answered all the same, so nothing is held against it.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse_response(&mut self, id: LinkId, to: &mut Delivery<'_>) -> Step {
        let link = &mut self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        let failure = link.dropped().unwrap_or(Failure::TooLarge);
        let Some((ticket, end)) = link.pop() else { return Step::Broken(Violation::Unsolicited) };
        link.queue.scripts.drop_doubt(ticket);
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
        let outbox = &mut self.links[id.index()].queue.outbox;
        outbox.release(end);
        if outbox.has_spent() {
            self.restock_spent(id);
        }
    }

    #[cold]
    #[inline(never)]
    fn restock_spent(&mut self, id: LinkId) {
        let spent = self.links[id.index()].queue.outbox.take_spent();
        self.keep_buffer(spent);
    }

    /// Counts a response that somebody waited for.
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
        let Self { sessions, counters, topology, .. } = &mut *self;
        let session = sessions.get_mut(id.index()).filter(|session| session.generation == id.generation)?;
        let front = session.is_front(number);
        let slot = session.slot_mut(number).filter(|slot| slot.waiting() > 0)?;
        let started = slot.started();
        if let Answer::Merged { waiting, merge, .. } = &mut slot.answer {
            if forgiven.is_some() {
                outcome = Outcome::Degraded; // a pool that tells failures forgives none
            }
            let before = merge.footprint();
            if !merge.finish(fragment) {
                return None;
            }
            *waiting -= 1;
            let done = *waiting == 0;
            let mut said = None;
            let forgiven = forgiven.or_else(|| (!fits_twice).then_some(Failure::NoMemory));
            match merge.as_mut() {
                Merge::Gather(gather) if forgiven.is_none() => gather.came(fragment, response[0]),
                Merge::Values(_) if forgiven.is_none() && matches!(status, Status::Done | Status::Absent) => {} // they are in their places
                merge => said = part_came(merge, topology, counters, pool, fragment, (response[0], status), forgiven),
            }
            slot.outcome = slot.outcome.max(outcome);
            let after = merge.footprint();
            session.held += after - before;
            if forgiven.is_some() {
                self.doubt_watch(id);
            }
            if let Some((server, version)) = said {
                self.learn_version(pool, server, version);
            }
            if done {
                self.advance(id);
            }
            return Some(Handed { started, is_part: true, is_last: done, is_due: false });
        }
        let Answer::Of { request, server, echo } = &mut slot.answer else { return None };
        let (verb, may_be_hidden) = (request.verb, request.may_be_hidden());
        let mut degraded = Vec::new();
        let mut parts = response;
        // What is passed on at once may stay in the buffer that it came in; the rest is copied.
        let overflows = !(if front { fits } else { fits_twice });
        let is_replaced = forgiven.is_some() || overflows;
        if is_replaced {
            let (request, server, echo) = (*request, *server, std::mem::take(echo));
            let failure = forgiven.unwrap_or(Failure::NoMemory);
            outcome = self.write_degraded(&mut degraded, pool, &request, &echo, Some(server), failure);
            self.doubt_watch(id);
            parts = [&degraded, b""];
        }
        let session = self.sessions.get_mut(id.index())?;
        if verb.is_read() && status == Status::Done {
            session.observe_response(len);
        }
        let slot = session.slot_mut(number)?;
        let hidden = may_be_hidden && slot.request().is_some_and(|request| request.hides(parts[0]));
        slot.outcome = outcome;
        if front {
            let alone = session.slots.len() == 1 && session.output.len() == 0;
            if let Some(slot) = session.slots.pop_front() {
                slot.count(self.counters.pool(pool));
                session.base = session.base.wrapping_add(1);
                session.keys_in_flight -= slot.keys as usize;
            }
            if !hidden {
                if alone && !is_replaced {
                    return Some(Handed { started, is_part: false, is_last: true, is_due: true });
                }
                session.output.append(parts[0]);
                session.output.append(parts[1]);
            }
            if len > SMALL {
                self.charge_session(id);
            }
            self.advance(id);
        } else {
            let body = if hidden { Vec::new() } else { parts.concat() };
            let held = slot.settle(body, outcome);
            session.held += held;
            if session.hoard.is_some() || session.charged + held > self.memory.limits().fair {
                self.recharge_session(id);
            } else {
                session.charged += held;
                self.memory.recharge(0, held);
            }
        }
        Some(Handed { started, is_part: false, is_last: true, is_due: false })
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
        let draining = self.draining;
        let Some(session) = self.session(id) else { return };
        if rest[0].is_empty() && rest[1].is_empty() && session.is_content() && !draining {
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
        let Self { sessions, memcache, counters, .. } = self;
        let Some(session) = sessions.get_mut(id.index()).filter(|session| session.generation == id.generation) else {
            return;
        };
        while let Some(front) = session.slots.front()
            && front.waiting() == 0
        {
            let Some(mut slot) = session.slots.pop_front() else { break };
            if matches!(slot.merge(), Some(Merge::Values(_))) {
                slot.note(std::mem::replace(&mut session.part_outcome, Outcome::Hit));
                if slot.class.is_none() {
                    session.part_outcome = slot.outcome; // more parts follow
                }
            }
            slot.count(counters.pool(session.pool));
            session.base = session.base.wrapping_add(1);
            session.keys_in_flight -= slot.keys as usize;
            session.held -= slot.held();
            let is_heard;
            let mut merge = match slot.answer {
                Answer::Ready(body) => {
                    session.output.push(body);
                    continue;
                }
                Answer::Merged { request, merge, .. } => {
                    is_heard = !request.noreply;
                    merge
                }
                Answer::Of { .. } | Answer::Crawled => continue,
            };
            if let Merge::Values(values) = merge.as_mut() {
                let earlier = session.part_error.take();
                values.error = values.error.take().or(earlier);
                if values.unfinished {
                    session.part_error = values.error.take();
                }
            }
            if is_heard {
                merge.write(&mut session.output);
            }
            if let Merge::Gather(gather) = merge.as_ref()
                && let Some(database) = gather.selected()
                && let Some(client) = &mut session.redis
            {
                client.database = database;
            }
            if memcache.spare_values.len() < SPARE_VALUES
                && matches!(merge.as_ref(), Merge::Values(values) if values.is_worth_keeping())
            {
                memcache.spare_values.push(merge);
            }
        }
        if session.paused.is_some() && session.has_room_again() {
            self.resumable.push(id);
        }
        self.touch_session(id);
    }
}

/// What a client is told of a part of a Redis request that a server failed, if the pool tells failures.
fn gather_error(topology: &Topology, pool: PoolId, failure: Failure) -> Option<Vec<u8>> {
    Policy::of(&topology.pools[pool.index()]).tells().then(|| [b"-ERR ", reply::reason(failure), b"\r\n"].concat())
}

/// What a response to a meta request line is checked against.
fn meta_asked(request: &[u8], ticket: Ticket) -> MetaAsked<'_> {
    let end = memchr::memchr(b'\r', request).unwrap_or(request.len());
    let mut words = Words::new(&request[..end]);
    words.next();
    let key = words.next().unwrap_or_default();
    let flags = words.rest();
    MetaAsked {
        verb: ticket.verb,
        key,
        flags,
        base64: ticket.is(Marks::BASE64),
        strip_key: ticket.is(Marks::STRIP_KEY),
    }
}

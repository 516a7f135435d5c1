//! A server's bytes become responses, and responses go to the clients that wait for them.

#![expect(clippy::wildcard_enum_match_arm, reason = "responses to all other verbs are read alike")]

use std::ops::Range;

use super::degrade::Lost;
use super::large::{self, LARGE};
use super::link::{LinkId, LinkState, Ticket};
use super::merge::{Merge, NO_KEY};
use super::session::{Session, SessionId};
use super::stall::Often;
use super::{Engine, Notice, Outlet};
use crate::config::model::{OnFailure, PoolId, Protocol};
use crate::failure::Failure;
use crate::proto::memcache::meta::Flags;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::{self, MetaAsked, Piece, Response, Status, Violation};
use crate::proto::memcache::{Verb, reply, stats};
use crate::time::Instant;

/// Responses of up to this many bytes are passed on even when the memory limit is reached.
const SMALL: usize = 1 << 10;

/// Capacity that a link keeps for the beginning of a response.
const KEPT_PARTIAL: usize = 64 << 10;

/// What looking at a server's bytes led to.
pub(super) enum Step {
    /// So many bytes are used; look again.
    Used(usize),
    /// Nothing more can be done with fewer bytes than these.
    Need(usize),
    /// The server broke the protocol.
    Broken(Violation),
}

/// What comes of the responses in the bytes of one read.
pub(super) struct Delivery<'a> {
    /// Somebody got the response that they waited for.
    succeeded: bool,
    outlet: &'a mut dyn Outlet,
}

impl Engine {
    /// Takes bytes from a server and passes on the responses in them.
    pub(super) fn deliver(&mut self, id: LinkId, data: &[u8], now: Instant, outlet: &mut dyn Outlet) {
        self.hear(id, data.len(), now);
        let outcome = self.consume_partial(id, data, outlet).and_then(|used| {
            // The usual case: whole responses are passed on from where they were read.
            let rest = &data[used..];
            let used = self.consume(id, rest, outlet)?;
            let link = &mut self.links[id.index()];
            if link.state == LinkState::Up {
                link.partial.extend_from_slice(&rest[used..]);
                link.huge &= data.len() < large::BEHIND || (!link.partial.is_empty() && link.need >= large::HUGE);
            }
            Ok(())
        });
        self.judge(id, outcome, now);
    }

    /// So many bytes came from a server.
    pub(super) fn hear(&mut self, id: LinkId, count: usize, now: Instant) {
        let link = &mut self.links[id.index()];
        link.heard = now;
        let (pool, server) = (link.pool, link.server);
        if std::mem::take(&mut link.suspect) {
            self.pay_open(id, now); // it was asked nothing meanwhile, and may have missed something
        }
        self.counters.server(pool, server).response_bytes.add(count as u64);
    }

    /// A server's bytes have been used, or it broke the protocol.
    pub(super) fn judge(&mut self, id: LinkId, outcome: Result<(), Violation>, now: Instant) {
        match outcome {
            Ok(()) => self.charge_link(id),
            Err(violation) => {
                let link = &self.links[id.index()];
                let (pool, server) = (link.pool, link.server);
                self.tell_seldom(Often::Violation, Notice::Violation { pool, server, violation }, now);
                self.fail_link(id, Failure::Protocol, now);
            }
        }
    }

    /// Completes the response of which the beginning is kept, with no more of `data` than it needs; returns how much of
    /// `data` that was. When something is still kept afterwards, all of `data` has been used.
    fn consume_partial(&mut self, id: LinkId, data: &[u8], outlet: &mut dyn Outlet) -> Result<usize, Violation> {
        let mut used = 0;
        loop {
            let link = &mut self.links[id.index()];
            if link.partial.is_empty() || used == data.len() {
                return Ok(used);
            }
            // While a length is not known yet, a little more than is needed: a line at a time, not a byte.
            let wanted = link.need.saturating_sub(link.partial.len()).max(64).min(data.len() - used);
            link.partial.extend_from_slice(&data[used..used + wanted]);
            used += wanted;
            if link.partial.len() < link.need {
                return Ok(used);
            }
            let mut buffer = std::mem::take(&mut link.partial);
            let consumed = self.consume(id, &buffer, outlet)?;
            buffer.drain(..consumed);
            if buffer.capacity() <= KEPT_PARTIAL || !buffer.is_empty() {
                self.links[id.index()].partial = buffer;
            } else {
                self.restock(buffer);
            }
        }
    }

    /// Passes on the responses at the front of `input`; returns the number of bytes used.
    pub(super) fn consume(&mut self, id: LinkId, input: &[u8], outlet: &mut dyn Outlet) -> Result<usize, Violation> {
        let mut at = 0;
        let mut to = Delivery { succeeded: false, outlet };
        let mut outcome = Ok(());
        while at < input.len() {
            let rest = &input[at..];
            let link = &self.links[id.index()];
            let front = link.in_flight.front().copied();
            let step = match front {
                _ if link.listens => self.take_message(id, rest, &mut to),
                None if rest.first() == Some(&b'>') && self.is_redis(id) => self.take_push(id, rest),
                None => Step::Broken(Violation::Unsolicited),
                Some(ticket) => self.take(id, ticket, rest, &mut to),
            };
            match step {
                Step::Used(used) => at += used,
                Step::Need(need) => {
                    self.links[id.index()].need = need;
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
            link.answered = true;
            self.board.succeeded(link.pool, link.server);
        }
        outcome.map(|()| at)
    }

    pub(super) fn is_redis(&self, id: LinkId) -> bool {
        self.config.pools[self.links[id.index()].pool.index()].protocol == Protocol::Redis
    }

    /// What can be used of the response to the front ticket.
    fn take(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        match ticket.verb {
            Verb::Query | Verb::Command | Verb::FlushDatabase | Verb::Subscribe => {
                self.take_reply(id, ticket, input, to)
            }
            Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats if ticket.is(Ticket::SPLIT) => {
                self.take_piece(id, ticket, input, to)
            }
            Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => self.take_get(id, ticket, input, to),
            Verb::FlushAll | Verb::Version | Verb::Delete if self.is_redis(id) => {
                self.take_reply(id, ticket, input, to)
            }
            _ => self.take_response(id, ticket, input, to),
        }
    }

    /// The whole response to a get of one key.
    fn take_get(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let link = &self.links[id.index()];
        let value_limit = self.config.pools[link.pool.index()].value_limit;
        let (len, status) = match response::piece(input, ticket.verb, value_limit) {
            // Once the length is known, the end that must follow is waited for as well.
            Piece::Incomplete { need } if need > input.len() + LARGE => return Step::Need(need + reply::END.len()),
            Piece::Incomplete { need } => return Step::Need(need),
            Piece::Broken(violation) => return Step::Broken(violation),
            Piece::End { len } => (len, Status::Absent),
            Piece::Error { len, status } => (len, status),
            Piece::Value { key, len } => {
                if key != asked_key(link.outbox.between(ticket.start, link.front_end()), ticket.verb) {
                    return Step::Broken(Violation::WrongKey);
                }
                match response::piece(&input[len..], ticket.verb, value_limit) {
                    Piece::End { len: end } => (len + end, Status::Done),
                    Piece::Incomplete { need } => return Step::Need(len + need),
                    // An error line in place of END: the value is whole, but the server says it is not well.
                    Piece::Error { len: end, status } => {
                        return self.finish(id, &input[len..len + end], status, 0..0, to).after(len);
                    }
                    Piece::Value { .. } => return Step::Broken(Violation::WrongKey),
                    Piece::Broken(violation) => return Step::Broken(violation),
                }
            }
        };
        self.finish(id, &input[..len], status, 0..0, to)
    }

    /// The next value, or the end, of the response to a part of a multi-get.
    fn take_piece(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let free = self.memory_limit.saturating_sub(self.memory);
        let Self { links, sessions, config, counters, .. } = self;
        let link = &mut links[id.index()];
        let value_limit = config.pools[link.pool.index()].value_limit;
        match response::piece(input, ticket.verb, value_limit) {
            Piece::Incomplete { need } => Step::Need(need),
            Piece::Broken(violation) => Step::Broken(violation),
            Piece::End { len } => self.finish(id, &input[..len], Status::Absent, 0..0, to),
            Piece::Error { len, status } => self.finish(id, &input[..len], status, 0..0, to),
            Piece::Value { key, len } => {
                let line = link.outbox.between(ticket.start, link.front_end());
                let mut session =
                    sessions.get_mut(ticket.session as usize).filter(|s| s.generation == ticket.generation);
                let mut values = session.as_deref_mut().and_then(|session| waiting_values(session, ticket));
                let mut cursor = link.cursor;
                if !cursor.started {
                    cursor.started = true;
                    cursor.line_at = keys_at(line, ticket.verb);
                    cursor.key = values.as_ref().map_or(NO_KEY, |values| {
                        values.fragments.get(usize::from(ticket.fragment)).map_or(NO_KEY, |fragment| fragment.first)
                    });
                }
                // Values come in the order of the keys, misses left out; so the key must be one that is still ahead.
                let line = &line[..line.len() - 2];
                let mut words = Words::new(&line[cursor.line_at..]);
                loop {
                    let Some(asked) = words.next() else {
                        return Step::Broken(Violation::WrongKey);
                    };
                    let index = cursor.key;
                    if let Some(values) = &values {
                        cursor.key = values.keys.get(index as usize).map_or(NO_KEY, |slot| slot.next);
                    }
                    if asked == key {
                        cursor.line_at = line.len() - words.rest().len();
                        let kept = len <= SMALL || len <= free;
                        if !kept && let Some(values) = values.as_deref_mut() {
                            counters.pool(link.pool).degraded[Failure::NoMemory as usize].add(1);
                            if config.pools[link.pool.index()].on_failure == OnFailure::Error {
                                values.error.get_or_insert_with(|| reply::error(Failure::NoMemory).to_vec());
                            }
                        }
                        if let Some(values) = values.as_deref_mut().filter(|values| kept && values.fits(len)) {
                            values.found(index, &input[..len]);
                            if let Some(session) = session {
                                session.held += len;
                                session.observe_response(len);
                            }
                        }
                        break;
                    }
                }
                link.cursor = cursor;
                if len > SMALL {
                    self.charge_session(SessionId { index: ticket.session, generation: ticket.generation });
                }
                Step::Used(len)
            }
        }
    }

    /// The whole response to anything else.
    fn take_response(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let link = &self.links[id.index()];
        let response = match ticket.verb {
            Verb::MetaGet | Verb::MetaSet | Verb::MetaDelete | Verb::MetaArith | Verb::MetaDebug => {
                let line = link.outbox.between(ticket.start, link.front_end());
                let value_limit = self.config.pools[link.pool.index()].value_limit;
                response::meta(input, meta_asked(line, ticket), value_limit)
            }
            Verb::Stats if ticket.is(Ticket::LISTING) => stats::listing(input),
            verb => response::classic(input, verb),
        };
        match response {
            Response::Incomplete { need } => Step::Need(need),
            Response::Broken(violation) => Step::Broken(violation),
            Response::Complete { len, status, strip } => self.finish(id, &input[..len], status, strip, to),
        }
    }

    /// Gives a whole response to whoever waits for it, and takes the ticket.
    pub(super) fn finish(
        &mut self,
        id: LinkId,
        response: &[u8],
        status: Status,
        strip: Range<usize>,
        to: &mut Delivery<'_>,
    ) -> Step {
        let link = &mut self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        let Some(ticket) = link.pop() else { return Step::Broken(Violation::Unsolicited) };
        let counters = self.counters.server(pool, server);
        counters.responses.add(1);
        self.leave_link(id, ticket);
        if ticket.is(Ticket::NOREPLY) {
            to.succeeded = true;
        } else if ticket.session == Ticket::NOBODY {
            self.counters.server(pool, server).own_responses.add(1);
            self.own_response(id, ticket, response, status);
        } else if let Some(started) = self.hand_over(pool, ticket, response, status, strip, to.outlet) {
            let link = &mut self.links[id.index()];
            link.observe_latency(link.heard - started);
            to.succeeded = true;
        } else {
            self.counters.server(pool, server).late_responses.add(1);
        }
        Step::Used(response.len())
    }

    /// Whether there is no memory to keep so many bytes for a client. What is small is kept all the same: the answer in
    /// its place would not be smaller.
    fn overflows(&self, len: usize) -> bool {
        len > SMALL && self.memory + len > self.memory_limit
    }

    /// Puts a response into its slot. Returns when its request was read; `None` when nobody waits for it any more.
    fn hand_over(
        &mut self,
        pool: PoolId,
        ticket: Ticket,
        response: &[u8],
        status: Status,
        strip: Range<usize>,
        outlet: &mut dyn Outlet,
    ) -> Option<Instant> {
        let forgiven = match status {
            Status::OutOfMemory => Some(Failure::ServerMemory),
            Status::Unwilling(failure) => Some(failure),
            _ => None,
        };
        let forgiven = forgiven.filter(|_| self.forgives(pool));
        let overflows = self.overflows(response.len());
        let id = SessionId { index: ticket.session, generation: ticket.generation };
        let session = self.sessions.get_mut(id.index()).filter(|session| session.generation == id.generation)?;
        let front = session.is_front(ticket.number);
        let slot = session.slot_mut(ticket.number).filter(|slot| slot.waiting > 0)?;
        let started = slot.started;
        if let Some(merge) = &mut slot.merge {
            let before = merge.footprint();
            if !merge.finish(ticket.fragment) {
                return None;
            }
            slot.waiting -= 1;
            match (merge.as_mut(), status) {
                (Merge::Gather(gather), _) => match forgiven {
                    Some(failure) => {
                        self.counters.pool(pool).degraded[failure as usize].add(1);
                        gather.lost(ticket.fragment, None);
                    }
                    None => gather.came(ticket.fragment, response),
                },
                (Merge::Listing(listing), Status::Done) => {
                    listing.summed.add(response, listing.keep_first);
                    listing.answered = true;
                }
                _ if forgiven.is_some() => {}
                (merge, Status::Error | Status::OutOfMemory) => merge.error(response),
                _ => {}
            }
            let done = slot.waiting == 0;
            let after = merge.footprint();
            session.held += after - before;
            if done {
                self.advance(id);
            }
            return Some(started);
        }
        slot.waiting = 0;
        let (verb, conditional, in_place, server) = (slot.verb, slot.conditional, slot.in_place, slot.server);
        let mut degraded = Vec::new();
        let (head, tail) =
            if strip.is_empty() { (response, &b""[..]) } else { (&response[..strip.start], &response[strip.end..]) };
        let mut parts: [&[u8]; 2] = [head, tail];
        if forgiven.is_some() || overflows {
            let echo = std::mem::take(&mut slot.body);
            let failure = forgiven.unwrap_or(Failure::NoMemory);
            let lost = Lost { verb, conditional, echo: &echo, in_place, server: Some(server) };
            self.write_degraded(&mut degraded, pool, lost, failure);
            parts = [&degraded, b""];
        }
        let session = self.sessions.get_mut(id.index())?;
        if verb.is_read() && status == Status::Done {
            session.observe_response(response.len());
        }
        let slot = session.slot_mut(ticket.number)?;
        let hidden = slot.quiet && reply::is_hidden_when_quiet(verb, parts[0]);
        slot.body.clear();
        if front {
            let alone = session.slots.len() == 1 && session.output.len() == 0;
            if let Some(slot) = session.slots.pop_front() {
                session.base = session.base.wrapping_add(1);
                session.keys_in_flight -= slot.keys as usize;
            }
            if !hidden {
                if alone && parts[1].is_empty() {
                    // Nothing to share a write with: straight to the client, with no copy in between.
                    let written = outlet.offer(id, parts[0]);
                    parts[0] = &parts[0][written..];
                    if parts[0].is_empty() && session.is_content() && !self.draining {
                        return Some(started);
                    }
                }
                session.output.append(parts[0]);
                session.output.append(parts[1]);
            }
            if response.len() > SMALL {
                self.charge_session(id);
            }
            self.advance(id);
        } else if !hidden {
            slot.body.extend_from_slice(parts[0]);
            slot.body.extend_from_slice(parts[1]);
            let held = slot.body.len();
            session.held += held;
            self.charge_session(id);
        }
        Some(started)
    }

    /// Moves the finished responses at the front of a session to its output.
    pub(super) fn advance(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        while let Some(front) = session.slots.front()
            && front.waiting == 0
        {
            let Some(slot) = session.slots.pop_front() else { break };
            session.base = session.base.wrapping_add(1);
            session.keys_in_flight -= slot.keys as usize;
            session.held -= slot.body.len();
            session.output.push(slot.body);
            if let Some(mut merge) = slot.merge {
                session.held -= merge.footprint();
                if let Merge::Values(values) = merge.as_mut() {
                    let earlier = session.part_error.take();
                    values.error = values.error.take().or(earlier);
                    if values.unfinished {
                        session.part_error = values.error.take();
                    }
                }
                merge.write(&mut session.output);
            }
        }
        if session.paused.is_some() && session.has_room_again() {
            self.resumable.push(id);
        }
        self.touch_session(id);
    }
}

impl Step {
    /// The same step, `more` bytes further on.
    fn after(self, more: usize) -> Self {
        match self {
            Self::Used(used) => Self::Used(used + more),
            Self::Need(need) => Self::Need(need + more),
            Self::Broken(violation) => Self::Broken(violation),
        }
    }
}

/// The values that a fragment's ticket belongs to, if somebody still waits for them.
fn waiting_values(session: &mut Session, ticket: Ticket) -> Option<&mut super::merge::Values> {
    let slot = session.slot_mut(ticket.number).filter(|slot| slot.waiting > 0)?;
    match slot.merge.as_deref_mut() {
        Some(Merge::Values(values)) => Some(values),
        _ => None,
    }
}

/// Where, in a request line as [`crate::proto::memcache::encode`] writes it, the keys start.
fn keys_at(line: &[u8], verb: Verb) -> usize {
    let mut words = Words::new(line);
    words.next();
    if matches!(verb, Verb::Gat | Verb::Gats) {
        words.next();
    }
    line.len() - words.rest().len()
}

/// The only key of a get line.
fn asked_key(line: &[u8], verb: Verb) -> &[u8] {
    line.get(keys_at(line, verb) + 1..line.len() - 2).unwrap_or_default()
}

/// What a response to a meta request line is checked against.
fn meta_asked(request: &[u8], ticket: Ticket) -> MetaAsked<'_> {
    let end = memchr::memchr(b'\r', request).unwrap_or(request.len());
    let mut words = Words::new(&request[..end]);
    words.next();
    let key = words.next().unwrap_or_default();
    let opaque = words.find(|word| word[0] == b'O');
    let seen = Flags { base64: ticket.is(Ticket::BASE64), key: ticket.is(Ticket::ASKED_KEY), ..Flags::default() };
    MetaAsked { verb: ticket.verb, key, opaque, seen, strip_key: ticket.is(Ticket::STRIP_KEY) }
}

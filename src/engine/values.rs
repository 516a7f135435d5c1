//! The responses to gets: values one by one, each for the request that asked for it.

use super::Engine;
use super::deliver::{Delivery, SMALL, Step};
use super::large::LARGE;
use super::link::{Link, LinkId, Ticket};
use super::merge::{Merge, NO_KEY, Values};
use super::session::{Session, SessionId};
use crate::config::model::OnFailure;
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::{self, Piece, Status, Violation};
use crate::proto::memcache::{Verb, reply as memcache};
use crate::proto::resp::reply;

impl Engine {
    /// The next value, or the end, of the response to a line of gets.
    ///
    /// Values come in the order of the keys, misses left out. So a value is for the first request of the line that still
    /// waits for its key, and says of the keys before it that they are not there.
    pub(super) fn take_get(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let link = &self.links[id.index()];
        let value_limit = self.config.pools[link.pool.index()].value_limit;
        let is_joined = link.front_is_joined();
        if ticket.is(Ticket::SPLIT) {
            return self.take_part(id, ticket, input, to);
        }
        match response::piece(input, ticket.verb, value_limit) {
            // Once the length is known, the end that must follow is waited for as well.
            Piece::Incomplete { need } if need > input.len() + LARGE && !is_joined => {
                Step::Need(need + memcache::END.len())
            }
            Piece::Incomplete { need } => Step::Need(need),
            Piece::Broken(violation) => Step::Broken(violation),
            Piece::End { len } => self.end_get(id, &input[..len], Status::Absent, to),
            Piece::Error { len, status } => self.end_get(id, &input[..len], status, to),
            Piece::Value { key, len } => {
                if key != only_key(link.outbox.between(ticket.start, link.front_end()), ticket.verb) {
                    return self.skip_to(id, key, to);
                }
                if is_joined {
                    return self.finish(id, [&input[..len], memcache::END], Status::Done, to).using(len);
                }
                match response::piece(&input[len..], ticket.verb, value_limit) {
                    Piece::End { len: end } => self.finish(id, [&input[..len + end], b""], Status::Done, to),
                    Piece::Incomplete { need } => Step::Need(len + need),
                    // An error line in place of END: the value is whole, but the server says it is not well.
                    Piece::Error { len: end, status } => {
                        self.finish(id, [&input[len..len + end], b""], status, to).using(len + end)
                    }
                    Piece::Value { .. } => Step::Broken(Violation::WrongKey),
                    Piece::Broken(violation) => Step::Broken(violation),
                }
            }
        }
    }

    /// The same for a part of a multi-get: all of its values that have come, and what follows them.
    fn take_part(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let (used, next) = self.place_values(id, ticket, input);
        match next {
            Some(Piece::End { len }) => {
                self.end_get(id, &input[used..used + len], Status::Absent, to).using(used + len)
            }
            Some(Piece::Error { len, status }) => {
                self.end_get(id, &input[used..used + len], status, to).using(used + len)
            }
            Some(Piece::Broken(violation)) => Step::Broken(violation),
            _ if used > 0 => Step::Used(used),
            Some(Piece::Value { key, .. }) => self.skip_to(id, key, to),
            Some(Piece::Incomplete { need }) => Step::Need(need),
            None => Step::Used(0),
        }
    }

    /// The response to a line of gets is over: `line` ends it for each of its requests that has not been answered.
    fn end_get(&mut self, id: LinkId, line: &[u8], status: Status, to: &mut Delivery<'_>) -> Step {
        while self.links[id.index()].front_is_joined() {
            if let Step::Broken(violation) = self.finish(id, [line, b""], status, to) {
                return Step::Broken(violation);
            }
        }
        self.finish(id, [line, b""], status, to)
    }

    /// A value is not for the front request. If it is for another one of the same line, those before that one are misses.
    fn skip_to(&mut self, id: LinkId, key: &[u8], to: &mut Delivery<'_>) -> Step {
        let Some(skipped) = self.links[id.index()].joined_request(key) else {
            return Step::Broken(Violation::WrongKey);
        };
        for _ in 0..skipped {
            if let Step::Broken(violation) = self.finish(id, [memcache::END, b""], Status::Absent, to) {
                return Step::Broken(violation);
            }
        }
        Step::Used(0)
    }

    /// Keeps the values at the front of `input` that are for the part of a multi-get that the front ticket stands for.
    /// Returns how many bytes they are, and the piece behind them that is no such value, if it has been looked at.
    fn place_values<'i>(&mut self, id: LinkId, ticket: Ticket, input: &'i [u8]) -> (usize, Option<Piece<'i>>) {
        let free = self.memory_limit.saturating_sub(self.memory);
        let Self { links, sessions, config, counters, limit_hit, .. } = self;
        let link = &mut links[id.index()];
        let config = &config.pools[link.pool.index()];
        let keys = asked_keys(link.outbox.between(ticket.start, link.front_end()), ticket.verb);
        let mut session = sessions.get_mut(ticket.session as usize).filter(|s| s.generation == ticket.generation);
        let mut values = match &mut session {
            // What is counted of the session is put down at the end, so that only one of the two is borrowed.
            Some(session) => waiting_values(session, ticket),
            None => None,
        };
        let mut cursor = link.cursor;
        if !cursor.started {
            cursor.started = true;
            cursor.key = values.as_ref().map_or(NO_KEY, |values| {
                values.fragments.get(usize::from(ticket.fragment)).map_or(NO_KEY, |fragment| fragment.first)
            });
        }
        let mut words = Words::new(&keys[cursor.line_at..]);
        let (mut at, mut held, mut largest, mut dropped) = (0, 0, 0, false);
        let next = loop {
            let piece = response::piece(&input[at..], ticket.verb, config.value_limit);
            let Piece::Value { key, len } = piece else { break Some(piece) };
            // The key must be one that is still ahead.
            let mut ahead = words.clone();
            let mut slot = cursor.key;
            let found = loop {
                let Some(asked) = ahead.next() else { break None };
                let index = slot;
                if let Some(values) = &values {
                    slot = values.keys.get(index as usize).map_or(NO_KEY, |slot| slot.next);
                }
                if asked == key {
                    break Some(index);
                }
            };
            let Some(index) = found else { break Some(piece) };
            (words, cursor.key) = (ahead, slot);
            cursor.found += 1;
            if let Some(values) = values.as_deref_mut() {
                if len > SMALL && len > free {
                    counters.count_degraded(link.pool, Some(link.server), Failure::NoMemory);
                    limit_hit.set(Some((link.pool, None, Failure::NoMemory)));
                    dropped = true;
                    if config.on_failure == OnFailure::Error {
                        values.error.get_or_insert_with(|| memcache::error(Failure::NoMemory).to_vec());
                    }
                } else if values.fits(len) {
                    values.found(index, &input[at..at + len]);
                    held += len;
                    largest = largest.max(len);
                }
            }
            at += len;
            if len > SMALL {
                break None; // it is charged before the next one is looked at
            }
        };
        cursor.line_at = keys.len() - words.rest().len();
        link.cursor = cursor;
        if dropped && let Some(slot) = session.as_mut().and_then(|session| session.slot_mut(ticket.number)) {
            slot.note(if config.on_failure == OnFailure::Error { Outcome::Failed } else { Outcome::Degraded });
        }
        if let Some(session) = session.filter(|_| held > 0) {
            session.held += held;
            session.observe_response(largest);
        }
        if largest > SMALL {
            self.charge_session(SessionId { index: ticket.session, generation: ticket.generation });
        }
        (at, next)
    }
}

impl Link {
    /// How many keys of the front request were there and how many were not, now that its response is over.
    #[inline]
    pub(super) fn front_found(&self, status: Status, response: &[u8]) -> (u64, u64) {
        let Some(ticket) = self.in_flight.front().filter(|ticket| ticket.class == Class::Get) else { return (0, 0) };
        match status {
            _ if ticket.is(Ticket::SPLIT) => self.front_found_of_many(ticket, status, response),
            Status::Done => (1, 0),
            Status::Absent => (0, 1),
            Status::Conflict | Status::OutOfMemory | Status::Unwilling(_) | Status::Error => (0, 0),
        }
    }

    fn front_found_of_many(&self, ticket: &Ticket, status: Status, response: &[u8]) -> (u64, u64) {
        let is_error = matches!(status, Status::OutOfMemory | Status::Unwilling(_) | Status::Error);
        if ticket.verb == Verb::Query {
            // All that is in the array are values and nulls.
            let values = reply::items(response).filter(|_| !is_error).map_or(0, |items| items.len() as u64);
            let nulls = u64::from(self.cursor.scan.map_or(0, |scan| scan.nulls()));
            return (values.saturating_sub(nulls), nulls.min(values));
        }
        let found = u64::from(self.cursor.found);
        if is_error {
            return (found, 0);
        }
        let keys = asked_keys(self.outbox.between(ticket.start, self.front_end()), ticket.verb);
        let keys = memchr::memchr_iter(b' ', keys).count() as u64;
        (found, keys.saturating_sub(found))
    }

    /// How many requests stand before the next one of the front request's line that asks for a key; `None` when none does.
    fn joined_request(&self, key: &[u8]) -> Option<usize> {
        for (index, ticket) in self.in_flight.iter().enumerate().skip(1) {
            if !ticket.joined {
                return None;
            }
            let end = self.in_flight.get(index + 1).map_or_else(|| self.outbox.end(), |next| next.start);
            let keys = asked_keys(self.outbox.between(ticket.start, end), ticket.verb);
            if Words::new(keys).any(|asked| asked == key) {
                return Some(index);
            }
        }
        None
    }
}

impl Step {
    /// The same step, with so many bytes used for it.
    pub(super) fn using(self, bytes: usize) -> Self {
        if matches!(self, Self::Used(_)) { Self::Used(bytes) } else { self }
    }
}

/// The values that a fragment's ticket belongs to, if somebody still waits for them.
fn waiting_values(session: &mut Session, ticket: Ticket) -> Option<&mut Values> {
    let slot = session.slot_mut(ticket.number).filter(|slot| slot.waiting > 0)?;
    match slot.merge.as_deref_mut() {
        Some(Merge::Values(values)) => Some(values),
        _ => None,
    }
}

/// The keys of a request as [`crate::proto::memcache::encode`] writes it and [`Link::push`] joins it to another, each
/// behind a blank.
pub(super) fn asked_keys(request: &[u8], verb: Verb) -> &[u8] {
    let request = request.strip_suffix(b"\r\n").unwrap_or(request);
    let keys = if request.first() == Some(&b' ') { request } else { &request[verb.name().len()..] };
    if !matches!(verb, Verb::Gat | Verb::Gats) {
        return keys;
    }
    let lifetime = memchr::memchr(b' ', keys.get(1..).unwrap_or_default());
    lifetime.map_or(keys, |end| &keys[1 + end..])
}

/// The only key of a request.
fn only_key(request: &[u8], verb: Verb) -> &[u8] {
    asked_keys(request, verb).get(1..).unwrap_or_default()
}

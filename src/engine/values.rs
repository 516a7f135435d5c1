//! The responses to gets: values one by one, each for the request that asked for it.

use super::Engine;
use super::deliver::{Delivery, SMALL, Step};
use super::large::LARGE;
use super::link::{Link, LinkId, Ticket};
use super::merge::{Merge, NO_KEY, Values};
use super::session::{Session, SessionId};
use crate::config::model::OnFailure;
use crate::failure::Failure;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::{self, Piece, Status, Violation};
use crate::proto::memcache::{Verb, reply};

impl Engine {
    /// The next value, or the end, of the response to a line of gets.
    ///
    /// Values come in the order of the keys, misses left out. So a value is for the first request of the line that still
    /// waits for its key, and says of the keys before it that they are not there.
    pub(super) fn take_get(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let link = &self.links[id.index()];
        let value_limit = self.config.pools[link.pool.index()].value_limit;
        let is_split = ticket.is(Ticket::SPLIT);
        let is_joined = link.front_is_joined();
        match response::piece(input, ticket.verb, value_limit) {
            // Once the length is known, the end that must follow is waited for as well.
            Piece::Incomplete { need } if need > input.len() + LARGE && !is_split && !is_joined => {
                Step::Need(need + reply::END.len())
            }
            Piece::Incomplete { need } => Step::Need(need),
            Piece::Broken(violation) => Step::Broken(violation),
            Piece::End { len } => self.end_get(id, &input[..len], Status::Absent, to),
            Piece::Error { len, status } => self.end_get(id, &input[..len], status, to),
            Piece::Value { key, len } if is_split => {
                if self.place_value(id, ticket, key, &input[..len]) {
                    return Step::Used(len);
                }
                self.skip_to(id, key, to)
            }
            Piece::Value { key, len } => {
                if key != only_key(link.outbox.between(ticket.start, link.front_end()), ticket.verb) {
                    return self.skip_to(id, key, to);
                }
                if is_joined {
                    return self.finish(id, [&input[..len], reply::END], Status::Done, to).using(len);
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
            if let Step::Broken(violation) = self.finish(id, [reply::END, b""], Status::Absent, to) {
                return Step::Broken(violation);
            }
        }
        Step::Used(0)
    }

    /// Keeps a value for the part of a multi-get that the front ticket stands for. Returns whether the part still waits
    /// for that key.
    fn place_value(&mut self, id: LinkId, ticket: Ticket, key: &[u8], block: &[u8]) -> bool {
        let free = self.memory_limit.saturating_sub(self.memory);
        let Self { links, sessions, config, counters, .. } = self;
        let link = &mut links[id.index()];
        let len = block.len();
        let keys = asked_keys(link.outbox.between(ticket.start, link.front_end()), ticket.verb);
        let mut session = sessions.get_mut(ticket.session as usize).filter(|s| s.generation == ticket.generation);
        let mut values = session.as_deref_mut().and_then(|session| waiting_values(session, ticket));
        let mut cursor = link.cursor;
        if !cursor.started {
            cursor.started = true;
            cursor.key = values.as_ref().map_or(NO_KEY, |values| {
                values.fragments.get(usize::from(ticket.fragment)).map_or(NO_KEY, |fragment| fragment.first)
            });
        }
        // The key must be one that is still ahead.
        let mut words = Words::new(&keys[cursor.line_at..]);
        let index = loop {
            let Some(asked) = words.next() else { return false };
            let index = cursor.key;
            if let Some(values) = &values {
                cursor.key = values.keys.get(index as usize).map_or(NO_KEY, |slot| slot.next);
            }
            if asked == key {
                break index;
            }
        };
        cursor.line_at = keys.len() - words.rest().len();
        link.cursor = cursor;
        let kept = len <= SMALL || len <= free;
        if !kept && let Some(values) = values.as_deref_mut() {
            counters.pool(link.pool).degraded[Failure::NoMemory as usize].add(1);
            if config.pools[link.pool.index()].on_failure == OnFailure::Error {
                values.error.get_or_insert_with(|| reply::error(Failure::NoMemory).to_vec());
            }
        }
        if let Some(values) = values.filter(|values| kept && values.fits(len)) {
            values.found(index, block);
            if let Some(session) = session {
                session.held += len;
                session.observe_response(len);
            }
        }
        if len > SMALL {
            self.charge_session(SessionId { index: ticket.session, generation: ticket.generation });
        }
        true
    }
}

impl Link {
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
fn asked_keys(request: &[u8], verb: Verb) -> &[u8] {
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

//! The responses to gets: values one by one, each for the request that asked for it.

use super::Engine;
use super::deliver::{Delivery, LARGE, SMALL, Step};
use super::link::{LinkId, Ticket};
use super::merge::{Merge, NO_KEY, Values};
use super::session::{Session, SessionId};
use crate::config::model::OnFailure;
use crate::failure::Failure;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::{self, Piece, Status, Violation};
use crate::proto::memcache::{Verb, reply};

impl Engine {
    /// The whole response to a get of one key.
    pub(super) fn take_get(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
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
    pub(super) fn take_piece(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
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
fn waiting_values(session: &mut Session, ticket: Ticket) -> Option<&mut Values> {
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

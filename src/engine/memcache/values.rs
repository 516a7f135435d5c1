//! The responses to gets: values one by one, each for the request that asked for it.

use crate::engine::Engine;
use crate::engine::buffers::LARGE;
use crate::engine::clients::session::Session;
use crate::engine::deliver::{Delivery, SMALL, Step};
use crate::engine::ids::LinkId;
use crate::engine::policy::Policy;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::engine::servers::{Connection, Cursor};
use crate::failure::Failure;
use crate::outcome::Class;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::{self, Piece, Status, Violation};
use crate::proto::memcache::{Verb, reply as memcache};
use crate::proto::resp::reply;

use super::merge::{KeySlot, NO_KEY, Values};

/// What stands behind the values of a request in the response to its line.
enum Following<'i> {
    /// A piece that is no value of it.
    Piece(Piece<'i>),
    /// The answer to the next request: it has got a value for its last key.
    NextRequest,
    /// That has not been looked at.
    Unknown,
}

impl Engine {
    /// The next value, or the end, of the response to a line of gets.
    ///
    /// Values come in the order of the keys, misses left out. So a value is for the first request of the line that still
    /// waits for its key, and says of the keys before it that they are not there.
    pub(in crate::engine) fn take_get(
        &mut self,
        id: LinkId,
        ticket: Ticket,
        input: &[u8],
        to: &mut Delivery<'_>,
    ) -> Step {
        if ticket.is(Marks::SPLIT) {
            return self.take_part(id, ticket, input, to);
        }
        let link = &self.servers[id];
        let value_limit = self.response_limit(link);
        let is_joined = link.queue().front_is_joined();
        let asked = asked_keys(link.queue().front_request(ticket), ticket.verb);
        let len = match response::value_of(asked, input, ticket.verb, value_limit) {
            Some(len) => len,
            None => match response::piece(input, ticket.verb, value_limit) {
                Piece::Value { key, len } if asked.strip_prefix(b" ") == Some(key) => len,
                Piece::TooLarge { key, len } if asked.strip_prefix(b" ") == Some(key) => {
                    // Its end must follow, unless another request of the line comes next.
                    self.drop_response(id, len);
                    return if is_joined { self.refuse_response(id, to).using(len) } else { Step::Used(len) };
                }
                Piece::Value { key, .. } | Piece::TooLarge { key, .. } => return self.skip_to(id, key, to),
                // Once the length is known, the end that must follow is waited for as well.
                Piece::Incomplete { need } if need > input.len() + LARGE && !is_joined => {
                    return Step::Need(need + memcache::END.len());
                }
                Piece::Incomplete { need } => return Step::Need(need),
                Piece::Broken(violation) => return Step::Broken(violation),
                Piece::End { len } => return self.end_get(id, &input[..len], Status::Absent, to),
                Piece::Error { len, status } => return self.end_get(id, &input[..len], status, to),
            },
        };
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
            Piece::Value { .. } | Piece::TooLarge { .. } => Step::Broken(Violation::WrongKey),
            Piece::Broken(violation) => Step::Broken(violation),
        }
    }

    /// The same for a part of a multi-get: all of its values that have come, and what follows them.
    #[inline(never)]
    fn take_part(&mut self, id: LinkId, ticket: Ticket, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let (used, behind) = self.place_values(id, ticket, input);
        match behind {
            Following::NextRequest => self.finish(id, [memcache::END, b""], Status::Absent, to).using(used),
            Following::Piece(Piece::End { len }) => {
                self.end_get(id, &input[used..used + len], Status::Absent, to).using(used + len)
            }
            Following::Piece(Piece::Error { len, status }) => {
                self.end_get(id, &input[used..used + len], status, to).using(used + len)
            }
            Following::Piece(Piece::Broken(violation)) => Step::Broken(violation),
            Following::Piece(Piece::Value { key, .. } | Piece::TooLarge { key, .. }) => {
                self.skip_to(id, key, to).using(used)
            }
            Following::Piece(Piece::Incomplete { need }) if used == 0 => Step::Need(need),
            Following::Piece(Piece::Incomplete { .. }) | Following::Unknown => Step::Used(used),
        }
    }

    /// The response to a line of gets is over: `line` ends it for each of its requests that has not been answered.
    #[inline(never)]
    fn end_get(&mut self, id: LinkId, line: &[u8], status: Status, to: &mut Delivery<'_>) -> Step {
        while self.servers[id].queue().front_is_joined() {
            if let Step::Broken(violation) = self.finish_missed(id, line, status, to) {
                return Step::Broken(violation);
            }
        }
        if status == Status::Absent && self.servers[id].dropped().is_some() && !self.front_is_split(id) {
            return self.refuse_response(id, to).using(line.len());
        }
        self.finish_missed(id, line, status, to).using(line.len())
    }

    /// Finishes the front request, of which keys are not there; what is kept of them may stand in for them.
    #[inline(always)]
    fn finish_missed(&mut self, id: LinkId, line: &[u8], status: Status, to: &mut Delivery<'_>) -> Step {
        if self.near.is_on()
            && status == Status::Absent
            && let Some(known) = self.stands_in(id, line)
        {
            return self.finish(id, [&known, b""], Status::Done, to);
        }
        self.finish(id, [line, b""], status, to)
    }

    fn front_is_split(&self, id: LinkId) -> bool {
        self.servers[id].queue().front().is_some_and(|ticket| ticket.is(Marks::SPLIT))
    }

    /// A value is not for the front request. If it is for another one of the same line, those before that one are misses.
    #[inline(never)]
    fn skip_to(&mut self, id: LinkId, key: &[u8], to: &mut Delivery<'_>) -> Step {
        let Some(skipped) = self.servers[id].joined_request(key) else {
            return Step::Broken(Violation::WrongKey);
        };
        for _ in 0..skipped {
            if let Step::Broken(violation) = self.finish_missed(id, memcache::END, Status::Absent, to) {
                return Step::Broken(violation);
            }
        }
        Step::Used(0)
    }

    /// Keeps the values at the front of `input` that are for the part of a multi-get that the front ticket stands for.
    /// Returns how many bytes they are, and what stands behind them.
    fn place_values<'i>(&mut self, id: LinkId, ticket: Ticket, input: &'i [u8]) -> (usize, Following<'i>) {
        // What is kept is copied once more when it is passed on.
        let free = (
            self.memory.limits().last.saturating_sub(self.memory.held()) / 2,
            self.memory.limits().common.saturating_sub(self.memory.held()) / 2,
        );
        let (fair, limit) = (self.memory.limits().fair, self.response_limit(&self.servers[id]));
        let Self { servers, clients, topology, counters, telemetry, memory, .. } = self;
        let link = &mut servers[id];
        let (pool, server) = (link.pool(), link.server());
        let config = &topology.pools[pool.index()];
        let Some((stream, queue)) = link.stream_and_queue() else { return (input.len(), Following::Unknown) };
        let keys = asked_keys(queue.front_request(ticket), ticket.verb);
        let is_joined = queue.front_is_joined();
        let client = ticket.client();
        let mut session = client.and_then(|(id, number)| {
            let session = clients.get_mut(id);
            session.map(|session| (session, number))
        });
        let mut values = match &mut session {
            // What is counted of the session is put down at the end, so that only one of the two is borrowed.
            Some((session, number)) => waiting_values(session, *number),
            None => None,
        };
        let mut cursor = stream.cursor();
        if !cursor.started {
            cursor.started = true;
            cursor.key = values.as_ref().map_or(NO_KEY, |(values, _)| {
                values.chains.get(usize::from(ticket.fragment)).map_or(NO_KEY, |chain| chain.first)
            });
        }
        let mut words = Words::new(&keys[cursor.line_at..]);
        let (mut at, mut largest, mut dropped) = (0, 0, false);
        if let Some((values, _)) = &mut values {
            // Nearly always the keys that are asked for are there, and their values small.
            while let Some(len) = values.place_next(&mut cursor, &mut words, at, input, ticket.verb, limit) {
                at += len;
                largest = largest.max(len);
            }
        }
        let (mut kept, mut shared) = (at, 0);
        let behind = loop {
            if is_joined && words.rest().is_empty() {
                break Following::NextRequest;
            }
            let piece = response::piece(&input[at..], ticket.verb, limit);
            let (key, len, too_large) = match piece {
                Piece::Value { key, len } => (key, len, None),
                Piece::TooLarge { key, len } if len > config.value_limit => (key, len, Some(Failure::TooLarge)),
                Piece::TooLarge { key, len } => (key, len, Some(Failure::NoMemory)),
                Piece::Incomplete { .. } | Piece::End { .. } | Piece::Error { .. } | Piece::Broken(_) => {
                    break Following::Piece(piece);
                }
            };
            // The key must be one that is still ahead.
            let mut ahead = words.clone();
            let Some(passed) = ahead.position(|asked| asked == key) else { break Following::Piece(piece) };
            words = ahead;
            cursor.found += 1;
            if let Some((values, error)) = &mut values {
                let key = values.key_behind(cursor.key, passed);
                cursor.key = values.key_behind(key, 1);
                let no_room =
                    (len > SMALL && len > if len > fair { free.1 } else { free.0 }).then_some(Failure::NoMemory);
                if let Some(failure) = too_large.or(no_room) {
                    counters.count_degraded(pool, Some(server), failure);
                    telemetry.limit_hit.set(Some((pool, Some(server), failure)));
                    dropped = true;
                    if Policy::of(config).tells() {
                        error.get_or_insert_with(|| memcache::error(failure).to_vec());
                    }
                } else if at == 0
                    && let Some(whole) = memory.whole.as_ref().filter(|whole| is_most_of(len, input, whole))
                    && values.share(key, len, whole)
                {
                    shared = len;
                    largest = len;
                } else if values.fits(at + len) {
                    values.place(key, at, len);
                    kept = at + len;
                    largest = largest.max(len);
                }
            }
            at += len;
            if len > SMALL {
                break Following::Unknown; // it is charged before the next one is looked at
            }
        };
        if let Some((values, _)) = values.filter(|_| kept > 0) {
            values.keep(&input[..kept], largest);
        }
        cursor.line_at = keys.len() - words.rest().len();
        *stream.cursor_mut() = cursor;
        if dropped && let Some(slot) = session.as_mut().and_then(|(session, number)| session.slot_mut(*number)) {
            slot.note(Policy::of(config).outcome());
        }
        if let Some((session, _)) = session.filter(|_| kept + shared > 0) {
            session.requests.hold(kept + shared);
            session.requests.observe_response(largest);
        }
        if largest > SMALL
            && let Some((id, _)) = client
        {
            self.charge_session(id);
        }
        (at, behind)
    }
}

impl Connection {
    /// How many keys of the front request were there and how many were not, now that its response is over.
    #[inline]
    pub(in crate::engine) fn front_found(&self, status: Status, response: &[u8]) -> (u64, u64) {
        let Some(ticket) = self.queue().front().filter(|ticket| ticket.class == Class::Get) else {
            return (0, 0);
        };
        match status {
            _ if ticket.is(Marks::SPLIT) => self.front_found_of_many(&ticket, status, response),
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
            let nulls = u64::from(self.scan().map_or(0, |scan| scan.nulls()));
            return (values.saturating_sub(nulls), nulls.min(values));
        }
        let found = self.stream().map_or(0, |stream| u64::from(stream.cursor().found));
        if is_error {
            return (found, 0);
        }
        (found, u64::from(ticket.keys).saturating_sub(found))
    }

    /// How many requests stand before the next one of the front request's line that asks for a key; `None` when none does.
    fn joined_request(&self, key: &[u8]) -> Option<usize> {
        let mut joined =
            self.queue().requests().enumerate().skip(1).take_while(|(_, (ticket, _))| ticket.is(Marks::JOINED));
        let asks =
            |(ticket, request): (Ticket, &[u8])| Words::new(asked_keys(request, ticket.verb)).any(|it| it == key);
        joined.find_map(|(place, request)| asks(request).then_some(place))
    }
}

impl Values {
    /// Takes the value at the front of `input`, from `at` on, if it is a small one of the very next key: the bytes of it.
    #[inline(always)]
    fn place_next(
        &mut self,
        cursor: &mut Cursor,
        words: &mut Words<'_>,
        at: usize,
        input: &[u8],
        verb: Verb,
        value_limit: usize,
    ) -> Option<usize> {
        let KeySlot { next, key_len, .. } = *self.keys.get(cursor.key as usize)?;
        let mut ahead = words.clone();
        let asked = ahead.next_with_blank_of(key_len.into())?;
        let len = response::value_of(asked, &input[at..], verb, value_limit)?;
        if len > SMALL || !self.fits(at + len) {
            return None;
        }
        self.place(cursor.key, at, len);
        *words = ahead;
        cursor.key = next;
        cursor.found += 1;
        Some(len)
    }
}

impl Step {
    /// The same step, with so many bytes used for it.
    pub(in crate::engine) fn using(self, bytes: usize) -> Self {
        if matches!(self, Self::Used(_)) { Self::Used(bytes) } else { self }
    }
}

/// Whether `input` is all of a buffer, and that has little more in it than a value of so many bytes at its front.
fn is_most_of(len: usize, input: &[u8], buffer: &[u8]) -> bool {
    len > LARGE && input.len() == buffer.len() && buffer.len() - len <= SMALL
}

/// The values that a part's ticket belongs to, and the error that is told with them, if somebody still waits for them.
fn waiting_values(session: &mut Session, number: u32) -> Option<(&mut Values, &mut Option<Vec<u8>>)> {
    session.slot_mut(number)?.open_parts()?.merge_mut().memcache_mut()?.values_and_error()
}

/// The keys of a request as [`crate::proto::memcache::encode`] writes it and [`Connection::push`] joins it to another, each
/// behind a blank.
#[inline(always)]
pub(in crate::engine) fn asked_keys(request: &[u8], verb: Verb) -> &[u8] {
    let request = request.strip_suffix(b"\r\n").unwrap_or(request);
    let keys = if request.first() == Some(&b' ') { request } else { &request[verb.name().len()..] };
    if !matches!(verb, Verb::Gat | Verb::Gats) {
        return keys;
    }
    let lifetime = memchr::memchr(b' ', keys.get(1..).unwrap_or_default());
    lifetime.map_or(keys, |end| &keys[1 + end..])
}

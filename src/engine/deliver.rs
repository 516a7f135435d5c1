//! A server's bytes become responses; [`hand_over`](super::hand_over) gives them to the clients that wait for them.

#![expect(clippy::wildcard_enum_match_arm, reason = "responses to all other verbs are read alike")]

use super::buffers::{BEHIND, HUGE, LARGE};
use super::ids::LinkId;
use super::memory;
use super::rate_limit::Frequent;
use super::servers::ticket::{Marks, Ticket};
use super::{Engine, Notice, Outlet};
use crate::config::model::Protocol;
use crate::failure::Failure;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::{self, MetaAsked, Response, Violation};
use crate::proto::memcache::{Verb, stats};
use crate::time::Instant;

/// Responses of up to this many bytes are passed on even when the memory limit is reached.
pub(super) const SMALL: usize = 1 << 10;

/// Bytes that are taken at a time of a response of which it is not known how many are missing.
pub(super) const STEP: usize = 64;

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

/// What comes of the responses in the bytes of one read.
pub(super) struct Delivery<'a> {
    /// Somebody got the response that they waited for.
    pub(super) succeeded: bool,
    pub(super) outlet: &'a mut dyn Outlet,
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
        let is_partial = self.servers[id].stream().is_some_and(|stream| stream.has_partial());
        let used = if is_partial { self.consume_partial(id, data, outlet) } else { Ok(0) };
        let outcome = used.and_then(|used| {
            // The usual case: whole responses are passed on from where they were read.
            let rest = &data[used..];
            let used = self.consume(id, rest, outlet)?;
            if let Some(stream) = self.servers.stream(id) {
                memory::grow(stream.partial(), &rest[used..]);
                let is_huge = data.len() < BEHIND || (stream.has_partial() && stream.need() >= HUGE);
                stream.set_huge(stream.is_huge() && is_huge);
            }
            Ok(())
        });
        self.judge(id, outcome, now);
    }

    /// So many bytes came from a server.
    #[inline]
    pub(super) fn hear(&mut self, id: LinkId, count: usize, now: Instant) {
        let link = &mut self.servers[id];
        let suspected = link.silence.end(now);
        let (pool, server) = (link.pool(), link.server());
        if let Some(since) = suspected {
            self.spoke_again(id, since, now);
        }
        self.counters.server(pool, server).response_bytes.add(count as u64);
    }

    /// A server's bytes have been used, or it broke the protocol.
    #[inline(always)]
    pub(super) fn judge(&mut self, id: LinkId, outcome: Result<(), Violation>, now: Instant) {
        match outcome {
            Ok(()) => {
                let Some(link) = self.servers.get(id) else { return }; // its client is gone
                let owner = link.owner();
                self.charge_link(id);
                if let Some(owner) = owner {
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
        let link = &self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        let notice = |suppressed| Notice::Violation { pool, server, violation, suppressed };
        self.notify_rate_limited(Frequent::Violation, (pool, server), now, notice);
        self.fail_link(id, Failure::Protocol, now);
    }

    /// Completes the response of which the beginning is kept, with no more of `data` than it needs; returns how much of
    /// `data` that was. When something is still kept afterwards, all of `data` has been used.
    #[inline(never)]
    fn consume_partial(&mut self, id: LinkId, data: &[u8], outlet: &mut dyn Outlet) -> Result<usize, Violation> {
        if self.servers[id].stream().is_some_and(|stream| stream.need() > LARGE) {
            self.note_bulk(id, data.len(), self.now);
        }
        let mut used = 0;
        loop {
            let Some(stream) = self.servers.stream(id).filter(|stream| stream.has_partial()) else {
                return Ok(used);
            };
            if used == data.len() {
                return Ok(used);
            }
            // While a length is not known yet, a little more than is needed: a line at a time, not a byte.
            let (len, _) = stream.partial_len();
            let wanted = stream.missing().max(STEP).min(data.len() - used);
            let most = if len > LARGE { self.reply_room(&self.servers[id]) } else { usize::MAX };
            let Some(stream) = self.servers[id].stream_mut() else { return Ok(used) };
            memory::grow_to(stream.partial(), &data[used..used + wanted], most);
            used += wanted;
            if stream.missing() > 0 {
                return Ok(used);
            }
            let buffer = stream.take_partial();
            if buffer.len() > LARGE {
                let mut buffer = buffer;
                let (end, is_whole) = self.response_end(id, &buffer);
                let behind = buffer.split_off(end);
                let rest = self.consume_large(id, (buffer, is_whole), behind, outlet)?;
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

    /// Passes on the responses at the front of `input`; returns the number of bytes used.
    pub(super) fn consume(&mut self, id: LinkId, input: &[u8], outlet: &mut dyn Outlet) -> Result<usize, Violation> {
        let (pool, server) = self.servers.leads_to(id);
        let Some(stream) = self.servers.stream(id) else { return Ok(input.len()) }; // given up meanwhile
        if !stream.has_answered() && is_turned_away(input) {
            return Err(Violation::Full);
        }
        let mut at = stream.take_unwanted(input.len());
        if at > 0 {
            self.note_bulk(id, at, self.now);
        }
        let mut to = Delivery { succeeded: false, outlet };
        let mut outcome = Ok(());
        while at < input.len() {
            let rest = &input[at..];
            let Some(link) = self.servers.get(id) else {
                at = input.len(); // it is over, with its client
                break;
            };
            let front = link.queue().front();
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
                    if let Some(stream) = self.servers.stream(id) {
                        stream.wait_for(need);
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
            if let Some(stream) = self.servers.stream(id) {
                stream.note_answer();
            }
            if let Some(failed_for) = self.registry.succeeded(pool, server, self.worker, self.now) {
                self.outputs.tell(Notice::Well { pool, server, failed_for });
            }
        }
        if at > input.len() {
            if let Some(stream) = self.servers.stream(id) {
                stream.drop_next(at - input.len());
            }
            at = input.len();
        }
        outcome.map(|()| at)
    }

    pub(super) fn is_redis(&self, id: LinkId) -> bool {
        self.topology.pools[self.servers[id].pool().index()].protocol == Protocol::Redis
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
        let link = &self.servers[id];
        let response = match ticket.verb {
            Verb::MetaGet | Verb::MetaSet | Verb::MetaDelete | Verb::MetaArith | Verb::MetaDebug => {
                let line = link.queue().front_request(ticket);
                let value_limit = self.response_limit(link);
                response::meta(input, meta_asked(line, ticket), value_limit)
            }
            Verb::Stats if link.dropped().is_some() => stats::rest_of_listing(input),
            Verb::Stats if ticket.is(Marks::LISTING) => {
                let Some(stream) = self.servers[id].stream_mut() else { return Step::Used(input.len()) };
                stats::listing(input, &mut stream.cursor_mut().line_at)
            }
            verb => response::classic(input, verb),
        };
        match response {
            Response::Incomplete { need } => Step::Need(need),
            Response::Broken(violation) => Step::Broken(violation),
            Response::TooLarge { len, whole } => {
                match ticket.verb {
                    Verb::Stats => self.servers[id].drop_some(Failure::TooLarge),
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

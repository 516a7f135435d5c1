//! The log of slow requests: who was asked for what, and where the time went.
//!
//! A request that is fast enough costs a comparison. One that is not is counted, and told with what is still known of it: its
//! bytes are in the outbox until its response has been used, and the outbox knows when they were written.

use super::slow_log::Slow;

use super::ids::{LinkId, SessionId};
use super::keys::each_key;
use super::named_key::Named;
use super::servers::outbox::{Offset, Written};
use super::servers::ticket::{Asker, Marks, Ticket};
use super::{Effect, Engine};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::proto::memcache::Verb;
use crate::proto::resp::args::Span;
use crate::ring;
use crate::stats::hot::KEY_BYTES;
use crate::time::Instant;

/// A request, as far as it is still there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    verb: Verb,
    base64: bool,
    bytes: &'a [u8],
}

impl<'a> Described<'a> {
    pub(super) fn of(ticket: Ticket, bytes: &'a [u8]) -> Self {
        Self { verb: ticket.verb, base64: ticket.is(Marks::BASE64), bytes }
    }

    pub(super) const fn unknown(verb: Verb) -> Self {
        Self { verb, base64: false, bytes: b"" }
    }
}

/// What became of a slow request that is told.
#[derive(Debug, Clone, Copy)]
struct Fate {
    started: Instant,
    /// Why it was answered in its server's place, if it was.
    failure: Option<Failure>,
    /// Slow ones before it that were not told.
    suppressed: u64,
    now: Instant,
}

impl Engine {
    /// A request that is still in its link's outbox, up to `end`, has been answered at last.
    #[cold]
    #[inline(never)]
    pub(super) fn slow_answer(&mut self, id: LinkId, ticket: Ticket, end: Offset, started: Instant) {
        let link = &self.servers[id];
        let (pool, now) = (link.pool(), link.silence.since());
        if let Some(suppressed) = self.admit_slow(pool, now) {
            self.tell_slow(id, ticket, end, Fate { started, failure: None, suppressed, now });
        }
    }

    /// The time of a client's request is up, and these of its servers have not answered.
    pub(super) fn slow_expired(&mut self, id: SessionId, number: u32, late: &[(u16, ServerId)], now: Instant) {
        let Some(&(fragment, server)) = late.first().filter(|_| self.telemetry.slow.is_on()) else { return };
        let Some(session) = self.session(id) else { return };
        let pool = session.pool();
        let Some(slot) = session.slot_mut(number) else { return };
        let Some(&super::request::Request { started, verb, .. }) = slot.request() else { return };
        let Some(suppressed) = self.admit_slow(pool, now) else { return };
        let fate = Fate { started, failure: Some(Failure::TimedOut), suppressed, now };
        let is_it = |it: &Ticket| it.asker == Asker::Client { id, number } && it.fragment == fragment;
        let place = self.member(pool, server).links().iter().find_map(|link| {
            let place = self.servers[*link].queue().tickets().position(is_it);
            place.map(|place| (*link, place))
        });
        match place {
            Some((link, place)) => {
                let Some((ticket, end)) = self.servers[link].queue().ticket_at(place) else { return };
                self.tell_slow(link, ticket, end, fate);
            }
            None => self.tell_lost(pool, Some(server), Described::unknown(verb), fate),
        }
    }

    /// A request is answered in its server's place, and may have taken long before that. Without a server it was not sent.
    pub(super) fn slow_lost(
        &mut self,
        pool: PoolId,
        server: Option<ServerId>,
        request: Described<'_>,
        started: Instant,
        failure: Failure,
        now: Instant,
    ) {
        let is_late = failure == Failure::TimedOut && self.telemetry.slow.is_on();
        if (is_late || self.telemetry.slow.is_slow(started, now))
            && let Some(suppressed) = self.admit_slow(pool, now)
        {
            self.tell_lost(pool, server, request, Fate { started, failure: Some(failure), suppressed, now });
        }
    }

    /// Counts a slow request; returns how many were not told before it, if it is to be told itself.
    fn admit_slow(&mut self, pool: PoolId, now: Instant) -> Option<u64> {
        self.counters.pool(pool).slow_requests.add(1);
        self.telemetry.slow.admit(now)
    }

    /// Tells of a request in an outbox.
    fn tell_slow(&mut self, id: LinkId, ticket: Ticket, end: Offset, fate: Fate) {
        let mut spans = std::mem::take(&mut self.redis.spans);
        let link = &self.servers[id];
        let (pool, server, queue) = (link.pool(), link.server(), link.queue());
        let request = Described::of(ticket, queue.request(ticket, end));
        let mut slow = self.describe(pool, request, fate, &mut spans);
        slow.server = Some(server);
        (slow.waited, slow.asked) = match queue.written(end) {
            Written::Not => (Some(slow.took), None),
            Written::At(at) => (Some(at - fate.started), Some(fate.now - at.max(fate.started))),
            Written::Unknown => (None, None),
        };
        self.redis.spans = spans;
        self.outputs.push(Effect::Slow(Box::new(slow)));
    }

    /// Tells of a request that is no longer anywhere.
    fn tell_lost(&mut self, pool: PoolId, server: Option<ServerId>, request: Described<'_>, fate: Fate) {
        let mut spans = std::mem::take(&mut self.redis.spans);
        let mut slow = self.describe(pool, request, fate, &mut spans);
        slow.server = server;
        slow.waited = server.is_none().then_some(slow.took);
        self.redis.spans = spans;
        self.outputs.push(Effect::Slow(Box::new(slow)));
    }

    fn describe(&self, pool: PoolId, request: Described<'_>, fate: Fate, spans: &mut Vec<Span>) -> Slow {
        let Described { verb, base64, bytes } = request;
        let (mut keys, mut first, mut hash) = (0, Box::default(), None);
        let command = each_key(bytes, verb, base64, spans, &mut |Named { key, .. }| {
            if keys == 0 {
                first = key[..key.len().min(KEY_BYTES)].into();
                hash = Some(ring::hash_key(&self.topology.pools[pool.index()], key));
            }
            keys += 1;
        });
        let command = if command.is_empty() { verb.name() } else { command };
        let Fate { started, failure, suppressed, now } = fate;
        let took = now - started;
        Slow {
            pool,
            server: None,
            command,
            keys,
            key: first,
            hash,
            took,
            waited: None,
            asked: None,
            failure,
            suppressed,
        }
    }
}

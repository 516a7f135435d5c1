//! While somebody computes the next value of a key, the others are given the one before: its copy, which outlives it
//! ([`stale`](crate::config::model::Stampede::stale), [`proto::stale`](crate::proto::stale)).
//!
//! The copy stands beside the key on its server, and goes with every change of the key that passes here:
//!
//! - Who stores a value whatever is there stores the copy in front of it, on the same connection. Who removes one, or changes
//!   it, has the copy forgotten in front of that and behind it. So of two who do one and the other at the same time none leaves the copy
//!   of a value that the other has removed, and who was told that a value is gone is not given its copy.
//! - Who stores one where nothing is knows only from the answer that it was stored. The copy is stored then, if the copy is what
//!   it was in front of that (memcached), or if the key has that value still (Redis): otherwise somebody has changed it since.

use super::awaited::Former;
use super::held::{Held, Key};
use super::state::Stampede;
use crate::config::model::PoolId;
use crate::engine::clients::session::Session;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::memcache::asked_keys;
use crate::engine::rate_limit::Frequent;
use crate::engine::servers::QUEUE_LIMIT;
use crate::engine::servers::ticket::{Intent, Marks, Ticket};
use crate::engine::{Engine, Notice};
use crate::outcome::Outcome;
use crate::proto::memcache::meta::decode_key;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::Status;
use crate::proto::resp::{copy as resp, encode, reply, request};
use crate::proto::stale::{self, memcache};
use crate::proto::verb::Verb;
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

/// Versions of copies that are remembered. Each is needed until the next answer on its connection.
const MOST_SEEN: usize = 1024;

impl Stampede {
    /// A server has told the version of a copy, in front of a request that stores a value where none is.
    pub(in crate::engine) fn note_seen(&mut self, link: LinkId, answer: &[u8]) {
        if self.seen.len() >= MOST_SEEN {
            self.seen.clear();
        }
        self.seen.insert(link, answer.into());
    }

    /// What was told right in front of what is being answered on a connection.
    pub(in crate::engine) fn take_seen(&mut self, link: LinkId) -> Option<Box<[u8]>> {
        self.seen.remove(&link)
    }
}

impl Engine {
    /// How long the copies live of a pool's values under this key, after these.
    pub(in crate::engine) fn copies_for(&self, pool: PoolId, key: &[u8]) -> Option<Duration> {
        let stale = self.topology.pools[pool.index()].stampede.as_ref().filter(|option| option.is_for(key))?.stale?;
        (self.pools[pool.index()].redis || memcache::has_name(key)).then_some(stale)
    }

    /// Whether values are copied that are stored now: all keys are at home.
    pub(in crate::engine) fn may_copy(&self, pool: PoolId) -> bool {
        self.pools[pool.index()].is_steady
    }

    /// Whether a copy may be put on a connection in front of a request: it must not be what keeps that from being sent.
    pub(in crate::engine) fn may_copy_on(&self, link: LinkId) -> bool {
        self.may_copy(self.servers[link].pool()) && self.servers[link].queue().unwritten() <= QUEUE_LIMIT / 2
    }

    /// The connection on which a client's request for a key goes out next, if it goes out now. It is that one until
    /// [`Engine::has_gone_out`].
    pub(in crate::engine) fn link_ahead(&mut self, id: SessionId, key: &[u8], now: Instant) -> Option<LinkId> {
        let pool = self.pool_of(id)?;
        let server = self.pools[pool.index()].ring.route(key, 0)?;
        let link = self.link_to(pool, id, server, now).ok()?;
        if self.servers[link].queue().unwritten() > QUEUE_LIMIT {
            return None;
        }
        self.session(id)?.routes.enter(link);
        self.stampede.ahead.push(link);
        Some(link)
    }

    /// The request has been sent that something went out in front of, or is put off.
    pub(in crate::engine) fn has_gone_out(&mut self, id: SessionId) {
        while let Some(link) = self.stampede.ahead.pop() {
            if let Some(session) = self.session(id) {
                session.routes.leave(link);
            }
        }
    }

    /// The copy of a key is forgotten, in front of the key.
    #[cold]
    pub(in crate::engine) fn forget_copy(&mut self, link: LinkId, key: &[u8], base64: bool, now: Instant) {
        let decoded = if base64 { decode_key(key) } else { None };
        let key = decoded.as_ref().map_or(key, |(key, len)| &key[..*len]);
        if self.copies_for(self.servers[link].pool(), key).is_none() {
            return;
        }
        let name = stale::name(key);
        let (is_redis, verb) = (self.is_redis(link), if self.is_redis(link) { Verb::Command } else { Verb::Set });
        self.go(link, (Intent::Unheard, verb, Marks::NONE), now, |out| {
            if is_redis { stale::resp::forget(out, &[name]) } else { memcache::forget(out, &name) }
        });
    }

    /// A server has told the value before of a key that is waited for.
    pub(in crate::engine) fn former_answered(
        &mut self,
        number: u32,
        link: LinkId,
        answer: &[u8],
        status: Status,
        now: Instant,
    ) {
        if let Some(awaited) = self.stampede.awaited.get_mut(&number) {
            let is_value =
                awaited.profile.map_or_else(|| memcache::found(answer).is_some(), |_| resp::value(answer).is_some());
            awaited.former = (status == Status::Done && is_value).then(|| (link, Former::from(answer)));
        }
        if answer == memcache::UNKNOWN {
            let (pool, server) = self.link_server(link);
            self.notify_rate_limited(Frequent::Copyless, (pool, server), now, |suppressed| Notice::Copyless {
                pool,
                server,
                suppressed,
            });
        }
    }

    /// Who waits for a key is given the value before, if there is one. The others go on waiting. Returns whether one of them has
    /// asked since it was read: it may have been removed in between, and whoever did that was told.
    pub(super) fn give_former(&mut self, number: u32, former: Option<(LinkId, Former)>, now: Instant) -> bool {
        let (Some((link, former)), Some(awaited)) = (former, self.stampede.awaited.get(&number)) else { return false };
        let (pool, key, read_at) = (awaited.pool, awaited.key.clone(), awaited.looked_at);
        // Who asked since the key has moved is not given what was there before.
        let Some(link) = self.servers.get(link) else { return false };
        if link.is_retired() || self.pools[pool.index()].ring.route(&key.routed, 0) != Some(link.server()) {
            return false;
        }
        let waiting = self.stampede.awaited.get_mut(&number).map(|awaited| std::mem::take(&mut awaited.waiting));
        let (takers, others): (Vec<SessionId>, _) =
            waiting.unwrap_or_default().into_iter().partition(|id| self.takes_former(*id, &key, &former, read_at));
        let asked_since = others.iter().any(|id| self.has_asked_since(*id, &key, read_at));
        if let Some(awaited) = self.stampede.awaited.get_mut(&number) {
            awaited.waiting = others.into();
        }
        for id in takers {
            if let Some(wait) = self.stampede.waits.get_mut(&id) {
                wait.at = None;
            }
            self.give_former_to(id, pool, (&key, &former, read_at), now);
        }
        asked_since
    }

    fn takes_former(&self, id: SessionId, key: &Key, former: &Former, read_at: Instant) -> bool {
        let Some(session) = self.clients.get(id) else { return false };
        let mut held = self.stampede.waits.get(&id).into_iter().flat_map(|wait| &wait.held);
        self.has_room_beside(id, 2 * former.len())
            && held
                .any(|held| held.misses(&key.routed) && held.is_older(session, read_at) && may_be_given(held, former))
    }

    fn has_asked_since(&self, id: SessionId, key: &Key, read_at: Instant) -> bool {
        let Some(session) = self.clients.get(id) else { return false };
        let mut held = self.stampede.waits.get(&id).into_iter().flat_map(|wait| &wait.held);
        held.any(|held| held.misses(&key.routed) && !held.is_older(session, read_at))
    }

    fn give_former_to(
        &mut self,
        id: SessionId,
        pool: PoolId,
        (key, former, read_at): (&Key, &Former, Instant),
        now: Instant,
    ) {
        let Some(session) = self.clients.get(id) else { return };
        let is_meant =
            |held: &Held| held.misses(&key.routed) && held.is_older(session, read_at) && may_be_given(held, former);
        for mut held in self.stampede.take(id, pool, is_meant) {
            held.missing.retain(|missing| missing.routed != key.routed);
            held.given.insert(key.routed.clone(), Arc::clone(former));
            self.counters.pool(pool).stampede_stale.add(1);
            if held.missing.is_empty() {
                self.tell_held(id, pool, &held);
            } else {
                self.stampede.put_back(id, pool, held);
            }
        }
        if self.stampede.holds_some(id) {
            self.wait_for_keys(id, now);
        } else {
            self.end_wait(id, now);
            self.charge_wait(id);
        }
    }

    /// Puts former values among those of a part of a multi-get.
    pub(super) fn place_former(&mut self, id: SessionId, held: &Held) {
        let with_version = held.ticket.verb == Verb::Gets;
        let Some(session) = self.clients.get_mut(id) else { return };
        for (place, key) in held.places.iter().zip(Words::new(asked_keys(&held.request, held.ticket.verb))) {
            let Some(found) = held.given.get(key).and_then(|former| memcache::found(former)) else { continue };
            let block = found.block_of(key, with_version);
            let Some(slot) = session.slot_mut(held.number) else { return };
            let Some(values) = slot.open_parts().and_then(|parts| parts.merge_mut().memcache_mut()?.values_mut())
            else {
                return;
            };
            if values.fits(block.len()) {
                values.place(*place, 0, block.len());
                values.keep(&block, block.len());
                session.requests.hold(block.len());
            }
        }
    }
}

/// Whether a request can be answered with the former value of one of its keys.
fn may_be_given(held: &Held, former: &Former) -> bool {
    held.ticket.verb != Verb::MetaGet
        || memcache::found(former).is_some_and(|found| meta_response(&held.request, held.ticket, &found).is_some())
}

fn meta_response(line: &[u8], ticket: Ticket, found: &memcache::Found<'_>) -> Option<Vec<u8>> {
    found.meta_response_of(line, !ticket.is(Marks::STRIP_KEY))
}

/// What a request is answered that missed keys, with the former values that it has been given.
pub(super) fn response_of(held: &Held) -> Vec<u8> {
    let Some((key, former)) = held.given.first_key_value() else { return held.response.to_vec() };
    let verb = held.ticket.verb;
    if verb == Verb::Query {
        return in_place(held);
    }
    let response = memcache::found(former).and_then(|found| {
        let is_meta = verb == Verb::MetaGet;
        let whole = || Some(found.response_of(key, verb == Verb::Gets));
        if is_meta { meta_response(&held.request, held.ticket, &found) } else { whole() }
    });
    response.unwrap_or_else(|| held.response.to_vec())
}

/// The answer to a `GET` or an `MGET` with former values in the places of nulls.
fn in_place(held: &Held) -> Vec<u8> {
    let mut spans = Vec::new();
    let args = request::args(&held.request, &mut spans);
    let given = |key: &[u8]| held.given.get(key).map(|former| &**former);
    if args.get(0).eq_ignore_ascii_case(b"get") {
        return given(args.get(1)).unwrap_or(&held.response).to_vec();
    }
    let Some(items) = reply::items(&held.response) else { return held.response.to_vec() };
    let mut body = Vec::with_capacity(held.response.len());
    encode::array(&mut body, args.len() - 1);
    for (item, key) in items.zip(args.iter().skip(1)) {
        body.extend_from_slice(if reply::is_null(item) { given(key).unwrap_or(item) } else { item });
    }
    body
}

impl Held {
    /// Whether it was asked for before something was read on another connection, perhaps: the two are in no order.
    fn is_older(&self, session: &Session, read_at: Instant) -> bool {
        session.slot(self.number).is_some_and(|slot| slot.started() < read_at)
    }

    /// How it has ended when it is told what is known.
    pub(super) fn outcome(&self) -> Outcome {
        if self.missing.is_empty() && !self.given.is_empty() { Outcome::Hit } else { Outcome::Miss }
    }
}

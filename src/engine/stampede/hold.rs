//! Which requests are held that have missed keys.

#![expect(clippy::wildcard_enum_match_arm, reason = "the requests that may wait are named, all others may not")]

use std::collections::BTreeMap;

use super::awaited::hash;
use super::held::{Held, Key};
use crate::config::model::PoolId;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::memcache::asked_keys;
use crate::engine::request::{Answer, Slot};
use crate::engine::servers::outbox::Offset;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::engine::{Course, Engine};
use crate::outcome::Outcome;
use crate::proto::memcache::meta::decode_key;
use crate::proto::memcache::request::Words;
use crate::proto::resp::reply;
use crate::proto::resp::request;
use crate::proto::verb::Verb;
use crate::time::Instant;
use std::time::Duration;

/// How often a request is asked again that misses a key which was seen to be there.
const ROUNDS: u32 = 16;

/// The longest key that is waited for.
const LONGEST: usize = 1 << 10;

/// The largest response that is kept for when there is nothing else to tell.
const MOST_KEPT: usize = 1 << 20;

/// The keys that a request has missed.
#[derive(Default)]
struct Missed {
    keys: Vec<Key>,
    /// The places of a multi-get's.
    places: Vec<u32>,
    /// What is asked again.
    request: Vec<u8>,
}

impl Engine {
    /// Whether the request of a ticket, which ends there, is held: keys of it are not there, and are to be waited for. This is
    /// what its server has answered.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn holds(
        &mut self,
        link_id: LinkId,
        ticket: Ticket,
        end: Offset,
        response: [&[u8]; 2],
    ) -> bool {
        let Some((id, number)) = ticket.client() else { return false };
        let link = &self.servers[link_id];
        let (pool, server, profile) = (link.pool(), link.server(), link.profile());
        let Some(option) = &self.topology.pools[pool.index()].stampede else { return false };
        if self.course != Course::Serves || link.dedicated().is_some() {
            return false;
        }
        let Some(session) = self.clients.get(id) else { return false };
        let Some(slot) = session.slot(number).filter(|slot| may_wait(slot, ticket.fragment)) else { return false };
        if session.input.has_long_get() || session.is_over() {
            return false; // what is asked in portions would wait for each of them
        }
        let line = link.queue().request(ticket, end);
        let Some(mut missed) = missed(line, ticket, slot, response[0]) else { return false };
        missed.keys.retain(|key| option.is_for(&key.routed) && key.routed.len() <= LONGEST);
        if missed.keys.is_empty() || self.stampede.is_followed(id, number) {
            return false;
        }
        let now = self.servers[link_id].silence.since();
        let (until, lease) = (now + option.wait, option.lease);
        if self.computes(id, number, pool, &mut missed.keys, lease, now) {
            return false;
        }
        let began = self.session_ref(id).and_then(|session| Some(session.slot(number)?.started()));
        let part = (number, ticket.fragment);
        missed.keys.sort();
        missed.keys.dedup();
        let before = self.stampede.asks_again(id, part);
        let is_again = before.is_some();
        let rounds =
            before.filter(|before| missed.keys.len() >= before.missing.len()).map_or(0, |before| before.rounds);
        let held = Held {
            number,
            fragment: ticket.fragment,
            server,
            profile,
            ticket,
            request: missed.request.into(),
            response: response.concat().into(),
            missing: missed.keys,
            given: BTreeMap::new(),
            places: missed.places,
            spent: now - began.unwrap_or(now),
            is_counted: is_again,
            rounds,
        };
        let is_late = is_again && self.stampede.waits.get(&id).is_some_and(|wait| wait.until <= now);
        let has_room = held.response.len() <= MOST_KEPT
            && self.stampede.has_room(id, pool, held.footprint())
            && self.memory.held() <= self.memory.limits().common;
        if is_late || rounds >= ROUNDS || !has_room {
            self.counters.pool(pool).stampede_unleased.add(1);
            return false; // one that was asked once more is forgotten behind its answer
        }
        // The time of one that was asked once more goes on.
        self.stampede.hold(id, pool, held, (now, until));
        if let Some(before) = self.stampede.asked_again(id, pool, part) {
            self.count_held(pool, &before, Outcome::Own);
        }
        true
    }

    /// Whether a client computes already: it has a lease for something that it has asked together with these keys, or for
    /// them. Those that it has one for are taken out.
    fn computes(
        &mut self,
        id: SessionId,
        number: u32,
        pool: PoolId,
        keys: &mut Vec<Key>,
        lease: Duration,
        now: Instant,
    ) -> bool {
        let Some(wait) = self.stampede.waits.get(&id) else { return false };
        let is_before = |end: u32| end.wrapping_sub(number).cast_signed() > 0;
        keys.retain(|key| !wait.has_lease(hash(pool, &key.routed), now));
        if wait.computes_before.is_some_and(is_before) {
            for key in keys.iter() {
                self.take_lease(id, pool, key, lease, now);
            }
            return true;
        }
        keys.is_empty()
    }
}

/// Whether a request may be held, of which this part has been answered.
fn may_wait(slot: &Slot, fragment: u16) -> bool {
    let is_heard = slot.request().is_some_and(|request| !request.noreply);
    let is_short = slot.merge().is_none_or(|merge| !merge.is_unfinished());
    is_heard && is_short && is_awaited(slot, fragment)
}

/// Whether an answer to a part of a request is still to come.
fn is_awaited(slot: &Slot, fragment: u16) -> bool {
    match &slot.answer {
        Answer::Ready(_) | Answer::Crawled => false,
        Answer::Of { .. } => true,
        Answer::Merged { scattered, .. } => scattered.awaited().any(|(part, _)| part == fragment),
    }
}

/// The keys that a request has missed, if it is one that may wait.
fn missed(line: &[u8], ticket: Ticket, slot: &Slot, response: &[u8]) -> Option<Missed> {
    match ticket.verb {
        Verb::Get | Verb::Gets if ticket.is(Marks::SPLIT) => {
            let keys = asked_keys(line, ticket.verb);
            let (places, keys) = slot.merge()?.memcache()?.values()?.missing(ticket.fragment, Words::new(keys));
            let mut request = ticket.verb.name().as_bytes().to_vec();
            keys.iter().for_each(|key| request.extend_from_slice(&[b" ", *key].concat()));
            request.extend_from_slice(b"\r\n");
            Some(Missed { keys: keys.into_iter().map(Key::plain).collect(), places, request })
        }
        Verb::Get | Verb::Gets => {
            let keys = asked_keys(line, ticket.verb);
            let request = [ticket.verb.name().as_bytes(), keys, b"\r\n"].concat();
            Some(Missed { keys: vec![Key::plain(keys.strip_prefix(b" ")?)], places: Vec::new(), request })
        }
        Verb::MetaGet if !ticket.is(Marks::ONCE) => {
            let word = Words::new(line.trim_ascii_end()).nth(1)?;
            let decoded = if ticket.is(Marks::BASE64) { decode_key(word) } else { None };
            let key = match &decoded {
                Some((key, len)) => Key { routed: key[..*len].into(), base64: Some(word.into()) },
                None => Key::plain(word),
            };
            Some(Missed { keys: vec![key], places: Vec::new(), request: line.to_vec() })
        }
        Verb::Query if ticket.replies == 1 => {
            let mut spans = Vec::new();
            let args = request::args(line, &mut spans);
            let name = args.get(0);
            let keys: Vec<Key> = if name.eq_ignore_ascii_case(b"get") && args.len() == 2 {
                vec![Key::plain(args.get(1))]
            } else if name.eq_ignore_ascii_case(b"mget") {
                let values = reply::items(response)?.zip(args.iter().skip(1));
                values.filter(|(value, _)| reply::is_null(value)).map(|(_, key)| Key::plain(key)).collect()
            } else {
                return None;
            };
            Some(Missed { keys, places: Vec::new(), request: line.to_vec() })
        }
        _ => None,
    }
}

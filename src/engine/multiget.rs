//! Gets of several keys: split over servers, sent in parallel, answered in the order of the request.

use super::fragment::{Fragment, NO_KEY};
use super::ids::SessionId;
use super::kept::Part;
use super::merge::{Merge, Values};
use super::request::{Asked, Slot};
use super::servers::ticket::{Asker, Marks, Ticket};
use super::{Engine, next_random, work};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::request::{ManyWords, Words};
use crate::proto::memcache::{LINE_SAFE, encode, reply};
use crate::time::Instant;

/// What goes on after the keys of one part of a long multi-get.
pub(super) struct Continued {
    /// More parts follow.
    pub(super) unfinished: bool,
    /// The time of the whole request is as good as over: nothing more is asked of servers that are silent.
    pub(super) late: bool,
}

impl Engine {
    /// Sends the next `count` keys of `words` as one request of the client.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place each")]
    pub(super) fn multi_get(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        exptime: Option<i32>,
        words: Words<'_>,
        count: usize,
        continued: Option<Continued>,
        now: Instant,
    ) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, number) = (session.pool, session.next_number());
        let expired = self.deadline(pool, asked.request.started) <= now;
        let (unfinished, late) = continued.map_or((false, false), |part| (part.unfinished, part.late));
        // One line may hold keys that are at home and keys that are not, and has one lifetime for all of them.
        let cap = exptime.and_then(|_| self.failover_cap(pool, now));
        let mut values = self.memcache.spare_values.pop().unwrap_or_else(|| Box::new(Merge::Values(Values::EMPTY)));
        let Merge::Values(merged) = values.as_mut() else { return };
        merged.reset(count, unfinished);
        let mut parts = std::mem::take(&mut self.memcache.parts);
        let mut lost = expired.then_some((None, Failure::TimedOut));
        let (mut index, mut words) = (0, ManyWords::new(words.rest()));
        while !expired && index < count {
            // As far as the keys belong to servers that take part already.
            let Some((word, server)) = self.take_keys(pool, &mut words, count, &mut index, &mut parts, merged) else {
                break;
            };
            let joined = server.and_then(|server| {
                let link = self.link_to(pool, id, server, now)?;
                if late && self.servers[link].is_silent(now, self.timeout(pool).unwrap_or_default()) {
                    return Err(Failure::TimedOut);
                }
                Ok((server, link))
            });
            match joined {
                Ok((server, link)) => {
                    let outbox = &mut self.servers[link].queue.outbox;
                    parts.push(Part { server, link, start: outbox.end(), keys: 1 });
                    encode::get_start(outbox.tail(), asked.request.verb, exptime, cap);
                    encode::get_key_with_blank(outbox.tail(), word);
                    merged.fragments.push(Fragment { server, first: NO_KEY, last: NO_KEY, done: false });
                    merged.link(parts.len() - 1, index, key_of(word).len());
                }
                Err(failure) => {
                    lost = Some((server.ok(), failure));
                    if let Ok(server) = server {
                        self.sample_lost(pool, server, key_of(word), now);
                    }
                }
            }
            index += 1;
        }
        let mut outcome = Outcome::Hit;
        if let Some((server, failure)) = lost {
            self.count_degraded(id, server, failure);
            outcome = self.failed_outcome(pool);
            if self.policy(pool).tells() && merged.error.is_none() {
                merged.error = Some(reply::error(failure).to_vec());
            }
        }
        self.counters.pool(pool).fragments.add(parts.len() as u64);
        self.work.cost += count * work::KEY + parts.len() * work::PART;
        let class = if unfinished { None } else { self.telemetry.at_hand.take() };
        let Some(session) = self.session(id) else { return };
        session.requests.push(Slot::merged(asked.request, (count, parts.len()), (class, outcome), values));
        if parts.is_empty() {
            self.advance(id); // no key could be sent anywhere
        }
        for (fragment, Part { link, start, keys, .. }) in (0u16..).zip(parts.drain(..)) {
            encode::line_end(self.servers[link].queue.outbox.tail());
            let ticket = Ticket::of(Asker::Client { id, number }, start, asked.request.verb, Class::Get);
            self.push_ticket(link, Ticket { fragment, keys, marks: Marks::SPLIT, ..ticket }, now);
        }
        self.memcache.parts = parts;
    }

    /// Appends keys to the requests of the servers that they belong to, from the key number `index` on, up to the first
    /// whose server takes no part yet: returns that key, the blank before it included, and where it belongs.
    fn take_keys<'w>(
        &mut self,
        pool: PoolId,
        words: &mut ManyWords<'w>,
        count: usize,
        index: &mut usize,
        parts: &mut [Part],
        values: &mut Values,
    ) -> Option<(&'w [u8], Result<ServerId, Failure>)> {
        let Self { pools, servers, random, .. } = self;
        let ring = &pools[pool.index()].ring;
        while *index < count {
            let word = words.next()?;
            let key = key_of(word);
            let drawn = if ring.is_random() { next_random(random) } else { 0 };
            let Some(server) = ring.route(key, drawn) else { return Some((word, Err(Failure::Ejected))) };
            let Some((place, part)) = parts.iter_mut().enumerate().find(|(_, part)| part.server == server) else {
                return Some((word, Ok(server)));
            };
            part.keys += 1; // a client has at most a window of keys in flight
            values.link(place, *index, key.len());
            encode::get_key_with_blank(servers[part.link].queue.outbox.tail(), word);
            *index += 1;
        }
        None
    }

    /// Goes on with a long multi-get whose rest stands at the front of `input`. Returns the bytes used, or `None` when
    /// the client has to wait for room.
    #[cold]
    pub(super) fn continue_long_get(&mut self, id: SessionId, input: &[u8], now: Instant) -> Option<usize> {
        let session = self.session(id)?;
        let session_pool = session.pool;
        let mut long = session.long_get.take()?;
        let line = &input[..long.rest];
        let fitting = if long.exptime.is_some() { fitting_keys(line) } else { usize::MAX };
        let wanted = long.keys.min(session.room()).min(fitting);
        if wanted < long.keys && !session.has_room_again() {
            session.long_get = Some(long);
            return None;
        }
        if self.servers.crowded() > 0 {
            let (words, started) = (Words::new(line.trim_ascii_end()), self.restarted(session_pool, long.started, now));
            if self.holds_back_get(id, words, wanted, started, now) {
                if let Some(session) = self.session(id) {
                    session.long_get = Some(long);
                }
                self.time_session(id, started);
                return None;
            }
        }
        if let Some(session) = self.session(id) {
            session.backpressured = false;
        }
        let mut rest = Words::new(line.trim_ascii_end());
        let words = rest.clone();
        for _ in 0..wanted {
            rest.next();
        }
        long.keys -= wanted;
        let unfinished = long.keys > 0;
        let started = self.restarted(session_pool, long.started, now);
        let asked = Asked::new(long.verb, started);
        let continued = Continued { unfinished, late: started != long.started };
        self.telemetry.at_hand = Some(Class::Get);
        self.multi_get(id, asked, long.exptime, words, wanted, Some(continued), now);
        self.telemetry.at_hand = None;
        self.arm_session(id);
        if !unfinished {
            return Some(long.rest);
        }
        let ending = line.len() - line.trim_ascii_end().len();
        let used = long.rest - rest.rest().len() - ending;
        long.rest -= used;
        if let Some(session) = self.session(id) {
            session.long_get = Some(long);
        }
        Some(used)
    }
}

/// Most bytes that the keys of a `gat` or `gats` may take to be sent in one line, the blanks before them included. Servers
/// take only the other two commands in longer ones.
pub(super) const GAT_KEYS_LIMIT: usize = LINE_SAFE - 32;

/// How many of the keys at the front of `keys` fit into a line of a `gat`.
fn fitting_keys(keys: &[u8]) -> usize {
    let bytes = Words::new(keys).scan(0, |bytes, key| {
        *bytes += 1 + key.len();
        Some(*bytes)
    });
    bytes.take_while(|bytes| *bytes <= GAT_KEYS_LIMIT).count()
}

/// The key in a word that may have the blank before it.
fn key_of(word: &[u8]) -> &[u8] {
    word.strip_prefix(b" ").unwrap_or(word)
}

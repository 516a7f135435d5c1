//! Gets of several keys: split over servers, sent in parallel, answered in the order of the request.

use super::merge::{Chain, Values, Wanted};
use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::SessionId;
use crate::engine::memcache;
use crate::engine::request::Asked;
use crate::engine::scattered::Merge;
use crate::engine::scattered::Scattered;
use crate::engine::servers::ticket::Marks;
use crate::engine::ways::Way;
use crate::engine::{Engine, next_random, work};
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::request::{ManyWords, Words};
use crate::proto::memcache::{LINE_SAFE, encode};
use crate::time::Instant;

/// What goes on after the keys of one part of a long multi-get.
pub(in crate::engine) struct Continued {
    /// More parts follow.
    pub(in crate::engine) unfinished: bool,
    /// The time of the whole request is as good as over: nothing more is asked of servers that are silent.
    pub(in crate::engine) late: bool,
}

impl Engine {
    /// Sends the next `count` keys of `words` as one request of the client.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place each")]
    pub(in crate::engine) fn multi_get(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        exptime: Option<i32>,
        words: Words<'_>,
        count: usize,
        continued: Option<Continued>,
        now: Instant,
    ) {
        let Some(pool) = self.pool_of(id) else { return };
        let expired = self.deadline(pool, asked.request.started) <= now;
        let (unfinished, late) = continued.map_or((false, false), |part| (part.unfinished, part.late));
        // One line may hold keys that are at home and keys that are not, and has one lifetime for all of them.
        let cap = exptime.and_then(|_| self.failover_cap(pool, now));
        let spare = self.memcache.spare_values.pop();
        let fresh = || Merge::Memcache(memcache::Merge::new(Wanted::Values(Values::EMPTY)));
        let mut scattered = spare.unwrap_or_else(|| Box::new(Scattered::new(fresh(), 0)));
        scattered.reset();
        let merge = scattered.merge_mut().memcache_mut();
        let Some(values) = merge.and_then(|merge| merge.begin_values(count, unfinished)) else { return };
        let mut ways = std::mem::take(&mut self.ways);
        let mut lost = expired.then_some((None, Failure::TimedOut));
        let (mut index, mut words) = (0, ManyWords::new(words.rest()));
        while !expired && index < count {
            // As far as the keys belong to servers that take part already.
            let Some((word, server)) = self.take_keys(pool, &mut words, count, &mut index, &mut ways, values) else {
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
                    let (start, out) = self.servers[link].append();
                    let part = u16::try_from(ways.len()).unwrap_or(u16::MAX); // a pool has no more servers
                    ways.push(Way { part, server, link, start, replies: 1, keys: 1 });
                    encode::get_start(out, asked.request.verb, exptime, cap);
                    encode::get_key_with_blank(out, word);
                    values.chains.push(Chain::EMPTY);
                    values.link(ways.len() - 1, index, key_of(word).len());
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
            scattered.merge_mut().failed(0, failure, self.policy(pool).tells());
        }
        self.work.cost += count * work::KEY + ways.len() * work::PART;
        ways.iter().for_each(|way| encode::line_end(self.servers[way.link].tail()));
        self.send_parts(id, asked.request, Marks::SPLIT, (count, outcome), scattered, ways, now);
    }

    /// Appends keys to the requests of the servers that they belong to, from the key number `index` on, up to the first
    /// whose server takes no part yet: returns that key, the blank before it included, and where it belongs.
    fn take_keys<'w>(
        &mut self,
        pool: PoolId,
        words: &mut ManyWords<'w>,
        count: usize,
        index: &mut usize,
        ways: &mut [Way],
        values: &mut Values,
    ) -> Option<(&'w [u8], Result<ServerId, Failure>)> {
        let Self { pools, servers, random, .. } = self;
        let ring = &pools[pool.index()].ring;
        while *index < count {
            let word = words.next()?;
            let key = key_of(word);
            let drawn = if ring.is_random() { next_random(random) } else { 0 };
            let Some(server) = ring.route(key, drawn) else { return Some((word, Err(Failure::Ejected))) };
            let Some((place, way)) = ways.iter_mut().enumerate().find(|(_, way)| way.server == server) else {
                return Some((word, Ok(server)));
            };
            way.keys += 1; // a client has at most a window of keys in flight
            values.link(place, *index, key.len());
            encode::get_key_with_blank(servers[way.link].tail(), word);
            *index += 1;
        }
        None
    }

    /// Goes on with a long multi-get whose rest stands at the front of `input`. Returns the bytes used, or `None` when
    /// the client has to wait for room.
    #[cold]
    pub(in crate::engine) fn continue_long_get(&mut self, id: SessionId, input: &[u8], now: Instant) -> Option<usize> {
        let session = self.session(id)?;
        let mut long = session.input.take_long_get()?;
        let line = &input[..long.rest];
        let fitting = if long.exptime.is_some() { fitting_keys(line) } else { usize::MAX };
        let wanted = long.keys.min(session.room()).min(fitting);
        if wanted < long.keys && !session.has_room_again() {
            session.input.put_long_get(long);
            return None;
        }
        if self.servers.crowded() > 0 {
            let (words, started) = (Words::new(line.trim_ascii_end()), self.restarted(id, long.started, now));
            if self.holds_back_get(id, words, wanted, started, now) {
                if let Some(session) = self.session(id) {
                    session.input.put_long_get(long);
                }
                self.time_session(id, started);
                return None;
            }
        }
        let begun = self.restarted(id, long.started, now);
        if self.warmup.is_on()
            && !self.is_warm_get(id, Words::new(line.trim_ascii_end()), wanted, long.exptime.is_some(), (begun, now))
        {
            if let Some(session) = self.session(id) {
                session.input.put_long_get(long);
            }
            self.time_session(id, begun);
            return None;
        }
        if let Some(session) = self.session(id) {
            session.input.let_go();
        }
        let mut rest = Words::new(line.trim_ascii_end());
        let words = rest.clone();
        for _ in 0..wanted {
            rest.next();
        }
        long.keys -= wanted;
        let unfinished = long.keys > 0;
        let started = self.restarted(id, long.started, now);
        let asked = Asked::new(long.verb, started);
        let continued = Continued { unfinished, late: started != long.started };
        self.telemetry.at_hand = Some(Class::Get);
        if self.near.is_on() {
            self.near_multi_get(id, asked, long.exptime, words, wanted, Some(continued), now);
        } else {
            self.multi_get(id, asked, long.exptime, words, wanted, Some(continued), now);
        }
        self.telemetry.at_hand = None;
        self.arm_session(id);
        if !unfinished {
            return Some(long.rest);
        }
        let ending = line.len() - line.trim_ascii_end().len();
        let used = long.rest - rest.rest().len() - ending;
        long.rest -= used;
        if let Some(session) = self.session(id) {
            session.input.put_long_get(long);
        }
        Some(used)
    }
}

/// Most bytes that the keys of a `gat` or `gats` may take to be sent in one line, the blanks before them included. Servers
/// take only the other two commands in longer ones.
pub(in crate::engine) const GAT_KEYS_LIMIT: usize = LINE_SAFE - 32;

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

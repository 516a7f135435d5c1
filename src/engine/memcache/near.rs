//! Gets of several keys where values are kept here ([`near`](crate::engine::near)): those are taken from here, and the rest
//! is asked for.
//!
//! It does beside that what [`Engine::multi_get`] does, in words of its own: each question more in that one's loop is paid for by every
//! key of every pool that keeps nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use super::merge::{Chain, Merge, NO_KEY, Values, Wanted};
use super::multiget::Continued;
use crate::config::model::PoolId;
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::engine::request::Asked;
use crate::engine::scattered::{self, Scattered};
use crate::engine::servers::ticket::Marks;
use crate::engine::ways::Way;
use crate::engine::work;
use crate::failure::Failure;
use crate::near::{Name, Value};
use crate::outcome::Outcome;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::{Verb, encode, reply};
use crate::time::Instant;

/// Most bytes of values that are kept here and given out in one answer.
const MOST: usize = 256 << 10;

impl Engine {
    /// As [`Engine::multi_get`], where pools keep values.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place each")]
    pub(super) fn near_multi_get(
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
        let is_late = self.deadline(pool, asked.request.started) <= now;
        if asked.request.verb != Verb::Get || exptime.is_some() || is_late || !self.may_be_given(pool, id) {
            return self.multi_get(id, asked, exptime, words, count, continued, now);
        }
        let mut front = std::mem::take(&mut self.memcache.near_front);
        self.find_front(pool, words.clone().take(count), &mut front, now);
        if front.len() == count && continued.is_none() && self.says_all(id, pool, words.clone(), &front, now) {
            front.clear();
            self.memcache.near_front = front;
            return;
        }
        let (unfinished, late) = continued.map_or((false, false), |part| (part.unfinished, part.late));
        let fresh = scattered::Merge::Memcache(Merge::new(Wanted::Values(Values::EMPTY)));
        let mut scattered = Box::new(Scattered::new(fresh, 0));
        let merge = scattered.merge_mut().memcache_mut();
        let Some(values) = merge.and_then(|merge| merge.begin_values(count, unfinished)) else { return };
        let mut ways = std::mem::take(&mut self.ways);
        let mut lost = None;
        for (index, key) in words.take(count).enumerate() {
            let found = match index.cmp(&front.len()) {
                Ordering::Less => Some(Arc::clone(&front[index])),
                Ordering::Equal => None, // it has been looked for
                Ordering::Greater => self.near_value(pool, Name { database: 0, key }, now),
            };
            if let Some(value) = found
                && self.places_near((pool, id), key, index, values, &value, now)
            {
                continue;
            }
            let server = self.pools[pool.index()].ring.route(key, 0).ok_or(Failure::Ejected);
            let known = ways.iter_mut().enumerate().find(|(_, way)| Ok(way.server) == server);
            if let Some((place, way)) = known {
                way.keys += 1; // a client has at most a window of keys in flight
                values.link(place, index, key.len());
                encode::get_key(self.servers[way.link].tail(), key);
                continue;
            }
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
                    encode::get_start(out, asked.request.verb, exptime, None);
                    encode::get_key(out, key);
                    values.chains.push(Chain::EMPTY);
                    values.link(ways.len() - 1, index, key.len());
                }
                Err(failure) => {
                    lost = Some((server.ok(), failure));
                    if let Ok(server) = server {
                        self.sample_lost(pool, server, key, now);
                    }
                }
            }
        }
        front.clear();
        self.memcache.near_front = front;
        let mut outcome = Outcome::Hit;
        if let Some((server, failure)) = lost {
            self.count_degraded(id, server, failure);
            outcome = self.failed_outcome(pool);
            scattered.merge_mut().failed(0, failure, self.policy(pool).tells());
        }
        self.work.cost += count * work::KEY + ways.len() * work::PART;
        ways.iter().for_each(|way| encode::line_end(self.servers[way.link].tail()));
        self.send_parts(id, asked.request, Marks::SPLIT, (count, outcome), scattered, ways, now);
        self.charge_session(id);
    }

    /// Finds the values of keys that are kept here, up to the first of which there is none, or that is too much.
    fn find_front<'k>(
        &mut self,
        pool: PoolId,
        keys: impl Iterator<Item = &'k [u8]>,
        front: &mut Vec<Arc<Value>>,
        now: Instant,
    ) {
        let mut bytes = 0;
        for key in keys {
            let Some(value) = self.near_value(pool, Name { database: 0, key }, now) else { return };
            bytes += value.block.len();
            if bytes > MOST {
                return;
            }
            front.push(value);
        }
    }

    /// Answers a get of which all values are kept here, unless something that was asked before has not been answered: as it
    /// waits for nobody, nothing need be put down of it.
    fn says_all(&mut self, id: SessionId, pool: PoolId, keys: Words<'_>, values: &[Arc<Value>], now: Instant) -> bool {
        let len = values.iter().map(|value| value.block.len()).sum::<usize>() + reply::END.len();
        if !self.has_room_beside(id, len) {
            return false;
        }
        let Some(session) = self.session(id).filter(|session| session.requests.is_empty()) else { return false };
        session.output.append_with(len, |out| {
            values.iter().for_each(|value| out.extend_from_slice(&value.block));
            out.extend_from_slice(reply::END);
        });
        self.end_request(pool, Outcome::Hit);
        keys.zip(values).for_each(|(key, value)| self.count_near(pool, key, value, now));
        self.work.cost += values.len() * work::KEY + len;
        self.touch_session(id);
        self.charge_session(id);
        true
    }

    /// Puts down the value of a key that is kept here.
    fn places_near(
        &mut self,
        (pool, id): (PoolId, SessionId),
        key: &[u8],
        index: usize,
        values: &mut Values,
        value: &Value,
        now: Instant,
    ) -> bool {
        let (len, index) = (value.block.len(), u32::try_from(index).unwrap_or(NO_KEY));
        let placed = values.len() + len;
        if placed > MOST || !self.has_room_beside(id, placed) {
            return false; // the rest is asked for, and gets its share of memory as all do
        }
        values.place(index, 0, len);
        values.keep(&value.block, len);
        self.count_near(pool, key, value, now);
        true
    }
}

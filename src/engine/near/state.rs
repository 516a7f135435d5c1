//! What a worker knows of the values that are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::LinkId;
use crate::near::{Name, Near, Seen, Telling};
use crate::time::Instant;

/// Keys that are remembered to have been asked for of late, of each pool.
const SIGHTS: usize = 4 << 10;

/// Most values that are being fetched by a worker, and most bytes of those of which it is not known yet how long they live.
const MOST: usize = 256;
const MOST_BYTES: usize = 4 << 20;

/// A value is asked for anew no more often than so many times within its `ttl`, and no less often than this allows, however
/// often it changes.
const TIMES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);

/// How soon a key is asked for again of which nothing could be kept.
const REST: Duration = Duration::from_secs(1);

/// How soon a server that does not tell of changes is asked to again.
const AGAIN: Duration = Duration::from_secs(60);

/// A key that was asked for and was not there.
#[derive(Debug, Clone, Copy)]
struct Sight {
    sign: u32,
    /// When that was; or, if it lies ahead, when it is fetched at the earliest.
    at: Instant,
}

/// A worker's part of what is kept of a pool.
#[derive(Debug)]
struct Kept {
    near: Arc<Near>,
    sights: Box<[Sight]>,
}

/// A value that is being fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) pool: PoolId,
    /// Where it is kept. What was known of its changes was known there, and says nothing elsewhere.
    pub(super) near: Arc<Near>,
    pub(super) database: u32,
    pub(super) key: Box<[u8]>,
    pub(super) server: ServerId,
    /// What was known of its changes, and when, before its server was asked.
    pub(super) seen: Seen,
    pub(super) asked: Instant,
    pub(super) telling: Option<Arc<Telling>>,
    /// Redis: the value, until it is known how long it has still to live.
    pub(super) block: Option<Box<[u8]>>,
}

/// A key of which the value is to be fetched.
pub(super) type Wanted = (PoolId, u32, Box<[u8]>);

/// The values that are kept, as a worker sees them.
#[derive(Debug, Default)]
pub(in crate::engine) struct Nears {
    is_on: bool,
    pools: Vec<Option<Kept>>,
    /// Those that are to be fetched behind the request at hand.
    wanted: Vec<Wanted>,
    pub(super) fetches: BTreeMap<u32, Fetch>,
    names: BTreeSet<Wanted>,
    last: u32,
    /// Redis: connections on which servers tell of changes.
    telling: BTreeMap<LinkId, Arc<Telling>>,
    /// Servers that do not, and when they are asked to again.
    silent: BTreeMap<(PoolId, ServerId), Instant>,
}

impl Nears {
    /// Whether a pool keeps values.
    #[inline(always)]
    pub(in crate::engine) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// The pools keep these from here on.
    pub(in crate::engine) fn switch<'n>(&mut self, pools: impl Iterator<Item = Option<&'n Arc<Near>>>) {
        let nobody = Sight { sign: 0, at: Instant::ZERO };
        let mut before = std::mem::take(&mut self.pools).into_iter();
        self.pools = pools
            .map(|next| {
                let known = before.next().flatten();
                let next = next?;
                let same = known.filter(|known| Arc::ptr_eq(&known.near, next));
                Some(same.unwrap_or_else(|| Kept { near: Arc::clone(next), sights: vec![nobody; SIGHTS].into() }))
            })
            .collect();
        self.is_on = self.pools.iter().any(Option::is_some);
    }

    /// Whether values of a pool are kept.
    #[inline]
    pub(in crate::engine) fn keeps(&self, pool: PoolId) -> bool {
        self.of(pool).is_some()
    }

    /// What is kept of a pool.
    #[inline]
    pub(super) fn of(&self, pool: PoolId) -> Option<&Arc<Near>> {
        Some(&self.pools.get(pool.index())?.as_ref()?.near)
    }

    /// A key was asked for of which nothing can be given out. It is wanted if that was so a moment ago as well.
    pub(super) fn miss(&mut self, pool: PoolId, name: Name<'_>, ttl: Duration, now: Instant) {
        let sign = sign_of(name);
        let Some(sight) = self.sight(pool, sign) else { return };
        if sight.sign != sign {
            *sight = Sight { sign, at: now };
        } else if sight.at <= now {
            let is_often = now - sight.at <= ttl;
            sight.at = now;
            if is_often {
                self.want(pool, name, ttl, now);
            }
        }
    }

    /// A key is to be fetched behind the request at hand, unless it was a moment ago.
    pub(super) fn want(&mut self, pool: PoolId, name: Name<'_>, ttl: Duration, now: Instant) {
        let sign = sign_of(name);
        let Some(sight) = self.sight(pool, sign) else { return };
        if sight.sign == sign && sight.at > now {
            return;
        }
        *sight = Sight { sign, at: now + (ttl / TIMES).min(PAUSE) };
        self.wanted.push((pool, name.database, name.key.into()));
    }

    /// What was fetched of a key is not kept: it is not fetched again for a while.
    pub(super) fn leave(&mut self, pool: PoolId, name: Name<'_>, ttl: Duration, now: Instant) {
        let sign = sign_of(name);
        if let Some(sight) = self.sight(pool, sign) {
            *sight = Sight { sign, at: now + ttl.min(REST) };
        }
    }

    fn sight(&mut self, pool: PoolId, sign: u32) -> Option<&mut Sight> {
        self.pools.get_mut(pool.index())?.as_mut()?.sights.get_mut(sign as usize % SIGHTS)
    }

    /// Whether values are to be fetched behind the request at hand.
    #[inline]
    pub(in crate::engine) const fn wants_some(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// The next of them that is not being fetched already.
    pub(super) fn next_wanted(&mut self) -> Option<Wanted> {
        while let Some(wanted) = self.wanted.pop() {
            if self.fetches.len() < MOST && !self.names.contains(&wanted) {
                return Some(wanted);
            }
        }
        None
    }

    /// A value is being fetched: returns its number.
    pub(super) fn begin(&mut self, fetch: Fetch) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.names.insert((fetch.pool, fetch.database, fetch.key.clone()));
        self.fetches.insert(self.last, fetch);
        self.last
    }

    /// Whether there is room for so many bytes more of values until it is known how long they live.
    pub(super) fn has_room_for(&self, more: usize) -> bool {
        let held = self.fetches.values().filter_map(|fetch| fetch.block.as_ref()).map(|block| block.len());
        held.sum::<usize>() + more <= MOST_BYTES
    }

    /// The numbers of those that are being fetched. For the checks.
    pub(in crate::engine) fn fetched(&self) -> impl Iterator<Item = u32> {
        self.fetches.keys().copied()
    }

    /// It is not any more.
    pub(super) fn end(&mut self, number: u32) -> Option<Fetch> {
        let fetch = self.fetches.remove(&number)?;
        self.names.remove(&(fetch.pool, fetch.database, fetch.key.clone()));
        Some(fetch)
    }
}

impl Nears {
    /// Whether a server may be asked to tell of changes.
    pub(super) fn may_tell(&mut self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        if self.silent.get(&(pool, server)).is_some_and(|until| *until <= now) {
            self.silent.remove(&(pool, server));
        }
        !self.silent.contains_key(&(pool, server))
    }

    /// A server does not tell of changes: it is too old for that, or its user may not ask for it.
    pub(in crate::engine) fn tells_nothing(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        self.silent.insert((pool, server), now + AGAIN);
    }

    /// Whether a server tells of changes of what is read on a connection, as long as that lasts.
    pub(super) fn telling(&mut self, link: LinkId) -> Arc<Telling> {
        Arc::clone(self.telling.entry(link).or_insert_with(Telling::begin))
    }

    /// A connection has ended.
    pub(in crate::engine) fn end_telling(&mut self, link: LinkId) {
        if let Some(telling) = self.telling.remove(&link) {
            telling.end();
        }
    }
}

/// What a key is remembered by. Two that have the same are taken for one, and fetched a little too often.
fn sign_of(name: Name<'_>) -> u32 {
    let begin = 0x811c_9dc5 ^ name.database;
    name.key.iter().fold(begin, |sign, byte| (sign ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn what_is_asked_for_again_soon_is_wanted() {
        let (mut nears, pool) = (Nears::default(), PoolId(0));
        nears.switch([Some(&Arc::new(Near::new(1 << 20)))].into_iter());
        let name = Name { database: 0, key: b"k" };
        let mut miss = |millis, name| {
            nears.miss(pool, name, TTL, at(millis));
            nears.next_wanted().is_some()
        };
        assert!(!miss(1, name), "for the first time");
        assert!(!miss(1200, name), "too long ago");
        assert!(miss(1300, name));
        assert!(!miss(1301, name) && !miss(1399, name), "it was, a moment ago");
        assert!(miss(1400, name), "and was not kept, or has changed");
        assert!(!miss(1501, Name { database: 1, key: b"k" }));
        nears.leave(pool, name, TTL, at(8000));
        nears.miss(pool, name, TTL, at(8999));
        assert!(!nears.wants_some(), "there is nothing");
    }
}

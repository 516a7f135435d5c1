//! Values are fetched that are to be kept.

use std::time::Duration;

use super::state::{Fetch, Wanted};
use crate::engine::Engine;
use crate::engine::ids::LinkId;
use crate::engine::redis::Profile;
use crate::engine::servers::ticket::{Intent, Marks};
use crate::near::{Name, Value};
use crate::proto::memcache::copy::{self as memcache, Key};
use crate::proto::resp::reply::{self, Reply};
use crate::proto::resp::{Version, copy as resp, encode};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// How long nothing comes on a connection on which a server tells of changes, until it is asked whether it is there.
const ASKS: Duration = Duration::from_millis(500);

impl Engine {
    /// Fetches what was found to be wanted, now that the request at hand is on its way.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn fetch_wanted(&mut self, now: Instant) {
        while let Some(wanted) = self.near.next_wanted() {
            self.fetch(wanted, now);
        }
    }

    fn fetch(&mut self, (pool, database, key): Wanted, now: Instant) {
        let Some(near) = self.near.of(pool).cloned() else { return };
        let is_redis = self.pools[pool.index()].redis;
        let Some(server) = self.pools[pool.index()].ring.route(&key, 0) else { return };
        // On a connection on which the server tells of changes, if it does: without one, nothing of it is kept meanwhile.
        let tells = is_redis && self.near.may_tell(pool, server, now);
        let version = if tells { Version::Resp3 } else { Version::Resp2 };
        let profile = is_redis.then_some(Profile { version, database, tracks: tells });
        let Some(link) = self.link_for(pool, profile, server, now) else { return };
        let telling = tells.then(|| self.near.telling(link));
        let (name, seen) = (key.clone(), near.seen(&key));
        let number =
            self.near.begin(Fetch { pool, near, database, key, server, seen, asked: now, telling, block: None });
        self.counters.pool(pool).near_fetches.add(1);
        if is_redis {
            let value = (Intent::Near(number), Verb::Query, Marks::NONE);
            self.go(link, value, now, |out| encode::words(out, &[b"GET", &name]));
            let life = (Intent::NearLife(number), Verb::Query, Marks::NONE);
            self.go(link, life, now, |out| encode::words(out, &[b"PTTL", &name]));
        } else {
            let value = (Intent::Near(number), Verb::MetaGet, Marks::NONE);
            self.go(link, value, now, |out| memcache::read(out, Key { bytes: &name, base64: false }));
        }
        self.charge_link(link);
    }

    /// Nothing is in flight on a connection on which a server tells of changes: one that has gone silent would be taken for one on
    /// which there is nothing to tell, so it is asked now and then.
    #[cold]
    pub(in crate::engine) fn see_if_it_tells(&mut self, id: LinkId, now: Instant) {
        let due = self.servers[id].silence.since() + ASKS;
        if now < due {
            return self.arm_link(id, due);
        }
        self.go(id, (Intent::Unheard, Verb::Query, Marks::NONE), now, |out| encode::words(out, &[b"PING"]));
        self.charge_link(id);
    }

    /// A server has told of changes: of these keys, or of all.
    #[cold]
    pub(in crate::engine) fn near_told(&self, id: LinkId, message: &[u8]) {
        let pool = self.servers[id].pool();
        let Some(near) = self.near.of(pool) else { return };
        let mut parts = reply::items(message).into_iter().flatten();
        if !matches!(parts.next().map(reply::read), Some(Reply::Bulk(b"invalidate"))) {
            return;
        }
        match parts.next().map(reply::read) {
            Some(Reply::List(keys)) => {
                for key in keys {
                    if let Reply::Bulk(key) = reply::read(key) {
                        near.changed(key);
                        self.counters.pool(pool).near_told.add(1);
                    }
                }
            }
            _ => near.all_changed(), // a database was flushed
        }
    }

    /// A server has answered what is stored of a key.
    #[cold]
    pub(in crate::engine) fn near_answered(&mut self, number: u32, answer: &[u8], now: Instant) {
        let Some(fetch) = self.near.fetches.get(&number) else { return };
        if self.pools[fetch.pool.index()].redis {
            // What it is worth is known when it is known how long it lives.
            let has_room = fetch.near.takes(answer.len()) && self.near.has_room_for(answer.len());
            let is_kept = has_room && resp::value(answer).is_some();
            let block = is_kept.then(|| answer.into());
            if let Some(fetch) = self.near.fetches.get_mut(&number) {
                fetch.block = block;
            }
            return;
        }
        let found = memcache::found(answer).map(|found| (found.block_of(&fetch.key), found.lives_for()));
        self.keep(number, found, now);
    }

    /// Redis: a server has answered how long that has still to live.
    #[cold]
    pub(in crate::engine) fn near_life_answered(&mut self, number: u32, answer: &[u8], now: Instant) {
        let Some(fetch) = self.near.fetches.get_mut(&number) else { return };
        let life = match resp::integer(answer) {
            Some(-1) => Some(None),
            Some(millis) => u64::try_from(millis).ok().map(|millis| Some(Duration::from_millis(millis))),
            None => None,
        };
        let found = fetch.block.take().zip(life);
        self.keep(number, found, now);
    }

    /// A value has been fetched, with how long it has still to live at the least, or there is none that could be kept.
    fn keep(&mut self, number: u32, found: Option<(Box<[u8]>, Option<Duration>)>, now: Instant) {
        let Some(fetch) = self.near.end(number) else { return };
        let Fetch { pool, near, database, key, server, seen, asked, telling, .. } = fetch;
        let name = Name { database, key: &key };
        let Some(ttl) = self.topology.pools[pool.index()].near_cache.as_ref().map(|option| option.ttl) else { return };
        // Its time begins when it was asked for: the server may have read it right then.
        let until = |life: Option<Duration>| asked + life.map_or(ttl, |life| life.min(ttl));
        let is_kept = found.is_some_and(|(block, life)| {
            let until = until(life);
            let lives = until > now;
            lives && near.takes(block.len()) && {
                near.keep(name, Value { block, server: server.index(), asked, until, seen, telling });
                true
            }
        });
        if !is_kept {
            self.near.leave(pool, name, ttl, now);
        }
    }

    /// What was asked of a value will not be answered.
    #[cold]
    pub(in crate::engine) fn near_lost(&mut self, number: u32) {
        self.near.end(number);
    }
}

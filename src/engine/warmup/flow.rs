//! Requests for keys that have moved: they wait for their keys, and tell those who had them of what they change.

#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is asked may change something")]

use std::sync::Arc;
use std::time::Duration;

use super::copy::Begun;
use super::key::{Access, Key};
use super::pool::Warm;
use super::waits::{Step, Until, Wait};
use crate::config::model::{PoolId, ServerId};
use crate::engine::deadline::Timer;
use crate::engine::ids::SessionId;
use crate::engine::request::Asked;
use crate::engine::servers::ticket::Marks;
use crate::engine::{Engine, work};
use crate::proto::memcache::request::Words;
use crate::proto::verb::Verb;
use crate::time::Instant;
use crate::topology::Pool;

/// Longest time that who reads waits for its keys. After that it goes on without.
const PATIENCE: Duration = Duration::from_millis(100);

/// Longest time that who changes a key waits for those who copy it, where there is no `timeout`.
const LONGEST: Duration = Duration::from_secs(2);

/// How soon is looked again whether a pool's copies have come to an end, where it is to bring nothing along any more.
const ENDS: Duration = Duration::from_millis(8);

/// Most keys of one request that are brought along. Those behind them are not.
const MOST: u32 = 1024;

/// Most keys of one request of which is asked whether somebody copies them.
const MOST_ASKED: usize = 16 << 10;

/// What became of the keys of a request that were to be brought along.
enum Looked {
    /// So many are being copied.
    Found(u32),
    /// They cannot be copied yet.
    Unready,
}

/// How long a request may wait.
struct Patience {
    /// Its time is over, or it is refused anyway: it waits for nothing.
    is_late: bool,
    /// Until when it waits at the longest.
    most: Instant,
}

impl Engine {
    /// A pool may have other servers: keys that move are brought along from here on.
    #[cold]
    pub(in crate::engine) fn begin_warmup(&mut self, pool: PoolId, next: &Pool, now: Instant) {
        let known = self.pools[pool.index()].warm.as_mut();
        let Some(shared) = next.warming.as_ref() else {
            if let Some(warm) = known.filter(|_| next.warmup.is_none()) {
                warm.told_until = now; // it ends when nothing is being stored any more
                self.look_after_warmup(now);
            }
            return;
        };
        if let Some(warm) = known.filter(|warm| warm.shared.continues(shared)) {
            (warm.shared, warm.told_until) = (Arc::clone(shared), shared.told_until());
            return self.look_after_warmup(now);
        }
        let asked = self.servers.iter().filter(|(_, link)| link.pool() == pool && !link.queue().is_empty());
        let before = asked.map(|(id, link)| (link.server(), (id, link.queue().end())));
        let warm = Warm::new(Arc::clone(shared), before, (now, self.deadline(pool, now)));
        let is_first = self.pools[pool.index()].warm.replace(Box::new(warm)).is_none();
        self.warmup.pools += usize::from(is_first);
        self.look_first();
        self.pools[pool.index()].is_steady = false;
        self.look_after_warmup(now);
    }

    fn end_warmup(&mut self, pool: PoolId) {
        let state = &mut self.pools[pool.index()];
        state.warm = None;
        state.is_steady = state.all_live;
        self.warmup.end(pool);
        self.look_first();
        for id in self.warmup.waiting() {
            if self.pool_of(id) == Some(pool) {
                self.warmup.forget(id);
                self.clients.resume_soon(id);
            }
        }
    }

    /// It may be time to look after those who wait.
    pub(in crate::engine) fn warmup_due(&mut self, now: Instant) {
        if self.warmup.alarm.is_due(now) {
            self.look_after_warmup(now);
        }
    }

    /// Looks who has waited for long enough, and whether a pool's keys are where they belong.
    #[cold]
    fn look_after_warmup(&mut self, now: Instant) {
        let mut next = Instant::NEVER;
        for index in 0..self.pools.len() {
            let pool = crate::engine::pool_id(index);
            let Some(warm) = &self.pools[index].warm else { continue };
            let until = warm.told_until;
            if now >= until {
                // What is being stored must not come behind what is written then: nobody is told of that any more.
                if warm.shared.end() || now >= until + LONGEST {
                    self.end_warmup(pool);
                } else {
                    next = next.min(now + ENDS);
                }
                continue;
            }
            let Self { pools, servers, .. } = &mut *self;
            let Some(warm) = &mut pools[index].warm else { continue };
            next = next.min(warm.follow(servers, now).map_or(until, |look| look.min(until)));
        }
        for id in self.warmup.overdue(now) {
            self.clients.resume_soon(id);
        }
        self.arm_warmup(self.warmup.next().map_or(next, |due| due.min(next)));
    }

    fn arm_warmup(&mut self, at: Instant) {
        if at != Instant::NEVER && self.warmup.alarm.set(at) {
            self.timers.set(at, Timer::Warmup);
        }
    }

    /// As [`Engine::is_warm`], of a request of memcached's for one key.
    #[cold]
    pub(in crate::engine) fn is_warm_key(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        key: &[u8],
        now: Instant,
    ) -> bool {
        let access = match asked.request.verb {
            Verb::Query | Verb::Command | Verb::Watch => return true, // a request of Redis, and has been looked at
            Verb::Set => Access::Overwrites,
            Verb::Get | Verb::Gets | Verb::MetaDebug => Access::Reads,
            Verb::MetaGet if !marks.has(Marks::ONCE) => Access::Reads,
            _ => Access::Changes,
        };
        let base64 = marks.has(Marks::BASE64);
        let key = Key { routed: key, wire: if base64 { asked.key } else { key }, base64, database: None };
        self.is_warm(id, std::iter::once(key), access, (asked.request.started, now))
    }

    /// As [`Engine::is_warm`], of so many keys of a get.
    #[cold]
    pub(in crate::engine) fn is_warm_get(
        &mut self,
        id: SessionId,
        words: Words<'_>,
        count: usize,
        changes: bool,
        times: (Instant, Instant),
    ) -> bool {
        let access = if changes { Access::Changes } else { Access::Reads };
        let key = |word| Key { routed: word, wire: word, base64: false, database: None };
        self.is_warm(id, words.take(count).map(key), access, times)
    }

    /// Whether a request for some keys may go its way: what is stored of them has been brought along, and those who had them
    /// before know what it changes. Otherwise its client waits for that, and its request, whose time began at `started`, is to
    /// be looked at again then.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn is_warm<'k>(
        &mut self,
        id: SessionId,
        keys: impl Iterator<Item = Key<'k>> + Clone,
        access: Access,
        (started, now): (Instant, Instant),
    ) -> bool {
        let Some(pool) = self.pool_of(id).filter(|pool| self.pools[pool.index()].warm.is_some()) else { return true };
        let wait = self.wait_of(id, pool, now);
        let Patience { is_late, most } = self.patience_of(pool, &wait, started, now);
        if self.still_waits(id, started, now) {
            return self.holds_off(id);
        }
        self.warmup.forget(id);
        let may_wait = !is_late && now < most;
        let step = wait.step;
        self.work.cost += keys.clone().count() * work::KEY;
        // Who only reads may as well miss; who changes something may not.
        let patience = if access == Access::Reads { wait.since + self.patience_with(pool) } else { most };
        if step == Step::Looks && access != Access::Overwrites && !is_late && now < patience {
            match self.look_for(id, pool, keys.clone(), now) {
                Looked::Found(0) => {}
                Looked::Found(copies) => {
                    return self.has_to_wait(id, wait.waits(Until::Copied(copies), patience, Step::Looked));
                }
                Looked::Unready => return self.has_to_wait(id, wait.looks_again(now, patience, Step::Looks)),
            }
        }
        if access == Access::Reads || step == Step::Free {
            return true;
        }
        if step == Step::Stores && may_wait && self.is_stored(pool, &self.moved(pool, keys.clone())) {
            return self.has_to_wait(id, wait.looks_again(now, most, Step::Stores));
        }
        // What overwrites stands in the way of any copy; so it need not be known that its keys are gone elsewhere.
        let asks = access == Access::Changes && may_wait;
        if step < Step::Told
            && let Some(wait) = self.tell_on(id, pool, keys.clone(), wait, (asks, may_wait), (now, most))
        {
            return self.has_to_wait(id, wait);
        }
        let moved = self.moved(pool, keys);
        if !self.mark_as_written(pool, &moved) && may_wait {
            // It may be stored at one of those who have just been told, if there are other homes since: they are told again.
            return self.has_to_wait(id, wait.tells_again().looks_again(now, most, Step::Stores));
        }
        let copied = moved.iter().filter(|moved| moved.may_be_copied).take(if asks { MOST_ASKED } else { 0 });
        let asked = copied.map(|moved| u32::from(self.ask_who_copies(id, pool, moved.key, now))).sum();
        if asked > 0 {
            return self.has_to_wait(id, wait.waits(Until::Answered(asked), most, Step::Told));
        }
        true
    }

    /// Whether a client's request still waits for what it was last found to wait for, so that its keys need not be looked at.
    #[cold]
    pub(in crate::engine) fn still_waits(&self, id: SessionId, started: Instant, now: Instant) -> bool {
        let Some(pool) = self.pool_of(id).filter(|pool| self.pools[pool.index()].warm.is_some()) else { return false };
        let wait = self.wait_of(id, pool, now);
        wait.until != Until::Nothing && !self.patience_of(pool, &wait, started, now).is_late
    }

    /// What a client's request waits for, or that it is looked at for the first time: that is so, too, when its keys have
    /// other homes by now.
    fn wait_of(&self, id: SessionId, pool: PoolId, now: Instant) -> Wait {
        let ring_version = self.pools[pool.index()].ring_version;
        let known = self.warmup.wait_of(id).filter(|wait| wait.ring_version == ring_version);
        known.unwrap_or_else(|| Wait::new(now, ring_version))
    }

    /// How long a request that began at `started` may wait, whatever it waits for: when its time is over it goes on, and what is
    /// refused anyway does not wait.
    fn patience_of(&self, pool: PoolId, wait: &Wait, started: Instant, now: Instant) -> Patience {
        let is_late = self.memory.refuses || self.deadline(pool, started) <= now;
        Patience { is_late, most: wait.since + self.timeout(pool).unwrap_or(LONGEST) }
    }

    /// Has those of some keys brought along that have moved and have not been looked for yet, as many as one request may.
    fn look_for<'k>(
        &mut self,
        id: SessionId,
        pool: PoolId,
        keys: impl Iterator<Item = Key<'k>>,
        now: Instant,
    ) -> Looked {
        let mut copies = 0;
        for key in keys {
            if copies == MOST {
                break;
            }
            let homes = self.homes_to_look_at(pool, key, now);
            if homes.is_empty() {
                continue;
            }
            let (workers, Self { pools, servers, .. }) = (self.topology.counters.len(), &mut *self);
            let warm = pools[pool.index()].warm.as_mut();
            if !warm.is_none_or(|warm| warm.is_ready(&homes, servers, workers, now)) {
                return Looked::Unready;
            }
            match self.copy(id, pool, key, homes, now) {
                Begun::Copy => copies += 1,
                Begun::Nothing => {}
                Begun::Full => return Looked::Unready,
            }
        }
        Looked::Found(copies)
    }

    /// Where a key is to be looked for that has moved and has not been looked for yet.
    fn homes_to_look_at(&mut self, pool: PoolId, key: Key<'_>, now: Instant) -> Vec<ServerId> {
        let (state, config) = (&self.pools[pool.index()], self.topology.pool(pool));
        let Some(warm) = &state.warm else { return Vec::new() };
        let hash = key.hash(pool);
        if now >= warm.shared.until() || warm.shared.is_over() || warm.is_settled(hash) {
            return Vec::new();
        }
        let home = config.home.route(key.routed, 0);
        if state.ring.route(key.routed, 0) != home {
            return Vec::new(); // it goes elsewhere while its home is out, and is looked for when that is back
        }
        let mut homes = self.former_homes(pool, key.routed, |former| former.until > now);
        homes.retain(|former| Some(*former) != home);
        if homes.is_empty() {
            // Nor is anything to be looked for when it is asked for again.
            if let Some(warm) = &mut self.pools[pool.index()].warm {
                warm.settle_unmoved(hash);
            }
            return homes;
        }
        let is_there = homes.iter().any(|home| state.live[home.index()]);
        if is_there { homes } else { Vec::new() }
    }

    /// How long who reads waits for its keys.
    fn patience_with(&self, pool: PoolId) -> Duration {
        self.timeout(pool).map_or(PATIENCE, |timeout| (timeout / 4).min(PATIENCE))
    }

    /// A client waits; says that its request is not to go on.
    fn has_to_wait(&mut self, id: SessionId, wait: Wait) -> bool {
        self.arm_warmup(wait.most);
        self.warmup.begin_wait(id, wait);
        self.holds_off(id)
    }

    /// Whoever has asked by this number is told whether somebody else copies the key.
    #[cold]
    pub(super) fn is_copied(&mut self, number: u32, is_busy: bool, now: Instant) {
        let Some(id) = self.warmup.questions.remove(&number) else { return };
        match self.warmup.answered(id, is_busy, now) {
            Some(Ok(())) => self.clients.resume_soon(id.client),
            Some(Err(later)) => self.arm_warmup(later),
            None => {}
        }
    }

    /// A client's request waits on.
    pub(in crate::engine) fn holds_off(&mut self, id: SessionId) -> bool {
        if let Some(session) = self.session(id) {
            session.input.hold_back();
        }
        false
    }

    /// Whether all servers of a client's pool may be flushed: no key is brought along any more. Otherwise the client waits.
    #[inline]
    pub(in crate::engine) fn may_flush(&mut self, id: SessionId, started: Instant, now: Instant) -> bool {
        let Some(pool) = self.pool_of(id) else { return true };
        let wait = self.wait_of(id, pool, now);
        let Patience { is_late, most } = self.patience_of(pool, &wait, started, now);
        let is_free = self.pools[pool.index()].warm.as_ref().is_none_or(|warm| warm.shared.end());
        if is_free || is_late || now >= most {
            self.warmup.forget(id);
            return true;
        }
        self.has_to_wait(id, wait.looks_again(now, most, Step::Looks))
    }
}

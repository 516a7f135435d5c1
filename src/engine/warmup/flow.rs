//! Requests for keys that have moved: they wait for their keys, and tell those who had them of what they change.

#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is asked may change something")]

use std::sync::Arc;
use std::time::Duration;

use super::key::{Access, Key};
use super::pool::Warm;
use super::waits::{Step, Until, Wait};
use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::deadline::Timer;
use crate::engine::ids::SessionId;
use crate::engine::request::Asked;
use crate::engine::servers::ticket::Marks;
use crate::health::pending::StaleKey;
use crate::proto::memcache::request::Words;
use crate::proto::verb::Verb;
use crate::time::Instant;
use crate::topology::Pool;

/// Longest time that a request waits for its keys. After that it goes on without.
const PATIENCE: Duration = Duration::from_millis(100);

/// Longest time that is waited until a former home has forgotten a key: one that hangs answers nobody who copies, either.
const FORGETS: Duration = Duration::from_millis(200);

/// Longest time that who changes a key waits for those who copy it, where there is no `timeout`.
const LONGEST: Duration = Duration::from_secs(2);

/// How soon is looked again at what nobody tells of.
const LOOK: Duration = Duration::from_micros(500);

/// Most keys of one request that are looked for. Those behind them are not brought along with it.
const MOST: usize = 1024;

impl Engine {
    /// A pool may have other servers: keys that move are brought along from here on.
    #[cold]
    pub(in crate::engine) fn begin_warmup(&mut self, pool: PoolId, next: &Pool, now: Instant) {
        let state = &self.pools[pool.index()];
        let Some(shared) = next.warming.as_ref() else {
            if next.warmup.is_none() {
                self.end_warmup(pool);
            }
            return;
        };
        if state.warm.as_ref().is_some_and(|warm| Arc::ptr_eq(&warm.shared, shared)) {
            return;
        }
        let asked = self.servers.iter().filter(|(_, link)| link.pool() == pool && !link.queue.in_flight.is_empty());
        let before = asked.map(|(id, link)| (id, link.queue.outbox.end())).collect();
        let told_until = shared.told_until(next.warmup.unwrap_or_default());
        let ready_by = self.deadline(pool, now);
        let warm = Warm::new(Arc::clone(shared), told_until, before, ready_by);
        let is_first = self.pools[pool.index()].warm.replace(Box::new(warm)).is_none();
        self.warmup.pools += usize::from(is_first);
        self.pools[pool.index()].is_steady = false;
        self.look_after_warmup(now);
    }

    fn end_warmup(&mut self, pool: PoolId) {
        let state = &mut self.pools[pool.index()];
        self.warmup.pools -= usize::from(state.warm.take().is_some());
        state.is_steady = state.all_live;
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
            let Some(until) = self.pools[index].warm.as_ref().map(|warm| warm.told_until) else { continue };
            if now >= until {
                self.end_warmup(pool);
                continue;
            }
            self.is_ready(pool, now);
            let is_awaited = self.pools[index].warm.as_ref().is_some_and(|warm| warm.is_awaited());
            next = next.min(if is_awaited { now + LOOK } else { until });
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

    /// Whether what is found at a former home of a pool's keys is what was written there last.
    fn is_ready(&mut self, pool: PoolId, now: Instant) -> bool {
        let (workers, Self { pools, servers, .. }) = (self.topology.counters.len(), self);
        let Some(warm) = &mut pools[pool.index()].warm else { return true };
        warm.is_ready(servers, workers, now)
    }

    /// The servers that a key belonged to before, each once, and not the one that it belongs to.
    /// The newest home comes first.
    pub(super) fn former_homes(&self, pool: PoolId, key: &[u8]) -> Vec<ServerId> {
        let mut homes = Vec::new();
        if let Some(warm) = &self.pools[pool.index()].warm {
            let at = self.pools[pool.index()].ring.route(key, 0);
            for home in warm.shared.former.iter().filter_map(|(ring, _)| ring.route(key, 0)) {
                if self.topology.pool(pool).has(home) && Some(home) != at && !homes.contains(&home) {
                    homes.push(home);
                }
            }
        }
        homes
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
        let ring_version = self.pools[pool.index()].ring_version;
        let (has_waited, step, since) = match self.warmup.waits.get(&id) {
            None => (false, Step::Looks, now),
            // Its keys have other homes by now.
            Some(wait) if wait.ring_version != ring_version => (false, Step::Looks, now),
            Some(Wait { until: Until::Nothing, step, since, .. }) => (true, *step, *since),
            Some(Wait { until: Until::Anew, step, since, .. }) => {
                (now >= *since + self.patience_with(pool), *step, *since)
            }
            Some(_) if self.deadline(pool, started) > now => return self.holds_off(id),
            Some(wait) => (true, wait.step, wait.since),
        };
        // Whatever it waits for: when its time is over, it goes on.
        let is_late = self.deadline(pool, started) <= now;
        let has_waited = has_waited || is_late;
        self.warmup.forget(id);
        let wait = |until, most: Instant, step| Wait { until, most, step, is_busy: false, since, ring_version };
        if access != Access::Overwrites && !has_waited {
            let mut copied = 0;
            for key in keys.clone().take(MOST) {
                if !self.is_looked_for(pool, key, now) {
                    continue;
                }
                if !self.is_ready(pool, now) {
                    return self.has_to_wait(id, wait(Until::Ready, now + LOOK, step));
                }
                copied += u32::from(self.copy(id, pool, key, now));
            }
            if copied > 0 {
                return self.has_to_wait(id, wait(Until::Copied(copied), since + self.patience_with(pool), step));
            }
        }
        // What overwrites stands in the way of any copy; so it need not be known that its keys are gone elsewhere.
        let most = since + self.timeout(pool).unwrap_or(LONGEST);
        let waits = access == Access::Changes && now < most && !is_late;
        if access != Access::Reads && step == Step::Looks {
            let told = keys.clone().map(|key| self.tell_former_homes(id, pool, key, waits, now)).sum();
            if waits && told > 0 {
                return self.has_to_wait(id, wait(Until::Forgotten(told), most.min(now + FORGETS), Step::Told));
            }
        }
        if access != Access::Reads && step < Step::Free {
            let mut is_free = true;
            if let Some(warm) = &self.pools[pool.index()].warm {
                let moved = keys.clone().filter(|key| !self.former_homes(pool, key.routed).is_empty());
                moved.for_each(|key| is_free &= warm.shared.copies.write(key.hash(pool)));
            }
            if !is_free && !is_late {
                // It may be stored at one of those who have just been told, if there are other homes since.
                return self.has_to_wait(id, wait(Until::Stored, now + LOOK, Step::Looks));
            }
            let asked =
                if waits { keys.map(|key| u32::from(self.ask_who_copies(id, pool, key, now))).sum() } else { 0 };
            if asked > 0 {
                return self.has_to_wait(id, wait(Until::Answered(asked), most, Step::Told));
            }
        }
        true
    }

    /// How long a request waits for its keys.
    fn patience_with(&self, pool: PoolId) -> Duration {
        self.timeout(pool).map_or(PATIENCE, |timeout| (timeout / 4).min(PATIENCE))
    }

    /// A server has confirmed that it has forgotten what it was told to forget, up to a number: who waits for that may go on.
    #[inline]
    pub(in crate::engine) fn has_forgotten(&mut self, pool: PoolId, server: ServerId, up_to: u64) {
        if self.warmup.is_awaited() {
            for id in self.warmup.forgotten(pool, server, up_to) {
                self.clients.resume_soon(id);
            }
        }
    }

    /// A client waits; says that its request is not to go on.
    fn has_to_wait(&mut self, id: SessionId, wait: Wait) -> bool {
        self.arm_warmup(wait.most);
        self.warmup.waits.insert(id, wait);
        self.holds_off(id)
    }

    /// Whoever has asked by this number is told whether somebody else copies the key.
    #[cold]
    pub(super) fn is_copied(&mut self, number: u32, is_busy: bool, now: Instant) {
        let Some(id) = self.warmup.questions.remove(&number) else { return };
        if self.warmup.answered(id, is_busy, now + LOOK) {
            self.clients.resume_soon(id);
        }
        self.arm_warmup(now + LOOK);
    }

    fn holds_off(&mut self, id: SessionId) -> bool {
        if let Some(session) = self.session(id) {
            session.input.hold_back();
        }
        false
    }

    /// Whether a key has moved, and has not been looked for yet.
    fn is_looked_for(&self, pool: PoolId, key: Key<'_>, now: Instant) -> bool {
        let (state, config) = (&self.pools[pool.index()], self.topology.pool(pool));
        let Some(warm) = &state.warm else { return false };
        now < warm.shared.until()
            && !warm.shared.is_over()
            && self.former_homes(pool, key.routed).iter().any(|home| state.live[home.index()])
            && state.ring.route(key.routed, 0) == config.home.route(key.routed, 0)
            && !warm.is_settled(key.hash(pool))
    }

    /// Has those forget a key who had it before it moved, as it is about to be written. Returns how many of them have
    /// still to confirm that, which the client `waits` for.
    fn tell_former_homes(&mut self, id: SessionId, pool: PoolId, key: Key<'_>, waits: bool, now: Instant) -> u32 {
        let mut told = 0;
        let stale = || StaleKey { database: key.database, key: key.wire.into(), base64: key.base64 };
        for home in self.former_homes(pool, key.routed) {
            let live = self.pools[pool.index()].live[home.index()];
            if !live && self.registry.invalidate_key_if_out(pool, home, stale(), now) {
                continue; // it has to forget the key before it is back
            }
            self.invalidate_key((pool, home), stale(), None, now);
            if self.pools[pool.index()].live[home.index()] {
                let link = self.link_of(pool, id, home, now);
                if self.servers[link].is_down() {
                    self.start_connect(link, now);
                }
                self.invalidate_soon(link, now);
                told += 1;
                if waits {
                    self.warmup.tell(id, (pool, home), self.registry.newest_pending(pool, home));
                }
            }
        }
        told
    }

    /// Whether all servers of a client's pool may be flushed: no key is brought along any more. Otherwise the client waits.
    #[inline]
    pub(in crate::engine) fn may_flush(&mut self, id: SessionId, started: Instant, now: Instant) -> bool {
        let Some(pool) = self.pool_of(id) else { return true };
        let is_late = self.deadline(pool, started) <= now;
        let is_free = self.pools[pool.index()].warm.as_ref().is_none_or(|warm| warm.shared.end()) || is_late;
        if is_free {
            self.warmup.forget(id);
        }
        let most = now + LOOK;
        let wait = Wait { until: Until::Stored, most, step: Step::Looks, is_busy: false, since: now, ring_version: 0 };
        is_free || self.has_to_wait(id, wait)
    }
}

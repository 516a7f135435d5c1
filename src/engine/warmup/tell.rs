//! Those who had a key before it moved are told of what is written, and it is known when they have forgotten it.

use std::time::Duration;

use super::key::Key;
use super::waits::{Step, Told, Until, Wait};
use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::health::pending::StaleKey;
use crate::time::Instant;
use crate::topology::Former;

/// Longest time that is waited until a former home has forgotten a key: one that hangs answers nobody who copies, either.
const FORGETS: Duration = Duration::from_millis(200);

/// Fewest and most keys of one request that former homes are told of at a time, and so many bytes of them; they have forgotten
/// those before they are told of more. All keys are looked through each time: so the more there are, the more at a time.
const PORTION: (usize, usize) = (1000, 10_000);
const PORTIONS: usize = 64;
const PORTION_BYTES: usize = 1 << 20;

/// A key of a request that writes, of which something may stand elsewhere.
pub(super) struct Moved<'k> {
    pub(super) key: Key<'k>,
    hash: u64,
    /// Servers that it belonged to before, but for the one that it goes to.
    told: Vec<ServerId>,
    /// One of all that it belonged to is not its home: somebody may copy it.
    pub(super) may_be_copied: bool,
}

impl Engine {
    /// The servers that a key belonged to before, each once, the newest first. All of them are told what is written, and of
    /// some it is read what they have still. It may belong to one of them again, or go to one while another is out.
    pub(super) fn former_homes(&self, pool: PoolId, key: &[u8], is_meant: impl Fn(&Former) -> bool) -> Vec<ServerId> {
        let mut homes = Vec::new();
        if let Some(warm) = &self.pools[pool.index()].warm {
            for former in warm.shared.former.iter().filter(|former| is_meant(former)) {
                homes.extend(former.home(key).filter(|home| !homes.contains(home)));
            }
        }
        homes
    }

    /// Those of some keys of which something may stand elsewhere.
    pub(super) fn moved<'k>(&self, pool: PoolId, keys: impl Iterator<Item = Key<'k>>) -> Vec<Moved<'k>> {
        let (state, config) = (&self.pools[pool.index()], self.topology.pool(pool));
        let moved = keys.filter_map(|key| {
            let mut told = self.former_homes(pool, key.routed, |_| true);
            let (at, home) = (state.ring.route(key.routed, 0), config.home.route(key.routed, 0));
            let may_be_copied = told.iter().any(|former| Some(*former) != home);
            told.retain(|former| Some(*former) != at);
            (may_be_copied || !told.is_empty()).then(|| Moved { key, hash: key.hash(pool), told, may_be_copied })
        });
        moved.collect()
    }

    /// Whether somebody in this process is storing a copy of one of some keys.
    pub(super) fn is_stored(&self, pool: PoolId, moved: &[Moved<'_>]) -> bool {
        let warm = self.pools[pool.index()].warm.as_ref();
        warm.is_some_and(|warm| moved.iter().any(|moved| warm.shared.copies.is_stored(moved.hash)))
    }

    /// The keys are about to be written. `false` when a copy of one of them is being stored.
    pub(super) fn mark_as_written(&self, pool: PoolId, moved: &[Moved<'_>]) -> bool {
        let Some(warm) = &self.pools[pool.index()].warm else { return true };
        moved.iter().fold(true, |is_free, moved| is_free & warm.shared.copies.write(moved.hash))
    }

    /// A server has confirmed that it has forgotten what it was told to forget in a database, up to a number: who waits for
    /// that may go on.
    #[inline]
    pub(in crate::engine) fn has_forgotten(&mut self, of: Told, up_to: u64) {
        if self.warmup.is_awaited() {
            for id in self.warmup.forgotten(of, up_to) {
                self.clients.resume_soon(id);
            }
        }
    }

    /// Has those who had some keys before they moved forget them, as they are about to be written: so many at a time. What
    /// the request waits for, if it `may_wait`, until they are told of more; or, if it `asks`, until they have forgotten all.
    pub(super) fn tell_on<'k>(
        &mut self,
        id: SessionId,
        pool: PoolId,
        keys: impl Iterator<Item = Key<'k>> + Clone,
        mut wait: Wait,
        (asks, may_wait): (bool, bool),
        (now, most): (Instant, Instant),
    ) -> Option<Wait> {
        let most_keys = (keys.clone().count() / PORTIONS).clamp(PORTION.0, PORTION.1);
        let mut keys = keys.skip(wait.told).peekable();
        while keys.peek().is_some() {
            let (mut portion, mut bytes) = (Vec::new(), 0);
            while portion.len() < most_keys
                && bytes < PORTION_BYTES
                && let Some(key) = keys.next()
            {
                bytes += key.wire.len();
                portion.push(key);
            }
            let count = portion.len();
            let moved = self.moved(pool, portion.into_iter());
            // One that does not answer is told all the same: for it, that is no reason to hold anybody up.
            let holds_up = may_wait && !wait.hangs;
            if holds_up
                && moved.iter().flat_map(|moved| &moved.told).any(|home| self.is_busy_forgetting(pool, *home, now))
            {
                return Some(wait.looks_again(now, most, wait.step.max(Step::Looked)));
            }
            let told =
                moved.iter().map(|moved| self.tell_former_homes(id, pool, moved, asks && !wait.hangs, now)).sum();
            wait.told += count;
            if told > 0 {
                let step = if keys.peek().is_some() { Step::Looked } else { Step::Told };
                return Some(wait.waits(Until::Forgotten(told), most.min(now + FORGETS), step));
            }
        }
        None
    }

    /// Whether a server that is there and answers has so much to forget that it is not to be told of more: if that became too
    /// much, it would be flushed.
    pub(super) fn is_busy_forgetting(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        let is_heard = |link: &LinkId| {
            let link = &self.servers[*link];
            link.is_up() && !link.silence.is_suspect() && !link.is_silent(now, FORGETS)
        };
        self.pools[pool.index()].live[server.index()]
            && self.registry.is_busy_forgetting(pool, server)
            && self.member(pool, server).links().iter().any(is_heard)
    }

    /// Has those forget a key who had it before it moved, as it is about to be written. Returns how many of them, that the
    /// client does not wait for already, have still to confirm that, if it `waits` for that.
    pub(super) fn tell_former_homes(
        &mut self,
        id: SessionId,
        pool: PoolId,
        moved: &Moved<'_>,
        waits: bool,
        now: Instant,
    ) -> u32 {
        let (mut told, key) = (0, moved.key);
        let stale = || StaleKey { database: key.database, key: key.wire.into(), base64: key.base64 };
        for home in moved.told.iter().copied() {
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
                let (wait, number) = (self.warmup.next_wait(id), self.registry.newest_pending(pool, home));
                if waits && number > 0 {
                    told += u32::from(self.warmup.tell(wait, (pool, home, key.database), number));
                }
            }
        }
        told
    }
}

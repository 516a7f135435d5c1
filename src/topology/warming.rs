//! What keys that have moved to another server bring along.
//!
//! When the servers of a pool change, some keys belong elsewhere from one moment to the next, and what is stored of them
//! stands where nobody looks any more. With the option `warmup` the way that led there is kept for a while: who needs a key
//! at its new home looks at the one before as well, and stores what it finds. What is said here is shared by all workers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::Pool;
use crate::config::model::{self, ServerId};
use crate::ring::{self, Ring};
use crate::time::Instant;

/// Most changes of a pool's servers that are followed back at a time. Of earlier ones nobody tells any more of what is written,
/// so a key that comes back to where it was before them may find there what it had then.
const FORMER: usize = 32;

/// Groups of keys whose copies are told apart. Two of one group have to wait for each other now and then.
const GROUPS: usize = 16 << 10;

/// A way from a key to its home that was in force before.
#[derive(Debug, Clone)]
pub struct Former {
    ring: Ring,
    /// When another took its place.
    since: Instant,
    /// Until when what is found on it is brought along.
    pub until: Instant,
    /// Until when those on it are told of writes. Other processes may have begun later, and still look there.
    told_until: Instant,
    /// The servers that have been in the pool ever since. One that left, and came back, has missed what was written
    /// meanwhile.
    stayed: BTreeSet<ServerId>,
}

impl Former {
    /// Where a key was at home, if that server is there still.
    #[must_use]
    pub fn home(&self, key: &[u8]) -> Option<ServerId> {
        self.ring.route(key, 0).filter(|home| self.stayed.contains(home))
    }

    /// Of a pool that has only these servers from here on.
    fn with(mut self, members: &[ServerId]) -> Self {
        self.stayed.retain(|server| members.contains(server));
        self
    }

    /// What it becomes by another `warmup`. What has come to its end is not taken up again. Those who were to be told for longer
    /// are, as other processes may go by the setting before.
    fn lasting(mut self, warmup: Duration, now: Instant) -> Self {
        if self.until > now {
            self.until = self.since + warmup;
        }
        self.told_until = self.told_until.max(self.since + warmup + warmup);
        self
    }
}

/// Where the keys of a pool were at home before, while what is there is brought along.
#[derive(Debug)]
pub struct Warming {
    /// The ways from a key to its home that were in force before, the newest first.
    pub former: Vec<Former>,
    /// Which keys are being copied and written.
    pub copies: Arc<Copies>,
    /// For each server, the workers that wait for nothing any more that it was asked on a former way.
    followed: Arc<[AtomicUsize]>,
    /// Nothing is brought along any more.
    over: Arc<AtomicBool>,
}

impl Warming {
    /// What a pool of other settings brings along of the one before it. It has so many ids of servers.
    pub(super) fn of(before: &Pool, next: &model::Pool, ids: usize, now: Instant) -> Option<Arc<Self>> {
        let is_as_before =
            ring::is_alike(before, next) && before.servers.iter().map(at).eq(next.servers.iter().map(at));
        let known = before.warming.as_ref();
        let warmup = next.warmup?;
        if is_as_before {
            let known = known.filter(|known| known.told_until() > now)?;
            return Some(if before.warmup == next.warmup { Arc::clone(known) } else { known.lasting(warmup, now) });
        }
        let members: Vec<ServerId> = next.servers.iter().map(|server| server.id).collect();
        let earlier = known.into_iter().flat_map(|known| &known.former).filter(|former| former.told_until > now);
        let earlier = earlier.map(|former| former.clone().lasting(warmup, now));
        let newest = (!before.home.is_random()).then(|| {
            let (until, stayed) = (now + warmup, before.members().collect());
            Former { ring: before.home.clone(), since: now, until, told_until: until + warmup, stayed }
        });
        let former = newest.into_iter().chain(earlier).take(FORMER).map(|former| former.with(&members));
        let copies = known.map_or_else(Arc::default, |known| Arc::clone(&known.copies));
        let followed = (0..ids).map(|_| AtomicUsize::new(0)).collect();
        Some(Arc::new(Self { former: former.collect(), copies, followed, over: Arc::default() }))
    }

    /// The same for another time.
    fn lasting(&self, warmup: Duration, now: Instant) -> Arc<Self> {
        let former = self.former.iter().map(|former| former.clone().lasting(warmup, now)).collect();
        let Self { copies, followed, over, .. } = self;
        Arc::new(Self { former, copies: copies.clone(), followed: followed.clone(), over: over.clone() })
    }

    /// Whether another is the same but for how long it lasts.
    #[must_use]
    pub fn continues(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.followed, &other.followed)
    }

    /// Until when something is brought along.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.former.iter().map(|former| former.until).max().unwrap_or(Instant::ZERO)
    }

    /// Until when former homes are told of writes.
    #[must_use]
    pub fn told_until(&self) -> Instant {
        self.former.iter().map(|former| former.told_until).max().unwrap_or(Instant::ZERO)
    }

    /// All of the pool is about to be flushed, so that there is nothing to be brought along. `false` while a copy may be about
    /// to be stored: then that has to be waited for.
    #[must_use]
    pub fn end(&self) -> bool {
        self.over.store(true, Ordering::SeqCst);
        self.copies.write_all()
    }

    /// Whether nothing is brought along any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// A worker waits for nothing any more that a server was asked on a former way.
    pub fn followed(&self, server: ServerId) {
        if let Some(followed) = self.followed.get(server.index()) {
            followed.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The same of all servers but some.
    pub fn followed_by_all_but(&self, is_awaited: impl Fn(ServerId) -> bool) {
        (0..self.followed.len()).map(ServerId::at).filter(|id| !is_awaited(*id)).for_each(|id| self.followed(id));
    }

    /// Whether that holds for so many workers: then what is found at a server is what was written there last.
    #[must_use]
    pub fn is_followed_by(&self, server: ServerId, workers: usize) -> bool {
        self.followed.get(server.index()).is_none_or(|followed| followed.load(Ordering::Acquire) >= workers)
    }
}

fn at(server: &model::Server) -> (&model::Address, &str) {
    (&server.address, server.ring_name())
}

/// The keys that are being copied from a former home, in groups: for each, how many copies are being stored at the moment,
/// and how often a key of it has been written.
///
/// A copy must not be stored behind a write that came after it was read. So it is stored only if no key of its group has been
/// written since it was begun; and who writes waits until what is being stored is.
#[derive(Debug)]
pub struct Copies(Box<[AtomicU64]>);

/// Below: copies that are being stored. Above: writes.
const WRITE: u64 = 1 << 32;

impl Default for Copies {
    fn default() -> Self {
        Self((0..GROUPS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Copies {
    /// The key with this hash is about to be copied. Returns what [`Copies::store`] is told.
    #[must_use]
    pub fn begin(&self, hash: u64) -> u32 {
        writes(self.group(hash).load(Ordering::SeqCst))
    }

    /// What was read is about to be stored. `false` when the key may have been written since: then it is not to be.
    #[must_use]
    pub fn store(&self, hash: u64, begun: u32) -> bool {
        let one_more = |state: u64| (writes(state) == begun).then_some(state + 1);
        self.group(hash).fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    /// It is stored, or never will be.
    pub fn stored(&self, hash: u64) {
        self.group(hash).fetch_sub(1, Ordering::SeqCst);
    }

    /// The key with this hash is about to be written, and its former homes have been told. `false` when a copy of it may be
    /// about to be stored: then that has to be waited for.
    #[must_use]
    pub fn write(&self, hash: u64) -> bool {
        let before = self.group(hash).fetch_add(WRITE, Ordering::SeqCst);
        before & (WRITE - 1) == 0
    }

    /// Whether a copy of the key with this hash may be about to be stored.
    #[must_use]
    pub fn is_stored(&self, hash: u64) -> bool {
        self.group(hash).load(Ordering::SeqCst) & (WRITE - 1) > 0
    }

    /// As [`Copies::write`], of every key.
    #[must_use]
    fn write_all(&self) -> bool {
        self.0
            .iter()
            .fold(true, |is_free, group| is_free & (group.fetch_add(WRITE, Ordering::SeqCst) & (WRITE - 1) == 0))
    }

    fn group(&self, hash: u64) -> &AtomicU64 {
        &self.0[(hash >> 20) as usize % GROUPS]
    }
}

const fn writes(state: u64) -> u32 {
    (state >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_stored_behind_a_write() {
        let copies = Copies::default();
        let begun = copies.begin(7);
        assert!(copies.write(7), "nothing is being stored");
        assert!(!copies.store(7, begun));
        assert!(copies.store(7, copies.begin(7)));
        assert!(copies.store(8 << 20, begun), "a key of another group");
    }

    #[test]
    fn a_write_waits_for_what_is_being_stored() {
        let copies = Copies::default();
        assert!(copies.store(7, copies.begin(7)));
        assert!(!copies.write(7));
        copies.stored(7);
        assert!(copies.write(7));
    }
}

//! What keys that have moved to another server bring along.
//!
//! When the servers of a pool change, some keys belong elsewhere from one moment to the next, and what is stored of them
//! stands where nobody looks any more. With the option `warmup` the way that led there is kept for a while: who needs a key
//! at its new home looks at the one before as well, and stores what it finds. What is said here is shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::Pool;
use crate::config::model;
use crate::ring::{self, Ring};
use crate::time::Instant;

/// Most changes of a pool's servers that are followed back at a time. Of earlier ones nobody tells any more of what is written,
/// so a key that comes back to where it was before them may find there what it had then.
const FORMER: usize = 32;

/// Groups of keys whose copies are told apart. Two of one group have to wait for each other now and then.
const GROUPS: usize = 16 << 10;

/// Where the keys of a pool were at home before, while what is there is brought along.
#[derive(Debug)]
pub struct Warming {
    /// The ways from a key to its home that were in force before, the newest first, and until when each is followed.
    pub former: Vec<(Ring, Instant)>,
    /// Which keys are being copied and written.
    pub copies: Arc<Copies>,
    /// Workers on which nothing is under way any more that went the former way.
    followed: AtomicUsize,
    /// Nothing is brought along any more.
    over: AtomicBool,
}

impl Warming {
    /// What a pool of other settings brings along of the one before it.
    pub(super) fn of(before: &Pool, next: &model::Pool, now: Instant) -> Option<Arc<Self>> {
        let is_as_before =
            ring::is_alike(before, next) && before.servers.iter().map(at).eq(next.servers.iter().map(at));
        let known = before.warming.as_ref();
        let warmup = next.warmup?;
        if is_as_before {
            return known.filter(|known| known.told_until(warmup) > now).map(Arc::clone);
        }
        let earlier = known.into_iter().flat_map(|known| &known.former).filter(|(_, until)| *until + warmup > now);
        let newest = (!before.home.is_random()).then(|| (before.home.clone(), now + warmup));
        let former = newest.into_iter().chain(earlier.cloned()).take(FORMER).collect();
        let copies = known.map_or_else(Arc::default, |known| Arc::clone(&known.copies));
        Some(Arc::new(Self { former, copies, followed: AtomicUsize::new(0), over: AtomicBool::new(false) }))
    }

    /// Until when something is brought along.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.former.iter().map(|(_, until)| *until).max().unwrap_or(Instant::ZERO)
    }

    /// Until when the former homes are told of writes. Other processes may have begun later, and still look there.
    #[must_use]
    pub fn told_until(&self, warmup: Duration) -> Instant {
        self.until() + warmup
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

    /// A worker has nothing under way any more that went the former way.
    pub fn followed(&self) {
        self.followed.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether that holds for so many workers: then what is found at a former home is what was written there last.
    #[must_use]
    pub fn is_followed_by(&self, workers: usize) -> bool {
        self.followed.load(Ordering::Acquire) >= workers
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

    /// As [`Copies::write`], of every key.
    #[must_use]
    fn write_all(&self) -> bool {
        let busy = self.0.iter().filter(|group| group.fetch_add(WRITE, Ordering::SeqCst) & (WRITE - 1) > 0).count();
        busy == 0
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

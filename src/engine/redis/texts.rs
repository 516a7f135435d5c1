//! The texts of scripts that have passed through.

use crate::config::model::PoolId;
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Scripts that are remembered at most, and bytes of one.
pub(super) const COUNT_LIMIT: usize = 1000;

pub(super) const BYTES_LIMIT: usize = 64 << 10;

/// What a text takes besides its bytes.
pub(super) const TEXT_COST: usize = 160;

pub(super) fn cost(text: &[u8]) -> usize {
    TEXT_COST + text.len()
}

/// The scripts that have passed through this process, by the hash of their text. Looked at when a server does not know
/// one, and written when a worker sees one for the first time.
#[derive(Debug, Clone, Default)]
pub struct Scripts(Arc<Shared>);

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) texts: Mutex<Texts>,
    /// Changes with the texts, so that one that was looked for in vain need not be looked for each time.
    pub(super) version: AtomicU64,
    /// How often texts have been forgotten, so that a worker knows that what it has noted is to be noted again.
    pub(super) flushes: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Texts {
    /// By the pool that they came through: servers of another one have not been given them.
    pub(super) known: BTreeMap<(PoolId, [u8; 40]), Arc<[u8]>>,
    /// Bytes that they kind, about.
    pub(super) bytes: usize,
}

/// How many bytes the texts held before a change, and how many then. Both are taken under the lock, so that the changes
/// of all workers add up to what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: usize,
    pub(super) then: usize,
}

impl Scripts {
    /// Remembers a text, unless there are many, or all of them would hold more than `most` bytes.
    pub(super) fn remember(&self, pool: PoolId, text: &[u8], most: usize) -> Change {
        let mut texts = self.texts();
        let (before, then) = (texts.bytes, texts.bytes + cost(text));
        let has_room = texts.known.len() < COUNT_LIMIT && then <= most;
        if has_room && texts.known.insert((pool, hash(text)), text.into()).is_none() {
            texts.bytes = then;
            self.0.version.fetch_add(1, Ordering::Release);
        }
        Change { before, then: texts.bytes }
    }

    /// Forgets all that came through a pool.
    pub(super) fn forget(&self, pool: PoolId) -> Change {
        let mut texts = self.texts();
        let before = texts.bytes;
        texts.known.retain(|(owner, _), _| *owner != pool);
        texts.bytes = texts.known.values().map(|text| cost(text)).sum();
        self.0.flushes.fetch_add(1, Ordering::Release);
        Change { before, then: texts.bytes }
    }

    pub(super) fn texts(&self) -> MutexGuard<'_, Texts> {
        self.0.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, pool: PoolId, name: &[u8]) -> Option<Arc<[u8]>> {
        let name: [u8; 40] = name.to_ascii_lowercase().try_into().ok()?;
        self.texts().known.get(&(pool, name)).cloned()
    }

    pub(super) fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Acquire)
    }

    /// A number that changes whenever a text is added.
    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }
}

/// The name that Redis gives a script: the SHA-1 of its text, in hexadecimal digits.
pub(super) fn hash(text: &[u8]) -> [u8; 40] {
    let mut name = [0; 40];
    for (two, byte) in name.chunks_mut(2).zip(Sha1::digest(text)) {
        two[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        two[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    name
}

/// The scripts that a worker has noted for all, by a hash of the pool and the text.
#[derive(Debug, Default)]
pub(in crate::engine) struct Noted {
    pub(super) marks: HashSet<u64>,
    pub(super) flushes: u64,
}

impl Noted {
    /// Forgets all when some have been forgotten since.
    pub(super) fn refresh(&mut self, flushes: u64) {
        if self.flushes != flushes {
            self.flushes = flushes;
            self.marks.clear();
        }
    }

    /// Whether a script is new to the worker, and one more can be noted.
    pub(super) fn insert(&mut self, pool: PoolId, text: &[u8]) -> bool {
        self.marks.len() < COUNT_LIMIT && self.marks.insert(fnv_of(pool, text))
    }
}

pub(super) fn fnv_of(pool: PoolId, text: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write_usize(pool.index());
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_known_by_the_name_that_redis_gives_them() {
        let scripts = Scripts::default();
        const MOST: usize = 1000;
        let (pool, other) = (PoolId(0), PoolId(1));
        scripts.remember(pool, b"return 1", MOST);
        scripts.remember(other, b"return 1", MOST);
        let name = b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB";
        assert_eq!(scripts.find(pool, name).as_deref(), Some(&b"return 1"[..]));
        assert!(scripts.find(pool, b"nothing").is_none());
        let all = scripts.texts().bytes;
        scripts.remember(pool, &[b'-'; MOST], MOST);
        assert_eq!(scripts.texts().bytes, all, "there is no room for it");
        let mut noted = Noted::default();
        assert!(noted.insert(pool, b"return 1") && noted.insert(other, b"return 1"));
        assert!(!noted.insert(pool, b"return 1"));
        scripts.forget(pool);
        assert!(scripts.find(pool, name).is_none() && scripts.find(other, name).is_some());
        assert_eq!(scripts.texts().bytes, all / 2);
        noted.refresh(scripts.flushes());
        assert!(noted.insert(pool, b"return 1"), "it is to be noted again");
    }

    #[test]
    fn the_changes_of_all_workers_add_up_to_what_is_held() {
        let scripts = Scripts::default();
        let told = std::sync::atomic::AtomicUsize::new(0);
        let tell = |change: Change| {
            told.fetch_add(change.then.wrapping_sub(change.before), Ordering::Relaxed);
        };
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (scripts, tell) = (&scripts, &tell);
                scope.spawn(move || {
                    for round in 0..500 {
                        tell(scripts.remember(PoolId(0), format!("return {worker}{round}").as_bytes(), usize::MAX));
                        if round % 7 == worker {
                            tell(scripts.forget(PoolId(0)));
                        }
                    }
                });
            }
        });
        tell(scripts.forget(PoolId(0)));
        assert_eq!(told.load(Ordering::Relaxed), 0);
    }
}

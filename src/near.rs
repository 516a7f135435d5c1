//! Values that are kept in the process itself, shared by its workers
//! ([`near_cache`](crate::config::model::Pool::near_cache)).
//!
//! Nothing is taken out when it changes. Each key belongs to a group, and a group has a number that grows with each change
//! of one of its keys: when that is sent to a server, and again when the server has answered, or will not. A value
//! remembers the number that was in force *before* its server was asked for it. It is given out only while that is still
//! the number of its group, so not from when this process has sent a change of it on, and never again once that is over,
//! whatever order the server has carried the two out in.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use foldhash::fast::FixedState;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::time::Instant;

/// Groups of keys. A change of one key has the others of its group asked for anew.
const GROUPS: usize = 64 << 10;

/// Memory that a value takes beside its own bytes and its key's, about.
const OVERHEAD: u64 = 160;

/// A value that takes more than so large a part of all room is not kept.
const LARGEST_SHARE: usize = 32;

/// What a value is of that is taken to be usual, when room for their names is made.
const USUAL: usize = 4 << 10;

/// A key that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name<'k> {
    /// Redis: the database; 0 for memcached.
    pub database: u32,
    /// The key.
    pub key: &'k [u8],
}

/// A key of which a value is kept. It has the hash of its [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owned {
    database: u32,
    key: Box<[u8]>,
}

impl Equivalent<Owned> for Name<'_> {
    fn equivalent(&self, owned: &Owned) -> bool {
        self.database == owned.database && *self.key == *owned.key
    }
}

/// What was known of the changes of a key at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    group: u32,
    all: u32,
}

/// Whether a server still tells of the changes of what was read of it.
#[derive(Debug)]
pub struct Telling(AtomicBool);

impl Telling {
    /// It does.
    #[must_use]
    pub fn begin() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    /// From here on it does not: what it would have told is not given out any more.
    pub fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn goes_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A value that is kept.
#[derive(Debug)]
pub struct Value {
    /// What a client gets of it: memcached's `VALUE` line and the block behind it, Redis's bulk string.
    pub block: Box<[u8]>,
    /// The server that it was read from, by its number in the pool.
    pub server: usize,
    /// When its server was asked for it.
    pub asked: Instant,
    /// Until when it is given out.
    pub until: Instant,
    /// What was known of its key's changes by then.
    pub seen: Seen,
    /// Who tells when it changes at the server, if somebody does.
    pub telling: Option<Arc<Telling>>,
}

#[derive(Clone)]
struct Weigher;

impl Weighter<Owned, Arc<Value>> for Weigher {
    fn weight(&self, name: &Owned, value: &Arc<Value>) -> u64 {
        OVERHEAD + (name.key.len() + value.block.len()) as u64
    }
}

/// What is kept of a pool.
pub struct Near {
    values: Cache<Owned, Arc<Value>, Weigher>,
    largest: usize,
    groups: Box<[AtomicU32]>,
    all: AtomicU32,
}

impl fmt::Debug for Near {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Near").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

impl Near {
    /// Nothing yet, and room for so many bytes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            values: Cache::with_weighter((size / USUAL).max(64), size as u64, Weigher),
            largest: size / LARGEST_SHARE,
            groups: (0..GROUPS).map(|_| AtomicU32::new(0)).collect(),
            all: AtomicU32::new(0),
        }
    }

    /// The number of a key's group. Databases are not told apart: a server that tells of changes does not either.
    fn group_of(&self, key: &[u8]) -> &AtomicU32 {
        let hash = usize::try_from(FixedState::with_seed(0).hash_one(key)).unwrap_or(usize::MAX);
        &self.groups[hash % GROUPS]
    }

    /// Bytes that its values take, about, and how many they are.
    #[must_use]
    pub fn held(&self) -> (u64, usize) {
        (self.values.weight(), self.values.len())
    }

    /// Whether a value of so many bytes is kept at all.
    #[must_use]
    pub const fn takes(&self, bytes: usize) -> bool {
        bytes <= self.largest
    }

    /// What is known of a key's changes. It is asked for before its server is asked for the value.
    #[must_use]
    pub fn seen(&self, key: &[u8]) -> Seen {
        Seen { group: self.group_of(key).load(Ordering::Acquire), all: self.all.load(Ordering::Acquire) }
    }

    /// A key changes, or may have changed just now.
    pub fn changed(&self, key: &[u8]) {
        self.group_of(key).fetch_add(1, Ordering::AcqRel);
    }

    /// All keys do, or nobody knows which.
    pub fn all_changed(&self) {
        self.all.fetch_add(1, Ordering::AcqRel);
    }

    /// Keeps a value, unless it has changed since.
    pub fn keep(&self, name: Name<'_>, value: Value) -> bool {
        if !self.takes(value.block.len()) || value.seen != self.seen(name.key) {
            return false;
        }
        self.values.insert(Owned { database: name.database, key: name.key.into() }, Arc::new(value));
        true
    }

    /// The value of a key, if it is to be given out: what the server has that is asked for the key now.
    #[must_use]
    pub fn fresh(&self, name: Name<'_>, server: usize, now: Instant) -> Option<Arc<Value>> {
        let value = self.values.get(&name)?;
        let is_told = value.telling.as_ref().is_none_or(|telling| telling.goes_on());
        (now < value.until && value.server == server && is_told && value.seen == self.seen(name.key)).then_some(value)
    }

    /// The value of a key that was asked for no longer ago than this, whatever others may have made of it since: there is no
    /// server that could say.
    #[must_use]
    pub fn last_known(&self, name: Name<'_>, most: Duration, now: Instant) -> Option<Arc<Value>> {
        let value = self.values.get(&name)?;
        (now - value.asked < most && value.seen == self.seen(name.key)).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: Name<'_> = Name { database: 0, key: b"k" };

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn value(near: &Near, name: Name<'_>, asked: Instant) -> Value {
        let until = asked + Duration::from_secs(1);
        Value { block: (*b"v").into(), server: 3, asked, until, seen: near.seen(name.key), telling: None }
    }

    #[test]
    fn a_value_is_given_out_for_its_time_and_by_its_name() {
        let near = Near::new(1 << 20);
        assert!(near.keep(K, value(&near, K, at(5))));
        assert!(near.fresh(K, 3, at(1004)).is_some() && near.fresh(K, 3, at(1005)).is_none());
        assert!(near.fresh(Name { database: 1, ..K }, 3, at(6)).is_none());
        assert!(near.fresh(Name { key: b"l", ..K }, 3, at(6)).is_none());
        assert!(near.fresh(K, 4, at(6)).is_none(), "another server is asked for it by now");
    }

    #[test]
    fn what_has_changed_is_not_given_out_in_whatever_order_that_came() {
        let near = Near::new(1 << 20);
        let before = value(&near, K, at(0));
        near.changed(b"k");
        assert!(!near.keep(K, before), "it was asked for before the change");
        let meanwhile = value(&near, K, at(0));
        assert!(near.keep(K, meanwhile) && near.fresh(K, 3, at(1)).is_some());
        near.changed(b"k"); // the change is over
        assert!(near.fresh(K, 3, at(1)).is_none() && near.last_known(K, Duration::from_secs(9), at(1)).is_none());
        assert!(near.keep(K, value(&near, K, at(1))));
        near.changed(b"l");
        assert!(near.fresh(K, 3, at(2)).is_some(), "of another group");
        near.all_changed();
        assert!(near.fresh(K, 3, at(2)).is_none());
    }

    #[test]
    fn what_nobody_tells_of_any_more_is_given_only_where_there_is_no_server() {
        let near = Near::new(1 << 20);
        let telling = Telling::begin();
        let told = Value { telling: Some(Arc::clone(&telling)), ..value(&near, K, at(0)) };
        assert!(near.keep(K, told) && near.fresh(K, 3, at(1)).is_some());
        telling.end();
        assert!(near.fresh(K, 3, at(1)).is_none());
        let most = Duration::from_secs(5);
        assert!(near.last_known(K, most, at(4999)).is_some() && near.last_known(K, most, at(5000)).is_none());
    }

    #[test]
    fn its_room_is_bounded() {
        let near = Near::new(1 << 20);
        let of = |name: Name<'_>, len| Value { block: vec![b'x'; len].into(), ..value(&near, name, at(0)) };
        assert!(!near.keep(K, of(K, 64 << 10)), "too large a part of all");
        for number in 0..10_000_u32 {
            let key = number.to_be_bytes();
            near.keep(Name { database: 0, key: &key }, of(Name { database: 0, key: &key }, 1000));
        }
        let (bytes, count) = near.held();
        assert!(bytes <= 1 << 20 && count > 500, "{bytes} bytes, {count} values");
    }
}

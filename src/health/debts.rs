//! What a server has missed: keys that were to be changed, a flush.
//!
//! A key is enough. Whatever was to be written to it, deleting it leaves nothing that is older than what clients were
//! told elsewhere; a cache forgets.

use std::collections::BTreeSet;

use crate::time::Instant;

/// Most keys that are kept for one server.
pub const COUNT_LIMIT: usize = 100_000;

/// Most bytes of keys that are kept for one server.
pub const BYTES_LIMIT: usize = 8 << 20;

/// A key that a server has to forget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwedKey {
    /// The key as it stands on the wire.
    pub key: Box<[u8]>,
    /// It is base64 (`b` of the meta commands).
    pub base64: bool,
}

/// What is paid at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Everything is to be forgotten.
    pub flush: bool,
    /// Everything in these databases is.
    pub databases: Vec<u32>,
    /// These keys are.
    pub keys: Vec<OwedKey>,
}

/// What one server is owed.
#[derive(Debug, Default)]
pub struct Debts {
    keys: BTreeSet<OwedKey>,
    bytes: usize,
    flush: bool,
    /// Redis: databases to be flushed.
    databases: BTreeSet<u32>,
    /// When the last of it was added.
    newest: Option<Instant>,
}

impl Debts {
    /// Nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.flush && self.databases.is_empty()
    }

    /// Adds a key. Beyond the limits all of it becomes a flush.
    pub fn add_key(&mut self, key: OwedKey, now: Instant) {
        self.newest = Some(now);
        if self.flush {
            return;
        }
        let bytes = key.key.len();
        if self.keys.insert(key) {
            self.bytes += bytes;
        }
        if self.keys.len() > COUNT_LIMIT || self.bytes > BYTES_LIMIT {
            self.add_flush(now);
        }
    }

    /// Adds a flush, which pays for every key as well.
    pub fn add_flush(&mut self, now: Instant) {
        self.newest = Some(now);
        self.flush = true;
        self.databases.clear();
        self.forget_keys();
    }

    /// Adds the flush of one database.
    pub fn add_database(&mut self, database: u32, now: Instant) {
        self.newest = Some(now);
        if !self.flush {
            self.databases.insert(database);
        }
    }

    /// Takes the flush, or the databases to be flushed and up to `most` keys: whoever takes them pays, or owes them again.
    pub fn take(&mut self, most: usize) -> Taken {
        let mut taken = Taken { flush: std::mem::take(&mut self.flush), ..Taken::default() };
        if taken.flush {
            return taken;
        }
        taken.databases = std::mem::take(&mut self.databases).into_iter().collect();
        while taken.keys.len() < most
            && let Some(key) = self.keys.pop_first()
        {
            self.bytes -= key.key.len();
            taken.keys.push(key);
        }
        taken
    }

    /// What is owed, without taking it.
    #[must_use]
    pub fn all(&self) -> Taken {
        Taken {
            flush: self.flush,
            databases: self.databases.iter().copied().collect(),
            keys: self.keys.iter().cloned().collect(),
        }
    }

    /// The server started at `started`, and empty: what it missed before that is of no account.
    pub fn void_before(&mut self, started: Instant) {
        if self.newest.is_some_and(|newest| newest < started) {
            self.forget_keys();
            self.flush = false;
            self.databases.clear();
        }
    }

    fn forget_keys(&mut self) {
        self.keys = BTreeSet::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> OwedKey {
        OwedKey { key: format!("key:{number}").into_bytes().into(), base64: false }
    }

    #[test]
    fn keys_are_owed_once_and_paid_in_batches() {
        let mut debts = Debts::default();
        (0..10).chain(0..10).for_each(|number| debts.add_key(key(number), Instant::ZERO));
        assert_eq!(debts.take(4).keys.len(), 4);
        assert_eq!(debts.take(100).keys.len(), 6);
        assert!(debts.is_empty());
    }

    #[test]
    fn too_many_keys_become_a_flush() {
        let mut debts = Debts::default();
        (0..=COUNT_LIMIT).for_each(|number| debts.add_key(key(number), Instant::ZERO));
        assert_eq!(debts.take(10), Taken { flush: true, ..Taken::default() });
        assert!(debts.is_empty());
    }

    #[test]
    fn a_restart_settles_what_was_owed_before_it_and_nothing_else() {
        let at = Instant::from_nanos;
        let mut debts = Debts::default();
        debts.add_key(key(1), at(10));
        debts.void_before(at(10));
        assert!(!debts.is_empty(), "it may have been missed by the new process");
        debts.add_flush(at(11));
        debts.void_before(at(12));
        assert!(debts.is_empty());
    }
}

//! What a server has missed: keys that were to be changed, a flush.
//!
//! A key is enough. Whatever was to be written to it, deleting it leaves nothing that is older than what clients were
//! told elsewhere; a cache forgets.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Instant;

/// Most keys that are kept for one server.
pub const COUNT_LIMIT: usize = 100_000;

/// Most bytes of keys that are kept for one server.
pub const BYTES_LIMIT: usize = 8 << 20;

/// Most flushes that are kept for one server because they take effect later.
pub const LATER_LIMIT: usize = 16;

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
    /// Which flush was added last ([`Debts::flushes`]).
    pub flushes: u32,
}

/// What one server is owed.
#[derive(Debug, Default)]
pub struct Debts {
    keys: BTreeSet<OwedKey>,
    bytes: usize,
    flush: bool,
    /// Redis: databases to be flushed.
    databases: BTreeSet<u32>,
    /// What was to be flushed and has not been confirmed, taken or not: everything, or these databases.
    awaited: bool,
    awaited_databases: BTreeSet<u32>,
    /// When flushes take effect that are owed from then on.
    later: BTreeSet<Instant>,
    /// Counts the flushes that were added.
    flushes: u32,
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
        (self.flush, self.awaited) = (true, true);
        self.flushes = self.flushes.wrapping_add(1);
        self.databases.clear();
        self.awaited_databases.clear();
        self.forget_keys();
    }

    /// Adds a flush that takes effect at `due`, and is nothing to be paid before. Of more than [`LATER_LIMIT`], the last
    /// ones are kept: memcached itself keeps the one that it was told last.
    pub fn add_flush_later(&mut self, due: Instant) {
        self.later.insert(due);
        if self.later.len() > LATER_LIMIT {
            self.later.pop_first();
        }
    }

    /// Adds a flush if one that was to take effect later is due. Whether one was.
    pub fn add_due_flush(&mut self, now: Instant) -> bool {
        let later = self.later.split_off(&(now + Duration::from_nanos(1)));
        let is_due = !std::mem::replace(&mut self.later, later).is_empty();
        if is_due {
            self.add_flush(now);
        }
        is_due
    }

    /// Adds the flush of one database.
    pub fn add_database(&mut self, database: u32, now: Instant) {
        self.newest = Some(now);
        self.flushes = self.flushes.wrapping_add(1);
        if self.awaited {
            self.flush = true; // the one that is under way may come before what it is to be rid of
            return self.forget_keys();
        }
        self.databases.insert(database);
        self.awaited_databases.insert(database);
    }

    /// Whether the server may still hold what it is to be flushed of.
    #[must_use]
    pub fn awaits_flush(&self) -> bool {
        self.awaited || !self.awaited_databases.is_empty()
    }

    /// Which flush was added last: whoever has sent all that is awaited since then is behind all of it.
    #[must_use]
    pub const fn flushes(&self) -> u32 {
        self.flushes
    }

    /// Whoever took the flushes up to this one, by [`Taken::flushes`], has them confirmed.
    pub fn confirm_flush(&mut self, flushes: u32) {
        if flushes == self.flushes {
            (self.flush, self.awaited) = (false, false);
            self.databases.clear();
            self.awaited_databases.clear();
        }
    }

    /// What is awaited is to be taken once more: whoever had taken it has lost it, or it is to be sent another way too.
    pub fn owe_awaited(&mut self) {
        if self.awaited {
            self.flush = true;
            self.forget_keys();
        } else {
            self.databases.extend(&self.awaited_databases);
        }
    }

    /// Takes the flush, or the databases to be flushed and up to `most` keys: whoever takes them pays, or owes them again.
    pub fn take(&mut self, most: usize) -> Taken {
        if self.flush || !self.databases.is_empty() {
            self.owe_awaited(); // all of it, so that who takes it is behind all of it
        }
        let flush = std::mem::take(&mut self.flush);
        let mut taken = Taken { flush, flushes: self.flushes, ..Taken::default() };
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

    /// What is owed, without taking it. A flush that takes effect later counts as one that does at once: when it is due,
    /// nobody may be there to know of it.
    #[must_use]
    pub fn all(&self) -> Taken {
        Taken {
            flush: self.awaited || !self.later.is_empty(),
            databases: self.awaited_databases.iter().copied().collect(),
            keys: self.keys.iter().cloned().collect(),
            flushes: 0,
        }
    }

    /// The server started at `started`, and empty: what it missed before that is of no account.
    pub fn void_before(&mut self, started: Instant) {
        if self.newest.is_some_and(|newest| newest < started) {
            self.forget_keys();
            self.confirm_flush(self.flushes);
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
        assert_eq!(debts.take(10), Taken { flush: true, flushes: 1, ..Taken::default() });
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

    #[test]
    fn a_flush_that_takes_effect_later_is_owed_from_then_on() {
        let at = |ns| Instant::from_nanos(ns);
        let mut debts = Debts::default();
        debts.add_flush_later(at(100));
        debts.add_flush_later(at(300));
        assert!(debts.is_empty() && !debts.awaits_flush() && !debts.add_due_flush(at(99)));
        debts.add_flush(at(50));
        assert!(debts.take(1).flush);
        debts.confirm_flush(debts.flushes());
        debts.void_before(at(99)); // a server that was started anew has it before it as well
        assert!(debts.add_due_flush(at(100)) && debts.awaits_flush() && debts.take(1).flush);
        assert!(!debts.add_due_flush(at(200)) && debts.all().flush);
        assert!(debts.add_due_flush(at(400)));
        (0..1000).for_each(|due| debts.add_flush_later(at(1000 + due)));
        assert_eq!(debts.later.len(), LATER_LIMIT);
        assert!(debts.add_due_flush(at(1999)) && !debts.add_due_flush(at(9999)));
    }

    #[test]
    fn a_flush_is_awaited_until_the_last_one_is_confirmed() {
        let mut debts = Debts::default();
        debts.add_database(3, Instant::ZERO);
        let first = debts.take(10);
        assert_eq!(first.databases, [3]);
        assert!(debts.is_empty() && debts.awaits_flush(), "it is under way");
        debts.add_database(5, Instant::ZERO);
        let second = debts.take(10);
        assert_eq!(second.databases, [3, 5], "who takes the second is behind the first as well");
        debts.confirm_flush(first.flushes);
        assert!(debts.awaits_flush());
        debts.owe_awaited();
        let third = debts.take(10);
        assert_eq!((third.databases, third.flushes), (vec![3, 5], second.flushes));
        debts.confirm_flush(second.flushes);
        assert!(!debts.awaits_flush());
        debts.owe_awaited();
        assert!(debts.is_empty(), "the third may be lost, whatever became of it");
    }

    #[test]
    fn a_database_is_flushed_behind_a_flush_that_is_under_way() {
        let mut debts = Debts::default();
        debts.add_flush(Instant::ZERO);
        let first = debts.take(10);
        assert!(first.flush);
        debts.add_database(3, Instant::ZERO);
        debts.confirm_flush(first.flushes);
        assert!(debts.awaits_flush());
        assert!(debts.take(10).flush);
    }
}

//! What a server has missed: keys that were to be changed, a flush.
//!
//! A key is enough. Whatever was to be written to it, deleting it leaves nothing that is older than what clients were
//! told elsewhere; a cache forgets.
//!
//! Debts are numbered in the order in which they came. A connection that has been sent all of them up to a number is
//! behind these: what is asked on it later finds none of what was to be forgotten. A debt is there until its payment has
//! been confirmed, so nobody has to give back what it could not pay.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
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
    /// Redis: the database that it is in.
    pub database: Option<u32>,
    /// The key as it stands on the wire.
    pub key: Arc<[u8]>,
    /// It is base64 (`b` of the meta commands).
    pub base64: bool,
}

/// Names a connection of this process to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The worker that it belongs to.
    pub worker: u32,
    /// Its place among the connections of the worker.
    pub place: u32,
}

/// What is paid at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Everything is to be forgotten.
    pub flush: bool,
    /// Everything in these databases is.
    pub databases: Vec<u32>,
    /// These keys are.
    pub keys: Vec<OwedKey>,
    /// Whoever has paid this, and what came before it, has paid all debts up to this number.
    pub up_to: u64,
}

impl Due {
    /// Whether nothing is to be paid.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        !self.flush && self.databases.is_empty() && self.keys.is_empty()
    }
}

/// A key that has not been paid.
#[derive(Debug)]
struct Unpaid {
    key: OwedKey,
    /// Connections that may have older writes of it on their way: a payment counts only if it goes behind these.
    ways: Vec<Way>,
}

/// What one server is owed.
#[derive(Debug, Default)]
pub struct Debts {
    /// By their numbers.
    keys: BTreeMap<u64, Unpaid>,
    numbers: BTreeMap<OwedKey, u64>,
    bytes: usize,
    /// The number of the flush of everything that is owed.
    flush: Option<u64>,
    /// Redis: databases to be flushed, and the numbers of these debts.
    databases: BTreeMap<u32, u64>,
    /// Connections that may have something older on their way than these flushes: a payment counts only if it goes behind.
    ways: Vec<Way>,
    /// When flushes take effect that are owed from then on.
    later: BTreeSet<Instant>,
    /// The number of the newest debt.
    last: u64,
    /// When it was added.
    newest: Option<Instant>,
}

impl Debts {
    /// Nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.flush.is_none() && self.databases.is_empty()
    }

    /// The number of the newest debt: whoever has paid all up to it is behind all of them.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Whether the server may still hold what it is to be flushed of.
    #[must_use]
    pub fn awaits_flush(&self) -> bool {
        self.flush.is_some() || !self.databases.is_empty()
    }

    fn number(&mut self, now: Instant) -> u64 {
        self.newest = Some(now);
        self.last += 1;
        self.last
    }

    /// Adds a key. It is to be paid on `way`, too, if there is one, or after that has ended: older writes of it may be on
    /// their way there. Beyond the limits all keys become a flush: of their databases, where they have any.
    pub fn add_key(&mut self, key: OwedKey, way: Option<Way>, now: Instant) {
        let number = self.number(now);
        let mut ways = match self.remove(&key) {
            Some(unpaid) => unpaid.ways,
            None => Vec::new(),
        };
        if let Some(way) = way
            && !ways.contains(&way)
        {
            ways.push(way);
        }
        self.insert(number, Unpaid { key, ways });
        if self.keys.len() > COUNT_LIMIT || self.bytes > BYTES_LIMIT {
            let mut databases: Vec<_> = self.numbers.keys().filter_map(|key| key.database).collect();
            if databases.is_empty() {
                return self.add_flush(now);
            }
            databases.dedup();
            databases.into_iter().for_each(|database| self.add_database(database, now));
        }
    }

    fn insert(&mut self, number: u64, unpaid: Unpaid) {
        self.bytes += unpaid.key.key.len();
        self.numbers.insert(unpaid.key.clone(), number);
        self.keys.insert(number, unpaid);
    }

    fn remove(&mut self, key: &OwedKey) -> Option<Unpaid> {
        let number = self.numbers.remove(key)?;
        self.bytes -= key.key.len();
        self.keys.remove(&number)
    }

    /// Adds a flush, which pays for every key as well.
    pub fn add_flush(&mut self, now: Instant) {
        self.flush = Some(self.number(now));
        self.databases.clear();
        self.stand_for_keys(|_| true);
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

    /// When the first flush that is to take effect later does.
    #[must_use]
    pub fn next_later(&self) -> Option<Instant> {
        self.later.first().copied()
    }

    /// Adds the flush of one database.
    pub fn add_database(&mut self, database: u32, now: Instant) {
        let number = self.number(now);
        if self.flush.is_some() {
            self.flush = Some(number); // the one that is under way may come before what it is to be rid of
            return self.stand_for_keys(|_| true);
        }
        self.databases.insert(database, number);
        self.stand_for_keys(|key| key.database == Some(database));
    }

    /// A flush is to be paid in place of keys, and behind what they were to be paid behind.
    fn stand_for_keys(&mut self, which: impl Fn(&OwedKey) -> bool) {
        for unpaid in self.keys.values().filter(|unpaid| which(&unpaid.key)) {
            for way in &unpaid.ways {
                if !self.ways.contains(way) {
                    self.ways.push(*way);
                }
            }
        }
        self.forget_keys(which);
    }

    fn forget_keys(&mut self, mut which: impl FnMut(&OwedKey) -> bool) {
        self.keys.retain(|_, unpaid| !which(&unpaid.key));
        self.numbers.retain(|key, _| !which(key));
        self.bytes = self.numbers.keys().map(|key| key.key.len()).sum();
    }

    /// What has to be paid by whoever is behind all debts up to a number, and no more than so many keys of it.
    #[must_use]
    pub fn due(&self, behind: u64, most: usize) -> Due {
        if self.flush.is_some_and(|flush| flush > behind) {
            return Due { flush: true, up_to: self.last, ..Due::default() };
        }
        let databases = self.databases.iter().filter(|(_, number)| **number > behind);
        let mut due = Due { databases: databases.map(|(database, _)| *database).collect(), ..Due::default() };
        let mut left = self.keys.range(behind.saturating_add(1)..);
        let keys = left.by_ref().take(most).inspect(|(number, _)| due.up_to = **number);
        due.keys = keys.map(|(_, unpaid)| unpaid.key.clone()).collect();
        if left.next().is_none() {
            due.up_to = self.last;
        }
        due.keys.sort_unstable(); // by their databases
        due
    }

    /// All that is owed. A flush that takes effect later counts as one that does at once: when it is due, nobody may be
    /// there to know of it.
    #[must_use]
    pub fn all(&self) -> Due {
        let all = self.due(0, usize::MAX);
        Due { flush: all.flush || !self.later.is_empty(), ..all }
    }

    /// Debts of these numbers have been paid on a connection that was behind all before them, and that was confirmed.
    pub fn confirm(&mut self, paid: RangeInclusive<u64>, way: Way) {
        if paid.is_empty() {
            return; // it was put off
        }
        let up_to = *paid.end();
        let is_flushed = |number: &u64| *number <= up_to;
        if self.flush.as_ref().is_some_and(is_flushed) || self.databases.values().any(is_flushed) {
            self.ways.retain(|other| *other != way);
            if self.ways.is_empty() {
                self.flush = self.flush.filter(|number| !is_flushed(number));
                self.databases.retain(|_, number| !is_flushed(number));
            }
        }
        let behind = self.keys.range_mut(paid);
        let paid = behind.filter_map(|(_, unpaid)| {
            unpaid.ways.retain(|other| *other != way);
            unpaid.ways.is_empty().then(|| unpaid.key.clone())
        });
        for key in paid.collect::<Vec<_>>() {
            self.remove(&key);
        }
    }

    /// A connection has ended, and with it what was on its way there: what was to be paid behind that is to be paid anew.
    pub fn end_way(&mut self, way: Way) {
        if self.ways.contains(&way) {
            self.ways.retain(|other| *other != way);
            self.last += 1;
            self.flush = self.flush.map(|_| self.last);
            self.databases.values_mut().for_each(|number| *number = self.last);
        }
        let concerned = self.keys.iter().filter(|(_, unpaid)| unpaid.ways.contains(&way));
        for number in concerned.map(|(number, _)| *number).collect::<Vec<_>>() {
            if let Some(mut unpaid) = self.keys.remove(&number) {
                unpaid.ways.retain(|other| *other != way);
                self.bytes -= unpaid.key.key.len();
                self.last += 1;
                self.insert(self.last, unpaid);
            }
        }
    }

    /// The server started at `started`, and empty: what it missed before that is of no account.
    pub fn void_before(&mut self, started: Instant) {
        if self.newest.is_some_and(|newest| newest < started) {
            (self.flush, self.databases, self.ways) = (None, BTreeMap::new(), Vec::new());
            self.forget_keys(|_| true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = Way { worker: 0, place: 1 };
    const OTHER: Way = Way { worker: 1, place: 1 };

    fn key(number: usize) -> OwedKey {
        OwedKey { database: None, key: format!("key:{number}").into_bytes().into(), base64: false }
    }

    fn key_in(database: u32, number: usize) -> OwedKey {
        OwedKey { database: Some(database), ..key(number) }
    }

    fn keys(due: &Due) -> usize {
        due.keys.len()
    }

    #[test]
    fn keys_are_owed_once_and_paid_in_batches() {
        let mut debts = Debts::default();
        (0..10).chain(0..10).for_each(|number| debts.add_key(key(number), None, Instant::ZERO));
        let first = debts.due(0, 4);
        let second = debts.due(first.up_to, 100);
        assert_eq!((keys(&first), keys(&second)), (4, 6));
        assert_eq!(keys(&debts.due(second.up_to, 100)), 0);
        debts.confirm(1..=first.up_to, WAY);
        assert_eq!(keys(&debts.due(0, 100)), 6, "who pays too has less to pay");
        debts.confirm(1..=second.up_to, WAY);
        assert!(debts.is_empty());
    }

    #[test]
    fn a_key_that_is_owed_once_more_is_not_paid_by_what_was_sent_before() {
        let mut debts = Debts::default();
        debts.add_key(key(1), None, Instant::ZERO);
        let first = debts.due(0, 9);
        debts.add_key(key(1), None, Instant::ZERO);
        debts.confirm(1..=first.up_to, WAY);
        assert_eq!(debts.due(first.up_to, 9).keys, [key(1)]);
    }

    #[test]
    fn a_key_is_paid_behind_older_writes_of_it() {
        let mut debts = Debts::default();
        debts.add_key(key(1), Some(WAY), Instant::ZERO);
        let up_to = debts.due(0, 9).up_to;
        debts.confirm(1..=up_to, OTHER);
        assert!(!debts.is_empty(), "an older write may come by the other way");
        assert_eq!(debts.due(0, 9).keys, [key(1)]);
        debts.confirm(1..=up_to, WAY);
        assert!(debts.is_empty());
        debts.add_key(key(1), Some(WAY), Instant::ZERO);
        debts.confirm(1..=debts.last(), OTHER);
        let before = debts.last();
        debts.end_way(WAY);
        assert_eq!(debts.due(before, 9).keys, [key(1)], "its last writes may have been carried out since");
        debts.confirm(1..=debts.last(), OTHER);
        assert!(debts.is_empty());
    }

    #[test]
    fn a_flush_in_place_of_keys_is_paid_behind_what_they_were_to_be_paid_behind() {
        for is_of_one in [false, true] {
            let mut debts = Debts::default();
            debts.add_key(key_in(3, 1), Some(WAY), Instant::ZERO);
            if is_of_one {
                debts.add_database(3, Instant::ZERO)
            } else {
                debts.add_flush(Instant::ZERO)
            }
            debts.confirm(1..=debts.last(), OTHER);
            assert!(debts.awaits_flush(), "an older write may come by the other way");
            let before = debts.last();
            debts.end_way(WAY);
            let due = debts.due(before, 9);
            assert!(due.flush != is_of_one && due.databases.is_empty() != is_of_one, "it is paid anew: {due:?}");
            debts.confirm(before + 1..=debts.last(), OTHER);
            assert!(debts.is_empty());
        }
    }

    #[test]
    fn a_payment_confirms_what_was_paid_with_it() {
        let mut debts = Debts::default();
        (0..4).for_each(|number| debts.add_key(key(number), Some(WAY), Instant::ZERO));
        debts.confirm(1..=2, OTHER);
        let put_off = 0;
        debts.confirm(3..=put_off, WAY);
        assert_eq!(keys(&debts.due(0, 9)), 4, "none of it came by the way of the older writes");
        debts.confirm(3..=4, WAY);
        assert_eq!(keys(&debts.due(0, 9)), 2);
    }

    #[test]
    fn too_many_keys_become_a_flush() {
        let mut debts = Debts::default();
        (0..=COUNT_LIMIT).for_each(|number| debts.add_key(key(number), None, Instant::ZERO));
        assert_eq!(debts.due(0, 10), Due { flush: true, up_to: debts.last(), ..Due::default() });
        debts.confirm(1..=debts.last(), WAY);
        assert!(debts.is_empty());
    }

    #[test]
    fn too_many_keys_of_some_databases_become_a_flush_of_these() {
        let mut debts = Debts::default();
        debts.add_key(key_in(3, 1), None, Instant::ZERO);
        (0..COUNT_LIMIT).for_each(|number| debts.add_key(key_in(5, number), None, Instant::ZERO));
        assert_eq!(debts.due(0, 10), Due { databases: vec![3, 5], up_to: debts.last(), ..Due::default() });
    }

    #[test]
    fn a_restart_settles_what_was_owed_before_it_and_nothing_else() {
        let at = Instant::from_nanos;
        let mut debts = Debts::default();
        debts.add_key(key(1), None, at(10));
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
        assert!(debts.due(0, 1).flush);
        debts.confirm(1..=debts.last(), WAY);
        debts.void_before(at(99)); // a server that was started anew has it before it as well
        assert!(debts.add_due_flush(at(100)) && debts.awaits_flush() && debts.due(1, 1).flush);
        debts.confirm(1..=debts.last(), WAY);
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
        let first = debts.due(0, 10);
        assert_eq!(first.databases, [3]);
        debts.add_database(5, Instant::ZERO);
        let second = debts.due(0, 10);
        assert_eq!(second.databases, [3, 5], "who pays the second is behind the first as well");
        assert_eq!(debts.due(first.up_to, 10).databases, [5], "unless it is already");
        debts.confirm(1..=first.up_to, WAY);
        assert!(debts.awaits_flush());
        debts.confirm(1..=second.up_to, WAY);
        assert!(debts.is_empty());
    }

    #[test]
    fn a_database_is_flushed_behind_a_flush_that_is_under_way() {
        let mut debts = Debts::default();
        debts.add_flush(Instant::ZERO);
        let first = debts.due(0, 10);
        assert!(first.flush);
        debts.add_database(3, Instant::ZERO);
        debts.confirm(1..=first.up_to, WAY);
        assert!(debts.awaits_flush());
        assert!(debts.due(first.up_to, 10).flush);
    }
}

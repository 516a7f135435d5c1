//! What the registry knows of keys and databases that servers have to forget.

use std::sync::atomic::Ordering;

use super::debts::{Behind, Bill, Debts, Origin, OwedKey, Share, Way};
use super::{Entry, Registry};
use crate::config::model::{PoolId, ServerId};
use crate::time::Instant;

impl Registry {
    /// A flush could not be delivered: the server must be flushed before anything else.
    pub fn owe_flush(&self, pool: PoolId, server: ServerId, now: Instant) {
        self.add_debt(self.entry(pool, server), |debts| debts.add_flush(now));
    }

    /// As [`Registry::owe_flush`]; it is to be paid behind what is on its way there.
    pub fn owe_flush_behind(&self, pool: PoolId, server: ServerId, origins: &[Origin], now: Instant) {
        self.add_debt(self.entry(pool, server), |debts| debts.add_flush_behind(origins, now));
    }

    /// A flush could not be delivered that takes effect at `due`: it is owed from then on ([`Registry::owe_due_flush`]).
    pub fn owe_flush_later(&self, pool: PoolId, server: ServerId, due: Instant) {
        self.add_debt(self.entry(pool, server), |debts| debts.add_flush_later(due));
    }

    /// What was to be flushed later is owed if it is due. Whether any was, and when the next one is.
    pub fn owe_due_flush(&self, pool: PoolId, server: ServerId, now: Instant) -> (bool, Option<Instant>) {
        let (mut is_due, mut next) = (false, None);
        self.add_debt(self.entry(pool, server), |debts| {
            (is_due, next) = (debts.add_due_flush(now), debts.next_later())
        });
        (is_due, next)
    }

    /// A server must forget what is in one of its databases, also what is on its way there.
    pub fn owe_database(&self, pool: PoolId, server: ServerId, database: u32, origins: &[Origin], now: Instant) {
        self.add_debt(self.entry(pool, server), |debts| debts.add_database_behind(database, origins, now));
    }

    /// A write could not be delivered: the server must forget the key before anything else ([`Debts::add_key`]).
    pub fn owe_key(&self, pool: PoolId, server: ServerId, key: OwedKey, from: Option<Origin>, now: Instant) {
        self.add_debt(self.entry(pool, server), |debts| debts.add_key(key, from, now));
        self.bound_debts(now);
    }

    /// A write goes elsewhere because the server is out of the ring: it must forget the key before it is back. `false`
    /// when it is back already.
    pub fn owe_absent(&self, pool: PoolId, server: ServerId, key: OwedKey, now: Instant) -> bool {
        let entry = self.entry(pool, server);
        let tracker = entry.lock();
        let out = !tracker.is_up();
        if out {
            self.add_debt(entry, |debts| debts.add_key(key, None, now));
            self.bound_debts(now);
        }
        out
    }

    /// A server that is out of the ring must forget everything before it is back. `false` when it is back already.
    pub fn owe_absent_flush(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        let entry = self.entry(pool, server);
        let tracker = entry.lock();
        let out = !tracker.is_up();
        if out {
            self.add_debt(entry, |debts| debts.add_flush(now));
        }
        out
    }

    /// Whether a server is owed anything that it has not confirmed. That it is, and was not, changes the version.
    #[must_use]
    pub fn owes(&self, pool: PoolId, server: ServerId) -> bool {
        self.owed(pool, server) != 0
    }

    /// The number of the newest debt to a server: who has paid all up to it on its connection is behind all that is owed.
    /// 0: nothing is.
    #[must_use]
    pub fn owed(&self, pool: PoolId, server: ServerId) -> u64 {
        self.entry(pool, server).owed.load(Ordering::Acquire)
    }

    /// What is to be paid to a server on a connection in a database, up to `most` keys of it ([`Debts::due`]).
    pub fn due(
        &self,
        pool: PoolId,
        server: ServerId,
        behind: Behind,
        (database, way): (Option<u32>, Way),
        most: usize,
    ) -> Bill {
        self.entry(pool, server).debts().due(behind, database, way, most)
    }

    /// Whether a server is owed something that a connection in a database pays.
    #[must_use]
    pub fn owes_in(&self, pool: PoolId, server: ServerId, database: Option<u32>) -> bool {
        self.owes(pool, server) && self.entry(pool, server).debts().owes_in(database)
    }

    /// The databases of a server of which something is owed and can be paid ([`Debts::payable`]).
    #[must_use]
    pub fn payable(&self, pool: PoolId, server: ServerId) -> Vec<Option<u32>> {
        if self.owes(pool, server) { self.entry(pool, server).debts().payable() } else { Vec::new() }
    }

    /// Whether something is owed of a database of a server, and can be paid.
    #[must_use]
    pub fn is_payable(&self, pool: PoolId, server: ServerId, database: u32) -> bool {
        self.owes(pool, server) && self.entry(pool, server).debts().is_payable(database)
    }

    /// A server does not have a database ([`Debts::void_database`]).
    pub fn void_database(&self, pool: PoolId, server: ServerId, database: u32) {
        self.change_debts(self.entry(pool, server), |debts| debts.void_database(database));
    }

    /// A server refuses to select a database ([`Debts::refuse_database`]).
    pub fn refuse_database(&self, pool: PoolId, server: ServerId, database: u32) {
        self.change_debts(self.entry(pool, server), |debts| debts.refuse_database(database));
    }

    /// A share of what is owed has been paid on a connection that was behind all before it, and the server has confirmed it
    /// ([`Debts::confirm`]).
    pub fn confirm(&self, pool: PoolId, server: ServerId, share: Share, way: Option<Way>) {
        self.change_debts(self.entry(pool, server), |debts| debts.confirm(share, way));
    }

    /// A connection has ended that older writes of owed keys may have been on their way on ([`Debts::add_key`]).
    pub fn end_way(&self, pool: PoolId, server: ServerId, way: Way) {
        if self.owes(pool, server) {
            self.change_debts(self.entry(pool, server), |debts| debts.end_way(way));
        }
    }

    /// Whether a database of a server may still hold what it is to be flushed of.
    #[must_use]
    pub fn awaits_flush(&self, pool: PoolId, server: ServerId, database: Option<u32>) -> bool {
        let entry = self.entry(pool, server);
        entry.awaits_flush.load(Ordering::Acquire) && entry.debts().awaits_flush_in(database)
    }

    pub(super) fn add_debt(&self, entry: &Entry, add: impl FnOnce(&mut Debts)) {
        if self.change_debts(entry, add) {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes what is owed. Whether the server is owed something since, and was not before.
    pub(super) fn change_debts(&self, entry: &Entry, change: impl FnOnce(&mut Debts)) -> bool {
        let mut debts = entry.debts();
        change(&mut debts);
        let owed = if debts.is_empty() { 0 } else { debts.last() };
        entry.awaits_flush.store(debts.awaits_flush(), Ordering::Release);
        let cost = debts.cost();
        let before = entry.cost.swap(cost, Ordering::Relaxed);
        self.owed.fetch_add(cost.wrapping_sub(before), Ordering::Relaxed);
        self.keep(cost, before);
        entry.owed.swap(owed, Ordering::AcqRel) == 0 && owed != 0
    }

    /// Where more is held for keys than may be, the server that has to forget most of them is to be flushed in their place.
    pub(super) fn bound_debts(&self, now: Instant) {
        while self.owed.load(Ordering::Relaxed) > self.most_owed {
            let entries = self.pools.iter().flat_map(|servers| &servers.entries);
            let Some(entry) = entries.max_by_key(|entry| entry.cost.load(Ordering::Relaxed)) else { return };
            if entry.cost.load(Ordering::Relaxed) == 0 {
                return;
            }
            self.change_debts(entry, |debts| debts.replace_keys(now));
        }
    }

    /// The process holds so many bytes for nobody in particular, in place of so many before.
    pub fn keep(&self, bytes: usize, before: usize) {
        self.kept.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// How many bytes the process holds for nobody in particular: each worker counts its part of them.
    #[inline]
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }
}

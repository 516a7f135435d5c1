//! The registry keeps the pending invalidations of every server, for all workers.

use std::sync::atomic::Ordering;

use super::pending::{
    BatchRange, ConnectionName, Invalidated, InvalidationBatch, OlderWrites, PendingInvalidations, StaleKey,
};
use super::{Entry, Registry};
use crate::config::model::{Config, PoolId, ServerId};
use crate::time::Instant;

impl Registry {
    /// A flush could not be delivered: the server must be flushed before anything else.
    pub fn invalidate_all(&self, pool: PoolId, server: ServerId, now: Instant) {
        self.add_flush(self.entry(pool, server), &[], now);
    }

    /// As [`Registry::invalidate_all`], behind what is in flight on these connections.
    pub fn invalidate_all_behind(&self, pool: PoolId, server: ServerId, older: &[OlderWrites], now: Instant) {
        self.add_flush(self.entry(pool, server), older, now);
    }

    pub(super) fn add_flush(&self, entry: &Entry, older: &[OlderWrites], now: Instant) {
        self.add_pending(entry, |pending| pending.add_flush_behind(older, now));
        self.pass_on(entry, &|pending| pending.add_flush(now));
    }

    /// A flush could not be delivered that takes effect at `due`: it is pending from then on
    /// ([`Registry::invalidate_all_due`]).
    pub fn invalidate_all_later(&self, pool: PoolId, server: ServerId, due: Instant) {
        let entry = self.entry(pool, server);
        self.add_pending(entry, |pending| pending.add_flush_later(due));
        self.pass_on(entry, &|pending| pending.add_flush_later(due));
    }

    /// Makes a flush pending that was to take effect later and is due. Whether there was one, and when the next one is due.
    pub fn invalidate_all_due(&self, pool: PoolId, server: ServerId, now: Instant) -> (bool, Option<Instant>) {
        let (mut is_due, mut next) = (false, None);
        self.add_pending(self.entry(pool, server), |pending| {
            (is_due, next) = (pending.add_due_flush(now), pending.next_later())
        });
        (is_due, next)
    }

    /// When the first flush of a server is due that takes effect later.
    #[must_use]
    pub fn next_later(&self, pool: PoolId, server: ServerId) -> Option<Instant> {
        self.entry(pool, server).pending().next_later()
    }

    /// A server must forget what is in one of its databases, also what is in flight on these connections.
    pub fn invalidate_database(
        &self,
        pool: PoolId,
        server: ServerId,
        database: u32,
        older: &[OlderWrites],
        now: Instant,
    ) {
        let entry = self.entry(pool, server);
        self.add_pending(entry, |pending| pending.add_database_behind(database, older, now));
        self.pass_on(entry, &|pending| pending.add_database(database, now));
    }

    /// A write could not be delivered: the server must forget the key before anything else ([`PendingInvalidations::add_key`]).
    pub fn invalidate_key(
        &self,
        pool: PoolId,
        server: ServerId,
        key: StaleKey,
        from: Option<OlderWrites>,
        now: Instant,
    ) {
        self.add_key(self.entry(pool, server), key, from, now);
    }

    fn add_key(&self, entry: &Entry, key: StaleKey, from: Option<OlderWrites>, now: Instant) {
        self.pass_on(entry, &|pending| pending.add_key(key.clone(), None, now));
        self.add_pending(entry, |pending| pending.add_key(key, from, now));
        self.bound_pending(now);
    }

    /// A write goes elsewhere because the server is out of the ring: it must forget the key before it is back. `false`
    /// when it is back already.
    pub fn invalidate_key_if_out(&self, pool: PoolId, server: ServerId, key: StaleKey, now: Instant) -> bool {
        let entry = self.entry(pool, server);
        let tracker = entry.lock();
        let out = !tracker.is_up();
        if out {
            self.add_key(entry, key, None, now);
        }
        out
    }

    /// A server that is out of the ring must forget everything before it is back. `false` when it is back already.
    pub fn invalidate_all_if_out(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        let entry = self.entry(pool, server);
        let tracker = entry.lock();
        let out = !tracker.is_up();
        if out {
            self.add_flush(entry, &[], now);
        }
        out
    }

    /// Whether a server has any pending invalidation. When that becomes so, the version changes. Costs one load.
    #[must_use]
    pub fn has_pending(&self, pool: PoolId, server: ServerId) -> bool {
        self.newest_pending(pool, server) != 0
    }

    /// The number of a server's newest invalidation: a connection that has been sent all up to it is behind all that is
    /// pending. 0: nothing is. Costs one load.
    #[must_use]
    pub fn newest_pending(&self, pool: PoolId, server: ServerId) -> u64 {
        self.entry(pool, server).newest_pending.load(Ordering::Acquire)
    }

    /// What has to be sent to a server next on a connection, up to `most` keys ([`PendingInvalidations::next_batch`]).
    pub fn next_batch(
        &self,
        pool: PoolId,
        server: ServerId,
        invalidated: Invalidated,
        (database, name): (Option<u32>, ConnectionName),
        most: usize,
    ) -> InvalidationBatch {
        self.entry(pool, server).pending().next_batch(invalidated, database, name, most)
    }

    /// Whether a server has so many keys to forget that whoever has more of them for it had better wait, where it is well:
    /// with twice as many it is flushed in their place. That goes by what is held for all servers as well.
    #[must_use]
    pub fn is_busy_forgetting(&self, pool: PoolId, server: ServerId) -> bool {
        if !self.has_pending(pool, server) {
            return false;
        }
        let (held, most) = (&self.shared.pending_bytes, self.shared.most_pending_bytes.load(Ordering::Relaxed));
        let entry = self.entry(pool, server);
        let is_scarce = held.load(Ordering::Relaxed) > most / 2 && entry.cost.load(Ordering::Relaxed) > most / 64;
        is_scarce || entry.pending().is_half_full()
    }

    /// Whether something is pending that a connection in a database sends.
    #[must_use]
    pub fn has_pending_in(&self, pool: PoolId, server: ServerId, database: Option<u32>) -> bool {
        self.has_pending(pool, server) && self.entry(pool, server).pending().has_pending_in(database)
    }

    /// The databases of a server of which something is pending and can be sent ([`PendingInvalidations::sendable`]).
    #[must_use]
    pub fn sendable(&self, pool: PoolId, server: ServerId) -> Vec<Option<u32>> {
        if self.has_pending(pool, server) { self.entry(pool, server).pending().sendable() } else { Vec::new() }
    }

    /// Whether something is pending in a database of a server, and can be sent.
    #[must_use]
    pub fn is_sendable(&self, pool: PoolId, server: ServerId, database: u32) -> bool {
        self.has_pending(pool, server) && self.entry(pool, server).pending().is_sendable(database)
    }

    /// A server does not have a database ([`PendingInvalidations::void_database`]).
    pub fn void_database(&self, pool: PoolId, server: ServerId, database: u32) {
        self.change_pending(self.entry(pool, server), |pending| pending.void_database(database));
    }

    /// A server refuses to select a database ([`PendingInvalidations::refuse_database`]).
    pub fn refuse_database(&self, pool: PoolId, server: ServerId, database: u32) {
        self.change_pending(self.entry(pool, server), |pending| pending.refuse_database(database));
    }

    /// A server has confirmed a batch ([`PendingInvalidations::confirm`]).
    pub fn confirm(&self, pool: PoolId, server: ServerId, range: BatchRange, name: Option<ConnectionName>) {
        self.change_pending(self.entry(pool, server), |pending| pending.confirm(range, name));
    }

    /// A connection has ended that may have had older writes of pending keys in flight ([`PendingInvalidations::add_key`]).
    pub fn connection_ended(&self, pool: PoolId, server: ServerId, name: ConnectionName) {
        if self.has_pending(pool, server) {
            self.change_pending(self.entry(pool, server), |pending| pending.connection_ended(name));
        }
    }

    /// Whether a database of a server may still hold what it is to be flushed of.
    #[must_use]
    pub fn awaits_flush(&self, pool: PoolId, server: ServerId, database: Option<u32>) -> bool {
        let entry = self.entry(pool, server);
        entry.awaits_flush.load(Ordering::Acquire) && entry.pending().awaits_flush_in(database)
    }

    /// Whether a server in the ring has still to be flushed.
    #[must_use]
    pub fn is_being_flushed(&self, config: &Config) -> bool {
        config.pools.iter().any(|pool| {
            let entries = pool.servers.iter().map(|server| self.entry(pool.id, server.id));
            entries.into_iter().any(|entry| entry.awaits_flush.load(Ordering::Acquire) && entry.lock().is_up())
        })
    }

    pub(super) fn add_pending(&self, entry: &Entry, add: impl FnOnce(&mut PendingInvalidations)) {
        if self.change_pending(entry, add) {
            self.shared.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes what is pending for a server. Whether something is since, and nothing was before.
    pub(super) fn change_pending(&self, entry: &Entry, change: impl FnOnce(&mut PendingInvalidations)) -> bool {
        let mut pending = entry.pending();
        change(&mut pending);
        let newest = if pending.is_empty() { 0 } else { pending.last() };
        entry.awaits_flush.store(pending.awaits_flush(), Ordering::Release);
        let cost = pending.cost();
        let before = entry.cost.swap(cost, Ordering::Relaxed);
        self.shared.pending_bytes.fetch_add(cost.wrapping_sub(before), Ordering::Relaxed);
        self.keep(cost, before);
        entry.newest_pending.swap(newest, Ordering::AcqRel) == 0 && newest != 0
    }

    /// Where more is held for keys than may be, the server that has to forget most of them is to be flushed in their place.
    pub(super) fn bound_pending(&self, now: Instant) {
        while self.shared.pending_bytes.load(Ordering::Relaxed) > self.shared.most_pending_bytes.load(Ordering::Relaxed)
        {
            let entries = self.pools.iter().flat_map(|servers| &servers.entries);
            let Some(entry) = entries.max_by_key(|entry| entry.cost.load(Ordering::Relaxed)) else { return };
            if entry.cost.load(Ordering::Relaxed) == 0 {
                return;
            }
            self.change_pending(entry, |pending| pending.replace_keys(now));
        }
    }

    /// The process holds so many bytes for nobody in particular, in place of so many before.
    pub fn keep(&self, bytes: usize, before: usize) {
        self.shared.kept.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// How many bytes the process holds for nobody in particular: each worker counts its part of them.
    #[inline]
    #[must_use]
    pub fn kept(&self) -> usize {
        self.shared.kept.load(Ordering::Relaxed)
    }
}

//! What one server has to forget, and has not confirmed yet: keys that were to be changed, and flushes.
//!
//! A key is enough. Whatever was to be written to it, deleting it leaves nothing that is older than what clients were
//! told elsewhere; a cache forgets.
//!
//! A connection sends the invalidations of the database that it is in, and a flush of everything; those of another database
//! are for connections that were set to that. So nothing that is to forget ever depends on a `SELECT` in front of it.
//!
//! Invalidations are numbered in the order in which they came. On a connection that has been sent all of them up to a
//! number, a later request finds none of what those invalidate. An invalidation is pending until the server has confirmed
//! it, so nobody has to give back what it could not send.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::time::Instant;
pub use batch::{BatchRange, ConnectionName, Invalidated, InvalidationBatch, OlderWrites, StaleKey};
pub use told::{Invalidations, Mark};

/// Most keys that are kept for one server.
pub const COUNT_LIMIT: usize = 100_000;

/// Most bytes of keys that are kept for one server.
pub const BYTES_LIMIT: usize = 8 << 20;

/// Most flushes that are kept for one server because they take effect later.
pub const LATER_LIMIT: usize = 16;

/// What a key takes besides its bytes: its places in two maps, and what is kept with it.
const KEY_COST: usize = 224;

/// A key whose invalidation is pending.
#[derive(Debug)]
struct PendingKey {
    key: StaleKey,
    /// Connections that may have older writes of it in flight: on these it has to be sent behind those writes.
    connections: Vec<ConnectionName>,
}

impl PendingKey {
    fn cost(&self) -> usize {
        let connections = self.connections.capacity() * size_of::<ConnectionName>();
        KEY_COST + self.key.key.len() + connections + if connections > 0 { 16 } else { 0 }
    }
}

/// A flush that is pending.
#[derive(Debug, Default)]
struct Flush {
    number: u64,
    /// Connections that may have something older in flight: on these it has to be sent behind that.
    connections: Vec<ConnectionName>,
}

impl Flush {
    /// A server has confirmed a range on a connection. Whether the flush was in it, and needs no other connection.
    fn confirm(&mut self, range: &BatchRange, name: Option<ConnectionName>) -> bool {
        if self.number > range.up_to || self.number <= range.from {
            return false;
        }
        self.connections.retain(|other| Some(*other) != name);
        self.connections.is_empty()
    }

    /// It has to be sent behind what is in flight on these as well.
    fn put_behind(&mut self, connections: impl IntoIterator<Item = ConnectionName>) {
        self.connections.extend(connections);
        self.connections.sort_unstable();
        self.connections.dedup();
    }
}

/// A connection that may have older writes of pending keys in flight.
#[derive(Debug, Clone, Copy)]
struct Live {
    /// No key with a lower number has to be sent behind its writes.
    lowest: u64,
    /// Some of the keys are in another database than the connection, which therefore cannot send them.
    is_foreign: bool,
}

/// The pending invalidations of one server.
#[derive(Debug, Default)]
pub struct PendingInvalidations {
    /// By their databases and numbers.
    keys: BTreeMap<(Option<u32>, u64), PendingKey>,
    numbers: BTreeMap<StaleKey, u64>,
    /// Bytes of the keys, and all that is held for them.
    bytes: usize,
    cost: usize,
    /// The flush of everything.
    flush: Option<Flush>,
    /// Redis: flushes of databases.
    databases: BTreeMap<u32, Flush>,
    /// The connections that keys have to be sent behind and that have not ended. One that is not here has.
    live: BTreeMap<ConnectionName, Live>,
    /// The number at which invalidations had to be sent once more the last time, and that of the first of these.
    round: u64,
    again: u64,
    /// Databases that the server refuses to select: nobody reads them, and nobody is to be reminded.
    refused: BTreeSet<u32>,
    /// When flushes take effect that are pending from then on.
    later: BTreeSet<Instant>,
    /// There were keys that nobody sends any more.
    is_abandoned: bool,
    /// The number of the newest invalidation.
    last: u64,
    /// When it was added.
    newest: Option<Instant>,
}

impl PendingInvalidations {
    /// Nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.flush.is_none() && self.databases.is_empty()
    }

    /// Nothing is pending, and nothing will be later.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.is_empty() && self.later.is_empty() && !self.is_abandoned
    }

    /// The number of the newest invalidation: a connection that has been sent all up to it is behind all of them.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Bytes that are held for keys, about.
    #[must_use]
    pub const fn cost(&self) -> usize {
        self.cost
    }

    /// Whether half as many keys are pending as may be.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        2 * self.keys.len() > COUNT_LIMIT || 2 * self.bytes > BYTES_LIMIT
    }

    /// Whether the server may still hold what it is to be flushed of.
    #[must_use]
    pub fn awaits_flush(&self) -> bool {
        self.flush.is_some() || !self.databases.is_empty()
    }

    /// Whether a database may still hold what it is to be flushed of.
    #[must_use]
    pub fn awaits_flush_in(&self, database: Option<u32>) -> bool {
        self.flush.is_some() || database.is_some_and(|database| self.databases.contains_key(&database))
    }

    /// Whether something is pending that a connection in a database sends.
    #[must_use]
    pub fn has_pending_in(&self, database: Option<u32>) -> bool {
        self.awaits_flush_in(database) || self.keys.range((database, 0)..=(database, u64::MAX)).next().is_some()
    }

    /// The databases of which something is pending and that the server is not known to refuse; `None` is for keys without
    /// one (memcached).
    #[must_use]
    pub fn sendable(&self) -> Vec<Option<u32>> {
        let mut databases: BTreeSet<_> = self.databases.keys().map(|database| Some(*database)).collect();
        databases.extend(self.databases_of_keys());
        databases.retain(|database| database.is_none_or(|database| !self.refused.contains(&database)));
        databases.into_iter().collect()
    }

    /// Whether a database is among these.
    #[must_use]
    pub fn is_sendable(&self, database: u32) -> bool {
        let has_keys = || self.keys.range((Some(database), 0)..=(Some(database), u64::MAX)).next().is_some();
        !self.refused.contains(&database) && (self.databases.contains_key(&database) || has_keys())
    }

    fn databases_of_keys(&self) -> Vec<Option<u32>> {
        let (mut databases, mut at) = (Vec::new(), (None, 0));
        while let Some(((database, _), _)) = self.keys.range(at..).next() {
            databases.push(*database);
            at = (*database, u64::MAX);
        }
        databases
    }

    fn number(&mut self, now: Instant) -> u64 {
        self.newest = Some(now);
        self.last += 1;
        self.last
    }

    /// Adds a key. If it comes from a connection (`from`), it has to be sent behind what is in flight there, or after that
    /// connection has ended: older writes of it may be in flight. Beyond the limits all keys become a flush: of their
    /// databases, where they have any.
    pub fn add_key(&mut self, key: StaleKey, from: Option<OlderWrites>, now: Instant) {
        let number = self.number(now);
        let mut connections = match self.remove(&key) {
            Some(pending) => pending.connections,
            None => Vec::new(),
        };
        if let Some(OlderWrites { name, is_foreign }) = from {
            if !connections.contains(&name) {
                connections.push(name);
            }
            let live = self.live.entry(name).or_insert(Live { lowest: number, is_foreign: false });
            live.is_foreign |= is_foreign;
        }
        let pending = PendingKey { key, connections };
        self.bytes += pending.key.key.len();
        self.cost += pending.cost();
        self.numbers.insert(pending.key.clone(), number);
        self.keys.insert((pending.key.database, number), pending);
        if self.keys.len() > COUNT_LIMIT || self.bytes > BYTES_LIMIT {
            self.replace_keys(now);
        }
    }

    /// Puts flushes in the place of keys: of their databases, where they have any.
    pub fn replace_keys(&mut self, now: Instant) {
        for database in self.databases_of_keys() {
            match database {
                Some(database) => self.add_database(database, now),
                None => self.add_flush(now),
            }
        }
    }

    /// Gives up the keys: nobody asks the server for its pool any more. That there were some is remembered.
    pub fn abandon_keys(&mut self) {
        self.is_abandoned |= !self.keys.is_empty();
        self.forget_keys();
        self.tidy();
    }

    fn remove(&mut self, key: &StaleKey) -> Option<PendingKey> {
        let number = self.numbers.remove(key)?;
        let pending = self.keys.remove(&(key.database, number))?;
        self.bytes -= key.key.len();
        self.cost -= pending.cost();
        Some(pending)
    }

    /// Adds a flush in the place of every key and every flush of a database. It has to be sent behind the same writes.
    pub fn add_flush(&mut self, now: Instant) {
        let number = self.number(now);
        let mut connections = self.flush.take().map(|flush| flush.connections).unwrap_or_default();
        connections.extend(std::mem::take(&mut self.databases).into_values().flat_map(|flush| flush.connections));
        connections.extend(self.connections_of(|_| true));
        self.forget_keys();
        let mut flush = Flush { number, connections: Vec::new() };
        flush.put_behind(connections);
        self.flush = Some(flush);
    }

    /// Adds a flush that has to be sent behind what is in flight on these connections as well.
    pub fn add_flush_behind(&mut self, older: &[OlderWrites], now: Instant) {
        self.add_flush(now);
        if let Some(flush) = &mut self.flush {
            flush.put_behind(older.iter().map(|older| older.name));
        }
    }

    /// The same of one database.
    pub fn add_database_behind(&mut self, database: u32, older: &[OlderWrites], now: Instant) {
        if self.flush.is_some() {
            return self.add_flush_behind(older, now);
        }
        self.add_database(database, now);
        for OlderWrites { name, .. } in older.iter().filter(|older| older.is_foreign) {
            self.live.entry(*name).or_insert(Live { lowest: self.last, is_foreign: true }).is_foreign = true;
        }
        if let Some(flush) = self.databases.get_mut(&database) {
            flush.put_behind(older.iter().map(|older| older.name));
        }
    }

    /// Adds a flush that takes effect at `due` and is not pending before. Of more than [`LATER_LIMIT`], the last ones are
    /// kept: memcached itself keeps the one that it was told last.
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

    /// Gives up the flushes that take effect later. When they do.
    pub fn take_later(&mut self) -> BTreeSet<Instant> {
        std::mem::take(&mut self.later)
    }

    /// When the first flush that is to take effect later does.
    #[must_use]
    pub fn next_later(&self) -> Option<Instant> {
        self.later.first().copied()
    }

    /// Adds the flush of one database in the place of its keys. It has to be sent behind the same writes.
    pub fn add_database(&mut self, database: u32, now: Instant) {
        if self.flush.is_some() {
            return self.add_flush(now); // the one that was sent may come before what this one has to remove
        }
        let number = self.number(now);
        let connections = self.connections_of(|of| of == Some(database));
        self.forget_keys_of(Some(database));
        let flush = self.databases.entry(database).or_default();
        flush.number = number;
        flush.put_behind(connections);
    }

    /// The connections that keys of such databases have to be sent behind: a flush in their place waits for no others.
    fn connections_of(&self, is_meant: impl Fn(Option<u32>) -> bool) -> BTreeSet<ConnectionName> {
        let meant = self.keys.iter().filter(|((database, _), _)| is_meant(*database));
        let connections = meant.flat_map(|(_, pending)| &pending.connections);
        connections.copied().filter(|name| self.live.contains_key(name)).collect()
    }

    fn forget_keys(&mut self) {
        (self.keys, self.numbers, self.bytes, self.cost) = (BTreeMap::new(), BTreeMap::new(), 0, 0);
    }

    /// Forgets the keys of a database.
    fn forget_keys_of(&mut self, database: Option<u32>) {
        let is_of = |at: Option<(&(Option<u32>, u64), _)>| at.is_some_and(|(at, _)| at.0 == database);
        if is_of(self.keys.first_key_value()) && is_of(self.keys.last_key_value()) {
            return self.forget_keys();
        }
        for (_, pending) in self.keys.extract_if((database, 0)..=(database, u64::MAX), |_, _| true) {
            self.bytes -= pending.key.key.len();
            self.cost -= pending.cost();
        }
        let first = |database| StaleKey { database, key: [].into(), base64: false };
        let end = match database.map_or(Some(0), |database| database.checked_add(1)) {
            Some(next) => Bound::Excluded(first(Some(next))),
            None => Bound::Unbounded,
        };
        self.numbers.extract_if((Bound::Included(first(database)), end), |_, _| true).for_each(drop);
    }

    /// The server does not have a database: there is nothing in it to be forgotten.
    pub fn void_database(&mut self, database: u32) {
        self.databases.remove(&database);
        self.forget_keys_of(Some(database));
        self.tidy();
    }

    /// The server refuses to select a database. What is pending there stays so until it can be selected: nobody reads what
    /// is in it before.
    pub fn refuse_database(&mut self, database: u32) {
        if self.databases.contains_key(&database) || self.has_pending_in(Some(database)) {
            self.refused.insert(database);
        }
    }

    /// What has to be sent next on the connection `name`, which is in `database` and has been sent everything up to
    /// `invalidated`: at most `most` keys.
    #[must_use]
    pub fn next_batch(
        &self,
        invalidated: Invalidated,
        database: Option<u32>,
        name: ConnectionName,
        most: usize,
    ) -> InvalidationBatch {
        let is_to_repeat = invalidated.round < self.round;
        let from = if is_to_repeat { invalidated.number.min(self.again.saturating_sub(1)) } else { invalidated.number };
        let range = BatchRange { from, up_to: self.last, database, round: self.round };
        let fence = self.live.get(&name).is_some_and(|live| live.is_foreign);
        if let Some(flush) = self.flush.as_ref().filter(|flush| flush.number > from) {
            let is_behind_own = flush.connections.contains(&name);
            return InvalidationBatch { flush: true, range, fence, is_behind_own, ..InvalidationBatch::default() };
        }
        let of_database = database.and_then(|database| self.databases.get(&database));
        let of_database = of_database.filter(|flush| flush.number > from);
        let is_behind_own = of_database.is_some_and(|flush| flush.connections.contains(&name));
        let mut batch = InvalidationBatch {
            database: of_database.is_some(),
            range,
            fence,
            is_behind_own,
            ..InvalidationBatch::default()
        };
        let mut left = self.keys.range((database, from.saturating_add(1))..=(database, u64::MAX));
        for ((_, number), pending) in left.by_ref().take(most) {
            batch.range.up_to = *number;
            batch.is_behind_own |= pending.connections.contains(&name);
            batch.keys.push(pending.key.clone());
        }
        if left.next().is_none() {
            batch.range.up_to = self.last;
        }
        batch
    }

    /// The server has confirmed a batch. `name` is the connection that sent it behind all that had been asked there; `None`
    /// if it was sent in front of that, so that it counts only for what needs to be behind nothing there.
    pub fn confirm(&mut self, range: BatchRange, name: Option<ConnectionName>) {
        let BatchRange { from, up_to, database, round } = range;
        if up_to == 0 {
            return; // it was put off
        }
        if self.flush.as_mut().is_some_and(|flush| flush.confirm(&range, name)) {
            self.flush = None;
        }
        if let Some(number) = database {
            self.refused.remove(&number);
            if self.databases.get_mut(&number).is_some_and(|flush| flush.confirm(&range, name)) {
                self.databases.remove(&number);
            }
        }
        if from < up_to {
            // Something that was in flight on a connection that ended after it was sent may have been carried out behind it.
            let is_latest = round == self.round;
            let live = &self.live;
            let confirmed = self.keys.range_mut((database, from + 1)..=(database, up_to)).filter_map(|(_, pending)| {
                pending.connections.retain(|other| Some(*other) != name && (!is_latest || live.contains_key(other)));
                pending.connections.is_empty().then(|| pending.key.clone())
            });
            for key in confirmed.collect::<Vec<_>>() {
                self.remove(&key);
            }
        }
        self.tidy();
    }

    /// Where nothing is pending any more, no connection has to be waited for.
    fn tidy(&mut self) {
        if self.keys.is_empty() && !self.awaits_flush() {
            self.live.clear();
            self.refused.clear();
        }
    }

    /// A connection has ended, and with it what was in flight there: what had to be sent behind that is sent once more.
    pub fn connection_ended(&mut self, name: ConnectionName) {
        let ended = self.live.remove(&name);
        let flushes = self.flush.iter_mut().chain(self.databases.values_mut());
        let flushes: Vec<_> = flushes.filter(|flush| flush.connections.contains(&name)).collect();
        if ended.is_none() && flushes.is_empty() {
            return;
        }
        self.last += 1;
        for flush in flushes {
            flush.connections.retain(|other| *other != name);
            flush.number = self.last;
        }
        let lowest = ended.map_or(self.last, |live| live.lowest);
        self.again = if self.keys.is_empty() || self.round == 0 { lowest } else { self.again.min(lowest) };
        self.round = self.last;
    }

    /// The server started at `started`, and empty: what it missed before that is of no account.
    pub fn void_before(&mut self, started: Instant) {
        if self.newest.is_some_and(|newest| newest < started) {
            (self.flush, self.databases) = (None, BTreeMap::new());
            self.forget_keys();
            self.tidy();
        }
    }
}

mod batch;
#[cfg(test)]
mod tests;
mod told;

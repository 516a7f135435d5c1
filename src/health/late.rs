//! Servers that come after the process has started, to somebody who knew them before.
//!
//! What the process before this one has left for a server is kept until it is found, or listed again. And while nobody knows
//! which servers a pool has, nobody is told what clients delete: whoever is found first is told, since it may be theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Registry;
use super::pending::{Invalidations, StaleKey};
use super::saved::{Kept, Saved};
use crate::config::discovery::{NOBODY, has_nobody};
use crate::config::model::{Address, Config, Pool, PoolId, Rejoin, ServerId};
use crate::config::roster::{Place, Roster};
use crate::time::Instant;

/// What is left for a server that has not been there for so long, in all processes together, is not left to the next one: servers
/// that come and go would be remembered for ever.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the bytes of a key take besides themselves.
const KEY_COST: usize = 32;

/// Bytes that may be held for servers that have not been found. Beyond that, who is found later is flushed.
const BYTES_LIMIT: usize = 8 << 20;

/// What is left for servers that have not been found yet.
#[derive(Debug, Default)]
pub(super) struct Late {
    unclaimed: Mutex<Unclaimed>,
    /// The process before this one has not left all that it knew.
    is_doubtful: AtomicBool,
}

/// The pool of a server that is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    /// One of this process, which may have another name by the time that the server comes.
    Pool(PoolId),
    /// One of this name, which this process has not had.
    Gone(String),
}

/// By the pool and the server's name.
#[derive(Debug, Default)]
struct Unclaimed {
    servers: BTreeMap<(Of, String), Left>,
    /// Bytes that they take, about.
    bytes: usize,
}

/// What is left for one of them.
#[derive(Debug)]
struct Left {
    one: Saved,
    /// From when on it is kept here.
    since: Instant,
}

impl Registry {
    /// Nobody knows what servers missed before this process was started: those with `rejoin: safe` that cannot be reached at
    /// first have to be flushed, also if they come later.
    pub fn doubt_all(&self, config: &Config) {
        self.shared.late.is_doubtful.store(true, Ordering::Relaxed);
        for pool in config.pools.iter().filter(|pool| pool.rejoin == Rejoin::Safe && !has_nobody(pool)) {
            pool.servers.iter().for_each(|server| self.doubt(pool.id, server.id));
        }
    }

    /// Keeps what is left for a server of a pool until the server is found, together with what was before.
    pub(super) fn keep_unclaimed(&self, pool: Of, one: Saved, now: Instant) {
        let mut unclaimed = self.lock_late();
        let (before, mut next) = match unclaimed.servers.remove(&(pool.clone(), one.server.clone())) {
            Some(Left { one: known, .. }) => (cost(&known), together(known, one)),
            None => (0, one),
        };
        unclaimed.bytes -= before;
        if unclaimed.bytes + cost(&next) > BYTES_LIMIT {
            next.missed = Invalidations::of_all();
        }
        unclaimed.bytes += cost(&next);
        self.keep(cost(&next), before);
        unclaimed.servers.insert((pool, next.server.clone()), Left { one: next, since: now });
    }

    /// What is left for servers that have not been found yet: it is left to the next process as well, if not for ever.
    pub(super) fn unclaimed(&self, config: &Config, kept: Kept, now: Instant) -> Vec<Saved> {
        let pools: BTreeMap<PoolId, &Pool> = config.pools.iter().map(|pool| (pool.id, pool)).collect();
        let left = |((of, server), Left { one, since }): (&(Of, String), &Left)| {
            let unclaimed = one.unclaimed.saturating_add(seconds(now.since(*since)));
            // Marks are written when they have changed, and not for the time that passes.
            let told = if kept == Kept::Whole { unclaimed } else { one.unclaimed };
            let (pool, rejoin) = match of {
                Of::Pool(id) => pools.get(id).map(|pool| (pool.name.clone(), pool.rejoin))?,
                Of::Gone(name) => (name.clone(), Rejoin::Safe),
            };
            let missed = match kept {
                Kept::Whole => one.missed.clone(),
                Kept::Marks if rejoin == Rejoin::Keep => Invalidations { keys: Vec::new(), ..one.missed.clone() },
                Kept::Marks => Invalidations::of_all(),
            };
            let is_left = is_remembered(unclaimed) && !(rejoin == Rejoin::Keep && missed.is_nothing());
            is_left.then_some(Saved { pool, server: server.clone(), unclaimed: told, missed, ..*one })
        };
        self.lock_late().servers.iter().filter_map(left).collect()
    }

    fn lock_late(&self) -> MutexGuard<'_, Unclaimed> {
        self.shared.late.unclaimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells servers that have been found what is left for them. `before` is the registry without them.
    pub(super) fn welcome(&self, before: &Self, rosters: &[Roster], now: Instant) {
        let served = || rosters.iter().enumerate().filter(|(_, roster)| roster.is_served);
        for (index, roster) in served().filter(|(index, _)| *index < before.pools.len()) {
            let old = &before.pools[index];
            let is_new = |id: &ServerId| id.index() >= old.entries.len() && roster.places[id.index()].first == *id;
            let new = roster.pool.servers.iter().map(|server| server.id).filter(is_new);
            let was_here = old.members.iter().zip(&roster.places);
            let nobody =
                (0..).map(ServerId).zip(was_here).find(|(_, (was_here, place))| **was_here && is_nobody(place));
            if let Some((nobody, (_, place))) = nobody
                && !place.is_member
            {
                self.hand_on(&roster.pool, nobody, now);
            }
            let is_doubtful = self.shared.late.is_doubtful.load(Ordering::Relaxed);
            if is_doubtful && roster.pool.rejoin == Rejoin::Safe {
                new.for_each(|id| self.doubt(roster.pool.id, id));
            }
        }
        self.claim(rosters, now);
    }

    /// Tells all servers of a pool what was missed while it was not known which they are, by who stood for them. Whoever goes
    /// over from a topology with `nobody` calls it: until then it may have put something there. Flushes that take effect later
    /// still do so when they are due, if somebody looks ([`Registry::next_later`]).
    #[cold]
    pub fn hand_on(&self, rules: &Pool, nobody: ServerId, now: Instant) {
        let (mut missed, mut later) = (Invalidations::default(), BTreeSet::new());
        self.change_pending(self.entry(rules.id, nobody), |pending| {
            later = pending.take_later();
            missed = pending.all();
            pending.void_before(now + Duration::from_nanos(1)); // others have it
        });
        if !missed.is_nothing() {
            self.add_missed_to_all(rules, &missed, now);
        }
        for server in &rules.servers {
            later.iter().for_each(|due| self.invalidate_all_later(rules.id, server.id, *due));
        }
    }

    /// Tells those that are there what was kept for them until they are.
    fn claim(&self, rosters: &[Roster], now: Instant) {
        let mut unclaimed = self.lock_late();
        if unclaimed.servers.is_empty() {
            return;
        }
        let served = || rosters.iter().filter(|roster| roster.is_served).map(|roster| &roster.pool);
        let pools: BTreeMap<&str, PoolId> = served().map(|pool| (&*pool.name, pool.id)).collect();
        let mut servers = BTreeMap::new();
        for pool in served() {
            servers.extend(pool.servers.iter().map(|server| ((pool.id, &*server.name), server.id)));
        }
        for ((before, name), Left { mut one, since }) in std::mem::take(&mut unclaimed.servers) {
            let held = cost(&one);
            let of = match before {
                // One that is back under its name is another pool, of the same servers.
                Of::Pool(id) if !rosters[id.index()].is_served => Of::Gone(rosters[id.index()].pool.name.clone()),
                of @ (Of::Pool(_) | Of::Gone(_)) => of,
            };
            let pool = match &of {
                Of::Pool(id) => Some(*id),
                Of::Gone(name) => pools.get(&**name).copied(),
            };
            let rules = pool.map(|id| &rosters[id.index()].pool);
            if rules.is_some_and(|rules| rules.rejoin != Rejoin::Keep) && matches!(of, Of::Gone(_)) {
                // As of all servers of a pool that was gone, it is known that there was something.
                one.missed = Invalidations::of_all();
            }
            if let Some(rules) = rules
                && let Some(server) = servers.get(&(rules.id, &*name))
            {
                self.recall_one(rules, *server, one, now);
            } else if let Some(rules) = rules.filter(|_| name == NOBODY) {
                self.add_missed_to_all(rules, &one.missed, now);
            } else {
                let next = cost(&one);
                let replaced = unclaimed.servers.insert((pool.map_or(of, Of::Pool), name), Left { one, since });
                let before = held + replaced.map_or(0, |left| cost(&left.one));
                unclaimed.bytes = unclaimed.bytes - before + next;
                self.keep(next, before);
                continue;
            }
            unclaimed.bytes -= held;
            self.keep(0, held);
        }
    }
}

/// What was kept for a server, and what has come to that.
fn together(before: Saved, next: Saved) -> Saved {
    let (mut missed, more) = (before.missed, next.missed);
    if missed.flush || more.flush {
        missed = Invalidations::of_all();
    } else {
        missed.databases.extend(more.databases);
        missed.databases.sort_unstable();
        missed.databases.dedup();
        missed.keys.extend(more.keys);
        missed.keys.sort_unstable();
        missed.keys.dedup();
    }
    let process = if next.process == 0 { before.process } else { next.process };
    Saved { out: before.out || next.out, process, missed, ..next }
}

/// Bytes that are held for what is left for a server, about.
fn cost(one: &Saved) -> usize {
    let Invalidations { databases, keys, .. } = &one.missed;
    let keys: usize = keys.iter().map(|key| size_of::<StaleKey>() + KEY_COST + key.key.len()).sum();
    size_of::<Left>() + one.pool.len() + 2 * one.server.len() + size_of_val(&databases[..]) + keys
}

/// Seconds, as they are kept.
pub(super) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// Whether what is left for a server is still left to the next process, which has not been there for so many seconds.
pub(super) fn is_remembered(unclaimed: u32) -> bool {
    u64::from(unclaimed) < LONGEST.as_secs()
}

/// Whether this is not a server, but what stands for servers that nobody knows.
pub(super) fn is_nobody(place: &Place) -> bool {
    matches!(place.server.address, Address::Sought(_))
}

#[cfg(test)]
mod tests;

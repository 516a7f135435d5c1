//! Whether a server may be used: one opinion for the whole process, shared by all workers.
//!
//! [`tracker::Tracker`] is the life of one server as a plain state machine; [`Registry`] holds one for each server and
//! hands out what the workers need without a lock: a version that tells them to look again, and whether a success has
//! anything to reset. Failures are rare, so they take a lock; successes do not.

pub mod backoff;
pub mod bucket;
mod connections;
mod heirs;
mod invalidations;
mod late;
mod left;
pub mod maintenance;
mod pauses;
pub mod pending;
pub mod rules;
pub mod saved;
pub mod tracker;
mod verdict;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::model::{Config, Pool, PoolId, Protocol, Rejoin, ServerId, Settings};
use crate::config::roster::Roster;
use crate::failure::Failure;
use crate::time::Instant;
use bucket::Bucket;
use pending::PendingInvalidations;
use rules::Rules;
use tracker::{Failing, Passed, State, Tracker};
pub use verdict::Verdict;

/// The health of every server of every pool, as a topology has them: by their ids. What is known of a server is shared with
/// the registries of the topologies before and after ([`Registry::follow`]).
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    pools: Vec<Servers>,
}

/// What all registries of the process have in common.
#[derive(Debug)]
struct Shared {
    version: AtomicU64,
    /// Sets the jitter of the probes.
    seed: u64,
    workers: usize,
    /// Bytes that are held for keys that servers have to forget, and how many may be.
    pending_bytes: AtomicUsize,
    most_pending_bytes: AtomicUsize,
    /// Bytes that the process holds for nobody in particular: those, and what else was told to [`Registry::keep`].
    kept: AtomicUsize,
    /// What is left for servers that have not been found yet.
    late: late::Late,
}

/// How much of `memory_limit` may be held for keys that servers have to forget: this part of it.
const PENDING_PART: usize = 4;

/// The servers of a pool.
#[derive(Debug)]
struct Servers {
    /// The name of the pool.
    name: String,
    /// By their ids; those of one name are the same.
    entries: Vec<Arc<Entry>>,
    /// The names of these.
    names: Vec<String>,
    /// Which of them the pool has.
    members: Vec<bool>,
    /// How many of those are out of the ring, and how many may be. The lock orders ejections.
    ejected: Arc<Mutex<usize>>,
    most_ejected: usize,
    is_served: bool,
    rejoin: Rejoin,
    /// Redis: the database whose invalidations the probe sends before a server is back in the ring. Those of others are sent before they are used.
    database: Option<u32>,
}

/// Among the failures of an [`Entry`]: the server has not answered since the process was started.
const UNMET: u32 = 1 << 31;

#[derive(Debug)]
struct Entry {
    /// Its pool has a server of this name. Changes under the lock that orders ejections.
    is_member: AtomicBool,
    /// When it has left, or its pool has been served last, in nanoseconds.
    left_at: AtomicU64,
    /// Copy of the tracker's count, so that a success needs no lock when there is nothing to reset, and [`UNMET`].
    failures: AtomicU32,
    /// The number of the newest of `pending`, so that looking costs nothing; 0: there are none.
    newest_pending: AtomicU64,
    /// Whether among them is a flush.
    awaits_flush: AtomicBool,
    pending: Mutex<PendingInvalidations>,
    /// What these kind, so that the largest can be found.
    cost: AtomicUsize,
    /// The process that answered last; 0: nobody asked.
    process: AtomicU64,
    /// Whether that was another process than before it left the ring.
    restarted: AtomicBool,
    /// For how many seconds it had been up then, and when that was, in nanoseconds.
    uptime: AtomicU64,
    met: AtomicU64,
    tracker: Mutex<Tracker>,
    connects: Mutex<Bucket>,
    /// The same server in the pool that has come in the place of its own.
    heirs: Mutex<Vec<Arc<Self>>>,
    /// Connections to it that were given up, and that it has not come to the end of.
    lingering: AtomicUsize,
    /// That is not waited for any longer.
    ends_lingering: AtomicBool,
    /// Since when, the last time, in nanoseconds; 0: it always was.
    lingering_ended: AtomicU64,
    /// For how long it has stood still of late and then gone on, in nanoseconds, and until when that is remembered.
    pause: AtomicU64,
    pause_until: AtomicU64,
}

/// How often a server of a pool is connected to: per second, and at most at once. All connections to a server may be
/// opened at once, and as many as it takes to find out that it is dead.
fn connects(pool: &Pool, workers: usize) -> (u32, u32) {
    let connections = u32::try_from(pool.server_connections * workers).unwrap_or(u32::MAX);
    let limit = pool.server_reconnect_limit;
    (limit, limit.max(connections).max(pool.server_failure_limit.min(100)))
}

impl Entry {
    fn new(shared: &Shared, pool: usize, server: usize, roster: &Roster) -> Self {
        let rules = Rules::of(&roster.pool);
        let (per_second, burst) = connects(&roster.pool, shared.workers);
        Self {
            is_member: AtomicBool::new(false),
            left_at: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            newest_pending: AtomicU64::new(0),
            awaits_flush: AtomicBool::new(false),
            pending: Mutex::default(),
            cost: AtomicUsize::new(0),
            process: AtomicU64::new(0),
            restarted: AtomicBool::new(false),
            uptime: AtomicU64::new(0),
            met: AtomicU64::new(0),
            tracker: Mutex::new(Tracker::new(rules, shared.seed ^ ((pool as u64) << 32) ^ server as u64)),
            connects: Mutex::new(Bucket::new(per_second, burst)),
            heirs: Mutex::default(),
            lingering: AtomicUsize::new(0),
            ends_lingering: AtomicBool::new(false),
            lingering_ended: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            pause_until: AtomicU64::new(0),
        }
    }

    /// The tracker; a panic elsewhere leaves it in a valid state, since every change is a single assignment.
    fn lock(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    #[inline(never)]
    fn succeeded(&self, worker: usize, now: Instant) -> Option<Duration> {
        // The copy is written under the lock, or it could overwrite that of a failure that comes between.
        let mut tracker = self.lock();
        let (failures, failed_for) = tracker.succeeded(worker, now);
        self.failures.store(failures, Ordering::Relaxed);
        failed_for
    }

    /// Lives by other settings from here on.
    fn live_by(&self, pool: &Pool, workers: usize, now: Instant) {
        self.lock().live_by(Rules::of(pool), now);
        let (per_second, burst) = connects(pool, workers);
        self.connects.lock().unwrap_or_else(PoisonError::into_inner).set(per_second, burst);
    }

    fn pending(&self) -> MutexGuard<'_, PendingInvalidations> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Facts of a server that change the version of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Those of its old connections whose end has not been seen are to be ended.
    pub ends_lingering: bool,
    /// It may still hold what it is to forget.
    pub has_pending: bool,
}

impl Registry {
    /// A registry in which every server is up. `seed` sets the jitter of the probes.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Self {
        let shared = Shared {
            version: AtomicU64::new(0),
            seed,
            workers: config.settings.workers,
            pending_bytes: AtomicUsize::new(0),
            most_pending_bytes: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            late: late::Late::default(),
        };
        let rosters = Roster::follow(&[], config).unwrap_or_default();
        Self { shared: Arc::new(shared), pools: Vec::new() }.follow(&rosters, &config.settings, Instant::ZERO)
    }

    /// The registry of the topology that follows this one's. What is known of a server goes with its name; one that comes
    /// is up. What a server that left was to forget is not known from here on, so if its name comes back it is flushed
    /// first, where its pool asks for that. Those that follow live by the pool's new settings at once.
    #[must_use]
    pub fn follow(&self, rosters: &[Roster], settings: &Settings, now: Instant) -> Self {
        self.shared.most_pending_bytes.store(settings.memory_limit / PENDING_PART, Ordering::Relaxed);
        let pools = rosters.iter().enumerate().map(|(index, roster)| self.servers(index, roster, now));
        let next = Self { shared: Arc::clone(&self.shared), pools: pools.collect() };
        next.inherit(self, rosters, now);
        next.welcome(self, rosters, now);
        next
    }

    fn servers(&self, pool: usize, roster: &Roster, now: Instant) -> Servers {
        let old = self.pools.get(pool);
        let mut entries: Vec<Arc<Entry>> = Vec::with_capacity(roster.places.len());
        let mut has_name = vec![false; roster.places.len()];
        let mut is_moved = has_name.clone();
        for (index, place) in roster.places.iter().enumerate() {
            let known = old.and_then(|old| old.entries.get(index)).or_else(|| entries.get(place.first.index()));
            let entry = known.map_or_else(|| Arc::new(Entry::new(&self.shared, pool, index, roster)), Arc::clone);
            entries.push(entry);
            has_name[place.first.index()] |= place.is_member;
            let was_here = old.is_some_and(|old| old.members.get(index) == Some(&true));
            is_moved[place.first.index()] |= place.is_member && !was_here;
        }
        let ejected = old.map(|old| Arc::clone(&old.ejected)).unwrap_or_default();
        let mut count = ejected.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (entry, is_member)) in entries.iter().zip(has_name).enumerate() {
            if roster.places[index].first.index() != index {
                continue; // seen by its first id
            }
            entry.live_by(&roster.pool, self.shared.workers, now);
            let is_unknown = matches!(
                (old.map(|old| old.rejoin), roster.pool.rejoin),
                (Some(Rejoin::Keep), Rejoin::Safe | Rejoin::Flush) | (Some(Rejoin::Safe), Rejoin::Flush)
            );
            if is_unknown && !entry.lock().is_up() {
                // What it missed so far nobody has noted, or nobody notes any more.
                self.add_pending(entry, |pending| pending.add_flush(now));
            }
            let has_left = !roster.is_served && old.is_some_and(|old| !old.is_served);
            if has_left && roster.pool.rejoin != Rejoin::Keep {
                // Its clients have left, or are about to. If it comes back, its servers are flushed; where they must not
                // be, these are few: what was answered in the place of a server in the ring.
                self.change_pending(entry, PendingInvalidations::abandon_keys);
            }
            let was_member = entry.is_member.swap(is_member, Ordering::Relaxed);
            if (was_member && !is_member) || (!roster.is_served && old.is_some_and(|old| old.is_served)) {
                entry.left_at.store(now.as_nanos(), Ordering::Relaxed);
            }
            if was_member == is_member {
                if is_member && is_moved[index] {
                    entry.lock().moved(now);
                }
                continue;
            }
            if !entry.lock().is_up() {
                *count = if is_member { *count + 1 } else { count.saturating_sub(1) };
            }
            // What it misses from here on nobody notes. It is to be known as soon as it leaves, for the next process, and
            // again when it is back: what a worker that had not gone over did meanwhile counts for nothing.
            let was_here = old.is_some_and(|old| index < old.entries.len());
            let has_missed = was_here && roster.pool.rejoin != Rejoin::Keep && !late::is_nobody(&roster.places[index]);
            if has_missed {
                self.add_pending(entry, |pending| pending.add_flush(now));
            }
            if is_member {
                // It was left, and has not lost its connections.
                entry.connects.lock().unwrap_or_else(PoisonError::into_inner).refill();
            }
        }
        drop(count);
        Servers {
            name: roster.pool.name.clone(),
            names: roster.places.iter().map(|place| place.server.name.clone()).collect(),
            entries,
            members: roster.places.iter().map(|place| place.is_member).collect(),
            ejected,
            most_ejected: roster.pool.servers.len() * roster.pool.max_ejected_percent as usize / 100,
            is_served: roster.is_served,
            rejoin: roster.pool.rejoin,
            database: (roster.pool.protocol == Protocol::Redis).then_some(roster.pool.redis.db),
        }
    }

    /// There is something that all workers have to look at.
    pub fn note_news(&self) {
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// A number that changes whenever a server leaves or enters the ring, or another topology is published.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Which servers of a pool, by their ids, may be in the ring.
    #[must_use]
    pub fn live(&self, pool: PoolId) -> Vec<bool> {
        let servers = &self.pools[pool.index()];
        let is_live = |(entry, is_member): (&Arc<Entry>, &bool)| *is_member && entry.lock().is_up();
        servers.entries.iter().zip(&servers.members).map(is_live).collect()
    }

    /// The state of one server.
    #[must_use]
    pub fn state(&self, pool: PoolId, server: ServerId) -> State {
        self.entry(pool, server).lock().state()
    }

    /// When a server was last ejected.
    #[must_use]
    pub fn ejected_at(&self, pool: PoolId, server: ServerId) -> Option<Instant> {
        self.entry(pool, server).lock().ejected_at()
    }

    /// Since when a server has been in the ring, if it is.
    #[must_use]
    pub fn up_since(&self, pool: PoolId, server: ServerId) -> Option<Instant> {
        self.entry(pool, server).lock().up_since()
    }

    /// How a server failed last, and when.
    #[must_use]
    pub fn last_failure(&self, pool: PoolId, server: ServerId) -> Option<(Failure, Instant)> {
        self.entry(pool, server).lock().last_failure()
    }

    /// A request of this worker was answered by the server ([`Tracker::succeeded`]). How long it has failed, if that is over
    /// and was told.
    #[inline]
    pub fn succeeded(&self, pool: PoolId, server: ServerId, worker: usize, now: Instant) -> Option<Duration> {
        let entry = self.entry(pool, server);
        if entry.failures.load(Ordering::Relaxed) == 0 { None } else { entry.succeeded(worker, now) }
    }

    /// How a server fails that is in the ring, if it does.
    #[must_use]
    pub fn failing(&self, pool: PoolId, server: ServerId) -> Option<Failing> {
        self.entry(pool, server).lock().failing()
    }

    /// The server failed this worker at `at` ([`Tracker::failed`]).
    pub fn failed(&self, pool: PoolId, server: ServerId, worker: usize, failure: Failure, at: Instant) -> Verdict {
        let entry = self.entry(pool, server);
        let servers = &self.pools[pool.index()];
        let mut ejected = servers.ejected.lock().unwrap_or_else(PoisonError::into_inner);
        if !servers.members[server.index()] || !entry.is_member.load(Ordering::Relaxed) {
            return Verdict::Ignored; // it has left
        }
        if entry.failures.fetch_and(!UNMET, Ordering::Relaxed) & UNMET != 0 {
            // What it missed, perhaps of a process before this one, is not known.
            self.add_pending(entry, |pending| pending.add_flush(at));
        }
        let mut tracker = entry.lock();
        let verdict = tracker.failed(worker, failure, at, *ejected < servers.most_ejected);
        match verdict {
            Verdict::Ignored => {}
            Verdict::Counted(failures) | Verdict::Failing { failures, .. } => {
                entry.failures.store(failures, Ordering::Relaxed);
            }
            Verdict::Ejected { .. } => {
                *ejected += 1;
                entry.failures.store(0, Ordering::Relaxed);
                entry.restarted.store(false, Ordering::Relaxed);
                self.owe_flush(entry, &tracker, at);
                self.shared.version.fetch_add(1, Ordering::Release);
            }
        }
        verdict
    }

    /// A server leaves the ring. It lives by its pool's newest rules, which whoever found out may not have heard of: those are
    /// set under the lock of the tracker.
    fn owe_flush(&self, entry: &Entry, tracker: &Tracker, now: Instant) {
        if tracker.flushes() {
            self.add_flush(entry, &[], now);
        }
    }

    /// Failures of the server in a row so far.
    #[must_use]
    pub fn failures(&self, pool: PoolId, server: ServerId) -> u32 {
        self.entry(pool, server).failures.load(Ordering::Relaxed) & !UNMET
    }

    /// When an ejected server is to be probed next; `None` when it is up or being probed.
    #[must_use]
    pub fn probe_at(&self, pool: PoolId, server: ServerId) -> Option<Instant> {
        self.entry(pool, server).lock().probe_at()
    }

    /// Takes the right to probe, if it is time.
    pub fn claim_probe(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        self.entry(pool, server).lock().claim_probe(now)
    }

    /// The probe was answered well. Whether that was the last of those that `rise` asks for.
    pub fn probe_answered(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        self.entry(pool, server).lock().probe_answered(now)
    }

    /// It was probed well, and has confirmed its pending invalidations: the server may be back in the ring.
    pub fn probe_passed(&self, pool: PoolId, server: ServerId, now: Instant) -> Passed {
        let mut ejected = self.pools[pool.index()].ejected.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = self.entry(pool, server);
        let mut tracker = entry.lock();
        // Under the lock of the tracker nobody can add to what is pending for a server that is out.
        if entry.pending().has_pending_in(self.pools[pool.index()].database) {
            return Passed::HasPending;
        }
        let passed = tracker.probe_passed(now);
        if matches!(passed, Passed::Restored { .. }) {
            *ejected -= usize::from(entry.is_member.load(Ordering::Relaxed));
            self.shared.version.fetch_add(1, Ordering::Release);
        }
        passed
    }

    /// The probe failed.
    pub fn probe_failed(&self, pool: PoolId, server: ServerId, now: Instant) {
        self.entry(pool, server).lock().probe_failed(now);
    }

    /// The probe could not be made, for want of something of this host's own.
    pub fn probe_unmade(&self, pool: PoolId, server: ServerId, now: Instant) {
        self.entry(pool, server).lock().probe_unmade(now);
    }

    /// What the workers need to know of a pool's servers besides their routing state, by their ids.
    pub fn flags(&self, pool: PoolId) -> impl Iterator<Item = Flags> {
        self.pools[pool.index()].entries.iter().map(|entry| Flags {
            ends_lingering: entry.ends_lingering.load(Ordering::Acquire),
            has_pending: entry.newest_pending.load(Ordering::Acquire) != 0,
        })
    }

    /// The process that answered for a server, if it was asked.
    #[must_use]
    pub fn process(&self, pool: PoolId, server: ServerId) -> Option<u64> {
        Some(self.entry(pool, server).process.load(Ordering::Relaxed)).filter(|process| *process != 0)
    }

    /// A server's process has told its number and how long it has been up. Returns whether it is another one than
    /// before, if that is known: then what it missed before it started is of no account.
    ///
    /// The number decides, and the time only where it runs backwards: a process that was stopped for a while counts that
    /// time late. The first process of a container has the number that the one before it had, so there it is not known
    /// whether one that counts late was stopped or started anew.
    pub fn meet(&self, pool: PoolId, server: ServerId, process: u64, uptime: Duration, now: Instant) -> Option<bool> {
        let entry = self.entry(pool, server);
        let before = entry.process.swap(process, Ordering::Relaxed);
        let seen = entry.uptime.swap(uptime.as_secs(), Ordering::Relaxed);
        let met = Instant::from_nanos(entry.met.swap(now.as_nanos(), Ordering::Relaxed));
        let is_late = || seen == 0 || Duration::from_secs(seen) + (now - met) > uptime + Duration::from_secs(2);
        let restarted = match before {
            0 => None,
            before if before != process || uptime.as_secs() < seen => Some(true),
            1 if is_late() => None,
            _ => Some(false),
        };
        if restarted == Some(true) {
            entry.restarted.store(true, Ordering::Relaxed);
            // Whole seconds, counted by a clock of its own: two are left for that.
            let started = now.before(uptime + Duration::from_secs(2));
            self.change_pending(entry, |pending| pending.void_before(started));
        }
        restarted
    }

    /// Whether a server was met as another process since it left the ring: perhaps by a probe before the one that let it
    /// back.
    #[must_use]
    pub fn was_restarted(&self, pool: PoolId, server: ServerId) -> bool {
        self.entry(pool, server).restarted.load(Ordering::Relaxed)
    }

    fn entry(&self, pool: PoolId, server: ServerId) -> &Entry {
        &self.pools[pool.index()].entries[server.index()]
    }
}

#[cfg(test)]
mod tests;

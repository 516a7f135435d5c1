//! Servers that are found after the process has started, by somebody who knew them before.
//!
//! What the process before this one has left for a server is kept until it is found. And while nobody knows which servers a
//! pool has, nobody is told what clients delete: whoever is found first is told, since it may be theirs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Registry;
use super::pending::{Invalidations, PendingInvalidations, StaleKey};
use super::saved::{Kept, Saved};
use crate::config::discovery::is_open;
use crate::config::model::{Address, Config, Rejoin, ServerId};
use crate::config::roster::{Place, Roster};
use crate::time::Instant;

/// What is left for a server that nobody has found for so long, in all processes together, is not left to the next one: servers
/// that come and go would be remembered for ever.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the bytes of a key take besides themselves.
const KEY_COST: usize = 32;

/// Bytes that may be held for servers that have not been found. Beyond that, who is found later is flushed.
const BYTES_LIMIT: usize = 8 << 20;

/// What is left for servers that have not been found yet.
#[derive(Debug, Default)]
pub(super) struct Late {
    saved: Mutex<Vec<Saved>>,
    /// The process before this one has not left all that it knew.
    is_doubtful: AtomicBool,
}

impl Registry {
    /// Nobody knows what servers missed before this process was started: those with `rejoin: safe` that cannot be reached at
    /// first have to be flushed, also if they are found later.
    pub fn doubt_all(&self, config: &Config) {
        self.shared.late.is_doubtful.store(true, Ordering::Relaxed);
        for pool in config.pools.iter().filter(|pool| pool.rejoin == Rejoin::Safe) {
            pool.servers.iter().for_each(|server| self.doubt(pool.id, server.id));
        }
    }

    pub(super) fn keep_unclaimed(&self, mut one: Saved) {
        let mut saved = self.lock_late();
        let held: usize = saved.iter().map(cost).sum();
        if held + cost(&one) > BYTES_LIMIT {
            one.missed = Kept::Marks.of(Invalidations::default);
        }
        self.keep(cost(&one), 0);
        saved.push(one);
    }

    /// What is left for servers that have not been found yet: it is left to the next process as well, if not for ever.
    pub(super) fn unclaimed(&self, kept: Kept, now: Instant) -> Vec<Saved> {
        let runs = u32::try_from(now.since(Instant::ZERO).as_secs()).unwrap_or(u32::MAX);
        let left = |one: &Saved| {
            let unclaimed = one.unclaimed.saturating_add(runs);
            // Marks are written when they have changed, and not for the time that passes.
            let told = if kept == Kept::Whole { unclaimed } else { one.unclaimed };
            let missed = kept.of(|| one.missed.clone());
            let (pool, server) = (one.pool.clone(), one.server.clone());
            let is_left = u64::from(unclaimed) < LONGEST.as_secs();
            is_left.then_some(Saved { pool, server, unclaimed: told, missed, ..*one })
        };
        self.lock_late().iter().filter_map(left).collect()
    }

    fn lock_late(&self) -> MutexGuard<'_, Vec<Saved>> {
        self.shared.late.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells servers that have been found what is left for them. `before` is the registry without them.
    pub(super) fn welcome(&self, before: &Self, rosters: &[Roster], now: Instant) {
        let served = || rosters.iter().enumerate().filter(|(_, roster)| roster.is_served);
        for (index, roster) in served().filter(|(index, _)| *index < before.pools.len()) {
            let old = &before.pools[index];
            let is_new = |id: &ServerId| id.index() >= old.entries.len() && roster.places[id.index()].first == *id;
            let new: Vec<ServerId> = roster.pool.servers.iter().map(|server| server.id).filter(is_new).collect();
            let mut was_here = old.members.iter().zip(&roster.places);
            if let Some(nobody) = was_here.position(|(was_here, place)| *was_here && is_nobody(place)) {
                let missed = old.entries[nobody].pending().all();
                let (pool, server) = (roster.pool.name.clone(), String::new());
                let one = Saved { pool, server, out: false, process: 0, unclaimed: 0, missed };
                new.iter().for_each(|id| self.recall_one(&roster.pool, *id, one.clone(), now));
                if !new.is_empty() && !roster.places[nobody].is_member {
                    self.change_pending(&old.entries[nobody], PendingInvalidations::abandon_keys); // others have them
                }
            }
            let is_doubtful = self.shared.late.is_doubtful.load(Ordering::Relaxed);
            if is_doubtful && roster.pool.rejoin == Rejoin::Safe && is_open(&roster.pool) {
                new.iter().for_each(|id| self.doubt(roster.pool.id, *id));
            }
        }
        let mut saved = self.lock_late();
        for one in std::mem::take(&mut *saved) {
            let held = cost(&one);
            let pool = served().find(|(_, roster)| roster.pool.name == one.pool);
            match pool
                .map(|(_, Roster { pool, .. })| (pool, pool.servers.iter().find(|server| server.name == one.server)))
            {
                Some((_, None)) => {
                    saved.push(one);
                    continue;
                }
                Some((pool, Some(server))) => self.recall_one(pool, server.id, one, now),
                None => {} // there is no such pool any more
            }
            self.keep(0, held);
        }
    }
}

/// Bytes that are held for what is left for a server, about.
fn cost(one: &Saved) -> usize {
    let Invalidations { databases, keys, .. } = &one.missed;
    let keys: usize = keys.iter().map(|key| size_of::<StaleKey>() + KEY_COST + key.key.len()).sum();
    size_of::<Saved>() + one.pool.len() + one.server.len() + size_of_val(&databases[..]) + keys
}

/// Whether this is not a server, but what stands for servers that nobody knows.
pub(super) fn is_nobody(place: &Place) -> bool {
    matches!(place.server.address, Address::Sought(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::discovery::{Answer, Found, Source, expand, server};
    use crate::config::model::PoolId;

    #[test]
    fn who_is_found_late_is_told_what_it_missed() {
        let file = "p: {listen: /p.sock, rejoin: safe, auto_eject_hosts: true, servers_file: /s}\n";
        let mut config = crate::config::parse("file", file).expect("a good file").config;
        expand(&mut config.pools[0], &Found::new());
        let registry = Registry::new(&config, 1);
        let key = |key: &[u8]| StaleKey { database: None, key: key.into(), base64: false };
        let keys = |all: &[&[u8]]| Invalidations {
            keys: all.iter().map(|one| key(one)).collect(),
            ..Invalidations::default()
        };
        let (pool, a) = ("p".to_owned(), "a".to_owned());
        let left = Saved { pool, server: a, out: true, process: 7, unclaimed: 0, missed: keys(&[b"before"]) };
        registry.recall(&config, vec![left.clone()], Instant::ZERO);
        registry.doubt_all(&config);
        assert_eq!(registry.save(&config, Kept::Whole, Instant::ZERO), [left], "it is left again");
        // While nobody is known, somebody deletes.
        registry.invalidate_key(PoolId(0), ServerId(0), key(b"meanwhile"), None, Instant::ZERO);
        let before = Roster::follow(&[], &config).expect("few");
        let of = |name: &str| server(name.to_owned(), "10.0.0.1".to_owned(), 1);
        let found = Found::from([(Source::File("/s".into()), Answer::Servers(vec![of("a"), of("b")]))]);
        expand(&mut config.pools[0], &found);
        let rosters = Roster::follow(&before, &config).expect("few");
        let next = registry.follow(&rosters, &config.settings, Instant::ZERO);
        let ids = |name: &str| rosters[0].pool.servers.iter().find(|server| server.name == name).expect("there").id;
        let missed = |name: &str| next.entry(PoolId(0), ids(name)).pending().all();
        assert_eq!((missed("a").keys.len(), missed("b")), (2, keys(&[b"meanwhile"])));
        assert_eq!(registry.entry(PoolId(0), ServerId(0)).pending().cost(), 0, "it is not kept for nobody");
        assert!(next.probe_at(PoolId(0), ids("a")).is_some(), "it was out");
        assert!(next.is_doubted(PoolId(0), ids("b")));
        let expanded =
            next.save(&Config { pools: vec![rosters[0].pool.clone()], ..config }, Kept::Whole, Instant::ZERO);
        assert_eq!(expanded.iter().filter(|one| one.server == "a").count(), 1, "it is claimed");
    }

    #[test]
    fn who_is_never_found_is_not_remembered_for_ever_nor_at_any_length() {
        let file = "p: {listen: /p.sock, rejoin: safe, auto_eject_hosts: true, servers_file: /s}\n";
        let mut config = crate::config::parse("file", file).expect("a good file").config;
        expand(&mut config.pools[0], &Found::new());
        let key = |number: usize| StaleKey {
            database: None,
            key: format!("{number:0250}").into_bytes().into(),
            base64: false,
        };
        let left = |server: &str, keys: usize| {
            let missed = Invalidations { keys: (0..keys).map(key).collect(), ..Invalidations::default() };
            Saved { pool: "p".to_owned(), server: server.to_owned(), out: true, process: 7, unclaimed: 0, missed }
        };
        let most = BYTES_LIMIT / (size_of::<StaleKey>() + KEY_COST + 250);
        let told = |saved: &[Saved]| -> Vec<(String, u32, usize, bool)> {
            let of = |one: &Saved| (one.server.clone(), one.unclaimed, one.missed.keys.len(), one.missed.flush);
            saved.iter().map(of).collect()
        };
        let first = Registry::new(&config, 1);
        first.recall(&config, vec![left("a", most - 100), left("b", 200), left("c", 1)], Instant::ZERO);
        assert!(first.kept() <= BYTES_LIMIT && first.kept() > BYTES_LIMIT / 2, "{}", first.kept());
        let at = |days: u64| Instant::from_nanos(days * 24 * 3600 * 1_000_000_000);
        let (a, b, c) = ("a".to_owned(), "b".to_owned(), "c".to_owned());
        let days = |count: u32| count * 24 * 3600;
        let saved = first.save(&config, Kept::Whole, at(3));
        assert_eq!(told(&saved), [(a, days(3), most - 100, false), (b, days(3), 0, true), (c, days(3), 1, false)]);
        // Marks are as they were, so nothing is written as time goes by.
        let marks = |days| first.save(&config, Kept::Marks, at(days));
        assert!(marks(0) == marks(6) && marks(0).iter().all(|one| one.missed.keys.is_empty() && one.missed.flush));
        assert_eq!(marks(7), []);
        let next = Registry::new(&config, 1);
        next.recall(&config, saved, Instant::ZERO);
        assert_eq!(next.save(&config, Kept::Whole, at(3)).len(), 3);
        assert_eq!(next.save(&config, Kept::Whole, at(4)), []);
        // Who is found after all is told.
        let before = Roster::follow(&[], &config).expect("few");
        let of = |name: &str| server(name.to_owned(), "10.0.0.1".to_owned(), 1);
        let found = Found::from([(Source::File("/s".into()), Answer::Servers(vec![of("a"), of("b"), of("c")]))]);
        expand(&mut config.pools[0], &found);
        let rosters = Roster::follow(&before, &config).expect("few");
        let last = next.follow(&rosters, &config.settings, at(4));
        assert_eq!(last.kept(), last.shared.pending_bytes.load(Ordering::Relaxed), "what is held is theirs");
        let has_pending = |server: &crate::config::model::Server| last.has_pending(PoolId(0), server.id);
        assert!(rosters[0].pool.servers.iter().all(has_pending));
    }
}

//! Servers that are found after the process has started, by somebody who knew them before.
//!
//! What the process before this one has left for a server is kept until it is found. And while nobody knows which servers a
//! pool has, nobody is told what clients delete: whoever is found first is told, since it may be theirs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Registry;
use super::saved::{Kept, Saved};
use crate::config::discovery::is_open;
use crate::config::model::{Address, Config, Rejoin, ServerId};
use crate::config::roster::{Place, Roster};
use crate::time::Instant;

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

    pub(super) fn keep_unclaimed(&self, one: Saved) {
        self.shared.late.saved.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    /// What is left for servers that have not been found yet: it is left to the next process as well.
    pub(super) fn unclaimed(&self, kept: Kept) -> Vec<Saved> {
        let saved = self.shared.late.saved.lock().unwrap_or_else(PoisonError::into_inner);
        saved.iter().map(|one| Saved { missed: kept.of(one.missed.clone()), ..one.clone() }).collect()
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
                let one = Saved { pool, server, out: false, process: 0, missed };
                new.iter().for_each(|id| self.recall_one(&roster.pool, *id, one.clone(), now));
            }
            let is_doubtful = self.shared.late.is_doubtful.load(Ordering::Relaxed);
            if is_doubtful && roster.pool.rejoin == Rejoin::Safe && is_open(&roster.pool) {
                new.iter().for_each(|id| self.doubt(roster.pool.id, *id));
            }
        }
        let mut saved = self.shared.late.saved.lock().unwrap_or_else(PoisonError::into_inner);
        for one in std::mem::take(&mut *saved) {
            let pool = served().find(|(_, roster)| roster.pool.name == one.pool);
            let Some((_, Roster { pool, .. })) = pool else { continue };
            match pool.servers.iter().find(|server| server.name == one.server) {
                Some(server) => self.recall_one(pool, server.id, one, now),
                None => saved.push(one),
            }
        }
    }
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
    use crate::health::pending::{Invalidations, StaleKey};

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
        let left = Saved { pool, server: a, out: true, process: 7, missed: keys(&[b"before"]) };
        registry.recall(&config, vec![left.clone()], Instant::ZERO);
        registry.doubt_all(&config);
        assert_eq!(registry.save(&config, Kept::Whole), [left], "it is left again");
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
        assert!(next.probe_at(PoolId(0), ids("a")).is_some(), "it was out");
        assert!(next.is_doubted(PoolId(0), ids("b")));
        let expanded = next.save(&Config { pools: vec![rosters[0].pool.clone()], ..config }, Kept::Whole);
        assert_eq!(expanded.iter().filter(|one| one.server == "a").count(), 1, "it is claimed");
    }
}

//! A pool that comes in the place of one of its name: what that one's servers have not been told to forget, they are told here.
//!
//! Clients of the pool that left may be answered for some time after that. So whatever they find that a server missed is passed
//! on to the same server in the pool that came.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::pending::PendingInvalidations;
use super::{Entry, Registry, late};
use crate::config::model::{Rejoin, ServerId};
use crate::config::roster::{Place, Roster};
use crate::time::Instant;

impl Entry {
    fn heirs(&self) -> MutexGuard<'_, Vec<Arc<Self>>> {
        self.heirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Has servers that come to a pool told what those of the last pool of its name that had them missed, up to now and from
    /// now on. `old` is the registry without them.
    ///
    /// Where `rejoin` is `keep` that is exactly what a client was answered in the server's place; elsewhere a server of which
    /// something was pending, or that was out, is flushed.
    pub(super) fn inherit(&self, old: &Self, rosters: &[Roster], now: Instant) {
        for (index, roster) in rosters.iter().enumerate().filter(|(_, roster)| roster.is_served) {
            let known = old.pools.get(index).map_or(0, |pool| pool.entries.len());
            if known == roster.places.len() {
                continue;
            }
            let is_earlier = |other: &&Roster| !other.is_served && other.pool.name == roster.pool.name;
            let earlier: Vec<&Roster> = rosters.iter().rev().filter(is_earlier).collect();
            // By its name, or else it may be anybody's who was not known.
            let mut names: BTreeMap<&str, (&Roster, ServerId)> = BTreeMap::new();
            for other in earlier.iter().rev() {
                names.extend(other.places.iter().map(|place| (&*place.server.name, (*other, place.first))));
            }
            let is_new = known == 0;
            let of_nobody = earlier.first().filter(|_| is_new).into_iter().flat_map(|other| {
                let nobody = other.places.iter().filter(|place| place.is_member && late::is_nobody(place));
                nobody.map(|place| (*other, place.first))
            });
            let of_nobody: Vec<_> = of_nobody.collect();
            // One that only moves has its name already, and has been told.
            let is_named_anew = |(at, place): &(usize, &Place)| place.first.index() == *at;
            let places = roster.places.iter().enumerate().skip(known).filter(is_named_anew);
            for (_, place) in places.filter(|_| !earlier.is_empty()) {
                let its = names.get(&*place.server.name).into_iter().chain(&of_nobody);
                its.for_each(|(other, first)| self.inherit_one((other, *first), (roster, place), now));
            }
        }
    }

    fn inherit_one(&self, (other, first): (&Roster, ServerId), (roster, place): (&Roster, &Place), now: Instant) {
        let (known, entry) = (
            &self.pools[other.pool.id.index()].entries[first.index()],
            &self.pools[roster.pool.id.index()].entries[place.first.index()],
        );
        if other.pool.protocol == roster.pool.protocol {
            known.heirs().push(Arc::clone(entry)); // first, so that nothing falls between
        }
        let (is_up, missed) = (known.lock().is_up(), known.pending().all());
        let is_clean = is_up && known.pending().is_nothing();
        if roster.pool.rejoin == Rejoin::Keep {
            self.add_missed(&roster.pool, place.server.id, missed, now);
        } else if !is_clean {
            self.add_pending(entry, |pending| pending.add_flush(now));
        }
    }

    /// As [`Registry::add_pending`], for whoever is to be told of it besides. Nothing that this one has in flight is known there.
    pub(super) fn pass_on(&self, entry: &Entry, add: &dyn Fn(&mut PendingInvalidations)) {
        let mut heirs = entry.heirs().clone(); // not under the lock
        while let Some(heir) = heirs.pop() {
            self.add_pending(&heir, add);
            heirs.extend(heir.heirs().iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Address, Config, PoolId};
    use crate::health::pending::{Invalidations, StaleKey};

    fn pool(rejoin: &str) -> Config {
        let file = format!(
            "q: {{listen: /q.sock, timeout: 400, servers: ['127.0.0.1:9:1']}}\n\
             p: {{listen: /p.sock, rejoin: {rejoin}, auto_eject_hosts: true, redis: true, timeout: 400, on_eject: hold, \
                 servers: ['127.0.0.1:2:1 a', '127.0.0.1:3:1 b']}}\n"
        );
        crate::config::parse("file", &file).expect("a good file").config
    }

    fn key(name: &str) -> StaleKey {
        StaleKey { database: Some(0), key: name.as_bytes().into(), base64: false }
    }

    /// What two servers have to forget in the pool that came, when this was pending in the one that left; and what they
    /// have to when more has come to that, which the clients of the one that left have found out.
    fn inherited(
        rejoin: &str,
        before: impl Fn(&Registry, PoolId),
        after: impl Fn(&Registry, PoolId),
    ) -> [[Invalidations; 2]; 2] {
        let config = pool(rejoin);
        let (old, rosters) = (config.pools[1].id, Roster::follow(&[], &config).expect("few"));
        let first = Registry::new(&config, 1);
        before(&first, old);
        let without = Config { pools: vec![config.pools[0].clone()], ..config.clone() };
        let rosters = Roster::follow(&rosters, &without).expect("few");
        let second = first.follow(&rosters, &config.settings, Instant::ZERO);
        let rosters = Roster::follow(&rosters, &config).expect("few");
        let registry = second.follow(&rosters, &config.settings, Instant::ZERO);
        let new = PoolId(2);
        assert!(rosters[2].is_served && !rosters[1].is_served);
        let missed = || [0, 1].map(|server| registry.entry(new, ServerId(server)).pending().all());
        let at_first = missed();
        // Some workers have not gone over, others have.
        after(&first, old);
        let of_some = missed();
        after(&registry, old);
        assert_eq!(missed(), of_some);
        [at_first, of_some]
    }

    #[test]
    fn a_pool_that_comes_in_the_place_of_another_is_told_what_that_ones_clients_were_answered() {
        let a = ServerId(0);
        let (flush, keys) = (Invalidations::of_all(), |names: &[&str]| Invalidations {
            keys: names.iter().map(|name| key(name)).collect(),
            ..Invalidations::default()
        });
        let databases = |all: &[u32]| Invalidations { databases: all.to_vec(), ..Invalidations::default() };
        let nothing = Invalidations::default;
        let missed = inherited(
            "keep",
            |registry, pool| registry.invalidate_key(pool, a, key("before"), None, Instant::ZERO),
            |registry, pool| registry.invalidate_key(pool, a, key("after"), None, Instant::ZERO),
        );
        assert_eq!(missed, [[keys(&["before"]), nothing()], [keys(&["before", "after"]), nothing()]]);
        let missed = inherited("keep", |_, _| {}, |registry, pool| registry.invalidate_all(pool, a, Instant::ZERO));
        assert_eq!(missed, [[nothing(), nothing()], [flush.clone(), nothing()]]);
        let later = Instant::from_nanos(5);
        let missed = inherited(
            "keep",
            |registry, pool| registry.invalidate_database(pool, a, 3, &[], Instant::ZERO),
            |registry, pool| registry.invalidate_all_later(pool, a, later),
        );
        assert_eq!(missed, [[databases(&[3]), nothing()], [flush.clone(), nothing()]]);
        // Elsewhere nobody knows what else it missed.
        let missed = inherited(
            "flush",
            |registry, pool| registry.invalidate_key(pool, a, key("before"), None, Instant::ZERO),
            |registry, pool| registry.invalidate_key(pool, ServerId(1), key("after"), None, Instant::ZERO),
        );
        assert_eq!(missed, [[flush.clone(), nothing()], [flush, keys(&["after"])]]);
    }

    #[test]
    fn who_moves_in_the_pool_that_came_has_been_told_before() {
        let config = pool("flush");
        let at = |port: u16| {
            let mut config = config.clone();
            config.pools[1].servers[0].address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
            config
        };
        let without = Config { pools: vec![config.pools[0].clone()], ..config.clone() };
        let mut rosters = Roster::follow(&[], &config).expect("few");
        let mut registry = Registry::new(&config, 1);
        registry.invalidate_all(config.pools[1].id, ServerId(0), Instant::ZERO);
        for (number, config) in [&without, &config, &at(4), &at(5)].into_iter().enumerate() {
            rosters = Roster::follow(&rosters, config).expect("few");
            registry = registry.follow(&rosters, &config.settings, Instant::ZERO);
            if number > 0 {
                let entry = &registry.pools[2].entries[0];
                assert_eq!(entry.pending().all().flush, number == 1, "it is told once");
                assert_eq!(registry.pools[1].entries[0].heirs().len(), 1);
                registry.change_pending(entry, |pending| pending.void_before(Instant::from_nanos(1))); // it has done so
            }
        }
    }
}

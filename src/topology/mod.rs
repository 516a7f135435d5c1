//! Which pools and servers there are, and the way from a key to a server: one picture for the whole process.
//!
//! A [`Topology`] never changes. Another configuration makes the next one, in which servers keep their ids, their health
//! and what was counted for them as long as they keep their names ([`Roster`]); it is [`Published`], and whoever works with
//! the one before goes over to it when they notice. Workers notice by the registry's version, which they look at anyway;
//! the admin port and the statistics take the newest for each answer.
//!
//! The way of a key is the pool's [`Ring`] of all servers, [`Pool::home`], and that of those which are in:
//! [`Pool::circle`] makes it in steps per server, as none of its points is computed anew. A distribution whose slots are
//! learned from the servers would be a further kind of ring.

mod changes;
mod warming;

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config;
pub use changes::{Changes, Fate, PoolChange, ServerFate};
pub use warming::{Copies, Former, Warming};

use crate::config::model::{self, Config, PoolId, Server, ServerId};
use crate::config::roster::{Full, Roster, settings_after};
use crate::health::Registry;
use crate::near::Near;
use crate::ring::{Circle, Ring};
use crate::stats::counters::Counters;
use crate::time::Instant;

/// The pools and servers of one moment, by ids that hold over all moments.
#[derive(Debug)]
pub struct Topology {
    /// Which of the process's topologies it is, from 0.
    pub version: u64,
    /// What is served: each pool and server carries its id.
    pub config: Config,
    /// Tells this configuration from others ([`config::version`]).
    pub digest: Arc<str>,
    /// Every pool by its id, those that are served no longer included.
    pub pools: Vec<Pool>,
    /// The health of its servers.
    pub registry: Arc<Registry>,
    /// What each worker counts.
    pub counters: Arc<[Arc<Counters>]>,
}

/// A pool. It gives access to its settings, and to the servers that it has in the order of the ring.
#[derive(Debug)]
pub struct Pool {
    roster: Roster,
    /// The ring of all its servers: where keys are at home.
    pub home: Ring,
    /// Where the rings of some of them come from.
    pub circle: Circle,
    /// Where keys were at home before, while what is stored there is brought along.
    pub warming: Option<Arc<Warming>>,
    /// What is kept of its values, and shared by all workers.
    pub near: Option<Arc<Near>>,
}

impl Pool {
    fn new(roster: Roster) -> Self {
        let mut circle = Circle::new(&roster.pool);
        let home = circle.ring(&roster.pool, &vec![true; roster.places.len()]);
        Self { roster, home, circle, warming: None, near: None }
    }

    /// One that takes the place of another, if there was one.
    fn following(roster: Roster, before: Option<&Self>, now: Instant) -> Self {
        let warming = before.and_then(|before| Warming::of(before, &roster.pool, roster.places.len(), now));
        // What is kept goes on where the option is as it was.
        let kept = before.filter(|before| before.near_cache == roster.pool.near_cache);
        let fresh = || roster.pool.near_cache.as_ref().map(|option| Arc::new(Near::new(option.size)));
        let near = kept.and_then(|before| before.near.clone()).or_else(fresh);
        Self { warming, near, ..Self::new(roster) }
    }

    /// Whether it is served. Otherwise it ends when its last client has left.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        self.roster.is_served
    }

    /// One more than the highest id that a server of it has or had.
    #[must_use]
    pub const fn ids(&self) -> usize {
        self.roster.places.len()
    }

    /// A server that it has or had.
    #[must_use]
    pub fn server(&self, id: ServerId) -> &Server {
        &self.roster.places[id.index()].server
    }

    /// Whether a server is one of those that it has.
    #[must_use]
    pub fn has(&self, id: ServerId) -> bool {
        self.roster.places.get(id.index()).is_some_and(|place| place.is_member)
    }

    /// The first id that a server of the same name got: health and counters are kept by it.
    #[must_use]
    pub fn first_of_name(&self, id: ServerId) -> ServerId {
        self.roster.places[id.index()].first
    }

    /// The ids of the servers that it has, in the order of the ring.
    pub fn members(&self) -> impl Iterator<Item = ServerId> + Clone {
        self.roster.pool.servers.iter().map(|server| server.id)
    }

    /// The ring of those servers for which `live`, by their ids, is true.
    #[must_use]
    pub fn ring(&self, live: &[bool]) -> Ring {
        self.circle.clone().ring(&self.roster.pool, live)
    }
}

impl Deref for Pool {
    type Target = model::Pool;

    #[inline]
    fn deref(&self) -> &model::Pool {
        &self.roster.pool
    }
}

impl Topology {
    /// A pool by its id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id.index()]
    }
}

/// The newest topology, and its version for who only wants to know whether there is another.
#[derive(Debug)]
pub struct Published {
    version: AtomicU64,
    current: Mutex<Arc<Topology>>,
}

impl Published {
    /// The first topology: that of a configuration. `seed` sets the jitter of the probes.
    #[must_use]
    pub fn new(mut config: Config, seed: u64) -> Self {
        let rosters = Roster::follow(&[], &config).unwrap_or_default();
        config.pools = rosters.iter().map(|roster| roster.pool.clone()).collect();
        let registry = Arc::new(Registry::new(&config, seed));
        let counters = (0..config.settings.workers).map(|_| Arc::new(Counters::new(&config))).collect();
        let pools = rosters.into_iter().map(|roster| Pool::following(roster, None, Instant::ZERO)).collect();
        let digest = config::version(&config).into();
        let first = Topology { version: 0, config, digest, pools, registry, counters };
        Self { version: AtomicU64::new(0), current: Mutex::new(Arc::new(first)) }
    }

    /// The version of the newest topology; costs no lock.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest topology.
    #[must_use]
    pub fn current(&self) -> Arc<Topology> {
        Arc::clone(&self.lock())
    }

    /// Does something with the newest topology that no other may take the place of before it is done.
    pub fn with_current<T>(&self, work: impl FnOnce(&Topology) -> T) -> T {
        work(&self.lock())
    }

    /// Makes the topology of another configuration of the newest one, and has it take its place. Workers go over to it at
    /// their next event; whoever publishes wakes those that have none.
    ///
    /// # Errors
    ///
    /// When there are no ids left; nothing has changed then.
    pub fn publish(&self, config: &Config, now: Instant) -> Result<Arc<Topology>, Full> {
        let mut current = self.lock();
        let before: Vec<Roster> = current.pools.iter().map(|pool| pool.roster.clone()).collect();
        let rosters = Roster::follow(&before, config)?;
        let served =
            |pool: &model::Pool| rosters.iter().find(|roster| roster.is_served && roster.pool.name == pool.name);
        let pools = config.pools.iter().filter_map(served).map(|roster| roster.pool.clone()).collect();
        let config = Config { settings: settings_after(&current.config.settings, &config.settings), pools };
        let counters = current.counters.iter().map(|of| Arc::new(of.follow(&rosters))).collect();
        // Rings take their time. Workers see what the registry says of servers at once, so it is told last.
        let pools = (0..)
            .zip(&rosters)
            .map(|(index, roster)| Pool::following(roster.clone(), current.pools.get::<usize>(index), now));
        let pools = pools.collect();
        let next = Arc::new(Topology {
            version: current.version + 1,
            digest: config::version(&config).into(),
            registry: Arc::new(current.registry.follow(&rosters, &config.settings, now)),
            counters,
            pools,
            config,
        });
        *current = Arc::clone(&next);
        self.version.store(next.version, Ordering::Release);
        next.registry.note_news();
        Ok(next)
    }

    /// A panic elsewhere leaves it valid: it is only ever replaced.
    fn lock(&self) -> MutexGuard<'_, Arc<Topology>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

//! What an engine is made from, and how.

use std::sync::Arc;
use std::time::Duration;

use super::clients::Clients;
use super::deadline::Timers;
use super::servers::Servers;
use super::{
    Course, Engine, Scripts, chore, memcache, memory, near, outputs, redis, stampede, telemetry, warmup, work,
};
use crate::time::Instant;
use crate::topology::Published;

/// What an engine is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The pools and servers, their health and what is counted for them: the newest topology.
    pub published: Arc<Published>,
    /// Which worker this is; the first one probes.
    pub worker: usize,
    /// Seed of the `random` distribution.
    pub seed: u64,
    /// The wall-clock time at [`Instant::ZERO`], since the Unix epoch.
    pub started_at: Duration,
    /// The scripts that have passed through, known to all workers.
    pub scripts: Scripts,
}

impl Engine {
    /// A worker with no clients and no connections.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { published, worker, seed, started_at, scripts } = setup;
        let topology = published.current();
        let registry = Arc::clone(&topology.registry);
        let version = registry.version();
        let settings = &topology.config.settings;
        let telemetry = telemetry::Telemetry::new(settings.hot_keys, settings.slow_request, seed);
        let memory =
            memory::Memory::new(settings.memory_limit, topology.counters.len(), Arc::clone(&topology.counters[worker]));
        let mut engine = Self {
            counters: Arc::clone(&topology.counters[worker]),
            worker,
            probes: worker == 0,
            published,
            topology,
            registry,
            pools: Vec::new(),
            clients: Clients::default(),
            servers: Servers::default(),
            timers: Timers::default(),
            chores: chore::Chores::default(),
            work: work::Work::default(),
            outputs: outputs::Outputs::default(),
            version: version.wrapping_sub(1),
            random: seed | 1,
            started_at,
            ways: Vec::new(),
            memcache: memcache::Kept::default(),
            warmup: warmup::Warmup::default(),
            stampede: stampede::Stampede::default(),
            near: near::Nears::default(),
            looks_first: false,
            redis: redis::State::new(scripts, worker),
            memory,
            now: Instant::ZERO,
            course: Course::Serves,
            telemetry,
        };
        engine.add_servers();
        engine.refresh(Instant::ZERO);
        engine
    }

    /// Takes requests of more bytes for large ones, and ends turns that cost so much: for tests, which would take too long with
    /// what is large.
    #[doc(hidden)]
    pub fn make_small(&mut self, large: usize, turn: usize) {
        self.memory.large = large;
        self.work = work::Work::with_turns_of(turn);
    }

    /// Opens a connection to each server of the pools that ask for it (`preconnect`).
    pub fn preconnect(&mut self, now: Instant) {
        for pool in 0..self.pools.len() {
            if self.topology.pools[pool].preconnect {
                for link in self.pools[pool].shared_links() {
                    self.start_connect(link, now);
                }
            }
        }
    }
}

//! What a run is like, drawn from its seed.

use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{
    Config, Distribution, HashKind, Listen, NearCache, OnEject, OnFailure, Pool, Rejoin, Server, ServerId, Settings,
    Stall, Stampede,
};

use super::random::Random;

/// What a run is like.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) workers: usize,
    pub(super) clients: usize,
    pub(super) servers: usize,
    pub(super) steps: usize,
    pub(super) faults: bool,
    pub(super) on_failure: OnFailure,
    pub(super) auto_eject: bool,
    pub(super) server_connections: usize,
    /// Steps take up to this long.
    pub(super) step_us: u64,
    /// One step in so many breaks or mends something; 0 for none.
    pub(super) fault_every: u64,
    /// One step in so many changes which servers there are; 0 for none.
    pub(super) shift_every: u64,
    /// Requests that a client sends at once.
    pub(super) burst: usize,
    /// One movement in so many carries a few bytes only.
    pub(super) pieces: u64,
    /// Every request goes to one server, and no client leaves early: the counters can be balanced to the last one.
    pub(super) plain: bool,
    pub(super) on_eject: OnEject,
    pub(super) rejoin: Rejoin,
    pub(super) failover_ttl: Option<u32>,
    pub(super) warmup: Option<Duration>,
    /// Who misses a key waits for who computes it.
    pub(super) stampede: Option<Stampede>,
    pub(super) near: Option<NearCache>,
    /// Values are kept, or were.
    pub(super) keeps: bool,
    /// All ask for the same two keys, over two connections to each server: what one changes another asks for meanwhile.
    pub(super) crowded: bool,
    /// Servers are added, and nothing else happens: what is brought along must be what was written last.
    pub(super) grows: bool,
    pub(super) rise: u32,
    pub(super) stalls: bool,
    /// Many large values.
    pub(super) big: bool,
    /// For one worker, in bytes.
    pub(super) memory_limit: Option<usize>,
    pub(super) slow_readers: bool,
    /// Now and then the process stands still for long.
    pub(super) jumps: bool,
    pub(super) joins: bool,
    /// The pool's timeout is so much of the time that the judge gives requests, in percent, if it has one.
    pub(super) timeout_percent: Option<u64>,
    pub(super) hash: HashKind,
    pub(super) distribution: Distribution,
    pub(super) value_limit: usize,
    /// The engine's invariants are checked once in so many steps.
    pub(super) check_every: u64,
}

impl Plan {
    pub(super) fn healthy(seed: u64) -> Self {
        Self {
            faults: false,
            stalls: false,
            on_failure: OnFailure::Error,
            fault_every: 0,
            shift_every: 0,
            memory_limit: None,
            jumps: false,
            value_limit: 1 << 20,
            ..Self::faulty(seed)
        }
    }

    pub(super) fn with_workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Keys that are missed are waited for.
    pub(super) fn calm(self) -> Self {
        let mut random = Random::new(self.seed ^ 0xca1f);
        let stampede = Stampede {
            wait: Duration::from_millis(random.pick(&[1, 10, 60, 300])),
            lease: Duration::from_secs(random.pick(&[1, 2, 60])),
            keys: random.pick(&[&[][..], &["k"], &["k1", "n"]]).iter().map(|begin| (*begin).to_owned()).collect(),
            stale: random.one_in(2).then(|| Duration::from_secs(30)),
        };
        // Who has sent something behind a get that may change something does not wait.
        let burst = if stampede.stale.is_some() { 1 } else { self.burst };
        Self { stampede: Some(stampede), burst, ..self }
    }

    /// Values are copied that live for some time.
    pub(super) fn copies(&self) -> bool {
        self.stampede.as_ref().is_some_and(|stampede| stampede.stale.is_some())
    }

    /// How long a request may wait for others besides its own time.
    pub(super) fn wait(&self) -> u64 {
        self.stampede.as_ref().map_or(0, |stampede| u64::try_from(stampede.wait.as_nanos()).expect("a short time"))
    }

    /// Servers are added, and bring along what they get.
    pub(super) fn growing(seed: u64) -> Self {
        Self {
            warmup: Some(Duration::from_secs(3600)),
            grows: true,
            shift_every: [50, 150, 400][(seed % 3) as usize],
            step_us: [20, 100, 500][(seed / 3 % 3) as usize],
            // What is under way is waited for, however long it takes.
            timeout_percent: None,
            fault_every: 0,
            auto_eject: false,
            stalls: false,
            memory_limit: None,
            jumps: false,
            crowded: false,
            ..Self::faulty(seed)
        }
    }

    /// Servers come and go, and move, often.
    pub(super) fn shifting(seed: u64) -> Self {
        let plan = Self::faulty(seed);
        let (every, faults) = ([20, 60, 200][(seed % 3) as usize], [plan.fault_every, 0][(seed % 2) as usize]);
        Self { shift_every: every, fault_every: faults, ..plan }
    }

    pub(super) fn faulty(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xfeed);
        let big = random.one_in(8);
        let mut plan = Self {
            seed,
            workers: 1,
            clients: 1 + random.index(5),
            servers: 1 + random.index(4),
            steps: 3000,
            faults: true,
            on_failure: if random.one_in(4) { OnFailure::Error } else { OnFailure::Miss },
            auto_eject: !random.one_in(4),
            server_connections: 1 + random.index(2),
            step_us: random.pick(&[20, 500, 5_000]),
            fault_every: random.pick(&[25, 100, 100, 400, 1500, 0]),
            shift_every: 0,
            burst: random.pick(&[1, 4, 16, 32]),
            pieces: random.pick(&[3, 20, 200]),
            plain: random.one_in(3),
            on_eject: if random.one_in(3) { OnEject::Hold } else { OnEject::Rehash },
            rejoin: random.pick(&[Rejoin::Keep, Rejoin::Flush, Rejoin::Safe, Rejoin::Safe]),
            failover_ttl: None,
            warmup: None,
            stampede: None,
            near: None,
            keeps: false,
            crowded: false,
            grows: false,
            rise: random.pick(&[1, 1, 3]),
            stalls: random.one_in(2),
            big,
            memory_limit: random.one_in(if big { 2 } else { 12 }).then(|| 256 << (10 + random.below(3))),
            slow_readers: random.one_in(2),
            jumps: random.one_in(4),
            joins: !random.one_in(4),
            timeout_percent: Some(100),
            hash: HashKind::Md5,
            distribution: Distribution::Ketama,
            value_limit: 48_000,
            // Every step on some seeds: what breaks and heals within a few steps is not missed everywhere.
            check_every: if seed.is_multiple_of(16) { 1 } else { 61 },
        };
        plan.shift_every = random.pick(&[150, 400, 900, 3000]);
        plan.warmup = random.pick(&[None, Some(Duration::from_millis(300)), Some(Duration::from_secs(3600))]);
        let near = NearCache {
            size: 1 << 20,
            ttl: Duration::from_millis(random.pick(&[50, 1_000, 60_000])),
            stale_on_error: random.pick(&[None, Some(Duration::from_secs(300))]),
            keys: random.pick(&[&[][..], &["k"]]).iter().map(|begin| (*begin).to_owned()).collect(),
        };
        plan.near = random.one_in(2).then_some(near);
        plan.keeps = plan.near.is_some();
        plan.crowded = plan.keeps && random.one_in(3);
        if plan.crowded {
            plan.server_connections = 2;
        }
        plan
    }

    pub(super) fn timeout(&self) -> u64 {
        if self.faults { 400_000_000 } else { 3_600_000_000_000 }
    }

    fn timeout_now(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.timeout() * self.timeout_percent? / 100))
    }

    /// Others of the options that can change while clients are served.
    pub(super) fn tune(&mut self, random: &mut Random) {
        self.timeout_percent = random.pick(&[Some(60), Some(80), Some(100), None]);
        self.on_eject = random.pick(&[OnEject::Rehash, OnEject::Rehash, OnEject::Hold]);
        self.rejoin = random.pick(&[Rejoin::Keep, Rejoin::Flush, Rejoin::Safe, Rejoin::Safe]);
        if random.one_in(3) {
            self.hash = random.pick(&[HashKind::Md5, HashKind::Fnv1_64, HashKind::Murmur]);
            self.distribution = random.pick(&[Distribution::Ketama, Distribution::Ketama, Distribution::Modula]);
        }
        if self.distribution == Distribution::Modula && self.rejoin == Rejoin::Safe {
            self.on_eject = OnEject::Hold; // keys of every server move otherwise, and nobody could note them
        }
        self.stalls = random.one_in(2);
        self.joins = random.one_in(2);
        self.rise = random.pick(&[1, 3]);
        self.memory_limit = random.one_in(4).then_some(2 << 20).or(self.memory_limit);
        if random.one_in(3) {
            let ttl = Duration::from_millis(random.pick(&[50, 60_000]));
            self.near = random.one_in(2).then(|| NearCache { size: 1 << 20, ttl, ..NearCache::default() });
            self.keeps |= self.near.is_some();
        }
    }

    pub(super) fn config(&self) -> Arc<Config> {
        let servers = (0..self.servers).map(|index| Server {
            name: format!("s{index}"),
            ring_name: None,
            address: super::topology::address(index),
            weight: 1,
            id: ServerId(0),
            position: index,
        });
        self.config_of(servers.collect())
    }

    /// The configuration with these servers.
    pub(super) fn config_of(&self, servers: Vec<Server>) -> Arc<Config> {
        let listen = Listen::Unix { path: "/nowhere".into(), mode: None };
        let pool = Pool {
            hash: self.hash,
            distribution: self.distribution,
            timeout: self.timeout_now(),
            preconnect: self.seed.is_multiple_of(3),
            auto_eject_hosts: self.auto_eject,
            server_retry_timeout: Duration::from_nanos(super::calm::RETRY_TIMEOUT),
            server_failure_limit: 3,
            server_connections: self.server_connections,
            on_failure: self.on_failure,
            on_eject: self.on_eject,
            rejoin: self.rejoin,
            failover_ttl: self.failover_ttl,
            warmup: self.warmup,
            stampede: self.stampede.clone(),
            near_cache: self.near.clone(),
            rise: self.rise,
            flap_limit: None, // everybody is to be back when faults have stopped
            stall: self.timeout_now().filter(|_| self.stalls).map(|most| Stall {
                // The engine counts from when a request was queued, the judge from when it was written.
                least: Duration::from_nanos(2 * super::judge::PATIENCE),
                most,
            }),
            join_gets: self.joins,
            value_limit: self.value_limit,
            ..Pool::new("pool", listen, servers)
        };
        // Far more is looked at than usual, so that faults meet it.
        let slow_request = Some(Duration::from_millis(20));
        let mut settings = Settings { workers: self.workers, hot_keys: Some(3), slow_request, ..Settings::default() };
        if let Some(limit) = self.memory_limit {
            settings.memory_limit = limit * self.workers;
        }
        Arc::new(Config { settings, pools: vec![pool] })
    }
}

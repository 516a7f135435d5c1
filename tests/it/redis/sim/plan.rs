//! What a run is like, drawn from its seed.

use std::time::Duration;

use softmiss::config::model::{
    Config, Distribution, HashKind, Listen, NearCache, OnEject, OnFailure, Pool, Protocol, Rejoin, Server, Settings,
    Stall, Stampede,
};

use super::super::super::support::Random;

pub(super) const TIMEOUT: Duration = Duration::from_millis(400);
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A silence after which a server is not waited for, if it is.
pub(super) const STALL: Duration = Duration::from_millis(100);

/// Databases that clients select.
pub(super) const DATABASES: usize = 4;

/// What clients do besides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moves {
    pub(super) guards: bool,
    pub(super) flushes: bool,
    pub(super) memory: bool,
}

pub(super) const MOVES: Moves = Moves { guards: true, flushes: true, memory: true };

/// What one pool is like.
#[derive(Debug, Clone)]
pub(super) struct PoolPlan {
    pub(super) redis: bool,
    pub(super) servers: usize,
    pub(super) on_failure: OnFailure,
    pub(super) on_eject: OnEject,
    pub(super) rejoin: Rejoin,
    pub(super) auto_eject: bool,
    pub(super) server_connections: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) warmup: Option<Duration>,
    pub(super) stall: bool,
    pub(super) hash: HashKind,
    pub(super) distribution: Distribution,
    /// It is or was one that has who returns flushed.
    pub(super) flushes: bool,
    /// Who misses a key waits for who computes it, for so long.
    pub(super) waits: Option<Duration>,
    /// Values are copied that live for some time.
    pub(super) copies: bool,
    /// Values are kept, for so long.
    pub(super) near: Option<Duration>,
    /// And given in the place of a miss when their server is out.
    pub(super) stale: bool,
}

impl PoolPlan {
    /// Others of the options that can change while clients are served.
    pub(super) fn tune(&mut self, random: &mut Random) {
        let timeout = one_of(random, &[Some(TIMEOUT), Some(TIMEOUT / 2), Some(TIMEOUT * 4 / 5), None]);
        self.timeout = timeout;
        self.stall = timeout.is_some() && random.one_in(2);
        self.on_eject = one_of(random, &[OnEject::Rehash, OnEject::Rehash, OnEject::Hold]);
        self.rejoin = one_of(random, &[Rejoin::Keep, Rejoin::Flush]);
        self.flushes |= self.rejoin != Rejoin::Keep;
        if random.one_in(3) {
            self.hash = one_of(random, &[HashKind::Md5, HashKind::Fnv1_64, HashKind::Murmur]);
            self.distribution = one_of(random, &[Distribution::Ketama, Distribution::Ketama, Distribution::Modula]);
        }
    }
}

/// What a run is like.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) steps: usize,
    pub(super) pools: Vec<PoolPlan>,
    pub(super) clients: usize,
    /// For each worker; small ones are reached.
    pub(super) dedicated: usize,
    /// In bytes. Values are large then, and some clients never read.
    pub(super) memory_limit: Option<usize>,
    /// Databases that clients flush: the others must never be.
    pub(super) flushed: Vec<usize>,
    pub(super) flush_all: bool,
    /// One step in so many breaks or mends something; 0 for none.
    pub(super) fault_every: u64,
    /// One passing of time in so many is long enough for deadlines.
    pub(super) jump_every: u64,
    /// One step in so many has a client leave; 0 for none.
    pub(super) leave_every: u64,
    /// One draw in so many begins a guarded change.
    pub(super) guard_every: u64,
    /// One step in so many changes which servers there are, or options.
    pub(super) shift_every: u64,
    /// Servers are added, and nothing else.
    pub(super) grows: bool,
    /// Some values are so large that requests stay in the buffers that they came in.
    pub(super) large: bool,
    /// All ask for the same few keys, over two connections to each server: what one changes another asks for meanwhile.
    pub(super) crowded: bool,
    /// What is large instead, and what a turn may cost.
    pub(super) small: Option<(usize, usize)>,
}

fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len() as u64) as usize]
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = Random(seed ^ 0xfeed);
        let random = &mut random;
        let pool = |random: &mut Random, redis: bool, servers: usize| PoolPlan {
            redis,
            servers,
            on_failure: one_of(random, &[OnFailure::Error, OnFailure::Miss, OnFailure::Miss, OnFailure::Absorb]),
            on_eject: one_of(random, &[OnEject::Rehash, OnEject::Rehash, OnEject::Hold]),
            rejoin: one_of(random, &[Rejoin::Keep, if MOVES.flushes { Rejoin::Flush } else { Rejoin::Keep }]),
            auto_eject: !random.one_in(4),
            server_connections: 1 + random.below(2) as usize,
            timeout: Some(TIMEOUT),
            warmup: None,
            stall: false,
            hash: HashKind::Md5,
            distribution: Distribution::Ketama,
            flushes: false,
            waits: None,
            copies: false,
            near: None,
            stale: false,
        };
        let mut pools = vec![pool(random, true, 3)];
        if random.one_in(2) {
            pools.push(pool(random, true, 2));
            pools.push(pool(random, false, 2));
        }
        let memory_limit = (random.one_in(6) && MOVES.memory).then(|| 1 << (20 + random.below(3)));
        let mut plan = Self {
            seed,
            steps: 2500,
            clients: 3 + random.below(6) as usize + if memory_limit.is_some() { 4 } else { 0 },
            dedicated: one_of(random, &[1, 2, 3, 1000, 1000]),
            memory_limit,
            flushed: match random.below(3) {
                0 => Vec::new(),
                1 => vec![random.below(DATABASES as u64) as usize],
                _ => vec![1, 3],
            },
            flush_all: random.one_in(4),
            fault_every: one_of(random, &[20, 60, 200, 200, 600, 0]),
            jump_every: one_of(random, &[12, 100, 1000]),
            leave_every: one_of(random, &[30, 100, 100, 500]),
            guard_every: if MOVES.guards { one_of(random, &[2, 6, 20]) } else { u64::MAX },
            shift_every: 0,
            grows: false,
            large: false,
            crowded: false,
            small: None,
            pools,
        };
        let stall = random.one_in(2);
        for pool in &mut plan.pools {
            (pool.stall, pool.flushes) = (stall, pool.rejoin != Rejoin::Keep);
        }
        plan.shift_every = one_of(random, &[40, 150, 600, 600, 2000]);
        let mut random = Random(seed ^ 0xca1f);
        for pool in &mut plan.pools {
            let wait = Duration::from_millis(one_of(&mut random, &[1, 20, 100, 300]));
            pool.waits = random.one_in(3).then_some(wait);
            let ttl = Duration::from_millis(one_of(&mut random, &[50, 1_000, 60_000]));
            pool.near = random.one_in(2).then_some(ttl);
            pool.stale = random.one_in(2);
            pool.copies = pool.redis && pool.waits.is_some() && random.one_in(2);
        }
        plan.crowded = random.one_in(6);
        if plan.crowded {
            plan.pools.iter_mut().for_each(|pool| pool.server_connections = 2);
        }
        let mut random = Random(seed ^ 0x1a46e);
        plan.large = plan.memory_limit.is_none() && random.one_in(5);
        let random = &mut random;
        plan.small = (!plan.large && random.one_in(3))
            .then(|| (one_of(random, &[40, 80, 200]), one_of(random, &[100, 300, 3_000])));
        plan
    }

    /// Servers are added, and keys that move brought along. What is under way is waited for, however long it takes.
    pub(super) fn growing(seed: u64) -> Self {
        let mut plan = Self::draw(seed);
        plan.pools.truncate(1);
        let pool = &mut plan.pools[0];
        (pool.timeout, pool.stall, pool.auto_eject) = (None, false, false);
        (pool.rejoin, pool.flushes) = (Rejoin::Keep, false);
        pool.warmup = Some(Duration::from_secs(3600));
        let shift_every = [100, 400, 900][(seed % 3) as usize];
        Self { fault_every: 0, memory_limit: None, shift_every, grows: true, ..plan }
    }

    /// The configuration with these servers, for each pool.
    pub(super) fn config(&self, servers: Vec<Vec<Server>>) -> Config {
        let pools = self.pools.iter().zip(servers).enumerate().map(|(index, (plan, servers))| {
            let listen = Listen::Unix { path: format!("/nowhere{index}").into(), mode: None };
            let mut pool = Pool {
                protocol: if plan.redis { Protocol::Redis } else { Protocol::Memcache },
                hash: plan.hash,
                distribution: plan.distribution,
                hash_tag: Some([b'{', b'}']),
                timeout: plan.timeout,
                warmup: plan.warmup,
                auto_eject_hosts: plan.auto_eject,
                server_failure_limit: 2,
                server_retry_timeout: RETRY,
                server_connections: plan.server_connections,
                on_failure: plan.on_failure,
                on_eject: plan.on_eject,
                rejoin: plan.rejoin,
                flap_limit: None, // everybody is to be back when faults have stopped
                stall: plan.stall.then_some(Stall { least: STALL, most: TIMEOUT }),
                near_cache: plan.near.map(|ttl| {
                    let stale_on_error = plan.stale.then_some(Duration::from_secs(300));
                    NearCache { ttl, stale_on_error, ..NearCache::default() }
                }),
                stampede: plan.waits.map(|wait| {
                    let stale = plan.copies.then_some(Duration::from_secs(30));
                    Stampede { wait, stale, ..Stampede::default() }
                }),
                ..Pool::new(&format!("pool{index}"), listen, servers)
            };
            pool.redis.dedicated_connections = self.dedicated;
            pool
        });
        let mut settings =
            Settings { hot_keys: Some(2), slow_request: Some(Duration::from_millis(20)), ..Settings::default() };
        if let Some(limit) = self.memory_limit {
            settings.memory_limit = limit;
        }
        Config { settings, pools: pools.collect() }
    }
}

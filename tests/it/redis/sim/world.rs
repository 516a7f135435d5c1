//! The pretend world: a loop over random steps, and what they work on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{Address, Config, Listen, OnFailure, Pool, PoolId, Protocol, Server, Settings};
use softmiss::engine::{Effect, Engine, Scripts, Setup};
use softmiss::health::Board;
use softmiss::stats::counters::Counters;
use softmiss::time::Instant;

use super::super::super::support::Random;
use super::client::{Asked, Customer};
use super::servers::{Connection, Id, Node};

pub(super) const SERVERS: usize = 3;
pub(super) const CLIENTS: usize = 6;
pub(super) const TIMEOUT: Duration = Duration::from_millis(400);

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) random: Random,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) connections: Vec<Connection>,
    pub(super) connecting: Vec<(Id, usize)>,
    pub(super) customers: Vec<Customer>,
    pub(super) serial: u64,
    /// Jobs that somebody got.
    pub(super) popped: BTreeSet<Vec<u8>>,
    pub(super) errors: bool,
    pub(super) tally: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let server = |position: usize| Server {
            name: format!("s{position}"),
            address: Address::Tcp { host: "nowhere".to_owned(), port: 1 },
            weight: 1,
            position,
        };
        let listen = Listen::Unix { path: "/nowhere".into(), mode: None };
        let errors = random.one_in(3);
        let pool = Pool {
            protocol: Protocol::Redis,
            timeout: Some(TIMEOUT),
            auto_eject_hosts: !random.one_in(4),
            server_failure_limit: 2,
            server_retry_timeout: Duration::from_secs(1),
            server_connections: 1 + random.below(2) as usize,
            on_failure: if errors { OnFailure::Error } else { OnFailure::Miss },
            ..Pool::new("pool", listen, (0..SERVERS).map(server).collect())
        };
        let settings =
            Settings { hot_keys: Some(2), slow_request: Some(Duration::from_millis(20)), ..Settings::default() };
        let config = Arc::new(Config { settings, pools: vec![pool] });
        let mut engine = Engine::new(Setup {
            board: Arc::new(Board::new(&config, seed)),
            counters: Arc::new([Arc::new(Counters::new(&config))]),
            config,
            worker: 0,
            seed,
            started_at: Duration::ZERO,
            scripts: Scripts::default(),
        });
        let customers = (0..CLIENTS)
            .map(|_| Customer {
                session: engine.client_connected(PoolId(0)),
                asked: VecDeque::new(),
                input: Vec::new(),
                channels: BTreeSet::new(),
                heard: BTreeSet::new(),
                resp3: false,
            })
            .collect();
        Self {
            engine,
            random,
            now: 1,
            nodes: (0..SERVERS).map(|_| Node::default()).collect(),
            connections: Vec::new(),
            connecting: Vec::new(),
            customers,
            serial: 0,
            popped: BTreeSet::new(),
            errors,
            tally: BTreeMap::new(),
        }
    }

    pub(super) fn at(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// Lets time pass, with the engine's timers on the way.
    pub(super) fn pass(&mut self, nanos: u64) {
        let until = self.now + nanos;
        while let Some(next) = self.engine.next_timeout().filter(|next| next.as_nanos() <= until) {
            self.now = self.now.max(next.as_nanos());
            self.engine.handle_timeout(self.at());
            self.carry_out();
        }
        self.now = until;
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Connect { link, epoch } => {
                    let (_, server) = self.engine.link_server(link);
                    self.connecting.push(((link, epoch), server.index()));
                }
                Effect::Disconnect { link, .. } => {
                    self.connections.retain(|connection| connection.id.0 != link);
                    self.connecting.retain(|((known, _), _)| *known != link);
                }
                Effect::News | Effect::Notice(_) | Effect::Slow(_) => {}
            }
        }
        while self.engine.poll_client().is_some() {}
        while self.engine.poll_link().is_some() {}
    }

    pub(super) fn step(&mut self) {
        match self.random.below(24) {
            0..7 => self.ask(),
            7..10 => self.connect(),
            10..14 => self.carry_there(),
            14..19 => self.carry_back(),
            19 if self.random.one_in(4) => self.trouble(),
            19 => self.nodes.iter_mut().for_each(|node| (node.hung, node.dead) = (false, false)),
            _ => {
                let nanos = match self.random.below(12) {
                    0 => 300_000_000,
                    1..4 => 20_000_000,
                    _ => self.random.below(3_000_000),
                };
                self.pass(nanos);
            }
        }
        self.carry_out();
        self.read_answers();
        if let Err(what) = self.engine.check_invariants() {
            panic!("{what}");
        }
        let (now, slack) = (self.at(), Duration::from_millis(50));
        for customer in &self.customers {
            if let Some((asked, since)) = customer.asked.front()
                && !matches!(asked, Asked::Pop(_))
            {
                assert!(
                    now - *since <= TIMEOUT + slack,
                    "{asked:?} waits for {:?}, in front of {:?}",
                    now - *since,
                    customer.asked
                );
            }
        }
    }
}

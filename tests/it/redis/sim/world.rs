//! The pretend world: a loop over random steps, and what they work on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{PoolId, ServerId};
use softmiss::engine::{Effect, Engine, Notice, Scripts, Setup};
use softmiss::health::Registry;
use softmiss::health::tracker::State;
use softmiss::ring::Ring;
use softmiss::time::Instant;
use softmiss::topology::Published;

use super::super::super::support::Random;
use super::client::Customer;
use super::plan::Plan;
use super::servers::{Connection, Id};
use super::store::{Ledger, Node};

pub(super) const MS: u64 = 1_000_000;

/// The last steps of a run, kept when a failing one is run again.
pub(super) type History = Rc<RefCell<VecDeque<String>>>;

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) engine: Engine,
    pub(super) registry: Arc<Registry>,
    pub(super) random: Random,
    /// Nanoseconds.
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    /// For each pool, the ring of all its servers.
    homes: Vec<Ring>,
    pub(super) connections: Vec<Connection>,
    pub(super) connecting: Vec<(Id, usize)>,
    /// Attempts that are not wanted any more, of whose end the engine may hear still.
    forgotten: Vec<Id>,
    pub(super) customers: Vec<Customer>,
    pub(super) names: u64,
    pub(super) ledger: Ledger,
    /// Numbers jobs and messages.
    pub(super) serial: u64,
    /// Jobs that somebody got.
    pub(super) popped: BTreeSet<Vec<u8>>,
    /// All has been well for so long that everything must be answered by its server.
    pub(super) exact: bool,
    /// Faults have stopped.
    pub(super) calm: bool,
    pub(super) tally: BTreeMap<&'static str, u64>,
    board_version: u64,
    history: Option<History>,
}

impl World {
    pub(super) fn new(plan: Plan, history: Option<History>) -> Self {
        let seed = plan.seed;
        let config = plan.config();
        let published = Arc::new(Published::new((*config).clone(), seed));
        let registry = Arc::clone(&published.current().registry);
        let engine =
            Engine::new(Setup { published, worker: 0, seed, started_at: Duration::ZERO, scripts: Scripts::default() });
        let nodes = config.pools.iter().enumerate().flat_map(|(pool, of)| {
            (0..of.servers.len()).map(move |position| Node { pool, position, ..Node::default() })
        });
        let homes = config.pools.iter().map(|pool| Ring::new(pool, &vec![true; pool.servers.len()]));
        let mut world = Self {
            engine,
            registry,
            random: Random(seed),
            now: 1,
            nodes: nodes.collect(),
            homes: homes.collect(),
            connections: Vec::new(),
            connecting: Vec::new(),
            forgotten: Vec::new(),
            customers: Vec::new(),
            names: 0,
            ledger: Ledger::default(),
            serial: 0,
            popped: BTreeSet::new(),
            exact: false,
            calm: false,
            tally: BTreeMap::new(),
            board_version: 0,
            history,
            plan,
        };
        if world.plan.memory_limit.is_some() {
            world.fill();
        }
        (0..world.plan.clients).for_each(|_| world.join());
        world
    }

    pub(super) fn at(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(history) = &self.history {
            let mut history = history.borrow_mut();
            if history.len() == 400 {
                history.pop_front();
            }
            history.push_back(format!("{:>9} us {:>6}  {}", self.now / 1000, self.ledger.tick, what()));
        }
    }

    /// The place in `nodes` of a pool's server.
    fn place(&self, pool: usize, position: usize) -> usize {
        self.plan.pools[..pool].iter().map(|pool| pool.servers).sum::<usize>() + position
    }

    /// The server that has a key while all are in the ring.
    pub(super) fn home(&self, pool: usize, key: &str) -> usize {
        let position = self.homes[pool].route(key.as_bytes(), 0).map_or(0, ServerId::index);
        self.place(pool, position)
    }

    /// Lets time pass, with the engine's timers on the way.
    pub(super) fn pass(&mut self, nanos: u64) {
        let until = self.now + nanos;
        while let Some(next) = self.engine.next_timeout().filter(|next| next.as_nanos() <= until) {
            self.now = self.now.max(next.as_nanos());
            self.engine.handle_timeout(self.at());
            self.carry_out();
            self.read_answers();
        }
        self.now = until;
    }

    /// Does what the engine wants done.
    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            self.note(|| format!("{effect:?}"));
            match effect {
                Effect::Connect { link, epoch } => {
                    let (pool, server) = self.engine.link_server(link);
                    self.connecting.push(((link, epoch), self.place(pool.index(), server.index())));
                }
                Effect::Disconnect { link, lingers, .. } => {
                    self.bury(|connection| connection.id.0 == link, lingers.is_some());
                    if let Some((pool, server)) = lingers
                        && !self.connections.iter().any(|one| one.lingers && one.id.0 == link)
                    {
                        self.engine.link_ended(pool, server); // it died meanwhile
                    }
                    let over = self.connecting.iter().map(|(id, _)| *id).filter(|(known, _)| *known == link);
                    self.forgotten.extend(over);
                    self.connecting.retain(|((known, _), _)| *known != link);
                }
                Effect::Notice(Notice::Ejected { pool, server, .. }) => {
                    let place = self.place(pool.index(), server.index());
                    self.nodes[place].absences.push((self.ledger.tick, None));
                    self.count("ejected");
                }
                Effect::Notice(Notice::Restored { pool, server, .. }) => {
                    let (place, tick) = (self.place(pool.index(), server.index()), self.ledger.tick);
                    if let Some((_, back)) = self.nodes[place].absences.last_mut() {
                        back.get_or_insert(tick);
                    }
                    self.count("restored");
                }
                Effect::EndLingering { pool, server } => {
                    let place = self.place(pool.index(), server.index());
                    self.count("reset at last");
                    self.end_lingering(|one| one.server == place);
                }
                Effect::Read { .. } => {
                    unreachable!("nobody here lists keys, which alone makes a server wait to be read")
                }
                Effect::News | Effect::Inquire(_) | Effect::Found(_) | Effect::Notice(_) | Effect::Slow(_) => {}
            }
        }
        while self.engine.poll_client().is_some() {}
        while self.engine.poll_link().is_some() {}
        self.watch_board();
    }

    /// Notes which servers are out of the ring.
    fn watch_board(&mut self) {
        let changed = self.board_version != self.registry.version();
        self.board_version = self.registry.version();
        for node in &mut self.nodes {
            let was_out = node.is_out;
            if changed {
                let state = self.registry.state(PoolId(node.pool as u16), ServerId(node.position as u16));
                node.is_out = !matches!(state, State::Up { .. });
            }
            if was_out || node.is_out {
                node.out_at = Some(self.ledger.tick);
            }
        }
        self.judge_lingering();
    }

    /// The engine waits for the ends of as many connections to a server as there are.
    fn judge_lingering(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            let awaited = self.registry.lingering(PoolId(node.pool as u16), ServerId(node.position as u16));
            let lingering = self.connections.iter().filter(|one| one.lingers && one.server == place).count();
            assert_eq!(awaited, lingering, "connections to {}.{} whose end is waited for", node.pool, node.position);
        }
    }

    /// Runs the plan, then lets everything come to its end.
    pub(super) fn run(mut self) -> BTreeMap<&'static str, u64> {
        (0..self.plan.steps).for_each(|_| self.step());
        self.come_to_rest();
        self.tally
    }

    fn step(&mut self) {
        self.ledger.tick += 1;
        if self.plan.fault_every > 0 && self.random.one_in(self.plan.fault_every) {
            self.trouble();
        }
        if self.plan.leave_every > 0 && self.random.one_in(self.plan.leave_every) {
            self.leave();
        }
        match self.random.below(24) {
            0..7 => self.ask(),
            7..10 => self.connect(),
            // Several at a time, or requests would mostly wait.
            10..14 => (0..4).for_each(|_| {
                if let Some(at) = self.some_connection() {
                    self.carry_there(at);
                }
            }),
            14..19 => (0..4).for_each(|_| {
                if let Some(at) = self.some_connection() {
                    self.carry_back(at);
                }
            }),
            19 => self.remember(),
            20 => (0..self.customers.len()).for_each(|at| self.give(at)),
            _ => {
                let nanos = match self.random.below(12) {
                    _ if self.random.one_in(self.plan.jump_every) => 300 * MS,
                    0..3 => 20 * MS,
                    _ => self.random.below(3 * MS),
                };
                self.pass(nanos);
            }
        }
        self.settle();
    }

    /// The engine hears of an attempt that it does not want any more.
    fn remember(&mut self) {
        if let Some((link, epoch)) = self.forgotten.pop() {
            self.count("late connects");
            if self.random.one_in(2) {
                self.engine.link_connected(link, epoch, self.at());
            } else {
                self.engine.link_failed(link, epoch, softmiss::failure::Failure::Refused, self.at());
            }
        }
    }

    /// What follows every step.
    pub(super) fn settle(&mut self) {
        self.carry_out();
        self.read_answers();
        self.see_off();
        if let Err(what) = self.engine.check_invariants() {
            panic!("{what}");
        }
        self.judge_time();
        self.judge_memory();
    }
}

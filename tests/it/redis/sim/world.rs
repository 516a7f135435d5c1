//! The pretend world: a loop over random steps, and what they work on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{PoolId, Rejoin, ServerId};
use softmiss::engine::{Effect, Engine, Notice, Scripts, Setup};
use softmiss::health::Registry;
use softmiss::health::tracker::State;
use softmiss::time::Instant;
use softmiss::topology::{Published, Topology};

use super::super::super::support::Random;
use super::client::Customer;
use super::newest::Newest;
use super::plan::Plan;
use super::servers::{Connection, Id};
use super::store::{Absence, Ledger, Node};

pub(super) const MS: u64 = 1_000_000;

/// The last steps of a run, kept when a failing one is run again.
pub(super) type History = Rc<RefCell<VecDeque<String>>>;

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) engine: Engine,
    pub(super) published: Arc<Published>,
    /// The newest that was published, and its registry.
    pub(super) topology: Arc<Topology>,
    pub(super) registry: Arc<Registry>,
    /// What the pools that are served are known by.
    pub(super) ids: Vec<PoolId>,
    /// For each pool, when its servers or options last changed; when (in nanoseconds) it last had no timeout, or one that
    /// the worker had not heard of; and whether it knew of one at the end of the step before.
    pub(super) shifted: Vec<u64>,
    pub(super) untimed: Vec<u64>,
    timed: Vec<bool>,
    pub(super) newest: Newest,
    /// There is another topology, which the engine was not told yet.
    pub(super) has_news: bool,
    pub(super) random: Random,
    /// Nanoseconds.
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) connections: Vec<Connection>,
    pub(super) connecting: Vec<(Id, (PoolId, ServerId))>,
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
        // They stand in the order of their names.
        let nodes = plan.pools.iter().enumerate().flat_map(|(pool, of)| {
            (0..of.servers).map(move |server| Node {
                pool,
                name: format!("s{server}"),
                known: (PoolId(pool as u16), ServerId::at(server)),
                ..Node::default()
            })
        });
        let nodes: Vec<_> = nodes.collect();
        let published = Arc::new(Published::new(super::topology::config(&plan, &nodes), seed));
        let topology = published.current();
        let mut engine = Engine::new(Setup {
            published: Arc::clone(&published),
            worker: 0,
            seed,
            started_at: Duration::ZERO,
            scripts: Scripts::default(),
        });
        if let Some((large, turn)) = plan.small {
            engine.make_small(large, turn);
        }
        let pools = plan.pools.len();
        let mut world = Self {
            engine,
            published,
            registry: Arc::clone(&topology.registry),
            topology,
            ids: (0..pools).map(|pool| PoolId(pool as u16)).collect(),
            shifted: vec![0; pools],
            untimed: vec![0; pools],
            timed: vec![false; pools],
            newest: Newest::default(),
            has_news: false,
            random: Random(seed),
            now: 1,
            nodes,
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
                    self.connecting.push(((link, epoch), self.engine.link_server(link)));
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
                    self.leaves_ring((pool, server));
                    self.count("ejected");
                }
                Effect::Notice(Notice::Restored { pool, server, .. }) => {
                    let place = self.server_of((pool, server));
                    let (tick, node) = (self.ledger.tick, &mut self.nodes[place]);
                    if node.known == (pool, server) {
                        node.come_back(tick);
                    }
                    self.count("restored");
                }
                Effect::EndLingering { pool, server } => {
                    self.count("reset at last");
                    self.end_lingering(|one| one.of == (pool, server));
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

    /// A server is out of the ring from now on.
    pub(super) fn leaves_ring(&mut self, known: (PoolId, ServerId)) {
        let place = self.server_of(known);
        let (tick, node) = (self.ledger.tick, &mut self.nodes[place]);
        node.may_rejoin = true;
        if node.known == known {
            let flushes = self.plan.pools[node.pool].rejoin == Rejoin::Flush;
            node.absences.push(Absence { out: tick, back: None, flushes });
        }
    }

    /// Notes which servers are out of the ring.
    fn watch_board(&mut self) {
        let changed = self.board_version != self.registry.version();
        self.board_version = self.registry.version();
        let was_out: Vec<bool> = self.nodes.iter().map(|node| node.is_out).collect();
        if changed {
            self.see_who_is_out();
        }
        for (node, was_out) in self.nodes.iter_mut().zip(was_out) {
            if was_out || node.is_out {
                node.out_at = Some(self.ledger.tick);
            }
        }
    }

    fn see_who_is_out(&mut self) {
        for node in &mut self.nodes {
            let state = self.registry.state(node.known.0, node.known.1);
            node.is_out = node.left_at.is_none() && !matches!(state, State::Up { .. });
        }
        for pool in (0..self.plan.pools.len()).filter(|pool| self.spreads(*pool)).collect::<Vec<_>>() {
            let mut nodes = self.nodes.iter().filter(|node| node.pool == pool);
            if nodes.any(|node| node.is_out) {
                self.nodes.iter_mut().filter(|node| node.pool == pool).for_each(|node| node.is_out = true);
            }
        }
    }

    /// The engine waits for the ends of as many connections to a server, wherever it was, as there are.
    fn judge_lingering(&self) {
        let first = |(pool, server): (PoolId, ServerId)| (pool, self.topology.pool(pool).first_of_name(server));
        for node in &self.nodes {
            let awaited = self.registry.lingering(node.known.0, node.known.1);
            let is_its = |one: &&Connection| one.lingers && first(one.of) == first(node.known);
            let lingering = self.connections.iter().filter(is_its).count();
            assert_eq!(awaited, lingering, "connections to {} of {:?} whose end is waited for", node.name, node.known);
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
        if self.plan.shift_every > 0 && self.random.one_in(self.plan.shift_every) {
            self.shift();
        }
        self.hear_news();
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

    /// Whoever has waited without a timeout has one only from when the worker has heard of it: that may be some steps
    /// after it was published, and only then is a timer set, which fires at the next moment.
    fn note_timeouts(&mut self) {
        let known = &self.engine.topology().pools;
        for (index, (pool, id)) in self.plan.pools.iter().zip(&self.ids).enumerate() {
            let timed = known.get(id.index()).is_some_and(|pool| pool.timeout.is_some());
            let was_timed = std::mem::replace(&mut self.timed[index], timed);
            if pool.timeout.is_none() || !timed || !was_timed {
                self.untimed[index] = self.now;
            }
        }
    }

    /// What follows every step.
    pub(super) fn settle(&mut self) {
        self.note_timeouts();
        self.carry_out();
        self.read_answers();
        self.see_off();
        self.carry_out();
        if let Err(what) = self.engine.check_invariants() {
            panic!("{what}");
        }
        self.judge_leases();
        self.judge_lingering();
        self.judge_time();
        self.judge_memory();
    }
}

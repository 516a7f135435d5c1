//! The pretend world: a loop over random steps, and what they work on.

use std::collections::VecDeque;
use std::sync::Arc;

use softmiss::config::model::{Distribution, OnFailure, PoolId, Rejoin, ServerId};
use softmiss::engine::{Effect, Engine, Notice, Setup};
use softmiss::health::tracker::State;
use softmiss::time::Instant;
use softmiss::topology::{Pool, Published, Topology};

use super::client::{Client, Reader, Totals};
use super::draw::Style;
use super::judge::HOLD;
use super::ledger::Ledger;
use super::newest::Newest;
use super::plan::Plan;
use super::random::Random;
use super::servers::{Connection, ConnectionId, SimServer, Zombie};
use super::store::Store;
use super::tally::{Tally, Thing};

pub(super) const MS: u64 = 1_000_000;

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    /// Nanoseconds.
    pub(super) now: u64,
    pub(super) engines: Vec<Engine>,
    pub(super) published: Arc<Published>,
    /// The newest that was published.
    pub(super) topology: Arc<Topology>,
    /// The pool that is served.
    pub(super) pool: PoolId,
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<SimServer>,
    pub(super) connections: Vec<Connection>,
    /// Connects under way, and since when.
    pub(super) connecting: Vec<(ConnectionId, u64)>,
    pub(super) ledger: Ledger,
    /// For each key, its server while all are in the ring.
    pub(super) homes: Vec<usize>,
    pub(super) newest: Newest,
    reference: Store,
    names: usize,
    pub(super) answered: u64,
    pub(super) totals: Totals,
    /// Requests of clients that died, whose fate the counters do not tell.
    pub(super) bereft: bool,
    /// Clients that the engine has cut off.
    pub(super) cut_off: u64,
    pub(super) tally: Tally,
    /// Kept only when a failing seed is run again: to write it takes longer than all the rest.
    history: Option<VecDeque<String>>,
    pub(super) fingerprint: u64,
    /// Faults stop: what is in flight has to come to its end.
    pub(super) calm: bool,
    /// When somebody had last been waiting for long.
    pub(super) slow: Option<u64>,
    /// When, in nanoseconds, the pool had last no timeout, or one that workers had not heard of.
    pub(super) untimed: u64,
    /// Whether all workers knew of one at the end of the step before.
    timed: bool,
    board_version: u64,
    /// The operator has done something that the workers were not told yet.
    pub(super) has_news: bool,
    steps: u64,
    /// Leases that were given to who asked for the key behind.
    pub(super) given: u64,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let config = plan.config();
        let seed = plan.seed;
        let published = Arc::new(Published::new((*config).clone(), seed));
        let topology = published.current();
        let engines = (0..plan.workers).map(|worker| {
            let mut engine = Engine::new(Setup {
                published: Arc::clone(&published),
                worker,
                seed,
                started_at: std::time::Duration::from_secs(1_700_000_000),
                scripts: softmiss::engine::Scripts::default(),
            });
            engine.preconnect(Instant::ZERO);
            engine
        });
        let servers = (0..plan.servers).map(|index| {
            // They stand in the order of their names, which is that of their numbers.
            SimServer::new(format!("s{index}"), (PoolId(0), ServerId::at(index)))
        });
        let mut world = Self {
            random: Random::new(seed),
            now: MS,
            engines: engines.collect(),
            published,
            topology,
            pool: PoolId(0),
            clients: Vec::new(),
            servers: servers.collect(),
            connections: Vec::new(),
            connecting: Vec::new(),
            ledger: Ledger::new(
                plan.rejoin == Rejoin::Safe || plan.on_failure != OnFailure::Error || plan.warmup.is_some(),
            ),
            newest: Newest::default(),
            homes: Vec::new(),
            reference: Store::default(),
            names: 0,
            answered: 0,
            totals: Totals::default(),
            bereft: false,
            cut_off: 0,
            tally: Tally::default(),
            history: None,
            fingerprint: 0,
            calm: false,
            slow: None,
            untimed: 0,
            timed: false,
            board_version: 0,
            has_news: false,
            steps: 0,
            given: 0,
            plan,
        };
        world.find_homes();
        for _ in 0..world.plan.clients {
            world.join();
        }
        world
    }

    /// Writes down what happens.
    pub(super) fn with_history(mut self) -> Self {
        self.history = Some(VecDeque::new());
        self
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered + self.clients.iter().map(|client| client.answered).sum::<u64>()
    }

    pub(super) fn history(&self) -> String {
        self.history.iter().flatten().cloned().collect::<Vec<_>>().join("\n")
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(history) = &mut self.history {
            if history.len() == 200 {
                history.pop_front();
            }
            history.push_back(format!("{:>9} us  {:>6}  {}", self.now / 1000, self.ledger.tick, what()));
        }
    }

    pub(super) fn has_history(&self) -> bool {
        self.history.is_some()
    }

    /// Folds something that a client was told into the run's fingerprint.
    pub(super) fn fold(&mut self, number: u64) {
        self.fingerprint = (self.fingerprint ^ number ^ self.now).wrapping_mul(0x100_0000_01b3).rotate_left(7);
    }

    pub(super) fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    /// Runs the plan, then calms down and lets everything come to its end.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.come_to_rest()
    }

    fn step(&mut self) -> Result<(), String> {
        self.ledger.tick += 1;
        match self.random.below(100) {
            0..20 => self.ask()?,
            20..40 => self.give(),
            40..55 => self.write(),
            55..75 => self.serve()?,
            75..95 => self.hear(),
            _ => self.connect(),
        }
        if self.plan.shift_every > 0 && self.random.one_in(self.plan.shift_every) {
            self.shift();
        }
        if self.plan.copies() && self.plan.faults && self.random.one_in(10) {
            self.evict();
        }
        if self.plan.fault_every > 0 && self.random.one_in(self.plan.fault_every) {
            self.fault();
        }
        self.haunt()?;
        self.pass_time();
        self.settle_step()
    }

    /// What follows every step, of whatever kind.
    pub(super) fn settle_step(&mut self) -> Result<(), String> {
        self.note_timeout();
        loop {
            for worker in 0..self.engines.len() {
                self.carry_out(worker);
            }
            self.watch_board();
            self.read()?;
            // What was read makes room for requests that waited, perhaps until after their deadline.
            if !self.fire_timers() {
                break;
            }
        }
        // Who was cut off waits for nothing any more.
        self.see_off()?;
        for index in 0..self.clients.len() {
            self.is_in_time(index)?;
        }
        self.judge_leases()?;
        self.steps += 1;
        for engine in &self.engines {
            super::balance::check_memory(engine, &self.plan, self.clients.len())?;
            if self.steps.is_multiple_of(self.plan.check_every) {
                engine.check_invariants()?;
            }
        }
        Ok(())
    }

    /// Whoever has waited without a timeout has one only from when its worker has heard of it: that may be some steps
    /// after it was published, and only then is a timer set, which fires at the next moment.
    fn note_timeout(&mut self) {
        let has_one = |pool: Option<&Pool>| pool.is_some_and(|pool| pool.timeout.is_some());
        let pool = self.pool.index();
        let timed = self.engines.iter().all(|engine| has_one(engine.topology().pools.get(pool)));
        let was_timed = std::mem::replace(&mut self.timed, timed);
        if self.plan.timeout_percent.is_none() || !timed || !was_timed {
            self.untimed = self.now;
        }
    }

    fn pass_time(&mut self) {
        let mut span = self.random.below(self.plan.step_us * 1000);
        if self.plan.jumps && self.random.one_in(1000) {
            // The engine does nothing meanwhile: what it may hold against a server it still holds afterwards.
            let held = |at: &u64| at + HOLD > self.now;
            self.servers.iter_mut().for_each(|server| server.jumped = server.trouble.as_ref().is_some_and(held));
            // The process stands still: a machine that is suspended, a debugger.
            self.tally.add(Thing::TimeJump);
            span = self.random.below(2_000 * MS);
        }
        self.pass(span);
    }

    pub(super) fn pass(&mut self, span: u64) {
        self.now += span;
        self.fire_timers();
    }

    /// Carries out the timers that are due; `false` when there are none.
    fn fire_timers(&mut self) -> bool {
        let now = self.instant();
        let mut fired = false;
        for engine in &mut self.engines {
            while engine.next_timeout().is_some_and(|next| next <= now) {
                engine.handle_timeout(now);
                fired = true;
            }
        }
        fired
    }

    /// Does what the engine wants done.
    fn carry_out(&mut self, worker: usize) {
        while let Some(effect) = self.engines[worker].poll_effect() {
            self.note(|| format!("worker {worker}: {effect:?}"));
            match effect {
                Effect::Connect { link, epoch } => self.connecting.push(((worker, link, epoch), self.now)),
                Effect::Disconnect { link, lingers, .. } => {
                    let index = self.server_of(worker, link);
                    let server = &mut self.servers[index];
                    let zombies = server.zombies.len();
                    (server.trouble, server.untouched) = (Some(self.now), false);
                    while let Some(index) =
                        self.connections.iter().position(|one| one.id.0 == worker && one.id.1 == link)
                    {
                        self.bury(index);
                    }
                    self.connecting.retain(|((of, known, _), _)| *of != worker || *known != link);
                    if let Some((pool, id)) = lingers {
                        self.tally.add(Thing::Lingering);
                        let server = &mut self.servers[index];
                        match server.zombies.get_mut(zombies) {
                            Some(zombie) => zombie.lingers = Some((worker, pool, id)),
                            // The network has lost its end: the server will never hear of it.
                            None if self.random.one_in(4) => server.unheard.push((worker, pool, id)),
                            None => self.engines[worker].link_ended(pool, id),
                        }
                    }
                }
                Effect::EndLingering { pool, server: id } => {
                    let (waiter, mut ended) = ((worker, pool, id), 0);
                    for server in &mut self.servers {
                        let before = server.unheard.len();
                        server.unheard.retain(|of| *of != waiter);
                        ended += before - server.unheard.len();
                        for zombie in server.zombies.iter_mut().filter(|zombie| zombie.lingers == Some(waiter)) {
                            zombie.lingers = None;
                            ended += 1;
                        }
                    }
                    (0..ended).for_each(|_| self.engines[worker].link_ended(pool, id));
                }
                Effect::News => {
                    let now = self.instant();
                    for engine in &mut self.engines {
                        engine.handle_timeout(now);
                    }
                }
                Effect::Read { .. } => {
                    unreachable!("nobody here lists keys, which alone makes a server wait to be read")
                }
                Effect::Slow(_) | Effect::Inquire(_) | Effect::Found(_) => {}
                Effect::Notice(Notice::Ejected { .. }) => self.tally.add(Thing::Ejected),
                Effect::Notice(Notice::Restored { .. }) => self.tally.add(Thing::Restored),
                Effect::Notice(Notice::Silent { .. }) => self.tally.add(Thing::Stalled),
                Effect::Notice(
                    Notice::Stranger { .. }
                    | Notice::NotAdmitted { .. }
                    | Notice::Violation { .. }
                    | Notice::HeldBack { .. }
                    | Notice::Unflushed { .. }
                    | Notice::Copyless { .. }
                    | Notice::Unfinished { .. }
                    | Notice::Denied { .. }
                    | Notice::CutOff { .. }
                    | Notice::Limit { .. }
                    | Notice::Failing { .. }
                    | Notice::Well { .. },
                ) => {}
            }
        }
        while self.engines[worker].poll_client().is_some() {}
        while self.engines[worker].poll_link().is_some() {}
    }

    /// A connection is gone. What the server has received of it, it may carry out still.
    pub(super) fn bury(&mut self, index: usize) {
        let connection = self.connections.swap_remove(index);
        let server = &mut self.servers[connection.server];
        server.trouble = Some(self.now);
        server.untouched = false;
        if connection.poisoned {
            server.poisoned -= 1;
            server.poisoned_until = Some(self.ledger.tick);
        }
        if !connection.to_server.is_empty() && server.listens && self.random.one_in(2) {
            let bytes = connection.to_server.as_slice().to_vec();
            server.zombies.push(Zombie { bytes, lingers: None });
        }
    }

    /// Notes which servers are out of the ring.
    pub(super) fn watch_board(&mut self) {
        for server in &mut self.servers {
            if std::mem::take(&mut server.jumped) {
                server.trouble = Some(self.now);
            }
        }
        // When the process stood still, what it had not written yet looks like silence of the server.
        for server in self.servers.iter_mut().filter(|_| self.plan.jumps) {
            let (pool, id) = server.known;
            let stalls = self.topology.counters.iter().map(|worker| worker.server(pool, id).stalls.value()).sum();
            if server.stalls != stalls {
                (server.stalls, server.trouble) = (stalls, Some(self.now));
            }
        }
        let version = self.topology.registry.version();
        let changed = version != self.board_version;
        self.board_version = version;
        self.note_who_is_out();
        if changed {
            self.see_who_is_out();
            self.note_who_is_out();
        }
    }

    fn note_who_is_out(&mut self) {
        let tick = self.ledger.tick;
        self.servers.iter_mut().filter(|server| server.is_out).for_each(|server| server.out_at = Some(tick));
    }

    /// Where weights differ, a server that is out changes how many points of the ring the others have, and where keys are
    /// counted out, which of the others has which: then a key may be anybody's, and all count as out.
    fn see_who_is_out(&mut self) {
        for server in &mut self.servers {
            let state = self.topology.registry.state(server.known.0, server.known.1);
            server.is_out = !matches!(state, State::Up { .. });
        }
        let members = || self.servers.iter().filter(|server| server.left_at.is_none());
        let differ = members().zip(members().skip(1)).any(|(one, next)| one.weight != next.weight);
        let differ = differ || self.plan.distribution == Distribution::Modula;
        if differ && members().any(|server| server.is_out) {
            self.servers.iter_mut().for_each(|server| server.is_out = true);
        }
    }

    pub(super) fn join(&mut self) {
        let worker = self.random.index(self.plan.workers);
        let id = self.engines[worker].client_connected(self.pool);
        let reader = match self.random.below(8) {
            0 if self.plan.slow_readers => Reader::Stuck,
            1..4 if self.plan.slow_readers => Reader::Slow,
            _ => Reader::Prompt,
        };
        match reader {
            Reader::Prompt => {}
            Reader::Slow => self.tally.add(Thing::SlowReader),
            Reader::Stuck => self.tally.add(Thing::StuckReader),
        }
        self.clients.push(Client::new(id, worker, self.names, reader));
        self.names += 1;
    }

    pub(super) fn style(&self) -> Style {
        Style {
            private: !self.plan.faults,
            loud: self.plan.faults && self.plan.on_failure == OnFailure::Error,
            plain: self.plan.plain,
            crowded: self.plan.crowded,
            // Where keys move, what writes them meanwhile is what is looked for.
            rereads: self.plan.crowded && self.plan.faults && !self.plan.grows,
            lives: self.plan.copies(),
            big: self.plan.big,
            value_limit: self.plan.value_limit,
        }
    }

    /// A client draws requests.
    fn ask(&mut self) -> Result<(), String> {
        let index = self.random.index(self.clients.len());
        let style = self.style();
        for _ in 0..1 + self.random.index(self.plan.burst) {
            let client = &mut self.clients[index];
            if client.ending || client.pending.len() > 12 + self.plan.burst || client.outgoing.len() > 60_000 {
                break;
            }
            let request = client.draw(&mut self.random, style, &mut self.ledger, &mut self.tally);
            if !self.plan.faults {
                let mut answer = Vec::new();
                self.reference.execute(request, 0, &mut answer).ok_or("a request that is not whole")?;
                client.expected.tail().extend_from_slice(&answer);
            }
        }
        Ok(())
    }
}

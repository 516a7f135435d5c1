//! The hosts, each with an engine and a view of the network of its own, and the order of what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{PoolId, ServerId};
use softmiss::engine::ids::LinkId;
use softmiss::engine::{Effect, Engine, Setup};
use softmiss::time::Instant;
use softmiss::topology::{Published, Topology};

use super::customers::Customer;
use super::judge::{Judge, Tally};
use super::network::{Connection, Direction, Packet, Road};
use super::oracle::Seen;
use super::plan::{Change, MS, Plan};
use super::servers::{STARTED, Server};
use crate::sim::random::Random;
use crate::sim::store::Key;
use crate::sim::topology::process;

pub(super) const POOL: PoolId = PoolId(0);

/// Something that happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    Arrives(usize, Direction, Packet),
    /// A host's engine has something to do.
    Due(usize),
    /// A host's client asks something.
    Asks(usize, usize),
    Expires {
        server: usize,
        key: Key,
        unique: u64,
    },
    Changes(Change),
    /// Whoever sees all hosts looks.
    Looks,
    /// A host hears that a server is to be taken out, or let back.
    Hears {
        host: usize,
        server: usize,
        is_out: bool,
    },
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) published: Arc<Published>,
    pub(super) topology: Arc<Topology>,
    /// The connection of each link.
    pub(super) links: BTreeMap<LinkId, usize>,
    pub(super) customers: Vec<Customer>,
    /// The tick at which a server last carried out a delete of a key for this host.
    pub(super) deleted: BTreeMap<usize, u64>,
    /// Servers of which it is about to hear.
    pub(super) is_told: BTreeSet<usize>,
    /// Servers that have left its file.
    pub(super) left: BTreeSet<usize>,
    /// When its engine is looked after next.
    due: Option<u64>,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    /// Nanoseconds.
    pub(super) now: u64,
    /// Numbers what happens.
    pub(super) tick: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) servers: Vec<Server>,
    pub(super) connections: Vec<Connection>,
    pub(super) roads: Vec<Vec<Road>>,
    /// What whoever sees all hosts has made of each server.
    pub(super) seen: Vec<Seen>,
    pub(super) judge: Judge,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
}

impl World {
    /// Runs a plan to its end.
    pub(super) fn run(plan: Plan) -> Tally {
        let mut world = Self::new(plan);
        while let Some(((at, _), event)) = world.events.pop_first() {
            if at >= plan.ends * MS {
                break;
            }
            world.now = at;
            world.tick += 1;
            world.happens(event);
        }
        for host in &world.hosts {
            host.engine.check_invariants().expect("what must hold");
        }
        world.judge.tally
    }

    fn new(plan: Plan) -> Self {
        let hosts = (0..plan.hosts).map(|host| {
            let seed = plan.seed.wrapping_mul(1_000).wrapping_add(host as u64);
            let published = Arc::new(Published::new(plan.config(&BTreeSet::new()), seed));
            let mut engine = Engine::new(Setup {
                published: Arc::clone(&published),
                worker: 0,
                seed,
                started_at: Duration::from_secs(STARTED),
                scripts: softmiss::engine::Scripts::default(),
            });
            engine.preconnect(Instant::ZERO);
            let customers = (0..plan.clients).map(|_| Customer::new(engine.client_connected(POOL))).collect();
            Host {
                engine,
                topology: published.current(),
                published,
                links: BTreeMap::new(),
                customers,
                deleted: BTreeMap::new(),
                is_told: BTreeSet::new(),
                left: BTreeSet::new(),
                due: None,
            }
        });
        let mut world = Self {
            random: Random::new(plan.seed),
            now: MS,
            tick: 0,
            hosts: hosts.collect(),
            servers: (0..plan.servers).map(|_| Server::new(&plan)).collect(),
            connections: Vec::new(),
            roads: vec![vec![Road::FREE; plan.servers]; plan.hosts],
            seen: vec![Seen::LISTED; plan.servers],
            judge: Judge::new(&plan),
            events: BTreeMap::new(),
            scheduled: 0,
            plan,
        };
        for (at, change) in plan.changes() {
            world.schedule(at, Event::Changes(change));
        }
        for host in 0..plan.hosts {
            for client in 0..plan.clients {
                world.ask_later(host, client);
            }
        }
        if plan.policy.agreed.is_some() {
            world.schedule(MS, Event::Looks);
        }
        world
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    /// How many hosts a server answers.
    pub(super) fn reached_by(&self, server: usize) -> usize {
        let of = &self.servers[server];
        let reaches = |roads: &&Vec<Road>| of.is_well() && roads[server].is_whole();
        self.roads.iter().filter(reaches).count()
    }

    pub(super) fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives(at, Direction::There, packet) => self.reach_server(at, packet),
            Event::Arrives(at, Direction::Back, packet) => self.reach_host(at, packet),
            Event::Due(host) => {
                if self.hosts[host].due == Some(self.now) {
                    self.hosts[host].due = None;
                    self.attend(host);
                }
            }
            Event::Asks(host, client) => self.ask(host, client),
            Event::Expires { server, key, unique } => self.expire(server, key, unique),
            Event::Changes(Change::Road { host, server, there, back }) => self.change_road(host, server, there, back),
            Event::Changes(Change::Kill(server)) => self.kill(server),
            Event::Changes(Change::Start(server)) => self.start(server),
            Event::Changes(Change::Stop(server)) => self.stop(server),
            Event::Changes(Change::Resume(server)) => self.resume(server),
            Event::Looks => self.look_at_all(),
            Event::Hears { host, server, is_out } => self.hear(host, server, is_out),
        }
    }

    /// Does what a host's engine wants done, as the shell would.
    pub(super) fn attend(&mut self, host: usize) {
        let now = self.instant();
        loop {
            let engine = &mut self.hosts[host].engine;
            while engine.next_timeout().is_some_and(|next| next <= now) {
                engine.handle_timeout(now);
            }
            let mut moved = false;
            while let Some(effect) = self.hosts[host].engine.poll_effect() {
                moved = true;
                self.effect(host, effect);
            }
            while let Some(link) = self.hosts[host].engine.poll_link() {
                moved = true;
                self.write_to_server(host, link);
            }
            while let Some(id) = self.hosts[host].engine.poll_client() {
                moved = true;
                self.write_to_client(host, id);
            }
            if !moved {
                break;
            }
        }
        let this = &mut self.hosts[host];
        if let Some(next) = this.engine.next_timeout().map(Instant::as_nanos)
            && this.due.is_none_or(|due| next < due)
        {
            this.due = Some(next);
            self.schedule(next, Event::Due(host));
        }
    }

    fn effect(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::Connect { link, epoch } => {
                if !self.hosts[host].engine.link_is_current(link, epoch) {
                    return;
                }
                let server = process(self.hosts[host].engine.link_address(link));
                let at = self.connections.len();
                self.connections.push(Connection::new(host, server, link, epoch));
                self.hosts[host].links.insert(link, at);
                self.send(at, Direction::There, Packet::Open);
            }
            Effect::Disconnect { link, reset, lingers } => {
                let at = self.hosts[host].links.remove(&link);
                self.give_up(host, at, reset, lingers);
            }
            Effect::EndLingering { pool, server } => {
                for at in 0..self.connections.len() {
                    let connection = &mut self.connections[at];
                    if connection.host == host && connection.lingers == Some((pool, server)) {
                        connection.lingers = None;
                        connection.take_back();
                        self.hosts[host].engine.link_ended(pool, server);
                    }
                }
            }
            // There is one worker, and who asks reads nothing but keys.
            Effect::News
            | Effect::Read { .. }
            | Effect::Inquire(_)
            | Effect::Found(_)
            | Effect::Notice(_)
            | Effect::Slow(_) => {}
        }
    }

    /// A host gives up a connection.
    fn give_up(&mut self, host: usize, at: Option<usize>, reset: bool, lingers: Option<(PoolId, ServerId)>) {
        if let Some(at) = at {
            let connection = &mut self.connections[at];
            connection.is_given_up = true;
            if connection.is_open {
                connection.lingers = lingers;
                match reset {
                    true => connection.take_back(),
                    false => self.send(at, Direction::There, Packet::End),
                }
                return;
            }
            connection.take_back();
        }
        if let Some((pool, server)) = lingers {
            self.hosts[host].engine.link_ended(pool, server);
        }
    }

    pub(super) fn write_to_server(&mut self, host: usize, link: LinkId) {
        let now = self.instant();
        let Some(at) = self.hosts[host].links.get(&link).copied() else { return };
        let (epoch, is_open) = (self.connections[at].epoch, self.connections[at].is_open);
        let engine = &mut self.hosts[host].engine;
        let bytes = engine.link_output(link, epoch).to_vec();
        if is_open && !bytes.is_empty() {
            engine.link_wrote(link, epoch, bytes.len(), now);
            self.send(at, Direction::There, Packet::Bytes(bytes));
        }
    }
}

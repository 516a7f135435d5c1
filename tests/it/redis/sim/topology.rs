//! Which servers there are, and how keys come to them, changes under a run: each process is found at an address of its own,
//! whoever has that address in the newest topology.

use std::collections::BTreeSet;
use std::sync::Arc;

use softmiss::config::model::{Address, Config, Distribution, PoolId, Rejoin, Server, ServerId};

use super::plan::Plan;
use super::store::{Absence, Node};
use super::world::World;

/// Processes that a run has at most, those of servers that have left included.
const PROCESSES: usize = 16;

fn process(address: &Address) -> usize {
    let Address::Tcp { port, .. } = address else { unreachable!("all are TCP") };
    usize::from(*port) - 1
}

/// The configuration with the servers that are there.
pub(super) fn config(plan: &Plan, nodes: &[Node]) -> Config {
    let servers = |pool: usize| {
        let members = nodes.iter().enumerate().filter(move |(_, node)| node.pool == pool && node.left_at.is_none());
        members.map(|(index, node)| Server {
            id: ServerId(0),
            name: node.name.clone(),
            ring_name: None,
            address: Address::Tcp { host: "nowhere".to_owned(), port: index as u16 + 1 },
            weight: node.weight,
            position: index,
        })
    };
    plan.config((0..plan.pools.len()).map(|pool| servers(pool).collect()).collect())
}

impl World {
    /// The place in `nodes` of a server, whether it is there or has left.
    pub(super) fn server_of(&self, (pool, server): (PoolId, ServerId)) -> usize {
        process(&self.topology.pool(pool).server(server).address)
    }

    /// The server that has a key while all are in the ring.
    pub(super) fn home(&self, pool: usize, key: &str) -> usize {
        let id = self.ids[pool];
        let home = self.topology.pool(id).home.route(key.as_bytes(), 0);
        self.server_of((id, home.unwrap_or(ServerId(0))))
    }

    /// Servers come, go, or move, or options change.
    pub(super) fn shift(&mut self) {
        let pool = self.random.below(self.plan.pools.len() as u64) as usize;
        let of_pool = |node: &&Node| node.pool == pool;
        let members: BTreeSet<_> =
            self.nodes.iter().filter(of_pool).filter(|node| node.left_at.is_none()).map(|node| &node.name).collect();
        let is_gone = |at: &usize| self.nodes[*at].pool == pool && !members.contains(&self.nodes[*at].name);
        let (count, gone) = (members.len(), (0..self.nodes.len()).filter(is_gone).collect::<Vec<_>>());
        let there = |at: &usize| self.nodes[*at].pool == pool && self.nodes[*at].left_at.is_none();
        let there: Vec<_> = (0..self.nodes.len()).filter(there).collect();
        let one = there[self.random.below(there.len() as u64) as usize];
        let has_room = self.nodes.len() < PROCESSES;
        if self.plan.grows && self.nodes.len() > self.plan.pools[pool].servers + 2 {
            return;
        }
        let what = match if self.plan.grows { 4 } else { self.random.below(16) } {
            0 => {
                self.replace(pool);
                "pools replaced"
            }
            1..4 if count > 1 => {
                self.let_go(one);
                "servers removed"
            }
            4..6 if has_room => {
                let name = format!("s{}", self.nodes.len());
                self.nodes.push(Node { pool, name, ..Node::default() });
                "servers added"
            }
            6..9 if has_room => {
                let name = self.nodes[one].name.clone();
                self.let_go(one);
                self.nodes.push(Node { pool, name, ..Node::default() });
                self.take_name(self.nodes.len() - 1);
                "servers moved"
            }
            9..12 if !gone.is_empty() => {
                let back = gone[self.random.below(gone.len() as u64) as usize];
                self.let_back(back);
                "servers back"
            }
            12..15 => {
                self.tune(pool);
                "options changed"
            }
            _ => {
                self.nodes[one].weight = 1 + self.random.below(3) as u32;
                "weights changed"
            }
        };
        self.count(what);
        self.note(|| format!("pool {pool}: {what}, {:?}", self.plan.pools[pool]));
        self.publish(&config(&self.plan, &self.nodes));
        // Who asked before may be answered by whom they had before.
        self.shifted[pool] = self.ledger.tick;
        let (id, tick) = (self.ids[pool], self.ledger.tick);
        for server in &Arc::clone(&self.topology).pool(id).servers {
            self.nodes[process(&server.address)].known = (id, server.id);
        }
        for node in self.nodes.iter_mut().filter(|node| node.pool == pool) {
            (node.out_at, node.may_rejoin) = (Some(tick), true);
        }
    }

    fn publish(&mut self, config: &Config) {
        self.topology = self.published.publish(config, self.at()).expect("there are ids left");
        self.registry = Arc::clone(&self.topology.registry);
        self.has_news = true;
    }

    /// Some workers hear of it by themselves, others when they do something next.
    pub(super) fn hear_news(&mut self) {
        if self.has_news && (self.calm || self.random.one_in(4)) {
            self.has_news = false;
            self.engine.handle_timeout(self.at());
            self.carry_out();
        }
    }

    /// A pool is served no longer, and another one of its name is, before anybody notices.
    fn replace(&mut self, pool: usize) {
        let mut others = config(&self.plan, &self.nodes);
        others.pools.remove(pool);
        self.publish(&others);
        self.ids[pool] = PoolId(self.topology.pools.len() as u16);
        let untimed = self.plan.pools[pool].timeout.is_none();
        for customer in self.customers.iter_mut().filter(|customer| customer.pool == pool) {
            (customer.dismissed, customer.untimed) = (true, customer.untimed || untimed);
            self.ledger.dismissed.insert(customer.name);
        }
        // Those of its servers that were out are flushed in the next one before anything of them is believed.
        let tick = self.ledger.tick;
        let flushes = self.plan.pools[pool].rejoin == Rejoin::Flush;
        for node in self.nodes.iter_mut().filter(|node| node.pool == pool) {
            let is_there = node.left_at.is_none();
            for absence in &mut node.absences {
                absence.back.get_or_insert(tick);
                absence.flushes &= flushes && is_there;
            }
        }
    }

    fn let_go(&mut self, one: usize) {
        let (tick, node) = (self.ledger.tick, &mut self.nodes[one]);
        node.left_at = Some(tick);
        let flushes = self.plan.pools[node.pool].rejoin == Rejoin::Flush;
        // What it is to forget by now is forgotten where its name is.
        node.absences = vec![Absence { out: tick, back: None, flushes }];
        node.aways.push((tick, None));
    }

    /// It is the server of its name from now on.
    fn take_name(&mut self, one: usize) {
        let (pool, name) = (self.nodes[one].pool, self.nodes[one].name.clone());
        let others = self.nodes.iter_mut().enumerate().filter(|(at, node)| *at != one && node.pool == pool);
        for (_, node) in others.filter(|(_, node)| node.name == name) {
            node.named_elsewhere = self.ledger.tick;
        }
    }

    fn let_back(&mut self, one: usize) {
        self.take_name(one);
        let (tick, node) = (self.ledger.tick, &mut self.nodes[one]);
        node.left_at = None;
        node.come_back(tick);
        if let Some((_, back)) = node.aways.last_mut() {
            *back = Some(tick);
        }
    }

    /// A pool has other options.
    fn tune(&mut self, pool: usize) {
        self.plan.pools[pool].tune(&mut self.random);
        if self.plan.pools[pool].rejoin != Rejoin::Flush {
            let absences = self.nodes.iter_mut().filter(|node| node.pool == pool).map(|node| &mut node.absences);
            absences.filter_map(|absences| absences.last_mut()).for_each(|last| last.flushes &= last.back.is_some());
        }
    }

    /// A write reaches the home of its key, unless that was out of the ring since the write was drawn, and nobody who had left
    /// before.
    pub(super) fn check_route(&self, server: usize, value: &[u8], database: usize, key: &[u8]) -> Result<(), String> {
        let (pool, key) = (self.nodes[server].pool, String::from_utf8_lossy(key));
        let write = &self.ledger.writes[self.ledger.written(value, pool, database, &key)?];
        if self.ledger.dismissed.contains(&write.client) {
            return Ok(());
        }
        if self.nodes[server].had_left(write.drawn) {
            return Err(format!("it had left before, and carries out {write:?}"));
        }
        let home = self.home(pool, &key);
        if home == server || self.nodes[home].was_out(write.drawn) {
            return Ok(());
        }
        Err(format!("the home {home} is in the ring, and not it carries out {write:?}"))
    }

    /// Where a server that is out changes which of the others have what: with weights that differ, as the points of the
    /// ring are shared out anew, and where keys are counted out.
    pub(super) fn spreads(&self, pool: usize) -> bool {
        let mut weights =
            self.nodes.iter().filter(|node| node.pool == pool && node.left_at.is_none()).map(|node| node.weight);
        let first = weights.next();
        self.plan.pools[pool].distribution == Distribution::Modula || weights.any(|weight| Some(weight) != first)
    }
}

//! Which servers there are changes under a run: each process is found at an address of its own, whoever has that address in
//! the newest topology.

use std::sync::Arc;

use softmiss::config::model::{Address, Config, PoolId, Rejoin, Server, ServerId};
use softmiss::engine::ids::LinkId;

use super::servers::SimServer;
use super::store::Key;
use super::tally::Thing;
use super::world::World;

/// Processes that a run has at most, those of servers that have left included.
const PROCESSES: usize = 12;

/// Where the process of a number is found.
pub(super) fn address(process: usize) -> Address {
    Address::Tcp { host: "sim".to_owned(), port: process as u16 + 1 }
}

/// The number of the process that is found there.
pub(super) fn process(address: &Address) -> usize {
    let Address::Tcp { port, .. } = address else { unreachable!("all are TCP") };
    usize::from(*port) - 1
}

impl World {
    /// The process that a link leads to.
    pub(super) fn server_of(&self, worker: usize, link: LinkId) -> usize {
        process(self.engines[worker].link_address(link))
    }

    /// For each key, the process that it belongs to while all are in the ring.
    pub(super) fn find_homes(&mut self) {
        let pool = self.topology.pool(self.pool);
        let home = |key: Key| pool.home.route(key.to_string().as_bytes(), 0);
        let home = |key: Key| home(key).map_or(0, |server| process(&pool.server(server).address));
        self.homes = Key::all().map(home).collect();
    }

    /// Servers come, go, or move.
    pub(super) fn shift(&mut self) {
        let members: Vec<usize> = (0..self.servers.len()).filter(|it| self.servers[*it].left_at.is_none()).collect();
        let one = self.random.pick(&members);
        let gone: Vec<usize> = (0..self.servers.len())
            .filter(|it| !members.iter().any(|member| self.servers[*member].name == self.servers[*it].name))
            .collect();
        let has_room = self.servers.len() < PROCESSES;
        if self.plan.grows && self.servers.len() > self.plan.servers + 2 {
            return;
        }
        let thing = match if self.plan.grows { 4 } else { self.random.below(14) } {
            0 => {
                // Before anybody notices: who goes over from one topology to the next leaves one out.
                self.publish(&Config { pools: Vec::new(), ..(*self.plan.config()).clone() });
                for client in &mut self.clients {
                    client.dismissed = true;
                    client.untimed |= self.plan.timeout_percent.is_none();
                    self.ledger.dismissed.insert(client.name);
                }
                self.bereft = true; // what they had sent last may never be looked at
                self.pool = PoolId(self.topology.pools.len() as u16);
                Thing::Replaced
            }
            1..4 if members.len() > 1 => {
                self.servers[one].left_at = Some(self.ledger.tick);
                Thing::Removed
            }
            4..6 if has_room => {
                let name = format!("s{}", self.servers.len());
                self.servers.push(SimServer::new(name, (self.pool, ServerId(0))));
                Thing::Added
            }
            6..9 if has_room => {
                self.servers[one].left_at = Some(self.ledger.tick);
                let name = self.servers[one].name.clone();
                self.servers.push(SimServer::new(name, (self.pool, ServerId(0))));
                Thing::Moved
            }
            9..11 if !gone.is_empty() => {
                let back = self.random.pick(&gone);
                self.servers[back].left_at = None;
                Thing::CameBack
            }
            11 | 12 => {
                self.plan.tune(&mut self.random);
                if self.plan.rejoin == Rejoin::Safe {
                    self.ledger.may_forget();
                }
                Thing::Tuned
            }
            _ => {
                self.servers[one].weight = 1 + self.random.below(3) as u32;
                Thing::Weighed
            }
        };
        self.note(|| format!("{thing:?}"));
        self.tally.add(thing);
        let servers = self.servers.iter().enumerate().filter(|(_, server)| server.left_at.is_none());
        let servers = servers.map(|(index, server)| Server {
            id: ServerId(0),
            name: server.name.clone(),
            ring_name: None,
            address: address(index),
            weight: server.weight,
            position: index,
        });
        let config = self.plan.config_of(servers.collect());
        self.publish(&config);
        let topology = Arc::clone(&self.topology);
        for server in &topology.pool(self.pool).servers {
            self.servers[process(&server.address)].known = (self.pool, server.id);
        }
        // Who asked before may be answered by whom they had before; faults of before are nobody's now.
        for server in &mut self.servers {
            (server.trouble, server.out_at, server.untouched) = (Some(self.now), Some(self.ledger.tick), false);
        }
        self.find_homes();
    }

    fn publish(&mut self, config: &Config) {
        self.topology = self.published.publish(config, self.instant()).expect("there are ids left");
        self.has_news = true;
    }
}

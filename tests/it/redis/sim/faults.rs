//! What breaks, and is mended.

use softmiss::health::maintenance::{Maintenance, MaintenanceOutcome};

use super::draw::KEYS;
use super::plan::DATABASES;
use super::world::World;

/// What a Redis server says that takes no changes.
const REFUSALS: [&[u8]; 8] = [
    b"READONLY You can't write against a read only replica.",
    b"NOREPLICAS Not enough good replicas to write.",
    b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    b"OOM command not allowed when used memory > 'maxmemory'.",
    b"LOADING Redis is loading the dataset in memory",
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    b"NOAUTH Authentication required.",
];

impl World {
    /// Something breaks, or is mended.
    pub(super) fn trouble(&mut self) {
        let server = self.random.below(self.nodes.len() as u64) as usize;
        if self.random.one_in(2) {
            return self.mend(server);
        }
        match self.random.below(11) {
            0 | 1 => {
                self.count("hung");
                self.note(|| format!("server {server} hangs"));
                self.nodes[server].hung = true;
            }
            2 => self.kill(server),
            3 => self.begin_maintenance(server),
            4 if self.plan.pools[self.nodes[server].pool].redis => {
                let ripe = |one: &super::servers::Connection| !one.gone && one.whole && one.server == server;
                let Some(at) = self.connections.iter().position(ripe) else { return };
                // Within a value nobody could tell it from one.
                self.count("junk");
                self.connections[at].back = b"!what is this\r\n".to_vec();
            }
            7 if self.plan.pools[self.nodes[server].pool].redis => {
                self.count("takes no changes");
                let reason = REFUSALS[self.random.below(REFUSALS.len() as u64) as usize];
                self.note(|| format!("server {server} takes no changes: {}", String::from_utf8_lossy(reason)));
                self.nodes[server].refuses = Some(reason);
            }
            // Only where that is what takes values away; what is kept of them here is judged by who was told of it.
            6 if self.plan.pools[self.nodes[server].pool].copies => self.evict(server),
            5 => {
                self.count("closed");
                self.end_connections(|one| one.server == server);
            }
            _ => {
                let Some(at) = self.some_connection() else { return };
                let id = self.connections[at].id;
                self.count("closed");
                self.end_connections(|one| one.id == id);
            }
        }
    }

    /// A server loses some keys, as when they are over, and nothing else is wrong with it.
    fn evict(&mut self, server: usize) {
        self.count("evictions");
        for database in 0..DATABASES {
            for key in 0..KEYS {
                if self.random.one_in(3) {
                    self.ledger.tick += 1;
                    let (tick, key) = (self.ledger.tick, format!("key{key}").into_bytes());
                    self.nodes[server].losses.insert(tick);
                    if self.nodes[server].databases[database].put(&key, tick, None) {
                        self.touch(server, database, &key);
                    }
                }
            }
        }
    }

    /// The process dies: what it held is gone.
    fn kill(&mut self, server: usize) {
        self.count("killed");
        self.note(|| format!("server {server} is killed"));
        self.ledger.tick += 1;
        let tick = self.ledger.tick;
        let node = &mut self.nodes[server];
        node.databases.iter_mut().for_each(|database| _ = database.clear(tick));
        node.losses.insert(tick);
        node.queues.clear();
        node.copies.clear();
        node.scripts.clear();
        node.dead = true;
        self.end_lingering(|one| one.server == server);
        self.connections.retain(|one| !one.gone || one.server != server);
        self.end_connections(|one| one.server == server);
    }

    /// The operator takes a server out.
    fn begin_maintenance(&mut self, server: usize) {
        let (pool, id) = self.nodes[server].known;
        if self.nodes[server].left_at.is_some() {
            return;
        }
        let how = if self.random.one_in(2) { Maintenance::Eject } else { Maintenance::Drain };
        if self.registry.begin_maintenance(pool, id, how, false, self.at()) == MaintenanceOutcome::Done {
            self.leaves_ring((pool, id));
            self.count("held");
            self.note(|| format!("server {server} is held: {how:?}"));
            self.engine.handle_timeout(self.at());
            self.carry_out();
        }
    }

    pub(super) fn mend(&mut self, server: usize) {
        let node = &mut self.nodes[server];
        (node.hung, node.dead, node.refuses) = (false, false, None);
        let (pool, id) = node.known;
        let is_there = node.left_at.is_none();
        self.note(|| format!("server {server} is mended"));
        if (self.calm || self.random.one_in(2))
            && is_there
            && self.registry.end_maintenance(pool, id, self.at()) == MaintenanceOutcome::Done
        {
            self.engine.handle_timeout(self.at());
            self.carry_out();
        }
    }
}

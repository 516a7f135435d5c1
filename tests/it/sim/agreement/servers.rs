//! The servers, which all hosts share.

use softmiss::failure::Failure;

use super::network::{Direction, Packet};
use super::plan::{MS, Plan};
use super::world::{Event, World};
use crate::sim::store::{Key, Outcome, Store};

/// Lifetimes above this are points in time, in seconds.
const RELATIVE: u64 = 30 * 24 * 3600;

/// When the hosts' clocks began.
pub(super) const STARTED: u64 = 1_700_000_000;

#[derive(Debug)]
pub(super) struct Server {
    store: Store,
    listens: bool,
    stands_still: bool,
    started: u64,
}

impl Server {
    pub(super) fn new(plan: &Plan) -> Self {
        let store = Store::of(2 * plan.keys.max(plan.locks));
        Self { store, listens: true, stands_still: false, started: 0 }
    }

    pub(super) fn is_well(&self) -> bool {
        self.listens && !self.stands_still
    }
}

impl World {
    /// A packet reaches a server.
    pub(super) fn reach_server(&mut self, at: usize, packet: Packet) {
        let connection = &mut self.connections[at];
        let server = &self.servers[connection.server];
        if !server.listens || connection.is_dead {
            return self.send(at, Direction::Back, Packet::Reset);
        }
        // The kernel opens connections in the name of a process that stands still.
        if packet == Packet::Open {
            return self.send(at, Direction::Back, Packet::Open);
        }
        connection.unread.push_back(packet);
        if !server.stands_still {
            self.look_at(at);
        }
    }

    /// A server looks at what has come on a connection.
    fn look_at(&mut self, at: usize) {
        while let Some(packet) = self.connections[at].unread.pop_front() {
            match packet {
                Packet::Bytes(bytes) => {
                    self.connections[at].input.extend_from_slice(&bytes);
                    self.carry_out(at);
                }
                Packet::End => self.send(at, Direction::Back, Packet::End),
                Packet::Open | Packet::Reset => {}
            }
        }
    }

    fn carry_out(&mut self, at: usize) {
        let mut input = std::mem::take(&mut self.connections[at].input);
        let (host, index) = (self.connections[at].host, self.connections[at].server);
        let (mut done, mut out) = (0, Vec::new());
        loop {
            self.tick += 1;
            let server = &mut self.servers[index];
            server.store.uptime = (self.now - server.started) / (1000 * MS);
            let Some(executed) = server.store.execute(&input[done..], self.tick, &mut out) else { break };
            let (len, deed) = (executed.len, executed.deed);
            let stores = matches!(deed.verb, "set" | "add") && deed.outcome == Outcome::Done;
            if let Some(key) = deed.key {
                if matches!(deed.verb, "delete" | "md") {
                    self.hosts[host].deleted.insert(key.index(), self.tick);
                }
                let life = if stores { lifetime(&input[done..], self.now) } else { None };
                if let (Some(life), Some(item)) = (life, self.servers[index].store.get(key)) {
                    let unique = item.unique;
                    self.schedule(self.now + life, Event::Expires { server: index, key, unique });
                }
            }
            done += len;
        }
        input.drain(..done);
        self.connections[at].input = input;
        if !out.is_empty() {
            self.send(at, Direction::Back, Packet::Bytes(out));
        }
    }

    /// The life of an item is over, if it is still there.
    pub(super) fn expire(&mut self, index: usize, key: Key, unique: u64) {
        let store = &mut self.servers[index].store;
        if store.get(key).is_some_and(|item| item.unique == unique) {
            store.execute(format!("delete {key}\r\n").as_bytes(), self.tick, &mut Vec::new());
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.listens = false;
        server.store.clear(self.tick);
        server.store.process += 1;
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            if connection.server == index && !connection.is_dead {
                connection.is_dead = true;
                connection.unread.clear();
                self.send(at, Direction::Back, Packet::Reset);
            }
        }
    }

    pub(super) fn start(&mut self, index: usize) {
        (self.servers[index].listens, self.servers[index].started) = (true, self.now);
    }

    pub(super) fn stop(&mut self, index: usize) {
        self.servers[index].stands_still = true;
    }

    /// A server that stood still carries out all that has come, also of connections that were given up since.
    pub(super) fn resume(&mut self, index: usize) {
        self.servers[index].stands_still = false;
        for at in 0..self.connections.len() {
            if self.connections[at].server == index {
                self.look_at(at);
            }
        }
    }

    /// A packet of a server reaches a host.
    pub(super) fn reach_host(&mut self, at: usize, packet: Packet) {
        let now = self.instant();
        let connection = &mut self.connections[at];
        let (host, link, epoch) = (connection.host, connection.link, connection.epoch);
        let engine = &mut self.hosts[host].engine;
        if connection.is_given_up {
            if matches!(packet, Packet::End | Packet::Reset)
                && let Some((pool, server)) = connection.lingers.take()
            {
                engine.link_ended(pool, server);
                self.attend(host);
            }
            return;
        }
        match packet {
            Packet::Open => {
                connection.is_open = true;
                engine.link_connected(link, epoch, now);
            }
            Packet::Bytes(bytes) => engine.link_data(link, epoch, &bytes, now, &mut ()),
            Packet::End | Packet::Reset => {
                let failure = match (packet == Packet::End, connection.is_open) {
                    (true, _) => Failure::Closed,
                    (false, true) => Failure::Reset,
                    (false, false) => Failure::Refused,
                };
                connection.is_given_up = true;
                self.hosts[host].links.remove(&link);
                self.hosts[host].engine.link_failed(link, epoch, failure, now);
            }
        }
        self.write_to_server(host, link);
        self.attend(host);
    }
}

/// How long an item is to live, in nanoseconds, if not for ever. What stores it is a classic command.
fn lifetime(command: &[u8], now: u64) -> Option<u64> {
    let line = command.split(|byte| *byte == b'\r').next()?;
    let seconds: u64 = std::str::from_utf8(line).ok()?.split(' ').nth(3)?.parse().ok()?;
    let seconds = match seconds {
        0 => return None,
        1..=RELATIVE => seconds,
        _ => seconds.saturating_sub(STARTED + now / (1000 * MS)),
    };
    Some(seconds * 1000 * MS)
}

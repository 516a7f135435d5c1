//! Everything that can go wrong.

#![expect(clippy::wildcard_enum_match_arm, reason = "of all things, only some are faults")]

use softmiss::failure::Failure;
use softmiss::health::maintenance::{Maintenance, MaintenanceOutcome};

use super::servers::Lie;
use super::store::Key;
use super::tally::Thing;
use super::world::World;

impl World {
    /// Something breaks, or is mended.
    pub(super) fn fault(&mut self) {
        let index = self.random.index(self.servers.len());
        if self.random.one_in(2) {
            self.tally.add(Thing::Start);
            self.servers[index].mend();
            if self.random.one_in(2) {
                self.let_back(index);
            }
            self.note(|| format!("server {index} is mended"));
            return;
        }
        let thing = self.random.pick(&[
            Thing::Hang,
            Thing::Kill,
            Thing::Unreachable,
            Thing::NoRoute,
            Thing::Reset,
            Thing::ResetMidResponse,
            Thing::IdleClose,
            Thing::Trickle,
            Thing::Flap,
            Thing::Twice, // and any other lie
            Thing::Twice,
            Thing::Twice,
            Thing::Twice,
            Thing::ClientDeath,
            Thing::HalfClose,
            Thing::Hold,
            Thing::Drain,
        ]);
        self.note(|| format!("fault {thing:?} of server {index}"));
        self.tally.more(thing, u64::from(!matches!(thing, Thing::Twice | Thing::Trickle | Thing::ResetMidResponse)));
        let server = &mut self.servers[index];
        match thing {
            Thing::Hang => server.hangs = true,
            Thing::Kill => self.kill(index),
            Thing::Unreachable => server.unreachable = true,
            Thing::NoRoute => server.no_route = true,
            Thing::Trickle => server.trickles = true,
            Thing::Hold => self.begin_maintenance(index, Maintenance::Eject),
            Thing::Drain => self.begin_maintenance(index, Maintenance::Drain),
            Thing::Flap => server.flaps = 2 + self.random.below(8) as u32,
            Thing::Reset => self.reset(index, false),
            Thing::ResetMidResponse => self.reset(index, true),
            Thing::ClientDeath => self.lose_client(),
            Thing::HalfClose => {
                let client = self.random.index(self.clients.len());
                self.clients[client].ending = true;
            }
            _ if self.connections.is_empty() => {}
            Thing::IdleClose => {
                let connection = self.random.index(self.connections.len());
                self.connections[connection].closing = true;
                self.servers[self.connections[connection].server].trouble = Some(self.now);
            }
            _ => {
                let connection = self.random.index(self.connections.len());
                let lies = [Lie::WrongKey, Lie::Junk, Lie::Truncate, Lie::Twice, Lie::OutOfMemory];
                self.connections[connection].lies = Some(self.random.pick(&lies));
            }
        }
        // What is wrong for a while is seen from its state, and from the marks of what follows.
        self.servers[index].trouble = Some(self.now);
    }

    /// The process dies: its data is gone, its connections are reset.
    fn kill(&mut self, index: usize) {
        self.ledger.tick += 1;
        let server = &mut self.servers[index];
        server.listens = false;
        server.store.lose(self.ledger.tick);
        server.store.process += 1;
        server.started = self.now;
        let zombies = std::mem::take(&mut server.zombies).into_iter().filter_map(|zombie| zombie.lingers);
        let lingering: Vec<_> = zombies.chain(std::mem::take(&mut server.unheard)).collect();
        for (worker, pool, id) in lingering {
            self.engines[worker].link_ended(pool, id);
        }
        self.reset(index, false);
    }

    /// A server loses some items, as when they are over, and nothing else is wrong with it.
    pub(super) fn evict(&mut self) {
        self.tally.add(Thing::Evict);
        let index = self.random.index(self.servers.len());
        for number in 0..8 {
            self.ledger.tick += 1;
            let key = Key::marked(number);
            self.servers[index].store.evict(key, self.ledger.tick);
        }
    }

    /// The operator takes a server out.
    fn begin_maintenance(&mut self, index: usize, kind: Maintenance) {
        let (even_last, (pool, id)) = (self.random.one_in(4), self.servers[index].known);
        if self.servers[index].left_at.is_none()
            && self.topology.registry.begin_maintenance(pool, id, kind, even_last, self.instant())
                == MaintenanceOutcome::Done
        {
            self.has_news = true;
        }
    }

    /// The operator lets a server back, whoever had taken it out.
    pub(super) fn let_back(&mut self, index: usize) {
        let (pool, id) = self.servers[index].known;
        self.has_news |= self.servers[index].left_at.is_none()
            && self.topology.registry.end_maintenance(pool, id, self.instant()) == MaintenanceOutcome::Done;
    }

    /// Workers hear of what the operator did; some do something before, and find out.
    pub(super) fn hear_news(&mut self) {
        if self.has_news && (self.calm || self.random.one_in(8)) {
            self.has_news = false;
            let now = self.instant();
            self.engines.iter_mut().for_each(|engine| engine.handle_timeout(now));
        }
    }

    /// The connections of a server break, some of them in the middle of a response.
    fn reset(&mut self, server: usize, midway: bool) {
        let now = self.instant();
        let dead: Vec<_> = self.connections.iter().filter(|one| one.server == server).map(|one| one.id).collect();
        for id in dead {
            // The end of one may have ended another.
            let Some(index) = self.connections.iter().position(|one| one.id == id) else { continue };
            let connection = &self.connections[index];
            if midway && connection.to_proxy.len() > 1 {
                let piece =
                    connection.to_proxy.as_slice()[..1 + self.random.index(connection.to_proxy.len() - 1)].to_vec();
                self.tally.add(Thing::ResetMidResponse);
                self.engines[id.0].link_data(id.1, id.2, &piece, now, &mut ());
            }
            self.bury(index);
            self.engines[id.0].link_failed(id.1, id.2, Failure::Reset, now);
        }
    }

    /// A client dies with requests in flight, and another comes.
    fn lose_client(&mut self) {
        if self.plan.plain {
            return;
        }
        let index = self.random.index(self.clients.len());
        self.end_client(index);
    }

    /// A client's connection ends whatever it waits for, and another comes.
    fn end_client(&mut self, index: usize) {
        let client = self.clients.swap_remove(index);
        self.answered += client.answered;
        self.bereft = true;
        self.engines[client.worker].client_gone(client.id, true);
        self.join();
    }

    /// Clients that have said their last and been told everything leave, and others come. All of them at once: in the calm,
    /// hours may pass before the next step.
    pub(super) fn see_off(&mut self) -> Result<(), String> {
        let mut index = 0;
        while index < self.clients.len() {
            // Who leaves gives its place to the last.
            index += usize::from(!self.see_off_one(index)?);
        }
        Ok(())
    }

    /// Whether a client has left.
    fn see_off_one(&mut self, index: usize) -> Result<bool, String> {
        let client = &self.clients[index];
        let is_finished = self.engines[client.worker].client_status(client.id).finished;
        if is_finished && client.waits() && self.pool_sum(|pool| pool.clients_cut_off.value()) > self.cut_off {
            if self.plan.memory_limit.is_none() {
                return Err(format!("client {index} was cut off, and there is memory"));
            }
            self.cut_off += 1;
            self.tally.add(Thing::CutOff);
            self.end_client(index);
            return Ok(true);
        }
        // One that has been told something that it has not looked at stays for that.
        let has_looked = client.incoming.is_empty() || self.calm;
        if !(client.ended || client.dismissed) || !is_finished || !has_looked {
            return Ok(false);
        }
        if if client.dismissed { client.oldest().is_some() } else { client.waits() } {
            return Err(format!("client {index} was dismissed and waits for {:?}", client.pending.front()));
        }
        let client = self.clients.swap_remove(index);
        self.answered += client.answered;
        self.engines[client.worker].client_gone(client.id, false);
        self.join();
        Ok(true)
    }

    /// Servers that flap, and commands that outlive their connections.
    pub(super) fn haunt(&mut self) -> Result<(), String> {
        self.hear_news();
        for index in 0..self.servers.len() {
            if self.servers[index].flaps > 0 && self.random.one_in(50) {
                self.servers[index].flaps -= 1;
                self.servers[index].listens = !self.servers[index].listens || self.servers[index].flaps == 0;
                self.servers[index].trouble = Some(self.now);
                if !self.servers[index].listens {
                    self.kill(index);
                }
            }
            if !self.servers[index].zombies.is_empty() && self.random.one_in(100) {
                self.raise(index)?;
            }
        }
        Ok(())
    }

    /// A server carries out what it had received on connections that are gone.
    pub(super) fn raise(&mut self, index: usize) -> Result<(), String> {
        for zombie in std::mem::take(&mut self.servers[index].zombies) {
            let mut rest = &zombie.bytes[..];
            loop {
                self.ledger.tick += 1;
                let server = &mut self.servers[index];
                let Some(executed) = server.store.execute(rest, self.ledger.tick, &mut Vec::new()) else { break };
                server.store.is_late(self.ledger.tick);
                if executed.deed.verb == "flush_all" {
                    server.flushed.push(self.ledger.tick);
                }
                let written = self.ledger.executed(index, &executed.deed)?;
                let key = executed.deed.key;
                super::moves::check_route(&self.servers, &self.homes, index, key, written, &self.ledger)?;
                self.tally.add(Thing::Zombie);
                rest = &rest[executed.len..];
            }
            if let Some((worker, pool, id)) = zombie.lingers {
                self.engines[worker].link_ended(pool, id);
            }
        }
        self.servers[index].trouble = Some(self.now);
        self.note(|| format!("server {index} carried out what was left to it"));
        Ok(())
    }
}

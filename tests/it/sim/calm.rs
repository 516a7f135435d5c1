//! The end of a run: faults stop, and everything must become well again, in time.

use softmiss::failure::Failure;
use softmiss::health::tracker::State;

use super::client::Client;
use super::judge::HOLD;
use super::tally::Thing;
use super::world::{MS, World};

/// `server_retry_timeout` of the pool.
pub(super) const RETRY_TIMEOUT: u64 = 2_000 * MS;

/// A server that is well again is back in the ring within so much more.
const RETURN: u64 = 1_000 * MS;

/// Where there is no `timeout`, who changes a key that has moved waits for those who copy it for two seconds at the longest, and
/// what its client has asked behind that comes later. That has come to its end within so much more.
const COPIED: u64 = 60_000 * MS;

impl World {
    /// Faults stop; every request is answered and every server comes back.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.calm = true;
        for index in 0..self.servers.len() {
            self.servers[index].mend();
            self.let_back(index);
            self.raise(index)?;
            self.servers[index].trouble = Some(self.now);
        }
        while let Some(index) = self.connections.iter().position(|one| one.closing) {
            let (worker, link, epoch) = self.connections[index].id;
            let now = self.instant();
            self.bury(index);
            self.engines[worker].link_failed(link, epoch, Failure::Closed, now);
        }
        for connection in &mut self.connections {
            connection.lies = None;
        }
        self.hear_news();
        self.settle_step()?; // what they do about it is done before time passes
        let back = self.now + RETRY_TIMEOUT + RETURN;
        self.rest_until(back)?;
        self.rest_while_waiting(back)?;
        for (index, server) in self.servers.iter().enumerate().filter(|(_, server)| server.left_at.is_none()) {
            let state = self.topology.registry.state(server.known.0, server.known.1);
            if !matches!(state, State::Up { .. }) {
                return Err(format!("server {index} has been well for 3 s and is {state:?}"));
            }
        }
        for client in &self.clients {
            if client.waits() {
                return Err(format!("a request was never answered: {:?}", client.pending.front()));
            }
        }
        // As good as new: these are answered as if nothing had ever happened.
        self.rest_until(self.now + HOLD + 200 * MS)?;
        let style = self.style();
        for client in self.clients.iter_mut().filter(|client| self.plan.faults && !client.ending) {
            for _ in 0..8 {
                client.draw(&mut self.random, style, &mut self.ledger, &mut self.tally);
            }
        }
        // Where memory is scarce, large values take their turns.
        let begun = self.now;
        self.rest_until(begun + 500 * MS)?;
        self.rest_while_waiting(begun + 1_000 * MS)?;
        if let Some(client) = self.clients.iter().find(|client| client.waits()) {
            return Err(format!("a last request was never answered: {:?}", client.pending.front()));
        }
        self.finish()
    }

    /// Lets everything move until nobody waits, or a moment has come; with copies that may be waited for, that is later.
    fn rest_while_waiting(&mut self, end: u64) -> Result<(), String> {
        let copies = self.plan.warmup.is_some() && self.plan.timeout_percent.is_none();
        let end = if copies { end + COPIED } else { end };
        while self.now < end && self.clients.iter().any(Client::waits) {
            self.rest_until(self.now + 10 * MS)?;
        }
        Ok(())
    }

    /// Lets everything move until a moment has come. When nothing is left to move, time jumps to the next timer.
    fn rest_until(&mut self, end: u64) -> Result<(), String> {
        while self.now < end {
            self.ledger.tick += 1;
            if self.move_all()? {
                let span = self.random.below(MS);
                self.pass(span);
            } else {
                let next = self.engines.iter().filter_map(|engine| engine.next_timeout()).min();
                let next = next.map_or(end, |next| next.as_nanos().clamp(self.now + 1, end));
                self.pass(next - self.now);
            }
            self.settle_step()?;
        }
        Ok(())
    }

    /// Moves everything that can be moved; `false` when there was nothing.
    fn move_all(&mut self) -> Result<bool, String> {
        let moves = self.movement();
        while !self.connecting.is_empty() {
            self.connect_at(0);
        }
        self.watch_board(); // a refused connect may have put a server out of the ring
        for index in 0..self.clients.len() {
            self.give_of(index);
        }
        for index in 0..self.connections.len() {
            self.write_to(index);
            self.serve_on(index, usize::MAX)?;
        }
        let ids: Vec<_> = self.connections.iter().map(|one| one.id).collect();
        for id in ids {
            if let Some(index) = self.connections.iter().position(|one| one.id == id) {
                self.hear_from(index);
            }
        }
        Ok(moves)
    }

    /// Whether anything is on its way.
    fn movement(&mut self) -> bool {
        let mut moves = !self.connecting.is_empty();
        for client in &self.clients {
            let engine = &mut self.engines[client.worker];
            moves |= !client.outgoing.is_empty() && engine.client_status(client.id).reads;
            moves |= !engine.client_output(client.id).is_empty();
        }
        for connection in &self.connections {
            let (worker, link, epoch) = connection.id;
            moves |= !connection.to_proxy.is_empty() || !connection.to_server.is_empty();
            moves |= !self.engines[worker].link_output(link, epoch).is_empty();
        }
        moves
    }

    /// Everybody leaves: nothing may stay behind but what the links keep for their next request.
    fn finish(&mut self) -> Result<(), String> {
        while let Some(client) = self.clients.pop() {
            self.answered += client.answered;
            self.engines[client.worker].client_gone(client.id, false);
        }
        for engine in &self.engines {
            engine.check_invariants()?;
            if engine.clients() != 0 {
                return Err("a client stayed behind".to_owned());
            }
        }
        self.check_balance()?;
        self.check_queues()?;
        let total = self.sums();
        self.tally.more(Thing::LateReply, total.late);
        self.tally.more(Thing::Waited, self.pool_sum(|pool| pool.stampede_waits.value()));
        self.tally.more(Thing::Stale, self.pool_sum(|pool| pool.stampede_stale.value()));
        self.tally.more(Thing::Computes, self.pool_sum(|pool| pool.stampede_leases.value()));
        self.tally.more(Thing::Joined, total.joined);
        self.tally.more(Thing::Degraded, total.degraded);
        self.tally.more(Thing::MemoryLimit, total.no_memory);
        Ok(())
    }
}

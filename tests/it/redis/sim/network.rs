//! Bytes move between clients, the engine and the servers, and connections come and go.

use softmiss::failure::Failure;

use super::servers::{Connection, Id};
use super::world::World;

impl World {
    /// Some of what a client has to say reaches the engine.
    pub(super) fn give(&mut self, at: usize) {
        let now = self.at();
        let customer = &mut self.customers[at];
        if customer.unsent.is_empty() || customer.dismissed {
            return;
        }
        if !self.engine.client_status(customer.session).reads {
            return self.count("held back");
        }
        let len = customer.unsent.len();
        let cut = if self.random.one_in(3) { 1 + self.random.below(len as u64) as usize } else { len };
        let piece: Vec<u8> = customer.unsent.drain(..cut).collect();
        // What the engine has whole is being timed; the last request of a piece may not be whole.
        if customer.unsent.is_empty() {
            customer.asked.iter_mut().for_each(|pending| _ = pending.given.get_or_insert(self.now));
        }
        let session = customer.session;
        self.engine.client_data(session, &piece, now);
        self.carry_out();
    }

    pub(super) fn connect(&mut self) {
        if self.connecting.is_empty() {
            return;
        }
        let at = self.random.below(self.connecting.len() as u64) as usize;
        let ((link, epoch), of) = self.connecting[at];
        let server = self.server_of(of);
        if self.nodes[server].hung && self.random.one_in(2) {
            return;
        }
        self.connecting.swap_remove(at);
        if self.nodes[server].dead || (!self.calm && self.plan.fault_every > 0 && self.random.one_in(60)) {
            self.note(|| format!("{link:?}.{epoch} is refused by server {server}"));
            self.engine.link_failed(link, epoch, Failure::Refused, self.at());
            return self.carry_out();
        }
        self.note(|| format!("{link:?}.{epoch} is connected to server {server}"));
        self.connections.push(Connection::new((link, epoch), of, server));
        self.engine.link_connected(link, epoch, self.at());
        self.carry_out();
    }

    pub(super) fn some_connection(&mut self) -> Option<usize> {
        let count = self.connections.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    /// Bytes reach a server, which carries out what is whole.
    pub(super) fn carry_there(&mut self, at: usize) {
        if !self.connections[at].gone {
            let (link, epoch) = self.connections[at].id;
            let output = self.engine.link_output(link, epoch);
            let count = if self.random.one_in(4) { output.len() / 2 } else { output.len() };
            self.connections[at].there.extend_from_slice(&output[..count]);
            self.engine.link_wrote(link, epoch, count, self.at());
        }
        self.serve(at);
        let connection = &self.connections[at];
        if connection.lingers && connection.blocked.is_none() && !self.nodes[connection.server].hung {
            let id = connection.id;
            self.end_lingering(|one| one.id == id);
        }
    }

    /// Bytes of a server reach the engine.
    pub(super) fn carry_back(&mut self, at: usize) {
        if self.nodes[self.connections[at].server].hung {
            return;
        }
        // Patience is over now and then.
        if self.connections[at].blocked.is_some() && self.random.one_in(6) {
            self.lose_patience(at);
        }
        let connection = &mut self.connections[at];
        let back = &mut connection.back;
        let count = if self.random.one_in(3) { self.random.below(back.len() as u64 + 1) as usize } else { back.len() };
        let bytes: Vec<u8> = back.drain(..count).collect();
        if count > 0 {
            connection.whole = connection.back.is_empty();
        }
        connection.heard += count;
        while let Some((end, serial)) = connection.refusals.front().copied()
            && end <= connection.heard
        {
            connection.refusals.pop_front();
            self.ledger.refused.insert(serial, Some(self.ledger.tick));
        }
        let ((link, epoch), gone) = (connection.id, connection.gone);
        if count > 0 {
            self.note(|| format!("{link:?}.{epoch} < {}", super::show(&bytes)));
        }
        // What was under way when the connection ended may be heard after it: it is nobody's.
        if gone {
            self.count("late replies");
        }
        if count > 0 {
            self.engine.link_data(link, epoch, &bytes, self.at(), &mut ());
            self.carry_out();
        }
        if gone {
            self.engine.link_failed(link, epoch, Failure::Reset, self.at());
            self.carry_out();
            let idle = |one: &Connection| one.gone && !one.lingers && one.back.is_empty() && (one.id == (link, epoch));
            self.connections.retain(|one| !idle(one));
        }
    }

    /// The engine has done with connections. What the server has of them it may carry out still, and answer.
    pub(super) fn bury(&mut self, which: impl Fn(&Connection) -> bool, lingers: bool) {
        let mut at = 0;
        while at < self.connections.len() {
            let connection = &mut self.connections[at];
            if connection.gone || !which(connection) {
                at += 1;
                continue;
            }
            self.nodes[connection.server].ended = self.ledger.tick;
            if self.nodes[connection.server].dead || (!lingers && self.random.one_in(2)) {
                self.connections.swap_remove(at);
            } else {
                (connection.gone, connection.lingers) = (true, lingers);
                at += 1;
            }
        }
    }

    /// The engine hears of the ends of connections that it waited for.
    pub(super) fn end_lingering(&mut self, which: impl Fn(&Connection) -> bool) {
        for at in 0..self.connections.len() {
            if self.connections[at].lingers && which(&self.connections[at]) {
                self.connections[at].lingers = false;
                let (pool, server) = self.connections[at].of;
                self.engine.link_ended(pool, server);
                self.count("ends waited for");
            }
        }
    }

    pub(super) fn end_connections(&mut self, which: impl Fn(&Connection) -> bool) {
        let ended: Vec<Id> = self.connections.iter().filter(|one| !one.gone && which(one)).map(|one| one.id).collect();
        for (link, epoch) in ended {
            // The end of one may have ended another.
            if self.connections.iter().any(|one| !one.gone && one.id == (link, epoch)) {
                self.note(|| format!("{link:?}.{epoch} is closed"));
                self.bury(|one| one.id == (link, epoch), false);
                let failure = if self.random.one_in(2) { Failure::Closed } else { Failure::Reset };
                self.engine.link_failed(link, epoch, failure, self.at());
                self.carry_out();
            }
        }
    }
}

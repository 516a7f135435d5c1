//! Clients that leave for another process, or come from one.

use std::sync::mpsc::Sender;

use super::Worker;
use crate::engine::ids::SessionId;
use crate::io::departing::{Departing, Departures, PORTION};
use crate::io::mailbox::Message;

impl Worker {
    /// Another process takes all clients, some at a time, and accepts those who come from here on.
    #[cold]
    pub(super) fn hand_over(&mut self, way: Sender<Departing>) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.stop(&self.poller);
        }
        self.departures = Some(Departures { way, here: self.clients.ids().collect() });
        self.engine.set_departing(true, self.clock.now());
    }

    /// The other process takes some more of them.
    #[cold]
    pub(super) fn have_some_leave(&mut self) {
        let Some(departures) = &mut self.departures else { return };
        let mut told = 0;
        for _ in 0..departures.here.len() {
            if told == PORTION {
                break;
            }
            let Some(id) = departures.here.pop_front() else { break };
            if self.engine.client_is_to_leave(id) {
                told += 1;
            } else if self.engine.client_pool(id).is_some() {
                departures.here.push_back(id);
            }
        }
    }

    /// Nobody takes them: they are served here as before.
    #[cold]
    pub(super) fn go_on_serving(&mut self) {
        self.departures = None;
        self.engine.set_departing(false, self.clock.now());
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.go_on(&self.poller);
        }
    }

    /// A client has come from another process, or stays here in spite of one.
    #[cold]
    pub(super) fn arrive(&mut self, client: Departing) {
        let other = self.acceptor.as_mut().and_then(|acceptor| acceptor.deal_arrived(client.pool));
        match other {
            Some(other) => drop(other.tell(Message::Arrive(Box::new(client)))),
            None => self.serve(client),
        }
    }

    /// A client has come while others leave.
    pub(crate) fn is_to_leave_too(&mut self, id: SessionId) {
        if let Some(departures) = &mut self.departures {
            departures.here.push_back(id);
        }
    }

    /// Whether clients leave for another process.
    #[inline]
    pub(crate) fn hands_over(&self) -> bool {
        self.departures.is_some()
    }

    /// Has a client leave for another process if it is to, and can.
    #[cold]
    pub(crate) fn depart(&mut self, id: SessionId) {
        let Some(departures) = &self.departures else { return };
        match self.clients.is_told_all(id) {
            Some(true) => {}
            Some(false) => return,
            None => {
                // Half a request cannot go along: it is told to again when the rest has come.
                if self.engine.client_puts_off_leaving(id) {
                    self.is_to_leave_too(id);
                }
                return;
            }
        }
        let Some(carried) = self.engine.client_departs(id) else { return };
        let pool = self.engine.client_pool(id);
        let unadmitted = Some(!self.clients.is_admitted(id));
        let Some((pool, socket)) = pool.zip(self.clients.part_with(id, &self.poller)) else { return };
        // Whoever counts those that are here finds it among those that have left.
        let _ = departures.way.send(Departing { pool, carried, socket, unadmitted, stays: false });
        self.engine.client_gone(id, false);
        self.has_left();
    }
}

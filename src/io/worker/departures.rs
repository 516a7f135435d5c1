//! Clients that leave for another process, or come from one.

use std::sync::mpsc::Sender;

use super::Worker;
use crate::engine::ids::SessionId;
use crate::io::departing::Departing;
use crate::io::mailbox::Message;

impl Worker {
    /// Another process takes all clients, and accepts those who come from here on.
    #[cold]
    pub(super) fn hand_over(&mut self, departures: Sender<Departing>) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.stop(&self.poller);
        }
        self.departures = Some(departures);
        // Each is looked at for that, and leaves if it can.
        self.engine.set_departing(true, self.clock.now());
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

    /// Whether clients leave for another process.
    #[inline]
    pub(crate) fn hands_over(&self) -> bool {
        self.departures.is_some()
    }

    /// Has a client leave for another process if it can.
    #[cold]
    pub(crate) fn depart(&mut self, id: SessionId) {
        let Some(departures) = &self.departures else { return };
        let Some(carried) = self.engine.client_departs(id) else { return };
        let pool = self.engine.client_pool(id);
        let Some((pool, socket)) = pool.zip(self.clients.part_with(id, &self.poller)) else { return };
        // Whoever counts those that are here finds it among those that have left.
        let _ = departures.send(Departing { pool, carried, socket, stays: false });
        self.engine.client_gone(id, false);
        self.has_left();
    }
}

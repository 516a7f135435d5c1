//! What a server missed while it could not be reached, and gets before anything else.

use super::Engine;
use super::link::{LinkId, Ticket};
use crate::proto::memcache::{Verb, encode};
use crate::time::Instant;

impl Engine {
    /// A flush that a server missed goes out before anything else on its next connection.
    pub(super) fn pay_owed_flush(&mut self, id: LinkId, now: Instant) {
        let link = &self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        if self.board.take_owed_flush(pool, server) {
            self.send_own_flush(id, now);
        }
    }

    /// Queues a `flush_all` of the proxy's own, in front of what waits on a fresh connection.
    pub(super) fn send_own_flush(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.links[id.index()];
        let waiting = std::mem::take(&mut link.in_flight);
        let outbox = std::mem::take(&mut link.outbox);
        let ticket = Ticket {
            session: Ticket::NOBODY,
            generation: 0,
            number: 0,
            start: link.outbox.end(),
            fragment: 0,
            verb: Verb::FlushAll,
            marks: 0,
        };
        encode::flush_all(link.outbox.tail(), None);
        for (index, old) in waiting.iter().enumerate() {
            let end = waiting.get(index + 1).map_or_else(|| outbox.end(), |next| next.start);
            let start = link.outbox.end();
            link.outbox.tail().extend_from_slice(outbox.between(old.start, end));
            link.in_flight.push_back(Ticket { start, ..*old });
        }
        link.in_flight.push_front(ticket);
        link.heard = now;
        self.arm_link_in_flight(id);
    }

    fn arm_link_in_flight(&mut self, id: LinkId) {
        let link = &self.links[id.index()];
        let at = self.deadline(link.pool, link.heard);
        self.arm_link(id, at);
    }
}

//! A request on its way to one server: it gets a place in the server's stream and in its client's.

use super::Engine;
use super::dispatch::Aside;
use super::dispatched::Dispatched;
use super::ids::{LinkId, SessionId};
use super::request::{Asked, Slot};
use super::servers::ticket::{Asker, Marks, Ticket};
use super::servers::{Connection, QUEUE_LIMIT};
use crate::config::model::ServerId;
use crate::failure::Failure;
use crate::outcome::{self, Class};
use crate::proto::memcache::lifetime::Cap;
use crate::time::Instant;

impl Engine {
    /// Sends a request to the one server that its key belongs to.
    pub(super) fn send_one(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        key: &[u8],
        now: Instant,
        write: impl FnOnce(&mut Vec<u8>, Option<Cap>),
    ) -> Dispatched {
        match self.place(id, asked, marks, key, now) {
            Ok((link, cap)) => {
                self.enqueue(id, asked, marks, link, now, |out| write(out, cap));
                Dispatched::Done
            }
            Err(outcome) => outcome,
        }
    }

    /// The connection that a request for the server of its key is to be put on at once, and the bound on the lifetime of
    /// what it stores. An error says what became of a request that cannot be sent: it was answered, or has to wait.
    #[inline(always)]
    pub(super) fn place(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        key: &[u8],
        now: Instant,
    ) -> Result<(LinkId, Option<Cap>), Dispatched> {
        let Some(session) = self.session_ref(id) else { return Err(Dispatched::Done) };
        let (pool, backpressured) = (session.pool(), session.input.is_held_back());
        let expired = self.deadline(pool, asked.request.started) <= now;
        if expired && !backpressured {
            self.answer_expired(id, asked, marks, key, now);
            return Err(Dispatched::Done);
        }
        let (server, cap) = match self.target((pool, id), asked, marks, key, now) {
            Ok(target) => target,
            Err(Aside::Waits) => return Err(Dispatched::Backpressured),
            Err(Aside::Failed(failure)) => {
                self.answer_unsent(id, asked, (key, None), failure, now);
                return Err(Dispatched::Done);
            }
        };
        let link = match self.link_to(pool, id, server, now) {
            Ok(link) => link,
            Err(failure) => return Err(self.unplaced(id, asked, marks, (key, server), failure, expired, now)),
        };
        if self.servers[link].queue().unwritten() > QUEUE_LIMIT && !asked.request.verb.is_read() {
            if !expired {
                self.stall(id, link);
                return Err(Dispatched::Backpressured);
            }
            return Err(self.unplaced(id, asked, marks, (key, server), Failure::QueueFull, expired, now));
        }
        Ok((link, cap))
    }

    /// What becomes of a request for which there is no connection to the server of its key at the moment, or no room.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "what a request is, and what happened to it")]
    fn unplaced(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        (key, server): (&[u8], ServerId),
        failure: Failure,
        expired: bool,
        now: Instant,
    ) -> Dispatched {
        let Some(pool) = self.pool_of(id) else { return Dispatched::Done };
        if failure == Failure::QueueFull && !expired {
            self.hold_back_from(id, pool, server, now);
            return Dispatched::Backpressured;
        }
        self.invalidate_unsent(id, server, asked, marks, now);
        self.answer_unsent(id, asked, (key, Some(server)), failure, now);
        Dispatched::Done
    }

    /// Answers a request whose time was over before it could be looked at.
    #[cold]
    #[inline(never)]
    fn answer_expired(&mut self, id: SessionId, asked: Asked<'_>, marks: Marks, key: &[u8], now: Instant) {
        if !asked.request.verb.is_read()
            && let Some(pool) = self.pool_of(id)
            && let Ok((server, _)) = self.target((pool, id), asked, marks, key, now)
        {
            self.invalidate_unsent(id, server, asked, marks, now);
        }
        self.answer_unsent(id, asked, (key, None), Failure::TimedOut, now);
    }

    /// Appends a request to a link and gives it a ticket and a slot.
    pub(super) fn enqueue(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        link_id: LinkId,
        now: Instant,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.enqueue_on(id, asked, marks, link_id, now, |link| write(link.tail()));
    }

    /// As [`Engine::enqueue`], of what a connection is given in a way of its own.
    #[inline(always)]
    pub(super) fn enqueue_on(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        link_id: LinkId,
        now: Instant,
        give: impl FnOnce(&mut Connection),
    ) {
        let class = self.telemetry.at_hand.unwrap_or(Class::Other);
        if asked.request.noreply {
            self.end_request(self.servers[link_id].pool(), outcome::Outcome::Unheard);
        }
        let Some(session) = self.clients.get_mut(id) else { return };
        let link = &mut self.servers[link_id];
        let start = link.queue().end();
        let asker = Asker::client(id, session.next_number(), asked.request.has_slot());
        let ticket = Ticket { marks, ..Ticket::of(asker, start, asked.request.verb, class) };
        give(link);
        if asked.request.has_slot() {
            session.requests.push_sent(Slot::of(&asked, link.server(), self.telemetry.at_hand.take()));
        }
        self.push_ticket(link_id, ticket, now);
    }

    /// Queues a ticket for what has just been appended to its link.
    pub(super) fn push_ticket(&mut self, id: LinkId, ticket: Ticket, now: Instant) {
        let link = &mut self.servers[id];
        let joins = self.topology.pools[link.pool().index()].join_gets;
        let ticket = link.push(ticket, joins, now);
        let bytes = link.queue().end().since(ticket.start) as u64;
        let (first, is_long) = (link.queue().len() == 1, link.is_long());
        let (pool, heard) = (link.pool(), link.silence.since());
        let is_dedicated = link.dedicated().is_some();
        let server = self.counters.server(pool, link.server());
        server.requests.add(1);
        server.request_bytes.add(bytes);
        if ticket.is(Marks::JOINED) {
            server.joined.add(1);
        }
        if is_long {
            self.note_crowd(id);
        }
        if first && !is_dedicated {
            let at = self.first_look(id, heard);
            self.arm_link(id, at);
        }
        self.enter_link(id, ticket);
        self.touch_link(id);
    }
}

//! What is asked on one connection: the requests in flight, with their bytes, and what goes in front of them.

use std::collections::{VecDeque, vec_deque};

use super::outbox::{Offset, Outbox, Written};
use super::sent::SentBatches;
use super::ticket::{Marks, Ticket};
use crate::engine::ids::SessionId;
use crate::engine::redis::Loaded;
use crate::engine::shared::Shared;
use crate::health::pending::Invalidated;

/// What is on its way to a server, as the statistics have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Queues {
    /// Requests not written, and their bytes.
    pub(crate) waiting: u64,
    pub(crate) waiting_bytes: u64,
    /// Requests written and not answered, and their bytes.
    pub(crate) asked: u64,
    pub(crate) asked_bytes: u64,
}

/// What is asked on a connection, be it still to be opened or not, until that is answered or the connection is over.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(super) outbox: Outbox,
    pub(super) in_flight: VecDeque<Ticket>,
    /// Requests of those that were queued since everything had been written.
    pub(super) queued: usize,
    /// Bytes of the line at the end of the outbox, if it is a get that further gets may join.
    pub(super) open_line: usize,
    /// How far the server's pending invalidations have been queued.
    pub(super) invalidated: Invalidated,
    /// Some of that has not been queued: its connection, which is still to be opened, begins with all that is pending.
    pub(super) begins_with_pending: bool,
    pub(super) unconfirmed: SentBatches,
    /// The section of what is asked that is about to be over.
    pub(super) fenced: Option<u32>,
    /// For Redis: the scripts that were asked for.
    pub(super) scripts: Loaded,
    /// Sessions that wait for it to drain.
    backpressured: VecDeque<SessionId>,
}

impl Queue {
    /// A session waits for it to drain.
    pub(super) fn hold_back(&mut self, session: SessionId) {
        self.backpressured.push_back(session);
    }

    /// Whether no session waits for it to drain.
    pub(crate) fn holds_nobody_back(&self) -> bool {
        self.backpressured.is_empty()
    }

    /// The session that has waited the longest for it to drain need not any more.
    pub(super) fn let_one_go(&mut self) -> Option<SessionId> {
        self.backpressured.pop_front()
    }

    /// It does not drain any more: the sessions that have waited for that, and the section that was about to be over.
    pub(crate) fn give_up(&mut self) -> (VecDeque<SessionId>, Option<u32>) {
        (std::mem::take(&mut self.backpressured), self.fenced.take())
    }

    /// What waits to be written, and what has been written and waits for its response.
    pub(super) fn queues(&self) -> Queues {
        let unwritten = self.outbox.waiting();
        let waiting = if unwritten == 0 { 0 } else { self.queued.min(self.in_flight.len()) };
        Queues {
            waiting: waiting as u64,
            waiting_bytes: unwritten as u64,
            asked: (self.in_flight.len() - waiting) as u64,
            asked_bytes: self.outbox.unanswered() as u64,
        }
    }

    // --- What is in flight ---------------------------------------------------------------------------------------

    /// Whether nothing is in flight.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Requests in flight.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// The one that is answered next.
    #[inline(always)]
    pub(crate) fn front(&self) -> Option<Ticket> {
        self.in_flight.front().copied()
    }

    /// The one that is answered last.
    pub(crate) fn back(&self) -> Option<Ticket> {
        self.in_flight.back().copied()
    }

    /// All of them, in the order in which they are answered.
    pub(crate) fn tickets(&self) -> vec_deque::Iter<'_, Ticket> {
        self.in_flight.iter()
    }

    /// Whether a server is asked whether it has the script of one of them.
    #[inline]
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.scripts.has_doubts()
    }

    // --- Their bytes ---------------------------------------------------------------------------------------------

    /// Bytes that wait to be written.
    #[inline(always)]
    pub(crate) const fn unwritten(&self) -> usize {
        self.outbox.waiting()
    }

    /// Those of them that are not of large requests in buffers of their own.
    pub(super) fn unwritten_small(&self) -> usize {
        let large = |ticket: &Ticket| self.outbox.whole(ticket.start).map_or(0, |request| request.len());
        self.unwritten().saturating_sub(self.in_flight.iter().map(large).sum())
    }

    /// The request of a ticket, if it is a large one in the buffer that it came in.
    pub(crate) fn whole(&self, ticket: Ticket) -> Option<&Shared> {
        self.outbox.whole(ticket.start)
    }

    /// Unwritten bytes behind the request that is being written.
    pub(crate) fn behind_first(&self) -> usize {
        let rest = |ticket: &Ticket| self.end().since(ticket.start);
        // Behind the one that has begun to leave; if none has, behind the next.
        let next = self.in_flight.partition_point(|ticket| rest(ticket) >= self.unwritten());
        self.in_flight.get(next).map_or(0, rest)
    }

    /// Where the next request begins.
    #[inline]
    pub(crate) fn end(&self) -> Offset {
        self.outbox.end()
    }

    /// The request of a ticket, which ends there.
    #[inline]
    pub(crate) fn request(&self, ticket: Ticket, end: Offset) -> &[u8] {
        self.outbox.between(ticket.start, end)
    }

    /// The request of the front ticket.
    #[inline]
    pub(crate) fn front_request(&self, ticket: Ticket) -> &[u8] {
        self.request(ticket, self.front_end())
    }

    /// The request of a ticket, and what stands behind it in one place with it.
    #[inline]
    pub(crate) fn request_on(&self, ticket: Ticket) -> &[u8] {
        self.outbox.from(ticket.start)
    }

    /// Whether no byte of the request of a ticket has been written.
    pub(crate) fn is_unwritten(&self, ticket: Ticket) -> bool {
        self.outbox.is_unwritten(ticket.start)
    }

    /// When the request that ends there was written.
    pub(crate) fn written(&self, end: Offset) -> Written {
        self.outbox.written(end)
    }

    // --- Invalidations -------------------------------------------------------------------------------------------

    /// How far its server's pending invalidations have been queued.
    pub(crate) const fn invalidated(&self) -> Invalidated {
        self.invalidated
    }

    /// Whether they have been up to the one of this number, so that what is asked next comes behind them.
    #[inline]
    pub(crate) const fn is_invalidated(&self, newest: u64) -> bool {
        self.invalidated.number >= newest
    }

    /// Whether some of them have not: its connection is still to be opened, and begins with all that is pending.
    pub(crate) const fn begins_with_pending(&self) -> bool {
        self.begins_with_pending
    }

    /// Answers to invalidations that have not come.
    pub(crate) const fn unconfirmed(&self) -> usize {
        self.unconfirmed.left()
    }

    // --- One behind the other ------------------------------------------------------------------------------------

    /// Whether the next request goes on with the line of the front ticket, so that the end of one response is theirs.
    pub(crate) fn front_is_joined(&self) -> bool {
        self.in_flight.get(1).is_some_and(|next| next.is(Marks::JOINED))
    }

    /// Appends once more a request that was on its way. Joined ones come apart.
    pub(super) fn append_again(&mut self, ticket: Ticket, request: &[u8]) {
        let out = self.outbox.tail();
        if ticket.is(Marks::JOINED) {
            out.extend_from_slice(ticket.verb.name().as_bytes());
        }
        out.extend_from_slice(request);
        if !request.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n"); // the next one went on with its line
        }
    }

    /// Where the request of a ticket begins, or the next one will.
    #[inline(always)]
    fn start_of(&self, place: usize) -> Offset {
        self.in_flight.get(place).map_or_else(|| self.outbox.end(), |ticket| ticket.start)
    }

    /// Where the request of the front ticket ends.
    #[inline(always)]
    pub(crate) fn front_end(&self) -> Offset {
        self.start_of(1)
    }

    /// The ticket at a place, with where its request ends.
    pub(crate) fn ticket_at(&self, place: usize) -> Option<(Ticket, Offset)> {
        Some((*self.in_flight.get(place)?, self.start_of(place + 1)))
    }

    /// All tickets, with their requests.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (Ticket, &[u8])> {
        let tickets = (0..self.in_flight.len()).filter_map(|place| self.ticket_at(place));
        tickets.map(|(ticket, end)| (ticket, self.outbox.between(ticket.start, end)))
    }

    /// Takes the front ticket, with where its request ends.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<(Ticket, Offset)> {
        let ticket = self.in_flight.pop_front()?;
        Some((ticket, self.start_of(0)))
    }

    /// Sets aside what waits, so that something can go in front of it.
    pub(super) fn set_aside(&mut self) -> Self {
        let (in_flight, outbox) = (std::mem::take(&mut self.in_flight), std::mem::take(&mut self.outbox));
        Self { in_flight, outbox, unconfirmed: std::mem::take(&mut self.unconfirmed), ..Self::default() }
    }

    /// Whether no client waits for anything here.
    pub(crate) fn is_free(&self) -> bool {
        self.in_flight.iter().all(|ticket| ticket.is_own())
    }
}

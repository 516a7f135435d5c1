//! What is asked on one connection: the requests in flight, with their bytes, and what goes in front of them.

use std::collections::VecDeque;

use super::outbox::{Offset, Outbox};
use super::ticket::{Marks, Ticket};
use crate::engine::ids::SessionId;
use crate::engine::redis::Loaded;
use crate::health::pending::{BatchRange, Invalidated};

/// PendingInvalidations that have been sent together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentBatch {
    /// Answers that have not come.
    pub(crate) left: u32,
    /// What is confirmed when all have.
    pub(crate) range: BatchRange,
    /// It was put in front of what waited on the connection.
    pub(crate) in_front: bool,
}

/// The batches of invalidations on a connection that have not been confirmed, in their order.
#[derive(Debug, Default)]
pub(crate) struct SentBatches {
    queue: VecDeque<SentBatch>,
    /// Answers to all of them that have not come.
    left: usize,
}

impl SentBatches {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Answers that have not come.
    pub(crate) const fn left(&self) -> usize {
        self.left
    }

    pub(crate) fn push(&mut self, batch: SentBatch) {
        self.left += batch.left as usize;
        self.queue.push_back(batch);
    }

    /// Puts others behind these.
    pub(crate) fn append(&mut self, later: Self) {
        later.queue.into_iter().for_each(|batch| self.push(batch));
    }

    /// An answer has come. Returns the batch that it belongs to, with what is left of it.
    pub(crate) fn answered(&mut self) -> Option<SentBatch> {
        let front = self.queue.front_mut()?;
        front.left -= 1;
        self.left -= 1;
        let batch = *front;
        if batch.left == 0 {
            self.queue.pop_front();
        }
        Some(batch)
    }

    /// None of them counts. `false` when the first one did not anyway.
    pub(crate) fn put_off(&mut self) -> bool {
        let counts = self.queue.front().is_some_and(|batch| batch.range.up_to > 0);
        self.queue.iter_mut().for_each(|batch| batch.range.up_to = 0);
        counts
    }
}

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
    pub(crate) outbox: Outbox,
    pub(crate) in_flight: VecDeque<Ticket>,
    /// Requests of those that were queued since everything had been written.
    pub(super) queued: usize,
    /// Bytes of the line at the end of the outbox, if it is a get that further gets may join.
    pub(super) open_line: usize,
    /// How far the server's pending invalidations have been queued.
    pub(crate) invalidated: Invalidated,
    /// Some of that has not been queued: its connection, which is still to be opened, begins with all that is pending.
    pub(crate) begins_with_pending: bool,
    pub(crate) unconfirmed: SentBatches,
    /// The section of what is asked that is about to be over.
    pub(super) fenced: Option<u32>,
    /// For Redis: the scripts that were asked for.
    pub(crate) scripts: Loaded,
    /// Sessions that wait for it to drain.
    backpressured: VecDeque<SessionId>,
}

impl Queue {
    /// A session waits for it to drain.
    pub(crate) fn hold_back(&mut self, session: SessionId) {
        self.backpressured.push_back(session);
    }

    /// Whether no session waits for it to drain.
    pub(crate) fn holds_nobody_back(&self) -> bool {
        self.backpressured.is_empty()
    }

    /// The session that has waited the longest for it to drain need not any more.
    pub(crate) fn let_one_go(&mut self) -> Option<SessionId> {
        self.backpressured.pop_front()
    }

    /// It does not drain any more: the sessions that have waited for that, and the section that was about to be over.
    pub(crate) fn give_up(&mut self) -> (VecDeque<SessionId>, Option<u32>) {
        (std::mem::take(&mut self.backpressured), self.fenced.take())
    }

    /// What waits to be written, and what has been written and waits for its response.
    pub(crate) fn queues(&self) -> Queues {
        let unwritten = self.outbox.waiting();
        let waiting = if unwritten == 0 { 0 } else { self.queued.min(self.in_flight.len()) };
        Queues {
            waiting: waiting as u64,
            waiting_bytes: unwritten as u64,
            asked: (self.in_flight.len() - waiting) as u64,
            asked_bytes: self.outbox.unanswered() as u64,
        }
    }

    /// Whether the next request goes on with the line of the front ticket, so that the end of one response is theirs.
    pub(crate) fn front_is_joined(&self) -> bool {
        self.in_flight.get(1).is_some_and(|next| next.is(Marks::JOINED))
    }

    /// Appends once more a request that was on its way. Joined ones come apart.
    pub(crate) fn append_again(&mut self, ticket: Ticket, request: &[u8]) {
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
    pub(crate) fn set_aside(&mut self) -> Self {
        let (in_flight, outbox) = (std::mem::take(&mut self.in_flight), std::mem::take(&mut self.outbox));
        Self { in_flight, outbox, unconfirmed: std::mem::take(&mut self.unconfirmed), ..Self::default() }
    }

    /// Whether no client waits for anything here.
    pub(crate) fn is_free(&self) -> bool {
        self.in_flight.iter().all(|ticket| ticket.is_own())
    }
}

//! How requests come to be asked on a connection, and cease to be.

use super::Connection;
use super::outbox::Offset;
use super::queue::Queue;
use super::sent::SentBatch;
use super::ticket::Ticket;
use crate::engine::ids::SessionId;
use crate::engine::redis::Loaded;
use crate::engine::shared::Shared;
use crate::health::pending::Invalidated;

impl Connection {
    /// What is asked on it.
    #[inline(always)]
    pub(crate) const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Where the next request begins, and the buffer to append it to; then it is queued by [`Connection::push`].
    #[inline]
    pub(crate) fn append(&mut self) -> (Offset, &mut Vec<u8>) {
        (self.queue.outbox.end(), self.queue.outbox.tail())
    }

    /// That buffer alone.
    #[inline]
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        self.queue.outbox.tail()
    }

    /// Appends a large request, in the buffer that it came in.
    pub(crate) fn append_whole(&mut self, request: Shared) {
        self.queue.outbox.push_whole(request);
    }

    /// Appends once more a request that was on its way; returns where it begins.
    pub(crate) fn append_again(&mut self, ticket: Ticket, request: &[u8], whole: Option<&Shared>) -> Offset {
        let start = self.queue.end();
        match whole {
            Some(whole) => self.append_whole(whole.clone()),
            None => self.queue.append_again(ticket, request),
        }
        start
    }

    /// Everything before that has been answered, and is not looked at any more. Whether there is a large buffer
    /// [to take](Connection::take_spent).
    #[inline]
    pub(crate) fn release(&mut self, end: Offset) -> bool {
        self.queue.outbox.release(end)
    }

    /// A large buffer that it does not need any more.
    pub(crate) fn take_spent(&mut self) -> Vec<u8> {
        self.queue.outbox.take_spent()
    }

    /// For Redis: the scripts that were asked for.
    #[inline]
    pub(crate) const fn scripts(&mut self) -> &mut Loaded {
        &mut self.queue.scripts
    }

    /// Takes all that is asked on it.
    pub(crate) fn take_queue(&mut self) -> Queue {
        std::mem::take(&mut self.queue)
    }

    /// A client waits for its queue to drain.
    pub(crate) fn hold_client(&mut self, session: SessionId) {
        self.queue.hold_back(session);
    }

    /// The client that has waited the longest for that need not any more.
    pub(crate) fn let_client_go(&mut self) -> Option<SessionId> {
        self.queue.let_one_go()
    }

    /// Sets aside what waits, so that something can go in front of it.
    pub(crate) fn set_aside(&mut self) -> Queue {
        self.queue.set_aside()
    }

    /// What was set aside is to go behind what is there. It may be all that the memory limit has left: no room beyond it is
    /// taken.
    pub(crate) fn make_room_behind(&mut self, waiting: &mut Queue) {
        self.queue.unconfirmed.append(std::mem::take(&mut waiting.unconfirmed));
        self.queue.outbox.tail().reserve_exact(waiting.unwritten_small());
    }

    /// A request of what was set aside goes there.
    pub(crate) fn put_behind(&mut self, ticket: Ticket, request: &[u8], whole: Option<&Shared>) {
        let start = self.queue.end();
        match whole {
            Some(whole) => self.append_whole(whole.clone()),
            None => self.queue.outbox.tail().extend_from_slice(request),
        }
        self.queue.in_flight.push_back(Ticket { start, ..ticket });
    }

    // --- Invalidations -------------------------------------------------------------------------------------------

    /// What is pending from there on is still to be sent.
    pub(crate) const fn invalidate_from(&mut self, invalidated: Invalidated) {
        self.queue.invalidated = invalidated;
    }

    /// It begins, when it is open, with all that is pending. So what is asked on it comes behind what is up to there.
    pub(crate) const fn begin_with_pending(&mut self, invalidated: Invalidated) {
        (self.queue.invalidated, self.queue.begins_with_pending) = (invalidated, true);
    }

    /// A batch has been queued, which may be empty: then nothing up to its end concerns this connection.
    pub(crate) fn sent_invalidations(&mut self, batch: SentBatch) {
        self.queue.invalidated = batch.range.end();
        if batch.left > 0 {
            self.queue.unconfirmed.push(batch);
        }
    }

    /// An invalidation has been answered. Returns its batch, with what is left of it.
    pub(crate) fn invalidation_answered(&mut self) -> Option<SentBatch> {
        self.queue.unconfirmed.answered()
    }

    /// What has been sent and not confirmed does not count, and is sent once more. `false` when that was so already.
    pub(crate) fn put_off_invalidations(&mut self) -> bool {
        let counted = self.queue.unconfirmed.refused();
        if counted {
            self.queue.invalidated = Invalidated::default();
        }
        counted
    }
}

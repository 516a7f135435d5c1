//! What a server was sent of its pending invalidations on one connection, and has not confirmed there.

use std::collections::VecDeque;

use crate::health::pending::BatchRange;

/// Pending invalidations that have been sent together.
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
pub(super) struct SentBatches {
    queue: VecDeque<SentBatch>,
    /// Answers to all of them that have not come.
    left: usize,
}

impl SentBatches {
    /// Answers that have not come.
    pub(super) const fn left(&self) -> usize {
        self.left
    }

    pub(super) fn push(&mut self, batch: SentBatch) {
        self.left += batch.left as usize;
        self.queue.push_back(batch);
    }

    /// Puts others behind these.
    pub(super) fn append(&mut self, later: Self) {
        later.queue.into_iter().for_each(|batch| self.push(batch));
    }

    /// An answer has come. Returns the batch that it belongs to, with what is left of it.
    pub(super) fn answered(&mut self) -> Option<SentBatch> {
        let front = self.queue.front_mut()?;
        front.left -= 1;
        self.left -= 1;
        let batch = *front;
        if batch.left == 0 {
            self.queue.pop_front();
        }
        Some(batch)
    }

    /// None of them counts.
    pub(super) fn put_off(&mut self) {
        self.queue.iter_mut().for_each(|batch| batch.range.up_to = 0);
    }

    /// The server has refused one of the first batch: none of them counts. `false` when the first one did not anyway: what has
    /// been sent behind it since then is judged by the answers to that.
    pub(super) fn refused(&mut self) -> bool {
        let counts = self.queue.front().is_some_and(|batch| batch.range.up_to > 0);
        if counts {
            self.put_off();
        }
        counts
    }
}

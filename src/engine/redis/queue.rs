//! What a client has queued since `MULTI`.

use crate::proto::resp::command::Command;

/// Bytes that a client may queue.
pub(super) const QUEUE_LIMIT: usize = 64 << 20;

/// What a queued request takes besides its bytes, in the queue and when it is carried out: it is copied to its server's
/// stream, and what is made of its answer is noted.
pub(super) const REQUEST_COST: usize = 320;

/// What a client has queued since `MULTI`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(super) requests: Vec<Queued>,
    pub(super) bytes: usize,
    /// A request was refused: `EXEC` will carry out none.
    pub(super) spoiled: bool,
}

#[derive(Debug)]
pub(super) struct Queued {
    pub(super) raw: Vec<u8>,
    pub(super) command: &'static Command,
}

impl Queue {
    pub(crate) fn footprint(&self) -> usize {
        2 * self.bytes + self.requests.capacity() * size_of::<Queued>() + self.requests.len() * REQUEST_COST
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Drops the requests; they are not to be carried out.
    pub(super) fn clear(&mut self) {
        (self.requests, self.bytes, self.spoiled) = (Vec::new(), 0, true);
    }
}

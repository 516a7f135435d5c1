//! What pending invalidations are called by: keys, connections, batches, and how much a connection has been sent.

use std::sync::Arc;

/// A key that a server has to forget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleKey {
    /// Redis: the database that it is in.
    pub database: Option<u32>,
    /// The key as it stands on the wire.
    pub key: Arc<[u8]>,
    /// It is base64 (`b` of the meta commands).
    pub base64: bool,
}

/// Names a connection of this process to a server, or a section of what was asked on it. No two ever have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionName {
    /// The worker that it belongs to.
    pub worker: u32,
    /// Its place among the connections of the worker.
    pub place: u32,
    /// Which of the connections at that place it is, or which section of what was asked on one (in front of a fence, or
    /// behind it).
    pub section: u32,
}

/// A connection that may have writes in flight that are older than an invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OlderWrites {
    /// The connection.
    pub name: ConnectionName,
    /// It is in another database than what is invalidated, so it cannot send the invalidation.
    pub is_foreign: bool,
}

/// How far a connection has been sent the pending invalidations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Invalidated {
    /// It has been sent all up to this one that concern it.
    pub number: u64,
    /// The last round of sending once more that it has taken part in.
    pub(super) round: u64,
}

/// Which invalidations are sent together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchRange {
    /// The connection had been sent those up to this one before.
    pub from: u64,
    /// The last of them; 0: it is put off.
    pub up_to: u64,
    /// Redis: the database whose keys they are.
    pub database: Option<u32>,
    pub(super) round: u64,
}

impl BatchRange {
    /// How far a connection has been sent them that sent this.
    #[must_use]
    pub const fn end(&self) -> Invalidated {
        Invalidated { number: self.up_to, round: self.round }
    }
}

/// What is sent at a time on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvalidationBatch {
    /// Everything is to be forgotten.
    pub flush: bool,
    /// Everything in the connection's database is.
    pub database: bool,
    /// These keys are.
    pub keys: Vec<StaleKey>,
    /// Which invalidations these are.
    pub range: BatchRange,
    /// Something that only other connections can send has to come behind what was asked on this one: a question behind that
    /// has to find out when it is over ([`PendingInvalidations::connection_ended`](super::PendingInvalidations::connection_ended)).
    pub fence: bool,
    /// Some of it counts only behind what was asked on this connection so far.
    pub is_behind_own: bool,
}

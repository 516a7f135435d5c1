//! What is owed and paid, by name: keys, connections, and how far one has paid.

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

/// Names a connection of this process to a server. None ever has the name of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionName {
    /// The worker that it belongs to.
    pub worker: u32,
    /// Its place among the connections of the worker.
    pub place: u32,
    /// Which of the connections at that place it is, or which part of what was asked on one.
    pub section: u32,
}

/// Where older writes of what is owed may be on their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OlderWrites {
    /// The connection.
    pub name: ConnectionName,
    /// It is in another database than that, so it cannot pay for it.
    pub is_foreign: bool,
}

/// How far a connection has paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Invalidated {
    /// All debts up to this one that concern it.
    pub number: u64,
    /// The last time that something was to be paid anew which it has seen.
    pub(super) round: u64,
}

/// PendingInvalidations that are paid together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchRange {
    /// The connection was behind the debts up to this one before.
    pub from: u64,
    /// The last of them; 0: it is put off.
    pub up_to: u64,
    pub(super) database: Option<u32>,
    pub(super) round: u64,
}

impl BatchRange {
    /// How far who has sent it has paid.
    #[must_use]
    pub const fn end(&self) -> Invalidated {
        Invalidated { number: self.up_to, round: self.round }
    }
}

/// What is to be paid at a time on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvalidationBatch {
    /// Everything is to be forgotten.
    pub flush: bool,
    /// Everything in the connection's database is.
    pub database: bool,
    /// These keys are.
    pub keys: Vec<StaleKey>,
    /// Which debts these are.
    pub range: BatchRange,
    /// What is to be paid elsewhere has to wait for what was asked on this connection: it is to be found out when that is
    /// over ([`PendingInvalidations::connection_ended`](super::PendingInvalidations::connection_ended)).
    pub fence: bool,
    /// Some of it counts only behind what was asked on this connection so far.
    pub is_behind_own: bool,
}

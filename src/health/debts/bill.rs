//! What is owed and paid, by name: keys, connections, and how far one has paid.

use std::sync::Arc;

/// A key that a server has to forget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwedKey {
    /// Redis: the database that it is in.
    pub database: Option<u32>,
    /// The key as it stands on the wire.
    pub key: Arc<[u8]>,
    /// It is base64 (`b` of the meta commands).
    pub base64: bool,
}

/// Names a connection of this process to a server. None ever has the name of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// The worker that it belongs to.
    pub worker: u32,
    /// Its place among the connections of the worker.
    pub place: u32,
    /// Which of the connections at that place it is, or which part of what was asked on one.
    pub turn: u32,
}

/// Where older writes of what is owed may be on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The connection.
    pub way: Way,
    /// It is in another database than that, so it cannot pay for it.
    pub is_foreign: bool,
}

/// How far a connection has paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// All debts up to this one that concern it.
    pub number: u64,
    /// The last time that something was to be paid anew which it has seen.
    pub(super) round: u64,
}

/// Debts that are paid together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// The connection was behind the debts up to this one before.
    pub from: u64,
    /// The last of them; 0: it is put off.
    pub up_to: u64,
    pub(super) database: Option<u32>,
    pub(super) round: u64,
}

impl Share {
    /// How far who has sent it has paid.
    #[must_use]
    pub const fn behind(&self) -> Behind {
        Behind { number: self.up_to, round: self.round }
    }
}

/// What is to be paid at a time on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bill {
    /// Everything is to be forgotten.
    pub flush: bool,
    /// Everything in the connection's database is.
    pub database: bool,
    /// These keys are.
    pub keys: Vec<OwedKey>,
    /// Which debts these are.
    pub share: Share,
    /// What is to be paid elsewhere has to wait for what was asked on this connection: it is to be found out when that is
    /// over ([`Debts::end_way`](super::Debts::end_way)).
    pub fence: bool,
    /// Some of it counts only behind what was asked on this connection so far.
    pub is_behind_own: bool,
}

//! What a connection is for: everybody's requests, a probe, or one client.

use crate::engine::ids::SessionId;
use crate::engine::redis::{Name, Waiting};
use crate::time::Instant;

/// What a link is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Requests of clients.
    Traffic,
    /// Finding out whether an ejected server is well again.
    Probe(Probe),
    /// Requests of one client that wait for as long as they like, or go on for ever.
    Dedicated(Dedicated),
    /// It was a client's own, and is kept for whoever needs one next. The server has this name for it.
    Spare(Name),
    /// Nothing: the next one that is opened for a client has its place.
    Free,
}

/// How far the probe of a server has come on its connection.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) step: ProbeStep,
    /// Keys that were invalidated, and whether a flush was sent.
    pub(crate) keys_invalidated: u32,
    pub(crate) flushed: bool,
    /// Whether the server turned out to have been started anew; `None` where that is not known.
    pub(crate) restarted: Option<bool>,
}

/// A client's own connection.
#[derive(Debug)]
pub(crate) struct Dedicated {
    pub(crate) owner: SessionId,
    /// The client hears messages on it.
    pub(crate) listens: bool,
    /// What is known of it so that what waits there can be ended.
    pub(crate) waiting: Waiting,
}

impl Dedicated {
    pub(crate) fn of(owner: SessionId) -> Self {
        Self { owner, listens: false, waiting: Waiting::default() }
    }
}

/// How far the probe of a server has come. The steps between the first and the last are for `rejoin: flush` and `safe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ProbeStep {
    /// It is asked whether it is there.
    #[default]
    Ask,
    /// It is there, and given time to come to the end of what it was asked on older connections.
    Settle,
    /// It has not come to that end, so they were reset at this time.
    Reset(Instant),
    /// It is asked who it is.
    Identify,
    /// It is sent its pending invalidations.
    Invalidate,
}

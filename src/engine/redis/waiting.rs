//! What is known of a connection on which a client waits.

use crate::time::Instant;

/// What a server calls a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Name {
    #[default]
    Unasked,
    Asked,
    Told(u64),
    /// It does not say, or does not end what waits there.
    Withheld,
}

/// What is known of a connection on which requests wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waiting {
    pub(super) name: Name,
    /// What waits there was to be ended: nothing else is to be, and the connection is closed when it is free.
    pub(super) leaves: bool,
    /// The server has been asked to end it, and has not answered that.
    pub(super) ending: bool,
    /// Since when it has been tried to end it.
    pub(super) since: Option<Instant>,
    /// Somebody has unblocked its client, which is so told what the server says of the end.
    pub(super) unblocked: Option<Unblocked>,
}

/// How a client is unblocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unblocked {
    /// As if its time were over.
    TimedOut,
    /// With an error.
    Refused,
}

impl Waiting {
    /// On a connection that the server calls so.
    pub(in crate::engine) fn named(name: Name) -> Self {
        Self { name, ..Self::default() }
    }

    pub(in crate::engine) const fn name(&self) -> Name {
        self.name
    }

    /// The server has said what it calls it. Returns whether what waits there is to be ended.
    pub(in crate::engine) const fn is_called(&mut self, name: Name) -> bool {
        self.name = name;
        self.unblocked.is_some()
    }

    pub(in crate::engine) const fn leaves(&self) -> bool {
        self.leaves
    }
}

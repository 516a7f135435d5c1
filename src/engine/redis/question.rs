//! What a client asks about other clients, and what workers find out.

use crate::config::model::PoolId;
use crate::engine::ids::SessionId;
use std::sync::Arc;

/// Something that a client wants to know of others, or wants done to them.
#[derive(Debug, PartialEq, Eq)]
pub struct Inquiry {
    pub(super) worker: usize,
    pub(super) asker: SessionId,
    pub(super) pool: PoolId,
    pub(super) wanted: Wanted,
    pub(super) action: Action,
}

/// Which clients are meant: those of which all that is said here is true.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Their numbers, in the order in which they were named.
    pub(super) ids: Option<Vec<u64>>,
    /// The same in order, for whoever looks them up.
    pub(super) sorted: Vec<u64>,
    pub(super) address: Option<Vec<u8>>,
    pub(super) local_address: Option<Vec<u8>>,
    pub(super) kind: Option<Kind>,
    /// They have given the name of the pool's user, or no name at all.
    pub(super) has_user: Option<bool>,
    /// Not the one who asks.
    pub(super) others_only: bool,
}

/// What is to be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    List,
    /// `address_only` is the old form, which answers `OK` or an error.
    Kill {
        address_only: bool,
    },
    Unblock {
        with_error: bool,
    },
}

/// What a client is to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Subscriber,
    /// Servers are; they are no clients here.
    Server,
}

impl Kind {
    /// The kind that Redis calls so.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"normal" => Self::Normal,
            b"pubsub" => Self::Subscriber,
            b"master" | b"replica" | b"slave" => Self::Server,
            _ => return None,
        })
    }
}

/// What a worker has found among its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    pub(super) inquiry: Arc<Inquiry>,
    pub(super) text: Vec<u8>,
    /// Whose lines they are, and where each ends.
    pub(super) lines: Vec<(u64, usize)>,
    /// To how many it was done.
    pub(super) done: u64,
    /// It is to be done to the one who asks as well, behind the answer.
    pub(super) has_asker: bool,
    /// There was no memory for the text.
    pub(super) is_cut: bool,
}

impl Inquiry {
    /// The number of the worker whose client asks.
    #[must_use]
    pub const fn worker(&self) -> usize {
        self.worker
    }
}

impl Findings {
    /// Nothing: the worker that was to look has ended.
    #[must_use]
    pub const fn none(inquiry: Arc<Inquiry>) -> Self {
        Self { inquiry, text: Vec::new(), lines: Vec::new(), done: 0, has_asker: false, is_cut: false }
    }

    /// The number of the worker that waits for them.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.inquiry.worker
    }

    pub(super) fn footprint(&self) -> usize {
        self.text.capacity() + self.lines.capacity() * size_of::<(u64, usize)>()
    }
}

/// A worker that looks through its clients.
#[derive(Debug)]
pub(in crate::engine) struct Search {
    pub(super) findings: Findings,
    /// The place of the next client.
    pub(super) next: usize,
    pub(super) charged: usize,
}

impl Search {
    pub(super) fn new(inquiry: Arc<Inquiry>) -> Box<Self> {
        Box::new(Self { findings: Findings::none(inquiry), next: 0, charged: 0 })
    }
}

/// A client's own inquiry, until all workers have said what they found.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(super) inquiry: Arc<Inquiry>,
    /// Workers that have not.
    pub(super) awaited: usize,
    pub(super) found: Vec<Findings>,
}

impl Asking {
    /// Memory that it holds.
    pub(super) fn footprint(&self) -> usize {
        let ids = self.inquiry.wanted.ids.as_ref().map_or(0, Vec::capacity) + self.inquiry.wanted.sorted.capacity();
        self.found.iter().map(Findings::footprint).sum::<usize>() + ids * size_of::<u64>()
    }
}

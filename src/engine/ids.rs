//! Names of clients and of connections to servers. Their places are used again; the generation tells who has one now.

/// Names a session. The generation tells a client from an earlier one in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SessionId {
    /// The place of the session; taken by at most one session at a time.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Names a link of a worker. The generation tells a link from an earlier one in the same place, of another client, server
/// or pool. Whoever has kept an id asks `Servers::get` whether it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl LinkId {
    /// The first link at a place.
    pub(crate) fn first(place: usize) -> Self {
        Self { place: u32::try_from(place).unwrap_or(u32::MAX), generation: 0 }
    }

    /// Its place among the links of the worker; taken by at most one link at a time.
    #[must_use]
    pub fn index(self) -> usize {
        self.place as usize
    }

    /// The next link at the same place.
    pub(crate) const fn next(self) -> Self {
        Self { generation: self.generation.wrapping_add(1), ..self }
    }
}

//! What is pending for a server, as others are told of it: the next process, or another pool.

use super::{PendingInvalidations, StaleKey};
use crate::time::Instant;

/// All that a server has to forget, without who sends it and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invalidations {
    /// Everything is to be forgotten.
    pub flush: bool,
    /// Everything in these databases is.
    pub databases: Vec<u32>,
    /// These keys are.
    pub keys: Vec<StaleKey>,
}

impl Invalidations {
    /// That of everything.
    #[must_use]
    pub fn of_all() -> Self {
        Self { flush: true, ..Self::default() }
    }

    /// Whether there is nothing to be forgotten.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Up to where something has been told of what is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The number of the newest invalidation.
    last: u64,
    /// When the last of the flushes takes effect that do so later.
    later: Option<Instant>,
}

impl PendingInvalidations {
    /// What has become pending behind a mark, which is set to the end of that. What has become pending anew is among it.
    pub fn since(&self, mark: &mut Mark) -> Invalidations {
        let now = Mark { last: self.last, later: self.later.last().copied() };
        let Mark { last, later } = std::mem::replace(mark, now);
        if now.last == last && now.later <= later {
            return Invalidations::default();
        }
        if self.flush.as_ref().is_some_and(|flush| flush.number > last) || now.later > later {
            return Invalidations::of_all();
        }
        let databases = self.databases.iter().filter(|(_, flush)| flush.number > last);
        let keys = self.keys.iter().filter(|((_, number), _)| *number > last);
        Invalidations {
            flush: false,
            databases: databases.map(|(database, _)| *database).collect(),
            keys: keys.map(|(_, pending)| pending.key.clone()).collect(),
        }
    }

    /// All that is pending. A flush that takes effect later counts as one that does at once: when it is due, nobody may be
    /// there to know of it.
    #[must_use]
    pub fn all(&self) -> Invalidations {
        let flushes = self.flushes();
        if flushes.flush {
            return flushes;
        }
        Invalidations { keys: self.keys.values().map(|pending| pending.key.clone()).collect(), ..flushes }
    }

    /// The same without keys.
    #[must_use]
    pub fn flushes(&self) -> Invalidations {
        let flush = self.flush.is_some() || !self.later.is_empty();
        let databases = if flush { Vec::new() } else { self.databases.keys().copied().collect() };
        Invalidations { flush, databases, keys: Vec::new() }
    }
}

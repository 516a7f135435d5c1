//! What a pool makes of a server's failure: the one place where that is decided.

use crate::config::model::{OnFailure, Pool};
use crate::outcome::Outcome;

/// What a request becomes that a server failed, by the options `on_failure` and `absorb_add` of its pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    on_failure: OnFailure,
    absorb_add: bool,
}

impl Policy {
    /// That of a pool.
    #[inline]
    pub(super) const fn of(pool: &Pool) -> Self {
        Self { on_failure: pool.on_failure, absorb_add: pool.absorb_add }
    }

    /// The client gets an error.
    #[inline]
    pub(super) const fn tells(self) -> bool {
        matches!(self.on_failure, OnFailure::Error)
    }

    /// The client is answered in the server's place wherever that is possible, and hears of no failure.
    #[inline]
    pub(super) const fn hides(self) -> bool {
        !self.tells()
    }

    /// Writes are answered as if they had been done.
    #[inline]
    pub(super) const fn absorbs(self) -> bool {
        matches!(self.on_failure, OnFailure::Absorb)
    }

    /// So is one that stores only what is not there: a client may believe that it holds a lock.
    #[inline]
    pub(super) const fn absorbs_add(self) -> bool {
        self.absorb_add
    }

    /// How the request is counted.
    #[inline]
    pub(super) const fn outcome(self) -> Outcome {
        if self.tells() { Outcome::Failed } else { Outcome::Degraded }
    }
}

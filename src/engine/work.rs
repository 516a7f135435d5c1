//! What the turn of a client costs.

use std::time::Duration;

use super::ids::SessionId;
use crate::time::Instant;

/// What a turn may cost. The unit is a byte of an answer made here. A window of requests for servers costs less.
pub(super) const LIMIT: usize = 72 << 10;

/// How long it is not long ago that a client has come to the end of a turn.
pub(super) const NOT_LONG: Duration = Duration::from_millis(100);

/// What a request costs besides: about a microsecond.
pub(super) const REQUEST: usize = 64;

/// What a request costs for each server that it goes to, and for each of its keys.
pub(super) const PART: usize = 32;

pub(super) const KEY: usize = 8;

/// What the parts of a long request cost that is made ready in portions: an argument that is looked for; a key of which the
/// server is looked for, and so many bytes of it; an argument that is copied, and so many bytes of it.
pub(super) const ARGUMENT: usize = 2;

pub(super) const HASHED: usize = 10;

pub(super) const COPIED: usize = 32;

/// What the turn at hand has cost.
#[derive(Debug)]
pub(super) struct Work {
    /// Whose turn it is, and when it has begun. In one moment nobody has two; nobody's has never begun.
    of: (SessionId, Instant),
    pub(super) cost: usize,
    /// What it may cost.
    limit: usize,
    /// What one may cost.
    pub(super) most: usize,
}

impl Default for Work {
    fn default() -> Self {
        Self::with_turns_of(LIMIT)
    }
}

impl Work {
    /// Nobody's turn, where one may cost so much.
    pub(super) const fn with_turns_of(most: usize) -> Self {
        let nobody = SessionId { index: u32::MAX, generation: u32::MAX };
        Self { of: (nobody, Instant::NEVER), cost: 0, limit: most, most }
    }

    /// What the turn of a client may cost that has come to the end of one not long ago.
    pub(super) const fn short(&self) -> usize {
        self.most / 8
    }

    /// Whether the rest of what is being done is left for the next turn.
    pub(super) const fn is_over(&self) -> bool {
        self.cost >= self.limit
    }

    /// Requests of a client are looked at, whose turns are short until then.
    #[inline]
    pub(super) fn begin(&mut self, id: SessionId, now: Instant, is_short_until: Instant) {
        if self.of != (id, now) {
            (self.of, self.cost, self.limit) = ((id, now), 0, self.most);
            if now < is_short_until {
                self.shorten();
            }
        }
    }

    #[cold]
    const fn shorten(&mut self) {
        self.limit = self.short();
    }
}

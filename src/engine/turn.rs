//! What a client may cost in one turn: when what it asks takes longer, the rest waits until everybody else is served.
//!
//! Requests that wait for servers are limited by the client's window. Those that are answered at once, or not at all, are
//! limited here: their cost is counted while they are carried out, and behind the one that reaches [`LIMIT`] the client is
//! paused. What it has sent stays where it is, and goes on as a [chore](super::chores).

use super::Engine;
use super::chores::Chore;
use super::link::Ticket;
use super::session::SessionId;
use crate::time::Instant;

/// What a turn may cost. The unit is a byte of an answer made here. A window of requests for servers costs less.
pub(super) const LIMIT: usize = 72 << 10;

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
    /// Whose turn it is, and when it has begun. In one moment nobody has two.
    of: SessionId,
    since: Instant,
    pub(super) cost: usize,
}

impl Default for Work {
    fn default() -> Self {
        Self { of: SessionId { index: Ticket::NOBODY, generation: 0 }, since: Instant::NEVER, cost: 0 }
    }
}

impl Work {
    /// Whether the rest of what is being done is left for the next turn.
    pub(super) const fn is_over(&self) -> bool {
        self.cost >= LIMIT
    }

    /// Requests of a client are looked at.
    #[inline]
    pub(super) fn begin(&mut self, id: SessionId, now: Instant) {
        if self.since != now || self.of != id {
            *self = Self { of: id, since: now, cost: 0 };
        }
    }
}

impl Engine {
    /// A client has had its turn: what it has sent, which was read at `since`, goes on in the next.
    #[cold]
    #[inline(never)]
    pub(super) fn end_turn(&mut self, id: SessionId, since: Instant, now: Instant) {
        let Some(session) = self.session(id) else { return };
        session.paused = Some(since);
        session.had_turn = true;
        self.put_off(Chore::GoOn(id), now);
    }

    /// A client has its next turn; says how many steps that took.
    pub(super) fn next_turn(&mut self, id: SessionId, now: Instant) -> usize {
        let Some(session) = self.session(id) else { return 0 };
        session.had_turn = false;
        self.work = Work::default();
        self.resume(id, now);
        self.work.cost / REQUEST
    }
}

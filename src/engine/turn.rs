//! What a client may cost in one turn: when what it asks takes longer, the rest waits until everybody else is served.
//!
//! Requests that wait for servers are limited by the client's window. Those that are answered at once, or not at all, are
//! limited here: their cost is counted while they are carried out, and behind the one that reaches [`LIMIT`] the client is
//! paused. What it has sent stays where it is, and goes on as a [chore](super::chores).
//!
//! Others may have to wait for one of its turns when they ask, and for one more when their answer comes. So who has come to
//! the end of a turn has [shorter](SHORT) ones for a while. Who asks for less than that at a time never notices.

use super::Engine;
use super::chores::{Chore, PORTION};
use super::session::SessionId;
use crate::time::Instant;
use std::time::Duration;

/// What a turn may cost. The unit is a byte of an answer made here. A window of requests for servers costs less.
const LIMIT: usize = 72 << 10;

/// The same, of a client that has come to the end of a turn not long ago, and how long that is.
const SHORT: usize = LIMIT / 8;
const NOT_LONG: Duration = Duration::from_millis(100);

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
    of: Option<(SessionId, Instant)>,
    pub(super) cost: usize,
    /// What it may cost.
    limit: usize,
}

impl Default for Work {
    fn default() -> Self {
        Self { of: None, cost: 0, limit: LIMIT }
    }
}

impl Work {
    /// Whether the rest of what is being done is left for the next turn.
    pub(super) const fn is_over(&self) -> bool {
        self.cost >= self.limit
    }

    /// Requests of a client are looked at, whose turns are short until then.
    #[inline]
    pub(super) fn begin(&mut self, id: SessionId, now: Instant, is_short_until: Instant) {
        if self.of != Some((id, now)) {
            let limit = if now < is_short_until { SHORT } else { LIMIT };
            *self = Self { of: Some((id, now)), cost: 0, limit };
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
        session.short_turns_until = now + NOT_LONG;
        self.put_off(Chore::GoOn(id), now);
    }

    /// A client has its next turn; says how many steps that took. A short one is a whole portion of them.
    pub(super) fn next_turn(&mut self, id: SessionId, now: Instant) -> usize {
        let Some(session) = self.session(id) else { return 0 };
        session.had_turn = false;
        self.work = Work::default();
        self.resume(id, now);
        self.work.cost * PORTION / SHORT
    }
}

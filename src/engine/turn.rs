//! What a client may cost in one turn: when what it asks takes longer, the rest waits until everybody else is served.
//!
//! Requests that wait for servers are limited by the client's window. Those that are answered at once, or not at all, are
//! limited here: their cost is counted while they are carried out, and behind the one that reaches [`LIMIT`](super::work::LIMIT) the client is
//! paused. What it has sent stays where it is, and goes on as a [chore](super::chores).
//!
//! Others may have to wait for one of its turns when they ask, and for one more when their answer comes. So who has come to
//! the end of a turn has [shorter](Work::short) ones for a while. Who asks for less than that at a time never notices.

use super::Engine;
use super::chore::{Chore, PORTION};
use super::ids::SessionId;
use super::work::{NOT_LONG, Work};
use crate::time::Instant;

impl Engine {
    /// A client has had its turn: what it has sent, which was read at `since`, goes on in the next.
    #[cold]
    #[inline(never)]
    pub(super) fn end_turn(&mut self, id: SessionId, since: Instant, now: Instant) {
        let Some(session) = self.session(id) else { return };
        session.input.end_turn(since, now + NOT_LONG);
        self.put_off(Chore::GoOn(id), now);
    }

    /// A client has its next turn; says how many steps that took. A short one is a whole portion of them.
    pub(super) fn next_turn(&mut self, id: SessionId, now: Instant) -> usize {
        let Some(session) = self.session(id) else { return 0 };
        session.input.begin_turn();
        self.work = Work::with_turns_of(self.work.most);
        self.resume(id, now);
        self.work.cost * PORTION / self.work.short()
    }
}

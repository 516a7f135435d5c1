//! Who holds how much memory, and what happens when it runs out.
//!
//! Every byte that a peer makes the worker hold is charged to a client or to a server connection, and all of them
//! together stay below the worker's share of `memory_limit`. Most clients hold little: up to their *fair* share nobody
//! is ever asked to give anything back. Who holds more is a *hoarder*, and hoarders share what lies below the *common*
//! limit; the rest is kept for everybody else. So it is the hoarders that meet the limit first:
//!
//! - what they send is not read any more (they *starve*), one of them at a time excepted, so that what is nearly whole
//!   becomes whole;
//! - a large value that has waited for memory for too long is refused, as if its server had failed;
//! - who has not turned over what it holds for seconds while others need memory is cut off, the one that holds most first;
//! - a subscriber cannot be held back, so the one with the most unread messages is cut off at once.

mod cut_off;
pub(super) mod grow;
mod held;

use std::time::Duration;

use super::Engine;
use super::deadline::Timer;
use super::ids::{LinkId, SessionId};
use super::servers::Connection;
use crate::failure::Failure;
use crate::time::Instant;
pub(super) use grow::{grow, grow_to, growth};
#[cfg(test)]
pub(super) use held::Limits;
pub(super) use held::Memory;

/// How long a hoarder may take to turn over what it holds while others need memory: one that has sent most of it and not
/// the end, and one that does not read.
const SENDERS_PATIENCE: Duration = Duration::from_secs(2);
const READERS_PATIENCE: Duration = Duration::from_secs(8);

/// How often scarce memory is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long a large value waits for memory before it is refused, where the pool has no shorter `timeout`.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Fair shares that a client may fill with a transaction before it counts as a hoarder's.
const QUEUED_SHARES: usize = 4;

impl Engine {
    /// Bytes that are charged for a client.
    pub(super) fn held_by(&self, id: SessionId) -> usize {
        self.session_ref(id).map_or(0, |session| session.holding.charged())
    }

    /// Whether somebody who holds `held` bytes may hold `more`.
    #[inline]
    pub(super) fn has_memory(&self, held: usize, more: usize) -> bool {
        self.memory.has(held, more)
    }

    /// Whether there is memory for a copy of `len` bytes to a client, and whether there is where the bytes themselves are
    /// still kept as well.
    #[inline(never)]
    pub(super) fn has_room(&mut self, id: SessionId, len: usize) -> (bool, bool) {
        let held = self.held_by(id);
        (self.make_memory(held, len), self.memory.held() + 2 * len <= self.memory.limits().share(held + len))
    }

    /// Whether a client can be given so many bytes that are kept here, with nobody else having to pay for it.
    pub(super) fn has_room_beside(&self, id: SessionId, len: usize) -> bool {
        len <= super::deliver::SMALL
            || self.memory.held() + 2 * len <= self.memory.limits().share(self.held_by(id) + len)
    }

    /// Memory is above its limit: whether a client is not to ask for more.
    #[cold]
    #[inline(never)]
    pub(super) fn is_short(&self, id: SessionId) -> bool {
        let held = self.held_by(id);
        self.memory.refuses || self.memory.held() > self.memory.limits().share(held)
    }

    /// As [`Engine::has_memory`]. If there is none for somebody who has held little so far, hoarders that have had their
    /// time are cut off.
    pub(super) fn make_memory(&mut self, held: usize, more: usize) -> bool {
        self.make_memory_as(held, held + more, more)
    }

    /// As [`Engine::make_memory`], for a part of a transaction. There is nothing but an error to be told where one does
    /// not fit, so those of some fair shares are taken for little.
    pub(super) fn make_memory_to_queue(&mut self, held: usize, more: usize) -> bool {
        let bonus = (QUEUED_SHARES - 1) * self.memory.limits().fair;
        let (before, then) = (held.saturating_sub(bonus), (held + more).saturating_sub(bonus));
        while !self.make_memory_as(before, then, more) {
            // Rather than that, the largest of those goes that hold more, whatever it is about to do.
            let victim = self.largest(|_| true).filter(|(_, charged)| *charged > held + more);
            let Some((victim, _)) = victim.filter(|_| before <= self.memory.limits().fair) else { return false };
            self.cut_off_client(victim);
        }
        true
    }

    /// Makes room for `more` bytes for somebody who counts as holding so many bytes before and then.
    fn make_memory_as(&mut self, before: usize, then: usize, more: usize) -> bool {
        let mut has_slack = true;
        while self.memory.held() + more > self.memory.limits().share(then) {
            if before > self.memory.limits().fair {
                return false;
            }
            if std::mem::take(&mut has_slack) {
                self.have_slack_given_back();
                continue;
            }
            let Some(victim) = self.overdue(self.now).filter(|(_, charged)| *charged >= more) else { return false };
            self.cut_off_client(victim.0);
        }
        true
    }

    /// How large a response on a link may become: half of all memory at most, as what it outgrows while it comes is given
    /// back by the allocator only seconds later.
    pub(super) fn reply_room(&self, link: &Connection) -> usize {
        // What a link holds is most of all the beginning of this very response.
        let others = self.memory.held() - link.charged();
        let limits = self.memory.limits();
        limits.common.saturating_sub(others).min(limits.all / 2).max(limits.fair)
    }

    /// The largest value that is taken of a link.
    #[inline]
    pub(super) fn response_limit(&self, link: &Connection) -> usize {
        let limit = self.topology.pools[link.pool().index()].value_limit;
        if self.memory.held() + limit <= self.memory.limits().common { limit } else { limit.min(self.reply_room(link)) }
    }

    /// A value of so many bytes is larger than is taken of a link.
    #[cold]
    pub(super) fn drop_response(&mut self, id: LinkId, len: usize) {
        let link = &mut self.servers[id];
        let limit = self.topology.pools[link.pool().index()].value_limit;
        let failure = if len > limit { Failure::TooLarge } else { Failure::NoMemory };
        link.drop_some(failure);
    }

    /// A client has begun or ceased to hold more than its fair share.
    #[cold]
    #[inline(never)]
    pub(super) fn note_hoard(&mut self, id: SessionId) {
        let (now, fair) = (self.now, self.memory.limits().fair);
        let Some(session) = self.session(id) else { return };
        if !session.holding.judge(fair, now) {
            return;
        }
        if self.memory.hoarders.len() > 2 * self.clients.len() {
            self.forget_former();
        }
        self.memory.hoarders.push(id);
    }

    /// A hoarder has got rid of so many bytes.
    #[cold]
    #[inline(never)]
    pub(super) fn turn_over(&mut self, id: SessionId, count: usize) {
        let now = self.now;
        let Some(session) = self.session(id) else { return };
        session.holding.turn_over(count, now);
    }

    /// Drops from the list who is a hoarder no more.
    fn forget_former(&mut self) {
        let mut hoarders = std::mem::take(&mut self.memory.hoarders);
        hoarders.sort_unstable();
        hoarders.dedup();
        hoarders.retain(|id| self.session_ref(*id).is_some_and(|session| session.is_hoarder()));
        self.memory.hoarders = hoarders;
    }

    /// Has hoarders give back what they have no use for: they are not to be cut off for it. Nothing else of what they hold is
    /// counted anew: what one of them has sent may be in other hands at the moment.
    pub(super) fn have_slack_given_back(&mut self) {
        let fair = self.memory.limits().fair;
        for index in 0..self.memory.hoarders.len() {
            let id = self.memory.hoarders[index];
            let Some(session) = self.session(id) else { continue };
            let slack = session.output.relax();
            let slack = session.holding.give_back(slack);
            let is_fair = slack > 0 && session.holding.charged() <= fair;
            self.memory.recharge(slack, 0);
            if is_fair {
                self.note_hoard(id); // not one any more
            }
        }
    }

    /// The largest of some hoarders, and what it holds.
    fn largest(&self, is_meant: impl Fn(&super::clients::session::Session) -> bool) -> Option<(SessionId, usize)> {
        let hoarders = self.memory.hoarders.iter();
        hoarders
            .filter_map(|id| Some((*id, self.session_ref(*id)?)))
            .filter(|(_, session)| session.is_hoarder() && is_meant(session))
            .map(|(id, session)| (id, session.holding.charged()))
            .max_by_key(|(_, charged)| *charged)
    }

    /// The largest hoarder that has had its time.
    fn overdue(&self, now: Instant) -> Option<(SessionId, usize)> {
        self.largest(|session| {
            let patience = if session.input.capacity() * 3 > session.holding.charged() {
                SENDERS_PATIENCE
            } else {
                READERS_PATIENCE
            };
            session.holding.has_hoarded(patience, now)
        })
    }

    /// Makes room for a message to a client that cannot be held back: whoever holds most goes, or of the listeners alone
    /// where this one holds much itself. `false` when the client itself has to go.
    #[cold]
    pub(super) fn make_room_for_message(&mut self, owner: SessionId, held: usize, more: usize) -> bool {
        self.make_room_above(owner, held, more, held)
    }

    /// As [`Engine::make_room_for_message`], for what the client asks for itself: nobody goes for it who holds less than
    /// the client then would.
    #[cold]
    pub(super) fn make_room_for_wish(&mut self, owner: SessionId, held: usize, more: usize) -> bool {
        self.make_room_above(owner, held, more, held + more)
    }

    /// Has those go who hold more than `least`.
    fn make_room_above(&mut self, owner: SessionId, before: usize, more: usize, least: usize) -> bool {
        self.have_slack_given_back();
        let held = self.held_by(owner);
        let least = least - before.saturating_sub(held);
        while !self.has_memory(held, more) {
            let holds_little = held <= self.memory.limits().fair;
            let largest = self.largest(|session| holds_little || session.redis().is_some_and(|client| client.listens));
            let Some((victim, _)) = largest.filter(|(_, charged)| *charged > least) else {
                self.cut_off_client(owner);
                return false;
            };
            self.cut_off_client(victim);
        }
        true
    }

    /// Looks at what is scarce.
    #[cold]
    pub(super) fn memory_timer(&mut self, now: Instant) {
        self.memory.timed = false;
        self.forget_former();
        let bearable =
            if self.memory.starved.is_empty() { self.memory.limits().all } else { self.memory.limits().input };
        // Who was not read had no chance to send the rest: what can be refused is, before anybody is cut off for it.
        self.feed_starved(now);
        self.have_slack_given_back();
        if self.memory.held() > bearable && self.stampede.is_on() {
            self.end_waits_of_hoarders(now);
        }
        while self.memory.held() > bearable
            && let Some((victim, _)) = self.overdue(now)
        {
            self.cut_off_client(victim);
        }
        if self.memory.held() > self.memory.limits().common || !self.memory.starved.is_empty() {
            self.memory.timed = true;
            self.timers.set(now + TICK, Timer::Memory);
        }
    }

    // --- What clients send ---------------------------------------------------------------------------------------

    /// Whether a client may be read that has sent something of a message already: where memory is scarce it would grow.
    #[inline]
    pub(super) fn may_grow(&mut self, id: SessionId) -> bool {
        let input = self.memory.limits().input;
        let Some(session) = self.session_ref(id) else { return false };
        let growth = session.input.next_growth(input);
        if self.memory.held() + growth <= input {
            return !session.holding.is_starved();
        }
        self.starve(id, growth, self.now);
        self.session_ref(id).is_some_and(|session| !session.holding.is_starved())
    }

    /// Whether a client has to wait for memory that has sent so many bytes of a message, and is about to hold `growth` more.
    const fn is_large(&self, sent: usize, growth: usize) -> bool {
        sent + growth > self.memory.limits().fair || (self.memory.is_full() && sent > super::deliver::SMALL)
    }

    /// Has a client that sends much wait for memory before more of it is read, unless it is its turn.
    #[cold]
    #[inline(never)]
    pub(super) fn starve(&mut self, id: SessionId, growth: usize, now: Instant) {
        let is_favoured =
            self.memory.favoured == Some(id) && self.memory.held() + growth <= self.memory.limits().most_input;
        let sent = self.session_ref(id).map_or(0, |session| session.input.len());
        let is_large = self.is_large(sent, growth);
        let Some(session) = self.session(id) else { return };
        if session.holding.is_starved() || session.input.is_empty() || !is_large || is_favoured {
            return;
        }
        let since = session.holding.starve(now);
        self.memory.starved.push_back((id, since));
        if !std::mem::replace(&mut self.memory.timed, true) {
            self.timers.set(now + TICK, Timer::Memory);
        }
    }

    /// Lets clients be read again: all of them where memory is there, otherwise one, each in its turn.
    fn feed_starved(&mut self, now: Instant) {
        let input = self.memory.limits().input;
        self.memory.favoured = None;
        let mut starved = std::mem::take(&mut self.memory.starved);
        for _ in 0..starved.len() {
            let Some((id, since)) = starved.pop_front() else { break };
            let Some(session) =
                self.session(id).filter(|session| session.holding.is_starved() && !session.is_closing())
            else {
                continue;
            };
            let (pool, growth) = (session.pool(), session.input.next_growth(input));
            let (sent, charged) = (session.input.len(), session.holding.charged());
            let is_late =
                now - since >= self.timeout(pool).map_or(LONGEST_WAIT, |timeout| (timeout / 2).min(LONGEST_WAIT));
            let is_favoured =
                self.memory.favoured.is_none() && self.memory.held() + growth <= self.memory.limits().most_input;
            // Who sends little pays for nobody: where even that has no room, the largest hoarder goes for it.
            if is_late && self.memory.is_full() && charged <= self.memory.limits().fair {
                self.cut_off_largest();
            }
            if !self.is_large(sent, growth) {
                self.let_read(id);
            } else if self.memory.held() + growth <= self.memory.limits().input || is_favoured {
                if self.memory.held() + growth > self.memory.limits().input {
                    self.memory.favoured = Some(id);
                }
                self.let_read(id);
            } else if is_late && self.refuse_large(id, now) {
                self.let_read(id);
            } else {
                starved.push_back((id, since));
            }
        }
        starved.append(&mut self.memory.starved); // who has come to starve meanwhile
        self.memory.starved = starved;
    }

    /// The largest hoarder goes, unless it is enough to take back what nobody has use for.
    fn cut_off_largest(&mut self) {
        self.have_slack_given_back();
        if self.memory.is_full()
            && let Some((victim, _)) = self.largest(|_| true)
        {
            self.cut_off_client(victim);
        }
    }

    fn let_read(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.holding.feed();
            if session.input.is_paused() {
                self.clients.resume_soon(id);
            }
        }
        self.touch_session(id);
    }

    /// Refuses the large value that a client is sending, as if there were no server for it. `false` when what it sends
    /// is not known to be one.
    pub(super) fn refuse_large(&mut self, id: SessionId, now: Instant) -> bool {
        let Some(session) = self.session(id) else { return false };
        if session.input.is_paused() {
            return true; // it is whole, and is refused when it is looked at again
        }
        let before = session.input.len();
        session.input.refuse_large(true);
        self.parse_partial(id, now);
        let Some(session) = self.session(id) else { return true };
        session.input.refuse_large(false);
        let is_refused = session.input.len() < before;
        self.charge_session(id);
        is_refused
    }

    /// A whole request of so many bytes is to be carried out: is there room for another copy of it, on its way to its
    /// server? `false` when it has to wait for that. When it has waited for long enough, it is answered as if its server
    /// had failed.
    #[cold]
    #[inline(never)]
    pub(super) fn weigh(&mut self, id: SessionId, len: usize, started: Instant, now: Instant) -> bool {
        let held = self.held_by(id).saturating_sub(len);
        let is_favoured = self.memory.favoured == Some(id);
        if self.make_memory(held, len)
            || (len <= self.memory.limits().margin
                && (is_favoured || self.memory.held() <= self.memory.limits().common))
        {
            return true;
        }
        let Some(pool) = self.pool_of(id) else { return true };
        // There will never be room for two of it: nobody need wait, or be cut off, for that.
        if 2 * len > self.memory.limits().all {
            self.memory.refuses = true;
            return true;
        }
        // Half of its time, so that the other half is left to what is behind it.
        if self.timeout(pool).is_none_or(|timeout| now < started + timeout / 2) {
            self.wait_for_memory(id, now);
            return false;
        }
        self.memory.refuses = true;
        true
    }

    /// A client's next request waits until there is memory for it.
    fn wait_for_memory(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session(id) else { return };
        session.input.hold_back();
        let is_new = !session.holding.is_starved();
        let since = session.holding.starve(now);
        if is_new {
            self.memory.starved.push_back((id, since));
        }
        if !std::mem::replace(&mut self.memory.timed, true) {
            self.timers.set(now + TICK, Timer::Memory);
        }
    }
}

#[cfg(test)]
mod tests;

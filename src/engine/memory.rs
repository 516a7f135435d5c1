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

use std::collections::VecDeque;
use std::time::Duration;

use super::Engine;
use super::deadline::Timer;
use super::large::{LARGE, enlarge};
use super::link::{Link, LinkId};
use super::session::SessionId;
use crate::failure::Failure;
use crate::time::Instant;

/// How long a hoarder may take to turn over what it holds while others need memory: one that has sent most of it and not
/// the end, and one that does not read.
const SENDERS_PATIENCE: Duration = Duration::from_secs(2);
const READERS_PATIENCE: Duration = Duration::from_secs(8);

/// How often scarce memory is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long a large value waits for memory before it is refused, where the pool has no shorter `timeout`.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Bytes above the limit at which the largest holder is cut off whoever it is: half of the limit, up to this.
const MOST_MARGIN: usize = 8 << 20;

/// A request of more bytes is carried out only when there is memory for another copy of it.
pub(super) const WEIGHED: usize = 256 << 10;

/// What a client may hold without being a hoarder: this part of the limit, within bounds.
const FAIR_PART: usize = 1024;
const FAIR_BOUNDS: (usize, usize) = (32 << 10, 256 << 10);

/// Fair shares that a client may fill with a transaction before it counts as a hoarder's.
const QUEUED_SHARES: usize = 4;

/// Responses that may wait for a client before no more of its requests are carried out: this part of the limit.
const OUTPUT_PART: usize = 256;
const OUTPUT_BOUNDS: (usize, usize) = (64 << 10, 1 << 20);

/// Where memory has gone that is worth asking back.
#[derive(Debug)]
pub(super) struct Hoards {
    /// What a client may hold without being a hoarder.
    pub(super) fair: usize,
    /// What all may hold before hoarders are held back.
    pub(super) common: usize,
    /// What all may hold before hoarders are not read any more: with what is read, most is still to come.
    pub(super) input: usize,
    /// What all may hold before not even one of them is read.
    most_input: usize,
    /// What all may hold before even those are refused that hold no more than their fair share. Hoarders do not come to
    /// it; but copies of what they have sent, and what has come for them unasked, may be above the limit for a while, and
    /// that is not to be paid by others.
    pub(super) last: usize,
    /// Bytes above the limit at which the largest holder is cut off whoever it is. One copy of a request of this size may
    /// go above the limit where the request itself had room.
    margin: usize,
    /// Bytes of responses that may wait for a client before its requests do.
    pub(super) output: usize,
    /// The hoarders; some may have given up what they held, or left.
    hoarders: Vec<SessionId>,
    /// Clients that are not read, in the order in which they came to starve.
    starved: VecDeque<(SessionId, Instant)>,
    /// The one that is read all the same.
    favoured: Option<SessionId>,
    /// The next place of a client to be looked at where there are no hoarders.
    looked_at: usize,
    /// A timer is set.
    timed: bool,
    /// The request at hand is to be answered as if its server had failed.
    pub(super) refuses: bool,
}

/// What a hoarder has to get rid of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hoard {
    /// When it began to hold what it has to get rid of.
    since: Instant,
    /// Bytes of it that are left.
    left: usize,
}

impl Hoards {
    /// Nobody holds much, of so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        let margin = (limit / 2).min(MOST_MARGIN);
        Self {
            last: limit + margin / 2,
            margin,
            fair: (limit / FAIR_PART).clamp(FAIR_BOUNDS.0, FAIR_BOUNDS.1).min(limit / 4),
            common: limit - limit / 8,
            input: limit / 2,
            most_input: limit - limit / 16,
            output: (limit / OUTPUT_PART).clamp(OUTPUT_BOUNDS.0, OUTPUT_BOUNDS.1),
            hoarders: Vec::new(),
            starved: VecDeque::new(),
            favoured: None,
            looked_at: 0,
            timed: false,
            refuses: false,
        }
    }

    /// What one message may take where nobody else holds anything, and what while it is moved to a larger place.
    pub(super) const fn room_for_one(&self) -> (usize, usize) {
        (self.most_input, self.most_input + self.most_input / 15 + self.margin)
    }
}

/// Appends bytes to what is kept of a message. A large one grows by a part of what it is, not to twice of it: for a moment
/// there is room for both the old and the new.
#[inline]
pub(super) fn grow(message: &mut Vec<u8>, bytes: &[u8]) {
    grow_to(message, bytes, usize::MAX);
}

/// As [`grow`], of a message that may come to `most` bytes: hardly any room is made for more.
#[inline]
pub(super) fn grow_to(message: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let (len, more) = (message.len(), bytes.len());
    if message.capacity() - len < more && len + more > LARGE {
        enlarge(message, growth(len, more, most));
    }
    message.extend_from_slice(bytes);
}

/// By how much a message of `len` bytes is made larger for `more` of them: to twice of it, up to half of `most`, then to
/// `most`, and by a part of it from there on. So it is never moved to `most` from a place that is nearly as large.
#[inline]
pub(super) fn growth(len: usize, more: usize, most: usize) -> usize {
    let aim = if len < most / 2 { (2 * len).min(most / 2) } else { most };
    more.max(aim.saturating_sub(len)).max(len / 16)
}

impl Engine {
    /// Whether somebody who holds `held` bytes may hold `more`.
    #[inline]
    pub(super) fn has_memory(&self, held: usize, more: usize) -> bool {
        self.memory + more <= self.share(held + more)
    }

    /// What all may hold when somebody holds `held` bytes of it.
    #[inline]
    const fn share(&self, held: usize) -> usize {
        if held > self.hoards.fair { self.hoards.common } else { self.hoards.last }
    }

    /// Whether there is memory for a copy of `len` bytes to a client, and whether there is where the bytes themselves are
    /// still kept as well.
    #[inline(never)]
    pub(super) fn has_room(&mut self, id: SessionId, len: usize) -> (bool, bool) {
        let held = self.session_ref(id).map_or(0, |session| session.charged);
        (self.make_memory(held, len), self.memory + 2 * len <= self.share(held + len))
    }

    /// Memory is above its limit: whether a client is not to ask for more.
    #[cold]
    #[inline(never)]
    pub(super) fn is_short(&self, id: SessionId) -> bool {
        let held = self.session_ref(id).map_or(0, |session| session.charged);
        self.hoards.refuses || self.memory > self.share(held)
    }

    /// As [`Engine::has_memory`]. If there is none for somebody who has held little so far, hoarders that have had their
    /// time are cut off.
    pub(super) fn make_memory(&mut self, held: usize, more: usize) -> bool {
        self.make_memory_as(held, held + more, more)
    }

    /// As [`Engine::make_memory`], for a part of a transaction. There is nothing but an error to be told where one does
    /// not fit, so those of some fair shares are taken for little.
    pub(super) fn make_memory_to_queue(&mut self, held: usize, more: usize) -> bool {
        let bonus = (QUEUED_SHARES - 1) * self.hoards.fair;
        let (before, then) = (held.saturating_sub(bonus), (held + more).saturating_sub(bonus));
        while !self.make_memory_as(before, then, more) {
            // Rather than that, the largest of those goes that hold more, whatever it is about to do.
            let victim = self.largest(|_| true).filter(|(_, charged)| *charged > held + more);
            let Some((victim, _)) = victim.filter(|_| before <= self.hoards.fair) else { return false };
            self.cut_off_client(victim);
        }
        true
    }

    /// Makes room for `more` bytes for somebody who counts as holding so many bytes before and then.
    fn make_memory_as(&mut self, before: usize, then: usize, more: usize) -> bool {
        while self.memory + more > self.share(then) {
            if before > self.hoards.fair {
                return false;
            }
            let Some(victim) = self.overdue(self.now).filter(|(_, charged)| *charged >= more) else { return false };
            self.cut_off_client(victim.0);
        }
        true
    }

    /// How large a response on a link may become: half of all memory at most, as what it outgrows while it comes is given
    /// back by the allocator only seconds later.
    pub(super) fn reply_room(&self, link: &Link) -> usize {
        // What a link holds is most of all the beginning of this very response.
        let others = self.memory - link.charged;
        self.hoards.common.saturating_sub(others).min(self.memory_limit / 2).max(self.hoards.fair)
    }

    /// The largest value that is taken of a link.
    #[inline]
    pub(super) fn response_limit(&self, link: &Link) -> usize {
        let limit = self.config.pools[link.pool.index()].value_limit;
        if self.memory + limit <= self.hoards.common { limit } else { limit.min(self.reply_room(link)) }
    }

    /// A value of so many bytes is larger than is taken of a link.
    #[cold]
    pub(super) fn drop_response(&mut self, id: LinkId, len: usize) {
        let link = &mut self.links[id.index()];
        let limit = self.config.pools[link.pool.index()].value_limit;
        let failure = if len > limit { Failure::TooLarge } else { Failure::NoMemory };
        link.cursor.dropped = Some(failure);
    }

    /// A client has begun or ceased to hold more than its fair share.
    #[cold]
    #[inline(never)]
    pub(super) fn note_hoard(&mut self, id: SessionId) {
        let (now, fair) = (self.now, self.hoards.fair);
        let Some(session) = self.session(id) else { return };
        if session.charged <= fair {
            session.hoard = None;
            return;
        }
        session.hoard = Some(Hoard { since: now, left: session.charged });
        if self.hoards.hoarders.len() > 2 * self.sessions.len() {
            self.forget_former();
        }
        self.hoards.hoarders.push(id);
    }

    /// A hoarder has got rid of so many bytes.
    #[cold]
    #[inline(never)]
    pub(super) fn turn_over(&mut self, id: SessionId, count: usize) {
        let now = self.now;
        let Some(session) = self.session(id) else { return };
        let charged = session.charged;
        if let Some(hoard) = &mut session.hoard {
            hoard.left = hoard.left.saturating_sub(count);
            if hoard.left == 0 {
                *hoard = Hoard { since: now, left: charged };
            }
        }
    }

    /// Drops from the list who is a hoarder no more.
    fn forget_former(&mut self) {
        let mut hoarders = std::mem::take(&mut self.hoards.hoarders);
        hoarders.sort_unstable();
        hoarders.dedup();
        hoarders.retain(|id| self.session_ref(*id).is_some_and(|session| session.hoard.is_some() && !session.closing));
        self.hoards.hoarders = hoarders;
    }

    /// The largest of some hoarders, and what it holds.
    fn largest(&self, is_meant: impl Fn(&super::session::Session) -> bool) -> Option<(SessionId, usize)> {
        let hoarders = self.hoards.hoarders.iter();
        hoarders
            .filter_map(|id| Some((*id, self.session_ref(*id)?)))
            .filter(|(_, session)| session.hoard.is_some() && !session.closing && is_meant(session))
            .map(|(id, session)| (id, session.charged))
            .max_by_key(|(_, charged)| *charged)
    }

    /// The largest hoarder that has had its time.
    fn overdue(&self, now: Instant) -> Option<(SessionId, usize)> {
        self.largest(|session| {
            let patience =
                if session.partial.capacity() * 3 > session.charged { SENDERS_PATIENCE } else { READERS_PATIENCE };
            session.hoard.is_some_and(|hoard| now - hoard.since >= patience)
        })
    }

    /// Makes room for a message to a client that cannot be held back: whoever holds most goes, or of the listeners alone
    /// where this one holds much itself. `false` when the client itself has to go.
    #[cold]
    pub(super) fn make_room_for_message(&mut self, owner: SessionId, held: usize, more: usize) -> bool {
        while !self.has_memory(held, more) {
            let holds_little = held <= self.hoards.fair;
            let largest = self.largest(|session| holds_little || session.listens);
            let Some((victim, _)) = largest.filter(|(_, charged)| *charged > held) else {
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
        self.hoards.timed = false;
        self.forget_former();
        let bearable = if self.hoards.starved.is_empty() { self.memory_limit } else { self.hoards.input };
        // Who was not read had no chance to send the rest: what can be refused is, before anybody is cut off for it.
        self.feed_starved(now);
        while self.memory > bearable
            && let Some((victim, _)) = self.overdue(now)
        {
            self.cut_off_client(victim);
        }
        if self.memory > self.hoards.common || !self.hoards.starved.is_empty() {
            self.hoards.timed = true;
            self.timers.set(now + TICK, Timer::Memory);
        }
    }

    // --- What clients send ---------------------------------------------------------------------------------------

    /// Whether a client may be read that has sent something of a message already: where memory is scarce it would grow.
    #[inline]
    pub(super) fn may_grow(&mut self, id: SessionId) -> bool {
        let input = self.hoards.input;
        let growth = self.session_ref(id).map_or(0, |session| session.next_growth(input));
        if self.memory + growth > self.hoards.input {
            self.starve(id, growth, self.now);
        }
        self.session_ref(id).is_some_and(|session| !session.starved)
    }

    /// Has a client that sends much wait for memory before more of it is read, unless it is its turn.
    #[cold]
    #[inline(never)]
    pub(super) fn starve(&mut self, id: SessionId, growth: usize, now: Instant) {
        let is_favoured = self.hoards.favoured == Some(id) && self.memory + growth <= self.hoards.most_input;
        let (fair, full) = (self.hoards.fair, self.memory > self.hoards.last);
        let Some(session) = self.session(id) else { return };
        let sent = session.partial.len();
        let is_large = sent + growth > fair || (full && sent > super::deliver::SMALL);
        if session.starved || session.partial.is_empty() || !is_large || is_favoured {
            return;
        }
        session.starved = true;
        let since = *session.hungry.get_or_insert(now);
        self.hoards.starved.push_back((id, since));
        if !std::mem::replace(&mut self.hoards.timed, true) {
            self.timers.set(now + TICK, Timer::Memory);
        }
    }

    /// Lets clients be read again: all of them where memory is there, otherwise one, each in its turn.
    fn feed_starved(&mut self, now: Instant) {
        let input = self.hoards.input;
        self.hoards.favoured = None;
        let mut starved = std::mem::take(&mut self.hoards.starved);
        for _ in 0..starved.len() {
            let Some((id, since)) = starved.pop_front() else { break };
            let Some(session) = self.session(id).filter(|session| session.starved && !session.closing) else {
                continue;
            };
            let (pool, growth) = (session.pool, session.next_growth(input));
            let is_small = session.partial.len() <= super::deliver::SMALL;
            let is_late =
                now - since >= self.timeout(pool).map_or(LONGEST_WAIT, |timeout| (timeout / 2).min(LONGEST_WAIT));
            let is_favoured = self.hoards.favoured.is_none() && self.memory + growth <= self.hoards.most_input;
            if is_small {
                self.let_read(id);
            } else if self.memory + growth <= self.hoards.input || is_favoured {
                if self.memory + growth > self.hoards.input {
                    self.hoards.favoured = Some(id);
                }
                self.let_read(id);
            } else if is_late && self.refuse_large(id, now) {
                self.let_read(id);
            } else {
                starved.push_back((id, since));
            }
        }
        starved.append(&mut self.hoards.starved); // who has come to starve meanwhile
        self.hoards.starved = starved;
    }

    fn let_read(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.starved = false;
            if session.paused.is_some() {
                self.resumable.push(id);
            }
        }
        self.touch_session(id);
    }

    /// Refuses the large value that a client is sending, as if there were no server for it. `false` when what it sends
    /// is not known to be one.
    fn refuse_large(&mut self, id: SessionId, now: Instant) -> bool {
        let Some(session) = self.session(id) else { return false };
        if session.paused.is_some() {
            return true; // it is whole, and is refused when it is looked at again
        }
        let before = session.partial.len();
        session.frugal = true;
        self.parse_partial(id, now);
        let Some(session) = self.session(id) else { return true };
        session.frugal = false;
        let is_refused = session.partial.len() < before;
        self.charge_session(id);
        is_refused
    }

    /// A whole request of so many bytes is to be carried out: is there room for another copy of it, on its way to its
    /// server? `false` when it has to wait for that. When it has waited for long enough, it is answered as if its server
    /// had failed.
    #[cold]
    #[inline(never)]
    pub(super) fn weigh(&mut self, id: SessionId, len: usize, started: Instant, now: Instant) -> bool {
        let held = self.session_ref(id).map_or(0, |session| session.charged.saturating_sub(len));
        let is_favoured = self.hoards.favoured == Some(id);
        if self.make_memory(held, len)
            || (len <= self.hoards.margin && (is_favoured || self.memory <= self.hoards.common))
        {
            return true;
        }
        let Some(session) = self.session(id) else { return true };
        let pool = session.pool;
        // Half of its time, so that the other half is left to what is behind it.
        if self.timeout(pool).is_none_or(|timeout| now < started + timeout / 2) {
            self.wait_for_memory(id, now);
            return false;
        }
        self.hoards.refuses = true;
        true
    }

    /// A client's next request waits until there is memory for it.
    fn wait_for_memory(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session(id) else { return };
        session.backpressured = true;
        let since = *session.hungry.get_or_insert(now);
        if !std::mem::replace(&mut session.starved, true) {
            self.hoards.starved.push_back((id, since));
        }
        if !std::mem::replace(&mut self.hoards.timed, true) {
            self.timers.set(now + TICK, Timer::Memory);
        }
    }
}

#[cfg(test)]
mod tests;

//! How many requests of a client may be in flight: a window of keys, and who is not counted in it.

use super::Requests;
use crate::time::Instant;

/// Most keys that a client may have in flight.
const WINDOW_LIMIT: usize = 1024;

/// Fewest keys that a client may have in flight, however large its values are: others wait behind them.
const WINDOW_FLOOR: usize = 2;

/// As many keys may be in flight where responses are no larger than this.
const USUAL_WINDOW: usize = 16;
pub(in crate::engine) const USUAL: usize = WINDOW_BYTES / USUAL_WINDOW;

/// Requests that want no answer and that a client may have in flight, over all servers: others' wait behind them in a
/// server's queue.
const UNHEARD_LIMIT: u32 = 1024;

/// Bytes of responses that one client's requests in flight may be expected to bring.
const WINDOW_BYTES: usize = 1 << 20;

/// Most requests of a client that may wait behind those of a silent server: from there on the window counts all of them.
const OVERTAKING_LIMIT: usize = 8 * WINDOW_LIMIT;

impl Requests {
    // --- How many there may be ----------------------------------------------------------------------------------

    /// Bytes of responses that wait behind an earlier one.
    #[inline]
    pub(in crate::engine) fn held(&self) -> usize {
        self.held
    }

    /// A response for one key had `len` bytes.
    #[inline]
    pub(in crate::engine) fn observe_response(&mut self, len: usize) {
        self.estimate = len.max(self.estimate - self.estimate / 8);
    }

    /// Responses may be large, as those of others are.
    pub(in crate::engine) fn expect_large(&mut self) {
        self.estimate = self.estimate.max(USUAL);
    }

    fn window(&self) -> usize {
        (WINDOW_BYTES / self.estimate.max(1)).clamp(WINDOW_FLOOR, WINDOW_LIMIT)
    }

    fn is_barred(&self) -> bool {
        self.has_bar() && !self.is_empty()
    }

    /// Whether one more key may be in flight.
    #[inline]
    pub(in crate::engine::clients) fn has_room(&self) -> bool {
        // The window is a division, and most clients have fewer in flight than is usual.
        let is_usual = || self.keys < USUAL_WINDOW && self.estimate <= USUAL;
        let has_room = || self.keys < WINDOW_FLOOR || is_usual() || self.keys < self.window();
        !self.is_barred() && !self.is_full_of_unheard() && has_room()
    }

    /// How many more keys may be in flight.
    pub(in crate::engine::clients) fn room(&self) -> usize {
        if self.is_barred() || self.is_full_of_unheard() { 0 } else { self.window().saturating_sub(self.keys) }
    }

    /// Whether so much room is enough to parse on. Half a window at a time: to parse on after every single response would
    /// move the rest of the input each time.
    pub(in crate::engine::clients) fn is_room_again(&self, room: usize) -> bool {
        room * 2 >= self.window() && (self.waits_since.is_none() || self.unheard <= self.goes_on_at)
    }

    // --- Those that want no answer -------------------------------------------------------------------------------

    /// Whether no more of them may be in flight.
    #[inline]
    pub(in crate::engine) const fn is_full_of_unheard(&self) -> bool {
        self.unheard >= UNHEARD_LIMIT
    }

    /// One goes out to a server.
    #[inline]
    pub(in crate::engine) fn enter_unheard(&mut self) {
        self.unheard += 1;
    }

    /// One is in flight no longer. Says whether what follows them may go on.
    #[inline]
    pub(in crate::engine) fn leave_unheard(&mut self) -> bool {
        self.unheard = self.unheard.saturating_sub(1); // of those that are not waited for any more it is not known
        self.waits_since.is_some() && self.unheard == self.goes_on_at
    }

    /// What follows waits until fewer of them are in flight, from now on.
    pub(in crate::engine) fn wait_for_unheard(&mut self, now: Instant) {
        self.waits_since.get_or_insert(now);
        self.goes_on_at = UNHEARD_LIMIT / 2;
    }

    /// What follows, which was read then, waits until all of them have been carried out, as far as is known. `false` if they have.
    pub(in crate::engine) fn wait_for_all_unheard(&mut self, read: Instant) -> bool {
        if self.unheard > 0 {
            self.waits_since.get_or_insert(read);
            self.goes_on_at = 0;
        }
        self.unheard > 0
    }

    /// Since when it does.
    pub(in crate::engine) fn waits_for_unheard_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// What follows goes on. Says whether it had to wait for room: that is not taken from its time.
    #[inline]
    pub(in crate::engine) fn end_wait_for_unheard(&mut self) -> bool {
        self.waits_since.take().is_some() && self.goes_on_at > 0
    }

    /// Those in flight are not waited for any longer. Says what [`Requests::end_wait_for_unheard`] says.
    pub(in crate::engine) fn give_up_unheard(&mut self) -> bool {
        self.gave_up_unheard |= self.unheard > 0;
        self.unheard = 0;
        self.end_wait_for_unheard()
    }

    /// Whether one may be in flight.
    pub(in crate::engine) const fn may_have_unheard(&self) -> bool {
        self.unheard > 0 || self.gave_up_unheard
    }

    // --- Those behind a silent server ------------------------------------------------------------------------------

    /// A server of theirs has gone silent: what comes behind them does not wait for it.
    #[cold]
    pub(in crate::engine) fn let_overtake(&mut self) {
        let is_said = self.may_overtake && self.overtaken_to == self.next_number();
        if is_said || self.slots.len() >= OVERTAKING_LIMIT {
            return;
        }
        self.slots.iter_mut().for_each(|slot| slot.keys = 0);
        self.keys = 0;
        (self.may_overtake, self.overtaken_to) = (true, self.next_number());
    }

    /// Whether one that is answered makes room, though those before it are not.
    #[inline]
    pub(in crate::engine) fn may_overtake(&self) -> bool {
        self.may_overtake
    }

    /// One has been answered, if it has: while those before it wait for a silent server, the window counts it no longer.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn overtake(&mut self, number: u32) {
        self.may_overtake = self.overtaken_to.wrapping_sub(self.base).cast_signed() > 0;
        if !self.may_overtake || self.slots.len() >= OVERTAKING_LIMIT {
            return;
        }
        if let Some(slot) = self.get_mut(number).filter(|slot| slot.waiting() == 0) {
            let keys = std::mem::take(&mut slot.keys);
            self.keys -= keys as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::request::Slot;

    #[test]
    fn what_stands_behind_a_silence_does_not_count_up_to_a_limit_however_often_it_comes() {
        let mut requests = Requests::new();
        (0..100).for_each(|_| requests.observe_response(5));
        let push = |requests: &mut Requests| {
            let before = requests.slots.len();
            while requests.has_room() && requests.slots.len() < 3 * OVERTAKING_LIMIT {
                requests.push(Slot::ready(Vec::new()));
            }
            requests.slots.len() - before
        };
        assert_eq!(push(&mut requests), WINDOW_LIMIT);
        requests.let_overtake();
        let all = push(&mut requests) + WINDOW_LIMIT;
        assert!((OVERTAKING_LIMIT..=OVERTAKING_LIMIT + WINDOW_LIMIT).contains(&all), "{all}");
        requests.let_overtake();
        assert_eq!(push(&mut requests), 0, "another silence");
        // When those have left, the window is what it was.
        (0..all).for_each(|_| drop(requests.pop()));
        assert_eq!(push(&mut requests), WINDOW_LIMIT);
    }
}

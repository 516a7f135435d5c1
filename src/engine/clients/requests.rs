//! A client's requests in flight, in their order.
//!
//! Requests are numbered. The slot at place `i` is that of request `base + i`; responses come in any order, and leave from
//! the front only. A response whose number lies before `base` is late and has no slot to go to.

mod window;

pub(in crate::engine) use window::USUAL;

use std::collections::VecDeque;

use crate::engine::deadline::Alarm;
use crate::engine::request::{Answer, Slot};
use crate::engine::scattered::Merge;
use crate::outcome::Outcome;
use crate::stats::counters::PoolCounters;
use crate::time::Instant;

/// Room for requests in flight that is kept while there are none: between two of them, and when there have been none for
/// a while.
const KEPT_SLOTS: usize = 32;
const IDLE_SLOTS: usize = 8;

/// What a response is taken to be before any was seen. A client starts with few requests in flight, and gets its full
/// window once its responses prove small; so a greedy reader of large values cannot fill the memory before the size of
/// its values is known.
const FIRST_ESTIMATE: usize = 8 << 10;

/// Whether requests may be in flight together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Barrier {
    /// They may.
    None,
    /// What stands next in the input has to be alone.
    Before,
    /// What is in flight is alone, for as long as it likes: the time of what follows starts when it is over.
    Behind,
}

/// The requests of one client that have not been answered, and those that wait behind them for their turn.
#[derive(Debug)]
pub(crate) struct Requests {
    base: u32,
    barrier: Barrier,
    /// How the parts of a long multi-get that have left have ended, while more of them follow.
    part_outcome: Option<Outcome>,
    /// The client's timer.
    timer: Alarm,
    /// An error that one of them met; the last part tells it.
    part_error: Option<Box<[u8]>>,
    slots: VecDeque<Slot>,
    /// Keys in flight that the window counts.
    keys: usize,
    /// Requests before this number wait for a server that has gone silent. Until they have left, the window counts neither
    /// them nor what is answered behind them, so that what other servers are asked does not wait for that one.
    overtaken_to: u32,
    /// Whether there are such.
    may_overtake: bool,
    /// Bytes of responses that wait behind an earlier one.
    held: usize,
    /// Bytes that a response for one key is likely to have.
    estimate: usize,
    /// Requests in flight that want no answer, and have no slots.
    unheard: u32,
    /// How few of them are to be in flight before what follows goes on.
    goes_on_at: u32,
    /// Some of them were not waited for any longer: the number says nothing of those.
    gave_up_unheard: bool,
    /// Since when what follows waits until fewer of those are in flight.
    waits_since: Option<Instant>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            base: 0,
            barrier: Barrier::None,
            part_outcome: None,
            timer: Alarm::default(),
            part_error: None,
            // Most ask one thing at a time; without this the first of it takes room for four.
            slots: VecDeque::with_capacity(2),
            keys: 0,
            overtaken_to: 0,
            may_overtake: false,
            held: 0,
            estimate: FIRST_ESTIMATE,
            unheard: 0,
            goes_on_at: 0,
            gave_up_unheard: false,
            waits_since: None,
        }
    }

    // --- Which there are ---------------------------------------------------------------------------------------

    /// Whether there are none.
    #[inline]
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether there is one and no more.
    #[inline]
    pub(in crate::engine) fn is_one(&self) -> bool {
        self.slots.len() == 1
    }

    /// The number of the oldest one, or of the next where there are none.
    #[inline]
    pub(in crate::engine) fn first_number(&self) -> u32 {
        self.base
    }

    /// When the last of them started that is not answered.
    pub(in crate::engine) fn latest_start(&self) -> Option<Instant> {
        self.slots.iter().rev().find_map(Slot::request).map(|request| request.started)
    }

    /// The number that the next request gets.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "request numbers count modulo 2^32")]
    pub(in crate::engine) fn next_number(&self) -> u32 {
        self.base.wrapping_add(self.slots.len() as u32)
    }

    /// The slot of a request, if it is still there.
    #[inline]
    pub(in crate::engine) fn get(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number.wrapping_sub(self.base) as usize)
    }

    /// As [`Requests::get`].
    #[inline]
    pub(in crate::engine) fn get_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number.wrapping_sub(self.base) as usize)
    }

    /// The slot of the oldest.
    #[inline]
    pub(in crate::engine) fn front(&self) -> Option<&Slot> {
        self.slots.front()
    }

    /// As [`Requests::front`].
    pub(in crate::engine) fn front_mut(&mut self) -> Option<&mut Slot> {
        self.slots.front_mut()
    }

    /// All of them, each with its number.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0u32..).zip(&self.slots).map(|(offset, slot)| (self.base.wrapping_add(offset), slot))
    }

    // --- What becomes of them -----------------------------------------------------------------------------------

    /// A request for one key has been sent to one server: nothing is held for it yet.
    #[inline(always)]
    pub(in crate::engine) fn push_sent(&mut self, slot: Slot) {
        debug_assert!(slot.keys == 1 && slot.held() == 0);
        self.keys += 1;
        self.slots.push_back(slot);
    }

    /// A request has been carried out, or sent, and is answered behind those before it.
    #[inline]
    pub(in crate::engine) fn push(&mut self, slot: Slot) {
        self.keys += slot.keys as usize;
        self.held += slot.held();
        self.slots.push_back(slot);
        if self.may_overtake {
            self.overtake(self.next_number().wrapping_sub(1));
        }
    }

    /// A request has been answered, and has ended like this. Says how many bytes are held for it; nothing where its slot is
    /// gone.
    #[inline]
    pub(in crate::engine) fn settle(&mut self, number: u32, body: Vec<u8>, outcome: Outcome) -> usize {
        let Some(slot) = self.get_mut(number) else { return 0 };
        let before = slot.held();
        let held = slot.settle(body, outcome);
        self.held = self.held - before + held;
        held
    }

    /// The one response to a request has come, and is kept until those before it have left. Says how many bytes are held for
    /// it.
    #[inline(always)]
    pub(in crate::engine) fn keep(&mut self, number: u32, body: Vec<u8>) -> usize {
        let held = body.len();
        let Some(slot) = self.get_mut(number) else { return 0 };
        debug_assert!(slot.held() == 0 && matches!(slot.answer, Answer::Of { .. }));
        if let Answer::Of { echo, .. } = std::mem::replace(&mut slot.answer, Answer::Ready(body)) {
            drop(echo); // here, and not where everything is that an answer may be
        }
        self.held += held;
        if self.may_overtake {
            self.overtake(number);
        }
        held
    }

    /// What has come for a request takes so many bytes more than before.
    #[inline]
    pub(in crate::engine) fn hold(&mut self, more: usize) {
        self.held += more;
    }

    /// The oldest leaves, which one server has answered, and is counted: what it said goes on at once, and was never held.
    #[inline(always)]
    pub(in crate::engine) fn leave(&mut self, counters: &PoolCounters) {
        let Some(slot) = self.slots.pop_front() else { return };
        debug_assert!(slot.held() == 0);
        slot.count(counters);
        self.base = self.base.wrapping_add(1);
        self.keys -= slot.keys as usize;
        if let Answer::Of { echo, .. } = slot.answer {
            drop(echo); // here, and not where everything is that an answer may be
        }
    }

    /// The oldest leaves.
    #[inline]
    pub(in crate::engine) fn pop(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.base = self.base.wrapping_add(1);
        self.keys -= slot.keys as usize;
        self.held -= slot.held();
        Some(slot)
    }

    /// The oldest leaves if it is answered.
    #[inline]
    pub(in crate::engine) fn pop_answered(&mut self) -> Option<Slot> {
        let mut slot = if self.is_front_answered() { self.pop()? } else { return None };
        if self.part_outcome.is_some() || slot.merge().is_some_and(Merge::is_unfinished) {
            self.join_parts(&mut slot);
        }
        Some(slot)
    }

    /// A part of a long multi-get leaves: what is known of the parts before it becomes its own, and of it, if more follow,
    /// that of those behind it.
    #[cold]
    #[inline(never)]
    fn join_parts(&mut self, slot: &mut Slot) {
        if slot.merge().and_then(Merge::memcache).is_none_or(|merge| merge.values().is_none()) {
            return;
        }
        if let Some(earlier) = self.part_outcome.take() {
            slot.note(earlier);
        }
        if slot.class.is_none() {
            self.part_outcome = Some(slot.outcome);
        }
        if let Answer::Merged { scattered, .. } = &mut slot.answer
            && let Some(merge) = scattered.merge_mut().memcache_mut()
        {
            merge.pass_error_on(&mut self.part_error);
        }
    }

    /// Whether the oldest is answered, and may leave.
    #[inline]
    pub(in crate::engine) fn is_front_answered(&self) -> bool {
        self.slots.front().is_some_and(|slot| slot.waiting() == 0)
    }

    /// Nobody waits for them any more.
    pub(super) fn abandon(&mut self, counters: &PoolCounters) {
        self.base = self.next_number();
        for mut slot in self.slots.drain(..) {
            if slot.waiting() > 0 {
                slot.outcome = Outcome::Abandoned;
            }
            slot.count(counters);
        }
        (self.keys, self.held) = (0, 0);
    }

    // --- Which may be together -----------------------------------------------------------------------------------

    /// What stands next in the input waits until all before it are answered.
    pub(in crate::engine) fn bar_next(&mut self) {
        self.barrier = Barrier::Before;
    }

    /// What is in flight is alone, for as long as it likes.
    pub(in crate::engine) fn stay_alone(&mut self) {
        self.barrier = Barrier::Behind;
    }

    /// Requests may be in flight together.
    #[cold]
    pub(in crate::engine) fn lift_bar(&mut self) {
        if self.was_alone() {
            self.timer = Alarm::default(); // it may be far off, and what comes next has to be looked at sooner
        }
        self.barrier = Barrier::None;
    }

    /// Whether what stands next has to wait until all before it are answered.
    #[inline]
    pub(in crate::engine) fn has_bar(&self) -> bool {
        self.barrier != Barrier::None
    }

    /// Whether what was in flight last was alone, for as long as it liked.
    #[inline]
    pub(in crate::engine) fn was_alone(&self) -> bool {
        self.barrier == Barrier::Behind
    }

    /// Whether what is in flight is alone, for as long as it likes.
    #[inline]
    pub(in crate::engine) fn is_alone(&self) -> bool {
        self.was_alone() && !self.slots.is_empty()
    }

    // --- How long they may take ------------------------------------------------------------------------------------

    /// Whether the client's timer is set.
    #[inline]
    pub(in crate::engine) fn is_timed(&self) -> bool {
        self.timer.is_set()
    }

    /// The client's timer: one for all of them, and for what waits behind them.
    #[inline]
    pub(in crate::engine) const fn timer(&mut self) -> &mut Alarm {
        &mut self.timer
    }

    /// What must hold between two calls; says what does not.
    pub(in crate::engine) fn check(&self) -> Result<(), String> {
        let held: usize = self.slots.iter().map(Slot::held).sum();
        if self.is_front_answered() {
            Err("the oldest request is answered and still there".to_owned())
        } else if self.slots.iter().map(|slot| slot.keys as usize).sum::<usize>() != self.keys {
            Err("keys in flight do not add up".to_owned())
        } else if held != self.held {
            Err(format!("holds {held} bytes and says {}", self.held))
        } else if !self.is_empty() && !self.is_timed() && !self.is_alone() {
            Err("requests wait without a timer".to_owned())
        } else if self.waits_since.is_some() && !self.is_timed() && !self.is_alone() {
            Err("what follows requests that want no answer waits without a timer".to_owned())
        } else {
            Ok(())
        }
    }

    // --- Memory ---------------------------------------------------------------------------------------------------

    /// Gives back room that is not needed where there have been none for a while.
    pub(super) fn rest(&mut self) {
        if self.slots.capacity() > IDLE_SLOTS {
            self.slots = VecDeque::new();
        }
    }

    /// Gives back room that is not needed at the moment.
    #[inline]
    pub(super) fn relax(&mut self) {
        if self.slots.is_empty() && self.slots.capacity() > KEPT_SLOTS {
            self.slots = VecDeque::new();
        }
    }

    /// Whether the room that they take is what each client has by itself.
    #[inline]
    pub(super) fn is_small(&self) -> bool {
        self.slots.capacity() <= KEPT_SLOTS
    }

    /// Memory that they take. What each client has by itself is not counted: nobody can make it more.
    pub(super) fn footprint(&self) -> usize {
        self.held + self.slots.capacity().saturating_sub(KEPT_SLOTS) * size_of::<Slot>()
    }
}

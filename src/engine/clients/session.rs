//! One client: what it sent and was not parsed yet, its requests in flight, and its responses in order.
//!
//! Requests are numbered. Slot `i` of a session answers request `base + i`; responses come in any order, and leave
//! the session from the front only. A response whose number lies before `base` is late and has no slot to go to.

use std::collections::VecDeque;

use super::large_requests::Large;
use super::output::Output;
use crate::config::model::{PoolId, ServerId};
use crate::engine::buffers::LARGE;
use crate::engine::ids::LinkId;
use crate::engine::listing::Crawl;
use crate::engine::memory::grow::{Hoard, growth};
use crate::engine::redis::{Client, Profile};
use crate::engine::request::Slot;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::Verb;
use crate::proto::memcache::request::Skip;
use crate::stats::counters::PoolCounters;
use crate::time::Instant;

/// Most keys that a client may have in flight.
pub(crate) const WINDOW_LIMIT: usize = 1024;

/// Fewest keys that a client may have in flight, however large its values are.
const WINDOW_FLOOR: usize = 16;

/// Bytes of responses that one client's requests in flight may be expected to bring.
const WINDOW_BYTES: usize = 1 << 20;

/// Room for requests in flight that is kept while there are none: between two of them, and when there have been none for
/// a while.
const KEPT_SLOTS: usize = 32;
const IDLE_SLOTS: usize = 8;

/// What a response is taken to be before any was seen. A client starts with few requests in flight, and gets its full
/// window once its responses prove small; so a greedy reader of large values cannot fill the memory before the size of
/// its values is known.
const FIRST_ESTIMATE: usize = 8 << 10;

/// The link that a client's requests to a server go through while any of them is in flight there: on two, they could
/// overtake each other. Kept only where a server has several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) server: ServerId,
    pub(crate) link: LinkId,
    pub(crate) in_flight: u32,
}

/// A multi-get of which not all keys have been sent yet, its line being at the front of the input.
#[derive(Debug)]
pub(crate) struct LongGet {
    pub(crate) verb: Verb,
    pub(crate) exptime: Option<i32>,
    /// When the line was read.
    pub(crate) started: Instant,
    /// Bytes of the line that are left, its end included.
    pub(crate) rest: usize,
    /// Keys that are left.
    pub(crate) keys: usize,
}

/// Whether requests may be in flight together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// They may.
    None,
    /// What stands next in the input has to be alone.
    Before,
    /// What is in flight is alone, for as long as it likes: the time of what follows starts when it is over.
    Behind,
}

/// A client.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
pub(crate) struct Session {
    pub(crate) pool: PoolId,
    pub(super) generation: u32,
    pub(crate) base: u32,
    pub(crate) slots: VecDeque<Slot>,
    /// Keys in flight.
    pub(crate) keys_in_flight: usize,
    /// Bytes of responses that wait behind an earlier one.
    pub(crate) held: usize,
    pub(crate) routes: Vec<Route>,
    pub(crate) output: Output,
    /// Input that could not be used yet.
    pub(crate) partial: Vec<u8>,
    /// Length of `partial` below which parsing it is useless.
    pub(crate) need: usize,
    /// All of `partial` is a line that is not finished.
    pub(crate) in_line: bool,
    /// The last large request was very large.
    pub(crate) huge: bool,
    pub(crate) skip: Skip,
    pub(crate) long_get: Option<Box<LongGet>>,
    /// An error that a part of a long multi-get met; its last part tells it.
    pub(crate) part_error: Option<Vec<u8>>,
    /// How the parts of a long multi-get that are over have ended.
    pub(crate) part_outcome: Outcome,
    /// Redis: what the client has set up.
    pub(crate) redis: Option<Box<Client>>,
    /// The list of all servers' keys that is passed on to it.
    pub(crate) crawl: Option<Box<Crawl>>,
    /// The next request waits until all before it are answered.
    pub(crate) barrier: Barrier,
    /// The next request waits for a server's queue to drain.
    pub(crate) backpressured: bool,
    estimate: usize,
    /// A timer is set.
    pub(crate) timed: bool,
    /// The shell has been told that there is something to do.
    pub(crate) dirty: bool,
    /// Since when there is input that parsing stopped short of. It was read then; its requests' time counts from then.
    pub(crate) paused: Option<Instant>,
    /// What is left of its input waits for its next turn.
    pub(crate) had_turn: bool,
    /// Until when its turns are short ones.
    pub(crate) short_turns_until: Instant,
    /// Its large requests, which have more time than others.
    pub(super) large: Option<Box<Large>>,
    /// The client sends no more.
    pub(crate) ended: bool,
    /// The connection is to be closed once the output is written.
    pub(crate) closing: bool,
    /// Memory charged to the worker for it.
    pub(crate) charged: usize,
    /// Bytes of responses that may wait for it before no more of its requests are carried out.
    output_limit: usize,
    /// It is told things that it does not ask for one by one: messages, what a server is asked.
    pub(crate) listens: bool,
    /// While it holds more than its fair share of memory: since when, and what it must still get rid of.
    pub(crate) hoard: Option<Hoard>,
    /// What it sends is not read until there is memory for it.
    pub(crate) starved: bool,
    /// Since when the request that it sends has waited for memory, with pauses.
    pub(crate) hungry: Option<Instant>,
    /// The large value that it sends is refused: it has waited for memory for too long.
    pub(crate) frugal: bool,
}

impl Session {
    pub(super) fn new(pool: PoolId, generation: u32, output_limit: usize, redis: Option<Box<Client>>) -> Self {
        Self {
            pool,
            generation,
            base: 0,
            slots: VecDeque::new(),
            keys_in_flight: 0,
            held: 0,
            routes: Vec::new(),
            output: Output::default(),
            partial: Vec::new(),
            need: 0,
            in_line: false,
            huge: false,
            skip: Skip::NONE,
            long_get: None,
            part_error: None,
            part_outcome: Outcome::Hit,
            redis,
            crawl: None,
            barrier: Barrier::None,
            backpressured: false,
            estimate: FIRST_ESTIMATE,
            timed: false,
            dirty: false,
            paused: None,
            had_turn: false,
            short_turns_until: Instant::ZERO,
            large: None,
            ended: false,
            closing: false,
            charged: 0,
            output_limit,
            listens: false,
            hoard: None,
            starved: false,
            hungry: None,
            frugal: false,
        }
    }

    /// The number that the next request gets.
    #[expect(clippy::cast_possible_truncation, reason = "request numbers count modulo 2^32")]
    pub(crate) fn next_number(&self) -> u32 {
        self.base.wrapping_add(self.slots.len() as u32)
    }

    /// The slot of a request, if it is still there.
    pub(crate) fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number.wrapping_sub(self.base) as usize)
    }

    /// As [`Session::slot`].
    pub(crate) fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number.wrapping_sub(self.base) as usize)
    }

    /// Whether a request is the oldest that waits, so that its response may go straight to the output.
    pub(crate) fn is_front(&self, number: u32) -> bool {
        number == self.base
    }

    fn window(&self) -> usize {
        (WINDOW_BYTES / self.estimate.max(1)).clamp(WINDOW_FLOOR, WINDOW_LIMIT)
    }

    /// Whether so many responses wait for the client that no more of its requests are carried out. The time that it
    /// takes to read them is its own.
    pub(crate) fn is_choked(&self) -> bool {
        self.held + self.pending_output() > self.output_limit
    }

    /// Whether it has read so much of what waited for it that more may come.
    pub(crate) fn is_half_read(&self) -> bool {
        2 * (self.held + self.pending_output()) <= self.output_limit
    }

    /// Whether one more key may be in flight.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        // The window is a division, and most clients have fewer in flight than the smallest.
        !self.is_choked()
            && (self.barrier == Barrier::None || self.slots.is_empty())
            && (self.keys_in_flight < WINDOW_FLOOR || self.keys_in_flight < self.window())
    }

    /// How many more keys may be in flight.
    pub(crate) fn room(&self) -> usize {
        if self.is_choked() || (self.barrier != Barrier::None && !self.slots.is_empty()) {
            return 0;
        }
        self.window().saturating_sub(self.keys_in_flight)
    }

    /// Whether there is room enough to parse on. Half a window at a time: to parse on after every single response
    /// would move the rest of the input each time.
    pub(crate) fn has_room_again(&self) -> bool {
        self.room() * 2 >= self.window()
    }

    /// A response for one key had `len` bytes.
    pub(crate) fn observe_response(&mut self, len: usize) {
        self.estimate = len.max(self.estimate - self.estimate / 8);
    }

    /// Room that is about to be made for what it sends, where messages double up to `most` bytes.
    pub(crate) fn next_growth(&self, most: usize) -> usize {
        let (len, spare) = (self.partial.len(), self.partial.capacity() - self.partial.len());
        let missing = self.need.saturating_sub(len);
        if spare >= missing.clamp(1, LARGE) {
            0
        } else if missing < LARGE && len >= LARGE {
            growth(len, LARGE, most)
        } else {
            missing.max(LARGE).min(len.max(LARGE))
        }
    }

    /// What its server connections have to be set to.
    pub(crate) fn profile(&self) -> Profile {
        self.redis.as_ref().map_or_else(Profile::default, |client| client.profile())
    }

    /// The client has left, and what it asked with it.
    pub(crate) fn abandon(&mut self, counters: &PoolCounters) {
        for mut slot in self.slots.drain(..) {
            if slot.waiting() > 0 {
                slot.outcome = Outcome::Abandoned;
            }
            slot.count(counters);
        }
        if self.long_get.take().is_some() {
            counters.ended(Class::Get, Outcome::Abandoned);
        }
    }

    pub(crate) fn pending_output(&self) -> usize {
        self.output.len()
    }

    /// Gives back what a client does not need that has been idle for a while.
    pub(crate) fn rest(&mut self) {
        self.output.relax();
        self.large = None;
        if self.slots.capacity() > IDLE_SLOTS {
            self.slots = VecDeque::new();
        }
    }

    /// Gives back what a client does not need at the moment.
    #[inline]
    pub(crate) fn relax(&mut self) {
        if self.slots.is_empty() && self.slots.capacity() > KEPT_SLOTS {
            self.slots = VecDeque::new();
        }
        if self.partial.is_empty() && self.partial.capacity() > 0 {
            self.partial = Vec::new();
        }
    }

    /// Whether it holds what it is charged with, and nothing that it could give back, as can be seen at a glance. It is
    /// asked several times for each request.
    #[inline]
    pub(crate) fn is_charged(&self) -> bool {
        self.partial.capacity() == 0
            && self.slots.capacity() <= KEPT_SLOTS
            && self.redis.as_ref().is_none_or(|client| client.holds_nothing())
            && self.output.small_footprint() == Some(self.charged.wrapping_sub(self.held))
    }

    /// Memory that it holds in buffers.
    pub(crate) fn footprint(&self) -> usize {
        let redis = self.redis.as_ref().map_or(0, |client| client.footprint());
        // What each client has by itself is not counted: nobody can make it more.
        let slots = self.slots.capacity().saturating_sub(KEPT_SLOTS) * size_of::<Slot>();
        self.output.footprint() + self.partial.capacity() + self.held + slots + redis
    }

    /// Whether the shell has nothing to do for it until the client sends something or a server answers.
    pub(crate) fn is_content(&self) -> bool {
        self.paused.is_none() && !self.ended && !self.closing
    }

    /// Whether everything that was asked has been answered and written.
    pub(crate) fn is_idle(&self) -> bool {
        let is_occupied = self.redis.as_ref().is_some_and(|client| client.is_occupied());
        self.slots.is_empty()
            && self.pending_output() == 0
            && self.paused.is_none()
            && self.long_get.is_none()
            && !is_occupied
    }
}

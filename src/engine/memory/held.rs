//! The bytes that buffers hold, and what they are held to.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::buffers::BufferPool;
use crate::engine::ids::SessionId;
use crate::stats::counters::Counters;
use crate::time::Instant;

/// Bytes above the limit at which the largest holder is cut off whoever it is: half of the limit, up to this.
const MOST_MARGIN: usize = 8 << 20;

/// What a client may hold without being a hoarder: this part of the limit, within bounds.
const FAIR_PART: usize = 1024;
const FAIR_BOUNDS: (usize, usize) = (32 << 10, 256 << 10);

/// Responses that may wait for a client before no more of its requests are carried out: this part of the limit.
const OUTPUT_PART: usize = 256;
const OUTPUT_BOUNDS: (usize, usize) = (64 << 10, 1 << 20);

/// What a worker's buffers may hold together, in bytes, and what follows when they hold more.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Limits {
    /// This worker's part of `memory_limit`.
    pub(in crate::engine) all: usize,
    /// What a client may hold without being a hoarder.
    pub(in crate::engine) fair: usize,
    /// What all may hold before hoarders are held back.
    pub(in crate::engine) common: usize,
    /// What all may hold before hoarders are not read any more: with what is read, most is still to come.
    pub(in crate::engine) input: usize,
    /// What all may hold before not even one of them is read.
    pub(super) most_input: usize,
    /// What all may hold before even those are refused that hold no more than their fair share. Hoarders do not come to
    /// it; but copies of what they have sent, and what has come for them unasked, may be above the limit for a while, and
    /// that is not to be paid by others.
    pub(in crate::engine) last: usize,
    /// Bytes above the limit at which the largest holder is cut off whoever it is. One copy of a request of this size may
    /// go above the limit where the request itself had room.
    pub(super) margin: usize,
    /// Bytes of responses that may wait for a client before its requests do.
    pub(in crate::engine) output: usize,
}

impl Limits {
    /// Of a worker that may hold so many bytes.
    pub(in crate::engine) fn of(all: usize) -> Self {
        let margin = (all / 2).min(MOST_MARGIN);
        Self {
            all,
            fair: (all / FAIR_PART).clamp(FAIR_BOUNDS.0, FAIR_BOUNDS.1).min(all / 4),
            common: all - all / 8,
            input: all / 2,
            most_input: all - all / 16,
            last: all + margin / 2,
            margin,
            output: (all / OUTPUT_PART).clamp(OUTPUT_BOUNDS.0, OUTPUT_BOUNDS.1),
        }
    }

    /// What all may hold when somebody holds `held` bytes of it.
    #[inline]
    pub(super) const fn share(&self, held: usize) -> usize {
        if held > self.fair { self.common } else { self.last }
    }

    /// What one message may take where nobody else holds anything, and what while it is moved to a larger place.
    pub(in crate::engine) const fn room_for_one(&self) -> (usize, usize) {
        (self.most_input, self.most_input + self.most_input / 15 + self.margin)
    }
}

/// The memory of a worker: how much is held, and by whom so much that it is worth asking back.
#[derive(Debug)]
pub(in crate::engine) struct Memory {
    limits: Limits,
    /// Bytes that are held.
    held: usize,
    /// What the process held for nobody in particular when that was last looked at; this worker's part of it is in `held`.
    unassigned: usize,
    workers: usize,
    /// Where it is published how much is held.
    counters: Arc<Counters>,
    /// Buffers for the next large responses.
    pub(in crate::engine) buffers: BufferPool,
    /// The buffer of which the response at hand is all, if who waits for it may share it.
    pub(in crate::engine) whole: Option<Arc<Vec<u8>>>,
    /// The buffer that the request at hand came in, if that is large: who sends it on may share it.
    pub(in crate::engine) asked: Option<Arc<Vec<u8>>>,
    /// A request of more bytes is large: it is carried out only when there is memory for another copy of it, made ready in
    /// portions, and sent on in the buffer that it came in.
    pub(in crate::engine) large: usize,
    /// The request at hand is to be answered as if its server had failed.
    pub(in crate::engine) refuses: bool,
    /// The hoarders; some may have given up what they held, or left.
    pub(super) hoarders: Vec<SessionId>,
    /// Clients that are not read, in the order in which they came to starve.
    pub(super) starved: VecDeque<(SessionId, Instant)>,
    /// The one that is read all the same.
    pub(super) favoured: Option<SessionId>,
    /// The next place of a client to be looked at where there are no hoarders.
    pub(super) looked_at: usize,
    /// A timer is set.
    pub(super) timed: bool,
}

/// The usual [`Memory::large`].
const LARGE: usize = 256 << 10;

impl Memory {
    /// Nobody holds anything. `limit` is for all of so many workers together.
    pub(in crate::engine) fn new(limit: usize, workers: usize, counters: Arc<Counters>) -> Self {
        let workers = workers.max(1);
        let limits = Limits::of(limit / workers);
        Self {
            limits,
            held: 0,
            unassigned: 0,
            workers,
            counters,
            buffers: BufferPool::new(limits.all),
            whole: None,
            asked: None,
            large: LARGE,
            refuses: false,
            hoarders: Vec::new(),
            starved: VecDeque::new(),
            favoured: None,
            looked_at: 0,
            timed: false,
        }
    }

    /// All workers together may hold so much from here on. Whether that is not as before.
    pub(in crate::engine) fn set_limit(&mut self, limit: usize) -> bool {
        let before = std::mem::replace(&mut self.limits, Limits::of(limit / self.workers)).all;
        let kept = self.buffers.bytes();
        self.buffers.set_limit(self.limits.all);
        self.recharge(kept, self.buffers.bytes());
        before != self.limits.all
    }

    /// What may be held.
    #[inline]
    pub(in crate::engine) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes that are held.
    #[inline]
    pub(in crate::engine) const fn held(&self) -> usize {
        self.held
    }

    /// What somebody holds comes to `then` bytes, from `before`.
    #[inline]
    pub(in crate::engine) fn recharge(&mut self, before: usize, then: usize) {
        self.held = self.held - before + then;
        self.counters.buffered_bytes.set(self.held as u64);
    }

    /// The process holds so much for nobody in particular, of which each worker counts its part.
    pub(in crate::engine) fn recharge_unassigned(&mut self, then: usize) {
        let before = std::mem::replace(&mut self.unassigned, then);
        self.recharge(before / self.workers, then / self.workers);
    }

    /// Bytes that the process held for nobody in particular when they were counted last.
    pub(in crate::engine) const fn unassigned(&self) -> usize {
        self.unassigned
    }

    /// This worker's part of them.
    pub(in crate::engine) const fn part_of_unassigned(&self) -> usize {
        self.unassigned / self.workers
    }

    /// Whether even those are held back who hold no more than their fair share.
    #[inline]
    pub(super) const fn is_full(&self) -> bool {
        self.held > self.limits.last
    }

    /// Whether somebody who holds `held` bytes may hold `more`.
    #[inline]
    pub(in crate::engine) const fn has(&self, held: usize, more: usize) -> bool {
        self.held + more <= self.limits.share(held + more)
    }
}

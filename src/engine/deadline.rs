//! All timers of a worker in one table; the shell asks only for the earliest.
//!
//! A timer is never cancelled. Whoever set it looks, when it fires, whether there is still anything to do, and sets it
//! again if so. A client with requests in flight has one timer, not one for each request: it costs one heap operation
//! for each `timeout` that passes, whatever the load.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ids::{LinkId, SessionId};
use crate::config::model::{PoolId, ServerId};
use crate::time::Instant;

/// What a timer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The oldest request of a client may have run out of time.
    Session(SessionId),
    /// A server connection may have gone silent.
    Link(LinkId),
    /// An ejected server may be due for a probe.
    Probe(PoolId, ServerId),
    /// A flush that a server missed may be due.
    Flush(PoolId, ServerId),
    /// What a client is subscribed to may have to be subscribed to anew.
    Subscriptions(SessionId),
    /// Clients of a pool may wait where they should not.
    Follow(PoolId),
    /// Something is left to be done.
    Chores,
    /// Clients wait for keys that are brought along, or may not wait any longer.
    Warmup,
    /// Keys that clients wait for are to be looked at, or clients have waited for long enough.
    Stampede,
    /// Memory is scarce: who holds much may have to give it up, and who waits may go on.
    Memory,
}

/// The timers of a worker.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    /// Sets a timer.
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        if at != Instant::NEVER {
            self.heap.push(Reverse((at, timer)));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// When the earliest fires.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        match self.heap.peek() {
            Some(Reverse((at, _))) if *at <= now => self.heap.pop().map(|Reverse((_, timer))| timer),
            _ => None,
        }
    }
}

/// When the timer of something fires, if one is set. A later one may be set as well, and is of no account.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Alarm(Option<Instant>);

impl Alarm {
    /// It is to fire at this time. Returns whether a timer is to be set for that: none fires earlier anyway.
    #[inline(always)]
    pub(crate) fn set(&mut self, at: Instant) -> bool {
        let is_earlier = self.0.is_none_or(|set| at < set);
        if is_earlier {
            self.0 = Some(at);
        }
        is_earlier
    }

    /// A timer has fired. Returns whether it counts: it does not if it was set before an earlier one, which has set the
    /// next.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.0.is_none_or(|at| at <= now);
        if is_due {
            self.0 = None;
        }
        is_due
    }

    pub(crate) const fn is_set(self) -> bool {
        self.0.is_some()
    }
}

//! The memory that a client holds, and how long it has waited for more.

use std::time::Duration;

use crate::time::Instant;

/// What a hoarder has to get rid of.
#[derive(Debug, Clone, Copy)]
struct Hoard {
    /// When it began to hold what it has to get rid of.
    since: Instant,
    /// Bytes of it that are left.
    left: usize,
}

/// How what a client sends gets memory.
#[derive(Debug, Clone, Copy)]
enum Hunger {
    /// There was memory for it so far.
    None,
    /// It has waited for memory, with pauses, since then.
    Since(Instant),
    /// It is not read until there is memory for it; the request that it sends has waited since then, if it has begun.
    Starved(Option<Instant>),
}

/// What one client has of the worker's memory.
#[derive(Debug)]
pub(crate) struct Holding {
    /// Memory charged to the worker for it.
    charged: usize,
    /// What of that is held for its requests that wait for keys which others compute.
    waiting: usize,
    /// While it holds more than its fair share.
    hoard: Option<Hoard>,
    hunger: Hunger,
}

impl Holding {
    pub(super) fn new() -> Self {
        Self { charged: 0, waiting: 0, hoard: None, hunger: Hunger::None }
    }

    /// Memory charged to the worker for it.
    #[inline]
    pub(in crate::engine) fn charged(&self) -> usize {
        self.charged
    }

    /// Memory that is held for its requests which wait.
    #[inline]
    pub(in crate::engine) fn waiting(&self) -> usize {
        self.waiting
    }

    /// So much is held for those from here on. Whether that is another figure than before.
    pub(in crate::engine) fn wait_with(&mut self, bytes: usize) -> bool {
        std::mem::replace(&mut self.waiting, bytes) != bytes
    }

    /// So much is charged from here on; says how much was before.
    #[inline]
    pub(in crate::engine) fn recharge(&mut self, footprint: usize) -> usize {
        std::mem::replace(&mut self.charged, footprint)
    }

    /// So much more is charged.
    #[inline]
    pub(in crate::engine) fn add(&mut self, bytes: usize) {
        self.charged += bytes;
    }

    /// So much less is charged, if that much was; says how much.
    pub(in crate::engine) fn give_back(&mut self, bytes: usize) -> usize {
        let given = bytes.min(self.charged);
        self.charged -= given;
        given
    }

    // --- Who holds much -------------------------------------------------------------------------------------------

    /// Whether it was found to hold more than its fair share.
    #[inline]
    pub(in crate::engine) fn is_hoarder(&self) -> bool {
        self.hoard.is_some()
    }

    /// Finds out whether it holds more than its fair share; if so, it has to get rid of all that it holds.
    pub(in crate::engine) fn judge(&mut self, fair: usize, now: Instant) -> bool {
        self.hoard = (self.charged > fair).then_some(Hoard { since: now, left: self.charged });
        self.hoard.is_some()
    }

    /// A hoarder has got rid of so many bytes. When that is all that it held, its time begins anew.
    pub(in crate::engine) fn turn_over(&mut self, count: usize, now: Instant) {
        if let Some(hoard) = &mut self.hoard {
            hoard.left = hoard.left.saturating_sub(count);
            if hoard.left == 0 {
                *hoard = Hoard { since: now, left: self.charged };
            }
        }
    }

    /// Whether it has held on to what it holds for so long.
    pub(in crate::engine) fn has_hoarded(&self, patience: Duration, now: Instant) -> bool {
        self.hoard.is_some_and(|hoard| now - hoard.since >= patience)
    }

    /// It is about to hold nothing any more.
    pub(in crate::engine) fn pardon(&mut self) {
        self.hoard = None;
    }

    // --- Who waits for memory --------------------------------------------------------------------------------------

    /// What it sends is not read until there is memory for it; says since when the request that it sends has waited.
    pub(in crate::engine) fn starve(&mut self, now: Instant) -> Instant {
        let since = match self.hunger {
            Hunger::Since(since) | Hunger::Starved(Some(since)) => since,
            Hunger::None | Hunger::Starved(None) => now,
        };
        self.hunger = Hunger::Starved(Some(since));
        since
    }

    /// Whether what it sends is not read.
    #[inline]
    pub(in crate::engine) fn is_starved(&self) -> bool {
        matches!(self.hunger, Hunger::Starved(_))
    }

    /// What it sends is read again.
    pub(in crate::engine) fn feed(&mut self) {
        if let Hunger::Starved(since) = self.hunger {
            self.hunger = since.map_or(Hunger::None, Hunger::Since);
        }
    }

    /// Some of what it has sent is carried out: what it sends next has not waited.
    #[inline]
    pub(in crate::engine) fn begin_next(&mut self) {
        self.hunger = if self.is_starved() { Hunger::Starved(None) } else { Hunger::None };
    }
}

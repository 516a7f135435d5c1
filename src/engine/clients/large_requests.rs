//! Large requests of a client, which have more time.
//!
//! The bytes of a large value may take longer than `timeout` by themselves, on a slow network or a busy machine. So a
//! request has another `timeout` for each [`PORTION`] of it and of the large ones that its client waits for in front of it.
//! What the client has asked behind it meanwhile has that time as well; other clients' requests do not.

use std::collections::VecDeque;
use std::time::Duration;

use super::session::Session;
use crate::time::Instant;

/// Bytes for which a request has another `timeout`.
const PORTION: usize = 4 << 20;

/// The large requests that a client waits for, and perhaps some that have been answered.
#[derive(Debug, Default)]
pub(super) struct Large {
    requests: VecDeque<Taken>,
    /// How long may take what was asked behind one of them before the time of that was up: until when, and the number of
    /// the first that has come since.
    behind: Option<(Instant, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Its number.
    number: u32,
    /// Its bytes.
    len: usize,
    /// With those of the large ones in front of it.
    all: usize,
}

impl Taken {
    fn portions(self) -> u32 {
        u32::try_from(1 + self.all / PORTION).unwrap_or(u32::MAX)
    }
}

impl Session {
    /// A large request of so many bytes has been carried out, with this number if it waits for an answer.
    #[cold]
    pub(in crate::engine) fn note_large(&mut self, number: u32, len: usize) {
        if self.slot(number).is_none() {
            return;
        }
        let mut large = self.large.take().unwrap_or_default();
        large.requests.retain(|taken| self.slot(taken.number).is_some());
        let all = len + large.requests.iter().map(|taken| taken.len).sum::<usize>();
        large.requests.push_back(Taken { number, len, all });
        self.large = Some(large);
    }

    /// Until when a request of it may take, where it is a large one that waits and others have `timeout`.
    pub(in crate::engine) fn due_as_large(&self, number: u32, timeout: Duration) -> Option<Instant> {
        let taken = self.large.as_ref()?.requests.iter().find(|taken| taken.number == number)?;
        Some(self.slot(number)?.started() + timeout * taken.portions())
    }

    /// Until when its oldest request, whose time is up, has more of it for the sake of a large one.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn time_of_large(&mut self, timeout: Duration, now: Instant) -> Option<Instant> {
        let (oldest, next) = (self.requests.first_number(), self.next_number());
        let own = self.due_as_large(oldest, timeout);
        let large = self.large.as_mut()?;
        if let Some(until) = own {
            large.behind = Some((until, next));
        }
        let (until, first) = large.behind?;
        let came_before = first.wrapping_sub(oldest).cast_signed() > 0;
        (came_before && until > now).then_some(until)
    }
}

//! What may happen often, and is told seldom.

use std::time::Duration;

use crate::failure::Failure;
use crate::time::Instant;

/// Pause between two notices of what may happen often.
pub(super) const TELL_PERIOD: Duration = Duration::from_secs(10);

/// The failures of requests that are told by themselves, since they count against no server: limits of this process, and
/// what servers say that answer and do not do what they are asked.
pub(super) const TOLD: [Failure; 8] = [
    Failure::NoMemory,
    Failure::QueueFull,
    Failure::NoDedicated,
    Failure::ServerMemory,
    Failure::Unready,
    Failure::ReadOnly,
    Failure::Denied,
    Failure::TooLarge,
];

/// What may happen often, and is told seldom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frequent {
    Silence,
    Violation,
    Unflushed,
    Copyless,
    Denied,
}

impl Frequent {
    pub(super) const COUNT: usize = 5;
}

/// When something was last told, and how often it has happened since.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RateLimit {
    at: Option<Instant>,
    suppressed: u32,
}

impl RateLimit {
    /// Whether it is told: how often it has happened since it last was. Otherwise it is counted.
    pub(super) fn admit(&mut self, now: Instant, period: Duration) -> Option<u32> {
        if self.at.is_some_and(|at| now - at < period) {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

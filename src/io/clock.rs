//! The only clock of the process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::Instant;

/// A clock that all workers share: its instants can be compared between them.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: std::time::Instant,
    /// Wall-clock time of the start, since the Unix epoch.
    started_at: Duration,
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall-clock time of an instant, since the Unix epoch.
    #[must_use]
    pub fn wall(&self, at: Instant) -> Duration {
        self.started_at + Duration::from_nanos(at.as_nanos())
    }
}

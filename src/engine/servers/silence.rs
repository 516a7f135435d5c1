//! How long a server has said nothing on a connection, and whether it is suspect for that.

use std::time::Duration;

use crate::config::model::Stall;
use crate::time::Instant;

/// What is known of the silence of a server on one connection, be it open or not.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// When the server was last heard, or took more of what is too much at a time, or the oldest request in flight was
    /// queued, whichever is later.
    since: Instant,
    /// What its responses take at most, of late, in nanoseconds: a peak that fades.
    latency_peak: u64,
    /// It has lasted for too long: nothing more is asked on the connection until the server says something.
    suspect: bool,
    /// The silence that began then has been looked at once.
    looked_at: Option<Instant>,
}

impl Silence {
    /// When it began.
    #[inline(always)]
    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    /// It begins now: what was before says nothing of the server.
    #[inline(always)]
    pub(crate) const fn begin(&mut self, now: Instant) {
        self.since = now;
    }

    /// The server has said something. Returns since when it had been silent, if it was suspect for that.
    #[inline(always)]
    pub(crate) fn end(&mut self, now: Instant) -> Option<Instant> {
        let since = std::mem::replace(&mut self.since, now);
        std::mem::take(&mut self.suspect).then_some(since)
    }

    /// Whether it has lasted for too long.
    #[inline(always)]
    pub(crate) const fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// How long it may last before it is suspect.
    #[inline(always)]
    pub(crate) fn bound(&self, stall: Stall) -> Duration {
        Duration::from_nanos(self.latency_peak.saturating_mul(2)).clamp(stall.least, stall.most)
    }

    /// It has been found to last for too long. Returns whether that is believed: it is not at the first look.
    pub(crate) fn suspect(&mut self) -> bool {
        self.suspect = self.looked_at.replace(self.since) == Some(self.since);
        self.suspect
    }

    /// Nothing is concluded from it any more.
    pub(crate) const fn excuse(&mut self) {
        self.suspect = false;
    }

    /// A response came that took so long.
    #[inline(always)]
    pub(crate) fn observe_latency(&mut self, latency: Duration) {
        let latency = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        // Halved in some 180 fast responses: a pause is remembered for a while, not for good.
        self.latency_peak =
            if latency > self.latency_peak { latency } else { self.latency_peak - (self.latency_peak - latency) / 256 };
    }
}

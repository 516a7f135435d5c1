//! How long to wait before the next probe of a server that stays dead.
//!
//! The delay starts at `server_retry_timeout` and grows by half with each failed probe, but never by more than
//! [`GROWTH_LIMIT`] over it: a server must be back in the ring within `server_retry_timeout` + 1 s of being well again,
//! and a probe costs next to nothing. Jitter keeps the sidecars of many hosts from probing in step.

use std::time::Duration;

/// Most that the delay grows over `server_retry_timeout`.
pub const GROWTH_LIMIT: Duration = Duration::from_millis(600);

/// Shortest time between two probes: a `server_retry_timeout` of nothing is taken, and must not cost a whole CPU.
pub const SHORTEST: Duration = Duration::from_millis(50);

/// Part of the delay that jitter may take off, in percent.
const JITTER_PERCENT: u32 = 20;

/// The delays of one server.
#[derive(Debug, Clone)]
pub struct Backoff {
    retry_timeout: Duration,
    attempts: u32,
    random: u64,
}

impl Backoff {
    /// Delays around `retry_timeout`, or [`SHORTEST`] if that is longer, with jitter from `seed`.
    #[must_use]
    pub fn new(retry_timeout: Duration, seed: u64) -> Self {
        Self { retry_timeout: retry_timeout.max(SHORTEST), attempts: 0, random: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// Goes by another `retry_timeout` from here on.
    pub(super) fn set_retry_timeout(&mut self, retry_timeout: Duration) {
        self.retry_timeout = retry_timeout.max(SHORTEST);
    }

    /// Starts again from the first delay.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next delay. The first is `server_retry_timeout` itself.
    pub fn next_delay(&mut self) -> Duration {
        let attempt = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        if attempt == 0 {
            return self.retry_timeout;
        }
        let grown = self.retry_timeout.saturating_mul(3u32.saturating_pow(attempt.min(8))) / 2u32.pow(attempt.min(8));
        let delay = grown.min(self.retry_timeout + GROWTH_LIMIT);
        delay - delay * self.percent() / 100
    }

    /// 0 to `JITTER_PERCENT` (xorshift64: the quality does not matter, the repeatability does).
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 21")]
    fn percent(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % u64::from(JITTER_PERCENT + 1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_start_at_the_retry_timeout_and_stay_near_it() {
        for seed in 0..100 {
            let retry = Duration::from_secs(2);
            let mut backoff = Backoff::new(retry, seed);
            assert_eq!(backoff.next_delay(), retry);
            for _ in 0..40 {
                let delay = backoff.next_delay();
                assert!(delay >= retry * 8 / 10 && delay <= retry + GROWTH_LIMIT, "{delay:?}");
            }
        }
    }

    #[test]
    fn no_retry_timeout_makes_it_probe_without_a_pause() {
        for retry in [Duration::ZERO, Duration::from_millis(1)] {
            let mut backoff = Backoff::new(retry, 1);
            (0..100).for_each(|_| assert!(backoff.next_delay() >= SHORTEST * 8 / 10));
        }
    }

    #[test]
    fn two_servers_do_not_probe_in_step() {
        let delays = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(2), seed);
            (0..10).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
    }
}

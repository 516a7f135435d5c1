//! The life of one server.
//!
//! ```text
//!            failure_limit failures in a row                 probe_at has come
//!    +----+ ---------------------------------> +---------+ -------------------> +---------+
//!    | up |                                    | ejected |                      | probing |
//!    +----+ <--------------+                   +---------+ <------------------- +---------+
//!      any success resets  |                        the probe failed: later again   |
//!      the count           +--------------------------------------------------------+
//!                                            the probe was answered well
//! ```
//!
//! Only a probe brings a server back; requests of clients are never used to find out.

use std::time::Duration;

use super::Verdict;
use super::backoff::Backoff;
use crate::failure::Failure;
use crate::time::Instant;

/// The pool's settings that matter here.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `auto_eject_hosts`.
    pub ejects: bool,
    /// `server_failure_limit`; 0 acts as 1, as in twemproxy.
    pub failure_limit: u32,
    /// `server_retry_timeout`.
    pub retry_timeout: Duration,
    /// `timeout`.
    pub timeout: Option<Duration>,
}

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the ring, with so many failures in a row.
    Up {
        /// Failures since the last success.
        failures: u32,
    },
    /// Out of the ring.
    Ejected {
        /// When it was ejected.
        since: Instant,
        /// The failure that did it.
        failure: Failure,
        /// When it is probed next.
        probe_at: Instant,
    },
    /// Out of the ring, a probe under way.
    Probing {
        /// When it was ejected.
        since: Instant,
        /// The failure that did it.
        failure: Failure,
    },
}

/// One server's state and what changes it.
#[derive(Debug)]
pub struct Tracker {
    rules: Rules,
    state: State,
    backoff: Backoff,
    timeout_counted: Option<Instant>,
    ejected_at: Option<Instant>,
}

impl Tracker {
    /// A server that is up.
    #[must_use]
    pub const fn new(rules: Rules, seed: u64) -> Self {
        Self {
            rules,
            state: State::Up { failures: 0 },
            backoff: Backoff::new(rules.retry_timeout, seed),
            timeout_counted: None,
            ejected_at: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it may be in the ring.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// When it was last ejected.
    #[must_use]
    pub const fn ejected_at(&self) -> Option<Instant> {
        self.ejected_at
    }

    /// When it is to be probed.
    #[must_use]
    pub const fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Ejected { probe_at, .. } => Some(probe_at),
            State::Up { .. } | State::Probing { .. } => None,
        }
    }

    /// A request was answered.
    pub const fn succeeded(&mut self) {
        if let State::Up { failures } = &mut self.state {
            *failures = 0;
            self.timeout_counted = None;
        }
    }

    /// It failed once more, at `at`: for a request that timed out, the deadline that it missed, however late that was
    /// noticed.
    ///
    /// Requests that time out together are one failure: a hang counts once for each `timeout` that it lasts, so that
    /// `server_failure_limit` keeps its meaning whatever the load.
    pub fn failed(&mut self, failure: Failure, at: Instant) -> Verdict {
        let State::Up { failures } = &mut self.state else {
            return Verdict::Ignored;
        };
        if failure == Failure::TimedOut {
            let period = self.rules.timeout.unwrap_or_default();
            if self.timeout_counted.is_some_and(|counted| at - counted < period * 19 / 20) {
                return Verdict::Ignored;
            }
            self.timeout_counted = Some(at);
        }
        *failures = failures.saturating_add(1);
        let failures = *failures;
        if !self.rules.ejects || failures < self.rules.failure_limit {
            return Verdict::Counted(failures);
        }
        self.backoff.reset();
        self.timeout_counted = None;
        self.ejected_at = Some(at);
        self.state = State::Ejected { since: at, failure, probe_at: at + self.backoff.next_delay() };
        Verdict::Ejected { failures }
    }

    /// Takes the right to probe, if it is time and nobody else has it.
    pub fn claim_probe(&mut self, now: Instant) -> bool {
        let State::Ejected { since, failure, probe_at } = self.state else {
            return false;
        };
        if now < probe_at {
            return false;
        }
        self.state = State::Probing { since, failure };
        true
    }

    /// The probe was answered well. Returns how long the server was out and the number of probes.
    pub fn probe_passed(&mut self, now: Instant) -> (Duration, u32) {
        let away = match self.state {
            State::Ejected { since, .. } | State::Probing { since, .. } => now - since,
            State::Up { .. } => Duration::ZERO,
        };
        self.state = State::Up { failures: 0 };
        (away, self.backoff.attempts())
    }

    /// The probe failed; there will be another.
    pub fn probe_failed(&mut self, now: Instant) {
        if let State::Probing { since, failure } = self.state {
            self.state = State::Ejected { since, failure, probe_at: now + self.backoff.next_delay() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn tracker(ejects: bool) -> Tracker {
        let rules = Rules {
            ejects,
            failure_limit: 3,
            retry_timeout: Duration::from_secs(2),
            timeout: Some(Duration::from_millis(400)),
        };
        Tracker::new(rules, 7)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * MS)
    }

    #[test]
    fn consecutive_failures_eject_and_a_success_resets() {
        let mut tracker = tracker(true);
        assert_eq!(tracker.failed(Failure::Refused, at(0)), Verdict::Counted(1));
        assert_eq!(tracker.failed(Failure::Closed, at(1)), Verdict::Counted(2));
        tracker.succeeded();
        assert_eq!(tracker.failed(Failure::Refused, at(2)), Verdict::Counted(1));
        assert_eq!(tracker.failed(Failure::Refused, at(3)), Verdict::Counted(2));
        assert_eq!(tracker.failed(Failure::Refused, at(4)), Verdict::Ejected { failures: 3 });
        assert!(!tracker.is_up());
        assert_eq!(tracker.failed(Failure::Refused, at(5)), Verdict::Ignored);
    }

    #[test]
    fn a_hang_counts_once_for_each_timeout_that_it_lasts() {
        let mut tracker = tracker(true);
        let verdicts: Vec<_> = (400..=1200).map(|ms| tracker.failed(Failure::TimedOut, at(ms))).collect();
        let counted = verdicts.iter().filter(|verdict| **verdict != Verdict::Ignored).count();
        assert_eq!(counted, 3);
        assert!(!tracker.is_up(), "three timeouts of 400 ms are the limit of three");
    }

    #[test]
    fn without_auto_eject_nothing_leaves_the_ring() {
        let mut tracker = tracker(false);
        for ms in 0..100 {
            assert_eq!(tracker.failed(Failure::Refused, at(ms)), Verdict::Counted(u32::try_from(ms).unwrap() + 1));
        }
        assert!(tracker.is_up());
    }

    #[test]
    fn one_probe_at_a_time_and_only_a_good_one_restores() {
        let mut tracker = tracker(true);
        for ms in 0..3 {
            tracker.failed(Failure::Refused, at(ms));
        }
        assert_eq!(tracker.probe_at(), Some(at(2002)));
        assert!(!tracker.claim_probe(at(2001)), "too early");
        assert!(tracker.claim_probe(at(2002)));
        assert!(!tracker.claim_probe(at(2003)), "one is under way");
        tracker.succeeded();
        assert!(!tracker.is_up(), "a late response to an old request restores nothing");
        tracker.probe_failed(at(2010));
        let next = tracker.probe_at().expect("ejected again");
        assert!(next > at(2010) && next <= at(2010 + 2800));
        assert!(tracker.claim_probe(next));
        let (away, probes) = tracker.probe_passed(next);
        assert_eq!(away, next - at(2));
        assert_eq!(probes, 2);
        assert!(tracker.is_up());
    }
}

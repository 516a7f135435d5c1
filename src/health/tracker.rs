//! The life of one server.
//!
//! ```text
//!            failure_limit failures in a row                 probe_at has come
//!    +----+ ---------------------------------> +---------+ -------------------> +---------+
//!    | up |                                    | ejected |                      | probing |
//!    +----+ <--------------+                   +---------+ <------------------- +---------+
//!      a success resets    |                        the probe failed: later again   |
//!      its worker's count  +--------------------------------------------------------+
//!                                     `rise` probes in a row were answered well
//!
//!                    begin_maintenance             end_maintenance
//!    any of them -----------------------> +-------------+ -------> ejected, to be probed at once
//!                                         | maintenance |
//!                                         +-------------+
//! ```
//!
//! Failures are in a row that one worker has seen with no success in between; those of all workers are added up. A worker
//! knows in which order its own connections failed and were answered. What another one was answered may have been sent
//! before the failure, or on a connection that an overloaded or half-dead server still serves: it says nothing of those
//! that fail, whose clients would never be given another server. So a success takes back its own worker's failures, and
//! another's only when that one has seen no further failure for a while ([`Tracker::lapse`]), perhaps for want of requests.
//!
//! Only probes bring a server back; requests of clients are never used to find out. A server that has changed the ring
//! too often of late stays out, however well it answers: see [`Rules::flap_limit`]. One in maintenance is not
//! probed, and afterwards it returns by way of a probe as well: the probe sends it what it missed.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::{Backoff, SHORTEST};
use super::rules::Rules;
use super::verdict::Verdict;
use crate::failure::Failure;
use crate::time::Instant;

/// How operators take a server out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maintenance {
    /// At once: what is in flight is answered in its place.
    Eject,
    /// It gets no more requests, and answers those that it has.
    Drain,
}

/// The time in which changes of the ring are counted.
const FLAP_WINDOW: Duration = Duration::from_secs(60);

/// Longest pause before a probe that could not be made is tried again.
const UNMADE_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two of the probes in a row that `rise` asks for.
const RISE_PAUSE: Duration = Duration::from_millis(100);

/// Most failures in a row of a server in the ring of which nothing is said, however high `server_failure_limit` is.
const MOST_UNTOLD: u32 = 10;

/// How often it is said of a server that it goes on failing.
const FAILING_PERIOD: Duration = Duration::from_secs(60);

/// The pause between saying that a server fails and saying it again, if it was answered in between.
const FAILING_PAUSE: Duration = Duration::from_secs(10);

/// How a server fails that is in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// Since when it was not answered.
    pub since: Instant,
    /// Failures since then.
    pub failures: u32,
    /// The last of them.
    pub failure: Failure,
}

/// What became of a server whose probe was answered well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// It is back in the ring.
    Restored {
        /// How long it was out.
        away: Duration,
        /// Probes that it took.
        probes: u32,
    },
    /// It must be probed well again.
    Again,
    /// Invalidations are pending for it, and must be sent first.
    HasPending,
    /// It is well, but has changed the ring too often.
    HeldBack {
        /// Earliest time of its return.
        until: Instant,
        /// Whether it is news.
        first: bool,
    },
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
        /// The failure that did it; `None` when it was the operator, who has let it back since.
        failure: Option<Failure>,
        /// When it is probed next.
        probe_at: Instant,
    },
    /// Out of the ring, a probe under name.
    Probing {
        /// When it was ejected.
        since: Instant,
        /// The failure that did it, as above.
        failure: Option<Failure>,
    },
    /// Out of the ring until an operator lets it back.
    Maintenance {
        /// When it left the ring.
        since: Instant,
        /// The failure that had ejected it before; `None` when it was up.
        failure: Option<Failure>,
        /// How it was taken out.
        kind: Maintenance,
    },
}

impl State {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up { .. } => "up",
            Self::Ejected { .. } | Self::Maintenance { kind: Maintenance::Eject, .. } => "ejected",
            Self::Probing { .. } => "probing",
            Self::Maintenance { kind: Maintenance::Drain, .. } => "draining",
        }
    }

    /// When it left the ring, if it has.
    #[must_use]
    pub const fn out_since(self) -> Option<Instant> {
        match self {
            Self::Up { .. } => None,
            Self::Ejected { since, .. } | Self::Probing { since, .. } | Self::Maintenance { since, .. } => Some(since),
        }
    }
}

/// One server's state and what changes it.
#[derive(Debug)]
pub struct Tracker {
    rules: Rules,
    state: State,
    backoff: Backoff,
    timeout_counted: Option<(Instant, usize)>,
    /// The failures in a row of each worker that has seen any.
    rows: Vec<Row>,
    ejected_at: Option<Instant>,
    up_since: Instant,
    last_failure: Option<(Failure, Instant)>,
    /// Good probes in a row.
    passes: u32,
    /// Probes since it was ejected.
    probes: u32,
    /// It was told that it is held back.
    held_back: bool,
    /// Since when it has failed without being answered, if it has.
    failing_since: Option<Instant>,
    /// Whether the operator knows that it fails; when that was last told, and how often it was not told since.
    failing_known: bool,
    failing_told: Option<Instant>,
    failing_untold: u32,
    /// When it left the ring and returned, of late.
    changes: VecDeque<Instant>,
}

/// What one worker has seen of a server since its last success.
#[derive(Debug, Clone, Copy)]
struct Row {
    worker: usize,
    failures: u32,
    /// When the last of them was.
    last: Instant,
}

/// Shortest time for which a worker's failures stand though others succeed, and it sees no further ones.
const SHORTEST_LAPSE: Duration = Duration::from_secs(2);

impl Tracker {
    /// A server that is up.
    #[must_use]
    pub fn new(rules: Rules, seed: u64) -> Self {
        Self {
            rules,
            state: State::Up { failures: 0 },
            backoff: Backoff::new(rules.retry_timeout, seed),
            timeout_counted: None,
            rows: Vec::new(),
            ejected_at: None,
            up_since: Instant::ZERO,
            last_failure: None,
            passes: 0,
            probes: 0,
            held_back: false,
            failing_since: None,
            failing_known: false,
            failing_told: None,
            failing_untold: 0,
            changes: VecDeque::new(),
        }
    }

    /// Lives by other rules from here on. An ejected server is probed no later than they say.
    pub(super) fn live_by(&mut self, rules: Rules, now: Instant) {
        self.rules = rules;
        self.backoff.set_retry_timeout(rules.retry_timeout);
        if let State::Ejected { probe_at, .. } = &mut self.state {
            *probe_at = (*probe_at).min(now + rules.retry_timeout);
        }
    }

    /// It was out of the ring when the process before this one ended: it is probed now.
    pub(super) fn begin_out(&mut self, now: Instant) {
        self.ejected_at = Some(now);
        self.state = State::Ejected { since: now, failure: Some(Failure::Ejected), probe_at: now };
    }

    /// Whether it is to be flushed before it is back, if it leaves the ring now.
    pub(super) const fn flushes(&self) -> bool {
        self.rules.flushes
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

    /// Since when it has been in the ring, if it is.
    #[must_use]
    pub const fn up_since(&self) -> Option<Instant> {
        if self.is_up() { Some(self.up_since) } else { None }
    }

    /// How it failed last, and when.
    #[must_use]
    pub const fn last_failure(&self) -> Option<(Failure, Instant)> {
        self.last_failure
    }

    /// When it is to be probed.
    #[must_use]
    pub const fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Ejected { probe_at, .. } => Some(probe_at),
            State::Up { .. } | State::Probing { .. } | State::Maintenance { .. } => None,
        }
    }

    /// A request of this worker was answered. How many failures of others still count; and how long the server has failed,
    /// if that is over and the operator knows of it.
    pub fn succeeded(&mut self, worker: usize, now: Instant) -> (u32, Option<Duration>) {
        let lapse = self.lapse();
        let State::Up { failures } = &mut self.state else { return (0, None) };
        self.rows.retain(|row| row.worker != worker && now - row.last < lapse);
        self.timeout_counted = self.timeout_counted.filter(|(_, counter)| *counter != worker);
        *failures = self.rows.iter().fold(0, |sum, row| sum.saturating_add(row.failures));
        if *failures > 0 {
            return (*failures, None);
        }
        let since = self.failing_since.take();
        let was_known = std::mem::take(&mut self.failing_known);
        (0, since.filter(|_| was_known).map(|since| now - since))
    }

    /// For how many failures in a row, and since when, a server fails that stays in the ring: `auto_eject_hosts` is off,
    /// the pool can spare no more servers, or `server_failure_limit` is far away. `None` while that says little.
    #[must_use]
    pub fn failing(&self) -> Option<Failing> {
        let (State::Up { failures }, Some(since), Some((failure, _))) =
            (self.state, self.failing_since, self.last_failure)
        else {
            return None;
        };
        (failures >= self.fails_from()).then_some(Failing { since, failures, failure })
    }

    /// Failures in a row from which on a server in the ring is said to fail.
    fn fails_from(&self) -> u32 {
        self.rules.failure_limit.clamp(1, MOST_UNTOLD)
    }

    /// What is said of a failure that has ejected nothing.
    fn counted(&mut self, failures: u32, at: Instant) -> Verdict {
        let Some(failing) = self.failing() else { return Verdict::Counted(failures) };
        let period = if self.failing_known { FAILING_PERIOD } else { FAILING_PAUSE };
        if self.failing_told.is_some_and(|told| at - told < period) {
            self.failing_untold = self.failing_untold.saturating_add(1);
            return Verdict::Counted(failures);
        }
        (self.failing_known, self.failing_told) = (true, Some(at));
        let suppressed = std::mem::take(&mut self.failing_untold);
        Verdict::Failing { failures, lasts: at - failing.since, suppressed }
    }

    /// It is no longer in the ring, where it failed.
    fn ends_failing(&mut self) {
        (self.failing_since, self.failing_known, self.failing_untold) = (None, false, 0);
    }

    /// How long a worker's failures stand though others succeed, and it sees no further ones: a few times as long as a hang
    /// takes to be counted again.
    fn lapse(&self) -> Duration {
        SHORTEST_LAPSE.max(4 * self.rules.timeout.unwrap_or_default())
    }

    /// It failed once more, at `at`: for a request that timed out, the deadline that it missed, however late that was
    /// noticed.
    ///
    /// Requests that time out together are one failure: a hang counts once for each `timeout` that it lasts, so that
    /// `server_failure_limit` keeps its meaning whatever the load.
    ///
    /// `may_leave` is whether the pool can spare it (`max_ejected_percent`).
    pub fn failed(&mut self, worker: usize, failure: Failure, at: Instant, may_leave: bool) -> Verdict {
        let State::Up { failures } = &mut self.state else {
            return Verdict::Ignored;
        };
        self.last_failure = Some((failure, at));
        if failure == Failure::TimedOut {
            let period = self.rules.timeout.unwrap_or_default();
            if self.timeout_counted.is_some_and(|(counted, _)| at - counted < period * 19 / 20) {
                return Verdict::Ignored;
            }
            self.timeout_counted = Some((at, worker));
        }
        match self.rows.iter_mut().find(|row| row.worker == worker) {
            Some(row) => (row.failures, row.last) = (row.failures.saturating_add(1), at),
            None => self.rows.push(Row { worker, failures: 1, last: at }),
        }
        *failures = failures.saturating_add(1);
        let failures = *failures;
        self.failing_since.get_or_insert(at);
        if !self.rules.ejects || failures < self.rules.failure_limit || !may_leave {
            return self.counted(failures, at);
        }
        self.ends_failing();
        self.changed(at);
        (self.passes, self.probes) = (0, 0);
        self.held_back = false;
        self.backoff.reset();
        self.timeout_counted = None;
        self.rows.clear();
        self.ejected_at = Some(at);
        self.state = State::Ejected { since: at, failure: Some(failure), probe_at: at + self.backoff.next_delay() };
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
        self.probes += 1;
        true
    }

    /// The probe was answered well. Whether that was the last of those that `rise` asks for.
    pub fn probe_answered(&mut self, now: Instant) -> bool {
        let State::Probing { since, failure } = self.state else { return false };
        self.passes += 1;
        if self.passes < self.rules.rise {
            let pause = self.rules.retry_timeout.clamp(SHORTEST, RISE_PAUSE);
            self.state = State::Ejected { since, failure, probe_at: now + pause };
            return false;
        }
        true
    }

    /// It was probed as often as is asked for, and has confirmed all that was pending.
    pub fn probe_passed(&mut self, now: Instant) -> Passed {
        let State::Probing { since, failure } = self.state else {
            return Passed::Again; // it is up, or was ejected anew
        };
        if let Some(until) = self.kept_out_until(now) {
            let probe_at = until.min(now + self.rules.retry_timeout.max(RISE_PAUSE));
            self.state = State::Ejected { since, failure, probe_at };
            return Passed::HeldBack { until, first: !std::mem::replace(&mut self.held_back, true) };
        }
        self.changed(now);
        self.state = State::Up { failures: 0 };
        self.up_since = now;
        Passed::Restored { away: now - since, probes: self.probes }
    }

    /// The operator takes it out. Whether that changes anything.
    pub fn begin_maintenance(&mut self, kind: Maintenance, now: Instant) -> bool {
        let (since, failure) = match self.state {
            State::Up { .. } => {
                self.timeout_counted = None;
                self.rows.clear();
                self.ends_failing();
                self.ejected_at = Some(now);
                (now, None)
            }
            State::Ejected { since, failure, .. } | State::Probing { since, failure } => (since, failure),
            // One that is out altogether has nothing in flight that could be waited for.
            State::Maintenance { kind: before, .. } if before == kind || before == Maintenance::Eject => return false,
            State::Maintenance { since, failure, .. } => (since, failure),
        };
        self.state = State::Maintenance { since, failure, kind };
        true
    }

    /// The operator lets it back: it is probed now, whatever it did before. Whether that changes anything.
    pub fn end_maintenance(&mut self, now: Instant) -> bool {
        let (since, failure) = match self.state {
            State::Up { .. } | State::Probing { .. } => return false,
            State::Ejected { since, failure, .. } | State::Maintenance { since, failure, .. } => (since, failure),
        };
        self.changes.clear();
        self.backoff.reset();
        (self.passes, self.probes) = (0, 0);
        self.held_back = false;
        self.state = State::Ejected { since, failure, probe_at: now };
        true
    }

    /// It is at another address: what it did at the one before says nothing, so it is probed now if it is out.
    pub(super) fn moved(&mut self, now: Instant) {
        if matches!(self.state, State::Ejected { .. }) {
            self.end_maintenance(now);
        }
    }

    /// Until when it must stay out, so that its return and its next ejection stay within the limit.
    fn kept_out_until(&self, now: Instant) -> Option<Instant> {
        let limit = self.rules.flap_limit? as usize;
        let recent = self.changes.iter().filter(|at| now - **at < FLAP_WINDOW).count();
        let excess = (recent + 2).checked_sub(limit).filter(|excess| *excess > 0)?;
        let oldest = self.changes.len() - recent;
        self.changes.get(oldest + excess - 1).map(|at| *at + FLAP_WINDOW)
    }

    fn changed(&mut self, at: Instant) {
        let Some(limit) = self.rules.flap_limit else { return };
        self.changes.push_back(at);
        while self.changes.len() > limit as usize {
            self.changes.pop_front();
        }
    }

    /// The probe failed; there will be another.
    pub fn probe_failed(&mut self, now: Instant) {
        self.passes = 0;
        if let State::Probing { since, failure } = self.state {
            self.state = State::Ejected { since, failure, probe_at: now + self.backoff.next_delay() };
        }
    }

    /// The probe could not be made, which says nothing of the server; there will be another soon.
    pub fn probe_unmade(&mut self, now: Instant) {
        if let State::Probing { since, failure } = self.state {
            let pause = self.rules.retry_timeout.min(UNMADE_PAUSE);
            self.state = State::Ejected { since, failure, probe_at: now + pause.max(RISE_PAUSE) };
        }
    }
}

#[cfg(test)]
mod tests;

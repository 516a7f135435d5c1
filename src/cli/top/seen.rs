//! What is known of the proxy: its last answer, one from some seconds before, and for how long it has been silent.

use std::collections::VecDeque;
use std::time::Duration;

use super::overview::{Overview, Pool};
use crate::cli::port::Trouble;

/// How far apart the two answers are that growth is taken from, in answers.
const WINDOW: usize = 5;

/// What a frame is drawn from.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Where the proxy was asked.
    pub(super) address: String,
    /// Its last answer.
    pub(super) now: Overview,
    /// Earlier ones of the same process, oldest first.
    earlier: VecDeque<Overview>,
    /// It does not answer any more.
    pub(super) silence: Option<Silence>,
}

/// A proxy that does not answer.
#[derive(Debug, Clone)]
pub(super) struct Silence {
    /// Since its last answer.
    pub(super) lasts: Duration,
    /// What was tried last, and how it ended.
    pub(super) trouble: Trouble,
}

impl Seen {
    /// After the first answer.
    pub(super) fn new(address: String, now: Overview) -> Self {
        Self { address, now, earlier: VecDeque::new(), silence: None }
    }

    /// It answered.
    pub(super) fn answered(&mut self, next: Overview) {
        self.silence = None;
        let before = std::mem::replace(&mut self.now, next);
        if before.uptime_s > self.now.uptime_s {
            return self.earlier.clear(); // started anew
        }
        if self.earlier.len() == WINDOW {
            self.earlier.pop_front();
        }
        self.earlier.push_back(before);
    }

    /// It did not, and has not for so long.
    pub(super) fn failed(&mut self, trouble: Trouble, lasts: Duration) {
        self.silence = Some(Silence { lasts, trouble });
    }

    /// How fast a count of a pool grows, per second; nothing before there are two answers.
    pub(super) fn growth(&self, pool: &Pool, count: impl Fn(&Pool) -> u64) -> Option<f64> {
        let before = self.earlier.front()?;
        let seconds = self.now.uptime_s - before.uptime_s;
        let earlier = before.pools.iter().find(|earlier| earlier.name == pool.name)?;
        (seconds > 0.0).then(|| as_f64(count(pool).saturating_sub(count(earlier))) / seconds)
    }

    /// Error lines per second that clients are told because a server failed.
    pub(super) fn errors_per_s(&self, pool: &Pool) -> Option<f64> {
        self.growth(pool, |pool| pool.forward_errors)
    }

    /// Why most requests are answered in a server's place: of late if that can be said, since the start otherwise.
    pub(super) fn main_cause<'a>(&self, pool: &'a Pool) -> Option<&'a str> {
        let most = |grown: &dyn Fn(&str, u64) -> f64| {
            let weighed = pool.degraded.iter().map(|(cause, count)| (cause.as_str(), grown(cause, *count)));
            weighed.filter(|(_, weight)| *weight > 0.0).max_by(|one, other| one.1.total_cmp(&other.1))
        };
        let of_late = most(&|cause, _| {
            let count =
                |pool: &Pool| pool.degraded.iter().find(|(name, _)| name == cause).map_or(0, |(_, count)| *count);
            self.growth(pool, count).unwrap_or(0.0)
        });
        of_late.or_else(|| most(&|_, count| as_f64(count))).map(|(cause, _)| cause)
    }

    /// Hits among the keys that were asked of these pools of late.
    pub(super) fn hit_rate(&self, pools: &[&Pool]) -> Option<f64> {
        if let [pool] = pools {
            return pool.hit_rate;
        }
        let sum = |count: fn(&Pool) -> u64| pools.iter().map(|pool| self.growth(pool, count)).sum::<Option<f64>>();
        let (hits, misses) = (sum(|pool| pool.hits)?, sum(|pool| pool.misses)?);
        (hits + misses > 0.0).then(|| hits / (hits + misses))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts that are shown with three digits")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

//! Which keys are asked for most of late, and which move most bytes: from a sample of the requests, in bounded memory.
//!
//! A worker notes the keys of one request in so many; whoever looks adds up what all workers noted. Each side keeps the
//! lock for a moment, and the worker's never waits: it leaves a sample out when somebody is looking.
//!
//! The summary is Space-Saving (Metwally, Agrawal, El Abbadi, 2005): a table of a fixed number of keys. A new key takes the
//! place of the lightest one and inherits its weight. So what a key has gathered itself since it took its place is at most
//! what it truly weighs, together with what it inherited it is at least that, and no key is missing whose weight is more
//! than that of all divided by the places. Only what a key gathered itself is told.

use std::hash::Hasher;
use std::sync::Mutex;
use std::time::Duration;

use crate::time::Instant;
use summary::{Largest, Summary};

mod seen;
mod summary;
#[cfg(test)]
mod tests;

pub use seen::{HotKey, LargeValue, Seen};
pub use summary::{KEY_BYTES, Key, Touch, escaped};

/// When counting starts anew. What was counted in the period before is told with it, so "lately" is up to twice as long.
const PERIOD: Duration = Duration::from_secs(10);

/// Requests are weighed in parts of this size.
pub const REQUEST: u64 = 256;

/// What was noted in one period.
#[derive(Debug, Clone, Default)]
struct Generation {
    samples: u64,
    /// Of all keys together.
    requests: u64,
    bytes: u64,
    by_requests: Summary,
    by_bytes: Summary,
    largest: Largest,
}

impl Generation {
    fn clear(&mut self) {
        self.by_requests.clear();
        self.by_bytes.clear();
        self.largest.clear();
        (self.samples, self.requests, self.bytes) = (0, 0, 0);
    }
}

/// What a worker has noted of a pool: this period and the one before.
#[derive(Debug, Default)]
pub struct Noted {
    current: Generation,
    before: Generation,
    /// When each began.
    current_since: Instant,
    before_since: Instant,
}

impl Noted {
    /// Starts a new period if it is time.
    fn turn(&mut self, now: Instant) {
        let age = now - self.current_since;
        if age < PERIOD && self.current.samples > 0 {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.before);
        (self.before_since, self.current_since) = (self.current_since, now);
        if age >= 2 * PERIOD {
            self.before.clear();
        }
        self.current.clear();
    }

    /// Takes note of a key.
    pub fn touch(&mut self, touch: Touch<'_>) {
        let Generation { samples, requests, bytes, by_requests, by_bytes, largest } = &mut self.current;
        *samples += 1;
        *requests = requests.saturating_add(touch.requests);
        *bytes = bytes.saturating_add(touch.bytes);
        if touch.key.len() > LONGEST {
            return;
        }
        let hash = hash(touch.key);
        by_requests.touch(hash, touch, touch.requests);
        if touch.bytes > 0 {
            by_bytes.touch(hash, touch, touch.bytes);
            largest.touch(touch);
        }
    }
}

/// A key that is longer has no place among the hot ones: to hash it would take long.
const LONGEST: usize = 64 << 10;

/// What a worker notes of a pool, for others to look at.
#[derive(Debug, Default)]
pub struct HotKeys(Mutex<Noted>);

impl HotKeys {
    /// Takes note of what a request in the sample names; does nothing when somebody looks at the moment.
    pub fn note(&self, now: Instant, take: impl FnOnce(&mut Noted)) {
        if let Ok(mut noted) = self.0.try_lock() {
            noted.turn(now);
            take(&mut noted);
        }
    }
}

/// Tells most keys from each other.
#[expect(clippy::cast_possible_truncation, reason = "both halves are in it")]
fn hash(key: &[u8]) -> u32 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(key);
    let hash = hasher.finish();
    (hash ^ hash >> 32) as u32
}

//! Requests that took long, and which of them are told.

use std::time::Duration;

use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::bucket::Bucket;
use crate::time::Instant;

/// Requests that each worker tells at once, and then each second. The others are counted in the next line.
const BURST: u32 = 10;

const PER_SECOND: u32 = 1;

/// A request that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slow {
    /// Its pool.
    pub pool: PoolId,
    /// The server that answered last, or did not; none if it never came to be sent.
    pub server: Option<ServerId>,
    /// Its command.
    pub command: &'static str,
    /// Keys that this server was asked for.
    pub keys: usize,
    /// The first of them, or as much of it as is told.
    pub key: Box<[u8]>,
    /// Its hash, which decided on the server.
    pub hash: Option<u32>,
    /// From when it was read.
    pub took: Duration,
    /// Of that, until it was written to the server, and from then on; as far as they are known.
    pub waited: Option<Duration>,
    /// See `waited`.
    pub asked: Option<Duration>,
    /// Why it was answered in its server's place.
    pub failure: Option<Failure>,
    /// Slow requests that were not told since the last one that was.
    pub suppressed: u64,
}

/// Which requests are told.
#[derive(Debug)]
pub(super) struct Log {
    /// In nanoseconds; no request takes `u64::MAX` of them.
    pub(super) threshold: u64,
    pub(super) bucket: Bucket,
    pub(super) suppressed: u64,
}

impl Log {
    pub(super) fn new(threshold: Option<Duration>) -> Self {
        let mut log = Self { threshold: u64::MAX, bucket: Bucket::new(PER_SECOND, BURST), suppressed: 0 };
        log.set_threshold(threshold);
        log
    }

    /// What takes longer is slow from here on.
    pub(super) fn set_threshold(&mut self, threshold: Option<Duration>) {
        self.threshold = threshold.map_or(u64::MAX, |span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) const fn is_on(&self) -> bool {
        self.threshold != u64::MAX
    }

    /// Whether a request is slow that was read at `started` and is answered now.
    #[inline]
    pub(super) const fn is_slow(&self, started: Instant, now: Instant) -> bool {
        now.as_nanos().saturating_sub(started.as_nanos()) >= self.threshold
    }

    /// Whether one more may be told; then how many were not.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.bucket.take(now).is_err() {
            self.suppressed += 1;
            return None;
        }
        Some(std::mem::take(&mut self.suppressed))
    }
}

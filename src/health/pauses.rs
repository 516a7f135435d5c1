//! Servers that stand still now and then, and go on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Registry;
use crate::config::model::{PoolId, ServerId};
use crate::time::Instant;

/// How long it is remembered that a server stands still now and then: one that saves its data does so every minute.
const PAUSES_KEPT: Duration = Duration::from_secs(90);

impl Registry {
    /// A server has stood still for so long, and then gone on.
    pub fn note_pause(&self, pool: PoolId, server: ServerId, pause: Duration, now: Instant) {
        let (entry, known) = (self.entry(pool, server), self.pause(pool, server, now));
        if pause * 4 >= known * 3 {
            let pause = pause.max(known);
            entry.pause.store(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.renew_pause(pool, server, now);
        }
    }

    /// A server stands still as it has before.
    pub fn renew_pause(&self, pool: PoolId, server: ServerId, now: Instant) {
        self.entry(pool, server).pause_until.store((now + PAUSES_KEPT).as_nanos(), Ordering::Relaxed);
    }

    /// A server that stood still did not go on in time: it hangs, and is taken for silent as soon as any other.
    pub fn forget_pause(&self, pool: PoolId, server: ServerId) {
        self.entry(pool, server).pause_until.store(0, Ordering::Relaxed);
    }

    /// For how long a server has stood still of late and gone on; 0 if it has not.
    #[must_use]
    pub fn pause(&self, pool: PoolId, server: ServerId, now: Instant) -> Duration {
        let entry = self.entry(pool, server);
        let is_kept = now.as_nanos() < entry.pause_until.load(Ordering::Relaxed);
        Duration::from_nanos(if is_kept { entry.pause.load(Ordering::Relaxed) } else { 0 })
    }
}

//! Connections to servers, as all workers have to know of them: how many may be opened, and those that linger.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Registry;
use crate::config::model::{PoolId, ServerId};
use crate::time::Instant;

impl Registry {
    /// Whether a connection that is to replace a lost one may be opened now.
    ///
    /// # Errors
    ///
    /// Not yet; says when.
    pub fn may_reconnect(&self, pool: PoolId, server: ServerId, now: Instant) -> Result<(), Instant> {
        self.entry(pool, server).connects.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }

    /// A worker opens a connection to a server that is set to something else than those that it has. All of them may be
    /// opened anew at once.
    pub fn connects_more(&self, pool: PoolId, server: ServerId) {
        self.entry(pool, server).connects.lock().unwrap_or_else(PoisonError::into_inner).widen();
    }

    /// A connection to a server was given up, and its end is waited for.
    pub fn lingers(&self, pool: PoolId, server: ServerId) {
        self.entry(pool, server).lingering.fetch_add(1, Ordering::AcqRel);
    }

    /// Such a connection is over.
    pub fn ended(&self, pool: PoolId, server: ServerId) {
        let entry = self.entry(pool, server);
        if entry.lingering.fetch_sub(1, Ordering::AcqRel) == 1 {
            entry.ends_lingering.store(false, Ordering::Release);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn lingering(&self, pool: PoolId, server: ServerId) -> usize {
        self.entry(pool, server).lingering.load(Ordering::Acquire)
    }

    /// When they were last reset because the server did not come to their end, if they ever were.
    #[must_use]
    pub fn lingering_ended(&self, pool: PoolId, server: ServerId) -> Option<Instant> {
        let at = self.entry(pool, server).lingering_ended.load(Ordering::Acquire);
        (at > 0).then(|| Instant::from_nanos(at))
    }

    /// Their end is waited for no longer: each worker is to reset its own.
    pub fn end_lingering(&self, pool: PoolId, server: ServerId, now: Instant) {
        let entry = self.entry(pool, server);
        entry.lingering_ended.store(now.as_nanos(), Ordering::Release);
        entry.ends_lingering.store(true, Ordering::Release);
        self.shared.version.fetch_add(1, Ordering::Release);
    }
}

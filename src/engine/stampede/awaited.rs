//! A key that clients of a worker wait for.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::sync::Arc;

use fnv::FnvHasher;

use super::held::Key;
use crate::config::model::PoolId;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::redis::Profile;
use crate::time::Instant;

/// What tells a key from others.
pub(super) type Name = (PoolId, u32, Box<[u8]>);

/// What a server has said of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// It was given.
    Given,
    /// Somebody else has it.
    Refused,
    /// That is not known, or none are given.
    Unknown,
}

/// A value that a key had before, as its server has answered.
pub(super) type Former = Arc<[u8]>;

/// A key that is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) pool: PoolId,
    pub(super) key: Key,
    /// Redis: what the connections are set to.
    pub(super) profile: Option<Profile>,
    /// Asked by a meta command, so that its server knows these.
    pub(super) is_meta: bool,
    /// Who waits, the first in front.
    pub(super) waiting: VecDeque<SessionId>,
    /// It is being looked at; what has been said of the lease.
    pub(super) looks: Option<Option<Lease>>,
    /// When it was looked at last.
    pub(super) looked_at: Instant,
    /// The answer of its server to what its value was before, if that is known, and the connection on which it came.
    pub(super) former: Option<(LinkId, Former)>,
    /// Something has been stored or removed since that began.
    pub(super) is_stale: bool,
    /// Somebody has the lease, as far as is known.
    pub(super) is_leased: bool,
    /// When it is looked at next.
    pub(super) next: Option<Instant>,
}

impl Awaited {
    /// What tells it from others.
    pub(super) fn name(&self) -> Name {
        name(self.pool, self.profile, &self.key.routed)
    }
}

/// What tells a key from others.
pub(super) fn name(pool: PoolId, profile: Option<Profile>, key: &[u8]) -> Name {
    (pool, profile.map_or(u32::MAX, |profile| profile.database), key.into())
}

/// What tells a key that a client has a lease for from others.
pub(super) fn hash(pool: PoolId, key: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write_u16(pool.0);
    hasher.write(key);
    hasher.finish()
}

/// What the connections for a pool's clients are told apart by.
pub(super) fn profile_of(is_redis: bool, profile: Profile) -> Option<Profile> {
    is_redis.then_some(profile)
}

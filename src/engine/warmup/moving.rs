//! A key on its way from a former home to where it belongs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::waits::WaitId;
use crate::config::model::{PoolId, ServerId};
use crate::engine::ids::SessionId;
use crate::engine::redis::Profile;
use crate::proto::memcache::copy as memcache;
use crate::time::Instant;
use crate::topology::Warming;

/// What has been asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The new home, whether the key is there.
    Check,
    /// The new home, to know that the key is being copied.
    Announce,
    /// Memcached: the new home, to know that for longer, as others copy the key as well.
    Keep,
    /// Memcached: the new home, to know that of this copy as well.
    Announced,
    /// Redis: a former home, how long the key has still to live.
    Lifetime,
    /// A former home, what is stored under the key. Redis: it has so many milliseconds to live, if not for ever.
    Read(Option<u64>),
    /// The new home, to store it.
    Store,
}

/// A key that is being copied.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) pool: PoolId,
    pub(super) key: Box<[u8]>,
    pub(super) base64: bool,
    /// Redis: what the connections are set to.
    pub(super) profile: Option<Profile>,
    pub(super) hash: u64,
    /// How often keys of its group had been written when it was begun.
    pub(super) begun: u32,
    pub(super) shared: Arc<Warming>,
    /// The pool's ring when it was begun.
    pub(super) ring_version: u32,
    pub(super) stage: Stage,
    /// The item that says that it is being copied, what this copy is called there, and when that was about to be said, if it
    /// was.
    pub(super) sign: Box<[u8]>,
    pub(super) name: Box<[u8]>,
    pub(super) announced_at: Option<Instant>,
    pub(super) home: ServerId,
    /// Where it was before, the newest home first.
    pub(super) homes: Vec<ServerId>,
    /// Where it is looked for next, from the end, and where it was looked for last.
    pub(super) former: Vec<ServerId>,
    pub(super) from: Option<ServerId>,
    /// A former home could not be asked.
    pub(super) is_partial: bool,
    /// How often it was announced and read.
    pub(super) rounds: u32,
    /// Who waits for it, each with the number of the last time.
    pub(super) clients: BTreeMap<SessionId, u64>,
}

impl Moving {
    /// A client waits for it. `false` if that is known: it has asked for the key twice.
    pub(super) fn is_awaited_by(&mut self, wait: WaitId) -> bool {
        self.clients.insert(wait.client, wait.number) != Some(wait.number)
    }

    pub(super) fn memcache_sign(&self) -> memcache::Key<'_> {
        memcache::Key { bytes: &self.sign, base64: false }
    }

    pub(super) fn memcache_key(&self) -> memcache::Key<'_> {
        memcache::Key { bytes: &self.key, base64: self.base64 }
    }
}

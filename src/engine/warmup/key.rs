//! The keys of a request, and what it does with them.

use std::hash::Hasher;

use fnv::FnvHasher;

use crate::config::model::PoolId;

/// What a request does with its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Access {
    Reads,
    /// It changes what is there, or what it does depends on whether anything is.
    Changes,
    /// It stores something, whatever is there.
    Overwrites,
}

/// A key of a request.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Key<'k> {
    /// The bytes that say where it belongs.
    pub(in crate::engine) routed: &'k [u8],
    /// As it stands on the wire.
    pub(in crate::engine) wire: &'k [u8],
    pub(in crate::engine) base64: bool,
    /// Redis: the database.
    pub(in crate::engine) database: Option<u32>,
}

impl Key<'_> {
    /// What tells it from others.
    pub(super) fn hash(&self, pool: PoolId) -> u64 {
        let mut hasher = FnvHasher::default();
        hasher.write_u16(pool.0);
        hasher.write_u32(self.database.map_or(u32::MAX, |database| database));
        hasher.write(self.routed); // the same however it is written
        // Keys that differ in their last byte differ in few bits of that, and are to be spread over tables.
        let hash = hasher.finish();
        (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The name of the item at its home that says who copies it.
    pub(super) fn sign(&self) -> Box<[u8]> {
        let hash = self.hash(PoolId(0)); // pools have other ids elsewhere
        format!("softmiss:moving:{hash:016x}").into_bytes().into()
    }
}

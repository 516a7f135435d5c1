//! Large requests of a client, which have more time.

use crate::time::Instant;
use std::collections::VecDeque;

/// Bytes for which a request has another `timeout`.
pub(super) const PORTION: usize = 4 << 20;

/// The large requests that a client waits for, and perhaps some that have been answered.
#[derive(Debug, Default)]
pub(crate) struct Large {
    pub(super) requests: VecDeque<Taken>,
    /// How long may take what was asked behind one of them before the time of that was up: until when, and the number of
    /// the first that has come since.
    pub(super) behind: Option<(Instant, u32)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Its number.
    pub(super) number: u32,
    /// Its bytes.
    pub(super) len: usize,
    /// With those of the large ones in front of it.
    pub(super) all: usize,
}

impl Taken {
    pub(super) fn portions(&self) -> u32 {
        u32::try_from(1 + self.all / PORTION).unwrap_or(u32::MAX)
    }
}

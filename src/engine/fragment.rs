//! The part of a request that goes to one server.

use crate::config::model::ServerId;

/// The end of the list of a fragment's keys.
pub(crate) const NO_KEY: u32 = u32::MAX;

/// The part of a multi-get that goes to one server.
#[derive(Debug)]
pub(crate) struct Fragment {
    pub(crate) server: ServerId,
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) done: bool,
}

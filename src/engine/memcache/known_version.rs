//! What is known of a server's version.

use crate::proto::memcache::version::Version;

/// What is known of a server's version.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Known {
    /// What it said last.
    pub(in crate::engine) version: Option<Version>,
    /// It has said so, or something that is none, on a connection that is still there.
    pub(in crate::engine) is_fresh: bool,
}

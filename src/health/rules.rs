//! What a pool's settings say of the life of its servers.

use std::time::Duration;

use crate::config::model::{Pool, Rejoin};

/// The settings that a [`Tracker`](super::tracker::Tracker) goes by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `auto_eject_hosts`.
    pub ejects: bool,
    /// `server_failure_limit`; 0 acts as 1, as in twemproxy.
    pub failure_limit: u32,
    /// `server_retry_timeout`.
    pub retry_timeout: Duration,
    /// `timeout`.
    pub timeout: Option<Duration>,
    /// `rise`.
    pub rise: u32,
    /// `flap_limit`: most changes of the ring in a minute.
    pub flap_limit: Option<u32>,
    /// `rejoin: flush`: whoever leaves the ring is flushed before it is back.
    pub flushes: bool,
}

impl Rules {
    /// Those of a pool.
    #[must_use]
    pub const fn of(pool: &Pool) -> Self {
        Self {
            ejects: pool.auto_eject_hosts,
            failure_limit: pool.server_failure_limit,
            retry_timeout: pool.server_retry_timeout,
            timeout: pool.timeout,
            rise: pool.rise,
            flap_limit: pool.flap_limit,
            flushes: matches!(pool.rejoin, Rejoin::Flush),
        }
    }
}

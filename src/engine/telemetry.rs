//! What is noted of requests besides the counters.

use std::cell::Cell;
use std::time::Duration;

use super::ids::SessionId;
use super::sampler::Sampler;
use super::slow_log::Log;
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::Class;

/// What is noted of requests besides the counters.
#[derive(Debug)]
pub(super) struct Telemetry {
    /// The class of the request that is being carried out, until it ends or waits.
    pub(super) at_hand: Option<Class>,
    /// A limit that was reached, which the operator has not been told of.
    pub(super) limit_hit: Cell<Option<(PoolId, Option<ServerId>, Failure)>>,
    /// The client that the operator was last told of, for what it speaks.
    pub(super) stranger: Option<SessionId>,
    /// Which requests have their keys noted, and which are told as slow.
    pub(super) hot: Sampler,
    pub(super) slow: Log,
}

impl Telemetry {
    /// One request in `hot_keys` has its keys noted; slow are those that take longer than `slow_request`.
    pub(super) fn new(hot_keys: Option<u32>, slow_request: Option<Duration>, seed: u64) -> Self {
        Self {
            at_hand: None,
            limit_hit: Cell::new(None),
            stranger: None,
            hot: Sampler::new(hot_keys, seed),
            slow: Log::new(slow_request),
        }
    }
}

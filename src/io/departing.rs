//! Clients between two owners: two workers, or two processes.

use std::os::fd::OwnedFd;

use crate::config::model::PoolId;
use crate::engine::Carried;

/// A client that has left its worker, or is to come to one.
#[derive(Debug)]
pub(crate) struct Departing {
    pub(crate) pool: PoolId,
    pub(crate) carried: Carried,
    pub(crate) socket: OwnedFd,
    /// It is to stay where it is.
    pub(crate) stays: bool,
}

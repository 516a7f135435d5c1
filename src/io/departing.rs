//! Clients between two owners: two workers, or two processes.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;

use crate::config::model::PoolId;
use crate::engine::Carried;
use crate::engine::ids::SessionId;

/// A client that has left its worker, or is to come to one.
#[derive(Debug)]
pub(crate) struct Departing {
    pub(crate) pool: PoolId,
    pub(crate) carried: Carried,
    pub(crate) socket: OwnedFd,
    /// It comes from another process, where it may have said who it is: whether it has still to.
    pub(crate) unadmitted: Option<bool>,
    /// It is to stay where it is.
    pub(crate) stays: bool,
}

/// Clients that are told to leave at a time: until they have, nobody serves them.
pub(crate) const PORTION: usize = 64;

/// How clients leave for another process.
#[derive(Debug)]
pub(crate) struct Departures {
    pub(crate) way: Sender<Departing>,
    /// Those that have not been told to yet, and those that could not.
    pub(crate) here: VecDeque<SessionId>,
}

//! Work that is done in portions.

use std::collections::VecDeque;

use super::ids::{LinkId, SessionId};
use super::redis::question::Search;
use super::redis::subscriptions::Subscriptions;
use crate::config::model::PoolId;

/// Steps that are worked off at a time. A step is what one name costs at one server: about a microsecond.
pub(super) const PORTION: usize = 1000;

/// Something that is left to be done.
#[derive(Debug)]
pub(super) enum Chore {
    /// A client has asked for more subscriptions, or for the end of more, than are dealt with at a time.
    Subscribe(SessionId),
    /// What a client is subscribed to may have to be subscribed to elsewhere.
    Resubscribe(SessionId),
    /// The ring has changed: so may the servers that the channels of a pool's clients belong to.
    Move(PoolId),
    /// Clients are looked through for one who asks about them.
    Inquire(Box<Search>),
    /// The ring has changed: so may the servers that those belong to who wait on connections of their own, from this one on.
    Follow(PoolId, usize),
    /// A client has sent more than is carried out in one turn.
    GoOn(SessionId),
    /// A pool is served no longer: its clients, from this place on, are let go.
    Dismiss(PoolId, usize),
    /// A pool has another `timeout`: the timers of its clients, from this place on, are set anew.
    Retime(PoolId, usize),
    /// There is another `memory_limit`, which clients, from this place on, are held to.
    Weigh(usize),
    /// Clients that were held back may go on.
    Relieve(LinkId),
    /// The next answer to a client has to be looked through before it can be written.
    Prepare(SessionId),
    /// Nobody needs this any more.
    Discard(Box<Subscriptions>),
}

/// What is left to be done.
#[derive(Debug, Default)]
pub(super) struct Chores {
    pub(super) queue: VecDeque<Chore>,
    /// The timer is set.
    pub(super) timed: bool,
}

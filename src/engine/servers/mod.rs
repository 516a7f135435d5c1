//! The connections to servers, each at a place of its own, and what is asked on them.
//!
//! A *link* is a place: it outlives its connections, of which there is one at a time. The places of links that belong to
//! one client are used again, and the generation in a [`LinkId`] tells a link from those before it.

mod ahead;
mod asking;
mod connection;
pub(crate) mod outbox;
mod purpose;
pub(crate) mod queue;
mod sent;
mod silence;
mod stream;
pub(crate) mod ticket;

use std::ops::{Index, IndexMut};

use super::ids::{LinkId, SessionId};
use super::redis::Profile;
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::time::Instant;
pub(crate) use connection::{Connection, ConnectionState, IN_FLIGHT_LIMIT, QUEUE_HARD_LIMIT, QUEUE_LIMIT};
pub(crate) use purpose::{Dedicated, Probe, ProbeStep, Purpose};
pub(crate) use sent::SentBatch;
pub(crate) use stream::{Cursor, Settling, Stream};

/// The connections of one worker to all servers.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    connections: Vec<Connection>,
    /// Places whose link is over, each as the id of the next link there.
    free: Vec<LinkId>,
    /// Connections whose queue may be full.
    crowded: usize,
}

impl Servers {
    /// Makes a link, at a place of its own.
    pub(crate) fn add(&mut self, server: (PoolId, ServerId), purpose: Purpose, profile: Profile) -> LinkId {
        let id = LinkId::first(self.connections.len());
        self.connections.push(Connection::new(server, purpose, profile));
        id
    }

    /// Makes a link of a client's own, at a place that is free, if there is one.
    pub(crate) fn add_dedicated(
        &mut self,
        owner: SessionId,
        server: (PoolId, ServerId),
        profile: Profile,
        now: Instant,
    ) -> LinkId {
        let id = self.free.pop().unwrap_or_else(|| self.add(server, Purpose::Free, profile));
        let connection = &mut self[id];
        (connection.pool, connection.server) = server;
        connection.profile = profile;
        connection.purpose = Purpose::Dedicated(Dedicated::of(owner));
        connection.hold_back(now, Failure::Closed);
        id
    }

    /// A link is over: its place is free for another. Returns the id of the next one there.
    pub(crate) fn release(&mut self, id: LinkId) -> LinkId {
        self.end_crowd(id);
        let next = id.next();
        self[id].make_free(next);
        self.free.push(next);
        next
    }

    /// The connection of a link, unless that is over and its place another's. Ids that are kept from one call to the next
    /// are looked up like this.
    #[inline]
    pub(crate) fn get(&self, id: LinkId) -> Option<&Connection> {
        self.connections.get(id.index()).filter(|connection| connection.generation == id.generation)
    }

    /// What the shell reports of a connection is of one in particular: that, unless it is over.
    #[inline(always)]
    pub(crate) fn current(&mut self, id: LinkId, epoch: u32) -> Option<&mut Connection> {
        let connection = &mut self.connections[id.index()];
        (connection.epoch == epoch && connection.generation == id.generation).then_some(connection)
    }

    /// As [`Servers::get`], to change it.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Connection> {
        self.connections.get_mut(id.index()).filter(|connection| connection.generation == id.generation)
    }

    /// What there is while the connection of a link is of use; nothing, if the link is over.
    #[inline]
    pub(crate) fn stream(&mut self, id: LinkId) -> Option<&mut Stream> {
        let connection = &mut self.connections[id.index()];
        if connection.generation == id.generation { connection.stream_mut() } else { None }
    }

    /// The pool and the server of whatever link has a place at the moment.
    pub(crate) fn leads_to(&self, id: LinkId) -> (PoolId, ServerId) {
        let connection = &self.connections[id.index()];
        (connection.pool, connection.server)
    }

    /// Whether a link is not over.
    #[inline]
    pub(crate) fn has(&self, id: LinkId) -> bool {
        self.get(id).is_some()
    }

    /// All of them, from one place on.
    pub(crate) fn iter_from(&self, place: usize) -> impl Iterator<Item = (LinkId, &Connection)> {
        let first = u32::try_from(place).unwrap_or(u32::MAX);
        let places = self.connections.get(place..).unwrap_or_default().iter().zip(first..);
        places.map(|(connection, place)| (LinkId { place, generation: connection.generation }, connection))
    }

    /// All of them, with those whose place is free.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, &Connection)> {
        self.iter_from(0)
    }

    /// How many places there are.
    pub(crate) const fn len(&self) -> usize {
        self.connections.len()
    }

    /// How many have a queue that may be full.
    #[inline]
    pub(crate) const fn crowded(&self) -> usize {
        self.crowded
    }

    /// The queue of a connection may be full.
    pub(crate) fn note_crowd(&mut self, id: LinkId) {
        if !std::mem::replace(&mut self[id].crowded, true) {
            self.crowded += 1;
        }
    }

    /// The queue of a connection is short again, or gone.
    pub(crate) fn end_crowd(&mut self, id: LinkId) {
        if std::mem::take(&mut self[id].crowded) {
            self.crowded -= 1;
        }
    }
}

/// The connection of a link that is known not to be over: whoever has kept its id asks [`Servers::get`].
impl Index<LinkId> for Servers {
    type Output = Connection;

    #[inline(always)]
    fn index(&self, id: LinkId) -> &Connection {
        let connection = &self.connections[id.index()];
        debug_assert_eq!(connection.generation, id.generation, "a link that is over");
        connection
    }
}

impl IndexMut<LinkId> for Servers {
    #[inline(always)]
    fn index_mut(&mut self, id: LinkId) -> &mut Connection {
        let connection = &mut self.connections[id.index()];
        debug_assert_eq!(connection.generation, id.generation, "a link that is over");
        connection
    }
}

//! The clients of a worker: who is connected, by which id, and whose input may be carried out further.
//!
//! A place is used again when its client has left; the generation of an id tells the client that is there from earlier
//! ones. So whoever has kept an id asks [`Clients::get`] once, and works with what was found.

mod holding;
pub(super) mod input;
pub(super) mod large_requests;
pub(super) mod output;
pub(super) mod requests;
pub(super) mod routes;
pub(super) mod session;

use slab::Slab;

use super::ids::SessionId;
use super::redis::Client;
use crate::config::model::PoolId;
use session::Session;

/// Clients that there is room for from the beginning. Memory is taken when somebody comes; but when there is no room, all who
/// are there are copied, and the memory in which they were stays with the process for a while.
pub(crate) const EXPECTED_CLIENTS: usize = 4096;

/// All clients of a worker.
#[derive(Debug)]
pub(super) struct Clients {
    places: Slab<Session>,
    /// How many places have been taken at some time.
    used: usize,
    /// The generation of the client that came last.
    generation: u32,
    /// Those whose input may be carried out further.
    resumable: Vec<SessionId>,
}

fn id_of(index: usize, session: &Session) -> SessionId {
    SessionId { index: u32::try_from(index).unwrap_or(u32::MAX), generation: session.generation }
}

impl Default for Clients {
    fn default() -> Self {
        Self { places: Slab::with_capacity(EXPECTED_CLIENTS), used: 0, generation: 0, resumable: Vec::new() }
    }
}

impl Clients {
    /// A client of a pool has come, that of a Redis pool with what it has set up, and no more requests of it are carried out
    /// while `output_limit` bytes of responses wait for it. Its id is no other's, whoever else had its place.
    pub(super) fn insert(&mut self, pool: PoolId, output_limit: usize, redis: Option<Box<Client>>) -> SessionId {
        self.generation = self.generation.wrapping_add(1);
        let index = self.places.insert(Session::new(pool, self.generation, output_limit, redis));
        self.used = self.used.max(index + 1);
        id_of(index, &self.places[index])
    }

    /// A client has left. `None` when it had left before.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.get(id)?;
        self.places.try_remove(id.index())
    }

    /// The client that an id names, unless it has left.
    #[inline]
    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.places.get(id.index()).filter(|session| session.generation == id.generation)
    }

    /// As [`Clients::get`].
    #[inline]
    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.places.get_mut(id.index()).filter(|session| session.generation == id.generation)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.places.iter().map(|(index, session)| (id_of(index, session), session))
    }

    /// How many places there are that were taken at some time; whoever goes through the clients in portions counts places.
    pub(super) fn places(&self) -> usize {
        self.used
    }

    /// Who is at a place.
    pub(super) fn at(&self, place: usize) -> Option<(SessionId, &Session)> {
        self.places.get(place).map(|session| (id_of(place, session), session))
    }

    /// A client's input may be carried out further; that is looked at before the event at hand is over.
    #[inline]
    pub(super) fn resume_soon(&mut self, id: SessionId) {
        self.resumable.push(id);
    }

    /// As [`Clients::resume_soon`], for many.
    pub(super) fn resume_all_soon(&mut self, ids: impl IntoIterator<Item = SessionId>) {
        self.resumable.extend(ids);
    }

    /// Whether there is somebody whose input may be carried out further.
    #[inline]
    pub(super) fn has_resumable(&self) -> bool {
        !self.resumable.is_empty()
    }

    /// The next whose input may be carried out further: the one that was named last.
    pub(super) fn next_resumable(&mut self) -> Option<SessionId> {
        self.resumable.pop()
    }

    /// All of those, for the tests.
    #[cfg(test)]
    pub(super) fn resumable(&self) -> &[SessionId] {
        &self.resumable
    }
}

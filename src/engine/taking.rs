//! The time of [large requests](super::clients::large_requests): one that its server is still taking has not failed.
//!
//! What the server's kernel takes of a large value, tens of megabytes, says nothing of the server.

use super::Engine;
use super::clients::session::Session;
use super::ids::{LinkId, SessionId};
use crate::time::Instant;

impl Engine {
    /// The number of a client's next request that waits.
    pub(super) fn next_number(&self, id: SessionId) -> u32 {
        self.session_ref(id).map_or(0, Session::next_number)
    }

    /// A client's request of so many bytes has been carried out, with this number if it waits for an answer.
    #[inline]
    pub(super) fn note_large(&mut self, id: SessionId, number: u32, len: usize) {
        if len > self.memory.large
            && let Some(session) = self.session(id)
        {
            session.note_large(number, len);
        }
    }

    /// Until when a silent server may be busy with the large requests that it was sent on a link.
    #[cold]
    #[inline(never)]
    pub(super) fn busy_until(&self, id: LinkId) -> Option<Instant> {
        let link = &self.servers[id];
        let timeout = self.timeout(link.pool())?;
        let large = link.queue().tickets().filter_map(|ticket| {
            let (id, number) = ticket.client()?;
            self.session_ref(id)?.due_as_large(number, timeout)
        });
        large.max()
    }
}

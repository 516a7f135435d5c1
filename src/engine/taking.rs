//! The time of large requests: one that its server is still taking has not failed.
//!
//! The bytes of a large value may take longer than `timeout` by themselves, on a slow network or a busy machine. So a
//! request has one `timeout` for each [`PORTION`] of it, and while the server takes its bytes, one from the last of them.
//! (What the server's kernel takes for it, tens of megabytes, says nothing of the server: hence the time by size.) What
//! the client has asked behind it has that time as well; others do not.

use super::Engine;
use super::link::{Link, LinkId, LinkState};
use super::session::SessionId;
use crate::time::Instant;

/// Bytes of a request for which it has another `timeout`.
const PORTION: usize = 4 << 20;

/// A large request of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Its number.
    number: u32,
    /// How long it and what came behind it may take, as far as is known.
    until: Instant,
}

impl Engine {
    /// A client's next request is one of so many bytes, which count as read at `started`.
    #[cold]
    pub(super) fn note_large(&mut self, id: SessionId, len: usize, started: Instant) {
        let Some(session) = self.session_ref(id) else { return };
        let Some(timeout) = self.timeout(session.pool) else { return };
        let portions = u32::try_from(1 + len / PORTION).unwrap_or(u32::MAX);
        let number = session.base.wrapping_add(u32::try_from(session.slots.len()).unwrap_or(u32::MAX));
        // What is behind another large one has to wait for that as well.
        let from = session.large.map_or(started, |before| before.until.max(started));
        let until = from + timeout * portions;
        if let Some(session) = self.session(id) {
            session.large = Some(Taken { number, until });
        }
    }

    /// Until when a client's oldest request, whose time is up, has more of it for the sake of a large one.
    ///
    /// Costs a look at what is in flight to the pool's servers, for clients with large requests alone.
    #[cold]
    #[inline(never)]
    pub(super) fn time_of_large(&mut self, id: SessionId, now: Instant) -> Option<Instant> {
        let session = self.session_ref(id)?;
        let (pool, oldest, mut large) = (session.pool, session.base, session.large?);
        let timeout = self.timeout(pool)?;
        let waits = (large.number.wrapping_sub(oldest) as usize) < session.slots.len();
        let carries = |link: &&Link| {
            link.pool == pool
                && link.state == LinkState::Up
                && link.blocked
                && link.in_flight.iter().any(|ticket| {
                    (ticket.session, ticket.generation, ticket.number) == (id.index, id.generation, oldest)
                })
        };
        if waits && let Some(link) = self.links.iter().find(carries) {
            large.until = large.until.max(link.heard + timeout);
        }
        let has_time = large.until > now;
        self.session(id)?.large = (waits || has_time).then_some(large);
        has_time.then_some(large.until)
    }

    /// Until when a silent server may be busy with the large requests that it was sent on a link.
    #[cold]
    #[inline(never)]
    pub(super) fn busy_until(&self, id: LinkId) -> Option<Instant> {
        let tickets = self.links[id.index()].in_flight.iter();
        let large = tickets.filter_map(|ticket| {
            let owner = SessionId { index: ticket.session, generation: ticket.generation };
            self.session_ref(owner)?.large.filter(|large| large.number == ticket.number)
        });
        large.map(|large| large.until).max()
    }
}

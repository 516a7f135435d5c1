//! The time of large requests: one that its server is still taking has not failed.
//!
//! The bytes of a large value may take longer than `timeout` by themselves, on a slow network or a busy machine, and what
//! the server's kernel takes for it, tens of megabytes, says nothing of the server. So a request has another `timeout` for
//! each [`PORTION`] of it and of the large ones that its client waits for in front of it. What the client has asked behind
//! it has that time as well; other clients' requests do not.

use std::collections::VecDeque;

use super::Engine;
use super::link::LinkId;
use super::session::{Session, SessionId};
use crate::time::Instant;

/// Bytes for which a request has another `timeout`.
const PORTION: usize = 4 << 20;

/// The large requests that a client waits for, and perhaps some that have been answered.
#[derive(Debug, Default)]
pub(crate) struct Large {
    requests: VecDeque<Taken>,
    /// Until when what came behind one that has been answered may take.
    until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Its number.
    number: u32,
    /// Its bytes.
    len: usize,
    /// With those of the large ones in front of it.
    all: usize,
}

impl Taken {
    fn portions(&self) -> u32 {
        u32::try_from(1 + self.all / PORTION).unwrap_or(u32::MAX)
    }
}

impl Session {
    /// Its next request is one of so many bytes.
    #[cold]
    fn note_large(&mut self, len: usize) {
        let (base, waiting) = (self.base, self.slots.len());
        let large = self.large.get_or_insert_default();
        // What has been answered, and what was to be carried out before and has had to wait.
        large.requests.retain(|taken| (taken.number.wrapping_sub(base) as usize) < waiting);
        let all = len + large.requests.iter().map(|taken| taken.len).sum::<usize>();
        let number = base.wrapping_add(u32::try_from(waiting).unwrap_or(u32::MAX));
        large.requests.push_back(Taken { number, len, all });
    }

    /// One of its large requests, if that is one.
    fn large_one(&self, number: u32) -> Option<Taken> {
        self.large.as_ref()?.requests.iter().find(|taken| taken.number == number).copied()
    }
}

impl Engine {
    /// A client's next request is one of so many bytes.
    #[cold]
    pub(super) fn note_large(&mut self, id: SessionId, len: usize) {
        if let Some(session) = self.session(id) {
            session.note_large(len);
        }
    }

    /// Until when a client's oldest request, whose time is up, has more of it for the sake of a large one.
    #[cold]
    #[inline(never)]
    pub(super) fn time_of_large(&mut self, id: SessionId, now: Instant) -> Option<Instant> {
        let session = self.session_ref(id)?;
        let timeout = self.timeout(session.pool)?;
        let started = session.slots.front()?.started;
        let own = session.large_one(session.base).map(|taken| started + timeout * taken.portions());
        let large = self.session(id)?.large.as_mut()?;
        large.until = large.until.max(own);
        large.until.filter(|until| *until > now)
    }

    /// Until when a silent server may be busy with the large requests that it was sent on a link.
    #[cold]
    #[inline(never)]
    pub(super) fn busy_until(&self, id: LinkId) -> Option<Instant> {
        let link = &self.links[id.index()];
        let timeout = self.timeout(link.pool)?;
        let large = link.in_flight.iter().filter_map(|ticket| {
            let session = self.session_ref(SessionId { index: ticket.session, generation: ticket.generation })?;
            let taken = session.large_one(ticket.number)?;
            let slot = session.slots.get(ticket.number.wrapping_sub(session.base) as usize)?;
            Some(slot.started + timeout * taken.portions())
        });
        large.max()
    }
}

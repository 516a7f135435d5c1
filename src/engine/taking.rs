//! The time of large requests: one that its server is still taking has not failed.
//!
//! The bytes of a large value may take longer than `timeout` by themselves, on a slow network or a busy machine, and what
//! the server's kernel takes for it, tens of megabytes, says nothing of the server. So a request has another `timeout` for
//! each [`PORTION`](super::large_requests::PORTION) of it and of the large ones that its client waits for in front of it. What the client has asked behind
//! it meanwhile has that time as well; other clients' requests do not.

use super::large_requests::Taken;

use super::Engine;
use super::ids::{LinkId, SessionId};
use super::memory::WEIGHED;
use super::session::Session;
use crate::time::Instant;

impl Session {
    fn waits_for(&self, number: u32) -> bool {
        self.slot(number).is_some()
    }

    fn note_large(&mut self, number: u32, len: usize) {
        let mut large = self.large.take().unwrap_or_default();
        large.requests.retain(|taken| self.waits_for(taken.number));
        let all = len + large.requests.iter().map(|taken| taken.len).sum::<usize>();
        large.requests.push_back(Taken { number, len, all });
        self.large = Some(large);
    }

    /// One of its large requests, if that is one.
    fn large_one(&self, number: u32) -> Option<Taken> {
        self.large.as_ref()?.requests.iter().find(|taken| taken.number == number).copied()
    }
}

impl Engine {
    /// The number of a client's next request that waits.
    pub(super) fn next_number(&self, id: SessionId) -> u32 {
        self.session_ref(id).map_or(0, Session::next_number)
    }

    /// A client's request of so many bytes has been carried out, with this number if it waits for an answer.
    #[inline]
    pub(super) fn note_large(&mut self, id: SessionId, number: u32, len: usize) {
        if len > WEIGHED
            && let Some(session) = self.session(id).filter(|session| session.waits_for(number))
        {
            session.note_large(number, len);
        }
    }

    /// Until when a client's oldest request, whose time is up, has more of it for the sake of a large one.
    #[cold]
    #[inline(never)]
    pub(super) fn time_of_large(&mut self, id: SessionId, now: Instant) -> Option<Instant> {
        let session = self.session_ref(id)?;
        let timeout = self.timeout(session.pool)?;
        let (oldest, next, started) = (session.base, session.next_number(), session.slots.front()?.started());
        let own = session.large_one(oldest).map(|taken| started + timeout * taken.portions());
        let large = self.session(id)?.large.as_mut()?;
        if let Some(until) = own {
            large.behind = Some((until, next));
        }
        let (until, first) = large.behind?;
        let came_before = first.wrapping_sub(oldest).cast_signed() > 0;
        (came_before && until > now).then_some(until)
    }

    /// Until when a silent server may be busy with the large requests that it was sent on a link.
    #[cold]
    #[inline(never)]
    pub(super) fn busy_until(&self, id: LinkId) -> Option<Instant> {
        let link = &self.links[id.index()];
        let timeout = self.timeout(link.pool)?;
        let large = link.queue.in_flight.iter().filter_map(|ticket| {
            let (id, number) = ticket.client()?;
            let session = self.session_ref(id)?;
            let taken = session.large_one(number)?;
            let slot = session.slot(number)?;
            Some(slot.started() + timeout * taken.portions())
        });
        large.max()
    }
}

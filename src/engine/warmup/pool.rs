//! What a worker knows of the keys of a pool that has other servers than before.

use std::sync::Arc;

use crate::engine::ids::LinkId;
use crate::engine::servers::Servers;
use crate::engine::servers::outbox::Offset;
use crate::engine::servers::ticket::Marks;
use crate::time::Instant;
use crate::topology::Warming;

/// Keys that are known to need nothing, as far as there is room. A key that loses its room is looked for once more.
const KNOWN: usize = 1 << 16;

/// What a worker knows of keys that have moved.
#[derive(Debug)]
pub(in crate::engine) struct Warm {
    /// What all workers share of it.
    pub(super) shared: Arc<Warming>,
    /// Until when former homes are told of writes.
    pub(super) told_until: Instant,
    /// Hashes of keys that have been looked for.
    known: Box<[u64]>,
    /// How far what was asked before the change has to be answered on each connection; `None` when that is over.
    before: Option<Vec<(LinkId, Offset)>>,
    /// When it is not waited for any longer.
    ready_by: Instant,
}

impl Warm {
    pub(super) fn new(
        shared: Arc<Warming>,
        told_until: Instant,
        before: Vec<(LinkId, Offset)>,
        ready_by: Instant,
    ) -> Self {
        let known = vec![0; KNOWN].into_boxed_slice();
        Self { shared, told_until, known, before: Some(before), ready_by }
    }

    /// A key has been looked for, and what is stored of it is at its new home.
    pub(super) fn settle(&mut self, hash: u64) {
        self.known[place(hash)] = hash;
    }

    /// Whether that is known of a key.
    pub(super) fn is_settled(&self, hash: u64) -> bool {
        self.known[place(hash)] == hash
    }

    /// Whether everything is over that was under way before the change, on every worker of so many.
    pub(super) fn is_ready(&mut self, servers: &Servers, workers: usize, now: Instant) -> bool {
        if let Some(before) = &mut self.before {
            before.retain(|(link, end)| is_before(servers, *link, *end));
            if before.is_empty() || now >= self.ready_by {
                self.before = None;
                self.shared.followed();
            }
        }
        self.shared.is_followed_by(workers) || now >= self.ready_by
    }

    /// When that is to be looked at again.
    pub(super) fn is_awaited(&self) -> bool {
        self.before.is_some()
    }
}

/// Whether something that a client asked on a connection before an offset is not answered. What waits for something to
/// happen there changes nothing before that.
fn is_before(servers: &Servers, link: LinkId, end: Offset) -> bool {
    let Some(connection) = servers.get(link) else { return false };
    connection.queue.in_flight.iter().any(|ticket| {
        let asked_before = (1..1 << 31).contains(&end.since(ticket.start));
        !ticket.is_own() && !ticket.is(Marks::WAITS) && (asked_before || ticket.is(Marks::RESENT))
    })
}

const fn place(hash: u64) -> usize {
    (hash >> 40) as usize % KNOWN
}

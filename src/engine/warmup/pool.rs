//! What a worker knows of the keys of a pool that has other servers than before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::ServerId;
use crate::engine::ids::LinkId;
use crate::engine::servers::Servers;
use crate::engine::servers::outbox::Offset;
use crate::engine::servers::ticket::Marks;
use crate::time::Instant;
use crate::topology::Warming;

/// Pairs of keys that are known to need nothing, as far as there is room. A key that loses its room is looked for once more.
const KNOWN: usize = 1 << 15;

/// How soon is looked again at what was under way, at the soonest and the latest.
const LOOKS: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(50));

/// What a worker knows of keys that have moved.
#[derive(Debug)]
pub(in crate::engine) struct Warm {
    /// What all workers share of it.
    pub(super) shared: Arc<Warming>,
    /// Until when former homes are told of writes.
    pub(super) told_until: Instant,
    /// Hashes of keys that have been looked for, in pairs that share a place, the newer of them first.
    known: Box<[[u64; 2]]>,
    /// For each server, how far what it was asked before the change has to be answered on its connections.
    before: BTreeMap<ServerId, Vec<(LinkId, Offset)>>,
    /// When that began, and when it is not waited for any longer.
    since: Instant,
    ready_by: Instant,
}

impl Warm {
    /// `before` is what has been asked of servers.
    pub(super) fn new(
        shared: Arc<Warming>,
        asked: impl Iterator<Item = (ServerId, (LinkId, Offset))>,
        (since, ready_by): (Instant, Instant),
    ) -> Self {
        let mut before: BTreeMap<_, Vec<_>> = BTreeMap::new();
        asked.for_each(|(server, asked)| before.entry(server).or_default().push(asked));
        shared.followed_by_all_but(|server| before.contains_key(&server));
        let (told_until, known) = (shared.told_until(), vec![[0; 2]; KNOWN].into_boxed_slice());
        Self { shared, told_until, known, before, since, ready_by }
    }

    /// A key has been looked for, and what is stored of it is at its new home.
    pub(super) fn settle(&mut self, hash: u64) {
        let pair = &mut self.known[place(hash)];
        if pair[0] != hash {
            *pair = [hash, pair[0]];
        }
    }

    /// A key has not moved. One that has moved costs more to be looked for again, so it keeps its room.
    pub(super) fn settle_unmoved(&mut self, hash: u64) {
        if let Some(room) = self.known[place(hash)].iter_mut().find(|known| **known == 0) {
            *room = hash;
        }
    }

    /// Whether a key is known to need nothing.
    pub(super) fn is_settled(&self, hash: u64) -> bool {
        self.known[place(hash)].contains(&hash)
    }

    /// Looks what is over of what servers were asked before the change. When that is to be looked at again, if it is.
    pub(super) fn follow(&mut self, servers: &Servers, now: Instant) -> Option<Instant> {
        let Self { before, shared, ready_by, .. } = self;
        before.retain(|server, asked| {
            asked.retain(|(link, end)| now < *ready_by && is_before(servers, *link, *end));
            if asked.is_empty() {
                shared.followed(*server);
            }
            !asked.is_empty()
        });
        let pause = ((now - self.since) / 8).clamp(LOOKS.0, LOOKS.1);
        (!self.before.is_empty()).then(|| now + pause)
    }

    /// Whether what is found at some servers is what was written there last: everything is over that they were asked
    /// before the change, by any of so many workers.
    pub(super) fn is_ready(&mut self, homes: &[ServerId], servers: &Servers, workers: usize, now: Instant) -> bool {
        let is_followed = |warm: &Self| homes.iter().all(|home| warm.shared.is_followed_by(*home, workers));
        is_followed(self) || {
            self.follow(servers, now);
            is_followed(self)
        }
    }
}

/// Whether something that a client asked on a connection before an offset is not answered. What waits for something to
/// happen there changes nothing before that.
fn is_before(servers: &Servers, link: LinkId, end: Offset) -> bool {
    let Some(connection) = servers.get(link) else { return false };
    connection.queue().tickets().any(|ticket| {
        let asked_before = (1..1 << 31).contains(&end.since(ticket.start));
        !ticket.is_own() && !ticket.is(Marks::WAITS) && (asked_before || ticket.is(Marks::RESENT))
    })
}

const fn place(hash: u64) -> usize {
    (hash >> 40) as usize % KNOWN
}

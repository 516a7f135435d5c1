//! What may change values that are kept.

use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::keys::each_key;
use crate::engine::servers::outbox::Offset;
use crate::engine::servers::queue::Queue;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::near::Near;
use crate::proto::resp::args::Span;
use crate::proto::verb::Verb;

/// A request of Redis that is longer than this is not looked through: it may have changed anything.
const LONGEST: usize = 64 << 10;

/// Among more requests in flight to a server one is not looked for: it may have changed anything.
const MOST: usize = 1024;

impl Engine {
    /// A request that may change keys is being sent on.
    pub(in crate::engine) fn near_changes<'k>(&self, pool: PoolId, keys: impl Iterator<Item = &'k [u8]>) {
        if let Some(near) = self.near.of(pool) {
            keys.for_each(|key| near.changed(key));
        }
    }

    /// The same of one that may change any.
    pub(in crate::engine) fn near_changes_all(&self, pool: PoolId) {
        if let Some(near) = self.near.of(pool) {
            near.all_changed();
        }
    }

    /// The request of a ticket has been answered, which may have changed something. It is in its link's outbox still, up to
    /// `end`.
    #[cold]
    pub(in crate::engine) fn near_changed_by(&mut self, id: LinkId, ticket: Ticket, end: Offset) {
        let Self { near, servers, redis, .. } = self;
        let link = &servers[id];
        if let Some(near) = near.of(link.pool()) {
            changed_by(near, ticket, link.queue().request(ticket, end), &mut redis.spans);
        }
    }

    /// A part of a request is answered in its server's place, as its time is up. Its client may take it to be done.
    #[cold]
    pub(in crate::engine) fn near_unanswered(
        &mut self,
        (id, number): (SessionId, u32),
        fragment: u16,
        server: ServerId,
    ) {
        let Self { near, servers, clients, pools, redis, .. } = self;
        let Some(session) = clients.get(id) else { return };
        let Some(near) = near.of(session.pool()) else { return };
        let shared = pools[session.pool().index()].members[server.index()].links();
        let own = session.redis().map_or(&[][..], |client| &client.dedicated);
        let queues = || shared.iter().chain(own).map(|link| servers[*link].queue());
        if queues().map(|queue| queue.len()).sum::<usize>() > MOST {
            return near.all_changed();
        }
        let is_its = |ticket: &Ticket| ticket.client() == Some((id, number)) && ticket.fragment == fragment;
        for queue in queues() {
            if queue.tickets().any(is_its)
                && let Some((ticket, request)) = queue.requests().find(|(ticket, _)| is_its(ticket))
                && !ticket.only_reads()
            {
                return changed_by(near, ticket, request, &mut redis.spans);
            }
        }
    }

    /// What was in flight on a connection that has broken may have been carried out.
    #[cold]
    pub(in crate::engine) fn near_may_have_changed(&mut self, pool: PoolId, queue: &Queue) {
        let Self { near, redis, .. } = self;
        if let Some(near) = near.of(pool) {
            let changing = queue.requests().filter(|(ticket, _)| !ticket.only_reads());
            changing.for_each(|(ticket, request)| changed_by(near, ticket, request, &mut redis.spans));
        }
    }
}

fn changed_by(near: &Near, ticket: Ticket, request: &[u8], spans: &mut Vec<Span>) {
    if ticket.verb == Verb::Watch {
        return;
    }
    let is_of_redis = matches!(ticket.verb, Verb::Query | Verb::Command | Verb::Subscribe);
    if matches!(ticket.verb, Verb::FlushAll | Verb::FlushDatabase)
        || (is_of_redis && (request.len() > LONGEST || may_change_all(request)))
    {
        return near.all_changed();
    }
    each_key(request, ticket.verb, ticket.is(Marks::BASE64), spans, &mut |named| near.changed(named.key));
}

/// Whether a request, or one of a transaction, may be to flush a database, or to swap two. A value that says so has everything
/// asked for anew.
fn may_change_all(request: &[u8]) -> bool {
    let says =
        |word: &[u8], at: usize| request.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    memchr::memchr2_iter(b'f', b'F', request).any(|at| says(b"flush", at))
        || memchr::memchr2_iter(b'w', b'W', request).any(|at| says(b"wapdb", at))
}

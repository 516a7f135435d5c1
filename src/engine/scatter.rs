//! One request over several servers: a part to each, and one place among its client's requests for all of them.

use super::ids::SessionId;
use super::request::{Asked, Request, Slot};
use super::scattered::{Merge, Scattered};
use super::servers::ticket::{Asker, Marks, Ticket};
use super::shared::Shared;
use super::ways::{To, Way};
use super::{Engine, work};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::time::Instant;

/// The parts of a request, as their servers get them.
pub(super) trait Parts {
    /// Appends the part of a number; says how many replies answer it.
    fn write(&mut self, out: &mut Vec<u8>, part: usize) -> u32;

    /// Takes that part, if it is ready and has more than so many bytes, in place of writing it.
    fn take_whole(&mut self, part: usize, large: usize) -> Option<(Shared, u32)> {
        let _ = (part, large);
        None
    }
}

impl<T: FnMut(&mut Vec<u8>, usize) -> u32> Parts for T {
    #[inline(always)]
    fn write(&mut self, out: &mut Vec<u8>, part: usize) -> u32 {
        self(out, part)
    }
}

impl Engine {
    /// To a server, unless it is out of the ring.
    pub(super) fn to(&self, pool: PoolId, server: ServerId) -> To {
        let live = self.pools[pool.index()].live[server.index()];
        if live { To::Server(server) } else { To::Nowhere(Some(server), Failure::Ejected) }
    }

    /// To all servers of a pool.
    pub(super) fn to_all(&self, pool: PoolId) -> Vec<To> {
        self.topology.pool(pool).members().map(|server| self.to(pool, server)).collect()
    }

    /// Sends each part of a request to where it is to go, and has `merge` wait for the answers.
    pub(super) fn scatter(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        (merge, whom): (Merge, &[To]),
        now: Instant,
        mut parts: impl Parts,
    ) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, request, keys) = (session.pool(), asked.request, merge.window());
        let mut scattered = Box::new(Scattered::new(merge, whom.len()));
        let (mut ways, mut failed) = (std::mem::take(&mut self.ways), None);
        for (part, to) in (0u16..).zip(whom) {
            let way = match *to {
                To::Server(server) => match self.link_to(pool, id, server, now) {
                    Ok(link) => Ok((server, link)),
                    Err(failure) => Err((Some(server), failure)),
                },
                To::Link(server, link) => Ok((server, link)),
                To::Nowhere(server, failure) => Err((server, failure)),
            };
            match way {
                Ok((server, link)) => {
                    let connection = &mut self.servers[link];
                    let start = connection.queue().end();
                    let replies = match parts.take_whole(part.into(), self.memory.large) {
                        None => parts.write(connection.tail(), part.into()),
                        Some((whole, replies)) => {
                            connection.append_whole(whole);
                            replies
                        }
                    };
                    ways.push(Way { part, server, link, start, replies, keys: 0 });
                }
                Err((server, failure)) => {
                    failed = Some(self.failed_outcome(pool));
                    scattered.merge_mut().failed(part, failure, self.policy(pool).tells());
                    self.unsent(id, asked, marks, (server, failure), scattered.merge(), now, &mut |out| {
                        parts.write(out, part.into());
                    });
                }
            }
        }
        self.work.cost += whom.len() * work::PART;
        let of_redis = request.in_place.is_some();
        let unfailed = match ways.is_empty() {
            false => Outcome::Hit,
            true if of_redis => Outcome::Local,
            true => Outcome::Done,
        };
        let outcome = failed.unwrap_or(unfailed);
        if request.noreply {
            let is_known = ways.is_empty() || (of_redis && failed.is_some());
            self.end_request(pool, if is_known { outcome } else { Outcome::Unheard });
        }
        self.send_parts(id, request, marks, (keys, outcome), scattered, ways, now);
    }

    /// A part of a request cannot be sent: its server has to forget what it misses. `write` appends the part.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place")]
    fn unsent(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        (server, failure): (Option<ServerId>, Failure),
        merge: &Merge,
        now: Instant,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) {
        self.count_degraded(id, server, failure);
        self.doubt_watch(id);
        let Some((server, pool)) = server.zip(self.pool_of(id)) else { return };
        self.undelivered(pool, server, asked.request.verb, merge.database(), merge.due(), now);
        if self.pools[pool.index()].redis {
            let mut part = Vec::new();
            write(&mut part);
            self.invalidate_unsent(id, server, Asked { raw: &part, ..asked }, marks, now);
        }
    }

    /// Sends the parts of a request of which the bytes stand in the outboxes, and gives it its place, with so many keys of
    /// its client's window. It has ended like this as far as is known: all the way if there are no parts.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in two places")]
    pub(super) fn send_parts(
        &mut self,
        id: SessionId,
        request: Request,
        marks: Marks,
        (keys, outcome): (usize, Outcome),
        mut scattered: Box<Scattered>,
        mut ways: Vec<Way>,
        now: Instant,
    ) {
        let class = self.telemetry.at_hand.unwrap_or(Class::Other);
        let counted = if scattered.merge().is_unfinished() { None } else { self.telemetry.at_hand.take() };
        ways.iter().for_each(|way| scattered.asks(way.part, way.server));
        let Some(session) = self.session(id) else { return };
        let (pool, number, said) = (session.pool(), session.next_number(), session.output.len());
        if request.has_slot() {
            session.requests.push(Slot::merged(request, keys, (counted, outcome), scattered));
        }
        self.counters.pool(pool).fragments.add(ways.len() as u64);
        if ways.is_empty() {
            self.advance(id);
            self.work.cost += self.session_ref(id).map_or(0, |session| session.output.len() - said);
        }
        let asker = Asker::client(id, number, request.has_slot());
        for Way { part, link, start, replies, keys, .. } in ways.drain(..) {
            let ticket = Ticket::of(asker, start, request.verb, class);
            self.push_ticket(link, Ticket { fragment: part, replies, keys, marks, ..ticket }, now);
        }
        self.ways = ways;
    }
}

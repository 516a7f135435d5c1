//! Hot keys: one in so many requests has its keys noted when its response is there.
//!
//! A request that is not in the sample costs a subtraction. How many are passed over is drawn each time, so that a client
//! with a rhythm of its own is not always met at the same place of it. A request with many bytes counts as several, in
//! proportion to its size, and what is noted of it is divided by as many: a value of a megabyte once a second is found
//! among fifty thousand small ones, and the rates are right all the same.

use super::Engine;
use super::ids::LinkId;
use super::keys::{each_key, payload};
use super::memcache;
use super::named_key::{Named, Replied};
use super::redis::named::{each_key as each_key_of, first_keys};
use super::sampler::size_of;
use super::scattered::Merge;
use super::servers::outbox::Offset;
use super::servers::ticket::{Marks, Ticket};
use crate::config::model::{PoolId, ServerId};
use crate::proto::memcache::{Verb, reply};
use crate::proto::resp::reply as resp;
use crate::stats::hot::{REQUEST, Touch};
use crate::time::Instant;

/// Of a request for many keys that is longer than this, only some are noted, up to this place among its arguments: one more is
/// passed over each time for so many bytes, as a power of two, that it has.
const LONG: usize = 256 << 10;
const LOOKED_AT: usize = 16 << 10;
const KEPT_BITS: u32 = 19;

/// What a transaction begins with.
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";

/// How many requests one in the sample stands for, in parts of [`REQUEST`].
#[derive(Debug, Clone, Copy)]
struct Weight(u64);

impl Weight {
    fn of(met: u64, rate: u32, size: i64) -> Self {
        Self((met * u64::from(rate) * REQUEST / size.unsigned_abs().max(1)).max(1))
    }

    fn touch(self, key: &[u8], server: ServerId, value: u64) -> Touch<'_> {
        Touch { key, server, requests: self.0, bytes: value.saturating_mul(self.0) / REQUEST, value }
    }
}

impl Engine {
    /// Takes note of the keys of a request that is still in its link's outbox, up to `end`. Its response has come and is not
    /// handed over.
    #[cold]
    #[inline(never)]
    pub(super) fn sample(&mut self, id: LinkId, ticket: Ticket, end: Offset, response: [&[u8]; 2]) {
        let Self { telemetry, servers, clients, counters, redis, .. } = self;
        let (hot, spans) = (&mut telemetry.hot, &mut redis.spans);
        let met = hot.draw();
        if met == 0 || ticket.is_own() {
            return;
        }
        let link = &servers[id];
        let request = link.queue().request(ticket, end);
        let bytes = request.len() + response[0].len() + response[1].len();
        let weight = Weight::of(met, hot.rate, size_of(bytes));
        let slot = ticket.client().and_then(|(id, number)| {
            let session = clients.get_mut(id);
            session?.slot_mut(number)
        });
        let merge = slot.and_then(|slot| slot.merge());
        let mut values = Values::of(ticket, merge, response);
        counters.pool(link.pool()).hot_keys.note(link.silence.since(), |noted| {
            if request.len() > LONG {
                // Some of its keys stand for the others that are near them, from a place on that is drawn.
                let every = 1 + (request.len() >> KEPT_BITS);
                let mut passed = super::next_random(&mut hot.random) as usize % every;
                let one = Weight(weight.0.saturating_mul(every as u64));
                let mut visit = |Named { key, stored, replied }: Named<'_>| {
                    let value = stored + values.next(replied);
                    passed += 1;
                    if passed == every {
                        passed = 0;
                        noted.touch(one.touch(key, link.server(), value as u64));
                    }
                };
                if first_keys(request, LOOKED_AT, spans, &mut visit) {
                    return;
                }
                if request.starts_with(MULTI) {
                    // The commands at its front stand for all.
                    let weight = Weight(weight.0.saturating_mul((request.len() / LONG) as u64));
                    each_key_of(request, LONG, spans, &mut |Named { key, stored, .. }| {
                        noted.touch(weight.touch(key, link.server(), stored as u64));
                    });
                    return;
                }
            }
            each_key(request, ticket.verb, ticket.is(Marks::BASE64), spans, &mut |named| {
                let Named { key, stored, replied } = named;
                noted.touch(weight.touch(key, link.server(), (stored + values.next(replied)) as u64));
            });
        });
    }

    /// Takes note of the key of a request that is answered in its server's place, if it is in the sample.
    #[cold]
    pub(super) fn sample_lost(&mut self, pool: PoolId, server: ServerId, key: &[u8], now: Instant) {
        if self.telemetry.hot.meets(0) {
            let met = self.telemetry.hot.draw();
            let weight = Weight::of(met, self.telemetry.hot.rate, 1);
            if met > 0 {
                self.counters.pool(pool).hot_keys.note(now, |noted| noted.touch(weight.touch(key, server, 0)));
            }
        }
    }
}

/// The sizes of the values in a response, in the order of the request's keys.
enum Values<'a> {
    /// Of a response for one key.
    One(usize),
    /// A part of a multi-get: the blocks that have been put down, and where the next key's is.
    Blocks(&'a memcache::Values, u32),
    /// Redis: the values of a list, one for each key.
    Items(resp::Items<'a>),
}

fn values_of(merge: Option<&Merge>) -> Option<&memcache::Values> {
    merge?.memcache()?.values()
}

impl<'a> Values<'a> {
    fn of(ticket: Ticket, merge: Option<&'a Merge>, response: [&'a [u8]; 2]) -> Self {
        let payload = payload(response);
        match (ticket.verb, merge) {
            (Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats, merge) if ticket.is(Marks::SPLIT) => {
                match values_of(merge) {
                    Some(values) => {
                        let first = values.chains.get(usize::from(ticket.fragment)).map(|chain| chain.first);
                        Self::Blocks(values, first.unwrap_or(memcache::NO_KEY))
                    }
                    None => Self::One(0),
                }
            }
            (Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats, _) => {
                Self::One(if response[0].starts_with(b"VALUE ") { payload.saturating_sub(reply::END.len()) } else { 0 })
            }
            (Verb::MetaGet, _) => Self::One(if response[0].starts_with(b"VA ") { payload } else { 0 }),
            (Verb::Query | Verb::Command, _) => match (resp::items(response[0]), resp::read(response[0])) {
                (Some(items), _) => Self::Items(items),
                (None, resp::Reply::Bulk(value)) => Self::One(value.len()),
                _ => Self::One(0),
            },
            _ => Self::One(0),
        }
    }

    /// The size of what the response has for the next key.
    fn next(&mut self, replied: Replied) -> usize {
        match self {
            _ if replied == Replied::Nothing => 0,
            Self::Blocks(values, index) => {
                let Some(key) = values.keys.get(*index as usize) else { return 0 };
                *index = key.next;
                payload([values.block(key), b""])
            }
            Self::One(size) if replied == Replied::All => *size,
            Self::Items(items) if replied == Replied::All => items.bytes().len(),
            Self::One(_) => 0,
            Self::Items(items) => match items.next().map(resp::read) {
                Some(resp::Reply::Bulk(value)) => value.len(),
                _ => 0,
            },
        }
    }
}

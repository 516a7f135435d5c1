//! Requests for very many keys, or with very many bytes: made ready in portions, and then carried out as one.
//!
//! To find the arguments of a request, to find out which servers its keys belong to, and to write what each of them gets
//! takes long where a request is large. So all that is done while the request still waits at the front of its client's
//! input, a turn at a time, and nothing is sent. When it is ready, what goes to the servers is handed over: nobody can tell
//! it from one that was looked at in one go, a little later.

use super::portions::{Compared, Long, Pieces, Sorted, end_of};

use super::Client;
use super::call::{Call, Performed, Turn, find};
use super::gather::How;
use super::piece::{Piece, Share};
use crate::config::model::{PoolId, Transactions};
use crate::engine::ids::SessionId;
use crate::engine::{Engine, work};
use crate::proto::resp::args::{Args, Span};
use crate::proto::resp::command::Flags;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::plan::{CommandClass, Split, Transaction};
use crate::proto::resp::request::Progress;
use crate::time::Instant;

/// Of a request of so many arguments it may have been found out before whether its keys are one server's.
pub(super) const MANY: usize = 1000;

impl Client {
    /// Its next request does not come to be carried out.
    pub(crate) fn drop_long(&mut self) {
        if self.long.take().is_some() {
            self.progress = Progress::default();
        }
    }
}

impl Engine {
    /// Carries out a large request that stands whole at the front of a client's input, or makes it a little more ready.
    /// `spans` are its arguments, if they have been found.
    #[cold]
    #[inline(never)]
    pub(super) fn long_turn(
        &mut self,
        id: SessionId,
        raw: &[u8],
        spans: &mut Vec<Span>,
        started: Instant,
        now: Instant,
    ) -> Turn {
        let Some(client) = self.redis(id) else { return Turn::Used(raw.len()) };
        let mut long = client.long.take().unwrap_or_default();
        client.progress = Progress::default();
        if !spans.is_empty() {
            (long.spans, long.found) = (std::mem::take(spans), raw.len());
        }
        if !long.find_on(raw, &mut self.work) {
            self.keep_long(id, raw, long);
            return Turn::Unready;
        }
        if !long.weighed {
            if raw.len() > self.memory.large && !self.weigh(id, raw.len(), started, now) {
                self.keep_long(id, raw, long);
                return Turn::Backpressured;
            }
            (long.weighed, long.refused) = (true, self.memory.refuses);
        }
        self.memory.refuses = long.refused;
        if let Some(pool) = self.pool_of(id)
            && !self.compare_on(id, pool, Args::new(raw, &long.spans), &mut long.compared)
        {
            self.memory.refuses = false;
            self.keep_long(id, raw, long);
            return Turn::Unready;
        }
        let spans = std::mem::take(&mut long.spans);
        if let Some(client) = self.redis(id) {
            client.long = Some(long);
        }
        let number = self.next_number(id);
        let outcome = self.redis_request(id, raw, Args::new(raw, &spans), started, now);
        self.note_large(id, number, raw.len());
        self.memory.refuses = false;
        let long = self.redis(id).and_then(|client| client.long.take());
        if outcome != Performed::Done
            && let Some(long) = long
        {
            // What will not be made ready is weighed again: others may have taken the memory meanwhile.
            let weighed = long.sorted.is_some() || !long.copies.0.is_empty();
            self.keep_long(id, raw, Box::new(Long { spans, weighed, ..*long }));
        }
        outcome.turn(raw.len())
    }

    /// Goes on with finding out whether all keys of a request that has to go to one server are that server's; `false` when some
    /// are left, as the turn is over.
    fn compare_on(&mut self, id: SessionId, pool: PoolId, args: Args<'_>, compared: &mut Compared) -> bool {
        let ring_version = self.pools[pool.index()].ring_version;
        if compared.ring_version != ring_version {
            *compared = Compared { ring_version, ..Compared::default() };
        }
        let Ok((command, plan)) = find(args) else { return true };
        let is_queued = self.client(id).is_some_and(|client| client.queue.is_some());
        let of_one = is_queued && self.topology.pools[pool.index()].redis.transactions == Transactions::Single;
        let goes_to_one = matches!(
            plan.class,
            CommandClass::Keyed
                | CommandClass::Script
                | CommandClass::Blocking(_)
                | CommandClass::Transaction(Transaction::Watch)
        ) || (of_one && matches!(plan.class, CommandClass::Split(_)));
        let mut list = KeyList::default();
        if compared.is_over || !goes_to_one || self.is_of_one(pool) || keys::keys(command, args, &mut list).is_err() {
            return true;
        }
        if list.iter().nth(1).is_none() {
            return true; // it is looked up when it is sent
        }
        let ring = &self.pools[pool.index()].ring;
        let Some(server) = list.iter().next().map(|place| ring.route(args.get(place), 0)) else { return true };
        for place in list.from(compared.next) {
            if self.work.is_over() {
                return false;
            }
            let key = args.get(place);
            self.work.cost += work::KEY / 2 + key.len() / work::HASHED;
            compared.next += 1;
            compared.is_apart = ring.route(key, 0) != server;
            if compared.is_apart {
                break;
            }
        }
        compared.is_over = true;
        true
    }

    /// As [`Engine::same_server`], of all keys of a client's request, which may be long: then that has been found out.
    pub(super) fn are_of_one_server<'k>(
        &self,
        id: SessionId,
        call: Call<'_>,
        key: &[u8],
        others: impl Iterator<Item = &'k [u8]>,
    ) -> bool {
        if call.args.len() > MANY
            && let Some(together) = self.are_compared(id, call)
        {
            return together;
        }
        self.same_server(call.pool, key, others)
    }

    /// Whether all keys of a client's request are one server's, if it is a long one, of which that has been found out.
    #[cold]
    pub(super) fn are_compared(&self, id: SessionId, call: Call<'_>) -> Option<bool> {
        let long = self.client(id)?.long.as_ref().filter(|long| long.found == call.raw.len())?;
        let (compared, ring_version) = (long.compared, self.pools[call.pool.index()].ring_version);
        let is_known = compared.is_over && compared.ring_version == ring_version;
        is_known.then_some(!compared.is_apart)
    }

    /// Keeps what is ready of a long request.
    fn keep_long(&mut self, id: SessionId, raw: &[u8], long: Box<Long>) {
        let come = u32::try_from(long.spans.capacity()).unwrap_or(u32::MAX);
        if let Some(client) = self.redis(id) {
            client.long = Some(long);
            client.progress = Progress { at: raw.len(), left: 0, come };
        }
    }

    /// As [`Engine::split`], of a long request: makes it more ready first. `None` when it is no such request.
    #[cold]
    #[inline(never)]
    pub(super) fn split_long(
        &mut self,
        id: SessionId,
        call: Call<'_>,
        split: Split,
        now: Instant,
    ) -> Option<Performed> {
        let mut long = self.redis(id)?.long.take()?;
        let pool = call.pool;
        let (ring_version, stride) = (self.pools[pool.index()].ring_version, split.stride());
        let keys = call.args.len().saturating_sub(1) / stride;
        let sorted = long.sorted.take().filter(|sorted| sorted.ring_version == ring_version);
        let mut sorted = sorted.unwrap_or_else(|| Sorted::new(ring_version, keys));
        let is_ready = self.sort_on(pool, call.args, stride, &mut sorted)
            // What one server gets goes on as it came.
            && (long.refused || sorted.shares.len() <= 1 || sorted.write_on(call, stride, &mut self.work));
        let outcome = if is_ready && self.warmup.is_on() && !self.is_warm_call(id, call, now) {
            Performed::Backpressured
        } else if is_ready {
            let reserved = std::mem::take(&mut long.reserved);
            self.unreserve(id, reserved);
            self.send_sorted(id, call, split, &mut sorted, now)
        } else {
            Performed::Unready
        };
        if outcome != Performed::Done {
            if !long.refused {
                long.reserved = call.raw.len();
            }
            long.sorted = Some(sorted);
            if let Some(client) = self.redis(id) {
                client.long = Some(long);
            }
        }
        Some(outcome)
    }

    /// Makes copies of a long request for all servers, one for each; whether they are ready.
    #[cold]
    #[inline(never)]
    pub(super) fn copies_are_ready(&mut self, id: SessionId, call: Call<'_>) -> bool {
        let count = self.topology.pool(call.pool).members().count();
        let Some(long) = self.clients.get_mut(id).and_then(|session| session.redis_mut()?.long.as_mut()) else {
            return true;
        };
        if long.refused {
            return true; // it goes nowhere
        }
        let is_ready = long.copies.copy_for(count, call.raw, &mut self.work);
        long.reserved = long.copies.0.len() * call.raw.len();
        is_ready
    }

    /// Those copies, of which there are none where a request is not long.
    pub(super) fn take_copies(&mut self, id: SessionId) -> Vec<Vec<u8>> {
        let Some(long) = self.redis(id).and_then(|client| client.long.as_mut()) else { return Vec::new() };
        let (Pieces(copies), reserved) = (std::mem::take(&mut long.copies), std::mem::take(&mut long.reserved));
        self.unreserve(id, reserved);
        copies
    }

    /// What was charged to a client for a copy of its request is about to be charged to the servers' connections.
    fn unreserve(&mut self, id: SessionId, reserved: usize) {
        if let Some(session) = self.session(id) {
            let reserved = session.holding.give_back(reserved);
            self.memory.recharge(reserved, 0);
        }
    }

    /// Goes on with finding out which servers keys belong to; `false` when some are left, as the turn is over.
    pub(super) fn sort_on(&mut self, pool: PoolId, args: Args<'_>, stride: usize, sorted: &mut Sorted) -> bool {
        let Sorted { shares, order, chain, sizes, next, .. } = sorted;
        while *next < order.len() {
            if self.work.is_over() {
                return false;
            }
            let place = 1 + *next * stride;
            let key = args.get(place);
            self.work.cost += work::KEY / 2 + key.len() / work::HASHED;
            let server = self.pools[pool.index()].ring.route(key, 0);
            let number = u32::try_from(*next).unwrap_or(u32::MAX);
            let share = shares.of(server, number);
            share.words += stride;
            order[*next] = share.number;
            chain[std::mem::replace(&mut share.last, number) as usize] = number;
            let size = end_of(args, place + stride - 1) - end_of(args, place - 1);
            let place = usize::from(share.number);
            sizes.resize(sizes.len().max(place + 1), 0);
            sizes[place] += size;
            *next += 1;
        }
        true
    }

    /// Sends a request that is ready.
    fn send_sorted(
        &mut self,
        id: SessionId,
        call: Call<'_>,
        split: Split,
        sorted: &mut Sorted,
        now: Instant,
    ) -> Performed {
        let pool = call.pool;
        let (mut asked, marks) = self.asked(id, call);
        if sorted.shares.len() <= 1 {
            asked.key = call.args.get(1);
            self.send_raw(id, asked, marks, asked.key, now)
        } else {
            let reads = call.command.flags.has(Flags::READONLY);
            let servers = sorted.shares.iter().filter_map(|share| share.server);
            if self.servers.crowded() > 0 && self.hold_back_for(id, pool, servers, reads, (call.started, now)) {
                Performed::Backpressured
            } else {
                let how = match split {
                    Split::Values => How::Pick(std::mem::take(&mut sorted.order)),
                    Split::Pairs => How::Word,
                    Split::Count => How::Sum,
                };
                let ready = std::mem::take(&mut sorted.pieces.0);
                if ready.len() == sorted.shares.len() {
                    let piece = |(share, request): (&Share, _)| Piece { to: share.to(), request, replies: 1 };
                    let pieces = sorted.shares.iter().zip(ready).map(piece).collect();
                    self.gather(id, asked, marks, how, pieces, now);
                } else {
                    // It is refused, and goes nowhere.
                    self.gather_with(
                        id,
                        asked,
                        marks,
                        how,
                        sorted.shares.iter().map(Share::to),
                        now,
                        |out: &mut Vec<u8>, piece: usize| {
                            sorted.shares[piece].write(out, call.args, split.stride(), &sorted.chain);
                            1
                        },
                    );
                }
                Performed::Done
            }
        }
    }
}

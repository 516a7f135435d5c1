//! Requests for several servers: taken apart by their keys, and sent to each server as a request of its own.

use super::InPlace;
use super::call::{Call, Performed};
use super::gather::{Gather, How, Part};
use super::piece::{FEW_SHARES, Piece, Share};
use crate::config::model::{PoolId, ServerId};
use crate::engine::fragment::{Fragment, NO_KEY};
use crate::engine::ids::SessionId;
use crate::engine::merge::Merge;
use crate::engine::request::{Asked, Slot};
use crate::engine::servers::ticket::{Asker, Marks, Ticket};
use crate::engine::{Engine, memory, work};
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::proto::resp::args::Args;
use crate::proto::resp::command::{Flags, errors};
use crate::proto::resp::plan::Split;
use crate::time::Instant;

impl Split {
    /// Arguments that belong together.
    pub(super) const fn stride(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Values | Self::Count => 1,
        }
    }
}

impl Engine {
    pub(super) fn split(&mut self, id: SessionId, call: Call<'_>, split: Split, now: Instant) -> Performed {
        let Some(session) = self.session_ref(id) else { return Performed::Done };
        let pool = session.pool;
        let (args, stride) = (call.args, split.stride());
        if !(args.len() - 1).is_multiple_of(stride) {
            self.refuse_request(id, &errors::wrong_arity(call.command.name));
            return Performed::Done;
        }
        if args.len() == 1 + stride {
            return self.send_keyed(id, call, args.get(1), now);
        }
        if call.raw.len() > memory::WEIGHED
            && let Some(outcome) = self.split_long(id, call, split, now)
        {
            return outcome;
        }
        let (mut shares, mut order) = (std::mem::take(&mut self.redis.shares), std::mem::take(&mut self.redis.order));
        let mut chain = std::mem::take(&mut self.redis.chain);
        self.share_out(pool, args, stride, &mut shares, &mut order, &mut chain);
        self.work.cost += order.len() * work::KEY;
        let outcome = if shares.len() <= 1 {
            self.send_keyed(id, call, args.get(1), now)
        } else {
            let reads = call.command.flags.has(Flags::READONLY);
            let servers = shares.iter().filter_map(|share| share.server);
            if self.servers.crowded() > 0 && self.hold_back_for(id, pool, servers, reads, (call.started, now)) {
                (self.redis.shares, self.redis.order, self.redis.chain) = (shares, order, chain);
                return Performed::Backpressured;
            }
            let mut pieces = std::mem::take(&mut self.redis.share_pieces);
            pieces.extend(shares.iter().map(|share| share.piece(Vec::new())));
            let how = match split {
                Split::Values => How::Pick(order.clone()),
                Split::Pairs => How::Word,
                Split::Count => How::Sum,
            };
            let (asked, marks) = self.asked(id, call);
            self.gather_with(id, asked, marks, how, &pieces, now, |out, piece| {
                shares[piece].write(out, args, stride, &chain);
            });
            pieces.clear();
            self.redis.share_pieces = pieces;
            Performed::Done
        };
        (self.redis.shares, self.redis.order, self.redis.chain) = (shares, order, chain);
        outcome
    }

    /// Finds out which servers the keys of a request belong to: the share of each, for each key which share it is in, and
    /// which is the next key of that share.
    fn share_out(
        &self,
        pool: PoolId,
        args: Args<'_>,
        stride: usize,
        shares: &mut Vec<Share>,
        order: &mut Vec<u16>,
        chain: &mut Vec<u32>,
    ) {
        let ring = &self.pools[pool.index()].ring;
        shares.clear();
        order.clear();
        chain.clear();
        let keys = args.len().saturating_sub(1).div_ceil(stride);
        order.resize(keys, 0);
        chain.resize(keys, 0);
        let mut table = Vec::new();
        let mut place = 1;
        for (key, share_of_key) in (0u32..).zip(order.iter_mut()) {
            let server = ring.route(args.get(place), 0);
            place += stride;
            let share = self.share_of(pool, server, shares, &mut table, key);
            share.words += stride;
            *share_of_key = share.number;
            chain[std::mem::replace(&mut share.last, key) as usize] = key;
        }
    }

    /// The share of a server, which may be one of none: a new one, beginning with a key, if it has none yet.
    #[inline(always)]
    pub(super) fn share_of<'s>(
        &self,
        pool: PoolId,
        server: Option<ServerId>,
        shares: &'s mut Vec<Share>,
        table: &mut Vec<u32>,
        key: u32,
    ) -> &'s mut Share {
        let known = if shares.len() <= FEW_SHARES {
            shares.iter().position(|share| share.server == server)
        } else {
            self.look_up_share(pool, shares, table, server)
        };
        let share = known.unwrap_or_else(|| {
            let number = u16::try_from(shares.len()).unwrap_or(u16::MAX);
            shares.push(Share { server, number, words: 0, first: key, last: key });
            shares.len() - 1
        });
        &mut shares[share]
    }

    /// The place of a server's share, by a table of all that are known: for each server, and for none, one more than it.
    #[cold]
    #[inline(never)]
    fn look_up_share(
        &self,
        pool: PoolId,
        shares: &[Share],
        table: &mut Vec<u32>,
        server: Option<ServerId>,
    ) -> Option<usize> {
        let servers = self.pools[pool.index()].live.len();
        let place = |server: Option<ServerId>| server.map_or(servers, ServerId::index);
        if table.is_empty() {
            table.resize(servers + 1, 0);
            shares.iter().for_each(|share| table[place(share.server)] = u32::from(share.number) + 1);
        }
        // One that was not known when this was asked last was added behind the others.
        if let Some(newest) = shares.last() {
            table[place(newest.server)] = u32::from(newest.number) + 1;
        }
        (table[place(server)] as usize).checked_sub(1)
    }

    /// Takes a request apart: the pieces, and for each of its keys which piece it is in.
    pub(super) fn pieces(&self, pool: PoolId, call: Call<'_>, split: Split) -> (Vec<Piece>, Vec<u16>) {
        let (args, stride) = (call.args, split.stride());
        let (mut shares, mut order, mut chain) = (Vec::new(), Vec::new(), Vec::new());
        self.share_out(pool, args, stride, &mut shares, &mut order, &mut chain);
        let piece = |share: &Share| {
            let mut request = Vec::new();
            share.write(&mut request, args, stride, &chain);
            share.piece(request)
        };
        (shares.iter().map(piece).collect(), order)
    }

    /// Sends a request's pieces, and has the answers put together.
    pub(super) fn gather(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        how: How,
        pieces: Vec<Piece>,
        now: Instant,
    ) {
        self.gather_with(id, asked, marks, how, &pieces, now, |out, piece| {
            out.extend_from_slice(&pieces[piece].request);
        });
    }

    /// A piece of a request cannot be sent: its server has to forget what it misses. `write` appends the piece's request.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place")]
    fn fail_piece(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        piece: &Piece,
        failure: Failure,
        now: Instant,
        write: &dyn Fn(&mut Vec<u8>),
    ) -> Part {
        self.count_degraded(id, piece.owner, failure);
        self.doubt_watch(id);
        let Some(session) = self.session_ref(id) else { return Part::Lost(None) };
        let (pool, database) = (session.pool, session.profile().database);
        if let Some(server) = piece.owner {
            self.undelivered(pool, server, asked.request.verb, database, None, now);
            let mut request = Vec::new();
            write(&mut request);
            self.invalidate_unsent(id, server, Asked { raw: &request, ..asked }, marks, now);
        }
        Part::Lost(self.told(pool, piece.owner, failure))
    }

    /// As [`Engine::gather`]; `write` appends the request of the piece of a number.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place each")]
    pub(super) fn gather_with(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        how: How,
        pieces: &[Piece],
        now: Instant,
        write: impl Fn(&mut Vec<u8>, usize),
    ) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, number, database) = (session.pool, session.next_number(), session.profile().database);
        let Some(in_place) = asked.request.in_place else { return };
        let expired = self.deadline(pool, asked.request.started) <= now;
        let mut gather = Gather::new(how, in_place, pieces.len());
        gather.database = database;
        let mut ways = std::mem::take(&mut self.redis.ways);
        let mut outcome = None;
        // Parts have the order of the pieces; those that wait for a server are told by their fragment's number.
        for (fragment, piece) in (0u16..).zip(pieces) {
            let link = match piece.server {
                _ if expired && piece.link.is_none() => Err(Failure::TimedOut),
                Ok(server) => piece.link.map_or_else(|| self.link_to(pool, id, server, now), Ok),
                Err(failure) => Err(failure),
            };
            let server = piece.server.unwrap_or(ServerId(0));
            let done = link.is_err();
            gather.servers.push(Fragment { server, first: NO_KEY, last: NO_KEY, done });
            match link {
                Ok(link) => {
                    gather.parts.push(Part::Awaited);
                    ways.push((link, fragment));
                }
                Err(failure) => {
                    outcome = Some(self.failed_outcome(pool));
                    let part = self.fail_piece(id, asked, marks, piece, failure, now, &|out| {
                        write(out, usize::from(fragment));
                    });
                    gather.parts.push(part);
                    gather.failed = true;
                }
            }
        }
        self.counters.pool(pool).fragments.add(ways.len() as u64);
        self.work.cost += pieces.len() * work::PART;
        let class = self.telemetry.at_hand.unwrap_or(Class::Other);
        if ways.is_empty() || asked.request.noreply {
            self.end_request(pool, outcome.unwrap_or(if ways.is_empty() { Outcome::Local } else { Outcome::Unheard }));
        }
        if ways.is_empty() {
            let mut body = Vec::new();
            if !asked.request.noreply {
                gather.put(&mut body);
            }
            return self.answer(id, &body);
        }
        let waits = self.telemetry.at_hand.take();
        if let Some(session) = self.session(id) {
            let keys = gather.how.keys();
            let merge = Box::new(Merge::Gather(gather));
            let outcome = outcome.unwrap_or(Outcome::Hit);
            session.requests.push(Slot::merged(asked.request, (keys, ways.len()), (waits, outcome), merge));
        }
        let (asker, marks) = (Asker::client(id, number, asked.request.has_slot()), marks | Marks::PART);
        for (link, fragment) in ways.drain(..) {
            let outbox = &mut self.servers[link].queue.outbox;
            let start = outbox.end();
            let piece = usize::from(fragment);
            write(outbox.tail(), piece);
            let replies = pieces[piece].replies;
            let ticket = Ticket { fragment, replies, marks, ..Ticket::of(asker, start, asked.request.verb, class) };
            self.push_ticket(link, ticket, now);
        }
        self.redis.ways = ways;
    }

    /// The error line for a part that a server failed, if the pool tells errors.
    pub(in crate::engine) fn told(&self, pool: PoolId, server: Option<ServerId>, failure: Failure) -> Option<Vec<u8>> {
        (self.policy(pool).tells()).then(|| {
            let mut line = Vec::new();
            self.write_failure(&mut line, pool, server, failure);
            line
        })
    }

    /// The answer of an `InPlace` without a request of its own.
    pub(super) fn in_place(&self, id: SessionId, call: Call<'_>) -> InPlace {
        let version = self.version(id);
        let pool = self.session_ref(id).map_or(PoolId(0), |session| session.pool);
        InPlace { version, fallback: self.fallback(pool, call) }
    }
}

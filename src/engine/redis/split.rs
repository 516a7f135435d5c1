//! Requests for several servers: taken apart by their keys, and sent to each server as a request of its own.

use super::InPlace;
use super::call::{Call, Performed};
use super::gather::{Gather, How};
use super::piece::{Piece, Share, Shares};
use super::portions::hand_over;
use crate::config::model::PoolId;
use crate::engine::ids::SessionId;
use crate::engine::request::Asked;
use crate::engine::scatter::Parts;
use crate::engine::scattered::Merge;
use crate::engine::servers::ticket::Marks;
use crate::engine::shared::Shared;
use crate::engine::ways::To;
use crate::engine::{Engine, work};
use crate::failure::Failure;
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

/// The parts of a request, each as it goes out.
struct Ready(Vec<Piece>);

impl Parts for Ready {
    fn write(&mut self, out: &mut Vec<u8>, part: usize) -> u32 {
        hand_over(out, std::mem::take(&mut self.0[part].request));
        self.0[part].replies
    }

    fn take_whole(&mut self, part: usize, large: usize) -> Option<(Shared, u32)> {
        let piece = self.0.get_mut(part).filter(|piece| piece.request.len() > large)?;
        Some((Shared::all(std::mem::take(&mut piece.request)), piece.replies))
    }
}

impl Engine {
    pub(super) fn split(&mut self, id: SessionId, call: Call<'_>, split: Split, now: Instant) -> Performed {
        let pool = call.pool;
        let (args, stride) = (call.args, split.stride());
        if !(args.len() - 1).is_multiple_of(stride) {
            self.refuse_request(id, &errors::wrong_arity(call.command.name));
            return Performed::Done;
        }
        if args.len() > 1 + stride
            && call.raw.len() > self.memory.large
            && let Some(outcome) = self.split_long(id, call, split, now)
        {
            return outcome;
        }
        if self.warmup.is_on() && !self.is_warm_call(id, call, now) {
            return Performed::Backpressured;
        }
        if args.len() == 1 + stride {
            return self.send_keyed(id, call, args.get(1), now);
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
            let how = match split {
                Split::Values => How::Pick(order.clone()),
                Split::Pairs => How::Word,
                Split::Count => How::Sum,
            };
            let (asked, marks) = self.asked(id, call);
            self.gather_with(
                id,
                asked,
                marks,
                how,
                shares.iter().map(Share::to),
                now,
                |out: &mut Vec<u8>, piece: usize| {
                    shares[piece].write(out, args, stride, &chain);
                    1
                },
            );
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
        shares: &mut Shares,
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
        let mut place = 1;
        for (key, share_of_key) in (0u32..).zip(order.iter_mut()) {
            let server = ring.route(args.get(place), 0);
            place += stride;
            let share = shares.of(server, key);
            share.words += stride;
            *share_of_key = share.number;
            chain[std::mem::replace(&mut share.last, key) as usize] = key;
        }
    }

    /// Takes a request apart: the pieces, and for each of its keys which piece it is in.
    pub(super) fn pieces(&self, call: Call<'_>, split: Split) -> (Vec<Piece>, Vec<u16>) {
        let (args, stride) = (call.args, split.stride());
        let (mut shares, mut order, mut chain) = (Shares::default(), Vec::new(), Vec::new());
        self.share_out(call.pool, args, stride, &mut shares, &mut order, &mut chain);
        let piece = |share: &Share| {
            let mut request = Vec::new();
            share.write(&mut request, args, stride, &chain);
            Piece { to: share.to(), request, replies: 1 }
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
        let whom: Vec<To> = pieces.iter().map(|piece| piece.to).collect();
        self.gather_with(id, asked, marks, how, whom.into_iter(), now, Ready(pieces));
    }

    /// As [`Engine::gather`], of parts that are to go there.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used in one place each")]
    pub(super) fn gather_with(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        how: How,
        pieces: impl Iterator<Item = To>,
        now: Instant,
        parts: impl Parts,
    ) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, database) = (session.pool(), session.profile().database);
        let Some(in_place) = asked.request.in_place else { return };
        let expired = self.deadline(pool, asked.request.started) <= now;
        let mut whom = std::mem::take(&mut self.redis.whom);
        whom.extend(pieces.map(|to| match to {
            To::Server(server) if expired => To::Nowhere(Some(server), Failure::TimedOut),
            To::Nowhere(server, _) if expired => To::Nowhere(server, Failure::TimedOut),
            To::Server(_) | To::Link(..) | To::Nowhere(..) => to,
        }));
        let merge = Merge::Redis(Gather::new(how, in_place, database, whom.len()));
        self.scatter(id, asked, marks | Marks::PART, (merge, &whom), now, parts);
        whom.clear();
        self.redis.whom = whom;
    }

    /// What is answered in a server's place.
    pub(super) fn in_place(&self, id: SessionId, call: Call<'_>) -> InPlace {
        InPlace { version: self.version(id), fallback: self.fallback(call) }
    }
}

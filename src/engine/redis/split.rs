//! Requests for several servers: taken apart by their keys, and sent to each server as a request of its own.

use super::InPlace;
use super::gather::{Gather, How, Part};
use super::input::{Call, Outcome};
use crate::config::model::{OnFailure, PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::degrade::Asked;
use crate::engine::link::{LinkId, Ticket};
use crate::engine::merge::{Fragment, Merge, NO_KEY};
use crate::engine::session::{SessionId, Slot};
use crate::failure::Failure;
use crate::proto::resp::command::errors;
use crate::proto::resp::encode;
use crate::proto::resp::plan::Split;
use crate::time::Instant;

/// What goes to one server.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) server: Result<ServerId, Failure>,
    /// The server that it is for, be it there or not.
    pub(super) owner: Option<ServerId>,
    pub(super) request: Vec<u8>,
    /// Replies that it will be answered with.
    pub(super) replies: u32,
    /// A connection to use in place of the shared one.
    pub(super) link: Option<LinkId>,
}

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
    pub(super) fn split(&mut self, id: SessionId, call: Call<'_>, split: Split, now: Instant) -> Outcome {
        let Some(session) = self.session_ref(id) else { return Outcome::Done };
        let pool = session.pool;
        let (args, stride) = (call.args, split.stride());
        if !(args.len() - 1).is_multiple_of(stride) {
            self.refuse_request(id, &errors::wrong_arity(call.command.name));
            return Outcome::Done;
        }
        let others = (1 + stride..args.len()).step_by(stride).map(|place| args.get(place));
        if self.same_server(pool, args.get(1), others) {
            return self.send_keyed(id, call, args.get(1), now);
        }
        let (pieces, order) = self.pieces(pool, call, split);
        let how = match split {
            Split::Values => How::Pick(order),
            Split::Pairs => How::Word,
            Split::Count => How::Sum,
        };
        let (asked, marks) = self.asked(id, call);
        self.gather(id, asked, marks, how, pieces, now);
        Outcome::Done
    }

    /// Takes a request apart: the pieces, and for each of its keys which piece it is in.
    pub(super) fn pieces(&self, pool: PoolId, call: Call<'_>, split: Split) -> (Vec<Piece>, Vec<u16>) {
        let (args, stride) = (call.args, split.stride());
        let ring = &self.pools[pool.index()].ring;
        let mut servers: Vec<(Option<ServerId>, usize)> = Vec::new();
        let mut order = Vec::with_capacity(args.len() / stride);
        for place in (1..args.len()).step_by(stride) {
            let server = ring.route(args.get(place), 0);
            let piece = servers.iter().position(|(known, _)| *known == server).unwrap_or_else(|| {
                servers.push((server, 0));
                servers.len() - 1
            });
            servers[piece].1 += stride;
            order.push(u16::try_from(piece).unwrap_or(u16::MAX));
        }
        let mut pieces: Vec<Piece> = Vec::with_capacity(servers.len());
        for (server, words) in servers {
            let mut request = Vec::new();
            encode::array(&mut request, words + 1);
            encode::bulk(&mut request, args.get(0));
            pieces.push(Piece {
                server: server.ok_or(Failure::Ejected),
                owner: server,
                request,
                replies: 1,
                link: None,
            });
        }
        for (place, piece) in (1..args.len()).step_by(stride).zip(&order) {
            let request = &mut pieces[usize::from(*piece)].request;
            (place..place + stride).for_each(|place| encode::bulk(request, args.get(place)));
        }
        (pieces, order)
    }

    /// Sends a request's pieces, and has the answers put together.
    pub(super) fn gather(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: u8,
        how: How,
        pieces: Vec<Piece>,
        now: Instant,
    ) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, number) = (session.pool, session.next_number());
        let Some(in_place) = asked.in_place else { return };
        let expired = self.deadline(pool, asked.started) <= now;
        let mut gather = Gather::new(how, in_place);
        let mut ways: Vec<(LinkId, Piece)> = Vec::new();
        // Parts have the order of the pieces; those that wait for a server are told by their fragment's number.
        for piece in pieces {
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
                    ways.push((link, piece));
                }
                Err(failure) => {
                    self.count_degraded(id, failure);
                    let database = self.session_ref(id).map_or(0, |session| session.flavor().database);
                    if let Some(server) = piece.owner {
                        self.undelivered(pool, server, asked.verb, database, now);
                    }
                    let error = self.told(pool, piece.owner, failure);
                    gather.parts.push(Part::Lost(error));
                }
            }
        }
        self.counters.pool(pool).fragments.add(ways.len() as u64);
        if ways.is_empty() && !asked.noreply {
            let mut body = Vec::new();
            gather.put(&mut body);
            return self.answer(id, &body);
        }
        let fragments: Vec<u16> =
            (0u16..).zip(&gather.servers).filter(|(_, fragment)| !fragment.done).map(|(index, _)| index).collect();
        if !asked.noreply
            && let Some(session) = self.session(id)
        {
            session.keys_in_flight += 1;
            session.slots.push_back(Slot {
                started: asked.started,
                waiting: u32::try_from(ways.len()).unwrap_or(u32::MAX),
                keys: 1,
                verb: asked.verb,
                quiet: false,
                conditional: false,
                in_place: asked.in_place,
                server: ServerId(0),
                body: Vec::new(),
                merge: Some(Box::new(Merge::Gather(gather))),
            });
        }
        let marks = if asked.noreply { marks | Ticket::NOREPLY } else { marks };
        for ((link, piece), fragment) in ways.into_iter().zip(fragments) {
            let outbox = &mut self.links[link.index()].outbox;
            let start = outbox.end();
            outbox.tail().extend_from_slice(&piece.request);
            let SessionId { index: session, generation } = id;
            let replies = piece.replies;
            let ticket = Ticket {
                session,
                generation,
                number,
                start,
                fragment,
                replies,
                verb: asked.verb,
                marks,
                joined: false,
            };
            self.push_ticket(link, ticket, now);
        }
    }

    /// The error line for a part that a server failed, if the pool tells errors.
    pub(in crate::engine) fn told(&self, pool: PoolId, server: Option<ServerId>, failure: Failure) -> Option<Vec<u8>> {
        (self.policy(pool) == OnFailure::Error).then(|| {
            let mut line = Vec::new();
            self.write_failure(&mut line, pool, server, failure);
            line
        })
    }

    /// The answer of an `InPlace` without a request of its own.
    pub(super) fn in_place(&self, id: SessionId, call: Call<'_>) -> InPlace {
        let version = self.version(id);
        let absorbs = self.session_ref(id).is_some_and(|session| self.policy(session.pool) == OnFailure::Absorb);
        InPlace { version, fallback: call.plan.rule.fallback(call.args, absorbs) }
    }
}

//! Transactions: queued here, and sent as one `MULTI` ... `EXEC` to each server that takes part.
//!
//! Each server carries out its part at once, without anything in between; over several servers there is no such promise,
//! and a pool can refuse that (`transactions: single`). The answer has an element for each command in any case: a
//! command whose server failed gets what it would get by itself.
//!
//! `WATCH` needs the server to know whose keys it watches, so it goes through a connection of the client's own, and so
//! does the transaction that it guards. If that connection breaks, the transaction does not take place: it is answered
//! as if a key had been changed.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::InPlace;
use super::gather::{How, Part};
use super::input::{Call, Outcome};
use super::keyed::CROSS_SLOT;
use super::split::Piece;
use crate::config::model::{PoolId, ServerId, Transactions};
use crate::engine::Engine;
use crate::engine::link::{LinkId, Ticket};
use crate::engine::session::{Barrier, SessionId};
use crate::failure::Failure;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::Command;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::plan::{self, Class, Local, Split};
use crate::proto::resp::reply::{self, Items, Reply};
use crate::proto::resp::{encode, request};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Bytes that a client may queue.
const QUEUE_LIMIT: usize = 64 << 20;

/// What a client has queued since `MULTI`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    requests: Vec<Queued>,
    bytes: usize,
    /// A request was refused: `EXEC` will carry out none.
    pub(super) spoiled: bool,
}

#[derive(Debug)]
struct Queued {
    raw: Vec<u8>,
    command: &'static Command,
}

impl Queue {
    pub(crate) fn footprint(&self) -> usize {
        self.bytes + self.requests.capacity() * size_of::<Queued>()
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
}

/// A watch that a client keeps.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) link: LinkId,
    pub(crate) server: ServerId,
    /// Its connection broke: whether a key was changed is not known.
    pub(crate) broken: bool,
}

/// How the answers of an `EXEC` are put together.
#[derive(Debug)]
pub(crate) struct Plan {
    commands: Vec<Planned>,
}

/// One command of a transaction.
#[derive(Debug)]
struct Planned {
    /// The parts that have a piece of its answer, in the order of its keys; the same part may come again.
    order: Vec<u16>,
    /// The parts that have a piece, each once.
    parts: Vec<u16>,
    kind: Kind,
    in_place: InPlace,
}

#[derive(Debug)]
enum Kind {
    /// One server's answer.
    Whole,
    /// Put together from several.
    Split(Split),
    /// Answered here.
    Here(Vec<u8>),
}

impl Plan {
    /// Appends the answer. `whole` is for when there is nothing to put together.
    pub(super) fn put(&self, out: &mut Vec<u8>, parts: &[Part], whole: InPlace) {
        let mut results: Vec<Result_<'_>> = parts.iter().map(result).collect();
        if let [only] = &results[..] {
            match only {
                Result_::Aborted => return encode::null_array(out, whole.version),
                Result_::Refused(text) => return put_abort(out, text),
                Result_::Lost(Some(error)) => return out.extend_from_slice(error),
                Result_::Items(_) | Result_::Lost(None) => {}
            }
        }
        encode::array(out, self.commands.len());
        for command in &self.commands {
            command.put(out, &mut results);
        }
    }
}

/// What one server made of its part of a transaction.
enum Result_<'a> {
    /// The answers to its commands.
    Items(Items<'a>),
    /// A watched key had been changed.
    Aborted,
    /// It refused the transaction, with this error.
    Refused(&'a [u8]),
    /// It failed.
    Lost(Option<&'a [u8]>),
}

/// Reads the answers to `MULTI`, the commands, and `EXEC`.
fn result(part: &Part) -> Result_<'_> {
    let raw = match part {
        Part::Came(raw) => raw.as_slice(),
        Part::Lost(error) => return Result_::Lost(error.as_deref()),
        Part::Awaited => return Result_::Lost(None),
    };
    let (mut rest, mut refusal) = (raw, None);
    loop {
        let (one, others) = rest.split_at(reply::end(rest));
        if !others.is_empty() {
            if one.starts_with(b"-") {
                refusal = refusal.or(Some(one));
            }
            rest = others;
            continue;
        }
        return match reply::read(one) {
            Reply::Null => Result_::Aborted,
            Reply::List(items) => Result_::Items(items),
            _ => Result_::Refused(refusal.unwrap_or(one)),
        };
    }
}

/// Appends the error of a transaction that a server would not take.
fn put_abort(out: &mut Vec<u8>, refusal: &[u8]) {
    if refusal.starts_with(b"-EXECABORT") {
        return out.extend_from_slice(refusal);
    }
    let text = refusal.trim_ascii_end().strip_prefix(b"-").unwrap_or(refusal);
    encode::error(out, &[b"EXECABORT Transaction discarded because of: ", text].concat());
}

impl Planned {
    fn put(&self, out: &mut Vec<u8>, results: &mut [Result_<'_>]) {
        if let Kind::Here(body) = &self.kind {
            return out.extend_from_slice(body);
        }
        let mut pieces: Vec<(u16, Piece_<'_>)> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let piece = match results.get_mut(usize::from(*part)) {
                Some(Result_::Items(items)) => items.next().map_or(Piece_::Lost, Piece_::Came),
                Some(Result_::Refused(error) | Result_::Lost(Some(error))) => Piece_::Error(error),
                _ => Piece_::Lost,
            };
            pieces.push((*part, piece));
        }
        let error = pieces.iter().find_map(|(_, piece)| match piece {
            Piece_::Error(error) => Some(*error),
            Piece_::Came(reply) if reply.starts_with(b"-") => Some(*reply),
            _ => None,
        });
        let lost = pieces.iter().any(|(_, piece)| matches!(piece, Piece_::Lost));
        match (&self.kind, error) {
            (Kind::Split(Split::Values), _) => self.put_values(out, &pieces),
            (_, Some(error)) => out.extend_from_slice(error),
            (Kind::Split(Split::Count), None) => {
                let numbers = pieces.iter().filter_map(|(_, piece)| match piece {
                    Piece_::Came(reply) => match reply::read(reply) {
                        Reply::Integer(value) => Some(value),
                        _ => None,
                    },
                    _ => None,
                });
                encode::integer(out, numbers.fold(0, i64::saturating_add));
            }
            (_, None) if lost => {
                if !self.in_place.fallback.write(out, self.in_place.version) {
                    encode::error(out, b"ERR the server of this command failed");
                }
            }
            (_, None) => match pieces.first() {
                Some((_, Piece_::Came(reply))) => out.extend_from_slice(reply),
                _ => encode::null(out, self.in_place.version),
            },
        }
    }

    fn put_values(&self, out: &mut Vec<u8>, pieces: &[(u16, Piece_<'_>)]) {
        let mut lists: Vec<(u16, Option<Items<'_>>, &[u8])> = pieces
            .iter()
            .map(|(part, piece)| match piece {
                Piece_::Came(reply) => match reply::read(reply) {
                    Reply::List(items) => (*part, Some(items), &b""[..]),
                    _ => (*part, None, *reply),
                },
                Piece_::Error(error) => (*part, None, *error),
                Piece_::Lost => (*part, None, &b""[..]),
            })
            .collect();
        encode::array(out, self.order.len());
        for from in &self.order {
            let Some((_, items, error)) = lists.iter_mut().find(|(part, ..)| part == from) else { continue };
            match items.as_mut().and_then(Iterator::next) {
                Some(value) => out.extend_from_slice(value),
                None if error.starts_with(b"-") => out.extend_from_slice(error),
                None => encode::null(out, self.in_place.version),
            }
        }
    }
}

/// A piece of one command's answer.
enum Piece_<'a> {
    Came(&'a [u8]),
    Error(&'a [u8]),
    Lost,
}

impl Engine {
    pub(super) fn multi(&mut self, id: SessionId) {
        let Some(client) = self.redis(id) else { return };
        if client.queue.is_some() {
            // Redis lets the transaction go on.
            return self.say_error(id, b"ERR MULTI calls can not be nested");
        }
        client.queue = Some(Box::default());
        self.say_ok(id);
    }

    /// A request inside a transaction.
    pub(super) fn queue(&mut self, id: SessionId, call: Call<'_>) {
        let Some(session) = self.session_ref(id) else { return };
        let pool = session.pool;
        if let Err(text) = self.queueable(pool, id, call) {
            return self.refuse_request(id, &text);
        }
        let Some(queue) = self.redis(id).and_then(|client| client.queue.as_deref_mut()) else { return };
        if queue.bytes + call.raw.len() > QUEUE_LIMIT {
            return self.refuse_request(id, b"ERR the transaction is larger than this proxy takes");
        }
        queue.bytes += call.raw.len();
        queue.requests.push(Queued { raw: call.raw.to_vec(), command: call.command });
        self.say(id, b"+QUEUED\r\n");
        self.charge_session(id);
    }

    /// Whether a request can be part of a transaction.
    fn queueable(&self, pool: PoolId, id: SessionId, call: Call<'_>) -> Result<(), Vec<u8>> {
        let args = call.args;
        match call.plan.class {
            Class::Split(split) if !(args.len() - 1).is_multiple_of(split.stride()) => {
                return Err(crate::proto::resp::command::errors::wrong_arity(call.command.name));
            }
            Class::Local(Local::Ping | Local::Echo | Local::Time) => return Ok(()),
            Class::Keyed | Class::Split(_) | Class::Script | Class::Blocking(_) | Class::Publish => {}
            _ => {
                let text = format!("ERR '{}' cannot be part of a transaction through this proxy", call.command.name);
                return Err(text.into_bytes());
            }
        }
        let keys = self.keys_of(call);
        let Some(first) = keys.first() else {
            return Err(b"ERR a command without keys cannot be part of a transaction through this proxy".to_vec());
        };
        let single = self.config.pools[pool.index()].redis.transactions == Transactions::Single;
        let split = matches!(call.plan.class, Class::Split(_));
        let together = self.same_server(pool, first, keys[1..].iter().copied());
        if !together && (!split || single) {
            return Err(CROSS_SLOT.to_vec());
        }
        let queued = self.session_ref(id).and_then(|session| session.redis.as_ref()?.queue.as_ref());
        if single && let Some(earlier) = queued.and_then(|queue| queue.requests.first()) {
            let mut spans = Vec::new();
            let args = request::args(&earlier.raw, &mut spans);
            let earlier = Call { args, command: earlier.command, plan: plan::of(earlier.command), ..call };
            if self.keys_of(earlier).first().is_some_and(|key| !self.same_server(pool, key, std::iter::once(*first))) {
                return Err(CROSS_SLOT.to_vec());
            }
        }
        Ok(())
    }

    /// The keys of a request, or the channel that takes their place.
    fn keys_of<'a>(&self, call: Call<'a>) -> Vec<&'a [u8]> {
        if call.plan.class == Class::Publish {
            return vec![call.args.get(1)];
        }
        let mut list = KeyList::default();
        if keys::keys(call.command, call.args, &mut list).is_err() {
            return Vec::new();
        }
        list.iter().map(|place| call.args.get(place)).collect()
    }

    pub(super) fn discard(&mut self, id: SessionId, now: Instant) {
        let Some(client) = self.redis(id) else { return };
        if client.queue.take().is_none() {
            return self.say_error(id, b"ERR DISCARD without MULTI");
        }
        self.say_ok(id);
        self.end_watch(id, now);
        self.charge_session(id);
    }

    /// An `EXEC` that cannot be one ends the transaction all the same.
    pub(super) fn abort(&mut self, id: SessionId, text: &[u8], now: Instant) {
        if let Some(client) = self.redis(id) {
            client.queue = None;
        }
        let reason = text.strip_prefix(b"ERR ").unwrap_or(text);
        self.refuse_request(id, &[b"EXECABORT Transaction discarded because of: ", reason].concat());
        self.end_watch(id, now);
        self.charge_session(id);
    }

    pub(super) fn unwatch(&mut self, id: SessionId, now: Instant) {
        self.say_ok(id);
        self.end_watch(id, now);
    }

    /// Has the server forget what a client watches.
    fn end_watch(&mut self, id: SessionId, now: Instant) {
        let Some(watch) = self.redis(id).and_then(|client| client.watch.take()) else { return };
        if !watch.broken {
            self.ask(watch.link, Verb::Command, 0, now, |out| encode::words(out, &[b"UNWATCH"]));
        }
    }

    pub(super) fn watch(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Outcome {
        let Some(session) = self.session_ref(id) else { return Outcome::Done };
        let pool = session.pool;
        let key = call.args.get(1);
        let Some(client) = self.redis(id) else { return Outcome::Done };
        if client.queue.is_some() {
            // Redis lets the transaction go on.
            self.say_error(id, b"ERR WATCH inside MULTI is not allowed");
            return Outcome::Done;
        }
        let known = client.watch.as_ref().map(|watch| (watch.link, watch.server, watch.broken));
        let ring = &self.pools[pool.index()].ring;
        let server = ring.route(key, 0);
        let one = self.same_server(pool, key, (2..call.args.len()).map(|place| call.args.get(place)));
        if !one || known.is_some_and(|(_, watched, _)| Some(watched) != server) {
            self.refuse_request(id, CROSS_SLOT);
            return Outcome::Done;
        }
        let (asked, marks) = self.asked(id, call);
        let link = match (known, server) {
            (Some((_, _, true)), _) => {
                self.say_ok(id); // nothing will come of it: EXEC says so
                return Outcome::Done;
            }
            (Some((link, ..)), _) => Ok(link),
            (None, Some(server)) => self.dedicate(id, pool, server, now),
            (None, None) => Err(Failure::Ejected),
        };
        match (link, server) {
            (Ok(link), Some(server)) => {
                if let Some(client) = self.redis(id) {
                    client.watch = Some(Box::new(Watch { link, server, broken: false }));
                }
                let raw = call.raw;
                self.enqueue(id, asked, marks, link, now, |out| out.extend_from_slice(raw));
                if let Some(session) = self.session(id) {
                    session.barrier = Barrier::Before; // what follows goes another way, and must not overtake it
                }
            }
            (Err(failure), _) => self.answer_degraded(id, asked, server, failure),
            (Ok(_), None) => {}
        }
        Outcome::Done
    }

    pub(super) fn exec(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Outcome {
        let Some(session) = self.session(id) else { return Outcome::Done };
        let pool = session.pool;
        let idle = session.slots.is_empty();
        let Some(client) = session.redis.as_deref_mut() else { return Outcome::Done };
        if client.watch.is_some() && !idle {
            return Outcome::Alone; // what was asked before it may change what is watched
        }
        let Some(queue) = client.queue.take() else {
            self.say_error(id, b"ERR EXEC without MULTI");
            return Outcome::Done;
        };
        let watch = client.watch.take();
        let version = client.version;
        self.charge_session(id);
        if queue.spoiled {
            self.say_error(id, b"EXECABORT Transaction discarded because of previous errors.");
            if let Some(client) = self.redis(id) {
                client.watch = watch;
            }
            self.end_watch(id, now);
            return Outcome::Done;
        }
        if watch.as_ref().is_some_and(|watch| watch.broken) {
            let mut body = Vec::new();
            encode::null_array(&mut body, version);
            self.say(id, &body);
            return Outcome::Done;
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut commands = Vec::with_capacity(queue.requests.len());
        let mut spans = Vec::new();
        for Queued { raw, command } in &queue.requests {
            let args = request::args(raw, &mut spans);
            let part = Call { raw, args, command, plan: plan::of(command), started: call.started };
            commands.push(self.plan_command(id, pool, part, &mut pieces, now));
        }
        if let Some(watch) = watch {
            let elsewhere = |piece: &Piece| piece.server != Ok(watch.server);
            if pieces.iter().any(elsewhere) {
                self.refuse_request(id, CROSS_SLOT);
                if let Some(client) = self.redis(id) {
                    client.watch = Some(watch);
                }
                self.end_watch(id, now);
                return Outcome::Done;
            }
            if let Some(piece) = pieces.first_mut() {
                piece.link = Some(watch.link);
                if let Some(session) = self.session(id) {
                    session.barrier = Barrier::Before;
                }
            } else if let Some(client) = self.redis(id) {
                client.watch = Some(watch);
                self.end_watch(id, now);
            }
        }
        for piece in &mut pieces {
            encode::words(&mut piece.request, &[b"EXEC"]);
            piece.replies += 1;
        }
        let (asked, _) = self.asked(id, call);
        self.gather(id, asked, Ticket::ONCE, How::Exec(Box::new(Plan { commands })), pieces, now);
        Outcome::Done
    }

    /// Appends one command of a transaction to the pieces of the servers that it concerns.
    fn plan_command(
        &self,
        id: SessionId,
        pool: PoolId,
        call: Call<'_>,
        pieces: &mut Vec<Piece>,
        now: Instant,
    ) -> Planned {
        let in_place = self.in_place(id, call);
        let here = |body: Vec<u8>| Planned { order: Vec::new(), parts: Vec::new(), kind: Kind::Here(body), in_place };
        let piece_of = |pieces: &mut Vec<Piece>, server: Result<ServerId, Failure>| -> u16 {
            let known = pieces.iter().position(|piece| piece.server == server);
            let place = known.unwrap_or_else(|| {
                let mut request = Vec::new();
                encode::words(&mut request, &[b"MULTI"]);
                pieces.push(Piece { server, owner: server.ok(), request, replies: 1, link: None });
                pieces.len() - 1
            });
            u16::try_from(place).unwrap_or(u16::MAX)
        };
        match call.plan.class {
            Class::Local(local) => here(self.answer_of(local, call.args, now)),
            Class::Split(split) => {
                let (parts, order) = self.pieces(pool, call, split);
                let mut places = Vec::with_capacity(parts.len());
                for part in parts {
                    let place = piece_of(pieces, part.server);
                    pieces[usize::from(place)].request.extend_from_slice(&part.request);
                    pieces[usize::from(place)].replies += 1;
                    places.push(place);
                }
                let order = order.into_iter().map(|piece| places[usize::from(piece)]).collect();
                let kind = if places.len() > 1 { Kind::Split(split) } else { Kind::Whole };
                Planned { order, parts: places, kind, in_place }
            }
            _ => {
                let keys = self.keys_of(call);
                let key = keys.first().copied().unwrap_or_default();
                let server = self.pools[pool.index()].ring.route(key, 0).ok_or(Failure::Ejected);
                let place = piece_of(pieces, server);
                let piece = &mut pieces[usize::from(place)];
                piece.request.extend_from_slice(call.raw);
                piece.replies += 1;
                Planned { order: Vec::new(), parts: vec![place], kind: Kind::Whole, in_place }
            }
        }
    }

    /// What a command says that is answered here, inside a transaction.
    fn answer_of(&self, local: Local, args: Args<'_>, now: Instant) -> Vec<u8> {
        let mut body = Vec::new();
        match local {
            Local::Time => {
                let wall = self.started_at + (now - Instant::ZERO);
                encode::array(&mut body, 2);
                encode::bulk(&mut body, wall.as_secs().to_string().as_bytes());
                encode::bulk(&mut body, wall.subsec_micros().to_string().as_bytes());
            }
            _ if args.len() > 1 => encode::bulk(&mut body, args.get(1)),
            _ => encode::simple(&mut body, b"PONG"),
        }
        body
    }
}

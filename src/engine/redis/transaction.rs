//! Transactions: queued here, and sent as one `MULTI` ... `EXEC` to each server that takes part.
//!
//! Each server carries out its part at once, without anything in between; over several servers there is no such promise,
//! and a pool can refuse that (`transactions: single`). The answer has an element for each command in any case: a
//! command whose server failed gets what it would get by itself.
//!
//! What a `WATCH` guards goes through the connection that watches ([`watch`](super::watch)).

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::call::{Call, Performed};
use super::exec::{ExecPlan, Kind, Planned};
use super::gather::How;
use super::keyed::CROSS_SLOT;
use super::local::{NO_INTEGER, OUT_OF_RANGE};
use super::piece::Piece;
use super::queue::{QUEUE_LIMIT, Queue, Queued, REQUEST_COST};
use super::watched::Guard;
use crate::config::model::{PoolId, ServerId, Transactions};
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::engine::servers::ticket::Marks;
use crate::engine::ways::To;
use crate::failure::Failure;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::Flags;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::fallback::Fallback;
use crate::proto::resp::plan::{self, CommandClass, Everywhere, Local, Transaction};
use crate::proto::resp::{Version, encode, request};
use crate::time::Instant;

/// The piece of a server, with what begins a transaction; a new one if it has none yet.
fn piece_of(pieces: &mut Vec<Piece>, to: To) -> u16 {
    let known = pieces.iter().position(|piece| piece.to == to);
    let place = known.unwrap_or_else(|| {
        let mut request = Vec::new();
        encode::words(&mut request, &[b"MULTI"]);
        pieces.push(Piece { to, request, replies: 1 });
        pieces.len() - 1
    });
    u16::try_from(place).unwrap_or(u16::MAX)
}

/// Whether a command can be part of a transaction where there is one server that all of it goes to.
fn is_for_one(call: Call<'_>) -> bool {
    match call.plan.class {
        CommandClass::Keyed
        | CommandClass::Split(_)
        | CommandClass::Script
        | CommandClass::Blocking(_)
        | CommandClass::Publish
        | CommandClass::Everywhere(_)
        | CommandClass::Anywhere
        | CommandClass::OfOne
        | CommandClass::Local(Local::Select | Local::Role) => true,
        CommandClass::Local(_)
        | CommandClass::Transaction(_)
        | CommandClass::Subscribe(_)
        | CommandClass::Monitor
        | CommandClass::Refused => false,
    }
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
        if let Err(text) = self.queueable(id, call) {
            return self.refuse_request(id, &text);
        }
        let held = self.held_by(id);
        let has_memory = self.make_memory_to_queue(held, 2 * call.raw.len() + REQUEST_COST);
        let Some(queue) = self.redis(id).and_then(|client| client.queue.as_deref_mut()) else { return };
        if queue.bytes + call.raw.len() > QUEUE_LIMIT {
            return self.refuse_request(id, b"ERR the transaction is larger than this proxy takes");
        }
        if !has_memory {
            // Nothing of it will be carried out, so nothing of it need be kept.
            queue.clear();
            self.charge_session(id);
            return self.refuse_request(id, b"ERR memory_limit of this proxy reached, the transaction is discarded");
        }
        if queue.spoiled {
            return self.say(id, b"+QUEUED\r\n");
        }
        queue.bytes += call.raw.len();
        queue.requests.push(Queued { raw: call.raw.to_vec(), command: call.command });
        self.say(id, b"+QUEUED\r\n");
        self.charge_session(id);
    }

    /// Whether a request can be part of a transaction.
    fn queueable(&self, id: SessionId, call: Call<'_>) -> Result<(), Vec<u8>> {
        let (pool, args) = (call.pool, call.args);
        match call.plan.class {
            _ if call.command.flags.has(Flags::NO_MULTI) => {
                return Err(b"ERR Command not allowed inside a transaction".to_vec());
            }
            CommandClass::Split(split) if !(args.len() - 1).is_multiple_of(split.stride()) => {
                return Err(crate::proto::resp::command::errors::wrong_arity(call.command.name));
            }
            CommandClass::Local(Local::Ping | Local::Echo | Local::Time)
            | CommandClass::Transaction(Transaction::Unwatch) => {
                return Ok(());
            }
            _ if self.is_of_one(pool) && is_for_one(call) => return Ok(()),
            CommandClass::Keyed
            | CommandClass::Split(_)
            | CommandClass::Script
            | CommandClass::Blocking(_)
            | CommandClass::Publish => {}
            _ => {
                let text = format!("ERR '{}' cannot be part of a transaction through this proxy", call.command.name);
                return Err(text.into_bytes());
            }
        }
        let keys = self.keys_of(call);
        let Some(first) = keys.first() else {
            return Err(b"ERR a command without keys cannot be part of a transaction through this proxy".to_vec());
        };
        let single = self.topology.pools[pool.index()].redis.transactions == Transactions::Single;
        let split = matches!(call.plan.class, CommandClass::Split(_));
        let together = self.same_server(pool, first, keys[1..].iter().copied());
        if !together && (!split || single) {
            return Err(CROSS_SLOT.to_vec());
        }
        let queued = self.client(id).and_then(|client| client.queue.as_ref());
        if keys::has_patterns(call.command) {
            self.check_patterns(first, call)?;
        }
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
    pub(super) fn keys_of<'a>(&self, call: Call<'a>) -> Vec<&'a [u8]> {
        if call.plan.class == CommandClass::Publish {
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

    pub(super) fn exec(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        let pool = call.pool;
        let Some(session) = self.session(id) else { return Performed::Done };
        let idle = session.requests.is_empty();
        let Some(client) = session.redis_mut() else { return Performed::Done };
        if client.watch.is_some() && !idle {
            return Performed::Alone; // what was asked before it may change what is watched
        }
        let Some(queue) = client.queue.take() else {
            self.say_error(id, b"ERR EXEC without MULTI");
            return Performed::Done;
        };
        let version = client.version;
        self.charge_session(id);
        let guard = self.guard(id).map(|guard| self.guard_behind_invalidations(guard, now));
        let refusal: Option<&[u8]> = match guard {
            _ if queue.spoiled => Some(b"EXECABORT Transaction discarded because of previous errors."),
            Some(Guard::Refused) => Some(b"EXECABORT Transaction discarded because of a WATCH that failed."),
            _ => None,
        };
        if let Some(text) = refusal {
            self.say_error(id, text);
            self.end_watch(id, now);
            return Performed::Done;
        }
        if guard == Some(Guard::Broken) {
            self.say_broken(id, version, now);
            return Performed::Done;
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut commands = Vec::with_capacity(queue.requests.len());
        let mut spans = Vec::new();
        for Queued { raw, command } in &queue.requests {
            let args = request::args(raw, &mut spans);
            let part = Call { raw, args, command, plan: plan::of(command), ..call };
            if command.name == "script|flush" {
                self.forget_scripts(part);
            }
            commands.push(self.plan_command(id, part, &mut pieces, now));
        }
        let servers = pieces.iter().filter_map(|piece| piece.to.server());
        if self.servers.crowded() > 0
            && guard.is_none()
            && self.hold_back_for(id, pool, servers, false, (call.started, now))
        {
            if let Some(client) = self.redis(id) {
                client.queue = Some(queue);
            }
            self.charge_session(id);
            return Performed::Backpressured;
        }
        let selects = self.selects(call, &queue);
        if let Some(Guard::Holds(link, watched)) = guard {
            if pieces.iter().any(|piece| piece.to != To::Server(watched)) {
                self.refuse_request(id, CROSS_SLOT);
                self.end_watch(id, now);
                return Performed::Done;
            }
            if self.has_pending_selected(id, pool, watched, &selects) {
                // It is not carried out, so nothing that it was to change is to be forgotten.
                self.say_broken(id, version, now);
                return Performed::Done;
            }
            // The server is asked also if it has nothing to carry out: it alone knows whether a key was changed.
            let place = piece_of(&mut pieces, To::Server(watched));
            pieces[usize::from(place)].to = To::Link(watched, link);
            if let Some(session) = self.session(id) {
                session.requests.bar_next();
                session.redis_mut().map(|client| client.watch.take()); // EXEC ends it
            }
        }
        for piece in &mut pieces {
            if let Some(server) = piece.to.server()
                && self.has_pending_selected(id, pool, server, &selects)
            {
                piece.to = To::Nowhere(Some(server), Failure::Stalled);
            }
            encode::words(&mut piece.request, &[b"EXEC"]);
            piece.replies += 1;
            if !selects.is_empty() {
                let first = self.session_ref(id).map_or(0, |session| session.profile().database);
                encode::words(&mut piece.request, &[b"SELECT", first.to_string().as_bytes()]);
                piece.replies += 1;
            }
        }
        if !selects.is_empty()
            && let Some(session) = self.session(id)
        {
            session.requests.bar_next(); // what follows goes to the database that is selected then
        }
        let (asked, _) = self.asked(id, call);
        let plan = ExecPlan { commands, guarded: guard.is_some(), selects };
        let number = self.next_number(id);
        self.gather(id, asked, Marks::ONCE, How::Exec(Box::new(plan)), pieces, now);
        self.note_large(id, number, queue.bytes);
        Performed::Done
    }

    /// Answers an `EXEC` behind a watch that is not in force.
    fn say_broken(&mut self, id: SessionId, version: Version, now: Instant) {
        let mut body = Vec::new();
        encode::null_array(&mut body, version);
        self.say(id, &body);
        self.end_watch(id, now);
    }

    /// Whether something is pending in a database that a transaction selects: a connection sends that of its own only.
    fn has_pending_selected(&self, id: SessionId, pool: PoolId, server: ServerId, selects: &[(usize, u32)]) -> bool {
        let own = self.session_ref(id).map_or(0, |session| session.profile().database);
        let mut selected = selects.iter().map(|(_, database)| *database).filter(|database| *database != own);
        selected.any(|database| self.registry.has_pending_in(pool, server, Some(database)))
    }

    /// What a watch is worth while invalidations may be pending: a transaction must not find what somebody was told to
    /// be gone. Where that is forgotten first, its watch is broken if it was watched.
    fn guard_behind_invalidations(&mut self, guard: Guard, now: Instant) -> Guard {
        let Guard::Holds(link, server) = guard else { return guard };
        let pool = self.servers[link].pool();
        if self.member(pool, server).is_open() || !self.registry.has_pending(pool, server) {
            return guard;
        }
        // What its client has asked there without waiting for the answer may have been to select the database.
        let is_settled = self.servers[link].queue().is_free();
        if is_settled && self.catch_up(link, now).is_ok() { guard } else { Guard::Broken }
    }

    /// Appends one command of a transaction to the pieces of the servers that it concerns.
    fn plan_command(&self, id: SessionId, call: Call<'_>, pieces: &mut Vec<Piece>, now: Instant) -> Planned {
        let mut in_place = self.in_place(id, call);
        if matches!(call.plan.class, CommandClass::Everywhere(Everywhere::Flush)) {
            in_place.fallback = Fallback::NONE; // no key has to be forgotten for it
        }
        let here = |body: Vec<u8>| Planned { order: Vec::new(), parts: Vec::new(), kind: Kind::Here(body), in_place };
        match call.plan.class {
            CommandClass::Local(Local::Select) if self.database_of(call).is_none() => {
                let mut body = Vec::new();
                let is_number = Self::number(call.args.get(1)).is_some();
                encode::error(&mut body, if is_number { OUT_OF_RANGE } else { NO_INTEGER });
                here(body)
            }
            CommandClass::Local(local) if !matches!(local, Local::Select | Local::Role) => {
                here(self.answer_of(local, call.args, now))
            }
            CommandClass::Transaction(_) => here(b"+OK\r\n".to_vec()), // UNWATCH, which EXEC does anyway
            CommandClass::Split(split) => {
                let (parts, order) = self.pieces(call, split);
                let mut places = Vec::with_capacity(parts.len());
                for part in parts {
                    let place = piece_of(pieces, part.to);
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
                let server = self.pools[call.pool.index()].ring.route(key, 0);
                let place = piece_of(pieces, server.map_or(To::Nowhere(None, Failure::Ejected), To::Server));
                let piece = &mut pieces[usize::from(place)];
                piece.request.extend_from_slice(call.raw);
                piece.replies += 1;
                Planned { order: Vec::new(), parts: vec![place], kind: Kind::Whole, in_place }
            }
        }
    }

    /// The database that a `SELECT` names, if the pool has it.
    pub(super) fn database_of(&self, call: Call<'_>) -> Option<u32> {
        let databases = self.topology.pools[call.pool.index()].redis.databases;
        u32::try_from(Self::number(call.args.get(1))?).ok().filter(|number| *number < databases)
    }

    /// The databases that a transaction selects, each with the place of the answer among those of its server.
    fn selects(&self, exec: Call<'_>, queue: &Queue) -> Vec<(usize, u32)> {
        let (mut selects, mut place, mut spans) = (Vec::new(), 0, Vec::new());
        if !queue.requests.iter().any(|queued| queued.command.name == "select") {
            return selects;
        }
        for Queued { raw, command } in &queue.requests {
            let args = request::args(raw, &mut spans);
            let call = Call { raw, args, command, plan: plan::of(command), ..exec };
            match (call.plan.class, self.database_of(call)) {
                (CommandClass::Local(Local::Select), Some(database)) => selects.push((place, database)),
                (CommandClass::Local(local), _) if local != Local::Role => continue,
                (CommandClass::Transaction(_), _) => continue, // the server is not asked
                _ => {}
            }
            place += 1;
        }
        selects
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

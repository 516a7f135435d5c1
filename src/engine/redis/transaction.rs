//! Transactions: queued here, and sent as one `MULTI` ... `EXEC` to each server that takes part.
//!
//! Each server carries out its part at once, without anything in between; over several servers there is no such promise,
//! and a pool can refuse that (`transactions: single`). The answer has an element for each command in any case: a
//! command whose server failed gets what it would get by itself.
//!
//! What a `WATCH` guards goes through the connection that watches ([`watch`](super::watch)).

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::call::{Call, Performed};
use super::exec::ExecPlan;
use super::gather::How;
use super::keyed::CROSS_SLOT;
use super::long::MANY;
use super::planned::Planning;
use super::queue::{QUEUE_LIMIT, REQUEST_COST};
use super::watched::Guard;
use crate::config::model::{PoolId, ServerId, Transactions};
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::engine::servers::ticket::Marks;
use crate::engine::ways::To;
use crate::failure::Failure;
use crate::proto::resp::command::Flags;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::plan::{CommandClass, Local, Transaction};
use crate::proto::resp::{Version, encode, request};
use crate::time::Instant;

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
        let first_of_all = self.client(id).and_then(|client| client.queue.as_ref()?.first_key.as_deref());
        let together = if call.args.len() > MANY { self.are_compared(id, call) } else { None };
        let first = match self.queueable(call, first_of_all, together) {
            Ok(first) => first,
            Err(text) => return self.refuse_request(id, &text),
        };
        let ring_version = self.pools[call.pool.index()].ring_version;
        let (held, whole) = (self.held_by(id), self.whole_request(call.raw));
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
        queue.judged_by.get_or_insert(ring_version);
        if let Some(first) = first {
            queue.first_key.get_or_insert_with(|| first.into());
        }
        queue.push(call.raw, whole, call.command);
        self.say(id, b"+QUEUED\r\n");
        self.charge_session(id);
    }

    /// Whether a request can be part of a transaction whose first key is `first_of_all`. Its own first key, where all keys have
    /// to be one server's. Whether they are is `together`, if that is known.
    ///
    /// # Errors
    ///
    /// What is said of one that cannot.
    pub(super) fn queueable<'a>(
        &self,
        call: Call<'a>,
        first_of_all: Option<&[u8]>,
        together: Option<bool>,
    ) -> Result<Option<&'a [u8]>, Vec<u8>> {
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
                return Ok(None);
            }
            _ if self.is_of_one(pool) && is_for_one(call) => return Ok(None),
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
        let mut list = KeyList::default();
        let first = match call.plan.class {
            CommandClass::Publish => Some(1),
            _ if keys::keys(call.command, args, &mut list).is_ok() => list.iter().next(),
            _ => None,
        };
        let Some(first) = first.map(|place| args.get(place)) else {
            return Err(b"ERR a command without keys cannot be part of a transaction through this proxy".to_vec());
        };
        let single = self.topology.pools[pool.index()].redis.transactions == Transactions::Single;
        let split = matches!(call.plan.class, CommandClass::Split(_));
        let others = || list.from(1).map(|place| args.get(place));
        if (!split || single) && !together.unwrap_or_else(|| self.same_server(pool, first, others())) {
            return Err(CROSS_SLOT.to_vec());
        }
        if keys::has_patterns(call.command) {
            self.check_patterns(first, call)?;
        }
        if single && first_of_all.is_some_and(|key| !self.same_server(pool, key, std::iter::once(first))) {
            return Err(CROSS_SLOT.to_vec());
        }
        Ok(single.then_some(first))
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
        let Some(mut queue) = client.queue.take() else {
            self.say_error(id, b"ERR EXEC without MULTI");
            return Performed::Done;
        };
        let version = client.version;
        let planned = if queue.spoiled { Ok(true) } else { self.plan_on(id, call, &mut queue, now) };
        let is_ready = match planned {
            Ok(is_ready) => is_ready,
            // What it watches may be at another server as well: then it is to be tried again, as ever.
            Err(_) if self.guard(id).is_some() => {
                self.say_broken(id, version, now);
                self.charge_session(id);
                return Performed::Done;
            }
            Err(text) => {
                self.abort(id, &text, now);
                return Performed::Done;
            }
        };
        if let Some(client) = self.redis(id) {
            client.queue = Some(queue);
        }
        self.charge_session(id);
        if !is_ready {
            return Performed::Unready;
        }
        if self.warmup.is_on() && !self.is_warm_exec(id, call, now) {
            return Performed::Backpressured;
        }
        let Some(mut queue) = self.redis(id).and_then(|client| client.queue.take()) else { return Performed::Done };
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
        let Some(planning) = &queue.planning else { return Performed::Done };
        let servers = planning.pieces.iter().filter_map(|piece| piece.to.server());
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
        let Some(mut planning) = queue.planning.take() else { return Performed::Done };
        for (raw, command) in planning.forgets.iter().filter_map(|place| queue.get(*place)) {
            let mut spans = Vec::new();
            self.forget_scripts(Call { raw, args: request::args(raw, &mut spans), command, ..call });
        }
        let selects = std::mem::take(&mut planning.selects);
        if let Some(Guard::Holds(link, watched)) = guard {
            if planning.pieces.iter().any(|piece| piece.to != To::Server(watched)) {
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
            let place = planning.piece_of(To::Server(watched));
            planning.pieces[usize::from(place)].to = To::Link(watched, link);
            if let Some(session) = self.session(id) {
                session.requests.bar_next();
                session.redis_mut().map(|client| client.watch.take()); // EXEC ends it
            }
        }
        let answers = planning.pieces.iter().map(|piece| piece.replies - 1).collect();
        for piece in &mut planning.pieces {
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
        let Planning { pieces, commands, are_whole, .. } = *planning;
        let plan = ExecPlan { commands, guarded: guard.is_some(), selects, answers, are_whole };
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
}

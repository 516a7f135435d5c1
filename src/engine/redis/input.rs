//! A Redis client's bytes become requests, and each goes its command's way.

use super::call::{Call, Performed, Turn, Unfound};
use super::{Client, Replies};
use crate::engine::Engine;
use crate::engine::ids::SessionId;
use crate::outcome;
use crate::proto::http;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::{self, errors};
use crate::proto::resp::plan::{self, CommandClass, Local, Transaction};
use crate::proto::resp::request::{self, Limits, Parsed};
use crate::proto::resp::{Version, encode};
use crate::time::Instant;

/// Arguments that room is kept for.
const KEPT_SPANS: usize = 4 << 10;

impl Engine {
    /// Carries out what stands at the front of a client's input, which is not empty.
    #[inline(never)]
    pub(in crate::engine) fn redis_turn(
        &mut self,
        id: SessionId,
        input: &[u8],
        value_limit: usize,
        started: Instant,
        now: Instant,
    ) -> Turn {
        let Self { clients, redis, .. } = self;
        let spans = &mut redis.spans;
        let session = clients.get_mut(id);
        let Some(session) = session else { return Turn::Used(input.len()) };
        if session.requests.has_bar() && session.requests.is_empty() {
            session.requests.lift_bar();
        }
        let Some(client) = session.redis_mut() else { return Turn::Used(input.len()) };
        if client.is_occupied() {
            return Turn::Alone; // what was asked before is not done
        }
        if !client.swallow.is_none() {
            let swallowed = match &mut client.unread {
                Some(unread) => client.swallow.apply_to(input, |part| unread.see(part)),
                None => client.swallow.apply(input),
            };
            let is_over = client.swallow.is_none();
            let unread = client.unread.take_if(|_| is_over);
            if let Some(unread) = unread {
                self.fail_unread(id, &unread);
                return Turn::Used(swallowed.unwrap_or(input.len()));
            }
            return match swallowed {
                Ok(0) => {
                    session.input.await_more(input.len() + 1, false);
                    Turn::Incomplete
                }
                Ok(used) => Turn::Used(used),
                Err(text) => self.break_off(id, &text),
            };
        }
        let limits = Limits { value: value_limit, trusted: client.trusted };
        let mut spans = std::mem::take(spans);
        let parsed = request::parse(input, &mut client.progress, limits, &mut spans);
        let turn = match parsed {
            Parsed::Complete { len } if len > self.memory.large => {
                self.long_turn(id, &input[..len], &mut spans, started, now)
            }
            Parsed::Long { len } => self.long_turn(id, &input[..len], &mut spans, started, now),
            Parsed::Complete { len } => {
                let raw = &input[..len];
                self.redis_request(id, raw, Args::new(raw, &spans), started, now).turn(len)
            }
            Parsed::Incomplete { need } => {
                if input.first() == Some(&0x16) {
                    self.look_for_stranger(id, input, now);
                }
                if let Some(session) = self.session(id) {
                    // An inline request. Of an array, what has been read is not looked at again anyway.
                    session.input.await_more(need, need == input.len() + 1 && input[0] != b'*');
                }
                Turn::Incomplete
            }
            Parsed::Nothing { len } => Turn::Used(len),
            Parsed::Inline { len, array } => {
                let args = request::args(&array, &mut spans);
                if matches!(input.first(), Some(0x80 | 0x16)) {
                    self.look_for_stranger(id, input, now);
                }
                if command::find(args.get(0)).is_none() && http::is_line(args.get(0), args.iter().skip(1).last()) {
                    self.hang_up(id, now);
                    Turn::Used(len)
                } else {
                    self.redis_request(id, &array, args, started, now).turn(len)
                }
            }
            Parsed::TooLarge { len, rest } if self.fail_large_request(id, &input[..len], rest, started) => {
                Turn::Used(len)
            }
            Parsed::TooLarge { len, rest } => {
                if let Some(client) = self.redis(id) {
                    client.swallow = rest;
                    client.spoil();
                }
                self.refuse_request(id, b"ERR an argument of the request is larger than this proxy takes");
                Turn::Used(len)
            }
            Parsed::Broken(text) => self.break_off(id, &text),
        };
        spans.clear();
        spans.shrink_to(KEPT_SPANS);
        self.redis.spans = spans;
        turn
    }

    /// The stream can no longer be followed: says so, as Redis does, and ends the connection.
    fn break_off(&mut self, id: SessionId, text: &str) -> Turn {
        let mut body = Vec::new();
        encode::error(&mut body, format!("ERR Protocol error: {text}").as_bytes());
        self.answer(id, &body);
        if let Some(session) = self.session(id) {
            session.close();
            let pool = session.pool();
            self.counters.pool(pool).client_err.add(1);
            self.counters.pool(pool).refused_requests.add(1);
        }
        self.touch_session(id);
        Turn::Used(0)
    }

    /// Answers a request with an error of this program's own making. A transaction that is being queued is spoiled.
    pub(super) fn refuse_request(&mut self, id: SessionId, text: &[u8]) {
        if let Some(session) = self.clients.get_mut(id) {
            self.counters.pool(session.pool()).refused_requests.add(1);
            if let Some(client) = session.redis_mut() {
                client.spoil();
            }
        }
        self.say_error(id, text);
    }

    pub(super) fn redis_request(
        &mut self,
        id: SessionId,
        raw: &[u8],
        args: Args<'_>,
        started: Instant,
        now: Instant,
    ) -> Performed {
        let Some(pool) = self.pool_of(id) else { return Performed::Done };
        self.begin_request(outcome::Class::Other);
        let outcome = self.carry_out(id, raw, args, started, now);
        if outcome == Performed::Done {
            self.count_request(pool);
            self.end_request(pool, outcome::Outcome::Local);
        } else {
            self.put_off_request();
            self.undo_skip(id);
        }
        outcome
    }

    #[inline(always)]
    fn carry_out(&mut self, id: SessionId, raw: &[u8], args: Args<'_>, started: Instant, now: Instant) -> Performed {
        let found = self.redis.recent.find(args);
        let Some(session) = self.clients.get_mut(id) else { return Performed::Done };
        let pool = session.pool();
        let idle = session.requests.is_empty();
        let Some(client) = session.redis_mut() else { return Performed::Done };
        client.last = now;
        if let Ok((command, _)) = found {
            client.command = Some(command.name);
        }
        client.count_reply();
        let trusted = client.trusted;
        let bare = client.queue.is_none() && client.subscriptions.is_none();
        let found = match found {
            Ok(found) => found,
            Err(Unfound::Command) if http::is_attack(args.get(0)) => {
                self.hang_up(id, now);
                return Performed::Done;
            }
            // The server knows whether there is such a command.
            Err(Unfound::Command) if args.len() > 1 && self.topology.pools[pool.index()].redis.routes_unknown => {
                plan::unknown()
            }
            Err(unfound) => {
                self.refuse_request(id, &unfound.text(args));
                return Performed::Done;
            }
        };
        let (command, plan) = found;
        self.telemetry.at_hand = Some(plan.asks);
        if !command.accepts(args.len()) {
            let text = errors::wrong_arity(command.name);
            if command.name == "exec" {
                self.abort(id, &text, now);
            } else {
                self.refuse_request(id, &text);
            }
            return Performed::Done;
        }
        let call = Call { pool, raw, args, command, plan, started };
        if !trusted
            && !matches!(plan.class, CommandClass::Local(Local::Auth | Local::Hello | Local::Quit | Local::Reset))
        {
            self.refuse_request(id, b"NOAUTH Authentication required.");
            return Performed::Done;
        }
        if !bare {
            if client.version == Version::Resp2
                && client.is_subscribed()
                && !matches!(
                    plan.class,
                    CommandClass::Subscribe(_) | CommandClass::Local(Local::Ping | Local::Quit | Local::Reset)
                )
            {
                self.refuse_request(id, &errors::subscribed(command.name));
                return Performed::Done;
            }
            if client.queue.is_some()
                && (matches!(plan.class, CommandClass::Transaction(Transaction::Unwatch))
                    || !matches!(
                        plan.class,
                        CommandClass::Transaction(_) | CommandClass::Local(Local::Quit | Local::Reset)
                    ))
            {
                self.queue(id, call);
                return Performed::Done;
            }
        }
        if plan.alone && !idle {
            return Performed::Alone;
        }
        self.redis_perform(id, call, now)
    }

    /// A request will be looked at again: so will what it has to do with `CLIENT REPLY SKIP`.
    fn undo_skip(&mut self, id: SessionId) {
        if let Some(client) = self.redis(id)
            && client.replies == Replies::SkipThis
        {
            client.replies = Replies::SkipNext;
        }
    }

    /// Whether a client's pool has one server and no other.
    fn is_of_one_for(&self, id: SessionId) -> bool {
        self.session_ref(id).is_some_and(|session| self.is_of_one(session.pool()))
    }

    pub(super) fn redis_perform(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        if self.looks_first {
            return self.look_and_perform_call(id, call, now);
        }
        match call.plan.class {
            CommandClass::Keyed => return self.keyed(id, call, now),
            CommandClass::Split(split) => return self.split(id, call, split, now),
            CommandClass::Everywhere(everywhere)
                if call.raw.len() > self.memory.large && everywhere.is_copied() && !self.copies_are_ready(id, call) =>
            {
                return Performed::Unready;
            }
            CommandClass::Everywhere(_) if self.servers.crowded() > 0 && self.holds_back_all(id, call.started, now) => {
                return Performed::Backpressured;
            }
            CommandClass::Everywhere(everywhere) => self.everywhere(id, call, everywhere, now),
            CommandClass::Anywhere => return self.anywhere(id, call, now),
            CommandClass::OfOne | CommandClass::Local(Local::Role) if self.is_of_one_for(id) => {
                return self.anywhere(id, call, now);
            }
            CommandClass::Local(local) => self.local(id, call, local, now),
            CommandClass::Transaction(transaction) => match transaction {
                Transaction::Multi => self.multi(id),
                Transaction::Exec => return self.exec(id, call, now),
                Transaction::Discard => self.discard(id, now),
                Transaction::Watch => return self.watch(id, call, now),
                Transaction::Unwatch => self.unwatch(id, now),
            },
            CommandClass::Script => return self.script(id, call, now),
            CommandClass::Blocking(blocking) => return self.blocking(id, call, blocking, now),
            CommandClass::Subscribe(subscribe) => return self.subscribe(id, call, subscribe, now),
            CommandClass::Publish => return self.publish(id, call, now),
            CommandClass::Monitor => self.monitor(id, call, now),
            CommandClass::OfOne | CommandClass::Refused => self.refuse_request(id, &errors::refused(call.command.name)),
        }
        Performed::Done
    }
}

impl Client {
    /// A request was refused: if it was to be part of a transaction, there will be none.
    pub(super) fn spoil(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.spoiled = true;
        }
    }

    /// Its last request is being carried out here, in portions: one for many subscriptions, or about other clients.
    pub(crate) fn is_occupied(&self) -> bool {
        self.asking.is_some() || self.subscriptions.as_ref().is_some_and(|subscriptions| subscriptions.rest.is_some())
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscriptions.as_ref().is_some_and(|subscriptions| !subscriptions.is_empty())
    }
}

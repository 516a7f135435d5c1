//! A client's bytes become requests, and requests go to servers.

use super::clients::output::Output;
use super::clients::session::Session;
use super::dispatched::Dispatched;
use super::ids::SessionId;
use super::memcache::{FRUGAL_VALUE_LIMIT, class_of};
use super::redis::Turn;
use super::request::Slot;
use super::shared::Shared;
use super::{Engine, Timer, work};
use crate::config::model::PoolId;
use crate::outcome;
use crate::proto::memcache::request::{self, Parsed, Refusal, Skip};
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

/// Time that is left to requests which could not be carried out when they were read.
const GRACE: Duration = Duration::from_millis(40);

impl Engine {
    /// Takes bytes from a client and carries out the requests in them.
    pub(super) fn feed(&mut self, id: SessionId, data: &[u8], now: Instant) {
        let (mut rest, most) = (data, self.memory.limits().input);
        while let Some(session) = self.session(id)
            && !rest.is_empty()
        {
            if session.input.is_clear() {
                // The usual case: everything is parsed where it was read, nothing is copied.
                let used = self.parse(id, rest, now);
                let unused = &rest[used..];
                if !unused.is_empty()
                    && let Some(session) = self.session(id)
                {
                    session.input.keep(unused);
                }
                break;
            }
            // The rest of a request of which the beginning is kept, and no more: what follows is parsed where it lies.
            let (now_wanted, later) = rest.split_at(session.input.share(rest));
            rest = later;
            let is_whole = session.input.append(now_wanted, most, session.line_limits());
            self.charge_session(id);
            if is_whole {
                self.parse_partial(id, now);
            }
        }
        self.charge_session(id);
        if self.memory.held() > self.memory.limits().input {
            self.starve(id, 0, now);
        }
    }

    /// Goes on with the input of a client that had to wait.
    pub(super) fn resume(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session(id) else { return };
        if !session.may_go_on() {
            return;
        }
        if session.requests.end_wait_for_unheard() | session.requests.was_alone() {
            session.input.restart(now); // the time that a request may wait is not the next one's
        }
        self.parse_partial(id, now);
        self.charge_session(id);
        self.touch_session(id);
    }

    pub(super) fn parse_partial(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session(id) else { return };
        let is_redis = session.redis().is_some();
        let buffer = session.input.take();
        let (buffer, used) = if is_redis && buffer.len() > self.memory.large {
            self.parse_large(id, buffer, now)
        } else {
            let used = self.parse(id, &buffer, now);
            (buffer, used)
        };
        if let Some(session) = self.session(id) {
            session.input.put_back(buffer, used);
            if used > 0 {
                session.holding.begin_next();
                if session.holding.is_hoarder() {
                    self.turn_over(id, used);
                }
            }
        }
    }

    /// As [`Engine::parse`], of a buffer that may go on to a server. Returns what is left, and how much of that is used.
    #[cold]
    #[inline(never)]
    fn parse_large(&mut self, id: SessionId, buffer: Vec<u8>, now: Instant) -> (Vec<u8>, usize) {
        // Its room stays as it is: what is not whole yet is looked at once for each of its words.
        let buffer = Arc::new(buffer);
        self.memory.asked = Some(Arc::clone(&buffer));
        let used = self.parse(id, &buffer, now);
        self.memory.asked = None;
        Arc::try_unwrap(buffer).map_or_else(|buffer| (buffer[used..].to_vec(), 0), |buffer| (buffer, used))
    }

    /// The request at hand, to be sent on in the large buffer that it came in, if it did in one.
    pub(super) fn whole_request(&self, raw: &[u8]) -> Option<Shared> {
        if raw.len() > self.memory.large { Shared::of(raw, self.memory.asked.as_ref()?) } else { None }
    }

    /// Carries out the requests at the front of `input`; returns the number of bytes used.
    fn parse(&mut self, id: SessionId, input: &[u8], now: Instant) -> usize {
        let mut at = 0;
        let mut asked = false;
        let mut carried_out = false;
        let Some(session) = self.session(id) else { return input.len() };
        let is_short_until = session.input.short_turns_until();
        let pool = session.pool();
        let paused = session.input.resume();
        let started = paused.map_or(now, |since| self.restarted(id, since, now));
        let pause = |session: &mut Session| {
            let unread_since = (session.pending_output() > 0).then_some(now);
            session.input.pause(paused.unwrap_or(now), unread_since);
        };
        self.work.begin(id, now, is_short_until);
        while let Some(session) = self.session(id) {
            session.input.begin_message();
            if std::mem::take(&mut carried_out) {
                session.input.let_go();
            }
            if session.is_closing() {
                at = input.len(); // behind a `quit` nothing is read
                break;
            }
            at += session.input.skip(&input[at..]);
            if at == input.len() {
                break;
            }
            if session.input.is_skipping() {
                continue;
            }
            if !session.has_room() {
                pause(session);
                self.look_for_unheard(id, now);
                break;
            }
            let (frugal, is_long) = (session.input.refuses_large(), session.input.has_long_get());
            if self.work.is_over() {
                self.end_turn(id, paused.unwrap_or(now), now);
                break;
            }
            if is_long {
                match self.continue_long_get(id, &input[at..], now) {
                    Some(used) => at += used,
                    None => {
                        self.session(id).map(pause);
                        break;
                    }
                }
                continue;
            }
            let value_limit = if frugal { FRUGAL_VALUE_LIMIT } else { self.value_limit(pool) };
            if self.pools[pool.index()].redis {
                match self.redis_turn(id, &input[at..], value_limit, started, now) {
                    Turn::Used(used) => {
                        at += used;
                        self.work.cost += work::REQUEST;
                        asked = true;
                        carried_out = true;
                        continue;
                    }
                    // An array is looked at once for each of its words.
                    Turn::Incomplete => self.work.cost += work::KEY,
                    Turn::Alone => {
                        if let Some(session) = self.session(id) {
                            session.requests.bar_next();
                            pause(session);
                        }
                    }
                    // The time of a request begins when it is ready.
                    Turn::Unready => self.end_turn(id, now, now),
                    Turn::Backpressured => {
                        self.session(id).map(pause);
                        self.time_session(id, started);
                    }
                }
                break;
            }
            let rest = &input[at..];
            if let Some((key, len)) = request::lone_get(rest) {
                asked = true;
                if self.lone_get(id, key, &rest[..len], started, now) == Dispatched::Backpressured {
                    self.wait_for_room(id, paused.unwrap_or(now), started);
                    break;
                }
                at += len;
                self.work.cost += work::REQUEST;
                self.count_request(pool);
                carried_out = true;
                continue;
            }
            match request::parse(rest, value_limit) {
                Parsed::Incomplete { need } => {
                    if let Some(session) = self.session(id) {
                        let in_line = need == rest.len() + 1 && memchr::memchr(b'\n', rest).is_none();
                        session.input.await_more(need, in_line);
                    }
                    break;
                }
                Parsed::Complete { len, request } => {
                    asked = true;
                    if len > self.memory.large && !self.weigh(id, len, started, now) {
                        self.session(id).map(pause);
                        self.time_session(id, started);
                        break;
                    }
                    self.begin_request(class_of(&request));
                    let number = (len > self.memory.large).then(|| self.next_number(id));
                    let outcome = self.perform(id, request, started, now);
                    self.memory.refuses = false;
                    if let Some(number) = number {
                        self.note_large(id, number, len);
                    }
                    match outcome {
                        Dispatched::Done => {
                            at += len;
                            self.count_request(pool);
                            self.end_request(pool, outcome::Outcome::Local);
                        }
                        Dispatched::Begun(left) => {
                            self.telemetry.at_hand = None; // its last part ends it
                            self.count_request(pool);
                            at += len - left;
                            if let Some(session) = self.session(id) {
                                session.input.restart_long_get(paused.unwrap_or(now)); // each part is restarted by itself
                            }
                        }
                        Dispatched::Backpressured => {
                            self.wait_for_room(id, paused.unwrap_or(now), started);
                            break;
                        }
                    }
                    carried_out = true;
                }
                Parsed::Refused { len, refusal: Refusal::TooLarge, skip, .. }
                    if frugal && self.fail_large(id, &rest[..len], started, now) =>
                {
                    at += len;
                    if let Some(session) = self.session(id) {
                        session.input.skip_on(skip);
                    }
                }
                Parsed::Refused { len, refusal: Refusal::TooLarge, silent, skip } => {
                    match self.forget_refused(id, &rest[..len], started, now) {
                        Some(Dispatched::Backpressured) => {
                            self.wait_for_room(id, paused.unwrap_or(now), started);
                            break;
                        }
                        Some(Dispatched::Done | Dispatched::Begun(_)) => carried_out = true,
                        None => self.count_refused(id),
                    }
                    at += len;
                    self.refuse(id, Refusal::TooLarge.line(), silent, skip);
                }
                Parsed::Refused { len, refusal, silent, skip } => {
                    if refusal == Refusal::Unknown {
                        self.look_for_stranger(id, rest, now);
                    }
                    at += len;
                    self.count_refused(id);
                    self.refuse(id, refusal.line(), silent, skip);
                }
                Parsed::Http => self.hang_up(id, now),
                Parsed::Foreign => {
                    self.look_for_stranger(id, rest, now);
                    self.count_refused(id);
                    self.refuse(id, Refusal::Unknown.line(), false, Skip::NONE);
                    if let Some(session) = self.session(id) {
                        session.close();
                        let pool = session.pool();
                        self.counters.pool(pool).client_err.add(1);
                    }
                }
            }
            self.work.cost += work::REQUEST;
        }
        if asked {
            self.arm_session(id);
        }
        at
    }

    /// The request at hand has to wait for a server's queue to drain: a client is not read on that sent it at `since`.
    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, id: SessionId, since: Instant, started: Instant) {
        let Some(session) = self.session(id) else { return };
        session.input.pause(since, None);
        self.put_off_request();
        // Once only: when it has fired, the request is carried out or failed, and never waits again.
        self.time_session(id, started);
    }

    /// There is no room for what a client has sent next: if its requests that want no answer are too many, it goes on when
    /// half of them are done. It does so as well when they take longer than a request may, as nobody is told of those.
    #[cold]
    #[inline(never)]
    fn look_for_unheard(&mut self, id: SessionId, now: Instant) {
        if let Some(session) = self.session(id).filter(|session| session.requests.is_full_of_unheard()) {
            session.requests.wait_for_unheard(now);
            self.time_session(id, now);
        }
    }

    /// Whether the request at hand has to wait until those of its client have been carried out that want no answer. It does so
    /// until its own time is over.
    pub(super) fn waits_for_unheard(&mut self, id: SessionId, started: Instant) -> bool {
        self.session(id).is_some_and(|session| session.requests.wait_for_all_unheard(started))
    }

    /// When requests count as started that were read at `since` and could not be carried out before `now`.
    ///
    /// Their time runs from when they were read. A little of it is left to them even so, once, so that those for servers
    /// that are well are not lost with those that they waited behind. None starts before one that it comes behind: those may
    /// have been carried out when `timeout` was another.
    #[cold]
    pub(super) fn restarted(&self, id: SessionId, since: Instant, now: Instant) -> Instant {
        let Some(session) = self.session_ref(id) else { return since };
        // The time of one that blocks may begin later: nothing that comes behind it has that long.
        let latest = session.requests.latest_start().filter(|latest| *latest <= now).unwrap_or(since);
        let Some(timeout) = self.timeout(session.pool()) else { return since.max(latest) };
        let least = now + GRACE.min(timeout);
        let started = if since + timeout >= least { since } else { least.before(timeout).min(since + GRACE) };
        started.max(latest)
    }

    /// The largest value that is taken: one that memory would never be enough for is not begun with.
    #[inline]
    pub(super) fn value_limit(&self, pool: PoolId) -> usize {
        self.topology.pools[pool.index()].value_limit.min(self.memory.limits().common)
    }

    /// Closes a client's connection at once, with no word of what it asked before either: it does not speak the protocol,
    /// and what it says may not be its own.
    #[cold]
    #[inline(never)]
    pub(super) fn hang_up(&mut self, id: SessionId, now: Instant) {
        self.tell_of_stranger(id, super::Language::Http, now);
        self.give_up_waiting(id);
        let Some(session) = self.session(id) else { return };
        session.output = Output::default();
        let pool = session.pool();
        self.end_request(pool, outcome::Outcome::Refused);
        self.counters.pool(pool).client_err.add(1);
        self.counters.pool(pool).refused_requests.add(1);
        self.charge_session(id);
        self.touch_session(id);
    }

    fn count_refused(&self, id: SessionId) {
        if let Some(session) = self.session_ref(id) {
            self.counters.pool(session.pool()).refused_requests.add(1);
        }
    }

    fn refuse(&mut self, id: SessionId, line: &[u8], silent: bool, skip: Skip) {
        if let Some(session) = self.session(id) {
            session.input.skip_on(skip);
        }
        if !silent {
            self.answer(id, line);
        }
    }

    /// Sets the client's timer, if it has a request in flight and no timer yet.
    pub(super) fn arm_session(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        if session.requests.is_timed() && !session.requests.is_alone() {
            return;
        }
        let since = session.requests.front().filter(|slot| slot.waiting() > 0).map(Slot::started);
        if let Some(since) = since {
            self.time_session(id, since);
        }
    }

    /// Sets the client's timer to the deadline of what started at `since`, unless it fires earlier.
    pub(super) fn time_session(&mut self, id: SessionId, since: Instant) {
        let Some(session) = self.session(id) else { return };
        let pool = session.pool();
        let at = self.deadline(pool, since);
        self.wake_session(id, at);
    }

    /// Sets the client's timer to a time, unless it fires earlier.
    pub(super) fn wake_session(&mut self, id: SessionId, at: Instant) {
        if self.session(id).is_some_and(|session| session.requests.timer().set(at)) {
            self.timers.set(at, Timer::Session(id));
        }
    }
}

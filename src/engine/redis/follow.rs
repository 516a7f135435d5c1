//! Requests that wait on a server that their key has left, because another server is back in the ring or this one leaves
//! it: they go on waiting where the key belongs, for what is left of their time, and their client notices nothing.
//!
//! Nothing that a server has given away is lost on the way. A request is never simply cut off, for the server may just
//! have popped something for it: the server is told on another connection to end it (`CLIENT UNBLOCK`), and then answers
//! on the first one, either what it had popped before, which the client gets, or that nothing has come. Only behind that
//! word is the key's new server asked. A connection that was left like this is closed as soon as it is free, so that what
//! ends one request there can never end another.
//!
//! Of a server that is gone nothing can be heard any more: what waited on a connection to it that was still open is asked
//! anew at once, and what had come of an answer by then is a failure.

use super::waiting::{Name, Unblocked, Waiting};
use std::time::Duration;

use super::call::find;
use super::dedicated::{Use, block_place};
use super::keyed::CROSS_SLOT;
use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::chore::Chore;
use crate::engine::clients::session::Session;
use crate::engine::deadline::Timer;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::engine::servers::{Connection, Dedicated};
use crate::failure::Failure;
use crate::health::maintenance::RoutingState;
use crate::outcome::Outcome;
use crate::proto::resp::args::Args;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::plan::{Blocking, CommandClass};
use crate::proto::resp::{encode, request};
use crate::time::Instant;

/// How soon it is looked again at those that wait where they should not: the server had not read what they ask yet, or it
/// could not be told to end them.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is left of a request's time is given to another server if it is at least so much.
const LEAST: Duration = Duration::from_millis(1);

/// What becomes of a request to which a server says that nothing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nothing {
    /// It is told.
    Told,
    /// It is told as an error: its client was unblocked so while the server ended it for another reason.
    Refused,
    /// It is asked elsewhere.
    Followed,
}

/// What Redis says to a client that is unblocked with an error.
pub(super) const UNBLOCKED: &[u8] = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";

/// Where a request belongs that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Server(ServerId),
    /// Its keys belong to several servers.
    Several,
    /// Nobody is there, or it names no keys.
    Nowhere,
}

/// Whether a request waits where its key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// It does, or there is nowhere else to ask.
    Home,
    /// The server that its key belongs to must forget something before it is asked.
    NotYet,
    Away,
}

impl Engine {
    /// Looks at the clients' own connections from a place on, whether something waits there whose key has left; says how
    /// many were looked at.
    pub(in crate::engine) fn follow_on(&mut self, pool: PoolId, from: usize, budget: usize, now: Instant) -> usize {
        let end = self.servers.len().min(from.saturating_add(budget));
        let is_its = |(id, link): (LinkId, &Connection)| (link.pool() == pool).then_some(id);
        let its: Vec<_> = self.servers.iter_from(from).take(end.saturating_sub(from)).filter_map(is_its).collect();
        for id in its {
            if !self.servers.has(id) {
                continue; // it has ended with another's
            }
            match self.whereabouts(id) {
                Whereabouts::Away => self.end_waiting(id, now),
                Whereabouts::NotYet => self.follow_later(pool, now),
                Whereabouts::Home => {}
            }
        }
        if end < self.servers.len() {
            self.put_off(Chore::Follow(pool, end), now);
        }
        end.saturating_sub(from)
    }

    /// Looks at all that wait in a pool.
    pub(in crate::engine) fn follow_all(&mut self, pool: PoolId, now: Instant) {
        let state = &mut self.pools[pool.index()];
        state.follows = false;
        if state.dedicated > 0 {
            self.put_off(Chore::Follow(pool, 0), now);
        }
    }

    pub(super) fn follow_later(&mut self, pool: PoolId, now: Instant) {
        if !std::mem::replace(&mut self.pools[pool.index()].follows, true) {
            self.timers.set(now + LOOK_AGAIN, Timer::Follow(pool));
        }
    }

    /// Whether a server may be told to end what waits on a connection to it, so that it need not be cut off; perhaps when it
    /// has said what it calls the connection.
    pub(in crate::engine) fn can_end(&self, id: LinkId) -> bool {
        let link = &self.servers[id];
        let name = link.dedicated().map_or(Name::Unasked, |own| own.waiting.name);
        let is_asked = name == Name::Asked && link.is_up();
        waiting_request(link).is_some() && (is_asked || matches!(name, Name::Told(_)))
    }

    /// The server of a client's own connection has left. Whether what is in flight there is answered all the same: the
    /// connection is closed behind that. What waits is ended first.
    pub(in crate::engine) fn may_finish(&mut self, id: LinkId) -> bool {
        let link = &self.servers[id];
        let is_asked = link.is_up() && !link.queue().is_empty() && !link.listens();
        let finishes = is_asked && (waiting_request(link).is_none() || self.can_end(id));
        if finishes {
            self.servers[id].retire();
        }
        finishes
    }

    /// Whether what waits on a connection, if anything does, belongs to another server.
    fn whereabouts(&self, id: LinkId) -> Whereabouts {
        let link = &self.servers[id];
        let Some(request) = waiting_request(link) else { return Whereabouts::Home };
        let routing = self.pools[link.pool().index()].routing[link.server().index()];
        if is_unblocked(link) || matches!(routing, RoutingState::Maintenance | RoutingState::Left) {
            return Whereabouts::Away; // nothing is to wait there, be there another place for it or not
        }
        match self.home_of_waiting(link.pool(), request) {
            Home::Server(home) if home == link.server() || !self.pools[link.pool().index()].live[home.index()] => {
                Whereabouts::Home
            }
            Home::Server(home) if self.registry.awaits_flush(link.pool(), home, Some(link.profile().database)) => {
                Whereabouts::NotYet
            }
            Home::Server(_) | Home::Several => Whereabouts::Away,
            Home::Nowhere => Whereabouts::Home,
        }
    }

    fn home_of_waiting(&self, pool: PoolId, request: &[u8]) -> Home {
        let mut spans = Vec::new();
        let args = request::args(request, &mut spans);
        let mut list = KeyList::default();
        let Ok((command, _)) = find(args) else { return Home::Nowhere };
        if keys::keys(command, args, &mut list).is_err() {
            return Home::Nowhere;
        }
        let mut keys = list.iter().map(|place| args.get(place));
        let Some(key) = keys.next() else { return Home::Nowhere };
        if !self.same_server(pool, key, keys) {
            return Home::Several;
        }
        self.pools[pool.index()].ring.route(key, 0).map_or(Home::Nowhere, Home::Server)
    }

    /// A server says that nothing has come, on a connection where what waits was perhaps to be ended: it is asked where its
    /// key belongs, unless its time is over or its client was unblocked.
    #[cold]
    pub(super) fn follow(&mut self, id: LinkId, ticket: Ticket) -> Nothing {
        let link = &self.servers[id];
        let (pool, server, now) = (link.pool(), link.server(), link.silence.since());
        let Some(&Dedicated { waiting: Waiting { leaves, unblocked, .. }, .. }) = link.dedicated() else {
            return Nothing::Told;
        };
        match unblocked {
            Some(Unblocked::Refused) => return Nothing::Refused,
            Some(Unblocked::TimedOut) => return Nothing::Told,
            None if !leaves || !self.has_time(ticket, now) => return Nothing::Told,
            None => {}
        }
        let link = &mut self.servers[id];
        let end = link.queue().front_end();
        let request = link.queue().front_request(ticket).to_vec();
        link.pop();
        self.release(id, end);
        // What it said is for this program alone; the request goes on as another one.
        self.counters.server(pool, server).outcomes[Outcome::Own as usize].add(1);
        self.leave_link(id, ticket);
        self.ask_at_home((pool, server), ticket, &request, now);
        Nothing::Followed
    }

    /// Whether somebody waits for the answer to a ticket, and may for a while.
    fn has_time(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some((id, number)) = ticket.client() else { return false };
        let slot = self.session(id).and_then(|session| session.slot_mut(number));
        slot.is_some_and(|slot| slot.waiting() > 0 && slot.started() >= now + LEAST)
    }

    /// What waited on a connection that was given up because its server has left the ring, and can be asked elsewhere.
    #[inline(never)]
    pub(in crate::engine) fn take_waiting(&mut self, id: LinkId, now: Instant) -> Option<(Ticket, Vec<u8>)> {
        let link = &self.servers[id];
        let request = waiting_request(link).filter(|_| !is_unblocked(link))?.to_vec();
        let (ticket, server) = (link.queue().back()?, link.server());
        let home = self.home_of_waiting(link.pool(), &request);
        (home != Home::Server(server) && self.has_time(ticket, now)).then_some((ticket, request))
    }

    /// Asks what has waited at a server where its key belongs.
    pub(in crate::engine) fn ask_at_home(
        &mut self,
        (pool, old): (PoolId, ServerId),
        ticket: Ticket,
        request: &[u8],
        now: Instant,
    ) {
        let Some((id, number)) = ticket.client() else { return };
        let slot = self.session(id).and_then(|session| session.slot_mut(number));
        let Some(started) = slot.map(|slot| slot.started()) else { return };
        let (server, link) = match self.home_of_waiting(pool, request) {
            Home::Server(home) => (home, self.dedicate(id, pool, home, Use::Ask, now)),
            Home::Several => return self.refuse_waiting(id, number, CROSS_SLOT),
            Home::Nowhere => (old, Err(Failure::Ejected)),
        };
        let link = match link {
            Ok(link) => link,
            Err(failure) => return self.fail_part(id, server, number, ticket.fragment, failure),
        };
        self.learn_name(link, now);
        let (start, out) = self.servers[link].append();
        write_rest(out, request, started, now);
        self.push_ticket(link, Ticket { start, ..ticket }, now);
        if let Some(slot) = self.session(id).and_then(|session| session.slot_mut(number)) {
            slot.goes_to(server);
        }
        self.counters.server(pool, server).resends.add(1);
    }

    /// Answers with an error what has waited.
    #[cold]
    fn refuse_waiting(&mut self, id: SessionId, number: u32, text: &[u8]) {
        let Some(session) = self.session(id) else { return };
        let pool = session.pool();
        let mut body = Vec::new();
        encode::error(&mut body, text);
        session.requests.settle(number, body, Outcome::Refused);
        self.counters.pool(pool).refused_requests.add(1);
        self.advance(id);
        self.charge_session(id);
    }

    /// Whether a client is to be told of this failure of what it waits for by the end of its connection.
    ///
    /// That is what it sees of a bare server that dies, so what clients do then works: they connect again and ask again.
    /// An error in place of a job ends the workers of several queue systems. One that watches is told in words: its `EXEC` is
    /// still to say that nothing was carried out.
    pub(in crate::engine) fn ends_waiting(&self, id: SessionId, failure: Failure) -> bool {
        let is_lost = matches!(
            failure,
            Failure::Ejected
                | Failure::Refused
                | Failure::Unreachable
                | Failure::Unresolved
                | Failure::NoSocket
                | Failure::TimedOut
                | Failure::Closed
                | Failure::Reset
                | Failure::Full
                | Failure::Protocol
                | Failure::Stalled
        );
        let watches_nothing = |session: &Session| session.redis().is_some_and(|client| client.watch.is_none());
        let is_told = |session: &Session| self.policy(session.pool()).tells();
        is_lost && self.session_ref(id).is_some_and(|session| is_told(session) && watches_nothing(session))
    }

    /// Ends the connection of a client that waits for something on a server that has failed. What it was answered before is
    /// written out.
    #[cold]
    pub(in crate::engine) fn hang_up_waiting(&mut self, id: SessionId, server: Option<ServerId>, failure: Failure) {
        let Some(session) = self.session(id) else { return };
        let pool = session.pool();
        session.requests.settle(session.requests.first_number(), Vec::new(), Outcome::Failed);
        self.end_request(pool, Outcome::Failed);
        self.count_failure(pool, server, failure);
        self.counters.pool(pool).forward_error.add(1);
        self.give_up_waiting(id);
        self.touch_session(id);
    }
}

/// Whether somebody has unblocked the client whose own connection it is.
fn is_unblocked(link: &Connection) -> bool {
    link.dedicated().is_some_and(|own| own.waiting.unblocked.is_some())
}

/// The request that waits on a connection of a client's own, if one does.
pub(super) fn waiting_request(link: &Connection) -> Option<&[u8]> {
    let ticket = link.queue().back()?;
    (ticket.client().is_some() && ticket.is(Marks::WAITS) && !link.listens()).then(|| link.queue().request_on(ticket))
}

/// Appends a request that waits with what is left of its time, which ends at `until`.
fn write_rest(out: &mut Vec<u8>, raw: &[u8], until: Instant, now: Instant) {
    let mut spans = Vec::new();
    let args = request::args(raw, &mut spans);
    let place = find(args).ok().and_then(|(_, plan)| time_place(plan.class, args));
    let Some((place, seconds)) = place.filter(|_| until != Instant::NEVER) else {
        return out.extend_from_slice(raw);
    };
    let millis = (until - now).as_millis().max(1);
    let text = if seconds { format!("{}.{:03}", millis / 1000, millis % 1000) } else { millis.to_string() };
    let mut words: Vec<&[u8]> = args.iter().collect();
    words[place] = text.as_bytes();
    encode::command(out, words.into_iter());
}

/// Where a request says how long it may wait, and whether in seconds.
fn time_place(class: CommandClass, args: Args<'_>) -> Option<(usize, bool)> {
    let CommandClass::Blocking(blocking) = class else { return None };
    match blocking {
        Blocking::Last => Some((args.len() - 1, true)),
        Blocking::First => Some((1, true)),
        Blocking::LastMillis => Some((args.len() - 1, false)),
        Blocking::Option => block_place(args).map(|place| (place, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_on_with_what_is_left_of_its_time() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let rest = |line: &[u8], until: Instant| {
            let (mut raw, mut out, mut spans) = (Vec::new(), Vec::new(), Vec::new());
            encode::command(&mut raw, line.split(|byte| *byte == b' ').collect::<Vec<_>>().into_iter());
            write_rest(&mut out, &raw, until, at(1000));
            let args = request::args(&out, &mut spans);
            args.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(rest(b"BLPOP a b 5", at(5500)), "BLPOP a b 4.500");
        assert_eq!(rest(b"BLPOP a 0", Instant::NEVER), "BLPOP a 0");
        assert_eq!(rest(b"BZMPOP 5 1 a MIN", at(1001)), "BZMPOP 0.001 1 a MIN");
        assert_eq!(rest(b"BLMOVE a b LEFT RIGHT 2", at(2999)), "BLMOVE a b LEFT RIGHT 1.999");
        assert_eq!(rest(b"XREAD COUNT 1 block 900 STREAMS s $", at(1234)), "XREAD COUNT 1 block 234 STREAMS s $");
        assert_eq!(rest(b"BLPOP a 5", at(1000)), "BLPOP a 0.001", "0 would mean for ever");
    }
}

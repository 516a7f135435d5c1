//! Subscriptions: a connection of the client's own to each server that one of its channels belongs to.
//!
//! A channel belongs to one server, as a key does, and what is published goes there; a pattern is subscribed to on all
//! servers, and so is a channel on which each server tells what happens to its own keys. Servers confirm each subscription, and the client is told when all of them have; the count that it is told is
//! of all its subscriptions together. When a server fails, or the ring changes, what was subscribed to there is
//! subscribed to where it belongs now, and the client is told nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::call::{Call, Performed};
use super::dedicated::Use;
use super::gather::{Added, How};
use super::piece::Piece;
use super::subscriptions::{Kind, NAME_COST, Rest, Subscriptions};
use crate::config::model::ServerId;
use crate::engine::buffers::LARGE;
use crate::engine::chore::{Chore, PORTION};
use crate::engine::deliver::{Delivery, Step};
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::servers::ticket::Marks;
use crate::engine::ways::To;
use crate::engine::{Engine, server_id, work};
use crate::failure::Failure;
use crate::proto::memcache::response::{Status, Violation};
use crate::proto::resp::encode;
use crate::proto::resp::plan::Subscribe;
use crate::proto::resp::reply::{self, Reply, Scanned};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Bytes of messages that may wait for a subscriber; one that reads slower than that is cut off, as Redis does.
const BACKLOG_LIMIT: usize = 32 << 20;

/// Bytes of names that a client may be subscribed to.
const NAMES_LIMIT: usize = 4 << 20;

/// Servers, and what each of them is to be told.
type Names = BTreeMap<ServerId, Vec<Box<[u8]>>>;

/// What becomes of a link after a message that came on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    GoesOn,
    IsOver,
}

impl After {
    /// So many bytes of `input` are used, or all of them, as nobody is there for the rest.
    pub(super) const fn of(self, len: usize, input: &[u8]) -> Step {
        Step::Used(match self {
            Self::GoesOn => len,
            Self::IsOver => input.len(),
        })
    }
}

impl Engine {
    pub(super) fn publish(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        self.send_keyed(id, call, call.args.get(1), now)
    }

    pub(super) fn subscribe(&mut self, id: SessionId, call: Call<'_>, subscribe: Subscribe, now: Instant) -> Performed {
        let (kind, adds) = match subscribe {
            Subscribe::Channels => (Kind::Channel, true),
            Subscribe::Patterns => (Kind::Pattern, true),
            Subscribe::Shards => (Kind::Shard, true),
            Subscribe::NoChannels => (Kind::Channel, false),
            Subscribe::NoPatterns => (Kind::Pattern, false),
            Subscribe::NoShards => (Kind::Shard, false),
        };
        let client = self.redis(id);
        let held = client.and_then(|client| client.subscriptions.as_ref()).map_or(0, |known| known.bytes());
        if adds && held + call.args.iter().skip(1).map(<[u8]>::len).sum::<usize>() > NAMES_LIMIT {
            self.refuse_request(id, b"ERR too many subscriptions for one connection of this proxy");
            return Performed::Done;
        }
        let (next, steps) = if adds {
            self.add_subscriptions(id, call, kind, 1, PORTION, now)
        } else {
            self.drop_subscriptions(id, call, kind, 1, PORTION, now)
        };
        self.work.cost += steps * work::REQUEST;
        if let Some(next) = next {
            self.put_off_rest(id, call, kind, adds, next, now);
        }
        Performed::Done
    }

    /// Keeps what is left of a long request. Servers and clients take it for one of many requests: each name is confirmed
    /// by itself.
    #[cold]
    fn put_off_rest(&mut self, id: SessionId, call: Call<'_>, kind: Kind, adds: bool, next: usize, now: Instant) {
        let Some(client) = self.redis(id) else { return };
        let rest = Rest {
            raw: call.raw.to_vec(),
            spans: call.args.spans().to_vec(),
            command: call.command,
            plan: call.plan,
            kind,
            adds,
            next,
        };
        client.subscriptions.get_or_insert_default().rest = Some(Box::new(rest));
        self.put_off(Chore::Subscribe(id), now);
    }

    /// Goes on with a long request; says how many steps that took.
    pub(in crate::engine) fn subscribe_on(&mut self, id: SessionId, budget: usize, now: Instant) -> usize {
        let Some(session) = self.session(id) else { return 0 };
        let (pool, client) = (session.pool(), session.redis_mut());
        let Some(subscriptions) = client.and_then(|client| client.subscriptions.as_mut()) else { return 0 };
        let Some(mut rest) = subscriptions.rest.take() else { return 0 };
        let Rest { command, plan, kind, adds, next, .. } = *rest;
        let call = Call { pool, raw: &rest.raw, args: rest.args(), command, plan, started: now };
        let (next, steps) = if adds {
            self.add_subscriptions(id, call, kind, next, budget, now)
        } else {
            self.drop_subscriptions(id, call, kind, next, budget, now)
        };
        match (next, self.redis(id).and_then(|client| client.subscriptions.as_mut())) {
            (Some(next), Some(subscriptions)) => {
                rest.next = next;
                subscriptions.rest = Some(rest);
                self.put_off(Chore::Subscribe(id), now);
            }
            _ => self.clients.resume_soon(id), // what came behind it may go on
        }
        self.charge_session(id);
        self.touch_session(id);
        steps
    }

    /// The servers that a name is to be subscribed to on, in order.
    pub(super) fn homes(&self, id: SessionId, kind: Kind, name: &[u8]) -> Vec<ServerId> {
        let Some(session) = self.session_ref(id) else { return Vec::new() };
        let pool = &self.pools[session.pool().index()];
        let is_live = |server: &ServerId| pool.live[server.index()];
        if kind.is_everywhere(name) {
            return (0..pool.live.len()).map(server_id).filter(is_live).collect();
        }
        pool.ring.route(name, 0).into_iter().filter(is_live).collect()
    }

    /// Subscribes to the arguments of a request from a place on, as far as `budget` goes. Returns the place of the next, if
    /// there is one, and the steps taken.
    fn add_subscriptions(
        &mut self,
        id: SessionId,
        call: Call<'_>,
        kind: Kind,
        mut place: usize,
        budget: usize,
        now: Instant,
    ) -> (Option<usize>, usize) {
        let version = self.version(id);
        let (mut body, mut to, mut added, mut steps) = (Vec::new(), Names::new(), Added::new(), 0);
        let portion = place..call.args.len().min(place.saturating_add(budget));
        if self.lacks_hearing(id, kind, portion.map(|place| call.args.get(place))) {
            self.refuse_connection(id);
            return (None, budget);
        }
        let names = call.args.iter().skip(place).take(budget);
        if !self.make_room_for_names(id, names.map(|name| NAME_COST + 3 * name.len()).sum()) {
            return (None, budget);
        }
        while place < call.args.len() && steps < budget {
            let name = call.args.get(place);
            let homes = self.homes(id, kind, name);
            let Some(client) = self.redis(id) else { return (None, steps) };
            let subscriptions = client.subscriptions.get_or_insert_default();
            steps += 1;
            if subscriptions.add(kind, name) {
                steps += homes.len();
                added.push((kind, name.into()));
                homes.into_iter().for_each(|server| to.entry(server).or_default().push(name.into()));
            }
            encode::push(&mut body, 3, version);
            encode::bulk(&mut body, kind.subscribe());
            encode::bulk(&mut body, name);
            encode::integer(&mut body, subscriptions.told_count(kind));
            place += 1;
        }
        let pieces =
            to.into_iter().filter_map(|(server, names)| self.subscription(id, kind, server, &names, now)).collect();
        self.confirm(id, call, (body, added), pieces, now);
        ((place < call.args.len()).then_some(place), steps)
    }

    /// Makes room for names of a client that keeps them for as long as it likes: where there is none, who holds most goes,
    /// before those are refused that hold little. `false` when that would be the client itself. A client whose names take no more
    /// than its fair share stays, whatever else it holds.
    fn make_room_for_names(&mut self, id: SessionId, more: usize) -> bool {
        self.charge_session(id);
        let held = self.held_by(id);
        let subscriptions = self.redis(id).and_then(|client| client.subscriptions.as_ref());
        let names = subscriptions.map_or(0, |subscriptions| subscriptions.footprint());
        names + more <= self.memory.limits().fair
            || self.has_memory(held, more)
            || self.make_room_for_wish(id, held, more)
    }

    /// Whether names cannot be subscribed to for want of connections. Looked at before any of them is confirmed: one that is
    /// confirmed is heard, or will be when its server is back.
    fn lacks_hearing<'a>(&self, id: SessionId, kind: Kind, names: impl Iterator<Item = &'a [u8]>) -> bool {
        let Some(session) = self.session_ref(id) else { return false };
        if !self.lacks_connections(session.pool(), self.topology.pool(session.pool()).servers.len()) {
            return false; // whatever they are
        }
        let known = session.redis().and_then(|client| client.subscriptions.as_ref());
        let (mut wanted, mut has_all) = (BTreeSet::new(), false);
        for name in names {
            // What it is subscribed to has its connection, or gets the next.
            let is_known = known.is_some_and(|known| known.contains(kind, name));
            let everywhere = kind.is_everywhere(name);
            if !(is_known || (everywhere && has_all)) {
                wanted.extend(self.homes(id, kind, name));
                has_all |= everywhere;
            }
        }
        wanted.retain(|server| {
            let link = known.and_then(|known| known.link(*server));
            link.is_none_or(|link| self.own_link(id, link).is_none())
        });
        self.lacks_connections(session.pool(), wanted.len())
    }

    /// The request that subscribes to names on a server, and notes that it does. `None` when the server cannot be
    /// reached; it is tried again later.
    pub(super) fn subscription(
        &mut self,
        id: SessionId,
        kind: Kind,
        server: ServerId,
        names: &[Box<[u8]>],
        now: Instant,
    ) -> Option<Piece> {
        let link = self.listening(id, server, now);
        let Ok(link) = link else {
            self.resubscribe_later(id, now);
            return None;
        };
        let subscriptions = self.redis(id)?.subscriptions.as_mut()?;
        names.iter().for_each(|name| subscriptions.note(kind, name, server, link));
        let (request, replies) = request(kind.subscribe(), names);
        Some(Piece { to: To::Link(server, link), request, replies })
    }

    /// The connection on which a client hears a server.
    fn listening(&mut self, id: SessionId, server: ServerId, now: Instant) -> Result<LinkId, Failure> {
        let Some(pool) = self.pool_of(id) else { return Err(Failure::Closed) };
        let known = self.redis(id).and_then(|client| client.subscriptions.as_ref()?.link(server));
        if let Some(link) = known.filter(|link| self.own_link(id, *link).is_some()) {
            return Ok(link);
        }
        let link = self.dedicate(id, pool, server, Use::Listen, now)?;
        self.servers[link].listen();
        if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) {
            subscriptions.set_link(server, link);
        }
        Ok(link)
    }

    /// Tells a client what has become of its subscriptions, when the servers have confirmed it.
    fn confirm(
        &mut self,
        id: SessionId,
        call: Call<'_>,
        (body, added): (Vec<u8>, Added),
        pieces: Vec<Piece>,
        now: Instant,
    ) {
        if pieces.is_empty() {
            return self.answer(id, &body);
        }
        let (mut asked, _) = self.asked(id, call);
        asked.request.verb = Verb::Subscribe;
        asked.request.noreply = false; // it is told as a message is, whatever replies are wanted
        self.gather(id, asked, Marks::ONCE, How::Subscribed(body, added), pieces, now);
        if let Some(session) = self.session(id) {
            session.requests.bar_next(); // what is published next must be heard
        }
    }

    /// As [`Engine::add_subscriptions`], to end them. A request that names nothing ends all.
    fn drop_subscriptions(
        &mut self,
        id: SessionId,
        call: Call<'_>,
        kind: Kind,
        mut place: usize,
        budget: usize,
        now: Instant,
    ) -> (Option<usize>, usize) {
        let version = self.version(id);
        let Some(client) = self.redis(id) else { return (None, 0) };
        let subscriptions = client.subscriptions.get_or_insert_default();
        let (mut body, mut to, mut steps) = (Vec::new(), Names::new(), 0);
        let ends_all = call.args.len() == 1;
        if ends_all && subscriptions.count(kind) == 0 {
            encode::push(&mut body, 3, version);
            encode::bulk(&mut body, kind.unsubscribe());
            encode::null(&mut body, version);
            encode::integer(&mut body, subscriptions.told_count(kind));
        }
        let is_left = |subscriptions: &Subscriptions, place: usize| match ends_all {
            true => subscriptions.count(kind) > 0,
            false => place < call.args.len(),
        };
        while steps < budget && is_left(subscriptions, place) {
            let first = if ends_all { subscriptions.first(kind) } else { None };
            let name = first.as_deref().unwrap_or_else(|| call.args.get(place));
            let servers = subscriptions.remove(kind, name);
            steps += 1 + servers.len();
            servers.into_iter().for_each(|server| to.entry(server).or_default().push(name.into()));
            encode::push(&mut body, 3, version);
            encode::bulk(&mut body, kind.unsubscribe());
            encode::bulk(&mut body, name);
            encode::integer(&mut body, subscriptions.told_count(kind));
            place += 1;
        }
        let next = is_left(subscriptions, place).then_some(place);
        let mut pieces = Vec::new();
        for (server, names) in to {
            let link = self.redis(id).and_then(|client| client.subscriptions.as_ref()?.link(server));
            if let Some(link) = link.filter(|link| self.own_link(id, *link).is_some()) {
                let (request, replies) = request(kind.unsubscribe(), &names);
                pieces.push(Piece { to: To::Link(server, link), request, replies });
            }
        }
        self.confirm(id, call, (body, Added::new()), pieces, now);
        (next, steps)
    }

    /// `MONITOR`: all servers that are there, until the client leaves. One that fails is not heard any more.
    pub(super) fn monitor(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let pool = call.pool;
        if self.lacks_connections(pool, self.pools[pool.index()].live.iter().filter(|live| **live).count()) {
            return self.refuse_connection(id);
        }
        if let Some(client) = self.redis(id) {
            client.monitors = true;
        }
        let mut pieces = Vec::new();
        let topology = Arc::clone(&self.topology);
        for server in topology.pool(pool).members() {
            let link = self.dedicate(id, pool, server, Use::Listen, now);
            if let Ok(link) = link {
                self.servers[link].listen();
            }
            let to = link.map_or_else(|failure| To::Nowhere(None, failure), |link| To::Link(server, link));
            pieces.push(Piece { to, request: call.raw.to_vec(), replies: 1 });
        }
        let (mut asked, _) = self.asked(id, call);
        asked.request.verb = Verb::Subscribe;
        self.gather(id, asked, Marks::ONCE, How::First, pieces, now);
    }

    /// What a server says on a connection that hears it: a message, or a confirmation.
    #[inline(never)]
    pub(in crate::engine) fn take_message(&mut self, id: LinkId, input: &[u8], to: &mut Delivery<'_>) -> Step {
        if !self.is_redis(id) {
            return self.take_crawled(id, input);
        }
        let link = &mut self.servers[id];
        let Some((stream, queue)) = link.stream_and_queue() else { return Step::Used(input.len()) };
        let len = match stream.scan(1).advance(input) {
            Scanned::Complete { len } => len,
            Scanned::Incomplete { need } => {
                let link = &self.servers[id];
                if need > LARGE
                    && need > self.reply_room(link)
                    && let Some(owner) = link.owner()
                {
                    // There is no room for what it is told, and nobody can be told a part of it.
                    self.cut_off_client(owner);
                    return Step::Used(input.len());
                }
                return Step::Need(need);
            }
            Scanned::Broken => return Step::Broken(Violation::UnexpectedLine),
        };
        stream.cursor_mut().scan = None;
        let message = &input[..len];
        let (mut word, mut name) = (&b""[..], &b""[..]);
        if let Reply::List(mut items) = reply::read(message) {
            for text in [&mut word, &mut name] {
                if let Some(Reply::Bulk(bytes)) = items.next().map(reply::read) {
                    *text = bytes;
                }
            }
        }
        if word.ends_with(b"message") {
            if let Some(owner) = link.owner()
                && self.hears(owner, word, name)
            {
                return self.pushed(id, owner, message).of(len, input);
            }
            return Step::Used(len);
        }
        let Some(ticket) = queue.front() else {
            // What a server that is monitored says of its requests.
            if let Some(owner) = link.owner()
                && message.first() == Some(&b'+')
            {
                return self.pushed(id, owner, message).of(len, input);
            }
            return Step::Used(len);
        };
        if word.ends_with(b"subscribe") {
            let confirmed = &mut stream.cursor_mut().key;
            *confirmed += 1;
            if *confirmed < ticket.replies {
                return Step::Used(len);
            }
        }
        if message.first() != Some(&b'-') {
            return self.finish(id, [message, b""], Status::Done, to);
        }
        self.hearing_refused(id, ticket, self.now);
        self.finish(id, [message, b""], Status::Error, to)
    }

    /// Whether a client is subscribed to what a message is for. A server that is slow to end a subscription sends
    /// messages that its client, told at the deadline that it has ended, must not get.
    fn hears(&mut self, owner: SessionId, word: &[u8], name: &[u8]) -> bool {
        let kind = match word {
            b"pmessage" => Kind::Pattern,
            b"smessage" => Kind::Shard,
            _ => Kind::Channel,
        };
        self.redis(owner)
            .and_then(|client| client.subscriptions.as_ref())
            .is_some_and(|subscriptions| subscriptions.contains(kind, name))
    }

    /// A message for a subscriber, which came on a link of its own. Says whether that link is still there: one that does
    /// not read is cut off.
    pub(super) fn pushed(&mut self, link: LinkId, owner: SessionId, message: &[u8]) -> After {
        self.tell_message(owner, message);
        if self.servers.stream(link).is_some() { After::GoesOn } else { After::IsOver }
    }

    fn tell_message(&mut self, owner: SessionId, message: &[u8]) {
        let Some(session) = self.session(owner) else { return };
        if session.is_closing() {
            return;
        }
        if let Some(client) = session.redis_mut() {
            client.listens = true;
        }
        let (held, backlog) = (session.holding.charged(), session.pending_output() + message.len());
        if backlog > BACKLOG_LIMIT {
            return self.cut_off_client(owner);
        }
        if !self.has_memory(held, message.len()) && !self.make_room_for_message(owner, held, message.len()) {
            return;
        }
        let Some(session) = self.session(owner) else { return };
        session.output.append(message);
        self.charge_session(owner);
        self.touch_session(owner);
    }
}

/// A request of a word and names, and how many replies it gets.
pub(super) fn request(word: &[u8], names: &[Box<[u8]>]) -> (Vec<u8>, u32) {
    let mut request = Vec::new();
    encode::array(&mut request, names.len() + 1);
    encode::bulk(&mut request, word);
    names.iter().for_each(|name| encode::bulk(&mut request, name));
    (request, u32::try_from(names.len()).unwrap_or(u32::MAX))
}

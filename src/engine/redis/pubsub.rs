//! Subscriptions: a connection of the client's own to each server that one of its channels belongs to.
//!
//! A channel belongs to one server, as a key does, and what is published goes there; a pattern is subscribed to on all
//! servers. Servers confirm each subscription, and the client is told when all of them have; the count that it is told is
//! of all its subscriptions together. When a server fails, or the ring changes, what was subscribed to there is
//! subscribed to where it belongs now, and the client is told nothing.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use std::collections::BTreeMap;
use std::time::Duration;

use super::dedicated::Use;
use super::gather::How;
use super::input::{Call, Outcome};
use super::split::Piece;
use crate::config::model::ServerId;
use crate::engine::deadline::Timer;
use crate::engine::deliver::{Delivery, Step};
use crate::engine::link::{LinkId, LinkState, Ticket};
use crate::engine::session::{Barrier, SessionId};
use crate::engine::{Engine, server_id};
use crate::failure::Failure;
use crate::proto::memcache::response::{Status, Violation};
use crate::proto::resp::encode;
use crate::proto::resp::plan::Subscribe;
use crate::proto::resp::reply::{self, Reply, Scan, Scanned};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Pause before what was lost is subscribed to again.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes of messages that may wait for a subscriber; one that reads slower than that is cut off, as Redis does.
const BACKLOG_LIMIT: usize = 32 << 20;

/// Bytes of names that a client may be subscribed to.
const NAMES_LIMIT: usize = 4 << 20;

/// What a subscription is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    const fn subscribe(self) -> &'static [u8] {
        match self {
            Self::Channel => b"subscribe",
            Self::Pattern => b"psubscribe",
            Self::Shard => b"ssubscribe",
        }
    }

    const fn unsubscribe(self) -> &'static [u8] {
        match self {
            Self::Channel => b"unsubscribe",
            Self::Pattern => b"punsubscribe",
            Self::Shard => b"sunsubscribe",
        }
    }
}

/// What a client is subscribed to, and where.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// For each name, the servers that have been told.
    names: BTreeMap<(Kind, Vec<u8>), Vec<ServerId>>,
    links: Vec<(ServerId, LinkId)>,
    bytes: usize,
    /// A timer is set to subscribe anew.
    timed: bool,
}

impl Subscriptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Memory that it holds, about.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes + self.names.len() * 64
    }

    fn count(&self, kind: Kind) -> usize {
        self.names.keys().filter(|(known, _)| *known == kind).count()
    }

    /// Channels and patterns.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.count(Kind::Channel), self.count(Kind::Pattern))
    }

    /// The number that confirmations of this kind tell.
    fn told_count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.count(Kind::Shard),
            Kind::Channel | Kind::Pattern => self.count(Kind::Channel) + self.count(Kind::Pattern),
        }
    }
}

impl Engine {
    pub(super) fn publish(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Outcome {
        self.send_keyed(id, call, call.args.get(1), now)
    }

    pub(super) fn subscribe(&mut self, id: SessionId, call: Call<'_>, subscribe: Subscribe, now: Instant) -> Outcome {
        let (kind, adds) = match subscribe {
            Subscribe::Channels => (Kind::Channel, true),
            Subscribe::Patterns => (Kind::Pattern, true),
            Subscribe::Shards => (Kind::Shard, true),
            Subscribe::NoChannels => (Kind::Channel, false),
            Subscribe::NoPatterns => (Kind::Pattern, false),
            Subscribe::NoShards => (Kind::Shard, false),
        };
        let names: Vec<Vec<u8>> = call.args.iter().skip(1).map(<[u8]>::to_vec).collect();
        if adds {
            let bytes: usize = names.iter().map(Vec::len).sum();
            let held = self.redis(id).and_then(|client| client.subscriptions.as_ref()).map_or(0, |known| known.bytes);
            if held + bytes > NAMES_LIMIT {
                self.refuse_request(id, b"ERR too many subscriptions for one connection of this proxy");
                return Outcome::Done;
            }
            self.add_subscriptions(id, call, kind, names, now);
        } else {
            self.drop_subscriptions(id, call, kind, names, now);
        }
        Outcome::Done
    }

    /// The servers that a name is to be subscribed to on.
    fn homes(&self, id: SessionId, kind: Kind, name: &[u8]) -> Vec<ServerId> {
        let Some(session) = self.session_ref(id) else { return Vec::new() };
        let pool = &self.pools[session.pool.index()];
        let is_live = |server: &ServerId| pool.live[server.index()];
        match kind {
            Kind::Pattern => (0..pool.live.len()).map(server_id).filter(is_live).collect(),
            Kind::Channel | Kind::Shard => pool.ring.route(name, 0).into_iter().filter(is_live).collect(),
        }
    }

    fn add_subscriptions(&mut self, id: SessionId, call: Call<'_>, kind: Kind, names: Vec<Vec<u8>>, now: Instant) {
        let version = self.version(id);
        let mut body = Vec::new();
        let mut to: Vec<(ServerId, Vec<Vec<u8>>)> = Vec::new();
        for name in names {
            let homes = self.homes(id, kind, &name);
            let Some(client) = self.redis(id) else { return };
            let subscriptions = client.subscriptions.get_or_insert_default();
            if !subscriptions.names.contains_key(&(kind, name.clone())) {
                subscriptions.bytes += name.len();
                subscriptions.names.insert((kind, name.clone()), Vec::new());
                for server in homes {
                    match to.iter_mut().find(|(known, _)| *known == server) {
                        Some((_, names)) => names.push(name.clone()),
                        None => to.push((server, vec![name.clone()])),
                    }
                }
            }
            encode::push(&mut body, 3, version);
            encode::bulk(&mut body, kind.subscribe());
            encode::bulk(&mut body, &name);
            encode::integer(&mut body, i64::try_from(subscriptions.told_count(kind)).unwrap_or(i64::MAX));
        }
        let pieces =
            to.into_iter().filter_map(|(server, names)| self.subscription(id, kind, server, &names, now)).collect();
        self.confirm(id, call, body, pieces, now);
    }

    /// The request that subscribes to names on a server, and notes that it does. `None` when the server cannot be
    /// reached; it is tried again later.
    fn subscription(
        &mut self,
        id: SessionId,
        kind: Kind,
        server: ServerId,
        names: &[Vec<u8>],
        now: Instant,
    ) -> Option<Piece> {
        let link = self.listening(id, server, now);
        let Ok(link) = link else {
            self.resubscribe_later(id, now);
            return None;
        };
        let subscriptions = self.redis(id)?.subscriptions.as_mut()?;
        for name in names {
            if let Some(servers) = subscriptions.names.get_mut(&(kind, name.clone())) {
                servers.push(server);
            }
        }
        let mut request = Vec::new();
        let words = std::iter::once(kind.subscribe()).chain(names.iter().map(Vec::as_slice));
        encode::command(&mut request, words.collect::<Vec<_>>().into_iter());
        let replies = u32::try_from(names.len()).unwrap_or(u32::MAX);
        Some(Piece { server: Ok(server), owner: Some(server), request, replies, link: Some(link) })
    }

    /// The connection on which a client hears a server.
    fn listening(&mut self, id: SessionId, server: ServerId, now: Instant) -> Result<LinkId, Failure> {
        let Some(session) = self.session_ref(id) else { return Err(Failure::Closed) };
        let pool = session.pool;
        let known = self.redis(id).and_then(|client| {
            let subscriptions = client.subscriptions.as_ref()?;
            subscriptions.links.iter().find(|(known, _)| *known == server).map(|(_, link)| *link)
        });
        if let Some(link) = known.filter(|link| self.own_link(id, *link).is_some()) {
            return Ok(link);
        }
        let link = self.dedicate(id, pool, server, Use::Listen, now)?;
        self.links[link.index()].listens = true;
        if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) {
            subscriptions.links.push((server, link));
        }
        Ok(link)
    }

    /// Tells a client what has become of its subscriptions, when the servers have confirmed it.
    fn confirm(&mut self, id: SessionId, call: Call<'_>, body: Vec<u8>, pieces: Vec<Piece>, now: Instant) {
        if pieces.is_empty() {
            return self.say(id, &body);
        }
        let (mut asked, _) = self.asked(id, call);
        asked.verb = Verb::Subscribe;
        asked.noreply = false;
        self.gather(id, asked, Ticket::ONCE, How::Said(body), pieces, now);
        if let Some(session) = self.session(id) {
            session.barrier = Barrier::Before; // what is published next must be heard
        }
    }

    fn drop_subscriptions(&mut self, id: SessionId, call: Call<'_>, kind: Kind, mut names: Vec<Vec<u8>>, now: Instant) {
        let version = self.version(id);
        let Some(client) = self.redis(id) else { return };
        let subscriptions = client.subscriptions.get_or_insert_default();
        if names.is_empty() {
            names =
                subscriptions.names.keys().filter(|(known, _)| *known == kind).map(|(_, name)| name.clone()).collect();
        }
        let mut body = Vec::new();
        let mut to: Vec<(ServerId, Vec<Vec<u8>>)> = Vec::new();
        if names.is_empty() {
            encode::push(&mut body, 3, version);
            encode::bulk(&mut body, kind.unsubscribe());
            encode::null(&mut body, version);
            encode::integer(&mut body, i64::try_from(subscriptions.told_count(kind)).unwrap_or(i64::MAX));
        }
        for name in names {
            if let Some(servers) = subscriptions.names.remove(&(kind, name.clone())) {
                subscriptions.bytes -= name.len();
                for server in servers {
                    match to.iter_mut().find(|(known, _)| *known == server) {
                        Some((_, names)) => names.push(name.clone()),
                        None => to.push((server, vec![name.clone()])),
                    }
                }
            }
            encode::push(&mut body, 3, version);
            encode::bulk(&mut body, kind.unsubscribe());
            encode::bulk(&mut body, &name);
            encode::integer(&mut body, i64::try_from(subscriptions.told_count(kind)).unwrap_or(i64::MAX));
        }
        let links = subscriptions.links.clone();
        let pieces = to.into_iter().filter_map(|(server, names)| {
            let (_, link) =
                links.iter().find(|(known, link)| *known == server && self.own_link(id, *link).is_some())?;
            let mut request = Vec::new();
            let words = std::iter::once(kind.unsubscribe()).chain(names.iter().map(Vec::as_slice));
            encode::command(&mut request, words.collect::<Vec<_>>().into_iter());
            let replies = u32::try_from(names.len()).unwrap_or(u32::MAX);
            Some(Piece { server: Ok(server), owner: Some(server), request, replies, link: Some(*link) })
        });
        let pieces: Vec<_> = pieces.collect();
        self.confirm(id, call, body, pieces, now);
    }

    /// `MONITOR`: all servers that are there, until the client leaves. One that fails is not heard any more.
    pub(super) fn monitor(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let Some(session) = self.session_ref(id) else { return };
        let pool = session.pool;
        let mut pieces = Vec::new();
        for server in (0..self.pools[pool.index()].live.len()).map(server_id) {
            let link = self.dedicate(id, pool, server, Use::Listen, now);
            if let Ok(link) = link {
                self.links[link.index()].listens = true;
            }
            let request = call.raw.to_vec();
            let server = link.map(|_| server);
            pieces.push(Piece { server, owner: server.ok(), request, replies: 1, link: link.ok() });
        }
        let (mut asked, _) = self.asked(id, call);
        asked.verb = Verb::Subscribe;
        self.gather(id, asked, Ticket::ONCE, How::First, pieces, now);
    }

    /// What a server says on a connection that hears it: a message, or a confirmation.
    #[inline(never)]
    pub(in crate::engine) fn take_message(&mut self, id: LinkId, input: &[u8], to: &mut Delivery<'_>) -> Step {
        let link = &mut self.links[id.index()];
        let scan = link.cursor.scan.get_or_insert_with(|| Scan::new(1));
        let len = match scan.advance(input) {
            Scanned::Complete { len } => len,
            Scanned::Incomplete { need } => return Step::Need(need),
            Scanned::Broken => return Step::Broken(Violation::UnexpectedLine),
        };
        link.cursor.scan = None;
        let message = &input[..len];
        let word = match reply::read(message) {
            Reply::List(mut items) => match items.next().map(reply::read) {
                Some(Reply::Bulk(word)) => word,
                _ => b"",
            },
            _ => b"",
        };
        if word.ends_with(b"message") {
            if let crate::engine::link::Purpose::Dedicated(owner) = link.purpose {
                self.pushed(id, owner, message);
            }
            return Step::Used(len);
        }
        let Some(&ticket) = link.in_flight.front() else {
            // What a server that is monitored says of its requests.
            if let crate::engine::link::Purpose::Dedicated(owner) = link.purpose
                && message.first() == Some(&b'+')
            {
                self.pushed(id, owner, message);
            }
            return Step::Used(len);
        };
        if word.ends_with(b"subscribe") {
            link.cursor.key += 1;
            if link.cursor.key < ticket.replies {
                return Step::Used(len);
            }
        }
        let status = if message.first() == Some(&b'-') { Status::Error } else { Status::Done };
        self.finish(id, [message, b""], status, to)
    }

    /// A message for a subscriber.
    pub(super) fn pushed(&mut self, _link: LinkId, owner: SessionId, message: &[u8]) {
        let Some(session) = self.session(owner) else { return };
        if session.closing {
            return;
        }
        session.output.append(message);
        if session.pending_output() > BACKLOG_LIMIT {
            session.closing = true;
            session.output = Default::default();
            let pool = session.pool;
            self.counters.pool(pool).client_err.add(1);
        }
        self.charge_session(owner);
        self.touch_session(owner);
    }

    /// A connection is gone on which a client heard a server.
    pub(super) fn lost_subscriptions(&mut self, id: SessionId, link: LinkId, now: Instant) {
        let server = self.links[link.index()].server;
        let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) else { return };
        subscriptions.links.retain(|(_, known)| *known != link);
        subscriptions.names.values_mut().for_each(|servers| servers.retain(|known| *known != server));
        self.resubscribe_later(id, now);
    }

    fn resubscribe_later(&mut self, id: SessionId, now: Instant) {
        if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut())
            && !std::mem::replace(&mut subscriptions.timed, true)
        {
            self.timers.set(now + RETRY, Timer::Subscriptions(id));
        }
    }

    /// The ring has changed: so may the servers that channels belong to.
    pub(in crate::engine) fn move_subscriptions(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.redis.as_ref().is_some_and(|client| client.is_subscribed()))
            .map(|(index, session)| crate::engine::session_id(index, session))
            .collect();
        ids.into_iter().for_each(|id| self.resubscribe(id, now));
    }

    /// Subscribes to what is not subscribed to where it belongs.
    pub(in crate::engine) fn resubscribe(&mut self, id: SessionId, now: Instant) {
        let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) else { return };
        subscriptions.timed = false;
        let names: Vec<(Kind, Vec<u8>, Vec<ServerId>)> =
            subscriptions.names.iter().map(|((kind, name), servers)| (*kind, name.clone(), servers.clone())).collect();
        let mut add: Vec<(Kind, ServerId, Vec<Vec<u8>>)> = Vec::new();
        let mut remove: Vec<(Kind, ServerId, Vec<Vec<u8>>)> = Vec::new();
        let mut waits = false;
        let put = |list: &mut Vec<(Kind, ServerId, Vec<Vec<u8>>)>, kind: Kind, server: ServerId, name: &[u8]| match list
            .iter_mut()
            .find(|(known, to, _)| (*known, *to) == (kind, server))
        {
            Some((.., names)) => names.push(name.to_vec()),
            None => list.push((kind, server, vec![name.to_vec()])),
        };
        for (kind, name, servers) in &names {
            let homes = self.homes(id, *kind, name);
            waits |= homes.is_empty();
            homes.iter().filter(|home| !servers.contains(home)).for_each(|home| put(&mut add, *kind, *home, name));
            servers.iter().filter(|at| !homes.contains(at)).for_each(|at| put(&mut remove, *kind, *at, name));
        }
        for (kind, server, names) in add {
            if let Some(piece) = self.subscription(id, kind, server, &names, now)
                && let Some(link) = piece.link
            {
                self.ask_many(link, piece.replies, now, &piece.request);
            }
        }
        for (kind, server, names) in remove {
            let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) else { return };
            for name in &names {
                if let Some(servers) = subscriptions.names.get_mut(&(kind, name.clone())) {
                    servers.retain(|at| *at != server);
                }
            }
            let link = subscriptions.links.iter().find(|(known, _)| *known == server).map(|(_, link)| *link);
            if let Some(link) = link
                && self.own_link(id, link).is_some_and(|link| link.state == LinkState::Up)
            {
                let mut request = Vec::new();
                let words = std::iter::once(kind.unsubscribe()).chain(names.iter().map(Vec::as_slice));
                encode::command(&mut request, words.collect::<Vec<_>>().into_iter());
                self.ask_many(link, u32::try_from(names.len()).unwrap_or(u32::MAX), now, &request);
            }
        }
        if waits {
            self.resubscribe_later(id, now);
        }
    }

    /// Subscribes anew to everything, on fresh connections: the client speaks another version now.
    pub(super) fn renew_subscriptions(&mut self, id: SessionId, now: Instant) {
        let links = match self.redis(id).and_then(|client| client.subscriptions.as_mut()) {
            Some(subscriptions) => {
                subscriptions.names.values_mut().for_each(Vec::clear);
                std::mem::take(&mut subscriptions.links)
            }
            None => return,
        };
        links.into_iter().for_each(|(_, link)| self.close_dedicated(id, link));
        self.resubscribe(id, now);
    }

    /// Queues a request of the proxy's own that is answered more than once.
    fn ask_many(&mut self, id: LinkId, replies: u32, now: Instant, request: &[u8]) {
        let outbox = &mut self.links[id.index()].outbox;
        let start = outbox.end();
        outbox.tail().extend_from_slice(request);
        let ticket = Ticket { replies, ..Ticket::own(start, Verb::Subscribe) };
        self.push_ticket(id, ticket, now);
    }
}

//! Subscriptions that follow their servers: when one fails, or the ring changes, what was subscribed to there is
//! subscribed to where it belongs now, a portion at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pubsub;
use super::subscriptions::{Kind, Walk};
use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::chore::Chore;
use crate::engine::clients::session::Session;
use crate::engine::deadline::Timer;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::servers::ticket::{Intent, Ticket};
use crate::engine::ways::To;
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Pause before what was lost is subscribed to again.
const RETRY: Duration = Duration::from_millis(200);

/// What servers are to be told.
type Names = BTreeMap<(Kind, ServerId), Vec<Box<[u8]>>>;

impl Engine {
    /// A connection is gone on which a client heard a server.
    pub(super) fn lost_subscriptions(&mut self, id: SessionId, link: LinkId, now: Instant) {
        let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) else { return };
        subscriptions.forget_link(link);
        self.resubscribe_later(id, now);
    }

    pub(super) fn resubscribe_later(&mut self, id: SessionId, now: Instant) {
        if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut())
            && !std::mem::replace(&mut subscriptions.timed, true)
        {
            self.timers.set(now + RETRY, Timer::Subscriptions(id));
        }
    }

    /// The ring has changed: so may the servers that channels belong to. Says how many clients that concerns.
    pub(in crate::engine) fn move_subscriptions(&mut self, pool: PoolId, now: Instant) -> usize {
        self.pools[pool.index()].moves = false;
        let is_subscriber =
            |session: &Session| session.pool() == pool && session.redis().is_some_and(|client| client.is_subscribed());
        let subscribers = self.clients.iter().filter(|(_, session)| is_subscriber(session));
        let ids: Vec<_> = subscribers.map(|(id, _)| id).collect();
        let count = ids.len();
        ids.into_iter().for_each(|id| self.resubscribe(id, now));
        count
    }

    /// Looks soon at everything that a client is subscribed to, from the first name on.
    pub(in crate::engine) fn resubscribe(&mut self, id: SessionId, now: Instant) {
        if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) {
            subscriptions.timed = false;
            if subscriptions.walk.replace(Walk::default()).is_none() {
                self.put_off(Chore::Resubscribe(id), now);
            }
        }
    }

    /// Subscribes to some of what is not subscribed to where it belongs; says how many steps that took.
    pub(in crate::engine) fn resubscribe_on(&mut self, id: SessionId, budget: usize, now: Instant) -> usize {
        let subscriptions =
            |engine: &mut Self| engine.redis(id).and_then(|client| client.subscriptions.as_mut()?.walk.take());
        let Some(mut walk) = subscriptions(self) else { return 0 };
        let (mut add, mut remove, mut steps) = (Names::new(), Names::new(), 0);
        let mut is_over = false;
        while steps < budget {
            let known = self.redis(id).and_then(|client| client.subscriptions.as_ref());
            let Some((kind, name, servers)) = known.and_then(|known| known.behind(walk.behind.as_ref())) else {
                is_over = true;
                break;
            };
            let homes = self.homes(id, kind, &name);
            steps += 1 + homes.len() + servers.len();
            walk.waits |= homes.is_empty();
            let missing = homes.iter().filter(|home| servers.binary_search(home).is_err());
            missing.for_each(|home| add.entry((kind, *home)).or_default().push(name.clone()));
            let left_over = servers.iter().filter(|server| homes.binary_search(server).is_err());
            left_over.for_each(|server| remove.entry((kind, *server)).or_default().push(name.clone()));
            walk.behind = Some((kind, name));
        }
        for ((kind, server), names) in add {
            if let Some(piece) = self.subscription(id, kind, server, &names, now)
                && let To::Link(_, link) = piece.to
            {
                self.ask_many(link, piece.replies, now, &piece.request);
            }
        }
        if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) {
            for ((kind, server), names) in &remove {
                names.iter().for_each(|name| subscriptions.unnote(*kind, name, *server));
            }
        }
        self.unsubscribe(id, remove, now);
        if !is_over {
            if let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) {
                subscriptions.walk = Some(walk);
                self.put_off(Chore::Resubscribe(id), now);
            }
        } else if walk.waits {
            self.resubscribe_later(id, now);
        }
        steps
    }

    /// A server refuses to let a client hear it, which is told so: it is subscribed to nothing that it has asked for with that, on
    /// whatever server, as if one had been asked for all of it.
    #[cold]
    pub(super) fn hearing_refused(&mut self, refusing: LinkId, ticket: Ticket, now: Instant) {
        let Some((id, number)) = ticket.client() else { return };
        let Some(session) = self.session(id) else { return };
        let gather = session.slot_mut(number).and_then(|slot| slot.open_parts()?.merge_mut().redis_mut());
        let Some(added) = gather.map(|gather| gather.take_added()).filter(|added| !added.is_empty()) else { return };
        let Some(subscriptions) = self.redis(id).and_then(|client| client.subscriptions.as_mut()) else { return };
        let mut remove = Names::new();
        for (kind, name) in added {
            for server in subscriptions.remove(kind, &name) {
                if subscriptions.link(server) != Some(refusing) {
                    remove.entry((kind, server)).or_default().push(name.clone());
                }
            }
        }
        if subscriptions.rest.take().is_some() {
            self.clients.resume_soon(id); // what came behind that may go on
        }
        self.unsubscribe(id, remove, now);
    }

    /// Has servers end subscriptions of which its client is not told.
    fn unsubscribe(&mut self, id: SessionId, names: Names, now: Instant) {
        for ((kind, server), names) in names {
            let link = self.redis(id).and_then(|client| client.subscriptions.as_ref()?.link(server));
            if let Some(link) = link.filter(|link| self.own_link(id, *link).is_some_and(|link| !link.is_down())) {
                let (request, replies) = pubsub::request(kind.unsubscribe(), &names);
                self.ask_many(link, replies, now, &request);
            }
        }
    }

    /// Subscribes anew to everything, on fresh connections: the client speaks another version now.
    pub(super) fn renew_subscriptions(&mut self, id: SessionId, now: Instant) {
        let subscriptions = self.redis(id).and_then(|client| client.subscriptions.as_mut());
        let Some(links) = subscriptions.map(|subscriptions| subscriptions.take_links()) else { return };
        links.into_iter().for_each(|link| self.close_dedicated(id, link));
        self.resubscribe(id, now);
    }

    /// Queues a request of the proxy's own that is answered more than once.
    fn ask_many(&mut self, id: LinkId, replies: u32, now: Instant, request: &[u8]) {
        let (start, out) = self.servers[id].append();
        out.extend_from_slice(request);
        let ticket = Ticket { replies, ..Ticket::own(Intent::Plain, start, Verb::Subscribe) };
        self.push_ticket(id, ticket, now);
    }
}

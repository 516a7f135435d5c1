//! What is kept of keys whose server is out stands in for the miss of the server that is asked in its place
//! ([`stale_on_error`](crate::config::model::NearCache::stale_on_error)).

#![expect(clippy::wildcard_enum_match_arm, reason = "the requests that are answered from here are named")]

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::ids::LinkId;
use crate::engine::memcache::asked_keys;
use crate::engine::redis::Profile;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::near::{Name, Value};
use crate::proto::memcache::reply as memcache;
use crate::proto::memcache::request::Words;
use crate::proto::resp::{encode, reply, request};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// The keys of a part of a multi-get that were not there, with their places among all of its keys.
type Missing = Vec<(u32, Box<[u8]>)>;

/// A request of a client that a server in the place of another one has missed.
#[derive(Clone, Copy)]
struct Missed {
    pool: PoolId,
    /// Who was asked.
    server: ServerId,
    /// When its time began.
    started: Instant,
    /// How old a value may be.
    most: Duration,
}

impl Engine {
    /// What a client gets in the place of the answer to the front request of a connection, of which keys are missing; `None`
    /// where nothing stands in for them, or is already among the values of a multi-get.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn stands_in(&mut self, id: LinkId, response: &[u8]) -> Option<Vec<u8>> {
        let link = &self.servers[id];
        let ticket = link.queue().front()?;
        // What the proxy asks for itself is to be what the server has.
        let (client, number) = ticket.client()?;
        let (pool, server, profile) = (link.pool(), link.server(), link.profile());
        let most = self.topology.pools[pool.index()].near_cache.as_ref()?.stale_on_error?;
        // Who watches is about to change what they read, and nothing guards that once it is older than their watch.
        let session = self.session_ref(client)?;
        if self.pools[pool.index()].all_live || link.dedicated().is_some() || session.watches() {
            return None;
        }
        let missed = Missed { pool, server, started: session.slot(number)?.started(), most };
        let line = link.queue().front_request(ticket);
        match ticket.verb {
            Verb::Get if ticket.is(Marks::SPLIT) => {
                let missing = self.missing_of(ticket, Words::new(asked_keys(line, ticket.verb)))?;
                self.place_known(ticket, missed, &missing);
                None
            }
            Verb::Get => {
                let key = asked_keys(line, ticket.verb).strip_prefix(b" ")?;
                let value = self.known(missed, Name { database: 0, key })?;
                Some([&value.block, memcache::END].concat())
            }
            Verb::Query if ticket.replies == 1 => {
                let line = line.to_vec();
                self.known_in_place(missed, profile, &line, response)
            }
            _ => None,
        }
    }

    /// What is kept of a key whose home is another server than this one, which is out therefore.
    fn known(&self, missed: Missed, name: Name<'_>) -> Option<Arc<Value>> {
        let Missed { pool, server, started, most } = missed;
        let config = self.topology.pool(pool);
        let is_meant = config.near_cache.as_ref().is_some_and(|option| option.is_for(name.key));
        if !is_meant || config.home.route(name.key, 0) == Some(server) {
            return None;
        }
        // What was asked for later may have in it what the client has changed behind this request.
        let value = self.near.of(pool)?.last_known(name, most, self.now).filter(|value| value.asked < started)?;
        self.counters.pool(pool).near_stale.add(1);
        Some(value)
    }

    fn missing_of(&self, ticket: Ticket, keys: Words<'_>) -> Option<Missing> {
        let (id, number) = ticket.client()?;
        let values = self.clients.get(id)?.slot(number)?.merge()?.memcache()?.values()?;
        let (places, keys) = values.missing(ticket.fragment, keys);
        Some(places.into_iter().zip(keys.into_iter().map(Box::from)).collect())
    }

    fn place_known(&mut self, ticket: Ticket, missed: Missed, missing: &Missing) {
        for (place, key) in missing {
            let Some((id, number)) = ticket.client() else { return };
            let Some(value) = self.known(missed, Name { database: 0, key }) else { continue };
            if !self.has_room_beside(id, value.block.len()) {
                continue;
            }
            let Some(session) = self.clients.get_mut(id) else { return };
            let Some(slot) = session.slot_mut(number) else { return };
            let Some(values) = slot.open_parts().and_then(|parts| parts.merge_mut().memcache_mut()?.values_mut())
            else {
                return;
            };
            if values.fits(value.block.len()) {
                values.place(*place, 0, value.block.len());
                values.keep(&value.block, value.block.len());
                session.requests.hold(value.block.len());
            }
        }
    }

    /// A `GET` or an `MGET`: its answer, with what is known in the places of nulls.
    fn known_in_place(&self, missed: Missed, profile: Profile, line: &[u8], response: &[u8]) -> Option<Vec<u8>> {
        let mut spans = Vec::new();
        let args = request::args(line, &mut spans);
        let known = |key| self.known(missed, Name { database: profile.database, key });
        if args.get(0).eq_ignore_ascii_case(b"get") && args.len() == 2 {
            if !reply::is_null(response) {
                return None;
            }
            return known(args.get(1)).map(|value| value.block.to_vec());
        }
        if !args.get(0).eq_ignore_ascii_case(b"mget") {
            return None;
        }
        if !reply::items(response)?.any(reply::is_null) {
            return None;
        }
        let mut body = Vec::with_capacity(response.len());
        encode::array(&mut body, args.len() - 1);
        for (item, key) in reply::items(response)?.zip(args.iter().skip(1)) {
            let value = if reply::is_null(item) { known(key) } else { None };
            body.extend_from_slice(value.as_ref().map_or(item, |value| &value.block));
        }
        Some(body)
    }
}

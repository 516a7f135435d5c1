//! Writes while servers are out of the ring: what they are told elsewhere, and who misses them.
//!
//! With `on_eject: rehash` a write for an ejected server goes to another one. Two things keep its traces from doing harm:
//! - `failover_ttl` bounds the lifetime of what is written away from home;
//! - `rejoin: safe` notes the key with every server that would own it if some that are out were back. Before such a server
//!   takes part again it has to forget the key ([`invalidate`](super::invalidate)).

use super::Engine;
use super::ids::{LinkId, SessionId};
use super::missed::Failover;
use super::request::Asked;
use super::servers::outbox::Offset;
use super::servers::ticket::{Marks, Ticket};
use crate::config::model::{OnEject, PoolId, Rejoin, ServerId};
use crate::failure::Failure;
use crate::health::pending::{OlderWrites, StaleKey};
use crate::proto::memcache::lifetime::Cap;
use crate::proto::resp::unmade;
use crate::proto::verb::Verb;
use crate::ring::Returns;
use crate::time::Instant;

/// Most servers that one key is noted with. When so few are left that a write concerns more, it costs less to have all
/// that are out forget everything.
const NOTED_LIMIT: usize = 64;

impl Engine {
    /// The bound on lifetimes away from home, while any server is out.
    pub(super) fn failover_cap(&self, pool: PoolId, now: Instant) -> Option<Cap> {
        let seconds = self.topology.pools[pool.index()].failover_ttl?;
        if self.pools[pool.index()].all_live {
            return None;
        }
        let since_start = now - Instant::ZERO;
        Some(Cap { seconds, now: (self.started_at + since_start).as_secs() })
    }

    /// Whether writes that a server misses are noted.
    pub(super) fn is_safe(&self, pool: PoolId) -> bool {
        self.topology.pools[pool.index()].rejoin == Rejoin::Safe
    }

    /// Finds out who misses a write while servers are out.
    pub(super) fn prepare_failover(&mut self, pool: PoolId, now: Instant) {
        let config = &self.topology.pools[pool.index()];
        let state = &mut self.pools[pool.index()];
        state.all_live = config.members().all(|server| state.live[server.index()]);
        state.is_steady = state.all_live && state.warm.is_none();
        state.failover = Failover::None;
        if config.rejoin != Rejoin::Safe || config.on_eject == OnEject::Hold || state.all_live {
            return;
        }
        match Returns::new(&mut state.circle, config, &state.live) {
            Some(returns) => state.failover = Failover::Noted(returns),
            None => drop(self.flush_absent(pool, now)),
        }
    }

    /// Has all servers that are out forget everything before they are back. `false` when one of them is back already.
    fn flush_absent(&mut self, pool: PoolId, now: Instant) -> bool {
        let state = &mut self.pools[pool.index()];
        state.failover = Failover::Flushed;
        let out = self.topology.pools[pool.index()].members().filter(|server| !state.live[server.index()]);
        let back = out.filter(|server| !self.registry.invalidate_all_if_out(pool, *server, now)).count();
        back == 0
    }

    /// Notes a write that goes to `server`, or to none, with the servers that miss it. `false` when one of them is back in
    /// the ring.
    ///
    /// Those are the key's home, and each server that would own the key if some were back. It may be live and own less
    /// than it will, where the number of points changes with that of the servers; then it forgets the key at once.
    pub(super) fn note_absent(
        &mut self,
        pool: PoolId,
        server: Option<ServerId>,
        asked: Asked<'_>,
        marks: Marks,
        key: &[u8],
        now: Instant,
    ) -> bool {
        let (state, home) = (&self.pools[pool.index()], &self.topology.pools[pool.index()].home);
        let mut owners = Vec::new();
        match &state.failover {
            Failover::None => return true,
            Failover::Noted(returns) => returns.owners(key, &mut owners),
            // What has been flushed while it was out stays empty, so nothing is to be noted with it.
            Failover::Flushed if self.version != self.registry.version() => return false,
            Failover::Flushed => owners.extend(home.route(key, 0).filter(|home| state.live[home.index()])),
        }
        if owners.len() > NOTED_LIMIT {
            return self.flush_absent(pool, now);
        }
        let key = || StaleKey { database: None, key: asked.key.into(), base64: marks.has(Marks::BASE64) };
        for owner in owners.into_iter().filter(|owner| Some(*owner) != server) {
            let state = &self.pools[pool.index()];
            if !state.live[owner.index()] {
                if !self.registry.invalidate_key_if_out(pool, owner, key(), now) {
                    return false;
                }
                continue;
            }
            let link = state.members[owner.index()].first();
            self.invalidate_key((pool, owner), key(), None, now);
            if self.servers[link].is_up() {
                self.invalidate_open(link, now);
            } else {
                self.start_connect(link, now);
            }
        }
        true
    }

    /// Whether a server has to forget the keys of writes that do not reach it. One that is out of the ring has to by its
    /// pool's `rejoin`; one that is in the ring also if the clients are not told: what they believe to be gone, nobody may
    /// read.
    fn invalidates_missed(&self, pool: PoolId, server: ServerId) -> bool {
        self.is_safe(pool) || (self.forgives(pool) && self.pools[pool.index()].live[server.index()])
    }

    /// Notes that a write did not reach the server that it was for, on the link that it was to take. What can be sent now is:
    /// it comes before what anybody asks later.
    #[cold]
    pub(super) fn invalidate_unsent(
        &mut self,
        id: SessionId,
        server: ServerId,
        asked: Asked<'_>,
        marks: Marks,
        now: Instant,
    ) {
        let Some((pool, profile)) = self.session_ref(id).map(|session| (session.pool(), session.profile())) else {
            return;
        };
        if !self.invalidates_missed(pool, server) {
            return;
        }
        let link = self.link_of(pool, id, server, now);
        if self.pools[pool.index()].redis {
            if asked.request.verb == Verb::Command {
                self.invalidate_requests(link, profile.database, asked.raw, now);
            }
        } else if self.leaves_old(pool, asked.request.verb)
            && !(asked.request.verb == Verb::MetaSet && asked.request.conditional)
        {
            let base64 = marks.has(Marks::BASE64);
            self.invalidate_on(link, StaleKey { database: None, key: asked.key.into(), base64 }, now);
        } else {
            return;
        }
        self.invalidate_soon(link, now);
    }

    /// Whether a write to memcached that was not made leaves something that its client may take to be gone. One that is made
    /// only if the key is not there leaves what it was told to be there: somebody's lock, which is not to be broken. Not so
    /// where its client is told that it has stored.
    fn leaves_old(&self, pool: PoolId, verb: Verb) -> bool {
        verb.is_write() && (verb != Verb::Add || self.grants_add(pool))
    }

    /// Whether a pool says that what stores only where nothing is has stored.
    pub(super) fn grants_add(&self, pool: PoolId) -> bool {
        self.policy(pool).absorbs() && self.policy(pool).absorbs_add()
    }

    /// Notes the keys of requests to Redis, one or a transaction, that did not reach their server.
    #[cold]
    pub(super) fn invalidate_requests(&mut self, link: LinkId, database: u32, requests: &[u8], now: Instant) {
        let (pool, _) = self.link_server(link);
        let absorbs = self.policy(pool).absorbs();
        unmade::keys(requests, absorbs, self.grants_add(pool), |key, selected| {
            self.invalidate_on(
                link,
                StaleKey { database: selected.or(Some(database)), key: key.into(), base64: false },
                now,
            );
        });
    }

    /// Notes the keys of a request to Redis that is sent nowhere, each with its server. Those that are not known are empty.
    #[cold]
    pub(super) fn invalidate_by_keys(&mut self, id: SessionId, request: &[u8], now: Instant) {
        let Some((pool, profile)) = self.session_ref(id).map(|session| (session.pool(), session.profile())) else {
            return;
        };
        let absorbs = self.policy(pool).absorbs();
        unmade::keys(request, absorbs, self.grants_add(pool), |key, _| {
            let server = self.pools[pool.index()].ring.route(key, 0);
            if let Some(server) = server.filter(|server| !key.is_empty() && self.invalidates_missed(pool, *server)) {
                let link = self.link_of(pool, id, server, now);
                self.invalidate_on(
                    link,
                    StaleKey { database: Some(profile.database), key: key.into(), base64: false },
                    now,
                );
                self.invalidate_soon(link, now);
            }
        });
    }

    /// Has a server forget a key. If its writes take a link on which something is in flight, the invalidation is sent behind
    /// that.
    fn invalidate_on(&mut self, link: LinkId, key: StaleKey, now: Instant) {
        let of = &self.servers[link];
        let (pool, server, is_used) = (of.pool(), of.server(), !of.is_down() && !of.queue().is_empty());
        let is_foreign = key.database.is_some() && key.database != self.link_database(link);
        let from = is_used.then(|| OlderWrites { name: self.connection_name(link), is_foreign });
        let elsewhere = key.database.filter(|_| is_foreign);
        self.invalidate_key((pool, server), key, from, now);
        if elsewhere.is_some() {
            self.remind_of(pool, server, elsewhere, now); // this link does not send it
        }
    }

    /// Sends what has become pending because of a request for a link: there if that is possible, or else on another one.
    pub(super) fn invalidate_soon(&mut self, link: LinkId, now: Instant) {
        let (pool, server) = self.link_server(link);
        self.invalidate_open(link, now);
        if !self.servers[link].queue().is_invalidated(self.registry.newest_pending(pool, server)) {
            let links = self.member(pool, server).links().iter().copied();
            let database = self.servers[link].profile().database;
            let is_open = |link: &LinkId| {
                let link = &self.servers[*link];
                link.is_up() && !link.silence.is_suspect() && link.profile().database == database
            };
            // The one with the shortest queue: it is there first.
            let unwritten = |link: &LinkId| self.servers[*link].queue().unwritten();
            if let Some(link) = links.filter(is_open).min_by_key(unwritten) {
                self.invalidate_open(link, now);
            }
        }
        self.remind_of(pool, server, self.link_database(link), now);
    }

    /// Notes that a Redis server has refused a write for a reason of its own: its client is told something in its place, or
    /// knows of an error that is not for ever.
    #[cold]
    #[inline(never)]
    pub(super) fn invalidate_refused(&mut self, id: LinkId, ticket: Ticket, end: Offset, failure: Failure) {
        let (pool, server) = self.link_server(id);
        let passes = matches!(failure, Failure::Unready | Failure::ServerMemory);
        if !(passes || self.forgives(pool)) || !self.servers[id].is_traffic() || !self.invalidates_missed(pool, server)
        {
            return;
        }
        let link = &self.servers[id];
        let (request, database) = (link.queue().request(ticket, end).to_vec(), link.profile().database);
        let now = link.silence.since();
        if ticket.verb == Verb::Command {
            self.invalidate_requests(id, database, &request, now);
        } else {
            self.undelivered(pool, server, ticket.verb, database, None, now);
        }
        if self.registry.has_pending(pool, server) {
            self.invalidate_soon(id, now);
        }
    }

    /// Notes that the response to a write never came: nobody knows whether it was carried out, unless no byte of it was
    /// sent. `request` is what was, or was to be.
    pub(super) fn invalidate_lost(&mut self, id: LinkId, ticket: Ticket, request: &[u8], unsent: bool, now: Instant) {
        let (pool, server) = self.link_server(id);
        let invalidates = if unsent { self.invalidates_missed(pool, server) } else { self.is_safe(pool) };
        if ticket.is_own() || !invalidates {
            return;
        }
        if self.pools[pool.index()].redis {
            if ticket.verb == Verb::Command {
                self.invalidate_requests(id, self.servers[id].profile().database, request, now);
            }
            return;
        }
        let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        if self.leaves_old(pool, ticket.verb)
            && let Some(key) = line.split(|byte| *byte == b' ').nth(1)
        {
            let key = StaleKey { database: None, key: key.into(), base64: ticket.is(Marks::BASE64) };
            self.invalidate_on(id, key, now);
        }
    }
}

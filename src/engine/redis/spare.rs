//! Connections of clients' own that their clients do not need any more: kept for a while for whoever needs one next, so
//! that a worker that takes one job after the other does not connect for each.
//!
//! They count as what they were: when the limit is reached, one of them makes room. What a connection has been set to is
//! known, and a client's watch is over before it gets here, so nothing of one client is left for the next.

use std::time::Duration;

use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::redis::Profile;
use crate::engine::servers::Connection;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::time::Instant;

/// How long one is kept that nobody needs.
const KEPT: Duration = Duration::from_secs(10);

impl Engine {
    /// A server has said something on a client's own connection, or the client's watch there is over: if nothing more is to
    /// come for the client, it is given back. What this program has asked there itself disturbs nobody.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn give_back_if_free(&mut self, id: LinkId, owner: SessionId, now: Instant) {
        let link = &self.servers[id];
        let (pool, server, listens) = (link.pool(), link.server(), link.listens());
        if !link.is_up() || !link.queue().is_free() || (listens && !link.queue().is_empty()) {
            return;
        }
        let Some(client) = self.redis(owner) else { return };
        if listens {
            // Nothing is heard there any more that was subscribed to; what is monitored is.
            let over = client.subscriptions.as_mut().filter(|known| known.is_over() && known.link(server) == Some(id));
            if let Some(subscriptions) = over {
                subscriptions.forget_link(id);
                self.close_dedicated(owner, id);
            }
            return;
        }
        if client.watch.as_ref().is_some_and(|watch| watch.link() == Some(id)) {
            return;
        }
        client.dedicated.retain(|own| *own != id);
        if !self.pools[pool.index()].live[server.index()] || self.servers[id].leaves() {
            return self.close_own(id);
        }
        let link = &mut self.servers[id];
        link.give_back();
        self.member_mut(pool, server).spares.push_back(id);
        self.arm_link(id, now + KEPT);
    }

    /// A connection to a server that somebody has given back, the one that was used last.
    pub(super) fn take_spare(
        &mut self,
        owner: SessionId,
        (pool, server): (PoolId, ServerId),
        profile: Profile,
    ) -> Option<LinkId> {
        let Self { pools, servers, .. } = self;
        let spares = &mut pools[pool.index()].members[server.index()].spares;
        let place = spares.iter().rposition(|id| servers[*id].profile() == profile)?;
        let id = spares.remove(place)?;
        self.servers[id].take_back(owner);
        Some(id)
    }

    /// Closes one that nobody needs. `false` when there is none.
    pub(super) fn close_a_spare(&mut self, pool: PoolId) -> bool {
        let oldest = self.pools[pool.index()].members.iter_mut().find_map(|member| member.spares.pop_front());
        oldest.into_iter().for_each(|id| self.close_own(id));
        oldest.is_some()
    }

    /// Closes all those to a server, which has left the ring.
    pub(in crate::engine) fn close_spares(&mut self, pool: PoolId, server: ServerId) {
        let spares = std::mem::take(&mut self.member_mut(pool, server).spares);
        spares.into_iter().for_each(|id| self.close_own(id));
    }

    /// The connection of one is gone.
    pub(in crate::engine) fn spare_failed(&mut self, id: LinkId) {
        let link = &self.servers[id];
        self.member_mut(link.pool(), link.server()).spares.retain(|spare| *spare != id);
        self.recycle(id);
    }

    /// The timer of one has fired.
    #[cold]
    pub(in crate::engine) fn spare_timer(&mut self, id: LinkId, now: Instant) {
        let link = &self.servers[id];
        let until = link.silence.since() + KEPT;
        if now < until {
            return self.arm_link(id, until);
        }
        self.member_mut(link.pool(), link.server()).spares.retain(|spare| *spare != id);
        self.close_own(id);
    }

    /// Whether a client cannot have connections of its own to all of these servers.
    pub(super) fn lacks_connections(&self, pool: PoolId, wanted: usize) -> bool {
        let state = &self.pools[pool.index()];
        let left = self.topology.pools[pool.index()].redis.dedicated_connections.saturating_sub(state.dedicated);
        wanted > left && wanted > left + state.members.iter().map(|member| member.spares.len()).sum::<usize>()
    }

    /// Tells a client that it cannot have what needs a connection of its own, and why: to answer as if a list were empty, or
    /// as if a channel were heard, would hide it for ever.
    #[cold]
    pub(super) fn refuse_connection(&mut self, id: SessionId) {
        let Some(pool) = self.pool_of(id) else { return };
        self.count_failure(pool, None, Failure::NoDedicated);
        self.counters.pool(pool).forward_error.add(1);
        self.end_request(pool, Outcome::Failed);
        let config = &self.topology.pools[pool.index()];
        let text = format!(
            "ERR dedicated_connections ({}) of pool {} is reached: none is left for a request that blocks, monitors or \
             subscribes",
            config.redis.dedicated_connections, config.name
        );
        self.say_error(id, text.as_bytes());
    }

    /// Whether those that are kept are in order. For the checks.
    pub(super) fn check_spares(&self, pool: PoolId) -> Result<usize, String> {
        let spares = self.pools[pool.index()].members.iter().flat_map(|member| &member.spares);
        let is_fit = |link: &Connection| link.is_spare() && link.is_up() && link.queue().is_free();
        match spares.clone().find(|id| !self.servers.has(**id) || !is_fit(&self.servers[**id])) {
            Some(id) => Err(format!("link {}: is kept for others and not fit for them", id.index())),
            None => Ok(spares.count()),
        }
    }
}

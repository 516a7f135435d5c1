//! Clients that go over to another process with their connections: at what moment they can, and what goes with them.

use super::clients::session::Session;
use super::ids::SessionId;
use super::redis::{CarriedRedis, Client};
use super::{Course, Engine};
use crate::config::model::PoolId;
use crate::stats::carried::Counted;
use crate::time::Instant;

/// What goes over with a client besides its connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// What it has sent of a request that is not whole yet.
    pub input: Vec<u8>,
    /// Redis: what it has set up.
    pub redis: Option<CarriedRedis>,
}

impl Engine {
    /// Clients are to go over to another process, or are not to any more. Those that can at their next request are read no
    /// more until they have; no server that is out is let back meanwhile, as the other process does that.
    pub fn set_departing(&mut self, departing: bool, now: Instant) {
        self.course = if departing { Course::HandsOver } else { Course::Serves };
        let ids: Vec<_> = self.clients.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.touch_session(id);
        }
        if !departing {
            for index in 0..self.pools.len() {
                let pool = super::pool_id(index);
                let servers: Vec<_> = self.topology.pool(pool).members().collect();
                servers.into_iter().for_each(|server| self.schedule_probe(pool, server));
            }
        }
        self.settle(now);
    }

    /// What is to go over with a client, if it is between two requests, and has nothing that only this process can give it:
    /// a transaction that has begun, subscriptions, a server's connection of its own. It has still to [leave](Engine::client_gone).
    #[must_use]
    pub fn client_departs(&self, id: SessionId) -> Option<Carried> {
        let session = self.session_ref(id).filter(|session| session.may_travel())?;
        let redis = session.redis().map(CarriedRedis::of);
        Some(Carried { input: session.input.unparsed().to_vec(), redis })
    }

    /// A client stays, whoever takes the others.
    pub fn client_stays(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.stay();
            self.touch_session(id);
        }
    }

    /// Counts what another process has counted.
    pub fn count_carried(&mut self, counted: &Counted) {
        self.refresh(self.now); // pools may be new ones
        counted.add_to(&self.counters, &self.topology.config);
    }

    /// A client comes over from another process, with what it has sent and set up there.
    pub fn client_arrived(&mut self, pool: PoolId, carried: Carried, now: Instant) -> SessionId {
        let id = self.client_connected(pool);
        if let (Some(redis), Some(client)) = (carried.redis, self.session(id).and_then(Session::redis_mut)) {
            redis.give_to(client);
        }
        if !carried.input.is_empty() {
            self.client_data(id, &carried.input, now);
        }
        id
    }
}

impl Session {
    /// Whether it can go over to another process: see [`Engine::client_departs`].
    fn may_travel(&self) -> bool {
        self.is_idle() && !self.is_over() && !self.is_bound()
    }

    /// Whether it has begun something that it has to come to the end of here, and for which it is read on.
    pub(super) fn is_bound(&self) -> bool {
        let is_bound = self.redis().is_some_and(Client::is_bound);
        is_bound || self.stays() || self.crawl().is_some() || self.input.is_skipping() || self.input.refuses_large()
    }
}

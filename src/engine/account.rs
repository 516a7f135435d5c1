//! Each request is counted once when it is carried out, and once when it has ended, by how.
//!
//! A request that is being carried out is the one at hand. It either ends there and then ([`Engine::end_request`]), or
//! passes its class on to the slot that waits for it, and ends when that slot leaves its session. So at rest the outcomes
//! add up to the requests, and [`Engine::check_invariants`] adds those under way.

use super::ids::{LinkId, SessionId};
use super::request::Slot;
use super::servers::Connection;
use super::{Engine, pool_id, rate_limit, server_id};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::response::Status;
use crate::stats::counters::{Cell, PoolCounters};

/// What a server's response says of a request of this class, of whose keys so many were not there.
#[inline]
pub(super) const fn outcome_of(class: Class, status: Status, missing: u64) -> Outcome {
    match (class, status) {
        (_, Status::Error | Status::OutOfMemory | Status::Unwilling(_)) => Outcome::Error,
        (Class::Get, Status::Done | Status::Absent | Status::Conflict) => {
            if missing > 0 {
                Outcome::Miss
            } else {
                Outcome::Hit
            }
        }
        (_, Status::Done) => Outcome::Done,
        (_, Status::Absent) => Outcome::NotFound,
        (_, Status::Conflict) => Outcome::NotStored,
    }
}

impl Engine {
    /// A client's request is to be carried out. It is counted ([`Engine::count_request`]) or put off.
    #[inline]
    pub(super) const fn begin_request(&mut self, class: Class) {
        self.telemetry.at_hand = Some(class);
    }

    /// The request at hand has been carried out: it has ended, or waits in a slot.
    #[inline]
    pub(super) fn count_request(&self, pool: PoolId) {
        self.counters.pool(pool).requests.add(1);
    }

    /// The request at hand cannot be carried out now: it is counted when it is looked at again, and could be.
    pub(super) const fn put_off_request(&mut self) {
        self.telemetry.at_hand = None;
    }

    /// The request at hand has ended like this, unless it has ended otherwise or waits in a slot.
    #[inline]
    pub(super) fn end_request(&mut self, pool: PoolId, outcome: Outcome) {
        if let Some(class) = self.telemetry.at_hand.take() {
            self.counters.pool(pool).ended(class, outcome);
        }
    }

    /// What a failure of a server makes of a request.
    #[inline]
    pub(super) fn failed_outcome(&self, pool: PoolId) -> Outcome {
        self.policy(pool).outcome()
    }

    /// Counts a request of a client, or a part of one, that was answered in a server's place, or is to be answered with
    /// an error.
    pub(super) fn count_failure(&self, pool: PoolId, server: Option<ServerId>, failure: Failure) {
        self.counters.count_degraded(pool, server, failure);
        if rate_limit::TOLD.contains(&failure) {
            self.telemetry.limit_hit.set(Some((pool, server, failure)));
        }
    }

    /// As [`Engine::count_failure`], of a part of a request that is told with the others.
    pub(super) fn count_degraded(&self, id: SessionId, server: Option<ServerId>, failure: Failure) {
        if let Some(session) = self.session_ref(id) {
            self.count_failure(session.pool(), server, failure);
            if self.policy(session.pool()).tells() {
                self.counters.pool(session.pool()).forward_error.add(1);
            }
        }
    }
}

impl Engine {
    /// Every request that was counted has ended once, or is under way: per class of the pools' and per server.
    pub(super) fn check_accounts(&self) -> Result<(), String> {
        for (index, pool) in self.topology.pools.iter().enumerate() {
            let pool_id = pool_id(index);
            let counters = self.counters.pool(pool_id);
            let ended: u64 = counters.outcomes.iter().flatten().map(Cell::value).sum();
            let waiting: usize = self
                .clients
                .iter()
                .filter(|(_, session)| session.pool() == pool_id)
                .map(|(_, session)| {
                    let slots = session.requests.iter().filter(|(_, slot)| slot.class.is_some()).count();
                    slots + usize::from(session.input.has_long_get())
                })
                .sum();
            let requests = counters.requests.value();
            if requests != ended + waiting as u64 {
                return Err(format!("pool {index}: {requests} requests, {ended} ended and {waiting} under way"));
            }
            for server in (0..pool.ids()).map(server_id).filter(|server| pool.first_of_name(*server) == *server) {
                let counters = self.counters.server(pool_id, server);
                let ended: u64 = counters.outcomes.iter().map(Cell::value).sum();
                let is_its = |(_, link): &(LinkId, &Connection)| {
                    link.pool() == pool_id && pool.first_of_name(link.server()) == server
                };
                let links = self.servers.iter().filter(is_its);
                let in_flight: usize = links.map(|(_, link)| link.queue().len()).sum();
                let held = self.stampede.uncounted().filter(|(id, of)| {
                    self.session_ref(*id).is_some_and(|session| session.pool() == pool_id)
                        && pool.first_of_name(*of) == server
                });
                let in_flight = in_flight + held.count();
                let requests = counters.requests.value();
                if requests != ended + in_flight as u64 {
                    let server = server.index();
                    return Err(format!(
                        "pool {index}, server {server}: {requests} requests, {ended} ended and {in_flight} in flight"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Slot {
    /// A part of the request has ended like this.
    #[inline]
    pub(super) fn note(&mut self, outcome: Outcome) {
        self.outcome = self.outcome.max(outcome);
    }

    /// The slot leaves its session.
    #[inline]
    pub(super) fn count(&self, counters: &PoolCounters) {
        if let Some(class) = self.class {
            counters.ended(class, self.outcome);
        }
    }
}

//! What a failure becomes for the client: an error, or a miss.

use super::Engine;
use super::ids::SessionId;
use super::policy::Policy;
use super::request::{Asked, Request, Slot};
use super::slow::Described;
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::memcache::reply;
use crate::time::Instant;

impl Engine {
    /// What a pool tells its clients when a server failed them.
    pub(super) fn policy(&self, pool: PoolId) -> Policy {
        Policy::of(&self.topology.pools[pool.index()])
    }

    /// Whether a client is told that it has added something when a server failed it.
    #[cold]
    pub(super) fn absorbs_add(&self, id: SessionId) -> bool {
        self.session_ref(id).is_some_and(|session| self.policy(session.pool()).absorbs_add())
    }

    /// Whether a pool answers in a server's place, so that a client is told of no failure.
    pub(super) fn forgives(&self, pool: PoolId) -> bool {
        self.policy(pool).hides()
    }

    /// Appends the answer to a request that a server failed, and counts it. Says what has become of the request.
    #[cold]
    pub(super) fn write_degraded(
        &self,
        out: &mut Vec<u8>,
        pool: PoolId,
        request: &Request,
        echo: &[u8],
        server: Option<ServerId>,
        failure: Failure,
    ) -> Outcome {
        self.count_failure(pool, server, failure);
        let Request { verb, conditional, .. } = *request;
        if let Some(in_place) = request.in_place {
            return self.write_in_place(out, pool, server, in_place, failure);
        }
        let policy = self.policy(pool);
        if policy.tells() {
            self.counters.pool(pool).forward_error.add(1);
            out.extend_from_slice(reply::error(failure));
        } else if policy.absorbs() {
            reply::absorbed(out, verb, conditional, policy.absorbs_add(), echo);
        } else {
            reply::miss(out, verb, echo);
        }
        policy.outcome()
    }

    /// Answers a request that cannot be sent anywhere; `server` is where it should have gone.
    #[cold]
    pub(super) fn answer_degraded(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        server: Option<ServerId>,
        failure: Failure,
    ) {
        let Some(pool) = self.pool_of(id) else { return };
        let mut body = Vec::new();
        let outcome = self.write_degraded(&mut body, pool, &asked.request, asked.echo, server, failure);
        self.doubt_watch(id);
        self.end_request(pool, outcome);
        if asked.request.hides(&body) {
            body.clear();
        }
        self.answer(id, &body);
    }

    /// As [`Engine::answer_degraded`], of a request for one key, which may belong to a server.
    #[cold]
    pub(super) fn answer_unsent(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        (key, server): (&[u8], Option<ServerId>),
        failure: Failure,
        now: Instant,
    ) {
        if let Some(session) = self.session_ref(id) {
            let pool = session.pool();
            if let Some(server) = server {
                self.sample_lost(pool, server, key, now);
            }
            self.slow_lost(pool, None, Described::unknown(asked.request.verb), asked.request.started, failure, now);
        }
        self.answer_degraded(id, asked, server, failure);
    }

    /// Answers the newest request of a client at once, behind those that are still in flight. It is counted as what it
    /// was said to have ended as, or else as one that needed no server.
    pub(super) fn answer(&mut self, id: SessionId, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        self.work.cost += body.len();
        let Some(session) = self.session(id) else { return };
        if session.requests.is_empty() {
            session.output.append(body);
            self.touch_session(id);
            return;
        }
        session.requests.push(Slot::ready(body.to_vec()));
    }
}

//! What a failure becomes for the client: an error, or a miss.

use super::Engine;
use super::policy::Policy;
use super::redis::InPlace;
use super::session::{SessionId, Slot};
use super::slow::Request;
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::memcache::{Verb, reply};
use crate::time::Instant;

/// A request of one client, as far as answering it is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) verb: Verb,
    pub(super) noreply: bool,
    pub(super) quiet: bool,
    /// Whether it stores only under a condition, if it stores.
    pub(super) conditional: bool,
    /// Its key as it stands on the wire, if it has just one.
    pub(super) key: &'a [u8],
    /// Redis: all of it, to find out what is to be forgotten if it does not reach its server.
    pub(super) request: &'a [u8],
    /// Flags of a meta command that every response repeats.
    pub(super) echo: &'a [u8],
    /// Redis: what is answered in a server's place.
    pub(super) in_place: Option<InPlace>,
    /// When it was read.
    pub(super) started: Instant,
}

impl Asked<'_> {
    /// One of memcached's four gets.
    pub(super) const fn get(verb: Verb, started: Instant) -> Self {
        Self {
            verb,
            noreply: false,
            quiet: false,
            conditional: false,
            key: b"",
            request: b"",
            echo: b"",
            in_place: None,
            started,
        }
    }
}

/// What has to be known of a request to answer it in a server's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost<'a> {
    pub(super) verb: Verb,
    /// As in [`Asked`], and so are the next two.
    pub(super) conditional: bool,
    pub(super) echo: &'a [u8],
    pub(super) in_place: Option<InPlace>,
    /// The server that failed it, if it was sent to one.
    pub(super) server: Option<ServerId>,
}

impl Engine {
    /// What a pool tells its clients when a server failed them.
    pub(super) fn policy(&self, pool: PoolId) -> Policy {
        Policy::of(&self.config.pools[pool.index()])
    }

    /// Whether a client is told that it has added something when a server failed it.
    #[cold]
    pub(super) fn absorbs_add(&self, id: SessionId) -> bool {
        self.session_ref(id).is_some_and(|session| self.policy(session.pool).absorbs_add())
    }

    /// Whether a pool answers in a server's place, so that a client is told of no failure.
    pub(super) fn forgives(&self, pool: PoolId) -> bool {
        self.policy(pool).hides()
    }

    /// Appends the answer to a request that a server failed, and counts it. Says what has become of the request.
    #[cold]
    pub(super) fn write_degraded(&self, out: &mut Vec<u8>, pool: PoolId, lost: Lost<'_>, failure: Failure) -> Outcome {
        self.count_failure(pool, lost.server, failure);
        let Lost { verb, conditional, echo, .. } = lost;
        if let Some(in_place) = lost.in_place {
            return self.write_in_place(out, pool, lost.server, in_place, failure);
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
        let Some(session) = self.session_ref(id) else { return };
        let pool = session.pool;
        let mut body = Vec::new();
        let lost = Lost {
            verb: asked.verb,
            conditional: asked.conditional,
            echo: asked.echo,
            in_place: asked.in_place,
            server,
        };
        let outcome = self.write_degraded(&mut body, pool, lost, failure);
        self.doubt_watch(id);
        self.end_request(pool, outcome);
        if asked.noreply || (asked.quiet && reply::is_hidden_when_quiet(asked.verb, &body)) {
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
            let pool = session.pool;
            if let Some(server) = server {
                self.sample_lost(pool, server, key, now);
            }
            self.slow_lost(pool, None, Request::unknown(asked.verb), asked.started, failure, now);
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
        if session.slots.is_empty() {
            session.output.append(body);
            self.touch_session(id);
            return;
        }
        session.held += body.len();
        session.keys_in_flight += 1; // however little it holds: all of them leave together
        session.slots.push_back(Slot {
            started: Instant::NEVER,
            waiting: 0,
            keys: 1,
            class: None,
            outcome: Outcome::Local,
            verb: Verb::Version,
            quiet: false,
            conditional: false,
            in_place: None,
            server: ServerId(0),
            body: body.to_vec(),
            merge: None,
        });
    }
}

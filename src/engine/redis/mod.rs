//! Redis pools: what a client has set up on its connection, and what becomes of its requests.
//!
//! A request's command decides its way ([`plan`](crate::proto::resp::plan)): to the server of its keys
//! ([`keyed`]), in parts to the servers of its keys ([`split`]), to all servers ([`everywhere`]), or it is answered here
//! ([`local`]). What comes from several servers is put together in [`gather`].
//!
//! Server connections are shared as in memcached pools, but only by clients that speak the same version of the
//! protocol and have selected the same database ([`Profile`]); each kind is opened when it is first needed. Requests that
//! block, subscribe or watch have connections of their own ([`dedicated`]).

mod alone;
mod asked_scripts;
mod call;
mod carried;
mod client;
mod copies;
mod dedicated;
mod deliver;
mod describe;
mod echo;
mod end_wait;
mod everywhere;
mod exec;
mod follow;
mod frugal;
pub(super) mod gather;
mod handshake;
pub(super) mod handshaking;
mod in_place;
mod info;
mod input;
mod inquiry;
mod keyed;
mod leases;
mod loaded;
mod local;
mod local_client;
mod long;
pub(super) mod named;
mod near;
mod peer;
mod piece;
mod piecemeal;
mod planned;
mod planning;
mod portions;
mod prepared;
mod pubsub;
pub(super) mod question;
mod queue;
mod resubscribe;
mod script;
mod shape;
mod spare;
mod split;
mod state;
pub(super) mod subscriptions;
mod texts;
mod transaction;
mod unread;
mod waiting;
mod warm;
mod watch;
mod watched;

use super::Engine;
use super::ids::SessionId;
use crate::config::model::{PoolId, ServerId};
use crate::engine::policy::Policy;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::memcache::reply;
use crate::proto::resp::{Version, encode};
pub(super) use asked_scripts::Loaded;
pub(super) use call::Turn;
pub use carried::CarriedRedis;
pub(crate) use client::{Client, Profile, Replies};
pub(crate) use in_place::InPlace;
pub use peer::Peer;
pub use question::{Findings, Inquiry};
pub(super) use state::State;
pub use texts::Scripts;
pub(super) use waiting::{Name, Waiting};

impl Engine {
    /// A client of a Redis pool has connected.
    pub(super) fn redis_connected(&mut self, pool: PoolId) -> Box<Client> {
        let settings = &self.topology.pools[pool.index()].redis;
        let (trusted, database) = (settings.auth.is_none(), settings.db);
        self.redis.last_client += self.topology.counters.len() as u64; // each worker numbers its own, and none twice
        Box::new(Client::new(self.redis.last_client, trusted, database, self.now))
    }

    fn redis(&mut self, id: SessionId) -> Option<&mut Client> {
        self.session(id)?.redis_mut()
    }

    #[inline]
    fn client(&self, id: SessionId) -> Option<&Client> {
        self.session_ref(id)?.redis()
    }

    fn version(&self, id: SessionId) -> Version {
        self.client(id).map_or(Version::Resp2, |client| client.version)
    }

    /// Answers the request at hand, unless the client wants no answer.
    fn say(&mut self, id: SessionId, body: &[u8]) {
        if self.redis(id).is_some_and(|client| client.replies == Replies::On) {
            self.answer(id, body);
        }
    }

    /// Refuses the request at hand.
    fn say_error(&mut self, id: SessionId, text: &[u8]) {
        if let Some(session) = self.session_ref(id) {
            self.end_request(session.pool(), Outcome::Refused);
        }
        let mut body = Vec::with_capacity(text.len() + 3);
        encode::error(&mut body, text);
        self.say(id, &body);
    }

    fn say_ok(&mut self, id: SessionId) {
        self.say(id, b"+OK\r\n");
    }

    fn say_integer(&mut self, id: SessionId, value: i64) {
        let mut body = Vec::new();
        encode::integer(&mut body, value);
        self.say(id, &body);
    }

    /// Appends the answer to a request that a server failed, by the pool's policy.
    pub(super) fn write_in_place(
        &self,
        out: &mut Vec<u8>,
        pool: PoolId,
        server: Option<ServerId>,
        in_place: InPlace,
        failure: Failure,
    ) -> Outcome {
        if self.policy(pool).hides() && in_place.fallback.write(out, in_place.version) {
            return Outcome::Degraded;
        }
        self.counters.pool(pool).forward_error.add(1);
        self.write_failure(out, pool, server, failure);
        Outcome::Failed
    }

    /// Appends the error line for a failure: twemproxy's words where failures are told, and where they are hidden, and
    /// this one cannot be, what the matter is and with whom.
    pub(super) fn write_failure(&self, out: &mut Vec<u8>, pool: PoolId, server: Option<ServerId>, failure: Failure) {
        let config = &self.topology.pools[pool.index()];
        if Policy::of(config).tells() {
            out.extend_from_slice(b"-ERR ");
            out.extend_from_slice(reply::reason(failure));
            out.extend_from_slice(b"\r\n");
            return;
        }
        let text = match server {
            Some(server) => format!("ERR server {}: {failure}", config.server(server).name),
            None => format!("ERR {failure}"),
        };
        encode::error(out, text.as_bytes());
    }
}

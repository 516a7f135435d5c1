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
pub(super) mod dedicated;
mod deliver;
mod describe;
mod everywhere;
mod exec;
mod follow;
mod frugal;
pub(super) mod gather;
pub(super) mod handshake;
mod info;
mod input;
pub(super) mod inquiry;
mod keyed;
mod loaded;
mod local;
mod local_client;
mod long;
pub(super) mod named;
pub(super) mod pubsub;
mod resubscribe;
mod script;
mod shape;
mod spare;
mod split;
mod state;
mod subscriptions;
mod transaction;
mod watch;

use super::Engine;
use super::ids::{LinkId, SessionId};
use crate::config::model::{PoolId, ServerId};
use crate::engine::policy::Policy;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::memcache::reply;
use crate::proto::resp::fallback::Fallback;
use crate::proto::resp::request::{Progress, Swallow};
use crate::proto::resp::{Version, encode};
use crate::time::Instant;
pub(super) use asked_scripts::Loaded;
pub use describe::Peer;
pub(super) use follow::{Name, Waiting};
use frugal::Unread;
pub(super) use input::Turn;
use inquiry::Asking;
pub use inquiry::{Findings, Inquiry};
use long::Long;
use pubsub::Subscriptions;
pub use script::Scripts;
pub(super) use state::State;
use transaction::Queue;
use watch::Watch;

/// What an argument of a request takes besides its bytes when the request is carried out.
const ARGUMENT_COST: usize = 24;

/// What a server connection is set to before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Profile {
    pub(crate) version: Version,
    pub(crate) database: u32,
}

/// What a request is answered if a server fails it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InPlace {
    pub(crate) version: Version,
    pub(crate) fallback: Fallback,
}

/// Which of its requests a client wants answered (`CLIENT REPLY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replies {
    On,
    Off,
    /// Not this one; `SKIP` was said in it.
    SkipThis,
    /// Not the next one.
    SkipNext,
}

/// What a Redis client has set up.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) version: Version,
    /// It has given the password, or need not.
    pub(crate) trusted: bool,
    pub(crate) database: u32,
    pub(crate) name: Vec<u8>,
    /// Name and version of its library (`CLIENT SETINFO`).
    pub(crate) library: [Vec<u8>; 2],
    /// It has given the name of the pool's user, and the password.
    pub(crate) has_user: bool,
    /// When it connected, and when its last request was read.
    pub(crate) since: Instant,
    pub(crate) last: Instant,
    /// The command of that.
    pub(crate) command: Option<&'static str>,
    pub(crate) peer: Option<Peer>,
    /// It is told what servers are asked.
    pub(crate) monitors: bool,
    /// It has asked not to be chosen when clients are to be got rid of (`CLIENT NO-EVICT`).
    pub(crate) no_evict: bool,
    /// What it wants to know of other clients, until all workers have looked.
    pub(crate) asking: Option<Box<Asking>>,
    pub(crate) replies: Replies,
    /// How far the request that it sends has been looked at; where that is `long`, all of it.
    pub(crate) progress: Progress,
    /// Its next request, when that is made ready in portions.
    pub(crate) long: Option<Box<Long>>,
    pub(crate) swallow: Swallow,
    /// The request that is swallowed, if it is to be answered when its end has come.
    pub(crate) unread: Option<Box<Unread>>,
    /// What it has queued since `MULTI`.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) subscriptions: Option<Box<Subscriptions>>,
    /// Server connections of its own.
    pub(crate) dedicated: Vec<LinkId>,
}

impl Client {
    fn new(number: u64, trusted: bool, database: u32, now: Instant) -> Self {
        Self {
            number,
            version: Version::Resp2,
            trusted,
            database,
            name: Vec::new(),
            library: [Vec::new(), Vec::new()],
            has_user: false,
            since: now,
            last: now,
            command: None,
            peer: None,
            monitors: false,
            no_evict: false,
            asking: None,
            replies: Replies::On,
            progress: Progress::default(),
            long: None,
            swallow: Swallow::default(),
            unread: None,
            queue: None,
            watch: None,
            subscriptions: None,
            dedicated: Vec::new(),
        }
    }

    pub(crate) const fn profile(&self) -> Profile {
        Profile { version: self.version, database: self.database }
    }

    /// Whether it holds no memory beyond its own size, as can be seen at a glance.
    #[inline]
    pub(crate) fn holds_nothing(&self) -> bool {
        let names = self.name.capacity() | self.library[0].capacity() | self.library[1].capacity();
        self.subscriptions.is_none()
            && self.queue.is_none()
            && self.asking.is_none()
            && self.unread.is_none()
            && self.progress.come == 0
            && names == 0
    }

    /// Memory that it holds beyond its own size.
    pub(crate) fn footprint(&self) -> usize {
        let subscriptions = self.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.footprint());
        let names = self.name.capacity() + self.library.iter().map(Vec::capacity).sum::<usize>();
        let arguments = self.progress.come as usize * ARGUMENT_COST;
        let asking = self.asking.as_ref().map_or(0, |asking| asking.footprint());
        let unread = self.unread.as_ref().map_or(0, |unread| unread.footprint());
        let long = self.long.as_ref().map_or(0, |long| long.reserved);
        let queue = self.queue.as_ref().map_or(0, |queue| queue.footprint());
        queue + subscriptions + names + arguments + asking + unread + long
    }

    /// Drops what it has set up that takes memory: the client is cut off.
    pub(crate) fn forget(&mut self) {
        (self.queue, self.subscriptions, self.asking, self.unread) = (None, None, None, None);
        self.drop_long();
        (self.name, self.library) = Default::default();
    }
}

impl Engine {
    /// A client of a Redis pool has connected.
    pub(super) fn redis_connected(&mut self, pool: PoolId) -> Box<Client> {
        let settings = &self.topology.pools[pool.index()].redis;
        let (trusted, database) = (settings.auth.is_none(), settings.db);
        self.redis.last_client += self.topology.counters.len() as u64; // each worker numbers its own, and none twice
        Box::new(Client::new(self.redis.last_client, trusted, database, self.now))
    }

    fn redis(&mut self, id: SessionId) -> Option<&mut Client> {
        self.session(id)?.redis.as_deref_mut()
    }

    fn version(&self, id: SessionId) -> Version {
        self.session_ref(id).and_then(|session| session.redis.as_ref()).map_or(Version::Resp2, |client| client.version)
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
            self.end_request(session.pool, Outcome::Refused);
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

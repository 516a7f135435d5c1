//! The heart: clients' bytes in, servers' bytes out, and back. No I/O, no clock, no runtime.
//!
//! An [`Engine`] is the state of one worker. The shell that owns the sockets drives it, and so does a simulation that
//! has none. Its methods are of four kinds:
//!
//! - **`client_*` and `link_*` in**: what happened on a connection: opened, bytes read, bytes written, closed. Each takes
//!   `now`, which never goes backwards.
//! - **`handle_timeout`**: the time that [`Engine::next_timeout`] named has come.
//! - **Outputs**: [`Engine::client_output`] and [`Engine::link_output`] are the bytes to be written; report what was
//!   written with `client_wrote` and `link_wrote`.
//! - **`poll_*`**: after any call, drain [`Engine::poll_effect`], [`Engine::poll_link`] and [`Engine::poll_client`]:
//!   connections to open and close, and whom to wake.
//!
//! **Order.** Effects come in the order in which they arose, and that one is to be kept. Between the three queues there is
//! none to keep; the shell takes effects first, since connections take the longest, then links, then clients, and begins
//! anew whenever what it did for one of them has filled another. It is done when all three are empty. A link is named once
//! until `link_output` is asked for it, and a client once until `client_status` is.
//!
//! **Re-entrancy.** No method calls back into the engine, and none waits. The one thing that is called from inside is the
//! [`Outlet`], which is handed a client's bytes and has no engine to call; what happens to a socket meanwhile is reported
//! after the call.
//!
//! **Ids.** Each has a generation, and a link's connection an epoch beside. What is no more can still be named, by an event
//! that was under way when it ended: nothing is done then, `client_output` and `link_output` are empty, and
//! `client_status` says that the client is finished. So whoever carries out [`Effect::Connect`] first asks
//! [`Engine::link_is_current`]. Only [`Engine::link_server`] tells of the next link at the same place.
//!
//! # Invariants
//!
//! Each request gets exactly one answer, in the order of its client's requests, made of responses to itself only:
//! - a response is matched to a request by its place in the server's stream ([`servers::ticket::Ticket`]) and, where it names a
//!   key or a token, by that as well; on a mismatch the connection is closed and not a byte of it is passed on;
//! - a ticket stays in flight until its response has been read, also when its request was answered long ago;
//! - a slot is answered once: by the last of its servers' responses, by their failure, or by its deadline.
//!
//! [`Engine::check_invariants`] says what else must hold between two calls.

mod account;
mod admission;
mod buffers;
mod chore;
mod chores;
mod client_io;
mod clients;
mod crowd;
mod deadline;
mod degrade;
mod deliver;
mod dispatch;
mod dispatched;
mod effect;
mod failover;
mod fault;
mod figures;
mod hand_over;
mod hot;
pub mod ids;
mod input;
mod invalidate;
mod invariant;
mod keys;
mod language;
mod large;
mod memcache;
mod memory;
mod missed;
mod named_key;
mod near;
mod news;
mod outputs;
mod own;
mod policy;
mod pool;
mod probe;
mod random;
mod rate_limit;
pub(crate) mod redis;
mod request;
mod sampler;
mod scatter;
mod scattered;
mod send;
mod server_io;
mod servers;
mod settings;
mod setup;
mod shared;
mod slow;
mod slow_log;
mod stall;
mod stampede;
mod stranger;
mod taking;
mod telemetry;
mod timers;
mod topology;
mod travel;
mod turn;
mod warmup;
mod ways;
mod work;

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{PoolId, ServerId};
use crate::health::Registry;
use crate::stats::counters::Counters;
use crate::time::Instant;
use crate::topology::{Published, Topology};
pub use buffers::Room;
pub(crate) use clients::EXPECTED_CLIENTS;
use clients::session::Session;
use deadline::{Timer, Timers};
pub use effect::{Effect, Notice};
use ids::{LinkId, SessionId};
pub use language::Language;
use pool::{Member, PoolState};
use random::next_random;
pub use redis::{CarriedRedis, Findings, Inquiry, Peer, Scripts, handshaking::Term};
use servers::Servers;
pub use setup::Setup;
pub use slow_log::Slow;
pub use travel::Carried;

/// What the shell may do with a client connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientStatus {
    /// Read from it.
    pub reads: bool,
    /// Everything is said: close it.
    pub finished: bool,
}

/// The short way for a response: into the client's socket from where it was read, when nothing waits before it and
/// nothing is to come that could share the write. It saves a copy.
pub trait Outlet {
    /// Writes what the client's connection takes at once of two pieces, of which the second may be empty, and says how
    /// many bytes that was; the engine keeps the rest.
    fn offer(&mut self, client: SessionId, pieces: [&[u8]; 2]) -> usize;
}

/// No short way: every response is kept until the shell asks for it.
impl Outlet for () {
    fn offer(&mut self, _client: SessionId, _pieces: [&[u8]; 2]) -> usize {
        0
    }
}

/// What becomes of a worker's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// They are served.
    Serves,
    /// Another process takes them, each at its next request.
    HandsOver,
    /// They are answered what has been read of them, and then hung up on.
    Drains,
}

/// The state of one worker.
#[derive(Debug)]
pub struct Engine {
    published: Arc<Published>,
    /// The topology that this worker has gone over to last, and what is needed of it for every request.
    topology: Arc<Topology>,
    registry: Arc<Registry>,
    counters: Arc<Counters>,
    /// The number of this worker.
    worker: usize,
    probes: bool,
    pools: Vec<PoolState>,
    clients: clients::Clients,
    servers: Servers,
    timers: Timers,
    chores: chore::Chores,
    work: work::Work,
    outputs: outputs::Outputs,
    /// The registry's version that `pools` reflects.
    version: u64,
    random: u64,
    started_at: Duration,
    /// The parts of the request at hand, for their room.
    ways: Vec<ways::Way>,
    memcache: memcache::Kept,
    warmup: warmup::Warmup,
    stampede: stampede::Stampede,
    near: near::Nears,
    /// Requests are looked at before they are carried out: some pool brings keys along, has gets wait for keys, or
    /// keeps values.
    looks_first: bool,
    redis: redis::State,
    memory: memory::Memory,
    /// The time of the event at hand.
    now: Instant,
    course: Course,
    telemetry: telemetry::Telemetry,
}

impl Engine {
    // --- Time, news, the end ------------------------------------------------------------------------------------

    /// Something that the shell has to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.outputs.next_effect()
    }

    /// Whether [`Engine::poll_effect`] has something.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        self.outputs.has_effects()
    }

    /// When [`Engine::handle_timeout`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.earliest()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.refresh(now);
        if self.memory.unassigned() != self.registry.kept() {
            self.charge_kept(); // it grows when servers fail, and that sets timers
        }
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Session(id) => self.session_timer(id, now),
                Timer::Link(id) => self.link_timer(id, now),
                Timer::Probe(pool, server) => self.probe_timer(pool, server, now),
                Timer::Flush(pool, server) => self.flush_timer(pool, server, now),
                Timer::Subscriptions(id) => self.resubscribe(id, now),
                Timer::Follow(pool) => self.follow_all(pool, now),
                Timer::Warmup => self.warmup_due(now),
                Timer::Stampede => self.stampede_due(now),
                Timer::Chores => self.work_off(now),
                Timer::Memory => self.memory_timer(now),
            }
        }
        self.settle(now);
    }

    /// Takes note of what other workers found out about the servers.
    #[inline]
    pub fn refresh(&mut self, now: Instant) {
        self.now = now;
        while self.version != self.registry.version() {
            self.apply_news(now);
        }
    }

    /// Reads no more; what has been read is answered, then each client is finished.
    pub fn drain(&mut self) {
        self.course = Course::Drains;
        self.end_waits(self.now);
        let ids: Vec<_> = self.clients.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.give_up_asking(id);
            self.touch_session(id);
        }
    }

    /// Clients connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Bytes held in buffers.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory.held()
    }

    // --- Common to all parts ------------------------------------------------------------------------------------

    /// Finishes what a call has set off, until nothing more follows from it.
    #[inline]
    fn settle(&mut self, now: Instant) {
        self.now = now;
        let is_settled = self.version == self.registry.version()
            && !self.clients.has_resumable()
            && self.memory.held() <= self.memory.limits().common
            && self.telemetry.limit_hit.get_mut().is_none();
        if !is_settled {
            self.settle_all(now);
        }
    }

    #[inline(never)]
    fn settle_all(&mut self, now: Instant) {
        loop {
            self.refresh(now);
            let Some(id) = self.clients.next_resumable() else { break };
            self.resume(id, now);
        }
        self.charge_kept();
        if self.memory.held() > self.memory.limits().common {
            self.relieve_memory(now);
        }
        if self.telemetry.limit_hit.get_mut().is_some() {
            self.tell_limits(now);
        }
    }

    /// Counts this worker's part of what the process holds for nobody in particular.
    fn charge_kept(&mut self) {
        self.memory.recharge_unassigned(self.registry.kept());
    }

    #[inline]
    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.clients.get_mut(id)
    }

    #[inline]
    fn session_ref(&self, id: SessionId) -> Option<&Session> {
        self.clients.get(id)
    }

    /// The pool of a client, unless it has left.
    #[inline]
    fn pool_of(&self, id: SessionId) -> Option<PoolId> {
        self.session_ref(id).map(|session| session.pool())
    }

    /// Has the shell look at a client.
    fn touch_session(&mut self, id: SessionId) {
        if self.session(id).is_some_and(Session::mark) {
            self.outputs.wake_client(id);
        }
    }

    /// What this worker has of a server.
    #[inline(always)]
    fn member(&self, pool: PoolId, server: ServerId) -> &Member {
        &self.pools[pool.index()].members[server.index()]
    }

    #[inline(always)]
    fn member_mut(&mut self, pool: PoolId, server: ServerId) -> &mut Member {
        &mut self.pools[pool.index()].members[server.index()]
    }

    /// Has the shell write to a server.
    fn touch_link(&mut self, id: LinkId) {
        let link = &mut self.servers[id];
        if link.is_up() && link.wake() {
            self.outputs.wake_link(id);
        }
    }

    /// Brings the memory account of a session up to date and frees what it does not need. Mostly there is nothing to do,
    /// and that is all that is found out where it is called.
    #[inline]
    fn charge_session(&mut self, id: SessionId) {
        if self.session_ref(id).is_some_and(|session| !session.is_charged()) {
            self.recharge_session(id);
        }
    }

    #[inline(never)]
    fn recharge_session(&mut self, id: SessionId) {
        let Some(session) = self.clients.get_mut(id) else {
            return;
        };
        session.relax();
        let footprint = session.footprint();
        let before = session.holding.recharge(footprint);
        if footprint != before {
            self.memory.recharge(before, footprint);
            if (footprint > self.memory.limits().fair) != session.holding.is_hoarder() {
                self.note_hoard(id);
            }
        }
    }

    /// Brings the memory account of a link up to date.
    #[inline(always)]
    fn charge_link(&mut self, id: LinkId) {
        let link = &mut self.servers[id];
        let (before, after) = link.charge();
        if before != after {
            self.memory.recharge(before, after);
        }
        if let Some((queues, told)) = link.report() {
            // Several connections share a server's gauges, so each tells by how much it has changed.
            let server = self.counters.server(link.pool(), link.server());
            server.in_queue.add(queues.waiting.wrapping_sub(told.waiting));
            server.in_queue_bytes.add(queues.waiting_bytes.wrapping_sub(told.waiting_bytes));
            server.out_queue.add(queues.asked.wrapping_sub(told.asked));
            server.out_queue_bytes.add(queues.asked_bytes.wrapping_sub(told.asked_bytes));
        }
    }

    fn timeout(&self, pool: PoolId) -> Option<Duration> {
        self.topology.pools[pool.index()].timeout
    }

    /// The deadline of what started at `started`.
    fn deadline(&self, pool: PoolId, started: Instant) -> Instant {
        self.timeout(pool).map_or(Instant::NEVER, |timeout| started + timeout)
    }
}

fn pool_id(index: usize) -> PoolId {
    PoolId(u16::try_from(index).unwrap_or(u16::MAX))
}

fn server_id(index: usize) -> ServerId {
    ServerId::at(index)
}

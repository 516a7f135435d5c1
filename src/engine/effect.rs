//! What the engine asks of the shell, and what it has to tell.

use std::sync::Arc;
use std::time::Duration;

use super::ids::LinkId;
use super::redis::handshaking::Term;
use super::redis::question::{Findings, Inquiry};
use super::slow_log::Slow;
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;

/// Something that only the shell can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open a connection for the link; report with [`super::Engine::link_connected`] or [`super::Engine::link_failed`].
    Connect {
        /// Which link.
        link: LinkId,
        /// The attempt, to be given back with every report about it.
        epoch: u32,
    },
    /// Drop whatever connection the link had; its epoch is over.
    Disconnect {
        /// Which link.
        link: LinkId,
        /// At once, with all that is still on its way: the server must not be handed it later.
        reset: bool,
        /// In place of that, say nothing more on it and wait until the server closes it: then it has carried out all that
        /// it was asked on it. Report with [`super::Engine::link_ended`], by this pool and server: the link's place may be
        /// another's by the time this is carried out.
        lingers: Option<(PoolId, ServerId)>,
    },
    /// Reset the connections to this server whose end is being waited for, and report each.
    EndLingering {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
    },
    /// Read the link's connection, of which [`super::Room::Nowhere`] was said: what is there will not be announced again.
    Read {
        /// Which link.
        link: LinkId,
    },
    /// The ring has changed: every other worker is to be woken ([`super::Engine::refresh`]).
    News,
    /// A client asks about the clients of all workers: hand this to each other one ([`super::Engine::inquired`]). In the
    /// place of one that has ended, report [`Findings::none`].
    Inquire(Arc<Inquiry>),
    /// What this worker has found for another one's client: hand it to that worker ([`super::Engine::found`]).
    Found(Box<Findings>),
    /// Something the operator wants to know.
    Notice(Notice),
    /// A request took long.
    Slow(Box<Slow>),
}

/// A change of state, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A server is out of the ring.
    Ejected {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// The failure that did it.
        failure: Failure,
        /// Failures in a row.
        failures: u32,
    },
    /// A server fails, and stays in the ring.
    Failing {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// The last failure.
        failure: Failure,
        /// Failures in a row.
        failures: u32,
        /// How long it has failed.
        lasts: Duration,
        /// Such failures since it was last told.
        suppressed: u32,
    },
    /// A server that was told to fail has answered.
    Well {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// How long it failed.
        failed_for: Duration,
    },
    /// A server is back in the ring.
    Restored {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// How long it was out.
        away: Duration,
        /// Probes that it took.
        probes: u32,
        /// Its process is another one than before; `None` where that is not known.
        restarted: Option<bool>,
        /// Keys that it was made to forget first.
        forgotten_keys: u32,
        /// It was flushed first.
        flushed: bool,
    },
    /// A server is silent; requests are answered in its place until it says something.
    Silent {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// For how long it has said nothing to what it was asked.
        silent: Duration,
        /// Times that it happened since it was last told.
        suppressed: u32,
    },
    /// A server would not be flushed of what it should have forgotten.
    Unflushed {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// Times that it happened since it was last told.
        suppressed: u32,
    },
    /// A server of memcached is older than 1.6 and knows no `mg`: it gives no copies of values (`stale` of `stampede`).
    Copyless {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// Times that it happened since it was last told.
        suppressed: u32,
    },
    /// A server answers, and has not come to the end of connections that were given up: what it was asked on them it may
    /// carry out late.
    Unfinished {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// How many they are; they are reset.
        connections: usize,
    },
    /// A server is well, and stays out because it has changed the ring too often.
    HeldBack {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// For how long at least.
        wait: Duration,
    },
    /// A Redis server refuses what a connection needs.
    Denied {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// What it refuses.
        term: Term,
        /// What it says.
        text: Box<str>,
        /// Times that it happened since it was last told.
        suppressed: u32,
    },
    /// A server broke the protocol; its connection was closed.
    Violation {
        /// Its pool.
        pool: PoolId,
        /// The server.
        server: ServerId,
        /// What it did.
        violation: crate::proto::memcache::response::Violation,
        /// Times that it happened since it was last told.
        suppressed: u32,
    },
    /// A client speaks what is not spoken here.
    Stranger {
        /// The pool that it connected to.
        pool: PoolId,
        /// The client.
        session: super::ids::SessionId,
        /// What it speaks.
        language: super::Language,
        /// Such clients, or requests, since it was last told.
        suppressed: u32,
    },
    /// A client has not said who it is, or not said it right.
    NotAdmitted {
        /// The pool that it connected to.
        pool: PoolId,
        /// The client.
        session: super::ids::SessionId,
        /// Times that it happened since it was last told.
        suppressed: u32,
    },
    /// A client was cut off because it held most of what memory there is.
    CutOff {
        /// Its pool.
        pool: PoolId,
        /// Bytes that it held.
        held: usize,
        /// Bytes that all clients and servers of this worker may hold.
        most: usize,
        /// Clients of the pool that were cut off since it was last told.
        clients: u64,
    },
    /// Requests were answered in their server's place because a limit was reached, or because the server answers and does
    /// not do what it is asked.
    Limit {
        /// Their pool.
        pool: PoolId,
        /// Their server, where it is one server's queue, or what it says.
        server: Option<ServerId>,
        /// Which limit: [`Failure::NoMemory`], [`Failure::QueueFull`] or [`Failure::NoDedicated`]; otherwise what the server
        /// says in place of doing what it is asked.
        failure: Failure,
        /// Bytes in the buffers of this worker, and how many may be.
        held: usize,
        /// See `held`.
        most: usize,
        /// Requests since it was last told.
        requests: u64,
    },
}

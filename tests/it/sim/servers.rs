//! The servers of the simulation, and their connections.

use softmiss::config::model::{PoolId, ServerId};
use softmiss::engine::ids::LinkId;

use super::store::Store;

/// Bytes on their way.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    bytes: Vec<u8>,
    head: usize,
}

impl Pipe {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer to append to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.head > 0 && self.head >= self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
        &mut self.bytes
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.head += count;
        debug_assert!(self.head <= self.bytes.len());
    }
}

/// Which connection: worker, link, epoch.
pub(super) type ConnectionId = (usize, LinkId, u32);

/// A connection between a worker and a server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) server: usize,
    pub(super) to_server: Pipe,
    /// Responses on their way back.
    pub(super) to_proxy: Pipe,
    /// The server's side is closed once `to_proxy` is empty.
    pub(super) closing: bool,
    /// The server says something different from what it should.
    pub(super) lies: Option<Lie>,
    /// The server has said something twice on it.
    pub(super) poisoned: bool,
    /// Since when something was asked on it and nothing heard.
    pub(super) waiting_since: Option<u64>,
    /// The key whose lease was given by what the server carried out last.
    pub(super) given: Option<String>,
    /// Nothing moves on it before this tick: others overtake it.
    pub(super) rests_until: u64,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, server: usize) -> Self {
        Self {
            id,
            server,
            to_server: Pipe::default(),
            to_proxy: Pipe::default(),
            closing: false,
            lies: None,
            poisoned: false,
            waiting_since: None,
            given: None,
            rests_until: 0,
        }
    }
}

/// What a sick server does to one response.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lie {
    /// Answers with the value of another key.
    WrongKey,
    /// Sends bytes that mean nothing.
    Junk,
    /// Sends half of it, then closes.
    Truncate,
    /// Sends it twice.
    Twice,
    /// Says an orderly error.
    OutOfMemory,
}

/// A worker that waits for the end of a connection, and whose it was.
pub(super) type Waiter = (usize, PoolId, ServerId);

/// What a server has received on a connection that is gone.
#[derive(Debug)]
pub(super) struct Zombie {
    pub(super) bytes: Vec<u8>,
    /// Who waits for the server to come to its end.
    pub(super) lingers: Option<Waiter>,
}

#[derive(Debug)]
pub(super) struct SimServer {
    /// What the file calls it, and its share there.
    pub(super) name: String,
    pub(super) weight: u32,
    /// What it is known by in the newest topology, or was when it was in one last.
    pub(super) known: (PoolId, ServerId),
    /// The tick at which it left the pool; `None` while it is there.
    pub(super) left_at: Option<u64>,
    pub(super) store: Store,
    pub(super) listens: bool,
    /// When its process was started.
    pub(super) started: u64,
    /// It accepts connects and bytes, and answers nothing.
    pub(super) hangs: bool,
    /// Connects neither succeed nor fail.
    pub(super) unreachable: bool,
    /// Connects fail at once: there is no route.
    pub(super) no_route: bool,
    /// Its responses come a byte or two at a time.
    pub(super) trickles: bool,
    /// So many times more it goes away and comes back.
    pub(super) flaps: u32,
    /// When a fault last touched it or its connections.
    pub(super) trouble: Option<u64>,
    /// Time has just jumped, and it had been in trouble before.
    pub(super) jumped: bool,
    /// How often it was found silent.
    pub(super) stalls: u64,
    /// No connection of its has ever ended.
    pub(super) untouched: bool,
    pub(super) is_out: bool,
    /// The tick at which it was last out of the ring.
    pub(super) out_at: Option<u64>,
    /// Connections that are poisoned now.
    pub(super) poisoned: usize,
    /// The tick at which the last one went.
    pub(super) poisoned_until: Option<u64>,
    /// What it has received on connections that are gone, and may carry out still.
    pub(super) zombies: Vec<Zombie>,
    /// Those that wait for the ends of connections that it will never come to.
    pub(super) unheard: Vec<Waiter>,
    /// Ticks at which it was flushed.
    pub(super) flushed: Vec<u64>,
}

impl SimServer {
    pub(super) fn new(name: String, known: (PoolId, ServerId)) -> Self {
        Self {
            name,
            weight: 1,
            known,
            left_at: None,
            store: Store::default(),
            listens: true,
            started: 0,
            hangs: false,
            unreachable: false,
            no_route: false,
            trickles: false,
            flaps: 0,
            trouble: None,
            jumped: false,
            stalls: 0,
            untouched: true,
            is_out: false,
            out_at: None,
            poisoned: 0,
            poisoned_until: None,
            zombies: Vec::new(),
            unheard: Vec::new(),
            flushed: Vec::new(),
        }
    }

    /// Whether nothing is wrong with it at this moment.
    pub(super) fn is_well(&self) -> bool {
        self.listens
            && !self.hangs
            && !self.unreachable
            && !self.no_route
            && !self.trickles
            && self.flaps == 0
            && self.zombies.is_empty()
    }

    /// Whether it was out of the ring at some time from `tick` on.
    pub(super) fn was_out(&self, tick: u64) -> bool {
        self.is_out || self.out_at.is_some_and(|out| out >= tick)
    }

    /// Whether nothing that was asked since `tick` may reach it.
    pub(super) fn had_left(&self, tick: u64) -> bool {
        self.left_at.is_some_and(|left| left < tick)
    }

    pub(super) fn mend(&mut self) {
        self.listens = true;
        (self.hangs, self.unreachable, self.no_route, self.trickles) = (false, false, false, false);
        self.flaps = 0;
    }

    /// Whether what was asked since `tick` may have been answered by a connection that is out of step.
    pub(super) fn is_poisoned(&self, tick: u64) -> bool {
        self.poisoned > 0 || self.poisoned_until.is_some_and(|until| until >= tick)
    }
}

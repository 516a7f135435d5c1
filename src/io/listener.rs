//! Listening sockets: bound before anything else starts, so that every problem is told at once; and accepting.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{error, warn};

use super::files::{ADVICE, Files};
use super::mailbox::{Handle, Message};
use super::poller::{Poller, Token};
use super::socket_file::{self, SocketFile};
use crate::config::model::{Listen, Pool, PoolId};
use crate::time::Instant;
use crate::topology::Topology;

/// Pause of a listener when there is no file descriptor for a client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is told, while that goes on, that clients wait.
const WARN_PERIOD: Duration = Duration::from_secs(60);

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Arc<SocketFile>),
}

impl Bound {
    /// The TCP address that it is bound to.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// The file of a unix socket, which outlives it.
    pub(crate) fn file(&self) -> Option<Arc<SocketFile>> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(_, file) => Some(Arc::clone(file)),
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

/// Binds the listener of a pool.
pub(crate) fn bind(pool: &Pool) -> io::Result<Bound> {
    match &pool.listen {
        Listen::Tcp { address, .. } => {
            bind_tcp(*address, pool.backlog, pool.reuseport, pool.tcpkeepalive).map(Bound::Tcp)
        }
        Listen::Unix { path, mode } => {
            socket_file::bind(path, *mode, pool.backlog).map(|(listener, file)| Bound::Unix(listener, Arc::new(file)))
        }
    }
}

/// Binds a TCP address. Connections have their options from the listener, without calls for each: they send at once, and
/// with `keepalive` the kernel finds out when the peer is gone.
pub(crate) fn bind_tcp(
    address: SocketAddr,
    backlog: u32,
    reuseport: bool,
    keepalive: bool,
) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuseport {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?; // before it listens, so that the first connection has it as well
    socket.set_keepalive(keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Accepts the clients of all pools and deals each to the worker with the fewest. The first worker has it.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    /// When those that pause are to be asked again.
    resumes: Option<Instant>,
    /// When the operator was last told that clients wait.
    warned_at: Option<Instant>,
    files: Arc<Files>,
    topology: Arc<Topology>,
    workers: Arc<[Handle]>,
}

#[derive(Debug)]
struct Listener {
    bound: Bound,
    /// Clients that were let in, whether their worker knows of them yet or not.
    let_in: u64,
    /// There is no descriptor for who waits, and it is not asked for a while.
    paused: bool,
}

/// Somebody who was accepted.
pub(crate) enum Accepted {
    /// A client to be served here.
    Here(PoolId, OwnedFd),
    /// Somebody who is served elsewhere, or not at all.
    Elsewhere,
}

impl Acceptor {
    /// Accepts on all of them, each that of the pool of its number.
    pub(crate) fn new(
        bound: Vec<Bound>,
        topology: Arc<Topology>,
        workers: Arc<[Handle]>,
        files: Arc<Files>,
        poller: &Poller,
    ) -> Self {
        let listeners = bound.into_iter().map(|bound| Listener { bound, let_in: 0, paused: false }).collect();
        let acceptor = Self { listeners, resumes: None, warned_at: None, files, topology, workers };
        for place in 0..acceptor.listeners.len() {
            acceptor.listen(place, poller);
        }
        acceptor
    }

    fn listen(&self, place: usize, poller: &Poller) {
        let token = Token::Listener(u32::try_from(place).unwrap_or(u32::MAX));
        if let Err(error) = poller.watch_listener(&self.listeners[place].bound, token) {
            error!(pool = self.topology.pools[place].name, %error, "cannot accept clients");
        }
    }

    /// When [`Acceptor::resume`] has something to do.
    pub(crate) fn resumes(&self) -> Option<Instant> {
        self.resumes
    }

    /// Has those listen whose pause is over.
    pub(crate) fn resume(&mut self, now: Instant, poller: &Poller) {
        if self.resumes.is_none_or(|at| now < at) {
            return;
        }
        self.resumes = None;
        self.files.look_again();
        for place in 0..self.listeners.len() {
            if std::mem::take(&mut self.listeners[place].paused) {
                self.listen(place, poller);
            }
        }
    }

    /// Accepts one who waits; `None` if nobody does.
    pub(crate) fn accept(&mut self, place: u32, now: Instant, poller: &Poller) -> Option<Accepted> {
        let clients: usize = self.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum();
        if !self.files.has_room(clients) {
            self.pause(place, clients, None, now, poller);
            return None;
        }
        let listener = self.listeners.get_mut(place as usize)?;
        match accept_with(&listener.bound, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Some(self.deal(PoolId(u16::try_from(place).unwrap_or(u16::MAX)), socket)),
            // The client went away while it waited; the next one is not concerned.
            Err(Errno::CONNABORTED | Errno::INTR) => Some(Accepted::Elsewhere),
            Err(Errno::AGAIN) => None,
            Err(error) => {
                self.pause(place, clients, Some(error), now, poller);
                None
            }
        }
    }

    /// Has a listener pause; who waits goes on waiting in its backlog. `error` is what the system says, if it was asked.
    #[cold]
    fn pause(&mut self, place: u32, clients: usize, error: Option<Errno>, now: Instant, poller: &Poller) {
        let Some(listener) = self.listeners.get_mut(place as usize) else { return };
        listener.paused = true;
        self.resumes = Some(now + ACCEPT_PAUSE);
        let _ = poller.leave(&listener.bound); // it would be announced for as long as somebody waits
        if self.warned_at.is_some_and(|at| now < at + WARN_PERIOD) {
            return;
        }
        self.warned_at = Some(now);
        let (pool, files) = (&self.topology.pools[place as usize].name, &self.files);
        let (limit, for_clients) = (files.limit(), files.for_clients());
        match error {
            None => warn!(
                pool,
                clients,
                for_clients,
                limit,
                "cannot accept a client for now: clients have all file descriptors that are not kept for servers and \
                 the admin port, further ones wait; {ADVICE}"
            ),
            Some(error) => warn!(pool, clients, for_clients, limit, %error, "cannot accept a client for now; {ADVICE}"),
        }
    }

    fn deal(&mut self, id: PoolId, socket: OwnedFd) -> Accepted {
        let pool = &self.topology.pools[id.index()];
        let let_in = &mut self.listeners[id.index()].let_in;
        let gone = || self.topology.counters.iter().map(|worker| worker.pool(id).clients_gone.value()).sum::<u64>();
        if let Some(limit) = pool.client_connections.filter(|limit| *let_in - gone() >= *limit as u64) {
            let rejected = &self.topology.counters[0].pool(id).client_rejected;
            if rejected.value() == 0 {
                warn!(pool = pool.name, limit, "client_connections reached, further clients are turned away");
            }
            rejected.add(1);
            return Accepted::Elsewhere; // accepted and closed at once, as twemproxy does
        }
        let least = (0..self.workers.len()).min_by_key(|index| self.workers[*index].load.load(Ordering::Relaxed));
        let Some(index) = least else { return Accepted::Elsewhere };
        *let_in += 1;
        self.workers[index].load.fetch_add(1, Ordering::Relaxed);
        if index == 0 {
            return Accepted::Here(id, socket);
        }
        if !self.workers[index].tell(Message::Client(id, socket)) {
            self.workers[index].load.fetch_sub(1, Ordering::Relaxed);
            *let_in -= 1;
        }
        Accepted::Elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_has_the_options_of_its_listener() {
        for keepalive in [false, true] {
            let listener = bind_tcp(([127, 0, 0, 1], 0).into(), 1, false, keepalive).unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = loop {
                match accept_with(&listener, SocketFlags::NONBLOCK) {
                    Err(Errno::AGAIN) => {}
                    accepted => break accepted.unwrap(),
                }
            };
            let socket = socket2::SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap());
            assert_eq!(socket.keepalive().unwrap(), keepalive);
        }
    }
}

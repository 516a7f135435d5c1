//! Listening sockets: bound before anything else starts, so that every problem is told at once; and accepting.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;
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

/// A bound socket. It is open for as long as somebody has it.
#[derive(Debug, Clone)]
pub(crate) enum Bound {
    Tcp(Arc<TcpListener>),
    Unix(Arc<UnixListener>, Arc<SocketFile>),
}

impl Bound {
    /// The TCP address that it is bound to.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Gives a listener that somebody else has bound what [`bind`] would have.
    pub(super) fn prepare(&self, pool: &Pool) {
        let socket = SockRef::from(self);
        let set = || {
            socket.set_nonblocking(true)?;
            if let Self::Tcp(_) = self { socket.set_tcp_nodelay(true) } else { Ok(()) }
        };
        if let Err(error) = set() {
            warn!(%error, "cannot change the options of a listener");
        }
        self.set_options(pool.backlog, pool.tcpkeepalive);
    }

    /// Has what can be changed of a listener as a pool has it now.
    fn set_options(&self, backlog: u32, keepalive: bool) {
        let set = || {
            rustix::net::listen(self, i32::try_from(backlog).unwrap_or(i32::MAX))?;
            if let Self::Tcp(_) = self {
                rustix::net::sockopt::set_socket_keepalive(self, keepalive)?;
            }
            Ok::<_, Errno>(())
        };
        if let Err(error) = set() {
            warn!(%error, "cannot change the options of a listener");
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

/// A pool's address cannot be listened on.
#[derive(Debug, Error)]
#[error("pool {pool}: cannot listen on {address}")]
pub struct NotListening {
    /// The pool.
    pool: String,
    /// The address, as written.
    address: String,
    /// What the system says.
    pub(super) source: io::Error,
}

impl NotListening {
    /// That of this pool, as the system says.
    pub(super) fn at(pool: &Pool, source: io::Error) -> Self {
        Self { pool: pool.name.clone(), address: pool.listen.to_string(), source }
    }
}

/// Binds the listener of a pool.
pub(crate) fn bind(pool: &Pool) -> io::Result<Bound> {
    match &pool.listen {
        Listen::Tcp { address, .. } => {
            let listener = bind_tcp(*address, pool.backlog, pool.reuseport, pool.tcpkeepalive)?;
            Ok(Bound::Tcp(Arc::new(listener)))
        }
        Listen::Unix { path, mode } => {
            let (listener, file) = socket_file::bind(path, *mode, pool.backlog)?;
            Ok(Bound::Unix(Arc::new(listener), Arc::new(file)))
        }
    }
}

/// Binds the TCP listener of a pool beside those that are about to leave it the place: `0.0.0.0:P` where `127.0.0.1:P` was, say.
pub(super) fn bind_beside(pool: &Pool, leaving: &[Arc<TcpListener>]) -> io::Result<Bound> {
    let Listen::Tcp { address, .. } = &pool.listen else { return bind(pool) };
    let leaving: Vec<_> = leaving.iter().map(|listener| SockRef::from(&**listener)).collect();
    // Only for this moment. Until the port is left, the system may let another process of this user share it that asks for the
    // option, too; who does not ask is refused.
    let had = leaving.iter().map(|socket| socket.reuse_port()).collect::<io::Result<Vec<_>>>()?;
    let share = || leaving.iter().try_for_each(|socket| socket.set_reuse_port(true));
    let bound = share().and_then(|()| bind_tcp(*address, pool.backlog, true, pool.tcpkeepalive));
    // Each, whatever becomes of the others.
    let restored: Vec<_> = leaving.iter().zip(had).map(|(socket, had)| socket.set_reuse_port(had)).collect();
    restored.into_iter().collect::<io::Result<()>>()?;
    let bound = bound?;
    SockRef::from(&bound).set_reuse_port(pool.reuseport)?;
    Ok(Bound::Tcp(Arc::new(bound)))
}

/// Binds a TCP address. Connections have their options from the listener, without calls for each: they send at once, and
/// with `keepalive` the kernel finds out when the peer is gone.
pub(crate) fn bind_tcp(address: SocketAddr, backlog: u32, reuseport: bool, keepalive: bool) -> io::Result<TcpListener> {
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

/// Hears nobody any more. The file of a unix socket is removed by a thread of its own, as another process may be waited for.
pub(crate) fn close(bound: Bound) {
    let file = bound.file();
    drop(bound);
    if let Some(file) = file {
        let remove = move || file.remove();
        if let Err(error) = std::thread::Builder::new().name("socket-file".to_owned()).spawn(remove) {
            warn!(%error, "cannot remove the file of a socket that is listened on no longer");
        }
    }
}

/// Where the clients of pools come in.
#[derive(Debug)]
pub(crate) struct Entrances {
    pub(crate) topology: Arc<Topology>,
    pub(crate) ways: Vec<(PoolId, Entrance)>,
    /// Who waits for it to be so is told by the end of this.
    pub(crate) waits: Option<Sender<Infallible>>,
}

/// Where the clients of a pool come in.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// Where those of this pool have come in so far.
    Of(PoolId),
    /// Here.
    New(Bound),
}

/// Accepts the clients of all pools and deals each to the worker with the fewest. The first worker has it.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// By the ids of the pools.
    listeners: Vec<Option<Listener>>,
    /// Clients that were let in, by the ids of the pools, whether their worker knows of them yet or not.
    let_in: Vec<u64>,
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
    /// Accepts by all of these ways.
    pub(crate) fn new(entrances: Entrances, workers: Arc<[Handle]>, files: Arc<Files>, poller: &Poller) -> Self {
        let topology = Arc::clone(&entrances.topology);
        let (listeners, let_in) = (Vec::new(), Vec::new());
        let mut acceptor = Self { listeners, let_in, resumes: None, warned_at: None, files, topology, workers };
        acceptor.follow(entrances, poller);
        acceptor
    }

    /// The pools whose clients come in no longer as they did: by other ways, or not at all.
    pub(crate) fn closing(&self, entrances: &Entrances) -> Vec<u32> {
        let stays = |place: usize| {
            entrances.ways.iter().any(|(_, way)| matches!(way, Entrance::Of(pool) if pool.index() == place))
        };
        let closes = |place: &usize| self.listeners[*place].is_some() && !stays(*place);
        let places = (0..self.listeners.len()).filter(closes);
        places.filter_map(|place| u32::try_from(place).ok()).collect()
    }

    /// Accepts by these ways from here on, and by no other.
    pub(crate) fn follow(&mut self, entrances: Entrances, poller: &Poller) {
        let Entrances { topology, ways, waits: _until_all_is_done } = entrances;
        let mut before = std::mem::take(&mut self.listeners);
        self.let_in.resize(topology.pools.len(), 0);
        self.listeners.resize_with(topology.pools.len(), || None);
        self.topology = topology;
        for (pool, way) in ways {
            let place = pool.index();
            match way {
                Entrance::New(bound) => {
                    self.listeners[place] = Some(Listener { bound, paused: false });
                    self.listen(place, poller);
                }
                Entrance::Of(other) => {
                    let Some(listener) = before.get_mut(other.index()).and_then(Option::take) else { continue };
                    let settings = self.topology.pool(pool);
                    listener.bound.set_options(settings.backlog, settings.tcpkeepalive);
                    let is_another = other != pool && !listener.paused;
                    if is_another {
                        let _ = poller.leave(&listener.bound); // it is announced by the name of the pool
                    }
                    self.listeners[place] = Some(listener);
                    if is_another {
                        self.listen(place, poller);
                    }
                }
            }
        }
        for listener in before.into_iter().flatten() {
            let _ = poller.leave(&listener.bound);
            close(listener.bound);
        }
    }

    fn listen(&self, place: usize, poller: &Poller) {
        let token = Token::Listener(u32::try_from(place).unwrap_or(u32::MAX));
        let Some(listener) = &self.listeners[place] else { return };
        if let Err(error) = poller.watch_listener(&listener.bound, token) {
            error!(pool = self.topology.pools[place].name, %error, "cannot accept clients");
        }
    }

    /// Accepts nobody any more. Others may have the listeners open still, and who waits there is not to be announced.
    pub(crate) fn end(self, poller: &Poller) {
        for listener in self.listeners.into_iter().flatten() {
            let _ = poller.leave(&listener.bound);
        }
    }

    /// Accepts nobody until [`Acceptor::go_on`]: another process does.
    pub(crate) fn stop(&mut self, poller: &Poller) {
        self.resumes = None;
        for listener in self.listeners.iter_mut().flatten() {
            listener.paused = true;
            let _ = poller.leave(&listener.bound);
        }
    }

    /// Accepts again.
    pub(crate) fn go_on(&mut self, poller: &Poller) {
        for place in 0..self.listeners.len() {
            if self.listeners[place].as_mut().is_some_and(|listener| std::mem::take(&mut listener.paused)) {
                self.listen(place, poller);
            }
        }
    }

    /// Counts a client that has been let in elsewhere, and deals it: to another worker, or to this one (`None`).
    pub(crate) fn deal_arrived(&mut self, id: PoolId) -> Option<Handle> {
        *self.let_in.get_mut(id.index())? += 1;
        let least = (0..self.workers.len()).min_by_key(|index| self.workers[*index].load.load(Ordering::Relaxed))?;
        self.workers[least].load.fetch_add(1, Ordering::Relaxed);
        (least > 0).then(|| self.workers[least].clone())
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
            if self.listeners[place].as_mut().is_some_and(|listener| std::mem::take(&mut listener.paused)) {
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
        let listener = self.listeners.get(place as usize)?.as_ref()?;
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
        let Some(Some(listener)) = self.listeners.get_mut(place as usize) else { return };
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
        let let_in = &mut self.let_in[id.index()];
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
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap());
            assert_eq!(socket.keepalive().unwrap(), keepalive);
        }
    }
}

//! Listening sockets: bound before anything else starts, so that every problem is told at once; and accepting.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::alarm::pause;
use super::stream::Stream;
use super::worker::{Accepted, Handle, Message, Shared, serve};
use crate::config::model::{Config, Listen, Pool, PoolId};
use crate::stats::counters::Counters;

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    /// The TCP address that it is bound to.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// Binds the listener of a pool.
pub(crate) fn bind(pool: &Pool) -> io::Result<Bound> {
    match &pool.listen {
        Listen::Tcp { address, .. } => bind_tcp(*address, pool.backlog, pool.reuseport).map(Bound::Tcp),
        Listen::Unix { path, mode } => bind_unix(path, *mode, pool.backlog).map(Bound::Unix),
    }
}

/// Binds a TCP address.
pub(crate) fn bind_tcp(address: SocketAddr, backlog: u32, reuseport: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuseport {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Binds a unix socket. As with twemproxy, a socket that stands there is replaced; anything else is left alone.
fn bind_unix(path: &Path, mode: Option<u32>, backlog: u32) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in its place"));
        }
        Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// What accepting for a pool needs.
pub(crate) struct Acceptor {
    pub(crate) shared: Shared,
    pub(crate) config: Arc<Config>,
    pub(crate) pool: PoolId,
    /// The workers; the first is the one that accepts.
    pub(crate) workers: Arc<[Handle]>,
    pub(crate) counters: Arc<[Arc<Counters>]>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts the clients of a pool and deals each to the worker with the fewest.
pub(crate) async fn accept(acceptor: Acceptor, bound: Bound) {
    let listening = match bound {
        Bound::Tcp(listener) => TcpListener::from_std(listener).map(Listening::Tcp),
        Bound::Unix(listener) => UnixListener::from_std(listener).map(Listening::Unix),
    };
    let name = &acceptor.config.pools[acceptor.pool.index()].name;
    let listening = match listening {
        Ok(listening) => listening,
        Err(error) => {
            tracing::error!(pool = name, %error, "cannot accept clients");
            return;
        }
    };
    let mut complained = false;
    loop {
        let accepted = match &listening {
            Listening::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Listening::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        };
        match accepted {
            Ok(stream) => {
                complained = false;
                acceptor.deal(stream);
            }
            // The client went away while it waited; the next one is not concerned.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    warn!(pool = name, %error, "cannot accept a client (is the limit on open files high enough?)");
                }
                pause(&acceptor.shared, ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Acceptor {
    fn deal(&self, stream: Stream) {
        let pool = &self.config.pools[self.pool.index()];
        let open: u64 = self.counters.iter().map(|worker| worker.pool(self.pool).client_connections.value()).sum();
        if pool.client_connections.is_some_and(|limit| open >= limit as u64) {
            let rejected = &self.counters[0].pool(self.pool).client_rejected;
            if rejected.value() == 0 {
                warn!(pool = pool.name, limit = open, "client_connections reached, further clients are turned away");
            }
            rejected.add(1);
            return; // accepted and closed at once, as twemproxy does
        }
        if let Stream::Tcp(stream) = &stream {
            let _ = stream.set_nodelay(true);
            if pool.tcpkeepalive {
                let _ = socket2::SockRef::from(stream).set_keepalive(true);
            }
        }
        let least = (0..self.workers.len()).min_by_key(|index| self.workers[*index].load.load(Ordering::Relaxed));
        let Some(index) = least else { return };
        self.workers[index].load.fetch_add(1, Ordering::Relaxed);
        if index == 0 {
            serve(&Rc::clone(&self.shared), self.pool, stream);
            return;
        }
        let accepted = match stream {
            Stream::Tcp(stream) => stream.into_std().map(Accepted::Tcp),
            Stream::Unix(stream) => stream.into_std().map(Accepted::Unix),
        };
        let sent = accepted.map(|accepted| self.workers[index].messages.send(Message::Client(self.pool, accepted)));
        if !matches!(sent, Ok(Ok(()))) {
            self.workers[index].load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

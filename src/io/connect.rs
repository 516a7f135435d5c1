//! Connections to servers are opened by one thread for all workers: looking up a name may take long, and a server may
//! have several addresses to be tried.

#![expect(clippy::wildcard_enum_match_arm, reason = "the kinds of I/O errors are open-ended")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::discovery::state::Discovered;
use super::supervise;
use crate::config::model::Address;
use crate::failure::Failure;

/// The name of the thread.
const NAME: &str = "connector";

/// The way to the thread that connects. It ends when nobody has one any more.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    runtime: Handle,
    discovered: Arc<Discovered>,
    _wanted: mpsc::Sender<()>,
}

impl Connector {
    /// Starts the thread. It goes by what is known of names, and says which servers cannot be reached.
    pub(crate) fn start(discovered: Arc<Discovered>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().max_blocking_threads(8).build()?;
        let (wanted, mut is_wanted) = mpsc::channel(1);
        let connector = Self { runtime: runtime.handle().clone(), discovered, _wanted: wanted };
        supervise::spawn(NAME.to_owned(), move || {
            runtime.block_on(is_wanted.recv());
            runtime.shutdown_background(); // a name that is still looked up is of no interest
            Ok(())
        })?;
        Ok(connector)
    }

    /// Opens a connection and hands it, or what went wrong, to `done`. A name that is not followed is looked up for it.
    pub(crate) fn connect(
        &self,
        address: Address,
        is_followed: bool,
        done: impl FnOnce(Result<OwnedFd, Failure>) + Send + 'static,
    ) -> AbortHandle {
        let discovered = Arc::clone(&self.discovered);
        let attempt = async move {
            let _watch = Watch;
            let mut doubt = Doubt { address, discovered, is_meant: true };
            let result = connect(&doubt.address, is_followed.then_some(&doubt.discovered)).await;
            doubt.is_meant = result.is_err();
            done(result);
        };
        self.runtime.spawn(attempt).abort_handle()
    }
}

/// Doubts the address of a server that was not reached, also when the attempt was given up.
struct Doubt {
    address: Address,
    discovered: Arc<Discovered>,
    is_meant: bool,
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if self.is_meant {
            self.discovered.doubt(&self.address);
        }
    }
}

/// Ends the process when an attempt panics: a worker would wait for its outcome for ever.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            supervise::end_process(NAME, "an attempt to connect panicked");
        }
    }
}

/// Connects to a server. A host has the addresses that it is known to have; where they are not known, or none of them lets
/// itself be connected to, it is looked up, and its addresses are tried in turn. Without what is `discovered`, none are known.
pub(super) async fn connect(address: &Address, discovered: Option<&Arc<Discovered>>) -> Result<OwnedFd, Failure> {
    let (host, port) = match address {
        Address::Tcp { host, port } | Address::Found { host, port, .. } => (host.as_str(), *port),
        Address::Sought(_) => return Err(Failure::Unresolved),
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.and_then(UnixStream::into_std);
            return stream.map(OwnedFd::from).map_err(|error| failure_of(&error));
        }
    };
    let (known, is_lost) = discovered.map(|discovered| discovered.addresses(host)).unwrap_or_default();
    let tried = to_one_of(known.iter().map(|at| SocketAddr::new(*at, port))).await;
    if known.is_empty() || (tried.is_err() && !is_lost && !matches!(tried, Err(Failure::NoResources))) {
        if let Some(discovered) = discovered.filter(|_| !known.is_empty()) {
            discovered.doubt(address); // also if another address is found now
        }
        // An address in figures resolves at once, without a thread.
        let others: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
            Ok(found) => found.filter(|at| !known.contains(&at.ip().to_canonical())).collect(),
            Err(error) if known.is_empty() => return Err(lookup_failure(&error)),
            Err(_) => Vec::new(),
        };
        if let Some(discovered) = discovered.filter(|_| known.is_empty()) {
            discovered.learn(host, &others);
        }
        if known.is_empty() || !others.is_empty() {
            return to_one_of(others.into_iter()).await;
        }
    }
    tried
}

/// Connects to the first of some addresses that lets itself be connected to.
async fn to_one_of(addresses: impl Iterator<Item = SocketAddr>) -> Result<OwnedFd, Failure> {
    let mut last = Failure::Unresolved;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it, the last packet of a batch waits for an acknowledgement: 40 ms.
                let _ = stream.set_nodelay(true);
                return stream.into_std().map(OwnedFd::from).map_err(|error| failure_of(&error));
            }
            Err(error) => last = failure_of(&error),
        }
    }
    Err(last)
}

/// What a look-up that failed says. For want of a descriptor it cannot ask, and does not say that this was why.
fn lookup_failure(error: &io::Error) -> Failure {
    let try_one = || eventfd(0, EventfdFlags::CLOEXEC).is_err_and(|error| is_own_lack(&error.into()));
    if is_own_lack(error) || try_one() { Failure::NoResources } else { Failure::Unresolved }
}

/// Whether something could not be had because this host, or this process, has no more of it.
fn is_own_lack(error: &io::Error) -> bool {
    const LACKS: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOSPC];
    error.raw_os_error().is_some_and(|number| LACKS.iter().any(|lack| lack.raw_os_error() == number))
}

/// What an I/O error says about a server.
pub(crate) fn failure_of(error: &io::Error) -> Failure {
    if is_own_lack(error) {
        return Failure::NoResources;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
            Failure::Unreachable
        }
        io::ErrorKind::NotFound => Failure::NoSocket,
        io::ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::Reset,
    }
}

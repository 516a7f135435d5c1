//! Connections to servers are opened by one thread for all workers: looking up a name may take long, and a server may
//! have several addresses to be tried.

#![expect(clippy::wildcard_enum_match_arm, reason = "the kinds of I/O errors are open-ended")]

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::supervise;
use crate::config::model::Address;
use crate::failure::Failure;

/// The name of the thread.
const NAME: &str = "connector";

/// The way to the thread that connects. It ends when nobody has one any more.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    runtime: Handle,
    _wanted: mpsc::Sender<()>,
}

impl Connector {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().max_blocking_threads(8).build()?;
        let (wanted, mut is_wanted) = mpsc::channel(1);
        let connector = Self { runtime: runtime.handle().clone(), _wanted: wanted };
        supervise::spawn(NAME.to_owned(), move || {
            runtime.block_on(is_wanted.recv());
            runtime.shutdown_background(); // a name that is still looked up is of no interest
            Ok(())
        })?;
        Ok(connector)
    }

    /// Opens a connection and hands it, or what went wrong, to `done`.
    pub(crate) fn connect(
        &self,
        address: Address,
        done: impl FnOnce(Result<OwnedFd, Failure>) + Send + 'static,
    ) -> AbortHandle {
        let attempt = async move {
            let _watch = Watch;
            done(connect(&address).await);
        };
        self.runtime.spawn(attempt).abort_handle()
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

/// Connects to a server. A host name is looked up each time, and its addresses are tried in turn.
async fn connect(address: &Address) -> Result<OwnedFd, Failure> {
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.and_then(UnixStream::into_std);
            stream.map(OwnedFd::from).map_err(|error| failure_of(&error))
        }
        Address::Tcp { host, port } => {
            // An address in figures resolves at once, without a thread.
            let found =
                tokio::net::lookup_host((host.as_str(), *port)).await.map_err(|error| lookup_failure(&error))?;
            let mut last = Failure::Unresolved;
            for address in found {
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
    }
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

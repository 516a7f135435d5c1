//! Where the pools and the ports of the process listen.

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tracing::warn;

use super::inherited::Inherited;
use super::listener::Bound;
use super::socket_file::SocketFile;
use super::upgrade::Listens;
use crate::config::model::{Listen, Pool, PoolId};

/// Where the pools listen.
#[derive(Debug, Default)]
pub(super) struct Listening {
    places: Mutex<Vec<Place>>,
    /// Whoever reads the file, so that who reads it first is first to take it up. Names in it may be waited for at any length:
    /// the process ends without that.
    turn: Mutex<()>,
    pub(super) inherited: Inherited,
    /// The listeners of the admin port and of the statistics.
    ports: Mutex<Vec<TcpListener>>,
    /// Nobody listens any more, or will.
    pub(super) ended: AtomicBool,
}

/// Where a pool listens.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) pool: PoolId,
    pub(super) listen: Listen,
    /// The file of a unix socket.
    pub(super) file: Option<Arc<SocketFile>>,
    /// The listener of a TCP address, which the first worker has and closes.
    pub(super) tcp: Weak<TcpListener>,
    /// That of a unix socket.
    pub(super) unix: Weak<UnixListener>,
}

impl Place {
    pub(super) fn new(pool: PoolId, listen: Listen, bound: &Bound) -> Self {
        let (tcp, unix) = match bound {
            Bound::Tcp(listener) => (Arc::downgrade(listener), Weak::new()),
            Bound::Unix(listener, _) => (Weak::new(), Arc::downgrade(listener)),
        };
        Self { pool, listen, file: bound.file(), tcp, unix }
    }

    /// One more descriptor of its listener.
    fn listener(&self) -> Option<OwnedFd> {
        let of_tcp = self.tcp.upgrade().and_then(|listener| listener.try_clone().ok()).map(OwnedFd::from);
        of_tcp.or_else(|| self.unix.upgrade().and_then(|listener| listener.try_clone().ok()).map(OwnedFd::from))
    }
}

impl Listening {
    /// Each of these pools listens with what is bound for it.
    pub(super) fn new<'a>(inherited: Inherited, bound: impl Iterator<Item = (&'a Pool, &'a Bound)>) -> Self {
        let place = |(pool, bound): (&Pool, &Bound)| Place::new(pool.id, pool.listen.clone(), bound);
        let (turn, ports, ended) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { places: Mutex::new(bound.map(place).collect()), turn, inherited, ports, ended }
    }

    /// The process ends: there is nothing more to be taken up. A reload that is under way is not waited for; what it binds is
    /// closed by the worker that is handed it.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// The unix sockets that a predecessor made get the modes that the file says, which may have been others then.
    pub(super) fn set_modes(&self) {
        for place in &*self.lock() {
            if let Listen::Unix { path, mode: Some(mode) } = &place.listen
                && !self.inherited.keeps(&place.listen)
            {
                set_mode(path, *mode);
            }
        }
    }

    /// Whoever has this is the only one to read the file.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files of unix sockets.
    pub(super) fn remove_files(&self) {
        self.lock().iter().filter_map(|place| place.file.as_ref()).for_each(|file| file.remove());
    }

    /// A port that is not a pool's is listened on as well.
    pub(super) fn add_port(&self, listener: TcpListener) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Every listening socket, and what it is for.
    pub(super) fn all(&self) -> Vec<(Listens, OwnedFd)> {
        let clone = |listener: &TcpListener| listener.try_clone().ok().map(OwnedFd::from);
        let ports: Vec<_> =
            self.ports.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(clone).collect();
        let kept = self.inherited.kept().filter_map(|bound| bound.as_fd().try_clone_to_owned().ok());
        let of_pools = self
            .lock()
            .iter()
            .filter(|place| !self.inherited.keeps(&place.listen))
            .filter_map(Place::listener)
            .collect::<Vec<_>>();
        let as_kept = kept.map(|one| (Listens { is_kept: true }, one));
        as_kept.chain(ports.into_iter().chain(of_pools).map(|one| (Listens { is_kept: false }, one))).collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a unix socket a mode; what stands in the way is told.
pub(super) fn set_mode(path: &Path, mode: u32) {
    if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
        warn!(path = %path.display(), %error, "cannot set the mode of the socket");
    }
}

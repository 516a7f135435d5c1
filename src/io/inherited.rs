//! Listening sockets that the process was started with (socket activation of systemd, `LISTEN_FDS`). Whoever made them
//! keeps them open while the process is restarted, so that no client is refused meanwhile.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};

use listenfd::ListenFd;
use tracing::{info, warn};

use super::listener::Bound;
use super::socket_file::SocketFile;
use super::upgrade::{Predecessor, Voice};
use crate::config::model::{Config, Listen, Pool};
use crate::config::overlap;
use crate::config::roster::is_at;

/// All of them. They stay open here, so that a pool that has moved elsewhere can come back.
#[derive(Debug, Default)]
pub struct Inherited {
    all: Vec<(Listen, Bound)>,
    /// How many there were that nobody can listen on here.
    useless: usize,
    /// Those of the process that this one takes over from, which are nobody else's: whoever needs one takes it.
    handed_over: Mutex<Vec<(Listen, Bound)>>,
    predecessor: Mutex<Option<Predecessor>>,
}

impl Inherited {
    /// What this process was started with. To be called before it opens anything: who is not meant by `LISTEN_PID` has
    /// descriptors of its own at those numbers sooner or later.
    ///
    /// # Errors
    ///
    /// When the process that this one is to take over from does not say what it has.
    pub fn of_process() -> std::io::Result<Self> {
        let mut inherited = Self::default();
        if let Some((predecessor, listeners)) = Predecessor::of_process()? {
            for (of, listener) in listeners {
                match described(listener) {
                    Some(one) if of.is_kept => inherited.all.push(one),
                    Some(one) => inherited.handed_over.get_mut().unwrap_or_else(PoisonError::into_inner).push(one),
                    None => inherited.useless += 1,
                }
            }
            inherited.predecessor = Mutex::new(Some(predecessor));
            return Ok(inherited);
        }
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(inherited);
        }
        let mut files = ListenFd::from_env();
        for index in 0..files.len() {
            match take(&mut files, index) {
                Some(one) => inherited.all.push(one),
                None => inherited.useless += 1,
            }
        }
        Ok(inherited)
    }

    /// The process that this one takes over from, for whoever does that.
    pub(super) fn take_predecessor(&self) -> Option<Predecessor> {
        self.predecessor.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What tells the process that this one takes over from, if there is one, that it cannot.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn voice(&self) -> std::io::Result<Option<Voice>> {
        let predecessor = self.predecessor.lock().unwrap_or_else(PoisonError::into_inner);
        predecessor.as_ref().map(Predecessor::voice).transpose()
    }

    /// Takes one that was handed over.
    fn take(&self, is_meant: impl Fn(&Listen) -> bool) -> Option<Bound> {
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let at = handed_over.iter().position(|(listen, _)| is_meant(listen))?;
        Some(handed_over.swap_remove(at).1)
    }

    /// The one that listens at a port that is not a pool's: the admin port, say.
    #[must_use]
    pub fn of_port(&self, at: SocketAddr) -> Option<TcpListener> {
        let bound = self.take(|listen| matches!(listen, Listen::Tcp { address, .. } if *address == at))?;
        if let Bound::Tcp(listener) = bound { Arc::into_inner(listener) } else { None }
    }

    /// Whether one that was handed over listens at a port.
    #[must_use]
    pub fn has_port(&self, at: SocketAddr) -> bool {
        let handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        handed_over.iter().any(|(listen, _)| matches!(listen, Listen::Tcp { address, .. } if *address == at))
    }

    /// Closes those that were handed over and that nobody has taken.
    pub(super) fn close_left(&self) {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether somebody else keeps the one of a place open.
    pub(super) fn keeps(&self, at: &Listen) -> bool {
        self.all.iter().any(|(listen, _)| is_at(listen, at))
    }

    /// Those that somebody else keeps open.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Bound> {
        self.all.iter().map(|(_, bound)| bound)
    }

    /// The one that listens where a pool does.
    pub(super) fn of_pool(&self, pool: &Pool) -> Option<Bound> {
        let kept = || self.all.iter().find(|(listen, _)| is_at(listen, &pool.listen)).map(|(_, bound)| bound.clone());
        let bound = self.take(|listen| is_at(listen, &pool.listen)).or_else(kept)?;
        bound.prepare(pool);
        info!(pool = pool.name, listen = %pool.listen, "listening socket is taken over");
        Some(bound)
    }

    /// Whether one of them listens at a part of what an address would be: it stays open, whoever closes it here, and would
    /// go on to be connected to.
    pub(super) fn is_in_the_way(&self, of: SocketAddr) -> bool {
        self.all.iter().any(|(listen, _)| matches!(listen, Listen::Tcp { address, .. } if overlap(*address, of)))
    }

    /// Tells of those that no pool of a configuration listens on, but for those that were told of for the one `before`.
    pub(super) fn tell_left(&self, config: &Config, before: Option<&Config>) {
        if self.useless > 0 && before.is_none() {
            warn!(
                sockets = self.useless,
                "sockets were handed over that are no listening ones of TCP or of unix paths"
            );
        }
        let is_left = |listen: &Listen, config: &Config| !config.pools.iter().any(|pool| is_at(listen, &pool.listen));
        for (listen, _) in &self.all {
            if is_left(listen, config) && before.is_none_or(|before| !is_left(listen, before)) {
                warn!(place = %listen, "a listening socket was handed over that no pool of the configuration listens on");
            }
        }
    }
}

/// One of them, with where it listens.
fn take(files: &mut ListenFd, index: usize) -> Option<(Listen, Bound)> {
    if let Ok(Some(listener)) = files.take_tcp_listener(index) {
        return of_tcp(listener);
    }
    of_unix(files.take_unix_listener(index).ok()??)
}

/// A listening socket, with where it listens.
fn described(listener: OwnedFd) -> Option<(Listen, Bound)> {
    let address = socket2::SockRef::from(&listener).local_addr().ok()?;
    if address.is_unix() { of_unix(listener.into()) } else { of_tcp(listener.into()) }
}

fn of_tcp(listener: TcpListener) -> Option<(Listen, Bound)> {
    let address = listener.local_addr().ok()?;
    Some((Listen::Tcp { text: address.to_string(), address }, Bound::Tcp(Arc::new(listener))))
}

fn of_unix(listener: UnixListener) -> Option<(Listen, Bound)> {
    let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
    let file = Arc::new(SocketFile::of(&path).ok()?);
    Some((Listen::Unix { path, mode: None }, Bound::Unix(Arc::new(listener), file)))
}

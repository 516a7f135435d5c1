//! Listening sockets that the process was started with (socket activation of systemd, `LISTEN_FDS`). Whoever made them
//! keeps them open while the process is restarted, so that no client is refused meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;

use listenfd::ListenFd;
use tracing::{info, warn};

use super::listener::Bound;
use super::socket_file::SocketFile;
use crate::config::model::{Config, Listen, Pool};
use crate::config::overlap;
use crate::config::roster::is_at;

/// All of them. They stay open here, so that a pool that has moved elsewhere can come back.
#[derive(Debug, Default)]
pub struct Inherited {
    all: Vec<(Listen, Bound)>,
    /// How many there were that nobody can listen on here.
    useless: usize,
}

impl Inherited {
    /// What this process was started with. To be called before it opens anything: who is not meant by `LISTEN_PID` has
    /// descriptors of its own at those numbers sooner or later.
    #[must_use]
    pub fn of_process() -> Self {
        let mut inherited = Self::default();
        if std::env::var_os("LISTEN_PID").is_none() {
            return inherited;
        }
        let mut files = ListenFd::from_env();
        for index in 0..files.len() {
            match take(&mut files, index) {
                Some(one) => inherited.all.push(one),
                None => inherited.useless += 1,
            }
        }
        inherited
    }

    /// The one that listens where a pool does.
    pub(super) fn of_pool(&self, pool: &Pool) -> Option<Bound> {
        let (_, bound) = self.all.iter().find(|(listen, _)| is_at(listen, &pool.listen))?;
        bound.prepare(pool);
        info!(pool = pool.name, listen = %pool.listen, "listening socket is taken over");
        Some(bound.clone())
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
        let address = listener.local_addr().ok()?;
        return Some((Listen::Tcp { text: address.to_string(), address }, Bound::Tcp(Arc::new(listener))));
    }
    let listener = files.take_unix_listener(index).ok()??;
    let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
    let file = Arc::new(SocketFile::of(&path).ok()?);
    Some((Listen::Unix { path, mode: None }, Bound::Unix(Arc::new(listener), file)))
}

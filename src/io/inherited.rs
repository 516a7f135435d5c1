//! Listening sockets that the process was started with (socket activation of systemd, `LISTEN_FDS`). Whoever made them
//! keeps them open while the process is restarted, so that no client is refused meanwhile.

use std::sync::Arc;

use listenfd::ListenFd;
use tracing::{info, warn};

use super::listener::Bound;
use super::socket_file::SocketFile;
use crate::config::model::{Listen, Pool};

/// Those that no pool has taken yet.
#[derive(Debug)]
pub(super) struct Inherited(Vec<Bound>);

impl Inherited {
    /// What this process was started with.
    pub(super) fn of_process() -> Self {
        let mut files = ListenFd::from_env();
        let count = files.len();
        let find = |index| {
            if let Ok(Some(listener)) = files.take_tcp_listener(index) {
                return Some(Bound::Tcp(listener));
            }
            let listener = files.take_unix_listener(index).ok()??;
            let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
            Some(Bound::Unix(listener, Arc::new(SocketFile::of(&path).ok()?)))
        };
        Self((0..count).filter_map(find).collect())
    }

    /// The one that listens where a pool does.
    pub(super) fn take(&mut self, pool: &Pool) -> Option<Bound> {
        let place = self.0.iter().position(|bound| is_at(bound, &pool.listen))?;
        let bound = self.0.swap_remove(place);
        bound.prepare(pool);
        info!(pool = pool.name, listen = %pool.listen, "listening socket is taken over");
        Some(bound)
    }

    /// Tells of those that no pool has taken.
    pub(super) fn tell_left(&self) {
        for bound in &self.0 {
            let place = bound.place();
            warn!(place, "a listening socket was handed over that no pool of the configuration listens on");
        }
    }
}

fn is_at(bound: &Bound, listen: &Listen) -> bool {
    match (bound, listen) {
        (Bound::Tcp(listener), Listen::Tcp { address, .. }) => {
            listener.local_addr().is_ok_and(|found| found == *address)
        }
        (Bound::Unix(listener, _), Listen::Unix { path, .. }) => {
            listener.local_addr().is_ok_and(|found| found.as_pathname() == Some(path))
        }
        (Bound::Tcp(_), Listen::Unix { .. }) | (Bound::Unix(..), Listen::Tcp { .. }) => false,
    }
}

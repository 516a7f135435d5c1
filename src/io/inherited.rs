//! Listening sockets that the process was started with (socket activation of systemd, `LISTEN_FDS`). Whoever made them
//! keeps them open while the process is restarted, so that no client is refused meanwhile.

use std::sync::Arc;

use listenfd::ListenFd;
use tracing::{info, warn};

use super::listener::Bound;
use super::socket_file::SocketFile;
use crate::config::model::{Config, Listen, Pool};

/// All of them. They stay open here, so that a pool that has moved elsewhere can come back.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<Bound>);

impl Inherited {
    /// What this process was started with.
    pub(super) fn of_process() -> Self {
        let mut files = ListenFd::from_env();
        let count = files.len();
        let find = |index| {
            if let Ok(Some(listener)) = files.take_tcp_listener(index) {
                return Some(Bound::Tcp(Arc::new(listener)));
            }
            let listener = files.take_unix_listener(index).ok()??;
            let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
            Some(Bound::Unix(Arc::new(listener), Arc::new(SocketFile::of(&path).ok()?)))
        };
        Self((0..count).filter_map(find).collect())
    }

    /// The one that listens where a pool does.
    pub(super) fn of_pool(&self, pool: &Pool) -> Option<Bound> {
        let bound = self.0.iter().find(|bound| is_at(bound, &pool.listen))?;
        bound.prepare(pool);
        info!(pool = pool.name, listen = %pool.listen, "listening socket is taken over");
        Some(bound.clone())
    }

    /// Tells of those that no pool of a configuration listens on, but for those that were told of for the one `before`.
    pub(super) fn tell_left(&self, config: &Config, before: Option<&Config>) {
        let is_left = |bound: &Bound, config: &Config| !config.pools.iter().any(|pool| is_at(bound, &pool.listen));
        for bound in &self.0 {
            if is_left(bound, config) && before.is_none_or(|before| !is_left(bound, before)) {
                let place = bound.place();
                warn!(place, "a listening socket was handed over that no pool of the configuration listens on");
            }
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

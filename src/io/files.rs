//! File descriptors: how many of them clients may have, so that the rest of the process always gets its own.
//!
//! A process that is out of descriptors cannot reach a server again, and nobody can look at it. So what servers, probes,
//! the admin port, the statistics port, the log and the look-up of names may need is reserved, and clients wait in the
//! backlog when they have all the rest. A connection to a server that one client has for itself counts as the client's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::model::{Config, Pool};

/// Descriptors of a worker: its epoll set, its timer, its waker, what tells the memory of the process.
const OF_WORKER: usize = 4;

/// Descriptors of the threads that wait for others (the connector's, the admin port's, that of signals, that of discovery).
const OF_RUNTIMES: usize = 20;

/// Descriptors that are open for a moment: names are looked up, a log file is opened again, figures are read from `/proc`.
const SPARE: usize = 8;

/// Most readers of the admin port, and of the statistics port, at the same time.
const READERS: usize = 32;

/// What to do about it, for the log.
pub(crate) const ADVICE: &str = "raise the limit on open files: `ulimit -n`, or LimitNOFILE of the systemd unit";

/// What there is to say, and to do, where a process on this host may not have as many descriptors as a configuration takes
/// for its servers. Asks for what the process that serves will be allowed, if it is started as this one was.
pub(crate) fn shortage(config: &Config) -> Option<(String, &'static str)> {
    let hard = getrlimit(Resource::Nofile).maximum.and_then(|most| usize::try_from(most).ok())?;
    let files = Files::new(config, SPARE, hard);
    let reserved = files.reserved();
    (reserved + hard / 4 > hard).then(|| {
        let message = format!(
            "the servers' connections and the process itself take {reserved} open files, and this host allows a process \
             {hard}: few are left for clients"
        );
        (message, ADVICE)
    })
}

/// The descriptors of the process.
#[derive(Debug)]
pub(crate) struct Files {
    /// Kept for everything that is neither a client nor a connection to a server, listeners included.
    fixed: AtomicUsize,
    listeners: AtomicUsize,
    /// Most that the process may have, as the system said last.
    limit: AtomicUsize,
    /// Connections that clients share, opened or being opened.
    shared: AtomicUsize,
    /// The most of those that there ever were, or can be foreseen: they are kept for servers that are out.
    most_shared: AtomicUsize,
    /// Connections that one client has for itself.
    dedicated: AtomicUsize,
}

impl Files {
    /// Raises the limit as far as the system lets it, and reserves what a proxy with this configuration needs.
    pub(crate) fn of_process(config: &Config) -> Arc<Self> {
        let limit = raise_limit();
        let open = std::fs::read_dir("/proc/self/fd").map_or(SPARE, Iterator::count);
        let files = Self::new(config, open, limit);
        if files.limit() < files.reserved() + limit / 4 {
            warn!(
                limit,
                reserved = files.reserved(),
                "few open files are allowed: clients may have a quarter; {ADVICE}"
            );
        }
        Arc::new(files)
    }

    /// With so many open already, of so many that may be.
    fn new(config: &Config, open: usize, limit: usize) -> Self {
        let workers = config.settings.workers;
        let listeners = config.pools.len() + 2;
        let readers = 2 * readers_of(limit);
        Self {
            fixed: AtomicUsize::new(open + listeners + workers * OF_WORKER + OF_RUNTIMES + readers + SPARE),
            listeners: AtomicUsize::new(listeners),
            limit: AtomicUsize::new(limit),
            shared: AtomicUsize::new(0),
            most_shared: AtomicUsize::new(connections(config)),
            dedicated: AtomicUsize::new(0),
        }
    }

    /// There is another configuration: reserves what it needs. One at a time.
    pub(crate) fn foresee(&self, config: &Config) {
        let listeners = config.pools.len() + 2;
        let before = self.listeners.swap(listeners, Ordering::Relaxed);
        self.fixed.store(self.fixed.load(Ordering::Relaxed) - before + listeners, Ordering::Relaxed);
        self.most_shared.fetch_max(connections(config), Ordering::Relaxed);
    }

    /// Most descriptors that the process may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Asks the system again how many there may be: the limit of a running process can be changed.
    pub(crate) fn look_again(&self) {
        self.limit.store(soft_limit(getrlimit(Resource::Nofile)), Ordering::Relaxed);
    }

    /// Descriptors that clients may not take.
    pub(crate) fn reserved(&self) -> usize {
        self.fixed.load(Ordering::Relaxed) + self.most_shared.load(Ordering::Relaxed)
    }

    /// Descriptors that clients may have, connections to servers that one of them has for itself included. Never less
    /// than a quarter, however many servers there are.
    pub(crate) fn for_clients(&self) -> usize {
        self.limit().saturating_sub(self.reserved()).max(self.limit() / 4)
    }

    /// Whether one more can be had by a client, when there are so many.
    pub(crate) fn has_room(&self, clients: usize) -> bool {
        clients + self.dedicated.load(Ordering::Relaxed) < self.for_clients()
    }

    /// Most readers of the admin port, or of the statistics port, at the same time.
    pub(crate) fn readers(&self) -> usize {
        readers_of(self.limit())
    }

    /// Counts a connection to a server, until what is returned is dropped.
    pub(crate) fn count(self: &Arc<Self>, is_dedicated: bool) -> Counted {
        if is_dedicated {
            self.dedicated.fetch_add(1, Ordering::Relaxed);
        } else {
            let shared = self.shared.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_shared.fetch_max(shared, Ordering::Relaxed);
        }
        Counted { files: Arc::clone(self), is_dedicated }
    }
}

/// A connection to a server that is counted.
#[derive(Debug)]
pub(crate) struct Counted {
    files: Arc<Files>,
    is_dedicated: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Files { dedicated, shared, .. } = &*self.files;
        if self.is_dedicated { dedicated } else { shared }.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections to servers that can be foreseen. Each worker has its own; one of them probes.
fn connections(config: &Config) -> usize {
    let of = |pool: &Pool| pool.servers.len() * (pool.server_connections * config.settings.workers + 1);
    config.pools.iter().map(of).sum()
}

/// Few where there are few descriptors.
fn readers_of(limit: usize) -> usize {
    (limit / 16).clamp(2, READERS)
}

fn soft_limit(limit: Rlimit) -> usize {
    limit.current.and_then(|current| usize::try_from(current).ok()).unwrap_or(usize::MAX / 2)
}

/// Raises the soft limit to the hard one. What it is then.
fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if raised != limit && setrlimit(Resource::Nofile, raised).is_err() {
        return soft_limit(limit);
    }
    soft_limit(raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pool: &str, limit: usize) -> Arc<Files> {
        let file =
            format!("softmiss:\n  workers: 2\npool:\n  listen: 127.0.0.1:1\n{pool}  servers: ['127.0.0.1:1:1']\n");
        let config = crate::config::parse("file", &file).unwrap().config;
        Arc::new(Files::new(&config, 4, limit))
    }

    #[test]
    fn what_servers_and_readers_need_is_kept_from_clients() {
        let (small, large) = (files("", 1024), files("  server_connections: 9\n", 1024));
        // Eight more connections for each of two workers.
        assert_eq!(small.for_clients() - large.for_clients(), 16);
        assert_eq!(small.for_clients() + small.reserved(), 1024);
        assert!(small.has_room(small.for_clients() - 1) && !small.has_room(small.for_clients()));
        assert_eq!((small.readers(), files("", 64).readers()), (32, 4));
        assert_eq!(files("", 40).for_clients(), 10, "a quarter, though more is needed");
    }

    #[test]
    fn a_connection_for_one_client_is_the_clients() {
        let files = files("", 1024);
        let most = files.for_clients();
        let dedicated: Vec<_> = (0..3).map(|_| files.count(true)).collect();
        assert!(files.has_room(most - 4) && !files.has_room(most - 3));
        drop(dedicated);
        assert!(files.has_room(most - 1));
    }

    #[test]
    fn what_servers_once_had_is_kept_while_they_are_out() {
        let files = files("", 1024);
        let most = files.for_clients();
        let shared: Vec<_> = (0..13).map(|_| files.count(false)).collect(); // three were foreseen
        assert_eq!(files.for_clients(), most - 10);
        drop(shared);
        assert_eq!(files.for_clients(), most - 10);
    }
}

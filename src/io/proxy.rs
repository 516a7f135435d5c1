//! The running proxy: its workers, its listeners, its statistics port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use thiserror::Error;
use tracing::{info, warn};

use super::clock::Clock;
use super::connect::Connector;
use super::discovery;
use super::discovery::state::Discovered;
use super::events::Events;
use super::files::Files;
use super::inherited::Inherited;
use super::listener::{self, Acceptor, Bound, Entrance, Entrances, NotListening};
use super::listening::Listening;
use super::log::LogControl;
use super::mailbox::{Handle, Mailbox, Message};
use super::operator::Operator;
use super::reload::{FIND_LIMIT, Source};
use super::state::Keeper;
use super::supervise;
use super::upgrade::{Predecessor, Succession, Upgrade};
use super::worker::{Worker, WorkerContext};
use crate::config::discovery::has_nobody;
use crate::config::model::{Config, Port};
use crate::config::roster::Roster;
use crate::engine::{Engine, Scripts, Setup};
use crate::health::Registry;
use crate::stats::prometheus::Sources;
use crate::topology::{Published, Topology};

/// Why the proxy does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A pool's address cannot be listened on.
    #[error(transparent)]
    Listen(NotListening),
    /// The statistics address cannot be listened on.
    #[error("cannot serve statistics on {address}")]
    Stats {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There are more servers than can be told apart.
    #[error("a pool has more than 65,535 servers, or there are more pools")]
    Full,
    /// A thread, or what it needs of the kernel, cannot be had.
    #[error("cannot start a worker")]
    Worker(#[from] std::io::Error),
}

/// Has nothing looked for any more when the proxy does not start.
struct Ending<'a>(&'a Discovered);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What the statistics are made of.
#[derive(Debug, Clone)]
pub struct Observed {
    pub(crate) published: Arc<Published>,
    pub(crate) clock: Clock,
    pub(crate) events: Arc<Events>,
    pub(crate) files: Arc<Files>,
}

impl Observed {
    /// The pools and servers that there are now.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.published.current()
    }

    /// What statistics of a topology are taken from.
    pub(crate) fn sources<'a>(&'a self, topology: &'a Topology) -> Sources<'a> {
        Sources {
            config: &topology.config,
            config_version: &topology.digest,
            registry: &topology.registry,
            workers: &topology.counters,
        }
    }
}

/// A running proxy. Dropping it leaves it running; [`Proxy::shutdown`] ends it.
#[derive(Debug)]
pub struct Proxy {
    workers: Arc<[Handle]>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<Option<SocketAddr>>,
    listening: Arc<Listening>,
    source: Option<Arc<Source>>,
    discovered: Arc<Discovered>,
    pub(crate) observed: Observed,
    pub(crate) stats: Option<std::net::TcpListener>,
    keeper: Option<Keeper>,
    pub(super) upgrade: Arc<Upgrade>,
    numbered_after: u64,
    /// What is to be taken over of another process.
    succession: Option<Succession>,
}

impl Proxy {
    /// Binds every listener, then starts the workers. `source` is where the configuration can be read again,
    /// `inherited` what the process was started with.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound or a thread cannot be started; nothing is left running then.
    pub fn start(mut config: Config, source: Option<Source>, inherited: Inherited) -> Result<Self, StartError> {
        let files = Files::of_process(&config);
        // First, so that whoever reaches a pool can also look at it.
        let stats = match config.settings.stats {
            Port::Unsaid | Port::Off => None,
            Port::At(address) => Some(
                inherited
                    .of_port(address)
                    .map_or_else(|| listener::bind_tcp(address, 128, false, false), Ok)
                    .map_err(|source| StartError::Stats { address, source })?,
            ),
        };
        let mut bound = Vec::new();
        for pool in &config.pools {
            match inherited.of_pool(pool).map_or_else(|| listener::bind(pool), Ok) {
                Ok(listener) => bound.push(listener),
                Err(source) => {
                    let files: Vec<_> = bound.drain(..).filter_map(|bound: Bound| bound.file()).collect();
                    files.iter().for_each(|file| file.remove());
                    return Err(StartError::Listen(NotListening::at(pool, source)));
                }
            }
        }
        inherited.tell_left(&config, None);
        let discovered = Arc::new(Discovered::default());
        let is_to_end = Ending(&discovered);
        let take_up = discovery::start(Arc::clone(&discovered))?;
        // Clients can connect already; they wait no longer than this for servers that have to be found.
        discovered.want_at_once(&[&config], FIND_LIMIT);
        discovered.expand(&mut config);
        if Roster::follow(&[], &config).is_err() {
            bound.iter().filter_map(Bound::file).for_each(|file| file.remove());
            return Err(StartError::Full);
        }
        let clock = Clock::start();
        // The jitter of probes must differ between hosts that start together; the process id and the time do that.
        let seed = u64::from(std::process::id()) << 32 ^ u64::from(clock.wall(clock.now()).subsec_nanos());
        let count = config.settings.workers;
        let published = Arc::new(Published::new(config, seed));
        let topology = published.current();
        let predecessor = inherited.take_predecessor();
        let keeper = Keeper::start(&published, clock, predecessor.is_some());
        if let Some(predecessor) = &predecessor {
            predecessor.keep_out(&topology.config, &topology.registry, clock.now());
        }
        let mailboxes = (0..count).map(Mailbox::new).collect::<Result<Vec<_>, _>>()?;
        let (mailboxes, workers): (Vec<_>, Vec<_>) = mailboxes.into_iter().unzip();
        let workers: Arc<[Handle]> = workers.into();
        let connector = Connector::start(Arc::clone(&discovered))?;
        let scripts = Scripts::default();
        let events = Arc::new(Events::default());
        let addresses = bound.iter().map(Bound::address).collect();
        let pools = &topology.config.pools;
        inherited.close_left();
        let listening = Arc::new(Listening::new(inherited, pools.iter().zip(&bound)));
        if let Some(stats) = stats.as_ref().and_then(|stats| stats.try_clone().ok()) {
            listening.add_port(stats);
        }
        let ways = pools.iter().zip(bound).map(|(pool, bound)| (pool.id, Entrance::New(bound))).collect();
        let entrances = Entrances { topology: Arc::clone(&topology), ways, waits: None };
        // As long as the process before this one serves, they come in there.
        let predecessor_id = predecessor.as_ref().map_or(0, Predecessor::id);
        let numbered_after = predecessor.as_ref().map_or(0, Predecessor::clients);
        let nowhere = || Entrances { topology: Arc::clone(&topology), ways: Vec::new(), waits: None };
        let (entrances, succession) = match predecessor {
            Some(predecessor) => (nowhere(), Some(Succession { predecessor, entrances })),
            None => (entrances, None),
        };
        let mut entrances = Some(entrances);
        let mut threads = Vec::new();
        for (index, mailbox) in mailboxes.into_iter().enumerate() {
            let setup = Setup {
                published: Arc::clone(&published),
                worker: index,
                seed: seed.wrapping_add(index as u64),
                started_at: clock.wall(crate::time::Instant::ZERO),
                scripts: scripts.clone(),
            };
            // The first one accepts for all.
            let acceptor = entrances
                .take()
                .map(|entrances| Acceptor::new(entrances, Arc::clone(&workers), Arc::clone(&files), &mailbox.poller));
            let others = workers.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, handle)| handle);
            let context = WorkerContext {
                clock,
                events: Arc::clone(&events),
                connector: connector.clone(),
                files: Arc::clone(&files),
                keeper: keeper.clone(),
                own: workers[index].clone(),
                others: others.cloned().collect(),
            };
            // What an engine is made of is best allocated by the thread that uses it.
            let work = move || {
                let mut engine = Engine::new(setup);
                engine.number_clients_after(numbered_after);
                Worker::new(engine, mailbox, acceptor, context).run()
            };
            threads.push(supervise::spawn(format!("worker-{index}"), work)?);
        }
        for pool in &topology.config.pools {
            info!(pool = pool.name, listen = %pool.listen, servers = pool.servers.len(), "pool is served");
            if has_nobody(pool) {
                let sought = &pool.servers[0].address;
                warn!(pool = pool.name, %sought, "it is not known which servers the pool has, its policy answers until it is");
            }
        }
        if let Some(address) = stats.as_ref().and_then(|stats| stats.local_addr().ok()) {
            info!(listen = %address, "statistics are served");
        }
        let observed = Observed { published, clock, events, files };
        let upgrade = Arc::new(Upgrade::new(source.is_some(), predecessor_id));
        let source = source.map(Arc::new);
        std::mem::forget(is_to_end);
        let proxy = Self {
            workers,
            threads,
            addresses,
            listening,
            source,
            discovered,
            observed,
            stats,
            keeper,
            upgrade,
            numbered_after,
            succession,
        };
        let _ = take_up.send(proxy.operator(None)); // a thread that has panicked has been told
        Ok(proxy)
    }

    /// One with two workers and a pool at a port that the system chooses, before a server that is not there.
    #[cfg(test)]
    pub(crate) fn of_two_workers() -> Self {
        Self::of("softmiss:\n  workers: 2\np:\n  listen: 127.0.0.1:1\n  timeout: 400\n  servers: ['127.0.0.1:1:1']\n")
    }

    /// That of a file with one pool, at a port that the system chooses.
    #[cfg(test)]
    pub(crate) fn of(file: &str) -> Self {
        let mut config = crate::config::parse("file", file).unwrap().config;
        if let crate::config::model::Listen::Tcp { address, .. } = &mut config.pools[0].listen {
            address.set_port(0);
        }
        Self::start(config, None, Inherited::default()).unwrap()
    }

    /// The TCP address of each pool's listener, in the order of the pools; `None` for a unix socket.
    #[must_use]
    pub fn addresses(&self) -> &[Option<SocketAddr>] {
        &self.addresses
    }

    /// What there is to be seen of it.
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// What the operator changes it with. Lines that the log drops are counted among its statistics from here on.
    #[must_use]
    pub fn operator(&self, log: Option<&LogControl>) -> Operator {
        if let (Some(log), Some(counters)) = (log, self.observed.topology().counters.first()) {
            log.count_in(Arc::clone(counters));
        }
        Operator {
            observed: self.observed(),
            workers: Arc::clone(&self.workers),
            log: log.cloned(),
            source: self.source.clone(),
            listening: Arc::clone(&self.listening),
            discovered: Arc::clone(&self.discovered),
            keeper: self.keeper.clone(),
            upgrade: Arc::clone(&self.upgrade),
            numbered_after: self.numbered_after,
        }
    }

    /// Whether it is to take over from another process.
    #[must_use]
    pub fn is_successor(&self) -> bool {
        self.succession.is_some()
    }

    /// A port that is not a pool's is handed on to a successor as well.
    pub fn hand_on(&self, listener: &std::net::TcpListener) {
        if let Ok(listener) = listener.try_clone() {
            self.listening.add_port(listener);
        }
    }

    /// The file that has the id of this process while it serves.
    pub fn has_pid_file(&self, path: &std::path::Path) {
        self.upgrade.has_pid_file(path);
    }

    /// Takes over from the process before this one, if it is there to be taken over from: this one serves from here on.
    ///
    /// # Errors
    ///
    /// When the other one does not hear that it does.
    pub fn take_over(&mut self) -> std::io::Result<()> {
        self.succession.take().map_or(Ok(()), |succession| self.operator(None).take_over(succession))
    }

    /// The health of the servers.
    #[must_use]
    pub fn shared_board(&self) -> Arc<Registry> {
        Arc::clone(&self.observed.topology().registry)
    }

    /// Takes no more clients, answers what has been read, and ends. Blocks until it is over.
    pub fn shutdown(self) {
        self.drain();
        self.wait();
    }

    /// Takes no more clients, and answers what has been read, for `drain_timeout` at most.
    pub(crate) fn drain(&self) {
        self.listening.end();
        self.discovered.end();
        for worker in self.workers.iter() {
            worker.tell(Message::Drain); // one that has ended has nothing to answer
        }
    }

    /// What ends a proxy that drains at once.
    pub(crate) fn hurry(&self) -> impl Fn() + use<> {
        let workers = Arc::clone(&self.workers);
        move || {
            for worker in workers.iter() {
                worker.tell(Message::End);
            }
        }
    }

    /// Waits for the end of one that drains, and leaves nothing behind.
    pub(crate) fn wait(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
        if let Some(keeper) = &self.keeper {
            keeper.end();
        }
        self.listening.remove_files();
    }
}

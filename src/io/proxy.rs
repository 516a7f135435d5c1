//! The running proxy: its workers, its listeners, its statistics port.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::mpsc;
use tracing::info;

use super::alarm::Alarm;
use super::clock::Clock;
use super::events::Events;
use super::listener::{self, Acceptor, Bound};
use super::log::LogControl;
use super::operator::Operator;
use super::worker::{self, Handle, Message, Worker};
use crate::config::{
    self,
    model::{Config, PoolId, Port},
};
use crate::engine::{Engine, Scripts, Setup};
use crate::health::Board;
use crate::stats::counters::Counters;
use crate::stats::prometheus::Sources;

/// Why the proxy does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A pool's address cannot be listened on.
    #[error("pool {pool}: cannot listen on {address}")]
    Listen {
        /// The pool.
        pool: String,
        /// The address, as written.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The statistics address cannot be listened on.
    #[error("cannot serve statistics on {address}")]
    Stats {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A thread or its runtime cannot be started.
    #[error("cannot start a worker")]
    Worker(#[from] std::io::Error),
}

/// What the statistics are made of.
#[derive(Debug, Clone)]
pub struct Observed {
    pub(crate) config: Arc<Config>,
    pub(crate) board: Arc<Board>,
    pub(crate) counters: Arc<[Arc<Counters>]>,
    pub(crate) clock: Clock,
    pub(crate) events: Arc<Events>,
    /// Tells this configuration from others.
    pub(crate) config_version: Arc<str>,
}

impl Observed {
    /// What statistics are taken from.
    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            config: &self.config,
            config_version: &self.config_version,
            board: &self.board,
            workers: &self.counters,
        }
    }
}

/// A running proxy. Dropping it leaves it running; [`Proxy::shutdown`] ends it.
#[derive(Debug)]
pub struct Proxy {
    workers: Arc<[Handle]>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<Option<SocketAddr>>,
    pub(crate) observed: Observed,
    pub(crate) stats: Option<std::net::TcpListener>,
}

impl Proxy {
    /// Binds every listener, then starts the workers.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound or a thread cannot be started; nothing is left running then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let mut bound = Vec::new();
        for pool in &config.pools {
            let listener = listener::bind(pool).map_err(|source| StartError::Listen {
                pool: pool.name.clone(),
                address: pool.listen.to_string(),
                source,
            })?;
            bound.push(listener);
        }
        let stats = match config.settings.stats {
            Port::Unsaid | Port::Off => None,
            Port::At(address) => {
                Some(listener::bind_tcp(address, 128, false).map_err(|source| StartError::Stats { address, source })?)
            }
        };
        let clock = Clock::start();
        // The jitter of probes must differ between hosts that start together; the process id and the time do that.
        let seed = u64::from(std::process::id()) << 32 ^ u64::from(clock.wall(clock.now()).subsec_nanos());
        let board = Arc::new(Board::new(&config, seed));
        let count = config.settings.workers;
        let counters: Arc<[Arc<Counters>]> = (0..count).map(|_| Arc::new(Counters::new(&config))).collect();
        let (workers, inboxes): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (messages, inbox) = mpsc::unbounded_channel();
                (Handle { messages, load: Arc::new(AtomicUsize::new(0)) }, inbox)
            })
            .unzip();
        let workers: Arc<[Handle]> = workers.into();
        let scripts = Scripts::default();
        let events = Arc::new(Events::default());
        let addresses = bound.iter().map(Bound::address).collect();
        let mut bound = Some(bound);
        let mut threads = Vec::new();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let part = Part {
                setup: Setup {
                    config: Arc::clone(&config),
                    board: Arc::clone(&board),
                    counters: Arc::clone(&counters),
                    worker: index,
                    seed: seed.wrapping_add(index as u64),
                    started_at: clock.wall(crate::time::Instant::ZERO),
                    scripts: scripts.clone(),
                },
                workers: Arc::clone(&workers),
                clock,
                events: Arc::clone(&events),
                listeners: bound.take().unwrap_or_default(),
                inbox,
            };
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || part.run())?;
            threads.push(thread);
        }
        for pool in &config.pools {
            info!(pool = pool.name, listen = %pool.listen, servers = pool.servers.len(), "pool is served");
        }
        let config_version = config::version(&config).into();
        let observed = Observed { config, board, counters, clock, events, config_version };
        Ok(Self { workers, threads, addresses, observed, stats })
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
        if let (Some(log), Some(counters)) = (log, self.observed.counters.first()) {
            log.count_in(Arc::clone(counters));
        }
        Operator { observed: self.observed(), workers: Arc::clone(&self.workers), log: log.cloned() }
    }

    /// The health of the servers.
    #[must_use]
    pub fn shared_board(&self) -> Arc<Board> {
        Arc::clone(&self.observed.board)
    }

    /// Takes no more clients, answers what has been read, and ends. Blocks until it is over.
    pub fn shutdown(self) {
        for worker in self.workers.iter() {
            let _ = worker.messages.send(Message::Drain);
        }
        for thread in self.threads {
            let _ = thread.join(); // a worker that panicked has said so itself
        }
        for pool in &self.observed.config.pools {
            if let config::model::Listen::Unix { path, .. } = &pool.listen {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// What a worker's thread starts from.
struct Part {
    setup: Setup,
    workers: Arc<[Handle]>,
    clock: Clock,
    events: Arc<Events>,
    /// Only the first worker has any.
    listeners: Vec<Bound>,
    inbox: mpsc::UnboundedReceiver<Message>,
}

impl Part {
    fn run(self) {
        let Self { setup, workers, clock, events, listeners, inbox } = self;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .max_blocking_threads(8)
            .build_local(Default::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "cannot start the runtime of a worker");
                return;
            }
        };
        runtime.block_on(async move {
            let index = setup.worker;
            let config = Arc::clone(&setup.config);
            let counters = Arc::clone(&setup.counters);
            let others = workers.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, handle)| handle);
            let others = others.cloned().collect();
            let engine = Engine::new(setup);
            let worker = Worker::new(engine, Arc::clone(&config), clock, others, &workers[index], events);
            let shared = Rc::new(RefCell::new(worker));
            {
                let worker = &mut *shared.borrow_mut();
                let now = worker.clock.now();
                worker.engine.preconnect(now);
            }
            let mut acceptors = Vec::new();
            for (pool, bound) in (0u16..).zip(listeners) {
                let acceptor = Acceptor {
                    shared: Rc::clone(&shared),
                    config: Arc::clone(&config),
                    pool: PoolId(pool),
                    workers: Arc::clone(&workers),
                    counters: Arc::clone(&counters),
                };
                acceptors.push(tokio::task::spawn_local(listener::accept(acceptor, bound)));
            }
            let stop_accepting = acceptors.iter().map(tokio::task::JoinHandle::abort_handle).collect();
            shared.borrow_mut().accepting = stop_accepting;
            let alarm = match Alarm::new() {
                Ok(alarm) => alarm,
                Err(error) => return tracing::error!(%error, "cannot set timers"),
            };
            worker::control(shared, inbox, alarm).await;
        });
    }
}

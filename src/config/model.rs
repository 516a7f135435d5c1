//! The configuration as the rest of the program uses it.
//!
//! Every value here has been checked: names resolved, defaults filled in, ranges tested. [`super::resolve`] is the only
//! place that builds these types from a file, so nothing below it needs to validate again. Durations are
//! [`Duration`]s, sizes are bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use super::choices::{
    Distribution, HashKind, KeylessScripts, LogFormat, LogLevel, OnEject, OnFailure, Rejoin, Resolve, Transactions,
};
pub use super::discovery::Discovery;
pub use super::hashing::ketama_groups;
pub use super::process::{LogSettings, Port, Settings, StatsdSettings};
pub use super::users::Users;

/// The name that is not a pool's.
pub(super) const SETTINGS_NAME: &str = "softmiss";

/// Most pools and servers that can be told apart.
pub(super) const COUNT_LIMIT: usize = 65_535;

/// A whole configuration: the process's own settings and its pools, in file order.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the process: the reserved `softmiss:` section.
    pub settings: Settings,
    /// The pools, at least one, in the order of the file.
    pub pools: Vec<Pool>,
}

/// A pool: the servers behind one listener, and how keys are spread over them.
#[derive(Debug, Clone)]
pub struct Pool {
    /// What it is known by: its place among the pools, until it is in a topology.
    pub id: PoolId,
    /// The pool's name in the file.
    pub name: String,
    /// Where clients connect.
    pub listen: Listen,
    /// What clients and servers speak.
    pub protocol: Protocol,
    /// The hash applied to keys.
    pub hash: HashKind,
    /// Opening and closing byte of the part of a key that alone is hashed.
    pub hash_tag: Option<[u8; 2]>,
    /// How a hash becomes a server.
    pub distribution: Distribution,
    /// How long a request may take from when it was read; `None` waits for ever, as twemproxy does by default.
    pub timeout: Option<Duration>,
    /// Length of the listen queue.
    pub backlog: u32,
    /// Most clients served at the same time; `None` leaves it to the limit on open files.
    pub client_connections: Option<usize>,
    /// Open connections to the servers at start.
    pub preconnect: bool,
    /// `SO_KEEPALIVE` on client connections.
    pub tcpkeepalive: bool,
    /// `SO_REUSEPORT` on the listener.
    pub reuseport: bool,
    /// Take failing servers out of the ring.
    pub auto_eject_hosts: bool,
    /// How long an ejected server is left alone before it is probed.
    pub server_retry_timeout: Duration,
    /// Consecutive failures that eject a server, at least 1.
    pub server_failure_limit: u32,
    /// Connections to each server from each worker, at least 1.
    pub server_connections: usize,
    /// New connections to a server that lost its last ones, per second and process.
    pub server_reconnect_limit: u32,
    /// What a client is told when a server failed its request.
    pub on_failure: OnFailure,
    /// With [`OnFailure::Absorb`]: what stores only if nothing is there is told that it has stored, too.
    pub absorb_add: bool,
    /// What becomes of an ejected server's keys.
    pub on_eject: OnEject,
    /// Longest lifetime of what is written to a server that is not the key's home, in seconds.
    pub failover_ttl: Option<u32>,
    /// What becomes of the items of a server that comes back.
    pub rejoin: Rejoin,
    /// For how long after a change of the servers keys that moved are looked for where they were; `None` for not at all.
    pub warmup: Option<Duration>,
    /// Who misses a key first computes it, and the others wait for that; `None` when each of them misses.
    pub stampede: Option<Stampede>,
    /// Values that are asked for often are kept here for a moment; `None` when none are.
    pub near_cache: Option<NearCache>,
    /// Who may come in, where not everybody may. memcached pools only.
    pub sasl: Option<Users>,
    /// Most servers that may be out of the ring, in percent of all.
    pub max_ejected_percent: u32,
    /// Good probes in a row that bring a server back, at least 1.
    pub rise: u32,
    /// Most changes of the ring that one server may cause in a minute; `None` for no limit.
    pub flap_limit: Option<u32>,
    /// When a silent server counts as stalled; `None` when nothing but `timeout` tells.
    pub stall: Option<Stall>,
    /// Gets that wait for the same server go out in one line.
    pub join_gets: bool,
    /// Largest value that is passed on, in bytes.
    pub value_limit: usize,
    /// Password and database of Redis pools.
    pub redis: RedisSettings,
    /// Where servers are looked for that the file does not list, and how often.
    pub discovery: Discovery,
    /// The servers, **sorted as twemproxy sorts them**: shorter names first, equal lengths by bytes. In a topology there is at
    /// least one.
    pub servers: Vec<Server>,
    /// What the file lists, once [`Pool::servers`] are those that were found by it.
    pub listed: Option<Vec<Server>>,
}

impl Pool {
    /// A pool with twemproxy's defaults, and this program's own for what twemproxy does not know. `servers` are sorted.
    #[must_use]
    pub fn new(name: &str, listen: Listen, servers: Vec<Server>) -> Self {
        Self {
            id: PoolId(0),
            name: name.to_owned(),
            listen,
            protocol: Protocol::Memcache,
            hash: HashKind::Fnv1a_64,
            hash_tag: None,
            distribution: Distribution::Ketama,
            timeout: None,
            backlog: 512,
            client_connections: None,
            preconnect: false,
            tcpkeepalive: false,
            reuseport: false,
            auto_eject_hosts: false,
            server_retry_timeout: Duration::from_secs(30),
            server_failure_limit: 2,
            server_connections: 1,
            server_reconnect_limit: 10,
            on_failure: OnFailure::Miss,
            absorb_add: false,
            on_eject: OnEject::Rehash,
            failover_ttl: None,
            rejoin: Rejoin::Keep,
            warmup: None,
            stampede: None,
            near_cache: None,
            sasl: None,
            max_ejected_percent: 100,
            rise: 1,
            flap_limit: Some(6),
            stall: None,
            join_gets: true,
            value_limit: 64 << 20,
            redis: RedisSettings::default(),
            discovery: Discovery::default(),
            servers: in_order(servers),
            listed: None,
        }
    }

    /// The servers that the file lists.
    #[must_use]
    pub fn listed(&self) -> &[Server] {
        self.listed.as_deref().unwrap_or(&self.servers)
    }
}

/// Servers in twemproxy's order, which numbers them for modula, for the ring and for the statistics.
pub(super) fn in_order(mut servers: Vec<Server>) -> Vec<Server> {
    servers.sort_by_cached_key(|server| (server.ring_name().len(), server.ring_name().to_owned()));
    (0..=u16::MAX).zip(&mut servers).for_each(|(index, server)| server.id = ServerId(index));
    servers
}

/// When a server that says nothing counts as stalled: after twice its usual latency, within these bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Never sooner than this.
    pub least: Duration,
    /// Never later than this.
    pub most: Duration,
}

/// How a key that is missed is kept from being computed by all who ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stampede {
    /// How long who misses a key waits for another one that computes it.
    pub wait: Duration,
    /// How long who was told the miss first has for that, before the next one is.
    pub lease: Duration,
    /// For how long after its end a value is given to who would have to wait for the next one.
    pub stale: Option<Duration>,
    /// What keys begin with that are meant; all are if there is nothing.
    pub keys: Vec<String>,
}

impl Default for Stampede {
    fn default() -> Self {
        Self { wait: Duration::from_secs(2), lease: Duration::from_secs(5), stale: None, keys: Vec::new() }
    }
}

impl Stampede {
    /// Whether a key is meant.
    #[must_use]
    pub fn is_for(&self, key: &[u8]) -> bool {
        is_meant(&self.keys, key)
    }
}

/// Which values are kept in the process itself, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearCache {
    /// Most bytes of all that are kept of the pool.
    pub size: usize,
    /// How long a value is given out of it.
    pub ttl: Duration,
    /// When a key's server is out, what is kept of it is given in its place, for so long after it was read; `None` for not at
    /// all.
    pub stale_on_error: Option<Duration>,
    /// What keys begin with that are meant; all are if there is nothing.
    pub keys: Vec<String>,
}

impl Default for NearCache {
    fn default() -> Self {
        Self { size: 64 << 20, ttl: Duration::from_secs(1), stale_on_error: None, keys: Vec::new() }
    }
}

impl NearCache {
    /// Whether a key is meant.
    #[must_use]
    pub fn is_for(&self, key: &[u8]) -> bool {
        is_meant(&self.keys, key)
    }
}

fn is_meant(begins: &[String], key: &[u8]) -> bool {
    begins.is_empty() || begins.iter().any(|begin| key.starts_with(begin.as_bytes()))
}

/// Settings that only Redis pools have.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Password that clients must give and that is given to the servers (`redis_auth`).
    pub auth: Option<String>,
    /// User of the servers that the password belongs to; `None` is the default user (`redis_user`).
    pub user: Option<String>,
    /// Database that clients start in (`redis_db`).
    pub db: u32,
    /// Databases that clients may select, from 0 (`redis_databases`).
    pub databases: u32,
    /// What becomes of transactions over several servers.
    pub transactions: Transactions,
    /// What becomes of scripts without keys.
    pub keyless_scripts: KeylessScripts,
    /// A script with one key whose server fails it is answered null where failures are hidden.
    pub null_scripts: bool,
    /// Commands that are not in the table are routed by their first argument.
    pub routes_unknown: bool,
    /// Most server connections that belong to one client each, for each worker.
    pub dedicated_connections: usize,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            auth: None,
            user: None,
            db: 0,
            databases: 16,
            transactions: Transactions::Split,
            keyless_scripts: KeylessScripts::Any,
            null_scripts: false,
            routes_unknown: true,
            dedicated_connections: 1000,
        }
    }
}

/// What a pool speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// memcached's classic text and meta commands.
    Memcache,
    /// RESP.
    Redis,
}

impl Protocol {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memcache => "memcached",
            Self::Redis => "redis",
        }
    }
}

/// Where a pool listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address, as written and as resolved when the file was read.
    Tcp {
        /// The text of the file, for messages.
        text: String,
        /// What it resolved to.
        address: SocketAddr,
    },
    /// A unix socket.
    Unix {
        /// Path of the socket.
        path: PathBuf,
        /// Permission bits given to the socket's file; `None` leaves them to the umask.
        mode: Option<u32>,
    },
}

/// A server of a pool: its index in [`Pool::servers`] as the file has them. In a topology, where servers come and go, it keeps
/// this for as long as it is there, and no other server is given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u16);

impl ServerId {
    /// The server with this number, of which no pool has more than an id can name.
    #[must_use]
    pub fn at(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// Its number.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A pool: its index in [`Config::pools`] as the file has them. In a topology it keeps this, as a [`ServerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u16);

impl PoolId {
    /// Its number.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What it is known by.
    pub id: ServerId,
    /// twemproxy's name of the server: input of the ring, key of the statistics. Nothing in it is unseen.
    pub name: String,
    /// The name as written, where there is more in it than can be shown.
    pub ring_name: Option<Box<str>>,
    /// Where it listens.
    pub address: Address,
    /// Its share, at least 1.
    pub weight: u32,
    /// Its place in the file's list, from 0.
    pub position: usize,
}

impl Server {
    /// The name that the ring takes.
    #[must_use]
    pub fn ring_name(&self) -> &str {
        self.ring_name.as_deref().unwrap_or(&self.name)
    }
}

/// Where a server listens. A host is looked up at each new connection, not at start.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host (name or address, without brackets) and port.
    Tcp {
        /// Host name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A host that has moved: the name stands for other addresses than it did at first.
    Found {
        /// Host name.
        host: String,
        /// TCP port.
        port: u16,
        /// What it stands for, in the order in which it is to be tried.
        at: Vec<IpAddr>,
    },
    /// Path of a unix socket.
    Unix(PathBuf),
    /// Nothing to connect to, but what is asked where servers are: a name with SRV records.
    Sought(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Found { host, port, at } => {
                let at: Vec<String> = at.iter().map(IpAddr::to_string).collect();
                write!(f, "{host}:{port} ({})", at.join(", "))
            }
            Self::Sought(what) => f.write_str(what),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // An IPv6 address may have been written without its brackets.
            Self::Tcp { text, .. } => match text.rsplit_once(':') {
                Some((host, port)) if host.contains(':') && !host.starts_with('[') => write!(f, "[{host}]:{port}"),
                _ => f.write_str(text),
            },
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

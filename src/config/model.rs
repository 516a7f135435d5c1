//! The configuration as the rest of the program uses it.
//!
//! Every value here has been checked: names resolved, defaults filled in, ranges tested. [`super::resolve`] is the only
//! place that builds these types from a file, so nothing below it needs to validate again. Durations are
//! [`Duration`]s, sizes are bytes.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use super::hashing::{Distribution, HashKind, ketama_groups};

/// A whole configuration: the process's own settings and its pools, in file order.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the process: the reserved `softmiss:` section.
    pub settings: Settings,
    /// The pools, at least one, in the order of the file.
    pub pools: Vec<Pool>,
}

/// Settings of the process (`softmiss:` in the file).
#[derive(Debug, Clone)]
pub struct Settings {
    /// Event-loop threads, at least 1.
    pub workers: usize,
    /// Bound on all buffers of the process together, in bytes.
    pub memory_limit: usize,
    /// Where twemproxy's JSON statistics are served.
    pub stats: Port,
    /// Where the admin port is served.
    pub admin: Port,
    /// What must be said to change anything through it; `None`: only whoever is on this host may, without a word.
    pub admin_token: Option<String>,
    /// The statsd server that is told what is counted.
    pub statsd: Option<StatsdSettings>,
    /// One in so many requests has its keys counted, to find out which are hot; `None` counts none.
    pub hot_keys: Option<u32>,
    /// Requests that take longer are logged, as are those that run out of time; `None` logs none.
    pub slow_request: Option<Duration>,
    /// Where what servers missed is kept while the process is restarted; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// How much is logged, and in which form.
    pub log: LogSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            memory_limit: 512 << 20,
            stats: Port::Unsaid,
            admin: Port::Unsaid,
            admin_token: None,
            statsd: None,
            hot_keys: Some(128),
            slow_request: Some(Duration::from_secs(1)),
            state_dir: None,
            log: LogSettings::default(),
        }
    }
}

/// Where the process serves something of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The file does not say: at the usual address, if nobody else is there.
    Unsaid,
    /// Nowhere.
    Off,
    /// Here, or the process does not start.
    At(SocketAddr),
}

impl FromStr for Port {
    type Err = &'static str;

    /// As a flag of the command line has it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::Off);
        }
        let address = text.to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = address.filter(|found| found.port() > 0).map(Self::At);
        address.ok_or("write an address with a port, such as 127.0.0.1:22223, or none")
    }
}

/// `softmiss: statsd:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdSettings {
    /// Name or address of the host.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// First step of every name.
    pub prefix: String,
    /// Time between two reports.
    pub interval: Duration,
}

/// `softmiss: log:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Text for people and journald, or one JSON object a line.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

/// Severity threshold of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// State changes as well.
    Info,
    /// Diagnosis; may name keys.
    Debug,
    /// Everything, requests included.
    Trace,
}

impl LogLevel {
    /// Every level with the name it has in the file, from quiet to loud.
    pub const ALL: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The name it has in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// A pool: the servers behind one listener, and how keys are spread over them.
#[derive(Debug, Clone)]
pub struct Pool {
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
    /// The servers, at least one, **sorted as twemproxy sorts them**: shorter names first, equal lengths by bytes.
    pub servers: Vec<Server>,
}

impl Pool {
    /// A pool with twemproxy's defaults, and this program's own for what twemproxy does not know. `servers` are sorted.
    #[must_use]
    pub fn new(name: &str, listen: Listen, mut servers: Vec<Server>) -> Self {
        // It numbers the servers for modula, for the ring and for the statistics.
        let key = |server: &Server| (server.ring_name().len(), server.ring_name().to_owned());
        servers.sort_by_cached_key(key);
        Self {
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
            max_ejected_percent: 100,
            rise: 1,
            flap_limit: Some(6),
            stall: None,
            join_gets: true,
            value_limit: 64 << 20,
            redis: RedisSettings::default(),
            servers,
        }
    }
}

/// When a server that says nothing counts as stalled: after twice its usual latency, within these bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Never sooner than this.
    pub least: Duration,
    /// Never later than this.
    pub most: Duration,
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

/// What becomes of transactions over several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transactions {
    /// Each server carries out its part.
    Split,
    /// They are refused.
    Single,
}

/// What becomes of scripts without keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeylessScripts {
    /// Any server runs them.
    Any,
    /// They are refused.
    Refuse,
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

/// What a client is told when a server failed its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// twemproxy's error line.
    Error,
    /// The protocol's own words for "not there".
    Miss,
    /// As [`OnFailure::Miss`], but a write is told what a server would say that forgets at once.
    Absorb,
}

impl OnFailure {
    /// The word for it in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Miss => "miss",
            Self::Absorb => "absorb",
        }
    }
}

/// What becomes of an ejected server's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEject {
    /// They belong to the servers that are left, as with twemproxy.
    Rehash,
    /// They stay its own, and are answered by [`OnFailure`] until it is back.
    Hold,
}

impl OnEject {
    /// The word for it in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rehash => "rehash",
            Self::Hold => "hold",
        }
    }
}

/// What becomes of the items of a server that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejoin {
    /// They are served as they are, as with twemproxy.
    Keep,
    /// They are flushed first.
    Flush,
    /// Those that were to be changed meanwhile are deleted first.
    Safe,
}

impl Rejoin {
    /// The word for it in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Flush => "flush",
            Self::Safe => "safe",
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

/// A server of a pool: its index in [`Pool::servers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u16);

impl ServerId {
    /// The server at an index in [`Pool::servers`], of which no pool has more than an id can name.
    #[must_use]
    pub fn at(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// The index in [`Pool::servers`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A pool of the configuration: its index in [`Config::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u16);

impl PoolId {
    /// The index in [`Config::pools`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
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

/// Where a server listens. Hosts are resolved at each new connection, not at start.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host (name or address, without brackets) and port.
    Tcp {
        /// Host name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
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

//! The settings of the process, as the rest of the program uses them.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::choices::{LogFormat, LogLevel};

/// Settings of the process (`softmiss:` in the file).
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// How long the process may take, when it is to end, to answer what has been read.
    pub drain_timeout: Duration,
    /// A file that has changed is read again without being asked to.
    pub watch: bool,
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
            drain_timeout: Duration::from_secs(5),
            watch: false,
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

impl Default for StatsdSettings {
    /// Of nobody: its host has to be said.
    fn default() -> Self {
        Self { host: String::new(), port: 0, prefix: "softmiss".to_owned(), interval: Duration::from_secs(10) }
    }
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

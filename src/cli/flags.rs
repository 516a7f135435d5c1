//! twemproxy's flags, and the files that stand in for one that is not given.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::Args;

use crate::config::model::Port;

/// Where a configuration is looked for when no flag names one: the first of these that there is. After the program's own,
/// those of twemproxy, as it is built and as Debian has it.
pub(super) const DEFAULT_FILES: [&str; 3] =
    [crate::config::USUAL_FILE, "conf/nutcracker.yml", "/etc/nutcracker/nutcracker.yml"];

/// `-a`: an address, in brackets or not, or the name of one.
fn host(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let found = (bare, 1).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.map(|found| found.ip()).ok_or_else(|| "write an address of this host, such as 127.0.0.1".to_owned())
}

/// twemproxy's flags.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Configuration file (default: conf/softmiss.yml, else conf/nutcracker.yml, else /etc/nutcracker/nutcracker.yml)
    #[arg(short = 'c', long = "conf-file", value_name = "FILE", global = true)]
    pub(crate) conf_file: Option<PathBuf>,

    /// Test the configuration file and exit: 0 if it can be used
    #[arg(short = 't', long = "test-conf")]
    pub(crate) test_conf: bool,

    /// Run in the background; returns when it serves, or says why not
    #[arg(short = 'd', long = "daemonize")]
    pub(crate) daemonize: bool,

    /// List the statistics and exit
    #[arg(short = 'D', long = "describe-stats")]
    pub(crate) describe_stats: bool,

    /// Log level, 0 (errors only) to 11 (everything); the file's `log: level` otherwise
    #[arg(short = 'v', long = "verbose", value_name = "N")]
    pub(crate) verbose: Option<u32>,

    /// Append the log to a file, reopened on SIGUSR1 and SIGHUP, in place of stderr
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Port of the JSON statistics (default 22222)
    #[arg(short = 's', long = "stats-port", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) stats_port: Option<u16>,

    /// Address of the JSON statistics (default 127.0.0.1)
    #[arg(short = 'a', long = "stats-addr", value_name = "ADDR", value_parser = host)]
    pub(crate) stats_addr: Option<IpAddr>,

    /// Address of the admin port (default 127.0.0.1:22223), or none
    #[arg(long = "admin", value_name = "ADDR")]
    pub(crate) admin: Option<Port>,

    /// Accepted for twemproxy's sake: statistics are always live
    #[arg(short = 'i', long = "stats-interval", value_name = "MS")]
    pub(crate) stats_interval: Option<u32>,

    /// Write the process id to a file, removed at the end
    #[arg(short = 'p', long = "pid-file", value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Accepted for twemproxy's sake: buffers grow and shrink by need
    #[arg(short = 'm', long = "mbuf-size", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(512..=16_777_216))]
    pub(crate) mbuf_size: Option<u32>,

    /// Print the version and exit
    #[arg(short = 'V', long = "version")]
    pub(crate) version: bool,
}

/// The file that is read when none is named.
pub(super) fn default_file() -> PathBuf {
    let files = DEFAULT_FILES.map(PathBuf::from);
    let found = files.iter().find(|file| file.exists()).cloned();
    found.unwrap_or_else(|| PathBuf::from(DEFAULT_FILES[0]))
}

//! The command line: its definitions, and one module a subcommand.
//!
//! twemproxy's flags keep their meaning, so the binary can be put in its place; subcommands stand beside them.

mod check;
pub mod daemon;
mod route;
mod run;
mod top;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::model::Port;
use clap::{Args, CommandFactory, Parser, Subcommand};

/// Where a configuration is looked for when no flag names one: the first of these that there is. After the program's own,
/// those of twemproxy, as it is built and as Debian has it.
const DEFAULT_FILES: [&str; 3] = [crate::config::USUAL_FILE, "conf/nutcracker.yml", "/etc/nutcracker/nutcracker.yml"];

const ABOUT: &str = "A sharding proxy for memcached and Redis that turns a dead cache server into misses.";

// No line is longer than a terminal of 80 columns: longer ones would be broken where it does not help.
const EXAMPLES: &str = "\
Examples:
  softmiss demo                    see it work: three nodes, a load, a monkey
  softmiss check conf/example.yml  all that is wrong with a file, at once
  softmiss -c conf/example.yml     run
  softmiss top 127.0.0.1:22223     watch it run, by its admin port
  softmiss route -c conf/example.yml user:42
                                   which server a key belongs to, and why
  softmiss route -c conf/example.yml --dead cache-a user:42
                                   where it would go if cache-a were gone

Every option of the file is explained in conf/example.yml. SIGTERM and SIGINT
answer what has been read and end; SIGHUP and SIGUSR1 reopen the log file;
SIGTTIN and SIGTTOU make the log louder and quieter.";

/// The address that a word on the command line stands for, as the file has it.
fn resolved(address: &str) -> Option<SocketAddr> {
    let found = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.filter(|found| found.port() > 0)
}

/// `-a`: an address, in brackets or not, or the name of one.
fn host(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let found = (bare, 1).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.map(|found| found.ip()).ok_or_else(|| "write an address of this host, such as 127.0.0.1".to_owned())
}

/// `--admin`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdminFlag(pub(crate) Port);

impl std::str::FromStr for AdminFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(Port::Off)),
            address => resolved(address)
                .map(|address| Self(Port::At(address)))
                .ok_or_else(|| "write an address with a port, such as 127.0.0.1:22223, or none".to_owned()),
        }
    }
}

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "softmiss", version, about = ABOUT, after_help = EXAMPLES, disable_version_flag = true)]
#[command(max_term_width = 80)]
#[command(args_override_self = true)] // as with twemproxy, the last of several wins
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    flags: Flags,
}

/// twemproxy's flags.
#[derive(Debug, Args)]
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

    /// Append the log to a file, reopened on SIGHUP, in place of stderr
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
    pub(crate) admin: Option<AdminFlag>,

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

#[derive(Debug, Subcommand)]
enum Command {
    /// Say everything that is wrong with configuration files; exit 0 if nothing is
    Check {
        /// The files; that of `-c` or the default one otherwise
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say which pool and server keys belong to, and why
    Route(route::Arguments),
    /// Watch a running proxy: pools, servers, events, rates and latencies, live
    Top(top::Arguments),
    /// Show the proxy at work: nodes, load and faults inside this one process
    Demo(crate::demo::Options),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // As twemproxy: help is a success, a bad option is exit status 1.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("softmiss: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { command, flags } = cli;
    let file = flags.conf_file.clone().unwrap_or_else(default_file);
    match command {
        Some(Command::Check { mut files }) => {
            if files.is_empty() || flags.conf_file.is_some() {
                files.insert(0, file);
            }
            Ok(check::run(&files))
        }
        Some(Command::Route(arguments)) => route::run(&file, &arguments),
        Some(Command::Top(arguments)) => top::run(&file, &arguments),
        Some(Command::Demo(options)) => crate::demo::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "softmiss", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Man) => {
            clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        None if flags.version => {
            say(&format!("This is softmiss-{}\n", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        None if flags.describe_stats => {
            say(&check::describe_stats());
            Ok(ExitCode::SUCCESS)
        }
        None if flags.test_conf => Ok(check::test(&file)),
        None => run::run(&file, &flags),
    }
}

/// The file that is read when none is named.
fn default_file() -> PathBuf {
    let files = DEFAULT_FILES.map(PathBuf::from);
    let found = files.iter().find(|file| file.exists()).cloned();
    found.unwrap_or_else(|| PathBuf::from(DEFAULT_FILES[0]))
}

/// Writes to stdout. A reader that has gone is not a problem of ours.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes a line to stderr.
pub(crate) fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether messages on stderr may be coloured.
pub(crate) fn colour() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}

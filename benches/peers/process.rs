//! Child processes: where they run, where they listen, and that they end.
//!
//! Each child ends when its value is dropped, so that nothing outlives a run that failed half-way. All of them listen
//! on 127.0.0.1 or on a unix socket in a directory of their own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

/// How long a child may take until it listens.
const START: Duration = Duration::from_secs(5);

/// Which CPU runs what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placement {
    /// Proxy, servers and load on the same CPU: batches form as on a busy host, and the figures are quietest.
    One,
    /// The proxy alone on CPU 0, all else on CPU 1: each wake-up crosses CPUs.
    Two,
    /// Wherever the scheduler puts them.
    Free,
}

impl Placement {
    /// The word for reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Free => "free",
        }
    }

    /// The words for readers.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::One => "everything on one CPU",
            Self::Two => "the proxy alone on CPU 0, servers and load on CPU 1",
            Self::Free => "free, the scheduler decides",
        }
    }

    /// Where the proxy runs.
    pub(crate) fn proxy_cpu(self) -> Option<&'static str> {
        match self {
            Self::One | Self::Two => Some("0"),
            Self::Free => None,
        }
    }

    /// Where all else runs.
    pub(crate) fn rest_cpu(self) -> Option<&'static str> {
        match self {
            Self::One => Some("0"),
            Self::Two => Some("1"),
            Self::Free => None,
        }
    }

    /// A command that will run where the load generator belongs.
    pub(crate) fn load_command(self, program: &Path) -> Command {
        pinned(program, self.rest_cpu())
    }
}

/// A command that dies with this process and is pinned when `cpu` says so.
///
/// `setpriv` and `taskset` in place of system calls, because the crate forbids unsafe code. Both replace themselves
/// with what they start, so the process id is the program's own.
pub(crate) fn pinned(program: &Path, cpu: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(cpu) = cpu {
        command.args(["taskset", "-c", cpu]);
    }
    command.arg(program);
    command
}

/// A child process that ends with this value.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill and only the wait matters.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts `command` with its words in `log` and waits until it listens.
pub(crate) fn spawn(name: &str, mut command: Command, log: &Path, listen: &Listen) -> Result<Process> {
    let out = File::create(log)?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
    let mut process = Process { child };
    let end = Instant::now() + START;
    while !listen.answers() {
        let ended = process.child.try_wait()?;
        if ended.is_some() || Instant::now() > end {
            let words = fs::read_to_string(log).unwrap_or_default();
            bail!("{name} does not listen on {} ({ended:?}); it said:\n{words}", listen.address());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(process)
}

/// Where a child listens.
pub(crate) enum Listen {
    Port(u16),
    Path(PathBuf),
}

impl Listen {
    /// As clients are told it.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Port(port) => format!("127.0.0.1:{port}"),
            Self::Path(path) => path.display().to_string(),
        }
    }

    fn answers(&self) -> bool {
        match self {
            Self::Port(port) => TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], *port))).is_ok(),
            Self::Path(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

/// A port that was free a moment ago; another process could take it in between, and then the start fails loudly.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Finds `name` in the directories of `PATH`, and in the sbin directories that a user's path may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    (std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

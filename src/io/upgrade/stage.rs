//! How far an upgrade is, and the process that is to be the successor.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;

use crate::health::pending::Invalidations;
use crate::health::saved::Saved;
use crate::stats::carried::Counted;

/// Set in the environment of a successor.
pub(super) const MARK: &str = "SOFTMISS_UPGRADE";

/// How long a successor may take until it serves.
pub(super) const START_LIMIT: Duration = Duration::from_secs(10);

/// What tells a process of those that started it, and would be wrong of a successor.
const NOT_OF_SUCCESSORS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// Why this process goes on as before.
#[derive(Debug, Error)]
pub enum Stays {
    /// It was not started as a program with a configuration file.
    #[error("this process was started without a configuration file")]
    NoFile,
    /// A successor is there already.
    #[error("a successor is being started, or has taken over")]
    Already,
    /// The successor could not be started, or did not serve.
    #[error("{0}")]
    Failed(String),
}

/// How this process was started.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    arguments: Vec<OsString>,
}

/// The upgrade of a process, if there is one.
#[derive(Debug)]
pub(in crate::io) struct Upgrade {
    pub(super) program: Option<Program>,
    stage: Mutex<Stage>,
    /// All clients have gone over, or have had their time.
    pub(in crate::io) over: Notify,
}

#[derive(Debug, Default)]
pub(super) enum Stage {
    #[default]
    None,
    /// A successor is started, or takes over.
    Begun,
    /// All that is left to be said.
    Farewell(UnixStream, Vec<Saved>, Counted),
}

impl Upgrade {
    /// Of a process that can be started again as it was, or cannot. A binary may have been replaced later, so where it is is
    /// found out now.
    pub(in crate::io) fn new(can_be_started: bool) -> Self {
        let program = |path| Program { path, arguments: std::env::args_os().skip(1).collect() };
        let program = can_be_started.then(std::env::current_exe).and_then(Result::ok).map(program);
        Self { program, stage: Mutex::default(), over: Notify::new() }
    }

    pub(super) fn set(&self, stage: Stage) -> Stage {
        std::mem::replace(&mut *self.stage.lock().unwrap_or_else(PoisonError::into_inner), stage)
    }

    /// Whether nobody else has begun; then whoever asks has.
    pub(super) fn begin(&self) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = matches!(*stage, Stage::None);
        if is_first {
            *stage = Stage::Begun;
        }
        is_first
    }
}

impl Program {
    /// Starts it once more. The socket to it, and the process.
    pub(super) fn start(&self) -> io::Result<(UnixStream, Child)> {
        let (own, its) = UnixStream::pair()?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env(MARK, std::process::id().to_string()).stdin(OwnedFd::from(its));
        NOT_OF_SUCCESSORS.iter().for_each(|name| {
            command.env_remove(name);
        });
        Ok((own, command.spawn()?))
    }
}

/// What an error of a successor means.
pub(super) fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return format!("the successor does not say within {} s that it serves", START_LIMIT.as_secs());
    }
    if matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
        return "the successor has ended".to_owned();
    }
    format!("the successor: {error}")
}

/// Ends a successor that is of no use, and says how it has.
pub(super) fn end(child: &mut Child) -> String {
    let _ = child.kill(); // it may have ended by itself
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// What is pending of a server that was not before.
pub(super) fn newer(before: &[Saved], now: &[Saved]) -> Vec<Saved> {
    let left = |one: &Saved| {
        let mut one = one.clone();
        if let Some(was) = before.iter().find(|was| (&was.pool, &was.server) == (&one.pool, &one.server)) {
            one.missed.flush &= !was.missed.flush;
            one.missed.databases.retain(|database| !was.missed.databases.contains(database));
            let known: BTreeSet<_> = was.missed.keys.iter().collect();
            one.missed.keys.retain(|key| !known.contains(key));
        }
        (one.missed != Invalidations::default()).then_some(one)
    };
    now.iter().filter_map(left).collect()
}

//! How far an upgrade is, and the process that is to be the successor.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::health::saved::Told;
use crate::io::program::program_path;
use crate::stats::carried::Counted;

/// Set in the environment of a successor.
pub(super) const MARK: &str = "SOFTMISS_UPGRADE";

/// How long a successor may take until it serves.
pub(super) const START_LIMIT: Duration = Duration::from_secs(10);

/// How long a successor that says why it does not serve may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the system takes at most to say of a process that it has ended whose threads have.
const ENDING: Duration = Duration::from_millis(200);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(5);

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
    /// The process before this one has not handed over all.
    #[error("clients of the process before this one are still coming over, for drain_timeout at most")]
    TooSoon,
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
    /// The file with the id of the process that serves.
    pid_file: OnceLock<PathBuf>,
    /// All clients have gone over, or have had their time.
    pub(in crate::io) over: Notify,
    /// A successor that has served has ended before that.
    pub(in crate::io) failed: Notify,
    /// The process whose clients come over to this one; 0: there is none.
    predecessor: AtomicU32,
    /// Whether it is this process that is asked for figures, and told what to do.
    serves: watch::Sender<bool>,
    /// A reload was passed on to a successor.
    is_reload_passed_on: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) enum Stage {
    #[default]
    None,
    /// A successor is started: which process, if there is one yet.
    Starts(Option<u32>),
    /// It serves, clients go over to it. Its id.
    HandsOver(u32),
    /// All that is left to be said to the successor of this id.
    Farewell(u32, UnixStream, Told, Counted),
}

impl Upgrade {
    /// Of a process that can be started again as it was, or cannot. A binary may have been replaced later, so where it is is
    /// found out now. It takes over from the process with this id, or from none (0).
    pub(in crate::io) fn new(can_be_started: bool, predecessor: u32) -> Self {
        let program = |path| Program { path, arguments: std::env::args_os().skip(1).collect() };
        let program = can_be_started.then(program_path).and_then(Result::ok).map(program);
        Self {
            program,
            stage: Mutex::default(),
            pid_file: OnceLock::new(),
            over: Notify::new(),
            failed: Notify::new(),
            predecessor: AtomicU32::new(predecessor),
            serves: watch::Sender::new(predecessor == 0),
            is_reload_passed_on: AtomicBool::new(false),
        }
    }

    /// The process is told to end. Whether it does without that being done: clients go over to a successor first. A
    /// successor that does not serve yet is told the same, and so is a predecessor whose clients have not all come over:
    /// neither of them is to go on in the place of this one.
    pub(in crate::io) fn is_to_end(&self) -> bool {
        if let Some(pid) = self.predecessor_there() {
            tell(pid, Signal::TERM);
        }
        match *self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::None | Stage::Starts(None) => false,
            Stage::Starts(Some(pid)) => {
                tell(pid, Signal::TERM);
                false
            }
            Stage::HandsOver(_) | Stage::Farewell(..) => true,
        }
    }

    /// Whether a successor serves, so that it is the one to reload.
    pub(in crate::io) fn has_successor(&self) -> bool {
        match *self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::None | Stage::Starts(_) => false,
            Stage::HandsOver(_) | Stage::Farewell(..) => true,
        }
    }

    /// Has a successor that serves reload. If it ends before all clients have gone over, this process is to.
    pub(in crate::io) fn pass_reload_on(&self) {
        self.is_reload_passed_on.store(true, Ordering::Release);
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Stage::HandsOver(pid) | Stage::Farewell(pid, ..) = *stage {
            tell(pid, Signal::HUP);
        }
    }

    /// Whether a reload was passed on, which the successor did not live to do, perhaps.
    pub(super) fn takes_reload_back(&self) -> bool {
        self.is_reload_passed_on.swap(false, Ordering::AcqRel)
    }

    /// All clients of the process before this one have come over.
    pub(super) fn has_taken_over(&self) {
        self.predecessor.store(0, Ordering::Release);
    }

    /// The process before this one, while clients of it are still to come over and it has not ended.
    fn predecessor_there(&self) -> Option<u32> {
        let pid = Some(self.predecessor.load(Ordering::Acquire)).filter(|pid| *pid != 0)?;
        let is_there = getppid().is_some_and(|parent| parent.as_raw_nonzero().get().cast_unsigned() == pid);
        is_there.then_some(pid)
    }

    /// Whether clients of the process before this one are still to come over. If that has ended, or is about to, it is heard
    /// first what it has said last.
    pub(super) fn takes_over(&self) -> bool {
        let (mut waited, takes_over) = (Duration::ZERO, || self.predecessor.load(Ordering::Acquire) != 0);
        while takes_over() && waited < LAST_WORDS && (waited < ENDING || self.predecessor_there().is_none()) {
            std::thread::park_timeout(LOOK); // nobody wakes this thread
            waited += LOOK;
        }
        takes_over()
    }

    /// From here on it is this process that is asked for figures and told what to do, or another one.
    pub(super) fn set_serves(&self, serves: bool) {
        self.serves.send_replace(serves);
    }

    /// Whether it is, for whoever accepts those who ask.
    pub(in crate::io) fn serves(&self) -> watch::Receiver<bool> {
        self.serves.subscribe()
    }

    /// The process that serves has its id in this file.
    pub(in crate::io) fn has_pid_file(&self, path: &Path) {
        let _ = self.pid_file.set(path.to_owned()); // there is one of them at most
    }

    /// A successor that has written its own id there serves no more.
    pub(super) fn write_pid(&self) {
        let Some(path) = self.pid_file.get() else { return };
        if let Err(error) = std::fs::write(path, std::process::id().to_string()) {
            warn!(file = %path.display(), %error, "cannot write the pid file");
        }
    }

    pub(super) fn set(&self, stage: Stage) -> Stage {
        std::mem::replace(&mut *self.stage.lock().unwrap_or_else(PoisonError::into_inner), stage)
    }

    /// Whether nobody else has begun; then whoever asks has.
    pub(super) fn begin(&self) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = matches!(*stage, Stage::None);
        if is_first {
            *stage = Stage::Starts(None);
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

fn tell(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal); // it may have ended
    }
}

/// Whether an error says that a successor has ended.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// What an error of a successor means.
pub(super) fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return format!("the successor does not say within {} s that it serves", START_LIMIT.as_secs());
    }
    if is_end(error) {
        return "the successor has ended".to_owned();
    }
    format!("the successor: {error}")
}

/// Ends a successor that is of no use, of which only the id is known.
pub(super) fn end_by_id(pid: u32) {
    tell(pid, Signal::KILL);
}

/// What is said of a successor that does not serve. One that says why may have something to write before it ends; of one
/// that has ended without a word it is said how.
pub(super) fn outcome(error: &io::Error, child: &mut Child) -> String {
    let why = reason(error);
    if error.kind() == ErrorKind::Other {
        let mut waited = Duration::ZERO;
        while waited < LAST_WORDS && matches!(child.try_wait(), Ok(None)) {
            std::thread::park_timeout(LOOK); // nobody wakes this thread
            waited += LOOK;
        }
    }
    let status = end(child);
    if is_end(error) { format!("{why}, {status}") } else { why }
}

/// Ends a successor that is of no use, and says how it has.
pub(super) fn end(child: &mut Child) -> String {
    let _ = child.kill(); // it may have ended by itself
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}

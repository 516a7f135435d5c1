//! What servers missed, kept in a file while the process is restarted ([`saved`]).
//!
//! The file is written by a thread of its own, never by a worker: which servers are out or have invalidations pending whenever that
//! changes, and all that is pending when the process comes to its end in order. A file that is being written is
//! another one until it takes the place of the last. Without a file that says everything, a server of a pool with
//! `rejoin: safe` is doubted until it has answered.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::clock::Clock;
use crate::health::saved::{self, Kept, Saved};
use crate::time::Instant;
use crate::topology::{Published, Topology};

/// The file in the folder, and the one that is to take its place.
const NAME: &str = "missed";
const NEXT: &str = "missed.new";

/// Bytes of a file that are looked at. Beyond it, it says nothing.
const LIMIT: u64 = 256 << 20;

/// Between two looks while a server that is there is out or has invalidations pending.
const PERIOD: Duration = Duration::from_millis(250);

/// Keeps what servers missed.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    wake: Sender<()>,
    file: Arc<StateFile>,
}

#[derive(Debug)]
struct StateFile {
    folder: PathBuf,
    published: Arc<Published>,
    clock: Clock,
    written: Mutex<Written>,
    /// Another process keeps the file meanwhile.
    paused: AtomicBool,
}

/// What was written last.
#[derive(Debug, Default, PartialEq, Eq)]
enum Written {
    #[default]
    Nothing,
    /// These servers were marked.
    Marks {
        servers: Vec<Saved>,
        /// Some of them are there, so that what is pending for them may be over at any time.
        may_change: bool,
    },
    /// All that is pending: nothing more comes.
    Whole,
}

impl Keeper {
    /// Takes up what the process before this one has left, and starts to keep what this one has to leave. `None` when
    /// nothing is to be kept, or can be. A successor is told later what there is, and keeps nothing until then.
    pub(crate) fn start(published: &Arc<Published>, clock: Clock, is_successor: bool) -> Option<Self> {
        let topology = published.current();
        let folder = topology.config.settings.state_dir.clone();
        if !is_successor {
            take_up(&topology, left(&topology), Instant::ZERO);
        }
        let published = Arc::clone(published);
        let file = Arc::new(StateFile {
            folder: folder?,
            published,
            clock,
            written: Mutex::default(),
            paused: AtomicBool::new(is_successor),
        });
        if let Err(error) = file.mark() {
            warn!(folder = %file.folder.display(), %error, "cannot keep what servers miss: it is lost when the process ends");
            return None;
        }
        let (wake, woken) = mpsc::channel();
        let kept = Arc::clone(&file);
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || keep(&kept, &woken));
        thread.ok().map(|_| Self { wake, file })
    }

    /// Something has happened to a server.
    pub(crate) fn look(&self) {
        let _ = self.wake.send(());
    }

    /// Another process keeps the file from here on, or does not any more.
    pub(crate) fn pause(&self, is_paused: bool) {
        {
            let mut written = self.file.written();
            self.file.paused.store(is_paused, Ordering::Release);
            if !is_paused && *written != Written::Whole {
                *written = Written::Nothing; // what is there is the other one's
            }
        }
        self.look();
    }

    /// The process ends: writes down all that is pending.
    pub(crate) fn end(&self) {
        // Whoever writes marks does so before this, or not at all.
        let mut written = self.file.written();
        let topology = self.file.published.current();
        let servers = topology.registry.save(&topology.config, Kept::Whole, self.file.clock.now());
        let record = saved::encode(Kept::Whole, &servers);
        *written = Written::Whole;
        if self.file.paused.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = replace(&self.file.folder, &record) {
            warn!(folder = %self.file.folder.display(), %error, "cannot keep what servers missed");
        }
    }
}

impl StateFile {
    /// Writes down which servers are out or have invalidations pending, unless that is what is there.
    fn mark(&self) -> io::Result<()> {
        let mut written = self.written();
        let topology = self.published.current();
        let (config, registry) = (&topology.config, &topology.registry);
        let mut servers = registry.save_members(config, Kept::Marks);
        let may_change = !servers.is_empty();
        servers.extend(registry.save_others(config, Kept::Marks, self.clock.now()));
        let marks = Written::Marks { servers, may_change };
        if let Written::Marks { servers, .. } = &marks
            && !self.paused.load(Ordering::Acquire)
            && *written != Written::Whole
            && *written != marks
        {
            replace(&self.folder, &saved::encode(Kept::Marks, servers))?;
            *written = marks;
        }
        Ok(())
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a server is marked that is there.
    fn may_change(&self) -> bool {
        matches!(&*self.written(), Written::Marks { may_change: true, .. })
    }

    /// Whether the last file has been written.
    fn is_over(&self) -> bool {
        *self.written() == Written::Whole
    }
}

/// Keeps the file up to date, until the process ends.
fn keep(file: &StateFile, woken: &Receiver<()>) {
    let mut told = false;
    while !file.is_over() {
        let woken = match file.may_change() {
            true => woken.recv_timeout(PERIOD),
            false => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if woken == Err(RecvTimeoutError::Disconnected) || file.is_over() {
            return;
        }
        match file.mark() {
            Ok(()) => told = false,
            Err(error) if !std::mem::replace(&mut told, true) => {
                warn!(folder = %file.folder.display(), %error, "cannot keep what servers miss");
            }
            Err(_) => {}
        }
    }
}

/// Takes up what is known of servers: what they missed, and which are out. What is not known is doubted.
pub(super) fn take_up(topology: &Topology, known: Option<(Kept, Vec<Saved>)>, now: Instant) {
    let (config, registry) = (&topology.config, &topology.registry);
    let whole = matches!(known, Some((Kept::Whole, _)));
    if let Some((_, saved)) = known {
        if !saved.is_empty() {
            info!(servers = saved.len(), whole, "taking up what servers missed before the start");
        }
        registry.recall(config, saved, now);
    }
    if !whole {
        registry.doubt_all(config);
    }
}

/// What another process has left.
pub(super) fn left(topology: &Topology) -> Option<(Kept, Vec<Saved>)> {
    topology.config.settings.state_dir.as_deref().and_then(left_in)
}

/// What the process before this one has left.
fn left_in(folder: &Path) -> Option<(Kept, Vec<Saved>)> {
    let path = folder.join(NAME);
    let mut record = Vec::new();
    let read = fs::metadata(&path).and_then(|found| match found.is_file() {
        true if found.len() <= LIMIT => File::open(&path)?.take(LIMIT).read_to_end(&mut record),
        true => Ok(0), // it says nothing
        false => Err(io::Error::other("it is not a file")),
    });
    match read {
        Ok(_) => {
            let left = saved::decode(&record);
            if left.is_none() {
                warn!(file = %path.display(), "not a record of what servers missed, or damaged: it is not used");
            }
            left
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            warn!(file = %path.display(), %error, "cannot read what servers missed");
            None
        }
    }
}

/// Puts a record in the place of the last one, in one step.
fn replace(folder: &Path, record: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let next = folder.join(NEXT);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(record)?;
    file.sync_data()?;
    fs::rename(next, folder.join(NAME))
}

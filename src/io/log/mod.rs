//! The log: to stderr, or to a file that can be reopened; its level can be changed while the program runs.
//!
//! Lines are formatted by whoever logs and written by a thread of their own ([`queue`]): nobody waits for the log.

mod line;
mod queue;
mod report;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::rounds;
use crate::config::model::{LogFormat, LogLevel, LogSettings};
use crate::stats::counters::Counters;
use queue::Queue;

pub use report::tell_report;

/// How long the end of the program waits for lines to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// The log that runs, for whoever ends the process.
static RUNNING: OnceLock<Arc<Queue>> = OnceLock::new();

/// Waits until all that was logged is written, for a while at most. Does nothing without a log.
pub(crate) fn flush() {
    if let Some(queue) = RUNNING.get() {
        queue.flush(FLUSH_LIMIT);
    }
}

/// A log that runs. When it is dropped, all that was logged is written out.
pub struct Log(LogControl);

/// Changes the log while it runs.
#[derive(Clone)]
pub struct LogControl {
    level: reload::Handle<LevelFilter, Registry>,
    /// The level, for whoever changes it.
    current: Arc<Mutex<LogLevel>>,
    queue: Arc<Queue>,
    path: Option<Arc<PathBuf>>,
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogControl").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Starts the log. `path` is appended to; without it, lines go to stderr. Panics of any thread are lines of it from here
/// on.
///
/// # Errors
///
/// When the file cannot be opened, the thread cannot be started, or a log was started before.
pub fn start(settings: LogSettings, path: Option<&Path>) -> anyhow::Result<Log> {
    let output = match path {
        Some(path) => append(path).with_context(|| format!("cannot open the log file {}", path.display()))?,
        // Not through the library's handle: while a write blocks it is locked, and a panic could not be told.
        None => File::from(io::stderr().as_fd().try_clone_to_owned()?),
    };
    let queue = Queue::start(output)?;
    let (level, handle) = reload::Layer::new(filter(settings.level));
    let ansi = path.is_none() && io::IsTerminal::is_terminal(&io::stderr());
    let lines = lines(Lines(Arc::clone(&queue)), settings.format, ansi);
    Registry::default().with(level).with(lines).try_init()?;
    let _ = RUNNING.set(Arc::clone(&queue)); // there is one at the most
    rounds::tell_panics();
    let path = path.map(|path| Arc::new(path.to_owned()));
    Ok(Log(LogControl { level: handle, current: Arc::new(Mutex::new(settings.level)), queue, path }))
}

/// Has what is told in `tell` be lines on stderr, in the form of the log, whether there is a log or not. Waits until they
/// are written.
pub fn on_stderr(settings: LogSettings, tell: impl FnOnce()) {
    let ansi = io::IsTerminal::is_terminal(&io::stderr());
    let lines = lines(io::stderr, settings.format, ansi);
    tracing::subscriber::with_default(Registry::default().with(lines), tell);
}

/// Writes events as lines.
fn lines<S, W>(to: W, format: LogFormat, ansi: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(to).with_ansi(ansi).with_target(false);
    match format {
        LogFormat::Text => lines.event_format(line::Line).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

impl Log {
    /// What it is changed with.
    #[must_use]
    pub const fn control(&self) -> &LogControl {
        &self.0
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.queue.flush(FLUSH_LIMIT);
    }
}

impl LogControl {
    /// Makes the log louder or quieter by `steps` levels. `by` is who wants it.
    pub fn shift(&self, steps: isize, by: &str) {
        self.change(by, |level| {
            let at = LogLevel::ALL.iter().position(|(_, known)| *known == level).unwrap_or(2);
            LogLevel::ALL[at.saturating_add_signed(steps).min(LogLevel::ALL.len() - 1)].1
        });
    }

    /// Sets the level. `by` is who wants it. Returns what it was.
    pub fn set(&self, level: LogLevel, by: &str) -> LogLevel {
        self.change(by, |_| level)
    }

    fn change(&self, by: &str, change: impl FnOnce(LogLevel) -> LogLevel) -> LogLevel {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *current;
        *current = change(before);
        // The line that tells it is to be seen, whatever the level was and will be.
        let _ = self.level.modify(|level| *level = (*level).max(LevelFilter::INFO));
        info!(level = current.name(), before = before.name(), by, "log level is changed");
        let _ = self.level.modify(|level| *level = filter(*current));
        before
    }

    /// Opens the file again, after it was moved away, and returns its name. Does nothing for stderr.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, with its name; the old file stays in use.
    pub fn reopen(&self) -> Result<Option<&Path>, (&Path, io::Error)> {
        let Some(path) = self.path.as_deref() else { return Ok(None) };
        self.queue.flush(FLUSH_LIMIT); // what was said before belongs to the old one
        self.queue.turn_to(append(path).map_err(|error| (path.as_path(), error))?);
        Ok(Some(path))
    }

    /// Writes no more to stderr, of which nobody reads any more. Does nothing for a file.
    ///
    /// # Errors
    ///
    /// When there is no `/dev/null`.
    pub fn leave_stderr(&self) -> io::Result<()> {
        if self.path.is_none() {
            self.queue.turn_to(append(Path::new("/dev/null"))?);
            self.queue.flush(FLUSH_LIMIT);
        }
        Ok(())
    }

    /// Counts lines that are dropped in these counters.
    pub fn count_in(&self, counters: Arc<Counters>) {
        self.queue.count_in(counters);
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Where formatted lines go, each in one write.
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The log: to stderr, or to a file that can be reopened; its level can be changed while the program runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::model::{LogFormat, LogLevel, LogSettings};

/// The levels from quiet to loud, for raising and lowering.
const LEVELS: [LevelFilter; 5] =
    [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];

/// Changes the log while it runs.
#[derive(Clone)]
pub struct LogControl {
    level: reload::Handle<LevelFilter, Registry>,
    output: Output,
}

/// Starts the log. `path` is appended to; without it, lines go to stderr.
///
/// # Errors
///
/// When the file cannot be opened, or a log was started before.
pub fn start(settings: LogSettings, path: Option<&Path>) -> anyhow::Result<LogControl> {
    let output = Output::open(path)?;
    let (level, handle) = reload::Layer::new(filter(settings.level));
    let ansi = path.is_none() && io::IsTerminal::is_terminal(&io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(output.clone()).with_ansi(ansi).with_target(false);
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Registry::default().with(level).with(lines).try_init()?;
    Ok(LogControl { level: handle, output })
}

impl LogControl {
    /// Makes the log louder or quieter by `steps` levels.
    pub fn shift(&self, steps: isize) {
        let _ = self.level.modify(|level| {
            let at = LEVELS.iter().position(|known| known == level).unwrap_or(2);
            *level = LEVELS[at.saturating_add_signed(steps).min(LEVELS.len() - 1)];
        });
    }

    /// Opens the file again, after it was moved away. Does nothing for stderr.
    ///
    /// # Errors
    ///
    /// When it cannot be opened; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.output.reopen()
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

/// Where lines go.
#[derive(Clone)]
enum Output {
    Stderr,
    File(Arc<(PathBuf, Mutex<File>)>),
}

impl Output {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        Ok(match path {
            None => Self::Stderr,
            Some(path) => Self::File(Arc::new((path.to_owned(), Mutex::new(append(path)?)))),
        })
    }

    fn reopen(&self) -> io::Result<()> {
        if let Self::File(file) = self {
            let fresh = append(&file.0)?;
            *file.1.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write(line),
            Self::File(file) => file.1.lock().unwrap_or_else(PoisonError::into_inner).write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

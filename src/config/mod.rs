//! Configuration: from the text of a file to resolved, checked values.
//!
//! `raw` reads the file as it was written, [`resolve`](self) makes [`model`] values of it and collects every problem on
//! the way, [`diagnostic`] shows them. A file that twemproxy accepts is accepted, with the same meaning.

mod begins;
mod choices;
pub mod diagnostic;
pub mod discovery;
mod findings;
mod hashing;
mod line;
pub mod listing;
pub mod model;
mod near_cache;
mod nearest;
pub mod options;
mod place;
mod pool;
mod process;
mod raw;
mod resolve;
pub mod roster;
mod secret;
mod servers;
mod settings;
mod slips;
mod stampede;
mod text;
mod together;
mod value;
mod written;

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use diagnostic::{Diagnostic, Report};
use findings::Findings;
use model::Config;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

pub use place::overlap;
pub(crate) use text::is_unseen;
pub use together::USUAL_PORTS;
pub use written::{version, write};

/// The program's own file, where none is named.
pub const USUAL_FILE: &str = "conf/softmiss.yml";

/// Largest file that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// How long what is read at once is waited for, all in all: so many times so long. A pipe has something new each time, or its
/// end, or has had its time.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
const MOST_PAUSES: u32 = 400;

/// A file that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What in it works, but hardly as it was meant.
    pub warnings: Report,
    /// What of that a flag of the command line may have set right.
    pub unless_flags: Report,
}

/// Reads a file.
///
/// # Errors
///
/// Every problem of the file at once, each with its place and what to write instead.
pub fn load(path: &Path) -> Result<Loaded, Box<Report>> {
    load_with(path, |path| std::fs::read(path))
}

/// Reads a file that others may have put something else in the place of: a pipe into which nobody writes is not waited for.
///
/// # Errors
///
/// As [`load`].
pub fn load_at_once(path: &Path) -> Result<Loaded, Box<Report>> {
    load_with(path, read_at_once)
}

/// The bytes of a file, at most one above [`FILE_LIMIT`]. One that is a pipe is read to its end, if that comes soon.
fn read_at_once(path: &Path) -> io::Result<Vec<u8>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut file = File::from(file).take(FILE_LIMIT + 1);
    let (mut bytes, mut pauses) = (Vec::new(), 0);
    // What was read before a pause stays in `bytes`.
    while let Err(error) = file.read_to_end(&mut bytes) {
        if error.kind() != ErrorKind::WouldBlock {
            return Err(error);
        }
        pauses += 1;
        poll(&mut [PollFd::new(file.get_ref(), PollFlags::IN)], Some(&PAUSE))?;
        if pauses > MOST_PAUSES {
            return Err(io::Error::new(ErrorKind::TimedOut, "it is a pipe or a device, and does not come to an end"));
        }
    }
    Ok(bytes)
}

fn load_with(path: &Path, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Loaded, Box<Report>> {
    let name = path.display().to_string();
    let help = if path == Path::new(USUAL_FILE) {
        "name the file with `-c FILE`; an example with every option is conf/example.yml"
    } else {
        "is this the name of the file, seen from here? An example with every option is conf/example.yml"
    };
    match text_with("configuration file", path, read) {
        Ok(text) => parse(&name, &text),
        Err(message) => Err(Box::new(Report::new(&name, "", vec![Diagnostic::error(None, message).help(help)]))),
    }
}

/// The text of a file, or why there is none. `what` it is, for messages.
fn text_with(what: &str, path: &Path, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<String, String> {
    match std::fs::metadata(path) {
        Err(error) => return Err(format!("the {what} cannot be read: {error}")),
        Ok(found) if found.is_dir() => return Err("this is a directory, not a file".to_owned()),
        Ok(found) if found.len() > FILE_LIMIT => {
            return Err(format!("the file has {} bytes; at most {FILE_LIMIT} are read", found.len()));
        }
        Ok(_) => {}
    }
    match read(path) {
        Err(error) => Err(format!("the {what} cannot be read: {error}")),
        Ok(bytes) if bytes.len() as u64 > FILE_LIMIT => {
            Err(format!("there are more than {FILE_LIMIT} bytes; no more are read"))
        }
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "the file is not text in UTF-8".to_owned()),
    }
}

/// Reads the text of a file; `name` is what to call it in messages.
///
/// # Errors
///
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Loaded, Box<Report>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut findings = Findings::default();
    let config = match raw::read(text) {
        Ok(root) => {
            let config = resolve::resolve(&root, &mut findings);
            text::variables(&root, &mut findings);
            config
        }
        Err(diagnostic) => {
            findings.push(*diagnostic);
            None
        }
    };
    let report = Report::new(name, text, findings.list);
    let unless_flags = Report::new(name, text, findings.unless_flags);
    match config {
        Some(config) => Ok(Loaded { config, warnings: report, unless_flags }),
        None => Err(Box::new(report)),
    }
}

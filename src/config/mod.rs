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
mod reading;
mod resolve;
pub mod roster;
mod sasl;
mod secret;
mod servers;
mod settings;
mod slips;
mod stampede;
mod text;
mod together;
mod users;
mod value;
mod written;

use std::io;
use std::path::Path;

use diagnostic::{Diagnostic, Report};
use findings::Findings;
use model::Config;
use reading::{read_at_once, text_with};

pub use place::overlap;
pub(crate) use text::is_unseen;
pub use together::USUAL_PORTS;
pub use written::{version, write};

/// The program's own file, where none is named.
pub const USUAL_FILE: &str = "conf/softmiss.yml";

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

//! Running in the background, and the file with the process id.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::io::program::program_path;

/// Set in the environment of the process that runs in the background.
const MARK: &str = "SOFTMISS_IN_BACKGROUND";

/// Whether this is the process that was put in the background.
#[must_use]
pub fn is_background() -> bool {
    std::env::var_os(MARK).is_some()
}

/// What the process in the background says on its stdout when it serves.
const READY: &[u8] = b"ready";

/// Starts this program again with the same arguments, detached from the terminal and in a process group of its own, and
/// waits until it serves. Returns the id of the new process, or, when it has ended without serving, what it said.
///
/// # Errors
///
/// When it cannot be started.
pub fn spawn() -> anyhow::Result<Result<u32, String>> {
    let program = program_path().context("cannot find out the path of this program")?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start in the background")?;
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("cannot start in the background");
    };
    // On a thread of its own, since the other one must not wait for somebody to read what it has to say.
    let said = std::thread::Builder::new().spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        said
    })?;
    let mut word = Vec::new();
    stdout.read_to_end(&mut word).context("cannot hear of the process in the background")?;
    if word == READY {
        return Ok(Ok(child.id()));
    }
    let status = child.wait()?;
    let said = said.join().unwrap_or_default();
    Ok(Err(format!("{}softmiss: could not start in the background ({status})", String::from_utf8_lossy(&said))))
}

/// Tells whoever started this process in the background that it serves, and is heard no more there.
///
/// # Errors
///
/// When there is no `/dev/null`.
pub fn is_ready() -> io::Result<()> {
    let nowhere = fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(READY).and_then(|()| stdout.flush()); // who started it may be gone
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(())
}

/// A file with the id of this process, removed when it is dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file: the decimal id and nothing else, as twemproxy does.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(path: &Path) -> anyhow::Result<Self> {
        fs::write(path, std::process::id().to_string())
            .with_context(|| format!("cannot write the pid file {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another process that was given the same file may have written it anew.
        if fs::read_to_string(&self.0).is_ok_and(|written| written == std::process::id().to_string()) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

//! Running in the background, and the file with the process id.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

/// Set in the environment of the process that runs in the background.
const MARK: &str = "SOFTMISS_IN_BACKGROUND";

/// Whether this is the process that was put in the background.
#[must_use]
pub fn is_background() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts this program again with the same arguments, detached from the terminal and in a process group of its own.
/// Returns the id of the new process.
///
/// # Errors
///
/// When it cannot be started.
pub fn spawn() -> anyhow::Result<u32> {
    let program = std::env::current_exe().context("cannot find out the path of this program")?;
    let child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start in the background")?;
    Ok(child.id())
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

//! What the kernel says about a process: CPU time, resident memory, system calls.
//!
//! All of it is read from outside, so that every proxy is measured by the same rule and none has to cooperate.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::pinned;

/// CPU time that all threads of process `pid` have used so far, in nanoseconds.
///
/// The scheduler's own account: exact to the last context switch, unlike the clock ticks of `/proc/PID/stat`.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = 0_u64;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let run = text.split_ascii_whitespace().next().context("schedstat is empty")?;
        total += run.parse::<u64>().context("schedstat does not start with a number")?;
    }
    Ok(total)
}

/// Resident memory of process `pid` in bytes, summed over its mappings.
///
/// `VmRSS` in `/proc/PID/status` is cheaper, but may lag by hundreds of kilobytes, more than a thousand idle clients
/// of a lean proxy take.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

/// The most memory that process `pid` has had resident since [`restart_peak`], in bytes.
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    kilobytes(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// Begins the peak of process `pid` anew.
///
/// Where that is not allowed the peak counts from the start of the process, which takes little else before a burst.
pub(crate) fn restart_peak(pid: u32) {
    drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
}

fn kilobytes(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("no {name} in {file}"))?;
    let number = line.trim().trim_end_matches(" kB").trim();
    Ok(number.parse::<u64>().with_context(|| format!("{name} in {file} is no number"))? * 1024)
}

/// Counts the system calls of one process through perf, from `start` until `finish`.
///
/// `strace -c` would count too, but it stops the process at each call and so changes how requests batch.
pub(crate) struct CallCounter {
    perf: Child,
}

impl CallCounter {
    /// Attaches to `pid`; returns when counting has begun.
    ///
    /// # Errors
    ///
    /// Says why when perf is missing or may not be used here.
    pub(crate) fn start(pid: u32) -> Result<Self> {
        // Counting starts off (`-D -1`) and is switched by the control channel, which acknowledges: no guess how
        // long perf takes to attach.
        let perf = pinned(Path::new("perf"), None)
            .args(["stat", "--control", "fd:0,1", "-D", "-1", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p"])
            .arg(pid.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("perf does not start")?;
        let mut counter = Self { perf };
        if counter.command("enable").is_err() {
            let text = counter.words()?;
            let reason = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("Error"));
            bail!("perf refuses: {}", reason.unwrap_or("no reason given").trim());
        }
        Ok(counter)
    }

    /// Stops counting and returns the number of calls.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.command("disable")?;
        // Its control channel knows no end for a process that goes on; an interrupt makes it print and leave.
        let interrupt = format!("kill -INT {}", self.perf.id());
        Command::new("sh").args(["-c", &interrupt]).status().context("interrupting perf")?;
        let text = self.words()?;
        let row = text.lines().find(|line| line.contains("raw_syscalls")).context("perf printed no count")?;
        let count = row.split(',').next().unwrap_or_default();
        count.parse().with_context(|| format!("perf printed {row:?}"))
    }

    fn command(&mut self, word: &str) -> Result<()> {
        let input = self.perf.stdin.as_mut().context("perf has no control channel")?;
        // In one write: perf takes what one read gives it for the whole command.
        input.write_all(format!("{word}\n").as_bytes())?;
        let output = self.perf.stdout.as_mut().context("perf has no answer channel")?;
        let mut answer = String::new();
        // One acknowledgement is in flight at a time, so the buffer of this reader cannot swallow a second one.
        BufReader::new(output).read_line(&mut answer)?;
        if !answer.contains("ack") {
            bail!("perf did not acknowledge {word:?}");
        }
        Ok(())
    }

    fn words(&mut self) -> Result<String> {
        drop(self.perf.stdin.take());
        let mut text = String::new();
        if let Some(mut errors) = self.perf.stderr.take() {
            errors.read_to_string(&mut text)?;
        }
        self.perf.wait()?;
        Ok(text)
    }
}

impl Drop for CallCounter {
    fn drop(&mut self) {
        // After `finish` it has ended, and killing it is an error that means nothing.
        drop(self.perf.kill());
        drop(self.perf.wait());
    }
}

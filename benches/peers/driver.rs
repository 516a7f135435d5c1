//! The other end of a load process: starts it, says when, takes its result.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::options::Options;
use crate::stage::{Running, Stage};
use crate::task::{LoadResult, Phase};

/// A load process that is connected and waits for the word.
pub(crate) struct Load {
    child: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Load {
    /// Starts a load and waits until its clients are connected.
    pub(crate) fn start(options: &Options, stage: &Stage, target: &Running) -> Result<Self> {
        let warm_up = if options.quick { 0.1 } else { 0.3 };
        let mut load = Self::spawn(stage, target, Phase::Run, options.seconds, warm_up)?;
        let mut line = String::new();
        load.output.read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the load did not get ready: {}", line.trim());
        }
        Ok(load)
    }

    /// Stores every key of the workload through a target.
    pub(crate) fn fill(stage: &Stage, target: &Running) -> Result<()> {
        let mut load = Self::spawn(stage, target, Phase::Fill, 0.0, 0.0)?;
        if !load.child.wait()?.success() {
            bail!("could not fill the caches through {}", target.label);
        }
        Ok(())
    }

    fn spawn(stage: &Stage, target: &Running, phase: Phase, seconds: f64, warm_up: f64) -> Result<Self> {
        let mut command = stage.placement.load_command(&std::env::current_exe()?);
        command.args(["load", "--workload", stage.workload.name, "--address", &target.address]);
        command.args(["--pid", &target.pid().to_string()]);
        for pid in &target.server_pids {
            command.args(["--servers", &pid.to_string()]);
        }
        command.args(["--seconds", &seconds.to_string(), "--warm-up-seconds", &warm_up.to_string()]);
        command.args(["--phase", if phase == Phase::Fill { "fill" } else { "run" }]);
        if target.text {
            command.arg("--text");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the load")?;
        let output = child.stdout.take().context("the load has no output")?;
        Ok(Self { child, output: BufReader::new(output) })
    }

    /// Says the word and returns what the load found.
    pub(crate) fn finish(mut self) -> Result<LoadResult> {
        if let Some(mut input) = self.child.stdin.take() {
            writeln!(input, "go")?;
        }
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if !self.child.wait()?.success() {
            bail!("the load failed: {}", line.trim());
        }
        serde_json::from_str(&line).context("the load printed no result")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After `finish` it has ended, and killing it is an error that means nothing.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

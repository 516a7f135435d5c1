//! What one request costs inside the engine, without any socket: `cargo bench --bench engine`.
//!
//! A pretend shell drives one engine through whole turns, as the real one does on a busy host: every client's bytes,
//! then every server's output and replies, then every client's output. The replies are made once and given again each
//! turn, so what is measured is the engine and a few calls around it.
//!
//! Two figures: nanoseconds (look at them, they vary with the machine) or, with `--instructions`, the instructions that
//! callgrind counts. Those repeat to within a percent whatever else the machine does, so they are committed beside the
//! scenarios, and a count that is far from its figure, above or below, makes this program fail.

#![expect(clippy::disallowed_methods, reason = "a benchmark owns its clock")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is its purpose")]

#[path = "../shared/flags.rs"]
mod flags;
mod rig;
mod scenario;

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use flags::Flags;
use rig::Rig;
use scenario::{SCENARIOS, Scenario};

/// Turns that are made under callgrind before those that count: buffers have grown by then.
const SETTLED_TURNS: u32 = 40;

/// How far, in percent, a count may be from the committed one. It repeats to within one percent; what a compiler makes
/// of an unrelated change is within two.
const TOLERANCE: u64 = 3;

/// Measure the engine without sockets.
#[derive(Parser, Debug)]
#[command(name = "engine")]
struct Options {
    /// Scenarios by name; all of them when none is given.
    scenarios: Vec<String>,
    /// Time for each scenario.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Count instructions under callgrind and hold them against the committed figures.
    #[arg(long)]
    instructions: bool,
    /// Make this many turns of the first scenario and say nothing; what callgrind runs.
    #[arg(long, hide = true)]
    turns: Option<u32>,
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.flags.list {
        return Ok(());
    }
    let wanted: Vec<&Scenario> = (SCENARIOS.iter())
        .filter(|scenario| options.scenarios.is_empty() || options.scenarios.iter().any(|name| name == scenario.name))
        .collect();
    ensure!(!wanted.is_empty(), "no scenario has such a name");
    if let Some(turns) = options.turns {
        let mut rig = Rig::new(wanted[0])?;
        rig.turns(SETTLED_TURNS);
        rig.counted_turns(turns);
        return rig.settle_accounts();
    }
    if options.instructions { count(&wanted) } else { time_all(&wanted, options.seconds) }
}

fn time_all(wanted: &[&Scenario], seconds: f64) -> Result<()> {
    println!("{:<13}  {:>12}  what", "scenario", "ns/request");
    for scenario in wanted {
        println!("{:<13}  {:>12.0}  {}", scenario.name, time(scenario, seconds)?, scenario.about);
    }
    Ok(())
}

/// Counts instructions and compares them with what is committed.
fn count(wanted: &[&Scenario]) -> Result<()> {
    let mut wrong = Vec::new();
    println!("{:<13}  {:>12}  {:>10}  what", "scenario", "instructions", "committed");
    let all: Vec<Result<u64>> = std::thread::scope(|scope| {
        // Other than times, counts do not depend on what else is done.
        let each: Vec<_> = wanted.iter().map(|scenario| scope.spawn(|| instructions(scenario))).collect();
        each.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("the thread has panicked"))).collect()
    });
    for (scenario, counted) in wanted.iter().zip(all) {
        let (counted, committed) = (counted?, u64::from(scenario.instructions));
        println!("{:<13}  {counted:>12}  {committed:>10}  {}", scenario.name, scenario.about);
        if counted * 100 > committed * (100 + TOLERANCE) {
            wrong.push(format!("{}: {counted} instructions a request are more than {committed}", scenario.name));
        } else if counted * 100 < committed * (100 - TOLERANCE) {
            wrong.push(format!("{}: {counted} are less than {committed}: commit the new figure", scenario.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n        "));
    Ok(())
}

/// Nanoseconds per request: the median of some slices of the time.
fn time(scenario: &Scenario, seconds: f64) -> Result<f64> {
    let mut rig = Rig::new(scenario)?;
    let slice = Duration::from_secs_f64(seconds / 15.0);
    let mut samples = Vec::new();
    for _ in 0..15 {
        let (start, mut turns) = (std::time::Instant::now(), 0_u32);
        while start.elapsed() < slice {
            // The clock is asked once in a while, or it would be a good part of a short turn.
            rig.turns(16);
            turns += 16;
        }
        let requests = f64::from(turns) * f64::from(scenario.clients * scenario.depth);
        samples.push(start.elapsed().as_secs_f64() * 1e9 / requests);
    }
    rig.settle_accounts()?;
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2])
}

/// Instructions per request, counted by callgrind in [`Rig::counted_turns`] and what that calls.
fn instructions(scenario: &Scenario) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_turns*"])
        .arg(std::env::current_exe()?)
        .args([scenario.name, "--turns", &scenario.counted_turns.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("valgrind does not start; it is needed to count instructions")?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed: {words}");
    }
    let count = words.lines().find_map(|line| line.split_once("Collected : ")).context("callgrind gave no count")?.1;
    let count: u64 = count.trim().parse().with_context(|| format!("callgrind counted {count:?}"))?;
    ensure!(count > 0, "callgrind has not seen the turns to be counted");
    Ok(count / u64::from(scenario.counted_turns * scenario.clients * scenario.depth))
}

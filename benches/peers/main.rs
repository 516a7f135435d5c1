//! Compares proxies on this machine, in the same minutes, under the same load: `cargo bench --bench peers -- --help`.
//!
//! One idea carries it: a figure alone says little on a shared machine, so each workload runs against all targets in
//! turn (A B C, then C B A), and what is reported is the ratio within a round. The main figure is CPU time per
//! request, because a sidecar's cost is what it takes from the application beside it.

#![expect(clippy::disallowed_methods, reason = "a load generator is a shell: it owns clocks and may wait")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is its purpose")]

mod connection;
mod load;
mod measure;
mod process;
mod report;
mod workload;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use crate::load::{LoadOptions, LoadResult, Phase, lossy};
use crate::measure::CallCounter;
use crate::process::{Placement, Running, Stage, Target, TargetKind, find_program};
use crate::report::Block;
use crate::workload::{Pace, Workload, by_name};

/// How often a run of one workload may break and be repeated; each time is part of the report.
const REPEATS: usize = 3;

/// Compare softmiss with other memcached proxies: CPU time, system calls, latency and memory.
#[derive(Parser, Debug)]
#[command(name = "peers")]
struct Options {
    /// A build of softmiss, as often as wanted [default: target/release/softmiss, when it is there].
    #[arg(long, value_name = "[LABEL=]PATH")]
    softmiss: Vec<String>,
    /// Binary of nutcracker [default: from PATH].
    #[arg(long, value_name = "PATH")]
    nutcracker: Option<PathBuf>,
    /// A memcached that was built with its proxy.
    #[arg(long, value_name = "PATH")]
    memcached_proxy: Option<PathBuf>,
    /// Binary of memcached, for the servers [default: from PATH].
    #[arg(long, value_name = "PATH")]
    memcached: Option<PathBuf>,
    /// Leave out all targets but these.
    #[arg(long, value_delimiter = ',', value_name = "LABEL")]
    only: Vec<String>,
    /// Workloads by name (`all` for every one).
    #[arg(long, value_delimiter = ',', default_value = "w1,w2,w2b,w3,w4,w5")]
    workloads: Vec<String>,
    /// Where processes run; several are measured one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "one")]
    placement: Vec<Placement>,
    /// Runs of each target.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The target that ratios refer to.
    #[arg(long, default_value = "nutcracker")]
    reference: String,
    /// Leave out the round that counts system calls.
    #[arg(long)]
    no_calls: bool,
    /// Fail when a build of softmiss makes more system calls per request than it should (placement one).
    #[arg(long, conflicts_with = "no_calls")]
    guard: bool,
    /// A smoke run of a few seconds: one short round of w1, w3, w4, w3u and w8.
    #[arg(long)]
    quick: bool,
    /// Write every single run to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Test runners ask for a list of tests; there are none.
    #[arg(long, hide = true)]
    list: bool,
    /// Goes with `--list`.
    #[arg(long, hide = true)]
    format: Option<String>,
    /// Goes with `--list`.
    #[arg(long, hide = true)]
    ignored: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand, Debug)]
enum Part {
    /// The load generator; started by the program itself.
    #[command(hide = true)]
    Load(LoadOptions),
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        return ExitCode::SUCCESS;
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut options: Options) -> Result<()> {
    if let Some(Part::Load(load)) = &options.part {
        // The other process reads one line, whichever it is.
        return load::main(load).inspect_err(|error| println!("{error:#}"));
    }
    if options.quick {
        options.workloads = ["w1", "w3", "w4", "w3u", "w8"].map(str::to_owned).into();
        options.rounds = 1;
        options.seconds = 0.3;
    }
    compare(&options)
}

fn compare(options: &Options) -> Result<()> {
    let workloads: Vec<Workload> = if options.workloads.iter().any(|name| name == "all") {
        workload::ALL.into()
    } else {
        let find = |name: &String| by_name(name).with_context(|| format!("no workload is called {name:?}"));
        options.workloads.iter().map(find).collect::<Result<_>>()?
    };
    let memcached = (options.memcached.clone()).or_else(|| find_program("memcached")).context("no memcached here")?;
    let targets = targets(options, &memcached)?;
    let labels: Vec<&str> = targets.iter().map(|target| target.label.as_str()).collect();
    eprintln!("targets: {}", labels.join(", "));

    let directory = Directory::new()?;
    let mut blocks = Vec::new();
    let mut flaws = Vec::new();
    for &placement in &options.placement {
        for workload in &workloads {
            let stage = Stage {
                memcached: memcached.clone(),
                redis: workload.redis,
                placement,
                unix: workload.unix,
                directory: directory.0.clone(),
            };
            let block = run_workload(options, &stage, &targets, workload)
                .with_context(|| format!("workload {}, placement {}", workload.name, placement.name()))?;
            let mut text = String::new();
            block.render(&options.reference, &mut text);
            print!("{text}");
            // What a peer does wrong is a note in its table; what ours does wrong is a failure.
            let ours = targets.iter().filter(|target| target.kind == TargetKind::Softmiss);
            let limit = workload.calls_limit.filter(|_| options.guard && placement == Placement::One);
            for Target { label, .. } in ours {
                flaws.extend(block.wrong_answers(label));
                flaws.extend(limit.and_then(|limit| block.excess_calls(label, limit)));
            }
            blocks.push(block);
        }
    }
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_vec_pretty(&blocks)?).with_context(|| format!("writing {}", file.display()))?;
    }
    if !flaws.is_empty() {
        bail!("{}", flaws.join("; "));
    }
    Ok(())
}

/// What can be compared here. The direct row and nutcracker come first, ours after them.
fn targets(options: &Options, memcached: &std::path::Path) -> Result<Vec<Target>> {
    let mut targets =
        vec![Target { label: "direct".to_owned(), kind: TargetKind::Direct, program: memcached.to_owned() }];
    match options.nutcracker.clone().or_else(|| find_program("nutcracker")) {
        Some(program) => {
            targets.push(Target { label: "nutcracker".to_owned(), kind: TargetKind::Nutcracker, program });
        }
        None => eprintln!("nutcracker is not installed: no ratios to it"),
    }
    if let Some(program) = options.memcached_proxy.clone() {
        targets.push(Target { label: "mcproxy".to_owned(), kind: TargetKind::MemcachedProxy, program });
    }
    let mut builds = options.softmiss.clone();
    if builds.is_empty() {
        // Benches run in the package's directory; the bench itself lies in target/release/deps.
        let beside = std::env::current_exe()?.ancestors().nth(2).map(|directory| directory.join("softmiss"));
        match beside.filter(|file| file.is_file()) {
            Some(file) => builds.push(file.display().to_string()),
            None => eprintln!("no release build of softmiss found; name one with --softmiss"),
        }
    }
    for build in builds {
        let (label, path) = build.split_once('=').unwrap_or(("softmiss", &build));
        if targets.iter().any(|target| target.label == label) {
            bail!("two targets are called {label:?}; write --softmiss LABEL=PATH");
        }
        targets.push(Target { label: label.to_owned(), kind: TargetKind::Softmiss, program: PathBuf::from(path) });
    }
    if !options.only.is_empty() {
        if let Some(label) = options.only.iter().find(|&label| targets.iter().all(|target| target.label != *label)) {
            bail!("--only names {label:?}, which is not among the targets");
        }
        targets.retain(|target| options.only.contains(&target.label));
    }
    Ok(targets)
}

fn run_workload(options: &Options, stage: &Stage, targets: &[Target], workload: &Workload) -> Result<Block> {
    let mut runs: BTreeMap<String, Vec<LoadResult>> = BTreeMap::new();
    let mut calls = BTreeMap::new();
    let mut broken = Vec::new();
    let mut running = start_all(stage, targets, workload)?;
    for round in 0..options.rounds {
        // Memory that earlier clients have left behind would be used again and hide what new ones need.
        if workload.pace == Pace::Idle && round > 0 {
            drop(running);
            running = start_all(stage, targets, workload)?;
        }
        let mut order: Vec<usize> = (0..targets.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let run = loop {
                let target = &running.1[place];
                eprintln!("{} {} round {} {}", workload.name, stage.placement.name(), round + 1, target.label);
                match Load::start(options, stage, workload, target).and_then(Load::finish) {
                    Ok(run) => break run,
                    Err(reason) if broken.len() < REPEATS => {
                        let words = stage.last_words(&target.label);
                        broken.push(format!("{}: {reason:#}; its log ends with: {words}", target.label));
                    }
                    Err(reason) => return Err(reason.context(format!("load against {}", target.label))),
                }
                // What broke one run must not linger in the next.
                drop(running);
                running = start_all(stage, targets, workload)?;
            };
            runs.entry(targets[place].label.clone()).or_default().push(run);
        }
    }
    if !options.no_calls && workload.pace != Pace::Idle {
        for target in &running.1 {
            calls.insert(target.label.clone(), count_calls(options, stage, workload, target)?);
        }
    }
    Ok(Block {
        workload: workload.name.to_owned(),
        about: workload.about.to_owned(),
        placement: stage.placement.name().to_owned(),
        targets: targets.iter().map(|target| target.label.clone()).collect(),
        runs,
        calls,
        broken,
    })
}

/// Starts servers and targets and stores every key through each target.
fn start_all(stage: &Stage, targets: &[Target], workload: &Workload) -> Result<(process::Servers, Vec<Running>)> {
    let servers = stage.servers()?;
    let mut running = Vec::new();
    for target in targets {
        let target = stage.start(target, &servers)?;
        Load::fill(stage, workload, &target)?;
        running.push(target);
    }
    Ok((servers, running))
}

/// One more run with perf attached; the reason when perf cannot be used is part of the report, not a failure.
fn count_calls(options: &Options, stage: &Stage, workload: &Workload, target: &Running) -> Result<Result<f64, String>> {
    let load = Load::start(options, stage, workload, target)?;
    let counter = match CallCounter::start(target.pid()) {
        Ok(counter) => counter,
        Err(reason) => return Ok(Err(format!("{reason:#}"))),
    };
    let run = load.finish()?;
    match counter.finish() {
        Ok(calls) => Ok(Ok(lossy(calls) / lossy(run.lifetime_requests.max(1)))),
        Err(reason) => Ok(Err(format!("{reason:#}"))),
    }
}

/// A load process that is connected and waits for the word.
struct Load {
    child: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Load {
    fn start(options: &Options, stage: &Stage, workload: &Workload, target: &Running) -> Result<Self> {
        let warm_up = if options.quick { 0.1 } else { 0.3 };
        let mut load = Self::spawn(stage, workload, target, Phase::Run, options.seconds, warm_up)?;
        let mut line = String::new();
        load.output.read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the load did not get ready: {}", line.trim());
        }
        Ok(load)
    }

    fn fill(stage: &Stage, workload: &Workload, target: &Running) -> Result<()> {
        let mut load = Self::spawn(stage, workload, target, Phase::Fill, 0.0, 0.0)?;
        if !load.child.wait()?.success() {
            bail!("could not fill the caches through {}", target.label);
        }
        Ok(())
    }

    fn spawn(
        stage: &Stage,
        workload: &Workload,
        target: &Running,
        phase: Phase,
        seconds: f64,
        warm_up: f64,
    ) -> Result<Self> {
        let mut command = stage.placement.load_command(&std::env::current_exe()?);
        command.args(["load", "--workload", workload.name, "--address", &target.address]);
        command.args(["--pid", &target.pid().to_string()]);
        command.args(["--seconds", &seconds.to_string(), "--warm-up-seconds", &warm_up.to_string()]);
        command.args(["--phase", if phase == Phase::Fill { "fill" } else { "run" }]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the load")?;
        let output = child.stdout.take().context("the load has no output")?;
        Ok(Self { child, output: BufReader::new(output) })
    }

    fn finish(mut self) -> Result<LoadResult> {
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

/// A directory of our own for sockets, logs and configurations, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("softmiss-peers-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

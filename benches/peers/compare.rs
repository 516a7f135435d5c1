//! The rounds: each workload against all targets in turn, at each placement.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::driver::Load;
use crate::machine::Circumstances;
use crate::markdown;
use crate::measure::CallCounter;
use crate::options::Options;
use crate::process::{Placement, find_program};
use crate::report::Block;
use crate::stage::{Running, Servers, Stage};
use crate::target::{Target, TargetKind, targets};
use crate::task::{LoadResult, lossy};
use crate::workload::{self, Workload, by_name};

/// How often a run of one workload may break and be repeated; each time is part of the report.
const REPEATS: usize = 3;

/// Runs what the options ask for and prints a table for each workload at each placement.
pub(crate) fn compare(options: &Options) -> Result<()> {
    let workloads: Vec<Workload> = if options.workloads.iter().any(|name| name == "all") {
        workload::ALL.into()
    } else {
        let find = |name: &String| by_name(name).with_context(|| format!("no workload is called {name:?}"));
        options.workloads.iter().map(find).collect::<Result<_>>()?
    };
    let memcached = (options.memcached.clone()).or_else(|| find_program("memcached")).context("no memcached here")?;
    let targets = targets(options, &memcached, &workloads)?;
    let circumstances = Circumstances::new(options, &targets, &workloads);
    println!("{}", circumstances.lines().join("\n"));

    let directory = Directory::new()?;
    let mut blocks = Vec::new();
    let mut flaws = Vec::new();
    for &placement in &options.placement {
        for workload in &workloads {
            let stage =
                Stage { memcached: memcached.clone(), workload: *workload, placement, directory: directory.0.clone() };
            let block = run_workload(options, &stage, &targets)
                .with_context(|| format!("workload {}, placement {}", workload.name, placement.name()))?;
            let mut text = String::new();
            block.render(&options.reference, &mut text);
            print!("{text}");
            flaws.extend(targets.iter().flat_map(|target| flaws_of(options, &stage, &block, target)));
            blocks.push(block);
        }
    }
    if let Some(file) = &options.json {
        let report = serde_json::json!({ "circumstances": circumstances, "blocks": blocks });
        fs::write(file, serde_json::to_vec_pretty(&report)?).with_context(|| format!("writing {}", file.display()))?;
    }
    if let Some(file) = &options.markdown {
        let text = markdown::render(&circumstances, &blocks, &options.reference);
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    if !flaws.is_empty() {
        bail!("{}", flaws.join("; "));
    }
    Ok(())
}

/// What fails the run: what a peer does wrong is a note in its table, what ours does wrong is a failure.
fn flaws_of(options: &Options, stage: &Stage, block: &Block, target: &Target) -> Vec<String> {
    if !target.kind.is_ours() {
        return Vec::new();
    }
    let mut flaws = Vec::new();
    flaws.extend(block.wrong_answers(&target.label));
    // Limits are meant for one worker, whose batches do not depend on how another is scheduled.
    let guarded = options.guard && stage.placement == Placement::One;
    if guarded && target.kind == (TargetKind::Softmiss { workers: 1 }) {
        flaws.extend(stage.workload.limit.and_then(|limit| block.excess(&target.label, limit)));
    }
    flaws
}

fn run_workload(options: &Options, stage: &Stage, targets: &[Target]) -> Result<Block> {
    let workload = &stage.workload;
    let (targets, left_out): (Vec<&Target>, Vec<&Target>) = targets.iter().partition(|target| target.takes(workload));
    let mut runs: BTreeMap<String, Vec<LoadResult>> = BTreeMap::new();
    let mut calls = BTreeMap::new();
    let mut broken = Vec::new();
    let mut running = start_all(stage, &targets)?;
    for round in 0..options.rounds {
        // Memory that earlier clients have left behind would be used again and hide what new ones need.
        if workload.measures_memory() && round > 0 {
            drop(running);
            running = start_all(stage, &targets)?;
        }
        let mut order: Vec<usize> = (0..targets.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let run = loop {
                let target = &running.1[place];
                eprintln!("{} {} round {} {}", workload.name, stage.placement.name(), round + 1, target.label);
                match Load::start(options, stage, target).and_then(Load::finish) {
                    Ok(run) => break run,
                    Err(reason) if broken.len() < REPEATS => {
                        let words = stage.last_words(&target.label);
                        broken.push(format!("{}: {reason:#}; its log ends with: {words}", target.label));
                    }
                    Err(reason) => return Err(reason.context(format!("load against {}", target.label))),
                }
                // What broke one run must not linger in the next.
                drop(running);
                running = start_all(stage, &targets)?;
            };
            runs.entry(targets[place].label.clone()).or_default().push(run);
        }
    }
    if !options.no_calls && !workload.measures_memory() {
        for target in &running.1 {
            calls.insert(target.label.clone(), count_calls(options, stage, target)?);
        }
    }
    let labels = |targets: &[&Target]| targets.iter().map(|target| target.label.clone()).collect();
    Ok(Block {
        workload: workload.name.to_owned(),
        about: workload.about.to_owned(),
        lone: workload.is_lone(),
        placement: stage.placement.name().to_owned(),
        placement_words: stage.placement.words().to_owned(),
        targets: labels(&targets),
        left_out: labels(&left_out.into_iter().filter(|target| !target.text).collect::<Vec<_>>()),
        runs,
        calls,
        broken,
    })
}

/// Starts servers and targets and stores every key through each target.
fn start_all(stage: &Stage, targets: &[&Target]) -> Result<(Servers, Vec<Running>)> {
    let servers = stage.servers()?;
    let mut all = Vec::new();
    for target in targets {
        let mut running = stage.start(target, &servers)?;
        Load::fill(stage, &running)?;
        // Nor may filling leave memory behind; a server keeps its, for it holds the keys.
        if stage.workload.measures_memory() && target.kind != TargetKind::Direct {
            drop(running);
            running = stage.start(target, &servers)?;
        }
        all.push(running);
    }
    Ok((servers, all))
}

/// One more run with perf attached; the reason when perf cannot be used is part of the report, not a failure.
fn count_calls(options: &Options, stage: &Stage, target: &Running) -> Result<Result<f64, String>> {
    let load = Load::start(options, stage, target)?;
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

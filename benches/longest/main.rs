//! How long the longest single event takes inside the engine: `cargo bench --bench longest`.
//!
//! While a worker is in one call of the engine, nobody else is served. So what counts is not what a request takes
//! altogether, but the longest of the calls that it is carried out in. A pretend shell hands an engine the largest
//! requests and replies that the protocols allow, as the real one would (a large message is read into the engine's own
//! buffer) and in pieces of 64 KB, and times each call by the processor time of the thread.
//!
//! The best of some rounds is told: what a call takes that nothing disturbs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is its purpose")]

mod cases;
#[path = "../shared/flags.rs"]
mod flags;
mod rig;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use cases::{CASES, Case};
use clap::Parser;
use flags::Flags;
use rig::{Longest, Reads, Rig};

/// As the program has it: what large buffers cost is the allocator's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Find the longest events of the engine.
#[derive(Parser, Debug)]
#[command(name = "longest")]
struct Options {
    /// Cases whose names contain one of these; all of them when none is given.
    cases: Vec<String>,
    /// How often each is tried; the best counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Fail if an event takes longer than so many microseconds.
    #[arg(long)]
    limit: Option<u64>,
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.flags.list {
        return Ok(());
    }
    let is_wanted =
        |case: &&Case| options.cases.is_empty() || options.cases.iter().any(|name| case.name.contains(name.as_str()));
    let wanted: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no case has such a name");
    // The first large piece decides how the allocator treats all of them, as it does in the program.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(8 << 20)));
    println!("{:<24} {:>9} {:<14} {:>9} {:<14}", "case", "µs", "longest call", "µs, 64 KB", "longest call");
    let mut longest = 0;
    for case in wanted {
        let [large, pieces] = [Reads::AsTheShell, Reads::Pieces].map(|reads| best(case, reads, options.rounds));
        let (large, pieces) = (large?, pieces?);
        let [whole_us, pieces_us] = [&large, &pieces].map(|longest| longest.nanos / 1000);
        println!("{:<24} {whole_us:>9} {:<14} {pieces_us:>9} {:<14}", case.name, large.call, pieces.call);
        longest = longest.max(whole_us).max(pieces_us);
    }
    if let Some(limit) = options.limit {
        ensure!(longest <= limit, "an event takes {longest} µs, which are more than {limit}");
    }
    Ok(())
}

/// The longest event of a case, in the round where that was the shortest.
fn best(case: &Case, reads: Reads, rounds: u32) -> Result<Longest> {
    let mut best: Option<Longest> = None;
    let said = (case.makes)();
    for _ in 0..rounds.max(1) {
        let mut rig = Rig::new()?;
        let longest = rig.carry_out(case, &said, reads)?;
        if best.as_ref().is_none_or(|best| longest.nanos < best.nanos) {
            best = Some(longest);
        }
    }
    Ok(best.unwrap_or_default())
}

//! Compares proxies on this machine, in the same minutes, under the same load: `cargo bench --bench peers -- --help`.
//!
//! One idea carries it: a figure alone says little on a shared machine, so each workload runs against all targets in
//! turn (A B C, then C B A), and what is reported is the ratio within a round. The main figure is CPU time per
//! request, because a sidecar's cost is what it takes from the application beside it.

#![expect(clippy::disallowed_methods, reason = "a load generator is a shell: it owns clocks and may wait")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is its purpose")]

mod binary;
mod compare;
mod connection;
mod content;
mod driver;
mod generator;
mod load;
mod machine;
mod markdown;
mod measure;
mod memory;
mod options;
mod process;
mod reply;
mod report;
mod settings;
mod stage;
mod target;
mod task;
mod window;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::options::{Options, Part};

fn main() -> ExitCode {
    let options = Options::parse();
    if options.flags.list {
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
        options.workloads = ["w1", "w3", "w4", "w3u", "w8", "idle"].map(str::to_owned).into();
        options.rounds = 1;
        options.seconds = 0.3;
    }
    compare::compare(&options)
}

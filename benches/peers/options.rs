//! The command line.

#[path = "../shared/flags.rs"]
mod flags;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use flags::Flags;

use crate::process::Placement;
use crate::task::LoadOptions;

/// Compare softmiss with other proxies for memcached and Redis: CPU time, system calls, latency and memory.
#[derive(Parser, Debug)]
#[command(name = "peers")]
pub(crate) struct Options {
    /// A build of softmiss, as often as wanted [default: target/release/softmiss, when it is there].
    #[arg(long, value_name = "[LABEL=]PATH")]
    pub(crate) softmiss: Vec<String>,
    /// Binary of nutcracker [default: from PATH].
    #[arg(long, value_name = "PATH")]
    pub(crate) nutcracker: Option<PathBuf>,
    /// Worker threads of softmiss; each number is a target of its own, `softmiss-2w` for two.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: Vec<u32>,
    /// A memcached that was built with its proxy, for workloads of memcached.
    #[arg(long, value_name = "PATH")]
    pub(crate) memcached_proxy: Option<PathBuf>,
    /// Binary of Predixy, for workloads of Redis.
    #[arg(long, value_name = "PATH")]
    pub(crate) predixy: Option<PathBuf>,
    /// Binary of Envoy, for workloads of Redis.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
    /// Binary of memcached, for the servers [default: from PATH].
    #[arg(long, value_name = "PATH")]
    pub(crate) memcached: Option<PathBuf>,
    /// Leave out all targets but these.
    #[arg(long, value_delimiter = ',', value_name = "LABEL")]
    pub(crate) only: Vec<String>,
    /// Workloads by name (`all` for every one).
    #[arg(long, value_delimiter = ',', default_value = "w1,w2,w2b,w3,w4,w5")]
    pub(crate) workloads: Vec<String>,
    /// Where processes run; several are measured one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "one")]
    pub(crate) placement: Vec<Placement>,
    /// Runs of each target.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Length of each run.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// The target that ratios refer to.
    #[arg(long, default_value = "nutcracker")]
    pub(crate) reference: String,
    /// Leave out the round that counts system calls.
    #[arg(long)]
    pub(crate) no_calls: bool,
    /// Fail when softmiss with one worker exceeds a limit of a workload: system calls, memory (placement one).
    #[arg(long, conflicts_with = "no_calls")]
    pub(crate) guard: bool,
    /// A smoke run of some 20 seconds: one short round of w1, w3, w4, w3u, w8 and idle.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write every single run to this file, with the machine and the programs.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the tables to this file as docs/performance.md shows them.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flags: Flags,
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Part {
    /// The load generator; started by the program itself.
    #[command(hide = true)]
    Load(LoadOptions),
}

//! What a load process is told on its command line, and what it answers.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// What one load process is told on its command line.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadOptions {
    /// Name of the workload.
    #[arg(long)]
    pub(crate) workload: String,
    /// Where the proxy listens: `host:port`, or a path.
    #[arg(long)]
    pub(crate) address: String,
    /// The process whose CPU time and memory count.
    #[arg(long)]
    pub(crate) pid: u32,
    /// The servers behind it, whose CPU time is told apart.
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<u32>,
    /// Length of the window.
    #[arg(long)]
    pub(crate) seconds: f64,
    /// Load before the window, not counted.
    #[arg(long)]
    pub(crate) warm_up_seconds: f64,
    /// Speak text where the workload is of the binary protocol.
    #[arg(long)]
    pub(crate) text: bool,
    /// Fill the caches, or measure.
    #[arg(long)]
    pub(crate) phase: Phase,
}

/// What a load process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// Store every key once, so that all gets hit.
    Fill,
    /// Generate load and report.
    Run,
}

/// What one load process found, printed as a line of JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadResult {
    /// Requests answered inside the window.
    pub(crate) requests: u64,
    /// Requests answered since the `go`, warm-up and drain included; what the system calls are divided by.
    pub(crate) lifetime_requests: u64,
    /// True length of the window in seconds.
    pub(crate) seconds: f64,
    /// CPU time of the measured process inside the window, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// CPU time of the servers behind it, all together.
    pub(crate) servers_cpu_ns: Option<u64>,
    /// CPU time of the load process itself.
    pub(crate) load_cpu_ns: u64,
    /// Latency inside the window.
    #[serde(flatten)]
    pub(crate) quantiles: Quantiles,
    /// Resident memory of the measured process at the end of the window, connections still open.
    pub(crate) resident_bytes: u64,
    /// Growth of resident memory for each idle client; only of the idle workload.
    pub(crate) bytes_per_client: Option<f64>,
    /// Resident memory before the first client and the most of it meanwhile; only of a burst.
    pub(crate) before_bytes: Option<u64>,
    pub(crate) peak_bytes: Option<u64>,
    /// Keys that were not found although every key was stored.
    pub(crate) misses: u64,
    /// Requests that were answered with an error.
    pub(crate) errors: u64,
}

/// Latency in nanoseconds, exact.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50_ns: u32,
    pub(crate) p99_ns: u32,
    pub(crate) p999_ns: u32,
}

impl Quantiles {
    /// The quantiles of some latencies, which are sorted for it.
    pub(crate) fn of(latencies: &mut [u32]) -> Self {
        latencies.sort_unstable();
        let quantile = |per_mille: usize| {
            let place = latencies.len() * per_mille / 1000;
            latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        Self { p50_ns: quantile(500), p99_ns: quantile(990), p999_ns: quantile(999) }
    }
}

/// Where clients connect.
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Reads `host:port`, or a path that starts with a slash.
pub(crate) fn parse_address(text: &str) -> Result<Address> {
    if text.starts_with('/') {
        return Ok(Address::Unix(PathBuf::from(text)));
    }
    Ok(Address::Tcp(text.parse().with_context(|| format!("no address: {text:?}"))?))
}

/// An integer as a float; figures of a report need no more than its 53 bits.
#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a few seconds stay far below 2^53")]
pub(crate) fn lossy(number: u64) -> f64 {
    number as f64
}

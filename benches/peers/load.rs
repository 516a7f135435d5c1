//! The load generator: what its process is told, does in order, and prints.
//!
//! It runs as a process of its own, so that it can be pinned apart from the proxy. It reads the proxy's CPU time
//! itself, at the very turn of the loop at which the window opens and closes; a second process would have to be
//! woken for that, and the requests in between would be counted wrongly.

use std::io::{self, BufRead as _, Read as _, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::generator::Generator;
use crate::memory;
use crate::workload::{Pace, by_name};

/// Values that are stored with one write when the caches are filled.
const FILL_BYTES: usize = 256 << 10;

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

/// Runs one load process: prints `ready`, waits for a line on standard input, loads, prints the result.
pub(crate) fn main(options: &LoadOptions) -> Result<()> {
    let workload = by_name(&options.workload).with_context(|| format!("no workload {:?}", options.workload))?;
    let content = Content::new(&workload);
    if options.phase == Phase::Fill {
        return fill(&options.address, &content);
    }
    let mut generator = Generator::new(&options.address, workload, content)?;
    let result = match workload.pace {
        Pace::Idle => {
            wait_for_go()?;
            memory::idle(&mut generator, options)?
        }
        Pace::Burst(times) => {
            wait_for_go()?;
            memory::burst(&mut generator, options, times)?
        }
        Pace::Reconnect(_) => {
            wait_for_go()?;
            generator.load(options)?
        }
        Pace::Sliding | Pace::Batch => {
            generator.connect(workload.silent, true)?;
            generator.connect(workload.connections, false)?;
            wait_for_go()?;
            generator.load(options)?
        }
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &result)?;
    writeln!(out)?;
    Ok(())
}

fn wait_for_go() -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("nobody says go");
    }
    Ok(())
}

/// Stores every key, a batch at a time.
fn fill(address: &str, content: &Content) -> Result<()> {
    let mut stream: Box<dyn ReadWrite> = match parse_address(address)? {
        Address::Tcp(address) => Box::new(std::net::TcpStream::connect(address)?),
        Address::Unix(path) => Box::new(UnixStream::connect(path)?),
    };
    let keys: Vec<u32> = (0..content.keys()).collect();
    // Large values go one at a time: what is under way must not depend on how much a proxy can hold.
    let batch = (FILL_BYTES / content.value(0).len()).clamp(1, 16);
    let mut request = Vec::new();
    for batch in keys.chunks(batch) {
        request.clear();
        for &key in batch {
            content.push_set(&mut request, key);
        }
        stream.write_all(&request)?;
        let mut reply = vec![0; content.stored().len() * batch.len()];
        stream.read_exact(&mut reply).context("filling the caches")?;
        if reply != content.stored().repeat(batch.len()) {
            bail!("filling the caches was answered with {:?}", String::from_utf8_lossy(&reply));
        }
    }
    Ok(())
}

trait ReadWrite: io::Read + Write {}
impl<T: io::Read + Write> ReadWrite for T {}

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

//! The load generator: one thread, one epoll set, a closed loop.
//!
//! It runs as a process of its own, so that it can be pinned apart from the proxy. It reads the proxy's CPU time
//! itself, at the very turn of the loop at which the window opens and closes; a second process would have to be
//! woken for that, and the requests in between would be counted wrongly.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, Read as _, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Tally};
use crate::measure;
use crate::workload::{Content, Pace, Random, Workload, by_name};

/// How long the replies still in flight may take when the window has closed.
const DRAIN: Duration = Duration::from_secs(2);
/// Without any reply for this long the proxy is taken for hung.
const SILENCE: Duration = Duration::from_secs(10);

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
    /// Latency quantiles inside the window, in nanoseconds.
    pub(crate) p50_ns: u32,
    pub(crate) p99_ns: u32,
    pub(crate) p999_ns: u32,
    /// Resident memory of the measured process at the end of the window, connections still open.
    pub(crate) resident_bytes: u64,
    /// Growth of resident memory for each idle client; only of the idle workload.
    pub(crate) bytes_per_client: Option<f64>,
    /// Keys that were not found although every key was stored.
    pub(crate) misses: u64,
    /// Requests that were answered with an error.
    pub(crate) errors: u64,
}

/// Runs one load process: prints `ready`, waits for a line on standard input, loads, prints the result.
pub(crate) fn main(options: &LoadOptions) -> Result<()> {
    let workload = by_name(&options.workload).with_context(|| format!("no workload {:?}", options.workload))?;
    let content = Content::new(&workload);
    if options.phase == Phase::Fill {
        return fill(&options.address, &content);
    }
    let mut generator = Generator {
        poll: Poll::new()?,
        events: Events::with_capacity(1024),
        address: options.address.clone(),
        workload,
        content,
        random: Random::new(0xcafe),
        connections: Vec::new(),
        tally: Tally::default(),
    };
    let result = match workload.pace {
        Pace::Idle => {
            wait_for_go()?;
            generator.idle(options.pid)?
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
    let mut request = Vec::new();
    for batch in keys.chunks(16) {
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

enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

fn parse_address(text: &str) -> Result<Address> {
    if text.starts_with('/') {
        return Ok(Address::Unix(PathBuf::from(text)));
    }
    Ok(Address::Tcp(text.parse().with_context(|| format!("no address: {text:?}"))?))
}

struct Generator {
    poll: Poll,
    events: Events,
    address: String,
    workload: Workload,
    content: Content,
    random: Random,
    /// A slot is empty between two connections of the reconnecting workload.
    connections: Vec<Option<Connection>>,
    tally: Tally,
}

impl Generator {
    /// Opens `count` connections; with `ask` each sends one request and waits for its reply.
    fn connect(&mut self, count: usize, ask: bool) -> Result<()> {
        for _ in 0..count {
            let slot = self.connections.len();
            self.connections.push(None);
            self.open(slot)?;
            if ask {
                self.ask(slot, 1)?;
                while self.pending(slot) > 0 {
                    self.turn(SILENCE)?;
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, slot: usize) -> Result<()> {
        let mut connection = match parse_address(&self.address)? {
            Address::Tcp(address) => {
                let stream = mio::net::TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Connection::new(Box::new(stream))
            }
            // A full backlog makes a non-blocking connect fail at once, so a unix socket is connected in step.
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Connection::new(Box::new(mio::net::UnixStream::from_std(stream)))
            }
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut connection.socket, Token(slot), interest)?;
        self.connections[slot] = Some(connection);
        Ok(())
    }

    fn pending(&self, slot: usize) -> usize {
        self.connections[slot].as_ref().map_or(0, Connection::in_flight)
    }

    /// Sends `count` requests on one connection with one write.
    fn ask(&mut self, slot: usize, count: usize) -> Result<()> {
        let Some(connection) = self.connections[slot].as_mut() else { return Ok(()) };
        let now = Instant::now();
        for _ in 0..count {
            connection.ask(&self.workload, &self.content, &mut self.random, now);
        }
        connection.flush()
    }

    /// Waits for events and takes all replies; returns the slots that got some.
    fn turn(&mut self, longest: Duration) -> Result<Vec<usize>> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(longest))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error).context("waiting for events");
        }
        let mut answered = Vec::new();
        for event in &self.events {
            let slot = event.token().0;
            let Some(connection) = self.connections[slot].as_mut() else { continue };
            if event.is_writable() {
                connection.flush()?;
            }
            if event.is_readable() && connection.receive(&self.content, &mut self.tally)? > 0 {
                answered.push(slot);
            }
        }
        Ok(answered)
    }

    /// The closed loop: warm up, measure, drain.
    fn load(&mut self, options: &LoadOptions) -> Result<LoadResult> {
        let mut pacer = Pacer::new(&self.workload);
        self.connections.resize_with(self.workload.silent + self.workload.connections, || None);
        if !pacer.reconnects() {
            for slot in self.workload.silent..self.connections.len() {
                self.ask(slot, self.workload.in_flight)?;
            }
        }
        let open = Instant::now() + Duration::from_secs_f64(options.warm_up_seconds);
        self.until(open, &mut pacer)?;
        let lifetime_base = self.tally.requests;
        self.tally.requests = 0;
        self.tally.latencies_ns.clear();
        let (cpu_before, opened) = (measure::cpu_ns(options.pid)?, Instant::now());
        self.until(opened + Duration::from_secs_f64(options.seconds), &mut pacer)?;
        let (cpu_after, seconds) = (measure::cpu_ns(options.pid)?, opened.elapsed().as_secs_f64());
        let requests = self.tally.requests;
        let resident_bytes = measure::resident_bytes(options.pid)?;
        let mut latencies = std::mem::take(&mut self.tally.latencies_ns);
        self.drain()?;
        latencies.sort_unstable();
        let quantile = |per_mille: usize| {
            let place = latencies.len() * per_mille / 1000;
            latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        Ok(LoadResult {
            requests,
            lifetime_requests: lifetime_base + self.tally.requests,
            seconds,
            cpu_ns: cpu_after - cpu_before,
            p50_ns: quantile(500),
            p99_ns: quantile(990),
            p999_ns: quantile(999),
            resident_bytes,
            bytes_per_client: None,
            misses: self.tally.misses,
            errors: self.tally.errors,
        })
    }

    fn until(&mut self, end: Instant, pacer: &mut Pacer) -> Result<()> {
        let mut last_reply = Instant::now();
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            while let Some(slot) = pacer.next_slot(now) {
                self.open(slot)?;
                self.ask(slot, 1)?;
            }
            let answered = self.turn(pacer.wait(now).min(end - now))?;
            if !answered.is_empty() {
                last_reply = now;
            } else if now.saturating_duration_since(last_reply) > SILENCE {
                bail!("no reply for {SILENCE:?}");
            }
            for slot in answered {
                match self.workload.pace {
                    Pace::Reconnect(_) => {
                        self.connections[slot] = None;
                        pacer.free.push_back(slot);
                    }
                    Pace::Batch if self.pending(slot) > 0 => {}
                    Pace::Sliding | Pace::Batch => self.ask(slot, self.workload.in_flight - self.pending(slot))?,
                    Pace::Idle => {}
                }
            }
        }
    }

    /// Takes the replies still in flight, so that the next run starts with quiet servers.
    fn drain(&mut self) -> Result<()> {
        let end = Instant::now() + DRAIN;
        while (0..self.connections.len()).any(|slot| self.pending(slot) > 0) {
            let now = Instant::now();
            if now >= end {
                bail!("replies are still missing {DRAIN:?} after the last request");
            }
            self.turn(end - now)?;
        }
        Ok(())
    }

    /// Opens all connections, one get on each, and reads how much memory they took.
    fn idle(&mut self, pid: u32) -> Result<LoadResult> {
        // The first client pays for what every proxy sets up once.
        self.connect(1, true)?;
        let before = measure::resident_bytes(pid)?;
        self.connect(self.workload.connections, true)?;
        let after = measure::resident_bytes(pid)?;
        let growth = after.saturating_sub(before);
        let clients = u32::try_from(self.workload.connections)?;
        Ok(LoadResult {
            requests: self.tally.requests,
            lifetime_requests: self.tally.requests,
            resident_bytes: after,
            bytes_per_client: Some(lossy(growth) / f64::from(clients)),
            misses: self.tally.misses,
            errors: self.tally.errors,
            ..LoadResult::default()
        })
    }
}

/// An integer as a float; figures of a report need no more than its 53 bits.
#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a few seconds stay far below 2^53")]
pub(crate) fn lossy(number: u64) -> f64 {
    number as f64
}

/// Spreads the connections of the reconnecting workload over time; for the others it does nothing.
struct Pacer {
    interval: Option<Duration>,
    due: Instant,
    free: VecDeque<usize>,
}

impl Pacer {
    fn new(workload: &Workload) -> Self {
        let interval = match workload.pace {
            Pace::Reconnect(per_second) => Some(Duration::from_secs(1) / per_second),
            Pace::Sliding | Pace::Batch | Pace::Idle => None,
        };
        Self { interval, due: Instant::now(), free: (0..workload.connections).collect() }
    }

    fn reconnects(&self) -> bool {
        self.interval.is_some()
    }

    /// The slot to connect, when one is free and its time has come.
    fn next_slot(&mut self, now: Instant) -> Option<usize> {
        let interval = self.interval?;
        if now < self.due {
            return None;
        }
        let slot = self.free.pop_front()?;
        // Connections that could not start in time are not made up for: the rate is a ceiling.
        self.due = (self.due + interval).max(now - interval);
        Some(slot)
    }

    fn wait(&self, now: Instant) -> Duration {
        match self.interval {
            Some(_) if !self.free.is_empty() => self.due.saturating_duration_since(now),
            Some(_) | None => SILENCE,
        }
    }
}

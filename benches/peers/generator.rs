//! The closed loop: one thread, one epoll set, all connections of a load process.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, Tally};
use crate::content::{Content, Random};
use crate::load::{Address, LoadOptions, LoadResult, lossy, parse_address};
use crate::measure;
use crate::workload::{Pace, Workload};

/// How long the replies still in flight may take when the window has closed.
const DRAIN: Duration = Duration::from_secs(2);
/// Without any reply for this long the proxy is taken for hung.
const SILENCE: Duration = Duration::from_secs(10);

/// The connections of one load process and what came back on them.
pub(crate) struct Generator {
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
    /// A generator without connections.
    pub(crate) fn new(address: &str, workload: Workload, content: Content) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            address: address.to_owned(),
            workload,
            content,
            random: Random::new(0xcafe),
            connections: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Opens `count` connections; with `ask` each sends one request and waits for its reply.
    pub(crate) fn connect(&mut self, count: usize, ask: bool) -> Result<()> {
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
    pub(crate) fn load(&mut self, options: &LoadOptions) -> Result<LoadResult> {
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
    pub(crate) fn idle(&mut self, pid: u32) -> Result<LoadResult> {
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

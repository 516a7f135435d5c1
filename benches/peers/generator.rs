//! The closed loop: one thread, one epoll set, all connections of a load process.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mio::{Events, Poll, Token};

use crate::connection::{Connection, Socket, Tally};
use crate::content::{Content, Random};
use crate::measure;
use crate::task::{Address, LoadOptions, LoadResult, Quantiles, parse_address};
use crate::window::Window;
use crate::workload::{Pace, Workload};

/// How long the replies still in flight may take when the window has closed.
const DRAIN: Duration = Duration::from_secs(2);
/// Without any reply for this long the proxy is taken for hung.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// Room for one read: large values need few of them, and what was read is compared while the cache still holds it.
const READ_BYTES: usize = 128 << 10;

/// The connections of one load process and what came back on them.
pub(crate) struct Generator {
    poll: Poll,
    events: Events,
    address: Address,
    /// What every connection reads into.
    buffer: Vec<u8>,
    /// The list that [`Generator::turn`] fills, between two turns.
    answered: Vec<usize>,
    /// What all connections do.
    pub(crate) workload: Workload,
    content: Content,
    random: Random,
    /// A slot is empty between two connections of the reconnecting workload.
    connections: Vec<Option<Connection>>,
    /// What came back.
    pub(crate) tally: Tally,
}

impl Generator {
    /// A generator without connections.
    pub(crate) fn new(address: &str, workload: Workload, content: Content) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            address: parse_address(address)?,
            buffer: vec![0; READ_BYTES],
            answered: Vec::new(),
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
                    let answered = self.turn(SILENCE)?;
                    self.give_back(answered);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, slot: usize) -> Result<()> {
        let socket = match &self.address {
            Address::Tcp(address) => {
                let stream = mio::net::TcpStream::connect(*address)?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            // A full backlog makes a non-blocking connect fail at once, so a unix socket is connected in step.
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Socket::Unix(mio::net::UnixStream::from_std(stream))
            }
        };
        let connection = Connection::new(socket, Token(slot), self.poll.registry())?;
        self.connections[slot] = Some(connection);
        Ok(())
    }

    fn pending(&self, slot: usize) -> usize {
        self.connections[slot].as_ref().map_or(0, Connection::in_flight)
    }

    /// Sends `count` requests on one connection with one write.
    pub(crate) fn ask(&mut self, slot: usize, count: usize) -> Result<()> {
        let Some(connection) = self.connections[slot].as_mut() else { return Ok(()) };
        let now = Instant::now();
        for _ in 0..count {
            connection.ask(&self.workload, &self.content, &mut self.random, now);
        }
        connection.flush(self.poll.registry())
    }

    /// Waits for events and takes all replies; returns the slots that got some, in a list to be given back.
    pub(crate) fn turn(&mut self, longest: Duration) -> Result<Vec<usize>> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(longest))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error).context("waiting for events");
        }
        let mut answered = std::mem::take(&mut self.answered);
        for event in &self.events {
            let slot = event.token().0;
            let Some(connection) = self.connections[slot].as_mut() else { continue };
            if event.is_writable() {
                connection.flush(self.poll.registry())?;
            }
            if event.is_readable() && connection.receive(&mut self.buffer, &self.content, &mut self.tally)? > 0 {
                answered.push(slot);
            }
        }
        Ok(answered)
    }

    /// Takes back the list of a turn, so that the next one need not allocate.
    pub(crate) fn give_back(&mut self, mut answered: Vec<usize>) {
        answered.clear();
        self.answered = answered;
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
        let window = Window::open(options)?;
        self.until(window.opened() + Duration::from_secs_f64(options.seconds), &mut pacer)?;
        let result = window.close(self.tally.requests)?;
        let resident_bytes = measure::resident_bytes(options.pid)?;
        let mut latencies = std::mem::take(&mut self.tally.latencies_ns);
        self.drain()?;
        Ok(LoadResult {
            lifetime_requests: lifetime_base + self.tally.requests,
            quantiles: Quantiles::of(&mut latencies),
            resident_bytes,
            misses: self.tally.misses,
            errors: self.tally.errors,
            ..result
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
            for &slot in &answered {
                match self.workload.pace {
                    Pace::Reconnect(_) => {
                        self.connections[slot] = None;
                        pacer.free.push_back(slot);
                    }
                    Pace::Batch if self.pending(slot) > 0 => {}
                    Pace::Sliding | Pace::Batch => self.ask(slot, self.workload.in_flight - self.pending(slot))?,
                    Pace::Idle | Pace::Burst(_) => {}
                }
            }
            self.give_back(answered);
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
            let answered = self.turn(end - now)?;
            self.give_back(answered);
        }
        Ok(())
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
            Pace::Sliding | Pace::Batch | Pace::Idle | Pace::Burst(_) => None,
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

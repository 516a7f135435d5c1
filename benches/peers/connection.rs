//! One client connection of the load generator: what it asked, what came back, and whether that is right.
//!
//! Requests are remembered as a few numbers in order of sending. Nothing is allocated per request, a ready socket is
//! read once and written once a turn, and all connections share one read buffer, which so stays in the cache.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use mio::{Interest, Registry, Token};

use crate::content::{Content, Random};
use crate::reply::{Kind, Reply, start};
use crate::workload::Workload;

/// What came back since the window opened.
#[derive(Default)]
pub(crate) struct Tally {
    /// Requests answered.
    pub(crate) requests: u64,
    /// Keys that were asked for and not there.
    pub(crate) misses: u64,
    /// Error lines, and sets that were not stored.
    pub(crate) errors: u64,
    /// Nanoseconds from sending to the complete reply, one entry a request.
    pub(crate) latencies_ns: Vec<u32>,
}

struct Asked {
    kind: Kind,
    at: Instant,
}

/// The socket kinds that the generator can use.
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Socket {
    fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }
}

/// One connection and its requests in flight.
pub(crate) struct Connection {
    socket: Socket,
    token: Token,
    /// The event set tells when the socket can be written again.
    blocked: bool,
    output: Vec<u8>,
    written: usize,
    asked: VecDeque<Asked>,
    reply: Reply,
}

impl Connection {
    /// A connection that has asked nothing yet, in the event set under `token`.
    pub(crate) fn new(socket: Socket, token: Token, registry: &Registry) -> Result<Self> {
        let mut connection = Self {
            socket,
            token,
            blocked: false,
            output: Vec::new(),
            written: 0,
            asked: VecDeque::new(),
            reply: Reply::default(),
        };
        // Not for writing too: a unix socket would then wake the generator whenever the proxy has read.
        connection.socket.source().register(registry, token, Interest::READABLE)?;
        Ok(connection)
    }

    /// Requests without a reply so far.
    pub(crate) fn in_flight(&self) -> usize {
        self.asked.len()
    }

    /// Queues one request as `workload` wants it; [`Connection::flush`] sends it.
    pub(crate) fn ask(&mut self, workload: &Workload, content: &Content, random: &mut Random, at: Instant) {
        let first = random.below(content.keys());
        let kind = if workload.gets_per_set > 0 && random.below(workload.gets_per_set + 1) == 0 {
            content.push_set(&mut self.output, first);
            Kind::Set
        } else {
            let count = workload.keys_per_get;
            content.push_get(&mut self.output, first, count);
            Kind::Get { first, count }
        };
        self.asked.push_back(Asked { kind, at });
    }

    /// Writes what is queued, as far as the socket takes it, and asks for an event when it takes no more.
    pub(crate) fn flush(&mut self, registry: &Registry) -> Result<()> {
        let full = self.write()?;
        if full != self.blocked {
            self.blocked = full;
            let interest = if full { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.socket.source().reregister(registry, self.token, interest)?;
        }
        Ok(())
    }

    /// Returns whether something is left that the socket does not take.
    fn write(&mut self) -> Result<bool> {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(bytes) => self.written += bytes,
                // A connect that is still under way says `NotConnected`.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing to the proxy"),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(false)
    }

    /// Reads all there is, by way of `buffer`, and checks it; returns how many replies are complete.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], content: &Content, tally: &mut Tally) -> Result<usize> {
        let before = self.asked.len();
        loop {
            match self.socket.read(buffer) {
                Ok(0) => bail!("the proxy closed a connection with {} requests in flight", self.asked.len()),
                Ok(bytes) => {
                    self.check(&buffer[..bytes], content, tally)?;
                    // A short read means that the socket is empty; the next arrival raises a new event.
                    if bytes < buffer.len() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading from the proxy"),
            }
        }
        Ok(before - self.asked.len())
    }

    fn check(&mut self, mut input: &[u8], content: &Content, tally: &mut Tally) -> Result<()> {
        let now = Instant::now();
        while !input.is_empty() {
            let Some(front) = self.asked.front() else {
                bail!("{} bytes arrived that nobody asked for: {:?}", input.len(), start(input));
            };
            let (taken, outcome) = self.reply.take(front.kind, input, content)?;
            input = &input[taken..];
            let Some(outcome) = outcome else { break };
            tally.requests += 1;
            tally.misses += u64::from(outcome.misses);
            tally.errors += u64::from(outcome.error);
            let waited = now.saturating_duration_since(front.at).as_nanos();
            tally.latencies_ns.push(u32::try_from(waited).unwrap_or(u32::MAX));
            self.asked.pop_front();
        }
        Ok(())
    }
}

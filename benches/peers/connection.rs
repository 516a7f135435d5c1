//! One client connection of the load generator: what it asked, what came back, and whether that is right.
//!
//! Requests are remembered as a few numbers in order of sending; a reply is compared with what its request demands,
//! byte for byte, the moment it is complete. Nothing is allocated per request.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::content::{Content, KEY_BYTES, Random};
use crate::workload::Workload;

/// Keys of one multi-get lie this far apart; a prime, so that they are all different.
const STRIDE: u32 = 7_919;

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

#[derive(Clone, Copy)]
enum Kind {
    Get { first: u32, count: u32 },
    Set,
}

struct Asked {
    kind: Kind,
    at: Instant,
}

/// The socket kinds that the generator can use.
pub(crate) trait Socket: Read + Write + mio::event::Source {}
impl Socket for mio::net::TcpStream {}
impl Socket for mio::net::UnixStream {}

/// One connection and its requests in flight.
pub(crate) struct Connection {
    /// The socket; registered and dropped by the loop that owns the connection.
    pub(crate) socket: Box<dyn Socket>,
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
    written: usize,
    asked: VecDeque<Asked>,
}

impl Connection {
    /// A connection that has asked nothing yet.
    pub(crate) fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, input: vec![0; 32 << 10], read: 0, output: Vec::new(), written: 0, asked: VecDeque::new() }
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
            content.push_get(&mut self.output, (0..count).map(|place| key_at(first, place, content)));
            Kind::Get { first, count }
        };
        self.asked.push_back(Asked { kind, at });
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(bytes) => self.written += bytes,
                // A connect that is still under way says `NotConnected`; the writable event comes later.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing to the proxy"),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads all there is and checks every complete reply; returns how many there were.
    pub(crate) fn receive(&mut self, content: &Content, tally: &mut Tally) -> Result<usize> {
        let before = self.asked.len();
        loop {
            if self.read == self.input.len() {
                self.input.resize(self.input.len() * 2, 0);
            }
            let room = self.input.len() - self.read;
            match self.socket.read(&mut self.input[self.read..]) {
                Ok(0) => bail!("the proxy closed a connection with {} requests in flight", self.asked.len()),
                Ok(bytes) => {
                    self.read += bytes;
                    self.check(content, tally)?;
                    // A short read means that the socket is empty; the next arrival raises a new event.
                    if bytes < room {
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

    fn check(&mut self, content: &Content, tally: &mut Tally) -> Result<()> {
        let mut done = 0;
        let now = Instant::now();
        while let Some(front) = self.asked.front() {
            let reply = &self.input[done..self.read];
            let Some(outcome) = check_reply(front.kind, reply, content)? else { break };
            done += outcome.bytes;
            tally.requests += 1;
            tally.misses += u64::from(outcome.misses);
            tally.errors += u64::from(outcome.error);
            let waited = now.saturating_duration_since(front.at).as_nanos();
            tally.latencies_ns.push(u32::try_from(waited).unwrap_or(u32::MAX));
            self.asked.pop_front();
        }
        if self.asked.is_empty() && done < self.read {
            bail!(
                "{} bytes arrived that nobody asked for: {:?}",
                self.read - done,
                start(&self.input[done..self.read])
            );
        }
        self.input.copy_within(done..self.read, 0);
        self.read -= done;
        Ok(())
    }
}

struct Outcome {
    bytes: usize,
    misses: u32,
    error: bool,
}

/// Checks the reply at the start of `input`; `None` while it is incomplete, an error when it is wrong.
fn check_reply(kind: Kind, input: &[u8], content: &Content) -> Result<Option<Outcome>> {
    match kind {
        Kind::Set => {
            let Some(line) = line(input) else { return Ok(None) };
            let error = line != content.stored();
            if error && !is_refusal(line) {
                bail!("a set was answered with {:?}", start(line));
            }
            Ok(Some(Outcome { bytes: line.len(), misses: 0, error }))
        }
        Kind::Get { first, count } if content.is_redis() => check_bulks(first, count, input, content),
        Kind::Get { first, count } => check_values(first, count, input, content),
    }
}

fn check_values(first: u32, count: u32, input: &[u8], content: &Content) -> Result<Option<Outcome>> {
    let mut seen = 0_u32;
    let mut at = 0;
    loop {
        let Some(line) = line(&input[at..]) else { return Ok(None) };
        if line == b"END\r\n" {
            return Ok(Some(Outcome { bytes: at + line.len(), misses: count - seen.count_ones(), error: false }));
        }
        if is_refusal(line) {
            return Ok(Some(Outcome { bytes: at + line.len(), misses: 0, error: true }));
        }
        let found = line.strip_prefix(b"VALUE ").and_then(|rest| rest.split_at_checked(KEY_BYTES));
        let Some((key, rest)) = found else { bail!("a get was answered with {:?}", start(line)) };
        let number = Content::key_number(key).with_context(|| format!("no key of ours: {:?}", start(line)))?;
        // Proxies may group a multi-get by server, so any order of the keys is right, but each at most once.
        let place = (0..count).find(|&place| key_at(first, place, content) == number && seen & (1 << place) == 0);
        let Some(place) = place else { bail!("a value that was not asked for: {:?}", start(line)) };
        if rest != content.value_header() {
            bail!("a wrong VALUE line: {:?}", start(line));
        }
        let from = at + line.len();
        let value = content.value(number);
        let end = from + value.len() + 2;
        if input.len() < end {
            return Ok(None);
        }
        if &input[from..end - 2] != value || &input[end - 2..end] != b"\r\n" {
            bail!("WRONG VALUE for key {number}");
        }
        seen |= 1 << place;
        at = end;
    }
}

/// Checks the reply to `GET` or `MGET`: the values stand in the order of the keys.
fn check_bulks(first: u32, count: u32, input: &[u8], content: &Content) -> Result<Option<Outcome>> {
    let (mut at, mut misses) = (0, 0);
    if count > 1 || input.first() == Some(&b'-') {
        let Some(head) = line(input) else { return Ok(None) };
        if is_refusal(head) {
            return Ok(Some(Outcome { bytes: head.len(), misses: 0, error: true }));
        }
        if head != format!("*{count}\r\n").as_bytes() {
            bail!("an MGET was answered with {:?}", start(head));
        }
        at = head.len();
    }
    for place in 0..count {
        let Some(head) = line(&input[at..]) else { return Ok(None) };
        at += head.len();
        if head == b"$-1\r\n" {
            misses += 1;
            continue;
        }
        if head != content.value_header() {
            bail!("a value starts with {:?}", start(head));
        }
        let number = key_at(first, place, content);
        let value = content.value(number);
        let end = at + value.len() + 2;
        if input.len() < end {
            return Ok(None);
        }
        if &input[at..end - 2] != value || &input[end - 2..end] != b"\r\n" {
            bail!("WRONG VALUE for key {number}");
        }
        at = end;
    }
    Ok(Some(Outcome { bytes: at, misses, error: false }))
}

fn key_at(first: u32, place: u32, content: &Content) -> u32 {
    (first + place * STRIDE) % content.keys()
}

fn line(input: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', input)?;
    Some(&input[..=end])
}

fn is_refusal(line: &[u8]) -> bool {
    [b"-".as_slice(), b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR", b"NOT_STORED"]
        .iter()
        .any(|word| line.starts_with(word))
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

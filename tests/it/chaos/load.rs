//! Clients that ask at a fixed rate, know what they wrote, and write down how each request went.
//!
//! A value says which key it belongs to, who wrote it and which version it is; the rest of it follows from these. Only
//! its owner writes a key. So for a key of a server that nothing has happened to, its owner knows the one right answer;
//! for any other, each version that was ever sent may come back (a server that was cut off has what it had), and nothing
//! else.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::book::{Book, KEYS_PER_CLIENT, Speaks};
use super::ledger::{Ledger, Outcome, Sample};
use crate::support::Random;

/// A load that is running.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Ledger>>,
}

impl Load {
    /// Has all clients of the book write all their keys, then ask at so many requests a second together.
    pub(super) fn start(address: SocketAddr, book: &Arc<Book>, rate: u32, seed: u64) -> Self {
        Self::with_bystanders(address, book, rate, seed, 0)
    }

    /// As [`Load::start`]; every other client wants nothing of these servers (bits). Those who do wait for them, so they
    /// would ask the others too seldom for a 99th percentile to be one.
    pub(super) fn with_bystanders(address: SocketAddr, book: &Arc<Book>, rate: u32, seed: u64, stricken: u8) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ready = Arc::new(AtomicUsize::new(0));
        let count = book.keys.len() / KEYS_PER_CLIENT;
        let every = Duration::from_secs(1) * count as u32 / rate;
        let clients: Vec<_> = (0..count)
            .map(|number| {
                let (over, ready, book) = (Arc::clone(&over), Arc::clone(&ready), Arc::clone(book));
                std::thread::spawn(move || {
                    let mut client = Asker::new(address, number, book, seed);
                    client.write_all_keys(Duration::from_secs(3) / rate);
                    client.ledger.samples.clear(); // all at once, so slower than what the rate makes of it
                    client.shuns = if number % 2 == 1 { stricken } else { 0 };
                    ready.fetch_add(1, Ordering::SeqCst);
                    client.ask_until(&over, every);
                    client.ledger
                })
            })
            .collect();
        let load = Self { over, clients };
        crate::support::wait_until("every key written", Duration::from_secs(10), || {
            ready.load(Ordering::SeqCst) == count || load.clients.iter().any(JoinHandle::is_finished)
        });
        load
    }

    pub(super) fn end(self) -> Ledger {
        self.over.store(true, Ordering::SeqCst);
        let mut all = Ledger::default();
        for client in self.clients {
            let ledger = client.join().expect("a client");
            all.samples.extend(ledger.samples);
            all.problems.extend(ledger.problems);
        }
        all
    }
}

/// What the owner knows of a key: what a server that nothing has happened to must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Absent,
    Version(u64),
}

/// An answer that cannot be right, in words; or the connection's end.
pub(super) enum Trouble {
    Io(io::Error),
    Error(String),
    Lapse(String),
    Wrong(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) struct Asker {
    address: SocketAddr,
    number: usize,
    pub(super) book: Arc<Book>,
    pub(super) stream: BufReader<TcpStream>,
    /// Of its own keys, as long as it can be known.
    known: HashMap<usize, Known>,
    /// Servers (bits) of which it wants nothing.
    shuns: u8,
    pub(super) random: Random,
    requests: u64,
    ledger: Ledger,
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("read timeout");
    BufReader::with_capacity(32 << 10, stream)
}

impl Asker {
    fn new(address: SocketAddr, number: usize, book: Arc<Book>, seed: u64) -> Self {
        let known =
            (number * KEYS_PER_CLIENT..(number + 1) * KEYS_PER_CLIENT).map(|key| (key, Known::Absent)).collect();
        let random = Random(seed * 1000 + number as u64);
        let (stream, ledger) = (connect(address), Ledger::default());
        Self { address, number, book, stream, known, shuns: 0, random, requests: 0, ledger }
    }

    pub(super) fn own_key(&mut self) -> usize {
        self.key_of(self.number * KEYS_PER_CLIENT, KEYS_PER_CLIENT)
    }

    pub(super) fn any_key(&mut self) -> usize {
        self.key_of(0, self.book.keys.len())
    }

    /// One of so many keys, from `first` on, of a server of which it wants something.
    fn key_of(&mut self, first: usize, count: usize) -> usize {
        loop {
            let key = first + self.random.below(count as u64) as usize;
            if self.shuns & 1 << self.book.keys[key].home == 0 {
                return key;
            }
        }
    }

    /// Not as fast as it can: several rows that start together would keep the machine from carrying what servers say, and
    /// a server that is silent for so long is answered for.
    fn write_all_keys(&mut self, pause: Duration) {
        for key in self.number * KEYS_PER_CLIENT..(self.number + 1) * KEYS_PER_CLIENT {
            self.timed(&[key], |client| match client.book.speaks {
                Speaks::Memcached => client.set(key),
                Speaks::Redis { .. } => client.redis_set(key),
            });
            std::thread::sleep(pause);
        }
    }

    /// Asks at fixed times. Of times that pass while it waits for an answer none is made up for: a burst after each
    /// wait would be a load of its own.
    fn ask_until(&mut self, over: &AtomicBool, every: Duration) {
        let mut next = Instant::now() + every * self.random.below(100) as u32 / 100;
        while !over.load(Ordering::SeqCst) {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            match self.book.speaks {
                Speaks::Memcached => self.ask(),
                Speaks::Redis { .. } => self.ask_redis(),
            }
            while next <= Instant::now() {
                next += every;
            }
        }
    }

    fn ask(&mut self) {
        match self.random.below(100) {
            0..20 => {
                let key = self.own_key();
                self.timed(&[key], |client| client.set(key));
            }
            20..30 => {
                let key = self.own_key();
                self.timed(&[key], |client| client.meta_set(key));
            }
            30..65 => {
                let key = if self.random.one_in(3) { self.any_key() } else { self.own_key() };
                self.timed(&[key], |client| client.get(&[key]));
            }
            65..75 => {
                let mut keys: Vec<_> = (0..2 + self.random.below(10)).map(|_| self.any_key()).collect();
                keys.sort_unstable();
                keys.dedup();
                self.timed(&keys, |client| client.get(&keys));
            }
            75..95 => {
                let key = if self.random.one_in(3) { self.any_key() } else { self.own_key() };
                self.timed(&[key], |client| client.meta_get(key));
            }
            _ => {
                let key = self.own_key();
                self.timed(&[key], |client| client.delete(key));
            }
        }
    }

    pub(super) fn timed(&mut self, keys: &[usize], request: impl FnOnce(&mut Self) -> Result<Outcome, Trouble>) {
        self.requests += 1;
        let start = Instant::now();
        let result = request(self);
        let took = start.elapsed();
        let homes = keys.iter().fold(0, |homes, key| homes | 1 << self.book.keys[*key].home);
        let (outcome, problem) = match result {
            Ok(outcome) => (outcome, None),
            Err(Trouble::Io(error)) => (Outcome::Disconnect, Some(error.to_string())),
            Err(Trouble::Error(line)) => (Outcome::Error, Some(line)),
            Err(Trouble::Lapse(what)) => (Outcome::Lapse, Some(what)),
            Err(Trouble::Wrong(what)) => (Outcome::Wrong, Some(what)),
        };
        self.ledger.samples.push(Sample { start, took, homes, outcome });
        if outcome == Outcome::Error && self.book.speaks == (Speaks::Redis { errors: true }) {
            for key in keys {
                self.known.remove(key);
            }
            if self.redis_is_in_step() {
                return; // what the pool was asked to tell
            }
            self.ledger.samples.push(Sample { start, took, homes, outcome: Outcome::Disconnect });
        }
        if let Some(problem) = problem {
            let name = &self.book.keys[keys[0]].name;
            self.ledger.problems.push(format!("{outcome:?} for {name} after {took:?}: {problem}"));
            for key in keys {
                self.known.remove(key);
            }
            // Nobody knows what else is under way on the old one.
            self.stream = connect(self.address);
        }
    }

    pub(super) fn send(&self, request: &[u8]) -> io::Result<()> {
        self.stream.get_ref().write_all(request)
    }

    pub(super) fn line(&mut self) -> Result<String, Trouble> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if ["ERROR", "CLIENT_ERROR", "SERVER_ERROR", "-"].iter().any(|error| line.starts_with(error)) {
            return Err(Trouble::Error(line));
        }
        Ok(line)
    }

    /// Reads a value and its line end; it must be one of this key.
    pub(super) fn value(&mut self, key: usize, length: &str) -> Result<u64, Trouble> {
        let length: usize = length.parse().map_err(|_| Trouble::Wrong(format!("a length of {length:?}")))?;
        let mut value = vec![0; length + 2];
        self.stream.read_exact(&mut value)?;
        let found = value.strip_suffix(b"\r\n").and_then(|value| self.book.version_in(key, value));
        found.ok_or_else(|| {
            let (name, start) = (&self.book.keys[key].name, value[..value.len().min(40)].escape_ascii());
            Trouble::Wrong(format!("{length} bytes that are not a value of {name}: {start}"))
        })
    }

    /// Compares what was found with what the owner knows, if it knows.
    pub(super) fn check(&mut self, key: usize, found: Option<u64>) -> Result<(), Trouble> {
        if self.book.is_suspect(key) {
            self.known.remove(&key);
        }
        match (self.known.get(&key), found) {
            (Some(Known::Version(version)), found) if found != Some(*version) => {
                let name = &self.book.keys[key].name;
                Err(Trouble::Lapse(format!("version {found:?} of {name} where only {version} can be")))
            }
            (Some(Known::Absent), Some(version)) => Err(Trouble::Lapse(format!("version {version} where none can be"))),
            _ => Ok(()),
        }
    }

    pub(super) fn next_value(&self, key: usize) -> (u64, Vec<u8>) {
        let version = self.book.keys[key].written.fetch_add(1, Ordering::SeqCst) + 1;
        (version, self.book.value(key, version))
    }

    /// Notes what came of a write; one to a server that nothing has happened to must be carried out.
    pub(super) fn wrote(&mut self, key: usize, version: u64, stored: bool) -> Result<Outcome, Trouble> {
        if stored {
            self.known.insert(key, Known::Version(version));
        } else if !self.book.is_suspect(key) {
            return Err(Trouble::Lapse("not stored though the server is well".to_owned()));
        } else {
            self.known.remove(&key);
        }
        Ok(if stored { Outcome::Stored } else { Outcome::NotStored })
    }

    fn set(&mut self, key: usize) -> Result<Outcome, Trouble> {
        let (version, value) = self.next_value(key);
        let head = format!("set {} {} 0 {}\r\n", self.book.keys[key].name, self.number, value.len());
        self.send(&[head.as_bytes(), &value, b"\r\n"].concat())?;
        match self.line()?.as_str() {
            "STORED" => self.wrote(key, version, true),
            "NOT_STORED" => self.wrote(key, version, false),
            other => Err(Trouble::Wrong(format!("{other:?} to a set"))),
        }
    }

    fn meta_set(&mut self, key: usize) -> Result<Outcome, Trouble> {
        let (version, value) = self.next_value(key);
        let (name, opaque) = (&self.book.keys[key].name, self.requests);
        let head = format!("ms {name} {} F{} O{opaque}\r\n", value.len(), self.number);
        self.send(&[head.as_bytes(), &value, b"\r\n"].concat())?;
        let line = self.line()?;
        if line == format!("HD O{opaque}") {
            self.wrote(key, version, true)
        } else if line == format!("NS O{opaque}") {
            self.wrote(key, version, false)
        } else {
            Err(Trouble::Wrong(format!("{line:?} to an ms with O{opaque}")))
        }
    }

    /// One key or several; values come in the order of the keys, misses are left out.
    fn get(&mut self, keys: &[usize]) -> Result<Outcome, Trouble> {
        let mut request = String::from("get");
        for key in keys {
            request.push(' ');
            request.push_str(&self.book.keys[*key].name);
        }
        request.push_str("\r\n");
        self.send(request.as_bytes())?;
        let mut ahead = keys.iter().copied();
        let mut whole = true;
        loop {
            let line = self.line()?;
            if line == "END" {
                break;
            }
            let [_, name, flags, length] = line.split(' ').collect::<Vec<_>>()[..] else {
                return Err(Trouble::Wrong(format!("{line:?} to a get")));
            };
            loop {
                let key = ahead.next().ok_or_else(|| Trouble::Wrong(format!("{line:?} was not asked for")))?;
                if self.book.keys[key].name != name {
                    self.check(key, None)?;
                    whole = false;
                    continue;
                }
                if !line.starts_with("VALUE ") || flags != self.book.keys[key].owner.to_string() {
                    return Err(Trouble::Wrong(format!("{line:?} to a get")));
                }
                let version = self.value(key, length)?;
                self.check(key, Some(version))?;
                break;
            }
        }
        for key in ahead {
            self.check(key, None)?;
            whole = false;
        }
        Ok(if whole { Outcome::Hit } else { Outcome::Miss })
    }

    fn meta_get(&mut self, key: usize) -> Result<Outcome, Trouble> {
        let (name, opaque) = (self.book.keys[key].name.clone(), self.requests);
        self.send(format!("mg {name} v f k O{opaque}\r\n").as_bytes())?;
        let line = self.line()?;
        if line == format!("EN k{name} O{opaque}") {
            self.check(key, None)?;
            return Ok(Outcome::Miss);
        }
        let tail = format!(" f{} k{name} O{opaque}", self.book.keys[key].owner);
        let length = line.strip_prefix("VA ").and_then(|rest| rest.strip_suffix(&tail));
        let length = length.ok_or_else(|| Trouble::Wrong(format!("{line:?} to an mg with{tail}")))?;
        let version = self.value(key, length)?;
        self.check(key, Some(version))?;
        Ok(Outcome::Hit)
    }

    fn delete(&mut self, key: usize) -> Result<Outcome, Trouble> {
        self.send(format!("delete {}\r\n", self.book.keys[key].name).as_bytes())?;
        let found = match self.line()?.as_str() {
            "DELETED" => true,
            "NOT_FOUND" => false,
            other => return Err(Trouble::Wrong(format!("{other:?} to a delete"))),
        };
        self.deleted(key, found)
    }

    /// Notes what came of a delete.
    pub(super) fn deleted(&mut self, key: usize, found: bool) -> Result<Outcome, Trouble> {
        if self.book.is_suspect(key) {
            self.known.remove(&key);
            return Ok(if found { Outcome::Deleted } else { Outcome::NotFound });
        }
        match self.known.insert(key, Known::Absent) {
            Some(Known::Version(_)) if !found => Err(Trouble::Lapse("not found, but it is there".to_owned())),
            Some(Known::Absent) if found => Err(Trouble::Lapse("deleted, but it was not there".to_owned())),
            _ => Ok(if found { Outcome::Deleted } else { Outcome::NotFound }),
        }
    }
}

//! A small cache server for the demo and for local development: memcached's text protocol over a map with a bound.
//!
//! A node can be killed (its listener and connections go, its data with them), hung (connections stay, nothing is
//! answered) and brought back. It is honest about what it is: one lock, a thread a connection, nothing to tune.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the verbs of the command come here")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::Expiry;
use moka::sync::Cache;

use super::clock;
use crate::proto::memcache::request::{self, Change, Get, Parsed, Request, Skip, StatsOf, Store, Words};
use crate::proto::memcache::{Verb, number, reply};

/// Largest value that a node takes, as memcached's default.
const VALUE_LIMIT: usize = 1 << 20;

/// Bytes that a node keeps.
const CAPACITY: u64 = 64 << 20;

/// Lifetimes above this many seconds are points in time (memcached's rule: thirty days).
const RELATIVE_LIMIT: i64 = 60 * 60 * 24 * 30;

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// It serves.
    Well,
    /// It keeps its connections and answers nothing.
    Hung,
    /// It is gone, and its data with it.
    Dead,
}

/// An item.
#[derive(Debug, Clone)]
struct Item {
    flags: u32,
    value: Arc<[u8]>,
    unique: u64,
    lifetime: Option<Duration>,
}

/// Expiry as each item has it.
struct OwnLifetime;

impl Expiry<Vec<u8>, Item> for OwnLifetime {
    fn expire_after_create(&self, _: &Vec<u8>, item: &Item, _: std::time::Instant) -> Option<Duration> {
        item.lifetime
    }

    fn expire_after_update(
        &self,
        _: &Vec<u8>,
        item: &Item,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        item.lifetime
    }
}

/// A cache server inside this process.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    items: Cache<Vec<u8>, Item>,
    unique: AtomicU64,
    hung: AtomicBool,
    running: Mutex<Option<Running>>,
    /// Writes are one at a time: an incr must not lose another.
    writing: Mutex<()>,
}

/// The sockets of a node that is not dead.
struct Running {
    stop: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Node {
    /// Starts a node on a free port of the loopback interface.
    pub(super) fn start(name: &'static str) -> io::Result<Self> {
        let items = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|key: &Vec<u8>, item: &Item| u32::try_from(key.len() + item.value.len() + 64).unwrap_or(u32::MAX))
            .expire_after(OwnLifetime)
            .build();
        let shared = Arc::new(Shared {
            items,
            unique: AtomicU64::new(0),
            hung: AtomicBool::new(false),
            running: Mutex::new(None),
            writing: Mutex::new(()),
        });
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let node = Self { name, address, shared };
        node.listen(listener)?;
        Ok(node)
    }

    fn listen(&self, listener: TcpListener) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let running = Running { stop: Arc::clone(&stop), connections: Arc::clone(&connections) };
        *lock(&self.shared.running) = Some(running);
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return; // the listener closes, connects are refused from here on
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_nodelay(true);
                if let Ok(copy) = stream.try_clone() {
                    lock(&connections).push(copy);
                }
                let shared = Arc::clone(&shared);
                let serve = move || {
                    let _ = shared.serve(stream); // whatever ends a connection is the end of this thread only
                };
                let _ = std::thread::Builder::new().spawn(serve);
            }
        })?;
        Ok(())
    }

    /// What it is doing.
    pub(super) fn condition(&self) -> Condition {
        if lock(&self.shared.running).is_none() {
            Condition::Dead
        } else if self.shared.hung.load(Ordering::Acquire) {
            Condition::Hung
        } else {
            Condition::Well
        }
    }

    /// Items that it holds.
    pub(super) fn items(&self) -> u64 {
        self.shared.items.entry_count()
    }

    /// Drops the listener, every connection and all data.
    pub(super) fn kill(&self) {
        let Some(running) = lock(&self.shared.running).take() else { return };
        running.stop.store(true, Ordering::Release);
        for connection in lock(&running.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address); // wakes the thread that accepts, so that it lets the port go
        self.shared.items.invalidate_all();
        self.shared.hung.store(false, Ordering::Release);
    }

    /// Answers nothing from now on.
    pub(super) fn hang(&self) {
        self.shared.hung.store(true, Ordering::Release);
    }

    /// Is well again, on the same address.
    pub(super) fn revive(&self) -> io::Result<()> {
        self.shared.hung.store(false, Ordering::Release);
        if lock(&self.shared.running).is_some() {
            return Ok(());
        }
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&self.address.into())?;
        socket.listen(128)?;
        self.listen(socket.into())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut input = Vec::new();
        let mut output = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        let mut skip = Skip::NONE;
        loop {
            let read = stream.read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            input.extend_from_slice(&chunk[..read]);
            while self.hung.load(Ordering::Acquire) {
                clock::pause(Duration::from_millis(20));
            }
            let (used, goes_on) = self.answer(&input, &mut skip, &mut output);
            input.drain(..used);
            stream.write_all(&output)?;
            output.clear();
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Answers the requests at the front of `input`; returns the bytes used and whether the connection goes on.
    fn answer(&self, input: &[u8], skip: &mut Skip, out: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        loop {
            at += skip.apply(&input[at..]);
            if at >= input.len() || !skip.is_none() {
                return (at, true);
            }
            match request::parse(&input[at..], VALUE_LIMIT) {
                Parsed::Incomplete { .. } => return (at, true),
                Parsed::Foreign | Parsed::Http => return (at, false),
                Parsed::Refused { len, refusal, silent, skip: rest } => {
                    at += len;
                    *skip = rest;
                    if !silent {
                        out.extend_from_slice(refusal.line());
                    }
                }
                Parsed::Complete { request: Request::Quit, .. } => return (at, false),
                Parsed::Complete { len, request } => {
                    at += len;
                    self.execute(request, out);
                }
            }
        }
    }

    fn execute(&self, request: Request<'_>, out: &mut Vec<u8>) {
        match request {
            Request::Get(get) => self.get(&get, out),
            Request::Store(store) => {
                let answer = self.store(&store).0;
                if !store.noreply {
                    out.extend_from_slice(answer);
                }
            }
            Request::Change(change) => {
                let start = out.len();
                self.change(&change, out);
                if change.noreply {
                    out.truncate(start);
                }
            }
            Request::Meta(meta) => super::meta::execute(self, &meta, out),
            Request::FlushAll { noreply, .. } => {
                self.items.invalidate_all();
                out.extend_from_slice(if noreply { b"" } else { reply::OK });
            }
            Request::Stats(StatsOf::Order(_)) => out.extend_from_slice(b"RESET\r\n"),
            Request::Stats(_) => {
                out.extend_from_slice(b"STAT curr_items ");
                number::push(out, self.items.entry_count());
                out.extend_from_slice(b"\r\nEND\r\n");
            }
            Request::Version => out.extend_from_slice(reply::VERSION),
            Request::Verbosity { noreply, .. } => out.extend_from_slice(if noreply { b"" } else { reply::OK }),
            Request::Crawl { form, .. } => out.extend_from_slice(form.end()),
            Request::MetaNoop => out.extend_from_slice(reply::META_NOOP),
            Request::Quit => {}
        }
    }

    fn get(&self, get: &Get<'_>, out: &mut Vec<u8>) {
        for key in Words::new(get.keys) {
            let Some(mut item) = self.items.get(key) else { continue };
            if let Some(exptime) = get.exptime {
                item.lifetime = lifetime(exptime.into());
                self.items.insert(key.to_vec(), item.clone());
            }
            out.extend_from_slice(b"VALUE ");
            out.extend_from_slice(key);
            out.push(b' ');
            number::push(out, item.flags.into());
            out.push(b' ');
            number::push(out, item.value.len() as u64);
            if matches!(get.verb, Verb::Gets | Verb::Gats) {
                out.push(b' ');
                number::push(out, item.unique);
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&item.value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(reply::END);
    }

    /// Stores; returns the classic answer and the meta code.
    fn store(&self, store: &Store<'_>) -> (&'static [u8], &'static str) {
        let _writing = lock(&self.writing);
        let known = self.items.get(store.key);
        let value = &store.block[..store.block.len() - 2];
        let joined = |first: &[u8], second: &[u8]| [first, second].concat().into();
        let (flags, value): (u32, Arc<[u8]>) = match (store.verb, &known) {
            (Verb::Add, None) | (Verb::Replace, Some(_)) => (store.flags, value.into()),
            (Verb::Append, Some(item)) => (item.flags, joined(&item.value, value)),
            (Verb::Prepend, Some(item)) => (item.flags, joined(value, &item.value)),
            (Verb::Cas, Some(item)) if item.unique == store.cas => (store.flags, value.into()),
            (Verb::Cas, Some(_)) => return (b"EXISTS\r\n", "EX"),
            (Verb::Cas, None) => return (b"NOT_FOUND\r\n", "NF"),
            (Verb::Set, _) => (store.flags, value.into()),
            _ => return (b"NOT_STORED\r\n", "NS"),
        };
        self.put(store.key, flags, value, lifetime(store.exptime.into()));
        (b"STORED\r\n", "HD")
    }

    fn put(&self, key: &[u8], flags: u32, value: Arc<[u8]>, lifetime: Option<Duration>) {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed) + 1;
        self.items.insert(key.to_vec(), Item { flags, value, unique, lifetime });
    }

    fn change(&self, change: &Change<'_>, out: &mut Vec<u8>) {
        let _writing = lock(&self.writing);
        let Some(item) = self.items.get(change.key) else {
            out.extend_from_slice(b"NOT_FOUND\r\n");
            return;
        };
        match change.verb {
            Verb::Delete => {
                self.items.invalidate(change.key);
                out.extend_from_slice(b"DELETED\r\n");
            }
            Verb::Touch => match number::signed(change.argument) {
                Some(exptime) => {
                    self.put(change.key, item.flags, item.value, lifetime(exptime));
                    out.extend_from_slice(b"TOUCHED\r\n");
                }
                None => out.extend_from_slice(request::Refusal::BadExptime.line()),
            },
            _ => match (number::unsigned(change.argument), number::digits_only(&item.value)) {
                (None, _) => out.extend_from_slice(request::Refusal::BadDelta.line()),
                (_, None) => {
                    out.extend_from_slice(b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n");
                }
                (Some(delta), Some(count)) => {
                    let up = change.verb == Verb::Incr;
                    let count = if up { count.wrapping_add(delta) } else { count.saturating_sub(delta) };
                    let mut text = Vec::new();
                    number::push(&mut text, count);
                    out.extend_from_slice(&text);
                    out.extend_from_slice(b"\r\n");
                    self.put(change.key, item.flags, text.into(), item.lifetime);
                }
            },
        }
    }
}

/// How long an item lives: nothing for ever, negative not at all.
fn lifetime(exptime: i64) -> Option<Duration> {
    match exptime {
        0 => None,
        ..0 => Some(Duration::ZERO),
        1..=RELATIVE_LIMIT => Some(Duration::from_secs(exptime.unsigned_abs())),
        at => Some(Duration::from_secs(exptime.unsigned_abs()).saturating_sub(clock::since_epoch())).filter(|_| at > 0),
    }
}

impl super::meta::Storage for Shared {
    fn find(&self, key: &[u8]) -> Option<super::meta::Found> {
        let item = self.items.get(key)?;
        Some(super::meta::Found { flags: item.flags, unique: item.unique, value: item.value, lifetime: item.lifetime })
    }

    fn store(&self, store: &Store<'_>) -> &'static str {
        Self::store(self, store).1
    }

    fn remove(&self, key: &[u8]) {
        self.items.invalidate(key);
    }

    fn change(&self, change: &Change<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Self::change(self, change, &mut out);
        out
    }
}

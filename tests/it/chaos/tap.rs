//! A wire to one server that writes down each request line it carries, and can go bad in many ways.
//!
//! Each direction of a connection has a thread that reads and one that writes, so that a server that does not read any
//! more never keeps a line from being written down at the moment at which the proxy sent it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ChildStderr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::support::Random;
use crate::support::bad::reset;

/// What is wrong with the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// Connects succeed, nothing is carried; a connection that has lost something never carries anything again.
    Silent,
    /// Half of what a server says, then a reset.
    Resets,
    /// Half of what a server says, then an orderly end.
    Cuts,
    /// One byte each 20 ms of what a server says.
    Drips,
    /// Random bytes in place of what a server says.
    Junk,
    /// What a server says, 300 ms later.
    Late,
    /// Every connection is closed, new ones as soon as they are accepted.
    Closes,
}

/// A request line that reached a server.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) at: Instant,
    /// When the connection was opened that it came on.
    pub(super) opened: Instant,
    pub(super) line: String,
}

/// What a server heard, in order.
pub(super) type Record = Arc<Mutex<Vec<Heard>>>;

/// Writes down what a memcached says about the requests it carries out when it is started with `-vv`.
pub(super) fn transcribe(says: ChildStderr, record: &Record) {
    let record = Arc::clone(record);
    std::thread::spawn(move || {
        for line in BufReader::new(says).split(b'\n').map_while(Result::ok) {
            // `<26 get key`; also `<26 new auto-negotiating client connection`, and `<23 server listening` at its start.
            let line = String::from_utf8_lossy(&line).into_owned();
            let Some((_, request)) = line.strip_prefix('<').and_then(|rest| rest.split_once(' ')) else { continue };
            if !request.starts_with("new ") && !request.starts_with("server ") && !request.starts_with("connection ") {
                let at = Instant::now();
                record.lock().expect("record").push(Heard { at, opened: at, line: request.to_owned() });
            }
        }
    });
}

struct Shared {
    trouble: Mutex<Trouble>,
    over: AtomicBool,
    connections: Mutex<Vec<Weak<TcpStream>>>,
    record: Record,
    /// It carries Redis's protocol.
    redis: bool,
}

impl Shared {
    fn trouble(&self) -> Trouble {
        *self.trouble.lock().expect("trouble")
    }
}

/// A wire to one server.
pub(super) struct Tap {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Tap {
    /// A good wire.
    pub(super) fn to(server: SocketAddr, record: Record, redis: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            trouble: Mutex::new(Trouble::None),
            over: AtomicBool::new(false),
            connections: Mutex::default(),
            record,
            redis,
        });
        let tap = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = match near {
                    Ok(near) => near,
                    Err(error) => {
                        eprintln!("the wire to {server} cannot take a connection: {error}");
                        continue;
                    }
                };
                if shared.over.load(Ordering::Relaxed) {
                    break;
                }
                if shared.trouble() == Trouble::Closes {
                    continue;
                }
                let Ok(far) = TcpStream::connect(server) else { continue };
                join(&shared, near, far);
            }
        });
        tap
    }

    pub(super) fn set(&self, trouble: Trouble) {
        *self.shared.trouble.lock().expect("trouble") = trouble;
        if trouble == Trouble::Closes {
            self.hang_up();
        }
    }

    /// Ends every connection, whatever the wire is like.
    pub(super) fn hang_up(&self) {
        for stream in self.shared.connections.lock().expect("connections").drain(..).filter_map(|weak| weak.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.hang_up();
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(200)); // wakes the listener
    }
}

/// Carries bytes both ways.
fn join(shared: &Arc<Shared>, near: TcpStream, far: TcpStream) {
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    // One descriptor, not copies of it: a reset is sent when the last holder lets go.
    let (near, far) = (Arc::new(near), Arc::new(far));
    {
        let mut connections = shared.connections.lock().expect("connections");
        connections.retain(|known| known.strong_count() > 0);
        connections.push(Arc::downgrade(&near));
    }
    let lossy = Arc::new(AtomicBool::new(false));
    let (to_far, requests) = channel::<Vec<u8>>();
    let (to_near, responses) = channel::<(Instant, Vec<u8>)>();
    {
        let (near, shared, lossy) = (Arc::clone(&near), Arc::clone(shared), Arc::clone(&lossy));
        std::thread::spawn(move || {
            let mut lines = Lines::new(shared.redis);
            each_chunk(&near, |chunk| {
                lines.note(chunk, &shared.record);
                let lost = lossy.load(Ordering::Relaxed) || shared.trouble() == Trouble::Silent;
                lossy.store(lost, Ordering::Relaxed);
                lost || to_far.send(chunk.to_vec()).is_ok()
            });
        });
    }
    {
        let far = Arc::clone(&far);
        std::thread::spawn(move || {
            for chunk in requests {
                if (&*far).write_all(&chunk).is_err() {
                    break;
                }
            }
            let _ = far.shutdown(Shutdown::Both);
        });
    }
    {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            each_chunk(&far, |chunk| {
                let trouble = shared.trouble();
                let lost = lossy.load(Ordering::Relaxed) || trouble == Trouble::Silent;
                lossy.store(lost, Ordering::Relaxed);
                let late = Duration::from_millis(if trouble == Trouble::Late { 300 } else { 0 });
                lost || to_near.send((Instant::now() + late, chunk.to_vec())).is_ok()
            });
        });
    }
    let shared = Arc::clone(shared);
    std::thread::spawn(move || answer(&shared, &near, &responses));
}

/// Reads until the end, or until `carry` has had enough.
fn each_chunk(mut stream: &TcpStream, mut carry: impl FnMut(&[u8]) -> bool) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        if !carry(&chunk[..read]) {
            break;
        }
    }
}

/// Says what the server said, or what the wire makes of it.
fn answer(shared: &Shared, mut near: &TcpStream, responses: &Receiver<(Instant, Vec<u8>)>) {
    let mut random = Random(7);
    for (due, chunk) in responses {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let carried = match shared.trouble() {
            Trouble::Resets => {
                let _ = near.write_all(&chunk[..chunk.len() / 2]);
                reset(near);
                // Wakes the thread that reads, so that it lets go, and says nothing to the other side.
                let _ = near.shutdown(Shutdown::Read);
                return;
            }
            Trouble::Cuts => {
                let _ = near.write_all(&chunk[..chunk.len() / 2]);
                break;
            }
            Trouble::Junk => {
                let junk: Vec<u8> = (0..chunk.len().min(300)).map(|_| random.next() as u8).collect();
                near.write_all(&[&junk, &b"\r\n"[..]].concat())
            }
            Trouble::Drips => drip(shared, near, &chunk),
            Trouble::None | Trouble::Silent | Trouble::Late | Trouble::Closes => near.write_all(&chunk),
        };
        if carried.is_err() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
}

/// One byte at a time while the trouble lasts, the rest at once.
fn drip(shared: &Shared, mut near: &TcpStream, chunk: &[u8]) -> std::io::Result<()> {
    for (index, byte) in chunk.iter().enumerate() {
        if shared.trouble() != Trouble::Drips {
            return near.write_all(&chunk[index..]);
        }
        std::thread::sleep(Duration::from_millis(20));
        near.write_all(&[*byte])?;
    }
    Ok(())
}

/// Finds the request lines in what a connection carries.
struct Lines {
    opened: Instant,
    line: Vec<u8>,
    /// Bytes of a data block that are still to come.
    block: usize,
    /// Of Redis requests the names are written down: the next line is one, or the one behind the next length.
    redis: Option<Next>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Array,
    NameLength,
    Name,
}

impl Lines {
    fn new(redis: bool) -> Self {
        Self { opened: Instant::now(), line: Vec::new(), block: 0, redis: redis.then_some(Next::Array) }
    }

    fn note(&mut self, chunk: &[u8], record: &Record) {
        let at = Instant::now();
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.block > 0 {
                let skipped = self.block.min(rest.len());
                self.block -= skipped;
                rest = &rest[skipped..];
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                self.line.extend_from_slice(rest);
                return;
            };
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = String::from_utf8_lossy(self.line.trim_ascii_end()).into_owned();
            self.line.clear();
            if let Some(next) = self.redis {
                let length = line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
                self.redis = Some(match (next, length) {
                    (Next::NameLength, Some(_)) => Next::Name,
                    (Next::Name, _) => {
                        record.lock().expect("record").push(Heard { at, opened: self.opened, line });
                        Next::Array
                    }
                    (Next::Array, Some(length)) => {
                        self.block = length + 2;
                        Next::Array
                    }
                    _ => Next::NameLength,
                });
                continue;
            }
            let word = |number: usize| line.split(' ').nth(number).and_then(|word| word.parse::<usize>().ok());
            let length = match line.split(' ').next() {
                Some("set" | "add" | "replace" | "append" | "prepend" | "cas") => word(4),
                Some("ms") => word(2),
                _ => None,
            };
            self.block = length.map_or(0, |length| length + 2);
            record.lock().expect("record").push(Heard { at, opened: self.opened, line });
        }
    }
}

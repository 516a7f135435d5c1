//! A light load that trusts nobody: every value it reads must be the one that its key demands.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::chaos::Random;
use super::clock;

/// Connections.
const CLIENTS: u64 = 8;

/// Keys that are asked for.
const KEYS: u64 = 2000;

/// Pause between the requests of one client.
const PACE: Duration = Duration::from_millis(3);

/// Upper bounds of the latency classes, in microseconds: about 12 % apart.
const CLASSES: usize = 128;

/// What the clients saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) requests: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) not_stored: AtomicU64,
    /// Error lines, closed connections, answers that never came.
    pub(super) errors: AtomicU64,
    /// Values that are not what their key demands.
    pub(super) wrong: AtomicU64,
    pub(super) slowest_us: AtomicU64,
    latencies: Vec<AtomicU64>,
    /// The first error, to show it.
    pub(super) first_error: Mutex<Option<String>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            hits: AtomicU64::default(),
            misses: AtomicU64::default(),
            stored: AtomicU64::default(),
            not_stored: AtomicU64::default(),
            errors: AtomicU64::default(),
            wrong: AtomicU64::default(),
            slowest_us: AtomicU64::default(),
            latencies: (0..CLASSES).map(|_| AtomicU64::default()).collect(),
            first_error: Mutex::new(None),
        }
    }
}

impl Seen {
    /// The latency below which `part` of the requests stayed, in microseconds.
    pub(super) fn percentile(&self, part: f64) -> u64 {
        let counts: Vec<_> = self.latencies.iter().map(|class| class.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
        let wanted = all as f64 * part;
        let mut sum = 0;
        for (class, count) in counts.iter().enumerate() {
            sum += count;
            #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
            if sum as f64 >= wanted && sum > 0 {
                return bound(class);
            }
        }
        0
    }

    fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.slowest_us.fetch_max(micros, Ordering::Relaxed);
        let class = (0..CLASSES).find(|class| bound(*class) >= micros).unwrap_or(CLASSES - 1);
        self.latencies[class].fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, what: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }
}

/// Upper bound of a class: eight classes to each doubling.
fn bound(class: usize) -> u64 {
    let (doublings, eighth) = (class / 8, class as u64 % 8);
    (16 << doublings) + (2 << doublings) * eighth
}

/// Starts the clients; they end when `stop` is set.
pub(super) fn start(address: SocketAddr, seen: &Arc<Seen>, stop: &Arc<AtomicBool>) {
    for number in 0..CLIENTS {
        let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
        let run = move || {
            let mut random = Random(number);
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = client(address, &mut random, &seen, &stop)
                    && !stop.load(Ordering::Relaxed)
                {
                    seen.error(error.to_string());
                    clock::pause(Duration::from_millis(100));
                }
            }
        };
        let _ = std::thread::Builder::new().name(format!("load-{number}")).spawn(run);
    }
}

/// The value that a key must have.
fn value_of(key: u64) -> String {
    let mut random = Random(key);
    let len = 20 + random.below(400);
    let text: String = (0..len.div_ceil(16)).map(|_| format!("{:016x}", random.next())).collect();
    format!("{key}:{text}")
}

fn client(address: SocketAddr, random: &mut Random, seen: &Seen, stop: &AtomicBool) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !stop.load(Ordering::Relaxed) {
        let number = random.below(KEYS);
        let (key, value) = (format!("demo:{number:x}:{:08x}", number.wrapping_mul(2_654_435_761)), value_of(number));
        let asked = clock::now();
        writer.write_all(format!("get {key}\r\n").as_bytes())?;
        answer(&mut reader, &mut line)?;
        let missed = line == "END\r\n";
        if missed {
            seen.misses.fetch_add(1, Ordering::Relaxed);
        } else if line.starts_with("VALUE ") {
            let len: usize = line.trim_end().rsplit(' ').next().and_then(|len| len.parse().ok()).unwrap_or(0);
            let mut found = vec![0; len + 7];
            reader.read_exact(&mut found)?;
            let right =
                line == format!("VALUE {key} 0 {len}\r\n") && found == format!("{value}\r\nEND\r\n").into_bytes();
            (if right { &seen.hits } else { &seen.wrong }).fetch_add(1, Ordering::Relaxed);
        } else {
            seen.error(line.trim_end().to_owned());
        }
        seen.note(asked.elapsed());
        if missed {
            // As a cache is used: what was missing is stored.
            let asked = clock::now();
            writer.write_all(format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()).as_bytes())?;
            answer(&mut reader, &mut line)?;
            match line.as_str() {
                "STORED\r\n" => drop(seen.stored.fetch_add(1, Ordering::Relaxed)),
                "NOT_STORED\r\n" => drop(seen.not_stored.fetch_add(1, Ordering::Relaxed)),
                other => seen.error(other.trim_end().to_owned()),
            }
            seen.note(asked.elapsed());
        }
        clock::pause(PACE);
    }
    Ok(())
}

/// Reads a line. That there is none, the connection being closed, is an error.
fn answer(reader: &mut impl BufRead, line: &mut String) -> io::Result<()> {
    line.clear();
    match reader.read_line(line)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed without an answer")),
        _ => Ok(()),
    }
}

//! Everything goes wrong, in turn and at once: clients see hits and misses, in time, and never a byte that is not theirs.
//!
//! Values say which key they belong to. A client checks each of its answers to the last byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::relay::{Relay, Wire};
use super::support::{Hiccups, Random};

/// Seconds of an ordinary run; `SOFTMISS_WEATHER_SECONDS=n` sets another number, `SOFTMISS_WEATHER_SEED=n` the seed.
const SECONDS: u64 = 6;

const CLIENTS: u64 = 6;

/// The pool's `timeout`, and what may be added to it.
const TIMEOUT: Duration = Duration::from_millis(400);
const SLACK: Duration = Duration::from_millis(50);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The value of a key: its name, over and over, of a length that is the key's own.
fn value_of(number: u64) -> Vec<u8> {
    let len = match number % 50 {
        0 => 150_000,
        1..5 => 9_000,
        _ => 10 + (number as usize * 37) % 300,
    };
    format!("{number};").into_bytes().into_iter().cycle().take(len).collect()
}

fn key_of(number: u64) -> String {
    format!("page:{:x}:{number}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)
}

#[derive(Debug, Default)]
struct Tally {
    hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
    not_stored: AtomicU64,
    slowest_us: AtomicU64,
}

/// One client's life: batches of requests in one write, each answer checked.
fn live(mut client: Client, mut random: Random, tally: &Tally, over: &AtomicBool) {
    let count = |cell: &AtomicU64, by: u64| {
        cell.fetch_add(by, Ordering::Relaxed);
    };
    while !over.load(Ordering::Relaxed) {
        let numbers: Vec<u64> = (0..1 + random.below(12)).map(|_| random.below(600)).collect();
        let kind = random.below(4);
        let mut requests = Vec::new();
        match kind {
            0 => {
                for number in &numbers {
                    let value = value_of(*number);
                    requests.extend_from_slice(
                        format!("set {} {number} 0 {}\r\n", key_of(*number), value.len()).as_bytes(),
                    );
                    requests.extend_from_slice(&value);
                    requests.extend_from_slice(b"\r\n");
                }
            }
            1 => {
                for number in &numbers {
                    requests.extend_from_slice(format!("get {}\r\n", key_of(*number)).as_bytes());
                }
            }
            2 => {
                for number in &numbers {
                    requests.extend_from_slice(format!("mg {} v f O{number}\r\n", key_of(*number)).as_bytes());
                }
            }
            _ => {
                requests.extend_from_slice(b"get");
                for number in &numbers {
                    requests.extend_from_slice(format!(" {}", key_of(*number)).as_bytes());
                }
                requests.extend_from_slice(b"\r\n");
            }
        }
        let asked = Instant::now();
        client.send(&requests);
        let mut wanted = numbers.iter();
        let mut answers = if kind == 3 { 1 } else { numbers.len() };
        while answers > 0 {
            let line = client.line();
            let mut words = line.split(' ');
            match (kind, words.next().expect("a word")) {
                (0, "STORED") => count(&tally.stored, 1),
                (0, "NOT_STORED") => count(&tally.not_stored, 1),
                (1, "END") => {
                    wanted.next();
                    count(&tally.misses, 1);
                }
                (1 | 3, "VALUE") => {
                    // In a multi-get, misses are left out; so the key must be one that is still ahead.
                    let key = words.next().expect("a key");
                    let number = wanted
                        .find(|number| kind == 1 || key_of(**number) == key)
                        .unwrap_or_else(|| panic!("{key} was not asked for, or not here"));
                    let value = value_of(*number);
                    assert_eq!(line, format!("VALUE {} {number} {}", key_of(*number), value.len()));
                    let mut expected = value;
                    expected.extend_from_slice(if kind == 1 { b"\r\nEND\r\n" } else { b"\r\n" });
                    assert!(client.read(expected.len()) == expected, "a wrong value for {key}");
                    count(&tally.hits, 1);
                    if kind == 3 {
                        continue;
                    }
                }
                (2, "EN") => {
                    let number = wanted.next().expect("an answer too many");
                    assert_eq!(line, format!("EN O{number}"));
                    count(&tally.misses, 1);
                }
                (2, "VA") => {
                    let number = wanted.next().expect("an answer too many");
                    let mut expected = value_of(*number);
                    assert_eq!(line, format!("VA {} f{number} O{number}", expected.len()));
                    expected.extend_from_slice(b"\r\n");
                    assert!(client.read(expected.len()) == expected, "a wrong value for number {number}");
                    count(&tally.hits, 1);
                }
                (3, "END") => {}
                _ => panic!("an unexpected answer: {line}"),
            }
            answers -= 1;
        }
        assert!(client.rest().is_empty(), "bytes that nobody asked for: {:?}", client.rest());
        let took = u64::try_from(asked.elapsed().as_micros()).expect("no age");
        tally.slowest_us.fetch_max(took, Ordering::Relaxed);
    }
}

/// A proxy with these process settings and pool lines, clients before it, and faults behind it.
fn storm(settings: &str, more: &[&str]) {
    let seed = setting("SOFTMISS_WEATHER_SEED", 1);
    let span = Duration::from_secs(setting("SOFTMISS_WEATHER_SECONDS", SECONDS));
    println!("seed {seed}");
    let mut servers: Vec<_> = (0..4).map(|_| Process::memcached()).collect();
    let relays: Vec<_> = servers.iter().map(|server| Relay::to(server.address)).collect();
    let addresses: Vec<_> = relays.iter().map(|relay| relay.address).collect();
    let port = free_port();
    let mut file = format!(
        "{settings}pool:\n  listen: 127.0.0.1:{port}\n  timeout: {}\n  auto_eject_hosts: true\n  \
         server_failure_limit: 3\n  server_retry_timeout: 500\n  on_failure: miss\n  flap_limit: 0\n  \
         server_reconnect_limit: 1000\n",
        TIMEOUT.as_millis()
    );
    more.iter().for_each(|line| file.push_str(&format!("  {line}\n")));
    file.push_str("  servers:\n");
    addresses.iter().for_each(|address| file.push_str(&format!("   - {address}:1\n")));
    let proxy = Proxy::with_file(&file, port).expect_log("server ejected").expect_log("server broke the protocol");
    let hiccups = Hiccups::watch();
    let tally = Arc::new(Tally::default());
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (client, tally, over) = (proxy.client(), Arc::clone(&tally), Arc::clone(&over));
            std::thread::spawn(move || live(client, Random(seed * 1000 + number), &tally, &over))
        })
        .collect();
    let mut random = Random(seed);
    let start = Instant::now();
    let mut faults = 0;
    while start.elapsed() < span && clients.iter().all(|client| !client.is_finished()) {
        // Mostly one server, sometimes two, now and then all of them.
        let hit = match random.below(8) {
            0 => 4,
            1 | 2 => 2,
            _ => 1,
        };
        let first = random.below(4) as usize;
        let victims: Vec<_> = (0..hit).map(|step| (first + step) % 4).collect();
        for victim in &victims {
            match random.below(12) {
                0 => {
                    let port = servers[*victim].address.port();
                    servers[*victim].kill();
                    servers[*victim] = Process::memcached_on(port);
                }
                1 => servers[*victim].signal("STOP"),
                kind => relays[*victim].set(Wire::BAD[kind as usize % Wire::BAD.len()]),
            }
            faults += 1;
        }
        std::thread::sleep(Duration::from_millis(100 + random.below(500)));
        for victim in &victims {
            servers[*victim].signal("CONT");
            relays[*victim].set(Wire::Good);
        }
        std::thread::sleep(Duration::from_millis(random.below(500)));
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client saw what it must never see");
    }
    let slowest = Duration::from_micros(tally.slowest_us.load(Ordering::Relaxed));
    // A request and its answer pass two programs here, each of which the machine may keep waiting.
    let slack = SLACK + 2 * hiccups.longest();
    println!("{faults} faults, slowest {slowest:?}, slack {slack:?}, {tally:?}");
    let of = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
    assert!(faults > 4 && of(&tally.hits) > 1000 && of(&tally.misses) > 100 && of(&tally.stored) > 100);
    assert!(slowest <= TIMEOUT + slack, "{slowest:?} with a slack of {slack:?}");
    // The weather has cleared. A wire that has lost bytes may still carry answers one place late, so each gets a fresh
    // connection; then everybody is back, and everything can be stored and found.
    for relay in &relays {
        relay.set(Wire::Closes);
        relay.set(Wire::Good);
    }
    super::support::wait_until("every server back", Duration::from_secs(5), || {
        let statistics = proxy.statistics();
        addresses.iter().all(|address| statistics["pool"][address.to_string()]["state"] == "up")
    });
    let mut client = proxy.client();
    for number in 0..600 {
        let value = value_of(number);
        let request = [format!("set {} 0 0 {}\r\n", key_of(number), value.len()).as_bytes(), &value, b"\r\n"].concat();
        assert_eq!(client.ask(request), "STORED");
        client.send(format!("get {}\r\n", key_of(number)));
        let expected =
            [format!("VALUE {} 0 {}\r\n", key_of(number), value.len()).as_bytes(), &value, b"\r\nEND\r\n"].concat();
        assert!(client.read(expected.len()) == expected);
    }
    let busy = proxy.busy();
    std::thread::sleep(Duration::from_millis(300));
    let busy = proxy.busy() - busy;
    assert!(busy < Duration::from_millis(100), "busy for {busy:?} of 300 ms with nothing to do");
}

#[test]
fn bad_weather_costs_hits_and_nothing_else() {
    storm("", &[]);
}

#[test]
fn bad_weather_costs_no_more_with_several_workers_and_connections() {
    storm("softmiss:\n  workers: 2\n", &["server_connections: 3", "preconnect: true"]);
}

#[test]
fn bad_weather_costs_no_more_with_every_safeguard() {
    storm("softmiss:\n  workers: 2\n", &["rejoin: safe", "failover_ttl: 60s", "server_connections: 2", "rise: 2"]);
    storm("", &["rejoin: safe", "on_eject: hold", "max_ejected_percent: 75"]);
    storm("", &["rejoin: flush", "stall_detection: false"]);
}

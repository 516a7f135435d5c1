//! How many requests wait while one of four servers hangs: ours against twemproxy's, before the same servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use super::book::Speaks;
use super::fault::{Fault, Server};
use super::{RETRY, SERVERS, TIMEOUT, row};
use crate::support::Random;
use crate::support::process::{Process, free_port};

/// So many that those who wait leave enough others: each asks 10 times a second, 2000 times all together.
const CLIENTS: u64 = 200;
const EVERY: Duration = Duration::from_millis(100);

/// Longer than this is waiting.
const PATIENCE: Duration = Duration::from_millis(100);

/// The load as a whole, and the hang within it.
const SPAN: Duration = Duration::from_secs(5);
const HANG: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(4));

/// What clients of one proxy saw.
#[derive(Debug, Default)]
struct Seen {
    requests: u32,
    /// Requests that waited, those that could not even be sent among them.
    waited: u32,
    errors: u32,
    slowest: Duration,
}

/// Reads the answer to a get of one key; whether it is a hit or a miss.
fn is_answered(stream: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    let _ = stream.read_line(&mut line).expect("an answer");
    if let Some(length) = line.strip_prefix("VALUE ").and_then(|rest| rest.trim_end().split(' ').nth(2)) {
        let mut value = vec![0; length.parse::<usize>().expect("a length") + b"\r\nEND\r\n".len()];
        stream.read_exact(&mut value).expect("a value");
        return value.ends_with(b"\r\nEND\r\n");
    }
    line == "END\r\n"
}

/// One client: asks at fixed times. A time at which it still waits for an answer is one at which a request waits too.
fn ask(address: SocketAddr, keys: &[String], number: u64, start: Instant) -> Seen {
    let connect = || BufReader::new(TcpStream::connect(address).expect("connect"));
    let mut stream = connect();
    let mut random = Random(number);
    let mut seen = Seen::default();
    let mut due = start + EVERY * number as u32 / CLIENTS as u32;
    while due < start + SPAN {
        sleep(due.saturating_duration_since(Instant::now()));
        let key = &keys[random.below(keys.len() as u64) as usize];
        stream.get_ref().write_all(format!("get {key}\r\n").as_bytes()).expect("send");
        if !is_answered(&mut stream) {
            seen.errors += 1;
        }
        let took = due.elapsed();
        seen.requests += 1;
        seen.waited += u32::from(took > PATIENCE);
        seen.slowest = seen.slowest.max(took);
        due += EVERY;
        while due < Instant::now() {
            seen.requests += 1;
            seen.waited += 1;
            due += EVERY;
        }
    }
    seen
}

fn ask_all(address: SocketAddr, keys: &[String], start: Instant) -> impl FnOnce() -> Seen + use<> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let keys = keys.to_vec();
            spawn(move || ask(address, &keys, number, start))
        })
        .collect();
    move || {
        clients.into_iter().fold(Seen::default(), |sum, client| {
            let seen = client.join().expect("a client");
            Seen {
                requests: sum.requests + seen.requests,
                waited: sum.waited + seen.waited,
                errors: sum.errors + seen.errors,
                slowest: sum.slowest.max(seen.slowest),
            }
        })
    }
}

#[test]
fn a_hang_keeps_a_tenth_of_the_requests_waiting_that_wait_with_twemproxy() {
    row::go_first();
    let mut servers = vec![Server::before(Speaks::Memcached, Fault::Stopped)];
    servers.extend((1..SERVERS).map(|_| Server::plain(Speaks::Memcached, &[])));
    let (proxy, book) = row::set_up("", "", &servers, 8);
    let keys: Vec<_> = book.keys.iter().map(|key| key.name.clone()).collect();
    let mut client = proxy.client();
    for key in &keys {
        assert_eq!(client.ask(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len())), "STORED");
    }
    let port = free_port();
    let mut file = format!(
        "pool:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  timeout: {}\n  \
         server_failure_limit: 3\n  server_retry_timeout: {}\n  auto_eject_hosts: true\n  servers:\n",
        TIMEOUT.as_millis(),
        RETRY.as_millis()
    );
    servers.iter().for_each(|server| file.push_str(&format!("    - {}:1\n", server.address)));
    let path = proxy.file.with_file_name("nutcracker.yml");
    std::fs::write(&path, file).expect("write the file");
    let nutcracker = Process::nutcracker(&path, port);
    let start = Instant::now() + Duration::from_millis(300);
    let theirs = ask_all(nutcracker.address, &keys, start);
    let ours = ask_all(proxy.address, &keys, start);
    sleep((start + HANG.0).saturating_duration_since(Instant::now()));
    servers[0].break_down(Fault::Stopped);
    sleep(HANG.1);
    servers[0].recover(Fault::Stopped);
    let (theirs, ours) = (theirs(), ours());
    println!(
        "a hang of {:?}, of {} requests so many waited longer than {PATIENCE:?}: {} with nutcracker ({} errors, slowest \
         {:?}), {} with softmiss ({} errors, slowest {:?})",
        HANG.1, ours.requests, theirs.waited, theirs.errors, theirs.slowest, ours.waited, ours.errors, ours.slowest
    );
    assert_eq!(ours.errors, 0);
    assert!(theirs.waited > 100, "no hang to speak of: {theirs:?}");
    assert!(ours.waited * 10 <= theirs.waited, "{} with softmiss, {} with nutcracker", ours.waited, theirs.waited);
}

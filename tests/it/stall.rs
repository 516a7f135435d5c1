//! A server that goes silent is noticed before its first timeout; one that is slow is not taken for it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::support::bad::{Scripted, read_line, value_of};
use super::support::process::{Process, Proxy};
use super::support::relay::{Relay, Wire};
use super::support::script::Stage;
use super::support::{scattered_key, wait_until};

fn figure(proxy: &Proxy, server: &str, name: &str) -> u64 {
    proxy.statistics()["pool"][server][name].as_u64().unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn requests_after_the_first_do_not_wait_for_a_silent_server() {
    let mut stage = Stage::start(1, &["timeout: 400", "on_failure: miss", "server_failure_limit: 3"]);
    stage.client.send("get a\r\n");
    stage.servers[0].receive("get a\r\n");
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(100));
    let mut other = stage.proxy.client();
    let (answer, took) = other.ask_timed("get b\r\n");
    assert_eq!(answer, "END");
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert_eq!(other.ask("set b 0 0 1\r\nx\r\n"), "NOT_STORED");
    // The one that was asked before is the test: its answer is waited for, and ends the suspicion.
    stage.servers[0].answer("VALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(stage.client.line(), "VALUE a 0 1");
    assert!(start.elapsed() < Duration::from_millis(400));
    stage.client.read(8);
    // What was refused meanwhile is made up for before anything else: nobody reads what was to be overwritten.
    stage.servers[0].receive("delete b\r\n");
    stage.servers[0].answer("NOT_FOUND\r\n");
    other.send("get c\r\n");
    stage.servers[0].receive("get c\r\n");
    stage.servers[0].answer("END\r\n");
    assert_eq!(other.line(), "END");
    let statistics = stage.proxy.statistics();
    assert_eq!(statistics["pool"]["degraded_stalled"], 2);
}

#[test]
fn without_stall_detection_everybody_waits() {
    let mut stage = Stage::start(1, &["timeout: 300", "on_failure: miss", "stall_detection: false"]);
    stage.client.send("get a\r\n");
    stage.servers[0].receive("get a\r\n");
    std::thread::sleep(Duration::from_millis(100));
    let (answer, took) = stage.proxy.client().ask_timed("get b\r\n");
    assert_eq!(answer, "END");
    assert!(took >= Duration::from_millis(290), "{took:?}");
}

/// Asks, from several clients, for keys that are there; returns how many were found and how many not.
fn load(proxy: &Proxy, clients: u64, pause: Duration, span: Duration) -> (u64, u64) {
    let (hits, misses) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..clients)
        .map(|name| {
            let (mut client, over) = (proxy.client(), Arc::clone(&over));
            let (hits, misses) = (Arc::clone(&hits), Arc::clone(&misses));
            std::thread::spawn(move || {
                let mut number = name;
                std::thread::sleep(Duration::from_millis(7 * name)); // so that someone asks at any time
                while !over.load(Ordering::Relaxed) {
                    number = (number + 7) % 100;
                    let answer = client.exchange(format!("get {}\r\n", scattered_key(number)).as_bytes());
                    let cell = if answer == b"END\r\n" { &misses } else { &hits };
                    cell.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(pause);
                }
            })
        })
        .collect();
    std::thread::sleep(span);
    over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("a client"));
    (hits.load(Ordering::Relaxed), misses.load(Ordering::Relaxed))
}

#[test]
fn a_server_that_answers_slowly_is_used_all_the_same() {
    let server = Process::memcached();
    let relay = Relay::to(server.address);
    let proxy = Proxy::start(
        &[relay.address],
        &["timeout: 400", "auto_eject_hosts: true", "server_failure_limit: 3", "server_retry_timeout: 1000"],
    );
    let mut client = proxy.client();
    for number in 0..100 {
        assert_eq!(client.ask(format!("set {} 0 0 1\r\nx\r\n", scattered_key(number))), "STORED");
    }
    let name = relay.address.to_string();
    assert_eq!(figure(&proxy, &name, "stalls"), 0);
    relay.set(Wire::Lags);
    // Its slowness has to be learned.
    let (_, misses) = load(&proxy, 50, Duration::from_millis(50), Duration::from_millis(1000));
    println!("{misses} misses until its latency was known");
    assert!(misses > 0 && figure(&proxy, &name, "stalls") > 0, "at first it looks like a silent one");
    let (hits, misses) = load(&proxy, 50, Duration::from_millis(50), Duration::from_millis(2500));
    println!("then {hits} hits and {misses} misses");
    assert_eq!(misses, 0, "a slow server is not a silent one");
    assert!(hits > 200, "{hits}");
    // Not even after a pause, in which nothing is heard because nothing is asked.
    std::thread::sleep(Duration::from_millis(600));
    let (hits, misses) = load(&proxy, 50, Duration::from_millis(50), Duration::from_millis(1000));
    assert_eq!(misses, 0, "after a pause; {hits} hits");
    assert_eq!(figure(&proxy, &name, "failures_in_a_row"), 0);
}

#[test]
fn a_pause_of_the_proxy_itself_is_no_silence_of_the_server() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 400"]);
    let mut client = proxy.client();
    for round in 0..10 {
        client.send(format!("get {round}\r\n"));
        proxy.signal("STOP");
        std::thread::sleep(Duration::from_millis(80));
        proxy.signal("CONT");
        assert_eq!(client.line(), "END");
        assert_eq!(proxy.client().ask(format!("set {round} 0 0 1\r\nx\r\n")), "STORED", "{round}");
    }
    assert_eq!(figure(&proxy, &server.address.to_string(), "stalls"), 0);
}

#[test]
fn a_silent_server_is_found_out_although_nobody_is_sent_to_it() {
    let server = Process::memcached();
    let proxy = Proxy::start(
        &[server.address],
        &["timeout: 200", "auto_eject_hosts: true", "server_failure_limit: 4", "server_retry_timeout: 60000"],
    )
    .expect_log("server ejected");
    let mut client = proxy.client();
    assert_eq!(client.ask("get a\r\n"), "END");
    server.signal("STOP");
    let start = Instant::now();
    client.ask("get a\r\n"); // the only one that ever waits
    wait_until("its ejection", Duration::from_secs(3), || {
        proxy.log().iter().any(|line| line.contains("server ejected"))
    });
    let took = start.elapsed();
    server.signal("CONT");
    assert!(took <= Duration::from_millis(4 * 200 + 100), "{took:?}");
    assert_eq!(
        figure(&proxy, &server.address.to_string(), "requests") - 1,
        2,
        "the request, and a test of the proxy's"
    );
}

#[test]
fn what_a_silent_server_was_not_told_it_is_told_when_it_speaks_again() {
    let mut stage =
        Stage::start(1, &["timeout: 2000", "stall_min: 50ms", "on_failure: miss", "rejoin: safe", "on_eject: hold"]);
    stage.client.send("get a\r\n");
    stage.servers[0].receive("get a\r\nstats\r\n"); // and who it is
    std::thread::sleep(Duration::from_millis(100));
    let mut other = stage.proxy.client();
    assert_eq!(other.ask("delete b\r\n"), "NOT_FOUND");
    assert_eq!(other.ask("md Yw== b\r\n"), "NF");
    assert_eq!(other.ask("set d 0 0 1\r\nx\r\n"), "NOT_STORED");
    stage.servers[0].answer("END\r\nSTAT pid 7\r\nSTAT uptime 100\r\nEND\r\n");
    assert_eq!(stage.client.line(), "END");
    stage.servers[0].receive("delete b\r\nmd Yw== b\r\ndelete d\r\n");
    stage.servers[0].answer("DELETED\r\nHD\r\nNOT_FOUND\r\n");
    // And a flush is remembered whatever the policy of rejoining.
    stage.client.send("get a\r\n");
    stage.servers[0].receive("get a\r\n");
    std::thread::sleep(Duration::from_millis(350)); // longer than twice the 100 ms that its answer took before
    assert_eq!(other.ask("flush_all\r\n"), "OK");
    stage.servers[0].answer("END\r\n");
    assert_eq!(stage.client.line(), "END");
    stage.servers[0].receive("flush_all\r\n");
    stage.servers[0].answer("OK\r\n");
    stage.check_silence("after it was told everything");
}

#[test]
fn the_noise_of_a_healthy_server_is_no_silence() {
    // Mostly fast, now and then 20 ms, and once in fifty answers 60 ms, which is longer than `stall_min`.
    let answered = AtomicU64::new(0);
    let server = Scripted::start(move |mut stream| {
        let mut buffer = Vec::new();
        while let Some(line) = read_line(&mut stream, &mut buffer) {
            let pause = match answered.fetch_add(1, Ordering::Relaxed) {
                turn if turn % 50 == 49 => 60,
                turn if turn % 7 == 6 => 20,
                _ => 0,
            };
            std::thread::sleep(Duration::from_millis(pause));
            if stream.write_all(&value_of(&line, "here")).is_err() {
                break;
            }
        }
    });
    let proxy = Proxy::start(&[server.address], &["timeout: 400"]);
    load(&proxy, 10, Duration::from_millis(3), Duration::from_millis(1500)); // its peaks have to be learned
    let name = server.address.to_string();
    let before = figure(&proxy, &name, "stalls");
    let (hits, misses) = load(&proxy, 10, Duration::from_millis(3), Duration::from_millis(3000));
    println!("{hits} hits, {misses} misses, {before} stalls while it was learned");
    assert_eq!((misses, figure(&proxy, &name, "stalls") - before), (0, 0));
    assert!(hits > 200, "{hits}");
}

//! A server comes back with what it had, while the world has moved on: `rejoin`, `on_eject`, `failover_ttl`.
//!
//! Clients write and read keys of their own, each value with a version. A read must never show a version older than the
//! last write that was acknowledged, nor anything from before an answered delete. With `rejoin: keep` it does, which
//! shows that these tests can see it.
//!
//! `SOFTMISS_PARTITION_SECONDS=20` makes the server be away for longer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::http::post;
use super::support::process::{Process, Proxy, free_port};
use super::support::relay::{Relay, Wire};
use super::support::{Random, scattered_key, wait_until};

const KEYS: u64 = 150;

#[derive(Debug, Default)]
struct Tally {
    hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
    stale: AtomicU64,
    /// Reads of keys that were once seen on the server that went away, after it was back.
    hits_after: AtomicU64,
}

/// A key's story, as its only writer knows it.
#[derive(Debug, Clone, Default)]
struct Story {
    /// The last version that was sent.
    written: u64,
    /// Versions below this one must not be seen any more.
    floor: u64,
}

/// Reads and writes keys of its own until it is over.
fn live(mut client: Client, name: u64, tally: &Tally, back: &AtomicBool, over: &AtomicBool) {
    let mut random = Random(name);
    let mut stories = vec![Story::default(); KEYS as usize];
    let count = |cell: &AtomicU64| cell.fetch_add(1, Ordering::Relaxed);
    while !over.load(Ordering::Relaxed) {
        let number = random.below(KEYS);
        let (key, story) = (scattered_key(name << 32 | number), &mut stories[number as usize]);
        match random.below(10) {
            0..4 => {
                story.written += 1;
                let value = format!("{key} {}", story.written);
                match client.ask(format!("set {key} 0 0 {}\r\n{value}\r\n", value.len())).as_str() {
                    "STORED" => {
                        story.floor = story.written;
                        count(&tally.stored);
                    }
                    "NOT_STORED" => {}
                    other => panic!("{other}"),
                }
            }
            4 => {
                let answer = client.ask(format!("delete {key}\r\n"));
                assert!(answer == "DELETED" || answer == "NOT_FOUND", "{answer}");
                story.written += 1;
                story.floor = story.written;
            }
            _ => {
                let answer = client.ask(format!("get {key}\r\n"));
                if answer == "END" {
                    count(&tally.misses);
                    continue;
                }
                let value = client.line();
                assert_eq!(client.line(), "END");
                let (named, version) = value.split_once(' ').expect("a value of ours");
                assert_eq!(named, key, "a value of another key");
                count(&tally.hits);
                if back.load(Ordering::Relaxed) {
                    count(&tally.hits_after);
                }
                if version.parse::<u64>().expect("a version") < story.floor {
                    count(&tally.stale);
                }
            }
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// How the server goes away.
#[derive(Clone, Copy, PartialEq)]
enum Away {
    /// The network swallows everything.
    Cut,
    /// Its process is stopped: what had reached it is carried out when it goes on.
    Stopped,
    /// The operator ejects it.
    Ejected,
    /// The operator drains it.
    Drained,
}

/// Takes one server of three away for a while; returns the number of stale reads.
fn absence(away: Away, settings: &str, more: &[&str]) -> u64 {
    absence_of_one_of(away, [1, 1, 1], settings, more)
}

/// The same, with servers of these weights.
fn absence_of_one_of(away: Away, weights: [u32; 3], settings: &str, more: &[&str]) -> u64 {
    let span = std::env::var("SOFTMISS_PARTITION_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let relay = Relay::to(servers[0].address);
    let victim = if away == Away::Cut { relay.address } else { servers[0].address };
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let section = if settings.is_empty() { "softmiss:\n" } else { settings };
    let operates = |word: &str| {
        let answer = post(admin, &format!("/servers/{word}?server=a"));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let mut file = format!(
        "{section}  admin: {admin}\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 200\n  auto_eject_hosts: true\n  \
         server_failure_limit: 3\n  server_retry_timeout: 1000\n"
    );
    more.iter().for_each(|line| file.push_str(&format!("  {line}\n")));
    file.push_str("  servers:\n");
    [victim, servers[1].address, servers[2].address]
        .iter()
        .zip(weights)
        .zip("abc".chars())
        .for_each(|((address, weight), name)| file.push_str(&format!("   - {address}:{weight} {name}\n")));
    let proxy = Proxy::with_file(&file, port).expect_log("server ejected").expect_log("server drained");
    let tally = Arc::new(Tally::default());
    let (back, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|name| {
            let (client, tally) = (proxy.client(), Arc::clone(&tally));
            let (back, over) = (Arc::clone(&back), Arc::clone(&over));
            std::thread::spawn(move || live(client, name, &tally, &back, &over))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    match away {
        Away::Cut => relay.set(Wire::Silent),
        Away::Stopped => servers[0].signal("STOP"),
        Away::Ejected => operates("eject"),
        Away::Drained => operates("drain"),
    }
    let told = if away == Away::Drained { "server drained" } else { "server ejected" };
    proxy.wait_for_log(told, Duration::from_secs(3));
    std::thread::sleep(Duration::from_secs(span));
    let well = Instant::now();
    match away {
        Away::Cut => {
            relay.set(Wire::Closes); // what was swallowed is lost, so these connections are of no use to anyone
            relay.set(Wire::Good);
        }
        Away::Stopped => servers[0].signal("CONT"),
        Away::Ejected | Away::Drained => operates("restore"),
    }
    proxy.wait_for_log("server restored", Duration::from_secs(5));
    let took = well.elapsed();
    back.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(2));
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("a client saw what it must never see"));
    let restored = proxy.log().into_iter().find(|line| line.contains("server restored")).expect("it was there");
    println!("{tally:?}, restored {took:?} after it was well: {restored}");
    assert!(took <= Duration::from_secs(2), "back {took:?} after it was well");
    let of = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
    assert!(of(&tally.stored) > 500 && of(&tally.hits_after) > 300, "{tally:?}");
    of(&tally.stale)
}

#[test]
fn with_keep_a_server_that_was_cut_off_serves_what_is_long_out_of_date() {
    let stale = absence(Away::Cut, "", &["rejoin: keep"]);
    assert!(stale > 0, "this test would not see a stale value");
}

#[test]
fn with_safe_a_server_that_was_cut_off_serves_nothing_out_of_date() {
    assert_eq!(absence(Away::Cut, "", &["rejoin: safe"]), 0);
}

#[test]
fn with_safe_a_server_that_was_stopped_serves_nothing_out_of_date() {
    let more = ["rejoin: safe", "server_connections: 2"];
    assert_eq!(absence(Away::Stopped, "softmiss:\n  workers: 2\n", &more), 0);
}

#[test]
fn with_hold_and_safe_nothing_moves_and_nothing_is_out_of_date() {
    assert_eq!(absence(Away::Cut, "", &["rejoin: safe", "on_eject: hold"]), 0);
    assert_eq!(absence(Away::Stopped, "", &["rejoin: safe", "on_eject: hold"]), 0);
}

#[test]
fn with_safe_servers_of_different_weights_hand_over_their_keys() {
    // The shares of the others change as well when one leaves: some keys move between two that are always there.
    assert_eq!(absence_of_one_of(Away::Cut, [5, 1, 3], "", &["rejoin: safe"]), 0);
}

#[test]
fn with_flush_a_server_comes_back_empty() {
    assert_eq!(absence(Away::Stopped, "", &["rejoin: flush"]), 0);
}

#[test]
fn with_safe_a_server_that_the_operator_took_out_serves_nothing_out_of_date() {
    let more = ["rejoin: safe", "server_connections: 2"];
    assert!(absence(Away::Drained, "", &["rejoin: keep"]) > 0, "this test would not see a stale value");
    assert_eq!(absence(Away::Drained, "softmiss:\n  workers: 2\n", &more), 0);
    assert_eq!(absence(Away::Ejected, "softmiss:\n  workers: 2\n", &more), 0);
    assert_eq!(absence(Away::Drained, "", &["rejoin: safe", "on_eject: hold"]), 0);
}

const EJECTING: [&str; 4] =
    ["timeout: 200", "auto_eject_hosts: true", "server_failure_limit: 2", "server_retry_timeout: 500"];

fn state(proxy: &Proxy, server: &str) -> String {
    proxy.statistics()["pool"][server]["state"].as_str().expect("a state").to_owned()
}

#[test]
fn with_hold_an_ejected_server_keeps_its_keys() {
    let mut servers = [Process::memcached(), Process::memcached()];
    let addresses = [servers[0].address, servers[1].address];
    let more = [&EJECTING[..], &["on_eject: hold"]].concat();
    let proxy = Proxy::start(&addresses, &more).expect_log("server ejected");
    let mut client = proxy.client();
    let keys: Vec<_> = (0..200).map(scattered_key).collect();
    for key in &keys {
        assert_eq!(client.ask(format!("set {key} 0 0 1\r\nx\r\n")), "STORED");
    }
    servers[0].kill();
    let name = addresses[0].to_string();
    wait_until("its ejection", Duration::from_secs(2), || {
        client.ask("mn\r\n");
        for key in &keys[..20] {
            client.ask(format!("delete {key} noreply\r\nmn\r\n"));
        }
        state(&proxy, &name) != "up"
    });
    let mut held = 0;
    for key in &keys[20..] {
        match client.ask(format!("set {key} 0 0 1\r\ny\r\n")).as_str() {
            "STORED" => {}
            "NOT_STORED" => held += 1,
            other => panic!("{other}"),
        }
    }
    assert!(held > 20 && held < 180, "{held} of 180 keys are the dead server's");
    let mut survivor = servers[1].client();
    let found = keys[20..].iter().filter(|key| {
        survivor.send(format!("get {key}\r\n"));
        survivor.read_through(b"END\r\n") != b"END\r\n"
    });
    assert_eq!(found.count(), 180 - held, "no key of the dead server's was written elsewhere");
}

#[test]
fn what_is_written_away_from_home_lives_as_long_as_the_file_says() {
    let mut servers = [Process::memcached(), Process::memcached()];
    let addresses = [servers[0].address, servers[1].address];
    let more = [&EJECTING[..], &["failover_ttl: 60s"]].concat();
    let proxy = Proxy::start(&addresses, &more).expect_log("server ejected");
    let mut client = proxy.client();
    let keys: Vec<_> = (0..100).map(scattered_key).collect();
    // Where each key is at home.
    for key in &keys {
        assert_eq!(client.ask(format!("set {key} 0 0 1\r\nx\r\n")), "STORED");
    }
    let mut survivor = servers[1].client();
    let stays: Vec<bool> = keys.iter().map(|key| survivor.ask(format!("mg {key}\r\n")) == "HD").collect();
    servers[0].kill();
    let name = addresses[0].to_string();
    wait_until("its ejection", Duration::from_secs(2), || {
        for key in &keys {
            client.ask(format!("mg {key}\r\n"));
        }
        state(&proxy, &name) != "up"
    });
    let lifetime = |survivor: &mut Client, key: &str| -> i64 {
        survivor.ask(format!("mg {key} t\r\n")).strip_prefix("HD t").expect("a lifetime").parse().expect("a number")
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    for (index, (key, stays)) in keys.iter().zip(stays).enumerate() {
        if index % 8 == 7 && stays {
            continue; // it is there, and no number
        }
        let (request, asked) = match index % 8 {
            0 => (format!("set {key} 0 0 1\r\ny\r\n"), -1),
            1 => (format!("set {key} 0 3000 1\r\ny\r\n"), 3000),
            2 => (format!("set {key} 0 30 1\r\ny\r\n"), 30),
            3 => (format!("set {key} 0 {} 1\r\ny\r\n", now + 5000), 5000),
            4 => (format!("ms {key} 1\r\ny\r\n"), -1),
            5 => (format!("ms {key} 1 T500\r\ny\r\n"), 500),
            6 => (format!("set {key} 0 10 1\r\ny\r\nmn\r\n"), 10),
            _ => (format!("ma {key} N900 q\r\nmn\r\n"), 900),
        };
        assert!(["STORED", "HD", "MN"].contains(&client.ask(&request).as_str()), "{request}");
        if index % 8 == 6 {
            assert_eq!(client.line(), "MN");
            assert_eq!(client.ask(format!("touch {key} 700\r\n")), "TOUCHED");
        }
        let asked = if index % 8 == 6 { 700 } else { asked };
        let lives = lifetime(&mut survivor, key);
        let capped = if asked < 0 { 60 } else { asked.min(60) };
        let expected = if stays { asked } else { capped };
        // memcached counts in whole seconds, by a clock of its own that may be one behind.
        let near = expected - 3..=expected + 1;
        assert!(near.contains(&lives), "{request:?}: lives {lives} s, at home: {stays}");
    }
}

#[test]
fn a_restarted_server_is_told_from_one_that_was_away() {
    let mut servers = [Process::memcached(), Process::memcached()];
    let addresses = [servers[0].address, servers[1].address];
    let more = [&EJECTING[..], &["rejoin: safe"]].concat();
    let proxy = Proxy::start(&addresses, &more).expect_log("server ejected");
    let mut client = proxy.client();
    let outage = |client: &mut Client, restored: usize| {
        wait_until("its ejection", Duration::from_secs(3), || {
            for number in 0..20 {
                client.ask(format!("delete {}\r\n", scattered_key(number)));
            }
            state(&proxy, &addresses[0].to_string()) != "up"
        });
        move |proxy: &Proxy| {
            wait_until("its return", Duration::from_secs(4), || {
                proxy.log().iter().filter(|line| line.contains("server restored")).count() == restored
            });
            proxy.log().into_iter().rfind(|line| line.contains("server restored")).expect("it was there")
        }
    };
    // It is known to be well: of one that was never reached, nobody knows what it missed.
    for number in 0..20 {
        client.ask(format!("get {}\r\n", scattered_key(number)));
    }
    servers[0].signal("STOP");
    let back = outage(&mut client, 1);
    servers[0].signal("CONT");
    let line = back(&proxy);
    assert!(line.contains("restarted=false") && !line.contains("forgotten_keys=0 "), "{line}");
    servers[0].kill();
    let back = outage(&mut client, 2);
    servers[0] = Process::memcached_on(addresses[0].port());
    let line = back(&proxy);
    assert!(line.contains("restarted=true"), "{line}");
}

#[test]
fn with_hold_nobody_waits_for_an_ejected_server_and_nothing_is_sent_to_it() {
    let server = Process::memcached();
    let more = [&EJECTING[..], &["on_eject: hold", "server_retry_timeout: 60000"]].concat();
    let more: Vec<_> = more.into_iter().filter(|line| *line != "server_retry_timeout: 500").collect();
    let proxy = Proxy::start(&[server.address], &more).expect_log("server ejected");
    let mut client = proxy.client();
    assert_eq!(client.ask("get a\r\n"), "END");
    server.signal("STOP");
    // A request may still be answered by a process that is about to stop.
    wait_until("server ejected", Duration::from_secs(3), || {
        client.ask("get a\r\n");
        proxy.log().iter().any(|line| line.contains("server ejected"))
    });
    let earlier = proxy.statistics();
    let degraded = |statistics: &serde_json::Value| statistics["pool"]["degraded_ejected"].as_u64().expect("a count");
    let before = earlier["pool"][server.address.to_string()]["requests"].clone();
    for _ in 0..100 {
        let (answer, took) = client.ask_timed("get a\r\n");
        assert_eq!(answer, "END");
        assert!(took < Duration::from_millis(50), "{took:?}");
    }
    let statistics = proxy.statistics();
    server.signal("CONT");
    assert_eq!(degraded(&statistics) - degraded(&earlier), 100);
    assert_eq!(statistics["pool"][server.address.to_string()]["requests"], before, "not one was sent to it");
}

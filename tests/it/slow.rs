//! The log of slow requests: which server, which key, and where the time went.

use std::net::SocketAddr;
use std::time::Duration;

use super::support::bad::Scripted;
use super::support::process::{Process, Proxy, free_port};
use super::support::relay::{Relay, Wire};
use super::support::{Hiccups, scattered_key, wait_until};
use serde_json::Value;

/// A proxy that logs JSON, with these settings, before these servers.
fn start(settings: &str, pool: &str, servers: &[SocketAddr]) -> Proxy {
    let port = free_port();
    let mut file = format!("softmiss:\n{settings}cache:\n  listen: 127.0.0.1:{port}\n{pool}  servers:\n");
    for (number, server) in servers.iter().enumerate() {
        file.push_str(&format!("    - {server}:1 node-{number}\n"));
    }
    Proxy::with_file(&file, port)
}

const SETTINGS: &str = "  slow_request: 100ms\n  log: {format: json}\n";
const POOL: &str = "  timeout: 5000\n  stall_detection: false\n";

/// What has been told of slow requests.
fn told(proxy: &Proxy) -> Vec<Value> {
    let lines = proxy.log().into_iter().filter(|line| line.contains("slow request"));
    lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn wait_for_lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    wait_until(&format!("{count} lines"), Duration::from_secs(5), || told(proxy).len() >= count);
    told(proxy)
}

fn counted(proxy: &Proxy) -> u64 {
    proxy.statistics()["cache"]["slow_requests"].as_u64().expect("a number")
}

#[test]
fn a_slow_server_is_named_with_the_time_that_it_took() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let relay = Relay::to(servers[1].address);
    let proxy = start(SETTINGS, POOL, &[servers[0].address, relay.address]);
    let mut client = proxy.client();
    for number in 0..100 {
        client.ask(format!("set {} 0 0 1\r\nx\r\n", scattered_key(number)));
    }
    assert_eq!(counted(&proxy), 0, "{:?}", told(&proxy));
    relay.set(Wire::Lags);
    // A get of many keys waits for the slower of the two servers.
    let keys: Vec<_> = (0..100).map(scattered_key).collect();
    client.send(format!("get {}\r\n", keys.join(" ")));
    client.read_through(b"END\r\n");
    let lines = wait_for_lines(&proxy, 1);
    assert_eq!((lines.len(), counted(&proxy)), (1, 1), "{lines:?}");
    let line = &lines[0];
    assert_eq!((&line["pool"], &line["server"], &line["command"]), (&"cache".into(), &"node-1".into(), &"get".into()));
    let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} in {line}"));
    assert!((10.0..90.0).contains(&number("keys")), "{line}");
    assert!((299.0..2000.0).contains(&number("took_ms")), "{line}");
    assert!((number("took_ms") - number("waited_ms") - number("server_ms")).abs() < 0.2, "{line}");
    assert!(number("server_ms") >= 295.0, "{line}");
    assert_eq!((&line["key"], &line["cause"], &line["suppressed"]), (&Value::Null, &Value::Null, &0.into()), "{line}");
    assert_eq!(line["key_hash"].as_str().map(str::len), Some(8), "{line}");
}

#[test]
fn the_key_is_named_only_to_whoever_debugs() {
    let server = Process::redis();
    let relay = Relay::to(server.address);
    let settings = "  slow_request: 100ms\n  log: {format: json, level: debug}\n";
    let proxy = start(settings, &format!("{POOL}  redis: true\n"), &[relay.address]);
    let mut client = proxy.client();
    client.ask("SET user:1 x\r\n");
    relay.set(Wire::Lags);
    client.ask("HGET user:1 field\r\n");
    let lines = wait_for_lines(&proxy, 1);
    let line = &lines[0];
    assert_eq!((&line["command"], &line["key"], &line["keys"]), (&"hget".into(), &"user:1".into(), &1.into()));
}

#[test]
fn a_thousand_are_a_few_lines_and_none_is_forgotten() {
    let server = Process::memcached();
    let relay = Relay::to(server.address);
    let proxy = start(SETTINGS, POOL, &[relay.address]);
    let mut client = proxy.client();
    client.ask("get first\r\n");
    relay.set(Wire::Lags);
    let hiccups = Hiccups::watch();
    let start = std::time::Instant::now();
    for _ in 0..10 {
        client.send("get key\r\n".repeat(100));
        (0..100).for_each(|_| drop(client.read_through(b"END\r\n")));
    }
    let (spent, hiccup) = (start.elapsed(), hiccups.longest());
    let most = 10 + usize::try_from((spent + hiccup).as_secs()).expect("seconds") + 1;
    let few = told(&proxy).len();
    assert!((1..=most).contains(&few), "{few} lines in {spent:?}");
    std::thread::sleep(Duration::from_millis(1100));
    client.ask("get last\r\n");
    wait_until("all of them to be told", Duration::from_secs(5), || {
        let lines = told(&proxy);
        let suppressed: u64 = lines.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
        lines.len() as u64 + suppressed == counted(&proxy)
    });
    assert_eq!(counted(&proxy), 1001);
}

#[test]
fn one_that_runs_out_of_time_is_told_with_the_cause() {
    let server = Scripted::silent();
    // The usual threshold is a second; no request of this pool takes as long.
    let settings = "  log: {format: json}\n";
    let proxy = start(settings, "  timeout: 300\n  stall_detection: false\n", &[server.address]);
    let mut client = proxy.client();
    assert_eq!(client.ask("get lost\r\n"), "END");
    let lines = wait_for_lines(&proxy, 1);
    let line = &lines[0];
    assert_eq!(
        (&line["server"], &line["command"], &line["cause"]),
        (&"node-0".into(), &"get".into(), &"timeout".into())
    );
    assert!(line["took_ms"].as_f64().is_some_and(|took| took >= 299.0), "{line}");
    assert!(line["server_ms"].as_f64().is_some_and(|took| took >= 200.0), "{line}");
    assert_eq!(counted(&proxy), 1);
}

#[test]
fn nothing_is_told_where_that_is_switched_off() {
    let server = Scripted::silent();
    let proxy = start("  slow_request: none\n", "  timeout: 200\n  stall_detection: false\n", &[server.address]);
    assert_eq!(proxy.client().ask("get lost\r\n"), "END");
    assert_eq!((told(&proxy).len(), counted(&proxy)), (0, 0));
}

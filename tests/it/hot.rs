//! Hot keys and large values are found while they are hot, from a sample of the requests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::support::http;
use super::support::process::{Process, Proxy, free_port};
use super::support::{Random, scattered_key, wait_until};
use serde_json::Value;

const LARGE: usize = 100_000;

/// A proxy that looks at one request in so many, before two servers.
fn start(servers: &[SocketAddr], hot_keys: &str, more: &str) -> (Proxy, SocketAddr) {
    let (port, admin) = (free_port(), free_port());
    let mut file = format!("softmiss:\n  admin: 127.0.0.1:{admin}\n  hot_keys: {hot_keys}\n");
    file.push_str(&format!("cache:\n  listen: 127.0.0.1:{port}\n  timeout: 2000\n{more}  servers:\n"));
    for (number, server) in servers.iter().enumerate() {
        file.push_str(&format!("    - {server}:1 node-{number}\n"));
    }
    (Proxy::with_file(&file, port), SocketAddr::from(([127, 0, 0, 1], admin)))
}

/// How many requests a second named each kind of key.
struct Rates {
    hot: f64,
    large: f64,
}

/// Asks for one key in three requests of ten, for a large value in one of a hundred, else for one of many; for three
/// seconds, in batches. `get` writes a request, `end` is what the response to any of them ends with.
fn load(proxy: &Proxy, get: fn(&str) -> String, store: fn(&str, usize) -> String, end: &[u8]) -> Rates {
    let mut client = proxy.client();
    for (key, bytes) in [("hot", 50), ("large", LARGE)] {
        client.send(store(key, bytes));
        client.line();
    }
    let (start, mut random) = (Instant::now(), Random(7));
    let (mut hot, mut large) = (0, 0);
    while start.elapsed() < Duration::from_secs(3) {
        let mut batch = String::new();
        for _ in 0..100 {
            let key = match random.below(100) {
                0..30 => {
                    hot += 1;
                    "hot".to_owned()
                }
                30 => {
                    large += 1;
                    "large".to_owned()
                }
                _ => scattered_key(random.below(100_000)),
            };
            batch.push_str(&get(&key));
        }
        client.send(batch);
        (0..100).for_each(|_| drop(client.read_through(end)));
    }
    let seconds = start.elapsed().as_secs_f64();
    Rates { hot: f64::from(hot) / seconds, large: f64::from(large) / seconds }
}

fn is_near(told: &Value, truly: f64) -> bool {
    told.as_f64().is_some_and(|told| (truly * 0.7..truly * 1.3).contains(&told))
}

/// What is told is what was done.
fn check(admin: SocketAddr, rates: &Rates) {
    let told = http::get(admin, "/hotkeys").json();
    let pool = &told["pools"][0];
    let (asked, moved, largest) = (&pool["by_requests"][0], &pool["by_bytes"][0], &pool["largest"][0]);
    assert_eq!((&told["sampling"], &pool["name"]), (&8.into(), &"cache".into()));
    assert_eq!((&asked["key"], &moved["key"], &largest["key"]), (&"hot".into(), &"large".into(), &"large".into()));
    assert_eq!((&moved["largest_bytes"], &largest["bytes"]), (&LARGE.into(), &LARGE.into()));
    assert!(is_near(&asked["per_s"], rates.hot), "{} for {asked}", rates.hot);
    assert!(is_near(&moved["per_s"], rates.large), "{} for {moved}", rates.large);
    assert!(is_near(&moved["bytes_per_s"], rates.large * LARGE as f64), "{} for {moved}", rates.large);
    assert!((0.24..0.36).contains(&asked["share"].as_f64().unwrap()), "{asked}");
    assert!(asked["server"].as_str().is_some_and(|server| server.starts_with("node-")), "{asked}");
    let overview = http::get(admin, "/servers").json();
    let keys = overview["pools"][0]["hot_keys"].as_array().expect("hot keys");
    let keys: Vec<_> = keys.iter().map(|key| key["key"].as_str().expect("a key")).collect();
    assert_eq!(keys, ["hot", "large"], "one in a hundred thousand does not stand out");
}

#[test]
fn a_hot_key_and_a_large_value_are_found_with_their_rates() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let (proxy, admin) = start(&[servers[0].address, servers[1].address], "8", "");
    let store = |key: &str, bytes: usize| format!("set {key} 0 0 {bytes}\r\n{}\r\n", "x".repeat(bytes));
    let rates = load(&proxy, |key| format!("get {key}\r\n"), store, b"END\r\n");
    check(admin, &rates);
}

#[test]
fn so_are_those_of_redis() {
    let servers: Vec<_> = (0..2).map(|_| Process::redis()).collect();
    let (proxy, admin) = start(&[servers[0].address, servers[1].address], "8", "  redis: true\n");
    let store = |key: &str, bytes: usize| {
        let (key_len, value) = (key.len(), "x".repeat(bytes));
        format!("*3\r\n$3\r\nSET\r\n${key_len}\r\n{key}\r\n${bytes}\r\n{value}\r\n")
    };
    // An integer marks the end of each response.
    let get = |key: &str| {
        let len = key.len();
        format!("*2\r\n$3\r\nGET\r\n${len}\r\n{key}\r\n*2\r\n$6\r\nEXISTS\r\n$4\r\nnone\r\n")
    };
    let rates = load(&proxy, get, store, b":0\r\n");
    let told = http::get(admin, "/hotkeys").json();
    assert_eq!(told["pools"][0]["by_requests"][0]["key"], "none", "the mark is asked for most");
    assert_eq!(told["pools"][0]["by_requests"][1]["key"], "hot");
    assert!(is_near(&told["pools"][0]["by_requests"][1]["per_s"], rates.hot), "{} for {told}", rates.hot);
    let moved = &told["pools"][0]["by_bytes"][0];
    assert_eq!((&moved["key"], &moved["largest_bytes"]), (&"large".into(), &LARGE.into()));
    assert!(is_near(&moved["bytes_per_s"], rates.large * LARGE as f64), "{} for {moved}", rates.large);
}

/// For each key, in how many requests it was seen and how large its value was.
fn seen(admin: SocketAddr) -> Vec<(String, u64, u64)> {
    let told = http::get(admin, "/hotkeys").json();
    let mut keys: Vec<_> = told["pools"][0]["by_requests"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| {
            let number = |name: &str| key[name].as_u64().expect("a number");
            (key["key"].as_str().expect("a key").to_owned(), number("samples"), number("largest_bytes"))
        })
        .collect();
    keys.sort();
    keys
}

fn rows(rows: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    rows.iter().map(|(key, samples, bytes)| ((*key).to_owned(), *samples, *bytes)).collect()
}

#[test]
fn every_kind_of_request_counts_for_each_of_its_keys() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let (proxy, admin) = start(&[servers[0].address, servers[1].address], "1", "");
    let mut client = proxy.client();
    let binary = b"k\xff\"<b>";
    for _ in 0..3 {
        client.send(b"set one 0 0 10\r\n0123456789\r\n".as_slice());
        client.send(b"set two 0 0 2 noreply\r\nxy\r\n".as_slice());
        client.send(b"get one two three\r\n".as_slice());
        client.send(b"delete gone\r\n".as_slice());
        client.send(b"ms meta 4 T0\r\nabcd\r\n".as_slice());
        client.send(b"mg meta v\r\n".as_slice());
        client.send(b"mg bWV0YQ== b v k O7\r\n".as_slice());
        client.send([b"gets ".as_slice(), binary, b"\r\n"].concat());
        client.send(b"version\r\n".as_slice());
        client.read_through(b"VERSION");
        client.line();
    }
    let wanted =
        rows(&[("gone", 3, 0), ("k\\xff\"<b>", 3, 0), ("meta", 9, 4), ("one", 6, 10), ("three", 3, 0), ("two", 6, 2)]);
    wait_until("everything to be seen", Duration::from_secs(5), || seen(admin) == wanted);
}

#[test]
fn every_kind_of_redis_request_counts_too() {
    let servers: Vec<_> = (0..2).map(|_| Process::redis()).collect();
    let (proxy, admin) = start(&[servers[0].address, servers[1].address], "1", "  redis: true\n");
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("MSET one 0123456789 two xy\r\nMGET one two three\r\nRPUSH list abc\r\nDEL one list\r\n");
        client.send("MULTI\r\nSET in-tx 1234\r\nINCR count\r\nEXEC\r\nGETDEL in-tx\r\nPING end\r\n");
        client.read_through(b"end\r\n");
    }
    let wanted =
        rows(&[("count", 3, 0), ("in-tx", 6, 4), ("list", 6, 3), ("one", 9, 10), ("three", 3, 0), ("two", 6, 2)]);
    let mut last = Vec::new();
    wait_until(&format!("{wanted:?}"), Duration::from_secs(5), || {
        last = seen(admin);
        last == wanted
    });
}

#[test]
fn keys_whose_server_is_out_are_seen_all_the_same() {
    let mut server = Process::memcached();
    let more = "  auto_eject_hosts: true\n  server_failure_limit: 1\n  on_eject: hold\n";
    let (proxy, admin) = start(&[server.address, server.address], "1", more);
    let proxy = proxy.expect_log("server ejected").expect_log("have one address");
    server.kill();
    let mut client = proxy.client();
    wait_until("the servers to be out", Duration::from_secs(5), || {
        (0..20).for_each(|number| drop(client.ask(format!("get {}\r\n", scattered_key(number)))));
        let overview = http::get(admin, "/servers").json();
        overview["pools"][0]["servers"].as_array().expect("servers").iter().all(|server| server["state"] != "up")
    });
    for _ in 0..1000 {
        assert_eq!(client.ask("get wanted\r\n"), "END");
        assert_eq!(client.ask("get wanted also\r\n"), "END");
    }
    let keys = seen(admin);
    assert!(keys.contains(&("wanted".to_owned(), 2000, 0)) && keys.contains(&("also".to_owned(), 1000, 0)), "{keys:?}");
}

#[test]
fn nobody_watches_where_that_is_switched_off() {
    let server = Process::memcached();
    for off in ["none", "0", "false"] {
        let (proxy, admin) = start(&[server.address], off, "");
        let mut client = proxy.client();
        (0..500).for_each(|_| drop(client.ask("get secret\r\n")));
        let told = http::get(admin, "/hotkeys").json();
        assert_eq!((&told["sampling"], &told["pools"]), (&Value::Null, &Value::Array(Vec::new())));
        assert!(told["note"].as_str().is_some_and(|note| note.contains("hot_keys: none")), "{told}");
        assert_eq!(http::get(admin, "/servers").json()["pools"][0]["hot_keys"], Value::Null);
    }
}

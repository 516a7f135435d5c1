//! Placements recorded from the real twemproxy, through real sockets and through `route`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::support::bad::{Scripted, value_of};
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::{Random, wait_until};
use std::time::Duration;

#[derive(Deserialize)]
struct Golden {
    keys_hex: Vec<String>,
    pools: Vec<GoldenPool>,
}

#[derive(Deserialize)]
struct GoldenPool {
    servers: Vec<String>,
    hash: String,
    distribution: String,
    hash_tag: Option<String>,
    redis: bool,
    #[serde(default)]
    ejected: Vec<usize>,
    map: String,
}

impl GoldenPool {
    fn expected(&self) -> impl Iterator<Item = usize> {
        self.map.chars().map(|digit| digit.to_digit(36).expect("base 36") as usize)
    }
}

fn golden(text: &str) -> Golden {
    serde_json::from_str(text).expect("a recorded file")
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// The ring takes a server's name, not where it is: each recorded line becomes an address that can be listened on,
/// under the name that twemproxy gives the recorded one.
fn with_name(line: &str, port: u16) -> String {
    let (address, name) = line.split_once(' ').map_or((line, None), |(address, name)| (address, Some(name)));
    let (place, weight) = address.rsplit_once(':').expect("a weight");
    let default = place.strip_suffix(":11211").unwrap_or(place);
    format!("127.0.0.1:{port}:{weight} {}", name.unwrap_or(default))
}

/// The pools of a recorded file as pools of one proxy, each with servers that answer a get with their own number.
fn through_sockets(golden: &Golden) {
    // One fake server for each number serves every pool: it answers by its own number alone.
    let most = golden.pools.iter().map(|pool| pool.servers.len()).max().expect("a pool");
    let fakes: Vec<_> = (0..most)
        .map(|number| {
            Scripted::answering(move |line| {
                if line == b"version" { b"VERSION 1.6.18\r\n".to_vec() } else { value_of(line, &number.to_string()) }
            })
        })
        .collect();
    let dead_port = free_port();
    let mut file = String::new();
    let mut ports = Vec::new();
    for (index, pool) in golden.pools.iter().enumerate() {
        let port = free_port();
        ports.push(port);
        let _ = writeln!(
            file,
            "p{index}:\n  listen: 127.0.0.1:{port}\n  hash: {}\n  distribution: {}",
            pool.hash, pool.distribution
        );
        if let Some(tag) = &pool.hash_tag {
            let _ = writeln!(file, "  hash_tag: \"{tag}\"");
        }
        let _ = writeln!(
            file,
            "  timeout: 5000\n  auto_eject_hosts: true\n  server_failure_limit: 1\n  server_retry_timeout: 60000\n  servers:"
        );
        for (number, line) in pool.servers.iter().enumerate() {
            let port = if pool.ejected.contains(&number) { dead_port } else { fakes[number].address.port() };
            let _ = writeln!(file, "    - {}", with_name(line, port));
        }
    }
    let proxy = Proxy::with_file(&file, ports[0])
        .expect_log("server ejected")
        .expect_log("one server gets every key")
        .expect_log("gets no keys");
    let keys: Vec<_> = golden.keys_hex.iter().map(|key| unhex(key)).collect();
    let mut placements = 0;
    for (index, pool) in golden.pools.iter().enumerate() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], ports[index]));
        wait_until("the pool listening", Duration::from_secs(5), || std::net::TcpStream::connect(address).is_ok());
        let mut client = super::support::client::Client::connect(address);
        if !pool.ejected.is_empty() {
            // Ask until the dead servers are known to be dead.
            let out = || {
                let statistics = proxy.statistics();
                let servers = statistics[format!("p{index}")].as_object().expect("a pool").clone();
                servers.values().filter(|server| server["state"] != "up" && server.is_object()).count()
            };
            let mut turn = keys.iter().cycle();
            wait_until("the ejection", Duration::from_secs(10), || {
                for _ in 0..20 {
                    let key = turn.next().expect("a key");
                    client.send([b"get ", &key[..], b"\r\n"].concat());
                    client.read_through(b"END\r\n");
                }
                out() == pool.ejected.len()
            });
        }
        for (key, expected) in keys.iter().zip(pool.expected()) {
            client.send([b"get ", &key[..], b"\r\n"].concat());
            let answer = client.read_through(b"END\r\n");
            let number = expected.to_string();
            let wanted =
                [b"VALUE ", &key[..], format!(" 0 {}\r\n{number}\r\nEND\r\n", number.len()).as_bytes()].concat();
            assert_eq!(
                String::from_utf8_lossy(&answer),
                String::from_utf8_lossy(&wanted),
                "pool {index}: {} {}",
                pool.hash,
                pool.distribution
            );
            placements += 1;
        }
    }
    assert!(placements > 1000, "only {placements} placements were compared");
}

#[test]
fn recorded_placements_hold_through_real_sockets() {
    through_sockets(&golden(include_str!("../golden/placement.json")));
}

#[test]
fn recorded_placements_after_ejections_hold_through_real_sockets() {
    through_sockets(&golden(include_str!("../golden/eject.json")));
}

/// All pools of a recorded file through the `route` command.
fn through_route(golden: &Golden) {
    let directory = scratch_dir();
    for (index, pool) in golden.pools.iter().enumerate() {
        let file = directory.join(format!("{index}.yml"));
        let mut text = format!(
            "p:\n  listen: 127.0.0.1:1\n  redis: {}\n  hash: {}\n  distribution: {}\n",
            pool.redis, pool.hash, pool.distribution
        );
        if let Some(tag) = &pool.hash_tag {
            let _ = writeln!(text, "  hash_tag: \"{tag}\"");
        }
        text.push_str("  servers:\n");
        for line in &pool.servers {
            let _ = writeln!(text, "    - {line}");
        }
        std::fs::write(&file, text).expect("write");
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
        command.arg("-c").arg(&file).args(["route", "--json", "--hex", "-"]);
        for dead in &pool.ejected {
            let (address, name) =
                pool.servers[*dead].split_once(' ').map_or((&pool.servers[*dead][..], None), |(a, n)| (a, Some(n)));
            let place = address.rsplit_once(':').expect("a weight").0;
            command.args(["--dead", name.unwrap_or(place)]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("softmiss");
        let mut input = child.stdin.take().expect("stdin");
        let keys = golden.keys_hex.join("\n");
        let writer = std::thread::spawn(move || input.write_all(keys.as_bytes()).expect("write keys"));
        let output = child.wait_with_output().expect("output");
        writer.join().expect("writer");
        let text = String::from_utf8(output.stdout).expect("text");
        let found: Vec<_> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).expect("JSON")["position"].as_u64().expect("a position")
                    as usize
            })
            .collect();
        let expected: Vec<_> = pool.expected().collect();
        assert_eq!(found.len(), golden.keys_hex.len());
        assert_eq!(found, expected, "pool {index}: {} {}", pool.hash, pool.distribution);
    }
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn recorded_placements_hold_through_route() {
    through_route(&golden(include_str!("../golden/placement.json")));
    through_route(&golden(include_str!("../golden/eject.json")));
    through_route(&golden(include_str!("../golden/redis.json")));
}

#[test]
fn the_real_twemproxy_and_this_one_agree_on_fresh_keys() {
    let servers: Vec<_> = (0..5).map(|_| Process::memcached()).collect();
    let (theirs, ours) = (free_port(), free_port());
    for (hash, distribution) in [("fnv1a_64", "ketama"), ("murmur", "modula"), ("hsieh", "ketama"), ("crc16", "modula")]
    {
        let pool = |port: u16| {
            let mut text = format!(
                "p:\n  listen: 127.0.0.1:{port}\n  hash: {hash}\n  distribution: {distribution}\n  hash_tag: \"{{}}\"\n  timeout: 2000\n  servers:\n"
            );
            for (index, server) in servers.iter().enumerate() {
                let _ = writeln!(text, "   - {}:{} s{index}", server.address, 1 + index % 3);
            }
            text
        };
        let directory = scratch_dir();
        let file = directory.join("nutcracker.yml");
        std::fs::write(&file, pool(theirs)).expect("write");
        let nutcracker = Process::nutcracker(&file, theirs);
        let proxy = Proxy::with_file(&pool(ours), ours);
        let (mut through_theirs, mut through_ours) = (nutcracker.client(), proxy.client());
        let mut random = Random(42);
        let mut stored = BTreeMap::new();
        for _ in 0..500 {
            let tag = if random.one_in(4) { format!("{{{}}}", random.below(100)) } else { String::new() };
            let key = format!("key{tag}:{:x}", random.next());
            let value = random.next().to_string();
            assert_eq!(through_theirs.ask(format!("set {key} 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
            stored.insert(key, value);
        }
        for (key, value) in &stored {
            through_ours.send(format!("get {key}\r\n"));
            let found = through_ours.read_through(b"END\r\n");
            let expected = format!("VALUE {key} 0 {}\r\n{value}\r\nEND\r\n", value.len());
            assert_eq!(String::from_utf8_lossy(&found), expected, "{hash} {distribution}");
        }
        let _ = std::fs::remove_dir_all(directory);
    }
}

//! What clients are told while servers fail, and how fast.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::support::bad::{Scripted, value_of};
use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::{scattered_key, wait_until};

/// The slowest answer that a `timeout` of 400 ms allows.
const SLOWEST: Duration = Duration::from_millis(450);

const EJECTING: &[&str] =
    &["timeout: 400", "auto_eject_hosts: true", "server_failure_limit: 3", "server_retry_timeout: 2000"];

/// What each command answers when its only server is dead: with `miss`, and with `absorb`.
const ANSWERS: &[(&str, &str, &str)] = &[
    ("get a\r\n", "END", "END"),
    ("gets a\r\n", "END", "END"),
    ("gat 0 a\r\n", "END", "END"),
    ("gats 0 a\r\n", "END", "END"),
    ("set a 0 0 1\r\nx\r\n", "NOT_STORED", "STORED"),
    ("add a 0 0 1\r\nx\r\n", "NOT_STORED", "NOT_STORED"),
    ("replace a 0 0 1\r\nx\r\n", "NOT_STORED", "NOT_STORED"),
    ("append a 0 0 1\r\nx\r\n", "NOT_STORED", "NOT_STORED"),
    ("prepend a 0 0 1\r\nx\r\n", "NOT_STORED", "NOT_STORED"),
    ("cas a 0 0 1 1\r\nx\r\n", "NOT_FOUND", "NOT_FOUND"),
    ("delete a\r\n", "NOT_FOUND", "NOT_FOUND"),
    ("incr a 1\r\n", "NOT_FOUND", "NOT_FOUND"),
    ("decr a 1\r\n", "NOT_FOUND", "NOT_FOUND"),
    ("touch a 0\r\n", "NOT_FOUND", "NOT_FOUND"),
    ("mg a v\r\n", "EN", "EN"),
    ("mg a v k O7\r\n", "EN ka O7", "EN ka O7"),
    ("ms a 1\r\nx\r\n", "NS", "HD"),
    ("ms a 1 O8 k\r\nx\r\n", "NS O8 ka", "HD O8 ka"),
    ("ms a 1 MS T5\r\nx\r\n", "NS", "HD"),
    ("ms a 1 ME\r\nx\r\n", "NS", "NS"),
    ("ms a 1 MA\r\nx\r\n", "NS", "NS"),
    ("ms a 1 C5\r\nx\r\n", "NS", "NS"),
    ("md a\r\n", "NF", "NF"),
    ("ma a\r\n", "NF", "NF"),
    ("me a\r\n", "EN", "EN"),
    ("flush_all\r\n", "OK", "OK"),
    ("get a b c\r\n", "END", "END"),
];

/// A proxy of which the only server refuses connections.
fn with_a_dead_server(policy: &str) -> Proxy {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    Proxy::start(&[nobody], &["timeout: 400", policy])
}

#[test]
fn in_miss_mode_every_command_says_not_there() {
    let proxy = with_a_dead_server("on_failure: miss");
    let mut client = proxy.client();
    for (request, answer, _) in ANSWERS {
        for _ in 0..3 {
            assert_eq!(client.ask(request), *answer, "{request:?}");
        }
    }
    // Quiet misses and noreply are silent, what was not done is told all the same, and the order is kept.
    client.send("mg a v q\r\nset a 0 0 1 noreply\r\nx\r\nms a 1 q\r\nx\r\nmd a q\r\ndelete a noreply\r\nmn\r\n");
    assert_eq!([client.line(), client.line(), client.line()], ["NS", "NF", "MN"]);
}

#[test]
fn in_absorb_mode_a_write_is_taken_by_nobody() {
    let proxy = with_a_dead_server("on_failure: absorb");
    let mut client = proxy.client();
    for (request, _, answer) in ANSWERS {
        assert_eq!(client.ask(request), *answer, "{request:?}");
    }
    client.send("set a 0 0 1 noreply\r\nx\r\nms a 1 q\r\nx\r\nms a 1 q ME\r\nx\r\nmn\r\n");
    assert_eq!([client.line(), client.line()], ["NS", "MN"], "success is not told when it is quiet");
}

#[test]
fn add_is_granted_where_that_is_asked_for() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = Proxy::start(&[nobody], &["timeout: 400", "on_failure: absorb", "absorb_add: true"]);
    let mut client = proxy.client();
    for (request, _, absorbed) in ANSWERS {
        let answer = match *request {
            "add a 0 0 1\r\nx\r\n" => "STORED",
            "ms a 1 ME\r\nx\r\n" => "HD",
            _ => absorbed,
        };
        assert_eq!(client.ask(request), answer, "{request:?}");
    }
    assert_eq!(client.ask("ms a 1 ME C5\r\nx\r\n"), "NS");
}

#[test]
fn in_absorb_mode_a_write_that_times_out_is_taken_as_well() {
    let hanging = Process::memcached();
    let proxy = Proxy::start(&[hanging.address], &["timeout: 200", "on_failure: absorb"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("mg a\r\n"), "EN");
    hanging.signal("STOP");
    client.send("set a 0 0 1\r\nx\r\nadd a 0 0 1\r\nx\r\nms a 1 O3\r\nx\r\nms a 1 MR\r\nx\r\nget a\r\n");
    let lines: Vec<_> = (0..5).map(|_| client.line()).collect();
    hanging.signal("CONT");
    assert_eq!(lines, ["STORED", "NOT_STORED", "HD O3", "NS", "END"]);
}

#[test]
fn in_error_mode_every_command_says_what_twemproxy_says() {
    let proxy = with_a_dead_server("on_failure: error");
    let mut client = proxy.client();
    for (request, _, _) in ANSWERS {
        assert_eq!(client.ask(request), "SERVER_ERROR Connection refused", "{request:?}");
    }
    assert_eq!(client.ask("mn\r\n"), "MN", "the connection goes on");
}

#[test]
fn a_multi_get_gives_what_the_live_servers_have() {
    let mut servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    for policy in ["on_failure: miss", "on_failure: error"] {
        let proxy = Proxy::start(&addresses, &["timeout: 400", policy]);
        let mut client = proxy.client();
        let keys: Vec<_> = (0..200).map(scattered_key).collect();
        for key in &keys {
            assert_eq!(client.ask(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len())), "STORED");
        }
        let mine = |server: &Process| {
            let mut direct = server.client();
            direct.send(format!("get {}\r\n", keys.join(" ")));
            let found = String::from_utf8(direct.read_through(b"END\r\n")).expect("text");
            found.matches("VALUE").count()
        };
        let lost = mine(&servers[0]);
        assert!(lost > 0 && lost < keys.len());
        servers[0].kill();
        for _ in 0..3 {
            client.send(format!("get {}\r\nmn\r\n", keys.join(" ")));
            let found = String::from_utf8(client.read_through(b"MN\r\n")).expect("text");
            assert_eq!(found.matches("VALUE").count(), keys.len() - lost);
            let end = if policy.ends_with("miss") { "END\r\nMN\r\n" } else { "\r\nMN\r\n" };
            assert!(found.ends_with(end));
            assert_eq!(found.contains("SERVER_ERROR"), policy.ends_with("error"));
        }
        servers[0] = Process::memcached_on(addresses[0].port());
    }
}

#[test]
fn ten_thousand_keys_with_a_dead_server_are_answered_in_time() {
    for dead in ["killed", "stopped"] {
        let mut servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let proxy = Proxy::start(&addresses, EJECTING).expect_log("server ejected");
        let mut client = proxy.client();
        let keys: Vec<_> = (0..5000).map(scattered_key).collect();
        let sets: String = keys.iter().map(|key| format!("set {key} 0 0 {} noreply\r\n{key}\r\n", key.len())).collect();
        client.send(sets);
        assert_eq!(client.ask("mn\r\n"), "MN");
        // Each key twice, far apart.
        let line = format!("get {} {}\r\n", keys.join(" "), keys.join(" "));
        let values = |text: &[u8]| String::from_utf8_lossy(text).matches("VALUE ").count();
        client.send(&line);
        assert_eq!(values(&client.read_through(b"END\r\n")), 10_000);
        let live = {
            let mut count = 0;
            for server in &servers[1..] {
                let mut direct = server.client();
                direct.send(&line);
                count += values(&direct.read_through(b"END\r\n"));
            }
            count
        };
        if dead == "killed" {
            servers[0].kill()
        } else {
            servers[0].signal("STOP")
        }
        let start = Instant::now();
        client.send(&line);
        let found = client.read_through(b"END\r\n");
        let took = start.elapsed();
        println!("{dead}: {} of {live} live values after {took:?}", values(&found));
        assert_eq!(values(&found), live, "{dead}");
        assert!(took < SLOWEST, "{dead}: {took:?}");
        assert_eq!(client.ask("mn\r\n"), "MN");
        if dead == "stopped" {
            servers[0].signal("CONT");
        }
    }
}

#[test]
fn thousands_of_gets_with_a_stopped_server_are_answered_in_time() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, EJECTING).expect_log("server ejected");
    let mut client = proxy.client();
    let keys: Vec<_> = (0..8000).map(scattered_key).collect();
    let sets: String = keys.iter().map(|key| format!("set {key} 0 0 1 noreply\r\nx\r\n")).collect();
    client.send(sets);
    assert_eq!(client.ask("mn\r\n"), "MN");
    let values = |text: &[u8]| String::from_utf8_lossy(text).matches("VALUE ").count();
    let live: usize = (servers[1..].iter())
        .map(|server| {
            let mut direct = server.client();
            direct.send(format!("get {}\r\n", keys.join(" ")));
            values(&direct.read_through(b"END\r\n"))
        })
        .sum();
    servers[0].signal("STOP");
    let start = Instant::now();
    client.send(keys.iter().map(|key| format!("get {key}\r\n")).chain(["mn\r\n".to_owned()]).collect::<String>());
    let found = client.read_through(b"MN\r\n");
    let took = start.elapsed();
    println!("{} of {live} live values after {took:?}", values(&found));
    assert_eq!(values(&found), live);
    assert_eq!(String::from_utf8_lossy(&found).matches("END\r\n").count(), keys.len());
    assert!(took < SLOWEST, "{took:?}");
    servers[0].signal("CONT");
}

/// Keys of which some belong to each of three servers.
fn spread(client: &mut Client) -> Vec<String> {
    let keys: Vec<_> = (0..60).map(scattered_key).collect();
    for key in &keys {
        assert_eq!(client.ask(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len())), "STORED");
    }
    keys
}

/// Asks for every key for a while; nothing may be an error, late or wrong.
fn read_for(client: &mut Client, keys: &[String], span: Duration) -> (u32, u32, Duration) {
    let (mut hits, mut misses, mut slowest) = (0, 0, Duration::ZERO);
    let start = Instant::now();
    while start.elapsed() < span {
        for key in keys {
            let asked = Instant::now();
            client.send(format!("get {key}\r\n"));
            let answer = String::from_utf8(client.read_through(b"\r\n")).expect("text");
            if answer == "END\r\n" {
                misses += 1;
            } else {
                assert_eq!(answer, format!("VALUE {key} 0 {}\r\n", key.len()));
                assert_eq!(client.read(key.len() + 7), format!("{key}\r\nEND\r\n").into_bytes());
                hits += 1;
            }
            slowest = slowest.max(asked.elapsed());
        }
    }
    (hits, misses, slowest)
}

#[test]
fn a_killed_server_is_ejected_at_once_and_comes_back_when_it_is_well() {
    let mut servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, EJECTING).expect_log("server ejected");
    let mut client = proxy.client();
    let keys = spread(&mut client);
    servers[1].kill();
    let killed = Instant::now();
    let (_, misses, slowest) = read_for(&mut client, &keys, Duration::from_millis(300));
    assert!(misses > 0);
    assert!(slowest < Duration::from_millis(100), "a refused connect is known at once: {slowest:?}");
    proxy.wait_for_log("server ejected", Duration::from_millis(100));
    assert!(proxy.log().iter().any(|line| line.contains("failures=3")));
    // With the ring rebuilt, the survivors take its keys.
    let keys_again = spread(&mut client);
    assert_eq!(read_for(&mut client, &keys_again, Duration::from_millis(50)).1, 0);
    servers[1] = Process::memcached_on(addresses[1].port());
    proxy.wait_for_log("server restored", Duration::from_millis(3000));
    println!("ejected and restored within {:?}", killed.elapsed());
    let statistics = proxy.statistics();
    let server = &statistics["pool"][addresses[1].to_string()];
    assert_eq!(server["state"], "up");
    assert!(server["probes"].as_u64() >= Some(1));
    assert!(server["server_ejected_at"].as_u64() > Some(1_600_000_000_000_000));
    assert_eq!(statistics["pool"]["server_ejects"], 1);
    assert_eq!(read_for(&mut client, &spread(&mut proxy.client()), Duration::from_millis(50)).1, 0);
}

#[test]
fn a_stopped_server_costs_time_until_it_is_ejected_and_none_after() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, EJECTING).expect_log("server ejected");
    let mut client = proxy.client();
    let keys = spread(&mut client);
    servers[2].signal("STOP");
    let stopped = Instant::now();
    let mut load = proxy.client();
    let loaded = keys.clone();
    let reader = std::thread::spawn(move || read_for(&mut load, &loaded, Duration::from_millis(1800)));
    let (_, _, slowest) = read_for(&mut client, &keys, Duration::from_millis(1500));
    assert!(slowest < SLOWEST, "{slowest:?}");
    proxy.wait_for_log("server ejected", Duration::from_secs(1));
    let (_, _, slowest) = read_for(&mut client, &keys, Duration::from_millis(200));
    assert!(slowest < Duration::from_millis(100), "nobody waits for an ejected server: {slowest:?}");
    assert!(reader.join().expect("reader").2 < SLOWEST);
    servers[2].signal("CONT");
    proxy.wait_for_log("server restored", Duration::from_millis(3500));
    println!("restored {:?} after it was stopped", stopped.elapsed());
    assert_eq!(read_for(&mut client, &spread(&mut proxy.client()), Duration::from_millis(100)).1, 0);
}

#[test]
fn two_workers_agree_on_an_ejection() {
    let mut servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let port = free_port();
    let text = format!(
        "softmiss:\n  workers: 2\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  auto_eject_hosts: true\n  \
         server_failure_limit: 2\n  server_retry_timeout: 500\n  servers:\n    - {}:1\n    - {}:1\n",
        servers[0].address, servers[1].address
    );
    let proxy = Proxy::with_file(&text, port).expect_log("server ejected");
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    let keys = spread(&mut clients[0]);
    servers[0].kill();
    read_for(&mut clients[0], &keys, Duration::from_millis(200));
    proxy.wait_for_log("server ejected", Duration::from_secs(1));
    for client in &mut clients {
        let keys = spread(client);
        assert_eq!(read_for(client, &keys, Duration::from_millis(20)).1, 0, "a worker still asks the dead server");
    }
    assert_eq!(proxy.log().iter().filter(|line| line.contains("server ejected")).count(), 1, "told once");
    servers[0] = Process::memcached_on(servers[0].address.port());
    proxy.wait_for_log("server restored", Duration::from_secs(3));
}

#[test]
fn servers_that_misbehave_cost_misses_and_not_a_byte_of_theirs_is_told() {
    let wrong_key = Scripted::answering(|_| value_of(b"get elsewhere", "stolen"));
    let junk = Scripted::answering(|_| b"\x00\xff\x00 what\r\n".to_vec());
    let huge = Scripted::answering(|line| value_of(line, "x").replacen_len());
    let unasked = Scripted::answering(|line| [value_of(line, "right"), b"STORED\r\nSTORED\r\n".to_vec()].concat());
    for (name, server) in [
        ("hangs", Scripted::silent()),
        ("accepts and closes", Scripted::closing()),
        ("drips", Scripted::dripping()),
        ("truncates", Scripted::truncating()),
        ("wrong key", wrong_key),
        ("junk", junk),
        ("lies about a length", huge),
        ("answers unasked", unasked),
    ] {
        let proxy = Proxy::start(&[server.address], EJECTING)
            .expect_log("server ejected")
            .expect_log("server broke the protocol");
        let mut client = proxy.client();
        for number in 0..8 {
            let (answer, took) = client.ask_timed(format!("get key{number}\r\n"));
            if name == "answers unasked" && answer.starts_with("VALUE") {
                assert_eq!(answer, format!("VALUE key{number} 0 5"), "{name}");
                assert_eq!(client.read_through(b"END\r\n"), b"right\r\nEND\r\n");
            } else {
                assert_eq!(answer, "END", "{name}");
            }
            assert!(took < SLOWEST, "{name}: {took:?}");
        }
        assert_eq!(client.ask("mn\r\n"), "MN", "{name}");
        assert!(client.rest().is_empty(), "{name}: stray bytes");
    }
}

#[test]
fn a_client_that_quits_is_answered_in_time_even_so() {
    let server = Scripted::silent();
    let proxy = Proxy::start(&[server.address], &["timeout: 400"]);
    for goodbye in [&b"quit\r\n"[..], b"\x80\x00"] {
        let mut client = proxy.client();
        let start = Instant::now();
        client.send([b"get a\r\n", goodbye].concat());
        assert_eq!(client.line(), "END");
        assert!(client.is_closed());
        assert!(start.elapsed() < SLOWEST, "{goodbye:?}: {:?}", start.elapsed());
    }
}

/// A length that does not fit the block.
trait LieAboutLength {
    fn replacen_len(self) -> Vec<u8>;
}

impl LieAboutLength for Vec<u8> {
    fn replacen_len(self) -> Vec<u8> {
        String::from_utf8(self).expect("text").replace(" 0 1\r\n", " 0 99999999999\r\n").into_bytes()
    }
}

#[test]
fn an_idle_connection_that_the_server_closed_costs_nothing() {
    // Closes each connection after one answer, as an idle timeout would between two requests.
    let server = Scripted::start(|mut stream| {
        let mut buffer = Vec::new();
        if let Some(line) = super::support::bad::read_line(&mut stream, &mut buffer) {
            use std::io::Write;
            let _ = stream.write_all(&value_of(&line, "here"));
        }
    });
    let proxy = Proxy::start(&[server.address], EJECTING);
    let mut client = proxy.client();
    for number in 0..8 {
        client.send(format!("get k{number}\r\n"));
        let answer = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
        assert_eq!(answer, format!("VALUE k{number} 0 4\r\nhere\r\nEND\r\n"));
    }
    let statistics = proxy.statistics();
    assert_eq!(statistics["pool"]["server_ejects"], 0);
    wait_until("the last close", Duration::from_secs(1), || {
        let server = &proxy.statistics()["pool"][server.address.to_string()];
        // A close that meets the next request on its way there is a reset.
        let closes = ["server_eof", "server_err"].map(|name| server[name].as_u64().expect("a number"));
        closes.iter().sum::<u64>() >= 7
    });
}

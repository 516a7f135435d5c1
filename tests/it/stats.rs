//! The statistics port speaks twemproxy's JSON, with live values.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::support::bad::Scripted;
use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::{scattered_key, wait_until};

const POOL_FIELDS: [&str; 6] =
    ["client_eof", "client_err", "client_connections", "server_ejects", "forward_error", "fragments"];

const SERVER_FIELDS: [&str; 13] = [
    "server_eof",
    "server_err",
    "server_timedout",
    "server_connections",
    "server_ejected_at",
    "requests",
    "request_bytes",
    "responses",
    "response_bytes",
    "in_queue",
    "in_queue_bytes",
    "out_queue",
    "out_queue_bytes",
];

#[test]
fn the_fields_are_twemproxys_and_the_values_are_live() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let proxy = Proxy::start(&[servers[0].address, servers[1].address], &[]);
    let mut client = proxy.client();
    for number in 0..100 {
        assert_eq!(client.ask(format!("set k{number:x}{number} 0 0 1\r\nx\r\n")), "STORED");
    }
    let keys: Vec<_> = (0..100).map(|number| format!("k{number:x}{number}")).collect();
    client.send(format!("get {}\r\n", keys.join(" ")));
    client.read_through(b"END\r\n");
    let statistics = proxy.statistics();
    for field in ["service", "source", "version", "uptime", "timestamp", "total_connections", "curr_connections"] {
        assert!(!statistics[field].is_null(), "{field} is missing");
    }
    let pool = &statistics["pool"];
    for field in POOL_FIELDS {
        assert!(pool[field].is_u64(), "{field} is missing");
    }
    let (mut requests, mut responses) = (0, 0);
    for server in &servers {
        let server = &pool[server.address.to_string()];
        for field in SERVER_FIELDS {
            assert!(server[field].is_u64(), "{field} is missing in {server}");
        }
        requests += server["requests"].as_u64().expect("a number");
        responses += server["responses"].as_u64().expect("a number");
        assert_eq!(server["server_connections"], 1);
        assert_eq!(server["out_queue"], 0);
    }
    assert_eq!(pool["client_connections"], 1);
    let fragments = pool["fragments"].as_u64().expect("a number");
    assert!((1..=2).contains(&fragments), "{fragments} fragments");
    assert_eq!(requests, 100 + fragments);
    assert_eq!(responses, requests, "everything is answered");
    drop(client);
    wait_until("the client to leave", Duration::from_secs(2), || proxy.statistics()["pool"]["client_connections"] == 0);
}

#[test]
fn the_port_of_the_file_is_used_and_none_switches_it_off() {
    let server = Process::memcached();
    let (port, stats) = (free_port(), free_port());
    let text = format!(
        "softmiss:\n  stats: 127.0.0.1:{stats}\np:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers:\n    - {}:1\n",
        server.address
    );
    // `-s` of the command line wins.
    let proxy = Proxy::with_file(&text, port);
    assert_eq!(proxy.statistics()["p"]["server_ejects"], 0);
    assert!(std::net::TcpStream::connect(("127.0.0.1", stats)).is_err());
}

#[test]
fn stats_over_the_cache_port_add_up_the_servers() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &[]);
    let mut client = proxy.client();
    for number in 0..60 {
        assert_eq!(client.ask(format!("set k{number}{number:x} 0 0 1\r\nx\r\n")), "STORED");
    }
    client.send("stats \r\n");
    let text = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
    assert!(text.contains("STAT cmd_set 60\r\n"), "{text}");
    assert!(text.contains("STAT curr_items 60\r\n"), "{text}");
    for sub in ["settings", "items", "slabs", "sizes", "conns", "proxy"] {
        client.send(format!("stats {sub}\r\n"));
        let text = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
        assert!(text.starts_with("STAT ") || text == "END\r\n", "stats {sub}: {text}");
    }
    client.send("stats proxy\r\n");
    let text = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
    // This one is not among them: it is still being carried out.
    for line in ["STAT requests 67\r\n", "STAT set_done 60\r\n", "STAT other_done 6\r\n", "STAT degraded_timeout 0\r\n"]
    {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    client.send("stats settings\r\n");
    let text = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
    assert!(text.contains("STAT maxbytes 536870912\r\n"), "settings are told once, not added: {text}");
}

/// Reads the lines of a listing up to its end.
fn listing(client: &mut Client, request: &str) -> Vec<String> {
    client.send(format!("{request}\r\n"));
    std::iter::repeat_with(|| client.line()).take_while(|line| line != "END").collect()
}

fn field(lines: &[String], name: &str) -> String {
    let start = format!("STAT {name} ");
    let value = lines.iter().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("{name} in {lines:?}")).to_owned()
}

#[test]
fn fields_that_are_no_counts_are_not_added_up() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &[]);
    let mut client = proxy.client();
    for number in 0..30 {
        assert_eq!(client.ask(format!("set k{number}{number:x} 0 0 1\r\nx\r\n")), "STORED");
    }
    let stats = listing(&mut client, "stats");
    let own: Vec<_> = servers.iter().map(|server| listing(&mut server.client(), "stats")).collect();
    for same in ["version", "pointer_size", "accepting_conns", "hash_power_level", "hash_is_expanding", "libevent"] {
        assert_eq!(field(&stats, same), field(&own[0], same), "{same}");
    }
    let number = |lines: &[String], name: &str| field(lines, name).parse::<u64>().expect(name);
    let sum = |name: &str| own.iter().map(|lines| number(lines, name)).sum::<u64>();
    for summed in ["curr_items", "cmd_set", "max_connections", "limit_maxbytes", "threads"] {
        assert_eq!(number(&stats, summed), sum(summed), "{summed}");
    }
    assert_eq!(number(&stats, "pid"), u64::from(proxy.id()));
    let uptimes = own.iter().map(|lines| number(lines, "uptime"));
    assert!(number(&stats, "uptime") <= uptimes.min().unwrap());
    let times = own.iter().map(|lines| number(lines, "time"));
    assert!(number(&stats, "time") <= times.max().unwrap());
    // Every line of every server, connections with the same number too.
    let connections = listing(&mut client, "stats conns");
    assert_eq!(connections.iter().filter(|line| line.contains(":state conn_listening")).count(), 3, "{connections:?}");
}

#[test]
fn cachedump_and_prefixes_are_those_of_all_servers() {
    let servers: Vec<_> = (0..3)
        .map(|_| Process::memcached_with(free_port(), &["-o", "no_modern"], std::process::Stdio::null()))
        .collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 20000"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("stats detail on\r\n"), "OK");
    let keys: BTreeSet<_> = (0..200).map(|number| format!("p:{number}\t")).collect();
    for key in &keys {
        assert_eq!(client.ask(format!("set {key} 0 0 1\r\nx\r\n")), "STORED");
    }
    let items = listing(&mut client, "stats cachedump 1 0");
    let key = |line: &String| line.strip_prefix("ITEM ").and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    let dumped: Vec<_> = items.iter().filter_map(key).collect();
    assert_eq!(dumped.len(), keys.len());
    assert_eq!(dumped.into_iter().collect::<BTreeSet<_>>(), keys);
    assert_eq!(listing(&mut client, "stats detail dump"), ["PREFIX p get 0 hit 0 set 200 del 0"]);
    assert_eq!(client.ask("stats detail off\r\n"), "OK");
    assert_eq!(client.ask("verbosity 1\r\n"), "OK");
    assert_eq!(field(&listing(&mut client, "stats settings"), "verbosity"), "1");
}

#[test]
fn version_is_one_word_the_lowest_of_the_servers_and_that_of_stats() {
    let (silent, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let of = |version: &'static str, is_one: bool| {
        let (silent, asked) = (Arc::clone(&silent), Arc::clone(&asked));
        Scripted::answering(move |line| match line {
            _ if is_one && silent.load(Ordering::Relaxed) => Vec::new(),
            b"version" => {
                asked.fetch_add(1, Ordering::Relaxed);
                format!("VERSION {version}\r\n").into_bytes()
            }
            b"stats" => format!("STAT pid 1\r\nSTAT version {version}\r\nEND\r\n").into_bytes(),
            _ => b"END\r\n".to_vec(),
        })
    };
    let servers = [of("1.6.18", false), of("1.6.9 Ubuntu", true), of("1.6.38", false)];
    let options = ["timeout: 400", "auto_eject_hosts: true", "server_failure_limit: 1", "server_retry_timeout: 60000"];
    let proxy = Proxy::start(&servers.each_ref().map(|server| server.address), &options).expect_log("server ejected");
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.ask("version\r\n"), "VERSION 1.6.9");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3, "each is asked once as long as its connection lasts");
    assert_eq!(field(&listing(&mut client, "stats"), "version"), "1.6.9");
    // It is the pool's, also while the server is away that has it.
    silent.store(true, Ordering::Relaxed);
    wait_until("the server to be out", Duration::from_secs(10), || {
        (0..20).for_each(|key| assert_eq!(client.ask(format!("get {}\r\n", scattered_key(key))), "END"));
        proxy.statistics()["pool"]["server_ejects"] == 1
    });
    assert_eq!(client.ask("version\r\n"), "VERSION 1.6.9");
    assert_eq!(field(&listing(&mut client, "stats"), "version"), "1.6.9");
    let nobody = Proxy::start(&[([127, 0, 0, 1], free_port()).into()], &[]);
    assert_eq!(nobody.client().ask("version\r\n"), "VERSION 1.6.18");
}

#[test]
fn nobody_is_told_that_servers_have_done_what_they_have_not() {
    let server = Process::memcached();
    for policy in ["miss", "absorb", "error"] {
        let policy = format!("on_failure: {policy}");
        let proxy = Proxy::start(&[server.address, ([127, 0, 0, 1], free_port()).into()], &[&policy]);
        let mut client = proxy.client();
        for order in ["stats detail on", "stats detail off", "stats reset", "verbosity 1"] {
            assert_eq!(client.ask(format!("{order}\r\n")), "SERVER_ERROR Connection refused", "{order}");
        }
        for order in ["cache_memlimit 64", "shutdown", "lru mode flat", "slabs automove 0", "watch"] {
            let answer = client.ask(format!("{order}\r\n"));
            assert!(answer.contains("ERROR"), "{order}: {answer}");
        }
        client.send("verbosity 1 noreply\r\n");
        assert_eq!(client.ask("mn\r\n"), "MN");
    }
}

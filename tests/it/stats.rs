//! The statistics port speaks twemproxy's JSON, with live values.

use super::support::process::{Process, Proxy, free_port};

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
    super::support::wait_until("the client to leave", std::time::Duration::from_secs(2), || {
        proxy.statistics()["pool"]["client_connections"] == 0
    });
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
    for line in ["STAT requests 68\r\n", "STAT set_done 60\r\n", "STAT other_done 6\r\n", "STAT degraded_timeout 0\r\n"]
    {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    client.send("stats settings\r\n");
    let text = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
    assert!(text.contains("STAT maxbytes 536870912\r\n"), "settings are told once, not added: {text}");
}

//! Memory stays bounded whatever clients do.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use super::support::client::Client;
use super::support::process::{Process, Proxy};

/// How long the greedy client does not read; `SOFTMISS_GREEDY_SECONDS` sets another time.
fn greed() -> Duration {
    let seconds = std::env::var("SOFTMISS_GREEDY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    Duration::from_secs(seconds)
}

#[test]
fn a_client_that_asks_for_much_and_does_not_read_costs_little_and_gets_everything() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 5000"]);
    let mut client = proxy.client();
    let value = "v".repeat(100_000);
    for number in 0..100 {
        assert_eq!(client.ask(format!("set big{number} 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    }
    let before = proxy.resident();
    let requests: String = (0..10_000).map(|number| format!("get big{}\r\n", number % 100)).collect();
    client.send(requests);
    let mut most = 0;
    let start = std::time::Instant::now();
    while start.elapsed() < greed() {
        most = most.max(proxy.resident());
        std::thread::sleep(Duration::from_millis(20));
    }
    for number in 0..10_000 {
        let key = format!("big{}", number % 100);
        let expected = format!("VALUE {key} 0 100000\r\n");
        let found = client.read(expected.len() + 100_000 + 7);
        assert!(found.starts_with(expected.as_bytes()), "answer {number}: {:?}", String::from_utf8_lossy(&found[..40]));
        most = most.max(if number % 200 == 0 { proxy.resident() } else { 0 });
    }
    let cost = most.saturating_sub(before);
    println!("a greedy client costs {} KB at the most", cost >> 10);
    assert!(cost < 64 << 20, "{cost} bytes");
    // Nothing of it is left behind, and a multi-get of as much does no harm either.
    let keys: Vec<_> = (0..2000).map(|number| format!("big{}", number % 100)).collect();
    client.send(format!("get {}\r\n", keys.join(" ")));
    std::thread::sleep(Duration::from_millis(700));
    let held = proxy.resident().saturating_sub(before);
    assert!(held < 64 << 20, "a multi-get of 200 MB holds {held} bytes");
    for key in keys {
        let expected = format!("VALUE {key} 0 100000\r\n");
        let found = client.read(expected.len() + 100_000 + 2);
        assert!(found.starts_with(expected.as_bytes()));
    }
    assert_eq!(client.line(), "END");
}

#[test]
fn clients_wait_while_files_run_out_and_are_served_afterwards() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["preconnect: true"]).expect_log("cannot accept a client");
    let mut first = proxy.client();
    assert_eq!(first.ask("get nothing\r\n"), "END");
    let open = std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).expect("a running proxy").count();
    let allow = |files: usize| {
        let limits = format!("--nofile={files}:1024");
        let status = Command::new("prlimit").arg(format!("--pid={}", proxy.id())).arg(limits).status();
        assert!(status.is_ok_and(|status| status.success()));
    };
    allow(open);
    let mut others: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for other in &mut others {
        other.send("get nothing\r\n");
    }
    proxy.wait_for_log("cannot accept a client", Duration::from_secs(5));
    let before = proxy.busy();
    std::thread::sleep(Duration::from_millis(500));
    assert!(proxy.busy() - before < Duration::from_millis(100), "it goes on trying");
    assert_eq!(first.ask("get nothing\r\n"), "END", "who is there is served");
    allow(1024);
    for other in &mut others {
        assert_eq!(other.line(), "END");
    }
    let told = proxy.log().iter().filter(|line| line.contains("cannot accept a client")).count();
    assert_eq!(told, 1, "told once");
}

#[test]
fn an_idle_client_costs_little() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &[]);
    let connect = |count: usize| {
        let clients: Vec<Client> = (0..count).map(|_| proxy.client()).collect();
        clients
            .into_iter()
            .map(|mut client| {
                assert_eq!(client.ask("set a 0 0 100\r\n".to_owned() + &"x".repeat(100) + "\r\n"), "STORED");
                client.send("get a\r\n");
                client.read_through(b"END\r\n");
                client
            })
            .collect::<Vec<_>>()
    };
    let _first = connect(500);
    let before = proxy.resident();
    let _clients = connect(2000);
    let each = proxy.resident().saturating_sub(before) / 2000;
    println!("an idle client costs {each} bytes");
    assert!(each <= 1536, "{each} bytes");
}

#[test]
fn clients_above_the_limit_are_turned_away() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["client_connections: 3"]).expect_log("client_connections reached");
    // The probe of the listener was a client too; it is gone, or soon will be.
    super::support::wait_until("room", Duration::from_secs(5), || {
        let pool = &proxy.statistics()["pool"];
        pool["client_connections"] == 0 && pool["client_eof"] == 1
    });
    let mut served: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut served {
        assert_eq!(client.ask("mn\r\n"), "MN");
    }
    assert!(proxy.client().is_closed());
    served.pop();
    super::support::wait_until("room", Duration::from_secs(5), || {
        proxy.statistics()["pool"]["client_connections"] == 2
    });
    assert_eq!(proxy.client().ask("mn\r\n"), "MN");
}

#[test]
fn the_limit_of_clients_is_exact_whichever_worker_they_are_given_to() {
    let server = Process::memcached();
    let port = super::support::process::free_port();
    let text = format!(
        "softmiss:\n  workers: 2\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 5000\n  client_connections: 20\n  \
         servers:\n    - {}:1\n",
        server.address
    );
    let proxy = Proxy::with_file(&text, port).expect_log("client_connections reached");
    let count = || proxy.statistics()["pool"]["client_connections"].as_u64();
    super::support::wait_until("room", Duration::from_secs(5), || count() == Some(0));
    for _ in 0..10 {
        // All at once, so that more wait to be let in than a worker has been told of.
        proxy.signal("STOP");
        let mut clients: Vec<_> = (0..50).map(|_| proxy.client()).collect();
        proxy.signal("CONT");
        let served = clients.iter_mut().filter_map(|client| {
            let _ = client.stream.write_all(b"mn\r\n"); // who is turned away may be so by now
            client.try_line()
        });
        let served = served.count();
        assert_eq!(served, 20);
        assert_eq!(count(), Some(20));
        drop(clients);
        super::support::wait_until("all to leave", Duration::from_secs(5), || count() == Some(0));
    }
}

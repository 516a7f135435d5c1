//! Memory stays bounded when many ask for much at once, and when somebody merely says that much is to come.

use std::time::Duration;

use super::support::bad::Scripted;
use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

/// A proxy whose buffers may take `limit` in all, with a timeout in milliseconds.
fn limited(servers: &[std::net::SocketAddr], limit: &str, timeout: u32) -> Proxy {
    let port = free_port();
    let mut text = format!(
        "softmiss:\n  memory_limit: {limit}\npool:\n  listen: 127.0.0.1:{port}\n  timeout: {timeout}\n  servers:\n"
    );
    for server in servers {
        text.push_str(&format!("   - {server}:1\n"));
    }
    Proxy::with_file(&text, port).expect_log("memory")
}

/// The most that the process holds within a span, over what it held before.
fn most_over(proxy: &Proxy, before: usize, span: Duration) -> usize {
    let start = std::time::Instant::now();
    let mut most = 0;
    while start.elapsed() < span {
        most = most.max(proxy.resident());
        std::thread::sleep(Duration::from_millis(10));
    }
    most.saturating_sub(before)
}

/// Above the limit, requests are answered as failed, by the policy of the pool. Below it, they are served.
fn still_serves(proxy: &Proxy) {
    let mut client = proxy.client();
    wait_until("room for a small value", Duration::from_secs(5), || {
        let answer = client.ask("set small 0 0 1\r\nx\r\n");
        assert!(answer == "STORED" || answer == "NOT_STORED", "{answer}");
        answer == "STORED"
    });
    client.send("get small\r\n");
    assert_eq!(client.read_through(b"END\r\n"), b"VALUE small 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn a_length_that_is_only_announced_costs_nothing() {
    let server = Process::memcached();
    let proxy = limited(&[server.address], "512mb", 3000);
    let before = proxy.resident();
    let mut liars: Vec<Client> = (0..300)
        .map(|number| {
            let mut client = proxy.client();
            client.send(format!("set liar{number} 0 0 60000000\r\nonly this"));
            client
        })
        .collect();
    let cost = most_over(&proxy, before, Duration::from_millis(300));
    println!("300 clients that announce 60 MB each cost {} KB", cost >> 10);
    assert!(cost < 8 << 20, "{cost} bytes");
    still_serves(&proxy);
    assert!(liars[0].rest().is_empty());
    liars.clear();
    // The same from a server.
    let liar = Scripted::answering(|line| {
        let key = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        [b"VALUE ", key, b" 0 60000000\r\nonly this"].concat()
    });
    let proxy = Proxy::start(&[liar.address], &["timeout: 300", "server_connections: 100"]);
    let before = proxy.resident();
    let clients: Vec<_> = (0..100)
        .map(|number| {
            let mut client = proxy.client();
            client.send(format!("get k{number}\r\n"));
            client
        })
        .collect();
    let cost = most_over(&proxy, before, Duration::from_millis(200));
    for mut client in clients {
        assert_eq!(client.line(), "END");
    }
    println!("100 responses of which 60 MB are announced cost {} KB", cost >> 10);
    assert!(cost < 8 << 20, "{cost} bytes");
}

#[test]
fn a_crowd_of_greedy_readers_stays_within_the_limit() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let proxy = limited(&[servers[0].address, servers[1].address], "64mb", 3000);
    let value = "v".repeat(100_000);
    let mut first = proxy.client();
    for number in 0..20 {
        assert_eq!(first.ask(format!("set big{number} 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    }
    let before = proxy.resident();
    let mut crowd: Vec<_> = (0..60).map(|_| proxy.client()).collect();
    for client in &mut crowd {
        let requests: String = (0..200).map(|number| format!("get big{}\r\n", number % 20)).collect();
        client.send(requests);
    }
    let cost = most_over(&proxy, before, Duration::from_millis(1500));
    println!("60 clients that ask for 20 MB each and do not read cost {} MB", cost >> 20);
    assert!(cost < 96 << 20, "{cost} bytes with a limit of 64 MB");
    // Each gets all its answers in the end, hits or misses, and no error.
    let (mut hits, mut misses) = (0, 0);
    for client in &mut crowd {
        for number in 0..200 {
            let line = client.line();
            if line == "END" {
                misses += 1;
                continue;
            }
            assert_eq!(line, format!("VALUE big{} 0 100000", number % 20));
            let found = client.read(100_000 + 7);
            assert!(found.starts_with(value.as_bytes()) && found.ends_with(b"\r\nEND\r\n"));
            hits += 1;
        }
        assert!(client.rest().is_empty());
    }
    println!("{hits} hits, {misses} misses");
    assert!(hits > 0);
    // The operator is told, and not thousands of times.
    let told = proxy.log().iter().filter(|line| line.contains("memory_limit reached")).count();
    assert!(if misses > 0 { told > 0 } else { told == 0 } && told < 5, "{misses} misses, told {told} times");
    drop(crowd);
    still_serves(&proxy);
}

#[test]
fn memory_is_given_back_after_a_burst_of_large_values() {
    let server = Process::memcached_with(free_port(), &["-I", "2m"], std::process::Stdio::null());
    let proxy = limited(&[server.address], "512mb", 5000);
    let value = "v".repeat(1 << 20);
    let mut first = proxy.client();
    for number in 0..10 {
        assert_eq!(first.ask(format!("set big{number} 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    }
    let before = proxy.resident();
    let mut crowd: Vec<_> = (0..200).map(|_| proxy.client()).collect();
    for client in &mut crowd {
        client.send((0..10).map(|number| format!("get big{number}\r\n")).collect::<String>());
    }
    let most = most_over(&proxy, before, Duration::from_millis(1000));
    let (mut hits, mut misses) = (0, 0);
    for client in &mut crowd {
        for number in 0..10 {
            let line = client.line();
            if line == "END" {
                misses += 1; // above the limit
                continue;
            }
            assert_eq!(line, format!("VALUE big{number} 0 {}", value.len()));
            assert!(client.read(value.len() + 7).ends_with(b"v\r\nEND\r\n"));
            hits += 1;
        }
    }
    println!("{hits} hits, {misses} misses; {} MB at most", most >> 20);
    let over = || proxy.resident().saturating_sub(before);
    let start = std::time::Instant::now();
    let given_back = |over: &dyn Fn() -> usize| {
        while over() > 16 << 20 && start.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{} KB more than before, after {:?}", over() >> 10, start.elapsed());
        over() <= 16 << 20
    };
    assert!(given_back(&over), "with idle clients");
    drop(crowd);
    assert!(given_back(&over), "without clients");
}

#[test]
fn a_crowd_of_slow_writers_stays_within_the_limit() {
    let server = Process::memcached();
    let proxy = limited(&[server.address], "64mb", 3000);
    let before = proxy.resident();
    let part = "w".repeat(4_000_000);
    let mut crowd: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    // 200 MB are sent of values that never become whole. What the proxy does not read stays in the sockets, so each
    // client has a thread that may be stuck there.
    let writers: Vec<_> = crowd
        .iter_mut()
        .map(|client| client.stream.try_clone().expect("a second handle"))
        .enumerate()
        .map(|(number, mut stream)| {
            let part = part.clone();
            std::thread::spawn(move || {
                use std::io::Write;
                stream.set_write_timeout(Some(Duration::from_secs(2))).expect("write timeout");
                let _ = stream.write_all(format!("set slow{number} 0 0 5000000\r\n{part}").as_bytes());
            })
        })
        .collect();
    let cost = most_over(&proxy, before, Duration::from_millis(2500));
    println!("50 clients that send 4 MB of a value and stop cost {} MB", cost >> 20);
    for writer in writers {
        writer.join().expect("a writer");
    }
    assert!(cost < 96 << 20, "{cost} bytes with a limit of 64 MB");
    assert!(matches!(proxy.client().ask("set small 0 0 1\r\nx\r\n").as_str(), "STORED" | "NOT_STORED"));
    drop(crowd);
    still_serves(&proxy);
}

#[test]
fn a_flood_of_writes_to_a_server_that_hangs_is_dropped_and_not_kept() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let proxy = limited(&[servers[0].address, servers[1].address], "512mb", 300);
    let before = proxy.resident();
    servers[0].signal("STOP");
    let block = format!(" 0 0 50000 noreply\r\n{}\r\n", "f".repeat(50_000));
    let floods: Vec<_> = (0..4)
        .map(|number| {
            let (mut client, block) = (proxy.client(), block.clone());
            std::thread::spawn(move || {
                // 50 MB each; a write that finds the queue full may take as long as the pool's timeout.
                for turn in 0..1000_u64 {
                    client.send(format!("set f{number}:{:x}{block}", turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                }
                assert_eq!(client.ask("mn\r\n"), "MN", "the connection goes on");
            })
        })
        .collect();
    let mut cost = 0;
    while floods.iter().any(|flood| !flood.is_finished()) {
        cost = cost.max(most_over(&proxy, before, Duration::from_millis(50)));
    }
    servers[0].signal("CONT");
    for flood in floods {
        flood.join().expect("a flood");
    }
    // An idle proxy rests: no timer goes round and round.
    let busy = proxy.busy();
    std::thread::sleep(Duration::from_millis(300));
    let busy = proxy.busy() - busy;
    assert!(busy < Duration::from_millis(100), "busy for {busy:?} of 300 ms with nothing to do");
    println!("200 MB of writes, half of them to a server that hangs, cost {} MB", cost >> 20);
    assert!(cost < 64 << 20, "{cost} bytes");
    still_serves(&proxy);
}

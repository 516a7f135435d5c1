//! File descriptors run out: clients wait, and nobody else goes short.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::support::http::get;
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

/// A configuration with an admin port, and pools at these ports.
fn file(admin: u16, workers: usize, ports: &[u16], servers: &[SocketAddr], more: &str) -> String {
    let mut text = format!("softmiss:\n  admin: 127.0.0.1:{admin}\n  workers: {workers}\n");
    for (number, port) in ports.iter().enumerate() {
        text.push_str(&format!("pool-{number}:\n  listen: 127.0.0.1:{port}\n  timeout: 1000\n"));
        text.push_str("  auto_eject_hosts: true\n  server_failure_limit: 2\n  server_retry_timeout: 1100\n");
        text.push_str(more);
        text.push_str("  servers:\n");
        servers.iter().for_each(|server| text.push_str(&format!("    - {server}:1\n")));
    }
    text
}

fn open_files(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).expect("a running proxy").count()
}

#[test]
fn the_limit_is_raised_as_far_as_it_may_be() {
    let server = Process::memcached();
    let (admin, port) = (free_port(), free_port());
    let proxy = Proxy::with_files(&file(admin, 1, &[port], &[server.address], ""), port, "256:4000");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.id())).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let [soft, hard] = line.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_eq!((soft, hard), ("4000", "4000"));
}

#[test]
fn clients_of_all_pools_and_workers_leave_servers_and_operators_what_they_need() {
    let mut servers = [Process::memcached(), Process::memcached()];
    let addresses = servers.each_ref().map(|server| server.address);
    let (admin, ports) = (free_port(), [free_port(), free_port()]);
    let text = file(admin, 2, &ports, &addresses, "");
    let proxy = Proxy::with_files(&text, ports[0], "128:128")
        .expect_log("cannot accept a client")
        .expect_log("server ejected")
        .expect_log("no live server");
    let admin = SocketAddr::from(([127, 0, 0, 1], admin));
    let mut client = proxy.client();
    assert_eq!(client.ask("version\r\n").split(' ').next(), Some("VERSION"));
    // More than there are descriptors, of both pools.
    let mut crowd: Vec<_> = (0..200)
        .map(|number| super::support::client::Client::connect(([127, 0, 0, 1], ports[number % 2]).into()))
        .collect();
    crowd.iter_mut().for_each(|client| client.send("mn\r\n"));
    proxy.wait_for_log("cannot accept a client", Duration::from_secs(5));
    let line = proxy.log().into_iter().find(|line| line.contains("cannot accept a client")).expect("the line");
    assert!(line.contains("LimitNOFILE") && line.contains("limit=128"), "{line}");
    // Everything that is not a client's is opened anew.
    servers.iter_mut().for_each(Process::kill);
    wait_until("both servers out", Duration::from_secs(10), || {
        (0..20).for_each(|number| drop(client.ask(format!("set key:{number} 0 0 1\r\nv\r\n"))));
        get(admin, "/readyz").body.contains("no server in the ring")
    });
    let _back = addresses.map(|address| Process::memcached_on(address.port()));
    wait_until("both servers back", Duration::from_secs(10), || {
        (0..20).all(|number| client.ask(format!("set key:{number} 0 0 1\r\nv\r\n")) == "STORED")
    });
    let readers: Vec<_> = (0..40).map(|_| TcpStream::connect(admin).expect("the admin port")).collect();
    assert_eq!(get(admin, "/healthz").status, 200);
    drop(readers);
    assert!(open_files(&proxy) <= 128);
    assert_eq!(proxy.log().iter().filter(|line| line.contains("cannot accept a client")).count(), 1, "told once");
    // Nobody was turned away: when some leave, others have their turn.
    let last = crowd.split_off(190);
    drop(crowd);
    for mut client in last {
        assert_eq!(client.line(), "MN");
    }
}

#[test]
fn a_lack_of_descriptors_is_not_a_servers_failure() {
    let server = Process::memcached();
    let (admin, port) = (free_port(), free_port());
    let text = file(admin, 1, &[port], &[server.address], "");
    let proxy =
        Proxy::with_file(&text, port).expect_log("cannot connect to a server").expect_log("cannot accept a client");
    let mut client = proxy.client(); // before there is a connection to the server
    wait_until("it is served", Duration::from_secs(5), || client.ask("mn\r\n") == "MN");
    // Its thread needs descriptors of its own, which it has by then.
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], admin)), "/healthz").status, 200);
    let allow = |files: usize| {
        let mut command = std::process::Command::new("prlimit");
        let limits = command.arg(format!("--pid={}", proxy.id())).arg(format!("--nofile={files}:4096"));
        assert!(limits.status().is_ok_and(|status| status.success()));
    };
    allow(3); // fewer than there are
    for _ in 0..20 {
        assert_eq!(client.ask("set a 0 0 1\r\nv\r\n"), "NOT_STORED");
        std::thread::sleep(Duration::from_millis(20)); // longer than the pause between two attempts, so that each is one
    }
    proxy.wait_for_log("cannot connect to a server", Duration::from_secs(5));
    allow(4096);
    let statistics = proxy.statistics();
    let (pool, server) = (&statistics["pool-0"], &statistics["pool-0"][server.address.to_string()]);
    assert_eq!((&pool["server_ejects"], &server["failures_in_a_row"]), (&0.into(), &0.into()), "{pool}");
    assert!(pool["degraded_no_resources"].as_u64().is_some_and(|count| count > 0), "{pool}");
    wait_until("the server used", Duration::from_secs(5), || client.ask("set a 0 0 1\r\nv\r\n") == "STORED");
}

#[test]
fn a_client_with_a_server_connection_for_itself_counts_twice() {
    let server = Process::redis();
    let (admin, port) = (free_port(), free_port());
    let text = file(admin, 1, &[port], &[server.address], "  redis: true\n");
    let proxy =
        Proxy::with_files(&text, port, "96:96").expect_log("cannot accept a client").expect_log("cannot connect");
    let crowd: Vec<_> = (0..60)
        .map(|_| {
            let mut client = proxy.client();
            client.send("BLPOP queue 0\r\n");
            client
        })
        .collect();
    proxy.wait_for_log("cannot", Duration::from_secs(5));
    assert!(open_files(&proxy) < 90, "{}", open_files(&proxy));
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], admin)), "/healthz").status, 200);
    drop(crowd);
    let mut client = proxy.client();
    assert_eq!(client.ask("SET a 1\r\n"), "+OK");
}

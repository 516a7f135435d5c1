//! Values that are asked for often are kept in the process: the option `near_cache`.

use std::time::Duration;

mod memcached;
mod redis;

use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

/// Nothing in a test takes so long.
const LONG: &str = "near_cache: {ttl: 1h}";

/// Hosts that share some servers. Each has two workers.
struct Fleet {
    servers: Vec<Process>,
    proxies: Vec<Proxy>,
}

impl Fleet {
    fn of_memcached(servers: usize, proxies: usize, options: &[&str]) -> Self {
        Self::start((0..servers).map(|_| Process::memcached()).collect(), proxies, options)
    }

    fn of_redis(servers: usize, proxies: usize, options: &[&str]) -> Self {
        let servers = (0..servers).map(|_| Process::redis()).collect();
        Self::start(servers, proxies, &[options, &["redis: true"]].concat())
    }

    fn start(servers: Vec<Process>, proxies: usize, options: &[&str]) -> Self {
        let of_pool = options.iter().map(|line| format!("  {line}\n")).collect::<String>();
        let lines = servers.iter().map(|server| format!("  - {}:1\n", server.address)).collect::<String>();
        let proxy = |_| {
            let port = free_port();
            let pool = format!("pool:\n  listen: 127.0.0.1:{port}\n  timeout: 2000\n{of_pool}  servers:\n{lines}");
            Proxy::with_file(&format!("softmiss:\n  workers: 2\n{pool}"), port)
        };
        Self { proxies: (0..proxies).map(proxy).collect(), servers }
    }

    fn client(&self, proxy: usize) -> Client {
        self.proxies[proxy].client()
    }

    /// What is counted of the pool, over all proxies.
    fn count(&self, name: &str) -> u64 {
        self.proxies.iter().map(|proxy| proxy.statistics()["pool"][name].as_u64().expect("a count")).sum()
    }

    /// What the servers have been asked, all commands together.
    fn asked(&self) -> u64 {
        let of = |proxy: &Proxy| {
            let pool = proxy.statistics()["pool"].clone();
            let servers = pool.as_object().expect("a pool").values().filter_map(|value| value.get("requests"));
            servers.filter_map(serde_json::Value::as_u64).sum::<u64>()
        };
        self.proxies.iter().map(of).sum()
    }

    /// Asks for something until it is answered from what is kept.
    fn warm(&self, client: &mut Client, request: &str, answer: &[u8]) {
        let keys = self.count("near_hits");
        wait_until("kept", Duration::from_secs(10), || {
            ask(client, request, answer);
            self.count("near_hits") > keys
        });
    }
}

fn ask(client: &mut Client, request: &str, answer: &[u8]) {
    client.send(request);
    let found = client.read(answer.len());
    assert_eq!(found.escape_ascii().to_string(), answer.escape_ascii().to_string(), "{request:?}");
}

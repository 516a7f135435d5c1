//! A key that is missed is computed once, whoever asks for it: the option `stampede`.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod bounds;
mod changes;
mod memcached;
mod redis;
mod stale;

use super::support::client::Client;
use super::support::process::{Process, Proxy};
use super::support::wait_until;

/// Long enough that nothing in a test waits for so long by itself.
const LONG: &str = "stampede: {wait: 30s, lease: 60s}";

/// Hosts that share some servers.
struct Fleet {
    servers: Vec<Process>,
    proxies: Vec<Proxy>,
}

impl Fleet {
    fn of_memcached(servers: usize, proxies: usize, option: &'static str) -> Self {
        Self::start((0..servers).map(|_| Process::memcached()).collect(), proxies, &[option])
    }

    fn of_redis(servers: usize, proxies: usize, option: &'static str) -> Self {
        let servers = (0..servers).map(|_| Process::redis()).collect();
        Self::start(servers, proxies, &[option, "redis: true", "on_failure: miss"])
    }

    fn start(servers: Vec<Process>, proxies: usize, options: &[&str]) -> Self {
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let more = [options, &["timeout: 2000", "server_failure_limit: 100"]].concat();
        let proxies = (0..proxies).map(|_| Proxy::start(&addresses, &more)).collect();
        Self { servers, proxies }
    }

    fn client(&self, proxy: usize) -> Client {
        self.proxies[proxy].client()
    }

    /// What is counted of the pool, over all proxies.
    fn count(&self, name: &str) -> u64 {
        self.proxies.iter().map(|proxy| proxy.statistics()["pool"][name].as_u64().expect("a count")).sum()
    }

    /// Waits until so many requests are held.
    fn wait_for_waits(&self, count: u64) {
        wait_until("waiting", Duration::from_secs(10), || self.count("stampede_waits") == count);
    }
}

/// So many clients over all proxies, each on a thread of its own, that ask for a value until they have it: those who miss it
/// compute it, which takes so long. How often it was computed.
fn computed(
    fleet: &Fleet,
    clients: usize,
    takes: Duration,
    get: impl Fn(&mut Client) -> bool + Sync,
    set: impl Fn(&mut Client) + Sync,
) -> usize {
    let (computed, together) = (AtomicUsize::new(0), Barrier::new(clients));
    std::thread::scope(|scope| {
        for number in 0..clients {
            let (computed, together, get, set) = (&computed, &together, &get, &set);
            scope.spawn(move || {
                let mut client = fleet.client(number % fleet.proxies.len());
                together.wait();
                if !get(&mut client) {
                    computed.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(takes);
                    set(&mut client);
                }
                assert!(get(&mut client), "what is there is given");
            });
        }
    });
    computed.into_inner()
}

/// Forty workers of Django ask for the same at the same time: each thing is computed once. A page stands at two keys, of which the
/// second is asked for by who is given the first: they may come before it is stored, and then one of them computes it as well.
fn django_computes_once(fleet: &Fleet, kind: &str) {
    let ports = fleet.proxies.iter().map(|proxy| proxy.address.port().to_string());
    let output = super::clients::python("stampede.py").arg(kind).args(ports).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let computed = String::from_utf8_lossy(&output.stdout).replace("page 2", "page 1");
    assert_eq!(computed.trim_end(), "value 1 page 1 fragment 1 many 1");
}

/// Asserts that nothing has come for a client: what it asked is held.
fn is_held(client: &mut Client) {
    client.stream.set_read_timeout(Some(Duration::from_millis(60))).expect("a limit");
    let mut byte = [0];
    let read = std::io::Read::read(&mut client.stream, &mut byte);
    assert!(read.is_err(), "something came: {read:?} {byte:?}");
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
}

/// Runs something, and says how long that took.
fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn ask(client: &mut Client, request: &str, answer: &[u8]) {
    client.send(request);
    expect(client, answer);
}

fn expect(client: &mut Client, answer: &[u8]) {
    let found = client.read(answer.len());
    assert_eq!(found.escape_ascii().to_string(), answer.escape_ascii().to_string());
}

//! Keys that move to another server when servers are added bring along what is stored of them: the option `warmup`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod notes;
mod redis;
mod rings;

use super::reload::{Reloaded, got, loopback, pool};
use super::support::client::Client;
use super::support::http::post;
use super::support::process::{Process, free_port};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

const SOON: Duration = Duration::from_secs(10);

/// A pool whose file can be changed, and its servers.
struct Pool {
    servers: Vec<Process>,
    listen: String,
    more: Vec<&'static str>,
    settings: &'static str,
    reloaded: Reloaded,
}

impl Pool {
    /// With the first `count` of these servers.
    fn start(servers: Vec<Process>, count: usize, settings: &'static str, more: &[&'static str]) -> Self {
        let port = free_port();
        let listen = loopback(port).to_string();
        let reloaded = Reloaded::start(port, settings, &text(&listen, &servers, count, more));
        Self { servers, listen, more: more.to_vec(), settings, reloaded }
    }

    fn of_memcached(count: usize, settings: &'static str, more: &[&'static str]) -> Self {
        Self::start((0..=count).map(|_| Process::memcached()).collect(), count, settings, more)
    }

    fn of_redis(count: usize, settings: &'static str, more: &[&'static str]) -> Self {
        Self::start(
            (0..=count).map(|_| Process::redis()).collect(),
            count,
            settings,
            &[&["redis: true"], more].concat(),
        )
    }

    /// The pool has the first `count` servers from here on.
    fn goes_over_to(&self, count: usize) {
        let text = text(&self.listen, &self.servers, count, &self.more);
        assert!(!self.reloaded.goes_over(self.settings, &text).is_empty());
    }

    fn client(&self) -> Client {
        self.reloaded.proxy.client()
    }

    fn count(&self, name: &str) -> f64 {
        self.reloaded.metric(&format!("softmiss_pool_{name}_total"))
    }
}

fn text(listen: &str, servers: &[Process], count: usize, more: &[&str]) -> String {
    let named: Vec<(SocketAddr, &str)> =
        servers.iter().zip(NAMES).map(|(server, name)| (server.address, name)).take(count).collect();
    pool("p", listen, &named, more)
}

fn set(client: &mut Client, key: &str, value: &str) {
    assert_eq!(client.ask(format!("set {key} 5 100 {}\r\n{value}\r\n", value.len())), "STORED");
}

/// So many keys, each with itself as its value.
fn stored(client: &mut Client, count: usize) -> Vec<String> {
    let keys = names(count);
    keys.iter().for_each(|key| set(client, key, key));
    keys
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key:{number}")).collect()
}

fn value(key: &str, value: &str) -> String {
    format!("VALUE {key} 5 {}\r\n{value}\r\nEND\r\n", value.len())
}

/// Those of some keys that belong to the last of the first `count` servers.
fn moved(pool: &Pool, count: usize, keys: impl Iterator<Item = String>) -> Vec<String> {
    let file = pool.reloaded.proxy.file.with_extension("next");
    std::fs::write(&file, text(&pool.listen, &pool.servers, count, &pool.more)).expect("a file");
    let is_there = |key: &String| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_softmiss"));
        let output = command.arg("-c").arg(&file).args(["route", "p", key]).output().expect("softmiss");
        String::from_utf8_lossy(&output.stdout).contains(&format!(" {}", NAMES[count - 1]))
    };
    keys.filter(is_there).collect()
}

#[test]
fn nothing_is_missed_when_a_server_is_added() {
    let pool = Pool::of_memcached(4, "", &["warmup: 1m"]);
    let mut client = pool.client();
    let keys = stored(&mut client, 1000);
    pool.goes_over_to(5);
    for key in &keys {
        assert_eq!(got(&mut client, key), value(key, key));
    }
    let brought = pool.count("warmup_brought");
    assert!((100.0..350.0).contains(&brought), "{brought} of 1000 keys brought along");
    assert_eq!(pool.count("warmup_failed"), 0.0);
    // They are where they belong, with what they had still to live.
    let mut server = pool.servers[4].client();
    let there: Vec<_> = keys.iter().filter(|key| got(&mut server, key) != "END\r\n").collect();
    assert_eq!(there.len() as f64, brought);
    let told = server.ask(format!("mg {} t f\r\n", there[0]));
    let left: u32 = told.split(" t").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a lifetime");
    assert!((90..=101).contains(&left) && told.contains(" f5"), "{told}");
    // Each is looked for once.
    let asked = pool.count("warmup_asked");
    keys.iter().for_each(|key| assert_eq!(got(&mut client, key), value(key, key)));
    assert_eq!(pool.count("warmup_asked"), asked);
}

#[test]
fn a_get_of_many_keys_brings_all_of_them_along() {
    let pool = Pool::of_memcached(3, "", &["warmup: 1m"]);
    let mut client = pool.client();
    let keys = stored(&mut client, 300);
    pool.goes_over_to(4);
    client.send(format!("get {}\r\n", keys.join(" ")));
    let answer = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
    assert_eq!(answer.matches("VALUE ").count(), 300);
    assert!(pool.count("warmup_brought") > 30.0);
}

#[test]
fn guards_and_changes_find_what_had_been_stored() {
    let pool = Pool::of_memcached(1, "", &["warmup: 1m"]);
    let mut client = pool.client();
    let names = ["add", "incr", "append", "delete", "touch", "replace", "cas", "meta", "late"];
    let keys: Vec<String> = (0..20).flat_map(|number| names.map(|name| format!("{name}:{number}"))).collect();
    keys.iter().for_each(|key| set(&mut client, key, "7"));
    pool.goes_over_to(2);
    for key in &keys {
        let (name, mut ask) = (key.split(':').next().expect("a name"), |request: String| client.ask(request));
        let expected = match name {
            "add" => (ask(format!("add {key} 0 0 1\r\nx\r\n")), "NOT_STORED"),
            "incr" => (ask(format!("incr {key} 3\r\n")), "10"),
            "append" => (ask(format!("append {key} 0 0 1\r\nx\r\n")), "STORED"),
            "delete" => (ask(format!("delete {key}\r\n")), "DELETED"),
            "touch" => (ask(format!("touch {key} 50\r\n")), "TOUCHED"),
            "replace" => (ask(format!("replace {key} 0 0 1\r\nx\r\n")), "STORED"),
            "meta" => (ask(format!("ms {key} 1 ME\r\nx\r\n")), "NS"),
            "cas" => {
                client.send(format!("gets {key}\r\n"));
                let answer = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
                let mark = answer.lines().next().and_then(|line| line.rsplit(' ').next()).expect("a mark").to_owned();
                (client.ask(format!("cas {key} 0 0 1 {mark}\r\nx\r\n")), "STORED")
            }
            _ => (ask(format!("mg {key}\r\n")), "HD"),
        };
        assert_eq!(expected.0, expected.1, "{key}");
    }
    // Nobody finds what had been there before: it is gone from where it was.
    let mut before = pool.servers[0].client();
    let mut at_home = pool.servers[1].client();
    for key in keys.iter().filter(|key| !key.starts_with("late") && !key.starts_with("meta")) {
        let (old, new) = (got(&mut before, key), got(&mut at_home, key));
        assert!(old == "END\r\n" || new == "END\r\n", "{key}: {old} and {new}");
    }
}

/// Removes each key through one proxy while others ask for it through several: nobody finds it any more.
fn remove_among_readers(keys: &[String], through: SocketAddr, readers: &[SocketAddr]) {
    let round = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for address in readers {
            scope.spawn(|| {
                let mut client = Client::connect(*address);
                while let Some(key) = keys.get(round.load(Ordering::Acquire)) {
                    got(&mut client, key);
                }
            });
        }
        let mut others: Vec<Client> = readers.iter().map(|address| Client::connect(*address)).collect();
        let mut client = Client::connect(through);
        let mut back = None;
        for (index, key) in keys.iter().enumerate() {
            round.store(index, Ordering::Release);
            if index % 2 == 0 {
                std::thread::yield_now();
            }
            client.ask(format!("delete {key}\r\n"));
            back = back.or_else(|| others.iter_mut().any(|other| got(other, key) != "END\r\n").then_some(key));
        }
        round.store(keys.len(), Ordering::Release);
        assert_eq!(back, None, "is back");
        for other in &mut others {
            keys.iter().for_each(|key| assert_eq!(got(other, key), "END\r\n"));
        }
    });
}

#[test]
fn what_was_removed_stays_removed_for_all_workers_and_connections() {
    let pool = Pool::of_memcached(2, "  workers: 2\n", &["warmup: 1m", "server_connections: 2"]);
    let keys = names(900);
    let mut client = pool.client();
    keys.iter().for_each(|key| set(&mut client, key, "old"));
    pool.goes_over_to(3);
    let address = pool.reloaded.proxy.address;
    remove_among_readers(&keys, address, &[address; 4]);
    assert!(pool.count("warmup_brought") > 0.0);
}

#[test]
fn what_was_removed_through_another_process_stays_removed() {
    let pool = Pool::of_memcached(2, "", &["warmup: 1m"]);
    let port = free_port();
    let listen = loopback(port).to_string();
    let other = Reloaded::start(port, "", &text(&listen, &pool.servers, 2, &pool.more));
    let keys = names(900);
    let mut client = pool.client();
    keys.iter().for_each(|key| set(&mut client, key, "old"));
    pool.goes_over_to(3);
    other.goes_over("", &text(&listen, &pool.servers, 3, &pool.more));
    remove_among_readers(&keys, other.proxy.address, &[pool.reloaded.proxy.address; 3]);
    assert!(pool.count("warmup_brought") > 0.0);
}

#[test]
fn what_others_write_meanwhile_grants_no_lock_twice() {
    let pool = Pool::of_memcached(2, "", &["warmup: 1m"]);
    let mut client = pool.client();
    let keys: Vec<String> = (0..2000).map(|number| format!("lock:{number}")).collect();
    keys.iter().for_each(|key| set(&mut client, key, "taken"));
    pool.goes_over_to(3);
    let stop = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = pool.client();
            while stop.load(Ordering::Relaxed) == 0 {
                let sets: String = (0..500).map(|number| format!("set other:{number} 0 0 1\r\nx\r\n")).collect();
                other.send(sets);
                (0..500).for_each(|_| assert_eq!(other.line(), "STORED"));
            }
        });
        let granted: Vec<_> =
            keys.iter().filter(|key| client.ask(format!("add {key} 0 0 1\r\nx\r\n")) != "NOT_STORED").collect();
        stop.store(1, Ordering::Relaxed);
        assert!(granted.is_empty(), "granted twice: {granted:?}");
    });
    assert_eq!(pool.count("warmup_failed"), 0.0);
}

#[test]
fn after_a_flush_nothing_is_brought_along() {
    for by_operator in [false, true] {
        let mut pool = Pool::of_memcached(2, "", &["warmup: 1m"]);
        pool.reloaded = pool.reloaded.expect_log("servers flushed by the operator");
        let mut client = pool.client();
        let keys = stored(&mut client, 50);
        pool.goes_over_to(3);
        if by_operator {
            assert_eq!(post(pool.reloaded.admin, "/flush_all?pool=p").status, 200);
        } else {
            assert_eq!(client.ask("flush_all\r\n"), "OK");
        }
        keys.iter().for_each(|key| assert_eq!(got(&mut client, key), "END\r\n"));
        // Whatever is at their former homes behind it.
        let mut before = [pool.servers[0].client(), pool.servers[1].client()];
        let of_third = moved(&pool, 3, keys.into_iter());
        assert!(of_third.len() > 10, "{}", of_third.len());
        for key in &of_third {
            before.iter_mut().for_each(|server| set(server, key, "old"));
            assert_eq!(got(&mut client, key), "END\r\n");
        }
        assert_eq!(pool.count("warmup_brought"), 0.0);
    }
}

#[test]
fn a_former_home_that_hangs_costs_little() {
    let pool = Pool::of_memcached(1, "", &["warmup: 1m", "timeout: 400"]);
    let mut client = pool.client();
    let keys = stored(&mut client, 40);
    pool.goes_over_to(2);
    let at_home: Vec<_> = moved(&pool, 2, keys.into_iter());
    assert!(at_home.len() > 5, "{}", at_home.len());
    pool.servers[0].signal("STOP");
    let started = Instant::now();
    assert_eq!(got(&mut client, &at_home[0]), "END\r\n");
    assert!(started.elapsed() < Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!(client.ask(format!("set {} 0 0 3\r\nnew\r\n", at_home[1])), "STORED");
    pool.servers[0].signal("CONT");
    // What is asked there first is to forget the key.
    assert_eq!(got(&mut client, &at_home[1]), format!("VALUE {} 0 3\r\nnew\r\nEND\r\n", at_home[1]));
    let mut before = pool.servers[0].client();
    super::support::wait_until("the former home forgets", Duration::from_secs(5), || {
        got(&mut before, &at_home[1]) == "END\r\n"
    });
}

#[test]
fn without_the_option_keys_that_moved_are_missed() {
    let pool = Pool::of_memcached(2, "", &[]);
    let mut client = pool.client();
    let keys = stored(&mut client, 200);
    pool.goes_over_to(3);
    let missed = keys.iter().filter(|key| got(&mut client, key) == "END\r\n").count();
    assert!(missed > 20, "{missed}");
}

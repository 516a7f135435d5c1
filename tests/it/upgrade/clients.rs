//! Clients while another process takes over: they stay, with what they have set up.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{SOON, Succeeded, is_there, memcached_pool, redis_pool, started_last};
use crate::reload::{Reloaded, got, loopback, mode, pool, works};
use crate::support::client::Client;
use crate::support::http::post;
use crate::support::process::{Process, free_port, scratch_dir};
use crate::support::wait_until;

#[test]
fn clients_stay_with_what_they_have_set_up() {
    let (memcached, redis) = (Process::memcached(), Process::redis());
    let (port, of_redis, socket) = (free_port(), free_port(), scratch_dir().join("s"));
    let unix = pool("u", &socket.display().to_string(), &[(memcached.address, "a")], &[]);
    let pools = memcached_pool(port, &[&memcached], &[]) + &redis_pool(of_redis, &[&redis], &[]) + &unix;
    let mut proxy = Succeeded::of(Reloaded::start(port, "  workers: 2\n", &pools));
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    assert!(works(&mut clients[0], "k"));
    let mut local = UnixStream::connect(&socket).expect("the socket");
    let mut set_up = Client::connect(loopback(of_redis));
    set_up.send("HELLO 3\r\n");
    set_up.read_through(b"modules\r\n*0\r\n");
    for request in ["SELECT 3\r\n", "CLIENT SETNAME bob\r\n", "SET k three\r\n"] {
        assert_eq!(set_up.ask(request), "+OK");
    }
    let number = set_up.ask("CLIENT ID\r\n");
    let mut partial = proxy.client();
    partial.send("set later 0 0 5\r\nhe");
    for _ in 0..3 {
        proxy.upgrade();
        for client in &mut clients {
            assert_eq!(got(client, "k"), "VALUE k 0 1\r\nk\r\nEND\r\n");
        }
        local.write_all(b"get k\r\n").expect("it stays");
        let mut answer = [0; 21];
        local.read_exact(&mut answer).expect("it stays");
        assert_eq!(&answer, b"VALUE k 0 1\r\nk\r\nEND\r\n");
        assert_eq!((set_up.ask("GET k\r\n"), set_up.line()), ("$5".into(), "three".into()));
        assert_eq!((set_up.ask("CLIENT GETNAME\r\n"), set_up.line()), ("$3".into(), "bob".into()));
        assert_eq!(set_up.ask("CLIENT ID\r\n"), number);
        assert_eq!(set_up.ask("GET nothing\r\n"), "_", "RESP3");
        let mut new = Client::connect(loopback(of_redis));
        assert_ne!(new.ask("CLIENT ID\r\n"), number);
        assert!(works(&mut proxy.client(), "new"));
    }
    assert_eq!(partial.ask("llo\r\n"), "STORED");
    assert_eq!(got(&mut clients[7], "later"), "VALUE later 0 5\r\nhello\r\nEND\r\n");
    // As long as it is served, the file of the socket is there; then it is not.
    assert!(socket.exists());
    Command::new("kill").arg(proxy.pid.to_string()).status().expect("kill");
    wait_until("the end of the last process", SOON, || !is_there(proxy.pid));
    assert!(!socket.exists());
}

#[test]
fn who_speaks_the_binary_protocol_goes_over_between_two_requests() {
    let (memcached, port) = (Process::memcached(), free_port());
    let pools = memcached_pool(port, &[&memcached], &[]);
    let mut proxy = Succeeded::of(Reloaded::start(port, "  workers: 2\n  drain_timeout: 60000\n", &pools));
    let noop = [&[0x80, 0x0a][..], &[0; 22]].concat();
    let answer = [&[0x81, 0x0a][..], &[0; 22]].concat();
    let (mut idle, mut busy) = (proxy.client(), proxy.client());
    idle.send(&noop);
    assert_eq!(idle.read(24), answer);
    busy.send(&noop[..10]);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let told = post(proxy.reloaded.admin, "/upgrade");
    assert_eq!(told.status, 200, "{told:?}");
    std::thread::sleep(std::time::Duration::from_millis(300));
    busy.send(&noop[10..]);
    assert_eq!(busy.read(24), answer);
    // Nobody is left behind: the process before ends long before it would give up.
    proxy.is_succeeded_by(told.json()["pid"].as_u64().expect("a number") as u32);
    for client in [&mut idle, &mut busy] {
        client.send(&noop);
        assert_eq!(client.read(24), answer);
    }
}

#[test]
fn who_waits_for_a_key_is_told_the_miss_and_stays() {
    let (memcached, port) = (Process::memcached(), free_port());
    let pools = memcached_pool(port, &[&memcached], &["stampede: {wait: 1m, lease: 5m}"]);
    let mut proxy = Succeeded::of(Reloaded::start(port, "  workers: 2\n  drain_timeout: 60000\n", &pools));
    let (mut first, mut second) = (proxy.client(), proxy.client());
    assert_eq!(got(&mut first, "k"), "END\r\n");
    second.send("get k\r\n");
    wait_until("waiting", SOON, || proxy.reloaded.metric("softmiss_pool_stampede_waits_total") >= 1.0);
    proxy.upgrade();
    assert_eq!(second.read_through(b"END\r\n"), b"END\r\n");
    // What it is computed for goes on: the lease stands at the server.
    second.send("get k\r\n");
    wait_until("waiting", SOON, || proxy.reloaded.metric("softmiss_pool_stampede_waits_total") >= 2.0);
    assert!(works(&mut first, "k"));
    assert_eq!(second.read_through(b"END\r\n"), b"VALUE k 0 1\r\nk\r\nEND\r\n");
}

#[test]
fn a_socket_has_the_mode_that_the_file_says_by_then() {
    let (memcached, port, socket) = (Process::memcached(), free_port(), scratch_dir().join("s"));
    let pools = |more: &str| {
        let unix = pool("u", &format!("{}{more}", socket.display()), &[(memcached.address, "a")], &[]);
        memcached_pool(port, &[&memcached], &[]) + &unix
    };
    let mut proxy = Succeeded::of(Reloaded::start(port, "", &pools(" 0600")));
    assert_eq!(mode(&socket), 0o600);
    proxy.reloaded.write("", &pools(" 0660"));
    proxy.upgrade();
    assert_eq!(mode(&socket), 0o660);
    // What somebody else has set stays where nothing is said of it.
    proxy.reloaded.write("", &pools(""));
    proxy.upgrade();
    assert_eq!(mode(&socket), 0o660);
}

/// Ends a load, whatever happens.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn under_load_nobody_is_failed_refused_or_cut_off() {
    let servers = [Process::memcached(), Process::memcached()];
    let port = free_port();
    let pools = memcached_pool(port, &[&servers[0], &servers[1]], &["on_failure: error"]);
    let mut proxy = Succeeded::of(Reloaded::start(port, "  workers: 2\n", &pools));
    let (stop, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let over = Over(&stop);
        for number in 0..6 {
            let (address, stop) = (proxy.reloaded.proxy.address, &stop);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // Several at a time, which are read at once or not.
                    let key = format!("k:{number}:{}", round % 50);
                    let value = format!("{number}:{round}");
                    let set = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
                    client.send(format!("{set}get {key}\r\nget nothing {key}\r\n"));
                    let told = format!("VALUE {key} 0 {}\r\n{value}\r\nEND\r\n", value.len());
                    let expected = format!("STORED\r\n{told}{told}");
                    assert_eq!(String::from_utf8(client.read(expected.len())).expect("text"), expected);
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(works(&mut Client::connect(proxy.reloaded.proxy.address), "new"));
                connected.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Each end is known by its process: the borrow of the clients is over when the scope is.
        let admin = proxy.reloaded.admin;
        let mut before = proxy.pid;
        for _ in 0..5 {
            let have = connected.load(Ordering::Relaxed);
            let pid = post(admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
            wait_until("the end of the process before", SOON, || !is_there(before));
            before = pid;
            wait_until("clients that come", SOON, || connected.load(Ordering::Relaxed) > have + 20);
        }
        drop(over);
    });
    let pid = started_last(&proxy);
    proxy.pid = pid;
}

#[test]
fn who_is_in_the_middle_of_something_has_its_time_for_that() {
    let redis = Process::redis();
    let port = free_port();
    let pools = redis_pool(port, &[&redis], &[]);
    let reloaded = Reloaded::start(port, "  drain_timeout: 1000\n", &pools).expect_log("in the middle of something");
    let mut proxy = Succeeded::of(reloaded);
    let [mut transaction, mut blocked, mut subscriber, mut watcher] = [(); 4].map(|()| proxy.client());
    assert_eq!(transaction.ask("MULTI\r\n"), "+OK");
    assert_eq!(transaction.ask("INCR n\r\n"), "+QUEUED");
    assert_eq!(watcher.ask("WATCH n\r\n"), "+OK");
    blocked.send("BLPOP list 0\r\n");
    assert_eq!(subscriber.ask("SUBSCRIBE news\r\n"), "*3");
    let pid = post(proxy.reloaded.admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
    proxy.reloaded.proxy.wait_for_log("clients come in here", SOON);
    assert_eq!((transaction.ask("INCR n\r\n"), transaction.ask("EXEC\r\n")), ("+QUEUED".into(), "*2".into()));
    assert_eq!((transaction.line(), transaction.line()), (":1".into(), ":2".into()));
    assert_eq!((watcher.ask("MULTI\r\n"), watcher.ask("INCR n\r\n")), ("+OK".into(), "+QUEUED".into()));
    assert_eq!(watcher.ask("EXEC\r\n"), "*-1", "the guard holds");
    let mut new = proxy.client();
    assert_eq!(new.ask("RPUSH list x\r\n"), ":1");
    assert_eq!(blocked.line(), "*2");
    blocked.read_through(b"x\r\n");
    proxy.is_succeeded_by(pid);
    for client in [&mut transaction, &mut blocked, &mut watcher] {
        assert_eq!(client.ask("PING\r\n"), "+PONG", "it has gone over");
    }
    subscriber.read_through(b":1\r\n");
    assert!(subscriber.is_closed(), "it has had its time");
}

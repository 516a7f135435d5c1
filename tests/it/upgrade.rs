//! Another process takes over from a running one: clients stay, and so does what is known of servers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::reload::{Reloaded, got, loopback, pool, whole, works};
use super::support::client::Client;
use super::support::http::{get, post};
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

const SOON: Duration = Duration::from_secs(10);

/// A proxy, and whoever has taken over from it, which ends with it.
struct Succeeded {
    reloaded: Reloaded,
    pid: u32,
}

impl Succeeded {
    fn of(reloaded: Reloaded) -> Self {
        let pid = reloaded.proxy.id();
        Self { reloaded, pid }
    }

    /// Another process takes over; when this returns, the one before it has ended.
    fn upgrade(&mut self) {
        let answer = post(self.reloaded.admin, "/upgrade");
        assert_eq!(answer.status, 200, "{answer:?}");
        self.is_succeeded_by(answer.json()["pid"].as_u64().expect("a number") as u32);
    }

    fn is_succeeded_by(&mut self, pid: u32) {
        let before = std::mem::replace(&mut self.pid, pid);
        assert_ne!(before, pid);
        wait_until("the end of the process before", SOON, || !is_there(before));
    }

    fn client(&self) -> Client {
        self.reloaded.proxy.client()
    }
}

impl Drop for Succeeded {
    fn drop(&mut self) {
        if self.pid != self.reloaded.proxy.id() {
            let _ = Command::new("kill").args(["-s", "KILL", &self.pid.to_string()]).status();
        }
    }
}

/// Whether a process runs: one that has ended, and that nobody has waited for, does not.
fn is_there(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether a client has an answer, and not an end.
fn is_served(client: &mut Client) -> bool {
    use std::io::Write as _;
    client.stream.write_all(b"version\r\n").is_ok() && client.try_line().is_some()
}

fn redis_pool(listen: u16, servers: &[&Process], more: &[&str]) -> String {
    let named: Vec<_> = servers.iter().zip(["ra", "rb", "rc"]).map(|(server, name)| (server.address, name)).collect();
    pool("r", &loopback(listen).to_string(), &named, &[&["redis: true"], more].concat())
}

fn memcached_pool(listen: u16, servers: &[&Process], more: &[&str]) -> String {
    let named: Vec<_> = servers.iter().zip(["a", "b", "c"]).map(|(server, name)| (server.address, name)).collect();
    pool("m", &loopback(listen).to_string(), &named, more)
}

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
fn under_load_nobody_is_failed_refused_or_cut_off() {
    let servers = [Process::memcached(), Process::memcached()];
    let port = free_port();
    let pools = memcached_pool(port, &[&servers[0], &servers[1]], &["on_failure: error"]);
    let mut proxy = Succeeded::of(Reloaded::start(port, "  workers: 2\n", &pools));
    let (stop, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
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
        stop.store(true, Ordering::Relaxed);
    });
    let pid = started_last(&proxy);
    proxy.pid = pid;
}

/// The process that was started last.
fn started_last(proxy: &Succeeded) -> u32 {
    let log = proxy.reloaded.proxy.log();
    let line = log.iter().rfind(|line| line.contains("softmiss starts")).expect("a start");
    line.split("pid=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number")
}

#[test]
fn what_is_counted_and_known_of_servers_goes_over() {
    let mut servers = [Process::memcached(), Process::memcached(), Process::memcached()];
    let port = free_port();
    let more = ["auto_eject_hosts: true", "server_failure_limit: 2", "server_retry_timeout: 200", "rejoin: safe"];
    let pools = memcached_pool(port, &[&servers[0], &servers[1], &servers[2]], &more);
    let reloaded = Reloaded::start(port, "", &pools);
    let reloaded = reloaded.expect_log("server ejected").expect_log("server is silent");
    let reloaded = reloaded.expect_log("an ejected server is probed").expect_log("by the operator");
    let mut proxy = Succeeded::of(reloaded);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..90).map(|number| format!("{number}:key")).collect();
    keys.iter().for_each(|key| assert_eq!(client.ask(format!("set {key} 0 0 3\r\nold\r\n")), "STORED"));
    let mut direct = servers[0].client();
    let at_first: Vec<_> = keys.iter().filter(|key| got(&mut direct, key) != "END\r\n").collect();
    assert!(at_first.len() > 10);
    // The first one hangs and misses what is removed; the second one is kept out by the operator.
    servers[0].signal("STOP");
    wait_until("its ejection", SOON, || {
        got(&mut client, at_first[0]);
        proxy.reloaded.proxy.log().iter().any(|line| line.contains("server ejected"))
    });
    at_first.iter().for_each(|key| drop(client.ask(format!("delete {key}\r\n"))));
    let admin = proxy.reloaded.admin;
    assert_eq!(post(admin, "/servers/eject?pool=m&server=b").status, 200);
    let requests = proxy.reloaded.metric("softmiss_pool_requests_total");
    let ejections = proxy.reloaded.metric("softmiss_server_ejections_total");
    assert!(requests > 100.0 && ejections > 0.0);
    proxy.upgrade();
    wait_until("the counts", SOON, || proxy.reloaded.metric("softmiss_pool_requests_total") >= requests);
    assert_eq!(proxy.reloaded.metric("softmiss_pool_requests_total"), requests);
    assert_eq!(proxy.reloaded.metric("softmiss_server_ejections_total"), ejections, "it is not ejected once more");
    let state = |name: &str| {
        let told = get(admin, "/servers").json();
        let servers = told["pools"][0]["servers"].as_array().expect("servers").clone();
        servers.into_iter().find(|server| server["name"] == name).expect("it")["state"].to_string()
    };
    assert!(!state("a").contains("up") && !state("b").contains("up"), "{} {}", state("a"), state("b"));
    servers[0].signal("CONT");
    wait_until("its return", SOON, || state("a").contains("up"));
    for key in at_first {
        assert_eq!(got(&mut client, key), "END\r\n", "it was removed");
    }
    servers[1].kill();
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

#[test]
fn a_successor_that_does_not_serve_leaves_all_as_it_was() {
    let memcached = Process::memcached();
    let port = free_port();
    let good = memcached_pool(port, &[&memcached], &[]);
    let reloaded = ["no upgrade", "nonsense", "1 problem", "softmiss cannot start"]
        .into_iter()
        .fold(Reloaded::start(port, "", &good), Reloaded::expect_log);
    let mut proxy = Succeeded::of(reloaded);
    let mut client = proxy.client();
    assert!(works(&mut client, "k"));
    proxy.reloaded.write("", &format!("{good}  nonsense: 1\n"));
    for _ in 0..2 {
        let answer = post(proxy.reloaded.admin, "/upgrade");
        assert_eq!(answer.status, 409);
        assert!(answer.body.contains("1 problem") && !answer.body.contains("SIGKILL"), "{answer:?}");
        assert!(works(&mut client, "k") && works(&mut proxy.client(), "new"));
    }
    let written =
        |proxy: &Succeeded| proxy.reloaded.proxy.log().iter().filter(|line| line.contains("nonsense")).count();
    wait_until("what each of them does not understand", SOON, || written(&proxy) == 2);
    // What only shows when it is about to serve is told as well.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let other = pool("other", &address.to_string(), &[(memcached.address, "o")], &[]);
    proxy.reloaded.write("", &format!("{good}{other}"));
    let answer = post(proxy.reloaded.admin, "/upgrade");
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains(&format!("cannot listen on {address}")), "{answer:?}");
    proxy.reloaded.proxy.wait_for_log("softmiss cannot start", SOON);
    assert!(works(&mut client, "k") && works(&mut proxy.client(), "new"));
    proxy.reloaded.write("", &good);
    // Who means another file is told that it is not the one that is read.
    let elsewhere = proxy.reloaded.proxy.file.with_extension("other");
    std::fs::copy(&proxy.reloaded.proxy.file, &elsewhere).expect("a copy");
    let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
    let told = command.arg("-c").arg(&elsewhere).arg("upgrade").output().expect("softmiss");
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("that is what was taken up"), "{told:?}");
    proxy.is_succeeded_by(started_last(&proxy));
    assert!(works(&mut client, "k"));
}

/// A successor that serves does not end for the want of what no client needs.
#[test]
fn a_successor_that_cannot_write_its_pid_file_keeps_the_clients() {
    let (memcached, folder, port) = (Process::memcached(), scratch_dir(), free_port());
    let pid = folder.join("there").join("pid");
    std::fs::create_dir(folder.join("there")).expect("a folder");
    let pools = memcached_pool(port, &[&memcached], &[]);
    let program = folder.join("softmiss");
    let reloaded = of_replaceable(&program, port, &["-p", pid.to_str().expect("a path")], &pools);
    let mut proxy = Succeeded::of(reloaded.expect_log("something is missing that clients do not need"));
    let mut client = proxy.client();
    assert!(works(&mut client, "k"));
    std::fs::remove_dir_all(folder.join("there")).expect("its folder is gone");
    proxy.upgrade();
    assert!(works(&mut client, "k") && works(&mut proxy.client(), "new"));
    proxy.reloaded.proxy.wait_for_log("cannot write the pid file", SOON);
}

/// Takes over as far as it is told, and ends.
pub(crate) const FALSE_SUCCESSOR: &str = r#"#!/usr/bin/env python3
import json, socket, struct, sys
line = socket.socket(fileno=0)
def frame():
    head, kept = b"", []
    while len(head) < 5:
        more, fds, _, _ = socket.recv_fds(line, 5 - len(head), 1)
        if not more:
            sys.exit()
        head, kept = head + more, kept + fds
    kind, length = head[:1], struct.unpack("<I", head[1:])[0]
    while length:
        length -= len(line.recv(length))
    return kind
def say(kind, body=b""):
    line.sendall(kind + struct.pack("<I", len(body)) + body)
far = "HOW FAR"
if far == "ends":
    sys.exit()
while frame() != b"s":
    pass
say(b"r", json.dumps({"version": "another"}).encode())
while frame() != b"g":
    pass
if far == "starts":
    sys.exit()
while frame() != b"c":
    pass
if far == "takes":
    say(b"t")
if far == "leaves":
    say(b"x")
    while True:
        if frame() == b"c":
            say(b"x")
"#;

#[test]
fn a_successor_that_ends_on_the_way_takes_nobody_with_it_that_it_did_not_have() {
    let memcached = Process::memcached();
    let folder = scratch_dir();
    let real = Path::new(env!("CARGO_BIN_EXE_softmiss"));
    for far in ["ends", "starts", "gets", "takes", "leaves"] {
        let program = folder.join(far);
        std::fs::copy(real, &program).expect("a copy");
        let (port, admin) = (free_port(), loopback(free_port()));
        let file = whole(admin, "  drain_timeout: 600\n", &memcached_pool(port, &[&memcached], &[]));
        let proxy = Proxy::of_program(&program, &file, port);
        wait_until("the admin port", SOON, || std::net::TcpStream::connect(admin).is_ok());
        let mut proxy = Reloaded { proxy, admin };
        for part in ["no upgrade", "the successor has not taken over", "in the middle of something"] {
            proxy = proxy.expect_log(part);
        }
        let mut clients: Vec<Client> = (0..5).map(|_| proxy.proxy.client()).collect();
        clients.iter_mut().for_each(|client| assert!(works(client, "k")));
        let next = folder.join("next");
        std::fs::write(&next, FALSE_SUCCESSOR.replace("HOW FAR", far)).expect("a script");
        std::fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        std::fs::rename(&next, &program).expect("another program");
        let answer = post(admin, "/upgrade");
        assert_eq!(answer.status, if far == "ends" { 409 } else { 200 }, "{far}: {answer:?}");
        if far == "leaves" {
            // They have their time here, though nobody takes them.
            clients.iter_mut().for_each(|client| assert!(works(client, "k")));
            assert!(proxy.proxy.wait(SOON).success());
            continue;
        }
        proxy.proxy.wait_for_log(if far == "ends" { "no upgrade" } else { "has not taken over" }, SOON);
        let lost = clients.iter_mut().map(is_served).filter(|served| !served).count();
        assert_eq!(lost, usize::from(far == "takes"), "{far}");
        assert!(works(&mut proxy.proxy.client(), "new"), "{far}");
        // And the next one takes over.
        std::fs::copy(real, &next).expect("a copy");
        std::fs::rename(&next, &program).expect("another program");
        let mut proxy = Succeeded::of(proxy);
        proxy.upgrade();
        let there = clients.iter_mut().filter_map(|client| is_served(client).then(|| works(client, "k")));
        assert_eq!(there.filter(|works| *works).count(), 5 - lost, "{far}");
    }
}

#[test]
fn one_in_the_background_is_succeeded_by_its_signal_and_its_files_follow() {
    let memcached = Process::memcached();
    let (folder, port) = (scratch_dir(), free_port());
    let [file, pid, log] = ["softmiss.yml", "pid", "log"].map(|name| folder.join(name));
    std::fs::write(&file, whole(loopback(free_port()), "", &memcached_pool(port, &[&memcached], &[]))).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
    command.args(["-d", "-s", &free_port().to_string()]);
    command.arg("-c").arg(&file).arg("-p").arg(&pid).arg("-o").arg(&log);
    assert!(command.output().expect("softmiss").status.success());
    let written = || std::fs::read_to_string(&pid).ok().and_then(|text| text.parse::<u32>().ok());
    let first = written().expect("its id");
    let mut client = Client::connect(loopback(port));
    let mut before = first;
    for _ in 0..2 {
        assert!(works(&mut client, "k"));
        assert!(Command::new("kill").args(["-s", "USR2", &before.to_string()]).status().expect("kill").success());
        wait_until("the end of the process before", SOON, || !is_there(before));
        let next = written().expect("its id");
        assert!(next != before && is_there(next));
        before = next;
    }
    assert!(works(&mut client, "k"));
    Command::new("kill").arg(before.to_string()).status().expect("kill");
    wait_until("the end of the last process", SOON, || !is_there(before));
    assert!(!pid.exists());
    let log = std::fs::read_to_string(&log).expect("the log");
    for line in ["starting a successor", "all that the process before this one had has come over", "signal 15"] {
        assert!(log.contains(line), "no {line} in {log}");
    }
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// Waits for a file, and is the real program then.
const LATE_SUCCESSOR: &str = "#!/bin/sh\nuntil [ -e 'GO' ]; do sleep 0.01; done\nexec 'REAL' \"$@\"\n";

#[test]
fn a_server_that_returns_while_a_successor_starts_is_flushed_once() {
    let redis = [Process::redis(), Process::redis()];
    let (folder, port) = (scratch_dir(), free_port());
    let (program, go) = (folder.join("program"), folder.join("go"));
    let more = ["auto_eject_hosts: true", "server_failure_limit: 1", "server_retry_timeout: 100", "rejoin: flush"];
    let pools = redis_pool(port, &[&redis[0], &redis[1]], &more);
    let reloaded = of_replaceable(&program, port, &[], &pools);
    let admin = reloaded.admin;
    let reloaded = reloaded.expect_log("server ejected").expect_log("server is silent");
    let mut proxy = Succeeded::of(reloaded.expect_log("an ejected server is probed"));
    let (mut client, mut direct) = (proxy.client(), redis[0].client());
    let of_first = (0..100).map(|number| format!("{number}:lock")).find(|key| {
        assert_eq!(client.ask(format!("SET {key} x\r\n")), "+OK");
        direct.ask(format!("DEL {key}\r\n")) == ":1"
    });
    let key = of_first.expect("a key of the first server");
    let state = || get(admin, "/servers").json()["pools"][0]["servers"][0]["state"].as_str().map(str::to_owned);
    redis[0].signal("STOP");
    wait_until("its ejection", SOON, || {
        client.ask(format!("EXISTS {key}\r\n"));
        state().is_some_and(|state| state != "up")
    });
    let real = env!("CARGO_BIN_EXE_softmiss");
    replace(&program, &LATE_SUCCESSOR.replace("GO", go.to_str().expect("a path")).replace("REAL", real));
    std::thread::scope(|scope| {
        let order = scope.spawn(|| post(admin, "/upgrade"));
        proxy.reloaded.proxy.wait_for_log("starting a successor", SOON);
        redis[0].signal("CONT");
        wait_until("its return", SOON, || state().is_some_and(|state| state == "up"));
        assert_eq!(client.ask(format!("SET {key} mine NX\r\n")), "+OK");
        assert_eq!(direct.ask(format!("EXISTS {key}\r\n")), ":1", "it is there");
        std::fs::write(&go, "").expect("a file");
        let answer = order.join().expect("no panic");
        assert_eq!(answer.status, 200, "{answer:?}");
        proxy.is_succeeded_by(answer.json()["pid"].as_u64().expect("a number") as u32);
    });
    assert_eq!(client.ask(format!("SET {key} other NX\r\n")), "$-1");
    // Nor later: what would be done to the server is done once it has been found to be up.
    wait_until("its return", SOON, || state().is_some_and(|state| state == "up"));
    assert_eq!(client.ask(format!("SET {key} other NX\r\n")), "$-1");
}

/// A proxy of a program that can be replaced, and what replaces it.
fn of_replaceable(program: &Path, port: u16, arguments: &[&str], pools: &str) -> Reloaded {
    let admin = loopback(free_port());
    std::fs::copy(env!("CARGO_BIN_EXE_softmiss"), program).expect("a copy");
    let proxy = {
        let mut command = Command::new(program);
        command.args(arguments);
        Proxy::started_by(command, &whole(admin, "", pools), port)
    };
    wait_until("the admin port", SOON, || std::net::TcpStream::connect(admin).is_ok());
    get(admin, "/healthz"); // it knows where its program is
    Reloaded { proxy, admin }
}

fn replace(program: &Path, script: &str) {
    let next = program.with_extension("next");
    std::fs::write(&next, script).expect("a script");
    std::fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    std::fs::rename(&next, program).expect("another program");
}

#[test]
fn a_client_that_was_taken_is_not_served_twice_though_that_was_not_heard() {
    let memcached = Process::memcached();
    let (folder, port) = (scratch_dir(), free_port());
    let (program, pid) = (folder.join("program"), folder.join("pid"));
    let pools = memcached_pool(port, &[&memcached], &[]);
    let arguments = ["-p", pid.to_str().expect("a path")];
    let proxy = of_replaceable(&program, port, &arguments, &pools).expect_log("has not taken over");
    // Each has sent so much that the successor has ended before the second one has been sent.
    let mut clients = [(); 2].map(|()| proxy.proxy.client());
    let value = "v".repeat(900_000);
    for (client, key) in clients.iter_mut().zip(["a", "b"]) {
        client.send(format!("set {key} 0 0 1000000\r\n{value}"));
    }
    wait_until("what they have sent", SOON, || proxy.metric("softmiss_buffered_bytes") > 1_800_000.0);
    replace(&program, &FALSE_SUCCESSOR.replace("HOW FAR", "takes"));
    std::fs::write(&pid, "the successor's").expect("a file");
    assert_eq!(post(proxy.admin, "/upgrade").status, 200);
    proxy.proxy.wait_for_log("has not taken over", SOON);
    let rest = "v".repeat(100_000);
    let stored = clients.iter_mut().map(|client| {
        let is_sent = client.stream.write_all(format!("{rest}\r\n").as_bytes()).is_ok();
        is_sent && client.try_line().is_some_and(|line| line == "STORED")
    });
    assert_eq!(stored.filter(|stored| *stored).count(), 1);
    wait_until("the id of who serves", SOON, || {
        std::fs::read_to_string(&pid).is_ok_and(|written| written == proxy.proxy.id().to_string())
    });
}

#[test]
fn who_is_told_to_end_while_clients_go_over_ends_when_they_have() {
    let redis = Process::redis();
    for is_successor_told in [false, true] {
        let port = free_port();
        let reloaded = Reloaded::start(port, "", &redis_pool(port, &[&redis], &[]));
        let mut proxy = Succeeded::of(match is_successor_told {
            true => reloaded.expect_log("has not taken over").expect_log("before all of its clients"),
            false => reloaded,
        });
        let [mut idle, mut transaction] = [(); 2].map(|()| proxy.client());
        assert_eq!((idle.ask("PING\r\n"), transaction.ask("MULTI\r\n")), ("+PONG".into(), "+OK".into()));
        let pid = post(proxy.reloaded.admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
        proxy.reloaded.proxy.wait_for_log("clients come in here", SOON);
        assert_eq!(idle.ask("PING\r\n"), "+PONG");
        let told = if is_successor_told { pid } else { proxy.pid };
        Command::new("kill").arg(told.to_string()).status().expect("kill");
        proxy.reloaded.proxy.wait_for_log("ending when clients have gone over", SOON);
        if is_successor_told {
            // Nobody goes on in its place.
            wait_until("the end of both", SOON, || !is_there(pid) && !is_there(proxy.pid));
            continue;
        }
        assert_eq!((idle.ask("PING\r\n"), transaction.ask("PING\r\n")), ("+PONG".into(), "+QUEUED".into()));
        assert_eq!((transaction.ask("EXEC\r\n"), transaction.line()), ("*1".into(), "+PONG".into()));
        proxy.is_succeeded_by(pid);
        assert_eq!((idle.ask("PING\r\n"), transaction.ask("PING\r\n")), ("+PONG".into(), "+PONG".into()));
    }
}

#[test]
fn who_is_told_to_end_leaves_no_successor_that_has_not_served() {
    let memcached = Process::memcached();
    let (folder, port) = (scratch_dir(), free_port());
    let (program, never) = (folder.join("program"), folder.join("never"));
    let reloaded = of_replaceable(&program, port, &[], &memcached_pool(port, &[&memcached], &[]));
    let mut reloaded = reloaded.expect_log("no upgrade");
    let script = LATE_SUCCESSOR.replace("GO", never.to_str().expect("a path"));
    replace(&program, &script.replace("\nuntil", &format!("\necho $$ > '{}/pid'\nuntil", folder.display())));
    let old = reloaded.proxy.id();
    Command::new("kill").args(["-s", "USR2", &old.to_string()]).status().expect("kill");
    let mut pid = 0;
    wait_until("the successor", SOON, || {
        pid = std::fs::read_to_string(folder.join("pid")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        pid > 0
    });
    Command::new("kill").arg(old.to_string()).status().expect("kill");
    assert!(reloaded.proxy.wait(SOON).success());
    wait_until("the end of the successor", SOON, || !is_there(pid));
}

#[test]
fn a_successor_that_is_killed_while_clients_are_busy_leaves_them_and_those_who_come() {
    let redis = Process::redis();
    let port = free_port();
    let reloaded = Reloaded::start(port, "  drain_timeout: 1000\n", &redis_pool(port, &[&redis], &[]));
    let proxy = reloaded.expect_log("the successor has not taken over");
    let [mut idle, mut transaction] = [(); 2].map(|()| proxy.proxy.client());
    assert_eq!((idle.ask("PING\r\n"), transaction.ask("MULTI\r\n")), ("+PONG".into(), "+OK".into()));
    let pid = post(proxy.admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
    proxy.proxy.wait_for_log("clients come in here", SOON);
    assert_eq!(idle.ask("PING\r\n"), "+PONG", "it is served there");
    Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().expect("kill");
    // Nobody comes or goes meanwhile.
    proxy.proxy.wait_for_log("the successor has not taken over", SOON);
    assert!(idle.is_closed());
    assert_eq!((transaction.ask("PING\r\n"), transaction.ask("EXEC\r\n")), ("+QUEUED".into(), "*1".into()));
    assert_eq!(proxy.proxy.client().ask("PING\r\n"), "+PONG");
    let mut proxy = Succeeded::of(proxy);
    proxy.upgrade();
    assert_eq!((transaction.line(), transaction.ask("PING\r\n")), ("+PONG".into(), "+PONG".into()));
}

#[test]
fn statsd_is_told_nothing_twice() {
    let statsd = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    statsd.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let (memcached, port) = (Process::memcached(), free_port());
    let settings = format!("  statsd: {{address: '{}', interval: 100ms}}\n", statsd.local_addr().expect("an address"));
    let reloaded = Reloaded::start(port, &settings, &memcached_pool(port, &[&memcached], &[]));
    let mut proxy = Succeeded::of(reloaded);
    let mut sum = 0;
    let mut hear = |until: &dyn Fn(u64, usize) -> bool| {
        let mut packets = 0;
        while !until(sum, packets) {
            let mut buffer = [0; 9000];
            let Ok(count) = statsd.recv(&mut buffer) else { continue };
            packets += 1;
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let told = text.lines().filter_map(|line| line.strip_prefix("softmiss.m.requests:"));
            sum += told.map(|told| told.trim_end_matches("|c").parse::<u64>().expect("a number")).sum::<u64>();
        }
        sum
    };
    let mut client = proxy.client();
    (0..30).for_each(|_| assert!(works(&mut client, "k")));
    assert_eq!(hear(&|sum, _| sum >= 60), 60);
    proxy.upgrade();
    // Some intervals of the successor's, of which each tells at least its gauges.
    assert_eq!(hear(&|_, packets| packets > 10), 60, "what the process before had told");
    (0..10).for_each(|_| assert!(works(&mut client, "k")));
    assert_eq!(hear(&|sum, _| sum >= 80), 80);
}

#[test]
fn while_clients_go_over_figures_do_not_go_back_and_nobody_else_takes_over() {
    let (redis, memcached) = (Process::redis(), Process::memcached());
    let (port, of_redis) = (free_port(), free_port());
    let pools = memcached_pool(port, &[&memcached], &[]) + &redis_pool(of_redis, &[&redis], &[]);
    let reloaded = Reloaded::start(port, "  drain_timeout: 1200\n", &pools);
    let reloaded = reloaded.expect_log("in the middle of something").expect_log("still coming over");
    let mut proxy = Succeeded::of(reloaded);
    let mut subscriber = Client::connect(loopback(of_redis));
    assert_eq!(subscriber.ask("SUBSCRIBE news\r\n"), "*3");
    let mut client = proxy.client();
    (0..20).for_each(|_| assert!(works(&mut client, "k")));
    let before = proxy.pid;
    let answer = post(proxy.reloaded.admin, "/upgrade");
    let next = answer.json()["pid"].as_u64().expect("a number") as u32;
    let told = || proxy.reloaded.proxy.log();
    wait_until("the successor", SOON, || told().iter().any(|line| line.contains("clients come in here")));
    let mut most = proxy.reloaded.metric("softmiss_pool_requests_total");
    Command::new("kill").args(["-s", "USR2", &next.to_string()]).status().expect("kill");
    let mut looks = 0;
    while is_there(before) {
        assert!(works(&mut client, "k"));
        let now = proxy.reloaded.metric("softmiss_pool_requests_total");
        assert!(now >= most, "{now} behind {most}");
        (most, looks) = (now, looks + 1);
    }
    assert!(looks > 20 && most >= 80.0, "{looks} looks, {most} requests");
    assert!(told().iter().any(|line| line.contains("no upgrade") && line.contains("still coming over")));
    proxy.is_succeeded_by(next);
    proxy.upgrade();
    assert!(works(&mut client, "k"));
}

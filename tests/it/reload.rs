//! Another configuration for a running proxy: what changes, who notices, and what is refused.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::bad::Scripted;
use super::support::client::Client;
use super::support::http::{get, post};
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A proxy whose file can be changed.
pub(crate) struct Reloaded {
    pub(crate) proxy: Proxy,
    pub(crate) admin: SocketAddr,
}

impl Reloaded {
    /// With these pools, of which the first listens at `port`, and lines of the `softmiss` section.
    pub(crate) fn start(port: u16, settings: &str, pools: &str) -> Self {
        let admin = loopback(free_port());
        let proxy = Proxy::with_file(&whole(admin, settings, pools), port);
        wait_until("the admin port", SOON, || TcpStream::connect(admin).is_ok());
        get(admin, "/healthz"); // it is bound before the pools' sockets, and answers behind them
        Self { proxy, admin }
    }

    pub(crate) fn expect_log(self, part: &'static str) -> Self {
        Self { proxy: self.proxy.expect_log(part), admin: self.admin }
    }

    pub(crate) fn write(&self, settings: &str, pools: &str) {
        std::fs::write(&self.proxy.file, whole(self.admin, settings, pools)).expect("write the file");
    }

    /// Reloads what has been written. The lines that tell what has changed.
    #[track_caller]
    pub(crate) fn reload(&self) -> Vec<String> {
        let answer = post(self.admin, "/reload");
        assert_eq!(answer.status, 200, "{answer:?}");
        let changes = &answer.json()["changes"];
        changes.as_array().expect("a list").iter().map(|line| line.as_str().expect("a text").to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn goes_over(&self, settings: &str, pools: &str) -> Vec<String> {
        self.write(settings, pools);
        self.reload()
    }

    /// The sum of a figure of Prometheus's page.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = get(self.admin, "/metrics").body;
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
    }

    /// The program, with the configuration file.
    fn program(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
        command.arg("-c").arg(&self.proxy.file).args(arguments).output().expect("softmiss")
    }
}

pub(crate) fn whole(admin: SocketAddr, settings: &str, pools: &str) -> String {
    format!("softmiss:\n  admin: {admin}\n{settings}{pools}")
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What statsd was told of counters.
type Sums = std::collections::BTreeMap<String, u64>;

/// A pool as the file has it; `more` is further lines, without indentation.
pub(crate) fn pool(name: &str, listen: &str, servers: &[(SocketAddr, &str)], more: &[&str]) -> String {
    let timeout = if more.iter().any(|line| line.starts_with("timeout")) { "" } else { "  timeout: 1000\n" };
    let more: String = more.iter().map(|line| format!("  {line}\n")).collect();
    let servers: String = servers.iter().map(|(at, name)| format!("  - {at}:1 {name}\n")).collect();
    format!("{name}:\n  listen: {listen}\n{timeout}{more}  servers:\n{servers}")
}

pub(crate) fn got(client: &mut Client, key: &str) -> String {
    client.send(format!("get {key}\r\n"));
    String::from_utf8(client.read_through(b"END\r\n")).expect("text")
}

pub(crate) fn works(client: &mut Client, key: &str) -> bool {
    client.ask(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len())) == "STORED"
        && got(client, key) == format!("VALUE {key} 0 {}\r\n{key}\r\nEND\r\n", key.len())
}

#[test]
fn servers_come_go_and_move_under_clients_that_stay() {
    let servers: Vec<_> = (0..4).map(|_| Process::memcached()).collect();
    let at = |index: usize| servers[index].address;
    let port = free_port();
    let listen = loopback(port).to_string();
    let of = |servers: &[(SocketAddr, &str)]| pool("p", &listen, servers, &["auto_eject_hosts: true"]);
    let first = of(&[(at(0), "a"), (at(1), "b")]);
    let reloaded = Reloaded::start(port, "", &first);
    let (mut client, stop) = (reloaded.proxy.client(), Arc::new(AtomicBool::new(false)));
    let load = std::thread::spawn({
        let (address, stop) = (reloaded.proxy.address, Arc::clone(&stop));
        move || {
            let (mut client, mut count) = (Client::connect(address), 0);
            while !stop.load(Ordering::Relaxed) {
                let key = format!("load:{}", count % 300);
                assert_eq!(client.ask(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len())), "STORED");
                // It may belong elsewhere by now.
                let answer = got(&mut client, &key);
                assert!(answer == "END\r\n" || answer.contains(&format!("\r\n{key}\r\n")), "{answer}");
                count += 1;
            }
            count
        }
    });
    assert!(works(&mut client, "k"));
    let changes = reloaded.goes_over("", &of(&[(at(0), "a"), (at(1), "b"), (at(2), "c")]));
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].starts_with("pool p: server c added"), "{changes:?}");
    assert!(changes[1].ends_with("% of the keys belong to another server"), "{changes:?}");
    assert!(works(&mut client, "k"));
    // One moves to another address, and none of its keys to another server.
    let changes = reloaded.goes_over("", &of(&[(at(0), "a"), (at(3), "b"), (at(2), "c")]));
    let expected = format!("pool p: server b has another address: {}, it was {}", at(3), at(1));
    assert_eq!(changes, [expected]);
    assert!(works(&mut client, "k"));
    reloaded.goes_over("", &of(&[(at(2), "c")]));
    assert!((0..50).all(|number| works(&mut client, &format!("key:{number}"))));
    // Nobody is connected to those who are gone but who asks.
    let connected = |index: usize| {
        let mut client = servers[index].client();
        client.send("stats\r\n");
        let text = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix("STAT curr_connections ")).expect("a figure");
        line.parse::<u32>().expect("a number")
    };
    let alone = connected(1);
    wait_until("the connections to those who are gone are closed", SOON, || {
        connected(0) == alone && connected(3) == alone
    });
    assert_eq!(connected(2), alone + 1, "one is shared");
    reloaded.goes_over("", &first);
    for _ in 0..20 {
        reloaded.goes_over("", &of(&[(at(0), "a"), (at(1), "b"), (at(2), "c"), (at(3), "d")]));
        reloaded.goes_over("", &of(&[(at(3), "d"), (at(1), "b")]));
    }
    assert!(works(&mut client, "k"));
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().expect("no request failed") > 0);
    assert_eq!(reloaded.metric("softmiss_reloads_total"), 44.0);
    assert_eq!(reloaded.metric("softmiss_degraded_total"), 0.0);
}

#[test]
fn pools_come_go_and_change_their_places() {
    let servers = [Process::memcached(), Process::memcached()];
    let ports = [free_port(), free_port(), free_port()];
    let directory = scratch_dir();
    let socket = directory.join("b.sock");
    let listen = |index: usize| loopback(ports[index]).to_string();
    let of = |name: &str, listen: &str, server: usize, more: &[&str]| {
        pool(name, listen, &[(servers[server].address, &format!("s{server}"))], more)
    };
    servers[0].client().ask("set who 0 0 5\r\nfirst\r\n");
    servers[1].client().ask("set who 0 0 6\r\nsecond\r\n");
    let who = |client: &mut Client| got(client, "who").lines().nth(1).unwrap_or_default().to_owned();
    let reloaded = Reloaded::start(ports[0], "", &of("a", &listen(0), 0, &[]));
    let mut early = reloaded.proxy.client();
    assert_eq!(who(&mut early), "first");
    // A second pool, at a unix socket.
    let b = of("b", &format!("{} 0600", socket.display()), 1, &[]);
    reloaded.goes_over("", &(of("a", &listen(0), 0, &[]) + &b));
    assert_eq!(unix(&socket, "get who\r\n"), "VALUE who 0 6\r\nsecond\r\nEND\r\n");
    assert_eq!(mode(&socket), 0o600);
    let b = of("b", &format!("{} 0666", socket.display()), 1, &[]);
    reloaded.goes_over("", &(of("a", &listen(0), 0, &[]) + &b));
    assert_eq!(mode(&socket), 0o666);
    // The first one listens elsewhere, and its place is another pool's; who was there stays where they came to.
    let moved = of("a", &listen(1), 0, &[]) + &of("c", &listen(0), 1, &[]);
    reloaded.goes_over("", &moved);
    assert!(!socket.exists() || wait_gone(&socket));
    assert_eq!(who(&mut early), "first");
    assert_eq!(who(&mut Client::connect(loopback(ports[1]))), "first");
    assert_eq!(who(&mut Client::connect(loopback(ports[0]))), "second");
    // A pool with another name and the same place is the same pool.
    let mut late = Client::connect(loopback(ports[0]));
    assert_eq!(who(&mut late), "second");
    let changes = reloaded.goes_over("", &(of("a", &listen(1), 0, &[]) + &of("d", &listen(0), 1, &[])));
    assert_eq!(changes, ["pool d: renamed, it was c"]);
    assert_eq!(who(&mut late), "second");
    // One that goes answers what it was asked, and lets its clients go.
    late.send("get who\r\n");
    assert_eq!(String::from_utf8_lossy(&late.read_through(b"END\r\n")).lines().nth(1), Some("second"));
    reloaded.goes_over("", &of("a", &listen(1), 0, &[]));
    assert!(late.is_closed());
    assert!(TcpStream::connect(loopback(ports[0])).is_err(), "nobody listens there");
    assert_eq!(who(&mut early), "first");
    // What cannot be listened on changes nothing.
    let taken = std::net::TcpListener::bind(loopback(ports[2])).expect("a free port");
    reloaded.write("", &(of("a", &listen(1), 1, &[]) + &of("e", &listen(2), 1, &[])));
    let answer = post(reloaded.admin, "/reload");
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.body.starts_with(&format!("pool e: cannot listen on {}: ", listen(2))), "{answer:?}");
    assert_eq!(who(&mut early), "first");
    drop(taken);
    reloaded.reload();
    assert_eq!(who(&mut early), "second");
    assert_eq!(who(&mut Client::connect(loopback(ports[2]))), "second");
    let _reloaded = reloaded.expect_log("configuration refused");
}

pub(crate) fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("a socket").permissions().mode() & 0o777
}

fn wait_gone(path: &std::path::Path) -> bool {
    wait_until("the socket's file is removed", SOON, || !path.exists());
    true
}

pub(crate) fn unix(path: &std::path::Path, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(path).expect("connect");
    stream.write_all(request.as_bytes()).expect("send");
    stream.shutdown(std::net::Shutdown::Write).expect("end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_pool_of_another_protocol_takes_over_the_place() {
    let (memcached, redis, port) = (Process::memcached(), Process::redis(), free_port());
    let listen = loopback(port).to_string();
    let reloaded = Reloaded::start(port, "", &pool("p", &listen, &[(memcached.address, "s")], &[]));
    let mut early = reloaded.proxy.client();
    assert!(works(&mut early, "k"));
    reloaded.goes_over("", &pool("p", &listen, &[(redis.address, "s")], &["redis: true"]));
    assert!(early.is_closed(), "it speaks what is not spoken here any more");
    let mut late = reloaded.proxy.client();
    assert_eq!(late.ask("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"), "+OK");
    assert_eq!(reloaded.goes_over("", &pool("p", &listen, &[(redis.address, "s")], &["redis: true"])), [""; 0]);
    late.send("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    assert_eq!(late.read(7), b"$1\r\nv\r\n");
}

#[test]
fn options_hold_for_clients_that_are_there() {
    let hung = Scripted::silent();
    let port = free_port();
    let listen = loopback(port).to_string();
    let of = |more: &[&str]| pool("p", &listen, &[(hung.address, "s")], more);
    let reloaded = Reloaded::start(port, "", &of(&["timeout: 0"])).expect_log("server").expect_log("timeout");
    let mut client = reloaded.proxy.client();
    client.send("get k\r\n");
    // A request that would wait for ever has a time from here on.
    reloaded.goes_over("", &of(&["timeout: 300", "stall_detection: false"]));
    let since = Instant::now();
    assert_eq!(client.line(), "END");
    assert!(since.elapsed() < Duration::from_secs(3));
    let (_, took) = client.ask_timed("get k\r\n");
    assert!(took >= Duration::from_millis(280), "{took:?}");
    // Another policy, for the next request of the same client.
    reloaded.goes_over("", &of(&["timeout: 300", "stall_detection: false", "on_failure: error"]));
    assert!(client.ask("get k\r\n").starts_with("SERVER_ERROR"));
    reloaded.goes_over("", &of(&["timeout: 60", "stall_detection: false"]));
    let (answer, took) = client.ask_timed("get k\r\n");
    assert!(answer == "END" && took < Duration::from_millis(280), "{answer} {took:?}");
    // Limits.
    let answer = client.ask("set k 0 0 3000\r\n".to_owned() + &"v".repeat(3000) + "\r\n");
    assert_eq!(answer, "NOT_STORED", "by the policy");
    reloaded.goes_over("", &of(&["timeout: 60", "value_limit: 2kb", "client_connections: 1"]));
    let answer = client.ask("set k 0 0 3000\r\n".to_owned() + &"v".repeat(3000) + "\r\n");
    assert_eq!(answer, "SERVER_ERROR object too large for cache");
    assert!(Client::connect(reloaded.proxy.address).is_closed(), "one client may be there");
    let reloaded = reloaded.expect_log("client_connections reached");
    reloaded.goes_over("", &of(&["timeout: 60"]));
    assert_eq!(Client::connect(reloaded.proxy.address).ask("get k\r\n"), "END");
}

#[test]
fn what_only_a_restart_changes_is_told_and_stays() {
    let (server, port) = (Process::memcached(), free_port());
    let listen = loopback(port).to_string();
    let of = |more: &[&str]| pool("p", &listen, &[(server.address, "s")], more);
    let reloaded = Reloaded::start(port, "  admin_token: 0123456789abcdef\n", &of(&[]));
    let with = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        super::support::http::ask(reloaded.admin, "POST", "/reload", &[&header])
    };
    assert_eq!(post(reloaded.admin, "/reload").status, 401);
    reloaded.write("  admin_token: fedcba9876543210\n  workers: 2\n", &of(&["server_connections: 3"]));
    let answer = with("0123456789abcdef");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["after_restart"], serde_json::json!(["workers", "p.server_connections"]), "{answer:?}");
    assert_eq!(with("0123456789abcdef").status, 401, "there is another token");
    let answer = with("fedcba9876543210");
    assert_eq!(answer.status, 200, "it is told again for as long as it is so: {answer:?}");
    assert_eq!(answer.json()["changes"].as_array().map(Vec::len), Some(2));
    let config = get(reloaded.admin, "/config").body;
    assert!(config.contains("workers: 1\n") && config.contains("server_connections: 1\n"), "{config}");
    // The program itself knows the token from the file.
    let told = reloaded.program(&["reload"]);
    assert!(told.status.success(), "{told:?}");
    let expected = "process: workers: 2, it was 1 (after a restart; a running process keeps 1)\n\
                    pool p: server_connections: 3, it was 1 (after a restart; a running process keeps 1)\n";
    assert_eq!(String::from_utf8_lossy(&told.stdout), expected);
    let against = reloaded.program(&["check", "--against", &reloaded.admin.to_string()]);
    let hidden = "(a running proxy does not tell its passwords: whether they change is not known)\n";
    assert_eq!(String::from_utf8_lossy(&against.stdout), expected.to_owned() + hidden, "{against:?}");
    // Another file than the one that is read is not taken for it.
    let other = reloaded.proxy.file.with_extension("other");
    std::fs::copy(&reloaded.proxy.file, &other).expect("a copy");
    let told =
        Command::new(env!("CARGO_BIN_EXE_softmiss")).arg("-c").arg(&other).arg("reload").output().expect("softmiss");
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("that is what was taken up"), "{told:?}");
    let _reloaded = reloaded.expect_log("this option is not changed by a reload");
}

#[test]
fn a_broken_file_changes_nothing_and_every_problem_is_told() {
    let (server, port) = (Process::memcached(), free_port());
    let listen = loopback(port).to_string();
    let good = pool("p", &listen, &[(server.address, "s")], &[]);
    let reloaded = Reloaded::start(port, "", &good);
    let mut client = reloaded.proxy.client();
    assert!(works(&mut client, "k"));
    reloaded.write("  wrkers: 2\n", &good.replace("timeout: 1000", "timeout: never"));
    let answer = post(reloaded.admin, "/reload");
    assert_eq!(answer.status, 422, "{answer:?}");
    let file = reloaded.proxy.file.display();
    for part in [format!("{file}:3:3"), format!("{file}:6:"), "wrkers".to_owned(), "never".to_owned()] {
        assert!(answer.body.contains(&part), "{part}: {}", answer.body);
    }
    let told = reloaded.program(&["reload"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&told.stderr).ends_with("is refused, 2 problems: nothing was changed\n"),
        "{told:?}"
    );
    let told = reloaded.program(&["reload", &reloaded.admin.to_string()]);
    assert_eq!(told.status.code(), Some(1));
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(said.contains("never") && said.ends_with("has changed nothing\n"), "{said}");
    reloaded.proxy.signal("HUP");
    let count = || reloaded.proxy.log().iter().filter(|line| line.contains("configuration refused")).count();
    wait_until("the third refusal", SOON, || count() == 3);
    assert_eq!(reloaded.metric("softmiss_reloads_refused_total"), 3.0);
    assert_eq!(reloaded.metric("softmiss_reload_refused"), 1.0);
    assert!(works(&mut client, "k"));
    assert_eq!(reloaded.goes_over("", &good), [""; 0]);
    assert_eq!(reloaded.metric("softmiss_reload_refused"), 0.0);
    // Nobody is left to be asked.
    let told = reloaded.program(&["reload", &loopback(free_port()).to_string()]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("connection refused"), "{told:?}");
    let _reloaded = reloaded.expect_log("configuration refused").expect_log("wrkers").expect_log("never");
}

/// 300 files with a byte changed, left out or twice: each is refused, or is another good file.
#[test]
fn files_with_a_slip_are_refused_or_harmless() {
    let (server, port) = (Process::memcached(), free_port());
    let listen = loopback(port).to_string();
    let good = pool("p", &listen, &[(server.address, "s")], &["auto_eject_hosts: true", "rejoin: safe"]);
    let reloaded = Reloaded::start(port, "", &good).expect_log("");
    let text = whole(reloaded.admin, "", &good);
    let (mut refused, mut taken) = (0, 0);
    for number in 0..300_usize {
        let mut bytes = text.clone().into_bytes();
        let at = number * 7919 % bytes.len();
        match number % 4 {
            0 => bytes[at] = b" :#-'x0\n"[number / 4 % 8],
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, bytes[at]),
            _ => bytes.truncate(at),
        }
        std::fs::write(&reloaded.proxy.file, bytes).expect("write the file");
        match post(reloaded.admin, "/reload").status {
            200 => taken += 1,
            409 | 422 | 401 => refused += 1,
            status => {
                panic!("{status}: {}", String::from_utf8_lossy(&std::fs::read(&reloaded.proxy.file).expect("it")))
            }
        }
    }
    assert!(refused > 100 && taken > 10, "{refused} refused, {taken} taken up");
    reloaded.goes_over("", &good);
    assert!(works(&mut reloaded.proxy.client(), "k"));
}

#[test]
fn a_watched_file_is_taken_up_by_itself() {
    let (server, port) = (Process::memcached(), free_port());
    let listen = loopback(port).to_string();
    let of = |timeout: &str| pool("p", &listen, &[(server.address, "s")], &[timeout]);
    let reloaded = Reloaded::start(port, "  watch: true\n", &of("timeout: 1000"));
    let is_in_force = |text: &str| get(reloaded.admin, "/config").body.contains(text);
    // As editors and Kubernetes do it: another file in its place.
    let next = reloaded.proxy.file.with_extension("next");
    std::fs::write(&next, whole(reloaded.admin, "  watch: true\n", &of("timeout: 700"))).expect("write");
    std::fs::rename(&next, &reloaded.proxy.file).expect("rename");
    wait_until("the other timeout", SOON, || is_in_force("timeout: 700ms"));
    reloaded.proxy.wait_for_log("by=\"watch\"", SOON);
    // A broken one is told once, and the next good one is taken up.
    reloaded.write("  watch: true\n", &of("timeout: soon"));
    reloaded.proxy.wait_for_log("configuration refused", SOON);
    assert!(is_in_force("timeout: 700ms"));
    reloaded.write("  watch: false\n", &of("timeout: 600"));
    wait_until("the third timeout", SOON, || is_in_force("timeout: 600ms"));
    assert_eq!(reloaded.metric("softmiss_reloads_refused_total"), 1.0);
    let _reloaded = reloaded.expect_log("configuration refused").expect_log("soon");
}

#[test]
fn statsd_is_told_of_who_comes_and_nothing_twice() {
    let statsd = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    statsd.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let address = statsd.local_addr().expect("an address");
    let (server, ports) = (Process::memcached(), [free_port(), free_port()]);
    let of = |name: &str, port: u16| pool(name, &loopback(port).to_string(), &[(server.address, "s")], &[]);
    let settings = format!("  statsd: {{address: '{address}', interval: 100ms}}\n");
    let reloaded = Reloaded::start(ports[0], &settings, &of("a", ports[0]));
    let mut sums = Sums::new();
    let hear = |sums: &mut Sums, until: &dyn Fn(&Sums) -> bool| {
        let (mut buffer, since) = ([0; 9000], Instant::now());
        while !until(sums) {
            assert!(since.elapsed() < Duration::from_secs(20), "{sums:?}");
            let Ok(count) = statsd.recv(&mut buffer) else { continue };
            for line in String::from_utf8_lossy(&buffer[..count]).lines() {
                if let Some((name, value)) = line.strip_suffix("|c").and_then(|line| line.split_once(':')) {
                    *sums.entry(name.to_owned()).or_default() += value.parse::<u64>().expect("a number");
                }
            }
        }
    };
    let mut client = reloaded.proxy.client();
    (0..30).for_each(|_| assert!(works(&mut client, "k")));
    hear(&mut sums, &|sums| sums.get("softmiss.a.requests") == Some(&60));
    reloaded.goes_over(&settings, &(of("a", ports[0]) + &of("b", ports[1])));
    let mut other = Client::connect(loopback(ports[1]));
    (0..10).for_each(|_| assert!(works(&mut client, "k") && works(&mut other, "k")));
    hear(&mut sums, &|sums| sums.get("softmiss.b.requests") == Some(&20));
    hear(&mut sums, &|sums| sums.get("softmiss.a.requests").is_some_and(|sum| *sum >= 80));
    assert_eq!(sums.get("softmiss.a.requests"), Some(&80), "each is told once");
    // One that has gone and comes back under its name is another, and counted from nothing.
    reloaded.goes_over(&settings, &of("a", ports[0]));
    reloaded.goes_over(&settings, &(of("a", ports[0]) + &of("b", ports[1])));
    let mut other = Client::connect(loopback(ports[1]));
    assert!(works(&mut other, "k"));
    hear(&mut sums, &|sums| sums.get("softmiss.b.requests").is_some_and(|sum| *sum > 20));
    assert_eq!(sums.get("softmiss.b.requests"), Some(&22));
    // Nobody is told any more; and when somebody is again, of each once.
    reloaded.goes_over("", &of("a", ports[0]));
    wait_until("silence", SOON, || statsd.recv(&mut [0; 9000]).is_err() && statsd.recv(&mut [0; 9000]).is_err());
    assert!(works(&mut client, "k"));
    reloaded.goes_over(&settings, &of("a", ports[0]));
    hear(&mut sums, &|sums| sums.get("softmiss.a.requests").is_some_and(|sum| *sum > 80));
    assert_eq!(sums.get("softmiss.a.requests"), Some(&82));
}

#[test]
fn statsd_that_is_told_late_is_not_told_of_all_that_was() {
    let statsd = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    statsd.set_read_timeout(Some(SOON)).expect("a timeout");
    let address = statsd.local_addr().expect("an address");
    let (server, port) = (Process::memcached(), free_port());
    let of = pool("a", &loopback(port).to_string(), &[(server.address, "s")], &[]);
    let reloaded = Reloaded::start(port, "", &of);
    let mut client = reloaded.proxy.client();
    (0..30).for_each(|_| assert!(works(&mut client, "k")));
    reloaded.goes_over(&format!("  statsd: {{address: '{address}', interval: 100ms}}\n"), &of);
    let (mut buffer, mut text) = ([0; 9000], String::new());
    while !text.contains("softmiss.a.requests:") {
        assert!(works(&mut client, "k"));
        let count = statsd.recv(&mut buffer).expect("statsd is told");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let told = text.lines().find_map(|line| line.strip_prefix("softmiss.a.requests:")).expect("a line");
    let told: u64 = told.trim_end_matches("|c").parse().expect("a number");
    assert!(told < 60, "{told} requests as of one interval");
}

#[test]
fn a_proxy_says_before_what_a_file_would_change() {
    let directory = scratch_dir();
    let [old, new] = ["old.yml", "new.yml"].map(|name| directory.join(name));
    let servers = [(loopback(1), "a"), (loopback(2), "b"), (loopback(3), "c"), (loopback(4), "d"), (loopback(5), "e")];
    std::fs::write(&old, pool("p", "127.0.0.1:9", &servers[..4], &[])).expect("write");
    std::fs::write(&new, pool("p", "127.0.0.1:9", &servers, &["timeout: 500"])).expect("write");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_softmiss")).arg("check").args(arguments).output().expect("softmiss");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, _) = run(&["--diff".as_ref(), old.as_os_str(), new.as_os_str()]);
    assert_eq!(code, Some(0));
    let (lines, share) = said.split_once("pool p: about ").expect("a share");
    assert_eq!(
        lines,
        "pool p: timeout: 500ms, it was 1000ms\n\
         pool p: stall_min: 50ms, it was 100ms\n\
         pool p: stall_max: 500ms, it was 1000ms\n\
         pool p: server e added (127.0.0.1:5, weight 1)\n"
    );
    let share: f64 = share.split(' ').next().expect("a number").parse().expect("a number");
    assert!((15.0..25.0).contains(&share), "{share} % of the keys go to the fifth server");
    let (code, said, _) = run(&["--diff".as_ref(), old.as_os_str(), old.as_os_str()]);
    assert_eq!((code, said.as_str()), (Some(0), "nothing changes\n"));
    let (code, _, complaint) = run(&["--diff".as_ref(), old.as_os_str()]);
    assert!(code == Some(1) && complaint.contains("softmiss check --diff OLD NEW"), "{complaint}");
    std::fs::write(&new, "p: {}").expect("write");
    let (code, _, complaint) = run(&["--diff".as_ref(), old.as_os_str(), new.as_os_str()]);
    assert!(code == Some(1) && complaint.contains("refused"), "{complaint}");
    std::fs::remove_dir_all(directory).expect("remove");
}

/// A pool is taken away and put back at once, many times: its address is free for the next one each time.
#[test]
fn an_address_that_was_left_can_be_taken_at_once() {
    let (server, ports, folder) = (Process::memcached(), [free_port(), free_port()], scratch_dir());
    let listen = |index: usize| loopback(ports[index]).to_string();
    let socket = folder.join("b.sock").display().to_string();
    let of = |name: &str, listen: &str| pool(name, listen, &[(server.address, "s")], &[]);
    let reloaded = Reloaded::start(ports[0], "", &of("a", &listen(0)));
    for _ in 0..30 {
        reloaded.goes_over("", &(of("a", &listen(0)) + &of("b", &listen(1)) + &of("c", &socket)));
        assert!(works(&mut Client::connect(loopback(ports[1])), "k"));
        reloaded.goes_over("", &of("a", &listen(0)));
    }
    std::fs::remove_dir_all(folder).expect("remove");
}

//! Servers that are found: names that move, names of many addresses, files and endpoints that list servers. Under a load that
//! must not notice any of it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::reload::{Reloaded, SOON, got, loopback, whole};
use super::support::bad::{Scripted, read_line};
use super::support::client::Client;
use super::support::http::{get, post};
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::{Hiccups, scattered_key, wait_until};

/// The time between two look-ups.
const INTERVAL: Duration = Duration::from_millis(500);

/// Requests of one client, one after the other, none of which may fail.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut client, mut count) = (Client::connect(address), 0);
            while !is_over.load(Ordering::Relaxed) {
                let key = scattered_key(count % 300);
                assert_eq!(client.ask(format!("set {key} 0 0 {}\r\n{key}\r\n", key.len())), "STORED");
                // It may belong elsewhere by now.
                let answer = got(&mut client, &key);
                assert!(answer == "END\r\n" || answer.contains(&format!("\r\n{key}\r\n")), "{answer}");
                count += 1;
            }
            count
        });
        Self { stop, thread }
    }

    /// Ends it. How many requests there were.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        2 * self.thread.join().expect("no request fails")
    }
}

/// A pool with these lines and servers.
fn pool(port: u16, more: &str, servers: &[&str]) -> String {
    let servers: String = servers.iter().map(|server| format!("  - {server}\n")).collect();
    let servers = if servers.is_empty() { servers } else { format!("  servers:\n{servers}") };
    format!("p:\n  listen: 127.0.0.1:{port}\n  timeout: 1000\n  auto_eject_hosts: true\n{more}{servers}")
}

fn interval() -> String {
    format!("  resolve_interval: {}ms\n", INTERVAL.as_millis())
}

/// Puts a file with the process in the place of one of the system's.
fn started(admin: SocketAddr, port: u16, pool: &str, places: &[(&Path, &str)]) -> Reloaded {
    let proxy = Proxy::with_in_place(&whole(admin, "  workers: 2\n", pool), port, places);
    wait_until("the admin port", SOON, || TcpStream::connect(admin).is_ok());
    Reloaded { proxy, admin }
}

/// Whether a process can have files of its own in the place of the system's.
fn has_mounts() -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).output();
    let is_possible = tried.is_ok_and(|output| output.status.success());
    if !is_possible {
        not_run("there is no mount namespace to be had");
    }
    is_possible
}

/// Says why a test does nothing: where it may be seen (`--success-output final`), and where it is when it runs by itself.
fn not_run(reason: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{test} was not run: {reason}");
    eprintln!("{test} was not run: {reason}");
}

/// A name server of the test's own, where those of the system are not (`127.0.0.53`). Nothing where it cannot be had, or not be
/// put in their place.
fn name_server(last: u8) -> Option<UdpSocket> {
    let bound = UdpSocket::bind(SocketAddr::from(([127, 0, 0, last], 53)));
    bound
        .inspect_err(|error| not_run(&format!("no name server at 127.0.0.{last}:53: {error}")))
        .ok()
        .filter(|_| has_mounts())
}

/// Has something change, and waits until it is in force: within two intervals, and what the machine itself was late.
#[track_caller]
fn in_force(change: impl FnOnce(), is_in_force: impl FnMut() -> bool) {
    let (hiccups, changed) = (Hiccups::watch(), Instant::now());
    change();
    wait_until("the change", SOON, is_in_force);
    let took = changed.elapsed();
    let late = hiccups.end().stood_still(changed, changed + took);
    println!("in force after {took:?} of intervals of {INTERVAL:?}; the machine was {late:?} late");
    assert!(took < 2 * INTERVAL + late, "{took:?}");
}

/// A file in the place of `/etc/hosts`, which is written as a whole or not at all.
struct Hosts(PathBuf);

impl Hosts {
    const LENGTH: usize = 400;

    fn new(lines: &str) -> Self {
        let hosts = Self(scratch_dir().join("hosts"));
        hosts.write(lines);
        hosts
    }

    fn write(&self, lines: &str) {
        let text = format!("{lines:\n<width$}", width = Self::LENGTH);
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.0).expect("a file");
        file.write_all_at(text.as_bytes(), 0).expect("write");
    }
}

/// How many requests a memcached was sent.
fn sets(server: &Process) -> u64 {
    let mut client = server.client();
    client.send("stats\r\n");
    let text = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix("STAT cmd_set ")).expect("a figure");
    line.parse().expect("a number")
}

/// The servers that the proxy has, as `name address`.
fn servers(reloaded: &Reloaded) -> Vec<String> {
    let answer = get(reloaded.admin, "/servers").json();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let all = list(&answer["pools"]).into_iter().flat_map(|pool| list(&pool["servers"]));
    let mut all: Vec<_> = all.map(|one| format!("{} {}", text(&one["name"]), text(&one["address"]))).collect();
    all.sort();
    all
}

#[test]
fn a_name_that_moves_takes_its_keys_along() {
    if !has_mounts() {
        return;
    }
    let (port, at) = (free_port(), free_port());
    let [first, second] = [[127, 0, 0, 2], [127, 0, 0, 3]].map(|ip| Process::memcached_at_ip(ip, at));
    let other = Process::memcached();
    let hosts = Hosts::new("127.0.0.1 localhost\n127.0.0.2 cache.test\n");
    let pool = pool(port, &interval(), &[&format!("cache.test:{at}:1 a"), &format!("{}:1 b", other.address)]);
    let reloaded = started(loopback(free_port()), port, &pool, &[(&hosts.0, "/etc/hosts")])
        .expect_log("servers cannot be looked up");
    let load = Load::start(reloaded.proxy.address);
    wait_until("requests", SOON, || sets(&first) > 300 && sets(&other) > 300);
    let shares = || get(reloaded.admin, "/route?key=k&pool=p").json()["server"].clone();
    let before = shares();
    let digest = get(reloaded.admin, "/config").body;
    in_force(|| hosts.write("127.0.0.1 localhost\n127.0.0.3 cache.test\n"), || sets(&second) > 0);
    let left = sets(&first);
    wait_until("requests", SOON, || sets(&second) > 300);
    assert_eq!(sets(&first), left, "nothing goes to the address of before");
    assert_eq!(servers(&reloaded)[0], format!("a cache.test:{at} (127.0.0.3)"));
    assert_eq!(shares(), before);
    assert_eq!(get(reloaded.admin, "/config").body, digest, "the file says what it said");
    // A name that is there no more, or for a moment another: what was known stays in force, also for new connections.
    hosts.write("127.0.0.1 localhost\n");
    wait_until("a look-up that fails", SOON, || reloaded.metric("softmiss_discovery_failing") == 1.0);
    assert!(reloaded.metric("softmiss_discovery_failures_total") >= 1.0);
    let count = load.end();
    drop(second);
    let second = Process::memcached_at_ip([127, 0, 0, 3], at);
    let mut client = reloaded.proxy.client();
    wait_until("requests on new connections", SOON, || {
        let key = scattered_key(7);
        (0..300).for_each(|number| drop(client.ask(format!("set {} 0 0 1\r\nx\r\n", scattered_key(number)))));
        got(&mut client, &key).len() > 5 && sets(&second) > 0
    });
    assert_eq!(reloaded.metric("softmiss_discovery_changes_total"), 1.0);
    println!("{count} requests, none failed");
}

#[test]
fn a_server_that_is_out_is_probed_at_once_where_its_name_moves_to() {
    if !has_mounts() {
        return;
    }
    let (port, at) = (free_port(), free_port());
    let server = Process::memcached_at_ip([127, 0, 0, 3], at);
    let hosts = Hosts::new("127.0.0.2 cache.test\n");
    let more = interval() + "  server_retry_timeout: 60s\n  server_failure_limit: 1\n  warmup: 1m\n";
    let pool = pool(port, &more, &[&format!("cache.test:{at}:1 a")]);
    let reloaded =
        started(loopback(free_port()), port, &pool, &[(&hosts.0, "/etc/hosts")]).expect_log("server ejected");
    let mut client = reloaded.proxy.client();
    assert_eq!(client.ask("set k 0 0 1\r\nx\r\n"), "NOT_STORED");
    reloaded.proxy.wait_for_log("server ejected", SOON);
    hosts.write("127.0.0.3 cache.test\n");
    // Not after a minute.
    wait_until("it is back", SOON, || client.ask("set k 0 0 1\r\nx\r\n") == "STORED");
    assert_eq!(sets(&server), 1);
}

#[test]
fn a_name_is_looked_up_at_once_when_its_server_is_not_reached() {
    if !has_mounts() {
        return;
    }
    let (port, at) = (free_port(), free_port());
    let mut first = Process::memcached_at_ip([127, 0, 0, 2], at);
    let second = Process::memcached_at_ip([127, 0, 0, 3], at);
    let hosts = Hosts::new("127.0.0.2 cache.test\n");
    let more = "  resolve_interval: 1h\n  settle: 100ms\n  server_retry_timeout: 1h\n";
    let pool = pool(port, more, &[&format!("cache.test:{at}:1 a")]);
    let reloaded =
        started(loopback(free_port()), port, &pool, &[(&hosts.0, "/etc/hosts")]).expect_log("server ejected");
    let mut client = reloaded.proxy.client();
    assert_eq!(client.ask("set k 0 0 1\r\nx\r\n"), "STORED");
    hosts.write("127.0.0.3 cache.test\n");
    first.kill();
    // Not after an hour.
    wait_until("it is served elsewhere", SOON, || client.ask("set k 0 0 1\r\nx\r\n") == "STORED");
    reloaded.proxy.wait_for_log("has another address", SOON);
    assert!(sets(&second) > 0);
}

#[test]
fn every_address_of_a_name_is_a_server_and_so_is_every_srv_record() {
    let Some(name_server) = name_server(153) else { return };
    let (port, at) = (free_port(), free_port());
    let nodes = [2, 3, 4].map(|last| Process::memcached_at_ip([127, 0, 0, last], at));
    let line = |last: u8| format!("127.0.0.{last} all.test\n127.0.0.{last} m-{last}.test\n");
    let hosts = Hosts::new(&(line(2) + &line(3)));
    let names = scratch_dir().join("resolv.conf");
    std::fs::write(&names, "nameserver 127.0.0.153\noptions timeout:1 attempts:1\n").expect("write");
    // Two records, of m-2.test and m-4.test, whatever is asked; the answer to a question for addresses is an error.
    let served = Arc::new(AtomicBool::new(true));
    let is_served = Arc::clone(&served);
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = name_server.recv_from(&mut query) {
            let question = query[12..length].iter().position(|byte| *byte == 0).map_or(0, |end| 12 + end + 5);
            let is_srv = query[question - 3] == 33 && is_served.load(Ordering::Relaxed);
            let mut answer = [&query[..2], &[0x81, if is_srv { 0x80 } else { 0x82 }, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
            answer.extend(&query[12..question]);
            for host in [&b"m-2"[..], b"m-4"].into_iter().filter(|_| is_srv) {
                answer[7] += 1;
                answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 5, 0, 17, 0, 0, 0, 0]);
                answer.extend(at.to_be_bytes());
                answer.extend([&[3], host, b"\x04test\0"].concat());
                let start = answer.len() - 10 - 6 - 2;
                answer[start..start + 2].copy_from_slice(&16u16.to_be_bytes());
            }
            let _ = name_server.send_to(&answer, from);
        }
    });
    let more = interval() + "  resolve: all\n";
    let all = pool(port, &more, &[&format!("all.test:{at}:1")]);
    let services = pool(free_port(), &interval(), &["_memcached._tcp.cache.test:1"]).replace("p:\n", "q:\n");
    let places: [(&Path, &str); 2] = [(&hosts.0, "/etc/hosts"), (&names, "/etc/resolv.conf")];
    let reloaded = started(loopback(free_port()), port, &(all + &services), &places).expect_log("cannot be looked up");
    let of = |last: u8| format!("127.0.0.{last}:{at} 127.0.0.{last}:{at}");
    let host = |last: u8| format!("m-{last}.test:{at} m-{last}.test:{at}");
    assert_eq!(servers(&reloaded), [of(2), of(3), host(2), host(4)], "at once");
    let load = Load::start(reloaded.proxy.address);
    wait_until("requests", SOON, || sets(&nodes[0]) > 100 && sets(&nodes[1]) > 100);
    let owner = |key: &str| get(reloaded.admin, &format!("/route?key={key}&pool=p")).json()["server"].to_string();
    let before: Vec<String> = (0..40).map(|number| owner(&scattered_key(number))).collect();
    in_force(|| hosts.write(&(line(2) + &line(3) + &line(4))), || sets(&nodes[2]) > 0);
    let after: Vec<String> = (0..40).map(|number| owner(&scattered_key(number))).collect();
    let new = format!("\"127.0.0.4:{at}\"");
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == new), "{before:?} {after:?}");
    // Nobody can be asked for any of them.
    hosts.write("127.0.0.1 localhost\n");
    served.store(false, Ordering::Relaxed);
    wait_until("look-ups that fail", SOON, || reloaded.metric("softmiss_discovery_failing") >= 2.0);
    assert_eq!(servers(&reloaded).len(), 5, "nobody leaves for that");
    println!("{} requests, none failed", load.end());
}

#[test]
fn a_file_of_servers_is_watched_and_a_broken_one_changes_nothing() {
    let nodes: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let file = scratch_dir().join("servers");
    let of = |count: usize| -> String { nodes[..count].iter().map(|node| format!("{}:1\n", node.address)).collect() };
    std::fs::write(&file, "# ours\n".to_owned() + &of(2)).expect("write");
    let port = free_port();
    let text = |more: &str| pool(port, &format!("  servers_file: {}\n{more}", file.display()), &[]);
    let reloaded =
        Reloaded::start(port, "", &text("")).expect_log("servers cannot be looked up").expect_log("has no port");
    assert_eq!(servers(&reloaded).len(), 2, "at once");
    let load = Load::start(reloaded.proxy.address);
    let changed = Instant::now();
    std::fs::write(&file, of(3)).expect("write");
    wait_until("requests to the new one", SOON, || sets(&nodes[2]) > 0);
    println!("in force after {:?}, a second of which the file has to be quiet", changed.elapsed());
    // A reload keeps what is found, and has its own changes.
    assert_eq!(reloaded.goes_over("", &text("  rise: 2\n")), ["pool p: rise: 2, it was 1"]);
    assert_eq!(servers(&reloaded).len(), 3);
    let (answer, digest) = (get(reloaded.admin, "/config").body, reloaded.metric("softmiss_reloads_total"));
    assert!(answer.contains("servers_file: ") && !answer.contains("servers: "), "{answer}");
    assert_eq!(digest, 1.0, "what is found is no reload of the file");
    std::fs::write(&file, of(2) + "10.0.0.1\n").expect("write");
    wait_until("a refusal", SOON, || reloaded.metric("softmiss_discovery_failures_total") == 1.0);
    assert_eq!(servers(&reloaded).len(), 3);
    let place = format!("{}:3:1", file.display());
    assert!(reloaded.proxy.log().iter().any(|line| line.contains(&place)), "the place of the problem is told");
    let check = Command::new(env!("CARGO_BIN_EXE_softmiss")).arg("check").arg(&reloaded.proxy.file).output().unwrap();
    assert!(!check.status.success(), "{check:?}");
    println!("{} requests, none failed", load.end());
}

#[test]
fn a_name_server_that_says_nothing_holds_up_nobody() {
    let Some(_silent) = name_server(154) else { return };
    let (port, at) = (free_port(), free_port());
    let node = Process::memcached_at_ip([127, 0, 0, 2], at);
    let (hosts, names, list) =
        (Hosts::new("127.0.0.2 cache.test\n"), scratch_dir().join("names"), scratch_dir().join("list"));
    std::fs::write(&names, "nameserver 127.0.0.154\n").expect("write");
    let unknown: Vec<String> = (0..20).map(|number| format!("n{number}.example:{at}:1")).collect();
    let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
    let waits = pool(free_port(), "  resolve: all\n", &unknown).replace("p:\n", "waits:\n");
    let listed = format!("  servers_file: {}\n", list.display());
    let pool = pool(port, &(interval() + &listed), &[&format!("cache.test:{at}:1 a")]);
    let began = Instant::now();
    let places: [(&Path, &str); 2] = [(&hosts.0, "/etc/hosts"), (&names, "/etc/resolv.conf")];
    let reloaded = started(loopback(free_port()), port, &(pool + &waits), &places)
        .expect_log("cannot be looked up")
        .expect_log("not known which servers");
    let mut client = reloaded.proxy.client();
    assert_eq!(client.ask("set k 0 0 1\r\nx\r\n"), "STORED");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // While all that may wait for the name server do, what does not depend on it is found.
    let other = Process::memcached();
    std::fs::write(&list, format!("{}:1\n", other.address)).expect("write");
    wait_until("the server", SOON, || {
        (0..100).for_each(|number| drop(client.ask(format!("set {} 0 0 1\r\nx\r\n", scattered_key(number)))));
        sets(&other) > 0
    });
    let (answer, took) = client.ask_timed("get k\r\n");
    assert!(answer.starts_with("VALUE") || answer == "END", "{answer}");
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(sets(&node) > 0);
    assert_eq!(reloaded.metric("softmiss_discovery_changes_total"), 1.0);
}

/// An endpoint that says what it is told to.
struct Cluster {
    scripted: Scripted,
    says: Arc<Mutex<Vec<Vec<u8>>>>,
    asked: Arc<Mutex<usize>>,
}

impl Cluster {
    /// It says each of these in turn, from the last one on again and again.
    fn start() -> Self {
        let (says, asked) = (Arc::new(Mutex::new(Vec::<Vec<u8>>::new())), Arc::new(Mutex::new(0)));
        let (own, count) = (Arc::clone(&says), Arc::clone(&asked));
        let scripted = Scripted::start(move |mut stream| {
            let mut buffer = Vec::new();
            while let Some(line) = read_line(&mut stream, &mut buffer) {
                assert_eq!(line, b"config get cluster");
                let mut says = own.lock().unwrap();
                says.rotate_left(1);
                let answer = says.last().cloned().unwrap_or_default();
                drop(says);
                *count.lock().unwrap() += 1;
                if answer == b"endless" {
                    while stream.write_all(&[b'x'; 100]).is_ok() {}
                }
                if stream.write_all(&answer).is_err() || !answer.ends_with(b"END\r\n") {
                    break; // cut short
                }
            }
        });
        Self { scripted, says, asked }
    }

    fn says(&self, answers: &[Vec<u8>]) {
        *self.says.lock().unwrap() = answers.to_vec();
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

/// The answer of a cluster of these nodes.
fn answer(version: i32, nodes: &[&Process]) -> Vec<u8> {
    let node = |(index, node): (usize, &&Process)| format!("n{index}.test|127.0.0.1|{}", node.address.port());
    let nodes: Vec<String> = nodes.iter().enumerate().map(node).collect();
    let body = format!("{version}\n{}\n", nodes.join(" "));
    format!("CONFIG cluster 0 {}\r\n{body}\r\nEND\r\n", body.len()).into_bytes()
}

#[test]
fn a_cluster_is_followed_and_one_that_lies_is_not_believed() {
    let nodes: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let of = |version: i32, count: usize| answer(version, &nodes[..count].iter().collect::<Vec<_>>());
    let cluster = Cluster::start();
    cluster.says(&[of(5, 2)]);
    let port = free_port();
    let text =
        |more: &str| pool(port, &format!("  warmup: 1m\n  auto_discovery: {}\n{more}", cluster.scripted.address), &[]);
    let reloaded = Reloaded::start(port, "", &text(&interval())).expect_log("servers cannot be looked up");
    let named = |index: usize| {
        let at = nodes[index].address.port();
        format!("n{index}.test:{at} 127.0.0.1:{at}")
    };
    let two = [named(0), named(1)];
    assert_eq!(servers(&reloaded), two, "at once");
    let load = Load::start(reloaded.proxy.address);
    in_force(|| cluster.says(&[of(6, 3)]), || sets(&nodes[2]) > 0);
    // From here on it is asked more often: an option that changes is applied.
    reloaded.goes_over("", &text("  resolve_interval: 100ms\n"));
    assert_eq!(servers(&reloaded).len(), 3, "a reload keeps what is found");
    let file = get(reloaded.admin, "/config").body;
    let lies = [
        of(7, 0),
        of(5, 2),
        b"ERROR\r\n".to_vec(),
        of(7, 2)[..40].to_vec(),
        Vec::new(),
        b"endless".to_vec(),
        b"\xff\x00garbage|\r\n".to_vec(),
    ];
    for lie in lies {
        let (asked, failures) = (cluster.asked(), reloaded.metric("softmiss_discovery_failures_total"));
        let shown = String::from_utf8_lossy(&lie).into_owned();
        cluster.says(&[lie]);
        wait_until(&shown, SOON, || cluster.asked() >= asked + 2);
        wait_until(&shown, SOON, || reloaded.metric("softmiss_discovery_failures_total") >= failures + 2.0);
        assert_eq!(servers(&reloaded).len(), 3, "{shown}");
    }
    assert_eq!(reloaded.metric("softmiss_discovery_failing"), 1.0);
    let told = reloaded.proxy.log().iter().filter(|line| line.contains("cannot be looked up")).count();
    assert_eq!(told, 1, "it is told once");
    // One that says now this and now that has the ring neither way, nor does it make what follows old.
    cluster.says(&[of(8, 3), of(80, 2)]);
    let asked = cluster.asked();
    wait_until("it to be asked", SOON, || cluster.asked() >= asked + 8);
    assert_eq!(servers(&reloaded).len(), 3);
    assert_eq!(reloaded.metric("softmiss_discovery_changes_total"), 2.0);
    cluster.says(&[of(9, 2)]);
    wait_until("the third one to leave", SOON, || servers(&reloaded) == two);
    assert_eq!(reloaded.metric("softmiss_discovery_failing"), 0.0);
    let events = get(reloaded.admin, "/servers").json()["events"].to_string();
    assert!(events.contains("does not say where servers are") && events.contains("(discovery)"), "{events}");
    assert_eq!(get(reloaded.admin, "/config").body, file, "the file says what it said");
    let against = ["check", "--against", &reloaded.admin.to_string(), reloaded.proxy.file.to_str().expect("a name")];
    let told = Command::new(env!("CARGO_BIN_EXE_softmiss")).args(against).output().expect("softmiss");
    assert_eq!(String::from_utf8_lossy(&told.stdout), "nothing changes\n", "{told:?}");
    println!("{} requests, none failed", load.end());
}

#[test]
fn a_pool_of_which_nobody_knows_the_servers_answers_by_its_policy_until_they_are_known() {
    let silent = Scripted::silent();
    let file = scratch_dir().join("servers");
    let (port, second) = (free_port(), free_port());
    let more = format!("  auto_discovery: {}\n", silent.address);
    let redis = format!(
        "r:\n  listen: 127.0.0.1:{second}\n  redis: true\n  timeout: 1s\n  warmup: 1m\n  servers_file: {}\n",
        file.display()
    );
    let began = Instant::now();
    let reloaded = Reloaded::start(port, "", &(pool(port, &more, &[]) + &redis))
        .expect_log("not known which servers")
        .expect_log("cannot be looked up")
        .expect_log("server fails")
        .expect_log("server ejected");
    let mut client = reloaded.proxy.client();
    assert_eq!(client.ask("get k\r\n"), "END");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(client.ask("set k 0 0 1\r\nx\r\n"), "NOT_STORED");
    for (request, answer) in [("mg k v\r\n", "EN"), ("delete k\r\n", "NOT_FOUND"), ("flush_all\r\n", "OK")] {
        assert_eq!(client.ask(request), answer, "{request}");
    }
    client.send("get a b c\r\nstats\r\nversion\r\n");
    client.read_through(b"VERSION");
    let mut client = Client::connect(loopback(second));
    for request in
        ["GET k", "SET k v", "MGET a b", "EVAL return 0", "DBSIZE", "FLUSHALL", "SCAN 0", "KEYS *", "RANDOMKEY"]
    {
        let answer = client.ask(format!("{request}\r\n"));
        assert!(answer.starts_with(['-', '+', ':', '$', '*']), "{request}: {answer}");
    }
    // A reload that would leave a pool with nobody is refused; one by which it stays so is not.
    let server = Process::redis();
    std::fs::write(&file, format!("{}:1\n", server.address)).expect("write");
    wait_until("the server", SOON, || Client::connect(loopback(second)).ask("SET k v\r\n") == "+OK");
    let reloaded = reloaded.expect_log("configuration refused");
    let nowhere = redis.replace("/servers\n", "/nowhere\n");
    reloaded.write("", &(pool(port, &more, &[]) + &nowhere));
    let answer = post(reloaded.admin, "/reload");
    assert!(answer.status == 409 && answer.body.contains("nowhere"), "{answer:?}");
    assert_eq!(Client::connect(loopback(second)).ask("SET k v\r\n"), "+OK");
    // Nothing is lost of who is there when another is added to the file itself.
    let listed = format!("{redis}  servers: ['{}:2 own']\n", Process::redis().address);
    reloaded.goes_over("", &(pool(port, &more, &[]) + &listed));
    assert!(servers(&reloaded).iter().any(|one| one.starts_with("own ")), "{:?}", servers(&reloaded));
}

#[test]
fn what_a_file_would_change_is_told_of_what_it_lists() {
    let place = scratch_dir();
    let write = |name: &str, text: &str| {
        let text = format!("p:\n  listen: 127.0.0.1:1\n  timeout: 400\n{text}");
        std::fs::write(place.join(name), text).expect("write");
    };
    let told = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
        let output = command.current_dir(&place).arg("check").args(arguments).output().expect("softmiss");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    write("old", "  servers: ['_m._tcp.cache.example:1']\n");
    write("new", "  servers: ['_m._tcp.cache.example:2']\n  auto_discovery: c.example:11211\n");
    assert_eq!(told(&["old"]), "old: ok (1 pool, 1 server, and those that are found)\n");
    assert_eq!(
        told(&["--diff", "old", "new"]),
        "pool p: auto_discovery: c.example:11211, it was none\n\
         pool p: server _m._tcp.cache.example has another weight: 2, it was 1\n\
         pool p: what share of the keys moves shows when it is known which servers it has\n"
    );
    assert_eq!(told(&["--diff", "old", "old"]), "nothing changes\n");
    std::fs::write(place.join("list"), "10.0.0.1:1:1\n10.0.0.2:1:1\n").expect("write");
    std::fs::write(place.join("broken"), "10.0.0.1:1:1\n10.0.0.2\n").expect("write");
    write("wrong", &format!("  servers_file: {}\n", place.join("broken").display()));
    let wrong = told(&["--diff", "old", "wrong"]);
    assert!(
        wrong.contains("servers_file: ") && wrong.contains("broken:2:1") && wrong.contains("has no port"),
        "{wrong}"
    );
    assert!(Command::new("mkfifo").arg(place.join("pipe")).status().expect("mkfifo").success());
    write("piped", &format!("  servers_file: {}\n", place.join("pipe").display()));
    let piped = told(&["piped"]);
    assert!(piped.contains("this is a pipe"), "{piped}");
    write("listed", &format!("  servers_file: {}\n", place.join("list").display()));
    assert_eq!(told(&["listed"]), "listed: ok (1 pool, 2 servers, and those that are found)\n");
}

//! Real processes: memcached, nutcracker, and the program under test. Each is ended, by its id, when it is dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::Client;
use super::logfmt;
use super::scratch::clear;
pub(crate) use super::scratch::scratch_dir;
use super::wait_until;

/// A free port of the loopback interface; never the same one twice.
///
/// It is below the ports that the system gives to connections, so that none of another test's takes it meanwhile; and each
/// test, being a process of its own, starts to look somewhere else.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const USUAL: [u16; 3] = [11211, 22222, 22223];
    loop {
        let number = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(number % 22_000).expect("below 22,000");
        if !USUAL.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A running process.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    fn start(command: Command, port: u16) -> Self {
        Self::start_at(command, loopback(port))
    }

    fn start_at(command: Command, address: SocketAddr) -> Self {
        Self::start_until(command, address, || TcpStream::connect(address).is_ok())
    }

    fn start_until(mut command: Command, address: SocketAddr, listens: impl FnMut() -> bool) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error} (run tests/setup.sh)"));
        let process = Self { child, address }; // which ends also if it does not listen
        wait_until(&format!("{name} listening"), Duration::from_secs(10), listens);
        process
    }

    /// A memcached of its own.
    pub(crate) fn memcached() -> Self {
        Self::memcached_on(free_port())
    }

    /// A memcached at another address of the loopback interface.
    pub(crate) fn memcached_at_ip(ip: [u8; 4], port: u16) -> Self {
        let address = SocketAddr::from((ip, port));
        let mut command = Command::new("memcached");
        command.args(["-l", &address.ip().to_string(), "-p", &port.to_string(), "-t", "1", "-m", "64", "-u", "nobody"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self::start_at(command, address)
    }

    pub(crate) fn memcached_on(port: u16) -> Self {
        Self::memcached_with(port, &[], Stdio::null())
    }

    /// A memcached with further arguments, and a place for what it says of itself.
    pub(crate) fn memcached_with(port: u16, more: &[&str], says: Stdio) -> Self {
        let mut command = Command::new("memcached");
        command.args([
            "-l",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-t",
            "1",
            "-m",
            "512",
            "-c",
            "4096",
            "-u",
            "nobody",
        ]);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(says);
        Self::start(command, port)
    }

    /// A Redis server of its own, which keeps nothing on disk.
    pub(crate) fn redis() -> Self {
        Self::redis_with(free_port(), &[])
    }

    /// A Redis server with further arguments. What it is told to save lies in a place of its own.
    pub(crate) fn redis_with(port: u16, more: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command.current_dir(scratch_dir());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self::start(command, port)
    }

    /// A memcached on a unix socket; its `address` is of no use.
    pub(crate) fn memcached_at(path: &std::path::Path) -> Self {
        let mut command = Command::new("memcached");
        command.arg("-s").arg(path).args(["-t", "1", "-m", "64", "-u", "root"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self::start_until(command, loopback(0), || std::os::unix::net::UnixStream::connect(path).is_ok())
    }

    /// twemproxy with this file.
    pub(crate) fn nutcracker(file: &std::path::Path, port: u16) -> Self {
        Self::nutcracker_with(file, port, free_port())
    }

    /// twemproxy with this file, and its statistics on this port.
    pub(crate) fn nutcracker_with(file: &std::path::Path, port: u16, stats: u16) -> Self {
        let mut command = Command::new("nutcracker");
        let log = file.with_extension("nutcracker.log");
        command.arg("-c").arg(file).arg("-o").arg(log).args(["-s", &stats.to_string(), "-a", "127.0.0.1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self::start(command, port)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says of itself, if it was started with a pipe for that.
    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Sends a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }
}

fn signal(id: u32, name: &str) {
    let done = Command::new("kill").args(["-s", name, &id.to_string()]).status().expect("kill");
    assert!(done.success());
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program under test, with one pool or the pools of a whole file.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) stats: SocketAddr,
    pub(crate) file: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
    /// Parts of log lines of WARN and ERROR that the test expects.
    expected: Vec<&'static str>,
}

/// Whether servers may fail, in what this file says, without ever being ejected.
fn may_fail_in_the_ring(text: &str) -> bool {
    let limit = |line: &str| line.trim().strip_prefix("server_failure_limit: ")?.parse::<u32>().ok();
    !text.contains("auto_eject_hosts: true")
        || text.contains("max_ejected_percent")
        || text.lines().filter_map(limit).any(|limit| limit >= 10)
}

impl Proxy {
    /// One pool before these servers; `more` is further lines of the pool, without indentation.
    pub(crate) fn start(servers: &[SocketAddr], more: &[&str]) -> Self {
        let port = free_port();
        let mut pool = format!("pool:\n  listen: 127.0.0.1:{port}\n");
        let mut line = |line: &str| pool.push_str(&format!("  {line}\n"));
        if !more.iter().any(|line| line.starts_with("timeout")) {
            line("timeout: 400");
        }
        more.iter().for_each(|more| line(more));
        line("servers:");
        servers.iter().for_each(|server| line(&format!("  - {server}:1")));
        Self::with_file(&pool, port)
    }

    /// A whole file; `port` is that of the pool that [`Proxy::client`] connects to.
    pub(crate) fn with_file(text: &str, port: u16) -> Self {
        Self::started_by(Command::new(env!("CARGO_BIN_EXE_softmiss")), text, port)
    }

    /// As [`Proxy::with_file`], with so many open files at the most (`soft:hard`).
    pub(crate) fn with_files(text: &str, port: u16, files: &str) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}")).arg(env!("CARGO_BIN_EXE_softmiss"));
        Self::started_by(command, text, port)
    }

    /// As [`Proxy::with_file`], where each of the first files stands in the place of the second, for this process alone.
    pub(crate) fn with_in_place(text: &str, port: u16, places: &[(&std::path::Path, &str)]) -> Self {
        let mut script = "mount --make-rprivate /".to_owned();
        for (own, place) in places {
            script += &format!(" && mount --bind '{}' {place}", own.display());
        }
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &format!("{script} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_softmiss"));
        Self::started_by(command, text, port)
    }

    /// As [`Proxy::with_file`], of a program that may be replaced while it runs.
    pub(crate) fn of_program(program: &std::path::Path, text: &str, port: u16) -> Self {
        Self::started_by(Command::new(program), text, port)
    }

    /// As [`Proxy::with_file`], of a command that starts the program.
    pub(crate) fn started_by(mut command: Command, text: &str, port: u16) -> Self {
        let directory = scratch_dir();
        let file = directory.join("softmiss.yml");
        std::fs::write(&file, text).expect("write the file");
        let stats = free_port();
        let mut child = command
            .arg("-c")
            .arg(&file)
            .args(["-s", &stats.to_string()])
            .args(if text.contains("admin:") { &[][..] } else { &["--admin", "none"] })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("softmiss");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("stderr"));
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                copy.lock().expect("log").push(line);
            }
        });
        let expected =
            if may_fail_in_the_ring(text) { vec!["server fails, and stays in the ring"] } else { Vec::new() };
        let proxy = Self { child, address: loopback(port), stats: loopback(stats), file, log, expected };
        wait_until("softmiss listening", Duration::from_secs(10), || TcpStream::connect(proxy.address).is_ok());
        proxy
    }

    /// Log lines of WARN or ERROR with this text are no surprise.
    pub(crate) fn expect_log(mut self, part: &'static str) -> Self {
        self.expected.push(part);
        self
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("log").clone()
    }

    /// Waits for a log line with this text.
    pub(crate) fn wait_for_log(&self, part: &str, limit: Duration) {
        wait_until(&format!("a log line with {part:?}"), limit, || self.log().iter().any(|line| line.contains(part)));
    }

    /// The JSON of the statistics port.
    pub(crate) fn statistics(&self) -> serde_json::Value {
        let mut text = String::new();
        TcpStream::connect(self.stats).expect("stats").read_to_string(&mut text).expect("stats");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") << 10
    }

    /// Processor time used so far, to a hundredth of a second.
    pub(crate) fn busy(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("stat");
        // Behind the name, which stands in brackets, the 12th and 13th words count ticks in the program and the kernel.
        let words = stat.rsplit(')').next().expect("words").split_whitespace().skip(11).take(2);
        Duration::from_millis(words.map(|word| 10 * word.parse::<u64>().expect("a number")).sum())
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut ended = None;
        wait_until("the end of softmiss", limit, || {
            ended = self.child.try_wait().expect("wait");
            ended.is_some()
        });
        ended.expect("ended")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        clear(self.file.parent().expect("a directory")); // and a successor, if there is one
        if std::thread::panicking() {
            eprintln!("--- log of softmiss ---\n{}", self.log().join("\n"));
            return;
        }
        for line in self.log() {
            let loud = line.contains("WARN") || line.contains("ERROR") || line.contains("panicked");
            let expected = self.expected.iter().any(|part| line.contains(part));
            assert!(!loud || expected, "an unexpected log line: {line}");
            if serde_json::from_str::<serde_json::Value>(&line).is_err() {
                logfmt::parse(&line).unwrap_or_else(|why| panic!("a line that cannot be read: {why}"));
            }
        }
    }
}

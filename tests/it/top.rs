//! `softmiss top`: reads the admin port of a running proxy, and leaves the terminal as it was.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

fn top(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softmiss")).arg("top").args(arguments).output().expect("softmiss top")
}

fn told(output: &Output) -> String {
    assert!(output.stdout.is_empty());
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A proxy with an admin port.
fn proxy(servers: &[SocketAddr]) -> (Proxy, SocketAddr) {
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let mut text = format!(
        "softmiss:\n  admin: {admin}\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  auto_eject_hosts: true\n  \
         server_failure_limit: 1\n  server_retry_timeout: 30000\n  servers:\n"
    );
    for (number, server) in servers.iter().enumerate() {
        text.push_str(&format!("  - {server}:1 cache-{number}\n"));
    }
    let proxy = Proxy::with_file(&text, port).expect_log("server ejected");
    wait_until("the admin port", Duration::from_secs(5), || TcpStream::connect(admin).is_ok());
    (proxy, admin)
}

#[test]
fn a_killed_server_is_shown_as_out() {
    let mut servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let (proxy, admin) = proxy(&[servers[0].address, servers[1].address]);
    let mut client = proxy.client();
    for number in 0..50 {
        client.ask(format!("set k{number:x}{number} 0 0 1\r\nx\r\n"));
    }
    let once = |arguments: &[&str]| {
        let output = top(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let line = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} is missing in {text}"))
            .to_owned()
    };
    let file = proxy.file.display().to_string();
    // By its address, by the configuration file, and as it is when nobody looks.
    for arguments in [&[&admin.to_string(), "--once"][..], &["-c", &file, "--once"], &[&admin.to_string()]] {
        let text = once(arguments);
        assert!(text.starts_with(&format!("softmiss {}  up ", env!("CARGO_PKG_VERSION"))), "{text}");
        assert!(text.contains("\nALL WELL  all 2 servers are in service; "), "{text}");
        assert!(line(&text, "cache-0").contains(" up ") && line(&text, "cache-1").contains(" up "), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
    servers[0].kill();
    wait_until("the ejection", Duration::from_secs(5), || {
        (0..20).for_each(|number| {
            client.send(format!("get k{number:x}{number}\r\n"));
            client.read_through(b"END\r\n");
        });
        once(&[&admin.to_string()]).contains("connection refused; health check")
    });
    let text = once(&[&admin.to_string()]);
    assert!(text.contains("\nSERVER OUT  out of service: cache-0 (1 of 2)"), "{text}");
    let out = line(&text, "cache-0");
    assert!(out.contains(" OUT       0.0%") && out.contains("connection refused; health check in "), "{text}");
    assert_eq!(line(&text, "cache-1").split_whitespace().collect::<Vec<_>>()[1..3], ["up", "100%"], "{text}");
    assert!(text.contains("! cache-0 out of service after 1 failure: connection refused"), "{text}");
}

#[test]
fn what_is_wrong_is_told_with_what_to_write() {
    let server = Process::memcached();
    let nobody = format!("127.0.0.1:{}", free_port());
    let text = told(&top(&[&nobody]));
    assert!(text.contains(&format!("nobody answers at {nobody} (connection refused)")), "{text}");
    assert!(text.contains(&format!("`softmiss: {{admin: {nobody}}}`")), "{text}");
    let stranger = told(&top(&[&server.address.to_string()]));
    assert!(stranger.contains("is not the admin port of softmiss"), "{stranger}");
    let file = scratch_dir().join("off.yml");
    let pool = "cache:\n  listen: 127.0.0.1:1\n  servers:\n    - 127.0.0.1:2:1\n";
    std::fs::write(&file, format!("softmiss:\n  admin: none\n{pool}")).expect("write");
    let none = told(&top(&["-c", &file.to_string_lossy()]));
    assert!(none.contains("has no admin port: write `softmiss: {admin: 127.0.0.1:22223}` into it"), "{none}");
    let missing = told(&top(&["-c", "no/such/file.yml"]));
    assert!(missing.contains("cannot be read") && missing.contains("softmiss top 127.0.0.1:22223"), "{missing}");
    let port = told(&top(&["22223"]));
    assert!(port.contains("`22223` is not an address: write HOST:PORT"), "{port}");
    // One that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let silence = told(&top(&[&silent.local_addr().expect("address").to_string()]));
    assert!(silence.contains("(timed out)"), "{silence}");
}

/// `top` on a terminal of its own, which util-linux's `script` makes.
struct OnTerminal {
    script: Child,
    screen: ChildStdout,
    shown: String,
}

const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

impl OnTerminal {
    fn start(admin: SocketAddr) -> Self {
        let command = format!("stty rows 24 cols 80; exec {} top {admin}", env!("CARGO_BIN_EXE_softmiss"));
        let mut script = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (of bsdutils)");
        let screen = script.stdout.take().expect("stdout");
        let mut started = Self { script, screen, shown: String::new() };
        started.read_until(ENTERED);
        started.read_until("live");
        started
    }

    fn read_until(&mut self, part: &str) {
        let mut chunk = [0; 4096];
        while !self.shown.contains(part) {
            let read = self.screen.read(&mut chunk).expect("the screen");
            assert!(read > 0, "{part:?} never came: {:?}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.script.stdin.as_mut().expect("stdin").write_all(keys).expect("press");
    }

    /// The process that draws.
    fn drawer(&self) -> String {
        let id = self.script.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("children");
        children.split_whitespace().next().expect("a child").to_owned()
    }

    fn end(mut self) {
        assert!(!self.shown.contains(LEFT));
        self.read_until(LEFT);
        let status = self.script.wait().expect("the end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn every_way_out_restores_the_terminal() {
    let server = Process::memcached();
    let (_proxy, admin) = proxy(&[server.address]);
    for keys in [b"q", b"\x1b", b"\x03"] {
        let mut terminal = OnTerminal::start(admin);
        terminal.press(keys);
        terminal.end();
    }
    for name in ["TERM", "INT", "HUP"] {
        let terminal = OnTerminal::start(admin);
        let done = Command::new("kill").args(["-s", name, &terminal.drawer()]).status().expect("kill");
        assert!(done.success());
        terminal.end();
    }
}

#[test]
fn a_proxy_that_ends_is_told_and_waited_for() {
    let server = Process::memcached();
    let (proxy, admin) = proxy(&[server.address]);
    let mut terminal = OnTerminal::start(admin);
    terminal.press(b"s2?");
    drop(proxy);
    terminal.read_until("NO ANSWER");
    terminal.press(b"q");
    terminal.end();
}

//! Another process takes over from a running one: clients stay, and so does what is known of servers.

mod clients;
mod ending;
mod failing;
mod known;
mod orders;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::reload::{Reloaded, loopback, pool, whole};
use super::support::client::Client;
use super::support::http::{get, post};
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

const SOON: Duration = Duration::from_secs(10);

/// A proxy, and whoever has taken over from it, which ends with it.
pub(crate) struct Succeeded {
    pub(crate) reloaded: Reloaded,
    pid: u32,
}

impl Succeeded {
    pub(crate) fn of(reloaded: Reloaded) -> Self {
        let pid = reloaded.proxy.id();
        Self { reloaded, pid }
    }

    /// Another process takes over; when this returns, the one before it has ended.
    pub(crate) fn upgrade(&mut self) {
        let answer = post(self.reloaded.admin, "/upgrade");
        assert_eq!(answer.status, 200, "{answer:?}");
        self.is_succeeded_by(answer.json()["pid"].as_u64().expect("a number") as u32);
    }

    pub(crate) fn is_succeeded_by(&mut self, pid: u32) {
        let before = std::mem::replace(&mut self.pid, pid);
        assert_ne!(before, pid);
        wait_until("the end of the process before", SOON, || !is_there(before));
    }

    pub(crate) fn client(&self) -> Client {
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
    let named: Vec<_> = servers.iter().zip(["a", "b", "c", "d"]).map(|(server, name)| (server.address, name)).collect();
    pool("m", &loopback(listen).to_string(), &named, more)
}

/// What the admin port says of a server of the first pool.
fn state_of(admin: SocketAddr, name: &str) -> String {
    let told = get(admin, "/servers").json();
    let servers = told["pools"][0]["servers"].as_array().expect("servers");
    servers.iter().find(|server| server["name"] == name).expect("it")["state"].as_str().expect("a word").to_owned()
}

/// The process that was started last.
fn started_last(proxy: &Succeeded) -> u32 {
    let log = proxy.reloaded.proxy.log();
    let line = log.iter().rfind(|line| line.contains("softmiss starts")).expect("a start");
    line.split("pid=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number")
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

/// Waits for a file, and is the real program then.
const LATE_SUCCESSOR: &str = "#!/bin/sh\nuntil [ -e 'GO' ]; do sleep 0.01; done\nexec 'REAL' \"$@\"\n";

/// A proxy of a program that can be replaced, and what replaces it.
fn of_replaceable(program: &Path, port: u16, arguments: &[&str], pools: &str) -> Reloaded {
    std::fs::copy(env!("CARGO_BIN_EXE_softmiss"), program).expect("a copy");
    of_program(program, port, arguments, pools)
}

fn of_program(program: &Path, port: u16, arguments: &[&str], pools: &str) -> Reloaded {
    let admin = loopback(free_port());
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

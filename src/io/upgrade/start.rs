//! Starting a successor: what it is told before it serves.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use tracing::{error, info};

use super::names::Named;
use super::stage::{START_LIMIT, Stage, Stays, end_by_id, outcome};
use super::wire::{self, Hello, KeptOut, Kind, Ready};
use crate::health::maintenance::Maintenance;
use crate::health::tracker::State;
use crate::io::events::PROXY;
use crate::io::operator::Operator;
use crate::io::systemd;
use crate::stats::carried::Counted;

/// Clients that may come between the question how many there were, and the end of the process.
const COMING: u64 = 1 << 20;

impl Operator {
    /// Starts a successor. When this returns, it serves, and clients go over. `by` is who wants it. Returns its process id.
    ///
    /// # Errors
    ///
    /// Why this process goes on as before. That is told in the log and among the events.
    pub fn upgrade(&self, by: &str) -> Result<u32, Stays> {
        let result = self.start_successor(by);
        if let Err(stays) = &result {
            error!(by, reason = %stays, "no upgrade, this process goes on");
            self.tell(PROXY, PROXY, true, format!("no upgrade: {stays} ({by})"));
        }
        result
    }

    fn start_successor(&self, by: &str) -> Result<u32, Stays> {
        let program = self.upgrade.program.as_ref().ok_or(Stays::NoFile)?;
        if self.upgrade.takes_over() {
            return Err(Stays::TooSoon);
        }
        if !self.upgrade.begin() {
            return Err(Stays::Already);
        }
        // Nobody reloads meanwhile: the successor reads the file, and is to have what is in force, or what has come later.
        let _turn = self.listening.turn();
        info!(by, program = %program.path.display(), "starting a successor");
        let failed = |what: String| {
            self.upgrade.set(Stage::None);
            Err(Stays::Failed(what))
        };
        let (socket, mut child) = match program.start() {
            Ok(started) => started,
            Err(error) => return failed(format!("cannot start {}: {error}", program.path.display())),
        };
        let pid = child.id();
        self.upgrade.set(Stage::Starts(Some(pid)));
        match self.introduce(&socket) {
            Ok(version) => {
                info!(pid, version, "the successor serves, clients go over to it");
                self.upgrade.set(Stage::HandsOver(pid));
                self.upgrade.set_serves(false);
                systemd::succeeded_by(pid);
                let own = self.clone();
                let take_over = move || own.hand_over(socket, child);
                if let Err(error) = std::thread::Builder::new().name("upgrade".to_owned()).spawn(take_over) {
                    end_by_id(pid);
                    systemd::succeeded_by(std::process::id());
                    self.upgrade.set_serves(true);
                    return failed(format!("cannot start a thread: {error}"));
                }
                self.tell(PROXY, PROXY, false, format!("process {pid} of version {version} takes over ({by})"));
                Ok(pid)
            }
            Err(error) => failed(outcome(&error, &mut child)),
        }
    }

    /// Gives a successor what it has to know, and waits until it serves. Its version.
    fn introduce(&self, socket: &UnixStream) -> io::Result<String> {
        socket.set_read_timeout(Some(START_LIMIT))?;
        socket.set_write_timeout(Some(START_LIMIT))?;
        let topology = self.observed.topology();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        // Each worker numbers its own, and counts clients and servers among its connections.
        let connections: u64 = topology.counters.iter().map(|worker| worker.total_connections.value()).sum();
        let clients = self.numbered_after + (connections + COMING) * topology.counters.len() as u64;
        let pools = topology.config.pools.iter().map(Named::of).collect();
        let hello = Hello { version, pid: std::process::id(), clients, kept_out: self.kept_out(), pools };
        wire::send(socket, Kind::Hello, Some(&hello), b"", None)?;
        for (of, listener) in self.listening.all() {
            wire::send(socket, Kind::Listener, Some(&of), b"", Some(listener.as_fd()))?;
        }
        wire::send_bare(socket, Kind::Start, b"", None)?;
        let frame = wire::receive(socket)?.ok_or(ErrorKind::UnexpectedEof)?;
        match frame.kind {
            Some(Kind::Ready) => Ok(frame.json::<Ready>()?.version),
            Some(Kind::Failed) => Err(io::Error::other(String::from_utf8_lossy(&frame.body).into_owned())),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "it says something else than that it serves")),
        }
    }

    /// Servers that the operator keeps out.
    pub(super) fn kept_out(&self) -> Vec<KeptOut> {
        let topology = self.observed.topology();
        let mut kept_out = Vec::new();
        for pool in &topology.config.pools {
            for server in &pool.servers {
                if let State::Maintenance { kind, .. } = topology.registry.state(pool.id, server.id) {
                    let (pool, server) = (pool.name.clone(), server.name.clone());
                    kept_out.push(KeptOut { pool, server, drains: kind == Maintenance::Drain });
                }
            }
        }
        kept_out
    }

    /// What has been counted.
    pub(super) fn counted(&self) -> Counted {
        let topology = self.observed.topology();
        Counted::of(&topology.counters, &topology.config)
    }
}

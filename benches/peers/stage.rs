//! The processes under test: three servers, one more to talk to directly, and the proxies in front.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{Listen, Placement, Process, find_program, free_port, pinned, spawn};
use crate::settings;
use crate::target::{Target, TargetKind};
use crate::workload::Workload;

/// Values from here on need servers that are started for large ones.
const LARGE_VALUE: usize = 1_000_000;

/// A target that runs and listens.
pub(crate) struct Running {
    /// The target's label.
    pub(crate) label: String,
    /// Its clients speak text, whatever the workload says.
    pub(crate) text: bool,
    /// Where clients connect: `host:port`, or a path.
    pub(crate) address: String,
    /// The servers behind it.
    pub(crate) server_pids: Vec<u32>,
    process: Process,
}

impl Running {
    /// The process to measure.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The cache servers behind all proxies of one workload.
pub(crate) struct Servers {
    ports: Vec<u16>,
    processes: Vec<Process>,
}

/// Starts processes for one workload at one placement.
pub(crate) struct Stage {
    /// Binary of memcached.
    pub(crate) memcached: PathBuf,
    /// What clients will do.
    pub(crate) workload: Workload,
    /// Which CPU runs what.
    pub(crate) placement: Placement,
    /// Where configurations, logs and sockets go.
    pub(crate) directory: PathBuf,
}

impl Stage {
    /// Starts three servers.
    pub(crate) fn servers(&self) -> Result<Servers> {
        let mut servers = Servers { ports: Vec::new(), processes: Vec::new() };
        for number in 0..3 {
            let port = free_port()?;
            let name = format!("server-{number}");
            let command = self.server(self.placement.rest_cpu(), port)?;
            servers.processes.push(self.spawn(&name, command, &Listen::Port(port))?);
            servers.ports.push(port);
        }
        Ok(servers)
    }

    /// Starts one target and waits until it listens.
    pub(crate) fn start(&self, target: &Target, servers: &Servers) -> Result<Running> {
        let port = free_port()?;
        let listen = if self.workload.unix && target.kind.is_ours() {
            Listen::Path(self.directory.join(format!("{}.sock", target.label)))
        } else {
            Listen::Port(port)
        };
        let command = self.command(target, servers, port, &listen)?;
        let process = self.spawn(&target.label, command, &listen)?;
        let behind = servers.processes.iter().filter(|_| target.kind != TargetKind::Direct);
        let server_pids = behind.map(Process::pid).collect();
        Ok(Running { label: target.label.clone(), text: target.text, address: listen.address(), server_pids, process })
    }

    /// The end of what a target has written to its log.
    pub(crate) fn last_words(&self, label: &str) -> String {
        let log = fs::read(self.directory.join(format!("{label}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    fn server(&self, cpu: Option<&str>, port: u16) -> Result<Command> {
        if self.workload.redis { self.redis_server(cpu, port) } else { Ok(self.memcached(cpu, port)) }
    }

    /// One worker thread, as the proxies have; UDP off; memory for every key of the workload.
    fn memcached(&self, cpu: Option<&str>, port: u16) -> Command {
        let mut command = pinned(&self.memcached, cpu);
        memcached_arguments(&mut command, port);
        if self.workload.value_bytes < LARGE_VALUE {
            command.args(["-m", "256"]);
        } else {
            command.args(["-m", "1024", "-I", "2m"]);
        }
        command
    }

    /// One that keeps nothing on disk.
    fn redis_server(&self, cpu: Option<&str>, port: u16) -> Result<Command> {
        let program = find_program("redis-server").context("no redis-server here")?;
        let mut command = pinned(&program, cpu);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&self.directory);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        Ok(command)
    }

    /// Writes what the target is told and says how it is started.
    fn command(&self, target: &Target, servers: &Servers, port: u16, listen: &Listen) -> Result<Command> {
        let cpu = self.placement.proxy_cpu();
        let ports = &servers.ports;
        // Envoy tells the language of its file by the ending; the others take any.
        let file = self.directory.join(format!("{}.yml", target.label));
        let mut command = pinned(&target.program, cpu);
        let text = match target.kind {
            TargetKind::Direct => return self.server(cpu, port),
            TargetKind::Nutcracker | TargetKind::Softmiss { .. } => {
                command.arg("-c").arg(&file).args(["-a", "127.0.0.1", "-s", &free_port()?.to_string()]);
                let workers = if let TargetKind::Softmiss { workers } = target.kind { workers } else { 1 };
                let mode = if matches!(listen, Listen::Path(_)) { " 0666" } else { "" };
                let address = format!("{}{mode}", listen.address());
                let is_ours = matches!(target.kind, TargetKind::Softmiss { .. });
                settings::twemproxy(&address, ports, &self.workload, workers, is_ours)
            }
            TargetKind::MemcachedProxy => {
                memcached_arguments(&mut command, port);
                command.args(["-I", "2m", "-o"]).arg(format!("proxy_config={}", file.display()));
                settings::memcached_proxy(ports, &self.workload)
            }
            TargetKind::Predixy => {
                command.arg(&file);
                settings::predixy(&listen.address(), ports, &self.workload)
            }
            TargetKind::Envoy => {
                command.arg("-c").arg(&file).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warn"]);
                settings::envoy(port, ports, &self.workload)
            }
        };
        fs::write(&file, text)?;
        Ok(command)
    }

    fn spawn(&self, name: &str, command: Command, listen: &Listen) -> Result<Process> {
        spawn(name, command, &self.directory.join(format!("{name}.log")), listen)
    }
}

/// What memcached is told as a server and as a proxy.
fn memcached_arguments(command: &mut Command, port: u16) {
    // `-u root` is what it demands of root; others may not switch, and there it has no effect.
    command.args(["-t", "1", "-c", "4096", "-u", "root", "-U", "0", "-l", "127.0.0.1", "-p", &port.to_string()]);
}

//! The processes under test: three servers, one more to talk to directly, and the proxies in front.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::process::{Listen, Placement, Process, find_program, free_port, pinned, spawn};
use crate::target::{Target, TargetKind};

/// A target that runs and listens.
pub(crate) struct Running {
    /// The target's label.
    pub(crate) label: String,
    /// Where clients connect: `host:port`, or a path.
    pub(crate) address: String,
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
    _processes: Vec<Process>,
}

/// Starts processes for one workload at one placement.
pub(crate) struct Stage {
    /// Binary of memcached.
    pub(crate) memcached: PathBuf,
    /// The servers are Redis.
    pub(crate) redis: bool,
    /// Which CPU runs what.
    pub(crate) placement: Placement,
    /// Clients use a unix socket.
    pub(crate) unix: bool,
    /// Where configurations, logs and sockets go.
    pub(crate) directory: PathBuf,
}

impl Stage {
    /// Starts three memcached servers.
    pub(crate) fn servers(&self) -> Result<Servers> {
        let mut servers = Servers { ports: Vec::new(), _processes: Vec::new() };
        for number in 0..3 {
            let port = free_port()?;
            let name = format!("memcached-{number}");
            let process = self.memcached(&name, self.placement.rest_cpu(), &Listen::Port(port))?;
            servers.ports.push(port);
            servers._processes.push(process);
        }
        Ok(servers)
    }

    /// Starts one target and waits until it listens.
    pub(crate) fn start(&self, target: &Target, servers: &Servers) -> Result<Running> {
        let listen = if self.unix {
            Listen::Path(self.directory.join(format!("{}.sock", target.label)))
        } else {
            Listen::Port(free_port()?)
        };
        let process = match target.kind {
            TargetKind::Direct => self.memcached("direct", self.placement.proxy_cpu(), &listen)?,
            TargetKind::Nutcracker | TargetKind::Softmiss => self.twemproxy_like(target, servers, &listen)?,
            TargetKind::MemcachedProxy => self.memcached_proxy(target, servers, &listen)?,
        };
        Ok(Running { label: target.label.clone(), address: listen.address(), process })
    }

    /// The end of what a target has written to its log.
    pub(crate) fn last_words(&self, label: &str) -> String {
        let log = fs::read(self.directory.join(format!("{label}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// One worker thread, as the proxies have; UDP off; memory for every key of every workload.
    fn memcached(&self, name: &str, cpu: Option<&str>, listen: &Listen) -> Result<Process> {
        if self.redis {
            return self.redis_server(name, cpu, listen);
        }
        let mut command = pinned(&self.memcached, cpu);
        // `-u root` is what it demands of root; others may not switch, and there it has no effect.
        command.args(["-t", "1", "-m", "256", "-c", "4096", "-u", "root", "-U", "0"]);
        listen.memcached_arguments(&mut command);
        self.spawn(name, command, listen)
    }

    /// One that keeps nothing on disk.
    fn redis_server(&self, name: &str, cpu: Option<&str>, listen: &Listen) -> Result<Process> {
        let program = find_program("redis-server").context("no redis-server here")?;
        let mut command = pinned(&program, cpu);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&self.directory);
        match listen {
            Listen::Port(port) => command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]),
            Listen::Path(path) => command.args(["--port", "0", "--unixsocket"]).arg(path),
        };
        self.spawn(name, command, listen)
    }

    /// Both read the same file, which is the point of the comparison.
    fn twemproxy_like(&self, target: &Target, servers: &Servers, listen: &Listen) -> Result<Process> {
        use std::fmt::Write as _;
        let address = match listen {
            Listen::Port(port) => format!("127.0.0.1:{port}"),
            Listen::Path(path) => format!("{} 0666", path.display()),
        };
        let mut text = format!(
            "peers:\n  listen: {address}\n  hash: fnv1a_64\n  distribution: ketama\n  timeout: 400\n  \
             preconnect: true\n  server_connections: 1\n  servers:\n"
        );
        if self.redis {
            text = text.replace("  servers:\n", "  redis: true\n  servers:\n");
        }
        for (number, port) in servers.ports.iter().enumerate() {
            writeln!(text, "   - 127.0.0.1:{port}:1 node-{number}")?;
        }
        let file = self.directory.join(format!("{}.yml", target.label));
        fs::write(&file, text)?;
        let mut command = pinned(&target.program, self.placement.proxy_cpu());
        command.arg("-c").arg(&file).args(["-a", "127.0.0.1", "-s", &free_port()?.to_string()]);
        self.spawn(&target.label, command, listen)
    }

    /// Its own ketama and one thread; it differs from twemproxy's in the placement of keys, which costs the same.
    fn memcached_proxy(&self, target: &Target, servers: &Servers, listen: &Listen) -> Result<Process> {
        let nodes: Vec<String> =
            (servers.ports.iter()).map(|port| format!("mcp.backend(\"node-{port}\", \"127.0.0.1\", {port})")).collect();
        let text = format!(
            "function mcp_config_pools()\n  return mcp.pool({{ {} }})\nend\n\
             function mcp_config_routes(pool)\n  mcp.attach(mcp.CMD_ANY_STORAGE, function(r) return pool(r) end)\nend\n",
            nodes.join(", ")
        );
        let file = self.directory.join(format!("{}.lua", target.label));
        fs::write(&file, text)?;
        let mut command = pinned(&target.program, self.placement.proxy_cpu());
        command.args(["-t", "1", "-c", "4096", "-u", "root", "-U", "0"]);
        command.arg("-o").arg(format!("proxy_config={}", file.display()));
        listen.memcached_arguments(&mut command);
        self.spawn(&target.label, command, listen)
    }

    fn spawn(&self, name: &str, command: std::process::Command, listen: &Listen) -> Result<Process> {
        spawn(name, command, &self.directory.join(format!("{name}.log")), listen)
    }
}

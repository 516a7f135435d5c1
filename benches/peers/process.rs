//! The processes under test: three memcached servers, one more to talk to directly, and the proxies in front.
//!
//! Each child ends when its value is dropped, so that nothing outlives a run that failed half-way. All of them listen
//! on 127.0.0.1 or on a unix socket in a directory of their own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

/// How long a child may take until it listens.
const START: Duration = Duration::from_secs(5);

/// Which CPU runs what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placement {
    /// Proxy, servers and load on the same CPU: batches form as on a busy host, and the figures are quietest.
    One,
    /// The proxy alone on CPU 0, all else on CPU 1: each wake-up crosses CPUs.
    Two,
    /// Wherever the scheduler puts them.
    Free,
}

impl Placement {
    /// The word for reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Free => "free",
        }
    }

    fn proxy_cpu(self) -> Option<&'static str> {
        match self {
            Self::One | Self::Two => Some("0"),
            Self::Free => None,
        }
    }

    fn rest_cpu(self) -> Option<&'static str> {
        match self {
            Self::One => Some("0"),
            Self::Two => Some("1"),
            Self::Free => None,
        }
    }

    /// A command that will run where the load generator belongs.
    pub(crate) fn load_command(self, program: &Path) -> Command {
        pinned(program, self.rest_cpu())
    }
}

/// A command that dies with this process and is pinned when `cpu` says so.
///
/// `setpriv` and `taskset` in place of system calls, because the crate forbids unsafe code. Both replace themselves
/// with what they start, so the process id is the program's own.
pub(crate) fn pinned(program: &Path, cpu: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(cpu) = cpu {
        command.args(["taskset", "-c", cpu]);
    }
    command.arg(program);
    command
}

/// A program to compare.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// How the report calls it.
    pub(crate) label: String,
    /// How it is started.
    pub(crate) kind: TargetKind,
    /// The binary.
    pub(crate) program: PathBuf,
}

/// What kind of program a target is, which decides its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// One memcached and no proxy: what the proxies are compared with at best.
    Direct,
    /// twemproxy's binary.
    Nutcracker,
    /// This crate's binary, any build of it.
    Softmiss,
    /// A memcached that was built with its proxy.
    MemcachedProxy,
}

/// A child process that ends with this value.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill and only the wait matters.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

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

    fn spawn(&self, name: &str, mut command: Command, listen: &Listen) -> Result<Process> {
        let log = self.directory.join(format!("{name}.log"));
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        let mut process = Process { child };
        let end = Instant::now() + START;
        while !listen.answers() {
            let ended = process.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let words = fs::read_to_string(&log).unwrap_or_default();
                bail!("{name} does not listen on {} ({ended:?}); it said:\n{words}", listen.address());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(process)
    }
}

enum Listen {
    Port(u16),
    Path(PathBuf),
}

impl Listen {
    fn address(&self) -> String {
        match self {
            Self::Port(port) => format!("127.0.0.1:{port}"),
            Self::Path(path) => path.display().to_string(),
        }
    }

    fn memcached_arguments(&self, command: &mut Command) {
        match self {
            Self::Port(port) => command.args(["-l", "127.0.0.1", "-p", &port.to_string()]),
            Self::Path(path) => command.arg("-s").arg(path).args(["-a", "666"]),
        };
    }

    fn answers(&self) -> bool {
        match self {
            Self::Port(port) => TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], *port))).is_ok(),
            Self::Path(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

/// A port that was free a moment ago; another process could take it in between, and then the start fails loudly.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Finds `name` in the directories of `PATH`, and in the sbin directories that a user's path may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    (std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

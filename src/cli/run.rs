//! Running the proxy.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tracing::warn;

use super::{AdminFlag, Flags, check, colour, complain, daemon};
use crate::admin::{self, Admin, statsd};
use crate::config;
use crate::config::model::{LogLevel, Port, Settings};
use crate::io::{Proxy, log, signal};

/// Where the statistics are when nobody says otherwise, as with twemproxy, but on loopback only.
const USUAL_STATS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 22222));

pub(super) fn run(file: &Path, flags: &Flags) -> anyhow::Result<ExitCode> {
    let mut loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.render(colour()));
            complain(&format!("\nsoftmiss: {} is refused, {}", file.display(), check::problems(report.errors())));
            return Ok(ExitCode::FAILURE);
        }
    };
    apply(flags, &mut loaded.config.settings);
    if flags.daemonize && !daemon::is_background() {
        let pid = daemon::spawn()?;
        complain(&format!("softmiss: runs in the background as process {pid}"));
        return Ok(ExitCode::SUCCESS);
    }
    let log = log::start(loaded.config.settings.log, flags.output.as_deref())?;
    for warning in &loaded.warnings.diagnostics {
        let help = warning.help.as_deref().unwrap_or_default();
        warn!(file = loaded.warnings.name, help, "{}", warning.message);
    }
    let statsd = loaded.config.settings.statsd.clone();
    loaded.config.settings.stats = usual(loaded.config.settings.stats, USUAL_STATS, "stats");
    let admin = usual(loaded.config.settings.admin, admin::USUAL, "admin");
    loaded.config.settings.admin = admin;
    let proxy = Proxy::start(loaded.config)?;
    let operator = proxy.operator(Some(log.control()));
    if let Port::At(address) = admin {
        Admin::start(address, operator).with_context(|| format!("cannot serve the admin port on {address}"))?;
    }
    if let Some(settings) = statsd {
        statsd::start(settings, proxy.observed())?;
    }
    let pid_file = flags.pid_file.as_deref().map(daemon::PidFile::write).transpose()?;
    signal::run(proxy, Some(log.control()))?;
    drop(pid_file);
    Ok(ExitCode::SUCCESS)
}

/// Where a port is served. The usual address is taken only if it is free: a second proxy on the host must start too.
fn usual(port: Port, address: SocketAddr, key: &str) -> Port {
    match port {
        Port::Unsaid if std::net::TcpListener::bind(address).is_ok() => Port::At(address),
        Port::Unsaid => {
            warn!(%address, key, "the usual address is taken, so this port is not served; give it another one");
            Port::Off
        }
        said @ (Port::Off | Port::At(_)) => said,
    }
}

/// What stands on the command line wins over the file.
fn apply(flags: &Flags, settings: &mut Settings) {
    if flags.stats_port.is_some() || flags.stats_addr.is_some() {
        let file = if let Port::At(address) = settings.stats { address } else { USUAL_STATS };
        let address = flags.stats_addr.unwrap_or_else(|| file.ip());
        settings.stats = Port::At(SocketAddr::new(address, flags.stats_port.unwrap_or_else(|| file.port())));
    }
    if let Some(AdminFlag(port)) = flags.admin {
        settings.admin = port;
    }
    if let Some(level) = flags.verbose {
        // twemproxy's scale: 3 errors, 4 warnings, 5 notices (its default), 6 informational, 7 debug, 8 and up verbose.
        settings.log.level = match level {
            0..=3 => LogLevel::Error,
            4 => LogLevel::Warn,
            5 | 6 => LogLevel::Info,
            7 => LogLevel::Debug,
            _ => LogLevel::Trace,
        };
    }
}

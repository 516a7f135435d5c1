//! Running the proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use tracing::warn;

use super::{Flags, check, colour, complain, daemon};
use crate::config;
use crate::config::model::{LogLevel, Settings};
use crate::io::{Proxy, log, signal};

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
    let proxy = Proxy::start(loaded.config)?;
    let pid_file = flags.pid_file.as_deref().map(daemon::PidFile::write).transpose()?;
    signal::run(proxy, Some(&log))?;
    drop(pid_file);
    Ok(ExitCode::SUCCESS)
}

/// What stands on the command line wins over the file.
fn apply(flags: &Flags, settings: &mut Settings) {
    if flags.stats_port.is_some() || flags.stats_addr.is_some() {
        let file = settings.stats.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 22222));
        let address = flags.stats_addr.unwrap_or_else(|| file.ip());
        settings.stats = Some(SocketAddr::new(address, flags.stats_port.unwrap_or_else(|| file.port())));
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

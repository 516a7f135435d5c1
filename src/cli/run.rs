//! Running the proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tracing::{error, info, warn};

use super::daemon;
use super::flags::Flags;
use crate::admin::{self, Admin, statsd};
use crate::config;
use crate::config::Loaded;
use crate::config::model::{Config, Listen, LogLevel, LogSettings, Port, Settings};
use crate::io::Inherited;
use crate::io::Proxy;
use crate::io::log::{self, Log, tell_report};
use crate::io::reload::Source;
use crate::io::signal::Signals;
use crate::io::terminal::{colour, complain, counted};

/// Where the statistics are when nobody says otherwise, as with twemproxy, but on loopback only.
const USUAL_STATS: SocketAddr = config::USUAL_PORTS[0].1;

/// The most that `-v` can ask for. Like twemproxy, more is taken for it.
const MOST_VERBOSE: u32 = 11;

pub(super) fn run(file: &Path, flags: &Flags) -> anyhow::Result<ExitCode> {
    // Before anything is opened.
    let unheard = "cannot hear of the process that this one is to take over from";
    let inherited = Inherited::of_process().context(unheard)?;
    // What a successor says stands in the log of the process that goes on. It writes its own first: then it is over.
    let predecessor = inherited.voice().context(unheard)?;
    let refuse = |reason: &str| predecessor.iter().for_each(|predecessor| predecessor.refuse(reason));
    let in_background = flags.daemonize && !daemon::is_background();
    // Before anybody can know of the process that is to serve. Who only starts another one can be interrupted.
    let signals = (!in_background).then(Signals::catch).transpose().context("cannot catch signals")?;
    let source = source(file, flags);
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(report) => {
            let refused = format!("{} is refused, {}", file.display(), counted(report.errors(), "problem"));
            let is_successor = predecessor.is_some();
            if !is_successor {
                complain(&report.render(colour()));
                complain(&format!("\nsoftmiss: {refused}"));
            }
            if is_successor || flags.output.is_some() {
                let log = log::start(LogSettings::default(), flags.output.as_deref())?;
                tell_report(&report);
                error!("{refused}");
                drop(log);
            }
            refuse(&refused);
            return Ok(ExitCode::FAILURE);
        }
    };
    let Some(signals) = signals else {
        return Ok(match daemon::spawn()? {
            Ok(pid) => {
                complain(&format!("softmiss: runs in the background as process {pid}"));
                if flags.output.is_none() {
                    complain("softmiss: its log goes nowhere from here on: name a file for it with `-o FILE`");
                }
                ExitCode::SUCCESS
            }
            Err(said) => {
                complain(&said);
                ExitCode::FAILURE
            }
        });
    };
    let settings = loaded.config.settings.log;
    // Where the log goes to a file it is said on stderr as well, since whoever starts it looks there.
    let cannot_start = |error: anyhow::Error| {
        let reason = format!("{error:#}");
        log::on_stderr(settings, || error!(reason, "softmiss cannot start"));
        refuse(&reason);
        ExitCode::FAILURE
    };
    let log = match log::start(settings, flags.output.as_deref()) {
        Ok(log) => log,
        Err(error) => return Ok(cannot_start(error)),
    };
    Ok(match serve(loaded, (source, inherited), flags, &log, signals) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if flags.output.is_some() {
                error!(reason = format!("{error:#}"), "softmiss cannot start");
            }
            drop(log);
            cannot_start(error)
        }
    })
}

/// Runs the proxy until it is ended.
fn serve(
    mut loaded: Loaded,
    (source, inherited): (Source, Inherited),
    flags: &Flags,
    log: &Log,
    signals: Signals,
) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    let stats = usual(&loaded.config, loaded.config.settings.stats, USUAL_STATS, &inherited);
    loaded.config.settings.stats = stats.unwrap_or_else(|| left_alone(&mut taken, USUAL_STATS, "stats"));
    let admin = usual(&loaded.config, loaded.config.settings.admin, admin::USUAL, &inherited);
    let admin = admin.unwrap_or_else(|| left_alone(&mut taken, admin::USUAL, "admin"));
    loaded.config.settings.admin = admin;
    let pools: Vec<&str> = loaded.config.pools.iter().map(|pool| pool.name.as_str()).collect();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        file = loaded.warnings.name,
        digest = config::version(&loaded.config),
        pid = std::process::id(),
        pools = pools.join(","),
        "softmiss starts"
    );
    tell_report(&loaded.warnings);
    if let Some(level) = flags.verbose.filter(|level| *level > MOST_VERBOSE) {
        warn!(flag = "-v", level, taken_as = MOST_VERBOSE, "the log level is out of its range, 0 to 11");
    }
    for (address, key) in taken {
        warn!(%address, key, "the usual address is taken, so this port is not served; give it another one");
    }
    if let Some(clash) = clash(&loaded.config, flags) {
        anyhow::bail!(clash);
    }
    // Before the pools are served: who reaches a pool can ask here what becomes of it.
    let admin = match admin {
        Port::At(address) => {
            let cannot = move || format!("cannot serve the admin port on {address}");
            let bound = inherited.of_port(address).map_or_else(|| Admin::bind(address), Ok);
            Some((bound.with_context(cannot)?, cannot))
        }
        Port::Off | Port::Unsaid => None,
    };
    let mut proxy = Proxy::start(loaded.config, Some(source), inherited)?;
    let operator = proxy.operator(Some(log.control()));
    if let Some((listener, cannot)) = admin {
        proxy.hand_on(&listener);
        Admin::start(listener, operator).with_context(cannot)?;
    }
    let is_successor = proxy.is_successor();
    // From here on it is this process that serves, and nobody before it.
    proxy.take_over().context("cannot take over from the process before this one")?;
    // Clients that have come over are worth more than what they do not need.
    let needed_at_first = |result: anyhow::Result<()>| match result {
        Err(error) if is_successor => {
            warn!(reason = format!("{error:#}"), "something is missing that clients do not need");
            Ok(())
        }
        result => result,
    };
    needed_at_first(statsd::start(proxy.observed(), is_successor).map_err(Into::into))?;
    let mut pid_file = None;
    if let Some(path) = &flags.pid_file {
        // The directory may be another one for whoever writes it later.
        proxy.has_pid_file(&std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        needed_at_first(daemon::PidFile::write(path).map(|written| pid_file = Some(written)))?;
    }
    if flags.daemonize {
        needed_at_first(log.control().leave_stderr().and_then(|()| daemon::is_ready()).map_err(Into::into))?;
    }
    signals.run_until(proxy, Some(log.control()), std::future::pending());
    drop(pid_file);
    Ok(())
}

/// The file, with what stands on the command line on top. A relative name is that of the same file wherever the process is
/// later.
fn source(file: &Path, flags: &Flags) -> Source {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (shown, flags) = (file.clone(), flags.clone());
    Source::new(shown, move || {
        let mut loaded = config::load_at_once(&file)?;
        apply(&flags, &mut loaded.config.settings);
        Ok(loaded)
    })
}

/// What is wrong with the ports that flags have set: the file by itself was checked.
fn clash(config: &Config, flags: &Flags) -> Option<String> {
    let Settings { stats, admin, .. } = &config.settings;
    let is_stats_set = flags.stats_port.is_some() || flags.stats_addr.is_some();
    let ports = [
        ("-s or -a", is_stats_set, stats, "the admin port", admin),
        ("--admin", flags.admin.is_some(), admin, "the statistics port", stats),
    ];
    ports.into_iter().filter(|(_, is_set, ..)| *is_set).find_map(|(flag, _, port, other, other_port)| {
        let Port::At(address) = *port else { return None };
        let pool = config.pools.iter().find(
            |pool| matches!(pool.listen, Listen::Tcp { address: listens, .. } if config::overlap(listens, address)),
        );
        let taken = match (pool, other_port) {
            (Some(pool), _) => format!("where pool {} listens ({})", pool.name, pool.listen),
            (None, Port::At(other_address)) if config::overlap(*other_address, address) => {
                format!("that of {other} as well ({other_address})")
            }
            (None, _) => return None,
        };
        Some(format!("the address that {flag} gives, {address}, is {taken}: give each an address of its own"))
    })
}

/// Where a port is served. The usual address is taken only if it is free, for nobody's sake that was given an address by
/// name: a second proxy on the host must start too, and so must a file of twemproxy's with a pool there. `None` where it is
/// not free.
fn usual(config: &Config, port: Port, address: SocketAddr, inherited: &Inherited) -> Option<Port> {
    let is_given = |one: SocketAddr| config::overlap(one, address);
    let mut listens = config.pools.iter().map(|pool| &pool.listen);
    let to_a_pool = listens.any(|listen| matches!(listen, Listen::Tcp { address, .. } if is_given(*address)));
    let ports = [config.settings.stats, config.settings.admin];
    let is_given = to_a_pool || ports.iter().any(|port| matches!(port, Port::At(address) if is_given(*address)));
    match port {
        Port::Unsaid => {
            let is_free = || inherited.has_port(address) || std::net::TcpListener::bind(address).is_ok();
            (!is_given && is_free()).then_some(Port::At(address))
        }
        said @ (Port::Off | Port::At(_)) => Some(said),
    }
}

/// A port that is not served, since somebody else has its usual address.
fn left_alone(taken: &mut Vec<(SocketAddr, &'static str)>, address: SocketAddr, key: &'static str) -> Port {
    taken.push((address, key));
    Port::Off
}

/// What stands on the command line wins over the file.
fn apply(flags: &Flags, settings: &mut Settings) {
    if flags.stats_port.is_some() || flags.stats_addr.is_some() {
        let file = if let Port::At(address) = settings.stats { address } else { USUAL_STATS };
        let address = flags.stats_addr.unwrap_or_else(|| file.ip());
        settings.stats = Port::At(SocketAddr::new(address, flags.stats_port.unwrap_or_else(|| file.port())));
    }
    settings.admin = flags.admin.unwrap_or(settings.admin);
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

//! `check` and `-t`: everything that is wrong with a file, at once, and what it would change. `-D`: what the statistics mean.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::port;
use crate::config::diagnostic::Diagnostic;
use crate::config::discovery::is_open;
use crate::config::model::{Config, Port};
use crate::config::{self, Loaded, listing};
use crate::io::files;
use crate::io::terminal::{colour, complain, counted, say};
use crate::stats::table;
use crate::topology::Changes;

/// How long a running proxy may take to say what is in force.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The files; that of `-c` or the default one otherwise
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Of two files, OLD and NEW: say what the second changes, and what share of the keys moves
    #[arg(long, conflicts_with = "against")]
    diff: bool,

    /// Say what the file changes of what is in force in the proxy with this admin port, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    against: Option<String>,
}

/// `softmiss check FILE...`
pub(super) fn run(file: PathBuf, is_named: bool, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { mut files, diff, against } = arguments;
    if is_named || (files.is_empty() && !diff) {
        files.insert(0, file);
    }
    match (diff, against, files.as_slice()) {
        (true, _, [old, new]) => Ok(differ(|| read(old), new)),
        (true, ..) => {
            anyhow::bail!("--diff takes two files, the old one and the new one: softmiss check --diff OLD NEW")
        }
        (_, Some(address), [new]) => {
            let address = port::written(&address, "check --against")?;
            Ok(differ(|| in_force(&address), new))
        }
        (_, Some(_), _) => anyhow::bail!("--against takes one file: softmiss check --against {} FILE", port::EXAMPLE),
        (false, None, files) => Ok(check(files)),
    }
}

/// Says what a file changes.
fn differ(old: impl FnOnce() -> Option<Config>, new: &Path) -> ExitCode {
    let (Some(old), Some(mut new)) = (old(), read(new)) else { return ExitCode::FAILURE };
    // A proxy would take the file up, and go on with what was listed before.
    let is_listed = listed(&new).is_ok();
    // The file leaves them where they are.
    for (port, was) in [(&mut new.settings.stats, old.settings.stats), (&mut new.settings.admin, old.settings.admin)] {
        if *port == Port::Unsaid {
            *port = was;
        }
    }
    let changes = Changes::between(&old, &new);
    say(&if changes.is_empty() { "nothing changes\n".to_owned() } else { changes.to_string() });
    let is_hidden = |secret: &Option<String>| secret.as_deref() == Some("***");
    if is_hidden(&old.settings.admin_token) || old.pools.iter().any(|pool| is_hidden(&pool.redis.auth)) {
        say("(a running proxy does not tell its passwords: whether they change is not known)\n");
    }
    if is_listed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The configuration in a file; says what is wrong with it.
fn read(file: &Path) -> Option<Config> {
    match config::load(file) {
        Ok(loaded) => Some(loaded.config),
        Err(report) => {
            complain(&report.render(colour()));
            complain(&format!("\n{}: refused, {}", file.display(), counted(report.errors(), "problem")));
            None
        }
    }
}

/// The configuration that is in force in a running proxy.
fn in_force(address: &str) -> Option<Config> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = runtime.block_on(port::ask(address, "GET /config", None, TIMEOUT));
    runtime.shutdown_background();
    let answer = match asked {
        Ok(answer) => answer,
        Err(trouble) => {
            complain(&format!(
                "softmiss: nobody answers at {address} ({trouble}): is that the admin port of a running proxy?"
            ));
            return None;
        }
    };
    let text = port::parts(&answer).filter(|(status, _)| *status == 200).map(|(_, body)| String::from_utf8_lossy(body));
    // Of what is secret it is only told that it is there.
    let hidden = "  admin_token: \"***\"\n";
    let has_token = text.as_ref().is_some_and(|text| text.contains(hidden));
    match text.map(|text| config::parse(address, &text.replacen(hidden, "", 1))) {
        Some(Ok(Loaded { mut config, .. })) => {
            if has_token {
                config.settings.admin_token = Some("***".to_owned());
            }
            Some(config)
        }
        Some(Err(report)) => {
            complain(&report.render(colour()));
            complain(&format!(
                "\nsoftmiss: what {address} says is in force is not understood; is it of another version?"
            ));
            None
        }
        None => {
            complain(&format!("softmiss: what answers at {address} is not the admin port of softmiss"));
            None
        }
    }
}

fn check(files: &[PathBuf]) -> ExitCode {
    let mut failed = false;
    for file in files {
        match config::load(file) {
            Ok(loaded) => {
                warn(&loaded);
                let config = &loaded.config;
                let Ok(listed) = listed(config) else {
                    failed = true;
                    continue;
                };
                let servers = config.pools.iter().map(|pool| pool.servers.len()).sum::<usize>() + listed;
                let (pools, servers) = (counted(config.pools.len(), "pool"), counted(servers, "server"));
                let more = if config.pools.iter().any(is_open) { ", and those that are found" } else { "" };
                say(&format!("{}: ok ({pools}, {servers}{more})\n", file.display()));
            }
            Err(report) => {
                failed = true;
                complain(&report.render(colour()));
                complain(&format!("\n{}: refused, {}", file.display(), counted(report.errors(), "problem")));
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// How many servers those files list that a configuration names for them. Says what is wrong with any.
fn listed(config: &Config) -> Result<usize, ()> {
    let lists = config.pools.iter().filter_map(|pool| pool.discovery.file.as_deref()).filter(|list| list.exists());
    let (mut count, mut is_wrong) = (0, false);
    for list in lists {
        match listing::load(list) {
            Ok(servers) => count += servers.len(),
            Err(report) => {
                is_wrong = true;
                complain(&report.render(colour()));
                complain(&format!("\n{}: refused, {}", list.display(), counted(report.errors(), "problem")));
            }
        }
    }
    if is_wrong { Err(()) } else { Ok(count) }
}

/// Says what in a file works, but hardly as it was meant.
fn warn(loaded: &Loaded) {
    let mut warnings = loaded.warnings.clone();
    warnings.diagnostics.extend(loaded.unless_flags.diagnostics.iter().cloned());
    let lists = loaded.config.pools.iter().filter_map(|pool| Some((&pool.name, pool.discovery.file.as_ref()?)));
    for (pool, list) in lists.filter(|(_, list)| !list.exists()) {
        let message = format!("`servers_file` of pool `{pool}`, {}, is not there yet", list.display());
        let help = "until it is, the pool has the servers that it has otherwise";
        warnings.diagnostics.push(Diagnostic::warning(None, message).help(help));
    }
    if let Some((message, advice)) = files::shortage(&loaded.config) {
        warnings.diagnostics.push(Diagnostic::warning(None, message).help(advice));
    }
    if !warnings.diagnostics.is_empty() {
        complain(&format!("{}\n", warnings.render(colour())));
    }
}

/// `softmiss -t`: twemproxy's line, and the reasons with it.
pub(super) fn test(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(loaded) => {
            warn(&loaded);
            if listed(&loaded.config).is_err() {
                return ExitCode::FAILURE;
            }
            complain(&format!("softmiss: configuration file '{}' syntax is ok", file.display()));
            ExitCode::SUCCESS
        }
        Err(report) => {
            complain(&report.render(colour()));
            complain(&format!("\nsoftmiss: configuration file '{}' syntax is invalid", file.display()));
            ExitCode::FAILURE
        }
    }
}

/// `softmiss -D`
pub(super) fn describe_stats() -> String {
    let mut out = String::new();
    let mut section = |title: &str, rows: &mut dyn Iterator<Item = (&str, table::Kind, &str)>| {
        let _ = writeln!(out, "{title}:");
        for (name, kind, help) in rows {
            let _ = writeln!(out, "  {name:<20} {:<10} {help}", kind.name());
        }
        out.push('\n');
    };
    section("pool stats", &mut table::POOL.iter().map(|metric| (metric.name, metric.kind, metric.help)));
    let servers = table::SERVER.iter().map(|metric| (metric.name, metric.kind, metric.help));
    section("server stats", &mut servers.chain([table::SERVER_EJECTED_AT]));
    out
}

//! `check` and `-t`: everything that is wrong with a file, at once. `-D`: what the statistics mean.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::diagnostic::Diagnostic;
use crate::config::{self, Loaded};
use crate::io::files;
use crate::io::terminal::{colour, complain, say};
use crate::stats::table;

/// `softmiss check FILE...`
pub(super) fn run(files: &[PathBuf]) -> ExitCode {
    let mut failed = false;
    for file in files {
        match config::load(file) {
            Ok(loaded) => {
                warn(&loaded);
                let config = &loaded.config;
                let servers: usize = config.pools.iter().map(|pool| pool.servers.len()).sum();
                say(&format!("{}: ok ({})\n", file.display(), count(config.pools.len(), servers)));
            }
            Err(report) => {
                failed = true;
                complain(&report.render(colour()));
                complain(&format!("\n{}: refused, {}", file.display(), problems(report.errors())));
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says what in a file works, but hardly as it was meant.
fn warn(loaded: &Loaded) {
    let mut warnings = loaded.warnings.clone();
    warnings.diagnostics.extend(loaded.unless_flags.diagnostics.iter().cloned());
    if let Some((message, advice)) = files::shortage(&loaded.config) {
        warnings.diagnostics.push(Diagnostic::warning(None, message).help(advice));
    }
    if !warnings.diagnostics.is_empty() {
        complain(&format!("{}\n", warnings.render(colour())));
    }
}

fn count(pools: usize, servers: usize) -> String {
    let s = |number: usize| if number == 1 { "" } else { "s" };
    format!("{pools} pool{}, {servers} server{}", s(pools), s(servers))
}

pub(super) fn problems(errors: usize) -> String {
    if errors == 1 { "1 problem".to_owned() } else { format!("{errors} problems") }
}

/// `softmiss -t`: twemproxy's line, and the reasons with it.
pub(super) fn test(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(loaded) => {
            warn(&loaded);
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

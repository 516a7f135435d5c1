//! The one line to read when there is time for one line only: is the application all right?

use super::overview::{Condition, Overview, Pool};
use super::seen::Seen;
use super::text;

/// How bad it is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nobody knows: the proxy does not answer.
    Blind,
    /// The application is told errors.
    Errors,
    /// A pool has no server.
    Down,
    /// Servers are out.
    Out,
    /// Something to look at.
    Warning,
    Well,
}

impl Level {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Blind => "NO ANSWER",
            Self::Errors => "ERRORS",
            Self::Down => "POOL DOWN",
            Self::Out => "SERVER OUT",
            Self::Warning => "WARNING",
            Self::Well => "ALL WELL",
        }
    }
}

/// From this part of the memory limit on, it is worth a warning.
const MEMORY_WARNING: f64 = 0.8;

/// Names that are told; what there is beyond is a number.
const NAMES: usize = 3;

/// The level and the sentence, in its parts.
pub(super) fn verdict(seen: &Seen) -> (Level, Vec<String>) {
    let overview = &seen.now;
    if let Some(silence) = &seen.silence {
        let lasts = text::span(silence.lasts);
        let parts = [
            format!("for {lasts} ({})", silence.trouble),
            "still trying".to_owned(),
            "all below is from then".to_owned(),
        ];
        return (Level::Blind, parts.into());
    }
    let mut level = Level::Well;
    let mut parts = Vec::new();
    let mut tell = |worse: Level, part: String| {
        level = level.min(worse);
        parts.push(part);
    };
    let errors: Option<f64> = overview.pools.iter().map(|pool| seen.errors_per_s(pool)).sum();
    if let Some(errors) = errors.filter(|errors| *errors > 0.0) {
        tell(Level::Errors, format!("{}/s sent to the application", text::count(errors)));
    }
    let down: Vec<&str> = overview.pools.iter().filter(|pool| pool.is_down()).map(|pool| pool.name.as_str()).collect();
    if !down.is_empty() {
        tell(Level::Down, format!("no server in service in {}", listed(&down)));
    }
    let out = servers_that_are(overview, Condition::Out);
    let elsewhere: Vec<&str> =
        overview.pools.iter().filter(|pool| !pool.is_down()).flat_map(|pool| pool.names_of(Condition::Out)).collect();
    if down.is_empty() && !out.is_empty() {
        tell(Level::Out, format!("out of service: {} ({} of {})", listed(&out), out.len(), servers(overview)));
    } else if !elsewhere.is_empty() {
        tell(Level::Out, format!("also out of service: {}", listed(&elsewhere)));
    }
    let failing = servers_that_are(overview, Condition::Failing);
    if !failing.is_empty() {
        tell(Level::Warning, format!("failing: {}", listed(&failing)));
    }
    let held = servers_that_are(overview, Condition::Held);
    if !held.is_empty() {
        tell(Level::Warning, format!("kept out by the operator: {}", listed(&held)));
    }
    let degraded: f64 = overview.pools.iter().map(|pool| pool.degraded_per_s).sum();
    if degraded > 0.0 {
        let most = overview.pools.iter().max_by(|one, other| one.degraded_per_s.total_cmp(&other.degraded_per_s));
        let cause = most.and_then(|pool| seen.main_cause(pool)).map_or_else(|| "unknown".to_owned(), text::cause);
        let whom = match out.len() + failing.len() + held.len() {
            0 => "servers",
            1 => "it",
            _ => "them",
        };
        tell(Level::Warning, format!("the proxy answers {}/s for {whom} ({cause})", text::count(degraded)));
    }
    let used = memory_used(overview);
    if used >= MEMORY_WARNING {
        tell(Level::Warning, format!("memory at {} % of its limit", text::percent(used)));
    }
    if parts.is_empty() {
        parts = well(seen);
    } else if errors == Some(0.0) {
        parts.push("no errors sent".to_owned());
    }
    (level, parts)
}

fn well(seen: &Seen) -> Vec<String> {
    let pools: Vec<&Pool> = seen.now.pools.iter().collect();
    let rate: f64 = pools.iter().map(|pool| pool.requests_per_s).sum();
    let mut parts = vec![match servers(&seen.now) {
        1 => "the server is in service".to_owned(),
        all => format!("all {all} servers are in service"),
    }];
    parts.push(format!("{} requests/s", text::count(rate)));
    parts.extend(seen.hit_rate(&pools).map(|rate| format!("{} % hits", text::percent(rate))));
    parts
}

fn servers(overview: &Overview) -> usize {
    overview.pools.iter().map(|pool| pool.servers.len()).sum()
}

fn servers_that_are(overview: &Overview, condition: Condition) -> Vec<&str> {
    overview.pools.iter().flat_map(|pool| pool.names_of(condition)).collect()
}

fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES)].join(", ");
    if names.len() > NAMES { format!("{shown} and {} more", names.len() - NAMES) } else { shown }
}

/// The part of the memory limit that is used.
#[expect(clippy::cast_precision_loss, reason = "a part of a whole")]
pub(super) fn memory_used(overview: &Overview) -> f64 {
    overview.buffered_bytes as f64 / overview.memory_limit_bytes.max(1) as f64
}

//! The settings of the process: the file's `softmiss:` section.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::model::{LogFormat, LogLevel, LogSettings, Port, Settings, StatsdSettings};
use super::raw::{Content, Node};
use super::resolve::{Findings, Keys, SETTINGS_NAME, choice};
use super::together::PortSpans;
use super::value;

/// Every key of the `softmiss` section.
pub const KEYS: [&str; 10] = [
    "workers",
    "memory_limit",
    "stats",
    "admin",
    "admin_token",
    "statsd",
    "hot_keys",
    "slow_request",
    "state_dir",
    "log",
];

const STATSD_EXAMPLE: &str = "write `statsd: {address: 127.0.0.1:8125, prefix: softmiss, interval: 10s}`";

/// The shortest and the longest word that protects the admin port.
const TOKEN_LENGTHS: (usize, usize) = (16, 256);

/// The shortest and the longest time between two reports to statsd.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

/// One in so many requests is the least that can be looked at for hot keys.
const MOST_SPARING: u64 = 1_000_000;

pub(super) fn resolve(key: &Node, node: &Node, findings: &mut Findings) -> (Settings, PortSpans) {
    let mut settings = Settings::default();
    let pairs = match &node.content {
        Content::Mapping(pairs) => pairs,
        Content::Empty => return (settings, PortSpans::default()),
        other => {
            let message = format!("`{SETTINGS_NAME}` holds the settings of the process, not {}", other.kind());
            findings.push(Diagnostic::error(Some(key.span.clone()), message));
            return (settings, PortSpans::default());
        }
    };
    let keys = Keys::new(pairs, &KEYS, &[], "the `softmiss` section", findings);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = keys.read("workers", findings, |text| match text {
        "auto" => Ok(cores as u64),
        number => value::number(number, 1, 64),
    });
    settings.workers = workers.map_or(settings.workers, |workers| usize::try_from(workers).unwrap_or(1));
    let memory = keys.read("memory_limit", findings, |text| value::size(text, 16 << 20, 1 << 40));
    settings.memory_limit = memory.unwrap_or(settings.memory_limit);
    let stats = keys.read("stats", findings, port_address);
    settings.stats = stats.unwrap_or(settings.stats);
    let admin = keys.read("admin", findings, port_address);
    settings.admin = admin.unwrap_or(settings.admin);
    settings.admin_token = keys.read("admin_token", findings, token);
    if let Some((key, node)) = keys.find("statsd") {
        settings.statsd = statsd(key, node, findings);
    }
    let hot_keys = keys.read("hot_keys", findings, sampling);
    settings.hot_keys = hot_keys.unwrap_or(settings.hot_keys);
    let slow_request = keys.read("slow_request", findings, |text| match text {
        "none" | "false" => Ok(None),
        span => value::duration(span),
    });
    settings.slow_request = slow_request.unwrap_or(settings.slow_request);
    settings.state_dir = keys.read("state_dir", findings, folder).flatten();
    if let Some((key, node)) = keys.find("log") {
        settings.log = log(key, node, findings);
    }
    (settings, ["stats", "admin"].map(|key| keys.span(key)))
}

/// A folder, wherever the process is started; `None` for none.
fn folder(text: &str) -> Result<Option<PathBuf>, value::Wrong> {
    match text {
        "none" | "false" => Ok(None),
        path if path.starts_with('/') => Ok(Some(path.into())),
        other => Err(value::Wrong {
            message: format!("`{other}` is not the whole path of a folder"),
            help: Some("write one that begins with `/`, such as `/var/lib/softmiss`, or `none`".to_owned()),
        }),
    }
}

/// The address of a port that can be switched off with `none`.
fn port_address(text: &str) -> Result<Port, value::Wrong> {
    match text {
        "none" => Ok(Port::Off),
        address => value::socket_address(address, "write `host:port`, or `none` to switch the port off").map(Port::At),
    }
}

/// A word that is not guessed, and that can stand in a header. What is wrong with it is said without repeating it.
fn token(text: &str) -> Result<String, value::Wrong> {
    let wrong = |message: &str| {
        let help = "write what `openssl rand -hex 24` prints, or another word of letters and digits".to_owned();
        Err(value::Wrong { message: message.to_owned(), help: Some(help) })
    };
    if text.len() < TOKEN_LENGTHS.0 || text.len() > TOKEN_LENGTHS.1 {
        let (least, most) = TOKEN_LENGTHS;
        return wrong(&format!("a token of {} characters; it must have {least} to {most}", text.len()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)) {
        return wrong("a token can hold nothing but letters, digits and `-._~+/=`");
    }
    Ok(text.to_owned())
}

/// One in how many requests is looked at; `None` for none of them.
fn sampling(text: &str) -> Result<Option<u32>, value::Wrong> {
    match text {
        "none" | "false" => Ok(None),
        "true" => Err(value::Wrong {
            message: "`true` does not say how many requests are looked at".to_owned(),
            help: Some("write `128` to count the keys of one in 128 requests, or `none` to count none".to_owned()),
        }),
        number => {
            value::number(number, 0, MOST_SPARING).map(|number| u32::try_from(number).ok().filter(|one| *one > 0))
        }
    }
}

/// `None` when something is wrong with it, or it is `none`.
fn statsd(key: &Node, node: &Node, findings: &mut Findings) -> Option<StatsdSettings> {
    let pairs = match &node.content {
        Content::Mapping(pairs) => pairs,
        Content::Scalar(text) if text == "none" => return None,
        other => {
            let message = format!("`statsd` takes `address`, `prefix` and `interval`, not {}", other.kind());
            findings.push(Diagnostic::error(Some(key.span.clone()), message).help(STATSD_EXAMPLE));
            return None;
        }
    };
    let keys = Keys::new(pairs, &["address", "prefix", "interval"], &[], "`statsd`", findings);
    if keys.find("address").is_none() {
        let message = "`statsd` has no `address`";
        findings.push(Diagnostic::error(Some(key.span.clone()), message).help(STATSD_EXAMPLE));
    }
    let prefix = keys.read("prefix", findings, |text| {
        let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        if text.chars().all(fits) {
            return Ok(text.to_owned());
        }
        let help = "letters, digits, dots, dashes and underscores";
        Err(value::Wrong { message: format!("`{text}` is not the beginning of a name"), help: Some(help.to_owned()) })
    });
    let interval = keys.read("interval", findings, |text| match value::duration(text)? {
        Some(span) if (INTERVALS.0..=INTERVALS.1).contains(&span) => Ok(span),
        Some(_) | None => {
            let help = "100ms to 10m; statsd itself works in steps of 10s".to_owned();
            Err(value::Wrong { message: format!("`{text}` is no interval to report at"), help: Some(help) })
        }
    });
    let (host, port) = keys.read("address", findings, value::host_and_port)?;
    Some(StatsdSettings {
        host,
        port,
        prefix: prefix.unwrap_or_else(|| "softmiss".to_owned()),
        interval: interval.unwrap_or(Duration::from_secs(10)),
    })
}

fn log(key: &Node, node: &Node, findings: &mut Findings) -> LogSettings {
    let mut log = LogSettings::default();
    let Content::Mapping(pairs) = &node.content else {
        let message = format!("`log` takes `level` and `format`, not {}", node.content.kind());
        findings
            .push(Diagnostic::error(Some(key.span.clone()), message).help("write `log: {level: info, format: text}`"));
        return log;
    };
    let keys = Keys::new(pairs, &["level", "format"], &[], "`log`", findings);
    log.level = keys.read("level", findings, |text| choice(text, &LogLevel::ALL)).unwrap_or(log.level);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    log.format = keys.read("format", findings, |text| choice(text, &formats)).unwrap_or(log.format);
    log
}

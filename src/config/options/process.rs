//! What the process can be told, in the order of the pages.

use super::{Form, Opt, below, new};
use crate::config::model::{LogSettings, Settings, StatsdSettings};
use crate::config::value;

/// Every option of the process.
pub(in crate::config) static PROCESS: &[Opt<Settings>] = &[
    new("workers", field!(one: Settings => one.workers, value::workers; one.workers))
        .default("1")
        .limits("1 to 64, `auto`")
        .fixed()
        .what("event-loop threads: 1 to 64, or auto (one for each core). One is enough for most hosts"),
    new("memory_limit", field!(one: Settings => one.memory_limit, one.memory_limit))
        .default("512mb")
        .sizes(16 << 20, 1 << 40)
        .what("all buffers together; whoever holds most of it pays when it is full (at least 16mb)"),
    new("stats", field!(one: Settings => one.stats, one.stats))
        .default_told("`127.0.0.1:22222`")
        .limits("`none`")
        .example("127.0.0.1:22222")
        .fixed()
        .what("twemproxy's JSON statistics; none switches them off (the flags -a and -s win)"),
    new("admin", field!(one: Settings => one.admin, one.admin))
        .default_told("`127.0.0.1:22223`")
        .limits("`none`")
        .example("127.0.0.1:22223")
        .fixed()
        .what("dashboard, Prometheus, JSON over HTTP; none switches it off (the flag --admin wins)"),
    new("admin_token", field!(one: Settings => one.admin_token, value::token; one.admin_token.clone()))
        .limits("16 to 256 letters, digits and `-._~+/=`")
        .secret()
        .example("3f1c...")
        .rare()
        .what(
            "what must be said to change anything there (16 characters or more, openssl rand -hex 24);\n\
             without it, only whoever is on this host may",
        ),
    new("statsd", Form::Lines { write: |one: &Settings| one.statsd.as_ref().map(|statsd| below(STATSD, statsd)) })
        .default("none")
        .limits("`address`, `prefix` (`softmiss`), `interval` (`10s`, 100ms to 10m)")
        .example("{address: 127.0.0.1:8125, prefix: softmiss, interval: 10s}")
        .rare()
        .what("counters and gauges over UDP; off by default"),
    new("hot_keys", field!(one: Settings => one.hot_keys, value::sampling; one.hot_keys.unwrap_or_default()))
        .default("128")
        .limits("1 to 1000000, `none` (or 0)")
        .what("count the keys of one in so many requests; none: keys are nobody's business"),
    new("slow_request", field!(one: Settings => one.slow_request, value::slow; one.slow_request))
        .default("1s")
        .limits("up to `24h`, `none` (or 0)")
        .what("log requests that take longer, and those that run out of time; none switches it off"),
    new("state_dir", field!(one: Settings => one.state_dir, one.state_dir))
        .limits("a whole path, `none`")
        .example("/var/lib/softmiss")
        .rare()
        .fixed()
        .what(
            "a folder of this process's own, to remember what servers missed while it is restarted;\n\
             without it, a server with rejoin: safe that is not reached at first is flushed",
        ),
    new("drain_timeout", field!(one: Settings => one.drain_timeout, one.drain_timeout))
        .default("5s")
        .limits("up to a day")
        .what("at the end, answer what has been read for so long; a second signal ends at once"),
    new("watch", field!(one: Settings => one.watch, one.watch))
        .default("false")
        .what("take up a changed file by itself, one second after the last change to it"),
    new("log", Form::Lines { write: |one: &Settings| Some(below(LOG, &one.log)) })
        .default("{level: info, format: text}")
        .what("how much is logged, and in which form"),
];

/// Every option of `statsd`.
pub(in crate::config) static STATSD: &[Opt<StatsdSettings>] = &[
    new("address", field!(one: StatsdSettings => (one.host, one.port), value::host_and_port; Some(place(one))))
        .required(),
    new("prefix", field!(one: StatsdSettings => one.prefix, value::prefix; Some(one.prefix.clone())))
        .default("softmiss"),
    new("interval", field!(one: StatsdSettings => one.interval, value::interval; one.interval))
        .default("10s")
        .limits("100ms to 10m"),
];

/// Every option of `log`.
pub(in crate::config) static LOG: &[Opt<LogSettings>] = &[
    new("level", field!(one: LogSettings => one.level, one.level))
        .default("info")
        .what("error, warn, info, debug, trace"),
    new("format", field!(one: LogSettings => one.format, one.format)).default("text").fixed().what("text or json"),
];

/// The host and the port of a statsd server.
fn place(statsd: &StatsdSettings) -> String {
    let StatsdSettings { host, port, .. } = statsd;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

//! What the process can be told, in the order of the pages.

use super::Default::{Is, Required, Told};
use super::{About, Change, Form, Limits, NEW, Opt, Setting as _, below, quoted};
use crate::config::model::{LogSettings, Settings, StatsdSettings};
use crate::config::value;

/// A field of the settings, as an option.
macro_rules! settings {
    ($field:ident) => {
        field!(one => one.$field)
    };
}

/// Every option of the process.
pub(in crate::config) static PROCESS: &[Opt<Settings>] = &[
    Opt {
        about: About {
            name: "workers",
            default: Is("1"),
            limits: Limits::Told("1 to 64, `auto`"),
            change: Change::Start,
            what: "event-loop threads: 1 to 64, or auto (one for each core). One is enough for most hosts",
            ..NEW
        },
        form: Form::Single {
            read: |one, text, _| {
                one.workers = value::workers(text)?;
                Ok(())
            },
            write: |one| Some(one.workers.to_string()),
        },
    },
    Opt {
        about: About {
            name: "memory_limit",
            default: Is("512mb"),
            limits: Limits::Sizes(16 << 20, 1 << 40),
            what: "all buffers together; whoever holds most of it pays when it is full (at least 16mb)",
            ..NEW
        },
        form: settings!(memory_limit),
    },
    Opt {
        about: About {
            name: "stats",
            default: Told("`127.0.0.1:22222`"),
            limits: Limits::Told("`none`"),
            change: Change::Start,
            example: "127.0.0.1:22222",
            what: "twemproxy's JSON statistics; none switches them off (the flags -a and -s win)",
            ..NEW
        },
        form: settings!(stats),
    },
    Opt {
        about: About {
            name: "admin",
            default: Told("`127.0.0.1:22223`"),
            limits: Limits::Told("`none`"),
            change: Change::Start,
            example: "127.0.0.1:22223",
            what: "dashboard, Prometheus, JSON over HTTP; none switches it off (the flag --admin wins)",
            ..NEW
        },
        form: settings!(admin),
    },
    Opt {
        about: About {
            name: "admin_token",
            limits: Limits::Told("16 to 256 letters, digits and `-._~+/=`"),
            is_secret: true,
            example: "3f1c...",
            is_rare: true,
            what: "what must be said to change anything there (16 characters or more, openssl rand -hex 24);\n\
                   without it, only whoever is on this host may",
            ..NEW
        },
        form: Form::Single {
            read: |one, text, _| {
                one.admin_token = Some(value::token(text)?);
                Ok(())
            },
            write: |one| one.admin_token.clone(),
        },
    },
    Opt {
        about: About {
            name: "statsd",
            default: Is("none"),
            limits: Limits::Told("`address`, `prefix` (`softmiss`), `interval` (`10s`, 100ms to 10m)"),
            change: Change::Start,
            example: "{address: 127.0.0.1:8125, prefix: softmiss, interval: 10s}",
            is_rare: true,
            what: "counters and gauges over UDP; off by default",
            ..NEW
        },
        form: Form::Lines { write: |one| one.statsd.as_ref().map(|statsd| below(STATSD, statsd)) },
    },
    Opt {
        about: About {
            name: "hot_keys",
            default: Is("128"),
            limits: Limits::Told("1 to 1000000, `none` (or 0)"),
            what: "count the keys of one in so many requests; none: keys are nobody's business",
            ..NEW
        },
        form: Form::Single {
            read: |one, text, _| {
                one.hot_keys = value::sampling(text)?;
                Ok(())
            },
            write: |one| Some(one.hot_keys.unwrap_or_default().to_string()),
        },
    },
    Opt {
        about: About {
            name: "slow_request",
            default: Is("1s"),
            limits: Limits::Told("up to `24h`, `none` (or 0)"),
            what: "log requests that take longer, and those that run out of time; none switches it off",
            ..NEW
        },
        form: Form::Single {
            read: |one, text, _| {
                one.slow_request = if value::is_none(text) { None } else { value::duration(text)? };
                Ok(())
            },
            write: |one| one.slow_request.written(),
        },
    },
    Opt {
        about: About {
            name: "state_dir",
            limits: Limits::Told("a whole path, `none`"),
            change: Change::Start,
            example: "/var/lib/softmiss",
            is_rare: true,
            what: "a folder of this process's own, to remember what servers missed while it is restarted;\n\
                   without it, a server with rejoin: safe that is not reached at first is flushed",
            ..NEW
        },
        form: settings!(state_dir),
    },
    Opt {
        about: About {
            name: "log",
            default: Is("{level: info, format: text}"),
            what: "how much is logged, and in which form",
            ..NEW
        },
        form: Form::Lines { write: |one| Some(below(LOG, &one.log)) },
    },
];

/// Every option of `statsd`.
pub(in crate::config) static STATSD: &[Opt<StatsdSettings>] = &[
    Opt {
        about: About { name: "address", default: Required, ..NEW },
        form: Form::Single {
            read: |one, text, _| {
                (one.host, one.port) = value::host_and_port(text)?;
                Ok(())
            },
            write: |one| {
                let host = if one.host.contains(':') { format!("[{}]", one.host) } else { one.host.clone() };
                Some(quoted(&format!("{host}:{}", one.port)))
            },
        },
    },
    Opt {
        about: About { name: "prefix", default: Is("softmiss"), ..NEW },
        form: Form::Single {
            read: |one, text, _| {
                one.prefix = value::prefix(text)?;
                Ok(())
            },
            write: |one| Some(quoted(&one.prefix)),
        },
    },
    Opt {
        about: About { name: "interval", default: Is("10s"), limits: Limits::Told("100ms to 10m"), ..NEW },
        form: Form::Single {
            read: |one, text, _| {
                one.interval = value::interval(text)?;
                Ok(())
            },
            write: |one| one.interval.written(),
        },
    },
];

/// Every option of `log`.
pub(in crate::config) static LOG: &[Opt<LogSettings>] = &[
    Opt {
        about: About { name: "level", default: Is("info"), what: "error, warn, info, debug, trace", ..NEW },
        form: settings!(level),
    },
    Opt {
        about: About { name: "format", default: Is("text"), change: Change::Start, what: "text or json", ..NEW },
        form: settings!(format),
    },
];

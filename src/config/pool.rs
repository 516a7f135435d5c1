//! One pool of the file.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::model::{
    Distribution, HashKind, KeylessScripts, Listen, OnEject, OnFailure, Pool, Protocol, RedisSettings, Rejoin, Stall,
    Transactions, ketama_groups,
};
use super::raw::{Content, Node};
use super::resolve::{Findings, Keys, choice};
use super::text::visible;
use super::together::Found;
use super::{servers, slips, value};

/// Every key of a pool.
pub const KEYS: [&str; 40] = [
    "listen",
    "servers",
    "hash",
    "hash_tag",
    "distribution",
    "timeout",
    "backlog",
    "client_connections",
    "redis",
    "redis_auth",
    "redis_user",
    "redis_db",
    "redis_databases",
    "transactions",
    "keyless_scripts",
    "unknown_commands",
    "dedicated_connections",
    "preconnect",
    "tcpkeepalive",
    "reuseport",
    "auto_eject_hosts",
    "server_connections",
    "server_retry_timeout",
    "server_failure_limit",
    "fall",
    "rise",
    "max_ejected_percent",
    "flap_limit",
    "server_reconnect_limit",
    "stall_detection",
    "stall_min",
    "stall_max",
    "on_failure",
    "absorb_add",
    "on_failure_scripts",
    "on_eject",
    "failover_ttl",
    "rejoin",
    "join_gets",
    "value_limit",
];

/// Keys that have a meaning in the plan of this program and none in this version.
const LATER: [&str; 2] = ["tls", "server_tls"];

/// Databases of a Redis server that is not told otherwise.
const USUAL_DATABASES: u32 = 16;

/// Keys that only Redis pools have.
const REDIS_ONLY: [&str; 9] = [
    "on_failure_scripts",
    "redis_auth",
    "redis_user",
    "redis_db",
    "redis_databases",
    "transactions",
    "keyless_scripts",
    "unknown_commands",
    "dedicated_connections",
];

/// `stall_min` is a tenth of `timeout` by default, and not less than this: a healthy server may be silent for that long,
/// however fast it usually is.
const LEAST_STALL: Duration = Duration::from_millis(40);

pub(super) fn resolve(key: &Node, name: &str, node: &Node, findings: &mut Findings) -> Option<Found> {
    let shown = visible(name);
    let (written, name) = (name, shown.as_ref());
    let pairs = match &node.content {
        Content::Mapping(pairs) => pairs,
        Content::Scalar(text) if let Some(slip) = slips::without_blank(text) => {
            findings.push(slip.from(node.span.start));
            return None;
        }
        other => {
            let message = format!("pool `{name}` must have keys such as `listen` and `servers`, not {}", other.kind());
            let do_what = match other {
                Content::List(_) => "take the dashes away in front of the pool's keys",
                _ => "indent the pool's keys below its name",
            };
            let help =
                format!("{do_what}:\n\n  {name}:\n    listen: 127.0.0.1:11211\n    servers:\n      - 10.0.0.1:11211:1");
            findings.push(Diagnostic::error(Some(key.span.clone()), message).help(help));
            return None;
        }
    };
    let keys = Keys::new(pairs, &KEYS, &LATER, "a pool", findings);
    let before = findings.list.len();
    let required = |name_of_key: &str, help: &str, findings: &mut Findings| {
        if keys.find(name_of_key).is_none() {
            let message = format!("pool `{name}` has no `{name_of_key}`");
            findings.push(Diagnostic::error(Some(key.span.clone()), message).label("in this pool").help(help));
        }
    };
    required("listen", "add `listen: 127.0.0.1:11211`, the address that the application connects to", findings);
    required("servers", "add `servers:` with a line `- host:port:weight name` for each server", findings);

    let listen = keys.read("listen", findings, value::listen);
    let servers = keys.find("servers").map(|(key, node)| servers::resolve(key, node, findings)).unwrap_or_default();
    let redis = keys.read("redis", findings, value::boolean).unwrap_or(false);
    let protocol = if redis { Protocol::Redis } else { Protocol::Memcache };
    if !redis {
        for only in REDIS_ONLY {
            if keys.find(only).is_some() {
                let message = format!("`{only}` is only for a redis pool");
                let help = "add `redis: true` if this pool speaks Redis, or leave the line out";
                findings.push(Diagnostic::error(keys.span(only), message).help(help));
            }
        }
    }
    let hash = keys.read("hash", findings, |text| choice(text, &HashKind::ALL)).unwrap_or(HashKind::Fnv1a_64);
    let distribution =
        keys.read("distribution", findings, |text| choice(text, &Distribution::ALL)).unwrap_or(Distribution::Ketama);
    let flag = |name: &str, findings: &mut Findings| keys.read(name, findings, value::boolean).unwrap_or(false);
    let number = |name: &str, least: u64, most: u64, findings: &mut Findings| {
        keys.read(name, findings, |text| value::number(text, least, most))
    };
    let default_policy = if redis { OnFailure::Error } else { OnFailure::Miss };
    let policies = [("miss", OnFailure::Miss), ("error", OnFailure::Error), ("absorb", OnFailure::Absorb)];
    let ejects = [("rehash", OnEject::Rehash), ("hold", OnEject::Hold)];
    let rejoins = [("keep", Rejoin::Keep), ("flush", Rejoin::Flush), ("safe", Rejoin::Safe)];
    let small =
        |number: Option<u64>, default: u32| number.map_or(default, |number| u32::try_from(number).unwrap_or(default));
    if keys.find("fall").is_some() && keys.find("server_failure_limit").is_some() {
        let message = "`fall` and `server_failure_limit` are two names of one setting".to_owned();
        findings.push(Diagnostic::error(keys.span("fall"), message).help("keep one of the two"));
    }
    let listens = listen.is_some();
    let nowhere = Listen::Unix { path: PathBuf::new(), mode: None };
    let list = servers.iter().map(|(server, _)| server.clone()).collect();
    let default = Pool::new(name, listen.unwrap_or(nowhere), list);
    let timeout = keys.read("timeout", findings, value::duration).flatten();
    let failures = number("server_failure_limit", 0, u64::from(u32::MAX), findings)
        .or_else(|| number("fall", 0, u64::from(u32::MAX), findings));
    let pool = Pool {
        protocol,
        hash,
        hash_tag: keys.read("hash_tag", findings, hash_tag),
        distribution,
        timeout,
        backlog: small(number("backlog", 0, 65_535, findings), default.backlog),
        client_connections: number("client_connections", 0, u64::from(u32::MAX), findings)
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| *limit > 0),
        preconnect: flag("preconnect", findings),
        tcpkeepalive: flag("tcpkeepalive", findings),
        reuseport: flag("reuseport", findings),
        auto_eject_hosts: flag("auto_eject_hosts", findings),
        server_retry_timeout: keys
            .read("server_retry_timeout", findings, value::duration)
            .map_or(default.server_retry_timeout, Option::unwrap_or_default),
        server_failure_limit: small(failures, default.server_failure_limit).max(1),
        server_connections: number("server_connections", 1, 1024, findings)
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(default.server_connections),
        server_reconnect_limit: small(
            number("server_reconnect_limit", 1, 10_000, findings),
            default.server_reconnect_limit,
        ),
        on_failure: keys.read("on_failure", findings, |text| choice(text, &policies)).unwrap_or(default_policy),
        absorb_add: flag("absorb_add", findings),
        on_eject: keys.read("on_eject", findings, |text| choice(text, &ejects)).unwrap_or(default.on_eject),
        failover_ttl: keys.read("failover_ttl", findings, failover_ttl),
        rejoin: keys.read("rejoin", findings, |text| choice(text, &rejoins)).unwrap_or(default.rejoin),
        max_ejected_percent: small(number("max_ejected_percent", 0, 100, findings), default.max_ejected_percent),
        rise: small(number("rise", 1, 100, findings), default.rise),
        flap_limit: match keys.read("flap_limit", findings, flap_limit) {
            None => default.flap_limit,
            Some(0) => None,
            Some(limit) => Some(limit),
        },
        stall: stall(&keys, timeout, findings),
        join_gets: keys.read("join_gets", findings, value::boolean).unwrap_or(default.join_gets),
        value_limit: keys
            .read("value_limit", findings, |text| value::size(text, 1 << 10, 1 << 30))
            .unwrap_or(default.value_limit),
        redis: redis_settings(&keys, findings),
        ..default
    };
    contradictions(&pool, &keys, findings);
    if !findings.list[before..].iter().any(|one| one.severity == super::diagnostic::Severity::Error) {
        warn(&pool, key, &keys, findings);
        servers::warn(name, &servers, findings);
        if written != name {
            let message = format!("the name of pool `{name}` has characters in it that cannot be seen");
            findings.push(Diagnostic::warning(Some(key.span.clone()), message).help("write it without them"));
        }
    }
    let place = |position| servers.binary_search_by_key(&position, |(server, _)| server.position).ok();
    let spans =
        pool.servers.iter().filter_map(|server| place(server.position).map(|at| servers[at].1.clone())).collect();
    let listen = keys.span("listen").filter(|_| listens)?;
    Some(Found { pool, listen, value_limit: keys.span("value_limit"), servers: spans })
}

/// What only Redis pools have.
fn redis_settings(keys: &Keys<'_>, findings: &mut Findings) -> RedisSettings {
    let default = RedisSettings::default();
    let text = |text: &str| Ok(text.to_owned());
    let mut number = |name: &str, least: u32, most: u32, default: u32| {
        let read = keys.read(name, findings, |text| value::number(text, u64::from(least), u64::from(most)));
        read.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let db = number("redis_db", 0, 100_000, default.db);
    let databases = number("redis_databases", 1, 100_000, default.databases.max(db + 1));
    let dedicated = number("dedicated_connections", 0, 1_000_000, 1000);
    let transactions = [("split", Transactions::Split), ("single", Transactions::Single)];
    let scripts = [("any", KeylessScripts::Any), ("refuse", KeylessScripts::Refuse)];
    let failed = [("error", false), ("miss", true)];
    let unknown = [("first_argument", true), ("refuse", false)];
    let settings = RedisSettings {
        auth: keys.read("redis_auth", findings, text),
        user: keys.read("redis_user", findings, text),
        db,
        databases,
        transactions: keys
            .read("transactions", findings, |text| choice(text, &transactions))
            .unwrap_or(default.transactions),
        keyless_scripts: keys
            .read("keyless_scripts", findings, |text| choice(text, &scripts))
            .unwrap_or(default.keyless_scripts),
        null_scripts: keys
            .read("on_failure_scripts", findings, |text| choice(text, &failed))
            .unwrap_or(default.null_scripts),
        routes_unknown: keys
            .read("unknown_commands", findings, |text| choice(text, &unknown))
            .unwrap_or(default.routes_unknown),
        dedicated_connections: usize::try_from(dedicated).unwrap_or(default.dedicated_connections),
    };
    if settings.user.is_some() && settings.auth.is_none() {
        let message = "`redis_user` has no password".to_owned();
        findings.push(
            Diagnostic::error(keys.span("redis_user"), message).help("add `redis_auth`, or leave `redis_user` out"),
        );
    }
    if settings.db >= settings.databases {
        let message = format!("`redis_db` {} is not one of {} databases, from 0", settings.db, settings.databases);
        findings.push(Diagnostic::error(keys.span("redis_db"), message).help("raise `redis_databases`"));
    }
    settings
}

/// Two changes are the least that a server can go out and come back with.
fn flap_limit(text: &str) -> Result<u32, value::Wrong> {
    match value::number(text, 0, 1000)? {
        1 => Err(value::Wrong {
            message: "`1` would keep a server out for ever: to leave and to return are two changes".to_owned(),
            help: Some("write `2` or more, or `0` for no limit".to_owned()),
        }),
        limit => Ok(u32::try_from(limit).unwrap_or(u32::MAX)),
    }
}

/// A lifetime in whole seconds, which is what memcached counts in.
fn failover_ttl(text: &str) -> Result<u32, value::Wrong> {
    let help = "write `60s`; leave the line out for no limit";
    match value::duration(text)? {
        Some(span) if span >= Duration::from_secs(1) => Ok(u32::try_from(span.as_secs()).unwrap_or(u32::MAX)),
        Some(_) | None => {
            Err(value::Wrong { message: format!("`{text}` is less than a second"), help: Some(help.to_owned()) })
        }
    }
}

/// The bounds of stall detection. It works within `timeout`, so without one there is none.
fn stall(keys: &Keys<'_>, timeout: Option<Duration>, findings: &mut Findings) -> Option<Stall> {
    let on = keys.read("stall_detection", findings, value::boolean);
    let least = keys.read("stall_min", findings, value::duration).flatten();
    let most = keys.read("stall_max", findings, value::duration).flatten();
    for (bound, key) in [(least, "stall_min"), (most, "stall_max")] {
        if let (Some(bound), Some(timeout)) = (bound, timeout)
            && bound > timeout
        {
            let message = format!("`{key}` is longer than `timeout`, so it can never matter");
            findings.push(Diagnostic::error(keys.span(key), message).help("make it shorter than `timeout`"));
        }
    }
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        let message = "`stall_min` is longer than `stall_max`".to_owned();
        findings.push(Diagnostic::error(keys.span("stall_min"), message).help("exchange the two"));
    }
    let timeout = timeout?;
    let least = least.unwrap_or_else(|| (timeout / 10).max(LEAST_STALL)).min(timeout / 2);
    (on != Some(false)).then(|| Stall { least, most: most.unwrap_or(timeout).max(least) })
}

/// What cannot be meant together.
fn contradictions(pool: &Pool, keys: &Keys<'_>, findings: &mut Findings) {
    if pool.rejoin == Rejoin::Safe && pool.on_eject == OnEject::Rehash && pool.distribution != Distribution::Ketama {
        let distribution = pool.distribution.name();
        let message = format!("`rejoin: safe` cannot be kept with `distribution: {distribution}`");
        let help = "there, keys of every server move when one leaves or returns: write `on_eject: hold`, or use ketama";
        findings.push(Diagnostic::error(keys.span("rejoin"), message).help(help));
    }
    if pool.protocol == Protocol::Redis {
        if pool.rejoin == Rejoin::Safe {
            let message = "`rejoin: safe` is for memcached pools: a Redis write is more than what a delete undoes";
            let help = "write `rejoin: flush`, or leave it at `keep`";
            findings.push(Diagnostic::error(keys.span("rejoin"), message).help(help));
        }
        if keys.find("join_gets").is_some() {
            let message = "`join_gets` is for memcached pools: Redis answers many requests with one write anyway";
            findings.push(Diagnostic::error(keys.span("join_gets"), message).help("leave it out"));
        }
        if pool.failover_ttl.is_some() {
            let message = "`failover_ttl` is for memcached pools: not every Redis write has a lifetime";
            findings.push(Diagnostic::error(keys.span("failover_ttl"), message).help("leave it out"));
        }
    }
    if pool.failover_ttl.is_some() && pool.on_eject == OnEject::Hold {
        let message =
            "`failover_ttl` has no meaning with `on_eject: hold`: no key is ever written elsewhere".to_owned();
        findings.push(Diagnostic::error(keys.span("failover_ttl"), message).help("keep one of the two"));
    }
}

fn hash_tag(text: &str) -> Result<[u8; 2], value::Wrong> {
    <[u8; 2]>::try_from(text.as_bytes()).map_err(|_| value::Wrong {
        message: format!("`{text}` is not a pair of marks"),
        help: Some("write exactly two characters, the opening and the closing one, in quotes: \"{}\"".to_owned()),
    })
}

/// What works, but hardly as it was meant.
fn warn(pool: &Pool, key: &Node, keys: &Keys<'_>, findings: &mut Findings) {
    let name = &pool.name;
    if keys.find("redis_databases").is_none() && pool.redis.db >= USUAL_DATABASES {
        let message = format!(
            "`redis_db` {} is not one of the {USUAL_DATABASES} databases that Redis usually has",
            pool.redis.db
        );
        let help = "write how many the servers have, `redis_databases`, or a smaller number";
        findings.push(Diagnostic::warning(keys.span("redis_db"), message).help(help));
    }
    if pool.absorb_add && pool.on_failure != OnFailure::Absorb {
        let message = format!("`absorb_add` of pool `{name}` does nothing without `on_failure: absorb`");
        findings.push(Diagnostic::warning(keys.span("absorb_add"), message).help("add that, or leave the line out"));
    }
    if pool.redis.null_scripts && pool.on_failure == OnFailure::Error {
        let message = format!("`on_failure_scripts` of pool `{name}` does nothing with `on_failure: error`");
        let help = "write `on_failure: miss`, or leave the line out";
        findings.push(Diagnostic::warning(keys.span("on_failure_scripts"), message).help(help));
    }
    let percent = pool.max_ejected_percent;
    if pool.auto_eject_hosts && percent > 0 && pool.servers.len() * percent as usize / 100 == 0 {
        let message = format!(
            "{percent} % of {} servers is none: no server of pool `{name}` is ever ejected",
            pool.servers.len()
        );
        let help = format!("write at least {}", 100usize.div_ceil(pool.servers.len().max(1)));
        findings.push(Diagnostic::warning(keys.span("max_ejected_percent"), message).help(help));
    }
    for key in ["redis_auth", "redis_user"] {
        if keys.find(key).is_some_and(|(_, node)| node.scalar() == Some("")) {
            let message = format!("`{key}` of pool `{name}` is empty, which no server takes");
            findings.push(Diagnostic::warning(keys.span(key), message).help("write it, or leave the line out"));
        }
    }
    if pool.hash == HashKind::Crc32 && pool.distribution == Distribution::Ketama && pool.servers.len() > 1 {
        let warning = Diagnostic::warning(
            keys.span("hash"),
            format!("in pool `{name}` one server gets every key: `crc32` has 15 bits, and ketama needs 32"),
        )
        .help("use `crc32a` (all keys move), or `distribution: modula` as other clients with this hash do");
        findings.push(warning);
    }
    if pool.distribution == Distribution::Ketama && pool.servers.len() > 1 {
        let total = pool.servers.iter().map(|server| server.weight).fold(0, u32::saturating_add);
        for server in &pool.servers {
            if ketama_groups(server.weight, total, pool.servers.len()) == 0 {
                let warning = Diagnostic::warning(
                    keys.span("servers"),
                    format!(
                        "server `{}` of pool `{name}` gets no keys: its weight {} of {total} rounds to no points",
                        server.name, server.weight
                    ),
                )
                .help("raise its weight, or leave it out");
                findings.push(warning);
            }
        }
    }
    match pool.timeout {
        None => {
            let warning = Diagnostic::warning(
                Some(key.span.clone()),
                format!("pool `{name}` has no `timeout`: while a server hangs, its requests wait for ever"),
            )
            .help("add `timeout: 400` (milliseconds)");
            findings.push(warning);
        }
        Some(timeout) if pool.auto_eject_hosts && pool.server_retry_timeout < timeout => {
            let span = keys.span("server_retry_timeout").or_else(|| keys.span("timeout"));
            let warning = Diagnostic::warning(
                span,
                format!("in pool `{name}` an ejected server is probed before a request to it would time out"),
            )
            .help("make `server_retry_timeout` longer than `timeout`; 2000 to 30000 is usual");
            findings.push(warning);
        }
        Some(_) => {}
    }
}

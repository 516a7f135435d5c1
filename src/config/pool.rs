//! One pool of the file.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not the wanted kind of node is named in the message")]

use std::time::Duration;

use super::diagnostic::{Diagnostic, Severity};
use super::discovery::is_open;
use super::findings::{Findings, Keys};
use super::model::{
    Address, Discovery, Distribution, HashKind, OnEject, OnFailure, Pool, Protocol, Rejoin, Resolve, Server, Stall,
    ketama_groups,
};
use super::options::{Draft, Only, POOL};
use super::raw::{Content, Node};
use super::text::visible;
use super::together::Found;
use super::{near_cache, sasl, servers, slips, stampede};

/// Keys that have a meaning in the plan of this program and none in this version.
const LATER: [&str; 2] = ["tls", "server_tls"];

/// Options that say where servers are which the file does not list.
const FILE: &str = "servers_file";
const ENDPOINT: &str = "auto_discovery";

/// Databases of a Redis server that is not told otherwise.
const USUAL_DATABASES: u32 = 16;

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
    let keys = Keys::new(pairs, POOL, &LATER, "a pool", findings);
    let before = findings.list.len();
    let required = |name_of_key: &str, help: &str, findings: &mut Findings| {
        if keys.find(name_of_key).is_none() {
            let message = format!("pool `{name}` has no `{name_of_key}`");
            findings.push(Diagnostic::error(Some(key.span.clone()), message).label("in this pool").help(help));
        }
    };
    required("listen", "add `listen: 127.0.0.1:11211`, the address that the application connects to", findings);
    if [FILE, ENDPOINT].iter().all(|name| keys.find(name).is_none()) {
        required("servers", "add `servers:` with a line `- host:port:weight name` for each server", findings);
    }

    let servers = keys.find("servers").map(|(key, node)| servers::resolve(key, node, findings)).unwrap_or_default();
    let is_redis = keys.find("redis").is_some_and(|(_, node)| node.scalar() == Some("true"));
    of_another_protocol(if is_redis { Protocol::Redis } else { Protocol::Memcache }, &keys, findings);
    let mut draft = Draft::new(name, servers.iter().map(|(server, _)| server.clone()).collect());
    let said = keys.read(POOL, &mut draft, findings);
    let stall = stall(&draft, &keys, findings);
    let mut pool = draft.pool;
    pool.stall = stall;
    pool.stampede = keys.find("stampede").and_then(|(_, node)| stampede::resolve(node, findings));
    pool.near_cache = keys.find("near_cache").and_then(|(_, node)| near_cache::resolve(node, findings));
    pool.sasl = keys.find("sasl").and_then(|(key, node)| sasl::resolve(key, node, findings));
    if pool.protocol == Protocol::Redis && !said.contains(&"on_failure") {
        pool.on_failure = OnFailure::Error;
    }
    if !said.contains(&"redis_databases") {
        pool.redis.databases = pool.redis.databases.max(pool.redis.db + 1);
    }
    contradictions(&pool, &said, &keys, findings);
    if !findings.list[before..].iter().any(|one| one.severity == Severity::Error) {
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
    let listen = keys.span("listen").filter(|_| said.contains(&"listen"))?;
    Some(Found { pool, listen, value_limit: keys.span("value_limit"), servers: spans })
}

/// Options that only pools of the other protocol have.
fn of_another_protocol(protocol: Protocol, keys: &Keys<'_>, findings: &mut Findings) {
    for about in POOL.iter().map(|option| &option.about) {
        if about.only.is_of(protocol) || keys.find(about.name).is_none() {
            continue;
        }
        let (message, help) = match about.only {
            Only::Memcached(why) => (format!("`{}` is for memcached pools: {why}", about.name), "leave it out"),
            Only::Redis | Only::Any => (
                format!("`{}` is only for a redis pool", about.name),
                "add `redis: true` if this pool speaks Redis, or leave the line out",
            ),
        };
        findings.push(Diagnostic::error(keys.span(about.name), message).help(help));
    }
}

/// The bounds of stall detection. It works within `timeout`, so without one there is none.
fn stall(draft: &Draft, keys: &Keys<'_>, findings: &mut Findings) -> Option<Stall> {
    let (least, most, timeout) = (draft.stall_min, draft.stall_max, draft.pool.timeout);
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
    draft.stall_detection.then(|| Stall { least, most: most.unwrap_or(timeout).max(least) })
}

/// What of servers that are found works, but hardly as it was meant.
fn discovery(pool: &Pool, keys: &Keys<'_>, findings: &mut Findings) {
    let name = &pool.name;
    let mut warn = |key: &str, message: String, help: &str| {
        findings.push(Diagnostic::warning(keys.span(key), message).help(help));
    };
    let place = [FILE, ENDPOINT, "resolve", "servers"].into_iter().find(|key| keys.find(key).is_some());
    if let (true, Distribution::Modula, Some(place)) = (is_open(pool), pool.distribution, place) {
        let message =
            format!("when a server of pool `{name}` comes or goes, most keys move: its distribution is modula");
        warn(place, message, "use `distribution: ketama`, where only the keys of that server do");
    }
    let Discovery { interval, settle, endpoint, resolve, .. } = &pool.discovery;
    let is_service = |server: &Server| matches!(server.address, Address::Sought(_));
    let once = [
        (ENDPOINT, endpoint.is_some()),
        ("resolve", *resolve == Resolve::All && is_open(pool)),
        ("servers", pool.listed().iter().any(is_service)),
    ];
    if interval.is_none()
        && let Some((place, _)) = once.into_iter().find(|(_, is_asked)| *is_asked)
    {
        let message = format!("the servers of pool `{name}` are asked for once only, as `resolve_interval` is 0");
        warn(place, message, "give it an interval, such as `30s`");
    }
    if let Some(interval) = interval
        && keys.find("settle").is_some()
        && *settle > *interval / 4
    {
        let message = format!("`settle` of pool `{name}` is cut to a quarter of `resolve_interval`, which is less");
        warn("settle", message, "make it shorter, or the interval longer");
    }
    if pool.discovery.resolve == Resolve::All && !is_open(pool) {
        let message =
            format!("`resolve: all` of pool `{name}` does nothing: no server of it has a name to be looked up");
        warn("resolve", message, "write the name that has their addresses, or leave the line out");
    }
}

/// What cannot be meant together.
fn contradictions(pool: &Pool, said: &[&str], keys: &Keys<'_>, findings: &mut Findings) {
    if pool.rejoin == Rejoin::Safe && pool.on_eject == OnEject::Rehash && pool.distribution != Distribution::Ketama {
        let distribution = pool.distribution.name();
        let message = format!("`rejoin: safe` cannot be kept with `distribution: {distribution}`");
        let help = "there, keys of every server move when one leaves or returns: write `on_eject: hold`, or use ketama";
        findings.push(Diagnostic::error(keys.span("rejoin"), message).help(help));
    }
    if pool.stampede.is_some() && pool.distribution == Distribution::Random {
        let message = "`stampede` cannot be kept with `distribution: random`: no two requests for a key ask one server";
        let help = "use `distribution: ketama`, or leave `stampede` out";
        findings.push(Diagnostic::error(keys.span("stampede"), message).help(help));
    }
    if pool.near_cache.is_some() && pool.distribution == Distribution::Random {
        let message =
            "`near_cache` cannot be kept with `distribution: random`: each server has another value for a key";
        let help = "use `distribution: ketama`, or leave `near_cache` out";
        findings.push(Diagnostic::error(keys.span("near_cache"), message).help(help));
    }
    if pool.protocol == Protocol::Redis && pool.rejoin == Rejoin::Safe {
        let message = "`rejoin: safe` is for memcached pools: a Redis write is more than what a delete undoes";
        let help = "write `rejoin: flush`, or leave it at `keep`";
        findings.push(Diagnostic::error(keys.span("rejoin"), message).help(help));
    }
    if pool.redis.user.is_some() && pool.redis.auth.is_none() {
        let message = "`redis_user` has no password".to_owned();
        findings.push(
            Diagnostic::error(keys.span("redis_user"), message).help("add `redis_auth`, or leave `redis_user` out"),
        );
    }
    if pool.redis.db >= pool.redis.databases {
        let message = format!("`redis_db` {} is not one of {} databases, from 0", pool.redis.db, pool.redis.databases);
        findings.push(Diagnostic::error(keys.span("redis_db"), message).help("raise `redis_databases`"));
    }
    if pool.servers.is_empty() && pool.discovery.file.is_none() && pool.discovery.endpoint.is_none() {
        // Of those, one is there that is `none`.
        if let Some(key) = [FILE, ENDPOINT].into_iter().find(|key| keys.find(key).is_some())
            && keys.find("servers").is_none()
            && [FILE, ENDPOINT].iter().all(|key| said.contains(key) || keys.find(key).is_none())
        {
            let message = format!("pool `{}` has no `servers`, and `{key}` gives it none", pool.name);
            findings.push(Diagnostic::error(keys.span(key), message).help("add `servers:`, or write where they are"));
        }
    }
    if pool.failover_ttl.is_some() && pool.on_eject == OnEject::Hold {
        let message =
            "`failover_ttl` has no meaning with `on_eject: hold`: no key is ever written elsewhere".to_owned();
        findings.push(Diagnostic::error(keys.span("failover_ttl"), message).help("keep one of the two"));
    }
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
    discovery(pool, keys, findings);
    let percent = pool.max_ejected_percent;
    if !is_open(pool) && pool.auto_eject_hosts && percent > 0 && pool.servers.len() * percent as usize / 100 == 0 {
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

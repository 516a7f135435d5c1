//! What a pool can be told, in the order of the pages.

use std::path::PathBuf;
use std::time::Duration;

use super::{Form, Opt, below, new, quoted, twemproxys};
use crate::config::discovery::Endpoint;
use crate::config::model::{Address, Listen, NearCache, Pool, Server, Stampede, Users};
use crate::config::value;

/// A pool while it is read.
#[derive(Debug)]
pub(in crate::config) struct Draft {
    pub(in crate::config) pool: Pool,
    pub(in crate::config) stall_detection: bool,
    pub(in crate::config) stall_min: Option<Duration>,
    pub(in crate::config) stall_max: Option<Duration>,
}

impl Draft {
    /// A pool of which nothing has been read but its name and its servers.
    pub(in crate::config) fn new(name: &str, servers: Vec<Server>) -> Self {
        let nowhere = Listen::Unix { path: PathBuf::new(), mode: None };
        Self { pool: Pool::new(name, nowhere, servers), stall_detection: true, stall_min: None, stall_max: None }
    }
}

/// A field of a pool, as an option.
macro_rules! pool {
    ($($field:ident).+) => {
        field!(one: Draft, Pool => one.pool.$($field).+, one.$($field).+)
    };
    ($($field:ident).+, $words:expr) => {
        Form::Single {
            read: |one: &mut Draft, text, _| {
                one.pool.$($field).+ = value::choice(text, &$words)?;
                Ok(())
            },
            write: |one: &Pool| value::word(one.$($field).+, &$words),
        }
    };
}

/// The option that lists the servers.
pub(in crate::config) const SERVERS: &str = "servers";

/// The most of what is counted without a limit of its own.
const COUNT: u64 = u32::MAX as u64;

/// What a duration may be.
const DAY: &str = "up to a day";

/// Every option of a pool.
pub(in crate::config) static POOL: &[Opt<Draft, Pool>] = &[
    twemproxys("listen", pool!(listen)).required().example("127.0.0.1:11211").what(
        "where clients connect: host:port, [::1]:port, or a unix socket with optional mode\n\
         bits: /run/softmiss/cache.sock 0660",
    ),
    twemproxys("redis", pool!(protocol))
        .default("false")
        .example("true")
        .what("clients and servers speak Redis (RESP2 and RESP3)"),
    twemproxys("hash", pool!(hash))
        .default("fnv1a_64")
        .what("one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh murmur jenkins"),
    twemproxys("hash_tag", pool!(hash_tag))
        .limits("2 characters")
        .example("\"{}\"")
        .rare()
        .what("hash only what stands between these two characters; none by default"),
    twemproxys("distribution", pool!(distribution)).default("ketama").what("ketama, modula, random"),
    twemproxys("timeout", pool!(timeout))
        .limits(DAY)
        .example("400")
        .what("a request is answered after this at the latest; none (0) waits for ever, the default"),
    twemproxys("auto_eject_hosts", pool!(auto_eject_hosts))
        .default("false")
        .example("true")
        .what("take failing servers out of the ring; false by default"),
    twemproxys(
        "server_failure_limit",
        field!(one: Draft, Pool => one.pool.server_failure_limit, value::failures; one.server_failure_limit),
    )
    .alias("fall")
    .default("2")
    .numbers(0, COUNT)
    .example("3")
    .what("after so many failures in a row; 2 by default"),
    twemproxys("server_retry_timeout", pool!(server_retry_timeout))
        .default("30000")
        .limits(DAY)
        .example("2000")
        .what("then probe it in the background after this; 30000 by default"),
    new("on_failure", pool!(on_failure)).default("miss").what(
        "what the client is told: miss (\"not there\"), error (twemproxy's error lines; the default\n\
         of Redis pools), or absorb (as miss, but a plain set is told STORED)",
    ),
    new("absorb_add", pool!(absorb_add))
        .default("false")
        .what("with absorb, add is told STORED as well; never where add is used as a lock"),
    new("on_eject", pool!(on_eject))
        .default("rehash")
        .what("its keys go to the other servers; hold: they stay its own, answered by on_failure"),
    new("rejoin", pool!(rejoin)).default("keep").example("safe").what(
        "what becomes of its items when it is back: keep (as twemproxy, the default),\n\
         flush, or safe (delete first what was changed while it was away)",
    ),
    new(
        "failover_ttl",
        field!(one: Draft, Pool => one.pool.failover_ttl, value::failover_ttl; one.failover_ttl.map(|ttl| format!("{ttl}s"))),
    )
    .limits("1s to a day")
    .memcached("not every Redis write has a lifetime")
    .example("60s")
    .what("longest lifetime of what is written away from its home; no limit by default"),
    new("warmup", pool!(warmup))
        .default("0")
        .limits(DAY)
        .example("10m")
        .what(
            "after a reload that changes the servers: for so long, a key that moved is brought\n\
             along from the server that it was at; off by default",
        ),
    new("stampede", Form::Lines { write: |pool: &Pool| pool.stampede.as_ref().map(|stampede| below(STAMPEDE, stampede)) })
        .default("false")
        .limits("`wait` (`2s`, up to `1m`), `lease` (`5s`, `1s` to `1h`), `stale` (`0`, up to a day), `keys` (all), `true` for these")
        .example("{wait: 2s, lease: 5s, stale: 30s, keys: [\"page:\"]}")
        .rare()
        .what("who misses a key first computes it, and the others wait for the value, or get the one before for `stale` after its end; off by default"),
    new(
        "near_cache",
        Form::Lines { write: |pool: &Pool| pool.near_cache.as_ref().map(|near_cache| below(NEAR_CACHE, near_cache)) },
    )
    .default("false")
    .limits(
        "`size` (`64mb`, `1mb` to `16gb`), `ttl` (`1s`, up to `1h`), `keys` (all), `stale_on_error` (`0`, up to a day), `true` for these",
    )
    .example("{size: 64mb, ttl: 1s, keys: [\"page:\"]}")
    .rare()
    .what("values that are asked for often are answered here for `ttl`, without a server; off by default"),
    new("rise", pool!(rise))
        .default("1")
        .numbers(1, 100)
        .what("good probes in a row that bring a server back: 1 to 100"),
    new("max_ejected_percent", pool!(max_ejected_percent))
        .default("100")
        .numbers(0, 100)
        .what("never more of the servers out than this; 100 lets all of them go"),
    new("flap_limit", field!(one: Draft, Pool => one.pool.flap_limit, value::flap_limit; one.flap_limit.unwrap_or_default()))
        .default("6")
        .limits("0, 2 to 1000")
        .what("ring changes per minute that one server may cause, then it stays out; 0: no limit"),
    new("stall_detection", field!(one: Draft, Pool => one.stall_detection, one.stall.is_some()))
        .default("true")
        .what("answer at once for a server that is silent for longer than it ever is"),
    new("stall_min", field!(one: Draft, Pool => one.stall_min, one.stall?.least))
        .default_told("a tenth of `timeout`, from `40ms`")
        .limits("up to `timeout`")
        .example("40ms")
        .what("no shorter silence counts; a tenth of timeout by default, at least 40ms"),
    new("stall_max", field!(one: Draft, Pool => one.stall_max, one.stall?.most))
        .default_told("`timeout`")
        .limits("up to `timeout`")
        .example("400ms")
        .what("any longer silence counts; timeout by default"),
    twemproxys("server_connections", pool!(server_connections))
        .default("1")
        .numbers(1, 1024)
        .fixed()
        .what("to each server, from each worker: 1 to 1024"),
    new("server_reconnect_limit", pool!(server_reconnect_limit))
        .default("10")
        .numbers(1, 10_000)
        .what("new connections per second to a server that lost its last ones: 1 to 10000"),
    new("join_gets", pool!(join_gets))
        .default("true")
        .memcached("Redis answers many requests with one write anyway")
        .what("gets of several clients that wait for one server go out in one line"),
    twemproxys("preconnect", pool!(preconnect)).default("false").what("open them at start"),
    twemproxys("backlog", pool!(backlog))
        .default("512")
        .numbers(0, 65_535)
        .what("length of the listen queue"),
    twemproxys("client_connections", pool!(client_connections))
        .numbers(0, COUNT)
        .example("10000")
        .rare()
        .what("turn further clients away; no limit but that on open files by default"),
    twemproxys("tcpkeepalive", pool!(tcpkeepalive)).default("false").what("SO_KEEPALIVE on client connections"),
    twemproxys("reuseport", pool!(reuseport))
        .default("false")
        .fixed()
        .what("SO_REUSEPORT on the listener, so that two processes can share the port"),
    new("value_limit", pool!(value_limit))
        .default("64mb")
        .sizes(1 << 10, 1 << 30)
        .what("larger values are refused as memcached refuses them: 1kb to 1gb"),
    new(
        "sasl",
        Form::Secrets {
            write: |pool: &Pool| pool.sasl.as_ref().map(Users::told),
            compare: |pool: &Pool| pool.sasl.as_ref().map(Users::compared),
        },
    )
    .memcached("clients of a redis pool give the password of `redis_auth`")
    .secret()
    .limits("`user:password`, a list of them, the whole path of a file")
    .example("[\"app:secret\"]")
    .rare()
    .what("clients must say who they are: users and passwords, or a file with a line\n\
           `user:password` for each; by default everybody may come in"),
    twemproxys("redis_auth", pool!(redis.auth))
        .redis()
        .secret()
        .example("secret")
        .rare()
        .what("clients must give this password, and servers are given it; none by default"),
    new("redis_user", pool!(redis.user))
        .redis()
        .default_told("the default user")
        .example("app")
        .rare()
        .what("the user that it belongs to; the default user by default"),
    twemproxys("redis_db", pool!(redis.db))
        .redis()
        .default("0")
        .numbers(0, 100_000)
        .fixed()
        .what("the database that clients start in"),
    new("redis_databases", pool!(redis.databases))
        .redis()
        .default("16")
        .numbers(1, 100_000)
        .what("databases that clients may select: as many as the servers have"),
    new("transactions", pool!(redis.transactions))
        .redis()
        .default("split")
        .what("over several servers in parts; single: refuse what needs two servers"),
    new("keyless_scripts", pool!(redis.keyless_scripts))
        .redis()
        .default("any")
        .what("scripts without keys run on any server; refuse: they do not"),
    new("on_failure_scripts", pool!(redis.null_scripts, [("error", false), ("miss", true)]))
        .redis()
        .default("error")
        .what("a script with one key whose server failed, with miss and absorb; miss: null"),
    new("unknown_commands", pool!(redis.routes_unknown, [("first_argument", true), ("refuse", false)]))
        .redis()
        .default("first_argument")
        .what("go to the server of their first argument; refuse: they are refused here"),
    new("dedicated_connections", pool!(redis.dedicated_connections))
        .redis()
        .default("1000")
        .numbers(0, 1_000_000)
        .what("for blocking commands, WATCH and subscriptions, in each worker; more are refused"),
    new("resolve_interval", field!(one: Draft, Pool => one.pool.discovery.interval, value::resolve_interval; one.discovery.interval))
        .default("30s")
        .limits("`0`, 100ms to a day")
        .what("look names of servers up again: one that has moved takes its keys along; 0: never"),
    new("settle", field!(one: Draft, Pool => one.pool.discovery.settle, value::settle; one.discovery.settle))
        .default("2s")
        .limits("up to `10m`")
        .what("what has changed there is looked at again after this, and holds if it is the same"),
    new("resolve", pool!(discovery.resolve))
        .default("first")
        .what("a name is one server; all: each of its addresses is one, as with headless services"),
    new("servers_file", field!(one: Draft, Pool => one.pool.discovery.file, value::whole_path; one.discovery.file))
        .limits("a whole path, `none`")
        .example("/etc/softmiss/servers")
        .rare()
        .what("further servers, one on each line as below; a changed file is taken up by itself"),
    new("auto_discovery", field!(one: Draft, Pool => one.pool.discovery.endpoint, Endpoint::read; one.discovery.endpoint.as_ref().map(Endpoint::to_string)))
        .memcached("no Redis answers `config get cluster`")
        .example("cache.example.com:11211")
        .rare()
        .what("the configuration endpoint of ElastiCache or Memorystore, which knows the servers"),
    twemproxys(SERVERS, Form::Lines { write: |pool: &Pool| Some(servers(pool)).filter(|lines| !lines.is_empty()) })
        .default_told("required without `servers_file` and `auto_discovery`")
        .numbers(1, 65_535)
        .what("host:port:weight name, /path/of/socket:weight name, or _service._tcp.name:weight"),
];

/// Every option of `stampede`.
pub(in crate::config) static STAMPEDE: &[Opt<Stampede>] = &[
    new("wait", field!(one: Stampede => one.wait, value::stampede_wait; one.wait)).default("2s").limits("up to 1m"),
    new("lease", field!(one: Stampede => one.lease, value::stampede_lease; one.lease)).default("5s").limits("1s to 1h"),
    new("stale", field!(one: Stampede => one.stale, value::stampede_stale; one.stale))
        .default("0")
        .limits("up to a day"),
    new(KEYS, Form::Lines { write: |one: &Stampede| Some(begins(&one.keys)).filter(|lines| !lines.is_empty()) }),
];

/// Every option of `near_cache`.
pub(in crate::config) static NEAR_CACHE: &[Opt<NearCache>] = &[
    new("size", field!(one: NearCache => one.size, value::near_size; one.size)).default("64mb").limits("1mb to 16gb"),
    new("ttl", field!(one: NearCache => one.ttl, value::near_ttl; one.ttl)).default("1s").limits("up to 1h"),
    new("stale_on_error", field!(one: NearCache => one.stale_on_error, value::near_stale; one.stale_on_error))
        .default("0")
        .limits(DAY),
    new(KEYS, Form::Lines { write: |one: &NearCache| Some(begins(&one.keys)).filter(|lines| !lines.is_empty()) }),
];

/// The option of both that lists what keys begin with.
pub(in crate::config) const KEYS: &str = "keys";

/// What the keys begin with that are meant.
fn begins(keys: &[String]) -> Vec<String> {
    keys.iter().map(|begin| format!("  - {}", serde_json::Value::from(begin.as_str()))).collect()
}

/// The servers, in the order of the file.
fn servers(pool: &Pool) -> Vec<String> {
    let mut servers: Vec<&Server> = pool.listed().iter().collect();
    servers.sort_by_key(|server| server.position);
    let line = |server: &&Server| {
        let (place, weight) = (&server.address, server.weight);
        let line = match place {
            Address::Sought(_) => format!("{place}:{weight}"),
            Address::Tcp { .. } | Address::Found { .. } | Address::Unix(_) => {
                format!("{place}:{weight} {}", server.ring_name())
            }
        };
        format!("  - {}", quoted(&line))
    };
    servers.iter().map(line).collect()
}

//! What a pool can be told, in the order of the pages.

use std::path::PathBuf;
use std::time::Duration;

use super::Default::{Is, Required, Told};
use super::{About, Change, Form, Limits, NEW, Only, Opt, TWEMPROXYS, quoted};
use crate::config::model::{Address, Listen, Pool, Server};
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
        field!(one => one.pool.$($field).+, one.$($field).+)
    };
    ($($field:ident).+, $words:expr) => {
        Form::Single {
            read: |one, text, _| {
                one.pool.$($field).+ = value::choice(text, &$words)?;
                Ok(())
            },
            write: |one| value::word(one.$($field).+, &$words),
        }
    };
}

const TIME: Limits = Limits::Told("up to a day");
const COUNT: Limits = Limits::Numbers(0, u32::MAX as u64);
const REDIS: About = About { only: Only::Redis, ..NEW };

/// Every option of a pool.
pub(in crate::config) static POOL: &[Opt<Draft, Pool>] = &[
    Opt {
        about: About {
            name: "listen",
            default: Required,
            change: Change::Start,
            example: "127.0.0.1:11211",
            what: "where clients connect: host:port, [::1]:port, or a unix socket with optional mode\n\
                   bits: /run/softmiss/cache.sock 0660",
            ..TWEMPROXYS
        },
        form: pool!(listen),
    },
    Opt {
        about: About {
            name: "redis",
            default: Is("false"),
            change: Change::Start,
            example: "true",
            what: "clients and servers speak Redis (RESP2 and RESP3)",
            ..TWEMPROXYS
        },
        form: pool!(protocol),
    },
    Opt {
        about: About {
            name: "hash",
            default: Is("fnv1a_64"),
            what: "one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh murmur jenkins",
            ..TWEMPROXYS
        },
        form: pool!(hash),
    },
    Opt {
        about: About {
            name: "hash_tag",
            limits: Limits::Told("2 characters"),
            example: "\"{}\"",
            is_rare: true,
            what: "hash only what stands between these two characters; none by default",
            ..TWEMPROXYS
        },
        form: pool!(hash_tag),
    },
    Opt {
        about: About { name: "distribution", default: Is("ketama"), what: "ketama, modula, random", ..TWEMPROXYS },
        form: pool!(distribution),
    },
    Opt {
        about: About {
            name: "timeout",
            limits: TIME,
            example: "400",
            what: "a request is answered after this at the latest; none (0) waits for ever, the default",
            ..TWEMPROXYS
        },
        form: pool!(timeout),
    },
    Opt {
        about: About {
            name: "auto_eject_hosts",
            default: Is("false"),
            example: "true",
            what: "take failing servers out of the ring; false by default",
            ..TWEMPROXYS
        },
        form: pool!(auto_eject_hosts),
    },
    Opt {
        about: About {
            name: "server_failure_limit",
            alias: Some("fall"),
            default: Is("2"),
            limits: COUNT,
            example: "3",
            what: "after so many failures in a row; 2 by default",
            ..TWEMPROXYS
        },
        form: Form::Single {
            read: |one, text, _| {
                // 0 acts as 1.
                let limit = value::number(text, 0, u64::from(u32::MAX))?;
                one.pool.server_failure_limit = u32::try_from(limit).unwrap_or(u32::MAX).max(1);
                Ok(())
            },
            write: |one| Some(one.server_failure_limit.to_string()),
        },
    },
    Opt {
        about: About {
            name: "server_retry_timeout",
            default: Is("30000"),
            limits: TIME,
            example: "2000",
            what: "then probe it in the background after this; 30000 by default",
            ..TWEMPROXYS
        },
        form: pool!(server_retry_timeout),
    },
    Opt {
        about: About {
            name: "on_failure",
            default: Is("miss"),
            what: "what the client is told: miss (\"not there\"), error (twemproxy's error lines), or\n\
                   absorb (as miss, but a plain set is told STORED)",
            ..NEW
        },
        form: pool!(on_failure),
    },
    Opt {
        about: About {
            name: "absorb_add",
            default: Is("false"),
            what: "with absorb, add is told STORED as well; never where add is used as a lock",
            ..NEW
        },
        form: pool!(absorb_add),
    },
    Opt {
        about: About {
            name: "on_eject",
            default: Is("rehash"),
            what: "its keys go to the other servers; hold: they stay its own, answered by on_failure",
            ..NEW
        },
        form: pool!(on_eject),
    },
    Opt {
        about: About {
            name: "rejoin",
            default: Is("keep"),
            example: "safe",
            what: "what becomes of its items when it is back: keep (as twemproxy, the default),\n\
                   flush, or safe (delete first what was changed while it was away)",
            ..NEW
        },
        form: pool!(rejoin),
    },
    Opt {
        about: About {
            name: "failover_ttl",
            limits: Limits::Told("1s to a day"),
            only: Only::Memcached("not every Redis write has a lifetime"),
            example: "60s",
            what: "longest lifetime of what is written away from its home; no limit by default",
            ..NEW
        },
        form: Form::Single {
            read: |one, text, _| {
                one.pool.failover_ttl = Some(value::failover_ttl(text)?);
                Ok(())
            },
            write: |one| one.failover_ttl.map(|seconds| format!("{seconds}s")),
        },
    },
    Opt {
        about: About {
            name: "rise",
            default: Is("1"),
            limits: Limits::Numbers(1, 100),
            what: "good probes in a row that bring a server back: 1 to 100",
            ..NEW
        },
        form: pool!(rise),
    },
    Opt {
        about: About {
            name: "max_ejected_percent",
            default: Is("100"),
            limits: Limits::Numbers(0, 100),
            what: "never more of the servers out than this; 100 lets all of them go",
            ..NEW
        },
        form: pool!(max_ejected_percent),
    },
    Opt {
        about: About {
            name: "flap_limit",
            default: Is("6"),
            limits: Limits::Told("0, 2 to 1000"),
            what: "ring changes per minute that one server may cause, then it stays out; 0: no limit",
            ..NEW
        },
        form: Form::Single {
            read: |one, text, _| {
                one.pool.flap_limit = value::flap_limit(text)?;
                Ok(())
            },
            write: |one| Some(one.flap_limit.unwrap_or_default().to_string()),
        },
    },
    Opt {
        about: About {
            name: "stall_detection",
            default: Is("true"),
            what: "answer at once for a server that is silent for longer than it ever is",
            ..NEW
        },
        form: field!(one => one.stall_detection, one.stall.is_some()),
    },
    Opt {
        about: About {
            name: "stall_min",
            default: Told("a tenth of `timeout`, from `40ms`"),
            limits: Limits::Told("up to `timeout`"),
            example: "40ms",
            what: "no shorter silence counts; a tenth of timeout by default, at least 40ms",
            ..NEW
        },
        form: field!(one => one.stall_min, one.stall?.least),
    },
    Opt {
        about: About {
            name: "stall_max",
            default: Told("`timeout`"),
            limits: Limits::Told("up to `timeout`"),
            example: "400ms",
            what: "any longer silence counts; timeout by default",
            ..NEW
        },
        form: field!(one => one.stall_max, one.stall?.most),
    },
    Opt {
        about: About {
            name: "server_connections",
            default: Is("1"),
            limits: Limits::Numbers(1, 1024),
            what: "to each server, from each worker: 1 to 1024",
            ..TWEMPROXYS
        },
        form: pool!(server_connections),
    },
    Opt {
        about: About {
            name: "server_reconnect_limit",
            default: Is("10"),
            limits: Limits::Numbers(1, 10_000),
            what: "new connections per second to a server that lost its last ones: 1 to 10000",
            ..NEW
        },
        form: pool!(server_reconnect_limit),
    },
    Opt {
        about: About {
            name: "join_gets",
            default: Is("true"),
            only: Only::Memcached("Redis answers many requests with one write anyway"),
            what: "gets of several clients that wait for one server go out in one line",
            ..NEW
        },
        form: pool!(join_gets),
    },
    Opt {
        about: About {
            name: "preconnect",
            default: Is("false"),
            change: Change::Start,
            what: "open them at start",
            ..TWEMPROXYS
        },
        form: pool!(preconnect),
    },
    Opt {
        about: About {
            name: "backlog",
            default: Is("512"),
            limits: Limits::Numbers(0, 65_535),
            change: Change::Start,
            what: "length of the listen queue",
            ..TWEMPROXYS
        },
        form: pool!(backlog),
    },
    Opt {
        about: About {
            name: "client_connections",
            limits: COUNT,
            example: "10000",
            is_rare: true,
            what: "turn further clients away; no limit but that on open files by default",
            ..TWEMPROXYS
        },
        form: pool!(client_connections),
    },
    Opt {
        about: About {
            name: "tcpkeepalive",
            default: Is("false"),
            what: "SO_KEEPALIVE on client connections",
            ..TWEMPROXYS
        },
        form: pool!(tcpkeepalive),
    },
    Opt {
        about: About {
            name: "reuseport",
            default: Is("false"),
            change: Change::Start,
            what: "SO_REUSEPORT on the listener, so that two processes can share the port",
            ..TWEMPROXYS
        },
        form: pool!(reuseport),
    },
    Opt {
        about: About {
            name: "value_limit",
            default: Is("64mb"),
            limits: Limits::Sizes(1 << 10, 1 << 30),
            what: "larger values are refused as memcached refuses them: 1kb to 1gb",
            ..NEW
        },
        form: pool!(value_limit),
    },
    Opt {
        about: About {
            name: "redis_auth",
            is_secret: true,
            example: "secret",
            is_rare: true,
            is_new: false,
            what: "clients must give this password, and servers are given it; none by default",
            ..REDIS
        },
        form: pool!(redis.auth),
    },
    Opt {
        about: About {
            name: "redis_user",
            default: Told("the default user"),
            example: "app",
            is_rare: true,
            what: "the user that it belongs to; the default user by default",
            ..REDIS
        },
        form: pool!(redis.user),
    },
    Opt {
        about: About {
            name: "redis_db",
            default: Is("0"),
            limits: Limits::Numbers(0, 100_000),
            is_new: false,
            what: "the database that clients start in",
            ..REDIS
        },
        form: pool!(redis.db),
    },
    Opt {
        about: About {
            name: "redis_databases",
            default: Is("16"),
            limits: Limits::Numbers(1, 100_000),
            what: "databases that clients may select: as many as the servers have",
            ..REDIS
        },
        form: pool!(redis.databases),
    },
    Opt {
        about: About {
            name: "transactions",
            default: Is("split"),
            what: "over several servers in parts; single: refuse what needs two servers",
            ..REDIS
        },
        form: pool!(redis.transactions),
    },
    Opt {
        about: About {
            name: "keyless_scripts",
            default: Is("any"),
            what: "scripts without keys run on any server; refuse: they do not",
            ..REDIS
        },
        form: pool!(redis.keyless_scripts),
    },
    Opt {
        about: About {
            name: "on_failure_scripts",
            default: Is("error"),
            what: "a script with one key whose server failed, with miss and absorb; miss: null",
            ..REDIS
        },
        form: pool!(redis.null_scripts, [("error", false), ("miss", true)]),
    },
    Opt {
        about: About {
            name: "unknown_commands",
            default: Is("first_argument"),
            what: "go to the server of their first argument; refuse: they are refused here",
            ..REDIS
        },
        form: pool!(redis.routes_unknown, [("first_argument", true), ("refuse", false)]),
    },
    Opt {
        about: About {
            name: "dedicated_connections",
            default: Is("1000"),
            limits: Limits::Numbers(0, 1_000_000),
            what: "for blocking commands, WATCH and subscriptions, in each worker; more are refused",
            ..REDIS
        },
        form: pool!(redis.dedicated_connections),
    },
    Opt {
        about: About {
            name: "servers",
            default: Required,
            limits: Limits::Numbers(1, 65_535),
            what: "host:port:weight name, or /path/of/socket:weight name",
            ..TWEMPROXYS
        },
        form: Form::Lines { write: |pool| Some(servers(pool)) },
    },
];

/// The servers, in the order of the file.
fn servers(pool: &Pool) -> Vec<String> {
    let mut servers: Vec<&Server> = pool.servers.iter().collect();
    servers.sort_by_key(|server| server.position);
    let line = |server: &&Server| {
        let place = match &server.address {
            Address::Unix(path) => path.display().to_string(),
            address @ Address::Tcp { .. } => address.to_string(),
        };
        format!("  - {}", quoted(&format!("{place}:{} {}", server.weight, server.ring_name())))
    };
    servers.iter().map(line).collect()
}

//! A configuration as a file: every option as it is in force, defaults included, in the words of the file.
//!
//! Reading what is written here gives the same configuration again; but for what is secret, of which only that it is
//! there is told.

use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::time::Duration;

use super::model::{
    Address, Config, KeylessScripts, Listen, LogFormat, Pool, Port, Protocol, Server, Settings, Transactions,
};
use super::resolve::SETTINGS_NAME;

/// What stands in the place of passwords and tokens.
const SECRET: &str = "\"***\"";

/// The text of a file that says what `config` says.
#[must_use]
pub fn write(config: &Config) -> String {
    let mut out = Lines(String::new());
    out.settings(&config.settings);
    for pool in &config.pools {
        let _ = write!(out.0, "\n{}:\n", quoted(&pool.name));
        out.pool(pool);
    }
    out.0
}

/// A word that tells what `config` says from what others say: the same for the same settings, however they were written.
/// Passwords are not in it.
#[must_use]
pub fn version(config: &Config) -> String {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(write(config).as_bytes());
    format!("{:016x}", hasher.finish())
}

struct Lines(String);

impl Lines {
    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "  {key}: {value}");
    }

    fn settings(&mut self, settings: &Settings) {
        let _ = writeln!(self.0, "{SETTINGS_NAME}:");
        self.line("workers", settings.workers);
        self.line("memory_limit", settings.memory_limit);
        for (key, port) in [("stats", settings.stats), ("admin", settings.admin)] {
            match port {
                Port::Unsaid => {}
                Port::Off => self.line(key, "none"),
                Port::At(address) => self.line(key, quoted(&address.to_string())),
            }
        }
        if settings.admin_token.is_some() {
            self.line("admin_token", SECRET);
        }
        if let Some(statsd) = &settings.statsd {
            self.line("statsd", "");
            let host = if statsd.host.contains(':') { format!("[{}]", statsd.host) } else { statsd.host.clone() };
            self.line("  address", quoted(&format!("{host}:{}", statsd.port)));
            self.line("  prefix", quoted(&statsd.prefix));
            self.line("  interval", time(statsd.interval));
        }
        self.line("hot_keys", settings.hot_keys.unwrap_or_default());
        self.line("slow_request", time(settings.slow_request.unwrap_or_default()));
        if let Some(path) = &settings.state_dir {
            self.line("state_dir", quoted(&path.to_string_lossy()));
        }
        self.line("log", "");
        self.line("  level", settings.log.level.name());
        self.line("  format", if settings.log.format == LogFormat::Json { "json" } else { "text" });
    }

    fn pool(&mut self, pool: &Pool) {
        let redis = pool.protocol == Protocol::Redis;
        self.line("listen", listen(&pool.listen));
        self.line("redis", redis);
        self.line("hash", pool.hash.name());
        if let Some(tag) = pool.hash_tag {
            self.line("hash_tag", quoted(&String::from_utf8_lossy(&tag)));
        }
        self.line("distribution", pool.distribution.name());
        self.line("timeout", time(pool.timeout.unwrap_or_default()));
        self.line("auto_eject_hosts", pool.auto_eject_hosts);
        self.line("server_failure_limit", pool.server_failure_limit);
        self.line("server_retry_timeout", time(pool.server_retry_timeout));
        self.line("on_failure", pool.on_failure.name());
        self.line("absorb_add", pool.absorb_add);
        self.line("on_eject", pool.on_eject.name());
        self.line("rejoin", pool.rejoin.name());
        if let Some(seconds) = pool.failover_ttl {
            self.line("failover_ttl", format_args!("{seconds}s"));
        }
        self.line("rise", pool.rise);
        self.line("max_ejected_percent", pool.max_ejected_percent);
        self.line("flap_limit", pool.flap_limit.unwrap_or_default());
        self.line("stall_detection", pool.stall.is_some());
        if let Some(stall) = pool.stall {
            self.line("stall_min", time(stall.least));
            self.line("stall_max", time(stall.most));
        }
        self.line("server_connections", pool.server_connections);
        self.line("server_reconnect_limit", pool.server_reconnect_limit);
        if !redis {
            self.line("join_gets", pool.join_gets);
        }
        self.line("preconnect", pool.preconnect);
        self.line("backlog", pool.backlog);
        self.line("client_connections", pool.client_connections.unwrap_or_default());
        self.line("tcpkeepalive", pool.tcpkeepalive);
        self.line("reuseport", pool.reuseport);
        self.line("value_limit", pool.value_limit);
        if redis {
            self.redis(pool);
        }
        self.line("servers", "");
        let mut servers: Vec<&Server> = pool.servers.iter().collect();
        servers.sort_by_key(|server| server.position);
        for server in servers {
            let line = match &server.address {
                Address::Unix(path) => format!("{}:{} {}", path.display(), server.weight, server.ring_name()),
                address @ Address::Tcp { .. } => format!("{address}:{} {}", server.weight, server.ring_name()),
            };
            let _ = writeln!(self.0, "    - {}", quoted(&line));
        }
    }

    fn redis(&mut self, pool: &Pool) {
        let settings = &pool.redis;
        if settings.auth.is_some() {
            self.line("redis_auth", SECRET);
        }
        if let Some(user) = &settings.user {
            self.line("redis_user", quoted(user));
        }
        self.line("redis_db", settings.db);
        self.line("redis_databases", settings.databases);
        self.line("transactions", if settings.transactions == Transactions::Split { "split" } else { "single" });
        self.line("keyless_scripts", if settings.keyless_scripts == KeylessScripts::Any { "any" } else { "refuse" });
        self.line("on_failure_scripts", if settings.null_scripts { "miss" } else { "error" });
        self.line("unknown_commands", if settings.routes_unknown { "first_argument" } else { "refuse" });
        self.line("dedicated_connections", settings.dedicated_connections);
    }
}

fn listen(listen: &Listen) -> String {
    match listen {
        Listen::Unix { path, mode: Some(mode) } => quoted(&format!("{} {mode:04o}", path.display())),
        Listen::Unix { .. } | Listen::Tcp { .. } => quoted(&listen.to_string()),
    }
}

/// Durations of the file are whole milliseconds, and a bare 0 where there is none.
fn time(span: Duration) -> String {
    if span.is_zero() { "0".to_owned() } else { format!("{}ms", span.as_millis()) }
}

/// A text as YAML has it: bare where it can be nothing else.
fn quoted(text: &str) -> String {
    let first = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/');
    let bare = first
        && text.chars().all(|character| character.is_ascii_alphanumeric() || " _./:-".contains(character))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !["null", "true", "false"].contains(&text.to_lowercase().as_str());
    if bare { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// A file that uses what the example leaves at its default.
    const UNUSUAL: &str = "
softmiss:
  workers: 3
  stats: none
  admin: '[::1]:9'
  statsd: {address: '[::1]:8125', prefix: shop.cache, interval: 1500ms}
  hot_keys: none
  slow_request: 250ms
  state_dir: /var/lib/soft miss
  log: {level: debug, format: json}
'a: pool #1':
  listen: '/run/soft miss.sock 0660'
  hash_tag: '{}'
  distribution: modula
  timeout: 0
  on_eject: hold
  rejoin: flush
  flap_limit: 0
  client_connections: 5
  server_retry_timeout: 0
  servers: ['10.0.0.1:11211:1', '[::1]:11211:2 z', '/run/m.sock:3', 'b.example:1:1 \"odd\"']
redis:
  listen: '[::1]:6379'
  redis: true
  timeout: 1s
  redis_user: app
  redis_auth: 'a secret'
  redis_db: 3
  transactions: single
  keyless_scripts: refuse
  unknown_commands: refuse
  on_failure: absorb
  absorb_add: true
  on_failure_scripts: miss
  stall_detection: false
  servers: ['10.0.0.1:6379:1 true']
";

    #[test]
    fn what_is_written_says_the_same_when_it_is_read() {
        let twemproxy = include_str!("../../conf/twemproxy.yml");
        for file in [include_str!("../../conf/example.yml"), twemproxy, UNUSUAL] {
            let mut config = parse("file", file).map_err(|report| report.render(false)).expect("a good file").config;
            let text = write(&config);
            let again = parse("again", &text).map_err(|report| report.render(false)).expect("a good file").config;
            for pool in &mut config.pools {
                pool.redis.auth = pool.redis.auth.take().map(|_| "***".to_owned());
            }
            assert_eq!(format!("{again:#?}"), format!("{config:#?}"), "{text}");
        }
    }

    #[test]
    fn no_secret_is_told() {
        let file = UNUSUAL.replace("workers: 3", "admin_token: not-for-everybodys-eyes");
        let config = parse("file", &file).map_err(|report| report.render(false)).expect("a good file").config;
        let text = write(&config);
        assert!(text.contains("admin_token: \"***\"") && text.contains("redis_auth: \"***\""), "{text}");
        assert!(!text.contains("eyes") && !text.contains("a secret"), "{text}");
    }
}

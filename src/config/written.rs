//! A configuration as a file: every option as it is in force, defaults included, in the words of the file.
//!
//! Reading what is written here gives the same configuration again; but for what is secret, of which only that it is
//! there is told.

use std::fmt::Write as _;
use std::hash::Hasher as _;

use super::model::{Config, SETTINGS_NAME};
use super::options::{POOL, PROCESS, quoted};

/// The text of a file that says what `config` says.
#[must_use]
pub fn write(config: &Config) -> String {
    let mut out = format!("{SETTINGS_NAME}:\n");
    PROCESS.iter().for_each(|option| push(&mut out, &option.lines(&config.settings)));
    for pool in &config.pools {
        let _ = write!(out, "\n{}:\n", quoted(&pool.name));
        let options = POOL.iter().filter(|option| option.about.only.is_of(pool.protocol));
        options.for_each(|option| push(&mut out, &option.lines(pool)));
    }
    out
}

fn push(out: &mut String, lines: &[String]) {
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

/// A word that tells what `config` says from what others say: the same for the same settings, however they were written.
/// Passwords are not in it.
#[must_use]
pub fn version(config: &Config) -> String {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(write(config).as_bytes());
    format!("{:016x}", hasher.finish())
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
  resolve: all
  resolve_interval: 0
  settle: 0
  servers_file: /etc/softmiss/our servers
  servers: ['10.0.0.1:6379:1 true', '_redis._tcp.cache.example:3']
found:
  listen: /found.sock
  timeout: 1s
  auto_discovery: '[fd00::1]:11211'
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

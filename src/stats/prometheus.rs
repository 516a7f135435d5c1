//! Prometheus's text format: every statistic of the table, live at the moment of the scrape.
//!
//! Names are `softmiss_`, what they belong to, and the name in the table, with the unit and `_total` where they are due.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{Counters, Figure};
use super::histogram::Snapshot;
use super::json::Moment;
use super::table::{self, Kind, Metric};
use crate::config::model::{Config, Pool, PoolId, ServerId};
use crate::failure::Failure;
use crate::health::Registry;
use crate::health::tracker::State;
use crate::outcome::{Class, Outcome};

/// What the names of the process's statistics begin with.
pub const PROCESS: &str = "softmiss_";

/// What the names of a pool's statistics begin with.
pub const POOL: &str = "softmiss_pool_";

/// What the names of a server's statistics begin with.
pub const SERVER: &str = "softmiss_server_";

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets that are told, in microseconds.
const BOUNDS_US: [u64; 15] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000];

/// Everything that statistics are taken from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Tells it from others.
    pub config_version: &'a str,
    /// The health of the servers.
    pub registry: &'a Registry,
    /// What each worker counted.
    pub workers: &'a [Arc<Counters>],
}

impl Sources<'_> {
    /// A value, added up over the workers.
    pub fn sum<'c, F: Figure>(&'c self, value: impl Fn(&'c Counters) -> F) -> u64 {
        self.workers.iter().map(|worker| value(worker).figure()).fold(0, u64::wrapping_add)
    }

    /// The pools with their ids.
    pub fn pools(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        self.config.pools.iter().map(|pool| (pool.id, pool))
    }

    /// The latencies of a pool's requests.
    #[must_use]
    pub fn pool_latency(&self, pool: PoolId) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.workers.iter().for_each(|worker| worker.pool(pool).add_latency_to(&mut snapshot));
        snapshot
    }

    /// The latencies of a server's responses.
    #[must_use]
    pub fn server_latency(&self, pool: PoolId, server: ServerId) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.workers.iter().for_each(|worker| worker.server(pool, server).add_latency_to(&mut snapshot));
        snapshot
    }
}

/// The text of a scrape.
#[must_use]
pub fn render(sources: &Sources<'_>, moment: &Moment<'_>) -> String {
    let mut out = Text(String::with_capacity(16 << 10));
    out.process(sources, moment);
    out.pools(sources);
    out.servers(sources, moment);
    out.0
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    fn process(&mut self, sources: &Sources<'_>, moment: &Moment<'_>) {
        self.head("softmiss_build_info", "gauge", "the running version, as a label; always 1");
        self.line("softmiss_build_info", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
        self.head("softmiss_config_info", "gauge", "what tells the configuration from others, as a label; always 1");
        self.line("softmiss_config_info", &format!("version=\"{}\"", sources.config_version), 1);
        for (name, kind, help, value) in [
            ("softmiss_uptime_seconds", "gauge", "time since the start", moment.uptime.as_secs_f64()),
            ("softmiss_workers", "gauge", "event-loop threads", float(sources.workers.len() as u64)),
            (
                "softmiss_memory_limit_bytes",
                "gauge",
                "bound on all buffers together",
                float(sources.config.settings.memory_limit as u64),
            ),
        ] {
            self.head(name, kind, help);
            let _ = writeln!(self.0, "{name} {value}");
        }
        for metric in table::PROCESS {
            let name = series(PROCESS, metric.name, metric.kind);
            self.head(&name, metric.kind.name(), metric.help);
            let _ = writeln!(self.0, "{name} {}", sources.sum(|worker| (metric.value)(worker)));
        }
    }

    fn pools(&mut self, sources: &Sources<'_>) {
        for metric in table::POOL {
            let name = series(POOL, metric.name, metric.kind);
            self.head(&name, metric.kind.name(), metric.help);
            for (id, pool) in sources.pools() {
                self.line(&name, &label("pool", &pool.name), sources.sum(|worker| (metric.value)(worker.pool(id))));
            }
        }
        let name = "softmiss_pool_degraded_total";
        self.head(name, "counter", "requests answered in a server's place because it failed, by cause");
        for (id, pool) in sources.pools() {
            for failure in Failure::ALL {
                let labels = format!("{},cause=\"{}\"", label("pool", &pool.name), failure.name());
                self.line(name, &labels, sources.sum(|worker| &worker.pool(id).degraded[failure as usize]));
            }
        }
        let name = "softmiss_pool_outcomes_total";
        self.head(name, "counter", "requests that have ended, by what they asked for and how they ended");
        for (id, pool) in sources.pools() {
            for class in Class::ALL {
                for outcome in Outcome::OF_REQUESTS.into_iter().filter(|outcome| class.may_end(*outcome)) {
                    let pool = label("pool", &pool.name);
                    let labels = format!("{pool},class=\"{}\",outcome=\"{}\"", class.name(), outcome.name());
                    let cell = |worker| &Counters::pool(worker, id).outcomes[class as usize][outcome as usize];
                    self.line(name, &labels, sources.sum(cell));
                }
            }
        }
        let name = "softmiss_pool_request_duration_seconds";
        self.head(name, "histogram", "time from when a request was read until its response was there");
        for (id, pool) in sources.pools() {
            self.histogram(name, &label("pool", &pool.name), &sources.pool_latency(id));
        }
    }

    fn servers(&mut self, sources: &Sources<'_>, moment: &Moment<'_>) {
        let servers: Vec<(PoolId, ServerId, String)> = sources
            .pools()
            .flat_map(|(id, pool)| {
                pool.servers
                    .iter()
                    .map(move |of| (id, of.id, format!("{},{}", label("pool", &pool.name), label("server", &of.name))))
            })
            .collect();
        for Metric { name, kind, help, value } in table::SERVER {
            let name = series(SERVER, name, *kind);
            self.head(&name, kind.name(), help);
            for (pool, server, labels) in &servers {
                self.line(&name, labels, sources.sum(|worker| value(worker.server(*pool, *server))));
            }
        }
        let name = "softmiss_server_outcomes_total";
        self.head(name, "counter", "requests sent that have ended, by how they ended");
        for (pool, server, labels) in &servers {
            for outcome in Outcome::OF_SERVERS {
                let labels = format!("{labels},outcome=\"{}\"", outcome.name());
                self.line(name, &labels, sources.sum(|of| &of.server(*pool, *server).outcomes[outcome as usize]));
            }
        }
        let name = "softmiss_server_degraded_total";
        self.head(name, "counter", "requests answered in the server's place, by cause; causes that occurred");
        for (pool, server, labels) in &servers {
            for failure in Failure::ALL {
                let value = sources.sum(|of| &of.server(*pool, *server).degraded[failure as usize]);
                if value > 0 {
                    self.line(name, &format!("{labels},cause=\"{}\"", failure.name()), value);
                }
            }
        }
        let name = "softmiss_server_up";
        self.head(name, "gauge", "1 while the server is in the ring");
        for (pool, server, labels) in &servers {
            let up = matches!(sources.registry.state(*pool, *server), State::Up { .. });
            self.line(name, labels, u8::from(up));
        }
        let name = "softmiss_server_held";
        self.head(name, "gauge", "1 while the operator keeps the server out of the ring");
        for (pool, server, labels) in &servers {
            let held = matches!(sources.registry.state(*pool, *server), State::Maintenance { .. });
            self.line(name, labels, u8::from(held));
        }
        let name = "softmiss_server_failures_in_a_row";
        self.head(name, "gauge", "failures since the last good response");
        for (pool, server, labels) in &servers {
            self.line(name, labels, sources.registry.failures(*pool, *server));
        }
        let name = "softmiss_server_ejected_at_seconds";
        self.head(name, "gauge", "when the server was last ejected, since the epoch; 0: never");
        for (pool, server, labels) in &servers {
            let at = sources.registry.ejected_at(*pool, *server).map_or(0.0, |at| {
                let since = moment.uptime.saturating_sub(Duration::from_nanos(at.as_nanos()));
                moment.wall.saturating_sub(since).as_secs_f64()
            });
            self.line(name, labels, at);
        }
        let name = "softmiss_server_response_duration_seconds";
        self.head(name, "histogram", "time from when a request was read until its server's response was there");
        for (pool, server, labels) in &servers {
            self.histogram(name, labels, &sources.server_latency(*pool, *server));
        }
    }

    fn histogram(&mut self, name: &str, labels: &str, snapshot: &Snapshot) {
        for bound in BOUNDS_US.map(Duration::from_micros) {
            let below = snapshot.below(bound);
            let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"{}\"}} {below}", bound.as_secs_f64());
        }
        let count = snapshot.count();
        let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        self.line(&format!("{name}_sum"), labels, snapshot.sum().as_secs_f64());
        self.line(&format!("{name}_count"), labels, count);
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures below 2^53")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// The name of a statistic as Prometheus knows it: of what belongs to `prefix`, under its name in the table.
#[must_use]
pub fn series(prefix: &str, name: &str, kind: Kind) -> String {
    let name = if prefix == SERVER { name.trim_start_matches("server_") } else { name.trim_start_matches("total_") };
    let suffix = if kind == Kind::Counter { "_total" } else { "" };
    format!("{prefix}{name}{suffix}")
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

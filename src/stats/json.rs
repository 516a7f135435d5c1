//! twemproxy's JSON: its fields, its shape, and some more of both.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::table;
use crate::config::model::Config;
use crate::failure::Failure;
use crate::health::Registry;
use crate::health::tracker::State;
use crate::outcome::{Class, Outcome};

/// When and where the statistics are taken.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The host's name.
    pub host: &'a str,
    /// Time since the start.
    pub uptime: Duration,
    /// Wall-clock time since the Unix epoch.
    pub wall: Duration,
}

/// One JSON object and a line feed.
#[must_use]
pub fn render(config: &Config, registry: &Registry, workers: &[Arc<Counters>], moment: &Moment<'_>) -> String {
    let mut out = String::with_capacity(4096);
    let sum = |cell: &dyn Fn(&Counters) -> u64| workers.iter().map(|worker| cell(worker)).fold(0, u64::wrapping_add);
    let _ = write!(
        out,
        "{{\"service\":\"softmiss\", \"source\":{}, \"version\":\"{}\", \"uptime\":{}, \"timestamp\":{}, \
         \"total_connections\":{}, \"curr_connections\":{}",
        quoted(moment.host),
        env!("CARGO_PKG_VERSION"),
        moment.uptime.as_secs(),
        moment.wall.as_secs(),
        sum(&|worker| worker.total_connections.value()) + config.pools.len() as u64,
        sum(&|worker| worker.current_connections.value()) + config.pools.len() as u64,
    );
    let _ = write!(out, ", \"buffered_bytes\":{}", sum(&|worker| worker.buffered_bytes.value()));
    let mut order: Vec<_> = config.pools.iter().collect();
    order.sort_by_key(|pool| (pool.name.len(), &pool.name));
    for pool in order {
        let pool_id = pool.id;
        let _ = write!(out, ", {}: {{", quoted(&pool.name));
        for metric in table::POOL {
            let value = sum(&|worker| (metric.value)(worker.pool(pool_id)));
            let _ = write!(out, "\"{}\":{value}, ", metric.name);
        }
        for failure in Failure::ALL {
            let value = sum(&|worker| worker.pool(pool_id).degraded[failure as usize].value());
            let _ = write!(out, "\"degraded_{}\":{value}, ", failure.name());
        }
        for class in Class::ALL {
            for outcome in Outcome::OF_REQUESTS.into_iter().filter(|outcome| class.may_end(*outcome)) {
                let value = sum(&|worker| worker.pool(pool_id).outcomes[class as usize][outcome as usize].value());
                let _ = write!(out, "\"{}_{}\":{value}, ", class.name(), outcome.name());
            }
        }
        for (index, server) in pool.servers.iter().enumerate() {
            let server_id = server.id;
            let separator = if index > 0 { "," } else { "" };
            let _ = write!(out, "{separator}{}: {{", quoted(&server.name));
            for metric in table::SERVER {
                let value = sum(&|worker| (metric.value)(worker.server(pool_id, server_id)));
                let _ = write!(out, "\"{}\":{value}, ", metric.name);
            }
            for outcome in Outcome::OF_SERVERS {
                let value = sum(&|worker| worker.server(pool_id, server_id).outcomes[outcome as usize].value());
                let _ = write!(out, "\"outcome_{}\":{value}, ", outcome.name());
            }
            let state = registry.state(pool_id, server_id);
            let ejected_at = registry.ejected_at(pool_id, server_id).map_or(0, |at| {
                let since = moment.uptime.saturating_sub(Duration::from_nanos(at.as_nanos()));
                moment.wall.saturating_sub(since).as_micros()
            });
            let failures = if let State::Up { failures } = state { failures } else { 0 };
            let _ = write!(
                out,
                "\"{}\":{ejected_at}, \"state\":\"{}\", \"failures_in_a_row\":{failures}}}",
                table::SERVER_EJECTED_AT.0,
                state.name()
            );
        }
        out.push('}');
    }
    out.push_str("}\n");
    out
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

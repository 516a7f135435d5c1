//! Slow requests as lines of the log.

use std::time::Duration;

use tracing::{Level, enabled, info};

use crate::config::model::Config;
use crate::engine::Slow;
use crate::stats::hot::escaped;

/// Tells of a request that took long. The key is named only where the log may name keys.
pub(super) fn slow(config: &Config, slow: &Slow) {
    let pool = &config.pools[slow.pool.index()];
    let ms = |span: Duration| (span.as_secs_f64() * 10_000.0).round() / 10.0;
    info!(
        pool = pool.name,
        server = slow.server.map(|server| pool.servers[server.index()].name.as_str()),
        command = slow.command,
        keys = slow.keys,
        key_hash = slow.hash.map(|hash| format!("{hash:08x}")),
        key = enabled!(Level::DEBUG).then(|| escaped(&slow.key)),
        took_ms = ms(slow.took),
        waited_ms = slow.waited.map(ms),
        server_ms = slow.asked.map(ms),
        cause = slow.failure.map(|failure| failure.name()),
        untold = slow.untold,
        "slow request"
    );
}

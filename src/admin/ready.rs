//! Whether requests are to be sent here: the answer to `/readyz`.
//!
//! Whoever asks takes the host out of service when the answer is no, and the application with it. A pool that answers
//! misses when its servers are gone is there so that the application goes on, on all hosts at once: it is ready whatever
//! its servers do. One that answers errors is not while none of its servers is in the ring; those are probed, so it is ready
//! again without having been asked for anything. A server that fails in the ring is not probed and can only be found well by
//! a request: if it made the answer no, requests would never come again. The text names it.

use std::fmt::Write as _;

use crate::config::model::{OnFailure, Pool, PoolId};
use crate::stats::prometheus::Sources;
use crate::time::Instant;

use super::view;

/// Whether it is, and in words which servers cannot be used, and why.
pub(super) fn readiness(sources: &Sources<'_>, now: Instant) -> (bool, String) {
    let (mut is_ready, mut told) = (true, String::new());
    for (id, pool) in sources.pools() {
        let troubles = troubles(sources, (id, pool), now);
        if troubles.is_empty() {
            continue;
        }
        let is_out = !sources.registry.live(id).contains(&true);
        is_ready &= !(is_out && pool.on_failure == OnFailure::Error);
        let what = match troubles.len() {
            _ if is_out => "no server in the ring".to_owned(),
            all if all == pool.servers.len() => "every server fails".to_owned(),
            some => format!("{some} of {} servers cannot be used", pool.servers.len()),
        };
        let _ = writeln!(told, "pool {}: {what}, on_failure: {}", pool.name, pool.on_failure.name());
        told.extend(troubles);
    }
    let word = if is_ready { "ready" } else { "not ready" };
    (is_ready, format!("{word}\n{told}"))
}

/// A line for each server that cannot be used.
fn troubles(sources: &Sources<'_>, (id, pool): (PoolId, &Pool), now: Instant) -> Vec<String> {
    let line = |server: &crate::config::model::Server| {
        let server_id = server.id;
        let state = sources.registry.state(id, server_id);
        let (how, since, why) = match (sources.registry.failing(id, server_id), view::reason(state)) {
            (Some(failing), _) => ("fails, in the ring,", Some(failing.since), failing.failure.to_string()),
            (None, Some(why)) => ("out", state.out_since(), why),
            (None, None) => return None,
        };
        let lasts = since.map(|since| format!(" for {:.1} s", (now - since).as_secs_f64())).unwrap_or_default();
        Some(format!("  {} ({}): {how}{lasts}: {why}\n", server.name, server.address))
    };
    pool.servers.iter().filter_map(line).collect()
}

//! What there is to see, as data: the answer to `/servers`, and what the dashboard and `softmiss top` are drawn from.

use std::time::Duration;

use serde::Serialize;

use super::hot::{self, HotKeyView};
use super::recent::{Figures, Recent, Sample};
use crate::config::model::{OnEject, Pool, PoolId};
use crate::failure::Failure;
use crate::health::maintenance::Maintenance;
use crate::health::tracker::State;
use crate::io::events::Events;
use crate::ring::Ring;
use crate::stats::histogram::Snapshot;
use crate::stats::json::Moment;
use crate::stats::prometheus::Sources;
use crate::time::Instant;

/// Events that are told.
const EVENTS: usize = 30;

/// The process and all of its pools.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    version: &'static str,
    /// Tells the configuration from others.
    config_version: String,
    host: String,
    uptime_s: f64,
    workers: usize,
    buffered_bytes: u64,
    memory_limit_bytes: usize,
    /// Seconds that rates and latencies are taken over.
    window_s: f64,
    pools: Vec<PoolView>,
    /// The newest first.
    events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
pub(super) struct EventView {
    pub(super) ago_ms: u128,
    pool: String,
    server: String,
    trouble: bool,
    text: String,
}

/// What was made of values that are kept.
#[derive(Debug, Serialize)]
struct NearView {
    /// Keys of gets that were answered with them.
    hits: u64,
    /// Values that were asked of servers to be kept.
    fetches: u64,
    /// Keys of gets that were answered with them as there was no server.
    stale: u64,
    /// Keys of which servers have told that they have changed.
    told: u64,
}

/// What became of keys that were missed, since the start.
#[derive(Debug, Serialize)]
struct StampedeView {
    /// Misses told with the lease for the key: it was computed.
    leases: u64,
    /// Requests that waited for what somebody else computed, and for how long all of them did.
    waits: u64,
    waited_ms: u64,
    /// Misses told without the lease.
    unleased: u64,
    /// Values given that were over.
    stale: u64,
}

#[derive(Debug, Serialize)]
struct PoolView {
    name: String,
    protocol: &'static str,
    listen: String,
    on_failure: &'static str,
    on_eject: &'static str,
    clients: u64,
    requests: u64,
    requests_per_s: f64,
    hits: u64,
    misses: u64,
    /// Part of the keys of gets of the last seconds that were there; nothing when there were none.
    hit_rate: Option<f64>,
    /// Part of the gets of the last seconds that got all they asked for: what clients see, requests that were answered in a
    /// server's place included.
    client_hit_rate: Option<f64>,
    /// Error lines of servers that clients were told.
    server_errors: u64,
    /// Error lines that clients were told because a server failed.
    forward_errors: u64,
    /// Requests answered in a server's place, by cause; only causes that occurred.
    degraded: Vec<(&'static str, u64)>,
    degraded_per_s: f64,
    /// Only with `stampede`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stampede: Option<StampedeView>,
    /// Only with `near_cache`.
    #[serde(skip_serializing_if = "Option::is_none")]
    near_cache: Option<NearView>,
    latency: Latency,
    servers: Vec<ServerView>,
    /// Only where keys are watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    hot_keys: Option<Vec<HotKeyView>>,
}

#[derive(Debug, Serialize)]
struct ServerView {
    name: String,
    address: String,
    weight: u32,
    /// `up`, `ejected`, `probing` or `draining`.
    state: &'static str,
    /// The operator keeps it out.
    held: bool,
    /// It gets no more requests, and answers those that it has.
    draining: bool,
    /// Seconds that it has been in the ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    up_for_s: Option<f64>,
    /// Milliseconds that it has failed without being answered, of one in the ring that fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_for_ms: Option<u128>,
    /// Milliseconds since it left the ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    out_for_ms: Option<u128>,
    /// Why it is out, or why it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Milliseconds until it is probed next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe_ms: Option<u128>,
    failures_in_a_row: u32,
    /// How it failed last, also of one that is well again.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<LastFailure>,
    /// Part of all keys that are its own now.
    share: f64,
    connections: u64,
    requests: u64,
    requests_per_s: f64,
    bytes_per_s: f64,
    hit_rate: Option<f64>,
    errors: u64,
    ejections: u64,
    restores: u64,
    /// Requests that it was sent, or is about to be, and has not answered.
    in_flight: u64,
    in_queue_bytes: u64,
    latency: Latency,
}

#[derive(Debug, Serialize)]
struct LastFailure {
    reason: String,
    ago_ms: u128,
}

/// Of the last seconds, in microseconds; nothing when there was no request.
#[derive(Debug, Serialize)]
struct Latency {
    p50_us: Option<u128>,
    p99_us: Option<u128>,
    p999_us: Option<u128>,
}

impl Latency {
    fn of(snapshot: &Snapshot) -> Self {
        let at = |quantile| snapshot.quantile(quantile).map(|latency| latency.as_micros());
        Self { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) }
    }
}

/// Everything, now.
pub(super) fn overview(sources: &Sources<'_>, recent: &Recent, events: &Events, moment: &Moment<'_>) -> Overview {
    let now = Sample::take(sources, moment.uptime);
    let window = recent.oldest().map_or(moment.uptime, |oldest| moment.uptime.saturating_sub(oldest.at));
    let pools = sources.pools().enumerate().map(|(index, (id, pool))| {
        let empty = (Figures::default(), vec![Figures::default(); pool.servers.len()]);
        let before = recent.oldest().and_then(|sample| sample.pools.get(index)).unwrap_or(&empty);
        pool_view(sources, (id, pool), &now.pools[index], before, window, moment)
    });
    Overview {
        version: env!("CARGO_PKG_VERSION"),
        config_version: sources.config_version.to_owned(),
        host: moment.host.to_owned(),
        uptime_s: moment.uptime.as_secs_f64(),
        workers: sources.workers.len(),
        buffered_bytes: sources.sum(|worker| &worker.buffered_bytes),
        memory_limit_bytes: sources.config.settings.memory_limit,
        window_s: window.as_secs_f64(),
        pools: pools.collect(),
        events: happened(events, EVENTS, moment).collect(),
    }
}

/// The newest `most` events, the newest first.
pub(super) fn happened(events: &Events, most: usize, moment: &Moment<'_>) -> impl Iterator<Item = EventView> {
    let now = instant(moment);
    events.newest(most).into_iter().map(move |event| EventView {
        ago_ms: (now - event.at).as_millis(),
        pool: event.pool,
        server: event.server,
        trouble: event.is_trouble,
        text: event.text,
    })
}

pub(super) fn instant(moment: &Moment<'_>) -> Instant {
    Instant::from_nanos(u64::try_from(moment.uptime.as_nanos()).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn part(of: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| (of as f64 / all as f64 * 10_000.0).round() / 10_000.0)
}

fn hit_rate(fresh: &Figures) -> Option<f64> {
    part(fresh.hits, fresh.hits + fresh.misses)
}

fn per_second(count: u64, window: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let count = count as f64;
    if window.is_zero() { 0.0 } else { (count / window.as_secs_f64() * 10.0).round() / 10.0 }
}

/// Why a server is out.
pub(super) fn reason(state: State) -> Option<String> {
    Some(match state {
        State::Up { .. } => return None,
        State::Maintenance { kind: Maintenance::Eject, .. } => "by the operator".to_owned(),
        State::Maintenance { kind: Maintenance::Drain, .. } => "drained by the operator".to_owned(),
        State::Ejected { failure: None, .. } | State::Probing { failure: None, .. } => {
            "let back by the operator, has to answer a health check first".to_owned()
        }
        State::Ejected { failure: Some(failure), .. } | State::Probing { failure: Some(failure), .. } => {
            failure.to_string()
        }
    })
}

fn pool_view(
    sources: &Sources<'_>,
    (id, pool): (PoolId, &Pool),
    now: &(Figures, Vec<Figures>),
    before: &(Figures, Vec<Figures>),
    window: Duration,
    moment: &Moment<'_>,
) -> PoolView {
    let fresh = now.0.since(&before.0);
    let live = sources.registry.live(id);
    let held = vec![true; live.len()];
    let shares = Ring::new(pool, if pool.on_eject == OnEject::Hold { &held } else { &live }).shares(live.len());
    let degraded = Failure::ALL.iter().filter_map(|failure| {
        let count = sources.sum(|worker| &worker.pool(id).degraded[*failure as usize]);
        (count > 0).then_some((failure.name(), count))
    });
    let servers = pool.servers.iter().enumerate().map(|(index, server)| {
        let server_id = server.id;
        let fresh = now.1[index].since(&before.1[index]);
        let state = sources.registry.state(id, server_id);
        let since = state.out_since();
        let now = instant(moment);
        let (failures, last_failure) =
            (sources.registry.failures(id, server_id), sources.registry.last_failure(id, server_id));
        let counters = |cell: fn(&crate::stats::counters::ServerCounters) -> u64| {
            sources.sum(|worker| cell(worker.server(id, server_id)))
        };
        ServerView {
            name: server.name.clone(),
            address: server.address.to_string(),
            weight: server.weight,
            state: state.name(),
            held: matches!(state, State::Maintenance { .. }),
            draining: matches!(state, State::Maintenance { kind: Maintenance::Drain, .. }),
            up_for_s: sources.registry.up_since(id, server_id).map(|since| (now - since).as_secs_f64()),
            out_for_ms: since.map(|since| (now - since).as_millis()),
            failing_for_ms: sources.registry.failing(id, server_id).map(|failing| (now - failing.since).as_millis()),
            reason: reason(state)
                .or_else(|| last_failure.filter(|_| failures > 0).map(|(failure, _)| failure.to_string())),
            next_probe_ms: sources.registry.probe_at(id, server_id).map(|at| (at - now).as_millis()),
            failures_in_a_row: failures,
            last_failure: last_failure
                .map(|(failure, at)| LastFailure { reason: failure.to_string(), ago_ms: (now - at).as_millis() }),
            share: (shares[server_id.index()] * 10_000.0).round() / 10_000.0,
            connections: counters(|server| server.server_connections.value()),
            requests: counters(|server| server.requests.value()),
            requests_per_s: per_second(fresh.requests, window),
            bytes_per_s: per_second(fresh.bytes, window),
            hit_rate: hit_rate(&fresh),
            errors: counters(|server| server.errors.value()),
            ejections: counters(|server| server.ejections.value()),
            restores: counters(|server| server.restores.value()),
            in_flight: counters(|server| server.in_queue.value()) + counters(|server| server.out_queue.value()),
            in_queue_bytes: counters(|server| server.in_queue_bytes.value()),
            latency: Latency::of(&fresh.latency),
        }
    });
    let sum = |cell: fn(&crate::stats::counters::PoolCounters) -> u64| sources.sum(|worker| cell(worker.pool(id)));
    let stampede = pool.stampede.as_ref().map(|_| StampedeView {
        leases: sum(|pool| pool.stampede_leases.value()),
        waits: sum(|pool| pool.stampede_waits.value()),
        waited_ms: sum(|pool| pool.stampede_wait_microseconds.value()) / 1000,
        unleased: sum(|pool| pool.stampede_unleased.value()),
        stale: sum(|pool| pool.stampede_stale.value()),
    });
    let near_cache = pool.near_cache.as_ref().map(|_| NearView {
        hits: sum(|pool| pool.near_hits.value()),
        fetches: sum(|pool| pool.near_fetches.value()),
        stale: sum(|pool| pool.near_stale.value()),
        told: sum(|pool| pool.near_told.value()),
    });
    PoolView {
        stampede,
        near_cache,
        name: pool.name.clone(),
        protocol: pool.protocol.name(),
        listen: pool.listen.to_string(),
        on_failure: pool.on_failure.name(),
        on_eject: pool.on_eject.name(),
        clients: sources.sum(|worker| &worker.pool(id).client_connections),
        requests: now.0.requests,
        requests_per_s: per_second(fresh.requests, window),
        hits: now.0.hits,
        misses: now.0.misses,
        hit_rate: hit_rate(&fresh),
        client_hit_rate: part(fresh.whole_gets, fresh.gets),
        server_errors: sources.sum(|worker| &worker.pool(id).server_errors),
        forward_errors: sources.sum(|worker| &worker.pool(id).forward_error),
        degraded: degraded.collect(),
        degraded_per_s: per_second(fresh.degraded, window),
        latency: Latency::of(&fresh.latency),
        servers: servers.collect(),
        hot_keys: hot::standing_out(sources, id, instant(moment)),
    }
}

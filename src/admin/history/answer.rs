//! The history as data: the answer to `/history`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::super::view::{EventView, happened};
use super::reading::{COUNT_NAMES, LATENCY_NAMES};
use super::{History, KEPT, Point};
use crate::config::model::Pool;
use crate::io::events::Events;
use crate::stats::json::Moment;
use crate::stats::prometheus::Sources;

/// The last half hour: columns of as many values as there are points, the oldest first.
#[derive(Debug, Serialize)]
pub(in super::super) struct Past {
    uptime_s: f64,
    /// How far back it goes at most.
    kept_s: u64,
    /// How long ago each point ended.
    ago_s: Vec<f64>,
    /// How many seconds before that it tells of.
    for_s: Vec<f64>,
    pools: Vec<PoolPast>,
    /// The newest first.
    events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
struct PoolPast {
    name: String,
    /// By name: how many in the seconds of each point, and latencies, which are nothing where there was no request.
    #[serde(flatten)]
    columns: BTreeMap<&'static str, Vec<Option<u32>>>,
    servers: Vec<ServerPast>,
}

#[derive(Debug, Serialize)]
struct ServerPast {
    name: String,
    /// A letter a point.
    states: String,
}

/// All of it, and the events of that time.
pub(in super::super) fn answer(sources: &Sources<'_>, history: &History, events: &Events, moment: &Moment<'_>) -> Past {
    let points: Vec<&Point> = history.points().collect();
    let mut first_server = 0;
    let pools = sources.pools().enumerate().map(|(index, (_, pool))| {
        let past = pool_past(&points, pool, index, first_server);
        first_server += pool.servers.len();
        past
    });
    Past {
        uptime_s: moment.uptime.as_secs_f64(),
        kept_s: KEPT.as_secs(),
        ago_s: points.iter().map(|point| rounded(moment.uptime.saturating_sub(point.end))).collect(),
        for_s: points.iter().map(|point| rounded(point.end - point.start)).collect(),
        pools: pools.collect(),
        events: happened(events, usize::MAX, moment).take_while(|event| event.ago_ms <= KEPT.as_millis()).collect(),
    }
}

fn rounded(span: Duration) -> f64 {
    (span.as_secs_f64() * 100.0).round() / 100.0
}

fn pool_past(points: &[&Point], pool: &Pool, index: usize, first_server: usize) -> PoolPast {
    let count = |which: usize| points.iter().map(|point| Some(point.pools[index].counts[which])).collect();
    let latency = |which: usize| {
        let latency = |point: &&Point| Some(point.pools[index].latencies[which]).filter(|us| *us != u32::MAX);
        points.iter().map(latency).collect()
    };
    let counts = COUNT_NAMES.into_iter().enumerate().map(|(which, name)| (name, count(which)));
    let latencies = LATENCY_NAMES.into_iter().enumerate().map(|(which, name)| (name, latency(which)));
    let servers = (first_server..).zip(&pool.servers).map(|(at, server)| ServerPast {
        name: server.name.clone(),
        states: points.iter().map(|point| point.servers[at].letter()).collect(),
    });
    PoolPast { name: pool.name.clone(), columns: counts.chain(latencies).collect(), servers: servers.collect() }
}

//! Hot keys, as data: the answer to `/hotkeys`, and their part of `/servers`.

use serde::Serialize;

use crate::config::model::{Pool, PoolId, ServerId};
use crate::stats::hot::{HotKey, Seen};
use crate::stats::prometheus::Sources;
use crate::time::Instant;

/// Keys that are told of each pool, in each order.
const MOST: usize = 20;

/// In the overview: the most asked for, and those that move most bytes.
const MOST_ASKED: usize = 10;
const MOST_BYTES: usize = 5;

/// In the overview a key must have this part of its pool's requests or bytes.
const LEAST_SHARE: f64 = 0.01;

/// What is said where nobody watches.
const OFF: &str = "keys are not watched: the file says `softmiss: {hot_keys: none}`";

/// The answer to `/hotkeys`.
#[derive(Debug, Serialize)]
pub(super) struct HotKeys {
    /// One in so many requests is looked at.
    sampling: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    pools: Vec<PoolKeys>,
}

#[derive(Debug, Serialize)]
struct PoolKeys {
    name: String,
    /// How many seconds all of it reaches back.
    window_s: f64,
    /// Keys that were looked at; rates from few of them are rough.
    samples: u64,
    by_requests: Vec<KeyView>,
    by_bytes: Vec<KeyView>,
    largest: Vec<ValueView>,
}

#[derive(Debug, Serialize)]
struct KeyView {
    key: String,
    server: String,
    per_s: f64,
    bytes_per_s: f64,
    /// Part of all keys that requests named, or of all bytes.
    share: f64,
    samples: u32,
    largest_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ValueView {
    key: String,
    server: String,
    bytes: u64,
}

/// A key in the overview.
#[derive(Debug, Serialize)]
pub(super) struct HotKeyView {
    key: String,
    server: String,
    per_s: f64,
    bytes_per_s: f64,
}

/// All that is known of the keys of all pools.
pub(super) fn hot_keys(sources: &Sources<'_>, now: Instant) -> HotKeys {
    let sampling = sources.config.settings.hot_keys;
    let pools = sources.pools().filter(|_| sampling.is_some()).map(|(id, pool)| {
        let seen = seen(sources, id, now);
        PoolKeys {
            name: pool.name.clone(),
            window_s: rounded(seen.window.as_secs_f64()),
            samples: seen.samples,
            by_requests: views(pool, &seen.by_requests, |key| key.per_s, seen.requests_per_s),
            by_bytes: views(pool, &seen.by_bytes, |key| key.bytes_per_s, seen.bytes_per_s),
            largest: seen
                .largest
                .iter()
                .map(|value| ValueView {
                    key: value.key.text(),
                    server: server(pool, value.server),
                    bytes: value.bytes,
                })
                .collect(),
        }
    });
    HotKeys { sampling, note: sampling.is_none().then_some(OFF), pools: pools.collect() }
}

/// The keys of a pool that stand out, the most asked for first; nothing where nobody watches.
pub(super) fn standing_out(sources: &Sources<'_>, id: PoolId, now: Instant) -> Option<Vec<HotKeyView>> {
    sources.config.settings.hot_keys?;
    let (_, config) = sources.pools().find(|(pool, _)| *pool == id)?;
    let seen = seen(sources, id, now);
    let asked = seen.by_requests.iter().take(MOST_ASKED).filter(|key| key.per_s >= LEAST_SHARE * seen.requests_per_s);
    let moved = seen.by_bytes.iter().take(MOST_BYTES).filter(|key| key.bytes_per_s >= LEAST_SHARE * seen.bytes_per_s);
    let mut keys: Vec<&HotKey> = asked.collect();
    for key in moved {
        if !keys.iter().any(|known| known.key == key.key) {
            keys.push(key);
        }
    }
    keys.sort_by(|one, other| other.per_s.total_cmp(&one.per_s));
    let view = |key: &&HotKey| HotKeyView {
        key: key.key.text(),
        server: server(config, key.server),
        per_s: rounded(key.per_s),
        bytes_per_s: rounded(key.bytes_per_s),
    };
    Some(keys.iter().map(view).collect())
}

fn seen(sources: &Sources<'_>, id: PoolId, now: Instant) -> Seen {
    Seen::by(sources.workers.iter().map(|worker| &worker.pool(id).hot_keys), now)
}

fn views(pool: &Pool, keys: &[HotKey], weight: fn(&HotKey) -> f64, of_all: f64) -> Vec<KeyView> {
    let view = |key: &HotKey| KeyView {
        key: key.key.text(),
        server: server(pool, key.server),
        per_s: rounded(key.per_s),
        bytes_per_s: rounded(key.bytes_per_s),
        share: if of_all > 0.0 { (weight(key) / of_all * 10_000.0).round() / 10_000.0 } else { 0.0 },
        samples: key.samples,
        largest_bytes: key.largest,
    };
    keys.iter().take(MOST).map(view).collect()
}

fn server(pool: &Pool, id: ServerId) -> String {
    pool.servers.iter().find(|server| server.id == id).map_or_else(String::new, |server| server.name.clone())
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

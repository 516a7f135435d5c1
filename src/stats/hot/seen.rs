//! What the summaries of all workers come to: the keys that stand out, with their rates.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use super::summary::{Key, LARGEST, Summary};
use super::{Generation, HotKeys, PERIOD, REQUEST};
use crate::config::model::ServerId;
use crate::time::Instant;

/// A window that is shorter would make a rate of a handful of requests.
const LEAST_WINDOW: Duration = Duration::from_secs(1);

/// Samples below which a key is not told: it may have come by chance.
const LEAST_SAMPLES: u32 = 3;

/// A key that stands out.
#[derive(Debug, Clone)]
pub struct HotKey {
    /// The key.
    pub key: Key,
    /// The server that it last went to, or should have.
    pub server: ServerId,
    /// Requests a second that name it.
    pub per_s: f64,
    /// Bytes of its values, read and stored, a second.
    pub bytes_per_s: f64,
    /// Bytes of its largest value.
    pub largest: u64,
    /// Requests of the sample that named it.
    pub samples: u32,
}

/// A value that stands out.
#[derive(Debug, Clone)]
pub struct LargeValue {
    /// Its key.
    pub key: Key,
    /// The server that it last went to.
    pub server: ServerId,
    /// Its bytes.
    pub bytes: u64,
}

/// The keys of a pool that stand out.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How far back it reaches.
    pub window: Duration,
    /// Keys in the sample.
    pub samples: u64,
    /// Requests a second of all keys.
    pub requests_per_s: f64,
    /// Bytes of values a second of all keys.
    pub bytes_per_s: f64,
    /// The most asked for, most first.
    pub by_requests: Vec<HotKey>,
    /// Those that move most bytes, most first.
    pub by_bytes: Vec<HotKey>,
    /// The largest values, the largest first.
    pub largest: Vec<LargeValue>,
}

impl Seen {
    /// Adds up what workers noted of a pool lately.
    pub fn by<'a>(workers: impl Iterator<Item = &'a HotKeys>, now: Instant) -> Self {
        let mut gathered = Gathered::default();
        workers.for_each(|worker| worker.add_to(&mut gathered, now));
        let Gathered { window, samples, requests_per_s, bytes_per_s, by_requests, by_bytes, largest } = gathered;
        let ranked = |rows: BTreeMap<Key, HotKey>, weight: fn(&HotKey) -> f64| {
            let mut rows: Vec<_> = rows.into_values().filter(|row| row.samples >= LEAST_SAMPLES).collect();
            rows.sort_by(|one, other| weight(other).total_cmp(&weight(one)));
            rows
        };
        let largest = largest.into_iter().map(|(key, (server, bytes))| LargeValue { key, server, bytes });
        let mut largest: Vec<_> = largest.collect();
        largest.sort_by_key(|value| std::cmp::Reverse(value.bytes));
        largest.truncate(LARGEST);
        Self {
            window,
            samples,
            requests_per_s,
            bytes_per_s,
            by_requests: ranked(by_requests, |row| row.per_s),
            by_bytes: ranked(by_bytes, |row| row.bytes_per_s),
            largest,
        }
    }
}

/// What several workers noted.
#[derive(Default)]
struct Gathered {
    window: Duration,
    samples: u64,
    requests_per_s: f64,
    bytes_per_s: f64,
    by_requests: BTreeMap<Key, HotKey>,
    by_bytes: BTreeMap<Key, HotKey>,
    largest: BTreeMap<Key, (ServerId, u64)>,
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(count: u64, window: Duration) -> f64 {
    count as f64 / window.as_secs_f64()
}

/// As [`per_second`], of requests in parts of [`REQUEST`].
#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn requests_per_second(parts: u64, window: Duration) -> f64 {
    per_second(parts, window) / REQUEST as f64
}

fn gather(rows: &mut BTreeMap<Key, HotKey>, summary: &Summary, window: Duration) {
    for entry in &summary.entries {
        let row = rows.entry(entry.key.clone()).or_insert_with(|| HotKey {
            key: entry.key.clone(),
            server: entry.server,
            per_s: 0.0,
            bytes_per_s: 0.0,
            largest: 0,
            samples: 0,
        });
        row.server = entry.server;
        row.per_s += requests_per_second(entry.own.requests, window);
        row.bytes_per_s += per_second(entry.own.bytes, window);
        row.largest = row.largest.max(entry.own.largest);
        row.samples = row.samples.saturating_add(entry.own.samples);
    }
}

impl HotKeys {
    fn add_to(&self, seen: &mut Gathered, now: Instant) {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now - noted.current_since;
        let generations: &[(&Generation, Instant)] = match age {
            _ if noted.current.samples == 0 || age >= 2 * PERIOD => &[],
            _ if age >= PERIOD || noted.before.samples == 0 => &[(&noted.current, noted.current_since)],
            _ => &[(&noted.before, noted.before_since), (&noted.current, noted.current_since)],
        };
        let Some((_, since)) = generations.first() else { return };
        let window = (now - *since).max(LEAST_WINDOW);
        seen.window = seen.window.max(window);
        for (generation, _) in generations {
            seen.samples += generation.samples;
            seen.requests_per_s += requests_per_second(generation.requests, window);
            seen.bytes_per_s += per_second(generation.bytes, window);
            gather(&mut seen.by_requests, &generation.by_requests, window);
            gather(&mut seen.by_bytes, &generation.by_bytes, window);
            for (key, server, value) in &generation.largest.values {
                let entry = seen.largest.entry(key.clone()).or_insert((*server, 0));
                if *value >= entry.1 {
                    *entry = (*server, *value);
                }
            }
        }
    }
}

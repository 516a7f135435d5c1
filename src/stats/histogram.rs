//! Latencies: how many requests took how long, in buckets that grow with the time.
//!
//! Sixteen buckets for each doubling, so that a quantile read from them is off by 3.2 % at most. Like every cell, a
//! histogram has one writer, and counting is a few plain instructions; readers take a [`Snapshot`], which can be added up
//! over workers.

use std::time::Duration;

use super::cell::Cell;

/// Buckets for each doubling, as a power of two.
const FINE_BITS: u32 = 4;

/// Nanoseconds are counted in units of 1,024: nothing that crosses a socket is faster.
const UNIT_BITS: u32 = 10;

/// The last bucket holds everything of 69 seconds and more.
const DOUBLINGS: usize = 22;

const FINE: usize = 1 << FINE_BITS;

/// How many buckets there are.
pub const BUCKETS: usize = FINE * (DOUBLINGS + 1);

/// Durations that one worker counted.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Cell; BUCKETS]>,
    sum: Cell,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([const { Cell::new() }; BUCKETS]), sum: Cell::default() }
    }
}

/// The bucket of a duration.
#[expect(clippy::cast_possible_truncation, reason = "the index is below the number of buckets")]
fn bucket(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    let exponent = (units | FINE as u64).ilog2() - FINE_BITS;
    // Below sixteen units the bucket is the number of units; above, the upper five bits tell.
    let index = ((u64::from(exponent) << FINE_BITS) + (units >> exponent)) as usize;
    index.min(BUCKETS - 1)
}

/// Where a bucket starts, in nanoseconds.
const fn start(index: usize) -> u64 {
    let (doubling, fine) = (index / FINE, index % FINE);
    match doubling {
        0 => (fine as u64) << UNIT_BITS,
        doubling => ((FINE + fine) as u64) << (doubling - 1) << UNIT_BITS,
    }
}

impl Histogram {
    /// Counts a duration. Only the worker that owns the histogram may call this.
    #[inline]
    pub fn record(&self, nanos: u64) {
        self.buckets[bucket(nanos)].add(1);
        self.sum.add(nanos);
    }

    /// Its cells, each with its number; the sum is the last.
    pub(super) fn each(&self, visit: &mut dyn FnMut(usize, &Cell)) {
        self.buckets.iter().chain([&self.sum]).enumerate().for_each(|(number, cell)| visit(number, cell));
    }

    /// Adds what is counted here to a snapshot.
    pub fn add_to(&self, snapshot: &mut Snapshot) {
        for (total, cell) in snapshot.buckets.iter_mut().zip(self.buckets.iter()) {
            *total += cell.value();
        }
        snapshot.sum = snapshot.sum.wrapping_add(self.sum.value());
    }
}

/// Durations at one moment, of one or several workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    buckets: Vec<u64>,
    sum: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], sum: 0 }
    }
}

impl Snapshot {
    /// How many durations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// How many are shorter than `bound`, counted in whole buckets.
    #[must_use]
    pub fn below(&self, bound: Duration) -> u64 {
        let end = bucket(u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX));
        self.buckets[..end].iter().sum()
    }

    /// The duration that a part `quantile` of all (0 to 1) does not exceed; `None` when there are none. It is the middle of
    /// a bucket.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a rank")]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((count as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= rank
        })?;
        Some(Duration::from_nanos(u64::midpoint(start(index), start(index + 1))))
    }

    /// What has been added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&earlier.buckets).map(|(now, then)| now.wrapping_sub(*then));
        Self { buckets: buckets.collect(), sum: self.sum.wrapping_sub(earlier.sum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(start(index)), index, "its first nanosecond");
            assert_eq!(bucket(start(index + 1) - 1), index, "its last one");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(start(BUCKETS - 1) > 60_000_000_000, "{}", start(BUCKETS - 1));
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(Snapshot::default().quantile(0.5), None);
        assert_eq!(Snapshot::default().below(Duration::MAX), 0);
    }

    proptest! {
        #[test]
        fn quantiles_are_off_by_five_percent_at_most(mut values in proptest::collection::vec(20_000u64..60_000_000_000, 1..200), part in 0.0f64..=1.0) {
            let histogram = Histogram::default();
            for value in &values {
                histogram.record(*value);
            }
            let mut snapshot = Snapshot::default();
            histogram.add_to(&mut snapshot);
            values.sort_unstable();
            let rank = (1..values.len()).find(|rank| *rank as f64 >= values.len() as f64 * part).unwrap_or(values.len());
            let (exact, told) = (values[rank - 1] as f64, snapshot.quantile(part).unwrap().as_nanos() as f64);
            prop_assert!((told - exact).abs() <= exact * 0.05, "{told} for {exact}");
            prop_assert_eq!(snapshot.count(), values.len() as u64);
            prop_assert_eq!(snapshot.sum(), Duration::from_nanos(values.iter().sum()));
            let bound = Duration::from_nanos(values[rank - 1]);
            prop_assert!(snapshot.below(bound) <= rank as u64);
        }
    }
}

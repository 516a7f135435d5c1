//! The last half hour, so that whoever comes after an outage still sees it.
//!
//! It is kept twice: the last five minutes second by second, and all of the thirty in steps of ten seconds. A point says
//! what happened since the point before it, so that nothing falls between two of them; of a server it keeps the worst that
//! was seen. Time comes with each [`Reading`], never from a clock, and what is kept has a bound whatever the configuration
//! holds: where there are very many pools or servers, the steps grow.

mod answer;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

pub(super) use answer::answer;
use reading::{COUNTS, LATENCIES};
pub(super) use reading::{Condition, Reading};

/// How far back it goes.
const KEPT: Duration = Duration::from_secs(1800);

/// What is kept takes no more bytes than this, all pools and servers together. The one reading that each of the two
/// tiers compares with comes on top (3 KB a pool, 16 bytes a server).
const LIMIT: usize = 4 << 20;

/// How often readings come.
const PERIOD: Duration = Duration::from_secs(1);

/// Steps that are kept where there is room.
const FINE: Steps = Steps { every: PERIOD, most: 300 };
const COARSE: Steps = Steps { every: Duration::from_secs(10), most: 180 };

/// How far apart points are, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    every: Duration,
    most: usize,
}

/// The steps for points of this size: the usual ones, or half as many as often as it takes.
fn steps(point: usize) -> (Steps, Steps) {
    let (mut fine, mut coarse) = (FINE, COARSE);
    while (fine.most + coarse.most) * point > LIMIT && coarse.most > 1 {
        fine.most /= 2;
        coarse = Steps { every: coarse.every * 2, most: coarse.most / 2 };
    }
    (fine, coarse)
}

/// What happened in a pool between two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PoolPoint {
    /// In the order of [`reading::COUNT_NAMES`].
    counts: [u32; COUNTS],
    /// In microseconds, in the order of [`reading::LATENCY_NAMES`]; [`u32::MAX`] where there was no request.
    latencies: [u32; LATENCIES],
}

/// What happened between two points.
#[derive(Debug, Clone)]
struct Point {
    start: Duration,
    end: Duration,
    pools: Box<[PoolPoint]>,
    /// The worst of each server, those of the first pool first.
    servers: Box<[Condition]>,
}

/// The past in steps of one length.
#[derive(Debug)]
struct Tier {
    steps: Steps,
    /// What the next point is compared with.
    base: Reading,
    /// The worst of each server since.
    worst: Box<[Condition]>,
    /// The oldest first.
    points: VecDeque<Point>,
}

impl Tier {
    fn new(steps: Steps) -> Self {
        Self { steps, base: Reading::default(), worst: Box::default(), points: VecDeque::new() }
    }

    /// Takes in the next reading.
    fn push(&mut self, reading: &Reading) {
        if reading.at < self.base.at {
            // Ages would be wrong.
            self.points.clear();
            self.base = reading.clone();
            self.worst = Box::default();
            return;
        }
        let seen: Vec<Condition> = reading.conditions().collect();
        self.worst = match self.worst.len() == seen.len() {
            true => self.worst.iter().zip(&seen).map(|(worst, seen)| *worst.max(seen)).collect(),
            false => seen.into(),
        };
        while self.points.front().is_some_and(|point| point.end + KEPT < reading.at) {
            self.points.pop_front();
        }
        // Readings are not on the dot; the last one before it would otherwise belong to the next point.
        if reading.at + PERIOD / 2 < self.base.at + self.steps.every {
            return;
        }
        if self.points.len() >= self.steps.most.max(1) {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            start: self.base.at,
            end: reading.at,
            pools: reading.pools_since(&self.base),
            servers: std::mem::take(&mut self.worst),
        });
        self.base = reading.clone();
    }
}

/// The last half hour.
#[derive(Debug)]
pub(super) struct History {
    fine: Tier,
    coarse: Tier,
    /// How often each server had left the ring at the last reading.
    ejections: Vec<u64>,
}

impl History {
    /// For so many pools and servers.
    pub(super) fn new(pools: usize, servers: usize) -> Self {
        let (fine, coarse) = steps(point_size(pools, servers));
        Self { fine: Tier::new(fine), coarse: Tier::new(coarse), ejections: Vec::new() }
    }

    /// Takes in the next reading; they come once a second.
    pub(super) fn push(&mut self, mut reading: Reading) {
        reading.mark_short_outages(&mut self.ejections);
        self.fine.push(&reading);
        self.coarse.push(&reading);
    }

    /// The points, the oldest first, each beginning where the one before it ends: coarse ones as far back as there are no
    /// fine ones.
    fn points(&self) -> impl Iterator<Item = &Point> {
        let fine_from = self.fine.points.front().map_or(Duration::MAX, |point| point.start);
        let coarse = self.coarse.points.iter().take_while(move |point| point.start < fine_from);
        let join = coarse.clone().last().map_or(Duration::ZERO, |point| point.end);
        coarse.chain(self.fine.points.iter().filter(move |point| point.start >= join))
    }
}

/// Bytes of a point.
const fn point_size(pools: usize, servers: usize) -> usize {
    size_of::<Point>() + pools * size_of::<PoolPoint>() + servers * size_of::<Condition>()
}

//! From single runs to the table: ratios pair by pair, medians, spread.
//!
//! A ratio is taken within one round, between runs that lie seconds apart; only then the median over the rounds. What
//! the neighbours of the machine did meanwhile touches both runs of a pair and mostly cancels.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::{LoadResult, lossy};

/// All runs of one workload at one placement.
#[derive(Serialize)]
pub(crate) struct Block {
    /// Name of the workload.
    pub(crate) workload: String,
    /// What the workload does.
    pub(crate) about: String,
    /// Which CPU ran what.
    pub(crate) placement: String,
    /// Targets in the order of the columns.
    pub(crate) targets: Vec<String>,
    /// For each target its runs, by round.
    pub(crate) runs: BTreeMap<String, Vec<LoadResult>>,
    /// For each target its system calls per request, or why they could not be counted.
    pub(crate) calls: BTreeMap<String, Result<f64, String>>,
    /// Runs that broke and were repeated, each with its reason.
    pub(crate) broken: Vec<String>,
}

struct Row {
    name: &'static str,
    /// Digits after the point.
    digits: usize,
    /// More is better (operations) or worse (the rest).
    more_is_better: bool,
    figure: fn(&LoadResult) -> Option<f64>,
}

const ROWS: [Row; 7] = [
    Row { name: "CPU us/request", digits: 2, more_is_better: false, figure: cpu_us_per_request },
    Row { name: "operations/s", digits: 0, more_is_better: true, figure: operations_per_second },
    Row { name: "p50 us", digits: 0, more_is_better: false, figure: |run| latency_us(run, run.p50_ns) },
    Row { name: "p99 us", digits: 0, more_is_better: false, figure: |run| latency_us(run, run.p99_ns) },
    Row { name: "p99.9 us", digits: 0, more_is_better: false, figure: |run| latency_us(run, run.p999_ns) },
    Row {
        name: "resident kB",
        digits: 0,
        more_is_better: false,
        figure: |run| Some(lossy(run.resident_bytes) / 1024.0),
    },
    Row { name: "bytes/client", digits: 0, more_is_better: false, figure: |run| run.bytes_per_client },
];

fn cpu_us_per_request(run: &LoadResult) -> Option<f64> {
    measured(run).then(|| lossy(run.cpu_ns) / 1000.0 / lossy(run.requests))
}

fn operations_per_second(run: &LoadResult) -> Option<f64> {
    measured(run).then(|| lossy(run.requests) / run.seconds)
}

fn latency_us(run: &LoadResult, ns: u32) -> Option<f64> {
    measured(run).then(|| f64::from(ns) / 1000.0)
}

/// The idle workload has no window, so it has no rates either.
fn measured(run: &LoadResult) -> bool {
    run.requests > 0 && run.seconds > 0.0
}

/// Misses and errors of all runs together.
fn sum_of_flaws(runs: &[LoadResult]) -> (u64, u64) {
    runs.iter().fold((0, 0), |sum, run| (sum.0 + run.misses, sum.1 + run.errors))
}

/// The middle of some figures, and between which two they lie.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let upper = figures[figures.len() / 2];
        let lower = figures[(figures.len() - 1) / 2];
        Some(Self { median: f64::midpoint(lower, upper), least, most })
    }
}

impl Block {
    /// Appends the table: a row a figure, a column a target, ratios to `reference`.
    pub(crate) fn render(&self, reference: &str, out: &mut String) {
        let rounds = self.runs.values().map(Vec::len).max().unwrap_or(0);
        out.push_str(&format!("\n{}: {}\n", self.workload, self.about));
        out.push_str(&format!(
            "placement {}, {rounds} rounds; median, and xN against {reference} (above 1 is better) [least-most]\n",
            self.placement
        ));
        let mut table = vec![std::iter::once(String::new()).chain(self.targets.iter().cloned()).collect::<Vec<_>>()];
        for row in &ROWS {
            if let Some(cells) = self.row(row, reference) {
                table.push(cells);
            }
        }
        if !self.calls.is_empty() {
            table.insert(2, self.calls_row(reference));
        }
        let widths: Vec<usize> = (0..=self.targets.len())
            .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &table {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            out.push_str(cells.join("  ").trim_end());
            out.push('\n');
        }
        for (label, runs) in &self.runs {
            let (misses, errors) = sum_of_flaws(runs);
            if misses + errors > 0 {
                out.push_str(&format!("NOTE: {label} gave {misses} misses and {errors} errors, where none belong\n"));
            }
        }
        for reason in &self.broken {
            out.push_str(&format!("NOTE: a run broke and was repeated: {reason}\n"));
        }
        for (label, reason) in self.calls.iter().filter_map(|(label, calls)| Some((label, calls.as_ref().err()?))) {
            out.push_str(&format!("n/a for {label}: {reason}\n"));
        }
    }

    fn row(&self, row: &Row, reference: &str) -> Option<Vec<String>> {
        let mut cells = vec![row.name.to_owned()];
        for target in &self.targets {
            let runs = self.runs.get(target)?;
            let value = Spread::of(runs.iter().filter_map(row.figure).collect())?;
            let mut cell = format!("{:.*}", row.digits, value.median);
            if target != reference
                && let Some(base) = self.runs.get(reference)
            {
                let pairs = runs.iter().zip(base).filter_map(|(run, base)| {
                    let (mine, theirs) = ((row.figure)(run)?, (row.figure)(base)?);
                    let ratio = if row.more_is_better { mine / theirs } else { theirs / mine };
                    ratio.is_finite().then_some(ratio)
                });
                if let Some(ratio) = Spread::of(pairs.collect()) {
                    cell.push_str(&format!(" x{:.2} [{:.2}-{:.2}]", ratio.median, ratio.least, ratio.most));
                }
            }
            cells.push(cell);
        }
        Some(cells)
    }

    fn calls_row(&self, reference: &str) -> Vec<String> {
        let mut cells = vec!["calls/request".to_owned()];
        for target in &self.targets {
            cells.push(match self.calls.get(target) {
                Some(Ok(calls)) => {
                    let base = self.calls.get(reference).and_then(|base| base.as_ref().ok());
                    match base.filter(|_| target != reference) {
                        Some(base) => format!("{calls:.2} x{:.2}", base / calls),
                        None => format!("{calls:.2}"),
                    }
                }
                Some(Err(_)) | None => "n/a".to_owned(),
            });
        }
        cells
    }

    /// What is wrong with the answers of `label`, when some request did not get what the cache holds.
    pub(crate) fn wrong_answers(&self, label: &str) -> Option<String> {
        let (misses, errors) = sum_of_flaws(self.runs.get(label)?);
        (misses + errors > 0).then(|| format!("{}: {label} gave {misses} misses, {errors} errors", self.workload))
    }

    /// What is wrong with the system calls of `label`, when they are over `limit` per request or were not counted.
    pub(crate) fn excess_calls(&self, label: &str, limit: f64) -> Option<String> {
        match self.calls.get(label)? {
            Ok(calls) if *calls <= limit => None,
            Ok(calls) => Some(format!("{}: {label} makes {calls:.2} calls per request, limit {limit}", self.workload)),
            Err(reason) => Some(format!("{}: the calls of {label} cannot be guarded: {reason}", self.workload)),
        }
    }
}

//! From single runs to figures: what each row shows, ratios pair by pair, medians, spread, and what is held to a limit.
//!
//! A ratio is taken within one round, between runs that lie seconds apart; only then the median over the rounds. What
//! the neighbours of the machine did meanwhile touches both runs of a pair and mostly cancels.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::task::{LoadResult, lossy};
use crate::workload::Limit;

/// All runs of one workload at one placement.
#[derive(Serialize)]
pub(crate) struct Block {
    /// Name of the workload.
    pub(crate) workload: String,
    /// What the workload does.
    pub(crate) about: String,
    /// One client with one request in flight.
    pub(crate) lone: bool,
    /// Which CPU ran what: the word, and in words.
    pub(crate) placement: String,
    pub(crate) placement_words: String,
    /// Targets in the order of the columns.
    pub(crate) targets: Vec<String>,
    /// Targets that do not speak the protocol.
    pub(crate) left_out: Vec<String>,
    /// For each target its runs, by round.
    pub(crate) runs: BTreeMap<String, Vec<LoadResult>>,
    /// For each target its system calls per request, or why they could not be counted.
    pub(crate) calls: BTreeMap<String, Result<f64, String>>,
    /// Runs that broke and were repeated, each with its reason.
    pub(crate) broken: Vec<String>,
}

/// One run and what its figures may refer to.
pub(crate) struct Sample<'a> {
    run: &'a LoadResult,
    /// The run against the server itself in the same round; only where there is no queue.
    direct: Option<&'a LoadResult>,
    calls: Option<f64>,
}

/// One figure of the report.
pub(crate) struct Row {
    /// How tables and limits call it.
    pub(crate) name: &'static str,
    /// Digits after the point.
    digits: usize,
    /// More is better (operations) or worse (the rest).
    more_is_better: bool,
    figure: fn(&Sample<'_>) -> Option<f64>,
}

impl Row {
    const fn new(name: &'static str, digits: usize, figure: fn(&Sample<'_>) -> Option<f64>) -> Self {
        Self { name, digits, more_is_better: false, figure }
    }
}

/// Every figure, in the order of the tables; a row that no target has a figure for is left out.
pub(crate) const ROWS: [Row; 14] = [
    Row::new("CPU us/request", 2, |of| per_request_us(of.run, of.run.cpu_ns)),
    Row::new("calls/request", 2, |of| of.calls),
    Row { more_is_better: true, ..Row::new("operations/s", 0, |of| operations_per_second(of.run)) },
    Row::new("p50 us", 0, |of| latency_us(of.run, of.run.quantiles.p50_ns)),
    Row::new("p99 us", 0, |of| latency_us(of.run, of.run.quantiles.p99_ns)),
    Row::new("p99.9 us", 0, |of| latency_us(of.run, of.run.quantiles.p999_ns)),
    Row::new("added us", 1, added_us),
    Row::new("servers' us/request", 2, |of| of.run.servers_cpu_ns.and_then(|ns| per_request_us(of.run, ns))),
    Row::new("load us/request", 2, |of| per_request_us(of.run, of.run.load_cpu_ns)),
    Row::new("resident kB", 0, |of| Some(lossy(of.run.resident_bytes) / 1024.0)),
    Row::new("bytes/client", 0, |of| of.run.bytes_per_client),
    Row::new("before kB", 0, |of| of.run.before_bytes.map(|bytes| lossy(bytes) / 1024.0)),
    Row::new("peak kB", 0, |of| of.run.peak_bytes.map(|bytes| lossy(bytes) / 1024.0)),
    Row::new("left behind kB", 0, left_behind_kb),
];

fn per_request_us(run: &LoadResult, ns: u64) -> Option<f64> {
    measured(run).then(|| lossy(ns) / 1000.0 / lossy(run.requests))
}

fn operations_per_second(run: &LoadResult) -> Option<f64> {
    measured(run).then(|| lossy(run.requests) / run.seconds)
}

fn latency_us(run: &LoadResult, ns: u32) -> Option<f64> {
    measured(run).then(|| f64::from(ns) / 1000.0)
}

/// What the way through the proxy adds to a lone request.
fn added_us(of: &Sample<'_>) -> Option<f64> {
    let direct = of.direct?;
    Some((f64::from(of.run.quantiles.p50_ns) - f64::from(direct.quantiles.p50_ns)) / 1000.0)
}

fn left_behind_kb(of: &Sample<'_>) -> Option<f64> {
    let before = of.run.before_bytes?;
    Some(lossy(of.run.resident_bytes.saturating_sub(before)) / 1024.0)
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
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
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

    /// A ratio as tables show it; one figure alone has no spread.
    pub(crate) fn ratio_text(&self) -> String {
        if self.least < self.most {
            format!("x{:.2} [{:.2}-{:.2}]", self.median, self.least, self.most)
        } else {
            format!("x{:.2}", self.median)
        }
    }
}

impl Block {
    /// The rounds that were measured.
    pub(crate) fn rounds(&self) -> usize {
        self.runs.values().map(Vec::len).max().unwrap_or(0)
    }

    /// The figures of `target` in a row, one a round.
    fn figures(&self, row: &Row, target: &str) -> Vec<Option<f64>> {
        let direct = self.runs.get("direct").filter(|_| self.lone && target != "direct");
        let calls = self.calls.get(target).and_then(|calls| calls.as_ref().ok().copied());
        let runs = self.runs.get(target).map_or(&[][..], Vec::as_slice);
        let sample = |(round, run)| Sample { run, direct: direct.and_then(|runs| runs.get(round)), calls };
        runs.iter().enumerate().map(|run| (row.figure)(&sample(run))).collect()
    }

    /// The figure of `target` in a row.
    pub(crate) fn figure(&self, row: &Row, target: &str) -> Option<Spread> {
        Spread::of(self.figures(row, target).into_iter().flatten().collect())
    }

    /// The same as text.
    pub(crate) fn figure_text(&self, row: &Row, target: &str) -> Option<String> {
        self.figure(row, target).map(|figure| format!("{:.*}", row.digits, figure.median))
    }

    /// How much better `target` is in a row than `reference`.
    pub(crate) fn ratio(&self, row: &Row, target: &str, reference: &str) -> Option<Spread> {
        if target == reference {
            return None;
        }
        let (mine, theirs) = (self.figures(row, target), self.figures(row, reference));
        let pairs = mine.into_iter().zip(theirs).filter_map(|(mine, theirs)| {
            let (mine, theirs) = (mine?, theirs?);
            let ratio = if row.more_is_better { mine / theirs } else { theirs / mine };
            // Nothing, or less than nothing (where a neighbour disturbed the direct run), has no ratio.
            (mine > 0.0 && theirs > 0.0).then_some(ratio)
        });
        Spread::of(pairs.collect())
    }

    /// Appends the table: a row a figure, a column a target, ratios to `reference`.
    pub(crate) fn render(&self, reference: &str, out: &mut String) {
        out.push_str(&format!("\n{}: {}\n", self.workload, self.about));
        out.push_str(&format!(
            "placement {} ({}), {} rounds; median, and xN against {reference} (above 1 is better) [least-most]\n",
            self.placement,
            self.placement_words,
            self.rounds()
        ));
        let mut table = vec![std::iter::once(String::new()).chain(self.targets.iter().cloned()).collect::<Vec<_>>()];
        for row in &ROWS {
            let cells: Vec<Option<String>> =
                self.targets.iter().map(|target| self.cell(row, target, reference)).collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
                table.push(std::iter::once(row.name.to_owned()).chain(cells).collect());
            }
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
        for note in self.notes() {
            out.push_str(&format!("NOTE: {note}\n"));
        }
    }

    fn cell(&self, row: &Row, target: &str, reference: &str) -> Option<String> {
        let mut cell = self.figure_text(row, target)?;
        if let Some(ratio) = self.ratio(row, target, reference) {
            cell.push(' ');
            cell.push_str(&ratio.ratio_text());
        }
        Some(cell)
    }

    /// What a reader of the table must know beside it.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.left_out.is_empty() {
            notes.push(format!("without {}: no proxy for this protocol", self.left_out.join(" and ")));
        }
        for (label, runs) in &self.runs {
            let (misses, errors) = sum_of_flaws(runs);
            if misses + errors > 0 {
                notes.push(format!("{label} gave {misses} misses and {errors} errors, where none belong"));
            }
        }
        notes.extend(self.broken.iter().map(|reason| format!("a run broke and was repeated: {reason}")));
        let uncounted = self.calls.iter().filter_map(|(label, calls)| Some((label, calls.as_ref().err()?)));
        notes.extend(uncounted.map(|(label, reason)| format!("no calls of {label}: {reason}")));
        notes
    }

    /// What is wrong with the answers of `label`, when some request did not get what the cache holds.
    pub(crate) fn wrong_answers(&self, label: &str) -> Option<String> {
        let (misses, errors) = sum_of_flaws(self.runs.get(label)?);
        (misses + errors > 0).then(|| format!("{}: {label} gave {misses} misses, {errors} errors", self.workload))
    }

    /// What is wrong with `label` when its figure is over `limit`, or is not there.
    pub(crate) fn excess(&self, label: &str, limit: Limit) -> Option<String> {
        let row = ROWS.iter().find(|row| row.name == limit.row);
        match row.and_then(|row| self.figure(row, label)) {
            Some(figure) if figure.median <= limit.most => None,
            Some(figure) => {
                Some(format!("{}: {label} has {:.2} {}, limit {}", self.workload, figure.median, limit.row, limit.most))
            }
            None => Some(format!("{}: the {} of {label} cannot be guarded, see the notes", self.workload, limit.row)),
        }
    }
}

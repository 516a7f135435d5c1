//! The tables as docs/performance.md shows them: a table for each target at each placement, ratios first.

use crate::machine::Circumstances;
use crate::report::{Block, ROWS, Row};

/// Rows whose ratios come first, and rows that are then shown as they are, with the heads of their columns.
const RATIOS: [(&str, &str); 5] = [
    ("CPU us/request", "CPU"),
    ("operations/s", "operations/s"),
    ("p50 us", "p50"),
    ("p99 us", "p99"),
    ("added us", "added"),
];
const FIGURES: [(&str, &str); 4] = [
    ("CPU us/request", "µs CPU"),
    ("calls/request", "calls"),
    ("operations/s", "operations/s"),
    ("added us", "µs added"),
];
/// Figures of the workloads that measure memory, a line each.
const MEMORY: [&str; 3] = ["bytes/client", "peak kB", "left behind kB"];

/// The whole report.
pub(crate) fn render(circumstances: &Circumstances, blocks: &[Block], reference: &str) -> String {
    let mut out = String::new();
    for line in circumstances.lines() {
        out.push_str(&format!("- {line}\n"));
    }
    let mut placements: Vec<(&str, &str)> = Vec::new();
    let mut targets: Vec<&str> = Vec::new();
    for block in blocks {
        push_new(&mut placements, (&block.placement, &block.placement_words));
        for target in block.targets.iter().filter(|&target| target != reference && target != "direct") {
            push_new(&mut targets, target);
        }
    }
    for (placement, words) in placements {
        for &target in &targets {
            let here = |block: &&Block| block.placement == placement && block.runs.contains_key(target);
            let blocks: Vec<&Block> = blocks.iter().filter(here).collect();
            if !blocks.is_empty() {
                out.push_str(&format!("\n{target} against {reference}, {words}; above 1, {target} is better:\n\n"));
                speed(&mut out, &blocks, target, reference);
                memory(&mut out, &blocks, target, reference);
            }
        }
    }
    let notes = |block: &Block| {
        let name = format!("{}, {}", block.workload, block.placement);
        block.notes().into_iter().map(move |note| format!("- {name}: {note}\n")).collect::<String>()
    };
    let notes: String = blocks.iter().map(notes).collect();
    if !notes.is_empty() {
        out.push_str(&format!("\nNotes:\n\n{notes}"));
    }
    out
}

fn speed(out: &mut String, blocks: &[&Block], target: &str, reference: &str) {
    let heads = RATIOS.iter().map(|(_, head)| (*head).to_owned());
    let figures = FIGURES.iter().map(|(_, head)| format!("{head}: {reference} → {target}"));
    let heads: Vec<String> = std::iter::once("workload".to_owned()).chain(heads).chain(figures).collect();
    push_line(out, &heads);
    push_line(out, &vec!["---".to_owned(); heads.len()]);
    let timed = |block: &&&Block| row("CPU us/request").is_some_and(|row| block.figure(row, target).is_some());
    for block in blocks.iter().filter(timed) {
        let mut cells = vec![format!("{}: {}", block.workload, block.about)];
        cells.extend(RATIOS.iter().map(|(name, _)| ratio(block, name, target, reference)));
        cells.extend(FIGURES.iter().map(|(name, _)| both(block, name, target, reference)));
        push_line(out, &cells);
    }
}

fn memory(out: &mut String, blocks: &[&Block], target: &str, reference: &str) {
    let mut lines = Vec::new();
    for block in blocks {
        for name in MEMORY {
            if row(name).is_some_and(|row| block.figure(row, target).is_some()) {
                let ratio = ratio(block, name, target, reference);
                lines.push(vec![block.workload.clone(), name.to_owned(), ratio, both(block, name, target, reference)]);
            }
        }
    }
    if lines.is_empty() {
        return;
    }
    out.push('\n');
    let both = format!("{reference} → {target}");
    push_line(out, &["workload".to_owned(), "memory".to_owned(), "ratio".to_owned(), both]);
    push_line(out, &vec!["---".to_owned(); 4]);
    for line in lines {
        push_line(out, &line);
    }
}

fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// A ratio, bold where the target is behind.
fn ratio(block: &Block, name: &str, target: &str, reference: &str) -> String {
    match row(name).and_then(|row| block.ratio(row, target, reference)) {
        Some(ratio) if ratio.median < 0.995 => format!("**{}**", ratio.ratio_text()),
        Some(ratio) => ratio.ratio_text(),
        None => String::new(),
    }
}

fn both(block: &Block, name: &str, target: &str, reference: &str) -> String {
    let figure = |target| row(name).and_then(|row| block.figure_text(row, target));
    match (figure(reference), figure(target)) {
        (Some(theirs), Some(mine)) => format!("{theirs} → {mine}"),
        (None, Some(mine)) => mine,
        (_, None) => String::new(),
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn push_line(out: &mut String, cells: &[String]) {
    out.push_str(&format!("| {} |\n", cells.join(" | ")));
}

//! docs/metrics.md lists every statistic that there is, from the tables that the program itself uses.

use std::fmt::Write as _;
use std::path::Path;

use softmiss::stats::prometheus::{POOL, PROCESS, SERVER, series};
use softmiss::stats::table::{self, Kind, Metric};

/// The part of the page that is written from the tables stands behind this line.
const MARK: &str = "<!-- from here on written from the tables of the program: do not edit -->\n";

fn rows<T>(out: &mut String, title: &str, prefix: &str, metrics: &[Metric<T>]) {
    let _ = write!(
        out,
        "\n## {title}\n\n| Prometheus | statistics port, statsd | kind | what it is |\n| --- | --- | --- | --- |\n"
    );
    for metric in metrics {
        let name = series(prefix, metric.name, metric.kind);
        let kind = if metric.kind == Kind::Timestamp { Kind::Gauge } else { metric.kind };
        let _ = writeln!(out, "| `{name}` | `{}` | {} | {} |", metric.name, kind.name(), metric.help);
    }
}

#[test]
fn the_page_lists_what_there_is() {
    let mut wanted = String::new();
    rows(&mut wanted, "Of the process", PROCESS, table::PROCESS);
    rows(&mut wanted, "Of each pool (label `pool`)", POOL, table::POOL);
    rows(&mut wanted, "Of each server (labels `pool`, `server`)", SERVER, table::SERVER);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(&file).expect("docs/metrics.md");
    let (written, found) = text.split_once(MARK).expect("the mark in docs/metrics.md");
    if std::env::var_os("SOFTMISS_BLESS").is_some() {
        std::fs::write(&file, format!("{written}{MARK}{wanted}")).expect("write");
        return;
    }
    assert_eq!(found, wanted, "SOFTMISS_BLESS=1 writes it anew");
}

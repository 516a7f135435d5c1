//! What conf/ brings for Prometheus and Grafana names only series that exist, and every alert has its place in the runbook.

use std::collections::BTreeSet;
use std::path::Path;

use softmiss::stats::prometheus::{POOL, PROCESS, SERVER, series};
use softmiss::stats::table;

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

/// Every series that a scrape can have.
fn known() -> BTreeSet<String> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    known.extend(table::PROCESS.iter().map(|metric| series(PROCESS, metric.name, metric.kind)));
    known.extend(table::POOL.iter().map(|metric| series(POOL, metric.name, metric.kind)));
    known.extend(table::SERVER.iter().map(|metric| series(SERVER, metric.name, metric.kind)));
    for name in [
        "uptime_seconds",
        "memory_limit_bytes",
        "workers",
        "build_info",
        "pool_degraded_total",
        "server_up",
        "server_held",
        "server_failures_in_a_row",
        "server_ejected_at_seconds",
        "pool_request_duration_seconds_bucket",
        "server_response_duration_seconds_bucket",
    ] {
        known.insert(format!("softmiss_{name}"));
    }
    known
}

fn named(text: &str) -> BTreeSet<String> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| word.starts_with("softmiss_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let known = known();
    for file in ["conf/prometheus/alerts.yml", "conf/grafana.json", "docs/runbook.md"] {
        let unknown: Vec<_> = named(&text(file))
            .into_iter()
            .filter(|name| !known.contains(name) && !known.contains(&format!("{name}_bucket")))
            .collect();
        assert!(unknown.is_empty(), "{file} names what is not there: {unknown:?}");
    }
    assert!(named(&text("conf/grafana.json")).len() > 12);
    serde_json::from_str::<serde_json::Value>(&text("conf/grafana.json")).expect("JSON");
}

#[test]
fn every_alert_has_its_section_in_the_runbook() {
    let (alerts, runbook) = (text("conf/prometheus/alerts.yml"), text("docs/runbook.md"));
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in &names {
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has no section");
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    for section in sections.filter(|section| section.starts_with("Softmiss")) {
        assert!(names.contains(&section), "{section} is no alert");
    }
}

#[test]
fn prometheus_takes_the_rules() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/prometheus/alerts.yml");
    let output = std::process::Command::new("promtool").args(["check", "rules"]).arg(rules).output().expect("promtool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! docs/metrics.md lists every statistic that there is, from the tables that the program itself uses, and whatever else a
//! running proxy gives.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use softmiss::stats::prometheus::{POOL, PROCESS, SERVER, series};
use softmiss::stats::table::{self, Kind, Metric};

use super::support::http::get;
use super::support::process::{Proxy, free_port};
use super::support::wait_until;

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

/// What a scrape has that is in no table: name, kind and what it is.
fn others() -> Vec<(String, String, String)> {
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let pool = |name: &str, port: u16| {
        format!("{name}:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['127.0.0.1:9:1']\n")
    };
    let _proxy = Proxy::with_file(&format!("softmiss:\n  admin: {admin}\n{}", pool("p", port)), port);
    wait_until("the admin port", Duration::from_secs(10), || TcpStream::connect(admin).is_ok());
    let text = get(admin, "/metrics").body;
    let of = |start: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start)?.split_once(' '));
        lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
    };
    let tables: Vec<String> = [
        (PROCESS, table::PROCESS.iter().map(|one| (one.name, one.kind)).collect::<Vec<_>>()),
        (POOL, table::POOL.iter().map(|one| (one.name, one.kind)).collect()),
        (SERVER, table::SERVER.iter().map(|one| (one.name, one.kind)).collect()),
    ]
    .into_iter()
    .flat_map(|(prefix, all)| all.into_iter().map(move |(name, kind)| series(prefix, name, kind)))
    .collect();
    let (help, kinds) = (of("# HELP "), of("# TYPE "));
    assert!(help.len() == kinds.len() && help.len() > tables.len(), "{text}");
    // A line of a series without a word about it would be in neither list.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let base = ["_bucket", "_sum", "_count"].into_iter().fold(name, |name, end| name.trim_end_matches(end));
        assert!(kinds.iter().any(|(known, _)| known == name || known == base), "{line}");
    }
    let all = help.into_iter().zip(kinds).map(|((name, help), (_, kind))| (name, kind, help));
    all.filter(|(name, ..)| !tables.contains(name)).collect()
}

#[test]
fn the_page_lists_what_there_is() {
    let mut wanted = String::new();
    rows(&mut wanted, "Of the process", PROCESS, table::PROCESS);
    rows(&mut wanted, "Of each pool (label `pool`)", POOL, table::POOL);
    rows(&mut wanted, "Of each server (labels `pool`, `server`)", SERVER, table::SERVER);
    wanted.push_str(
        "\n## Beside these, from Prometheus alone\n\n| Prometheus | kind | what it is |\n| --- | --- | --- |\n",
    );
    for (name, kind, help) in others() {
        let _ = writeln!(wanted, "| `{name}` | {kind} | {help} |");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(&file).expect("docs/metrics.md");
    let (written, found) = text.split_once(MARK).expect("the mark in docs/metrics.md");
    if std::env::var_os("SOFTMISS_BLESS").is_some() {
        std::fs::write(&file, format!("{written}{MARK}{wanted}")).expect("write");
        return;
    }
    assert_eq!(found, wanted, "SOFTMISS_BLESS=1 writes it anew");
}

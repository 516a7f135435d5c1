//! The servers, a line each; what there is to say of one in trouble stands behind its figures, or below them where the
//! screen is narrow.

use std::time::Duration;

use super::super::overview::{Condition, Pool, Server};
use super::super::seen::Seen;
use super::super::text;
use super::super::view::{Sort, View};
use super::page::{Column, Page, Piece, longest, number, width, word};
use crate::io::terminal::counted;

/// Room that the sentences about servers must have beside the figures.
const SENTENCE: u16 = 46;

/// Longest names that are shown whole.
const NAME: u16 = 24;

struct Table<'a> {
    columns: Vec<Column>,
    has_pools: bool,
    /// Sentences stand beside the figures, not below them.
    is_wide: bool,
    rows: Vec<(&'a Pool, &'a Server)>,
}

/// Draws the titles and the servers, in at most `most` lines. Returns the first one that is drawn.
pub(super) fn draw(page: &mut Page<'_>, seen: &Seen, view: &View, most: usize) -> usize {
    let table = table(page, seen, view);
    page.titles(&table.columns);
    let heights: Vec<usize> = table.rows.iter().map(|(_, server)| table.height(server)).collect();
    let mut left = most.saturating_sub(1);
    let first = view.scroll.min(last_start(&heights, left));
    let mut next = first;
    while let Some((pool, server)) = table.rows.get(next) {
        let are_more = heights[next..].iter().sum::<usize>() > left;
        if heights[next] + usize::from(are_more) > left {
            break;
        }
        left -= heights[next];
        let cells = row(page, &table, pool, server);
        page.cells(&table.columns, &cells);
        if table.height(server) > 1 {
            page.line(&[format!("  {}", sentence(server)).into()]);
        }
        next += 1;
    }
    let below = &table.rows[next..];
    if !below.is_empty() {
        let bad = below.iter().filter(|(_, server)| server.condition() != Condition::Up).count();
        let end = if bad > 0 { format!(", {bad} of them in trouble") } else { ", all in service".to_owned() };
        let style = if bad > 0 { page.warning() } else { page.dim() };
        page.line(&[Piece::new(format!("  {}{end}", counted(below.len(), "more server")), style)]);
    }
    first
}

/// The furthest that one can scroll: the end of the list stands at the end of the room.
fn last_start(heights: &[usize], room: usize) -> usize {
    let mut sum = 0;
    for (index, height) in heights.iter().enumerate().rev() {
        sum += height;
        if sum > room {
            return (index + 1).min(heights.len() - 1);
        }
    }
    0
}

impl Table<'_> {
    fn height(&self, server: &Server) -> usize {
        if self.is_wide || server.condition() == Condition::Up { 1 } else { 2 }
    }
}

fn table<'a>(page: &Page<'_>, seen: &'a Seen, view: &View) -> Table<'a> {
    let pools = view.shown(&seen.now);
    let mut rows: Vec<(&Pool, &Server)> =
        pools.iter().flat_map(|pool| pool.servers.iter().map(|server| (*pool, server))).collect();
    sort(&mut rows, view.sort);
    let has_pools = pools.len() > 1;
    let figures = [
        word("state", 7),
        number("share", 6),
        number("req/s", 6),
        number("hit%", 5),
        number("p50", 6),
        number("p99", 6),
        number("conns", 5),
        number("outages", 7),
    ];
    let mut rest = page.width().saturating_sub(width(&figures) + 1);
    let mut columns = Vec::new();
    if has_pools {
        let pool = longest(pools.iter().map(|pool| pool.name.as_str()), 4, NAME.min(rest / 2));
        columns.push(word("pool", pool));
        rest = rest.saturating_sub(pool + 1);
    }
    let name = longest(rows.iter().map(|(_, server)| server.name.as_str()), 6, NAME.min(rest));
    columns.push(word("server", name));
    columns.extend(figures);
    let room = rest.saturating_sub(name + 2);
    let is_wide = room >= longest(rows.iter().map(|(_, server)| sentence(server)), 0, u16::MAX).max(SENTENCE);
    if is_wide {
        columns.push(word("", room));
    }
    Table { columns, has_pools, is_wide, rows }
}

fn sort(rows: &mut [(&Pool, &Server)], sort: Sort) {
    let rate = |one: &Server, other: &Server| other.requests_per_s.total_cmp(&one.requests_per_s);
    rows.sort_by(|(_, one), (_, other)| match sort {
        Sort::Problems => one.condition().cmp(&other.condition()).then_with(|| busyness(other).cmp(&busyness(one))),
        Sort::Rate => rate(one, other),
        Sort::Latency => other.latency.p99_us.cmp(&one.latency.p99_us),
        Sort::Name => one.name.cmp(&other.name),
    });
}

/// The rate in steps of a quarter: servers that are about as busy as each other keep the order of the file, and do not
/// change places every second.
#[expect(clippy::cast_possible_truncation, reason = "a logarithm")]
fn busyness(server: &Server) -> i32 {
    (server.requests_per_s.max(1.0).ln() / 1.25_f64.ln()).round() as i32
}

fn row(page: &Page<'_>, table: &Table<'_>, pool: &Pool, server: &Server) -> Vec<Piece> {
    let (word, state) = match server.condition() {
        Condition::Out => ("OUT", page.bad()),
        Condition::Held if server.state == "draining" => ("DRAINS", page.warning()),
        Condition::Held => ("OUT", page.warning()),
        Condition::Failing => ("FAILING", page.warning()),
        Condition::Up => ("up", page.good()),
    };
    let is_out = matches!(server.condition(), Condition::Out | Condition::Held);
    let name = if is_out { page.strong() } else { Piece::default().style };
    let mut cells = Vec::new();
    if table.has_pools {
        cells.push(pool.name.clone().into());
    }
    cells.extend([
        Piece::new(server.name.clone(), name),
        Piece::new(word, state),
        format!("{}%", text::percent(server.share)).into(),
        text::count(server.requests_per_s).into(),
        server.hit_rate.map_or_else(nothing, text::percent).into(),
        server.latency.p50_us.map_or_else(nothing, text::latency).into(),
        server.latency.p99_us.map_or_else(nothing, text::latency).into(),
        server.connections.to_string().into(),
        server.ejections.to_string().into(),
    ]);
    if table.is_wide {
        cells.push(sentence(server).into());
    }
    cells
}

/// What there is to say of a server in trouble.
fn sentence(server: &Server) -> String {
    let ms = Duration::from_millis;
    match server.condition() {
        Condition::Up => String::new(),
        Condition::Failing => {
            let mut text = counted(server.failures_in_a_row as usize, "failure") + " since its last answer";
            if let Some(reason) = &server.reason {
                text.push_str(&format!(": {reason}"));
            }
            text
        }
        Condition::Held => {
            let span = text::span(ms(server.out_for_ms.unwrap_or_default()));
            let reason = server.reason.as_deref().unwrap_or("by the operator");
            match server.in_flight {
                0 => format!("out of service for {span}, {reason}"),
                1 => format!("out of service for {span}, {reason}; 1 request still to answer"),
                some => format!("out of service for {span}, {reason}; {some} requests still to answer"),
            }
        }
        Condition::Out => {
            let mut text = format!("out of service for {}", text::span(ms(server.out_for_ms.unwrap_or_default())));
            if let Some(reason) = &server.reason {
                text.push_str(&format!(": {reason}"));
            }
            match server.next_probe_ms {
                Some(left) if left >= 1000 => text.push_str(&format!("; health check in {}", text::span(ms(left)))),
                _ => text.push_str("; health check under way"),
            }
            text
        }
    }
}

fn nothing() -> String {
    "-".to_owned()
}

//! The pools, a line each, and a line for all of them.

use super::super::overview::{Condition, Pool};
use super::super::seen::Seen;
use super::super::text;
use super::super::view::{View, ranked};
use super::page::{Column, Page, Piece, longest, number, width, word};
use crate::io::terminal::counted;

/// What is always there.
const COLUMNS: [Column; 10] = [
    word("", 1),
    word("pool", 0),
    number("serving", 7),
    number("req/s", 6),
    number("hit%", 5),
    number("by proxy/s", 10),
    word("main cause", 13),
    number("errors", 6),
    number("p50", 6),
    number("p99", 6),
];

/// What comes behind it as far as there is room.
const MORE: [Column; 9] = [
    number("errors/s", 8),
    number("clients", 7),
    word("on_failure", 10),
    word("protocol", 9),
    number("passed on", 9),
    word("listens on", 21),
    number("computed", 8),
    number("waited", 6),
    number("kept here", 9),
];

/// The last of them are only for pools with `stampede`, or with `near_cache`.
const OF_STAMPEDE: usize = 2;
const OF_NEAR_CACHE: usize = 1;

/// Draws the titles and at most `most` pools; the chosen one is among them.
pub(super) fn draw(page: &mut Page<'_>, seen: &Seen, view: &View, most: usize) {
    let pools = ranked(&seen.now);
    let mut columns = COLUMNS.to_vec();
    let rest = page.width().saturating_sub(width(&columns));
    columns[1].width = longest(pools.iter().map(|pool| pool.name.as_str()), 4, rest);
    let is_calm = pools.iter().any(|pool| pool.stampede.is_some());
    let is_near = pools.iter().any(|pool| pool.near_cache.is_some());
    let unused = if is_near { 0 } else { OF_NEAR_CACHE + if is_calm { 0 } else { OF_STAMPEDE } };
    for column in MORE.into_iter().take(MORE.len() - unused) {
        if width(&columns) + 1 + column.width > page.width() {
            break;
        }
        columns.push(column);
    }
    page.titles(&columns);
    let chosen = view.chosen(&seen.now);
    if pools.len() > 1 {
        let cells = all(page, seen, &pools, chosen.is_none() && !view.is_text);
        page.cells(&columns, &cells);
    }
    let most = if pools.len() > most { most - 1 } else { most };
    let at = chosen.and_then(|chosen| pools.iter().position(|pool| pool.name == chosen.name)).unwrap_or(0);
    let first = (at + 1).saturating_sub(most);
    for pool in pools.iter().skip(first).take(most) {
        let is_chosen = chosen.is_some_and(|chosen| chosen.name == pool.name);
        let cells = row(page, seen, pool, is_chosen);
        page.cells(&columns, &cells);
    }
    if pools.len() > most {
        let hidden: Vec<_> = pools.iter().take(first).chain(pools.iter().skip(first + most)).collect();
        let bad = hidden.iter().filter(|pool| pool.condition() != Condition::Up).count();
        let end = if bad > 0 { format!(", {bad} of them in trouble") } else { ", all well".to_owned() };
        let style = if bad > 0 { page.warning() } else { page.dim() };
        page.line(&[Piece::new(format!("  {}{end}", counted(hidden.len(), "more pool")), style)]);
    }
}

fn all(page: &Page<'_>, seen: &Seen, pools: &[&Pool], is_chosen: bool) -> Vec<Piece> {
    let sum = |figure: fn(&Pool) -> f64| text::count(pools.iter().map(|pool| figure(pool)).sum());
    let total = |figure: fn(&Pool) -> u64| pools.iter().map(|pool| figure(pool)).sum::<u64>();
    let (in_ring, servers): (usize, usize) =
        (pools.iter().map(|pool| pool.in_ring()).sum(), pools.iter().map(|pool| pool.servers.len()).sum());
    let errors: Option<f64> = pools.iter().map(|pool| seen.errors_per_s(pool)).sum();
    let style = if is_chosen { page.strong() } else { page.dim() };
    let cells = [
        marker(is_chosen),
        "all".to_owned(),
        format!("{in_ring}/{servers}"),
        sum(|pool| pool.requests_per_s),
        seen.hit_rate(pools).map_or_else(nothing, text::percent),
        sum(|pool| pool.degraded_per_s),
        String::new(),
        whole(total(|pool| pool.forward_errors)),
        String::new(),
        String::new(),
        errors.map_or_else(nothing, text::count),
        whole(total(|pool| pool.clients)),
        String::new(),
        String::new(),
        whole(total(|pool| pool.server_errors)),
        String::new(),
        whole(total(|pool| pool.stampede.as_ref().map_or(0, |calm| calm.leases))),
        whole(total(|pool| pool.stampede.as_ref().map_or(0, |calm| calm.waits))),
        whole(total(|pool| pool.near_cache.as_ref().map_or(0, |near| near.hits))),
    ];
    cells.into_iter().map(|text| Piece::new(text, style)).collect()
}

fn row(page: &Page<'_>, seen: &Seen, pool: &Pool, is_chosen: bool) -> Vec<Piece> {
    let ring = match pool.condition() {
        _ if pool.is_down() => page.bad(),
        Condition::Out => page.warning(),
        Condition::Failing | Condition::Held | Condition::Up => page.good(),
    };
    let errors = seen.errors_per_s(pool);
    let told = if errors.is_some_and(|rate| rate > 0.0) { page.bad() } else { Piece::default().style };
    let is_degraded = pool.degraded_per_s > 0.0;
    let degraded = if is_degraded { page.warning() } else { Piece::default().style };
    let cause = if is_degraded { seen.main_cause(pool).map(text::cause).unwrap_or_default() } else { String::new() };
    let name = if is_chosen { page.strong() } else { Piece::default().style };
    vec![
        Piece::new(marker(is_chosen), name),
        Piece::new(pool.name.clone(), name),
        Piece::new(format!("{}/{}", pool.in_ring(), pool.servers.len()), ring),
        text::count(pool.requests_per_s).into(),
        pool.hit_rate.map_or_else(nothing, text::percent).into(),
        Piece::new(text::count(pool.degraded_per_s), degraded),
        Piece::new(cause, degraded),
        Piece::new(whole(pool.forward_errors), told),
        pool.latency.p50_us.map_or_else(nothing, text::latency).into(),
        pool.latency.p99_us.map_or_else(nothing, text::latency).into(),
        Piece::new(errors.map_or_else(nothing, text::count), told),
        whole(pool.clients).into(),
        pool.on_failure.clone().into(),
        pool.protocol.clone().into(),
        whole(pool.server_errors).into(),
        pool.listen.clone().into(),
        pool.stampede.as_ref().map_or_else(nothing, |calm| whole(calm.leases)).into(),
        pool.stampede.as_ref().map_or_else(nothing, |calm| whole(calm.waits)).into(),
        pool.near_cache.as_ref().map_or_else(nothing, |near| whole(near.hits)).into(),
    ]
}

fn marker(is_chosen: bool) -> String {
    if is_chosen { ">" } else { "" }.to_owned()
}

fn nothing() -> String {
    "-".to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn whole(count: u64) -> String {
    text::count(count as f64)
}

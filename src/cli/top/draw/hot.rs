//! The keys that are asked for most.

use super::super::overview::{HotKey, Pool};
use super::super::seen::Seen;
use super::super::text;
use super::super::view::View;
use super::page::{Page, Piece, longest, number, width, word};

/// Draws the titles and the hot keys of the chosen pools, in at most `most` lines. Returns the first one
/// that is drawn.
pub(super) fn draw(page: &mut Page<'_>, seen: &Seen, view: &View, most: usize) -> usize {
    let pools = view.shown(&seen.now);
    let mut keys: Vec<(&Pool, &HotKey)> =
        pools.iter().flat_map(|pool| pool.hot_keys.iter().flatten().map(|key| (*pool, key))).collect();
    keys.sort_by(|(_, one), (_, other)| other.per_s.total_cmp(&one.per_s));
    let has_pools = pools.len() > 1;
    let mut columns = vec![number("req/s", 7), number("bytes/s", 9)];
    if has_pools {
        columns.push(word("pool", longest(pools.iter().map(|pool| pool.name.as_str()), 4, 16)));
    }
    let has_servers = keys.iter().any(|(_, key)| !key.server.is_empty());
    if has_servers {
        columns.push(word("server", longest(keys.iter().map(|(_, key)| key.server.as_str()), 6, 16)));
    }
    columns.push(word("key", page.width().saturating_sub(width(&columns) + 1)));
    page.titles(&columns);
    if keys.is_empty() {
        let style = page.dim();
        page.line(&[Piece::new("        no key stands out", style)]);
        return 0;
    }
    let room = most.saturating_sub(1);
    let first = view.scroll.min(keys.len().saturating_sub(room));
    for (pool, key) in keys.into_iter().skip(first).take(room) {
        let mut cells: Vec<Piece> = vec![text::count(key.per_s).into(), text::bytes(key.bytes_per_s).into()];
        if has_pools {
            cells.push(pool.name.clone().into());
        }
        if has_servers {
            cells.push(key.server.clone().into());
        }
        cells.push(key.key.clone().into());
        page.cells(&columns, &cells);
    }
    first
}

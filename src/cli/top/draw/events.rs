//! The last events, newest first.

use std::time::Duration;

use super::super::overview::Event;
use super::super::seen::Seen;
use super::super::text;
use super::super::view::View;
use super::page::{Page, Piece, longest, number, width, word};

/// Draws the titles and the events of the chosen pools, in at most `most` lines. Returns the first one
/// that is drawn.
pub(super) fn draw(page: &mut Page<'_>, seen: &Seen, view: &View, most: usize) -> usize {
    let chosen = view.chosen(&seen.now);
    let events: Vec<&Event> =
        seen.now.events.iter().filter(|event| chosen.is_none_or(|pool| pool.name == event.pool)).collect();
    let has_pools = chosen.is_none() && seen.now.pools.len() > 1;
    let mut columns = vec![number("ago", 6), word("", 1)];
    if has_pools {
        columns.push(word("pool", longest(events.iter().map(|event| event.pool.as_str()), 4, 16)));
    }
    columns.push(word("server", longest(events.iter().map(|event| event.server.as_str()), 6, 24)));
    columns.push(word("what happened", page.width().saturating_sub(width(&columns) + 1)));
    page.titles(&columns);
    if events.is_empty() {
        let style = page.dim();
        page.line(&[Piece::new("       nothing has happened to a server", style)]);
        return 0;
    }
    let room = most.saturating_sub(1);
    let first = view.scroll.min(events.len().saturating_sub(room));
    for event in events.into_iter().skip(first).take(room) {
        let (sign, style) = if event.trouble { ("!", page.bad()) } else { ("+", page.good()) };
        let mut cells = vec![text::span(Duration::from_millis(event.ago_ms)).into(), Piece::new(sign, style)];
        if has_pools {
            cells.push(event.pool.clone().into());
        }
        cells.extend([event.server.clone().into(), event.text.clone().into()]);
        page.cells(&columns, &cells);
    }
    first
}

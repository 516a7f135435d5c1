//! A frame, as a pure function of what is known, how it is looked at, and the size of the screen.

mod events;
mod hot;
mod page;
mod pools;
mod servers;

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::seen::Seen;
use super::text;
use super::verdict::{Level, memory_used, verdict};
use super::view::{Section, View, sections};
use crate::io::terminal::counted;
use page::{Page, Piece};

/// Screens that are lower than this go without empty lines.
const LOW: u16 = 20;

/// Screens that are lower than this have better use for a line than to name the keys.
const TINY: u16 = 6;

const KEYS: &str = "q quit  tab section  ←→ pool  ↑↓ scroll  s sort  space pause  ? help";

/// Events below the servers, at least; fewer are not worth their title.
const EVENTS_BELOW: usize = 3;

/// Lines that servers have before there is room for events below them.
const SERVERS_FIRST: usize = 10;

/// Events in a text.
const EVENTS_IN_TEXT: usize = 10;

const HELP: [&str; 13] = [
    "q, Esc, Ctrl-C  end                  tab, 1 2 3   servers, events, hot keys",
    "left, right, p  another pool, all    up, down     scroll",
    "s               another order        space        stand still      ?  back",
    "",
    "serving     servers in service, of those that there are",
    "by proxy/s  requests that the proxy answered itself, for a server that failed:",
    "            a miss, or what on_failure says; the main cause beside it",
    "errors      error lines sent because a server failed, since the start",
    "share       part of the keys that belong to the server at this moment",
    "conns       connections from the proxy to the server",
    "outages     how often it was taken out of service since the start",
    "Rates, hit% and latencies are those of the last 5 seconds.",
    "What to do about it: docs/failure-modes.md",
];

/// Draws a frame. Returns how far the section is scrolled, which is less than was asked for at the end of what there is.
pub(super) fn draw(seen: &Seen, view: &View, area: Rect, buffer: &mut Buffer) -> usize {
    let keys = if view.is_text || area.height < TINY { 0 } else { 1 };
    let body = Rect { height: area.height - keys, ..area };
    let mut page = Page::new(buffer, Rect { y: area.y + body.height, height: keys, ..area }, view.colour);
    let style = page.dim();
    page.line(&[Piece::new(KEYS, style)]);
    let mut page = Page::new(buffer, body, view.colour);
    let airy = view.is_text || area.height >= LOW;
    if seen.silence.is_some() {
        page.fade();
    }
    header(&mut page, seen, view);
    judge(&mut page, seen, airy);
    let most = if view.is_text { usize::MAX } else { usize::from(area.height / 5).max(2) };
    pools::draw(&mut page, seen, view, most);
    if airy {
        page.skip();
    }
    if view.is_text {
        servers::draw(&mut page, seen, view, usize::MAX);
        page.skip();
        events::draw(&mut page, seen, view, EVENTS_IN_TEXT);
        if sections(&seen.now).contains(&Section::HotKeys) {
            page.skip();
            hot::draw(&mut page, seen, view, usize::MAX);
        }
        return 0;
    }
    tabs(&mut page, seen, view);
    let left = page.left();
    match view.section {
        _ if view.shows_help => {
            HELP.iter().for_each(|line| page.line(&[(*line).into()]));
            view.scroll
        }
        Section::Servers if airy => {
            let room = left.saturating_sub(EVENTS_BELOW + 2).max(left.min(SERVERS_FIRST));
            let scroll = servers::draw(&mut page, seen, view, room);
            if page.left() > EVENTS_BELOW {
                page.skip();
                let most = page.left();
                events::draw(&mut page, seen, &View { scroll: 0, ..view.clone() }, most);
            }
            scroll
        }
        Section::Servers => servers::draw(&mut page, seen, view, left),
        Section::Events => events::draw(&mut page, seen, view, left),
        Section::HotKeys => hot::draw(&mut page, seen, view, left),
    }
}

fn header(page: &mut Page<'_>, seen: &Seen, view: &View) {
    let now = &seen.now;
    let used = memory_used(now);
    let memory = match used {
        _ if used >= 0.95 => page.bad(),
        _ if used >= 0.8 => page.warning(),
        _ => page.dim(),
    };
    let (plain, strong) = (page.dim(), page.strong());
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let (buffered, limit) = (now.buffered_bytes as f64, now.memory_limit_bytes as f64);
    let up = text::span(Duration::try_from_secs_f64(now.uptime_s).unwrap_or_default());
    let pieces = |workers: &str, host: &str| {
        [
            Piece::new(format!("softmiss {}", now.version), strong),
            Piece::new(format!("  up {up}{workers}  memory "), plain),
            Piece::new(format!("{} of {}", text::bytes(buffered), text::bytes(limit)), memory),
            Piece::new(format!("  {host}{}", seen.address), plain),
        ]
    };
    let (workers, host) = (format!("  {}", counted(now.workers, "worker")), format!("{} ", now.host));
    let state = match &seen.silence {
        _ if view.is_text => Piece::default(),
        Some(_) => Piece::new("NO ANSWER", page.bad()),
        None if view.is_paused => Piece::new("PAUSED", page.warning()),
        None => Piece::new("live", page.good()),
    };
    // The address is what tells this proxy from the others: where there is not room for all, what is said before it goes.
    let room = usize::from(page.width()).saturating_sub(state.text.len() + 1);
    let fits = |pieces: &[Piece]| pieces.iter().map(|piece| piece.text.chars().count()).sum::<usize>() <= room;
    let ways = [pieces(&workers, &host), pieces("", &host), pieces(&workers, ""), pieces("", "")];
    let pieces = ways.iter().find(|way| fits(*way)).unwrap_or(&ways[3]);
    page.line_with_end(pieces, &state);
}

/// The verdict. What it has more to say than fits goes into the empty line below it.
fn judge(page: &mut Page<'_>, seen: &Seen, airy: bool) {
    let (level, parts) = verdict(seen);
    let style = match level {
        Level::Blind | Level::Errors | Level::Down => page.bad(),
        Level::Out | Level::Warning => page.warning(),
        Level::Well => page.good(),
    };
    let width = usize::from(page.width()).saturating_sub(level.word().len() + 2);
    let mut fitting = parts.len();
    while airy && fitting > 1 && parts[..fitting].join("; ").chars().count() > width {
        fitting -= 1;
    }
    let first = format!("  {}", parts[..fitting].join("; "));
    page.line(&[Piece::new(level.word(), style.add_modifier(Modifier::BOLD)), first.into()]);
    if airy {
        page.line(&[format!("  {}", parts[fitting..].join("; ")).into()]);
    }
}

/// The sections, the one that is shown in brackets, and what it shows.
fn tabs(page: &mut Page<'_>, seen: &Seen, view: &View) {
    let mut pieces = Vec::new();
    for (number, section) in (1..).zip(sections(&seen.now)) {
        let name = match section {
            Section::Servers => "servers",
            Section::Events => "events",
            Section::HotKeys => "hot keys",
        };
        let is_open = section == view.section && !view.shows_help;
        let style = if is_open { page.strong() } else { page.dim() };
        let (left, right) = if is_open { ('[', ']') } else { (' ', ' ') };
        pieces.push(Piece::new(format!("{left}{number} {name}{right}"), style));
    }
    let pool = view.chosen(&seen.now).map_or("all pools", |pool| pool.name.as_str());
    let order = if view.section == Section::Servers { format!(", {}", view.sort.name()) } else { String::new() };
    let end = Piece::new(if view.shows_help { "help".to_owned() } else { format!("{pool}{order}") }, page.dim());
    page.line_with_end(&pieces, &end);
}

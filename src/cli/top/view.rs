//! How the frame is looked at: what is chosen, how it is sorted, and which key changes that.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::overview::{Overview, Pool};
use super::seen::Seen;

/// What fills the lower part of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Section {
    #[default]
    Servers,
    Events,
    HotKeys,
}

/// The order of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// What is out first, then by rate.
    #[default]
    Problems,
    Rate,
    /// The slowest first.
    Latency,
    Name,
}

impl Sort {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Problems => "problems first",
            Self::Rate => "by rate",
            Self::Latency => "by p99",
            Self::Name => "by name",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Problems => Self::Rate,
            Self::Rate => Self::Latency,
            Self::Latency => Self::Name,
            Self::Name => Self::Problems,
        }
    }
}

/// The state of the view.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) section: Section,
    /// The chosen pool; none is all of them.
    pub(super) pool: Option<String>,
    pub(super) sort: Sort,
    pub(super) is_paused: bool,
    pub(super) shows_help: bool,
    /// Rows of the section that are above the screen.
    pub(super) scroll: usize,
    pub(super) colour: bool,
    /// Not a screen but a text: everything there is, one below the other, and no keys.
    pub(super) is_text: bool,
}

/// What a key asks of whoever runs the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// A new drawing.
    Draw,
    /// A drawing on a cleared screen.
    Clear,
    /// The end.
    End,
}

impl View {
    /// The pool that is chosen, if it is there; a choice among one is none.
    pub(super) fn chosen<'a>(&self, overview: &'a Overview) -> Option<&'a Pool> {
        let name = self.pool.as_ref().filter(|_| overview.pools.len() > 1)?;
        overview.pools.iter().find(|pool| pool.name == *name)
    }

    /// The pools that the section is about.
    pub(super) fn shown<'a>(&self, overview: &'a Overview) -> Vec<&'a Pool> {
        self.chosen(overview).map_or_else(|| ranked(overview), |pool| vec![pool])
    }

    /// Takes a key.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing")]
    pub(super) fn press(&mut self, key: KeyEvent, seen: &Seen) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::End,
                KeyCode::Char('l') => Wish::Clear,
                _ => Wish::Draw,
            };
        }
        match key.code {
            KeyCode::Char('q') => return Wish::End,
            // Out of the help first: that is what one who presses it there means.
            KeyCode::Esc if self.shows_help => self.shows_help = false,
            KeyCode::Esc => return Wish::End,
            KeyCode::Char('?' | 'h') => self.shows_help = !self.shows_help,
            KeyCode::Char('1') => self.turn_to(Section::Servers, seen),
            KeyCode::Char('2') => self.turn_to(Section::Events, seen),
            KeyCode::Char('3') => self.turn_to(Section::HotKeys, seen),
            KeyCode::Tab => self.turn(seen, 1),
            KeyCode::BackTab => self.turn(seen, -1),
            KeyCode::Char('p') | KeyCode::Right => self.choose(seen, 1),
            KeyCode::Char('P') | KeyCode::Left => self.choose(seen, -1),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('j') | KeyCode::Down => self.scroll += 1,
            KeyCode::Char('k') | KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        Wish::Draw
    }

    fn turn_to(&mut self, section: Section, seen: &Seen) {
        if sections(&seen.now).contains(&section) {
            (self.section, self.scroll, self.shows_help) = (section, 0, false);
        }
    }

    fn turn(&mut self, seen: &Seen, by: isize) {
        let sections = sections(&seen.now);
        let at = sections.iter().position(|section| *section == self.section).unwrap_or(0);
        self.turn_to(sections[step(at, by, sections.len())], seen);
    }

    fn choose(&mut self, seen: &Seen, by: isize) {
        let ranked = ranked(&seen.now);
        if ranked.len() < 2 {
            return;
        }
        let chosen = self.chosen(&seen.now);
        // All of them stand before the first.
        let at =
            chosen.and_then(|chosen| ranked.iter().position(|pool| pool.name == chosen.name)).map_or(0, |at| at + 1);
        let at = step(at, by, ranked.len() + 1);
        self.pool = at.checked_sub(1).map(|at| ranked[at].name.clone());
        self.scroll = 0;
    }
}

fn step(at: usize, by: isize, len: usize) -> usize {
    if by < 0 { (at + len - 1) % len } else { (at + 1) % len }
}

/// The sections that there are.
pub(super) fn sections(overview: &Overview) -> Vec<Section> {
    let mut sections = vec![Section::Servers, Section::Events];
    if overview.pools.iter().any(|pool| pool.hot_keys.is_some()) {
        sections.push(Section::HotKeys);
    }
    sections
}

/// The pools, those in trouble first, otherwise in the order of the file.
pub(super) fn ranked(overview: &Overview) -> Vec<&Pool> {
    let mut pools: Vec<&Pool> = overview.pools.iter().collect();
    pools.sort_by_key(|pool| (!pool.is_down(), pool.condition(), pool.degraded_per_s == 0.0));
    pools
}

//! Lines on a buffer, from the top down: texts that are cut where their place ends, and columns.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// What is drawn on. A line below the last one goes nowhere.
pub(super) struct Page<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    row: u16,
    colour: bool,
}

/// A piece of text, and how it looks.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Piece {
    pub(super) fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Piece {
    fn from(text: T) -> Self {
        Self::new(text, Style::new())
    }
}

/// A column of a table; a space follows it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: u16,
    is_right: bool,
}

/// A column of numbers.
pub(super) const fn number(title: &'static str, width: u16) -> Column {
    Column { title, width, is_right: true }
}

/// A column of words.
pub(super) const fn word(title: &'static str, width: u16) -> Column {
    Column { title, width, is_right: false }
}

/// The width of all of them.
pub(super) fn width(columns: &[Column]) -> u16 {
    columns.iter().map(|column| column.width + 1).sum::<u16>().saturating_sub(1)
}

/// The width that the longest of these texts needs, within limits.
pub(super) fn longest(texts: impl Iterator<Item = impl AsRef<str>>, least: u16, most: u16) -> u16 {
    texts.map(|text| cells(text.as_ref())).max().unwrap_or(0).clamp(least, most.max(least))
}

fn cells(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

impl<'a> Page<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, area: Rect, colour: bool) -> Self {
        Self { area: area.intersection(buffer.area), buffer, row: 0, colour }
    }

    pub(super) fn width(&self) -> u16 {
        self.area.width
    }

    /// Lines that are left.
    pub(super) fn left(&self) -> usize {
        usize::from(self.area.height.saturating_sub(self.row))
    }

    /// All but the first two lines are old news.
    pub(super) fn fade(&mut self) {
        let below =
            Rect { y: self.area.y + self.area.height.min(2), height: self.area.height.saturating_sub(2), ..self.area };
        self.buffer.set_style(below, self.dim());
    }

    pub(super) fn skip(&mut self) {
        self.row += 1;
    }

    /// A line of pieces, one after the other.
    pub(super) fn line(&mut self, pieces: &[Piece]) {
        let mut at = 0;
        for piece in pieces {
            let width = self.area.width.saturating_sub(at);
            self.put(at, width, &piece.text, piece.style);
            at += cells(&piece.text).min(width);
        }
        self.row += 1;
    }

    /// A line with something at its right end, which comes first where there is not room for both.
    pub(super) fn line_with_end(&mut self, pieces: &[Piece], end: &Piece) {
        let whole = self.area;
        let width = cells(&end.text);
        self.area.width = whole.width.saturating_sub(width + 1);
        self.line(pieces);
        self.area = whole;
        self.row -= 1;
        self.put(whole.width.saturating_sub(width), width, &end.text, end.style);
        self.row += 1;
    }

    /// The titles of a table.
    pub(super) fn titles(&mut self, columns: &[Column]) {
        let style = self.dim();
        let titles: Vec<Piece> = columns.iter().map(|column| Piece::new(column.title, style)).collect();
        self.cells(columns, &titles);
    }

    /// A line of a table; the last piece may go on to the end of the line.
    pub(super) fn cells(&mut self, columns: &[Column], pieces: &[Piece]) {
        let mut at = 0;
        for (column, piece) in columns.iter().zip(pieces) {
            let indent = if column.is_right { column.width.saturating_sub(cells(&piece.text)) } else { 0 };
            self.put(at + indent, column.width - indent, &piece.text, piece.style);
            at += column.width + 1;
        }
        self.row += 1;
    }

    /// A text in at most `width` cells, with an ellipsis where more would have come.
    fn put(&mut self, at: u16, width: u16, text: &str, style: Style) {
        let width = width.min(self.area.width.saturating_sub(at));
        if self.row >= self.area.height || width == 0 {
            return;
        }
        let (x, y) = (self.area.x + at, self.area.y + self.row);
        self.buffer.set_stringn(x, y, text, usize::from(width), style);
        if cells(text) > width {
            self.buffer.set_stringn(x + width - 1, y, "…", 1, style);
        }
    }

    fn painted(&self, colour: Color, without: Modifier) -> Style {
        if self.colour { Style::new().fg(colour).add_modifier(without) } else { Style::new().add_modifier(without) }
    }

    pub(super) fn bad(&self) -> Style {
        self.painted(Color::Red, Modifier::BOLD)
    }

    pub(super) fn warning(&self) -> Style {
        self.painted(Color::Yellow, Modifier::BOLD)
    }

    pub(super) fn good(&self) -> Style {
        self.painted(Color::Green, Modifier::empty())
    }

    /// Not a colour: dark grey cannot be read on every background.
    pub(super) fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

//! The words of a request, where they lie.

/// Where an argument lies in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset of its first byte.
    pub start: u32,
    /// Bytes that it has.
    pub len: u32,
}

/// A request as a list of arguments, the command's name being the first.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments that lie in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// How many there are, the command's name included.
    #[must_use]
    pub const fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there is nothing, not even a name.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// An argument; empty when there is none at this place.
    #[must_use]
    pub fn get(self, index: usize) -> &'a [u8] {
        self.spans.get(index).map_or(&[], |span| &self.bytes[span.start as usize..][..span.len as usize])
    }

    /// Where they lie.
    #[must_use]
    pub const fn spans(self) -> &'a [Span] {
        self.spans
    }

    /// Other arguments that lie in the same bytes.
    #[must_use]
    pub const fn with(self, spans: &'a [Span]) -> Self {
        Self { bytes: self.bytes, spans }
    }

    /// All of them, from the name on.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().map(move |span| &self.bytes[span.start as usize..][..span.len as usize])
    }
}

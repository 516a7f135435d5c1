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

    /// Appends an argument as [`encode::bulk`](super::encode::bulk) does: copied with the length in front of it, if it
    /// is written that way.
    #[inline]
    pub fn push(self, index: usize, out: &mut Vec<u8>) {
        match self.spans.get(index).and_then(|span| self.written(*span)) {
            Some(bytes) => out.extend_from_slice(bytes),
            None => super::encode::bulk(out, self.get(index)),
        }
    }

    /// An argument with its header and its end, if these are as they should be. The parser has seen the mark and the
    /// number, but not what stands in the place of line feeds and of the end.
    #[inline]
    fn written(self, span: Span) -> Option<&'a [u8]> {
        let digits = match span.len {
            0..10 => 1,
            10..100 => 2,
            100..1000 => 3,
            _ => return None,
        };
        let (start, end) = (span.start as usize, span.start as usize + span.len as usize);
        let bytes = self.bytes.get(start.checked_sub(3 + digits)?..end + 2)?;
        let plain = bytes[0] == b'$' && bytes[1 + digits..3 + digits] == *b"\r\n" && bytes.ends_with(b"\r\n");
        plain.then_some(bytes)
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

#[cfg(test)]
mod tests {
    use super::super::request;

    #[test]
    fn arguments_are_passed_on_in_their_plain_form() {
        let long = "x".repeat(1000);
        let plain = format!("*4\r\n$3\r\nGET\r\n$0\r\n\r\n$12\r\nabcdefghijkl\r\n$1000\r\n{long}\r\n");
        let odd = format!("*4\r\n$3\rxGET\r\n$0\r\n!!$12\r\nabcdefghijkl\r\r$1000\r\n{long}\r\n");
        for input in [&plain, &odd] {
            let mut spans = Vec::new();
            let args = request::args(input.as_bytes(), &mut spans);
            let mut out = b"*4\r\n".to_vec();
            (0..args.len()).for_each(|index| args.push(index, &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), plain);
        }
    }
}

//! What the `lru_crawler` of a server lists: all its keys, in one of two forms.

use memchr::memchr;

/// Longest line of a list: a key, each byte of which may take three, and seven numbers.
const LINE_LIMIT: usize = 2 << 10;

/// How keys are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `metadump`: `key=… exp=… la=… cas=… fetch=… cls=… size=…` for each item, then `END`.
    Meta,
    /// `mgdump`: `mg KEY` for each item, then `EN`.
    Get,
}

/// What follows the whole lines of a list.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A line that has not ended.
    More,
    /// The list's end.
    End,
    /// A line that is none of a list: why there is none, or no more of it. With its line end.
    Word(&'a [u8]),
    /// More than a line has.
    TooLong,
}

impl Form {
    /// The sub-command.
    #[must_use]
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Meta => b"metadump",
            Self::Get => b"mgdump",
        }
    }

    /// The line behind all keys.
    #[must_use]
    pub const fn end(self) -> &'static [u8] {
        match self {
            Self::Meta => b"END\r\n",
            Self::Get => b"EN\r\n",
        }
    }

    /// Appends the request. A server that goes through its hash table (`hash`) keeps locked what it has come to while it is
    /// not read, and whoever asks for that holds up all others there, so it goes through its lists (`all`).
    pub fn encode(self, out: &mut Vec<u8>, which: &[u8]) {
        let which = if which == b"hash" { b"all" } else { which };
        for part in [&b"lru_crawler "[..], self.name(), b" ", which, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// How many bytes at the front of `input` are lines that tell of keys, and what follows them.
    #[must_use]
    pub fn rows(self, input: &[u8]) -> (usize, Next<'_>) {
        let row: &[u8] = match self {
            Self::Meta => b"key=",
            Self::Get => b"mg ",
        };
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let Some(end) = memchr(b'\n', &rest[..rest.len().min(LINE_LIMIT)]) else {
                return (at, if rest.len() < LINE_LIMIT { Next::More } else { Next::TooLong });
            };
            let line = &rest[..=end];
            if !line.starts_with(row) {
                return (at, if line == self.end() { Next::End } else { Next::Word(line) });
            }
            at += line.len();
        }
    }
}

/// Whether a server refuses because it lists for somebody else.
#[must_use]
pub fn is_busy(word: &[u8]) -> bool {
    word.starts_with(b"BUSY")
}

/// What a client is told for whom there is no connection of its own.
pub const BUSY: &[u8] = b"BUSY currently processing crawler request\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_for_its_lists_in_place_of_its_table() {
        for (which, expected) in [("all", "all"), ("hash", "all"), ("1,2", "1,2"), ("Hash", "Hash")] {
            let mut out = Vec::new();
            Form::Get.encode(&mut out, which.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), format!("lru_crawler mgdump {expected}\r\n"), "{which}");
        }
    }

    #[test]
    fn lines_are_told_from_the_end_and_from_refusals() {
        let text = b"key=a exp=-1 la=1 cas=1 fetch=no cls=1 size=63\r\nkey=END exp=-1\r\nEND\r\n";
        let ends = [0, 48, 64];
        for cut in 0..text.len() {
            let whole = ends.into_iter().rfind(|end| *end <= cut).unwrap_or_default();
            assert_eq!(Form::Meta.rows(&text[..cut]), (whole, Next::More), "{cut}");
        }
        assert_eq!(Form::Meta.rows(text), (64, Next::End));
        assert_eq!(Form::Get.rows(b"mg a\r\nmg EN\r\nEN\r\n"), (13, Next::End));
        assert_eq!(Form::Get.rows(b"ERROR\r\n"), (0, Next::Word(b"ERROR\r\n")));
        assert_eq!(Form::Meta.rows(BUSY), (0, Next::Word(BUSY)));
        assert_eq!(Form::Meta.rows(&[b'k'; LINE_LIMIT]), (0, Next::TooLong));
    }
}

//! `stats` of several servers as one: numbers are added, other values are taken from the first server that has them.

use std::collections::BTreeMap;

use super::number;
use super::response::{Line, Response, Status, Violation, error_status, line};

/// Most bytes of one server's listing.
pub const LISTING_LIMIT: usize = 1 << 20;

/// Reads a whole `STAT ...` listing through its `END`, or an error line. `looked` is how far an earlier call has looked at
/// the same bytes, at first 0.
#[must_use]
pub fn listing(input: &[u8], looked: &mut usize) -> Response {
    let mut at = (*looked).min(input.len());
    loop {
        if at > LISTING_LIMIT {
            return Response::TooLarge { len: at, whole: false };
        }
        let (line, len) = match line(&input[at..]) {
            Line::Whole(line, len) => (line, len),
            Line::Partial => {
                *looked = at;
                return Response::Incomplete { need: input.len() + 1 };
            }
            Line::TooLong => return Response::Broken(Violation::TooLong),
        };
        at += len;
        if line == b"END" {
            return Response::Complete { len: at, status: Status::Done, strip: 0..0 };
        }
        // `stats detail dump` answers lines that start with PREFIX.
        if line.starts_with(b"STAT ") || line.starts_with(b"PREFIX ") {
            continue;
        }
        return match error_status(line) {
            Some(status) if at == len => Response::Complete { len, status, strip: 0..0 },
            _ => Response::Broken(Violation::UnexpectedLine),
        };
    }
}

/// As [`listing`], of one whose beginning was too large: drops what has come, up to its end.
#[must_use]
pub fn rest_of_listing(input: &[u8]) -> Response {
    let mut at = 0;
    loop {
        let (line, len) = match line(&input[at..]) {
            Line::Whole(line, len) => (line, len),
            Line::Partial if at > 0 => return Response::TooLarge { len: at, whole: false },
            Line::Partial => return Response::Incomplete { need: input.len() + 1 },
            Line::TooLong => return Response::Broken(Violation::TooLong),
        };
        at += len;
        if line == b"END" {
            return Response::TooLarge { len: at, whole: true };
        }
        if !line.starts_with(b"STAT ") && !line.starts_with(b"PREFIX ") {
            return Response::Broken(Violation::UnexpectedLine);
        }
    }
}

/// A number of a listing.
#[must_use]
pub fn number(listing: &[u8], name: &[u8]) -> Option<u64> {
    listing.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(b"STAT ")?.strip_prefix(name)?.strip_prefix(b" ")?;
        number::signed(rest.trim_ascii_end()).and_then(|value| u64::try_from(value).ok())
    })
}

/// What several servers listed, in the order in which the names first came.
#[derive(Debug, Default)]
pub struct Summed {
    lines: Vec<(Vec<u8>, Value)>,
    /// Where the line of each name is.
    places: BTreeMap<Vec<u8>, usize>,
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Fraction(f64),
    Word(Vec<u8>),
}

/// Numbers of which the sum means nothing: the first server's is kept.
fn is_kept(name: &[u8]) -> bool {
    const KEPT: [&[u8]; 8] =
        [b"pid", b"time", b"pointer_size", b"verbosity", b"tcpport", b"udpport", b"hash_power_level", b"chunk_size"];
    let last = name.rsplit(|&byte| byte == b':').next().unwrap_or(name);
    KEPT.contains(&last)
}

/// Numbers of which the largest is told: how long the oldest server has been up.
fn is_largest(name: &[u8]) -> bool {
    name == b"uptime"
}

impl Summed {
    /// Adds one server's listing. `keep_first` takes every value from the first server (for settings).
    pub fn add(&mut self, listing: &[u8], keep_first: bool) {
        for text in listing.split(|&byte| byte == b'\n') {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let Some(rest) = text.strip_prefix(b"STAT ") else { continue };
            let split = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
            let (name, value) = (&rest[..split], rest.get(split + 1..).unwrap_or_default());
            let value = Value::read(value);
            match self.places.get(name).and_then(|place| self.lines.get_mut(*place)) {
                None => {
                    self.places.insert(name.to_vec(), self.lines.len());
                    self.lines.push((name.to_vec(), value));
                }
                Some(_) if keep_first || is_kept(name) => {}
                Some((_, sum)) => sum.add(value, is_largest(name)),
            }
        }
    }

    /// Appends the listing and its `END`.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.lines {
            out.extend_from_slice(b"STAT ");
            out.extend_from_slice(name);
            out.push(b' ');
            match value {
                Value::Count(count) => number::push(out, *count),
                Value::Fraction(fraction) => out.extend_from_slice(format!("{fraction:.6}").as_bytes()),
                Value::Word(word) => out.extend_from_slice(word),
            }
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"END\r\n");
    }
}

impl Value {
    fn read(text: &[u8]) -> Self {
        if let Some(count) = number::digits_only(text) {
            return Self::Count(count);
        }
        let fraction = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
            .filter(|text| text.bytes().filter(|&byte| byte == b'.').count() == 1)
            .and_then(|text| text.parse().ok());
        match fraction {
            Some(fraction) => Self::Fraction(fraction),
            None => Self::Word(text.to_vec()),
        }
    }

    fn add(&mut self, other: Self, largest: bool) {
        match (self, other) {
            (Self::Count(sum), Self::Count(more)) if largest => *sum = (*sum).max(more),
            (Self::Count(sum), Self::Count(more)) => *sum = sum.saturating_add(more),
            (Self::Fraction(sum), Self::Fraction(more)) => *sum += more,
            _ => {} // a word, or two servers that do not agree on the kind: the first one's stays
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_add_up_and_words_stay() {
        let mut summed = Summed::default();
        summed.add(
            b"STAT pid 7\r\nSTAT uptime 10\r\nSTAT version 1.6.18\r\nSTAT rusage_user 0.500000\r\nSTAT get_hits 3\r\nEND\r\n",
            false,
        );
        summed.add(
            b"STAT pid 9\r\nSTAT uptime 50\r\nSTAT version 1.6.20\r\nSTAT rusage_user 0.250000\r\nSTAT get_hits 4\r\nSTAT more 1\r\nEND\r\n",
            false,
        );
        let mut out = Vec::new();
        summed.write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "STAT pid 7\r\nSTAT uptime 50\r\nSTAT version 1.6.18\r\nSTAT rusage_user 0.750000\r\nSTAT get_hits 7\r\nSTAT more 1\r\nEND\r\n"
        );
    }

    #[test]
    fn a_listing_ends_at_its_end_and_is_incomplete_before() {
        let text = b"STAT a 1\r\nSTAT b two words\r\nEND\r\n";
        let mut looked = 0;
        for cut in 0..text.len() {
            assert!(matches!(listing(&text[..cut], &mut looked), Response::Incomplete { .. }), "{cut}");
            assert!(matches!(listing(&text[..cut], &mut 0), Response::Incomplete { .. }), "{cut}");
        }
        assert_eq!(
            listing(text, &mut looked),
            Response::Complete { len: text.len(), status: Status::Done, strip: 0..0 }
        );
        assert!(matches!(listing(b"VALUE a 0 1\r\n", &mut 0), Response::Broken(_)));
    }
}

//! A server's bytes become replies.
//!
//! A reply is passed on as it came, so all that must be known of it is where it ends. [`Scan`] finds that without
//! recursion, whatever is nested how deep, and goes on where it stopped when more bytes have come: a value that holds
//! others adds their number to how many are still expected.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::request::{integer, plain_header};

/// Longest line, in bytes: of those that are text, which a script makes as long as it likes, and of all others.
const TEXT_LIMIT: usize = 1 << 30;
const LINE_LIMIT: usize = 1 << 10;

/// Most values in one reply.
const VALUES_LIMIT: u64 = 1 << 32;

/// Longest bulk string, in bytes.
const BULK_LIMIT: i64 = 1 << 30;

/// Fewest bytes that any value takes.
const VALUE_LEAST: u64 = 3;

/// How far a server's reply, or several in a row, has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    at: usize,
    /// Up to where the line at hand has been searched for its end.
    searched: usize,
    left: u64,
    nulls: u32,
    /// The beginning of a line has been given up.
    in_line: bool,
}

/// What stands at the front of a server's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// All of it, in so many bytes.
    Complete {
        /// Bytes that it takes.
        len: usize,
    },
    /// Not all; looking again is useless below so many bytes.
    Incomplete {
        /// Bytes that are needed.
        need: usize,
    },
    /// It is no reply.
    Broken,
}

impl Scan {
    /// To find the end of so many replies.
    #[must_use]
    pub const fn new(replies: u32) -> Self {
        Self { at: 0, searched: 0, left: replies as u64, nulls: 0, in_line: false }
    }

    /// Nulls that have been passed.
    #[must_use]
    pub const fn nulls(&self) -> u32 {
        self.nulls
    }

    /// Gives up what has been looked at, as somebody does who wants to know where the replies end and no more. Returns how
    /// many bytes may be dropped, of which some may be still to come; what is behind them is where to go on.
    pub fn discard(&mut self, input: &[u8]) -> usize {
        let at = std::mem::take(&mut self.at);
        self.searched = 0;
        if self.left == 0 {
            return at;
        }
        let rest = &input[at..];
        if self.in_line || matches!(rest.first(), Some(b'+' | b'-' | b'(' | b',')) {
            // Of a line nothing matters but its end.
            self.in_line = true;
            return input.len();
        }
        match bulk_len(rest) {
            Some(len) => {
                self.left -= 1;
                at + len
            }
            None => at,
        }
    }

    /// Whether more is expected than the value at hand.
    #[must_use]
    pub const fn holds_more(&self) -> bool {
        self.left > 1
    }

    /// Whether nothing more is expected.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Goes on in `input`, which starts with what earlier calls were given.
    pub fn advance(&mut self, input: &[u8]) -> Scanned {
        if self.in_line {
            let Some(end) = memchr::memchr(b'\n', &input[self.at..]) else {
                return Scanned::Incomplete { need: input.len() + 1 };
            };
            self.at += end + 1;
            self.left -= 1;
            self.in_line = false;
        }
        while self.left > 0 {
            if let Some(len) = plain_bulk(&input[self.at..]) {
                self.at += len;
                self.left -= 1;
                continue;
            }
            if let Some((count, len)) = plain_array(&input[self.at..]) {
                self.at += len;
                self.left += count;
                self.left -= 1;
                if self.left > VALUES_LIMIT {
                    return Scanned::Broken;
                }
                continue;
            }
            if self.at > 0 && input.get(self.at) == Some(&b'>') {
                return Scanned::Broken; // a message that is no reply comes in front of one, and never within what answers a request
            }
            match value(&input[self.at..], self.searched.saturating_sub(self.at)) {
                Value::Whole { len, within, counts } => {
                    self.nulls = self.nulls.wrapping_add(u32::from(is_null(&input[self.at..])));
                    self.at += len;
                    self.left += within;
                    self.left -= u64::from(counts);
                    if self.left > VALUES_LIMIT {
                        return Scanned::Broken;
                    }
                }
                Value::Needs(bytes) => {
                    let others = usize::try_from(VALUE_LEAST * (self.left - 1)).unwrap_or(usize::MAX);
                    return Scanned::Incomplete { need: (self.at + bytes).saturating_add(others) };
                }
                Value::NeedsLine => {
                    self.searched = input.len();
                    let others = usize::try_from(VALUE_LEAST * (self.left - 1)).unwrap_or(usize::MAX);
                    return Scanned::Incomplete { need: (input.len() + 1).max(self.at + 3).saturating_add(others) };
                }
                Value::Broken => return Scanned::Broken,
            }
        }
        Scanned::Complete { len: self.at }
    }
}

/// The length of a bulk string of which the header is there.
fn bulk_len(input: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b'\n', &input[..input.len().min(32)])?;
    let number = input[..end].strip_suffix(b"\r")?;
    let length = match number.split_first()? {
        (b'$' | b'!' | b'=', digits) => integer(digits)?,
        _ => return None,
    };
    Some(end + 1 + usize::try_from(length).ok()? + 2)
}

enum Value {
    /// So many bytes, and so many values within. An attribute does not count: what it is about follows.
    Whole {
        len: usize,
        within: u64,
        counts: bool,
    },
    Needs(usize),
    /// Its first line has not come whole, and all that has come of it has no line end.
    NeedsLine,
    Broken,
}

/// The length of a whole bulk string at the front of `input`, if one is there and has a plain header: most of what
/// servers say. `None` when it is anything else, which [`value`] finds out.
#[inline]
fn plain_bulk(input: &[u8]) -> Option<usize> {
    let (length, line) = plain_header(input, b'$')?;
    let end = line + usize::try_from(length).ok()?;
    let is_end = |at: usize| input.get(at..at + 2) == Some(b"\r\n");
    (is_end(line - 2) && is_end(end)).then_some(end + 2)
}

/// As [`plain_bulk`], of the head of an array: how many values it holds, and its length.
#[inline]
fn plain_array(input: &[u8]) -> Option<(u64, usize)> {
    let (count, line) = plain_header(input, b'*')?;
    (input[line - 1] == b'\n').then_some((count.unsigned_abs(), line))
}

/// How many values the array at the front of `input` holds, if it has a plain head, as nearly all have.
#[must_use]
#[inline]
pub fn plain_count(input: &[u8]) -> Option<u64> {
    plain_array(input).map(|(count, _)| count)
}

/// The value at the front of `input`, of which so many bytes are known to have no line end.
#[inline(never)]
fn value(input: &[u8], searched: usize) -> Value {
    let Some(mark) = input.first() else { return Value::NeedsLine };
    let limit = if matches!(mark, b'+' | b'-' | b'(') { TEXT_LIMIT } else { LINE_LIMIT };
    let line = &input[..input.len().min(limit)];
    let searched = searched.min(line.len());
    let Some(end) = memchr::memchr2(b'\r', b'\n', &line[searched..]) else {
        return if line.len() < limit { Value::NeedsLine } else { Value::Broken };
    };
    let end = searched + end;
    if input[end] == b'\n' {
        return Value::Broken; // with what another reply may begin, in the same line
    }
    match input.get(end + 1) {
        None => return Value::Needs(end + 2),
        Some(b'\n') => {}
        Some(_) => return Value::Broken,
    }
    let line = end + 2;
    let whole = |within: u64| Value::Whole { len: line, within, counts: true };
    let number = || integer(&input[1..end]);
    let count = |times: u64| match number() {
        Some(-1) => Some(0),
        number => number.and_then(|count| u64::try_from(count).ok()?.checked_mul(times)).filter(|n| *n <= VALUES_LIMIT),
    };
    match mark {
        b'+' | b'-' => whole(0),
        b':' | b'_' | b'#' | b',' | b'(' => {
            if is_scalar(*mark, &input[1..end]) {
                whole(0)
            } else {
                Value::Broken
            }
        }
        b'$' | b'!' | b'=' => match number() {
            Some(-1) => whole(0),
            Some(length @ 0..=BULK_LIMIT) => {
                let len = line + usize::try_from(length).unwrap_or(usize::MAX) + 2;
                match input.get(len - 2..len) {
                    None => Value::Needs(len),
                    // In front of a text stands what it is: three bytes and a colon.
                    Some(b"\r\n") if *mark == b'=' && input[line..len].get(3) != Some(&b':') => Value::Broken,
                    Some(b"\r\n") => Value::Whole { len, within: 0, counts: true },
                    Some(_) => Value::Broken,
                }
            }
            _ => Value::Broken,
        },
        b'*' | b'~' | b'>' => count(1).map_or(Value::Broken, whole),
        b'%' => count(2).map_or(Value::Broken, whole),
        b'|' => count(2).map_or(Value::Broken, |within| Value::Whole { len: line, within, counts: false }),
        _ => Value::Broken,
    }
}

/// Whether this can stand behind the mark of an integer, a null, a boolean, a double, or a big number.
fn is_scalar(mark: u8, text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    match mark {
        b'_' => text.is_empty(),
        b'#' => matches!(text, b"t" | b"f"),
        b',' => {
            let is_number = |byte: &u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
            let is_named = [&b"inf"[..], b"nan"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
            is_named || unsigned.first().is_some_and(u8::is_ascii_digit) && unsigned.iter().all(is_number)
        }
        _ => !unsigned.is_empty() && unsigned.iter().all(u8::is_ascii_digit),
    }
}

/// Whether a reply is a null of any kind.
#[must_use]
#[inline]
pub fn is_null(reply: &[u8]) -> bool {
    matches!(reply, [b'_', ..] | [b'$' | b'*', b'-', ..])
}

/// The end of the first value of `input`, which is known to be whole.
#[must_use]
#[inline(never)]
pub fn end(input: &[u8]) -> usize {
    if let (Some(b':' | b'+' | b'-'), Some(line)) = (input.first(), memchr::memchr(b'\r', input)) {
        return line + 2;
    }
    match Scan::new(1).advance(input) {
        Scanned::Complete { len } => len,
        _ => input.len(),
    }
}

/// What stands behind those of so many replies, from the front on, which say that a part of a transaction is queued; and how
/// many these are.
#[must_use]
pub fn behind_queued(replies: &[u8], most: usize) -> (&[u8], usize) {
    const QUEUED: &[u8] = b"+QUEUED\r\n";
    const EIGHT: &[u8] = b"+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n";
    let (mut rest, mut count) = (replies, 0);
    for (words, number) in [(EIGHT, 8), (QUEUED, 1)] {
        while count + number <= most
            && let Some(behind) = rest.strip_prefix(words)
        {
            (rest, count) = (behind, count + number);
        }
    }
    (rest, count)
}

/// The last of several whole replies, and where it begins.
#[must_use]
pub fn last(replies: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = replies;
    while !rest.is_empty() {
        let (one, others) = rest.split_at(end(rest));
        if others.is_empty() {
            return Some((replies.len() - one.len(), one));
        }
        rest = others;
    }
    None
}

/// A whole reply, taken apart one level deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+`
    Simple(&'a [u8]),
    /// `-` or `!`: its text.
    Error(&'a [u8]),
    /// `:`
    Integer(i64),
    /// `$` or `=`: its bytes.
    Bulk(&'a [u8]),
    /// A null of any kind.
    Null,
    /// `*`, `~`, `>` or `%`: what it holds.
    List(Items<'a>),
    /// Anything else.
    Other,
}

/// The values in a list, and how many they are. A map's keys and values are counted one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Items<'a> {
    rest: &'a [u8],
    left: usize,
}

impl Items<'_> {
    /// How many are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.left
    }

    /// Whether none is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Items<'a> {
    /// So many values, of which the first begins `rest`.
    #[must_use]
    pub const fn of(rest: &'a [u8], left: usize) -> Self {
        Self { rest, left }
    }

    /// All bytes that are left.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let len = plain_bulk(self.rest).unwrap_or_else(|| end(self.rest));
        let (value, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(value)
    }
}

/// What is in a reply that is a list.
#[must_use]
#[inline]
pub fn items(reply: &[u8]) -> Option<Items<'_>> {
    match plain_array(reply) {
        Some((count, line)) => Some(Items { rest: &reply[line..], left: usize::try_from(count).ok()? }),
        None => other_items(reply),
    }
}

#[inline(never)]
fn other_items(reply: &[u8]) -> Option<Items<'_>> {
    match read(reply) {
        Reply::List(items) => Some(items),
        _ => None,
    }
}

/// Takes a whole reply apart.
#[must_use]
pub fn read(reply: &[u8]) -> Reply<'_> {
    let end = memchr::memchr(b'\r', reply).unwrap_or(reply.len());
    let Some((mark, text)) = reply[..end].split_first() else { return Reply::Other };
    let rest = reply.get(end + 2..).unwrap_or_default();
    let list = |times: i64| match integer(text) {
        Some(-1) => Reply::Null,
        Some(count) => Reply::List(Items { rest, left: usize::try_from(count * times).unwrap_or_default() }),
        None => Reply::Other,
    };
    match mark {
        b'+' => Reply::Simple(text),
        b'-' => Reply::Error(text),
        b':' => integer(text).map_or(Reply::Other, Reply::Integer),
        b'_' => Reply::Null,
        b'$' if text == b"-1" => Reply::Null,
        b'$' => Reply::Bulk(rest.strip_suffix(b"\r\n").unwrap_or(rest)),
        // Three letters and a colon tell the format.
        b'=' => Reply::Bulk(rest.strip_suffix(b"\r\n").unwrap_or(rest).get(4..).unwrap_or_default()),
        b'!' => Reply::Error(rest.strip_suffix(b"\r\n").unwrap_or(rest)),
        b'*' | b'~' | b'>' => list(1),
        b'%' => list(2),
        _ => Reply::Other,
    }
}

/// What an error says of the server rather than of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It has no memory left (`-OOM`).
    Memory,
    /// It does not serve at the moment: `-LOADING`, `-BUSY`, `-MASTERDOWN`, `-CLUSTERDOWN`, `-TRYAGAIN`.
    Unready,
    /// It takes no writes: `-READONLY`, `-MISCONF`, `-NOREPLICAS`.
    ReadOnly,
    /// It does not know this proxy: `-NOAUTH`.
    Denied,
}

/// The errors that tell of a server's own trouble, by their first word. All others are about the request.
const TROUBLES: [(&[u8], Trouble); 11] = [
    (b"OOM", Trouble::Memory),
    (b"LOADING", Trouble::Unready),
    (b"BUSY", Trouble::Unready),
    (b"MASTERDOWN", Trouble::Unready),
    (b"CLUSTERDOWN", Trouble::Unready),
    (b"TRYAGAIN", Trouble::Unready),
    (b"READONLY", Trouble::ReadOnly),
    (b"MISCONF", Trouble::ReadOnly),
    (b"NOREPLICAS", Trouble::ReadOnly),
    (b"NOAUTH", Trouble::Denied),
    (b"DENIED", Trouble::Denied), // "protected mode", before it closes the connection
];

/// What an error reply says of the server; `None` when it is about the request, or no error.
#[must_use]
pub fn trouble(reply: &[u8]) -> Option<Trouble> {
    let text = reply.strip_prefix(b"-")?;
    let word = &text[..memchr::memchr2(b' ', b'\r', text)?];
    TROUBLES.iter().find(|(name, _)| *name == word).map(|(_, trouble)| *trouble)
}

#[cfg(test)]
mod tests;

//! Responses of servers: where one ends, what it says, and whether it can be the answer to its request.
//!
//! A server is not trusted: a line that the request cannot have, a value for another key, a length that does not fit
//! its block make a [`Violation`], on which the caller closes the connection. Not a byte of such a response is passed on.

mod meta;

use memchr::memchr;

pub use self::meta::{MetaAsked, meta};
use super::{KEY_LIMIT, Verb, number};
use crate::failure::Failure;
use crate::proto::bytes::{find_blank, is_same};

/// Longest response line, in bytes.
pub const LINE_LIMIT: usize = 8 << 10;

/// How a server broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A line that no request of this kind can get.
    UnexpectedLine,
    /// A value of a key that was not asked for, or not at this place.
    WrongKey,
    /// A meta response with another request's opaque token.
    WrongOpaque,
    /// No line end where the declared length puts it.
    BadBlock,
    /// A line or value longer than allowed.
    TooLong,
    /// A response that nobody asked for.
    Unsolicited,
    /// In place of the first response, that the server takes no more connections. It closes this one.
    Full,
}

impl Violation {
    /// What it is, in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnexpectedLine => "a line that answers no such request",
            Self::WrongKey => "a value of another key",
            Self::WrongOpaque => "a response with the token of another request",
            Self::BadBlock => "a value without its end",
            Self::TooLong => "a line or value longer than allowed",
            Self::Unsolicited => "a response that nobody asked for",
            Self::Full => "no more connections taken",
        }
    }
}

/// What a complete response line says, for counters and policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The item was there, or the change was made: `VALUE`, `STORED`, `DELETED`, `TOUCHED`, a number, `HD`, `VA`, `OK`.
    Done,
    /// It was not there: `END` without a value, `NOT_FOUND`, `EN`, `NF`.
    Absent,
    /// It was there, or had changed: `NOT_STORED`, `EXISTS`, `NS`, `EX`.
    Conflict,
    /// The server has no memory for it: `SERVER_ERROR out of memory ...`.
    OutOfMemory,
    /// The server says that it cannot serve.
    Unwilling(Failure),
    /// Any other error line.
    Error,
}

/// One response, or the reason why there is none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// More bytes are needed, `need` in all at the least.
    Incomplete {
        /// Length of the buffer below which trying again is useless.
        need: usize,
    },
    /// A whole response of `len` bytes.
    Complete {
        /// Bytes it takes.
        len: usize,
        /// What it says.
        status: Status,
        /// Bytes of it that the client did not ask for.
        strip: std::ops::Range<usize>,
    },
    /// More than is taken: so many bytes are to be dropped as they come. Nothing of it is passed on.
    TooLarge {
        /// Bytes to be dropped; they need not have come yet.
        len: usize,
        /// They are all of the response, not its beginning.
        whole: bool,
    },
    /// The server broke the protocol.
    Broken(Violation),
}

/// One piece of the response to a get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// More bytes are needed, `need` in all at the least.
    Incomplete {
        /// Length of the buffer below which trying again is useless.
        need: usize,
    },
    /// A `VALUE` line and its block, `len` bytes together.
    Value {
        /// The key on the line.
        key: &'a [u8],
        /// Bytes of line and block.
        len: usize,
    },
    /// A `VALUE` line and a block that is larger than is taken. It is to be dropped as it comes.
    TooLarge {
        /// The key on the line.
        key: &'a [u8],
        /// Bytes of line and block; the block need not have come yet.
        len: usize,
    },
    /// The `END` line.
    End {
        /// Its length.
        len: usize,
    },
    /// An error line in place of the rest.
    Error {
        /// Its length.
        len: usize,
        /// Which kind.
        status: Status,
    },
    /// The server broke the protocol.
    Broken(Violation),
}

/// Reads the next piece of the response to `get gets gat gats`.
#[must_use]
#[inline]
pub fn piece(input: &[u8], verb: Verb, value_limit: usize) -> Piece<'_> {
    plain_piece(input, verb, value_limit).unwrap_or_else(|| any_piece(input, verb, value_limit))
}

/// A value that has come whole or the end, on a line as every server writes it: in one pass over the line. `None` when
/// it is anything else, which [`any_piece`] finds out.
#[inline]
fn plain_piece(input: &[u8], verb: Verb, value_limit: usize) -> Option<Piece<'_>> {
    let Some(rest) = input.strip_prefix(b"VALUE ") else {
        return input.starts_with(b"END\r\n").then_some(Piece::End { len: b"END\r\n".len() });
    };
    let key = &rest[..find_blank(rest.get(..=KEY_LIMIT).unwrap_or(rest))?];
    let len = plain_value_end(rest, key.len(), verb, value_limit)?;
    Some(Piece::Value { key, len: b"VALUE ".len() + len })
}

/// Whether the value of a key has come whole and stands at the front of `input`, on a line as every server writes it: the
/// bytes of line and block. `None` when anything else stands there, which [`piece`] finds out. The key comes with the blank
/// before it, as in the line of a get.
///
/// To compare with a key that is known costs less than to find out where one ends.
#[must_use]
#[inline(always)]
pub fn value_of(key_with_blank: &[u8], input: &[u8], verb: Verb, value_limit: usize) -> Option<usize> {
    let key = key_with_blank.strip_prefix(b" ").filter(|key| !key.is_empty())?;
    let at = b"VALUE ".len() + key.len();
    let is_its = input.starts_with(b"VALUE ") && is_same(input.get(b"VALUE ".len()..at)?, key);
    if is_its { plain_value_end(input, at, verb, value_limit) } else { None }
}

/// Where the block ends of a value whose key ends at `at`.
#[inline(always)]
fn plain_value_end(input: &[u8], at: usize, verb: Verb, value_limit: usize) -> Option<usize> {
    let (_, at) = number::behind_blank(input, at)?;
    let (bytes, mut at) = number::behind_blank(input, at)?;
    if matches!(verb, Verb::Gets | Verb::Gats) {
        (_, at) = number::behind_blank(input, at)?;
    }
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= value_limit)?;
    if input.get(at..at + 2)? != b"\r\n" {
        return None;
    }
    let end = at + 2 + bytes;
    (input.get(end..end + 2)? == b"\r\n").then_some(end + 2)
}

/// As [`piece`], whatever it is.
#[inline(never)]
fn any_piece(input: &[u8], verb: Verb, value_limit: usize) -> Piece<'_> {
    let (line, len) = match line(input) {
        Line::Whole(line, len) => (line, len),
        Line::Partial => return Piece::Incomplete { need: input.len() + 1 },
        Line::TooLong => return Piece::Broken(Violation::TooLong),
    };
    if line == b"END" {
        return Piece::End { len };
    }
    let Some(rest) = line.strip_prefix(b"VALUE ") else {
        return match error_status(line) {
            Some(status) => Piece::Error { len, status },
            None => Piece::Broken(Violation::UnexpectedLine),
        };
    };
    let mut words = rest.split(|&byte| byte == b' ');
    let (Some(key), Some(flags), Some(bytes), cas, None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Piece::Broken(Violation::UnexpectedLine);
    };
    let with_cas = matches!(verb, Verb::Gets | Verb::Gats);
    let well_formed = number::digits_only(flags).is_some()
        && cas.is_some() == with_cas
        && cas.is_none_or(|cas| number::digits_only(cas).is_some());
    let Some(bytes) = number::digits_only(bytes).and_then(|bytes| usize::try_from(bytes).ok()) else {
        return Piece::Broken(Violation::UnexpectedLine);
    };
    if !well_formed {
        return Piece::Broken(Violation::UnexpectedLine);
    }
    match block(input, len, bytes, value_limit) {
        Ok(len) => Piece::Value { key, len },
        Err(Stop::Need(need)) => Piece::Incomplete { need },
        Err(Stop::TooLarge(len)) => Piece::TooLarge { key, len },
        Err(Stop::Broken(violation)) => Piece::Broken(violation),
    }
}

/// Reads a one-line response to a classic command that is not a get.
#[must_use]
pub fn classic(input: &[u8], verb: Verb) -> Response {
    let (line, len) = match line(input) {
        Line::Whole(line, len) => (line, len),
        Line::Partial => return Response::Incomplete { need: input.len() + 1 },
        Line::TooLong => return Response::Broken(Violation::TooLong),
    };
    let status = match verb {
        Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend | Verb::Cas => match line {
            b"STORED" => Some(Status::Done),
            b"NOT_STORED" | b"EXISTS" => Some(Status::Conflict),
            b"NOT_FOUND" => Some(Status::Absent),
            _ => None,
        },
        Verb::Delete => match line {
            b"DELETED" => Some(Status::Done),
            b"NOT_FOUND" => Some(Status::Absent),
            _ => None,
        },
        Verb::Touch => match line {
            b"TOUCHED" => Some(Status::Done),
            b"NOT_FOUND" => Some(Status::Absent),
            _ => None,
        },
        Verb::Incr | Verb::Decr => match line {
            b"NOT_FOUND" => Some(Status::Absent),
            number => number::digits_only(number).map(|_| Status::Done),
        },
        Verb::FlushAll => (line == b"OK").then_some(Status::Done),
        Verb::Version => line.starts_with(b"VERSION ").then_some(Status::Done),
        // `stats reset` and `stats detail on|off`; listings are read by `stats::listing`.
        Verb::Stats => matches!(line, b"OK" | b"RESET").then_some(Status::Done),
        Verb::Get
        | Verb::Gets
        | Verb::Gat
        | Verb::Gats
        | Verb::MetaGet
        | Verb::MetaSet
        | Verb::MetaDelete
        | Verb::MetaArith
        | Verb::MetaDebug
        | Verb::Query
        | Verb::Command
        | Verb::FlushDatabase
        | Verb::Subscribe
        | Verb::Watch => None,
    };
    match status.or_else(|| error_status(line)) {
        Some(status) => Response::Complete { len, status, strip: 0..0 },
        None => Response::Broken(Violation::UnexpectedLine),
    }
}

/// What an error line says; `None` when it is none.
#[must_use]
pub fn error_status(line: &[u8]) -> Option<Status> {
    if line.starts_with(b"SERVER_ERROR out of memory") {
        Some(Status::OutOfMemory)
    } else if line == b"ERROR"
        || line.starts_with(b"CLIENT_ERROR ")
        || line.starts_with(b"SERVER_ERROR ")
        || line.starts_with(b"ERROR ")
    {
        Some(Status::Error)
    } else {
        None
    }
}

pub(super) enum Line<'a> {
    Whole(&'a [u8], usize),
    Partial,
    TooLong,
}

/// The line at the front of `input` without its end, and its length with it.
pub(super) fn line(input: &[u8]) -> Line<'_> {
    match memchr(b'\n', &input[..input.len().min(LINE_LIMIT)]) {
        Some(end) => Line::Whole(input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]), end + 1),
        None if input.len() >= LINE_LIMIT => Line::TooLong,
        None => Line::Partial,
    }
}

/// Largest item that memcached can be told to keep, in bytes: a longer one is none.
const ITEM_LIMIT: usize = 1 << 30;

enum Stop {
    Need(usize),
    /// Line and block take so many bytes, and are not wanted.
    TooLarge(usize),
    Broken(Violation),
}

/// The length of a line of `line_len` bytes with the block of `bytes` bytes behind it.
fn block(input: &[u8], line_len: usize, bytes: usize, value_limit: usize) -> Result<usize, Stop> {
    if bytes > value_limit.max(ITEM_LIMIT) {
        return Err(Stop::Broken(Violation::TooLong));
    }
    let end = line_len + bytes;
    if bytes > value_limit {
        return Err(Stop::TooLarge(end + 2));
    }
    match input.get(end..end + 2) {
        Some(b"\r\n") => Ok(end + 2),
        Some(_) => Err(Stop::Broken(Violation::BadBlock)),
        None => Err(Stop::Need(end + 2)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_plain_is_read_as_everything_is(
            key in "[a-z]{0,3}|[a-z]{249,252}",
            numbers in proptest::collection::vec("0|1|5|00005|4294967296|18446744073709551616|x?[0-9]{0,2}|-1", 1..5),
            value in "[a-z\r\n]{0,6}",
            damage in proptest::option::of((0usize..30, any::<u8>())),
            cut in 0usize..400,
            verb in prop_oneof![Just(Verb::Get), Just(Verb::Gets)],
        ) {
            let mut input = format!("VALUE {key} {}\r\n{value}\r\nEND\r\n", numbers.join(" ")).into_bytes();
            if let Some((at, byte)) = damage
                && let Some(place) = input.get_mut(at)
            {
                *place = byte;
            }
            input.truncate(cut);
            for start in [0, input.len().saturating_sub(5)] {
                for limit in [4, 1 << 20] {
                    let expected = any_piece(&input[start..], verb, limit);
                    prop_assert_eq!(piece(&input[start..], verb, limit), expected);
                    // A value is its key's alone; what is not plain is left to the other two.
                    for asked in [&key[..], "a", "ab", &key[..key.len().saturating_sub(1)], ""] {
                        let len = value_of(format!(" {asked}").as_bytes(), &input[start..], verb, limit);
                        match piece(&input[start..], verb, limit) {
                            Piece::Value { key, len: expected } if key == asked.as_bytes() && !asked.is_empty() => {
                                prop_assert!(len.is_none_or(|len| len == expected), "{len:?} of {expected}");
                                prop_assert!(len.is_some() || key.len() > KEY_LIMIT, "{key:?} is not taken at once");
                            }
                            Piece::Value { .. } => prop_assert_eq!(len, None),
                            Piece::Incomplete { .. }
                            | Piece::TooLarge { .. }
                            | Piece::End { .. }
                            | Piece::Error { .. }
                            | Piece::Broken(_) => {
                                prop_assert_eq!(len, None);
                            }
                        }
                    }
                }
            }
        }
    }
}

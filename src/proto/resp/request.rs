//! A client's bytes become requests: arrays of bulk strings, or inline commands.
//!
//! Limits and error texts are those of Redis 7.0.15 (`networking.c` describes them by its behaviour): after an error of
//! this kind the stream cannot be followed, and the connection is closed.

use super::args::{Args, Span};

/// Longest line that announces a length, and longest inline command, in bytes (Redis's `PROTO_INLINE_MAX_SIZE`).
pub const LINE_LIMIT: usize = 64 << 10;

/// Most arguments that a request may announce.
const COUNT_LIMIT: i64 = i32::MAX as i64;

/// Most arguments, and bytes in one of them, before the client has given its password.
const STRANGER_COUNT: i64 = 10;
const STRANGER_LENGTH: i64 = 16 << 10;

/// Longest bulk string that the protocol knows, in bytes (Redis's `proto-max-bulk-len`).
const BULK_LIMIT: i64 = 512 << 20;

/// Arguments above which a request that came in pieces is told as [`Parsed::Long`].
const LONG: u32 = 8 << 10;

/// How far a request has been looked at that has not come whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that need not be looked at again.
    pub at: usize,
    /// Arguments that are still to come.
    pub left: u32,
    /// Arguments that have come.
    pub come: u32,
}

/// What a request has to keep within.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest argument that is taken, in bytes.
    pub value: usize,
    /// The client need not give a password, or has.
    pub trusted: bool,
}

/// What stands at the front of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// No whole request yet; looking again is useless below so many bytes.
    Incomplete {
        /// Bytes that are needed.
        need: usize,
    },
    /// A request of so many bytes; its arguments are the spans.
    Complete {
        /// Bytes that it takes.
        len: usize,
    },
    /// A request of so many bytes and of many arguments, which has come in pieces: they are to be looked for, with
    /// [`find_spans`]. Of what `progress` has as whole it is said again and again.
    Long {
        /// Bytes that it takes.
        len: usize,
    },
    /// An inline command of so many bytes: the same request as an array.
    Inline {
        /// Bytes that it takes.
        len: usize,
        /// The array.
        array: Vec<u8>,
    },
    /// Nothing to be answered: a blank line, an array without arguments.
    Nothing {
        /// Bytes that it takes.
        len: usize,
    },
    /// An argument is larger than is taken. The front of the request can be dropped; the rest is to be swallowed.
    TooLarge {
        /// Bytes to drop.
        len: usize,
        /// What follows them.
        rest: Swallow,
    },
    /// The stream can no longer be followed. The text follows `Protocol error: `.
    Broken(String),
}

/// The rest of a request that is dropped as it comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swallow {
    /// Bytes of the argument at hand, its line end included.
    pub bytes: usize,
    /// Arguments behind it.
    pub arguments: u32,
}

/// A part of what is swallowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swallowed<'a> {
    /// An argument of so many bytes follows.
    Argument(usize),
    /// Some bytes of the argument at hand, or of its line end.
    Bytes(&'a [u8]),
}

impl Swallow {
    /// Whether nothing is left to be dropped.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.bytes == 0 && self.arguments == 0
    }

    /// Drops what it can of `input`; returns how many bytes that was.
    ///
    /// # Errors
    ///
    /// What follows is no argument; the text follows `Protocol error: `.
    pub fn apply(&mut self, input: &[u8]) -> Result<usize, String> {
        self.apply_to(input, |_| {})
    }

    /// As [`Swallow::apply`], and shows what it drops.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn apply_to(&mut self, input: &[u8], mut show: impl FnMut(Swallowed<'_>)) -> Result<usize, String> {
        let mut at = 0;
        loop {
            let dropped = self.bytes.min(input.len() - at);
            self.bytes -= dropped;
            show(Swallowed::Bytes(&input[at..at + dropped]));
            at += dropped;
            if self.bytes > 0 || self.arguments == 0 || at == input.len() {
                return Ok(at);
            }
            match header(&input[at..], b'$', "bulk")? {
                None => return Ok(at),
                Some((length, used)) => {
                    at += used;
                    let len = bulk_length(length, true)?;
                    show(Swallowed::Argument(len));
                    self.bytes = len + 2;
                    self.arguments -= 1;
                }
            }
        }
    }
}

/// Looks for a request at the front of `input`, which is not empty. `progress` is what an earlier call left behind for
/// the same bytes; it is as new when this one did not return [`Parsed::Incomplete`].
pub fn parse(input: &[u8], progress: &mut Progress, limits: Limits, spans: &mut Vec<Span>) -> Parsed {
    let known = std::mem::take(progress);
    let parsed = if input[0] == b'*' { array(input, known, progress, limits, spans) } else { Ok(inline(input)) };
    parsed.unwrap_or_else(Parsed::Broken)
}

/// Looks through a request whose arguments came in pieces once more, for all of them; unless they are so many that this is
/// worth doing in portions.
#[inline(never)]
fn whole_array(
    input: &[u8],
    known: Progress,
    whole: Progress,
    progress: &mut Progress,
    limits: Limits,
    spans: &mut Vec<Span>,
) -> Result<Parsed, String> {
    if known.left == 0 || whole.come > LONG {
        *progress = whole;
        return Ok(Parsed::Long { len: whole.at });
    }
    array(input, Progress::default(), progress, limits, spans)
}

/// Finds further arguments of a whole request, so many at most. Returns the byte behind the last of them, from where it goes
/// on; 0 stands for the start.
pub fn find_spans(request: &[u8], mut at: usize, most: usize, spans: &mut Vec<Span>) -> usize {
    let number = |at: usize, mark: u8| {
        let rest = &request[at..];
        plain_header(rest, mark)
            .or_else(|| header(rest, mark, "").ok().flatten().and_then(|(it, used)| Some((it?, used))))
    };
    if at == 0 {
        let Some((count, used)) = number(0, b'*') else { return request.len() };
        // None takes less than five bytes.
        spans.reserve_exact(usize::try_from(count).unwrap_or(0).min(request.len() / 5));
        at = used;
    }
    for _ in 0..most {
        if at >= request.len() {
            break;
        }
        let Some((len, used)) = number(at, b'$') else { return request.len() };
        let (start, len) = (at + used, usize::try_from(len).unwrap_or(0));
        spans.push(span(start, len));
        at = start + len + 2;
    }
    at
}

#[inline(always)]
fn array(
    input: &[u8],
    known: Progress,
    progress: &mut Progress,
    limits: Limits,
    spans: &mut Vec<Span>,
) -> Result<Parsed, String> {
    spans.clear();
    let keeps = known.at == 0;
    let (mut at, mut left) = (known.at, known.left);
    if keeps {
        let header = match plain_header(input, b'*') {
            Some((count, used)) => Some((Some(count), used)),
            None => header(input, b'*', "mbulk")?,
        };
        let Some((count, used)) = header else {
            return Ok(Parsed::Incomplete { need: input.len() + 1 });
        };
        let Some(count) = count.filter(|count| *count <= COUNT_LIMIT) else {
            return Err("invalid multibulk length".to_owned());
        };
        if count > STRANGER_COUNT && !limits.trusted {
            return Err("unauthenticated multibulk length".to_owned());
        }
        if count <= 0 {
            return Ok(Parsed::Nothing { len: used });
        }
        at = used;
        left = u32::try_from(count).unwrap_or(u32::MAX);
    }
    let all = left;
    let progress_at = |at, left| Progress { at, left, come: known.come.saturating_add(all - left) };
    while left > 0 {
        let rest = &input[at..];
        let header = match plain_header(rest, b'$') {
            Some((length, used)) => Some((Some(length), used)),
            None => header(rest, b'$', "bulk")?,
        };
        let Some((length, used)) = header else {
            *progress = progress_at(at, left);
            return Ok(Parsed::Incomplete { need: input.len() + 1 });
        };
        let len = bulk_length(length, limits.trusted)?;
        let start = at + used;
        let end = start + len + 2;
        if len > limits.value || u32::try_from(end).is_err() {
            let swallow = Swallow { bytes: len + 2, arguments: left - 1 };
            return Ok(Parsed::TooLarge { len: start, rest: swallow });
        }
        if end > input.len() {
            *progress = progress_at(at, left);
            return Ok(Parsed::Incomplete { need: end });
        }
        if keeps {
            spans.push(span(start, len));
        }
        at = end;
        left -= 1;
    }
    if keeps {
        Ok(Parsed::Complete { len: at })
    } else {
        whole_array(input, known, progress_at(at, 0), progress, limits, spans)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "requests of 4 GiB and more are refused before")]
const fn span(start: usize, len: usize) -> Span {
    Span { start: start as u32, len: len as u32 }
}

/// As [`header`], of what nearly all are: a mark, one to three digits and the line's end, with something behind it.
/// `None` when it is anything else.
#[inline]
pub(super) fn plain_header(input: &[u8], mark: u8) -> Option<(i64, usize)> {
    let [first, a, b, c, d, _] = *input.first_chunk::<6>()?;
    let digit = |byte: u8| i64::from(byte.wrapping_sub(b'0'));
    let is_digit = |byte: u8| byte.is_ascii_digit();
    if first != mark || !is_digit(a) {
        return None;
    }
    if b == b'\r' {
        return Some((digit(a), 4));
    }
    if a == b'0' || !is_digit(b) {
        return None;
    }
    if c == b'\r' {
        return Some((digit(a) * 10 + digit(b), 5));
    }
    (is_digit(c) && d == b'\r').then(|| ((digit(a) * 10 + digit(b)) * 10 + digit(c), 6))
}

/// The number behind a mark, `None` when it is none, and the bytes up to the end of its line. `Ok(None)` when the line
/// has not come whole.
#[inline(never)]
fn header(input: &[u8], mark: u8, what: &str) -> Result<Option<(Option<i64>, usize)>, String> {
    let Some(end) = memchr::memchr(b'\r', &input[..input.len().min(LINE_LIMIT + 1)]) else {
        return if input.len() > LINE_LIMIT { Err(format!("too big {what} count string")) } else { Ok(None) };
    };
    if end + 1 >= input.len() {
        return Ok(None);
    }
    if input[0] != mark {
        return Err(format!("expected '$', got '{}'", char::from(input[0])));
    }
    Ok(Some((integer(&input[1..end]), end + 2)))
}

fn bulk_length(length: Option<i64>, trusted: bool) -> Result<usize, String> {
    match length {
        Some(length @ 0..=BULK_LIMIT) if trusted || length <= STRANGER_LENGTH => {
            Ok(usize::try_from(length).unwrap_or(usize::MAX))
        }
        Some(0..=BULK_LIMIT) => Err("unauthenticated bulk length".to_owned()),
        _ => Err("invalid bulk length".to_owned()),
    }
}

/// An integer as Redis reads it (`string2ll`): no blanks, no plus sign, no leading zeros.
#[must_use]
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let first = *digits.first()?;
    if digits.len() > 19 || (first == b'0' && text.len() > 1) {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(byte - b'0');
        value = value.checked_mul(10)?;
        value = if digits.len() < text.len() { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

fn inline(input: &[u8]) -> Parsed {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(LINE_LIMIT + 1)]) else {
        if input.len() > LINE_LIMIT {
            return Parsed::Broken("too big inline request".to_owned());
        }
        return Parsed::Incomplete { need: input.len() + 1 };
    };
    let len = end + 1;
    let line = &input[..end];
    let Some(words) = words(line.strip_suffix(b"\r").unwrap_or(line)) else {
        return Parsed::Broken("unbalanced quotes in request".to_owned());
    };
    if words.is_empty() {
        return Parsed::Nothing { len };
    }
    let mut array = Vec::with_capacity(len + 16 * words.len());
    super::encode::command(&mut array, words.iter().map(Vec::as_slice));
    Parsed::Inline { len, array }
}

/// Splits an inline command as Redis does: blanks between words, C escapes in double quotes, only `\'` in single ones.
/// `None` when a quote is left open or touches the next word.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_blank = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let mut words = Vec::new();
    let mut at = 0;
    // Like Redis's, a line ends where a zero byte stands.
    let line = &line[..memchr::memchr(0, line).unwrap_or(line.len())];
    loop {
        while line.get(at).is_some_and(|byte| is_blank(*byte)) {
            at += 1;
        }
        if at == line.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(byte) = line.get(at).copied() {
            match byte {
                b'"' | b'\'' => {
                    at = quoted(line, at, &mut word)?;
                    if line.get(at).is_some_and(|next| !is_blank(*next)) {
                        return None;
                    }
                    break;
                }
                _ if is_blank(byte) => break,
                _ => word.push(byte),
            }
            at += 1;
        }
        words.push(word);
    }
}

/// Reads a quoted part that starts at `at`; returns where it ends.
fn quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    let quote = line[at];
    at += 1;
    loop {
        let byte = *line.get(at)?;
        at += 1;
        if byte == quote {
            return Some(at);
        }
        if byte != b'\\' {
            word.push(byte);
            continue;
        }
        let next = line.get(at).copied();
        if quote == b'\'' {
            if next == Some(b'\'') {
                word.push(b'\'');
                at += 1;
            } else {
                word.push(b'\\');
            }
            continue;
        }
        let digit = |offset: usize| line.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        if next == Some(b'x')
            && let (Some(high), Some(low)) = (digit(1), digit(2))
        {
            word.push(u8::try_from(high * 16 + low).unwrap_or_default());
            at += 3;
            continue;
        }
        at += 1;
        word.push(match next? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'a' => 0x07,
            other => other,
        });
    }
}

/// The arguments of a request that is known to be whole, such as one that was queued.
pub fn spans_of(request: &[u8], spans: &mut Vec<Span>) -> bool {
    let limits = Limits { value: usize::MAX, trusted: true };
    matches!(parse(request, &mut Progress::default(), limits, spans), Parsed::Complete { len } if len == request.len())
}

/// The arguments of a whole request.
#[must_use]
pub fn args<'a>(request: &'a [u8], spans: &'a mut Vec<Span>) -> Args<'a> {
    if !spans_of(request, spans) {
        spans.clear();
    }
    Args::new(request, spans)
}

#[cfg(test)]
mod tests;

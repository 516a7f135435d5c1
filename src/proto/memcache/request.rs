//! Requests: where one ends, what it asks, and what to answer when it asks wrongly.
//!
//! [`parse`] looks at the bytes that a client has sent so far and takes one request off the front. What it returns
//! borrows from those bytes. A request that is refused here never reaches a server; its data block, if its length can
//! be known, is swallowed and never read as commands (memcached itself would run it in some of these cases).

use memchr::memchr;

use super::administration::administration;
use super::crawl::Form;
use super::meta::{self, Meta};
pub use super::refusal::Refusal;
pub use super::words::{ManyWords, Words};
use super::{KEY_LIMIT, KEYS_LINE_LIMIT, LINE_LIMIT, Verb, number};
pub(super) use crate::proto::bytes::is_control;
use crate::proto::bytes::{count_words, find_far, find_key_end, has_line_break, has_word_beyond};
use crate::proto::http;

/// What stands at the front of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Not a whole request yet; `need` is the least number of bytes that could make one.
    Incomplete {
        /// Length of the buffer below which trying again is useless.
        need: usize,
    },
    /// A request of `len` bytes.
    Complete {
        /// Bytes it takes, data block and line ends included.
        len: usize,
        /// What it asks.
        request: Request<'a>,
    },
    /// A request that is answered with an error line and goes no further.
    Refused {
        /// Bytes to drop now.
        len: usize,
        /// What is wrong with it.
        refusal: Refusal,
        /// The client asked for no answer, and memcached gives none for this refusal.
        silent: bool,
        /// What of the stream is to be dropped after `len`.
        skip: Skip,
    },
    /// Bytes of another protocol: an error line, then the connection is closed.
    Foreign,
    /// A line of an HTTP request: the connection is closed without a word, and nothing more of it is read.
    Http,
}

/// Bytes to be dropped unread after a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skip {
    /// So many bytes first.
    pub bytes: usize,
    /// Then everything through the next line feed.
    pub line: bool,
}

impl Skip {
    /// Nothing to drop.
    pub const NONE: Self = Self { bytes: 0, line: false };
    /// The rest of a line.
    pub const LINE: Self = Self { bytes: 0, line: true };

    /// A data block of `bytes` bytes and its line end, whatever that is.
    #[must_use]
    pub const fn block(bytes: usize) -> Self {
        Self { bytes, line: true }
    }

    /// Whether nothing is left to drop.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.bytes == 0 && !self.line
    }

    /// Drops what it can of `input`; returns how many bytes that was.
    pub fn apply(&mut self, input: &[u8]) -> usize {
        let block = self.bytes.min(input.len());
        self.bytes -= block;
        if self.bytes > 0 || !self.line {
            return block;
        }
        match memchr(b'\n', &input[block..]) {
            Some(at) => {
                self.line = false;
                block + at + 1
            }
            None => input.len(),
        }
    }
}

/// A request that can be carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `get gets gat gats`.
    Get(Get<'a>),
    /// `set add replace append prepend cas`.
    Store(Store<'a>),
    /// `delete incr decr touch`.
    Change(Change<'a>),
    /// `mg ms md ma me`.
    Meta(Meta<'a>),
    /// `flush_all [delay]`; the delay in seconds as memcached reads it.
    FlushAll {
        /// Seconds until the flush takes effect.
        delay: Option<i32>,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `stats` and its sub-commands.
    Stats(StatsOf<'a>),
    /// `version`.
    Version,
    /// `verbosity N`: every server is told.
    Verbosity {
        /// How much it is to log.
        level: u64,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `lru_crawler metadump` and `mgdump`: the keys of all servers.
    Crawl {
        /// How they are listed.
        form: Form,
        /// Of which slab classes: `all`, `hash`, or their numbers.
        which: &'a [u8],
    },
    /// `mn`.
    MetaNoop,
    /// `quit`.
    Quit,
}

/// What `stats` was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsOf<'a> {
    /// The general ones.
    General,
    /// `stats proxy`: this process's own.
    Proxy,
    /// A sub-command that is passed to every server, with its arguments: `settings`, `items`, `slabs` and so on.
    Servers(&'a [u8]),
    /// `stats cachedump`: keys of a slab class, as every server lists them.
    Cachedump {
        /// The slab class.
        class: u64,
        /// Most keys of each server; 0: all that it tells.
        limit: u64,
    },
    /// `stats reset` or `stats detail on|off`: every server is told, one word comes back.
    Order(&'a [u8]),
}

/// A request for the values of some keys.
#[derive(Debug, PartialEq, Eq)]
pub struct Get<'a> {
    /// Which of the four.
    pub verb: Verb,
    /// New lifetime, for `gat` and `gats`, cut to 32 bits as memcached cuts it.
    pub exptime: Option<i32>,
    /// The rest of the line: keys, all of them valid, between spaces.
    pub keys: &'a [u8],
    /// The first of them, empty when there is none.
    pub first: &'a [u8],
    /// How many keys there are.
    pub count: usize,
    /// Bytes of the line's end: 1 for a bare LF, 2 for CRLF.
    pub line_end: usize,
}

/// A request to store a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// Which of the six.
    pub verb: Verb,
    /// The key.
    pub key: &'a [u8],
    /// Client flags.
    pub flags: u32,
    /// Lifetime, cut to 32 bits as memcached cuts it.
    pub exptime: i32,
    /// The unique value of `cas`, zero for the others.
    pub cas: u64,
    /// The value with its CRLF.
    pub block: &'a [u8],
    /// No answer is wanted.
    pub noreply: bool,
    /// All of it as it came, if that is known to be the canonical form.
    pub canonical: Option<&'a [u8]>,
}

/// A request that changes an item without a data block.
#[derive(Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Which of the four.
    pub verb: Verb,
    /// The key.
    pub key: &'a [u8],
    /// Delta or lifetime as written; empty for `delete`. The server judges it.
    pub argument: &'a [u8],
    /// No answer is wanted.
    pub noreply: bool,
}

/// Takes one request off the front of `input`.
///
/// `value_limit` is the largest value that is passed on; a larger one is refused and swallowed.
#[must_use]
pub fn parse(input: &[u8], value_limit: usize) -> Parsed<'_> {
    let Some(end) = find_far(b'\n', input) else {
        return unfinished_line(input);
    };
    if matches!(input, [0x80, ..] | [0x16, 3, ..]) {
        return Parsed::Foreign; // the binary protocol's request magic, or the beginning of TLS
    }
    let line = match &input[..end] {
        // A lone CR stays and makes an unknown command of it, as in memcached.
        [body @ .., b'\r'] if !body.is_empty() => body,
        body => body,
    };
    let len = end + 1;
    // What is asked most, written as almost everybody writes it.
    match line {
        [b'g', b'e', b't', keys @ ..] if keys.first() == Some(&b' ') => {
            get_keys(len, len - line.len(), Verb::Get, None, keys)
        }
        [b's', b'e', b't', words @ ..] if words.first() == Some(&b' ') => plain_set(input, len, words, value_limit)
            .unwrap_or_else(|| store(input, len, Verb::Set, Words::new(words), value_limit)),
        // What all gets of the binary protocol are asked as.
        [b'g', b'e', b't', b's', keys @ ..] if keys.first() == Some(&b' ') => {
            get_keys(len, len - line.len(), Verb::Gets, None, keys)
        }
        _ => parse_other(input, line, len, value_limit),
    }
}

/// A `get` of one key at the front of `input`, as almost everybody writes it: the key and the bytes that it takes, which
/// are the canonical form. `None` when it is anything else, which [`parse`] finds out.
#[must_use]
#[inline]
pub fn lone_get(input: &[u8]) -> Option<(&[u8], usize)> {
    let rest = input.strip_prefix(b"get ")?;
    let (key, end) = rest.split_at(find_key_end(rest.get(..=KEY_LIMIT).unwrap_or(rest))?);
    (!key.is_empty() && end.starts_with(b"\r\n")).then_some((key, b"get \r\n".len() + key.len()))
}

/// As [`parse`], of a `line` that takes `len` bytes with its end, whatever it asks.
#[inline(never)]
fn parse_other<'a>(input: &'a [u8], line: &'a [u8], len: usize, value_limit: usize) -> Parsed<'a> {
    let parsed = parse_command(input, line, len, value_limit);
    // `delete /key HTTP/1.1`: a command's name may be a method of HTTP as well.
    let is_refused = matches!(parsed, Parsed::Refused { skip: Skip::NONE, .. });
    if is_refused && Words::new(line).last().is_some_and(http::is_version) { Parsed::Http } else { parsed }
}

fn parse_command<'a>(input: &'a [u8], line: &'a [u8], len: usize, value_limit: usize) -> Parsed<'a> {
    let mut words = Words::new(line);
    let Some(name) = words.next() else {
        return refused(len, Refusal::Unknown);
    };
    match name {
        b"get" | b"bget" => get(len, len - line.len(), Verb::Get, words),
        b"gets" => get(len, len - line.len(), Verb::Gets, words),
        b"gat" => gat(len, len - line.len(), Verb::Gat, words),
        b"gats" => gat(len, len - line.len(), Verb::Gats, words),
        b"set" => store(input, len, Verb::Set, words, value_limit),
        b"add" => store(input, len, Verb::Add, words, value_limit),
        b"replace" => store(input, len, Verb::Replace, words, value_limit),
        b"append" => store(input, len, Verb::Append, words, value_limit),
        b"prepend" => store(input, len, Verb::Prepend, words, value_limit),
        b"cas" => store(input, len, Verb::Cas, words, value_limit),
        b"mg" | b"ms" | b"md" | b"ma" | b"me" => meta::parse(input, len, name[1], words, value_limit),
        b"mn" => complete(len, Request::MetaNoop),
        b"delete" => delete(len, words),
        b"incr" => change(len, Verb::Incr, words),
        b"decr" => change(len, Verb::Decr, words),
        b"touch" => change(len, Verb::Touch, words),
        other => administration(len, other, words),
    }
}

/// What to make of bytes that hold no line end yet.
#[inline(never)]
fn unfinished_line(input: &[u8]) -> Parsed<'_> {
    let need = input.len() + 1;
    if matches!(input, [0x80, ..] | [0x16, 3, ..]) {
        return Parsed::Foreign;
    }
    if input.len() <= LINE_LIMIT {
        return Parsed::Incomplete { need };
    }
    let first = Words::new(&input[..LINE_LIMIT]).next();
    if first.is_some_and(http::is_start) {
        return Parsed::Http;
    }
    let lists_keys = matches!(first, Some(b"get" | b"gets" | b"gat" | b"gats"));
    if lists_keys && input.len() <= KEYS_LINE_LIMIT {
        return Parsed::Incomplete { need };
    }
    Parsed::Refused { len: input.len(), refusal: Refusal::LineTooLong, silent: false, skip: Skip::LINE }
}

fn get<'a>(len: usize, line_end: usize, verb: Verb, words: Words<'a>) -> Parsed<'a> {
    get_keys(len, line_end, verb, None, words.rest())
}

fn gat<'a>(len: usize, line_end: usize, verb: Verb, mut words: Words<'a>) -> Parsed<'a> {
    let Some(exptime) = words.next() else {
        return refused(len, Refusal::Unknown);
    };
    let Some(exptime) = number::signed(exptime) else {
        return refused(len, Refusal::BadExptime);
    };
    get_keys(len, line_end, verb, Some(cut(exptime)), words.rest())
}

#[inline]
fn get_keys(len: usize, line_end: usize, verb: Verb, exptime: Option<i32>, keys: &[u8]) -> Parsed<'_> {
    if let [b' ', key @ ..] = keys
        && (1..=KEY_LIMIT).contains(&key.len())
        && find_key_end(key).is_none()
    {
        return complete(len, Request::Get(Get { verb, exptime, keys, first: key, count: 1, line_end }));
    }
    get_many(len, line_end, verb, exptime, keys)
}

#[inline(never)]
fn get_many(len: usize, line_end: usize, verb: Verb, exptime: Option<i32>, keys: &[u8]) -> Parsed<'_> {
    let Some(count) = count_words(keys).filter(|_| !has_word_beyond(KEY_LIMIT, keys)) else {
        return refused(len, Refusal::BadFormat);
    };
    if count == 0 && exptime.is_none() {
        return refused(len, Refusal::Unknown);
    }
    let first = Words::new(keys).next().unwrap_or_default();
    complete(len, Request::Get(Get { verb, exptime, keys, first, count, line_end }))
}

/// As [`store`], of a `set` that has come whole and is written as almost everybody writes it, with one blank before each
/// of its `words`. `None` when it is anything else.
#[inline]
fn plain_set<'a>(input: &'a [u8], len: usize, words: &[u8], limit: usize) -> Option<Parsed<'a>> {
    let rest = &input[b"set ".len()..len]; // with the line's end, where the last number ends
    let key = &rest[..find_key_end(rest.get(..=KEY_LIMIT).unwrap_or(rest))?];
    let (flags, flags_end) = number::behind_blank(rest, key.len())?;
    let (exptime, exptime_end) = number::behind_blank(rest, flags_end)?;
    let (bytes, end) = number::behind_blank(rest, exptime_end)?;
    let (flags, exptime) = (u32::try_from(flags).ok()?, i32::try_from(exptime).ok()?);
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= limit)?;
    if end + 1 != words.len() || key.is_empty() || i64::try_from(bytes).is_ok_and(|bytes| bytes > MAX_BLOCK) {
        return None;
    }
    let Block::Whole(block) = block(&input[len..], bytes) else { return None };
    let whole = len + block.len();
    let no_zeros = |from: usize, to: usize| rest[from + 1] != b'0' || to == from + 2;
    let plain = no_zeros(key.len(), flags_end) && no_zeros(flags_end, exptime_end) && no_zeros(exptime_end, end);
    let canonical = (plain && rest[end] == b'\r').then(|| &input[..whole]);
    let store = Store { verb: Verb::Set, key, flags, exptime, cas: 0, block, noreply: false, canonical };
    Some(complete(whole, Request::Store(store)))
}

#[inline(never)]
fn store<'a>(input: &'a [u8], len: usize, verb: Verb, words: Words<'a>, value_limit: usize) -> Parsed<'a> {
    let wanted = if verb == Verb::Cas { 5 } else { 4 };
    let (tokens, count) = words.take::<6>();
    if count != wanted && count != wanted + 1 {
        return refused(len, Refusal::Unknown);
    }
    let noreply = tokens[count - 1] == b"noreply";
    let refuse = |refusal, skip| Parsed::Refused { len, refusal, silent: noreply, skip };
    let bytes = match number::signed(tokens[3]) {
        Some(bytes) if (0..=MAX_BLOCK).contains(&bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        _ => return refuse(Refusal::BadFormat, Skip::NONE),
    };
    let flags = number::unsigned(tokens[1]).and_then(|flags| u32::try_from(flags).ok());
    let cas = if verb == Verb::Cas { number::unsigned(tokens[4]) } else { Some(0) };
    let (Some(flags), Some(exptime), Some(cas), true) = (flags, number::signed(tokens[2]), cas, is_key(tokens[0]))
    else {
        return refuse(Refusal::BadFormat, Skip::block(bytes));
    };
    if bytes > value_limit {
        return refuse(Refusal::TooLarge, Skip::block(bytes));
    }
    match block(&input[len..], bytes) {
        Block::Whole(block) => {
            let store =
                Store { verb, key: tokens[0], flags, exptime: cut(exptime), cas, block, noreply, canonical: None };
            complete(len + block.len(), Request::Store(store))
        }
        Block::Partial => Parsed::Incomplete { need: len + bytes + 2 },
        Block::Bad => {
            Parsed::Refused { len: len + bytes, refusal: Refusal::BadChunk, silent: noreply, skip: Skip::LINE }
        }
    }
}

/// Largest number that memcached takes for the length of a data block.
pub(super) const MAX_BLOCK: i64 = i32::MAX as i64 - 2;

/// A data block at the front of some bytes.
pub(super) enum Block<'a> {
    Whole(&'a [u8]),
    Partial,
    Bad,
}

/// Looks for a block of `bytes` bytes and its CRLF.
pub(super) fn block(input: &[u8], bytes: usize) -> Block<'_> {
    match (input.get(bytes), input.get(bytes + 1)) {
        (Some(b'\r'), Some(b'\n')) => Block::Whole(&input[..bytes + 2]),
        (None, _) | (Some(b'\r'), None) => Block::Partial,
        (Some(_), _) => Block::Bad,
    }
}

fn delete<'a>(len: usize, words: Words<'a>) -> Parsed<'a> {
    let (tokens, count) = words.take::<3>();
    if !(1..=3).contains(&count) {
        return refused(len, Refusal::Unknown);
    }
    let noreply = count > 1 && tokens[count - 1] == b"noreply";
    let refuse = |refusal| Parsed::Refused { len, refusal, silent: noreply, skip: Skip::NONE };
    let valid = match count {
        1 => true,
        2 => tokens[1] == b"0" || noreply,
        _ => tokens[1] == b"0" && noreply,
    };
    if !valid {
        return refuse(Refusal::BadFormatDelete);
    }
    if !is_key(tokens[0]) {
        return refuse(Refusal::BadFormat);
    }
    complete(len, Request::Change(Change { verb: Verb::Delete, key: tokens[0], argument: b"", noreply }))
}

fn change<'a>(len: usize, verb: Verb, words: Words<'a>) -> Parsed<'a> {
    let (tokens, count) = words.take::<3>();
    if count != 2 && count != 3 {
        return refused(len, Refusal::Unknown);
    }
    let noreply = tokens[count - 1] == b"noreply";
    let refuse = |refusal| Parsed::Refused { len, refusal, silent: noreply, skip: Skip::NONE };
    if !is_key(tokens[0]) {
        return refuse(Refusal::BadFormat);
    }
    let argument = tokens[1];
    // In the place of the argument, `noreply` silences a server all the same: it must not get there.
    if argument.iter().any(|&byte| is_control(byte)) || argument.len() > 64 || argument == b"noreply" {
        return refuse(if verb == Verb::Touch { Refusal::BadExptime } else { Refusal::BadDelta });
    }
    complete(len, Request::Change(Change { verb, key: tokens[0], argument, noreply }))
}

pub(super) fn complete(len: usize, request: Request<'_>) -> Parsed<'_> {
    Parsed::Complete { len, request }
}

pub(super) fn refused<'a>(len: usize, refusal: Refusal) -> Parsed<'a> {
    Parsed::Refused { len, refusal, silent: false, skip: Skip::NONE }
}

/// Cuts a number to 32 bits as memcached's `safe_strtol` does: pylibmc's 4294967295 becomes -1.
#[expect(clippy::cast_possible_truncation, reason = "the truncation is the rule")]
pub(super) fn cut(value: i64) -> i32 {
    value as i32
}

/// Whether `key`, a word of a line, may be sent to a server: 1 to 250 bytes, none of them NUL, CR or LF.
///
/// Every other byte is the application's: keys may be hashes or packed numbers. A NUL or LF ends the line for the server
/// and shifts every later response on the shared connection; a CR does so as soon as it comes to stand before a LF.
#[must_use]
pub fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_LIMIT && !has_line_break(key)
}

#[cfg(test)]
mod tests;

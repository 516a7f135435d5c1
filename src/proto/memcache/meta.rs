//! The meta commands `mg ms md ma me`: their keys, their flags, and what the proxy has to change in them.
//!
//! Servers judge flags; the proxy needs to understand only a few. `q` is taken out on the way to a server, because the
//! shared stream counts one response a request, and honoured when the response is delivered. `b` says that the key is
//! base64 and routed by what it decodes to. `k` is added where a response carries a value, so that the value can be
//! checked against the key that was asked for, and taken out of the response again.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the verbs of meta commands come here")]

use super::request::{self, Block, MAX_BLOCK, Parsed, Refusal, Request, Skip, Words, complete, is_key, refused};
use super::{KEY_LIMIT, LINE_SAFE, Verb, number};
use crate::proto::bytes::breaks_line;

/// Most words of a meta command, its name and key included (memcached's `MFLAG_MAX_OPT_LENGTH` less the end token).
const WORD_LIMIT: usize = 19;

/// Longest opaque token, and most bytes that all flags of a line may take, so that with its key and what is added on the
/// way the line is one that servers take.
const OPAQUE_LIMIT: usize = 32;
const FLAGS_LIMIT: usize = LINE_SAFE - KEY_LIMIT - 128;

/// The letters that servers know as flags, as bits.
const KNOWN_FLAGS: u128 = {
    let letters = b"bNTRlOPLkstcfvhuqFCMJDIEx";
    let mut bits = 0;
    let mut index = 0;
    while index < letters.len() {
        bits |= 1 << letters[index];
        index += 1;
    }
    bits
};

/// A meta command.
#[derive(Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which of the five.
    pub verb: Verb,
    /// The key as written.
    pub key: &'a [u8],
    /// The flags as written, between spaces.
    pub flags: &'a [u8],
    /// What the proxy has to know of the flags.
    pub seen: Flags,
    /// The value with its CRLF, for `ms`.
    pub block: Option<&'a [u8]>,
}

/// The flags that change how the proxy handles a meta command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the protocol, independent of each other")]
pub struct Flags {
    /// `q`: say nothing when nothing happened.
    pub quiet: bool,
    /// `b`: the key is base64.
    pub base64: bool,
    /// `k`: the client wants the key back.
    pub key: bool,
    /// `O`: the client wants a token of its own back.
    pub opaque: bool,
    /// `v`: the client wants the value.
    pub value: bool,
    /// `N` or `R`, which may win the right to recache, or `T`, which sets a lifetime: not to be repeated.
    pub changes: bool,
    /// `C`, or `M` with any mode but plain storing: whether `ms` stores depends on what is there.
    pub conditional: bool,
    /// `M` with the mode of `add`, and no `C`.
    pub adds: bool,
}

/// Parses a meta command whose name ends in `kind`; `words` stands behind the name.
pub(super) fn parse<'a>(input: &'a [u8], len: usize, kind: u8, mut words: Words<'a>, value_limit: usize) -> Parsed<'a> {
    let verb = match kind {
        b'g' => Verb::MetaGet,
        b's' => Verb::MetaSet,
        b'd' => Verb::MetaDelete,
        b'a' => Verb::MetaArith,
        _ => Verb::MetaDebug,
    };
    let Some(key) = words.next() else {
        return refused(len, if verb == Verb::MetaDebug { Refusal::BadFormat } else { Refusal::Unknown });
    };
    if verb == Verb::MetaSet {
        return set(input, len, key, words, value_limit);
    }
    if !is_key(key) {
        return refused(len, Refusal::BadFormat);
    }
    let flags = words.rest();
    match examine(verb, flags, WORD_LIMIT - 2) {
        Ok(seen) => complete(len, Request::Meta(Meta { verb, key, flags, seen, block: None })),
        Err(refusal) => refused(len, refusal),
    }
}

fn set<'a>(input: &'a [u8], len: usize, key: &'a [u8], mut words: Words<'a>, value_limit: usize) -> Parsed<'a> {
    let bytes = match words.next().map(number::signed) {
        Some(Some(bytes)) if (0..=MAX_BLOCK).contains(&bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        _ => return refused(len, Refusal::BadFormat),
    };
    let refuse = |refusal| Parsed::Refused { len, refusal, silent: false, skip: Skip::block(bytes) };
    if !is_key(key) {
        return refuse(Refusal::BadFormat);
    }
    let flags = words.rest();
    let seen = match examine(Verb::MetaSet, flags, WORD_LIMIT - 3) {
        Ok(seen) => seen,
        Err(refusal) => return refuse(refusal),
    };
    if bytes > value_limit {
        return refuse(Refusal::TooLarge);
    }
    match request::block(&input[len..], bytes) {
        Block::Whole(block) => {
            let meta = Meta { verb: Verb::MetaSet, key, flags, seen, block: Some(block) };
            complete(len + block.len(), Request::Meta(meta))
        }
        Block::Partial => Parsed::Incomplete { need: len + bytes + 2 },
        Block::Bad => Parsed::Refused { len: len + bytes, refusal: Refusal::BadChunk, silent: false, skip: Skip::LINE },
    }
}

/// Reads the flags; refuses what must not reach a server.
///
/// A duplicate flag is refused here with memcached's words, because the copy that is taken out or put in (`q`, `k`)
/// would otherwise hide it.
fn examine(verb: Verb, flags: &[u8], limit: usize) -> Result<Flags, Refusal> {
    let mut seen = Flags::default();
    let mut letters = 0u128;
    let mut count = 0;
    if flags.len() > FLAGS_LIMIT {
        return Err(Refusal::LineTooLong);
    }
    let mut refusal = None;
    for flag in Words::new(flags) {
        count += 1;
        let letter = flag[0];
        // The token is the client's own and may hold what a key may.
        let is_bad = if letter == b'O' { breaks_line } else { request::is_control };
        if flag.iter().any(|&byte| is_bad(byte)) {
            return Err(Refusal::BadFormat);
        }
        if letter >= 127 || letters & (1 << letter) != 0 {
            refusal = refusal.or(Some(match verb {
                Verb::MetaDelete | Verb::MetaArith => Refusal::InvalidOrDuplicateFlag,
                _ if letters & !KNOWN_FLAGS != 0 => Refusal::InvalidFlag,
                _ => Refusal::DuplicateFlag,
            }));
            continue;
        }
        letters |= 1 << letter;
        match letter {
            b'q' => seen.quiet = true,
            b'b' => seen.base64 = true,
            b'k' => seen.key = true,
            b'O' if flag.len() > OPAQUE_LIMIT + 1 && verb != Verb::MetaDebug => {
                refusal = refusal.or(Some(Refusal::OpaqueTooLong));
            }
            b'O' => seen.opaque = true,
            b'v' => seen.value = true,
            b'N' | b'R' | b'T' => seen.changes = true,
            b'C' => seen.conditional = true,
            b'M' if matches!(flag.get(1), Some(b'E' | b'e')) => seen.adds = true,
            b'M' if !matches!(flag.get(1), Some(b'S' | b's')) => seen.conditional = true,
            _ => {}
        }
    }
    if count > limit {
        return Err(match verb {
            Verb::MetaGet => Refusal::TooManyMetaGetFlags,
            _ => Refusal::TooManyFlags,
        });
    }
    match refusal {
        // `me` reads no flags but a `b` in front; whatever else stands there is ignored.
        Some(refusal) if verb != Verb::MetaDebug => Err(refusal),
        _ => Ok(seen),
    }
}

/// Decodes a base64 key, with or without its padding; `None` when it is not base64.
#[must_use]
pub fn decode_key(key: &[u8]) -> Option<([u8; KEY_LIMIT], usize)> {
    let mut decoded = [0u8; KEY_LIMIT];
    let mut len = 0;
    let mut bits = 0u32;
    let mut held = 0;
    let body = match key {
        [body @ .., b'=', b'='] | [body @ .., b'='] => body,
        body => body,
    };
    for &byte in body {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(sextet);
        held += 6;
        if held >= 8 {
            held -= 8;
            *decoded.get_mut(len)? = ((bits >> held) & 0xff) as u8;
            len += 1;
        }
    }
    (len > 0).then_some((decoded, len))
}

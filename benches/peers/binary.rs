//! memcached's binary protocol, as far as the load speaks it: gets, quiet gets with a no-op behind them, and sets.
//!
//! The opaque number of each request is that of its key, so an answer to another one is seen.

use crate::content::{Content, KEY_BYTES};

const HEADER: usize = 24;
const GET: u8 = 0x00;
const SET: u8 = 0x01;
const NO_OP: u8 = 0x0a;
const QUIET_GET_WITH_KEY: u8 = 0x0d;
const NOT_FOUND: u16 = 1;

/// What an answer is, up to its value.
pub(crate) enum Head {
    /// A value follows, of the key with this number; its name, if it was told, is right.
    Value(u32),
    /// The answer to a no-op.
    NoOp,
    /// Something was stored.
    Stored,
    /// A key is not there.
    Missed,
    /// A request failed.
    Failed,
    /// Nothing of what can be answered.
    Wrong,
}

/// Appends a get; of several keys they are quiet ones, and a no-op.
pub(crate) fn push_get(out: &mut Vec<u8>, content: &Content, first: u32, count: u32) {
    let opcode = if count == 1 { GET } else { QUIET_GET_WITH_KEY };
    out.reserve((HEADER + KEY_BYTES) * count as usize + HEADER);
    for place in 0..count {
        let number = content.key_at(first, place);
        push_header(out, opcode, [KEY_BYTES, 0, 0], number);
        out.extend_from_slice(&Content::key(number));
    }
    if count > 1 {
        push_header(out, NO_OP, [0, 0, 0], first);
    }
}

/// Appends a set of key `number`.
pub(crate) fn push_set(out: &mut Vec<u8>, content: &Content, number: u32) {
    let value = content.value(number);
    push_header(out, SET, [KEY_BYTES, 8, value.len()], number);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&Content::key(number));
    out.extend_from_slice(value);
}

fn push_header(out: &mut Vec<u8>, opcode: u8, [key, extras, value]: [usize; 3], opaque: u32) {
    // Keys and extras of the load are short, and values far below what 32 bits count.
    let byte = |len: usize| u8::try_from(len).unwrap_or(u8::MAX);
    let body = u32::try_from(key + extras + value).unwrap_or(u32::MAX);
    out.extend_from_slice(&[0x80, opcode, 0, byte(key), byte(extras), 0, 0, 0]);
    out.extend_from_slice(&body.to_be_bytes());
    out.extend_from_slice(&opaque.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
}

/// How many bytes of `more`, behind `begun`, end what stands before a value; of an answer without one, all of it.
pub(crate) fn head_end(begun: &[u8], more: &[u8]) -> Option<usize> {
    let have = begun.len() + more.len();
    if have < HEADER {
        return None;
    }
    let byte = |at: usize| usize::from(if at < begun.len() { begun[at] } else { more[at - begun.len()] });
    let failed = byte(6) << 8 | byte(7) != 0;
    let body = (8..12).fold(0, |body, at| body << 8 | byte(at));
    let len = HEADER + if failed { body } else { byte(4) + (byte(2) << 8 | byte(3)) };
    (len <= have).then(|| len - begun.len())
}

/// Reads what [`head_end`] has found the end of.
pub(crate) fn head(bytes: &[u8], content: &Content) -> Head {
    let Some((header, behind)) = bytes.split_first_chunk::<HEADER>() else { return Head::Wrong };
    let [0x81, opcode, key_high, key_low, extras, _, status_high, status_low, ..] = *header else {
        return Head::Wrong;
    };
    let number = |at: usize| header[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let (status, key_len) = (u16::from_be_bytes([status_high, status_low]), u16::from_be_bytes([key_high, key_low]));
    let (body, opaque) = (number(8) as usize, number(12));
    if opaque >= content.keys() {
        return Head::Wrong;
    }
    match (opcode, status) {
        (GET, NOT_FOUND) => Head::Missed,
        (GET | QUIET_GET_WITH_KEY | SET | NO_OP, 1..) => Head::Failed,
        (NO_OP, 0) if body == 0 => Head::NoOp,
        (SET, 0) if body == 0 => Head::Stored,
        (GET | QUIET_GET_WITH_KEY, 0) => {
            let key = if opcode == GET { &b""[..] } else { &Content::key(opaque) };
            let is_right = extras == 4
                && usize::from(key_len) == key.len()
                && body == 4 + key.len() + content.value(opaque).len()
                && behind.strip_prefix(&[0; 4]) == Some(key);
            if is_right { Head::Value(opaque) } else { Head::Wrong }
        }
        _ => Head::Wrong,
    }
}

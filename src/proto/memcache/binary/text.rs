//! Requests of the binary protocol, written as text.
//!
//! All but gets are meta commands where there are such: those say what a binary answer has to, flags and `cas` and what a counter
//! has come to.

use super::super::number;
use super::opcode::{Mode, Verb};
use super::packet::{Header, number as read};

/// A lifetime that says that a counter which is not there is not to be made.
const NOT_MADE: u32 = u32::MAX;

/// A request without its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) header: Header,
    pub(super) extras: &'a [u8],
    pub(super) key: &'a [u8],
}

impl Request<'_> {
    /// Bytes of its value.
    pub(super) const fn value(&self) -> usize {
        self.header.body - self.header.extras - self.header.key
    }
}

/// Appends a request, up to its value if it has one. A `quit` only asks for an answer.
pub(super) fn push(text: &mut Vec<u8>, verb: Verb, request: &Request<'_>) {
    let Request { header, extras, key } = *request;
    match verb {
        Verb::NoOp | Verb::Quit => text.extend_from_slice(b"mn"),
        Verb::Version => text.extend_from_slice(b"version"),
        Verb::Flush => {
            text.extend_from_slice(b"flush_all ");
            push_lifetime(text, read(extras));
        }
        Verb::Stat => {
            text.extend_from_slice(b"stats ");
            text.extend_from_slice(key);
        }
        Verb::Get => {
            push_name(text, b"mg ", key);
            text.extend_from_slice(b" v f c");
        }
        Verb::GetAndTouch | Verb::Touch => {
            push_name(text, b"mg ", key);
            text.extend_from_slice(if verb == Verb::Touch { b" f c T" } else { b" v f c T" });
            push_lifetime(text, read(extras));
        }
        Verb::Delete => {
            push_name(text, b"md ", key);
            push_cas(text, header.cas);
        }
        Verb::Increment | Verb::Decrement => {
            push_name(text, b"ma ", key);
            push_counter(text, verb, extras);
            push_cas(text, header.cas);
            text.extend_from_slice(b" v c");
        }
        Verb::Store(mode) => push_store(text, mode, request),
    }
    text.extend_from_slice(b"\r\n");
}

/// Appends a meta command and the key that it is about.
fn push_name(text: &mut Vec<u8>, command: &[u8], key: &[u8]) {
    text.extend_from_slice(command);
    push_key(text, key, b"");
}

/// Appends a key and what follows it at once, and the flag that says that it is base64, if it is.
fn push_key(text: &mut Vec<u8>, key: &[u8], behind: &[u8]) {
    if is_text(key) {
        text.extend_from_slice(key);
        text.extend_from_slice(behind);
    } else {
        push_base64(text, key);
        text.extend_from_slice(behind);
        text.extend_from_slice(b" b");
    }
}

fn push_store(text: &mut Vec<u8>, mode: Mode, request: &Request<'_>) {
    let mut size = vec![b' '];
    number::push(&mut size, request.value() as u64);
    text.extend_from_slice(b"ms ");
    push_key(text, request.key, &size);
    if let [flags @ .., a, b, c, d] = request.extras {
        text.extend_from_slice(b" F");
        number::push(text, read(flags).into());
        text.extend_from_slice(b" T");
        push_lifetime(text, read(&[*a, *b, *c, *d]));
    }
    let flag: &[u8] = match mode {
        // Where a unique value is given, memcached looks at that alone.
        Mode::Add | Mode::Replace if request.header.cas != 0 => b"",
        Mode::Add => b" ME",
        Mode::Replace => b" MR",
        Mode::Append => b" MA",
        Mode::Prepend => b" MP",
        Mode::Set => b"",
    };
    text.extend_from_slice(flag);
    push_cas(text, request.header.cas);
    text.extend_from_slice(b" c");
}

fn push_counter(text: &mut Vec<u8>, verb: Verb, extras: &[u8]) {
    let eight = |at: usize| u64::from(read(&extras[at..])) << 32 | u64::from(read(&extras[at + 4..]));
    text.extend_from_slice(if verb == Verb::Increment { b" MI D" } else { b" MD D" });
    number::push(text, eight(0));
    let lifetime = read(&extras[16..]);
    if lifetime != NOT_MADE {
        text.extend_from_slice(b" J");
        number::push(text, eight(8));
        text.extend_from_slice(b" N");
        push_lifetime(text, lifetime);
    }
}

fn push_cas(text: &mut Vec<u8>, cas: u64) {
    if cas != 0 {
        text.extend_from_slice(b" C");
        number::push(text, cas);
    }
}

/// Appends a lifetime. Text has none beyond the year 2038, where those of the binary protocol go on.
fn push_lifetime(text: &mut Vec<u8>, seconds: u32) {
    number::push(text, seconds.min(i32::MAX.unsigned_abs()).into());
}

/// How many bytes so many are in base64.
pub(super) const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

fn push_base64(text: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let sextet = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { DIGITS[sextet as usize] } else { b'=' });
        }
    }
}

/// Whether a key may stand in a line of text as it is.
pub(super) fn is_text(key: &[u8]) -> bool {
    let Some(last) = key.last_chunk() else {
        return key.iter().fold(true, |is_text, byte| is_text & (*byte > b' ') & (*byte != 0x7f));
    };
    // Eight bytes at a time, the last of which may be some of those before.
    let (chunks, _) = key.as_chunks();
    chunks.iter().fold(are_text(*last), |is_text, chunk| is_text & are_text(*chunk))
}

/// Whether each of eight bytes may.
#[inline]
const fn are_text(bytes: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let bytes = u64::from_le_bytes(bytes);
    // What is below a number that is taken from it turns its first bit on, as does 0 - 1.
    let rubout = bytes ^ (ONES * 0x7f);
    let blank = bytes.wrapping_sub(ONES * 0x21) & !bytes;
    let rubout = rubout.wrapping_sub(ONES) & !rubout;
    (blank | rubout) & (ONES * 0x80) == 0
}

#[cfg(test)]
mod tests {
    use super::is_text;

    #[test]
    fn a_byte_that_may_not_stand_in_text_is_found_wherever_it_is() {
        for len in 1..40 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    for others in [b'!', b'k', 0x7e, 0x80, 0xff] {
                        let mut key = vec![others; len];
                        key[at] = byte;
                        assert_eq!(is_text(&key), byte > b' ' && byte != 0x7f, "{byte} at {at} of {len}");
                    }
                }
            }
        }
        assert!(is_text(b""));
    }
}

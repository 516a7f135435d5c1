//! What this program itself says in Redis's protocol.

use super::Version;

/// Longest head of an array.
pub const HEAD: usize = 24;

/// The head of an array, written to the end of `room`.
#[must_use]
pub fn array_in(room: &mut [u8; HEAD], count: usize) -> &[u8] {
    room[HEAD - 2..].copy_from_slice(b"\r\n");
    let at = digits(&mut room[..HEAD - 2], count as u64) - 1;
    room[at] = b'*';
    &room[at..]
}

/// Writes a decimal number to the end of `room`, which is large enough; returns where it starts.
fn digits(room: &mut [u8], mut value: u64) -> usize {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, value: i64) {
    if let Ok(digit @ 0..=9) = u8::try_from(value) {
        return out.push(b'0' + digit);
    }
    let mut room = [0; 20];
    let at = digits(&mut room, value.unsigned_abs());
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&room[at..]);
}

/// Appends a line of a mark and a number.
fn line(out: &mut Vec<u8>, mark: u8, value: i64) {
    out.push(mark);
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

fn counted(out: &mut Vec<u8>, mark: u8, count: usize) {
    line(out, mark, i64::try_from(count).unwrap_or(i64::MAX));
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    line(out, b':', value);
}

/// Appends the head of a text of so many bytes that is meant to be read by people; an end of line belongs behind it.
pub fn verbatim_head(out: &mut Vec<u8>, len: usize, version: Version) {
    match version {
        Version::Resp2 => counted(out, b'$', len),
        Version::Resp3 => {
            counted(out, b'=', len + 4);
            out.extend_from_slice(b"txt:");
        }
    }
}

/// Appends what stands in front of the text of a bulk string of so many bytes.
pub fn bulk_head(out: &mut Vec<u8>, len: usize) {
    counted(out, b'$', len);
}

/// Appends a bulk string.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    bulk_head(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a simple string, which has no line ends.
pub fn simple(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'+');
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// Appends an error; line ends in it become blanks.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of an array.
pub fn array(out: &mut Vec<u8>, count: usize) {
    counted(out, b'*', count);
}

/// Appends the head of a map of so many pairs.
pub fn map(out: &mut Vec<u8>, pairs: usize, version: Version) {
    match version {
        Version::Resp2 => counted(out, b'*', pairs * 2),
        Version::Resp3 => counted(out, b'%', pairs),
    }
}

/// Appends the head of a set.
pub fn set(out: &mut Vec<u8>, count: usize, version: Version) {
    counted(out, if version == Version::Resp3 { b'~' } else { b'*' }, count);
}

/// Appends the head of a push message.
pub fn push(out: &mut Vec<u8>, count: usize, version: Version) {
    counted(out, if version == Version::Resp3 { b'>' } else { b'*' }, count);
}

/// Appends the null that stands for a missing value.
pub fn null(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(null_of(version));
}

/// The null that stands for a missing value.
#[must_use]
pub const fn null_of(version: Version) -> &'static [u8] {
    match version {
        Version::Resp2 => b"$-1\r\n",
        Version::Resp3 => b"_\r\n",
    }
}

/// Appends the null that stands for a missing array.
pub fn null_array(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(if version == Version::Resp3 { b"_\r\n" } else { b"*-1\r\n" });
}

/// Appends a request.
pub fn command<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    array(out, words.len());
    words.for_each(|word| bulk(out, word));
}

/// Appends a request of words that are known.
pub fn words(out: &mut Vec<u8>, words: &[&[u8]]) {
    command(out, words.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words() {
        let mut out = Vec::new();
        [0, -1, 42, i64::MIN, i64::MAX].into_iter().for_each(|value| integer(&mut out, value));
        for count in [0, 7, 20, usize::MAX] {
            let mut appended = Vec::new();
            array(&mut appended, count);
            let expected = format!("*{count}\r\n").into_bytes();
            assert_eq!(array_in(&mut [0; HEAD], count), expected);
            assert!(appended == expected || count == usize::MAX);
        }
        error(&mut out, b"ERR two\r\nlines");
        words(&mut out, &[b"GET", b""]);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            ":0\r\n:-1\r\n:42\r\n:-9223372036854775808\r\n:9223372036854775807\r\n-ERR two  lines\r\n\
             *2\r\n$3\r\nGET\r\n$0\r\n\r\n"
        );
    }
}

//! What is asked of Redis servers to bring a string from one to another.

use super::encode;

/// What stands in a bulk string reply.
#[must_use]
pub fn value(reply: &[u8]) -> Option<&[u8]> {
    let rest = reply.strip_prefix(b"$")?;
    let line_end = memchr::memchr(b'\n', rest)?;
    let len: usize = std::str::from_utf8(rest[..line_end].trim_ascii_end()).ok()?.parse().ok()?;
    rest.get(line_end + 1..line_end + 1 + len)
}

/// The number in an integer reply.
#[must_use]
pub fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?.trim_ascii_end()).ok()?.parse().ok()
}

/// Whether a reply says that what a key holds is no string.
#[must_use]
pub fn is_of_another_kind(reply: &[u8]) -> bool {
    reply.starts_with(b"-WRONGTYPE")
}

/// Whether a server does not know, or does not allow, what it was asked, and will not the next time.
#[must_use]
pub fn is_refused(reply: &[u8]) -> bool {
    [&b"-NOPERM"[..], b"-READONLY", b"-ERR unknown command"].iter().any(|refusal| reply.starts_with(refusal))
}

/// Appends the request to store a string under a key if nothing is there. It has so many milliseconds to live, if not for
/// ever.
pub fn store(out: &mut Vec<u8>, key: &[u8], value: &[u8], lifetime: Option<u64>) {
    match lifetime {
        None => encode::words(out, &[b"SET", key, value, b"NX"]),
        Some(millis) => encode::words(out, &[b"SET", key, value, b"NX", b"PX", millis.to_string().as_bytes()]),
    }
}

/// Seconds after which a set is forgotten of those who copy a key.
pub const FORGOTTEN_AFTER: &[u8] = b"2";

/// Whether such a set is, by the answer to a transaction at whose end that was asked.
#[must_use]
pub fn is_forgotten_later(answer: &[u8]) -> bool {
    answer.starts_with(b"*2\r\n:") && answer.ends_with(b"\r\n:1\r\n")
}

/// Whether nobody does, by the answer to an `SCARD`.
#[must_use]
pub fn is_nobody(answer: &[u8]) -> bool {
    integer(answer).is_none_or(|count| count == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read() {
        assert_eq!(value(b"$3\r\na\r\n\r\n"), Some(&b"a\r\n"[..]));
        assert_eq!(value(b"$-1\r\n"), None);
        assert_eq!(value(b"_\r\n"), None);
        assert_eq!(integer(b":-1\r\n"), Some(-1));
        assert_eq!(integer(b"+OK\r\n"), None);
        assert!(is_forgotten_later(b"*2\r\n:0\r\n:1\r\n") && !is_forgotten_later(b"*2\r\n:1\r\n:0\r\n"));
        assert!(!is_forgotten_later(b"-EXECABORT\r\n") && !is_forgotten_later(b"*2\r\n-WRONGTYPE\r\n:1\r\n"));
        assert!(is_nobody(b":0\r\n") && is_nobody(b"-NOPERM\r\n") && !is_nobody(b":2\r\n"));
    }
}

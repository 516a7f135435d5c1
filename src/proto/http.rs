//! HTTP requests that reach a port where another protocol is spoken.
//!
//! A web page may have a browser post any text to any port of the machine that it runs on. The lines of an HTTP request
//! are no commands of memcached or Redis, but those of its body may be, so nothing behind the first of them may be read.

/// Whether a command of this name is the beginning of a line of HTTP that Redis closes the connection for, in whatever
/// form it comes: `POST`, or the header that every browser sends.
#[must_use]
pub fn is_attack(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Whether a line whose first word is no command may be part of an HTTP request: its last word names the protocol, or its
/// first one is the name of a header with the colon behind it.
#[must_use]
pub fn is_line(first: &[u8], last: Option<&[u8]>) -> bool {
    last.is_some_and(is_version) || is_header(first)
}

/// Whether a word names HTTP and a version of it.
#[must_use]
pub fn is_version(word: &[u8]) -> bool {
    word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

/// Whether a word is the name of a header; `Host` also if its value follows without a blank.
fn is_header(word: &[u8]) -> bool {
    let is_named =
        |name: &[u8]| !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    word.split_last().is_some_and(|(colon, name)| *colon == b':' && is_named(name))
        || word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"host:"))
}

/// Whether a line too long to be kept begins as one of HTTP: with a method, or with the name of a header.
#[must_use]
pub fn is_start(first: &[u8]) -> bool {
    const METHODS: [&[u8]; 6] = [b"post", b"put", b"options", b"head", b"patch", b"connect"];
    let is_upper = !first.is_empty() && first.iter().all(u8::is_ascii_uppercase);
    is_upper || is_header(first) || METHODS.iter().any(|method| first.eq_ignore_ascii_case(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_http_are_told_from_commands() {
        for name in [&b"POST"[..], b"post", b"Host:", b"HOST:"] {
            assert!(is_attack(name));
        }
        for name in [&b"GET"[..], b"posts", b"Host", b"host:x", b""] {
            assert!(!is_attack(name), "{name:?}");
        }
        for (first, last) in [
            (&b"PUT"[..], Some(&b"HTTP/1.1"[..])),
            (b"patch", Some(b"http/1.0")),
            (b"Content-Type:", Some(b"text/plain")),
            (b"x:", None),
            (b"host:127.0.0.1", None),
        ] {
            assert!(is_line(first, last), "{first:?}");
        }
        for (first, last) in [
            (&b"foo"[..], Some(&b"HTTP"[..])),
            (b":", None),
            (b"user:42", None),
            (b"--boundary", None),
            (b"a b:", None),
            (b"\xff:", None),
        ] {
            assert!(!is_line(first, last), "{first:?}");
        }
        assert!(is_start(b"GET") && is_start(b"put") && is_start(b"Cookie:"));
        assert!(!is_start(b"get") && !is_start(b"set") && !is_start(b"delete") && !is_start(b"") && !is_start(b"aaaa"));
    }
}

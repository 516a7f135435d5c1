//! Responses to meta commands, and whether they carry what was asked.

use super::{Line, Response, Status, Stop, Violation, block, error_status, line};
use crate::proto::memcache::meta::decode_key;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::{Verb, number};

/// A meta request as far as its response is checked against it.
#[derive(Debug, Clone, Copy)]
pub struct MetaAsked<'a> {
    /// Which of the five.
    pub verb: Verb,
    /// The key as written.
    pub key: &'a [u8],
    /// What was sent behind the key: the flags, for `ms` with the length of the value in front.
    pub flags: &'a [u8],
    /// The key is written in base64.
    pub base64: bool,
    /// `k` was added on the way and has to come out again.
    pub strip_key: bool,
}

impl<'a> MetaAsked<'a> {
    /// The flags that a response repeats or answers, in their order.
    fn wanted(&self, status: Status) -> impl Iterator<Item = &'a [u8]> {
        let letters = answered(self.verb, status);
        Words::new(self.flags).filter(move |flag| letters.contains(&flag[0]))
    }
}

/// The letters of flags that a response to this verb has in the order of the request. What else a server says is its own.
///
/// The key and the token are in every response. What is told of an item comes with an item; `ma` tells it only beside the
/// value, and other versions of memcached tell other things of `ms`.
fn answered(verb: Verb, status: Status) -> &'static [u8] {
    match (verb, status) {
        (Verb::MetaGet, Status::Done) => b"kOscfthl",
        _ => b"kO",
    }
}

/// Whether a response must repeat the key and the token: some versions of memcached say no more than `EN` or `NF` where
/// there is nothing to tell of.
const fn must_repeat(verb: Verb, status: Status) -> bool {
    matches!((verb, status), (_, Status::Done) | (Verb::MetaSet | Verb::MetaDelete, _))
}

/// Reads the response to a meta command.
#[must_use]
pub fn meta(input: &[u8], asked: MetaAsked<'_>, value_limit: usize) -> Response {
    match bare_key(input, asked) {
        None => read(input, asked, value_limit),
        Some(Bare::Partial { need }) => Response::Incomplete { need },
        Some(Bare::At { at, len }) => {
            // Rare: read as if the key were written as it was asked for.
            let written = [&input[..at], asked.key, &input[at + len..]].concat();
            let bare = |end: usize| end + len - asked.key.len();
            match read(&written, asked, value_limit) {
                Response::Incomplete { need } => Response::Incomplete { need: bare(need) },
                Response::TooLarge { len, whole } => Response::TooLarge { len: bare(len), whole },
                Response::Complete { len, status, strip } => {
                    let strip = if strip.is_empty() { strip } else { strip.start..bare(strip.end) };
                    Response::Complete { len: bare(len), status, strip }
                }
                broken @ Response::Broken(_) => broken,
            }
        }
    }
}

/// A key that stands in a response as it is, though it has bytes that text cannot carry.
#[derive(Debug, PartialEq, Eq)]
enum Bare {
    At {
        at: usize,
        len: usize,
    },
    /// Not all of it has come.
    Partial {
        need: usize,
    },
}

/// Finds the key where it stands bare: memcached 1.6.18 does not know of an item that `ma` has made (`N`) that its key is
/// written in base64. Such a key may have blanks and line ends, which are not those of the line.
#[inline]
fn bare_key(input: &[u8], asked: MetaAsked<'_>) -> Option<Bare> {
    if asked.base64 && asked.verb == Verb::MetaGet { find_bare_key(input, asked.key) } else { None }
}

#[cold]
#[inline(never)]
fn find_bare_key(input: &[u8], key: &[u8]) -> Option<Bare> {
    let (key, len) = decode_key(key)?;
    let key = &key[..len];
    if !key.iter().any(|byte| *byte <= b' ') {
        return None;
    }
    let end = memchr::memchr(b'\n', input).unwrap_or(input.len());
    memchr::memmem::find_iter(&input[..end], b" k").find_map(|blank| {
        let at = blank + 2;
        let there = &input[at..input.len().min(at + len)];
        match () {
            () if there == key => Some(Bare::At { at, len }),
            () if key.starts_with(there) && at + there.len() == input.len() => {
                Some(Bare::Partial { need: at + len + 2 })
            }
            () => None,
        }
    })
}

fn read(input: &[u8], asked: MetaAsked<'_>, value_limit: usize) -> Response {
    let (line, mut len) = match line(input) {
        Line::Whole(line, len) => (line, len),
        Line::Partial => return Response::Incomplete { need: input.len() + 1 },
        Line::TooLong => return Response::Broken(Violation::TooLong),
    };
    let (code, flags_at) = match line {
        [a, b] => ([*a, *b], 2),
        [a, b, b' ', ..] => ([*a, *b], 3),
        _ => ([0, 0], 0),
    };
    let status = match (&code, asked.verb) {
        (b"HD", Verb::MetaGet | Verb::MetaSet | Verb::MetaDelete | Verb::MetaArith)
        | (b"VA", Verb::MetaGet | Verb::MetaArith)
        | (b"ME", Verb::MetaDebug) => Status::Done,
        (b"EN", Verb::MetaGet | Verb::MetaDebug)
        | (b"NF", Verb::MetaGet | Verb::MetaSet | Verb::MetaDelete | Verb::MetaArith) => Status::Absent,
        (b"NS", Verb::MetaSet | Verb::MetaArith) | (b"EX", Verb::MetaSet | Verb::MetaDelete | Verb::MetaArith) => {
            Status::Conflict
        }
        _ => match error_status(line) {
            Some(status) => return Response::Complete { len, status, strip: 0..0 },
            None => return Response::Broken(Violation::UnexpectedLine),
        },
    };
    if asked.verb == Verb::MetaDebug {
        let named = Words::new(line).nth(1);
        return if status == Status::Done && !named.is_some_and(|named| same_key(named, asked)) {
            Response::Broken(Violation::WrongKey)
        } else {
            Response::Complete { len, status, strip: 0..0 }
        };
    }
    let has_value = &code == b"VA";
    if status == Status::Done && has_value != asks_value(asked) {
        return Response::Broken(Violation::UnexpectedLine);
    }
    let mut flags = Words::new(&line[flags_at..]);
    let mut too_large = false;
    if has_value {
        let Some(bytes) = flags.next().and_then(number::digits_only).and_then(|bytes| usize::try_from(bytes).ok())
        else {
            return Response::Broken(Violation::UnexpectedLine);
        };
        match block(input, len, bytes, value_limit) {
            Ok(whole) => len = whole,
            Err(Stop::Need(need)) => return Response::Incomplete { need },
            Err(Stop::TooLarge(whole)) => (len, too_large) = (whole, true),
            Err(Stop::Broken(violation)) => return Response::Broken(violation),
        }
    }
    match check_flags(line, flags, asked, status) {
        Ok(_) if too_large => Response::TooLarge { len, whole: true },
        Ok(strip) => Response::Complete { len, status, strip },
        Err(violation) => Response::Broken(violation),
    }
}

/// Whether the value was asked for, and a server that has done what it was told must send one.
fn asks_value(asked: MetaAsked<'_>) -> bool {
    matches!(asked.verb, Verb::MetaGet | Verb::MetaArith) && Words::new(asked.flags).any(|flag| flag[0] == b'v')
}

/// Compares the flags of a response line with the request; finds the bytes that the client did not ask for.
fn check_flags(
    line: &[u8],
    mut flags: Words<'_>,
    asked: MetaAsked<'_>,
    status: Status,
) -> Result<std::ops::Range<usize>, Violation> {
    let letters = answered(asked.verb, status);
    let strict = must_repeat(asked.verb, status);
    let mut wanted = asked.wanted(status);
    let mut strip = 0..0;
    loop {
        let before = line.len() - flags.rest().len();
        let Some(flag) = flags.next() else { break };
        let after = line.len() - flags.rest().len();
        if !letters.contains(&flag[0]) {
            if flag == b"b" && asked.strip_key && !strip.is_empty() && strip.end == before {
                strip.end = after; // it tells how the key is written
            }
            continue;
        }
        let same = |one: &&[u8]| one[0] == flag[0];
        let expected = if strict { wanted.next().filter(same) } else { wanted.find(same) };
        let is_right = match flag[0] {
            b'k' => expected.is_some() && same_key(&flag[1..], asked),
            b'O' => expected == Some(flag),
            _ => expected.is_some(),
        };
        if !is_right {
            return Err(violation(flag));
        }
        if flag[0] == b'k' && asked.strip_key {
            strip = before.saturating_sub(usize::from(line[before] != b' '))..after;
        }
    }
    match wanted.next().filter(|_| strict) {
        Some(missing) => Err(violation(missing)),
        None => Ok(strip),
    }
}

/// What is wrong with a response in which this flag is wrong, or missing.
const fn violation(flag: &[u8]) -> Violation {
    match flag.first() {
        Some(b'k') => Violation::WrongKey,
        Some(b'O') => Violation::WrongOpaque,
        _ => Violation::UnexpectedLine,
    }
}

/// Whether a response names the key that was asked for. Which spelling it uses, plain or base64, depends on how the item
/// was stored, not on how it was asked for.
fn same_key(named: &[u8], asked: MetaAsked<'_>) -> bool {
    if named == asked.key {
        return true;
    }
    let decoded = if asked.base64 { decode_key(asked.key) } else { None };
    let key = decoded.as_ref().map_or(asked.key, |(key, len)| &key[..*len]);
    named == key || decode_key(named).is_some_and(|(named, len)| named[..len] == *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(request: &str, response: &str) -> Response {
        let mut words = Words::new(request.as_bytes());
        let verb = match words.next() {
            Some(b"mg") => Verb::MetaGet,
            Some(b"ms") => Verb::MetaSet,
            Some(b"md") => Verb::MetaDelete,
            Some(b"ma") => Verb::MetaArith,
            _ => Verb::MetaDebug,
        };
        let key = words.next().unwrap_or_default();
        let base64 = Words::new(words.rest()).any(|flag| flag == b"b");
        let asked = MetaAsked { verb, key, flags: words.rest(), base64, strip_key: false };
        meta(response.as_bytes(), asked, 1 << 20)
    }

    #[test]
    fn what_memcached_answers_is_taken() {
        // As memcached 1.6.18 answers.
        for (request, response) in [
            ("mg k", "HD\r\n"),
            ("mg k v", "VA 1\r\n5\r\n"),
            ("mg k s v c f t h l O1 k", "VA 1 s1 c1 f0 t-1 h1 l0 O1 kk\r\n5\r\n"),
            ("mg k O1 f t v", "VA 1 O1 f0 t-1\r\n5\r\n"),
            ("mg x k O1", "EN kx O1\r\n"),
            ("mg x k O1", "EN\r\n"),
            ("mg YWJjZA== k b v", "VA 1 kYWJjZA== b\r\nx\r\n"),
            ("mg abcd k v", "VA 1 kYWJjZA== b\r\nx\r\n"),
            ("mg x N30 v k O1 t f s", "VA 0 kx O1 t30 f0 s0 W\r\n\r\n"),
            ("mg k v c t k", "VA 1 c10 t30 kk X W\r\n5\r\n"),
            ("mg k f1 v2 t3 k4", "VA 1 f0 t-1 kk\r\n8\r\n"),
            ("ms k 1 k O1 c", "HD kk O1 c4\r\n"),
            ("ms k 1 c s", "HD c7\r\n"),
            ("ms k 1 ME k O2", "NS kk O2\r\n"),
            ("ms k 1 C1 O1 k", "EX O1 kk\r\n"),
            ("md k C1 k O1", "EX kk O1\r\n"),
            ("md z k O1", "NF kz O1\r\n"),
            ("md YWJjZA== b k O3", "HD kYWJjZA== b O3\r\n"),
            ("ma k k O1 v", "VA 1 kk O1\r\n6\r\n"),
            ("ma k k O1", "HD kk O1\r\n"),
            ("ma z N0 J13 v c", "VA 1 c15\r\n1\r\n"),
            ("ma k t c f s", "HD\r\n"),
            ("ma z k O1", "NF\r\n"),
            ("me k", "ME k exp=-1 la=0\r\n"),
        ] {
            let found = of(request, response);
            assert!(matches!(found, Response::Complete { len, .. } if len == response.len()), "{request}: {found:?}");
        }
    }

    #[test]
    fn a_key_that_stands_bare_is_known_whatever_is_in_it() {
        let key = b"a c\r\nEN\r\nb";
        let base64 = "YSBjDQpFTg0KYg==";
        let whole = [b"VA 1 c5 k", &key[..], b"\r\n7\r\n"].concat();
        let asked = |strip_key| MetaAsked {
            verb: Verb::MetaGet,
            key: base64.as_bytes(),
            flags: if strip_key { b"b v c k" } else { b"b v c" },
            base64: true,
            strip_key,
        };
        let strip = 7..9 + key.len();
        let complete = Response::Complete { len: whole.len(), status: Status::Done, strip };
        assert_eq!(meta(&[&whole[..], b"HD\r\n"].concat(), asked(true), 1 << 20), complete);
        for len in 0..whole.len() {
            let found = meta(&whole[..len], asked(true), 1 << 20);
            assert!(matches!(found, Response::Incomplete { need } if need > len), "{len}: {found:?}");
        }
        let other = [b"VA 1 c5 k", &b"a c\r\nEN\r\nc"[..], b"\r\n7\r\n"].concat();
        assert!(matches!(meta(&other, asked(true), 1 << 20), Response::Broken(_)));
        assert!(matches!(meta(b"EN\r\n", asked(true), 1 << 20), Response::Complete { len: 4, .. }));
    }

    #[test]
    fn what_lacks_something_or_has_something_else_is_no_answer() {
        use Violation::{UnexpectedLine, WrongKey, WrongOpaque};
        for (request, response, violation) in [
            ("mg k v k", "VA 1\r\n5\r\n", WrongKey),
            ("mg k v k", "VA 1 kother\r\n5\r\n", WrongKey),
            ("mg k v k O7", "VA 1 O7\r\n5\r\n", WrongOpaque),
            ("mg k v k O7", "VA 1 kk\r\n5\r\n", WrongOpaque),
            ("mg k v O7 k", "VA 1 O8 kk\r\n5\r\n", WrongOpaque),
            ("mg k v O7 k", "VA 1 kk O7\r\n5\r\n", WrongKey),
            ("mg k v", "VA 1 O7\r\n5\r\n", WrongOpaque),
            ("mg k v", "VA 1 kk\r\n5\r\n", WrongKey),
            ("mg k k", "HD\r\n", WrongKey),
            ("mg k v", "HD\r\n", UnexpectedLine),
            ("mg k", "VA 1\r\n5\r\n", UnexpectedLine),
            ("mg k s t", "HD s1\r\n", UnexpectedLine),
            ("mg k s t", "HD t1 s1\r\n", UnexpectedLine),
            ("mg k t", "HD t1 f0\r\n", UnexpectedLine),
            ("mg k k O7", "EN kother O7\r\n", WrongKey),
            ("mg k k O7", "EN kk O8\r\n", WrongOpaque),
            ("mg k", "EN O8\r\n", WrongOpaque),
            ("ms k 1 k", "HD\r\n", WrongKey),
            ("ms k 1 O1", "NS\r\n", WrongOpaque),
            ("md k O1", "HD O2\r\n", WrongOpaque),
            ("md k k", "NF\r\n", WrongKey),
            ("ma k k v", "VA 1 kb\r\n5\r\n", WrongKey),
            ("ma k v", "HD\r\n", UnexpectedLine),
            ("ma k O1", "HD\r\n", WrongOpaque),
            ("mg YWJjZA== b k v", "VA 1 kYWJjZQ== b\r\nx\r\n", WrongKey),
            ("me k", "ME kk exp=-1\r\n", WrongKey),
        ] {
            assert_eq!(of(request, response), Response::Broken(violation), "{request}: {response:?}");
        }
    }
}

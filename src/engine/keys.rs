//! The keys that a request names which is in an outbox, for whoever watches requests go by and not for their way.

use super::memcache::asked_keys;
use super::named_key::{Named, Replied};
use super::redis::named;
use crate::proto::memcache::Verb;
use crate::proto::memcache::meta::decode_key;
use crate::proto::memcache::request::Words;
use crate::proto::resp::args::Span;

/// Shows every key of a request to `visit`, none of an empty one; returns the name of the command. `spans` is where the
/// arguments of a Redis request are put down.
pub(super) fn each_key(
    request: &[u8],
    verb: Verb,
    base64: bool,
    spans: &mut Vec<Span>,
    visit: &mut dyn FnMut(Named<'_>),
) -> &'static str {
    if request.is_empty() {
        return verb.name(); // it is gone
    }
    match verb {
        Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => {
            let keys = Words::new(asked_keys(request, verb));
            let replied = if keys.clone().nth(1).is_some() { Replied::Next } else { Replied::All };
            keys.for_each(|key| visit(Named { key, stored: 0, replied }));
        }
        Verb::Query | Verb::Command | Verb::Watch => return named::each_key(request, usize::MAX, spans, visit),
        Verb::FlushAll | Verb::Stats | Verb::Version | Verb::FlushDatabase | Verb::Subscribe => {}
        Verb::Set
        | Verb::Add
        | Verb::Replace
        | Verb::Append
        | Verb::Prepend
        | Verb::Cas
        | Verb::Delete
        | Verb::Incr
        | Verb::Decr
        | Verb::Touch
        | Verb::MetaGet
        | Verb::MetaSet
        | Verb::MetaDelete
        | Verb::MetaArith
        | Verb::MetaDebug => {
            let end = memchr::memchr(b'\r', request).unwrap_or(request.len());
            let Some(key) = Words::new(&request[..end]).nth(1) else { return verb.name() };
            let decoded = if base64 { decode_key(key) } else { None };
            let key = decoded.as_ref().map_or(key, |(key, len)| &key[..*len]);
            visit(Named { key, stored: payload([request, b""]), replied: Replied::All });
        }
    }
    verb.name()
}

/// Bytes of what follows the first line of a message, less the line end behind it.
pub(super) fn payload(message: [&[u8]; 2]) -> usize {
    let [first, second] = message;
    let line = memchr::memchr(b'\n', first).or_else(|| memchr::memchr(b'\n', second).map(|at| first.len() + at));
    line.map_or(0, |line| (first.len() + second.len()).saturating_sub(line + 1 + 2))
}

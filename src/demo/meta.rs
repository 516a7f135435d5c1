//! The meta commands of a demo node: the flags that clients commonly use, none of the rest.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the verbs of meta commands come here")]

use std::sync::Arc;
use std::time::Duration;

use crate::proto::memcache::meta::{Meta, decode_key};
use crate::proto::memcache::request::{Change, Store, Words};
use crate::proto::memcache::{Verb, number, reply};

/// An item as the meta commands see it.
pub(super) struct Found {
    pub(super) flags: u32,
    pub(super) unique: u64,
    pub(super) value: Arc<[u8]>,
    pub(super) lifetime: Option<Duration>,
}

/// What the meta commands need of a node.
pub(super) trait Storage {
    fn find(&self, key: &[u8]) -> Option<Found>;
    /// Stores; returns the code of the answer.
    fn store(&self, store: &Store<'_>) -> &'static str;
    fn remove(&self, key: &[u8]);
    /// Changes; returns the classic answer.
    fn change(&self, change: &Change<'_>) -> Vec<u8>;
}

/// Executes a meta command.
pub(super) fn execute(storage: &impl Storage, meta: &Meta<'_>, out: &mut Vec<u8>) {
    let decoded = if meta.seen.base64 { decode_key(meta.key) } else { None };
    let key = decoded.as_ref().map_or(meta.key, |(key, len)| &key[..*len]);
    let mut answer = Vec::new();
    match meta.verb {
        Verb::MetaGet => get(storage, meta, key, &mut answer),
        Verb::MetaSet => {
            let code = storage.store(&stored(meta, key));
            line(&mut answer, code, meta, None);
        }
        Verb::MetaDelete => {
            let code = if storage.find(key).is_some() { "HD" } else { "NF" };
            storage.remove(key);
            line(&mut answer, code, meta, None);
        }
        Verb::MetaArith => count(storage, meta, key, &mut answer),
        _ => answer.extend_from_slice(b"EN\r\n"),
    }
    if !(meta.seen.quiet && reply::is_hidden_when_quiet(meta.verb, &answer)) {
        out.extend_from_slice(&answer);
    }
}

/// What stands behind a flag's letter.
fn token<'a>(meta: &Meta<'a>, letter: u8) -> Option<&'a [u8]> {
    Words::new(meta.flags).find(|flag| flag[0] == letter).map(|flag| &flag[1..])
}

fn stored<'a>(meta: &Meta<'a>, key: &'a [u8]) -> Store<'a> {
    let verb = match token(meta, b'M') {
        Some(b"E" | b"e") => Verb::Add,
        Some(b"A" | b"a") => Verb::Append,
        Some(b"P" | b"p") => Verb::Prepend,
        Some(b"R" | b"r") => Verb::Replace,
        _ if token(meta, b'C').is_some() => Verb::Cas,
        _ => Verb::Set,
    };
    let figure = |letter| token(meta, letter).and_then(number::unsigned).unwrap_or(0);
    Store {
        verb,
        key,
        flags: u32::try_from(figure(b'F')).unwrap_or(0),
        exptime: i32::try_from(token(meta, b'T').and_then(number::signed).unwrap_or(0)).unwrap_or(0),
        cas: figure(b'C'),
        block: meta.block.unwrap_or(b"\r\n"),
        noreply: false,
        canonical: None,
    }
}

fn get(storage: &impl Storage, meta: &Meta<'_>, key: &[u8], answer: &mut Vec<u8>) {
    let Some(found) = storage.find(key) else {
        return line(answer, "EN", meta, None);
    };
    if meta.seen.value {
        answer.extend_from_slice(b"VA ");
        number::push(answer, found.value.len() as u64);
        line(answer, "", meta, Some(&found));
        answer.extend_from_slice(&found.value);
        answer.extend_from_slice(b"\r\n");
    } else {
        line(answer, "HD", meta, Some(&found));
    }
}

fn count(storage: &impl Storage, meta: &Meta<'_>, key: &[u8], answer: &mut Vec<u8>) {
    let verb = if matches!(token(meta, b'M'), Some(b"D" | b"-")) { Verb::Decr } else { Verb::Incr };
    if storage.find(key).is_none() && token(meta, b'N').is_some() {
        let mut block = token(meta, b'J').unwrap_or(b"0").to_vec();
        block.extend_from_slice(b"\r\n");
        let first = Store {
            verb: Verb::Add,
            key,
            flags: 0,
            exptime: 0,
            cas: 0,
            block: &block,
            noreply: false,
            canonical: None,
        };
        storage.store(&first);
    } else {
        let argument = token(meta, b'D').unwrap_or(b"1");
        let classic = storage.change(&Change { verb, key, argument, noreply: false });
        if classic == b"NOT_FOUND\r\n" {
            return line(answer, "NF", meta, None);
        }
        if classic.starts_with(b"CLIENT_ERROR") {
            return answer.extend_from_slice(&classic);
        }
    }
    get(storage, meta, key, answer);
}

/// A line of code and flags.
fn line(answer: &mut Vec<u8>, code: &str, meta: &Meta<'_>, found: Option<&Found>) {
    answer.extend_from_slice(code.as_bytes());
    let mut push = |letter: u8, value: u64| {
        answer.extend_from_slice(&[b' ', letter]);
        number::push(answer, value);
    };
    for flag in Words::new(meta.flags) {
        match (flag[0], found) {
            (b's', Some(found)) => push(b's', found.value.len() as u64),
            (b'f', Some(found)) => push(b'f', found.flags.into()),
            (b'c', Some(found)) => push(b'c', found.unique),
            _ => {}
        }
    }
    for flag in Words::new(meta.flags) {
        match (flag[0], found) {
            (b't', Some(Found { lifetime: None, .. })) => answer.extend_from_slice(b" t-1"),
            (b't', Some(Found { lifetime: Some(lifetime), .. })) => {
                answer.extend_from_slice(b" t");
                number::push(answer, lifetime.as_secs());
            }
            (b'k', _) => {
                answer.extend_from_slice(b" k");
                answer.extend_from_slice(meta.key);
                if meta.seen.base64 {
                    answer.extend_from_slice(b" b");
                }
            }
            (b'O', _) => {
                answer.push(b' ');
                answer.extend_from_slice(flag);
            }
            _ => {}
        }
    }
    answer.extend_from_slice(b"\r\n");
}

//! Requests on their way to a server, always in one canonical form.
//!
//! What a client wrote with stray blanks, bare line feeds or `noreply` leaves here as memcached's manual writes it, so
//! that a server sees only lines that were understood. A [`Cap`] shortens lifetimes on their way.

use super::lifetime::Cap;
use super::meta::Meta;
use super::number;
use super::request::{Change, Store, Words};
use super::{Verb, meta};

/// Appends a request for one key.
pub fn get_one(out: &mut Vec<u8>, verb: Verb, exptime: Option<i32>, key: &[u8], cap: Option<Cap>) {
    get_start(out, verb, exptime, cap);
    get_key(out, key);
    line_end(out);
}

/// Appends the front of a get line; [`get_key`] and [`line_end`] follow.
pub fn get_start(out: &mut Vec<u8>, verb: Verb, exptime: Option<i32>, cap: Option<Cap>) {
    out.extend_from_slice(verb.name().as_bytes());
    if let Some(exptime) = exptime {
        out.push(b' ');
        number::push_signed(out, capped(exptime.into(), cap));
    }
}

/// Appends one more key to a get line.
pub fn get_key(out: &mut Vec<u8>, key: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(key);
}

/// As [`get_key`], of a key that has a blank before it where it was read, or none.
#[inline]
pub fn get_key_with_blank(out: &mut Vec<u8>, key: &[u8]) {
    if key.first() != Some(&b' ') {
        out.push(b' ');
    }
    out.extend_from_slice(key);
}

fn capped(exptime: i64, cap: Option<Cap>) -> i64 {
    cap.map_or(exptime, |cap| cap.apply(exptime))
}

/// Appends the removal of a key, as it stands on the wire; `base64` as in the meta commands.
pub fn delete(out: &mut Vec<u8>, key: &[u8], base64: bool) {
    out.extend_from_slice(if base64 { b"md " } else { b"delete " });
    out.extend_from_slice(key);
    out.extend_from_slice(if base64 { b" b\r\n" } else { b"\r\n" });
}

/// Ends a line.
pub fn line_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends a storage command with its data block.
pub fn store(out: &mut Vec<u8>, store: &Store<'_>, cap: Option<Cap>) {
    if let (Some(canonical), None) = (store.canonical, cap) {
        return out.extend_from_slice(canonical);
    }
    out.extend_from_slice(store.verb.name().as_bytes());
    out.push(b' ');
    out.extend_from_slice(store.key);
    out.push(b' ');
    number::push(out, store.flags.into());
    out.push(b' ');
    number::push_signed(out, capped(store.exptime.into(), cap));
    out.push(b' ');
    number::push(out, (store.block.len() - 2) as u64);
    if store.verb == Verb::Cas {
        out.push(b' ');
        number::push(out, store.cas);
    }
    line_end(out);
    out.extend_from_slice(store.block);
}

/// Appends `delete`, `incr`, `decr` or `touch`.
pub fn change(out: &mut Vec<u8>, change: &Change<'_>, cap: Option<Cap>) {
    out.extend_from_slice(change.verb.name().as_bytes());
    out.push(b' ');
    out.extend_from_slice(change.key);
    if !change.argument.is_empty() {
        out.push(b' ');
        match cap.filter(|_| change.verb == Verb::Touch) {
            Some(cap) => cap.push(out, change.argument),
            None => out.extend_from_slice(change.argument),
        }
    }
    line_end(out);
}

/// Appends a meta command: `q` left out, `k` put in where the response is to be checked by it.
pub fn meta(out: &mut Vec<u8>, meta: &Meta<'_>, cap: Option<Cap>) {
    out.extend_from_slice(meta.verb.name().as_bytes());
    out.push(b' ');
    out.extend_from_slice(meta.key);
    if let Some(block) = meta.block {
        out.push(b' ');
        number::push(out, (block.len() - 2) as u64);
    }
    let mut timed = false;
    for flag in Words::new(meta.flags) {
        match (flag[0], cap) {
            (b'q', _) => {}
            // `N` is the lifetime of an item that is made because there is none.
            (b'T' | b'N', Some(cap)) => {
                timed |= flag[0] == b'T';
                out.extend_from_slice(&[b' ', flag[0]]);
                cap.push(out, &flag[1..]);
            }
            _ => {
                out.push(b' ');
                out.extend_from_slice(flag);
            }
        }
    }
    if let Some(cap) = cap
        && meta.verb == Verb::MetaSet
        && !timed
    {
        out.extend_from_slice(b" T");
        number::push_signed(out, cap.apply(0));
    }
    if adds_key(meta) {
        out.extend_from_slice(b" k");
    }
    line_end(out);
    if let Some(block) = meta.block {
        out.extend_from_slice(block);
    }
}

/// Whether [`meta()`] adds a `k` that the client did not ask for.
#[must_use]
pub const fn adds_key(meta: &Meta<'_>) -> bool {
    let meta::Flags { key, value, .. } = meta.seen;
    !key && (matches!(meta.verb, Verb::MetaGet) || (matches!(meta.verb, Verb::MetaArith) && value))
}

/// Appends the flags that any response to a meta command repeats: the opaque token, and the key if it was asked for.
pub fn echo(out: &mut Vec<u8>, meta: &Meta<'_>) {
    for flag in Words::new(meta.flags) {
        match flag[0] {
            b'O' => {
                out.push(b' ');
                out.extend_from_slice(flag);
            }
            b'k' => {
                out.extend_from_slice(b" k");
                out.extend_from_slice(meta.key);
                if meta.seen.base64 {
                    out.extend_from_slice(b" b");
                }
            }
            _ => {}
        }
    }
}

/// Appends `flush_all`.
pub fn flush_all(out: &mut Vec<u8>, delay: Option<i32>) {
    out.extend_from_slice(b"flush_all");
    if let Some(delay) = delay {
        out.push(b' ');
        number::push_signed(out, delay.into());
    }
    line_end(out);
}

/// Appends `version`.
pub fn version(out: &mut Vec<u8>) {
    out.extend_from_slice(b"version\r\n");
}

/// Appends `verbosity`.
pub fn verbosity(out: &mut Vec<u8>, level: u64) {
    out.extend_from_slice(b"verbosity ");
    number::push(out, level);
    line_end(out);
}

/// Appends `stats cachedump`.
pub fn cachedump(out: &mut Vec<u8>, class: u64, limit: u64) {
    out.extend_from_slice(b"stats cachedump ");
    number::push(out, class);
    out.push(b' ');
    number::push(out, limit);
    line_end(out);
}

/// Appends `stats` with a sub-command, which may be empty.
pub fn stats(out: &mut Vec<u8>, sub: &[u8]) {
    out.extend_from_slice(b"stats");
    if !sub.is_empty() {
        out.push(b' ');
        out.extend_from_slice(sub);
    }
    line_end(out);
}

//! What is asked of servers to bring a key from one to another: whether it is there, what it is, to store it, and
//! whether somebody else is doing that.
//!
//! All of it is said in meta commands, which tell how long an item has still to live. A server that does not know them
//! (memcached before 1.6) answers with an error, and nothing is brought.

use std::collections::BTreeSet;
use std::time::Duration;

use super::number;
use super::request::Words;

/// A key as it stands on the wire, and whether it is base64.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// They are base64, as in meta commands with `b`.
    pub base64: bool,
}

/// An item as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// Flags of the client.
    flags: &'a [u8],
    /// Seconds that it has still to live; 0 for ever.
    lifetime: u32,
    /// The value with its line end.
    block: &'a [u8],
}

impl Found<'_> {
    /// The item as a `get` of this key is answered, without the end.
    #[must_use]
    pub fn block_of(&self, key: &[u8]) -> Box<[u8]> {
        let mut block = Vec::with_capacity(key.len() + self.flags.len() + self.block.len() + 32);
        for part in [b"VALUE ", key, b" ", self.flags, b" "] {
            block.extend_from_slice(part);
        }
        number::push(&mut block, (self.block.len() - 2) as u64);
        block.extend_from_slice(b"\r\n");
        block.extend_from_slice(self.block);
        block.into()
    }

    /// How long it is sure to live still; `None` for ever. Servers count whole seconds, of which the last may be nearly over.
    #[must_use]
    pub fn lives_for(&self) -> Option<Duration> {
        (self.lifetime > 0).then(|| Duration::from_secs((self.lifetime - 1).into()))
    }
}

fn begin(out: &mut Vec<u8>, command: &[u8], key: Key<'_>) {
    out.extend_from_slice(command);
    out.extend_from_slice(key.bytes);
}

fn end(out: &mut Vec<u8>, flags: &[u8], key: Key<'_>) {
    out.extend_from_slice(flags);
    out.extend_from_slice(if key.base64 { b" b\r\n" } else { b"\r\n" });
}

/// Appends the question whether a key is there.
pub fn ask_for(out: &mut Vec<u8>, key: Key<'_>) {
    begin(out, b"mg ", key);
    end(out, b" k", key);
}

/// Appends the request for an item, with what has to be known to store it elsewhere.
pub fn read(out: &mut Vec<u8>, key: Key<'_>) {
    begin(out, b"mg ", key);
    end(out, b" k v f t", key);
}

/// The item in the answer to [`read`]. `None` where there is none that should be brought along: it is about to expire, or
/// marked as out of date.
#[must_use]
pub fn found(answer: &[u8]) -> Option<Found<'_>> {
    let line_end = memchr::memchr(b'\n', answer)? + 1;
    let (line, rest) = answer.split_at(line_end);
    let mut words = Words::new(line.trim_ascii_end());
    if words.next() != Some(b"VA") {
        return None;
    }
    let len = usize::try_from(number::digits_only(words.next()?)?).ok()?;
    let mut found = Found { flags: b"0", lifetime: 0, block: rest.get(..len + 2)? };
    for word in words {
        match (word[0], &word[1..]) {
            (b'f', flags) => found.flags = flags,
            (b't', b"-1") => found.lifetime = 0,
            (b't', seconds) => {
                found.lifetime = u32::try_from(number::digits_only(seconds)?).ok().filter(|seconds| *seconds > 0)?;
            }
            (b'X' | b'Z' | b'W', _) => return None,
            _ => {}
        }
    }
    Some(found)
}

/// A lifetime of more than 30 days would be taken for a date. An item loses what it has beyond that.
const LONGEST: u32 = 60 * 60 * 24 * 30;

/// Appends the request to store an item under a key if nothing is there. It lives up to a second longer there than it would
/// have: servers count whole seconds, each from a beginning of its own, and a lock must not end before its time.
pub fn store(out: &mut Vec<u8>, key: Key<'_>, item: Found<'_>) {
    begin(out, b"ms ", key);
    out.push(b' ');
    number::push(out, (item.block.len() - 2) as u64);
    out.extend_from_slice(b" ME F");
    out.extend_from_slice(item.flags);
    out.extend_from_slice(b" T");
    let lifetime = if item.lifetime == 0 { 0 } else { item.lifetime.saturating_add(1).min(LONGEST) };
    number::push(out, lifetime.into());
    end(out, b"", key);
    out.extend_from_slice(item.block);
}

/// Appends the request to note who copies a key, in a new item of this name. It is forgotten after two seconds, which may be
/// little more than one.
pub fn announce(out: &mut Vec<u8>, name: Key<'_>, who: &[u8]) {
    note(out, name, b" ME T2", b'+', who);
}

/// Appends what does the same where there is such an item: that it is not forgotten for as long, and the note. Only what is said
/// to the note counts.
pub fn announce_too(out: &mut Vec<u8>, name: Key<'_>, who: &[u8]) {
    note(out, name, b" MA", b'+', who);
}

/// Appends the request to keep such an item for two seconds more.
pub fn keep(out: &mut Vec<u8>, name: Key<'_>) {
    begin(out, b"mg ", name);
    end(out, b" k T2", name);
}

/// Appends the note that somebody does not copy the key any more. In an item where they are not noted it says nothing, and
/// where there is none it is not stored.
pub fn leave(out: &mut Vec<u8>, name: Key<'_>, who: &[u8]) {
    note(out, name, b" MA", b'-', who);
}

fn note(out: &mut Vec<u8>, name: Key<'_>, flags: &[u8], sign: u8, who: &[u8]) {
    begin(out, b"ms ", name);
    out.push(b' ');
    number::push(out, (who.len() + 2) as u64);
    end(out, flags, name);
    out.push(sign);
    out.extend_from_slice(who);
    out.extend_from_slice(b";\r\n");
}

/// Appends the question who copies a key.
pub fn ask_who(out: &mut Vec<u8>, name: Key<'_>) {
    begin(out, b"mg ", name);
    end(out, b" k v", name);
}

/// Whether nobody does, by the answer.
#[must_use]
pub fn is_nobody(answer: &[u8]) -> bool {
    let value = answer.starts_with(b"VA ").then(|| answer.split(|byte| *byte == b'\n').nth(1)).flatten();
    let mut copying = BTreeSet::new();
    for note in value.unwrap_or_default().trim_ascii_end().split(|byte| *byte == b';') {
        match note.split_first() {
            None => {}
            Some((b'+', who)) => drop(copying.insert(who)),
            Some((b'-', who)) => drop(copying.remove(who)),
            Some(_) => return false, // somebody else's
        }
    }
    copying.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key<'_> = Key { bytes: b"k", base64: false };

    fn stored(answer: &[u8]) -> Option<String> {
        let item = found(answer)?;
        let mut out = Vec::new();
        store(&mut out, KEY, item);
        String::from_utf8(out).ok()
    }

    #[test]
    fn an_item_is_stored_with_its_flags_and_the_rest_of_its_lifetime() {
        assert_eq!(stored(b"VA 2 kk f7 t-1\r\nab\r\n").unwrap(), "ms k 2 ME F7 T0\r\nab\r\n");
        assert_eq!(stored(b"VA 4 kk f0 t90\r\n\r\n\r\n\r\n").unwrap(), "ms k 4 ME F0 T91\r\n\r\n\r\n\r\n");
        for longest in [2_592_000_u32, u32::MAX] {
            let answer = format!("VA 0 f0 t{longest}\r\n\r\n");
            assert_eq!(stored(answer.as_bytes()).unwrap(), "ms k 0 ME F0 T2592000\r\n\r\n");
        }
    }

    #[test]
    fn an_item_is_what_a_get_is_answered() {
        let item = found(b"VA 3 kk f7 t90\r\na\r\n\r\n").unwrap();
        assert_eq!(&*item.block_of(b"k"), b"VALUE k 7 3\r\na\r\n\r\n");
        assert_eq!(item.lives_for(), Some(Duration::from_secs(89)));
        assert_eq!(found(b"VA 1 f0 t-1\r\na\r\n").unwrap().lives_for(), None);
        assert_eq!(found(b"VA 1 f0 t1\r\na\r\n").unwrap().lives_for(), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_about_to_expire_or_out_of_date_is_left() {
        for answer in
            [&b"VA 1 f0 t0\r\na\r\n"[..], b"VA 1 f0 t9 X W\r\na\r\n", b"EN\r\n", b"VA 9 f0 t9\r\na\r\n", b"", b"VA"]
        {
            assert_eq!(found(answer), None, "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn it_is_known_whether_somebody_copies() {
        let of = |notes: &str| is_nobody(format!("VA {} kk\r\n{notes}\r\n", notes.len()).as_bytes());
        assert!(is_nobody(b"EN\r\n") && of("") && of("+a;-a;") && of("+a;+b;-a;-b;") && of("+a;+a;-a;"));
        assert!(!of("+a;") && !of("+a;+b;-a;") && !of("2"));
        assert!(!of("+b;-a;") && of("-a;"), "who leaves later than they are remembered takes nobody else off");
    }

    #[test]
    fn who_copies_is_noted() {
        let (mut out, key) = (Vec::new(), Key { bytes: b"n", base64: false });
        announce(&mut out, key, b"a1");
        keep(&mut out, key);
        announce_too(&mut out, key, b"a1");
        leave(&mut out, key, b"a1");
        let said = "ms n 4 ME T2\r\n+a1;\r\nmg n k T2\r\nms n 4 MA\r\n+a1;\r\nms n 4 MA\r\n-a1;\r\n";
        assert_eq!(String::from_utf8_lossy(&out), said);
    }
}

//! The reply that is arriving on one connection, compared with what its request demands as its bytes come.
//!
//! Nothing of a value is kept: each piece is compared where it was read, while the cache still holds it. Only a line
//! that was cut by the end of a read waits for its rest.

use anyhow::{Context as _, Result, bail};

use crate::binary::{self, Head};
use crate::content::{Content, KEY_BYTES};

/// No line of a reply is longer; an error text may be some hundred bytes.
const LONGEST_LINE: usize = 4096;

/// What a request asked for.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// So many keys, which [`Content::key_at`] tells.
    Get { first: u32, count: u32 },
    /// One key to be stored.
    Set,
}

/// How a complete reply differs from what the cache holds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Keys that were asked for and not there.
    pub(crate) misses: u32,
    /// It was an error line, or a set was not stored.
    pub(crate) error: bool,
}

/// What has come so far of the reply to the oldest request.
#[derive(Default)]
pub(crate) struct Reply {
    /// A line without its end; of the binary protocol, the beginning of what stands before a value.
    line: Vec<u8>,
    value: Option<Value>,
    /// A bit for each place of a get whose value has come.
    seen: u32,
    /// The values and nils of an array that have come.
    bulks: u32,
    /// The array's header has come.
    array: bool,
    misses: u32,
    error: bool,
}

/// The value whose bytes come next, with its line end.
struct Value {
    number: u32,
    at: usize,
    end: &'static [u8],
}

impl Reply {
    /// Takes bytes of the reply to `kind` from the start of `input`.
    ///
    /// Returns how many, and the outcome when the reply is complete; without one all of `input` was taken.
    ///
    /// # Errors
    ///
    /// Says what is wrong with a reply that is neither right nor a refusal.
    pub(crate) fn take(&mut self, kind: Kind, input: &[u8], content: &Content) -> Result<(usize, Option<Outcome>)> {
        let mut taken = 0;
        while taken < input.len() {
            if let Some(value) = &mut self.value {
                taken += value.take(&input[taken..], content)?;
                if !value.is_complete(content) {
                    break;
                }
                self.value = None;
                if let Some(outcome) = self.value_came(kind, content) {
                    return Ok((taken, Some(outcome)));
                }
                continue;
            }
            let more = &input[taken..];
            let end = if content.is_binary() {
                binary::head_end(&self.line, more)
            } else {
                memchr::memchr(b'\n', more).map(|end| end + 1)
            };
            let Some(end) = end else {
                self.line.extend_from_slice(more);
                if self.line.len() > LONGEST_LINE {
                    bail!("a line that does not end: {:?}", start(&self.line));
                }
                return Ok((input.len(), None));
            };
            let rest = &more[..end];
            taken += rest.len();
            let outcome = if self.line.is_empty() {
                self.take_line(kind, rest, content)?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(rest);
                let outcome = self.take_line(kind, &line, content)?;
                line.clear();
                self.line = line;
                outcome
            };
            if outcome.is_some() {
                return Ok((taken, outcome));
            }
        }
        Ok((taken, None))
    }

    fn take_line(&mut self, kind: Kind, line: &[u8], content: &Content) -> Result<Option<Outcome>> {
        match kind {
            _ if content.is_binary() => self.take_head(kind, line, content),
            Kind::Set => {
                let error = line != content.stored();
                if error && !is_refusal(line) {
                    bail!("a set was answered with {:?}", start(line));
                }
                Ok(Some(Outcome { misses: 0, error }))
            }
            Kind::Get { first, count } if content.is_redis() => self.take_bulk_line(first, count, line, content),
            Kind::Get { first, count } => self.take_value_line(first, count, line, content),
        }
    }

    fn take_value_line(&mut self, first: u32, count: u32, line: &[u8], content: &Content) -> Result<Option<Outcome>> {
        let found = line.strip_prefix(b"VALUE ").and_then(|rest| rest.split_at_checked(KEY_BYTES));
        let Some((key, rest)) = found else {
            if line == b"END\r\n" {
                return Ok(Some(self.complete(count - self.seen.count_ones(), false)));
            }
            if is_refusal(line) {
                return Ok(Some(self.complete(0, true)));
            }
            bail!("a get was answered with {:?}", start(line));
        };
        let number = content.key_number(key).with_context(|| format!("no key of ours: {:?}", start(line)))?;
        // Proxies may group a multi-get by server, so any order of the keys is right, but each at most once.
        let place = content.place_of(first, number);
        if place >= count || self.seen & (1 << place) != 0 {
            bail!("a value that was not asked for: {:?}", start(line));
        }
        if rest != content.value_header() {
            bail!("a wrong VALUE line: {:?}", start(line));
        }
        self.seen |= 1 << place;
        self.value = Some(Value { number, at: 0, end: b"\r\n" });
        Ok(None)
    }

    /// An answer of the binary protocol, up to its value.
    fn take_head(&mut self, kind: Kind, head: &[u8], content: &Content) -> Result<Option<Outcome>> {
        match (kind, binary::head(head, content)) {
            (Kind::Set, Head::Stored) => Ok(Some(Outcome::default())),
            (Kind::Set, Head::Failed) => Ok(Some(Outcome { misses: 0, error: true })),
            (Kind::Get { count: 1, .. }, Head::Missed) => Ok(Some(self.complete(1, false))),
            (Kind::Get { count: 1, .. }, Head::Failed) => Ok(Some(self.complete(0, true))),
            (Kind::Get { .. }, Head::Failed) => {
                self.error = true;
                Ok(None)
            }
            (Kind::Get { count: 2.., first: _ }, Head::NoOp) if self.error => Ok(Some(self.complete(0, true))),
            (Kind::Get { count: count @ 2.., first: _ }, Head::NoOp) => {
                Ok(Some(self.complete(count - self.seen.count_ones(), false)))
            }
            (Kind::Get { first, count }, Head::Value(number)) => {
                let place = content.place_of(first, number);
                if place >= count || self.seen & (1 << place) != 0 {
                    bail!("a value that was not asked for: {:?}", start(head));
                }
                self.seen |= 1 << place;
                self.value = Some(Value { number, at: 0, end: b"" });
                Ok(None)
            }
            _ => bail!("a request was answered with {:?}", start(head)),
        }
    }

    /// A line of the reply to `GET` or `MGET`: the values stand in the order of the keys.
    fn take_bulk_line(&mut self, first: u32, count: u32, line: &[u8], content: &Content) -> Result<Option<Outcome>> {
        if !self.array && is_refusal(line) {
            return Ok(Some(self.complete(0, true)));
        }
        if count > 1 && !self.array {
            if line != content.array_header() {
                bail!("an MGET was answered with {:?}", start(line));
            }
            self.array = true;
            return Ok(None);
        }
        if line == content.value_header() {
            self.value = Some(Value { number: content.key_at(first, self.bulks), at: 0, end: b"\r\n" });
            return Ok(None);
        }
        // An array may keep the values of servers that are well beside the error of one that is not.
        if is_refusal(line) {
            self.error = true;
        } else if line == b"$-1\r\n" {
            self.misses += 1;
        } else {
            bail!("a value starts with {:?}", start(line));
        }
        Ok(self.bulk_came(count))
    }

    fn value_came(&mut self, kind: Kind, content: &Content) -> Option<Outcome> {
        match kind {
            Kind::Get { count, .. } if content.is_redis() => self.bulk_came(count),
            Kind::Get { count: 1, .. } if content.is_binary() => Some(self.complete(0, false)),
            // Something follows: the next value, or the end.
            Kind::Get { .. } | Kind::Set => None,
        }
    }

    fn bulk_came(&mut self, count: u32) -> Option<Outcome> {
        self.bulks += 1;
        (self.bulks == count).then(|| self.complete(self.misses, self.error))
    }

    fn complete(&mut self, misses: u32, error: bool) -> Outcome {
        (self.seen, self.bulks, self.array, self.misses, self.error) = (0, 0, false, 0, false);
        Outcome { misses, error }
    }
}

impl Value {
    fn take(&mut self, input: &[u8], content: &Content) -> Result<usize> {
        let value = content.value(self.number);
        let body = &value[self.at.min(value.len())..];
        let body = &body[..body.len().min(input.len())];
        let end = &self.end[(self.at + body.len()).saturating_sub(value.len())..];
        // While the body lacks bytes, no input is left for its end.
        let end = &end[..end.len().min(input.len() - body.len())];
        let taken = body.len() + end.len();
        if input[..body.len()] != *body || input[body.len()..taken] != *end {
            bail!("WRONG VALUE for key {}", self.number);
        }
        self.at += taken;
        Ok(taken)
    }

    fn is_complete(&self, content: &Content) -> bool {
        self.at == content.value(self.number).len() + self.end.len()
    }
}

fn is_refusal(line: &[u8]) -> bool {
    [b"-".as_slice(), b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR", b"NOT_STORED"]
        .iter()
        .any(|word| line.starts_with(word))
}

/// The first bytes of what came, for a message.
pub(crate) fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

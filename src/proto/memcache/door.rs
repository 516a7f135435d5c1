//! Clients of the text protocol that have to say who they are first.
//!
//! As memcached with `-Y`: a `set` of any key whose value is `USER PASSWORD` says it, and is told `STORED`; whatever else is
//! asked meanwhile is refused.

use super::guard::{Guard, LONGEST};
use super::{LINE_LIMIT, number};

/// Bytes of refusals at a time, behind which whoever asks for them is not listened to any more.
const LOUD: usize = 16 << 10;

const STORED: &[u8] = b"STORED\r\n";
const UNADMITTED: &[u8] = b"CLIENT_ERROR unauthenticated\r\n";
const WRONG: &[u8] = b"CLIENT_ERROR authentication failure\r\n";
const NO_PAIR: &[u8] = b"CLIENT_ERROR bad authentication token format\r\n";
const NO_END: &[u8] = b"CLIENT_ERROR bad command line termination\r\n";

/// What stands between a client that has not said who it is and what serves it.
#[derive(Debug, Default)]
pub struct Door {
    /// The beginning of a line, or of a value.
    begun: Vec<u8>,
    /// Bytes that the value has which has begun, its end included.
    value: Option<usize>,
    /// So many bytes that follow are not looked at.
    passed: usize,
    state: State,
    denied: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Shut,
    Open,
    /// Nothing that follows is looked at.
    Over,
}

impl Door {
    /// Takes what a client has sent, up to the end of what it says of itself. Appends what it is told, and says how much of
    /// that was taken: what follows is for whoever serves it.
    pub fn ask(&mut self, sent: &[u8], guard: Guard<'_>, out: &mut Vec<u8>) -> usize {
        let mut rest = sent;
        if guard.is_none() && !self.has_begun() && self.state == State::Shut {
            self.state = State::Open; // it is not asked for any more
        }
        while !rest.is_empty() && self.state == State::Shut {
            let taken = match self.value {
                _ if self.passed > 0 => {
                    let passed = self.passed.min(rest.len());
                    self.passed -= passed;
                    passed
                }
                None => self.take_line(rest, out),
                Some(len) => self.take_value(len, rest, guard, out),
            };
            rest = &rest[taken..];
        }
        if self.state == State::Over { sent.len() } else { sent.len() - rest.len() }
    }

    fn take_line(&mut self, sent: &[u8], out: &mut Vec<u8>) -> usize {
        // Of a line that is too long no more is looked at, wherever it is cut.
        let front = &sent[..sent.len().min(LINE_LIMIT + 1 - self.begun.len())];
        let Some(end) = memchr::memchr(b'\n', front) else {
            self.begun.extend_from_slice(front);
            if self.begun.len() > LINE_LIMIT {
                self.state = State::Over; // memcached says nothing either
            }
            return sent.len();
        };
        self.begun.extend_from_slice(&sent[..end]);
        match value_of(&self.begun) {
            Some(len) if len <= LONGEST => self.value = Some(len + 2),
            Some(len) => {
                self.passed = len + 2;
                self.deny(WRONG, out);
            }
            None => self.deny(UNADMITTED, out),
        }
        self.begun.clear();
        end + 1
    }

    fn take_value(&mut self, len: usize, sent: &[u8], guard: Guard<'_>, out: &mut Vec<u8>) -> usize {
        let taken = (len - self.begun.len()).min(sent.len());
        self.begun.extend_from_slice(&sent[..taken]);
        if self.begun.len() == len {
            let said = std::mem::take(&mut self.begun);
            self.value = None;
            match said.strip_suffix(b"\r\n").map(|said| is_right(said, guard)) {
                Some(Some(true)) => {
                    self.state = State::Open;
                    out.extend_from_slice(STORED);
                }
                Some(Some(false)) => self.deny(WRONG, out),
                Some(None) => self.deny(NO_PAIR, out),
                None => self.deny(NO_END, out),
            }
        }
        taken
    }

    fn deny(&mut self, told: &[u8], out: &mut Vec<u8>) {
        self.denied += 1;
        out.extend_from_slice(told);
        if out.len() > LOUD {
            self.state = State::Over;
        }
    }

    /// Whether its client may ask anything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether its client cannot be followed any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether a line has begun, or a value, of which not all has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.begun.is_empty() || self.value.is_some() || self.passed > 0
    }

    /// Requests, and attempts to say who it is, that were refused since this was last asked.
    pub fn take_denied(&mut self) -> u64 {
        std::mem::take(&mut self.denied)
    }
}

/// How long the value of a `set` is, if a line is one. Nothing else of it matters.
fn value_of(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    if words.next()? != b"set" {
        return None;
    }
    let len = number::unsigned(words.nth(3)?)?;
    u32::try_from(len).ok().map(|len| len as usize)
}

/// Whether this is a user and the password; nothing where it is no two words.
fn is_right(said: &[u8], guard: Guard<'_>) -> Option<bool> {
    let mut words = said.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (user, password) = (words.next()?, words.next()?);
    Some(guard.is_some_and(|admits| admits(user, password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_too_long_however_it_comes() {
        let nobody = |_: &[u8], _: &[u8]| false;
        for (len, told) in [(LINE_LIMIT, UNADMITTED), (LINE_LIMIT + 1, b"")] {
            let line = [vec![b'x'; len], b"\n".to_vec()].concat();
            for size in [1, 9, 1000, LINE_LIMIT, LINE_LIMIT + 1, line.len()] {
                let (mut door, mut out) = (Door::default(), Vec::new());
                line.chunks(size).for_each(|piece| _ = door.ask(piece, Some(&nobody), &mut out));
                assert_eq!((&*out, door.is_over()), (told, told.is_empty()), "{len} bytes in pieces of {size}");
            }
        }
    }
}

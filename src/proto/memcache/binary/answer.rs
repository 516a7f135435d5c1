//! Answers to text requests become those of a client's binary ones.

use super::super::number;
use super::expected::{Answer, Expected, Queue};
use super::opcode::{Mode, Verb, names_key};
use super::packet::{Asked, Status, client_flags, push, push_status, push_value};

/// Longest line of an answer: a key, its flags and numbers, or a line of statistics.
const LINE: usize = 16 << 10;

/// Longest list that is told as one value.
const LISTING: usize = 2 << 20;

/// Where in the answers the next byte belongs.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The beginning of a line.
    line: Vec<u8>,
    value: Value,
    /// What a counter has come to, as far as it has been read.
    count: Vec<u8>,
    /// A list that becomes one value, as far as it has been read, and no more than a line of what is beyond `LISTING`.
    listing: Vec<u8>,
    /// A line of gets is being answered.
    is_in_values: bool,
    /// All of its gets have been come to, and its end is still to come.
    is_behind_values: bool,
    /// Those of them that were left out in front of others, all of them quiet ones.
    left_out: Vec<Asked>,
}

/// A server's answer is not what was asked for: nothing more can be said to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unexpected;

impl State {
    /// Whether no answer has begun of which not all has come.
    pub(super) fn is_between(&self) -> bool {
        self.line.is_empty() && matches!(self.value, Value::None) && !self.is_in_values
    }

    /// Memory that an answer takes of which not all has come.
    pub(super) fn footprint(&self) -> usize {
        self.listing.len()
    }

    /// Takes what answers the text, and appends what the client is told.
    pub(super) fn answer(&mut self, text: &[u8], out: &mut Vec<u8>, expected: &mut Queue) -> Result<(), Unexpected> {
        let outcome = Answering { state: self, out, expected }.answer(text);
        expected.tidy();
        outcome
    }
}

/// Text becomes what a client is told.
struct Answering<'t> {
    state: &'t mut State,
    out: &'t mut Vec<u8>,
    expected: &'t mut Queue,
}

/// The value that is being read.
#[derive(Debug, Default, Clone, Copy)]
enum Value {
    #[default]
    None,
    /// So many bytes of one that is passed on.
    Passed(usize),
    /// So many digits of what a counter has come to, for this request.
    Count { left: usize, to: Expected, cas: u64 },
    /// So many bytes of the end of its line.
    End(usize),
}

impl Answering<'_> {
    fn answer(&mut self, mut text: &[u8]) -> Result<(), Unexpected> {
        while !text.is_empty() {
            match self.state.value {
                Value::None => {
                    text = &text[self.answer_values(text)..];
                    let Some(end) = memchr::memchr(b'\n', text) else {
                        self.state.line.extend_from_slice(text);
                        return if self.state.line.len() > LINE { Err(Unexpected) } else { Ok(()) };
                    };
                    let (line, rest) = text.split_at(end + 1);
                    if self.state.line.is_empty() {
                        self.answer_line(line.trim_ascii_end())?;
                    } else {
                        let mut whole = std::mem::take(&mut self.state.line);
                        whole.extend_from_slice(line);
                        self.answer_line(whole.trim_ascii_end())?;
                    }
                    text = rest;
                }
                Value::Passed(left) => {
                    let (value, rest) = text.split_at(left.min(text.len()));
                    self.out.extend_from_slice(value);
                    let left = left - value.len();
                    self.state.value = if left > 0 { Value::Passed(left) } else { Value::End(2) };
                    text = rest;
                }
                Value::Count { left, to, cas } => {
                    let (digits, rest) = text.split_at(left.min(text.len()));
                    self.state.count.extend_from_slice(digits);
                    let left = left - digits.len();
                    self.state.value = if left > 0 { Value::Count { left, to, cas } } else { Value::End(2) };
                    if left == 0 {
                        let count = number::unsigned(self.state.count.trim_ascii()).ok_or(Unexpected)?;
                        if !to.is_quiet() {
                            push(self.out, to.asked, (Status::Success, cas), [b"", b"", &count.to_be_bytes()], 0);
                        }
                    }
                    text = rest;
                }
                Value::End(left) => {
                    let ended = left.min(text.len());
                    self.state.value = if left > ended { Value::End(left - ended) } else { Value::None };
                    text = &text[ended..];
                }
            }
        }
        Ok(())
    }

    fn answer_line(&mut self, line: &[u8]) -> Result<(), Unexpected> {
        if self.state.is_in_values {
            return self.answer_gets(line);
        }
        let Some((front, _)) = self.expected.front() else { return Err(Unexpected) };
        match front.answer {
            Answer::Value { .. } => self.answer_gets(line),
            Answer::Known(status) if line == b"MN" => {
                push_status(self.out, front.asked, status, 0);
                self.expected.pop();
                Ok(())
            }
            Answer::Words(words) if line == b"MN" => {
                push(self.out, front.asked, (Status::Success, 0), [b"", b"", words.text().as_bytes()], 0);
                self.expected.pop();
                Ok(())
            }
            Answer::Known(_) | Answer::Words(_) | Answer::Behind => Err(Unexpected),
            Answer::Said => self.answer_one(front, line),
        }
    }

    /// Takes the values at the front of `text` that have come whole, and are each the next one that is expected, which most are.
    /// Says how many bytes they take.
    fn answer_values(&mut self, text: &[u8]) -> usize {
        let mut taken = 0;
        if !self.state.line.is_empty() {
            return taken;
        }
        while !self.state.is_behind_values
            && let Some((front, key)) = self.expected.front()
            && let Answer::Value { last } = front.answer
            && let Some((value, flags, cas, len)) = whole_value(&text[taken..], key)
        {
            push_hit(self.out, (front, key), (flags, cas), value.len() as u64);
            self.out.extend_from_slice(value);
            (self.state.is_behind_values, self.state.is_in_values) = (last, true);
            self.expected.pop();
            taken += len;
        }
        taken
    }

    /// A line of the answer to a line of gets. Values stand in the order of the keys; what is left out is not there, or was not
    /// found out, which its end tells.
    fn answer_gets(&mut self, line: &[u8]) -> Result<(), Unexpected> {
        let Some(value) = line.strip_prefix(b"VALUE ") else { return self.end_gets(line) };
        let (name, flags, len, cas) = parts_of(value).ok_or(Unexpected)?;
        loop {
            if self.state.is_behind_values {
                return Err(Unexpected);
            }
            let Some((front, key)) = self.expected.front() else { return Err(Unexpected) };
            let Answer::Value { last } = front.answer else { return Err(Unexpected) };
            self.state.is_behind_values = last;
            if key == name {
                push_hit(self.out, (front, key), (flags, cas), len);
                self.expected.pop();
                self.state.value = passed(len)?;
                self.state.is_in_values = true;
                return Ok(());
            }
            self.state.left_out.push(front.asked);
            self.expected.pop();
        }
    }

    /// The line that ends the answer to a line of gets.
    fn end_gets(&mut self, line: &[u8]) -> Result<(), Unexpected> {
        let failure = if line == b"END" { None } else { Some(failure(line).ok_or(Unexpected)?) };
        let left_out = std::mem::take(&mut self.state.left_out);
        if let Some(status) = failure {
            left_out.into_iter().for_each(|asked| push_failure(self.out, asked, status, line));
        }
        while !self.state.is_behind_values {
            let Some((front, key)) = self.expected.front() else { return Err(Unexpected) };
            self.state.is_behind_values = front.answer == (Answer::Value { last: true });
            match failure {
                None => push_miss(self.out, front, key),
                Some(status) => push_failure(self.out, front.asked, status, line),
            }
            self.expected.pop();
        }
        (self.state.is_behind_values, self.state.is_in_values) = (false, false);
        while let Some((front, _)) = self.expected.front().filter(|(front, _)| front.answer == Answer::Behind) {
            push_success(self.out, front, 0);
            self.expected.pop();
        }
        Ok(())
    }

    /// The line that answers a request of its own, or begins to.
    fn answer_one(&mut self, front: Expected, line: &[u8]) -> Result<(), Unexpected> {
        let Some(verb) = front.verb() else { return Err(Unexpected) };
        if let Some(status) = failure(line) {
            push_failure(self.out, front.asked, status, line);
            self.expected.pop();
            self.state.listing = Vec::new();
            return Ok(());
        }
        match verb {
            Verb::Stat if front.has_key() => {
                if !self.list(front, line) {
                    return Ok(()); // more follow
                }
            }
            Verb::Stat => match line.strip_prefix(b"STAT ") {
                Some(line) => {
                    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
                    let value = line.get(end + 1..).unwrap_or_default();
                    push(self.out, front.asked, (Status::Success, 0), [b"", &line[..end], value], 0);
                    return Ok(()); // more follow
                }
                None => push_status(self.out, front.asked, Status::Success, 0),
            },
            Verb::Version => {
                let version = line.strip_prefix(b"VERSION ").ok_or(Unexpected)?;
                push(self.out, front.asked, (Status::Success, 0), [b"", b"", version], 0);
            }
            Verb::Flush if line == b"OK" => push_success(self.out, front, 0),
            Verb::Flush | Verb::NoOp | Verb::Quit => return Err(Unexpected),
            Verb::Get
            | Verb::GetAndTouch
            | Verb::Touch
            | Verb::Store(_)
            | Verb::Delete
            | Verb::Increment
            | Verb::Decrement => return self.answer_meta(front, verb, line),
        }
        self.expected.pop();
        Ok(())
    }

    /// Takes a line of a list that is told as one value, as memcached does; says whether it was the last one.
    fn list(&mut self, front: Expected, line: &[u8]) -> bool {
        if self.state.listing.len() <= LISTING {
            self.state.listing.extend_from_slice(line);
            self.state.listing.extend_from_slice(b"\r\n");
        }
        if line != b"END" {
            return false;
        }
        let listing = std::mem::take(&mut self.state.listing);
        if listing.len() > LISTING {
            push_status(self.out, front.asked, Status::TooLarge, 0);
        } else {
            push(self.out, front.asked, (Status::Success, 0), [b"", b"detailed", &listing], 0);
            push_status(self.out, front.asked, Status::Success, 0);
        }
        true
    }

    fn answer_meta(&mut self, front: Expected, verb: Verb, line: &[u8]) -> Result<(), Unexpected> {
        let Some((code, rest)) = line.split_at_checked(2) else { return Err(Unexpected) };
        let flag = |letter: u8| {
            let mut words = rest.split(|byte| *byte == b' ');
            words.find_map(|word| word.strip_prefix(&[letter])).and_then(number::unsigned)
        };
        let cas = flag(b'c').unwrap_or_default();
        let is_get = matches!(verb, Verb::Get | Verb::GetAndTouch | Verb::Touch);
        let is_counter = matches!(verb, Verb::Increment | Verb::Decrement);
        match code {
            b"VA" => {
                let len = rest.split(|byte| *byte == b' ').nth(1).and_then(number::unsigned).ok_or(Unexpected)?;
                if is_counter {
                    let left = usize::try_from(len).ok().filter(|len| (1..=20).contains(len)).ok_or(Unexpected)?;
                    self.state.count.clear();
                    self.state.value = Value::Count { left, to: front, cas };
                } else if is_get {
                    let flags = flag(b'f').map(client_flags).unwrap_or_default();
                    let key = self.expected.front().map_or(&b""[..], |(_, key)| key);
                    push_hit(self.out, (front, key), (flags, cas), len);
                    self.state.value = passed(len)?;
                } else {
                    return Err(Unexpected);
                }
            }
            b"HD" if verb == Verb::Touch => {
                let flags = flag(b'f').map(client_flags).unwrap_or_default();
                push(self.out, front.asked, (Status::Success, cas), [&flags.to_be_bytes(), b"", b""], 0);
            }
            b"HD" if !is_get && !is_counter => push_success(self.out, front, cas),
            b"EN" if is_get => {
                let key = self.expected.front().map_or(&b""[..], |(_, key)| key);
                push_miss(self.out, front, key);
            }
            b"EX" if !is_get => push_status(self.out, front.asked, Status::Exists, 0),
            b"NF" if !is_get => push_status(self.out, front.asked, Status::NotFound, 0),
            b"NS" if !is_get => {
                let status = if verb == Verb::Store(Mode::Add) {
                    Status::Exists
                } else if verb == Verb::Store(Mode::Replace) {
                    Status::NotFound
                } else {
                    Status::NotStored
                };
                push_status(self.out, front.asked, status, 0);
            }
            _ => return Err(Unexpected),
        }
        self.expected.pop();
        Ok(())
    }
}

/// The value of a key that stands whole at the front of `text`, its flags and version, and how many bytes all of that takes.
#[inline]
fn whole_value<'a>(text: &'a [u8], key: &[u8]) -> Option<(&'a [u8], u32, u64, usize)> {
    let line = text.strip_prefix(b"VALUE ")?.strip_prefix(key)?;
    let (flags, at) = number::behind_blank(line, 0)?;
    let (len, at) = number::behind_blank(line, at)?;
    let (cas, at) = number::behind_blank(line, at)?;
    let block = line[at..].strip_prefix(b"\r\n")?;
    let len = usize::try_from(len).ok()?;
    let behind = block.get(len..)?.get(2..)?;
    Some((&block[..len], client_flags(flags), cas, text.len() - behind.len()))
}

/// The key, flags, length and version in a line that a value follows.
#[inline]
fn parts_of(value: &[u8]) -> Option<(&[u8], u32, u64, u64)> {
    let end = memchr::memchr(b' ', value)?;
    let (flags, behind) = number::behind_blank(value, end)?;
    let (len, behind) = number::behind_blank(value, behind)?;
    let cas = number::unsigned(value.get(behind..)?.strip_prefix(b" ")?)?;
    Some((&value[..end], client_flags(flags), len, cas))
}

/// What is read of a value of so many bytes.
fn passed(len: u64) -> Result<Value, Unexpected> {
    let len = usize::try_from(len).map_err(|_| Unexpected)?;
    Ok(if len > 0 { Value::Passed(len) } else { Value::End(2) })
}

/// Appends a value's beginning; the value follows.
fn push_hit(out: &mut Vec<u8>, (to, key): (Expected, &[u8]), (flags, cas): (u32, u64), len: u64) {
    let key = if names_key(to.asked.opcode) { key } else { b"" };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    push_value(out, to.asked, (flags, cas), key, len);
}

/// Appends that a key is not there, unless that goes without saying.
fn push_miss(out: &mut Vec<u8>, to: Expected, key: &[u8]) {
    if to.is_quiet() {
        return;
    }
    if names_key(to.asked.opcode) {
        push(out, to.asked, (Status::NotFound, 0), [b"", key, b""], 0);
    } else {
        push_status(out, to.asked, Status::NotFound, 0);
    }
}

/// Appends that something was done, unless that goes without saying.
fn push_success(out: &mut Vec<u8>, to: Expected, cas: u64) {
    if !to.is_quiet() {
        push_status(out, to.asked, Status::Success, cas);
    }
}

/// Appends why a request failed, in the words that were said if there is no status for it.
fn push_failure(out: &mut Vec<u8>, asked: Asked, status: Status, line: &[u8]) {
    match line.strip_prefix(b"SERVER_ERROR ").filter(|_| status == Status::Unavailable) {
        Some(words) => push(out, asked, (status, 0), [b"", b"", words], 0),
        None => push_status(out, asked, status, 0),
    }
}

/// What a line says has failed, if it says so.
fn failure(line: &[u8]) -> Option<Status> {
    if line == b"ERROR" {
        return Some(Status::UnknownCommand);
    }
    if let Some(text) = line.strip_prefix(b"CLIENT_ERROR") {
        let is_numeric = memchr::memmem::find(text, b"non-numeric").is_none();
        return Some(if is_numeric { Status::Invalid } else { Status::NotNumeric });
    }
    let text = line.strip_prefix(b"SERVER_ERROR")?;
    Some(if text.starts_with(b" object too large") {
        Status::TooLarge
    } else if text.starts_with(b" out of memory") {
        Status::OutOfMemory
    } else {
        Status::Unavailable
    })
}

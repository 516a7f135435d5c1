//! A client's bytes become text requests.
//!
//! Quiet gets next to each other become one line (`gets a b c`), which is split over the servers and joined as any other. All
//! others are meta commands, which say what a binary answer has to: `cas`, flags, and what a counter has come to.

use super::super::KEY_LIMIT;
use super::super::guard::Guard;
use super::expected::{Answer, Expected, Queue};
use super::opcode::{GETKQ, GETQ, Verb, names_key, verb};
use super::packet::{Asked, HEADER, Header, MAGIC, Status};
use super::sasl::{self, Sasl, Verdict};
use super::text::{Request, base64_len, is_text, push};

/// Most keys of one line.
const LINE_KEYS: u32 = 1000;

/// Longest value that is passed on. Of a longer one nothing is: text does not count so far.
const LONGEST_VALUE: usize = 1 << 30;

/// Statistics that can be told as names and values, and orders about them.
const STATISTICS: &[&[u8]] =
    &[b"", b"items", b"slabs", b"sizes", b"settings", b"proxy", b"reset", b"detail on", b"detail off", DETAIL_DUMP];

/// A list that is told as one value.
const DETAIL_DUMP: &[u8] = b"detail dump";

/// Where in what a client sends its next byte belongs.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The beginning of a request: not all of what stands before its value has come.
    head: Vec<u8>,
    value: Value,
    /// Keys of the line of gets that has been begun.
    line: u32,
    /// What follows is not looked at: it is no request, or stands behind a quit.
    is_over: bool,
    /// How far the client has come with saying who it is, where it has to.
    sasl: Option<Sasl>,
}

impl State {
    /// Whether a request has begun of which not all has come.
    pub(super) fn has_begun(&self) -> bool {
        !self.head.is_empty() || self.value != Value::None
    }

    /// Of a client that has to say who it is, unless it is known to have.
    pub(super) fn guarded(is_admitted: bool) -> Self {
        Self { sasl: Some(Sasl::new(is_admitted)), ..Self::default() }
    }

    /// Who it is may not be asked for any more.
    pub(super) fn heed(&mut self, guard: Guard<'_>) {
        if guard.is_none() {
            self.sasl = None;
        }
    }

    pub(super) const fn is_guarded(&self) -> bool {
        self.sasl.is_some()
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.sasl.is_none_or(|sasl| sasl.is_admitted)
    }

    pub(super) fn take_denied(&mut self) -> u64 {
        self.sasl.as_mut().map_or(0, |sasl| std::mem::take(&mut sasl.denied))
    }

    /// Takes what a client has sent, and appends what that asks in text.
    pub(super) fn ask(&mut self, sent: &[u8], text: &mut Vec<u8>, expected: &mut Queue, guard: Guard<'_>) {
        Asking { state: self, text, expected, guard }.ask(sent);
    }
}

/// The value that is being sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Value {
    #[default]
    None,
    /// So many bytes of one that is passed on are still to come.
    Passed(usize),
    /// So many bytes that nobody needs are still to come.
    Dropped(usize),
}

/// What a client has sent becomes text.
struct Asking<'t> {
    state: &'t mut State,
    text: &'t mut Vec<u8>,
    expected: &'t mut Queue,
    guard: Guard<'t>,
}

impl Asking<'_> {
    fn ask(&mut self, mut sent: &[u8]) {
        while !sent.is_empty() && !self.state.is_over {
            match self.state.value {
                Value::None => {
                    sent = &sent[self.ask_quiet_gets(sent)..];
                    if !sent.is_empty() {
                        sent = self.ask_next(sent);
                    }
                }
                Value::Passed(left) => {
                    let (value, rest) = sent.split_at(left.min(sent.len()));
                    self.text.extend_from_slice(value);
                    self.state.value = Value::Passed(left - value.len());
                    sent = rest;
                    self.end_value();
                }
                Value::Dropped(left) => {
                    let dropped = left.min(sent.len());
                    self.pass_over(left - dropped);
                    sent = &sent[dropped..];
                }
            }
        }
        // Nobody waits for what may come behind.
        self.end_line();
    }

    /// Takes the quiet gets at the front of `sent` that have come whole: most come many at a time. Says how many bytes they take.
    fn ask_quiet_gets(&mut self, sent: &[u8]) -> usize {
        let mut taken = 0;
        if !self.state.head.is_empty() || self.state.sasl.is_some() {
            return taken;
        }
        while let Some((asked, key)) = quiet_get(&sent[taken..]) {
            self.ask_get(asked, key);
            taken += HEADER + key.len();
        }
        taken
    }

    /// Adds a get to the line of gets.
    #[inline]
    fn ask_get(&mut self, asked: Asked, key: &[u8]) {
        if self.state.line == 0 {
            self.text.extend_from_slice(b"gets");
        }
        self.text.push(b' ');
        self.text.extend_from_slice(key);
        self.expected.push(Expected::new(asked, Answer::Value { last: false }), key);
        self.state.line += 1;
        if self.state.line == LINE_KEYS {
            self.end_line();
        }
    }

    /// Takes the next request up to its value, if that much of it is there; returns what follows.
    fn ask_next<'a>(&mut self, sent: &'a [u8]) -> &'a [u8] {
        if self.state.head.is_empty() {
            if let Some(taken) = self.ask_from(sent) {
                return &sent[taken..];
            }
            if !self.state.is_over {
                self.state.head.extend_from_slice(sent);
            }
            return &[];
        }
        // What is there of it, and no more than it needs.
        let wanted = needed(&self.state.head).saturating_sub(self.state.head.len()).max(1).min(sent.len());
        let mut head = std::mem::take(&mut self.state.head);
        head.extend_from_slice(&sent[..wanted]);
        match self.ask_from(&head) {
            Some(_) => head.clear(),
            None if self.state.is_over => head = Vec::new(),
            None => {}
        }
        self.state.head = head;
        &sent[wanted..]
    }

    /// Takes the request at the front of `bytes`, up to its value, if that much of it is there; says how much that is.
    fn ask_from(&mut self, bytes: &[u8]) -> Option<usize> {
        let header = bytes.first_chunk::<HEADER>()?;
        let Some(header) = Header::read(header) else {
            self.end_line();
            self.end(); // memcached says nothing either
            return None;
        };
        if let Some(sasl) = &self.state.sasl
            && sasl.heeds(header.opcode)
        {
            return self.ask_who(*sasl, &header, bytes);
        }
        let known = verb(header.opcode);
        let Some((verb, is_quiet)) = known.filter(|_| header.extras + header.key <= header.body) else {
            self.refuse(&header, Status::UnknownCommand);
            if header.extras + header.key > header.body {
                self.end();
                return None;
            }
            self.pass_over(header.body);
            return Some(HEADER);
        };
        if !is_right(&header, verb) {
            self.refuse(&header, Status::Invalid);
            self.end();
            return None;
        }
        let len = HEADER + header.extras + header.key;
        let (extras, key) = bytes.get(HEADER..len)?.split_at(header.extras);
        self.ask_for(verb, is_quiet, &Request { header, extras, key });
        Some(len)
    }

    /// Takes a request by which a client says who it is, or would before it has.
    #[cold]
    fn ask_who(&mut self, mut sasl: Sasl, header: &Header, bytes: &[u8]) -> Option<usize> {
        let (answer, taken, passed) = match sasl.judge(header) {
            Verdict::End(status) => (Err(status), None, 0),
            Verdict::Answer(answer) => (Ok(answer), Some(HEADER), header.body),
            Verdict::Whole => {
                let len = HEADER + header.body;
                let (way, said) = bytes.get(HEADER..len)?.split_at(header.key);
                (Ok(sasl.hear(header.opcode, way, said, self.guard)), Some(len), 0)
            }
        };
        self.state.sasl = Some(sasl);
        match answer {
            Ok(answer) => {
                self.tell(header, answer);
                self.pass_over(passed);
            }
            Err(status) => {
                self.refuse(header, status);
                self.end();
            }
        }
        taken
    }

    fn ask_for(&mut self, verb: Verb, is_quiet: bool, request: &Request<'_>) {
        let Request { header, key, .. } = *request;
        // Of statistics, those have need of their name that are told otherwise.
        let is_dump = verb == Verb::Stat && key == DETAIL_DUMP;
        let needs_key = verb == Verb::Get || names_key(header.opcode) || is_dump;
        let kept = if needs_key { key } else { b"" };
        let asked = Asked { opcode: header.opcode, opaque: header.opaque };
        if matches!(verb, Verb::Get) && is_text(key) {
            if is_quiet {
                return self.ask_get(asked, key);
            }
            // That it is not there is told in its place, so that has to be known there.
            self.end_line();
            self.ask_get(asked, key);
            return self.end_line();
        }
        self.end_line();
        if request.value() > LONGEST_VALUE {
            self.refuse(&header, Status::TooLarge);
            return self.pass_over(request.value());
        }
        if verb == Verb::Stat && !STATISTICS.contains(&key) {
            return self.refuse(&header, Status::NotFound);
        }
        if !is_text(key) && base64_len(key.len()) > KEY_LIMIT {
            // Such a key has no name in text.
            self.refuse(&header, Status::Invalid);
            return self.pass_over(request.value());
        }
        if verb == Verb::Quit && is_quiet {
            return self.end();
        }
        if verb == Verb::NoOp && self.expected.ends_with_gets() {
            return self.expected.push(Expected::new(asked, Answer::Behind), b"");
        }
        let is_known = matches!(verb, Verb::NoOp | Verb::Quit);
        let answer = if is_known { Answer::Known(Status::Success) } else { Answer::Said };
        self.expected.push(Expected::new(asked, answer), kept);
        push(self.text, verb, request);
        if verb == Verb::Quit {
            self.end();
        } else if matches!(verb, Verb::Store(_)) {
            self.state.value = Value::Passed(request.value());
            self.end_value();
        }
    }

    /// A request is refused: that is told in its turn.
    fn refuse(&mut self, header: &Header, status: Status) {
        self.tell(header, Answer::Known(status));
    }

    /// A request asks nobody: what it is told is told in its turn.
    fn tell(&mut self, header: &Header, answer: Answer) {
        self.end_line();
        let asked = Asked { opcode: header.opcode, opaque: header.opaque };
        self.expected.push(Expected::new(asked, answer), b"");
        self.text.extend_from_slice(b"mn\r\n");
    }

    /// Nothing that follows is looked at: the connection ends behind the answers.
    fn end(&mut self) {
        self.state.is_over = true;
        self.text.extend_from_slice(b"quit\r\n");
    }

    /// So many bytes that follow are for nobody.
    fn pass_over(&mut self, bytes: usize) {
        self.state.value = if bytes > 0 { Value::Dropped(bytes) } else { Value::None };
    }

    /// A value has come, if it has to its end.
    fn end_value(&mut self) {
        if self.state.value == Value::Passed(0) {
            self.state.value = Value::None;
            self.text.extend_from_slice(b"\r\n");
        }
    }

    /// The line of gets ends that has been begun, if one has.
    fn end_line(&mut self) {
        if std::mem::take(&mut self.state.line) > 0 {
            self.text.extend_from_slice(b"\r\n");
            self.expected.end_line();
        }
    }
}

/// The quiet get at the front of `sent`, if there is one that has come whole, and its key, which may stand in text.
#[inline]
fn quiet_get(sent: &[u8]) -> Option<(Asked, &[u8])> {
    let header = sent.first_chunk::<HEADER>()?;
    let [MAGIC, opcode @ (GETQ | GETKQ), 0, 1..=u8::MAX, 0, ..] = *header else { return None };
    let Header { key, body, opaque, .. } = Header::read(header)?;
    let key = sent.get(HEADER..HEADER + key).filter(|_| key == body && key <= KEY_LIMIT)?;
    is_text(key).then_some((Asked { opcode, opaque }, key))
}

/// How many bytes there have to be of what begins like this before it can be looked at again.
fn needed(head: &[u8]) -> usize {
    let header = head.first_chunk::<HEADER>().and_then(Header::read);
    header.map_or(HEADER, |header| HEADER + sasl::needed(&header).unwrap_or(header.extras + header.key))
}

/// Whether a request has the parts that it must have, and no others.
fn is_right(header: &Header, verb: Verb) -> bool {
    let shape = verb.shape();
    let extras = header.extras == shape.extras || (shape.extras_optional && header.extras == 0);
    let key = shape.key.is_none_or(|there_is| there_is == (header.key > 0)) && header.key <= KEY_LIMIT;
    extras && key && (shape.value || header.body == header.extras + header.key)
}

//! A pretend client: it draws requests, remembers what it asked, and checks what it is told.

use std::collections::VecDeque;

use softmiss::engine::session::SessionId;

use super::world::Random;

/// What a client knows of a request that it sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) text: String,
    kind: Kind,
    keys: Vec<String>,
    opaque: Option<String>,
    /// When its last byte had been given to the engine.
    pub(super) sent_at: Option<u64>,
    /// Where it ends in the client's stream, to know when that is.
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Gets,
    Line,
    Number,
    Meta,
    MetaQuiet,
    Barrier,
}

/// A client of the simulation.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: SessionId,
    pub(super) worker: usize,
    name: usize,
    versions: u64,
    /// Bytes that it has sent and the engine has not been given.
    pub(super) outgoing: VecDeque<u8>,
    /// Sent requests, oldest first.
    pub(super) pending: VecDeque<Pending>,
    /// Bytes that were written to it at once and that it has not looked at.
    pub(super) offered: Vec<u8>,
    /// Bytes that it has read and not understood yet.
    incoming: Vec<u8>,
    /// In healthy runs: what it must read.
    pub(super) expected: VecDeque<u8>,
    pub(super) answered: u64,
    /// Bytes drawn so far.
    drawn: usize,
    /// It reads what there is at once.
    pub(super) prompt: bool,
}

impl Client {
    pub(super) fn new(id: SessionId, worker: usize, name: usize, prompt: bool) -> Self {
        Self {
            id,
            worker,
            name,
            versions: 0,
            outgoing: VecDeque::new(),
            pending: VecDeque::new(),
            offered: Vec::new(),
            incoming: Vec::new(),
            expected: VecDeque::new(),
            answered: 0,
            drawn: 0,
            prompt,
        }
    }

    /// A key: of its own in healthy runs, shared with the others in faulty ones.
    fn key(&self, random: &mut Random, private: bool) -> String {
        let number = random.below(6);
        if private { format!("c{}k{number}", self.name) } else { format!("k{number}") }
    }

    /// A value that tells where it comes from.
    fn value(&mut self, key: &str, random: &mut Random) -> String {
        self.versions += 1;
        let padding = match random.below(20) {
            0 => 3000,
            1..4 => 200,
            _ => random.below(10) as usize,
        };
        format!("[{key}|{}|{}|{}]", self.name, self.versions, "x".repeat(padding))
    }

    /// Draws a request; returns its bytes. `private` keeps it to keys and commands whose answers can be foretold, `loud`
    /// to those that are always answered: an error line does not tell whose it is.
    pub(super) fn draw(&mut self, random: &mut Random, private: bool, loud: bool) -> Vec<u8> {
        let key = self.key(random, private);
        let mut keys = vec![key.clone()];
        let mut opaque = None;
        let noreply = if random.one_in(5) { " noreply" } else { "" };
        let line = if noreply.is_empty() { Some(Kind::Line) } else { None };
        self.versions += 1;
        let token = format!("O{}", self.versions);
        let (text, kind) = match random.below(20) {
            0..5 => (format!("get {key}\r\n"), Some(Kind::Get)),
            5..8 => {
                keys = (0..random.below(8) + 2).map(|_| self.key(random, private)).collect();
                let verb = ["get", "gets", "gat 100", "gats 0"][random.below(4) as usize];
                let kind = if verb.starts_with("gets") || verb.starts_with("gats") { Kind::Gets } else { Kind::Get };
                (format!("{verb} {}\r\n", keys.join(" ")), Some(kind))
            }
            8..12 => {
                let value = self.value(&key, random);
                let verb = ["set", "set", "add", "replace"][random.below(4) as usize];
                (format!("{verb} {key} 3 0 {}{noreply}\r\n{value}\r\n", value.len()), line)
            }
            12 => {
                let value = self.value(&key, random);
                let verb = ["append", "prepend"][random.below(2) as usize];
                (format!("{verb} {key} 0 0 {}{noreply}\r\n{value}\r\n", value.len()), line)
            }
            13 => {
                let value = self.value(&key, random);
                // In healthy runs one that never matches: a client cannot foretell the unique value.
                let unique = if private { 1_000_000_000 } else { random.below(100) };
                (format!("cas {key} 0 0 {} {unique}{noreply}\r\n{value}\r\n", value.len()), line)
            }
            14 => (format!("delete {key}{noreply}\r\n"), line),
            15 => (format!("touch {key} 0{noreply}\r\n"), line),
            16 => (format!("incr {key} 1{noreply}\r\n"), noreply.is_empty().then_some(Kind::Number)),
            17 => {
                let flags =
                    ["v", "v k", "s v", "f t", "c v", "v q", "k q"][random.below(if loud { 5 } else { 7 }) as usize];
                // In healthy runs the model knows no lifetimes, and unique values depend on the other clients.
                let flags = if private { flags.replace(['t', 'c'], "s") } else { flags.to_owned() };
                let kind = if flags.contains('q') { Kind::MetaQuiet } else { Kind::Meta };
                let text = format!("mg {key} {flags} {token}\r\n");
                opaque = Some(token);
                (text, Some(kind))
            }
            18 => {
                let value = self.value(&key, random);
                let flags = ["", " ME", " k MR", " q"][random.below(if loud { 3 } else { 4 }) as usize];
                let kind = if flags == " q" { Kind::MetaQuiet } else { Kind::Meta };
                opaque = Some(token.clone());
                (format!("ms {key} {}{flags} {token}\r\n{value}\r\n", value.len()), Some(kind))
            }
            _ => match random.below(3) {
                0 if !loud => {
                    opaque = Some(token.clone());
                    (format!("md {key} q {token}\r\n"), Some(Kind::MetaQuiet))
                }
                1 => {
                    opaque = Some(token.clone());
                    (format!("ma {key} v {token}\r\n"), Some(Kind::Meta))
                }
                _ => ("mn\r\n".to_owned(), Some(Kind::Barrier)),
            },
        };
        // Unique values count the writes of all clients of a server, which a client of its own cannot foretell.
        let text = if private { text.replace("gets ", "get ").replace("gats 0", "gat 0") } else { text };
        let kind = if private && kind == Some(Kind::Gets) { Some(Kind::Get) } else { kind };
        let bytes = text.clone().into_bytes();
        self.drawn += bytes.len();
        if let Some(kind) = kind {
            self.pending.push_back(Pending { text, kind, keys, opaque, sent_at: None, end: self.drawn });
        }
        self.outgoing.extend(&bytes);
        bytes
    }

    /// Takes what it has read; checks every whole response in it.
    pub(super) fn read(&mut self, bytes: &[u8], now: u64, limit: Option<u64>, miss_mode: bool) -> Result<(), String> {
        self.incoming.extend_from_slice(bytes);
        while !self.incoming.is_empty() {
            let Some(pending) = self.pending.front() else {
                return Err(format!("was told {:?} without having asked", text(&self.incoming)));
            };
            match pending.check(&self.incoming, miss_mode) {
                Err(what) => {
                    let behind: Vec<_> = self.pending.iter().skip(1).map(|pending| &pending.text).collect();
                    let read = text(&self.incoming);
                    return Err(format!("asked {:?}: {what}: {read:?}; behind it {behind:?}", pending.text));
                }
                Ok(None) => return Ok(()), // not all there yet
                Ok(Some(0)) => {
                    // A quiet request that was answered by silence: what comes next answers a later one.
                    self.pending.pop_front();
                }
                Ok(Some(len)) => {
                    self.incoming.drain(..len);
                    self.answered += 1;
                    let pending = self.pending.pop_front().expect("it was there");
                    if let (Some(limit), Some(sent_at)) = (limit, pending.sent_at)
                        && now.saturating_sub(sent_at) > limit
                    {
                        return Err(format!("waited {} ms for {:?}", (now - sent_at) / 1_000_000, pending.text));
                    }
                }
            }
        }
        Ok(())
    }

    /// The engine was given more bytes: requests that it has whole count their time from now.
    pub(super) fn gave(&mut self, now: u64) {
        let given = self.drawn - self.outgoing.len();
        for pending in self.pending.iter_mut().filter(|pending| pending.end <= given) {
            pending.sent_at.get_or_insert(now);
        }
    }

    /// Whether something is still to be answered; quiet requests at the end may stay silent.
    pub(super) fn waits(&self) -> bool {
        self.pending.iter().any(|pending| pending.kind != Kind::MetaQuiet)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

impl Pending {
    /// The length of the response at the front of `input`: `None` if it is not all there, 0 for silence.
    fn check(&self, input: &[u8], miss_mode: bool) -> Result<Option<usize>, String> {
        let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&input[..end]).map_err(|_| "junk".to_owned())?;
        let len = end + 2;
        if line.starts_with("SERVER_ERROR") {
            return if miss_mode { Err("an error in miss mode".to_owned()) } else { Ok(Some(len)) };
        }
        match self.kind {
            Kind::Get | Kind::Gets => self.check_get(input, miss_mode),
            Kind::Line | Kind::Number => {
                let known = ["STORED", "NOT_STORED", "EXISTS", "NOT_FOUND", "DELETED", "TOUCHED"];
                let number = self.kind == Kind::Number
                    && (line.parse::<u64>().is_ok() || line.starts_with("CLIENT_ERROR cannot increment"));
                if known.contains(&line) || number { Ok(Some(len)) } else { Err("not its answer".to_owned()) }
            }
            Kind::Barrier => {
                if line == "MN" {
                    Ok(Some(len))
                } else {
                    Err("not the barrier".to_owned())
                }
            }
            Kind::Meta | Kind::MetaQuiet => self.check_meta(input, line, len),
        }
    }

    fn check_get(&self, input: &[u8], miss_mode: bool) -> Result<Option<usize>, String> {
        let mut at = 0;
        let mut keys = self.keys.iter();
        loop {
            let rest = &input[at..];
            let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
            let line = std::str::from_utf8(&rest[..end]).map_err(|_| "junk".to_owned())?;
            // In error mode the values of live servers come first, then the error in place of END.
            if line == "END" || (!miss_mode && line.starts_with("SERVER_ERROR ")) {
                return Ok(Some(at + end + 2));
            }
            let words: Vec<_> = line.split(' ').collect();
            let wanted = if self.kind == Kind::Gets { 5 } else { 4 };
            if words[0] != "VALUE" || words.len() != wanted {
                return Err("not a value".to_owned());
            }
            if !keys.any(|key| key == words[1]) {
                return Err(format!("the key {} was not asked for, or not here", words[1]));
            }
            let bytes: usize = words[3].parse().map_err(|_| "no length".to_owned())?;
            let Some(block) = rest.get(end + 2..end + 2 + bytes + 2) else { return Ok(None) };
            check_value(words[1], &block[..bytes])?;
            at += end + 2 + bytes + 2;
        }
    }

    fn check_meta(&self, input: &[u8], line: &str, len: usize) -> Result<Option<usize>, String> {
        let code = line.split(' ').next().unwrap_or_default();
        let mine = match self.text.as_bytes()[1] {
            b'g' => ["VA", "HD", "EN", "EN"].contains(&code),
            b's' => ["HD", "NS", "EX", "NF"].contains(&code),
            b'd' => ["HD", "NF", "EX", "EX"].contains(&code),
            _ => ["VA", "HD", "NF", "EX"].contains(&code) || line.starts_with("CLIENT_ERROR cannot increment"),
        };
        // A meta response carries the token of its request, so silence can be told from another's answer.
        let token = line.split(' ').find(|word| word.starts_with('O'));
        let same = self.opaque.as_deref() == token || line.starts_with("CLIENT_ERROR ");
        let hidden = match self.text.as_bytes()[1] {
            b'g' => code == "EN",
            _ => code == "HD",
        };
        if self.kind == Kind::MetaQuiet && (!mine || !same || hidden) {
            return Ok(Some(0));
        }
        if !mine || !same {
            return Err("not its answer".to_owned());
        }
        if line.split(' ').any(|word| word.starts_with('k')) && !self.text.contains(" k") {
            return Err("a key that was not asked for".to_owned());
        }
        if code != "VA" {
            return Ok(Some(len));
        }
        let bytes: usize = line.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or("no length")?;
        let Some(block) = input.get(len..len + bytes + 2) else { return Ok(None) };
        check_value(&self.keys[0], &block[..bytes])?;
        Ok(Some(len + bytes + 2))
    }
}

/// A value consists of marks, each of which names the key that it was written under.
fn check_value(key: &str, value: &[u8]) -> Result<(), String> {
    let value = std::str::from_utf8(value).map_err(|_| "junk for a value".to_owned())?;
    if value.parse::<u64>().is_ok() {
        return Ok(());
    }
    let marks = value.strip_prefix('[').and_then(|value| value.strip_suffix(']')).ok_or("a value that nobody wrote")?;
    for mark in marks.split("][") {
        if mark.split('|').next() != Some(key) {
            return Err(format!("a value of another key: {mark}"));
        }
    }
    Ok(())
}

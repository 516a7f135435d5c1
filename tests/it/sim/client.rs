//! A pretend client: it draws requests, remembers what it asked, and has what it is told checked.

use std::collections::VecDeque;
use std::io::Write as _;

use softmiss::engine::session::SessionId;

use super::answer::Answered;
use super::judge::Judge;
use super::ledger::{Ledger, Moment, WriteId};
use super::random::Random;
use super::servers::Pipe;
use super::store::{KEYS, Key};
use super::tally::{Tally, Thing};

/// A key of a read, and the client's last write of it before.
pub(super) type Asked = (Key, Option<WriteId>);

/// A request, as far as its answer is concerned.
#[derive(Debug)]
pub(super) enum Ask {
    Get { keys: Vec<Asked>, unique: bool },
    Store(WriteId),
    Delete(Key),
    Touch(Key),
    Count(Key),
    MetaGet { asked: Asked, value: bool, named: bool, quiet: bool, token: u32 },
    MetaStore { id: WriteId, named: bool, quiet: bool, token: u32 },
    MetaDelete { key: Key, quiet: bool, token: u32 },
    MetaCount { key: Key, token: u32 },
    Barrier,
    Flush,
    Stats,
    Nonsense,
    TooLarge,
}

/// What a client knows of a request that it sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ask: Ask,
    /// When its last byte was given to the engine.
    pub(super) sent: Option<Moment>,
    /// The engine could not take it up when it was given.
    pub(super) behind: bool,
}

/// A request that has not been given whole to the engine.
#[derive(Debug)]
struct Unsent {
    /// Where it ends in the client's stream.
    end: usize,
    write: Option<WriteId>,
    change: Option<(&'static str, Key)>,
    /// The number of its [`Pending`], if an answer is awaited.
    awaited: Option<u64>,
    class: Class,
}

/// Who answers a request when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Server,
    /// The proxy itself.
    Here,
    /// The proxy, which takes it for no request.
    Refused,
}

/// What the clients' requests come to, to be compared with what the engine counts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    pub(super) given: u64,
    pub(super) here: u64,
    pub(super) refused: u64,
}

/// How a client takes what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Prompt,
    Slow,
    /// Not at all, until the calm.
    Stuck,
}

/// What requests may be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Keys and commands whose answers can be foretold.
    pub(super) private: bool,
    /// Only commands that are always answered: an error line does not tell whose it is.
    pub(super) loud: bool,
    /// One server for each request.
    pub(super) plain: bool,
    /// Many large values.
    pub(super) big: bool,
    pub(super) value_limit: usize,
}

/// A client of the simulation.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: SessionId,
    pub(super) worker: usize,
    name: usize,
    tokens: u32,
    /// Bytes that it has sent and the engine has not been given.
    pub(super) outgoing: Pipe,
    unsent: VecDeque<Unsent>,
    /// Sent requests, oldest first, and the number of the first.
    pub(super) pending: VecDeque<Pending>,
    first: u64,
    /// Bytes that it has been written.
    pub(super) incoming: Pipe,
    /// Fewer bytes than these make no whole answer.
    pub(super) need: usize,
    /// In healthy runs: what it must read.
    pub(super) expected: Pipe,
    pub(super) answered: u64,
    /// Bytes drawn so far.
    drawn: usize,
    pub(super) reader: Reader,
    /// It has sent its last byte.
    pub(super) ending: bool,
    /// The engine knows that.
    pub(super) ended: bool,
    own: Vec<Option<WriteId>>,
    /// The unique value that it last read of each key.
    pub(super) uniques: Vec<u64>,
}

impl Client {
    pub(super) fn new(id: SessionId, worker: usize, name: usize, reader: Reader) -> Self {
        Self {
            id,
            worker,
            name,
            tokens: 0,
            outgoing: Pipe::default(),
            unsent: VecDeque::new(),
            pending: VecDeque::new(),
            first: 0,
            incoming: Pipe::default(),
            need: 0,
            expected: Pipe::default(),
            answered: 0,
            drawn: 0,
            reader,
            ending: false,
            ended: false,
            own: vec![None; KEYS],
            uniques: vec![0; KEYS],
        }
    }

    /// A key: of its own in healthy runs, shared with the others in faulty ones.
    fn key(&self, random: &mut Random, private: bool) -> Key {
        match random.below(8) {
            0 if private => Key::counter(self.name * 6),
            0 => Key::counter(random.index(2)),
            number if private => Key::marked(self.name * 6 + number as usize % 6),
            number => Key::marked(number as usize),
        }
    }

    /// Begins a write of `key` and appends its block to `out`, after what `head` makes of its length.
    fn write(
        &mut self,
        key: Key,
        verb: &'static str,
        random: &mut Random,
        style: Style,
        ledger: &mut Ledger,
        tally: &mut Tally,
        head: impl FnOnce(&mut Vec<u8>, usize),
    ) -> WriteId {
        let padding = match random.below(200) {
            0 => 20_000,
            1..20 if style.big => 20_000,
            20..30 => 3000,
            30..60 => 200,
            _ => random.index(10),
        };
        if padding == 20_000 && !key.is_counter() {
            tally.add(Thing::BigValue);
        }
        let id = ledger.begin(key, verb, padding);
        let mut value = Vec::new();
        ledger.value(id, &mut value);
        let out = self.outgoing.tail();
        head(out, value.len());
        out.extend_from_slice(&value);
        out.extend_from_slice(b"\r\n");
        self.own[key.index()] = Some(id);
        id
    }

    /// Draws a request and sends it; returns its bytes.
    pub(super) fn draw(&mut self, random: &mut Random, style: Style, ledger: &mut Ledger, tally: &mut Tally) -> &[u8] {
        let key = self.key(random, style.private);
        let before = self.outgoing.len();
        let silent = random.one_in(5);
        let noreply = if silent { " noreply" } else { "" };
        self.tokens += 1;
        let token = self.tokens;
        let (mut write, mut change, mut class) = (None, None, Class::Server);
        let keep = |ask: Ask| (!silent).then_some(ask);
        let ask = match random.below(20) {
            0..5 => {
                tally.add(Thing::Get);
                let verb = random.pick(&["get", "get", "gets", "gat 0", "gats 100"]);
                // Unique values count the writes of all clients of a server: a client cannot foretell them.
                let verb = if style.private { "get" } else { verb };
                write!(self.outgoing.tail(), "{verb} {key}\r\n").unwrap();
                Some(Ask::Get { keys: vec![(key, self.own[key.index()])], unique: verb.contains("ts") })
            }
            5..8 if !style.plain => {
                let many = random.one_in(100);
                tally.add(if many { Thing::LongGet } else { Thing::MultiGet });
                let count = if many { 300 } else { 2 + random.index(8) };
                let keys: Vec<_> = (0..count).map(|_| self.key(random, style.private)).collect();
                let verb = random.pick(&["get", "gets", "gat 100", "gats 0"]);
                let verb = if style.private { "get" } else { verb };
                let out = self.outgoing.tail();
                out.extend_from_slice(verb.as_bytes());
                for key in &keys {
                    write!(out, " {key}").unwrap();
                }
                out.extend_from_slice(b"\r\n");
                let keys = keys.into_iter().map(|key| (key, self.own[key.index()])).collect();
                Some(Ask::Get { keys, unique: verb.contains("ts") })
            }
            5..12 => {
                tally.add(Thing::Store);
                let verb = random.pick(&["set", "set", "set", "add", "replace", "append", "prepend"]);
                let verb = if key.is_counter() && verb.ends_with("pend") { "set" } else { verb };
                let id = self.write(key, verb, random, style, ledger, tally, |out, len| {
                    write!(out, "{verb} {key} {} 0 {len}{noreply}\r\n", len % 1000).unwrap();
                });
                write = Some(id);
                keep(Ask::Store(id))
            }
            12 => {
                tally.add(Thing::Cas);
                // In healthy runs one that never matches: a client cannot foretell the unique value.
                let unique = if style.private { 1_000_000_000 } else { self.uniques[key.index()] };
                if unique > 0 && !style.private {
                    tally.add(Thing::CasFresh);
                }
                let id = self.write(key, "cas", random, style, ledger, tally, |out, len| {
                    write!(out, "cas {key} 7 0 {len} {unique}{noreply}\r\n").unwrap();
                });
                write = Some(id);
                keep(Ask::Store(id))
            }
            13 => {
                tally.add(Thing::Delete);
                write!(self.outgoing.tail(), "delete {key}{noreply}\r\n").unwrap();
                change = Some(("delete", key));
                keep(Ask::Delete(key))
            }
            14 => {
                tally.add(Thing::Touch);
                write!(self.outgoing.tail(), "touch {key} 0{noreply}\r\n").unwrap();
                change = Some(("touch", key));
                keep(Ask::Touch(key))
            }
            15 => {
                tally.add(Thing::Count);
                write!(self.outgoing.tail(), "incr {key} 1{noreply}\r\n").unwrap();
                change = Some(("incr", key));
                keep(Ask::Count(key))
            }
            16 => {
                tally.add(Thing::MetaGet);
                let flags =
                    ["v", "v k", "s v", "f k", "c v", "v q", "k q"][random.index(if style.loud { 5 } else { 7 })];
                let flags = if style.private { flags.replace('c', "s") } else { flags.to_owned() };
                write!(self.outgoing.tail(), "mg {key} {flags} O{token}\r\n").unwrap();
                let (value, named, quiet) = (flags.contains('v'), flags.contains('k'), flags.contains('q'));
                Some(Ask::MetaGet { asked: (key, self.own[key.index()]), value, named, quiet, token })
            }
            17 => {
                tally.add(Thing::MetaStore);
                let flags = ["", " ME", " k MR", " q"][random.index(if style.loud { 3 } else { 4 })];
                let id = self.write(key, "ms", random, style, ledger, tally, |out, len| {
                    write!(out, "ms {key} {len}{flags} O{token}\r\n").unwrap();
                });
                write = Some(id);
                Some(Ask::MetaStore { id, named: flags.contains('k'), quiet: flags.contains('q'), token })
            }
            18 if random.one_in(2) => {
                tally.add(Thing::MetaDelete);
                let quiet = !style.loud && random.one_in(2);
                write!(self.outgoing.tail(), "md {key}{} O{token}\r\n", if quiet { " q" } else { "" }).unwrap();
                change = Some(("md", key));
                Some(Ask::MetaDelete { key, quiet, token })
            }
            18 => {
                tally.add(Thing::Count);
                write!(self.outgoing.tail(), "ma {key} v O{token}\r\n").unwrap();
                change = Some(("ma", key));
                Some(Ask::MetaCount { key, token })
            }
            _ => match random.below(12) {
                0 if !style.private && !style.plain => {
                    tally.add(Thing::FlushAll);
                    self.outgoing.tail().extend_from_slice(b"flush_all\r\n");
                    Some(Ask::Flush)
                }
                1 if !style.private && !style.plain => {
                    tally.add(Thing::Stats);
                    self.outgoing.tail().extend_from_slice(b"stats\r\n");
                    Some(Ask::Stats)
                }
                2 if !style.private => {
                    tally.add(Thing::Nonsense);
                    class = Class::Refused;
                    let line = random.pick(&["bogus\r\n", "get\r\n"]);
                    self.outgoing.tail().extend_from_slice(line.as_bytes());
                    Some(Ask::Nonsense)
                }
                3 if !style.private => {
                    tally.add(Thing::TooLarge);
                    class = Class::Refused;
                    let len = style.value_limit + 1 + random.index(100);
                    let out = self.outgoing.tail();
                    write!(out, "set {key} 0 0 {len}\r\n").unwrap();
                    out.resize(out.len() + len, b'z');
                    out.extend_from_slice(b"\r\n");
                    Some(Ask::TooLarge)
                }
                _ => {
                    tally.add(Thing::Barrier);
                    class = Class::Here;
                    self.outgoing.tail().extend_from_slice(b"mn\r\n");
                    Some(Ask::Barrier)
                }
            },
        };
        match &ask {
            None => tally.add(Thing::Noreply),
            Some(ask) if ask.is_quiet() => tally.add(Thing::Quiet),
            Some(_) => {}
        }
        self.drawn += self.outgoing.len() - before;
        let awaited = ask.map(|ask| {
            self.pending.push_back(Pending { ask, sent: None, behind: false });
            self.first + self.pending.len() as u64 - 1
        });
        self.unsent.push_back(Unsent { end: self.drawn, write, change, awaited, class });
        &self.outgoing.as_slice()[before..]
    }

    /// The engine was given more bytes: requests that it has whole count their time from now. `paused` says that the
    /// engine could not take them all up.
    pub(super) fn gave(&mut self, now: u64, paused: bool, ledger: &mut Ledger, totals: &mut Totals) {
        ledger.tick += 1;
        let moment = Moment { tick: ledger.tick, time: now };
        let given = self.drawn - self.outgoing.len();
        while let Some(unsent) = self.unsent.front()
            && unsent.end <= given
        {
            totals.given += 1;
            totals.here += u64::from(unsent.class == Class::Here);
            totals.refused += u64::from(unsent.class == Class::Refused);
            if let Some(id) = unsent.write {
                ledger.sent(id, moment);
            }
            if let Some((verb, key)) = unsent.change {
                ledger.asked(verb, key);
            }
            // What is refused for its first line may be answered before it is sent whole.
            if let Some(index) = unsent.awaited.and_then(|number| number.checked_sub(self.first))
                && let Some(pending) = self.pending.get_mut(index as usize)
            {
                (pending.sent, pending.behind) = (Some(moment), paused);
            }
            self.unsent.pop_front();
        }
    }

    /// Checks every whole answer in what it has been written. `None` as judge: healthy runs compare bytes.
    pub(super) fn understand(&mut self, judge: &mut Judge<'_>) -> Result<(), String> {
        while self.incoming.len() > 0 && self.incoming.len() >= self.need {
            let Some(pending) = self.pending.front() else {
                return Err(format!("was told {:?} without having asked", super::short(self.incoming.as_slice())));
            };
            match pending.check(self.incoming.as_slice(), judge, &mut self.uniques) {
                Err(what) => {
                    let read = super::short(self.incoming.as_slice());
                    let behind: Vec<_> = self.pending.iter().skip(1).take(4).map(|pending| &pending.ask).collect();
                    return Err(format!("asked {pending:?}: {what}; it read {read:?}; behind it {behind:?}"));
                }
                Ok(Answered::Not { need }) => {
                    self.need = need;
                    return Ok(());
                }
                // A quiet request that was answered by silence: what comes next answers a later one.
                Ok(Answered::Silently) => {
                    self.pending.pop_front();
                    self.first += 1;
                }
                Ok(Answered::With { len }) => {
                    self.incoming.consume(len);
                    self.need = 0;
                    self.answered += 1;
                    self.pending.pop_front();
                    self.first += 1;
                }
            }
        }
        Ok(())
    }

    /// The oldest request that must be answered aloud, if the engine has it whole.
    pub(super) fn oldest(&self) -> Option<(&Pending, Moment)> {
        let loud = self.pending.iter().find(|pending| !pending.ask.is_quiet())?;
        Some((loud, loud.sent?))
    }

    /// Whether something is still to be answered; quiet requests at the end may stay silent.
    pub(super) fn waits(&self) -> bool {
        !self.outgoing.is_empty()
            || self.expected.len() > 0
            || self.pending.iter().any(|pending| !pending.ask.is_quiet())
    }
}

impl Ask {
    pub(super) fn is_quiet(&self) -> bool {
        match self {
            Self::MetaGet { quiet, .. } | Self::MetaStore { quiet, .. } | Self::MetaDelete { quiet, .. } => *quiet,
            _ => false,
        }
    }
}

//! What clients ask.

use std::io::Write as _;

use super::client::{Ask, Class, Client, Pending, Unsent};
use super::ledger::{Ledger, WriteId};
use super::random::Random;
use super::store::Key;
use super::tally::{Tally, Thing};

/// What requests may be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Keys and commands whose answers can be foretold.
    pub(super) private: bool,
    /// Only commands that are always answered: an error line does not tell whose it is.
    pub(super) loud: bool,
    /// One server for each request.
    pub(super) plain: bool,
    /// Two keys only.
    pub(super) crowded: bool,
    /// Mostly reads of these.
    pub(super) rereads: bool,
    /// What is stored lives for some time, and not for ever.
    pub(super) lives: bool,
    /// Many large values.
    pub(super) big: bool,
    pub(super) value_limit: usize,
}

impl Client {
    /// A key: of its own in healthy runs, shared with the others in faulty ones.
    fn key(&self, random: &mut Random, private: bool, crowded: bool) -> Key {
        match random.below(8) {
            number if crowded && !private => Key::marked(number as usize % 2),
            0 if private => Key::counter(self.name * 6),
            0 => Key::counter(random.index(2)),
            number if private => Key::marked(self.name * 6 + number as usize % 6),
            number => Key::marked(number as usize),
        }
    }

    /// Begins a write of `key` and appends its block to `out`, after what `head` makes of its length.
    #[expect(clippy::too_many_arguments, reason = "what a draw needs, used in one place each")]
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
            0 => 40_000,
            1..20 if style.big => 40_000,
            20..30 => 3000,
            30..60 => 200,
            _ => random.index(10),
        };
        if padding == 40_000 && !key.is_counter() {
            tally.add(Thing::BigValue);
        }
        let id = ledger.begin(self.name, key, verb, padding);
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
        let key = self.key(random, style.private, style.crowded);
        let before = self.outgoing.len();
        let silent = random.one_in(5);
        let noreply = if silent { " noreply" } else { "" };
        self.tokens += 1;
        let token = self.tokens;
        let (mut write, mut change, mut class) = (None, None, Class::Server);
        let life = if style.lives { 1000 } else { 0 };
        let meta_life = if style.lives { " T1000" } else { "" };
        let keep = |ask: Ask| (!silent).then_some(ask);
        // Copies go with every change: more is read where there are some, and stored.
        let reads = style.lives && !style.private && random.one_in(2);
        // What changes while it is fetched is read again and again.
        let reads = reads || style.rereads && !random.one_in(4);
        let stores = style.lives && !reads && random.one_in(2);
        let ask = match if stores { 8 } else { random.below(if reads { 8 } else { 20 }) } {
            0..5 => {
                tally.add(Thing::Get);
                let verb = random.pick(&["get", "get", "gets", "gat 0", "gats 100"]);
                // Unique values count the writes of all clients of a server: a client cannot foretell them.
                let verb = if style.private || reads { "get" } else { verb };
                write!(self.outgoing.tail(), "{verb} {key}\r\n").unwrap();
                Some(Ask::Get { keys: vec![(key, self.own[key.index()])], unique: verb.contains("ts") })
            }
            5..8 if !style.plain => {
                let many = random.one_in(100);
                tally.add(if many { Thing::LongGet } else { Thing::MultiGet });
                let count = if many { 300 } else { 2 + random.index(8) };
                let keys: Vec<_> = (0..count).map(|_| self.key(random, style.private, style.crowded)).collect();
                let verb = random.pick(&["get", "gets", "gat 100", "gats 0"]);
                let verb = if style.private || reads { "get" } else { verb };
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
                let verb = if stores && !random.one_in(4) { "set" } else { verb };
                let verb = if key.is_counter() && verb.ends_with("pend") { "set" } else { verb };
                let id = self.write(key, verb, random, style, ledger, tally, |out, len| {
                    write!(out, "{verb} {key} {} {life} {len}{noreply}\r\n", len % 1000).unwrap();
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
                    write!(out, "ms {key} {len}{flags}{meta_life} O{token}\r\n").unwrap();
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
                    // What it was to replace is removed as soon as its first line is there.
                    ledger.asked("delete", key);
                    ledger.removal(Some(key));
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
            self.pending.push_back(Pending { ask, sent: None, behind: false, removal: None });
            self.first + self.pending.len() as u64 - 1
        });
        self.unsent.push_back(Unsent { end: self.drawn, write, change, awaited, class });
        &self.outgoing.as_slice()[before..]
    }
}

//! A memcached made of a map: the servers of the simulation, and the model that healthy runs are compared with.
//!
//! It keeps every state that each of its keys was ever in, with the tick at which it came: what a read may be told
//! is looked up there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::rc::Rc;

/// A key of the simulation: `k7` holds marks, `n7` a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u16);

/// How many keys there are where clients draw anything; [`Store::of`] has others.
pub(super) const KEYS: usize = 160;

impl Key {
    pub(super) fn marked(number: usize) -> Self {
        Self(number as u16 * 2)
    }

    pub(super) fn counter(number: usize) -> Self {
        Self(number as u16 * 2 + 1)
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..KEYS as u16).map(Self)
    }

    pub(super) fn is_counter(self) -> bool {
        self.0 % 2 == 1
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        Self::named(name).filter(|key| key.index() < KEYS)
    }

    /// As [`Key::parse`], of however many keys there are.
    fn named(name: &[u8]) -> Option<Self> {
        let number = std::str::from_utf8(name.get(1..)?).ok()?.parse::<u16>().ok()?;
        match name[0] {
            b'k' => Some(Self(number.checked_mul(2)?)),
            b'n' => Some(Self(number.checked_mul(2)?.checked_add(1)?)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.is_counter() { 'n' } else { 'k' }, self.0 / 2)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) flags: u32,
    pub(super) value: Vec<u8>,
    pub(super) unique: u64,
}

impl Item {
    pub(super) fn number(&self) -> Option<u64> {
        std::str::from_utf8(&self.value).ok()?.parse().ok()
    }
}

/// What is stored under a key, if anything.
pub(super) type State = Option<Rc<Item>>;

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    NotStored,
    Exists,
    NotFound,
    /// A read, or nothing that matters.
    Told,
}

/// A command that was executed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed<'a> {
    pub(super) verb: &'a str,
    pub(super) key: Option<Key>,
    pub(super) block: &'a [u8],
    pub(super) outcome: Outcome,
}

/// What the verb is called of a value that the proxy brings along.
pub(super) const COPY: &str = "copy";

/// What the names of copies begin with that outlive their values.
pub(super) const STALE: &str = "softmiss:stale:";

/// What the names of leases begin with.
pub(super) const LEASE: &str = "softmiss:lease:";

/// One command at the front of some bytes: its length, and what it did.
pub(super) struct Executed<'a> {
    pub(super) len: usize,
    pub(super) is_value: bool,
    pub(super) deed: Deed<'a>,
}

#[derive(Debug)]
pub(super) struct Store {
    /// For each key, its states and since when; the last is the present one.
    logs: Vec<Vec<(u64, State)>>,
    /// When it lost all that it had.
    losses: BTreeSet<u64>,
    /// When it carried out what it had received on connections that are gone: nobody was told of that.
    late: BTreeSet<u64>,
    /// How many copy a key to this server, by the names of the items that say so, and since when, in seconds.
    signs: BTreeMap<String, (Vec<u8>, u64)>,
    /// Until when leases hold, by their names, in seconds.
    leases: BTreeMap<String, u64>,
    /// How many were given.
    pub(super) given: u64,
    /// Copies of values, by their names.
    copies: BTreeMap<String, Item>,
    /// For each key all copies of its values, and when they were stored.
    copied: Vec<Vec<(u64, Vec<u8>)>>,
    unique: u64,
    /// How often it was started anew, and how long ago, in seconds.
    pub(super) process: u64,
    pub(super) uptime: u64,
    /// There is no memory: the next item is refused, and the old one is lost as in memcached.
    pub(super) full: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self::of(KEYS)
    }
}

impl Store {
    /// One that may hold so many keys.
    pub(super) fn of(keys: usize) -> Self {
        Self {
            logs: vec![vec![(0, None)]; keys],
            losses: BTreeSet::new(),
            late: BTreeSet::new(),
            signs: BTreeMap::new(),
            leases: BTreeMap::new(),
            given: 0,
            copies: BTreeMap::new(),
            copied: vec![Vec::new(); keys],
            unique: 0,
            process: 0,
            uptime: 0,
            full: false,
        }
    }

    /// The key of this name, which somebody of the simulation must have drawn.
    fn key(&self, name: &str) -> Key {
        let key = Key::named(name.as_bytes()).filter(|key| key.index() < self.logs.len());
        key.expect("a key of the simulation")
    }

    pub(super) fn clear(&mut self, tick: u64) {
        self.leases.clear();
        self.copies.clear();
        for log in self.logs.iter_mut().filter(|log| log.last().is_some_and(|(_, state)| state.is_some())) {
            log.push((tick, None));
        }
    }

    /// The states that a key was in at some time from `tick` on, latest first, and the ticks at which they came.
    pub(super) fn since(&self, key: Key, tick: u64) -> impl Iterator<Item = (u64, &State)> {
        let mut over = false;
        self.logs[key.index()].iter().rev().map(|(at, state)| (*at, state)).take_while(move |(at, _)| {
            let wanted = !over;
            over = *at <= tick;
            wanted
        })
    }

    /// Something is carried out of which nobody will be told.
    pub(super) fn is_late(&mut self, tick: u64) {
        self.late.insert(tick);
    }

    /// What a key had at `tick`, and before that as long as nobody was told what became of it, or it is passed over.
    pub(super) fn before(
        &self,
        key: Key,
        tick: u64,
        is_passed_over: impl Fn(u64, &State) -> bool,
    ) -> impl Iterator<Item = &State> {
        let log = &self.logs[key.index()];
        let mut over = false;
        log[..log.partition_point(|(at, _)| *at <= tick)]
            .iter()
            .rev()
            .take_while(move |(at, state)| {
                let is_known = !self.losses.contains(at) && !self.late.contains(at) && !is_passed_over(*at, state);
                !std::mem::replace(&mut over, is_known)
            })
            .map(|(_, state)| state)
    }

    /// What a key had when it was lost, if nothing but losses has become of it since, before `tick`.
    pub(super) fn lost_before(&self, key: Key, tick: u64) -> Option<&State> {
        let log = &self.logs[key.index()];
        let before = log.partition_point(|(at, _)| *at <= tick);
        let is_lost = |(at, state): &&(u64, State)| state.is_none() && self.losses.contains(at);
        let mut earlier = log[..before].iter().rev().peekable();
        earlier.peek().filter(|last| is_lost(last))?;
        earlier.find(|entry| !is_lost(entry)).map(|(_, state)| state)
    }

    /// Whether there was a copy of a value that `fits`, behind which nothing else has become of the key until `tick` but that it
    /// was lost.
    pub(super) fn was_left(&self, key: Key, tick: u64, fits: impl Fn(&[u8]) -> bool) -> bool {
        let is_left = |(copied, copy): &&(u64, Vec<u8>)| {
            let behind = self.logs[key.index()].iter().filter(|(at, _)| (copied + 1..=tick).contains(at));
            let mut others = behind.filter(|(at, state)| match state {
                Some(item) => item.value != *copy,
                None => !self.losses.contains(at),
            });
            others.next().is_none()
        };
        self.copied[key.index()].iter().filter(|(_, copy)| fits(copy)).any(|copy| is_left(&copy))
    }

    /// The item of a key is lost: it was over, or its memory was needed.
    pub(super) fn evict(&mut self, key: Key, tick: u64) -> bool {
        let known = self.remove(key, tick);
        if known {
            self.losses.insert(tick);
        }
        known
    }

    /// All is lost.
    pub(super) fn lose(&mut self, tick: u64) {
        self.losses.insert(tick);
        self.clear(tick);
    }

    /// What a key has now.
    pub(super) fn get(&self, key: Key) -> Option<&Item> {
        self.logs[key.index()].last().and_then(|(_, state)| state.as_deref())
    }

    fn put(&mut self, key: Key, flags: u32, value: Vec<u8>, tick: u64) {
        self.unique += 1;
        let item = Item { flags, value, unique: self.unique };
        self.logs[key.index()].push((tick, Some(Rc::new(item))));
    }

    fn remove(&mut self, key: Key, tick: u64) -> bool {
        let known = self.get(key).is_some();
        if known {
            self.logs[key.index()].push((tick, None));
        }
        known
    }

    /// Executes one whole command of canonical form and appends its response to `out`; `None` when it is not all there.
    pub(super) fn execute<'a>(&mut self, input: &'a [u8], tick: u64, out: &mut Vec<u8>) -> Option<Executed<'a>> {
        let end = memchr::memchr(b'\n', input)?.checked_sub(1)?;
        let line = std::str::from_utf8(&input[..end]).expect("commands of the simulation are text");
        let mut words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let noreply = words.last() == Some(&"noreply");
        if noreply {
            words.pop();
        }
        let mut len = end + 2;
        let block_len = match words[0] {
            "set" | "add" | "replace" | "append" | "prepend" | "cas" => Some(words[4].parse::<usize>().unwrap()),
            "ms" => Some(words[2].parse::<usize>().unwrap()),
            _ => None,
        };
        let mut block = &b""[..];
        if let Some(bytes) = block_len {
            if input.len() < len + bytes + 2 {
                return None;
            }
            block = &input[len..len + bytes];
            assert_eq!(&input[len + bytes..len + bytes + 2], b"\r\n", "a block without its end reached a server");
            len += bytes + 2;
        }
        let start = out.len();
        let (key, outcome) = if words[1..].first().is_some_and(|name| name.starts_with(LEASE)) {
            self.lease(&words, out);
            (None, Outcome::Told)
        } else if words[1..].first().is_some_and(|name| name.starts_with(STALE)) {
            self.copy(&words, block, tick, out);
            (None, Outcome::Told)
        } else if words[0].len() == 2 {
            self.meta(&words, block, tick, out)
        } else {
            self.classic(&words, block, tick, out)
        };
        let is_value = out[start..].starts_with(b"VA");
        if noreply {
            out.truncate(start);
        }
        // Only what the proxy copies says its flags.
        let is_copy = words[0] == "ms" && words.iter().any(|word| word.starts_with('F'));
        let verb = if is_copy { COPY } else { words[0] };
        Some(Executed { len, is_value, deed: Deed { verb, key, block, outcome } })
    }

    fn classic(&mut self, words: &[&str], block: &[u8], tick: u64, out: &mut Vec<u8>) -> (Option<Key>, Outcome) {
        let mut say = |text: &str| {
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        match words[0] {
            "get" | "gets" | "gat" | "gats" => {
                let keys = if words[0].starts_with("gat") { &words[2..] } else { &words[1..] };
                for name in keys {
                    let key = self.key(name);
                    if let Some(item) = self.get(key) {
                        write!(out, "VALUE {name} {} {}", item.flags, item.value.len()).unwrap();
                        if words[0].ends_with('s') {
                            write!(out, " {}", item.unique).unwrap();
                        }
                        out.extend_from_slice(b"\r\n");
                        out.extend_from_slice(&item.value);
                        out.extend_from_slice(b"\r\n");
                    }
                }
                out.extend_from_slice(b"END\r\n");
                (None, Outcome::Told)
            }
            "set" | "add" | "replace" | "append" | "prepend" | "cas" => {
                let flags = words[2].parse().unwrap();
                let unique = words.get(5).map(|unique| unique.parse().unwrap());
                let key = self.key(words[1]);
                let outcome = self.store(words[0], key, flags, unique, block, tick);
                say(match outcome {
                    Some(Outcome::Done) => "STORED",
                    Some(Outcome::Exists) => "EXISTS",
                    Some(Outcome::NotFound) => "NOT_FOUND",
                    Some(_) => "NOT_STORED",
                    None => "SERVER_ERROR out of memory storing object",
                });
                (Some(key), outcome.unwrap_or(Outcome::Told))
            }
            "delete" => {
                let key = self.key(words[1]);
                let known = self.remove(key, tick);
                say(if known { "DELETED" } else { "NOT_FOUND" });
                (Some(key), if known { Outcome::Done } else { Outcome::NotFound })
            }
            "touch" => {
                let key = self.key(words[1]);
                say(if self.get(key).is_some() { "TOUCHED" } else { "NOT_FOUND" });
                (Some(key), Outcome::Told)
            }
            "incr" => {
                let key = self.key(words[1]);
                match self.count(key, words[2].parse().unwrap(), tick) {
                    Ok(number) => say(&number.to_string()),
                    Err(what) => say(what),
                }
                (Some(key), Outcome::Told)
            }
            "flush_all" => {
                self.clear(tick);
                say("OK");
                (None, Outcome::Done)
            }
            "stats" => {
                say(&format!("STAT pid {}\r\nSTAT uptime {}\r\nSTAT cmd_get 1\r\nEND", self.process + 1, self.uptime));
                (None, Outcome::Told)
            }
            "version" => {
                say("VERSION 1.6.18");
                (None, Outcome::Told)
            }
            other => panic!("the simulation sends no {other}"),
        }
    }

    /// `None` when there is no memory.
    fn store(
        &mut self,
        verb: &str,
        key: Key,
        flags: u32,
        unique: Option<u64>,
        block: &[u8],
        tick: u64,
    ) -> Option<Outcome> {
        if std::mem::take(&mut self.full) {
            self.remove(key, tick);
            return None;
        }
        let (value, flags) = match (verb, self.get(key)) {
            ("set", _) | ("add", None) | ("replace", Some(_)) => (block.to_vec(), flags),
            ("append", Some(item)) => ([&item.value, block].concat(), item.flags),
            ("prepend", Some(item)) => ([block, &item.value].concat(), item.flags),
            ("cas", Some(item)) if Some(item.unique) == unique => (block.to_vec(), flags),
            ("cas", Some(_)) => return Some(Outcome::Exists),
            ("cas", None) => return Some(Outcome::NotFound),
            _ => return Some(Outcome::NotStored),
        };
        self.put(key, flags, value, tick);
        Some(Outcome::Done)
    }

    fn count(&mut self, key: Key, delta: u64, tick: u64) -> Result<u64, &'static str> {
        let item = self.get(key).ok_or("NOT_FOUND")?;
        let flags = item.flags;
        let number = item.number().ok_or("CLIENT_ERROR cannot increment or decrement non-numeric value")?;
        let number = number.wrapping_add(delta);
        self.put(key, flags, number.to_string().into_bytes(), tick);
        Ok(number)
    }

    /// A lease is asked for, or ended.
    fn lease(&mut self, words: &[&str], out: &mut Vec<u8>) {
        let now = self.uptime;
        self.leases.retain(|_, until| now < *until);
        out.extend_from_slice(match words[0] {
            "add" if self.leases.contains_key(words[1]) => b"NOT_STORED\r\n",
            "add" => {
                self.given += 1;
                self.leases.insert(words[1].to_owned(), now + words[3].parse::<u64>().unwrap());
                b"STORED\r\n"
            }
            "delete" if self.leases.remove(words[1]).is_some() => b"DELETED\r\n",
            "delete" => b"NOT_FOUND\r\n",
            other => panic!("nobody asks to {other} a lease"),
        });
    }

    /// A copy is stored or asked for.
    fn copy(&mut self, words: &[&str], block: &[u8], tick: u64, out: &mut Vec<u8>) {
        let (verb, name) = (words[0], words[1]);
        let there = self.copies.get(name);
        if verb == "mg" {
            let Some(item) = there else { return write!(out, "EN\r\n").unwrap() };
            if !words.contains(&"v") {
                return write!(out, "HD k{name} c{}\r\n", item.unique).unwrap();
            }
            write!(out, "VA {} k{name} f{} c{}\r\n", item.value.len(), item.flags, item.unique).unwrap();
            out.extend_from_slice(&item.value);
            return out.extend_from_slice(b"\r\n");
        }
        let said = match (verb, there) {
            ("add", Some(_)) => "NOT_STORED",
            ("cas", None) => "NOT_FOUND",
            ("cas", Some(item)) if words[5] != item.unique.to_string() => "EXISTS",
            ("set", _) | ("add", None) | ("cas", Some(_)) => {
                self.unique += 1;
                let flags = words[2].parse().unwrap();
                let key = self.key(&name[STALE.len()..]);
                self.copied[key.index()].push((tick, block.to_vec()));
                self.copies.insert(name.to_owned(), Item { flags, value: block.to_vec(), unique: self.unique });
                "STORED"
            }
            _ => panic!("nobody is to {verb} a copy"),
        };
        write!(out, "{said}\r\n").unwrap();
    }

    /// What is said, or asked, of those who copy a key.
    fn sign(&mut self, words: &[&str], block: &[u8], out: &mut Vec<u8>) {
        let now = self.uptime;
        self.signs.retain(|_, (_, since)| now < *since + 2);
        let has = |flag: &str| words.contains(&flag);
        let said: &[u8] = match (words[0], self.signs.get_mut(words[1])) {
            ("ms", None) if has("ME") => {
                self.signs.insert(words[1].to_owned(), (block.to_vec(), now));
                b"HD"
            }
            ("ms", Some((notes, _))) if has("MA") => {
                notes.extend_from_slice(block);
                b"HD"
            }
            ("ms", _) => b"NS",
            (_, None) => b"EN",
            (_, Some((_, since))) if has("T2") => {
                *since = now;
                b"HD"
            }
            (_, Some((notes, _))) => {
                write!(out, "VA {} k{}\r\n", notes.len(), words[1]).unwrap();
                out.extend_from_slice(notes);
                return out.extend_from_slice(b"\r\n");
            }
        };
        out.extend_from_slice(said);
        if words[0] == "mg" {
            write!(out, " k{}", words[1]).unwrap();
        }
        out.extend_from_slice(b"\r\n");
    }

    fn meta(&mut self, words: &[&str], block: &[u8], tick: u64, out: &mut Vec<u8>) -> (Option<Key>, Outcome) {
        if words[0] == "mn" {
            out.extend_from_slice(b"MN\r\n");
            return (None, Outcome::Told);
        }
        if words[1].starts_with("softmiss:moving:") {
            self.sign(words, block, out);
            return (None, Outcome::Told);
        }
        let key = self.key(words[1]);
        let flags = &words[if words[0] == "ms" { 3 } else { 2 }.min(words.len())..];
        let has = |letter: char| flags.iter().any(|flag| flag.starts_with(letter));
        let quiet = has('q');
        let echo = |out: &mut Vec<u8>, item: Option<&Item>| {
            for flag in flags {
                match (flag.as_bytes()[0], item) {
                    (b'k', _) => write!(out, " k{key}").unwrap(),
                    (b'O', _) => write!(out, " {flag}").unwrap(),
                    (b't', Some(_)) => write!(out, " t-1").unwrap(),
                    (b's', Some(item)) => write!(out, " s{}", item.value.len()).unwrap(),
                    (b'f', Some(item)) => write!(out, " f{}", item.flags).unwrap(),
                    (b'c', Some(item)) => write!(out, " c{}", item.unique).unwrap(),
                    _ => {}
                }
            }
            out.extend_from_slice(b"\r\n");
        };
        let line = |out: &mut Vec<u8>, code: &str, item: Option<&Item>| {
            out.extend_from_slice(code.as_bytes());
            echo(out, item);
        };
        let outcome = match words[0] {
            "mg" => {
                match self.get(key) {
                    None if quiet => {}
                    None => line(out, "EN", None),
                    Some(item) if has('v') => {
                        write!(out, "VA {}", item.value.len()).unwrap();
                        echo(out, Some(item));
                        out.extend_from_slice(&item.value);
                        out.extend_from_slice(b"\r\n");
                    }
                    Some(item) => line(out, "HD", Some(item)),
                }
                Outcome::Told
            }
            "ms" => {
                let verb = match flags.iter().find(|flag| flag.starts_with('M')) {
                    Some(&"ME") => "add",
                    Some(&"MR") => "replace",
                    _ => "set",
                };
                let of_client = flags.iter().find_map(|flag| flag.strip_prefix('F')?.parse().ok()).unwrap_or(0);
                let outcome = self.store(verb, key, of_client, None, block, tick);
                match outcome {
                    None => out.extend_from_slice(b"SERVER_ERROR out of memory storing object\r\n"),
                    Some(Outcome::Done) if quiet => {}
                    Some(Outcome::Done) => line(out, "HD", None),
                    Some(_) => line(out, "NS", None),
                }
                outcome.unwrap_or(Outcome::Told)
            }
            "md" => {
                let known = self.remove(key, tick);
                match known {
                    true if quiet => {}
                    true => line(out, "HD", None),
                    false => line(out, "NF", None),
                }
                if known { Outcome::Done } else { Outcome::NotFound }
            }
            "ma" => {
                match self.count(key, 1, tick) {
                    Err("NOT_FOUND") => line(out, "NF", None),
                    Err(error) => write!(out, "{error}\r\n").unwrap(),
                    Ok(_) if quiet => {}
                    Ok(number) if has('v') => {
                        write!(out, "VA {}", number.to_string().len()).unwrap();
                        echo(out, None);
                        write!(out, "{number}\r\n").unwrap();
                    }
                    Ok(_) => line(out, "HD", None),
                }
                Outcome::Told
            }
            other => panic!("the simulation sends no {other}"),
        };
        (Some(key), outcome)
    }
}

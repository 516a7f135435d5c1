//! The same load in Redis's protocol.

use std::io::Read;

use super::ledger::Outcome;
use super::load::{Asker, Trouble};

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

impl Asker {
    pub(super) fn ask_redis(&mut self) {
        match self.random.below(100) {
            0..30 => {
                let key = self.own_key();
                self.timed(&[key], |client| client.redis_set(key));
            }
            30..65 => {
                let key = if self.random.one_in(3) { self.any_key() } else { self.own_key() };
                self.timed(&[key], |client| client.redis_get(key));
            }
            65..80 => {
                let keys = self.some_keys();
                self.timed(&keys, |client| client.redis_mget(&keys));
            }
            80..90 => {
                let keys = self.some_keys();
                self.timed(&keys, |client| client.redis_transaction(&keys));
            }
            90..95 => {
                let keys = self.some_keys();
                self.timed(&keys, |client| client.redis_exists(&keys));
            }
            _ => {
                let key = self.own_key();
                self.timed(&[key], |client| client.redis_delete(key));
            }
        }
    }

    fn some_keys(&mut self) -> Vec<usize> {
        let mut keys: Vec<_> = (0..2 + self.random.below(10)).map(|_| self.any_key()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn name(&self, key: usize) -> Vec<u8> {
        self.book.keys[key].name.clone().into_bytes()
    }

    pub(super) fn redis_set(&mut self, key: usize) -> Result<Outcome, Trouble> {
        let (version, value) = self.next_value(key);
        self.send(&command(&[b"SET", &self.name(key), &value]))?;
        match self.line()?.as_str() {
            "+OK" => self.wrote(key, version, true),
            "$-1" => self.wrote(key, version, false),
            other => Err(Trouble::Wrong(format!("{other:?} to a SET"))),
        }
    }

    /// Reads what a key holds, and compares it with what may be there.
    fn element(&mut self, key: usize) -> Result<Option<u64>, Trouble> {
        let line = self.line()?;
        let found = match line.strip_prefix('$') {
            Some("-1") => None,
            Some(length) => Some(self.value(key, length)?),
            None => return Err(Trouble::Wrong(format!("{line:?} in place of a value"))),
        };
        self.check(key, found)?;
        Ok(found)
    }

    fn redis_get(&mut self, key: usize) -> Result<Outcome, Trouble> {
        self.send(&command(&[b"GET", &self.name(key)]))?;
        Ok(if self.element(key)?.is_some() { Outcome::Hit } else { Outcome::Miss })
    }

    /// Reads the values of keys; an error in place of one is told when all are read, so that the stream stays in step.
    fn elements(&mut self, keys: &[usize]) -> Result<Outcome, Trouble> {
        let (mut whole, mut error) = (true, None);
        for key in keys {
            match self.element(*key) {
                Ok(found) => whole &= found.is_some(),
                Err(Trouble::Error(line)) => error = Some(Trouble::Error(line)),
                Err(other) => return Err(other),
            }
        }
        error.map_or(Ok(if whole { Outcome::Hit } else { Outcome::Miss }), Err)
    }

    fn redis_mget(&mut self, keys: &[usize]) -> Result<Outcome, Trouble> {
        let names: Vec<_> = keys.iter().map(|key| self.name(*key)).collect();
        let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(names.iter().map(Vec::as_slice)).collect();
        self.send(&command(&words))?;
        self.head(keys.len())?;
        self.elements(keys)
    }

    fn head(&mut self, count: usize) -> Result<(), Trouble> {
        let line = self.line()?;
        if line == format!("*{count}") { Ok(()) } else { Err(Trouble::Wrong(format!("{line:?} in place of *{count}"))) }
    }

    /// `MULTI`, a `GET` of each key, `EXEC`: an element for each, whatever fails.
    fn redis_transaction(&mut self, keys: &[usize]) -> Result<Outcome, Trouble> {
        let mut request = command(&[b"MULTI"]);
        keys.iter().for_each(|key| request.extend_from_slice(&command(&[b"GET", &self.name(*key)])));
        request.extend_from_slice(&command(&[b"EXEC"]));
        self.send(&request)?;
        for number in 0..=keys.len() {
            let line = self.line()?;
            if line != if number == 0 { "+OK" } else { "+QUEUED" } {
                return Err(Trouble::Wrong(format!("{line:?} while queueing")));
            }
        }
        self.head(keys.len())?;
        self.elements(keys)
    }

    fn redis_exists(&mut self, keys: &[usize]) -> Result<Outcome, Trouble> {
        let names: Vec<_> = keys.iter().map(|key| self.name(*key)).collect();
        let words: Vec<&[u8]> = std::iter::once(&b"EXISTS"[..]).chain(names.iter().map(Vec::as_slice)).collect();
        self.send(&command(&words))?;
        let line = self.line()?;
        let count: Option<usize> = line.strip_prefix(':').and_then(|count| count.parse().ok());
        match count {
            Some(count) if count == keys.len() => Ok(Outcome::Hit),
            Some(count) if count < keys.len() => Ok(Outcome::Miss),
            _ => Err(Trouble::Wrong(format!("{line:?} to an EXISTS of {}", keys.len()))),
        }
    }

    fn redis_delete(&mut self, key: usize) -> Result<Outcome, Trouble> {
        self.send(&command(&[b"DEL", &self.name(key)]))?;
        let found = match self.line()?.as_str() {
            ":1" => true,
            ":0" => false,
            other => return Err(Trouble::Wrong(format!("{other:?} to a DEL"))),
        };
        self.deleted(key, found)
    }

    /// Whether the connection is still open and in step.
    pub(super) fn redis_is_in_step(&mut self) -> bool {
        let mut pong = [0; 7];
        self.send(&command(&[b"PING"])).is_ok() && self.stream.read_exact(&mut pong).is_ok() && &pong == b"+PONG\r\n"
    }
}

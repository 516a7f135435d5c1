//! Reading answers: where one ends, whether it can be one to its request, and what it says.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not expected is wrong, whatever it is")]

use super::client::{Ask, Asked, Pending};
use super::judge::{Judge, Seen};
use super::ledger::Moment;
use super::store::{Key, Outcome, State};

/// What the bytes at the front of a client's input are to its oldest request.
pub(super) enum Answered {
    /// Not a whole answer yet; useless to look again with fewer bytes than `need`.
    Not { need: usize },
    /// The answer to a later one: this one was answered by silence.
    Silently,
    /// Its answer.
    With { len: usize },
}

impl Pending {
    /// Checks the answer at the front of `input`.
    pub(super) fn check(&self, input: &[u8], judge: &mut Judge<'_>, uniques: &mut [u64]) -> Result<Answered, String> {
        let Some(end) = memchr::memchr(b'\n', input) else { return Ok(Answered::Not { need: input.len() + 1 }) };
        let len = end + 1;
        let line = input[..len].strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or("junk")?;
        let refused =
            line == "ERROR" || line.starts_with("CLIENT_ERROR") || line == "SERVER_ERROR object too large for cache";
        match &self.ask {
            Ask::Nonsense if refused => return Ok(Answered::With { len }),
            Ask::TooLarge if line.starts_with("SERVER_ERROR object") => return Ok(Answered::With { len }),
            Ask::Nonsense | Ask::TooLarge => return Err("a refusal was due".to_owned()),
            _ => {}
        }
        let large = line == "SERVER_ERROR object too large for cache";
        let unsent = self.sent.is_none()
            && (["STORED", "NOT_STORED", "NOT_FOUND", "SERVER_ERROR proxy out of memory"].contains(&line)
                || line.starts_with("NS")
                || line.starts_with("HD"));
        if (large || unsent)
            && judge.thrifty
            && let Ask::Store(id) | Ask::MetaStore { id, .. } = &self.ask
            && judge.ledger.write(*id).executed.is_none()
        {
            return Ok(Answered::With { len }); // there is no memory for the rest of it
        }
        let Some(sent) = self.sent else { return Err("was answered before it was sent".to_owned()) };
        if line.starts_with("SERVER_ERROR") && !(large && self.ask.is_quiet()) {
            if judge.miss_mode || large {
                return Err("an error in miss mode, or out of place".to_owned());
            }
            // Values of a long multi-get may stand before it, but then the line is not the first.
            return self.error(sent, judge).map(|()| Answered::With { len });
        }
        let not_mine = || Err("not its answer".to_owned());
        let told = match line {
            "STORED" => Outcome::Done,
            "EXISTS" => Outcome::Exists,
            "NOT_STORED" => Outcome::NotStored,
            "NOT_FOUND" => Outcome::NotFound,
            _ => Outcome::Told,
        };
        match &self.ask {
            Ask::Get { keys, unique } => return check_get(keys, *unique, sent, input, judge, uniques),
            Ask::Store(id) => {
                let cas = judge.ledger.write(*id).verb == "cas";
                match told {
                    Outcome::Done => {}
                    Outcome::NotStored if !cas => {}
                    Outcome::NotFound | Outcome::Exists if cas => {}
                    _ => return not_mine(),
                }
                judge.stored(*id, sent, told)?;
            }
            Ask::Delete(key) => match line {
                "DELETED" => judge.changed(*key, sent, true, |tick, state| state.is_none() && tick > sent.tick)?,
                "NOT_FOUND" => judge.changed(*key, sent, false, |_, state| state.is_none())?,
                _ => return not_mine(),
            },
            Ask::Touch(key) => match line {
                "TOUCHED" => judge.changed(*key, sent, true, |_, state| state.is_some())?,
                "NOT_FOUND" => judge.changed(*key, sent, false, |_, state| state.is_none())?,
                _ => return not_mine(),
            },
            Ask::Count(key) => match line {
                "NOT_FOUND" => judge.changed(*key, sent, false, |_, state| state.is_none())?,
                _ if line.starts_with("CLIENT_ERROR cannot increment") => no_number(*key, sent, judge)?,
                _ => counted(*key, sent, line, judge)?,
            },
            Ask::Barrier if line == "MN" => {}
            Ask::Flush if line == "OK" => check_flush(sent, judge)?,
            Ask::Barrier | Ask::Flush => return not_mine(),
            Ask::Stats => return check_stats(input),
            _ => return self.check_meta(input, line, len, sent, judge, uniques),
        }
        Ok(Answered::With { len })
    }

    /// An error line is what a failure becomes, and there must have been one.
    fn error(&self, sent: Moment, judge: &mut Judge<'_>) -> Result<(), String> {
        let keys: Vec<Key> = match &self.ask {
            Ask::Get { keys, .. } => keys.iter().map(|(key, _)| *key).collect(),
            Ask::Store(id) | Ask::MetaStore { id, .. } => vec![judge.ledger.write(*id).key],
            Ask::Delete(key) | Ask::Touch(key) | Ask::Count(key) => vec![*key],
            Ask::MetaGet { asked: (key, _), .. } | Ask::MetaDelete { key, .. } | Ask::MetaCount { key, .. } => {
                vec![*key]
            }
            Ask::Flush | Ask::Stats => return Ok(()),
            Ask::Barrier | Ask::Nonsense | Ask::TooLarge => return Err("an error from nowhere".to_owned()),
        };
        let exact = keys.iter().all(|key| judge.is_exact(*key, sent));
        if exact { Err("an error with no fault near".to_owned()) } else { Ok(()) }
    }

    fn check_meta(
        &self,
        input: &[u8],
        line: &str,
        len: usize,
        sent: Moment,
        judge: &mut Judge<'_>,
        uniques: &mut [u64],
    ) -> Result<Answered, String> {
        let (codes, token, named, key) = match &self.ask {
            Ask::MetaGet { asked: (key, _), named, token, value: true, .. } => (["VA", "EN", ""], token, *named, *key),
            Ask::MetaGet { asked: (key, _), named, token, .. } => (["HD", "EN", ""], token, *named, *key),
            Ask::MetaStore { id, named, token, .. } => (["HD", "NS", ""], token, *named, judge.ledger.write(*id).key),
            Ask::MetaDelete { key, token, .. } => (["HD", "NF", ""], token, false, *key),
            Ask::MetaCount { key, token } => (["VA", "NF", "CLIENT_ERROR"], token, false, *key),
            other => return Err(format!("no meta command: {other:?}")),
        };
        let code = line.split(' ').next().unwrap_or_default();
        let flag = |letter: char| line.split(' ').find_map(|word| word.strip_prefix(letter));
        // A meta response carries the token of its request, so silence can be told from another's answer.
        let same = flag('O').is_some_and(|known| known.parse() == Ok(*token)) || code == "CLIENT_ERROR";
        let mine = same && codes.contains(&code) && !code.is_empty();
        let hidden = if matches!(self.ask, Ask::MetaGet { .. }) { "EN" } else { "HD" };
        if self.ask.is_quiet() && (!mine || code == hidden) {
            match &self.ask {
                Ask::MetaGet { asked: (key, own), .. } => judge.read(*key, sent, *own, Seen::Miss)?,
                Ask::MetaStore { id, .. } => judge.stored(*id, sent, Outcome::Done)?,
                _ => judge.changed(key, sent, true, |tick, state| state.is_none() && tick > sent.tick)?,
            }
            return Ok(Answered::Silently);
        }
        if !mine {
            return Err("not its answer".to_owned());
        }
        if flag('k').is_some() != named && code != "CLIENT_ERROR" {
            return Err("a key that was not asked for, or none".to_owned());
        }
        let mut whole = len;
        let mut block = &b""[..];
        if code == "VA" {
            let bytes: usize = line.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or("no length")?;
            whole = len + bytes + 2;
            let Some(all) = input.get(len..whole) else { return Ok(Answered::Not { need: whole }) };
            block = all.strip_suffix(b"\r\n").ok_or("a block without its end")?;
        }
        let number = |letter| flag(letter).and_then(|text| text.parse::<u64>().ok());
        match &self.ask {
            Ask::MetaGet { asked: (key, own), .. } => {
                if let Some(unique) = number('c') {
                    uniques[key.index()] = unique;
                }
                let (flags, unique) = (number('f').map(|flags| flags as u32), number('c'));
                let seen = match code {
                    "EN" => Seen::Miss,
                    "VA" => Seen::Value { flags, unique, value: block },
                    _ => Seen::There { flags, unique, size: number('s').map(|size| size as usize) },
                };
                judge.read(*key, sent, *own, seen)?;
            }
            Ask::MetaStore { id, .. } => {
                judge.stored(*id, sent, if code == "HD" { Outcome::Done } else { Outcome::NotStored })?;
            }
            Ask::MetaDelete { key, .. } => match code {
                "HD" => judge.changed(*key, sent, true, |tick, state| state.is_none() && tick > sent.tick)?,
                _ => judge.changed(*key, sent, false, |_, state| state.is_none())?,
            },
            _ => match code {
                "VA" => counted(key, sent, std::str::from_utf8(block).map_err(|_| "junk")?, judge)?,
                "NF" => judge.changed(key, sent, false, |_, state| state.is_none())?,
                _ => no_number(key, sent, judge)?,
            },
        }
        Ok(Answered::With { len: whole })
    }
}

fn counted(key: Key, sent: Moment, number: &str, judge: &mut Judge<'_>) -> Result<(), String> {
    let number: u64 = number.parse().map_err(|_| "not a number".to_owned())?;
    let fits = |tick, state: &State| tick > sent.tick && state.as_ref().and_then(|item| item.number()) == Some(number);
    judge.changed(key, sent, true, fits)
}

fn no_number(key: Key, sent: Moment, judge: &mut Judge<'_>) -> Result<(), String> {
    judge.changed(key, sent, true, |_, state| state.as_ref().is_some_and(|item| item.number().is_none()))
}

fn check_get(
    keys: &[Asked],
    with_unique: bool,
    sent: Moment,
    input: &[u8],
    judge: &mut Judge<'_>,
    uniques: &mut [u64],
) -> Result<Answered, String> {
    let mut at = 0;
    let mut told = Vec::with_capacity(keys.len());
    let failed = loop {
        let rest = &input[at..];
        let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(Answered::Not { need: input.len() + 1 }) };
        let line = rest[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok()).ok_or("junk")?;
        if line == "END" {
            at += end + 1;
            break false;
        }
        // In error mode the values of live servers come first, then the error in place of END.
        if !judge.miss_mode && line.starts_with("SERVER_ERROR ") {
            at += end + 1;
            break true;
        }
        let mut words = line.split(' ');
        if words.next() != Some("VALUE") {
            return Err(format!("not a value: {line:?}"));
        }
        let key = words.next().and_then(|name| Key::parse(name.as_bytes())).ok_or("no key of anybody's")?;
        let flags = words.next().and_then(|word| word.parse().ok()).ok_or("no flags")?;
        let bytes: usize = words.next().and_then(|word| word.parse().ok()).ok_or("no length")?;
        let unique = words.next().map(|word| word.parse().map_err(|_| "no unique value")).transpose()?;
        if unique.is_some() != with_unique || words.next().is_some() {
            return Err(format!("not a value of this kind of get: {line:?}"));
        }
        let start = at + end + 1;
        let whole = start + bytes + 2;
        let Some(block) = input.get(start..whole) else { return Ok(Answered::Not { need: whole }) };
        let value = block.strip_suffix(b"\r\n").ok_or("a block without its end")?;
        told.push((key, Seen::Value { flags: Some(flags), unique, value }));
        at = whole;
    };
    // Values come in the order of the keys, misses left out.
    let mut told = told.into_iter().peekable();
    let mut seen = Vec::with_capacity(keys.len());
    for (key, own) in keys {
        let value = told.next_if(|(known, _)| known == key).map(|(_, value)| value);
        let value = value.unwrap_or(if failed { Seen::Unknown } else { Seen::Miss });
        if let Seen::Value { unique: Some(unique), .. } = value {
            uniques[key.index()] = unique;
        }
        seen.push((*key, *own, value));
    }
    if let Some((key, _)) = told.next() {
        return Err(format!("the key {key} was not asked for, or not here"));
    }
    for (key, own, seen) in seen {
        judge.read(key, sent, own, seen)?;
    }
    Ok(Answered::With { len: at })
}

/// `OK` to a flush: with no fault near, every server has been flushed since it was asked.
fn check_flush(sent: Moment, judge: &mut Judge<'_>) -> Result<(), String> {
    for index in 0..judge.servers.len() {
        let Some(key) = Key::all().find(|key| judge.homes[key.index()] == index) else { continue };
        if judge.is_exact(key, sent) && judge.servers[index].flushed.last().is_none_or(|tick| *tick < sent.tick) {
            return Err(format!("server {index} was not flushed"));
        }
    }
    Ok(())
}

fn check_stats(input: &[u8]) -> Result<Answered, String> {
    let mut at = 0;
    while let Some(end) = memchr::memchr(b'\n', &input[at..]) {
        let line = &input[at..at + end + 1];
        at += end + 1;
        if line == b"END\r\n" {
            return Ok(Answered::With { len: at });
        }
        if !line.starts_with(b"STAT ") {
            return Err(format!("not a statistic: {:?}", super::short(line)));
        }
    }
    Ok(Answered::Not { need: input.len() + 1 })
}

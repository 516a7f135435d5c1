//! Who wrote what: every value carries the number of its writing, and the ledger knows the rest.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Write as _;

use super::store::{Deed, Key, Outcome};

/// Numbers a writing.
pub(super) type WriteId = u32;

/// When something happened: its place in the order of all events, and the time in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) tick: u64,
    pub(super) time: u64,
}

/// A writing of a value.
#[derive(Debug, Clone)]
pub(super) struct Write {
    /// The name of the client.
    pub(super) client: usize,
    pub(super) key: Key,
    pub(super) verb: &'static str,
    /// Length of what pads the value.
    padding: usize,
    /// When its last byte was given to the engine, if it was.
    pub(super) sent: Option<Moment>,
    /// When, where and to what end a server carried it out.
    pub(super) executed: Option<(u64, usize, Outcome)>,
    /// When its client was told that it was done.
    pub(super) told: Cell<Option<u64>>,
}

/// A value's number is this far left in a counter, so that some increments leave it.
const NUMBER_SHIFT: u32 = 24;

/// A request that removes a key, or all.
#[derive(Debug)]
struct Removal {
    key: Option<Key>,
    /// When it was given to the engine.
    sent: u64,
    /// When its client was told that it is done.
    told: Cell<Option<u64>>,
}

/// Changes without a value of their own. They are counted: what is executed more often than it was asked was repeated.
const CHANGES: [&str; 5] = ["delete", "touch", "incr", "md", "ma"];

/// All writings of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Clients, by their names, of a pool that is served no longer: to them its servers are what they were, whoever comes and goes.
    pub(super) dismissed: BTreeSet<usize>,
    writes: Vec<Write>,
    removals: Vec<Removal>,
    /// For each of [`CHANGES`] and each key: how often it was asked, how often executed.
    changes: Vec<[(u64, u64); CHANGES.len()]>,
    forgets: bool,
    /// Passes with every event.
    pub(super) tick: u64,
}

impl Ledger {
    /// `forgets`: the proxy itself deletes keys that servers have missed.
    pub(super) fn new(forgets: bool) -> Self {
        Self { changes: vec![Default::default(); super::store::KEYS], forgets, ..Self::default() }
    }

    /// From now on the proxy itself deletes keys.
    pub(super) fn may_forget(&mut self) {
        self.forgets = true;
    }

    /// A new writing, not sent yet.
    pub(super) fn begin(&mut self, client: usize, key: Key, verb: &'static str, padding: usize) -> WriteId {
        self.writes.push(Write { client, key, verb, padding, sent: None, executed: None, told: Cell::default() });
        self.writes.len() as WriteId - 1
    }

    pub(super) fn write(&self, id: WriteId) -> &Write {
        &self.writes[id as usize]
    }

    pub(super) fn sent(&mut self, id: WriteId, moment: Moment) {
        self.writes[id as usize].sent = Some(moment);
    }

    /// A change without a value was sent.
    pub(super) fn asked(&mut self, verb: &str, key: Key) {
        if let Some(which) = CHANGES.iter().position(|known| *known == verb) {
            self.changes[key.index()][which].0 += 1;
        }
    }

    /// A client asks for a key to be removed, or all: returns its number.
    pub(super) fn removal(&mut self, key: Option<Key>) -> usize {
        self.removals.push(Removal { key, sent: self.tick, told: Cell::default() });
        self.removals.len() - 1
    }

    /// It has been told that it is done.
    pub(super) fn removal_told(&self, number: usize) {
        self.removals[number].told.set(Some(self.tick));
    }

    /// Whether a key that is gone since `at` may have been removed for somebody who had not been told of it by `tick`.
    pub(super) fn is_removal_untold(&self, key: Key, at: u64, tick: u64) -> bool {
        let mut removals = self.removals.iter().filter(|removal| removal.key.is_none_or(|of| of == key));
        removals.any(|removal| removal.sent <= at && removal.told.get().is_none_or(|told| told > tick))
    }

    /// The value of a writing.
    pub(super) fn value(&self, id: WriteId, out: &mut Vec<u8>) {
        let Write { key, padding, .. } = self.write(id);
        if key.is_counter() {
            write!(out, "{}", (u64::from(id) + 1) << NUMBER_SHIFT).unwrap();
        } else {
            write!(out, "[{key}|{id}|").unwrap();
            let letter = b'a' + (id % 26) as u8;
            out.resize(out.len() + padding, letter);
            out.push(b']');
        }
    }

    /// The latest writing of a client that is in a value, or, of a counter, that it was counted on from.
    pub(super) fn latest_of(&self, client: usize, key: Key, value: &[u8]) -> Option<WriteId> {
        let is_own = |id: &WriteId| self.writes.get(*id as usize).is_some_and(|write| write.client == client);
        ids_in(key, value).into_iter().filter(is_own).max()
    }

    /// The writings that are in a value.
    pub(super) fn writes_in(&self, key: Key, value: &[u8]) -> impl Iterator<Item = &Write> {
        ids_in(key, value).into_iter().filter_map(|id| self.writes.get(id as usize))
    }

    fn find(&self, deed: &Deed<'_>) -> Result<WriteId, String> {
        let nobody = || format!("a server was told to {} what nobody wrote: {:?}", deed.verb, super::short(deed.block));
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| nobody());
        let id = if deed.key.is_some_and(Key::is_counter) {
            let number = text(deed.block)?.parse::<u64>().map_err(|_| nobody())?;
            (number >> NUMBER_SHIFT).checked_sub(1).ok_or_else(nobody)?
        } else {
            let mark = text(&deed.block[..deed.block.len().min(40)])?;
            mark.split('|').nth(1).and_then(|id| id.parse().ok()).ok_or_else(nobody)?
        };
        let id = WriteId::try_from(id).map_err(|_| nobody())?;
        let known = self.writes.get(id as usize).ok_or_else(nobody)?;
        let mut value = Vec::new();
        self.value(id, &mut value);
        if Some(known.key) != deed.key || known.verb != deed.verb || value != deed.block {
            return Err(format!("{} (it says {known:?} of key {:?})", nobody(), deed.key));
        }
        Ok(id)
    }

    /// A server has carried out a command: somebody must have sent it, and a change must not be made twice.
    pub(super) fn executed(&mut self, server: usize, deed: &Deed<'_>) -> Result<Option<WriteId>, String> {
        let Some(key) = deed.key else { return Ok(None) };
        if let Some(which) = CHANGES.iter().position(|known| *known == deed.verb) {
            let (asked, done) = &mut self.changes[key.index()][which];
            *done += 1;
            return if done <= asked || (deed.verb == "delete" && self.forgets) {
                Ok(None)
            } else {
                Err(format!("{} {key} was carried out twice", deed.verb))
            };
        }
        if !matches!(deed.verb, "set" | "add" | "replace" | "append" | "prepend" | "cas" | "ms") {
            return Ok(None);
        }
        let id = self.find(deed)?;
        let tick = self.tick;
        let write = &mut self.writes[id as usize];
        if write.sent.is_none() {
            return Err(format!("a server carried out what was not sent whole: {write:?}"));
        }
        if let Some(before) = write.executed.replace((tick, server, deed.outcome)) {
            return Err(format!("a write was made twice: {write:?}, before {before:?}"));
        }
        Ok(Some(id))
    }
}

fn ids_in(key: Key, value: &[u8]) -> Vec<WriteId> {
    let Ok(text) = std::str::from_utf8(value) else { return Vec::new() };
    if !key.is_counter() {
        return text.split('[').filter_map(|mark| mark.split('|').nth(1)?.parse().ok()).collect();
    }
    let number = text.trim_end().parse::<u64>().ok();
    let id = number.and_then(|number| WriteId::try_from((number >> NUMBER_SHIFT).checked_sub(1)?).ok());
    id.into_iter().collect()
}

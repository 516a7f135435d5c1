//! Guarded changes: a client watches a key, reads it, and replaces what it has read, if nobody else has done so.
//!
//! What it had read goes into the ledger with the writing. The server that carries it out compares: whatever has become
//! of the watch meanwhile, a change of the key that the client has not seen must not be lost.

use super::client::Asked;
use super::draw::Draft;
use super::store::{Guard, State};
use super::world::World;

/// How far a client is.
#[derive(Debug, Clone, Default)]
pub(super) struct Guarding {
    pub(super) watched: Vec<Watched>,
    /// Things that it does between its reads and the transaction.
    pub(super) interludes: u64,
    /// It was told an error: it gives up.
    pub(super) failed: bool,
}

/// A key that is watched.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) database: usize,
    pub(super) key: String,
    /// What was read of it.
    pub(super) base: Option<State>,
}

impl World {
    /// `WATCH`, and reads of what is watched.
    pub(super) fn begin_guarding(&mut self, at: usize) {
        let group = self.random.below(3);
        let names = if self.random.one_in(4) { &["c", "d"][..] } else { &["c"] };
        let names: Vec<String> = names.iter().map(|name| format!("{{g{group}}}{name}")).collect();
        let database = self.customers[at].database;
        let watched = |key: &String| Watched { database, key: key.clone(), base: None };
        self.customers[at].guarding = Some(Guarding {
            watched: names.iter().map(watched).collect(),
            interludes: self.random.below(4).saturating_sub(1),
            failed: false,
        });
        let mut draft = Draft::default();
        let words: Vec<_> = std::iter::once("WATCH").chain(names.iter().map(String::as_str)).collect();
        draft.words(&words);
        self.expect(at, &mut draft, Asked::Watch);
        for name in &names {
            self.draw_get(at, &mut draft, name);
        }
        self.send(at, draft);
        self.count("watches");
    }

    /// Everything so far has been answered.
    pub(super) fn go_on(&mut self, at: usize) {
        let Some(guarding) = &mut self.customers[at].guarding else { return };
        let mut draft = Draft::default();
        if guarding.failed || guarding.watched.iter().any(|watched| watched.base.is_none()) || self.random.one_in(20) {
            self.customers[at].guarding = None;
            draft.words(&["UNWATCH"]);
            self.expect(at, &mut draft, Asked::Ok);
            return self.send(at, draft);
        }
        if guarding.interludes > 0 {
            guarding.interludes -= 1;
            match self.random.below(6) {
                0 | 1 => self.draw_pop(at, &mut draft),
                2 | 3 => self.draw_change(at, &mut draft),
                4 => self.draw_get(at, &mut draft, "key1"),
                _ => self.draw_set(at, &mut draft, "key2"),
            }
            return self.send(at, draft);
        }
        let guarding = guarding.clone();
        let guard = |watched: &Watched| Guard {
            database: watched.database,
            key: watched.key.clone(),
            state: watched.base.clone().flatten(),
        };
        self.draw_guarded(at, &mut draft, guarding.watched.iter().map(guard).collect());
        self.send(at, draft);
    }

    /// A transaction that replaces the first of the keys that are watched, or does nothing to it.
    pub(super) fn draw_guarded(&mut self, at: usize, draft: &mut Draft, guards: Vec<Guard>) {
        draft.words(&["MULTI"]);
        self.expect(at, draft, Asked::Ok);
        let mut parts = Vec::new();
        for _ in 0..self.random.below(2) {
            draft.words(&["PING"]);
            parts.push(Asked::Pong);
        }
        if !self.random.one_in(4) {
            let key = guards[0].key.clone();
            let (serial, value) = self.value(at, &key, guards);
            draft.words(&["SET", &key, &value]);
            parts.push(Asked::Set(serial));
        }
        parts.iter().for_each(|_| self.expect(at, draft, Asked::Queued));
        draft.words(&["EXEC"]);
        self.expect(at, draft, Asked::GuardedExec(parts));
    }
}

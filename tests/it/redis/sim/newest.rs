//! What was written last of each key, wherever: what is brought along to a server that was added must be that.

use std::collections::BTreeMap;

use super::store::{State, brief};
use super::world::World;

/// What was written last of a key, and by which server that was carried out.
#[derive(Debug, Clone, Default)]
struct Written {
    state: State,
    by: usize,
    /// It was brought along to where it is: the proxy may take that back, and what it was brought from has it still.
    brought: bool,
    /// It may have been removed: by the proxy, which took it back, or by a client that has not heard of it.
    may_be_removed: bool,
    /// It was brought along once more behind that.
    is_back: bool,
}

/// For each database and key what was written last.
#[derive(Debug, Default)]
pub(super) struct Newest(BTreeMap<(usize, Vec<u8>), Written>);

impl Newest {
    /// A server has stored a value. What was on its way when the key moved comes before what has been written at a later home:
    /// keys move only to servers that are added.
    pub(super) fn stored(&mut self, by: usize, database: usize, key: &[u8], value: &[u8]) {
        let newest = self.0.entry((database, key.to_vec())).or_default();
        if by >= newest.by {
            *newest = Written { state: Some(value.to_vec()), by, ..Written::default() };
        }
    }

    /// A key was removed at its home.
    pub(super) fn removed(&mut self, by: usize, database: usize, key: &[u8]) {
        let newest = self.0.entry((database, key.to_vec())).or_default();
        if newest.brought {
            (newest.may_be_removed, newest.is_back) = (true, false);
        } else {
            *newest = Written { by, ..Written::default() };
        }
    }

    /// A client has heard that it has removed a key.
    pub(super) fn removal_confirmed(&mut self, database: usize, key: &str) {
        if let Some(newest) = self.0.get_mut(&(database, key.as_bytes().to_vec()))
            && newest.may_be_removed
        {
            assert!(!newest.is_back, "{key} was brought along behind its removal");
            *newest = Written { by: newest.by, ..Written::default() };
        }
    }

    /// A server was flushed of a database.
    pub(super) fn flushed(&mut self, by: usize, database: usize) {
        let there = self.0.iter_mut().filter(|((of, _), newest)| *of == database && newest.by == by);
        there.for_each(|(_, newest)| newest.state = None);
    }
}

impl World {
    /// Whether a server is told to store what some server has stored before: no client says that.
    pub(super) fn is_brought_along(&self, server: usize, database: usize, words: &[Vec<u8>]) -> bool {
        let pool = self.nodes[server].pool;
        let written = self.ledger.written(&words[2], pool, database, &String::from_utf8_lossy(&words[1]));
        self.plan.grows
            && words.get(3).is_some_and(|word| word == b"NX")
            && written.is_ok_and(|serial| self.ledger.writes[serial].stored.is_some())
    }

    /// A server stores what is brought along: that must be what was written last.
    pub(super) fn bring(&mut self, server: usize, database: usize, key: &[u8], value: Vec<u8>) {
        let newest = self.newest.0.entry((database, key.to_vec())).or_default();
        assert_eq!(
            brief(Some(&value)),
            brief(newest.state.as_ref()),
            "what is brought along, and what was written last"
        );
        (newest.brought, newest.is_back) = (true, newest.may_be_removed);
        self.count("brought along");
        let tick = self.ledger.tick;
        self.nodes[server].databases[database].put(key, tick, Some(value));
        self.touch(server, database, key);
    }
}

//! Scripts that go in front of the first request for them on a connection.
//!
//! A request that comes back with `NOSCRIPT` could only be carried out behind what its client sent meanwhile. So a script
//! that is known here is loaded before it is asked for by its name. What a connection has been given its server has: one
//! that is started anew loses its connections.

use std::collections::{BTreeMap, VecDeque};

use super::input::{Call, Performed};
use super::script::Doubt;
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::request::Asked;
use crate::engine::ticket::{Marks, Ticket};
use crate::proto::resp::encode;
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Scripts that are remembered of one connection at most.
const COUNT_LIMIT: usize = 2000;

/// What each of them takes.
const TEXT_COST: usize = 48;

/// The scripts that were asked for on a connection, by the first 16 digits of their names.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    texts: BTreeMap<u64, Text>,
    /// How often servers had been made to forget their scripts when these were asked for.
    flushes: u64,
    /// Requests of which it is asked whether the server has their script, in the order of the questions.
    pub(super) doubts: VecDeque<Doubt>,
    /// Bytes that these hold.
    doubted: usize,
}

/// Where the text of a script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    /// The server has it.
    Loaded,
    /// This program did not have it, when its texts had this version.
    Unknown(u64),
}

impl Loaded {
    /// Memory that is held for what was asked, and that the requests hold of which something is asked.
    pub(crate) fn footprint(&self) -> usize {
        self.doubted + self.texts.len() * TEXT_COST
    }

    /// Nothing is to be made of the answer to a question about a request, if a ticket is one.
    pub(crate) fn drop_doubt(&mut self, ticket: Ticket) {
        drop(self.settle(ticket));
    }

    pub(super) fn doubt(&mut self, doubt: Doubt) {
        self.doubted += doubt.footprint();
        self.doubts.push_back(doubt);
    }

    /// The request that is in doubt if a ticket is the question about the first one.
    pub(super) fn settle(&mut self, ticket: Ticket) -> Option<Doubt> {
        let doubt = self.doubts.pop_front_if(|doubt| doubt.is_of(ticket))?;
        self.doubted -= doubt.footprint();
        Some(doubt)
    }

    /// A request says that the server does not have a script.
    pub(super) fn forget(&mut self, name: &[u8]) {
        if let Some(mark) = mark(name) {
            self.texts.remove(&mark);
        }
    }
}

/// A script's name, as far as it is needed to tell scripts apart here. `None` when it is no such name.
fn mark(name: &[u8]) -> Option<u64> {
    let digits = name.get(..16).filter(|_| name.len() == 40)?;
    digits.iter().try_fold(0, |mark, digit| Some(mark << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

impl Engine {
    /// Puts a request for a script on a connection, and the script in front of it if the connection has not had it.
    pub(super) fn enqueue_script(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        link: LinkId,
        call: Call<'_>,
        now: Instant,
    ) -> Performed {
        if call.command.name.starts_with("evalsha") {
            self.load_first(link, call.args.get(1), now);
        }
        self.enqueue(id, asked, marks, link, now, |out| out.extend_from_slice(call.raw));
        Performed::Done
    }

    fn load_first(&mut self, id: LinkId, name: &[u8], now: Instant) {
        let Some(mark) = mark(name) else { return };
        let version = self.redis.scripts.version();
        let pool = self.links[id.index()].pool;
        let flushes = self.redis.scripts.flushes();
        let Loaded { texts: known, flushes: seen, .. } = &mut self.links[id.index()].queue.scripts;
        if *seen != flushes {
            *seen = flushes;
            known.clear();
        }
        if known.get(&mark).is_some_and(|text| matches!(text, Text::Loaded) || *text == Text::Unknown(version)) {
            return;
        }
        if known.len() >= COUNT_LIMIT {
            known.clear();
        }
        let text = self.redis.scripts.find(pool, name);
        known.insert(mark, if text.is_some() { Text::Loaded } else { Text::Unknown(version) });
        if let Some(text) = text {
            self.ask(id, Verb::Command, Marks::NONE, now, |out| encode::words(out, &[b"SCRIPT", b"LOAD", &text]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_whatever_their_case() {
        let name = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(mark(name), Some(0xe0e1_f9fa_bfc9_d480));
        assert_eq!(mark(&name.to_ascii_uppercase()), mark(name));
        assert_eq!(mark(b"ff"), None);
        assert_eq!(mark(&[b'g'; 40]), None);
    }
}

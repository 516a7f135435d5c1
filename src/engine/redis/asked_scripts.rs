//! The scripts that were asked for on one connection, and the requests of which it is not known whether their server has
//! the script.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::servers::ticket::{Asker, Ticket};

/// What each of them takes.
const TEXT_COST: usize = 48;

/// The scripts that were asked for on a connection, by the first 16 digits of their names.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(super) texts: BTreeMap<u64, Text>,
    /// How often servers had been made to forget their scripts when these were asked for.
    pub(super) flushes: u64,
    /// Requests of which it is asked whether the server has their script, in the order of the questions.
    doubts: VecDeque<Doubt>,
    /// Bytes that these hold.
    doubted: usize,
}

/// Where the text of a script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
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

    /// Whether something is asked about a request.
    #[inline]
    pub(crate) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
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
pub(super) fn mark(name: &[u8]) -> Option<u64> {
    let digits = name.get(..16).filter(|_| name.len() == 40)?;
    digits.iter().try_fold(0, |mark, digit| Some(mark << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

/// A request for a script that was answered with `NOSCRIPT`.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) of: Asker,
    /// The same with the script in it.
    pub(super) request: Vec<u8>,
    /// What was answered.
    pub(super) said: Vec<u8>,
}

impl Doubt {
    fn is_of(&self, ticket: Ticket) -> bool {
        self.of == ticket.asker
    }

    const fn footprint(&self) -> usize {
        self.request.len() + self.said.len()
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

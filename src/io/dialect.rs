//! What a client speaks, where the engine speaks something else.

use crate::proto::memcache::binary::{MAGIC, Translator, Unexpected};

/// Bytes of translated answers that wait for a client before more are translated.
const FULL: usize = 64 << 10;

/// Capacity that is kept for answers.
const KEPT: usize = 4 << 10;

/// The translation of what a client says that begins with `first`, if it does not speak what the engine does.
pub(super) fn told_by(first: u8, is_memcached: bool) -> Option<Box<Binary>> {
    (is_memcached && first == MAGIC).then(Box::default)
}

/// Between a client of memcached's binary protocol and the engine.
#[derive(Debug, Default)]
pub(super) struct Binary {
    translator: Translator,
    /// Answers that the client has not been given, from `written` on.
    answers: Vec<u8>,
    written: usize,
}

impl Binary {
    /// What the engine is asked by what the client has sent; put in the place of what `text` held.
    pub(super) fn ask(&mut self, sent: &[u8], text: &mut Vec<u8>) {
        text.clear();
        self.translator.ask(sent, text);
    }

    /// Whether more of the engine's answers are to be translated.
    pub(super) fn has_room(&self) -> bool {
        self.answers.len() < FULL
    }

    /// Takes answers of the engine.
    pub(super) fn answer(&mut self, text: &[u8]) -> Result<(), Unexpected> {
        self.translator.answer(text, &mut self.answers)
    }

    /// What is to be written to the client.
    pub(super) fn output(&self) -> &[u8] {
        &self.answers[self.written..]
    }

    /// So many bytes of that were.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.answers.len() {
            self.answers.clear();
            self.answers.shrink_to(KEPT);
            self.written = 0;
        }
    }

    /// Whether the client has got everything that it has asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.answers.is_empty() && self.translator.is_idle()
    }

    /// Whether a request has begun of which not all has come.
    pub(super) fn has_begun(&self) -> bool {
        self.translator.has_begun()
    }
}

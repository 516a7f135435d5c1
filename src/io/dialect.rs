//! What a client speaks, where the engine speaks something else.

use crate::proto::memcache::binary::{MAGIC, Translator, Unexpected};

/// Bytes of answers that are translated at a time. Nobody counts the memory of what comes of them.
const PORTION: usize = 16 << 10;

/// Memory for what has been asked and not answered, from which on no more is read.
const FULL: usize = 64 << 10;

/// Capacity that is kept for answers.
const KEPT: usize = 1 << 10;

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
    /// Bytes of the engine's answers that they are made of. They stay the engine's until these are written.
    source: usize,
}

impl Binary {
    /// What the engine is asked by what the client has sent; put in the place of what `text` held.
    pub(super) fn ask(&mut self, sent: &[u8], text: &mut Vec<u8>) {
        text.clear();
        self.translator.ask(sent, text);
    }

    /// Makes something ready to be written, if nothing is, of these answers of the engine. Says of how many bytes of them
    /// nothing is to be written.
    pub(super) fn make_ready(&mut self, text: &[u8]) -> Result<usize, Unexpected> {
        if !self.answers.is_empty() {
            return Ok(0);
        }
        let text = &text[..text.len().min(PORTION)];
        self.translator.answer(text, &mut self.answers)?;
        if self.answers.is_empty() {
            return Ok(text.len());
        }
        self.source = text.len();
        Ok(0)
    }

    /// What is to be written to the client.
    pub(super) fn output(&self) -> &[u8] {
        &self.answers[self.written..]
    }

    /// So many bytes of that were written; says how many of the engine's answers are done with.
    pub(super) fn wrote(&mut self, count: usize) -> usize {
        self.written += count;
        if self.written < self.answers.len() {
            return 0;
        }
        self.answers.clear();
        self.answers.shrink_to(KEPT);
        self.written = 0;
        std::mem::take(&mut self.source)
    }

    /// Whether so much is to be answered that no more is to be read.
    pub(super) fn is_full(&self) -> bool {
        self.translator.footprint() > FULL
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

//! What a client speaks, where the engine speaks something else.

use crate::proto::memcache::binary::{MAGIC, Translator, Unexpected};
use crate::proto::memcache::door::Door;
use crate::proto::memcache::guard::Guard;

/// Bytes of answers that are translated at a time. Nobody counts the memory of what comes of them.
const PORTION: usize = 16 << 10;

/// Memory for what has been asked and not answered, from which on no more is read.
const FULL: usize = 64 << 10;

/// Capacity that is kept for answers.
const KEPT: usize = 4 << 10;

/// What a client has said of who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It does not have to say it.
    Free,
    /// It has still to say it.
    Asked,
    /// It has said it, or came before that was asked for.
    Admitted,
}

/// The translation of what a client says that begins with `first`, if it does not speak what the engine does, or has to say
/// who it is first.
pub(super) fn told_by(first: u8, is_memcached: bool, admission: Admission) -> Option<Box<Dialect>> {
    let speaker = match admission {
        _ if !is_memcached => return None,
        Admission::Free if first == MAGIC => Speaker::Binary(Translator::new()),
        _ if first == MAGIC => Speaker::Binary(Translator::guarded(admission == Admission::Admitted)),
        Admission::Asked => Speaker::Door(Door::default()),
        Admission::Free | Admission::Admitted => return None,
    };
    Some(Box::new(Dialect { speaker, answers: Vec::new(), written: 0, source: 0 }))
}

/// Between the engine and a client that speaks something else, or may not speak to it yet.
#[derive(Debug)]
pub(super) struct Dialect {
    speaker: Speaker,
    /// Answers that the client has not been given, from `written` on.
    answers: Vec<u8>,
    written: usize,
    /// Bytes of the engine's answers that they are made of. They stay the engine's until these are written.
    source: usize,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few doors, and none for long")]
enum Speaker {
    /// A client of memcached's binary protocol.
    Binary(Translator),
    /// One of the text protocol that has not said who it is.
    Door(Door),
}

impl Dialect {
    /// What the engine is asked by what the client has sent; put in the place of what `text` held.
    pub(super) fn ask(&mut self, sent: &[u8], text: &mut Vec<u8>) {
        text.clear();
        if let Speaker::Binary(translator) = &mut self.speaker {
            translator.ask(sent, text);
        }
    }

    /// As [`Dialect::ask`], of one whose client may have to say who it is.
    #[cold]
    pub(super) fn ask_guarded(&mut self, sent: &[u8], text: &mut Vec<u8>, guard: Guard<'_>) {
        text.clear();
        match &mut self.speaker {
            Speaker::Binary(translator) => translator.ask_guarded(sent, text, guard),
            Speaker::Door(door) => {
                let taken = door.ask(sent, guard, &mut self.answers);
                text.extend_from_slice(if door.is_over() { b"quit\r\n" } else { &sent[taken..] });
            }
        }
    }

    /// Whether what the client says is looked at for who it is.
    pub(super) fn is_guarded(&self) -> bool {
        match &self.speaker {
            Speaker::Binary(translator) => translator.is_guarded(),
            Speaker::Door(_) => true,
        }
    }

    /// Whether the client may ask anything.
    pub(super) fn is_admitted(&self) -> bool {
        match &self.speaker {
            Speaker::Binary(translator) => translator.is_admitted(),
            Speaker::Door(door) => door.is_open(),
        }
    }

    /// What was refused to it, for want of who it is, since this was last asked.
    pub(super) fn take_denied(&mut self) -> u64 {
        match &mut self.speaker {
            Speaker::Binary(translator) => translator.take_denied(),
            Speaker::Door(door) => door.take_denied(),
        }
    }

    /// Whether its client speaks to the engine itself from here on.
    pub(super) fn is_over(&self) -> bool {
        self.answers.is_empty() && matches!(&self.speaker, Speaker::Door(door) if door.is_open())
    }

    /// Makes something ready to be written, if nothing is, of these answers of the engine. Says of how many bytes of them
    /// nothing is to be written.
    pub(super) fn make_ready(&mut self, text: &[u8]) -> Result<usize, Unexpected> {
        if !self.answers.is_empty() {
            return Ok(0);
        }
        let text = &text[..text.len().min(PORTION)];
        match &mut self.speaker {
            Speaker::Binary(translator) => translator.answer(text, &mut self.answers)?,
            Speaker::Door(_) => self.answers.extend_from_slice(text),
        }
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
        match &self.speaker {
            Speaker::Binary(translator) => translator.footprint() > FULL,
            Speaker::Door(_) => self.answers.len() > FULL,
        }
    }

    /// Whether the client has got everything that it has asked for.
    pub(super) fn is_idle(&self) -> bool {
        let is_idle = match &self.speaker {
            Speaker::Binary(translator) => translator.is_idle(),
            Speaker::Door(_) => true,
        };
        self.answers.is_empty() && is_idle
    }

    /// Whether a request has begun of which not all has come.
    pub(super) fn has_begun(&self) -> bool {
        match &self.speaker {
            Speaker::Binary(translator) => translator.has_begun(),
            Speaker::Door(door) => door.has_begun(),
        }
    }
}

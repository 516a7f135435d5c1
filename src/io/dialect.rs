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
    Some(Box::new(Dialect { speaker, answers: Vec::new(), written: 0, source: 0, is_broken: false }))
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
    /// What was answered is not what was asked for: nothing more may be told.
    is_broken: bool,
}

#[derive(Debug)]
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
        if self.is_broken {
            return Err(Unexpected);
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

    /// An answer of the engine that is the only one, in pieces, becomes what `write` writes of it. Says whether the engine is
    /// done with it; otherwise it is to be kept as all others are, behind which nothing has been made ready.
    pub(super) fn offer(&mut self, pieces: [&[u8]; 2], write: impl FnOnce(&[u8]) -> usize) -> bool {
        let Speaker::Binary(translator) = &mut self.speaker else { return false };
        let len = pieces[0].len() + pieces[1].len();
        if !self.answers.is_empty() || self.is_broken || len > PORTION {
            return false;
        }
        self.is_broken = pieces.iter().any(|piece| translator.answer(piece, &mut self.answers).is_err());
        if self.is_broken {
            return false;
        }
        let count = if self.answers.is_empty() { 0 } else { write(&self.answers) };
        let is_done = count == self.answers.len();
        if is_done {
            self.forget_answers();
        } else {
            (self.written, self.source) = (count, len);
        }
        is_done
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
        self.forget_answers();
        std::mem::take(&mut self.source)
    }

    fn forget_answers(&mut self) {
        self.answers.clear();
        self.answers.shrink_to(KEPT);
        self.written = 0;
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

#[cfg(test)]
mod tests {
    use super::*;

    const NO_OP: [u8; 24] = [0x80, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];

    fn binary() -> (Box<Dialect>, Vec<u8>) {
        let mut dialect = told_by(MAGIC, true, Admission::Free).unwrap();
        let mut text = Vec::new();
        dialect.ask(&[NO_OP, NO_OP].concat(), &mut text);
        assert_eq!(text, b"mn\r\nmn\r\n");
        (dialect, text)
    }

    #[test]
    fn what_the_client_does_not_take_at_once_of_an_offer_is_kept_and_not_made_twice() {
        for taken in [0, 5, 23] {
            let (mut dialect, _) = binary();
            let mut written = Vec::new();
            let is_done = dialect.offer([b"MN", b"\r\n"], |answer| {
                written.extend_from_slice(&answer[..taken]);
                taken
            });
            assert!(!is_done);
            assert!(!dialect.offer([b"MN\r\n", b""], |_| unreachable!()), "there is something in front of it");
            // The engine keeps what it has offered, and more comes behind that.
            let kept = b"MN\r\nMN\r\n";
            assert_eq!(dialect.make_ready(kept), Ok(0));
            written.extend_from_slice(dialect.output());
            assert_eq!(written.len(), 24);
            assert_eq!(dialect.wrote(24 - taken), 4, "of the engine's are done with");
            assert_eq!(dialect.make_ready(&kept[4..]), Ok(0));
            assert_eq!(dialect.output().len(), 24);
            assert_eq!(dialect.wrote(24), 4);
            assert!(dialect.is_idle());
        }
    }

    #[test]
    fn an_offer_that_is_taken_whole_leaves_nothing_behind() {
        let (mut dialect, _) = binary();
        assert!(dialect.offer([b"MN\r\n", b""], <[u8]>::len));
        assert!(dialect.offer([b"M", b"N\r\n"], <[u8]>::len));
        assert!(dialect.is_idle());
        assert_eq!(dialect.make_ready(b""), Ok(0));
    }

    #[test]
    fn an_offer_that_is_no_answer_ends_the_connection() {
        let (mut dialect, _) = binary();
        assert!(!dialect.offer([b"END\r\n", b""], |_| unreachable!()));
        assert_eq!(dialect.make_ready(b"END\r\n"), Err(Unexpected));
    }
}

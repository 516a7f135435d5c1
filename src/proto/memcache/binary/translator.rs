//! What stands between a client of the binary protocol and what serves clients of the text protocol.

use super::answer;
pub use super::answer::Unexpected;
use super::ask;
use super::expected::Queue;
use crate::proto::memcache::guard::Guard;

/// What a client of the binary protocol has asked, and what is to become of the answers.
#[derive(Debug, Default)]
pub struct Translator {
    asking: ask::State,
    expected: Queue,
    answering: answer::State,
}

impl Translator {
    /// For a connection that has said nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For one whose client has to say who it is, unless it is known to have.
    #[must_use]
    pub fn guarded(is_admitted: bool) -> Self {
        Self { asking: ask::State::guarded(is_admitted), ..Self::default() }
    }

    /// Takes what the client has sent, and appends what that asks in text.
    pub fn ask(&mut self, sent: &[u8], text: &mut Vec<u8>) {
        self.asking.ask(sent, text, &mut self.expected, None);
    }

    /// As [`Translator::ask`], where clients have to say who they are; everybody may come in if there is nobody who looks.
    pub fn ask_guarded(&mut self, sent: &[u8], text: &mut Vec<u8>, guard: Guard<'_>) {
        self.asking.heed(guard);
        self.asking.ask(sent, text, &mut self.expected, guard);
    }

    /// Whether what the client says is looked at for who it is.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        self.asking.is_guarded()
    }

    /// Whether it may ask anything.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.asking.is_admitted()
    }

    /// Requests, and attempts to say who it is, that were refused since this was last asked.
    pub fn take_denied(&mut self) -> u64 {
        self.asking.take_denied()
    }

    /// Takes what answers the text of [`Translator::ask`], and appends what the client is told.
    ///
    /// # Errors
    ///
    /// When it cannot be an answer to what was asked. Nothing more may be told then.
    pub fn answer(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Unexpected> {
        self.answering.answer(text, out, &mut self.expected)
    }

    /// Memory that is taken by what is expected and by what has come of it, about: more is to be asked when it is less.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.expected.footprint() + self.answering.footprint()
    }

    /// Whether a request has begun of which not all has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.asking.has_begun()
    }

    /// Whether nothing is under way: no request has begun, and each has been answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.has_begun() && self.expected.is_empty() && self.answering.is_between()
    }
}

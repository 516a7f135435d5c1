//! Clients that say who they are (SASL). There is one way to: `PLAIN`, a user and the password.
//!
//! As memcached with `-S`: what is asked before is refused, and ends the connection; whoever begins again, or asks for the ways
//! there are, has to say it again.

use super::expected::{Answer, Words};
use super::packet::{Header, Status};
use crate::proto::memcache::guard::{Guard, LONGEST};

const LIST: u8 = 0x20;
const AUTH: u8 = 0x21;
const STEP: u8 = 0x22;
const VERSION: u8 = 0x0b;

/// The one way there is.
const PLAIN: &str = "PLAIN";

/// Longest name of a way.
const LONGEST_NAME: usize = 32;

/// From so many bytes on memcached has no room for what is said.
const NO_ROOM: usize = 512 << 10;

impl Words {
    /// What memcached says.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Ways => PLAIN,
            Self::Admitted => "Authenticated",
        }
    }
}

/// How far a client has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sasl {
    pub(super) is_admitted: bool,
    /// It has named the way, and has still to say who it is.
    has_begun: bool,
    /// What was refused since that was last asked.
    pub(super) denied: u64,
}

/// What becomes of a request that is looked at here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered so, and what it says is read over.
    Answer(Answer),
    /// It is answered so, when all that it says is there.
    Whole,
    /// It is refused, and the connection ends.
    End(Status),
}

impl Sasl {
    pub(super) const fn new(is_admitted: bool) -> Self {
        Self { is_admitted, has_begun: false, denied: 0 }
    }

    /// Whether a request is looked at here before anywhere else.
    pub(super) const fn heeds(&self, opcode: u8) -> bool {
        matches!(opcode, LIST..=STEP) || (!self.is_admitted && opcode != VERSION)
    }

    /// What becomes of a request, as far as its header tells.
    pub(super) fn judge(&mut self, header: &Header) -> Verdict {
        let Header { opcode, key, extras, body, .. } = *header;
        if key + extras > body {
            return Verdict::End(Status::UnknownCommand);
        }
        match opcode {
            LIST if body == 0 => {
                self.is_admitted = false;
                Verdict::Answer(Answer::Words(Words::Ways))
            }
            AUTH | STEP if extras == 0 && (1..=super::super::KEY_LIMIT).contains(&key) => match body - key {
                _ if key > LONGEST_NAME => Verdict::Answer(Answer::Known(Status::Invalid)),
                said if said <= LONGEST => Verdict::Whole,
                ..NO_ROOM => {
                    self.is_admitted = false;
                    self.has_begun &= opcode == STEP;
                    Verdict::Answer(Answer::Known(self.deny()))
                }
                _ => Verdict::Answer(Answer::Known(Status::OutOfMemory)),
            },
            LIST..=STEP => Verdict::End(Status::Invalid),
            _ => Verdict::End(self.deny()),
        }
    }

    /// A client says who it is, in the way that it names.
    pub(super) fn hear(&mut self, opcode: u8, way: &[u8], said: &[u8], guard: Guard<'_>) -> Answer {
        self.is_admitted = false;
        let begins = opcode == AUTH;
        if begins {
            self.has_begun = way.eq_ignore_ascii_case(PLAIN.as_bytes());
        }
        if !self.has_begun {
            return Answer::Known(self.deny());
        }
        if begins && said.is_empty() {
            return Answer::Known(Status::Continue);
        }
        self.is_admitted = is_right(said, guard);
        // Who was asked to go on may try again.
        self.has_begun &= !self.is_admitted && !begins;
        if self.is_admitted { Answer::Words(Words::Admitted) } else { Answer::Known(self.deny()) }
    }

    fn deny(&mut self) -> Status {
        self.denied += 1;
        Status::NotAdmitted
    }
}

/// How many bytes of such a request are looked at together, its header aside.
pub(super) const fn needed(header: &Header) -> Option<usize> {
    let is_whole = matches!(header.opcode, AUTH | STEP) && header.body <= LONGEST + LONGEST_NAME;
    if is_whole { Some(header.body) } else { None }
}

/// Whether this is a user and the password: on whose behalf, who, and the password, with a NUL in front of the second and the
/// third. Nobody comes in on behalf of somebody else.
fn is_right(said: &[u8], guard: Guard<'_>) -> bool {
    let mut parts = said.split(|byte| *byte == 0);
    let (Some(behalf), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    (behalf.is_empty() || behalf == user) && guard.is_some_and(|admits| admits(user, password))
}

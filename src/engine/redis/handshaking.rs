//! A handshake under way.

use super::Profile;
use crate::config::model::RedisSettings;
use crate::proto::resp::reply::{Scan, Scanned, end};
use crate::proto::resp::{Version, encode};

/// What a server is asked to agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// `AUTH`.
    Password,
    /// `HELLO`.
    Protocol,
    /// `SELECT`.
    Database,
    /// `CLIENT TRACKING`.
    Tracking,
}

impl Term {
    /// A word for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Protocol => "protocol",
            Self::Database => "database",
            Self::Tracking => "tracking",
        }
    }
}

/// Longest handshake answer that is put into the log, in bytes.
pub(super) const TOLD: usize = 120;

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(super) request: Vec<u8>,
    pub(super) written: usize,
    /// What has not been answered.
    pub(super) terms: Vec<Term>,
    pub(super) answer: Vec<u8>,
}

impl Handshake {
    /// What has to be said on a fresh connection; `None` when there is nothing.
    pub(super) fn new(settings: &RedisSettings, profile: Profile) -> Option<Self> {
        let mut handshake = Self { request: Vec::new(), written: 0, terms: Vec::new(), answer: Vec::new() };
        let request = &mut handshake.request;
        if let Some(password) = &settings.auth {
            match &settings.user {
                Some(user) => encode::words(request, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
                None => encode::words(request, &[b"AUTH", password.as_bytes()]),
            }
            handshake.terms.push(Term::Password);
        }
        if profile.version == Version::Resp3 {
            encode::words(request, &[b"HELLO", b"3"]);
            handshake.terms.push(Term::Protocol);
        }
        if profile.database != 0 {
            encode::words(request, &[b"SELECT", profile.database.to_string().as_bytes()]);
            handshake.terms.push(Term::Database);
        }
        if profile.tracks {
            encode::words(request, &[b"CLIENT", b"TRACKING", b"ON"]);
            handshake.terms.push(Term::Tracking);
        }
        (!handshake.terms.is_empty()).then_some(handshake)
    }

    /// What is left to be written of it.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.request[self.written..]
    }

    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Takes bytes of the server. `Ok(true)` when it has agreed to everything.
    pub(super) fn hear(&mut self, data: &[u8]) -> Result<bool, (Term, Vec<u8>)> {
        self.answer.extend_from_slice(data);
        while let Some(term) = self.terms.first().copied() {
            match Scan::new(1).advance(&self.answer) {
                Scanned::Complete { len } if self.answer[0] != b'-' => {
                    self.answer.drain(..len);
                    self.terms.remove(0);
                }
                Scanned::Incomplete { .. } if self.answer.len() < 64 << 10 => return Ok(false),
                Scanned::Incomplete { .. } | Scanned::Broken | Scanned::Complete { .. } => {
                    let text = self.answer[..end(&self.answer).min(TOLD)].to_vec();
                    return Err((term, text));
                }
            }
        }
        // Nothing else was asked yet.
        if self.answer.is_empty() { Ok(true) } else { Err((Term::Protocol, std::mem::take(&mut self.answer))) }
    }
}

//! A handshake under way.

use super::Profile;
use crate::config::model::RedisSettings;
use crate::proto::resp::reply::{self, Reply, Scan, Scanned, end};
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

impl Term {
    /// Whether a server agrees that answers this, and not to something else.
    fn is_agreed(self, answer: &[u8]) -> bool {
        match self {
            Self::Protocol => {
                let said = reply::items(answer).map(|items| items.map(reply::read).collect::<Vec<_>>());
                let version = |pair: &[Reply<'_>]| match pair {
                    [Reply::Bulk(b"proto"), Reply::Integer(version)] => Some(*version),
                    _ => None,
                };
                said.is_some_and(|said| said.chunks(2).find_map(version).is_none_or(|version| version == 3))
            }
            Self::Password | Self::Database | Self::Tracking => answer == b"+OK\r\n",
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
                // A message: it is nobody's yet.
                Scanned::Complete { len } if self.answer[0] == b'>' => drop(self.answer.drain(..len)),
                Scanned::Complete { len } if term.is_agreed(&self.answer[..len]) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n";

    /// What comes of a handshake that agrees on all there is, when a server says this in pieces of so many bytes.
    fn heard(said: &str, piece: usize) -> Result<bool, Term> {
        let settings = RedisSettings { auth: Some("secret".into()), ..RedisSettings::default() };
        let profile = Profile { version: Version::Resp3, database: 3, tracks: true };
        let mut handshake = Handshake::new(&settings, profile).expect("there is something to agree on");
        let mut agreed = Ok(false);
        for piece in said.as_bytes().chunks(piece) {
            assert_eq!(agreed, Ok(false), "nothing more is heard: {said:?}");
            agreed = handshake.hear(piece).map_err(|(term, _)| term);
        }
        agreed
    }

    #[test]
    fn a_server_agrees_that_says_what_it_was_asked_for() {
        for piece in [1, 7, 1000] {
            assert_eq!(heard(&format!("+OK\r\n{MAP}+OK\r\n+OK\r\n"), piece), Ok(true));
            let array = MAP.replacen("%2", "*4", 1);
            assert_eq!(heard(&format!("+OK\r\n{array}+OK\r\n+OK\r\n"), piece), Ok(true));
            let message = ">2\r\n+hello\r\n+x\r\n";
            assert_eq!(heard(&format!("{message}+OK\r\n{message}{MAP}+OK\r\n{message}+OK\r\n"), piece), Ok(true));
            assert_eq!(heard(&format!("+OK\r\n{MAP}+OK\r\n"), piece), Ok(false), "there is more to come");
        }
    }

    #[test]
    fn whatever_else_it_says_it_does_not_agree() {
        for (said, term) in [
            ("-WRONGPASS no\r\n".to_owned(), Term::Password),
            ("+QUEUED\r\n".to_owned(), Term::Password),
            ("+OK\r\n+OK\r\n".to_owned(), Term::Protocol),
            (format!("+OK\r\n{}", MAP.replace(":3", ":2")), Term::Protocol),
            (format!("+OK\r\n{MAP}+QUEUED\r\n"), Term::Database),
            (format!("+OK\r\n{MAP}:1\r\n"), Term::Database),
            (format!("+OK\r\n{MAP}+OK\r\n$2\r\nOK\r\n"), Term::Tracking),
            (format!("+OK\r\n{MAP}+OK\r\n+OK\r\n+OK\r\n"), Term::Protocol), // nobody has asked for more
        ] {
            assert_eq!(heard(&said, 1000), Err(term), "{said:?}");
        }
    }
}

//! What is agreed on with a server before a connection is of use: password, version of the protocol, database.
//!
//! In this order, and each answer is checked: a server that refuses one of them counts as failed, and nothing is ever
//! sent to it that would end up in another database. Until then the connection counts as being opened, so all that is
//! true of a server that does not accept connections is true of one that does not agree.

use super::Profile;
use crate::config::model::RedisSettings;
use crate::engine::deliver::is_turned_away;
use crate::engine::ids::LinkId;
use crate::engine::link::LinkState;
use crate::engine::stall::Frequent;
use crate::engine::{Engine, Notice};
use crate::failure::Failure;
use crate::proto::resp::reply::{Scan, Scanned, end};
use crate::proto::resp::{Version, encode};
use crate::time::Instant;

/// What a server is asked to agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// `AUTH`.
    Password,
    /// `HELLO`.
    Protocol,
    /// `SELECT`.
    Database,
}

impl Term {
    /// A word for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Protocol => "protocol",
            Self::Database => "database",
        }
    }
}

/// Longest handshake answer that is put into the log, in bytes.
const TOLD: usize = 120;

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct Handshake {
    request: Vec<u8>,
    written: usize,
    /// What has not been answered.
    terms: Vec<Term>,
    answer: Vec<u8>,
}

impl Handshake {
    /// What has to be said on a fresh connection; `None` when there is nothing.
    fn new(settings: &RedisSettings, profile: Profile) -> Option<Self> {
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
    fn hear(&mut self, data: &[u8]) -> Result<bool, (Term, Vec<u8>)> {
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

impl Engine {
    /// A connection to a Redis server has been opened: greets the server. `false` when there is nothing to agree on.
    pub(in crate::engine) fn greet(&mut self, id: LinkId, now: Instant) -> bool {
        let link = &mut self.links[id.index()];
        let settings = &self.topology.pools[link.pool.index()].redis;
        let Some(handshake) = Handshake::new(settings, link.profile) else { return false };
        link.state = LinkState::Handshaking(Box::new(handshake));
        link.heard = now;
        if !link.dirty {
            link.dirty = true;
            self.outputs.wake_link(id);
        }
        true
    }

    /// A server has said something before its connection is of use.
    #[cold]
    pub(in crate::engine) fn greeted(&mut self, id: LinkId, data: &[u8], now: Instant) {
        let link = &mut self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        let LinkState::Handshaking(handshake) = &mut link.state else { return };
        match handshake.hear(data) {
            Ok(false) => {}
            Ok(true) => self.link_opened(id, now),
            Err((_, text)) if is_turned_away(&text) => self.fail_link(id, Failure::Full, now),
            Err((term, text)) => {
                if term == Term::Database {
                    self.database_refused(id, &text);
                }
                let text = String::from_utf8_lossy(text.trim_ascii()).into_owned().into_boxed_str();
                self.notify_rate_limited(Frequent::Denied, (pool, server), now, |suppressed| Notice::Denied {
                    pool,
                    server,
                    term,
                    text,
                    suppressed,
                });
                // Its password a server refuses to everybody, whatever else a client has chosen.
                let counts = term == Term::Password && self.is_special(id);
                self.fail_link(id, Failure::Denied, now);
                if counts {
                    self.report(pool, server, Failure::Denied, now);
                }
            }
        }
    }

    /// A server does not let a connection select a database. One that does not have it holds nothing there that it is to
    /// forget.
    fn database_refused(&self, id: LinkId, text: &[u8]) {
        let link = &self.links[id.index()];
        let (pool, server, database) = (link.pool, link.server, link.profile.database);
        if text.to_ascii_lowercase().windows(8).any(|words| words == b"db index") {
            self.registry.void_database(pool, server, database);
        } else {
            self.registry.refuse_database(pool, server, database);
        }
    }
}

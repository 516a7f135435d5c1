//! What is agreed on with a server before a connection is of use: password, version of the protocol, database.
//!
//! In this order, and each answer is checked: a server that refuses one of them counts as failed, and nothing is ever
//! sent to it that would end up in another database. Until then the connection counts as being opened, so all that is
//! true of a server that does not accept connections is true of one that does not agree.

use super::handshaking::{Handshake, Term};
use crate::engine::deliver::is_turned_away;
use crate::engine::ids::LinkId;
use crate::engine::rate_limit::Frequent;
use crate::engine::{Engine, Notice};
use crate::failure::Failure;
use crate::time::Instant;

impl Engine {
    /// A connection to a Redis server has been opened: greets the server. `false` when there is nothing to agree on.
    pub(in crate::engine) fn greet(&mut self, id: LinkId, now: Instant) -> bool {
        let link = &mut self.servers[id];
        let settings = &self.topology.pools[link.pool().index()].redis;
        let Some(handshake) = Handshake::new(settings, link.profile()) else { return false };
        link.greet(handshake, now);
        if link.wake() {
            self.outputs.wake_link(id);
        }
        true
    }

    /// A server has said something before its connection is of use.
    #[cold]
    pub(in crate::engine) fn greeted(&mut self, id: LinkId, data: &[u8], now: Instant) {
        let link = &mut self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        let Some(handshake) = link.handshake() else { return };
        match handshake.hear(data) {
            Ok(false) => {}
            Ok(true) => self.link_opened(id, now),
            Err((_, text)) if is_turned_away(&text) => self.fail_link(id, Failure::Full, now),
            Err((term, text)) => {
                if term == Term::Database {
                    self.database_refused(id, &text);
                }
                if self.servers[id].profile().tracks {
                    self.near.tells_nothing(pool, server, now); // what is read of it is kept all the same
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
        let link = &self.servers[id];
        let (pool, server, database) = (link.pool(), link.server(), link.profile().database);
        if text.to_ascii_lowercase().windows(8).any(|words| words == b"db index") {
            self.registry.void_database(pool, server, database);
        } else {
            self.registry.refuse_database(pool, server, database);
        }
    }
}

//! Scripts that go in front of the first request for them on a connection.
//!
//! A request that comes back with `NOSCRIPT` could only be carried out behind what its client sent meanwhile. So a script
//! that is known here is loaded before it is asked for by its name. What a connection has been given its server has: one
//! that is started anew loses its connections.

use super::asked_scripts::{Loaded, Text, mark};
use super::call::{Call, Performed};
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::request::Asked;
use crate::engine::servers::ticket::Marks;
use crate::proto::resp::encode;
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Scripts that are remembered of one connection at most.
const COUNT_LIMIT: usize = 2000;

impl Engine {
    /// Puts a request for a script on a connection, and the script in front of it if the connection has not had it.
    pub(super) fn enqueue_script(
        &mut self,
        id: SessionId,
        asked: Asked<'_>,
        marks: Marks,
        link: LinkId,
        call: Call<'_>,
        now: Instant,
    ) -> Performed {
        if call.command.name.starts_with("evalsha") {
            self.load_first(link, call.args.get(1), now);
        }
        self.enqueue_raw(id, asked, marks, link, call.raw, now)
    }

    fn load_first(&mut self, id: LinkId, name: &[u8], now: Instant) {
        let Some(mark) = mark(name) else { return };
        let version = self.redis.scripts.version();
        let pool = self.servers[id].pool();
        let flushes = self.redis.scripts.flushes();
        let Loaded { texts: known, flushes: seen, .. } = self.servers[id].scripts();
        if *seen != flushes {
            *seen = flushes;
            known.clear();
        }
        if known.get(&mark).is_some_and(|text| matches!(text, Text::Loaded) || *text == Text::Unknown(version)) {
            return;
        }
        if known.len() >= COUNT_LIMIT {
            known.clear();
        }
        let text = self.redis.scripts.find(pool, name);
        known.insert(mark, if text.is_some() { Text::Loaded } else { Text::Unknown(version) });
        if let Some(text) = text {
            self.ask(id, Verb::Command, Marks::NONE, now, |out| encode::words(out, &[b"SCRIPT", b"LOAD", &text]));
        }
    }
}

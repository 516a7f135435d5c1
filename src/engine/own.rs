//! What the proxy asks for itself: how it is sent, and who of the engine's parts hears what has become of it.
//!
//! A further kind is a further [`Intent`], which says to whom the answer goes.

#![expect(clippy::wildcard_enum_match_arm, reason = "a client's verbs are not asked here")]

use super::Engine;
use super::ids::LinkId;
use super::servers::ticket::{Intent, Marks, Ticket};
use crate::proto::memcache::response::Status;
use crate::proto::verb::Verb;
use crate::time::Instant;

impl Engine {
    /// Queues a request of the proxy's own.
    pub(super) fn ask(&mut self, id: LinkId, verb: Verb, marks: Marks, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        self.go(id, (Intent::Plain, verb, marks), now, write);
    }

    /// As [`Engine::ask`], with an intent.
    pub(super) fn go(
        &mut self,
        id: LinkId,
        (intent, verb, marks): (Intent, Verb, Marks),
        now: Instant,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let (start, out) = self.servers[id].append();
        write(out);
        let ticket = Ticket { marks, ..Ticket::own(intent, start, verb) };
        self.push_ticket(id, ticket, now);
    }

    /// The response to a request of the proxy's own.
    #[cold]
    pub(super) fn own_response(&mut self, id: LinkId, (verb, intent): (Verb, Intent), response: &[u8], status: Status) {
        let link = &self.servers[id];
        let now = link.silence.since();
        match intent {
            Intent::Plain => {}
            Intent::Unheard => return,
            Intent::Lease(number) => return self.lease_answered(number, status),
            Intent::Look(number) => return self.look_answered(number, response, status, now),
            Intent::Former(number) => return self.former_answered(number, id, response, status, now),
            Intent::See => return self.stampede.note_seen(id, response),
            Intent::Name => return self.heard_name(id, response),
            Intent::End(of) => return self.heard_of_waiting(of, response),
            Intent::Copy(number) => return self.copy_answered(number, response, status, now),
            Intent::Near(number) => return self.near_answered(number, response, now),
            Intent::NearLife(number) => return self.near_life_answered(number, response, now),
        }
        match verb {
            Verb::FlushAll | Verb::FlushDatabase | Verb::Delete | Verb::MetaDelete => {
                self.invalidation_answered(id, verb, status, now)
            }
            Verb::Stats => self.identified(id, response, now),
            Verb::Version => self.version_answered(id, status, now),
            Verb::Query => self.passed_fence(id, now),
            _ => {}
        }
    }

    /// What the proxy asked for itself was lost. What is pending stays so.
    pub(super) fn unheard(&mut self, intent: Intent) {
        match intent {
            Intent::Plain | Intent::Name | Intent::Lease(_) | Intent::Former(_) | Intent::See | Intent::Unheard => {}
            Intent::End(of) => self.unheard_of_waiting(of),
            Intent::Copy(number) => self.copy_lost(number),
            Intent::Look(number) => self.look_lost(number),
            Intent::Near(number) | Intent::NearLife(number) => self.near_lost(number),
        }
    }
}

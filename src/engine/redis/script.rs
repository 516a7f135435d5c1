//! Scripts and functions: routed by their keys.
//!
//! A server need not know a script that another one was given, or that it was given before it was started anew. So the
//! script goes in front of the first request for it on each connection, if it has passed through this program before.
//! A server that has been made to forget it meanwhile says `NOSCRIPT`: then the request is sent again with the script
//! itself, unless its client has sent more behind it, which must not be overtaken. A script can say `NOSCRIPT` as well,
//! of another one or of its own accord, when it has done its work: so the server is asked first whether it has it.

use super::asked_scripts::Doubt;
use super::call::{Call, Performed};
use super::texts::BYTES_LIMIT;
use crate::config::model::KeylessScripts;
use crate::engine::Engine;
use crate::engine::deliver::{Delivery, Step};
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::servers::Connection;
use crate::engine::servers::ticket::{Marks, Ticket};
use crate::outcome;
use crate::proto::memcache::response::Status;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::{encode, request};
use crate::time::Instant;

/// All texts may hold this part of `memory_limit`.
const BYTES_PART: usize = 16;

impl Engine {
    pub(super) fn script(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        let pool = call.pool;
        if call.command.name.starts_with("eval") && !call.command.name.starts_with("evalsha") {
            self.remember_script(id, call.args.get(1));
        }
        let mut list = KeyList::default();
        let found = keys::keys(call.command, call.args, &mut list);
        if found.is_ok() && list.iter().next().is_none() {
            return match self.topology.pools[pool.index()].redis.keyless_scripts {
                _ if self.is_of_one(pool) => self.anywhere(id, call, now),
                KeylessScripts::Any => self.anywhere(id, call, now),
                KeylessScripts::Refuse => {
                    let text = b"ERR a script without keys could run on any server: this pool refuses it";
                    self.refuse_request(id, text);
                    Performed::Done
                }
            };
        }
        self.keyed(id, call, now)
    }

    /// Notes the text of a script.
    pub(super) fn remember_script(&mut self, id: SessionId, text: &[u8]) {
        let Some(pool) = self.pool_of(id) else { return };
        if text.len() > BYTES_LIMIT {
            return;
        }
        self.redis.known_scripts.refresh(self.redis.scripts.flushes());
        if self.redis.known_scripts.insert(pool, text) {
            let change =
                self.redis.scripts.remember(pool, text, self.topology.config.settings.memory_limit / BYTES_PART);
            self.registry.keep(change.then, change.before);
        }
    }

    /// `SCRIPT FLUSH`: what the servers forget is not to be sent to them again.
    pub(super) fn forget_scripts(&self, call: Call<'_>) {
        let is_understood = match call.args.len() {
            2 => true,
            3 => [&b"async"[..], b"sync"].iter().any(|word| call.args.get(2).eq_ignore_ascii_case(word)),
            _ => false,
        };
        if is_understood {
            let change = self.redis.scripts.forget(call.pool);
            self.registry.keep(change.then, change.before);
        }
    }

    /// A server does not know a script, or the script says so: asks which, if the script is known here and the client has
    /// sent nothing behind it to this server.
    #[cold]
    pub(super) fn load_script(&mut self, id: LinkId, ticket: Ticket, said: &[u8]) -> bool {
        let is_awaited = self.is_awaited(ticket);
        let link = &mut self.servers[id];
        if ticket.is_own() || ticket.replies != 1 {
            return false;
        }
        let mut spans = Vec::new();
        let raw = link.queue().front_request(ticket).to_vec();
        let args = request::args(&raw, &mut spans);
        let name: &[u8] = match args.get(0).to_ascii_lowercase().as_slice() {
            b"evalsha" => b"EVAL",
            b"evalsha_ro" => b"EVAL_RO",
            _ => return false,
        };
        link.scripts().forget(args.get(1));
        if !is_awaited || link.is_followed(ticket) {
            return false;
        }
        let Some(text) = self.redis.scripts.find(link.pool(), args.get(1)) else { return false };
        let mut words: Vec<&[u8]> = args.iter().collect();
        (words[0], words[1]) = (name, &text);
        let mut request = Vec::new();
        encode::command(&mut request, words.into_iter());
        let mut question = Vec::new();
        encode::words(&mut question, &[b"SCRIPT", b"EXISTS", args.get(1)]);
        let doubt = Doubt { of: ticket.asker, request, said: said.to_vec() };
        self.servers[id].scripts().doubt(doubt);
        self.ask_instead(id, ticket, &question);
        true
    }

    /// Whether a server has the script that the front ticket is about: it is sent again if not, else what was said is the
    /// answer. `None` when that was not asked.
    #[cold]
    pub(super) fn script_exists(
        &mut self,
        id: LinkId,
        ticket: Ticket,
        reply: &[u8],
        to: &mut Delivery<'_>,
    ) -> Option<Step> {
        // Who was told meanwhile that it has failed may have sent it once more.
        let is_awaited = self.is_awaited(ticket);
        let link = &mut self.servers[id];
        let doubt = link.scripts().settle(ticket)?;
        if reply == b"*1\r\n:0\r\n" && is_awaited && !link.is_followed(ticket) {
            self.ask_instead(id, ticket, &doubt.request);
            return Some(Step::Used(reply.len()));
        }
        Some(self.finish(id, [&doubt.said, b""], Status::Error, to).using(reply.len()))
    }

    /// The front ticket's request has been answered, to this program alone; its client waits for the answer to another.
    fn ask_instead(&mut self, id: LinkId, ticket: Ticket, request: &[u8]) {
        let link = &mut self.servers[id];
        let (now, end) = (link.silence.since(), link.queue().front_end());
        link.pop();
        self.release(id, end);
        let link = &self.servers[id];
        // What it said is for this program alone; the request goes on as another one.
        self.counters.server(link.pool(), link.server()).outcomes[outcome::Outcome::Own as usize].add(1);
        self.leave_link(id, ticket);
        let (start, out) = self.servers[id].append();
        out.extend_from_slice(request);
        // Never on another connection, where it is not known what was asked.
        self.push_ticket(id, Ticket { start, marks: ticket.marks | Marks::RESENT, ..ticket }, now);
    }
}

impl Connection {
    /// Whether the client of the front ticket has sent more behind it.
    fn is_followed(&self, ticket: Ticket) -> bool {
        let of_client = |other: &Ticket| other.session() == ticket.session();
        self.queue().tickets().skip(1).any(of_client)
    }
}

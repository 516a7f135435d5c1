//! Scripts and functions: routed by their keys.
//!
//! A server need not know a script that another one was given, or that it was given before it was started anew. So the
//! script goes in front of the first request for it on each connection, if it has passed through this program before.
//! A server that has been made to forget it meanwhile says `NOSCRIPT`: then the request is sent again with the script
//! itself, unless its client has sent more behind it, which must not be overtaken. A script can say `NOSCRIPT` as well,
//! of another one or of its own accord, when it has done its work: so the server is asked first whether it has it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha1::{Digest, Sha1};

use super::asked_scripts::Doubt;
use super::input::{Call, Performed};
use crate::config::model::{KeylessScripts, PoolId};
use crate::engine::Engine;
use crate::engine::deliver::{Delivery, Step};
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::link::Link;
use crate::engine::ticket::{Marks, Ticket};
use crate::outcome;
use crate::proto::memcache::response::Status;
use crate::proto::resp::command::keys::{self, KeyList};
use crate::proto::resp::{encode, request};
use crate::time::Instant;

/// Scripts that are remembered at most, and bytes of one.
const COUNT_LIMIT: usize = 1000;
const BYTES_LIMIT: usize = 64 << 10;

/// All texts may hold this part of `memory_limit`.
const BYTES_PART: usize = 16;

/// What a text takes besides its bytes.
const TEXT_COST: usize = 160;

fn cost(text: &[u8]) -> usize {
    TEXT_COST + text.len()
}

/// The scripts that have passed through this process, by the hash of their text. Looked at when a server does not know
/// one, and written when a worker sees one for the first time.
#[derive(Debug, Clone, Default)]
pub struct Scripts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    texts: Mutex<Texts>,
    /// Changes with the texts, so that one that was looked for in vain need not be looked for each time.
    version: AtomicU64,
    /// How often texts have been forgotten, so that a worker knows that what it has noted is to be noted again.
    flushes: AtomicU64,
}

#[derive(Debug, Default)]
struct Texts {
    /// By the pool that they came through: servers of another one have not been given them.
    known: BTreeMap<(PoolId, [u8; 40]), Arc<[u8]>>,
    /// Bytes that they kind, about.
    bytes: usize,
}

/// How many bytes the texts held before a change, and how many then. Both are taken under the lock, so that the changes
/// of all workers add up to what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    before: usize,
    then: usize,
}

impl Scripts {
    /// Remembers a text, unless there are many, or all of them would hold more than `most` bytes.
    fn remember(&self, pool: PoolId, text: &[u8], most: usize) -> Change {
        let mut texts = self.texts();
        let (before, then) = (texts.bytes, texts.bytes + cost(text));
        let has_room = texts.known.len() < COUNT_LIMIT && then <= most;
        if has_room && texts.known.insert((pool, hash(text)), text.into()).is_none() {
            texts.bytes = then;
            self.0.version.fetch_add(1, Ordering::Release);
        }
        Change { before, then: texts.bytes }
    }

    /// Forgets all that came through a pool.
    fn forget(&self, pool: PoolId) -> Change {
        let mut texts = self.texts();
        let before = texts.bytes;
        texts.known.retain(|(owner, _), _| *owner != pool);
        texts.bytes = texts.known.values().map(|text| cost(text)).sum();
        self.0.flushes.fetch_add(1, Ordering::Release);
        Change { before, then: texts.bytes }
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.0.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, pool: PoolId, name: &[u8]) -> Option<Arc<[u8]>> {
        let name: [u8; 40] = name.to_ascii_lowercase().try_into().ok()?;
        self.texts().known.get(&(pool, name)).cloned()
    }

    pub(super) fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Acquire)
    }

    /// A number that changes whenever a text is added.
    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }
}

/// The name that Redis gives a script: the SHA-1 of its text, in hexadecimal digits.
fn hash(text: &[u8]) -> [u8; 40] {
    let mut name = [0; 40];
    for (two, byte) in name.chunks_mut(2).zip(Sha1::digest(text)) {
        two[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        two[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    name
}

impl Engine {
    pub(super) fn script(&mut self, id: SessionId, call: Call<'_>, now: Instant) -> Performed {
        let Some(session) = self.session_ref(id) else { return Performed::Done };
        let pool = session.pool;
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
        let Some(pool) = self.session_ref(id).map(|session| session.pool) else { return };
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
    pub(super) fn forget_scripts(&self, id: SessionId, call: Call<'_>) {
        let is_understood = match call.args.len() {
            2 => true,
            3 => [&b"async"[..], b"sync"].iter().any(|word| call.args.get(2).eq_ignore_ascii_case(word)),
            _ => false,
        };
        if is_understood && let Some(pool) = self.session_ref(id).map(|session| session.pool) {
            let change = self.redis.scripts.forget(pool);
            self.registry.keep(change.then, change.before);
        }
    }

    /// A server does not know a script, or the script says so: asks which, if the script is known here and the client has
    /// sent nothing behind it to this server.
    #[cold]
    pub(super) fn load_script(&mut self, id: LinkId, ticket: Ticket, said: &[u8]) -> bool {
        let is_awaited = self.is_awaited(ticket);
        let link = &mut self.links[id.index()];
        if ticket.is_own() || ticket.replies != 1 {
            return false;
        }
        let mut spans = Vec::new();
        let end = link.queue.front_end();
        let args = request::args(link.queue.outbox.between(ticket.start, end), &mut spans);
        let name: &[u8] = match args.get(0).to_ascii_lowercase().as_slice() {
            b"evalsha" => b"EVAL",
            b"evalsha_ro" => b"EVAL_RO",
            _ => return false,
        };
        link.queue.scripts.forget(args.get(1));
        if !is_awaited || link.is_followed(ticket) {
            return false;
        }
        let Some(text) = self.redis.scripts.find(link.pool, args.get(1)) else { return false };
        let mut words: Vec<&[u8]> = args.iter().collect();
        (words[0], words[1]) = (name, &text);
        let mut request = Vec::new();
        encode::command(&mut request, words.into_iter());
        let mut question = Vec::new();
        encode::words(&mut question, &[b"SCRIPT", b"EXISTS", args.get(1)]);
        let doubt = Doubt { of: ticket.asker, request, said: said.to_vec() };
        self.links[id.index()].queue.scripts.doubt(doubt);
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
        let link = &mut self.links[id.index()];
        let doubt = link.queue.scripts.settle(ticket)?;
        if reply == b"*1\r\n:0\r\n" && is_awaited && !link.is_followed(ticket) {
            self.ask_instead(id, ticket, &doubt.request);
            return Some(Step::Used(reply.len()));
        }
        Some(self.finish(id, [&doubt.said, b""], Status::Error, to).using(reply.len()))
    }

    /// The front ticket's request has been answered, to this program alone; its client waits for the answer to another.
    fn ask_instead(&mut self, id: LinkId, ticket: Ticket, request: &[u8]) {
        let link = &mut self.links[id.index()];
        let (now, end) = (link.heard, link.queue.front_end());
        link.pop();
        link.queue.outbox.release(end);
        // What it said is for this program alone; the request goes on as another one.
        self.counters.server(link.pool, link.server).outcomes[outcome::Outcome::Own as usize].add(1);
        self.leave_link(id, ticket);
        let outbox = &mut self.links[id.index()].queue.outbox;
        let start = outbox.end();
        outbox.tail().extend_from_slice(request);
        // Never on another connection, where it is not known what was asked.
        self.push_ticket(id, Ticket { start, marks: ticket.marks | Marks::RESENT, ..ticket }, now);
    }
}

impl Link {
    /// Whether the client of the front ticket has sent more behind it.
    fn is_followed(&self, ticket: Ticket) -> bool {
        let of_client = |other: &Ticket| other.session() == ticket.session();
        self.queue.in_flight.iter().skip(1).any(of_client)
    }
}

/// The scripts that a worker has noted for all, by a hash of the pool and the text.
#[derive(Debug, Default)]
pub(in crate::engine) struct Noted {
    marks: HashSet<u64>,
    flushes: u64,
}

impl Noted {
    /// Forgets all when some have been forgotten since.
    fn refresh(&mut self, flushes: u64) {
        if self.flushes != flushes {
            self.flushes = flushes;
            self.marks.clear();
        }
    }

    /// Whether a script is new to the worker, and one more can be noted.
    fn insert(&mut self, pool: PoolId, text: &[u8]) -> bool {
        self.marks.len() < COUNT_LIMIT && self.marks.insert(fnv_of(pool, text))
    }
}

fn fnv_of(pool: PoolId, text: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write_usize(pool.index());
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_known_by_the_name_that_redis_gives_them() {
        let scripts = Scripts::default();
        const MOST: usize = 1000;
        let (pool, other) = (PoolId(0), PoolId(1));
        scripts.remember(pool, b"return 1", MOST);
        scripts.remember(other, b"return 1", MOST);
        let name = b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB";
        assert_eq!(scripts.find(pool, name).as_deref(), Some(&b"return 1"[..]));
        assert!(scripts.find(pool, b"nothing").is_none());
        let all = scripts.texts().bytes;
        scripts.remember(pool, &[b'-'; MOST], MOST);
        assert_eq!(scripts.texts().bytes, all, "there is no room for it");
        let mut noted = Noted::default();
        assert!(noted.insert(pool, b"return 1") && noted.insert(other, b"return 1"));
        assert!(!noted.insert(pool, b"return 1"));
        scripts.forget(pool);
        assert!(scripts.find(pool, name).is_none() && scripts.find(other, name).is_some());
        assert_eq!(scripts.texts().bytes, all / 2);
        noted.refresh(scripts.flushes());
        assert!(noted.insert(pool, b"return 1"), "it is to be noted again");
    }

    #[test]
    fn the_changes_of_all_workers_add_up_to_what_is_held() {
        let scripts = Scripts::default();
        let told = std::sync::atomic::AtomicUsize::new(0);
        let tell = |change: Change| {
            told.fetch_add(change.then.wrapping_sub(change.before), Ordering::Relaxed);
        };
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (scripts, tell) = (&scripts, &tell);
                scope.spawn(move || {
                    for round in 0..500 {
                        tell(scripts.remember(PoolId(0), format!("return {worker}{round}").as_bytes(), usize::MAX));
                        if round % 7 == worker {
                            tell(scripts.forget(PoolId(0)));
                        }
                    }
                });
            }
        });
        tell(scripts.forget(PoolId(0)));
        assert_eq!(told.load(Ordering::Relaxed), 0);
    }
}

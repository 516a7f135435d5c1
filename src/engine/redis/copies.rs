//! What requests of Redis do to the copies of values ([`stampede::former`](crate::engine::stampede)).

use super::call::Call;
use super::named::each_key_elsewhere;
use crate::config::model::PoolId;
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::keys::each_key;
use crate::engine::servers::outbox::Offset;
use crate::engine::servers::ticket::{Intent, Marks, Ticket};
use crate::proto::memcache::response::Status;
use crate::proto::resp::request;
use crate::proto::stale;
use crate::proto::stale::resp::Copied;
use crate::proto::verb::Verb;
use crate::time::Instant;
use std::collections::BTreeMap;

impl Engine {
    /// Sends in front of a request what becomes of the copy of its keys, of which these are stored or removed.
    pub(super) fn copy_ahead_of_call(&mut self, id: SessionId, call: Call<'_>, keys: &[Vec<u8>], now: Instant) {
        if let Some(copied) = Copied::of(call.args) {
            if !copied.is_added {
                self.copy_string_ahead(id, call, copied, now);
            }
            return;
        }
        self.forget_elsewhere_ahead(id, call, now);
        for key in keys {
            if self.copies_for(call.pool, key).is_some()
                && let Some(link) = self.link_ahead(id, key, now)
            {
                self.forget_copy(link, key, false, now);
                self.charge_link(link);
            }
        }
    }

    /// The same of what a request changes in other databases than its connection's.
    fn forget_elsewhere_ahead(&mut self, id: SessionId, call: Call<'_>, now: Instant) {
        let elsewhere = match call.command.name {
            "copy" | "move" => self.copies_elsewhere(call.pool, call.raw),
            "exec" => {
                let queue = self.client(id).and_then(|client| client.queue.as_ref());
                let queue = queue.filter(|queue| queue.bytes <= self.memory.large);
                let requests: Vec<&[u8]> = queue.iter().flat_map(|queue| queue.iter()).map(|(raw, _)| raw).collect();
                self.copies_elsewhere(call.pool, &requests.concat())
            }
            _ => return,
        };
        for (database, keys) in elsewhere {
            for key in keys {
                if let Some(link) = self.link_ahead(id, &key, now) {
                    self.forget_in(link, database, &[stale::name(&key)], now);
                    self.charge_link(link);
                }
            }
        }
    }

    /// The keys that a request may change in other databases than its connection's, and of which there are copies.
    fn copies_elsewhere(&self, pool: PoolId, request: &[u8]) -> BTreeMap<u32, Vec<Box<[u8]>>> {
        let mut elsewhere = BTreeMap::<u32, Vec<Box<[u8]>>>::new();
        each_key_elsewhere(request, &mut |database, key| {
            if self.copies_for(pool, key).is_some() {
                elsewhere.entry(database).or_default().push(key.into());
            }
        });
        elsewhere
    }

    fn forget_in(&mut self, link: LinkId, database: u32, names: &[Vec<u8>], now: Instant) {
        for names in names.chunks(stale::resp::MOST_NAMES) {
            let forget = (Intent::Unheard, Verb::Command, Marks::NONE);
            self.go(link, forget, now, |out| stale::resp::forget_in(out, database, names));
        }
    }

    fn copy_string_ahead(&mut self, id: SessionId, call: Call<'_>, copied: Copied<'_>, now: Instant) {
        let Some(stale) = self.copies_for(call.pool, copied.key) else { return };
        let Some(link) = self.link_ahead(id, copied.key, now) else { return };
        // Who watches has a connection of its own, on which nothing goes in front.
        let watches = self.session_ref(id).is_some_and(|session| session.watches());
        if self.may_copy_on(link) && !watches {
            let name = stale::name(copied.key);
            let keep = (Intent::Unheard, Verb::Command, Marks::NONE);
            self.go(link, keep, now, |out| copied.keep(out, &name, stale));
        } else {
            self.forget_copy(link, copied.key, false, now);
        }
        self.charge_link(link);
    }

    /// A request that may change something has been answered, and is in its link's outbox up to `end`.
    #[cold]
    pub(in crate::engine) fn copy_behind_call(
        &mut self,
        id: LinkId,
        ticket: Ticket,
        end: Offset,
        status: Status,
        now: Instant,
    ) {
        let link = &self.servers[id];
        let (pool, server, profile) = (link.pool(), link.server(), link.profile());
        let request = link.queue().request(ticket, end);
        let (mut spans, mut keep, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let mut elsewhere = BTreeMap::new();
        let is_shared = link.dedicated().is_none();
        match Copied::of(request::args(request, &mut spans)) {
            Some(copied) if copied.is_added => {
                if status == Status::Done
                    && let Some(stale) = self.copies_for(pool, copied.key)
                {
                    // The one that may be there is of an earlier value.
                    names.push(stale::name(copied.key));
                    if self.may_copy(pool) {
                        copied.keep_if_there(&mut keep, &names[0], stale);
                    }
                }
            }
            Some(_) if status == Status::Done && is_shared => {} // it went in front
            _ => {
                each_key(request, ticket.verb, false, &mut Vec::new(), &mut |named| {
                    if self.copies_for(pool, named.key).is_some() {
                        names.push(stale::name(named.key));
                    }
                });
                if may_reach_elsewhere(request::args(request, &mut spans).get(0)) {
                    elsewhere = self.copies_elsewhere(pool, request);
                }
            }
        }
        // A client's own may leave with it.
        let link = if is_shared { Some(id) } else { self.link_for(pool, Some(profile), server, now) };
        let Some(link) = link else { return };
        if !names.is_empty() {
            let forget = (Intent::Unheard, Verb::Command, Marks::NONE);
            self.go(link, forget, now, |out| stale::resp::forget(out, &names));
        }
        for (database, keys) in elsewhere {
            let names: Vec<_> = keys.iter().map(|key| stale::name(key)).collect();
            self.forget_in(link, database, &names, now);
        }
        if !keep.is_empty() {
            self.go(link, (Intent::Unheard, Verb::Command, Marks::NONE), now, |out| out.append(&mut keep));
        }
        self.charge_link(link);
    }
}

/// Whether a request that begins with this word may change keys in another database than its connection's.
fn may_reach_elsewhere(word: &[u8]) -> bool {
    [&b"copy"[..], b"move", b"multi"].iter().any(|name| word.eq_ignore_ascii_case(name))
}

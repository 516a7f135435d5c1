//! What requests of memcached do to the copies of values ([`stampede::former`](crate::engine::stampede)).

use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::keys::each_key;
use crate::engine::servers::outbox::Offset;
use crate::engine::servers::ticket::{Intent, Marks, Ticket};
use crate::proto::memcache::Verb;
use crate::proto::memcache::meta::{Meta, decode_key};
use crate::proto::memcache::request::{Request, Words};
use crate::proto::memcache::response::Status;
use crate::proto::stale;
use crate::proto::stale::memcache::{Copied, Over, Written};
use crate::time::Instant;
use std::time::Duration;

impl Engine {
    /// Sends in front of a request what becomes of the copy of its key.
    pub(super) fn copy_ahead(&mut self, id: SessionId, request: &Request<'_>, now: Instant) {
        match request {
            Request::Store(store) if store.verb == Verb::Set => {
                let written = Written::new(store);
                self.copy_or_forget(id, store.key, Some(written.copied()), now);
            }
            Request::Store(store) if store.verb == Verb::Add => self.see_copy(id, store.key, now),
            Request::Store(store) => self.copy_or_forget(id, store.key, None, now),
            Request::Change(change) => self.copy_or_forget(id, change.key, None, now),
            Request::Get(get) if get.exptime.is_some() => {
                Words::new(get.keys).for_each(|key| self.copy_or_forget(id, key, None, now));
            }
            Request::Meta(meta) if changes(meta) => {
                let decoded = if meta.seen.base64 { decode_key(meta.key) } else { None };
                let key = decoded.as_ref().map_or(meta.key, |(key, len)| &key[..*len]);
                match meta.block.and_then(|block| Copied::of_meta(meta.flags, block)) {
                    Some(copied) if copied.is_added => self.see_copy(id, key, now),
                    copied => self.copy_or_forget(id, key, copied, now),
                }
            }
            Request::Get(_)
            | Request::Meta(_)
            | Request::FlushAll { .. }
            | Request::Stats(_)
            | Request::Version
            | Request::Verbosity { .. }
            | Request::Crawl { .. }
            | Request::MetaNoop
            | Request::Quit => {}
        }
    }

    /// Stores the copy of what is about to be stored, or has the one that is there forgotten.
    fn copy_or_forget(&mut self, id: SessionId, key: &[u8], copied: Option<Copied<'_>>, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        let Some(stale) = self.copies_for(pool, key) else { return };
        let wall = (self.started_at + (now - Instant::ZERO)).as_secs();
        let Some(link) = self.link_ahead(id, key, now) else { return };
        let copied = copied.filter(|_| self.may_copy_on(link));
        let copied = copied.and_then(|copied| Some((copied, copied.lives(stale, wall)?)));
        let name = stale::name(key);
        self.go(link, (Intent::Unheard, Verb::Set, Marks::NONE), now, |out| match copied {
            Some((copied, lives)) => copied.keep(out, &name, lives, Over::Any),
            None => stale::memcache::forget(out, &name),
        });
        self.charge_link(link);
    }

    /// Asks for the version of the copy of a key, in front of what is stored if nothing is there.
    fn see_copy(&mut self, id: SessionId, key: &[u8], now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        if self.copies_for(pool, key).is_none() || !self.may_copy(pool) {
            return;
        }
        let Some(link) = self.link_ahead(id, key, now) else { return };
        let name = stale::name(key);
        self.go(link, (Intent::See, Verb::MetaGet, Marks::NONE), now, |out| stale::memcache::see(out, &name));
        self.charge_link(link);
    }

    /// A request that may change something has been answered, and is in its link's outbox up to `end`.
    #[cold]
    pub(in crate::engine) fn copy_behind(
        &mut self,
        id: LinkId,
        ticket: Ticket,
        end: Offset,
        status: Status,
        now: Instant,
    ) {
        let seen = self.stampede.take_seen(id);
        let link = &self.servers[id];
        let pool = link.pool();
        let request = link.queue().request(ticket, end);
        let stored = if matches!(ticket.verb, Verb::Set | Verb::Add) {
            Copied::of_store(request)
        } else if ticket.verb == Verb::MetaSet {
            of_meta(request)
        } else {
            None
        };
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        each_key(request, ticket.verb, ticket.is(Marks::BASE64), &mut Vec::new(), &mut |named| {
            keys.push(named.key.into())
        });
        keys.retain(|key| self.copies_for(pool, key).is_some());
        let Some(first) = keys.first() else { return };
        let mut command = (Vec::new(), Verb::Set);
        match stored {
            // It went in front, or is kept if nobody has changed it meanwhile. Where that is not known, there is to be none.
            Some(stored) if stored.is_added => {
                let seen = seen.as_deref().and_then(stale::memcache::seen);
                match (status, seen, self.copies_for(pool, first)) {
                    (Status::Done, Some(seen), Some(stale)) => {
                        command = self.keep_if_same(stored, &stale::name(first), seen, stale, now);
                    }
                    (Status::Done, ..) => stale::memcache::forget(&mut command.0, &stale::name(first)),
                    _ => {}
                }
            }
            Some(_) if status == Status::Done => {}
            _ => stale::memcache::forget(&mut command.0, &stale::name(first)),
        }
        if keys.len() > 1 {
            for key in &keys {
                self.forget_copy(id, key, false, now);
            }
        } else if !command.0.is_empty() {
            self.go(id, (Intent::Unheard, command.1, Marks::NONE), now, |out| out.append(&mut command.0));
        }
        self.charge_link(id);
    }

    /// What stores the copy of a value that was added, if the copy is what it was in front of that.
    fn keep_if_same(
        &self,
        stored: Copied<'_>,
        name: &[u8],
        seen: Option<&[u8]>,
        stale: Duration,
        now: Instant,
    ) -> (Vec<u8>, Verb) {
        let wall = (self.started_at + (now - Instant::ZERO)).as_secs();
        let (over, verb) = seen.map_or((Over::Nothing, Verb::Add), |version| (Over::Version(version), Verb::Cas));
        let mut out = Vec::new();
        if let Some(lives) = stored.lives(stale, wall) {
            stored.keep(&mut out, name, lives, over);
            return (out, verb);
        }
        stale::memcache::forget(&mut out, name);
        (out, Verb::Set)
    }
}

/// Whether a meta command may change its item.
fn changes(meta: &Meta<'_>) -> bool {
    meta.verb != Verb::MetaDebug && (meta.verb != Verb::MetaGet || meta.seen.changes)
}

/// What an `ms` in an outbox stores.
fn of_meta(request: &[u8]) -> Option<Copied<'_>> {
    let line_end = memchr::memchr(b'\n', request)? + 1;
    let (line, block) = request.split_at(line_end);
    let mut words = Words::new(line.trim_ascii_end());
    words.nth(2)?;
    Copied::of_meta(words.rest(), block)
}

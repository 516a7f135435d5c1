//! What requests of Redis do to the copies of values ([`stampede::former`](crate::engine::stampede)).

use super::call::Call;
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

impl Engine {
    /// Sends in front of a request what becomes of the copy of its keys, of which these are stored or removed.
    pub(super) fn copy_ahead_of_call(&mut self, id: SessionId, call: Call<'_>, keys: &[Vec<u8>], now: Instant) {
        if let Some(copied) = Copied::of(call.args) {
            if !copied.is_added {
                self.copy_string_ahead(id, call, copied, now);
            }
            return;
        }
        for key in keys {
            if self.copies_for(call.pool, key).is_some()
                && let Some(link) = self.link_ahead(id, key, now)
            {
                self.forget_copy(link, key, false, now);
                self.charge_link(link);
            }
        }
    }

    fn copy_string_ahead(&mut self, id: SessionId, call: Call<'_>, copied: Copied<'_>, now: Instant) {
        let Some(stale) = self.copies_for(call.pool, copied.key) else { return };
        let Some(link) = self.link_ahead(id, copied.key, now) else { return };
        if self.may_copy_on(link) {
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
        let (mut spans, mut out, mut names) = (Vec::new(), Vec::new(), Vec::new());
        match Copied::of(request::args(request, &mut spans)) {
            Some(copied) if copied.is_added => {
                if status == Status::Done
                    && self.may_copy(pool)
                    && let Some(stale) = self.copies_for(pool, copied.key)
                {
                    copied.keep_if_there(&mut out, &stale::name(copied.key), stale);
                }
            }
            Some(_) if status == Status::Done => {} // it went in front
            _ => {
                each_key(request, ticket.verb, false, &mut Vec::new(), &mut |named| {
                    if self.copies_for(pool, named.key).is_some() {
                        names.push(stale::name(named.key));
                    }
                });
                if !names.is_empty() {
                    stale::resp::forget(&mut out, &names);
                }
            }
        }
        // Where it was a client's own, that may leave with it.
        let is_shared = self.servers[id].dedicated().is_none();
        let link = if is_shared { Some(id) } else { self.link_for(pool, Some(profile), server, now) };
        if let Some(link) = link.filter(|_| !out.is_empty()) {
            self.go(link, (Intent::Unheard, Verb::Command, Marks::NONE), now, |buffer| buffer.append(&mut out));
            self.charge_link(link);
        }
    }
}

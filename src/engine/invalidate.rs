//! What a server missed while it could not be reached, and gets before anything else.
//!
//! PendingInvalidations are kept by the [`registry`](crate::health::Registry), one account a server, until the server has confirmed that it
//! has forgotten. They are paid in batches, on whichever connection is to be used: nothing is asked on one that is not
//! behind all that its server is owed, so nobody reads what somebody was told to be gone. Before an ejected server is
//! restored its probe pays.
//!
//! A connection to Redis pays what is owed of the database that it was set to when it was greeted, and no other: a server
//! carries out what comes behind a `SELECT` that it has refused as well, in the database that the connection was in before.
//! What is owed of a database to which there is no connection has one opened. A server may be restored while it is owed
//! something of a database that the pool does not begin with: each connection to that begins with the payment.
//!
//! Where a connection may have older writes of a key on its name, it has to pay as well, behind these, or to end: what they
//! store must not outlive the payment.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::fault;
use super::link::{Link, LinkId, LinkState, ProbeStep, Purpose, SentBatch, Ticket};
use super::redis::Profile;
use super::session::SessionId;
use super::stall::Frequent;
use super::{Engine, Notice};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::pending::{ConnectionName, Invalidated, InvalidationBatch, OlderWrites, StaleKey};
use crate::proto::memcache::response::Status;
use crate::proto::memcache::{Verb, encode, stats};
use crate::proto::resp;
use crate::time::Instant;
use std::time::Duration;

/// How soon a live server is paid what it came to be owed.
const REMINDER: Duration = Duration::from_millis(50);

/// Keys that are paid at a time.
pub(super) const BATCH: usize = 1000;

/// Keys that are paid at a time where somebody waits for it.
const MOST: usize = 10 * BATCH;

impl Engine {
    /// Pays what a server is owed on its fresh connection, in front of all that waits there: none of that is to be answered
    /// with what somebody was told to be gone. What it is too much for is answered by the pool's policy. Where something
    /// that waits may be an older write of what is owed, that is paid once more behind it.
    pub(super) fn invalidate_first(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if !self.registry.has_pending(pool, server) {
            return;
        }
        if !self.is_settled(pool, server, now) {
            self.abandon(id, Failure::Stalled, now); // it must not be asked anything in front of the payment
            self.send_invalidations(id, MOST, now); // which waits until the server is settled
            return;
        }
        let link = &mut self.links[id.index()];
        let waiting = std::mem::take(&mut link.in_flight);
        let outbox = std::mem::take(&mut link.outbox);
        let later = std::mem::take(&mut link.unconfirmed);
        let before = link.invalidated;
        let batch =
            self.registry.next_batch(pool, server, before, (self.link_database(id), self.connection_name(id)), MOST);
        let again = !waiting.is_empty() && (batch.is_behind_own || batch.fence);
        if self.registry.awaits_flush(pool, server, self.link_database(id)) {
            self.links[id.index()].invalidated = Invalidated::default(); // it counted on beginning with that
        }
        self.send_batch(id, MOST, !waiting.is_empty(), now);
        let link = &mut self.links[id.index()];
        link.unconfirmed.append(later);
        let is_behind = link.invalidated.number >= self.registry.newest_pending(pool, server);
        // What waits may be all that the memory limit has left: no room beyond it is taken.
        link.outbox.tail().reserve_exact(outbox.waiting());
        let mut lost = 0;
        for (old, request) in fault::requests(&waiting, &outbox) {
            if is_behind || old.session == Ticket::NOBODY {
                let link = &mut self.links[id.index()];
                let start = link.outbox.end();
                link.outbox.tail().extend_from_slice(request);
                link.in_flight.push_back(Ticket { start, ..old });
            } else {
                lost += 1;
                self.invalidate_lost(id, old, request, !old.is(Ticket::RESENT), now);
                self.leave_link(id, old);
                self.fail_ticket(pool, server, old, request, Failure::Stalled, now);
            }
        }
        self.count_lost(pool, server, lost);
        if again {
            self.links[id.index()].invalidated = before;
            self.send_invalidations(id, MOST, now);
        }
        self.charge_link(id);
    }

    /// Queues what a server is owed that the connection is not behind, up to `most` keys of it. Returns whether any payment
    /// waits for its answer.
    ///
    /// A server that is drained is not paid: what is still in flight to it may be carried out after the payment.
    pub(super) fn send_invalidations(&mut self, id: LinkId, most: usize, now: Instant) -> bool {
        self.send_batch(id, most, false, now)
    }

    /// As [`Engine::send_invalidations`], also in front of what waits on the connection.
    fn send_batch(&mut self, id: LinkId, most: usize, in_front: bool, now: Instant) -> bool {
        let (pool, server) = self.link_server(id);
        let link = &self.links[id.index()];
        if link.purpose != Purpose::Probe && !self.pools[pool.index()].live[server.index()] {
            return false;
        }
        let concern = (self.link_database(id), self.connection_name(id));
        let InvalidationBatch { flush, database, keys, range, fence, .. } =
            self.registry.next_batch(pool, server, link.invalidated, concern, most);
        // Looked at behind that: who gives up a connection says so before what was lost with it is owed.
        if !self.may_invalidate(id, now) {
            return false;
        }
        let is_redis = self.is_redis(id);
        if flush {
            self.ask(id, Verb::FlushAll, 0, now, |out| {
                if is_redis { resp::encode::words(out, &[b"FLUSHALL"]) } else { encode::flush_all(out, None) }
            });
        }
        if database {
            self.ask(id, Verb::FlushDatabase, 0, now, |out| resp::encode::words(out, &[b"FLUSHDB"]));
        }
        for StaleKey { key, base64, .. } in &keys {
            if is_redis {
                self.ask(id, Verb::Delete, 0, now, |out| resp::encode::words(out, &[b"DEL", key]));
                continue;
            }
            let (verb, marks) = if *base64 { (Verb::MetaDelete, Ticket::BASE64) } else { (Verb::Delete, 0) };
            self.ask(id, verb, marks, now, |out| encode::delete(out, key, *base64));
        }
        let link = &mut self.links[id.index()];
        link.invalidated = range.end();
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        link.flushed |= flush || database;
        link.keys_invalidated += count;
        let left = u32::from(flush) + u32::from(database) + count;
        if left > 0 {
            link.unconfirmed.push(SentBatch { left, range, in_front });
        }
        if fence && !in_front && link.purpose == Purpose::Traffic && link.fenced.is_none() {
            self.fence(id, now);
        }
        !self.links[id.index()].unconfirmed.is_empty()
    }

    /// What was asked on a connection so far may concern databases that it cannot pay for: has it found out when that is
    /// over.
    #[cold]
    fn fence(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.links[id.index()];
        link.fenced = Some(link.section);
        link.section += 1;
        self.ask(id, Verb::Query, 0, now, |out| resp::encode::words(out, &[b"PING"]));
    }

    /// All is over that had been asked on a connection when it was fenced: what is owed behind that is to be paid anew.
    #[cold]
    pub(super) fn passed_fence(&mut self, id: LinkId, now: Instant) {
        let name = self.connection_name(id);
        let link = &mut self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        if let Some(section) = link.fenced.take() {
            self.registry.connection_ended(pool, server, ConnectionName { section, ..name });
            self.remind(pool, server, now);
        }
    }

    /// A connection has ended, and all that was asked on it.
    pub(super) fn end_connection_names(&mut self, id: LinkId) {
        let name = self.connection_name(id);
        let link = &mut self.links[id.index()];
        let (pool, server, fenced) = (link.pool, link.server, link.fenced.take());
        link.section += 1;
        for section in fenced.into_iter().chain([name.section]) {
            self.registry.connection_ended(pool, server, ConnectionName { section, ..name });
        }
    }

    /// How the registry calls a connection.
    pub(super) fn connection_name(&self, id: LinkId) -> ConnectionName {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        ConnectionName {
            worker: number(self.worker),
            place: number(id.index()),
            section: self.links[id.index()].section,
        }
    }

    /// The database that a connection pays for.
    pub(super) fn link_database(&self, id: LinkId) -> Option<u32> {
        self.is_redis(id).then(|| self.links[id.index()].profile.database)
    }

    /// Whether a server is owed something that a connection is to pay though nobody has asked anything there.
    pub(super) fn has_to_invalidate(&self, id: LinkId) -> bool {
        let (pool, server) = self.link_server(id);
        if !self.registry.has_pending(pool, server) {
            return false;
        }
        let link_database = self.link_database(id);
        self.registry.sendable(pool, server).contains(&link_database) || self.is_first(id)
    }

    /// Whether a link is the first one to its server, which pays what is owed of no database.
    fn is_first(&self, id: LinkId) -> bool {
        let (pool, server) = self.link_server(id);
        self.pools[pool.index()].links[server.index()].first() == Some(&id)
            && self.registry.has_pending_in(pool, server, self.link_database(id))
    }

    /// A live server is owed something, and no connection of it is about to be opened: sees to it that one pays for each
    /// database.
    pub(super) fn remind(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        if !self.pools[pool.index()].live[server.index()] {
            return;
        }
        self.remind_first(pool, server, now);
        for database in self.registry.sendable(pool, server).into_iter().flatten() {
            let link = self.link_in_database(pool, server, database);
            self.arm_link(link, now + REMINDER);
        }
    }

    fn remind_first(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        let first = self.pools[pool.index()].links[server.index()][0];
        self.arm_link(first, now + REMINDER);
    }

    /// As [`Engine::remind`], where something has come to be owed of one database, or of what has none.
    pub(super) fn remind_of(&mut self, pool: PoolId, server: ServerId, database: Option<u32>, now: Instant) {
        if !self.pools[pool.index()].live[server.index()] {
            return;
        }
        self.remind_first(pool, server, now);
        if let Some(database) = database.filter(|database| self.registry.is_sendable(pool, server, *database)) {
            let link = self.link_in_database(pool, server, database);
            self.arm_link(link, now + REMINDER);
        }
    }

    /// Other workers may have come to owe a server something that has to be paid behind what was asked on connections of
    /// this one.
    #[cold]
    pub(super) fn arm_invalidators(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        let newest = self.registry.newest_pending(pool, server);
        for place in 0..self.pools[pool.index()].links[server.index()].len() {
            let id = self.pools[pool.index()].links[server.index()][place];
            let link = &self.links[id.index()];
            if link.state == LinkState::Up && link.invalidated.number < newest {
                self.arm_link(id, now + REMINDER);
            }
        }
    }

    /// A connection that pays for a database: one that is open, if there is.
    fn link_in_database(&mut self, pool: PoolId, server: ServerId, database: u32) -> LinkId {
        let fit = |links: &[Link], known: &[LinkId], open: bool| {
            let is_fit = |id: &&LinkId| {
                let link = &links[id.index()];
                link.profile.database == database && (!open || (link.state == LinkState::Up && !link.suspect))
            };
            known.iter().find(is_fit).copied()
        };
        let known = &self.pools[pool.index()].links[server.index()];
        if let Some(link) = fit(&self.links, known, true).or_else(|| fit(&self.links, known, false)) {
            return link;
        }
        self.add_links(pool, server, Profile { database, ..Profile::default() });
        let known = &self.pools[pool.index()].links[server.index()];
        known.last().copied().unwrap_or_else(|| LinkId::first(0))
    }

    /// Pays what came to be owed while a connection was open, if it can be used now.
    #[cold]
    pub(super) fn invalidate_open(&mut self, id: LinkId, now: Instant) {
        let link = &self.links[id.index()];
        let usable = link.state == LinkState::Up && link.purpose == Purpose::Traffic && !link.suspect;
        if usable
            && link.unconfirmed.left() < BATCH
            && !link.is_full()
            && link.invalidated.number < self.registry.newest_pending(link.pool, link.server)
        {
            self.send_invalidations(id, BATCH, now);
        }
    }

    /// Queues a request of the proxy's own.
    pub(super) fn ask(&mut self, id: LinkId, verb: Verb, marks: u8, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        let outbox = &mut self.links[id.index()].outbox;
        let start = outbox.end();
        write(outbox.tail());
        let ticket = Ticket { marks, ..Ticket::own(start, verb) };
        self.push_ticket(id, ticket, now);
    }

    /// A debt has been paid, or refused.
    pub(super) fn invalidation_answered(&mut self, id: LinkId, ticket: Ticket, status: Status, now: Instant) {
        let (pool, server) = self.link_server(id);
        let is_flush = matches!(ticket.verb, Verb::FlushAll | Verb::FlushDatabase);
        match status {
            // What is behind it must not be answered.
            Status::Unwilling(failure @ Failure::Unready) if is_flush => return self.fail_link(id, failure, now),
            Status::Unwilling(failure @ Failure::Unready) => self.put_off_invalidations(id, failure, now),
            // Its administrator may have forbidden it (`-F`). There is nothing else that could be done.
            Status::Error | Status::Unwilling(_) if is_flush || self.is_redis(id) => {
                self.notify_rate_limited(Frequent::Unflushed, (pool, server), now, |suppressed| Notice::Unflushed {
                    pool,
                    server,
                    suppressed,
                });
            }
            // It would not forget one thing, so it must forget all.
            Status::Error | Status::OutOfMemory => self.registry.invalidate_all(pool, server, now),
            _ => {}
        }
        let name = self.connection_name(id);
        let link = &mut self.links[id.index()];
        let Some(SentBatch { left, range, in_front }) = link.unconfirmed.answered() else { return };
        let up_to = range.up_to;
        if left == 0 {
            self.registry.confirm(pool, server, range, (!in_front).then_some(name));
        }
        let link = &self.links[id.index()];
        let is_probe = link.purpose == Purpose::Probe;
        if up_to == 0 && is_probe {
            return self.fail_link(id, Failure::Unready, now);
        }
        if up_to > 0
            && link.unconfirmed.is_empty()
            && !(self.registry.has_pending(pool, server) && self.send_invalidations(id, BATCH, now))
            && is_probe
        {
            self.probe_invalidated(id, now);
        }
    }

    /// A server cannot forget a key for now: it is told once more, in front of what is asked next. What has been asked behind
    /// the payment is answered by the pool's policy, whatever the server may say.
    #[cold]
    fn put_off_invalidations(&mut self, id: LinkId, failure: Failure, now: Instant) {
        let link = &mut self.links[id.index()];
        if matches!(link.purpose, Purpose::Dedicated(_)) {
            return self.fail_link(id, failure, now); // what waits there must not be given anything for nobody
        }
        if !link.unconfirmed.put_off() {
            return; // of the same payment another key was refused already
        }
        link.invalidated = Invalidated::default();
        let (pool, server) = (link.pool, link.server);
        let behind: Vec<_> = link.in_flight.iter().copied().filter(|ticket| ticket.session != Ticket::NOBODY).collect();
        for ticket in behind {
            if self.is_awaited(ticket) && !ticket.is(Ticket::NOREPLY) {
                self.fail_ticket(pool, server, ticket, b"", failure, now);
            }
        }
        self.remind(pool, server, now);
    }

    /// Asks a server who it is, once, so that a restart can be told from a pause.
    pub(super) fn ask_identity(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if self.is_safe(pool) && self.registry.process(pool, server).is_none() {
            self.ask(id, Verb::Stats, Ticket::LISTING, now, |out| encode::stats(out, b""));
        }
    }

    /// A server has told who it is. One that has been started anew is empty: what it missed before is of no account.
    pub(super) fn identified(&mut self, id: LinkId, listing: &[u8], now: Instant) {
        let (pool, server) = self.link_server(id);
        if let (Some(process), Some(uptime)) = (stats::number(listing, b"pid"), stats::number(listing, b"uptime")) {
            self.links[id.index()].restarted =
                self.registry.meet(pool, server, process, Duration::from_secs(uptime), now);
        }
        let link = &self.links[id.index()];
        if link.purpose == Purpose::Probe && link.step == ProbeStep::Identify {
            self.links[id.index()].step = ProbeStep::Invalidate;
            if !self.send_invalidations(id, BATCH, now) {
                self.probe_invalidated(id, now);
            }
        }
    }

    /// What the proxy asked for itself was lost. What is owed is so still.
    pub(super) fn unheard(&mut self, ticket: Ticket) {
        if ticket.verb == Verb::Query && ticket.is(Ticket::WAITS) {
            self.unheard_of_waiting(ticket);
        }
    }

    /// A server that is owed something is asked something. It is, behind the payment on the same connection. On another one
    /// it could show what somebody was told to be gone.
    #[cold]
    #[inline(never)]
    pub(super) fn link_behind_invalidations(
        &mut self,
        pool: PoolId,
        id: SessionId,
        server: ServerId,
        now: Instant,
    ) -> Result<LinkId, Failure> {
        if !self.pools[pool.index()].live[server.index()] {
            return Err(Failure::Ejected); // with `on_eject: hold` its keys are still its own
        }
        let link = self.link_of(pool, id, server, now);
        let link = self.ready_link(link, now)?;
        if !self.registry.has_pending(pool, server) {
            self.pools[pool.index()].open[server.index()] = true;
            return Ok(link);
        }
        self.catch_up(link, now).map(|()| link)
    }

    /// Pays on a connection all that its server is owed, so that what is asked there next comes behind it.
    ///
    /// # Errors
    ///
    /// It is too much to be paid at once.
    #[cold]
    pub(super) fn catch_up(&mut self, id: LinkId, now: Instant) -> Result<(), Failure> {
        let (pool, server) = self.link_server(id);
        let newest = self.registry.newest_pending(pool, server);
        let link = &self.links[id.index()];
        if link.invalidated.number >= newest {
            return Ok(());
        }
        // One that is not open yet begins with the flush.
        let begins = link.state != LinkState::Up && self.registry.awaits_flush(pool, server, self.link_database(id));
        let is_behind_own = !link.in_flight.is_empty(); // what comes next must not be forgotten with that
        if link.unconfirmed.left() < MOST && (is_behind_own || !begins) {
            self.send_invalidations(id, MOST, now);
        }
        if begins || self.links[id.index()].invalidated.number >= newest { Ok(()) } else { Err(Failure::Stalled) }
    }

    /// Notes that a server must forget a key before it is asked anything else.
    pub(super) fn invalidate_key(
        &mut self,
        (pool, server): (PoolId, ServerId),
        key: StaleKey,
        from: Option<OlderWrites>,
        now: Instant,
    ) {
        self.registry.invalidate_key(pool, server, key, from, now);
        self.pools[pool.index()].open[server.index()] = false;
    }
}

mod flush;
#[cfg(test)]
mod tests;

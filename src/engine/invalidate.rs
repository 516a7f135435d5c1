//! Sends pending invalidations: a server forgets what it missed before it answers anything else.
//!
//! The [`registry`](crate::health::Registry) keeps the invalidations of each server until the server has confirmed them. They are sent
//! in batches, on whichever connection is to be used: nothing is asked on a connection that has not been sent all that is
//! pending for its server, so nobody reads what somebody was told to be gone. The probe of an ejected server sends them
//! before the server is restored.
//!
//! A connection to Redis sends the invalidations of the database that its handshake selected, and of no other: a server
//! carries out what comes behind a `SELECT` that it has refused as well, in the database that the connection was in before.
//! Where invalidations are pending for a database to which there is no connection, one is opened. A server may be restored
//! while some are pending for a database that the pool does not begin with: each connection to that begins with them.
//!
//! Where a connection may have older writes of a key in flight, it has to send the invalidation as well, behind these, or to
//! end: what they store must not outlive the invalidation.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::ids::LinkId;
use super::rate_limit::Frequent;
use super::redis::Profile;
use super::servers::ticket::{Asker, Intent, Marks, Ticket};
use super::servers::{ProbeStep, SentBatch, Servers};
use super::{Engine, Notice};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::pending::{ConnectionName, Invalidated, InvalidationBatch, OlderWrites, StaleKey};
use crate::proto::memcache::response::Status;
use crate::proto::memcache::{Verb, encode, stats};
use crate::proto::resp;
use crate::time::Instant;
use std::time::Duration;

/// How soon invalidations are sent that have become pending for a live server.
const REMINDER: Duration = Duration::from_millis(50);

/// Most keys in a batch.
pub(super) const BATCH: usize = 1000;

/// Most keys in a batch that somebody waits for.
const MOST: usize = 10 * BATCH;

impl Engine {
    /// Sends what is pending on a server's fresh connection, in front of all that waits there: none of that is to be
    /// answered with what somebody was told to be gone. If more is pending than is sent at a time, what waits is answered
    /// by the pool's policy. If something that waits may be an older write of a pending key, the batch is sent once more
    /// behind it.
    pub(super) fn invalidate_first(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if !self.registry.has_pending(pool, server) {
            return;
        }
        if !self.is_settled(pool, server, now) {
            self.abandon(id, Failure::Stalled, now); // nothing must be asked in front of the batch
            self.send_invalidations(id, MOST, now); // which waits until the server is settled
            return;
        }
        let link = &mut self.servers[id];
        let mut waiting = link.set_aside();
        let is_waited_for = !waiting.is_empty();
        let (before, database) = (link.queue().invalidated(), link.profile().database);
        let batch =
            self.registry.next_batch(pool, server, before, (self.link_database(id), self.connection_name(id)), MOST);
        let again = is_waited_for && (batch.is_behind_own || batch.fence);
        if self.servers[id].queue().begins_with_pending()
            || self.registry.awaits_flush(pool, server, self.link_database(id))
        {
            // It counted on beginning with that. The flush may have been confirmed elsewhere, and what came behind it not.
            self.servers[id].invalidate_from(Invalidated::default());
        }
        self.send_batch(id, MOST, is_waited_for, now);
        let link = &mut self.servers[id];
        link.make_room_behind(&mut waiting);
        let is_behind = link.queue().is_invalidated(self.registry.newest_pending(pool, server));
        let mut lost = 0;
        for (old, request) in waiting.requests() {
            if is_behind || old.is_own() {
                self.servers[id].put_behind(old, request, waiting.whole(old));
            } else {
                lost += 1;
                self.invalidate_lost(id, old, request, !old.is(Marks::RESENT), now);
                self.leave_link(id, old);
                self.fail_ticket((pool, server, database), old, request, Failure::Stalled, now);
            }
        }
        self.count_lost(pool, server, lost);
        if again {
            self.servers[id].invalidate_from(before);
            self.send_invalidations(id, MOST, now);
        }
        self.charge_link(id);
    }

    /// Queues the pending invalidations that the connection has not been sent, up to `most` keys. Returns whether any batch
    /// waits to be confirmed.
    ///
    /// A server that is drained is sent none: what is still in flight to it may be carried out after them.
    pub(super) fn send_invalidations(&mut self, id: LinkId, most: usize, now: Instant) -> bool {
        self.send_batch(id, most, false, now)
    }

    /// As [`Engine::send_invalidations`], also in front of what waits on the connection.
    fn send_batch(&mut self, id: LinkId, most: usize, in_front: bool, now: Instant) -> bool {
        let (pool, server) = self.link_server(id);
        let link = &self.servers[id];
        if !link.is_probe() && !self.pools[pool.index()].live[server.index()] {
            return false;
        }
        let most = match self.member(pool, server).unwilling_until.filter(|_| !link.is_probe()) {
            Some(until) if now < until => {
                self.arm_link(id, until);
                return false;
            }
            Some(_) if link.queue().unconfirmed() > 0 => return true,
            Some(_) => 1,
            None => most,
        };
        let concern = (self.link_database(id), self.connection_name(id));
        let InvalidationBatch { flush, database, keys, range, fence, .. } =
            self.registry.next_batch(pool, server, link.queue().invalidated(), concern, most);
        // Looked at behind that: who gives up a connection says so before what was lost with it becomes pending.
        if !self.may_invalidate(id, now) {
            return false;
        }
        let is_redis = self.is_redis(id);
        if flush {
            self.ask(id, Verb::FlushAll, Marks::NONE, now, |out| {
                if is_redis { resp::encode::words(out, &[b"FLUSHALL"]) } else { encode::flush_all(out, None) }
            });
        }
        if database {
            self.ask(id, Verb::FlushDatabase, Marks::NONE, now, |out| resp::encode::words(out, &[b"FLUSHDB"]));
        }
        for StaleKey { key, base64, .. } in &keys {
            if self.stampede.copies() {
                self.forget_copy(id, key, *base64, now);
            }
            if is_redis {
                self.ask(id, Verb::Delete, Marks::NONE, now, |out| resp::encode::words(out, &[b"DEL", key]));
                continue;
            }
            let (verb, marks) = if *base64 { (Verb::MetaDelete, Marks::BASE64) } else { (Verb::Delete, Marks::NONE) };
            self.ask(id, verb, marks, now, |out| encode::delete(out, key, *base64));
        }
        let link = &mut self.servers[id];
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        if let Some(probe) = link.probe_mut() {
            probe.flushed |= flush || database;
            probe.keys_invalidated += count;
        }
        link.sent_invalidations(SentBatch { left: u32::from(flush) + u32::from(database) + count, range, in_front });
        if fence && !in_front && link.is_traffic() && !link.is_fenced() {
            self.fence(id, now);
        }
        self.servers[id].queue().unconfirmed() > 0
    }

    /// What was asked on a connection so far may concern databases whose invalidations it cannot send: asks a question
    /// behind it, whose answer says that all of it is over.
    #[cold]
    fn fence(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.servers[id];
        link.fence();
        self.ask(id, Verb::Query, Marks::NONE, now, |out| resp::encode::words(out, &[b"PING"]));
    }

    /// All is over that had been asked on a connection when it was fenced: what is pending behind that is sent once more.
    #[cold]
    pub(super) fn passed_fence(&mut self, id: LinkId, now: Instant) {
        let name = self.connection_name(id);
        let link = &mut self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        if let Some(section) = link.pass_fence() {
            self.registry.connection_ended(pool, server, ConnectionName { section, ..name });
            self.remind(pool, server, now);
        }
    }

    /// A connection has ended, and all that was asked on it.
    pub(super) fn end_connection_names(&mut self, id: LinkId, fenced: Option<u32>) {
        let name = self.connection_name(id);
        let link = &mut self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        link.begin_section();
        for section in fenced.into_iter().chain([name.section]) {
            self.registry.connection_ended(pool, server, ConnectionName { section, ..name });
        }
    }

    /// How the registry calls a connection.
    pub(super) fn connection_name(&self, id: LinkId) -> ConnectionName {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        ConnectionName { worker: number(self.worker), place: number(id.index()), section: self.servers[id].section() }
    }

    /// The database whose invalidations a connection sends; `None` for memcached.
    pub(super) fn link_database(&self, id: LinkId) -> Option<u32> {
        self.is_redis(id).then(|| self.servers[id].profile().database)
    }

    /// Whether a connection has to send something that is pending though nobody has asked anything there.
    pub(super) fn has_to_invalidate(&self, id: LinkId) -> bool {
        let (pool, server) = self.link_server(id);
        if !self.registry.has_pending(pool, server) {
            return false;
        }
        let link_database = self.link_database(id);
        self.registry.sendable(pool, server).contains(&link_database) || self.is_first(id)
    }

    /// Whether a link is the first one to its server, which sends the invalidations that belong to no database.
    fn is_first(&self, id: LinkId) -> bool {
        let (pool, server) = self.link_server(id);
        self.member(pool, server).links().first() == Some(&id)
            && self.registry.has_pending_in(pool, server, self.link_database(id))
    }

    /// Something is pending for a live server, and none of its connections is about to be opened: has one of them send it,
    /// for each database, within [`REMINDER`].
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
        let first = self.member(pool, server).first();
        self.arm_link(first, now + REMINDER);
    }

    /// As [`Engine::remind`], where something has become pending of one database, or of what has none.
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

    /// Other workers may have added invalidations that have to be sent behind what was asked on connections of this worker.
    #[cold]
    pub(super) fn arm_invalidators(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        let newest = self.registry.newest_pending(pool, server);
        for place in 0..self.member(pool, server).links().len() {
            let id = self.member(pool, server).links()[place];
            let link = &self.servers[id];
            if link.is_up() && !link.queue().is_invalidated(newest) {
                self.arm_link(id, now + REMINDER);
            }
        }
    }

    /// A connection that sends the invalidations of a database: one that is open, if there is.
    fn link_in_database(&mut self, pool: PoolId, server: ServerId, database: u32) -> LinkId {
        let fit = |servers: &Servers, known: &[LinkId], open: bool| {
            let is_fit = |id: &&LinkId| {
                let link = &servers[**id];
                link.profile().database == database && (!open || (link.is_up() && !link.silence.is_suspect()))
            };
            known.iter().find(is_fit).copied()
        };
        let known = self.member(pool, server).links();
        if let Some(link) = fit(&self.servers, known, true).or_else(|| fit(&self.servers, known, false)) {
            return link;
        }
        self.add_links(pool, server, Profile { database, ..Profile::default() });
        let known = self.member(pool, server).links();
        known.last().copied().unwrap_or_else(|| LinkId::first(0))
    }

    /// Sends on an open connection what has become pending, if the connection can be used.
    #[cold]
    pub(super) fn invalidate_open(&mut self, id: LinkId, now: Instant) {
        let link = &self.servers[id];
        let usable = link.is_up() && link.is_traffic() && !link.silence.is_suspect();
        if usable
            && link.queue().unconfirmed() < BATCH
            && !link.is_full()
            && !link.queue().is_invalidated(self.registry.newest_pending(link.pool(), link.server()))
        {
            self.send_invalidations(id, BATCH, now);
        }
    }

    /// A server has answered an invalidation: confirmed it, or refused it.
    pub(super) fn invalidation_answered(&mut self, id: LinkId, verb: Verb, status: Status, now: Instant) {
        let (pool, server) = self.link_server(id);
        let is_flush = matches!(verb, Verb::FlushAll | Verb::FlushDatabase);
        let link = &self.servers[id];
        // What is brought to another server must not be what this one was to forget.
        let brings = |ticket: &Ticket| matches!(ticket.asker, Asker::Proxy(Intent::Copy(_)));
        let ends = is_flush || link.dedicated().is_some() || link.queue().tickets().any(brings);
        match status {
            // What is behind it must not be answered, and nothing given to nobody on a client's own connection.
            Status::Unwilling(failure) => {
                // Whoever asks it meanwhile must not have all that is pending sent to it each time.
                self.member_mut(pool, server).unwilling_until = Some(now + REMINDER);
                if ends {
                    return self.fail_link(id, failure, now);
                }
                self.put_off_invalidations(id, failure, now);
            }
            // Its administrator may have forbidden it (`-F`, a user's rights). There is nothing else that could be done.
            Status::Error if is_flush || self.is_redis(id) => {
                self.member_mut(pool, server).unwilling_until = None;
                self.notify_rate_limited(Frequent::Unflushed, (pool, server), now, |suppressed| Notice::Unflushed {
                    pool,
                    server,
                    suppressed,
                });
            }
            // It would not forget one thing, so it must forget all.
            Status::Error | Status::OutOfMemory => self.registry.invalidate_all(pool, server, now),
            _ => self.member_mut(pool, server).unwilling_until = None,
        }
        let name = self.connection_name(id);
        let link = &mut self.servers[id];
        let Some(SentBatch { left, range, in_front }) = link.invalidation_answered() else { return };
        let up_to = range.up_to;
        if left == 0 {
            self.registry.confirm(pool, server, range, (!in_front).then_some(name));
            self.has_forgotten((pool, server, range.database), up_to);
        }
        let link = &self.servers[id];
        let is_probe = link.is_probe();
        if up_to == 0 && is_probe {
            return self.fail_link(id, Failure::Unready, now);
        }
        if up_to > 0
            && link.queue().unconfirmed() == 0
            && !(self.registry.has_pending(pool, server) && self.send_invalidations(id, BATCH, now))
            && is_probe
        {
            self.probe_invalidated(id, now);
        }
    }

    /// Whether a server has just refused to forget something, and is not asked again yet.
    pub(super) fn refuses_to_forget(&self, (pool, server): (PoolId, ServerId), now: Instant) -> bool {
        let until = self.member(pool, server).unwilling_until;
        until.is_some_and(|until| now < until) && self.registry.has_pending(pool, server)
    }

    /// A server cannot forget a key for now: the key is sent once more, in front of what is asked next. What has been asked
    /// behind the batch is answered by the pool's policy, whatever the server may say.
    #[cold]
    fn put_off_invalidations(&mut self, id: LinkId, failure: Failure, now: Instant) {
        let link = &mut self.servers[id];
        if !link.put_off_invalidations() {
            return; // another key of the same batch was refused already
        }
        let (pool, server, database) = (link.pool(), link.server(), link.profile().database);
        let behind: Vec<_> = link.queue().tickets().copied().collect();
        for ticket in behind {
            match ticket.asker {
                // What is read there now is from before, and is not to be given to anybody.
                Asker::Proxy(intent @ (Intent::Near(_) | Intent::NearLife(_) | Intent::Look(_))) => {
                    self.unheard(intent)
                }
                Asker::Client { .. } if self.is_awaited(ticket) => {
                    self.fail_ticket((pool, server, database), ticket, b"", failure, now);
                }
                Asker::Proxy(_) | Asker::Unheard(_) | Asker::Client { .. } => {}
            }
        }
        self.remind(pool, server, now);
    }

    /// Asks a server who it is, once, so that a restart can be told from a pause.
    pub(super) fn ask_identity(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if self.is_safe(pool) && self.registry.process(pool, server).is_none() {
            self.ask(id, Verb::Stats, Marks::LISTING, now, |out| encode::stats(out, b""));
        }
    }

    /// A server has told who it is. One that has been started anew is empty: what it missed before is of no account.
    pub(super) fn identified(&mut self, id: LinkId, listing: &[u8], now: Instant) {
        let (pool, server) = self.link_server(id);
        if let (Some(process), Some(uptime)) = (stats::number(listing, b"pid"), stats::number(listing, b"uptime")) {
            let restarted = self.registry.meet(pool, server, process, Duration::from_secs(uptime), now);
            if let Some(probe) = self.servers[id].probe_mut() {
                probe.restarted = restarted;
            }
        }
        if let Some(probe) = self.servers[id].probe_mut()
            && probe.step == ProbeStep::Identify
        {
            probe.step = ProbeStep::Invalidate;
            if !self.send_invalidations(id, BATCH, now) {
                self.probe_invalidated(id, now);
            }
        }
    }

    /// The link for a request to a server that invalidations may be pending for, when they have been sent on it, so that the
    /// request comes behind them. Otherwise the server could show what somebody was told to be gone.
    #[cold]
    #[inline(never)]
    pub(super) fn put_behind_invalidations(&mut self, link: LinkId, now: Instant) -> Result<LinkId, Failure> {
        let (pool, server) = self.link_server(link);
        if !self.registry.has_pending(pool, server) {
            self.member_mut(pool, server).set_open(true);
            return Ok(link);
        }
        self.catch_up(link, now).map(|()| link)
    }

    /// Sends on a connection all that is pending for its server, so that what is asked there next comes behind it.
    ///
    /// # Errors
    ///
    /// More is pending than is sent at once.
    #[cold]
    pub(super) fn catch_up(&mut self, id: LinkId, now: Instant) -> Result<(), Failure> {
        let (pool, server) = self.link_server(id);
        let newest = self.registry.newest_pending(pool, server);
        let link = &self.servers[id];
        if link.queue().is_invalidated(newest) {
            return Ok(());
        }
        // One that is not open yet begins with all that is pending then.
        let begins = !link.is_up() && self.registry.awaits_flush(pool, server, self.link_database(id));
        let is_behind_own = !link.queue().is_empty(); // what comes next must not be forgotten with that
        if begins && !is_behind_own {
            // All that is asked from now on comes behind that.
            let concern = (self.link_database(id), self.connection_name(id));
            let batch = self.registry.next_batch(pool, server, link.queue().invalidated(), concern, MOST);
            self.servers[id].begin_with_pending(batch.range.end());
        } else if link.queue().unconfirmed() < MOST {
            self.send_invalidations(id, MOST, now);
        }
        if begins || self.servers[id].queue().is_invalidated(newest) { Ok(()) } else { Err(Failure::Stalled) }
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
        self.member_mut(pool, server).set_open(false);
    }
}

mod flush;
#[cfg(test)]
mod tests;

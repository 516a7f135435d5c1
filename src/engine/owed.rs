//! What a server missed while it could not be reached, and gets before anything else.
//!
//! Debts are kept by the [`board`](crate::health::Board), one account a server. They are paid in batches, by whichever
//! connection is there: in front of what waits on a fresh connection, and before an ejected server is restored.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::link::{Link, LinkId, LinkState, ProbeStep, Purpose, Ticket};
use super::session::SessionId;
use super::stall::Often;
use super::{Engine, Notice, Timer};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::debts::{OwedKey, Taken};
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::Status;
use crate::proto::memcache::{Verb, encode, lifetime, number, stats};
use crate::proto::resp;
use crate::time::Instant;
use std::time::Duration;

/// How soon a live server is paid what it came to be owed.
const REMINDER: Duration = Duration::from_millis(50);

/// Keys that are paid at a time.
const BATCH: usize = 1000;

impl Engine {
    /// Pays what a server is owed on its fresh connection, in front of what waits there.
    pub(super) fn pay_first(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if self.board.awaits_flush(pool, server) {
            self.board.owe_awaited(pool, server); // another connection may have it, and nothing is to overtake it
        }
        if !self.board.owes(pool, server) {
            return;
        }
        let link = &mut self.links[id.index()];
        let waiting = std::mem::take(&mut link.in_flight);
        let outbox = std::mem::take(&mut link.outbox);
        self.pay(id, now);
        let link = &mut self.links[id.index()];
        // What waits may be all that the memory limit has left: no room beyond it is taken.
        link.outbox.tail().reserve_exact(outbox.waiting());
        for (index, old) in waiting.iter().enumerate() {
            let end = waiting.get(index + 1).map_or_else(|| outbox.end(), |next| next.start);
            let start = link.outbox.end();
            link.outbox.tail().extend_from_slice(outbox.between(old.start, end));
            link.in_flight.push_back(Ticket { start, ..*old });
        }
    }

    /// Queues the next batch of what a server is owed. Returns whether there was anything.
    ///
    /// A server that is drained is not paid: what is still in flight to it may be carried out after the payment.
    pub(super) fn pay(&mut self, id: LinkId, now: Instant) -> bool {
        let (pool, server) = self.link_server(id);
        if self.links[id.index()].purpose != Purpose::Probe && !self.pools[pool.index()].live[server.index()] {
            return false;
        }
        let Taken { flush, databases, keys, flushes: last } = self.board.take_debts(pool, server, BATCH);
        let is_redis = self.is_redis(id);
        if flush {
            self.ask(id, Verb::FlushAll, 0, now, |out| {
                if is_redis { resp::encode::words(out, &[b"FLUSHALL"]) } else { encode::flush_all(out, None) }
            });
        }
        let flushes = u32::from(flush) + u32::try_from(databases.len()).unwrap_or(u32::MAX);
        let link = &mut self.links[id.index()];
        if flushes > 0 {
            (link.flushed, link.flushes) = (true, last);
            link.flushing += flushes;
        }
        databases.iter().for_each(|database| self.flush_database(id, *database, now));
        for OwedKey { key, base64 } in &keys {
            let (verb, marks) = if *base64 { (Verb::MetaDelete, Ticket::BASE64) } else { (Verb::Delete, 0) };
            self.ask(id, verb, marks, now, |out| encode::delete(out, key, *base64));
        }
        let link = &mut self.links[id.index()];
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        link.paid += count;
        link.paying += count + flushes;
        link.paying > 0
    }

    /// A live server is owed something, and no connection of it is about to be opened: sees to it that one pays.
    pub(super) fn remind(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        if self.pools[pool.index()].live[server.index()] {
            let link = self.pools[pool.index()].links[server.index()][0];
            self.arm_link(link, now + REMINDER);
        }
    }

    /// Pays what came to be owed while a connection was open, if it can be used now.
    #[cold]
    pub(super) fn pay_open(&mut self, id: LinkId, now: Instant) {
        let link = &self.links[id.index()];
        let usable = link.state == LinkState::Up && link.purpose == Purpose::Traffic && !link.suspect;
        if usable && (link.paying as usize) < BATCH && !link.is_full() {
            let (pool, server) = (link.pool, link.server);
            if self.board.owes(pool, server) {
                self.pay(id, now);
            }
        }
    }

    /// Has a Redis server forget one of its databases, whichever the connection is set to.
    fn flush_database(&mut self, id: LinkId, database: u32, now: Instant) {
        let own = self.links[id.index()].flavor.database;
        let select = |out: &mut Vec<u8>, number: u32| {
            resp::encode::words(out, &[b"SELECT", number.to_string().as_bytes()]);
        };
        if database != own {
            self.ask(id, Verb::Command, 0, now, |out| select(out, database));
        }
        self.ask(id, Verb::FlushDatabase, 0, now, |out| resp::encode::words(out, &[b"FLUSHDB"]));
        if let Some(ticket) = self.links[id.index()].in_flight.back_mut() {
            ticket.database = database; // for whoever has to owe it again
        }
        if database != own {
            self.ask(id, Verb::Command, 0, now, |out| select(out, own));
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
    pub(super) fn paid(&mut self, id: LinkId, ticket: Ticket, status: Status, now: Instant) {
        let link = &mut self.links[id.index()];
        let is_probe = link.purpose == Purpose::Probe;
        link.paying = link.paying.saturating_sub(1);
        let (pool, server, over) = (link.pool, link.server, link.paying == 0);
        let is_flush = matches!(ticket.verb, Verb::FlushAll | Verb::FlushDatabase);
        link.flushing -= u32::from(is_flush && link.flushing > 0);
        match (ticket.verb, status) {
            (Verb::FlushAll | Verb::FlushDatabase, Status::Unwilling(failure @ Failure::Unready)) => {
                self.unpaid(pool, server, ticket, now);
                return self.fail_link(id, failure, now); // what is behind it must not be answered
            }
            // Its administrator may have forbidden it (`-F`). There is nothing else that could be done.
            (Verb::FlushAll | Verb::FlushDatabase, Status::Error | Status::Unwilling(_)) => {
                self.tell_seldom(Often::Unflushed, (pool, server), now, |suppressed| Notice::Unflushed {
                    pool,
                    server,
                    suppressed,
                });
            }
            // It would not forget one thing, so it must forget all.
            (_, Status::Error | Status::OutOfMemory) => self.board.owe_flush(pool, server, now),
            _ => {}
        }
        let Link { flushing, flushes, .. } = self.links[id.index()];
        if is_flush && flushing == 0 {
            self.board.confirm_flush(pool, server, flushes);
        }
        if over && !(self.board.owes(pool, server) && self.pay(id, now)) && is_probe {
            self.probe_paid(id, now);
        }
    }

    /// Asks a server who it is, once, so that a restart can be told from a pause.
    pub(super) fn ask_identity(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if self.is_safe(pool) && self.board.process(pool, server).is_none() {
            self.ask(id, Verb::Stats, Ticket::LISTING, now, |out| encode::stats(out, b""));
        }
    }

    /// A server has told who it is. One that has been started anew is empty: what it missed before is of no account.
    pub(super) fn identified(&mut self, id: LinkId, listing: &[u8], now: Instant) {
        let (pool, server) = self.link_server(id);
        if let (Some(process), Some(uptime)) = (stats::number(listing, b"pid"), stats::number(listing, b"uptime")) {
            self.links[id.index()].restarted = self.board.meet(pool, server, process, Duration::from_secs(uptime), now);
        }
        let link = &self.links[id.index()];
        if link.purpose == Purpose::Probe && link.step == ProbeStep::Identify {
            self.links[id.index()].step = ProbeStep::Pay;
            if !self.pay(id, now) {
                self.probe_paid(id, now);
            }
        }
    }

    /// A request that every server must have got did not reach one of them. A flush is remembered: the server must not
    /// come back with what it was told to forget. One that is `due` later is paid then.
    pub(super) fn undelivered(
        &mut self,
        pool: PoolId,
        server: ServerId,
        verb: Verb,
        database: u32,
        due: Option<Instant>,
        now: Instant,
    ) {
        if !self.forgives(pool) && !self.is_safe(pool) {
            return;
        }
        if let Some(due) = due.filter(|due| *due > now) {
            // Not as `flush_all` with what is left of its delay: to memcached, that takes back a flush before it.
            self.board.owe_flush_later(pool, server, due);
            return self.timers.set(due, Timer::Flush(pool, server));
        }
        self.owe_flush_of(pool, server, verb, database, now);
    }

    /// When a flush takes effect that was asked for with `delay`: `None` if that is at once. As memcached reads it, more
    /// than 30 days are a point in time.
    pub(super) fn flush_due(&self, delay: i64, asked: Instant) -> Option<Instant> {
        let delay = u64::try_from(delay).ok().filter(|delay| *delay > 0)?;
        if delay <= lifetime::RELATIVE_LIMIT.unsigned_abs() {
            return Some(asked + Duration::from_secs(delay));
        }
        Duration::from_secs(delay).checked_sub(self.started_at).map(|at| Instant::ZERO + at)
    }

    /// When a flush takes effect that was lost: of a client that waits for it as it was asked, of another by its line.
    pub(super) fn due_of(&mut self, id: SessionId, ticket: Ticket, request: &[u8], now: Instant) -> Option<Instant> {
        if ticket.verb != Verb::FlushAll {
            return None;
        }
        let slot = self.session(id).filter(|_| !ticket.is(Ticket::NOREPLY));
        if let Some(merge) = slot.and_then(|session| session.slot_mut(ticket.number)?.merge.as_deref()) {
            return merge.due();
        }
        let delay = number::signed(Words::new(request.trim_ascii_end()).nth(1)?)?;
        self.flush_due(delay, now)
    }

    /// A flush that a server missed may be due.
    pub(super) fn flush_timer(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        if self.board.owe_due_flush(pool, server, now) {
            self.remind(pool, server, now);
        }
    }

    /// A payment was not confirmed. A flush that was taken from the board returns to it, whatever the pool's policy; of
    /// keys, [`Engine::owe_lost`] sees to that.
    pub(super) fn unpaid(&mut self, pool: PoolId, server: ServerId, ticket: Ticket, now: Instant) {
        if matches!(ticket.verb, Verb::FlushAll | Verb::FlushDatabase) {
            self.board.owe_awaited(pool, server);
            self.remind(pool, server, now);
        }
        if ticket.verb == Verb::Query && ticket.is(Ticket::WAITS) {
            self.unheard_of_waiting(ticket);
        }
    }

    /// A server that awaits a flush is asked something. It is, behind the flush on the same connection. On another one
    /// it could show what somebody was told that it has forgotten.
    #[cold]
    #[inline(never)]
    pub(super) fn link_behind_flush(
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
        if !self.board.awaits_flush(pool, server) {
            self.pools[pool.index()].open[server.index()] = true;
            return Ok(link);
        }
        let Link { state, flushing, flushes, .. } = self.links[link.index()];
        let is_behind = flushing > 0 && flushes == self.board.flushes(pool, server);
        if state == LinkState::Up && !is_behind {
            self.board.owe_awaited(pool, server);
            self.pay(link, now);
        }
        Ok(link) // one that is not open yet begins with the flush
    }

    fn owe_flush_of(&mut self, pool: PoolId, server: ServerId, verb: Verb, database: u32, now: Instant) {
        match verb {
            Verb::FlushDatabase => self.board.owe_database(pool, server, database, now),
            Verb::FlushAll => self.board.owe_flush(pool, server, now),
            _ => return,
        }
        self.remind(pool, server, now);
    }
}

//! What a server missed while it could not be reached, and gets before anything else.
//!
//! Debts are kept by the [`board`](crate::health::Board), one account a server, until the server has confirmed that it
//! has forgotten. They are paid in batches, on whichever connection is to be used: nothing is asked on one that is not
//! behind all that its server is owed, so nobody reads what somebody was told to be gone. Before an ejected server is
//! restored its probe pays.
//!
//! Where a connection may have older writes of a key on its way, it has to pay as well, behind these, or to end: what they
//! store must not outlive the payment.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::fault;
use super::link::{LinkId, LinkState, Payment, ProbeStep, Purpose, Ticket};
use super::session::SessionId;
use super::stall::Often;
use super::{Effect, Engine, Notice, Timer};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::debts::{Due, OwedKey, Way};
use crate::proto::memcache::request::Words;
use crate::proto::memcache::response::Status;
use crate::proto::memcache::{Verb, encode, lifetime, number, stats};
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
    /// Pays what a server is owed on its fresh connection, in front of all that waits there. What it is too much for is
    /// answered by the pool's policy.
    pub(super) fn pay_first(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if !self.board.owes(pool, server) {
            return;
        }
        if !self.is_settled(pool, server, now) {
            self.abandon(id, Failure::Stalled, now); // it must not be asked anything in front of the payment
            self.pay(id, MOST, now); // which waits until the server is settled
            return;
        }
        let link = &mut self.links[id.index()];
        let waiting = std::mem::take(&mut link.in_flight);
        let outbox = std::mem::take(&mut link.outbox);
        let later = std::mem::take(&mut link.payments);
        self.pay(id, MOST, now);
        let link = &mut self.links[id.index()];
        link.payments.extend(later);
        let is_behind = link.behind >= self.board.owed(pool, server);
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
                self.owe_lost(id, old, request, !old.is(Ticket::RESENT), now);
                self.leave_link(id, old);
                self.fail_ticket(pool, server, old, request, Failure::Stalled, now);
            }
        }
        self.count_lost(pool, server, lost);
        self.charge_link(id);
    }

    /// Queues what a server is owed that the connection is not behind, up to `most` keys of it. Returns whether any payment
    /// waits for its answer.
    ///
    /// A server that is drained is not paid: what is still in flight to it may be carried out after the payment.
    pub(super) fn pay(&mut self, id: LinkId, most: usize, now: Instant) -> bool {
        let (pool, server) = self.link_server(id);
        let link = &self.links[id.index()];
        if link.purpose != Purpose::Probe && !self.pools[pool.index()].live[server.index()] {
            return false;
        }
        if link.purpose != Purpose::Probe && !self.may_pay(id, now) {
            return false;
        }
        let link = &self.links[id.index()];
        let Due { flush, databases, keys, up_to } = self.board.due(pool, server, link.behind, most);
        let is_redis = self.is_redis(id);
        if flush {
            self.ask(id, Verb::FlushAll, 0, now, |out| {
                if is_redis { resp::encode::words(out, &[b"FLUSHALL"]) } else { encode::flush_all(out, None) }
            });
        }
        let own = self.links[id.index()].flavor.database;
        let mut selected = own;
        for database in &databases {
            self.turn_to(id, &mut selected, *database, now);
            self.ask(id, Verb::FlushDatabase, 0, now, |out| resp::encode::words(out, &[b"FLUSHDB"]));
        }
        for OwedKey { database, key, base64 } in &keys {
            if let Some(database) = database {
                self.turn_to(id, &mut selected, *database, now);
                self.ask(id, Verb::Delete, 0, now, |out| resp::encode::words(out, &[b"DEL", key]));
                continue;
            }
            let (verb, marks) = if *base64 { (Verb::MetaDelete, Ticket::BASE64) } else { (Verb::Delete, 0) };
            self.ask(id, verb, marks, now, |out| encode::delete(out, key, *base64));
        }
        self.turn_to(id, &mut selected, own, now);
        let link = &mut self.links[id.index()];
        let from = link.behind;
        link.behind = from.max(up_to);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        link.flushed |= flush || !databases.is_empty();
        link.paid += count(keys.len());
        let left = u32::from(flush) + count(databases.len()) + count(keys.len());
        if left > 0 {
            link.payments.push_back(Payment { left, from, up_to });
        }
        !link.payments.is_empty()
    }

    /// Has what follows on a connection to Redis concern a database.
    fn turn_to(&mut self, id: LinkId, selected: &mut u32, database: u32, now: Instant) {
        if std::mem::replace(selected, database) != database {
            self.ask(id, Verb::Command, 0, now, |out| {
                resp::encode::words(out, &[b"SELECT", database.to_string().as_bytes()]);
            });
        }
    }

    /// How a connection is called on the board.
    pub(super) fn way(&self, id: LinkId) -> Way {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Way { worker: number(self.worker), place: number(id.index()) }
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
        if usable && link.paying() < BATCH && !link.is_full() && link.behind < self.board.owed(link.pool, link.server) {
            self.pay(id, BATCH, now);
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
        let (pool, server) = self.link_server(id);
        let is_flush = matches!(ticket.verb, Verb::FlushAll | Verb::FlushDatabase);
        match status {
            // What is behind it must not be answered.
            Status::Unwilling(failure @ Failure::Unready) if is_flush => return self.fail_link(id, failure, now),
            Status::Unwilling(failure @ Failure::Unready) => self.put_off_payments(id, failure, now),
            // Its administrator may have forbidden it (`-F`). There is nothing else that could be done.
            Status::Error | Status::Unwilling(_) if is_flush || self.is_redis(id) => {
                self.tell_seldom(Often::Unflushed, (pool, server), now, |suppressed| Notice::Unflushed {
                    pool,
                    server,
                    suppressed,
                });
            }
            // It would not forget one thing, so it must forget all.
            Status::Error | Status::OutOfMemory => self.board.owe_flush(pool, server, now),
            _ => {}
        }
        let way = self.way(id);
        let link = &mut self.links[id.index()];
        let Some(payment) = link.payments.front_mut() else { return };
        payment.left = payment.left.saturating_sub(1);
        let Payment { left, from, up_to } = *payment;
        if left == 0 {
            link.payments.pop_front();
            self.board.confirm(pool, server, from + 1..=up_to, way);
        }
        let link = &self.links[id.index()];
        let is_probe = link.purpose == Purpose::Probe;
        if up_to == 0 && is_probe {
            return self.fail_link(id, Failure::Unready, now);
        }
        if up_to > 0
            && link.payments.is_empty()
            && !(self.board.owes(pool, server) && self.pay(id, BATCH, now))
            && is_probe
        {
            self.probe_paid(id, now);
        }
    }

    /// A server cannot forget a key for now: it is told once more, in front of what is asked next. What has been asked behind
    /// the payment is answered by the pool's policy, whatever the server may say.
    #[cold]
    fn put_off_payments(&mut self, id: LinkId, failure: Failure, now: Instant) {
        let link = &mut self.links[id.index()];
        if link.payments.front().is_none_or(|payment| payment.up_to == 0) {
            return; // of the same payment another key was refused already
        }
        if matches!(link.purpose, Purpose::Dedicated(_)) {
            return self.fail_link(id, failure, now); // what waits there must not be given anything for nobody
        }
        link.payments.iter_mut().for_each(|payment| payment.up_to = 0);
        link.behind = 0;
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
            if !self.pay(id, BATCH, now) {
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
            self.effects.push_back(Effect::News); // it is to be kept, too
            return self.time_flush(pool, server, due);
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
        let timed = &mut self.pools[pool.index()].flush_timers[server.index()];
        if timed.is_some_and(|at| at > now) {
            return; // set before an earlier one, which has set the next
        }
        *timed = None;
        let (is_due, next) = self.board.owe_due_flush(pool, server, now);
        if is_due {
            self.remind(pool, server, now);
        }
        if let Some(next) = next {
            self.time_flush(pool, server, next);
        }
    }

    /// Has it looked at then what a server is to be flushed of. One timer a server, however many flushes there are.
    fn time_flush(&mut self, pool: PoolId, server: ServerId, due: Instant) {
        let timed = &mut self.pools[pool.index()].flush_timers[server.index()];
        if timed.is_none_or(|timed| due < timed) {
            *timed = Some(due);
            self.timers.set(due, Timer::Flush(pool, server));
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
    pub(super) fn link_behind_debts(
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
        if !self.board.owes(pool, server) {
            self.pools[pool.index()].open[server.index()] = true;
            return Ok(link);
        }
        self.get_behind(link, now).map(|()| link)
    }

    /// Pays on a connection all that its server is owed, so that what is asked there next comes behind it.
    ///
    /// # Errors
    ///
    /// It is too much to be paid at once.
    #[cold]
    pub(super) fn get_behind(&mut self, id: LinkId, now: Instant) -> Result<(), Failure> {
        let (pool, server) = self.link_server(id);
        let owed = self.board.owed(pool, server);
        let link = &self.links[id.index()];
        if link.behind >= owed || (link.state != LinkState::Up && self.board.awaits_flush(pool, server)) {
            return Ok(()); // one that is not open yet begins with the flush
        }
        if link.paying() < MOST {
            self.pay(id, MOST, now);
        }
        if self.links[id.index()].behind >= owed { Ok(()) } else { Err(Failure::Stalled) }
    }

    /// Notes that a server must forget a key before it is asked anything else.
    pub(super) fn owe_key(&mut self, (pool, server): (PoolId, ServerId), key: OwedKey, way: Option<Way>, now: Instant) {
        self.board.owe_key(pool, server, key, way, now);
        self.pools[pool.index()].open[server.index()] = false;
    }

    fn owe_flush_of(&mut self, pool: PoolId, server: ServerId, verb: Verb, database: u32, now: Instant) {
        match verb {
            Verb::FlushDatabase => self.board.owe_database(pool, server, database, now),
            Verb::FlushAll => self.board.owe_flush(pool, server, now),
            _ => return,
        }
        self.pools[pool.index()].open[server.index()] = false;
        self.remind(pool, server, now);
    }
}

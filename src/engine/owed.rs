//! What a server missed while it could not be reached, and gets before anything else.
//!
//! Debts are kept by the [`registry`](crate::health::Registry), one account a server, until the server has confirmed that it
//! has forgotten. They are paid in batches, on whichever connection is to be used: nothing is asked on one that is not
//! behind all that its server is owed, so nobody reads what somebody was told to be gone. Before an ejected server is
//! restored its probe pays.
//!
//! A connection to Redis pays what is owed of the database that it was set to when it was greeted, and no other: a server
//! carries out what comes behind a `SELECT` that it has refused as well, in the database that the connection was in before.
//! What is owed of a database to which there is no connection has one opened. A server may be restored while it is owed
//! something of a database that the pool does not begin with: each connection to that begins with the payment.
//!
//! Where a connection may have older writes of a key on its way, it has to pay as well, behind these, or to end: what they
//! store must not outlive the payment.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use super::fault;
use super::link::{Link, LinkId, LinkState, Payment, ProbeStep, Purpose, Ticket};
use super::redis::Profile;
use super::session::SessionId;
use super::stall::Frequent;
use super::{Engine, Notice};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::debts::{Behind, Bill, Origin, OwedKey, Way};
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
    pub(super) fn pay_first(&mut self, id: LinkId, now: Instant) {
        let (pool, server) = self.link_server(id);
        if !self.registry.owes(pool, server) {
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
        let before = link.behind;
        let bill = self.registry.due(pool, server, before, (self.ledger(id), self.way(id)), MOST);
        let again = !waiting.is_empty() && (bill.is_behind_own || bill.fence);
        if self.registry.awaits_flush(pool, server, self.ledger(id)) {
            self.links[id.index()].behind = Behind::default(); // it counted on beginning with that
        }
        self.pay_bill(id, MOST, !waiting.is_empty(), now);
        let link = &mut self.links[id.index()];
        link.payments.append(later);
        let is_behind = link.behind.number >= self.registry.owed(pool, server);
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
        if again {
            self.links[id.index()].behind = before;
            self.pay(id, MOST, now);
        }
        self.charge_link(id);
    }

    /// Queues what a server is owed that the connection is not behind, up to `most` keys of it. Returns whether any payment
    /// waits for its answer.
    ///
    /// A server that is drained is not paid: what is still in flight to it may be carried out after the payment.
    pub(super) fn pay(&mut self, id: LinkId, most: usize, now: Instant) -> bool {
        self.pay_bill(id, most, false, now)
    }

    /// As [`Engine::pay`], also in front of what waits on the connection.
    fn pay_bill(&mut self, id: LinkId, most: usize, in_front: bool, now: Instant) -> bool {
        let (pool, server) = self.link_server(id);
        let link = &self.links[id.index()];
        if link.purpose != Purpose::Probe && !self.pools[pool.index()].live[server.index()] {
            return false;
        }
        let concern = (self.ledger(id), self.way(id));
        let Bill { flush, database, keys, share, fence, .. } =
            self.registry.due(pool, server, link.behind, concern, most);
        // Looked at behind that: who gives up a connection says so before what was lost with it is owed.
        if !self.may_pay(id, now) {
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
        for OwedKey { key, base64, .. } in &keys {
            if is_redis {
                self.ask(id, Verb::Delete, 0, now, |out| resp::encode::words(out, &[b"DEL", key]));
                continue;
            }
            let (verb, marks) = if *base64 { (Verb::MetaDelete, Ticket::BASE64) } else { (Verb::Delete, 0) };
            self.ask(id, verb, marks, now, |out| encode::delete(out, key, *base64));
        }
        let link = &mut self.links[id.index()];
        link.behind = share.behind();
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        link.flushed |= flush || database;
        link.paid += count;
        let left = u32::from(flush) + u32::from(database) + count;
        if left > 0 {
            link.payments.push(Payment { left, share, in_front });
        }
        if fence && !in_front && link.purpose == Purpose::Traffic && link.fenced.is_none() {
            self.fence(id, now);
        }
        !self.links[id.index()].payments.is_empty()
    }

    /// What was asked on a connection so far may concern databases that it cannot pay for: has it found out when that is
    /// over.
    #[cold]
    fn fence(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.links[id.index()];
        link.fenced = Some(link.turn);
        link.turn += 1;
        self.ask(id, Verb::Query, 0, now, |out| resp::encode::words(out, &[b"PING"]));
    }

    /// All is over that had been asked on a connection when it was fenced: what is owed behind that is to be paid anew.
    #[cold]
    pub(super) fn passed_fence(&mut self, id: LinkId, now: Instant) {
        let way = self.way(id);
        let link = &mut self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        if let Some(turn) = link.fenced.take() {
            self.registry.end_way(pool, server, Way { turn, ..way });
            self.remind(pool, server, now);
        }
    }

    /// A connection has ended, and all that was asked on it.
    pub(super) fn end_ways(&mut self, id: LinkId) {
        let way = self.way(id);
        let link = &mut self.links[id.index()];
        let (pool, server, fenced) = (link.pool, link.server, link.fenced.take());
        link.turn += 1;
        for turn in fenced.into_iter().chain([way.turn]) {
            self.registry.end_way(pool, server, Way { turn, ..way });
        }
    }

    /// How the registry calls a connection.
    pub(super) fn way(&self, id: LinkId) -> Way {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Way { worker: number(self.worker), place: number(id.index()), turn: self.links[id.index()].turn }
    }

    /// The database that a connection pays for.
    pub(super) fn ledger(&self, id: LinkId) -> Option<u32> {
        self.is_redis(id).then(|| self.links[id.index()].profile.database)
    }

    /// Whether a server is owed something that a connection is to pay though nobody has asked anything there.
    pub(super) fn has_to_pay(&self, id: LinkId) -> bool {
        let (pool, server) = self.link_server(id);
        if !self.registry.owes(pool, server) {
            return false;
        }
        let ledger = self.ledger(id);
        self.registry.payable(pool, server).contains(&ledger) || self.is_first(id)
    }

    /// Whether a link is the first one to its server, which pays what is owed of no database.
    fn is_first(&self, id: LinkId) -> bool {
        let (pool, server) = self.link_server(id);
        self.pools[pool.index()].links[server.index()].first() == Some(&id)
            && self.registry.owes_in(pool, server, self.ledger(id))
    }

    /// A live server is owed something, and no connection of it is about to be opened: sees to it that one pays for each
    /// database.
    pub(super) fn remind(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        if !self.pools[pool.index()].live[server.index()] {
            return;
        }
        self.remind_first(pool, server, now);
        for database in self.registry.payable(pool, server).into_iter().flatten() {
            let payer = self.payer(pool, server, database);
            self.arm_link(payer, now + REMINDER);
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
        if let Some(database) = database.filter(|database| self.registry.is_payable(pool, server, *database)) {
            let payer = self.payer(pool, server, database);
            self.arm_link(payer, now + REMINDER);
        }
    }

    /// Other workers may have come to owe a server something that has to be paid behind what was asked on connections of
    /// this one.
    #[cold]
    pub(super) fn arm_payers(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        let owed = self.registry.owed(pool, server);
        for place in 0..self.pools[pool.index()].links[server.index()].len() {
            let id = self.pools[pool.index()].links[server.index()][place];
            let link = &self.links[id.index()];
            if link.state == LinkState::Up && link.behind.number < owed {
                self.arm_link(id, now + REMINDER);
            }
        }
    }

    /// A connection that pays for a database: one that is open, if there is.
    fn payer(&mut self, pool: PoolId, server: ServerId, database: u32) -> LinkId {
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
    pub(super) fn pay_open(&mut self, id: LinkId, now: Instant) {
        let link = &self.links[id.index()];
        let usable = link.state == LinkState::Up && link.purpose == Purpose::Traffic && !link.suspect;
        if usable
            && link.payments.left() < BATCH
            && !link.is_full()
            && link.behind.number < self.registry.owed(link.pool, link.server)
        {
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
                self.notify_rate_limited(Frequent::Unflushed, (pool, server), now, |suppressed| Notice::Unflushed {
                    pool,
                    server,
                    suppressed,
                });
            }
            // It would not forget one thing, so it must forget all.
            Status::Error | Status::OutOfMemory => self.registry.owe_flush(pool, server, now),
            _ => {}
        }
        let way = self.way(id);
        let link = &mut self.links[id.index()];
        let Some(Payment { left, share, in_front }) = link.payments.answered() else { return };
        let up_to = share.up_to;
        if left == 0 {
            self.registry.confirm(pool, server, share, (!in_front).then_some(way));
        }
        let link = &self.links[id.index()];
        let is_probe = link.purpose == Purpose::Probe;
        if up_to == 0 && is_probe {
            return self.fail_link(id, Failure::Unready, now);
        }
        if up_to > 0
            && link.payments.is_empty()
            && !(self.registry.owes(pool, server) && self.pay(id, BATCH, now))
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
        if matches!(link.purpose, Purpose::Dedicated(_)) {
            return self.fail_link(id, failure, now); // what waits there must not be given anything for nobody
        }
        if !link.payments.put_off() {
            return; // of the same payment another key was refused already
        }
        link.behind = Behind::default();
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
            self.links[id.index()].step = ProbeStep::Pay;
            if !self.pay(id, BATCH, now) {
                self.probe_paid(id, now);
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
        if !self.registry.owes(pool, server) {
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
        let owed = self.registry.owed(pool, server);
        let link = &self.links[id.index()];
        if link.behind.number >= owed {
            return Ok(());
        }
        // One that is not open yet begins with the flush.
        let begins = link.state != LinkState::Up && self.registry.awaits_flush(pool, server, self.ledger(id));
        let is_behind_own = !link.in_flight.is_empty(); // what comes next must not be forgotten with that
        if link.payments.left() < MOST && (is_behind_own || !begins) {
            self.pay(id, MOST, now);
        }
        if begins || self.links[id.index()].behind.number >= owed { Ok(()) } else { Err(Failure::Stalled) }
    }

    /// Notes that a server must forget a key before it is asked anything else.
    pub(super) fn owe_key(
        &mut self,
        (pool, server): (PoolId, ServerId),
        key: OwedKey,
        from: Option<Origin>,
        now: Instant,
    ) {
        self.registry.owe_key(pool, server, key, from, now);
        self.pools[pool.index()].open[server.index()] = false;
    }
}

mod flush;
#[cfg(test)]
mod tests;

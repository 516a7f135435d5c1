//! Flushes that a server missed: at once, or when they take effect.

use std::time::Duration;

use super::REMINDER;
use crate::config::model::{PoolId, ServerId};
use crate::engine::servers::ticket::Ticket;
use crate::engine::{Effect, Engine, Timer};
use crate::health::pending::OlderWrites;
use crate::proto::memcache::request::Words;
use crate::proto::memcache::{Verb, lifetime, number};
use crate::time::Instant;

impl Engine {
    /// A request that every server must have got did not reach one of them. A flush is remembered: the server must not
    /// come back with what it was told to forget. One that takes effect later, at `due`, is sent then.
    pub(in crate::engine) fn undelivered(
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
            self.registry.invalidate_all_later(pool, server, due);
            self.outputs.push(Effect::News); // it is to be kept, too
            return self.time_flush(pool, server, due);
        }
        self.invalidate_by_flush(pool, server, verb, database, now);
        if matches!(verb, Verb::FlushAll | Verb::FlushDatabase) {
            self.near_changes_all(pool); // its client is told that it is done: what was read since it was sent is from before
        }
    }

    /// When a flush takes effect that was asked for with `delay`: `None` if that is at once. As memcached reads it, more
    /// than 30 days are a point in time.
    pub(in crate::engine) fn flush_due(&self, delay: i64, asked: Instant) -> Option<Instant> {
        let delay = u64::try_from(delay).ok().filter(|delay| *delay > 0)?;
        if delay <= lifetime::RELATIVE_LIMIT.unsigned_abs() {
            return Some(asked + Duration::from_secs(delay));
        }
        Duration::from_secs(delay).checked_sub(self.started_at).map(|at| Instant::ZERO + at)
    }

    /// When a flush takes effect that was lost: of a client that waits for it as it was asked, of another by its line.
    pub(in crate::engine) fn due_of(&mut self, ticket: Ticket, request: &[u8], now: Instant) -> Option<Instant> {
        if ticket.verb != Verb::FlushAll {
            return None;
        }
        if let Some((id, number)) = ticket.client()
            && let Some(merge) = self.session(id).and_then(|session| session.slot_mut(number)?.merge())
        {
            return merge.due();
        }
        let delay = number::signed(Words::new(request.trim_ascii_end()).nth(1)?)?;
        self.flush_due(delay, now)
    }

    /// A flush that a server missed may be due.
    pub(in crate::engine) fn flush_timer(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        if !self.member_mut(pool, server).flush_timer().is_due(now) {
            return;
        }
        let (is_due, next) = self.registry.invalidate_all_due(pool, server, now);
        if is_due {
            self.remind(pool, server, now);
        }
        if let Some(next) = next {
            self.time_flush(pool, server, next);
        }
    }

    /// Sets the timer that looks at a flush when it is `due`. One timer a server, however many flushes there are.
    pub(in crate::engine) fn time_flush(&mut self, pool: PoolId, server: ServerId, due: Instant) {
        if self.member_mut(pool, server).flush_timer().set(due) {
            self.timers.set(due, Timer::Flush(pool, server));
        }
    }

    /// A client's flush was not delivered. What the clients of this worker have asked before it must not come behind it; of
    /// those of others nobody knows that they came first.
    fn invalidate_by_flush(&mut self, pool: PoolId, server: ServerId, verb: Verb, database: u32, now: Instant) {
        let database = match verb {
            Verb::FlushDatabase => Some(database),
            Verb::FlushAll => None,
            _ => return,
        };
        let mut older = Vec::new();
        for place in 0..self.member(pool, server).links().len() {
            let id = self.member(pool, server).links()[place];
            let link = &self.servers[id];
            let changes = |ticket: &Ticket| !ticket.is_own() && !ticket.only_reads();
            if !link.is_down() && link.queue().tickets().any(changes) {
                let is_foreign = database.is_some() && database != self.link_database(id);
                older.push(OlderWrites { name: self.connection_name(id), is_foreign });
                self.arm_link(id, now + REMINDER);
            }
        }
        match database {
            Some(database) => self.registry.invalidate_database(pool, server, database, &older, now),
            None => self.registry.invalidate_all_behind(pool, server, &older, now),
        }
        self.member_mut(pool, server).set_open(false);
        self.remind(pool, server, now);
    }
}

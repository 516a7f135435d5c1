//! All of a worker that wait for a key look together whether it is there.

use super::awaited::Lease;
use crate::engine::ids::LinkId;
use crate::engine::servers::ticket::{Intent, Marks};
use crate::engine::{Engine, next_random};
use crate::proto::lease;
use crate::proto::memcache::copy::{self as memcache, Key as Wire};
use crate::proto::memcache::encode as memcache_encode;
use crate::proto::memcache::response::Status;
use crate::proto::resp::{copy as resp, encode};
use crate::proto::stale;
use crate::proto::verb::Verb;
use crate::time::Instant;
use std::time::Duration;

/// How often a key is looked at that is waited for, and by how much at the most that differs to either side.
const EVERY: Duration = Duration::from_millis(20);
const JITTER: u32 = 5_000_000;

/// How soon a key is looked at that may have been stored. Who stores one often stores another behind it, which those who are given
/// the first ask for next (Django's pages: first what they depend on, then themselves).
const BEHIND: Duration = Duration::from_millis(3);

/// From so many keys on, they are looked at half as often.
const MANY: usize = 256;

impl Engine {
    /// Looks at a key that is waited for.
    pub(super) fn look_for_key(&mut self, number: u32, now: Instant) {
        self.stampede.look_at(number, None);
        let Some(awaited) = self.stampede.awaited.get(&number) else { return };
        let (pool, profile) = (awaited.pool, awaited.profile);
        let server = self.pools[pool.index()].ring.route(&awaited.key.routed, 0);
        match server.and_then(|server| self.link_for(pool, profile, server, now)) {
            Some(link) => self.look_for_key_on(number, link, now),
            None => self.looked(number, Lease::Unknown, None, now),
        }
    }

    /// Something has been stored or removed that may be what is waited for: it is looked at soon.
    pub(super) fn look_behind(&mut self, number: u32, now: Instant) {
        let Some(awaited) = self.stampede.awaited.get_mut(&number) else { return };
        awaited.is_stale = true;
        if awaited.looks.is_none() {
            self.stampede.look_at(number, Some(now + BEHIND));
            self.arm_stampede();
        }
    }

    fn look_for_key_on(&mut self, number: u32, link: LinkId, now: Instant) {
        let Some(awaited) = self.stampede.awaited.get_mut(&number) else { return };
        let pool = awaited.pool;
        (awaited.looks, awaited.is_stale, awaited.looked_at) = (Some(None), false, now);
        let option = self.topology.pools[pool.index()].stampede.as_ref();
        let time = option.map_or(Duration::from_secs(1), |one| one.lease);
        let (key, is_redis, is_meta) = (awaited.key.clone(), awaited.profile.is_some(), awaited.is_meta);
        let name = lease::name(&key.routed);
        let former = self.copies_for(pool, &key.routed).map(|_| stale::name(&key.routed));
        if is_redis {
            let lease = (Intent::Lease(number), Verb::Command, Marks::NONE);
            self.go(link, lease, now, |out| lease::resp::take(out, &name, time));
            if let Some(name) = former {
                let before = (Intent::Former(number), Verb::Query, Marks::NONE);
                self.go(link, before, now, |out| stale::resp::read(out, &name));
            }
            let look = (Intent::Look(number), Verb::Query, Marks::NONE);
            self.go(link, look, now, |out| encode::words(out, &[b"EXISTS", &key.routed]));
        } else {
            let lease = (Intent::Lease(number), Verb::Add, Marks::NONE);
            self.go(link, lease, now, |out| lease::memcache::take(out, &name, time));
            if let Some(name) = former {
                let before = (Intent::Former(number), Verb::MetaGet, Marks::NONE);
                self.go(link, before, now, |out| stale::memcache::read(out, &name));
            }
            let base64 = key.base64.is_some();
            if is_meta {
                let look = (Intent::Look(number), Verb::MetaGet, Marks::BASE64.when(base64));
                self.go(link, look, now, |out| memcache::ask_for(out, Wire { bytes: key.wire(), base64 }));
            } else {
                let look = (Intent::Look(number), Verb::Get, Marks::NONE);
                self.go(link, look, now, |out| memcache_encode::get_one(out, Verb::Get, None, &key.routed, None));
            }
        }
        self.charge_link(link);
    }

    /// A server has said what a lease has come to.
    #[cold]
    pub(in crate::engine) fn lease_answered(&mut self, number: u32, status: Status) {
        let Some(awaited) = self.stampede.awaited.get_mut(&number) else { return };
        awaited.looks = Some(Some(match status {
            Status::Done => Lease::Given,
            Status::Absent | Status::Conflict => Lease::Refused,
            Status::OutOfMemory | Status::Unwilling(_) | Status::Error => Lease::Unknown,
        }));
    }

    /// A server has said whether a key is there.
    #[cold]
    pub(in crate::engine) fn look_answered(&mut self, number: u32, answer: &[u8], status: Status, now: Instant) {
        let Some(awaited) = self.stampede.awaited.get(&number) else { return };
        let lease = awaited.looks.flatten().unwrap_or(Lease::Unknown);
        let is_there = match status {
            Status::Done if awaited.profile.is_some() => resp::integer(answer).map(|count| count > 0),
            Status::Done => Some(true),
            Status::Absent => Some(false),
            Status::Error => answer.is_empty().then_some(true), // a value that was too large to be read
            Status::Conflict | Status::OutOfMemory | Status::Unwilling(_) => None,
        };
        self.looked(number, lease, is_there, now);
        self.charge_stampede();
    }

    /// It will not be known.
    #[cold]
    pub(in crate::engine) fn look_lost(&mut self, number: u32) {
        self.looked(number, Lease::Unknown, None, self.now);
        self.charge_stampede();
    }

    /// It is known whether a key is there, and who has the lease, or that this cannot be known.
    fn looked(&mut self, number: u32, lease: Lease, is_there: Option<bool>, now: Instant) {
        let Some(awaited) = self.stampede.awaited.get_mut(&number) else { return };
        awaited.looks = None;
        let (is_stale, former) = (std::mem::take(&mut awaited.is_stale), awaited.former.take());
        match (is_there, lease) {
            (Some(true), _) => {
                let Some(awaited) = self.stampede.end_await(number) else { return };
                if lease == Lease::Given {
                    self.end_lease(awaited.pool, awaited.profile, &awaited.key, now);
                }
                awaited.waiting.iter().for_each(|id| self.ask_once_more(*id, &awaited.key, now));
            }
            (Some(false), Lease::Given) => {
                let (pool, profile, key) = (awaited.pool, awaited.profile, awaited.key.clone());
                match awaited.waiting.pop_front() {
                    Some(id) => {
                        self.counters.pool(pool).stampede_leases.add(1);
                        self.compute(id, &key, now);
                        let asked_since = self.give_former(number, former, now);
                        self.wait_on(number, is_stale || asked_since, now);
                    }
                    None => {
                        self.end_lease(pool, profile, &key, now);
                        self.stampede.end_await(number);
                    }
                }
            }
            (Some(false), Lease::Refused) => {
                let asked_since = self.give_former(number, former, now);
                self.wait_on(number, is_stale || asked_since, now);
            }
            (None, _) | (_, Lease::Unknown) => {
                let Some(awaited) = self.stampede.end_await(number) else { return };
                awaited.waiting.iter().for_each(|id| self.tell_misses(*id, now));
            }
        }
    }

    /// Somebody computes a key: those who wait for it go on waiting, if there are any. It is looked at soon where what was seen
    /// is no answer to all of them any more.
    fn wait_on(&mut self, number: u32, is_stale: bool, now: Instant) {
        let Some(awaited) = self.stampede.awaited.get_mut(&number) else { return };
        if awaited.waiting.is_empty() {
            self.stampede.end_await(number);
            return;
        }
        if !std::mem::replace(&mut awaited.is_leased, true) {
            let waiting: Vec<_> = awaited.waiting.iter().copied().collect();
            waiting.into_iter().for_each(|id| self.has_to_wait_for_key(id));
        }
        if is_stale {
            return self.stampede.look_at(number, Some(now + BEHIND));
        }
        let jitter = Duration::from_nanos(u64::from(next_random(&mut self.random) % (2 * JITTER)));
        // Where many keys are waited for, each is looked at less often.
        let times = 1 + u32::try_from(self.stampede.awaited.len() / MANY).unwrap_or(u32::MAX);
        let at = now + (EVERY - Duration::from_nanos(JITTER.into()) + jitter) * times;
        self.stampede.look_at(number, Some(at));
    }
}

//! What becomes of what is held: it waits for a key, is asked once more, or is answered that the key is not there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::awaited::{Awaited, hash, name, profile_of};
use super::former::response_of;
use super::held::{Held, Key};
use crate::config::model::PoolId;
use crate::engine::Engine;
use crate::engine::deadline::Timer;
use crate::engine::ids::SessionId;
use crate::engine::redis::Profile;
use crate::engine::request::{Answer, Slot};
use crate::engine::servers::ticket::Ticket;
use crate::outcome::Outcome;
use crate::proto::verb::Verb;
use crate::time::Instant;

/// Most clients of a worker that wait for one key.
const MOST: usize = 1024;

impl Engine {
    /// A client has something held of its own, or a part of a request of which others are: if all its parts have been
    /// answered, it waits for the first of its keys.
    #[cold]
    pub(in crate::engine) fn wait_for_keys(&mut self, id: SessionId, now: Instant) {
        let Some(wait) = self.stampede.waits.get(&id) else { return };
        if wait.at.is_some() && wait.is_refused {
            self.has_to_wait_for_key(id);
        } else if wait.at.is_none() {
            let whole = self.whole(id);
            let held = wait.held.iter().filter(|held| whole.contains(&held.number));
            let first = held.filter_map(|held| Some((held.missing.first()?, held))).min_by_key(|(key, _)| *key);
            if let Some((key, held)) = first {
                let (key, profile, is_meta) = (key.clone(), held.profile, held.ticket.verb == Verb::MetaGet);
                self.wait_at(id, key, profile, is_meta, now);
            }
        }
        self.charge_wait(id);
    }

    /// The requests of a client all parts of which are answered, or held, if some are.
    fn whole(&self, id: SessionId) -> BTreeSet<u32> {
        let (Some(wait), Some(session)) = (self.stampede.waits.get(&id), self.session_ref(id)) else {
            return BTreeSet::new();
        };
        let mut parts: BTreeMap<u32, u32> = BTreeMap::new();
        wait.held.iter().for_each(|held| *parts.entry(held.number).or_default() += 1);
        let is_whole = |(number, parts): &(u32, u32)| session.slot(*number).is_none_or(|slot| slot.waiting() <= *parts);
        parts.into_iter().filter(is_whole).map(|(number, _)| number).collect()
    }

    /// A client waits for a key.
    fn wait_at(&mut self, id: SessionId, key: Key, profile: Profile, is_meta: bool, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        let profile = profile_of(self.pools[pool.index()].redis, profile);
        let known = self.stampede.numbers.get(&name(pool, profile, &key.routed)).copied();
        let number = known.unwrap_or_else(|| {
            self.stampede.await_key(Awaited {
                pool,
                key,
                profile,
                is_meta,
                waiting: VecDeque::new(),
                looks: None,
                looked_at: now,
                former: None,
                is_stale: false,
                is_leased: false,
                next: None,
            })
        });
        let Some(awaited) = self.stampede.awaited.get_mut(&number) else { return };
        if awaited.waiting.len() >= MOST {
            return self.tell_misses(id, now);
        }
        awaited.waiting.push_back(id);
        let is_leased = awaited.is_leased;
        if let Some(wait) = self.stampede.waits.get_mut(&id) {
            wait.at = Some(number);
        }
        if is_leased {
            self.has_to_wait_for_key(id);
        }
        if known.is_none() {
            self.look_for_key(number, now);
        }
    }

    /// Somebody else computes what a client waits for.
    pub(super) fn has_to_wait_for_key(&mut self, id: SessionId) {
        let Some(pool) = self.pool_of(id) else { return };
        if let Some(wait) = self.stampede.waits.get_mut(&id) {
            wait.is_refused = true;
            let uncounted = wait.held.iter().filter(|held| !held.is_counted).count();
            wait.held.iter_mut().for_each(|held| held.is_counted = true);
            self.counters.pool(pool).stampede_waits.add(uncounted as u64);
        }
    }

    /// A client waits no longer: that is counted, and what it has asked besides, or asks next, has its own time.
    pub(super) fn end_wait(&mut self, id: SessionId, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        self.wake_session(id, now); // its timer may be as far off as it might have waited
        let fair = self.memory.limits().fair;
        if let Some(session) = self.session(id).filter(|session| session.is_hoarder()) {
            session.holding.judge(fair, now); // it could get rid of nothing meanwhile
        }
        if let Some(wait) = self.stampede.waits.get_mut(&id).filter(|wait| wait.is_refused) {
            let micros = (now - std::mem::replace(&mut wait.since, now)).as_micros();
            self.counters.pool(pool).stampede_wait_microseconds.add(u64::try_from(micros).unwrap_or(u64::MAX));
        }
    }

    /// The key that a client has waited for is there: what is held of it that has missed that is asked once more, and the rest
    /// goes on waiting.
    pub(super) fn ask_once_more(&mut self, id: SessionId, key: &Key, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        self.end_wait(id, now);
        let whole = self.whole(id);
        if let Some(wait) = self.stampede.waits.get_mut(&id) {
            wait.at = None;
        }
        let misses = |held: &Held| held.missing.iter().any(|missed| missed.routed == key.routed);
        for mut held in self.stampede.take(id, pool, |held| whole.contains(&held.number) && misses(held)) {
            held.given.clear(); // they are asked for once more as well
            if self.send_once_more(id, pool, &held, now) {
                self.stampede.ask_again(id, pool, held);
            } else {
                self.counters.pool(pool).stampede_unleased.add(1);
                self.tell_held(id, pool, &held);
            }
        }
        self.wait_for_keys(id, now);
    }

    /// Sends what was held once more, if it can be.
    fn send_once_more(&mut self, id: SessionId, pool: PoolId, held: &Held, now: Instant) -> bool {
        let Held { number, fragment, server, .. } = *held;
        let ring = &self.pools[pool.index()].ring;
        if held.missing.iter().any(|key| ring.route(&key.routed, 0) != Some(server)) {
            return false; // they belong to others now
        }
        let is_redis = self.pools[pool.index()].redis;
        if self.session_ref(id).is_none_or(|session| is_redis && session.profile() != held.profile) {
            return false; // it has gone on to another database
        }
        let Ok(link) = self.link_to(pool, id, server, now) else { return false };
        let Some(slot) = self.session(id).and_then(|session| session.slot_mut(number)) else { return false };
        slot.restart(now.before(held.spent));
        if !held.places.is_empty()
            && let Some(values) = slot.open_parts().and_then(|parts| parts.merge_mut().memcache_mut()?.values_mut())
        {
            values.relink(fragment, &held.places);
        }
        let (start, out) = self.servers[link].append();
        out.extend_from_slice(&held.request);
        self.push_ticket(link, Ticket { start, ..held.again() }, now);
        true
    }

    /// A client is told that what it waits for is not there: it has the lease for the key of this name, and computes.
    pub(super) fn compute(&mut self, id: SessionId, key: &Key, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        let Some(lease) = self.topology.pools[pool.index()].stampede.as_ref().map(|option| option.lease) else {
            return self.tell_misses(id, now);
        };
        self.end_wait(id, now);
        let next = self.session_ref(id).map(|session| session.next_number());
        let held = self.stampede.take(id, pool, |_| true);
        if let Some(wait) = self.stampede.waits.get_mut(&id) {
            wait.at = None;
            wait.computes_before = next;
            wait.remember(hash(pool, &key.routed), now + lease, now);
        }
        // It will compute these as well.
        for other in held.iter().flat_map(|held| &held.missing).filter(|other| *other != key) {
            self.take_lease(id, pool, other, lease, now);
        }
        held.iter().for_each(|held| self.tell_held(id, pool, held));
        self.charge_wait(id);
    }

    /// All that is held of a client is answered that its keys are not there: it waits no longer.
    #[cold]
    pub(in crate::engine) fn tell_misses(&mut self, id: SessionId, now: Instant) {
        let Some(pool) = self.pool_of(id) else { return };
        self.end_wait(id, now);
        self.stampede.leave(id);
        let held = self.stampede.take(id, pool, |_| true);
        self.counters.pool(pool).stampede_unleased.add(held.len() as u64);
        held.iter().for_each(|held| self.tell_held(id, pool, held));
        self.charge_wait(id);
    }

    /// A response is about to be passed on to a client, or nobody waits for it any more.
    pub(in crate::engine) fn passes_on(&mut self, id: SessionId, part: (u32, u16)) {
        if !self.stampede.waits.contains_key(&id) {
            return;
        }
        self.answered_again(id, part);
        if self.stampede.holds_some(id) {
            // What is held of it may have waited for this: that is looked at when this is in its place.
            self.stampede.unsettled.insert(id);
            if self.stampede.alarm.set(self.now) {
                self.timers.set(self.now, Timer::Stampede);
            }
        }
    }

    /// What was asked once more has been answered.
    #[cold]
    pub(in crate::engine) fn answered_again(&mut self, id: SessionId, part: (u32, u16)) {
        let Some(pool) = self.pool_of(id) else { return };
        if let Some(held) = self.stampede.asked_again(id, pool, part) {
            self.count_held(pool, &held, Outcome::Own); // what is passed on is what came behind it
            self.charge_wait(id);
        }
    }

    /// It is known what becomes of a response that was held: until then it counts as one that has not come.
    pub(super) fn count_held(&self, pool: PoolId, held: &Held, outcome: Outcome) {
        self.counters.server(pool, held.server).outcomes[outcome as usize].add(1);
    }

    /// What was asked once more fails: its client is told what had been answered before. `false` where nothing had.
    #[cold]
    pub(in crate::engine) fn tell_earlier_miss(&mut self, id: SessionId, part: (u32, u16)) -> bool {
        let Some(pool) = self.pool_of(id) else { return false };
        let Some(held) = self.stampede.asked_again(id, pool, part) else { return false };
        self.counters.pool(pool).stampede_unleased.add(1);
        self.tell_held(id, pool, &held);
        self.charge_wait(id);
        true
    }

    /// A client is given the response that was not passed on when it came, with the former values that it was given meanwhile.
    pub(super) fn tell_held(&mut self, id: SessionId, pool: PoolId, held: &Held) {
        let is_awaited = self.put_held(id, held).is_some();
        self.count_held(pool, held, if is_awaited { held.outcome() } else { Outcome::Late });
        self.advance_if_answered(id);
    }

    /// Puts it into its slot. `None` when nobody waits for it any more.
    fn put_held(&mut self, id: SessionId, held: &Held) -> Option<()> {
        if !held.places.is_empty() && !held.given.is_empty() {
            self.place_former(id, held);
        }
        let session = self.session(id)?;
        let slot = session.slot_mut(held.number).filter(|slot| slot.waiting() > 0)?;
        match &mut slot.answer {
            Answer::Ready(_) | Answer::Crawled => return None,
            Answer::Of { request, .. } => {
                let response = response_of(held);
                let is_hidden = request.may_be_hidden() && request.hides(&response);
                let body = if is_hidden { Vec::new() } else { response };
                session.requests.settle(held.number, body, held.outcome());
            }
            Answer::Merged { scattered, .. } => {
                scattered.settle(held.fragment)?;
                let response = if held.places.is_empty() { response_of(held) } else { held.response.to_vec() };
                let grown = scattered.merge_mut().missed(held.fragment, &response);
                slot.note(held.outcome());
                session.requests.hold(grown);
            }
        }
        Some(())
    }

    /// A client has sent something that may change something: what is held of it, or may yet be, does not wait for what
    /// comes behind.
    #[cold]
    pub(in crate::engine) fn may_have_changed(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session_ref(id) else { return };
        let (pool, requests) = (session.pool(), &session.requests);
        let is_write = |slot: &Slot| slot.request().is_some_and(|request| !request.verb.is_read());
        let follows_nothing = requests.is_empty() || requests.is_one() && requests.front().is_some_and(is_write);
        if follows_nothing || self.topology.pools[pool.index()].stampede.is_none() && !self.stampede.holds_some(id) {
            return;
        }
        let next = requests.next_number();
        self.stampede.changes(id, next);
        if self.stampede.holds_some(id) {
            self.tell_misses(id, now);
        }
        self.charge_stampede();
    }

    /// A client has left.
    #[cold]
    pub(in crate::engine) fn forget_wait(&mut self, id: SessionId) {
        let Some(pool) = self.pool_of(id) else { return };
        let (held, again) = self.stampede.forget(id, pool);
        held.iter().for_each(|held| self.count_held(pool, held, Outcome::Late));
        again.iter().for_each(|held| self.count_held(pool, held, Outcome::Own));
        self.charge_wait(id);
    }

    /// Nobody waits any more: the process is about to end.
    #[cold]
    pub(in crate::engine) fn end_waits(&mut self, now: Instant) {
        let waiting: Vec<SessionId> = self.stampede.waits.keys().copied().collect();
        waiting.into_iter().for_each(|id| self.tell_misses(id, now));
    }

    /// Memory is scarce: who holds much of it does not wait.
    #[cold]
    pub(in crate::engine) fn end_waits_of_hoarders(&mut self, now: Instant) {
        let waiting = self.stampede.waits.iter().filter(|(_, wait)| !wait.held.is_empty());
        let hoarders = waiting.filter(|(id, _)| self.session_ref(**id).is_some_and(|session| session.is_hoarder()));
        let hoarders: Vec<SessionId> = hoarders.map(|(id, _)| *id).collect();
        hoarders.into_iter().for_each(|id| self.tell_misses(id, now));
    }

    /// It may be time to look at keys, and to end waits.
    #[cold]
    pub(in crate::engine) fn stampede_due(&mut self, now: Instant) {
        if !self.stampede.alarm.is_due(now) {
            return;
        }
        while let Some(id) = self.stampede.unsettled.pop_first() {
            self.wait_for_keys(id, now);
        }
        while let Some((_, id)) = self.stampede.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.tell_misses(id, now);
        }
        while let Some((_, number)) = self.stampede.looks.first().copied().filter(|(at, _)| *at <= now) {
            self.look_for_key(number, now);
        }
        self.arm_stampede();
    }

    /// Sets the timer for what is to be done next.
    pub(super) fn arm_stampede(&mut self) {
        if let Some(at) = self.stampede.next()
            && self.stampede.alarm.set(at)
        {
            self.timers.set(at, Timer::Stampede);
        }
    }

    /// What is held of a client counts as memory of its own.
    pub(super) fn charge_wait(&mut self, id: SessionId) {
        let bytes = self.stampede.bytes_of(id);
        if self.session(id).is_some_and(|session| session.holding.wait_with(bytes)) {
            self.recharge_session(id);
        }
        self.charge_stampede();
    }

    /// What is kept beside that counts as memory of the worker's.
    pub(super) fn charge_stampede(&mut self) {
        let (before, now) = self.stampede.charge();
        if before != now {
            self.memory.recharge(before, now);
        }
        self.arm_stampede();
    }
}

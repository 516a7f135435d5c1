//! What a worker knows of those who wait, and of what they wait for.

use std::collections::{BTreeMap, BTreeSet};

use super::awaited::{Awaited, Name};
use super::held::{Held, Wait};
use crate::config::model::{PoolId, ServerId, Stampede as Options};
use crate::engine::deadline::Alarm;
use crate::engine::ids::{LinkId, SessionId};
use crate::time::Instant;

/// Most requests that are held for a pool, and most bytes of all of them and of one client's.
const MOST: usize = 8 << 10;
const MOST_BYTES: usize = 16 << 20;
const MOST_BYTES_OF_ONE: usize = 1 << 20;

/// What a client, and a key that is waited for, are taken to hold beside what is held.
const WAIT_COST: usize = 512;
const AWAITED_COST: usize = 1024;

/// Who waits for keys that others compute.
#[derive(Debug, Default)]
pub(in crate::engine) struct Stampede {
    /// A pool has the option, or had it and somebody waits there.
    is_on: bool,
    /// A pool has values copied.
    copies: bool,
    /// Connections on which something went out in front of the request at hand.
    pub(super) ahead: Vec<LinkId>,
    /// The versions of the copies that were seen, each in front of a request on that connection.
    pub(super) seen: BTreeMap<LinkId, Box<[u8]>>,
    /// Clients of which something is held, or was of late.
    pub(super) waits: BTreeMap<SessionId, Wait>,
    /// Keys that are waited for, by their numbers, and their numbers by their names.
    pub(super) awaited: BTreeMap<u32, Awaited>,
    pub(super) numbers: BTreeMap<Name, u32>,
    last: u32,
    /// Clients of which something is held, and something else is just being answered.
    pub(super) unsettled: BTreeSet<SessionId>,
    /// When keys are looked at next, and when clients have waited for long enough.
    pub(super) looks: BTreeSet<(Instant, u32)>,
    pub(super) ends: BTreeSet<(Instant, SessionId)>,
    /// Requests that are held of each pool, and the bytes of all.
    held: BTreeMap<PoolId, usize>,
    bytes: usize,
    charged: usize,
    pub(super) alarm: Alarm,
}

impl Stampede {
    /// Whether anything may be held.
    #[inline(always)]
    pub(in crate::engine) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether values may be copied.
    pub(in crate::engine) const fn copies(&self) -> bool {
        self.copies
    }

    /// What the pools that have the option say of it.
    pub(in crate::engine) fn switch<'o>(&mut self, options: impl Iterator<Item = &'o Options> + Clone) {
        self.is_on = options.clone().next().is_some() || !self.waits.is_empty();
        self.copies = options.into_iter().any(|option| option.stale.is_some());
    }

    /// A client has sent something that may change something: its next request has this number.
    pub(super) fn changes(&mut self, id: SessionId, next: u32) {
        self.waits.entry(id).or_default().changed_before = Some(next);
    }

    /// Whether a client has sent something behind a request that may change something.
    pub(super) fn is_followed(&self, id: SessionId, number: u32) -> bool {
        let changed = self.waits.get(&id).and_then(|wait| wait.changed_before);
        changed.is_some_and(|next| next.wrapping_sub(number).cast_signed() > 0)
    }

    /// Requests that are held, each with its client.
    pub(in crate::engine) fn held(&self) -> impl Iterator<Item = (SessionId, u32)> {
        self.waits.iter().flat_map(|(id, wait)| wait.held.iter().map(|held| (*id, held.number)))
    }

    /// Where responses come from of which it is not known yet what becomes of them, each with the client that waits for it.
    pub(in crate::engine) fn uncounted(&self) -> impl Iterator<Item = (SessionId, ServerId)> {
        self.waits.iter().flat_map(|(id, wait)| wait.held.iter().chain(&wait.again).map(|held| (*id, held.server)))
    }

    /// Whether a part of a request is held.
    pub(in crate::engine) fn holds(&self, id: SessionId, number: u32, fragment: u16) -> bool {
        self.waits.get(&id).is_some_and(|wait| wait.held.iter().any(|held| held.is_of((number, fragment))))
    }

    /// Until when a request of a client is held, if it is.
    pub(in crate::engine) fn held_until(&self, id: SessionId, number: u32) -> Option<Instant> {
        let wait = self.waits.get(&id)?;
        wait.held.iter().any(|held| held.number == number).then_some(wait.until)
    }

    /// Whether a part of a request is held, or asked once more: its time is not that of its place in the row.
    pub(in crate::engine) fn has_own_time(&self, id: SessionId, number: u32) -> bool {
        let wait = self.waits.get(&id);
        wait.is_some_and(|wait| wait.held.iter().chain(&wait.again).any(|held| held.number == number))
    }

    /// Whether something of a client is held.
    #[inline]
    pub(in crate::engine) fn holds_some(&self, id: SessionId) -> bool {
        self.waits.get(&id).is_some_and(|wait| !wait.held.is_empty())
    }

    /// Whether there is room to hold one more of so many bytes of a client.
    pub(super) fn has_room(&self, id: SessionId, pool: PoolId, bytes: usize) -> bool {
        let has_room = self.held.get(&pool).is_none_or(|held| *held < MOST) && self.bytes + bytes <= MOST_BYTES;
        has_room && self.bytes_of(id) + bytes <= MOST_BYTES_OF_ONE
    }

    /// Memory of what is held of a client, and asked once more.
    pub(super) fn bytes_of(&self, id: SessionId) -> usize {
        self.waits.get(&id).map_or(0, |wait| wait.bytes)
    }

    /// Something of a client is held from here on, until that time at the longest if nothing was before.
    pub(super) fn hold(&mut self, id: SessionId, pool: PoolId, held: Held, (now, until): (Instant, Instant)) {
        *self.held.entry(pool).or_default() += 1;
        self.bytes += held.footprint();
        let wait = self.waits.entry(id).or_default();
        wait.bytes += held.footprint();
        if wait.held.is_empty() && wait.again.is_empty() {
            (wait.since, wait.until, wait.is_refused) = (now, until, false);
        }
        self.ends.insert((wait.until, id));
        wait.held.push(held);
    }

    /// What was taken of a client is held as before.
    pub(super) fn put_back(&mut self, id: SessionId, pool: PoolId, held: Held) {
        let Some(wait) = self.waits.get_mut(&id) else { return };
        *self.held.entry(pool).or_default() += 1;
        self.bytes += held.footprint();
        wait.bytes += held.footprint();
        self.ends.insert((wait.until, id));
        wait.held.push(held);
    }

    /// Takes what is held of a client, and `is_meant`.
    pub(super) fn take(&mut self, id: SessionId, pool: PoolId, mut is_meant: impl FnMut(&Held) -> bool) -> Vec<Held> {
        let Some(wait) = self.waits.get_mut(&id) else { return Vec::new() };
        let taken: Vec<Held> = wait.held.extract_if(.., |held| is_meant(held)).collect();
        if wait.held.is_empty() {
            wait.at = None;
            self.ends.remove(&(wait.until, id));
        }
        let bytes = taken.iter().map(Held::footprint).sum::<usize>();
        wait.bytes -= bytes;
        self.bytes -= bytes;
        if let Some(held) = self.held.get_mut(&pool) {
            *held -= taken.len();
        }
        taken
    }

    /// A part of a request, as it was when it was asked once more.
    pub(super) fn asks_again(&self, id: SessionId, part: (u32, u16)) -> Option<&Held> {
        self.waits.get(&id)?.again.iter().find(|held| held.is_of(part))
    }

    /// What was held is asked once more, and kept until that is answered.
    pub(super) fn ask_again(&mut self, id: SessionId, pool: PoolId, held: Held) {
        let Some(wait) = self.waits.get_mut(&id) else { return };
        *self.held.entry(pool).or_default() += 1;
        self.bytes += held.footprint();
        wait.bytes += held.footprint();
        wait.again.push(Held { rounds: held.rounds + 1, ..held });
    }

    /// What was asked once more of a client is answered, or will not be.
    pub(super) fn asked_again(&mut self, id: SessionId, pool: PoolId, part: (u32, u16)) -> Option<Held> {
        let wait = self.waits.get_mut(&id)?;
        let place = wait.again.iter().position(|held| held.is_of(part))?;
        let held = wait.again.swap_remove(place);
        self.bytes -= held.footprint();
        wait.bytes -= held.footprint();
        if let Some(count) = self.held.get_mut(&pool) {
            *count -= 1;
        }
        Some(held)
    }

    /// A key is waited for from here on. Its number.
    pub(super) fn await_key(&mut self, awaited: Awaited) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.numbers.insert(awaited.name(), self.last);
        self.awaited.insert(self.last, awaited);
        self.last
    }

    /// Nobody waits for a key any more.
    pub(super) fn end_await(&mut self, number: u32) -> Option<Awaited> {
        let awaited = self.awaited.remove(&number)?;
        self.numbers.remove(&awaited.name());
        if let Some(at) = awaited.next {
            self.looks.remove(&(at, number));
        }
        Some(awaited)
    }

    /// A client does not wait for its key any more. Where that is not being looked at, and nobody else waits for it, it is
    /// forgotten.
    pub(super) fn leave(&mut self, id: SessionId) {
        let Some(number) = self.waits.get_mut(&id).and_then(|wait| wait.at.take()) else { return };
        let Some(awaited) = self.awaited.get_mut(&number) else { return };
        // Who has waited for longest is in front, and leaves first.
        if let Some(place) = awaited.waiting.iter().position(|waiting| *waiting == id) {
            awaited.waiting.remove(place);
        }
        if awaited.waiting.is_empty() && awaited.looks.is_none() {
            self.end_await(number);
        }
    }

    /// A client has left. What was held of it, and what was asked once more.
    pub(super) fn forget(&mut self, id: SessionId, pool: PoolId) -> (Vec<Held>, Vec<Held>) {
        self.leave(id);
        self.unsettled.remove(&id);
        let held = self.take(id, pool, |_| true);
        let parts: Vec<_> = self.waits.get(&id).map_or(Vec::new(), |wait| wait.again.iter().map(Held::part).collect());
        let again = parts.into_iter().filter_map(|part| self.asked_again(id, pool, part)).collect();
        self.waits.remove(&id);
        (held, again)
    }

    /// A key is looked at next at this time.
    pub(super) fn look_at(&mut self, number: u32, at: Option<Instant>) {
        let Some(awaited) = self.awaited.get_mut(&number) else { return };
        if let Some(before) = std::mem::replace(&mut awaited.next, at) {
            self.looks.remove(&(before, number));
        }
        if let Some(at) = at {
            self.looks.insert((at, number));
        }
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Instant> {
        let (look, end) = (self.looks.first().map(|look| look.0), self.ends.first().map(|end| end.0));
        look.into_iter().chain(end).min()
    }

    /// Memory that it holds beside what is held of clients, about: what it was charged with, and what it is to be.
    pub(super) fn charge(&mut self) -> (usize, usize) {
        let now = self.waits.len() * WAIT_COST + self.awaited.len() * AWAITED_COST;
        (std::mem::replace(&mut self.charged, now), now)
    }

    /// Memory charged for it.
    pub(in crate::engine) const fn charged(&self) -> usize {
        self.charged
    }
}

//! What a worker has to do with keys that are brought along, and who waits for what of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::moving::Moving;
use crate::config::model::{PoolId, ServerId};
use crate::engine::deadline::Alarm;
use crate::engine::ids::SessionId;
use crate::time::Instant;

/// Most copies under way at a time, and most bytes of their keys. Requests for further keys wait until there are fewer.
const MOST: usize = 4096;
const MOST_BYTES: usize = 4 << 20;

/// How soon is looked again at what nobody tells of: the first time, and after how many times no later than the time before.
const LOOK: Duration = Duration::from_micros(500);
const LONGER: u32 = 6;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Keys are being copied: so many.
    Copied(u32),
    /// Former homes have forgotten its keys: so many times one of them one.
    Forgotten(u32),
    /// The homes of its keys have said whether somebody else copies them: so many answers.
    Answered(u32),
    /// Some time has passed.
    Later,
    /// Nothing any more.
    Nothing,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Its keys are looked for.
    Looks,
    /// They have been.
    Looked,
    /// It writes, and somebody in this process is storing a copy of one of its keys.
    Stores,
    /// The former homes of the keys that it writes have been told.
    Told,
    /// Nobody copies them.
    Free,
}

/// A server, and for Redis the database, that is told to forget keys.
pub(super) type Told = (PoolId, ServerId, Option<u32>);

/// Names one time that a client waits, so that what comes of an earlier one is of no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitId {
    pub(super) client: SessionId,
    pub(super) number: u64,
}

/// A client whose request waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    number: u64,
    pub(super) until: Until,
    /// It is not waited for longer than until then.
    pub(super) most: Instant,
    /// How far the request has come when that is over.
    pub(super) step: Step,
    /// Somebody copies one of its keys.
    pub(super) is_busy: bool,
    /// Of so many of its keys the former homes have been told, or of all.
    pub(super) told: usize,
    /// One of them did not say in time that it has forgotten them.
    pub(super) hangs: bool,
    /// How often was looked at this step again.
    looks: u32,
    /// When the request was looked at first. It goes on some time after that whatever happens.
    pub(super) since: Instant,
    /// The pool's ring by which it waits.
    pub(super) ring_version: u32,
}

impl Wait {
    /// A request is looked at for the first time.
    pub(super) const fn new(since: Instant, ring_version: u32) -> Self {
        let (until, step) = (Until::Nothing, Step::Looks);
        let (told, hangs) = (0, false);
        Self { number: 0, until, most: since, step, is_busy: false, told, hangs, looks: 0, since, ring_version }
    }

    /// Its request waits for something, until then at the longest, and has come so far behind that.
    pub(super) fn waits(self, until: Until, most: Instant, step: Step) -> Self {
        let looks = if step == self.step { self.looks } else { 0 };
        Self { until, most, step, is_busy: false, looks, ..self }
    }

    /// Its request is to be looked at again in a while, which becomes longer each time, and at the latest then.
    pub(super) fn looks_again(self, now: Instant, most: Instant, step: Step) -> Self {
        let mut wait = self.waits(Until::Later, most, step);
        wait.most = wait.pause(now).min(most);
        wait
    }

    /// The former homes of its keys are told of all of them once more.
    pub(super) fn tells_again(self) -> Self {
        Self { told: 0, ..self }
    }

    fn pause(&mut self, now: Instant) -> Instant {
        self.looks += 1;
        now + LOOK * (1 << self.looks.min(LONGER + 1)) / 2
    }

    /// One of several things has come about that it waits for.
    fn one_less(&mut self, left: u32, of: impl FnOnce(u32) -> Until) -> bool {
        self.until = if left > 1 { of(left - 1) } else { Until::Nothing };
        self.until == Until::Nothing
    }
}

/// What a worker has to do with keys that are brought along, and who waits for that.
#[derive(Debug, Default)]
pub(in crate::engine) struct Warmup {
    /// Copies under way, by their numbers, and their numbers by the keys.
    pub(super) copies: BTreeMap<u32, Moving>,
    pub(super) numbers: BTreeMap<u64, u32>,
    pub(super) last: u32,
    /// Bytes of the keys that are being copied.
    bytes: usize,
    /// Who has asked whether somebody else copies a key, by the same numbers.
    pub(super) questions: BTreeMap<u32, WaitId>,
    waits: BTreeMap<SessionId, Wait>,
    last_wait: u64,
    /// Who waits until a server has forgotten what it was told to forget in a database, each with the number of the pending
    /// invalidation.
    told: BTreeMap<Told, VecDeque<(u64, WaitId)>>,
    pub(super) alarm: Alarm,
    /// Pools that bring keys along.
    pub(super) pools: usize,
}

impl Warmup {
    /// Whether any pool brings keys along.
    #[inline(always)]
    pub(in crate::engine) const fn is_on(&self) -> bool {
        self.pools > 0
    }

    /// A client has left.
    #[inline]
    pub(in crate::engine) fn forget(&mut self, id: SessionId) {
        if !self.waits.is_empty() {
            self.waits.remove(&id);
        }
    }

    /// What a client's request has come to.
    pub(super) fn wait_of(&self, id: SessionId) -> Option<Wait> {
        self.waits.get(&id).copied()
    }

    /// The name of the next time that a client waits.
    pub(super) const fn next_wait(&self, client: SessionId) -> WaitId {
        WaitId { client, number: self.last_wait + 1 }
    }

    /// A client waits: by the [next name](Warmup::next_wait).
    pub(super) fn begin_wait(&mut self, id: SessionId, wait: Wait) {
        self.last_wait += 1;
        self.waits.insert(id, Wait { number: self.last_wait, ..wait });
    }

    fn wait_mut(&mut self, id: WaitId) -> Option<&mut Wait> {
        self.waits.get_mut(&id.client).filter(|wait| wait.number == id.number)
    }

    /// Whether anybody waits.
    #[inline]
    pub(super) fn is_awaited(&self) -> bool {
        !self.waits.is_empty()
    }

    /// A copy of a client's key has come to its end. Whether that was all that the client waited for.
    pub(super) fn copied(&mut self, id: WaitId) -> bool {
        let Some(wait) = self.wait_mut(id) else { return false };
        if let Until::Copied(left) = wait.until { wait.one_less(left, Until::Copied) } else { false }
    }

    /// A client waits until a server has forgotten what it was told last in a database. `false` if it waits for something there
    /// already.
    pub(super) fn tell(&mut self, id: WaitId, of: Told, number: u64) -> bool {
        let Self { told, waits, last_wait, .. } = self;
        let told = told.entry(of).or_default();
        // One that hangs never says so: who has gone on without is forgotten.
        let is_over =
            |id: &WaitId| id.number <= *last_wait && waits.get(&id.client).is_none_or(|wait| wait.number != id.number);
        while told.pop_front_if(|(_, id)| is_over(id)).is_some() {}
        if let Some(last) = told.back_mut().filter(|(_, last)| *last == id) {
            last.0 = number;
            return false;
        }
        told.push_back((number, id));
        true
    }

    /// A client has heard whether somebody else copies one of its keys. If it waits for no other answer: when it is to ask again
    /// because somebody does, or else that it may go on.
    pub(super) fn answered(&mut self, id: WaitId, is_busy: bool, now: Instant) -> Option<Result<(), Instant>> {
        let wait = self.wait_mut(id)?;
        let Until::Answered(left) = wait.until else { return None };
        wait.is_busy |= is_busy;
        if !wait.one_less(left, Until::Answered) {
            return None;
        }
        if wait.is_busy {
            let later = wait.pause(now).min(wait.most);
            (wait.until, wait.most) = (Until::Later, later);
            return Some(Err(later));
        }
        wait.step = Step::Free;
        Some(Ok(()))
    }

    /// A server has forgotten what it was told to forget in a database, up to a number. Those who wait for nothing else.
    pub(super) fn forgotten(&mut self, of: Told, up_to: u64) -> Vec<SessionId> {
        let mut free = Vec::new();
        while let Some((_, id)) = self.told.get_mut(&of).and_then(|told| told.pop_front_if(|(at, _)| *at <= up_to)) {
            let Some(wait) = self.wait_mut(id) else { continue };
            if let Until::Forgotten(left) = wait.until
                && wait.one_less(left, Until::Forgotten)
            {
                free.push(id.client);
            }
        }
        free
    }

    /// Clients whose time is over by now.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<SessionId> {
        let mut over = Vec::new();
        for (id, wait) in self.waits.iter_mut().filter(|(_, wait)| wait.until != Until::Nothing && wait.most <= now) {
            wait.hangs |= matches!(wait.until, Until::Forgotten(_));
            wait.until = Until::Nothing;
            over.push(*id);
        }
        over
    }

    /// When somebody's time will be over next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waits.values().filter(|wait| wait.until != Until::Nothing).map(|wait| wait.most).min()
    }

    /// Who waits for anything.
    pub(super) fn waiting(&self) -> Vec<SessionId> {
        self.waits.keys().copied().collect()
    }

    /// A pool brings no keys along any more.
    pub(super) fn end(&mut self, pool: PoolId) {
        self.told.retain(|(of, ..), _| *of != pool);
        self.pools -= 1;
    }

    /// Whether no key of such a length may be copied for now.
    pub(super) fn is_full(&self, len: usize) -> bool {
        self.copies.len() >= MOST || self.bytes > 0 && self.bytes + len > MOST_BYTES
    }

    /// A key is being copied from here on.
    pub(super) fn begin_copy(&mut self, number: u32, copy: Moving) {
        self.bytes += copy.key.len();
        self.numbers.insert(copy.hash, number);
        self.copies.insert(number, copy);
    }

    /// It is not any more.
    pub(super) fn end_copy(&mut self, number: u32, copy: &Moving) {
        self.bytes -= copy.key.len();
        if self.numbers.get(&copy.hash) == Some(&number) {
            self.numbers.remove(&copy.hash);
        }
    }
}

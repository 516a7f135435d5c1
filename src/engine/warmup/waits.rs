//! What a worker has to do with keys that are brought along, and who waits for what of it.

use std::collections::{BTreeMap, VecDeque};

use super::moving::Moving;
use crate::config::model::{PoolId, ServerId};
use crate::engine::deadline::Alarm;
use crate::engine::ids::SessionId;
use crate::time::Instant;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Keys are being copied: so many.
    Copied(u32),
    /// Former homes have forgotten its keys: so many times one of them one.
    Forgotten(u32),
    /// The homes of its keys have said whether somebody else copies them: so many answers.
    Answered(u32),
    /// A copy that somebody else is storing is stored.
    Stored,
    /// Keys may be copied.
    Ready,
    /// Nothing any more: its keys are looked at anew.
    Anew,
    /// Nothing any more: its request goes on as it is.
    Nothing,
}

/// How far a request has come that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Its keys are looked for.
    Looks,
    /// The former homes of its keys have been told.
    Told,
    /// Nobody copies its keys.
    Free,
}

/// A client whose request waits.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) until: Until,
    /// It is not waited for longer than until then.
    pub(super) most: Instant,
    /// How far the request has come.
    pub(super) step: Step,
    /// Somebody copies one of its keys.
    pub(super) is_busy: bool,
    /// When it was looked at first. It goes on some time after that whatever happens.
    pub(super) since: Instant,
    /// The pool's ring by which it waits.
    pub(super) ring_version: u32,
}

/// What a worker has to do with keys that are brought along, and who waits for that.
#[derive(Debug, Default)]
pub(in crate::engine) struct Warmup {
    /// Copies under way, by their numbers, and their numbers by the keys.
    pub(super) copies: BTreeMap<u32, Moving>,
    pub(super) numbers: BTreeMap<u64, u32>,
    pub(super) last: u32,
    /// Who has asked whether somebody else copies a key, by the same numbers.
    pub(super) questions: BTreeMap<u32, SessionId>,
    pub(super) waits: BTreeMap<SessionId, Wait>,
    /// Who waits until a server has forgotten what it was told to forget, each with the number of the pending invalidation.
    pub(super) told: BTreeMap<(PoolId, ServerId), VecDeque<(u64, SessionId)>>,
    pub(super) alarm: Alarm,
    /// Pools that bring keys along.
    pub(super) pools: usize,
}

impl Wait {
    /// Whether it is not over.
    fn is_on(&self) -> bool {
        !matches!(self.until, Until::Nothing | Until::Anew)
    }
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

    /// Whether anybody waits.
    #[inline]
    pub(super) fn is_awaited(&self) -> bool {
        !self.waits.is_empty()
    }

    /// A copy of a client's key has come to its end. Whether that was all that the client waited for.
    pub(super) fn copied(&mut self, id: SessionId) -> bool {
        let Some(Wait { until, .. }) = self.waits.get_mut(&id) else { return false };
        let Until::Copied(left) = *until else { return false };
        *until = if left > 1 { Until::Copied(left - 1) } else { Until::Nothing };
        *until == Until::Nothing
    }

    /// A client waits until a server has forgotten what it was told last.
    pub(super) fn tell(&mut self, id: SessionId, (pool, server): (PoolId, ServerId), number: u64) {
        self.told.entry((pool, server)).or_default().push_back((number, id));
    }

    /// A client has heard whether somebody else copies one of its keys. Whether it waits for no other answer: if somebody
    /// does, it is to look again at `later`.
    pub(super) fn answered(&mut self, id: SessionId, is_busy: bool, later: Instant) -> bool {
        let Some(wait) = self.waits.get_mut(&id) else { return false };
        let Until::Answered(left) = wait.until else { return false };
        wait.is_busy |= is_busy;
        (wait.until, wait.most) = match (left, wait.is_busy) {
            (2.., _) => (Until::Answered(left - 1), wait.most),
            (_, true) => (Until::Stored, later),
            (_, false) => (Until::Nothing, wait.most),
        };
        if wait.until == Until::Nothing {
            wait.step = Step::Free;
        }
        wait.until == Until::Nothing
    }

    /// A server has forgotten what it was told to forget, up to a number. Those who wait for nothing else.
    pub(super) fn forgotten(&mut self, pool: PoolId, server: ServerId, up_to: u64) -> Vec<SessionId> {
        let mut free = Vec::new();
        let Some(told) = self.told.get_mut(&(pool, server)) else { return free };
        while let Some((_, id)) = told.pop_front_if(|(number, _)| *number <= up_to) {
            let Some(Wait { until, .. }) = self.waits.get_mut(&id) else { continue };
            let Until::Forgotten(left) = *until else { continue };
            *until = if left > 1 { Until::Forgotten(left - 1) } else { Until::Nothing };
            if *until == Until::Nothing {
                free.push(id);
            }
        }
        free
    }

    /// Clients whose time is over by now.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<SessionId> {
        let late = |wait: &Wait| wait.is_on() && wait.most <= now;
        let over: Vec<_> = self.waits.iter().filter(|(_, wait)| late(wait)).map(|(id, _)| *id).collect();
        for id in &over {
            if let Some(wait) = self.waits.get_mut(id) {
                wait.until = if wait.until == Until::Ready { Until::Anew } else { Until::Nothing };
            }
        }
        over
    }

    /// When somebody's time will be over next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waits.values().filter(|wait| wait.is_on()).map(|wait| wait.most).min()
    }
}

//! What the clients of all hosts were told, and what of it is older than what somebody had been told before.
//!
//! Nobody needs to order writes: a value is older than another write if its own write was answered before that one was
//! asked. So of writes under way together either may be the last.

use super::plan::{MS, Plan};

/// How long a lock is asked for, in seconds.
pub(super) const LIFE: u64 = 3;

/// The number of a value, which is what is stored.
pub(super) type Value = usize;

#[derive(Debug)]
struct Write {
    /// When it was answered, as a tick.
    answered: Option<u64>,
    /// Its client was told that it is stored.
    stored: bool,
}

/// The latest writes of a key that were answered, as the ticks at which they were asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Floor {
    /// Of those that a server has carried out.
    carried_out: u64,
    /// Of all that their clients take to be done: also those that were answered in a server's place.
    believed: u64,
}

/// What a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// By a server that has carried it out.
    Done,
    /// In the server's place, in words that say that it is done.
    Believed,
    Refused,
}

/// Who has a lock, and until when.
#[derive(Debug)]
struct Held {
    grant: usize,
    until: u64,
}

/// What came of a run, from when the trouble began.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) reads: u64,
    pub(super) hits: u64,
    /// Reads older than a write that a server had carried out and its client had been told of before the read was asked.
    pub(super) stale: u64,
    /// Those of `stale` that a host read away from the key's home, which was out for it.
    pub(super) away: u64,
    /// As `stale`, but what was read was written by somebody who had been told that it failed: it was carried out late.
    pub(super) late: u64,
    /// Reads that are older only than a delete that was answered in the server's place.
    pub(super) believed: u64,
    /// Those of the three that came when all had been well for five seconds (in a short run, for the last second).
    pub(super) lasting: u64,
    /// Changes of keys: not what is stored because a read had missed it.
    pub(super) writes: u64,
    /// Those that no server has carried out before they were answered.
    pub(super) refused: u64,
    pub(super) granted: u64,
    /// Granted while somebody had it: locks that are left to run out, and locks that are released.
    pub(super) twice: u64,
    pub(super) twice_released: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, others) in self.figures().into_iter().zip({ *other }.figures()) {
            *mine += *others;
        }
    }

    fn figures(&mut self) -> [&mut u64; 12] {
        let Self { reads, hits, stale, away, late, believed, lasting, writes, refused, granted, twice, twice_released } =
            self;
        [reads, hits, stale, away, late, believed, lasting, writes, refused, granted, twice, twice_released]
    }
}

#[derive(Debug)]
pub(super) struct Judge {
    writes: Vec<Write>,
    floors: Vec<Floor>,
    locks: Vec<Vec<Held>>,
    grants: usize,
    counts_from: u64,
    lasts_from: u64,
    pub(super) tally: Tally,
}

impl Judge {
    pub(super) fn new(plan: &Plan) -> Self {
        let lasts_from = (plan.healed() + 5_000).min(plan.ends - 1_000);
        Self {
            writes: Vec::new(),
            floors: vec![Floor::default(); plan.keys],
            locks: (0..plan.locks).map(|_| Vec::new()).collect(),
            grants: 0,
            counts_from: plan.begins * MS,
            lasts_from: lasts_from * MS,
            tally: Tally::default(),
        }
    }

    /// A value for a write that is about to be asked.
    pub(super) fn new_value(&mut self) -> Value {
        self.writes.push(Write { answered: None, stored: false });
        self.writes.len() - 1
    }

    /// What a read that is asked now must not fall behind.
    pub(super) fn floor(&self, key: usize) -> Floor {
        self.floors[key]
    }

    /// A value's write is answered.
    pub(super) fn stored(&mut self, value: Value, stored: bool, tick: u64) {
        self.writes[value] = Write { answered: Some(tick), stored };
    }

    /// A change of a key that was asked at `asked` is answered.
    pub(super) fn changed(&mut self, key: usize, asked: u64, answer: Answer, now: u64) {
        if now >= self.counts_from {
            self.tally.writes += 1;
            self.tally.refused += u64::from(answer != Answer::Done);
        }
        let floor = &mut self.floors[key];
        if answer != Answer::Refused {
            floor.believed = floor.believed.max(asked);
        }
        if answer == Answer::Done {
            floor.carried_out = floor.carried_out.max(asked);
        }
    }

    /// A read is answered that was asked at `asked`, in nanoseconds; `is_away` says whether the key's home was out for its
    /// host.
    pub(super) fn read(&mut self, found: Option<Value>, floor: Floor, asked: u64, is_away: impl FnOnce() -> bool) {
        if asked < self.counts_from {
            return;
        }
        self.tally.reads += 1;
        let Some(value) = found else { return };
        self.tally.hits += 1;
        let write = &self.writes[value];
        let Some(answered) = write.answered else { return };
        if answered >= floor.believed {
            return;
        }
        self.tally.lasting += u64::from(asked >= self.lasts_from);
        if answered < floor.carried_out && write.stored {
            self.tally.away += u64::from(is_away());
        }
        *match (answered < floor.carried_out, write.stored) {
            (true, true) => &mut self.tally.stale,
            (true, false) => &mut self.tally.late,
            (false, _) => &mut self.tally.believed,
        } += 1;
    }

    /// A lock is granted that was asked for at `asked`; its name for [`Judge::release`].
    pub(super) fn granted(&mut self, lock: usize, asked: u64, now: u64, is_released: bool) -> usize {
        let held = &mut self.locks[lock];
        held.retain(|one| one.until > now);
        if now >= self.counts_from {
            self.tally.granted += 1;
            match is_released {
                _ if held.is_empty() => {}
                true => self.tally.twice_released += 1,
                false => self.tally.twice += 1,
            }
        }
        self.grants += 1;
        held.push(Held { grant: self.grants, until: asked + LIFE * 1000 * MS });
        self.grants
    }

    /// Who was granted a lock is about to release it; `false` when it has run out.
    pub(super) fn release(&mut self, lock: usize, grant: usize, now: u64) -> bool {
        let held = &mut self.locks[lock];
        held.retain(|one| one.until > now);
        let before = held.len();
        held.retain(|one| one.grant != grant);
        held.len() < before
    }
}

//! What an answer may say, given what the servers really did.
//!
//! The simulation sees every command that a server carries out, so it knows each state that a key had on each server,
//! and from when to when. The rules:
//!
//! 1. **Truth.** A read may be told only what was the state of the key (value, flags, unique value, byte by byte) on a
//!    server that the key may have been routed to, *at some time between the sending of the read and its answer*. A key
//!    may have been routed to its home, the server that it has with all servers in the ring; to others only if the home
//!    was out of the ring at some time since the read was sent, or the pool's servers have changed since then; never to
//!    one that had left the pool before. So what was overwritten or deleted before the read
//!    was sent is never told again: the write was acknowledged, hence carried out, before the read was sent.
//! 2. **Acknowledged means done.** `STORED`, `HD`, `EXISTS`, `DELETED`, `TOUCHED` and numbers are told only if a server
//!    did that very thing between the sending and the answer. With `on_failure: error` the negative words as well.
//! 3. **Once.** Each write, delete, touch and increment is carried out by at most one server and once, and only after its
//!    last byte was sent; each value arrives as it was written.
//! 4. **No fault near, no degradation.** If nothing has touched the home of the key (its process, its connections, its
//!    place in the ring) from [`HOLD`] before the request was sent until its answer, and nobody waits for longer than
//!    [`PATIENCE`], then misses and negative words must be true as well, and read-your-writes holds: a read of a client
//!    that sent a write of that key earlier, whether or not it waited for the answer, is told a state that is not older
//!    than that write.
//!
//! 5. **Order.** No client is told a value that it sent only after the read, whether or not it waited for the answer.
//!
//! Rules 1 to 3 hold under every fault but one: a value that a server says twice passes for the answer to the next read
//! of the same key, since nothing in the protocol tells them apart. While such a connection lives, reads that its server
//! may have answered must still tell some state that the key once had.

use super::ledger::{Ledger, Moment, Write, WriteId};
use super::servers::SimServer;
use super::store::{Key, Outcome, State};
use super::tally::{Tally, Thing};

const MS: u64 = 1_000_000;

/// The engine may hold a fault against a server for so long: pauses before reconnects, and the like.
pub(super) const HOLD: u64 = 1_000 * MS;

/// The engine may think ill of a server that is silent for so long.
pub(super) const PATIENCE: u64 = 50 * MS;

/// What a read was told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    Value {
        flags: Option<u32>,
        unique: Option<u64>,
        value: &'a [u8],
    },
    /// It is there, and perhaps something about it.
    There {
        flags: Option<u32>,
        unique: Option<u64>,
        size: Option<usize>,
    },
    /// Part of an answer that ended in an error: not told.
    Unknown,
    Miss,
}

impl Seen<'_> {
    /// It, whatever its unique value: a copy has one of its own.
    const fn of_any_version(self) -> Self {
        match self {
            Self::Value { flags, value, .. } => Self::Value { flags, unique: None, value },
            Self::There { flags, size, .. } => Self::There { flags, unique: None, size },
            Self::Unknown | Self::Miss => self,
        }
    }
}

/// Whether what was seen is what was there.
fn fits(seen: Seen<'_>, state: &State) -> bool {
    match (seen, state) {
        (Seen::Miss, None) => true,
        (Seen::Value { flags, unique, value }, Some(item)) => {
            item.value == value
                && flags.is_none_or(|flags| flags == item.flags)
                && unique.is_none_or(|unique| unique == item.unique)
        }
        (Seen::There { flags, unique, size }, Some(item)) => {
            size.is_none_or(|size| size == item.value.len())
                && flags.is_none_or(|flags| flags == item.flags)
                && unique.is_none_or(|unique| unique == item.unique)
        }
        _ => false,
    }
}

/// Everything that the rules ask for.
pub(super) struct Judge<'a> {
    /// The name of the client that reads.
    pub(super) client: usize,
    pub(super) ledger: &'a Ledger,
    pub(super) servers: &'a [SimServer],
    pub(super) homes: &'a [usize],
    pub(super) tally: &'a mut Tally,
    pub(super) now: u64,
    /// With `on_failure: miss`, misses and negative words may stand for failures.
    pub(super) miss_mode: bool,
    /// The memory limit is low: anything may be refused.
    pub(super) value_limit: usize,
    pub(super) thrifty: bool,
    /// Values are kept in the proxy.
    pub(super) keeps: bool,
    /// Values are copied, and the copies outlive them.
    pub(super) copies: bool,
    /// When somebody had last been waiting for long.
    pub(super) slow: Option<u64>,
}

impl Judge<'_> {
    fn home(&self, key: Key) -> usize {
        self.homes[key.index()]
    }

    /// The client's pool is served no longer.
    fn is_dismissed(&self) -> bool {
        self.ledger.dismissed.contains(&self.client)
    }

    /// Where a key may have been routed since `tick`.
    fn candidates(&self, key: Key, tick: u64) -> impl Iterator<Item = &SimServer> {
        let (home, is_dismissed) = (self.home(key), self.is_dismissed());
        let has_one = !is_dismissed && !self.servers[home].was_out(tick);
        let known = if has_one { &self.servers[home..=home] } else { self.servers };
        known.iter().filter(move |server| is_dismissed || !server.had_left(tick))
    }

    /// Whether rule 4 applies to a request for a key.
    pub(super) fn is_exact(&mut self, key: Key, sent: Moment) -> bool {
        let home = &self.servers[self.home(key)];
        let exact = self.slow.is_none_or(|at| at < sent.time)
            && !self.thrifty
            && !self.is_dismissed()
            && self.now - sent.time < PATIENCE
            && home.is_well()
            && home.trouble.is_none_or(|at| at + HOLD < sent.time)
            && !home.was_out(sent.tick)
            // Appends make an item larger than the proxy takes: then it is answered as by a server that failed.
            && !self.was(key, sent.tick, |_, state| {
                state.as_ref().is_some_and(|item| item.value.len() > self.value_limit)
            });
        if exact {
            self.tally.add(Thing::Exact);
        }
        exact
    }

    fn poisoned(&self, key: Key, tick: u64) -> bool {
        self.candidates(key, tick).any(|server| server.is_poisoned(tick))
    }

    /// Whether the key was in a state that `fits`, from `tick` on. It is given the tick at which the state came, too.
    fn was(&self, key: Key, tick: u64, fits: impl Fn(u64, &State) -> bool) -> bool {
        let known = |server: &SimServer| server.store.since(key, tick).any(|(at, state)| fits(at, state));
        self.candidates(key, tick).any(known)
    }

    /// Whether the key was in a state that `fits` when its server lost it: where values are kept, that does not concern them.
    fn was_kept(&self, key: Key, tick: u64, fits: impl Fn(&State) -> bool) -> bool {
        // While its server is out, what is kept may be of where the key was before.
        let is_out = self.servers[self.home(key)].was_out(tick);
        let had = |server: &SimServer| {
            server.store.lost_before(key, tick).is_some_and(&fits)
                || server.store.before(key, tick, |at, state| self.is_untold(key, tick, at, state)).any(&fits)
                || is_out && server.store.since(key, tick).any(|(_, state)| fits(state))
        };
        let elsewhere = self.servers.iter().filter(|_| is_out);
        self.keeps && self.candidates(key, tick).chain(elsewhere).any(had)
    }

    /// Whether what became of a key was a change of which nobody knew by `tick` that it was done: what is kept may be older.
    fn is_untold(&self, key: Key, tick: u64, at: u64, state: &State) -> bool {
        let is_untold = |write: &Write| {
            write.executed.is_some_and(|(executed, ..)| executed == at)
                && write.told.get().is_none_or(|told| told > tick)
        };
        match state {
            Some(item) => self.ledger.writes_in(key, &item.value).any(is_untold),
            None => self.ledger.is_removal_untold(key, at, tick),
        }
    }

    /// Whether what was seen may be the copy of what the key had when its server lost it: of its last value, or of one that
    /// somebody stored while that was being stored.
    fn was_copied(&self, key: Key, tick: u64, seen: Seen<'_>) -> bool {
        let is_concurrent = |last: &State| {
            let (Seen::Value { value, .. }, Some(item)) = (seen, last) else { return false };
            let since =
                self.ledger.writes_in(key, &item.value).filter_map(|write| write.sent).map(|sent| sent.tick).max();
            let seen_at = |write: &Write| write.executed.is_some_and(|(at, ..)| since.is_some_and(|since| at >= since));
            self.ledger.writes_in(key, value).any(seen_at)
        };
        let may_be = |last: &State| fits(seen.of_any_version(), last) || is_concurrent(last);
        let was_so = |server: &SimServer| {
            server.store.lost_before(key, tick).is_some_and(may_be)
                || server.store.since(key, tick).any(|(_, state)| may_be(state))
        };
        // Or of what was stored elsewhere, or of which nobody knows whether it was.
        let is_seen = |copy: &[u8]| match seen {
            Seen::Value { value, .. } => copy == value,
            Seen::There { size, .. } => size.is_none_or(|size| size == copy.len()),
            Seen::Unknown | Seen::Miss => false,
        };
        let is_left = |server: &SimServer| server.store.was_left(key, tick, is_seen);
        self.copies && self.candidates(key, tick).any(|server| was_so(server) || is_left(server))
    }

    /// A client was told `seen` of a key. `own` is the last write of that key that it sent before.
    pub(super) fn read(&mut self, key: Key, sent: Moment, own: Option<WriteId>, seen: Seen<'_>) -> Result<(), String> {
        if matches!(seen, Seen::Unknown) {
            return Ok(());
        }
        let fits = |state: &State| fits(seen, state);
        let missed = matches!(seen, Seen::Miss);
        if self.poisoned(key, sent.tick) {
            let ever = missed || self.servers.iter().any(|server| server.store.since(key, 0).any(|(_, s)| fits(s)));
            return if ever { Ok(()) } else { Err(format!("{key} never was like that")) };
        }
        if let Seen::Value { value, .. } = seen
            && let Some(id) = self.ledger.latest_of(self.client, key, value)
            && own.is_none_or(|own| id > own)
        {
            return Err(format!("{key}: the client reads what it wrote only afterwards: {:?}", self.ledger.write(id)));
        }
        let exact = self.is_exact(key, sent);
        if missed && self.miss_mode && !exact {
            return Ok(());
        }
        if !self.was(key, sent.tick, |_, state| fits(state))
            && !self.was_kept(key, sent.tick, fits)
            && !self.was_copied(key, sent.tick, seen)
        {
            return Err(self.untrue(key, sent, exact));
        }
        let Some(own) = own.filter(|_| exact) else { return Ok(()) };
        let write = self.ledger.write(own);
        let home = self.home(key);
        let Some(write_sent) = write.sent.filter(|write_sent| {
            let server = &self.servers[home];
            self.slow.is_none_or(|at| at < write_sent.time)
                && server.trouble.is_none_or(|at| at + HOLD < write_sent.time)
                && !server.was_out(write_sent.tick)
        }) else {
            return Ok(());
        };
        self.tally.add(Thing::OwnWrite);
        let Some((done, ..)) = write.executed else {
            return Err(format!(
                "{key}: the client's own write, sent at {write_sent:?}, is not carried out: {write:?}"
            ));
        };
        // Where values outlive their items, one that its server has lost is as good.
        let is_lost = || self.was_kept(key, sent.tick, fits) || self.was_copied(key, sent.tick, seen);
        if self.was(key, done.max(sent.tick), |_, state| fits(state)) || is_lost() {
            return Ok(());
        }
        Err(format!("{key}: the client's own write came earlier and is not seen: {write:?}"))
    }

    fn untrue(&self, key: Key, sent: Moment, exact: bool) -> String {
        let homes = self.candidates(key, sent.tick);
        let mut known = String::new();
        for server in homes {
            for (tick, state) in server.store.since(key, sent.tick) {
                let value =
                    state.as_ref().map(|item| (super::short(&item.value[..item.value.len().min(30)]), item.unique));
                known += &format!(" since {tick} {value:?};");
            }
        }
        let why = if exact { "with no fault near it" } else { "" };
        format!("{key} was not like that after {sent:?} {why}; it was{known}")
    }

    /// A store was answered with this.
    pub(super) fn stored(&mut self, id: WriteId, sent: Moment, told: Outcome) -> Result<(), String> {
        let (key, done) = (self.ledger.write(id).key, self.ledger.write(id).executed.map(|(.., outcome)| outcome));
        let positive = matches!(told, Outcome::Done | Outcome::Exists);
        if !positive && self.miss_mode && !self.is_exact(key, sent) {
            return Ok(());
        }
        if told == Outcome::Done {
            self.ledger.write(id).told.set(Some(self.ledger.tick));
        }
        if done == Some(told) {
            return Ok(());
        }
        Err(format!("was told {told:?} of a write that came to {done:?}: {:?}", self.ledger.write(id)))
    }

    /// A delete, touch or increment found its key, or not.
    pub(super) fn changed(
        &mut self,
        key: Key,
        sent: Moment,
        found: bool,
        fits: impl Fn(u64, &State) -> bool,
    ) -> Result<(), String> {
        if !found && self.miss_mode && !self.is_exact(key, sent) {
            return Ok(());
        }
        if self.was(key, sent.tick, fits) { Ok(()) } else { Err(self.untrue(key, sent, !found)) }
    }
}

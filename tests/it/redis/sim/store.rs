//! What servers kind, since when, and who wrote it: each value carries the number of its writing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use softmiss::config::model::{PoolId, ServerId};

use super::plan::DATABASES;
use super::servers::Connection;

/// A state of a key: its value, or that it is not there.
pub(super) type State = Option<Vec<u8>>;

/// Numbers a writing.
pub(super) type Serial = usize;

/// The states that a key has had, each with the tick from which it was so.
#[derive(Debug, Default)]
pub(super) struct Database {
    keys: BTreeMap<Vec<u8>, Vec<(u64, State)>>,
}

impl Database {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.keys.get(key)?.last()?.1.as_ref()
    }

    /// Puts a key into a state; whether that is another one than before.
    pub(super) fn put(&mut self, key: &[u8], tick: u64, state: State) -> bool {
        if self.get(key).is_none() && state.is_none() {
            return false;
        }
        self.keys.entry(key.to_vec()).or_default().push((tick, state));
        true
    }

    /// Empties it, and names what was there.
    pub(super) fn clear(&mut self, tick: u64) -> Vec<Vec<u8>> {
        let there = self.keys.iter().filter(|(_, states)| states.last().is_some_and(|(_, state)| state.is_some()));
        let there: Vec<_> = there.map(|(key, _)| key.clone()).collect();
        for key in &there {
            self.put(key, tick, None);
        }
        there
    }

    /// Whether a key was like that at some time since `tick`.
    pub(super) fn was(&self, key: &[u8], tick: u64, state: Option<&[u8]>) -> bool {
        let known = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let current = known.partition_point(|(at, _)| *at <= tick).checked_sub(1);
        let first_is_absent = current.is_none() && state.is_none();
        first_is_absent || known[current.unwrap_or(0)..].iter().any(|(_, known)| known.as_deref() == state)
    }

    /// Whether something has become of a key behind one tick and before another, but that it was lost.
    pub(super) fn has_changed(&self, key: &[u8], (since, until): (u64, u64), losses: &BTreeSet<u64>) -> bool {
        let known = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let is_loss = |(at, state): &(u64, State)| state.is_none() && losses.contains(at);
        known.iter().any(|entry| entry.0 > since && entry.0 < until && !is_loss(entry))
    }

    /// The values that a key had at some time since `tick`, or when it was lost before, if only losses have become of it since.
    pub(super) fn left(&self, key: &[u8], tick: u64, losses: &BTreeSet<u64>) -> impl Iterator<Item = &Vec<u8>> {
        let known = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let mut from = known.partition_point(|(at, _)| *at <= tick).saturating_sub(1);
        while from > 0 && known[from].1.is_none() && losses.contains(&known[from].0) {
            from -= 1;
        }
        known[from.min(known.len())..].iter().filter_map(|(_, state)| state.as_ref())
    }

    /// The same where values are kept in the proxy: what took the place of it by then may be something that nobody is known to
    /// have been told of, after `floor`.
    pub(super) fn was_kept(
        &self,
        key: &[u8],
        (floor, tick): (u64, u64),
        state: Option<&[u8]>,
        is_known: impl Fn(u64, &State) -> bool,
    ) -> bool {
        let known = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let mut at = known.partition_point(|(at, _)| *at <= tick).saturating_sub(1);
        while at > 0 && known[at].0 > floor && !is_known(known[at].0, &known[at].1) {
            at -= 1;
        }
        known[at.min(known.len())..].iter().any(|(_, known)| known.as_deref() == state)
    }
}

/// A time in which a server was not in the ring, or not one of the pool's.
#[derive(Debug)]
pub(super) struct Absence {
    pub(super) out: u64,
    pub(super) back: Option<u64>,
    /// All the while its pool was one that has who returns flushed.
    pub(super) flushes: bool,
}

/// Who copies a key, and when that is forgotten.
#[derive(Debug, Default)]
pub(super) struct Copying {
    pub(super) who: BTreeSet<Vec<u8>>,
    pub(super) until: Option<u64>,
}

/// A server's process, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) pool: usize,
    /// What the file calls it, and its share there.
    pub(super) name: String,
    pub(super) weight: u32,
    /// What it is known by in the newest topology, or was when it was in one last.
    pub(super) known: (PoolId, ServerId),
    /// When it left the pool; `None` while it is there.
    pub(super) left_at: Option<u64>,
    /// When it left, each time, and when it was back.
    pub(super) aways: Vec<(u64, Option<u64>)>,
    /// When another process last got its name: that one was told what this one was to forget.
    pub(super) named_elsewhere: u64,
    pub(super) databases: [Database; DATABASES],
    /// When it lost all that it had.
    pub(super) losses: BTreeSet<u64>,
    pub(super) queues: BTreeMap<(usize, Vec<u8>), VecDeque<Vec<u8>>>,
    /// Until when leases hold, in nanoseconds, by their databases and names.
    pub(super) leases: BTreeMap<(usize, Vec<u8>), u64>,
    /// How many were given.
    pub(super) given: u64,
    /// Copies of values, by their databases and names.
    pub(super) copies: BTreeMap<(usize, Vec<u8>), Vec<u8>>,
    pub(super) scripts: BTreeSet<Vec<u8>>,
    /// Who copies keys, by databases and what says so.
    pub(super) copying: BTreeMap<(usize, Vec<u8>), Copying>,
    pub(super) hung: bool,
    pub(super) dead: bool,
    /// It takes no changes for now, and says this.
    pub(super) refuses: Option<&'static [u8]>,
    /// It is not in the ring.
    pub(super) is_out: bool,
    /// When it was last out.
    pub(super) out_at: Option<u64>,
    /// When a connection to it was last over.
    pub(super) ended: u64,
    /// Somebody has seen it go, so it may be flushed when it is back.
    pub(super) may_rejoin: bool,
    /// When it was ejected or left, and when it was back.
    pub(super) absences: Vec<Absence>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            pool: 0,
            name: String::new(),
            weight: 1,
            known: (PoolId(0), ServerId(0)),
            left_at: None,
            aways: Vec::new(),
            named_elsewhere: 0,
            databases: Default::default(),
            losses: BTreeSet::new(),
            queues: BTreeMap::new(),
            leases: BTreeMap::new(),
            given: 0,
            copies: BTreeMap::new(),
            scripts: BTreeSet::new(),
            copying: BTreeMap::new(),
            hung: false,
            refuses: None,
            dead: false,
            is_out: false,
            out_at: None,
            ended: 0,
            may_rejoin: false,
            absences: Vec::new(),
        }
    }
}

impl Node {
    /// Whether it was out of the ring at some time since `tick`.
    pub(super) fn was_out(&self, tick: u64) -> bool {
        self.is_out || self.out_at.is_some_and(|at| at >= tick)
    }

    /// It is in the ring again, however often it has been taken out meanwhile.
    pub(super) fn come_back(&mut self, tick: u64) {
        for absence in &mut self.absences {
            absence.back.get_or_insert(tick);
        }
    }

    /// Whether nothing that was asked since `tick` may reach it.
    pub(super) fn had_left(&self, tick: u64) -> bool {
        self.left_at.is_some_and(|left| left < tick)
    }
}

/// What a client had read of a key that it watched.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) database: usize,
    pub(super) key: String,
    pub(super) state: State,
}

/// A writing of a value.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) client: u64,
    pub(super) pool: usize,
    pub(super) database: usize,
    pub(super) key: String,
    /// When it was drawn.
    pub(super) drawn: u64,
    /// When a server stored it, and which.
    pub(super) stored: Option<(u64, usize)>,
    /// When its client was told something about it, and whether that was a yes.
    pub(super) told: Option<(u64, bool)>,
    /// It was stored for a connection of which nobody waited for the end.
    pub(super) stray: bool,
    /// It must not be stored unless these are as they were.
    pub(super) guards: Vec<Guard>,
    /// Its client never reads: it is not known when it was answered.
    pub(super) unheard: bool,
}

/// A flush that a client asked for.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) pool: usize,
    /// All of them, if none.
    pub(super) database: Option<usize>,
    pub(super) drawn: u64,
    /// When its client was told that it is done.
    pub(super) done: Option<u64>,
}

/// A client removes a key.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) client: u64,
    pub(super) drawn: u64,
    /// When it was told that it is done.
    pub(super) done: Option<u64>,
}

/// All writings and flushes of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) writes: Vec<Write>,
    pub(super) flushes: Vec<Flush>,
    /// For each pool, database and key who began to remove it when.
    pub(super) removals: BTreeMap<(usize, usize, String), Vec<Removal>>,
    /// Clients of a pool that is served no longer: to them its servers are what they were, whoever comes and goes.
    pub(super) dismissed: BTreeSet<u64>,
    /// Passes with everything that happens.
    pub(super) tick: u64,
    /// For each pool, database and key: writings without conditions that their clients were told something of in a server's
    /// place, while no server had stored them.
    pub(super) in_place: BTreeMap<(usize, usize, String), Vec<Serial>>,
    /// Writings that servers have refused, and when the engine has heard of that.
    pub(super) refused: BTreeMap<Serial, Option<u64>>,
    /// For each client, server, database and key: the latest writing that was stored.
    latest: BTreeMap<(u64, usize, usize, String), Serial>,
}

/// The number of the writing that a value is of, if it is one.
pub(super) fn serial_of(value: &[u8]) -> Option<Serial> {
    let text = String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned();
    let mut parts = text.split('|');
    let is_value = parts.next().is_some_and(|place| place.matches('/').count() == 2);
    parts.next().filter(|_| is_value)?.parse().ok()
}

impl Ledger {
    /// Whether a key that is gone since `at` may have been removed for somebody who had not been told of it by `tick`.
    pub(super) fn is_removal_untold(&self, (pool, database, key): (usize, usize, &str), at: u64, tick: u64) -> bool {
        let is_untold = |drawn: u64, done: Option<u64>| drawn <= at && done.is_none_or(|done| done > tick);
        let removals = self.removals.get(&(pool, database, key.to_owned()));
        let of = |flush: &&Flush| flush.pool == pool && flush.database.is_none_or(|of| of == database);
        removals.is_some_and(|all| all.iter().any(|removal| is_untold(removal.drawn, removal.done)))
            || self.flushes.iter().filter(of).any(|flush| is_untold(flush.drawn, flush.done))
    }

    /// The writing whose number a value carries, if the value can be of this pool, database and key.
    pub(super) fn written(&self, value: &[u8], pool: usize, database: usize, key: &str) -> Result<Serial, String> {
        let text = String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned();
        let serial = text.split('|').nth(1).and_then(|text| text.parse::<Serial>().ok());
        let serial = serial.filter(|serial| *serial < self.writes.len());
        let serial = serial.ok_or_else(|| format!("nobody wrote {text:?}, told of {pool}/{database}/{key}"))?;
        let write = &self.writes[serial];
        if (write.pool, write.database, write.key.as_str()) != (pool, database, key) {
            return Err(format!("{text:?} is told of {pool}/{database}/{key}"));
        }
        Ok(serial)
    }

    /// A server stores a value. If its connection is gone, nobody can order it.
    pub(super) fn store(
        &mut self,
        value: &[u8],
        nodes: &[Node],
        at: (usize, usize),
        key: &[u8],
        connection: &Connection,
    ) -> Result<(), String> {
        let (place, database) = at;
        let key = String::from_utf8_lossy(key).into_owned();
        let node = &nodes[place];
        let serial = self.written(value, node.pool, database, &key)?;
        let tick = self.tick;
        let write = &mut self.writes[serial];
        if let Some(before) = write.stored.replace((tick, place)) {
            return Err(format!("a write is made twice, at {before:?} and at {tick}: {write:?}"));
        }
        write.stray = connection.gone && !connection.lingers;
        for guard in &write.guards {
            let now = node.databases[guard.database].get(guard.key.as_bytes());
            if now != guard.state.as_ref() {
                return Err(format!("unguarded: {} is {:?} in place of {guard:?}: {write:?}", guard.key, brief(now)));
            }
        }
        let latest = (write.client, place, database, key);
        let overtaken = self.latest.get(&latest).copied().unwrap_or(0);
        let write = &self.writes[serial];
        if overtaken > serial && !connection.gone && write.told.is_none() && !write.unheard {
            let other = &self.writes[overtaken];
            return Err(format!("a client's writes change places: {other:?} is stored before {write:?}"));
        }
        self.latest.insert(latest, overtaken.max(serial));
        Ok(())
    }
}

/// The beginning of a value, for people.
pub(super) fn brief(state: Option<&Vec<u8>>) -> Option<String> {
    state.map(|value| String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned())
}

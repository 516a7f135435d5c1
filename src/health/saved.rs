//! What servers missed, as it is kept while the process is restarted.
//!
//! A record of it is bytes with a version and a checksum: what is not a whole record of this version says nothing. A
//! record that is [`Kept::Whole`] was written at the end of a process, with all that was pending. One that is [`Kept::Marks`]
//! was written before the end, and tells only for which servers something was pending: those have to be flushed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use sha1::{Digest, Sha1};

use super::late::Of;
use super::pending::{Invalidations, Mark, PendingInvalidations, StaleKey};
use super::{Entry, Registry, UNMET};
use crate::config::discovery::NOBODY;
use crate::config::model::{Config, Pool, PoolId, Protocol, Rejoin, Server, ServerId};
use crate::time::Instant;

/// What a record begins with. The number is that of its version.
const MAGIC: &[u8] = b"softmiss state 3\n";

/// The same of one that does not say how long servers have not been found.
const SECOND_MAGIC: &[u8] = b"softmiss state 2\n";

/// The same of one in which keys have no database either.
const FIRST_MAGIC: &[u8] = b"softmiss state 1\n";

/// What is true of a key, as bits.
const BASE64: u8 = 1;
const DATABASE: u8 = 2;

const CHECKSUM: usize = 20;

/// How much a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All that was pending when the process ended.
    Whole,
    /// For which servers something was pending while it ran.
    Marks,
}

impl Kept {
    /// What is told of what is pending for a server of a pool. Where servers keep what they have, none is flushed for keys of
    /// which only a mark says that there were some.
    pub(super) fn of(self, rejoin: Rejoin, pending: &PendingInvalidations) -> Invalidations {
        match self {
            Self::Whole => pending.all(),
            Self::Marks if rejoin == Rejoin::Keep => pending.flushes(),
            Self::Marks => Invalidations::of_all(),
        }
    }
}

/// What is known of one server that is out, or that something is pending for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its pool's name.
    pub pool: String,
    /// Its name.
    pub server: String,
    /// It was out of the ring.
    pub out: bool,
    /// The process that answered for it last; 0: nobody asked.
    pub process: u64,
    /// For how many seconds it has been left for a server that nobody has found.
    pub unclaimed: u32,
    /// What it has to forget.
    pub missed: Invalidations,
}

/// How much another process has been told of what is pending.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<(PoolId, ServerId), Mark>);

/// A record of these servers.
#[must_use]
pub fn encode(kept: Kept, servers: &[Saved]) -> Vec<u8> {
    let mut out = [MAGIC, &[0; CHECKSUM]].concat();
    out.push(u8::from(kept == Kept::Whole));
    for one in servers {
        let Invalidations { flush, databases, keys, .. } = &one.missed;
        put(&mut out, one.pool.as_bytes());
        put(&mut out, one.server.as_bytes());
        out.extend_from_slice(&[u8::from(one.out), u8::from(*flush)]);
        out.extend_from_slice(&one.process.to_le_bytes());
        out.extend_from_slice(&one.unclaimed.to_le_bytes());
        put_number(&mut out, databases.len());
        databases.iter().for_each(|database| out.extend_from_slice(&database.to_le_bytes()));
        put_number(&mut out, keys.len());
        for key in keys {
            out.push((u8::from(key.base64) * BASE64) | (u8::from(key.database.is_some()) * DATABASE));
            if let Some(database) = key.database {
                out.extend_from_slice(&database.to_le_bytes());
            }
            put(&mut out, &key.key);
        }
    }
    let start = MAGIC.len() + CHECKSUM;
    let checksum = Sha1::digest(&out[start..]);
    out[MAGIC.len()..start].copy_from_slice(&checksum);
    out
}

/// Reads a record, also one of a version before this one. `None` when it is neither, or was damaged.
#[must_use]
pub fn decode(record: &[u8]) -> Option<(Kept, Vec<Saved>)> {
    let earlier = || record.strip_prefix(SECOND_MAGIC).or_else(|| record.strip_prefix(FIRST_MAGIC));
    let (rest, has_times) = match record.strip_prefix(MAGIC) {
        Some(rest) => (rest, true),
        None => (earlier()?, false),
    };
    let (checksum, body) = rest.split_at_checked(CHECKSUM)?;
    if Sha1::digest(body)[..] != *checksum {
        return None;
    }
    let mut rest = Rest(body);
    let kept = if rest.flag()? { Kept::Whole } else { Kept::Marks };
    let mut servers = Vec::new();
    while !rest.0.is_empty() {
        let (pool, server) = (rest.text()?, rest.text()?);
        let (out, flush) = (rest.flag()?, rest.flag()?);
        let process = u64::from_le_bytes(rest.take(8)?.try_into().ok()?);
        let unclaimed = if has_times { rest.number()? } else { 0 };
        let databases = (0..rest.number()?).map(|_| rest.number()).collect::<Option<_>>()?;
        let key = |rest: &mut Rest<'_>| {
            let [marks] = rest.take(1)? else { return None };
            let database = if marks & DATABASE != 0 { Some(rest.number()?) } else { None };
            Some(StaleKey { database, base64: marks & BASE64 != 0, key: rest.bytes()?.into() })
        };
        let keys = (0..rest.number()?).map(|_| key(&mut rest)).collect::<Option<_>>()?;
        servers.push(Saved { pool, server, out, process, unclaimed, missed: Invalidations { flush, databases, keys } });
    }
    Some((kept, servers))
}

fn put_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// What has not been read of a record.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == [1])
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.take(usize::try_from(count).ok()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

impl Entry {
    /// What there is to be kept of a server, by its pool's name and its own: nothing of one that is in the ring and has nothing
    /// to forget, or that comes back as it is.
    pub(super) fn saved(&self, (pool, server): (&str, &str), rejoin: Rejoin, kept: Kept) -> Option<Saved> {
        let out = !self.lock().is_up();
        let pending = self.pending();
        if pending.is_nothing() && (!out || rejoin == Rejoin::Keep) {
            return None;
        }
        let missed = kept.of(rejoin, &pending);
        if rejoin == Rejoin::Keep && missed.is_nothing() {
            return None;
        }
        let (pool, server, process) = (pool.to_owned(), server.to_owned(), self.process.load(Ordering::Relaxed));
        Some(Saved { pool, server, out, process, unclaimed: 0, missed })
    }
}

impl Registry {
    /// Every server that is out, or that something is pending for, in pools where that matters when it is back, those that
    /// have left or have not been found included.
    #[must_use]
    pub fn save(&self, config: &Config, kept: Kept, now: Instant) -> Vec<Saved> {
        let mut saved = self.save_members(config, kept);
        saved.extend(self.save_others(config, kept, now));
        saved
    }

    /// Of these, those that are there.
    #[must_use]
    pub fn save_members(&self, config: &Config, kept: Kept) -> Vec<Saved> {
        let of = |pool: &Pool, server: &Server| {
            self.entry(pool.id, server.id).saved((&pool.name, &server.name), pool.rejoin, kept)
        };
        config.pools.iter().flat_map(|pool| pool.servers.iter().filter_map(move |server| of(pool, server))).collect()
    }

    /// What has become pending since `told`, of servers that are there. That is told of from here on.
    pub fn missed_since(&self, config: &Config, told: &mut Told) -> Vec<Saved> {
        let mut saved = Vec::new();
        for pool in &config.pools {
            for server in &pool.servers {
                let entry = self.entry(pool.id, server.id);
                let mark = told.0.entry((pool.id, server.id)).or_default();
                let missed = entry.pending().since(mark);
                if missed != Invalidations::default() {
                    let process = entry.process.load(Ordering::Relaxed);
                    let (pool, server) = (pool.name.clone(), server.name.clone());
                    saved.push(Saved { pool, server, out: false, process, unclaimed: 0, missed });
                }
            }
        }
        saved
    }

    /// Takes up what the process before this one has left: what was pending is pending again, and servers that were out
    /// are until they have been probed. To be called before any client is served.
    pub fn recall(&self, config: &Config, saved: Vec<Saved>, now: Instant) {
        self.take_up(config, saved, now, |rules, server, one| self.recall_one(rules, server, one, now));
    }

    /// Takes up what servers have missed while this registry was in use, of which another process tells.
    pub fn recall_missed(&self, config: &Config, missed: Vec<Saved>, now: Instant) {
        self.take_up(config, missed, now, |rules, server, one| self.add_missed(rules, server, one.missed, now));
    }

    /// Tells servers what another process knows of them. What is of one that is not there is kept for when it is; what is of
    /// nobody, since that one did not know which servers there are, may be of any of them.
    fn take_up(&self, config: &Config, saved: Vec<Saved>, now: Instant, tell: impl Fn(&Pool, ServerId, Saved)) {
        for one in saved {
            let Some(rules) = config.pools.iter().find(|pool| pool.name == one.pool) else {
                self.keep_unclaimed(Of::Gone(one.pool.clone()), one, now);
                continue;
            };
            match rules.servers.iter().find(|server| server.name == one.server) {
                Some(server) => tell(rules, server.id, one),
                None if one.server == NOBODY => self.add_missed_to_all(rules, &one.missed, now),
                None => self.keep_unclaimed(Of::Pool(rules.id), one, now),
            }
        }
    }

    /// Takes up what is left of one server.
    pub(super) fn recall_one(&self, rules: &Pool, server: ServerId, one: Saved, now: Instant) {
        let (servers, entry) = (&self.pools[rules.id.index()], self.entry(rules.id, server));
        entry.process.store(one.process, Ordering::Relaxed);
        let flush = one.missed.flush || (one.out && rules.rejoin == Rejoin::Flush);
        self.add_missed(rules, server, Invalidations { flush, ..one.missed }, now);
        let mut ejected = servers.ejected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut tracker = entry.lock();
        if one.out && tracker.is_up() && rules.auto_eject_hosts && *ejected < servers.most_ejected {
            *ejected += 1;
            tracker.begin_out(now);
            self.shared.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Each server of a pool has to forget this.
    pub(super) fn add_missed_to_all(&self, rules: &Pool, missed: &Invalidations, now: Instant) {
        rules.servers.iter().for_each(|server| self.add_missed(rules, server.id, missed.clone(), now));
    }

    /// A server has to forget this.
    pub(super) fn add_missed(&self, rules: &Pool, server: ServerId, missed: Invalidations, now: Instant) {
        let entry = self.entry(rules.id, server);
        let Invalidations { flush, databases, keys, .. } = missed;
        // A pool of the other protocol knows nothing by these names: it forgets all.
        let is_strange = if rules.protocol == Protocol::Redis {
            keys.iter().any(|key| key.database.is_none())
        } else {
            !databases.is_empty() || keys.iter().any(|key| key.database.is_some())
        };
        if flush || is_strange {
            self.add_pending(entry, |pending| pending.add_flush(now));
        }
        let (databases, keys) = if is_strange { Default::default() } else { (databases, keys) };
        databases
            .into_iter()
            .for_each(|database| self.add_pending(entry, |pending| pending.add_database(database, now)));
        keys.into_iter().for_each(|key| self.add_pending(entry, |pending| pending.add_key(key, None, now)));
        self.bound_pending(now);
    }

    /// What a server missed before this process was started is not known: if it cannot be reached at first, it has to be
    /// flushed.
    pub fn doubt(&self, pool: PoolId, server: ServerId) {
        self.entry(pool, server).failures.fetch_or(UNMET, Ordering::Relaxed);
    }

    /// Whether that is so, and the server has not answered yet.
    #[must_use]
    pub fn is_doubted(&self, pool: PoolId, server: ServerId) -> bool {
        self.entry(pool, server).failures.load(Ordering::Relaxed) & UNMET != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Vec<Saved> {
        let key = |database, key: &[u8], base64| StaleKey { database, key: key.into(), base64 };
        let keys = vec![key(None, b"k1", false), key(None, &[0xff, 0, 7], true), key(Some(7), b"k1", false)];
        let missed = Invalidations { flush: false, databases: vec![3, 9], keys };
        let first =
            Saved { pool: "p".into(), server: "a b".into(), out: true, process: 1 << 40, unclaimed: 77, missed };
        let missed = Invalidations { flush: true, ..Invalidations::default() };
        vec![first.clone(), Saved { server: "c".into(), out: false, process: 0, unclaimed: 0, missed, ..first }]
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for kept in [Kept::Whole, Kept::Marks] {
            assert_eq!(decode(&encode(kept, &saved())), Some((kept, saved())));
            assert_eq!(decode(&encode(kept, &[])), Some((kept, Vec::new())));
        }
    }

    /// As it was written before keys had databases.
    #[test]
    fn a_record_of_the_first_version_is_read() {
        let mut body = vec![1];
        put(&mut body, b"p");
        put(&mut body, b"a");
        body.extend_from_slice(&[1, 0]);
        body.extend_from_slice(&9u64.to_le_bytes());
        put_number(&mut body, 1);
        put_number(&mut body, 3);
        put_number(&mut body, 2);
        for (base64, key) in [(0, b"k1"), (1, b"k2")] {
            body.push(base64);
            put(&mut body, key);
        }
        let record = [FIRST_MAGIC, &Sha1::digest(&body), &body].concat();
        let key = |key: &[u8], base64| StaleKey { database: None, key: key.into(), base64 };
        let missed = Invalidations {
            databases: vec![3],
            keys: vec![key(b"k1", false), key(b"k2", true)],
            ..Invalidations::default()
        };
        let saved = Saved { pool: "p".into(), server: "a".into(), out: true, process: 9, unclaimed: 0, missed };
        assert_eq!(decode(&record), Some((Kept::Whole, vec![saved])));
    }

    #[test]
    fn a_record_that_is_damaged_or_foreign_says_nothing() {
        let record = encode(Kept::Whole, &saved());
        for len in 0..record.len() {
            assert_eq!(decode(&record[..len]), None, "{len} bytes of it");
        }
        for at in 0..record.len() {
            let mut other = record.clone();
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "byte {at} is another");
        }
        assert_eq!(decode(b"softmiss state 4\n"), None);
        assert_eq!(decode(&[&record[..], b"x"].concat()), None);
    }

    #[test]
    fn what_was_pending_is_pending_in_the_next_process() {
        let file = "p:\n  listen: 127.0.0.1:1\n  auto_eject_hosts: true\n  rejoin: safe\n  servers: ['h:1:1 a', 'h:2:1 b', 'h:3:1 c']\n";
        let config = crate::config::parse("file", file).unwrap().config;
        let (pool, [a, b, c]) = (PoolId(0), [ServerId(0), ServerId(1), ServerId(2)]);
        let registry = Registry::new(&config, 1);
        let key = StaleKey { database: None, key: (*b"k").into(), base64: false };
        registry.invalidate_key(pool, a, key.clone(), None, Instant::ZERO);
        while !matches!(
            registry.failed(pool, b, 0, crate::failure::Failure::Refused, Instant::ZERO),
            crate::health::Verdict::Ejected { .. }
        ) {}
        let next = Registry::new(&config, 1);
        next.recall(&config, registry.save(&config, Kept::Whole, Instant::ZERO), Instant::ZERO);
        assert_eq!(next.live(pool), [true, false, true]);
        assert_eq!(next.probe_at(pool, b), Some(Instant::ZERO), "it is probed at once");
        assert_eq!(
            (next.has_pending(pool, a), next.has_pending(pool, b), next.has_pending(pool, c)),
            (true, false, false)
        );
        let missed = |registry: &Registry, server| registry.entry(pool, server).pending().all();
        assert_eq!(missed(&next, a), Invalidations { keys: vec![key], ..Invalidations::default() });
        // Of a process that did not come to its end, nobody knows what they missed.
        let next = Registry::new(&config, 1);
        next.recall(&config, registry.save(&config, Kept::Marks, Instant::ZERO), Instant::ZERO);
        let flush = Invalidations { flush: true, ..Invalidations::default() };
        assert_eq!([a, b].map(|server| missed(&next, server)), [flush.clone(), flush]);
    }

    /// A pool has another protocol than before: what is pending has no place there by its name.
    #[test]
    fn what_was_pending_in_the_other_protocol_becomes_a_flush() {
        let key = |database| vec![StaleKey { database, key: (*b"k").into(), base64: false }];
        let of_database = Invalidations { databases: vec![3], ..Invalidations::default() };
        let (bare, selected) = (
            Invalidations { keys: key(None), ..Invalidations::default() },
            Invalidations { keys: key(Some(3)), ..Invalidations::default() },
        );
        for (redis, missed, stays) in [
            (true, &bare, false),
            (true, &selected, true),
            (true, &of_database, true),
            (false, &bare, true),
            (false, &selected, false),
            (false, &of_database, false),
        ] {
            let file = format!("p:\n  listen: 127.0.0.1:1\n  redis: {redis}\n  servers: ['h:1:1 a']\n");
            let config = crate::config::parse("file", &file).unwrap().config;
            let registry = Registry::new(&config, 1);
            let one = Saved {
                pool: "p".into(),
                server: "a".into(),
                out: false,
                process: 0,
                unclaimed: 0,
                missed: missed.clone(),
            };
            registry.recall(&config, vec![one], Instant::ZERO);
            let flush = Invalidations { flush: true, ..Invalidations::default() };
            let expected = if stays { missed.clone() } else { flush };
            assert_eq!(registry.entry(PoolId(0), ServerId(0)).pending().all(), expected, "redis: {redis}, {missed:?}");
        }
    }

    #[test]
    fn a_server_that_is_not_reached_at_first_has_to_be_flushed() {
        let file = "p:\n  listen: 127.0.0.1:1\n  rejoin: safe\n  servers: ['h:1:1 a', 'h:2:1 b']\n";
        let config = crate::config::parse("file", file).unwrap().config;
        let (pool, [a, b]) = (PoolId(0), [ServerId(0), ServerId(1)]);
        let registry = Registry::new(&config, 1);
        [a, b].iter().for_each(|server| registry.doubt(pool, *server));
        assert_eq!(registry.failures(pool, a), 0);
        registry.succeeded(pool, b, 0, Instant::ZERO);
        for server in [a, b] {
            registry.failed(pool, server, 0, crate::failure::Failure::TimedOut, Instant::from_nanos(1));
        }
        assert!(registry.has_pending(pool, a) && !registry.is_doubted(pool, a));
        assert!(!registry.has_pending(pool, b), "it had answered");
    }

    #[test]
    fn another_process_is_told_of_what_is_missed_again() {
        let file = "p:\n  listen: 127.0.0.1:1\n  auto_eject_hosts: true\n  servers: ['h:1:1 a', 'h:2:1 b']\n";
        let config = crate::config::parse("file", file).unwrap().config;
        let (pool, a) = (PoolId(0), ServerId(0));
        let registry = Registry::new(&config, 1);
        let key = |key: &[u8]| StaleKey { database: None, key: key.into(), base64: false };
        let mut told = Told::default();
        let mut since = || {
            let missed = registry.missed_since(&config, &mut told);
            missed.into_iter().map(|one| (one.server, one.missed.flush, one.missed.keys)).collect::<Vec<_>>()
        };
        let missed = |name: &[u8]| registry.invalidate_key(pool, a, key(name), None, Instant::ZERO);
        missed(b"k");
        assert_eq!(since(), [("a".to_owned(), false, vec![key(b"k")])]);
        assert_eq!(since(), []);
        // The other one may have removed it already.
        missed(b"k");
        missed(b"l");
        assert_eq!(since(), [("a".to_owned(), false, vec![key(b"k"), key(b"l")])]);
        registry.invalidate_all(pool, a, Instant::ZERO);
        assert_eq!(since(), [("a".to_owned(), true, vec![])]);
        missed(b"k");
        assert_eq!(since(), [("a".to_owned(), false, vec![key(b"k")])], "no second flush");
        registry.invalidate_all_later(pool, a, Instant::ZERO);
        assert_eq!(since(), [("a".to_owned(), true, vec![])]);
    }
}

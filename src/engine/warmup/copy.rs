//! What servers are asked to bring a key along, one thing after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::moving::{Moving, Stage};
use super::waits::WaitId;
use crate::config::model::{PoolId, ServerId};
use crate::engine::Engine;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::random::next_random;
use crate::engine::redis::Profile;
use crate::engine::servers::ticket::{Intent, Marks};
use crate::health::pending::StaleKey;
use crate::proto::memcache::copy as memcache;
use crate::proto::memcache::response::Status;
use crate::proto::resp::{copy as resp, encode};
use crate::proto::verb::Verb;
use crate::time::Instant;

/// For how long others are sure to know that a key is being copied: less than the time after which that is forgotten.
const KNOWN_FOR: Duration = Duration::from_millis(900);

/// How often a key is announced and read, as long as keys of its group are written in between.
const ROUNDS: u32 = 100;

/// What comes next.
enum Next {
    /// Something has been asked.
    Asked(Stage),
    /// What is stored of the key is at its new home.
    Settled,
    /// That is not known.
    Failed,
    /// It never will be: a server does not know, or does not allow, what it was asked.
    Refused,
}

/// What became of a key that is to be brought along.
pub(super) enum Begun {
    /// It is being copied.
    Copy,
    /// Its new home cannot be asked.
    Nothing,
    /// There are too many copies under way, or too little memory.
    Full,
}

impl Engine {
    /// Has a key brought along from one of its former homes: the client waits for that, as it is about to be noted.
    pub(super) fn copy(
        &mut self,
        id: SessionId,
        pool: PoolId,
        key: Key<'_>,
        homes: Vec<ServerId>,
        now: Instant,
    ) -> Begun {
        let (hash, wait, ring_version) =
            (key.hash(pool), self.warmup.next_wait(id), self.pools[pool.index()].ring_version);
        let known = self.warmup.numbers.get(&hash).and_then(|number| self.warmup.copies.get_mut(number));
        if let Some(known) = known.filter(|known| known.ring_version == ring_version) {
            return if known.is_awaited_by(wait) { Begun::Copy } else { Begun::Nothing };
        }
        if self.warmup.is_full(key.wire.len()) || self.memory.held() > self.memory.limits().common {
            return Begun::Full;
        }
        let state = &self.pools[pool.index()];
        let (Some(warm), Some(home)) = (&state.warm, state.ring.route(key.routed, 0)) else { return Begun::Nothing };
        let profile = key.database.and_then(|_| self.session_ref(id)).map(|session| session.profile());
        let mut copy = Moving {
            pool,
            key: key.wire.into(),
            base64: key.base64,
            profile,
            hash,
            begun: 0,
            shared: Arc::clone(&warm.shared),
            ring_version,
            stage: Stage::Check,
            sign: key.sign(),
            name: Box::default(),
            announced_at: None,
            home,
            homes,
            former: Vec::new(),
            from: None,
            is_partial: false,
            rounds: 0,
            clients: BTreeMap::from([(wait.client, wait.number)]),
        };
        let Some(link) = self.link_for(pool, profile, home, now) else { return Begun::Nothing };
        let number = self.next_copy();
        // Nobody else in this process has this number, and nobody in another one the others.
        let drawn = (next_random(&mut self.random), next_random(&mut self.random));
        copy.name = format!("{:x}{:x}.{}.{number}", drawn.0, drawn.1, self.worker).into_bytes().into();
        let key = copy.memcache_key();
        match profile {
            None => self.ask_copy(link, number, Verb::MetaGet, copy.base64, now, |out| memcache::ask_for(out, key)),
            Some(_) => self.ask_copy(link, number, Verb::Query, false, now, |out| {
                encode::words(out, &[b"EXISTS", key.bytes]);
            }),
        }
        self.counters.pool(pool).warmup_asked.add(1);
        self.warmup.begin_copy(number, copy);
        Begun::Copy
    }

    /// A connection on which a server can be asked for a copy.
    pub(in crate::engine) fn link_for(
        &mut self,
        pool: PoolId,
        profile: Option<Profile>,
        server: ServerId,
        now: Instant,
    ) -> Option<LinkId> {
        if self.memory.held() > self.memory.limits().common || !self.pools[pool.index()].live[server.index()] {
            return None;
        }
        if profile.is_some() && self.fit_link(pool, server, profile).is_none() {
            self.add_links(pool, server, profile.unwrap_or_default());
        }
        let link = self.fit_link(pool, server, profile)?;
        let link = self.ready_link(link, now).ok()?;
        if self.member(pool, server).is_open() { Some(link) } else { self.put_behind_invalidations(link, now).ok() }
    }

    fn ask_copy(
        &mut self,
        link: LinkId,
        number: u32,
        verb: Verb,
        base64: bool,
        now: Instant,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.go(link, (Intent::Copy(number), verb, Marks::BASE64.when(base64)), now, write);
        self.charge_link(link);
    }

    /// Asks the home of a key that has moved whether somebody else copies it. `false` when that cannot be asked.
    pub(super) fn ask_who_copies(&mut self, id: SessionId, pool: PoolId, key: Key<'_>, now: Instant) -> bool {
        if self.pools[pool.index()].warm.as_ref().is_none_or(|warm| warm.shared.is_over()) {
            return false;
        }
        let profile = key.database.and_then(|_| self.session_ref(id)).map(|session| session.profile());
        let home = self.topology.pool(pool).home.route(key.routed, 0);
        let Some(link) = home.and_then(|home| self.link_for(pool, profile, home, now)) else { return false };
        let (number, sign) = (self.next_copy(), key.sign());
        match profile {
            None => self.ask_copy(link, number, Verb::MetaGet, false, now, |out| {
                memcache::ask_who(out, memcache::Key { bytes: &sign, base64: false });
            }),
            Some(_) => {
                self.ask_copy(link, number, Verb::Query, false, now, |out| encode::words(out, &[b"SCARD", &sign]));
            }
        }
        let wait = self.warmup.next_wait(id);
        self.warmup.questions.insert(number, wait);
        true
    }

    fn next_copy(&mut self) -> u32 {
        self.warmup.last = self.warmup.last.wrapping_add(1);
        self.warmup.last
    }

    /// A server has answered what it was asked for a copy.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn copy_answered(&mut self, number: u32, answer: &[u8], status: Status, now: Instant) {
        let Some(mut copy) = self.warmup.copies.remove(&number) else {
            let is_nobody = memcache::is_nobody(answer) && resp::is_nobody(answer);
            return self.is_copied(number, !is_nobody, now);
        };
        if copy.stage == Stage::Store {
            copy.shared.copies.stored(copy.hash);
        }
        let next = match copy.profile {
            None => self.next_of_memcache(&mut copy, number, answer, status, now),
            Some(_) => self.next_of_redis(&mut copy, number, answer, now),
        };
        self.go_on(copy, number, next, now);
    }

    /// What a server was asked for a copy is lost.
    #[cold]
    pub(in crate::engine) fn copy_lost(&mut self, number: u32) {
        let now = self.now;
        let Some(copy) = self.warmup.copies.remove(&number) else { return self.is_copied(number, false, now) };
        if copy.stage == Stage::Store {
            // It may be stored yet, and nobody would know: the server forgets it, before it is asked anything else.
            let database = copy.profile.map(|profile| profile.database);
            let key = StaleKey { database, key: copy.key[..].into(), base64: copy.base64 };
            self.invalidate_key((copy.pool, copy.home), key, None, now);
            copy.shared.copies.stored(copy.hash);
        }
        self.go_on(copy, number, Next::Failed, now);
    }

    fn go_on(&mut self, mut copy: Moving, number: u32, next: Next, now: Instant) {
        if let Next::Asked(stage) = next {
            copy.stage = stage;
            self.warmup.copies.insert(number, copy);
            return;
        }
        let state = &mut self.pools[copy.pool.index()];
        let is_known = matches!(next, Next::Settled | Next::Refused) && state.ring_version == copy.ring_version;
        if let Some(warm) = state.warm.as_mut().filter(|_| is_known) {
            warm.settle(copy.hash);
        }
        if !matches!(next, Next::Settled) {
            self.counters.pool(copy.pool).warmup_failed.add(1);
        }
        self.warmup.end_copy(number, &copy);
        for (client, wait) in std::mem::take(&mut copy.clients) {
            if self.warmup.copied(WaitId { client, number: wait }) {
                self.clients.resume_soon(client);
            }
        }
        self.leave_copy(&copy, number, now);
    }

    /// Says that a key is not being copied any more, if that it is was said. Nobody waits for the answer.
    fn leave_copy(&mut self, copy: &Moving, number: u32, now: Instant) {
        let link = copy.announced_at.and_then(|_| self.link_for(copy.pool, copy.profile, copy.home, now));
        let (Some(link), Moving { sign, name, .. }) = (link, copy) else { return };
        if copy.profile.is_none() {
            self.ask_copy(link, number, Verb::MetaSet, false, now, |out| {
                memcache::leave(out, copy.memcache_sign(), name);
            });
        } else {
            self.ask_copy(link, number, Verb::Command, false, now, |out| encode::words(out, &[b"SREM", sign, name]));
        }
    }

    /// Says at the new home that the key is being copied. Copies are called by names there, so that one that is over when that
    /// has been forgotten takes no other one away.
    fn announce(&mut self, copy: &mut Moving, number: u32, now: Instant) -> Next {
        let Some(link) = self.link_to_announce(copy, now) else { return Next::Failed };
        let Moving { sign, name, .. } = &*copy;
        if copy.profile.is_none() {
            self.ask_copy(link, number, Verb::MetaSet, false, now, |out| {
                memcache::announce(out, copy.memcache_sign(), name);
            });
        } else {
            // All or nothing: what a connection that ends leaves half done would not be forgotten.
            let said: [&[&[u8]]; 4] =
                [&[b"MULTI"], &[b"SADD", sign, name], &[b"EXPIRE", sign, resp::FORGOTTEN_AFTER], &[b"EXEC"]];
            for words in said {
                self.ask_copy(link, number, Verb::Command, false, now, |out| encode::words(out, words));
            }
        }
        Next::Asked(Stage::Announce)
    }

    /// The same where others copy it as well.
    fn announce_too(&mut self, copy: &mut Moving, number: u32, now: Instant) -> Next {
        let Some(link) = self.link_to_announce(copy, now) else { return Next::Failed };
        self.ask_copy(link, number, Verb::MetaGet, false, now, |out| memcache::keep(out, copy.memcache_sign()));
        self.ask_copy(link, number, Verb::MetaSet, false, now, |out| {
            memcache::announce_too(out, copy.memcache_sign(), &copy.name);
        });
        Next::Asked(Stage::Keep)
    }

    fn link_to_announce(&mut self, copy: &mut Moving, now: Instant) -> Option<LinkId> {
        copy.rounds += 1;
        if copy.rounds > ROUNDS {
            return None;
        }
        let link = self.link_for(copy.pool, copy.profile, copy.home, now)?;
        copy.announced_at = Some(now);
        Some(link)
    }

    fn next_of_memcache(
        &mut self,
        copy: &mut Moving,
        number: u32,
        answer: &[u8],
        status: Status,
        now: Instant,
    ) -> Next {
        match (copy.stage, status) {
            (Stage::Check, Status::Done) => Next::Settled,
            (Stage::Check, Status::Absent) => self.announce(copy, number, now),
            (Stage::Announce | Stage::Announced, Status::Done) => self.read_first(copy, number, now),
            (Stage::Announce, Status::Conflict) => self.announce_too(copy, number, now),
            (Stage::Keep, _) => Next::Asked(Stage::Announced), // what is answered next counts
            (Stage::Announced, Status::Conflict) => self.announce(copy, number, now), // it has been forgotten
            (Stage::Check | Stage::Announce | Stage::Announced | Stage::Read(_), Status::Error) => Next::Refused,
            (Stage::Read(_), Status::Absent) => self.read_next(copy, number, now),
            (Stage::Read(_), Status::Done) => match memcache::found(answer) {
                Some(found) => self.store_copy(copy, number, Verb::MetaSet, now, |copy, out| {
                    memcache::store(out, copy.memcache_key(), found);
                }),
                None => self.read_next(copy, number, now),
            },
            (Stage::Store, Status::Done) => self.brought(copy),
            (Stage::Store, Status::Conflict) => Next::Settled, // somebody has stored something meanwhile
            _ => Next::Failed,
        }
    }

    fn next_of_redis(&mut self, copy: &mut Moving, number: u32, answer: &[u8], now: Instant) -> Next {
        match copy.stage {
            _ if resp::is_refused(answer) => Next::Refused,
            Stage::Check => match resp::integer(answer) {
                Some(0) => self.announce(copy, number, now),
                Some(_) => Next::Settled,
                None => Next::Failed,
            },
            Stage::Announce if answer.starts_with(b"+") => Next::Asked(Stage::Announce), // there are three of those
            Stage::Announce if resp::is_forgotten_later(answer) => self.read_first(copy, number, now),
            Stage::Announce | Stage::Keep | Stage::Announced => Next::Failed,
            Stage::Lifetime => {
                let lifetime = match resp::integer(answer) {
                    Some(-1) => None,
                    Some(millis) if millis > 0 => u64::try_from(millis).ok(),
                    Some(_) => return self.read_next(copy, number, now),
                    None => return Next::Failed,
                };
                let Some(link) = copy.from.and_then(|from| self.link_for(copy.pool, copy.profile, from, now)) else {
                    return Next::Failed;
                };
                let key = &copy.key;
                self.ask_copy(link, number, Verb::Query, false, now, |out| encode::words(out, &[b"GET", key]));
                Next::Asked(Stage::Read(lifetime))
            }
            Stage::Read(lifetime) => match resp::value(answer) {
                Some(value) => self.store_copy(copy, number, Verb::Command, now, |copy, out| {
                    resp::store(out, &copy.key, value, lifetime);
                }),
                None if answer.starts_with(b"-") && !resp::is_of_another_kind(answer) => Next::Failed,
                None => self.read_next(copy, number, now),
            },
            Stage::Store if answer.starts_with(b"-") => Next::Failed,
            Stage::Store if answer.starts_with(b"+") => self.brought(copy),
            Stage::Store => Next::Settled,
        }
    }

    /// What was found of a key is stored at its new home.
    fn brought(&self, copy: &Moving) -> Next {
        self.counters.pool(copy.pool).warmup_brought.add(1);
        Next::Settled
    }

    /// Looks for the key at its newest former home, and then at the others.
    fn read_first(&mut self, copy: &mut Moving, number: u32, now: Instant) -> Next {
        copy.rounds += 1;
        if copy.rounds > ROUNDS {
            return Next::Failed;
        }
        copy.begun = copy.shared.copies.begin(copy.hash);
        copy.former = copy.homes.iter().rev().copied().collect();
        self.read_next(copy, number, now)
    }

    /// Looks for the key at the next former home.
    fn read_next(&mut self, copy: &mut Moving, number: u32, now: Instant) -> Next {
        while let Some(from) = copy.former.pop() {
            let Some(link) = self.link_for(copy.pool, copy.profile, from, now) else {
                copy.is_partial = true;
                continue;
            };
            copy.from = Some(from);
            let key = copy.memcache_key();
            if copy.profile.is_none() {
                self.ask_copy(link, number, Verb::MetaGet, copy.base64, now, |out| memcache::read(out, key));
                return Next::Asked(Stage::Read(None));
            }
            self.ask_copy(link, number, Verb::Query, false, now, |out| encode::words(out, &[b"PTTL", key.bytes]));
            return Next::Asked(Stage::Lifetime);
        }
        if copy.is_partial { Next::Failed } else { Next::Settled }
    }

    /// Stores what was read. If the key, or another of its group, was written since, it is read again; if it belongs elsewhere
    /// by now, it is left.
    fn store_copy(
        &mut self,
        copy: &mut Moving,
        number: u32,
        verb: Verb,
        now: Instant,
        write: impl FnOnce(&Moving, &mut Vec<u8>),
    ) -> Next {
        let is_home = self.pools[copy.pool.index()].ring_version == copy.ring_version;
        let link = self.link_for(copy.pool, copy.profile, copy.home, now);
        let Some(link) = link.filter(|_| is_home) else { return Next::Failed };
        if copy.shared.is_over() || copy.announced_at.is_none_or(|at| now >= at + KNOWN_FOR) {
            return Next::Failed;
        }
        if !copy.shared.copies.store(copy.hash, copy.begun) {
            return self.read_first(copy, number, now);
        }
        self.ask_copy(link, number, verb, copy.base64, now, |out| write(copy, out));
        Next::Asked(Stage::Store)
    }
}

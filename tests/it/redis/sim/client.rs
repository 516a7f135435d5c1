//! Clients: who they are, and what they remember of what they asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use softmiss::config::model::OnFailure;
use softmiss::engine::ids::SessionId;

use super::guard::Guarding;
use super::hog::Hog;
use super::store::{Removal, Serial};
use super::world::World;

/// What a client waits for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Get(String),
    /// A store without conditions; one with `NX`.
    Set(Serial),
    SetNx(Serial),
    /// `SETNX`, which answers a number.
    SetNxCount(Serial),
    Mget(Vec<String>),
    Count(i64),
    Ok,
    Hello,
    /// The number of the flush.
    Flush(usize),
    Queued,
    Exec(Vec<Self>),
    /// A transaction behind a watch.
    GuardedExec(Vec<Self>),
    Watch,
    Script(Serial),
    Sha,
    Pop(String),
    Push,
    Subscribed(String),
    Unsubscribed(usize),
    Published,
    Pong,
    /// Whatever a hog is told is right.
    Anything,
    /// memcached's `get` and `set`.
    Values(Vec<String>),
    Stored(Serial),
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) asked: Asked,
    /// The database that was selected.
    pub(super) database: usize,
    /// When it was drawn, and how many values had been written then.
    pub(super) tick: u64,
    pub(super) serial: Serial,
    /// When the engine had it whole, in nanoseconds.
    pub(super) given: Option<u64>,
    /// Its connection was watching: what it is told is the base of a guarded change.
    pub(super) guards: bool,
}

/// A client.
pub(super) struct Customer {
    pub(super) session: SessionId,
    pub(super) name: u64,
    pub(super) pool: usize,
    pub(super) asked: VecDeque<Pending>,
    /// What the engine has not been given.
    pub(super) unsent: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) database: usize,
    pub(super) resp3: bool,
    /// What it subscribes to, as far as it has asked.
    pub(super) channels: BTreeSet<String>,
    /// What it may be told of.
    pub(super) hears: BTreeSet<String>,
    pub(super) heard: BTreeSet<String>,
    /// For each database and key, its latest writing that was answered with a yes.
    pub(super) own: BTreeMap<(usize, String), Serial>,
    /// Keys that it has removed of late, by databases.
    pub(super) removes: Vec<(usize, String)>,
    /// One of these removals was answered by an error.
    pub(super) removal_failed: bool,
    /// It holds as much memory as it can.
    pub(super) hog: Option<Hog>,
    /// It never reads.
    pub(super) deaf: bool,
    pub(super) guarding: Option<Guarding>,
    /// It has said its last.
    pub(super) ended: bool,
    /// Its pool is served no longer: what the engine has been given is answered, and no more.
    pub(super) dismissed: bool,
    /// There was no timeout then.
    pub(super) untimed: bool,
}

impl Customer {
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.unsent.is_empty()
    }

    /// Whether it has asked for something to be removed that may not have been yet.
    fn removes(&self) -> bool {
        self.asked.iter().any(|pending| matches!(pending.asked, Asked::Count(_)))
    }
}

impl World {
    /// A client is about to remove some keys.
    pub(super) fn note_removal(&mut self, at: usize, names: &[String]) {
        let customer = &mut self.customers[at];
        if !customer.removes() {
            customer.removes.clear();
            customer.removal_failed = false;
        }
        let (pool, database) = (customer.pool, customer.database);
        customer.removes.extend(names.iter().map(|name| (database, name.clone())));
        for name in names {
            let removals = self.ledger.removals.entry((pool, database, name.clone())).or_default();
            removals.push(Removal { client: customer.name, drawn: self.ledger.tick, done: None });
        }
    }

    /// A client has heard what came of what it asked to be removed, or counted.
    pub(super) fn removal_answered(&mut self, at: usize, is_error: bool) {
        let customer = &mut self.customers[at];
        // Only where failures are told is an answer that of a server.
        customer.removal_failed |= is_error || self.plan.pools[customer.pool].on_failure != OnFailure::Error;
        if !customer.removes() {
            let removed = std::mem::take(&mut customer.removes);
            let is_sure = !std::mem::take(&mut customer.removal_failed);
            let (pool, client) = (customer.pool, customer.name);
            for (database, key) in removed.into_iter().filter(|_| is_sure) {
                self.newest.removal_confirmed(database, &key);
                let removals = self.ledger.removals.get_mut(&(pool, database, key));
                let own = removals.into_iter().flatten().filter(|removal| removal.client == client);
                own.for_each(|removal| removal.done = removal.done.or(Some(self.ledger.tick)));
            }
        }
    }

    /// Whether a client that is there has asked for a key to be removed.
    pub(super) fn is_removed(&self, database: usize, key: &[u8]) -> bool {
        let is_meant = |(of, name): &(usize, String)| *of == database && name.as_bytes() == key;
        self.customers.iter().any(|customer| customer.removes() && customer.removes.iter().any(is_meant))
    }
}

impl World {
    /// A client comes.
    pub(super) fn join(&mut self) {
        let pool = self.random.below(self.plan.pools.len() as u64 + 2) as usize;
        let pool = if pool < self.plan.pools.len() { pool } else { 0 };
        self.names += 1;
        let hog = if self.plan.memory_limit.is_some() && self.plan.pools[pool].redis { self.draw_hog() } else { None };
        let deaf = matches!(hog, Some(Hog::Reads | Hog::Listens));
        let customer = Customer {
            session: self.engine.client_connected(self.ids[pool]),
            name: self.names,
            pool,
            asked: VecDeque::new(),
            unsent: Vec::new(),
            input: Vec::new(),
            database: 0,
            resp3: false,
            channels: BTreeSet::new(),
            hears: BTreeSet::new(),
            heard: BTreeSet::new(),
            own: BTreeMap::new(),
            removes: Vec::new(),
            removal_failed: false,
            hog,
            deaf,
            guarding: None,
            ended: false,
            dismissed: false,
            untimed: false,
        };
        let session = customer.session;
        self.note(|| {
            format!("client {} joins pool {pool} as {session:?}{}", customer.name, if deaf { ", deaf" } else { "" })
        });
        self.customers.push(customer);
    }

    /// A client goes, whatever it waits for, and another comes.
    pub(super) fn leave(&mut self) {
        let at = self.random.below(self.customers.len() as u64) as usize;
        let now = self.at();
        if self.random.one_in(3) {
            let session = self.customers[at].session;
            self.customers[at].ended = true;
            self.engine.client_ended(session, now);
            self.count("half closed");
            return;
        }
        self.count("left");
        self.dismiss(at);
        self.join();
        // Its requests are on their way still: some of them never arrive.
        if self.random.one_in(2)
            && let Some(connection) = self.some_connection()
        {
            let id = self.connections[connection].id;
            self.end_connections(|one| one.id == id);
        }
    }

    pub(super) fn dismiss(&mut self, at: usize) {
        let customer = self.customers.swap_remove(at);
        self.note(|| format!("client {} is gone", customer.name));
        let failed = self.random.one_in(2);
        self.engine.client_gone(customer.session, failed);
        self.carry_out();
    }

    /// Clients with which the engine has done.
    pub(super) fn see_off(&mut self) {
        let mut at = 0;
        while at < self.customers.len() {
            if self.engine.client_status(self.customers[at].session).finished {
                let customer = &self.customers[at];
                // A bare server that fails closes the connections of those who wait on it.
                let errors = self.plan.pools[customer.pool].on_failure == OnFailure::Error;
                let waits = customer.asked.iter().any(|pending| matches!(pending.asked, Asked::Pop(_)));
                let is_given = customer.asked.front().is_some_and(|pending| pending.given.is_some());
                assert!(
                    customer.ended
                        || customer.hog.is_some()
                        || (errors && waits)
                        || (customer.dismissed && (waits || !is_given)),
                    "client {} is dismissed and waits for {:?}",
                    customer.name,
                    customer.asked.front()
                );
                if customer.dismissed {
                    self.count("sent away");
                } else if !customer.ended && customer.hog.is_none() {
                    self.count("hung up");
                } else if !customer.ended {
                    self.count("cut off");
                }
                self.dismiss(at);
                self.join();
            } else {
                at += 1;
            }
        }
    }
}

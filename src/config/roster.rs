//! Who is in which pool, and who has been: servers and pools by the ids that they keep while others come and go.
//!
//! An id is given once. A server keeps its own for as long as it has the same name and address; one that moves to another
//! address gets a new id, and what is known of it goes with the name ([`Place::first`]). A pool that is served no longer
//! and comes back is another pool.

use std::collections::BTreeMap;

use super::model::{Config, Pool, PoolId, Server, ServerId};

/// A pool, with the servers that it has and had.
#[derive(Debug, Clone)]
pub struct Roster {
    /// Its settings, and the servers that it has.
    pub pool: Pool,
    /// It is served. Otherwise it ends when its last client has left, and until then is as it was.
    pub is_served: bool,
    /// Its servers by their ids, those that left included.
    pub places: Vec<Place>,
}

/// What a server's id stands for.
#[derive(Debug, Clone)]
pub struct Place {
    /// The server, as it is or was when it left.
    pub server: Server,
    /// It is one of the pool's servers.
    pub is_member: bool,
    /// The first id that a server of this name got: health and counters belong to the name.
    pub first: ServerId,
}

/// More servers have come and gone than there are ids for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Roster {
    /// A pool that was not there before, whose servers get their ids in their order.
    fn new(mut pool: Pool, id: PoolId) -> Result<Self, Full> {
        pool.id = id;
        let servers = std::mem::take(&mut pool.servers);
        Self { pool, is_served: true, places: Vec::new() }.with(servers)
    }

    /// The pool with these servers in place of those that it has.
    fn with(mut self, mut servers: Vec<Server>) -> Result<Self, Full> {
        let mut firsts = BTreeMap::new();
        let mut known = BTreeMap::new();
        for (id, place) in (0u16..).map(ServerId).zip(&mut self.places) {
            place.is_member = false;
            firsts.insert(place.server.name.clone(), place.first);
            known.insert((place.server.name.clone(), place.server.address.to_string()), id);
        }
        for server in &mut servers {
            let name = server.name.clone();
            let key = (name.clone(), server.address.to_string());
            let next = u16::try_from(self.places.len()).map(ServerId).ok().filter(|id| id.0 < u16::MAX);
            let id = known.get(&key).copied().or(next).ok_or(Full)?;
            server.id = id;
            let first = *firsts.entry(name).or_insert(id);
            let place = Place { server: server.clone(), is_member: true, first };
            match self.places.get_mut(id.index()) {
                Some(known) => *known = place,
                None => self.places.push(place),
            }
        }
        self.pool.servers = servers;
        Ok(self)
    }

    /// Whether a pool of another configuration is this one.
    fn is(&self, pool: &Pool) -> bool {
        self.is_served && self.pool.name == pool.name && self.pool.protocol == pool.protocol
    }

    /// What becomes of pools with another configuration, by their ids. A pool that stays has its servers from it, and its
    /// settings from when it came.
    ///
    /// # Errors
    ///
    /// When there are no ids left.
    pub fn follow(before: &[Self], config: &Config) -> Result<Vec<Self>, Full> {
        let mut next: Vec<Self> = before.to_vec();
        for (known, old) in next.iter_mut().zip(before) {
            let same = config.pools.iter().find(|pool| old.is(pool));
            match same {
                Some(pool) => *known = old.clone().with(pool.servers.clone())?,
                None => known.is_served = false,
            }
        }
        for pool in config.pools.iter().filter(|pool| !before.iter().any(|old| old.is(pool))) {
            let id = u16::try_from(next.len()).map_err(|_| Full)?;
            next.push(Self::new(pool.clone(), PoolId(id))?);
        }
        Ok(next)
    }
}

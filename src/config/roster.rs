//! Who is in which pool, and who has been: servers and pools by the ids that they keep while others come and go.
//!
//! An id is given once. A server keeps its own for as long as it has the same name and address; one that moves to another
//! address gets a new id, and what is known of it goes with the name ([`Place::first`]). A pool keeps its own for as long as
//! it has the same name, or listens at the same address, and speaks the same protocol. One that is served no longer and
//! comes back is another pool.

use std::collections::BTreeMap;

use super::model::{Config, Listen, LogSettings, Pool, PoolId, RedisSettings, Server, ServerId, Settings};
use super::place;

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
        for (id, place) in (0..=u16::MAX).map(ServerId).zip(&mut self.places) {
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

    /// What becomes of pools with another configuration, by their ids. A pool that stays has from it what can be changed.
    ///
    /// # Errors
    ///
    /// When there are no ids left.
    pub fn follow(before: &[Self], config: &Config) -> Result<Vec<Self>, Full> {
        let mut next: Vec<Self> = before.to_vec();
        let served: Vec<usize> = (0..before.len()).filter(|index| before[*index].is_served).collect();
        let old: Vec<&Pool> = served.iter().map(|index| &before[*index].pool).collect();
        let partners = partners(&old, &config.pools);
        for (place, index) in served.into_iter().enumerate() {
            match partners.iter().position(|partner| *partner == Some(place)) {
                Some(pool) => next[index] = before[index].clone().turned_into(&config.pools[pool])?,
                None => next[index].is_served = false,
            }
        }
        for (pool, _) in config.pools.iter().zip(&partners).filter(|(_, partner)| partner.is_none()) {
            let id = u16::try_from(next.len()).map_err(|_| Full)?;
            next.push(Self::new(pool.clone(), PoolId(id))?);
        }
        Ok(next)
    }

    /// The pool with what another configuration says of it, as far as that can be changed.
    fn turned_into(self, pool: &Pool) -> Result<Self, Full> {
        let old = self.pool;
        let next = Pool {
            id: old.id,
            server_connections: old.server_connections,
            reuseport: old.reuseport,
            redis: RedisSettings { db: old.redis.db, ..pool.redis.clone() },
            ..pool.clone()
        };
        Self { pool: next, ..self }.with(pool.servers.clone())
    }
}

/// For each of some pools, which of those before it is: the one of its name, or else one that listens where it does and
/// whose name is gone.
#[must_use]
pub fn partners(before: &[&Pool], pools: &[Pool]) -> Vec<Option<usize>> {
    let named = |name: &str| pools.iter().any(|pool| pool.name == name);
    let find = |pool: &Pool| {
        let speaks_the_same = |old: &&Pool| old.protocol == pool.protocol;
        if let Some(same) = before.iter().position(|old| old.name == pool.name) {
            return Some(same).filter(|same| speaks_the_same(&before[*same]));
        }
        let is_renamed = |old: &&Pool| speaks_the_same(old) && is_at(&old.listen, &pool.listen) && !named(&old.name);
        before.iter().position(is_renamed)
    };
    pools.iter().map(find).collect()
}

/// Whether a listener is at the place of another, however the path of a unix socket is written.
#[must_use]
pub fn is_at(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Tcp { address: one, .. }, Listen::Tcp { address: other, .. }) => one == other,
        (Listen::Unix { .. }, Listen::Unix { .. }) => {
            place::Place::of_listener(one) == place::Place::of_listener(other)
        }
        (Listen::Tcp { .. }, Listen::Unix { .. }) | (Listen::Unix { .. }, Listen::Tcp { .. }) => false,
    }
}

/// The settings of a process that is told others, as far as they can be changed.
#[must_use]
pub fn settings_after(before: &Settings, next: &Settings) -> Settings {
    Settings {
        workers: before.workers,
        stats: before.stats,
        admin: before.admin,
        state_dir: before.state_dir.clone(),
        log: LogSettings { format: before.log.format, ..next.log },
        ..next.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::options;
    use super::super::parse;
    use super::*;

    fn config(text: &str) -> Config {
        parse("file", text).map_err(|report| report.render(false)).expect("a good file").config
    }

    /// Each option with a value that is not the default, for a process and for a pool of each protocol.
    const OTHER: &str = "
softmiss:
  workers: 3
  memory_limit: 100mb
  stats: none
  admin: none
  admin_token: 0123456789abcdef
  statsd: {address: '127.0.0.1:8125'}
  hot_keys: none
  slow_request: none
  state_dir: /other
  drain_timeout: 1s
  watch: true
  log: {level: debug, format: json}
m:
  listen: /m2.sock 0600
  hash: md5
  hash_tag: '{}'
  distribution: modula
  timeout: 500
  auto_eject_hosts: true
  server_failure_limit: 7
  server_retry_timeout: 7000
  on_failure: absorb
  absorb_add: true
  rejoin: flush
  failover_ttl: 60s
  warmup: 10m
  rise: 3
  max_ejected_percent: 50
  flap_limit: 0
  stall_min: 50
  stall_max: 300
  server_connections: 3
  server_reconnect_limit: 77
  join_gets: false
  preconnect: true
  backlog: 77
  client_connections: 77
  tcpkeepalive: true
  reuseport: true
  value_limit: 1mb
  resolve_interval: 1s
  settle: 1s
  resolve: all
  servers_file: /servers
  auto_discovery: b:1
  servers: ['a:1:2']
r:
  listen: /r.sock
  redis: true
  redis_auth: other
  redis_user: other
  redis_db: 3
  redis_databases: 32
  transactions: single
  keyless_scripts: refuse
  on_eject: hold
  timeout: 100
  on_failure: absorb
  on_failure_scripts: miss
  unknown_commands: refuse
  dedicated_connections: 7
  servers: ['a:1:2']
";
    const PLAIN: &str = "
softmiss: {}
m: {listen: /m.sock, servers: ['a:1:1']}
r: {listen: /r.sock, redis: true, redis_auth: one, servers: ['a:1:1']}
";

    #[test]
    fn what_is_marked_as_fixed_stays_and_everything_else_changes() {
        let (plain, other) = (config(PLAIN), config(OTHER));
        let before = Roster::follow(&[], &plain).expect("few pools");
        let after = Roster::follow(&before, &other).expect("few pools");
        assert_eq!(after.len(), 2, "both are as they were");
        let mut seen = 0;
        for (index, wanted) in other.pools.iter().enumerate() {
            for asked in options::pool_differences(&plain.pools[index], wanted) {
                let left = options::pool_differences(&after[index].pool, wanted);
                let is_kept = left.iter().any(|left| left.name == asked.name);
                assert_eq!(is_kept, asked.is_fixed, "{} of {}", asked.name, wanted.name);
                seen += 1;
            }
        }
        let settings = settings_after(&plain.settings, &other.settings);
        for asked in options::process_differences(&plain.settings, &other.settings) {
            let left = options::process_differences(&settings, &other.settings);
            assert_eq!(left.iter().any(|left| left.name == asked.name), asked.is_fixed, "{}", asked.name);
            seen += 1;
        }
        // Every option but: servers, which are compared by themselves; redis, which makes it another pool; and
        // stall_detection, which is off where the others cannot be set.
        let all = options::all().count() + 1; // log is two
        assert!(seen >= all - 3, "{seen} of {all} options were tried");
    }

    #[test]
    fn a_pool_is_known_by_its_name_and_else_by_where_it_listens() {
        let of = |text: &str| config(text).pools;
        let before = of("
a: {listen: /1.sock, servers: ['a:1:1']}
b: {listen: /2.sock, servers: ['a:1:1']}
c: {listen: /3.sock, servers: ['a:1:1']}
d: {listen: /4.sock, servers: ['a:1:1']}
");
        let before: Vec<&Pool> = before.iter().collect();
        let after = of("
b: {listen: /1.sock, servers: ['a:1:1']}
a: {listen: /2.sock, servers: ['a:1:1']}
new: {listen: /3.sock, servers: ['a:1:1']}
d: {listen: /4.sock, redis: true, servers: ['a:1:1']}
other: {listen: /5.sock, servers: ['a:1:1']}
");
        assert_eq!(partners(&before, &after), [Some(1), Some(0), Some(2), None, None]);
    }
}

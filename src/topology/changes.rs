//! What another configuration changes: which pools and servers come and go, which options differ, and what share of the
//! keys belongs elsewhere then.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::discovery::is_open;
use crate::config::model::{Config, Distribution, Pool, Server};
use crate::config::options::{Difference, pool_differences, process_differences};
use crate::config::roster::partners;
use crate::ring::{self, Circle};

/// Keys that are looked up in both rings to see how many belong elsewhere.
const SAMPLE: usize = 20_000;

/// All that one configuration changes of another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Options of the process.
    pub process: Vec<Difference>,
    /// Pools that differ, come or go.
    pub pools: Vec<PoolChange>,
}

/// What becomes of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolChange {
    /// Its name; where that changes, the new one.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a pool.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It comes, with so many servers.
    Added(usize),
    /// It goes, and its clients with it.
    Removed,
    /// It stays, and is another.
    Changed {
        /// The name that it had, if that was another.
        was: Option<String>,
        /// Options that differ.
        options: Vec<Difference>,
        /// Servers that differ, come or go.
        servers: Vec<(String, ServerFate)>,
        /// The share of the keys that belongs to another server then, from 0 to 1; nothing where it is not known yet which
        /// servers there are.
        moved: Option<f64>,
    },
}

/// What becomes of a server, which is known by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFate {
    /// It comes, at this address, with this weight.
    Added(String, u32),
    /// It goes.
    Removed,
    /// It has another address, which was the first and is the second.
    Moved(String, String),
    /// It has another weight, which was the first and is the second.
    Weighed(u32, u32),
}

impl Changes {
    /// What `after` changes of `before`.
    #[must_use]
    pub fn between(before: &Config, after: &Config) -> Self {
        let old: Vec<&Pool> = before.pools.iter().collect();
        let partners = partners(&old, &after.pools);
        let gone = (0..old.len()).filter(|place| !partners.contains(&Some(*place)));
        let gone = gone.map(|place| PoolChange { name: old[place].name.clone(), fate: Fate::Removed });
        let here = after.pools.iter().zip(&partners).filter_map(|(pool, partner)| {
            let fate = match partner {
                None => Some(Fate::Added(pool.servers.len())),
                Some(place) => Fate::between(old[*place], pool),
            };
            fate.map(|fate| PoolChange { name: pool.name.clone(), fate })
        });
        Self { process: process_differences(&before.settings, &after.settings), pools: gone.chain(here).collect() }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.process.is_empty() && self.pools.is_empty()
    }

    /// The options that a running process keeps as they are, with the pool that they belong to.
    pub fn fixed(&self) -> impl Iterator<Item = (Option<&str>, &Difference)> {
        let of_process = self.process.iter().map(|option| (None, option));
        let of_pools = self.pools.iter().flat_map(|pool| {
            let options = if let Fate::Changed { options, .. } = &pool.fate { options.as_slice() } else { &[] };
            options.iter().map(|option| (Some(pool.name.as_str()), option))
        });
        of_process.chain(of_pools).filter(|(_, option)| option.is_fixed)
    }
}

impl Fate {
    /// What becomes of a pool that stays; nothing if it is the same.
    fn between(before: &Pool, after: &Pool) -> Option<Self> {
        let was = (before.name != after.name).then(|| before.name.clone());
        let (options, servers) = (pool_differences(before, after), server_fates(before, after));
        if was.is_none() && options.is_empty() && servers.is_empty() {
            return None;
        }
        Some(Self::Changed { was, options, servers, moved: moved(before, after) })
    }
}

fn server_fates(before: &Pool, after: &Pool) -> Vec<(String, ServerFate)> {
    let by_name = |pool: &'_ Pool| -> BTreeMap<String, Server> {
        pool.servers.iter().map(|server| (server.name.clone(), server.clone())).collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    let gone = before.servers.iter().filter(|server| !new.contains_key(&server.name));
    let mut fates: Vec<_> = gone.map(|server| (server.name.clone(), ServerFate::Removed)).collect();
    for Server { name, address, weight, .. } in &after.servers {
        let Some(was) = old.get(name) else {
            fates.push((name.clone(), ServerFate::Added(address.to_string(), *weight)));
            continue;
        };
        if was.address != *address {
            fates.push((name.clone(), ServerFate::Moved(was.address.to_string(), address.to_string())));
        }
        if was.weight != *weight {
            fates.push((name.clone(), ServerFate::Weighed(was.weight, *weight)));
        }
    }
    fates
}

/// The share of a sample of keys that belongs to a server of another name.
fn moved(before: &Pool, after: &Pool) -> Option<f64> {
    if [before, after].iter().any(|pool| pool.listed.is_none() && is_open(pool)) {
        return None;
    }
    if ring::is_alike(before, after) || [before, after].iter().any(|pool| pool.distribution == Distribution::Random) {
        return Some(0.0); // at random, a key belongs nowhere
    }
    let (old, new) = (owners(before), owners(after));
    let moved = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    #[expect(clippy::cast_precision_loss, reason = "both are small")]
    let share = moved as f64 / SAMPLE as f64;
    Some(share)
}

/// The names of the servers that the keys of the sample belong to.
fn owners(pool: &Pool) -> Vec<Option<&str>> {
    let ids = pool.servers.iter().map(|server| server.id.index() + 1).max().unwrap_or_default();
    let ring = Circle::new(pool).ring(pool, &vec![true; ids]);
    let mut names = vec![None; ids];
    pool.servers.iter().for_each(|server| names[server.id.index()] = Some(server.name.as_str()));
    let owner = |key: String| names[ring.route(key.as_bytes(), 0)?.index()];
    (0..SAMPLE).map(|number| owner(format!("key:{number}"))).collect()
}

/// One line for each change, in the words of the file.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for option in &self.process {
            writeln!(f, "process: {}", Told(option))?;
        }
        self.pools.iter().try_for_each(|pool| write!(f, "{pool}"))
    }
}

impl fmt::Display for PoolChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.fate {
            Fate::Added(1) => writeln!(f, "pool {name}: added, with 1 server"),
            Fate::Added(servers) => writeln!(f, "pool {name}: added, with {servers} servers"),
            Fate::Removed => writeln!(f, "pool {name}: removed, its clients are let go"),
            Fate::Changed { was, options, servers, moved } => {
                if let Some(was) = was {
                    writeln!(f, "pool {name}: renamed, it was {was}")?;
                }
                for option in options {
                    writeln!(f, "pool {name}: {}", Told(option))?;
                }
                for (server, fate) in servers {
                    writeln!(f, "pool {name}: server {server} {fate}")?;
                }
                if let Some(moved) = moved.filter(|moved| *moved > 0.0) {
                    writeln!(f, "pool {name}: about {:.1} % of the keys belong to another server", moved * 100.0)?;
                }
                if moved.is_none() && !servers.is_empty() {
                    writeln!(
                        f,
                        "pool {name}: what share of the keys moves shows when it is known which servers it has"
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for ServerFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(address, weight) => write!(f, "added ({address}, weight {weight})"),
            Self::Removed => write!(f, "removed"),
            Self::Moved(from, to) => write!(f, "has another address: {to}, it was {from}"),
            Self::Weighed(from, to) => write!(f, "has another weight: {to}, it was {from}"),
        }
    }
}

/// An option as it is told.
struct Told<'a>(&'a Difference);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { name, before, after, is_fixed } = self.0;
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        let (before, after) = (or_none(before), or_none(after));
        if before == after {
            write!(f, "{name} is another")?; // which is nobody's business
        } else {
            write!(f, "{name}: {after}, it was {before}")?;
        }
        if *is_fixed { write!(f, " (after a restart; a running process keeps {before})") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn config(text: &str) -> Config {
        parse("file", text).map_err(|report| report.render(false)).expect("a good file").config
    }

    const BEFORE: &str = "
a: {listen: '127.0.0.1:1', timeout: 400, servers: ['h:1:1 s1', 'h:2:1 s2', 'h:3:1 s3', 'h:4:1 s4']}
b: {listen: '127.0.0.1:2', redis: true, redis_auth: first, servers: ['h:5:1']}
c: {listen: '127.0.0.1:3', servers: ['h:6:1']}
";

    #[test]
    fn nothing_is_told_of_what_is_the_same() {
        let changes = Changes::between(&config(BEFORE), &config(BEFORE));
        assert!(changes.is_empty(), "{changes}");
        // Nor of what is written in another way.
        let other = BEFORE.replace("timeout: 400", "timeout: 400ms").replace("'h:6:1'", "h:6:1");
        assert_eq!(Changes::between(&config(BEFORE), &config(&other)).to_string(), "");
    }

    #[test]
    fn each_change_is_a_line() {
        let after = "
softmiss: {workers: 2, log: {level: debug}}
d: {listen: '127.0.0.1:4', servers: ['h:7:1', 'h:8:1']}
a: {listen: '127.0.0.1:1', timeout: 300, servers: ['h:1:2 s1', 'x:2:1 s2', 'h:4:1 s4', 'h:9:1 s9']}
e: {listen: '127.0.0.1:2', redis: true, redis_auth: second, redis_db: 1, servers: ['h:5:1']}
";
        let changes = Changes::between(&config(BEFORE), &config(after));
        let text = changes.to_string();
        let (lines, last) = text.trim_end().rsplit_once("pool a: about ").expect("a share");
        assert_eq!(
            lines,
            "process: workers: 2, it was 1 (after a restart; a running process keeps 1)\n\
             process: log.level: debug, it was info\n\
             pool c: removed, its clients are let go\n\
             pool d: added, with 2 servers\n\
             pool a: timeout: 300ms, it was 400ms\n\
             pool a: stall_max: 300ms, it was 400ms\n\
             pool a: server s3 removed\n\
             pool a: server s1 has another weight: 2, it was 1\n\
             pool a: server s2 has another address: x:2, it was h:2\n\
             pool a: server s9 added (h:9, weight 1)\n"
        );
        let (_, rest) = last.split_once(" % of the keys belong to another server\n").expect("a percentage");
        assert_eq!(
            rest,
            "pool e: renamed, it was b\n\
             pool e: redis_auth is another\n\
             pool e: redis_db: 1, it was 0 (after a restart; a running process keeps 0)"
        );
        assert_eq!(
            changes.fixed().map(|(pool, option)| (pool, option.name.as_str())).collect::<Vec<_>>(),
            [(None, "workers"), (Some("e"), "redis_db")]
        );
    }

    #[test]
    fn a_fifth_server_takes_a_fifth_of_the_keys() {
        let after = BEFORE.replace("'h:4:1 s4'", "'h:4:1 s4', 'h:9:1 s5'");
        let changes = Changes::between(&config(BEFORE), &config(&after));
        let [PoolChange { fate: Fate::Changed { moved, .. }, .. }] = changes.pools.as_slice() else {
            panic!("{changes}")
        };
        assert!(moved.is_some_and(|moved| (0.15..0.25).contains(&moved)), "{moved:?}");
        // Another address moves none; another hash moves most.
        let after = BEFORE.replace("h:4:1", "x:4:1");
        let changes = Changes::between(&config(BEFORE), &config(&after));
        let [PoolChange { fate: Fate::Changed { moved, .. }, .. }] = changes.pools.as_slice() else {
            panic!("{changes}")
        };
        assert_eq!(*moved, Some(0.0));
        let after = BEFORE.replace("timeout: 400", "timeout: 400, hash: md5");
        let changes = Changes::between(&config(BEFORE), &config(&after));
        let [PoolChange { fate: Fate::Changed { moved, .. }, .. }] = changes.pools.as_slice() else {
            panic!("{changes}")
        };
        assert!(moved.is_some_and(|moved| (0.6..0.9).contains(&moved)), "{moved:?}");
    }
}

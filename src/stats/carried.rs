//! What was counted, as it goes over to the process that takes over: by names, so that another version takes what it knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::counters::{Counters, PoolCells, ServerCounters};
use crate::config::model::Config;
use crate::failure::Failure;
use crate::outcome::{Class, Outcome};

/// Counts by their names; what is zero is left out.
type Counts = BTreeMap<String, u64>;

/// What was counted for pools and servers since a process began, or since the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counted {
    connections: u64,
    /// By the names of the pools.
    pools: BTreeMap<String, CountedPool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct CountedPool {
    counts: Counts,
    /// By their names.
    servers: BTreeMap<String, Counts>,
}

impl Counted {
    /// What workers have counted.
    #[must_use]
    pub fn of(workers: &[Arc<Counters>], config: &Config) -> Self {
        let connections = workers.iter().map(|worker| worker.total_connections.value()).sum();
        let pool = |pool: &crate::config::model::Pool| {
            let mut of = CountedPool::default();
            for worker in workers {
                each_of_pool(worker.pool(pool.id), &mut |name, cell| add(&mut of.counts, name, cell.value()));
                for server in &pool.servers {
                    let counts = of.servers.entry(server.name.clone()).or_default();
                    each_of_server(worker.server(pool.id, server.id), &mut |name, cell| {
                        add(counts, name, cell.value())
                    });
                }
            }
            (pool.name.clone(), of)
        };
        Self { connections, pools: config.pools.iter().map(pool).collect() }
    }

    /// The same of pools that may have other names now.
    #[must_use]
    pub fn of_pools(self, now: impl Fn(&str) -> String) -> Self {
        Self { pools: self.pools.into_iter().map(|(name, counted)| (now(&name), counted)).collect(), ..self }
    }

    /// What has been counted since an earlier time.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let nothing = CountedPool::default();
        let of = |(name, now): (&String, &CountedPool)| {
            let was = before.pools.get(name).unwrap_or(&nothing);
            let server = |(name, now): (&String, &Counts)| {
                let counts = was.servers.get(name).map_or_else(|| now.clone(), |was| difference(now, was));
                (name.clone(), counts)
            };
            let servers = now.servers.iter().map(server).collect();
            (name.clone(), CountedPool { counts: difference(&now.counts, &was.counts), servers })
        };
        Self { connections: self.connections - before.connections, pools: self.pools.iter().map(of).collect() }
    }

    /// Adds it to what a worker counts, which is the only one that may do that.
    pub fn add_to(&self, counters: &Counters, config: &Config) {
        counters.total_connections.add(self.connections);
        for pool in &config.pools {
            let Some(counted) = self.pools.get(&pool.name) else { continue };
            each_of_pool(counters.pool(pool.id), &mut |name, cell| give(&counted.counts, &name, cell));
            for server in &pool.servers {
                let Some(counts) = counted.servers.get(&server.name) else { continue };
                each_of_server(counters.server(pool.id, server.id), &mut |name, cell| give(counts, &name, cell));
            }
        }
    }
}

fn add(counts: &mut Counts, name: String, value: u64) {
    if value > 0 {
        *counts.entry(name).or_default() += value;
    }
}

fn give(counts: &Counts, name: &str, cell: &Cell) {
    if let Some(value) = counts.get(name) {
        cell.add(*value);
    }
}

fn difference(now: &Counts, was: &Counts) -> Counts {
    let left = |(name, now): (&String, &u64)| Some((name.clone(), now.checked_sub(*was.get(name).unwrap_or(&0))?));
    now.iter().filter_map(left).filter(|(_, count)| *count > 0).collect()
}

// Each by the name of its field.
macro_rules! each {
    ($of:ident, $visit:ident: $($name:ident)*) => { $($visit(stringify!($name).to_owned(), &$of.$name);)* };
}

/// All cells of a pool, but the one that says how many clients have left: those are of a process.
fn each_of_pool(of: &PoolCells, visit: &mut dyn FnMut(String, &Cell)) {
    each!(of, visit: client_eof client_err client_rejected server_ejects clients_cut_off forward_error fragments);
    each!(of, visit: warmup_asked warmup_brought warmup_failed requests refused_requests server_errors slow_requests);
    each!(of, visit: auth_failures near_hits near_fetches near_stale near_told);
    each!(of, visit: stampede_leases stampede_waits stampede_wait_microseconds stampede_unleased stampede_stale);
    each_failure(&of.degraded, visit);
    for (class, outcomes) in Class::ALL.iter().zip(&of.outcomes) {
        each_outcome(class.name(), &Outcome::OF_REQUESTS, outcomes, visit);
    }
    of.split_latency.each(&mut |number, cell| visit(format!("split_latency.{number}"), cell));
}

/// All cells of a server.
fn each_of_server(of: &ServerCounters, visit: &mut dyn FnMut(String, &Cell)) {
    each!(of, visit: server_eof server_err server_timedout requests request_bytes joined response_bytes hits misses);
    each!(of, visit: errors resends stalls reconnects_limited probes ejections restores);
    each_failure(&of.degraded, visit);
    each_outcome("all", &Outcome::OF_SERVERS, &of.outcomes, visit);
    of.latency.each(&mut |number, cell| visit(format!("latency.{number}"), cell));
    of.part_latency.each(&mut |number, cell| visit(format!("part_latency.{number}"), cell));
}

fn each_failure(cells: &[Cell; Failure::ALL.len()], visit: &mut dyn FnMut(String, &Cell)) {
    for failure in Failure::ALL {
        visit(format!("degraded.{}", failure.name()), &cells[failure as usize]);
    }
}

fn each_outcome(class: &str, of: &[Outcome], cells: &[Cell; Outcome::COUNT], visit: &mut dyn FnMut(String, &Cell)) {
    for outcome in of {
        visit(format!("{class}.{}", outcome.name()), &cells[*outcome as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{PoolId, ServerId};
    use crate::stats::counters::Figure as _;
    use crate::stats::table::{Kind, POOL, SERVER};

    fn config() -> Config {
        let file = "p:\n  listen: 127.0.0.1:1\n  servers: ['h:1:1 a', 'h:2:1 b']\nq:\n  listen: 127.0.0.1:2\n  servers: ['h:1:1 a']\n";
        crate::config::parse("file", file).unwrap().config
    }

    #[test]
    fn no_count_is_left_behind_and_none_is_taken_twice() {
        let config = config();
        let set = || Arc::new(Counters::new(&config));
        let workers = [set(), set()];
        for worker in &workers {
            worker.total_connections.add(1);
            for pool in &config.pools {
                each_of_pool(worker.pool(pool.id), &mut |_, cell| cell.add(2));
                each_of_server(worker.server(pool.id, ServerId(0)), &mut |_, cell| cell.add(3));
            }
        }
        let (first, successor) = (Counted::of(&workers, &config), set());
        first.add_to(&successor, &config);
        workers[1].pool(PoolId(1)).requests.add(5);
        let text = serde_json::to_string(&Counted::of(&workers, &config).since(&first)).unwrap();
        assert!(text.len() < 200, "only what has changed: {text}");
        serde_json::from_str::<Counted>(&text).unwrap().add_to(&successor, &config);
        assert_eq!(successor.total_connections.value(), 2);
        assert_eq!(successor.pool(PoolId(1)).requests.value(), 9);
        let sum = |value: &dyn Fn(&Counters) -> u64| workers.iter().map(|worker| value(worker)).sum::<u64>();
        for metric in POOL.iter().filter(|metric| metric.kind == Kind::Counter) {
            let value = |of: &Counters| (metric.value)(of.pool(PoolId(0))).figure();
            assert!(value(&successor) > 0, "{} is left behind", metric.name);
            assert_eq!(value(&successor), sum(&value), "{}", metric.name);
        }
        for metric in SERVER.iter().filter(|metric| metric.kind == Kind::Counter) {
            let value = |of: &Counters| (metric.value)(of.server(PoolId(0), ServerId(0)));
            assert!(value(&successor) > 0, "{} is left behind", metric.name);
            assert_eq!(value(&successor), sum(&value), "{}", metric.name);
            assert_eq!((metric.value)(successor.server(PoolId(0), ServerId(1))), 0, "{}", metric.name);
        }
    }
}

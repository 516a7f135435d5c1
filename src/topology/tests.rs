use std::time::Duration;

use super::*;
use crate::config::model::Rejoin;
use crate::config::parse;
use crate::failure::Failure;
use crate::health::Verdict;
use crate::health::maintenance::RoutingState;
use crate::health::pending::{ConnectionName, Invalidated, StaleKey};
use crate::health::tracker::State;

const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// Pools by their names, each with the lines of its servers.
fn config(pools: &[(&str, &[&str])]) -> Config {
    let mut file = String::new();
    for (index, (name, servers)) in pools.iter().enumerate() {
        let more = "auto_eject_hosts: true\n  server_failure_limit: 1\n  rejoin: safe";
        file += &format!("{name}:\n  listen: 127.0.0.1:{}\n  {more}\n  servers:\n", index + 1);
        servers.iter().for_each(|server| file += &format!("  - {server}\n"));
    }
    parse("file", &file).expect("a good file").config
}

fn ids(topology: &Topology, pool: PoolId) -> Vec<(String, u16)> {
    topology.pool(pool).servers.iter().map(|server| (server.name.clone(), server.id.0)).collect()
}

fn named(all: &[(&str, u16)]) -> Vec<(String, u16)> {
    all.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect()
}

const P: PoolId = PoolId(0);
const A: &str = "10.0.0.1:1:1 a";
const B: &str = "10.0.0.2:1:1 b";
const C: &str = "10.0.0.3:1:1 c";

#[test]
fn servers_keep_their_ids_wherever_they_stand() {
    let published = Published::new(config(&[("p", &[B, C])]), 1);
    assert_eq!(ids(&published.current(), P), named(&[("b", 0), ("c", 1)]));
    let next = published.publish(&config(&[("p", &[C, A, B])]), NOW).unwrap();
    assert_eq!(ids(&next, P), named(&[("a", 2), ("b", 0), ("c", 1)]), "in the ring's order");
    assert_eq!((next.version, published.version()), (1, 1));
    let next = published.publish(&config(&[("p", &[A])]), NOW).unwrap();
    assert_eq!(ids(&next, P), named(&[("a", 2)]));
    assert_eq!((next.pool(P).ids(), next.pool(P).has(ServerId(1))), (3, false));
    assert_eq!(next.pool(P).server(ServerId(1)).name, "c", "whoever has its id can still say who it was");
    let next = published.publish(&config(&[("p", &[A, "10.0.0.4:1:1 d", C])]), NOW).unwrap();
    assert_eq!(ids(&next, P), named(&[("a", 2), ("c", 1), ("d", 3)]), "nobody gets the id of another");
}

#[test]
fn a_pool_that_comes_back_is_another() {
    let published = Published::new(config(&[("p", &[A]), ("q", &[B])]), 1);
    let next = published.publish(&config(&[("q", &[B])]), NOW).unwrap();
    assert_eq!(next.config.pools.iter().map(|pool| pool.id.0).collect::<Vec<_>>(), [1]);
    assert!(!next.pool(P).is_served());
    assert_eq!(ids(&next, P), named(&[("a", 0)]), "its clients are still answered");
    let next = published.publish(&config(&[("p", &[A]), ("q", &[B])]), NOW).unwrap();
    assert_eq!(next.config.pools.iter().map(|pool| pool.id.0).collect::<Vec<_>>(), [2, 1], "in the order of the file");
    assert_eq!((next.pools.len(), next.pool(P).is_served()), (3, false));
}

#[test]
fn what_servers_had_missed_they_have_missed_still_when_their_pool_comes_back() {
    let published = Published::new(config(&[("p", &[A, B, C])]), 1);
    let first = published.current();
    let key = StaleKey { database: None, key: b"k"[..].into(), base64: false };
    first.registry.invalidate_key(P, ServerId(0), key, None, NOW);
    first.registry.failed(P, ServerId(1), 0, Failure::Refused, NOW);
    for (index, pool) in [PoolId(1), PoolId(2)].into_iter().enumerate() {
        published.publish(&Config { pools: Vec::new(), ..config(&[("p", &[A])]) }, NOW).unwrap();
        let next = published.publish(&config(&[("p", &[C, B, A])]), NOW).unwrap();
        let awaits = |server| next.registry.awaits_flush(pool, ServerId(server), None);
        assert_eq!([0, 1, 2].map(awaits), [true, true, false], "{index}");
        assert_eq!(ids(&next, pool), named(&[("a", 0), ("b", 1), ("c", 2)]), "{index}");
    }
}

/// A pool that is served no longer has what its servers are to forget forgotten as long as its clients are answered, and
/// nothing more than that.
#[test]
fn nobody_is_flushed_for_a_pool_that_goes() {
    let published = Published::new(config(&[("p", &[A])]), 1);
    let (first, a) = (published.current(), ServerId(0));
    let key = StaleKey { database: None, key: b"k"[..].into(), base64: false };
    first.registry.invalidate_key(P, a, key, None, NOW);
    let none = || Config { pools: Vec::new(), ..config(&[("p", &[A])]) };
    let next = published.publish(&none(), NOW).unwrap();
    assert_eq!((next.registry.has_pending(P, a), next.registry.awaits_flush(P, a, None)), (true, false));
    let next = published.publish(&none(), NOW).unwrap();
    assert!(!next.registry.has_pending(P, a), "nothing is held for whom nobody asks");
    let next = published.publish(&config(&[("p", &[A])]), NOW).unwrap();
    assert!(next.registry.awaits_flush(PoolId(1), a, None), "it has not forgotten that");
}

#[test]
fn health_counters_and_what_is_pending_go_with_the_name() {
    let published = Published::new(config(&[("p", &[A, B, C])]), 1);
    let (first, b) = (published.current(), ServerId(1));
    let before = first.registry.version();
    first.registry.failed(P, b, 0, Failure::Refused, NOW);
    let key = StaleKey { database: None, key: b"k"[..].into(), base64: false };
    first.registry.invalidate_key(P, b, key, None, NOW);
    first.counters[0].server(P, b).requests.add(7);
    first.counters[0].server(P, b).hits.add(3);
    let next = published.publish(&config(&[("p", &[A, "10.9.9.9:1:1 b", C])]), NOW).unwrap();
    let moved = ServerId(3);
    assert_eq!(ids(&next, P), named(&[("a", 0), ("b", 3), ("c", 2)]));
    assert!(matches!(next.registry.state(P, moved), State::Ejected { .. }), "it has not answered since");
    assert!(next.registry.has_pending(P, moved));
    assert!(!next.registry.awaits_flush(P, moved, None), "what it is to forget is known");
    assert_eq!(next.counters[0].server(P, moved).requests.value(), 7);
    assert_eq!(next.counters[0].pool(P).hits(), 3, "counted once");
    assert!(next.registry.version() > before + 1, "the workers notice");
    assert_eq!(next.registry.routing(P), [RoutingState::Up, RoutingState::Left, RoutingState::Up, RoutingState::Out]);
    assert_eq!(next.registry.live(P), [true, false, true, false]);
    // What is in flight there still says nothing of who has its name.
    assert_eq!(next.registry.failed(P, b, 0, Failure::Reset, NOW), Verdict::Ignored);
    // A worker that has not noticed counts on.
    first.counters[0].server(P, b).requests.add(1);
    assert_eq!(next.counters[0].server(P, moved).requests.value(), 8);
}

#[test]
fn who_left_counts_for_no_limit_and_is_flushed_when_it_is_back() {
    let limit = |servers: &[&str]| {
        let mut config = config(&[("p", servers)]);
        config.pools[0].max_ejected_percent = 50;
        config
    };
    let published = Published::new(limit(&[A, B, C]), 1);
    let first = published.current();
    let eject = |topology: &Topology, server| {
        let verdict = topology.registry.failed(P, ServerId(server), 0, Failure::Refused, NOW);
        matches!(verdict, Verdict::Ejected { .. })
    };
    assert!(eject(&first, 0));
    assert!(!eject(&first, 1), "one of three may be out");
    let next = published.publish(&limit(&[B, C]), NOW).unwrap();
    assert!(eject(&next, 1), "the one that is out has left");
    assert!(!next.registry.has_pending(P, ServerId(1)));
    let next = published.publish(&limit(&[A, B, C]), NOW).unwrap();
    assert!(!eject(&next, 2), "it is back, and out as it was");
    assert!(next.registry.awaits_flush(P, ServerId(0), None), "nobody noted what it missed");
    assert!(!next.registry.has_pending(P, ServerId(2)));
}

#[test]
fn the_ring_is_that_of_a_process_that_starts_with_the_file() {
    let published = Published::new(config(&[("p", &[B, C])]), 1);
    let file = config(&[("p", &[A, "10.0.0.2:1:3 b", "10.9.9.9:1:1 c"])]);
    let fresh = Published::new(file.clone(), 1).current();
    let next = published.publish(&file, NOW).unwrap();
    let name = |topology: &Topology, server: Option<ServerId>| {
        server.map(|server| topology.pool(P).server(server).name.clone())
    };
    for key in (0..1000).map(|number| format!("key:{number}")) {
        let (old, new) = (fresh.pool(P), next.pool(P));
        assert_eq!(name(&fresh, old.home.route(key.as_bytes(), 0)), name(&next, new.home.route(key.as_bytes(), 0)));
        // Without `b`.
        let (without, live) = (old.ring(&[true, false, true]), new.ring(&[false, false, true, true]));
        assert_eq!(name(&fresh, without.route(key.as_bytes(), 0)), name(&next, live.route(key.as_bytes(), 0)));
    }
}

#[test]
fn the_rules_of_servers_are_those_of_the_newest_file() {
    let with = |more: &[(&str, &str)]| {
        let mut config = config(&[("p", &[A, B, C])]);
        for (name, value) in more {
            match *name {
                "limit" => config.pools[0].server_failure_limit = value.parse().unwrap(),
                "retry" => config.pools[0].server_retry_timeout = Duration::from_millis(value.parse().unwrap()),
                "rejoin" => {
                    config.pools[0].rejoin = match *value {
                        "keep" => Rejoin::Keep,
                        "safe" => Rejoin::Safe,
                        _ => Rejoin::Flush,
                    }
                }
                other => panic!("{other}"),
            }
        }
        config
    };
    let published = Published::new(with(&[("limit", "3"), ("retry", "60000"), ("rejoin", "keep")]), 1);
    let first = published.current();
    let fails = |topology: &Topology, server| {
        let verdict = topology.registry.failed(P, ServerId(server), 0, Failure::Refused, NOW);
        matches!(verdict, Verdict::Ejected { .. })
    };
    assert!(!fails(&first, 0) && !fails(&first, 0) && fails(&first, 0));
    assert!(!fails(&first, 1));
    assert_eq!(first.registry.probe_at(P, ServerId(0)), Some(NOW + Duration::from_secs(60)));
    let next = published.publish(&with(&[("limit", "2"), ("retry", "500"), ("rejoin", "keep")]), NOW).unwrap();
    assert!(fails(&next, 1), "one more, and there were two");
    // Whoever waits for its probe waits no longer than the next would.
    assert_eq!(next.registry.probe_at(P, ServerId(0)), Some(NOW + Duration::from_millis(500)));
    assert!(!next.registry.has_pending(P, ServerId(0)), "what it missed is of no account");
    let next = published.publish(&with(&[("limit", "2"), ("retry", "500"), ("rejoin", "safe")]), NOW).unwrap();
    // Nobody has noted what those missed that are out.
    let awaits = |server| next.registry.awaits_flush(P, ServerId(server), None);
    assert_eq!([0, 1, 2].map(awaits), [true, true, false]);
}

/// The last worker that has not gone over sends what a server that leaves is to forget, and goes on to use it.
#[test]
fn a_flush_that_was_done_before_a_server_had_left_does_not_count_when_it_is_back() {
    let published = Published::new(config(&[("p", &[A, B])]), 1);
    let next = published.publish(&config(&[("p", &[B])]), NOW).unwrap();
    let (name, registry) = (ConnectionName { worker: 1, place: 0, section: 0 }, &next.registry);
    let batch = registry.next_batch(P, ServerId(0), Invalidated::default(), (None, name), 10);
    assert!(batch.flush);
    registry.confirm(P, ServerId(0), batch.range, Some(name));
    let next = published.publish(&config(&[("p", &[A, B, C])]), NOW).unwrap();
    let pending = |id| next.registry.has_pending(P, ServerId(id));
    assert!(next.registry.awaits_flush(P, ServerId(0), None), "it has missed what was written meanwhile");
    assert!(!pending(1) && !pending(2), "the others have missed nothing");
}

#[test]
fn whoever_is_out_when_its_pool_turns_to_flushing_is_flushed() {
    let with = |rejoin| {
        let mut config = config(&[("p", &[A, B])]);
        config.pools[0].rejoin = rejoin;
        config
    };
    let published = Published::new(with(Rejoin::Safe), 1);
    let first = published.current();
    first.registry.failed(P, ServerId(0), 0, Failure::Refused, NOW);
    assert!(!first.registry.live(P)[0] && !first.registry.awaits_flush(P, ServerId(0), None), "its keys are noted");
    let next = published.publish(&with(Rejoin::Flush), NOW).unwrap();
    assert_eq!([0, 1].map(|server| next.registry.awaits_flush(P, ServerId(server), None)), [true, false]);
}

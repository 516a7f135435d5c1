//! Placement against what the real twemproxy did, and what a ring owes its users.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::config::model::{Address, Listen, Server};

#[derive(Deserialize)]
struct Golden {
    keys_hex: Vec<String>,
    pools: Vec<GoldenPool>,
}

#[derive(Deserialize)]
struct GoldenPool {
    name: String,
    servers: Vec<String>,
    hash: String,
    distribution: String,
    hash_tag: Option<String>,
    #[serde(default)]
    ejected: Vec<usize>,
    map: String,
}

/// A `servers:` line, as far as the recorded files use it.
fn server(position: usize, line: &str) -> Server {
    let (address, name) = line.split_once(' ').map_or((line, None), |(address, name)| (address, Some(name)));
    let (place, weight) = address.rsplit_once(':').expect("a weight");
    let (host, port) = place.rsplit_once(':').expect("a port");
    let port: u16 = port.parse().expect("a port");
    let default = if port == 11211 { host.to_owned() } else { place.to_owned() };
    Server {
        name: name.map_or(default, str::to_owned),
        address: Address::Tcp { host: host.to_owned(), port },
        weight: weight.parse().expect("a weight"),
        position,
    }
}

fn pool(servers: Vec<Server>, hash: HashKind, distribution: Distribution, hash_tag: Option<[u8; 2]>) -> Pool {
    let listen = Listen::Unix { path: "/nowhere".into(), mode: None };
    Pool { hash, hash_tag, distribution, ..Pool::new("p", listen, servers) }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn agrees(file: &str) {
    let golden: Golden = serde_json::from_str(file).expect("a recorded file");
    let mut placements = 0;
    for recorded in &golden.pools {
        let hash = HashKind::ALL.iter().find(|(name, _)| *name == recorded.hash).expect("a hash").1;
        let (_, distribution) =
            *Distribution::ALL.iter().find(|(name, _)| *name == recorded.distribution).expect("a distribution");
        let tag = recorded.hash_tag.as_ref().map(|tag| [tag.as_bytes()[0], tag.as_bytes()[1]]);
        let servers = recorded.servers.iter().enumerate().map(|(at, line)| server(at, line)).collect();
        let pool = pool(servers, hash, distribution, tag);
        let live: Vec<_> = pool.servers.iter().map(|server| !recorded.ejected.contains(&server.position)).collect();
        let ring = Ring::new(&pool, &live);
        for (key, expected) in golden.keys_hex.iter().zip(recorded.map.chars()) {
            let key = unhex(key);
            let expected = expected.to_digit(36).expect("base 36") as usize;
            let routed = ring.route(&key, 0).map(|id| pool.servers[id.index()].position);
            assert_eq!(routed, Some(expected), "pool {} key {:?}", recorded.name, String::from_utf8_lossy(&key));
            assert_eq!(ring.explain(&key).server, ring.route(&key, 0));
            placements += 1;
        }
    }
    assert!(placements > 1000, "only {placements} placements were compared");
}

#[test]
fn placement_is_twemproxys() {
    agrees(include_str!("../../tests/golden/placement.json"));
}

#[test]
fn placement_around_ejected_servers_is_twemproxys() {
    agrees(include_str!("../../tests/golden/eject.json"));
}

#[test]
fn placement_in_redis_pools_is_twemproxys() {
    agrees(include_str!("../../tests/golden/redis.json"));
}

fn equal_servers(count: usize) -> Pool {
    let servers = (0..count).map(|at| server(at, &format!("10.0.0.{at}:11211:1"))).collect();
    pool(servers, HashKind::Fnv1a_64, Distribution::Ketama, None)
}

#[test]
fn with_nothing_live_there_is_nowhere_to_go() {
    let pool = equal_servers(3);
    assert_eq!(Ring::new(&pool, &[false; 3]).route(b"k", 7), None);
    assert_eq!(Ring::new(&equal_servers(1), &[false]).route(b"k", 7), None);
}

#[test]
fn shares_add_up() {
    for live in [vec![true; 5], vec![true, false, true, true, false]] {
        let shares = Ring::new(&equal_servers(5), &live).shares(5);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
        for (share, live) in shares.iter().zip(&live) {
            assert_eq!(*share > 0.0, *live);
        }
    }
}

#[test]
fn a_light_server_can_be_left_with_no_points() {
    assert_eq!(ketama::groups(1, 4, 4), 40);
    assert_eq!(ketama::groups(1, 1001, 2), 0);
}

proptest! {
    #[test]
    fn removing_one_of_equal_servers_moves_only_its_keys(
        count in 2usize..9,
        dead in 0usize..9,
        keys in proptest::collection::vec("[a-z0-9:]{1,30}", 1..60),
    ) {
        let dead = dead % count;
        let pool = equal_servers(count);
        let whole = Ring::new(&pool, &vec![true; count]);
        let live: Vec<_> = (0..count).map(|at| at != dead).collect();
        let part = Ring::new(&pool, &live);
        for key in keys {
            let before = whole.route(key.as_bytes(), 0);
            let after = part.route(key.as_bytes(), 0);
            prop_assert_ne!(after.map(ServerId::index), Some(dead));
            if before.map(ServerId::index) != Some(dead) {
                prop_assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn the_table_finds_what_a_plain_search_finds(hashes in proptest::collection::vec(any::<u32>(), 1..50)) {
        let ring = Ring::new(&equal_servers(7), &[true; 7]);
        let Placement::Ketama { points, starts, shift } = &ring.placement else { unreachable!() };
        for hash in hashes.into_iter().chain(points.iter().flat_map(|slot| [slot.point, slot.point.wrapping_add(1)])) {
            let at = points.partition_point(|slot| slot.point < hash);
            prop_assert_eq!(first_at_or_after(points, starts, *shift, hash), points[at % points.len()]);
        }
    }
}

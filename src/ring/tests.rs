//! Placement against what the real twemproxy did, and what a ring promises its users.

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
        ring_name: None,
        address: Address::Tcp { host: host.to_owned(), port },
        weight: weight.parse().expect("a weight"),
        id: ServerId(0),
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

fn weighted(weights: &[u32]) -> Pool {
    let line = |(at, weight): (usize, &u32)| server(at, &format!("10.0.0.{at}:11211:{weight}"));
    let servers = weights.iter().enumerate().map(line).collect();
    pool(servers, HashKind::Fnv1a_64, Distribution::Ketama, None)
}

/// Every set of servers that has more than `live`.
fn larger(live: &[bool]) -> Vec<Vec<bool>> {
    let out: Vec<usize> = (0..live.len()).filter(|server| !live[*server]).collect();
    let back = |set: u32| (0..out.len()).filter(move |place| set >> place & 1 == 1);
    let with = |set| {
        back(set).fold(live.to_vec(), |mut live, place| {
            live[out[place]] = true;
            live
        })
    };
    (1..1 << out.len()).map(with).collect()
}

/// Who owns each key if any of the servers that are out are back, by computing each ring.
fn owners_by_computing(pool: &Pool, live: &[bool], keys: &[String]) -> Vec<Vec<ServerId>> {
    let rings: Vec<Ring> = larger(live).iter().map(|live| Ring::new(pool, live)).collect();
    let owners = |key: &String| {
        let mut owners: Vec<_> = rings.iter().filter_map(|ring| ring.route(key.as_bytes(), 0)).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    };
    keys.iter().map(owners).collect()
}

/// Of which keys each server that is out is the owner when it alone is back.
fn owners_alone(pool: &Pool, live: &[bool], keys: &[String]) -> Vec<Vec<ServerId>> {
    let out: Vec<u16> = (0..).zip(live).filter(|(_, live)| !**live).map(|(server, _)| server).collect();
    let rings: Vec<_> = out
        .iter()
        .map(|server| {
            let mut live = live.to_vec();
            live[usize::from(*server)] = true;
            (ServerId(*server), Ring::new(pool, &live))
        })
        .collect();
    let owners = |key: &String| {
        rings.iter().filter(|(id, ring)| ring.route(key.as_bytes(), 0) == Some(*id)).map(|(id, _)| *id).collect()
    };
    keys.iter().map(owners).collect()
}

fn owners(returns: &Returns, key: &str) -> Vec<ServerId> {
    let mut owners = vec![ServerId(99)];
    returns.owners(key.as_bytes(), &mut owners);
    owners
}

#[test]
fn where_rounding_takes_points_from_equal_servers_nobody_is_forgotten() {
    // Of 25 servers each has 39 groups of points, of 24 and of 26 it has 40.
    let pool = equal_servers(26);
    assert_eq!([24, 25, 26].map(|count| ketama::groups(1, count, count as usize)), [40, 39, 40]);
    let keys: Vec<String> = (0..3000).map(|number| format!("key:{number}")).collect();
    let mut circle = Circle::new(&pool);
    let live: Vec<bool> = (0..26).map(|server| ![3, 7, 20].contains(&server)).collect();
    let returns = Returns::new(&mut circle, &pool, &live).unwrap();
    let now = circle.ring(&pool, &live);
    let mut moved_between_live = 0;
    for (key, wanted) in keys.iter().zip(owners_by_computing(&pool, &live, &keys)) {
        let found = owners(&returns, key);
        assert!(wanted.iter().all(|server| found.contains(server)), "{key}: {wanted:?}, not {found:?}");
        let owner = now.route(key.as_bytes(), 0);
        moved_between_live += usize::from(wanted.iter().any(|server| live[server.index()] && Some(*server) != owner));
    }
    assert!(moved_between_live > 0, "no key moves from one live server to another: the test tests nothing");
}

proptest! {
    #[test]
    fn servers_of_any_ids_have_the_keys_that_their_place_has(
        weights in proptest::collection::vec(1u32..9, 1..9),
        gaps in proptest::collection::vec(0u16..4, 9),
        turn: usize,
        kind in 0usize..2,
        states in proptest::collection::vec(any::<u16>(), 1..4),
        keys in proptest::collection::vec("[a-z0-9:]{1,30}", 1..40),
    ) {
        let pool = Pool { distribution: [Distribution::Ketama, Distribution::Modula][kind], ..weighted(&weights) };
        let mut ids: Vec<u16> = gaps[..weights.len()].iter().scan(0, |id, gap| { *id += gap + 1; Some(*id) }).collect();
        ids.rotate_left(turn % weights.len());
        let mut renamed = pool.clone();
        renamed.servers.iter_mut().zip(&ids).for_each(|(server, id)| server.id = ServerId(*id));
        let (mut circle, mut other) = (Circle::new(&pool), Circle::new(&renamed));
        for state in states.into_iter().chain([u16::MAX]) {
            let live: Vec<bool> = (0..weights.len()).map(|server| state >> server & 1 == 1).collect();
            let mut live_by_id = vec![false; 64];
            ids.iter().zip(&live).for_each(|(id, live)| live_by_id[usize::from(*id)] = *live);
            let (ring, of_ids) = (circle.ring(&pool, &live), other.ring(&renamed, &live_by_id));
            let named = |id: ServerId| ServerId(ids[id.index()]);
            for key in keys.iter().map(String::as_bytes) {
                prop_assert_eq!(of_ids.route(key, 0), ring.route(key, 0).map(named));
                prop_assert_eq!(Ring::new(&renamed, &live_by_id).route(key, 0), ring.route(key, 0).map(named));
            }
            let returns = |circle: &mut Circle, pool: &Pool, live: &[bool]| Returns::new(circle, pool, live);
            if let (Some(a), Some(b)) = (returns(&mut circle, &pool, &live), returns(&mut other, &renamed, &live_by_id)) {
                for key in &keys {
                    let mut wanted: Vec<_> = owners(&a, key).into_iter().map(named).collect();
                    wanted.sort_unstable();
                    prop_assert_eq!(owners(&b, key), wanted);
                }
            }
        }
    }

    #[test]
    fn a_ring_taken_from_the_circle_is_the_ring_that_is_computed(
        weights in proptest::collection::vec(1u32..40, 1..9),
        equal: bool,
        states in proptest::collection::vec(any::<u16>(), 1..6),
        keys in proptest::collection::vec("[a-z0-9:]{1,30}", 1..40),
    ) {
        let weights = if equal { vec![weights[0]; weights.len()] } else { weights };
        let pool = weighted(&weights);
        let mut circle = Circle::new(&pool);
        for state in states.into_iter().chain([u16::MAX]) {
            let live: Vec<bool> = (0..weights.len()).map(|server| state >> server & 1 == 1).collect();
            let (taken, computed) = (circle.ring(&pool, &live), Ring::new(&pool, &live));
            for key in &keys {
                prop_assert_eq!(taken.explain(key.as_bytes()), computed.explain(key.as_bytes()));
                prop_assert_eq!(taken.route(key.as_bytes(), 0), computed.route(key.as_bytes(), 0));
            }
            prop_assert_eq!(taken.shares(weights.len()), computed.shares(weights.len()));
        }
    }

    #[test]
    fn who_owns_a_key_when_servers_return_is_told_without_their_rings(
        weights in proptest::collection::vec(1u32..9, 2..9),
        equal: bool,
        out in 1usize..5,
        first: u8,
        keys in proptest::collection::vec("[a-z0-9:]{1,30}", 1..40),
    ) {
        let weights = if equal { vec![weights[0]; weights.len()] } else { weights };
        let count = weights.len();
        let is_even = weights.iter().all(|weight| *weight == weights[0]);
        let groups = |count: usize| ketama::groups(weights[0], weights[0] * u32::try_from(count).unwrap(), count);
        let is_steady = (1..=count).all(|servers| groups(servers) == groups(count));
        let live: Vec<bool> = (0..count).map(|at| (at + usize::from(first)) % count >= out).collect();
        let pool = weighted(&weights);
        match Returns::new(&mut Circle::new(&pool), &pool, &live) {
            None => prop_assert!(out.min(count) > 2 && weights.iter().any(|weight| *weight != weights[0])),
            Some(returns) => {
                let (any, alone) = (owners_by_computing(&pool, &live, &keys), owners_alone(&pool, &live, &keys));
                for ((key, any), alone) in keys.iter().zip(any).zip(alone) {
                    let found = owners(&returns, key);
                    // One of live servers owns it now.
                    let without_live = |list: &[ServerId]| -> Vec<ServerId> {
                        list.iter().copied().filter(|server| !live[server.index()]).collect()
                    };
                    if is_even && is_steady {
                        prop_assert_eq!(without_live(&found), without_live(&any), "key {}", key);
                        prop_assert_eq!(without_live(&found), alone, "who owns it alone owns it with others or not");
                    } else if is_even {
                        prop_assert!(any.iter().all(|server| found.contains(server)), "key {}", key);
                    } else {
                        prop_assert_eq!(found, any, "key {}", key);
                    }
                }
            }
        }
    }

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
        let points = points.to_vec();
        for hash in hashes.into_iter().chain(points.iter().flat_map(|slot| [slot.point, slot.point.wrapping_add(1)])) {
            let at = points.partition_point(|slot| slot.point < hash);
            prop_assert_eq!(first_at_or_after(&points, starts, *shift, hash), points[at % points.len()]);
        }
    }
}

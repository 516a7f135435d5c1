//! Faults that the simulation has found, each step by hand.

use softmiss::config::model::{Distribution, HashKind, OnEject, OnFailure, PoolId, Rejoin, ServerId};
use softmiss::health::maintenance::Maintenance;

use super::client::Asked;
use super::draw::Draft;
use super::plan::{Plan, PoolPlan, RETRY, STALL, TIMEOUT};
use super::store::Guard;
use super::world::World;

/// One server, one client, and nothing that happens by itself.
fn world(server_connections: usize, auto_eject: bool) -> World {
    world_of(pool(server_connections, auto_eject))
}

fn pool(server_connections: usize, auto_eject: bool) -> PoolPlan {
    PoolPlan {
        redis: true,
        servers: 1,
        on_failure: OnFailure::Miss,
        on_eject: OnEject::Rehash,
        rejoin: Rejoin::Keep,
        auto_eject,
        server_connections,
        timeout: Some(TIMEOUT),
        warmup: None,
        stall: false,
        hash: HashKind::Md5,
        distribution: Distribution::Ketama,
        flushes: false,
        waits: None,
        copies: false,
        near: None,
        stale: false,
    }
}

fn world_of(pool: PoolPlan) -> World {
    World::new(plan_of(pool), None)
}

fn plan_of(pool: PoolPlan) -> Plan {
    Plan {
        pools: vec![pool],
        clients: 1,
        flushed: vec![1],
        memory_limit: None,
        fault_every: 0,
        large: false,
        crowded: false,
        small: None,
        ..Plan::draw(0)
    }
}

impl World {
    fn move_all(&mut self) {
        for _ in 0..12 {
            self.move_everything();
        }
        self.settle();
    }
}

impl World {
    fn draw_and_send(&mut self, draw: impl FnOnce(&mut Self, &mut Draft)) {
        let mut draft = Draft::default();
        draw(self, &mut draft);
        self.send(0, draft);
        while !self.customers[0].unsent.is_empty() {
            self.give(0);
        }
    }
}

#[test]
fn a_database_that_is_flushed_during_a_probe_does_not_end_it() {
    let mut world = world(1, true);
    world.draw_and_send(|world, draft| world.draw_get(0, draft, "key1"));
    world.move_all();
    world.nodes[0].hung = true;
    for _ in 0..2 {
        world.draw_and_send(|world, draft| world.draw_get(0, draft, "key1"));
        world.move_all();
        world.pass(TIMEOUT.as_nanos() as u64);
    }
    assert_eq!(world.tally.get("ejected"), Some(&1));
    world.nodes[0].hung = false;
    while world.connecting.is_empty() {
        world.pass(RETRY.as_nanos() as u64 / 8);
    }
    world.connect();
    (0..world.connections.len()).for_each(|at| world.carry_there(at));
    world.draw_and_send(|world, draft| {
        world.draw_select(0, draft, 1);
        world.draw_flush(0, draft);
    });
    world.move_all();
    world.move_all();
    assert_eq!(world.tally.get("restored"), Some(&1));
}

#[test]
fn a_client_that_selects_another_database_leaves_what_it_waited_for() {
    let mut world = world(2, false);
    world.draw_and_send(|world, draft| world.draw_get(0, draft, "key1"));
    world.move_all();
    world.draw_and_send(|world, draft| world.draw_set(0, draft, "key1"));
    world.nodes[0].hung = true;
    world.move_all();
    world.pass(TIMEOUT.as_nanos() as u64); // it is told that nothing was stored, and the server may store it still
    world.draw_and_send(|world, draft| {
        world.draw_select(0, draft, 3);
        world.draw_get(0, draft, "key1");
    });
    world.nodes[0].hung = false;
    world.move_all();
    assert!(world.customers[0].asked.is_empty(), "{:?}", world.customers[0].asked);
    assert_eq!(world.tally.get("misses"), Some(&2));
    assert_eq!(world.nodes[0].databases[0].get(b"key1").map(|_| ()), Some(()), "it stood in front of what was read");
}

#[test]
fn a_client_that_was_told_that_its_subscription_has_ended_hears_no_more() {
    let mut world = world(1, false);
    world.draw_and_send(|world, draft| world.draw_subscribe(0, draft, "0channel0"));
    world.move_all();
    world.nodes[0].hung = true;
    world.draw_and_send(|world, draft| world.draw_unsubscribe(0, draft));
    world.pass(TIMEOUT.as_nanos() as u64);
    assert!(world.customers[0].asked.is_empty(), "{:?}", world.customers[0].asked);
    // Its server has not read that yet.
    let at = world.connections.iter().position(|one| !one.channels.is_empty()).expect("a subscription");
    let message = b"*3\r\n$7\r\nmessage\r\n$9\r\n0channel0\r\n$11\r\n0channel0|1\r\n";
    world.connections[at].back.extend_from_slice(message);
    world.nodes[0].hung = false;
    world.move_all();
    assert_eq!(world.tally.get("messages"), None);
}

#[test]
fn a_read_that_was_answered_in_a_servers_place_breaks_the_watch_of_its_client() {
    let mut world = world(1, false);
    world.draw_and_send(|world, draft| world.draw_set(0, draft, "key1"));
    world.move_all();
    world.draw_and_send(|world, draft| {
        draft.words(&["WATCH", "key1"]);
        world.expect(0, draft, Asked::Watch);
    });
    world.move_all();
    assert!(world.customers[0].asked.is_empty(), "{:?}", world.customers[0].asked);
    world.nodes[0].hung = true;
    world.draw_and_send(|world, draft| world.draw_get(0, draft, "key1"));
    world.pass(TIMEOUT.as_nanos() as u64); // it is told that the key is not there
    assert_eq!(world.tally.get("misses"), Some(&1));
    world.nodes[0].hung = false;
    let guard = Guard { database: 0, key: "key1".to_owned(), state: None };
    world.draw_and_send(|world, draft| world.draw_guarded(0, draft, vec![guard]));
    world.move_all();
    assert_eq!(world.tally.get("guards that held"), Some(&1));
}

#[test]
fn a_connection_whose_end_is_waited_for_is_counted_for_its_own_server() {
    let mut world = world_of(PoolPlan { servers: 2, rejoin: Rejoin::Flush, ..pool(1, true) });
    let names: Vec<String> = (0..40).map(|number| format!("name{number}")).collect();
    let on = |server: usize| names.iter().find(|name| world.home(0, name) == server).expect("one of forty").clone();
    let (first, second) = (on(0), on(1));
    let send = |world: &mut World, requests: &[&[&str]]| {
        world.draw_and_send(|world, draft| {
            for words in requests {
                draft.words(words);
                world.expect(0, draft, Asked::Anything);
            }
        });
    };
    send(&mut world, &[&["WATCH", &first]]);
    world.move_all();
    world.nodes[0].hung = true;
    send(&mut world, &[&["MULTI"], &["DEL", &first], &["EXEC"], &["BLPOP", &second, "1"]]);
    world.move_all();
    // The first is given up, and the second takes its place before the end of anything is carried out.
    world.nodes[0].dead = true;
    world.registry.begin_maintenance(PoolId(0), ServerId(0), Maintenance::Eject, false, world.at());
    world.engine.handle_timeout(world.at());
    world.carry_out();
    let awaited = |server| world.registry.lingering(PoolId(0), ServerId(server));
    assert_eq!((awaited(0), awaited(1)), (0, 0));
}

/// A connection takes longer to be opened than the server is waited for, and a write waits there meanwhile.
#[test]
fn what_waits_for_a_connection_does_not_outlive_what_was_told_to_replace_it() {
    let mut world = world_of(PoolPlan { stall: true, ..pool(1, false) });
    world.draw_and_send(|world, draft| world.draw_set(0, draft, "key1"));
    world.pass(STALL.as_nanos() as u64 * 3 / 2);
    world.draw_and_send(|world, draft| world.draw_set(0, draft, "key1")); // it is told something in the server's place
    world.connect();
    world.move_all();
    assert!(world.customers[0].asked.is_empty(), "{:?}", world.customers[0].asked);
    assert_eq!(world.tally.get("told in place"), Some(&1));
    assert_eq!(world.nodes[0].databases[0].get(b"key1"), None);
    assert!(!world.registry.has_pending(PoolId(0), ServerId(0)));
}

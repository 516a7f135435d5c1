//! Pools of Redis.

use super::{Client, Duration, Fleet, LONG, ask, computed, django_computes_once, expect, is_held, timed};

const MISS: &[u8] = b"$-1\r\n";
const OK: &[u8] = b"+OK\r\n";

fn value(value: &str) -> Vec<u8> {
    format!("${}\r\n{value}\r\n", value.len()).into_bytes()
}

#[test]
fn who_misses_first_computes_and_the_others_are_given_what_is_stored() {
    let fleet = Fleet::of_redis(3, 2, LONG);
    let (mut first, mut here, mut there) = (fleet.client(0), fleet.client(0), fleet.client(1));
    there.send("HELLO 3\r\n");
    there.read_through(b"modules\r\n*0\r\n");
    let ways: [fn(&str) -> String; 6] = [
        |key| format!("SET {key} 1\r\n"),
        |key| format!("SET {key} 1 NX EX 60\r\n"),
        |key| format!("SETEX {key} 60 1\r\n"),
        |key| format!("MSET {key} 1 other:{key} 2\r\n"),
        |key| format!("INCR {key}\r\n"),
        |key| format!("EVAL \"return redis.call('set', KEYS[1], ARGV[1])\" 1 {key} 1\r\n"),
    ];
    for (number, way) in ways.iter().enumerate() {
        let key = format!("key:{number}");
        ask(&mut first, &format!("GET {key}\r\n"), MISS);
        here.send(format!("GET {key}\r\n"));
        there.send(format!("GET {key}\r\n"));
        fleet.wait_for_waits(2 * (number as u64 + 1));
        if number == 0 {
            is_held(&mut here);
            is_held(&mut there);
        }
        first.send(way(&key));
        first.line();
        expect(&mut here, &value("1"));
        expect(&mut there, &value("1"));
        // The lease is over: it stands in nobody's way when the key has gone.
        ask(&mut first, &format!("DEL {key}\r\nGET {key}\r\n"), &[b":1\r\n", MISS].concat());
    }
    assert_eq!((fleet.count("stampede_leases"), fleet.count("stampede_unleased")), (12, 0));
    let left: i64 =
        fleet.servers.iter().map(|server| server.client().ask("DBSIZE\r\n")[1..].parse::<i64>().expect("n")).sum();
    assert!(left <= 7, "{left} keys: what was stored beside, and the leases of those that have gone");
}

#[test]
fn what_a_transaction_stores_ends_leases() {
    let fleet = Fleet::of_redis(2, 2, LONG);
    let (mut first, mut other) = (fleet.client(0), fleet.client(1));
    ask(&mut first, "GET a\r\n", MISS);
    other.send("GET a\r\n");
    fleet.wait_for_waits(1);
    ask(&mut first, "MULTI\r\nSET a 1\r\nSET b 2\r\nEXEC\r\n", b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n");
    expect(&mut other, &value("1"));
    ask(&mut other, "DEL a\r\nGET a\r\n", &[b":1\r\n", MISS].concat());
    assert_eq!(fleet.count("stampede_leases"), 2);
}

#[test]
fn a_cold_key_is_computed_once_by_forty_workers_of_two_hosts() {
    let fleet = Fleet::of_redis(3, 2, LONG);
    for round in 0..5 {
        let get =
            |client: &mut Client| client.ask(format!("GET page:{round}\r\n")) != "$-1" && client.line() == "a page";
        let set = |client: &mut Client| assert_eq!(client.ask(format!("SET page:{round} \"a page\"\r\n")), "+OK");
        assert_eq!(computed(&fleet, 40, Duration::from_millis(50), get, set), 1, "round {round}");
    }
}

#[test]
fn an_mget_that_many_ask_for_is_computed_once() {
    for servers in [1, 3] {
        let fleet = Fleet::of_redis(servers, 2, LONG);
        let keys: Vec<String> = (0..20).map(|number| format!("part:{number}")).collect();
        let get = |client: &mut Client| {
            assert_eq!(client.ask(format!("MGET {}\r\n", keys.join(" "))), "*20");
            let found = keys.iter().filter(|key| client.line() != "$-1" && client.line() == **key).count();
            assert!(found == 0 || found == 20, "{found} of 20");
            found == 20
        };
        let set = |client: &mut Client| {
            for key in &keys {
                assert_eq!(client.ask(format!("SET {key} {key}\r\n")), "+OK");
            }
        };
        assert_eq!(computed(&fleet, 40, Duration::from_millis(50), get, set), 1, "{servers} servers");
    }
}

#[test]
fn an_mget_waits_for_what_others_compute() {
    let fleet = Fleet::of_redis(3, 2, LONG);
    let (mut first, mut other) = (fleet.client(0), fleet.client(1));
    ask(&mut first, "SET there 1\r\n", OK);
    ask(&mut first, "MGET a b c\r\n", &[b"*3\r\n", &MISS.repeat(3)[..]].concat());
    other.send("MGET c there a b\r\n");
    for key in ["a", "b", "c"] {
        is_held(&mut other);
        ask(&mut first, &format!("SET {key} {key}\r\n"), OK);
    }
    expect(&mut other, &[b"*4\r\n", &value("c")[..], &value("1"), &value("a"), &value("b")].concat());
}

#[test]
fn a_delete_ends_the_lease() {
    let fleet = Fleet::of_redis(2, 2, LONG);
    let (mut first, mut second, mut third) = (fleet.client(0), fleet.client(1), fleet.client(0));
    ask(&mut first, "GET k\r\n", MISS);
    second.send("GET k\r\n");
    fleet.wait_for_waits(1);
    third.send("GET k\r\n");
    fleet.wait_for_waits(2);
    ask(&mut fleet.client(1), "UNLINK k l m\r\n", b":0\r\n");
    expect(&mut second, MISS);
    is_held(&mut third);
    ask(&mut second, "SET k new\r\n", OK);
    expect(&mut third, &value("new"));
}

#[test]
fn when_the_lease_is_over_the_next_one_computes() {
    let fleet = Fleet::of_redis(1, 2, "stampede: {wait: 30s, lease: 1s}");
    let (mut first, mut second) = (fleet.client(0), fleet.client(1));
    ask(&mut first, "GET k\r\n", MISS);
    drop(first);
    let waited = timed(|| ask(&mut second, "GET k\r\n", MISS));
    assert!(waited >= Duration::from_millis(900), "after {waited:?}");
    assert_eq!(fleet.count("stampede_leases"), 2);
}

#[test]
fn nobody_waits_for_longer_than_is_said() {
    let fleet = Fleet::of_redis(2, 1, "stampede: {wait: 200ms, lease: 60s}");
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "GET k\r\n", MISS);
    let waited = timed(|| ask(&mut second, "GET k\r\n", MISS));
    assert!(waited >= Duration::from_millis(200), "after {waited:?}");
    ask(&mut first, "SET l 1\r\n", OK);
    let waited = timed(|| ask(&mut second, "MGET k l\r\n", &[b"*2\r\n", MISS, &value("1")].concat()));
    assert!(waited >= Duration::from_millis(200), "after {waited:?}");
}

#[test]
fn who_waits_misses_at_once_when_the_server_dies() {
    let mut fleet = Fleet::start(vec![super::Process::redis()], 2, &[LONG, "redis: true", "on_failure: error"]);
    fleet.proxies = fleet.proxies.drain(..).map(|proxy| proxy.expect_log("server")).collect();
    let mut first = fleet.client(0);
    ask(&mut first, "GET k\r\n", MISS);
    let mut others: Vec<Client> = (0..20).map(|number| fleet.client(number % 2)).collect();
    others.iter_mut().for_each(|other| other.send("GET k\r\n"));
    fleet.wait_for_waits(20);
    fleet.servers[0].kill();
    let waited = timed(|| others.iter_mut().for_each(|other| expect(other, MISS)));
    assert!(waited < Duration::from_secs(5), "after {waited:?}");
}

#[test]
fn nobody_is_given_what_they_have_stored_later() {
    let fleet = Fleet::of_redis(1, 1, LONG);
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "GET k\r\n", MISS);
    ask(&mut second, "GET k\r\nSET k 2\r\nGET k\r\n", &[MISS, OK, &value("2")].concat());
    ask(&mut first, "GET m\r\n", MISS);
    let waits = fleet.count("stampede_waits");
    second.send("GET m\r\n");
    fleet.wait_for_waits(waits + 1);
    ask(&mut second, "SET m 2\r\n", &[MISS, OK].concat());
    // Nor of another database.
    ask(&mut first, "GET n\r\n", MISS);
    let waits = fleet.count("stampede_waits");
    second.send("GET n\r\n");
    fleet.wait_for_waits(waits + 1);
    second.send("SELECT 1\r\n");
    ask(&mut first, "SET n 1\r\n", OK);
    let said = second.read_through(b"+OK\r\n");
    assert!(said == [MISS, OK].concat() || said == [&value("1")[..], OK].concat(), "{}", said.escape_ascii());
}

#[test]
fn guards_and_counters_are_what_they_were() {
    let fleet = Fleet::of_redis(3, 2, LONG);
    let (mut first, mut second) = (fleet.client(0), fleet.client(1));
    for round in 0..20 {
        ask(&mut first, &format!("GET lock:{round}\r\n"), MISS);
        let granted = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (fleet, granted) = (&fleet, &granted);
                scope.spawn(move || {
                    let said = fleet.client(number % 2).ask(format!("SET lock:{round} 1 NX PX 9000\r\n"));
                    granted.fetch_add(usize::from(said == "+OK"), std::sync::atomic::Ordering::Relaxed);
                });
            }
        });
        assert_eq!(granted.into_inner(), 1);
    }
    ask(&mut first, "GET n\r\n", MISS);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let fleet = &fleet;
            scope.spawn(move || {
                let mut client = fleet.client(number % 2);
                (0..100).for_each(|_| assert!(client.ask("INCR n\r\n").starts_with(':')));
            });
        }
    });
    ask(
        &mut second,
        "GET n\r\nTTL n\r\nEXISTS n\r\nTYPE n\r\n",
        &[&value("800")[..], b":-1\r\n:1\r\n+string\r\n"].concat(),
    );
    // What is no string is an error to a get that waits, as to one that does not.
    ask(&mut first, "GET list\r\n", MISS);
    let waits = fleet.count("stampede_waits");
    second.send("GET list\r\n");
    fleet.wait_for_waits(waits + 1);
    ask(&mut first, "LPUSH list 1\r\n", b":1\r\n");
    assert!(second.line().starts_with("-WRONGTYPE"));
}

#[test]
fn django_computes_each_thing_once() {
    let fleet = Fleet::of_redis(3, 2, "stampede: {wait: 30s, lease: 60s, keys: [\":1:\"]}");
    django_computes_once(&fleet, "redis");
}

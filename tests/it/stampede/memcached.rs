//! Pools of memcached.

use super::{Client, Duration, Fleet, LONG, ask, computed, django_computes_once, expect, is_held, timed};

const MISS: &[u8] = b"END\r\n";

fn value(key: &str, value: &str) -> Vec<u8> {
    format!("VALUE {key} 5 {}\r\n{value}\r\nEND\r\n", value.len()).into_bytes()
}

fn set(client: &mut Client, key: &str, value: &str) {
    assert_eq!(client.ask(format!("set {key} 5 100 {}\r\n{value}\r\n", value.len())), "STORED");
}

#[test]
fn who_misses_first_computes_and_the_others_are_given_what_is_stored() {
    let fleet = Fleet::of_memcached(3, 2, LONG);
    let (mut first, mut here, mut there) = (fleet.client(0), fleet.client(0), fleet.client(1));
    for number in 0..20 {
        let key = format!("key:{number}");
        ask(&mut first, &format!("get {key}\r\n"), MISS);
        here.send(format!("get {key}\r\n"));
        there.send(format!("gets {key}\r\n"));
        fleet.wait_for_waits(2 * (number + 1));
        if number == 0 {
            is_held(&mut here);
            is_held(&mut there);
        }
        set(&mut first, &key, "computed");
        expect(&mut here, &value(&key, "computed"));
        let with_version = there.read_through(b"END\r\n");
        assert!(with_version.starts_with(format!("VALUE {key} 5 8 ").as_bytes()));
    }
    assert_eq!(fleet.count("stampede_leases"), 20);
    assert_eq!(fleet.count("stampede_unleased"), 0);
}

#[test]
fn a_cold_key_is_computed_once_by_forty_workers_of_two_hosts() {
    let fleet = Fleet::of_memcached(3, 2, LONG);
    for round in 0..5 {
        let get = |client: &mut Client| {
            client.send(format!("get page:{round}\r\n"));
            client.read_through(b"END\r\n").len() > MISS.len()
        };
        let set = |client: &mut Client| set(client, &format!("page:{round}"), "a page");
        assert_eq!(computed(&fleet, 40, Duration::from_millis(50), get, set), 1, "round {round}");
    }
    assert_eq!(fleet.count("stampede_leases"), 5);
}

#[test]
fn a_get_of_several_keys_that_many_ask_for_is_computed_once() {
    let fleet = Fleet::of_memcached(3, 2, LONG);
    let keys: Vec<String> = (0..20).map(|number| format!("part:{number}")).collect();
    let get = |client: &mut Client| {
        client.send(format!("get {}\r\n", keys.join(" ")));
        let answer = client.read_through(b"END\r\n");
        let found = memchr::memmem::find_iter(&answer, b"VALUE ").count();
        assert!(found == 0 || found == keys.len(), "{found} of {}", keys.len());
        found == keys.len()
    };
    let store = |client: &mut Client| keys.iter().for_each(|key| set(client, key, key));
    assert_eq!(computed(&fleet, 40, Duration::from_millis(50), get, store), 1);
    assert_eq!(fleet.count("stampede_unleased"), 0);
}

#[test]
fn a_get_of_several_keys_waits_for_those_that_others_compute() {
    let fleet = Fleet::of_memcached(3, 2, LONG);
    let (mut first, mut other) = (fleet.client(0), fleet.client(1));
    set(&mut first, "there", "1");
    ask(&mut first, "get a b c\r\n", MISS);
    other.send("get c there a b c\r\n");
    is_held(&mut other);
    for key in ["a", "b", "c"] {
        is_held(&mut other);
        set(&mut first, key, key);
    }
    let blocks: Vec<Vec<u8>> = [("c", "c"), ("there", "1"), ("a", "a"), ("b", "b"), ("c", "c")]
        .iter()
        .map(|(key, text)| value(key, text)[..].strip_suffix(MISS).expect("an end").to_vec())
        .collect();
    expect(&mut other, &[blocks.concat(), MISS.to_vec()].concat());
}

#[test]
fn meta_gets_wait_where_they_only_read() {
    let fleet = Fleet::of_memcached(1, 1, LONG);
    let (mut first, mut other) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "mg a v\r\n", b"EN\r\n");
    other.send("mg a v f k O7\r\n");
    fleet.wait_for_waits(1);
    is_held(&mut other);
    set(&mut first, "a", "1");
    expect(&mut other, b"VA 1 f5 ka O7\r\n1\r\n");
    // However the key is written; this is `b c`, which `get` could not name.
    ask(&mut first, "mg YiBj b v\r\n", b"EN\r\n");
    other.send("mg YiBj b v\r\n");
    fleet.wait_for_waits(2);
    ask(&mut first, "ms YiBj 1 b\r\n2\r\n", b"HD\r\n");
    expect(&mut other, b"VA 1\r\n2\r\n");
    // What changes something is not held, nor is what sets a lifetime.
    for request in ["mg a2 v N30\r\n", "mg a3 v T30\r\n", "gat 30 a4\r\n"] {
        first.send(request);
        first.read_through(b"\r\n");
        other.send(request);
        let said = other.read_through(b"\r\n");
        assert!(!said.is_empty());
        if request.contains('N') {
            other.read_through(b"\r\n"); // the empty value
            first.read_through(b"\r\n");
        }
    }
}

#[test]
fn a_delete_ends_the_lease() {
    let fleet = Fleet::of_memcached(2, 2, LONG);
    let (mut first, mut second, mut third) = (fleet.client(0), fleet.client(1), fleet.client(0));
    ask(&mut first, "get k\r\n", MISS);
    second.send("get k\r\n");
    fleet.wait_for_waits(1);
    third.send("get k\r\n");
    fleet.wait_for_waits(2);
    // Whoever it is that deletes.
    assert_eq!(fleet.client(1).ask("delete k\r\n"), "NOT_FOUND");
    expect(&mut second, MISS);
    is_held(&mut third);
    set(&mut second, "k", "new");
    expect(&mut third, &value("k", "new"));
    assert_eq!(fleet.count("stampede_leases"), 2);
}

#[test]
fn when_the_lease_is_over_the_next_one_computes() {
    let fleet = Fleet::of_memcached(1, 2, "stampede: {wait: 30s, lease: 1s}");
    let (mut first, mut second, mut third) = (fleet.client(0), fleet.client(1), fleet.client(1));
    ask(&mut first, "get k\r\n", MISS);
    drop(first);
    let waited = timed(|| ask(&mut second, "get k\r\n", MISS));
    assert!(waited >= Duration::from_millis(900), "after {waited:?}");
    third.send("get k\r\n");
    fleet.wait_for_waits(2);
    set(&mut second, "k", "1");
    expect(&mut third, &value("k", "1"));
    assert_eq!(fleet.count("stampede_leases"), 2);
}

#[test]
fn nobody_waits_for_longer_than_is_said() {
    let fleet = Fleet::of_memcached(1, 1, "stampede: {wait: 200ms, lease: 60s}");
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "get k\r\n", MISS);
    let waited = timed(|| ask(&mut second, "get k\r\n", MISS));
    assert!(waited >= Duration::from_millis(200), "after {waited:?}");
    let waited = timed(|| ask(&mut second, "get k l\r\n", MISS));
    assert!(waited >= Duration::from_millis(200), "after {waited:?}");
    assert_eq!((fleet.count("stampede_leases"), fleet.count("stampede_unleased")), (1, 2));
    assert!(fleet.count("stampede_wait_microseconds") >= 400_000);
}

#[test]
fn who_waits_misses_at_once_when_the_server_dies() {
    let mut fleet = Fleet::of_memcached(1, 2, LONG);
    fleet.proxies = fleet.proxies.drain(..).map(|proxy| proxy.expect_log("server")).collect();
    let mut first = fleet.client(0);
    ask(&mut first, "get k l\r\n", MISS);
    let mut others: Vec<Client> = (0..20).map(|number| fleet.client(number % 2)).collect();
    others.iter_mut().for_each(|other| other.send("get k\r\n"));
    fleet.wait_for_waits(20);
    fleet.servers[0].kill();
    let waited = timed(|| others.iter_mut().for_each(|other| expect(other, MISS)));
    assert!(waited < Duration::from_secs(5), "after {waited:?}");
}

#[test]
fn a_client_that_leaves_is_waited_for_by_nobody() {
    let fleet = Fleet::of_memcached(1, 1, LONG);
    let (mut first, mut second, mut third) = (fleet.client(0), fleet.client(0), fleet.client(0));
    ask(&mut first, "get k\r\n", MISS);
    second.send("get k\r\n");
    fleet.wait_for_waits(1);
    third.send("get k\r\n");
    fleet.wait_for_waits(2);
    drop(second);
    assert_eq!(first.ask("delete k\r\n"), "NOT_FOUND");
    expect(&mut third, MISS);
    assert_eq!(fleet.count("stampede_leases"), 2);
}

#[test]
fn nobody_is_given_what_they_have_stored_later() {
    let fleet = Fleet::of_memcached(1, 1, LONG);
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "get k\r\n", MISS);
    ask(&mut second, "get k\r\nset k 5 100 1\r\n2\r\nget k\r\n", &[MISS, b"STORED\r\n", &value("k", "2")].concat());
    ask(&mut first, "get l\r\n", MISS);
    ask(&mut second, "get l\r\nset l 5 100 1 noreply\r\n2\r\nget l\r\n", &[MISS, &value("l", "2")[..]].concat());
    // Nor when that comes while it is held.
    ask(&mut first, "get m\r\n", MISS);
    let waits = fleet.count("stampede_waits");
    second.send("get m\r\n");
    fleet.wait_for_waits(waits + 1);
    ask(&mut second, "set m 5 100 1\r\n2\r\n", &[MISS, b"STORED\r\n"].concat());
}

#[test]
fn who_says_that_it_leaves_is_told_at_once() {
    let fleet = Fleet::of_memcached(1, 1, LONG);
    let (mut first, mut second, mut third) = (fleet.client(0), fleet.client(0), fleet.client(0));
    ask(&mut first, "get k\r\n", MISS);
    second.send("get k\r\n");
    fleet.wait_for_waits(1);
    ask(&mut second, "quit\r\n", MISS);
    assert!(second.try_line().is_none(), "the connection is closed");
    ask(&mut third, "get k\r\nquit\r\n", MISS);
    assert!(third.try_line().is_none(), "the connection is closed");
}

#[test]
fn what_is_flushed_later_is_not_waited_for() {
    let fleet = Fleet::of_memcached(2, 1, LONG);
    let (mut first, mut second, mut third) = (fleet.client(0), fleet.client(0), fleet.client(0));
    ask(&mut first, "get k\r\n", MISS);
    third.send("get k\r\n");
    fleet.wait_for_waits(1);
    ask(&mut second, "get k\r\nflush_all\r\n", &[MISS, b"OK\r\n"].concat());
    // With all that there was, the lease is gone.
    expect(&mut third, MISS);
    assert_eq!(fleet.count("stampede_leases"), 2);
}

#[test]
fn many_gets_in_a_row_and_of_many_keys_wait_until_each_is_stored() {
    let fleet = Fleet::of_memcached(1, 1, LONG);
    let keys: Vec<String> = (0..40).map(|number| format!("key:{number:02}")).collect();
    let (mut first, mut row, mut many) = (fleet.client(0), fleet.client(0), fleet.client(0));
    let line = format!("get {}\r\n", keys.join(" "));
    ask(&mut first, &line, MISS);
    keys.iter().for_each(|key| row.send(format!("get {key}\r\n")));
    many.send(line);
    super::wait_until("waiting", Duration::from_secs(10), || fleet.count("stampede_waits") >= 41);
    for key in &keys {
        set(&mut first, key, "1");
        std::thread::sleep(Duration::from_millis(15)); // so that each is looked for by itself
    }
    let blocks: Vec<Vec<u8>> = keys.iter().map(|key| value(key, "1")).collect();
    expect(&mut row, &blocks.concat());
    let inner = blocks.iter().flat_map(|block| block.strip_suffix(MISS).expect("an end").to_vec());
    expect(&mut many, &inner.chain(MISS.iter().copied()).collect::<Vec<u8>>());
    assert_eq!((fleet.count("stampede_leases"), fleet.count("stampede_unleased")), (1, 0));
}

#[test]
fn a_value_that_is_too_large_ends_the_wait_and_no_later_one() {
    let mut fleet = Fleet::of_memcached(1, 1, "stampede: {wait: 1s, lease: 60s}\n  value_limit: 1kb");
    fleet.proxies = fleet.proxies.drain(..).map(|proxy| proxy.expect_log("value")).collect();
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "get k\r\nget l\r\n", &MISS.repeat(2));
    second.send("get k\r\n");
    fleet.wait_for_waits(1);
    let text = "x".repeat(2000);
    assert_eq!(fleet.servers[0].client().ask(format!("set k 5 100 2000\r\n{text}\r\n")), "STORED");
    expect(&mut second, MISS);
    std::thread::sleep(Duration::from_millis(1100)); // what began then would be over
    let waited = timed(|| ask(&mut second, "get l\r\n", MISS));
    assert!(waited >= Duration::from_secs(1), "after {waited:?}");
}

#[test]
fn who_computes_waits_for_nothing_that_was_asked_with_it() {
    let fleet = Fleet::of_memcached(3, 1, LONG);
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "get a\r\n", MISS);
    ask(&mut first, "get a\r\n", MISS); // its own lease is not waited for
    // In one go, in the other order than the first: each would wait for what the other one computes.
    ask(&mut second, "get z\r\nget y\r\nget x\r\n", &MISS.repeat(3));
    ask(&mut first, "get w\r\nget x1\r\nget y1\r\n", &MISS.repeat(3));
}

#[test]
fn only_the_keys_that_are_meant_are_waited_for() {
    let fleet = Fleet::of_memcached(2, 1, "stampede: {wait: 30s, lease: 60s, keys: [\"page:\", \"part:\"]}");
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    for _ in 0..2 {
        ask(&mut first, "get lock\r\nget a b c\r\nmg x v\r\n", &[MISS, MISS, b"EN\r\n"].concat());
    }
    assert_eq!(fleet.count("stampede_leases"), 0);
    ask(&mut first, "get page:1 lock\r\n", MISS);
    second.send("get lock page:1\r\n");
    fleet.wait_for_waits(1);
    set(&mut first, "page:1", "2");
    expect(&mut second, &value("page:1", "2"));
}

#[test]
fn guards_and_counters_are_what_they_were() {
    let fleet = Fleet::of_memcached(3, 2, LONG);
    let (mut first, mut second) = (fleet.client(0), fleet.client(1));
    // Django's `get_or_set`: get, add, get.
    ask(&mut first, "get g\r\n", MISS);
    second.send("get g\r\n");
    fleet.wait_for_waits(1);
    ask(&mut first, "add g 5 100 1\r\n1\r\nget g\r\n", &[b"STORED\r\n", &value("g", "1")[..]].concat());
    expect(&mut second, &value("g", "1"));
    ask(&mut second, "add g 5 100 1\r\n2\r\n", b"NOT_STORED\r\n");
    // A lock that somebody has looked for is granted once.
    for round in 0..20 {
        ask(&mut first, &format!("get lock:{round}\r\n"), MISS);
        let granted = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (fleet, granted) = (&fleet, &granted);
                scope.spawn(move || {
                    let said = fleet.client(number % 2).ask(format!("add lock:{round} 0 9 1\r\n1\r\n"));
                    granted.fetch_add(usize::from(said == "STORED"), std::sync::atomic::Ordering::Relaxed);
                });
            }
        });
        assert_eq!(granted.into_inner(), 1);
    }
    ask(&mut first, "get n\r\nincr n 1\r\n", &[MISS, b"NOT_FOUND\r\n"].concat());
    set(&mut first, "n", "0");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let fleet = &fleet;
            scope.spawn(move || {
                let mut client = fleet.client(number % 2);
                (0..100).for_each(|_| assert!(client.ask("incr n 1\r\n").parse::<u32>().is_ok()));
            });
        }
    });
    ask(&mut second, "get n\r\n", &value("n", "800"));
    ask(&mut second, "cas n 0 0 1 999999\r\n1\r\nreplace no 0 0 1\r\n1\r\n", b"EXISTS\r\nNOT_STORED\r\n");
}

#[test]
fn what_is_asked_behind_a_wait_has_its_own_time() {
    let server = super::Process::memcached();
    let proxy = super::Proxy::start(&[server.address], &[LONG, "timeout: 300", "server_failure_limit: 100"]);
    let mut fleet = Fleet { servers: vec![server], proxies: vec![proxy.expect_log("server")] };
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "get k\r\n", MISS);
    second.send("get k\r\n");
    fleet.wait_for_waits(1);
    std::thread::sleep(Duration::from_millis(500)); // its time is over, and it may wait on
    set(&mut first, "k", "1");
    expect(&mut second, &value("k", "1"));
    fleet.servers[0].signal("STOP");
    let waited = timed(|| ask(&mut second, "get other\r\n", MISS));
    assert!(waited < Duration::from_secs(5), "after {waited:?}");
    fleet.servers[0].kill();
}

#[test]
fn a_large_value_comes_whole_to_all_who_wait() {
    let fleet = Fleet::of_memcached(1, 2, LONG);
    let mut first = fleet.client(0);
    ask(&mut first, "get k\r\n", MISS);
    let mut others: Vec<Client> = (0..10).map(|number| fleet.client(number % 2)).collect();
    others.iter_mut().for_each(|other| other.send("get k\r\n"));
    fleet.wait_for_waits(10);
    let text = "x".repeat(700_000);
    set(&mut first, "k", &text);
    others.iter_mut().for_each(|other| expect(other, &value("k", &text)));
}

#[test]
fn what_is_waited_for_is_given_to_those_who_ask_in_a_row() {
    let fleet = Fleet::of_memcached(3, 1, LONG);
    let (mut first, mut second) = (fleet.client(0), fleet.client(0));
    ask(&mut first, "get a\r\nget b\r\nget c\r\n", &MISS.repeat(3));
    second.send("get a\r\nget b\r\nget c\r\nget a b c\r\n");
    super::wait_until("waiting", Duration::from_secs(10), || fleet.count("stampede_waits") >= 4);
    for key in ["c", "b", "a"] {
        set(&mut first, key, key);
    }
    let all: Vec<Vec<u8>> = ["a", "b", "c"].iter().map(|key| value(key, key)).collect();
    let many: Vec<u8> = all.iter().flat_map(|one| one.strip_suffix(MISS).expect("an end").to_vec()).collect();
    expect(&mut second, &[all.concat(), many, MISS.to_vec()].concat());
}

#[test]
fn django_computes_each_thing_once() {
    let fleet = Fleet::of_memcached(3, 2, "stampede: {wait: 30s, lease: 60s, keys: [\":1:\"]}");
    django_computes_once(&fleet, "memcached");
}

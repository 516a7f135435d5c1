//! Values that are over, given while somebody computes the next ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;

use super::super::support::bad::Scripted;
use super::{Client, Duration, Fleet, Proxy, ask, expect, is_held, wait_until};

const OPTION: &str = "stampede: {wait: 30s, lease: 60s, stale: 30s}";

/// memcached counts whole seconds: what lives for one is over by then.
const OVER: Duration = Duration::from_millis(2100);

const MISS: &[u8] = b"END\r\n";

fn block(key: &str, value: &str) -> String {
    format!("VALUE {key} 5 {}\r\n{value}\r\n", value.len())
}

fn stores(client: &mut Client, verb: &str, key: &str, seconds: u32, value: &str, says: &str) {
    assert_eq!(client.ask(format!("{verb} {key} 5 {seconds} {}\r\n{value}\r\n", value.len())), says, "{verb} {key}");
}

/// One is told the miss, and the other one is given the value before.
fn is_given(first: &mut Client, other: &mut Client, key: &str, value: &str) {
    ask(first, &format!("get {key}\r\n"), MISS);
    ask(other, &format!("get {key}\r\n"), &[block(key, value).as_bytes(), MISS].concat());
}

/// One is told the miss, and the other one waits.
fn is_gone(first: &mut Client, other: &mut Client, key: &str) {
    ask(first, &format!("get {key}\r\n"), MISS);
    other.send(format!("get {key}\r\n"));
    is_held(other);
    stores(first, "set", key, 100, "next", "STORED");
    expect(other, &[block(key, "next").as_bytes(), MISS].concat());
}

#[test]
fn the_value_before_is_given_until_the_next_is_stored() {
    let fleet = Fleet::of_memcached(3, 2, OPTION);
    let (mut first, mut other, mut third) = (fleet.client(0), fleet.client(1), fleet.client(0));
    for number in 0..20 {
        stores(&mut first, "set", &format!("key:{number}"), 1, "old", "STORED");
    }
    stores(&mut first, "add", "added", 1, "old", "STORED");
    stores(&mut first, "add", "added", 1, "not this", "NOT_STORED");
    assert_eq!(first.ask("ms cGxhaW4= 3 b T1 F5\r\nold\r\n"), "HD"); // this is `plain`
    assert_eq!(first.ask("ms meta 3 T1 F5 ME\r\nold\r\n"), "HD");
    sleep(OVER);
    is_given(&mut first, &mut other, "key:0", "old");
    ask(&mut third, "mg key:0 v f k O7 s\r\n", b"VA 3 f5 kkey:0 O7 s3\r\nold\r\n");
    ask(&mut third, "mg key:0 f\r\n", b"HD f5\r\n");
    is_given(&mut first, &mut other, "added", "old");
    is_given(&mut first, &mut other, "meta", "old");
    ask(&mut first, "mg plain v\r\n", b"EN\r\n");
    ask(&mut other, "mg cGxhaW4= b v f\r\n", b"VA 3 f5\r\nold\r\n");
    // Several at a time, of which some are there and some have never been.
    stores(&mut first, "set", "there", 100, "1", "STORED");
    let keys: Vec<String> = (1..20).map(|number| format!("key:{number}")).collect();
    ask(&mut first, &format!("get {}\r\n", keys.join(" ")), MISS);
    other.send(format!("get there {} key:1\r\n", keys.join(" ")));
    let blocks: String = keys.iter().chain([&keys[0]]).map(|key| block(key, "old")).collect();
    expect(&mut other, &[block("there", "1").as_bytes(), blocks.as_bytes(), MISS].concat());
    // What is given has a version that nothing is stored with.
    third.send("gets key:0\r\n");
    let given = String::from_utf8(third.read_through(b"END\r\n")).expect("text");
    let version = given.split_whitespace().nth(4).expect("a version").to_owned();
    assert!(given.ends_with("\r\nold\r\nEND\r\n"), "{given}");
    assert_eq!(third.ask(format!("cas key:0 0 0 1 {version}\r\nx\r\n")), "NOT_FOUND");
    stores(&mut first, "set", "key:0", 100, "next", "STORED");
    ask(&mut other, "get key:0\r\n", &[block("key:0", "next").as_bytes(), MISS].concat());
    assert_eq!(third.ask(format!("cas key:0 0 0 1 {version}\r\nx\r\n")), "EXISTS");
    assert_eq!(fleet.count("stampede_unleased"), 0);
    assert_eq!(fleet.count("stampede_stale"), 26);
}

#[test]
fn what_was_removed_or_changed_is_not_given() {
    let fleet = Fleet::of_memcached(2, 2, OPTION);
    let (mut first, mut other) = (fleet.client(0), fleet.client(1));
    let changes = [
        ("delete", "delete {}\r\n", "DELETED"),
        ("touch", "touch {} 1\r\n", "TOUCHED"),
        ("incr", "incr {} 1\r\n", "2"),
        ("append", "append {} 5 1 1\r\n1\r\n", "STORED"),
        ("replace", "replace {} 5 1 1\r\n2\r\n", "STORED"),
        ("past", "set {} 5 -1 1\r\n2\r\n", "STORED"),
        ("empty", "set {} 5 1 0\r\n\r\n", "STORED"),
        ("arithmetic", "ma {}\r\n", "HD"),
        ("marked", "md {} I T1\r\n", "HD"),
        ("removed", "md {}\r\n", "HD"),
        ("mode", "ms {} 1 MA T1\r\n1\r\n", "HD"),
    ];
    for (key, change, says) in changes {
        stores(&mut first, "set", key, 1, "1", "STORED");
        assert_eq!(other.ask(change.replace("{}", key)), says, "{key}");
    }
    // Added by one host, and removed by the other; and removed when it was over.
    stores(&mut first, "add", "added", 1, "1", "STORED");
    assert_eq!(other.ask("delete added\r\n"), "DELETED");
    stores(&mut first, "set", "over", 1, "1", "STORED");
    stores(&mut first, "set", "noreply", 1, "1", "STORED");
    other.send("delete noreply noreply\r\n");
    sleep(OVER);
    assert_eq!(other.ask("delete over\r\n"), "NOT_FOUND");
    for key in changes.iter().map(|(key, ..)| *key).chain(["added", "over", "noreply"]) {
        is_gone(&mut first, &mut other, key);
    }
    stores(&mut first, "set", "flushed", 100, "1", "STORED");
    assert_eq!(first.ask("flush_all\r\n"), "OK");
    is_gone(&mut first, &mut other, "flushed");
    assert_eq!(fleet.count("stampede_stale"), 0);
}

/// Copies are stored by classic commands, which say less than meta commands may: what they cannot say must not be said.
#[test]
fn no_value_is_taken_for_commands() {
    let fleet = Fleet::of_memcached(1, 1, OPTION);
    let (mut client, mut first, mut other) = (fleet.client(0), fleet.client(0), fleet.client(0));
    stores(&mut client, "set", "kept", 100, "1", "STORED");
    let long = "x".repeat(250);
    for begin in [
        "ms k 11 T10 Fx",
        "ms k 11 T10 F99999999999",
        "ms k 11 T10 F-1",
        "ms k 11 T10 F",
        "ms k 11 Tx",
        "ms k 11 ME Fx T10",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["ms YiBj 11 b T1".to_owned(), format!("set {long} 5 1 11")])
    {
        let said = client.ask(format!("{begin}\r\nflush_all\r\n\r\n"));
        assert!(["HD", "STORED", "NS"].contains(&&*said) || said.starts_with("CLIENT_ERROR"), "{begin}: {said}");
        ask(&mut client, "get kept\r\n", &[block("kept", "1").as_bytes(), MISS].concat());
    }
    sleep(OVER);
    // Their names would be none, or that of another: they have no copies.
    is_gone(&mut first, &mut other, &long);
    ask(&mut first, "mg YiBj b v\r\n", b"EN\r\n");
    other.send("mg YiBj b v\r\n");
    is_held(&mut other);
    assert_eq!(fleet.count("stampede_stale"), 0);
}

#[test]
fn a_value_that_is_over_is_there_for_nobody_else_and_not_for_ever() {
    let fleet = Fleet::of_memcached(2, 2, "stampede: {wait: 30s, lease: 60s, stale: 1s}");
    let (mut first, mut other) = (fleet.client(0), fleet.client(1));
    for key in ["lock", "counter", "touched", "long"] {
        stores(&mut first, "set", key, 1, "1", "STORED");
    }
    sleep(OVER);
    assert_eq!(other.ask("incr counter 1\r\n"), "NOT_FOUND");
    assert_eq!(other.ask("touch touched 100\r\n"), "NOT_FOUND");
    ask(&mut other, "gat 100 touched\r\n", MISS);
    stores(&mut other, "replace", "lock", 1, "2", "NOT_STORED");
    stores(&mut other, "append", "lock", 1, "2", "NOT_STORED");
    stores(&mut other, "add", "lock", 1, "2", "STORED");
    stores(&mut first, "add", "lock", 1, "2", "NOT_STORED");
    sleep(Duration::from_millis(1100));
    is_gone(&mut first, &mut other, "long");
}

const STORED: &[u8] = b"+OK\r\n";
const NULL: &[u8] = b"$-1\r\n";
const OLD: &[u8] = b"$3\r\nold\r\n";

#[test]
fn redis_gives_the_value_before_until_the_next_is_stored() {
    let fleet = Fleet::of_redis(3, 2, OPTION);
    let (mut first, mut other) = (fleet.client(0), fleet.client(1));
    ask(&mut first, "SET a old PX 100\r\n", STORED);
    ask(&mut first, "PSETEX b 100 old\r\n", STORED);
    ask(&mut first, "SETEX c 1 old\r\n", STORED);
    ask(&mut first, "SET d old NX PX 100\r\n", STORED);
    ask(&mut first, "SET d next NX PX 100\r\n", NULL);
    ask(&mut first, "SET there 1\r\n", STORED);
    sleep(Duration::from_millis(1100));
    ask(&mut first, "GET a\r\n", NULL);
    ask(&mut other, "GET a\r\n", OLD);
    ask(&mut first, "MGET b c d\r\n", &[&b"*3\r\n"[..], NULL, NULL, NULL].concat());
    ask(&mut other, "MGET d there b c d\r\n", &[b"*5\r\n", OLD, b"$1\r\n1\r\n", OLD, OLD, OLD].concat());
    // To everything else it is gone.
    ask(&mut other, "EXISTS a\r\n", b":0\r\n");
    ask(&mut other, "TTL a\r\n", b":-2\r\n");
    ask(&mut other, "EXPIRE a 10\r\n", b":0\r\n");
    ask(&mut other, "GETEX a PX 10\r\n", NULL);
    ask(&mut other, "SET b 1 NX PX 50\r\n", STORED);
    ask(&mut first, "SET b 2 NX PX 50\r\n", NULL);
    ask(&mut first, "SET c next EX 10\r\n", STORED);
    ask(&mut other, "GET c\r\n", b"$4\r\nnext\r\n");
    assert_eq!(fleet.count("stampede_unleased"), 0);
    assert_eq!(fleet.count("stampede_stale"), 4);
}

#[test]
fn redis_gives_nothing_that_was_removed_or_changed() {
    let fleet = Fleet::of_redis(2, 2, OPTION);
    let (mut first, mut other, mut third) = (fleet.client(0), fleet.client(1), fleet.client(1));
    let changes = [
        ("delete", "DEL {}\r\n", ":1\r\n"),
        ("unlink", "UNLINK {}\r\n", ":1\r\n"),
        ("append", "APPEND {} 1\r\n", ":2\r\n"),
        ("count", "INCR {}\r\n", ":2\r\n"),
        ("expire", "PEXPIRE {} 50\r\n", ":1\r\n"),
        ("plain", "SET {} 2 XX PX 50\r\n", "+OK\r\n"),
        ("script", "EVAL \"return redis.call('DEL',KEYS[1])\" 1 {}\r\n", ":1\r\n"),
        ("taken", "GETDEL {}\r\n", "$1\r\n1\r\n"),
    ];
    for (key, change, says) in changes {
        ask(&mut first, &format!("SET {key} 1 PX 100\r\n"), STORED);
        ask(&mut other, &change.replace("{}", key), says.as_bytes());
    }
    // In a transaction, watched or not, and several at a time.
    for key in ["x", "y", "z", "w"] {
        ask(&mut first, &format!("SET {key} 1 PX 100\r\n"), STORED);
    }
    ask(&mut other, "MULTI\r\nDEL x\r\nEXEC\r\n", b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    ask(&mut third, "WATCH y\r\nMULTI\r\nDEL y\r\nEXEC\r\n", b"+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    ask(&mut other, "DEL z w\r\n", b":2\r\n");
    ask(&mut first, "SET added 1 NX PX 100\r\n", STORED);
    ask(&mut other, "DEL added\r\n", b":1\r\n");
    // Among so many that they are looked through in portions.
    ask(&mut first, "SET many 1 PX 1000\r\n", STORED);
    let names: String = (0..30_000).map(|number| format!("$12\r\nfiller:{number:05}\r\n")).collect();
    ask(&mut other, &format!("*30002\r\n$3\r\nDEL\r\n$4\r\nmany\r\n{names}"), b":1\r\n");
    sleep(Duration::from_millis(1050));
    for key in changes.iter().map(|(key, ..)| *key).chain(["x", "y", "z", "w", "added", "many"]) {
        ask(&mut first, &format!("GET {key}\r\n"), NULL);
        other.send(format!("GET {key}\r\n"));
        is_held(&mut other);
        ask(&mut first, &format!("SET {key} next\r\n"), STORED);
        expect(&mut other, b"$4\r\nnext\r\n");
    }
    assert_eq!(fleet.count("stampede_stale"), 0);
}

#[test]
fn an_old_memcached_is_named_and_whoever_misses_waits() {
    // As memcached 1.4, with a lease in it, and later `next`.
    let (leases, stored) = (AtomicUsize::new(0), AtomicBool::new(false));
    let old = Scripted::answering(move |line| match line.trim_ascii_end() {
        verb if verb.starts_with(b"mg ") => b"ERROR\r\n".to_vec(),
        verb if verb.starts_with(b"get ") && stored.load(Ordering::Relaxed) => {
            [block("key", "next").as_bytes(), MISS].concat()
        }
        verb if verb.starts_with(b"get ") => MISS.to_vec(),
        verb if verb.starts_with(b"delete ") => b"DELETED\r\n".to_vec(),
        verb if verb.starts_with(b"add ") || verb.starts_with(b"set ") => Vec::new(),
        b"next" => {
            stored.store(true, Ordering::Relaxed);
            b"STORED\r\n".to_vec()
        }
        _ if leases.fetch_add(1, Ordering::Relaxed) > 0 => b"NOT_STORED\r\n".to_vec(),
        _ => b"STORED\r\n".to_vec(),
    });
    let proxy = Proxy::start(&[old.address], &[OPTION, "timeout: 2000"]).expect_log("server knows no mg");
    let (mut first, mut other) = (proxy.client(), proxy.client());
    ask(&mut first, "get key\r\n", MISS);
    other.send("get key\r\n");
    is_held(&mut other);
    proxy.wait_for_log("server knows no mg, it is older than memcached 1.6", Duration::from_secs(5));
    stores(&mut first, "set", "key", 100, "next", "STORED");
    expect(&mut other, &[block("key", "next").as_bytes(), MISS].concat());
}

#[test]
fn redis_forgets_what_was_changed_in_another_database() {
    let fleet = Fleet::of_redis(1, 2, OPTION);
    let (mut first, mut other, mut elsewhere) = (fleet.client(0), fleet.client(1), fleet.client(1));
    ask(&mut first, "SELECT 2\r\n", STORED);
    ask(&mut other, "SELECT 2\r\n", STORED);
    ask(&mut first, "SET moved old PX 50\r\n", STORED);
    for key in ["copied", "replaced", "deleted", "stored", "untouched"] {
        ask(&mut first, &format!("SET {key} old PX 1000\r\n"), STORED);
    }
    sleep(Duration::from_millis(60));
    for key in ["copied", "source", "moved"] {
        ask(&mut elsewhere, &format!("SET {key} new PX 1000\r\n"), STORED);
    }
    ask(&mut elsewhere, "COPY copied copied DB 2 REPLACE\r\n", b":1\r\n");
    ask(&mut elsewhere, "MULTI\r\nCOPY source replaced REPLACE DB 2\r\nEXEC\r\n", b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    ask(&mut elsewhere, "MOVE moved 2\r\n", b":1\r\n");
    let deletes = "MULTI\r\nSELECT 2\r\nDEL deleted\r\nEXEC\r\n";
    ask(&mut elsewhere, deletes, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n");
    ask(&mut elsewhere, "SELECT 0\r\n", STORED);
    let stores = "MULTI\r\nSELECT 2\r\nSET stored new\r\nPEXPIRE stored 50\r\nEXEC\r\n";
    ask(&mut elsewhere, stores, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+OK\r\n:1\r\n");
    sleep(Duration::from_millis(1050));
    for key in ["copied", "replaced", "moved", "deleted", "stored"] {
        ask(&mut first, &format!("GET {key}\r\n"), NULL);
        other.send(format!("GET {key}\r\n"));
        is_held(&mut other);
        ask(&mut first, &format!("SET {key} next\r\n"), STORED);
        expect(&mut other, b"$4\r\nnext\r\n");
    }
    // What nobody has touched is there.
    ask(&mut first, "GET untouched\r\n", NULL);
    ask(&mut other, "GET untouched\r\n", b"$3\r\nold\r\n");
    assert_eq!(fleet.count("stampede_stale"), 1);
}

/// On another connection the copy may have been read before somebody removed it, was told so, and the next one asked.
#[test]
fn who_asks_after_a_copy_was_read_is_not_given_it() {
    // The key has been removed since its copy was read for the one that asks first: that answer comes late.
    let (gets, leases) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let asked = Arc::clone(&gets);
    let server = Scripted::answering(move |line| match line.trim_ascii_end() {
        b"get key" => {
            asked.fetch_add(1, Ordering::SeqCst);
            MISS.to_vec()
        }
        verb if verb.starts_with(b"mg ") && leases.load(Ordering::SeqCst) == 1 => {
            b"VA 3 ksoftmiss:stale:key f5 c1\r\nold\r\n".to_vec()
        }
        verb if verb.starts_with(b"mg ") => b"EN\r\n".to_vec(),
        verb if verb.starts_with(b"add ") || verb.starts_with(b"delete ") => Vec::new(),
        _ if leases.fetch_add(1, Ordering::SeqCst) == 0 => {
            wait_until("both have asked", Duration::from_secs(10), || asked.load(Ordering::SeqCst) == 2);
            sleep(Duration::from_millis(300)); // and the other one waits for the key
            b"NOT_STORED\r\n".to_vec()
        }
        _ => b"STORED\r\n".to_vec(),
    });
    let proxy = Proxy::start(&[server.address], &[OPTION, "timeout: 5000", "server_connections: 2"]);
    let (mut first, mut other) = (proxy.client(), proxy.client());
    first.send("get key\r\n");
    wait_until("the first has asked", Duration::from_secs(10), || gets.load(Ordering::SeqCst) == 1);
    sleep(Duration::from_millis(100)); // the copy is read for it
    other.send("get key\r\n");
    expect(&mut first, &[block("key", "old").as_bytes(), MISS].concat());
    expect(&mut other, MISS);
}

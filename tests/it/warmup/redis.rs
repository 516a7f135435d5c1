//! Redis: its strings are brought along, in their databases, and its transactions find them.

use std::time::Duration;

use super::{Pool, moved, names};
use crate::support::client::Client;

fn redis(client: &mut Client, words: &[&str]) -> String {
    let mut request = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
    let line = client.ask(request);
    match line.strip_prefix('$').and_then(|len| len.parse::<usize>().ok()) {
        Some(len) => {
            let body = client.read(len + 2);
            String::from_utf8_lossy(&body[..len]).into_owned()
        }
        None => line,
    }
}

#[test]
fn strings_of_redis_are_brought_along() {
    let pool = Pool::of_redis(2, "", &["warmup: 1m"]);
    let mut client = pool.client();
    let keys = names(200);
    for key in &keys {
        assert_eq!(redis(&mut client, &["SET", key, "7", "EX", "100"]), "+OK");
    }
    assert_eq!(redis(&mut client, &["SELECT", "3"]), "+OK");
    for key in &keys {
        assert_eq!(redis(&mut client, &["SET", key, "three"]), "+OK");
    }
    pool.goes_over_to(3);
    keys.iter().for_each(|key| assert_eq!(redis(&mut client, &["GET", key]), "three"));
    assert_eq!(redis(&mut client, &["SELECT", "0"]), "+OK");
    for (index, key) in keys.iter().enumerate() {
        let (answer, expected) = match index % 8 {
            0 => (redis(&mut client, &["SET", key, "x", "NX"]), "$-1"),
            1 => (redis(&mut client, &["INCR", key]), ":8"),
            2 => (redis(&mut client, &["SETNX", key, "x"]), ":0"),
            3 => (redis(&mut client, &["DEL", key]), ":1"),
            4 => (redis(&mut client, &["APPEND", key, "x"]), ":2"),
            5 => (redis(&mut client, &["EXISTS", key]), ":1"),
            6 => (redis(&mut client, &["EVAL", "return redis.call('get', KEYS[1])", "1", key]), "7"),
            _ => {
                assert_eq!(redis(&mut client, &["MULTI"]), "+OK");
                assert_eq!(redis(&mut client, &["INCR", key]), "+QUEUED");
                assert_eq!(redis(&mut client, &["EXEC"]), "*1");
                (client.line(), ":8")
            }
        };
        assert_eq!(answer, expected, "{key}, {index}");
        if index % 8 == 3 {
            assert_eq!(redis(&mut client, &["GET", key]), "$-1");
        } else {
            let left: u64 = redis(&mut client, &["TTL", key])[1..].parse().expect("a lifetime");
            assert!((90..=100).contains(&left), "{left}");
        }
    }
    assert!(pool.count("warmup_brought") > 50.0);
    assert_eq!(pool.count("warmup_failed"), 0.0);
}

#[test]
fn many_strings_of_redis_at_once_are_brought_along() {
    let pool = Pool::of_redis(2, "", &["warmup: 1m"]);
    let mut client = pool.client();
    let keys = names(200);
    keys.iter().for_each(|key| assert_eq!(redis(&mut client, &["SET", key, key]), "+OK"));
    let lists: Vec<String> = (0..20).map(|number| format!("list:{number}")).collect();
    lists.iter().for_each(|list| assert_eq!(redis(&mut client, &["RPUSH", list, "x"]), ":1"));
    pool.goes_over_to(3);
    let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(redis(&mut client, &words), "*200");
    for key in &keys {
        assert_eq!(client.line(), format!("${}", key.len()));
        assert_eq!(client.line(), *key);
    }
    let words: Vec<&str> = std::iter::once("DEL").chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(redis(&mut client, &words), ":200");
    keys.iter().for_each(|key| assert_eq!(redis(&mut client, &["GET", key]), "$-1"));
    // Other kinds are left where they are.
    let of_third = moved(&pool, 3, lists.iter().cloned());
    assert!((1..20).contains(&of_third.len()), "{of_third:?}");
    for list in &lists {
        let expected = if of_third.contains(list) { ":0" } else { ":1" };
        assert_eq!(redis(&mut client, &["EXISTS", list]), expected, "{list}");
    }
    assert_eq!(pool.count("warmup_failed"), 0.0);
}

#[test]
fn a_transaction_that_has_begun_before_finds_what_had_been_stored() {
    let pool = Pool::of_redis(1, "", &["warmup: 1m"]);
    let mut client = pool.client();
    let keys = names(30);
    keys.iter().for_each(|key| assert_eq!(redis(&mut client, &["SET", key, "7"]), "+OK"));
    let mut clients: Vec<Client> = keys.iter().map(|_| pool.client()).collect();
    for (key, client) in keys.iter().zip(&mut clients) {
        assert_eq!(redis(client, &["MULTI"]), "+OK");
        assert_eq!(redis(client, &["INCR", key]), "+QUEUED");
    }
    pool.goes_over_to(2);
    for (key, client) in keys.iter().zip(&mut clients) {
        assert_eq!(redis(client, &["EXEC"]), "*1", "{key}");
        assert_eq!(client.line(), ":8", "{key}");
    }
    assert!(pool.count("warmup_brought") > 3.0);
}

#[test]
fn a_guard_waits_for_a_former_home_that_is_slow() {
    let pool = Pool::of_redis(1, "", &["warmup: 1m", "timeout: 3000"]);
    let mut client = pool.client();
    let keys = names(30);
    keys.iter().for_each(|key| assert_eq!(redis(&mut client, &["SET", key, "taken"]), "+OK"));
    pool.goes_over_to(2);
    let of_second = moved(&pool, 2, keys.into_iter());
    let mut asking: Vec<Client> = of_second.iter().map(|_| pool.client()).collect();
    // Longer than who only reads would wait.
    let mut slow = pool.servers[0].client();
    let script = "local s = redis.call('TIME') repeat local n = redis.call('TIME') \
                  until (n[1] - s[1]) * 1000000 + n[2] - s[2] > 400000 return 1";
    slow.send(format!("*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n", script.len()));
    std::thread::sleep(Duration::from_millis(20)); // until it runs: its server says nothing of that
    for (key, client) in of_second.iter().zip(&mut asking) {
        client.send(format!("*3\r\n$5\r\nSETNX\r\n${}\r\n{key}\r\n$1\r\nx\r\n", key.len()));
    }
    for (key, client) in of_second.iter().zip(&mut asking) {
        assert_eq!(client.line(), ":0", "{key}");
    }
    assert_eq!(slow.line(), ":1");
}

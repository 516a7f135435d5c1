//! Servers that come and go more than once while keys are brought along.

use super::super::reload::{Reloaded, got, loopback};
use super::super::support::http::post;
use super::super::support::process::{Process, free_port};
use super::super::support::wait_until;
use super::{NAMES, Pool, SOON, names, set, stored, value};

#[test]
fn keys_that_move_back_and_forth_have_what_was_written_last() {
    let (servers, port) = ([Process::memcached(), Process::memcached(), Process::memcached()], free_port());
    let of = |weights: [u32; 3]| {
        let lines: String = (0..3)
            .map(|index| format!("  - {}:{} {}\n", servers[index].address, weights[index], NAMES[index]))
            .collect();
        format!("p:\n  listen: {}\n  timeout: 1000\n  warmup: 1m\n  servers:\n{lines}", loopback(port))
    };
    let reloaded = Reloaded::start(port, "", &of([1, 1, 1]));
    let mut client = reloaded.proxy.client();
    let keys = names(600);
    keys.iter().for_each(|key| set(&mut client, key, "old"));
    // Each leaves copies of other keys at other servers.
    for weights in [[9, 1, 1], [1, 9, 1], [1, 1, 9], [5, 1, 3], [1, 5, 3], [3, 1, 5]] {
        reloaded.goes_over("", &of(weights));
        keys.iter().for_each(|key| assert_eq!(got(&mut client, key), value(key, "old"), "{weights:?}"));
    }
    keys.iter().for_each(|key| set(&mut client, key, "new"));
    for weights in [[1, 1, 1], [9, 1, 1], [1, 9, 1]] {
        reloaded.goes_over("", &of(weights));
        keys.iter().for_each(|key| assert_eq!(got(&mut client, key), value(key, "new"), "{weights:?}"));
    }
}

#[test]
fn a_server_that_is_back_is_not_asked_for_what_it_had_before_it_left() {
    let (servers, port) = ([Process::memcached(), Process::memcached(), Process::memcached()], free_port());
    let of = |places: &[usize]| {
        let line = |index: &usize| format!("  - {}:1 {}\n", servers[*index].address, NAMES[*index]);
        let lines: String = places.iter().map(line).collect();
        format!("p:\n  listen: {}\n  timeout: 1000\n  warmup: 1m\n  servers:\n{lines}", loopback(port))
    };
    let reloaded = Reloaded::start(port, "", &of(&[0, 1]));
    let mut client = reloaded.proxy.client();
    let keys: Vec<String> = (0..200).map(|number| format!("{number}:key")).collect();
    keys.iter().for_each(|key| set(&mut client, key, key));
    reloaded.goes_over("", &of(&[0, 1, 2]));
    keys.iter().for_each(|key| assert_eq!(got(&mut client, key), value(key, key)));
    let mut third = servers[2].client();
    let of_third: Vec<_> = keys.iter().filter(|key| got(&mut third, key) != "END\r\n").collect();
    // What is removed while the second server is away, it cannot be told to forget.
    reloaded.goes_over("", &of(&[0, 2]));
    for key in &keys {
        client.ask(format!("delete {key}\r\n"));
    }
    let mut second = servers[1].client();
    assert!(of_third.iter().filter(|key| got(&mut second, key) != "END\r\n").count() > 10, "{}", of_third.len());
    reloaded.goes_over("", &of(&[0, 1, 2]));
    of_third.iter().for_each(|key| assert_eq!(got(&mut client, key), "END\r\n", "{key}"));
}

/// While its home is out, a key may go to where it was before. That does not mean that it has not moved.
#[test]
fn what_is_asked_for_while_its_home_is_out_is_brought_along_when_that_is_back() {
    let mut pool = Pool::of_memcached(2, "", &["warmup: 1m"]);
    pool.reloaded = pool.reloaded.expect_log("server ejected by the operator");
    let mut client = pool.client();
    let keys = stored(&mut client, 300);
    pool.goes_over_to(3);
    let has_third = |state: &str| {
        let answer = post(pool.reloaded.admin, &format!("/servers/{state}?pool=p&server=c"));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    has_third("eject");
    let found = keys.iter().filter(|key| got(&mut client, key) != "END\r\n").count();
    assert_eq!(found, keys.len(), "without the third server each goes to where it was");
    has_third("restore");
    wait_until("the server in the ring", SOON, || {
        super::super::support::http::get(pool.reloaded.admin, "/servers?pool=p").body.matches("\"up\"").count() == 3
    });
    for (index, key) in keys.iter().enumerate() {
        let request = if index % 2 == 0 { "add" } else { "replace" };
        let expected = if index % 2 == 0 { "NOT_STORED" } else { "STORED" };
        assert_eq!(client.ask(format!("{request} {key} 0 0 1\r\nx\r\n")), expected, "{key}");
    }
}

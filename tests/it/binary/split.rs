//! Gets of many keys over several servers, and what else one connection may hold.

use super::packet::{
    Ask, DELETE, GETK, GETKQ, GETQ, INCREMENT, NOOP, NOT_FOUND, QUIT, SET, SETQ, STAT, TOO_LARGE, Told, UNKNOWN,
    all_told, asked, told,
};
use crate::support::client::Client;
use crate::support::process::{Process, Proxy};
use crate::support::scattered_key;

#[test]
fn thousands_of_gets_in_one_go_are_answered_in_their_order() {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 4000"]);
    let mut client = proxy.client();
    let keys: Vec<_> = (0..5000).map(scattered_key).collect();
    let sets: Vec<_> = keys.iter().step_by(2).map(|key| Ask::store(SETQ, key, key)).collect();
    assert_eq!(all_told(&mut client, &sets), [], "quiet sets that were done");
    for opcode in [GETQ, GETKQ] {
        let gets: Vec<_> = keys.iter().zip(0..).map(|(key, number)| Ask::new(opcode, key).opaque(number)).collect();
        let all = all_told(&mut client, &gets);
        assert_eq!(all.len(), keys.len() / 2);
        for (told, number) in all.iter().zip((0..).step_by(2)) {
            let key = keys[number as usize].as_bytes();
            assert_eq!((told.opaque, &told.value[..], told.status), (number, key, 0));
            assert_eq!(&told.key[..], if opcode == GETKQ { key } else { b"" });
        }
    }
    // A text client sees the same, and each server has its part.
    let mut text = proxy.client();
    for (place, key) in keys.iter().enumerate().take(20) {
        text.send(format!("get {key}\r\n"));
        let value = if place % 2 == 0 { format!("VALUE {key} 0 {}\r\n{key}\r\n", key.len()) } else { String::new() };
        assert_eq!(String::from_utf8_lossy(&text.read_through(b"END\r\n")), value + "END\r\n");
    }
    assert!(proxy.statistics()["pool"][addresses[0].to_string()]["hits"].as_u64().expect("hits") > 1000);
}

#[test]
fn what_is_not_there_is_told_unless_it_goes_without_saying() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let mut client = proxy.client();
    let told = all_told(&mut client, &[Ask::new(GETQ, "a"), Ask::new(GETK, "b").opaque(2), Ask::new(GETKQ, "c")]);
    let [Told { status: NOT_FOUND, opaque: 2, key, value, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&key[..], &value[..]), (&b"b"[..], &b""[..]));
    // Several requests that are no gets between gets, each of which is answered in its place.
    let count = Ask {
        extras: [vec![0, 0, 0, 0, 0, 0, 0, 3], vec![0; 7], vec![9, 0, 0, 0, 0]].concat(),
        ..Ask::new(INCREMENT, "n")
    };
    let asks =
        [Ask::new(GETK, "n"), count.clone(), Ask::new(GETKQ, "n"), count, Ask::new(DELETE, "n"), Ask::new(GETK, "n")];
    let asks: Vec<_> = asks.into_iter().zip(0..).map(|(ask, number)| ask.opaque(number)).collect();
    let told = all_told(&mut client, &asks);
    let short: Vec<_> = told.iter().map(|told| (told.opaque, told.status, &told.value[..])).collect();
    let number = |number: u64| number.to_be_bytes();
    let (nine, twelve) = (number(9), number(12));
    let wanted =
        [(0, NOT_FOUND, &b""[..]), (1, 0, &nine), (2, 0, b"9"), (3, 0, &twelve), (4, 0, b""), (5, NOT_FOUND, b"")];
    assert_eq!(short, wanted);
}

#[test]
fn a_large_value_comes_through_and_one_that_is_too_large_is_refused() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let mut client = proxy.client();
    let value = vec![b'v'; 900_000];
    assert_eq!(asked(&mut client, &Ask::store(SET, "large", &value)).status, 0);
    let got = asked(&mut client, &Ask::new(GETK, "large"));
    assert!(got.value == value && got.key == b"large");
    let refused = all_told(&mut client, &[Ask::store(SET, "large", vec![b'v'; 3 << 20]), Ask::new(0x77, "")]);
    let statuses: Vec<_> = refused.iter().map(|told| told.status).collect();
    assert_eq!(statuses, [TOO_LARGE, UNKNOWN]);
}

#[test]
fn statistics_are_listed_and_a_quit_is_answered() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let mut client = proxy.client();
    client.send(Ask::new(STAT, "").bytes());
    let mut names = Vec::new();
    loop {
        let told = told(&mut client);
        if told.key.is_empty() {
            assert_eq!((told.status, &told.value[..]), (0, &b""[..]));
            break;
        }
        names.push(String::from_utf8(told.key).expect("a name"));
    }
    assert!(names.iter().any(|name| name == "curr_items"), "{names:?}");
    for other in ["nonsense", "cachedump 1 10", "detail", "detail dumped", "items\r\nflush_all", " "] {
        let told = all_told(&mut client, &[Ask::new(STAT, other)]);
        assert_eq!(told.iter().map(|told| told.status).collect::<Vec<_>>(), [NOT_FOUND], "{other:?}");
    }
    let on = asked(&mut client, &Ask::new(STAT, "detail on"));
    assert_eq!((on.status, &on.key[..], &on.value[..]), (0, &b""[..], &b""[..]));
    assert_eq!(asked(&mut client, &Ask::store(SET, "group:k", "v")).status, 0);
    assert_eq!(asked(&mut client, &Ask::new(GETK, "group:k")).status, 0); // which is counted as a get: the set is a meta command
    for address in [server.address, proxy.address] {
        let told = all_told(&mut Client::connect(address), &[Ask::new(STAT, "detail dump")]);
        let told: Vec<_> = told.iter().map(|told| (told.status, &told.key[..], &told.value[..])).collect();
        let list = &b"PREFIX group get 1 hit 1 set 0 del 0\r\nEND\r\n"[..];
        assert_eq!(told, [(0, &b"detailed"[..], list), (0, &b""[..], &b""[..])], "{address}");
    }
    for order in ["detail off", "reset"] {
        let told = asked(&mut client, &Ask::new(STAT, order));
        assert_eq!((told.status, &told.key[..], &told.value[..]), (0, &b""[..], &b""[..]), "{order}");
    }
    client.send([Ask::new(QUIT, "").opaque(5).bytes(), Ask::new(NOOP, "").bytes()].concat());
    assert_eq!(told(&mut client).opaque, 5);
    assert!(client.is_closed(), "it goes on");
}

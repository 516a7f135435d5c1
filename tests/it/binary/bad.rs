//! Bad input of the binary protocol: the right status or an end, and nothing of it reaches a server.

use super::packet::{Ask, GET, GETK, INVALID, NOOP, SET, UNKNOWN, asked, told};
use crate::support::process::{Process, Proxy};

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let long = Ask::new(GET, vec![b'k'; 251]).bytes();
    let mut lying = Ask::new(GETK, "key").bytes();
    lying[11] = 2; // the key is longer than all of it
    for (what, bytes, status) in [
        ("a get without a key", Ask::new(GET, "").bytes(), Some(INVALID)),
        ("a key that is too long", long, Some(INVALID)),
        ("a get with a value", Ask { value: b"v".to_vec(), ..Ask::new(GET, "k") }.bytes(), Some(INVALID)),
        ("a set without extras", Ask { value: b"v".to_vec(), ..Ask::new(SET, "k") }.bytes(), Some(INVALID)),
        ("a no-op with a key", Ask::new(NOOP, "k").bytes(), Some(INVALID)),
        ("a key longer than its request", lying, Some(UNKNOWN)),
        ("an answer", [&[0x81][..], &Ask::new(NOOP, "").bytes()[1..]].concat(), None),
        ("text", b"get a long enough line to be a header\r\n".to_vec(), None),
    ] {
        let mut client = proxy.client();
        // Behind one that is right, so that it is the binary protocol in any case.
        client.send([Ask::new(NOOP, "").opaque(1).bytes(), bytes, Ask::new(NOOP, "").bytes()].concat());
        assert_eq!(told(&mut client).opaque, 1, "{what}");
        if let Some(status) = status {
            assert_eq!(told(&mut client).status, status, "{what}");
        }
        assert!(client.is_closed(), "{what}: the connection goes on");
    }
    assert_eq!(server.client().ask("get k\r\n"), "END");
}

#[test]
fn requests_that_come_byte_by_byte_or_end_anywhere_are_no_others() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let whole: Vec<u8> = [
        Ask::store(SET, "key", "value\r\nget other\r\n").bytes(),
        Ask::new(GETK, "key").opaque(7).bytes(),
        Ask::new(GETK, "a b").bytes(),
    ]
    .concat();
    for len in 0..whole.len() {
        let mut client = proxy.client();
        client.send(&whole[..len]);
    }
    let mut client = proxy.client();
    for byte in &whole {
        client.send([*byte]);
    }
    assert_eq!(told(&mut client).status, 0);
    let got = told(&mut client);
    assert_eq!((got.opaque, &got.value[..]), (7, &b"value\r\nget other\r\n"[..]));
    // Others on the same connection to the server get their own.
    let mut other = proxy.client();
    assert_eq!(other.ask("get key\r\n"), "VALUE key 0 18");
    let mut third = proxy.client();
    assert_eq!(asked(&mut third, &Ask::new(GET, "key")).value, b"value\r\nget other\r\n");
}

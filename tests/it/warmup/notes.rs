//! Who copies a key says so at its new home: what servers make of that.

use softmiss::proto::memcache::copy::{self, Key};
use softmiss::proto::resp;

use super::super::support::client::Client;
use super::super::support::process::Process;

const NAME: Key<'_> = Key { bytes: b"note", base64: false };

fn said(client: &mut Client, ask: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut request = Vec::new();
    ask(&mut request);
    client.ask(request)
}

fn is_nobody(client: &mut Client) -> bool {
    let mut request = Vec::new();
    copy::ask_who(&mut request, NAME);
    request.extend_from_slice(b"mn\r\n");
    client.send(request);
    let answer = client.read_through(b"MN\r\n");
    copy::is_nobody(&answer[..answer.len() - 4])
}

/// It is late, and there is another one in the meantime.
#[test]
fn who_leaves_when_that_has_been_forgotten_takes_nobody_else_off() {
    let server = Process::memcached();
    let mut client = server.client();
    assert!(is_nobody(&mut client));
    assert_eq!(said(&mut client, |out| copy::announce(out, NAME, b"a.1")), "HD");
    assert!(!is_nobody(&mut client));
    assert_eq!(client.ask("delete note\r\n"), "DELETED");
    assert_eq!(said(&mut client, |out| copy::leave(out, NAME, b"a.1")), "NS");
    assert_eq!(said(&mut client, |out| copy::announce_too(out, NAME, b"b.1")), "NS", "it begins anew");
    assert_eq!(said(&mut client, |out| copy::announce(out, NAME, b"b.1")), "HD");
    assert_eq!(said(&mut client, |out| copy::announce(out, NAME, b"c.1")), "NS");
    assert_eq!(said(&mut client, |out| copy::keep(out, NAME)), "HD knote");
    assert_eq!(said(&mut client, |out| copy::announce_too(out, NAME, b"c.1")), "HD");
    for (leaves, is_last) in [("a.1", false), ("b.1", false), ("b.1", false), ("c.1", true)] {
        assert_eq!(said(&mut client, |out| copy::leave(out, NAME, leaves.as_bytes())), "HD");
        assert_eq!(is_nobody(&mut client), is_last, "{leaves}");
    }
}

#[test]
fn redis_takes_off_who_leaves_and_nobody_else() {
    let server = Process::redis();
    let mut client = server.client();
    let mut ask = |line: &str| client.ask(format!("{line}\r\n"));
    for (line, answer) in [
        ("SADD note a.1", ":1"),
        ("EXPIRE note 2", ":1"),
        ("DEL note", ":1"),
        ("SADD note b.1", ":1"),
        ("SREM note a.1", ":0"),
        ("SCARD note", ":1"),
        ("SREM note b.1", ":1"),
        ("EXPIRE note 2", ":0"),
        ("SCARD note", ":0"),
    ] {
        assert_eq!(ask(line), answer, "{line}");
    }
    assert!(resp::copy::is_nobody(b":0\r\n") && !resp::copy::is_nobody(b":1\r\n"));
}

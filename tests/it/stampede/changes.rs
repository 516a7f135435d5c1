//! The configuration changes, or the process, while clients wait.

use super::{Client, Duration, LONG, Process, timed, wait_until};
use crate::reload::{Reloaded, got, loopback, pool};
use crate::support::process::free_port;

const MISS: &str = "END\r\n";

/// A proxy of one pool with these lines, the client that computes `k`, and one that waits for it.
fn waiting(server: &Process, lines: &[&str]) -> (Reloaded, Client, Client) {
    let port = free_port();
    let listen = loopback(port).to_string();
    let reloaded = Reloaded::start(port, "", &pool("pool", &listen, &[(server.address, "a")], lines));
    let (mut first, mut other) = (reloaded.proxy.client(), reloaded.proxy.client());
    assert_eq!(got(&mut first, "k"), MISS);
    other.send("get k\r\n");
    waits(&reloaded, 1.0);
    (reloaded, first, other)
}

fn waits(reloaded: &Reloaded, count: f64) {
    let name = "softmiss_pool_stampede_waits_total";
    wait_until("waiting", Duration::from_secs(10), || reloaded.metric(name) >= count);
}

fn stores(client: &mut Client) {
    assert_eq!(client.ask("set k 0 0 1\r\n1\r\n"), "STORED");
}

fn of(reloaded: &Reloaded, server: &Process, lines: &[&str]) -> String {
    pool("pool", &reloaded.proxy.address.to_string(), &[(server.address, "a")], lines)
}

#[test]
fn who_waits_is_given_the_value_whatever_the_settings_are_by_then() {
    for lines in [
        &["rise: 2"][..], // the option is gone
        &["stampede: {wait: 1ms, lease: 1s, keys: [\"other:\"]}"],
        &[LONG, "timeout: 100"],
        &[LONG, "timeout: 60000"],
    ] {
        let server = Process::memcached();
        let (reloaded, mut first, mut other) = waiting(&server, &[LONG]);
        reloaded.goes_over("", &of(&reloaded, &server, lines));
        super::is_held(&mut other);
        stores(&mut first);
        assert_eq!(other.read_through(MISS.as_bytes()), b"VALUE k 0 1\r\n1\r\nEND\r\n", "{lines:?}");
    }
}

#[test]
fn without_the_option_nobody_waits_any_more() {
    let server = Process::memcached();
    let (reloaded, mut first, mut other) = waiting(&server, &[LONG]);
    reloaded.goes_over("", &of(&reloaded, &server, &[]));
    assert_eq!(got(&mut reloaded.proxy.client(), "k"), MISS);
    stores(&mut first);
    assert_eq!(other.read_through(MISS.as_bytes()), b"VALUE k 0 1\r\n1\r\nEND\r\n");
    // And with it again they do.
    reloaded.goes_over("", &of(&reloaded, &server, &[LONG]));
    assert_eq!(first.ask("delete k\r\n"), "DELETED");
    assert_eq!(got(&mut first, "k"), MISS);
    other.send("get k\r\n");
    waits(&reloaded, 2.0);
    stores(&mut first);
    assert_eq!(other.read_through(MISS.as_bytes()), b"VALUE k 0 1\r\n1\r\nEND\r\n");
}

#[test]
fn who_waits_in_a_pool_that_goes_is_told_the_miss() {
    let server = Process::memcached();
    let (reloaded, _first, mut other) = waiting(&server, &[LONG]);
    let elsewhere = pool("other", &loopback(free_port()).to_string(), &[(server.address, "a")], &[]);
    let waited = timed(|| {
        reloaded.goes_over("", &elsewhere);
        assert_eq!(other.read_through(MISS.as_bytes()), MISS.as_bytes());
        assert!(other.try_line().is_none(), "the pool is gone");
    });
    assert!(waited < Duration::from_secs(20), "after {waited:?}");
}

#[test]
fn another_pool_knows_nothing_of_it() {
    let server = Process::memcached();
    let (reloaded, mut first, mut other) = waiting(&server, &[LONG]);
    let port = free_port();
    let beside = pool("beside", &loopback(port).to_string(), &[(server.address, "a")], &[]);
    reloaded.goes_over("", &(of(&reloaded, &server, &[LONG]) + &beside));
    let mut stranger = Client::connect(loopback(port));
    assert_eq!(got(&mut stranger, "k"), MISS);
    stranger.send("get k\r\nset l 0 0 1\r\n1\r\nget l\r\ndelete k\r\n");
    let said = stranger.read_through(b"NOT_FOUND\r\n");
    assert_eq!(said, b"END\r\nSTORED\r\nVALUE l 0 1\r\n1\r\nEND\r\nNOT_FOUND\r\n");
    super::is_held(&mut other); // its delete has ended no lease
    stores(&mut first);
    assert_eq!(other.read_through(MISS.as_bytes()), b"VALUE k 0 1\r\n1\r\nEND\r\n");
}

#[test]
fn who_waits_when_the_process_is_told_to_end_is_told_the_miss() {
    for signal in ["TERM", "INT"] {
        let server = Process::memcached();
        let (mut reloaded, _first, mut other) = waiting(&server, &[LONG]);
        let waited = timed(|| {
            reloaded.proxy.signal(signal);
            assert_eq!(other.read_through(MISS.as_bytes()), MISS.as_bytes());
            assert!(reloaded.proxy.wait(Duration::from_secs(10)).success());
        });
        assert!(waited < Duration::from_secs(5), "after {waited:?}");
    }
}

#[test]
fn who_waits_for_a_server_that_is_taken_out_is_told_the_miss_or_waits_for_the_one_in_its_place() {
    let (server, next) = (Process::memcached(), Process::memcached());
    let (reloaded, _first, mut other) = waiting(&server, &[LONG]);
    let elsewhere = pool("pool", &reloaded.proxy.address.to_string(), &[(next.address, "b")], &[LONG]);
    let waited = timed(|| {
        reloaded.goes_over("", &elsewhere);
        // Nobody computes the key for that one: who looks there first has the lease.
        assert_eq!(other.read_through(MISS.as_bytes()), MISS.as_bytes());
    });
    assert!(waited < Duration::from_secs(5), "after {waited:?}");
    stores(&mut other);
    assert_eq!(got(&mut reloaded.proxy.client(), "k"), "VALUE k 0 1\r\n1\r\nEND\r\n");
}

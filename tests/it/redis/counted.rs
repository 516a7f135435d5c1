//! What is counted of a Redis pool, and the section of `INFO` that tells it.

use super::super::support::process::{Process, Proxy};
use super::super::support::scattered_key;

#[test]
fn reads_are_hits_and_misses_and_info_tells_what_was_counted() {
    let mut servers: Vec<_> = (0..2).map(|_| Process::redis()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let more =
        ["redis: true", "auto_eject_hosts: true", "server_failure_limit: 1", "on_eject: hold", "on_failure: miss"];
    let proxy = Proxy::start(&addresses, &more).expect_log("server ejected");
    let mut client = proxy.client();
    for number in 0..20 {
        assert_eq!(client.ask(format!("SET key:{number} x\r\n")), "+OK");
    }
    for number in 0..30 {
        client.send(format!("GET key:{number}\r\n"));
        assert_eq!(client.line(), if number < 20 { "$1" } else { "$-1" });
        if number < 20 {
            client.line();
        }
    }
    let keys: Vec<_> = (10..25).map(|number| format!("key:{number}")).collect();
    client.send(format!("MGET {}\r\n", keys.join(" ")));
    client.read_through(&b"$-1\r\n".repeat(5));
    assert_eq!(client.ask("DEL key:0 key:1\r\n"), ":2");
    assert_eq!(client.ask("INCR counter\r\n"), ":1");
    assert_eq!(client.ask("EXPIRE counter 100\r\n"), ":1");
    assert_eq!(client.ask("GETDEL nothing\r\n"), "$-1");
    assert_eq!(client.ask("LPUSH counter x\r\n"), "-WRONGTYPE Operation against a key holding the wrong kind of value");
    assert_eq!(client.ask("PING\r\n"), "+PONG");
    assert!(client.ask("NOSUCH\r\n").starts_with("-ERR unknown command"));
    let pool = &proxy.statistics()["pool"];
    let figures = |names: &[&str]| names.iter().map(|name| pool[*name].as_u64().expect("a number")).collect::<Vec<_>>();
    // By key: ten of the gets and five keys of the MGET are not there.
    assert_eq!(figures(&["hits", "misses"]), [30, 15]);
    // By request.
    assert_eq!(figures(&["requests", "get_hit", "get_miss", "set_done", "set_error"]), [58, 20, 11, 20, 1]);
    assert_eq!(figures(&["delete_done", "delete_not_found", "arithmetic_done", "touch_done"]), [1, 1, 1, 1]);
    assert_eq!(figures(&["other_local", "other_refused"]), [1, 1]);

    servers.iter_mut().for_each(Process::kill);
    // Keys that differ in a figure lie close together on the ring: all of them may be one server's.
    (0..50).for_each(|number| drop(client.ask(format!("GET {}\r\n", scattered_key(number)))));
    client.send("INFO softmiss\r\n");
    let text = String::from_utf8(client.read_through(b"abandoned:0\r\n\r\n")).expect("text");
    assert!(text.contains("# Softmiss\r\nsoftmiss_version:"), "{text}");
    for line in ["softmiss_get_degraded:50", "softmiss_other_abandoned:0", "softmiss_server_ejects:2"] {
        assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
    }
}

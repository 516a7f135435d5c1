//! `SORT` with patterns: it reads keys that are not among its arguments.

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy};
use super::super::support::scattered_key;

const BY: &str = "-ERR BY option of SORT denied in Cluster mode.";
const GET: &str = "-ERR GET option of SORT denied in Cluster mode.";

fn pool(servers: &[Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&["redis: true", "timeout: 2000"], more].concat())
}

#[test]
fn over_several_servers_patterns_are_refused_as_redis_cluster_refuses_them() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&servers, &[]);
    let mut client = proxy.client();
    assert_eq!(client.ask("RPUSH k 3 1 2\r\n"), ":3");
    for (line, expected) in [
        ("SORT k BY w_*", BY),
        ("sort k by w_*->f", BY),
        ("SORT_RO k BY w_*", BY),
        ("SORT k GET # GET v_*", GET),
        ("SORT k BY {k}w_*", BY),
        ("SORT k BY nosort GET v_*", GET),
        ("SORT k BY w_* STORE k", BY),
        ("SORT k", "*3"),
        ("SORT k BY nosort GET #", "*3"),
        ("SORT k GET none", "*3"),
        ("SORT_RO k DESC LIMIT 0 2", "*2"),
    ] {
        let mut client = proxy.client();
        assert_eq!(client.ask(format!("{line}\r\n")), expected, "{line}");
        // In a transaction it spoils it, as everything that cannot be carried out.
        let mut client = proxy.client();
        assert_eq!(client.ask("MULTI\r\n"), "+OK");
        let queued = client.ask(format!("{line}\r\n"));
        assert_eq!(queued, if expected.starts_with('-') { expected } else { "+QUEUED" }, "{line}");
        let told = client.ask("EXEC\r\n");
        assert_eq!(told.starts_with("-EXECABORT"), expected.starts_with('-'), "{line}: {told}");
    }
}

#[test]
fn patterns_whose_keys_are_all_where_the_list_is_are_carried_out() {
    let alone = [Process::redis()];
    let several = [Process::redis(), Process::redis(), Process::redis()];
    for (proxy, tag) in [(pool(&alone, &[]), ""), (pool(&several, &["hash_tag: \"{}\""]), "{t}")] {
        let mut client = proxy.client();
        assert_eq!(client.ask(format!("RPUSH {tag}k 0 1 2\r\n")), ":3");
        for number in 0..3 {
            assert_eq!(client.ask(format!("SET w{tag}_{number} {}\r\n", 9 - number)), "+OK");
        }
        client.send(format!("SORT {tag}k BY w{tag}_* GET w{tag}_* GET #\r\n"));
        let expected = "*6\r\n$1\r\n7\r\n$1\r\n2\r\n$1\r\n8\r\n$1\r\n1\r\n$1\r\n9\r\n$1\r\n0\r\n";
        let found = client.read(expected.len());
        assert_eq!(String::from_utf8_lossy(&found), expected, "{tag}");
    }
    // A tag behind the asterisk is not the key's if an element has one, and one of another server leads elsewhere.
    let proxy = pool(&several, &["hash_tag: \"{}\""]);
    let mut client = proxy.client();
    assert_eq!(client.ask("SORT {t}k BY w_*{t}\r\n"), BY);
    assert_eq!(client.ask("SORT {t}k BY w{}_*\r\n"), BY);
    // Which server has a tag's keys is seen by what is stored under one of them.
    let mut directly: Vec<_> = several.iter().map(Process::client).collect();
    let mut home = |client: &mut Client, tag: &str| {
        assert_eq!(client.ask(format!("SET w{{{tag}}}_ 1\r\n")), "+OK");
        directly.iter_mut().position(|server| server.ask(format!("EXISTS w{{{tag}}}_\r\n")) == ":1")
    };
    let lists = home(&mut client, "t");
    for tag in (0..40).map(scattered_key) {
        let refused = proxy.client().ask(format!("SORT {{t}}k BY w{{{tag}}}_*\r\n")) == BY;
        assert_eq!(refused, home(&mut client, &tag) != lists, "{tag}");
    }
}

//! Channels on which servers tell what happens to their own keys: all servers are heard, and each message once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};
use super::super::support::{scattered_key, wait_until};

const SOON: Duration = Duration::from_secs(5);

const TELLS: [&str; 2] = ["--notify-keyspace-events", "KEA"];

fn telling() -> Process {
    Process::redis_with(free_port(), &TELLS)
}

fn pool(servers: &[&Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&["redis: true"], more].concat())
}

/// Sets keys, and has something published at the end. Returns the keys.
fn set_some(proxy: &Proxy, count: u64) -> Vec<String> {
    let mut client = proxy.client();
    let keys: Vec<_> = (0..count).map(scattered_key).collect();
    keys.iter().for_each(|key| assert_eq!(client.ask(format!("SET {key} v\r\n")), "+OK"));
    keys
}

/// How often each of these words comes in what a client is told until it has been told `last`.
fn heard(client: &mut Client, last: &str, keys: &[String]) -> BTreeMap<String, usize> {
    let text = String::from_utf8_lossy(&client.read_through(last.as_bytes())).into_owned();
    keys.iter().map(|key| (key.clone(), text.matches(key.as_str()).count())).collect()
}

#[test]
fn the_events_of_all_servers_are_heard_once_each() {
    let servers = [telling(), telling(), telling()];
    let proxy = pool(&servers.each_ref(), &[]);
    for (hello, sign) in [("HELLO 2", '*'), ("HELLO 3", '>')] {
        for (subscribe, name) in [
            ("SUBSCRIBE", "__keyevent@0__:set"),
            ("PSUBSCRIBE", "__keyevent@0__:s*"),
            ("PSUBSCRIBE", "__key*t@0__:set"),
            ("PSUBSCRIBE", "*:set"),
        ] {
            let mut client = proxy.client();
            client.send(format!("{hello}\r\nECHO ready\r\n"));
            client.read_through(b"ready\r\n");
            let word = subscribe.to_lowercase();
            let confirms = |word: &str, count: usize| {
                format!("{sign}3\r\n${}\r\n{word}\r\n${}\r\n{name}\r\n:{count}\r\n", word.len(), name.len())
            };
            client.send(format!("{subscribe} {name}\r\n"));
            assert_eq!(String::from_utf8_lossy(&client.read(confirms(&word, 1).len())), confirms(&word, 1));
            let keys = set_some(&proxy, 30);
            // What is published on such a channel belongs to one server, as ever.
            assert_eq!(proxy.client().ask("PUBLISH __keyevent@0__:set over\r\n"), ":1");
            let mut told = heard(&mut client, "\r\nover\r\n", &keys);
            // The events of other servers may come behind what one of them was told last.
            while told.values().sum::<usize>() < 30 {
                let text = String::from_utf8_lossy(&client.read_through(b"key:")).into_owned();
                assert!(text.contains("message"), "{text}");
                let key = format!("key:{}", client.line());
                *told.get_mut(&key).expect("a key") += 1;
            }
            assert!(told.values().all(|count| *count == 1), "{name}: {told:?}");
            let ends = format!("UN{subscribe}").replace("UNPSUB", "PUNSUB");
            client.send(format!("{ends}\r\n"));
            let end = confirms(&ends.to_lowercase(), 0);
            assert_eq!(String::from_utf8_lossy(&client.read(end.len())), end, "once, and nothing else");
            assert_eq!(set_some(&proxy, 30).len(), 30);
            assert_eq!(client.ask("PING\r\n"), "+PONG", "nothing is heard any more");
        }
    }
}

#[test]
fn a_name_counts_once_however_many_servers_are_asked() {
    let servers = [telling(), telling(), telling()];
    let proxy = pool(&servers.each_ref(), &[]);
    let mut client = proxy.client();
    client.send("SUBSCRIBE a __keyspace@0__:k __keyevent@0__:del b\r\n");
    client.read_through(b":4\r\n");
    let mut other = proxy.client();
    other.send("PUBSUB CHANNELS\r\nPUBSUB NUMSUB a __keyspace@0__:k none\r\nPING\r\n");
    let told = String::from_utf8_lossy(&other.read_through(b"+PONG\r\n")).into_owned();
    assert!(told.starts_with("*4\r\n"), "{told}");
    let numbers = "*6\r\n$1\r\na\r\n:1\r\n$16\r\n__keyspace@0__:k\r\n:1\r\n$4\r\nnone\r\n:0\r\n";
    assert!(told.contains(numbers), "{told}");
    // One of two ends: the other is heard from every server still.
    client.send("UNSUBSCRIBE __keyspace@0__:k\r\n");
    client.read_through(b":3\r\n");
    let keys = set_some(&proxy, 12);
    let mut remover = proxy.client();
    keys.iter().for_each(|key| assert_eq!(remover.ask(format!("DEL {key}\r\n")), ":1"));
    for _ in &keys {
        client.read_through(b"\r\nkey:");
        client.line();
    }
    wait_until("each server is told of the end", SOON, || {
        servers.iter().all(|server| {
            let mut direct = server.client();
            direct.send("PUBSUB NUMSUB __keyspace@0__:k\r\nPING\r\n");
            String::from_utf8_lossy(&direct.read_through(b"+PONG\r\n")).contains(":0\r\n")
        })
    });
}

#[test]
fn a_server_that_comes_back_is_heard_again() {
    let mut servers = [telling(), telling()];
    let settings = ["timeout: 400", "auto_eject_hosts: true", "server_failure_limit: 2", "server_retry_timeout: 500"];
    let proxy = pool(&servers.each_ref(), &settings).expect_log("server ejected");
    let mut client = proxy.client();
    client.send("SUBSCRIBE __keyevent@0__:set\r\n");
    client.read_through(b":1\r\n");
    let mut asks = proxy.client();
    let mut hear_all = |what: &str| {
        let keys: Vec<_> = (0..20).map(scattered_key).collect();
        for key in &keys {
            wait_until(what, SOON, || asks.ask(format!("SET {key} v\r\n")) == "+OK");
            client.read_through(format!("\r\n{key}\r\n").as_bytes());
        }
        assert!(client.rest().is_empty(), "{what}: each message comes once");
    };
    hear_all("both");
    let port = servers[0].address.port();
    servers[0].kill();
    wait_until("the server is ejected", SOON, || {
        proxy.client().ask(format!("EXISTS {}\r\n", scattered_key(1)));
        proxy.client().ask(format!("EXISTS {}\r\n", scattered_key(2)));
        proxy.log().iter().any(|line| line.contains("server ejected"))
    });
    hear_all("the other");
    servers[0] = Process::redis_with(port, &TELLS);
    proxy.wait_for_log("server restored", SOON);
    wait_until("it is subscribed to", SOON, || {
        let mut direct = servers[0].client();
        direct.send("PUBSUB NUMSUB __keyevent@0__:set\r\nPING\r\n");
        String::from_utf8_lossy(&direct.read_through(b"+PONG\r\n")).contains(":1\r\n")
    });
    hear_all("both again");
}

/// Two pools before the same servers: the subscribers of each hear what the servers say.
#[test]
fn pools_before_the_same_servers_do_not_get_in_each_others_way() {
    let servers = [telling(), telling()];
    let ports = [free_port(), free_port()];
    let of_pool = |name: &str, port: u16| {
        let servers: String = servers.iter().map(|server| format!("    - {}:1\n", server.address)).collect();
        format!("{name}:\n  listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 400\n  servers:\n{servers}")
    };
    let proxy = Proxy::with_file(&(of_pool("one", ports[0]) + &of_pool("two", ports[1])), ports[0]);
    let mut clients = ports.map(|port| Client::connect(([127, 0, 0, 1], port).into()));
    for client in &mut clients {
        client.send("SUBSCRIBE __keyevent@0__:set\r\n");
        client.read_through(b":1\r\n");
    }
    let keys = set_some(&proxy, 20);
    for client in &mut clients {
        for _ in &keys {
            client.read_through(b"\r\nkey:");
            client.line();
        }
        assert!(client.rest().is_empty());
    }
}

/// All servers are heard, or none.
#[test]
fn it_needs_a_connection_to_every_server() {
    let servers = [telling(), telling()];
    let proxy = pool(&servers.each_ref(), &["dedicated_connections: 1"]).expect_log("dedicated_connections reached");
    let mut client = proxy.client();
    assert!(client.ask("SUBSCRIBE __keyevent@0__:set\r\n").starts_with("-ERR dedicated_connections"));
    client.send("SUBSCRIBE channel\r\n");
    client.read_through(b":1\r\n");
}

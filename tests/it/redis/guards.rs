//! What a guard is worth: `WATCH` and the transaction behind it, whatever happens to connections in between.

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};

const REDIS: &str = "redis: true";

fn pool(servers: &[&Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&[REDIS], more].concat())
}

/// Asks one request after the other, and says what the last was answered first.
fn ask_all(client: &mut Client, requests: &[&str]) -> String {
    requests.iter().map(|request| client.ask(format!("{request}\r\n"))).last().unwrap()
}

/// What a watch was made on is given up with what was asked there, and its place goes to whoever needs a connection next.
#[test]
fn a_connection_that_is_given_up_carries_nothing_more() {
    let servers = [Process::redis(), Process::redis()];
    let ports = [free_port(), free_port()];
    let of_pool = |name: &str, number: usize| {
        let (port, server) = (ports[number], servers[number].address);
        format!("{name}:\n  listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 300\n  servers: ['{server}:1']\n")
    };
    let proxy = Proxy::with_file(&(of_pool("one", 0) + &of_pool("two", 1)), ports[0]);
    let mut client = proxy.client();
    assert_eq!(client.ask("WATCH k\r\n"), "+OK");
    servers[0].signal("STOP");
    assert!(client.ask("BLPOP k 0.1\r\n").starts_with("-ERR"));
    let mut other = Client::connect(([127, 0, 0, 1], ports[1]).into());
    assert_eq!(other.ask("WATCH z\r\n"), "+OK");
    servers[0].signal("CONT");
    assert_eq!(ask_all(&mut client, &["MULTI", "SET k of-one", "EXEC"]), "*-1");
    for server in &servers {
        assert_eq!(server.client().ask("EXISTS k\r\n"), ":0");
    }
    assert_eq!(ask_all(&mut other, &["MULTI", "SET z 1", "EXEC"]), "*1");
}

/// On a connection that hears messages nothing else is understood, so it is not the one that watches.
#[test]
fn who_watches_can_subscribe() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("WATCH k\r\n"), "+OK");
    client.send("SUBSCRIBE c\r\n");
    client.read_through(b":1\r\n");
    client.send("UNSUBSCRIBE c\r\n");
    client.read_through(b":0\r\n");
    assert_eq!(ask_all(&mut client, &["MULTI", "SET k 1", "GET k", "EXEC"]), "*2");
    assert_eq!((client.line(), client.line(), client.line()), ("+OK".into(), "$1".into(), "1".into()));
    assert_eq!(client.ask("PING\r\n"), "+PONG");
}

//! What was queued for a transaction is carried out by the servers that there are when `EXEC` comes, or not at all.

use super::super::reload::{Reloaded, loopback, pool};
use super::super::support::client::Client;
use super::super::support::process::{Process, free_port};
use super::super::support::scattered_key;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A pool at a port before the first of some servers.
fn of(port: u16, servers: &[Process], more: &[&str]) -> String {
    let servers: Vec<_> = servers.iter().zip(NAMES).map(|(server, name)| (server.address, name)).collect();
    pool("r", &loopback(port).to_string(), &servers, &[&["redis: true"], more].concat())
}

fn say(client: &mut Client, request: &str) -> String {
    client.ask(format!("{request}\r\n"))
}

/// Whether one server has some keys, as the proxy says it of a command that needs that.
fn is_together(client: &mut Client, keys: &[String]) -> bool {
    !say(client, &format!("PFCOUNT {}", keys.join(" "))).starts_with("-CROSSSLOT")
}

/// Clients that have queued a request for keys of one server, with these.
fn queued(reloaded: &Reloaded, request: impl Fn(&[String]) -> Vec<String>) -> Vec<(Client, Vec<String>)> {
    let mut asks = reloaded.proxy.client();
    let keys: Vec<_> = (0..120).map(scattered_key).collect();
    let pairs = keys.chunks(2).filter(|pair| is_together(&mut asks, pair)).collect::<Vec<_>>();
    let queue = |pair: &&[String]| {
        let mut client = reloaded.proxy.client();
        assert_eq!(say(&mut client, "MULTI"), "+OK");
        for request in request(pair) {
            assert_eq!(say(&mut client, &request), "+QUEUED");
        }
        (client, pair.to_vec())
    };
    pairs.iter().map(queue).collect()
}

/// Each is refused whose keys are parted now, and each other one carried out. How many there were of both.
#[track_caller]
fn are_judged_anew(reloaded: &Reloaded, clients: Vec<(Client, Vec<String>)>, answers: usize) {
    let (mut asks, mut parted, all) = (reloaded.proxy.client(), 0, clients.len());
    for (mut client, keys) in clients {
        let answer = say(&mut client, "EXEC");
        if is_together(&mut asks, &keys) {
            assert_eq!(answer, format!("*{answers}"), "{keys:?}");
        } else {
            assert!(answer.starts_with("-EXECABORT") && answer.contains("CROSSSLOT"), "{keys:?}: {answer}");
            assert_eq!(say(&mut client, "PING"), "+PONG");
            assert_eq!(say(&mut client, "EXEC"), "-ERR EXEC without MULTI");
            parted += 1;
        }
    }
    assert!(parted > 3 && parted + 3 < all, "{parted} of {all}");
}

#[test]
fn a_command_whose_keys_are_parted_since_it_was_queued_is_not_carried_out() {
    let (servers, port) = ([Process::redis(), Process::redis(), Process::redis()], free_port());
    let reloaded = Reloaded::start(port, "", &of(port, &servers[..2], &[]));
    let clients = queued(&reloaded, |keys| vec![format!("SUNIONSTORE {} {}", keys[0], keys[1])]);
    reloaded.goes_over("", &of(port, &servers, &[]));
    are_judged_anew(&reloaded, clients, 1);
}

#[test]
fn a_transaction_that_is_to_be_one_servers_and_is_not_any_more_is_not_carried_out() {
    let (servers, port) = ([Process::redis(), Process::redis(), Process::redis()], free_port());
    let more = ["transactions: single"];
    let reloaded = Reloaded::start(port, "", &of(port, &servers[..2], &more));
    let clients = queued(&reloaded, |keys| keys.iter().map(|key| format!("SET {key} 1")).collect());
    reloaded.goes_over("", &of(port, &servers, &more));
    are_judged_anew(&reloaded, clients, 2);
}

/// What only a pool of one server can do is not done by the first of two.
#[test]
fn what_was_queued_for_the_only_server_is_refused_when_there_is_another() {
    let (servers, port) = ([Process::redis(), Process::redis()], free_port());
    let reloaded = Reloaded::start(port, "", &of(port, &servers[..1], &[]));
    let scattered = format!("SINTERSTORE {}", (0..20).map(scattered_key).collect::<Vec<_>>().join(" "));
    let requests = ["SELECT 3", "DBSIZE", &scattered];
    let mut clients: Vec<_> = requests.iter().map(|_| reloaded.proxy.client()).collect();
    for (client, request) in clients.iter_mut().zip(requests) {
        for request in ["MULTI", "SET k 1", request] {
            assert!(["+OK", "+QUEUED"].contains(&say(client, request).as_str()), "{request}");
        }
    }
    reloaded.goes_over("", &of(port, &servers, &[]));
    for (client, request) in clients.iter_mut().zip(requests) {
        let answer = say(client, "EXEC");
        assert!(answer.starts_with("-EXECABORT"), "{request}: {answer}");
        assert_eq!(say(client, "EXISTS k"), ":0");
    }
}

/// A transaction that watches is tried again by whoever it is of, and hears then what is wrong with it.
#[test]
fn one_that_watches_is_null() {
    let (servers, port) = ([Process::redis(), Process::redis()], free_port());
    let reloaded = Reloaded::start(port, "", &of(port, &servers[..1], &[]));
    let mut client = reloaded.proxy.client();
    for (request, answer) in [("WATCH k", "+OK"), ("MULTI", "+OK"), ("SET k 1", "+QUEUED"), ("SELECT 3", "+QUEUED")] {
        assert_eq!(say(&mut client, request), answer);
    }
    reloaded.goes_over("", &of(port, &servers, &[]));
    assert_eq!(say(&mut client, "EXEC"), "*-1");
    assert_eq!(say(&mut client, "EXISTS k"), ":0");
}

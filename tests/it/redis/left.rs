//! A server that is taken out of the file answers what it was asked for one client alone, and nobody loses what it gives
//! away on its way out.

use std::time::Duration;

use super::super::reload::{Reloaded, loopback, pool};
use super::super::support::client::Client;
use super::super::support::process::{Process, free_port};
use super::super::support::{scattered_key, wait_until};

const SOON: Duration = Duration::from_secs(5);

fn say(client: &mut Client, request: &str) -> String {
    client.ask(format!("{request}\r\n"))
}

/// A pool of some servers; each of them has time to go on after a pause.
fn of(port: u16, servers: &[Process]) -> String {
    let servers: Vec<_> =
        servers.iter().zip(["stays", "leaves"]).map(|(server, name)| (server.address, name)).collect();
    pool("r", &loopback(port).to_string(), &servers, &["redis: true", "timeout: 20000"])
}

/// A number of what a server tells of its clients.
fn number_of(server: &Process, name: &str) -> usize {
    let mut client = server.client();
    client.send("INFO clients\r\nPING\r\n");
    let text = String::from_utf8_lossy(&client.read_through(b"+PONG\r\n")).into_owned();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok()).expect("a number")
}

/// A pool of two servers, of which the second one is about to leave, and four keys of that one.
fn about_to_leave() -> (Reloaded, u16, [Process; 2], [String; 4]) {
    let (servers, port) = ([Process::redis(), Process::redis()], free_port());
    let reloaded = Reloaded::start(port, "", &of(port, &servers)).expect_log("silent");
    let (mut client, mut direct) = (reloaded.proxy.client(), servers[1].client());
    let mut keys = (0..).map(scattered_key).filter(|key| {
        assert_eq!(say(&mut client, &format!("SET {key} 1")), "+OK");
        let found = say(&mut direct, &format!("EXISTS {key}")) == ":1";
        assert_eq!(say(&mut client, &format!("DEL {key}")), ":1");
        found
    });
    let keys = [(); 4].map(|()| keys.next().expect("a key"));
    (reloaded, port, servers, keys)
}

/// While a server does not get to answer, it is taken out of the file.
fn leaves_before_it_answers(reloaded: &Reloaded, (port, servers): (u16, &[Process; 2]), asks: impl FnOnce()) {
    servers[1].signal("STOP");
    asks();
    std::thread::sleep(Duration::from_millis(50)); // so that it is on its way
    reloaded.goes_over("", &of(port, &servers[..1]));
    servers[1].signal("CONT");
}

#[test]
fn what_a_server_is_asked_for_one_client_alone_it_answers_though_it_leaves() {
    let (reloaded, port, servers, [watched, changed, ..]) = about_to_leave();
    let (mut watches, mut ends) = (reloaded.proxy.client(), reloaded.proxy.client());
    assert_eq!(say(&mut ends, &format!("WATCH {changed}")), "+OK");
    for request in ["MULTI".to_owned(), format!("INCR {changed}")] {
        assert!(["+OK", "+QUEUED"].contains(&say(&mut ends, &request).as_str()), "{request}");
    }
    leaves_before_it_answers(&reloaded, (port, &servers), || {
        watches.send(format!("WATCH {watched}\r\n"));
        ends.send("EXEC\r\n");
    });
    assert_eq!((ends.line(), ends.line()), ("*1".into(), ":1".into()));
    assert_eq!(say(&mut servers[1].client(), &format!("GET {changed}")), "$1");
    // What is watched there guards nothing any more, nor does what is watched besides.
    assert_eq!(watches.line(), "+OK");
    assert_eq!(say(&mut watches, &format!("WATCH {changed}")), "+OK");
    assert_eq!(say(&mut watches, "MULTI"), "+OK");
    assert_eq!(say(&mut watches, &format!("INCR {watched}")), "+QUEUED");
    assert_eq!(say(&mut watches, "EXEC"), "*-1");
    assert_eq!(say(&mut watches, &format!("WATCH {watched}")), "+OK");
    wait_until("nobody has a connection to it", SOON, || connections(&servers[1]) == 1);
}

#[test]
fn what_a_server_has_given_away_is_not_lost_though_it_leaves() {
    let (reloaded, port, servers, keys) = about_to_leave();
    let waits = |mut client: Client, key: String| {
        client.send(format!("BLPOP {key} 0\r\n"));
        (client, key)
    };
    let mut clients: Vec<_> = keys.into_iter().map(|key| waits(reloaded.proxy.client(), key)).collect();
    let blocked = |server: &Process| number_of(server, "blocked_clients");
    wait_until("they wait", SOON, || blocked(&servers[1]) == 4);
    let mut direct = servers[1].client();
    leaves_before_it_answers(&reloaded, (port, &servers), || {
        for (_, key) in &clients[..2] {
            direct.send(format!("RPUSH {key} item\r\n"));
        }
    });
    for (client, key) in &mut clients[..2] {
        let answer = [(); 5].map(|()| client.line());
        assert_eq!(answer, ["*2", &format!("${}", key.len()), key, "$4", "item"]);
    }
    // The others wait where their keys are now.
    wait_until("they wait at the other server", SOON, || blocked(&servers[0]) == 2);
    wait_until("nobody has a connection to it", SOON, || connections(&servers[1]) == 2);
    for (client, key) in &mut clients[2..] {
        assert_eq!(say(&mut reloaded.proxy.client(), &format!("RPUSH {key} item")), ":1");
        let answer = [(); 5].map(|()| client.line());
        assert_eq!(answer, ["*2", &format!("${}", key.len()), key, "$4", "item"]);
    }
}

fn connections(server: &Process) -> usize {
    number_of(server, "connected_clients")
}

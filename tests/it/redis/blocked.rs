//! Requests that wait on a server: they follow their key when it leaves, lose nothing on the way, and their clients are
//! told in a way that they can go on from when a server fails.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::support::bad::reset;
use super::super::support::client::Client;
use super::super::support::http::post;
use super::super::support::process::{Process, Proxy, free_port};
use super::super::support::{scattered_key, wait_until};

const SOON: Duration = Duration::from_secs(5);

/// A proxy before some Redis servers, `node-0` and so on, that an operator can take out of the ring.
struct Ring {
    servers: Vec<Process>,
    proxy: Proxy,
    admin: SocketAddr,
}

impl Ring {
    fn of(servers: Vec<Process>, settings: &str, more: &[&str]) -> Self {
        let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut file = format!("softmiss:\n  admin: {admin}\n{settings}pool:\n  listen: 127.0.0.1:{port}\n");
        file.push_str("  redis: true\n  auto_eject_hosts: true\n  server_failure_limit: 2\n  timeout: 400\n");
        file.push_str("  server_retry_timeout: 500\n");
        more.iter().for_each(|line| file.push_str(&format!("  {line}\n")));
        file.push_str("  servers:\n");
        for (number, server) in servers.iter().enumerate() {
            file.push_str(&format!("    - {}:1 node-{number}\n", server.address));
        }
        let proxy = Proxy::with_file(&file, port).expect_log("by the operator").expect_log("server ejected");
        wait_until("the admin port", SOON, || std::net::TcpStream::connect(admin).is_ok());
        Self { servers, proxy: proxy.expect_log("silent"), admin }
    }

    fn of_two(more: &[&str]) -> Self {
        Self::of(vec![Process::redis(), Process::redis()], "", more)
    }

    fn does(&self, what: &str, server: usize) {
        let answer = post(self.admin, &format!("/servers/{what}?server=node-{server}"));
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
    }

    fn key_of(&self, server: usize) -> String {
        self.keys_of(server).next().expect("a key of the server")
    }

    /// Keys that are at home on a server.
    fn keys_of(&self, server: usize) -> impl Iterator<Item = String> {
        let (mut client, mut direct) = (self.proxy.client(), self.servers[server].client());
        (0..).map(scattered_key).filter(move |key| {
            assert_eq!(client.ask(format!("SET {key} 1\r\n")), "+OK");
            let found = direct.ask(format!("EXISTS {key}\r\n")) == ":1";
            assert_eq!(client.ask(format!("DEL {key}\r\n")), ":1");
            found
        })
    }

    /// Has requests come by a server that is not well until it is out of the ring.
    fn wait_for_ejection(&self, key: &str) {
        let mut client = self.proxy.client();
        wait_until("the server is ejected", SOON, || {
            client.ask(format!("EXISTS {key}\r\n"));
            self.proxy.log().iter().any(|line| line.contains("server ejected"))
        });
    }

    /// Waits until so many clients wait on a server.
    fn wait_for_blocked(&self, server: usize, count: usize) {
        let what = format!("{count} clients waiting on node-{server}");
        wait_until(&what, SOON, || blocked(&self.servers[server]) == count);
    }
}

fn blocked(server: &Process) -> usize {
    let mut client = server.client();
    client.send("INFO clients\r\nPING\r\n");
    let text = String::from_utf8_lossy(&client.read_through(b"+PONG\r\n")).into_owned();
    text.lines().find_map(|line| line.strip_prefix("blocked_clients:")?.parse().ok()).expect("a number")
}

#[test]
fn whatever_waits_follows_its_key_away_and_home_again() {
    let ring = Ring::of_two(&[]);
    // One may not get what another waits for, so each has a key of its own.
    let mut keys = ring.keys_of(0);
    let requests = [
        ("BLPOP KEY 0", "RPUSH KEY item"),
        ("BRPOP KEY 30", "RPUSH KEY item"),
        ("BLMOVE KEY KEY LEFT RIGHT 30", "RPUSH KEY item"),
        ("BRPOPLPUSH KEY KEY 0", "RPUSH KEY item"),
        ("BLMPOP 30 1 KEY LEFT", "RPUSH KEY item"),
        ("BZPOPMIN KEY 0", "ZADD KEY 1 item"),
        ("BZPOPMAX KEY 30", "ZADD KEY 1 item"),
        ("BZMPOP 0 1 KEY MIN", "ZADD KEY 1 item"),
        ("XREAD BLOCK 30000 STREAMS KEY $", "XADD KEY * field item"),
    ];
    let waiting = requests.map(|(wait, push)| {
        let (mut client, key) = (ring.proxy.client(), keys.next().expect("a key"));
        client.send(format!("{}\r\n", wait.replace("KEY", &key)));
        (client, push.replace("KEY", &key))
    });
    ring.wait_for_blocked(0, waiting.len());
    for (away, from, to) in [("drain", 0, 1), ("restore", 1, 0), ("eject", 0, 1), ("restore", 1, 0)] {
        ring.does(away, 0);
        ring.wait_for_blocked(to, waiting.len());
        assert_eq!(blocked(&ring.servers[from]), 0, "{away}: nobody waits at both");
    }
    let mut client = ring.proxy.client();
    for (mut waits, push) in waiting {
        client.send(format!("{push}\r\nPING\r\n"));
        client.read_through(b"+PONG\r\n");
        waits.read_through(b"\r\nitem\r\n");
    }
}

#[test]
fn a_consumer_of_a_group_follows_its_stream() {
    let ring = Ring::of_two(&[]);
    let key = ring.key_of(0);
    for server in &ring.servers {
        assert_eq!(server.client().ask(format!("XGROUP CREATE {key} group $ MKSTREAM\r\n")), "+OK");
    }
    let mut client = ring.proxy.client();
    client.send(format!("XREADGROUP GROUP group me BLOCK 0 STREAMS {key} >\r\n"));
    ring.wait_for_blocked(0, 1);
    ring.does("drain", 0);
    ring.wait_for_blocked(1, 1);
    ring.proxy.client().send(format!("XADD {key} * field item\r\n"));
    client.read_through(b"\r\nitem\r\n");
}

/// What dies and returns, in place of what an operator takes out; in both versions of the protocol.
#[test]
fn a_pop_on_the_stand_in_follows_when_the_server_is_back() {
    for (hello, nothing) in [("HELLO 2", "*-1"), ("HELLO 3", "_")] {
        let mut ring = Ring::of_two(&["dedicated_connections: 1"]);
        let (key, port) = (ring.key_of(0), ring.servers[0].address.port());
        let mut client = ring.proxy.client();
        client.send(format!("{hello}\r\nECHO ready\r\n"));
        client.read_through(b"ready\r\n");
        ring.servers[0].kill();
        ring.wait_for_ejection(&key);
        client.send(format!("BLPOP {key} 0\r\n"));
        ring.wait_for_blocked(1, 1);
        ring.servers[0] = Process::redis_with(port, &[]);
        ring.wait_for_blocked(0, 1);
        assert_eq!(ring.proxy.client().ask(format!("RPUSH {key} item\r\n")), ":1");
        client.read_through(b"\r\nitem\r\n");
        assert_eq!(client.ask(format!("BLPOP {key} 0.01\r\n")), nothing);
    }
}

/// A server that hangs is given up, and what waited there is asked elsewhere.
#[test]
fn a_pop_on_a_server_that_hangs_follows_its_key() {
    let ring = Ring::of_two(&[]);
    let key = ring.key_of(0);
    let mut client = ring.proxy.client();
    client.send(format!("BLPOP {key} 20\r\n"));
    ring.wait_for_blocked(0, 1);
    ring.servers[0].signal("STOP");
    ring.wait_for_ejection(&key);
    ring.wait_for_blocked(1, 1);
    assert_eq!(ring.proxy.client().ask(format!("RPUSH {key} item\r\n")), ":1");
    client.read_through(b"\r\nitem\r\n");
    ring.servers[0].signal("CONT");
}

#[test]
fn its_time_goes_on_while_it_moves() {
    let ring = Ring::of_two(&[]);
    let requests = ["BLPOP KEY 4", "BZMPOP 4 1 KEY MIN", "XREAD BLOCK 4000 STREAMS KEY $"];
    let start = Instant::now();
    let mut clients: Vec<_> = ring
        .keys_of(0)
        .zip(requests)
        .map(|(key, request)| {
            let mut client = ring.proxy.client();
            client.send(format!("{}\r\n", request.replace("KEY", &key)));
            client
        })
        .collect();
    ring.wait_for_blocked(0, 3);
    let late = start.elapsed();
    ring.does("drain", 0);
    ring.wait_for_blocked(1, 3);
    ring.does("restore", 0);
    for (client, request) in clients.iter_mut().zip(requests) {
        assert_eq!(client.line(), "*-1", "{request}");
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(3990) && took < late + Duration::from_millis(4390),
            "{request}: {took:?}"
        );
    }
}

/// Jobs are pushed and popped all the while that their server comes and goes: each is popped once, or still there.
#[test]
fn no_job_is_lost_or_done_twice_while_servers_come_and_go() {
    let ring = Ring::of(vec![Process::redis(), Process::redis(), Process::redis()], "  workers: 2\n", &[]);
    let key = ring.key_of(0);
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (pushed, mut popped) = std::thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let (mut client, mut sure, mut numbers) = (ring.proxy.client(), Vec::new(), 0..);
            while !over.load(Ordering::Relaxed) {
                let number = numbers.next().expect("a number").to_string();
                // What was in flight to a server that was taken out may have been carried out or not.
                if client.ask(format!("RPUSH {key} {number}\r\n")).starts_with(':') {
                    sure.push(number);
                }
            }
            sure
        });
        let poppers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut got) = (ring.proxy.client(), Vec::new());
                    loop {
                        client.send(format!("BLPOP {key} 0.3\r\n"));
                        match client.line().as_str() {
                            "*-1" if over.load(Ordering::Relaxed) => return got,
                            "*-1" => {}
                            "*2" => {
                                client.read_through(format!("{key}\r\n").as_bytes());
                                client.line();
                                got.push(client.line());
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            other => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        let start = Instant::now();
        for round in 0.. {
            let enough = round >= 20 && done.load(Ordering::Relaxed) > 100;
            if enough || start.elapsed() > Duration::from_secs(30) {
                break;
            }
            ring.does(["drain", "eject"][round % 2], 0);
            std::thread::sleep(Duration::from_millis(7));
            ring.does("restore", 0);
            std::thread::sleep(Duration::from_millis(7));
        }
        over.store(true, Ordering::Relaxed);
        let popped: Vec<_> = poppers.into_iter().flat_map(|popper| popper.join().expect("a worker")).collect();
        (pusher.join().expect("the pusher"), popped)
    });
    let found = popped.len();
    for server in &ring.servers {
        let mut direct = server.client();
        loop {
            direct.send(format!("LPOP {key}\r\n"));
            match direct.line().as_str() {
                "$-1" => break,
                _ => popped.push(direct.line()),
            }
        }
    }
    println!("{} jobs, {found} done, the others are where nobody asked when they came", pushed.len());
    let all: BTreeSet<_> = popped.iter().collect();
    assert_eq!(all.len(), popped.len(), "none is done twice");
    let lost: Vec<_> = pushed.iter().filter(|job| !all.contains(job)).collect();
    assert_eq!(lost, [""; 0], "none is lost");
    assert!(found > 100, "{found}");
}

/// What cannot be ended there waits where it is, and everything works as it does without.
#[test]
fn a_server_that_withholds_the_command_is_used_all_the_same() {
    let hides = || Process::redis_with(free_port(), &["--rename-command", "CLIENT", ""]);
    let ring = Ring::of(vec![hides(), hides()], "", &[]);
    let key = ring.key_of(0);
    let mut client = ring.proxy.client();
    client.send(format!("BLPOP {key} 20\r\n"));
    ring.wait_for_blocked(0, 1);
    ring.does("drain", 0);
    assert_eq!(ring.servers[0].client().ask(format!("RPUSH {key} item\r\n")), ":1");
    client.read_through(b"\r\nitem\r\n");
    ring.does("restore", 0);
    assert_eq!(client.ask(format!("BLPOP {key} 0.01\r\n")), "*-1");
}

/// Of a server that dies, its clients hear the end of their connections, and the workers of queue systems begin anew.
#[test]
fn who_waits_for_a_server_that_dies_is_told_as_by_the_server_itself() {
    for (policy, request) in
        [("error", "BLPOP list 0"), ("error", "XREAD BLOCK 0 STREAMS list $"), ("miss", "BLPOP list 0")]
    {
        for signal in ["KILL", "TERM"] {
            let mut server = Process::redis();
            let policy = format!("on_failure: {policy}");
            let proxy = Proxy::start(&[server.address], &["redis: true", &policy]);
            let mut client = proxy.client();
            client.send(format!("ECHO before\r\n{request}\r\n"));
            client.read_through(b"before\r\n");
            wait_until("it waits", SOON, || blocked(&server) == 1);
            server.signal(signal);
            if policy.ends_with("miss") {
                assert_eq!(client.line(), "*-1");
            } else {
                assert!(client.is_closed() && client.rest().is_empty(), "{request}: {:?}", client.rest());
                // A server that is not there is seen as one.
                let mut client = proxy.client();
                client.send(format!("{request}\r\n"));
                assert!(client.is_closed() && client.rest().is_empty(), "{request}: {:?}", client.rest());
                assert_eq!(proxy.statistics()["pool"]["forward_error"], 2);
            }
            // Whatever does not wait is told in words.
            let told = proxy.client().ask("GET key\r\n");
            assert!(
                if policy.ends_with("miss") { told == "$-1" } else { told.starts_with("-ERR Connection") },
                "{told}"
            );
            server.kill();
        }
    }
}

/// The time that a request may wait is over, and its server hangs.
#[test]
fn who_waits_for_a_server_that_hangs_is_told_when_the_time_is_over() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 200"]).expect_log("silent");
    let (mut client, start) = (proxy.client(), Instant::now());
    client.send("BLPOP list 0.3\r\n");
    wait_until("it waits", SOON, || blocked(&server) == 1);
    server.signal("STOP");
    assert!(client.is_closed() && client.rest().is_empty(), "{:?}", client.rest());
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    server.signal("CONT");
}

/// Values of several servers are one answer, or one error: an error among the values is taken for a value.
#[test]
fn several_values_are_one_error_where_errors_are_told() {
    for policy in ["error", "miss"] {
        let mut servers = [Process::redis(), Process::redis()];
        let policy = format!("on_failure: {policy}");
        let proxy = Proxy::start(
            &[servers[0].address, servers[1].address],
            &["redis: true", "auto_eject_hosts: true", "on_eject: hold", &policy],
        )
        .expect_log("server ejected");
        let mut client = proxy.client();
        let keys: Vec<_> = (0..20).map(scattered_key).collect();
        keys.iter().for_each(|key| assert_eq!(client.ask(format!("SET {key} 1\r\n")), "+OK"));
        servers[1].kill();
        wait_until("the server is missed", SOON, || {
            keys.iter().filter(|key| client.ask(format!("EXISTS {key}\r\n")) != ":1").count() > 0
        });
        let request = format!("MGET {}\r\n", keys.join(" "));
        let in_transaction = format!("MULTI\r\n{request}EXEC\r\n");
        client.send(&request);
        let told = client.line();
        if policy.ends_with("error") {
            assert_eq!(told, "-ERR Connection refused");
            client.send(&in_transaction);
            client.read_through(b"+QUEUED\r\n*1\r\n-ERR Connection refused\r\n");
        } else {
            assert_eq!(told, "*20");
            let mut values = Vec::new();
            while values.len() < 20 {
                values.push(match client.line().as_str() {
                    "$-1" => None,
                    _ => Some(client.line()),
                });
            }
            assert!(values.contains(&None) && values.contains(&Some("1".to_owned())), "{values:?}");
        }
        assert_eq!(client.ask("PING\r\n"), "+PONG", "nothing is left over");
    }
}

/// What a client says of itself to whoever wants to unblock it.
fn number_of(client: &mut Client) -> String {
    client.ask("CLIENT ID\r\n").trim_start_matches(':').to_owned()
}

/// The server has not said yet what it calls the connection, and has not read what is to be ended.
#[test]
fn who_waits_for_what_its_server_has_not_read_yet_is_unblocked() {
    for (reason, told) in [("", "*-1"), (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
        let ring = Ring::of_two(&[]);
        let key = ring.key_of(0);
        let (mut client, mut other) = (ring.proxy.client(), ring.proxy.client());
        let number = number_of(&mut client);
        ring.servers[0].signal("STOP");
        client.send(format!("BLPOP {key} 0\r\n"));
        wait_until("it waits", SOON, || other.ask(format!("CLIENT UNBLOCK {number}{reason}\r\n")) == ":1");
        ring.servers[0].signal("CONT");
        assert_eq!(client.line(), told);
        assert_eq!(client.ask("PING\r\n"), "+PONG");
    }
}

/// While it is moved, and while the word to its server is lost: in whatever order, it ends, and is told how.
#[test]
fn who_is_unblocked_while_the_key_moves_is_not_asked_for_elsewhere() {
    for first in ["drain", "unblock"] {
        let ring = Ring::of_two(&["on_failure: miss"]);
        let key = ring.key_of(0);
        let (mut client, mut other) = (ring.proxy.client(), ring.proxy.client());
        let number = number_of(&mut client);
        client.send(format!("BLPOP {key} 0\r\n"));
        ring.wait_for_blocked(0, 1);
        ring.servers[0].signal("STOP");
        if first == "drain" {
            ring.does("drain", 0);
        }
        assert_eq!(other.ask(format!("CLIENT UNBLOCK {number} ERROR\r\n")), ":1", "{first}");
        if first == "drain" {
            ring.servers[0].signal("CONT");
            assert_eq!(client.line(), "-UNBLOCKED client unblocked via CLIENT UNBLOCK");
        } else {
            // The server has not read the word when it is taken out, and never does.
            ring.does("eject", 0);
            assert_eq!(client.line(), "*-1");
        }
        assert_eq!(client.ask("PING\r\n"), "+PONG", "{first}");
        assert_eq!(blocked(&ring.servers[1]), 0, "{first}");
        ring.servers[0].signal("CONT");
    }
}

/// The server is told to end each of them, though no more connections are allowed; none is cut off, which may lose what it
/// has just given away.
#[test]
fn as_many_as_may_wait_are_ended_in_order_when_their_server_is_taken_out() {
    let ring = Ring::of_two(&["dedicated_connections: 3"]);
    let keys: Vec<_> = ring.keys_of(0).take(3).collect();
    let mut clients: Vec<_> = keys.iter().map(|_| ring.proxy.client()).collect();
    for (client, key) in clients.iter_mut().zip(&keys) {
        client.send(format!("BLPOP {key} 0\r\n"));
    }
    ring.wait_for_blocked(0, 3);
    ring.does("eject", 0);
    ring.wait_for_blocked(1, 3);
    let mut direct = ring.servers[0].client();
    direct.send("INFO commandstats\r\nPING\r\n");
    let said = String::from_utf8_lossy(&direct.read_through(b"+PONG\r\n")).into_owned();
    let ended = said.lines().find(|line| line.starts_with("cmdstat_client|unblock:")).unwrap_or("none");
    assert!(ended.contains("calls=3,"), "{ended}");
    let mut pusher = ring.proxy.client();
    for (client, key) in clients.iter_mut().zip(&keys) {
        assert_eq!(pusher.ask(format!("RPUSH {key} item\r\n")), ":1");
        client.read_through(b"\r\nitem\r\n");
    }
}

/// Keys stay with their servers, so there is nowhere else to ask: it is told what happened, and keeps no connection open.
#[test]
fn who_waits_on_a_server_that_an_operator_takes_out_is_told() {
    for policy in ["error", "miss"] {
        let ring = Ring::of_two(&["on_eject: hold", &format!("on_failure: {policy}")]);
        let key = ring.key_of(0);
        let mut client = ring.proxy.client();
        client.send(format!("BLPOP {key} 0\r\n"));
        ring.wait_for_blocked(0, 1);
        ring.does("eject", 0);
        if policy == "error" {
            assert!(client.is_closed() && client.rest().is_empty(), "{:?}", client.rest());
        } else {
            assert_eq!(client.line(), "*-1");
        }
        ring.wait_for_blocked(0, 0);
    }
}

/// Also if what it has sent behind is more than is read of one that waits, so that its end is not what is read next.
#[test]
fn who_leaves_with_much_behind_what_it_waits_for_waits_no_longer() {
    let ring = Ring::of_two(&[]);
    let key = ring.key_of(0);
    for (requests, is_reset) in [(300, false), (300, true), (1_060, false), (1_200, true)] {
        let behind = format!("SET {key}-behind {}\r\n", "x".repeat(1000)).repeat(requests);
        let waiting: Vec<Client> = (0..3)
            .map(|_| {
                let mut client = ring.proxy.client();
                client.send(format!("BLPOP {key} 0\r\n"));
                client.send(&behind);
                client
            })
            .collect();
        ring.wait_for_blocked(0, 3);
        std::thread::sleep(Duration::from_millis(200)); // as much is read of them as is read at all
        for client in waiting {
            if is_reset {
                reset(&client.stream);
            }
        }
        ring.wait_for_blocked(0, 0);
        let mut client = ring.proxy.client();
        assert_eq!(client.ask(format!("RPUSH {key} job\r\n")), ":1");
        assert_eq!(client.ask(format!("LLEN {key}\r\n")), ":1", "nobody has taken it");
        assert_eq!(client.ask(format!("DEL {key}\r\n")), ":1");
        assert_eq!(client.ask(format!("EXISTS {key}-behind\r\n")), ":0", "Redis carries out nothing behind it either");
    }
}

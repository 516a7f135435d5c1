//! What a guard is worth: `WATCH` and the transaction behind it, whatever happens to connections in between.

use std::time::Duration;

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};
use super::super::support::{scattered_key, wait_until};

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

/// A watch knows its key's database, and the transaction goes to that which is selected when it is carried out.
#[test]
fn a_transaction_goes_to_the_database_that_is_selected_then() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    let [mut in_0, mut in_1] = [server.client(), server.client()];
    assert_eq!(in_1.ask("SELECT 1\r\n"), "+OK");
    let mut client = proxy.client();
    assert_eq!(ask_all(&mut client, &["WATCH k", "SELECT 1", "MULTI", "SET k for-1", "EXEC"]), "*1");
    assert_eq!(client.line(), "+OK");
    assert_eq!(in_0.ask("EXISTS k\r\n"), ":0");
    assert_eq!(in_1.ask("GETDEL k\r\n"), "$5");
    assert_eq!(in_1.line(), "for-1");
    // What is watched in one database guards what is done in another, also when both have been selected since.
    for (changed, expected) in [(&mut in_0, "*-1"), (&mut in_1, "*1")] {
        assert_eq!(ask_all(&mut client, &["SELECT 0", "WATCH k", "SELECT 1", "WATCH other", "SELECT 2"]), "+OK");
        assert_eq!(changed.ask("SET k changed\r\n"), "+OK");
        assert_eq!(ask_all(&mut client, &["MULTI", "SET k for-2", "EXEC"]), expected);
        if expected == "*1" {
            assert_eq!(client.line(), "+OK");
        }
    }
    assert_eq!(client.ask("GET k\r\n"), "$5");
    assert_eq!(client.line(), "for-2");
    // What waits for a list waits in the database that is selected, though it has the connection that watches.
    assert_eq!(ask_all(&mut client, &["SELECT 0", "WATCH k", "SELECT 1"]), "+OK");
    assert_eq!(in_1.ask("RPUSH list job\r\n"), ":1");
    client.send("BLPOP list 1\r\n");
    assert_eq!(client.read_through(b"job\r\n"), b"*2\r\n$4\r\nlist\r\n$3\r\njob\r\n");
}

#[test]
fn a_transaction_is_answered_in_the_protocol_that_is_agreed_then() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    assert_eq!(server.client().ask("HSET h f v\r\n"), ":1");
    let mut client = proxy.client();
    assert_eq!(client.ask("WATCH h\r\n"), "+OK");
    for (version, map) in [("3", "%1"), ("2", "*2")] {
        client.send(format!("HELLO {version}\r\n"));
        client.read_through(b"modules\r\n*0\r\n");
        assert_eq!(ask_all(&mut client, &["MULTI", "HGETALL h", "EXEC"]), "*1");
        assert_eq!(client.line(), map);
        client.read_through(b"$1\r\nf\r\n$1\r\nv\r\n");
        assert_eq!(client.ask("WATCH h\r\n"), "+OK");
    }
    assert_eq!(server.client().ask("HSET h f w\r\n"), ":0");
    client.send("HELLO 3\r\n");
    client.read_through(b"modules\r\n*0\r\n");
    assert_eq!(ask_all(&mut client, &["MULTI", "HGETALL h", "EXEC"]), "_");
    // RESET forgets the watch, the version and the database.
    assert_eq!(ask_all(&mut client, &["WATCH h", "SELECT 1", "RESET"]), "+RESET");
    assert_eq!(server.client().ask("HSET h f v\r\n"), ":0");
    assert_eq!(ask_all(&mut client, &["MULTI", "HGETALL h", "EXEC"]), "*1");
    assert_eq!(client.line(), "*2");
}

/// The server would not select the database: nothing is carried out in the one before.
#[test]
fn a_watch_that_cannot_go_along_is_broken() {
    let server = Process::redis_with(free_port(), &["--databases", "2"]);
    let proxy = pool(&[&server], &["timeout: 1000"]);
    let mut client = proxy.client();
    assert_eq!(
        ask_all(&mut client, &["WATCH k", "SELECT 5", "SELECT 0", "MULTI", "SET k 1", "EXEC"])[..9],
        *"-EXECABOR"
    );
    assert_eq!(server.client().ask("EXISTS k\r\n"), ":0");
    assert_eq!(ask_all(&mut client, &["WATCH k", "MULTI", "SET k 1", "EXEC"]), "*1");
}

/// What the client is told of a `WATCH`, and of the `EXEC` behind it that it should have guarded.
const TOLD: [(&str, &str, &str); 3] =
    [("miss", "+OK", "*-1"), ("absorb", "+OK", "*-1"), ("error", "-ERR", "-EXECABORT")];

/// `out` takes the server away, and `back` brings it back before the transaction is carried out.
fn failed_watch(
    more: &[&str],
    log: &'static str,
    out: impl Fn(&Proxy, &mut Process),
    back: impl Fn(&Proxy, &mut Process),
) {
    for (policy, watched, executed) in TOLD {
        let mut server = Process::redis();
        let policy = format!("on_failure: {policy}");
        let proxy = pool(&[&server], &[more, &["timeout: 300", &policy]].concat()).expect_log(log);
        let mut client = proxy.client();
        for ends in ["EXEC", "DISCARD", "UNWATCH"] {
            out(&proxy, &mut server);
            let told = client.ask("WATCH n\r\n");
            assert!(told.starts_with(watched), "{policy}: {told}");
            back(&proxy, &mut server);
            assert_eq!(server.client().ask("SET n 2\r\n"), "+OK");
            assert_eq!(ask_all(&mut client, &["MULTI", "SET n 1"]), "+QUEUED");
            if ends == "EXEC" {
                let told = client.ask("EXEC\r\n");
                assert!(told.starts_with(executed), "{policy}: {told}");
            } else {
                assert_eq!(client.ask("DISCARD\r\n"), "+OK");
                assert_eq!(client.ask("UNWATCH\r\n"), "+OK");
            }
            assert_eq!(server.client().ask("GET n\r\n"), "$1");
            // It is over then.
            wait_until("the next transaction carried out", Duration::from_secs(10), || {
                assert_eq!(ask_all(&mut client, &["MULTI", "SET m 1"]), "+QUEUED");
                client.ask("EXEC\r\n") == "*1" && client.line() == "+OK"
            });
        }
    }
}

#[test]
fn a_watch_beyond_the_limit_guards_nothing() {
    failed_watch(&["dedicated_connections: 0"], "dedicated_connections reached", |_, _| {}, |_, _| {});
}

#[test]
fn a_watch_at_a_server_that_is_gone_guards_nothing() {
    let gone = |_: &Proxy, server: &mut Process| server.kill();
    let back = |_: &Proxy, server: &mut Process| {
        *server = Process::redis_with(server.address.port(), &[]);
    };
    failed_watch(&["auto_eject_hosts: false"], "", gone, back);
    let ejects = ["auto_eject_hosts: true", "server_failure_limit: 1", "server_retry_timeout: 500", "flap_limit: 1000"];
    failed_watch(&[&ejects[..], &["on_eject: hold"]].concat(), "server ejected", gone, back);
    failed_watch(&ejects, "server ejected", gone, back);
}

#[test]
fn a_watch_at_a_server_that_hangs_guards_nothing() {
    let (stop, go_on) = (
        |_: &Proxy, server: &mut Process| server.signal("STOP"),
        |_: &Proxy, server: &mut Process| {
            server.signal("CONT");
        },
    );
    failed_watch(&["auto_eject_hosts: false"], "server is silent", stop, go_on);
}

/// The server knew what was watched, and hangs when the transaction is to be carried out. It may carry it out later, if
/// nobody has changed the key by then.
#[test]
fn a_guarded_transaction_that_gets_no_answer_did_not_take_place() {
    for policy in ["miss", "absorb"] {
        let server = Process::redis();
        let proxy =
            pool(&[&server], &["timeout: 300", &format!("on_failure: {policy}")]).expect_log("server is silent");
        let mut client = proxy.client();
        assert_eq!(ask_all(&mut client, &["WATCH n", "MULTI", "SET n 1", "PING"]), "+QUEUED");
        server.signal("STOP");
        assert_eq!(client.ask("EXEC\r\n"), "*-1");
        server.signal("CONT");
        assert_eq!(ask_all(&mut client, &["MULTI", "SET n 1", "EXEC"]), "*1");
    }
}

#[test]
fn one_watch_that_failed_is_enough() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&[&servers[0], &servers[1]], &["timeout: 300", "on_failure: miss"]);
    let mut client = proxy.client();
    let here = |key: &String| servers[0].client().ask(format!("EXISTS {key}\r\n")) == ":1";
    let keys: Vec<_> = (0..40).map(scattered_key).collect();
    for key in &keys {
        assert_eq!(client.ask(format!("SET {key} 1\r\n")), "+OK");
    }
    let (own, other): (Vec<_>, Vec<_>) = keys.into_iter().partition(here);
    let (a, b, elsewhere) = (&own[0], &own[1], &other[0]);
    // One of another server is refused, and the client may not have looked.
    for watches in [format!("WATCH {elsewhere}"), format!("WATCH {b} {elsewhere}")] {
        assert_eq!(client.ask(format!("WATCH {a}\r\n")), "+OK");
        assert!(client.ask(format!("{watches}\r\n")).starts_with("-CROSSSLOT"));
        let told = ask_all(&mut client, &["MULTI", &format!("SET {a} 2"), "EXEC"]);
        assert!(told.starts_with("-EXECABORT"), "{told}");
    }
    // One is made while its server hangs.
    assert_eq!(client.ask(format!("WATCH {a}\r\n")), "+OK");
    servers[0].signal("STOP");
    assert_eq!(client.ask(format!("WATCH {b}\r\n")), "+OK");
    servers[0].signal("CONT");
    assert_eq!(client.ask(format!("WATCH {a}\r\n")), "+OK");
    assert_eq!(ask_all(&mut client, &["MULTI", &format!("SET {a} 2"), "EXEC"]), "*-1");
    assert_eq!(ask_all(&mut client, &[&format!("WATCH {a}"), "MULTI", &format!("SET {a} 2"), "EXEC"]), "*1");
}

/// Who does not wait for answers is not told of failures, and guarded all the same.
#[test]
fn a_watch_without_an_answer_guards() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    for (changes, left) in [(false, "$4"), (true, "$7")] {
        let mut client = proxy.client();
        assert_eq!(server.client().ask("DEL n\r\n")[..1], *":");
        client.send("CLIENT REPLY OFF\r\nWATCH n\r\nSELECT 1\r\nSELECT 0\r\nMULTI\r\nSET n mine\r\n");
        if changes {
            let watched = || {
                let mut direct = server.client();
                direct.send("CLIENT LIST\r\nPING\r\n");
                String::from_utf8_lossy(&direct.read_through(b"+PONG\r\n")).contains("cmd=select")
            };
            wait_until("the watch made", Duration::from_secs(2), watched);
            assert_eq!(server.client().ask("SET n another\r\n"), "+OK");
        }
        client.send("EXEC\r\nCLIENT REPLY ON\r\n");
        assert_eq!(client.line(), "+OK");
        wait_until("the transaction", Duration::from_secs(2), || server.client().ask("STRLEN n\r\n") != ":0");
        assert_eq!(server.client().ask("GET n\r\n"), left);
    }
}

#[test]
fn a_server_that_is_not_ready_watches_nothing() {
    use super::super::support::bad::Scripted;
    let server = Scripted::answering(|line| match line {
        line if line.starts_with(b"*2") => b"-LOADING Redis is loading the dataset in memory\r\n".to_vec(), // WATCH
        line if line.starts_with(b"*1") => b"+OK\r\n".to_vec(),
        _ => Vec::new(),
    });
    for (policy, watched, executed) in [("miss", "+OK", "*-1"), ("error", "-LOADING", "-EXECABORT")] {
        let proxy = Proxy::start(&[server.address], &[REDIS, "timeout: 1000", &format!("on_failure: {policy}")]);
        let mut client = proxy.client();
        assert!(client.ask("WATCH a\r\n").starts_with(watched));
        assert!(ask_all(&mut client, &["MULTI", "SET a 1", "EXEC"]).starts_with(executed));
    }
}

/// While its server was out, the key was watched at another; when that is back, it is changed there.
#[test]
fn a_watch_breaks_when_its_key_may_have_moved() {
    let mut servers = [Process::redis(), Process::redis()];
    let proxy = pool(
        &[&servers[0], &servers[1]],
        &[
            "timeout: 300",
            "on_failure: miss",
            "auto_eject_hosts: true",
            "server_failure_limit: 1",
            "server_retry_timeout: 500",
        ],
    )
    .expect_log("server ejected");
    let mut client = proxy.client();
    let keys: Vec<_> = (0..40).map(scattered_key).collect();
    for key in &keys {
        assert_eq!(client.ask(format!("SET {key} 1\r\n")), "+OK");
    }
    let is_home = |key: &&String| servers[1].client().ask(format!("EXISTS {key}\r\n")) == ":1";
    let moved: Vec<_> = keys.iter().filter(is_home).collect();
    servers[1].kill();
    wait_until("the server's keys elsewhere", Duration::from_secs(3), || {
        client.ask(format!("SET {} 2\r\n", moved[0]));
        servers[0].client().ask(format!("EXISTS {}\r\n", moved[0])) == ":1"
    });
    assert_eq!(client.ask(format!("WATCH {}\r\n", moved[0])), "+OK");
    servers[1] = Process::redis_with(servers[1].address.port(), &[]);
    proxy.wait_for_log("server restored", Duration::from_secs(5));
    assert_eq!(proxy.client().ask(format!("SET {} 3\r\n", moved[0])), "+OK");
    assert_eq!(ask_all(&mut client, &["MULTI", &format!("SET {} 4", moved[0]), "EXEC"]), "*-1");
    assert_eq!(ask_all(&mut client, &["MULTI", &format!("SET {} 4", moved[0]), "EXEC"]), "*1");
}

#[test]
fn a_transaction_of_nothing_asks_whether_a_key_was_changed() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    let mut client = proxy.client();
    let mut other = proxy.client();
    for queued in [&[][..], &["PING"], &["ECHO x", "TIME"], &["UNWATCH"], &["UNWATCH", "SET k mine"]] {
        for change in ["SET k changed", "FLUSHALL", "FLUSHDB", ""] {
            for direct in [true, false] {
                assert_eq!(ask_all(&mut client, &["SET k 1", "WATCH k", "MULTI"]), "+OK");
                queued.iter().for_each(|request| assert_eq!(client.ask(format!("{request}\r\n")), "+QUEUED"));
                let mut bare = server.client();
                let by = if direct { &mut bare } else { &mut other };
                assert!(change.is_empty() || by.ask(format!("{change}\r\n")) == "+OK");
                let expected = if change.is_empty() { format!("*{}", queued.len()) } else { "*-1".to_owned() };
                assert_eq!(client.ask("EXEC\r\n"), expected, "{queued:?} after {change:?}");
                if change.is_empty() {
                    client.send("PING end\r\n");
                    client.read_through(b"$3\r\nend\r\n");
                }
            }
        }
    }
}

/// What a transaction selects may have to forget something first, on another connection. A guarded one does not take place
/// then, and what it was to change stays.
#[test]
fn a_guarded_transaction_that_has_to_wait_for_another_database_did_not_take_place() {
    let server = Process::redis();
    assert_eq!(server.client().ask("ACL SETUSER default -select\r\n"), "+OK");
    let proxy = pool(&[&server], &["timeout: 2000", "on_failure: miss"]).expect_log("refuses what a connection needs");
    let [mut client, mut other] = [proxy.client(), proxy.client()];
    assert_eq!(ask_all(&mut other, &["SELECT 9", "DEL k"]), ":0"); // it is told so in the server's place
    assert_eq!(ask_all(&mut client, &["SET k old", "WATCH k"]), "+OK");
    assert_eq!(ask_all(&mut client, &["MULTI", "SET k new", "SELECT 9", "EXEC"]), "*-1");
    assert_eq!(client.ask("EXISTS k\r\n"), ":1");
    // Its connection watches nothing more.
    assert_eq!(ask_all(&mut client, &["WATCH l"]), "+OK");
    assert_eq!(server.client().ask("SET k changed\r\n"), "+OK");
    assert_eq!(ask_all(&mut client, &["MULTI", "SET l 1", "EXEC"]), "*1");
}

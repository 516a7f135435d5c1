//! What connections to servers are set up with, and what becomes of a client's state when they break.

use std::time::{Duration, Instant};

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};
use super::super::support::{scattered_key, wait_until};

const REDIS: &str = "redis: true";

pub(super) fn pool(servers: &[&Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&[REDIS], more].concat())
}

#[test]
fn password_and_database_are_given_in_this_order_and_checked() {
    let server = Process::redis_with(free_port(), &["--requirepass", "secret"]);
    let proxy = pool(&[&server], &["redis_auth: secret", "redis_db: 3", "timeout: 1000"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a\r\n"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH wrong\r\n"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(client.ask("AUTH secret\r\n"), "+OK");
    assert_eq!(client.ask("SET a 1\r\n"), "+OK");
    let mut direct = server.client();
    assert_eq!(direct.ask("AUTH secret\r\n"), "+OK");
    assert_eq!(direct.ask("EXISTS a\r\n"), ":0", "not in database 0");
    assert_eq!(direct.ask("SELECT 3\r\n"), "+OK");
    assert_eq!(direct.ask("EXISTS a\r\n"), ":1");
    let mut third = proxy.client();
    third.send("HELLO 3 AUTH default secret SETNAME me\r\n");
    third.read_through(b"modules\r\n*0\r\n");
    assert_eq!(third.ask("INCR a\r\n"), ":2");
}

#[test]
fn a_user_of_the_servers_has_a_password_of_its_own() {
    let server = Process::redis();
    assert_eq!(server.client().ask("ACL SETUSER app on >apps ~* +@all\r\n"), "+OK");
    assert_eq!(server.client().ask("ACL SETUSER default off\r\n"), "+OK");
    let proxy = pool(&[&server], &["redis_user: app", "redis_auth: apps", "timeout: 1000"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("AUTH app apps\r\n"), "+OK");
    assert_eq!(client.ask("SET a 1\r\n"), "+OK");
}

#[test]
fn a_server_that_refuses_the_password_or_the_database_has_failed() {
    for (arguments, settings, refused) in [
        (&["--requirepass", "other"][..], &["redis_auth: secret"][..], "refused=\"password\""),
        (&["--databases", "2"], &["redis_db: 5"], "refused=\"database\""),
    ] {
        let server = Process::redis_with(free_port(), arguments);
        let settings = [settings, &["timeout: 500", "auto_eject_hosts: true", "server_failure_limit: 2"]].concat();
        let proxy = pool(&[&server], &settings)
            .expect_log("server refuses what a connection needs")
            .expect_log("server ejected");
        let mut client = proxy.client();
        if refused.contains("password") {
            assert_eq!(client.ask("AUTH secret\r\n"), "+OK");
        }
        let told = client.ask("SET a 1\r\n");
        assert!(told.starts_with("-ERR"), "{told}");
        proxy.wait_for_log(refused, Duration::from_secs(2));
        proxy.wait_for_log("server ejected", Duration::from_secs(4));
        if refused.contains("database") {
            assert_eq!(server.client().ask("DBSIZE\r\n"), ":0", "nothing went to database 0");
        }
    }
}

#[test]
fn a_server_that_refuses_the_password_has_failed_whatever_its_clients_have_chosen() {
    let server = Process::redis_with(free_port(), &["--requirepass", "other"]);
    let settings = ["redis_auth: secret", "timeout: 500", "auto_eject_hosts: true", "server_failure_limit: 4"];
    let proxy =
        pool(&[&server], &settings).expect_log("server refuses what a connection needs").expect_log("server ejected");
    let mut client = proxy.client();
    assert_eq!(client.ask("AUTH secret\r\n"), "+OK");
    client.send("HELLO 3\r\nPING\r\n");
    client.read_through(b"+PONG\r\n");
    wait_until("the server is out", Duration::from_secs(8), || {
        client.ask("GET a\r\n");
        proxy.log().iter().any(|line| line.contains("server ejected"))
    });
}

#[test]
fn databases_have_connections_of_their_own() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 1000", "redis_databases: 4"]);
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for (database, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(format!("SELECT {database}\r\n")), "+OK");
        assert_eq!(client.ask(format!("SET key {database}\r\n")), "+OK");
    }
    for (database, client) in clients.iter_mut().enumerate() {
        client.send("GET key\r\n");
        assert_eq!(client.read(7), format!("$1\r\n{database}\r\n").as_bytes());
    }
    assert_eq!(clients[0].ask("SELECT 4\r\n"), "-ERR DB index is out of range");
}

#[test]
fn a_client_that_leaves_takes_nothing_with_it() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    let mut waiting = proxy.client();
    waiting.send("BLPOP queue 0\r\n");
    let blocked = || {
        let mut client = server.client();
        client.send("INFO clients\r\nPING\r\n");
        let text = client.read_through(b"+PONG\r\n");
        String::from_utf8_lossy(&text).contains("blocked_clients:1")
    };
    wait_until("a client blocked", Duration::from_secs(2), blocked);
    drop(waiting);
    wait_until("no client blocked", Duration::from_secs(2), || !blocked());
    let mut other = proxy.client();
    assert_eq!(other.ask("RPUSH queue job\r\n"), ":1");
    assert_eq!(other.ask("LLEN queue\r\n"), ":1", "nobody popped it");
}

#[test]
fn who_waits_longer_than_the_timeout_disturbs_nobody() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 300", "auto_eject_hosts: true", "server_failure_limit: 1"]);
    let mut waiting = proxy.client();
    // What is pipelined behind has its own time.
    waiting.send("BLPOP queue 1\r\nGET nothing\r\n");
    let start = Instant::now();
    let mut other = proxy.client();
    while start.elapsed() < Duration::from_millis(900) {
        assert_eq!(other.ask("GET nothing\r\n"), "$-1");
    }
    assert_eq!(waiting.line(), "*-1");
    assert_eq!(waiting.line(), "$-1");
    assert!(start.elapsed() >= Duration::from_millis(950));
}

#[test]
fn a_broken_watch_lets_no_transaction_pass() {
    let mut server = Process::redis();
    let port = server.address.port();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("WATCH a\r\n"), "+OK");
    server.kill();
    let server = Process::redis_with(port, &[]);
    assert_eq!(client.ask("MULTI\r\n"), "+OK");
    assert_eq!(client.ask("SET a 1\r\n"), "+QUEUED");
    assert_eq!(client.ask("EXEC\r\n"), "*-1");
    assert_eq!(server.client().ask("EXISTS a\r\n"), ":0");
}

#[test]
fn a_script_is_known_again_after_a_restart() {
    let mut server = Process::redis();
    let port = server.address.port();
    let proxy = pool(&[&server], &["timeout: 1000"]);
    let mut client = proxy.client();
    client.send("SCRIPT LOAD \"return ARGV[1]\"\r\n");
    let name = client.read_through(b"\r\n").len();
    assert_eq!(name, 5);
    let name = client.line();
    server.kill();
    let _server = Process::redis_with(port, &[]);
    client.send(format!("EVALSHA {name} 1 key value\r\n"));
    assert_eq!(client.line(), "$5");
    assert_eq!(client.line(), "value");
    assert_eq!(
        client.ask(format!("EVALSHA {} 1 key\r\n", "f".repeat(40))),
        "-NOSCRIPT No matching script. Please use EVAL."
    );
}

/// A subscriber hears what is published after its server has died, and after it has come back.
#[test]
fn subscriptions_outlive_their_server() {
    let mut servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let proxy = pool(
        &servers.iter().collect::<Vec<_>>(),
        &["timeout: 400", "auto_eject_hosts: true", "server_failure_limit: 2", "server_retry_timeout: 500"],
    )
    .expect_log("server ejected");
    let mut subscriber = proxy.client();
    let channels: Vec<_> = (0..12).map(scattered_key).collect();
    subscriber.send(format!("SUBSCRIBE {}\r\n", channels.join(" ")));
    for channel in &channels {
        subscriber.read_through(format!("{channel}\r\n:").as_bytes());
        subscriber.line();
    }
    let mut publisher = proxy.client();
    let mut hear_all = |round: &str| {
        for channel in &channels {
            let heard = |publisher: &mut Client| publisher.ask(format!("PUBLISH {channel} {round}\r\n")) == ":1";
            wait_until("somebody hears it", Duration::from_secs(5), || heard(&mut publisher));
            subscriber.read_through(format!("{channel}\r\n${}\r\n{round}\r\n", round.len()).as_bytes());
        }
        assert!(subscriber.rest().is_empty(), "each message comes once: {:?}", subscriber.rest());
    };
    hear_all("first");
    let port = servers[0].address.port();
    servers[0].kill();
    proxy.wait_for_log("server ejected", Duration::from_secs(4));
    hear_all("second");
    servers[0] = Process::redis_with(port, &[]);
    proxy.wait_for_log("server restored", Duration::from_secs(4));
    hear_all("third");
}

#[test]
fn a_monitor_hears_all_servers() {
    let servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let proxy = pool(&servers.iter().collect::<Vec<_>>(), &["timeout: 1000"]);
    let mut monitor = proxy.client();
    assert_eq!(monitor.ask("MONITOR\r\n"), "+OK");
    let mut client = proxy.client();
    for number in 0..20 {
        let key = scattered_key(number);
        assert_eq!(client.ask(format!("EXISTS {key}\r\n")), ":0");
        let line = monitor.line();
        assert!(line.contains(&format!("\"EXISTS\" \"{key}\"")), "{line}");
    }
}

#[test]
fn transactions_over_several_servers_can_be_refused() {
    let servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let servers: Vec<_> = servers.iter().collect();
    let proxy = pool(&servers, &["timeout: 1000", "transactions: single", "hash_tag: \"{}\""]);
    let mut client = proxy.client();
    assert_eq!(client.ask("MULTI\r\n"), "+OK");
    assert_eq!(client.ask(format!("SET {} 1\r\n", scattered_key(1))), "+QUEUED");
    let others = (2..40).map(|number| client.ask(format!("SET {} 1\r\n", scattered_key(number))));
    assert!(others.filter(|told| told.starts_with("-CROSSSLOT")).count() > 5);
    assert_eq!(client.ask("EXEC\r\n"), "-EXECABORT Transaction discarded because of previous errors.");
    assert_eq!(client.ask("MULTI\r\n"), "+OK");
    for key in ["{tag}a", "{tag}b"] {
        assert_eq!(client.ask(format!("SET {key} 1\r\n")), "+QUEUED");
    }
    assert_eq!(client.ask("EXEC\r\n"), "*2");
    assert_eq!((client.line(), client.line()), ("+OK".to_owned(), "+OK".to_owned()));
}

#[test]
fn keys_of_several_servers_in_one_command_are_refused_in_clusters_words() {
    let servers: Vec<_> = (0..3).map(|_| Process::redis()).collect();
    let proxy = pool(&servers.iter().collect::<Vec<_>>(), &["timeout: 1000"]);
    let mut client = proxy.client();
    let keys: Vec<_> = (0..20).map(scattered_key).collect();
    let told = client.ask(format!("SINTER {}\r\n", keys.join(" ")));
    assert!(told.starts_with("-CROSSSLOT Keys in request don't hash to the same slot"), "{told}");
    assert!(told.contains("hash_tag"), "what to do about it: {told}");
}

/// What was flushed while a server was away must not come back with it.
#[test]
fn a_flush_is_pending_for_a_server_that_is_away() {
    let mut servers: Vec<_> = (0..2).map(|_| Process::redis()).collect();
    let proxy = pool(
        &servers.iter().collect::<Vec<_>>(),
        &[
            "timeout: 300",
            "auto_eject_hosts: true",
            "server_failure_limit: 1",
            "server_retry_timeout: 500",
            "on_failure: miss",
        ],
    )
    .expect_log("server ejected");
    for server in &servers {
        assert_eq!(server.client().ask("SET old 1\r\n"), "+OK");
        assert_eq!(server.client().ask("MSET old 1 other 2\r\n"), "+OK");
        let mut second = server.client();
        assert_eq!(second.ask("SELECT 1\r\n"), "+OK");
        assert_eq!(second.ask("SET kept 1\r\n"), "+OK");
    }
    servers[0].signal("STOP");
    let mut client = proxy.client();
    (0..20).for_each(|number| drop(client.ask(format!("EXISTS {}\r\n", scattered_key(number)))));
    proxy.wait_for_log("server ejected", Duration::from_secs(4));
    assert_eq!(client.ask("FLUSHDB\r\n"), "+OK");
    servers[0].signal("CONT");
    proxy.wait_for_log("server restored", Duration::from_secs(5));
    for server in &mut servers {
        assert_eq!(server.client().ask("DBSIZE\r\n"), ":0");
        let mut second = server.client();
        assert_eq!(second.ask("SELECT 1\r\n"), "+OK");
        assert_eq!(second.ask("DBSIZE\r\n"), ":1", "another database is not concerned");
    }
}

/// A server that loads its data answers, but serves nobody.
#[test]
fn a_server_that_is_not_ready_is_a_miss() {
    use super::super::support::bad::Scripted;
    let server = Scripted::answering(|line| match line.first() {
        Some(b'*') => b"-LOADING Redis is loading the dataset in memory\r\n".to_vec(),
        _ => Vec::new(), // the rest of the request
    });
    let told = "-LOADING Redis is loading the dataset in memory";
    for (policy, expected) in [("miss", "$-1"), ("error", told)] {
        let proxy = Proxy::start(&[server.address], &[REDIS, "timeout: 1000", &format!("on_failure: {policy}")]);
        assert_eq!(proxy.client().ask("GET a\r\n"), expected);
        assert_eq!(proxy.client().ask("SET a 1\r\n"), expected);
    }
}

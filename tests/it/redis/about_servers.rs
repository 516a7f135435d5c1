//! What tools and health checks ask a Redis about itself, of a pool of three: answers that are true of all servers, or an
//! error, and never an `OK` for what was not done.

use super::super::support::client::Client;
use super::super::support::process::{Process, Proxy, free_port};
use super::{reply_of, whole_reply};

const REDIS: &str = "redis: true";

fn pool(servers: &[Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, &[&[REDIS, "timeout: 2000"], more].concat())
}

fn three() -> Vec<Process> {
    (0..3).map(|_| Process::redis()).collect()
}

/// A number that a server tells in `INFO`.
fn info(client: &mut Client, name: &str) -> u64 {
    let text = reply_of(client, "INFO");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[test]
fn what_health_checks_ask_is_answered() {
    // On a busy machine any command may take long enough for the log of slow ones.
    let quiet = || Process::redis_with(free_port(), &["--slowlog-log-slower-than", "-1"]);
    let servers = vec![quiet(), quiet(), quiet()];
    let proxy = pool(&servers, &[]);
    let mut client = proxy.client();
    for (request, expected) in [
        ("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
        ("ACL WHOAMI", "$7\r\ndefault\r\n"),
        ("MODULE LIST", "*0\r\n"),
        ("SLOWLOG LEN", ":0\r\n"),
        ("SLOWLOG GET", "*0\r\n"),
        ("SLOWLOG GET x", "-ERR count should be greater than or equal to -1\r\n"),
        ("LATENCY LATEST", "*0\r\n"),
        ("LATENCY HISTORY command", "*0\r\n"),
        ("LATENCY RESET", ":0\r\n"),
        ("CLUSTER INFO", "-ERR This instance has cluster support disabled\r\n"),
        ("CLUSTER SLOTS", "-ERR This instance has cluster support disabled\r\n"),
        ("CLUSTER NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try CLUSTER HELP.\r\n"),
        ("COMMAND GETKEYS EVAL s 0", "*0\r\n"),
        ("COMMAND GETKEYS EVAL s 1 a", "*1\r\n$1\r\na\r\n"),
        ("COMMAND LIST FILTERBY PATTERN xreadg*", "*1\r\n$10\r\nxreadgroup\r\n"),
        ("COMMAND LIST FILTERBY", "-ERR syntax error\r\n"),
        ("COMMAND NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try COMMAND HELP.\r\n"),
    ] {
        assert_eq!(reply_of(&mut client, request), expected, "{request}");
        assert_eq!(reply_of(&mut servers[0].client(), request), expected, "a Redis itself: {request}");
    }
    let last_saves = servers.iter().map(|server| server.client().ask("LASTSAVE\r\n"));
    assert_eq!(Some(client.ask("LASTSAVE\r\n")), last_saves.min());
}

#[test]
fn as_many_commands_are_counted_as_are_told() {
    let mut servers = three();
    let proxy = pool(&servers, &["auto_eject_hosts: true", "server_failure_limit: 1"]).expect_log("server ejected");
    let mut client = proxy.client();
    let count = reply_of(&mut client, "COMMAND COUNT");
    for request in ["COMMAND", "COMMAND LIST", "COMMAND INFO"] {
        let told = reply_of(&mut client, request);
        if request != "COMMAND LIST" {
            assert_eq!(told.lines().next().unwrap()[1..], count.trim_end()[1..], "{request}");
        }
    }
    assert_eq!(count, reply_of(&mut servers[0].client(), "COMMAND COUNT"));
    // Without a server the table is asked.
    servers.iter_mut().for_each(Process::kill);
    for key in 0..30 {
        client.ask(format!("GET {key}\r\n"));
    }
    assert!(client.ask("COMMAND COUNT\r\n").starts_with(':'));
    assert_eq!(reply_of(&mut client, "COMMAND GETKEYS EVAL s 0"), "*0\r\n");
}

#[test]
fn entries_of_all_servers_slow_logs_come_newest_first() {
    let servers = three();
    let mut direct: Vec<_> = servers.iter().map(Process::client).collect();
    for (number, client) in direct.iter_mut().enumerate() {
        assert_eq!(client.ask("CONFIG SET slowlog-log-slower-than 0\r\n"), "+OK");
        assert_eq!(client.ask(format!("GET slow-{number}\r\n")), "$-1");
        assert_eq!(client.ask("CONFIG SET slowlog-log-slower-than -1\r\n"), "+OK");
    }
    let proxy = pool(&servers, &[]);
    let mut client = proxy.client();
    let lengths = direct.iter_mut().map(|one| one.ask("SLOWLOG LEN\r\n")[1..].parse::<usize>().unwrap());
    let sum = lengths.sum::<usize>();
    assert_eq!(client.ask("SLOWLOG LEN\r\n"), format!(":{sum}"));
    let all = reply_of(&mut client, "SLOWLOG GET -1");
    assert!(all.starts_with(&format!("*{sum}\r\n")), "{all}");
    (0..3).for_each(|number| assert!(all.contains(&format!("slow-{number}")), "{all}"));
    assert!(reply_of(&mut client, "SLOWLOG GET 2").starts_with("*2\r\n"));
    assert_eq!(client.ask("SLOWLOG RESET\r\n"), "+OK");
    assert!(direct.iter_mut().all(|one| one.ask("SLOWLOG LEN\r\n") == ":0"));
}

#[test]
fn what_is_told_to_all_is_done_by_all_or_not_said_to_be() {
    let mut servers = three();
    let proxy = pool(&servers, &["on_failure: miss", "auto_eject_hosts: true"]);
    let mut client = proxy.client();
    let mut direct: Vec<_> = servers.iter().map(Process::client).collect();
    for server in &mut direct {
        server.ask("GET nothing\r\n");
        assert!(info(server, "keyspace_misses") > 0);
    }
    assert_eq!(client.ask("CONFIG RESETSTAT\r\n"), "+OK");
    assert!(direct.iter_mut().all(|server| info(server, "keyspace_misses") == 0));
    let library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    client.send(format!("*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n${}\r\n{library}\r\n", library.len()));
    assert_eq!(whole_reply(&mut client), b"$3\r\nlib\r\n");
    // One of them refuses: that is told.
    assert_eq!(direct[1].ask("FUNCTION FLUSH\r\n"), "+OK");
    client.send(format!("*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n${}\r\n{library}\r\n", library.len()));
    assert_eq!(client.line(), "-ERR Library 'lib' already exists");
    assert_eq!(client.ask("FUNCTION DELETE lib\r\n"), "+OK");
    servers[2].kill();
    for request in ["CONFIG RESETSTAT", "SLOWLOG RESET", "FUNCTION FLUSH"] {
        assert!(client.ask(format!("{request}\r\n")).starts_with("-ERR "), "{request}");
    }
}

#[test]
fn what_is_about_one_server_is_refused() {
    let servers = three();
    let proxy = pool(&servers, &[]);
    let mut client = proxy.client();
    for request in [
        "CONFIG SET maxmemory 1",
        "CONFIG REWRITE",
        "DEBUG SLEEP 0",
        "SAVE",
        "BGSAVE",
        "SWAPDB 0 1",
        "MEMORY PURGE",
        "MEMORY DOCTOR",
        "ACL LIST",
        "ACL SETUSER bob",
        "MODULE LOAD x",
        "LATENCY DOCTOR",
        "SHUTDOWN",
        "REPLICAOF NO ONE",
        "CLIENT PAUSE 1",
        "CLIENT UNPAUSE",
    ] {
        let told = client.ask(format!("{request}\r\n"));
        assert!(told.contains("is about one server and is not available"), "{request}: {told}");
    }
}

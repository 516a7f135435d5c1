//! Scripts that were flushed, and those of other pools.

use super::super::support::process::{Process, Proxy, free_port};
use super::connections::pool;
use crate::support::client::Client;

/// The name of `return 7`.
fn load(client: &mut Client) -> String {
    assert_eq!(client.ask("SCRIPT LOAD \"return 7\"\r\n"), "$40");
    client.line()
}

fn is_unknown(client: &mut Client, name: &str, key: &str) -> bool {
    let answer = client.ask(format!("EVALSHA {name} 1 {key}\r\n"));
    assert!(answer == ":7" || answer.starts_with("-NOSCRIPT"), "{answer}");
    answer != ":7"
}

#[test]
fn a_flushed_script_is_gone_until_somebody_loads_it_again() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&servers.each_ref(), &["timeout: 2000"]);
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    let name = load(&mut clients[0]);
    for flush in ["SCRIPT FLUSH", "script flush async", "SCRIPT FLUSH SYNC"] {
        for client in &mut clients {
            for key in ["a", "b", "c", "d"] {
                assert!(!is_unknown(client, &name, key), "before {flush}");
            }
        }
        assert_eq!(clients[0].ask(format!("{flush}\r\n")), "+OK");
        for client in &mut clients {
            for key in ["a", "b", "c", "d"] {
                assert!(is_unknown(client, &name, key), "after {flush}");
            }
        }
        clients[1].send(format!("SCRIPT EXISTS {name}\r\n"));
        assert_eq!((clients[1].line(), clients[1].line()), ("*1".to_owned(), ":0".to_owned()));
        // By itself, or by being run: then every server has it.
        if flush.contains("async") {
            assert_eq!(clients[2].ask("EVAL \"return 7\" 1 a\r\n"), ":7");
        } else {
            load(&mut clients[2]);
        }
    }
    // In one go, and with words that are none of the command's.
    clients[0].send(format!("SCRIPT FLUSH\r\nEVALSHA {name} 1 a\r\n"));
    assert_eq!(clients[0].line(), "+OK");
    assert!(clients[0].line().starts_with("-NOSCRIPT"));
    load(&mut clients[0]);
    assert!(clients[0].ask("SCRIPT FLUSH LATER\r\n").starts_with("-ERR"));
    // A server that forgets behind the proxy's back is told again.
    assert_eq!(servers[0].client().ask("SCRIPT FLUSH\r\n"), "+OK");
    for key in ["a", "b", "c", "d"] {
        assert!(!is_unknown(&mut clients[1], &name, key));
    }
}

#[test]
fn a_flush_is_heard_by_all_workers_and_leaves_other_pools_alone() {
    let servers = [Process::redis(), Process::redis()];
    let ports = [free_port(), free_port()];
    let mut file = "softmiss:\n  workers: 2\n".to_owned();
    for (number, (server, port)) in servers.iter().zip(ports).enumerate() {
        file.push_str(&format!(
            "pool{number}:\n  listen: 127.0.0.1:{port}\n  redis: true\n  timeout: 2000\n  servers:\n    - {}:1\n",
            server.address
        ));
    }
    let proxy = Proxy::with_file(&file, ports[0]);
    let mut other = Client::connect(([127, 0, 0, 1], ports[1]).into());
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    let name = load(&mut clients[0]);
    assert!(is_unknown(&mut other, &name, "a"), "its server was not given it");
    load(&mut other);
    assert_eq!(clients[1].ask("SCRIPT FLUSH\r\n"), "+OK");
    for client in &mut clients {
        assert!(is_unknown(client, &name, "a"));
    }
    assert!(!is_unknown(&mut other, &name, "a"));
    // Whoever had noted it before notes it again.
    for client in &mut clients {
        assert_eq!(client.ask("EVAL \"return 7\" 1 a\r\n"), ":7");
        assert_eq!(servers[0].client().ask("SCRIPT FLUSH\r\n"), "+OK");
        assert!(!is_unknown(client, &name, "a"));
        assert_eq!(client.ask("SCRIPT FLUSH\r\n"), "+OK");
    }
}

/// What is to change all servers is not done while one of them cannot be reached, and is not said to be.
#[test]
fn a_change_of_scripts_that_one_server_did_not_get_is_told_where_failures_are() {
    for (policy, expected) in [("error", "-ERR"), ("miss", "+OK")] {
        let servers = [Process::redis(), Process::redis()];
        let settings = ["timeout: 200", &format!("on_failure: {policy}")];
        let proxy = pool(&servers.each_ref(), &settings).expect_log("server is silent");
        let mut client = proxy.client();
        let name = load(&mut client);
        servers[1].signal("STOP");
        assert!(client.ask("SCRIPT FLUSH\r\n").starts_with(expected), "{policy}");
        let answer = client.ask("SCRIPT LOAD \"return 7\"\r\n");
        let is_told = answer.starts_with("-ERR");
        assert_eq!(is_told, policy == "error", "{answer}");
        if !is_told {
            assert_eq!(client.line(), name);
        }
        let answer = client.ask("RANDOMKEY\r\n");
        assert_eq!(answer.starts_with("-ERR"), policy == "error", "nobody knows whether there is none: {answer}");
    }
}

#[test]
fn a_script_that_says_noscript_itself_is_carried_out_once() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 2000"]);
    let mut client = proxy.client();
    let text = "NOSCRIPT No matching script. Please use EVAL.";
    let script = format!("redis.call('incr',KEYS[1]) return redis.error_reply('{text}')");
    assert_eq!(client.ask(format!("SCRIPT LOAD \"{script}\"\r\n")), "$40");
    let name = client.line();
    for count in 1..4 {
        assert_eq!(client.ask(format!("EVALSHA {name} 1 k\r\n")), format!("-{text}"));
        assert_eq!(client.ask("INCRBY k 0\r\n"), format!(":{count}"));
    }
}

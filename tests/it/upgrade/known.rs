//! What is known of servers, and counted, goes over with the clients.

use std::process::Command;
use std::time::Duration;

use super::{LATE_SUCCESSOR, SOON, Succeeded, is_there, memcached_pool, of_replaceable, redis_pool, replace, state_of};
use crate::reload::{Reloaded, got, loopback, works};
use crate::support::client::Client;
use crate::support::http::{get, post};
use crate::support::process::{Process, free_port, scratch_dir};
use crate::support::wait_until;

#[test]
fn what_is_counted_and_known_of_servers_goes_over() {
    let mut servers = [Process::memcached(), Process::memcached(), Process::memcached()];
    let port = free_port();
    let more = ["auto_eject_hosts: true", "server_failure_limit: 2", "server_retry_timeout: 200", "rejoin: safe"];
    let pools = memcached_pool(port, &[&servers[0], &servers[1], &servers[2]], &more);
    let reloaded = Reloaded::start(port, "", &pools);
    let reloaded = reloaded.expect_log("server ejected").expect_log("server is silent");
    let reloaded = reloaded.expect_log("an ejected server is probed").expect_log("by the operator");
    let mut proxy = Succeeded::of(reloaded);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..90).map(|number| format!("{number}:key")).collect();
    keys.iter().for_each(|key| assert_eq!(client.ask(format!("set {key} 0 0 3\r\nold\r\n")), "STORED"));
    let mut direct = servers[0].client();
    let at_first: Vec<_> = keys.iter().filter(|key| got(&mut direct, key) != "END\r\n").collect();
    assert!(at_first.len() > 10);
    // The first one hangs and misses what is removed; the second one is kept out by the operator.
    servers[0].signal("STOP");
    wait_until("its ejection", SOON, || {
        got(&mut client, at_first[0]);
        proxy.reloaded.proxy.log().iter().any(|line| line.contains("server ejected"))
    });
    at_first.iter().for_each(|key| drop(client.ask(format!("delete {key}\r\n"))));
    let admin = proxy.reloaded.admin;
    assert_eq!(post(admin, "/servers/eject?pool=m&server=b").status, 200);
    let requests = proxy.reloaded.metric("softmiss_pool_requests_total");
    let ejections = proxy.reloaded.metric("softmiss_server_ejections_total");
    assert!(requests > 100.0 && ejections > 0.0);
    proxy.upgrade();
    wait_until("the counts", SOON, || proxy.reloaded.metric("softmiss_pool_requests_total") >= requests);
    assert_eq!(proxy.reloaded.metric("softmiss_pool_requests_total"), requests);
    assert_eq!(proxy.reloaded.metric("softmiss_server_ejections_total"), ejections, "it is not ejected once more");
    let state = |name: &str| state_of(admin, name);
    assert!(!state("a").contains("up") && !state("b").contains("up"), "{} {}", state("a"), state("b"));
    servers[0].signal("CONT");
    wait_until("its return", SOON, || state("a").contains("up"));
    for key in at_first {
        assert_eq!(got(&mut client, key), "END\r\n", "it was removed");
    }
    servers[1].kill();
}

#[test]
fn a_server_that_returns_while_a_successor_starts_is_flushed_once() {
    let redis = [Process::redis(), Process::redis()];
    let (folder, port) = (scratch_dir(), free_port());
    let (program, go) = (folder.join("program"), folder.join("go"));
    let more = ["auto_eject_hosts: true", "server_failure_limit: 1", "server_retry_timeout: 100", "rejoin: flush"];
    let pools = redis_pool(port, &[&redis[0], &redis[1]], &more);
    let reloaded = of_replaceable(&program, port, &[], &pools);
    let admin = reloaded.admin;
    let reloaded = reloaded.expect_log("server ejected").expect_log("server is silent");
    let mut proxy = Succeeded::of(reloaded.expect_log("an ejected server is probed"));
    let (mut client, mut direct) = (proxy.client(), redis[0].client());
    let of_first = (0..100).map(|number| format!("{number}:lock")).find(|key| {
        assert_eq!(client.ask(format!("SET {key} x\r\n")), "+OK");
        direct.ask(format!("DEL {key}\r\n")) == ":1"
    });
    let key = of_first.expect("a key of the first server");
    let state = || get(admin, "/servers").json()["pools"][0]["servers"][0]["state"].as_str().map(str::to_owned);
    redis[0].signal("STOP");
    wait_until("its ejection", SOON, || {
        client.ask(format!("EXISTS {key}\r\n"));
        state().is_some_and(|state| state != "up")
    });
    let real = env!("CARGO_BIN_EXE_softmiss");
    replace(&program, &LATE_SUCCESSOR.replace("GO", go.to_str().expect("a path")).replace("REAL", real));
    std::thread::scope(|scope| {
        let order = scope.spawn(|| post(admin, "/upgrade"));
        proxy.reloaded.proxy.wait_for_log("starting a successor", SOON);
        redis[0].signal("CONT");
        wait_until("its return", SOON, || state().is_some_and(|state| state == "up"));
        assert_eq!(client.ask(format!("SET {key} mine NX\r\n")), "+OK");
        assert_eq!(direct.ask(format!("EXISTS {key}\r\n")), ":1", "it is there");
        std::fs::write(&go, "").expect("a file");
        let answer = order.join().expect("no panic");
        assert_eq!(answer.status, 200, "{answer:?}");
        proxy.is_succeeded_by(answer.json()["pid"].as_u64().expect("a number") as u32);
    });
    assert_eq!(client.ask(format!("SET {key} other NX\r\n")), "$-1");
    // Nor later: what would be done to the server is done once it has been found to be up.
    wait_until("its return", SOON, || state().is_some_and(|state| state == "up"));
    assert_eq!(client.ask(format!("SET {key} other NX\r\n")), "$-1");
}

#[test]
fn statsd_is_told_nothing_twice() {
    let statsd = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    statsd.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let (memcached, port) = (Process::memcached(), free_port());
    let settings = format!("  statsd: {{address: '{}', interval: 100ms}}\n", statsd.local_addr().expect("an address"));
    let reloaded = Reloaded::start(port, &settings, &memcached_pool(port, &[&memcached], &[]));
    let mut proxy = Succeeded::of(reloaded);
    let mut sum = 0;
    let mut hear = |until: &dyn Fn(u64, usize) -> bool| {
        let mut packets = 0;
        while !until(sum, packets) {
            let mut buffer = [0; 9000];
            let Ok(count) = statsd.recv(&mut buffer) else { continue };
            packets += 1;
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let told = text.lines().filter_map(|line| line.strip_prefix("softmiss.m.requests:"));
            sum += told.map(|told| told.trim_end_matches("|c").parse::<u64>().expect("a number")).sum::<u64>();
        }
        sum
    };
    let mut client = proxy.client();
    (0..30).for_each(|_| assert!(works(&mut client, "k")));
    assert_eq!(hear(&|sum, _| sum >= 60), 60);
    proxy.upgrade();
    // Some intervals of the successor's, of which each tells at least its gauges.
    assert_eq!(hear(&|_, packets| packets > 10), 60, "what the process before had told");
    (0..10).for_each(|_| assert!(works(&mut client, "k")));
    assert_eq!(hear(&|sum, _| sum >= 80), 80);
}

#[test]
fn while_clients_go_over_figures_do_not_go_back_and_nobody_else_takes_over() {
    let (redis, memcached) = (Process::redis(), Process::memcached());
    let (port, of_redis) = (free_port(), free_port());
    let pools = memcached_pool(port, &[&memcached], &[]) + &redis_pool(of_redis, &[&redis], &[]);
    let reloaded = Reloaded::start(port, "  drain_timeout: 1200\n", &pools);
    let reloaded = reloaded.expect_log("in the middle of something").expect_log("still coming over");
    let mut proxy = Succeeded::of(reloaded);
    let mut subscriber = Client::connect(loopback(of_redis));
    assert_eq!(subscriber.ask("SUBSCRIBE news\r\n"), "*3");
    let mut client = proxy.client();
    (0..20).for_each(|_| assert!(works(&mut client, "k")));
    let before = proxy.pid;
    let answer = post(proxy.reloaded.admin, "/upgrade");
    let next = answer.json()["pid"].as_u64().expect("a number") as u32;
    let told = || proxy.reloaded.proxy.log();
    wait_until("the successor", SOON, || told().iter().any(|line| line.contains("clients come in here")));
    let mut most = proxy.reloaded.metric("softmiss_pool_requests_total");
    Command::new("kill").args(["-s", "USR2", &next.to_string()]).status().expect("kill");
    let mut looks = 0;
    while is_there(before) {
        assert!(works(&mut client, "k"));
        let now = proxy.reloaded.metric("softmiss_pool_requests_total");
        assert!(now >= most, "{now} behind {most}");
        (most, looks) = (now, looks + 1);
    }
    assert!(looks > 20 && most >= 80.0, "{looks} looks, {most} requests");
    assert!(told().iter().any(|line| line.contains("no upgrade") && line.contains("still coming over")));
    proxy.is_succeeded_by(next);
    proxy.upgrade();
    assert!(works(&mut client, "k"));
}

/// As in a reload: a pool is the same one that listens where it did, whatever it is called.
#[test]
fn a_pool_that_has_another_name_by_then_keeps_its_clients_and_what_its_servers_missed() {
    let servers = [(); 3].map(|()| Process::memcached());
    let port = free_port();
    let more = ["auto_eject_hosts: true", "server_failure_limit: 2", "server_retry_timeout: 200", "rejoin: safe"];
    let pools = memcached_pool(port, &[&servers[0], &servers[1], &servers[2]], &more);
    let usual = ["server ejected", "server is silent", "an ejected server is probed", "by the operator"];
    let reloaded = usual.into_iter().fold(Reloaded::start(port, "", &pools), Reloaded::expect_log);
    let mut proxy = Succeeded::of(reloaded);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..90).map(|number| format!("{number}:key")).collect();
    keys.iter().for_each(|key| assert_eq!(client.ask(format!("set {key} 0 0 3\r\nold\r\n")), "STORED"));
    let mut direct = servers[0].client();
    let at_first: Vec<_> = keys.iter().filter(|key| got(&mut direct, key) != "END\r\n").collect();
    let admin = proxy.reloaded.admin;
    assert_eq!(post(admin, "/servers/eject?pool=m&server=b").status, 200);
    servers[0].signal("STOP");
    wait_until("its ejection", SOON, || {
        got(&mut client, at_first[0]);
        proxy.reloaded.proxy.log().iter().any(|line| line.contains("server ejected") && line.contains("timed out"))
    });
    at_first.iter().for_each(|key| drop(client.ask(format!("delete {key}\r\n"))));
    let requests = proxy.reloaded.metric("softmiss_pool_requests_total");
    proxy.reloaded.write("", &pools.replace("m:\n", "other:\n"));
    proxy.upgrade();
    wait_until("the counts", SOON, || proxy.reloaded.metric("softmiss_pool_requests_total") >= requests);
    let told = get(admin, "/servers").json();
    assert_eq!(told["pools"][0]["name"], "other");
    let state = |name: &str| state_of(admin, name);
    assert!(!state("a").contains("up") && !state("b").contains("up"), "{} {}", state("a"), state("b"));
    servers[0].signal("CONT");
    wait_until("its return", SOON, || state("a").contains("up"));
    for key in at_first {
        assert_eq!(got(&mut client, key), "END\r\n", "it was removed");
    }
}

//! The proxy is started anew while a server is away: what the server missed before must not be believed afterwards.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::{scattered_key, wait_until};

const KEYS: u64 = 200;

/// Two servers, and proxies before them that come one after the other.
struct Scene {
    servers: [Process; 2],
    file: String,
    port: u16,
    state: PathBuf,
}

impl Scene {
    fn new(keeps: bool, more: &[&str]) -> Self {
        let (servers, port, state) = ([Process::memcached(), Process::memcached()], free_port(), scratch_dir());
        let mut file = String::from("softmiss:\n  workers: 2\n");
        if keeps {
            file.push_str(&format!("  state_dir: {}/new\n", state.display()));
        }
        file.push_str(&format!(
            "pool:\n  listen: 127.0.0.1:{port}\n  timeout: 200\n  auto_eject_hosts: true\n  server_failure_limit: 2\n  \
             server_retry_timeout: 300\n"
        ));
        more.iter().for_each(|line| file.push_str(&format!("  {line}\n")));
        file.push_str("  servers:\n");
        let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        addresses
            .iter()
            .zip("ab".chars())
            .for_each(|(address, name)| file.push_str(&format!("   - {address}:1 {name}\n")));
        Self { servers, file, port, state }
    }

    fn proxy(&self) -> Proxy {
        Proxy::with_file(&self.file, self.port).expect_log("server ejected").expect_log("server is silent")
    }

    /// Stores all keys, hangs a server, and stores half of them anew; the proxy that did so, and the keys of that server
    /// that were changed, and that were not.
    fn missed(&self) -> (Proxy, Vec<String>, Vec<String>) {
        let proxy = self.proxy();
        let mut client = proxy.client();
        let keys: Vec<_> = (0..KEYS).map(scattered_key).collect();
        keys.iter().for_each(|key| assert_eq!(set(&mut client, key, "old"), "STORED"));
        let mut direct = self.servers[0].client();
        let (at_home, elsewhere): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| get(&mut direct, key).is_some());
        assert!(at_home.len() > 20 && elsewhere.len() > 20);
        self.servers[0].signal("STOP");
        wait_until("its ejection", Duration::from_secs(5), || {
            get(&mut client, &at_home[0]);
            proxy.log().iter().any(|line| line.contains("server ejected"))
        });
        let (changed, kept) = at_home.split_at(at_home.len() / 2);
        for key in changed {
            // Until this worker has heard of the ejection.
            wait_until("a write elsewhere", Duration::from_secs(5), || set(&mut client, key, "new") == "STORED");
        }
        (proxy, changed.to_vec(), kept.to_vec())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

fn set(client: &mut Client, key: &str, value: &str) -> String {
    client.ask(format!("set {key} 0 0 3\r\n{value}\r\n"))
}

fn get(client: &mut Client, key: &str) -> Option<String> {
    if client.ask(format!("get {key}\r\n")) == "END" {
        return None;
    }
    let value = client.line();
    assert_eq!(client.line(), "END");
    Some(value)
}

fn end(mut proxy: Proxy, signal: &str) {
    proxy.signal(signal);
    proxy.wait(Duration::from_secs(10));
}

/// How many of the keys are old, once the server has its own again; nothing old may be seen before that either.
fn old_after_its_return(proxy: &Proxy, client: &mut Client, changed: &[String], kept: &[String]) -> usize {
    let mut old = 0;
    let mut count =
        |client: &mut Client| old += changed.iter().filter(|key| get(client, key).as_deref() == Some("old")).count();
    let is_back = |proxy: &Proxy| {
        let statistics = proxy.statistics();
        statistics["pool"]["a"]["state"] == "up" && statistics["pool"]["a"]["responses"].as_u64().unwrap_or(0) > 0
    };
    wait_until("its return", Duration::from_secs(5), || {
        count(client);
        kept.iter().for_each(|key| drop(get(client, key)));
        is_back(proxy)
    });
    count(client);
    old
}

#[test]
fn what_a_server_missed_outlives_an_orderly_restart() {
    let scene = Scene::new(true, &["rejoin: safe"]);
    let (proxy, changed, kept) = scene.missed();
    end(proxy, "TERM");
    // It is back before the next proxy looks for it the first time.
    scene.servers[0].signal("CONT");
    let proxy = scene.proxy();
    let mut client = proxy.client();
    assert_eq!(old_after_its_return(&proxy, &mut client, &changed, &kept), 0);
    wait_until("its own keys again", Duration::from_secs(5), || {
        kept.iter().all(|key| get(&mut client, key).as_deref() == Some("old")) // what did not change is still there
    });
    assert!(proxy.log().iter().any(|line| line.contains("taking up what servers missed")));
}

#[test]
fn a_server_that_missed_something_is_flushed_when_the_proxy_died_before_it_was_back() {
    for more in [["rejoin: safe"], ["rejoin: flush"]] {
        let scene = Scene::new(true, &more);
        let (proxy, changed, kept) = scene.missed();
        let file = scene.state.join("new/missed");
        wait_until("a mark", Duration::from_secs(5), || std::fs::metadata(&file).is_ok_and(|file| file.len() > 40));
        end(proxy, "KILL");
        scene.servers[0].signal("CONT");
        let proxy = scene.proxy();
        let mut client = proxy.client();
        assert_eq!(old_after_its_return(&proxy, &mut client, &changed, &kept), 0, "{more:?}");
        let restored = |line: &String| line.contains("server restored") && line.contains("flushed=true");
        assert!(proxy.log().iter().any(restored), "{more:?}: {:?}", proxy.log());
    }
}

#[test]
fn a_server_that_is_not_reached_after_the_start_is_flushed() {
    // Without a folder, and with a file in it that says nothing.
    for keeps in [false, true] {
        let scene = Scene::new(keeps, &["rejoin: safe"]);
        let (proxy, changed, kept) = scene.missed();
        end(proxy, "TERM");
        if keeps {
            std::fs::write(scene.state.join("new/missed"), "softmiss state 1\nand more").unwrap();
        }
        let proxy = scene.proxy().expect_log("not a record of what servers missed");
        let mut client = proxy.client();
        assert_eq!(get(&mut client, &changed[0]), None, "the server hangs");
        scene.servers[0].signal("CONT");
        assert_eq!(old_after_its_return(&proxy, &mut client, &changed, &kept), 0, "a folder: {keeps}");
        assert!(kept.iter().all(|key| get(&mut client, key).is_none()), "it was flushed");
    }
}

#[test]
fn servers_that_are_well_keep_everything_when_the_proxy_is_restarted() {
    for (keeps, signal) in [(true, "TERM"), (true, "KILL"), (false, "TERM"), (false, "KILL")] {
        let scene = Scene::new(keeps, &["rejoin: safe"]);
        let proxy = scene.proxy();
        let mut client = proxy.client();
        let keys: Vec<_> = (0..KEYS).map(scattered_key).collect();
        keys.iter().for_each(|key| assert_eq!(set(&mut client, key, "old"), "STORED"));
        end(proxy, signal);
        let proxy = scene.proxy();
        let mut client = proxy.client();
        let found = keys.iter().filter(|key| get(&mut client, key).is_some()).count();
        assert_eq!(found, keys.len(), "a folder: {keeps}, {signal}");
    }
}

#[test]
fn what_could_not_be_sent_before_the_end_is_kept_too() {
    // The flush was answered OK in the server's place, and the server has not got it when the proxy ends.
    let scene = Scene::new(true, &["rejoin: keep", "on_failure: miss"]);
    let (proxy, changed, kept) = scene.missed();
    assert_eq!(proxy.client().ask("flush_all\r\n"), "OK");
    end(proxy, "TERM");
    scene.servers[0].signal("CONT");
    let proxy = scene.proxy();
    let mut client = proxy.client();
    let all = [changed, kept].concat();
    assert_eq!(old_after_its_return(&proxy, &mut client, &all, &[]), 0);
}

/// A server is away for a time: the lists of the file say so, and what was removed meanwhile it does not hear of.
#[test]
fn a_server_that_had_left_when_the_proxy_ended_is_flushed_when_it_is_back() {
    for signal in ["TERM", "KILL"] {
        let scene = Scene::new(true, &["rejoin: safe"]);
        let without = scene.file.lines().filter(|line| !line.ends_with(" a")).collect::<Vec<_>>().join("\n") + "\n";
        let reload = |proxy: &Proxy, text: &str, times: usize| {
            std::fs::write(&proxy.file, text).expect("the file");
            proxy.signal("HUP");
            let told = || proxy.log().iter().filter(|line| line.contains("configuration reloaded")).count();
            wait_until("the reload", Duration::from_secs(5), || told() == times);
        };
        let proxy = scene.proxy();
        let mut client = proxy.client();
        let keys: Vec<_> = (0..KEYS).map(scattered_key).collect();
        keys.iter().for_each(|key| assert_eq!(set(&mut client, key, "old"), "STORED"));
        reload(&proxy, &without, 1);
        keys.iter().for_each(|key| drop(client.ask(format!("delete {key}\r\n"))));
        if signal == "KILL" {
            let file = scene.state.join("new/missed");
            wait_until("a mark", Duration::from_secs(5), || std::fs::metadata(&file).is_ok_and(|file| file.len() > 40));
        }
        end(proxy, signal);
        let proxy = Proxy::with_file(&without, scene.port);
        reload(&proxy, &scene.file, 1);
        let mut client = proxy.client();
        let old: Vec<_> = keys.iter().filter(|key| get(&mut client, key).is_some()).collect();
        assert!(old.is_empty(), "{} keys that were removed are there, {signal}", old.len());
    }
}

/// Whatever stands in the place of the file, or is in its way: clients are served, and the operator is told.
#[test]
fn what_is_no_record_of_what_servers_missed_keeps_nobody_from_being_served() {
    let scene = Scene::new(true, &["rejoin: safe"]);
    let folder = scene.state.join("new");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("missed");
    let remove = || drop(std::fs::remove_file(&file));
    let is_served = |proxy: &Proxy, told: &str| {
        assert_eq!(set(&mut proxy.client(), "k", "new"), "STORED");
        proxy.wait_for_log(told, Duration::from_secs(5));
    };
    assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo").success());
    is_served(&scene.proxy().expect_log("cannot read what servers missed"), "it is not a file");
    remove();
    std::os::unix::fs::symlink("/dev/zero", &file).expect("a link");
    is_served(&scene.proxy().expect_log("cannot read what servers missed"), "it is not a file");
    remove();
    std::fs::File::create(&file).and_then(|file| file.set_len(1 << 40)).expect("a file");
    is_served(&scene.proxy().expect_log("it is not used"), "or damaged: it is not used");
    // No file may have any bytes.
    remove();
    let mut command = std::process::Command::new("prlimit");
    command.arg("--fsize=0").arg(env!("CARGO_BIN_EXE_softmiss"));
    let proxy = Proxy::started_by(command, &scene.file, scene.port);
    is_served(&proxy.expect_log("cannot keep what servers miss"), "cannot keep what servers miss");
}

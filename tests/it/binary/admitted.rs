//! Who has said who it is, and who has not, while the users change and while another process takes over.

use std::path::Path;
use std::process::Command;

use super::packet::{Ask, NOOP, asked, told};
use crate::clients::{node_program, python};
use crate::reload::{Reloaded, pool};
use crate::support::client::Client;
use crate::support::http::get;
use crate::support::process::{Process, Proxy, free_port, scratch_dir};
use crate::upgrade::Succeeded;

fn auth(said: &[u8]) -> Ask {
    Ask { value: said.to_vec(), ..Ask::new(0x21, "PLAIN") }
}

fn binary(mut client: Client, said: &[u8]) -> Client {
    assert_eq!(asked(&mut client, &auth(said)).status, 0);
    client
}

/// Whether a client of the binary protocol is served.
fn is_served(client: &mut Client) -> bool {
    asked(client, &Ask::new(NOOP, "")).status == 0
}

const RIGHT: &str = "set x 0 0 7\r\nbob one\r\n";

#[test]
fn who_has_said_it_stays_and_who_has_not_is_asked_by_the_newest_users() {
    let (memcached, port, users) = (Process::memcached(), free_port(), scratch_dir().join("users"));
    std::fs::write(&users, "bob:hunter1\n").expect("write");
    let with = format!("sasl: {}", users.display());
    let pools = |more: &[&str]| pool("p", &format!("127.0.0.1:{port}"), &[(memcached.address, "a")], more);
    let proxy = Reloaded::start(port, "", &pools(&[])).expect_log("no user and password");
    let proxy = proxy.expect_log("no colon").expect_log("refused");
    // Before the pool asks.
    let (mut early, mut early_binary) = (proxy.proxy.client(), proxy.proxy.client());
    assert!(is_served(&mut early_binary));
    assert_eq!(early.ask("mn\r\n"), "MN");
    let told_changes = proxy.goes_over("", &pools(&[&with]));
    assert!(told_changes.iter().any(|line| line.contains("sasl")), "{told_changes:?}");
    let mut bob = binary(proxy.proxy.client(), b"\0bob\0hunter1");
    let mut text = proxy.proxy.client();
    assert_eq!(text.ask("set x 0 0 11\r\nbob hunter1\r\n"), "STORED");
    let (mut late, mut late_text) = (proxy.proxy.client(), proxy.proxy.client());
    assert_eq!(asked(&mut late, &auth(b"\0bob\0hunter2")).status, 0x20);
    assert_eq!(late_text.ask("set x 0 0 11\r\nbob hunter2\r\n"), "CLIENT_ERROR authentication failure");
    // A file alone that has changed is a change.
    std::fs::write(&users, "bob:hunter2\n").expect("write");
    assert_eq!(proxy.reload().len(), 1);
    assert_eq!(proxy.reload().len(), 0);
    assert_eq!(asked(&mut late, &auth(b"\0bob\0hunter1")).status, 0x20);
    assert_eq!(asked(&mut late, &auth(b"\0bob\0hunter2")).status, 0);
    assert_eq!(late_text.ask("set x 0 0 11\r\nbob hunter2\r\n"), "STORED");
    for client in [&mut bob, &mut early_binary, &mut late] {
        assert!(is_served(client));
    }
    for client in [&mut early, &mut text, &mut late_text] {
        assert_eq!(client.ask("mn\r\n"), "MN");
    }
    // A file that cannot be used is refused, and the one before stays in force.
    std::fs::write(&users, "hunter3\n").expect("write");
    let refused = crate::support::http::post(proxy.admin, "/reload");
    assert!(
        refused.status == 422 && refused.body.contains("no colon") && !refused.body.contains("hunter"),
        "{refused:?}"
    );
    binary(proxy.proxy.client(), b"\0bob\0hunter2");
    // No password is told anywhere.
    let config = get(proxy.admin, "/config").body;
    assert!(config.contains("sasl: ") && !config.contains("hunter"), "{config}");
    assert_eq!(proxy.metric("softmiss_pool_auth_failures_total"), 3.0);
    let (mut waits, mut waits_text) = (proxy.proxy.client(), proxy.proxy.client());
    assert_eq!(asked(&mut waits, &Ask::new(0x20, "")).value, b"PLAIN");
    assert_eq!(waits_text.ask("mn\r\n"), "CLIENT_ERROR unauthenticated");
    // Nobody is asked any more.
    proxy.goes_over("", &pools(&[]));
    assert!(is_served(&mut waits) && is_served(&mut bob) && is_served(&mut proxy.proxy.client()));
    assert_eq!(waits_text.ask("mn\r\n"), "MN");
    assert_eq!(proxy.proxy.client().ask("mn\r\n"), "MN");
    let log = proxy.proxy.log();
    assert!(!log.iter().any(|line| line.contains("hunter")), "{log:#?}");
    let told = log.iter().filter(|line| line.contains("no user and password that are right")).count();
    assert_eq!(told, 1, "{log:#?}");
}

#[test]
fn another_process_takes_clients_as_they_are_admitted_or_not() {
    let (memcached, port) = (Process::memcached(), free_port());
    let pools = |more: &[&str]| pool("p", &format!("127.0.0.1:{port}"), &[(memcached.address, "a")], more);
    let users = "sasl: [bob:one]";
    let mut proxy = Succeeded::of(
        Reloaded::start(port, "  workers: 2\n  drain_timeout: 60000\n", &pools(&[users]))
            .expect_log("no user and password"),
    );
    let mut known = binary(proxy.client(), b"\0bob\0one");
    let mut known_text = proxy.client();
    assert_eq!(known_text.ask(RIGHT), "STORED");
    let (mut silent, mut silent_text) = (proxy.client(), proxy.client());
    let (mut unknown, mut unknown_text) = (proxy.client(), proxy.client());
    assert_eq!(asked(&mut unknown, &auth(b"\0bob\0two")).status, 0x20);
    assert_eq!(unknown_text.ask("mn\r\n"), "CLIENT_ERROR unauthenticated");
    for _ in 0..2 {
        proxy.upgrade();
        assert!(is_served(&mut known));
        assert_eq!(known_text.ask("mn\r\n"), "MN");
        assert_eq!(asked(&mut unknown, &auth(b"\0bob\0two")).status, 0x20);
        assert_eq!(unknown_text.ask("mn\r\n"), "CLIENT_ERROR unauthenticated");
    }
    // Who says it again is heard as anywhere.
    assert_eq!(asked(&mut known, &auth(b"\0bob\0two")).status, 0x20);
    assert!(!is_served(&mut known) && known.is_closed());
    assert!(!is_served(&mut silent) && silent.is_closed());
    assert_eq!(silent_text.ask("mn\r\n"), "CLIENT_ERROR unauthenticated");
    assert!(!is_served(&mut unknown));
    // Half of what says it is waited for.
    let (mut half, mut half_text) = (proxy.client(), proxy.client());
    let bytes = auth(b"\0bob\0one").bytes();
    half.send(&bytes[..30]);
    half_text.send(&RIGHT[..16]);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let answer = crate::support::http::post(proxy.reloaded.admin, "/upgrade");
    assert_eq!(answer.status, 200, "{answer:?}");
    std::thread::sleep(std::time::Duration::from_millis(300));
    half.send(&bytes[30..]);
    half_text.send(&RIGHT[16..]);
    assert_eq!(told(&mut half).status, 0);
    assert_eq!(half_text.line(), "STORED");
    proxy.is_succeeded_by(answer.json()["pid"].as_u64().expect("a number") as u32);
    assert!(is_served(&mut half));
    assert_eq!(half_text.ask("mn\r\n"), "MN");
    // A pool that asks from here on takes those who were there before.
    proxy.reloaded.write("  workers: 2\n", &pools(&[]));
    proxy.upgrade();
    let mut free = proxy.client();
    assert!(is_served(&mut free));
    proxy.reloaded.write("  workers: 2\n", &pools(&[users]));
    proxy.upgrade();
    assert!(is_served(&mut free) && is_served(&mut half));
    assert!(!is_served(&mut proxy.client()));
}

/// A client that other people have made, with a user and a password that are right, and that are not.
fn client_that_says_it(mut command: impl FnMut() -> Command, what: &str, modules: Option<&str>) {
    let servers: Vec<_> = (0..3).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 2000", "sasl: [bob:secret]"]).expect_log("no user and password");
    for (password, is_right) in [("secret", true), ("wrong", false)] {
        let mut command = command();
        command.args(["127.0.0.1", &proxy.address.port().to_string(), what]).args(modules);
        // What pylibmc brings along looks for the ways to say it elsewhere.
        command.env("SASL_PATH", "/usr/lib/x86_64-linux-gnu/sasl2:/usr/lib/aarch64-linux-gnu/sasl2");
        command.env("SOFTMISS_USER", "bob").env("SOFTMISS_PASSWORD", password);
        let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.ends_with("fine\n"), is_right, "{what}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let counted = proxy.statistics()["pool"]["auth_failures"].as_u64();
    assert!(counted > Some(0), "the wrong password was not said: {counted:?}");
}

#[test]
fn pylibmc_says_who_it_is() {
    client_that_says_it(|| python("ordinary.py"), "pylibmc-binary", None);
}

#[test]
fn memjs_says_who_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("target/node").to_string_lossy().into_owned();
    let node = || {
        let mut command = Command::new(node_program());
        command.arg(root.join("tests/it/clients/memcached_node.mjs"));
        command
    };
    client_that_says_it(node, "memjs", Some(&modules));
}

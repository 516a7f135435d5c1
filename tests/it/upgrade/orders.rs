//! Orders that come while another process takes over: none is lost.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{SOON, Succeeded, memcached_pool, redis_pool, state_of};
use crate::reload::{Reloaded, got, loopback, pool};
use crate::support::bad::{Scripted, read_line};
use crate::support::client::Client;
use crate::support::http::{get, post};
use crate::support::process::{Process, free_port};
use crate::support::wait_until;

/// A pool whose servers nobody tells: a process that starts waits a second for them, between reading its file and serving.
fn of_nobody(silent: &Scripted) -> String {
    format!("w:\n  listen: 127.0.0.1:{}\n  timeout: 400\n  auto_discovery: {}\n", free_port(), silent.address)
}

fn started(port: u16, pools: &str) -> Succeeded {
    let usual = ["not known which servers", "cannot be looked up", "configuration refused", "by the operator"];
    Succeeded::of(usual.into_iter().fold(Reloaded::start(port, "", pools), Reloaded::expect_log))
}

/// Has another process take over, and something done when that one has read its file and does not serve yet.
fn upgrade_and(proxy: &mut Succeeded, meanwhile: impl FnOnce(&Succeeded)) {
    let admin = proxy.reloaded.admin;
    let pid = std::thread::scope(|scope| {
        let order = scope.spawn(move || post(admin, "/upgrade"));
        let starts = || proxy.reloaded.proxy.log().iter().filter(|line| line.contains("softmiss starts")).count();
        wait_until("the successor", SOON, || starts() == 2);
        meanwhile(proxy);
        let answer = order.join().expect("no panic");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["pid"].as_u64().expect("a number") as u32
    });
    proxy.is_succeeded_by(pid);
}

#[test]
fn a_reload_that_comes_while_a_successor_starts_is_in_force_afterwards_or_refused() {
    let (memcached, silent) = (Process::memcached(), Scripted::silent());
    for by_signal in [false, true] {
        let (port, waits) = (free_port(), of_nobody(&silent));
        let pools = |more: &str| memcached_pool(port, &[&memcached], &[more]) + &waits;
        let mut proxy = started(port, &pools("timeout: 1000"));
        let in_force = |proxy: &Succeeded| get(proxy.reloaded.admin, "/config").body.contains("timeout: 900");
        let mut is_refused = false;
        upgrade_and(&mut proxy, |proxy| {
            proxy.reloaded.write("", &pools("timeout: 900"));
            if by_signal {
                Command::new("kill").args(["-s", "HUP", &proxy.pid.to_string()]).status().expect("kill");
            } else {
                let answer = post(proxy.reloaded.admin, "/reload");
                assert!([200, 409].contains(&answer.status), "{answer:?}");
                is_refused = answer.status == 409;
            }
        });
        if by_signal {
            wait_until("the reload", SOON, || in_force(&proxy));
        } else {
            assert!(is_refused || in_force(&proxy), "it was said to be taken up");
        }
    }
}

#[test]
fn servers_that_are_taken_out_or_let_back_while_a_successor_starts_are_so_there() {
    // One of them is never taken out: the last that is up may not be, and who is let back is not up at once.
    let (servers, silent) = ([(); 4].map(|()| Process::memcached()), Scripted::silent());
    let port = free_port();
    let pools = memcached_pool(port, &servers.each_ref(), &[]) + &of_nobody(&silent);
    let mut proxy = started(port, &pools);
    let admin = proxy.reloaded.admin;
    let state = |name: &str| state_of(admin, name);
    let order = |what: &str, server: &str| {
        let answer = post(admin, &format!("/servers/{what}?pool=m&server={server}"));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    order("eject", "a");
    order("eject", "c");
    upgrade_and(&mut proxy, |_| {
        order("restore", "a");
        order("eject", "b");
    });
    wait_until("the return of the first one", SOON, || state("a") == "up");
    assert_eq!([state("b"), state("c")].map(|state| state != "up"), [true; 2]);
}

/// Somebody who keeps a connection to the admin port is not listened to any more by the process that leaves.
#[test]
fn an_order_to_a_process_that_leaves_is_refused_and_whoever_gives_it_connects_anew() {
    let redis = [Process::redis(), Process::redis()];
    let port = free_port();
    let reloaded = Reloaded::start(port, "", &redis_pool(port, &[&redis[0], &redis[1]], &[]));
    let mut proxy = Succeeded::of(reloaded);
    let admin = proxy.reloaded.admin;
    let mut transaction = proxy.client();
    assert_eq!(transaction.ask("MULTI\r\n"), "+OK");
    let mut kept = TcpStream::connect(admin).expect("the admin port");
    let mut ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n");
        kept.write_all(request.as_bytes()).expect("it is there");
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut some = [0; 4096];
            let read = kept.read(&mut some).expect("an answer");
            assert!(read > 0, "closed");
            answer.extend_from_slice(&some[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(ask("POST", "/log?level=debug").starts_with("HTTP/1.1 200"));
    let pid = post(admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
    proxy.reloaded.proxy.wait_for_log("clients come in here", SOON);
    let answer = ask("POST", "/servers/eject?pool=r&server=ra");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("connection: close"), "{answer}");
    assert_eq!((transaction.ask("EXEC\r\n"), transaction.ask("PING\r\n")), ("*0".into(), "+PONG".into()));
    proxy.is_succeeded_by(pid);
}

/// A flush that is on its way when clients go over is not repeated by the successor, which would remove what was written since.
#[test]
fn a_flush_that_a_server_is_about_to_confirm_is_sent_once() {
    let (flushes, is_open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, gate) = (Arc::clone(&flushes), Arc::clone(&is_open));
    let server = Scripted::start(move |mut stream| {
        let mut buffer = Vec::new();
        while let Some(line) = read_line(&mut stream, &mut buffer) {
            let answer: &[u8] = match &line[..] {
                b"flush_all" => match count.fetch_add(1, Ordering::Relaxed) {
                    0 => return, // it was not carried out
                    _ => {
                        wait_until("somebody who lets it go on", SOON, || gate.load(Ordering::Relaxed));
                        b"OK\r\n"
                    }
                },
                b"version" => b"VERSION 1.6.18\r\n",
                _ => b"END\r\n",
            };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let port = free_port();
    let pools = pool("m", &loopback(port).to_string(), &[(server.address, "a")], &["timeout: 10000"]);
    let reloaded = Reloaded::start(port, "", &pools).expect_log("server is silent");
    let mut proxy = Succeeded::of(reloaded.expect_log("server fails"));
    let mut client = proxy.client();
    assert_eq!(client.ask("flush_all\r\n"), "OK");
    client.send("get k\r\n");
    wait_until("the flush once more", SOON, || flushes.load(Ordering::Relaxed) == 2);
    let pid = post(proxy.reloaded.admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
    is_open.store(true, Ordering::Relaxed);
    assert_eq!(String::from_utf8(client.read_through(b"END\r\n")).expect("text"), "END\r\n");
    proxy.is_succeeded_by(pid);
    for client in [&mut client, &mut Client::connect(loopback(port))] {
        assert_eq!(got(client, "k"), "END\r\n");
    }
    assert_eq!(flushes.load(Ordering::Relaxed), 2);
}

//! A process that is told to end, or that runs in the background, while another takes over.

use std::process::Command;

use super::{LATE_SUCCESSOR, SOON, Succeeded, is_there, memcached_pool, of_replaceable, redis_pool, replace};
use crate::reload::{Reloaded, loopback, whole, works};
use crate::support::client::Client;
use crate::support::http::post;
use crate::support::process::{Process, free_port, scratch_dir};
use crate::support::wait_until;

#[test]
fn one_in_the_background_is_succeeded_by_its_signal_and_its_files_follow() {
    let memcached = Process::memcached();
    let (folder, port) = (scratch_dir(), free_port());
    let [file, pid, log] = ["softmiss.yml", "pid", "log"].map(|name| folder.join(name));
    std::fs::write(&file, whole(loopback(free_port()), "", &memcached_pool(port, &[&memcached], &[]))).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
    command.args(["-d", "-s", &free_port().to_string()]);
    command.arg("-c").arg(&file).arg("-p").arg(&pid).arg("-o").arg(&log);
    assert!(command.output().expect("softmiss").status.success());
    let written = || std::fs::read_to_string(&pid).ok().and_then(|text| text.parse::<u32>().ok());
    let first = written().expect("its id");
    let mut client = Client::connect(loopback(port));
    let mut before = first;
    for _ in 0..2 {
        assert!(works(&mut client, "k"));
        assert!(Command::new("kill").args(["-s", "USR2", &before.to_string()]).status().expect("kill").success());
        wait_until("the end of the process before", SOON, || !is_there(before));
        let next = written().expect("its id");
        assert!(next != before && is_there(next));
        before = next;
    }
    assert!(works(&mut client, "k"));
    Command::new("kill").arg(before.to_string()).status().expect("kill");
    wait_until("the end of the last process", SOON, || !is_there(before));
    assert!(!pid.exists());
    let log = std::fs::read_to_string(&log).expect("the log");
    for line in ["starting a successor", "all that the process before this one had has come over", "signal 15"] {
        assert!(log.contains(line), "no {line} in {log}");
    }
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn who_is_told_to_end_while_clients_go_over_ends_when_they_have() {
    let redis = Process::redis();
    for is_successor_told in [false, true] {
        let port = free_port();
        let reloaded = Reloaded::start(port, "", &redis_pool(port, &[&redis], &[]));
        let mut proxy = Succeeded::of(match is_successor_told {
            true => reloaded.expect_log("has not taken over").expect_log("before all of its clients"),
            false => reloaded,
        });
        let [mut idle, mut transaction] = [(); 2].map(|()| proxy.client());
        assert_eq!((idle.ask("PING\r\n"), transaction.ask("MULTI\r\n")), ("+PONG".into(), "+OK".into()));
        let pid = post(proxy.reloaded.admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
        proxy.reloaded.proxy.wait_for_log("clients come in here", SOON);
        assert_eq!(idle.ask("PING\r\n"), "+PONG");
        let told = if is_successor_told { pid } else { proxy.pid };
        Command::new("kill").arg(told.to_string()).status().expect("kill");
        if is_successor_told {
            // Nobody goes on in its place, whether the other hears first that it is to end or that this one has.
            wait_until("the end of both", SOON, || !is_there(pid) && !is_there(proxy.pid));
            continue;
        }
        proxy.reloaded.proxy.wait_for_log("ending when clients have gone over", SOON);
        assert_eq!((idle.ask("PING\r\n"), transaction.ask("PING\r\n")), ("+PONG".into(), "+QUEUED".into()));
        assert_eq!((transaction.ask("EXEC\r\n"), transaction.line()), ("*1".into(), "+PONG".into()));
        proxy.is_succeeded_by(pid);
        assert_eq!((idle.ask("PING\r\n"), transaction.ask("PING\r\n")), ("+PONG".into(), "+PONG".into()));
    }
}

#[test]
fn who_is_told_to_end_leaves_no_successor_that_has_not_served() {
    let memcached = Process::memcached();
    let (folder, port) = (scratch_dir(), free_port());
    let (program, never) = (folder.join("program"), folder.join("never"));
    let reloaded = of_replaceable(&program, port, &[], &memcached_pool(port, &[&memcached], &[]));
    let mut reloaded = reloaded.expect_log("no upgrade");
    let script = LATE_SUCCESSOR.replace("GO", never.to_str().expect("a path"));
    replace(&program, &script.replace("\nuntil", &format!("\necho $$ > '{}/pid'\nuntil", folder.display())));
    let old = reloaded.proxy.id();
    Command::new("kill").args(["-s", "USR2", &old.to_string()]).status().expect("kill");
    let mut pid = 0;
    wait_until("the successor", SOON, || {
        pid = std::fs::read_to_string(folder.join("pid")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        pid > 0
    });
    Command::new("kill").arg(old.to_string()).status().expect("kill");
    assert!(reloaded.proxy.wait(SOON).success());
    wait_until("the end of the successor", SOON, || !is_there(pid));
}

//! Successors that do not serve, or end on the way.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::{
    FALSE_SUCCESSOR, SOON, Succeeded, is_served, memcached_pool, of_program, of_replaceable, redis_pool, replace,
    started_last,
};
use crate::reload::{Reloaded, loopback, pool, whole, works};
use crate::support::client::Client;
use crate::support::http::post;
use crate::support::process::{Process, Proxy, free_port, scratch_dir};
use crate::support::wait_until;

#[test]
fn a_successor_that_does_not_serve_leaves_all_as_it_was() {
    let memcached = Process::memcached();
    let port = free_port();
    let good = memcached_pool(port, &[&memcached], &[]);
    let reloaded = ["no upgrade", "nonsense", "1 problem", "softmiss cannot start"]
        .into_iter()
        .fold(Reloaded::start(port, "", &good), Reloaded::expect_log);
    let mut proxy = Succeeded::of(reloaded);
    let mut client = proxy.client();
    assert!(works(&mut client, "k"));
    proxy.reloaded.write("", &format!("{good}  nonsense: 1\n"));
    for _ in 0..2 {
        let answer = post(proxy.reloaded.admin, "/upgrade");
        assert_eq!(answer.status, 409);
        assert!(answer.body.contains("1 problem") && !answer.body.contains("SIGKILL"), "{answer:?}");
        assert!(works(&mut client, "k") && works(&mut proxy.client(), "new"));
    }
    let written =
        |proxy: &Succeeded| proxy.reloaded.proxy.log().iter().filter(|line| line.contains("nonsense")).count();
    wait_until("what each of them does not understand", SOON, || written(&proxy) == 2);
    // What only shows when it is about to serve is told as well.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let other = pool("other", &address.to_string(), &[(memcached.address, "o")], &[]);
    proxy.reloaded.write("", &format!("{good}{other}"));
    let answer = post(proxy.reloaded.admin, "/upgrade");
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains(&format!("cannot listen on {address}")), "{answer:?}");
    proxy.reloaded.proxy.wait_for_log("softmiss cannot start", SOON);
    assert!(works(&mut client, "k") && works(&mut proxy.client(), "new"));
    proxy.reloaded.write("", &good);
    // Who means another file is told that it is not the one that is read.
    let elsewhere = proxy.reloaded.proxy.file.with_extension("other");
    std::fs::copy(&proxy.reloaded.proxy.file, &elsewhere).expect("a copy");
    let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
    let told = command.arg("-c").arg(&elsewhere).arg("upgrade").output().expect("softmiss");
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("that is what was taken up"), "{told:?}");
    proxy.is_succeeded_by(started_last(&proxy));
    assert!(works(&mut client, "k"));
}

/// A successor that serves does not end for the want of what no client needs.
#[test]
fn a_successor_that_cannot_write_its_pid_file_keeps_the_clients() {
    let (memcached, folder, port) = (Process::memcached(), scratch_dir(), free_port());
    let pid = folder.join("there").join("pid");
    std::fs::create_dir(folder.join("there")).expect("a folder");
    let pools = memcached_pool(port, &[&memcached], &[]);
    let program = folder.join("softmiss");
    let reloaded = of_replaceable(&program, port, &["-p", pid.to_str().expect("a path")], &pools);
    let mut proxy = Succeeded::of(reloaded.expect_log("something is missing that clients do not need"));
    let mut client = proxy.client();
    assert!(works(&mut client, "k"));
    std::fs::remove_dir_all(folder.join("there")).expect("its folder is gone");
    proxy.upgrade();
    assert!(works(&mut client, "k") && works(&mut proxy.client(), "new"));
    proxy.reloaded.proxy.wait_for_log("cannot write the pid file", SOON);
}

#[test]
fn a_successor_that_ends_on_the_way_takes_nobody_with_it_that_it_did_not_have() {
    let memcached = Process::memcached();
    let folder = scratch_dir();
    let real = Path::new(env!("CARGO_BIN_EXE_softmiss"));
    for far in ["ends", "starts", "gets", "takes", "leaves"] {
        let program = folder.join(far);
        std::fs::copy(real, &program).expect("a copy");
        let (port, admin) = (free_port(), loopback(free_port()));
        let file = whole(admin, "  drain_timeout: 600\n", &memcached_pool(port, &[&memcached], &[]));
        let proxy = Proxy::of_program(&program, &file, port);
        wait_until("the admin port", SOON, || std::net::TcpStream::connect(admin).is_ok());
        let mut proxy = Reloaded { proxy, admin };
        for part in ["no upgrade", "the successor has not taken over", "in the middle of something"] {
            proxy = proxy.expect_log(part);
        }
        let mut clients: Vec<Client> = (0..5).map(|_| proxy.proxy.client()).collect();
        clients.iter_mut().for_each(|client| assert!(works(client, "k")));
        let next = folder.join("next");
        std::fs::write(&next, FALSE_SUCCESSOR.replace("HOW FAR", far)).expect("a script");
        std::fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        std::fs::rename(&next, &program).expect("another program");
        let answer = post(admin, "/upgrade");
        assert_eq!(answer.status, if far == "ends" { 409 } else { 200 }, "{far}: {answer:?}");
        if far == "leaves" {
            // They have their time here, though nobody takes them.
            clients.iter_mut().for_each(|client| assert!(works(client, "k")));
            assert!(proxy.proxy.wait(SOON).success());
            continue;
        }
        proxy.proxy.wait_for_log(if far == "ends" { "no upgrade" } else { "has not taken over" }, SOON);
        let lost = clients.iter_mut().map(is_served).filter(|served| !served).count();
        assert_eq!(lost, usize::from(far == "takes"), "{far}");
        assert!(works(&mut proxy.proxy.client(), "new"), "{far}");
        // And the next one takes over.
        std::fs::copy(real, &next).expect("a copy");
        std::fs::rename(&next, &program).expect("another program");
        let mut proxy = Succeeded::of(proxy);
        proxy.upgrade();
        let there = clients.iter_mut().filter_map(|client| is_served(client).then(|| works(client, "k")));
        assert_eq!(there.filter(|works| *works).count(), 5 - lost, "{far}");
    }
}

/// Who installs a new version beside the one before leads a link to it.
#[test]
fn the_successor_is_what_the_link_leads_to_that_the_process_was_started_by() {
    let memcached = Process::memcached();
    let (folder, port) = (scratch_dir(), free_port());
    let (link, next) = (folder.join("program"), folder.join("next"));
    let versions = ["1", "2"].map(|version| folder.join(version));
    for version in &versions {
        std::fs::copy(env!("CARGO_BIN_EXE_softmiss"), version).expect("a copy");
    }
    std::os::unix::fs::symlink(&versions[0], &link).expect("a link");
    let mut proxy = Succeeded::of(of_program(&link, port, &[], &memcached_pool(port, &[&memcached], &[])));
    let runs = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).expect("a process");
    assert_eq!(runs(proxy.reloaded.proxy.id()), versions[0]);
    for version in [&versions[1], &versions[0]] {
        std::os::unix::fs::symlink(version, &next).expect("a link");
        std::fs::rename(&next, &link).expect("another link");
        proxy.upgrade();
        assert_eq!(runs(started_last(&proxy)), *version);
    }
}

#[test]
fn a_client_that_was_taken_is_not_served_twice_though_that_was_not_heard() {
    let memcached = Process::memcached();
    let (folder, port) = (scratch_dir(), free_port());
    let (program, pid) = (folder.join("program"), folder.join("pid"));
    let pools = memcached_pool(port, &[&memcached], &[]);
    let arguments = ["-p", pid.to_str().expect("a path")];
    let proxy = of_replaceable(&program, port, &arguments, &pools).expect_log("has not taken over");
    // Each has sent so much that the successor has ended before the second one has been sent.
    let mut clients = [(); 2].map(|()| proxy.proxy.client());
    let value = "v".repeat(900_000);
    for (client, key) in clients.iter_mut().zip(["a", "b"]) {
        client.send(format!("set {key} 0 0 1000000\r\n{value}"));
    }
    wait_until("what they have sent", SOON, || proxy.metric("softmiss_buffered_bytes") > 1_800_000.0);
    replace(&program, &FALSE_SUCCESSOR.replace("HOW FAR", "takes"));
    std::fs::write(&pid, "the successor's").expect("a file");
    assert_eq!(post(proxy.admin, "/upgrade").status, 200);
    proxy.proxy.wait_for_log("has not taken over", SOON);
    let rest = "v".repeat(100_000);
    let stored = clients.iter_mut().map(|client| {
        let is_sent = client.stream.write_all(format!("{rest}\r\n").as_bytes()).is_ok();
        is_sent && client.try_line().is_some_and(|line| line == "STORED")
    });
    assert_eq!(stored.filter(|stored| *stored).count(), 1);
    wait_until("the id of who serves", SOON, || {
        std::fs::read_to_string(&pid).is_ok_and(|written| written == proxy.proxy.id().to_string())
    });
}

#[test]
fn a_successor_that_is_killed_while_clients_are_busy_leaves_them_and_those_who_come() {
    let redis = Process::redis();
    let port = free_port();
    let reloaded = Reloaded::start(port, "  drain_timeout: 1000\n", &redis_pool(port, &[&redis], &[]));
    let proxy = reloaded.expect_log("the successor has not taken over");
    let [mut idle, mut transaction] = [(); 2].map(|()| proxy.proxy.client());
    assert_eq!((idle.ask("PING\r\n"), transaction.ask("MULTI\r\n")), ("+PONG".into(), "+OK".into()));
    let pid = post(proxy.admin, "/upgrade").json()["pid"].as_u64().expect("a number") as u32;
    proxy.proxy.wait_for_log("clients come in here", SOON);
    assert_eq!(idle.ask("PING\r\n"), "+PONG", "it is served there");
    Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().expect("kill");
    // Nobody comes or goes meanwhile.
    proxy.proxy.wait_for_log("the successor has not taken over", SOON);
    assert!(idle.is_closed());
    assert_eq!((transaction.ask("PING\r\n"), transaction.ask("EXEC\r\n")), ("+QUEUED".into(), "*1".into()));
    assert_eq!(proxy.proxy.client().ask("PING\r\n"), "+PONG");
    let mut proxy = Succeeded::of(proxy);
    proxy.upgrade();
    assert_eq!((transaction.line(), transaction.ask("PING\r\n")), ("+PONG".into(), "+PONG".into()));
}

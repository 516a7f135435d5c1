//! What `check` and the command line do for whoever writes a file: nothing passes that then does not start or cannot work.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::support::http::get;
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

fn softmiss(place: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softmiss")).current_dir(place).args(arguments).output().expect("softmiss")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn pool(name: &str, port: u16) -> String {
    format!("{name}:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['127.0.0.1:9:1']\n")
}

#[test]
fn two_listeners_exclude_each_other_as_the_kernel_has_it() {
    let addresses = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"];
    // Where there is no IPv6, its addresses exclude nothing.
    let is_there = |one: &&str| TcpListener::bind(format!("{one}:0")).is_ok();
    let addresses: Vec<_> = addresses.into_iter().filter(is_there).collect();
    println!("tried: {addresses:?}");
    for one in &addresses {
        for other in &addresses {
            let port = free_port();
            let address = |text: &str| format!("{text}:{port}").parse::<SocketAddr>().expect("an address");
            let _first = TcpListener::bind(address(one)).expect(one);
            let second = TcpListener::bind(address(other));
            let overlap = softmiss::config::overlap(address(one), address(other));
            assert_eq!(overlap, second.is_err(), "{one} and {other}: {second:?}");
        }
    }
}

#[test]
fn the_file_is_found_where_it_is_named_and_where_it_usually_is() {
    let place = scratch_dir();
    for (name, file) in [("own", "softmiss.yml"), ("others", "conf/nutcracker.yml"), ("usual", "conf/softmiss.yml")] {
        // Each is found before those that there were.
        std::fs::create_dir_all(place.join("conf")).expect("a folder");
        std::fs::write(place.join(file), pool(name, 1)).expect("write");
        if file == "softmiss.yml" {
            assert!(said(&softmiss(&place, &["check", "-c", file])).contains("softmiss.yml: ok"));
            assert!(said(&softmiss(&place, &["-c", file, "check"])).contains("softmiss.yml: ok"));
            continue;
        }
        assert!(said(&softmiss(&place, &["check"])).contains(&format!("{file}: ok (1 pool, 1 server)")));
        assert!(said(&softmiss(&place, &["-t"])).contains(&format!("'{file}' syntax is ok")));
        assert!(said(&softmiss(&place, &["route", "k"])).contains(&format!("pool     {name}")));
    }
    let both = said(&softmiss(&place, &["check", "conf/nutcracker.yml", "-c", "softmiss.yml"]));
    assert!(both.contains("conf/nutcracker.yml: ok") && both.contains("softmiss.yml: ok"), "{both}");
    std::fs::remove_dir_all(place).expect("remove");
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_wins() {
    let place = scratch_dir();
    std::fs::write(place.join("a.yml"), pool("a", 1)).expect("write");
    std::fs::write(place.join("b.yml"), pool("b", 1)).expect("write");
    for arguments in [
        &["route", "-c", "a.yml", "-c", "b.yml", "k"][..],
        &["-c", "a.yml", "-c", "b.yml", "route", "k"],
        &["-c", "a.yml", "route", "-c", "b.yml", "k"],
        &["route", "--conf-file", "a.yml", "k", "-cb.yml"],
        &["route", "--pool", "a", "--pool", "b", "-c", "b.yml", "k"],
    ] {
        let told = said(&softmiss(&place, arguments));
        assert!(told.contains("pool     b"), "{arguments:?}: {told}");
    }
    let twice = [
        "-t", "-t", "-d", "-d", "-v", "1", "-v", "2", "-o", "x", "-o", "y", "-s", "1", "-s", "2", "-a", "::1", "-a",
        "[::1]", "--admin", "none", "--admin", "[::1]:9", "-i", "1", "-i", "2", "-p", "x", "-p", "y", "-m", "512",
        "-m", "600", "-c", "no.yml", "-c", "b.yml",
    ];
    let told = softmiss(&place, &twice);
    assert!(said(&told).contains("'b.yml' syntax is ok") && told.status.success(), "{}", said(&told));
    for twice in [["-V", "-V"], ["-D", "-D"]] {
        assert!(softmiss(&place, &twice).status.success(), "{twice:?}");
    }
    // What is a list stays one.
    let servers =
        pool("a", 1).replace("['127.0.0.1:9:1']", "['127.0.0.1:1:1 x', '127.0.0.1:2:1 y', '127.0.0.1:3:1 z']");
    std::fs::write(place.join("a.yml"), servers).expect("write");
    let told = said(&softmiss(&place, &["route", "-c", "a.yml", "--dead", "x", "--dead", "z", "k"]));
    assert!(told.contains("server   y"), "{told}");
    std::fs::remove_dir_all(place).expect("remove");
}

#[test]
fn a_file_that_takes_more_descriptors_than_there_are_is_told_of() {
    let place = scratch_dir();
    let file = pool("a", 1).replace("  timeout", "  server_connections: 200\n  timeout");
    std::fs::write(place.join("a.yml"), file).expect("write");
    let with = |files: &str| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}")).arg(env!("CARGO_BIN_EXE_softmiss")).args(["check", "a.yml"]);
        said(&command.current_dir(&place).output().expect("prlimit"))
    };
    assert!(with("256:256").contains("this host allows a process 256"), "{}", with("256:256"));
    assert!(!with("256:4096").contains("warning"), "the soft limit is raised");
    std::fs::remove_dir_all(place).expect("remove");
}

#[test]
fn a_pool_at_the_usual_place_of_a_port_is_served() {
    let server = Process::memcached();
    // A place of its own for what is usual there cannot be had, so this is only tried where nobody has it.
    let usual = SocketAddr::from(([127, 0, 0, 1], 22223));
    if TcpListener::bind(usual).is_err() {
        println!("not tried: somebody has {usual}");
        return;
    }
    let text = format!("p:\n  listen: {usual}\n  timeout: 400\n  servers: ['{}:1']\n", server.address);
    let place = scratch_dir();
    let (file, log) = (place.join("a.yml"), place.join("log"));
    std::fs::write(&file, text).expect("write");
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .arg("-c")
        .arg(&file)
        .arg("-o")
        .arg(&log)
        .args(["-s", &free_port().to_string()])
        .spawn()
        .expect("softmiss");
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("its start, or its end", Duration::from_secs(10), || {
        told().contains("pool is served") || proxy.try_wait().expect("its state").is_some()
    });
    let ended = proxy.try_wait().expect("its state").is_some();
    let _ = proxy.kill();
    let _ = proxy.wait();
    assert!(!ended && told().contains("the usual address is taken"), "{}", told());
    std::fs::remove_dir_all(place).expect("remove");
}

#[test]
fn names_that_cannot_be_seen_are_shown_wherever_they_are() {
    let server = Process::memcached();
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let text = format!(
        "softmiss:\n  admin: {admin}\n\"a\\nb\":\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers:\n    \
         - \"{}:1 s\\x1b[31m\\r\\n\"\n",
        server.address
    );
    let proxy = Proxy::with_file(&text, port).expect_log("cannot be seen");
    wait_until("the admin port", Duration::from_secs(10), || std::net::TcpStream::connect(admin).is_ok());
    let unseen = |text: &str| text.chars().any(|one| one.is_control() && one != '\n' && one != '\r');
    for path in ["/metrics", "/servers", "/pools", "/config", "/stats", "/route?key=k"] {
        let body = get(admin, path).body;
        assert!(body.contains("31m") && !unseen(&body), "{path}: {body:?}");
    }
    assert!(get(admin, "/metrics").body.contains(r#"pool="a\\x0ab",server="s\\x1b[31m\\x0d\\x0a""#));
    let told = String::from_utf8_lossy(&proxy.client().exchange(b"stats proxy\r\n")).into_owned();
    assert!(told.ends_with("END\r\n") && !unseen(&told), "{told}");
    let route = softmiss(proxy.file.parent().expect("a folder"), &["route", "-c", "softmiss.yml", "k"]);
    assert!(!unseen(&said(&route)), "{:?}", said(&route));
    assert!(!unseen(&proxy.log().join("\n")), "{:?}", proxy.log());
}

//! The log: it keeps nobody waiting, it loses nothing that it need not lose, and its level can be changed.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::http::{get, post};
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

const SOON: Duration = Duration::from_secs(10);

/// A file with an admin port, of one pool before this server.
fn file(server: SocketAddr, admin: SocketAddr, port: u16) -> String {
    format!(
        "softmiss:\n  admin: {admin}\n  stats: none\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  \
         servers: ['{server}:1']\n"
    )
}

#[test]
fn a_log_that_nobody_reads_keeps_no_request_waiting() {
    let server = Process::memcached();
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let path = scratch_dir().join("softmiss.yml");
    std::fs::write(&path, file(server.address, admin, port)).expect("write the file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .arg("-c")
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .expect("softmiss");
    let stderr = child.stderr.take().expect("stderr");
    // The admin port opens before the pools.
    wait_until("softmiss listening", SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let dropped = || -> u64 {
        let text = get(admin, "/metrics").body;
        let line = text.lines().find(|line| line.starts_with("softmiss_log_lines_dropped_total "));
        line.and_then(|line| line.split(' ').nth(1)).and_then(|count| count.parse().ok()).expect("a count")
    };
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(client.ask("set a 0 0 1\r\nx\r\n"), "STORED");
    assert_eq!(dropped(), 0);
    // Each says a line, and nobody reads it: the pipe fills, then the queue. That the port answers at all shows that
    // the one who logs does not wait.
    let start = Instant::now();
    let mut said = 0;
    while dropped() == 0 {
        for _ in 0..250 {
            assert_eq!(post(admin, "/log?level=info").status, 200);
        }
        said += 250;
        assert!(start.elapsed() < Duration::from_secs(60), "{said} lines");
        let (answer, took) = client.ask_timed("mg a\r\n");
        assert_eq!(answer, "HD");
        assert!(took < Duration::from_millis(300), "{took:?}");
    }
    let before = dropped();
    (0..100).for_each(|_| drop(post(admin, "/log?level=info")));
    assert_eq!(dropped(), before + 100);
    // Somebody reads at last.
    let lines = std::thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.collect::<Vec<_>>()
    });
    wait_until("room for more", SOON, || {
        let before = dropped();
        post(admin, "/log?level=info");
        dropped() == before
    });
    std::thread::sleep(Duration::from_millis(100));
    let lost = dropped();
    Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(child.wait().expect("its end").success());
    let lines = lines.join().expect("the reader");
    let told: u64 = lines
        .iter()
        .filter(|line| line.contains("log lines were dropped"))
        .map(|line| line.split("lines=").nth(1).and_then(|count| count.trim().parse::<u64>().ok()).expect("a number"))
        .sum();
    assert_eq!(told, lost, "{:?}", lines.last());
    assert!(lines.last().is_some_and(|line| line.ends_with("ended")), "{:?}", lines.last());
    let _ = std::fs::remove_dir_all(path.parent().expect("a directory"));
}

#[test]
fn its_level_is_changed_over_the_admin_port_and_by_signals() {
    let server = Process::memcached();
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let proxy = Proxy::with_file(&file(server.address, admin, port), port);
    wait_until("the admin port", SOON, || TcpStream::connect(admin).is_ok());
    let answer = post(admin, "/log?level=error").json();
    assert_eq!((&answer["level"], &answer["before"]), (&"error".into(), &"info".into()));
    let tells = |level: &str, before: &str, by: &str| {
        proxy.wait_for_log(&format!("log level is changed level=\"{level}\" before=\"{before}\" by=\"{by}\""), SOON);
    };
    tells("error", "info", "127.0.0.1");
    proxy.signal("TTIN");
    tells("warn", "error", "SIGTTIN");
    proxy.signal("TTOU");
    tells("error", "warn", "SIGTTOU");
    assert_eq!(post(admin, "/log?level=debug").json()["before"], "error");
    tells("debug", "error", "127.0.0.1");
}

#[test]
fn a_file_is_opened_again_and_holds_everything() {
    let server = Process::memcached();
    let (port, admin) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let directory = scratch_dir();
    let (config, log, old) = (directory.join("s.yml"), directory.join("s.log"), directory.join("s.log.1"));
    std::fs::write(&config, file(server.address, admin, port)).expect("write the file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .arg("-c")
        .arg(&config)
        .arg("-o")
        .arg(&log)
        .spawn()
        .expect("softmiss");
    wait_until("softmiss listening", SOON, || TcpStream::connect(admin).is_ok());
    let text = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    wait_until("its first lines", SOON, || text(&log).contains("admin port is served"));
    std::fs::rename(&log, &old).expect("rename");
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().expect("kill").success());
    };
    signal("HUP");
    wait_until("a new file", SOON, || log.exists());
    post(admin, "/log?level=debug");
    signal("TERM");
    assert!(child.wait().expect("its end").success());
    assert!(!text(&old).contains("log level is changed"), "{}", text(&old));
    assert!(text(&log).contains("log level is changed") && text(&log).trim_end().ends_with("ended"), "{}", text(&log));
    std::fs::remove_dir_all(directory).expect("remove");
}

#[test]
fn a_start_that_fails_loses_no_line() {
    let server = Process::memcached();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let path = scratch_dir().join("softmiss.yml");
    let text = file(server.address, admin, taken.local_addr().expect("address").port());
    std::fs::write(&path, text.replace("  timeout: 400\n", "")).expect("write the file");
    let output = Command::new(env!("CARGO_BIN_EXE_softmiss")).arg("-c").arg(&path).output().expect("softmiss");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    let (warning, end) = (told.find("has no `timeout`"), told.find("cannot listen on"));
    assert!(warning.is_some() && warning < end, "{told}");
    std::fs::remove_dir_all(path.parent().expect("a directory")).expect("remove");
}

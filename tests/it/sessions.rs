//! Clients come, go, stop half-way and share connections; none of it touches anybody else.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::support::Random;
use super::support::bad::{Scripted, value_of};
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::script::Stage;
use super::support::wait_until;

#[test]
fn a_client_that_says_no_more_still_gets_its_answers() {
    let server = Scripted::answering(|line| {
        std::thread::sleep(Duration::from_millis(100));
        value_of(line, "late")
    });
    let proxy = Proxy::start(&[server.address], &["timeout: 5000"]);
    let mut client = proxy.client();
    client.send("get a\r\nget b\r\nget unfini");
    client.stream.shutdown(Shutdown::Write).expect("shutdown");
    for key in ["a", "b"] {
        let found = String::from_utf8(client.read_through(b"END\r\n")).expect("text");
        assert_eq!(found, format!("VALUE {key} 0 4\r\nlate\r\nEND\r\n"));
    }
    assert!(client.is_closed());
    assert!(client.rest().is_empty(), "half a request is no request");
}

#[test]
fn a_quit_is_the_last_thing_that_is_read_and_what_came_before_is_answered() {
    let mut stage = Stage::start(3, &["timeout: 5000"]);
    stage.client.send("get <gold>\r\nget <iron>\r\nset <iron> 0 0 1 noreply\r\nx\r\nquit\r\nget <gold>2\r\n");
    stage.servers[1].receive("get <iron>\r\nset <iron> 0 0 1\r\nx\r\n");
    stage.servers[1].answer("END\r\nSTORED\r\n");
    stage.servers[0].receive("get <gold>\r\n");
    stage.servers[0].answer("VALUE <gold> 0 1\r\ng\r\nEND\r\n");
    assert_eq!(stage.client.read_through(b"END\r\nEND\r\n"), b"VALUE <gold> 0 1\r\ng\r\nEND\r\nEND\r\n");
    assert!(stage.client.is_closed());
    assert!(stage.client.rest().is_empty());
    stage.client = stage.proxy.client();
    stage.check_silence("what stands behind a quit");
}

#[test]
fn answers_to_a_client_that_left_go_to_nobody_else() {
    let mut stage = Stage::start(1, &["timeout: 5000"]);
    for requests in ["get <gold>1\r\nget <gold>2 <gold>3\r\n", "mg <gold>4 v k\r\n", "set <gold>5 0 0 1\r\nx\r\n"] {
        let mut leaver = stage.proxy.client();
        leaver.send(requests);
        // Gets leave in one line.
        stage.servers[0].receive(requests.replace("\r\nget ", " "));
        // A plain close might mean that the client still reads.
        super::support::bad::reset(&leaver.stream);
        drop(leaver);
        wait_until("the client gone", Duration::from_secs(5), || {
            stage.proxy.statistics()["pool"]["client_connections"] == 1
        });
        // Whoever connects next may get the same place in the proxy's tables.
        let mut next = stage.proxy.client();
        next.send("get <gold>9\r\n");
        stage.servers[0].receive("get <gold>9\r\n");
        stage.servers[0].answer(match &requests[..2] {
            "ge" => "VALUE <gold>1 0 1\r\n1\r\nVALUE <gold>3 0 1\r\n3\r\nEND\r\n",
            "mg" => "VA 1 k<gold>4\r\n4\r\n",
            _ => "STORED\r\n",
        });
        stage.servers[0].answer("VALUE <gold>9 0 1\r\n9\r\nEND\r\n");
        assert_eq!(next.read_through(b"END\r\n"), b"VALUE <gold>9 0 1\r\n9\r\nEND\r\n", "{requests}");
        stage.check_silence(requests);
    }
}

#[test]
fn clients_that_vanish_at_any_moment_disturb_nobody() {
    let servers: Vec<_> = (0..2).map(|_| Process::memcached()).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::start(&addresses, &["timeout: 5000"]);
    let mut steady = proxy.client();
    let mut random = Random(7);
    let value = "v".repeat(2000);
    // Something for each server: short keys in sequence may all belong to one.
    let both: String = (0..40).map(|number| format!("get {}\r\n", super::support::scattered_key(number))).collect();
    steady.send(both + "mn\r\n");
    steady.read_through(b"MN\r\n");
    let requests: String = (0..40)
        .map(|number| match number % 4 {
            0 => format!("set k{number} 0 0 2000\r\n{value}\r\n"),
            1 => format!("get k{} k{} k{}\r\n", number - 1, number + 3, number + 7),
            2 => format!("mg k{} v q\r\nmn\r\n", number - 2),
            _ => format!("set k{number} 0 0 2000 noreply\r\n{value}\r\nincr n{number} 1\r\n"),
        })
        .collect();
    for turn in 0..300 {
        let mut leaver = proxy.client();
        leaver.send(&requests[..random.below(requests.len() as u64) as usize]);
        match random.below(3) {
            0 => super::support::bad::reset(&leaver.stream),
            1 => {
                let mut some = [0; 100];
                leaver.stream.set_read_timeout(Some(Duration::from_millis(2))).expect("read timeout");
                let _ = leaver.stream.read(&mut some);
            }
            _ => {}
        }
        drop(leaver);
        let (key, value) = (format!("steady{}", turn % 7), format!("value-{turn}"));
        assert_eq!(steady.ask(format!("set {key} 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
        steady.send(format!("get {key}\r\nmn\r\n"));
        let expected = format!("VALUE {key} 0 {}\r\n{value}\r\nEND\r\nMN\r\n", value.len());
        assert_eq!(String::from_utf8(steady.read(expected.len())).expect("text"), expected);
    }
    wait_until("the clients gone", Duration::from_secs(5), || proxy.statistics()["pool"]["client_connections"] == 1);
    let statistics = proxy.statistics();
    for address in addresses {
        let server = &statistics["pool"][address.to_string()];
        assert_eq!(server["server_connections"], 1, "{server}");
        assert_eq!((&server["server_eof"], &server["server_err"]), (&0.into(), &0.into()), "{server}");
        wait_until("every response read", Duration::from_secs(5), || {
            proxy.statistics()["pool"][address.to_string()]["out_queue"] == 0
        });
    }
}

#[test]
fn one_client_keeps_its_order_over_several_connections_to_a_server() {
    let server = Process::memcached();
    let port = free_port();
    for workers in [1, 2] {
        let proxy = Proxy::with_file(
            &format!(
                "softmiss:\n  workers: {workers}\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 5000\n  server_connections: 4\n  servers:\n    - {}:1\n",
                server.address
            ),
            port,
        );
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let mut client = proxy.client();
                std::thread::spawn(move || {
                    for turn in 0..200 {
                        // Each request depends on the one before it.
                        let key = format!("order{number}");
                        client.send(format!(
                            "set {key} 0 0 1\r\n0\r\nincr {key} {turn}\r\nappend {key} 0 0 1\r\n7\r\nget {key}\r\ndelete {key}\r\nget {key}\r\n"
                        ));
                        let seven = format!("{turn}7");
                        let expected = format!(
                            "STORED\r\n{turn}\r\nSTORED\r\nVALUE {key} 0 {}\r\n{seven}\r\nEND\r\nDELETED\r\nEND\r\n",
                            seven.len()
                        );
                        assert_eq!(String::from_utf8(client.read(expected.len())).expect("text"), expected);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client whose requests overtook each other");
        }
    }
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let directory = scratch_dir();
    let (listen, server) = (directory.join("softmiss.sock"), directory.join("memcached.sock"));
    let _memcached = Process::memcached_at(&server);
    let file = directory.join("softmiss.yml");
    std::fs::write(
        &file,
        format!(
            "pool:\n  listen: {} 0600\n  timeout: 2000\n  servers:\n    - {}:1 near\n",
            listen.display(),
            server.display()
        ),
    )
    .expect("write");
    let stats = free_port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .arg("-c")
        .arg(&file)
        .args(["-s", &stats.to_string(), "--admin", "none"])
        .stderr(Stdio::null())
        .spawn()
        .expect("softmiss");
    let mut connected = None;
    wait_until("softmiss listening", Duration::from_secs(10), || {
        connected = UnixStream::connect(&listen).ok();
        connected.is_some()
    });
    let mut client = connected.expect("connected");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("read timeout");
    client.write_all(b"set a 0 0 5\r\nhello\r\nget a b\r\n").expect("send");
    let expected = b"STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n";
    let mut found = vec![0; expected.len()];
    client.read_exact(&mut found).expect("read");
    assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(expected));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&listen).expect("the socket").permissions());
    assert_eq!(mode & 0o777, 0o600);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn with_several_connections_a_client_still_reads_its_own_writes() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["server_connections: 4"]);
    let threads: Vec<_> = (0..8)
        .map(|name| {
            let mut client = proxy.client();
            std::thread::spawn(move || {
                for round in 0..300 {
                    // Some without an answer, all in one write: on two connections they could overtake each other.
                    let key = format!("c{name}");
                    client.send(format!(
                        "set {key} 0 0 4 noreply\r\n{round:04}\r\nget {key}\r\nappend {key} 0 0 1\r\nx\r\nget {key}\r\n\
                         ms {key} 1 q\r\ny\r\nmg {key} v\r\n"
                    ));
                    let expected = format!(
                        "VALUE {key} 0 4\r\n{round:04}\r\nEND\r\nSTORED\r\nVALUE {key} 0 5\r\n{round:04}x\r\nEND\r\nVA 1\r\ny\r\n"
                    );
                    let found = client.read(expected.len());
                    assert_eq!(String::from_utf8_lossy(&found), expected, "client {name}, round {round}");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a client"));
    let used = proxy.statistics()["pool"][server.address.to_string()]["server_connections"].as_u64();
    assert!(used > Some(1) && used <= Some(4), "{used:?} connections are open");
}

//! Clients that leave while a server hangs and nothing limits how long they may wait.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::support::bad::Scripted;
use super::support::process::{Process, Proxy, free_port, scratch_dir};
use super::support::wait_until;

/// Longer than a client that has left is kept.
const LONG: Duration = Duration::from_secs(9);

fn without_timeout(servers: &[std::net::SocketAddr]) -> Proxy {
    Proxy::start(servers, &["timeout: 0"]).expect_log("has no `timeout`")
}

fn clients(proxy: &Proxy) -> u64 {
    proxy.statistics()["pool"]["client_connections"].as_u64().expect("a number")
}

#[test]
fn clients_that_left_are_closed_though_the_server_hangs() {
    let server = Scripted::silent();
    let proxy = without_timeout(&[server.address]);
    let mut stays = proxy.client();
    stays.send("get a\r\n");
    for number in 0..20 {
        let mut client = proxy.client();
        // Some have asked for more than is carried out at a time, so that their end is not read.
        client.send("get a\r\n".repeat(if number % 2 == 0 { 1 } else { 5000 }));
    }
    wait_until("those who left closed", LONG, || clients(&proxy) == 1);
    let open = std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).expect("a running proxy").count();
    assert!(open < 40, "{open} descriptors");
    stays.stream.set_nonblocking(true).expect("not to wait");
    let kind = stays.stream.peek(&mut [0]).expect_err("still waiting").kind();
    assert_eq!(kind, std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_client_that_reset_its_connection_is_closed_at_once() {
    let server = Scripted::silent();
    let proxy = without_timeout(&[server.address]);
    let mut client = proxy.client();
    client.send("get a\r\n");
    wait_until("it is served", Duration::from_secs(5), || proxy.statistics()["pool"]["requests"] == 1);
    client.stream.shutdown(Shutdown::Write).expect("half closed");
    wait_until("its end read", Duration::from_secs(5), || proxy.statistics()["pool"]["client_eof"] == 2);
    assert_eq!(clients(&proxy), 1, "it may be listening");
    super::support::bad::reset(&client.stream);
    drop(client);
    wait_until("it is closed", Duration::from_secs(2), || clients(&proxy) == 0);
}

#[test]
fn a_client_of_a_unix_socket_that_left_is_closed_at_once_and_one_that_listens_is_not() {
    let server = Scripted::silent();
    let (path, port) = (scratch_dir().join("s.sock"), free_port());
    let pool = |name: &str, listen: &str| {
        format!("{name}:\n  listen: {listen}\n  timeout: 0\n  servers: ['{}:1']\n", server.address)
    };
    let file = pool("unix", &format!("{} 0600", path.display())) + &pool("pool", &format!("127.0.0.1:{port}"));
    let proxy = Proxy::with_file(&file, port).expect_log("has no `timeout`");
    let count = || proxy.statistics()["unix"]["client_connections"].as_u64();
    let [leaves, mut listens] = [(); 2].map(|()| {
        let mut client = UnixStream::connect(&path).expect("connect");
        client.write_all(b"get a\r\n").expect("a request");
        client
    });
    listens.shutdown(Shutdown::Write).expect("half closed");
    wait_until("both served", Duration::from_secs(5), || proxy.statistics()["unix"]["requests"] == 2);
    drop(leaves);
    wait_until("one is closed", Duration::from_secs(2), || count() == Some(1));
    // The other one only when nothing has moved for a while.
    let start = Instant::now();
    assert_eq!(listens.read(&mut [0]).expect("the end"), 0);
    assert!(start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_client_that_only_listens_gets_its_answers_however_slowly_they_come() {
    // Each answer takes longer than half of what a silent client is kept for, all of them longer than that.
    let slow = Scripted::answering(|_| {
        std::thread::sleep(Duration::from_millis(2700));
        b"TOUCHED\r\n".to_vec()
    });
    let proxy = without_timeout(&[slow.address]);
    let mut client = proxy.client();
    client.send("touch a 1\r\ntouch b 1\r\ntouch c 1\r\n");
    client.stream.shutdown(Shutdown::Write).expect("half closed");
    (0..3).for_each(|_| assert_eq!(client.line(), "TOUCHED"));
    assert!(client.is_closed());
}

#[test]
fn what_a_client_sent_before_it_left_is_carried_out() {
    let server = Process::memcached();
    let proxy = without_timeout(&[server.address]);
    let mut client = proxy.client();
    let sets: String = (0..20_000).map(|number| format!("set k{number} 0 0 1 noreply\r\nv\r\n")).collect();
    client.send(sets);
    drop(client);
    let mut other = server.client();
    wait_until("the last one stored", LONG, || other.exchange(b"get k19999\r\n").starts_with(b"VALUE"));
}

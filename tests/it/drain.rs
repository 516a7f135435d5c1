//! The end: what has been read is answered, then the program ends well.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::support::bad::{Scripted, value_of};
use super::support::process::{Proxy, free_port};

#[test]
fn signals_to_end_answer_what_was_read_and_end_with_success() {
    for signal in ["TERM", "INT"] {
        // Answers after a while, so that requests are in flight when the signal comes.
        let server = Scripted::answering(|line| {
            std::thread::sleep(Duration::from_millis(150));
            value_of(line, "late")
        });
        let mut proxy = Proxy::start(&[server.address], &["timeout: 2000"]);
        let mut idle = proxy.client();
        let mut busy = proxy.client();
        busy.send("get a\r\nget b\r\nget c\r\n");
        super::support::wait_until("the requests read", Duration::from_secs(2), || {
            proxy.statistics()["pool"]["requests"] == 3
        });
        let asked = Instant::now();
        proxy.signal(signal);
        for key in ["a", "b", "c"] {
            let answer = String::from_utf8(busy.read_through(b"END\r\n")).expect("text");
            assert_eq!(answer, format!("VALUE {key} 0 4\r\nlate\r\nEND\r\n"));
        }
        assert!(busy.is_closed());
        assert!(idle.is_closed());
        let status = proxy.wait(Duration::from_secs(5));
        assert!(status.success(), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert!(TcpStream::connect(proxy.address).is_err(), "nobody listens any more");
    }
}

#[test]
fn a_server_that_hangs_does_not_keep_the_program_from_ending() {
    let server = Scripted::silent();
    let mut proxy = Proxy::start(&[server.address], &["timeout: 0"]).expect_log("has no `timeout`");
    let mut client = proxy.client();
    client.send("get a\r\n");
    super::support::wait_until("the request read", Duration::from_secs(2), || {
        proxy.statistics()["pool"]["requests"] == 1
    });
    let asked = Instant::now();
    proxy.signal("TERM");
    assert!(proxy.wait(Duration::from_secs(8)).success());
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
}

#[test]
fn how_long_the_end_may_take_is_an_option_and_a_second_signal_ends_at_once() {
    let server = Scripted::silent();
    let start = |limit: &str| {
        let port = free_port();
        let at = server.address;
        let file = format!(
            "softmiss:\n  drain_timeout: {limit}\npool:\n  listen: 127.0.0.1:{port}\n  timeout: 60s\n  stall_detection: \
             false\n  servers: ['{at}:1']\n"
        );
        let proxy = Proxy::with_file(&file, port);
        let mut client = proxy.client();
        client.send("get a\r\n");
        super::support::wait_until("the request read", Duration::from_secs(2), || {
            proxy.statistics()["pool"]["requests"] == 1
        });
        (proxy, client)
    };
    let (mut proxy, mut client) = start("300ms");
    let asked = Instant::now();
    proxy.signal("TERM");
    assert!(proxy.wait(Duration::from_secs(5)).success());
    assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&asked.elapsed()), "{:?}", asked.elapsed());
    assert!(client.is_closed());
    for signals in [["TERM", "TERM"], ["INT", "TERM"], ["TERM", "INT"]] {
        let (mut proxy, _client) = start("1h");
        proxy.signal(signals[0]);
        proxy.wait_for_log("draining", Duration::from_secs(5));
        proxy.signal(signals[1]);
        assert!(proxy.wait(Duration::from_secs(5)).success());
    }
}

#[test]
fn nothing_is_taken_up_by_one_that_ends() {
    let (server, port, admin) = (Scripted::silent(), free_port(), free_port());
    let at = server.address;
    let file = |timeout: u32| {
        format!(
            "softmiss: {{drain_timeout: 1h, admin: '127.0.0.1:{admin}'}}\npool:\n  listen: 127.0.0.1:{port}\n  timeout: \
             {timeout}s\n  stall_detection: false\n  servers: ['{at}:1']\n"
        )
    };
    let mut proxy = Proxy::with_file(&file(60), port).expect_log("configuration refused");
    let mut client = proxy.client();
    client.send("get a\r\n");
    super::support::wait_until("the request read", Duration::from_secs(2), || {
        proxy.statistics()["pool"]["requests"] == 1
    });
    proxy.signal("TERM");
    proxy.wait_for_log("draining", Duration::from_secs(5));
    std::fs::write(&proxy.file, file(50)).expect("write");
    let answer = super::support::http::post(([127, 0, 0, 1], admin).into(), "/reload");
    assert_eq!((answer.status, answer.body.as_str()), (409, "this process ends, and takes up nothing more\n"));
    proxy.signal("TERM");
    assert!(proxy.wait(Duration::from_secs(5)).success());
}

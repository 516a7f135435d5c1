//! What the log says, and that every line of it can be taken apart ([`super::support::process::Proxy`] looks at the lines of
//! every test).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use super::support::bad::Scripted;
use super::support::http::{get, post};
use super::support::logfmt::{self, Line};
use super::support::process::{Process, Proxy, free_port};
use super::support::{scattered_key, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn lines(proxy: &Proxy, message: &str) -> Vec<Line> {
    let all = proxy.log().into_iter().map(|line| logfmt::parse(&line).expect("a line"));
    all.filter(|line| line.message == message).collect()
}

/// The only line with this message, once it is there.
fn line(proxy: &Proxy, message: &str) -> Line {
    wait_until(message, SOON, || !lines(proxy, message).is_empty());
    lines(proxy, message).pop().expect("a line")
}

/// What is answered first.
fn first_bytes(address: SocketAddr, request: &[u8]) -> String {
    let mut client = TcpStream::connect(address).expect("connect");
    client.write_all(request).expect("write");
    let mut answer = [0; 256];
    let count = client.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[test]
fn the_reader_of_lines_forgives_nothing() {
    let time = "2026-01-02T03:04:05.000006Z";
    let good = logfmt::parse(&format!("{time}  INFO a b c=1 d=\"x \\\" = \\u001b\" e=\"\"")).expect("a line");
    assert_eq!((good.message.as_str(), good.get("d"), good.get("e")), ("a b", Some("x \" = \u{1b}"), Some("")));
    for bad in [
        "a b=",
        "a b=c d",
        "a b=c=d",
        "a b=\"c",
        "a b=\"c\"d",
        "a \"b\"",
        "a b=1 b=2",
        "a b=c ",
        "b=1",
        "a B=1",
        "a b=c\u{1b}",
    ] {
        assert!(logfmt::parse(&format!("{time}  INFO {bad}")).is_err(), "{bad}");
    }
    assert!(logfmt::parse("softmiss: no").is_err());
}

#[test]
fn everything_that_happens_in_an_outage_is_said_in_lines_that_can_be_read() {
    let mut servers = [Process::memcached(), Process::memcached(), Process::redis()];
    let liar = Scripted::answering(|_| b"what \"did = you\\ say\x1b\r\n".to_vec());
    let (port, redis, third, admin) =
        (free_port(), free_port(), free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let [one, two, three] = servers.each_ref().map(|server| server.address);
    let how = "timeout: 400\n  auto_eject_hosts: true\n  server_failure_limit: 1\n  server_retry_timeout: 400\n";
    let text = format!(
        "softmiss:\n  admin: {admin}\n  slow_request: 1ms\n\
         \"a = \\\"b\\\"\":\n  listen: 127.0.0.1:{port}\n  client_connections: 3\n  {how}  rejoin: safe\n  servers:\n    \
         - '{one}:1 one=\"1\"'\n    - {two}:1 two\n\
         redis:\n  listen: 127.0.0.1:{redis}\n  redis: true\n  {how}  redis_auth: a=\"b c\"\n  servers: ['{three}:1']\n\
         liar:\n  listen: 127.0.0.1:{third}\n  {how}  servers: ['{}:1 liar']\n",
        liar.address
    );
    let mut proxy = Proxy::with_file(&text, port).expect_log("WARN");
    wait_until("the admin port", SOON, || TcpStream::connect(admin).is_ok());
    let start = line(&proxy, "softmiss starts");
    assert!(
        logfmt::parse(&proxy.log()[0]).is_ok_and(|first| first.message == "softmiss starts"),
        "{:?}",
        proxy.log()[0]
    );
    let named = |key: &str| start.get(key).unwrap_or_else(|| panic!("no {key}: {start:?}"));
    assert_eq!((named("version"), named("pid")), (env!("CARGO_PKG_VERSION"), proxy.id().to_string().as_str()));
    assert_eq!((named("file"), named("pools")), (proxy.file.to_str().expect("a name"), "a = \"b\",redis,liar"));
    let metric = format!("softmiss_config_info{{version=\"{}\"}} 1\n", named("digest"));
    assert!(get(admin, "/metrics").body.contains(&metric), "{metric}");

    assert!(line(&proxy, "statistics are served").get("listen").is_some_and(|at| at.starts_with("127.0.0.1:")));

    // An outage: refused, then hanging, then back.
    let mut client = proxy.client();
    let ask = |client: &mut super::support::client::Client| {
        (0..20).for_each(|number| drop(client.ask(format!("get {}\r\n", scattered_key(number)))));
    };
    ask(&mut client);
    servers[0].kill();
    wait_until("an ejection", SOON, || {
        ask(&mut client);
        !lines(&proxy, "server ejected").is_empty()
    });
    servers[0] = Process::memcached_on(one.port());
    let back = line(&proxy, "server restored");
    assert_eq!((back.get("server"), back.get("restarted")), (Some("one=\"1\""), Some("true")));
    servers[1].signal("STOP");
    wait_until("another ejection", SOON, || {
        ask(&mut client);
        lines(&proxy, "server ejected").iter().any(|line| line.get("server") == Some("two"))
    });
    servers[1].signal("CONT");
    // Reasons of several words are one value, and the name with all its marks is as it was written.
    let ejected = lines(&proxy, "server ejected");
    let reasons: Vec<_> = ejected.iter().filter_map(|line| line.get("reason")).collect();
    assert!(reasons.contains(&"connection refused") || reasons.contains(&"closed by the server"), "{reasons:?}");
    assert!(reasons.contains(&"timed out"), "{reasons:?}");
    assert!(ejected.iter().all(|line| line.get("pool") == Some("a = \"b\"")), "{ejected:?}");

    // Servers that lie and refuse, clients that are too many, an operator.
    let at = |port: u16| super::support::client::Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    at(third).ask("get a\r\n");
    let text = first_bytes(SocketAddr::from(([127, 0, 0, 1], redis)), b"AUTH \"a=\\\"b c\\\"\"\r\n");
    assert!(text.starts_with('+') || text.starts_with('-'), "{text}");
    let many: Vec<_> = (0..6).map(|_| TcpStream::connect(proxy.address).expect("connect")).collect();
    line(&proxy, "client_connections reached, further clients are turned away");
    drop(many);
    for path in
        ["/servers/drain?pool=redis&force=1", "/servers/restore?pool=redis", "/log?level=debug", "/flush_all?pool=liar"]
    {
        let path = if path.contains("redis") { format!("{path}&server={three}") } else { path.to_owned() };
        post(admin, &path);
    }
    for signal in ["HUP", "USR1", "TTIN", "TTOU"] {
        proxy.signal(signal);
    }
    line(&proxy, "signal 1 (SIGHUP) received, reopening log file");
    line(&proxy, "signal 10 (SIGUSR1) received, reopening log file");
    line(&proxy, "slow request");
    let broken = line(&proxy, "server broke the protocol, connection closed");
    assert_eq!(broken.get("violation"), Some("a line that answers no such request"));
    line(&proxy, "server refuses what a connection needs");
    line(&proxy, "configuration read again, nothing has changed"); // a process that ends refuses to
    proxy.signal("TERM");
    assert!(proxy.wait(SOON).success());
    line(&proxy, "signal 15 (SIGTERM) received, draining");
    line(&proxy, "ended");
}

#[test]
fn a_server_that_answers_and_does_nothing_is_told_with_what_it_says() {
    for (says, reason) in [
        (&b"-LOADING Redis is loading the dataset in memory\r\n"[..], "server not ready"),
        (b"-READONLY You can't write against a read only replica.\r\n", "server takes no writes"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "server out of memory"),
    ] {
        let server = Scripted::answering(move |line| if line.starts_with(b"v") { says.to_vec() } else { Vec::new() });
        let proxy = Proxy::start(&[server.address], &["redis: true", "on_failure: miss"]).expect_log("flush_all");
        for _ in 0..5 {
            first_bytes(proxy.address, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
        }
        let told = line(&proxy, "server answers, but does not do what it is asked");
        assert_eq!((told.get("reason"), told.get("requests")), (Some(reason), Some("1")));
        assert_eq!(told.get("server"), Some(server.address.to_string().as_str()));
        assert_eq!(lines(&proxy, "server answers, but does not do what it is asked").len(), 1, "{reason}");
    }
}

#[test]
fn whether_a_server_was_restarted_is_said_only_where_it_is_known() {
    for (policy, redis) in [("keep", true), ("flush", true), ("keep", false), ("flush", false)] {
        let mut server = if redis { Process::redis() } else { Process::memcached() };
        let port = server.address.port();
        let (protocol, rejoin) = (format!("redis: {redis}"), format!("rejoin: {policy}"));
        let more = [
            "auto_eject_hosts: true",
            "server_failure_limit: 1",
            "server_retry_timeout: 400",
            "timeout: 400",
            &protocol,
            &rejoin,
        ];
        let proxy = Proxy::start(&[server.address], &more).expect_log("server ejected");
        let get = || drop(first_bytes(proxy.address, b"get k\r\n"));
        get();
        server.kill();
        wait_until("its ejection", SOON, || {
            get();
            !lines(&proxy, "server ejected").is_empty()
        });
        server = if redis { Process::redis_with(port, &[]) } else { Process::memcached_on(port) };
        let back = line(&proxy, "server restored");
        assert_eq!(back.get("restarted"), Some("unknown"), "{policy}, {redis}");
        drop(server);
    }
}

#[test]
fn clients_of_other_protocols_are_named_once_in_a_while() {
    let (memcached, redis) = (Process::memcached(), Process::redis());
    let pools = [Proxy::start(&[memcached.address], &[]), Proxy::start(&[redis.address], &["redis: true"])];
    // It is spoken from the first byte on, or not at all.
    let binary = [&b"mn\r\n\x80\x0a"[..], &[0; 22]].concat();
    let hello = [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &[0xaa; 500]].concat();
    let http = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let array = b"*1\r\n$4\r\nPING\r\n".to_vec();
    for (pool, speaks, request) in [
        (0, "memcached's binary protocol", &binary),
        (0, "HTTP", &http),
        (0, "TLS", &hello),
        (0, "Redis", &array),
        (1, "HTTP", &http),
        (1, "TLS", &hello),
    ] {
        let proxy = &pools[pool];
        let told = || -> Vec<Line> {
            let lines = lines(proxy, "client speaks what is not spoken here");
            lines.into_iter().filter(|line| line.get("speaks") == Some(speaks)).collect()
        };
        let mut first = TcpStream::connect(proxy.address).expect("connect");
        let from = first.local_addr().expect("an address").to_string();
        first.write_all(request).expect("write");
        wait_until(speaks, SOON, || told().len() == 1);
        assert_eq!(told()[0].get("address"), Some(from.as_str()));
        assert_eq!(told()[0].get("spoken"), Some(if pool == 0 { "memcached" } else { "redis" }));
        let _ = first.shutdown(std::net::Shutdown::Write);
        // More of them are counted, not told: the answer shows that they have been dealt with.
        for _ in 0..5 {
            let mut more = TcpStream::connect(proxy.address).expect("connect");
            more.write_all(request).expect("write");
            let _ = more.shutdown(std::net::Shutdown::Write);
            let _ = more.read_to_end(&mut Vec::new());
        }
        assert_eq!(told().len(), 1, "{speaks}");
    }
}

#[test]
fn a_signal_that_ends_the_process_at_once_leaves_a_line() {
    let server = Process::memcached();
    for (signal, told) in [
        ("ABRT", "signal 6 (SIGABRT) received, the process ends at once"),
        ("QUIT", "signal 3 (SIGQUIT) received, the process ends at once"),
    ] {
        let mut proxy = Proxy::start(&[server.address], &[]).expect_log("the process ends at once");
        proxy.signal(signal);
        assert_eq!(proxy.wait(SOON).signal(), Some(6));
        assert_eq!(line(&proxy, told).level, "ERROR");
    }
}

//! HTTP requests on the ports of pools: a scraper that has the wrong port, a web page that posts to loopback. The client
//! is closed, and nothing of what it said is carried out.

use super::support::client::Client;
use super::support::process::{Process, Proxy};
use super::support::script::show;
use super::support::wait_until;
use std::time::Duration;

/// What the body of a request would do: once in the middle of other lines, once at its very start.
const MEMCACHED: &str = "set pwned 0 0 1\r\nx\r\nset pwned 0 0 1 noreply\r\nx\r\nflush_all\r\n";
const REDIS: &str = "SET pwned 1\r\nFLUSHALL\r\n*3\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\nx\r\n";

/// Requests as browsers, scrapers and scripts make them, with this body.
fn requests(body: &str) -> Vec<String> {
    let mut all = Vec::new();
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "CONNECT"] {
        let length = body.len();
        for head in [
            format!(
                "{method} / HTTP/1.1\r\nHost: 127.0.0.1:11211\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
            ),
            format!("{method} /index.html?a=1 HTTP/1.0\r\nAccept: */*\r\nContent-Length: {length}\r\n\r\n"),
            format!("\r\n\r\n{method} / HTTP/1.1\r\nhost: x\r\n\r\n"),
            format!(
                "{method} /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n\
                 Content-Disposition: form-data; name=\"a\"\r\n\r\n"
            ),
            format!("{method} http://127.0.0.1:11211/ HTTP/1.1\nHost: x\n\n"),
        ] {
            all.push(format!("{head}{body}"));
            all.push(format!("{}{body}", head.to_lowercase()));
        }
    }
    // Header lines alone, and a request line that is longer than any command.
    all.push(format!("Host: x\r\n\r\n{body}"));
    all.push(format!("Content-Type: text/plain\r\n\r\n{body}"));
    all.push(format!("POST /{} HTTP/1.1\r\n\r\n{body}", "a".repeat(100_000)));
    all.push(format!("POST / HTTP/1.1\r\nCookie: {}\r\n\r\n{body}", "a".repeat(100_000)));
    all
}

/// What of a request must be closed without a word: when its first line already tells it.
fn is_told_at_once(request: &str) -> bool {
    !request.starts_with("\r\n")
        && !request.starts_with("GET")
        && request.starts_with(|first: char| first.is_uppercase())
}

/// Sends each request whole, and in two pieces; the client must be closed.
fn closes(proxy: &Proxy, request: &str, cut: usize) -> Vec<u8> {
    let mut client = proxy.client();
    client.stream.set_nodelay(true).unwrap();
    // The proxy may close before all has been sent.
    for piece in [&request[..cut], &request[cut..]] {
        let _ = std::io::Write::write_all(&mut client.stream, piece.as_bytes());
        std::thread::yield_now();
    }
    assert!(client.is_closed(), "cut at {cut}: {}", show(request.as_bytes()));
    client.rest().to_vec()
}

fn each_is_closed(proxy: &Proxy, body: &str, mut check: impl FnMut(&str)) {
    for (number, request) in requests(body).iter().enumerate() {
        let said = closes(proxy, request, 0);
        // A reset may take what was said, so only silence can be asked for.
        assert!(
            !is_told_at_once(request) || request.len() > 50_000 || said.is_empty(),
            "{}: {}",
            show(request.as_bytes()),
            show(&said)
        );
        // Every place of one request, and some places of each.
        let step = if number == 0 || number == 1 { 1 } else { 1 + request.len() / 5 };
        for cut in (1..request.len()).step_by(step) {
            closes(proxy, request, cut);
        }
        check(request);
    }
}

#[test]
fn http_to_a_memcached_pool_is_closed_and_runs_nothing() {
    let server = Process::memcached();
    let proxy = Proxy::start(&[server.address], &["timeout: 4000"]);
    let (mut direct, mut neighbour) = (server.client(), proxy.client());
    assert_eq!(neighbour.ask("set kept 0 0 1\r\ny\r\n"), "STORED");
    each_is_closed(&proxy, MEMCACHED, |request| {
        let found = direct.exchange(b"get pwned kept\r\n");
        assert_eq!(show(&found), show(b"VALUE kept 0 1\r\ny\r\nEND\r\n"), "{}", show(request.as_bytes()));
    });
    // What looks like it and is memcached's own goes on as before.
    for (ask, expected) in [
        ("get / HTTP/1.1\r\n", "END\r\n"),
        ("foo bar\r\n", "ERROR\r\n"),
        ("user:1\r\n", "ERROR\r\n"),
        ("set HTTP/1.1 0 0 1\r\nx\r\n", "STORED\r\n"),
    ] {
        assert_eq!(show(&neighbour.exchange(ask.as_bytes())), show(expected.as_bytes()), "{ask}");
    }
    is_unharmed(&proxy, &server);
}

#[test]
fn http_to_a_redis_pool_is_closed_and_runs_nothing() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 4000"]);
    let (mut direct, mut neighbour) = (server.client(), proxy.client());
    assert_eq!(neighbour.ask("SET kept y\r\n"), "+OK");
    each_is_closed(&proxy, REDIS, |request| {
        assert_eq!(direct.ask("EXISTS pwned\r\n"), ":0", "{}", show(request.as_bytes()));
        assert_eq!(direct.ask("EXISTS kept\r\n"), ":1", "{}", show(request.as_bytes()));
    });
    is_unharmed(&proxy, &server);
}

/// A server that had one connection all the time, and never failed.
fn is_unharmed(proxy: &Proxy, server: &Process) {
    let figures = &proxy.statistics()["pool"][server.address.to_string()];
    for counter in ["server_eof", "server_err", "server_timedout", "ejections", "resends"] {
        assert_eq!(figures[counter], 0, "{counter}: {figures}");
    }
}

/// The words for which Redis closes a client, in all the forms in which they can come.
const ATTACKS: [&str; 14] = [
    "POST / HTTP/1.1\r\n",
    "post\r\n",
    "PoSt x y\r\n",
    "host: x\r\n",
    "HOST:\r\n",
    "*1\r\n$4\r\nPOST\r\n",
    "*2\r\n$5\r\nHost:\r\n$1\r\na\r\n",
    "\"PO\\x53T\" a\r\n",
    "\r\n\r\nPOST\r\n",
    "MULTI\r\nPOST\r\n",
    "MULTI\r\nSET pwned 1\r\nHost: x\r\nEXEC\r\n",
    "SUBSCRIBE a\r\nPOST\r\n",
    "CLIENT REPLY OFF\r\nPOST\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n",
];

#[test]
fn redis_and_a_pool_close_for_the_same_words() {
    let server = Process::redis();
    let proxy = Proxy::start(&[server.address], &["redis: true", "timeout: 4000"]);
    let mut direct = server.client();
    for address in [server.address, proxy.address] {
        for attack in ATTACKS {
            assert!(direct.ask("FLUSHALL\r\n").starts_with('+'));
            let mut client = Client::connect(address);
            client.send(format!("SET before 1\r\n{attack}SET pwned 1\r\n"));
            assert!(client.is_closed(), "{attack:?} at {address}");
            // The close may be quicker than the server.
            let carried_out = || direct.ask("EXISTS before\r\n") == ":1";
            wait_until("what came before was carried out", Duration::from_secs(5), carried_out);
            assert_eq!(direct.ask("EXISTS pwned\r\n"), ":0", "{attack:?} at {address}");
        }
        // The words as arguments are nobody's attack.
        assert_eq!(Client::connect(address).ask("SET POST Host:\r\n"), "+OK");
    }
    let with_password = Process::redis_with(super::support::process::free_port(), &["--requirepass", "secret"]);
    let proxy = Proxy::start(&[with_password.address], &["redis: true", "redis_auth: secret"]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\n");
    assert!(client.is_closed() && client.rest().is_empty(), "before it has given the password");
}

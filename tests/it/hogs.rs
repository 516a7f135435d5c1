//! Whoever holds most of the memory pays for it; everybody else is served as before. What they notice of it in figures, by
//! hand: `tests/tools/innocents.py target/release/softmiss`.

use std::io::Write;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::wait_until;

/// What the process may take besides `memory_limit`, in bytes: what it holds anyway, and what the allocator has not given
/// back yet. Pages of the program's file are not in it.
const SLACK: usize = 16 << 20;

/// A proxy for a Redis server and a memcached, whose buffers may take so many megabytes in all.
struct Stage {
    redis: Process,
    _memcached: Process,
    proxy: Proxy,
    redis_port: u16,
    limit: usize,
}

impl Stage {
    fn new(megabytes: usize) -> Self {
        Self::with_timeout(megabytes, 3000)
    }

    /// With a timeout of the pools in milliseconds, for servers that are themselves at work for long.
    fn with_timeout(megabytes: usize, timeout: u32) -> Self {
        let (redis, memcached) = (Process::redis(), Process::memcached());
        let (port, redis_port) = (free_port(), free_port());
        let text = format!(
            "softmiss:\n  memory_limit: {megabytes}mb\nm:\n  listen: 127.0.0.1:{port}\n  timeout: {timeout}\n  servers:\n   - {}:1\n\
             r:\n  listen: 127.0.0.1:{redis_port}\n  redis: true\n  on_failure: miss\n  timeout: {timeout}\n  value_limit: 1gb\n  servers:\n   - {}:1\n",
            memcached.address, redis.address
        );
        let proxy = Proxy::with_file(&text, port).expect_log("memory");
        wait_until("the second pool", Duration::from_secs(5), || {
            std::net::TcpStream::connect(("127.0.0.1", redis_port)).is_ok()
        });
        Self { redis, _memcached: memcached, proxy, redis_port, limit: megabytes << 20 }
    }

    fn redis_client(&self) -> Client {
        Client::connect(([127, 0, 0, 1], self.redis_port).into())
    }

    /// Stores a list `big` of 6000 items of 10,000 bytes; returns the item.
    fn store_big_list(&self) -> String {
        let mut direct = self.redis.client();
        let item = "y".repeat(10_000);
        let items = format!("$10000\r\n{item}\r\n").repeat(100);
        for _ in 0..60 {
            direct.send(format!("*102\r\n$5\r\nRPUSH\r\n$3\r\nbig\r\n{items}"));
            direct.line();
        }
        item
    }

    /// The most that the process has held, in bytes, besides its program.
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.proxy.id())).expect("status");
        let kilobytes = |name: &str| -> usize {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a line of status");
            line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
        };
        // Pages of the file come and do not go.
        (kilobytes("VmHWM:") - kilobytes("RssFile:")) << 10
    }

    fn within_limit(&self, what: &str) {
        let peak = self.peak();
        println!("{what}: {} MB at most, with a limit of {} MB", peak >> 20, self.limit >> 20);
        assert!(peak <= self.limit + SLACK, "{what}: {} MB with a limit of {} MB", peak >> 20, self.limit >> 20);
    }

    /// What somebody was told is what was to be told.
    fn expect(&self, told: &str, right: impl AsRef<str>) {
        if told != right.as_ref() {
            panic!("{told} in place of {}, after {}", right.as_ref(), self.proxy.statistics());
        }
    }

    fn cut_off(&self) -> u64 {
        ["m", "r"].iter().map(|pool| self.proxy.statistics()[*pool]["clients_cut_off"].as_u64().expect("a count")).sum()
    }
}

/// Somebody who asks for little and means no harm.
struct Innocent<'a> {
    stage: &'a Stage,
    memcached: Client,
    redis: Client,
    value: String,
    slowest: Duration,
}

impl<'a> Innocent<'a> {
    fn new(stage: &'a Stage) -> Self {
        let (memcached, redis) = (stage.proxy.client(), stage.redis_client());
        let mut one = Self { stage, memcached, redis, value: "i".repeat(20_000), slowest: Duration::ZERO };
        one.is_served();
        one.slowest = Duration::ZERO;
        one
    }

    /// Asks for something of each kind; all of it must be right.
    fn is_served(&mut self) {
        let Self { stage, memcached, redis, value, slowest } = self;
        let start = Instant::now();
        stage.expect(&memcached.ask(format!("set large 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
        stage.expect(&memcached.ask("get large\r\n"), format!("VALUE large 0 {}", value.len()));
        assert!(memcached.read_through(b"END\r\n").starts_with(value.as_bytes()));
        stage.expect(&memcached.ask("set small 0 0 1\r\nx\r\n"), "STORED");
        stage.expect(&redis.ask(format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${}\r\n{value}\r\n", value.len())), "+OK");
        stage.expect(&redis.ask("GET large\r\n"), format!("${}", value.len()));
        redis.read(value.len() + 2);
        stage.expect(&redis.ask("GET nothing\r\n"), "$-1");
        *slowest = (*slowest).max(start.elapsed());
    }

    fn is_served_for(&mut self, span: Duration) {
        let start = Instant::now();
        while start.elapsed() < span {
            self.is_served();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends as much as is taken within a moment; `false` when the connection was ended.
fn push(client: &mut Client, bytes: &[u8]) -> bool {
    client.stream.set_write_timeout(Some(Duration::from_millis(20))).expect("write timeout");
    match client.stream.write_all(bytes) {
        Ok(()) => true,
        Err(error) => matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

#[test]
fn subscribers_that_do_not_read_are_cut_off_and_nobody_else_notices() {
    let stage = Stage::new(32);
    let mut innocent = Innocent::new(&stage);
    let mut subscribers: Vec<_> = (0..12).map(|_| stage.redis_client()).collect();
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        // Half of them hear what is published, the others what the server is asked.
        subscriber.send(if number % 2 == 0 { "SUBSCRIBE news\r\n" } else { "PSUBSCRIBE n*\r\n" });
        subscriber.read_through(b":1\r\n");
    }
    let mut publisher = stage.redis.client();
    let message = "p".repeat(20_000);
    for round in 0..1000 {
        publisher.send(format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n{message}\r\n", message.len()));
        publisher.line();
        if round % 20 == 0 {
            innocent.is_served();
        }
    }
    innocent.is_served_for(Duration::from_millis(500));
    stage.within_limit("12 subscribers that do not read");
    assert!(stage.cut_off() > 0);
    stage.proxy.wait_for_log("client cut off, it held too much memory", Duration::from_secs(5));
    // One that reads gets all that it is told.
    let mut good = stage.redis_client();
    good.send("SUBSCRIBE news\r\n");
    good.read_through(b":1\r\n");
    for _ in 0..100 {
        publisher.send(format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n{message}\r\n", message.len()));
        publisher.line();
        good.read_through(message.as_bytes());
    }
}

#[test]
fn large_messages_to_many_that_are_cut_off_leave_nothing_behind() {
    let stage = Stage::new(64);
    let mut innocent = Innocent::new(&stage);
    let mut subscribers: Vec<_> = (0..200).map(|_| stage.redis_client()).collect();
    for subscriber in &mut subscribers {
        subscriber.send("SUBSCRIBE news\r\n");
        subscriber.read_through(b":1\r\n");
    }
    let mut publisher = stage.redis.client();
    let message = "p".repeat(100_000);
    let publication = format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n{message}\r\n", message.len());
    for round in 0..200 {
        publisher.send(&publication);
        if publisher.line() == ":0" {
            break; // nobody is left
        }
        if round % 10 == 0 {
            innocent.is_served();
        }
    }
    stage.within_limit("200 subscribers that do not read messages of 100 KB");
    assert!(stage.cut_off() > 100, "{} cut off", stage.cut_off());
}

#[test]
fn requests_without_an_end_are_not_kept_without_a_limit() {
    type Block = &'static [u8];
    let cases: [(&str, bool, Block, Block); 5] = [
        ("get lines", false, b"get k", b" kkkkkkkk"),
        ("meta lines", false, b"mg k", b" Okkkkkkk"),
        ("small arguments", true, b"*100000000\r\n$3\r\nDEL\r\n", b"$4\r\nabcd\r\n"),
        ("large arguments", true, b"*1000\r\n$3\r\nDEL\r\n$60000000\r\n", b"xxxxxxxxxxxxxxxx"),
        ("values", false, b"set k 0 0 12000000\r\n", b"xxxxxxxxxxxxxxxx"),
    ];
    for (what, is_redis, head, block) in cases {
        let stage = Stage::new(16);
        let mut innocent = Innocent::new(&stage);
        let mut hogs: Vec<_> =
            (0..20).map(|_| if is_redis { stage.redis_client() } else { stage.proxy.client() }).collect();
        hogs.retain_mut(|hog| push(hog, head));
        let part = block.repeat(100_000 / block.len());
        for _ in 0..60 {
            hogs.retain_mut(|hog| push(hog, &part));
            innocent.is_served();
        }
        innocent.is_served_for(Duration::from_millis(2500));
        stage.within_limit(what);
    }
}

#[test]
fn a_transaction_is_queued_within_the_limit() {
    let stage = Stage::new(32);
    let mut innocent = Innocent::new(&stage);
    let mut hog = stage.redis_client();
    assert_eq!(hog.ask("MULTI\r\n"), "+OK");
    let block = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n".repeat(1000);
    let mut refused = None;
    for round in 0..1000 {
        hog.send(&block);
        for _ in 0..1000 {
            let line = hog.line();
            if line != "+QUEUED" && refused.is_none() {
                refused = Some((round, line));
            }
        }
        if round % 50 == 0 {
            innocent.is_served();
        }
    }
    let (_, text) = refused.expect("a limit");
    assert!(text.contains("memory_limit"), "{text}");
    assert!(hog.ask("EXEC\r\n").starts_with("-EXECABORT"));
    assert_eq!(hog.ask("SET a 1\r\n"), "+OK", "the connection goes on");
    innocent.is_served();
    stage.within_limit("a transaction without an end");
}

#[test]
fn readers_that_do_not_read_hold_up_nobody() {
    let stage = Stage::new(64);
    let mut innocent = Innocent::new(&stage);
    let mut first = stage.proxy.client();
    let value = "v".repeat(500_000);
    assert_eq!(first.ask(format!("set big 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    let mut hogs: Vec<_> = (0..40).map(|_| stage.proxy.client()).collect();
    hogs.retain_mut(|hog| push(hog, "get big\r\n".repeat(50).as_bytes()));
    innocent.is_served_for(Duration::from_secs(4));
    stage.within_limit("40 clients that ask for 25 MB each and do not read");
    drop(hogs);
    wait_until("memory to be given back", Duration::from_secs(20), || stage.proxy.resident() < 48 << 20);
}

#[test]
fn names_count() {
    let stage = Stage::new(16);
    let mut innocent = Innocent::new(&stage);
    let mut hogs: Vec<_> = (0..30).map(|_| stage.redis_client()).collect();
    let name = "n".repeat(1 << 20);
    for hog in &mut hogs {
        let words = ["CLIENT", "SETNAME", &name];
        let request: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        push(hog, format!("*3\r\n{request}").as_bytes());
    }
    innocent.is_served_for(Duration::from_secs(3));
    stage.within_limit("30 clients with names of 1 MB");
}

#[test]
fn large_values_of_many_writers_get_through_one_after_the_other() {
    // A value waits for a second: as many as a slow machine gets through by then.
    let stage = Stage::new(16);
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let mut client = stage.redis_client();
            std::thread::spawn(move || {
                let value = "w".repeat(9 << 18);
                let request = format!("*3\r\n$3\r\nSET\r\n$2\r\nw{number}\r\n${}\r\n", value.len());
                client.send(request);
                client.send(value);
                client.ask("\r\n")
            })
        })
        .collect();
    let mut innocent = Innocent::new(&stage);
    innocent.is_served_for(Duration::from_secs(1));
    for writer in writers {
        stage.expect(&writer.join().expect("a writer"), "+OK");
    }
    assert_eq!(stage.cut_off(), 0);
}

#[test]
fn large_values_one_after_the_other_leave_nothing_behind() {
    let stage = Stage::new(128);
    let mut client = stage.redis_client();
    for megabytes in (20..=50).step_by(5) {
        let value = "v".repeat(megabytes << 20);
        client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nl\r\n${}\r\n", value.len()));
        client.send(&value);
        assert_eq!(client.ask("\r\n"), "+OK", "{megabytes} MB");
        assert_eq!(client.ask("GET l\r\n"), format!("${}", value.len()));
        assert!(client.read(value.len() + 2).starts_with(value.as_bytes()));
    }
    stage.within_limit("one client with values of 20 to 50 MB");
}

#[test]
fn large_values_leave_nothing_behind_at_a_small_limit() {
    // However long it takes, a value that will never fit is refused, and its client is not cut off for waiting.
    let stage = Stage::with_timeout(64, 30_000);
    let mut client = stage.redis_client();
    for megabytes in [25, 45] {
        let value = "v".repeat(megabytes << 20);
        client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nl\r\n${}\r\n", value.len()));
        client.send(&value);
        // Another copy of the larger one does not fit.
        let told = client.ask("\r\n");
        assert!(told == "+OK" || (told == "$-1" && megabytes > 25), "{told} for {megabytes} MB");
        if told == "+OK" {
            assert_eq!(client.ask("GET l\r\n"), format!("${}", value.len()));
            assert!(client.read(value.len() + 2).starts_with(value.as_bytes()));
        }
    }
    stage.within_limit("one client with values of 25 and 45 MB");
}

#[test]
fn a_reply_that_does_not_fit_is_dropped_and_its_connection_goes_on() {
    // The server makes each of these replies in one go, and says nothing to anybody meanwhile.
    let stage = Stage::with_timeout(16, 30_000);
    stage.store_big_list();
    let command = |words: &[&str]| {
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{words}", words.matches('$').count())
    };
    let cases = [
        (command(&["LRANGE", "big", "0", "-1"]), "an array of large strings", "*0"),
        (
            command(&["EVAL", "local t = {} for i = 1, 800000 do t[i] = 1000000000 + i end return t", "0"]),
            "an array of numbers",
            "-ERR",
        ),
        (command(&["EVAL", "return {ok = string.rep('x', 12000000)}", "1", "a"]), "a long line", "-ERR"),
        (command(&["EVAL", "return string.rep('x', 12000000)", "1", "a"]), "a long string", "-ERR"),
    ];
    let mut innocent = Innocent::new(&stage);
    let failures = |stage: &Stage| {
        let all = &stage.proxy.statistics()["r"];
        (all["server_ejects"].clone(), all.to_string().matches("\"server_err\":0").count())
    };
    let before = failures(&stage);
    for (request, what, answer) in cases {
        let mut client = stage.redis_client();
        for _ in 0..2 {
            client.send(&request);
            let line = client.line();
            assert!(line.starts_with(answer), "{what}: {line}");
            assert_eq!(client.ask("GET nothing\r\n"), "$-1", "{what}: the connection goes on");
            innocent.is_served();
        }
        stage.within_limit(what);
    }
    assert_eq!(failures(&stage), before, "nothing is held against the server");
    assert_eq!(stage.cut_off(), 0);
}

#[test]
fn a_large_reply_is_passed_on_where_it_fits() {
    let stage = Stage::new(160);
    let item = stage.store_big_list();
    let mut innocent = Innocent::new(&stage);
    let mut client = stage.redis_client();
    client.send("LRANGE big 0 -1\r\n");
    assert_eq!(client.line(), "*6000");
    std::thread::sleep(Duration::from_millis(300));
    innocent.is_served();
    for _ in 0..6000 {
        assert_eq!(client.line(), "$10000");
        assert_eq!(client.line(), item);
    }
    stage.within_limit("a reply of 60 MB");
}

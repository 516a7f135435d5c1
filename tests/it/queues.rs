//! Large messages on their way to a server, and those who have something for the same server meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::process::{Process, Proxy, free_port};
use super::support::{scattered_key, wait_until};

const MB: usize = 1 << 20;

/// A memcached that takes items of 32 MB.
fn roomy() -> Process {
    Process::memcached_with(free_port(), &["-I", "32m", "-m", "1024"], Stdio::null())
}

fn pool(servers: &[&Process], more: &[&str]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Proxy::start(&addresses, more)
}

fn set(key: &str, value: &str, noreply: bool) -> Vec<u8> {
    format!("set {key} 0 0 {}{}\r\n{value}\r\n", value.len(), if noreply { " noreply" } else { "" }).into_bytes()
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| out.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    out.into_bytes()
}

/// Asks small things of a server until `over`; how many were answered, and each answer that was not right.
fn ask_on(mut client: Client, over: &AtomicBool, asks: &[(Vec<u8>, &str)]) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        for (ask, right) in asks {
            client.send(ask);
            let mut said = client.line();
            while said.lines().count() < right.lines().count() {
                said = format!("{said}\n{}", client.line());
            }
            count += 1;
            if said != *right {
                wrong.push(said);
            }
        }
    }
    (count, wrong)
}

/// Has `hogs` do their work while small things are asked of the same servers; nobody may be refused anything.
fn nobody_is_refused(proxy: &Proxy, asks: &[(Vec<u8>, &str)], hogs: Vec<Box<dyn FnOnce(Client) + Send>>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let small: Vec<_> = (0..3).map(|_| scope.spawn(|| ask_on(proxy.client(), &over, asks))).collect();
        let large: Vec<_> = hogs.into_iter().map(|hog| scope.spawn(move || hog(proxy.client()))).collect();
        let ended: Vec<_> = large.into_iter().map(|hog| hog.join()).collect();
        over.store(true, Ordering::Relaxed);
        for small in small {
            let (count, wrong) = small.join().unwrap();
            assert!(wrong.is_empty(), "{} of {count} were answered {:?}", wrong.len(), wrong[0]);
            assert!(count > 0);
        }
        assert!(ended.iter().all(Result::is_ok), "a large one failed");
    });
    assert_eq!(proxy.statistics()["pool"]["degraded_queue_full"].as_u64().unwrap_or(0), 0);
}

fn memcached_asks() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (b"get small\r\n".to_vec(), "VALUE small 0 1\nx\nEND"),
        (b"get small nothing\r\n".to_vec(), "VALUE small 0 1\nx\nEND"),
        (b"set other 0 0 1\r\ny\r\n".to_vec(), "STORED"),
        (b"delete nothing\r\n".to_vec(), "NOT_FOUND"),
        (b"mg small v\r\n".to_vec(), "VA 1\nx"),
    ]
}

fn eight_large_sets(more: &[&str]) {
    let server = roomy();
    let proxy = pool(&[&server], more);
    assert_eq!(proxy.client().ask("set small 0 0 1\r\nx\r\n"), "STORED");
    let hog = |number: usize| -> Box<dyn FnOnce(Client) + Send> {
        Box::new(move |mut client| {
            let value = char::from(b'a' + number as u8).to_string().repeat(9 * MB);
            for round in 0..3 {
                client.send(set(&format!("large{number}"), &value, round == 1));
                if round != 1 {
                    assert_eq!(client.line(), "STORED");
                }
            }
            client.send(format!("get large{number}\r\n"));
            let found = client.read_through(b"END\r\n");
            assert!(found.len() > value.len() && found.windows(64).nth(MB).unwrap() == &value.as_bytes()[..64]);
        })
    };
    nobody_is_refused(&proxy, &memcached_asks(), (0..8).map(hog).collect());
}

#[test]
fn eight_clients_with_large_sets_and_everybody_else_are_served() {
    eight_large_sets(&["timeout: 8000"]);
}

#[test]
fn several_connections_to_the_server_change_nothing_about_it() {
    eight_large_sets(&["timeout: 8000", "server_connections: 3"]);
}

#[test]
fn pipelined_large_sets_of_redis_clients_are_all_carried_out() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&[&servers[0], &servers[1]], &["redis: true", "timeout: 8000"]);
    let mut client = proxy.client();
    for number in 0..20 {
        assert_eq!(client.ask(command(&["SET", &scattered_key(number), "x"])), "+OK");
    }
    let names: Vec<String> = (0..20).map(scattered_key).collect();
    let some: Vec<&str> = std::iter::once("EXISTS").chain(names.iter().map(String::as_str)).collect();
    let asks = vec![
        (command(&["GET", &names[0]]), "$1\nx"),
        (command(&["GET", &names[1]]), "$1\nx"),
        (command(&["SET", &names[2], "x"]), "+OK"),
        (command(&["MSET", &names[3], "x", &names[4], "x", &names[5], "x"]), "+OK"),
        (command(&some), ":20"),
        (command(&["FLUSHDB", "NONSENSE"]), "-ERR syntax error"),
    ];
    let pipelined: Box<dyn FnOnce(Client) + Send> = Box::new(|mut client| {
        let value = "v".repeat(16 * MB);
        for number in 0..5 {
            client.send(command(&["SET", &format!("large{number}"), &value]));
        }
        for _ in 0..5 {
            assert_eq!(client.line(), "+OK");
        }
        for number in 0..5 {
            assert_eq!(client.ask(command(&["STRLEN", &format!("large{number}")])), format!(":{}", value.len()));
        }
    });
    let split: Box<dyn FnOnce(Client) + Send> = Box::new(|mut client| {
        let value = "w".repeat(5 * MB);
        let names: Vec<String> = (100..106).map(scattered_key).collect();
        let words: Vec<&str> =
            std::iter::once("MSET").chain(names.iter().flat_map(|name| [name.as_str(), &value])).collect();
        for _ in 0..3 {
            assert_eq!(client.ask(command(&words)), "+OK");
            let transaction = ["MULTI", "EXEC"].map(|word| command(&[word]));
            client.send([&transaction[0][..], &command(&["SET", &names[0], &value]), &transaction[1]].concat());
            let said: Vec<_> = (0..4).map(|_| client.line()).collect();
            assert_eq!(said, ["+OK", "+QUEUED", "*1", "+OK"]);
        }
        for name in &names {
            assert_eq!(client.ask(command(&["STRLEN", name])), format!(":{}", value.len()));
        }
    });
    nobody_is_refused(&proxy, &asks, vec![pipelined, split]);
}

/// A memcached that takes a MB of a value in 45 ms, and stops before the last ones if it `stops`.
fn slow_taker(stops: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || take_slowly(&stream, stops));
        }
    });
    address
}

fn take_slowly(stream: &TcpStream, stops: bool) -> Option<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    while input.read_line(&mut line).ok()? > 0 {
        let mut output = stream;
        let answer = match line.split_whitespace().next() {
            Some("set") => {
                let length: usize = line.split_whitespace().nth(4)?.parse().ok()?;
                let mut left = length + 2;
                let mut chunk = vec![0; MB];
                while left > 0 {
                    let count = left.min(MB);
                    input.read_exact(&mut chunk[..count]).ok()?;
                    left -= count;
                    std::thread::sleep(Duration::from_millis(if stops && left < 12 * MB { 5000 } else { 45 }));
                }
                "STORED\r\n"
            }
            Some("get") if line.contains("never") => {
                std::thread::sleep(Duration::from_secs(5));
                return None;
            }
            Some("get") => "END\r\n",
            _ => "VERSION 1\r\n",
        };
        output.write_all(answer.as_bytes()).ok()?;
        line.clear();
    }
    Some(())
}

#[test]
fn a_large_value_has_not_failed_while_its_server_takes_it() {
    let proxy = Proxy::start(&[slow_taker(false)], &["timeout: 300"]);
    let mut client = proxy.client();
    let begun = Instant::now();
    client.send([&set("large", &"v".repeat(28 * MB), false)[..], b"get behind\r\n"].concat());
    assert_eq!(client.line(), "STORED");
    assert_eq!(client.line(), "END");
    assert!(begun.elapsed() > Duration::from_millis(400), "the test is about what takes longer than `timeout`");
    assert_eq!(proxy.statistics()["pool"]["degraded_timeout"].as_u64().unwrap_or(0), 0);
}

#[test]
fn what_is_asked_after_a_large_value_has_no_more_time_than_others() {
    let proxy = Proxy::start(&[slow_taker(false)], &["timeout: 1000", "stall_detection: false"]);
    let mut client = proxy.client();
    client.send(set("large", &"v".repeat(28 * MB), false)); // alone: it is handed on as it came
    assert_eq!(client.line(), "STORED");
    let begun = Instant::now();
    client.send("get never\r\n");
    assert_eq!(client.line(), "END");
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_millis(1600)).contains(&took), "answered after {took:?}");
}

#[test]
fn a_large_value_has_failed_when_its_server_takes_no_more_of_it() {
    let proxy = Proxy::start(&[slow_taker(true)], &["timeout: 300", "auto_eject_hosts: false"]);
    let mut client = proxy.client();
    let begun = Instant::now();
    client.send(set("large", &"v".repeat(28 * MB), false));
    assert_eq!(client.line(), "NOT_STORED");
    assert!(begun.elapsed() < Duration::from_secs(4), "answered after {:?}", begun.elapsed());
}

#[test]
fn large_values_that_were_stored_give_a_server_no_more_time_afterwards() {
    let server = roomy();
    let proxy = pool(&[&server], &["timeout: 1000", "stall_detection: false", "auto_eject_hosts: false"]);
    let mut client = proxy.client();
    let value = "v".repeat(300 << 10);
    for _ in 0..5 {
        client.send(set("large", &value, false).repeat(10));
        (0..10).for_each(|_| assert_eq!(client.line(), "STORED"));
    }
    server.signal("STOP");
    let begun = Instant::now();
    client.send("get small\r\n");
    assert_eq!(client.line(), "END");
    let took = begun.elapsed();
    server.signal("CONT");
    assert!(took < Duration::from_millis(1600), "answered after {took:?}");
}

/// A server that is stopped in the middle of a large message: what waits for it is answered in time, and what was deleted
/// and overwritten meanwhile is not read when it goes on.
fn what_was_refused_is_not_read_later(more: &[&str]) {
    let (stopped, well) = (roomy(), roomy());
    let options = [&["timeout: 400", "on_failure: miss"], more].concat();
    let proxy =
        pool(&[&stopped, &well], &options).expect_log("too much is queued for a server").expect_log("server is silent");
    let mut client = proxy.client();
    let mut direct = stopped.client();
    // Keys of the server that is to be stopped.
    let mut keys = Vec::new();
    for number in 0.. {
        let key = scattered_key(number);
        assert_eq!(client.ask(set(&key, "old", false)), "STORED");
        direct.send(format!("get {key}\r\n"));
        if direct.line() != "END" {
            direct.read_through(b"END\r\n");
            keys.push(key);
        }
        if keys.len() == 6 {
            break;
        }
    }
    stopped.signal("STOP");
    let mut hog = proxy.client();
    hog.send(set(&keys[0], &"v".repeat(24 * MB), false));
    let mut others: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    // Its connection takes no more.
    wait_until("the large one is on its way", Duration::from_secs(5), || {
        let servers = &proxy.statistics()["pool"];
        servers.as_object().unwrap().values().any(|server| server["in_queue_bytes"].as_u64().unwrap_or(0) > 5 << 20)
    });
    let start = Instant::now();
    others[0].send(format!("delete {}\r\n", keys[1]));
    others[1].send(set(&keys[2], "new", false));
    others[2].send([set(&keys[3], "new", true), b"mn\r\n".to_vec()].concat());
    others[3].send(format!("md {}\r\n", keys[4]));
    others[4].send(format!("get {}\r\n", keys[5]));
    assert_eq!(others[0].line(), "NOT_FOUND");
    assert_eq!(others[1].line(), "NOT_STORED");
    assert_eq!(others[3].line(), "NF");
    assert_eq!(others[4].line(), "END");
    assert_eq!(others[2].line(), "MN");
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
    stopped.signal("CONT");
    // From the first read that the server answers, none is old.
    let mut reader = proxy.client();
    let mut hits = 0;
    let end = Instant::now() + Duration::from_millis(1200);
    while Instant::now() < end {
        for key in &keys[1..5] {
            reader.send(format!("get {key}\r\n"));
            let found = reader.read_through(b"END\r\n");
            assert!(!found.windows(5).any(|part| part == b"old\r\n"), "{key} is read as it was before");
        }
        reader.send(format!("get {}\r\n", keys[5]));
        hits += usize::from(reader.read_through(b"END\r\n").len() > 5);
    }
    assert!(hits > 0, "the server is read again");
}

#[test]
fn what_a_full_queue_refused_is_not_read_later() {
    what_was_refused_is_not_read_later(&["stall_detection: false"]);
}

#[test]
fn nor_what_was_refused_because_the_server_is_silent() {
    what_was_refused_is_not_read_later(&[]);
}

#[test]
fn nor_with_more_connections() {
    what_was_refused_is_not_read_later(&["server_connections: 2", "stall_detection: false"]);
}

#[test]
fn nor_with_rejoin_safe() {
    what_was_refused_is_not_read_later(&["rejoin: safe", "stall_detection: false"]);
}

/// All servers are out: there is nowhere to send a write, and when they are back nobody has what it was to change.
#[test]
fn a_write_while_no_server_is_left_is_made_up_for() {
    let servers = [Process::memcached(), Process::memcached(), Process::memcached()];
    let options = [
        "timeout: 100",
        "auto_eject_hosts: true",
        "server_failure_limit: 1",
        "server_retry_timeout: 300",
        "rejoin: safe",
    ];
    let proxy = pool(&[&servers[0], &servers[1], &servers[2]], &options).expect_log("server");
    let mut client = proxy.client();
    let keys: Vec<String> = (0..30).map(scattered_key).collect();
    for key in &keys {
        assert_eq!(client.ask(set(key, "old", false)), "STORED");
    }
    servers.iter().for_each(|server| server.signal("STOP"));
    let live = || proxy.statistics()["pool"]["live_servers"].clone();
    wait_until("all are out", Duration::from_secs(5), || {
        let key = &keys[Instant::now().elapsed().subsec_nanos() as usize % keys.len()];
        client.send(format!("get {key}\r\n"));
        client.read_through(b"END\r\n");
        keys.iter().for_each(|key| {
            client.send(format!("get {key}\r\n"));
            client.read_through(b"END\r\n");
        });
        proxy.log().iter().filter(|line| line.contains("server ejected")).count() >= 3 || live() == 0
    });
    for key in &keys[..15] {
        assert_eq!(client.ask(format!("delete {key}\r\n")), "NOT_FOUND");
    }
    servers.iter().for_each(|server| server.signal("CONT"));
    wait_until("all are back", Duration::from_secs(8), || {
        proxy.log().iter().filter(|line| line.contains("server restored")).count() >= 3
    });
    let mut found = |key: &String| {
        client.send(format!("get {key}\r\n"));
        client.read_through(b"END\r\n").len() > 5
    };
    assert_eq!(keys[..15].iter().filter(|key| found(key)).count(), 0, "what was deleted is read");
    assert_eq!(keys[15..].iter().filter(|key| found(key)).count(), 15, "what was not is not");
}

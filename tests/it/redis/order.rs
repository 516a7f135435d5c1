//! What one client pipelines is carried out in its order, or not at all.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::connections::pool;
use crate::support::client::Client;
use crate::support::process::{Process, Proxy};
use crate::support::scattered_key;
use crate::support::script::{Mock, show};

fn request(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

/// Loads a script that appends its argument to the list and tells how long it is.
fn load(client: &mut Client) -> String {
    client.send(request(&["SCRIPT", "LOAD", "return redis.call('rpush',KEYS[1],ARGV[1])"]));
    assert_eq!(client.line(), "$40");
    client.line()
}

/// What a pipeline of scripts and other commands on one list does: the answers, and the list afterwards.
fn pipelined(client: &mut Client, name: &str) -> (Vec<String>, Vec<String>) {
    let list = "list";
    let script = |word| request(&["EVALSHA", name, "1", list, word]);
    let push = request(&["RPUSH", list, "b"]);
    client.send(request(&["DEL", list]));
    client.line();
    let all = [script("a"), push, script("c"), script("d"), request(&["LLEN", list])].concat();
    client.send(all);
    let answers = (0..5).map(|_| client.line()).collect();
    client.send(request(&["LRANGE", list, "0", "-1"]));
    let count: usize = client.line()[1..].parse().unwrap();
    let items = (0..count).map(|_| (client.line(), client.line()).1).collect();
    (answers, items)
}

/// The answers and the list must be those of the requests that were carried out, in their order.
fn check(answers: &[String], items: &[String]) {
    let mut expected = Vec::new();
    for (word, answer) in ["a", "b", "c", "d"].iter().zip(answers) {
        if !answer.starts_with("-NOSCRIPT") {
            expected.push((*word).to_owned());
            assert_eq!(*answer, format!(":{}", expected.len()), "of {word} in {answers:?}");
        }
    }
    assert_eq!(answers[4], format!(":{}", expected.len()), "{answers:?}");
    assert_eq!(items, expected, "{answers:?}");
}

#[test]
fn a_script_that_the_server_forgot_never_comes_behind_what_followed_it() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 2000"]);
    let mut client = proxy.client();
    let name = load(&mut client);
    let (answers, items) = pipelined(&mut client, &name);
    check(&answers, &items);
    assert_eq!(items.len(), 4);
    assert_eq!(server.client().ask("SCRIPT FLUSH\r\n"), "+OK");
    let (answers, items) = pipelined(&mut client, &name);
    check(&answers, &items);
    assert_eq!(server.client().ask("SCRIPT FLUSH\r\n"), "+OK");
    assert_eq!(client.ask(request(&["EVALSHA", &name, "1", "other", "x"])), ":1", "alone it is loaded unnoticed");
}

#[test]
fn scripts_are_loaded_in_front_of_a_pipeline_after_a_restart() {
    let mut server = Process::redis();
    let port = server.address.port();
    let proxy = pool(&[&server], &["timeout: 2000"]);
    let mut client = proxy.client();
    let name = load(&mut client);
    assert_eq!(pipelined(&mut client, &name).1, ["a", "b", "c", "d"]);
    server.kill();
    let _server = Process::redis_with(port, &[]);
    assert_eq!(pipelined(&mut client, &name).1, ["a", "b", "c", "d"]);
}

#[test]
fn another_clients_requests_do_not_keep_a_script_from_being_loaded() {
    let mut server = Mock::start();
    let proxy = mock_pool(&server, &[]);
    let mut client = proxy.client();
    let (load, name) = ("return 1", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    let script = |key: &str| request(&["EVALSHA", name, "1", key]);
    client.send(request(&["EVAL", load, "1", "k"]));
    server.receive(request(&["EVAL", load, "1", "k"]));
    server.answer(":1\r\n");
    assert_eq!(client.line(), ":1");
    client.send(script("k"));
    server.receive(request(&["SCRIPT", "LOAD", load]) + &script("k"));
    let mut other = proxy.client();
    other.send(request(&["GET", "k"]));
    server.receive(request(&["GET", "k"]));
    server.answer(format!("$40\r\n{name}\r\n-NOSCRIPT it was flushed\r\n"));
    server.receive(request(&["SCRIPT", "EXISTS", name]));
    server.answer("$1\r\na\r\n*1\r\n:0\r\n");
    server.receive(request(&["EVAL", load, "1", "k"]));
    server.answer(":1\r\n");
    assert_eq!((other.line(), other.line()), ("$1".to_owned(), "a".to_owned()));
    assert_eq!(client.line(), ":1");
}

fn mock_pool(server: &Mock, more: &[&str]) -> Proxy {
    Proxy::start(&[server.address()], &[&["redis: true", "timeout: 20000", "on_failure: miss"], more].concat())
}

#[test]
fn a_read_is_not_sent_again_behind_its_clients_later_write() {
    let mut server = Mock::start();
    let proxy = mock_pool(&server, &[]);
    let mut client = proxy.client();
    let get = request(&["GET", "k"]);
    let warm = |server: &mut Mock, client: &mut Client| {
        client.send(&get);
        server.receive(&get);
        server.answer("$1\r\nv\r\n");
        assert_eq!((client.line(), client.line()), ("$1".to_owned(), "v".to_owned()));
    };
    warm(&mut server, &mut client);
    let transaction = ["MULTI", "EXEC"].map(|word| request(&[word]));
    let set = request(&["SET", "k", "new"]);
    let exec = [&transaction[0][..], &set, &transaction[1]].concat();
    for (behind, answers) in [
        (set.clone(), "$-1\r\n$-1\r\n"),
        (request(&["EVAL", "return 1", "1", "k"]), "$-1\r\n"),
        (request(&["FLUSHALL"]), "$-1\r\n+OK\r\n"),
        (exec, "$-1\r\n+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n"),
    ] {
        let sent = [&get[..], &behind].concat();
        client.send(&sent);
        server.receive(&sent);
        server.close();
        assert_eq!(show(&client.read(answers.len())), show(answers.as_bytes()), "of {sent:?}");
        if behind.contains("EVAL") {
            client.line(); // an error: nobody knows what a script would have said
        }
        if behind.contains("FLUSHALL") {
            server.receive(request(&["FLUSHALL"])); // it is pending
            server.answer("+OK\r\n");
        }
        warm(&mut server, &mut client);
    }
    // What reads only may come again, another client's write or not.
    let sent = [&get[..], &request(&["LLEN", "l"])].concat();
    client.send(&sent);
    server.receive(&sent);
    let mut other = proxy.client();
    other.send(&set);
    server.receive(&set);
    server.close();
    server.receive(&sent);
    server.answer("$1\r\nv\r\n:7\r\n");
    assert_eq!(show(&client.read(11)), show(b"$1\r\nv\r\n:7\r\n"));
    assert_eq!(other.line(), "$-1");
}

/// A server that keeps connections apart by what they are set to first: those of database 3, and those of 0.
struct Databases {
    listener: TcpListener,
}

impl Databases {
    fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// Answers all that comes, but for as many flushes as are to be lost: it closes then, when it is told to. Tells which
    /// databases flushes were for, and whether they were carried out.
    fn serve(self, lost: usize, close: Option<mpsc::Receiver<()>>) -> mpsc::Receiver<(u32, bool)> {
        let (flushes, seen) = mpsc::channel();
        let left = Arc::new(Mutex::new(lost));
        let close = Arc::new(Mutex::new(close));
        let flushed = Arc::new(AtomicBool::new(false));
        std::thread::spawn(move || {
            for stream in self.listener.incoming() {
                let (stream, flushes) = (stream.unwrap(), flushes.clone());
                let (left, close, flushed) = (Arc::clone(&left), Arc::clone(&close), Arc::clone(&flushed));
                std::thread::spawn(move || {
                    let (mut database, mut lines, mut out) = (0, BufReader::new(&stream).lines(), &stream);
                    while let Some(Ok(count)) = lines.next() {
                        let count: usize = count[1..].parse().unwrap();
                        let words: Vec<String> = lines.by_ref().take(2 * count).map(Result::unwrap).collect();
                        let answer: &[u8] = match words[1].as_str() {
                            "PING" => b"+PONG\r\n",
                            "GET" if flushed.load(Ordering::Relaxed) => b"$-1\r\n",
                            "GET" => b"$3\r\nold\r\n",
                            "SELECT" => {
                                database = words[3].parse().unwrap();
                                b"+OK\r\n"
                            }
                            "FLUSHDB" => {
                                let mut left = left.lock().unwrap();
                                flushes.send((database, *left == 0)).unwrap();
                                if *left > 0 {
                                    *left -= 1;
                                    drop(left);
                                    if let Some(close) = &*close.lock().unwrap() {
                                        let _ = close.recv();
                                    }
                                    return;
                                }
                                flushed.store(true, Ordering::Relaxed);
                                b"+OK\r\n"
                            }
                            _ => b"+OK\r\n",
                        };
                        out.write_all(answer).unwrap();
                    }
                });
            }
        });
        seen
    }
}

#[test]
fn a_flush_that_was_lost_is_pending_in_its_own_database() {
    for leaves in [true, false] {
        let server = Databases::start();
        let address = server.listener.local_addr().unwrap();
        let seen = server.serve(3, None);
        let proxy = Proxy::start(&[address], &["redis: true", "timeout: 2000", "on_failure: miss"]);
        let mut client = proxy.client();
        // Requests before it, so that its number is another one than any database's.
        (0..7).for_each(|_| assert_eq!(client.ask(request(&["SELECT", "3"])), "+OK"));
        client.send(request(&["FLUSHDB"]));
        if leaves {
            drop(client);
        } else {
            assert_eq!(client.line(), "+OK");
            assert_eq!(client.ask(request(&["SELECT", "5"])), "+OK");
        }
        let soon = Duration::from_secs(10);
        let flushes: Vec<_> = (0..4).map(|_| seen.recv_timeout(soon).expect("a flush")).collect();
        assert_eq!(flushes, [(3, false), (3, false), (3, false), (3, true)], "the client leaves: {leaves}");
    }
}

/// The client was told OK when its time was up, has selected another database, and then the connection breaks.
#[test]
fn a_flush_is_pending_in_the_database_that_its_client_had_selected_then() {
    let server = Databases::start();
    let address = server.listener.local_addr().unwrap();
    let (close, closed) = mpsc::channel();
    let seen = server.serve(1, Some(closed));
    let proxy = Proxy::start(&[address], &["redis: true", "timeout: 300", "on_failure: miss"]);
    let mut client = proxy.client();
    let flush = || seen.recv_timeout(Duration::from_secs(10)).expect("a flush");
    assert_eq!(client.ask(request(&["SELECT", "3"])), "+OK");
    assert_eq!(client.ask(request(&["FLUSHDB"])), "+OK", "in its place");
    assert_eq!(client.ask(request(&["SELECT", "5"])), "+OK");
    assert_eq!(flush(), (3, false));
    close.send(()).unwrap();
    assert_eq!(flush(), (3, true));
}

/// The flush was answered in the server's place; the connections that are to make up for it hang as well, and another one
/// answers at once.
#[test]
fn who_was_told_that_all_is_forgotten_reads_nothing_old_on_another_connection() {
    let server = Databases::start();
    let address = server.listener.local_addr().unwrap();
    let (_never, closed) = mpsc::channel();
    let seen = server.serve(3, Some(closed));
    let options = ["redis: true", "timeout: 200", "on_failure: miss", "server_connections: 2"];
    let proxy = Proxy::start(&[address], &options).expect_log("server is silent");
    let (mut flusher, mut reader) = (proxy.client(), proxy.client());
    let mut read = || {
        let line = reader.ask(request(&["GET", "key"]));
        (line != "$-1").then(|| reader.line())
    };
    flusher.send(
        [request(&["FLUSHDB"]), request(&["ECHO", "a"]), request(&["GET", "a"]), request(&["GET", "b"])].concat(),
    );
    assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok((0, false)));
    assert_eq!(read().as_deref(), Some("old"), "on the other connection, before anybody was told anything");
    assert_eq!(flusher.line(), "+OK", "in the server's place");
    let start = Instant::now();
    while !matches!(seen.try_recv(), Ok((0, true))) {
        assert_eq!(read(), None, "{:?} after the flush", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10), "it is never flushed");
    }
    assert_eq!(read(), None);
}

/// What a connection was given is not there any more when the servers were made to forget it.
#[test]
fn scripts_are_loaded_in_front_of_a_pipeline_after_they_were_flushed_and_given_to_another_server() {
    let servers = [Process::redis(), Process::redis()];
    let proxy = pool(&[&servers[0], &servers[1]], &["timeout: 2000"]);
    let mut client = proxy.client();
    let name = load(&mut client);
    let mut direct = servers[0].client();
    let (mut here, mut there) = (None, None);
    for number in 0..40 {
        let key = scattered_key(number);
        assert_eq!(client.ask(request(&["EVALSHA", &name, "1", &key, "x"])), ":1");
        let place = if direct.ask(request(&["EXISTS", &key])) == ":1" { &mut here } else { &mut there };
        place.get_or_insert(key);
    }
    let (here, there) = (here.unwrap(), there.unwrap());
    assert_eq!(client.ask(request(&["SCRIPT", "FLUSH"])), "+OK");
    let text = "return redis.call('rpush',KEYS[1],ARGV[1])";
    assert_eq!(client.ask(request(&["EVAL", text, "1", &here, "y"])), ":2");
    let script = |word| request(&["EVALSHA", &name, "1", &there, word]);
    client.send([script("y"), script("z"), request(&["LLEN", &there])].concat());
    assert_eq!([client.line(), client.line(), client.line()], [":2", ":3", ":3"]);
}

/// What pipelines do whose answers nobody wants, at a server itself and through a pool: what is answered behind them.
#[test]
fn requests_whose_answers_nobody_wants_are_carried_out_in_their_order() {
    let (bare, server) = (Process::redis(), Process::redis());
    let proxy = pool(&[&server], &["timeout: 2000"]);
    let silent = [
        // Between databases.
        "SELECT 1;SET k v;MOVE k 2;SELECT 2;DEL k",
        "SELECT 2;SET k v;SELECT 1;COPY k k2 DB 2;SELECT 2;COPY k k2;RENAME k k3",
        // Between the connections that a pool has for one database.
        "SELECT 2;WATCH w;MULTI;SET w mine;EXEC;SET w later",
        "WATCH w;SET w other;MULTI;SET w mine;EXEC",
        "DEL q;BLPOP q 0.01;RPUSH q a b;BLPOP q 1;RPUSH q c;BLMOVE q q LEFT RIGHT 1;RPUSH q d",
        "SELECT 0;MULTI;SELECT 2;SET e mine;EXEC;APPEND e more",
        "SELECT 2;HELLO 3;SET v 3;HELLO 2;APPEND v 2;HELLO 3;APPEND v 3;HELLO 2",
    ];
    let after = "CLIENT REPLY ON\r\nMULTI\r\nSELECT 2\r\nMGET k k2 k3 w e v\r\nLRANGE q 0 -1\r\nEXEC\r\nECHO end\r\n";
    for requests in silent {
        // What `SKIP` says in a transaction is part of that.
        let skips = (!requests.contains("MULTI")).then_some(("", "CLIENT REPLY SKIP\r\n"));
        for (before, before_each) in [("CLIENT REPLY OFF\r\n", "")].into_iter().chain(skips) {
            let lines: String = requests.split(';').map(|request| format!("{before_each}{request}\r\n")).collect();
            let told = [bare.client(), proxy.client()].map(|mut client| {
                assert_eq!(client.ask("FLUSHALL\r\n"), "+OK");
                client.send(format!("{before}{lines}{after}"));
                String::from_utf8_lossy(&client.read_through(b"$3\r\nend\r\n")).into_owned()
            });
            assert_eq!(told[0], told[1], "{before}{lines}");
        }
    }
}

/// A watch guards against a change that its own client makes behind it and hears nothing of.
#[test]
fn a_watch_that_nobody_hears_of_comes_before_what_follows() {
    let server = Process::redis();
    let proxy = pool(&[&server], &["timeout: 2000"]);
    for _ in 0..20 {
        let mut client = proxy.client();
        client.send("CLIENT REPLY OFF\r\nWATCH n\r\nINCR n\r\nCLIENT REPLY ON\r\nMULTI\r\nINCR n\r\nEXEC\r\n");
        assert_eq!([client.line(), client.line(), client.line(), client.line()], ["+OK", "+OK", "+QUEUED", "*-1"]);
    }
    assert_eq!(server.client().ask("GET n\r\n"), "$2");
}

/// What answers all the same, and what does not, is what a server itself has it.
#[test]
fn what_is_skipped_is_what_a_server_skips() {
    let (bare, server) = (Process::redis(), Process::redis());
    let proxy = pool(&[&server], &["timeout: 2000"]);
    for requests in [
        "CLIENT REPLY SKIP;RESET;PING",
        "CLIENT REPLY OFF;RESET;PING",
        "CLIENT REPLY SKIP;UNSUBSCRIBE;PING",
        "CLIENT REPLY SKIP;PUNSUBSCRIBE a;PING",
        "CLIENT REPLY OFF;SUBSCRIBE a;UNSUBSCRIBE;CLIENT REPLY ON;PING",
        "CLIENT REPLY SKIP;GET a b;PING",
        "CLIENT REPLY OFF;EVALSHA 0123456789012345678901234567890123456789 1 a;CLIENT REPLY ON;GET a",
        "CLIENT REPLY SKIP;BLPOP a 0.01;PING",
    ] {
        let lines: String = requests.split(';').map(|request| format!("{request}\r\n")).collect();
        let told = [bare.client(), proxy.client()].map(|mut client| {
            client.send(format!("{lines}ECHO end\r\n"));
            String::from_utf8_lossy(&client.read_through(b"$3\r\nend\r\n")).into_owned()
        });
        assert_eq!(told[0], told[1], "{requests}");
    }
}

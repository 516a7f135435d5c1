//! What a client asks at once that needs no server, or that it wants no answer to: it is carried out in portions, in order.

use std::time::Duration;

use softmiss::engine::ids::SessionId;

use super::events::command;
use super::rig::Rig;

/// Requests that are carried out, and bytes of answers that are made, between two moments in which others are served.
const MOST_REQUESTS: usize = 1200;
const MOST_BYTES: usize = 80 << 10;

/// Requests that want no answer, of one client, that a server has still to carry out.
const MOST_UNHEARD: usize = 1024;

/// Behind the first of them, this part of it, and one answer.
const SHORTER: usize = 8;

/// What a client gets, and how much servers get of it, in each of the moments that its requests take.
fn moments(rig: &mut Rig, client: SessionId, requests: &[u8]) -> Vec<(Vec<u8>, usize)> {
    let mut moments = Vec::new();
    rig.send(client, requests, 64 << 10);
    loop {
        let mut taken = rig.turn();
        let mut answers = rig.read(client);
        taken += rig.turn();
        answers.extend(rig.read(client));
        moments.push((answers, taken));
        if !rig.is_busy() {
            return moments;
        }
        rig.tick();
    }
}

/// A client sends a request so many times at once. Each of its answers ends with `end`, and nothing else does.
fn in_portions(rig: &mut Rig, request: &[u8], times: usize, end: &[u8]) {
    let client = rig.client();
    let moments = moments(rig, client, &request.repeat(times));
    let count = |answers: &[u8]| memchr::memmem::find_iter(answers, end).count();
    let what = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
    assert_eq!(moments.iter().map(|(answers, _)| count(answers)).sum::<usize>(), times, "{what}");
    let most = moments.iter().map(|(answers, _)| count(answers)).max().unwrap_or(0);
    let bytes = moments.iter().map(|(answers, _)| answers.len()).max().unwrap_or(0);
    assert!(most <= MOST_REQUESTS && bytes <= MOST_BYTES, "{what}: {most} answers of {bytes} bytes in one moment");
    let one = moments.iter().map(|(answers, _)| answers.len()).sum::<usize>() / times;
    let later = || moments[1..].iter().map(|(answers, _)| answers);
    let (most, bytes) = (later().map(|answers| count(answers)).max(), later().map(Vec::len).max());
    let is_short = most <= Some(MOST_REQUESTS / SHORTER) && bytes <= Some(MOST_BYTES / SHORTER + one);
    assert!(is_short, "{what}: {most:?} answers of {bytes:?} bytes in a later moment");
    rig.engine.client_gone(client, false);
    rig.engine.check_invariants().unwrap();
}

fn memcached() -> Rig {
    Rig::new(3, &["timeout: 400"])
}

fn redis() -> Rig {
    Rig::new(3, &["redis: true", "timeout: 400", "on_failure: miss"])
}

#[test]
fn memcached_requests_that_need_no_server() {
    let mut rig = memcached();
    in_portions(&mut rig, b"mn\r\n", 20_000, b"MN\r\n");
    in_portions(&mut rig, b"x\r\n", 20_000, b"ERROR\r\n");
    in_portions(&mut rig, b"stats proxy\r\n", 200, b"END\r\n");
    (0..3).for_each(|server| rig.lose(server));
    rig.turn();
    in_portions(&mut rig, b"get a\r\n", 10_000, b"END\r\n");
    in_portions(&mut rig, b"delete a\r\n", 5000, b"NOT_FOUND\r\n");
    let long = format!("get {}\r\n", "k ".repeat(500));
    in_portions(&mut rig, long.as_bytes(), 200, b"END\r\n");
}

#[test]
fn redis_requests_that_need_no_server() {
    let mut rig = redis();
    in_portions(&mut rig, b"PING\r\n", 10_000, b"+PONG\r\n");
    in_portions(&mut rig, b"HELLO 3\r\n", 2000, b"modules\r\n*0\r\n");
    in_portions(&mut rig, b"INFO softmiss\r\n", 200, b"# Softmiss");
    in_portions(&mut rig, b"CLIENT LIST\r\n", 500, b"id=");
    in_portions(&mut rig, b"FOO\r\n", 5000, b"-ERR");
    in_portions(&mut rig, &command(["SELECT", "1"].map(str::to_owned).into_iter()), 5000, b"+OK\r\n");
    (0..3).for_each(|server| rig.lose(server));
    rig.turn();
    in_portions(&mut rig, b"COMMAND LIST\r\n", 100, b"\r\nzscore\r\n");
    in_portions(&mut rig, b"GET a\r\n", 5000, b"$-1\r\n");
    let keys = (0..200).map(|key| format!("key:{key}"));
    in_portions(&mut rig, &command(std::iter::once("DEL".to_owned()).chain(keys)), 200, b":0\r\n");
}

#[test]
fn memcached_requests_that_want_no_answer() {
    const TIMES: usize = 6000;
    let (request, answer) = (b"set a 0 0 1 noreply\r\nx\r\n", b"STORED\r\n");
    let mut rig = Rig::new(1, &["timeout: 400"]);
    let (client, other) = (rig.client(), rig.client());
    let bytes = |moments: Vec<(Vec<u8>, usize)>| moments.iter().map(|(_, sent)| sent).sum::<usize>();
    let mut taken = bytes(moments(&mut rig, client, &request.repeat(TIMES)));
    let (mut sent, mut most) = (0, 0);
    while taken > 0 {
        let count = taken / b"set a 0 0 1\r\nx\r\n".len();
        (sent, most) = (sent + count, most.max(count));
        rig.engine.check_invariants().unwrap();
        // What others ask meanwhile waits behind these, and no more.
        rig.send(other, b"get b\r\n", 100);
        rig.turn();
        rig.say(&[&answer.repeat(count)[..], b"END\r\n"].concat(), 64 << 10);
        assert_eq!(rig.read(other), b"END\r\n");
        taken = bytes(moments(&mut rig, client, b""));
    }
    assert_eq!(sent, TIMES);
    assert!(most <= MOST_UNHEARD, "{most} in flight at once");
    rig.engine.check_invariants().unwrap();
}

/// memcached carries out what a client sends in its order, so whoever is told `MN` or a version takes all before it to be done.
#[test]
fn what_says_that_all_before_it_is_done_is_not_said_before() {
    for (barrier, told) in [("mn", "MN\r\n"), ("version", "VERSION ")] {
        let mut rig = Rig::new(1, &["timeout: 400"]);
        let (client, other) = (rig.client(), rig.client());
        rig.send(client, format!("set a 0 0 1 noreply\r\nx\r\ndelete b noreply\r\n{barrier}\r\n").as_bytes(), 100);
        rig.send(other, b"mn\r\n", 100);
        rig.turn();
        assert_eq!(rig.read(other), b"MN\r\n", "of what others have asked nothing is said");
        rig.say(b"STORED\r\n", 100);
        assert_eq!(rig.read(client), b"", "{barrier}");
        rig.say(b"DELETED\r\n", 100);
        rig.turn();
        rig.say(b"VERSION 1.6.0\r\n", 100);
        assert!(rig.read(client).starts_with(told.as_bytes()), "{barrier}");
        rig.engine.check_invariants().unwrap();
    }
}

/// A server that says nothing is waited for no longer than for an answer.
#[test]
fn requests_that_want_no_answer_do_not_wait_for_a_silent_server_for_ever() {
    const TIMES: usize = 2500;
    let mut rig = Rig::new(1, &["timeout: 400"]);
    let client = rig.client();
    let requests = [&b"delete a noreply\r\n".repeat(TIMES)[..], b"mn\r\n"].concat();
    let deletes = |moments: Vec<(Vec<u8>, usize)>| {
        let sent: usize = moments.iter().map(|(_, sent)| sent / b"delete a\r\n".len()).sum();
        (sent, moments.into_iter().flat_map(|(answers, _)| answers).collect::<Vec<_>>())
    };
    let (mut sent, mut answers) = deletes(moments(&mut rig, client, &requests));
    let mut waits = 0;
    while answers.is_empty() {
        assert!(sent.is_multiple_of(MOST_UNHEARD), "{sent}");
        waits += 1;
        rig.now = rig.now + Duration::from_millis(400);
        rig.engine.handle_timeout(rig.now);
        let (more, said) = deletes(moments(&mut rig, client, b""));
        (sent, answers) = (sent + more, said);
        rig.engine.check_invariants().unwrap();
    }
    assert_eq!((answers, waits), (b"MN\r\n".to_vec(), TIMES / MOST_UNHEARD));
    // The last of them come when the server has been found silent.
    assert_eq!(sent, 2 * MOST_UNHEARD);
}

/// They wait for their answers as others do, since what follows may have to wait for them.
#[test]
fn redis_requests_that_want_no_answer() {
    const TIMES: usize = 6000;
    let mut rig = Rig::new(1, &["redis: true", "timeout: 400"]);
    let client = rig.client();
    rig.send(client, b"CLIENT REPLY OFF\r\n", 100);
    let request = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nx\r\n";
    let (mut all, mut most) = (0, 0);
    let mut sent = moments(&mut rig, client, &request.repeat(TIMES)).iter().map(|(_, sent)| sent / request.len()).sum();
    while sent > 0 {
        (all, most) = (all + sent, most.max(sent));
        rig.say(&b"+OK\r\n".repeat(sent), 64 << 10);
        sent = rig.turn() / request.len();
        rig.tick();
        sent += rig.turn() / request.len();
        assert_eq!(rig.read(client), b"");
    }
    assert_eq!(all, TIMES);
    assert!(most <= MOST_REQUESTS, "{most} at once");
    rig.send(client, b"CLIENT REPLY ON\r\n", 100);
    assert_eq!(rig.read(client), b"+OK\r\n");
    rig.engine.check_invariants().unwrap();
}

/// An answer that is put together from thousands of lines takes as long as many small ones: few are asked for at once.
#[test]
fn few_listings_of_all_servers_are_in_flight() {
    let mut rig = Rig::new(1, &["redis: true", "timeout: 400"]);
    let client = rig.client();
    let listing = b"$15\r\n# Server\r\na:1\r\n\r\n";
    let request = b"*1\r\n$4\r\nINFO\r\n";
    rig.send(client, &request.repeat(200), 64 << 10);
    let (mut asked, mut most) = (0, 0);
    loop {
        let mut sent = rig.turn();
        while rig.is_busy() {
            rig.tick();
            sent += rig.turn();
        }
        if sent == 0 {
            break;
        }
        let asks = sent / request.len();
        (asked, most) = (asked + asks, most.max(asks));
        rig.say(&listing.repeat(asks), 64 << 10);
    }
    assert_eq!((asked, most <= 8), (200, true), "{most} at once");
    let answers = rig.read(client);
    assert_eq!(memchr::memmem::find_iter(&answers, b"# Server").count(), 200);
    rig.engine.check_invariants().unwrap();
}

#[test]
fn answers_of_portions_come_in_order() {
    let mut rig = redis();
    let client = rig.client();
    let echo = |number: usize| command(["ECHO".to_owned(), format!("n{number}")].into_iter());
    let requests: Vec<u8> = (0..5000).flat_map(echo).collect();
    let moments = moments(&mut rig, client, &requests);
    assert!(moments.len() > 3);
    let answers: Vec<u8> = moments.into_iter().flat_map(|(answers, _)| answers).collect();
    let right: String =
        (0..5000).map(|number| format!("n{number}")).map(|n| format!("${}\r\n{n}\r\n", n.len())).collect();
    assert!(answers == right.into_bytes());
    // One that leaves in the middle of them is no trouble.
    rig.send(client, &requests, 64 << 10);
    rig.engine.client_gone(client, false);
    rig.settle();
    rig.engine.check_invariants().unwrap();
}

#[test]
fn no_more_than_a_window_of_answers_waits_behind_one() {
    let mut rig = Rig::new(1, &["redis: true", "timeout: 400"]);
    let client = rig.client();
    rig.send(client, &[&b"GET a\r\n"[..], &b"PING\r\n".repeat(50_000)].concat(), 64 << 10);
    rig.settle();
    rig.say(b"$-1\r\n", 5);
    let answers = rig.read(client);
    assert!(answers.starts_with(b"$-1\r\n+PONG\r\n"));
    let first = memchr::memmem::find_iter(&answers, b"+PONG\r\n").count();
    assert!(first <= MOST_REQUESTS + 1024, "{first} at once");
    let mut all = first;
    while rig.is_busy() || all < 50_000 {
        rig.tick();
        rig.turn();
        let more = memchr::memmem::find_iter(&rig.read(client), b"+PONG\r\n").count();
        assert!(more <= MOST_REQUESTS && (more > 0 || all == 50_000), "{more} more, behind {all}");
        all += more;
    }
    assert_eq!(all, 50_000);
}

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::super::client::WRITE_BUDGET;
use super::super::departing::PORTION;
use super::super::turn::{BULKY, SLICE};
use super::*;
use crate::config::model::PoolId;
use crate::engine::{Effect, Scripts, Setup};
use crate::stats::counters::Counters;
use crate::topology::Published;

fn worker() -> (Worker, Arc<Counters>) {
    worker_of("pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  servers: ['127.0.0.1:1:1']\n")
}

fn worker_of(file: &str) -> (Worker, Arc<Counters>) {
    let published = Arc::new(Published::new(crate::config::parse("file", file).unwrap().config, 1));
    let topology = published.current();
    let (clock, (mailbox, own)) = (Clock::start(), Mailbox::new(0).unwrap());
    let engine =
        Engine::new(Setup { published, worker: 0, seed: 1, started_at: Duration::ZERO, scripts: Scripts::default() });
    let (events, connector) = (Arc::new(Events::default()), Connector::start(Arc::default()).unwrap());
    let files = Files::of_process(&topology.config);
    let context = WorkerContext { clock, events, connector, files, keeper: None, own, others: Vec::new() };
    (Worker::new(engine, mailbox, None, context), Arc::clone(&topology.counters[0]))
}

/// Connections to the servers that a worker connects to at first, and their other ends.
fn servers(worker: &mut Worker) -> Vec<(LinkId, UnixStream)> {
    worker.engine.preconnect(worker.clock.now());
    let mut links = Vec::new();
    while let Some(effect) = worker.engine.poll_effect() {
        let Effect::Connect { link, epoch } = effect else { continue };
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let counted = worker.files.count(false);
        worker.links.connecting(link, None, counted);
        worker.connected(link, epoch, Ok(near.into()));
        links.push((link, far));
    }
    links
}

/// A client that has sent as much as its socket holds: so many long requests that are answered without a server. What
/// is read in a turn costs the engine less than it gives one.
fn talkative() -> (OwnedFd, UnixStream, usize) {
    let (near, far) = UnixStream::pair().unwrap();
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
        socket2::SockRef::from(end).set_send_buffer_size(4 << 20).unwrap();
    }
    let request = format!("mn{}\r\n", " ".repeat(1020));
    let text = request.repeat(20);
    let sent: usize = std::iter::from_fn(|| (&far).write(text.as_bytes()).ok()).sum();
    (near.into(), far, sent / request.len())
}

#[test]
fn a_client_that_cannot_be_watched_is_let_go() {
    let (mut worker, counters) = worker();
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    worker.poller.watch(&near, Token::Alarm).unwrap(); // so that it cannot be done again
    worker.own.load.fetch_add(1, Ordering::Relaxed); // as who accepts does
    worker.welcome(PoolId(0), near.into());
    assert_eq!((worker.engine.clients(), worker.own.load.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(counters.pool(PoolId(0)).client_err.value(), 1);
    assert_eq!(std::io::Read::read(&mut far, &mut [0]).unwrap(), 0, "it is closed");
}

#[test]
fn the_alarm_is_put_off_once_however_much_there_is_to_read() {
    let (mut worker, _) = worker();
    for _ in 0..2 {
        worker.is_alarmed = true;
        worker.heed_alarm(true);
        assert!(worker.is_alarmed);
        worker.heed_alarm(true);
        assert!(!worker.is_alarmed);
    }
    worker.is_alarmed = true;
    worker.heed_alarm(false);
    assert!(!worker.is_alarmed);
}

/// Where the first client of a worker is.
const FIRST: poller::Seat = poller::Seat::new(0, 1);

#[test]
fn a_client_has_one_turn_before_others_have_theirs() {
    let (mut worker, counters) = worker();
    let (near, _far, sent) = talkative();
    let answered = || usize::try_from(counters.pool(PoolId(0)).requests.value()).unwrap();
    worker.welcome(PoolId(0), near);
    worker.write_out();
    let first = answered();
    assert!(first > 0 && first < sent, "{first} of {sent} requests at once");
    assert_eq!(worker.again, [Token::Client(FIRST)]);
    // An announcement is no other turn.
    let mut announced = poller::Events::default();
    worker.take_announced(&mut announced, false).unwrap();
    worker.write_out();
    assert_eq!((answered(), &worker.again), (first, &VecDeque::from([Token::Client(FIRST)])));
    worker.again.clear();
    worker.resume(Token::Client(FIRST));
    assert!(answered() > first);
}

#[test]
fn a_client_is_written_no_more_in_a_turn_than_leaves_others_theirs() {
    let (mut worker, _) = worker_of("pool:\n  listen: 127.0.0.1:1\n  redis: true\n  servers: ['127.0.0.1:1:1']\n");
    let (near, mut far) = UnixStream::pair().unwrap();
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
        socket2::SockRef::from(end).set_send_buffer_size(4 << 20).unwrap();
    }
    let echo = format!("${}\r\n{}\r\n", 2 * WRITE_BUDGET, "x".repeat(2 * WRITE_BUDGET));
    far.write_all(format!("*2\r\n$4\r\nECHO\r\n{echo}").as_bytes()).unwrap();
    worker.welcome(PoolId(0), near.into());
    let (mut got, mut buffer) = (Vec::new(), vec![0; 4 * WRITE_BUDGET]);
    let mut written = || {
        let count = std::io::Read::read(&mut far, &mut buffer).unwrap_or(0);
        got.extend_from_slice(&buffer[..count]);
        count
    };
    worker.handled = 0;
    worker.write_out();
    for _ in 0..2 {
        assert_eq!((written(), &worker.again), (WRITE_BUDGET, &VecDeque::from([Token::Client(FIRST)])));
        worker.handled = 0;
        worker.go_on();
    }
    assert_eq!((written(), worker.again.len()), (echo.len() - 2 * WRITE_BUDGET, 0));
    assert!(got == echo.as_bytes());
}

#[test]
fn a_server_is_written_no_more_in_a_turn_than_leaves_others_theirs() {
    let (mut worker, _) = worker_of("pool:\n  listen: 127.0.0.1:1\n  preconnect: true\n  servers: ['127.0.0.1:1:1']\n");
    let (link, mut server) = servers(&mut worker).remove(0);
    let (near, mut client) = UnixStream::pair().unwrap();
    for end in [&near, &client, &server] {
        end.set_nonblocking(true).unwrap();
        socket2::SockRef::from(end).set_send_buffer_size(4 << 20).unwrap();
    }
    let set = format!("set a 0 0 {}\r\n{}\r\n", 2 * WRITE_BUDGET, "x".repeat(2 * WRITE_BUDGET));
    client.write_all(set.as_bytes()).unwrap();
    worker.welcome(PoolId(0), near.into());
    let (mut got, mut buffer) = (Vec::new(), vec![0; 4 * WRITE_BUDGET]);
    while got.len() < set.len() {
        worker.unwritten.append(&mut worker.unfinished);
        worker.go_on();
        worker.write_out();
        let count = std::io::Read::read(&mut server, &mut buffer).unwrap_or(0);
        got.extend_from_slice(&buffer[..count]);
        assert!(count <= WRITE_BUDGET, "{count} bytes in a turn");
        assert_eq!(worker.unfinished, if got.len() < set.len() && count > 0 { vec![link] } else { vec![] });
    }
    assert!(got == set.as_bytes());
}

#[test]
fn those_with_much_to_say_are_read_behind_the_others_and_not_all_in_one_turn() {
    const TALKERS: usize = 6;
    let (mut worker, _) = worker();
    let ends: [_; TALKERS] = std::array::from_fn(|_| {
        let (near, far, _) = talkative();
        worker.welcome(PoolId(0), near);
        worker.write_out();
        far
    });
    assert_eq!(worker.again.len(), TALKERS);
    let (near, mut quiet) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    worker.welcome(PoolId(0), near.into());
    quiet.write_all(b"mn\r\n").unwrap();
    worker.handled = 0;
    worker.take_announced(&mut poller::Events::default(), false).unwrap();
    worker.write_out();
    assert_eq!((worker.handled, worker.again.len()), (4, TALKERS), "only one was read");
    std::io::Read::read_exact(&mut quiet, &mut [0; 4]).unwrap();
    let first = worker.again.front().copied();
    worker.go_on();
    assert!(worker.handled >= SLICE.min(BULKY) && worker.handled <= 2 * SLICE, "{} bytes", worker.handled);
    assert!(!worker.again.is_empty() && worker.again.front().copied() != first, "others come first");
    drop(ends);
}

#[test]
fn who_had_much_to_say_waits_once_more() {
    let (mut worker, _) = worker();
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    worker.welcome(PoolId(0), near.into());
    let mut reads = |text: &[u8], at_once: bool| {
        worker.handled = 0;
        for part in text.chunks(if at_once { text.len() } else { 2 }) {
            far.write_all(part).unwrap();
            worker.take_announced(&mut poller::Events::default(), false).unwrap();
        }
        assert_eq!((worker.handled, worker.again.len()), if at_once { (text.len(), 0) } else { (0, 1) });
        worker.go_on();
        assert_eq!((worker.handled, worker.again.len()), (text.len(), 0));
    };
    reads(b"set k 0 0 1000000\r\n", true);
    reads(&[b'x'; BULKY], true);
    reads(b"xxxx", false);
    reads(b"xxxx", true);
}

#[test]
fn a_server_with_much_to_say_waits_once_more() {
    let (mut worker, _) = worker_of("pool:\n  listen: 127.0.0.1:1\n  preconnect: true\n  servers: ['127.0.0.1:1:1']\n");
    let mut links = servers(&mut worker);
    let (near, mut client) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    client.write_all(b"get k\r\n").unwrap();
    worker.welcome(PoolId(0), near.into());
    worker.write_out();
    let mut reads = |text: &[u8], at_once: bool| {
        worker.handled = 0;
        for part in text.chunks(if at_once { text.len() } else { 2 }) {
            links[0].1.write_all(part).unwrap();
            worker.take_announced(&mut poller::Events::default(), false).unwrap();
        }
        assert_eq!((worker.handled, worker.again.len()), if at_once { (text.len(), 0) } else { (0, 1) });
        worker.go_on();
        assert_eq!((worker.handled, worker.again.len()), (text.len(), 0));
    };
    reads(b"VALUE k 0 1000000\r\n", true);
    reads(&[b'v'; BULKY], true);
    reads(b"vvvv", false);
    reads(b"vvvv", true);
}

#[test]
fn a_worker_that_was_away_hears_servers_before_it_finds_them_silent() {
    const LINKS: usize = 40;
    let file = format!(
        "pool:\n  listen: 127.0.0.1:1\n  timeout: 100\n  server_connections: {LINKS}\n  preconnect: true\n  \
         servers: ['127.0.0.1:1:1']\n"
    );
    let (mut worker, counters) = worker_of(&file);
    let mut links = servers(&mut worker);
    assert_eq!(links.len(), LINKS);
    let clients: [_; LINKS] = std::array::from_fn(|_| {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.write_all(b"get k\r\n").unwrap();
        worker.welcome(PoolId(0), near.into());
        worker.write_out();
        far
    });
    let (hog, _hog, _) = talkative();
    worker.welcome(PoolId(0), hog);
    worker.write_out();
    let value = vec![b'v'; BULKY - 100];
    let answer = [format!("VALUE k 0 {}\r\n", value.len()).as_bytes(), &value, b"\r\nEND\r\n"].concat();
    let mut asked = 0;
    for (link, far) in &mut links {
        if worker.engine.link_is_asked(*link) {
            far.write_all(&answer).unwrap();
            asked += 1;
        }
        worker.again.extend(worker.links.end_turn(*link).map(Token::Link));
    }
    assert_eq!(asked, LINKS, "each has been asked");
    let due = worker.engine.next_timeout().unwrap();
    while worker.clock.now() <= due + LATE {}
    let before = worker.again.len();
    worker.is_alarmed = true;
    let mut turns = 0;
    while worker.is_alarmed {
        worker.handled = 0;
        worker.heed_alarm(false);
        assert!(worker.handled <= 2 * SLICE, "{} bytes in one turn", worker.handled);
        turns += 1;
        assert!(turns <= before);
    }
    worker.write_out();
    assert!(turns > 1 && matches!(worker.again.make_contiguous(), [Token::Client(_)]), "the hog waits");
    assert_eq!(counters.pool(PoolId(0)).all_degraded(), 0, "all have answered in time, as far as can be known");
    for mut client in clients {
        let mut got = vec![0; answer.len()];
        std::io::Read::read_exact(&mut client, &mut got).unwrap();
        assert!(got == answer);
    }
}

#[test]
fn clients_leave_for_another_process_some_at_a_time_and_the_others_are_served() {
    const CLIENTS: usize = 150;
    let (mut worker, _) = worker();
    let mut ends = Vec::new();
    for _ in 0..CLIENTS {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        worker.own.load.fetch_add(1, Ordering::Relaxed); // as who accepts does
        worker.welcome(PoolId(0), near.into());
        ends.push(far);
    }
    let (way, departing) = std::sync::mpsc::channel();
    worker.hand_over(way);
    worker.write_out();
    assert_eq!(worker.engine.clients(), CLIENTS, "nobody leaves by itself");
    let mut left = 0;
    let mut announced = poller::Events::default();
    while left < CLIENTS {
        worker.have_some_leave();
        worker.write_out();
        let now: Vec<_> = departing.try_iter().collect();
        assert!((1..=PORTION).contains(&now.len()), "{} at once", now.len());
        left += now.len();
        assert_eq!(worker.engine.clients(), CLIENTS - left);
        // The last one leaves last.
        if left < CLIENTS {
            ends[CLIENTS - 1].write_all(b"mn\r\n").unwrap();
            worker.take_announced(&mut announced, false).unwrap();
            worker.write_out();
            let mut answer = [0; 64];
            assert_eq!(std::io::Read::read(&mut ends[CLIENTS - 1], &mut answer).unwrap(), 4, "MN");
        }
    }
    worker.go_on_serving();
    worker.have_some_leave();
    assert_eq!((worker.engine.clients(), worker.own.load.load(Ordering::Relaxed)), (0, 0));
}

//! What one worker finds out about a server, the others know at once.

use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use super::book::Speaks;
use super::fault::{Fault, Server};
use super::{SERVERS, row};
use crate::support::Hiccups;

/// From the log line on, nobody waits longer than this.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Time for three timeouts, one after the other, and for requests after the ejection.
const SPAN: Duration = Duration::from_millis(1700);

/// A request: when it was sent, and when it was answered.
type Asked = (Instant, Instant);

#[test]
fn all_workers_agree_on_a_server_that_hangs() {
    row::go_first();
    let mut servers = vec![Server::before(Speaks::Memcached, Fault::Stopped)];
    servers.extend((1..SERVERS).map(|_| Server::plain(Speaks::Memcached, &[])));
    // With stall detection hardly anybody would wait for it when it is ejected.
    let (proxy, book) = row::set_up("softmiss:\n  workers: 2\n", "  stall_detection: false\n", &servers, 1);
    let keys: Vec<_> = book.keys.iter().filter(|key| key.home == 0).map(|key| key.name.clone()).collect();
    assert!(!keys.is_empty());
    // Each client is given to the worker that has the fewest: two of them to each.
    let mut clients = Vec::new();
    for _ in 0..4 {
        sleep(Duration::from_millis(20));
        let mut client = proxy.client();
        assert_eq!(client.ask(format!("get {}\r\n", keys[0])), "END");
        clients.push(client);
    }
    let hiccups = Hiccups::watch();
    servers[0].break_down(Fault::Stopped);
    let start = Instant::now();
    let clients: Vec<_> = (0..)
        .zip(clients)
        .map(|(number, mut client)| {
            let keys = keys.clone();
            spawn(move || {
                // Not in step: the others' requests are still far from their own deadlines when the server is ejected.
                sleep(number * Duration::from_millis(40));
                let mut asked: Vec<Asked> = Vec::new();
                for key in keys.iter().cycle().take_while(|_| start.elapsed() < SPAN) {
                    let sent = Instant::now();
                    assert_eq!(client.ask(format!("get {key}\r\n")), "END");
                    asked.push((sent, Instant::now()));
                    // After the ejection, answers come at once.
                    sleep(Duration::from_millis(1));
                }
                asked
            })
        })
        .collect();
    let asked: Vec<_> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    let longest_hiccup = hiccups.longest();
    let log = proxy.log();
    let line = log.iter().find(|line| line.contains("server ejected")).expect("ejected");
    let ejected = row::moment(line);
    let (mut waiting, mut slowest_waiting, mut slowest_new) = (0, Duration::ZERO, Duration::ZERO);
    for requests in &asked {
        // The one that was under way then, if there was one, and those after it.
        for (sent, answered) in requests.iter().filter(|(_, answered)| *answered > ejected) {
            if *sent < ejected {
                waiting += 1;
                slowest_waiting = slowest_waiting.max(*answered - ejected);
            } else {
                slowest_new = slowest_new.max(*answered - *sent);
            }
        }
        assert!(requests.last().is_some_and(|(sent, _)| *sent > ejected), "nothing was asked after the ejection");
    }
    println!(
        "agreement: ejected after {:?}; {waiting} requests were waiting then, the last was answered after \
         {slowest_waiting:?}; new ones within {slowest_new:?} (machine {longest_hiccup:?})",
        ejected - start
    );
    assert!(waiting >= 2, "requests wait on both workers");
    let limit = AT_ONCE + 2 * longest_hiccup;
    assert!(slowest_waiting <= limit, "a request waited {slowest_waiting:?} for a server that was ejected");
    assert!(slowest_new <= limit, "a new request took {slowest_new:?}");
    assert_eq!(log.iter().filter(|line| line.contains("server ejected")).count(), 1, "told once");
}

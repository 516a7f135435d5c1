//! Fault by fault: what clients see when a real memcached dies, hangs, lies or is cut off, and comes back.
//!
//! Each row is one fault, on one server of four or on all four, under a load that checks each answer to the last byte.
//! Promised: no error line, no disconnect, no wrong value; no request slower than `timeout`; the clients of healthy
//! servers notice nothing; a server out of the ring gets probes and no request of a client; and it is back within
//! `server_retry_timeout` + 1 s of being well.
//!
//! Rows print one line each: `cargo nextest run --success-output immediate -E 'test(/^chaos::/)'`.

mod agree;
mod balance;
mod book;
mod fault;
mod hang;
mod ledger;
mod load;
mod namespace;
mod redis;
mod redis_load;
mod row;
mod soak;
mod tap;

use std::time::{Duration, Instant};

use book::Speaks;
use fault::{Fault, Server};
use ledger::Outcome;
use load::Load;
use row::{Row, Stage, play, play_on};
use tap::Trouble;

use super::support::{Hiccups, wait_until};

const SERVERS: usize = 4;

const CLIENTS: usize = 8;

/// The pool's `timeout`, and what may be added to it.
const TIMEOUT: Duration = Duration::from_millis(400);
const SLACK: Duration = Duration::from_millis(50);

/// The pool's `server_retry_timeout`.
const RETRY: Duration = Duration::from_secs(2);

/// Until a server that breaks connections has been ejected, and its keys have been used elsewhere.
const SHORT: Duration = Duration::from_millis(1500);

/// The same for one that hangs: three timeouts pass before.
const LONG: Duration = Duration::from_millis(2200);

/// Five times down and up.
const FLAPPING: Duration = Duration::from_millis(3000);

/// A fault of one server.
fn one(fault: Fault, span: Duration, ejects: bool) {
    one_with("", fault, span, ejects);
}

/// The same with further lines of the pool.
fn one_with(more: &'static str, fault: Fault, span: Duration, ejects: bool) {
    play(Row { speaks: Speaks::Memcached, fault, all: false, span, ejects, rate: 800, more });
}

const CALM: &str = "  stampede: {wait: 100ms, lease: 1s}\n";
const NEAR: &str = "  near_cache: {ttl: 1s, stale_on_error: 5m}\n";
const BOTH: &str = "  stampede: {wait: 100ms, lease: 1s}\n  near_cache: {ttl: 1s, stale_on_error: 5m}\n";

/// Faults of all four servers at once, each with a proxy and a load of its own. There are no healthy servers whose
/// percentiles they could disturb, so several of these rows can run at the same time.
fn all(faults: &[(Fault, Duration, bool)]) {
    all_of(Speaks::Memcached, faults);
}

fn all_of(speaks: Speaks, faults: &[(Fault, Duration, bool)]) {
    let stages: Vec<_> = faults
        .iter()
        .map(|(fault, span, ejects)| {
            let row = Row { speaks, fault: *fault, all: true, span: *span, ejects: *ejects, rate: 200, more: "" };
            (row, Stage::of(row))
        })
        .collect();
    // Everything has been started before the first load: a machine that is busy with that makes servers silent.
    let rows: Vec<_> = stages.into_iter().map(|(row, stage)| std::thread::spawn(move || play_on(row, stage))).collect();
    let failed = rows.into_iter().map(std::thread::JoinHandle::join).filter(Result::is_err).count();
    assert_eq!(failed, 0, "rows failed");
}

#[test]
fn one_killed() {
    one(Fault::Killed, SHORT, true);
}

#[test]
fn one_stopped() {
    one(Fault::Stopped, LONG, true);
}

#[test]
fn one_accepts_and_never_answers() {
    one(Fault::Wire(Trouble::Silent), LONG, true);
}

#[test]
fn one_syn_dropped() {
    namespace::alone("chaos::one_syn_dropped", || one(Fault::SynDropped, LONG, true));
}

#[test]
fn one_packets_dropped() {
    namespace::alone("chaos::one_packets_dropped", || one(Fault::Dropped, LONG, true));
}

#[test]
fn one_killed_where_keys_are_waited_for() {
    one_with(CALM, Fault::Killed, SHORT, true);
}

#[test]
fn one_stopped_where_values_are_kept() {
    one_with(NEAR, Fault::Stopped, LONG, true);
}

#[test]
fn one_flaps_with_both() {
    one_with(BOTH, Fault::Flapping, FLAPPING, true);
}

#[test]
fn one_resets_within_a_response() {
    one(Fault::Wire(Trouble::Resets), SHORT, true);
}

#[test]
fn one_drips() {
    // Whether three timeouts in a row come together depends on what is asked: short answers arrive in time.
    one(Fault::Wire(Trouble::Drips), LONG, false);
}

#[test]
fn one_talks_junk() {
    one(Fault::Wire(Trouble::Junk), SHORT, true);
}

#[test]
fn one_truncates() {
    one(Fault::Wire(Trouble::Cuts), SHORT, true);
}

#[test]
fn one_is_late() {
    one(Fault::Wire(Trouble::Late), SHORT, false);
}

#[test]
fn one_flaps() {
    one(Fault::Flapping, FLAPPING, true);
}

#[test]
fn one_accepts_and_closes() {
    one(Fault::Wire(Trouble::Closes), SHORT, true);
}

#[test]
fn one_out_of_memory() {
    one(Fault::Full, SHORT, false);
}

#[test]
fn all_that_break_connections() {
    all(&[
        (Fault::Killed, SHORT, true),
        (Fault::Wire(Trouble::Closes), SHORT, true),
        (Fault::Wire(Trouble::Resets), SHORT, true),
        (Fault::Wire(Trouble::Junk), SHORT, true),
        (Fault::Wire(Trouble::Cuts), SHORT, true),
    ]);
}

#[test]
fn all_that_hang_or_come_and_go() {
    all(&[
        (Fault::Stopped, LONG, true),
        (Fault::Wire(Trouble::Silent), LONG, true),
        (Fault::Wire(Trouble::Drips), LONG, false),
        (Fault::Wire(Trouble::Late), SHORT, false),
        (Fault::Full, SHORT, false),
        (Fault::Flapping, FLAPPING, false),
    ]);
}

#[test]
fn all_unreachable() {
    namespace::alone("chaos::all_unreachable", || {
        all(&[(Fault::SynDropped, LONG, true), (Fault::Dropped, LONG, true)]);
    });
}

#[test]
fn connections_that_servers_close_while_idle_cost_nothing() {
    idle_closes(Speaks::Memcached, &["-o", "idle_timeout=1"]);
}

/// Servers started with these arguments close connections that are idle for a second.
fn idle_closes(speaks: Speaks, arguments: &[&str]) {
    row::go_first();
    let servers: Vec<_> = (0..SERVERS).map(|_| Server::plain(speaks, arguments)).collect();
    let (proxy, book) = row::set_up("", "", &servers, CLIENTS);
    let closed = || {
        let statistics = proxy.statistics();
        let count = |server: &Server| statistics["pool"][server.address.to_string()]["server_eof"].as_u64();
        servers.iter().map(|server| count(server).expect("a count")).min()
    };
    let hiccups = Hiccups::watch();
    let start = Instant::now();
    let mut ledgers = Vec::new();
    for round in 0..2 {
        // No server is suspected of anything, so each miss and each refusal where there should be none is a problem.
        let load = Load::start(proxy.address, &book, 800, round + 1);
        std::thread::sleep(Duration::from_millis(500));
        ledgers.push(load.end());
        if round == 0 {
            wait_until("every connection closed", Duration::from_secs(6), || closed() > Some(0));
        }
    }
    let slowest = ledgers.iter().map(|ledger| ledger.slowest().took).max().expect("ledgers");
    let count = |outcome| ledgers.iter().map(|ledger| ledger.count(outcome)).sum::<usize>();
    println!(
        "idle, {SERVERS} of {SERVERS}: {} hits, {} misses of deleted keys, {} stored, {} not stored, slowest \
         {slowest:?}, in {:?}",
        count(Outcome::Hit),
        count(Outcome::Miss),
        count(Outcome::Stored),
        count(Outcome::NotStored),
        start.elapsed()
    );
    let problems: Vec<_> = ledgers.iter().flat_map(|ledger| &ledger.problems).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(slowest <= SLACK + 2 * hiccups.longest(), "nobody waits for a connection: {slowest:?}");
    assert_eq!(proxy.statistics()["pool"]["server_ejects"], 0);
}

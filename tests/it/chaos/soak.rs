//! Faults drawn at random, for as long as one likes, under the load that checks each answer to the last byte.
//!
//! `SOFTMISS_SOAK_SECONDS=600 cargo test --test it chaos_soak -- --ignored --nocapture`
//!
//! 600 is also the default. `SOFTMISS_SOAK_SEED=n` draws other faults. The report comes at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::balance::check_balance;
use super::book::Speaks;
use super::fault::{Fault, Server, inflict};
use super::ledger::Outcome;
use super::load::Load;
use super::tap::Trouble;
use super::{CLIENTS, SERVERS, SLACK, TIMEOUT, row};
use crate::support::{Hiccups, Random, wait_until};

/// What can happen to a server that the proxy connects to itself. A stopped one would tell of what it heard only when it
/// goes on, so that nobody could say when that was sent.
const BARE: &[Fault] = &[Fault::Killed, Fault::Flapping];

/// What can happen to one on a wire, small enough to be filled. When it is killed, what the wire accepts is closed.
const WIRED: &[Fault] = &[
    Fault::Killed,
    Fault::Stopped,
    Fault::Full,
    Fault::Wire(Trouble::Silent),
    Fault::Wire(Trouble::Resets),
    Fault::Wire(Trouble::Cuts),
    Fault::Wire(Trouble::Drips),
    Fault::Wire(Trouble::Junk),
    Fault::Wire(Trouble::Late),
    Fault::Wire(Trouble::Closes),
];

/// Resident memory that may be added between the first and the last third of a run: what one burst leaves behind.
const GROWTH: usize = 4 << 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "takes ten minutes; the top of the file has the command"]
fn chaos_soak() {
    let span = Duration::from_secs(setting("SOFTMISS_SOAK_SECONDS", 600));
    let seed = setting("SOFTMISS_SOAK_SEED", 1);
    row::go_first();
    let mut servers: Vec<_> = [Fault::Killed, Fault::Killed, Fault::Full, Fault::Full]
        .into_iter()
        .map(|fault| Server::before(Speaks::Memcached, fault))
        .collect();
    let (proxy, book) = row::set_up("", "", &servers, CLIENTS);
    let proxy = proxy.expect_log("server is well but flapping");
    let hiccups = Hiccups::watch();
    let load = Load::start(proxy.address, &book, 800, seed);
    (0..SERVERS).for_each(|server| book.suspect(server));
    let mut random = Random(seed);
    let mut faults: BTreeMap<String, u32> = BTreeMap::new();
    let (mut probes, mut stray) = (0, Vec::new());
    let start = Instant::now();
    // Resident memory, by tenths of the run: the most that was seen in each.
    let mut resident = [0; 10];
    while start.elapsed() < span {
        let tenth = (start.elapsed().as_secs_f64() / span.as_secs_f64() * 10.0) as usize;
        resident[tenth.min(9)] = resident[tenth.min(9)].max(proxy.resident());
        // Mostly one server, sometimes two, now and then all of them.
        let hit = match random.below(8) {
            0 => SERVERS,
            1 | 2 => 2,
            _ => 1,
        };
        let first = random.below(SERVERS as u64) as usize;
        std::thread::scope(|scope| {
            for (number, server) in servers.iter_mut().enumerate() {
                if (number + SERVERS - first) % SERVERS >= hit {
                    continue;
                }
                let choices = if number < 2 { BARE } else { WIRED };
                let fault = choices[random.below(choices.len() as u64) as usize];
                let span = Duration::from_millis(100 + random.below(3000));
                *faults.entry(format!("{fault:?}")).or_default() += 1;
                scope.spawn(move || inflict(fault, &mut [server], span));
            }
        });
        std::thread::sleep(Duration::from_millis(random.below(3000)));
        for server in &servers {
            let (own, others) = row::take_heard(&proxy, server);
            probes += own;
            stray.extend(others);
        }
    }
    // One that has come and gone too often is kept out for a minute.
    wait_until("every server back", Duration::from_secs(65), || {
        let statistics = proxy.statistics();
        servers.iter().all(|server| statistics["pool"][server.address.to_string()]["state"] == "up")
    });
    let recovered = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let ledger = load.end();
    check_balance(&proxy);
    let count = |outcome| ledger.count(outcome);
    let slowest = ledger.slowest();
    let longest_hiccup = hiccups.longest();
    println!(
        "seed {seed}, {:?}: {} requests, {} hits, {} misses, {} stored, {} not stored, {} deleted, {} not found, {} \
         errors, {} disconnects, {} wrong; slowest {:?}, {:?} after the start (machine {longest_hiccup:?}); to servers \
         out of the ring: {probes} probes, {} live requests",
        start.elapsed(),
        ledger.samples.len(),
        count(Outcome::Hit),
        count(Outcome::Miss),
        count(Outcome::Stored),
        count(Outcome::NotStored),
        count(Outcome::Deleted),
        count(Outcome::NotFound),
        count(Outcome::Error),
        count(Outcome::Disconnect),
        count(Outcome::Wrong),
        slowest.took,
        slowest.start.saturating_duration_since(start),
        stray.len(),
    );
    println!("faults: {faults:?}");
    println!("resident memory by tenths, kB: {:?}", resident.map(|bytes| bytes >> 10));
    let (early, late) = (resident[..3].iter().max(), resident[7..].iter().max());
    assert!(late.copied() <= early.map(|early| early + GROWTH), "memory grows: {resident:?}");
    assert!(ledger.problems.is_empty(), "{:#?}", ledger.problems);
    assert!(stray.is_empty(), "sent to a server that is out of the ring: {stray:#?}");
    assert!(slowest.took <= TIMEOUT + SLACK + 2 * longest_hiccup, "{slowest:?}");
    let refused = ledger.samples.iter().filter(|sample| sample.start > recovered);
    let refused = refused.filter(|sample| sample.outcome == Outcome::NotStored).count();
    assert_eq!(refused, 0, "not stored though every server is back");
}

//! Redis pools in a pretend world, two with different servers and a memcached pool beside them: one real engine, and
//! pretend servers, network and clock, everything drawn from a seed.
//!
//! Values say which pool, database and key they belong to and which writing they are, messages which channel, jobs which
//! queue and that they are the only one of their kind. The servers note every state that a key had, and watch keys as
//! Redis does. So whatever a client is told, and whatever a server is told to do, can be judged:
//!
//! 1. **Its own answer.** In the client's order, of the right shape, about the right key of the right pool and database,
//!    in time, and nothing twice; a value that the key had on a server where it belongs since the request was drawn.
//! 2. **Order.** A client's writes of a key are carried out in its order; it reads nothing that it wrote only afterwards,
//!    and nothing older than a write of its own that was confirmed before.
//! 3. **Acknowledged means done, and done once.** With `on_failure: absorb`, a plain `SET` may be confirmed by nobody.
//! 4. **A guard guards** ([`guard`]): a change behind `WATCH` is carried out only if what was watched is as its client had
//!    read it; a lock (`SET NX`) is granted by its server or not at all.
//! 5. **Flushes.** No database is flushed that nobody flushed; what was there before a flush that was confirmed, or before
//!    an absence with `rejoin: flush`, is never read again.
//! 6. **Answered in a server's place.** What a client was told to be replaced, though no server got that, is not read as it
//!    was before. Only what may have reached a server on a connection that is over may leave it.
//! 7. **Servers that come, go and move** ([`topology`]): nothing that is asked afterwards reaches one that has left, or one that
//!    the key is no longer at home on. What was asked before has exactly one answer. A client of a pool that is served no
//!    longer is answered what it had asked, and let go.
//! 8. **What is brought along** to a server that was added ([`newest`]) is what was written last.
//! 9. **Memory** stays bounded, and clients that read are served whatever others do.
//!
//! `SOFTMISS_SIM_SEED=n` runs one seed alone, `SOFTMISS_SIM_SEEDS=n` runs more; `SOFTMISS_SIM_VERBOSE=1` prints how often
//! everything was seen.

mod by_hand;
mod calm;
mod client;
mod draw;
mod faults;
mod guard;
mod hog;
mod judge;
mod memcache;
mod network;
mod newest;
mod plan;
mod servers;
mod store;
mod topology;
mod world;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use softmiss::proto::resp::reply::{self, Reply};

use super::super::sim::{number, seeds};
use plan::Plan;
use world::{History, World};

/// How often everything was seen.
type Tally = BTreeMap<&'static str, u64>;

/// The text of a reply that is one.
fn text(value: &[u8]) -> Vec<u8> {
    if let Reply::Bulk(text) | Reply::Simple(text) = reply::read(value) { text.to_vec() } else { Vec::new() }
}

/// The beginning of some bytes, for people.
fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).escape_debug().to_string()
}

/// Runs one seed; a failing one is run again with its history written down.
fn run(plan: Plan) -> Tally {
    let quiet = AssertUnwindSafe(|| World::new(plan.clone(), None).run());
    if let Ok(tally) = std::panic::catch_unwind(quiet) {
        return tally;
    }
    let history = History::default();
    let kept = History::clone(&history);
    let again = AssertUnwindSafe(|| World::new(plan.clone(), Some(kept)).run());
    let what = std::panic::catch_unwind(again).expect_err("a run repeats itself");
    let what = what.downcast_ref::<String>().cloned().unwrap_or_default();
    let steps: Vec<_> = history.borrow().iter().cloned().collect();
    let seed = plan.seed;
    panic!("last steps:\n{}\nseed {seed}: {what}\n(SOFTMISS_SIM_SEED={seed} replays it; {plan:?})", steps.join("\n"));
}

/// What a run of many seeds must have seen: what has not happened proves nothing.
const SEEN: &[&str] = &[
    "closed",
    "ejected",
    "ends waited for",
    "errors",
    "flushed",
    "flushes",
    "half closed",
    "held",
    "hits",
    "hung",
    "hung up",
    "jobs",
    "junk",
    "killed",
    "late connects",
    "late replies",
    "leases",
    "left",
    "locks",
    "messages",
    "misses",
    "options changed",
    "pools replaced",
    "pops ended",
    "requests",
    "restored",
    "scripts unknown",
    "sent away",
    "servers added",
    "servers back",
    "servers moved",
    "servers removed",
    "told in place",
    "transactions",
    "weights changed",
];

fn merge(total: &mut Tally, more: Tally) {
    more.into_iter().for_each(|(what, count)| *total.entry(what).or_default() += count);
}

fn report(total: &Tally) {
    if number("SOFTMISS_SIM_VERBOSE").is_some() {
        total.iter().for_each(|(what, count)| println!("{count:>12}  {what}"));
    }
}

#[test]
fn whatever_happens_every_client_gets_its_own_answers() {
    let mut total = Tally::default();
    let seeds = seeds(200);
    seeds.clone().for_each(|seed| merge(&mut total, run(Plan::draw(seed))));
    report(&total);
    let missing: Vec<_> = SEEN.iter().filter(|what| !total.contains_key(*what)).collect();
    assert!(seeds.end - seeds.start < 100 || missing.is_empty(), "never seen: {missing:?}");
}

/// Servers are added, and what is stored of keys that move is brought along.
#[test]
fn what_is_brought_along_is_what_was_written_last() {
    let mut total = Tally::default();
    let seeds = seeds(120);
    seeds.clone().for_each(|seed| merge(&mut total, run(Plan::growing(seed))));
    report(&total);
    let missing: Vec<_> =
        ["brought along", "servers added"].into_iter().filter(|what| !total.contains_key(what)).collect();
    assert!(seeds.end - seeds.start < 100 || missing.is_empty(), "never seen: {missing:?}");
}

/// A connection ended between what says that a key is copied and that this is forgotten after a while: nobody could change the
/// key any more.
#[test]
fn who_copies_a_key_is_forgotten_when_a_connection_ends() {
    run(Plan::growing(367));
}

/// A pool left and came back while a server that was out had not been flushed as clients had been told: the flush was lost where
/// `rejoin` is `keep`.
#[test]
fn a_pool_that_comes_back_owes_the_flush_that_it_owed_before() {
    for seed in [1_000_675, 1_002_781] {
        run(Plan::draw(seed));
    }
}

/// A subscriber that had read everything was cut off for the buffer that it kept, as others held all of the memory.
#[test]
fn who_reads_is_not_cut_off_for_what_it_has_read() {
    run(Plan::draw(1_005_064));
}

/// By hand: `cargo nextest run --release --run-ignored only -E 'test(ten_million)' --no-capture`, with
/// `SOFTMISS_SIM_REQUESTS=n` for another number.
#[test]
#[ignore = "takes minutes on all cores"]
fn ten_million_requests() {
    let wanted = number("SOFTMISS_SIM_REQUESTS").unwrap_or(10_000_000);
    let (seed, asked) = (AtomicU64::new(1_000_000), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let start = std::time::Instant::now();
    let work = || {
        let mut total = Tally::default();
        while asked.load(Ordering::Relaxed) < wanted {
            let tally = run(Plan::draw(seed.fetch_add(1, Ordering::Relaxed)));
            asked.fetch_add(tally.get("requests").copied().unwrap_or(0), Ordering::Relaxed);
            merge(&mut total, tally);
        }
        total
    };
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| merge(&mut total, worker.join().expect("no violation")));
    });
    total.iter().for_each(|(what, count)| println!("{count:>12}  {what}"));
    let (seconds, asked) = (start.elapsed().as_secs_f64(), asked.load(Ordering::Relaxed));
    println!("{asked} requests in {seconds:.0} s on {threads} cores, with 0 violations");
}

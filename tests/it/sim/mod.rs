//! The engine in a pretend world: several clients, servers, a clock that jumps, and every fault that a network has.
//!
//! A run is a loop over random steps, all drawn from one seed: a few bytes move on some connection, commands are
//! executed, time passes, something breaks. The engine's own invariants are checked between steps; whatever a client
//! reads is checked against what it asked and against what the servers really did.
//!
//! - Healthy runs (bytes move in random pieces, nothing breaks) must give exactly what one memcached would give.
//! - Faulty runs must give each request exactly one answer, in order, its own, by its deadline, and with
//!   `on_failure: miss` no error that a server caused. What an answer may say is the matter of [`judge`]. Memory stays
//!   bounded and counters add up ([`balance`]). When the faults stop, every server is back in the ring within
//!   `server_retry_timeout` + 1 s and all is as good as new ([`calm`]). In all of them servers come, go, and move
//!   ([`topology`]).
//!
//! A failing seed is in the message: `SOFTMISS_SIM_SEED=n` runs that one alone, `SOFTMISS_SIM_SEEDS=n` runs more seeds;
//! `SOFTMISS_SIM_VERBOSE=1` prints how often everything was drawn. By hand, on all cores:
//! `cargo nextest run --release --run-ignored only -E 'test(hundred_million)' --no-capture`, with
//! `SOFTMISS_SIM_REQUESTS=n` for another number. `tests/planted/run.sh` plants bugs in the engine and demands that they
//! are found.

mod agreement;
mod answer;
mod balance;
mod calm;
mod client;
mod draw;
mod faults;
mod judge;
mod ledger;
mod moves;
mod newest;
mod plan;
mod random;
mod reading;
mod servers;
mod store;
mod tally;
mod topology;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use plan::Plan;
use tally::Tally;
use world::World;

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    match (number("SOFTMISS_SIM_SEED"), number("SOFTMISS_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..default,
    }
}

/// The beginning of some bytes, for people.
fn short(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).into_owned()
}

/// Runs one seed; a failing one is run again with its history written down.
fn run(plan: Plan) -> World {
    let mut world = World::new(plan.clone());
    if world.run().is_ok() {
        return world;
    }
    let seed = plan.seed;
    let mut world = World::new(plan).with_history();
    let what = world.run().expect_err("a run repeats itself");
    panic!(
        "seed {seed}: {what}\n(SOFTMISS_SIM_SEED={seed} replays it; {:?})\nlast steps:\n{}",
        world.plan,
        world.history()
    );
}

fn simulate(plan: impl Fn(u64) -> Plan, default_seeds: u64) {
    let mut requests = 0;
    let mut tally = Tally::default();
    for seed in seeds(default_seeds) {
        let world = run(plan(seed));
        requests += world.answered();
        tally.merge(&world.tally);
    }
    println!("{requests} requests were answered");
    if number("SOFTMISS_SIM_VERBOSE").is_some() {
        println!("{}", tally.table());
    }
    assert!(requests > 500 || number("SOFTMISS_SIM_SEED").is_some(), "only {requests} requests were answered");
}

#[test]
fn a_healthy_pool_answers_as_one_memcached_does() {
    simulate(Plan::healthy, 120);
}

#[test]
fn faults_of_servers_cost_misses_and_nothing_else() {
    simulate(Plan::faulty, 500);
}

#[test]
fn who_waits_for_keys_is_told_what_one_memcached_would_tell() {
    simulate(|seed| Plan::healthy(seed).calm(), 60);
}

#[test]
fn waiting_for_keys_costs_time_and_nothing_else() {
    simulate(|seed| Plan::faulty(seed).calm().with_workers(1 + seed as usize % 2), 200);
}

#[test]
fn keys_are_waited_for_while_servers_come_and_go() {
    simulate(|seed| Plan::shifting(seed).calm(), 30);
}

#[test]
fn two_workers_share_one_opinion_of_the_servers() {
    simulate(|seed| Plan::faulty(seed).with_workers(2), 160);
}

#[test]
fn servers_that_are_added_get_what_was_written_last() {
    simulate(|seed| Plan::growing(seed).with_workers(1 + usize::from(!seed.is_multiple_of(4))), 400);
}

#[test]
fn servers_that_come_go_and_move_cost_misses_and_nothing_else() {
    simulate(|seed| if seed % 4 == 3 { Plan::shifting(seed).with_workers(2) } else { Plan::shifting(seed) }, 40);
}

/// Clients that read nothing before the end, of pools that are replaced under them.
#[test]
fn many_clients_leave_a_pool_in_the_same_step() {
    run(Plan::shifting(1_000_038));
}

/// Clients wait for keys that are brought along, with no timeout, when one is published and time jumps.
#[test]
fn a_timeout_begins_when_its_worker_hears_of_it() {
    run(Plan::shifting(1_002_777));
    run(Plan::shifting(1_002_891));
}

/// A request that had been given some time anew came to stand in front of one that was carried out under another `timeout`.
#[test]
fn requests_keep_their_order_when_their_timeout_changes() {
    run(Plan::shifting(1_001_793));
}

#[test]
fn who_is_cut_off_at_its_deadline_waits_for_nothing() {
    run(Plan::faulty(1_006_025));
}

#[test]
fn a_run_repeats_itself() {
    assert_eq!(run(Plan::faulty(11)).fingerprint, run(Plan::faulty(11)).fingerprint);
}

/// By hand: see the module's documentation.
#[test]
#[ignore = "takes minutes on all cores"]
fn a_hundred_million_requests() {
    let wanted = number("SOFTMISS_SIM_REQUESTS").unwrap_or(100_000_000);
    let (seed, answered) = (AtomicU64::new(1_000_000), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let start = std::time::Instant::now();
    let work = || {
        let mut tally = Tally::default();
        while answered.load(Ordering::Relaxed) < wanted {
            let seed = seed.fetch_add(1, Ordering::Relaxed);
            let plan = match seed % 6 {
                0 => Plan::growing(seed),
                1 | 5 => Plan::faulty(seed).calm(),
                3 => Plan::shifting(seed),
                _ => Plan::faulty(seed),
            };
            let world = run(if seed % 4 == 0 { plan.with_workers(2) } else { plan });
            answered.fetch_add(world.answered(), Ordering::Relaxed);
            tally.merge(&world.tally);
        }
        tally
    };
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            total.merge(&worker.join().expect("no violation"));
        }
    });
    let (seconds, requests) = (start.elapsed().as_secs_f64(), answered.load(Ordering::Relaxed));
    println!("{}", total.table());
    println!("{requests} requests were answered in {seconds:.0} s on {threads} cores, with 0 violations");
    println!("{:.0} requests per second and core", requests as f64 / seconds / threads as f64);
    assert!(wanted < 1_000_000 || total.missing().is_empty(), "never drawn: {:?}", total.missing());
}

//! The engine in a pretend world: several clients, servers, a clock that jumps, and every fault that a network has.
//!
//! A run is a loop over random steps, all drawn from one seed: a few bytes move on some connection, a command is
//! executed, time passes, something breaks. After each step the engine's own invariants are checked; whatever a client
//! reads is checked against what it asked.
//!
//! - Healthy runs (bytes move in random pieces, nothing breaks) must give exactly what one memcached would give.
//! - Faulty runs must give each request exactly one answer, in order, its own, in time, and with `on_failure: miss` no
//!   error that a server caused.
//!
//! A failing seed is in the message: `SOFTMISS_SIM_SEED=n` runs that one alone, `SOFTMISS_SIM_SEEDS=n` runs more seeds.

mod client;
mod store;
mod world;

use world::{Plan, World};

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SOFTMISS_SIM_SEED"), number("SOFTMISS_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..default,
    }
}

fn simulate(plan: impl Fn(u64) -> Plan, default_seeds: u64) {
    let mut requests = 0;
    for seed in seeds(default_seeds) {
        let mut world = World::new(seed, plan(seed));
        if let Err(what) = world.run() {
            panic!("seed {seed}: {what}\n(SOFTMISS_SIM_SEED={seed} replays it)\nlast steps:\n{}", world.history());
        }
        requests += world.answered();
    }
    println!("{requests} requests were answered");
    assert!(requests > 1000, "only {requests} requests were answered");
}

#[test]
fn a_healthy_pool_answers_as_one_memcached_does() {
    simulate(Plan::healthy, 400);
}

#[test]
fn faults_of_servers_cost_misses_and_nothing_else() {
    simulate(Plan::faulty, 600);
}

#[test]
fn two_workers_share_one_opinion_of_the_servers() {
    simulate(|seed| Plan::faulty(seed).with_workers(2), 100);
}

#[test]
fn a_run_repeats_itself() {
    let run = |seed| {
        let mut world = World::new(seed, Plan::faulty(seed));
        world.run().expect("a run without violations");
        world.fingerprint()
    };
    assert_eq!(run(11), run(11));
}

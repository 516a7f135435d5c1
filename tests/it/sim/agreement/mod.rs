//! Many hosts, each with an engine of its own, before the same servers, which not all of them can reach.
//!
//! Nothing is judged here as in the rest of the simulation; it is measured what hosts that disagree about which servers there
//! are do to each other: reads older than what somebody had been told before, locks that two have, misses. Decision 19 has
//! the figures: `cargo nextest run --run-ignored only -E 'test(agreement::figures)' --no-capture`, with
//! `SOFTMISS_SIM_SEEDS=n` for more seeds.

mod customers;
mod judge;
mod network;
mod oracle;
mod plan;
mod servers;
mod world;

use softmiss::config::model::OnFailure;

use judge::Tally;
use plan::{Plan, Policy, Trouble};
use world::World;

fn short(policy: Policy, trouble: Trouble) -> Tally {
    World::run(Plan::short(crate::sim::number("SOFTMISS_SIM_SEED").unwrap_or(1), policy, trouble))
}

#[test]
fn hosts_that_agree_read_what_was_written_last() {
    for policy in [Policy::REHASH, Policy::HOLD] {
        let tally = short(policy, Trouble::None);
        assert!(tally.reads > 300 && tally.hits > tally.reads / 2 && tally.granted > 10, "{tally:?}");
        assert_eq!((tally.stale, tally.late, tally.believed, tally.refused), (0, 0, 0, 0), "{tally:?}");
        assert_eq!((tally.twice, tally.twice_released), (0, 0), "{tally:?}");
    }
}

/// Where keys go elsewhere, hosts that see different servers read what others have replaced, and two may have a lock.
#[test]
fn rehashing_hosts_that_disagree_read_what_was_replaced() {
    let mut sum = Tally::default();
    for trouble in [Trouble::Half, Trouble::Staggered, Trouble::AnswersLost, Trouble::RequestsLost] {
        let tally = short(Policy::REHASH, trouble);
        assert!(tally.stale > 0 && tally.stale < tally.reads / 5, "{trouble:?}: {tally:?}");
        sum.add(&tally);
    }
    assert!(sum.twice > 0, "{sum:?}");
    assert!(sum.away > 0 && sum.away < sum.stale, "some of it is read at a key's home, some elsewhere: {sum:?}");
}

/// Where no key moves, nobody reads what is older than a write that a server had confirmed to somebody, and no two have a
/// lock. What is answered in a server's place is confirmed by none: with `error` nobody is told that it is done.
#[test]
fn holding_hosts_read_nothing_that_was_replaced() {
    let loud = Policy { on_failure: OnFailure::Error, ..Policy::HOLD };
    for (policy, trouble) in [
        (loud, Trouble::Half),
        (Policy::HOLD, Trouble::Staggered),
        (loud, Trouble::AnswersLost),
        (Policy::HOLD, Trouble::RequestsLost),
        (loud, Trouble::Stopped),
    ] {
        let tally = short(policy, trouble);
        assert!(tally.refused > 0, "{trouble:?} is no trouble: {tally:?}");
        assert_eq!((tally.stale, tally.late, tally.twice), (0, 0, 0), "{trouble:?}: {tally:?}");
        assert_eq!(tally.believed > 0, policy.on_failure == OnFailure::Miss, "{trouble:?}: {tally:?}");
    }
}

#[test]
fn a_run_repeats_itself() {
    let run = || short(Policy::REHASH, Trouble::Half);
    assert_eq!(run(), run());
}

/// By hand: see the module's documentation.
#[test]
#[ignore = "takes minutes"]
fn figures() {
    let seeds = crate::sim::seeds(1);
    for trouble in Trouble::ALL {
        println!("\n{}", trouble.name());
        println!(
            "{:32} {:>7} {:>6} {:>6} {:>5} {:>5} {:>8} {:>7} {:>7} {:>7} {:>5} {:>8}",
            "",
            "reads",
            "hits",
            "stale",
            "away",
            "late",
            "believed",
            "lasting",
            "refused",
            "granted",
            "twice",
            "released"
        );
        for policy in Policy::ALL {
            let mut sum = Tally::default();
            for seed in seeds.clone() {
                sum.add(&World::run(Plan::whole(seed, policy, trouble)));
            }
            println!(
                "{:32} {:>7} {:>5.1}% {:>6} {:>5} {:>5} {:>8} {:>7} {:>6.1}% {:>7} {:>5} {:>8}",
                policy.name,
                sum.reads,
                100.0 * sum.hits as f64 / sum.reads as f64,
                sum.stale,
                sum.away,
                sum.late,
                sum.believed,
                sum.lasting,
                100.0 * sum.refused as f64 / sum.writes as f64,
                sum.granted,
                sum.twice,
                sum.twice_released
            );
        }
    }
}

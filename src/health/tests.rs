use super::pending::{ConnectionName, Invalidated, StaleKey};
use super::*;
use crate::config;

#[test]
fn a_restart_that_an_earlier_probe_has_met_is_not_forgotten() {
    let file = "p:\n  listen: 127.0.0.1:1\n  timeout: 400\n  auto_eject_hosts: true\n  server_failure_limit: 1\n  \
                    rejoin: safe\n  servers: ['127.0.0.1:2:1', '127.0.0.1:3:1']\n";
    let (pool, server) = (PoolId(0), ServerId(0));
    let registry = Registry::new(&config::parse("file", file).unwrap().config, 1);
    let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
    let meet = |process, uptime, s| registry.meet(pool, server, process, Duration::from_secs(uptime), at(s));
    let leaves =
        |s| assert!(matches!(registry.failed(pool, server, 0, Failure::Refused, at(s)), Verdict::Ejected { .. }));
    assert_eq!(meet(7, 100, 1), None);
    leaves(2);
    // Met, and kept out for flapping, or lost before it had confirmed anything: the next probe meets the same one again.
    assert_eq!((meet(8, 1, 4), registry.was_restarted(pool, server)), (Some(true), true));
    assert_eq!((meet(8, 31, 34), registry.was_restarted(pool, server)), (Some(false), true));
    // The next time it was only away.
    assert!(registry.claim_probe(pool, server, at(90)));
    let passed = registry.probe_passed(pool, server, at(90));
    assert!(matches!(passed, Passed::Restored { .. }), "{passed:?}");
    leaves(100);
    assert_eq!((meet(8, 99, 102), registry.was_restarted(pool, server)), (Some(false), false));
}

#[test]
fn a_new_process_is_told_from_a_stopped_one_as_far_as_that_can_be_known() {
    let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
    // Before and after: the process, for how long it was up, and when it said so.
    for (what, (process, uptime, then), (next, next_uptime, now), wanted) in [
        ("another one", (7, 100, 5), (8, 1, 60), Some(true)),
        ("the same", (7, 100, 5), (7, 155, 60), Some(false)),
        ("the same, stopped for a while", (7, 100, 5), (7, 120, 60), Some(false)),
        ("its number again, counted anew", (7, 100, 5), (7, 3, 60), Some(true)),
        ("the first of a container", (1, 100, 5), (1, 155, 60), Some(false)),
        ("the first of another container", (1, 100, 5), (1, 3, 60), Some(true)),
        ("stopped, or long anew", (1, 10, 5), (1, 50, 160), None),
    ] {
        let file = "p:\n  listen: 127.0.0.1:1\n  timeout: 400\n  servers: ['127.0.0.1:2:1']\n";
        let registry = Registry::new(&config::parse("file", file).unwrap().config, 1);
        let meet =
            |process, uptime, now| registry.meet(PoolId(0), ServerId(0), process, Duration::from_secs(uptime), at(now));
        assert_eq!(meet(process, uptime, then), None, "{what}");
        assert_eq!(meet(next, next_uptime, now), wanted, "{what}");
    }
}
/// A hundred servers that are out, and long keys: what is kept for them is bounded, and no invalidation is lost.
#[test]
fn what_is_pending_for_all_servers_is_bounded_by_flushing_those_that_missed_most() {
    let servers: Vec<_> = (0..100).map(|number| format!("'127.0.0.1:{}:1'", number + 1)).collect();
    let file = format!(
        "softmiss:\n  memory_limit: 16mb\np:\n  listen: 127.0.0.1:1\n  timeout: 400\n  rejoin: safe\n  servers: [{}]\n",
        servers.join(", ")
    );
    let registry = Registry::new(&config::parse("file", &file).unwrap().config, 1);
    let (limit, most) = (16 << 20, (16 << 20) / PENDING_PART);
    assert_eq!(registry.shared.most_pending_bytes.load(Ordering::Relaxed), most);
    for number in 0..60_000u32 {
        // One of them misses a tenth of all.
        let server = ServerId(if number % 10 == 0 { 7 } else { u16::try_from(number % 100).unwrap() });
        let key = StaleKey { database: None, key: format!("{number:0200}").into_bytes().into(), base64: false };
        registry.invalidate_key(PoolId(0), server, key, None, Instant::ZERO);
        assert!(registry.kept() <= most, "{} of {limit} bytes are kept", registry.kept());
    }
    let all: Vec<_> = registry.pools[0].entries.iter().map(|entry| entry.pending().all()).collect();
    let flushed = all.iter().filter(|missed| missed.flush).count();
    assert!(all[7].flush && flushed < 100, "those that missed less have their keys: {flushed} are flushed");
    let held: usize = registry.pools[0].entries.iter().map(|entry| entry.pending().cost()).sum();
    assert_eq!(registry.kept(), held);
    for number in (0..100).map(ServerId) {
        let name = ConnectionName { worker: 0, place: 0, section: 0 };
        let batch = registry.next_batch(PoolId(0), number, Invalidated::default(), (None, name), usize::MAX);
        registry.confirm(PoolId(0), number, batch.range, Some(name));
    }
    assert_eq!(registry.kept(), 0);
}

/// The worker that finds out has not heard that the pool's servers are to be flushed.
#[test]
fn who_leaves_lives_by_the_newest_rules_of_its_pool() {
    for (before, after, flushes) in [("keep", "flush", true), ("flush", "keep", false)] {
        let config = |rejoin: &str| {
            let file = format!(
                "p: {{listen: /p.sock, auto_eject_hosts: true, server_failure_limit: 1, rejoin: {rejoin}, \
                 servers: ['h:1:1', 'h:2:1', 'h:3:1']}}\n"
            );
            config::parse("file", &file).unwrap().config
        };
        let (old, new) = (config(before), config(after));
        let rosters = Roster::follow(&[], &old).expect("few");
        let registry = Registry::new(&old, 1);
        let rosters = Roster::follow(&rosters, &new).expect("few");
        let next = registry.follow(&rosters, &new.settings, Instant::ZERO);
        let [one, other] = [ServerId(0), ServerId(1)];
        let verdict = registry.failed(PoolId(0), one, 0, Failure::Refused, Instant::ZERO);
        assert_eq!(verdict, Verdict::Ejected { failures: 1 });
        let kind = maintenance::Maintenance::Eject;
        let _ = registry.begin_maintenance(PoolId(0), other, kind, false, Instant::ZERO);
        for server in [one, other] {
            assert_eq!(next.entry(PoolId(0), server).pending().all().flush, flushes, "{before}, {after}");
        }
    }
}

use super::*;

const MS: u64 = 1_000_000;

fn tracker(ejects: bool) -> Tracker {
    let rules = Rules {
        ejects,
        failure_limit: 3,
        retry_timeout: Duration::from_secs(2),
        timeout: Some(Duration::from_millis(400)),
        rise: 1,
        flap_limit: Some(6),
        flushes: false,
    };
    Tracker::new(rules, 7)
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * MS)
}

#[test]
fn consecutive_failures_eject_and_a_success_resets() {
    let mut tracker = tracker(true);
    assert_eq!(tracker.failed(0, Failure::Refused, at(0), true), Verdict::Counted(1));
    assert_eq!(tracker.failed(0, Failure::Closed, at(1), true), Verdict::Counted(2));
    tracker.succeeded(0, at(2));
    assert_eq!(tracker.failed(0, Failure::Refused, at(2), true), Verdict::Counted(1));
    assert_eq!(tracker.failed(0, Failure::Refused, at(3), true), Verdict::Counted(2));
    assert_eq!(tracker.failed(0, Failure::Refused, at(4), true), Verdict::Ejected { failures: 3 });
    assert!(!tracker.is_up());
    assert_eq!(tracker.failed(0, Failure::Refused, at(5), true), Verdict::Ignored);
}

#[test]
fn a_success_takes_back_its_own_workers_failures_and_no_others() {
    // One worker's connections fail, another's are answered all the time.
    let mut one = tracker(true);
    assert_eq!(one.failed(0, Failure::Closed, at(0), true), Verdict::Counted(1));
    assert_eq!(one.succeeded(1, at(1)).0, 1);
    assert_eq!(one.failed(0, Failure::Closed, at(2), true), Verdict::Counted(2));
    assert_eq!((one.succeeded(1, at(3)).0, one.state()), (2, State::Up { failures: 2 }));
    assert_eq!(one.failed(0, Failure::Closed, at(4), true), Verdict::Ejected { failures: 3 });
    // Failures of all workers are those of one server.
    let mut all = tracker(true);
    assert_eq!(all.failed(0, Failure::Refused, at(0), true), Verdict::Counted(1));
    assert_eq!(all.failed(1, Failure::Refused, at(0), true), Verdict::Counted(2));
    assert_eq!(all.succeeded(0, at(1)).0, 1, "the other's stands");
    assert_eq!(all.failed(2, Failure::Refused, at(2), true), Verdict::Counted(2));
    assert_eq!(all.failed(0, Failure::Refused, at(2), true), Verdict::Ejected { failures: 3 });
}

#[test]
fn failures_of_a_worker_that_asks_no_more_are_forgotten_when_others_succeed() {
    let mut tracker = tracker(true);
    tracker.failed(0, Failure::Closed, at(0), true);
    tracker.failed(0, Failure::Closed, at(1), true);
    assert_eq!(tracker.succeeded(1, at(1900)).0, 2);
    assert_eq!(tracker.succeeded(1, at(2002)).0, 0);
    assert_eq!(tracker.failed(1, Failure::Closed, at(2003), true), Verdict::Counted(1));
}

#[test]
fn a_hang_counts_once_for_all_workers_whoever_else_is_answered() {
    let mut tracker = tracker(true);
    let mut counted = 0;
    for ms in 400..700 {
        counted += u32::from(tracker.failed(0, Failure::TimedOut, at(ms), true) != Verdict::Ignored);
        counted += u32::from(tracker.failed(1, Failure::TimedOut, at(ms), true) != Verdict::Ignored);
        tracker.succeeded(2, at(ms));
    }
    assert_eq!(counted, 1);
}

#[test]
fn a_hang_counts_once_for_each_timeout_that_it_lasts() {
    let mut tracker = tracker(true);
    let verdicts: Vec<_> = (400..=1200).map(|ms| tracker.failed(0, Failure::TimedOut, at(ms), true)).collect();
    let counted = verdicts.iter().filter(|verdict| **verdict != Verdict::Ignored).count();
    assert_eq!(counted, 3);
    assert!(!tracker.is_up(), "three timeouts of 400 ms are the limit of three");
}

#[test]
fn without_auto_eject_nothing_leaves_the_ring() {
    let mut tracker = tracker(false);
    for ms in 0..100 {
        assert_ne!(tracker.failed(0, Failure::Refused, at(ms), true), Verdict::Ignored);
    }
    assert!(tracker.is_up());
    assert_eq!(tracker.state(), State::Up { failures: 100 });
}

#[test]
fn a_server_that_fails_in_the_ring_is_told_now_and_then_and_that_it_is_well_once() {
    for (name, ejects, may_leave, limit, first) in [
        ("never ejected", false, true, 3, 3),
        ("the pool cannot spare it", true, false, 3, 3),
        ("the limit is far away", true, true, 1000, 10),
        ("no limit", false, true, 0, 1),
    ] {
        let mut tracker = tracker(ejects);
        tracker.rules.failure_limit = limit;
        let told: Vec<_> = (1..=900u64)
            .filter_map(|number| match tracker.failed(0, Failure::Refused, at(number * 100), may_leave) {
                Verdict::Failing { failures, lasts, suppressed } => {
                    Some((failures, u64::try_from(lasts.as_millis()).unwrap(), suppressed))
                }
                Verdict::Counted(failures) => {
                    assert_eq!(tracker.failing().is_some(), u64::from(failures) >= u64::from(first), "{name}");
                    None
                }
                other @ (Verdict::Ignored | Verdict::Ejected { .. }) => panic!("{name}: {other:?}"),
            })
            .collect();
        let lasts = (u64::from(first) - 1) * 100;
        let again = (first + 600, lasts + 60_000, 599);
        assert_eq!(told, [(first, lasts, 0), again], "{name}: at once, and after a minute");
        let answered = at(90_100);
        assert_eq!(tracker.succeeded(0, answered), (0, Some(answered - at(100))), "{name}");
        assert_eq!((tracker.succeeded(0, answered), tracker.failing()), ((0, None), None), "{name}: once");
    }
}

#[test]
fn a_server_that_fails_and_answers_by_turns_fills_no_log() {
    let mut tracker = tracker(false);
    let (mut fails, mut well, mut untold) = (0, 0, 0);
    for ms in (0..60_000).step_by(10) {
        for _ in 0..3 {
            if let Verdict::Failing { suppressed, .. } = tracker.failed(0, Failure::Closed, at(ms), true) {
                (fails, untold) = (fails + 1, untold + suppressed);
            }
        }
        well += u32::from(tracker.succeeded(0, at(ms + 5)).1.is_some());
    }
    assert_eq!((fails, well), (6, 6), "once in ten seconds, and each has its end");
    assert_eq!(untold, 5 * 999);
}

#[test]
fn a_server_that_leaves_the_ring_is_not_said_to_be_well() {
    let mut tracker = tracker(true);
    for ms in 0..10 {
        tracker.failed(0, Failure::Refused, at(ms), false);
    }
    assert!(tracker.failing().is_some());
    assert_eq!(tracker.failed(0, Failure::Refused, at(11), true), Verdict::Ejected { failures: 11 });
    assert_eq!((tracker.failing(), tracker.succeeded(0, at(12))), (None, (0, None)));
}

#[test]
fn one_probe_at_a_time_and_only_a_good_one_restores() {
    let mut tracker = tracker(true);
    for ms in 0..3 {
        tracker.failed(0, Failure::Refused, at(ms), true);
    }
    assert_eq!(tracker.probe_at(), Some(at(2002)));
    assert!(!tracker.claim_probe(at(2001)), "too early");
    assert!(tracker.claim_probe(at(2002)));
    assert!(!tracker.claim_probe(at(2003)), "one is under way");
    tracker.succeeded(0, at(2));
    assert!(!tracker.is_up(), "a late response to an old request restores nothing");
    tracker.probe_failed(at(2010));
    let next = tracker.probe_at().expect("ejected again");
    assert!(next > at(2010) && next <= at(2010 + 2800));
    assert!(tracker.claim_probe(next));
    assert_eq!(tracker.probe_passed(next), Passed::Restored { away: next - at(2), probes: 2 });
    assert!(tracker.is_up());
}

#[test]
fn a_probe_that_could_not_be_made_changes_nothing_but_the_time_of_the_next() {
    let mut tracker = tracker(true);
    for ms in 0..3 {
        tracker.failed(0, Failure::Refused, at(ms), true);
    }
    let mut now = tracker.probe_at().expect("out");
    for _ in 0..20 {
        assert!(tracker.claim_probe(now));
        tracker.probe_unmade(now);
        let next = tracker.probe_at().expect("still out");
        assert_eq!(next - now, UNMADE_PAUSE, "however often");
        now = next;
    }
    assert!(tracker.claim_probe(now));
    assert!(matches!(tracker.probe_passed(now), Passed::Restored { .. }));
}

#[test]
fn with_rise_so_many_probes_in_a_row_must_be_good() {
    let mut tracker = tracker(true);
    tracker.rules.rise = 3;
    for ms in 0..3 {
        tracker.failed(0, Failure::Refused, at(ms), true);
    }
    let mut now = at(0);
    let mut probe = |tracker: &mut Tracker, good: bool| {
        now = tracker.probe_at().expect("out").max(now);
        assert!(tracker.claim_probe(now));
        if good && tracker.probe_answered(now) {
            tracker.probe_passed(now)
        } else if good {
            Passed::Again
        } else {
            {
                tracker.probe_failed(now);
                Passed::Again
            }
        }
    };
    assert_eq!(probe(&mut tracker, true), Passed::Again);
    assert_eq!(probe(&mut tracker, true), Passed::Again);
    assert_eq!(probe(&mut tracker, false), Passed::Again);
    assert_eq!(probe(&mut tracker, true), Passed::Again, "they start again from one");
    assert_eq!(probe(&mut tracker, true), Passed::Again);
    assert!(matches!(probe(&mut tracker, true), Passed::Restored { probes: 6, .. }));
}

#[test]
fn a_flapping_server_changes_the_ring_six_times_a_minute_at_most() {
    let mut tracker = tracker(true);
    let mut changes = Vec::new();
    // It dies whenever it is back, and is well whenever it is probed: for ten minutes.
    for ms in (0..600_000).step_by(10) {
        let was_up = tracker.is_up();
        if was_up {
            tracker.failed(0, Failure::Refused, at(ms), true);
        } else if tracker.claim_probe(at(ms)) {
            tracker.probe_passed(at(ms));
        }
        if tracker.is_up() != was_up {
            changes.push(ms);
        }
    }
    let most = changes.iter().map(|from| changes.iter().filter(|ms| (*from..*from + 60_000).contains(*ms)).count());
    assert_eq!(most.max(), Some(6), "{changes:?}");
    assert!(changes.len() >= 50, "it gets its chance again and again: {changes:?}");
}

#[test]
fn a_server_that_fails_now_and_then_is_not_held_back() {
    let mut tracker = tracker(true);
    for start in (0..20u64).map(|turn| turn * 31_000) {
        for ms in 0..3 {
            tracker.failed(0, Failure::Refused, at(start + ms), true);
        }
        assert!(tracker.claim_probe(at(start + 2002)));
        assert!(matches!(tracker.probe_passed(at(start + 2002)), Passed::Restored { .. }), "{start}");
    }
}

#[test]
fn a_server_that_the_pool_cannot_spare_stays() {
    let mut tracker = tracker(true);
    for ms in 0..10 {
        let verdict = tracker.failed(0, Failure::Refused, at(ms), false);
        assert!(matches!(verdict, Verdict::Counted(_) | Verdict::Failing { .. }));
    }
    assert_eq!(tracker.failed(0, Failure::Refused, at(11), true), Verdict::Ejected { failures: 11 });
}

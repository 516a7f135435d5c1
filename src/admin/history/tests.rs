use super::reading::{PoolReading, ServerReading};
use super::*;
use crate::stats::histogram::{Histogram, Snapshot};

const S: Duration = Duration::from_secs(1);

/// A proxy with one pool, of which a reading is taken each second.
struct Past {
    history: History,
    now: Duration,
    pool: PoolReading,
    latency: Histogram,
}

impl Past {
    fn of(servers: usize) -> Self {
        let server = ServerReading { condition: Condition::Up, ejections: 0 };
        let pool = PoolReading { servers: vec![server; servers], ..PoolReading::default() };
        Self { history: History::new(1, servers), now: Duration::ZERO, pool, latency: Histogram::default() }
    }

    /// Lets seconds pass, in each of which there are so many requests.
    fn pass(&mut self, seconds: u64, requests: u64) {
        for _ in 0..seconds {
            self.pool.counts[0] += requests;
            (0..requests).for_each(|_| self.latency.record(1_000_000));
            self.read(S);
        }
    }

    /// Takes a reading when so much time has passed.
    fn read(&mut self, pause: Duration) {
        self.now += pause;
        self.pool.latency = Snapshot::default();
        self.latency.add_to(&mut self.pool.latency);
        self.history.push(Reading { at: self.now, pools: vec![self.pool.clone()] });
    }

    /// A server leaves the ring, or is back.
    fn turn(&mut self, server: usize, condition: Condition) {
        let server = &mut self.pool.servers[server];
        server.ejections += u64::from(condition == Condition::Out && server.condition != Condition::Out);
        server.condition = condition;
    }

    fn points(&self) -> Vec<Point> {
        self.history.points().cloned().collect()
    }

    /// The ages at which a server was in this condition: from the start of the first such point to the end of the last.
    fn ages(&self, server: usize, condition: Condition) -> Option<(Duration, Duration)> {
        let mut found = self.history.points().filter(|point| point.servers[server] == condition);
        let first = found.next()?;
        Some((self.now - first.start, self.now - found.last().unwrap_or(first).end))
    }
}

#[test]
fn an_outage_that_is_long_over_is_there_with_its_age() {
    let mut past = Past::of(2);
    past.pass(300, 10);
    past.turn(1, Condition::Out);
    past.pool.counts[5] += 7;
    past.pass(62, 10);
    past.turn(1, Condition::Up);
    past.pass(1200, 10);
    let (from, to) = past.ages(1, Condition::Out).expect("it was out");
    assert!(from >= S * 1262 && from <= S * 1272, "{from:?}: a step of ten seconds");
    assert!(to >= S * 1190 && to <= S * 1200, "{to:?}");
    assert_eq!(past.ages(0, Condition::Out), None);
    let degraded: u32 = past.points().iter().map(|point| point.pools[0].counts[5]).sum();
    assert_eq!(degraded, 7);
    past.pass(700, 10);
    assert_eq!(past.ages(1, Condition::Out), None, "after half an hour it is forgotten");
}

#[test]
fn steps_are_of_a_second_then_of_ten_and_follow_each_other() {
    let mut past = Past::of(1);
    for seconds in [1, 8, 90, 250, 3, 900, 1, 1, 1, 1, 1, 2000, 5] {
        past.pass(seconds, 3);
        let points = past.points();
        for pair in points.windows(2) {
            assert_eq!(pair[0].end, pair[1].start, "after {:?}", past.now);
        }
        assert_eq!(points.last().map(|point| point.end), Some(past.now), "to the last reading");
        let kept = past.now.min(KEPT - S * 10);
        assert!(past.now - points[0].start >= kept, "as far back as there is anything to tell");
        assert!(past.now - points[0].end <= KEPT);
        for point in &points {
            let age = past.now - point.end;
            let step = point.end - point.start;
            assert!(step == S || (step == S * 10 && age >= S * 289), "{step:?} at {age:?}");
            let requests = point.pools[0].counts[0];
            assert_eq!(u64::from(requests), 3 * step.as_secs(), "nothing is lost and nothing is counted twice");
            assert!((900..1100).contains(&point.pools[0].latencies[1]), "{:?}", point.pools[0].latencies);
        }
    }
}

#[test]
fn readings_that_are_a_little_late_or_early_change_no_step() {
    let mut past = Past::of(1);
    for number in 0..600_u32 {
        past.read(Duration::from_millis([1000, 1004, 996, 1300, 700][number as usize % 5]));
    }
    let points = past.points();
    assert!((320..=335).contains(&points.len()), "{}: 300 of one second, 30 of ten", points.len());
    assert!(points.iter().all(|point| point.end - point.start < S * 12));
    // A reading right after another is no point.
    past.read(Duration::from_millis(1));
    assert_eq!(past.points().len(), points.len());
}

#[test]
fn an_outage_between_two_readings_is_seen() {
    let mut past = Past::of(3);
    past.pass(30, 1);
    // It left the ring and came back.
    past.pool.servers[0].ejections += 1;
    // The operator took this one out, which counts as well.
    past.pool.servers[1] = ServerReading { condition: Condition::Held, ejections: 1 };
    past.pool.servers[2].condition = Condition::Failing;
    past.pass(1, 1);
    past.pool.servers[1].condition = Condition::Up;
    past.pool.servers[2].condition = Condition::Up;
    past.pass(20, 1);
    for (server, condition) in [Condition::Out, Condition::Held, Condition::Failing].into_iter().enumerate() {
        assert_eq!(past.ages(server, condition), Some((S * 21, S * 20)), "{condition:?}");
    }
    // In a step of ten seconds it is the worst.
    past.pass(600, 1);
    let (from, to) = past.ages(0, Condition::Out).expect("it was out");
    assert_eq!(from - to, S * 10);
}

#[test]
fn a_clock_that_jumps_leaves_a_gap_and_no_wrong_age() {
    let mut past = Past::of(1);
    past.pass(100, 5);
    past.pool.counts[0] += 5;
    past.read(S * 60);
    let points = past.points();
    let last = points.last().expect("a point");
    assert_eq!((last.end - last.start, last.pools[0].counts[0]), (S * 60, 5), "one step, for all of it");
    assert_eq!(points.len(), 101);
    // After a night, nothing of the evening is left.
    past.read(S * 30_000);
    assert!(past.points().iter().all(|point| past.now - point.end <= KEPT));
    past.pass(50, 5);
    assert_eq!(past.points().iter().filter(|point| point.end - point.start == S).count(), 50);
    // Back: what was then would have no age.
    past.now -= S * 500;
    past.pass(20, 5);
    let points = past.points();
    assert_eq!(points.len(), 19);
    assert!(points.iter().all(|point| point.end <= past.now && point.pools[0].counts[0] == 5));
}

#[test]
fn what_is_kept_has_a_bound_for_any_number_of_servers() {
    for (pools, servers) in [(1, 3), (1, 500), (20, 500), (500, 500), (3000, 10_000)] {
        let (fine, coarse) = steps(point_size(pools, servers));
        assert!((fine.most + coarse.most) * point_size(pools, servers) <= LIMIT, "{pools} pools of {servers} servers");
        assert!(coarse.every * u32::try_from(coarse.most).expect("few") >= KEPT / 2, "{coarse:?}");
        if pools <= 100 {
            assert_eq!((fine, coarse), (FINE, COARSE), "{pools} pools of {servers} servers keep all of it");
        }
    }
    for (pools, servers) in [(1, 500), (20, 500)] {
        let mut history = History::new(pools, servers);
        let server = ServerReading { condition: Condition::Up, ejections: 0 };
        let pool = |number: usize| PoolReading {
            servers: vec![server; (number + 1) * servers / pools - number * servers / pools],
            ..PoolReading::default()
        };
        let whole = Reading { at: Duration::ZERO, pools: (0..pools).map(pool).collect() };
        let (fine, coarse) = steps(point_size(pools, servers));
        // So far apart that each is a point of both tiers.
        for number in 0..fine.most + coarse.most + 5 {
            let at = coarse.every * u32::try_from(number).expect("few");
            history.push(Reading { at, ..whole.clone() });
        }
        let tiers = [&history.fine, &history.coarse];
        let points = tiers.iter().flat_map(|tier| &tier.points);
        let held: usize = points
            .map(|point| {
                assert_eq!((point.pools.len(), point.servers.len()), (pools, servers));
                size_of::<Point>() + size_of_val(&*point.pools) + size_of_val(&*point.servers)
            })
            .sum();
        assert!(held <= LIMIT, "{held} bytes for {pools} pools of {servers} servers");
        for tier in tiers {
            assert!(!tier.points.is_empty() && tier.points.len() <= tier.steps.most, "{:?}", tier.steps);
        }
    }
    assert_eq!((size_of::<PoolPoint>(), size_of::<Condition>()), (44, 1), "what docs/admin.md says");
}

//! What one event may cost: no more than in proportion to its size, however it is cut into pieces, and what is large is
//! done in portions.
//!
//! Costs are instructions as callgrind counts them, of this build without optimization: they repeat to within a percent
//! whatever else the machine does. Each event is measured small and four times as large. The test starts itself once more
//! under valgrind for that.

mod answers;
mod ends;
mod events;
mod long;
mod prepared;
pub(crate) mod rig;
mod turns;
mod whole;

use std::collections::BTreeMap;
use std::process::Command;

use rig::Rig;

/// How much more an event of four times the size may cost. Look-ups in trees, and tables that grow, cost a little more
/// than in proportion.
const FOURFOLD: f64 = 5.0;

/// How much more the last bytes of an answer may cost behind four times as many: what came before them has been looked at.
const LEVEL: f64 = 2.5;

/// What is measured: its name, its smaller size, and what happens. The last is called with what it has to put the event
/// in.
type Event = (&'static str, usize, fn(usize, &mut dyn FnMut(&mut dyn FnMut())));

macro_rules! counted {
    ($($name:ident)*) => {
        $(#[inline(never)]
        fn $name(event: &mut dyn FnMut()) {
            event();
            std::hint::black_box(stringify!($name));
        })*
        /// A function of its own for each measurement, by which callgrind tells them apart.
        const COUNTED: &[(&str, fn(&mut dyn FnMut()))] = &[$((stringify!($name), $name as fn(&mut dyn FnMut()))),*];
    };
}

counted! {
    counted_00 counted_01 counted_02 counted_03 counted_04 counted_05 counted_06 counted_07 counted_08 counted_09
    counted_10 counted_11 counted_12 counted_13 counted_14 counted_15 counted_16 counted_17 counted_18 counted_19
    counted_20 counted_21 counted_22 counted_23 counted_24 counted_25 counted_26 counted_27 counted_28 counted_29
    counted_30 counted_31 counted_32 counted_33 counted_34 counted_35 counted_36 counted_37 counted_38 counted_39
    counted_40 counted_41 counted_42 counted_43 counted_44 counted_45 counted_46 counted_47 counted_48 counted_49
}

/// Set in the process that runs under valgrind: which events are to happen.
const MEASURED: &str = "SOFTMISS_MEASURED";

#[test]
fn happens_under_valgrind() {
    let Ok(which) = std::env::var(MEASURED) else { return };
    let mut counted = COUNTED.iter();
    for (_, size, happen) in events_of(&which) {
        for size in [*size, size * 4] {
            let (_, count) = counted.next().expect("there are more");
            happen(size, &mut |event| count(event));
        }
    }
}

fn events_of(which: &str) -> &'static [Event] {
    match which {
        "redis" => events::REDIS,
        "memcached" => events::MEMCACHED,
        _ => ends::ENDS,
    }
}

/// Instructions of each measurement, by the name of its function.
fn count(which: &str) -> BTreeMap<String, u64> {
    let folder = super::support::process::scratch_dir();
    let out = folder.join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "bounded::happens_under_valgrind", "--test-threads", "1"])
        .env(MEASURED, which)
        .output()
        .expect("valgrind (run tests/setup.sh)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let profile = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    inclusive(&profile)
}

/// What the functions for measurements cost with all that they call, of a profile as callgrind writes it: the cost of a
/// function's own lines, and behind each `calls` the cost of what was called.
fn inclusive(profile: &str) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    let mut costs: BTreeMap<String, u64> = BTreeMap::new();
    let mut current = None;
    for line in profile.lines() {
        if let Some(rest) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (id, name) = rest.split_once(' ').unwrap_or((rest, ""));
            let place = name.find("counted_").map(|at| name[at..].chars().take("counted_00".len()).collect::<String>());
            if !name.is_empty() {
                names.insert(id.to_owned(), place);
            }
            if line.starts_with("fn=") {
                current = names.get(id).cloned().flatten();
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '*'))
            && let Some(name) = &current
        {
            let cost = line.rsplit(' ').next().and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
            *costs.entry(name.clone()).or_default() += cost;
        }
    }
    costs
}

fn check_costs(which: &str, most: f64) {
    let costs = count(which);
    let mut counted = COUNTED.iter();
    let mut wrong = Vec::new();
    for (name, size, _) in events_of(which) {
        let mut cost = || counted.next().and_then(|(name, _)| costs.get(*name)).copied().unwrap_or(0);
        let (small, large) = (cost(), cost());
        let times = large as f64 / small.max(1) as f64;
        println!(
            "{name:<48} {size:>7}: {:>7.0} instructions each, four times as many cost {times:.2} times as much",
            small as f64 / *size as f64
        );
        if small == 0 || times > most {
            wrong.push(format!("{name}: {small} of {size} and {large} of four times as many"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn memcached_events_cost_in_proportion_to_their_size() {
    check_costs("memcached", FOURFOLD);
}

#[test]
fn redis_events_cost_in_proportion_to_their_size() {
    check_costs("redis", FOURFOLD);
}

#[test]
fn the_end_of_a_large_answer_costs_no_more_than_that_of_a_small_one() {
    check_costs("ends", LEVEL);
}

/// Names that a client is told of in one step of a request for very many.
fn steps(mut rig: Rig, request: &[u8], word: &[u8]) -> Vec<usize> {
    let client = rig.client();
    let count = |rig: &mut Rig| memchr::memmem::find_iter(&rig.read(client), word).count();
    rig.send(client, request, 64 << 10);
    let mut steps = vec![count(&mut rig)];
    while rig.is_busy() {
        rig.turn();
        rig.tick();
        steps.push(count(&mut rig));
    }
    steps
}

#[test]
fn very_many_subscriptions_are_dealt_with_in_portions() {
    // To nobody: its servers are all out, so that each name is confirmed at once.
    let mut rig = Rig::new(2, &["redis: true", "timeout: 400"]);
    (0..2).for_each(|server| rig.lose(server));
    let steps = steps(rig, &events::subscribe(100_000), b"subscribe");
    assert_eq!(steps.iter().sum::<usize>(), 100_000);
    assert!(steps.iter().all(|step| *step <= 1000), "{steps:?}");
}

#[test]
fn very_many_clients_are_listed_and_killed_in_portions() {
    const CLIENTS: usize = 20_000;
    let mut rig = Rig::new(2, &["redis: true", "timeout: 400"]);
    let others: Vec<_> = (0..CLIENTS).map(|_| rig.client()).collect();
    let client = rig.client();
    rig.send(client, b"CLIENT LIST\r\n", 100);
    let mut moments = 0;
    while rig.is_busy() {
        rig.turn();
        rig.tick();
        moments += 1;
    }
    assert_eq!(memchr::memmem::find_iter(&rig.read(client), b"id=").count(), CLIENTS + 1);
    assert!(moments > CLIENTS / 200, "in {moments} portions");
    rig.send(client, b"CLIENT KILL SKIPME yes\r\n", 100);
    let mut killed = 0;
    loop {
        let before = killed;
        killed = others.iter().filter(|other| rig.engine.client_status(**other).finished).count();
        assert!(killed - before <= 200, "{} at once", killed - before);
        if !rig.is_busy() {
            break;
        }
        rig.turn();
        rig.tick();
    }
    assert_eq!(rig.read(client), format!(":{CLIENTS}\r\n").into_bytes());
    assert_eq!(killed, CLIENTS);
    rig.engine.check_invariants().unwrap();
}

#[test]
fn losing_all_of_very_many_servers_takes_no_ring() {
    let mut rig = Rig::new(500, &["rejoin: safe", "timeout: 400"]);
    let client = rig.client();
    for server in 0..500 {
        rig.lose(server);
        rig.send(client, format!("delete key:{server}\r\n").as_bytes(), 100);
    }
    rig.turn();
    assert_eq!(memchr::memmem::find_iter(&rig.read(client), b"NOT_FOUND\r\n").count(), 500);
    // Of so many servers, whoever is left last, all keys may come back: they forget everything.
    assert!((0..500).all(|server| rig.registry.has_pending(rig::POOL, softmiss::config::model::ServerId(server))));
}

use super::*;
use crate::config::discovery::{Answer, Found, Source, expand, server};
use crate::config::model::Server;

#[test]
fn who_is_found_late_is_told_what_it_missed() {
    let file = "p: {listen: /p.sock, rejoin: safe, auto_eject_hosts: true, servers_file: /s}\n";
    let mut config = crate::config::parse("file", file).expect("a good file").config;
    expand(&mut config.pools[0], &Found::new());
    let registry = Registry::new(&config, 1);
    let key = |key: &[u8]| StaleKey { database: None, key: key.into(), base64: false };
    let keys =
        |all: &[&[u8]]| Invalidations { keys: all.iter().map(|one| key(one)).collect(), ..Invalidations::default() };
    let (pool, a) = ("p".to_owned(), "a".to_owned());
    let left = Saved { pool, server: a, out: true, process: 7, unclaimed: 0, missed: keys(&[b"before"]) };
    registry.recall(&config, vec![left.clone()], Instant::ZERO);
    registry.doubt_all(&config);
    assert_eq!(registry.save(&config, Kept::Whole, Instant::ZERO), [left], "it is left again");
    // While nobody is known, somebody deletes.
    registry.invalidate_key(PoolId(0), ServerId(0), key(b"meanwhile"), None, Instant::ZERO);
    let before = Roster::follow(&[], &config).expect("few");
    let of = |name: &str| server(name.to_owned(), "10.0.0.1".to_owned(), 1);
    let found = Found::from([(Source::File("/s".into()), Answer::Servers(vec![of("a"), of("b")]))]);
    expand(&mut config.pools[0], &found);
    let rosters = Roster::follow(&before, &config).expect("few");
    let next = registry.follow(&rosters, &config.settings, Instant::ZERO);
    let ids = |name: &str| rosters[0].pool.servers.iter().find(|server| server.name == name).expect("there").id;
    let missed = |name: &str| next.entry(PoolId(0), ids(name)).pending().all();
    assert_eq!((missed("a").keys.len(), missed("b")), (2, keys(&[b"meanwhile"])));
    assert_eq!(registry.entry(PoolId(0), ServerId(0)).pending().cost(), 0, "it is not kept for nobody");
    assert!(next.probe_at(PoolId(0), ids("a")).is_some(), "it was out");
    assert!(next.is_doubted(PoolId(0), ids("b")));
    let expanded = next.save(&Config { pools: vec![rosters[0].pool.clone()], ..config }, Kept::Whole, Instant::ZERO);
    assert_eq!(expanded.iter().filter(|one| one.server == "a").count(), 1, "it is claimed");
}

#[test]
fn who_is_never_found_is_not_remembered_for_ever_nor_at_any_length() {
    let file = "p: {listen: /p.sock, rejoin: safe, auto_eject_hosts: true, servers_file: /s}\n";
    let mut config = crate::config::parse("file", file).expect("a good file").config;
    expand(&mut config.pools[0], &Found::new());
    let key =
        |number: usize| StaleKey { database: None, key: format!("{number:0250}").into_bytes().into(), base64: false };
    let left = |server: &str, keys: usize| {
        let missed = Invalidations { keys: (0..keys).map(key).collect(), ..Invalidations::default() };
        Saved { pool: "p".to_owned(), server: server.to_owned(), out: true, process: 7, unclaimed: 0, missed }
    };
    let most = BYTES_LIMIT / (size_of::<StaleKey>() + KEY_COST + 250);
    let told = |saved: &[Saved]| -> Vec<(String, u32, usize, bool)> {
        let of = |one: &Saved| (one.server.clone(), one.unclaimed, one.missed.keys.len(), one.missed.flush);
        saved.iter().map(of).collect()
    };
    let first = Registry::new(&config, 1);
    first.recall(&config, vec![left("a", most - 100), left("b", 200), left("c", 1)], Instant::ZERO);
    assert!(first.kept() <= BYTES_LIMIT && first.kept() > BYTES_LIMIT / 2, "{}", first.kept());
    let at = |days: u64| Instant::from_nanos(days * 24 * 3600 * 1_000_000_000);
    let (a, b, c) = ("a".to_owned(), "b".to_owned(), "c".to_owned());
    let days = |count: u32| count * 24 * 3600;
    let saved = first.save(&config, Kept::Whole, at(3));
    assert_eq!(told(&saved), [(a, days(3), most - 100, false), (b, days(3), 0, true), (c, days(3), 1, false)]);
    // Marks are as they were, so nothing is written as time goes by.
    let marks = |days| first.save(&config, Kept::Marks, at(days));
    assert!(marks(0) == marks(6) && marks(0).iter().all(|one| one.missed.keys.is_empty() && one.missed.flush));
    assert_eq!(marks(7), []);
    let next = Registry::new(&config, 1);
    next.recall(&config, saved, Instant::ZERO);
    assert_eq!(next.save(&config, Kept::Whole, at(3)).len(), 3);
    assert_eq!(next.save(&config, Kept::Whole, at(4)), []);
    // Who is found after all is told.
    let before = Roster::follow(&[], &config).expect("few");
    let of = |name: &str| server(name.to_owned(), "10.0.0.1".to_owned(), 1);
    let found = Found::from([(Source::File("/s".into()), Answer::Servers(vec![of("a"), of("b"), of("c")]))]);
    expand(&mut config.pools[0], &found);
    let rosters = Roster::follow(&before, &config).expect("few");
    let last = next.follow(&rosters, &config.settings, at(4));
    assert_eq!(last.kept(), last.shared.pending_bytes.load(Ordering::Relaxed), "what is held is theirs");
    let has_pending = |server: &Server| last.has_pending(PoolId(0), server.id);
    assert!(rosters[0].pool.servers.iter().all(has_pending));
}

/// A pool of these lines, of which nobody knows yet which servers it has, and its registry.
fn open(lines: &str) -> (Config, Registry) {
    let file = format!("p: {{listen: /p.sock, auto_eject_hosts: true, servers_file: /s, {lines}}}\n");
    let mut config = crate::config::parse("file", &file).expect("a good file").config;
    expand(&mut config.pools[0], &Found::new());
    let registry = Registry::new(&config, 1);
    (config, registry)
}

fn key(name: &str) -> StaleKey {
    StaleKey { database: None, key: name.as_bytes().into(), base64: false }
}

fn of_keys(names: &[&str]) -> Invalidations {
    Invalidations { keys: names.iter().map(|name| key(name)).collect(), ..Invalidations::default() }
}

fn left(server: &str, names: &[&str]) -> Saved {
    let (pool, server) = ("p".to_owned(), server.to_owned());
    Saved { pool, server, out: false, process: 0, unclaimed: 0, missed: of_keys(names) }
}

/// Has servers of these names found.
fn find(config: &mut Config, names: &[&str]) {
    let of = |name: &&str| server((*name).to_owned(), "10.0.0.1".to_owned(), 1);
    let found = Found::from([(Source::File("/s".into()), Answer::Servers(names.iter().map(of).collect()))]);
    expand(&mut config.pools[0], &found);
}

/// What is pending for each server of the first pool that is served, by its name.
fn missed(registry: &Registry, rosters: &[Roster]) -> Vec<(String, Invalidations)> {
    let pool = &rosters.iter().find(|roster| roster.is_served).expect("a pool").pool;
    let of = |server: &Server| (server.name.clone(), registry.entry(pool.id, server.id).pending().all());
    let mut all: Vec<_> = pool.servers.iter().map(of).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

#[test]
fn what_was_missed_by_nobody_known_is_told_to_all_that_the_next_process_knows() {
    let (config, registry) = open("rejoin: safe");
    registry.invalidate_key(PoolId(0), ServerId(0), key("k"), None, Instant::ZERO);
    let saved = registry.save(&config, Kept::Whole, Instant::ZERO);
    // A process that does not know either leaves it to one that does.
    let second = Registry::new(&config, 1);
    second.recall(&config, saved, Instant::ZERO);
    let mut saved = second.save(&config, Kept::Whole, Instant::ZERO);
    saved.insert(0, Saved { process: 7, ..left("a", &["l"]) });
    let mut known = config;
    find(&mut known, &["a", "b"]);
    for is_missed in [false, true] {
        let third = Registry::new(&known, 1);
        let tell = if is_missed { Registry::recall_missed } else { Registry::recall };
        tell(&third, &known, saved.clone(), Instant::ZERO);
        let rosters = Roster::follow(&[], &known).expect("few");
        let all = [("a".to_owned(), of_keys(&["l", "k"])), ("b".to_owned(), of_keys(&["k"]))];
        assert_eq!(missed(&third, &rosters), all);
        assert_eq!(third.process(PoolId(0), rosters[0].pool.servers[0].id), (!is_missed).then_some(7));
    }
}

#[test]
fn what_another_process_tells_of_servers_that_are_not_found_yet_is_kept_until_they_are() {
    let (mut config, registry) = open("rejoin: safe");
    let before = Roster::follow(&[], &config).expect("few");
    for names in [&["k"][..], &["l", "k"]] {
        registry.recall_missed(&config, vec![left("a", names), left("b", &["b"])], Instant::ZERO);
    }
    let saved = registry.save(&config, Kept::Whole, Instant::ZERO);
    assert_eq!(saved, [left("a", &["k", "l"]), left("b", &["b"])], "it is left to the next one");
    let next = Registry::new(&config, 1);
    next.recall(&config, saved, Instant::ZERO);
    next.recall_missed(
        &config,
        vec![Saved { out: true, missed: Invalidations::of_all(), ..left("b", &[]) }],
        Instant::ZERO,
    );
    find(&mut config, &["a", "b"]);
    let rosters = Roster::follow(&before, &config).expect("few");
    let last = next.follow(&rosters, &config.settings, Instant::ZERO);
    let flush = Invalidations::of_all();
    assert_eq!(missed(&last, &rosters), [("a".to_owned(), of_keys(&["k", "l"])), ("b".to_owned(), flush)]);
    assert_eq!(last.kept(), last.shared.pending_bytes.load(Ordering::Relaxed), "nothing is kept any more");
}

#[test]
fn what_is_left_for_a_server_goes_with_its_pool_whatever_that_is_called() {
    let (mut config, registry) = open("rejoin: safe");
    registry.recall(&config, vec![left("a", &["k"])], Instant::ZERO);
    let rosters = Roster::follow(&[], &config).expect("few");
    config.pools[0].name = "q".to_owned();
    let rosters = Roster::follow(&rosters, &config).expect("few");
    let next = registry.follow(&rosters, &config.settings, Instant::ZERO);
    let renamed = Saved { pool: "q".to_owned(), ..left("a", &["k"]) };
    assert_eq!(next.save(&config, Kept::Whole, Instant::ZERO), [renamed]);
    // It is served no longer, and then again: what its servers missed meanwhile nobody has noted.
    let nothing = Config { pools: Vec::new(), ..config.clone() };
    let rosters = Roster::follow(&rosters, &nothing).expect("few");
    let next = next.follow(&rosters, &config.settings, Instant::ZERO);
    let [gone] = &next.save(&nothing, Kept::Whole, Instant::ZERO)[..] else { panic!("it is left to the next one") };
    assert_eq!((&*gone.pool, &gone.missed), ("q", &of_keys(&["k"])));
    find(&mut config, &["a"]);
    let rosters = Roster::follow(&rosters, &config).expect("few");
    let next = next.follow(&rosters, &config.settings, Instant::ZERO);
    let flush = Invalidations::of_all();
    assert_eq!(missed(&next, &rosters), [("a".to_owned(), flush)]);
}

#[test]
fn a_pool_that_is_renamed_finds_what_is_left_for_its_servers() {
    let (mut config, registry) = open("rejoin: safe");
    registry.recall(&config, vec![left("a", &["k"])], Instant::ZERO);
    let rosters = Roster::follow(&[], &config).expect("few");
    config.pools[0].name = "q".to_owned();
    find(&mut config, &["a"]);
    let rosters = Roster::follow(&rosters, &config).expect("few");
    let next = registry.follow(&rosters, &config.settings, Instant::ZERO);
    assert_eq!(missed(&next, &rosters), [("a".to_owned(), of_keys(&["k"]))]);
}

#[test]
fn a_pool_that_is_back_has_its_servers_forget_what_nobody_known_missed() {
    let (mut config, registry) = open("rejoin: safe");
    registry.invalidate_key(PoolId(0), ServerId(0), key("k"), None, Instant::ZERO);
    let rosters = Roster::follow(&[], &config).expect("few");
    let nothing = Config { pools: Vec::new(), ..config.clone() };
    let rosters = Roster::follow(&rosters, &nothing).expect("few");
    let next = registry.follow(&rosters, &config.settings, Instant::ZERO);
    find(&mut config, &["a"]);
    let rosters = Roster::follow(&rosters, &config).expect("few");
    let next = next.follow(&rosters, &config.settings, Instant::ZERO);
    let flush = Invalidations::of_all();
    assert_eq!(missed(&next, &rosters), [("a".to_owned(), flush)]);
}

#[test]
fn what_a_worker_still_notes_for_nobody_is_told_to_who_is_there() {
    let (mut config, registry) = open("rejoin: safe");
    registry.doubt_all(&config);
    registry.failed(PoolId(0), ServerId(0), 0, crate::failure::Failure::Refused, Instant::ZERO);
    registry.invalidate_key(PoolId(0), ServerId(0), key("k"), None, Instant::ZERO);
    let rosters = Roster::follow(&[], &config).expect("few");
    find(&mut config, &["a"]);
    let rosters = Roster::follow(&rosters, &config).expect("few");
    let next = registry.follow(&rosters, &config.settings, Instant::ZERO);
    let told = |names: &[&str]| [("a".to_owned(), of_keys(names))];
    assert_eq!(missed(&next, &rosters), told(&["k"]), "nobody is flushed because nobody was reached");
    // It has not gone over.
    registry.invalidate_key(PoolId(0), ServerId(0), key("l"), None, Instant::ZERO);
    next.hand_on(&rosters[0].pool, ServerId(0), Instant::ZERO);
    next.hand_on(&rosters[0].pool, ServerId(0), Instant::ZERO);
    assert_eq!(missed(&next, &rosters), told(&["k", "l"]));
    assert_eq!(registry.entry(PoolId(0), ServerId(0)).pending().cost(), 0);
}

/// A flush that takes effect later does so then, whoever is found meanwhile.
#[test]
fn a_delayed_flush_that_nobody_known_missed_is_handed_on_with_its_time() {
    let (mut config, registry) = open("rejoin: safe");
    let due = Instant::from_nanos(9_000_000_000);
    registry.invalidate_all_later(PoolId(0), ServerId(0), due);
    let rosters = Roster::follow(&[], &config).expect("few");
    find(&mut config, &["a", "b"]);
    let rosters = Roster::follow(&rosters, &config).expect("few");
    let next = registry.follow(&rosters, &config.settings, Instant::ZERO);
    for server in &rosters[0].pool.servers {
        assert!(!next.has_pending(PoolId(0), server.id), "it is not due");
        assert_eq!(next.next_later(PoolId(0), server.id), Some(due));
        assert_eq!(next.invalidate_all_due(PoolId(0), server.id, due), (true, None));
    }
    assert_eq!(next.next_later(PoolId(0), ServerId(0)), None, "it is not kept for nobody");
}

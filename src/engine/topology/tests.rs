use std::time::Duration;

use super::*;
use crate::config::{self, model::Config};
use crate::engine::ids::SessionId;
use crate::engine::{Effect, Findings, Scripts, Setup};
use crate::health::maintenance::MaintenanceOutcome;
use crate::health::tracker::Maintenance;
use crate::topology::Published;

fn config(servers: &[u16]) -> Config {
    let lines: String = servers.iter().map(|port| format!("  - 10.0.0.1:{port}:1\n")).collect();
    let file = format!("pool:\n  listen: 127.0.0.1:1\n  redis: true\n  timeout: 400\n  servers:\n{lines}");
    config::parse("file", &file).expect("a good file").config
}

/// Carries out what is due up to a moment. The addresses that are connected to, and how many connections are closed.
fn turn(engine: &mut Engine, now: Instant) -> (Vec<String>, usize) {
    let (mut opened, mut closed) = (Vec::new(), 0);
    engine.handle_timeout(now);
    while engine.next_timeout().is_some_and(|next| next <= now) || engine.has_effects() {
        engine.handle_timeout(now);
        while let Some(effect) = engine.poll_effect() {
            if let Effect::Connect { link, epoch } = effect {
                opened.push(engine.link_address(link).to_string());
                engine.link_connected(link, epoch, now);
            } else if let Effect::Disconnect { .. } = effect {
                closed += 1;
            }
        }
    }
    engine.check_invariants().expect("all is in order");
    (opened, closed)
}

#[test]
fn subscriptions_go_to_who_is_left_when_their_server_leaves() {
    let published = Arc::new(Published::new(config(&[1, 2]), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let setup = Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts };
    let mut engine = Engine::new(setup);
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    let client = engine.client_connected(PoolId(0));
    engine.client_data(client, b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n", at(1));
    let (opened, _) = turn(&mut engine, at(2));
    let port = match opened.first().map(String::as_str) {
        Some("10.0.0.1:1") => 2,
        Some("10.0.0.1:2") => 1,
        other => panic!("{other:?}"),
    };
    published.publish(&config(&[port]), at(3)).expect("there are ids");
    assert_eq!(turn(&mut engine, at(4)), (Vec::new(), 1), "its connection is closed");
    assert_eq!(turn(&mut engine, at(300)), (vec![format!("10.0.0.1:{port}")], 0));
    // Nobody is left to serve: the client is let go of, and then the servers.
    published.publish(&Config { pools: Vec::new(), ..config(&[port]) }, at(301)).expect("there are ids");
    turn(&mut engine, at(302));
    let told = engine.client_output(client).len();
    engine.client_wrote(client, told, at(302));
    assert!(engine.client_status(client).finished);
    engine.client_gone(client, false);
    assert_eq!(turn(&mut engine, at(303)), (Vec::new(), 1));
}

/// What a server answers to a request that is whole: its bytes, and how many those of the request are. `None` where it is
/// not whole, or waits for something to happen.
fn answer(request: &[u8]) -> Option<(Vec<u8>, usize)> {
    let text = std::str::from_utf8(request).expect("text");
    let mut lines = text.split_inclusive("\r\n").filter(|line| line.ends_with('\n'));
    let first = lines.next()?;
    let Some(count) = first.strip_prefix('*').and_then(|count| count.trim().parse::<usize>().ok()) else {
        let words: Vec<_> = first.split_whitespace().collect();
        return match words[..] {
            ["lru_crawler", ..] => {
                Some((b"key=a exp=-1 la=1 cas=1 fetch=no cls=1 size=1\r\nEND\r\n".into(), first.len()))
            }
            ["version"] => Some((b"VERSION 1.6\r\n".into(), first.len())),
            _ => Some((b"END\r\n".into(), first.len())),
        };
    };
    let words: Vec<&str> = lines.by_ref().take(2 * count).collect();
    if words.len() < 2 * count {
        return None;
    }
    let len = first.len() + words.iter().map(|word| word.len()).sum::<usize>();
    let words: Vec<&str> = words.chunks(2).map(|pair| pair[1].trim_end()).collect();
    let said = match words[0] {
        "BLPOP" | "WAIT" => return None,
        "PING" => "+PONG\r\n".to_owned(),
        "GET" => "$-1\r\n".to_owned(),
        "SPUBLISH" => ":0\r\n".to_owned(),
        "MGET" => format!("*{}\r\n{}", count - 1, "$-1\r\n".repeat(count - 1)),
        "SUBSCRIBE" => {
            let confirm = |(index, name): (usize, &&str)| {
                format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{name}\r\n:{}\r\n", name.len(), index + 1)
            };
            words[1..].iter().enumerate().map(confirm).collect()
        }
        _ => "+OK\r\n".to_owned(),
    };
    Some((said.into_bytes(), len))
}

/// Servers that answer at once, and a client that reads as far as it is told that there is something.
struct World {
    engine: Engine,
    client: SessionId,
    links: Vec<(LinkId, u32, Vec<u8>)>,
    is_gone: bool,
}

impl World {
    fn run(&mut self, now: Instant) {
        let Self { engine, links, .. } = self;
        engine.handle_timeout(now);
        loop {
            let mut moved = false;
            while let Some(effect) = engine.poll_effect() {
                moved = true;
                if let Effect::Connect { link, epoch } = effect {
                    links.retain(|(known, ..)| *known != link);
                    links.push((link, epoch, Vec::new()));
                    engine.link_connected(link, epoch, now);
                } else if let Effect::Disconnect { link, .. } = effect {
                    links.retain(|(known, ..)| *known != link);
                } else if let Effect::Inquire(inquiry) = effect {
                    engine.found(Findings::none(inquiry), now);
                }
            }
            for (link, epoch, asked) in links.iter_mut() {
                let output = engine.link_output(*link, *epoch);
                let count = output.len();
                asked.extend_from_slice(output);
                engine.link_wrote(*link, *epoch, count, now);
                while let Some((said, len)) = answer(asked) {
                    moved = true;
                    asked.drain(..len);
                    engine.link_data(*link, *epoch, &said, now, &mut ());
                }
            }
            while let Some(id) = engine.poll_client() {
                if id != self.client || self.is_gone {
                    continue;
                }
                moved = true;
                while !engine.client_output(id).is_empty() {
                    let count = engine.client_output(id).len();
                    engine.client_wrote(id, count, now);
                }
                if engine.client_status(id).finished {
                    self.is_gone = true;
                    engine.client_gone(id, false);
                }
            }
            while engine.poll_link().is_some() {}
            engine.handle_timeout(now);
            if !moved && engine.next_timeout().is_none_or(|next| next > now) {
                break;
            }
        }
        engine.check_invariants().expect("all is in order");
    }
}

fn request(words: &[&str]) -> Vec<u8> {
    let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    format!("*{}\r\n{}", words.len(), words.iter().map(bulk).collect::<String>()).into_bytes()
}

/// What clients are doing, and what they have sent for that: those of Redis pools, and of memcached ones.
fn doings() -> Vec<(bool, &'static str, Vec<u8>)> {
    let names: Vec<String> = (0..3000).map(|number| format!("name{number}")).collect();
    let many = |command| request(&std::iter::once(command).chain(names.iter().map(String::as_str)).collect::<Vec<_>>());
    let get = request(&["GET", "a"]);
    let redis: [(&str, Vec<u8>); 14] = [
        ("nothing", Vec::new()),
        ("a part of a request", b"*2\r\n$3\r\nGET".to_vec()),
        ("a request that waits", request(&["BLPOP", "q", "0"])),
        ("one that waits, behind another", [get.clone(), request(&["BLPOP", "q", "0"])].concat()),
        ("the same twice", [get.clone(), request(&["BLPOP", "q", "0"]), request(&["BLPOP", "q", "0"])].concat()),
        ("replicas, behind another", [get.clone(), request(&["WAIT", "1", "0"]), get.clone()].concat()),
        ("a transaction", [request(&["MULTI"]), get.clone()].concat()),
        ("a watch", [request(&["WATCH", "a"]), get.clone()].concat()),
        ("a watch, and one that waits", [request(&["WATCH", "a"]), request(&["BLPOP", "q", "0"])].concat()),
        ("what servers are asked", request(&["MONITOR"])),
        ("subscriptions", [many("SUBSCRIBE"), request(&["PING"])].concat()),
        ("very many keys", [many("MGET"), get.clone()].concat()),
        ("other clients", [request(&["CLIENT", "LIST"]), get].concat()),
        ("more than a turn", request(&["PING"]).repeat(4000)),
    ];
    let line = |command: &str| [command.as_bytes(), names.join(" ").as_bytes(), b"\r\n"].concat();
    let memcached: [(&str, Vec<u8>); 5] = [
        ("a part of a request", b"set a 0 0 10\r\nabc".to_vec()),
        ("very many keys", line("get ")),
        ("a list", b"get a\r\nlru_crawler metadump all\r\nget b\r\n".to_vec()),
        ("many requests", b"get a\r\n".repeat(5000)),
        ("more than a turn", b"mn\r\n".repeat(4000)),
    ];
    let redis = redis.into_iter().map(|(what, asks)| (true, what, asks));
    redis.chain(memcached.into_iter().map(|(what, asks)| (false, what, asks))).collect()
}

#[test]
fn whatever_clients_are_doing_they_leave_when_they_send_no_more_or_their_pool_goes() {
    let mut stay = Vec::new();
    for (is_redis, what, asks) in doings() {
        // At once, and when all is answered that will be.
        for (is_settled, pool_goes) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut file = config(&[1, 2]);
            if !is_redis {
                let servers = "['10.0.0.1:1:1', '10.0.0.1:2:1']";
                let lines = format!("pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  servers: {servers}\n");
                file = config::parse("file", &lines).expect("a good file").config;
            }
            file.settings.workers = 2; // of which the other one has no clients
            let published = Arc::new(Published::new(file.clone(), 1));
            let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
            let setup = Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts };
            let mut engine = Engine::new(setup);
            let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
            let client = engine.client_connected(PoolId(0));
            engine.client_data(client, &asks, at(1));
            let mut world = World { engine, client, links: Vec::new(), is_gone: false };
            if is_settled {
                (1..20).for_each(|ms| world.run(at(ms)));
            }
            if pool_goes {
                published.publish(&Config { pools: Vec::new(), ..file }, at(20)).expect("there are ids");
            } else {
                world.engine.client_ended(client, at(20));
            }
            let is_over = |world: &World| world.is_gone && (world.links.is_empty() || !pool_goes);
            (20..1000)
                .take_while(|ms| {
                    world.run(at(*ms));
                    !is_over(&world)
                })
                .for_each(drop);
            if !is_over(&world) {
                stay.push((is_redis, what, is_settled, pool_goes, world.is_gone, world.links.len()));
            }
        }
    }
    assert_eq!(stay, [], "of them something is left");
}

/// An engine with so many clients of one Redis pool, and where its topologies are published.
fn crowd(count: usize) -> (Engine, Arc<Published>) {
    let published = Arc::new(Published::new(config(&[1]), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let setup = Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts };
    let mut engine = Engine::new(setup);
    for _ in 0..count {
        engine.client_connected(PoolId(0));
    }
    while engine.poll_client().is_some() {}
    (engine, published)
}

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn without_pools() -> Config {
    Config { pools: Vec::new(), ..config(&[1]) }
}

#[test]
fn many_clients_of_a_pool_that_goes_are_let_go_some_at_a_time() {
    let (mut engine, published) = crowd(5000);
    published.publish(&without_pools(), NOW).expect("there are ids");
    let (mut left, mut most, mut now) = (0, 0, NOW);
    while engine.clients() > 0 && now < NOW + Duration::from_secs(1) {
        engine.handle_timeout(now);
        let mut count = 0;
        while let Some(id) = engine.poll_client() {
            assert!(engine.client_status(id).finished);
            engine.client_gone(id, false);
            count += 1;
        }
        (left, most) = (left + count, most.max(count));
        now = engine.next_timeout().map_or(now, |next| next.max(now));
    }
    assert_eq!(left, 5000);
    assert!(most < 200, "{most} in one event");
}

#[test]
fn a_client_that_comes_when_its_pool_has_gone_is_let_go() {
    for others in [0, 1] {
        let (mut engine, published) = crowd(others);
        published.publish(&without_pools(), NOW).expect("there are ids");
        let client = engine.client_connected(PoolId(0));
        let status = engine.client_status(client);
        assert!(status.finished && !status.reads, "{others}");
    }
}

#[test]
fn nobody_is_probed_of_a_pool_that_came_and_went_unnoticed() {
    let (mut engine, published) = crowd(1);
    let mut two = config(&[1]);
    let lines =
        "  listen: 127.0.0.1:2\n  auto_eject_hosts: true\n  server_failure_limit: 1\n  servers: ['10.0.0.2:1:1']\n";
    two.pools.extend(config::parse("file", &format!("other:\n{lines}")).expect("a good file").config.pools);
    let (other, server) = (PoolId(1), ServerId(0));
    let next = published.publish(&two, NOW).expect("there are ids");
    next.registry.failed(other, server, 1, Failure::Refused, NOW); // as another worker has found
    assert!(!next.registry.live(other)[0]);
    published.publish(&config(&[1]), NOW).expect("there are ids");
    let (opened, _) = turn(&mut engine, NOW + Duration::from_secs(60));
    assert_eq!(opened, Vec::<String>::new());
}

/// Nobody has to ask for anything there first.
#[test]
fn what_a_server_has_to_forget_is_sent_when_its_pool_is_another_one() {
    let published = Arc::new(Published::new(config(&[1]), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    published.current().registry.invalidate_all(PoolId(0), ServerId(0), at(1));
    published.publish(&without_pools(), at(2)).expect("there are ids");
    published.publish(&config(&[1]), at(3)).expect("there are ids");
    turn(&mut engine, at(4));
    assert_eq!(turn(&mut engine, at(60)), (vec!["10.0.0.1:1".to_owned()], 0));
}

/// What a server was to be asked is asked when its connection is open, though it has left meanwhile, or is drained; nothing
/// else is.
#[test]
fn a_request_that_waits_for_a_connection_is_not_failed_by_who_leaves() {
    for (drains, leaves) in [(false, true), (true, false), (true, true)] {
        let file = |servers: &str| {
            let text = format!("pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  servers: [{servers}]\n");
            config::parse("file", &text).expect("a good file").config
        };
        let published = Arc::new(Published::new(file("'10.0.0.1:1:1'"), 1));
        let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
        let mut engine =
            Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let client = engine.client_connected(PoolId(0));
        engine.client_data(client, b"set k 0 0 1\r\nv\r\n", at(1));
        let Some(Effect::Connect { link, epoch }) = engine.poll_effect() else { panic!("no connection is opened") };
        if drains {
            let registry = Arc::clone(&published.current().registry);
            let done = registry.begin_maintenance(PoolId(0), ServerId(0), Maintenance::Drain, true, at(2));
            assert_eq!(done, MaintenanceOutcome::Done);
            engine.handle_timeout(at(2));
        }
        if leaves {
            published.publish(&file("'10.0.0.2:1:1'"), at(2)).expect("there are ids");
            engine.handle_timeout(at(2));
        }
        engine.check_invariants().expect("all is in order");
        assert_eq!(engine.client_output(client), b"", "drains: {drains}, leaves: {leaves}");
        assert!(engine.link_is_current(link, epoch));
        engine.link_connected(link, epoch, at(3));
        assert_eq!(engine.link_output(link, epoch), b"set k 0 0 1\r\nv\r\n");
        engine.link_wrote(link, epoch, 16, at(3));
        engine.link_data(link, epoch, b"STORED\r\n", at(4), &mut ());
        assert_eq!(engine.client_output(client), b"STORED\r\n");
        engine.check_invariants().expect("all is in order");
        let is_closed =
            std::iter::from_fn(|| engine.poll_effect()).any(|effect| matches!(effect, Effect::Disconnect { .. }));
        assert_eq!(is_closed, leaves, "a connection to a drained server stays");
    }
}

/// An engine with a request for the one server of a pool, whose connection is being opened.
fn waiting(more: &str) -> (Engine, Arc<Published>, SessionId, (LinkId, u32)) {
    let published = Arc::new(Published::new(single(more, "'10.0.0.1:1:1'"), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    let registry = Arc::clone(&published.current().registry);
    if more.contains("rejoin") {
        registry.invalidate_all(PoolId(0), ServerId(0), NOW);
    }
    let client = engine.client_connected(PoolId(0));
    engine.client_data(client, b"get k\r\n", NOW);
    let Some(Effect::Connect { link, epoch }) = engine.poll_effect() else { panic!("no connection is opened") };
    assert_eq!(engine.client_output(client), b"");
    (engine, published, client, (link, epoch))
}

fn single(more: &str, servers: &str) -> Config {
    let text = format!("pool:\n  listen: 127.0.0.1:1\n{more}  servers: [{servers}]\n");
    config::parse("file", &text).expect("a good file").config
}

#[test]
fn nothing_goes_out_without_what_its_connection_was_to_begin_with() {
    let more = "  timeout: 400\n  rejoin: flush\n";
    let (mut engine, published, client, (link, epoch)) = waiting(more);
    published.publish(&single(more, "'10.0.0.2:1:1'"), NOW).expect("there are ids");
    engine.handle_timeout(NOW);
    assert_eq!(engine.client_output(client), b"END\r\n", "the server may still have what it was to forget");
    assert!(!engine.link_is_current(link, epoch));
    engine.check_invariants().expect("all is in order");
}

#[test]
fn whoever_waits_without_a_timeout_goes_on_when_its_dead_server_is_taken_away() {
    let (mut engine, published, client, _) = waiting("");
    published.publish(&single("", "'10.0.0.2:1:1'"), NOW).expect("there are ids");
    engine.handle_timeout(NOW);
    assert_eq!(engine.client_output(client), b"END\r\n");
    engine.check_invariants().expect("all is in order");
}

#[test]
fn a_connection_to_who_has_left_may_be_refused_run_out_of_time_or_be_of_use_again() {
    let more = "  timeout: 400\n";
    let later = NOW + Duration::from_millis(2000);
    for case in ["refused", "late", "back"] {
        let (mut engine, published, client, (link, epoch)) = waiting(more);
        published.publish(&single(more, "'10.0.0.2:1:1'"), NOW).expect("there are ids");
        engine.handle_timeout(NOW);
        engine.check_invariants().expect("all is in order");
        match case {
            "refused" => engine.link_failed(link, epoch, Failure::Refused, NOW),
            "late" => {
                turn(&mut engine, later);
            }
            _ => {
                published.publish(&single(more, "'10.0.0.1:1:1'"), NOW).expect("there are ids");
                engine.handle_timeout(NOW);
                engine.link_connected(link, epoch, NOW);
                assert_eq!(engine.link_output(link, epoch), b"get k\r\n");
                engine.link_wrote(link, epoch, 7, NOW);
                engine.link_data(link, epoch, b"END\r\n", NOW, &mut ());
                assert!(engine.link_is_current(link, epoch), "it stays");
            }
        }
        assert_eq!(engine.client_output(client), b"END\r\n", "{case}");
        engine.check_invariants().expect("all is in order");
    }
}

#[test]
fn a_name_that_only_the_ring_sees_differently_is_another_ring() {
    let name = |ring: Option<&str>| {
        let mut config = single("  timeout: 400\n", "'10.0.0.1:1:1 a', '10.0.0.2:1:1 b'");
        config.pools[0].servers[0].ring_name = ring.map(Into::into);
        config
    };
    let published = Arc::new(Published::new(name(Some("a\u{200b}")), 1));
    let (scripts, started_at) = (Scripts::default(), Duration::ZERO);
    let mut engine = Engine::new(Setup { published: Arc::clone(&published), worker: 0, seed: 1, started_at, scripts });
    let next = published.publish(&name(None), NOW).expect("there are ids");
    engine.handle_timeout(NOW);
    let (ring, home) = (&engine.pools[0].ring, &next.pool(PoolId(0)).home);
    let keys = (0..1000).map(|number| format!("key:{number}"));
    assert!(keys.into_iter().all(|key| ring.route(key.as_bytes(), 0) == home.route(key.as_bytes(), 0)));
}

/// Each change sets the timer of a client anew that waits, and the one that it had sets no other when it fires.
#[test]
fn a_client_has_one_timer_however_often_its_timeout_changes() {
    let (mut engine, published, client, (link, epoch)) = waiting("  timeout: 400\n");
    engine.link_connected(link, epoch, NOW);
    // The server answers all the while, and somebody waits all the while.
    let go_on = |engine: &mut Engine, now| {
        let written = engine.link_output(link, epoch).len();
        engine.link_wrote(link, epoch, written, now);
        engine.link_data(link, epoch, b"END\r\n", now, &mut ());
        engine.client_data(client, b"get k\r\n", now);
        engine.handle_timeout(now);
        engine.check_invariants().expect("all is in order");
    };
    for change in 0..100 {
        let wanted = if change % 2 == 0 { "  timeout: 300\n" } else { "  timeout: 400\n" };
        published.publish(&single(wanted, "'10.0.0.1:1:1'"), NOW).expect("there are ids");
        go_on(&mut engine, NOW + Duration::from_millis(change));
    }
    (2..8).for_each(|tenths| go_on(&mut engine, NOW + Duration::from_millis(100 * tenths)));
    assert_eq!(engine.client_output(client), b"END\r\n".repeat(106));
    assert!(engine.timers.len() <= 6, "{} timers are set", engine.timers.len());
}

//! Answers of which all has to be looked at before the first byte of them is written: a portion at a time, while others are
//! served.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::{array, ask, bulk, read, redis, words};
use super::rig::Rig;

/// Names that are looked at in one moment at most.
const MOST_NAMES: usize = 1000;

/// A client asks, all servers answer, and so many names have to be looked at: what it gets.
fn prepared(
    rig: &mut Rig,
    what: &str,
    request: &[u8],
    answer: &dyn Fn(usize, &[u8]) -> String,
    names: usize,
) -> String {
    let (ping, pong): (&[u8], &[u8]) =
        if request.starts_with(b"*") { (b"PING\r\n", b"+PONG\r\n") } else { (b"mn\r\n", b"MN\r\n") };
    let other = rig.client();
    let before = rig.engine.memory();
    // Who leaves meanwhile is done with.
    let client = ask(rig, request, answer);
    rig.tick();
    rig.engine.client_gone(client, false);
    rig.settle();
    assert!(rig.engine.memory() <= before + (4 << 20), "{} bytes of {what} are kept", rig.engine.memory() - before);
    let client = ask(rig, request, answer);
    // What is sent behind it is answered behind it.
    rig.send(client, &ping.repeat(3), 100);
    let mut moments = 0;
    while rig.engine.client_output(client).is_empty() {
        assert!(rig.is_busy() && !rig.engine.client_status(client).finished, "{what} comes to nothing");
        rig.tick();
        rig.turn();
        moments += 1;
        rig.send(other, ping, 100);
        assert_eq!(rig.read(other), pong);
        rig.engine.check_invariants().unwrap();
    }
    assert!(moments >= names / MOST_NAMES, "{what}: {names} names in {moments} moments");
    let said = read(rig, client, what);
    let end = pong.repeat(3);
    let said = said.strip_suffix(std::str::from_utf8(&end).unwrap()).expect("what is behind it").to_owned();
    rig.settle();
    assert_eq!(rig.engine.client_output(client), b"");
    rig.engine.client_gone(client, false);
    said
}

#[test]
fn channels_of_all_servers() {
    const COUNT: usize = 20_000;
    // Some are heard on two servers.
    let name = |server: usize, number: usize| bulk(&format!("channel {}", number + server * (COUNT - 100)));
    let answer = |server: usize, _: &[u8]| array((0..COUNT).map(|number| name(server, number)));
    let said = prepared(&mut redis(3), "CHANNELS", &words(&["PUBSUB", "CHANNELS"]), &answer, 3 * COUNT);
    let all = |server| (0..COUNT).map(move |number| name(server, number));
    let right: BTreeSet<String> = (0..3).flat_map(all).collect();
    let (count, rest) = said.split_once("\r\n").unwrap();
    assert_eq!(count, format!("*{}", right.len()));
    let mut lines = rest.split_inclusive("\r\n");
    let mut found = BTreeSet::new();
    while let Some(line) = lines.next() {
        assert!(found.insert(line.to_owned() + lines.next().unwrap()), "nothing is told twice");
    }
    assert!(found == right);
}

#[test]
fn channels_of_long_names() {
    const COUNT: usize = 200;
    let name = |server: usize, number: usize| bulk(&format!("{server}:{number:0>20000}"));
    let answer = |server: usize, _: &[u8]| array((0..COUNT).map(|number| name(server, number)));
    let said = prepared(&mut redis(3), "CHANNELS", &words(&["PUBSUB", "CHANNELS"]), &answer, 3 * COUNT * 30);
    let right = array((0..3).flat_map(|server| (0..COUNT).map(move |number| name(server, number))));
    assert!(said == right);
}

#[test]
fn who_leaves_behind_a_long_answer_gets_it() {
    let list = |server: usize, _: &[u8]| array((0..20_000).map(|number| bulk(&format!("{server}:{number}"))));
    let mut rig = redis(3);
    let client = ask(&mut rig, &[words(&["PUBSUB", "CHANNELS"]), words(&["QUIT"])].concat(), &list);
    while rig.engine.client_output(client).is_empty() {
        assert!(rig.is_busy() && !rig.engine.client_status(client).finished);
        rig.tick();
        rig.turn();
    }
    assert!(read(&mut rig, client, "CHANNELS").ends_with("\r\n+OK\r\n"));
    assert!(rig.engine.client_status(client).finished);
}

#[test]
fn long_answers_in_a_row() {
    const COUNT: usize = 20_000;
    let list = |server: usize| array((0..COUNT).map(|number| bulk(&format!("{server}:{number}"))));
    let answer =
        |server: usize, request: &[u8]| list(server).repeat(memchr::memmem::find_iter(request, b"CHANNELS").count());
    let (mut rig, all) = (redis(3), array((0..3 * COUNT).map(|_| String::new())));
    let requests = [words(&["PUBSUB", "CHANNELS"]).repeat(2), words(&["PING"])].concat();
    let client = ask(&mut rig, &requests, &answer);
    let mut said = String::new();
    while rig.is_busy() {
        rig.tick();
        rig.turn();
        said += &read(&mut rig, client, "CHANNELS");
        rig.engine.check_invariants().unwrap();
    }
    let one = list(0).len() + list(1).len() + list(2).len() - 3 * array((0..COUNT).map(|_| String::new())).len();
    assert_eq!(said.len(), 2 * (all.len() + one) + "+PONG\r\n".len());
    assert!(said.starts_with(&all) && said[all.len() + one..].starts_with(&all) && said.ends_with("+PONG\r\n"));
}

#[test]
fn information_about_very_many_servers() {
    const SERVERS: usize = 200;
    let fields = (0..800).map(|field| format!("field{field}:1\r\n")).collect::<String>();
    let answer = |server: usize, _: &[u8]| {
        bulk(&format!("# Stats\r\nkeyspace_hits:{server}\r\n{fields}# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\n"))
    };
    let said = prepared(&mut redis(SERVERS), "INFO", &words(&["INFO"]), &answer, SERVERS * 20);
    assert!(said.contains(&format!("keyspace_hits:{}\r\n", SERVERS * (SERVERS - 1) / 2)));
    assert!(said.contains(&format!("db0:keys={},expires={SERVERS},avg_ttl=0\r\n", 2 * SERVERS)));
}

#[test]
fn short_statistics_of_very_many_servers() {
    const SERVERS: usize = 200;
    const COUNT: usize = 500;
    let line = |server: usize, line: usize| format!("STAT {}{line:03} {line}\r\n", server + 100);
    let answer =
        |server: usize, _: &[u8]| (0..COUNT).map(|number| line(server, number)).collect::<String>() + "END\r\n";
    let mut rig = Rig::new(SERVERS, &["timeout: 400"]);
    // The first are added up as they come.
    let said = prepared(&mut rig, "sizes", b"stats sizes\r\n", &answer, SERVERS * COUNT * 9 / 10);
    let lines: BTreeSet<_> = said.lines().collect();
    assert_eq!((lines.len(), said.lines().last()), (SERVERS * COUNT + 1, Some("END")));
}

#[test]
fn statistics_of_very_many_lines() {
    const COUNT: usize = 20_000;
    let answer = |server: usize, _: &[u8]| {
        let lines = (0..COUNT).map(|line| format!("STAT {} {}\r\n", 32 * (line + server * 100), line));
        lines.collect::<String>() + "END\r\n"
    };
    let mut rig = Rig::new(3, &["timeout: 400"]);
    let said = prepared(&mut rig, "sizes", b"stats sizes\r\n", &answer, 3 * COUNT);
    let mut right: BTreeMap<usize, usize> = BTreeMap::new();
    for server in 0..3 {
        (0..COUNT).for_each(|line| *right.entry(32 * (line + server * 100)).or_default() += line);
    }
    let lines: String = right.iter().map(|(size, count)| format!("STAT {size} {count}\r\n")).collect();
    assert!(said == lines + "END\r\n");
    // Those that are not put together.
    let answer = |server: usize, _: &[u8]| {
        let lines = (0..COUNT).map(|line| format!("ITEM {line}:{server} [1 b; 0 s]\r\n"));
        lines.collect::<String>() + "END\r\n"
    };
    let said = prepared(&mut rig, "cachedump", b"stats cachedump 1 0\r\n", &answer, 0);
    let lines: BTreeSet<_> = said.lines().collect();
    assert_eq!((lines.len(), said.lines().last()), (3 * COUNT + 1, Some("END")));
}

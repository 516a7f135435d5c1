use super::*;
use crate::config::discovery::{Endpoint, server};

/// What is found for a pool with these lines.
fn wanting(lines: &str) -> (Discovered, Config) {
    let text = format!("p: {{listen: /p.sock, timeout: 400, {lines}}}\n");
    let config =
        crate::config::parse("file", &text).map_err(|report| report.render(false)).expect("a good file").config;
    let discovered = Discovered::default();
    discovered.want(&[&config]);
    (discovered, config)
}

fn endpoint() -> Source {
    Source::Endpoint(Endpoint { host: "c.test".to_owned(), port: 11211 })
}

/// An answer that lists servers at these addresses.
fn servers(addresses: &[&str]) -> Look {
    let of = |address: &&str| server((*address).to_owned(), (*address).to_owned(), 11211);
    Look { answer: Answer::Servers(addresses.iter().map(of).collect()), version: 0, is_settled: false }
}

#[test]
fn the_same_servers_in_another_order_are_the_same_servers() {
    let (discovered, _) = wanting("auto_discovery: 'c.test:11211'");
    let number = discovered.wanted()[&endpoint()].number;
    // Neither in the order of their text nor in that of their figures.
    for addresses in [
        ["10.0.0.2", "10.0.0.10", "10.0.0.1"],
        ["10.0.0.2", "10.0.0.10", "10.0.0.1"],
        ["10.0.0.1", "10.0.0.2", "10.0.0.10"],
    ] {
        assert_eq!(discovered.note(&endpoint(), number, Ok(servers(&addresses))), Noted::Known, "{addresses:?}");
    }
    assert_eq!(discovered.take_news().changes, 1, "that they are there");
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.10", "10.0.0.3"];
    assert_eq!(discovered.note(&endpoint(), number, Ok(servers(&all))), Noted::Unsettled);
    assert_eq!(discovered.note(&endpoint(), number, Ok(servers(&all))), Noted::Known);
    assert_eq!(discovered.take_news().changes, 1, "that there is one more");
}

#[test]
fn what_was_asked_before_a_source_was_wanted_again_is_not_its_answer() {
    let (discovered, config) = wanting("auto_discovery: 'c.test:11211'");
    let before = discovered.wanted()[&endpoint()].number;
    discovered.want(&[&config]);
    assert_eq!(discovered.wanted()[&endpoint()].number, before, "it was wanted all the time");
    discovered.want(&[]);
    discovered.want(&[&config]);
    assert_eq!(discovered.note(&endpoint(), before, Ok(servers(&["10.0.0.1"]))), Noted::Unknown);
    assert!(discovered.lock().found().is_empty());
    let number = discovered.wanted()[&endpoint()].number;
    assert_eq!(discovered.note(&endpoint(), number, Ok(servers(&["10.0.0.2"]))), Noted::Known);
    assert_eq!(discovered.lock().found().len(), 1);
}

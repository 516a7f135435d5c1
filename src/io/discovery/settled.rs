//! When a change holds: what a source says is believed when it says it twice.
//!
//! Each server by itself, so that one that comes and goes does not hold up the others; and never so that none would be left.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::discovery::Answer;
use crate::config::model::Server;

/// What holds of a source of which this was `known`, and that said first `last` and then `now`.
pub(super) fn settled(known: &Answer, last: &Answer, now: &Answer) -> Answer {
    match (known, last, now) {
        (Answer::Addresses { at, .. }, Answer::Addresses { at: last, .. }, Answer::Addresses { at: now, .. }) => {
            if holds(at, now) || holds(at, last) {
                return known.clone();
            }
            Answer::Addresses { at: now.clone(), is_moved: true }
        }
        (Answer::Servers(known), Answer::Servers(last), Answer::Servers(now)) => {
            Answer::Servers(settled_servers(known, last, now))
        }
        _ => now.clone(), // a source says always the same kind of thing
    }
}

/// Whether what a source said is no reason to look at it again soon, where `known` holds.
pub(super) fn agrees(known: &Answer, now: &Answer) -> bool {
    match (known, now) {
        (Answer::Addresses { at, .. }, Answer::Addresses { at: now, .. }) => holds(at, now),
        _ => known == now,
    }
}

/// Whether a name that stood for some addresses is at the same place when it stands for others. A name that is answered in turn
/// with some of its many addresses is; one none of whose addresses is left is not, nor is one of which some are gone and none
/// came.
fn holds(known: &[IpAddr], now: &[IpAddr]) -> bool {
    let left = known.iter().filter(|address| now.contains(address)).count();
    left == known.len() || (left > 0 && now.iter().any(|address| !known.contains(address)))
}

fn settled_servers(known: &[Server], last: &[Server], now: &[Server]) -> Vec<Server> {
    let by_name = |servers: &[Server]| -> BTreeMap<String, Server> {
        servers.iter().map(|server| (server.name.clone(), server.clone())).collect()
    };
    let [mut next, last, now] = [by_name(known), by_name(last), by_name(now)];
    let names: Vec<&String> = last.keys().chain(now.keys()).chain(known.iter().map(|server| &server.name)).collect();
    for name in names {
        match (last.get(name), now.get(name)) {
            (None, None) => drop(next.remove(name)),
            (Some(before), Some(server)) if before == server => drop(next.insert(name.clone(), server.clone())),
            _ => {}
        }
    }
    if next.is_empty() { known.to_vec() } else { next.into_values().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::discovery::server;

    /// What is known after a source has said these one after the other, of which each letter is a server or an address, and
    /// a figure behind it is where it is.
    fn said(looks: &[&str]) -> Vec<String> {
        let one = |word: &str| server(word[..1].to_owned(), format!("10.0.0.{}", &word[1..]), 1);
        let all = |text: &str| Answer::Servers(text.split_whitespace().map(one).collect());
        let (mut known, mut last) = (all(looks[0]), all(looks[0]));
        let mut told = Vec::new();
        for look in looks {
            known = settled(&known, &last, &all(look));
            last = all(look);
            let Answer::Servers(servers) = &known else { unreachable!("of servers") };
            let short = |one: &Server| format!("{}{}", one.name, &one.address.to_string()["10.0.0.".len()..]);
            told.push(servers.iter().map(short).map(|one| one.replace(":1", "")).collect::<Vec<_>>().join(" "));
        }
        told
    }

    #[test]
    fn a_server_comes_goes_and_moves_when_it_is_said_twice() {
        for (looks, known) in [
            (&["a1", "a1 b2", "a1 b2"][..], &["a1", "a1", "a1 b2"][..]),
            (&["a1 b2", "a1", "a1"], &["a1 b2", "a1 b2", "a1"]),
            // What is back at once was never gone, and who is seen once was never there.
            (&["a1 b2", "a1", "a1 b2", "a1"], &["a1 b2"; 4]),
            (&["a1", "a1 b2", "a1", "a1 b2"], &["a1"; 4]),
            (&["a1", "a2", "a3", "a3"], &["a1", "a1", "a1", "a3"]),
            // One that never settles does not hold up others.
            (&["a1 b1", "a2 b1 c1", "a3 b1 c1"], &["a1 b1", "a1 b1", "a1 b1 c1"]),
            // Nobody is left with none.
            (&["a1", "b1", "c1", "c1"], &["a1", "a1", "a1", "c1"]),
        ] {
            assert_eq!(said(looks), known, "{looks:?}");
        }
    }

    #[test]
    fn a_name_moves_when_its_addresses_are_twice_not_there() {
        let all = |text: &str| -> Vec<IpAddr> { text.bytes().map(|letter| IpAddr::from([10, 0, 0, letter])).collect() };
        for (looks, known) in [
            ("a b b", "a a b"),
            ("a b c", "a a c"),
            ("a b a b", "a a a a"),
            ("a ab b b", "a a a b"),
            // Answers in turn are no move, in whatever order.
            ("abc bcd cde", "abc abc abc"),
            ("ab ba ab", "ab ab ab"),
            ("ab b b", "ab ab b"),
        ] {
            let mut looks = looks.split(' ').map(|look| Answer::Addresses { at: all(look), is_moved: false });
            let first = looks.next().expect("a look");
            let (mut now, mut last) = (first.clone(), first);
            for (look, wanted) in looks.zip(known.split(' ').skip(1)) {
                now = settled(&now, &last, &look);
                last = look;
                let Answer::Addresses { at, .. } = &now else { unreachable!("of addresses") };
                assert_eq!(*at, all(wanted), "{known}");
            }
        }
    }
}

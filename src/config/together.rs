//! What the parts of a file are to each other: pools at one address, pools that ask themselves, values that no memory holds.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::diagnostic::{Diagnostic, Span};
use super::findings::Findings;
use super::model::{Listen, Pool, Port, Protocol, Rejoin, Settings};
use super::place::{self, Place};

/// The ports that the process has of its own, by the option's name, and where they are when nobody says otherwise.
pub const USUAL_PORTS: [(&str, SocketAddr); 2] = [("stats", usual(22222)), ("admin", usual(22223))];

const fn usual(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A pool, and where in the file it says what.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) pool: Pool,
    /// What stands behind `listen`.
    pub(super) listen: Span,
    /// What stands behind `value_limit`.
    pub(super) value_limit: Option<Span>,
    /// Each server's line, in the order of the pool's servers.
    pub(super) servers: Vec<Span>,
}

/// Where the file says where `stats` and `admin` are.
pub(super) type PortSpans = [Option<Span>; 2];

pub(super) fn check(settings: &Settings, ports: &PortSpans, pools: &[Found], findings: &mut Findings) {
    listeners(settings, ports, pools, findings);
    if findings.has_errors() {
        return; // what follows would only be about the same lines
    }
    loops(pools, findings);
    two_protocols(pools, findings);
    emptied_for_others(pools, findings);
    for found in pools.iter().filter(|found| found.pool.value_limit > settings.memory_limit) {
        let Some(span) = found.value_limit.clone() else { continue };
        let message = format!(
            "`value_limit` of pool `{}` is more than `memory_limit`, so the largest values are never passed on",
            found.pool.name
        );
        findings.push(Diagnostic::warning(Some(span), message).help("raise `memory_limit`, or lower `value_limit`"));
    }
}

/// Whoever listens: a pool, or the process.
struct Listener<'a> {
    name: String,
    span: Span,
    pool: Option<&'a Pool>,
    place: Place,
    address: Option<SocketAddr>,
}

/// Two listeners at one address: the second one does not start.
fn listeners(settings: &Settings, ports: &PortSpans, pools: &[Found], findings: &mut Findings) {
    let mut all: Vec<Listener<'_>> = Vec::new();
    for found in pools {
        let (pool, span) = (&found.pool, found.listen.clone());
        let address = if let Listen::Tcp { address, .. } = pool.listen { Some(address) } else { None };
        let (name, place) = (format!("pool `{}`", pool.name), Place::of_listener(&pool.listen));
        all.push(Listener { name, span, pool: Some(pool), place, address });
    }
    for ((key, usual), (port, span)) in USUAL_PORTS.iter().zip([settings.stats, settings.admin].into_iter().zip(ports))
    {
        let (name, address) = (format!("`{key}`"), if let Port::At(address) = port { address } else { *usual });
        let place = Place::Ip(address.port(), address.ip().to_canonical());
        match (port, span) {
            (Port::At(_), Some(span)) => {
                let (span, address) = (span.clone(), Some(address));
                all.push(Listener { name, span, pool: None, place, address });
            }
            (Port::Unsaid, _) => {
                let taken = all.iter().find(|one| one.address.is_some_and(|at| place::overlap(at, address)));
                let Some(taken) = taken else { continue };
                let message = format!("{} has the usual address of `{key}`, {address}: that is not served", taken.name);
                let warning = Diagnostic::warning(Some(taken.span.clone()), message).help(format!(
                    "give it an address of its own, `softmiss: {{{key}: 127.0.0.1:PORT}}`, or write `{key}: none`"
                ));
                findings.unless_flags.push(warning);
            }
            (Port::At(_) | Port::Off, _) => {}
        }
    }
    // By port, or path, so that many pools are not all compared with each other.
    let mut near: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, one) in all.iter().enumerate() {
        let key = match &one.place {
            Place::Ip(port, _) | Place::Name(port, _) => port.to_string(),
            Place::Unix(path) => path.display().to_string(),
        };
        let others = near.entry(key).or_default();
        if let Some(other) = others.iter().map(|other| &all[*other]).find(|other| exclude(one, other)) {
            let written = |one: &Listener<'_>| match (one.pool, one.address) {
                (Some(pool), _) => pool.listen.to_string(),
                (None, Some(address)) => address.to_string(),
                (None, None) => String::new(),
            };
            let (this, that) = (written(one), written(other));
            let message = if this == that {
                format!("{} and {} listen on the same address {this}", other.name, one.name)
            } else {
                format!("{} listens on {that} and {} on {this}: only one of them can", other.name, one.name)
            };
            findings.push(
                Diagnostic::error(Some(one.span.clone()), message)
                    .label("this one")
                    .also(other.span.clone(), "and this one")
                    .help("give each an address of its own"),
            );
        }
        others.push(index);
    }
}

/// Whether two cannot listen at the same time. With `reuseport` on both, a narrow and a wide address can.
fn exclude(one: &Listener<'_>, other: &Listener<'_>) -> bool {
    match (one.address, other.address) {
        (Some(a), Some(b)) => {
            let share = |one: &Listener<'_>| one.pool.is_some_and(|pool| pool.reuseport);
            let beside = share(one) && share(other) && one.place != other.place;
            place::overlap(a, b) && !beside
        }
        _ => one.place == other.place,
    }
}

/// Pools that are their own servers, each directly or by way of others: a request never comes to an end but by `timeout`.
fn loops(pools: &[Found], findings: &mut Findings) {
    let mut near: BTreeMap<u16, Vec<(Place, usize)>> = BTreeMap::new();
    let mut sockets: BTreeMap<Place, usize> = BTreeMap::new();
    for (index, found) in pools.iter().enumerate() {
        match Place::of_listener(&found.pool.listen) {
            place @ Place::Unix(_) => drop(sockets.insert(place, index)),
            place @ (Place::Ip(port, _) | Place::Name(port, _)) => near.entry(port).or_default().push((place, index)),
        }
    }
    let mut edges: Vec<(usize, usize, usize)> = Vec::new();
    for (index, found) in pools.iter().enumerate() {
        for (number, server) in found.pool.servers.iter().enumerate() {
            let place = Place::of_server(&server.address);
            let next = match &place {
                Place::Unix(_) => sockets.get(&place).copied(),
                Place::Ip(port, _) | Place::Name(port, _) => near
                    .get(port)
                    .and_then(|all| all.iter().find(|(listener, _)| place.reaches(listener)))
                    .map(|(_, next)| *next),
            };
            edges.extend(next.map(|next| (index, number, next)));
        }
    }
    // What nobody comes from, or goes on from, is on no circle.
    loop {
        let before = edges.len();
        let from: Vec<usize> = edges.iter().map(|(from, ..)| *from).collect();
        let to: Vec<usize> = edges.iter().map(|(.., to)| *to).collect();
        let (mut is_from, mut is_to) = (vec![false; pools.len()], vec![false; pools.len()]);
        from.iter().for_each(|one| is_from[*one] = true);
        to.iter().for_each(|one| is_to[*one] = true);
        edges.retain(|(from, _, to)| is_to[*from] && is_from[*to]);
        if edges.len() == before {
            break;
        }
    }
    for (from, server, to) in edges {
        let (pool, asked) = (&pools[from].pool, &pools[to].pool);
        let message = if from == to {
            format!("server `{}` of pool `{}` is the pool itself", pool.servers[server].name, pool.name)
        } else {
            let name = &pool.servers[server].name;
            format!("server `{name}` of pool `{}` is pool `{}`, which asks pool `{0}` again", pool.name, asked.name)
        };
        findings.push(
            Diagnostic::warning(Some(pools[from].servers[server].clone()), message)
                .also(pools[to].listen.clone(), "it listens here")
                .help("write the address of the cache server"),
        );
    }
}

/// A server of two pools, of which one may have it emptied when it comes back: that takes what the other one keeps there.
fn emptied_for_others(pools: &[Found], findings: &mut Findings) {
    for emptying in pools {
        let (option, when) = match emptying.pool.rejoin {
            Rejoin::Keep => continue,
            Rejoin::Flush => ("flush", "when they come back"),
            Rejoin::Safe => ("safe", "when it does not know what they have missed"),
        };
        let places: BTreeMap<_, _> = emptying
            .pool
            .servers
            .iter()
            .zip(&emptying.servers)
            .map(|(server, span)| (Place::of_server(&server.address), span))
            .collect();
        let others = pools.iter().filter(|other| !std::ptr::eq(*other, emptying));
        for other in others.filter(|other| other.pool.protocol == emptying.pool.protocol) {
            let mut servers = other.pool.servers.iter().zip(&other.servers);
            let shared = servers.find_map(|(server, at)| {
                places.get(&Place::of_server(&server.address)).map(|span| (server, *span, at))
            });
            let Some((server, span, at)) = shared else { continue };
            let message = format!(
                "pool `{}` has its servers emptied {when} (`rejoin: {option}`), and so what pool `{}` keeps at {}",
                emptying.pool.name, other.pool.name, server.address
            );
            let databases = if emptying.pool.protocol == Protocol::Redis { ", in every database" } else { "" };
            findings.push(
                Diagnostic::warning(Some(span.clone()), message)
                    .label(format!("emptied{databases}"))
                    .also(at.clone(), format!("and here a server of `{}`", other.pool.name))
                    .help("give the pools servers of their own, or write `rejoin: keep`"),
            );
        }
    }
}

/// A server that is asked in both protocols: it speaks one of them.
fn two_protocols(pools: &[Found], findings: &mut Findings) {
    let mut first: BTreeMap<Place, (Protocol, &Found, usize)> = BTreeMap::new();
    for found in pools {
        for (number, server) in found.pool.servers.iter().enumerate() {
            let protocol = found.pool.protocol;
            let (other, earlier, at) =
                *first.entry(Place::of_server(&server.address)).or_insert((protocol, found, number));
            if other != protocol {
                let message = format!(
                    "pools `{}` and `{}` have one server, {}, and ask it in two protocols",
                    earlier.pool.name, found.pool.name, server.address
                );
                findings.push(
                    Diagnostic::warning(Some(found.servers[number].clone()), message)
                        .label(format!("asked as a server of {}", protocol.name()))
                        .also(earlier.servers[at].clone(), format!("and here of {}", other.name()))
                        .help("correct the address, or `redis`"),
                );
            }
        }
    }
}

//! Servers that are found: what is asked where they are, and a pool's servers by what it said.
//!
//! A file lists servers, and names [`Source`]s that list further ones or say where those are that it lists. What each said
//! last, and was believed, is [`Found`]; [`expand`] makes the servers of a pool of the file and of that. It asks nobody.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::choices::Resolve;
use super::line::usual_name;
use super::model::{Address, COUNT_LIMIT, Config, Pool, Server, ServerId, in_order};
use super::place;
use super::value::{self, Wrong};

/// The server of a pool of which it is not known yet which it has: nobody can be connected to, so the pool's policy answers.
pub const NOBODY: &str = "not-known-yet";

/// Where a pool's servers are looked for, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Time between two look-ups (`resolve_interval`); `None` where what has been found once is not looked up again.
    pub interval: Option<Duration>,
    /// How long after the first sight of a change it is looked at again, before it holds.
    pub settle: Duration,
    /// What becomes of a name that stands for several addresses.
    pub resolve: Resolve,
    /// A file that lists servers (`servers_file`).
    pub file: Option<PathBuf>,
    /// Who is asked for the servers (`auto_discovery`).
    pub endpoint: Option<Endpoint>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(30)),
            settle: Duration::from_secs(2),
            resolve: Resolve::First,
            file: None,
            endpoint: None,
        }
    }
}

/// Where `config get cluster` is answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    pub(super) fn read(text: &str) -> Result<Option<Self>, Wrong> {
        match text {
            "none" => Ok(None),
            text => value::host_and_port(text).map(|(host, port)| Some(Self { host, port })),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What is asked where servers are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A name that is one server, wherever that is.
    Name(String),
    /// A name each of whose addresses is a server.
    Records(String),
    /// A name whose SRV records are servers.
    Services(String),
    /// A file that lists servers.
    File(PathBuf),
    /// Who answers `config get cluster`.
    Endpoint(Endpoint),
}

impl Source {
    /// Whether there are servers that nobody knows of before it has answered.
    #[must_use]
    pub const fn has_servers(&self) -> bool {
        !matches!(self, Self::Name(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) | Self::Records(name) | Self::Services(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Endpoint(endpoint) => write!(f, "{endpoint}"),
        }
    }
}

/// How often a source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Time between two times; `None` where what it has said once is enough.
    pub interval: Option<Duration>,
    /// Time until a change is looked at again.
    pub settle: Duration,
}

/// What a source said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The addresses that a [`Source::Name`] stands for.
    Addresses {
        /// They, in the order of the look-up.
        at: Vec<IpAddr>,
        /// They are others than at first: who connected then is to connect anew.
        is_moved: bool,
    },
    /// The servers that any other source lists, by their ring names. Those of [`Source::Records`] have no port.
    Servers(Vec<Server>),
}

/// What is known of each source.
pub type Found = BTreeMap<Source, Answer>;

/// A server with a name, as a source lists it.
#[must_use]
pub fn server(name: String, host: String, port: u16) -> Server {
    let address = Address::Tcp { host, port };
    Server { id: ServerId(0), name, ring_name: None, address, weight: 1, position: 0 }
}

/// The name of a server at a place, where its source knows no other.
#[must_use]
pub fn name_of(host: &str, port: u16) -> String {
    usual_name(host, port)
}

/// The name to be looked up for a host; nothing where it is an address in figures, however it is written.
fn name_in(host: &str) -> Option<&str> {
    let figures = host.split('%').next().unwrap_or_default();
    let is_address = figures.parse::<Ipv6Addr>().is_ok() || place::ipv4(host).is_some();
    (!is_address).then_some(host)
}

/// What a pool asks for servers, but for what those are asked that it has then.
fn own_sources(pool: &Pool) -> impl Iterator<Item = Source> {
    let Discovery { file, endpoint, .. } = &pool.discovery;
    file.iter().cloned().map(Source::File).chain(endpoint.iter().cloned().map(Source::Endpoint))
}

/// The servers of a line and of what it names: those that are found, or else what is asked for them.
fn of_line(pool: &Pool, line: &Server, found: &Found) -> Result<Vec<Server>, Source> {
    let listed = |source: Source| match found.get(&source) {
        Some(Answer::Servers(servers)) => Ok(servers),
        Some(Answer::Addresses { .. }) | None => Err(source),
    };
    match &line.address {
        Address::Sought(name) => {
            let servers = listed(Source::Services(name.clone()))?;
            Ok(servers.iter().map(|server| Server { weight: line.weight, ..server.clone() }).collect())
        }
        Address::Tcp { host, port } if pool.discovery.resolve == Resolve::All && name_in(host).is_some() => {
            let named = usual_name(host, *port) != line.name;
            let at_port = |server: &Server| {
                let usual = usual_name(&server.name, *port);
                let name = if named { format!("{}@{}", line.name, server.name) } else { usual };
                let address = Address::Tcp { host: server.name.clone(), port: *port };
                Server { name, ring_name: None, address, ..line.clone() }
            };
            Ok(listed(Source::Records(host.clone()))?.iter().map(at_port).collect())
        }
        Address::Tcp { .. } | Address::Found { .. } | Address::Unix(_) => Ok(vec![line.clone()]),
    }
}

/// The lines of a pool: those of the file, and those of its sources as far as they are known.
fn lines(pool: &Pool, found: &Found) -> Vec<Server> {
    let mut lines = pool.listed().to_vec();
    lines.sort_by_key(|line| line.position);
    for source in own_sources(pool) {
        if let Some(Answer::Servers(servers)) = found.get(&source) {
            lines.extend(servers.iter().cloned());
        }
    }
    lines
}

/// Has a pool have the servers that are known. A server whose name is another's already is that one. Of a pool none of whose
/// servers is known it is a server as well that they are [`NOBODY`]. Whether there are more than it can have, and the last of
/// them are left out.
pub fn expand(pool: &mut Pool, found: &Found) -> bool {
    let all = lines(pool, found);
    let mut names = HashSet::new();
    let mut servers: Vec<Server> = Vec::with_capacity(all.len());
    let mut is_cut = false;
    for mut server in all.iter().filter_map(|line| of_line(pool, line, found).ok()).flatten() {
        if names.contains(&server.name) {
            continue;
        }
        if servers.len() == COUNT_LIMIT {
            is_cut = true;
            break;
        }
        names.insert(server.name.clone());
        if pool.discovery.interval.is_some() // otherwise another pool is who has it followed
            && let Address::Tcp { host, port } = &server.address
            && let Some(Answer::Addresses { at, is_moved: true }) = found.get(&Source::Name(host.clone()))
        {
            server.address = Address::Found { host: host.clone(), port: *port, at: at.clone() };
        }
        server.position = servers.len();
        servers.push(server);
    }
    if servers.is_empty() {
        let sources = own_sources(pool).chain(all.iter().filter_map(|line| of_line(pool, line, found).err()));
        let sources: Vec<String> = sources.map(|source| source.to_string()).collect();
        let address = Address::Sought(sources.join(" "));
        servers.push(Server { address, ..server(NOBODY.to_owned(), String::new(), 0) });
    }
    pool.listed.get_or_insert_with(|| std::mem::take(&mut pool.servers));
    pool.servers = in_order(servers);
    is_cut
}

/// Whether it is not known of a pool which servers it has.
#[must_use]
pub fn has_nobody(pool: &Pool) -> bool {
    matches!(&*pool.servers, [only] if matches!(only.address, Address::Sought(_)))
}

/// Whether what a pool's servers are depends on others than the file.
#[must_use]
pub fn is_open(pool: &Pool) -> bool {
    own_sources(pool).next().is_some() || pool.listed().iter().any(|line| of_line(pool, line, &Found::new()).is_err())
}

/// Everything that is asked for the servers of a configuration, as far as it is known.
#[must_use]
pub fn sources(config: &Config, found: &Found) -> BTreeMap<Source, Terms> {
    let mut all: BTreeMap<Source, Terms> = BTreeMap::new();
    for pool in &config.pools {
        let Discovery { interval, settle, .. } = pool.discovery;
        let mut add = |source: Source| {
            let terms = all.entry(source).or_insert(Terms { interval, settle });
            // What several pools ask is asked as often as the most curious does, and believed when the most careful does.
            terms.interval = [terms.interval, interval].into_iter().flatten().min();
            terms.settle = terms.settle.max(settle);
        };
        own_sources(pool).for_each(&mut add);
        for line in lines(pool, found) {
            if let Address::Sought(name) = &line.address {
                add(Source::Services(name.clone()));
            }
            if let (Resolve::All, Address::Tcp { host, .. }) = (pool.discovery.resolve, &line.address)
                && let Some(name) = name_in(host)
            {
                add(Source::Records(name.to_owned()));
            }
            for server in of_line(pool, &line, found).unwrap_or_default() {
                if let Address::Tcp { host, .. } = &server.address
                    && let Some(name) = name_in(host)
                    && interval.is_some()
                {
                    add(Source::Name(name.to_owned()));
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::parse;
    use super::super::roster::Roster;
    use super::*;

    fn pool(text: &str) -> Config {
        let text = format!("p: {{listen: /p.sock, timeout: 400, {text}}}\n");
        parse("file", &text).map_err(|report| report.render(false)).expect("a good file").config
    }

    fn records(addresses: &[&str]) -> Answer {
        let of = |address: &&str| server((*address).to_owned(), (*address).to_owned(), 0);
        Answer::Servers(addresses.iter().map(of).collect())
    }

    fn told(config: &Config, found: &Found) -> Vec<String> {
        let mut pool = config.pools[0].clone();
        expand(&mut pool, found);
        let mut servers = pool.servers;
        servers.sort_by_key(|server| server.position);
        servers.iter().map(|one| format!("{} {} {}", one.name, one.address, one.weight)).collect()
    }

    #[test]
    fn each_address_of_a_name_is_a_server_with_the_name_that_it_would_have_in_the_file() {
        let config = pool("resolve: all, servers: ['h:11211:2', 'h:7:1', 'h:8:1 n', '10.0.0.9:11211:1']");
        let mut found = Found::new();
        assert_eq!(told(&config, &found), ["10.0.0.9 10.0.0.9:11211 1"], "what is known is served");
        found.insert(Source::Records("h".to_owned()), records(&["10.0.0.1", "fd00::1"]));
        let all = [
            "10.0.0.1 10.0.0.1:11211 2",
            "[fd00::1] [fd00::1]:11211 2",
            "10.0.0.1:7 10.0.0.1:7 1",
            "[fd00::1]:7 [fd00::1]:7 1",
            "n@10.0.0.1 10.0.0.1:8 1",
            "n@fd00::1 [fd00::1]:8 1",
            "10.0.0.9 10.0.0.9:11211 1",
        ];
        assert_eq!(told(&config, &found), all);
        let sources: Vec<Source> = sources(&config, &found).into_keys().collect();
        assert_eq!(sources, [Source::Records("h".to_owned())]);
    }

    #[test]
    fn a_name_that_moves_keeps_the_name_of_its_server() {
        let config = pool("servers: ['h:11211:1 n', '10.0.0.9:11211:1', '/u.sock:1', '127.1:5:1']");
        let name = Source::Name("h".to_owned());
        assert!(sources(&config, &Found::new()).keys().eq([&name]));
        for (is_moved, address) in [(false, "h:11211"), (true, "h:11211 (10.0.0.2, fd00::2)")] {
            let at = vec!["10.0.0.2".parse().expect("an address"), "fd00::2".parse().expect("an address")];
            let found = Found::from([(name.clone(), Answer::Addresses { at, is_moved })]);
            assert_eq!(told(&config, &found)[0], format!("n {address} 1"));
        }
        let never = pool("resolve_interval: 0, servers: ['h:11211:1 n']");
        assert!(sources(&never, &Found::new()).is_empty());
        let at = vec!["10.0.0.2".parse().expect("an address")];
        let of_another_pool = Found::from([(name, Answer::Addresses { at, is_moved: true })]);
        assert_eq!(told(&never, &of_another_pool), ["n h:11211 1"]);
    }

    #[test]
    fn services_and_their_hosts_are_asked_for_one_after_the_other() {
        let config = pool("servers: ['_m._tcp.h.example:3']");
        let services = Source::Services("_m._tcp.h.example".to_owned());
        let mut found = Found::new();
        assert_eq!(told(&config, &found), ["not-known-yet _m._tcp.h.example 1"]);
        assert!(sources(&config, &found).keys().eq([&services]));
        let one = |host: &str, port| server(name_of(host, port), host.to_owned(), port);
        found.insert(services.clone(), Answer::Servers(vec![one("a.h", 11211), one("b.h", 7)]));
        assert_eq!(told(&config, &found), ["a.h a.h:11211 3", "b.h:7 b.h:7 3"]);
        let names = ["a.h", "b.h"].map(|name| Source::Name(name.to_owned()));
        assert_eq!(sources(&config, &found).into_keys().collect::<Vec<_>>(), [&names[..], &[services]].concat());
    }

    #[test]
    fn a_pool_has_what_the_file_and_its_sources_list_each_name_once() {
        let config = pool("servers_file: /s, auto_discovery: 'e:1', servers: ['10.0.0.1:1:1 a']");
        assert!(is_open(&config.pools[0]));
        let one = |name: &str, host: &str| server(name.to_owned(), host.to_owned(), 1);
        let endpoint = Endpoint { host: "e".to_owned(), port: 1 };
        let found = Found::from([
            (Source::File("/s".into()), Answer::Servers(vec![one("b", "10.0.0.2"), one("a", "10.0.0.3")])),
            (Source::Endpoint(endpoint), Answer::Servers(vec![one("b", "10.0.0.4"), one("c", "10.0.0.5")])),
        ]);
        assert_eq!(told(&config, &found), ["a 10.0.0.1:1 1", "b 10.0.0.2:1 1", "c 10.0.0.5:1 1"]);
        // Expanded once more it is the same, and what the file lists is still known.
        let mut again = config.pools[0].clone();
        expand(&mut again, &found);
        expand(&mut again, &found);
        assert_eq!((again.servers.len(), again.listed().len()), (3, 1));
        expand(&mut again, &Found::new());
        assert_eq!(again.servers.len(), 1);
    }

    #[test]
    fn a_pool_has_no_more_servers_than_there_are_ids() {
        let mut config = pool("resolve: all, servers: ['h:1:1', 'h:2:1']");
        let addresses: Vec<String> =
            (0u32..).take(COUNT_LIMIT / 2 + 1).map(|number| Ipv4Addr::from((10 << 24) + number).to_string()).collect();
        let of = |count: usize| {
            let addresses: Vec<&str> = addresses[..count].iter().map(String::as_str).collect();
            Found::from([(Source::Records("h".to_owned()), records(&addresses))])
        };
        for (count, servers, is_cut) in
            [(COUNT_LIMIT / 2, COUNT_LIMIT - 1, false), (COUNT_LIMIT / 2 + 1, COUNT_LIMIT, true)]
        {
            assert_eq!((expand(&mut config.pools[0], &of(count)), config.pools[0].servers.len()), (is_cut, servers));
        }
        let rosters = Roster::follow(&[], &config).expect("there are ids for all of them");
        assert_eq!(Roster::follow(&rosters, &config).expect("they are the same")[0].places.len(), COUNT_LIMIT);
    }
}

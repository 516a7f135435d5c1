//! A Redis pool in a pretend world: real engine, pretend servers, network and clock, everything drawn from a seed.
//!
//! Values say which key they belong to, messages which channel, jobs which queue and that they are the only one of their
//! kind. So whatever a client is told can be judged: it is the answer to its own request, of the right shape, about the
//! right key; nothing is told twice; and it comes in time, whatever servers and network do.

#![expect(clippy::wildcard_enum_match_arm, reason = "the cases that matter are named, the others are alike")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{Address, Config, Listen, OnFailure, Pool, PoolId, Protocol, Server, Settings};
use softmiss::engine::link::LinkId;
use softmiss::engine::session::SessionId;
use softmiss::engine::{Effect, Engine, Scripts, Setup};
use softmiss::failure::Failure;
use softmiss::health::Board;
use softmiss::proto::resp::args::Args;
use softmiss::proto::resp::encode;
use softmiss::proto::resp::reply::{self, Reply, Scan, Scanned};
use softmiss::proto::resp::request::{self, Limits, Parsed, Progress};
use softmiss::stats::counters::Counters;
use softmiss::time::Instant;

use super::super::support::Random;

const SERVERS: usize = 3;
const CLIENTS: usize = 6;
const KEYS: u64 = 30;
const TIMEOUT: Duration = Duration::from_millis(400);

type Id = (LinkId, u32);

/// A connection between the engine and a pretend server.
struct Connection {
    id: Id,
    server: usize,
    /// On its way to the server, and back.
    there: Vec<u8>,
    back: Vec<u8>,
    resp3: bool,
    database: usize,
    queued: Option<Vec<Vec<Vec<u8>>>>,
    channels: BTreeSet<Vec<u8>>,
    /// What the engine has heard last was the end of a reply.
    whole: bool,
    /// The queue that its client waits for.
    blocked: Option<Vec<u8>>,
}

#[derive(Default)]
struct Node {
    data: [BTreeMap<Vec<u8>, Vec<u8>>; 2],
    queues: BTreeMap<Vec<u8>, VecDeque<Vec<u8>>>,
    hung: bool,
    dead: bool,
}

/// What a client waits for.
#[derive(Debug)]
enum Asked {
    Get(String),
    Set,
    Mget(Vec<String>),
    Count(i64),
    Ok,
    Queued,
    Exec(Vec<Self>),
    Pop(String),
    Push,
    Subscribed(usize),
    Published,
}

struct Customer {
    session: SessionId,
    asked: VecDeque<(Asked, Instant)>,
    input: Vec<u8>,
    channels: BTreeSet<String>,
    heard: BTreeSet<String>,
    resp3: bool,
}

struct World {
    engine: Engine,
    random: Random,
    now: u64,
    nodes: Vec<Node>,
    connections: Vec<Connection>,
    connecting: Vec<(Id, usize)>,
    customers: Vec<Customer>,
    serial: u64,
    /// Jobs that somebody got.
    popped: BTreeSet<Vec<u8>>,
    errors: bool,
    tally: BTreeMap<&'static str, u64>,
}

fn key(random: &mut Random) -> String {
    format!("key{}", random.below(KEYS))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let server = |position: usize| Server {
            name: format!("s{position}"),
            address: Address::Tcp { host: "nowhere".to_owned(), port: 1 },
            weight: 1,
            position,
        };
        let listen = Listen::Unix { path: "/nowhere".into(), mode: None };
        let errors = random.one_in(3);
        let pool = Pool {
            protocol: Protocol::Redis,
            timeout: Some(TIMEOUT),
            auto_eject_hosts: !random.one_in(4),
            server_failure_limit: 2,
            server_retry_timeout: Duration::from_secs(1),
            server_connections: 1 + random.below(2) as usize,
            on_failure: if errors { OnFailure::Error } else { OnFailure::Miss },
            ..Pool::new("pool", listen, (0..SERVERS).map(server).collect())
        };
        let settings =
            Settings { hot_keys: Some(2), slow_request: Some(Duration::from_millis(20)), ..Settings::default() };
        let config = Arc::new(Config { settings, pools: vec![pool] });
        let mut engine = Engine::new(Setup {
            board: Arc::new(Board::new(&config, seed)),
            counters: Arc::new([Arc::new(Counters::new(&config))]),
            config,
            worker: 0,
            seed,
            started_at: Duration::ZERO,
            scripts: Scripts::default(),
        });
        let customers = (0..CLIENTS)
            .map(|_| Customer {
                session: engine.client_connected(PoolId(0)),
                asked: VecDeque::new(),
                input: Vec::new(),
                channels: BTreeSet::new(),
                heard: BTreeSet::new(),
                resp3: false,
            })
            .collect();
        Self {
            engine,
            random,
            now: 1,
            nodes: (0..SERVERS).map(|_| Node::default()).collect(),
            connections: Vec::new(),
            connecting: Vec::new(),
            customers,
            serial: 0,
            popped: BTreeSet::new(),
            errors,
            tally: BTreeMap::new(),
        }
    }

    fn at(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// Lets time pass, with the engine's timers on the way.
    fn pass(&mut self, nanos: u64) {
        let until = self.now + nanos;
        while let Some(next) = self.engine.next_timeout().filter(|next| next.as_nanos() <= until) {
            self.now = self.now.max(next.as_nanos());
            self.engine.handle_timeout(self.at());
            self.carry_out();
        }
        self.now = until;
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Connect { link, epoch } => {
                    let (_, server) = self.engine.link_server(link);
                    self.connecting.push(((link, epoch), server.index()));
                }
                Effect::Disconnect { link, .. } => {
                    self.connections.retain(|connection| connection.id.0 != link);
                    self.connecting.retain(|((known, _), _)| *known != link);
                }
                Effect::News | Effect::Notice(_) | Effect::Slow(_) => {}
            }
        }
        while self.engine.poll_client().is_some() {}
        while self.engine.poll_link().is_some() {}
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0..7 => self.ask(),
            7..10 => self.connect(),
            10..14 => self.carry_there(),
            14..19 => self.carry_back(),
            19 if self.random.one_in(4) => self.trouble(),
            19 => self.nodes.iter_mut().for_each(|node| (node.hung, node.dead) = (false, false)),
            _ => {
                let nanos = match self.random.below(12) {
                    0 => 300_000_000,
                    1..4 => 20_000_000,
                    _ => self.random.below(3_000_000),
                };
                self.pass(nanos);
            }
        }
        self.carry_out();
        self.read_answers();
        if let Err(what) = self.engine.check_invariants() {
            panic!("{what}");
        }
        let (now, slack) = (self.at(), Duration::from_millis(50));
        for customer in &self.customers {
            if let Some((asked, since)) = customer.asked.front()
                && !matches!(asked, Asked::Pop(_))
            {
                assert!(
                    now - *since <= TIMEOUT + slack,
                    "{asked:?} waits for {:?}, in front of {:?}",
                    now - *since,
                    customer.asked
                );
            }
        }
    }

    fn ask(&mut self) {
        let at = self.random.below(CLIENTS as u64) as usize;
        let random = &mut self.random;
        let mut out = Vec::new();
        let mut asked = Vec::new();
        let mut send =
            |words: &[&str]| encode::words(&mut out, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        let customer = &mut self.customers[at];
        // Whoever waits for a job, or has lost sight of its requests, says nothing more for a while.
        if customer.asked.iter().any(|(asked, _)| matches!(asked, Asked::Pop(_))) || customer.asked.len() > 40 {
            return;
        }
        let quiet = !customer.channels.is_empty() && !customer.resp3;
        match random.below(if quiet { 2 } else { 26 }) {
            0 => {
                let channel = format!("channel{}", random.below(8));
                send(&["SUBSCRIBE", &channel]);
                customer.channels.insert(channel);
                asked.push(Asked::Subscribed(1));
            }
            1 => {
                let count = customer.channels.len();
                send(&["UNSUBSCRIBE"]);
                customer.channels.clear();
                asked.push(Asked::Subscribed(count.max(1)));
            }
            2 if customer.asked.is_empty() && !customer.resp3 && customer.channels.is_empty() => {
                send(&["RESET"]);
                asked.push(Asked::Ok);
            }
            3..6 => {
                let mut parts = Vec::new();
                send(&["MULTI"]);
                asked.push(Asked::Ok);
                for _ in 0..random.below(4) {
                    let name = key(random);
                    if random.one_in(2) {
                        send(&["GET", &name]);
                        parts.push(Asked::Get(name));
                    } else {
                        let names: Vec<_> = (0..3).map(|_| key(random)).collect();
                        send(&["MGET", &names[0], &names[1], &names[2]]);
                        parts.push(Asked::Mget(names));
                    }
                    asked.push(Asked::Queued);
                }
                send(&["EXEC"]);
                asked.push(Asked::Exec(parts));
            }
            6 => {
                let queue = format!("queue{}", random.below(4));
                send(&["BLPOP", &queue, if random.one_in(3) { "0" } else { "1" }]);
                asked.push(Asked::Pop(queue));
            }
            7..9 => {
                let queue = format!("queue{}", random.below(4));
                self.serial += 1;
                send(&["RPUSH", &queue, &format!("{queue}|{}", self.serial)]);
                asked.push(Asked::Push);
            }
            9..11 => {
                let channel = format!("channel{}", random.below(8));
                self.serial += 1;
                send(&["PUBLISH", &channel, &format!("{channel}|{}", self.serial)]);
                asked.push(Asked::Published);
            }
            11..15 => {
                let names: Vec<_> = (0..1 + random.below(6)).map(|_| key(random)).collect();
                let words: Vec<_> = std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
                send(&words);
                asked.push(Asked::Mget(names));
            }
            15..17 => {
                let names: Vec<_> = (0..1 + random.below(6)).map(|_| key(random)).collect();
                let verb = if random.one_in(2) { "DEL" } else { "EXISTS" };
                let words: Vec<_> = std::iter::once(verb).chain(names.iter().map(String::as_str)).collect();
                send(&words);
                asked.push(Asked::Count(names.len() as i64));
            }
            17..21 => {
                let name = key(random);
                self.serial += 1;
                send(&["SET", &name, &format!("{name}|{}", self.serial)]);
                asked.push(Asked::Set);
            }
            _ => {
                let name = key(random);
                send(&["GET", &name]);
                asked.push(Asked::Get(name));
            }
        }
        let now = self.at();
        self.customers[at].asked.extend(asked.into_iter().map(|asked| (asked, now)));
        let session = self.customers[at].session;
        let cut = self.random.below(out.len() as u64 + 1) as usize;
        for piece in [&out[..cut], &out[cut..]] {
            self.engine.client_data(session, piece, now);
        }
        self.count("requests");
    }

    fn connect(&mut self) {
        if self.connecting.is_empty() {
            return;
        }
        let at = self.random.below(self.connecting.len() as u64) as usize;
        let ((link, epoch), server) = self.connecting[at];
        if self.nodes[server].hung && self.random.one_in(2) {
            return;
        }
        self.connecting.swap_remove(at);
        if self.nodes[server].dead || self.random.one_in(40) {
            self.engine.link_failed(link, epoch, Failure::Refused, self.at());
            return;
        }
        self.connections.push(Connection {
            id: (link, epoch),
            server,
            there: Vec::new(),
            back: Vec::new(),
            resp3: false,
            database: 0,
            queued: None,
            channels: BTreeSet::new(),
            whole: true,
            blocked: None,
        });
        self.engine.link_connected(link, epoch, self.at());
    }

    fn some_connection(&mut self) -> Option<usize> {
        let count = self.connections.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    /// Bytes reach a server, which carries out what is whole.
    fn carry_there(&mut self) {
        let Some(at) = self.some_connection() else { return };
        let (link, epoch) = self.connections[at].id;
        let output = self.engine.link_output(link, epoch);
        let count = if self.random.one_in(4) { output.len() / 2 } else { output.len() };
        self.connections[at].there.extend_from_slice(&output[..count]);
        self.engine.link_wrote(link, epoch, count, Instant::from_nanos(self.now));
        if self.nodes[self.connections[at].server].hung {
            return;
        }
        while let Some((len, words)) = first_request(&self.connections[at].there) {
            if self.connections[at].blocked.is_some() {
                break;
            }
            self.connections[at].there.drain(..len);
            self.serve(at, words);
        }
    }

    fn serve(&mut self, at: usize, words: Vec<Vec<u8>>) {
        let connection = &mut self.connections[at];
        let name = words[0].to_ascii_uppercase();
        let mut out = Vec::new();
        match (name.as_slice(), &mut connection.queued) {
            (b"MULTI", _) => {
                connection.queued = Some(Vec::new());
                encode::simple(&mut out, b"OK");
            }
            (b"EXEC", Some(_)) => {
                let queued = connection.queued.take().unwrap_or_default();
                encode::array(&mut out, queued.len());
                queued.into_iter().for_each(|words| self.perform(at, &words, &mut out));
            }
            (_, Some(queued)) => {
                queued.push(words);
                encode::simple(&mut out, b"QUEUED");
            }
            (b"HELLO", _) => {
                connection.resp3 = true;
                encode::simple(&mut out, b"welcome");
            }
            (b"SELECT", _) => {
                connection.database = usize::from(words[1] == b"1");
                encode::simple(&mut out, b"OK");
            }
            _ => self.perform(at, &words, &mut out),
        }
        self.connections[at].back.extend_from_slice(&out);
    }

    fn null(&self, at: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.connections[at].resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn perform(&mut self, at: usize, words: &[Vec<u8>], out: &mut Vec<u8>) {
        let (server, database) = (self.connections[at].server, self.connections[at].database);
        let push = if self.connections[at].resp3 { b'>' } else { b'*' };
        match words[0].to_ascii_uppercase().as_slice() {
            b"PING" => encode::simple(out, b"PONG"),
            b"GET" => match self.nodes[server].data[database].get(&words[1]) {
                Some(value) => encode::bulk(out, value),
                None => self.null(at, out),
            },
            b"MGET" => {
                encode::array(out, words.len() - 1);
                for name in &words[1..] {
                    match self.nodes[server].data[database].get(name) {
                        Some(value) => encode::bulk(out, value),
                        None => self.null(at, out),
                    }
                }
            }
            b"SET" => {
                self.nodes[server].data[database].insert(words[1].clone(), words[2].clone());
                encode::simple(out, b"OK");
            }
            verb @ (b"DEL" | b"EXISTS") => {
                let data = &mut self.nodes[server].data[database];
                let there = |name: &&Vec<u8>| {
                    if verb == b"DEL" { data.remove(*name).is_some() } else { data.contains_key(*name) }
                };
                let count = words[1..].iter().filter(there_mut(there)).count();
                encode::integer(out, count as i64);
            }
            b"RPUSH" => {
                let queue = self.nodes[server].queues.entry(words[1].clone()).or_default();
                queue.push_back(words[2].clone());
                encode::integer(out, queue.len() as i64);
                self.wake(server, &words[1]);
            }
            b"BLPOP" => {
                self.connections[at].blocked = Some(words[1].clone());
                self.wake(server, &words[1]);
            }
            b"PUBLISH" => {
                let mut count = 0;
                for other in self.connections.iter_mut().filter(|other| other.server == server) {
                    if other.channels.contains(&words[1]) {
                        other.back.push(if other.resp3 { b'>' } else { b'*' });
                        other.back.extend_from_slice(b"3\r\n");
                        [b"message", &words[1][..], &words[2]]
                            .iter()
                            .for_each(|word| encode::bulk(&mut other.back, word));
                        count += 1;
                    }
                }
                encode::integer(out, count);
            }
            verb @ (b"SUBSCRIBE" | b"UNSUBSCRIBE") => {
                for channel in &words[1..] {
                    let channels = &mut self.connections[at].channels;
                    if verb == b"SUBSCRIBE" {
                        channels.insert(channel.clone())
                    } else {
                        channels.remove(channel)
                    };
                    out.push(push);
                    out.extend_from_slice(b"3\r\n");
                    encode::bulk(out, &verb.to_ascii_lowercase());
                    encode::bulk(out, channel);
                    encode::integer(out, channels.len() as i64);
                }
            }
            _ => encode::error(out, b"ERR unknown"),
        }
    }

    /// Gives jobs to those who wait for them.
    fn wake(&mut self, server: usize, queue: &[u8]) {
        for connection in self.connections.iter_mut().filter(|one| one.server == server) {
            if connection.blocked.as_deref() == Some(queue)
                && let Some(job) = self.nodes[server].queues.get_mut(queue).and_then(VecDeque::pop_front)
            {
                connection.blocked = None;
                encode::words(&mut connection.back, &[queue, &job]);
            }
        }
    }

    /// Bytes of a server reach the engine.
    fn carry_back(&mut self) {
        let Some(at) = self.some_connection() else { return };
        if self.nodes[self.connections[at].server].hung {
            return;
        }
        // Patience is over now and then.
        if self.connections[at].blocked.is_some() && self.random.one_in(6) {
            self.connections[at].blocked = None;
            let null: &[u8] = if self.connections[at].resp3 { b"_\r\n" } else { b"*-1\r\n" };
            self.connections[at].back.extend_from_slice(null);
        }
        let back = &mut self.connections[at].back;
        let count = if self.random.one_in(3) { self.random.below(back.len() as u64 + 1) as usize } else { back.len() };
        let bytes: Vec<u8> = back.drain(..count).collect();
        if count > 0 {
            self.connections[at].whole = self.connections[at].back.is_empty();
        }
        let (link, epoch) = self.connections[at].id;
        self.engine.link_data(link, epoch, &bytes, Instant::from_nanos(self.now), &mut ());
    }

    fn trouble(&mut self) {
        let server = self.random.below(SERVERS as u64) as usize;
        match self.random.below(8) {
            0 => {
                self.count("hung");
                self.nodes[server].hung = true;
            }
            1..4 => self.nodes[server].hung = false,
            4 => {
                self.count("killed");
                self.nodes[server] = Node { dead: true, ..Node::default() };
                self.end_connections(|connection| connection.server == server);
            }
            5 | 6 => self.nodes[server].dead = false,
            _ => {
                let Some(at) = self.some_connection() else { return };
                let id = self.connections[at].id;
                // Within a value nobody could tell it from one.
                if self.random.one_in(3) && self.connections[at].whole {
                    self.count("junk");
                    self.connections[at].back = b"!what is this\r\n".to_vec();
                    return;
                }
                self.count("closed");
                self.end_connections(|connection| connection.id == id);
            }
        }
    }

    fn end_connections(&mut self, which: impl Fn(&Connection) -> bool) {
        let ids: Vec<Id> = self.connections.iter().filter(|one| which(one)).map(|one| one.id).collect();
        for (link, epoch) in ids {
            self.connections.retain(|one| one.id != (link, epoch));
            self.engine.link_failed(link, epoch, Failure::Closed, self.at());
            self.carry_out();
        }
    }

    fn read_answers(&mut self) {
        for at in 0..CLIENTS {
            let session = self.customers[at].session;
            let output = self.engine.client_output(session).to_vec();
            self.engine.client_wrote(session, output.len(), Instant::from_nanos(self.now));
            self.customers[at].input.extend_from_slice(&output);
            while let Scanned::Complete { len } = Scan::new(1).advance(&self.customers[at].input) {
                let frame: Vec<u8> = self.customers[at].input.drain(..len).collect();
                self.judge(at, &frame);
            }
        }
        self.carry_out();
    }

    fn judge(&mut self, at: usize, frame: &[u8]) {
        let words: Vec<Vec<u8>> = match reply::read(frame) {
            Reply::List(items) => items.map(text).collect(),
            _ => Vec::new(),
        };
        let customer = &mut self.customers[at];
        if words.first().is_some_and(|word| word == b"message") && frame[0] != b'$' {
            let (channel, message) =
                (String::from_utf8_lossy(&words[1]).into_owned(), String::from_utf8_lossy(&words[2]).into_owned());
            assert!(message.starts_with(&format!("{channel}|")), "another channel's: {message}");
            assert!(customer.heard.insert(message), "a message comes twice");
            self.count("messages");
            return;
        }
        let (asked, since) = customer.asked.pop_front().unwrap_or_else(|| panic!("nobody asked for {}", show(frame)));
        if let Asked::Subscribed(count) = asked {
            assert!(words[0].ends_with(b"subscribe"), "{}", show(frame));
            if count > 1 {
                customer.asked.push_front((Asked::Subscribed(count - 1), since));
            }
            return;
        }
        if let Asked::Pop(_) = asked
            && !customer.asked.is_empty()
        {
            let now = Instant::from_nanos(self.now);
            customer.asked.iter_mut().for_each(|(_, since)| *since = now);
        }
        self.check(&asked, frame);
    }

    fn check(&mut self, asked: &Asked, frame: &[u8]) {
        if frame[0] == b'-' {
            let told = String::from_utf8_lossy(frame).into_owned();
            let has_none = matches!(asked, Asked::Push);
            assert!(self.errors || has_none, "an error in miss mode: {told}");
            self.count("errors");
            return;
        }
        let read = reply::read(frame);
        match (asked, read) {
            (Asked::Get(_), Reply::Null) => self.count("misses"),
            (Asked::Get(name), Reply::Bulk(value)) => {
                assert!(value.starts_with(format!("{name}|").as_bytes()), "{} for {name}", show(value));
                self.count("hits");
            }
            (Asked::Mget(names), Reply::List(items)) => {
                assert_eq!(items.len(), names.len());
                for (name, value) in names.iter().zip(items) {
                    self.check(&Asked::Get(name.clone()), value);
                }
            }
            (Asked::Exec(parts), Reply::List(items)) => {
                assert_eq!(items.len(), parts.len());
                for (part, value) in parts.iter().zip(items) {
                    self.check(part, value);
                }
                self.count("transactions");
            }
            (Asked::Set, Reply::Simple(b"OK") | Reply::Null) | (Asked::Ok, Reply::Simple(b"OK" | b"RESET")) => {}
            (Asked::Queued, Reply::Simple(b"QUEUED")) => {}
            (Asked::Count(most), Reply::Integer(count)) => assert!((0..=*most).contains(&count)),
            (Asked::Push | Asked::Published, Reply::Integer(_)) | (Asked::Pop(_), Reply::Null) => {}
            (Asked::Pop(queue), Reply::List(items)) => {
                let words: Vec<_> = items.map(text).collect();
                assert_eq!(words[0], queue.as_bytes());
                assert!(words[1].starts_with(format!("{queue}|").as_bytes()));
                assert!(self.popped.insert(words[1].clone()), "a job is done twice");
                self.count("jobs");
            }
            (asked, _) => panic!("{} is no answer to {asked:?}", show(frame)),
        }
    }
}

/// A filter that may change what it looks at.
fn there_mut<'a>(mut there: impl FnMut(&&'a Vec<u8>) -> bool) -> impl FnMut(&&'a Vec<u8>) -> bool {
    move |name| there(name)
}

fn text(value: &[u8]) -> Vec<u8> {
    match reply::read(value) {
        Reply::Bulk(text) | Reply::Simple(text) => text.to_vec(),
        _ => Vec::new(),
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

fn first_request(bytes: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    if bytes.is_empty() {
        return None;
    }
    let mut spans = Vec::new();
    let limits = Limits { value: 1 << 30, trusted: true };
    match request::parse(bytes, &mut Progress::default(), limits, &mut spans) {
        Parsed::Complete { len } => Some((len, Args::new(bytes, &spans).iter().map(<[u8]>::to_vec).collect())),
        _ => None,
    }
}

#[test]
fn whatever_happens_every_client_gets_its_own_answers() {
    let seeds = std::env::var("SOFTMISS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..3000).for_each(|_| world.step());
            world.tally
        });
        match outcome {
            Ok(found) => found.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count),
            Err(_) => panic!("seed {seed}"),
        }
    }
    println!("{tally:?}");
    for what in ["hits", "misses", "transactions", "jobs", "messages", "errors", "hung", "killed", "closed", "junk"] {
        assert!(tally.get(what).is_some_and(|count| *count > seeds / 2), "too few {what}: {tally:?}");
    }
}

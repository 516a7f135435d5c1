//! The pretend Redis servers: connections, and how commands are carried out.

use std::collections::{BTreeSet, VecDeque};

use softmiss::config::model::{PoolId, ServerId};
use softmiss::engine::ids::LinkId;
use softmiss::proto::resp::args::Args;
use softmiss::proto::resp::encode;
use softmiss::proto::resp::request::{self, Limits, Parsed, Progress};

use super::draw::SCRIPTS;
use super::store::{Serial, serial_of};
use super::world::{MS, World};

pub(super) type Id = (LinkId, u32);

/// What the names of leases begin with.
pub(super) const LEASE: &[u8] = b"softmiss:lease:";

/// What the names of copies begin with that outlive their values.
const STALE: &[u8] = b"softmiss:stale:";

/// What a server refuses that takes no changes.
const CHANGES: [&[u8]; 12] = [
    b"SET",
    b"MSET",
    b"SETNX",
    b"DEL",
    b"FLUSHDB",
    b"FLUSHALL",
    b"EVAL",
    b"EVALSHA",
    b"RPUSH",
    b"BLPOP",
    b"SADD",
    b"EXPIRE",
];

/// A connection between the engine and a pretend server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: Id,
    /// The server as the engine knows it, and its process.
    pub(super) of: (PoolId, ServerId),
    pub(super) server: usize,
    /// On its way to the server, and back.
    pub(super) there: Vec<u8>,
    pub(super) back: Vec<u8>,
    pub(super) resp3: bool,
    pub(super) database: usize,
    pub(super) queued: Option<Vec<Vec<Vec<u8>>>>,
    pub(super) watched: Vec<(usize, Vec<u8>)>,
    /// Something that is watched was changed.
    pub(super) dirty: bool,
    /// Something of what is queued was refused.
    pub(super) spoiled: bool,
    pub(super) channels: BTreeSet<Vec<u8>>,
    /// The keys that were read on it, if it is to be told when they change.
    pub(super) tracked: Option<BTreeSet<Vec<u8>>>,
    /// What the engine has heard last was the end of a reply.
    pub(super) whole: bool,
    /// How many bytes it has heard, and where refusals of writings end that it is to hear.
    pub(super) heard: usize,
    pub(super) refusals: VecDeque<(usize, Serial)>,
    /// The queue that its client waits for.
    pub(super) blocked: Option<Vec<u8>>,
    /// The engine has done with it; the server has not.
    pub(super) gone: bool,
    /// The engine waits for the server to come to its end.
    pub(super) lingers: bool,
}

impl Connection {
    pub(super) fn new(id: Id, of: (PoolId, ServerId), server: usize) -> Self {
        Self {
            id,
            of,
            server,
            there: Vec::new(),
            back: Vec::new(),
            resp3: false,
            database: 0,
            queued: None,
            watched: Vec::new(),
            dirty: false,
            spoiled: false,
            channels: BTreeSet::new(),
            tracked: None,
            whole: true,
            heard: 0,
            refusals: VecDeque::new(),
            blocked: None,
            gone: false,
            lingers: false,
        }
    }

    /// What its server calls it.
    fn number(&self) -> i64 {
        let (link, epoch) = self.id;
        (link.index() as i64) << 32 | i64::from(epoch)
    }
}

impl World {
    /// Carries out the requests that a server has whole.
    pub(super) fn serve(&mut self, at: usize) {
        let server = self.connections[at].server;
        if self.nodes[server].hung || self.nodes[server].dead {
            return;
        }
        if !self.plan.pools[self.nodes[server].pool].redis {
            return self.serve_memcached(at);
        }
        while self.connections[at].blocked.is_none()
            && let Some((len, words)) = first_request(&self.connections[at].there)
        {
            self.connections[at].there.drain(..len);
            self.ledger.tick += 1;
            self.note(|| {
                let told: Vec<_> = words.iter().map(|word| super::show(word)).collect();
                let connection = &self.connections[at];
                format!("redis {server}.{} executes {told:?} of {:?}", connection.database, connection.id)
            });
            self.execute(at, words);
        }
    }

    fn execute(&mut self, at: usize, words: Vec<Vec<u8>>) {
        let connection = &mut self.connections[at];
        let name = words[0].to_ascii_uppercase();
        let mut out = Vec::new();
        if let Some(reason) = self.nodes[connection.server].refuses.filter(|_| CHANGES.contains(&name.as_slice())) {
            connection.spoiled = connection.queued.is_some();
            encode::error(&mut connection.back, reason);
            let end = connection.heard + connection.back.len();
            let serials: Vec<Serial> = words.iter().filter_map(|word| serial_of(word)).collect();
            connection.refusals.extend(serials.iter().map(|serial| (end, *serial)));
            self.ledger.refused.extend(serials.iter().map(|serial| (*serial, None)));
            return self.count("refused");
        }
        match (name.as_slice(), &mut connection.queued) {
            (b"MULTI", _) => {
                connection.queued = Some(Vec::new());
                encode::simple(&mut out, b"OK");
            }
            (b"EXEC", Some(_)) if std::mem::take(&mut connection.spoiled) => {
                (connection.queued, connection.dirty) = (None, false);
                connection.watched.clear();
                encode::error(&mut out, b"EXECABORT Transaction discarded because of previous errors.");
            }
            (b"EXEC", Some(_)) => {
                let queued = connection.queued.take().unwrap_or_default();
                connection.watched.clear();
                if std::mem::take(&mut connection.dirty) {
                    out.extend_from_slice(if connection.resp3 { b"_\r\n" } else { b"*-1\r\n" });
                } else {
                    encode::array(&mut out, queued.len());
                    for words in queued {
                        self.ledger.tick += 1;
                        self.perform(at, &words, &mut out);
                    }
                }
            }
            (b"DISCARD", Some(_)) => {
                (connection.queued, connection.dirty, connection.spoiled) = (None, false, false);
                connection.watched.clear();
                encode::simple(&mut out, b"OK");
            }
            (_, Some(queued)) => {
                queued.push(words);
                encode::simple(&mut out, b"QUEUED");
            }
            (b"WATCH", _) => {
                let database = connection.database;
                connection.watched.extend(words.into_iter().skip(1).map(|key| (database, key)));
                encode::simple(&mut out, b"OK");
            }
            (b"UNWATCH", _) => {
                connection.watched.clear();
                connection.dirty = false;
                encode::simple(&mut out, b"OK");
            }
            (b"HELLO", _) => {
                connection.resp3 = words.get(1).is_some_and(|version| version == b"3");
                out.extend_from_slice(if connection.resp3 { b"%1\r\n" } else { b"*2\r\n" });
                encode::bulk(&mut out, b"proto");
                encode::integer(&mut out, if connection.resp3 { 3 } else { 2 });
            }
            (b"SELECT", _) => {
                connection.database = String::from_utf8_lossy(&words[1]).parse().expect("a database");
                encode::simple(&mut out, b"OK");
            }
            _ => self.perform(at, &words, &mut out),
        }
        self.connections[at].back.extend_from_slice(&out);
    }

    fn null(&self, at: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.connections[at].resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn value_or_null(&self, at: usize, key: &[u8], out: &mut Vec<u8>) {
        let connection = &self.connections[at];
        match self.nodes[connection.server].databases[connection.database].get(key) {
            Some(value) => encode::bulk(out, value),
            None => self.null(at, out),
        }
    }

    /// Whoever watches a key has seen it change.
    pub(super) fn touch(&mut self, server: usize, database: usize, key: &[u8]) {
        for other in self.connections.iter_mut().filter(|other| other.server == server) {
            other.dirty |= other.watched.iter().any(|(of, known)| *of == database && known == key);
            if other.tracked.as_mut().is_some_and(|tracked| tracked.remove(key)) {
                other.back.extend_from_slice(b">2\r\n");
                encode::bulk(&mut other.back, b"invalidate");
                encode::array(&mut other.back, 1);
                encode::bulk(&mut other.back, key);
            }
        }
    }

    /// Stores a value, and judges whether that may be.
    pub(super) fn put(&mut self, at: usize, key: &[u8], value: Vec<u8>) {
        let connection = &self.connections[at];
        let (server, database) = (connection.server, connection.database);
        if let Err(what) = self.check_route(server, &value, database, key) {
            panic!("server {server}: {what}");
        }
        let connection = &self.connections[at];
        if let Err(what) = self.ledger.store(&value, &self.nodes, (server, database), key, connection) {
            panic!("server {server}: {what}");
        }
        let tick = self.ledger.tick;
        self.newest.stored(server, database, key, &value);
        self.nodes[server].databases[database].put(key, tick, Some(value));
        self.touch(server, database, key);
    }

    /// What is said, or asked, of those who copy a key.
    fn note_copying(&mut self, at: usize, words: &[Vec<u8>], out: &mut Vec<u8>) {
        let (server, database) = (self.connections[at].server, self.connections[at].database);
        let (now, copying) = (self.now, &mut self.nodes[server].copying);
        copying.retain(|_, copying| !copying.who.is_empty() && copying.until.is_none_or(|until| now < until));
        let place = (database, words[1].clone());
        let answer = match (words[0].as_slice(), copying.get_mut(&place)) {
            (b"SADD", _) => copying.entry(place).or_default().who.insert(words[2].clone()).into(),
            (_, None) => 0,
            (b"SREM", Some(copying)) => copying.who.remove(&words[2]).into(),
            (b"SCARD", Some(copying)) => copying.who.len() as i64,
            (_, Some(copying)) => {
                copying.until = Some(now + 2_000_000_000);
                1
            }
        };
        encode::integer(out, answer);
    }

    /// A lease is asked for, for so many milliseconds, or ended. Whether it was.
    pub(super) fn lease(&mut self, server: usize, database: usize, name: &[u8], millis: Option<u64>) -> bool {
        self.count("leases");
        let (now, leases) = (self.now, &mut self.nodes[server].leases);
        leases.retain(|_, until| *until > now);
        let name = (database, name.to_vec());
        let Some(millis) = millis else { return leases.remove(&name).is_some() };
        let is_free = !leases.contains_key(&name);
        leases.entry(name).or_insert(now + millis * MS);
        self.nodes[server].given += u64::from(is_free);
        is_free
    }

    /// Copies are stored, asked for or forgotten.
    fn copy(&mut self, at: usize, words: &[Vec<u8>], out: &mut Vec<u8>) {
        let (server, database) = (self.connections[at].server, self.connections[at].database);
        let node = &mut self.nodes[server];
        let name = |word: &Vec<u8>| (database, word.clone());
        match words[0].as_slice() {
            b"SET" => {
                node.copies.insert(name(&words[1]), words[2].clone());
                encode::simple(out, b"OK");
            }
            b"DEL" => {
                let count = words[1..].iter().filter(|word| node.copies.remove(&name(word)).is_some()).count();
                encode::integer(out, count as i64);
            }
            b"EVAL" => {
                if node.databases[database].get(&words[3]) == Some(&words[5]) {
                    node.copies.insert(name(&words[4]), words[5].clone());
                }
                encode::integer(out, 1);
            }
            b"GET" => match node.copies.get(&name(&words[1])) {
                Some(value) => encode::bulk(out, value),
                None => self.null(at, out),
            },
            _ => panic!("nobody asks for that of a copy: {}", super::show(&words.concat())),
        }
    }

    fn perform(&mut self, at: usize, words: &[Vec<u8>], out: &mut Vec<u8>) {
        let (server, database) = (self.connections[at].server, self.connections[at].database);
        let tick = self.ledger.tick;
        if words.len() > 1 && words[1].starts_with(LEASE) {
            let millis = words.get(5).map(|text| String::from_utf8_lossy(text).parse().expect("milliseconds"));
            let is_so = self.lease(server, database, &words[1], millis);
            return match millis {
                None => encode::integer(out, i64::from(is_so)),
                Some(_) if is_so => encode::simple(out, b"OK"),
                Some(_) => self.null(at, out),
            };
        }
        if words.iter().any(|word| word.starts_with(STALE)) {
            return self.copy(at, words, out);
        }
        match words[0].to_ascii_uppercase().as_slice() {
            b"PING" => encode::simple(out, b"PONG"),
            b"GET" => {
                if let Some(tracked) = &mut self.connections[at].tracked {
                    tracked.insert(words[1].clone());
                }
                self.value_or_null(at, &words[1], out);
            }
            b"MGET" => {
                encode::array(out, words.len() - 1);
                words[1..].iter().for_each(|name| self.value_or_null(at, name, out));
            }
            b"SET"
                if words.iter().any(|word| word == b"NX")
                    && self.nodes[server].databases[database].get(&words[1]).is_some() =>
            {
                self.null(at, out);
            }
            b"SET" => {
                if self.is_brought_along(server, database, words) {
                    self.bring(server, database, &words[1], words[2].clone());
                } else {
                    self.put(at, &words[1], words[2].clone());
                }
                encode::simple(out, b"OK");
            }
            b"MSET" => {
                self.put(at, &words[1], words[2].clone());
                encode::simple(out, b"OK");
            }
            b"SETNX" => {
                let free = self.nodes[server].databases[database].get(&words[1]).is_none();
                if free {
                    self.put(at, &words[1], words[2].clone());
                }
                encode::integer(out, i64::from(free));
            }
            b"DEL" => {
                let mut count = 0;
                for name in &words[1..] {
                    // The proxy has former homes forget keys, and a home whose answer to what was brought along is lost.
                    if self.home(self.nodes[server].pool, &String::from_utf8_lossy(name)) == server
                        && self.is_removed(database, name)
                    {
                        self.newest.removed(server, database, name);
                    }
                    if self.nodes[server].databases[database].put(name, tick, None) {
                        self.touch(server, database, name);
                        count += 1;
                    }
                }
                encode::integer(out, count);
            }
            b"EXISTS" => {
                let data = &self.nodes[server].databases[database];
                encode::integer(out, words[1..].iter().filter(|name| data.get(name).is_some()).count() as i64);
            }
            verb @ (b"FLUSHDB" | b"FLUSHALL") => {
                let all = verb == b"FLUSHALL";
                self.may_flush(server, (!all).then_some(database));
                for of in (0..self.nodes[server].databases.len()).filter(|of| all || *of == database) {
                    self.newest.flushed(server, of);
                    self.nodes[server].leases.retain(|(database, _), _| *database != of);
                    self.nodes[server].copies.retain(|(database, _), _| *database != of);
                    for key in self.nodes[server].databases[of].clear(tick) {
                        self.touch(server, of, &key);
                    }
                }
                encode::simple(out, b"OK");
            }
            b"SCRIPT" if words[1] == b"EXISTS" => {
                encode::array(out, 1);
                encode::integer(out, self.nodes[server].scripts.contains(&words[2]).into());
            }
            b"SCRIPT" => {
                let known = SCRIPTS.iter().find(|(text, _)| text.as_bytes() == words[2]).expect("a script");
                self.nodes[server].scripts.insert(known.1.into());
                encode::bulk(out, known.1.as_bytes());
            }
            verb @ (b"EVAL" | b"EVALSHA") => {
                let known = SCRIPTS.iter().find(|(text, _)| verb == b"EVAL" && text.as_bytes() == words[1]);
                if let Some((_, sha)) = known {
                    self.nodes[server].scripts.insert((*sha).into());
                } else if !self.nodes[server].scripts.contains(&words[1]) {
                    self.count("scripts unknown");
                    return encode::error(out, b"NOSCRIPT No matching script. Please use EVAL.");
                }
                self.put(at, &words[3], words[4].clone());
                encode::simple(out, b"OK");
            }
            b"PTTL" => {
                let is_there = self.nodes[server].databases[database].get(&words[1]).is_some();
                encode::integer(out, if is_there { -1 } else { -2 });
            }
            b"SADD" | b"SREM" | b"SCARD" | b"EXPIRE" => self.note_copying(at, words, out),
            b"RPUSH" => {
                let queue = self.nodes[server].queues.entry((database, words[1].clone())).or_default();
                queue.push_back(words[2].clone());
                encode::integer(out, queue.len() as i64);
                self.wake(server, database, &words[1]);
            }
            b"CLIENT" if words[1] == b"TRACKING" => {
                self.connections[at].tracked = Some(BTreeSet::new());
                encode::simple(out, b"OK");
            }
            b"CLIENT" if words[1] == b"ID" => encode::integer(out, self.connections[at].number()),
            b"CLIENT" if words[1] == b"UNBLOCK" => {
                let number: Option<i64> = std::str::from_utf8(&words[2]).ok().and_then(|text| text.parse().ok());
                let other =
                    self.connections.iter().position(|other| other.server == server && Some(other.number()) == number);
                let other = other.filter(|other| self.connections[*other].blocked.is_some());
                encode::integer(out, i64::from(other.is_some()));
                if let Some(other) = other {
                    self.count("pops ended");
                    self.lose_patience(other);
                }
            }
            b"BLPOP" => {
                self.connections[at].blocked = Some(words[1].clone());
                self.wake(server, database, &words[1]);
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
                let connection = &mut self.connections[at];
                for channel in &words[1..] {
                    if verb == b"SUBSCRIBE" {
                        connection.channels.insert(channel.clone())
                    } else {
                        connection.channels.remove(channel)
                    };
                    out.push(if connection.resp3 { b'>' } else { b'*' });
                    out.extend_from_slice(b"3\r\n");
                    encode::bulk(out, &verb.to_ascii_lowercase());
                    encode::bulk(out, channel);
                    encode::integer(out, connection.channels.len() as i64);
                }
            }
            _ => panic!("a server is told {:?}", super::show(&words.concat())),
        }
    }

    /// No database is flushed that nobody flushed.
    fn may_flush(&mut self, server: usize, database: Option<usize>) {
        let node = &self.nodes[server];
        let asked = self.ledger.flushes.iter().any(|flush| flush.pool == node.pool && flush.database == database);
        let rejoins = self.plan.pools[node.pool].flushes && database.is_none() && node.may_rejoin;
        assert!(asked || rejoins, "server {server}: nobody has flushed {database:?}");
        if !asked {
            self.loses(server);
        }
        self.count("flushed");
    }

    /// A server is flushed as it returns. To clients that is as if it had lost everything: nobody has been told of it.
    pub(super) fn loses(&mut self, server: usize) {
        self.nodes[server].losses.insert(self.ledger.tick);
    }

    /// Gives jobs to those who wait for them.
    fn wake(&mut self, server: usize, database: usize, queue: &[u8]) {
        for connection in &mut self.connections {
            if (connection.server, connection.database) == (server, database)
                && connection.blocked.as_deref() == Some(queue)
                && let Some(jobs) = self.nodes[server].queues.get_mut(&(database, queue.to_vec()))
                && let Some(job) = jobs.pop_front()
            {
                connection.blocked = None;
                encode::words(&mut connection.back, &[queue, &job]);
            }
        }
    }

    /// The patience of one who waits for a job is over.
    pub(super) fn lose_patience(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.blocked.take().is_some() {
            connection.back.extend_from_slice(if connection.resp3 { b"_\r\n" } else { b"*-1\r\n" });
            self.serve(at);
        }
    }
}

fn first_request(bytes: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    if bytes.is_empty() {
        return None;
    }
    let mut spans = Vec::new();
    let limits = Limits { value: 1 << 30, trusted: true };
    let parsed = request::parse(bytes, &mut Progress::default(), limits, &mut spans);
    let Parsed::Complete { len } = parsed else { return None };
    Some((len, Args::new(bytes, &spans).iter().map(<[u8]>::to_vec).collect()))
}

//! The pretend servers: what they hold, and how they carry out commands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use softmiss::engine::link::LinkId;
use softmiss::proto::resp::encode;

use super::world::World;

pub(super) type Id = (LinkId, u32);

/// A connection between the engine and a pretend server.
pub(super) struct Connection {
    pub(super) id: Id,
    pub(super) server: usize,
    /// On its way to the server, and back.
    pub(super) there: Vec<u8>,
    pub(super) back: Vec<u8>,
    pub(super) resp3: bool,
    pub(super) database: usize,
    pub(super) queued: Option<Vec<Vec<Vec<u8>>>>,
    pub(super) channels: BTreeSet<Vec<u8>>,
    /// What the engine has heard last was the end of a reply.
    pub(super) whole: bool,
    /// The queue that its client waits for.
    pub(super) blocked: Option<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct Node {
    pub(super) data: [BTreeMap<Vec<u8>, Vec<u8>>; 2],
    pub(super) queues: BTreeMap<Vec<u8>, VecDeque<Vec<u8>>>,
    pub(super) hung: bool,
    pub(super) dead: bool,
}

/// What a client waits for.
impl World {
    pub(super) fn serve(&mut self, at: usize, words: Vec<Vec<u8>>) {
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

    pub(super) fn null(&self, at: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.connections[at].resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    pub(super) fn perform(&mut self, at: usize, words: &[Vec<u8>], out: &mut Vec<u8>) {
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
    pub(super) fn wake(&mut self, server: usize, queue: &[u8]) {
        for connection in self.connections.iter_mut().filter(|one| one.server == server) {
            if connection.blocked.as_deref() == Some(queue)
                && let Some(job) = self.nodes[server].queues.get_mut(queue).and_then(VecDeque::pop_front)
            {
                connection.blocked = None;
                encode::words(&mut connection.back, &[queue, &job]);
            }
        }
    }
}

/// A filter that may change what it looks at.
fn there_mut<'a>(mut there: impl FnMut(&&'a Vec<u8>) -> bool) -> impl FnMut(&&'a Vec<u8>) -> bool {
    move |name| there(name)
}

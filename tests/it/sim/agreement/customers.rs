//! The clients of the hosts: each asks one thing, waits for its answer, and asks the next one a while later.

use softmiss::engine::ids::SessionId;

use super::judge::{Answer, Floor, LIFE, Value};
use super::plan::MS;
use super::world::{Event, POOL, World};
use crate::sim::store::Key;

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
enum What {
    Get {
        key: usize,
        floor: Floor,
    },
    /// Something new, or what a read had missed, which is no change.
    Set {
        key: usize,
        value: Value,
        is_new: bool,
    },
    Delete {
        key: usize,
    },
    Lock(usize),
    Release,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    what: What,
    tick: u64,
    time: u64,
}

/// A lock that is to be released.
#[derive(Debug)]
struct Release {
    at: u64,
    lock: usize,
    grant: usize,
}

#[derive(Debug)]
pub(super) struct Customer {
    id: SessionId,
    asked: Option<Asked>,
    heard: Vec<u8>,
    releases: Vec<Release>,
}

impl Customer {
    pub(super) fn new(id: SessionId) -> Self {
        Self { id, asked: None, heard: Vec::new(), releases: Vec::new() }
    }
}

/// Whether an answer is whole.
fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"\r\n") && (!answer.starts_with(b"VALUE") || answer.ends_with(b"\r\nEND\r\n"))
}

/// The value in the answer to a get.
fn value(answer: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(answer).expect("text").strip_prefix("VALUE ")?;
    text.split("\r\n").nth(1)?.parse().ok()
}

impl World {
    pub(super) fn ask_later(&mut self, host: usize, client: usize) {
        let pause = self.random.below(2 * self.plan.pause * 1000);
        self.schedule(self.now + pause, Event::Asks(host, client));
    }

    pub(super) fn ask(&mut self, host: usize, client: usize) {
        let customer = &mut self.hosts[host].customers[client];
        if let Some(place) = customer.releases.iter().position(|release| release.at <= self.now) {
            let Release { lock, grant, .. } = customer.releases.swap_remove(place);
            if self.judge.release(lock, grant, self.now) {
                return self.request(host, client, What::Release, &format!("delete {}\r\n", Key::counter(lock)));
            }
        }
        let key = self.random.index(self.plan.keys);
        let name = Key::marked(key);
        match self.random.below(100) {
            0..5 => self.set(host, client, key, true),
            5..10 => self.request(host, client, What::Delete { key }, &format!("delete {name}\r\n")),
            10..15 => {
                let lock = self.random.index(self.plan.locks);
                let line = format!("add {} 0 {LIFE} 1\r\n1\r\n", Key::counter(lock));
                self.request(host, client, What::Lock(lock), &line);
            }
            _ => {
                let floor = self.judge.floor(key);
                self.request(host, client, What::Get { key, floor }, &format!("get {name}\r\n"));
            }
        }
    }

    fn set(&mut self, host: usize, client: usize, key: usize, is_new: bool) {
        let value = self.judge.new_value();
        let text = value.to_string();
        let line = format!("set {} 0 0 {}\r\n{text}\r\n", Key::marked(key), text.len());
        self.request(host, client, What::Set { key, value, is_new }, &line);
    }

    fn request(&mut self, host: usize, client: usize, what: What, bytes: &str) {
        self.tick += 1;
        let now = self.instant();
        let customer = &mut self.hosts[host].customers[client];
        customer.asked = Some(Asked { what, tick: self.tick, time: self.now });
        let id = customer.id;
        self.hosts[host].engine.client_data(id, bytes.as_bytes(), now);
        self.attend(host);
    }

    pub(super) fn write_to_client(&mut self, host: usize, id: SessionId) {
        let now = self.instant();
        let this = &mut self.hosts[host];
        let client = this.customers.iter().position(|customer| customer.id == id).expect("a client");
        let status = this.engine.client_status(id);
        assert!(!status.finished, "nobody is sent away");
        let output = this.engine.client_output(id).to_vec();
        if output.is_empty() {
            return;
        }
        this.engine.client_wrote(id, output.len(), now);
        let heard = &mut this.customers[client].heard;
        heard.extend_from_slice(&output);
        if is_whole(heard) {
            let answer = std::mem::take(heard);
            self.tick += 1;
            self.understand(host, client, &answer);
        }
    }

    fn understand(&mut self, host: usize, client: usize, answer: &[u8]) {
        let asked = self.hosts[host].customers[client].asked.take().expect("who is answered has asked");
        let is_error = answer.starts_with(b"SERVER_ERROR");
        match asked.what {
            What::Get { key, floor } => {
                let found = value(answer);
                let topology = &self.hosts[host].topology;
                let is_away = || {
                    let home = topology.pool(POOL).home.route(Key::marked(key).to_string().as_bytes(), 0);
                    home.is_some_and(|home| !topology.registry.live(POOL)[home.index()])
                };
                self.judge.read(found, floor, asked.time, is_away);
                if found.is_none() {
                    return self.set(host, client, key, false);
                }
            }
            What::Set { key, value, is_new } => {
                let stored = answer == b"STORED\r\n";
                self.judge.stored(value, stored, self.tick);
                if is_new {
                    let answer = if stored { Answer::Done } else { Answer::Refused };
                    self.judge.changed(key, asked.tick, answer, self.now);
                }
            }
            What::Delete { key } => {
                let done = self.hosts[host].deleted.get(&Key::marked(key).index());
                let answer = match done.is_some_and(|tick| *tick > asked.tick) {
                    _ if is_error => Answer::Refused,
                    true => Answer::Done,
                    false => Answer::Believed,
                };
                self.judge.changed(key, asked.tick, answer, self.now);
            }
            What::Lock(lock) => {
                let is_released = lock % 2 == 1;
                if answer == b"STORED\r\n" {
                    let grant = self.judge.granted(lock, asked.time, self.now, is_released);
                    if is_released {
                        let at = self.now + 200 * MS + self.random.below(1000 * MS);
                        self.hosts[host].customers[client].releases.push(Release { at, lock, grant });
                    }
                }
            }
            What::Release => {}
        }
        self.ask_later(host, client);
    }
}

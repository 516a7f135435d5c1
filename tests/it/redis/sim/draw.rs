//! What clients ask.

use softmiss::proto::resp::encode;

use super::client::{Asked, Pending};
use super::plan::{DATABASES, MOVES};
use super::store::{Flush, Guard, Serial, Write};
use super::world::World;

pub(super) const KEYS: u64 = 12;

/// As many of them are asked for where all ask for the same ones.
const CROWDED: u64 = 2;
pub(super) const CHANNELS: u64 = 8;

/// The draw that is a read of one key.
const READS: u64 = 43;

/// The text of the script that stores a value, and its name.
pub(super) const SCRIPTS: [(&str, &str); 2] = [
    ("return redis.call('SET',KEYS[1],ARGV[1])", "cf63a54c34e159e75e5a3fe4794bb2ea636ee005"),
    ("return redis.call('SET', KEYS[1], ARGV[1])", "d8f2fad9f8e86a53d2a6ebd960b33c4972cacc37"),
];

/// Requests that a client sends in one go.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) out: Vec<u8>,
    pub(super) asked: Vec<(Asked, usize, Serial)>,
}

impl Draft {
    pub(super) fn words(&mut self, words: &[&str]) {
        encode::words(&mut self.out, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    }
}

impl World {
    /// A client asks something.
    pub(super) fn ask(&mut self) {
        let at = self.random.below(self.customers.len() as u64) as usize;
        let customer = &self.customers[at];
        // Whoever waits for a job, or has lost sight of its requests, says nothing more for a while.
        let waits = customer.asked.iter().any(|pending| matches!(pending.asked, Asked::Pop(_)));
        if waits || customer.ended || customer.dismissed || !customer.unsent.is_empty() || customer.asked.len() > 40 {
            return;
        }
        if !self.plan.pools[customer.pool].redis {
            return self.ask_memcached(at);
        }
        if let Some(hog) = customer.hog {
            return self.gorge(at, hog);
        }
        if customer.guarding.is_some() {
            if customer.is_idle() {
                self.go_on(at);
            }
            return;
        }
        let bare = customer.channels.is_empty() && customer.hears.is_empty();
        if bare && customer.is_idle() && !customer.deaf && self.random.one_in(self.plan.guard_every) {
            return self.begin_guarding(at);
        }
        let mut draft = Draft::default();
        let burst = if self.random.one_in(3) { 1 + self.random.below(4) } else { 1 };
        for _ in 0..burst {
            if !self.draw(at, &mut draft) {
                break;
            }
        }
        self.send(at, draft);
    }

    /// Gives a client what it is to send.
    pub(super) fn send(&mut self, at: usize, draft: Draft) {
        let tick = self.ledger.tick;
        let asked = draft.asked.len() as u64;
        let customer = &mut self.customers[at];
        let pending = draft.asked.into_iter().map(|(asked, database, serial)| Pending {
            asked,
            database,
            tick,
            serial,
            given: None,
            guards: customer.guarding.is_some(),
        });
        customer.asked.extend(pending);
        customer.unsent.extend_from_slice(&draft.out);
        let name = customer.name;
        self.note(|| format!("client {name} draws {}", super::show(&draft.out)));
        self.tally.entry("requests").and_modify(|count| *count += asked).or_insert(asked);
        self.give(at);
    }

    fn key(&mut self) -> String {
        let keys = if self.plan.crowded { CROWDED } else { KEYS };
        format!("key{}", self.random.below(keys))
    }

    /// Says that a client has asked this.
    pub(super) fn expect(&self, at: usize, draft: &mut Draft, asked: Asked) {
        draft.asked.push((asked, self.customers[at].database, self.ledger.writes.len()));
    }

    /// A value that no other writing has.
    pub(super) fn value(&mut self, at: usize, key: &str, guards: Vec<Guard>) -> (Serial, String) {
        let customer = &self.customers[at];
        let serial = self.ledger.writes.len();
        let mut value = format!("{}/{}/{key}|{serial}|", customer.pool, customer.database);
        self.ledger.writes.push(Write {
            client: customer.name,
            pool: customer.pool,
            database: customer.database,
            key: key.to_owned(),
            drawn: self.ledger.tick,
            stored: None,
            told: None,
            stray: false,
            guards,
            unheard: customer.deaf,
        });
        if self.plan.memory_limit.is_some() && self.random.one_in(2) {
            let padding = self.random.below(4_000) as usize;
            value.extend(std::iter::repeat_n('x', padding));
        }
        if self.plan.large && self.random.one_in(8) {
            value.extend(std::iter::repeat_n('x', 300_000));
        }
        (serial, value)
    }

    pub(super) fn draw_get(&self, at: usize, draft: &mut Draft, key: &str) {
        draft.words(&["GET", key]);
        self.expect(at, draft, Asked::Get(key.to_owned()));
    }

    pub(super) fn draw_set(&mut self, at: usize, draft: &mut Draft, key: &str) {
        let (serial, value) = self.value(at, key, Vec::new());
        let words = ["SET", key, &value, "PX", "1000000"];
        let lives = self.plan.pools[self.customers[at].pool].copies;
        draft.words(if lives { &words } else { &words[..3] });
        self.expect(at, draft, Asked::Set(serial));
    }

    pub(super) fn draw_pop(&mut self, at: usize, draft: &mut Draft) {
        let queue = format!("queue{}", self.random.below(4));
        let patience = if self.random.one_in(4) { "0" } else { "1" };
        draft.words(&["BLPOP", &queue, patience]);
        self.expect(at, draft, Asked::Pop(queue));
    }

    pub(super) fn draw_select(&mut self, at: usize, draft: &mut Draft, database: usize) {
        draft.words(&["SELECT", &database.to_string()]);
        self.customers[at].database = database;
        self.expect(at, draft, Asked::Ok);
    }

    /// Another database, or another version of the protocol.
    pub(super) fn draw_change(&mut self, at: usize, draft: &mut Draft) {
        if self.random.one_in(2) {
            let database = self.random.below(DATABASES as u64) as usize;
            self.draw_select(at, draft, database);
        } else {
            let resp3 = self.random.one_in(2);
            draft.words(&["HELLO", if resp3 { "3" } else { "2" }]);
            self.customers[at].resp3 = resp3;
            self.expect(at, draft, Asked::Hello);
        }
    }

    /// One request, or some that belong together; `false` if nothing may follow it.
    fn draw(&mut self, at: usize, draft: &mut Draft) -> bool {
        let customer = &self.customers[at];
        let subscribed = !customer.channels.is_empty() || !customer.hears.is_empty();
        let quiet = subscribed && !customer.resp3;
        // What changes while it is fetched is read again and again.
        let reads = self.plan.crowded && !self.plan.grows && !quiet && !self.random.one_in(3);
        match if reads { READS } else { self.random.below(if quiet { 3 } else { 44 }) } {
            0 => {
                let channel = format!("{}channel{}", self.customers[at].pool, self.random.below(CHANNELS));
                self.draw_subscribe(at, draft, &channel);
                return false;
            }
            1 | 2 => {
                let pending = |pending: &Pending| matches!(pending.asked, Asked::Subscribed(_));
                if self.customers[at].asked.iter().any(pending) {
                    return false; // they may be refused: how many there are is not known
                }
                self.draw_unsubscribe(at, draft);
                return false;
            }
            3 if !subscribed => self.draw_change(at, draft),
            4..6 => self.draw_transaction(at, draft),
            6 => {
                self.draw_pop(at, draft);
                return false;
            }
            7 | 8 => {
                let queue = format!("queue{}", self.random.below(4));
                self.serial += 1;
                draft.words(&["RPUSH", &queue, &format!("{queue}|{}", self.serial)]);
                self.expect(at, draft, Asked::Push);
            }
            9 | 10 => {
                let channel = format!("{}channel{}", self.customers[at].pool, self.random.below(CHANNELS));
                self.serial += 1;
                let padding = if self.plan.memory_limit.is_some() { 20_000 } else { 0 };
                draft.words(&["PUBLISH", &channel, &format!("{channel}|{}|{}", self.serial, "x".repeat(padding))]);
                self.expect(at, draft, Asked::Published);
            }
            11..15 => {
                let names: Vec<_> = (0..1 + self.random.below(6)).map(|_| self.key()).collect();
                let words: Vec<_> = std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
                draft.words(&words);
                self.expect(at, draft, Asked::Mget(names));
            }
            15 | 16 => {
                let names: Vec<_> = (0..1 + self.random.below(4)).map(|_| self.key()).collect();
                let verb = if self.random.one_in(2) { "DEL" } else { "EXISTS" };
                let words: Vec<_> = std::iter::once(verb).chain(names.iter().map(String::as_str)).collect();
                draft.words(&words);
                if verb == "DEL" {
                    self.note_removal(at, &names);
                }
                self.expect(at, draft, Asked::Count(names.len() as i64));
            }
            17..22 => {
                let name = self.key();
                self.draw_set(at, draft, &name);
            }
            22 | 23 => self.draw_lock(at, draft),
            24 if MOVES.flushes => self.draw_flush(at, draft),
            25 | 26 => {
                // A read, and a write behind it that it must not see.
                let name = self.key();
                self.draw_get(at, draft, &name);
                self.draw_set(at, draft, &name);
            }
            27..30 => self.draw_script(at, draft),
            30 => {
                let name = format!("{{g{}}}c", self.random.below(2));
                self.draw_set(at, draft, &name);
            }
            31 => {
                draft.words(&["PING"]);
                self.expect(at, draft, Asked::Pong);
            }
            _ => {
                let name = self.key();
                self.draw_get(at, draft, &name);
            }
        }
        true
    }

    pub(super) fn draw_subscribe(&mut self, at: usize, draft: &mut Draft, channel: &str) {
        draft.words(&["SUBSCRIBE", channel]);
        self.customers[at].channels.insert(channel.to_owned());
        self.customers[at].hears.insert(channel.to_owned());
        self.expect(at, draft, Asked::Subscribed(channel.to_owned()));
    }

    /// From everything.
    pub(super) fn draw_unsubscribe(&mut self, at: usize, draft: &mut Draft) {
        let count = self.customers[at].channels.len();
        draft.words(&["UNSUBSCRIBE"]);
        self.customers[at].channels.clear();
        self.expect(at, draft, Asked::Unsubscribed(count.max(1)));
    }

    fn draw_transaction(&mut self, at: usize, draft: &mut Draft) {
        let mut parts = Vec::new();
        draft.words(&["MULTI"]);
        self.expect(at, draft, Asked::Ok);
        for _ in 0..self.random.below(4) {
            let name = self.key();
            let mut part = Draft::default();
            match self.random.below(4) {
                0 => self.draw_get(at, &mut part, &name),
                1 => self.draw_set(at, &mut part, &name),
                2 => {
                    let (serial, value) = self.value(at, &name, Vec::new());
                    part.words(&["MSET", &name, &value]);
                    self.expect(at, &mut part, Asked::Set(serial));
                }
                _ => {
                    let names: Vec<_> = (0..3).map(|_| self.key()).collect();
                    part.words(&["MGET", &names[0], &names[1], &names[2]]);
                    self.expect(at, &mut part, Asked::Mget(names));
                }
            }
            draft.out.extend_from_slice(&part.out);
            parts.extend(part.asked.into_iter().map(|(asked, ..)| asked));
            self.expect(at, draft, Asked::Queued);
        }
        draft.words(&["EXEC"]);
        self.expect(at, draft, Asked::Exec(parts));
    }

    /// A lock is taken, or given back.
    fn draw_lock(&mut self, at: usize, draft: &mut Draft) {
        let name = format!("lock{}", self.random.below(4));
        if self.random.one_in(3) {
            draft.words(&["DEL", &name]);
            self.note_removal(at, &[name]);
            return self.expect(at, draft, Asked::Count(1));
        }
        let (serial, value) = self.value(at, &name, Vec::new());
        if self.random.one_in(2) {
            let words = ["SET", &name, &value, "NX", "PX", "1000000"];
            let lives = self.plan.pools[self.customers[at].pool].copies;
            draft.words(if lives { &words } else { &words[..4] });
            self.expect(at, draft, Asked::SetNx(serial));
        } else {
            draft.words(&["SETNX", &name, &value]);
            self.expect(at, draft, Asked::SetNxCount(serial));
        }
    }

    pub(super) fn draw_flush(&mut self, at: usize, draft: &mut Draft) {
        let customer = &self.customers[at];
        let (pool, database) = (customer.pool, customer.database);
        let all = self.plan.flush_all && self.random.one_in(2);
        if !all && !self.plan.flushed.contains(&database) {
            return;
        }
        draft.words(&[if all { "FLUSHALL" } else { "FLUSHDB" }]);
        let database = (!all).then_some(database);
        self.expect(at, draft, Asked::Flush(self.ledger.flushes.len()));
        self.ledger.flushes.push(Flush { pool, database, drawn: self.ledger.tick, done: None });
        self.count("flushes");
    }

    /// A script stores a value, and what follows may overtake it.
    fn draw_script(&mut self, at: usize, draft: &mut Draft) {
        let (text, sha) = SCRIPTS[self.random.below(2) as usize];
        if self.random.one_in(8) {
            draft.words(&["SCRIPT", "LOAD", text]);
            return self.expect(at, draft, Asked::Sha);
        }
        let name = self.key();
        let (serial, value) = self.value(at, &name, Vec::new());
        if self.random.one_in(4) {
            draft.words(&["EVAL", text, "1", &name, &value]);
        } else {
            draft.words(&["EVALSHA", sha, "1", &name, &value]);
        }
        self.expect(at, draft, Asked::Script(serial));
        match self.random.below(4) {
            0 => self.draw_set(at, draft, &name),
            1 => self.draw_get(at, draft, &name),
            _ => {}
        }
    }
}

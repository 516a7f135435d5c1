//! Clients: what they ask, and what they remember of it.

use std::collections::{BTreeSet, VecDeque};

use softmiss::engine::session::SessionId;
use softmiss::proto::resp::encode;
use softmiss::time::Instant;

use super::super::super::support::Random;
use super::world::{CLIENTS, World};

const KEYS: u64 = 30;

#[derive(Debug)]
pub(super) enum Asked {
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

pub(super) struct Customer {
    pub(super) session: SessionId,
    pub(super) asked: VecDeque<(Asked, Instant)>,
    pub(super) input: Vec<u8>,
    pub(super) channels: BTreeSet<String>,
    pub(super) heard: BTreeSet<String>,
    pub(super) resp3: bool,
}

fn key(random: &mut Random) -> String {
    format!("key{}", random.below(KEYS))
}

impl World {
    pub(super) fn ask(&mut self) {
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
}

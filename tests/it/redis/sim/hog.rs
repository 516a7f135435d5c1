//! Clients that hold as much of the proxy's memory as they can, in runs with little of it.

use softmiss::proto::resp::encode;

use super::client::Asked;
use super::draw::{CHANNELS, Draft};
use super::store::Write;
use super::world::World;

/// How it does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hog {
    /// It asks for large values and reads none.
    Reads,
    /// It listens to everything and reads nothing.
    Listens,
    /// It queues a transaction that it never ends.
    Queues,
    /// It never comes to the end of a request.
    Talks,
}

/// Values that are there from the beginning, in bytes.
const BIG: [usize; 3] = [60_000, 400_000, 3_000_000];

impl World {
    pub(super) fn draw_hog(&mut self) -> Option<Hog> {
        match self.random.below(12) {
            0 => Some(Hog::Reads),
            1 => Some(Hog::Listens),
            2 => Some(Hog::Queues),
            3 => Some(Hog::Talks),
            _ => None,
        }
    }

    /// Gives the servers of Redis pools something large to tell.
    pub(super) fn fill(&mut self) {
        for pool in (0..self.plan.pools.len()).filter(|pool| self.plan.pools[*pool].redis).collect::<Vec<_>>() {
            for (number, len) in BIG.into_iter().enumerate() {
                let key = format!("big{number}");
                let place = self.home(pool, &key);
                let serial = self.ledger.writes.len();
                let mut value = format!("{pool}/0/{key}|{serial}|").into_bytes();
                value.resize(value.len() + len, b'x');
                self.ledger.writes.push(Write {
                    client: 0,
                    pool,
                    database: 0,
                    key: key.clone(),
                    drawn: 0,
                    stored: Some((0, place)),
                    told: None,
                    stray: false,
                    guards: Vec::new(),
                    unheard: true,
                });
                self.nodes[place].databases[0].put(key.as_bytes(), 0, Some(value));
            }
        }
    }

    /// It takes more.
    pub(super) fn gorge(&mut self, at: usize, hog: Hog) {
        let mut draft = Draft::default();
        let is_new = self.customers[at].channels.is_empty();
        match hog {
            Hog::Reads => {
                let key = format!("big{}", self.random.below(3));
                for _ in 0..1 + self.random.below(8) {
                    draft.words(&["GET", &key]);
                    self.expect(at, &mut draft, Asked::Anything);
                }
            }
            Hog::Listens if is_new => {
                let pool = self.customers[at].pool;
                for channel in (0..CHANNELS).map(|number| format!("{pool}channel{number}")) {
                    draft.words(&["SUBSCRIBE", &channel]);
                    self.expect(at, &mut draft, Asked::Anything);
                }
            }
            Hog::Listens => return,
            Hog::Queues => {
                if is_new {
                    draft.words(&["MULTI"]);
                    self.expect(at, &mut draft, Asked::Anything);
                }
                draft.words(&["RPUSH", "queue9", &"x".repeat(100_000)]);
                self.expect(at, &mut draft, Asked::Anything);
            }
            Hog::Talks => {
                if is_new {
                    encode::array(&mut draft.out, 1_000_000);
                }
                let word = vec![b'x'; if self.random.one_in(2) { 10 } else { 50_000 }];
                (0..10).for_each(|_| encode::bulk(&mut draft.out, &word));
            }
        }
        self.customers[at].channels.insert("something".to_owned());
        self.count("gorged");
        self.send(at, draft);
    }
}

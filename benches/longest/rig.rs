//! An engine under a pretend shell that times each call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use softmiss::config;
use softmiss::config::model::PoolId;
use softmiss::engine::ids::{LinkId, SessionId};
use softmiss::engine::{Effect, Engine, Room, Setup};
use softmiss::time::Instant;
use softmiss::topology::Published;

use crate::cases::{Case, Said};

const CONFIG: &str = "
softmiss:
  memory_limit: 2gb
bench:
  listen: 127.0.0.1:11211
  hash: fnv1a_64
  distribution: ketama
  redis: true
  hash_tag: \"{}\"
  timeout: 60000
  preconnect: true
  servers:
   - 127.0.0.1:11301:1 node-0
   - 127.0.0.1:11302:1 node-1
   - 127.0.0.1:11303:1 node-2
";

/// As in the real shell: what is read at a time, what is read at a time of a large message, and what is written.
const READ: usize = 64 << 10;
const LARGE_READ: usize = 256 << 10;
const WRITE: usize = 1 << 20;

/// Turns of the loop beyond which a case will never end.
const MOST_TURNS: usize = 1_000_000;

/// How the pretend shell reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// A large message to where the engine wants it.
    AsTheShell,
    /// 64 KB at a time, whatever it is.
    Pieces,
}

/// The longest call so far.
#[derive(Debug, Default)]
pub(crate) struct Longest {
    pub(crate) nanos: u64,
    pub(crate) call: &'static str,
}

impl Longest {
    fn of<T>(&mut self, call: &'static str, event: impl FnOnce() -> T) -> T {
        let before = processor_time();
        let result = event();
        let nanos = processor_time() - before;
        if nanos > self.nanos {
            (self.nanos, self.call) = (nanos, call);
        }
        result
    }
}

/// Nanoseconds that this thread has run.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

/// What a pretend server is asked.
#[derive(Default)]
struct Server {
    epoch: u32,
    /// Bytes that it got and has not answered.
    asked: Vec<u8>,
}

pub(crate) struct Rig {
    engine: Engine,
    now: Instant,
    servers: BTreeMap<LinkId, Server>,
    longest: Longest,
}

impl Rig {
    pub(crate) fn new() -> Result<Self> {
        let config = config::parse("bench", CONFIG).map_err(|report| anyhow::anyhow!(report.render(false)))?.config;
        let engine = Engine::new(Setup {
            published: Arc::new(Published::new(config, 1)),
            worker: 0,
            seed: 1,
            started_at: Duration::ZERO,
            scripts: softmiss::engine::Scripts::default(),
        });
        let now = Instant::from_nanos(1_000_000);
        let mut rig = Self { engine, now, servers: BTreeMap::new(), longest: Longest::default() };
        rig.engine.preconnect(now);
        rig.turn();
        Ok(rig)
    }

    /// A client asks, the servers answer, and it reads what it is told.
    pub(crate) fn carry_out(&mut self, case: &Case, said: &Said, reads: Reads) -> Result<Longest> {
        let others: Vec<SessionId> = (0..case.clients).map(|_| self.engine.client_connected(PoolId(0))).collect();
        let client = self.engine.client_connected(PoolId(0));
        if !said.first.is_empty() {
            let other = self.engine.client_connected(PoolId(0));
            let mut rest = &said.first[..];
            while !rest.is_empty() {
                rest = self.send(other, rest, reads);
            }
            // Its server takes a while.
        }
        self.longest = Longest::default();
        let (mut told, mut turns) = (0, 0);
        for request in &said.requests {
            let mut rest = &request[..];
            loop {
                rest = self.send(client, rest, reads);
                self.turn();
                told += self.read(client);
                if self.is_busy() {
                    self.tick();
                } else if !self.answer(said, reads) && rest.is_empty() {
                    break;
                }
                turns += 1;
                ensure!(turns < MOST_TURNS, "{}: does not come to an end", case.name);
            }
            told += self.read(client);
        }
        ensure!(told >= said.told, "{}: {told} bytes were told where {} are right", case.name, said.told);
        let Self { engine, longest, .. } = self;
        longest.of("client_gone", || engine.client_gone(client, false));
        while self.is_busy() {
            self.tick();
            self.turn();
        }
        drop(others);
        Ok(std::mem::take(&mut self.longest))
    }

    /// Sends what the engine takes at the moment; returns what is left.
    fn send<'a>(&mut self, client: SessionId, mut rest: &'a [u8], reads: Reads) -> &'a [u8] {
        let Self { engine, longest, now, .. } = self;
        let mut budget = LARGE_READ;
        while !rest.is_empty() && budget > 0 && longest.of("client_status", || engine.client_status(client)).reads {
            let now = *now;
            let room = match reads {
                Reads::Pieces => Room::Anywhere(READ),
                Reads::AsTheShell => longest.of("client_room", || engine.client_room(client)),
            };
            let count = match room {
                Room::Here(message) => {
                    let count = rest.len().min(budget).min(message.capacity() - message.len());
                    message.extend_from_slice(&rest[..count]);
                    longest.of("client_filled", || engine.client_filled(client, now));
                    count
                }
                Room::Anywhere(most) => {
                    let count = rest.len().min(most).min(READ);
                    longest.of("client_data", || engine.client_data(client, &rest[..count], now));
                    count
                }
                Room::Nowhere => break,
            };
            budget = budget.saturating_sub(count);
            rest = &rest[count..];
        }
        rest
    }

    /// What is to be opened is, and what is to be written to servers is taken.
    fn turn(&mut self) {
        let Self { engine, longest, servers, now, .. } = self;
        loop {
            if let Some(effect) = engine.poll_effect() {
                match effect {
                    Effect::Connect { link, epoch } => {
                        servers.insert(link, Server { epoch, asked: Vec::new() });
                        engine.link_connected(link, epoch, *now);
                    }
                    Effect::Disconnect { link, .. } => drop(servers.remove(&link)),
                    Effect::EndLingering { .. }
                    | Effect::Read { .. }
                    | Effect::News
                    | Effect::Inquire(_)
                    | Effect::Found(_)
                    | Effect::Notice(_)
                    | Effect::Slow(_) => {}
                }
            } else if let Some(link) = engine.poll_link() {
                let Some(server) = servers.get_mut(&link) else { continue };
                loop {
                    let output = longest.of("link_output", || engine.link_output(link, server.epoch));
                    let count = output.len().min(WRITE);
                    if count == 0 {
                        break;
                    }
                    server.asked.extend_from_slice(&output[..count]);
                    longest.of("link_wrote", || engine.link_wrote(link, server.epoch, count, *now));
                }
            } else if engine.poll_client().is_none() {
                return;
            }
        }
    }

    /// Servers that were asked something answer; `false` if none was.
    fn answer(&mut self, said: &Said, reads: Reads) -> bool {
        let asked: Vec<(LinkId, u32, Vec<u8>)> = (self.servers.iter_mut())
            .filter(|(_, server)| !server.asked.is_empty())
            .map(|(link, server)| (*link, server.epoch, std::mem::take(&mut server.asked)))
            .collect();
        for (link, epoch, asked) in &asked {
            let reply = (said.answers)(asked);
            self.reply(*link, *epoch, &reply, reads);
        }
        !asked.is_empty()
    }

    fn reply(&mut self, link: LinkId, epoch: u32, mut rest: &[u8], reads: Reads) {
        let Self { engine, longest, now, .. } = self;
        let now = *now;
        while !rest.is_empty() {
            let room = match reads {
                Reads::Pieces => Room::Anywhere(READ),
                Reads::AsTheShell => longest.of("link_room", || engine.link_room(link, epoch)),
            };
            let count = match room {
                Room::Here(message) => {
                    let count = rest.len().min(LARGE_READ).min(message.capacity() - message.len());
                    message.extend_from_slice(&rest[..count]);
                    longest.of("link_filled", || engine.link_filled(link, epoch, count, now, &mut ()));
                    count
                }
                Room::Anywhere(most) => {
                    let count = rest.len().min(most).min(READ);
                    longest.of("link_data", || engine.link_data(link, epoch, &rest[..count], now, &mut ()));
                    count
                }
                Room::Nowhere => break,
            };
            rest = &rest[count..];
        }
    }

    /// A client reads what there is; returns how many bytes that were.
    fn read(&mut self, client: SessionId) -> usize {
        let Self { engine, longest, now, .. } = self;
        let mut all = 0;
        loop {
            let count = longest.of("client_output", || engine.client_output(client)).len().min(WRITE);
            if count == 0 {
                return all;
            }
            longest.of("client_wrote", || engine.client_wrote(client, count, *now));
            all += count;
        }
    }

    fn is_busy(&self) -> bool {
        self.engine.next_timeout().is_some_and(|at| at <= self.now + Duration::from_micros(1))
    }

    fn tick(&mut self) {
        self.now = self.now + Duration::from_micros(1);
        let Self { engine, longest, now, .. } = self;
        longest.of("handle_timeout", || engine.handle_timeout(*now));
    }
}

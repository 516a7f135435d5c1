//! An engine under a pretend shell.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use softmiss::config;
use softmiss::config::model::PoolId;
use softmiss::engine::ids::LinkId;
use softmiss::engine::ids::SessionId;
use softmiss::engine::{Effect, Engine, Setup};
use softmiss::time::Instant;
use softmiss::topology::Published;

use crate::scenario::Scenario;

const CONFIG: &str = "
bench:
  listen: 127.0.0.1:11211
  hash: fnv1a_64
  distribution: ketama
  timeout: 400
  preconnect: true
  servers:
   - 127.0.0.1:11301:1 node-0
   - 127.0.0.1:11302:1 node-1
   - 127.0.0.1:11303:1 node-2
";

/// The most that the shell reads at a time.
const READ_BYTES: usize = 64 << 10;

/// An engine with clients and pretend servers.
pub(crate) struct Rig {
    engine: Engine,
    now: Instant,
    clients: Vec<Client>,
    links: Vec<Server>,
    ready_clients: Vec<SessionId>,
    ready_links: Vec<LinkId>,
    /// Bytes written to clients since the last reckoning, and how many should have been.
    written: u64,
    expected: u64,
}

struct Client {
    id: SessionId,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// A connection to a pretend server. It says the same in each turn, because it is asked the same.
#[derive(Default)]
struct Server {
    epoch: u32,
    reply: Vec<u8>,
}

impl Rig {
    /// Connects everything and makes one turn in which each reply is checked byte for byte.
    pub(crate) fn new(scenario: &Scenario) -> Result<Self> {
        let text = if scenario.is_redis() { format!("{CONFIG}  redis: true\n") } else { CONFIG.to_owned() };
        let config = config::parse("bench", &text).map_err(|report| anyhow::anyhow!(report.render(false)))?.config;
        let mut engine = Engine::new(Setup {
            published: Arc::new(Published::new(config, 1)),
            worker: 0,
            seed: 1,
            started_at: Duration::ZERO,
            scripts: softmiss::engine::Scripts::default(),
        });
        let now = Instant::from_nanos(1);
        engine.preconnect(now);
        let mut links = Vec::new();
        while let Some(effect) = engine.poll_effect() {
            if let Effect::Connect { link, epoch } = effect {
                links.resize_with(links.len().max(link.index() + 1), Server::default);
                links[link.index()].epoch = epoch;
                engine.link_connected(link, epoch, now);
            }
        }
        let clients = (0..scenario.clients)
            .map(|number| {
                let id = engine.client_connected(PoolId(0));
                let (request, reply) = scenario.conversation(number);
                Client { id, request, reply }
            })
            .collect();
        let (ready_clients, ready_links) = (Vec::new(), Vec::new());
        let mut rig = Self { engine, now, clients, links, ready_clients, ready_links, written: 0, expected: 0 };
        rig.rehearse(scenario)?;
        Ok(rig)
    }

    /// The first turn: what is asked of each server becomes its reply of all turns, and every client's reply is checked.
    fn rehearse(&mut self, scenario: &Scenario) -> Result<()> {
        self.ask();
        while let Some(link) = self.ready_links.pop() {
            let server = &mut self.links[link.index()];
            let asked = self.engine.link_output(link, server.epoch);
            server.reply = scenario.answer(asked);
            let bytes = asked.len();
            self.engine.link_wrote(link, server.epoch, bytes, self.now);
            self.engine.link_data(link, server.epoch, &server.reply, self.now, &mut ());
            self.collect();
        }
        self.ready_clients.clear();
        for client in &self.clients {
            let output = self.engine.client_output(client.id);
            ensure!(output == client.reply, "{}: a client got a wrong reply", scenario.name);
            let bytes = output.len();
            self.engine.client_wrote(client.id, bytes, self.now);
            self.engine.client_status(client.id);
        }
        Ok(())
    }

    /// Some turns of a busy worker.
    pub(crate) fn turns(&mut self, count: u32) {
        (0..count).for_each(|_| self.turn());
    }

    /// The turns that callgrind counts, which it knows by the name of this function.
    #[inline(never)]
    pub(crate) fn counted_turns(&mut self, count: u32) {
        self.turns(count);
    }

    fn turn(&mut self) {
        self.now = self.now + Duration::from_micros(100);
        if self.engine.next_timeout().is_some_and(|due| due <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        self.ask();
        while let Some(link) = self.ready_links.pop() {
            let server = &self.links[link.index()];
            let bytes = self.engine.link_output(link, server.epoch).len();
            self.engine.link_wrote(link, server.epoch, bytes, self.now);
            for read in server.reply.chunks(READ_BYTES) {
                self.engine.link_data(link, server.epoch, read, self.now, &mut ());
            }
            self.collect();
        }
        while let Some(id) = self.ready_clients.pop() {
            self.engine.client_status(id);
            let bytes = self.engine.client_output(id).len();
            self.written += bytes as u64;
            self.engine.client_wrote(id, bytes, self.now);
        }
    }

    fn ask(&mut self) {
        for place in 0..self.clients.len() {
            let client = &self.clients[place];
            self.engine.client_data(client.id, &client.request, self.now);
            self.expected += client.reply.len() as u64;
            self.collect();
        }
    }

    /// What the shell does after each call: note whom the engine wants to be looked at.
    fn collect(&mut self) {
        while let Some(id) = self.engine.poll_client() {
            self.ready_clients.push(id);
        }
        while let Some(link) = self.engine.poll_link() {
            self.ready_links.push(link);
        }
    }

    /// Figures of an engine that answered too little would be worth nothing.
    pub(crate) fn settle_accounts(&self) -> Result<()> {
        let rehearsed: u64 = self.clients.iter().map(|client| client.reply.len() as u64).sum();
        ensure!(self.written + rehearsed == self.expected, "clients got {} of {} bytes", self.written, self.expected);
        Ok(())
    }
}

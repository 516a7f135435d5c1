//! An engine under a pretend shell, for one event at a time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use softmiss::config;
use softmiss::config::model::{PoolId, ServerId};
use softmiss::engine::ids::LinkId;
use softmiss::engine::ids::SessionId;
use softmiss::engine::{Effect, Engine, Room, Setup};
use softmiss::failure::Failure;
use softmiss::health::Registry;
use softmiss::health::maintenance::MaintenanceOutcome;
use softmiss::time::Instant;
use softmiss::topology::Published;

pub(crate) const POOL: PoolId = PoolId(0);

/// Bytes that the shell reads at a time.
const READ: usize = 64 << 10;

/// Moments in which something is due, one after the other, beyond which that will never end.
const MOST_MOMENTS: usize = 1_000_000;

/// An engine whose servers are all connected, and say only what they are made to say.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) registry: Arc<Registry>,
    pub(crate) now: Instant,
    /// Connections that are open, in the order of their places.
    pub(crate) links: BTreeMap<LinkId, u32>,
}

impl Rig {
    /// One pool of so many servers, with further lines for its section.
    pub(crate) fn new(servers: usize, more: &[&str]) -> Self {
        Self::of_process("", servers, more)
    }

    /// As [`Rig::new`], with settings of the process.
    pub(crate) fn of_process(settings: &str, servers: usize, more: &[&str]) -> Self {
        let mut text = settings.to_owned();
        text += "pool:\n  listen: 127.0.0.1:1\n  preconnect: true\n  auto_eject_hosts: true\n";
        text += "  server_failure_limit: 1\n";
        more.iter().for_each(|line| text += &format!("  {line}\n"));
        text += "  servers:\n";
        for server in 0..servers {
            writeln!(text, "  - 127.1.{}.{}:11211:1 node-{server}", server / 200, server % 200 + 1).unwrap();
        }
        let published = Arc::new(Published::new(config::parse("rig", &text).expect("a good file").config, 1));
        let registry = Arc::clone(&published.current().registry);
        let engine = Engine::new(Setup {
            published,
            worker: 0,
            seed: 1,
            started_at: Duration::ZERO,
            scripts: softmiss::engine::Scripts::default(),
        });
        let mut rig = Self { engine, registry, now: Instant::from_nanos(1_000_000), links: BTreeMap::new() };
        rig.engine.preconnect(rig.now);
        rig.turn();
        rig
    }

    /// Opens what is to be opened, and takes away what is to be written; returns how many bytes that was.
    pub(crate) fn turn(&mut self) -> usize {
        self.turn_with(&mut |_, _| {})
    }

    /// As [`Rig::turn`]; shows what is written, and to whom.
    pub(crate) fn turn_with(&mut self, show: &mut dyn FnMut(LinkId, &[u8])) -> usize {
        let mut taken = 0;
        loop {
            if let Some(effect) = self.engine.poll_effect() {
                match effect {
                    Effect::Connect { link, epoch } => {
                        self.links.insert(link, epoch);
                        self.engine.link_connected(link, epoch, self.now);
                    }
                    Effect::Disconnect { link, .. } => drop(self.links.remove(&link)),
                    Effect::Read { .. } => {
                        unreachable!("nobody here lists keys, which alone makes a server wait to be read")
                    }
                    Effect::News
                    | Effect::Inquire(_)
                    | Effect::Found(_)
                    | Effect::Notice(_)
                    | Effect::Slow(_)
                    | Effect::EndLingering { .. } => {}
                }
            } else if let Some(link) = self.engine.poll_link() {
                let epoch = self.links.get(&link).copied().unwrap_or_default();
                loop {
                    let output = self.engine.link_output(link, epoch);
                    let count = output.len();
                    if count == 0 {
                        break;
                    }
                    show(link, output);
                    taken += count;
                    self.engine.link_wrote(link, epoch, count, self.now);
                }
            } else if self.engine.poll_client().is_none() {
                return taken;
            }
        }
    }

    /// A moment passes; what is due is done.
    pub(crate) fn tick(&mut self) {
        self.now = self.now + Duration::from_micros(1);
        self.engine.handle_timeout(self.now);
    }

    /// Whether something is due in the next moment.
    pub(crate) fn is_busy(&self) -> bool {
        self.engine.next_timeout().is_some_and(|at| at <= self.now + Duration::from_micros(1))
    }

    /// Goes on until nothing is due any more.
    pub(crate) fn settle(&mut self) {
        self.settle_with(&mut |_, _| {});
    }

    /// As [`Rig::settle`]; shows what is written, and to whom.
    pub(crate) fn settle_with(&mut self, show: &mut dyn FnMut(LinkId, &[u8])) {
        for _ in 0..MOST_MOMENTS {
            self.turn_with(show);
            if !self.is_busy() {
                return;
            }
            self.tick();
        }
        panic!("something is due in each of {MOST_MOMENTS} moments");
    }

    pub(crate) fn client(&mut self) -> SessionId {
        self.engine.client_connected(POOL)
    }

    /// A client sends bytes, so many at a time.
    pub(crate) fn send(&mut self, client: SessionId, bytes: &[u8], piece: usize) {
        bytes.chunks(piece).for_each(|piece| self.engine.client_data(client, piece, self.now));
    }

    /// A client sends bytes, which are read as the shell reads them: what is large to where the engine wants it.
    pub(crate) fn send_as_the_shell(&mut self, client: SessionId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = match self.engine.client_room(client) {
                Room::Here(message) => {
                    let count = bytes.len().min(message.capacity() - message.len());
                    message.extend_from_slice(&bytes[..count]);
                    self.engine.client_filled(client, self.now);
                    count
                }
                Room::Anywhere(most) => {
                    let count = bytes.len().min(most).min(READ);
                    self.engine.client_data(client, &bytes[..count], self.now);
                    count
                }
                Room::Nowhere => unreachable!("clients are read"),
            };
            bytes = &bytes[count..];
        }
    }

    /// Takes what is to be written to a client.
    pub(crate) fn read(&mut self, client: SessionId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let output = self.engine.client_output(client).to_vec();
            if output.is_empty() {
                return all;
            }
            self.engine.client_wrote(client, output.len(), self.now);
            all.extend(output);
        }
    }

    /// The only server says something, so many bytes at a time.
    pub(crate) fn say(&mut self, bytes: &[u8], piece: usize) {
        let (link, epoch) = self.links.iter().next().map(|(link, epoch)| (*link, *epoch)).expect("a connection");
        bytes.chunks(piece).for_each(|piece| self.engine.link_data(link, epoch, piece, self.now, &mut ()));
    }

    /// A server is found dead.
    pub(crate) fn lose(&mut self, server: u16) {
        self.registry.failed(POOL, ServerId(server), 0, Failure::Refused, self.now);
        self.engine.refresh(self.now);
    }

    /// Operators let a server back, and it is well.
    pub(crate) fn take_back(&mut self, server: ServerId) {
        assert_eq!(self.registry.end_maintenance(POOL, server, self.now), MaintenanceOutcome::Done);
        assert!(self.registry.claim_probe(POOL, server, self.now));
        self.registry.probe_passed(POOL, server, self.now);
        self.engine.refresh(self.now);
    }
}

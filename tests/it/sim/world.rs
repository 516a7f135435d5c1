//! The pretend world: connections as byte queues, servers as maps, time as a number, and everything that can go wrong.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use softmiss::config::model::{Address, Config, HashKind, Listen, OnFailure, Pool, PoolId, Server, Settings};
use softmiss::engine::link::LinkId;
use softmiss::engine::session::SessionId;
use softmiss::engine::{Effect, Engine, Outlet, Setup};
use softmiss::failure::Failure;
use softmiss::health::Board;
use softmiss::stats::counters::Counters;
use softmiss::time::Instant;

use super::client::Client;
use super::store::Store;

const MS: u64 = 1_000_000;

/// Repeatable numbers (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

/// What a run is like.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    workers: usize,
    clients: usize,
    servers: usize,
    steps: usize,
    faults: bool,
    on_failure: OnFailure,
    auto_eject: bool,
    server_connections: usize,
    /// Steps take up to this long.
    step_us: u64,
}

impl Plan {
    pub(super) fn healthy(seed: u64) -> Self {
        Self { faults: false, on_failure: OnFailure::Error, ..Self::faulty(seed) }
    }

    pub(super) fn with_workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    pub(super) fn faulty(seed: u64) -> Self {
        let mut random = Random(seed ^ 0xfeed);
        Self {
            workers: 1,
            clients: 1 + random.below(5) as usize,
            servers: 1 + random.below(4) as usize,
            steps: 3000,
            faults: true,
            on_failure: if random.one_in(4) { OnFailure::Error } else { OnFailure::Miss },
            auto_eject: !random.one_in(4),
            server_connections: 1 + random.below(2) as usize,
            step_us: [20, 500, 5_000][random.below(3) as usize],
        }
    }
}

/// A connection between a worker and a server.
#[derive(Debug, Default)]
struct Connection {
    server: usize,
    to_server: VecDeque<u8>,
    /// Pieces of responses on their way back.
    to_proxy: VecDeque<u8>,
    /// The server's side is closed once `to_proxy` is empty.
    closing: bool,
    /// The server says something different from what it should.
    lies: Option<Lie>,
}

/// What a sick server does to one response.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Answers with the value of another key.
    WrongKey,
    /// Sends bytes that mean nothing.
    Junk,
    /// Sends half of it, then closes.
    Truncate,
    /// Sends it twice.
    Twice,
    /// Says an orderly error.
    OutOfMemory,
}

#[derive(Debug)]
struct SimServer {
    store: Store,
    listens: bool,
    /// It accepts connects and bytes, and answers nothing.
    hangs: bool,
    /// Connects neither succeed nor fail.
    unreachable: bool,
}

type ConnectionId = (usize, LinkId, u32);

pub(super) struct World {
    plan: Plan,
    random: Random,
    now: u64,
    engines: Vec<Engine>,
    board: Arc<Board>,
    clients: Vec<Client>,
    servers: Vec<SimServer>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connects under way.
    connecting: Vec<ConnectionId>,
    reference: Store,
    names: usize,
    answered: u64,
    history: VecDeque<String>,
    fingerprint: u64,
    /// Faults stop: what is in flight has to come to its end.
    calm: bool,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let servers = (0..plan.servers).map(|index| Server {
            name: format!("s{index}"),
            address: Address::Tcp { host: "sim".to_owned(), port: 1 },
            weight: 1,
            position: index,
        });
        let listen = Listen::Unix { path: "/nowhere".into(), mode: None };
        let pool = Pool {
            hash: HashKind::Md5,
            timeout: Some(if plan.faults { Duration::from_millis(400) } else { Duration::from_secs(3600) }),
            preconnect: seed.is_multiple_of(3),
            auto_eject_hosts: plan.auto_eject,
            server_retry_timeout: Duration::from_millis(2000),
            server_failure_limit: 3,
            server_connections: plan.server_connections,
            on_failure: plan.on_failure,
            value_limit: 1 << 20,
            ..Pool::new("pool", listen, servers.collect())
        };
        let settings = Settings { workers: plan.workers, ..Settings::default() };
        let config = Arc::new(Config { settings, pools: vec![pool] });
        let board = Arc::new(Board::new(&config, seed));
        let counters: Arc<[Arc<Counters>]> = (0..plan.workers).map(|_| Arc::new(Counters::new(&config))).collect();
        let engines = (0..plan.workers).map(|worker| {
            let mut engine = Engine::new(Setup {
                config: Arc::clone(&config),
                board: Arc::clone(&board),
                counters: Arc::clone(&counters),
                worker,
                seed,
                started_at: Duration::ZERO,
            });
            engine.preconnect(Instant::ZERO);
            engine
        });
        let server = |_| SimServer { store: Store::default(), listens: true, hangs: false, unreachable: false };
        let mut world = Self {
            random: Random(seed),
            now: MS,
            engines: engines.collect(),
            board,
            clients: Vec::new(),
            servers: (0..plan.servers).map(server).collect(),
            connections: BTreeMap::new(),
            connecting: Vec::new(),
            reference: Store::default(),
            names: 0,
            answered: 0,
            history: VecDeque::new(),
            fingerprint: 0,
            calm: false,
            plan,
        };
        for _ in 0..world.plan.clients {
            world.join();
        }
        world
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered + self.clients.iter().map(|client| client.answered).sum::<u64>()
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(super) fn history(&self) -> String {
        self.history.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    fn note(&mut self, what: String) {
        for byte in what.bytes() {
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if self.history.len() == 120 {
            self.history.pop_front();
        }
        self.history.push_back(format!("{:>9} us  {what}", self.now / 1000));
    }

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    /// Runs the plan, then calms down and lets everything come to its end.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.calm = true;
        for server in &mut self.servers {
            (server.listens, server.hangs, server.unreachable) = (true, false, false);
        }
        for connection in self.connections.values_mut() {
            connection.lies = None;
        }
        for _ in 0..200_000 {
            let done = |client: &Client| client.outgoing.is_empty() && client.expected.is_empty() && !client.waits();
            if self.clients.iter().all(done) {
                return self.finish();
            }
            self.step()?;
        }
        let waiting: Vec<_> = self.clients.iter().filter(|client| client.waits()).collect();
        Err(format!("requests were never answered: {waiting:?}"))
    }

    fn finish(&mut self) -> Result<(), String> {
        for client in &self.clients {
            if !self.plan.faults && !client.expected.is_empty() {
                return Err(format!("{} bytes were never told", client.expected.len()));
            }
        }
        // Everybody leaves: nothing may stay behind but what the links keep for their next request.
        while let Some(client) = self.clients.pop() {
            self.answered += client.answered;
            self.engines[client.worker].client_gone(client.id, false);
        }
        for engine in &self.engines {
            engine.check_invariants()?;
            if engine.clients() != 0 {
                return Err("a client stayed behind".to_owned());
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..20 => self.ask(),
            20..40 => self.give(),
            40..55 => self.write(),
            55..75 => self.serve(),
            75..93 => self.hear(),
            93..96 => self.connect(),
            _ if self.plan.faults && !self.calm => self.fault(),
            _ => {}
        }
        self.pass_time();
        for worker in 0..self.engines.len() {
            self.carry_out(worker);
        }
        self.read()?;
        for engine in &self.engines {
            engine.check_invariants()?;
        }
        Ok(())
    }

    fn pass_time(&mut self) {
        let limit = if self.calm { 2_000 } else { self.plan.step_us };
        self.now += self.random.below(limit * 1000);
        for worker in 0..self.engines.len() {
            let now = self.instant();
            if self.engines[worker].next_timeout().is_some_and(|next| next <= now) {
                self.engines[worker].handle_timeout(now);
            }
        }
    }

    /// Does what the engine wants done.
    fn carry_out(&mut self, worker: usize) {
        while let Some(effect) = self.engines[worker].poll_effect() {
            self.note(format!("worker {worker}: {effect:?}"));
            match effect {
                Effect::Connect { link, epoch } => self.connecting.push((worker, link, epoch)),
                Effect::Disconnect { link, .. } => {
                    self.connections.retain(|(of, known, _), _| *of != worker || *known != link);
                    self.connecting.retain(|(of, known, _)| *of != worker || *known != link);
                }
                Effect::News => {
                    let now = self.instant();
                    for engine in &mut self.engines {
                        engine.handle_timeout(now);
                    }
                }
                Effect::Notice(_) => {}
            }
        }
        while self.engines[worker].poll_client().is_some() {}
        while self.engines[worker].poll_link().is_some() {}
    }

    fn join(&mut self) {
        let worker = self.random.below(self.plan.workers as u64) as usize;
        let id = self.engines[worker].client_connected(PoolId(0));
        let prompt = !self.random.one_in(4);
        self.clients.push(Client::new(id, worker, self.names, prompt));
        self.names += 1;
    }

    fn pick_client(&mut self) -> Option<usize> {
        let count = self.clients.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    fn pick_connection(&mut self) -> Option<ConnectionId> {
        let count = self.connections.len() as u64;
        if count == 0 {
            return None;
        }
        let index = self.random.below(count) as usize;
        self.connections.keys().nth(index).copied()
    }

    /// A client draws a request.
    fn ask(&mut self) {
        let Some(index) = self.pick_client() else { return };
        let loud = self.plan.faults && self.plan.on_failure == OnFailure::Error;
        let client = &mut self.clients[index];
        if self.calm || client.pending.len() > 12 || client.outgoing.len() > 20_000 {
            return;
        }
        let request = client.draw(&mut self.random, !self.plan.faults, loud);
        if !self.plan.faults {
            let executed = self.reference.execute(&request).expect("a whole request");
            client.expected.extend(executed.response);
        }
    }

    /// Some of a client's bytes reach the engine.
    fn give(&mut self) {
        let Some(index) = self.pick_client() else { return };
        let now = self.instant();
        let client = &mut self.clients[index];
        let engine = &mut self.engines[client.worker];
        if client.outgoing.is_empty() || !engine.client_status(client.id).reads {
            return;
        }
        let most = if self.random.one_in(3) { 5 } else { 10_000 };
        let count = (1 + self.random.below(most) as usize).min(client.outgoing.len());
        let bytes: Vec<u8> = client.outgoing.drain(..count).collect();
        engine.client_data(client.id, &bytes, now);
        client.gave(self.now);
        let name = client.id.index();
        self.note(format!("client {name} > {:?}", short(&bytes)));
    }

    /// Some of the engine's bytes reach a server.
    fn write(&mut self) {
        let Some(id) = self.pick_connection() else { return };
        let now = self.instant();
        let (worker, link, epoch) = id;
        let output = self.engines[worker].link_output(link, epoch);
        if output.is_empty() {
            return;
        }
        let most = if self.random.one_in(3) { 7 } else { 100_000 };
        let count = (1 + self.random.below(most) as usize).min(output.len());
        let bytes = output[..count].to_vec();
        self.note(format!("worker {worker}: {link:?} > {:?}", short(&bytes)));
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.to_server.extend(bytes);
        }
        self.engines[worker].link_wrote(link, epoch, count, now);
    }

    /// A server executes a command.
    fn serve(&mut self) {
        let Some(id) = self.pick_connection() else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let server = &mut self.servers[connection.server];
        if server.hangs || connection.closing {
            return;
        }
        connection.to_server.make_contiguous();
        let (input, _) = connection.to_server.as_slices();
        let Some(executed) = server.store.execute(input) else { return };
        connection.to_server.drain(..executed.len);
        let mut response = executed.response;
        match connection.lies.take() {
            None => {}
            Some(Lie::WrongKey) if executed.is_value => {
                // A whole value, in order, of a key that does not exist anywhere.
                response = if response.starts_with(b"VALUE") {
                    b"VALUE elsewhere 0 5\r\nwrong\r\nEND\r\n".to_vec()
                } else {
                    b"VA 5 kelsewhere\r\nwrong\r\n".to_vec()
                };
            }
            Some(Lie::WrongKey) => {}
            Some(Lie::Junk) => response = b"\x00\xffjunk\r\nVALUE\r\n".to_vec(),
            Some(Lie::Truncate) => {
                response.truncate(response.len() / 2);
                connection.closing = true;
            }
            // Only values name what they answer. A status line said twice could be the next request's: nothing can tell.
            Some(Lie::Twice) if !executed.is_value => {}
            Some(Lie::Twice) => response = [&response[..], &response].concat(),
            Some(Lie::OutOfMemory) => response = b"SERVER_ERROR out of memory storing object\r\n".to_vec(),
        }
        connection.to_proxy.extend(response);
    }

    /// Some of a server's bytes reach the engine, or its end does.
    fn hear(&mut self) {
        let Some(id) = self.pick_connection() else { return };
        let now = self.instant();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (worker, link, epoch) = id;
        if connection.to_proxy.is_empty() {
            if connection.closing {
                self.connections.remove(&id);
                self.note(format!("worker {worker}: {link:?} is closed by its server"));
                self.engines[worker].link_failed(link, epoch, Failure::Closed, now);
            }
            return;
        }
        let most = if self.random.one_in(3) { 7 } else { 100_000 };
        let count = (1 + self.random.below(most) as usize).min(connection.to_proxy.len());
        let bytes: Vec<u8> = connection.to_proxy.drain(..count).collect();
        self.note(format!("worker {worker}: {link:?} < {:?}", short(&bytes)));
        let mut outlet = Sockets { clients: &mut self.clients, worker, random: &mut self.random };
        self.engines[worker].link_data(link, epoch, &bytes, now, &mut outlet);
    }

    /// A connect succeeds or fails.
    fn connect(&mut self) {
        if self.connecting.is_empty() {
            return;
        }
        let index = self.random.below(self.connecting.len() as u64) as usize;
        let id = self.connecting[index];
        let (worker, link, epoch) = id;
        let (_, server) = self.engines[worker].link_server(link);
        if self.servers[server.index()].unreachable {
            return;
        }
        self.connecting.swap_remove(index);
        let now = self.instant();
        if self.servers[server.index()].listens {
            self.note(format!("worker {worker}: {link:?} is connected"));
            self.connections.insert(id, Connection { server: server.index(), ..Connection::default() });
            self.engines[worker].link_connected(link, epoch, now);
        } else {
            self.engines[worker].link_failed(link, epoch, Failure::Refused, now);
        }
    }

    /// Something breaks, or is mended.
    fn fault(&mut self) {
        let server = self.random.below(self.servers.len() as u64) as usize;
        let kind = self.random.below(14);
        self.note(format!("fault {kind} of server {server}"));
        match kind {
            0 => self.servers[server].hangs = true,
            1 | 2 => self.servers[server].hangs = false,
            3 => {
                // Killed: its data is gone, its connections are reset.
                self.servers[server].listens = false;
                self.servers[server].store.clear();
                self.reset(server);
            }
            4 | 5 => self.servers[server].listens = true,
            6 => self.servers[server].unreachable = true,
            7 | 8 => self.servers[server].unreachable = false,
            9 => self.reset(server),
            10 => {
                if let Some(id) = self.pick_connection()
                    && let Some(connection) = self.connections.get_mut(&id)
                {
                    connection.closing = true; // an idle timeout
                }
            }
            11 | 12 => {
                let lies = [Lie::WrongKey, Lie::Junk, Lie::Truncate, Lie::Twice, Lie::OutOfMemory];
                let lie = lies[self.random.below(lies.len() as u64) as usize];
                if let Some(id) = self.pick_connection()
                    && let Some(connection) = self.connections.get_mut(&id)
                {
                    connection.lies = Some(lie);
                }
            }
            _ => {
                // A client dies with requests in flight, and another comes.
                if let Some(index) = self.pick_client() {
                    let client = self.clients.swap_remove(index);
                    self.answered += client.answered;
                    self.engines[client.worker].client_gone(client.id, true);
                    self.join();
                }
            }
        }
    }

    fn reset(&mut self, server: usize) {
        let now = self.instant();
        let dead: Vec<_> = self.connections.iter().filter(|(_, one)| one.server == server).map(|(id, _)| *id).collect();
        for id in dead {
            self.connections.remove(&id);
            self.engines[id.0].link_failed(id.1, id.2, Failure::Reset, now);
        }
    }

    /// Clients read what is there, and check it.
    fn read(&mut self) -> Result<(), String> {
        let now = self.instant();
        let (moment, faults, miss) = (self.now, self.plan.faults, self.plan.on_failure == OnFailure::Miss);
        // What a request may take: its timeout, and the step in which it is noticed.
        let limit = (400 + 50) * MS;
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if !client.prompt && !self.calm && self.random.below(3) > 0 {
                continue;
            }
            let engine = &mut self.engines[client.worker];
            let output = engine.client_output(client.id);
            let most = if client.prompt { output.len() } else { self.random.below(500) as usize };
            let count = most.min(output.len());
            let mut bytes = std::mem::take(&mut client.offered);
            bytes.extend_from_slice(&output[..count]);
            if bytes.is_empty() {
                continue;
            }
            if count > 0 {
                engine.client_wrote(client.id, count, now);
            }
            let name = client.id.index();
            self.note(format!("client {name} < {:?}", short(&bytes)));
            let client = &mut self.clients[index];
            if !faults {
                for byte in &bytes {
                    if client.expected.pop_front() != Some(*byte) {
                        let read = String::from_utf8_lossy(&bytes).into_owned();
                        return Err(format!(
                            "client {index} was told something else than one memcached says: {read:?}"
                        ));
                    }
                }
            }
            let limit = (client.prompt && faults).then_some(limit);
            client.read(&bytes, moment, limit, miss).map_err(|what| format!("client {index} {what}"))?;
        }
        let _ = &self.board;
        Ok(())
    }
}

/// The clients' sockets, which take what is offered to them, or a part of it, or nothing.
struct Sockets<'a> {
    clients: &'a mut [Client],
    worker: usize,
    random: &'a mut Random,
}

impl Outlet for Sockets<'_> {
    fn offer(&mut self, id: SessionId, bytes: &[u8]) -> usize {
        let found = self.clients.iter_mut().find(|client| client.worker == self.worker && client.id == id);
        let client = found.expect("only a client that is served is offered anything");
        let count = match self.random.below(4) {
            0 => 0,
            1 => self.random.below(bytes.len() as u64 + 1) as usize,
            _ => bytes.len(),
        };
        client.offered.extend_from_slice(&bytes[..count]);
        count
    }
}

/// The beginning of some bytes, for the history.
fn short(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).into_owned()
}

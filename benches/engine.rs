//! What one request costs inside the engine, without any socket: `cargo bench --bench engine`.
//!
//! A pretend shell drives one engine through whole turns, as the real one does on a busy host: every client's bytes,
//! then every server's output and replies, then every client's output. The replies are made once and given again each
//! turn, so what is measured is the engine and a few calls around it.
//!
//! Two figures: nanoseconds (look at them, they vary with the machine) and, with `--instructions`, the instructions
//! that callgrind counts. Those repeat to within a percent whatever else the machine does, so they have limits, and
//! going beyond one makes this program fail.

#![expect(clippy::disallowed_methods, reason = "a benchmark owns its clock")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is its purpose")]

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use softmiss::config;
use softmiss::config::model::PoolId;
use softmiss::engine::link::LinkId;
use softmiss::engine::session::SessionId;
use softmiss::engine::{Effect, Engine, Setup};
use softmiss::health::Board;
use softmiss::stats::counters::Counters;
use softmiss::time::Instant;

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

/// Turns that both runs under callgrind make before those whose difference counts: buffers have grown by then.
const SETTLED_TURNS: u32 = 40;

/// What a turn consists of.
struct Scenario {
    name: &'static str,
    about: &'static str,
    clients: u32,
    /// Requests of each client in each turn.
    depth: u32,
    keys_per_get: u32,
    value_bytes: usize,
    sets: bool,
    /// Turns that are counted under callgrind.
    counted_turns: u32,
    /// Most instructions per request: what was counted when this was written, and a tenth.
    instruction_limit: u32,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "lone-get",
        about: "1 client, 1 get a turn, 100 B",
        clients: 1,
        depth: 1,
        keys_per_get: 1,
        value_bytes: 100,
        sets: false,
        counted_turns: 2_000,
        instruction_limit: 3_840,
    },
    Scenario {
        name: "get",
        about: "50 clients, 1 get each, 100 B",
        clients: 50,
        depth: 1,
        keys_per_get: 1,
        value_bytes: 100,
        sets: false,
        counted_turns: 100,
        instruction_limit: 3_280,
    },
    Scenario {
        name: "get-16",
        about: "50 clients, 16 gets each, 100 B",
        clients: 50,
        depth: 16,
        keys_per_get: 1,
        value_bytes: 100,
        sets: false,
        counted_turns: 20,
        instruction_limit: 3_010,
    },
    Scenario {
        name: "multiget-20",
        about: "50 clients, one get of 20 keys each, 100 B",
        clients: 50,
        depth: 1,
        keys_per_get: 20,
        value_bytes: 100,
        sets: false,
        counted_turns: 40,
        instruction_limit: 45_650,
    },
    Scenario {
        name: "get-10k",
        about: "50 clients, 1 get each, 10,000 B",
        clients: 50,
        depth: 1,
        keys_per_get: 1,
        value_bytes: 10_000,
        sets: false,
        counted_turns: 40,
        instruction_limit: 26_250,
    },
    Scenario {
        name: "set",
        about: "50 clients, 1 set each, 100 B",
        clients: 50,
        depth: 1,
        keys_per_get: 1,
        value_bytes: 100,
        sets: true,
        counted_turns: 100,
        instruction_limit: 3_210,
    },
];

/// Measure the engine without sockets.
#[derive(Parser, Debug)]
#[command(name = "engine")]
struct Options {
    /// Scenarios by name; all of them when none is given.
    scenarios: Vec<String>,
    /// Time for each scenario.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Count instructions under callgrind and hold them against the limits.
    #[arg(long)]
    instructions: bool,
    /// Make this many turns of the first scenario and say nothing; what callgrind runs.
    #[arg(long, hide = true)]
    turns: Option<u32>,
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
    /// Test runners ask for a list of tests; there are none.
    #[arg(long, hide = true)]
    list: bool,
    /// Goes with `--list`.
    #[arg(long, hide = true)]
    format: Option<String>,
    /// Goes with `--list`.
    #[arg(long, hide = true)]
    ignored: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.list {
        return Ok(());
    }
    let wanted: Vec<&Scenario> = (SCENARIOS.iter())
        .filter(|scenario| options.scenarios.is_empty() || options.scenarios.iter().any(|name| name == scenario.name))
        .collect();
    ensure!(!wanted.is_empty(), "no scenario has such a name");
    if let Some(turns) = options.turns {
        let mut rig = Rig::new(wanted[0])?;
        (0..turns).for_each(|_| rig.turn());
        return rig.settle_accounts();
    }
    let mut excess = Vec::new();
    println!("{:<12}  {:>12}  {:>20}  what", "scenario", "ns/request", "instructions/request");
    for scenario in wanted {
        let nanos = time(scenario, options.seconds)?;
        let count = if options.instructions { Some(instructions(scenario)?) } else { None };
        let counted = count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        println!("{:<12}  {nanos:>12.0}  {counted:>20}  {}", scenario.name, scenario.about);
        if let Some(count) = count.filter(|&count| count > u64::from(scenario.instruction_limit)) {
            excess.push(format!("{}: {count}, limit {}", scenario.name, scenario.instruction_limit));
        }
    }
    ensure!(excess.is_empty(), "more instructions per request than allowed: {}", excess.join("; "));
    Ok(())
}

/// Nanoseconds per request: the median of some slices of the time.
fn time(scenario: &Scenario, seconds: f64) -> Result<f64> {
    let mut rig = Rig::new(scenario)?;
    let slice = Duration::from_secs_f64(seconds / 15.0);
    let mut samples = Vec::new();
    for _ in 0..15 {
        let (start, mut turns) = (std::time::Instant::now(), 0_u32);
        while start.elapsed() < slice {
            // The clock is asked once in a while, or it would be a good part of a short turn.
            (0..16).for_each(|_| rig.turn());
            turns += 16;
        }
        let requests = f64::from(turns) * f64::from(scenario.clients * scenario.depth);
        samples.push(start.elapsed().as_secs_f64() * 1e9 / requests);
    }
    rig.settle_accounts()?;
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2])
}

/// Instructions per request: the difference between a longer and a shorter run, so that the start does not count.
fn instructions(scenario: &Scenario) -> Result<u64> {
    let short = callgrind(scenario, SETTLED_TURNS)?;
    let long = callgrind(scenario, SETTLED_TURNS + scenario.counted_turns)?;
    Ok((long - short) / u64::from(scenario.counted_turns * scenario.clients * scenario.depth))
}

fn callgrind(scenario: &Scenario, turns: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([scenario.name, "--turns", &turns.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("valgrind does not start")?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed: {words}");
    }
    let count = words.lines().find_map(|line| line.split_once("Collected : ")).context("callgrind gave no count")?.1;
    count.trim().parse().with_context(|| format!("callgrind counted {count:?}"))
}

/// An engine with clients and pretend servers.
struct Rig {
    engine: Engine,
    now: Instant,
    clients: Vec<Client>,
    links: Vec<Server>,
    ready_clients: Vec<SessionId>,
    ready_links: Vec<LinkId>,
    /// Bytes written to clients since the last reckoning, and how many should have been.
    written: u64,
    owed: u64,
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
    fn new(scenario: &Scenario) -> Result<Self> {
        let config = config::parse("bench", CONFIG).map_err(|report| anyhow::anyhow!(report.render(false)))?.config;
        let config = Arc::new(config);
        let mut engine = Engine::new(Setup {
            board: Arc::new(Board::new(&config, 1)),
            counters: Arc::new([Arc::new(Counters::new(&config))]),
            config,
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
                let (request, reply) = conversation(scenario, number);
                Client { id, request, reply }
            })
            .collect();
        let (ready_clients, ready_links) = (Vec::new(), Vec::new());
        let mut rig = Self { engine, now, clients, links, ready_clients, ready_links, written: 0, owed: 0 };
        rig.rehearse(scenario)?;
        Ok(rig)
    }

    /// The first turn: what is asked of each server becomes its reply of all turns, and every client's reply is checked.
    fn rehearse(&mut self, scenario: &Scenario) -> Result<()> {
        self.ask();
        while let Some(link) = self.ready_links.pop() {
            let server = &mut self.links[link.index()];
            let asked = self.engine.link_output(link, server.epoch);
            server.reply = answer(scenario, asked);
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

    /// One turn of a busy worker.
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
            self.owed += client.reply.len() as u64;
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
    fn settle_accounts(&self) -> Result<()> {
        let rehearsed: u64 = self.clients.iter().map(|client| client.reply.len() as u64).sum();
        ensure!(self.written + rehearsed == self.owed, "clients got {} of {} bytes", self.written, self.owed);
        Ok(())
    }
}

/// What client `number` sends in a turn, and what it must get.
fn conversation(scenario: &Scenario, number: u32) -> (Vec<u8>, Vec<u8>) {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    for place in 0..scenario.depth {
        let first = (number * scenario.depth + place) * scenario.keys_per_get;
        let keys: Vec<String> =
            (first..first + scenario.keys_per_get).map(|key| format!("bench:key:{key:06}")).collect();
        if scenario.sets {
            request.extend_from_slice(format!("set {} 0 0 {}\r\n", keys[0], scenario.value_bytes).as_bytes());
            request.extend_from_slice(&value(scenario));
            reply.extend_from_slice(b"STORED\r\n");
        } else {
            request.extend_from_slice(format!("get {}\r\n", keys.join(" ")).as_bytes());
            keys.iter().for_each(|key| push_value(scenario, key, &mut reply));
            reply.extend_from_slice(b"END\r\n");
        }
    }
    (request, reply)
}

/// What a server that has every key answers.
fn answer(scenario: &Scenario, asked: &[u8]) -> Vec<u8> {
    let mut reply = Vec::new();
    if scenario.sets {
        let sets = asked.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"set ")).count();
        return b"STORED\r\n".repeat(sets);
    }
    for line in String::from_utf8_lossy(asked).lines() {
        line.split(' ').skip(1).for_each(|key| push_value(scenario, key, &mut reply));
        reply.extend_from_slice(b"END\r\n");
    }
    reply
}

fn push_value(scenario: &Scenario, key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("VALUE {key} 0 {}\r\n", scenario.value_bytes).as_bytes());
    out.extend_from_slice(&value(scenario));
}

/// A value and its line end.
fn value(scenario: &Scenario) -> Vec<u8> {
    let mut value = vec![b'x'; scenario.value_bytes];
    value.extend_from_slice(b"\r\n");
    value
}

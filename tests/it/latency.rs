//! Servers that are slow for a while, or now and then, in a pretend time: what is answered in their place, and when one
//! that hangs is found out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use softmiss::config;
use softmiss::config::model::PoolId;
use softmiss::engine::ids::LinkId;
use softmiss::engine::ids::SessionId;
use softmiss::engine::{Effect, Engine, Scripts, Setup};
use softmiss::time::Instant;
use softmiss::topology::Published;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn at(count: u64) -> Instant {
    Instant::ZERO + ms(count)
}

/// How long a server takes for what reaches it then; `None` is for ever.
type Pace = fn(Instant) -> Option<Duration>;

struct Client {
    worker: usize,
    session: SessionId,
    pause: Duration,
    asked: Instant,
}

enum Event {
    Ask(usize),
    /// A server's bytes arrive, if that connection is there still.
    Answer(usize, LinkId, u32, Vec<u8>),
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
struct Answered {
    asked: Instant,
    took: Duration,
    hit: bool,
}

/// Some workers, one server, and clients that each ask for one key after the other.
struct World {
    engines: Vec<Engine>,
    pace: Pace,
    now: Instant,
    clients: Vec<Client>,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    /// Connections that are open, and up to when the server has answered on each.
    open: BTreeMap<(usize, LinkId), (u32, Instant)>,
    answered: Vec<Answered>,
}

impl World {
    fn new(workers: usize, settings: &str, pace: Pace, clients: u64, pause: Duration) -> Self {
        let text = format!(
            "pool:\n  listen: 127.0.0.1:1\n  timeout: 400\n  on_failure: miss\n  auto_eject_hosts: false\n{settings}  \
             servers: ['10.0.0.1:11211:1 node']\n"
        );
        let mut config = config::parse("file", &text).expect("a good file").config;
        config.settings.workers = workers;
        let published = Arc::new(Published::new(config, 1));
        let engines = (0..workers).map(|worker| {
            let (published, scripts) = (Arc::clone(&published), Scripts::default());
            Engine::new(Setup { published, worker, seed: 1, started_at: Duration::ZERO, scripts })
        });
        let mut world = Self {
            engines: engines.collect(),
            pace,
            now: at(1),
            clients: Vec::new(),
            events: BTreeMap::new(),
            count: 0,
            open: BTreeMap::new(),
            answered: Vec::new(),
        };
        for name in 0..clients {
            let worker = usize::try_from(name).expect("few") % workers;
            let session = world.engines[worker].client_connected(PoolId(0));
            let client =
                Client { worker, session, pause: pause + pause * u32::try_from(name).expect("few") / 20, asked: at(0) };
            world.clients.push(client);
            let first = world.now + ms(name);
            world.plan(first, Event::Ask(world.clients.len() - 1));
        }
        world
    }

    fn plan(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// Lets time pass.
    fn run_until(&mut self, end: Instant) {
        loop {
            let timer = self.engines.iter().filter_map(Engine::next_timeout).min();
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timer.into_iter().chain(event).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if event.is_some_and(|event| event <= self.now) {
                if let Some((_, event)) = self.events.pop_first() {
                    self.happen(event);
                }
            } else {
                let now = self.now;
                self.engines.iter_mut().for_each(|engine| engine.handle_timeout(now));
            }
            (0..self.engines.len()).for_each(|worker| self.carry_out(worker));
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask(client) => {
                let Client { worker, session, ref mut asked, .. } = self.clients[client];
                *asked = self.now;
                self.engines[worker].client_data(session, b"get key\r\n", self.now);
            }
            Event::Answer(worker, link, epoch, bytes) => {
                if self.open.get(&(worker, link)).is_some_and(|(open, _)| *open == epoch) {
                    self.engines[worker].link_data(link, epoch, &bytes, self.now, &mut ());
                }
            }
        }
    }

    fn carry_out(&mut self, worker: usize) {
        loop {
            if let Some(effect) = self.engines[worker].poll_effect() {
                match effect {
                    Effect::Connect { link, epoch } => {
                        self.open.insert((worker, link), (epoch, self.now));
                        self.engines[worker].link_connected(link, epoch, self.now);
                    }
                    Effect::Disconnect { link, .. } => drop(self.open.remove(&(worker, link))),
                    Effect::News
                    | Effect::Inquire(_)
                    | Effect::Found(_)
                    | Effect::Notice(_)
                    | Effect::Slow(_)
                    | Effect::EndLingering { .. } => {}
                    Effect::Read { .. } => {
                        unreachable!("nobody here lists keys, which alone makes a server wait to be read")
                    }
                }
            } else if let Some(link) = self.engines[worker].poll_link() {
                let epoch = self.open.get(&(worker, link)).map_or(0, |(epoch, _)| *epoch);
                let bytes = self.engines[worker].link_output(link, epoch).to_vec();
                self.engines[worker].link_wrote(link, epoch, bytes.len(), self.now);
                self.serve(worker, link, &bytes);
            } else {
                break;
            }
        }
        let mut heard = BTreeSet::new();
        while let Some(session) = self.engines[worker].poll_client() {
            self.engines[worker].client_status(session);
            heard.insert(session);
        }
        let whose = |client: &Client| client.worker == worker && heard.contains(&client.session);
        for client in (0..self.clients.len()).filter(|client| whose(&self.clients[*client])).collect::<Vec<_>>() {
            self.hear(client);
        }
    }

    /// The server is asked something, and answers it when its time has come.
    fn serve(&mut self, worker: usize, link: LinkId, bytes: &[u8]) {
        let Some((epoch, last)) = self.open.get(&(worker, link)).copied() else { return };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let keys = line.split(|byte| *byte == b' ').count() - 1;
            let answer = if line.starts_with(b"get") {
                [b"VALUE key 0 1\r\nx\r\n".repeat(keys), b"END\r\n".to_vec()].concat()
            } else {
                b"VERSION 1\r\n".to_vec()
            };
            let Some(takes) = (self.pace)(self.now) else { return };
            let due = last.max(self.now + takes);
            self.open.insert((worker, link), (epoch, due));
            self.plan(due, Event::Answer(worker, link, epoch, answer));
        }
    }

    fn hear(&mut self, client: usize) {
        let Client { worker, session, pause, asked } = self.clients[client];
        let output = self.engines[worker].client_output(session).to_vec();
        if output.is_empty() {
            return;
        }
        self.engines[worker].client_wrote(session, output.len(), self.now);
        self.answered.push(Answered { asked, took: self.now - asked, hit: output.starts_with(b"VALUE") });
        let next = self.now + pause;
        self.plan(next, Event::Ask(client));
    }

    /// Requests between two moments that were not answered by the server.
    fn misses(&self, from: Instant, to: Instant) -> usize {
        self.answered.iter().filter(|one| !one.hit && one.asked >= from && one.asked < to).count()
    }
}

/// One millisecond, and from the tenth second on 300.
fn turns_slow(now: Instant) -> Option<Duration> {
    Some(if now < at(10_000) { ms(1) } else { ms(300) })
}

/// From the tenth second on it stands still for 300 ms every two seconds, as a server that saves its data does.
fn stands_still(now: Instant) -> Option<Duration> {
    let since = now - Instant::ZERO;
    let into = since - ms(2_000) * u32::try_from(since.as_millis() / 2_000).expect("a minute at the most");
    Some(if now >= at(10_000) && into < ms(300) { ms(300) - into } else { ms(1) })
}

/// What comes at the beginning of each half second takes 300 ms, and what is behind it waits.
fn is_slow_at_times(now: Instant) -> Option<Duration> {
    Some(if now >= at(10_000) && now.as_nanos() / 1_000_000 % 500 < 8 { ms(300) } else { ms(1) })
}

/// Who asks: with how many workers, on how many connections to the server, and with what pause.
const LOADS: [(usize, &str, u64, Duration); 5] = [
    (1, "", 300, ms(500)),
    (1, "", 60, ms(100)),
    (1, "  server_connections: 4\n", 60, ms(50)),
    (3, "", 300, ms(300)),
    (1, "", 4, ms(700)),
];

#[test]
fn a_server_that_is_slow_is_answered_for_in_the_first_second_alone() {
    let mut misses = 0;
    for (name, pace) in [("slow", turns_slow as Pace), ("still", stands_still), ("at times", is_slow_at_times)] {
        for (workers, settings, clients, pause) in LOADS {
            let mut world = World::new(workers, settings, pace, clients, pause);
            world.run_until(at(20_000));
            let what = format!("{name}, {workers} workers, {settings:?}, {clients} clients");
            assert_eq!(world.misses(at(0), at(10_000)), 0, "{what}: before the change");
            // Somebody has to come while it is slow for that to be known.
            let first = world.answered.iter().find(|one| !one.hit).map_or_else(|| at(10_000), |one| one.asked);
            misses += world.misses(first, first + ms(1_000));
            assert_eq!(world.misses(first + ms(1_000), at(20_000)), 0, "{what}: {misses} in the first second");
        }
    }
    assert!(misses > 100, "at first it looks like a silent one: {misses}");
}

fn hangs(now: Instant) -> Option<Duration> {
    (now < at(10_000)).then_some(ms(1))
}

/// It stood still at times until the twentieth second.
fn hangs_later(now: Instant) -> Option<Duration> {
    if now < at(20_000) { stands_still(now) } else { (now < at(115_000)).then_some(ms(1)) }
}

/// It stood still for longer than `timeout`, which says nothing of what it is like when it is well.
fn hangs_twice(now: Instant) -> Option<Duration> {
    match now {
        now if now < at(4_000) => Some(ms(1)),
        now if now < at(5_500) => Some(at(5_500) - now),
        now => (now < at(10_000)).then_some(ms(1)),
    }
}

/// Nobody who comes later than a tenth of `timeout`, and a moment, waits for it.
#[test]
fn a_server_that_hangs_is_found_out_as_soon_as_ever() {
    for (name, pace, end) in
        [("hangs", hangs as Pace, 10_000), ("later", hangs_later, 115_000), ("twice", hangs_twice, 10_000)]
    {
        let mut world = World::new(1, "", pace, 60, ms(100));
        world.run_until(at(end + 1_000));
        let asked =
            |from: u64, to: u64| world.answered.iter().filter(move |one| one.asked >= at(from) && one.asked < at(to));
        assert!(asked(end - 500, end - 10).all(|one| one.hit), "{name}: it is well before");
        let hung = world
            .answered
            .iter()
            .filter(|one| !one.hit)
            .map(|one| one.asked)
            .filter(|asked| *asked > at(end - 500))
            .min();
        let known = hung.expect("a request that finds it hung") + ms(46);
        let late: Vec<_> =
            asked(end, end + 1_000).filter(|one| one.asked > known && (one.hit || one.took > ms(1))).collect();
        assert!(late.is_empty() && known < at(end + 80), "{name}: {late:?} after {known:?}");
    }
}

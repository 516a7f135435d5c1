//! One fault from before to after, and what is promised about it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::balance::check_balance;
use super::book::{Book, Speaks};
use super::fault::{Fault, Server, inflict};
use super::ledger::{Ledger, Outcome, Sample};
use super::load::Load;
use super::tap::Heard;
use super::{CLIENTS, RETRY, SERVERS, SLACK, TIMEOUT};
use crate::support::process::{Proxy, free_port};
use crate::support::{Hiccups, Waits};

/// The settings of every pool here, `more` behind them.
fn pool_file(port: u16, speaks: Speaks, more: &str, servers: &[SocketAddr]) -> String {
    let mut file = format!(
        "pool:\n  listen: 127.0.0.1:{port}\n  on_failure: {}\n  redis: {}\n  timeout: {}\n  server_failure_limit: 3\n  \
         server_retry_timeout: {}\n  auto_eject_hosts: true\n{more}  servers:\n",
        if speaks == (Speaks::Redis { errors: true }) { "error" } else { "miss" },
        speaks != Speaks::Memcached,
        TIMEOUT.as_millis(),
        RETRY.as_millis()
    );
    servers.iter().for_each(|server| file.push_str(&format!("    - {server}:1\n")));
    file
}

/// Has this thread, and all that it starts from here on, go before whatever else the machine does, where that may be set:
/// what is measured is the proxy, not a build next to it.
pub(super) fn go_first() {
    let thread = std::fs::read_link("/proc/thread-self").expect("this thread");
    let number = thread.file_name().expect("its number");
    let _ = Command::new("renice").args(["-n", "-10", "-p"]).arg(number).output();
}

/// A proxy before these servers, and keys of which the homes are known. `process` is what comes before the pool, `more` are
/// lines of the pool's own.
pub(super) fn set_up(process: &str, more: &str, servers: &[Server], clients: usize) -> (Proxy, Arc<Book>) {
    let speaks = servers[0].speaks;
    let port = free_port();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let proxy = Proxy::with_file(&format!("{process}{}", pool_file(port, speaks, more, &addresses)), port)
        .expect_log("server ejected")
        .expect_log("server broke the protocol");
    let names = Book::names(clients);
    let output = Command::new(env!("CARGO_BIN_EXE_softmiss"))
        .args(["route", "--json", "-c"])
        .arg(&proxy.file)
        .args(&names)
        .output()
        .expect("softmiss route");
    let homes = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| {
        let route: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        let home = addresses.iter().position(|address| route["address"] == address.to_string());
        (route["key"].as_str().expect("a key").to_owned(), home.expect("a server of the pool"))
    });
    let homes: Vec<_> = homes.collect();
    assert_eq!(homes.len(), names.len(), "{}", String::from_utf8_lossy(&output.stderr));
    (proxy, Arc::new(Book::new(speaks, homes, servers.len())))
}

/// The moment that a log line was written at, by the time of day in it (`2026-01-31T12:34:56.123456Z  WARN ...`).
pub(super) fn moment(line: &str) -> Instant {
    let part = |from: usize, to: usize| line.get(from..to).and_then(|part| part.parse::<u64>().ok()).expect(line);
    let micros = ((part(11, 13) * 60 + part(14, 16)) * 60 + part(17, 19)) * 1_000_000 + part(20, 26);
    let (wall, now) = (SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970"), Instant::now());
    let day = Duration::from_secs(24 * 3600);
    let since_midnight =
        Duration::from_secs(wall.as_secs() % day.as_secs()) + Duration::from_nanos(wall.subsec_nanos().into());
    let mut ago = since_midnight + day - Duration::from_micros(micros);
    if ago >= day {
        ago -= day;
    }
    now.checked_sub(ago).expect("after the start of the machine")
}

/// A time out of the ring: from when, and until when if it is over.
#[derive(Debug, Clone, Copy)]
struct Exile {
    from: Instant,
    to: Option<Instant>,
}

/// The times that a server was out of the ring.
fn exiles(proxy: &Proxy, server: &Server) -> Vec<Exile> {
    let mut exiles: Vec<Exile> = Vec::new();
    let name = format!("server=\"{}\"", server.address);
    for line in proxy.log().iter().filter(|line| line.contains(&name)) {
        if line.contains("server ejected") {
            exiles.push(Exile { from: moment(line), to: None });
        } else if line.contains("server restored") {
            exiles.last_mut().expect("it was ejected before").to = Some(moment(line));
        }
    }
    exiles
}

/// What a server heard while it was out of the ring: the number of probes, and the requests of clients.
///
/// What the network held back comes late, on a connection from before the ejection.
fn heard_in(exiles: &[Exile], server: &Server, hiccup: Duration, holds_packets_back: bool) -> (usize, Vec<Heard>) {
    // A line written down late is still one that was sent before the server was ejected.
    let grace = Duration::from_millis(20) + 2 * hiccup;
    let record = server.heard.lock().expect("record");
    let in_exile = record.iter().filter(|heard| {
        exiles.iter().any(|exile| {
            let held_back = holds_packets_back && heard.opened < exile.from;
            heard.at > exile.from + grace && exile.to.is_none_or(|to| heard.at < to) && !held_back
        })
    });
    // The proxy's own: probes, and invalidations before a server may serve again.
    let own = |line: &str| {
        ["version", "flush_all", "stats", "md ", "delete ", "PING", "SELECT", "DEL"]
            .iter()
            .any(|own| line.starts_with(own))
    };
    let others = in_exile.filter(|heard| !own(&heard.line)).cloned().collect();
    // The probe that ends an exile may be written down a little later than that.
    let ends_soon = |exile: &Exile, at| at > exile.from && exile.to.is_none_or(|to| at < to + grace);
    let is_probe = |heard: &&Heard| {
        ["version", "PING"].contains(&heard.line.as_str()) && exiles.iter().any(|exile| ends_soon(exile, heard.at))
    };
    (record.iter().filter(is_probe).count(), others)
}

/// Probes, and requests of clients, that a server heard while it was out of the ring; forgets all that it heard.
pub(super) fn take_heard(proxy: &Proxy, server: &Server) -> (usize, Vec<Heard>) {
    let heard = heard_in(&exiles(proxy, server), server, Duration::from_millis(40), false);
    server.heard.lock().expect("record").clear();
    heard
}

/// A row of the table of faults.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) speaks: Speaks,
    pub(super) fault: Fault,
    /// It happens to all servers at once, else to one of them.
    pub(super) all: bool,
    /// How long it lasts. A server that hangs is ejected after three timeouts.
    pub(super) span: Duration,
    /// The server must be ejected, and be back in time. Else it may be.
    pub(super) ejects: bool,
    /// Requests a second.
    pub(super) rate: u32,
    /// Further lines of the pool.
    pub(super) more: &'static str,
}

impl Row {
    /// To how many servers it happens.
    const fn stricken(self) -> usize {
        if self.all { SERVERS } else { 1 }
    }

    /// How long a get waits for others, at the most.
    fn waits(self) -> Duration {
        if self.more.contains("stampede: {wait: 100ms") { Duration::from_millis(100) } else { Duration::ZERO }
    }

    /// These, as bits.
    fn victims(self) -> u8 {
        (0..self.stricken()).fold(0, |bits, server| bits | 1 << server)
    }
}

/// What was seen.
struct Figures {
    ledger: Ledger,
    victims: u8,
    before: Instant,
    begun: Instant,
    over: Instant,
    well: Instant,
    /// Everybody is back from here on.
    back: Instant,
    exiles: Vec<Vec<Exile>>,
    /// What servers heard that were out of the ring, and was none of their business.
    stray: Vec<Heard>,
    probes: usize,
    /// The waits that the machine imposed.
    machine: Waits,
    longest_hiccup: Duration,
}

/// Plays a row. A noisy host can spoil one measurement of a 99th percentile, not all of them: the best of up to three
/// counts. If the machine stands still for a good part of the timeout, servers that are well do time out; then only what no
/// delay excuses is asserted, and the row is played again. All else must hold each time.
pub(super) fn play(row: Row) {
    play_on(row, Stage::of(row));
}

/// How long there is load when everybody is back. A server may have a fourteenth of the keys only, as the ring falls: in 200 ms
/// there were some four writes for it, and now and then none.
const BEHIND: Duration = Duration::from_millis(500);

/// As [`play`], on a stage that has been set already.
pub(super) fn play_on(row: Row, stage: Stage) {
    let mut stage = Some(stage);
    for attempt in 1.. {
        let figures = observe(row, stage.take().unwrap_or_else(|| Stage::of(row)));
        println!("{}", figures.line(row));
        figures.check_answers(row);
        if figures.longest_hiccup > TIMEOUT / 2 {
            assert!(attempt < 3, "the machine stood still for {:?}", figures.longest_hiccup);
            continue;
        }
        figures.check(row);
        // Who asks for a key that another client has missed, and never stores, waits for it.
        let allowed = figures.p99_allowed() + row.waits();
        if row.all || figures.p99_during() <= allowed {
            break;
        }
        let during = figures.p99_during();
        assert!(attempt < 3, "{row:?}: healthy shards take {during:?} during the fault, {allowed:?} allowed");
    }
}

/// Servers, the proxy before them, and what is known of the keys.
pub(super) struct Stage {
    servers: Vec<Server>,
    proxy: Proxy,
    book: Arc<Book>,
}

impl Stage {
    pub(super) fn of(row: Row) -> Self {
        go_first();
        // The first server, whatever its keys: the ring spreads them evenly enough.
        let servers: Vec<_> = (0..SERVERS)
            .map(|number| {
                if number < row.stricken() {
                    Server::before(row.speaks, row.fault)
                } else {
                    Server::plain(row.speaks, &[])
                }
            })
            .collect();
        let (proxy, book) = set_up("", row.more, &servers, CLIENTS);
        Self { servers, proxy, book }
    }
}

/// Has every key written before anything is judged: while everybody gets his memory, servers may be silent for longer than
/// the proxy waits. Nobody is told anything that is wrong, though.
fn rehearse(proxy: SocketAddr, book: &Arc<Book>, rate: u32) {
    (0..SERVERS).for_each(|server| book.suspect(server));
    let problems = Load::start(proxy, book, rate, 0).end().problems;
    assert!(problems.is_empty(), "before anything has happened: {problems:#?}");
    (0..SERVERS).for_each(|server| book.trust(server));
}

fn observe(row: Row, stage: Stage) -> Figures {
    go_first();
    let Stage { mut servers, proxy, book } = stage;
    let stricken = row.stricken();
    rehearse(proxy.address, &book, row.rate);
    let hiccups = Hiccups::watch();
    let shunned = if row.all { 0 } else { row.victims() };
    let load = Load::with_bystanders(proxy.address, &book, row.rate, 1, shunned);
    std::thread::sleep(Duration::from_millis(100));
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(900));
    (0..stricken).for_each(|server| book.suspect(server));
    let mut victims: Vec<_> = servers[..stricken].iter_mut().collect();
    let (begun, well) = inflict(row.fault, &mut victims, row.span);
    // Timeouts that began before it was well may still be counted against a server.
    std::thread::sleep(Duration::from_millis(if row.ejects { 50 } else { 600 }));
    while servers[..stricken].iter().any(|server| exiles(&proxy, server).last().is_some_and(|exile| exile.to.is_none()))
    {
        if well.elapsed() > RETRY * 5 {
            // What was promised is asserted below, with the figures.
            eprintln!("--- not all are back ---\n{}\n{}", proxy.statistics(), proxy.log().join("\n"));
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let back = Instant::now();
    std::thread::sleep(BEHIND);
    let ledger = load.end();
    check_balance(&proxy);
    let machine = hiccups.end();
    let longest_hiccup = machine.longest();
    if !ledger.problems.is_empty() {
        eprintln!("--- log of softmiss ---\n{}", proxy.log().join("\n"));
    }
    let (mut stray, mut probes, mut all_exiles) = (Vec::new(), 0, Vec::new());
    for server in &servers[..stricken] {
        let exiles = exiles(&proxy, server);
        let (own, others) = heard_in(&exiles, server, longest_hiccup, row.fault.holds_packets_back());
        probes += own;
        stray.extend(others);
        all_exiles.push(exiles);
    }
    Figures {
        ledger,
        victims: row.victims(),
        before,
        begun,
        over: well.min(begun + row.span),
        well,
        back,
        exiles: all_exiles,
        stray,
        probes,
        machine,
        longest_hiccup,
    }
}

impl Figures {
    fn p99_before(&self) -> Duration {
        self.ledger.p99(self.before, self.begun, self.victims, &self.machine)
    }

    /// Until the fault is over; that a fresh memcached takes time to start is nothing that the proxy does.
    fn p99_during(&self) -> Duration {
        self.ledger.p99(self.begun, self.over, self.victims, &self.machine)
    }

    fn p99_allowed(&self) -> Duration {
        self.p99_before().mul_f64(1.2) + Duration::from_micros(500) + self.p99_hiccup()
    }

    /// The 99th percentile of the waits that the machine imposed during the fault.
    fn p99_hiccup(&self) -> Duration {
        self.machine.p99(self.begun, self.over)
    }

    /// The last of the servers to be ejected, counted from the start of the fault; `None` if one never was.
    fn found_out(&self) -> Option<Duration> {
        let first = self.exiles.iter().map(|exiles| exiles.first().map(|exile| exile.from - self.begun));
        first.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The last of the servers to be restored, counted from when it was well; `None` if one is still out.
    fn restored(&self) -> Option<Duration> {
        let last = self.exiles.iter().filter_map(|exiles| exiles.last());
        let times = last.map(|exile| exile.to.map(|to| to.saturating_duration_since(self.well)));
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn line(&self, row: Row) -> String {
        let count = |outcome| self.ledger.count(outcome);
        let ms = |span: Duration| format!("{:.2}", span.as_secs_f64() * 1e3);
        let maybe = |span: Option<Duration>| span.map_or_else(|| "-".to_owned(), ms);
        let slowest = self.ledger.slowest();
        let healthy = if row.all {
            String::new()
        } else {
            let [before, during, waits] = [self.p99_before(), self.p99_during(), self.p99_hiccup()].map(ms);
            format!("healthy p99 {before} -> {during} ms (machine {waits}), ")
        };
        format!(
            "{:?}, {:?}, {} of {SERVERS}: {} requests, {} hits, {} misses, {} stored, {} not stored, {} errors, {} \
             disconnects, {} wrong, {} lapses of healthy shards, slowest {} ms at {:+.0} ms (machine {}), {healthy}ejected after {} ms, {} times, restored {} ms \
             after it was well; while out: {} probes, {} live requests",
            row.speaks,
            row.fault,
            if row.all { SERVERS } else { 1 },
            self.ledger.samples.len(),
            count(Outcome::Hit),
            count(Outcome::Miss),
            count(Outcome::Stored),
            count(Outcome::NotStored),
            count(Outcome::Error),
            count(Outcome::Disconnect),
            count(Outcome::Wrong),
            count(Outcome::Lapse),
            ms(slowest.took),
            1e3 * (slowest.start.duration_since(self.before).as_secs_f64()
                - self.begun.duration_since(self.before).as_secs_f64()),
            ms(self.longest_hiccup),
            maybe(self.found_out()),
            self.exiles.iter().map(Vec::len).sum::<usize>(),
            maybe(self.restored()),
            self.probes,
            self.stray.len(),
        )
    }

    /// What must hold on any machine.
    fn check_answers(&self, row: Row) {
        for never in [Outcome::Error, Outcome::Disconnect, Outcome::Wrong] {
            if never == Outcome::Error && row.speaks == (Speaks::Redis { errors: true }) {
                assert!(!row.ejects || self.ledger.count(never) > 0, "{row:?}: no failure was told");
                continue;
            }
            assert_eq!(self.ledger.count(never), 0, "{row:?}: {never:?}: {:#?}", self.ledger.problems);
        }
    }

    fn check(&self, row: Row) {
        let problems = &self.ledger.problems;
        assert!(problems.is_empty(), "{row:?}: {:#?}", &problems[..problems.len().min(10)]);
        // A request and its answer pass two programs, each of which the machine may keep waiting.
        let slack = SLACK + 2 * self.longest_hiccup;
        let slowest = self.ledger.slowest().took;
        assert!(slowest <= TIMEOUT + slack, "{row:?}: a request took {slowest:?}");
        assert!(self.stray.is_empty(), "{row:?}: sent to a server that is out of the ring: {:#?}", self.stray);
        if row.ejects {
            assert!(self.found_out().is_some(), "{row:?}: not ejected");
            let writes_down = row.speaks == Speaks::Memcached || row.fault.is_tapped();
            assert!(self.probes > 0 || !writes_down, "{row:?}: what servers hear is not written down");
        }
        let restored = self.exiles.iter().all(|exiles| exiles.last().is_none_or(|exile| exile.to.is_some()));
        assert!(restored, "{row:?}: still out of the ring {:?} after it was well", RETRY * 5);
        // One that flaps may be ejected at any time, and so wait a little longer for its next probe.
        if let Some(restored) = self.restored()
            && row.fault != Fault::Flapping
        {
            assert!(restored <= RETRY + Duration::from_secs(1) + 2 * self.longest_hiccup, "{row:?}: {restored:?}");
        }
        let writes = |outcome| {
            let late = |sample: &&Sample| sample.start > self.back && sample.homes & self.victims != 0;
            self.ledger.samples.iter().filter(late).filter(|sample| sample.outcome == outcome).count()
        };
        let (stored, refused) = (writes(Outcome::Stored), writes(Outcome::NotStored));
        assert!(stored > 0 && refused == 0, "{row:?}: back, but stored {stored} times and {refused} times not");
    }
}

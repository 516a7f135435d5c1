//! What the demo shows: a table that is drawn again in place, or a line a second where there is no terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::load::Seen;
use super::node::{Condition, Node};
use crate::config::model::{PoolId, ServerId};
use crate::health::Registry;
use crate::health::tracker::State;
use crate::io::terminal::say;

/// What the figure means.
const WHY_NOT_STORED: &str = "Not stored: sets whose node had just failed; once it is out of service, the\n\
                              other nodes take its keys. To the application it is one more miss, no error.";

/// Draws the demo.
pub(super) struct Table {
    in_place: bool,
    drawn: bool,
    requests: u64,
    /// The latest deeds of the monkey, newest last.
    deeds: Vec<String>,
}

/// What is drawn.
pub(super) struct View<'a> {
    pub(super) elapsed: Duration,
    pub(super) nodes: &'a [Node],
    pub(super) registry: &'a Registry,
    pub(super) seen: &'a Seen,
}

/// Deeds that are shown.
const DEEDS: usize = 3;

/// The terminal that a drawing and what is said before it fit into.
const WIDTH: u16 = 80;
const HEIGHT: u16 = 24;

impl Table {
    pub(super) fn new() -> Self {
        let fits =
            || ratatui::crossterm::terminal::size().is_ok_and(|(width, height)| width >= WIDTH && height >= HEIGHT);
        Self { in_place: std::io::stdout().is_terminal() && fits(), drawn: false, requests: 0, deeds: Vec::new() }
    }

    /// Remembers a deed of the monkey.
    pub(super) fn tell(&mut self, elapsed: Duration, deed: &str) {
        let line = format!("{:>4} s  {deed}", elapsed.as_secs());
        if !self.in_place {
            say(&format!("{line}\n"));
        }
        if self.deeds.len() == DEEDS {
            self.deeds.remove(0);
        }
        self.deeds.push(line);
    }

    /// Draws what has come of the last second.
    pub(super) fn draw(&mut self, view: &View<'_>) {
        let seen = view.seen;
        let requests = seen.requests.load(Relaxed);
        let rate = requests - std::mem::replace(&mut self.requests, requests);
        if !self.in_place {
            say(&format!(
                "{:>4} s  {rate}/s  hits {}  misses {}  not stored {}  errors {}  wrong {}\n",
                view.elapsed.as_secs(),
                seen.hits.load(Relaxed),
                seen.misses.load(Relaxed),
                seen.not_stored.load(Relaxed),
                seen.errors.load(Relaxed),
                seen.wrong.load(Relaxed),
            ));
            return;
        }
        let mut out = String::new();
        if std::mem::replace(&mut self.drawn, true) {
            let _ = write!(out, "\x1b[{}A", self.height(view));
        }
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}\x1b[K");
        };
        line(format!("  {:<10} {:<22} {:<12} {}", "node", "is", "in service", "items"));
        for (index, node) in (0u16..).zip(view.nodes) {
            let (colour, is) = match node.condition() {
                Condition::Well => ("32", "well"),
                Condition::Hung => ("33", "hung: answers nothing"),
                Condition::Dead => ("31", "dead"),
            };
            let state = view.registry.state(PoolId(0), ServerId(index));
            let state = if let State::Up { .. } = state { "yes" } else { "no" };
            line(format!("  {:<10} \x1b[{colour}m{is:<22}\x1b[0m {state:<12} {}", node.name, node.items()));
        }
        line(String::new());
        let bad = |count: u64| if count == 0 { "32" } else { "31" };
        let (errors, wrong) = (seen.errors.load(Relaxed), seen.wrong.load(Relaxed));
        line(format!(
            "  {rate:>6} requests/s     {:>9} hits     {:>9} misses",
            seen.hits.load(Relaxed),
            seen.misses.load(Relaxed)
        ));
        line(format!(
            "  \x1b[{}m{errors:>6} errors\x1b[0m         \x1b[{}m{wrong:>9} wrong\x1b[0m    {:>9} not stored",
            bad(errors),
            bad(wrong),
            seen.not_stored.load(Relaxed)
        ));
        WHY_NOT_STORED.lines().for_each(|text| line(format!("  {text}")));
        line(format!(
            "  latency: half below {}, 99 % below {}, slowest {}",
            latency(seen.percentile(0.5)),
            latency(seen.percentile(0.99)),
            latency(seen.slowest_us.load(Relaxed))
        ));
        line(String::new());
        for index in 0..DEEDS {
            let deed = self.deeds.get(index).map_or("", String::as_str);
            let (on, off) = if index + 1 == self.deeds.len() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            line(format!("  {on}{deed}{off}"));
        }
        say(&out);
    }

    /// Lines of a drawing.
    fn height(&self, view: &View<'_>) -> usize {
        view.nodes.len() + 6 + WHY_NOT_STORED.lines().count() + DEEDS
    }
}

/// The end of it.
pub(super) fn summary(view: &View<'_>, deeds: u64) -> String {
    let seen = view.seen;
    let load = |cell: &std::sync::atomic::AtomicU64| cell.load(Relaxed);
    let mut out = format!(
        "\nIn {} s the monkey did {deeds} things. The application made {} requests:\n\
         {} hits, {} misses, {} sets not stored, {} errors, {} wrong values.\n{WHY_NOT_STORED}\n\
         Latency: half below {}, 99 % below {}, slowest {}.\n",
        view.elapsed.as_secs(),
        load(&seen.requests),
        load(&seen.hits),
        load(&seen.misses),
        load(&seen.not_stored),
        load(&seen.errors),
        load(&seen.wrong),
        latency(seen.percentile(0.5)),
        latency(seen.percentile(0.99)),
        latency(load(&seen.slowest_us)),
    );
    if let Some(error) = seen.first_error.lock().ok().and_then(|error| error.clone()) {
        let _ = writeln!(out, "The first error was: {error}");
    }
    out
}

fn latency(micros: u64) -> String {
    if micros < 1000 { format!("{micros} µs") } else { format!("{}.{} ms", micros / 1000, micros % 1000 / 100) }
}

//! What has been found: the answers of all sources that were believed, and what is wrong with the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::{look, settled};
use crate::config::diagnostic::Report;
use crate::config::discovery::{Answer, Found, Source, Terms, expand, sources};
use crate::config::model::{Address, Config, Server};
use crate::io::clock::Clock;
use crate::io::log::tell_report;
use crate::io::terminal::counted;
use crate::time::Instant;

/// A source that fails now and then is told of once in so long.
const TELL_PERIOD: Duration = Duration::from_secs(60);

/// Servers whose names are told.
const MOST_NAMES: usize = 10;

/// What a source said when it was asked.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) answer: Answer,
    /// Which of its answers it is, where it counts them.
    pub(super) version: u64,
    /// It has been seen to be quiet, and need not be seen twice.
    pub(super) is_settled: bool,
}

/// Why nothing was learned of a source.
#[derive(Debug)]
pub(super) enum Failed {
    /// In one sentence.
    Because(String),
    /// A file has problems.
    File(Box<Report>),
}

/// What is known after a source was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// Nothing yet.
    Unknown,
    /// What holds; but it said something else, which is to be seen again.
    Unsettled,
    /// What holds.
    Known,
}

/// What is to be counted and told.
#[derive(Debug, Default)]
pub(in crate::io) struct News {
    /// Times that nothing was learned.
    pub(in crate::io) failures: u64,
    /// Answers that changed which servers there are.
    pub(in crate::io) changes: u64,
    /// Sources of which nothing was learned the last time.
    pub(in crate::io) failing: u64,
    /// Sentences, each with whether it is trouble.
    pub(in crate::io) texts: Vec<(bool, String)>,
}

/// Who has what was found taken up, and told.
pub(in crate::io) trait TakesUp: Clone + Send + 'static {
    /// What has been found is not what is in force. Whether it is now, or is not to be, or else why not; that is told only where
    /// it is not what it `was` the last time.
    fn take_up_found(&self, was: Option<&str>) -> Result<(), String>;

    /// This has happened since the last time.
    fn report(&self, news: News);
}

/// A source.
#[derive(Debug, Default)]
struct Known {
    answer: Option<Answer>,
    /// The version of that, and of what it said last.
    version: u64,
    last_version: u64,
    /// What it said last.
    last: Option<Answer>,
    was_asked: bool,
    /// It failed when it was asked last; whether that has been told.
    fails: Option<bool>,
    told_at: Option<Instant>,
    again: Arc<Notify>,
}

/// That a source is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) terms: Terms,
    /// From when on.
    since: Instant,
    /// No other time that this or another source was wanted has it.
    pub(super) number: u64,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeMap<Source, Wanted>,
    /// Number of the newest of all that was ever wanted.
    newest: u64,
    /// Why nobody is asked at present.
    stopped: Option<String>,
    stop_told_at: Option<Instant>,
    known: BTreeMap<Source, Known>,
    has_changed: bool,
    news: News,
}

impl State {
    fn found(&self) -> Found {
        let answered = |(source, known): (&Source, &Known)| Some((source.clone(), known.answer.clone()?));
        self.known.iter().filter_map(answered).collect()
    }
}

/// What has been found. Everybody may ask for it; none of them waits for a source, but who says so.
#[derive(Debug)]
pub(crate) struct Discovered {
    state: Mutex<State>,
    /// Something was asked for the first time, or another is wanted, or nobody wants any more.
    moved: Condvar,
    stirred: Notify,
    ended: AtomicBool,
    clock: Clock,
}

impl Default for Discovered {
    fn default() -> Self {
        let (state, moved, stirred) = (Mutex::default(), Condvar::new(), Notify::new());
        Self { state, moved, stirred, ended: AtomicBool::new(false), clock: Clock::start() }
    }
}

impl Discovered {
    /// What the servers of these configurations are found by is asked for from here on, and nothing else; what is known of
    /// others is forgotten.
    pub(crate) fn want(&self, configs: &[&Config]) {
        self.want_with(&mut self.lock(), configs);
    }

    fn want_with(&self, state: &mut State, configs: &[&Config]) {
        let (found, now) = (state.found(), self.clock.now());
        let before = std::mem::take(&mut state.wanted);
        for (source, terms) in configs.iter().rev().flat_map(|config| sources(config, &found)) {
            let wanted = before.get(&source).map(|wanted| Wanted { terms, ..*wanted }).unwrap_or_else(|| {
                state.newest += 1;
                Wanted { terms, since: now, number: state.newest }
            });
            state.wanted.insert(source, wanted);
        }
        state.known.retain(|source, _| state.wanted.contains_key(source));
        self.moved.notify_all();
        self.stirred.notify_one();
    }

    /// As [`Discovered::want`]; waits until everybody has been asked who knows of further servers. Nobody is waited for who
    /// has been asked for longer than the limit.
    pub(crate) fn want_at_once(&self, configs: &[&Config], limit: Duration) {
        let mut state = self.lock();
        loop {
            self.want_with(&mut state, configs); // one answer may name others to be asked
            let was_asked = |source: &Source| state.known.get(source).is_some_and(|known| known.was_asked);
            let open = state.wanted.iter().filter(|(source, _)| source.has_servers() && !was_asked(source));
            let until = open.map(|(_, wanted)| wanted.since + limit).max();
            let remainder = until.map(|until| until.since(self.clock.now())).unwrap_or_default();
            if remainder.is_zero() || self.has_ended() {
                return;
            }
            state = self.moved.wait_timeout(state, remainder).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has the pools of a configuration have the servers that are known.
    pub(crate) fn expand(&self, config: &mut Config) {
        let found = self.lock().found();
        for pool in &mut config.pools {
            if expand(pool, &found) {
                let servers = pool.servers.len();
                warn!(
                    pool = pool.name,
                    servers, "the pool has as many servers as it can have, further ones are left out"
                );
            }
        }
    }

    /// The addresses that a name is known to stand for, and whether it could not be looked up the last time.
    pub(crate) fn addresses(&self, host: &str) -> (Vec<IpAddr>, bool) {
        match self.lock().known.get(&Source::Name(host.to_owned())) {
            Some(Known { answer: Some(Answer::Addresses { at, .. }), fails, .. }) => (at.clone(), fails.is_some()),
            _ => (Vec::new(), false),
        }
    }

    /// Somebody who was to connect has looked a name up of which nothing was known. What they connect to is what holds: if it
    /// is another when the name is looked up here, it has moved.
    #[cold]
    pub(crate) fn learn(&self, host: &str, found: &[SocketAddr]) {
        let mut state = self.lock();
        let source = Source::Name(host.to_owned());
        let is_of_link = found.iter().any(|at| look::is_of_link(&at.ip()));
        if found.is_empty() || is_of_link || !state.wanted.contains_key(&source) {
            return;
        }
        let known = state.known.entry(source).or_default();
        if known.answer.is_none() {
            let at = found.iter().map(|at| at.ip().to_canonical()).collect();
            known.answer = Some(Answer::Addresses { at, is_moved: false });
            known.last.clone_from(&known.answer);
        }
    }

    /// A server could not be reached: whoever has said that it is there is asked again.
    #[cold]
    pub(crate) fn doubt(&self, address: &Address) {
        let (Address::Tcp { host, .. } | Address::Found { host, .. }) = address else { return };
        let is_there = |server: &Server| server.address == *address || server.name == *host;
        for (source, known) in &self.lock().known {
            let is_its = match (source, &known.answer) {
                (Source::Name(name), _) => name == host,
                (_, Some(Answer::Servers(servers))) => servers.iter().any(is_there),
                _ => false,
            };
            if is_its {
                known.again.notify_one();
            }
        }
    }

    /// The process ends.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        drop(self.lock()); // who looks and then waits, waits by now
        self.moved.notify_all();
        self.stirred.notify_one();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Until there is something to be asked; false when there never will be.
    pub(super) fn wait_until_wanted(&self) -> bool {
        let is_idle = |state: &mut State| state.wanted.is_empty() && !self.has_ended();
        drop(self.moved.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner));
        !self.has_ended()
    }

    pub(super) fn wanted(&self) -> BTreeMap<Source, Wanted> {
        self.lock().wanted.clone()
    }

    /// Nobody is asked, for a reason that has nothing to do with whom: what was known last stays in force.
    #[cold]
    pub(in crate::io) fn has_stopped(&self, why: &str) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.stopped = Some(why.to_owned());
        if state.stop_told_at.is_none_or(|told| now.since(told) >= TELL_PERIOD) {
            state.stop_told_at = Some(now);
            error!(why, "servers are not looked for at present, what was known last stays in force");
            state.news.texts.push((true, format!("servers are not looked for at present: {why}")));
        }
    }

    /// Those that are wanted are asked from here on. What was found before may not have been taken up.
    pub(super) fn goes_on(&self) {
        let mut state = self.lock();
        state.has_changed = true;
        if state.stopped.take().is_some() {
            state.news.texts.push((false, "servers are looked for again".to_owned()));
        }
    }

    /// Why nobody is asked at present where servers are, if so.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.lock().stopped.clone()
    }

    /// Until something has happened that the thread is to know of.
    pub(super) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// What is notified when a source is to be asked sooner.
    pub(super) fn again(&self, source: &Source) -> Arc<Notify> {
        self.lock().known.get(source).map(|known| Arc::clone(&known.again)).unwrap_or_default()
    }

    /// Whether what is found is not as it was at the last time.
    pub(super) fn take_change(&self) -> bool {
        std::mem::take(&mut self.lock().has_changed)
    }

    pub(super) fn take_news(&self) -> News {
        let mut state = self.lock();
        let failing = state.known.values().filter(|known| known.fails.is_some()).count() as u64;
        News { failing, ..std::mem::take(&mut state.news) }
    }

    /// A source was asked, and this came of it. `number` is that by which it was wanted then ([`Wanted`]): if it is wanted by
    /// another since, it is not known any more what was known of it, and it has not been asked yet.
    pub(super) fn note(&self, source: &Source, number: u64, look: Result<Look, Failed>) -> Noted {
        let now = self.clock.now();
        let mut locked = self.lock();
        let State { wanted, known, has_changed, news, .. } = &mut *locked;
        if wanted.get(source).is_none_or(|wanted| wanted.number != number) {
            return Noted::Unknown;
        }
        let known = known.entry(source.clone()).or_default();
        known.was_asked = true;
        let before = known.version;
        let look = look.and_then(|look| match look.version {
            version if version < before => {
                Err(Failed::Because(format!("its version {version} is older than {before}, which it had before")))
            }
            _ => Ok(look),
        });
        let (noted, report) = match look {
            Err(failed) => known.fail(source, failed, news, now),
            Ok(look) => (known.take(source, look, news, has_changed), None),
        };
        drop(locked); // who connects waits for it, and not until all of a report is told
        report.iter().for_each(|report| tell_report(report));
        self.moved.notify_all();
        self.stirred.notify_one();
        noted
    }

    /// A panic elsewhere leaves it valid: each answer is replaced as a whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// It was asked in vain. What is known, and what of the reason is still to be told.
    fn fail(&mut self, source: &Source, failed: Failed, news: &mut News, now: Instant) -> (Noted, Option<Box<Report>>) {
        let noted = if self.answer.is_some() { Noted::Known } else { Noted::Unknown };
        news.failures += 1;
        let is_due = self.told_at.is_none_or(|told| now.since(told) >= TELL_PERIOD);
        let was_told = self.fails.unwrap_or(false);
        self.fails = Some(was_told || is_due);
        if !is_due || was_told {
            return (noted, None);
        }
        self.told_at = Some(now);
        let (reason, report) = match failed {
            Failed::Because(reason) => (reason, None),
            Failed::File(report) => (counted(report.errors(), "problem") + " in it", Some(report)),
        };
        let kept = self.answer.as_ref().map_or("nothing is known", |_| "what was known last stays in force");
        warn!(%source, reason, kept, "servers cannot be looked up");
        news.texts.push((true, format!("{source} does not say where servers are: {reason}; {kept}")));
        (noted, report)
    }

    fn take(&mut self, source: &Source, mut look: Look, news: &mut News, has_changed: &mut bool) -> Noted {
        // Who lists the same servers in another order says the same. That of a file is what its reader chose.
        if let Answer::Servers(servers) = &mut look.answer
            && !look.is_settled
        {
            servers.sort_by(|one, other| one.name.cmp(&other.name));
            servers.dedup_by(|one, other| one.name == other.name);
        }
        if self.fails.take() == Some(true) {
            info!(%source, "servers can be looked up again");
            news.texts.push((false, format!("{source} says again where servers are")));
        }
        // As everything else, a version has to be seen twice: one that is made up would make all others old.
        if self.answer.is_none() || self.last_version == look.version {
            self.version = look.version;
        }
        self.last_version = look.version;
        let next = match (&self.answer, &self.last) {
            (Some(known), Some(last)) if !look.is_settled => settled::settled(known, last, &look.answer),
            _ => look.answer.clone(),
        };
        let is_settled = settled::agrees(&next, &look.answer);
        self.last = Some(look.answer);
        if self.answer.as_ref() != Some(&next) {
            // That a name stands for something at all is no news: who connected before has looked it up as well.
            if self.answer.is_some() || source.has_servers() {
                info!(%source, before = told(self.answer.as_ref()), after = told(Some(&next)), "servers found");
                (news.changes, *has_changed) = (news.changes + 1, true);
            }
            self.answer = Some(next);
        }
        if is_settled { Noted::Known } else { Noted::Unsettled }
    }
}

/// An answer in words.
fn told(answer: Option<&Answer>) -> String {
    let (count, mut names): (usize, Vec<String>) = match answer {
        None => return "nothing known".to_owned(),
        Some(Answer::Addresses { at, .. }) => (at.len(), at.iter().take(MOST_NAMES).map(IpAddr::to_string).collect()),
        Some(Answer::Servers(servers)) => {
            let of = |server: &Server| {
                let (name, address) = (&server.name, server.address.to_string());
                if address.starts_with(name.as_str()) { name.clone() } else { format!("{name} ({address})") }
            };
            (servers.len(), servers.iter().take(MOST_NAMES).map(of).collect())
        }
    };
    if count > MOST_NAMES {
        names.push(format!("and {} more", count - MOST_NAMES));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests;

//! Another configuration for a running process: read, checked, and taken up as a whole or not at all.
//!
//! What can fail is done first: the file is read, new listeners are bound. Then the next topology is published, and from
//! there on nothing fails. Each worker goes over to it at its next event; the first one has the listeners.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use thiserror::Error;
use tracing::{error, info, warn};

use super::discovery::state::{News, TakesUp};
use super::events::PROXY;
use super::inherited::Inherited;
use super::listener::{self, Bound, Entrance, Entrances, NotListening};
use super::listening::{Place, set_mode};
use super::log::tell_report;
use super::mailbox::Message;
use super::operator::Operator;
use super::socket_file;
use super::terminal::counted;
use super::watch::FileState;
use crate::config::Loaded;
use crate::config::diagnostic::Report;
use crate::config::discovery::has_nobody;
use crate::config::model::{Config, Listen, Pool, Port};
use crate::config::overlap;
use crate::config::roster::{is_at, partners};
use crate::topology::{Changes, Fate, Topology};

/// Who wants a configuration taken up for what was found.
const DISCOVERY: &str = "discovery";

/// Changes that are told one by one. Beyond these, how many there are.
const MOST_TOLD: usize = 50;

/// How long the worker that has the listeners may take to go over to others.
const FOLLOW_LIMIT: Duration = Duration::from_secs(2);

/// How long those are waited for who know of servers that the file does not list.
pub(super) const FIND_LIMIT: Duration = Duration::from_secs(1);

/// What a configuration is read from: as at the start, with what the command line says on top.
type Load = dyn Fn() -> Result<Loaded, Box<Report>> + Send + Sync;

/// Where the configuration comes from.
pub struct Source {
    path: PathBuf,
    load: Box<Load>,
    /// What the file was when it was last read.
    read: Mutex<Option<FileState>>,
}

impl Source {
    /// That of a file, which `load` reads.
    pub fn new(path: PathBuf, load: impl Fn() -> Result<Loaded, Box<Report>> + Send + Sync + 'static) -> Self {
        Self { path, load: Box::new(load), read: Mutex::default() }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file is now, and what it was when it was last read.
    pub(super) fn states(&self) -> [Option<FileState>; 2] {
        [FileState::of(&self.path), *self.read.lock().unwrap_or_else(PoisonError::into_inner)]
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// Every problem of the file at once.
    pub fn load(&self) -> Result<Loaded, Box<Report>> {
        // Before it is read: what changes it meanwhile makes it another.
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = FileState::of(&self.path);
        (self.load)()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

/// Why a configuration was not taken up. The one before is in force as it was.
#[derive(Debug, Error)]
pub enum Refused {
    /// The process was started without a file.
    #[error("this process was started without a configuration file")]
    NoFile,
    /// The file is not right.
    #[error("{0}")]
    File(Box<Report>),
    /// A pool's address cannot be listened on.
    #[error("{0}: {source}", source = .0.source)]
    Listen(NotListening),
    /// A pool would have none of the servers that it has, and none yet of those that it is to have.
    #[error("pool {pool}: it is not known which servers it has, {sought} has not said so")]
    Nobody {
        /// The pool.
        pool: String,
        /// What was asked for them.
        sought: String,
    },
    /// The process ends.
    #[error("this process ends, and takes up nothing more")]
    Ending,
    /// Another process has taken over.
    #[error("another process takes over, and has read the file: say it again, to that one")]
    Succeeded,
    /// Too many servers have come and gone.
    #[error("65,535 servers of a pool, or pools, have come and gone since the start: only a restart can take up more")]
    Full,
}

impl Operator {
    /// The file of the configuration, if there is one.
    pub(crate) fn source(&self) -> Option<&Source> {
        self.source.as_deref()
    }

    /// Reads the configuration again and takes it up. `by` is who wants it. It is told in the log and among the events.
    ///
    /// # Errors
    ///
    /// Why it is not taken up; nothing has changed then. That is told as well.
    pub fn reload(&self, by: &str) -> Result<Changes, Refused> {
        let _turn = self.listening.turn(); // one after the other
        if self.upgrade.has_successor() {
            return Err(Refused::Succeeded);
        }
        let counters = Arc::clone(&self.observed.topology().counters[0]);
        let result = self.try_reload(by);
        match &result {
            Ok(changes) => {
                counters.reloads.add(1);
                counters.reload_refused.set(0);
                self.tell_changes(changes, by);
            }
            Err(refused) => {
                counters.reloads_refused.add(1);
                counters.reload_refused.set(1);
                self.tell_refusal(refused, by);
            }
        }
        result
    }

    fn try_reload(&self, by: &str) -> Result<Changes, Refused> {
        let Loaded { config: mut next, warnings, .. } =
            self.source.as_ref().ok_or(Refused::NoFile)?.load().map_err(Refused::File)?;
        tell_report(&warnings);
        let mut listening = self.listening.lock();
        let before = self.observed.topology();
        // What the file does not say is as it was found out at the start.
        let settings = &before.config.settings;
        for (port, was) in [(&mut next.settings.stats, settings.stats), (&mut next.settings.admin, settings.admin)] {
            if *port == Port::Unsaid {
                *port = was;
            }
        }
        self.discovered.want_at_once(&[&next, &before.config], FIND_LIMIT);
        self.discovered.expand(&mut next);
        let result = self.take_up(&before, &next, &mut listening, by);
        self.discovered.want(&[&self.observed.topology().config]);
        result
    }

    /// Has another configuration in force, with the servers that are known.
    fn take_up(
        &self,
        before: &Topology,
        next: &Config,
        listening: &mut Vec<Place>,
        by: &str,
    ) -> Result<Changes, Refused> {
        if self.listening.ended.load(Ordering::Acquire) {
            return Err(Refused::Ending);
        }
        let settings = &before.config.settings;
        let changes = Changes::between(&before.config, next);
        if changes.is_empty() && lists_the_same(&before.config, next) {
            return Ok(changes);
        }
        has_somebody(before, next)?;
        let bound = bind(&before.config, next, listening, &self.listening.inherited)?;
        let Ok(topology) = self.observed.published.publish(next, self.observed.clock.now()) else {
            bound.into_iter().filter_map(|(_, bound)| bound).for_each(listener::close);
            return Err(Refused::Full);
        };
        self.observed.files.foresee(&topology.config);
        let entrances = move_in(&topology, bound, listening);
        self.listening.inherited.tell_left(&topology.config, Some(&before.config));
        if let Some(log) = &self.log
            && settings.log.level != topology.config.settings.log.level
        {
            log.set(topology.config.settings.log.level, by);
        }
        let (waits, done) = mpsc::channel();
        let mut entrances = Some(Box::new(Entrances { waits: Some(waits), ..entrances }));
        for worker in self.workers.iter() {
            worker.tell(Message::Topology(entrances.take())); // one that has ended has nothing to do
        }
        if let Some(keeper) = &self.keeper {
            keeper.look(); // who has left is remembered
        }
        // What is closed is free for the next reload only then. That it takes so long has been told by others.
        let _ = done.recv_timeout(FOLLOW_LIMIT);
        Ok(changes)
    }

    fn tell_changes(&self, changes: &Changes, by: &str) {
        let topology = self.observed.topology();
        if changes.is_empty() {
            return info!(by, digest = &*topology.digest, "configuration read again, nothing has changed");
        }
        info!(by, digest = &*topology.digest, version = topology.version, "configuration reloaded");
        let text = changes.to_string();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().take(MOST_TOLD).for_each(|change| info!(change, "configuration changed"));
        if lines.len() > MOST_TOLD {
            info!(changes = lines.len() - MOST_TOLD, "configuration changed in further places");
        }
        for (pool, option) in changes.fixed() {
            warn!(pool, option = option.name, "this option is not changed by a reload");
        }
        for pool in &changes.pools {
            let text = match &pool.fate {
                Fate::Added(servers) => format!("pool added, with {} ({by})", counted(*servers, "server")),
                Fate::Removed => format!("pool removed, its clients are let go ({by})"),
                Fate::Changed { options, servers, moved, .. } => {
                    let (options, servers) = (counted(options.len(), "option"), counted(servers.len(), "server"));
                    let elsewhere = |moved: f64| format!(", {:.1} % of the keys belong elsewhere", moved * 100.0);
                    let moved = moved.filter(|moved| *moved > 0.0).map(elsewhere).unwrap_or_default();
                    format!("configuration reloaded: {options} and {servers} changed{moved} ({by})")
                }
            };
            self.tell(&pool.name, PROXY, false, text);
        }
        if !changes.process.is_empty() {
            self.tell(
                PROXY,
                PROXY,
                false,
                format!("configuration reloaded: {} changed ({by})", counted(changes.process.len(), "option")),
            );
        }
    }

    fn tell_refusal(&self, refused: &Refused, by: &str) {
        let reason = match refused {
            Refused::File(report) => {
                tell_report(report);
                format!("{} in {}", counted(report.errors(), "problem"), report.name)
            }
            Refused::NoFile
            | Refused::Listen(_)
            | Refused::Nobody { .. }
            | Refused::Ending
            | Refused::Succeeded
            | Refused::Full => refused.to_string(),
        };
        error!(by, reason, "configuration refused, the one before stays in force");
        self.tell(PROXY, PROXY, true, format!("configuration refused: {reason} ({by})"));
    }
}

/// Whether the pools of two files that do not differ otherwise list the same servers, which others may list now.
fn lists_the_same(before: &Config, next: &Config) -> bool {
    let listed = |pool: &Pool| -> Vec<_> {
        pool.listed().iter().map(|server| (server.name.clone(), server.address.clone(), server.weight)).collect()
    };
    before.pools.iter().map(listed).eq(next.pools.iter().map(listed))
}

/// A pool that has servers has some afterwards.
fn has_somebody(before: &Topology, next: &Config) -> Result<(), Refused> {
    let old: Vec<&Pool> = before.config.pools.iter().collect();
    for (pool, partner) in next.pools.iter().zip(partners(&old, &next.pools)) {
        if has_nobody(pool) && partner.is_some_and(|partner| !has_nobody(old[partner])) {
            let sought = pool.servers[0].address.to_string();
            return Err(Refused::Nobody { pool: pool.name.clone(), sought });
        }
    }
    Ok(())
}

impl TakesUp for Operator {
    /// What has been found is not what is in force: the same configuration is taken up with the servers that it has by that.
    fn take_up_found(&self, was: Option<&str>) -> Result<(), String> {
        let mut listening = self.listening.lock();
        let before = self.observed.topology();
        let mut next = before.config.clone();
        self.discovered.expand(&mut next);
        let result = self.take_up(&before, &next, &mut listening, DISCOVERY);
        self.discovered.want(&[&self.observed.topology().config]);
        match result {
            Ok(changes) if changes.is_empty() => Ok(()),
            Ok(changes) => {
                self.tell_changes(&changes, DISCOVERY);
                Ok(())
            }
            Err(Refused::Ending) => Ok(()),
            Err(refused) => {
                let reason = refused.to_string();
                if was != Some(&reason) {
                    error!(by = DISCOVERY, reason, "servers that were found cannot be taken up");
                    self.tell(PROXY, PROXY, true, format!("servers that were found cannot be taken up: {reason}"));
                }
                Err(reason)
            }
        }
    }

    fn report(&self, news: News) {
        let counters = Arc::clone(&self.observed.topology().counters[0]);
        counters.discovery_failures.add(news.failures);
        counters.discovery_changes.add(news.changes);
        counters.discovery_failing.set(news.failing);
        news.texts.into_iter().for_each(|(is_trouble, text)| self.tell(PROXY, PROXY, is_trouble, text));
    }
}

/// Binds what is not bound yet, for each pool.
fn bind<'a>(
    before: &Config,
    config: &'a Config,
    listening: &[Place],
    inherited: &Inherited,
) -> Result<Vec<(&'a Pool, Option<Bound>)>, Refused> {
    let mut all = Vec::with_capacity(config.pools.len());
    let partners = partners(&before.pools.iter().collect::<Vec<_>>(), &config.pools);
    for (pool, partner) in config.pools.iter().zip(partners) {
        let is_bound = listening.iter().any(|place| is_at(&place.listen, &pool.listen));
        // A pool that stays keeps this option.
        let reuseport = partner.map_or(pool.reuseport, |partner| before.pools[partner].reuseport);
        let asked = || Pool { reuseport, ..pool.clone() };
        match (!is_bound).then(|| bind_one(&asked(), listening, inherited)).transpose() {
            Ok(bound) => all.push((pool, bound)),
            Err(source) => {
                all.into_iter().filter_map(|(_, bound)| bound).for_each(listener::close);
                return Err(Refused::Listen(NotListening::at(pool, source)));
            }
        }
    }
    Ok(all)
}

/// Binds the listener of a pool, with what was handed over, or anew. A listener that the address is to replace is in its way, as
/// `127.0.0.1:P` is in that of `0.0.0.0:P`, and cannot be closed yet: the next pool may be refused.
fn bind_one(pool: &Pool, listening: &[Place], inherited: &Inherited) -> std::io::Result<Bound> {
    if let Some(bound) = inherited.of_pool(pool) {
        return Ok(bound);
    }
    if let Listen::Tcp { address, .. } = &pool.listen
        && inherited.is_in_the_way(*address)
    {
        let text = "a part of it is a socket that the process was started with, which its manager keeps open: say the same to it";
        return Err(std::io::Error::new(ErrorKind::AddrInUse, text));
    }
    let result = listener::bind(pool);
    let (Listen::Tcp { address, .. }, Err(ErrorKind::AddrInUse)) =
        (&pool.listen, result.as_ref().map_err(|error| error.kind()))
    else {
        return result;
    };
    let is_in_the_way =
        |place: &&Place| matches!(&place.listen, Listen::Tcp { address: at, .. } if overlap(*at, *address));
    let leaving: Vec<_> = listening.iter().filter(is_in_the_way).filter_map(|place| place.tcp.upgrade()).collect();
    if leaving.is_empty() { result } else { listener::bind_beside(pool, &leaving) }
}

/// Where the clients of each pool come in from here on: where they came in, or where those of another pool did, or by a new
/// way.
fn move_in(topology: &Arc<Topology>, bound: Vec<(&Pool, Option<Bound>)>, listening: &mut Vec<Place>) -> Entrances {
    let mut before = std::mem::take(listening);
    let mut ways = Vec::new();
    for (pool, (asked, bound)) in topology.config.pools.iter().zip(bound) {
        debug_assert_eq!(pool.name, asked.name, "in the order of the file");
        let listen = pool.listen.clone();
        if let Some(bound) = bound {
            listening.push(Place::new(pool.id, listen, &bound));
            ways.push((pool.id, Entrance::New(bound)));
        } else if let Some(at) = before.iter().position(|place| is_at(&place.listen, &listen)) {
            let place = before.swap_remove(at);
            if let (Listen::Unix { path, mode }, Listen::Unix { mode: was, .. }) = (&listen, &place.listen)
                && mode != was
                && let Some(mode) = mode.or_else(socket_file::usual_mode)
            {
                set_mode(path, mode);
            }
            ways.push((pool.id, Entrance::Of(place.pool)));
            listening.push(Place { pool: pool.id, listen, ..place });
        }
    }
    Entrances { topology: Arc::clone(topology), ways, waits: None }
}

#[cfg(test)]
mod tests;

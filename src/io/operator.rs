//! What operators do to a running proxy. Each action is told once, with who ordered it: in the log, and among the events.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::connect::connect;
use super::discovery::state::Discovered;
use super::listening::Listening;
use super::log::LogControl;
use super::mailbox::{Handle, Message};
use super::proxy::Observed;
use super::reload::Source;
use super::state::Keeper;
use super::upgrade::Upgrade;
use crate::config::model::{Address, LogLevel, PoolId, ServerId};
use crate::failure::Failure;
use crate::health::maintenance::{Maintenance, MaintenanceOutcome};

/// The hands of the operator.
#[derive(Debug, Clone)]
pub struct Operator {
    pub(super) observed: Observed,
    pub(super) workers: Arc<[Handle]>,
    pub(super) log: Option<LogControl>,
    pub(super) source: Option<Arc<Source>>,
    pub(super) listening: Arc<Listening>,
    pub(super) discovered: Arc<Discovered>,
    pub(super) keeper: Option<Keeper>,
    pub(super) upgrade: Arc<Upgrade>,
    /// Clients of Redis pools have larger numbers.
    pub(super) numbered_after: u64,
}

impl Operator {
    /// What there is to be seen.
    #[must_use]
    pub const fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Whether it is this process that is asked, and not one that takes over from it.
    pub(crate) fn serves(&self) -> watch::Receiver<bool> {
        self.upgrade.serves()
    }

    /// Takes a server out of the ring until [`Operator::let_back`]; the last one only if that is meant (`even_last`).
    #[must_use]
    pub fn take_out(
        &self,
        pool: PoolId,
        server: ServerId,
        kind: Maintenance,
        even_last: bool,
        by: IpAddr,
    ) -> MaintenanceOutcome {
        let now = self.observed.clock.now();
        let topology = self.observed.topology();
        let (of, named) = (topology.pool(pool), topology.pool(pool).server(server));
        let said = topology.registry.begin_maintenance(pool, server, kind, even_last, now);
        if said == MaintenanceOutcome::Done {
            self.wake();
            let (name, address) = (&named.name, &named.address);
            let text = match kind {
                Maintenance::Eject => {
                    warn!(pool = of.name, server = name, %address, %by, "server ejected by the operator");
                    "taken out of service by the operator"
                }
                Maintenance::Drain => {
                    warn!(pool = of.name, server = name, %address, %by, "server drained by the operator");
                    "drained by the operator"
                }
            };
            self.tell(&of.name, name, true, format!("{text} ({by})"));
        }
        said
    }

    /// Lets a server back, whoever put it out: it is probed now, and is back in the ring when that went well.
    #[must_use]
    pub fn let_back(&self, pool: PoolId, server: ServerId, by: IpAddr) -> MaintenanceOutcome {
        let topology = self.observed.topology();
        let (of, named) = (topology.pool(pool), topology.pool(pool).server(server));
        let said = topology.registry.end_maintenance(pool, server, self.observed.clock.now());
        if said == MaintenanceOutcome::Done {
            self.wake();
            let (name, address) = (&named.name, &named.address);
            info!(pool = of.name, server = name, %address, %by, "server let back by the operator, probed now");
            self.tell(&of.name, name, false, format!("let back by the operator ({by})"));
        }
        said
    }

    /// The operator has the servers of a pool flushed.
    pub fn flushes(&self, pool: PoolId, by: IpAddr) {
        let topology = self.observed.topology();
        let name = &topology.pool(pool).name;
        warn!(pool = name, %by, "servers flushed by the operator");
        self.tell(name, "all servers", false, format!("flushed by the operator ({by})"));
    }

    /// A server could not be flushed now: it is before it is used again.
    pub fn invalidate_all(&self, pool: PoolId, server: ServerId) {
        self.observed.topology().registry.invalidate_all(pool, server, self.observed.clock.now());
    }

    /// Sets the level of the log. Returns what it was; `None` when this process has no log to be changed.
    pub fn set_log_level(&self, level: LogLevel, by: IpAddr) -> Option<LogLevel> {
        self.log.as_ref().map(|log| log.set(level, &by.to_string()))
    }

    /// The workers whose loop does not turn within this time, by their numbers. Costs each a wake-up.
    pub async fn silent_workers(&self, limit: Duration) -> Vec<usize> {
        let until = tokio::time::Instant::now() + limit;
        let asked: Vec<_> = self.workers.iter().map(Handle::ask).collect();
        let mut silent = Vec::new();
        for (index, mut turned) in asked.into_iter().enumerate() {
            if !matches!(tokio::time::timeout_at(until, turned.changed()).await, Ok(Ok(()))) {
                silent.push(index);
            }
        }
        silent
    }

    /// Opens a connection to a server, as a worker would. A name that is not followed is looked up for it.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    pub async fn connect(&self, address: &Address, is_followed: bool) -> Result<OwnedFd, Failure> {
        connect(address, is_followed.then_some(&self.discovered)).await
    }

    /// Why nobody is asked at present where servers are, if so.
    #[must_use]
    pub fn discovery_stopped(&self) -> Option<String> {
        self.discovered.stopped()
    }

    /// A name stands for these addresses.
    #[cfg(test)]
    pub(crate) fn know(&self, host: &str, at: &[std::net::SocketAddr]) {
        self.discovered.learn(host, at);
    }

    /// Has servers looked for no more.
    #[cfg(test)]
    pub(crate) fn stop_discovery(&self, why: &str) {
        self.discovered.has_stopped(why);
    }

    /// Has a worker do something, and end if that fails.
    #[cfg(test)]
    pub(crate) fn have_worker_do(&self, worker: usize, what: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
        self.workers[worker].tell(Message::Do(super::mailbox::Task(Box::new(what))));
    }

    pub(super) fn tell(&self, pool: &str, server: &str, is_trouble: bool, text: String) {
        self.observed.events.tell(pool, server, is_trouble, text, self.observed.clock.now());
    }

    fn wake(&self) {
        for worker in self.workers.iter() {
            worker.tell(Message::News); // a worker that has ended needs no news
        }
    }
}

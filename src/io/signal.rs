//! Signals, with the numbers that twemproxy gives them where it has a use for them.
//!
//! `SIGTERM` and `SIGINT` drain and end; `SIGHUP` and `SIGUSR1` reopen the log file; `SIGTTIN` and `SIGTTOU` make the
//! log louder and quieter; `SIGUSR2` does nothing.

use std::future::Future;
use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::log::LogControl;
use super::{Proxy, stats};

/// The signals that this process takes. From when they are caught, none of them kills it; those that come before there is
/// a proxy are dealt with when there is one.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
    louder: Signal,
    quieter: Signal,
}

impl Signals {
    /// Catches them from here on. To be called before anybody can know that the process runs.
    ///
    /// # Errors
    ///
    /// When the system does not let it.
    pub fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hang_up = signal(SignalKind::hangup())?;
        let user1 = signal(SignalKind::user_defined1())?;
        let user2 = signal(SignalKind::user_defined2())?;
        let louder = signal(SignalKind::from_raw(21))?; // SIGTTIN
        let quieter = signal(SignalKind::from_raw(22))?; // SIGTTOU
        drop(entered);
        Ok(Self { runtime, terminate, interrupt, hang_up, user1, user2, louder, quieter })
    }

    /// Runs a started proxy until a signal or `end` ends it.
    pub fn run_until(self, mut proxy: Proxy, log: Option<&LogControl>, end: impl Future<Output = ()>) {
        let Self { runtime, mut terminate, mut interrupt, mut hang_up, mut user1, mut user2, mut louder, mut quieter } =
            self;
        runtime.block_on(async {
            if let Some(listener) = proxy.stats.take() {
                tokio::spawn(stats::serve(listener, proxy.observed.clone()));
            }
            let mut end = std::pin::pin!(end);
            loop {
                tokio::select! {
                    _ = terminate.recv() => break info!(signal = "SIGTERM", "draining"),
                    _ = interrupt.recv() => break info!(signal = "SIGINT", "draining"),
                    () = &mut end => break,
                    _ = hang_up.recv() => reopen(log),
                    _ = user1.recv() => reopen(log),
                    _ = user2.recv() => {} // as with twemproxy
                    _ = louder.recv() => if let Some(log) = log { log.shift(1, "SIGTTIN") },
                    _ = quieter.recv() => if let Some(log) = log { log.shift(-1, "SIGTTOU") },
                }
            }
        });
        proxy.shutdown();
        info!("ended");
    }
}

fn reopen(log: Option<&LogControl>) {
    if let Some(log) = log
        && let Err(error) = log.reopen()
    {
        warn!(%error, "cannot reopen the log file");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[test]
    fn what_came_before_there_was_a_proxy_neither_kills_nor_is_forgotten() {
        let signals = Signals::catch().unwrap();
        for number in [Number::HUP, Number::USR1, Number::USR2, Number::TTIN, Number::TTOU, Number::TERM] {
            kill_process(getpid(), number).unwrap(); // which kills this test, where nobody catches it
        }
        signals.run_until(Proxy::of_two_workers(), None, std::future::pending()); // SIGTERM ends it
    }
}

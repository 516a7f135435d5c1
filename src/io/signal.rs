//! Signals, with the numbers that twemproxy gives them where it has a use for them.
//!
//! `SIGTERM` and `SIGINT` drain and end; `SIGHUP` and `SIGUSR1` reopen the log file; `SIGTTIN` and `SIGTTOU` make the
//! log louder and quieter.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::log::LogControl;
use super::{Proxy, stats};

/// Runs a started proxy until a signal ends it.
///
/// # Errors
///
/// When signals cannot be listened for.
pub fn run(proxy: Proxy, log: Option<&LogControl>) -> anyhow::Result<()> {
    run_until(proxy, log, std::future::pending())
}

/// Runs a started proxy until a signal or `end` ends it.
///
/// # Errors
///
/// When signals cannot be listened for.
pub fn run_until(mut proxy: Proxy, log: Option<&LogControl>, end: impl Future<Output = ()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if let Some(listener) = proxy.stats.take() {
            tokio::spawn(stats::serve(listener, proxy.observed.clone()));
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut user1 = signal(SignalKind::user_defined1())?;
        let mut louder = signal(SignalKind::from_raw(21))?; // SIGTTIN
        let mut quieter = signal(SignalKind::from_raw(22))?; // SIGTTOU
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                _ = terminate.recv() => break info!(signal = "SIGTERM", "draining"),
                _ = interrupt.recv() => break info!(signal = "SIGINT", "draining"),
                () = &mut end => break,
                _ = hang_up.recv() => reopen(log),
                _ = user1.recv() => reopen(log),
                _ = louder.recv() => if let Some(log) = log { log.shift(1, "SIGTTIN") },
                _ = quieter.recv() => if let Some(log) = log { log.shift(-1, "SIGTTOU") },
            }
        }
        anyhow::Ok(())
    })?;
    proxy.shutdown();
    info!("ended");
    Ok(())
}

fn reopen(log: Option<&LogControl>) {
    if let Some(log) = log
        && let Err(error) = log.reopen()
    {
        warn!(%error, "cannot reopen the log file");
    }
}

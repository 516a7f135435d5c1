//! Signals, with the numbers that twemproxy gives them where it has a use for them.
//!
//! `SIGTERM` and `SIGINT` drain and end; `SIGHUP` and `SIGUSR1` reopen the log file, and `SIGHUP` has the configuration
//! read again; `SIGUSR2` has another process take over; `SIGTTIN` and `SIGTTOU` make the log louder and quieter. `SIGABRT`
//! and `SIGQUIT` end the process at once, with a core, as they do anywhere, and a line of the log before. Each is told in the
//! words of twemproxy, for which operators look.

use std::future::Future;
use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::log::{self, LogControl};
use super::reload::{Refused, Source};
use super::watch::{FileState, LONG_PERIOD, PERIOD, Watcher};
use super::{Operator, Proxy, stats, systemd};

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
        // SIGXFSZ: a file has become as large as it may be. The process lives on, and whoever writes to it is told.
        let _caught = signal(SignalKind::from_raw(25))?;
        drop(entered);
        catch_fatal()?;
        Ok(Self { runtime, terminate, interrupt, hang_up, user1, user2, louder, quieter })
    }

    /// Runs a started proxy until a signal or `end` ends it.
    pub fn run_until(self, mut proxy: Proxy, log: Option<&LogControl>, end: impl Future<Output = ()>) {
        let Self { runtime, mut terminate, mut interrupt, mut hang_up, mut user1, mut user2, mut louder, mut quieter } =
            self;
        let operator = proxy.operator(log);
        let mut watched = Watched { operator: operator.clone(), watcher: Watcher::default(), look: None };
        let mut reloads = Reloads { operator: operator.clone(), running: None, next: None };
        let (mut is_succeeded, mut is_to_end) = (false, false);
        runtime.block_on(async {
            systemd::ready(&operator);
            tokio::spawn(systemd::attend(operator.clone()));
            if let Some(listener) = proxy.stats.take() {
                tokio::spawn(stats::serve(listener, proxy.observed.clone(), proxy.upgrade.serves()));
            }
            {
                let mut end = std::pin::pin!(end);
                loop {
                    tokio::select! {
                        _ = terminate.recv() => if ends(&proxy, "15 (SIGTERM)", &mut is_to_end) { break },
                        _ = interrupt.recv() => if ends(&proxy, "2 (SIGINT)", &mut is_to_end) { break },
                        () = proxy.upgrade.failed.notified() => if is_to_end { break },
                        () = &mut end => break,
                        _ = hang_up.recv() => {
                            info!("signal 1 (SIGHUP) received, reopening log file");
                            reopen(log);
                            reloads.want("SIGHUP");
                        }
                        () = watched.changes() => reloads.want("watch"),
                        () = reloads.ended() => {}
                        _ = user1.recv() => {
                            info!("signal 10 (SIGUSR1) received, reopening log file");
                            reopen(log);
                        }
                        _ = user2.recv() => {
                            info!("signal 12 (SIGUSR2) received, starting a successor");
                            let operator = operator.clone();
                            spawn_blocking(move || operator.upgrade("SIGUSR2")); // which tells what came of it
                        }
                        () = proxy.upgrade.over.notified() => {
                            is_succeeded = true;
                            break;
                        }
                        _ = louder.recv() => if let Some(log) = log { log.shift(1, "SIGTTIN") },
                        _ = quieter.recv() => if let Some(log) = log { log.shift(-1, "SIGTTOU") },
                    }
                }
            } // what was to end it is over before it ends
            if !is_succeeded {
                systemd::stopping();
            }
            proxy.drain();
            let hurry = proxy.hurry();
            if is_succeeded {
                hurry(); // whoever is left has had its time
            }
            let mut ended = spawn_blocking(move || proxy.wait());
            loop {
                tokio::select! {
                    _ = &mut ended => break,
                    _ = terminate.recv() => {
                        info!("signal 15 (SIGTERM) received again, ending at once");
                        hurry();
                    }
                    _ = interrupt.recv() => {
                        info!("signal 2 (SIGINT) received again, ending at once");
                        hurry();
                    }
                }
            }
        });
        if is_succeeded {
            operator.say_farewell();
        }
        // A reload that waits for names does not keep the process from ending.
        runtime.shutdown_background();
        info!("ended");
    }
}

/// Reloads, one after the other, on a thread of their own: names may have to be looked up for one, and signals, the
/// statistics and the watchdog do not wait for that.
#[derive(Debug)]
struct Reloads {
    operator: Operator,
    running: Option<JoinHandle<()>>,
    /// Who wants another one when that has ended.
    next: Option<&'static str>,
}

impl Reloads {
    /// Somebody wants one. However often, one more is enough behind the one that runs.
    fn want(&mut self, by: &'static str) {
        if self.running.is_some() {
            self.next = Some(by);
            return;
        }
        let operator = self.operator.clone();
        self.running = Some(spawn_blocking(move || {
            systemd::reloading();
            // Which has told what came of it.
            if matches!(operator.reload(by), Err(Refused::Succeeded)) {
                info!(by, "the successor is told to reload");
                operator.upgrade.pass_reload_on();
            }
            systemd::ready(&operator);
        }));
    }

    /// Until the one that runs has ended, if one does.
    async fn ended(&mut self) {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let _ = running.await; // a panic has been told, and cost no more than this one
        self.running = None;
        if let Some(by) = self.next.take() {
            self.want(by);
        }
    }
}

/// The file of the configuration, which is watched, or not, as it said when it was last read.
#[derive(Debug)]
struct Watched {
    operator: Operator,
    watcher: Watcher,
    /// It is looked at: on a thread of its own, as it may lie where that takes any time.
    look: Option<JoinHandle<Option<[Option<FileState>; 2]>>>,
}

impl Watched {
    /// Until it has changed. May be given up, and be begun again.
    async fn changes(&mut self) {
        loop {
            if let Some(look) = &mut self.look {
                let states = look.await;
                self.look = None;
                if states.ok().flatten().is_some_and(|states| self.watcher.look(states)) {
                    return;
                }
            }
            let is_watched = self.operator.observed().topology().config.settings.watch;
            sleep(if is_watched { PERIOD } else { LONG_PERIOD }).await;
            if is_watched {
                let operator = self.operator.clone();
                self.look = Some(spawn_blocking(move || operator.source().map(Source::states)));
            }
        }
    }
}

/// A signal has come that ends the process. Whether it drains at once: clients that go over to a successor do so first, unless
/// that has been said before. It ends then, or when it turns out that they do not.
fn ends(proxy: &Proxy, signal: &str, is_to_end: &mut bool) -> bool {
    if proxy.upgrade.is_to_end() && !std::mem::replace(is_to_end, true) {
        info!("signal {signal} received, ending when clients have gone over");
        return false;
    }
    info!("signal {signal} received, draining");
    true
}

fn reopen(log: Option<&LogControl>) {
    match log.map(LogControl::reopen) {
        Some(Ok(Some(file))) => info!(file = %file.display(), "log file is open again"),
        Some(Ok(None)) => info!("the log goes to stderr and has no file to reopen (flag -o)"),
        Some(Err((file, error))) => warn!(file = %file.display(), %error, "cannot reopen the log file"),
        None => {}
    }
}

/// Has a line told of a signal that ends the process wherever it is, also while it drains or hangs: on a thread of its own.
/// (Those that a fault of the program itself raises cannot be caught without unsafe code; the system tells of them.)
fn catch_fatal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut abort = signal(SignalKind::from_raw(6))?; // SIGABRT
    let mut quit = signal(SignalKind::quit())?;
    drop(entered);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let signal = runtime.block_on(async {
            tokio::select! {
                _ = abort.recv() => "6 (SIGABRT)",
                _ = quit.recv() => "3 (SIGQUIT)",
            }
        });
        error!("signal {signal} received, the process ends at once");
        log::flush();
        std::process::abort();
    })?;
    Ok(())
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

//! Discovery: a thread of its own asks every [`Source`] where servers are, again and again, and has what has changed taken up.
//!
//! It asks nobody whom no pool names, and a worker never waits for it. What it has found is [`Discovered`]; what becomes of
//! that is a reload's affair ([`TakesUp`]): the file and what is found are put together in one place only.

mod endpoint;
mod look;
mod services;
mod settled;
pub(super) mod state;

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use self::look::{Asked, MOST_THREADS};
use self::state::{Discovered, Noted, TakesUp};
use super::rounds::spawn_work;
use crate::config::discovery::{Source, Terms};

/// A source that has never answered is asked again after this, if not sooner.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(2);

/// A server that could not be reached has its source asked again, but not sooner after the last time than this.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);

/// What a source says that is not what holds is looked at again, but not sooner than this, whatever is asked for.
const LEAST_SETTLE: Duration = Duration::from_millis(100);

/// Starts the thread. It takes up what it finds from when it is given an operator ([`TakesUp`]), and ends when it never will be.
///
/// # Errors
///
/// When it cannot be started.
pub(super) fn start<T: TakesUp>(discovered: Arc<Discovered>) -> io::Result<oneshot::Sender<T>> {
    let (give, given) = oneshot::channel();
    spawn_work("discovery", move || {
        if !discovered.wait_until_wanted() {
            return Ok(()); // and there are no descriptors for who finds nothing
        }
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(MOST_THREADS).build()?;
        runtime.block_on(attend(&discovered, given));
        runtime.shutdown_background(); // a name that is still looked up is of no interest
        Ok(())
    })?;
    Ok(give)
}

/// What asks one source, again and again.
struct Attendant {
    terms: watch::Sender<Terms>,
    task: AbortHandle,
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has all sources asked that are wanted, and what has changed taken up, until the process ends.
async fn attend<T: TakesUp>(discovered: &Arc<Discovered>, given: oneshot::Receiver<T>) {
    let mut attendants: BTreeMap<Source, Attendant> = BTreeMap::new();
    let (mut given, mut operator) = (pin!(given), None::<T>);
    let (mut taking_up, mut is_due) = (None, false);
    while !discovered.has_ended() {
        let wanted = discovered.wanted();
        attendants.retain(|source, attendant| wanted.contains_key(source) && !attendant.task.is_finished());
        for (source, terms) in wanted {
            if let Some(attendant) = attendants.get(&source) {
                attendant.terms.send_if_modified(|before| std::mem::replace(before, terms) != terms);
            } else {
                let (sender, receiver) = watch::channel(terms);
                let task = tokio::spawn(ask(Arc::clone(discovered), source.clone(), receiver)).abort_handle();
                attendants.insert(source, Attendant { terms: sender, task });
            }
        }
        if let Some(operator) = &operator {
            operator.report(discovered.take_news());
            is_due |= discovered.take_change();
            if is_due && taking_up.is_none() {
                let operator = T::clone(operator);
                (taking_up, is_due) = (Some(spawn_blocking(move || operator.take_up_found())), false);
            }
        }
        tokio::select! {
            () = discovered.stirred() => {}
            result = &mut given, if operator.is_none() => match result {
                Ok(given) => operator = Some(given),
                Err(_) => return,
            },
            // A panic has been told, and cost no more than this one.
            _ = async { taking_up.as_mut().expect("looked at").await }, if taking_up.is_some() => taking_up = None,
        }
    }
}

/// How long after the first sight of a change it is looked at again: in a quarter of an interval at most, so that it holds well
/// within two of them.
fn settle_pause(Terms { interval, settle }: Terms) -> Duration {
    let settle = settle.max(LEAST_SETTLE);
    interval.map_or(settle, |interval| settle.min(interval / 4))
}

/// Asks a source, again and again.
async fn ask(discovered: Arc<Discovered>, source: Source, mut terms: watch::Receiver<Terms>) {
    let mut asked = Asked::default();
    loop {
        let began = Instant::now();
        let look = asked.look(&source).await;
        let Terms { interval, settle } = *terms.borrow_and_update();
        let pause = match (discovered.note(&source, look), &source) {
            (_, Source::File(_)) => Some(Duration::ZERO), // which is watched
            (Noted::Unsettled, _) => Some(settle_pause(Terms { interval, settle })),
            (Noted::Unknown, _) => Some(interval.map_or(UNKNOWN_PAUSE, |interval| UNKNOWN_PAUSE.min(interval))),
            (Noted::Known, _) => interval,
        };
        let again = discovered.again(&source);
        let next = async {
            match pause {
                Some(pause) => sleep_until(Instant::now() + pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => {}
            // Other terms hold from the next time on, which may be sooner by them.
            result = terms.changed() => if result.is_err() { return },
            () = again.notified(), if interval.is_some() => {
                sleep_until(began + interval.map_or(AGAIN_PAUSE, |interval| AGAIN_PAUSE.min(interval))).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_looked_at_again_in_a_quarter_of_an_interval_and_never_without_a_pause() {
        for (interval, settle, pause) in [
            (Some(30_000), 2000, 2000),
            (Some(4000), 2000, 1000),
            (Some(30_000), 0, 100),
            (None, 0, 100),
            (Some(100), 0, 25),
        ] {
            let terms = Terms { interval: interval.map(Duration::from_millis), settle: Duration::from_millis(settle) };
            assert_eq!(settle_pause(terms), Duration::from_millis(pause), "{terms:?}");
        }
    }
}

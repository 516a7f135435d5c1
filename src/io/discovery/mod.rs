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
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use self::look::{Asked, MOST_THREADS};
use self::state::{Discovered, Failed, Noted, TakesUp, Wanted};
use super::rounds::{attempt, spawn_work};
use crate::config::discovery::{Source, Terms};

/// A source that has never answered is asked again after this, if not sooner.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(2);

/// A server that could not be reached has its source asked again, but not sooner after the last time than this.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);

/// What a source says that is not what holds is looked at again, but not sooner than this, whatever is asked for.
const LEAST_SETTLE: Duration = Duration::from_millis(100);

/// Pause before what was found and could not be taken up is tried again, if nothing else is found before.
const REFUSED_PAUSE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(10) };

/// Pause before what has panicked, or could not be started, is tried again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Starts the thread. It takes up what it finds from when it is given an operator ([`TakesUp`]), and ends when it never will be.
/// What it needs of the kernel it may not get at once, and a panic costs no more than a pause: it goes on with what is known.
///
/// # Errors
///
/// When it cannot be started.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which nobody waits for")]
pub(super) fn start<T: TakesUp>(discovered: Arc<Discovered>) -> io::Result<oneshot::Sender<T>> {
    let (give, given) = oneshot::channel();
    spawn_work("discovery", move || {
        let mut taker = Taker { given, operator: None };
        // Until then it takes no descriptors.
        while discovered.wait_until_wanted() {
            let attended = attempt(|| {
                let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(MOST_THREADS).build()?;
                discovered.goes_on();
                runtime.block_on(attend(&discovered, &mut taker));
                runtime.shutdown_background(); // a name that is still looked up is of no interest
                Ok(())
            });
            let Err(why) = attended else { break };
            discovered.has_stopped(&why);
            std::thread::sleep(RESTART_PAUSE);
        }
        Ok(())
    })?;
    Ok(give)
}

/// Who has what is found taken up, from when there is somebody.
struct Taker<T> {
    given: oneshot::Receiver<T>,
    operator: Option<T>,
}

/// What asks one source, again and again.
struct Attendant {
    /// Since when it is wanted ([`Wanted::number`](state::Wanted)): one that was not for a moment is asked anew.
    number: u64,
    terms: watch::Sender<Terms>,
    task: AbortHandle,
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has all sources asked that are wanted, and what has changed taken up, until the process ends.
async fn attend<T: TakesUp>(discovered: &Arc<Discovered>, Taker { given, operator }: &mut Taker<T>) {
    let mut attendants: BTreeMap<Source, Attendant> = BTreeMap::new();
    let mut given = pin!(given);
    let (mut taking_up, mut is_due) = (None, false);
    let (mut refused, mut again_at): (Option<String>, _) = (None, None);
    while !discovered.has_ended() {
        let wanted = discovered.wanted();
        attendants.retain(|source, Attendant { number, task, .. }| {
            wanted.get(source).is_some_and(|wanted| wanted.number == *number) && !task.is_finished()
        });
        for (source, Wanted { terms, number, .. }) in wanted {
            if let Some(attendant) = attendants.get(&source) {
                attendant.terms.send_if_modified(|before| std::mem::replace(before, terms) != terms);
            } else {
                let (sender, receiver) = watch::channel(terms);
                let asking = keep_asking(Arc::clone(discovered), source.clone(), number, receiver);
                let task = tokio::spawn(asking).abort_handle();
                attendants.insert(source, Attendant { number, terms: sender, task });
            }
        }
        if let Some(operator) = &*operator {
            operator.report(discovered.take_news());
            is_due |= discovered.take_change();
            if is_due && taking_up.is_none() {
                (taking_up, is_due, again_at) =
                    (Some(tokio::spawn(take_up(T::clone(operator), refused.clone()))), false, None);
            }
        }
        tokio::select! {
            () = discovered.stirred() => {}
            result = &mut given, if operator.is_none() => match result {
                Ok(given) => *operator = Some(given),
                Err(_) => return,
            },
            result = async { taking_up.as_mut().expect("looked at").await }, if taking_up.is_some() => {
                (taking_up, refused) = (None, result.ok().and_then(Result::err));
                again_at = refused.is_some().then(|| Instant::now() + REFUSED_PAUSE);
            }
            () = async { sleep_until(again_at.expect("looked at")).await }, if again_at.is_some() => {
                (is_due, again_at) = (true, None);
            }
        }
    }
}

/// Has what was found taken up, also after a panic, which has been told. Why it is not, if so, and what `was` the reason before.
async fn take_up<T: TakesUp>(operator: T, was: Option<String>) -> Result<(), String> {
    loop {
        let (own, was) = (operator.clone(), was.clone());
        match spawn_blocking(move || own.take_up_found(was.as_deref())).await {
            Err(error) if error.is_panic() => sleep(RESTART_PAUSE).await,
            Ok(result) => return result,
            Err(_) => return Ok(()), // the process ends
        }
    }
}

/// How long after the first sight of a change it is looked at again: in a quarter of an interval at most, so that it holds well
/// within two of them.
fn settle_pause(Terms { interval, settle }: Terms) -> Duration {
    let settle = settle.max(LEAST_SETTLE);
    interval.map_or(settle, |interval| settle.min(interval / 4))
}

/// Asks a source, again and again, also after a panic, which has been told.
async fn keep_asking(discovered: Arc<Discovered>, source: Source, number: u64, terms: watch::Receiver<Terms>) {
    loop {
        let mut task = JoinSet::new(); // which is over when this is
        task.spawn(ask(Arc::clone(&discovered), source.clone(), number, terms.clone()));
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                discovered.note(&source, number, Err(Failed::Because("a fault of softmiss itself".to_owned())));
                sleep(RESTART_PAUSE).await;
            }
            _ => return,
        }
    }
}

async fn ask(discovered: Arc<Discovered>, source: Source, number: u64, mut terms: watch::Receiver<Terms>) {
    let mut asked = Asked::default();
    loop {
        let began = Instant::now();
        let look = asked.look(&source).await;
        let noted = discovered.note(&source, number, look);
        if !matches!(source, Source::File(_)) // which is watched
            && !wait(began, noted, &mut terms, &discovered.again(&source)).await
        {
            return;
        }
    }
}

/// Waits until a source is to be asked again that was asked from `began` on until now; false when nobody wants that any more.
async fn wait(began: Instant, noted: Noted, terms: &mut watch::Receiver<Terms>, again: &Notify) -> bool {
    let ended = Instant::now();
    loop {
        let Terms { interval, settle } = *terms.borrow_and_update();
        let pause = match noted {
            Noted::Unsettled => Some(settle_pause(Terms { interval, settle })),
            Noted::Unknown => Some(interval.map_or(UNKNOWN_PAUSE, |interval| UNKNOWN_PAUSE.min(interval))),
            Noted::Known => interval,
        };
        let next = async {
            match pause {
                Some(pause) => sleep_until(ended + pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => return true,
            // By other terms it may be its turn sooner.
            result = terms.changed() => if result.is_err() { return false },
            // A change that has been seen is looked at again soon, but not so soon that it would not have settled.
            () = again.notified(), if interval.is_some() && noted != Noted::Unsettled => {
                sleep_until(began + interval.map_or(AGAIN_PAUSE, |interval| AGAIN_PAUSE.min(interval))).await;
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::state::News;
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

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
    }

    #[test]
    fn a_change_settles_whoever_doubts_meanwhile_and_whatever_terms_are_said() {
        let terms = |settle| Terms { interval: Some(Duration::from_secs(60)), settle: Duration::from_millis(settle) };
        block_on(async {
            let (sender, mut receiver) = watch::channel(terms(60_000));
            let again = Notify::new();
            again.notify_one();
            sender.send_replace(terms(400));
            let (began, long_ago) = (Instant::now(), Instant::now() - Duration::from_secs(60));
            let other = async {
                sleep(Duration::from_millis(50)).await;
                sender.send_replace(terms(300));
                again.notify_one();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                is_wanted = wait(long_ago, Noted::Unsettled, &mut receiver, &again) => assert!(is_wanted),
                () = other => {}
            }
            assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
            // Where nothing has changed, it is asked at once.
            assert!(wait(long_ago, Noted::Known, &mut receiver, &again).await);
            drop(sender);
            assert!(!wait(long_ago, Noted::Known, &mut receiver, &again).await, "nobody wants it any more");
        });
    }

    /// Says what it is told, which it does not outlive the first time, and takes up what was found at a late attempt only.
    #[derive(Clone)]
    struct Fragile(Arc<AtomicUsize>, mpsc::Sender<News>, Arc<AtomicUsize>, Arc<AtomicBool>);

    impl TakesUp for Fragile {
        fn take_up_found(&self, was: Option<&str>) -> Result<(), String> {
            match self.2.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("found another bug"),
                1..10 => Err("not now".to_owned()),
                _ => {
                    assert_eq!(was, Some("not now"));
                    self.3.store(true, Ordering::Relaxed);
                    Ok(())
                }
            }
        }

        fn report(&self, news: News) {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "found a bug");
            self.1.send(news).expect("somebody hears it");
        }
    }

    #[test]
    fn a_panic_is_told_and_those_who_are_wanted_are_asked_again() {
        let (config, file) = with_file("panic");
        let discovered = Arc::new(Discovered::default());
        let (sender, told) = mpsc::channel();
        let taker = start(Arc::clone(&discovered)).expect("a thread");
        discovered.want_at_once(&[&config], Duration::from_secs(20));
        let taken_up = Arc::new(AtomicBool::new(false));
        let fragile = Fragile(Arc::default(), sender, Arc::default(), Arc::clone(&taken_up));
        taker.send(fragile).map_err(drop).expect("it runs");
        std::fs::write(&file, "10.0.0.1:1:1\n10.0.0.2:1:1\n").expect("a file");
        let first = told.recv_timeout(Duration::from_secs(20)).expect("it goes on");
        let [(true, stopped), (false, on)] = &first.texts[..] else { panic!("{first:?}") };
        assert!(stopped.contains("found a bug") && on.contains("again"), "{first:?}");
        assert_eq!(discovered.stopped(), None);
        // Its source, which has been heard, is heard again.
        let mut changes = first.changes;
        while changes == 0 {
            changes += told.recv_timeout(Duration::from_secs(20)).expect("news").changes;
        }
        let begun = Instant::now();
        while !taken_up.load(Ordering::Relaxed) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is not tried again to take up what was found");
            std::thread::yield_now();
        }
        discovered.end();
        std::fs::remove_file(file).expect("it is there");
    }

    /// A pool whose servers a file lists, which is there.
    fn with_file(name: &str) -> (crate::config::model::Config, std::path::PathBuf) {
        let file = std::env::temp_dir().join(format!("softmiss-{name}-{}", std::process::id()));
        std::fs::write(&file, "10.0.0.1:1:1\n").expect("a file");
        let text = format!("p: {{listen: /p.sock, timeout: 400, servers_file: '{}'}}\n", file.display());
        (crate::config::parse("file", &text).expect("a good file").config, file)
    }

    #[test]
    fn a_source_that_was_not_wanted_for_a_moment_is_asked_anew() {
        let (config, file) = with_file("moment");
        let discovered = Arc::new(Discovered::default());
        let _taker = start::<Fragile>(Arc::clone(&discovered)).expect("a thread");
        for _ in 0..20 {
            discovered.want_at_once(&[&config], Duration::from_secs(10));
            let mut expanded = config.clone();
            discovered.expand(&mut expanded);
            assert_eq!(expanded.pools[0].servers[0].name, "10.0.0.1:1");
            discovered.want(&[]);
        }
        discovered.end();
        std::fs::remove_file(file).expect("it is there");
    }
}

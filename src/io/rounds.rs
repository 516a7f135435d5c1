//! Threads that serve no client, and what is told of those that panic.
//!
//! A thread that serves no client (the log, the admin port, statsd) works in rounds. A round that panics is told of, and
//! the next one follows: cached data is worth more than a figure. What becomes of the others is in [`super::supervise`].

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::thread;
use std::time::Duration;

use tracing::error;

/// Pause before a thread goes on that panicked.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread that writes the log.
pub(crate) const LOG: &str = "log";

thread_local! {
    /// The last panic of this thread: what it said, and where.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics told in the log, with their thread and place, whoever catches them.
pub(crate) fn tell_panics() {
    std::panic::set_hook(Box::new(|info| {
        let told = described(info);
        LAST_PANIC.set(Some(told.clone()));
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        if thread == LOG {
            let _ = writeln!(io::stderr(), "softmiss: the thread {thread} panicked: {told}");
        } else {
            error!(thread, "panicked: {told}");
        }
    }));
}

fn described(info: &PanicHookInfo<'_>) -> String {
    let said = info.payload_as_str().unwrap_or("no message");
    info.location().map_or_else(|| said.to_owned(), |place| format!("{said}, at {place}"))
}

/// Does some work; says why it came to an end that is not its proper one.
pub(super) fn attempt(work: impl FnOnce() -> anyhow::Result<()>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(ended) => ended.map_err(|error| format!("{error:#}")),
        Err(payload) => Err(LAST_PANIC.take().unwrap_or_else(|| {
            // Without the hook, only the message is known; the place has been written to stderr.
            let said = payload.downcast_ref::<&str>().map(|said| (*said).to_owned());
            said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
        })),
    }
}

/// Starts a thread that does one round of work after the other, for as long as the process runs. A round that panics is
/// told, and followed by the next one after a pause.
///
/// # Errors
///
/// When it cannot be started.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which nobody waits for")]
pub(crate) fn spawn_rounds(
    name: &'static str,
    mut round: impl FnMut() -> anyhow::Result<()> + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        loop {
            if let Err(why) = attempt(&mut round) {
                error!(thread = name, why, "a thread has ended that was to go on: it is started again");
                thread::sleep(PAUSE);
            }
        }
    })?;
    Ok(())
}

/// Starts a thread that does a piece of work. That it came to another end than its proper one is told.
///
/// # Errors
///
/// When it cannot be started.
pub(crate) fn spawn_work(
    name: &'static str,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(why) = attempt(work) {
            error!(thread = name, why, "a thread has ended that was to go on: what it did is not done any more");
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn it_is_known_why_work_has_ended() {
        assert_eq!(attempt(|| Ok(())), Ok(()));
        let failed = attempt(|| Err(anyhow::anyhow!("no timer").context("cannot wait")));
        assert_eq!(failed, Err("cannot wait: no timer".to_owned()));
        assert_eq!(attempt(|| panic!("number {}", 7)), Err("number 7".to_owned()));
        assert_eq!(attempt(|| panic!("just so")), Err("just so".to_owned()));
    }

    #[test]
    fn a_round_that_panics_is_followed_by_the_next() {
        let (done, rounds) = channel();
        let mut number = 0;
        let round = move || {
            number += 1;
            done.send(number).unwrap();
            assert_ne!(number, 1, "the first one");
            if number == 3 {
                thread::park()
            };
            Ok(())
        };
        spawn_rounds("rounds", round).unwrap();
        let seen: Vec<i32> = (0..3).map(|_| rounds.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert_eq!(seen, [1, 2, 3]);
    }
}

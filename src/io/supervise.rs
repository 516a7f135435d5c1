//! Threads, and what becomes of the process when one of them ends that was not to end.
//!
//! Without a worker, or without the thread that connects, the proxy would go on listening and serve nobody: the
//! process ends instead, so that whoever started it starts it again ([`spawn`]). A thread that serves no client (the
//! log, the admin port, statsd) is told of, and goes on ([`spawn_rounds`]): cached data is worth more than a figure.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::error;

use super::log;

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
fn attempt(work: impl FnOnce() -> anyhow::Result<()>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(ended) => ended.map_err(|error| format!("{error:#}")),
        Err(payload) => Err(LAST_PANIC.take().unwrap_or_else(|| {
            // Without the hook, only the message is known; the place has been written to stderr.
            let said = payload.downcast_ref::<&str>().map(|said| (*said).to_owned());
            said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
        })),
    }
}

/// Starts a thread without which nobody is served. Unless its work comes to its proper end, the process ends.
///
/// # Errors
///
/// When it cannot be started.
pub(crate) fn spawn(
    name: String,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.clone()).spawn(move || {
        if let Err(why) = attempt(work) {
            end_process(&name, &why);
        }
    })
}

/// Ends the process because a thread of it has ended, or would be of no use any more. By a signal, so that it is neither
/// taken for an orderly end nor kept up by what threads would still do; sockets and their clients are closed by the system.
pub(crate) fn end_process(thread: &str, why: &str) -> ! {
    error!(thread, why, "a thread has ended that the proxy cannot do without: the process ends");
    log::flush();
    std::process::abort();
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::config::model::{LogFormat, LogLevel, LogSettings};
    use crate::io::Proxy;

    /// Set in the process that is to die, to what it dies of.
    const PART: &str = "SOFTMISS_TEST_PART";

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

    /// Runs this test once more, as a process of its own; what it said before it died.
    fn end_of(test: &str, part: &str) -> String {
        let test = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
        let mut command = Command::new(std::env::current_exe().unwrap());
        let ended = command.args([&test, "--exact", "--nocapture"]).env(PART, part).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.signal(), Some(6), "ended by itself, with {}: {said}", ended.status);
        said
    }

    /// The process that is to die: a proxy, of which a worker does something.
    fn die(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
        let log = log::start(LogSettings { level: LogLevel::Info, format: LogFormat::Text }, None).unwrap();
        let proxy = Proxy::of_two_workers();
        proxy.operator(Some(log.control())).have_worker_do(1, work);
        let _ = thread::Builder::new().spawn(|| thread::park_timeout(Duration::from_secs(20))).unwrap().join();
    }

    #[test]
    fn a_worker_that_panics_is_the_end_of_the_process() {
        if std::env::var_os(PART).is_some() {
            return die(|| panic!("found a bug"));
        }
        let said = end_of("a_worker_that_panics_is_the_end_of_the_process", "1");
        let line = said.lines().find(|line| line.contains("the process ends")).unwrap_or_else(|| panic!("{said}"));
        for part in ["ERROR", "worker-1", "found a bug", "src/io/supervise.rs:"] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }

    #[test]
    fn a_worker_that_ends_is_the_end_of_the_process() {
        if std::env::var_os(PART).is_some() {
            return die(|| Err(anyhow::anyhow!("no timer")));
        }
        let said = end_of("a_worker_that_ends_is_the_end_of_the_process", "1");
        let line = said.lines().find(|line| line.contains("the process ends")).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("worker-1") && line.contains("no timer"), "{line}");
    }

    #[test]
    fn an_attempt_to_connect_that_panics_is_the_end_of_the_process() {
        if std::env::var_os(PART).is_some() {
            let _log = log::start(LogSettings { level: LogLevel::Info, format: LogFormat::Text }, None).unwrap();
            let connector = crate::io::connect::Connector::start().unwrap();
            let address = crate::config::model::Address::Unix("/nothing".into());
            connector.connect(address, |_| panic!("nobody is told"));
            return thread::park_timeout(Duration::from_secs(20));
        }
        let said = end_of("an_attempt_to_connect_that_panics_is_the_end_of_the_process", "1");
        assert!(said.contains("nobody is told") && said.contains("thread=\"connector\""), "{said}");
    }

    #[test]
    fn a_worker_that_hangs_is_known() {
        let proxy = Proxy::of_two_workers();
        let operator = proxy.operator(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let silent = |ms| runtime.block_on(operator.silent_workers(Duration::from_millis(ms)));
        for _ in 0..3 {
            assert_eq!(silent(10_000), [0; 0]);
        }
        let (release, released) = channel::<()>();
        operator.have_worker_do(1, move || Ok(released.recv()?));
        for _ in 0..3 {
            assert_eq!(silent(100), [1], "as often as is asked");
        }
        release.send(()).unwrap();
        assert_eq!(silent(10_000), [0; 0]);
        proxy.shutdown();
    }
}

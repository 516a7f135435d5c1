//! Threads without which nobody is served, and what becomes of the process when one of them ends that was not to end.
//!
//! Without a worker, or without the thread that connects, the proxy would go on listening and serve nobody: the
//! process ends instead, so that whoever started it starts it again.

use std::io;
use std::thread::{self, JoinHandle};

use tracing::error;

use super::log;
use super::rounds::attempt;

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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::config::model::{LogFormat, LogLevel, LogSettings};
    use crate::io::Proxy;

    /// Set in the process that is to die, to what it dies of.
    const PART: &str = "SOFTMISS_TEST_PART";

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
            let connector = crate::io::connect::Connector::start(std::sync::Arc::default()).unwrap();
            let address = crate::config::model::Address::Unix("/nothing".into());
            connector.connect(address, true, |_| panic!("nobody is told"));
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

//! The last changes of state, for whoever looks: what the log says of servers, as short sentences.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::terminal::counted;
use crate::config::model::{PoolId, ServerId};
use crate::engine::Notice;
use crate::failure::Failure;
use crate::time::Instant;
use crate::topology::Topology;

/// Events that are kept: hundreds of servers may go and come back together. About 200 bytes each.
const KEPT: usize = 1000;

/// Silences of a server that are told as one.
const TOGETHER: Duration = Duration::from_secs(300);

/// Who is named where no server is the cause.
pub(super) const PROXY: &str = "proxy";

/// What the text of a silence begins with.
const SILENT: &str = "silent for";

/// A change of state.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it happened.
    pub at: Instant,
    /// The pool.
    pub pool: String,
    /// The server.
    pub server: String,
    /// Whether it is trouble, and not the end of it.
    pub is_trouble: bool,
    /// What happened.
    pub text: String,
    /// How often it has happened of late, where several are told as one.
    pub times: u32,
}

impl Event {
    fn is_silence(&self) -> bool {
        self.text.starts_with(SILENT)
    }
}

/// The last events, told by all workers.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<Event>>);

impl Events {
    /// Keeps what the engine has to tell.
    pub(crate) fn note(&self, topology: &Topology, notice: &Notice, at: Instant) {
        let (pool, server, is_trouble, text) = sentence(notice);
        let pool = topology.pool(pool);
        let server = server.map_or(PROXY, |server| &pool.server(server).name);
        self.tell(&pool.name, server, is_trouble, text, at);
    }

    /// Keeps what there is to tell of a server.
    pub(crate) fn tell(&self, pool: &str, server: &str, is_trouble: bool, text: String, at: Instant) {
        let (pool, server) = (pool.to_owned(), server.to_owned());
        let mut event = Event { at, pool, server, is_trouble, text, times: 1 };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Short silences of a busy host would soon crowd out everything else.
        let is_same = |old: &Event| (&old.pool, &old.server) == (&event.pool, &event.server) && old.is_silence();
        if event.is_silence()
            && let Some(index) = kept.iter().rposition(|old| is_same(old) && at - old.at < TOGETHER)
            && let Some(old) = kept.remove(index)
        {
            event.times = old.times + 1;
            event.text.push_str(&format!(", {} times of late", event.times));
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
    }

    /// The newest `most`, newest first.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().take(most).cloned().collect()
    }
}

/// Whom a notice is about, whether it is trouble, and what it says.
fn sentence(notice: &Notice) -> (PoolId, Option<ServerId>, bool, String) {
    match notice {
        Notice::Ejected { pool, server, failure, failures } => {
            let failures = counted(*failures as usize, "failure");
            (*pool, Some(*server), true, format!("out of service after {failures}: {failure}"))
        }
        Notice::Failing { pool, server, failure, failures, .. } => {
            let times = counted(*failures as usize, "time");
            (*pool, Some(*server), true, format!("fails, in service all the same: {failure} ({times} in a row)"))
        }
        Notice::Well { pool, server, failed_for } => {
            (*pool, Some(*server), false, format!("answers again, after {:.1} s of failures", failed_for.as_secs_f64()))
        }
        Notice::Restored { pool, server, away, restarted, forgotten_keys, flushed, .. } => {
            let mut text = format!("back in service after {:.1} s", away.as_secs_f64());
            if *restarted == Some(true) {
                text.push_str(", as a new process");
            }
            if *flushed {
                text.push_str(", flushed first");
            } else if *forgotten_keys > 0 {
                text.push_str(&format!(", {forgotten_keys} keys deleted first"));
            }
            (*pool, Some(*server), false, text)
        }
        Notice::Silent { pool, server, silent, .. } => {
            (*pool, Some(*server), true, format!("{SILENT} {} ms, answered by the proxy", silent.as_millis()))
        }
        Notice::Unflushed { pool, server, .. } => {
            (*pool, Some(*server), true, "refuses to be flushed, may hold what it should have forgotten".to_owned())
        }
        Notice::Copyless { pool, server, .. } => {
            (*pool, Some(*server), true, "knows no mg (it is older than memcached 1.6): stale has no effect".to_owned())
        }
        Notice::Unfinished { pool, server, connections } => {
            (*pool, Some(*server), true, format!("back, and keeps {connections} dead connections open, reset"))
        }
        Notice::HeldBack { pool, server, wait } => {
            (*pool, Some(*server), true, format!("answers, but comes and goes: kept out for {} s more", wait.as_secs()))
        }
        Notice::Denied { pool, server, term, text, .. } => {
            (*pool, Some(*server), true, format!("refuses {}: {text}", term.name()))
        }
        Notice::Violation { pool, server, violation, .. } => {
            (*pool, Some(*server), true, format!("broke the protocol ({}), connection closed", violation.name()))
        }
        Notice::Stranger { pool, language, .. } => {
            (*pool, None, false, format!("a client speaks {}, which is not spoken here", language.name()))
        }
        Notice::NotAdmitted { pool, .. } => {
            (*pool, None, true, "a client has said no user and password that are right".to_owned())
        }
        Notice::CutOff { pool, held, .. } => {
            (*pool, None, true, format!("client cut off, it held too much memory ({} KB)", held >> 10))
        }
        Notice::Limit { pool, failure: Failure::NoMemory, most, .. } => (
            *pool,
            None,
            true,
            format!("memory limit of {} MB a worker reached, requests answered as failed", most >> 20),
        ),
        Notice::Limit { pool, failure: Failure::NoDedicated, .. } => {
            let text = "dedicated_connections reached, requests that block, watch or subscribe fail";
            (*pool, None, true, text.to_owned())
        }
        Notice::Limit { pool, server, failure, .. } if *failure != Failure::QueueFull => {
            (*pool, *server, true, format!("answers, but does not do what it is asked: {failure}"))
        }
        Notice::Limit { pool, server, .. } => {
            (*pool, *server, true, "too much queued, requests answered in its place".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn texts(events: &Events) -> Vec<String> {
        events.newest(KEPT).into_iter().map(|event| format!("{} {}", event.server, event.text)).collect()
    }

    #[test]
    fn silences_of_a_server_are_told_as_one() {
        let events = Events::default();
        let silent = |server: &str, ms: u64, s: u64| {
            events.tell("pool", server, true, format!("{SILENT} {ms} ms"), at(s));
        };
        silent("a", 41, 0);
        silent("b", 42, 1);
        events.tell("pool", "a", true, "out of service after 2 failures: timed out".to_owned(), at(2));
        silent("a", 43, 3);
        silent("a", 44, 4);
        let told = [
            "a silent for 44 ms, 3 times of late",
            "a out of service after 2 failures: timed out",
            "b silent for 42 ms",
        ];
        assert_eq!(texts(&events), told, "the newest, at its time; what lies between is kept");
        assert_eq!(events.newest(1)[0].times, 3);
        // A server of that name in another pool is another one.
        events.tell("other", "a", true, format!("{SILENT} 45 ms"), at(5));
        assert_eq!(events.newest(KEPT).len(), 4);
    }

    #[test]
    fn a_silence_long_after_another_is_told_by_itself() {
        let events = Events::default();
        let silent = |s: u64| events.tell("pool", "a", true, format!("{SILENT} 41 ms"), at(s));
        silent(0);
        silent(299);
        silent(598);
        assert_eq!(texts(&events), ["a silent for 41 ms, 3 times of late"], "each soon after the last");
        silent(898);
        assert_eq!(texts(&events).len(), 2);
        assert_eq!(events.newest(1)[0].times, 1);
    }

    #[test]
    fn the_oldest_go_first() {
        let events = Events::default();
        (0..KEPT as u64 + 5)
            .for_each(|s| events.tell("pool", "a", false, format!("back in service after {s} s"), at(s)));
        let kept = texts(&events);
        assert_eq!((kept.len(), kept.last().map(String::as_str)), (KEPT, Some("a back in service after 5 s")));
    }
}

//! The operator's word: servers that are kept out of the ring until he lets them back.
//!
//! A hold is as good as an ejection to whoever routes: the ring is built without the server, and what it misses is
//! noted. It differs in how it begins (a drained server may answer what it was asked) and in how it ends: no probe is
//! sent while it lasts.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Board;
use super::tracker::State;
use crate::config::model::{PoolId, ServerId};
use crate::time::Instant;

/// How the operator takes a server out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// At once: what is in flight is answered in its place.
    Eject,
    /// It gets no more requests, and answers those that it has.
    Drain,
}

/// What a worker needs to know of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the ring.
    Up,
    /// Out of it, and probed.
    Out,
    /// Out of it, not probed, and what is in flight is waited for.
    Draining,
    /// Out of it, and not probed.
    Held,
}

/// What a word of the operator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The server's state is another one.
    Done,
    /// It is as he wants it already.
    Already,
    /// It is the last one in the ring.
    Last,
}

impl Board {
    /// What the workers need to know of the servers of a pool.
    #[must_use]
    pub fn standing(&self, pool: PoolId) -> Vec<Standing> {
        let standing = |state| match state {
            State::Up { .. } => Standing::Up,
            State::Ejected { .. } | State::Probing { .. } => Standing::Out,
            State::Held { hold: Hold::Drain, .. } => Standing::Draining,
            State::Held { hold: Hold::Eject, .. } => Standing::Held,
        };
        self.pools[pool.index()].entries.iter().map(|entry| standing(entry.lock().state())).collect()
    }

    /// The operator takes a server out; the last one of the ring only if that is what he wants (`even_last`).
    pub fn hold(&self, pool: PoolId, server: ServerId, hold: Hold, even_last: bool, now: Instant) -> Said {
        let servers = &self.pools[pool.index()];
        let entry = self.entry(pool, server);
        let mut ejected = servers.ejected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tracker = entry.lock();
        let was_up = tracker.is_up();
        if was_up && !even_last && *ejected + 1 >= servers.entries.len() {
            return Said::Last;
        }
        if !tracker.hold(hold, now) {
            return Said::Already;
        }
        if was_up {
            *ejected += 1;
            entry.restarted.store(false, Ordering::Relaxed);
        }
        entry.failures.store(0, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
        Said::Done
    }

    /// The operator lets a server back: its next probe is due now.
    pub fn lift(&self, pool: PoolId, server: ServerId, now: Instant) -> Said {
        if !self.entry(pool, server).lock().lift(now) {
            return Said::Already;
        }
        self.version.fetch_add(1, Ordering::Release);
        Said::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Address, Config, Listen, Pool, Server, Settings};
    use crate::failure::Failure;
    use crate::health::Verdict;
    use crate::health::debts::{Behind, OwedKey, Way};
    use crate::health::tracker::Passed;

    const POOL: PoolId = PoolId(0);

    fn board(servers: u16) -> Board {
        let servers = (0..servers).map(|number| Server {
            name: format!("cache-{number}"),
            ring_name: None,
            address: Address::Tcp { host: "10.0.0.1".to_owned(), port: 11211 + number },
            weight: 1,
            position: usize::from(number),
        });
        let listen = Listen::Unix { path: "/tmp/a".into(), mode: None };
        let pool = Pool { auto_eject_hosts: true, ..Pool::new("pool", listen, servers.collect()) };
        Board::new(&Config { settings: Settings::default(), pools: vec![pool] }, 1)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_held_server_is_not_probed_until_it_is_let_back() {
        for hold in [Hold::Eject, Hold::Drain] {
            let board = board(2);
            let server = ServerId(0);
            let version = board.version();
            assert_eq!(board.hold(POOL, server, hold, false, at(1)), Said::Done);
            assert_ne!(board.version(), version, "workers look again");
            assert_eq!(board.hold(POOL, server, hold, false, at(2)), Said::Already);
            assert_eq!(board.live(POOL), [false, true]);
            assert_eq!(board.probe_at(POOL, server), None);
            assert!(!board.claim_probe(POOL, server, at(1_000_000)));
            assert_eq!(board.failed(POOL, server, 0, Failure::Refused, at(3)), Verdict::Ignored);
            assert_eq!(board.lift(POOL, server, at(5)), Said::Done);
            assert_eq!(board.live(POOL), [false, true], "only a probe brings it back");
            assert!(board.claim_probe(POOL, server, at(5)), "which is due");
            assert_eq!(board.lift(POOL, server, at(6)), Said::Already);
            assert_eq!(board.probe_passed(POOL, server, at(7)), Passed::Restored { away: at(7) - at(1), probes: 1 });
            assert_eq!(board.up_since(POOL, server), Some(at(7)));
            assert_eq!(board.lift(POOL, server, at(8)), Said::Already);
        }
    }

    #[test]
    fn the_last_server_goes_only_if_that_is_meant() {
        let board = board(2);
        assert_eq!(board.hold(POOL, ServerId(0), Hold::Drain, false, at(1)), Said::Done);
        assert_eq!(board.hold(POOL, ServerId(1), Hold::Drain, false, at(2)), Said::Last);
        assert_eq!(board.hold(POOL, ServerId(0), Hold::Eject, false, at(3)), Said::Done, "it is out anyway");
        assert_eq!(board.hold(POOL, ServerId(1), Hold::Eject, true, at(4)), Said::Done);
        assert_eq!(board.standing(POOL), [Standing::Held, Standing::Held]);
        assert_eq!(
            board.hold(POOL, ServerId(1), Hold::Drain, true, at(5)),
            Said::Already,
            "nothing is in flight there"
        );
    }

    #[test]
    fn a_hold_outlasts_the_probe_that_was_under_way() {
        let board = board(2);
        let server = ServerId(0);
        for ms in 0..2 {
            board.failed(POOL, server, 0, Failure::Refused, at(ms));
        }
        assert!(board.claim_probe(POOL, server, at(60_000)));
        assert_eq!(board.hold(POOL, server, Hold::Eject, false, at(60_001)), Said::Done);
        assert_eq!(board.probe_passed(POOL, server, at(60_002)), Passed::Again);
        board.probe_failed(POOL, server, at(60_003));
        assert_eq!(board.standing(POOL)[0], Standing::Held);
        let failure = Some(Failure::Refused);
        assert_eq!(board.state(POOL, server), State::Held { since: at(1), failure, hold: Hold::Eject });
        assert_eq!(board.last_failure(POOL, server), Some((Failure::Refused, at(1))));
    }

    #[test]
    fn what_it_missed_is_paid_before_it_is_back() {
        let board = board(2);
        let server = ServerId(0);
        board.hold(POOL, server, Hold::Drain, false, at(1));
        let key = OwedKey { database: None, key: b"key".to_vec().into(), base64: false };
        assert!(board.owe_absent(POOL, server, key, at(2)));
        board.lift(POOL, server, at(3));
        assert!(board.claim_probe(POOL, server, at(3)));
        assert_eq!(board.probe_passed(POOL, server, at(4)), Passed::Owing);
        let way = Way { worker: 0, place: 0, turn: 0 };
        let bill = board.due(POOL, server, Behind::default(), (None, way), 9);
        board.confirm(POOL, server, bill.share, Some(way));
        assert!(matches!(board.probe_passed(POOL, server, at(5)), Passed::Restored { .. }));
    }

    #[test]
    fn one_that_flapped_is_let_back_all_the_same() {
        let board = board(2);
        let server = ServerId(0);
        let mut now = 0;
        while !matches!(board.probe_passed(POOL, server, at(now)), Passed::HeldBack { .. }) {
            now += 1;
            board.failed(POOL, server, 0, Failure::Refused, at(now));
            if let Some(probe) = board.probe_at(POOL, server) {
                board.claim_probe(POOL, server, probe);
            }
        }
        board.lift(POOL, server, at(now + 1));
        assert!(board.claim_probe(POOL, server, at(now + 1)));
        assert!(matches!(board.probe_passed(POOL, server, at(now + 2)), Passed::Restored { .. }));
    }
}

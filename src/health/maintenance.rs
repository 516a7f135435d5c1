//! Maintenance: servers that operators keep out of the ring until they let them back.
//!
//! Maintenance is as good as an ejection to whoever routes: the ring is built without the server, and what it misses is
//! noted. It differs in how it begins (a drained server may answer what it was asked) and in how it ends: no probe is
//! sent while it lasts.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

pub use super::tracker::Maintenance;
use super::tracker::State;
use super::{Entry, Registry};
use crate::config::model::{PoolId, ServerId};
use crate::time::Instant;

/// What a worker needs to know of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutingState {
    /// In the ring.
    Up,
    /// Out of it, and probed.
    Out,
    /// Out of it, not probed, and what is in flight is waited for.
    Draining,
    /// Out of it, and not probed.
    Maintenance,
    /// The pool has it no more; what is in flight is waited for.
    Left,
}

/// What an order of an operator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaintenanceOutcome {
    /// The server's state is another one.
    Done,
    /// It is as they want it already.
    Already,
    /// It is the last one in the ring.
    Last,
}

impl Registry {
    /// What the workers need to know of the servers of a pool, by their ids.
    #[must_use]
    pub fn routing(&self, pool: PoolId) -> Vec<RoutingState> {
        let routing = |state| match state {
            State::Up { .. } => RoutingState::Up,
            State::Ejected { .. } | State::Probing { .. } => RoutingState::Out,
            State::Maintenance { kind: Maintenance::Drain, .. } => RoutingState::Draining,
            State::Maintenance { kind: Maintenance::Eject, .. } => RoutingState::Maintenance,
        };
        let servers = &self.pools[pool.index()];
        let of = |(entry, is_member): (&Arc<Entry>, &bool)| match is_member {
            true => routing(entry.lock().state()),
            false => RoutingState::Left,
        };
        servers.entries.iter().zip(&servers.members).map(of).collect()
    }

    /// Operators take a server out; the last one of the ring only if that is what they want (`even_last`).
    pub fn begin_maintenance(
        &self,
        pool: PoolId,
        server: ServerId,
        kind: Maintenance,
        even_last: bool,
        now: Instant,
    ) -> MaintenanceOutcome {
        let servers = &self.pools[pool.index()];
        let entry = self.entry(pool, server);
        let mut ejected = servers.ejected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tracker = entry.lock();
        let was_up = tracker.is_up();
        let is_member = entry.is_member.load(Ordering::Relaxed);
        if was_up && !even_last && *ejected + 1 >= servers.members.iter().filter(|is_member| **is_member).count() {
            return MaintenanceOutcome::Last;
        }
        if !tracker.begin_maintenance(kind, now) {
            return MaintenanceOutcome::Already;
        }
        if was_up {
            *ejected += usize::from(is_member);
            entry.restarted.store(false, Ordering::Relaxed);
        }
        self.owe_flush(entry, &tracker, now);
        entry.failures.store(0, Ordering::Relaxed);
        self.shared.version.fetch_add(1, Ordering::Release);
        MaintenanceOutcome::Done
    }

    /// Operators let a server back: its next probe is due now.
    pub fn end_maintenance(&self, pool: PoolId, server: ServerId, now: Instant) -> MaintenanceOutcome {
        if !self.entry(pool, server).lock().end_maintenance(now) {
            return MaintenanceOutcome::Already;
        }
        self.shared.version.fetch_add(1, Ordering::Release);
        MaintenanceOutcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Address, Config, Listen, Pool, Server, Settings};
    use crate::failure::Failure;
    use crate::health::Verdict;
    use crate::health::pending::{ConnectionName, Invalidated, StaleKey};
    use crate::health::tracker::Passed;

    const POOL: PoolId = PoolId(0);

    fn registry(servers: u16) -> Registry {
        let servers = (0..servers).map(|number| Server {
            name: format!("cache-{number}"),
            ring_name: None,
            address: Address::Tcp { host: "10.0.0.1".to_owned(), port: 11211 + number },
            weight: 1,
            id: ServerId(number),
            position: usize::from(number),
        });
        let listen = Listen::Unix { path: "/tmp/a".into(), mode: None };
        let pool = Pool { auto_eject_hosts: true, ..Pool::new("pool", listen, servers.collect()) };
        Registry::new(&Config { settings: Settings::default(), pools: vec![pool] }, 1)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_held_server_is_not_probed_until_it_is_let_back() {
        for kind in [Maintenance::Eject, Maintenance::Drain] {
            let registry = registry(2);
            let server = ServerId(0);
            let version = registry.version();
            assert_eq!(registry.begin_maintenance(POOL, server, kind, false, at(1)), MaintenanceOutcome::Done);
            assert_ne!(registry.version(), version, "workers look again");
            assert_eq!(registry.begin_maintenance(POOL, server, kind, false, at(2)), MaintenanceOutcome::Already);
            assert_eq!(registry.live(POOL), [false, true]);
            assert_eq!(registry.probe_at(POOL, server), None);
            assert!(!registry.claim_probe(POOL, server, at(1_000_000)));
            assert_eq!(registry.failed(POOL, server, 0, Failure::Refused, at(3)), Verdict::Ignored);
            assert_eq!(registry.end_maintenance(POOL, server, at(5)), MaintenanceOutcome::Done);
            assert_eq!(registry.live(POOL), [false, true], "only a probe brings it back");
            assert!(registry.claim_probe(POOL, server, at(5)), "which is due");
            assert_eq!(registry.end_maintenance(POOL, server, at(6)), MaintenanceOutcome::Already);
            assert_eq!(registry.probe_passed(POOL, server, at(7)), Passed::Restored { away: at(7) - at(1), probes: 1 });
            assert_eq!(registry.up_since(POOL, server), Some(at(7)));
            assert_eq!(registry.end_maintenance(POOL, server, at(8)), MaintenanceOutcome::Already);
        }
    }

    #[test]
    fn the_last_server_goes_only_if_that_is_meant() {
        let registry = registry(2);
        assert_eq!(
            registry.begin_maintenance(POOL, ServerId(0), Maintenance::Drain, false, at(1)),
            MaintenanceOutcome::Done
        );
        assert_eq!(
            registry.begin_maintenance(POOL, ServerId(1), Maintenance::Drain, false, at(2)),
            MaintenanceOutcome::Last
        );
        assert_eq!(
            registry.begin_maintenance(POOL, ServerId(0), Maintenance::Eject, false, at(3)),
            MaintenanceOutcome::Done,
            "it is out anyway"
        );
        assert_eq!(
            registry.begin_maintenance(POOL, ServerId(1), Maintenance::Eject, true, at(4)),
            MaintenanceOutcome::Done
        );
        assert_eq!(registry.routing(POOL), [RoutingState::Maintenance, RoutingState::Maintenance]);
        assert_eq!(
            registry.begin_maintenance(POOL, ServerId(1), Maintenance::Drain, true, at(5)),
            MaintenanceOutcome::Already,
            "nothing is in flight there"
        );
    }

    #[test]
    fn maintenance_outlasts_the_probe_that_was_under_way() {
        let registry = registry(2);
        let server = ServerId(0);
        for ms in 0..2 {
            registry.failed(POOL, server, 0, Failure::Refused, at(ms));
        }
        assert!(registry.claim_probe(POOL, server, at(60_000)));
        assert_eq!(
            registry.begin_maintenance(POOL, server, Maintenance::Eject, false, at(60_001)),
            MaintenanceOutcome::Done
        );
        assert_eq!(registry.probe_passed(POOL, server, at(60_002)), Passed::Again);
        registry.probe_failed(POOL, server, at(60_003));
        assert_eq!(registry.routing(POOL)[0], RoutingState::Maintenance);
        let failure = Some(Failure::Refused);
        assert_eq!(
            registry.state(POOL, server),
            State::Maintenance { since: at(1), failure, kind: Maintenance::Eject }
        );
        assert_eq!(registry.last_failure(POOL, server), Some((Failure::Refused, at(1))));
    }

    #[test]
    fn what_it_missed_is_sent_before_it_is_back() {
        let registry = registry(2);
        let server = ServerId(0);
        registry.begin_maintenance(POOL, server, Maintenance::Drain, false, at(1));
        let key = StaleKey { database: None, key: b"key".to_vec().into(), base64: false };
        assert!(registry.invalidate_key_if_out(POOL, server, key, at(2)));
        registry.end_maintenance(POOL, server, at(3));
        assert!(registry.claim_probe(POOL, server, at(3)));
        assert_eq!(registry.probe_passed(POOL, server, at(4)), Passed::HasPending);
        let name = ConnectionName { worker: 0, place: 0, section: 0 };
        let batch = registry.next_batch(POOL, server, Invalidated::default(), (None, name), 9);
        registry.confirm(POOL, server, batch.range, Some(name));
        assert!(matches!(registry.probe_passed(POOL, server, at(5)), Passed::Restored { .. }));
    }

    #[test]
    fn one_that_flapped_is_let_back_all_the_same() {
        let registry = registry(2);
        let server = ServerId(0);
        let mut now = 0;
        while !matches!(registry.probe_passed(POOL, server, at(now)), Passed::HeldBack { .. }) {
            now += 1;
            registry.failed(POOL, server, 0, Failure::Refused, at(now));
            if let Some(probe) = registry.probe_at(POOL, server) {
                registry.claim_probe(POOL, server, probe);
            }
        }
        registry.end_maintenance(POOL, server, at(now + 1));
        assert!(registry.claim_probe(POOL, server, at(now + 1)));
        assert!(matches!(registry.probe_passed(POOL, server, at(now + 2)), Passed::Restored { .. }));
    }
}

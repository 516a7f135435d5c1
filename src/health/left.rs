//! Servers that have left: what they had not been told to forget is theirs if they come back under their names to a later
//! process.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::late::{is_remembered, seconds};
use super::pending::Invalidations;
use super::saved::{Kept, Saved};
use super::{Entry, Registry, Servers};
use crate::config::model::{Config, Rejoin};
use crate::time::Instant;

/// Servers that the next process is told of though they have left, those that did last.
const MOST_LEFT: usize = 1000;

impl Registry {
    /// What is kept of servers that are not there: they have left, or have not been found yet.
    #[must_use]
    pub fn save_others(&self, config: &Config, kept: Kept, now: Instant) -> Vec<Saved> {
        let mut saved = self.unclaimed(config, kept, now);
        let (served, gone): (Vec<_>, Vec<_>) = self.pools.iter().partition(|pool| pool.is_served);
        let (mut seen, mut left) = (BTreeSet::new(), Vec::new());
        // By a name whoever is there is meant, or else who was there last.
        for pool in served.into_iter().chain(gone.into_iter().rev()) {
            for (name, entry) in pool.names.iter().zip(&pool.entries) {
                if seen.insert((&*pool.name, &**name)) && !(pool.is_served && entry.is_member.load(Ordering::Relaxed)) {
                    left.extend(pool.saved(name, entry, kept, now));
                }
            }
        }
        left.sort_by_key(|one| one.unclaimed);
        left.truncate(MOST_LEFT);
        // Marks are written when they have changed, and not for the time that passes.
        left.iter_mut().filter(|_| kept == Kept::Marks).for_each(|one| one.unclaimed = 0);
        saved.extend(left);
        saved
    }
}

impl Servers {
    /// What is kept of one that has left, or of a pool that has.
    fn saved(&self, name: &str, entry: &Entry, kept: Kept, now: Instant) -> Option<Saved> {
        let left_at = Instant::from_nanos(entry.left_at.load(Ordering::Relaxed));
        let unclaimed = seconds(now.since(left_at));
        let has_nothing = entry.pending().is_nothing() && (self.is_served || entry.lock().is_up());
        if has_nothing || !is_remembered(unclaimed) {
            return None;
        }
        let saved = entry.saved((&self.name, name), self.rejoin, kept)?;
        // As for whoever comes back in this process.
        let forgets_all = !self.is_served && self.rejoin != Rejoin::Keep;
        let missed = if forgets_all { Invalidations::of_all() } else { saved.missed };
        Some(Saved { unclaimed, missed, ..saved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{PoolId, Server};
    use crate::config::roster::Roster;
    use crate::health::pending::StaleKey;

    /// A process: what its file says, who is and was where, and what it knows of servers.
    struct Process {
        config: Config,
        rosters: Vec<Roster>,
        registry: Registry,
    }

    fn config(servers: &str, more: &str) -> Config {
        let file = match servers {
            "" => "q: {listen: /q.sock, servers: ['h:9:1']}\n".to_owned(),
            servers => format!("p: {{listen: /p.sock, auto_eject_hosts: true, {more}, servers: [{servers}]}}\n"),
        };
        crate::config::parse("file", &file).expect("a good file").config
    }

    impl Process {
        fn start(config: Config, saved: Vec<Saved>) -> Self {
            let (rosters, registry) = (Roster::follow(&[], &config).expect("few"), Registry::new(&config, 1));
            registry.recall(&config, saved, Instant::ZERO);
            Self { config, rosters, registry }
        }

        fn reload(&mut self, config: Config, now: Instant) {
            self.rosters = Roster::follow(&self.rosters, &config).expect("few");
            self.registry = self.registry.follow(&self.rosters, &config.settings, now);
            let served = self.rosters.iter().filter(|roster| roster.is_served);
            self.config = Config { pools: served.map(|roster| roster.pool.clone()).collect(), ..config };
        }

        fn save(&self, kept: Kept, now: Instant) -> Vec<Saved> {
            self.registry.save(&self.config, kept, now)
        }

        /// What is pending for a server of the pool.
        fn missed(&self, name: &str) -> Invalidations {
            let pool = self.config.pools.iter().find(|pool| pool.name == "p").expect("the pool");
            let server: &Server = pool.servers.iter().find(|server| server.name == name).expect("the server");
            self.registry.entry(pool.id, server.id).pending().all()
        }

        fn miss(&self, name: &str) {
            let pool = &self.config.pools[0];
            let server = pool.servers.iter().find(|server| server.name == name).expect("the server").id;
            let key = StaleKey { database: None, key: b"k".as_slice().into(), base64: false };
            self.registry.invalidate_key(pool.id, server, key, None, Instant::ZERO);
        }
    }

    const NOW: Instant = Instant::ZERO;
    const ONE: &str = "'h:1:1 a'";
    const BOTH: &str = "'h:1:1 a', 'h:2:1 b'";

    #[test]
    fn who_left_is_flushed_when_it_is_back_in_this_process_or_a_later_one() {
        for (more, kept, forgets) in [
            ("rejoin: safe", Kept::Whole, true),
            ("rejoin: flush", Kept::Whole, true),
            ("rejoin: safe", Kept::Marks, true),
            ("rejoin: keep", Kept::Whole, false),
            ("rejoin: keep", Kept::Marks, false),
        ] {
            let mut first = Process::start(config(BOTH, more), Vec::new());
            first.reload(config(ONE, more), NOW);
            let saved = first.save(kept, NOW);
            assert_eq!(saved.iter().map(|one| &*one.server).collect::<Vec<_>>(), vec!["b"; usize::from(forgets)]);
            // Also by a process that it does not come back to.
            let second = Process::start(config(ONE, more), saved);
            let mut third = Process::start(config(ONE, more), second.save(kept, NOW));
            third.reload(config(BOTH, more), NOW);
            let at_once = Process::start(config(BOTH, more), second.save(kept, NOW));
            first.reload(config(BOTH, more), NOW);
            for process in [first, third, at_once] {
                let expected = if forgets { Invalidations::of_all() } else { Invalidations::default() };
                assert_eq!((process.missed("b"), process.missed("a")), (expected, Invalidations::default()), "{more}");
            }
        }
    }

    #[test]
    fn who_was_in_a_pool_that_left_is_flushed_when_it_is_back_if_it_had_something_to_forget() {
        let more = "rejoin: safe";
        let mut first = Process::start(config(BOTH, more), Vec::new());
        first.miss("b");
        first.reload(config("", more), NOW);
        let saved = first.save(Kept::Whole, NOW);
        assert_eq!(saved.iter().map(|one| &*one.server).collect::<Vec<_>>(), ["b"]);
        for first in [first, Process::start(config("", more), saved)] {
            let mut process = first;
            // The pool is back without it, and then it is.
            process.reload(config(ONE, more), NOW);
            assert_eq!(process.missed("a"), Invalidations::default());
            process = Process::start(config(ONE, more), process.save(Kept::Whole, NOW));
            process.reload(config(BOTH, more), NOW);
            assert_eq!((process.missed("a"), process.missed("b")), (Invalidations::default(), Invalidations::of_all()));
        }
        let mut same = Process::start(config(BOTH, more), Vec::new());
        same.miss("b");
        for servers in ["", ONE, BOTH] {
            same.reload(config(servers, more), NOW);
        }
        assert_eq!((same.missed("a"), same.missed("b")), (Invalidations::default(), Invalidations::of_all()));
    }

    #[test]
    fn of_those_that_keep_what_they_have_none_is_flushed_for_the_mark_of_a_key() {
        let process = Process::start(config(BOTH, "rejoin: keep"), Vec::new());
        process.miss("b");
        assert_eq!(process.save(Kept::Whole, NOW)[0].missed.keys.len(), 1);
        assert_eq!(process.save(Kept::Marks, NOW), []);
        process.registry.invalidate_all(PoolId(0), process.config.pools[0].servers[0].id, NOW);
        let [flushed] = &process.save(Kept::Marks, NOW)[..] else { panic!("a flush is a flush") };
        assert!(flushed.missed.flush);
    }

    #[test]
    fn who_left_is_not_remembered_for_ever_nor_are_very_many() {
        let days = |days: u64| Instant::from_nanos(days * 24 * 3600 * 1_000_000_000);
        let more = "rejoin: safe";
        let many: Vec<String> =
            (0..=MOST_LEFT).map(|number| format!("'10.0.0.1:{}:1 s{number}'", 1 + number)).collect();
        let all = |from: usize| format!("{ONE}, {}", many[from..].join(", "));
        let mut process = Process::start(config(&all(0), more), Vec::new());
        process.reload(config(&all(1), more), days(0));
        process.reload(config(ONE, more), days(6));
        let names = |kept, now| process.save(kept, now).iter().map(|one| one.server.clone()).collect::<Vec<_>>();
        let left = names(Kept::Whole, days(6));
        assert!(left.len() == MOST_LEFT && !left.contains(&"s0".to_owned()), "who left last");
        assert!(process.save(Kept::Marks, days(6)) == process.save(Kept::Marks, days(7)), "marks are as they were");
        assert_eq!((names(Kept::Whole, days(12)).len(), names(Kept::Whole, days(13)).len()), (MOST_LEFT, 0));
        let one = &process.save(Kept::Whole, days(8))[0];
        assert_eq!(one.unclaimed, 2 * 24 * 3600);
    }
}

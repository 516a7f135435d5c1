//! Somebody who sees all hosts, and tells each of them: what agreement would be worth.
//!
//! It is told as an operator would tell it, so nothing of this is in the engine.

use softmiss::config::model::ServerId;
use softmiss::health::maintenance::Maintenance;
use softmiss::health::tracker::State;

use super::plan::{Agreed, MS};
use super::world::{Event, POOL, World};

/// How often it looks.
const EVERY: u64 = 10 * MS;

/// How long a server is lost before it leaves, and well before it comes back.
const PATIENCE: u64 = 1000 * MS;

/// A server as most hosts see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) is_listed: bool,
    /// Since when it is well although it is not listed, or the reverse.
    differs_since: Option<u64>,
}

impl Seen {
    pub(super) const LISTED: Self = Self { is_listed: true, differs_since: None };
}

impl World {
    pub(super) fn look_at_all(&mut self) {
        self.schedule(self.now + EVERY, Event::Looks);
        match self.plan.policy.agreed {
            None => {}
            Some(Agreed::OneEjects { takes }) => self.compare_states(takes * MS),
            Some(Agreed::MostLose { takes }) => self.count_lost(takes * MS),
        }
    }

    /// What one host has ejected, all take out, and none has it back before all have found it well.
    fn compare_states(&mut self, takes: u64) {
        for server in 0..self.plan.servers {
            let state = |host: usize| self.hosts[host].topology.registry.state(POOL, ServerId::at(server));
            let states: Vec<State> = (0..self.plan.hosts).map(state).collect();
            let has_found = |state: &State| {
                matches!(state, State::Ejected { failure: Some(_), .. } | State::Probing { failure: Some(_), .. })
            };
            let is_out = states.iter().any(has_found);
            for (host, state) in states.iter().enumerate() {
                let differs = match state {
                    State::Up { .. } => is_out,
                    State::Maintenance { .. } => !is_out,
                    State::Ejected { .. } | State::Probing { .. } => false,
                };
                if differs && self.hosts[host].is_told.insert(server) {
                    self.tell(host, server, is_out, takes);
                }
            }
        }
    }

    /// What more than half of the hosts have lost leaves the file of all, and comes back when they reach it again.
    fn count_lost(&mut self, takes: u64) {
        for server in 0..self.plan.servers {
            let is_well = 2 * self.reached_by(server) > self.plan.hosts;
            let seen = &mut self.seen[server];
            if seen.is_listed == is_well {
                seen.differs_since = None;
            } else if self.now - *seen.differs_since.get_or_insert(self.now) >= PATIENCE {
                *seen = Seen { is_listed: is_well, differs_since: None };
                for host in 0..self.plan.hosts {
                    self.tell(host, server, !is_well, takes);
                }
            }
        }
    }

    fn tell(&mut self, host: usize, server: usize, is_out: bool, takes: u64) {
        let at = self.now + 1 + self.random.below(takes);
        self.schedule(at, Event::Hears { host, server, is_out });
    }

    pub(super) fn hear(&mut self, host: usize, server: usize, is_out: bool) {
        let (id, now) = (ServerId::at(server), self.instant());
        let this = &mut self.hosts[host];
        this.is_told.remove(&server);
        if matches!(self.plan.policy.agreed, Some(Agreed::MostLose { .. })) {
            match is_out {
                true => this.left.insert(server),
                false => this.left.remove(&server),
            };
            let config = self.plan.config(&this.left);
            this.topology = this.published.publish(&config, now).expect("there are ids left");
        } else if is_out {
            this.topology.registry.begin_maintenance(POOL, id, Maintenance::Eject, true, now);
        } else {
            this.topology.registry.end_maintenance(POOL, id, now);
        }
        this.engine.handle_timeout(now);
        self.attend(host);
    }
}

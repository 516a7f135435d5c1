//! Finding out whether an ejected server is well again, with requests of the proxy's own.
//!
//! A probe has a connection of its own, asks `version`, and, where the server missed a `flush_all`, has it flushed
//! before it comes back. Only the first worker probes; the others learn of the return from the board.

use super::deadline::Timer;
use super::link::{LinkId, LinkState, Purpose, Ticket};
use super::{Effect, Engine, Notice};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::tracker::Passed;
use crate::proto::memcache::Verb;
use crate::proto::memcache::response::Status;
use crate::time::Instant;

impl Engine {
    /// Sets the timer of the next probe of an ejected server.
    pub(super) fn schedule_probe(&mut self, pool: PoolId, server: ServerId) {
        if let Some(at) = self.board.probe_at(pool, server)
            && self.probes
        {
            self.timers.set(at, Timer::Probe(pool, server));
        }
    }

    /// The time of a probe has come.
    pub(super) fn probe_timer(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        if self.draining {
            return;
        }
        if self.board.claim_probe(pool, server, now) {
            self.counters.server(pool, server).probes.add(1);
            let link = self.pools[pool.index()].probes[server.index()];
            self.start_connect(link, now);
        } else {
            // Set for an earlier date than the board's, by an ejection that came to an end in between.
            self.schedule_probe(pool, server);
        }
    }

    /// A probe's connection is open: ask.
    pub(super) fn send_probe(&mut self, id: LinkId, now: Instant) {
        let link = &self.links[id.index()];
        let (pool, server) = (link.pool, link.server);
        if self.board.take_owed_flush(pool, server) {
            self.send_own_flush(id, now);
        }
        self.ask_version(id, now);
    }

    /// The response to a request of the proxy's own.
    pub(super) fn own_response(&mut self, id: LinkId, ticket: Ticket, status: Status) {
        let link = &mut self.links[id.index()];
        let (pool, server, now) = (link.pool, link.server, link.heard);
        if ticket.verb == Verb::FlushAll && status != Status::Done {
            self.board.owe_flush(pool, server);
        }
        if ticket.verb != Verb::Version || link.state != LinkState::Up || link.purpose != Purpose::Probe {
            return;
        }
        if status != Status::Done {
            self.fail_link(id, Failure::Protocol, now);
            return;
        }
        link.epoch = link.epoch.wrapping_add(1);
        link.state = LinkState::Down { not_before: Instant::ZERO, failure: Failure::Closed };
        let counters = self.counters.server(pool, server);
        counters.server_connections.sub(1);
        self.counters.current_connections.sub(1);
        self.effects.push_back(Effect::Disconnect { link: id });
        match self.board.probe_passed(pool, server, now) {
            Passed::Restored { away, probes } => {
                self.counters.server(pool, server).restores.add(1);
                self.effects.push_back(Effect::Notice(Notice::Restored { pool, server, away, probes }));
                self.effects.push_back(Effect::News);
            }
            Passed::Again => self.schedule_probe(pool, server),
            Passed::HeldBack { until, first } => {
                if first {
                    self.effects.push_back(Effect::Notice(Notice::HeldBack { pool, server, wait: until - now }));
                }
                self.schedule_probe(pool, server);
            }
        }
    }

    /// The probe did not get an answer.
    pub(super) fn probe_failed(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        self.board.probe_failed(pool, server, now);
        self.schedule_probe(pool, server);
    }
}

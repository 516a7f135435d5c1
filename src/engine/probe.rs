//! Finding out whether an ejected server is well again, without a client's request.
//!
//! One worker probes; the others learn of the return from the board. A probe is a connection of its own: it asks for the
//! version, pays what is owed, and if all of that is answered the server is restored. With `rejoin: safe` there are
//! more steps between ([`ProbeStep`]).

#![expect(clippy::wildcard_enum_match_arm, reason = "a client's verbs are not asked here")]

use std::time::Duration;

use super::deadline::Timer;
use super::link::{LinkId, LinkState, ProbeStep, Purpose, Ticket};
use super::{Effect, Engine, Notice};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::health::tracker::Passed;
use crate::proto::memcache::response::Status;
use crate::proto::memcache::{Verb, encode};
use crate::time::Instant;

/// Between a server's first word and the deletes that it is owed. What had reached it before it was cut off, and was
/// never answered, is carried out in this time and not after them.
const SETTLING: Duration = Duration::from_millis(100);

impl Engine {
    /// Sets the timer of the next probe of an ejected server.
    pub(super) fn schedule_probe(&mut self, pool: PoolId, server: ServerId) {
        if let Some(at) = self.board.probe_at(pool, server)
            && self.probes
        {
            // One timer a server: every change of the ring comes by here for all that are out.
            let timed = &mut self.pools[pool.index()].probe_timers[server.index()];
            if timed.is_none_or(|timed| at < timed) {
                *timed = Some(at);
                self.timers.set(at, Timer::Probe(pool, server));
            }
        }
    }

    /// The time of a probe has come.
    pub(super) fn probe_timer(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        let timed = &mut self.pools[pool.index()].probe_timers[server.index()];
        if self.draining || timed.is_some_and(|at| at > now) {
            return; // set before an earlier one, which has set the next
        }
        *timed = None;
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
        let link = &mut self.links[id.index()];
        (link.step, link.paid, link.flushed, link.restarted) = (ProbeStep::Ask, 0, false, false);
        if !self.is_safe(self.links[id.index()].pool) {
            self.pay(id, now); // a flush that was missed, at most
        }
        self.ask_version(id, now);
    }

    /// The response to a request of the proxy's own.
    #[cold]
    pub(super) fn own_response(&mut self, id: LinkId, ticket: Ticket, response: &[u8], status: Status) {
        let link = &self.links[id.index()];
        let now = link.heard;
        match ticket.verb {
            Verb::FlushAll | Verb::FlushDatabase | Verb::Delete | Verb::MetaDelete => {
                self.paid(id, ticket.verb, status, now)
            }
            Verb::Stats => self.identified(id, response, now),
            Verb::Version if link.purpose == Purpose::Probe && link.state == LinkState::Up => {
                if status == Status::Done {
                    self.probe_paid(id, now);
                } else {
                    self.fail_link(id, Failure::Protocol, now);
                }
            }
            // The last word about a database that was flushed is that the link has left it.
            Verb::Command if link.purpose == Purpose::Probe => self.probe_paid(id, now),
            _ => {}
        }
    }

    /// The timer of a link has fired on which nothing is in flight. If it is a probe's, its server may have settled.
    pub(super) fn settle_probe(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.links[id.index()];
        if link.step != ProbeStep::Settle {
            return;
        }
        let settled = link.heard + SETTLING;
        if now < settled {
            self.arm_link(id, settled);
            return;
        }
        link.step = ProbeStep::Identify;
        self.ask(id, Verb::Stats, Ticket::LISTING, now, |out| encode::stats(out, b""));
    }

    /// An ejected server has answered well all that it was asked so far: the next step.
    pub(super) fn probe_paid(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.links[id.index()];
        if link.state != LinkState::Up || link.paying > 0 || !link.in_flight.is_empty() {
            return; // a flush may be paid before or behind the question
        }
        let (pool, server) = (link.pool, link.server);
        if link.step == ProbeStep::Ask {
            if !self.board.probe_answered(pool, server, now) {
                return self.end_probe(id);
            }
            if self.is_safe(pool) {
                self.links[id.index()].step = ProbeStep::Settle;
                return self.arm_link(id, now + SETTLING);
            }
            self.links[id.index()].step = ProbeStep::Pay;
        }
        let link = &self.links[id.index()];
        let (repaid, flushed, restarted) = (link.paid, link.flushed, link.restarted);
        let passed = self.board.probe_passed(pool, server, now);
        if passed == Passed::Owing && self.pay(id, now) {
            return; // something was missed meanwhile
        }
        self.end_probe(id);
        match passed {
            Passed::Restored { away, probes } => {
                self.counters.server(pool, server).restores.add(1);
                let notice = Notice::Restored { pool, server, away, probes, restarted, repaid, flushed };
                self.effects.push_back(Effect::Notice(notice));
                self.effects.push_back(Effect::News);
            }
            Passed::Again | Passed::Owing => {}
            Passed::HeldBack { until, first } => {
                if first {
                    self.effects.push_back(Effect::Notice(Notice::HeldBack { pool, server, wait: until - now }));
                }
            }
        }
    }

    /// A probe's connection is of no further use.
    fn end_probe(&mut self, id: LinkId) {
        let link = &mut self.links[id.index()];
        link.epoch = link.epoch.wrapping_add(1);
        link.state = LinkState::Down { not_before: Instant::ZERO, failure: Failure::Closed };
        let (pool, server) = (link.pool, link.server);
        self.counters.server(pool, server).server_connections.sub(1);
        self.counters.current_connections.sub(1);
        self.effects.push_back(Effect::Disconnect { link: id, reset: false });
        self.schedule_probe(pool, server);
    }

    /// The probe did not get an answer.
    pub(super) fn probe_failed(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        self.board.probe_failed(pool, server, now);
        self.schedule_probe(pool, server);
    }
}

//! Finding out whether an ejected server is well again, without a client's request.
//!
//! One worker probes; the others learn of the return from the registry. A probe is a connection of its own: it asks for the
//! version, sends the pending invalidations, and if all of that is answered the server is restored. Unless `rejoin: keep` is set, there
//! are more steps between ([`ProbeStep`]): what the server had been asked before it was given up must not be carried out
//! behind the invalidations. So connections with writes in flight are not simply closed then ([`Engine::lingers`]): the server
//! closes them when it has come to their end, and that is waited for.

#![expect(clippy::wildcard_enum_match_arm, reason = "a client's verbs are not asked here")]

use std::time::Duration;

use super::deadline::Timer;
use super::ids::LinkId;
use super::invalidate::BATCH;
use super::servers::queue::Queue;
use super::servers::ticket::{Marks, Ticket};
use super::servers::{Probe, ProbeStep, Settling};
use super::{Course, Effect, Engine, Notice};
use crate::config::model::{PoolId, Rejoin, ServerId};
use crate::failure::Failure;
use crate::health::maintenance::RoutingState;
use crate::health::tracker::Passed;
use crate::proto::memcache::response::Status;
use crate::proto::memcache::{Verb, encode};
use crate::time::Instant;

/// At least so much lies between a server's first word and its pending invalidations, and between the reset of connections and that:
/// for what was asked on connections whose end cannot be seen (of a process before this one, of one that was reset).
const SETTLING: Duration = Duration::from_millis(100);

/// How long after its first word a server may take to come to the end of connections that were given up. One that does
/// not has not even got their ends: the network has lost them, and sends them again ever more seldom.
const LINGER_LIMIT: Duration = Duration::from_millis(500);

/// Between two looks at how many are left.
const LOOK: Duration = Duration::from_millis(10);

impl Engine {
    /// Sets the timer of the next probe of an ejected server.
    pub(super) fn schedule_probe(&mut self, pool: PoolId, server: ServerId) {
        if let Some(at) = self.registry.probe_at(pool, server)
            && self.probes
        {
            // One timer a server: every change of the ring comes by here for all that are out.
            if self.member_mut(pool, server).probe_timer().set(at) {
                self.timers.set(at, Timer::Probe(pool, server));
            }
        }
    }

    /// The time of a probe has come.
    pub(super) fn probe_timer(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        if self.course != Course::Serves || !self.member_mut(pool, server).probe_timer().is_due(now) {
            return;
        }
        if self.pools[pool.index()].routing[server.index()] == RoutingState::Left {
            return; // it has left
        }
        if self.registry.claim_probe(pool, server, now) {
            self.counters.server(pool, server).probes.add(1);
            let link = self.member(pool, server).probe();
            self.start_connect(link, now);
        } else {
            // Set for an earlier date than the registry's, by an ejection that came to an end in between.
            self.schedule_probe(pool, server);
        }
    }

    /// A server has told its version: it is heard, or a probe goes on.
    pub(super) fn version_answered(&mut self, id: LinkId, status: Status, now: Instant) {
        let link = &self.servers[id];
        if link.stream().is_some_and(|stream| stream.settling() == Settling::Asked) {
            if let Some(stream) = self.servers[id].stream_mut() {
                stream.settle(Settling::Heard(now));
            }
            self.arm_link(id, now + LOOK);
        } else if link.is_probe() && link.is_up() {
            if status == Status::Done {
                self.probe_invalidated(id, now);
            } else {
                self.fail_link(id, Failure::Protocol, now);
            }
        }
    }

    /// The timer of a link has fired on which nothing is in flight. If it is a probe's, its server may have settled.
    pub(super) fn settle_probe(&mut self, id: LinkId, now: Instant) {
        let link = &self.servers[id];
        let (pool, server, answered) = (link.pool(), link.server(), link.silence.since());
        let Some(&Probe { step, .. }) = link.probe() else { return };
        let since = match step {
            ProbeStep::Settle => answered,
            ProbeStep::Reset(at) => at,
            ProbeStep::Invalidate => return self.probe_invalidated(id, now),
            _ => return,
        };
        if now < since + SETTLING {
            return self.arm_link(id, since + SETTLING);
        }
        let left = self.registry.lingering(pool, server);
        if left > 0 && step == ProbeStep::Settle {
            if now < answered + LINGER_LIMIT {
                return self.arm_link(id, now + LOOK);
            }
            self.servers[id].step_to(ProbeStep::Reset(now));
            self.wait_no_longer(pool, server, left, now);
            return self.arm_link(id, now + SETTLING);
        }
        if self.is_safe(pool) {
            self.servers[id].step_to(ProbeStep::Identify);
            return self.ask(id, Verb::Stats, Marks::LISTING, now, |out| encode::stats(out, b""));
        }
        self.servers[id].step_to(ProbeStep::Invalidate);
        if !self.send_invalidations(id, BATCH, now) {
            self.probe_invalidated(id, now);
        }
    }

    /// A server has not come to the end of connections in time: they are reset.
    fn wait_no_longer(&mut self, pool: PoolId, server: ServerId, left: usize, now: Instant) {
        self.registry.end_lingering(pool, server, now);
        self.outputs.push(Effect::News);
        self.outputs.tell(Notice::Unfinished { pool, server, connections: left });
    }

    /// Whether a server has come to the end of all connections that were given up, or will not carry out anything more of
    /// them.
    pub(super) fn is_settled(&self, pool: PoolId, server: ServerId, now: Instant) -> bool {
        let is_recent = |ended: Instant| now < ended + SETTLING;
        self.registry.lingering(pool, server) == 0
            && !self.registry.lingering_ended(pool, server).is_some_and(is_recent)
    }

    /// Whether invalidations may be sent on a connection: not before its server is settled, or what it was asked earlier
    /// could come behind them. If it is not, a timer looks again.
    pub(super) fn may_invalidate(&mut self, id: LinkId, now: Instant) -> bool {
        let (pool, server) = self.link_server(id);
        let is_settled = self.is_settled(pool, server, now);
        let link = &mut self.servers[id];
        let is_traffic = link.is_traffic();
        let Some(stream) = link.stream_mut() else { return is_settled };
        if is_settled {
            stream.settle(Settling::None);
            return true;
        }
        if !is_traffic {
            return false;
        }
        let left = self.registry.lingering(pool, server);
        match stream.settling() {
            _ if left == 0 => {}
            // Its time to come to their end starts with its first word.
            Settling::None => {
                stream.settle(Settling::Asked);
                self.ask_version(id, now);
            }
            Settling::Heard(at) | Settling::Reset(at) if now >= at + LINGER_LIMIT => {
                stream.settle(Settling::Reset(now));
                self.wait_no_longer(pool, server, left, now);
            }
            Settling::Asked | Settling::Heard(_) | Settling::Reset(_) => {}
        }
        self.arm_link(id, now + LOOK);
        false
    }

    /// Whether a connection that is given up with these requests in flight is not closed before the server has come to
    /// its end: it may carry out writes of it, and invalidations must come behind them.
    pub(super) fn lingers(&self, pool: PoolId, failure: Failure, asked: &Queue) -> bool {
        let changes = |ticket: &Ticket| !ticket.only_reads() && !asked.is_unwritten(*ticket);
        self.topology.pools[pool.index()].rejoin != Rejoin::Keep
            && !matches!(failure, Failure::Closed | Failure::Reset | Failure::Full) // the server has done so itself
            && asked.tickets().any(changes)
    }

    /// A server has come to the end of a connection to it that was waited for, or will not.
    pub fn link_ended(&mut self, pool: PoolId, server: ServerId) {
        self.registry.ended(pool, server);
        let now = self.now;
        if self.registry.has_pending(pool, server) && self.is_settled(pool, server, now) {
            for link in self.member(pool, server).links().to_vec() {
                self.invalidate_open(link, now);
            }
        }
    }

    /// An ejected server has answered well all that it was asked so far: the next step.
    pub(super) fn probe_invalidated(&mut self, id: LinkId, now: Instant) {
        let link = &mut self.servers[id];
        if !link.is_up() || link.queue().unconfirmed() > 0 || !link.queue().is_empty() {
            return; // a flush may be confirmed before or behind the question
        }
        let (pool, server) = (link.pool(), link.server());
        let Some(probe) = link.probe_mut() else { return };
        if probe.step == ProbeStep::Ask {
            if !self.registry.probe_answered(pool, server, now) {
                return self.end_probe(id);
            }
            if self.topology.pools[pool.index()].rejoin != Rejoin::Keep {
                probe.step = ProbeStep::Settle;
                return self.arm_link(id, now + SETTLING);
            }
            probe.step = ProbeStep::Invalidate;
        }
        let (forgotten_keys, flushed, restarted) = (probe.keys_invalidated, probe.flushed, probe.restarted);
        let passed = self.registry.probe_passed(pool, server, now);
        if passed == Passed::HasPending {
            if !self.send_invalidations(id, BATCH, now) {
                if self.registry.lingering(pool, server) > 0 {
                    self.servers[id].step_to(ProbeStep::Settle); // one was given up since
                }
                self.arm_link(id, now + LOOK); // another worker has to give up a connection to it first
            }
            return; // something was missed meanwhile
        }
        self.end_probe(id);
        match passed {
            Passed::Restored { away, probes } => {
                self.counters.server(pool, server).restores.add(1);
                let restarted = if self.registry.was_restarted(pool, server) { Some(true) } else { restarted };
                let notice = Notice::Restored { pool, server, away, probes, restarted, forgotten_keys, flushed };
                self.outputs.tell(notice);
                self.outputs.push(Effect::News);
            }
            Passed::Again | Passed::HasPending => {}
            Passed::HeldBack { until, first } => {
                if first {
                    self.outputs.tell(Notice::HeldBack { pool, server, wait: until - now });
                }
            }
        }
    }

    /// A probe's connection is of no further use.
    fn end_probe(&mut self, id: LinkId) {
        let link = &mut self.servers[id];
        link.end(Failure::Closed, Instant::ZERO);
        let (pool, server) = (link.pool(), link.server());
        self.counters.server(pool, server).server_connections.sub(1);
        self.counters.current_connections.sub(1);
        self.outputs.push(Effect::Disconnect { link: id, reset: false, lingers: None });
        self.charge_link(id);
        self.schedule_probe(pool, server);
    }

    /// The probe did not get an answer.
    pub(super) fn probe_failed(&mut self, pool: PoolId, server: ServerId, now: Instant) {
        self.registry.probe_failed(pool, server, now);
        self.schedule_probe(pool, server);
    }
}

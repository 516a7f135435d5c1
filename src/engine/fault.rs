//! What happens when a connection to a server breaks: what is asked again, and what becomes of the rest.

#![expect(clippy::wildcard_enum_match_arm, reason = "the causes that matter are named, the others are alike")]

use super::ids::{LinkId, SessionId};
use super::redis::Profile;
use super::request::Answer;
use super::servers::queue::Queue;
use super::servers::ticket::{Asker, Marks, Ticket};
use super::servers::{Connection, ConnectionState};
use super::slow::Described;
use super::{Effect, Engine};
use crate::config::model::{PoolId, ServerId};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::time::Instant;
use std::collections::BTreeSet;
use std::time::Duration;

/// Pause between connects to a server that refuses them.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Time in which a server that refuses connects is to be found out.
const DETECTION_TIME: Duration = Duration::from_millis(80);

/// The failure that is told of a request on a connection that has ended: who is told of a refusal takes it that nothing was sent.
pub(super) fn told_of(failure: Failure, unsent: bool) -> Failure {
    if failure == Failure::Ejected && !unsent { Failure::Closed } else { failure }
}

impl Engine {
    /// Opens a link's connection, unless too many were opened to its server of late. Returns whether there will be one.
    pub(super) fn start_connect(&mut self, id: LinkId, now: Instant) -> bool {
        let link = &mut self.servers[id];
        let ConnectionState::Down { failure, .. } = *link.state() else { return true };
        let is_first = link.is_new();
        if is_first && link.is_traffic() && link.profile() != Profile::default() {
            self.registry.connects_more(link.pool(), link.server());
        }
        if link.is_traffic()
            && !is_first
            && let Err(not_before) = self.registry.may_reconnect(link.pool(), link.server(), now)
        {
            link.hold_back(not_before, failure);
            self.counters.server(link.pool(), link.server()).reconnects_limited.add(1);
            self.arm_link(id, not_before);
            return false;
        }
        let epoch = link.connect(now);
        self.outputs.push(Effect::Connect { link: id, epoch });
        let look = self.first_look(id, now);
        self.arm_link(id, look);
        true
    }

    /// Ends a link's connection, or the attempt to open it: what can be sent again is, the rest is answered by policy.
    ///
    /// A request is sent again, once, when the connection had been open and no byte of its response had come, if no byte of
    /// it had been written, or if it only reads and its client had sent nothing behind it that may have changed what it
    /// is to read. So a connection that the server closed for idleness costs hardly anybody anything, no write is ever
    /// made twice, and nobody reads what they wrote later.
    #[cold]
    pub(super) fn fail_link(&mut self, id: LinkId, failure: Failure, now: Instant) {
        let link = &mut self.servers[id];
        if link.is_down() {
            return;
        }
        let (pool, server, owner, database) = (link.pool(), link.server(), link.owner(), link.profile().database);
        if failure != Failure::TimedOut {
            link.silence.excuse();
        }
        let suspect = link.silence.is_suspect();
        let stream = link.stream();
        let (was_up, answered) = (stream.is_some(), stream.is_some_and(|stream| stream.has_answered()));
        let responding = stream.is_some_and(|stream| stream.has_begun());
        let may_wait = owner.is_some() && failure == Failure::Ejected && !responding;
        let waiting = if may_wait { self.take_waiting(id, now) } else { None };
        let mut queue = self.servers[id].end(failure, now);
        let (backpressured, fenced) = queue.give_up();
        if self.near.is_on() {
            self.near_may_have_changed(pool, &queue);
            self.near.end_telling(id);
        }
        let reset = !queue.is_empty();
        let lingers = was_up && reset && self.lingers(pool, failure, &queue);
        let lingers = lingers.then_some((pool, server));
        if lingers.is_some() {
            self.registry.lingers(pool, server);
        }
        if failure == Failure::TimedOut {
            self.registry.forget_pause(pool, server); // it did not go on
        }
        if self.servers[id].is_traffic() {
            self.end_connection_names(id, fenced);
        }
        self.outputs.push(Effect::Disconnect { link: id, reset, lingers });
        self.count_closed(pool, server, failure, was_up);
        self.doubt_version(pool, server);
        self.end_crowd(id);
        self.clients.resume_all_soon(backpressured);
        if let Some(owner) = owner {
            let is_special = failure == Failure::Denied && self.is_special(id);
            if !matches!(failure, Failure::Ejected | Failure::NoResources) && !is_special && (!was_up || reset) {
                self.report(pool, server, failure, now);
            }
            self.count_lost(pool, server, queue.len());
            self.dedicated_failed(id, owner, &queue, waiting, failure, now);
            return;
        }
        if self.servers[id].is_spare() {
            self.count_lost(pool, server, queue.len());
            return self.spare_failed(id); // no client waits for anything there
        }
        if self.servers[id].is_probe() {
            self.count_lost(pool, server, queue.len());
            self.charge_link(id);
            if failure == Failure::NoResources {
                self.registry.probe_unmade(pool, server, now);
                self.schedule_probe(pool, server);
            } else {
                self.probe_failed(pool, server, now);
            }
            return;
        }
        // What is sent again would come behind its own invalidation: that was noted for this connection, which is no more.
        let may_resend = was_up
            && !self.registry.has_pending(pool, server)
            && matches!(failure, Failure::Closed | Failure::Reset)
            && self.pools[pool.index()].live[server.index()];
        let joins = self.topology.pools[pool.index()].join_gets;
        let overtaken = if may_resend { overtaken(&queue) } else { vec![false; queue.len()] };
        let mut lost = Vec::new();
        for (index, (ticket, request)) in queue.requests().enumerate() {
            let unsent = queue.is_unwritten(ticket);
            let repeatable = unsent || (ticket.only_reads() && !overtaken[index] && !(index == 0 && responding));
            if may_resend && repeatable && !ticket.is(Marks::RESENT) && self.is_awaited(ticket) {
                let link = &mut self.servers[id];
                let start = link.append_again(ticket, request, queue.whole(ticket));
                let again = Ticket { start, marks: ticket.marks.without(Marks::JOINED) | Marks::RESENT, ..ticket };
                link.push(again, joins, now);
                self.counters.server(pool, server).resends.add(1);
            } else {
                self.invalidate_lost(id, ticket, request, unsent, now);
                lost.push((ticket, request, told_of(failure, unsent)));
            }
        }
        let resent = !self.servers[id].queue().is_empty();
        if self.servers[id].is_long() {
            self.note_crowd(id);
        }
        // A connection that ends while nothing waits on it says nothing against the server (idle timeouts, firewalls).
        let counts = match failure {
            Failure::Closed | Failure::Reset if was_up => !lost.is_empty(),
            // The server was not asked.
            Failure::Ejected | Failure::NoResources => false,
            Failure::Denied => !self.is_special(id),
            _ => true,
        };
        if counts {
            self.report(pool, server, failure, now);
        }
        if !was_up || (counts && !answered) {
            self.hold_back(id, failure, now);
        }
        self.count_lost(pool, server, lost.len());
        for (ticket, request, failure) in lost {
            self.leave_link(id, ticket);
            self.fail_ticket((pool, server, database), ticket, request, failure, now);
        }
        let live = self.pools[pool.index()].live[server.index()];
        if resent && !(live && self.start_connect(id, now)) {
            self.abandon(id, if live { failure } else { Failure::Ejected }, now);
        }
        // For what nobody else would connect for: a suspect server has to be tested, pending invalidations sent.
        let has_to_invalidate = self.has_to_invalidate(id);
        if live && self.registry.has_pending(pool, server) {
            self.remind(pool, server, now);
        }
        if was_up && live && (suspect || has_to_invalidate) {
            match *self.servers[id].state() {
                ConnectionState::Down { not_before, .. } if not_before > now && !suspect => {
                    self.arm_link(id, not_before)
                }
                _ => drop(self.start_connect(id, now)),
            }
        }
        self.charge_link(id);
    }

    /// Has a link wait before its next connect. While the server is not ejected it is tried again without being asked,
    /// so that a dead one is found out soon even if nobody happens to need it.
    fn hold_back(&mut self, id: LinkId, failure: Failure, now: Instant) {
        let link = &mut self.servers[id];
        let config = &self.topology.pools[link.pool().index()];
        let pause = if config.auto_eject_hosts {
            (DETECTION_TIME / config.server_failure_limit.max(1)).clamp(Duration::from_millis(5), RECONNECT_PAUSE)
        } else {
            RECONNECT_PAUSE
        };
        link.hold_back(now + pause, failure);
        let link = &self.servers[id];
        if config.auto_eject_hosts || link.silence.is_suspect() || self.has_to_invalidate(id) {
            self.arm_link(id, now + pause);
        }
    }

    /// Whether a link is set to something that a client has chosen, and the pool does not need: a server that refuses that
    /// is no worse for it.
    pub(super) fn is_special(&self, id: LinkId) -> bool {
        let link = &self.servers[id];
        let database = self.topology.pools[link.pool().index()].redis.db;
        link.profile() != Profile { database, ..Profile::default() }
    }

    /// Fails whatever a link holds that is not connected.
    pub(super) fn abandon(&mut self, id: LinkId, failure: Failure, now: Instant) {
        let link = &mut self.servers[id];
        let (pool, server, database) = (link.pool(), link.server(), link.profile().database);
        let mut queue = link.take_queue();
        let (backpressured, fenced) = queue.give_up();
        let is_traffic = link.is_traffic();
        self.clients.resume_all_soon(backpressured);
        self.end_crowd(id);
        if is_traffic {
            // Nothing is under way there any more, nor what was to find out when that would be over.
            self.end_connection_names(id, fenced);
        }
        self.count_lost(pool, server, queue.len());
        for (ticket, request) in queue.requests() {
            self.invalidate_lost(id, ticket, request, !ticket.is(Marks::RESENT), now);
            self.leave_link(id, ticket);
            self.fail_ticket((pool, server, database), ticket, request, failure, now);
        }
        self.charge_link(id);
    }

    pub(super) fn count_lost(&self, pool: PoolId, server: ServerId, tickets: usize) {
        self.counters.server(pool, server).outcomes[Outcome::Lost as usize].add(tickets as u64);
    }

    pub(super) fn count_closed(&self, pool: PoolId, server: ServerId, failure: Failure, was_up: bool) {
        let counters = self.counters.server(pool, server);
        if was_up {
            counters.server_connections.sub(1);
            self.counters.current_connections.sub(1);
        }
        match failure {
            Failure::Closed => counters.server_eof.add(1),
            Failure::TimedOut => counters.server_timedout.add(1),
            Failure::Ejected => {}
            _ => counters.server_err.add(1),
        }
    }

    /// Whether somebody still waits for a ticket's response.
    pub(super) fn is_awaited(&self, ticket: Ticket) -> bool {
        match ticket.asker {
            Asker::Proxy(_) => false,
            Asker::Unheard(_) => true,
            Asker::Client { id, number } => {
                let slot = self.session_ref(id).and_then(|session| session.slot(number));
                slot.is_some_and(|slot| slot.waiting() > 0)
            }
        }
    }

    /// Answers, by the pool's policy, the request that a ticket stands for; or the part of it. It was for this database of
    /// the server.
    pub(super) fn fail_ticket(
        &mut self,
        (pool, server, database): (PoolId, ServerId, u32),
        ticket: Ticket,
        request: &[u8],
        failure: Failure,
        now: Instant,
    ) {
        if let Asker::Proxy(intent) = ticket.asker {
            return self.unheard(intent);
        }
        let due = self.due_of(ticket, request, now);
        self.undelivered(pool, server, ticket.verb, database, due, now);
        let Some((id, number)) = ticket.client() else { return self.count_failure(pool, Some(server), failure) };
        // The last part of a request decides how long it took.
        let slot = self.session(id).and_then(|session| session.slot_mut(number)).filter(|slot| slot.waiting() == 1);
        if let Some(started) = slot.map(|slot| slot.started()) {
            self.slow_lost(pool, Some(server), Described::of(ticket, request), started, failure, now);
        }
        self.fail_part(id, server, number, ticket.fragment, failure);
    }

    /// Fails one server's part of a request.
    pub(super) fn fail_part(&mut self, id: SessionId, server: ServerId, number: u32, fragment: u16, failure: Failure) {
        if self.stampede.is_on() {
            if matches!(failure, Failure::TooLarge | Failure::NoMemory) {
                self.answered_again(id, (number, fragment)); // what is there cannot be given: that is told
            } else if self.tell_earlier_miss(id, (number, fragment)) {
                self.advance_if_answered(id);
                return self.wait_for_keys(id, self.now);
            }
        }
        let Some(session) = self.session(id) else { return };
        let (pool, is_alone) = (session.pool(), session.requests.is_alone());
        let policy = self.policy(pool);
        let waits = is_alone && self.ends_waiting(id, failure);
        let Some(slot) = self.session(id).and_then(|session| session.slot_mut(number)) else { return };
        match &mut slot.answer {
            Answer::Ready(_) | Answer::Crawled => return,
            Answer::Merged { scattered, .. } => {
                if scattered.settle(fragment).is_none() {
                    return;
                }
                scattered.merge_mut().failed(fragment, failure, policy.tells());
                slot.note(policy.outcome());
                self.count_degraded(id, Some(server), failure);
            }
            Answer::Of { .. } if waits => {
                slot.settle(Vec::new(), Outcome::Failed);
                self.hang_up_waiting(id, Some(server), failure);
                return;
            }
            Answer::Of { .. } => self.degrade_slot(pool, id, number, failure),
        }
        self.doubt_watch(id);
        self.advance_if_answered(id);
        if self.stampede.is_on() && self.stampede.holds_some(id) {
            self.wait_for_keys(id, self.now); // what is held of it may have waited for this
        }
    }

    /// Answers, by the pool's policy, a request that one server was to answer.
    pub(super) fn degrade_slot(&mut self, pool: PoolId, id: SessionId, number: u32, failure: Failure) {
        let slot = self.session(id).and_then(|session| session.slot_mut(number)).map(|slot| &mut slot.answer);
        let Some(Answer::Of { request, server, echo }) = slot else { return };
        let (request, server, echo) = (*request, *server, std::mem::take(echo));
        let mut body = Vec::new();
        let outcome = self.write_degraded(&mut body, pool, &request, &echo, Some(server), failure);
        if let Some(session) = self.session(id) {
            session.requests.settle(number, body, outcome);
        }
    }

    /// Passes on what is at the front of a client's requests, if that is answered.
    pub(super) fn advance_if_answered(&mut self, id: SessionId) {
        if self.session_ref(id).is_some_and(|session| session.requests.is_front_answered()) {
            self.advance(id);
            self.charge_session(id);
        }
    }
}

/// For each ticket, whether its client had sent something behind it that may have changed something already.
///
/// All of one client's requests to one server that are in flight together share a connection, so no other has any.
fn overtaken(queue: &Queue) -> Vec<bool> {
    let mut writers = BTreeSet::new();
    let mut overtaken = vec![false; queue.len()];
    for (place, ticket) in queue.tickets().enumerate().rev() {
        let Some(client) = ticket.session() else { continue };
        overtaken[place] = writers.contains(&client);
        if !ticket.only_reads() && !queue.is_unwritten(*ticket) {
            writers.insert(client);
        }
    }
    overtaken
}

/// Whether a link that is down holds nothing.
pub(super) fn down_is_empty(link: &Connection) -> bool {
    !link.is_down() || link.queue().is_empty()
}

//! `lru_crawler metadump` and `mgdump`: the keys of all servers as one list.
//!
//! A list may be as long as the servers are large, so none of it goes through connections that others wait on, and none
//! of it is collected. The servers are asked one after the other, each on a connection that is opened for it, and whole
//! lines are passed on as they come. A server is read only as long as the client reads. Nothing else of the client is in
//! flight meanwhile, and the list may take as long as it takes: the pool's `timeout` counts between two reads.

use super::listing::Crawl;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::ServerId;
use crate::engine::buffers::Room;
use crate::engine::deliver::Step;
use crate::engine::dispatched::Dispatched;
use crate::engine::ids::{LinkId, SessionId};
use crate::engine::redis::Profile;
use crate::engine::request::{Answer, Slot};
use crate::engine::{Effect, Engine, server_id};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::proto::memcache::crawl::{BUSY, Form, Next, is_busy};
use crate::proto::memcache::reply;
use crate::proto::memcache::response::Violation;
use crate::time::Instant;

/// Clients of a pool that may be told a list at the same time. A server tells one at a time.
const CRAWLS_LIMIT: usize = 16;

/// Bytes that are read of a server at a time.
const PORTION: usize = 16 << 10;

/// How soon a server is asked again that lists for somebody else, and how long, where the pool has no `timeout`.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const BUSY_LIMIT: Duration = Duration::from_secs(1);

impl Engine {
    /// Begins a list, when everything is answered that the client has asked before.
    #[cold]
    pub(in crate::engine) fn crawl(&mut self, id: SessionId, form: Form, which: &[u8], now: Instant) -> Dispatched {
        let Some(session) = self.clients.get_mut(id) else { return Dispatched::Done };
        if !session.requests.is_empty() {
            session.requests.bar_next();
            return Dispatched::Backpressured;
        }
        session.requests.lift_bar();
        let pool = session.pool();
        if self.pools[pool.index()].dedicated >= CRAWLS_LIMIT {
            self.answer(id, BUSY);
            return Dispatched::Done;
        }
        let class = self.telemetry.at_hand.take(); // it ends with its slot
        session.requests.stay_alone();
        session.requests.push(Slot { keys: 1, class, outcome: Outcome::Done, answer: Answer::Crawled });
        session.begin_crawl(Box::new(Crawl {
            form,
            which: which.into(),
            next: 0,
            link: None,
            held: false,
            busy: None,
            again: None,
            answered: false,
            word: None,
            failure: None,
        }));
        self.crawl_next(id, now);
        Dispatched::Done
    }

    /// Asks the next server, or ends the list behind the last one.
    fn crawl_next(&mut self, id: SessionId, now: Instant) {
        let topology = Arc::clone(&self.topology);
        loop {
            let Some(session) = self.session(id) else { return };
            let (pool, draws_on) = (session.pool(), session.holding.charged());
            let Some(crawl) = session.crawl_mut() else { return };
            let of = topology.pool(pool);
            let next = (crawl.next..of.ids()).map(server_id).find(|server| of.has(*server));
            (crawl.link, crawl.held, crawl.busy, crawl.again) = (None, false, None, None);
            let Some(server) = next else { return self.finish_crawl(id, None, now) };
            crawl.next = server.index() + 1;
            let live = self.pools[pool.index()].live[server.index()];
            let failure = match () {
                () if !live => Failure::Ejected,
                // It could show what somebody was told that it has forgotten.
                () if self.registry.awaits_flush(pool, server, None) => Failure::Stalled,
                () if !self.has_memory(draws_on, PORTION) => Failure::NoMemory,
                () => {
                    let link = self.open_dedicated(id, (pool, server), Profile::default(), now);
                    self.servers[link].listen();
                    if let Some(crawl) = self.session(id).and_then(|session| session.crawl_mut()) {
                        crawl.link = Some(link);
                    }
                    return self.ask_to_crawl(id, link);
                }
            };
            self.crawl_failed(id, server, failure);
        }
    }

    fn ask_to_crawl(&mut self, id: SessionId, link: LinkId) {
        let Self { clients, servers, .. } = self;
        let session = clients.get(id);
        if let Some(crawl) = session.and_then(|session| session.crawl()) {
            crawl.form.encode(servers[link].tail(), &crawl.which);
            self.touch_link(link); // once it is connected, it is written anyway
            self.charge_link(link);
        }
    }

    /// A server has listed nothing, or not all.
    fn crawl_failed(&mut self, id: SessionId, server: ServerId, failure: Failure) {
        let Some(pool) = self.pool_of(id) else { return };
        let outcome = self.failed_outcome(pool);
        self.count_degraded(id, Some(server), failure);
        let Some(session) = self.session(id) else { return };
        if let Some(slot) = session.requests.front_mut() {
            slot.outcome = slot.outcome.max(outcome);
        }
        if let Some(crawl) = session.crawl_mut() {
            crawl.failure.get_or_insert(failure);
        }
    }

    /// Tells the client the end of the list, or in place of it what has come in the way.
    fn finish_crawl(&mut self, id: SessionId, word: Option<&[u8]>, now: Instant) {
        let Some(session) = self.session(id) else { return };
        let pool = session.pool();
        let Some(crawl) = session.take_crawl() else { return };
        let errors = self.policy(pool).tells();
        let body = match (word.or(crawl.word.as_deref()), crawl.failure) {
            _ if crawl.answered => crawl.form.end(),
            (Some(word), _) => word,
            (None, Some(failure)) if errors => reply::error(failure),
            (None, _) => crawl.form.end(),
        };
        let Some(session) = self.session(id) else { return };
        session.requests.lift_bar();
        session.input.restart(now); // the time of what follows begins when this is over
        if let Some(outcome) = session.requests.front().map(|slot| slot.outcome) {
            session.requests.settle(session.requests.first_number(), body.to_vec(), outcome);
        }
        self.advance(id);
        self.charge_session(id);
    }

    /// What a server lists on a client's own connection.
    #[cold]
    pub(in crate::engine) fn take_crawled(&mut self, id: LinkId, input: &[u8]) -> Step {
        let now = self.now;
        let link = &self.servers[id];
        let (pool, server) = (link.pool(), link.server());
        let Some(owner) = link.owner() else { return Step::Used(input.len()) };
        let busy_limit = self.timeout(pool).unwrap_or(BUSY_LIMIT);
        let Some(session) = self.clients.get_mut(owner) else { return Step::Used(input.len()) };
        let Some(crawl) = session.crawl_on(id) else {
            return Step::Used(input.len()); // it is another's by now
        };
        let (len, next) = crawl.form.rows(input);
        if len > 0 {
            (crawl.answered, crawl.busy) = (true, None);
            session.output.append(&input[..len]);
            self.charge_session(owner);
            self.touch_session(owner);
            return Step::Used(len); // what follows is looked at next
        }
        let mut is_late = false;
        match next {
            Next::More => return Step::Need(input.len() + 1),
            Next::TooLong => return Step::Broken(Violation::TooLong),
            Next::End => crawl.answered = true,
            Next::Word(word) if is_busy(word) && crawl.answered => {
                // The other one was there first. Some of the list has been told, so the rest is waited for.
                let since = *crawl.busy.get_or_insert(now);
                if now < since + busy_limit {
                    crawl.again = Some(now + BUSY_PAUSE);
                    self.arm_link(id, now + BUSY_PAUSE);
                    return Step::Used(word.len());
                }
                is_late = true;
            }
            Next::Word(word) if is_busy(word) => {
                crawl.link = None;
                self.close_dedicated(owner, id);
                self.finish_crawl(owner, Some(word), now);
                return Step::Used(input.len());
            }
            Next::Word(word) => {
                crawl.word.get_or_insert_with(|| word.into());
            }
        }
        crawl.link = None;
        if is_late {
            self.crawl_failed(owner, server, Failure::TimedOut);
        }
        self.close_dedicated(owner, id);
        self.crawl_next(owner, now);
        Step::Used(input.len())
    }

    /// A client's own connection has failed: if keys were listed there, the list goes on with the next server.
    #[cold]
    pub(in crate::engine) fn crawl_lost(&mut self, owner: SessionId, id: LinkId, failure: Failure, now: Instant) {
        let Some(session) = self.session(owner) else { return };
        let Some(crawl) = session.crawl_on(id) else { return };
        let server = server_id(crawl.next - 1);
        crawl.link = None;
        self.crawl_failed(owner, server, failure);
        self.crawl_next(owner, now);
    }

    /// The client has left, or is let go.
    pub(in crate::engine) fn end_crawl(&mut self, id: SessionId) {
        let crawl = self.session(id).and_then(|session| session.take_crawl());
        if let Some(link) = crawl.and_then(|crawl| crawl.link) {
            self.close_dedicated(id, link);
        }
    }

    /// Where the next bytes of a list are read to: nowhere while the client does not read. `None` where none is told.
    #[cold]
    pub(in crate::engine) fn crawl_room(&mut self, id: LinkId) -> Option<Room<'static>> {
        let owner = self.servers[id].owner()?;
        let is_scarce = self.memory.held() > self.memory.limits().common;
        let session = self.session(owner)?;
        let waits = session.is_choked() || (is_scarce && session.pending_output() > 0);
        session.crawl_mut()?.held = waits;
        Some(if waits { Room::Nowhere } else { Room::Anywhere(PORTION) })
    }

    /// A client has read some of a list.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn crawl_was_read(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.session(id) else { return };
        let is_read = session.is_half_read();
        let Some(crawl) = session.crawl_mut().filter(|crawl| crawl.held && is_read) else { return };
        crawl.held = false;
        let Some(link) = crawl.link else { return };
        self.servers[link].silence.begin(now); // its silence was not its own
        self.outputs.push(Effect::Read { link });
    }

    /// The timer of a client's own connection has fired: if keys are listed there, the server may have gone silent.
    #[cold]
    pub(in crate::engine) fn crawl_timer(&mut self, id: LinkId, now: Instant) {
        let link = &self.servers[id];
        let (heard, pool) = (link.silence.since(), link.pool());
        let Some(owner) = link.owner() else { return };
        if !link.is_up() {
            return;
        }
        let deadline = self.deadline(pool, heard);
        let Some(session) = self.session(owner) else { return };
        let Some(crawl) = session.crawl_on(id) else { return };
        let (held, again) = (crawl.held, crawl.again);
        if again.is_some_and(|at| at <= now) {
            crawl.again = None;
            self.servers[id].silence.begin(now);
            self.ask_to_crawl(owner, id);
        } else if let Some(at) = again {
            return self.arm_link(id, at);
        } else if !held && deadline <= now {
            return self.fail_link(id, Failure::TimedOut, now);
        }
        let next = if held || deadline <= now { self.deadline(pool, now) } else { deadline };
        self.arm_link(id, next);
    }
}

//! One thread, one event loop, one engine.
//!
//! A turn of the loop takes what the kernel announces: clients are read, servers are read. Then what came of it is
//! written: each server once, however many clients asked it something, and each client that waits. What may wait for
//! somebody (opening connections, looking up names) is done by another thread ([`Connector`]), which sends a [`Message`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use anyhow::Context as _;

use super::alarm::Alarm;
use super::clients::Clients;
use super::clock::Clock;
use super::connect::Connector;
use super::departing::Departures;
use super::events::Events;
use super::files::Files;
use super::links::{Batching, Links};
use super::listener::Acceptor;
use super::mailbox::{Handle, Mailbox, Message};
use super::poller::{self, Announced, Poller, Token};
use super::slack::Slack;
use super::state::Keeper;
use super::turn::{LATE, share};
use crate::engine::Engine;
use crate::engine::ids::LinkId;
use crate::time::Instant;

/// Bytes read of a server at a time. One buffer a worker serves all its connections.
const SCRATCH: usize = 256 << 10;

/// How often a turn looks, before servers are written, for what else clients ask them. Each look that finds something is
/// worth its call, and few find something a third time.
const LOOKS: usize = 2;

/// What a worker has around it.
pub(crate) struct WorkerContext {
    pub(crate) clock: Clock,
    pub(crate) events: Arc<Events>,
    pub(crate) connector: Connector,
    pub(crate) files: Arc<Files>,
    pub(crate) keeper: Option<Keeper>,
    /// The way to itself, and to the other workers.
    pub(crate) own: Handle,
    pub(crate) others: Vec<Handle>,
}

/// One thread's part of the proxy. How its clients are served is in [`super::client`], and its servers in
/// [`super::server`].
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) clients: Clients,
    pub(crate) links: Links,
    pub(crate) batching: Batching,
    pub(crate) poller: Poller,
    pub(crate) slack: Slack,
    /// Connections that were left with something to read, in the order in which they are read.
    pub(crate) again: VecDeque<Token>,
    /// How many there were when this turn of the loop began.
    left_over: usize,
    /// Bytes that are read of one connection in this turn.
    pub(crate) most_read: usize,
    /// Bytes that this turn has dealt with: all that were read, and those written to clients that got all that is written at
    /// a time.
    pub(crate) handled: usize,
    /// Links with something to write.
    unwritten: Vec<LinkId>,
    /// Those that got all that is written at a time, and have more.
    pub(crate) unfinished: Vec<LinkId>,
    alarm: Alarm,
    /// The alarm has gone off, or there is news of servers, and the engine has not looked.
    is_alarmed: bool,
    /// That has been put off for a turn.
    was_put_off: bool,
    /// It is late. Of so many connections that waited then, servers have still to be heard before.
    pub(crate) unheard: Option<usize>,
    inbox: Receiver<Message>,
    /// Only the first worker has one, until it is drained.
    acceptor: Option<Acceptor>,
    events: Arc<Events>,
    connector: Connector,
    files: Arc<Files>,
    keeper: Option<Keeper>,
    /// When the operator was last told that a connection to a server could not be opened for want of descriptors.
    lack_told: Option<Instant>,
    own: Handle,
    others: Vec<Handle>,
    /// How clients leave for another process, if they do.
    departures: Option<Departures>,
    /// When draining is over, if it has begun.
    drains_until: Option<Instant>,
    /// Why a test has it end.
    #[cfg(test)]
    broken: Option<anyhow::Error>,
}

impl Worker {
    pub(crate) fn new(engine: Engine, mailbox: Mailbox, acceptor: Option<Acceptor>, context: WorkerContext) -> Self {
        let Mailbox { poller, alarm, inbox } = mailbox;
        let WorkerContext { clock, events, connector, files, keeper, own, others } = context;
        let memory_limit = engine.topology().config.settings.memory_limit;
        Self {
            engine,
            clock,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            clients: Clients::default(),
            links: Links::default(),
            batching: Batching::default(),
            poller,
            slack: Slack::new(memory_limit, others.len() + 1),
            again: VecDeque::new(),
            left_over: 0,
            most_read: share(1),
            handled: 0,
            unwritten: Vec::new(),
            unfinished: Vec::new(),
            alarm,
            is_alarmed: false,
            was_put_off: false,
            unheard: None,
            inbox,
            acceptor,
            events,
            connector,
            files,
            keeper,
            lack_told: None,
            own,
            others,
            departures: None,
            drains_until: None,
            #[cfg(test)]
            broken: None,
        }
    }

    /// Works until it is drained.
    ///
    /// # Errors
    ///
    /// When the kernel does not let it wait.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        poller::pause_exactly();
        self.engine.preconnect(self.clock.now());
        self.write_out();
        let mut announced = poller::Events::default();
        let mut crowd = 0;
        while !self.is_drained() {
            let may_sleep = self.again.is_empty() && self.unfinished.is_empty() && !self.is_alarmed;
            if may_sleep {
                poller::pause(crowd);
            }
            (self.left_over, self.handled) = (self.again.len(), 0);
            crowd = self.take_announced(&mut announced, may_sleep).context("cannot wait for connections")?;
            self.unwritten.append(&mut self.unfinished);
            if !self.again.is_empty() {
                self.go_on();
            }
            // What others have asked meanwhile goes out along with what is to be written.
            for _ in 0..LOOKS {
                if self.unwritten.is_empty() {
                    break;
                }
                let more = self.take_announced(&mut announced, false).unwrap_or(0); // an error shows at the next wait
                if more == 0 {
                    break;
                }
                crowd += more;
            }
            if self.is_alarmed {
                self.write_out(); // what others have asked does not wait for what may be long
            }
            self.heed_alarm(announced.are_full());
            self.write_out();
            self.slack.heed(self.engine.memory(), self.handled);
            self.set_alarm().context("cannot set timers")?;
            #[cfg(test)]
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
        }
        self.engine.close(self.clock.now());
        Ok(())
    }

    /// Deals with what is announced; says how much that was.
    #[inline]
    fn take_announced(&mut self, announced: &mut poller::Events, may_sleep: bool) -> std::io::Result<usize> {
        let count = self.poller.wait(announced, may_sleep)?;
        self.most_read = share(count + self.left_over);
        for (token, what) in announced.iter() {
            self.take(token, what);
        }
        Ok(count)
    }

    #[inline]
    fn take(&mut self, token: Token, what: Announced) {
        match token {
            Token::Client(seat) => {
                if let Some((id, waits)) = self.clients.note(seat, what) {
                    if waits {
                        self.again.push_back(token);
                    }
                    self.serve_client(id);
                }
            }
            Token::Link(seat) => {
                if let Some((link, waits)) = self.links.note(seat, what) {
                    if waits {
                        self.again.push_back(token);
                    }
                    let now = self.clock.now();
                    if what.can_write() {
                        self.write_link(link, now);
                    }
                    self.read_link(link, now);
                } else if let Some((pool, server)) = self.links.note_lingering(seat, what, &mut self.scratch) {
                    self.engine.link_ended(pool, server);
                }
            }
            Token::Listener(place) => drop(self.accept(place)),
            Token::Inbox => self.read_messages(),
            Token::Alarm => {
                self.alarm.gone_off();
                self.is_alarmed = true;
            }
        }
    }

    /// What a client has just asked is written at once if nobody else's is likely to come along with it.
    #[inline]
    pub(crate) fn pass_on(&mut self, now: Instant) {
        let mut next = self.engine.poll_link();
        let is_alone = next.is_some() && self.batching.ask();
        while let Some(link) = next {
            if is_alone {
                self.write_link(link, now);
            } else {
                self.unwritten.push(link);
            }
            next = self.engine.poll_link();
        }
    }

    /// Writes what has come of this turn, and does what the engine wants done, until nothing more comes of that.
    #[inline]
    fn write_out(&mut self) {
        loop {
            // News of servers is for all workers, and connections take the longest.
            if let Some(effect) = self.engine.poll_effect() {
                self.carry_out(effect);
            } else if let Some(link) = self.unwritten.pop().or_else(|| self.engine.poll_link()) {
                self.write_link(link, self.clock.now());
            } else if let Some(id) = self.engine.poll_client() {
                self.serve_client(id);
            } else {
                return;
            }
        }
    }

    /// Looks at the time if the alarm has gone off. What became readable in the same moment has been read by now, unless
    /// there was more than one turn takes; then that has one turn more. After a pause of this process, what servers said
    /// meanwhile must be heard before they are found silent.
    #[inline]
    fn heed_alarm(&mut self, there_may_be_more: bool) {
        if self.is_alarmed && (self.was_put_off || !there_may_be_more) {
            self.look_at_the_time();
        } else {
            self.was_put_off = self.is_alarmed;
        }
    }

    #[cold]
    fn look_at_the_time(&mut self) {
        let mut now = self.clock.now();
        let is_late = || self.engine.next_timeout().is_some_and(|at| now > at + LATE);
        if self.unheard.is_some() || is_late() {
            if !self.hear_servers() {
                return; // those who have come meanwhile are read first
            }
            now = self.clock.now();
        }
        (self.is_alarmed, self.was_put_off, self.unheard) = (false, false, None);
        self.engine.handle_timeout(now);
        self.let_go(now);
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.resume(now, &self.poller);
        }
    }

    /// Has the alarm go off when something is to be done. What is due already waits for no more than what was announced
    /// meanwhile.
    #[inline]
    fn set_alarm(&mut self) -> std::io::Result<()> {
        let resumes = self.acceptor.as_ref().and_then(Acceptor::resumes);
        let leaves = self.clients.next_leaves();
        let next = [self.engine.next_timeout(), resumes, leaves, self.drains_until].into_iter().flatten().min();
        if let Some(at) = next
            && self.alarm.is_later(at)
        {
            let now = self.clock.now();
            if at <= now {
                self.is_alarmed = true;
            } else {
                self.alarm.set(at, now)?;
            }
        }
        Ok(())
    }

    #[cold]
    fn read_messages(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Client(pool, socket) => self.welcome(pool, socket),
                Message::Arrive(client) => self.arrive(*client),
                Message::HandOver { departures, heeds } => {
                    self.hand_over(departures);
                    drop(heeds);
                }
                Message::Count { counted, done } => {
                    self.engine.count_carried(&counted);
                    drop(done);
                }
                Message::Leave => self.have_some_leave(),
                Message::GoOn => self.go_on_serving(),
                Message::Connected { link, epoch, outcome } => self.connected(link, epoch, outcome),
                Message::News => self.is_alarmed = true,
                Message::Topology(entrances) => self.go_over(entrances),
                Message::Inquire(inquiry) => self.engine.inquired(inquiry, self.clock.now()),
                Message::Found(findings) => self.engine.found(*findings, self.clock.now()),
                Message::Turn => self.own.has_turned(),
                #[cfg(test)]
                Message::Do(task) => self.broken = (task.0)().err(),
                Message::End => self.drains_until = Some(self.clock.now()),
                Message::Drain => {
                    if self.drains_until.is_none() {
                        let limit = self.engine.topology().config.settings.drain_timeout;
                        self.drains_until = Some(self.clock.now() + limit);
                        if let Some(acceptor) = self.acceptor.take() {
                            acceptor.end(&self.poller);
                        }
                        self.engine.drain();
                    }
                }
            }
        }
    }

    /// A client that was given to this worker has left.
    pub(crate) fn has_left(&self) {
        self.own.load.fetch_sub(1, Ordering::Release);
    }

    fn is_drained(&self) -> bool {
        let Some(until) = self.drains_until else { return false };
        self.engine.clients() == 0 || self.clock.now() >= until
    }
}

mod departures;
mod effects;
mod entrances;
#[cfg(test)]
mod tests;

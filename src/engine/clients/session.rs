//! One client: what it sent and was not parsed yet, its requests in flight, and its responses in order.

use super::holding::Holding;
use super::input::Input;
use super::large_requests::Large;
use super::output::Output;
use super::requests::Requests;
use super::routes::Routes;
use crate::config::model::PoolId;
use crate::engine::ids::LinkId;
use crate::engine::memcache::Crawl;
use crate::engine::redis::{Client, Profile};
use crate::engine::request::Slot;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::{KEYS_LINE_LIMIT, LINE_LIMIT};
use crate::proto::resp::request as resp;
use crate::stats::counters::PoolCounters;

/// Whether and when a client goes over to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Departure {
    /// Nobody has said so.
    Undecided,
    /// As soon as it can.
    Soon,
    /// The other process does not understand it: never.
    Never,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Session {
    pool: PoolId,
    pub(super) generation: u32,
    pub(crate) requests: Requests,
    pub(crate) routes: Routes,
    pub(crate) output: Output,
    pub(crate) input: Input,
    pub(crate) holding: Holding,
    /// Redis: what the client has set up.
    redis: Option<Box<Client>>,
    /// The list of all servers' keys that is passed on to it.
    crawl: Option<Box<Crawl>>,
    /// The shell has been told that there is something to do.
    marked: bool,
    /// Its large requests, which have more time than others.
    pub(super) large: Option<Box<Large>>,
    /// Whether and when it goes over to another process.
    departure: Departure,
    /// The connection is to be closed once the output is written.
    closing: bool,
    /// Bytes of responses that may wait for it before no more of its requests are carried out.
    output_limit: usize,
}

impl Session {
    pub(super) fn new(pool: PoolId, generation: u32, output_limit: usize, redis: Option<Box<Client>>) -> Self {
        Self {
            pool,
            generation,
            requests: Requests::new(),
            routes: Routes::default(),
            output: Output::default(),
            input: Input::new(),
            holding: Holding::new(),
            redis,
            crawl: None,
            marked: false,
            large: None,
            departure: Departure::Undecided,
            closing: false,
            output_limit,
        }
    }

    /// The pool that it has connected to.
    #[inline]
    pub(crate) fn pool(&self) -> PoolId {
        self.pool
    }

    /// The shell is to look at it; `false` when that has been said already.
    #[inline]
    pub(crate) fn mark(&mut self) -> bool {
        !std::mem::replace(&mut self.marked, true)
    }

    /// The shell looks at it; says whether it was to.
    #[inline]
    pub(crate) fn unmark(&mut self) -> bool {
        std::mem::take(&mut self.marked)
    }

    /// Whether the shell is to look at it.
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        self.marked
    }

    /// The connection is to be closed once the output is written.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether it is.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether and when it goes over to another process.
    #[inline]
    pub(in crate::engine) fn departure(&self) -> Departure {
        self.departure
    }

    /// It goes over to another process then.
    pub(in crate::engine) fn set_departure(&mut self, departure: Departure) {
        self.departure = departure;
    }

    /// Whether nothing more is read of it.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.closing || self.input.has_ended()
    }

    /// Whether it holds more than its fair share of memory, and is not about to leave.
    pub(crate) fn is_hoarder(&self) -> bool {
        self.holding.is_hoarder() && !self.closing
    }

    /// Whether it is a client of Redis that watches keys, or queues a transaction.
    pub(crate) fn watches(&self) -> bool {
        self.redis().is_some_and(|client| client.watch.is_some() || client.queue.is_some())
    }

    /// The number that the next request gets.
    #[inline]
    pub(crate) fn next_number(&self) -> u32 {
        self.requests.next_number()
    }

    /// The slot of a request, if it is still there.
    #[inline]
    pub(crate) fn slot(&self, number: u32) -> Option<&Slot> {
        self.requests.get(number)
    }

    /// As [`Session::slot`].
    #[inline]
    pub(crate) fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.requests.get_mut(number)
    }

    /// So many bytes of responses may wait for it from here on.
    pub(in crate::engine) fn set_output_limit(&mut self, limit: usize) {
        self.output_limit = limit;
    }

    /// Whether so many responses wait for the client that no more of its requests are carried out. The time that it
    /// takes to read them is its own.
    pub(crate) fn is_choked(&self) -> bool {
        self.requests.held() + self.pending_output() > self.output_limit
    }

    /// Whether it has read so much of what waited for it that more may come.
    pub(crate) fn is_half_read(&self) -> bool {
        2 * (self.requests.held() + self.pending_output()) <= self.output_limit
    }

    /// Whether one more key may be in flight.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        !self.is_choked() && self.requests.has_room()
    }

    /// How many more keys may be in flight.
    pub(crate) fn room(&self) -> usize {
        if self.is_choked() { 0 } else { self.requests.room() }
    }

    /// Whether there is room enough to parse on.
    pub(crate) fn has_room_again(&self) -> bool {
        self.requests.is_room_again(self.room())
    }

    /// Whether what parsing has stopped short of may be carried out, or looked at once more.
    pub(crate) fn may_go_on(&self) -> bool {
        let is_ready = self.input.is_paused() && !self.input.waits_for_turn();
        is_ready && (self.has_room_again() || self.input.is_held_back())
    }

    /// The lengths from which on a line that is not finished is taken for something else.
    pub(crate) fn line_limits(&self) -> &'static [usize] {
        if self.redis.is_some() { &[resp::LINE_LIMIT] } else { &[LINE_LIMIT, KEYS_LINE_LIMIT] }
    }

    /// What it has set up, if it is one of Redis.
    #[inline]
    pub(crate) fn redis(&self) -> Option<&Client> {
        self.redis.as_deref()
    }

    /// As [`Session::redis`].
    #[inline]
    pub(crate) fn redis_mut(&mut self) -> Option<&mut Client> {
        self.redis.as_deref_mut()
    }

    /// The list of all servers' keys is passed on to it from here on.
    pub(crate) fn begin_crawl(&mut self, crawl: Box<Crawl>) {
        self.crawl = Some(crawl);
    }

    /// The list that is passed on to it.
    pub(crate) fn crawl(&self) -> Option<&Crawl> {
        self.crawl.as_deref()
    }

    /// As [`Session::crawl`].
    pub(crate) fn crawl_mut(&mut self) -> Option<&mut Crawl> {
        self.crawl.as_deref_mut()
    }

    /// As [`Session::crawl`], if a server lists its part of it on a connection.
    pub(crate) fn crawl_on(&mut self, link: LinkId) -> Option<&mut Crawl> {
        self.crawl_mut().filter(|crawl| crawl.link() == Some(link))
    }

    /// The list is over.
    pub(crate) fn take_crawl(&mut self) -> Option<Box<Crawl>> {
        self.crawl.take()
    }

    /// What its server connections have to be set to.
    pub(crate) fn profile(&self) -> Profile {
        self.redis.as_ref().map_or_else(Profile::default, |client| client.profile())
    }

    /// The client has left, and what it asked with it.
    pub(crate) fn abandon(&mut self, counters: &PoolCounters) {
        self.requests.abandon(counters);
        if self.input.has_long_get() {
            counters.ended(Class::Get, Outcome::Abandoned);
        }
        self.input.abandon();
    }

    pub(crate) fn pending_output(&self) -> usize {
        self.output.len()
    }

    /// Gives back what a client does not need that has been idle for a while.
    pub(crate) fn rest(&mut self) {
        self.output.relax();
        self.large = None;
        self.requests.rest();
    }

    /// Gives back what a client does not need at the moment.
    #[inline]
    pub(crate) fn relax(&mut self) {
        self.requests.relax();
        self.input.relax();
    }

    /// Whether it holds what it is charged with, and nothing that it could give back, as can be seen at a glance. It is
    /// asked several times for each request.
    #[inline]
    pub(crate) fn is_charged(&self) -> bool {
        self.input.capacity() == 0
            && self.requests.is_small()
            && self.redis.as_ref().is_none_or(|client| client.holds_nothing())
            && self.output.small_footprint() == Some(self.holding.charged().wrapping_sub(self.requests.held()))
    }

    /// Memory that it holds in buffers.
    pub(crate) fn footprint(&self) -> usize {
        let redis = self.redis.as_ref().map_or(0, |client| client.footprint());
        self.output.footprint() + self.input.capacity() + self.requests.footprint() + redis + self.holding.waiting()
    }

    /// Whether the shell has nothing to do for it until the client sends something or a server answers.
    pub(crate) fn is_content(&self) -> bool {
        !self.input.is_paused() && !self.is_over()
    }

    /// Whether everything that was asked has been answered and written.
    pub(crate) fn is_idle(&self) -> bool {
        let is_occupied = self.redis.as_ref().is_some_and(|client| client.is_occupied());
        self.requests.is_empty()
            && self.pending_output() == 0
            && !self.input.is_paused()
            && !self.input.has_long_get()
            && !is_occupied
    }
}

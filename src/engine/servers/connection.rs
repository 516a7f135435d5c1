//! One connection to one server. It may be opened again at the same place, the *link*, when it is over.
//!
//! Requests of all clients go through it in one stream and are answered in the order in which they went out. A
//! [`Ticket`] stands for each request until its response has been read, also when nobody waits for that response any
//! more: it is then the tombstone that eats exactly one late response.

use std::time::Duration;

use super::outbox::Offset;
use super::purpose::Purpose;
use super::queue::{Queue, Queues};
use super::silence::Silence;
use super::stream::{Cursor, Stream};
use super::ticket::{Marks, Ticket};
use crate::config::model::{PoolId, ServerId};
use crate::engine::deadline::Alarm;
use crate::engine::ids::LinkId;
use crate::engine::redis::Profile;
use crate::engine::redis::handshaking::Handshake;
use crate::failure::Failure;
use crate::health::pending::Invalidated;
use crate::proto::memcache::Verb;
use crate::proto::resp::reply::Scan;
use crate::time::Instant;

/// Unwritten bytes above which clients with data to store wait for a server.
pub(crate) const QUEUE_LIMIT: usize = 4 << 20;

/// Unwritten bytes behind the request that is being written above which all clients wait for a server.
pub(crate) const QUEUE_HARD_LIMIT: usize = 2 * QUEUE_LIMIT;

/// Requests in flight to a server on one connection above which all clients wait for it.
pub(crate) const IN_FLIGHT_LIMIT: usize = 256 << 10;

/// Longest line of gets that were joined. memcached reads 16 KiB at a time, and looks at a line that is longer than what it
/// has read once more from its start.
const JOINED_LIMIT: usize = 7_000;

/// Bytes which a server that is sent more than it takes at a time has to take to be thought alive.
const SIGN_OF_LIFE: usize = 16 << 10;

/// Whether there is a connection, and what there is only while it lasts.
#[derive(Debug)]
pub(crate) enum ConnectionState {
    /// None; not to be opened before this time.
    Down {
        /// Earliest time of the next connect.
        not_before: Instant,
        /// What became of the last one.
        failure: Failure,
    },
    /// Being opened.
    Connecting,
    /// Open, and what has to be agreed on before it is of use is not.
    Handshaking(Box<Handshake>),
    /// Open, and of use.
    Up(Stream),
}

/// A connection to a server, be it open or not: what holds of its place over reconnects, and its state.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Which of the links that this place has been used for: that of its [`LinkId`].
    pub(super) generation: u32,
    pub(super) pool: PoolId,
    pub(super) server: ServerId,
    pub(super) purpose: Purpose,
    /// For Redis: what the connection has been set to before its first request.
    pub(super) profile: Profile,
    pub(super) state: ConnectionState,
    /// Changes with every connection, so that news of an old one can be told apart.
    pub(super) epoch: u32,
    pub(super) queue: Queue,
    pub(crate) silence: Silence,
    /// What the statistics say of it.
    reported: Queues,
    /// Tells what is asked on it at this place of the worker from what was asked earlier
    /// ([`ConnectionName`](crate::health::pending::ConnectionName)).
    section: u32,
    timed: Alarm,
    /// The shell has been told that there is something to write.
    dirty: bool,
    /// Its queue may be full, or was and has not drained.
    pub(super) crowded: bool,
    /// Its server has left the pool: it is closed as soon as nothing is in flight.
    retired: bool,
    /// Memory charged to the worker for it.
    charged: usize,
}

impl Connection {
    pub(super) fn new((pool, server): (PoolId, ServerId), purpose: Purpose, profile: Profile) -> Self {
        Self {
            generation: 0,
            pool,
            server,
            purpose,
            profile,
            state: ConnectionState::Down { not_before: Instant::ZERO, failure: Failure::Closed },
            epoch: 0,
            queue: Queue::default(),
            silence: Silence::default(),
            reported: Queues::default(),
            section: 0,
            timed: Alarm::default(),
            dirty: false,
            crowded: false,
            retired: false,
            charged: 0,
        }
    }

    /// Leaves nothing of it for the next link at its place but what tells connections apart, and what it has been charged
    /// with.
    pub(super) fn make_free(&mut self, next: LinkId) {
        debug_assert!(!matches!(self.purpose, Purpose::Free), "freed twice");
        let is_over = self.is_down();
        *self = Self {
            generation: next.generation,
            epoch: self.epoch.wrapping_add(u32::from(!is_over)),
            reported: self.reported,
            charged: self.charged,
            ..Self::new((self.pool, self.server), Purpose::Free, Profile::default())
        };
    }

    /// The pool that it belongs to.
    #[inline(always)]
    pub(crate) const fn pool(&self) -> PoolId {
        self.pool
    }

    /// The server that it leads to.
    #[inline(always)]
    pub(crate) const fn server(&self) -> ServerId {
        self.server
    }

    /// For Redis: what it has been set to before its first request.
    #[inline(always)]
    pub(crate) const fn profile(&self) -> Profile {
        self.profile
    }

    /// Is set to something else. Returns what it was set to before.
    pub(crate) fn change_profile(&mut self, profile: Profile) -> Profile {
        let before = std::mem::replace(&mut self.profile, profile);
        if before.database != profile.database {
            self.queue.invalidated = Invalidated::default(); // nothing has been sent to this one
        }
        before
    }

    /// Queues a request that has just been appended to the outbox from `ticket.start` on. Returns its ticket as it is now.
    ///
    /// A get goes on with the line in front of it, if that is a get too and has not left: a server answers the keys of
    /// one line with one write, and takes a write for each line.
    #[inline(always)]
    pub(crate) fn push(&mut self, mut ticket: Ticket, joins: bool, now: Instant) -> Ticket {
        if self.queue.in_flight.is_empty() {
            self.silence.begin(self.silence.since().max(now));
        }
        let len = self.queue.outbox.end().since(ticket.start);
        let open = std::mem::take(&mut self.queue.open_line);
        if joins && matches!(ticket.verb, Verb::Get | Verb::Gets) {
            self.queue.open_line = len;
            if open > 0
                && open + len <= JOINED_LIMIT
                && self.queue.in_flight.back().is_some_and(|front| front.verb == ticket.verb)
                && let Some(start) = self.queue.outbox.join(ticket.start, ticket.verb.name().len())
            {
                ticket.start = start;
                ticket.marks |= Marks::JOINED;
                self.queue.open_line = open + len;
            }
        }
        self.queue.in_flight.push_back(ticket);
        self.queue.queued += 1;
        ticket
    }

    #[inline(always)]
    pub(crate) const fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// Whether its connection is of use.
    #[inline]
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.state, ConnectionState::Up(_))
    }

    /// Whether it has no connection, and none is being opened.
    #[inline]
    pub(crate) const fn is_down(&self) -> bool {
        matches!(self.state, ConnectionState::Down { .. })
    }

    /// Whether it is connected, and what has to be agreed on is not.
    pub(crate) const fn is_greeting(&self) -> bool {
        matches!(self.state, ConnectionState::Handshaking(_))
    }

    /// Whether its connection is on the way to being of use.
    pub(crate) const fn is_opening(&self) -> bool {
        matches!(self.state, ConnectionState::Connecting | ConnectionState::Handshaking(_))
    }

    pub(crate) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether there has not been a connection yet, nor an attempt to open one.
    pub(crate) const fn is_new(&self) -> bool {
        self.epoch == 0
    }

    /// What there is while its connection is of use.
    #[inline]
    pub(crate) const fn stream(&self) -> Option<&Stream> {
        if let ConnectionState::Up(stream) = &self.state { Some(stream) } else { None }
    }

    #[inline]
    pub(crate) const fn stream_mut(&mut self) -> Option<&mut Stream> {
        if let ConnectionState::Up(stream) = &mut self.state { Some(stream) } else { None }
    }

    /// The same, with what is asked.
    #[inline(always)]
    pub(crate) const fn stream_and_queue(&mut self) -> Option<(&mut Stream, &Queue)> {
        if let ConnectionState::Up(stream) = &mut self.state { Some((stream, &self.queue)) } else { None }
    }

    /// What is being agreed on with the server.
    pub(crate) const fn handshake(&mut self) -> Option<&mut Handshake> {
        if let ConnectionState::Handshaking(handshake) = &mut self.state { Some(handshake) } else { None }
    }

    // --- From one state to the next -----------------------------------------------------------------------------

    /// It is down, and not to be opened before this time.
    pub(crate) fn hold_back(&mut self, not_before: Instant, failure: Failure) {
        self.state = ConnectionState::Down { not_before, failure };
    }

    /// An attempt to open it begins. Returns the epoch of the connection.
    pub(crate) fn connect(&mut self, now: Instant) -> u32 {
        self.epoch = self.epoch.wrapping_add(1);
        self.state = ConnectionState::Connecting;
        self.silence.begin(now);
        self.epoch
    }

    /// It is open, and something is to be agreed on.
    pub(crate) fn greet(&mut self, handshake: Handshake, now: Instant) {
        self.state = ConnectionState::Handshaking(Box::new(handshake));
        self.silence.begin(now);
    }

    /// It is open, and of use.
    pub(crate) fn open(&mut self, now: Instant) {
        self.state = ConnectionState::Up(Stream::default());
        self.silence.begin(now);
    }

    /// Its connection is over, or the attempt to open it. Returns what was asked there.
    pub(crate) fn end(&mut self, failure: Failure, not_before: Instant) -> Queue {
        self.epoch = self.epoch.wrapping_add(1);
        self.hold_back(not_before, failure);
        std::mem::take(&mut self.queue)
    }

    // --- What the shell writes ----------------------------------------------------------------------------------

    /// There is something to write. Returns whether the shell does not know that yet.
    #[inline(always)]
    pub(crate) const fn wake(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Whether the shell has been told that there is something to write, and has not asked for it.
    pub(crate) const fn is_woken(&self) -> bool {
        self.dirty
    }

    /// What is to be written.
    #[inline(always)]
    pub(crate) fn output(&mut self) -> &[u8] {
        let unwritten = match &self.state {
            ConnectionState::Up(_) => self.queue.outbox.unwritten(),
            ConnectionState::Handshaking(handshake) => handshake.unwritten(),
            ConnectionState::Connecting | ConnectionState::Down { .. } => return &[],
        };
        self.dirty = false;
        unwritten
    }

    /// So many bytes were written. Returns whether they were of requests.
    #[inline(always)]
    pub(crate) fn wrote(&mut self, count: usize, now: Instant) -> bool {
        let stream = match &mut self.state {
            ConnectionState::Up(stream) => stream,
            ConnectionState::Handshaking(handshake) => {
                handshake.wrote(count);
                return false;
            }
            ConnectionState::Connecting | ConnectionState::Down { .. } => return false,
        };
        if self.queue.outbox.wrote(count, now) {
            self.queue.queued = 0;
            if std::mem::take(&mut stream.blocked) {
                self.silence.begin(now); // its time to answer starts with the end of what was too much at a time
            }
        } else {
            stream.blocked = true;
            if count >= SIGN_OF_LIFE {
                self.silence.begin(now);
            }
        }
        true
    }

    // --- What is kept of it elsewhere ---------------------------------------------------------------------------

    /// Whether its queue may be full, or was and has not drained.
    #[inline(always)]
    pub(crate) const fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Its server has left the pool: it is of use for what is in flight, and for no more.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
        // What the server was to forget it is to forget if it is back.
        self.queue.unconfirmed.put_off();
    }

    /// Its server is back.
    pub(crate) const fn reinstate(&mut self) {
        self.retired = false;
        self.silence.excuse(); // that was of no account
    }

    #[inline(always)]
    pub(crate) const fn is_retired(&self) -> bool {
        self.retired
    }

    /// When its timer fires.
    #[inline(always)]
    pub(crate) const fn timer(&mut self) -> &mut Alarm {
        &mut self.timed
    }

    pub(crate) const fn is_timed(&self) -> bool {
        self.timed.is_set()
    }

    /// Charges it with the memory that it holds. Returns what it was charged with before, and now.
    #[inline(always)]
    pub(crate) fn charge(&mut self) -> (usize, usize) {
        let footprint = self.footprint();
        (std::mem::replace(&mut self.charged, footprint), footprint)
    }

    /// Memory charged to the worker for it.
    pub(crate) const fn charged(&self) -> usize {
        self.charged
    }

    /// What waits and has been asked, and what was reported of it last, if that is something else.
    #[inline(always)]
    pub(crate) fn report(&mut self) -> Option<(Queues, Queues)> {
        let queues = self.queue.queues();
        (queues != self.reported).then(|| (queues, std::mem::replace(&mut self.reported, queues)))
    }

    /// Tells what is asked on it from now on from what was asked so far.
    pub(crate) const fn begin_section(&mut self) {
        self.section += 1;
    }

    /// The same, and what was asked so far is about to be over.
    pub(crate) const fn fence(&mut self) {
        self.queue.fenced = Some(self.section);
        self.begin_section();
    }

    /// Whether that is so, and it is not over.
    pub(crate) const fn is_fenced(&self) -> bool {
        self.queue.fenced.is_some()
    }

    /// It is over: the section that it was.
    pub(crate) const fn pass_fence(&mut self) -> Option<u32> {
        self.queue.fenced.take()
    }

    pub(crate) const fn section(&self) -> u32 {
        self.section
    }

    // --- What is asked, and answered ----------------------------------------------------------------------------

    /// How far the response to the front ticket has been looked at. `None` while there is no connection.
    pub(crate) fn scan(&self) -> Option<Scan> {
        self.stream()?.cursor.scan
    }

    /// Why something of the response to the front ticket has been dropped, if it has.
    #[inline]
    pub(crate) fn dropped(&self) -> Option<Failure> {
        self.stream()?.cursor.dropped
    }

    /// Something of the response to the front ticket is dropped, for this reason.
    pub(crate) const fn drop_some(&mut self, failure: Failure) {
        if let ConnectionState::Up(stream) = &mut self.state {
            stream.cursor.dropped = Some(failure);
        }
    }

    /// Takes the front ticket, whose response has been read or given up. Its request stays in the outbox, up to the offset
    /// that comes with it, until that is told to [`Outbox::release`](super::outbox::Outbox::release) it.
    pub(crate) fn pop(&mut self) -> Option<(Ticket, Offset)> {
        let popped = self.queue.pop()?;
        if let ConnectionState::Up(stream) = &mut self.state {
            stream.cursor = Cursor::default();
        }
        Some(popped)
    }

    /// Whether requests have been waiting for `span` without a word from the server.
    pub(crate) fn is_silent(&self, now: Instant, span: Duration) -> bool {
        !self.queue.in_flight.is_empty() && now - self.silence.since() >= span
    }

    /// Memory that it holds in buffers.
    pub(crate) fn footprint(&self) -> usize {
        self.queue.outbox.footprint()
            + self.stream().map_or(0, |stream| stream.partial.capacity())
            + self.queue.in_flight.capacity() * size_of::<Ticket>()
            + self.queue.scripts.footprint()
    }
}

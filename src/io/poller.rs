//! What the kernel announces: an epoll set, and ways to be woken by other threads and by time.
//!
//! Connections are watched edge-triggered: each change is announced once, and [`Stream`](super::stream::Stream)
//! remembers it. So one call a turn tells of all connections, and none is needed to say what has been seen.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Announcements taken at a time.
const EVENTS: usize = 1024;

/// What an announcement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The client at this place.
    Client(Seat),
    /// The connection of the link at this place.
    Link(Seat),
    /// The listener at this place.
    Listener(u32),
    /// Messages of other threads.
    Inbox,
    /// The alarm has gone off.
    Alarm,
}

/// A place, and which of those is meant that have had it. What the kernel has announced of an earlier one, before it was
/// closed, may be looked at when the next is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) place: u32,
    turn: u32,
}

impl Seat {
    /// Bits of the turn that an announcement has room for. Between two of the same turn lie so many that nothing can
    /// have been announced and not been looked at.
    const TURN_BITS: u32 = 29;

    /// The one that has the place at a turn; turns count up.
    pub(crate) const fn new(place: u32, turn: u32) -> Self {
        Self { place, turn: turn & ((1 << Self::TURN_BITS) - 1) }
    }
}

impl Token {
    const fn to_data(self) -> EventData {
        let (kind, place, turn) = match self {
            Self::Client(Seat { place, turn }) => (0, place, turn),
            Self::Link(Seat { place, turn }) => (1, place, turn),
            Self::Listener(place) => (2, place, 0),
            Self::Inbox => (3, 0, 0),
            Self::Alarm => (4, 0, 0),
        };
        EventData::new_u64(kind << (32 + Seat::TURN_BITS) | (turn as u64) << 32 | place as u64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the place")]
    fn from_data(data: EventData) -> Self {
        let data = data.u64();
        let place = data as u32;
        let seat = Seat::new(place, (data >> 32) as u32);
        match data >> (32 + Seat::TURN_BITS) {
            0 => Self::Client(seat),
            1 => Self::Link(seat),
            2 => Self::Listener(place),
            3 => Self::Inbox,
            _ => Self::Alarm,
        }
    }
}

/// What has happened to a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced(EventFlags);

impl Announced {
    /// There is something to read, or it is over.
    pub(crate) fn can_read(self) -> bool {
        self.0.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// The peer sends no more.
    pub(crate) fn is_over(self) -> bool {
        self.0.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// The peer neither sends nor hears.
    pub(crate) fn is_dead(self) -> bool {
        self.0.intersects(EventFlags::HUP | EventFlags::ERR)
    }

    /// There is room for what is to be written, or it is over.
    pub(crate) fn can_write(self) -> bool {
        self.0.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
    }
}

/// The set of what a worker waits for.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Waits until something is announced; without `may_sleep`, looks whether something is. Says how much is.
    pub(crate) fn wait(&self, events: &mut Events, may_sleep: bool) -> io::Result<usize> {
        const NOT_AT_ALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        events.0.clear();
        let limit = if may_sleep { None } else { Some(&NOT_AT_ALL) };
        match epoll::wait(&self.0, spare_capacity(&mut events.0), limit) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Has told when there is something to read of a connection, and when it is over.
    pub(crate) fn watch(&self, stream: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.0, stream, token.to_data(), flags)?)
    }

    /// As [`Poller::watch`], and from now on also when there is room for what is to be written. Connections are not
    /// watched so from the start, as most are never full, and a unix socket announces room each time its peer reads.
    pub(crate) fn watch_room(&self, stream: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::modify(&self.0, stream, token.to_data(), flags)?)
    }

    /// Has told, again and again, as long as a listener has somebody waiting.
    pub(crate) fn watch_listener(&self, listener: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.0, listener, token.to_data(), EventFlags::IN)?)
    }

    /// Hears no more of a listener.
    pub(crate) fn leave(&self, listener: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, listener)?)
    }

    /// A waker of this set.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        // Announced each time it is written to; it need not be read.
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&self.0, &counter, Token::Inbox.to_data(), EventFlags::IN | EventFlags::ET)?;
        Ok(Waker(Arc::new(counter)))
    }
}

/// Room for announcements, and those that came.
pub(crate) struct Events(Vec<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(Vec::with_capacity(EVENTS))
    }
}

impl Events {
    /// There was no room for more: more may have been announced.
    pub(crate) fn are_full(&self) -> bool {
        self.0.len() == self.0.capacity()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, Announced)> {
        self.0.iter().map(|event| (Token::from_data(event.data), Announced(event.flags)))
    }
}

/// So many announcements in a turn are a crowd.
const CROWD: usize = 4;

/// Pause for each of them, in nanoseconds.
const PAUSE: i64 = 2_500;

/// The longest pause, in nanoseconds.
const LONGEST_PAUSE: i64 = 50_000;

/// Lets more come together after a turn with a crowd, by being away for as long as it takes to serve a few.
///
/// A worker that has a CPU to itself is faster than those who ask it, so it would sleep after every one or two of them
/// and be woken for the next. That costs it two switches, whoever wakes it an interrupt to another CPU, and servers a
/// packet for each request. While it is away, nobody has to wake it.
#[inline]
pub(crate) fn pause(crowd: usize) {
    if crowd < CROWD {
        return;
    }
    let tv_nsec = i64::try_from(crowd).map_or(LONGEST_PAUSE, |crowd| (PAUSE * crowd).min(LONGEST_PAUSE));
    let _ = rustix::thread::nanosleep(&Timespec { tv_sec: 0, tv_nsec });
}

/// Has pauses of this thread take no longer than they should; they would be up to 50 us longer.
pub(crate) fn pause_exactly() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1));
}

/// Ends the sleep of a worker, from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn wake(&self) {
        // It fails when 2^64 - 2 wakes have not been read: nobody lives to see that.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn announced(poller: &Poller) -> Vec<(Token, Announced)> {
        let mut events = Events::default();
        poller.wait(&mut events, false).unwrap();
        events.iter().collect()
    }

    #[test]
    fn a_token_is_what_it_was() {
        let last = Seat::new(u32::MAX, u32::MAX);
        let seats = [Seat::new(0, 0), Seat::new(7, 1), last];
        let tokens = seats.map(Token::Client).into_iter().chain(seats.map(Token::Link));
        for token in tokens.chain([Token::Listener(3), Token::Inbox, Token::Alarm]) {
            assert_eq!(Token::from_data(token.to_data()), token);
        }
    }

    #[test]
    fn each_change_is_announced_once() {
        let poller = Poller::new().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        poller.watch(&near, Token::Client(Seat::new(5, 2))).unwrap();
        assert!(announced(&poller).is_empty());
        for _ in 0..2 {
            far.write_all(b"x").unwrap();
            let [(token, what)] = announced(&poller)[..] else { panic!("one announcement") };
            assert_eq!(token, Token::Client(Seat::new(5, 2)));
            assert!(what.can_read() && !what.is_over() && !what.can_write());
            assert!(announced(&poller).is_empty());
        }
        poller.watch_room(&near, Token::Client(Seat::new(5, 2))).unwrap();
        let [(_, what)] = announced(&poller)[..] else { panic!("there is room") };
        assert!(what.can_write());
        drop(far);
        let [(_, what)] = announced(&poller)[..] else { panic!("it is over") };
        assert!(what.can_read() && what.is_over() && what.can_write());
    }

    #[test]
    fn a_waker_wakes_each_time() {
        let poller = Poller::new().unwrap();
        let waker = poller.waker().unwrap();
        for _ in 0..3 {
            waker.clone().wake();
            waker.wake();
            let [(token, _)] = announced(&poller)[..] else { panic!("one announcement") };
            assert_eq!(token, Token::Inbox);
            assert!(announced(&poller).is_empty());
        }
    }
}

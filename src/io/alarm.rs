//! A worker's alarm clock: one timer of the kernel's, set seldom and never taken back.
//!
//! The wait for sockets carries no timeout, which the kernel would arm and take back again each time. An alarm is set when
//! a deadline comes up that is earlier than the one it stands at, and when it has gone off: about once a `timeout`,
//! whatever the load.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::poller::{Poller, Token};
use crate::time::Instant;

/// An alarm clock, announced as [`Token::Alarm`].
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    /// When it goes off, if it is set.
    at: Option<Instant>,
}

impl Alarm {
    /// One that is not set.
    pub(crate) fn new(poller: &Poller) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        poller.watch(&timer, Token::Alarm)?;
        Ok(Self { timer, at: None })
    }

    /// Whether it has to be set anew to go off at `at`, or earlier.
    #[inline]
    pub(crate) fn is_later(&self, at: Instant) -> bool {
        self.at.is_none_or(|standing| at < standing)
    }

    /// Sets it. For the kernel, that does what reading it would.
    pub(crate) fn set(&mut self, at: Instant, now: Instant) -> io::Result<()> {
        let span = (at - now).max(Duration::from_nanos(1)); // zero would stop it
        let it_value = Timespec::try_from(span).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.at = Some(at);
        Ok(())
    }

    /// It has gone off, which may be too early.
    pub(crate) fn gone_off(&mut self) {
        self.at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::Clock;
    use crate::io::poller::Events;

    #[test]
    fn it_goes_off_once_each_time_it_is_set() {
        let (clock, poller) = (Clock::start(), Poller::new().unwrap());
        let mut alarm = Alarm::new(&poller).unwrap();
        let mut events = Events::default();
        for _ in 0..2 {
            let now = clock.now();
            let (first, second) = (now + Duration::from_millis(20), now + Duration::from_millis(60));
            alarm.set(second, now).unwrap();
            assert!(alarm.is_later(first) && !alarm.is_later(second));
            alarm.set(first, now).unwrap();
            poller.wait(&mut events, true).unwrap();
            assert!(clock.now() >= first && clock.now() < second);
            assert!(events.iter().map(|(token, _)| token).eq([Token::Alarm]));
            alarm.gone_off();
            assert!(alarm.is_later(Instant::NEVER.before(Duration::from_nanos(1))));
            poller.wait(&mut events, false).unwrap();
            assert_eq!(events.iter().count(), 0);
        }
    }
}

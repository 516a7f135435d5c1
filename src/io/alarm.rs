//! A worker's alarm clock: one timer of the kernel's, set seldom and never taken back.
//!
//! The runtime of a worker has no timers. With them, every wait for sockets carries a timeout, which the kernel arms and
//! takes back again, and the runtime reads its clock each time. An alarm is set when a deadline comes up that is earlier
//! than the one it stands at, and when it has gone off: about once a `timeout`, whatever the load.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

use super::worker::Shared;
use crate::time::Instant;

/// An alarm clock.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// When it goes off, if it is set.
    at: Option<Instant>,
}

impl Alarm {
    /// One that is not set.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(deprecated, reason = "what replaces it is unsafe to call; an owned descriptor stays what it is")]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, at: None })
    }

    /// When it goes off.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Has the task woken at `at` or earlier. Ready when it has gone off, which may be too early.
    pub(crate) fn poll(
        &mut self,
        at: Option<Instant>,
        now: Instant,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(at) = at
            && self.at.is_none_or(|standing| at < standing)
        {
            self.set(at - now)?;
            self.at = Some(at);
        }
        match self.timer.poll_read_ready(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(mut ready)) => {
                // Setting it anew does for the kernel what reading it would.
                ready.clear_ready();
                self.at = None;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Whether it has gone off, to be asked once each time. If it has not, the task is woken when it does.
    pub(crate) fn has_gone_off(&mut self, context: &mut Context<'_>) -> bool {
        match self.timer.poll_read_ready(context) {
            Poll::Ready(Ok(mut ready)) => {
                ready.clear_ready();
                self.at = None;
                true
            }
            Poll::Ready(Err(_)) | Poll::Pending => false, // an error shows when it is set
        }
    }

    fn set(&self, span: Duration) -> io::Result<()> {
        // Zero would stop it.
        let span = span.max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(span).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// Tasks that wait for a while: until when, and who.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Vec<(Instant, Waker)>);

impl Pauses {
    /// When the first is over.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.0.iter().map(|(until, _)| *until).min()
    }

    /// Wakes those whose time has come.
    pub(crate) fn wake(&mut self, now: Instant) {
        for (_, waker) in self.0.extract_if(.., |(until, _)| *until <= now) {
            waker.wake();
        }
    }
}

/// Waits for a while.
pub(crate) async fn pause(shared: &Shared, span: Duration) {
    let until = shared.borrow().clock.now() + span;
    poll_fn(|context| {
        let worker = &mut *shared.borrow_mut();
        if worker.clock.now() >= until {
            return Poll::Ready(());
        }
        worker.pauses.0.push((until, context.waker().clone()));
        worker.wake_control();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::Clock;

    #[test]
    fn it_goes_off_once_at_the_earliest_deadline() {
        let clock = Clock::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (first, second) = (clock.now() + Duration::from_millis(20), clock.now() + Duration::from_millis(60));
        runtime.block_on(async {
            let mut alarm = Alarm::new().unwrap();
            poll_fn(|context| {
                // The later one does not put it off.
                for at in [Some(second), Some(first), Some(second), None] {
                    if alarm.poll(at, clock.now(), context).is_ready() {
                        return Poll::Ready(());
                    }
                }
                assert_eq!(alarm.at(), Some(first));
                Poll::Pending
            })
            .await;
            assert!(clock.now() >= first && alarm.at().is_none());
            poll_fn(|context| alarm.poll(Some(second), clock.now(), context)).await.unwrap();
            assert!(clock.now() >= second);
        });
    }
}

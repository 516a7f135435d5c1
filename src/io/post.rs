//! Where a worker waits, and how other threads reach it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::alarm::Alarm;
use super::poller::{Poller, Waker};
use crate::config::model::PoolId;
use crate::engine::link::LinkId;
use crate::failure::Failure;

/// What a worker is told from outside.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this client.
    Client(PoolId, OwnedFd),
    /// An attempt to connect has come to its end.
    Connected {
        /// For which link.
        link: LinkId,
        /// Which attempt.
        epoch: u32,
        /// The connection, or why there is none.
        outcome: Result<OwnedFd, Failure>,
    },
    /// The health of a server has changed.
    News,
    /// Finish what has been read, then end.
    Drain,
}

/// The way to one worker.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    messages: Sender<Message>,
    waker: Waker,
    /// Clients given to it and not gone yet.
    pub(crate) load: Arc<AtomicUsize>,
}

impl Handle {
    /// Leaves a message. False if the worker has ended.
    pub(crate) fn tell(&self, message: Message) -> bool {
        let is_left = self.messages.send(message).is_ok();
        self.waker.wake();
        is_left
    }
}

/// Where a worker waits: made before its thread, so that what cannot be had is told at the start.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) poller: Poller,
    pub(crate) alarm: Alarm,
    pub(crate) inbox: Receiver<Message>,
}

impl Post {
    /// One of a worker, and the way to it.
    pub(crate) fn new() -> io::Result<(Self, Handle)> {
        let poller = Poller::new()?;
        let (alarm, waker) = (Alarm::new(&poller)?, poller.waker()?);
        let (messages, inbox) = channel();
        let handle = Handle { messages, waker, load: Arc::new(AtomicUsize::new(0)) };
        Ok((Self { poller, alarm, inbox }, handle))
    }
}

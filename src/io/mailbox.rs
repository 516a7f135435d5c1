//! Where a worker waits, and how other threads reach it.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::watch;

use super::alarm::Alarm;
use super::departing::Departing;
use super::listener::Entrances;
use super::poller::{Poller, Waker};
use crate::config::model::PoolId;
use crate::engine::ids::LinkId;
use crate::engine::{Findings, Inquiry};
use crate::failure::Failure;
use crate::stats::carried::Counted;

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
    /// There is another topology. The one who accepts is told where clients come in from here on.
    Topology(Option<Box<Entrances>>),
    /// Another worker's client asks about this one's.
    Inquire(Arc<Inquiry>),
    /// What another worker has found for a client of this one.
    Found(Box<Findings>),
    /// Say that the loop turns ([`Handle::has_turned`]).
    Turn,
    /// Serve this client, which comes from another process, or stays in spite of one.
    Arrive(Box<Departing>),
    /// Another process takes all clients: each is to leave by this way as soon as it can.
    HandOver {
        /// By which way.
        departures: Sender<Departing>,
        /// Is dropped when nobody is let in any more, and no server back.
        heeds: Sender<Infallible>,
    },
    /// Count what another process has counted.
    Count {
        /// That.
        counted: Box<Counted>,
        /// Who waits for it to be so is told by the end of this.
        done: Sender<Infallible>,
    },
    /// It takes some more of them.
    Leave,
    /// It does not: those that are here stay.
    GoOn,
    /// Finish what has been read, then end.
    Drain,
    /// End, whatever has not been finished.
    End,
    /// Do this, and end if it fails.
    #[cfg(test)]
    Do(Task),
}

/// What a test has a worker do.
#[cfg(test)]
pub(crate) struct Task(pub(crate) Box<dyn FnOnce() -> anyhow::Result<()> + Send>);

#[cfg(test)]
impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// Whether a worker turns its loop, for whoever wants to know.
#[derive(Debug, Default)]
struct Pulse {
    /// It has been asked, and has not said so yet: one message is enough for all who ask.
    asked: AtomicBool,
    /// How often it has said so.
    turned: watch::Sender<u64>,
}

/// The way to one worker.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    /// The number of the worker.
    pub(crate) number: usize,
    messages: Sender<Message>,
    waker: Waker,
    /// Clients given to it and not gone yet.
    pub(crate) load: Arc<AtomicUsize>,
    pulse: Arc<Pulse>,
}

impl Handle {
    /// Leaves a message. False if the worker has ended.
    pub(crate) fn tell(&self, message: Message) -> bool {
        let is_left = self.messages.send(message).is_ok();
        self.waker.wake();
        is_left
    }

    /// Asks the worker to say that its loop turns. What is returned changes when it does.
    pub(crate) fn ask(&self) -> watch::Receiver<u64> {
        let turned = self.pulse.turned.subscribe();
        if !self.pulse.asked.swap(true, Ordering::SeqCst) {
            self.tell(Message::Turn); // one that has ended says nothing
        }
        turned
    }

    /// The loop of this worker has turned.
    pub(crate) fn has_turned(&self) {
        // First, so that whoever asks from here on asks anew.
        self.pulse.asked.store(false, Ordering::SeqCst);
        self.pulse.turned.send_modify(|turned| *turned += 1);
    }
}

/// Where a worker waits: made before its thread, so that what cannot be had is told at the start.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) poller: Poller,
    pub(crate) alarm: Alarm,
    pub(crate) inbox: Receiver<Message>,
}

impl Mailbox {
    /// That of the worker with this number, and the way to it.
    pub(crate) fn new(number: usize) -> io::Result<(Self, Handle)> {
        let poller = Poller::new()?;
        let (alarm, waker) = (Alarm::new(&poller)?, poller.waker()?);
        let (messages, inbox) = channel();
        let handle = Handle { number, messages, waker, load: Arc::default(), pulse: Arc::default() };
        Ok((Self { poller, alarm, inbox }, handle))
    }
}

//! One thread, one current-thread runtime, one engine.
//!
//! The tasks of a worker share it through an `Rc<RefCell<_>>` that is borrowed once a poll and never across an await.
//! After each call into the engine [`Worker::after`] wakes whom the engine named; what only the runtime can do
//! (connect, sleep, tell the other workers) is left to one control task.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{error, warn};

use super::alarm::{Alarm, Pauses};
use super::client::{self, Clients};
use super::clock::Clock;
use super::events::Events;
use super::links::{Links, Pace};
use super::server;
use super::stream::Stream;
use super::tell;
use crate::config::model::{Config, PoolId};
use crate::engine::session::SessionId;
use crate::engine::{Effect, Engine, Notice};
use crate::time::Instant;

/// Bytes read of a server at a time. One buffer a worker serves all its connections.
const SCRATCH: usize = 256 << 10;

/// How long draining may take before clients are cut off.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_millis(4000);

/// What a worker is told from outside.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this client.
    Client(PoolId, Accepted),
    /// The health of a server has changed.
    News,
    /// Finish what has been read, then end.
    Drain,
}

/// A connection on its way from the acceptor to a worker.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// The way to one worker.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) messages: mpsc::UnboundedSender<Message>,
    /// Clients given to it and not gone yet.
    pub(crate) load: Arc<AtomicUsize>,
}

/// The state that the tasks of a worker share.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) scratch: Box<[u8]>,
    config: Arc<Config>,
    pub(crate) clients: Clients,
    pub(crate) links: Links,
    pub(crate) pace: Pace,
    control: Option<Waker>,
    /// When the control task will look at the timers.
    wakes_at: Option<Instant>,
    /// Tasks that wait for a while.
    pub(crate) pauses: Pauses,
    others: Vec<Handle>,
    load: Arc<AtomicUsize>,
    events: Arc<Events>,
    /// The tasks that accept clients, to be ended when draining starts.
    pub(crate) accepting: Vec<AbortHandle>,
}

pub(crate) type Shared = Rc<RefCell<Worker>>;

impl Worker {
    pub(crate) fn new(
        engine: Engine,
        config: Arc<Config>,
        clock: Clock,
        others: Vec<Handle>,
        own: &Handle,
        events: Arc<Events>,
    ) -> Self {
        Self {
            engine,
            clock,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            config,
            clients: Clients::default(),
            links: Links::default(),
            pace: Pace::default(),
            control: None,
            wakes_at: None,
            pauses: Pauses::default(),
            others,
            load: Arc::clone(&own.load),
            events,
            accepting: Vec::new(),
        }
    }

    /// Wakes whom the last call into the engine concerns.
    #[inline]
    pub(crate) fn after(&mut self) {
        while let Some(link) = self.engine.poll_link() {
            self.links.wake(link);
        }
        self.after_writing();
    }

    /// As [`Worker::after`], after a client was served: what it asks is written at once if nobody else's is likely to come
    /// along with it.
    pub(crate) fn after_client(&mut self, now: Instant) {
        if let Some(first) = self.engine.poll_link() {
            let is_alone = self.pace.ask();
            let mut next = Some(first);
            while let Some(link) = next {
                if !(is_alone && self.links.write(&mut self.engine, link, now)) {
                    self.links.wake(link);
                }
                next = self.engine.poll_link();
            }
        }
        self.after_writing();
    }

    fn after_writing(&mut self) {
        while let Some(session) = self.engine.poll_client() {
            self.clients.wake(session);
        }
        let sooner = match (self.engine.next_timeout(), self.wakes_at) {
            (Some(next), Some(planned)) => next < planned,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        if sooner || self.engine.has_effects() {
            self.wake_control();
        }
    }

    /// Has the control task look again at what it waits for.
    pub(crate) fn wake_control(&self) {
        if let Some(control) = &self.control {
            control.wake_by_ref();
        }
    }

    /// A client's task ends.
    pub(crate) fn forget_client(&mut self, id: SessionId) {
        self.clients.remove(id);
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.wake_control(); // it may wait for the last one
    }

    fn tell_others(&self) {
        for other in &self.others {
            let _ = other.messages.send(Message::News); // a worker that has ended needs no news
        }
    }

    fn tell_operator(&self, notice: &Notice) {
        self.events.note(&self.config, notice, self.clock.now());
        tell::notice(&self.config, notice);
    }
}

/// Starts to serve a client that this worker has been given.
pub(crate) fn serve(shared: &Shared, pool: PoolId, stream: Stream) {
    let worker = &mut *shared.borrow_mut();
    let id = worker.engine.client_connected(pool);
    worker.clients.insert(id, stream);
    tokio::task::spawn_local(client::run(Rc::clone(shared), id));
}

/// The worker's main task: timers, effects, messages. Ends when the worker is drained.
pub(crate) async fn control(shared: Shared, mut messages: mpsc::UnboundedReceiver<Message>, mut alarm: Alarm) {
    let mut drain_until: Option<Instant> = None;
    poll_fn(|context| {
        shared.borrow_mut().control = Some(context.waker().clone());
        if alarm.has_gone_off(context) {
            // Sockets that became ready in the same moment are read first: after a pause of this process, what servers
            // said meanwhile must be heard before they are found silent.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        while let Poll::Ready(message) = messages.poll_recv(context) {
            match message {
                Some(Message::Client(pool, accepted)) => accept(&shared, pool, accepted),
                Some(Message::News) => {
                    let worker = &mut *shared.borrow_mut();
                    worker.engine.handle_timeout(worker.clock.now());
                    worker.after();
                }
                Some(Message::Drain) | None => {
                    let worker = &mut *shared.borrow_mut();
                    if drain_until.is_none() {
                        drain_until = Some(worker.clock.now() + DRAIN_LIMIT);
                        for task in worker.accepting.drain(..) {
                            task.abort();
                        }
                        worker.engine.drain();
                        worker.after();
                    }
                    if message.is_none() {
                        break;
                    }
                }
            }
        }
        loop {
            let next = turn(&shared);
            if let Some(until) = drain_until {
                let worker = &mut *shared.borrow_mut();
                if worker.engine.clients() == 0 || worker.clock.now() >= until {
                    return Poll::Ready(());
                }
            }
            let next = match (next, drain_until) {
                (Some(next), Some(until)) => Some(next.min(until)),
                (next, until) => next.or(until),
            };
            let worker = &mut *shared.borrow_mut();
            match alarm.poll(next, worker.clock.now(), context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    error!(%error, "cannot set timers");
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    worker.wakes_at = alarm.at();
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
}

/// Lets the engine see the time and carries out what it wants done; returns when it wants to see the time again.
fn turn(shared: &Shared) -> Option<Instant> {
    let worker = &mut *shared.borrow_mut();
    let now = worker.clock.now();
    if worker.engine.next_timeout().is_some_and(|next| next <= now) {
        worker.engine.handle_timeout(now);
    }
    while let Some(effect) = worker.engine.poll_effect() {
        match effect {
            Effect::Connect { link, epoch } => {
                let (pool, server) = worker.engine.link_server(link);
                let address = worker.config.pools[pool.index()].servers[server.index()].address.clone();
                let task = tokio::task::spawn_local(server::run(Rc::clone(shared), link, epoch, address));
                worker.links.connecting(link, task.abort_handle());
            }
            Effect::Disconnect { link, reset } => worker.links.disconnect(link, reset),
            Effect::News => worker.tell_others(),
            Effect::Notice(notice) => worker.tell_operator(&notice),
            Effect::Slow(slow) => tell::slow(&worker.config, &slow),
        }
    }
    worker.wakes_at = None;
    worker.after_without_control();
    worker.pauses.wake(now);
    match (worker.engine.next_timeout(), worker.pauses.earliest()) {
        (Some(timeout), Some(pause)) => Some(timeout.min(pause)),
        (timeout, pause) => timeout.or(pause),
    }
}

impl Worker {
    /// As [`Worker::after`], for the control task itself.
    fn after_without_control(&mut self) {
        let control = self.control.take();
        self.after();
        self.control = control;
    }
}

fn accept(shared: &Shared, pool: PoolId, accepted: Accepted) {
    let stream = match accepted {
        Accepted::Tcp(stream) => tokio::net::TcpStream::from_std(stream).map(Stream::Tcp),
        Accepted::Unix(stream) => tokio::net::UnixStream::from_std(stream).map(Stream::Unix),
    };
    match stream {
        Ok(stream) => serve(shared, pool, stream),
        Err(error) => {
            warn!(%error, "cannot take over a client connection");
            shared.borrow().load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

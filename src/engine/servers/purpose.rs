//! What a connection is for: everybody's requests, a probe, or one client.

use super::connection::Connection;
use crate::engine::ids::SessionId;
use crate::engine::redis::{Name, Waiting};
use crate::time::Instant;

/// What a link is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Requests of clients.
    Traffic,
    /// Finding out whether an ejected server is well again.
    Probe(Probe),
    /// Requests of one client that wait for as long as they like, or go on for ever.
    Dedicated(Dedicated),
    /// It was a client's own, and is kept for whoever needs one next. The server has this name for it.
    Spare(Name),
    /// Nothing: the next one that is opened for a client has its place.
    Free,
}

/// How far the probe of a server has come on its connection.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) step: ProbeStep,
    /// Keys that were invalidated, and whether a flush was sent.
    pub(crate) keys_invalidated: u32,
    pub(crate) flushed: bool,
    /// Whether the server turned out to have been started anew; `None` where that is not known.
    pub(crate) restarted: Option<bool>,
}

/// A client's own connection.
#[derive(Debug)]
pub(crate) struct Dedicated {
    pub(crate) owner: SessionId,
    /// The client hears messages on it.
    pub(crate) listens: bool,
    /// What is known of it so that what waits there can be ended.
    pub(crate) waiting: Waiting,
}

impl Dedicated {
    pub(crate) fn of(owner: SessionId) -> Self {
        Self { owner, listens: false, waiting: Waiting::default() }
    }
}

/// How far the probe of a server has come. The steps between the first and the last are for `rejoin: flush` and `safe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ProbeStep {
    /// It is asked whether it is there.
    #[default]
    Ask,
    /// It is there, and given time to come to the end of what it was asked on older connections.
    Settle,
    /// It has not come to that end, so they were reset at this time.
    Reset(Instant),
    /// It is asked who it is.
    Identify,
    /// It is sent its pending invalidations.
    Invalidate,
}

impl Connection {
    #[inline]
    pub(crate) const fn is_traffic(&self) -> bool {
        matches!(self.purpose, Purpose::Traffic)
    }

    #[inline]
    pub(crate) const fn is_probe(&self) -> bool {
        matches!(self.purpose, Purpose::Probe(_))
    }

    /// How far it is, if it probes a server.
    pub(crate) const fn probe(&self) -> Option<&Probe> {
        if let Purpose::Probe(probe) = &self.purpose { Some(probe) } else { None }
    }

    /// As [`Connection::probe`].
    pub(crate) const fn probe_mut(&mut self) -> Option<&mut Probe> {
        if let Purpose::Probe(probe) = &mut self.purpose { Some(probe) } else { None }
    }

    /// Whether it is kept for whoever needs one next.
    #[inline]
    pub(crate) const fn is_spare(&self) -> bool {
        matches!(self.purpose, Purpose::Spare(_))
    }

    /// Is its client's no longer, and kept for whoever needs one next.
    pub(crate) fn give_back(&mut self) {
        let name = self.dedicated().map_or_else(Name::default, |own| own.waiting.name());
        self.purpose = Purpose::Spare(name);
    }

    /// Is a client's own, after it was given back.
    pub(crate) fn take_back(&mut self, owner: SessionId) {
        let name = if let Purpose::Spare(name) = self.purpose { name } else { Name::default() };
        self.purpose = Purpose::Dedicated(Dedicated { waiting: Waiting::named(name), ..Dedicated::of(owner) });
    }

    /// Its server has said what it calls it. Returns whether what waits there is to be ended.
    pub(crate) fn is_called(&mut self, name: Name) -> bool {
        match &mut self.purpose {
            Purpose::Dedicated(own) => return own.waiting.is_called(name),
            Purpose::Spare(known) => *known = name,
            Purpose::Traffic | Purpose::Probe(_) | Purpose::Free => {}
        }
        false
    }

    /// Whether something may be there while its server is not. For the checks.
    pub(crate) fn may_be_left(&self) -> bool {
        match self.purpose {
            _ if self.is_down() => true,
            Purpose::Traffic => self.is_retired() && !self.queue.in_flight.is_empty(),
            Purpose::Free => true,
            Purpose::Probe(_) | Purpose::Spare(_) => false,
            Purpose::Dedicated(_) => !self.queue.in_flight.is_empty(),
        }
    }

    /// What it is to the client whose own it is.
    #[inline]
    pub(crate) const fn dedicated(&self) -> Option<&Dedicated> {
        if let Purpose::Dedicated(dedicated) = &self.purpose { Some(dedicated) } else { None }
    }

    #[inline]
    pub(crate) const fn dedicated_mut(&mut self) -> Option<&mut Dedicated> {
        if let Purpose::Dedicated(dedicated) = &mut self.purpose { Some(dedicated) } else { None }
    }

    /// The client whose own it is.
    #[inline]
    pub(crate) fn owner(&self) -> Option<SessionId> {
        self.dedicated().map(|dedicated| dedicated.owner)
    }

    /// Whether a client hears messages on it.
    #[inline]
    pub(crate) fn listens(&self) -> bool {
        self.dedicated().is_some_and(|dedicated| dedicated.listens)
    }

    /// Has its client hear messages on it.
    pub(crate) fn listen(&mut self) {
        if let Some(dedicated) = self.dedicated_mut() {
            dedicated.listens = true;
        }
    }

    /// Whether what waited there was to be ended, so that nothing else is to wait there.
    pub(crate) fn leaves(&self) -> bool {
        self.dedicated().is_some_and(|dedicated| dedicated.waiting.leaves())
    }

    /// Goes on to another step, if it is a probe.
    pub(crate) const fn step_to(&mut self, step: ProbeStep) {
        if let Purpose::Probe(probe) = &mut self.purpose {
            probe.step = step;
        }
    }
}

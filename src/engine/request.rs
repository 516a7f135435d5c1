//! A client's request, from its reading to its answer.

use super::redis::InPlace;
use super::scattered::{Merge, Scattered};
use crate::config::model::ServerId;
use crate::outcome::{Class, Outcome};
use crate::proto::memcache::{Verb, reply};
use crate::time::Instant;

/// What is known of a request all the time. Tickets name it by its client and number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    /// The client wants no answer. One of memcached's has no slot then; one of Redis has, since what follows it may have to
    /// wait for it, as it goes another way.
    pub(crate) noreply: bool,
    /// Say nothing when nothing happened, as memcached's meta commands do with `q`.
    pub(crate) quiet: bool,
    /// It stores only under a condition, if it stores.
    pub(crate) conditional: bool,
    /// Redis: what is answered in a server's place.
    pub(crate) in_place: Option<InPlace>,
    /// When it was read; its deadline counts from here.
    pub(crate) started: Instant,
}

impl Request {
    /// One that is answered, whatever comes of it, and has no conditions.
    pub(crate) const fn new(verb: Verb, started: Instant) -> Self {
        Self { verb, noreply: false, quiet: false, conditional: false, in_place: None, started }
    }

    /// Whether it waits for its answer among its client's others.
    #[inline]
    pub(crate) const fn has_slot(&self) -> bool {
        !self.noreply || self.in_place.is_some()
    }

    /// Whether there may be answers that its client does not hear.
    #[inline]
    pub(crate) const fn may_be_hidden(&self) -> bool {
        self.noreply || self.quiet
    }

    /// Whether its client does not hear this answer.
    #[inline(always)]
    pub(crate) fn hides(&self, answer: &[u8]) -> bool {
        self.noreply || (self.quiet && reply::is_hidden_when_quiet(self.verb, answer))
    }
}

/// A request that is being carried out: what is needed of it until it has been sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) request: Request,
    /// Its key as it stands on the wire, if it has just one.
    pub(super) key: &'a [u8],
    /// Redis: all of it, to find out what is to be forgotten if it does not reach its server.
    pub(super) raw: &'a [u8],
    /// Flags of a meta command that every response repeats.
    pub(super) echo: &'a [u8],
}

impl<'a> Asked<'a> {
    /// A request for no key, or for several.
    #[inline]
    pub(super) const fn new(verb: Verb, started: Instant) -> Self {
        Self { request: Request::new(verb, started), key: b"", raw: b"", echo: b"" }
    }

    /// A request of memcached's for one key.
    #[inline]
    pub(super) const fn of_key(verb: Verb, key: &'a [u8], noreply: bool, started: Instant) -> Self {
        let request = Request { noreply, ..Request::new(verb, started) };
        Self { request, key, raw: b"", echo: b"" }
    }
}

/// The place of a request among those of its client, which leave in their order.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its share of the window.
    pub(crate) keys: u32,
    /// What it asks for, if it is to be counted when it leaves.
    pub(crate) class: Option<Class>,
    /// How it has ended, as far as is known.
    pub(crate) outcome: Outcome,
    pub(crate) answer: Answer,
}

/// How far the answer to a request has come.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is here.
    Ready(Vec<u8>),
    /// One server is to give it.
    Of {
        request: Request,
        server: ServerId,
        /// For a meta command: the flags that any answer repeats.
        echo: Vec<u8>,
    },
    /// It is put together from the responses of several servers.
    Merged { request: Request, scattered: Box<Scattered> },
    /// The list of all servers' keys that is passed on to the client is the answer, and this its end.
    Crawled,
}

impl Slot {
    /// Of a request that has been answered, without a server or for want of one.
    pub(crate) fn ready(body: Vec<u8>) -> Self {
        Self { keys: 1, class: None, outcome: Outcome::Local, answer: Answer::Ready(body) }
    }

    /// Of a request that has been sent to one server.
    #[inline]
    pub(super) fn of(asked: &Asked<'_>, server: ServerId, class: Option<Class>) -> Self {
        let answer = Answer::Of { request: asked.request, server, echo: asked.echo.to_vec() };
        Self { keys: 1, class, outcome: Outcome::Hit, answer }
    }

    /// Of a request for so many keys that goes to several servers, and has ended like this as far as is known.
    pub(super) fn merged(
        request: Request,
        keys: usize,
        (class, outcome): (Option<Class>, Outcome),
        scattered: Box<Scattered>,
    ) -> Self {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        Self { keys, class, outcome, answer: Answer::Merged { request, scattered } }
    }

    /// What is known of the request, while it waits for servers.
    #[inline]
    pub(crate) const fn request(&self) -> Option<&Request> {
        match &self.answer {
            Answer::Of { request, .. } | Answer::Merged { request, .. } => Some(request),
            Answer::Ready(_) | Answer::Crawled => None,
        }
    }

    /// Responses that are still to come.
    #[inline]
    pub(crate) fn waiting(&self) -> u32 {
        match &self.answer {
            Answer::Ready(_) => 0,
            Answer::Of { .. } | Answer::Crawled => 1,
            Answer::Merged { scattered, .. } => scattered.waiting(),
        }
    }

    /// When its time began, if it runs.
    #[inline]
    pub(crate) fn started(&self) -> Instant {
        self.request().map_or(Instant::NEVER, |request| request.started)
    }

    /// Its parts, if it has several.
    #[inline]
    pub(crate) fn scattered(&self) -> Option<&Scattered> {
        if let Answer::Merged { scattered, .. } = &self.answer { Some(scattered) } else { None }
    }

    /// What its responses are put together in.
    #[inline]
    pub(crate) fn merge(&self) -> Option<&Merge> {
        self.scattered().map(Scattered::merge)
    }

    /// As [`Slot::scattered`], while responses are still to come.
    #[inline]
    pub(crate) fn open_parts(&mut self) -> Option<&mut Scattered> {
        match &mut self.answer {
            Answer::Merged { scattered, .. } if scattered.waiting() > 0 => Some(scattered),
            Answer::Merged { .. } | Answer::Ready(_) | Answer::Of { .. } | Answer::Crawled => None,
        }
    }

    /// Its time runs from then on.
    #[cold]
    pub(super) fn restart(&mut self, now: Instant) {
        if let Answer::Of { request, .. } | Answer::Merged { request, .. } = &mut self.answer {
            request.started = now;
        }
    }

    /// It goes to another server than before.
    pub(super) fn goes_to(&mut self, to: ServerId) {
        if let Answer::Of { server, .. } = &mut self.answer {
            *server = to;
        }
    }

    /// It has been answered, and has ended like this. Returns what is held for it.
    pub(crate) fn settle(&mut self, mut body: Vec<u8>, outcome: Outcome) -> usize {
        if self.request().is_some_and(|request| request.hides(&body)) {
            body = Vec::new();
        }
        let held = body.len();
        (self.answer, self.outcome) = (Answer::Ready(body), outcome);
        held
    }

    /// Memory that is held for it.
    pub(crate) fn held(&self) -> usize {
        match &self.answer {
            Answer::Ready(body) => body.len(),
            Answer::Merged { scattered, .. } => scattered.merge().footprint(),
            Answer::Of { .. } | Answer::Crawled => 0,
        }
    }
}

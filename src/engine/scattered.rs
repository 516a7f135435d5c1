//! A request over several servers: who has still to answer, and what the answers become.

use super::clients::output::Output;
use super::memcache;
use super::redis::gather::Gather;
use crate::config::model::ServerId;
use crate::failure::Failure;
use crate::proto::memcache::response::Status;
use crate::proto::memcache::version::Version;
use crate::time::Instant;
use std::sync::Arc;

/// A request over several servers, each of which has a part of it, known by its number.
#[derive(Debug)]
pub(crate) struct Scattered {
    /// For each part, the server that has still to answer it.
    awaited: Vec<Option<ServerId>>,
    /// How many of them there are.
    waiting: u32,
    merge: Merge,
}

/// What the answers become: each protocol's own.
#[derive(Debug)]
pub(crate) enum Merge {
    Memcache(memcache::Merge),
    Redis(Gather),
}

/// What an answer has brought.
pub(crate) struct Came {
    /// Bytes that are held for it.
    pub(crate) grown: usize,
    /// The version that it says the server has, if that was asked.
    pub(crate) version: Option<Option<Version>>,
}

impl Came {
    /// Nothing that is not in its place.
    pub(crate) const NOTHING: Self = Self { grown: 0, version: None };
}

impl Scattered {
    /// Nobody has been asked yet for any of so many parts.
    pub(crate) fn new(merge: Merge, parts: usize) -> Self {
        Self { awaited: Vec::with_capacity(parts), waiting: 0, merge }
    }

    /// Is to be used again.
    pub(crate) fn reset(&mut self) {
        self.awaited.clear();
        self.waiting = 0;
    }

    /// A server is asked for a part, behind those that were asked for others.
    #[inline]
    pub(crate) fn asks(&mut self, part: u16, server: ServerId) {
        if self.awaited.len() < usize::from(part) {
            self.awaited.resize(part.into(), None); // those between went nowhere
        }
        self.awaited.push(Some(server));
        self.waiting += 1;
    }

    /// How many servers have still to answer.
    #[inline]
    pub(crate) const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// The parts that have not been answered, and by whom they are to be.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = (u16, ServerId)> {
        (0u16..).zip(&self.awaited).filter_map(|(part, server)| server.map(|server| (part, server)))
    }

    /// A part is answered, or never will be: the server that was to answer it. `None` when that has been said before.
    #[inline]
    pub(crate) fn settle(&mut self, part: u16) -> Option<ServerId> {
        let server = self.awaited.get_mut(usize::from(part))?.take()?;
        self.waiting -= 1;
        Some(server)
    }

    /// What the answers become.
    #[inline]
    pub(crate) const fn merge(&self) -> &Merge {
        &self.merge
    }

    /// As [`Scattered::merge`], of what is not needed any more.
    #[cold]
    pub(crate) fn into_merge(self) -> Merge {
        self.merge
    }

    /// As [`Scattered::merge`].
    #[inline]
    pub(crate) const fn merge_mut(&mut self) -> &mut Merge {
        &mut self.merge
    }
}

impl Merge {
    /// The answer to a part, which may be all that is in a buffer.
    #[inline]
    pub(crate) fn came(&mut self, part: u16, response: &[u8], whole: Option<&Arc<Vec<u8>>>, status: Status) -> Came {
        match self {
            Self::Redis(gather) => Came { grown: gather.came(part, response, whole), version: None },
            Self::Memcache(merge) => merge.came(response, whole, status),
        }
    }

    /// As [`Merge::came`], of an answer that came before and said that keys are not there. Says how many bytes are held for it.
    #[cold]
    pub(crate) fn missed(&mut self, part: u16, response: &[u8]) -> usize {
        match self {
            Self::Redis(gather) => gather.missed(part, response),
            Self::Memcache(_) => 0, // the values that it had are in their places
        }
    }

    /// A server has failed its part. It is told if the pool tells failures, and where nobody is to think that it has done
    /// what it was told.
    #[cold]
    #[inline(never)]
    pub(crate) fn failed(&mut self, part: u16, failure: Failure, tells: bool) {
        match self {
            Self::Redis(gather) => gather.failed(part, failure, tells),
            Self::Memcache(merge) => merge.failed(failure, tells),
        }
    }

    /// As [`Merge::failed`], of a server that has answered: memcached's listings are what the others say.
    #[cold]
    pub(crate) fn refused(&mut self, part: u16, failure: Failure, tells: bool) {
        self.failed(part, failure, tells && matches!(self, Self::Redis(_)));
    }

    /// Whether it is put together while it is written.
    #[inline]
    pub(crate) const fn is_long(&self) -> bool {
        match self {
            Self::Redis(gather) => gather.is_long(),
            Self::Memcache(merge) => merge.is_long(),
        }
    }

    /// As [`Merge::write`], of what is long.
    #[cold]
    #[inline(never)]
    pub(crate) fn write_on(self, out: &mut Output) {
        match self {
            Self::Redis(gather) => gather.write_on(out),
            Self::Memcache(merge) => merge.write_on(out),
        }
    }

    /// Appends what the client gets.
    pub(crate) fn write(&self, out: &mut Output) {
        match self {
            Self::Redis(gather) => gather.write(out),
            Self::Memcache(merge) => merge.write(out),
        }
    }

    /// memcached's, if it is one.
    #[inline]
    pub(crate) const fn memcache(&self) -> Option<&memcache::Merge> {
        if let Self::Memcache(merge) = self { Some(merge) } else { None }
    }

    /// As [`Merge::memcache`].
    #[inline]
    pub(crate) const fn memcache_mut(&mut self) -> Option<&mut memcache::Merge> {
        if let Self::Memcache(merge) = self { Some(merge) } else { None }
    }

    /// Redis's, if it is one.
    #[inline]
    pub(crate) const fn redis(&self) -> Option<&Gather> {
        if let Self::Redis(gather) = self { Some(gather) } else { None }
    }

    /// As [`Merge::redis`].
    pub(crate) const fn redis_mut(&mut self) -> Option<&mut Gather> {
        if let Self::Redis(gather) = self { Some(gather) } else { None }
    }

    /// When what it waits for is to take effect, if that is later.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.memcache().and_then(memcache::Merge::due)
    }

    /// The database that it concerns.
    pub(crate) fn database(&self) -> u32 {
        self.redis().map_or(0, |gather| gather.database)
    }

    /// What a request that waits for it takes of its client's window.
    #[inline]
    pub(crate) const fn window(&self) -> usize {
        match self {
            Self::Redis(gather) => gather.how.keys(),
            Self::Memcache(merge) => merge.window(),
        }
    }

    /// Whether more of the same request follows.
    #[inline]
    pub(crate) const fn is_unfinished(&self) -> bool {
        matches!(self, Self::Memcache(merge) if merge.is_unfinished())
    }

    /// Memory that it holds.
    #[inline]
    pub(crate) fn footprint(&self) -> usize {
        match self {
            Self::Redis(gather) => gather.footprint(),
            Self::Memcache(merge) => merge.footprint(),
        }
    }
}

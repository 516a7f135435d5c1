//! A request over several servers: who has still to answer, and what the answers become.

use super::clients::output::Output;
use super::merge::Merge;
use crate::config::model::ServerId;
use crate::failure::Failure;
use crate::proto::memcache::reply;
use crate::proto::memcache::response::Status;
use crate::proto::memcache::version::Version;

/// A request over several servers, each of which has a part of it, known by its number.
#[derive(Debug)]
pub(crate) struct Scattered {
    /// For each part, the server that has still to answer it.
    awaited: Vec<Option<ServerId>>,
    /// How many of them there are.
    waiting: u32,
    /// The first error line that a server answered, or that is told of its failure.
    pub(crate) error: Option<Vec<u8>>,
    /// What the answers become.
    pub(crate) merge: Merge,
}

impl Scattered {
    /// Nobody has been asked yet for any of so many parts.
    pub(crate) fn new(merge: Merge, parts: usize) -> Self {
        Self { awaited: Vec::with_capacity(parts), waiting: 0, error: None, merge }
    }

    /// Is to be used again.
    pub(crate) fn reset(&mut self) {
        self.awaited.clear();
        (self.waiting, self.error) = (0, None);
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

    /// The answer to a part. Returns the version that it says the server has, if that was asked.
    #[inline]
    pub(crate) fn came(&mut self, part: u16, response: &[u8], status: Status) -> Option<Option<Version>> {
        match &mut self.merge {
            Merge::Gather(gather) => gather.came(part, response),
            Merge::Values(_) if matches!(status, Status::Done | Status::Absent) => {} // they are in their places
            Merge::Values(_) | Merge::Word(_) | Merge::Listing(_) | Merge::Version(_) => {
                return self.other_came(response, status);
            }
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn other_came(&mut self, response: &[u8], status: Status) -> Option<Option<Version>> {
        match (&mut self.merge, status) {
            (Merge::Listing(listing), Status::Done) => {
                listing.summed.add(response);
                listing.answered = true;
            }
            (Merge::Version(lowest), Status::Done) => {
                let version = Version::find(response);
                *lowest = Version::lower(version.clone(), lowest.take());
                return Some(version);
            }
            (_, Status::Error | Status::OutOfMemory) => self.tell(response),
            _ => {}
        }
        None
    }

    /// A server has failed its part. It is told if the pool tells failures, and where nobody is to think that it has done
    /// what it was told.
    #[cold]
    #[inline(never)]
    pub(crate) fn failed(&mut self, part: u16, failure: Failure, tells: bool) {
        if let Merge::Gather(gather) = &mut self.merge {
            gather.failed(part, failure, tells);
        } else if tells || self.merge.is_strict() {
            self.tell(reply::error(failure));
        }
    }

    /// There is an error line for its client.
    fn tell(&mut self, line: &[u8]) {
        self.error.get_or_insert_with(|| line.to_vec());
    }

    /// Appends what the client gets.
    pub(crate) fn write(&self, out: &mut Output) {
        self.merge.write(self.error.as_deref(), out);
    }
}

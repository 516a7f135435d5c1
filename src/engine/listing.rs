//! A list of all servers' keys on its way to a client.

use super::ids::LinkId;
use crate::failure::Failure;
use crate::proto::memcache::crawl::Form;
use crate::time::Instant;

/// A list of all servers' keys, as far as a client has it.
#[derive(Debug)]
pub(crate) struct Crawl {
    pub(super) form: Form,
    /// Of which slab classes.
    pub(super) which: Box<[u8]>,
    /// The next server.
    pub(super) next: usize,
    /// The one that is listed now.
    pub(super) link: Option<LinkId>,
    /// It is not read until the client has read more.
    pub(super) held: bool,
    /// It lists for somebody else, since then, and is to be asked again at this time.
    pub(super) busy: Option<Instant>,
    pub(super) again: Option<Instant>,
    /// A server has listed something, or said that it has nothing.
    pub(super) answered: bool,
    /// What the first server said that listed nothing.
    pub(super) word: Option<Box<[u8]>>,
    pub(super) failure: Option<Failure>,
}

impl Crawl {
    pub(crate) const fn link(&self) -> Option<LinkId> {
        self.link
    }
}

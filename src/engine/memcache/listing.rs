//! A list of all servers' keys on its way to a client.

use crate::engine::ids::LinkId;
use crate::failure::Failure;
use crate::proto::memcache::crawl::Form;
use crate::time::Instant;

/// A list of all servers' keys, as far as a client has it.
#[derive(Debug)]
pub(crate) struct Crawl {
    pub(in crate::engine) form: Form,
    /// Of which slab classes.
    pub(in crate::engine) which: Box<[u8]>,
    /// The next server.
    pub(in crate::engine) next: usize,
    /// The one that is listed now.
    pub(in crate::engine) link: Option<LinkId>,
    /// It is not read until the client has read more.
    pub(in crate::engine) held: bool,
    /// It lists for somebody else, since then, and is to be asked again at this time.
    pub(in crate::engine) busy: Option<Instant>,
    pub(in crate::engine) again: Option<Instant>,
    /// A server has listed something, or said that it has nothing.
    pub(in crate::engine) answered: bool,
    /// What the first server said that listed nothing.
    pub(in crate::engine) word: Option<Box<[u8]>>,
    pub(in crate::engine) failure: Option<Failure>,
}

impl Crawl {
    pub(crate) const fn link(&self) -> Option<LinkId> {
        self.link
    }
}

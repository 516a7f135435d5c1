//! What a client watches.

use crate::config::model::ServerId;
use crate::engine::ids::LinkId;

/// A watch that a client keeps, or believes to keep.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The connection that the server knows the client by. `None` when it is broken.
    pub(super) link: Option<(LinkId, ServerId)>,
    /// Requests about it whose good answers have not come. While there are any, it is not in force.
    pub(super) open: u32,
    /// The client was told of a failure.
    pub(super) refused: bool,
    /// The client was answered in a server's place meanwhile: what it takes for the state of a key may not be one.
    pub(super) doubted: bool,
    /// The ring of the pool at the first of them.
    pub(super) ring_version: u32,
}

/// What a watch is worth to the transaction behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// The server knows, and will say, whether a key was changed.
    Holds(LinkId, ServerId),
    /// Nobody knows.
    Broken,
    /// Nobody knows, and the client was told so.
    Refused,
}

impl Watch {
    /// The connection that it is kept on.
    pub(crate) fn link(&self) -> Option<LinkId> {
        self.link.map(|(link, _)| link)
    }
}

//! Where the parts of a request go.

use super::ids::LinkId;
use super::servers::outbox::Offset;
use crate::config::model::ServerId;
use crate::failure::Failure;

/// Where a part of a request is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// To a server, on the connection that its client's requests take.
    Server(ServerId),
    /// To a server, on this connection.
    Link(ServerId, LinkId),
    /// Nowhere; the server that it is for, if it is for one.
    Nowhere(Option<ServerId>, Failure),
}

impl To {
    /// The server that is asked.
    pub(super) const fn server(self) -> Option<ServerId> {
        match self {
            Self::Server(server) | Self::Link(server, _) => Some(server),
            Self::Nowhere(..) => None,
        }
    }
}

/// A part of a request on its way.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) part: u16,
    pub(super) server: ServerId,
    pub(super) link: LinkId,
    /// Where in the link's outbox it starts.
    pub(super) start: Offset,
    /// Replies of the server that make up its response.
    pub(super) replies: u32,
    /// Keys of it, of a multi-get.
    pub(super) keys: u16,
}

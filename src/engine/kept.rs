//! What is kept from one multi-get to the next, for its room.

use super::ids::LinkId;
use super::merge::Merge;
use super::servers::outbox::Offset;
use crate::config::model::ServerId;

/// What is kept from one multi-get to the next, for its room.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The links that take part in the one at hand.
    pub(super) parts: Vec<Part>,
    /// What answers were put together in.
    #[expect(clippy::vec_box, reason = "a slot has it in a box, which is used again as well")]
    pub(super) spare_values: Vec<Box<Merge>>,
}

/// A link that takes part in a multi-get.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) server: ServerId,
    pub(super) link: LinkId,
    /// Where in its outbox the request starts.
    pub(super) start: Offset,
    pub(super) keys: u16,
}

//! What is kept from one multi-get to the next, for its room.

use super::scattered::Scattered;

/// What is kept from one multi-get to the next, for its room.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// What answers were put together in.
    #[expect(clippy::vec_box, reason = "a slot has it in a box, which is used again as well")]
    pub(super) spare_values: Vec<Box<Scattered>>,
}

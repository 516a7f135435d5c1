//! What is kept from one multi-get to the next, for its room.

use crate::engine::scattered::Scattered;

/// What is kept from one multi-get to the next, for its room.
#[derive(Debug, Default)]
pub(in crate::engine) struct Kept {
    /// What answers were put together in.
    #[expect(clippy::vec_box, reason = "a slot has it in a box, which is used again as well")]
    pub(in crate::engine) spare_values: Vec<Box<Scattered>>,
}

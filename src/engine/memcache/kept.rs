//! What is kept from one multi-get to the next, for its room.

use std::sync::Arc;

use crate::engine::scattered::Scattered;
use crate::near::Value;

/// What is kept from one multi-get to the next, for its room.
#[derive(Debug, Default)]
pub(in crate::engine) struct Kept {
    /// What answers were put together in.
    #[expect(clippy::vec_box, reason = "a slot has it in a box, which is used again as well")]
    pub(in crate::engine) spare_values: Vec<Box<Scattered>>,
    /// What values that are kept in the process were put together in; there are none between two requests.
    pub(super) near_front: Vec<Arc<Value>>,
}

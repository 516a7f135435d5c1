//! Who misses writes while servers are out of the ring.

use crate::ring::Returns;

/// How it is seen to that servers which are out do not return with what was changed meanwhile.
#[derive(Debug)]
pub(super) enum Failover {
    /// It is not, or nobody is out.
    None,
    /// Each write is noted with those who may own its key when others are back.
    Noted(Returns),
    /// All that are out have to be flushed.
    Flushed,
}

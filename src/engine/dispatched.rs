//! What has become of a request that was to be carried out.

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dispatched {
    /// It is done with; its bytes are used up.
    Done,
    /// It has to wait for a server's queue to drain.
    Backpressured,
    /// So many of its bytes are used; the rest is the session's `long_get`.
    Begun(usize),
}
